"""`python -m netspec.run SCRIPT`: a Caffe script, with this package in Caffe's place."""

import importlib
import sys

from .pycaffe.script import *  # noqa: F403 - a name that scripts import

if __name__ == "__main__":
    sys.exit(importlib.import_module("netspec.pycaffe.script").main())  # not this copy, which a script would import anew
