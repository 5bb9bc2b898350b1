"""Caffe's Python face: nets, solvers, blobs as live arrays, layers in Python, io, Classifier, Detector."""

from ..ops.blobs import Blob
from ..ops.python import BlobVec, Layer
from .net import Net
from .solver import (
    AdaDeltaSolver,
    AdaGradSolver,
    AdamSolver,
    NesterovSolver,
    RMSPropSolver,
    SGDSolver,
    Solver,
    get_solver,
    layer_type_list,
)

__all__ = ["AdaDeltaSolver", "AdaGradSolver", "AdamSolver", "Blob", "BlobVec", "Layer", "NesterovSolver", "Net",
           "RMSPropSolver", "SGDSolver", "Solver", "get_solver", "layer_type_list"]
