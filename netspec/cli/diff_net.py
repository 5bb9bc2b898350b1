"""`netspec diff-net`: compare two nets, or a net with figure 3."""

import argparse
import os
import re
import sys
from typing import Any

from ..base.errors import Error
from ..base.files import find
from ..check.diff import ROWS, changes, difference, layers, match, settings
from ..look.deviations import deviations, in_words
from ..look.streams import outline, streams
from ..net.deploy import deploy
from ..proto import caffe_pb2
from ..pycaffe.script import read_or_generate
from .options import size as pixels

COLOURS = {"@": 36, "-": 31, "+": 32}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("nets", metavar="NET", nargs="*", help="prototxt, or FILE.py:NAME[/SPLIT]: two to compare")
    parser.add_argument("--figure3", nargs="?", const="own", metavar="ROW",
                        help="hold nets against a row of Figure 3: 32s, 16s or 8s (default: own, by the net's stride)")
    parser.add_argument("--shapes", action="append", type=pixels, default=[], metavar="HxW", help="compare blobs too")
    parser.add_argument("--phase", choices=["TRAIN", "TEST"], help="only what this phase keeps (shapes, --figure3: TEST)")
    parser.add_argument("--body", action="store_true", help="leave sources of data out")


def run(args: argparse.Namespace) -> int:
    """The `diff-net` command; 1 if the nets differ, or a net differs from the figure."""
    if args.figure3 not in (None, *ROWS):  # a net that stands behind the option
        if re.fullmatch(r"\d+s?", args.figure3):
            raise Error(f"--figure3 takes one of {', '.join(ROWS)}, found '{args.figure3}'")
        args.nets.insert(0, args.figure3)
        args.figure3 = "own"
    if args.figure3 is None and len(args.nets) != 2 or not args.nets:
        raise Error(f"two nets are compared, {len(args.nets)} given; --figure3 takes one")
    nets = [read_or_generate(given) for given in args.nets]
    files = [net if ".py:" in given else find(given) for given, net in zip(args.nets, nets, strict=True)]
    phase = caffe_pb2.Phase.Value(args.phase) if args.phase else None
    known = caffe_pb2.TEST if phase is None else phase
    if args.figure3 is not None:
        return max([held(*each, known, args.figure3) for each in zip(args.nets, nets, files, strict=True)])
    whole = [settings(net, ("name", "layer")) for net in nets]
    lines = changes("@@ net @@ changed", whole[0], whole[1])
    found, counted = difference(*(layers(net, phase, args.body) for net in nets))
    lines += found
    for size in args.shapes:
        graphs = [deploy(net, known, size, losses=True) for net in files]
        pairs = match(*(layers(net, known, args.body) for net in nets)).items()
        blobs = dict.fromkeys(pair for one, other in pairs for pair in zip(one.tops, other.tops, strict=False))
        shapes = [{pair[0]: " x ".join(map(str, graphs[i].shape(pair[i]))) for pair in blobs} for i in (0, 1)]
        lines += changes(f"@@ shapes at {size[0]}x{size[1]} @@", *shapes)
    show([f"--- {args.nets[0]}", f"+++ {args.nets[1]}", *lines] if lines else [])
    print(counted)
    return int(bool(lines))


def held(given: str, net: Any, file: Any, phase: caffe_pb2.Phase, row: str) -> int:
    """Print a net's predictions and how they differ from the figure; 1 if one does, or if the net cannot be built."""
    broken: list[str] = []
    try:
        graph = deploy(file, phase, losses=True)
    except Error as e:
        broken = [f"the net cannot be built: {e}"]
        try:
            found = streams(outline(net, phase))
        except (Error, KeyError):  # more is wrong with it than sizes
            raise e from None
    else:
        found = streams(graph)
    told = [[*deviations(p, None if row == "own" else int(row[:-1])), *broken] for p in found]
    show([given])
    for p, wrong in zip(found, told, strict=True):
        show([*in_words(p), *([f"-  {each}" for each in wrong] or [f"equals the figure's FCN-{p.stride}s"])])
    return int(any(told))


def show(lines: list[str]) -> None:
    """Print lines, in colour on a terminal unless NO_COLOR is set."""
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    for line in lines:
        print(f"\x1b[{COLOURS[line[0]]}m{line}\x1b[0m" if colour and line[0] in COLOURS else line)
