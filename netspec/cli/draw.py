"""`netspec draw`: a picture of a net's layers, of nets in the manner of the paper's Figure 3, or of what is
in one."""

import argparse

from ..base.errors import Error
from .finding import find_net, find_weights, is_weights
from .infer import three
from .options import add_trust_argument, apart, ending, only, size, tell_opaque, wrote


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = ("%(prog)s NET ... --out FILE [options]\n       "
                    "%(prog)s NET [WEIGHTS] --kernels LAYER --out FILE.png [options]\n       "
                    "%(prog)s NET [WEIGHTS] IMAGE --activations BLOB --out FILE.png [options]")
    parser.add_argument("nets", nargs="+", metavar="NET",
                        help="a prototxt, or NAME of models/; its data need not be there. With --kernels and "
                        "--activations one, and behind it WEIGHTS (default: what `netspec weights` has of "
                        "the net's name) and IMAGE")
    parser.add_argument("--out", required=True, metavar="FILE", help="to write: .svg, .png or .pdf")
    parser.add_argument("--style", choices=("layers", "figure3"), default="layers", help="layers: every "
                        "layer (default); figure3: the streams of predictions, several nets in one picture")
    parser.add_argument("--size", type=size, metavar="HxW", help="of the data, as in describe")
    inside = parser.add_mutually_exclusive_group()
    inside.add_argument("--kernels", metavar="LAYER",
                        help="the kernels of a convolution or deconvolution: in colour where it reads the "
                        "image, else a grey tile for each output and input")
    inside.add_argument("--activations", metavar="BLOB",
                        help="the channels of a blob for an image, which goes in as in infer: grey tiles in "
                        "order, each from its own least to its own most; of more than 256 the strongest")
    parser.add_argument("--mean", type=three, metavar="B,G,R",
                        help="with --activations: to subtract from the image (0 to 255; default: what the "
                        "net says)")
    parser.add_argument("--device", help="with --activations: cpu, cuda, cuda:N or mps (default: a GPU if "
                        "there is one)")
    add_trust_argument(parser)


def run(args: argparse.Namespace) -> int:
    from ..look.diagram import draw_layers
    from ..look.figure3 import draw_figure3
    from ..net.deploy import deploy

    inside = bool(args.kernels or args.activations)
    only(args, add_arguments, ("style", "size") if inside else ("mean", "device"),
         f"goes {'without' if inside else 'with'} --kernels and --activations")
    if inside:
        return _inside(args)
    graphs = [deploy(find_net(net), size=args.size, losses=True, opaque=True) for net in args.nets]
    for graph in graphs:
        tell_opaque(graph)
    if args.style == "layers" and len(graphs) > 1:
        raise Error(f"draws the layers of one net, {len(graphs)} given; several go with --style figure3")
    (draw_figure3(graphs) if args.style == "figure3" else draw_layers(graphs[0])).save(args.out)
    wrote(args.out)
    return 0


def _inside(args: argparse.Namespace) -> int:
    from ..look.inside import draw_channels, draw_kernels
    from ..look.pictures import save
    from ..score.loaded import PRETRAINED, load

    ending("--out", args.out, ".png")
    path, images = find_net(args.nets[0], "deploy"), args.nets[1:]
    given = images.pop(0) if images and is_weights(images[0]) else None
    if len(images) != bool(args.activations):
        raise Error(f"--activations draws one image, {len(images)} given" if args.activations else
                    f"--kernels takes NET [WEIGHTS], and '{images[0]}' is neither")
    apart("--out", args.out, images)
    weights = find_weights(given, path)
    net = load(path, weights if given else PRETRAINED, args.device)
    if args.kernels:
        picture, words = draw_kernels(net, args.kernels)
    else:
        net.preprocess.mean = args.mean or net.preprocess.mean
        if net.preprocess.mean is None:
            raise Error(f"{args.nets[0]} does not say which mean to subtract: give --mean B,G,R")
        picture, words = draw_channels(net.activations(images[0], args.activations), args.activations)
    save(args.out, picture)
    wrote(args.out, note=words)
    return 0
