"""`netspec explain-crop`: the arithmetic behind crop offsets."""

import argparse

from ..base.errors import Error
from .finding import find_net
from .options import add_trust_argument
from .terminal import show


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("net", metavar="NET", help="a prototxt, or NAME of models/")
    parser.add_argument("layer", nargs="?", help="one Crop layer (default: all)")
    add_trust_argument(parser)


def run(args: argparse.Namespace) -> int:
    """The `explain-crop` command; 1 if an offset differs from what the maps give."""
    from ..look.crops import explain
    from ..net.deploy import deploy

    graph = deploy(find_net(args.net), losses=True)
    names = [args.layer] if args.layer else [n.name for n in graph.nodes if n.type == "Crop"]
    if not names:
        raise Error(f"{args.net}: the net has no Crop layer")
    found = [explain(graph, name) for name in names]
    show("\n\n".join(each.text for each in found))
    return int(any(each.agrees is False for each in found))
