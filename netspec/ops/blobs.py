"""Blobs as Caffe's Python interface shows them: data and diff, tensors for nets, arrays for people."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..base.errors import Error
from ..base.machine import check_room
from ..proto.wire import MOST_AXES, MOST_NUMBERS, possible

Shape = tuple[int, ...]
CPU = torch.device("cpu")


class Memory:
    """float32 numbers that a net sees as a tensor on its device, and people as a writable NumPy array.

    On the CPU both are the same memory. On a GPU the array is a copy that is fetched when it is asked for and
    carried back when the tensor is asked for next, as Caffe's SyncedMemory does.
    """

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self._held: Tensor | None = None  # None: zeros that nobody has looked at
        self._copy: np.ndarray | None = None
        self._ahead = False  # the copy may hold what the tensor does not
        self.shown = False  # someone may hold the array

    def _get(self) -> Tensor:
        if self._held is None:
            check_room(4 * math.prod(self.shape), CPU, f"a blob of shape {list(self.shape)} takes",
                       "reshape it before its numbers are asked for")
            self._held = torch.zeros(self.shape)
        return self._held

    def _set(self, tensor: Tensor) -> None:
        self._held = tensor

    def settle(self) -> None:
        """Carry what was written into the copy back."""
        if self._ahead:
            self._get().copy_(torch.from_numpy(self._copy))
            self._ahead = False

    def tensor(self, device: torch.device | None = None) -> Tensor:
        """The numbers on a device (None: where they are), without a gradient."""
        self.settle()
        held = self._get()
        if device is not None and held.device != device:
            held = held.to(device)
            self._set(held)
        return held

    def array(self) -> np.ndarray:
        """The numbers as an array of C's order; `tensor` gives what is written into it from then on."""
        held = self._get()
        if held.device == CPU:
            if held.dtype != torch.float32 or not held.is_contiguous():
                held = held.float().contiguous()
                self._set(held)
            self.shown = True
            return held.numpy()
        if self._copy is None or self._copy.shape != self.shape:
            self._copy, self._ahead = np.empty(self.shape, np.float32), False
        if not self._ahead:
            torch.from_numpy(self._copy).copy_(held)
            self._ahead = True
        return self._copy

    def put(self, tensor: Tensor) -> None:
        """Take new numbers, of any shape. Arrays of that shape which were given out on the CPU show them."""
        tensor = tensor.data  # not detach(), which shares the count of changes that autograd checks
        if self.shown and tensor.device == CPU and tuple(tensor.shape) == self.shape:
            self._get().copy_(tensor)
        else:
            self._set(tensor)
            self.shown = False
        self.shape, self._ahead = tuple(tensor.shape), False

    def resize(self, shape: Shape) -> None:
        """Another shape: old numbers stay in their order, as far as they fit; zeros if there are too few."""
        if shape == self.shape:
            return
        if self._held is not None:
            kept, count = self.tensor(), math.prod(shape)
            self._held = kept.reshape(-1)[:count].reshape(shape) if count <= kept.numel() else None
        self.shape, self.shown = shape, False


class _Parameter(Memory):
    """The numbers of a parameter, in the shape that a layer sees."""

    def __init__(self, parameter: nn.Parameter, shape: Shape) -> None:
        super().__init__(shape)
        self.parameter = parameter

    def array(self) -> np.ndarray:
        found = super().array()
        self.parameter.__dict__["shown"] = True  # it may change without torch's knowing: see net/plan.py
        return found

    def _get(self) -> Tensor:
        return self._view(self.parameter.data)

    def _set(self, tensor: Tensor) -> None:
        self.parameter.data = tensor.view(self.parameter.shape)

    def _view(self, tensor: Tensor) -> Tensor:
        if tuple(tensor.shape) != self.shape and not tensor.is_contiguous():
            self._set(tensor.contiguous())
            return self._get()
        return tensor.view(self.shape)

    def resize(self, shape: Shape) -> None:
        if shape != self.shape:
            raise Error(f"a parameter of shape {list(self.shape)} cannot be reshaped to {list(shape)}; "
                        "its layer's settings give the shape")


class _Gradient(_Parameter):
    """The sum of a parameter's gradients."""

    def _get(self) -> Tensor:
        if self.parameter.grad is None:
            self.parameter.grad = torch.zeros_like(self.parameter, memory_format=torch.contiguous_format)
        return self._view(self.parameter.grad)

    def _set(self, tensor: Tensor) -> None:
        self.parameter.grad = tensor.view(self.parameter.shape)


class Blob:
    """Caffe's Blob: `data` and `diff` are float32 arrays, `reshape` gives both another shape."""

    def __init__(self, shape: Shape = (), data: Memory | None = None, diff: Memory | None = None) -> None:
        self.data_memory = data or Memory(tuple(shape))
        self.diff_memory = diff or Memory(tuple(shape))

    @classmethod
    def of(cls, parameter: nn.Parameter, shape: Shape | None = None) -> "Blob":
        """A parameter and its gradient, always the same Blob; shape: another one of as many numbers."""
        shape = tuple(parameter.shape if shape is None else shape)
        made = vars(parameter).setdefault("caffe_blobs", {})
        if shape not in made:
            made[shape] = cls(shape, _Parameter(parameter, shape), _Gradient(parameter, shape))
        return made[shape]

    def is_of(self, parameter: nn.Parameter) -> bool:
        return isinstance(self.data_memory, _Parameter) and self.data_memory.parameter is parameter

    @property
    def data(self) -> np.ndarray:
        return self.data_memory.array()

    @property
    def diff(self) -> np.ndarray:
        return self.diff_memory.array()

    @property
    def shape(self) -> Shape:
        return self.data_memory.shape

    @property
    def count(self) -> int:
        return math.prod(self.shape)

    num = property(lambda self: self._axis(0))
    channels = property(lambda self: self._axis(1))
    height = property(lambda self: self._axis(2))
    width = property(lambda self: self._axis(3))

    def _axis(self, axis: int) -> int:
        if len(self.shape) > 4:
            raise Error(f"a blob of shape {list(self.shape)} has no num, channels, height and width; "
                        "use its shape")
        return self.shape[axis] if axis < len(self.shape) else 1

    def reshape(self, *shape: Any) -> None:
        """reshape(2, 3, 4): the sizes one by one."""
        sizes = tuple(int(n) for n in shape)
        if not possible(sizes):
            raise Error(f"a blob cannot have the shape {list(sizes)}; sizes are 0 or more, of at most "
                        f"{MOST_AXES} axes and {MOST_NUMBERS} numbers")
        self.data_memory.resize(sizes)
        self.diff_memory.resize(sizes)
