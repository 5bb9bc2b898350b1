"""`python -m netspec` and `netspec` are the same command."""

import os
import sys


def main() -> int:
    """Run one command; Ctrl-C while it is imported shows no traceback either."""
    try:
        if sys.path[0] == os.getcwd():  # by `python -m`: a numpy.py there would go before NumPy
            sys.path.append(sys.path.pop(0))
    except FileNotFoundError:  # which the command says
        pass
    try:
        from .cli.main import main as command
    except KeyboardInterrupt:
        return 130
    return command()


if __name__ == "__main__":
    sys.exit(main())
