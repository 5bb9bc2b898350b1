"""`netspec curves`: the training curves of logs, drawn or as numbers."""

import argparse
import json
import sys

from ..base.errors import Error
from ..base.files import find
from ..base.log import clock
from .options import note, wrote
from .terminal import say, show


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("log", nargs="+", metavar="LOG",
                        help="what 'solve --log' or 'caffe train' wrote, or is writing")
    parser.add_argument("--out", metavar="FILE",
                        help="a .png, .svg or .pdf (default LOG.png; with --json none)")
    parser.add_argument("--overlay", action="store_true",
                        help="all runs over each other, each a line, instead of a column each")
    parser.add_argument("--json", action="store_true",
                        help="the points of all curves, how fast each run is and how long it still takes, "
                        "where the log tells it")


def run(args: argparse.Namespace) -> int:
    from ..look.curves import draw_curves, read_log, tell_apart

    logs = dict.fromkeys(find(log, what="log") for log in args.log)
    if len(logs) > 1 and not (args.out or args.json):
        raise Error(f"draws {len(logs)} logs into one picture; give it a name by --out FILE")
    out = args.out or (None if args.json else f"{next(iter(logs))}.png")
    runs = tell_apart({path: read_log(path, note) for path in logs})
    if out:
        draw_curves(runs, args.overlay).save(out)
    if args.json:
        show(json.dumps({"runs": {each.name: each.as_dict() for each in runs}}, allow_nan=False))
    for each in () if args.json else runs:
        for (_, label), points in each.series.items():
            (first, _), (last, value), count = points[0], points[-1], len(points)
            say(f"{each.name}: {label}: {count} values, iteration {first} to {last}, the last {value:g}")
        if each.speed:
            left = f", {clock(each.seconds_left)} left to {each.max_iter}" if each.seconds_left else ""
            say(f"{each.name}: {each.speed:.3g} iterations/s of late{left}")
    if out:
        wrote(out, file=sys.stderr if args.json else None)
    return 0
