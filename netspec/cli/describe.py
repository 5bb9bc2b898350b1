"""`netspec describe`: what each layer costs and sees of the data."""

import argparse
import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..base.errors import Error
from ..base.files import find
from ..base.table import table
from ..look.costs import BYTES, Row, _pixels, rows, table1, text, totals
from ..net.deploy import deploy
from ..proto import caffe_pb2
from .options import size


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = ("field: how many pixels of the data a cell of the layer's top sees; stride: how far off the next cell's "
                     "lie; offset: where the first cell's begin, negative in the padding. MACs: of convolutions and products.")
    parser.add_argument("nets", nargs="+", metavar="NET.prototxt", help="its data need not be there")
    parser.add_argument("--size", type=size, metavar="HxW",
                        help="of the data (default: an Input's own or the crop_size, else 500x500)")
    parser.add_argument("--phase", choices=("TEST", "TRAIN"), default="TEST", help="default TEST")
    parser.add_argument("--layer", metavar="NAME", help="only this layer")
    parser.add_argument("--table1", action="store_true", help="the lower rows of the paper's Table 1, one column a net")
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument("--csv", action="store_true", help="exact numbers, one line a layer")
    kinds.add_argument("--json", action="store_true", help="the same with the totals")


def run(args: argparse.Namespace) -> int:
    """The `describe` command."""
    graphs = [deploy(find(net, what="net"), caffe_pb2.Phase.Value(args.phase), args.size, losses=True)
              for net in args.nets]
    if args.table1:
        names = [graph.name or Path(net).resolve().parent.name for graph, net in zip(graphs, args.nets, strict=True)]
        names = names if len(set(names)) == len(names) else args.nets
        print(_columns(dict(zip(names, map(table1, graphs), strict=True)), args))
        return 0
    if len(graphs) > 1:
        raise Error(f"describes one net at a time, {len(graphs)} given; several go with --table1")
    (graph,) = graphs
    found = [row for row in rows(graph) if args.layer in (None, row.layer)]
    if not found:
        graph.node(args.layer)  # which says what is nearest
    total = totals(graph)
    if args.csv:
        lines = ([*row[:3], "x".join(map(str, row.shape)), *row[4:7], *map(_pixels, row[7:])] for row in found)
        print(_csv([Row._fields, *lines]))
    elif args.json:
        print(json.dumps(dict(net=graph.name, layers=[row._asdict() for row in found], totals=total), indent=1))
    else:
        print(text(graph, found))
        if not args.layer:
            print(f"\n{total['parameters']:,} parameters ({total['parameters'] * BYTES / 2**20:.1f} MiB), "
                  f"{total['macs'] / 1e9:.2f} G MACs, blobs {total['forward'] / 2**20:.1f} MiB at most in a forward pass, "
                  f"{total['training'] / 2**20:.1f} MiB with all gradients for training")
    return 0


def _columns(nets: Mapping[str, dict[str, Any]], args: argparse.Namespace) -> str:
    names = list(next(iter(nets.values())))
    if args.json:
        return json.dumps(nets, indent=1)
    lines = [[name, *(column[name] for column in nets.values())] for name in names]
    if args.csv:
        return _csv([["", *nets], *lines])
    shown = [[name, *(f"{v / 1e6:.0f}M" if name == "parameters" else v for v in values)] for name, *values in lines]
    return table(shown, ["", *nets])


def _csv(lines: Sequence[Sequence[Any]]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(lines)
    return out.getvalue().rstrip("\n")
