"""The `convert` command: other frameworks' weights, and nets and solvers of older Caffes."""

import argparse
import re
from pathlib import Path

from google.protobuf.message import DecodeError

from . import importers, prototext
from .errors import Error
from .files import find, writing
from .proto.caffe_pb2 import NetParameter, SolverParameter
from .upgrade import upgrade_net, upgrade_solver
from .weights import read_weights
from .wirefile import WireFile, head, is_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="WHAT")
    weights = kinds.add_parser("weights", help="Keras or torchvision weights to a .caffemodel")
    weights.add_argument("old", metavar="FILE", help="Keras .h5, or a state dict in .pth or .safetensors")
    weights.add_argument("new", metavar="OUT", help=".caffemodel, or .caffemodel.h5")
    weights.add_argument("--net", default="vgg16", help=f"one of {', '.join(importers.NETS)} (default vgg16)")
    weights.add_argument(
        "--input",
        help=f"what the net was trained on, one of {', '.join(importers.INPUTS)} (default: bgr for Keras, "
        "torchvision for torch)",
    )
    weights.set_defaults(convert=_weights)
    upgrade = kinds.add_parser("upgrade", help="a net, a solver or weights of an older Caffe to today's form")
    upgrade.add_argument("old", metavar="OLD", help="net or solver .prototxt, or .caffemodel")
    upgrade.add_argument("new", metavar="NEW", help="the file to write")
    upgrade.set_defaults(convert=_upgrade)


def run(args: argparse.Namespace) -> int:
    """Convert; 0, for what cannot be done raises Error."""
    args.convert(args)
    return 0


def _weights(args: argparse.Namespace) -> None:
    print(importers.convert(args.old, args.new, args.net, args.input))
    print(f"-> {args.new}")


def _upgrade(args: argparse.Namespace) -> None:
    path = find(args.old)
    if is_text(head(path)):
        print(_upgrade_text(path, args.new))
        return
    read_weights(path)  # refuses what is damaged or impossible
    file = WireFile(path, "weights")
    try:
        net = NetParameter.FromString(file.data[:])
    except DecodeError as problem:
        raise Error(f"{path}: cannot be read ({problem}); the file is damaged: get it again") from None
    upgrade_net(net, str(path))
    with writing(args.new) as out:
        out.write(net.SerializeToString())
    print(f"{len(net.layer)} layers -> {args.new}")


def _upgrade_text(path: Path, new: str) -> str:
    text = prototext.read_text(path)
    if re.search(r"(?m)^\s*(layers?|input)\b", text):
        net = prototext.parse(text, NetParameter, str(path))
        upgrade_net(net, str(path))
        prototext.write(new, net)
        return f"{len(net.layer)} layers -> {new}"
    solver = prototext.parse(text, SolverParameter, str(path))
    upgrade_solver(solver, str(path))
    prototext.write(new, solver)
    return f"solver -> {new}"
