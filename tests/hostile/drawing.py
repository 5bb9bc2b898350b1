"""Attempts in chunks: hypothesis draws half of them, where it is installed, and Python's random numbers the others.

hypothesis varies what it drew before, and comes near the edges of what can be drawn; random numbers go anywhere. A chunk
is given by its area, a seed and its number alone, so that any process may try it; what is drawn twice counts once.
"""

import importlib
import json
import os
import random
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from .runner import SLOW, listing, tried

CHUNK = 50  # attempts
KEPT = 3  # attempts of each fault and chunk
PLACE = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else None  # in memory, if it can be
MODULES = ("nets", "described", "binaries", "pictures", "archives", "disks")


class Area(NamedTuple):
    """What is attacked: `make` fills the current folder of an attempt by random numbers, and returns the call."""

    make: Callable[[random.Random, Path], list]
    count: int  # of attempts, if nothing else is asked for


class Fault(NamedTuple):
    area: str
    what: str
    place: str  # where the attempt is kept

    @property
    def slow(self) -> bool:
        """Whether it ends as it may, and takes long: no failure, but worth a look."""
        return self.what.startswith(SLOW)


def areas() -> dict[str, Area]:
    """All areas by name."""
    return {name: area for module in MODULES
            for name, area in importlib.import_module(f".{module}", __package__).AREAS.items()}


def chunk(name: str, seed: int, number: int, count: int, kept: Path) -> tuple[int, list[Fault]]:
    """Try a chunk of an area: how many attempts there were, and the faults."""
    area, seen, faults = areas()[name], set(), []

    def attempt(numbers: random.Random) -> None:
        with tempfile.TemporaryDirectory(prefix="hostile-", dir=PLACE) as place:
            folder = Path(place)
            (folder / "work").mkdir()
            call = area.make(numbers, folder / "work")
            made = json.dumps([listing(folder / "work"), call])
            if made in seen:
                return
            seen.add(made)
            given = folder / "given"
            shutil.copytree(folder / "work", given, symlinks=True)
            what = tried(folder, call)
            if what and sum(what == fault.what for fault in faults) < KEPT:
                faults.append(Fault(name, what, _keep(kept / f"{name}-{seed}-{number}-{len(seen)}", folder, call, what)))
            elif what:
                faults.append(Fault(name, what, ""))

    with suppress(ImportError):
        _drawn(attempt, f"{name}-{seed}-{number}", count // 2)
    for more in range(2 * count):  # a few of them may be alike
        if len(seen) < count:
            attempt(random.Random(f"{name}-{seed}-{number}-{more}"))
    return len(seen), faults


def _drawn(attempt: Callable[[random.Random], None], seed: str, count: int) -> None:
    import hypothesis
    from hypothesis import strategies

    limits = hypothesis.settings(max_examples=count, database=None, deadline=None, phases=[hypothesis.Phase.generate],
                                 suppress_health_check=list(hypothesis.HealthCheck))
    hypothesis.seed(seed)(limits(hypothesis.given(strategies.randoms(use_true_random=False))(attempt)))()


def _keep(place: Path, folder: Path, call: list, what: str) -> str:
    """Keep an attempt: its files as they were given, its call, and what was wrong and said."""
    shutil.rmtree(place, ignore_errors=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(folder / "given", place / "given")
    for name in ("out", "err"):
        shutil.copy(folder / name, place / name)
    (place / "call.json").write_text(json.dumps({"call": call, "fault": what}, indent=1))
    return str(place)


def again(place: Path) -> str:
    """What is wrong with an attempt that was kept, tried now."""
    with tempfile.TemporaryDirectory(prefix="hostile-", dir=PLACE) as folder:
        shutil.copytree(place / "given", Path(folder) / "work", symlinks=True)
        return tried(Path(folder), json.loads((place / "call.json").read_text())["call"])


