"""The one place where text gets to a person: lines, tables, data; and what one at a terminal is asked and
shown while a file comes."""

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TextIO

from ..base.errors import one_line
from ..base.machine import amount

NONE: Mapping[str, int] = {}


def say(*lines: Any, file: TextIO | None = None, colours: Mapping[str, int] = NONE) -> None:
    """Print lines, on standard output if no file is given. Whatever names and messages hold, each of `lines`
    is one line, and moves no cursor.

    colours: first letter -> number of the line's colour, on a terminal unless NO_COLOR is set.
    """
    out = sys.stdout if file is None else file
    coloured = colours and out.isatty() and not os.environ.get("NO_COLOR")
    for line in map(one_line, map(str, lines)):
        number = colours.get(line[:1]) if coloured else None
        print(line if number is None else f"\x1b[{number}m{line}\x1b[0m", file=out)
    out.flush()


def show(text: str, file: TextIO | None = None) -> None:
    """Print a text of several lines, such as a table or JSON, in whose parts nothing is left that would begin
    another."""
    say(*text.split("\n"), file=file)


def give(text: str) -> None:
    """Print data in a syntax of their own (CSV) as they are, for programs to read."""
    print(text, flush=True)


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

    def redraw(done: int) -> None:
        nonlocal due
        if time.monotonic() >= due:
            due = time.monotonic() + (0.2 if start else 10)
            share = f" of {amount(total)}, {100 * done // total} %" if total else ""
            print(f"{start}{one_line(what)}: {amount(done)}{share}", end=end, file=sys.stderr, flush=True)

    try:
        yield redraw
    finally:
        sys.stderr.write(start)
