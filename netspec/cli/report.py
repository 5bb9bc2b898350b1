"""`netspec report`: what runs left behind, on one HTML page."""

import argparse
from pathlib import Path

from ..base.errors import Error, count
from ..base.files import writing
from .finding import find_any
from .options import add_device_arguments, note, settings, wrote
from .terminal import show


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", nargs="+", metavar="SOLVER|FOLDER|FILE",
                        help="a solver stands for its nets and all that lies under its snapshot_prefix, a "
                        "folder for its files: records of scores (.json), logs, pictures, .prototxt, weights")
    parser.add_argument("--out", default="report.html", metavar="FILE", help="the page (default report.html)")
    parser.add_argument("--title", default="A run of netspec")
    parser.add_argument("--score", action="store_true", help="first score the weights of each SOLVER that "
                        "were written last on the test.prototxt beside its net")
    add_device_arguments(parser, "no progress bar")


def run(args: argparse.Namespace) -> int:
    from ..papers.page import KINDS, gather, page, score_newest, solver_in

    given = [find_any(name, "solver, folder or file") for name in args.what]
    if args.score:
        solvers = {path: param for path in given if (param := solver_in(path)) is not None}
        show("\n".join(score_newest(solvers, settings(args))))
    paths = list({file.resolve(): file for path in given for file in gather(path)}.values())
    if not any(path.suffix.lower() in KINDS for path in paths):
        raise Error(f"{', '.join(args.what)}: nothing to report, no file that ends in {', '.join(KINDS)}")
    content = page(args.title, paths, note)
    with writing(args.out, "w") as file:
        file.write(content)
    wrote(args.out, note=f"{Path(args.out).stat().st_size / 1e6:.1f} MB, of {count(len(paths), 'file')}")
    return 0
