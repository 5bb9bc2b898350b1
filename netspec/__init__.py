"""Caffe's way of working with fully convolutional networks, on PyTorch."""

import importlib
from typing import TYPE_CHECKING, Any

from .base import __version__
from .base.errors import Error
from .base.standin import OTHERWISE

if TYPE_CHECKING:
    from .proto.caffe_pb2 import TEST, TRAIN
    from .proto.spec import NetSpec, layers, params, to_proto

_MODULES = ("classifier", "coord_map", "detector", "draw", "io", "proto", "pycaffe")
_PLACES = {  # of names whose modules take time to import; they are when one of the names is used
    "proto.caffe_pb2": "TEST TRAIN",
    "proto.spec": "NetSpec layers params to_proto",
    "base.metrics": "Measures",
    "net.batches": "batches",
    "net.build": "build",
    "net.deploy": "deploy",
    "net.module": "TorchNet=Net",  # pycaffe has a Net of its own
    "ops.base": "Operation",
    "ops.own": "register",
    "ops.source": "Source",
    "data.patches": "PATCH",
    "train.optimizer": "optimizer",
    "score.loaded": "load",
    "pycaffe": "AdaDeltaSolver AdaGradSolver AdamSolver Layer NesterovSolver Net RMSPropSolver SGDSolver "
               "get_solver layer_type_list",
    "pycaffe.session": "NCCL Timer has_nccl init_log log set_device set_logging_disabled set_mode_cpu "
                       "set_mode_gpu set_multiprocess set_random_seed set_solver_count set_solver_rank "
                       "solver_count solver_rank",
    "pycaffe.classifier": "Classifier Detector",
}
_PLACE = {face: (module, name or face) for module, names in _PLACES.items()
          for face, _, name in (each.partition("=") for each in names.split())}
__all__ = ["Error", "NetSpec", "TEST", "TRAIN", "__version__", "layers", "params", "to_proto",
           *_MODULES, *_PLACE]


def __getattr__(name: str) -> Any:
    if name in _MODULES or name in OTHERWISE:
        return importlib.import_module(f".{OTHERWISE.get(name, name)}", __name__)
    if name in _PLACE:
        module, inner = _PLACE[name]
        return getattr(importlib.import_module(f".{module}", __name__), inner)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
