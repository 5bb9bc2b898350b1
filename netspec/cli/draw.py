"""`netspec draw`: a picture of a net's layers, or of nets in the manner of the paper's Figure 3."""

import argparse

from ..base.errors import Error
from .finding import find_net
from .options import add_trust_argument, size, wrote


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("nets", nargs="+", metavar="NET",
                        help="a prototxt, or NAME of models/; its data need not be there")
    parser.add_argument("--out", required=True, metavar="FILE", help="to write: .svg, .png or .pdf")
    parser.add_argument("--style", choices=("layers", "figure3"), default="layers", help="layers: every "
                        "layer (default); figure3: the streams of predictions, several nets in one picture")
    parser.add_argument("--size", type=size, metavar="HxW", help="of the data, as in describe")
    add_trust_argument(parser)


def run(args: argparse.Namespace) -> int:
    from ..look.diagram import draw_layers
    from ..look.figure3 import draw_figure3
    from ..net.deploy import deploy

    graphs = [deploy(find_net(net), size=args.size, losses=True) for net in args.nets]
    if args.style == "layers" and len(graphs) > 1:
        raise Error(f"draws the layers of one net, {len(graphs)} given; several go with --style figure3")
    (draw_figure3(graphs) if args.style == "figure3" else draw_layers(graphs[0])).save(args.out)
    wrote(args.out)
    return 0
