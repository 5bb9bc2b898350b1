"""`netspec curves`: the training curves of a log, drawn."""

import argparse

from ..base.files import find
from .options import note, wrote
from .terminal import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("log", metavar="LOG", help="what 'solve --log' or 'caffe train' wrote")
    parser.add_argument("--out", metavar="FILE", help="a .png, .svg or .pdf (default LOG.png)")


def run(args: argparse.Namespace) -> int:
    from ..look.curves import draw_curves, read_log

    path = find(args.log, what="log")
    runs, out = read_log(path, note), args.out or f"{path}.png"
    draw_curves(runs).save(out)
    for each in runs:
        for (_, label), points in each.series.items():
            (first, _), (last, value), count = points[0], points[-1], len(points)
            say(f"{each.name}: {label}: {count} values, iteration {first} to {last}, the last {value:g}")
    wrote(out)
    return 0
