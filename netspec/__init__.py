"""Caffe's way of working with fully convolutional networks, on PyTorch."""

from .errors import Error
from .spec import NetSpec, layers, params, to_proto

__version__ = "0.1.0"
__all__ = ["Error", "NetSpec", "layers", "params", "to_proto"]
