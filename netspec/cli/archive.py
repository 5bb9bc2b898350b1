"""`netspec infer --list`: any number of images into a folder with a manifest of what is done."""

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import chain, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..base import log
from ..base.errors import Error, Interrupted, count, listed
from ..base.files import find
from .options import note, only, whole, wrote
from .terminal import say

if TYPE_CHECKING:
    from ..score.archive import Job, Row
    from ..score.predict import Looks
    from ..score.results import Wanted
    from ..score.sampled import Draws

# options of `netspec infer` that have no meaning for a list
STRANGE = "json", "dense", "names", "engine", "threshold", "voc", "nms", "most", "protocol", "bands"

ITS = "parquet", "jobs", "ray"  # options that have none without


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--list", metavar="FILE|FOLDER", help="any number of images, in place of IMAGE: "
                        "a file with a path a line, or a folder with the folders in it. DIR/manifest.jsonl "
                        "says what is done: the same command goes on after an end of any kind, and does what "
                        "is new or changed")
    parser.add_argument("--jobs", type=whole, metavar="N", help="with --list: N processes compute, each "
                        "with a net of its own, on all GPUs in turn (default: this one, or one a GPU where "
                        "there are several)")
    parser.add_argument("--ray", nargs="?", const="", metavar="ADDRESS", help="with --list: actors of a Ray "
                        "Data pipeline compute, on the cluster whose head is at HOST:PORT, on the one that "
                        "this machine is of (auto), or on all cores; --jobs N: N of them (needs ray[data])")
    parser.add_argument("--parquet", action="store_true", help="with --list: also DIR/manifest.parquet, the "
                        "manifest as a table (needs pyarrow)")


def check(args: argparse.Namespace, arguments: Callable[[argparse.ArgumentParser], None]) -> None:
    """Error for what does not go with --list."""
    only(args, arguments, STRANGE, "--list has no such thing")
    if args.image:
        raise Error(f"--list {args.list} names the images: it goes without IMAGE ({listed(args.image)})")
    if args.out == ".":
        raise Error("--list needs --out DIR: a folder for the results and their manifest")
    if args.jobs == 0:
        raise Error("--jobs must be at least 1, found 0")
    if args.parquet:
        from ..score import parquet

        parquet.library()
    if args.ray is not None:
        from ..score import rayed

        rayed.library()


def job(args: argparse.Namespace, net: Path, weights: Path, blob: str, mean: Sequence[float], looks: "Looks",
        wanted: "Wanted", sampling: "Draws | None") -> "Job":
    """What the options, and what they leave to the net, say."""
    from ..score.archive import Job
    from ..score.loaded import PRETRAINED

    return Job(str(net), PRETRAINED if args.by_name else str(weights), args.out, args.device, args.precision,
               args.strict, blob, tuple(mean), looks, wanted, args.scales, args.flip, args.tile,
               sampling)


def run(args: argparse.Namespace, job: "Job") -> int:
    from ..score import manifest, parquet
    from ..train.stopping import STOPS

    (names, locate), facts = _images(args.list, args.out), job.facts()
    with manifest.opened(job, facts) as kept, closing(log.make()) as shown, stopping(STOPS) as heard:
        plan = kept.plan(names, locate, [*job.wanted.files.values()])
        if plan.done:
            note(f"{plan.done} of {count(len(names), 'image')} are done already, as {kept.path} says")
        images = ((name, _where(name, locate)) for name in takewhile(lambda name: not heard, plan.todo))
        begin, done, errors = time.monotonic(), 0, 0
        rows = _rows(args, job, images, len(plan.todo), facts, lambda: bool(heard)) if plan.todo else ()
        for row in chain(rows, plan.refused):
            kept.append(row)
            done += 1
            if "error" in row:
                errors += 1
                _tell(shown, row["error"])
            shown.progress("infer", done, len(plan.todo) + len(plan.refused), row["image"], 1)
    spent = time.monotonic() - begin
    rate = f"in {spent:.1f} s ({(done - errors) / max(spent, 1e-3):.1f} images/s)"
    say(f"{count(done - errors, 'image')} {rate} -> {args.out}" if done else "nothing to do")
    if heard and done < len(plan.todo) + len(plan.refused):
        say(f"netspec infer: stopped by {STOPS[heard[0]]}: {plan.done + done - errors} of "
            f"{count(len(names), 'image')} are done; the same command goes on", file=sys.stderr)
        raise Interrupted(heard[0])
    if args.parquet:
        assert job.looks
        parquet.write(kept.path, table := Path(args.out, parquet.NAME), job.looks.names)
        wrote(table)
    if errors:
        raise Error(f"{errors} of {count(len(names), 'image')} gave no results: {kept.path} says why")
    return 0


@contextmanager
def stopping(numbers: Iterable[int]) -> Iterator[list[int]]:
    """Within, the first of these signals only puts its number into the list; a second ends it at once."""
    heard: list[int] = []

    def hear(number: int, frame: Any) -> None:
        heard.append(number)
        restore()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    before = {number: signal.signal(number, hear) for number in numbers}
    try:
        yield heard
    finally:
        restore()


def _rows(args: argparse.Namespace, job: "Job", images: Iterator[tuple[str, str]], many: int, facts: "Row",
          stop: Callable[[], bool]) -> Iterator["Row"]:
    """The rows of so many images, by whatever is to compute them."""
    from ..score import archive, crew

    jobs = args.jobs and min(args.jobs, many)
    if args.ray is not None:
        from ..score import rayed

        return rayed.shared(job, images, facts, args.ray, jobs, note, stop)
    devices = crew.devices(job, jobs)
    return crew.shared(job, images, devices, note) if devices else archive.computed(job, images, note)


def _images(given: str, out: str) -> tuple[list[str], Callable[[str], str]]:
    """The names of the images of a list or folder, and what says where one is. Raises Error where there are
    none, and for a folder that results would come into."""
    from ..proto.text import read_lines
    from ..score.frames import walk

    source = Path(given) if os.path.exists(given) else find(given, what="--list")
    if source.is_dir():
        if Path(os.path.realpath(source)).is_relative_to(os.path.realpath(out)):
            raise Error(f"the results would come into {source}, whose images are read; give another --out")
        names, others = walk(str(source), out)
        if others:
            note(f"{source} has {count(len(others), 'file')} that by name are no images: {listed(others)}")
        return names, lambda name: os.path.join(source, name)
    names = [*dict.fromkeys(line for line in read_lines(source, "--list") if line.strip())]
    if not names:
        raise Error(f"--list {source} names no image; a path a line is expected")
    return names, lambda name: name if os.path.exists(name) else str(
        find(name, source.parent, f"{source}: image"))


def _where(name: str, locate: Callable[[str], str]) -> str:
    """Where an image is; if it went meanwhile, its name, under which it will not be found."""
    try:
        return locate(name)
    except Error:
        return name


def _tell(shown: log.Log, error: str) -> None:
    """An image's error, above the bar where there is one."""
    if isinstance(shown, log.Bar):
        shown("netspec", error, "E")
    else:
        say(f"netspec infer: {error}", file=sys.stderr)
