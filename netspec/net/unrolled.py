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
    """A two-dimensional Convolution without groups that multiplies its weights by the unrolled windows.

    So the weights are read in the order in which they lie, forward and backward, and not rearranged at each
    call. Its sums are the convolution's in another order. With more positions it is that itself.
    """

    def apply(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        high, wide = (self.size(n, i) for i, n in enumerate(x.shape[2:]))
        if len(weight) < MORE * len(x) * high * wide:
            return super().apply(x, weight, bias)
        windows = F.unfold(x, self.kernel, self.dilation, self.pad, self.stride).transpose(0, 1).flatten(1)
        rows = weight.flatten(1)
        y = rows @ windows if bias is None else torch.addmm(bias[:, None], rows, windows)
        return y.view(len(weight), len(x), high, wide).transpose(0, 1)


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
