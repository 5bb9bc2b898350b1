"""`import caffe` with this package in Caffe's place."""

import importlib
import importlib.abc
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from .errors import Error

HOME = "netspec"
OTHERWISE = {"net_spec": "proto.spec", "_caffe": "pycaffe"}  # Caffe's module -> ours, where the names differ


def stand_in(replace: bool = False) -> None:
    """Make `import caffe` give this package, here and now, as `python -m netspec.run` does for a script.

    Raises Error if a caffe is installed, or was imported before, and `replace` is not set.
    """
    if any(isinstance(finder, _StandIn) for finder in sys.meta_path):
        return
    found = _installed()
    if found and not replace:
        raise Error(f"a caffe is installed here ({found.origin}); 'python SCRIPT' runs scripts with it, "
                    "--replace takes netspec instead")
    for name in _imported():
        del sys.modules[name]
    sys.meta_path.insert(0, _StandIn())


@contextmanager
def standing_in() -> Iterator[None]:
    """`stand_in` within a block; behind it, `import caffe` gives what it gave before."""
    before, modules = sys.meta_path[:], {name: sys.modules[name] for name in _imported()}
    stand_in()
    try:
        yield
    finally:
        sys.meta_path[:] = [finder for finder in sys.meta_path
                            if finder in before or not isinstance(finder, _StandIn)]
        for name in _imported():
            del sys.modules[name]
        sys.modules.update(modules)


@contextmanager
def lending() -> Iterator[None]:
    """`standing_in`, but where a caffe is installed, which stays."""
    with nullcontext() if _installed() else standing_in():
        yield


def _installed() -> ModuleSpec | None:
    """The caffe that `import` finds; Caffe's sources, never built, are no caffe to keep."""
    found = importlib.util.find_spec("caffe")
    if found and found.submodule_search_locations:
        found = PathFinder.find_spec("_caffe", list(found.submodule_search_locations))
    return found


def _imported() -> list[str]:
    """The names of caffe's modules that are imported."""
    return [name for name in sys.modules if name.partition(".")[0] == "caffe"]


class _StandIn(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds `caffe` and all below it in this package, as the very same modules."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        place = str(Path(__file__).parents[1])
        return ModuleSpec(name, self, origin=place) if name.partition(".")[0] == "caffe" else None

    def exec_module(self, module: ModuleType) -> None:
        name = module.__name__
        below = ".".join(OTHERWISE.get(part, part) for part in name.split(".")[1:])
        try:
            sys.modules[name] = importlib.import_module(f"{HOME}.{below}" if below else HOME)
        except ModuleNotFoundError as e:
            if not (e.name or "").startswith(HOME):
                raise
            # a fork's own, as SSD's model_libs.py: from its sources, where sys.path leads to them
            place = name.rpartition(".")[0].replace(".", "/")
            found = PathFinder.find_spec(name, [f"{folder}/{place}" for folder in sys.path])
            if not (below and found and found.loader):
                raise ModuleNotFoundError(f"No module named '{name}'", name=name) from None
            sys.modules[name] = importlib.util.module_from_spec(found)
            found.loader.exec_module(sys.modules[name])
