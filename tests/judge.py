"""Does netspec agree with a folder of results that another program computed?

    python tests/judge.py [--float64] FOLDER...

Prints a line for each case that disagrees and last `N of M agree`; exit status 1 where not all do. What a case is, its
files say: FORMS has a row for each form. A case needs nothing but its folder, so that other folders of a form are judged
by the same command. --float64 runs whole nets in double precision, so that what still disagrees is not netspec's
rounding (judge_double.py).
"""

import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import NamedTuple

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

import golden_case  # noqa: E402 - netspec is that of this checkout
import judge_clouds  # noqa: E402
import judge_data  # noqa: E402
import judge_nets  # noqa: E402
import judge_scores  # noqa: E402
import judge_statistics  # noqa: E402
import judge_targets  # noqa: E402


class Form(NamedTuple):
    """A form of cases: the suffixes of a case's files, a pattern of its name, and what fails where it disagrees."""

    suffixes: frozenset[str]
    name: str
    judge: Callable[[Path], None]  # is given the case's path without a suffix


def layers(case: Path) -> None:
    """NAME.prototxt and NAME.npz: a net and what came of it, forward and backward."""
    golden_case.run(golden_case.load(case.with_name(f"{case.name}.prototxt")))


FORMS = (  # the first that fits is taken
    Form(frozenset({".prototxt", ".npz"}), "*", layers),
    *(Form(frozenset({".npz"}), name, judge_targets.judged(kind))
      for name, kind in (judge_targets.KINDS | judge_data.KINDS | judge_clouds.KINDS | judge_statistics.KINDS).items()),
    Form(frozenset({".npz"}), "detections_*", judge_scores.detected),
    Form(frozenset({".json"}), "voc_ap*", judge_scores.voc),
    Form(frozenset({".json"}), "coco_ap*", judge_scores.coco),
    Form(frozenset({".json", ".npz"}), "*", judge_nets.nets),
)


def cases(folder: Path) -> Iterator[tuple[Path, Form | None]]:
    """The cases of a folder in the order of their names, each with its form; None where no form fits."""
    files: dict[str, set[str]] = {}
    for path in folder.iterdir():
        if path.suffix in {suffix for form in FORMS for suffix in form.suffixes}:
            files.setdefault(path.name.removesuffix(path.suffix), set()).add(path.suffix)
    for name, suffixes in sorted(files.items()):
        fits = (form for form in FORMS if form.suffixes == suffixes and fnmatch(name, form.name))
        yield folder / name, next(fits, None)


def disagreement(case: Path, form: Form | None) -> str:
    """Where a case disagrees, in one line; empty where it agrees."""
    if form is None:
        return "files of no known form"
    try:
        form.judge(case)
    except Exception as e:  # whatever a case meets is a disagreement, and the next is judged
        at = traceback.extract_tb(e.__traceback__)[-1]
        words = " ".join(str(e).split()) or f"{Path(at.filename).name}:{at.lineno}: {at.line}"
        return f"{type(e).__name__}: {words[:200]}"
    return ""


def main(folders: Sequence[Path], double: bool = False) -> int:
    judged = agreed = 0
    for folder in folders:
        for case, form in cases(folder):
            judged += 1
            if double and form and form.judge is judge_nets.nets:
                form = form._replace(judge=partial(judge_nets.nets, double=True))
            if wrong := disagreement(case, form):
                print(f"{case.name}: {wrong}", flush=True)
            agreed += not wrong
    print(f"{agreed} of {judged} agree")
    return int(agreed < judged or not judged)


if __name__ == "__main__":
    words = [word for word in sys.argv[1:] if word != "--float64"]
    if not words or not all(Path(word).is_dir() for word in words):
        sys.exit(f"usage: {sys.argv[0]} [--float64] FOLDER...")
    sys.exit(main([Path(word) for word in words], len(words) < len(sys.argv) - 1))
