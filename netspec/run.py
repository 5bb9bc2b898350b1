"""`python -m netspec.run SCRIPT`: a Caffe script, with this package in Caffe's place."""

import sys

from .cli.run import main
from .pycaffe.script import stand_in

__all__ = ["main", "stand_in"]

if __name__ == "__main__":
    sys.exit(main())
