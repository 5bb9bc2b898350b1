"""`netspec corpus`: the tally of a folder of nets, solvers and weights: what of it is read, built and run."""

import argparse
import io
import json
import os
import sys
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..base.errors import Error
from ..base.files import find, writing
from .options import add_reading_arguments, add_trust_argument, reading, whole
from .terminal import say, show

if TYPE_CHECKING:
    from ..check.corpus import Content

COMMANDS = {"described": "describe", "drawn": "draw", "compared": "diff-net"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = ("A file that lies in several places counts once. The exit status is 1 where a file led "
                     "to a traceback or took too long.")
    parser.add_argument("folder", metavar="FOLDER", help="all that lies in it; its own folders are taken for "
                        "repositories")
    parser.add_argument("--workers", type=whole, default=2, metavar="N", help="processes (default 2)")
    parser.add_argument("--limit", type=float, default=60, metavar="S",
                        help="seconds that a file may take (default 60)")
    parser.add_argument("--gmacs", type=float, default=2, metavar="N", help="nets of more than so many "
                        "billion multiplications are followed by their shapes alone (default 2)")
    parser.add_argument("--sample", type=whole, metavar="N",
                        help="only so many of the files, the same each time")
    parser.add_argument("--most", type=whole, default=30, metavar="N", help="lines of a table (default 30)")
    parser.add_argument("--opencv", action="store_true",
                        help="hold what weights give against OpenCV, 4 or older, where it is installed")
    parser.add_argument("--json", metavar="FILE", help="write what comes of each file there")
    parser.add_argument("--before", metavar="FILE", help="show the tally beside that of such a file")
    add_trust_argument(parser)


def run(args: argparse.Namespace) -> int:
    """The `corpus` command; 1 if there was a traceback or a time-out."""
    from ..base.pool import each
    from ..check import corpus, tally

    if not (args.workers and 0 < args.limit <= 1e6):
        raise Error("--workers and --limit must be above 0, and --limit at most a million seconds")
    if not (folder := find(args.folder, what="folder")).is_dir():
        raise Error(f"{folder}: is a file; expected a folder")
    if args.opencv and not find_spec("cv2"):
        say("note: OpenCV is not installed, so nothing is held against it", file=sys.stderr)
        args.opencv = False
    try:
        before = json.loads(find(args.before).read_bytes()) if args.before else None
        tally.text(before or [], before, 0)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Error(f"{args.before}: is no file that --json of this command wrote") from None
    contents = corpus.gathered(folder)[:args.sample]
    if not contents:
        raise Error(f"{folder}: has no file whose name ends in {', '.join(corpus.ENDS)}")
    rows, stopped = list[dict[str, Any]](), 0
    work = partial(_examined, args.trust, args.opencv, args.gmacs * 1e9)
    try:
        for number, row, why in each(work, contents, args.workers, args.limit):
            content = contents[number]
            rows.append(row or corpus.lost(content, why))
            if why or row and row["tracebacks"] or len(rows) % 50 == 0:
                say(f"{len(rows)} of {len(contents)}: {content.places[0]}"
                    f"{f': {why}' if why else ': a traceback' if row and row['tracebacks'] else ''}",
                    file=sys.stderr)
                _keep(rows, args.json)
    except KeyboardInterrupt:
        say(f"stopped by Ctrl-C after {len(rows)} of {len(contents)} files", file=sys.stderr)
        stopped = 130
    _keep(rows, args.json)
    show(tally.text(rows, before, args.most))
    return stopped or int(any(row["tracebacks"] or "ended" in row["steps"] for row in rows))


def _keep(rows: list[dict[str, Any]], file: str | None) -> None:
    rows.sort(key=lambda row: row["path"])
    if file:
        with writing(file, "w") as out:
            json.dump(rows, out, indent=1)


def _examined(trust: bool, opencv: bool, macs: float, content: "Content") -> dict[str, Any]:
    from ..base.trust import looking
    from ..check import corpus

    looks = {name: partial(_look, command) for name, command in COMMANDS.items()}
    with looking(trust), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        return corpus.examined(looks, opencv, macs, content)


def _look(command: str, path: Path) -> None:
    """Do with a net what a command does, in TEST, or in TRAIN if that is all that the net is for.

    Raises Error as the command does, or where a net is not equal to itself.
    """
    module, parser = import_module(f".{command.replace('-', '_')}", __package__), argparse.ArgumentParser()
    module.add_arguments(parser)
    add_reading_arguments(parser, reads=True, solver=False)
    with tempfile.TemporaryDirectory() as folder:
        words = {"draw": ["--out", os.path.join(folder, "net.svg")], "diff-net": [str(path)]}.get(command, [])
        problems = list[Error]()
        for phase in ("TEST", "TRAIN"):
            args = parser.parse_args([str(path), *words, "--phase", phase])
            try:
                with reading(args):
                    if module.run(args):
                        raise Error("differs from itself")
                    return
            except Error as error:
                problems.append(error)
    raise problems[0]
