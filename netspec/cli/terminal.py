"""What a person at a terminal is asked and shown while a file comes."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..base.machine import amount


def asked() -> bool:
    """Whether somebody at a terminal says yes."""
    if not sys.stdin.isatty():
        return False
    print("Download? [y/N] ", end="", flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


@contextmanager
def meter(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A Meter: one line that is redrawn on a terminal, a line every 10 s elsewhere."""
    start, end = ("\r\x1b[K", "") if sys.stderr.isatty() else ("", "\n")
    due = 0.0 if start else time.monotonic() + 10

    def show(done: int) -> None:
        nonlocal due
        if time.monotonic() >= due:
            due = time.monotonic() + (0.2 if start else 10)
            share = f" of {amount(total)}, {100 * done // total} %" if total else ""
            print(f"{start}{what}: {amount(done)}{share}", end=end, file=sys.stderr, flush=True)

    try:
        yield show
    finally:
        sys.stderr.write(start)
