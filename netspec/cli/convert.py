"""The `convert` command: from and to other frameworks and older Caffes, and to convolutional nets."""

import argparse
import re
from functools import partial
from pathlib import Path

from ..base.errors import Error, count
from ..base.files import find, writing
from ..base.table import table
from ..convert.trunks import ARCHITECTURES, FITTING, INPUTS, KERAS, MEAN_BGR
from .finding import find_net, find_weights, is_named, weights_here
from .options import apart, renamed, size, wrote
from .terminal import say, show


def add_arguments(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="WHAT")
    weights = kinds.add_parser("weights", help="Keras or torchvision weights to a .caffemodel")
    weights.set_defaults(convert=_weights)
    weights.add_argument("old", metavar="FILE", help="Keras .h5, or a state dict in .pth or .safetensors")
    weights.add_argument("new", metavar="OUT", help=".caffemodel, or .caffemodel.h5")
    weights.add_argument("--net", default="vgg16", help=f"one of {', '.join(FITTING)} (default vgg16)")
    weights.add_argument("--input", help=f"what the net was trained on, one of {', '.join(INPUTS)} "
                                         "(default: bgr for Keras, torchvision for torch)")
    for kind, suffix, text in (
            ("onnx", ".onnx", "a net as an ONNX file, held against onnxruntime"),
            ("torch", ".py", "a net as a Python file that needs torch alone, and its weights")):
        other = kinds.add_parser(kind, help=text,
                                 usage=f"%(prog)s [-h] NET.prototxt [WEIGHTS] OUT{suffix} [--size HxW ...]")
        other.set_defaults(convert=_net, suffix=suffix)
        other.add_argument("net", metavar="NET.prototxt",
                           help="any net: data layers become inputs, losses are left off")
        other.add_argument("weights", metavar="WEIGHTS", nargs="?", help="the net's; without, random ones")
        other.add_argument("out", metavar=f"OUT{suffix}", help="the file to write")
        sizes = other.add_argument("--size", nargs="+", default=[], metavar="HxW",
                                   help="image sizes to check (default: 3 that fit)")
        renamed(other, "--sizes", sizes)
    trunk = kinds.add_parser("trunk", help="a classifier of torchvision or Keras as Caffe's net and weights")
    trunk.set_defaults(convert=_trunk)
    trunk.add_argument("file", metavar="FILE",
                       help="a state dict in .pth or .safetensors, or Keras .h5 (ResNets)")
    trunk.add_argument("out", metavar="OUT", help="the folder for deploy.prototxt and ARCH.caffemodel")
    trunk.add_argument("--arch", required=True, help=f"one of {', '.join(ARCHITECTURES)}; "
                       f"for Keras' files {', '.join(KERAS)}")
    trunk.add_argument("--input", help=f"what the net was trained on, one of {', '.join(INPUTS)} "
                                       "(default: by FILE and ARCH)")
    transplant = kinds.add_parser("transplant", help="weights of several files into one, under a net's names")
    transplant.set_defaults(convert=_transplant)
    transplant.add_argument("net", metavar="NET.prototxt")
    transplant.add_argument("out", metavar="OUT", help="the weights to write: the layers that got any")
    transplant.add_argument("files", nargs="+", metavar="FILE[:SUFFIX|:OLD=NEW]",
                            help="weights; names get the suffix, or one layer another name")
    transplant.add_argument("--rescale", action="store_true", help="where a layer gets more inputs, make its "
                            "weights as much smaller: sums keep their size")
    upgrade = kinds.add_parser("upgrade", help="a net, a solver or weights of an older Caffe to today's form")
    upgrade.set_defaults(convert=lambda args: upgrade_file(args.old, args.new))
    upgrade.add_argument("old", metavar="OLD", help="net or solver .prototxt, or .caffemodel")
    upgrade.add_argument("new", metavar="NEW", help="the file to write")
    _add_bn(kinds)
    fcn = kinds.add_parser("fcn", help="a classifier to a fully convolutional net, with the proof that it "
                                       "computes the same")
    fcn.set_defaults(convert=_fcn)
    fcn.add_argument("old", metavar="CLASSIFIER", help="a prototxt; its data need not be there")
    fcn.add_argument("weights", metavar="WEIGHTS", nargs="?",
                     help="the classifier's; without, random numbers do for the proof")
    out = fcn.add_argument("new", metavar="OUT.prototxt", nargs="?",
                           help="the net to write (default CLASSIFIER-fcn.prototxt, beside it)")
    renamed(fcn, "--out", out)
    fcn.add_argument("--out-weights", metavar="FILE",
                     help="the weights to write (default: beside OUT.prototxt, named as it)")


def _add_bn(kinds: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    bn = kinds.add_parser("bn", aliases=["bn-stats"],
                          help="weights of SegNet's BN layers to those of its inference nets")
    bn.set_defaults(convert=_bn)
    bn.add_argument("net", metavar="NET.prototxt", help="the training net; its data are read")
    bn.add_argument("weights", metavar="WEIGHTS", help="a snapshot of it")
    bn.add_argument("out", metavar="OUT", help="the weights to write")
    bn.add_argument("--batches", type=int, metavar="N", help="to take mean and variance of (default: those "
                    "that give each image once)")
    bn.add_argument("--unbiased", action="store_true", help="variances times m / (m - 1), m values a batch")
    bn.add_argument("--device", default="cpu", help="cpu, cuda, cuda:N or mps (default cpu)")
    merge = kinds.add_parser("merge-bn", help="batch norms and scales into the convolutions before them, "
                                              "with the proof that the net computes the same")
    merge.set_defaults(convert=_merge_bn)
    merge.add_argument("net", metavar="NET", help="any net: data layers become inputs, losses are left off")
    merge.add_argument("weights", metavar="WEIGHTS", help="the net's")
    merge.add_argument("new", metavar="OUT.prototxt", help="the net to write")
    merge.add_argument("out", metavar="OUT.caffemodel", help="the weights to write")


def run(args: argparse.Namespace) -> int:
    """Convert; 1 if what was made does not compute what it was made from, 0 if it does.

    Raises Error for what cannot be converted.
    """
    return args.convert(args) or 0


def _weights(args: argparse.Namespace) -> None:
    from ..convert.importers import import_layers, rows_of
    from ..proto.model import write_weights

    layers = import_layers(find(args.old), args.net, args.input)
    found = {layer.name: (layer.type, layer.blobs) for layer in layers}
    write_weights(args.new, args.net, found, hdf5=args.new.endswith(".h5"))
    rows = [(layer.name, layer.source, " + ".join("x".join(map(str, blob.shape)) for blob in layer.blobs))
            for layer in layers]
    rows += [(row.caffe, "(not in the file)", "") for row in rows_of(args.net) if row.caffe not in found]
    show(table(rows))
    wrote(args.new)


def _net(args: argparse.Namespace) -> int:
    """Write a net for another framework, and say how what was written has been held against it."""
    from ..convert import agree, onnx, totorch
    from ..net.deploy import deploy

    write = onnx.write_onnx if args.kind == "onnx" else partial(totorch.write_torch, origin=args.net)
    out = Path(args.out)
    if out.suffix != args.suffix:  # no weights file is overwritten by a slip
        given = " ".join(filter(None, (args.net, args.weights, args.out)))
        raise Error(f"expected NET [WEIGHTS] OUT{args.suffix}, found {given}")
    asked = [_size(text) for text in args.size]
    path = find_net(args.net)
    graph = deploy(path, size=asked[0] if asked else None)
    weights = find_weights(args.weights, path) if args.weights or is_named(args.net, path) else None
    net = agree.filled(graph, weights, say=say)
    fixed = agree.fixed_axes(graph)
    if fixed:
        say(f"{', '.join(fixed)} as in the net, since {next(iter(fixed.values()))}; `netspec convert fcn` "
            "makes a classifier take any size")
    # an image's deviation; under random weights it would saturate a softmax, where any two agree
    found, said = write(net, out, agree.sizes_to_check(graph, asked), 60.0 if weights else 1.0)
    say(f"{'output':20}  {'N x H x W':14}  {'shape':20}  {'largest':>10}  {'difference':>10}")
    for row in found:
        remark = "  DIFFERS" if not row.fits else "" if row.largest else "  all 0, which proves nothing"
        if row.elsewhere:
            maxima = "1 maximum" if row.elsewhere == 1 else f"{row.elsewhere} maxima"
            remark += f"  with {maxima} taken elsewhere, equal but for rounding"
        say(f"{row.blob:20}  {'x'.join(map(str, row.size)):14}  {'x'.join(map(str, row.shape)):20}  "
            f"{row.largest:10.4g}  {row.apart:10.2g}{remark}")
    say(said)
    if all(row.fits for row in found):
        wrote(out, *([] if args.kind == "onnx" else [out.with_suffix(".safetensors")]))
    return int(not all(row.fits for row in found))


def _size(text: str) -> tuple[int, int]:
    try:
        return size(text)
    except ValueError:
        raise Error(f"'{text}' is no size; write HEIGHTxWIDTH, such as 500x375") from None


def _trunk(args: argparse.Namespace) -> None:
    from ..convert.importers import import_trunk
    from ..net.weights import save
    from ..proto.text import write

    path, out = find(args.file), Path(args.out)
    proto, net = import_trunk(path, args.arch, args.input)
    text, model = out / "deploy.prototxt", out / f"{args.arch}.caffemodel"
    save(model, net)
    write(text, proto, header=f"Written by `netspec convert trunk` from {path.name} ({args.arch}).\n"
          f"Takes BGR in 0..255 minus {MEAN_BGR}, 224 x 224.")
    numbers = sum(p.numel() for p in net.parameters())
    wrote(text, model, note=f"{count(len(net.layers_with_params()), 'layer')}, {numbers} parameters")


def _transplant(args: argparse.Namespace) -> None:
    from ..net import deploy, module, weights
    from ..proto.model import read_weights, write_weights

    net_file = find_net(args.net)
    net = module.Net(deploy.deploy(net_file, losses=True))
    filled = set()
    for given in args.files:
        name, _, change = given.partition(":")
        path = find_weights(name, net_file)
        try:
            rows = weights.transplant(net, read_weights(path), change, args.rescale)
        except Error as e:
            raise Error(f"{given}: {e}") from None
        filled |= {row[0] for row in rows}
        say(*(f"{layer} <- {old} of {path} {shapes}" for layer, old, shapes in rows))
    write_weights(args.out, net.graph.name, {k: v for k, v in weights.layers_of(net).items() if k in filled},
                  hdf5=args.out.endswith(".h5"))
    left = [name for name in net.layers_with_params() if name not in filled]
    wrote(args.out, note=f"{count(len(filled), 'layer')}; without weights: {', '.join(left) or 'none'}")


def upgrade_file(old: str, new: str, kind: str = "") -> None:
    """Write a file of an older Caffe in today's form.

    kind: what it is, "a net in text", "a solver in text" or "a net in binary"; Error if it is another.
    """
    from ..proto import model, text, upgrade, wire
    from ..proto.caffe_pb2 import NetParameter, SolverParameter

    path = find(old)
    made: NetParameter | SolverParameter
    readable = wire.is_text(wire.head(path))
    if readable:
        content = text.read_text(path)
        if not re.sub("#.*", "", content).strip():  # without comments
            raise Error(f"{path}: is empty; expected a net, a solver or weights")
        if text.SOLVER.search(content):
            made = text.parse(content, SolverParameter, str(path))
            upgrade.upgrade_solver(made, str(path))
        else:
            made = text.read_net(path)
    else:
        made = model.read_net(path)
    what = count(len(made.layer), "layer") if isinstance(made, NetParameter) else "solver"
    found = f"a {'net' if isinstance(made, NetParameter) else 'solver'} in {'text' if readable else 'binary'}"
    if kind not in ("", found):
        raise Error(f"{path}: is {found}; expected {kind}")
    if readable:
        text.write(new, made)
    else:
        with writing(new) as out:
            out.write(made.SerializeToString())
    wrote(new, note=what)


def _bn(args: argparse.Namespace) -> None:
    from ..base.machine import choose
    from ..convert.folded import folded
    from ..proto.model import write_weights

    if args.batches is not None and args.batches < 1:
        raise Error(f"--batches must be at least 1, found {args.batches}")
    path = find_net(args.net, "train")
    made = folded(path, find_weights(args.weights, path), args.batches, args.unbiased, choose(args.device))
    show(table([[name, len(each.mean), *(f"{number:.4g}" for number in (
        each.mean.min(), each.mean.max(), each.variance.min(), each.variance.max()))]
        for name, each in made.statistics.items()],
        ["layer", "channels", "least mean", "greatest", "least variance", "greatest"]))
    write_weights(args.out, made.name, made.layers, hdf5=args.out.endswith(".h5"))
    batches = f"{made.batches} batch" + "es" * (made.batches != 1)
    wrote(args.out, note=f"{count(len(made.statistics), 'BN layer')}, {batches}")


def _merge_bn(args: argparse.Namespace) -> int:
    from ..convert.fcn import ROUNDING
    from ..convert.merged import merged
    from ..net.weights import save
    from ..proto.text import write

    path = find_net(args.net)
    given = find_weights(args.weights, path)
    apart("OUT.prototxt", args.new, [path, given])
    apart("OUT.caffemodel", args.out, [path, given, args.new])
    made = merged(path, given)
    show(table([[row.blob, " + ".join(row.layers), f"{row.apart:.2g}", f"{row.written:.2g}",
                 f"{row.most:.4g}"] for row in made.rows],
               ["blob", "merged", "largest difference", "with float32 weights", "largest value"]))
    say(*(f"{name} stays: {why}" for name, why in made.left.items()))
    if not all(row.apart <= ROUNDING * row.most for row in made.rows):
        say(f"not equal: a difference is above {ROUNDING:g} of the largest value, so nothing is written")
        return 1
    header = f"{args.net} with layers merged by 'netspec convert merge-bn'."
    write(args.new, made.net.graph.proto, header=header)
    save(args.out, made.net, hdf5=args.out.endswith(".h5"))
    number = count(sum(len(row.layers) for row in made.rows), "layer")
    wrote(args.new, args.out,
          note=f"{number} merged, equal in float64 within {ROUNDING:g} of the largest value")
    return 0


def _fcn(args: argparse.Namespace) -> int:
    from ..convert.fcn import ROUNDING, convolutional
    from ..net.weights import save
    from ..proto.text import write

    if args.weights and not args.new and args.weights.endswith(".prototxt"):
        args.weights, args.new = None, args.weights
    path = find_net(args.old)
    given = find_weights(args.weights, path) if args.weights else weights_here(args.old, path)
    if args.out_weights and not given:
        raise Error("--out-weights needs WEIGHTS to convert")
    proto, net, layers, dropped, rows = convolutional(path, given)
    size = "x".join(map(str, net.graph.shape(net.graph.inputs[0])[2:]))
    say(f"made convolutional: {', '.join(layers)}; left out: {', '.join(dropped) or 'nothing'}",
        f"2 random images of {size}, {f'weights of {given}' if given else 'random weights'}, "
        "float64:", "")
    show(table([[blob, f"{apart:.2g}", f"{most:.4g}"] for blob, apart, most in rows],
                ["blob", "largest difference", "largest value"]))
    if not all(apart <= ROUNDING * most for _, apart, most in rows):
        say(f"not equal: a difference is above {ROUNDING:g} of the largest value, so nothing is written")
        return 1
    beside = Path(path.parent.name) if is_named(args.old, path) else path  # of a name, in the current folder
    out = Path(args.new or args.out or beside.with_name(f"{beside.stem}-fcn.prototxt"))
    write(out, proto, header=f"{args.old} made convolutional by 'netspec convert fcn'.")
    weights = [args.out_weights or out.with_suffix(".caffemodel")] if given else []
    for file in weights:
        save(file, net)
    wrote(out, *weights, note=f"equal within {ROUNDING:g} of the largest value")
    return 0
