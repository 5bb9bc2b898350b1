"""`netspec diff-net`: compare two nets, or a net with figure 3."""

import argparse
import re

from ..base.errors import Error
from . import options
from .finding import find_net
from .terminal import say

COLOURS = {"@": 36, "-": 31, "+": 32}
ROWS = {"own": None, "32s": 32, "16s": 16, "8s": 8}  # what --figure3 takes -> stride


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("nets", metavar="NET", nargs="*",
                        help="prototxt, NAME of models/, or FILE.py:NAME[/SPLIT]: two to compare")
    parser.add_argument("--figure3", nargs="?", const="own", metavar="ROW", help="hold nets against a row of "
                        "Figure 3: 32s, 16s or 8s (default: own, by the net's stride)")
    options.renamed(parser, "--shapes", parser.add_argument(
        "--size", action="append", type=options.size, default=[], metavar="HxW",
        help="compare the shapes of blobs too, for images of this size"))
    parser.add_argument("--phase", choices=["TRAIN", "TEST"],
                        help="only the layers of this phase (default: all; TEST with --size, --figure3)")
    parser.add_argument("--body", action="store_true", help="leave data layers out")
    options.add_trust_argument(parser)


def run(args: argparse.Namespace) -> int:
    """The `diff-net` command; 1 if the nets differ, or a net differs from the figure."""
    from ..check.diff import against_figure, compared
    from ..proto.caffe_pb2 import TEST, TRAIN
    from ..proto.text import read_net
    from ..pycaffe.script import read_or_generate

    if args.figure3 not in (None, *ROWS):  # a net that stands behind the option
        if re.fullmatch(r"\d+s?", args.figure3):
            raise Error(f"--figure3 takes one of {', '.join(ROWS)}, found '{args.figure3}'")
        args.nets.insert(0, args.figure3)
        args.figure3 = "own"
    if args.figure3 is None and len(args.nets) != 2 or not args.nets:
        raise Error(f"two nets are compared, {len(args.nets)} given; --figure3 takes one")
    if (args.stage or args.level is not None) and not (args.phase or args.figure3):
        raise Error("--stage and --level choose layers of one phase, and without --phase those of both are "
                    "compared: give --phase TEST or TRAIN")
    paths = [None if ".py:" in f"{given}:" else find_net(given) for given in args.nets]
    nets = [read_net(path) if path else read_or_generate(given)
            for given, path in zip(args.nets, paths, strict=True)]
    if args.figure3:
        phase, different = TRAIN if args.phase == "TRAIN" else TEST, 0
        for given, net, path in zip(args.nets, nets, paths, strict=True):
            lines, differs = against_figure(net, path, phase, ROWS[args.figure3])
            say(given, *lines, colours=COLOURS)
            different |= differs
        return different
    phases = {"TRAIN": TRAIN, "TEST": TEST, None: None}
    lines, counted = compared(nets, paths, phases[args.phase], args.body, args.size)
    if lines:
        say(f"--- {args.nets[0]}", f"+++ {args.nets[1]}", *lines, colours=COLOURS)
    say(counted)
    return int(bool(lines))
