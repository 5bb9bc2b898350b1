"""Convolutions as one matrix product: what pays where a layer has far more outputs than positions."""

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..ops import Shape
from ..ops.conv import Convolution
from .graph import Graph, Node, Value

MORE = 4  # outputs for each position from which on the product is quicker: FCN's fc6 has 4096 for 192


class Unrolled(Convolution):
    """A two-dimensional Convolution without groups as one of `products`; with more positions it is itself."""

    def apply(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        high, wide = (self.size(n, i) for i, n in enumerate(x.shape[2:]))
        if len(weight) < MORE * len(x) * high * wide:
            return super().apply(x, weight, bias)
        return products(self, F.pad(x, [pad for pad in reversed(self.pad) for _ in range(2)]), weight, bias)


def products(op: Convolution, x: Tensor, weight: Tensor, bias: Tensor | None, most: int = 1 << 30) -> Tensor:
    """A Convolution without groups, of a map with its padding on, that multiplies its weights by the unrolled
    windows, so many at once at most, or a row of them.

    So the weights are read in the order in which they lie, forward and backward, and not rearranged at each
    call. Its sums are the convolution's in another order.
    """
    high, wide = (op.size(n - 2 * op.pad[i], i) for i, n in enumerate(x.shape[2:]))
    bands, matrix, count = [], weight.flatten(1), max(1, most // max(1, len(x) * wide))
    for first in range(0, high, count) if count < high else (0,):  # torch.compile would count for each size
        last = min(first + count, high) - 1
        band = x[:, :, first * op.stride[0] : last * op.stride[0] + op.window()[0]]
        windows = F.unfold(band, op.kernel, op.dilation, 0, op.stride).transpose(0, 1).flatten(1)
        y = matrix @ windows if bias is None else torch.addmm(bias[:, None], matrix, windows)
        bands.append(y.view(len(matrix), len(x), last + 1 - first, wide))
    return (bands[0] if len(bands) == 1 else torch.cat(bands, 2)).transpose(0, 1)


def unrolled(graph: Graph) -> Graph:
    """The graph with those of its convolutions unrolled that pay at the shapes it was built for."""
    return replace(graph, layers=tuple(_unrolled(node, graph.shapes) for node in graph.layers))


def _unrolled(node: Node, shapes: Mapping[Value, Shape]) -> Node:
    op = node.op
    if type(op) is not Convolution:
        return node
    if (op.dims, op.channel_axis, op.layer.convolution_param.group) != (2, 1, 1):
        return node
    bottoms = [shapes[b] for b in node.bottoms]
    pays = all(top[1] >= MORE * top[0] * math.prod(top[2:]) for top in op.infer(*bottoms))
    return replace(node, op=Unrolled(op.layer, bottoms, op.context)) if pays else node
