"""The way of a batch from its source to the net, loaded ahead by worker processes."""

import atexit
import itertools
import math
import mmap
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence, Sized
from contextlib import contextmanager
from typing import Any, NamedTuple, NoReturn
from weakref import WeakSet, finalize

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

from ..base.errors import Error
from ..base.log import Log
from ..base.machine import cores
from ..base.processes import START, end_with_parent
from ..ops.base import Shape, carried
from ..ops.source import Batch, Source

PATIENCE = 0.5  # seconds without a batch after which it is asked whether the workers live


class Unreadable(Error):
    """A batch that cannot be loaded: a file is missing, damaged, or not what it should be."""


class Feed:
    """The batches of a source from a position on, every `step`th, as float32 tensors, one a top.

    workers: how many processes load ahead (0: this one loads; None: 1 on up to 2 cores, else 4, and 0 where
    the source loads too quickly to need any). What comes out does not depend on it. `position` is that of the
    batch that the caller gets next, whatever was loaded ahead. `next` raises Unreadable where a batch cannot
    be loaded (the next call gives the one after it) and Error where a worker died (the feed is then closed).
    """

    def __init__(self, source: Source, position: int = 0, workers: int | None = None, step: int = 1) -> None:
        if source.fed:
            _unfed(source)
        if workers is None:
            workers = (1 if cores() <= 2 else 4) if source.workers else 0
        self.source, self.position, self.step = source, position, step
        ahead = 4 if workers == 1 else 2  # batches a worker
        self._ring = _Ring(workers * ahead + 2, source.shapes()) if workers and START == "fork" else None
        options: dict[str, Any] = {}
        if workers:
            options = dict(num_workers=workers, prefetch_factor=ahead, worker_init_fn=_begin,
                           multiprocessing_context=START, timeout=PATIENCE)
        # a loader draws a number: not from the net's random state
        loader = DataLoader(_Positions(source, self._ring, step), sampler=itertools.count(position, step),
                            batch_size=None, collate_fn=_same, generator=torch.Generator(), **options)
        with _children_unwatched():
            self._batches: Iterator[Any] | None = iter(loader)
        # holds what it ends: of a Feed forgotten in a cycle the queues would end before the workers are asked
        self._end = finalize(self, _end, os.getpid(), self._batches)
        self._end.atexit = False
        _open.add(self)
        atexit.unregister(_close_all)
        atexit.register(_close_all)  # last, so that it runs before multiprocessing waits for the workers

    def __iter__(self) -> "Feed":
        return self

    def __next__(self) -> tuple[Tensor, ...]:
        if self._batches is None:
            raise RuntimeError("next() on a closed Feed")
        batch = self._wait(self._batches)
        self.position += self.step
        if isinstance(batch, _Failure):
            raise Unreadable(batch.message)
        if self._ring and isinstance(batch, _Slot):
            batch = self._ring.read(batch)
        return tuple(batch)

    def _wait(self, batches: Iterator[Any]) -> Any:
        """The next batch as it comes from the loader, however long it takes; Error where a worker died."""
        while True:
            try:
                return next(batches)
            except (RuntimeError, OSError, EOFError) as error:
                cause = self._dead()
                if cause:
                    self.close()
                    died = f"a process that loads its data died ({cause}) before batch {self.position}"
                    why = "if memory ran out, use fewer workers"
                    if cause in ("SIGBUS", "SIGSEGV"):
                        why = "a file that it reads is damaged"
                    raise self.source.error(f"{died}; {why}") from error
                if not str(error).startswith("DataLoader timed out"):
                    raise

    def close(self) -> None:
        """End the workers; the feed gives nothing more."""
        self._batches = None
        self._end()
        _open.discard(self)

    def _dead(self) -> str:
        for worker in getattr(self._batches, "_workers", ()):
            if not worker.is_alive():
                code = worker.exitcode
                return signal.Signals(-code).name if code < 0 else f"exit status {code}"
        return ""


class Skips:
    """The batches that a run could not load and went past: at most `most` different ones, each said once.

    Such a batch is left out whole, in all data layers of its net alike, and the one at the next position
    takes its place. So what a net sees follows from its positions alone, whatever the number of workers.
    `seen`, what was wrong with each, only counts; a file that a later epoch meets again counts once.
    """

    def __init__(self, log: Log, most: int = 0) -> None:
        self.log, self.most = log, most
        self.seen: list[str] = []

    def past(self, error: Unreadable, running: int) -> None:
        """Count a batch, the `running`th in a row; raises Error where it is one too many."""
        what = str(error)
        if what not in self.seen and len(self.seen) < self.most:
            self.seen.append(what)
            self.log("netspec", f"left out: {what} ({len(self.seen)} of at most {self.most})", "W")
        elif what not in self.seen or not self.most:
            before = f"; {len(self.seen)} others were left out before" if self.seen else ""
            raise Error(f"{what}{before} (solve --skip-bad N goes past N such)") from None
        elif running > 10 * (self.most + 1):
            raise Error(f"{what}; {running} batches in a row cannot be loaded") from None


class Batches:
    """One Feed for each source of a net, opened when the first batch is asked for.

    given: what fills the tops of a source that waits for its caller (Input); without it such a source is an
    Error. skips: what to go past; without it a batch that cannot be loaded is an Error. workers: see Feed.
    part, parts: of `parts` processes that share the positions this is number `part`, which takes every
    `parts`th; `positions` are then those of number 0.
    """

    def __init__(self, sources: Sequence[Source], device: torch.device, skips: Skips | None = None,
                 workers: int | None = None, part: int = 0, parts: int = 1) -> None:
        self.part, self.parts = part, parts
        self.sources, self.device, self.skips, self.workers = sources, device, skips, workers
        self.given: Callable[[Source], Sequence[Tensor]] = _unfed
        self._feeds: list[Feed | None] = []
        self._positions = [0] * len(sources)

    @property
    def positions(self) -> list[int]:
        """The number of the next batch of each source."""
        return [feed.position - self.part if feed else 0 for feed in self._feeds] or self._positions

    def next(self) -> dict[str, Tensor]:
        """The net's next input blobs, on its device."""
        if not self._feeds:
            self._feeds = [None if source.fed else Feed(source, at + self.part, self.workers, self.parts)
                           for source, at in zip(self.sources, self._positions, strict=True)]
        running = 0
        while True:
            running += 1
            try:
                drawn = self._draw()
            except Unreadable as error:
                if self.skips is None:
                    raise
                self.skips.past(error, running)
            else:
                return {blob: carried(tensor, self.device) for blob, tensor in drawn}

    def _draw(self) -> list[tuple[str, Tensor]]:
        """The next batch of every source, by blob.

        Where one cannot be loaded, all go past their own before Unreadable is raised.
        """
        drawn: list[tuple[str, Tensor]] = []
        failed = None
        for source, feed in zip(self.sources, self._feeds, strict=True):
            try:
                drawn += zip(source.layer.top, next(feed) if feed else self.given(source), strict=True)
            except Unreadable as error:
                failed = failed or error
        if failed:
            raise failed
        return drawn

    def position(self, source: Source) -> int:
        """That of the batch of a source that `next` gave."""
        return self.positions[self.sources.index(source)] + self.part - self.parts

    def last(self) -> str:
        """The files behind the batch that `next` gave, for error messages."""
        places = ["given by the caller" if source.fed else source.describe(self.position(source))
                  for source in self.sources]
        return ", ".join(dict.fromkeys(places))

    def rewind(self, positions: Sequence[int]) -> None:
        """Go on from these positions."""
        self.close()
        self._positions = list(positions)

    def close(self) -> None:
        """End the worker processes; the next batch starts them again where they were."""
        self._positions = self.positions
        for feed in filter(None, self._feeds):
            feed.close()
        self._feeds = []


class Stream(IterableDataset[dict[str, Tensor]]):
    """Batches first, first + step, first + 2 step, ... of sources, in all `count` (None: without end), in a
    training loop of one's own.

    Each is a dictionary of float32 tensors by blob, so a DataLoader around it takes `batch_size=None`. Its
    workers share the batches among them: the same ones come out, in the same order. Raises Unreadable where
    one cannot be loaded.
    """

    def __init__(self, sources: Sequence[Source], first: int = 0, count: int | None = None, step: int = 1
                 ) -> None:
        self.sources, self.first, self.count, self.step = sources, first, count, step
        for source in sources:
            if source.fed:
                _unfed(source)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        worker = get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        while self.count is None or number < self.count:
            yield self.at(self.first + number * self.step)
            number += workers

    def at(self, position: int) -> dict[str, Tensor]:
        """The batch at a position: the same whenever and wherever it is asked for."""
        found: dict[str, Tensor] = {}
        for source in self.sources:
            arrays = _loaded(source, position)
            found.update(zip(source.layer.top, map(torch.from_numpy, arrays), strict=True))
        return found

    @property
    def epoch(self) -> int | None:
        """How many batches give each image of the first source's list (the last may begin the list anew);
        None without a list."""
        source = self.sources[0]
        return -(-len(source) // source.batch_size) if isinstance(source, Sized) else None


def _unfed(source: Source) -> NoReturn:
    raise source.error("is filled by the caller; there is nothing to load")


_open: WeakSet[Feed] = WeakSet()


def _close_all() -> None:
    for feed in list(_open):
        feed.close()


def _end(owner: int, batches: Any) -> None:
    """Ask the workers to end, and wait; they are deaf to SIGTERM, and those that are to this are killed.

    Not at once: one that is killed while it holds the lock of what it is asked by keeps it for ever.
    """
    workers = getattr(batches, "_workers", ())
    if not workers or os.getpid() != owner:  # a worker, too, has its parent's Feeds
        return
    try:
        batches._shutdown_workers()
    finally:
        for worker in workers:
            if worker.is_alive():
                worker.kill()


class _Failure(NamedTuple):
    """An Error on its way from a worker: as an exception its message would come wrapped in a traceback."""

    message: str


class _Slot(NamedTuple):
    """Where in the ring a batch lies."""

    number: int
    shapes: list[Shape]


class _Ring:
    """Memory that workers share with the net's process, one slot a batch under way.

    Batch k of those that are fed lies in slot k modulo their number, which must exceed the number of batches
    under way. Much cheaper than the tensors in shared memory of a DataLoader, and needs no room in /dev/shm.
    """

    def __init__(self, slots: int, shapes: Sequence[Shape]) -> None:
        # room for batches of several times the first one's size: memory counts only when it is written to
        size = 4 * 4 * sum(map(math.prod, shapes))
        self.slots = np.frombuffer(mmap.mmap(-1, slots * size), np.float32).reshape(slots, -1)

    def write(self, k: int, arrays: Batch) -> _Slot | None:
        """None if the batch is too large for a slot."""
        number, start = k % len(self.slots), 0
        if sum(a.size for a in arrays) > self.slots.shape[1]:
            return None
        for array in arrays:
            self.slots[number, start : start + array.size].reshape(array.shape)[...] = array
            start += array.size
        return _Slot(number, [a.shape for a in arrays])

    def read(self, slot: _Slot) -> list[Tensor]:
        sizes = [math.prod(shape) for shape in slot.shapes]
        flat = torch.from_numpy(self.slots[slot.number, : sum(sizes)].copy())
        return [part.view(shape) for part, shape in zip(flat.split(sizes), slot.shapes, strict=True)]


class _Positions(Dataset[Any]):
    """A source as the data set that a DataLoader expects."""

    def __init__(self, source: Source, ring: _Ring | None, step: int) -> None:
        self.source, self.ring, self.step = source, ring, step

    def __getitem__(self, position: int) -> list[Tensor] | _Slot | _Failure:
        try:
            arrays = _loaded(self.source, position)
        except Unreadable as error:
            return _Failure(str(error))
        slot = self.ring.write(position // self.step, arrays) if self.ring else None
        return slot or [torch.from_numpy(array) for array in arrays]


def _loaded(source: Source, position: int) -> Batch:
    try:
        return source.load(position)
    except Error as error:
        raise Unreadable(str(error)) from None
    except OSError as error:
        raise Unreadable(f"{source.describe(position)}: {error}") from None


def _same(batch: Any) -> Any:
    return batch


def _begin(worker: int) -> None:
    end_with_parent()
    # Ctrl-C, a batch system's SIGTERM and a closed terminal's SIGHUP reach the whole process group; the
    # solver answers them, and needs its data to finish the step. Workers end when the solver does.
    for name in {"SIGINT", "SIGTERM", "SIGHUP"} & set(dir(signal)):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    for name in {"SIGSEGV", "SIGBUS", "SIGFPE"} & set(dir(signal)):  # which the solver says, not torch
        signal.signal(getattr(signal, name), signal.SIG_DFL)


@contextmanager
def _children_unwatched() -> Iterator[None]:
    """Take back the SIGCHLD handler that a DataLoader sets: it raises in the middle of whatever is running.

    Without it a dead worker is noticed at the next batch, within PATIENCE.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGCHLD"):
        yield
        return
    before = signal.getsignal(signal.SIGCHLD)
    yield
    signal.signal(signal.SIGCHLD, before or signal.SIG_DFL)
