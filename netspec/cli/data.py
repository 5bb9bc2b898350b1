"""`netspec data`: get a data set, or check one."""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from ..base.machine import amount
from ..data.get import catalogue, prepare
from . import data_check


def add_arguments(parser: argparse.ArgumentParser) -> None:
    choice = parser.add_subparsers(metavar="NAME")
    check = choice.add_parser("check", help="open every image and label",
                              description="Open every image and label once, and say what is wrong.")
    data_check.add_arguments(check)
    check.set_defaults(what=data_check.run)
    for name, data in catalogue().items():
        one = choice.add_parser(name, help=data.what, description=f"{data.what}. Terms: {data.terms}.")
        one.add_argument("--root", type=Path, default=Path(data.root), metavar="DIR",
                         help="the folder to make (%(default)s)")
        one.add_argument("--archives", type=Path, metavar="DIR",
                         help="where its archives are, or are put (ROOT/../archives)")
        one.add_argument("--yes", action="store_true", help="download without asking")
        one.set_defaults(what=_get, data=data)
    parser.set_defaults(what=_list)


def run(args: argparse.Namespace) -> int:
    return args.what(args)


def _get(args: argparse.Namespace) -> int:
    archives = args.archives or args.root.parent / "archives"
    prepare(args.data, args.root, archives, lambda: args.yes or _asked(), partial(print, flush=True), _meter)
    return 0


def _list(args: argparse.Namespace) -> int:
    for name, data in catalogue().items():
        print(f"{name}: {data.what}\n    {data.state(Path(data.root)) or 'there'}: {data.root}")
        print(f"    {'; '.join(map(str, data.archives))}\n    terms: {data.terms}")
    return 0


def _asked() -> bool:
    """Whether somebody at a terminal says yes."""
    if not sys.stdin.isatty():
        return False
    print("Download? [y/N] ", end="", flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


@contextmanager
def _meter(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A Meter: one line that is redrawn on a terminal, a line every 10 s elsewhere."""
    due, (start, end) = 0.0, ("\r\x1b[K", "") if sys.stderr.isatty() else ("", "\n")

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
