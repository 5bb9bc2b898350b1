"""`netspec tables`: the papers' tables beside what is measured here."""

import argparse
import sys

from ..base.errors import Error
from .options import add_place_arguments, settings, wrote
from .terminal import give, say, show


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("number", metavar="1|2|3|4|5|all", nargs="?", default="all",
                        choices=("1", "2", "3", "4", "5", "all"), help="default all")
    parser.add_argument("--family", metavar="NAME",
                        help="tables 1 and 2 of this data set: solvers/NAME-fcn32s.prototxt (default voc)")
    parser.add_argument("--run", action="store_true", dest="measure",
                        help="train, score and time what is missing; goes on after an interruption")
    add_place_arguments(parser)
    parser.add_argument("--format", choices=("text", "markdown", "csv", "json", "latex"), default="text")


def run(args: argparse.Namespace) -> int:
    """Print the tables; 1 if something was to be measured and could not be."""
    from ..papers.tables import measure_all, rows, shown, table

    if args.family and args.number not in ("1", "2", "all"):
        raise Error(f"--family goes with tables 1 and 2; table {args.number} is of its own data set")
    every = range(1, 3 if args.family else 6)
    numbers = every if args.number == "all" else [int(args.number)]
    tables = [table(number, args.family) for number in numbers]
    failed = measure_all(tables, settings(args)) if args.measure else []
    lines = [rows(t, settings(args)) for t in tables]
    texts = [shown(t, each, args.format) for t, each in zip(tables, lines, strict=True)]
    text = f"[{', '.join(texts)}]" if args.format == "json" else "\n\n".join(texts)
    (give if args.format == "csv" else show)(text)
    if not args.measure and not any(row.origin for each in lines for row in each):
        say(f"nothing was measured here (no records in {args.results}): --run measures, demo too",
            file=sys.stderr)
    if args.measure and any(args.results.glob("*.json")):
        wrote(args.results, note="the records of what was measured", file=sys.stderr)
    for problem in failed:
        say(problem, file=sys.stderr)
    return 1 if failed else 0
