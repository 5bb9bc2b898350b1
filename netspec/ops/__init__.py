"""The operations, those that resemble each other in one file; importing this package registers them all."""

from . import (  # noqa: F401 - imported to register
    conv,
    dense,
    loss,
    meanfield,
    neuron,
    norm,
    ohem,
    pool,
    priors,
    proposals,
    python,
    recurrent,
    regions,
    resample,
    shape,
    softmax,
    yolo,
)
from .base import REGISTRY, Context, CoordMap, Operation, Param, Shape, lookup

__all__ = ["REGISTRY", "Context", "CoordMap", "Operation", "Param", "Shape", "lookup"]
