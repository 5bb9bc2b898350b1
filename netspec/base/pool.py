"""Work on many items by several processes, what comes of it in the items' order."""

import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from .processes import START, end_with_parent

Item = TypeVar("Item")
Found = TypeVar("Found")
TOGETHER = 4  # items that a process is given at once


class Died(Exception):
    """A process ended before its time. `number`: the place of the first item of which nothing came."""

    def __init__(self, number: int) -> None:
        self.number = number


def spread(work: Callable[[Item], Found], items: Sequence[Item], processes: int) -> Iterator[Found]:
    """What `work` makes of each item, in their order.

    Each process has a pipe of its own, so one that dies, at whichever moment, holds nothing that another
    waits for. Ctrl-C is the caller's alone. Raises Died where one does, what `work` raises, and OSError where
    no process can be started.
    """
    batches = [range(at, min(at + TOGETHER, len(items))) for at in range(0, len(items), TOGETHER)]
    found, due, left = dict[int, Found](), count(), iter(batches)
    members = dict[Connection, BaseProcess]()
    next_one = next(due)
    try:
        for _, batch in zip(range(min(processes, len(batches))), left, strict=False):
            members |= [_started(work, items, batch)]
        while members:
            for line in wait([*members]):
                assert isinstance(line, Connection)
                for number, result in _heard(line, next_one):
                    found[number] = result
                _send(line, next(left, None), members)
            while next_one in found:
                yield found.pop(next_one)
                next_one = next(due)
    finally:
        for process in members.values():
            _end(process)


def each(work: Callable[[Item], Found], items: Sequence[Item], processes: int, seconds: float
         ) -> Iterator[tuple[int, Found | None, str]]:
    """(place, what `work` makes of the item there, "") as they come, each item at most `seconds` long; in
    place of what is made, None and why: its process took longer and was killed, or ended before its time.

    Such a process costs its one item, another takes its place. Raises as `spread`, Died apart.
    """
    batches, members = (range(n, n + 1) for n in range(len(items))), dict[Connection, BaseProcess]()
    busy = dict[Connection, tuple[int, float]]()  # the item, and when its time is over

    def give(line: Connection | None) -> None:
        if batch := next(batches, None):
            if line:
                _send(line, batch, members)
            else:
                line, members[line] = _started(work, items, batch)
            busy[line] = batch[0], time.monotonic() + seconds

    try:
        for _ in range(processes):
            give(None)
        while busy:
            heard = wait([*busy], max(0, min(due for _, due in busy.values()) - time.monotonic()))
            for line in [line for line, (_, due) in busy.items()
                         if line in heard or time.monotonic() >= due]:
                number = busy.pop(line)[0]
                found, why = _one(line) if line in heard else (None, f"took longer than {seconds:g} s")
                if why:
                    _end(members.pop(line))
                give(None if why else line)
                yield number, found, why
    finally:
        for process in members.values():
            _end(process)


def _one(line: Connection) -> tuple[Any, str]:
    """What came of one item; or None, and why."""
    try:
        return _heard(line, 0)[0][1], ""
    except Died:
        return None, "ended its process"


def _end(process: BaseProcess) -> None:
    process.kill()
    process.join()


def _heard(line: Connection, due: int) -> list[tuple[int, Any]]:
    try:
        told = line.recv()
    except (EOFError, OSError):
        raise Died(due) from None
    if isinstance(told, BaseException):
        raise told
    return told


def _send(line: Connection, batch: range | None, members: dict[Connection, BaseProcess]) -> None:
    """Give a process more to do, or let it end."""
    with suppress(OSError):  # it died since, which is heard next
        line.send(batch)
    if batch is None:
        members.pop(line).join()
        line.close()


def _started(work: Callable[[Item], Any], items: Sequence[Item], batch: range
             ) -> tuple[Connection, BaseProcess]:
    context = multiprocessing.get_context("fork") if START == "fork" else multiprocessing.get_context("spawn")
    mine, its = context.Pipe()
    process = context.Process(target=_serve, args=(work, items, its), daemon=True)
    with _deaf():
        process.start()
    its.close()
    with suppress(OSError):
        mine.send(batch)
    return mine, process


@contextmanager
def _deaf() -> Iterator[None]:
    """Within, Ctrl-C waits, and what is started never hears it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(work: Callable[[Item], Any], items: Sequence[Item], line: Connection) -> None:
    """A process: what comes of the items whose places it is given, until there are none."""
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the caller answers Ctrl-C
    with suppress(EOFError, OSError):
        while batch := line.recv():
            try:
                told: Any = [(number, work(items[number])) for number in batch]
            except Exception as error:
                told = error
            line.send(told)
