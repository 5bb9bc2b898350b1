"""`python -m netspec.run SCRIPT`: a Caffe script, with this package in Caffe's place."""

import sys

from .base.standin import stand_in
from .cli.run import main

__all__ = ["main", "stand_in"]

if __name__ == "__main__":
    sys.exit(main())
