"""Caffe's Python face: nets, solvers, blobs as live arrays, layers in Python, io, Classifier, Detector."""

import importlib
from typing import Any

_PLACES = {  # modules that need torch, and are imported when one of their names is used
    ".net": "Net",
    ".solver": "AdaDeltaSolver AdaGradSolver AdamSolver NesterovSolver RMSPropSolver SGDSolver Solver "
               "get_solver layer_type_list",
    ".session": "NCCL Timer has_nccl init_log log set_device set_logging_disabled set_mode_cpu set_mode_gpu "
                "set_multiprocess set_random_seed set_solver_count set_solver_rank solver_count solver_rank",
    "..ops.blobs": "Blob",
    "..ops.python": "BlobVec Layer",
}
# What Caffe's _caffe has for vectors of C++: here these are plain lists
BoolVec = DtypeVec = IntVec = LayerVec = NetVec = RawBlobVec = StringVec = list
_PLACE = {name: module for module, names in _PLACES.items() for name in names.split()}
__all__ = [*_PLACE]


def __getattr__(name: str) -> Any:
    if name in _PLACE:
        return getattr(importlib.import_module(_PLACE[name], __name__), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
