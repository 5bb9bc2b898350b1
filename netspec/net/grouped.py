"""Deconvolutions that do not learn and whose weights are diagonal over channels, each channel by itself."""

from collections.abc import Hashable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..ops.conv import Deconvolution
from .graph import Graph, Node
from .module import autocast


class Grouped(Deconvolution):
    """A two-dimensional Deconvolution whose frozen weights are looked at once, and again when they change.

    Where output c is made of input c alone, as in bilinear upsampling, the other products are left out. It
    works in float32 at least: half precision is no faster for so few products.
    """

    seen: tuple[Hashable, bool] = (None, False)

    def apply(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        mark = weight.data_ptr(), weight._version, weight.dtype
        if self.seen[0] != mark:
            self.seen = mark, not weight.requires_grad and diagonal(weight)
        if not self.seen[1]:
            return super().apply(x, weight, bias)
        each = own(weight)
        with autocast(x.device, torch.float32):
            return F.conv_transpose2d(x.to(weight.dtype, memory_format=torch.channels_last), each, bias,
                                      self.stride, self.pad, 0, len(each), self.dilation)


def diagonal(weight: Tensor) -> bool:
    """Whether each output is made of the input of its number alone; the host waits for the answer. Of meta,
    which has no numbers, none is."""
    if weight.is_meta:
        return False
    inner = weight.detach().abs().amax((2, 3))
    return bool((inner - inner.diag().diag()).count_nonzero() == 0)


def own(weight: Tensor) -> Tensor:
    """Of weights that are diagonal over channels those of each, (C, 1, h, w), channels last."""
    return weight.diagonal().permute(2, 0, 1)[:, None].contiguous(memory_format=torch.channels_last)


def grouped(graph: Graph) -> Graph:
    """The graph with its deconvolutions that may be done channel by channel."""
    return replace(graph, layers=tuple(_grouped(node, graph) for node in graph.layers))


def _grouped(node: Node, graph: Graph) -> Node:
    op = node.op
    if type(op) is not Deconvolution or (op.dims, op.channel_axis) != (2, 1) or node.params[0].lr_mult:
        return node
    count = op.layer.convolution_param
    if count.group != 1 or count.num_output != op.channels:
        return node
    return replace(node, op=Grouped(op.layer, [graph.shapes[b] for b in node.bottoms], op.context))
