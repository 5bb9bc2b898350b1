"""What every measurement of time stands on: calls in turn, processes of their own, medians with spreads."""

import math
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TypeVar

from ..base.machine import WAITING
from ..base.processes import end_with_parent, ready

Key = TypeVar("Key", bound=Hashable)
LEAST = 0.1  # seconds that a quick call is repeated for in its turn


def seconds(call: Callable[[], object], times: int) -> list[float]:
    """How long each of so many calls takes."""
    spent = []
    for _ in range(times):
        begin = time.perf_counter()
        call()
        spent.append(time.perf_counter() - begin)
    return spent


def once(calls: Mapping[Key, Callable[[], float]], order: random.Random) -> dict[Key, float]:
    """What each of some measurements finds, taken one after the other in a new order."""
    found = {name: calls[name]() for name in order.sample([*calls], len(calls))}
    return {name: found[name] for name in calls}


def rounds(calls: Mapping[Key, Callable[[], object]], repeats: int) -> dict[Key, list[float]]:
    """Seconds of each call in each round: all take turns, so that other load falls on all alike.

    A round before the first warms up. A quick call is repeated in its turn for LEAST seconds, and the mean
    counts: what another's threads do behind their end is then a small part of it.
    """
    order = random.Random(0)
    times = {name: max(1, round(LEAST / max(spent, 1e-9)))
             for name, spent in once({name: _timed(call, 1) for name, call in calls.items()}, order).items()}
    turns = {name: _timed(call, times[name]) for name, call in calls.items()}
    found = [once(turns, order) for _ in range(repeats)]
    return {name: [each[name] for each in found] for name in calls}


def _timed(call: Callable[[], object], times: int) -> Callable[[], float]:
    return lambda: statistics.mean(seconds(call, times))


def spread(values: Sequence[float], digits: int) -> list[str]:
    """Median, least and most, with so many decimals."""
    return [f"{f(values):.{digits}f}" for f in (statistics.median, min, max)]


def ratios(spent: Sequence[float], base: Sequence[float]) -> list[str]:
    """Median, least and most of the ratios of one round each."""
    return spread([a / b for a, b in zip(spent, base, strict=True)], 2)


def load_average() -> str:
    """How busy the machine was in the last minute, where the system says it."""
    return f"{os.getloadavg()[0]:.2f}" if hasattr(os, "getloadavg") else "unknown"


def peak() -> float:
    """The most memory that this process has held, in bytes; of mapped files, the pages in memory count.

    NaN where the system does not say.
    """
    with suppress(OSError, ValueError):  # Linux; getrusage counts there what a parent held, too
        lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        if "VmHWM" in lines:
            return int(lines["VmHWM"].split()[0]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        return math.nan
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def untold() -> dict[str, str]:
    """The environment without what says how torch runs, as netspec itself does to its own process."""
    told = "OMP_WAIT_POLICY", "OMP_NUM_THREADS", "MKL_NUM_THREADS", *WAITING
    return {name: value for name, value in os.environ.items() if name not in told}


@contextmanager
def child(work: Callable[..., None], *args: object, **environ: str) -> Iterator[Connection]:
    """A connection to a fresh process that does this work, in this environment of threads."""
    context, before = get_context("spawn"), dict(os.environ)
    here, there = context.Pipe()
    process = context.Process(target=_begin, args=(ready, work, there, *args))
    os.environ.clear()
    os.environ.update(untold() | environ)
    try:
        process.start()
    finally:
        os.environ.clear()
        os.environ.update(before)
    there.close()
    try:
        here.recv()  # it is at work
        yield here
    finally:
        here.close()
        process.join()


def _begin(first: Sequence[Callable[[], object]], work: Callable[..., None], *args: object) -> None:
    end_with_parent()
    for each in first:
        each()
    work(*args)
