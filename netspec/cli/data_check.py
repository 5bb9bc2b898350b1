"""`netspec data check`: open every image and label once."""

import argparse
from typing import TYPE_CHECKING

from ..base import log
from ..base.errors import Error
from ..base.files import find
from ..base.machine import cores
from ..data.layouts import LAYOUTS

if TYPE_CHECKING:
    from ..check.data import Finding

MOST = 10  # findings of a kind to list


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", metavar="NET|SOLVER|DIR",
                        help="a prototxt with its data layers, a data set's folder, or the data set file of "
                             "your own images")
    parser.add_argument("--dataset", metavar="NAME",
                        help=f"what is in DIR: {', '.join(LAYOUTS)}, or a data set file")
    parser.add_argument("--sheet", metavar="FILE.png", help="write a page of images beside their labels")
    parser.add_argument("--balance", metavar="FILE.binaryproto",
                        help="write the weights, of the first split's labels, as the matrix that "
                             "InfogainLoss reads")
    parser.add_argument("--power", type=float, default=1, metavar="P",
                        help="of those weights; 0.5 is milder (default 1)")
    parser.add_argument("--jobs", type=int, default=cores(), metavar="N",
                        help="processes that read (default: the cores)")
    parser.add_argument("--all", action="store_true", help=f"list all findings, not {MOST} of a kind")


def run(args: argparse.Namespace) -> int:
    """Check, print, write; 1 if training would break on a finding."""
    from ..check.contact import contact_sheet
    from ..check.data import KINDS, across, fits, listed, look, sources, summary
    from ..data.balance import write_balance
    from ..look.pictures import save

    if args.jobs < 1 or not 0 <= args.power <= 2:
        raise Error("--jobs must be at least 1 and --power from 0 to 2, found "
                    f"{args.jobs} and {args.power:g}")
    path = find(args.data, what="net, solver or folder")
    given, nets, passed = sources(path, args.dataset)
    parts = look(given, args.jobs, log.make())
    findings = [finding for part in parts for item in part.items for finding in item.findings] + across(parts)
    print(summary(parts), "", sep="\n")
    if args.balance:  # before the nets are built: they may read it
        write_balance(args.balance, *parts[0].pixels(next(iter(parts[0].labels))), args.power)
    wrong: dict[Finding, None] = {}
    for net in nets:
        try:
            wrong |= dict.fromkeys(fits(net.graph(), parts))
        except (Error, OSError) as error:
            passed.append(f"{error}; the losses of a net that cannot be built are not checked")
    findings += wrong
    broken = sum(KINDS[kind][1] for kind, _ in findings)
    for text in dict.fromkeys(passed):
        print(text)
    if passed:
        print()
    if findings:
        print(listed(findings, None if args.all else MOST))
    print(f"{broken} errors, on which training would break; {len(findings) - broken} warnings")
    if args.sheet:
        save(args.sheet, contact_sheet(parts))
    return 1 if broken else 0
