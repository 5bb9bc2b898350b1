"""`netspec data`: get a data set, or check one."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..base import log
from ..base.errors import Error, count
from ..base.machine import cores
from ..data.get import catalogue, draw, prepare
from ..data.layouts import BOXED, LAYOUTS
from . import labels
from .finding import find_any
from .options import add_trust_argument, apart, wrote
from .terminal import asked, meter, say, show

if TYPE_CHECKING:
    from ..data.pictured import Pictured

MOST = 10  # findings of a kind to list


def add_arguments(parser: argparse.ArgumentParser) -> None:
    choice = parser.add_subparsers(metavar="NAME")
    check = choice.add_parser("check", help="open every image and label",
                              description="Open every image and label once, and say what is wrong.")
    add_check_arguments(check)
    check.set_defaults(what=check_data)
    drawn = choice.add_parser("labels", help="make labels of what people drew with other tools",
                              description="Make palette PNGs, which a data set file names, of what people "
                                          "drew.")
    labels.add_arguments(drawn)
    drawn.set_defaults(what=labels.run)
    for name, data in catalogue().items():
        one = choice.add_parser(name, help=data.what, description=f"{data.what}. Terms: {data.terms}.")
        one.add_argument("--root", type=Path, default=Path(data.root), metavar="DIR",
                         help="the folder to make (%(default)s)")
        one.add_argument("--archives", type=Path, metavar="DIR",
                         help="where its archives are, or are put (ROOT/../archives)")
        one.add_argument("--yes", action="store_true", help="download without asking")
        one.set_defaults(what=_get, data=data)
    parser.set_defaults(what=_list)


def run(args: argparse.Namespace) -> int:
    return args.what(args)


def _get(args: argparse.Namespace) -> int:
    if args.data.program:
        draw(args.data, args.root)
        return 0
    archives = args.archives or args.root.parent / "archives"
    prepare(args.data, args.root, archives, lambda: args.yes or asked(), say, meter)
    return 0


def _list(args: argparse.Namespace) -> int:
    for name, data in catalogue().items():
        say(f"{name}: {data.what}", f"    {data.state(Path(data.root)) or 'there'}: {data.root}")
        comes = "; ".join(map(str, data.archives)) or f"drawn here, by netspec data {name}"
        say(f"    {comes}", f"    terms: {data.terms}")
    return 0


def add_check_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", metavar="NET|SOLVER|DIR",
                        help="a prototxt with its data layers, a data set's folder, or the data set file of "
                             "your own images")
    parser.add_argument("--dataset", metavar="NAME",
                        help=f"what is in DIR: {', '.join(LAYOUTS | BOXED)}, or a data set file")
    parser.add_argument("--boxes", action="store_true",
                        help="of DIR, the boxes of objects are meant (nets and data set files say it)")
    parser.add_argument("--sheet", metavar="FILE.png", help="write a page of images beside their labels")
    parser.add_argument("--balance", metavar="FILE.binaryproto",
                        help="write the weights, of the first split's labels, as the matrix that "
                             "InfogainLoss reads")
    parser.add_argument("--power", type=float, default=1, metavar="P",
                        help="of those weights; 0.5 is milder (default 1)")
    parser.add_argument("--jobs", type=int, default=cores(), metavar="N",
                        help="processes that read (default: the cores)")
    parser.add_argument("--all", action="store_true", help=f"list all findings, not {MOST} of a kind")
    parser.add_argument("--json", action="store_true", help="all findings, and the numbers of the tables, as "
                        "JSON")
    add_trust_argument(parser)


def check_data(args: argparse.Namespace) -> int:
    """Check, print, write; 1 if training would break on a finding."""
    from ..check.contact import contact_sheet
    from ..check.data import KINDS, across, fits, look, summary, tallied
    from ..check.given import about_boxes, sources, unlisted
    from ..data.balance import write_balance
    from ..data.segmentation import SegmentationData
    from ..look.pictures import save

    if args.jobs < 1 or not 0 <= args.power <= 2:
        raise Error("--jobs must be at least 1 and --power from 0 to 2, found "
                    f"{args.jobs} and {args.power:g}")
    path = find_any(args.data, "net, solver or folder", "train", "trainval")
    if args.boxes or about_boxes(path):
        return _check_boxes(args, path)
    given, nets, passed = sources(path, args.dataset, SegmentationData)
    _checkable(args, given)
    findings = unlisted(path, args.dataset)
    parts = look(given, args.jobs, log.make())
    findings += [finding for part in parts for item in part.items for finding in item.findings]
    findings += across(parts)
    if not args.json:
        show(f"{summary(parts)}\n")
    if args.balance:  # before the nets are built: they may read it
        write_balance(args.balance, *parts[0].pixels(next(iter(parts[0].labels))), args.power)
        _wrote(args, args.balance)
    wrong: dict[tuple[str, str], None] = {}
    for net in nets:
        try:
            wrong |= dict.fromkeys(fits(net.graph(), parts))
        except (Error, OSError) as error:
            passed.append(f"{error}; the losses of a net that cannot be built are not checked")
    findings += wrong
    passed = list(dict.fromkeys(passed))
    if passed and not args.json:
        say(*passed, "")
    broken = _told(args, findings, KINDS, tallied(parts), passed)
    if args.sheet:
        save(args.sheet, contact_sheet(parts))
        _wrote(args, args.sheet)
    return 1 if broken else 0


def _wrote(args: argparse.Namespace, path: str) -> None:
    wrote(path, file=sys.stderr if args.json else None)


def _checkable(args: argparse.Namespace, given: "Sequence[Pictured]") -> None:
    """Error, before the work, for data of which nothing is there, and options that it cannot meet."""
    from ..check.given import has_images

    if not any(map(has_images, given)):
        given[0].check_files()
    apart("--sheet", args.sheet, (file for each in given for i in range(len(each)) for file in each.paths(i)))
    if args.balance and not given[0].labels:
        raise Error(f"--balance weighs the classes of labels, and split '{given[0].split}' has none")


def _told(args: argparse.Namespace, findings: list[tuple[str, str]], kinds: Mapping[str, tuple[str, bool]],
          numbers: dict[str, Any], passed: Sequence[str]) -> int:
    """Print the findings, or all as JSON; how many of them training would break on."""
    from ..check.data import as_json, listed

    broken = sum(kinds[kind][1] for kind, _ in findings)
    if args.json:
        told = {**numbers, "notes": passed, "findings": as_json(findings, kinds)}
        show(json.dumps(told, indent=2, allow_nan=False))
        return broken
    if findings:
        say(*listed(findings, None if args.all else MOST, kinds))
    say(f"{count(broken, 'error')}, on which training would break; "
        f"{count(len(findings) - broken, 'warning')}")
    return broken


def _check_boxes(args: argparse.Namespace, path: Path) -> int:
    """The same for images with boxes."""
    from ..check import boxes
    from ..check.given import sources, unlisted
    from ..data.detection import DetectionData
    from ..look.pictures import save

    if args.balance:
        raise Error("--balance weighs classes by their pixels, and these are boxes")
    given, _, passed = sources(path, args.dataset, DetectionData)
    _checkable(args, given)
    findings = unlisted(path, args.dataset)
    parts = boxes.look(given, args.jobs, log.make())
    if not args.json:
        show(f"{boxes.summary(parts)}\n")
        say(*passed)
    findings += [finding for part in parts for item in part.items for finding in item.findings]
    broken = _told(args, findings + boxes.across(parts), boxes.KINDS, boxes.tallied(parts), passed)
    if args.sheet:
        save(args.sheet, boxes.sheet(parts))
        _wrote(args, args.sheet)
    return 1 if broken else 0
