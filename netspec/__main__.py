"""`python -m netspec` and `netspec` are the same command."""

import os
import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; Ctrl-C while it is imported is one line too."""
    try:
        if sys.path[0] == os.getcwd():  # by `python -m`: a numpy.py there would go before NumPy
            sys.path.append(sys.path.pop(0))
    except FileNotFoundError:  # which the command says
        pass
    try:
        from .cli.main import main as command
    except KeyboardInterrupt:
        os.write(2, b"netspec: stopped by Ctrl-C\n")
        return 130
    return command(argv)


if __name__ == "__main__":
    sys.exit(main())
