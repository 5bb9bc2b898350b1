"""`python -m netspec.run [--replace] SCRIPT [ARGS]`: a Caffe script, with this package in Caffe's place."""

import argparse
import runpy
import sys
from collections.abc import Sequence

from ..base.errors import Error
from ..base.files import find
from ..base.machine import prepare_torch
from ..base.standin import stand_in
from ..pycaffe.script import python2


def main(argv: Sequence[str] | None = None) -> int:
    """Run a script as `python SCRIPT ARGS` does: its sys.argv, its folder first in sys.path, its status."""
    parser = argparse.ArgumentParser(prog="python -m netspec.run",
                                     description="Run a script that says 'import caffe'.")
    parser.add_argument("--replace", action="store_true", help="take netspec even where a caffe is installed")
    parser.add_argument("script", metavar="SCRIPT")
    parser.add_argument("args", metavar="ARGS", nargs=argparse.REMAINDER)
    args = parser.parse_args(argv)
    try:
        path = find(args.script, what="script")
        sys.argv = [args.script, *args.args]
        sys.path[0] = str(path.resolve().parent if path.is_file() else path.resolve())
        prepare_torch()
        stand_in(args.replace)
    except Error as e:
        parser.exit(2, f"{parser.prog}: {e}\n")
    try:
        runpy.run_path(str(path), run_name="__main__")
    except Exception as e:
        hint = python2(e)
        if hint and isinstance(e, SyntaxError):  # a traceback through this file would say no more
            parser.exit(2, f"{parser.prog}: {hint}\n")
        if hint:
            print(f"{parser.prog}: {hint}", file=sys.stderr)
        raise
    return 0
