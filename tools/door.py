"""The one door: tools/COMMAND.py is `netspec COMMAND`, from any folder and without an install."""

import sys
from pathlib import Path


def enter(file: str) -> None:
    """Run the command that a script of this folder is named after, and exit with its status."""
    here = Path(file).resolve()
    sys.path[0] = str(here.parents[1])  # not this folder: its names are other modules
    from netspec.__main__ import main

    sys.exit(main([here.stem.replace("_", "-"), *sys.argv[1:]]))
