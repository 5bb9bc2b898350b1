"""Caffe's way of working with fully convolutional networks, on PyTorch."""

import importlib
from typing import Any

from .errors import Error
from .proto.caffe_pb2 import TEST, TRAIN
from .spec import NetSpec, layers, params, to_proto

__version__ = "0.1.0"
_MODULES = ("coord_map", "io", "proto")
_PYCAFFE = ("AdaDeltaSolver", "AdaGradSolver", "AdamSolver", "Layer", "NesterovSolver", "Net", "RMSPropSolver", "SGDSolver",
            "get_solver", "layer_type_list", "set_device", "set_mode_cpu", "set_mode_gpu", "set_random_seed")
__all__ = ["Error", "NetSpec", "TEST", "TRAIN", "layers", "params", "to_proto", *_MODULES, *_PYCAFFE]


def __getattr__(name: str) -> Any:
    """pycaffe's part needs torch, which is imported only when that part is."""
    if name in _MODULES:
        return importlib.import_module(f".{name}", __name__)
    if name in _PYCAFFE:
        return getattr(importlib.import_module(".pycaffe", __name__), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
