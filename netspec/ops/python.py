"""Layers written in Python and named in the prototxt by module and class."""

import importlib
import sys
from typing import Any

from ..errors import Error, closest
from .base import Operation


class Python(Operation):
    """python_param names a module (looked up as `import` does, and in the current folder) and a class in it."""

    type = "Python"
    bottoms = (0, None)
    tops = (0, None)

    @classmethod
    def resolve(cls, layer: Any, where: str = "") -> "type[Operation]":
        """The class that python_param names, which must be an Operation."""
        start, p = f"{where}layer '{layer.name}' (Python): ", layer.python_param
        try:
            module = importlib.import_module(p.module)
        except ImportError as e:
            raise Error(f"{start}module '{p.module}' cannot be imported ({e}); looked in {', '.join(sys.path[:3])}, ..."
                        ) from None
        found = getattr(module, p.layer, None)
        if not isinstance(found, type):
            raise Error(f"{start}module '{p.module}' has no class '{p.layer}'{closest(p.layer, vars(module))}")
        if not issubclass(found, Operation):
            raise Error(f"{start}class '{p.layer}' of module '{p.module}' is not a netspec Operation")
        return found
