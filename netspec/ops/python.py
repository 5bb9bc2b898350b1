"""Layers in Python, which a prototxt names by module and class: netspec Operations, or pycaffe's kind."""

import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..base.errors import Error, closest
from ..base.standin import lending
from ..base.trust import Untrusted, leave
from ..proto.caffe_pb2 import LayerParameter, Phase
from .base import Kind, Operation, Param, Shape
from .blobs import Blob, Memory

# (module, class) -> the Operation that stands for it, unless a script that imported caffe has that module too
ALIASES: dict[tuple[str, str], Kind] = {}


class _Phase(int):
    """TRAIN or TEST: BVLC's number, whose text is its name, as in py-faster-rcnn's Caffe."""

    def __str__(self) -> str:
        return Phase.Name(self)


class BlobVec(list):
    """The parameter blobs of a Layer."""

    def add_blob(self, *shape: int) -> None:
        """Add one of this shape, which `data` then fills."""
        self.append(Blob(tuple(map(int, shape))))


class Layer:
    """pycaffe's base of layers written in Python, for `type: "Python"`.

    A subclass writes setup, reshape, forward and, for training, backward; they get lists of Blobs. `blobs`
    holds its parameters, if `setup` adds some. `phase` and `param_str` come from the prototxt.
    """

    type = "Python"
    phase: int
    param_str: str
    param_str_: str  # its older name

    def __init__(self, layer_param: Any = None) -> None:
        self.blobs = BlobVec()

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Once, when the net is built."""

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Give the tops their shapes; before each forward pass."""

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Fill the tops' data."""
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Fill the diffs of the bottoms that propagate_down names, and of `blobs`, from the tops' diffs."""
        raise NotImplementedError(f"{type(self).__name__} has no backward")


class Python(Operation, type="Python", bottoms=(0, None), tops=(0, None), data=True, once=True,
             waits=True):
    """python_param names a module (looked up as `import` does, then in the current folder) and a class in it.

    The class is an Operation, which then takes this one's place, or a Layer, which this one runs: on copies
    of the bottoms in main memory, whatever the net's device.
    """

    @classmethod
    def resolve(cls, layer: LayerParameter, where: str = "") -> Kind:
        found = _named(layer, where)
        return cls if issubclass(found, Layer) else found

    @classmethod
    def within(cls, layer: LayerParameter, net: Sequence[LayerParameter]) -> LayerParameter:
        alias = ALIASES.get((layer.python_param.module, layer.python_param.layer))
        return alias.within(layer, net) if alias else layer

    @classmethod
    def stated(cls, layer: LayerParameter, size: tuple[int, int] | None = None) -> list[Shape]:
        alias = ALIASES.get((layer.python_param.module, layer.python_param.layer))
        return alias.stated(layer, size) if alias else []

    @lending()  # here too: a layer may import caffe where it needs it
    def setup(self, *shapes: Shape) -> None:
        p = self.layer.python_param
        kind = _named(self.layer, self.context.where)
        assert issubclass(kind, Layer)  # `resolve` gave the others the place of this one
        self.instance = kind(self.layer)
        if "blobs" not in vars(self.instance):  # a subclass with an __init__ of its own
            self.instance.blobs = BlobVec()
        self.instance.param_str = self.instance.param_str_ = p.param_str
        self.instance.phase = _Phase(self.context.phase)
        self.bottom = [Blob(shape) for shape in shapes]
        places = dict(zip(self.layer.bottom, self.bottom, strict=True))
        self.top = [places.get(name) or Blob() for name in self.layer.top]
        self.instance.setup(self.bottom, self.top)
        self.params += [Param(blob.shape, blob.data.copy()) for blob in self.instance.blobs]

    @lending()
    def infer(self, *shapes: Shape) -> list[Shape]:
        for blob, shape in zip(self.bottom, shapes, strict=True):
            blob.reshape(*shape)
        self.instance.reshape(self.bottom, self.top)
        return [blob.shape for blob in self.top]

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> tuple[Tensor, ...]:
        blobs = self.instance.blobs
        for i, param in enumerate(params):
            if isinstance(param, nn.Parameter) and not blobs[i].is_of(param):
                blobs[i] = Blob.of(param)
        return _Run.apply(self, len(bottoms), *bottoms, *params)


class _Run(torch.autograd.Function):
    """A Layer's forward and backward on tensors."""

    @staticmethod
    @lending()
    def forward(ctx: Any, op: Python, count: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.op, ctx.devices, bottoms = op, [t.device for t in tensors], tensors[:count]
        for blob, tensor in zip(op.bottom, bottoms, strict=True):
            blob.reshape(*tensor.shape)
            _fill(blob.data, tensor)
        op.instance.reshape(op.bottom, op.top)
        op.instance.forward(op.bottom, op.top)
        device = tensors[0].device if tensors else "cpu"
        return tuple(torch.from_numpy(blob.data).to(device, copy=True) for blob in op.top)

    @staticmethod
    @lending()
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        op, wanted = ctx.op, ctx.needs_input_grad[2:]
        count, blobs = len(op.bottom), op.instance.blobs
        for blob in op.bottom:
            blob.diff[...] = 0
        for blob, grad in zip(op.top, grads, strict=True):
            _fill(blob.diff, grad)
        sums = [blob.diff_memory for blob in blobs]
        for blob in blobs:  # the layer may set its gradient or add to it; autograd adds
            blob.diff_memory = Memory(blob.shape)
        try:
            op.instance.backward(op.top, list(wanted[:count]), op.bottom)
            found = [torch.from_numpy(blob.diff.copy()) for blob in (*op.bottom, *blobs)]
        finally:
            for blob, memory in zip(blobs, sums, strict=True):
                blob.diff_memory = memory
        return None, None, *(grad.to(device) if want else None
                             for grad, device, want in zip(found, ctx.devices, wanted, strict=True))


def _fill(array: np.ndarray, tensor: Tensor) -> None:
    array[...] = tensor.detach().float().cpu().numpy()


def _named(layer: LayerParameter, where: str) -> Kind | type[Layer]:
    """The class that python_param names, in a module that `import` finds or that the current folder has."""
    start, p = f"{where}layer '{layer.name}' (Python): ", layer.python_param
    alias = ALIASES.get((p.module, p.layer))
    if alias and "caffe" not in sys.modules:
        return alias
    try:
        module = imported(p.module, start)
    except (ImportError, Untrusted) as e:
        if alias:
            return alias
        if isinstance(e, Untrusted):
            raise
        raise absent(start, p.module, e) from None
    found = getattr(module, p.layer, None)
    if not isinstance(found, type):
        raise Error(f"{start}module '{p.module}' has no class '{p.layer}'{closest(p.layer, vars(module))}")
    if not issubclass(found, (Operation, Layer)):
        raise Error(f"{start}class '{p.layer}' of module '{p.module}' is neither a netspec.Layer nor "
                    "a netspec Operation")
    return found


def absent(start: str, name: str, why: ImportError) -> Error:
    places = ", ".join(sys.path[:3])
    return Error(f"{start}module '{name}' cannot be imported ({why}); looked in {places}, ... "
                 "and the current folder")


def imported(name: str, start: str) -> ModuleType:
    """The module of a layer, whose file is said before any of it runs.

    Raises ImportError where it is not there, Untrusted where it may not be imported, Error where it ends
    otherwise than a module does.
    """
    if not name:
        raise ImportError("python_param gives no module")
    if not re.fullmatch(r"[^./\\\0]+(\.[^./\\\0]+)*", name):
        raise Error(f"{start}'{name}' is no module's name, which has no '/', and words between its dots; a "
                    "file layers.py in the current folder is module 'layers'")
    if not leave.code and name not in sys.modules:
        raise Untrusted(f"{start}is written in Python, in module '{name}', which is not imported here unless "
                        "you trust it: --trust")
    if os.getcwd() not in sys.path:  # for good: the module may import its neighbours later
        sys.path.append(os.getcwd())
    with lending():
        try:
            if name not in sys.modules and (place := _place(name)):
                leave.tell(f"module '{name}' is imported for a layer in Python: {place}")
            return importlib.import_module(name)
        except ImportError:
            raise
        except (Exception, SystemExit) as e:
            raise Error(f"{start}module '{name}' ({_place(name)}) ended its own import by "
                        f"{type(e).__name__}: {e}") from None


def _place(name: str) -> str:
    """Where a module, or the package that it is in, lies; "" where it is not there."""
    with suppress(ImportError, ValueError):  # of what is there without a file
        if spec := importlib.util.find_spec(name.partition(".")[0]):
            return spec.origin or ", ".join(spec.submodule_search_locations or ())
    return ""
