"""`netspec describe`: what each layer costs and sees of the data."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from ..base.errors import Error
from ..base.table import as_csv, table
from .finding import find_net
from .options import add_trust_argument, note, size, tell_opaque
from .terminal import give, show

if TYPE_CHECKING:
    from ..net.graph import Graph


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = ("field: how many pixels of the data a cell of the layer's top sees; stride: how far the "
                     "next cell's lie from them; offset: where the first cell's begin, negative in the "
                     "padding. MACs: of convolutions and products.")
    parser.add_argument("nets", nargs="+", metavar="NET",
                        help="a prototxt, or NAME of models/; its data need not be there")
    parser.add_argument("--size", type=size, metavar="HxW",
                        help="of the data (default: what their layers state, else 500x500)")
    parser.add_argument("--phase", choices=("TEST", "TRAIN"), default="TEST", help="default TEST")
    add_trust_argument(parser)
    parser.add_argument("--layer", metavar="NAME", help="only this layer")
    parser.add_argument("--table1", action="store_true",
                        help="the lower rows of the paper's Table 1, a column for each net")
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument("--csv", action="store_true", help="exact numbers, one line a layer")
    kinds.add_argument("--json", action="store_true", help="the same with the totals")


def run(args: argparse.Namespace) -> int:
    from ..net.deploy import deploy, sized
    from ..proto.caffe_pb2 import TEST, TRAIN

    phase = TRAIN if args.phase == "TRAIN" else TEST
    graphs = [deploy(find_net(net), phase, args.size, losses=True, opaque=True) for net in args.nets]
    for graph in graphs:
        tell_opaque(graph)
        if not args.size and not sized(graph.proto, phase):
            note("nothing here says how large images are, so that is a guess here; --size HxW gives another")
    if len(graphs) > 1 and not args.table1:
        raise Error(f"describes one net at a time, {len(graphs)} given; several go with --table1")
    (give if args.csv else show)(_columns(graphs, args) if args.table1 else _rows(graphs[0], args))
    return 0


def _rows(graph: "Graph", args: argparse.Namespace) -> str:
    from ..look.costs import LayerCost, cost_table, in_all, layer_costs, pixels, shaped, totals

    found = [cost for cost in layer_costs(graph) if args.layer in (None, cost.layer)]
    if not found:
        graph.node(args.layer)  # which says what is nearest
    if args.csv:
        lines = ([*c[:3], shaped(c.shape, "x"), *c[4:7], *map(pixels, c[7:])] for c in found)
        return as_csv([LayerCost._fields, *lines])
    total = totals(graph)
    if args.json:
        return json.dumps(dict(net=graph.name, layers=[c._asdict() for c in found], totals=total), indent=1)
    if args.layer:
        return cost_table(graph, found)
    return f"{cost_table(graph, found)}\n\n{in_all(total, bool(graph.opaque))}"


def _columns(graphs: "list[Graph]", args: argparse.Namespace) -> str:
    from ..look.costs import table1

    names = [graph.name or Path(net).resolve().parent.name
             for graph, net in zip(graphs, args.nets, strict=True)]
    names = names if len(set(names)) == len(names) else args.nets
    nets = dict(zip(names, map(table1, graphs), strict=True))
    if args.json:
        return json.dumps(nets, indent=1)
    lines = [[fact, *(column[fact] for column in nets.values())] for fact in nets[names[0]]]
    if args.csv:
        return as_csv([["", *nets], *lines])
    for line in lines:
        line[1:] = [f"{value / 1e6:.0f}M" if line[0] == "parameters" else value for value in line[1:]]
    return table(lines, ["", *nets])
