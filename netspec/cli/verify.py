"""`netspec verify`: whether the published nets give their published scores."""

import argparse
import sys

from ..base.table import table
from ..data import zoo
from ..papers.published import RELEASED, VERIFIED
from .options import add_place_arguments, settings, wrote
from .terminal import show

TOLERANCE = 0.1  # the figures have one decimal, and a few pixels are ties that rounding decides


def add_arguments(parser: argparse.ArgumentParser) -> None:
    stated = " / ".join(str(RELEASED[net][2]) for net in VERIFIED)
    parser.add_argument("what", choices=("released",),
                        help=f"the released FCN-32s, 16s and 8s on seg11valid: mean IU {stated}")
    parser.add_argument("--tolerance", type=float, default=TOLERANCE, metavar="POINTS",
                        help="of the mean IU in percent (default %(default)s)")
    add_place_arguments(parser)
    parser.set_defaults(released=zoo.folder())


def run(args: argparse.Namespace) -> int:
    """Score the released nets; 1 if a mean IU is not the published one."""
    from ..papers.tables import verified

    lines, wrong = [], 0
    for net, found in verified(settings(args)):
        mean, stated = 100 * (found["mean_iu"] or 0), RELEASED[net][2] or 0
        good = abs(mean - stated) <= args.tolerance
        wrong += not good
        lines.append([net, found["images"], stated, f"{mean:.2f}", f"{mean - stated:+.2f}",
                      "yes" if good else "NO"])
    show(table(lines, ["", "images", "published mean IU", "here", "difference",
                        f"within {args.tolerance:g}"]))
    wrote(args.results, note="the records of what was measured", file=sys.stderr)
    return 1 if wrong else 0
