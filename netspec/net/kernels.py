"""The arithmetic of a plan's units on their device: weights made ready once, and what is run with them."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor

from ..ops.base import raised
from ..ops.conv import Convolution, Deconvolution
from ..ops.dense import InnerProduct
from ..ops.norm import LRN
from ..ops.pool import Pooling
from ..ops.shape import Crop
from .graph import Node
from .grouped import diagonal, own
from .passes import Unit, folded
from .unrolled import products

Pads = tuple[int, int, int, int]  # rows above and below, columns to the left and right, that a window needs
Params = Mapping[Node, list[Tensor]]
Kernel = Callable[[Sequence[Tensor], Pads], Sequence[Tensor]]  # bottoms cut to their windows -> tops
SMALL, SIZES = 1024, 8  # cells of a map below which weights are ordered for its size, and so many sizes
PLACES = 512  # of windows, whose values are laid out at once
TILED = 128, 56  # channels and columns from which AMX's convolution is slow without padding beside the rows
LARGE = 1 << 24  # weights from which a convolution is a product: oneDNN reads them for every row, or copies


def ready(unit: Unit, params: Params, dtype: torch.dtype, rewrites: Collection[str]) -> Kernel | None:
    """What computes a unit, its weights cast and in the machine's order; None: what its layer does itself.

    params: of each of its layers. dtype: of products.
    """
    op = unit.node.op
    if isinstance(op, InnerProduct):
        return _product(op, *_numbers(unit, params, dtype), unit.relu)
    if not op.local:
        return _normalised(op) if isinstance(op, LRN) and op.across and "norm" in rewrites else None
    if isinstance(op, Deconvolution):
        return _deconvolution(op, *_numbers(unit, params, dtype), unit.relu, "group" in rewrites)
    if isinstance(op, Convolution):
        return _convolution(op, *_numbers(unit, params, dtype), unit, rewrites)
    if isinstance(op, Pooling):
        return _maxima(op) if "pool" in rewrites else _pooling(op)
    return (lambda xs, pads: [xs[0]]) if isinstance(op, Crop) else None  # its window is what it leaves


def _numbers(unit: Unit, params: Params, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
    """The weight and bias of a unit in the precision of products."""
    weight, *others = params[unit.node]
    bias = others[0] if others else None
    if unit.folded:
        weight, bias = folded(unit, weight, bias, params)
    return weight.to(dtype), None if bias is None else bias.to(dtype)


def packable(x: Tensor) -> bool:
    """Whether oneDNN runs convolutions with such weights here."""
    onednn = torch.backends.mkldnn
    if x.device.type != "cpu" or not onednn.is_available() or not onednn.enabled:
        return False
    half = x.dtype == torch.bfloat16 and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return half or x.dtype == torch.float32


def _convolution(op: Convolution, weight: Tensor, bias: Tensor | None, unit: Unit,
                 rewrites: Collection[str]) -> Kernel:
    group = op.layer.convolution_param.group
    if "pack" in rewrites and packable(weight):
        large = weight.numel() >= LARGE
        alone = group == 1 and not unit.added and "window" in rewrites
        if alone and large and weight.dtype == torch.float32:
            return _unrolled(op, weight, bias, unit.relu)
        if alone and set(op.dilation) == {1} and (large or math.prod(op.kernel) == 1):
            return _windowed(op, weight, bias, unit.relu)
        return _packed(op, weight, bias, unit, "tile" in rewrites)
    weight = weight.contiguous(memory_format=torch.channels_last)

    def run(xs: Sequence[Tensor], pads: Pads) -> list[Tensor]:
        x, pad = _padded(_laid(xs[0], weight.dtype), pads)
        y = F.conv2d(x, weight, bias, op.stride, pad, op.dilation, group)
        y = y.add_(xs[1]) if unit.added else y
        return [y.relu_() if unit.relu else y]

    return run


def _packed(op: Convolution, weight: Tensor, bias: Tensor | None, unit: Unit, tile: bool) -> Kernel:
    """By torch's own entry to oneDNN, which does what comes after it as well.

    The order of the weights suits a size of image: with another's, small maps take many times as long.
    """
    dtype, settings = weight.dtype, (op.stride, op.dilation, op.layer.convolution_param.group)
    order, run_one = torch.ops.mkldnn._reorder_convolution_weight, torch.ops.mkldnn._convolution_pointwise
    after, dense = "relu" if unit.relu else "none", weight.detach().contiguous()
    packed: dict[tuple[int, ...], Tensor] = {}
    tiled = (tile and dtype == torch.bfloat16 and torch.cpu._is_amx_tile_supported()
             and op.channels >= TILED[0] and op.kernel[1] > 1 and op.stride[1] == 1 and not unit.added)

    def run(xs: Sequence[Tensor], pads: Pads) -> list[Tensor]:
        x, pad = _padded(_laid(xs[0], dtype), pads)
        more = int(tiled and pad[1] == 0 and x.shape[3] >= TILED[1])
        pad = pad[0], pad[1] + more
        size = tuple(x.shape) if x.shape[2] * x.shape[3] < SMALL else ()
        if size not in packed:
            if len(packed) > SIZES:
                packed.clear()
            packed[size] = order(dense, pad, *settings, tuple(x.shape))
        if unit.added:
            other = _laid(xs[1], dtype)
            return [run_one.binary(x, other, packed[size], bias, pad, *settings, "add", 1.0,
                                   "relu" if unit.relu else None, [], None)]
        y = run_one(x, packed[size], bias, pad, *settings, after, [], "")
        return [y[:, :, :, more : y.shape[3] - more]]

    return run


def _windowed(op: Convolution, weight: Tensor, bias: Tensor | None, relu: bool) -> Kernel:
    """A convolution as products of its weights, ordered once for images of all sizes, with the values under
    some rows of windows."""
    run_one, after = torch.ops.mkldnn._linear_pointwise, "relu" if relu else "none"
    matrix = weight.detach().permute(0, 2, 3, 1).flatten(1)
    packed = torch.ops.mkldnn._reorder_linear_weight(matrix.contiguous(), 2)
    single = math.prod(op.kernel) == 1

    def product_of(windows: Tensor) -> Tensor:
        columns = windows.reshape(-1, math.prod(windows.shape[-3:]))
        alone = len(columns) == 1  # which takes weights in another order
        y = run_one(columns.expand(1 + alone, -1) if alone else columns, packed, bias, after, [], "")
        return y[: len(columns)].view(*windows.shape[:-3], -1)

    def run(xs: Sequence[Tensor], pads: Pads) -> list[Tensor]:
        x = _grown(_laid(xs[0], weight.dtype), pads).permute(0, 2, 3, 1)
        for i in (0, 1):
            x = x.unfold(1 + i, op.kernel[i], op.stride[i])
        x = x.permute(0, 1, 2, 4, 5, 3)
        parts = [x] if single else [part for item in x for part in item.split(max(1, PLACES // x.shape[2]))]
        y = torch.cat([product_of(part) for part in parts]) if len(parts) > 1 else product_of(parts[0])
        return [y.view(*x.shape[:3], -1).permute(0, 3, 1, 2)]

    return run


def _unrolled(op: Convolution, weight: Tensor, bias: Tensor | None, relu: bool) -> Kernel:
    def run(xs: Sequence[Tensor], pads: Pads) -> list[Tensor]:
        y = products(op, _grown(xs[0].to(weight.dtype), pads), weight, bias, PLACES)
        return [y.relu_() if relu else y]

    return run


def _deconvolution(op: Deconvolution, weight: Tensor, bias: Tensor | None, relu: bool, split: bool) -> Kernel:
    group, channels = op.layer.convolution_param.group, weight.shape[0]
    if split and group == 1 and channels == weight.shape[1] and diagonal(weight):
        # so few products cost nothing in float32, and the scores of a net need not be rounded
        weight, group = raised(own(weight)), channels
        bias = None if bias is None else raised(bias)
    weight = weight.contiguous(memory_format=torch.channels_last)

    def run(xs: Sequence[Tensor], pads: Pads) -> list[Tensor]:
        x = _laid(xs[0], weight.dtype)
        y = F.conv_transpose2d(x, weight, bias, op.stride, 0, 0, group, op.dilation)
        return [y.relu_() if relu else y]

    return run


def _product(op: InnerProduct, weight: Tensor, bias: Tensor | None, relu: bool) -> Kernel:
    p = op.layer.inner_product_param
    matrix = weight.t() if p.transpose else weight

    def run(xs: Sequence[Tensor], pads: Pads) -> list[Tensor]:
        x = xs[0].to(matrix.dtype)
        y = F.linear(x.flatten(op.axis(p.axis, x.ndim)), matrix, bias)
        return [y.relu_() if relu else y]

    return run


def _pooling(op: Pooling) -> Kernel:
    """Maxima over windows; what hangs over an end counts for nothing, whether padding or the map's end."""
    def run(xs: Sequence[Tensor], pads: Pads) -> list[Tensor]:
        return [F.max_pool2d(_grown(xs[0], pads, -math.inf), op.kernel, op.stride)]

    return run


def _maxima(op: Pooling) -> Kernel:
    """The same, where torch's own pooling writes the place of each maximum as well: 8 bytes beside 2 or 4."""
    def run(xs: Sequence[Tensor], pads: Pads) -> list[Tensor]:
        x = _grown(_laid(xs[0], xs[0].dtype), pads, -math.inf).permute(0, 2, 3, 1)
        for i, (kernel, stride) in enumerate(zip(op.kernel, op.stride, strict=True)):
            last = (x.shape[1 + i] - kernel) // stride * stride + 1
            across = [slice(None)] * (1 + i)
            x = reduce(torch.maximum, (x[(*across, slice(k, k + last, stride))] for k in range(kernel)))
        return [x.permute(0, 3, 1, 2)]

    return run


def _normalised(op: LRN) -> Kernel:
    """The sums over neighbouring channels as a product with a band of ones."""
    p = op.layer.lrn_param

    def run(xs: Sequence[Tensor], pads: Pads) -> list[Tensor]:
        x = raised(xs[0]).permute(0, 2, 3, 1)
        near = torch.ones(x.shape[3], x.shape[3], dtype=x.dtype, device=x.device)
        near = near.tril_(p.local_size // 2).triu_(-(p.local_size // 2)).mul_(p.alpha / p.local_size)
        rows = x.reshape(-1, x.shape[3])
        scale = torch.addmm(near.new_full((), p.k), rows.square(), near).pow_(-p.beta)
        return [scale.mul_(rows).reshape(x.shape).permute(0, 3, 1, 2)]

    return run


def _laid(x: Tensor, dtype: torch.dtype) -> Tensor:
    """A map channels last; a part of such a map is not copied."""
    if x.dtype == dtype and x.stride(1) == 1 and 0 not in x.stride():
        return x
    return x.to(dtype, memory_format=torch.channels_last)


def _padded(x: Tensor, pads: Pads) -> tuple[Tensor, tuple[int, int]]:
    """A map and the padding that is left to do alike on both sides."""
    above, below, left, right = pads
    if above == below and left == right and min(above, left) >= 0:
        return x, (above, left)
    return _grown(x, pads), (0, 0)


def _grown(x: Tensor, pads: Pads, value: float = 0.0) -> Tensor:
    """A map with rows and columns around it; negative ones are taken away from what that gives."""
    above, below, left, right = (max(0, pad) for pad in pads)
    if above or below or left or right:  # F.pad copies even where there is nothing to add
        x = F.pad(x, (left, right, above, below), value=value)
    (top, bottom, first, last), (high, wide) = (min(0, pad) for pad in pads), x.shape[2:]
    return x[:, :, -top : high + bottom, -first : wide + last]
