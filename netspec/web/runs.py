"""Trainings under a page's folders: their logs, weights and records, and the commands that tell of them."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from ..base import names
from ..base.errors import Error
from ..base.log import clock
from ..base.metrics import MEASURES
from ..look.curves import LINE, LOSS, MEANS, OTHER, RATE, LogReader, lines
from ..net.detections import pools_regions
from ..papers import record
from ..papers.page import Html, solver_in, table
from ..proto.caffe_pb2 import BNParameter
from ..proto.text import read_net
from ..train import snapshot
from .desk import NETS, WEIGHTS
from .folders import Folders, latest

LOGS = ".log", ".txt"
HEAD, TAIL = 1 << 14, 1 << 16  # bytes by which a log is known, and of its end
BEGINS = re.compile(r"[IWEF](\d{4})?\d{4} \d\d:\d\d:\d\d\.\d+ +\d+ (netspec|\w+\.(cpp|cu|hpp):\d+)\] ")
SAVED = re.compile(r"Snapshotting to (?:binary proto|HDF5) file (.+)_iter_\d+\.caffemodel")
BEST = "_best.caffemodel"
FIXED = "0,1,2"  # places of the images whose predictions are looked at while a training runs
COLUMNS = "run", "iteration", "loss", "rate", "last test", "it/s", "left"
SHORT = "ap", "iu", "map"
PLAIN = "loss", "seconds", "overlap"  # numbers of `score --json` that are no measures


def is_log(path: Path) -> bool:
    """Whether a file begins as the log of a training does, ours or Caffe's."""
    with suppress(OSError), open(path, "rb") as file:
        head = file.read(HEAD).decode("utf-8", "replace")
        return any(BEGINS.match(line) or LINE.search(line) for line in head.split("\n"))
    return False


def logs(folders: Folders) -> list[str]:
    """The logs of trainings under folders, the newest first."""
    return latest(file for file in folders.files(*LOGS) if is_log(Path(file)))


def begun(path: Path) -> bool:
    """Whether there is a number in a log yet."""
    reader = LogReader()
    return any(reader.line(text) for text in lines(path))


def prefixes(folders: Folders) -> list[str]:
    """What the snapshots of runs under folders are called before _iter_N, each before the run's best weights;
    the newest run first."""
    found = dict[str, set[str]]()
    for file in latest(folders.files(*WEIGHTS)):
        if name := snapshot.prefix_of(file):
            prefix = str(Path(file).with_name(name))
            found.setdefault(prefix, set()).add(prefix)
        elif file.endswith(BEST):
            found.setdefault(file.removesuffix(BEST), set()).add(file)
    return [each for of_run in found.values() for each in sorted(of_run)]


def marks(files: Iterable[Path]) -> tuple[tuple[str, int, int], ...]:
    """What differs once one of some files has changed. Raises OSError for one that has gone."""
    return tuple((str(file), (known := os.stat(file)).st_mtime_ns, known.st_size) for file in files)


def newest(prefix: str, folders: Folders) -> Path:
    """The weights under a prefix that were written last. Raises Error where there are none."""
    if prefix.endswith(BEST):
        return folders.open(prefix)
    if files := latest(str(file) for _, file in snapshot.kept(prefix, "caffemodel")):
        return folders.open(files[0])
    raise Error(f"there are no weights {snapshot.stem(prefix, 'N')}.caffemodel (yet)")


def saved(log: Path) -> str:
    """The prefix of the snapshot that a log tells of last; '' where it tells of none."""
    with open(log, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL))
        found = SAVED.findall(file.read(TAIL).decode("utf-8", "replace"))
    return found[-1] if found else ""


def likely(prefix: str, there: Sequence[str]) -> str | None:
    """Which of some prefixes is the one that a log names from another folder; else the first."""
    same = [each for each in there if Path(each).name == Path(prefix).name]
    return next(iter([*same, *there]), None)


def test_net(prefix: str, folders: Folders) -> Path:
    """The net that tests the weights under a prefix: that of the solver in the folders which writes them, or
    of the solver or net whose name they have. Raises Error where nothing tells."""
    name = Path(prefix).name.removesuffix(BEST)
    known = names.solver_names()
    for path in (*map(Path, folders.files(*NETS)), *([known[name]] if name in known else [])):
        with suppress(Error):  # other files may be anything
            if (param := solver_in(path)) and Path(snapshot.prefixed(param, path, "")).name == name:
                net = record.test_net(path, param)
                return net if names.name_of(net) else folders.open(str(net))
    if name in names.nets():
        return names.net_file(name, "test", "val")
    raise Error(f"the net that tests {name} is not known: no solver in the folders has this snapshot_prefix, "
                "and no solver or net this name; start the page with the folder of its solver, too")


def words(net: Path, weights: Path, out: Path, images: str = "") -> list[str]:
    """The command that scores weights, with pictures into the folder `out`: of its worst images and, if there
    are labels, the confusion matrix. images: places of those that are predicted and shown instead. Raises
    Error for a net that wants other weights than a training leaves."""
    layers, name = read_net(net).layer, names.name_of(net)
    if any(layer.type == "BN" and layer.bn_param.bn_mode == BNParameter.INFERENCE for layer in layers):
        raise Error(f"{net} wants the statistics of the training data in its weights, and a training leaves "
                    f"none in {weights.name}: fold them in by 'netspec convert bn', and score in a shell")
    argv = ["score", f"{name}/{net.stem}" if name else str(net), str(weights)]
    argv += ["--json", "--save", str(out / "predictions")]
    if any(layer.python_param.layer for layer in layers if not layer.bottom):
        argv += ["--sheet", str(out / "sheet.png")]
    if images:
        return [*argv, "--images", images]
    if any("label" in layer.top for layer in layers) and not pools_regions(layers):
        argv += ["--confusion", str(out / "confusion.png")]
    return argv


def rows(told: Mapping[str, Any]) -> list[list[str]]:
    """What `netspec curves --json` says of each run now, below COLUMNS."""
    return [[name, f"{run['iteration']} of {run['max_iter']}" if run["max_iter"] else f"{run['iteration']}",
             _last(run["panels"].get(LOSS, {}), "smoothed loss"), _last(run["panels"].get(RATE, {}), RATE),
             _tested(run["panels"]), _number(run["iterations_per_second"]),
             "done" if run["finished"] else "" if run["seconds_left"] is None else clock(run["seconds_left"])]
            for name, run in told["runs"].items()]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _last(panel: Mapping[str, Sequence[Sequence[Any]]], label: str) -> str:
    return _number(panel[label][-1][1]) or "no number" if label in panel else ""


def _tested(panels: Mapping[str, Mapping[str, Sequence[Sequence[Any]]]]) -> str:
    """The last score of a run's tests: a mean if there is one, else what its test net gives."""
    for panel in (*MEANS.values(), OTHER, LOSS):
        for label in sorted(panels.get(panel, {})):
            if label.startswith("test"):
                return f"{_last(panels[panel], label)} {label.removeprefix('test ')}"
    return ""


class Scored(NamedTuple):
    """What `netspec score --json` printed, or a record of it, in percent."""

    measures: dict[str, float]
    columns: list[str]
    classes: list[list[Any]]  # a row each, its name first; of scenes each scene

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> "Scored":
        over = told["thresholds"][0] if "thresholds" in told else {}
        means = over.get("mean", told)
        scenes = over.get("scenes", {})
        each = told.get("classes") or [{"name": name} | found for name, found in scenes.items()]
        keys = [key for key in (each[0] if each else ()) if key != "name"]
        keys = [key for key in keys if any(_percent(one.get(key)) is not None for one in each)]
        return cls({_title(key): 100 * value for key, value in means.items()
                    if isinstance(value, float) and key not in PLAIN},
                   ["class", *map(_title, keys)],
                   [[one["name"], *(_percent(one.get(key)) for key in keys)] for one in each])


NOTHING = Scored({}, ["class"], [])


def measures(title: str, found: Mapping[str, Scored]) -> Html:
    """A column of measures for each of some weights; nothing for none."""
    names = dict.fromkeys(name for one in found.values() for name in one.measures)
    rows = [[name, *(f"{one.measures[name]:.1f}" if name in one.measures else "-" for one in found.values())]
            for name in names]
    return table(rows, [title, *found]) if rows else Html("")


def _title(key: str) -> str:
    """How people call a measure of `score --json`."""
    if key in MEASURES:
        return MEASURES[key]
    return " ".join(word.upper() if word in SHORT else word for word in key.split("_"))


def _percent(value: Any) -> float | int | None:
    """A fraction in percent, a number as it is; None for anything else."""
    return round(100 * value, 1) if isinstance(value, float) else value if isinstance(value, int) else None


def records(prefix: str, folders: Folders) -> list[Path]:
    """The records beside the weights of a prefix: of a pass, and of the tests of training."""
    stem, found = prefix.removesuffix(BEST), []
    for file in (f"{stem}.json", f"{stem}_best.json"):
        with suppress(Error):  # it is not there, or not to be opened
            found.append(folders.open(file))
    return found


def recorded(files: Iterable[Path]) -> dict[str, Scored]:
    """What records say, by the weights that they are of. Raises Error for a file that is no record."""
    found = dict[str, Scored]()
    for file in files:
        known = record.read(file)
        known.pop("thresholds", None)  # of which a record need not be true
        found[Path(known.get("weights", file)).name] = Scored.of(known)
    return found
