"""`python -m netspec.run [--replace] SCRIPT [ARGS]`: a Caffe script, with this package in Caffe's place."""

import argparse
import runpy
import sys
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ..base.errors import Error
from ..base.files import find
from ..base.machine import prepare_torch
from ..base.standin import stand_in
from ..pycaffe.script import python2
from .terminal import say


def main(argv: Sequence[str] | None = None) -> int:
    """Run a script as `python SCRIPT ARGS` does: its sys.argv, its folder first in sys.path, its status."""
    parser = argparse.ArgumentParser(prog="python -m netspec.run",
                                     description="Run a script that says 'import caffe'.")
    parser.add_argument("--replace", action="store_true", help="take netspec even where a caffe is installed")
    parser.add_argument("script", metavar="SCRIPT")
    parser.add_argument("args", metavar="ARGS", nargs=argparse.REMAINDER)
    args = parser.parse_args(argv)
    import PIL.Image  # noqa: F401 - Caffe's io brings it along, which scripts that import PIL alone live by

    try:
        path = find(args.script, what="script")
        _runnable(path)
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
            say(f"{parser.prog}: {hint}", file=sys.stderr)
        raise
    return 0


def _runnable(path: Path) -> None:
    """Error for what Python would end at with an error of its own: not a program, but a folder, an image."""
    try:
        with suppress(IsADirectoryError), path.open("rb") as file:
            if b"\0" not in file.read(1 << 16) or path.suffix == ".pyc" or zipfile.is_zipfile(path):
                return
            raise Error(f"{path} is no text; a Python script is expected")
    except OSError as error:
        raise Error(f"{path} cannot be read: {error.strerror}") from None
    if not (path / "__main__.py").is_file():
        raise Error(f"{path} is a folder without __main__.py; name the script in it")
