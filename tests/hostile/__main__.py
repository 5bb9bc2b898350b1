"""Attempts to make readers and commands end otherwise than they may: by a traceback, a signal, never, or over memory.

    python -m tests.hostile [AREA ...] [--count N] [--seed S] [--jobs J]
    python -m tests.hostile --again build/hostile/AREA-0-3-17
    python -m tests.hostile --undo [NUMBER ...]

Each attempt runs in a child forked from a process that has torch loaded, with capped memory, time and file size; those
of the area `commands` are whole commands. It may end with status 0, 1, or 2 and one sentence. Prints area, tried,
slow (it ends so, after more than 10 s of the processor), failed, and where slow and failing attempts are kept. The same seed gives the same attempts. Ctrl-C ends it with the table so far;
the same command goes on from there, unless the checkout has changed.
"""

import argparse
import gc
import importlib
import json
import multiprocessing
import os
import pkgutil
import signal
import sys
import time
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(1, str(PROJECT / "tests"))  # where the tests' own helpers are

from . import drawing  # noqa: E402
from .drawing import CHUNK, Fault  # noqa: E402


def load() -> None:
    """Import what attempts use, once for all children."""
    import netspec

    for module in pkgutil.walk_packages(netspec.__path__, "netspec."):
        if not module.name.startswith(("netspec.shipped", "netspec.__main__")):
            importlib.import_module(module.name)
    for name in ("h5py", "lmdb", "webdataset.tariterators", "scipy.io", "scipy.ndimage", "torch.utils.data", "multiprocessing.pool", "urllib.request",
                 "matplotlib.backends.backend_agg", "matplotlib.figure", "PIL.Image"):
        importlib.import_module(name)
    importlib.import_module("PIL.Image").init()
    gc.collect()
    gc.freeze()  # so that no child looks through it, and copies its memory


def failures(faults: list[Fault]) -> list[Fault]:
    return [fault for fault in faults if not fault.slow]


def table(tried: Counter, faults: list[Fault]) -> str:
    failed = Counter(fault.area for fault in failures(faults))
    slow = Counter(fault.area for fault in faults) - failed
    rows = [("area", "tried", "slow", "failed"), *((name, *(str(n[name]) for n in (tried, slow, failed))) for name in tried),
            ("all", *(str(n.total()) for n in (tried, slow, failed)))]
    return "\n".join(f"{a:<12}{b:>8}{c:>8}{d:>8}" for a, b, c, d in rows)


class Tally:
    """What was tried and failed, told once a minute. Chunks that are done stand in a file, a line each, with the commit."""

    def __init__(self, names: list[str], kept: Path) -> None:
        from netspec.base.machine import commit

        self.tried, self.faults = Counter(dict.fromkeys(names, 0)), []
        self.begin = self.told = time.monotonic()
        self.commit, self.path = commit(), kept / "done.jsonl"
        known = self.commit and "changes" not in self.commit and self.path.exists()  # else a chunk may end otherwise
        lines = map(json.loads, self.path.read_text().splitlines()) if known else ()
        self.done = {tuple(task): result for commit, task, *result in lines if commit == self.commit}

    def left(self, todo: list[tuple]) -> list[tuple]:
        """The chunks that no earlier run has tried; the results of the others are taken."""
        for task in todo:
            if task in self.done:
                made, faults = self.done[task]
                self._count(task[0], made, [Fault(*fault) for fault in faults])
        return [task for task in todo if task not in self.done]

    def add(self, task: tuple, made: int, faults: list[Fault]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps([self.commit, task, made, faults]) + "\n")
        self._count(task[0], made, faults)
        if time.monotonic() > self.told + 60:
            self.told = time.monotonic()
            print(f"{self.tried.total()} tried, {len(failures(self.faults))} failed, {self.told - self.begin:.0f} s", file=sys.stderr, flush=True)

    def _count(self, name: str, made: int, faults: list[Fault]) -> None:
        self.tried[name] += made
        self.faults += faults
        for fault in faults:
            if fault.place:
                print(f"{fault.area}: {fault.what}  {fault.place}", flush=True)


def run(names: list[str], count: int | None, seed: int, jobs: int, kept: Path, first: bool) -> tuple[Counter, list[Fault]]:
    """Try so many attempts of each area; how many were made, and the faults. first: end with the first fault."""
    known, tally = drawing.areas(), Tally(names, kept)
    todo = tally.left([(name, seed, number, min(CHUNK, total - CHUNK * number)) for name in names
                       for total in [known[name].count if count is None else count] for number in range(-(-total // CHUNK))])
    under: dict[Future, tuple] = {}
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("fork")) as pool:
        try:
            for task in (*todo, None):
                while under and (task is None or len(under) >= 2 * jobs):
                    for future in wait(under, return_when=FIRST_COMPLETED).done:
                        tried = under.pop(future)
                        try:
                            tally.add(tried, *future.result())
                        except Exception as problem:  # of the harness itself, which goes on with the next chunk
                            tally.add(tried, 0, [Fault(tried[0], f"no attempt made: {problem!r}", "-")])
                if task is None or first and failures(tally.faults):
                    break
                under[pool.submit(drawing.chunk, *task, kept)] = task
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
    print(f"{time.monotonic() - tally.begin:.0f} s")
    return tally.tried, tally.faults


def main(argv: list[str] | None = None) -> int:
    known = drawing.areas()
    parser = argparse.ArgumentParser("python -m tests.hostile", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("areas", nargs="*", metavar="AREA", help=f"of {', '.join(known)} (default: all)")
    parser.add_argument("--count", type=int, metavar="N", help="attempts of each area (default: together 100,000)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="which attempts (default 0)")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), metavar="J", help="processes (default: the cores)")
    parser.add_argument("--kept", type=Path, default=PROJECT / "build/hostile", metavar="DIR", help="gets failing attempts")
    parser.add_argument("--first", action="store_true", help="end with the first fault")
    parser.add_argument("--again", type=Path, nargs="+", metavar="DIR", help="try kept attempts again")
    parser.add_argument("--undo", type=int, nargs="*", metavar="NUMBER", help="take guards away, in a copy, and find that")
    args = parser.parse_args(argv)
    if args.undo is not None:
        from . import undo

        return undo.main(args.undo, args.jobs)
    if strange := set(args.areas) - known.keys():
        parser.error(f"no area {', '.join(sorted(strange))}")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs ignore
    load()
    if args.again:
        found = [drawing.again(place.absolute()) for place in args.again]
        print(*(f"{place}: {what or 'as it should'}" for place, what in zip(args.again, found, strict=True)), sep="\n")
        return int(any(found))
    tried, faults = run(args.areas or list(known), args.count, args.seed, args.jobs, args.kept.absolute(), args.first)
    print(table(tried, faults))
    return int(bool(failures(faults)))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # while it loads
        sys.exit(130)
