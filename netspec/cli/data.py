"""`netspec data`: get a data set, or check one."""

import argparse
import sys
from pathlib import Path

from ..data.get import catalogue, prepare
from . import data_check


def add_arguments(parser: argparse.ArgumentParser) -> None:
    choice = parser.add_subparsers(metavar="NAME")
    check = choice.add_parser("check", help="open every image and label", add_help=False, prefix_chars="\0")
    check.add_argument("check", nargs="*")  # options too: its module is imported only where it is called
    for name, data in catalogue().items():
        one = choice.add_parser(name, help=data.what, description=f"{data.what}. Terms: {data.terms}.")
        one.add_argument("--root", type=Path, default=Path(data.root), metavar="DIR", help="the folder to make (%(default)s)")
        one.add_argument("--archives", type=Path, metavar="DIR", help="where its archives are, or are put (ROOT/../archives)")
        one.add_argument("--yes", action="store_true", help="download without asking")
        one.set_defaults(data=data)


def run(args: argparse.Namespace) -> int:
    if "check" in args:
        from ..check import data as datacheck

        parser = argparse.ArgumentParser("netspec data check", description=datacheck.__doc__)
        data_check.add_arguments(parser)
        return data_check.run(parser.parse_args(args.check))
    if "data" in args:
        return prepare(args.data, args.root, args.archives or args.root.parent / "archives", lambda: args.yes or _asked()) or 0
    for name, data in catalogue().items():
        print(f"{name}: {data.what}\n    {data.state(Path(data.root)) or 'there'}: {data.root}")
        print(f"    {'; '.join(map(str, data.archives))}\n    terms: {data.terms}")
    return 0


def _asked() -> bool:
    """Whether somebody at a terminal says yes."""
    if sys.stdin.isatty():
        print("Download? [y/N] ", end="", flush=True)
    return sys.stdin.isatty() and sys.stdin.readline().strip().lower() in ("y", "yes")
