"""`netspec verify`: whether the published nets give their published scores."""

import argparse
from pathlib import Path

from ..base.errors import Error
from ..base.table import table
from ..papers import tables
from ..papers.published import RELEASED, RELEASED_FILES, RELEASED_FROM
from .options import add_place_arguments

NETS = ("voc-fcn32s", "voc-fcn16s", "voc-fcn8s")
TOLERANCE = 0.1  # the figures have one decimal, and a few pixels are ties that rounding decides


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=("released",), help="the released FCN-32s, 16s and 8s on seg11valid: mean IU "
                        + " / ".join(str(RELEASED[net][2]) for net in NETS))
    parser.add_argument("--tolerance", type=float, default=TOLERANCE, metavar="POINTS",
                        help="of the mean IU in percent (default %(default)s)")
    add_place_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Score the released nets; 1 if a mean IU is not the published one. Raises Error naming every file that is missing."""
    root = args.weights = args.weights or Path("weights")
    lacking = [name for net in NETS if not (root / (name := f"{RELEASED_FILES[net]}.caffemodel")).exists()]
    if lacking:
        raise Error(f"{root} lacks {', '.join(lacking)}; the FCN release has them at {RELEASED_FROM}NAME, --weights says where "
                    "yours are")
    lines, wrong = [], 0
    for net in NETS:
        try:
            found = tables.scored(net, tables.released_file(net, args), "released", args)
        except Error as e:
            raise Error(f"{net}: {e} (seg11valid is VOC2011's val without SBD's train, see docs/voc.md; --data says where they "
                        "are)") from None
        mean, expected = 100 * (found["mean_iu"] or 0), RELEASED[net][2]
        good = abs(mean - expected) <= args.tolerance
        wrong += not good
        lines.append([net, found["images"], expected, f"{mean:.2f}", f"{mean - expected:+.2f}", "yes" if good else "NO"])
    print(table(lines, ["", "images", "published mean IU", "here", "difference", f"within {args.tolerance:g}"]))
    return 1 if wrong else 0
