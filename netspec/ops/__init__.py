"""The operations, by family; importing this package registers them all."""

from . import conv, loss, neuron, pool, python, shape  # noqa: F401 - imported to register
from .base import REGISTRY, Context, CoordMap, Operation, Param, Shape, lookup

__all__ = ["REGISTRY", "Context", "CoordMap", "Operation", "Param", "Shape", "lookup"]
