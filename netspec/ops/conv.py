"""Convolution and its transpose, over one to three spatial axes."""

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from .base import CoordMap, Operation, Param, Shape, spatial


class Convolution(Operation):
    """Cross-correlation with num_output kernels; every bottom goes through the same weights.

    Bottoms N x C x (1 to 3 spatial axes); weight num_output x C/group x kernel; bias num_output.
    """

    type = "Convolution"
    fresh = True
    bottoms = (1, None)
    tops = (1, None)
    functions: Sequence[Callable[..., Tensor]] = (F.conv1d, F.conv2d, F.conv3d)

    def setup(self, *shapes: Shape) -> None:
        p, shape = self.layer.convolution_param, shapes[0]
        if len(self.layer.top) != len(self.layer.bottom):
            raise self.error("gives one top for each bottom")
        self.channel_axis = self.axis(p.axis, len(shape))
        self.dims = dims = len(shape) - self.channel_axis - 1
        if not 1 <= dims <= 3:
            raise self.error(f"works on 1 to 3 spatial axes, but bottom {list(shape)} has {dims} behind axis {p.axis}")
        for name in ("kernel", "stride", "pad"):
            values = getattr(p, name + "_size" if name == "kernel" else name)
            both = p.HasField(name + "_h"), p.HasField(name + "_w")
            if any(both) and not (all(both) and dims == 2 and not values):
                raise self.error(f"{name}_h and {name}_w come together, for 2-D bottoms, and without {name}")
            if len(values) not in (0, 1, dims):
                raise self.error(f"{name} has {len(values)} values for {dims} spatial axes")
        self.kernel, self.stride, self.pad, self.dilation = geometry(p, dims)
        if not all(self.kernel):
            raise self.error("needs kernel_size (or kernel_h and kernel_w) above 0")
        if not all(self.stride) or not all(self.dilation):
            raise self.error("stride and dilation must be above 0")
        channels, outputs, group = shape[self.channel_axis], p.num_output, p.group
        if not outputs:
            raise self.error("needs num_output above 0")
        if channels % group or outputs % group:
            raise self.error(f"group {group} must divide both {channels} input channels and num_output {outputs}")
        self.channels, self.outputs = channels, outputs
        self.params.append(Param(self.weight_shape(channels, outputs, group), p.weight_filler))
        if p.bias_term:
            self.params.append(Param((outputs,), p.bias_filler))

    def weight_shape(self, channels: int, outputs: int, group: int) -> Shape:
        return (outputs, channels // group, *self.kernel)

    def size(self, n: int, i: int) -> int:
        """The top's size along spatial axis `i` for a bottom of size `n` (convolution rounds down)."""
        return (n + 2 * self.pad[i] - self.dilation[i] * (self.kernel[i] - 1) - 1) // self.stride[i] + 1

    def infer(self, *shapes: Shape) -> list[Shape]:
        tops = []
        for shape in shapes:
            if len(shape) != self.channel_axis + 1 + self.dims or shape[self.channel_axis] != self.channels:
                raise self.error(f"was set up for {self.channels} channels, bottom is {list(shape)}")
            sizes = tuple(self.size(n, i) for i, n in enumerate(shape[self.channel_axis + 1 :]))
            if min(sizes) < 1:
                raise self.error(f"kernel {list(self.kernel)} does not fit bottom {list(shape)} with pad {list(self.pad)}")
            tops.append((*shape[: self.channel_axis], self.outputs, *sizes))
        return tops

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> list[Tensor]:
        weight, bias = params[0], params[1] if len(params) > 1 else None
        tops = []
        for x in bottoms:
            outer = x.shape[: self.channel_axis]
            if self.channel_axis != 1:
                x = x.reshape(math.prod(outer), *x.shape[self.channel_axis :])
            y = self.apply(x, weight, bias)
            tops.append(y if self.channel_axis == 1 else y.reshape(*outer, *y.shape[1:]))
        return tops

    def apply(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        group = self.layer.convolution_param.group
        return self.functions[self.dims - 1](x, weight, bias, self.stride, self.pad, self.dilation, group)

    @classmethod
    def coord_map(cls, layer: Any) -> CoordMap:
        return strided(layer.convolution_param)


class Deconvolution(Convolution):
    """The transpose of Convolution; weight C x num_output/group x kernel."""

    type = "Deconvolution"
    functions = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)

    def weight_shape(self, channels: int, outputs: int, group: int) -> Shape:
        return (channels, outputs // group, *self.kernel)

    def size(self, n: int, i: int) -> int:
        return self.stride[i] * (n - 1) + self.dilation[i] * (self.kernel[i] - 1) + 1 - 2 * self.pad[i]

    def apply(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        group = self.layer.convolution_param.group
        return self.functions[self.dims - 1](x, weight, bias, self.stride, self.pad, 0, group, self.dilation)

    @classmethod
    def coord_map(cls, layer: Any) -> CoordMap:
        forward = strided(layer.convolution_param)
        scale = tuple(1 / a for a in forward.scale)
        return CoordMap(forward.axis, scale, tuple(-b * a for a, b in zip(scale, forward.shift, strict=True)))


def geometry(p: Any, dims: int) -> tuple[tuple[int, ...], ...]:
    """kernel, stride, pad and dilation of a ConvolutionParameter or PoolingParameter, one number an axis."""
    def listed(value: Any) -> Sequence[int]:
        return [value] if isinstance(value, int) else value

    def pair(name: str) -> tuple[int | None, int | None]:
        return tuple(getattr(p, f"{name}_{s}") if p.HasField(f"{name}_{s}") else None for s in "hw")

    kernel = tuple(spatial(listed(p.kernel_size), *pair("kernel"), dims, 0))
    stride = tuple(spatial(listed(p.stride), *pair("stride"), dims, 1))
    pad = tuple(spatial(listed(p.pad), *pair("pad"), dims, 0))
    dilation = tuple(spatial(getattr(p, "dilation", ()), None, None, dims, 1))
    return kernel, stride, pad, dilation


def strided(p: Any) -> CoordMap:
    """The coordinate map of a window that slides: top = bottom / stride + (pad - (extent - 1) / 2) / stride."""
    dims = max([1, *(len(v) for v in (getattr(p, n) for n in ("kernel_size", "stride", "pad"))
                     if not isinstance(v, int))])
    if any(p.HasField(f"{name}_h") for name in ("kernel", "stride", "pad")):
        dims = 2
    scale, shift = [], []
    for kernel, stride, pad, dilation in zip(*geometry(p, dims), strict=True):
        scale.append(Fraction(1, stride))
        shift.append((pad - Fraction(dilation * (kernel - 1), 2)) / stride)
    return CoordMap(getattr(p, "axis", 1), tuple(scale), tuple(shift))
