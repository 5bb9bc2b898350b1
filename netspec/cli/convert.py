"""The `convert` command: other frameworks' weights, nets and solvers of older Caffes, classifiers to convolutional nets."""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

import torch
from google.protobuf.message import DecodeError

from ..base.errors import Error
from ..base.files import find, writing
from ..base.table import table
from ..convert import agree as export
from ..convert import importers, totorch, trunks
from ..convert import onnx as onnxfile
from ..net import rewrite as convolutional
from ..net import weights as weightfiles
from ..net.build import build
from ..net.deploy import deploy
from ..net.module import Net
from ..proto import text as prototext
from ..proto.caffe_pb2 import NetParameter, SolverParameter
from ..proto.model import read_weights, write_weights
from ..proto.upgrade import upgrade_net, upgrade_solver
from ..proto.wire import WireFile, head, is_text

ROUNDING = 1e-6  # of a blob's largest value: float32's rounding, which the two nets, run in float64, stay far below


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
    onnx = kinds.add_parser("onnx", help="a net as an ONNX file, held against onnxruntime")
    export.add_arguments(onnx, ".onnx")
    onnx.set_defaults(convert=onnxfile.convert)
    torch_ = kinds.add_parser("torch", help="a net as a Python file that needs torch alone, and its weights")
    export.add_arguments(torch_, ".py")
    torch_.set_defaults(convert=totorch.convert)
    trunk = kinds.add_parser("trunk", help="a classifier of torchvision or Keras as Caffe's net and weights")
    trunks.add_arguments(trunk)
    trunk.set_defaults(convert=trunks.run)
    transplant = kinds.add_parser("transplant", help="weights of several files into one, under the names of a net")
    transplant.add_argument("net", metavar="NET.prototxt")
    transplant.add_argument("out", metavar="OUT", help="the weights to write: the layers that got any")
    transplant.add_argument("files", nargs="+", metavar="FILE[:SUFFIX|:OLD=NEW]",
                            help="weights; names get the suffix, or one layer another name")
    transplant.set_defaults(convert=_transplant)
    upgrade = kinds.add_parser("upgrade", help="a net, a solver or weights of an older Caffe to today's form")
    upgrade.add_argument("old", metavar="OLD", help="net or solver .prototxt, or .caffemodel")
    upgrade.add_argument("new", metavar="NEW", help="the file to write")
    upgrade.set_defaults(convert=_upgrade)
    fcn = kinds.add_parser("fcn", help="a classifier to a fully convolutional net, with the proof that it computes the same")
    fcn.add_argument("old", metavar="CLASSIFIER", help="a prototxt; its data need not be there")
    fcn.add_argument("weights", metavar="WEIGHTS", nargs="?", help="the classifier's; without, random numbers do for the proof")
    fcn.add_argument("--out", metavar="NET", help="the prototxt to write (default CLASSIFIER-fcn.prototxt, beside it)")
    fcn.add_argument("--out-weights", metavar="FILE", help="the weights to write (default: beside NET, named as it)")
    fcn.set_defaults(convert=_fcn)


def run(args: argparse.Namespace) -> int:
    """Convert; 1 if what was made does not compute what it was made from does. What cannot be done raises Error."""
    return args.convert(args) or 0


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
    if not text.strip():
        raise Error(f"{path}: is empty; expected a net, a solver or weights")
    if re.search(r"(?m)^\s*(layers?|input)\b", text):
        net = prototext.parse(text, NetParameter, str(path))
        upgrade_net(net, str(path))
        prototext.write(new, net)
        return f"{len(net.layer)} layers -> {new}"
    solver = prototext.parse(text, SolverParameter, str(path))
    upgrade_solver(solver, str(path))
    prototext.write(new, solver)
    return f"solver -> {new}"


def _fcn(args: argparse.Namespace) -> int:
    path = find(args.old, what="net")
    if args.out_weights and not args.weights:
        raise Error("--out-weights needs WEIGHTS to convert")
    old = Net(deploy(path, losses=True))
    form, layers, dropped = convolutional.convolutionalise(old.graph)
    new = Net(build(form))
    if args.weights:
        left = weightfiles.load(find(args.weights, what="weights"), old.layers_with_params()).missing
        if left:
            raise Error(f"{args.weights}: has no weights for layer {', '.join(left)} of {path}")
    else:
        convolutional.randomise(old)
    convolutional.share_reshaped(old.double(), new)
    blobs = [*(new.graph.node(name).tops[0].blob for name in layers), *new.graph.outputs]
    rows = compare(old, new, list(dict.fromkeys(blobs)))
    equal = all(apart <= ROUNDING * most for _, apart, most in rows)
    size = "x".join(map(str, old.graph.shape(new.graph.inputs[0])[2:]))
    print(f"made convolutional: {', '.join(layers)}; left out: {', '.join(dropped) or 'nothing'}\n"
          f"2 random images of {size}, {'weights of ' + args.weights if args.weights else 'random weights'}, float64:\n")
    print(table([[blob, f"{apart:.2g}", f"{most:.4g}"] for blob, apart, most in rows],
                       ["blob", "largest difference", "largest value"]))
    if not equal:
        print(f"not equal: a difference is above {ROUNDING:g} of the largest value, so nothing is written")
        return 1
    out = Path(args.out or path.with_name(f"{path.stem}-fcn.prototxt"))
    prototext.write(out, form, header=f"{args.old} made convolutional by 'netspec convert fcn'.")
    print(f"equal within {ROUNDING:g} of the largest value -> {out}")
    if args.weights:
        weightfiles.save(args.out_weights or out.with_suffix(".caffemodel"), new.float())
        print(f"-> {args.out_weights or out.with_suffix('.caffemodel')}")
    return 0


def _transplant(args: argparse.Namespace) -> None:
    """Weights of several files, under the names of one net."""
    net = Net(deploy(find(args.net, what="net"), losses=True))
    filled = set()
    for given in args.files:
        name, _, change = given.partition(":")
        path = find(name, what="weights")
        try:
            rows = weightfiles.transplant(net, read_weights(path), change)
        except Error as e:
            raise Error(f"{given}: {e}") from None
        filled |= {row[0] for row in rows}
        print("\n".join(f"{layer} <- {old} of {path} {shapes}" for layer, old, shapes in rows))
    write_weights(args.out, net.graph.name, {k: v for k, v in weightfiles.layers_of(net).items() if k in filled},
                  hdf5=args.out.endswith(".h5"))
    left = [name for name in net.layers_with_params() if name not in filled]
    print(f"{len(filled)} layers -> {args.out}; without weights: {', '.join(left) or 'none'}")


def compare(old: Net, new: Net, blobs: Sequence[str], seed: int = 0) -> list[tuple[str, float, float]]:
    """Both nets, in float64, on two random images of the classifier's size: (blob, largest difference, largest value)."""
    generator = torch.Generator().manual_seed(seed)
    inputs = {blob: torch.zeros(2, *old.graph.shape(blob)[1:], dtype=torch.float64) for blob in old.graph.inputs}
    for blob in new.graph.inputs:
        inputs[blob].normal_(0, 50, generator=generator)
    with torch.no_grad():
        ours, theirs = (net({blob: inputs[blob] for blob in net.graph.inputs}, want=blobs) for net in (new, old))
    return [(blob, float((ours[blob].reshape(theirs[blob].shape) - theirs[blob]).abs().max()),
             float(theirs[blob].abs().max())) for blob in blobs]
