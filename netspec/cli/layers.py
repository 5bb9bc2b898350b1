"""`netspec layers`: every layer type with what it takes, what it gives and what it computes."""

import argparse

from ..base.errors import closest
from ..base.files import find
from .terminal import say, show


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("type", nargs="*", help="only these types")
    parser.add_argument("--markdown", action="store_true", help="as the page docs/layers.md")
    parser.add_argument("--results", metavar="FOLDER", help="count the nets in this folder that Caffe has "
                        "run (tests/golden)")


def run(args: argparse.Namespace) -> int:
    """The `layers` command; 1 if a type that is asked for is not known."""
    from ..look.layer_types import count_results, entries, markdown, plain
    from ..ops.own import load

    own = [kind for module in args.ops for kind in load(module)]
    found = entries(count_results(find(args.results, what="results")) if args.results else None, own)
    known = {entry.type for entry in found if entry.family != "missing"}
    unknown = [name for name in args.type if name not in known]
    if args.type:
        found = [entry for entry in found if entry.type in args.type]
    if found:
        show(markdown(found) if args.markdown else plain(found))
    for name in unknown:
        say(f"'{name}' is not known{closest(name, known)}")
    return int(bool(unknown))
