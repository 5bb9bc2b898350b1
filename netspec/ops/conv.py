"""Convolution and its transpose over one to three spatial axes; the unrolling of windows over any number."""

import math
from collections.abc import Callable, Sequence
from copy import deepcopy
from fractions import Fraction

import torch.nn.functional as F
from torch import Tensor

from ..base.errors import Error
from ..proto.caffe_pb2 import ConvolutionParameter, LayerParameter, PoolingParameter, UnpoolingParameter
from ..proto.wire import MOST_NUMBERS, possible
from .base import CoordMap, Number, Operation, Param, Shape

Windowed = ConvolutionParameter | PoolingParameter | UnpoolingParameter

LONG = 1000  # cells of a stride; oneDNN crashes on those of 100,000


class Window(Operation, family="convolution"):
    """What convolution and im2col share: a window over the axes behind the channel axis."""

    def setup(self, *shapes: Shape) -> None:
        p, shape = self.layer.convolution_param, shapes[0]
        self.channel_axis = self.axis(p.axis, len(shape))
        self.dims = len(shape) - self.channel_axis - 1
        if self.dims < 1:
            raise self.error(f"needs spatial axes, but bottom {list(shape)} has none behind axis {p.axis}")
        check_geometry(self, p, self.dims)
        self.kernel, self.stride, self.pad, self.dilation = geometry(p, self.dims)
        if not all(self.kernel):
            raise self.error("needs kernel_size (or kernel_h and kernel_w) above 0")
        if not all(self.stride) or not all(self.dilation):
            raise self.error("stride and dilation must be above 0")
        self.channels = shape[self.channel_axis]

    def size(self, n: int, i: int) -> int:
        """The top's size along spatial axis `i` for a bottom of size `n` (convolution rounds down)."""
        return (n + 2 * self.pad[i] - self.dilation[i] * (self.kernel[i] - 1) - 1) // self.stride[i] + 1

    def placed(self, shape: Shape, outputs: int) -> Shape:
        """The top's shape, with `outputs` channels, for a bottom of this shape."""
        if len(shape) != self.channel_axis + 1 + self.dims or shape[self.channel_axis] != self.channels:
            raise self.error(f"was set up for {self.channels} channels, bottom is {list(shape)}")
        sizes = tuple(self.size(n, i) for i, n in enumerate(shape[self.channel_axis + 1 :]))
        if min(sizes) < 1:
            raise self.error(f"kernel {list(self.kernel)} does not fit bottom {list(shape)} "
                             f"with pad {list(self.pad)}")
        return (*shape[: self.channel_axis], outputs, *sizes)

    @property
    def extents(self) -> Shape:
        """The cells that the kernel spans along each spatial axis."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation, strict=True))

    @property
    def around(self) -> list[int]:
        """The padding as F.pad takes it."""
        return [p for pad in reversed(self.pad) for p in (pad, pad)]

    def window(self, *shapes: Shape) -> Shape:
        return ((1,) * (self.channel_axis + 1) + self.extents)[2:]

    @classmethod
    def coord_map(cls, layer: LayerParameter) -> CoordMap:
        return CoordMap(layer.convolution_param.axis, *strided(layer.convolution_param))


class Im2col(Window, type="Im2col"):
    """The values under the window at each position, as channels: C x kernel of them, channel by channel."""

    def setup(self, *shapes: Shape) -> None:
        super().setup(*shapes)
        check_padded(self, shapes[0], self.pad)

    def infer(self, shape: Shape) -> list[Shape]:
        return [self.placed(shape, self.channels * math.prod(self.kernel))]

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> Tensor:
        x, first = bottoms[0], self.channel_axis + 1
        y = F.pad(x, self.around) if any(self.pad) else x
        for i in range(self.dims):
            y = y.unfold(first + i, self.extents[i], self.stride[i])
            y = y[..., :: self.dilation[i]]
        windows = list(range(y.ndim - self.dims, y.ndim))
        y = y.permute(*range(first), *windows, *range(first, first + self.dims))
        return y.reshape(self.infer(tuple(x.shape))[0])


class Convolution(Window, type="Convolution", bottoms=(1, None), tops=(1, None), fresh=True):
    """Cross-correlation with num_output kernels; every bottom goes through the same weights.

    Bottoms N x C x (1 to 3 spatial axes); weight num_output x C/group x kernel; bias num_output.
    """

    functions: Sequence[Callable[..., Tensor]] = (F.conv1d, F.conv2d, F.conv3d)

    def setup(self, *shapes: Shape) -> None:
        super().setup(*shapes)
        if len(self.layer.top) != len(self.layer.bottom):
            raise self.error("gives one top for each bottom")
        if self.dims > 3:
            raise self.error(f"works on 1 to 3 spatial axes, found {self.dims} in bottom {list(shapes[0])}")
        p = self.layer.convolution_param
        outputs, group = p.num_output, p.group
        if not outputs:
            raise self.error("needs num_output above 0")
        if not group or self.channels % group or outputs % group:
            raise self.error(f"group {group} must divide both {self.channels} input channels "
                             f"and num_output {outputs}")
        self.params.append(Param(self.weight_shape(self.channels, outputs, group), p.weight_filler))
        if p.bias_term:
            self.params.append(Param((outputs,), p.bias_filler))

    @property
    def local(self) -> bool:
        return self.dims == 2 and self.channel_axis == 1 and len(self.layer.bottom) == 1

    def weight_shape(self, channels: int, outputs: int, group: int) -> Shape:
        return (outputs, channels // group, *self.kernel)

    def infer(self, *shapes: Shape) -> list[Shape]:
        return [self.placed(shape, self.layer.convolution_param.num_output) for shape in shapes]

    def macs(self, *shapes: Shape) -> int:
        return sum(map(math.prod, self.infer(*shapes))) * math.prod(self.params[0].shape[1:])

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
        stride, pad = self.stride, self.pad
        if 0 in x.shape[2:]:  # of which oneDNN makes no padded map
            x, pad = F.pad(x, self.around), (0,) * self.dims
        if max(stride) > LONG:  # a longer step than there is room for is none
            left = (n + 2 * p - span + 1 for n, p, span in zip(x.shape[2:], pad, self.extents, strict=True))
            stride = tuple(map(min, stride, left))
        return self.functions[self.dims - 1](x, weight, bias, stride, pad, self.dilation, group)


class DepthwiseConvolution(Convolution, type="DepthwiseConvolution"):
    """A Convolution; nets give it as many groups as channels (YOLO, yonghenglh6: quicker on a GPU)."""


class ConvolutionDepthwise(Convolution, type="ConvolutionDepthwise"):
    """A Convolution with as many groups as the bottom has channels, unless `group` is given (ShuffleNet's
    fork, jolibrain)."""

    def setup(self, *shapes: Shape) -> None:
        if not (p := self.layer.convolution_param).HasField("group"):
            self.layer = deepcopy(self.layer)
            self.layer.convolution_param.group = shapes[0][self.axis(p.axis, len(shapes[0]))]
        super().setup(*shapes)


class Convolution3D(Convolution, type="Convolution3D"):
    """A Convolution over time and space, N x C x L x H x W, of kernel_depth x kernel_size x kernel_size with
    temporal_stride and temporal_pad along L (C3D)."""


class NdConvolution(Convolution, type="NdConvolution"):
    """A Convolution whose kernel_shape, stride_shape and pad_shape have a number an axis (video-caffe)."""


class Deconvolution(Convolution, type="Deconvolution"):
    """The transpose of Convolution; weight C x num_output/group x kernel."""

    functions = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)

    def weight_shape(self, channels: int, outputs: int, group: int) -> Shape:
        return (channels, outputs // group, *self.kernel)

    def size(self, n: int, i: int) -> int:
        reached = self.stride[i] * (n - 1) + self.extents[i] - 2 * self.pad[i]
        return reached if n else 0  # torch has no top of nothing

    def reach(self, span: tuple[int, int], i: int) -> tuple[int, int]:
        """Which cells of the top, along spatial axis `i`, these cells of the bottom add to; not clipped."""
        first = span[0] * self.stride[i] - self.pad[i]
        extent = self.dilation[i] * (self.kernel[i] - 1) + 1
        return first, first + (span[1] - span[0] - 1) * self.stride[i] + extent

    def window(self, *shapes: Shape) -> Shape:
        cells = (-(-k // s) for k, s in zip(self.extents, self.stride, strict=True))
        return ((1,) * (self.channel_axis + 1) + tuple(cells))[2:]

    def macs(self, *shapes: Shape) -> int:
        return sum(map(math.prod, shapes)) * math.prod(self.params[0].shape[1:])

    def apply(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        group = self.layer.convolution_param.group
        stride = self.stride
        if max(stride) > LONG:  # of one cell there is no step
            stride = tuple(step if n > 1 else 1 for step, n in zip(stride, x.shape[2:], strict=True))
        return self.functions[self.dims - 1](x, weight, bias, stride, self.pad, 0, group, self.dilation)

    @classmethod
    def coord_map(cls, layer: LayerParameter) -> CoordMap:
        p = layer.convolution_param
        scale, shift = strided(p)
        back = tuple(-b / a for a, b in zip(scale, shift, strict=True))
        return CoordMap(p.axis, tuple(1 / a for a in scale), back)


class Deconvolution3D(Deconvolution, type="Deconvolution3D"):
    """A Deconvolution over time and space, with the settings of Convolution3D (C3D)."""


def check_geometry(op: Operation, p: Windowed, dims: int) -> None:
    """Refuse settings of a window that Caffe refuses.

    _h and _w come together, for two axes, and without the plain field; a repeated field is given once or for
    each.
    """
    for name in ("kernel", "stride", "pad"):
        field = "kernel_size" if name == "kernel" else name
        value = getattr(p, field)
        given = p.HasField(field) if isinstance(value, int) else len(value) > 0
        both = [p.HasField(f"{name}_{s}") for s in "hw"]
        halves = name == "pad" and not isinstance(value, int)  # of a Convolution: one of them may stand alone
        if any(both) and (dims != 2 or given or not (all(both) or halves)):
            raise op.error(f"{name}_h and {name}_w come together, for 2-D bottoms, and without {field}")
    for name in ("kernel_size", "stride", "pad", "dilation"):
        value = getattr(p, name, ())
        if not isinstance(value, int) and len(value) not in (0, 1, dims):
            raise op.error(f"{name} has {len(value)} values for {dims} spatial axes")
    if timed(p) and dims != 3:
        raise op.error(f"kernel_depth is for bottoms N x C x L x H x W, found {dims} spatial axes")
    if not timed(p) and not isinstance(p, UnpoolingParameter) and (p.HasField("temporal_stride")
                                                                   or p.HasField("temporal_pad")):
        raise op.error("temporal_stride and temporal_pad go with kernel_depth")
    for name in ("kernel", "stride", "pad"):
        sizes = shaped(p, name)
        if len(sizes) not in (0, dims) or not all(0 <= n <= MOST_NUMBERS for n in sizes):
            raise op.error(f"{name}_shape is {list(sizes)[:4]}, expected {dims} sizes, one an axis")


def check_padded(op: Operation, shape: Shape, pad: Shape) -> None:
    """Refuse a padding that makes a map larger than a blob can be, for an operation that makes that map."""
    padded = [*shape[: -len(pad)], *(n + 2 * p for n, p in zip(shape[-len(pad) :], pad, strict=True))]
    if not possible(padded):
        raise op.error(f"pad {list(pad)} makes a map of {padded}, and a blob has at most {MOST_NUMBERS} "
                       "numbers")


def geometry(p: Windowed, dims: int) -> tuple[Shape, Shape, Shape, Shape]:
    """kernel, stride, pad and dilation, one number an axis."""
    if not isinstance(p, UnpoolingParameter) and timed(p):
        (flat := deepcopy(p)).ClearField("kernel_depth")
        kernel, stride, pad, dilation = geometry(flat, 2)
        return ((p.kernel_depth, *kernel), (p.temporal_stride, *stride), (p.temporal_pad, *pad),
                (1, *dilation))

    def each(field: str, name: str, default: int) -> Shape:
        if shaped(p, name):
            return shaped(p, name)
        if name and (p.HasField(f"{name}_h") or p.HasField(f"{name}_w")):
            return getattr(p, f"{name}_h"), getattr(p, f"{name}_w")
        value = getattr(p, field, ())
        values = (value,) if isinstance(value, int) else tuple(value) or (default,)
        return values if len(values) > 1 else values * dims

    return (each("kernel_size", "kernel", 0), each("stride", "stride", 1), each("pad", "pad", 0),
            each("dilation", "", 1))


def timed(p: Windowed) -> bool:
    """Whether it has C3D's settings of the time axis."""
    return not isinstance(p, UnpoolingParameter) and p.HasField("kernel_depth")


def shaped(p: Windowed, name: str) -> Shape:
    """video-caffe's kernel_shape, stride_shape or pad_shape; () without."""
    return tuple(shape.dim) if (shape := getattr(p, f"{name}_shape", None)) else ()


def strided(p: Windowed) -> tuple[tuple[Number, ...], tuple[Number, ...]]:
    """Scale and shift of a window that slides: top = bottom / stride + (pad - (extent - 1) / 2) / stride."""
    given = (getattr(p, name, ()) for name in ("kernel_size", "stride", "pad", "dilation"))
    two = any(p.HasField(f"{name}_{s}") for name in ("kernel", "stride", "pad") for s in "hw")
    dims = 3 if timed(p) else 2 if two else max([1, len(shaped(p, "kernel")), *(
        len(numbers) for numbers in given if not isinstance(numbers, int))])
    axes = list(zip(*geometry(p, dims), strict=True))
    if not all(stride for _, stride, _, _ in axes):  # of a layer that was not set up, which refuses it
        raise Error("a window with stride 0 has no coordinate map")
    shift = ((pad - Fraction(dilation * (kernel - 1), 2)) / stride for kernel, stride, pad, dilation in axes)
    return tuple(Fraction(1, stride) for _, stride, _, _ in axes), tuple(shift)
