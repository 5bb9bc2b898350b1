"""`python -m netspec` and `netspec` are the same command."""

import sys


def main() -> int:
    """Run one command; Ctrl-C while it is imported shows no traceback either."""
    try:
        from .cli.main import main as command
    except KeyboardInterrupt:
        return 130
    return command()


if __name__ == "__main__":
    sys.exit(main())
