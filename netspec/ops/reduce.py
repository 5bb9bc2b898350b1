"""Operations that make one number, or few, out of many."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..proto import caffe_pb2
from .base import Operation, Shape, raised


class Reduction(Operation):
    """SUM, ASUM (of |x|), SUMSQ (of x^2) or MEAN over `axis` and all axes behind it, times coeff."""

    type = "Reduction"

    def infer(self, shape: Shape) -> list[Shape]:
        return [shape[: self.axis(self.layer.reduction_param.axis, len(shape))]]

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> Tensor:
        p, names = self.layer.reduction_param, caffe_pb2.ReductionParameter
        x = raised(bottoms[0])
        x = x.flatten(self.axis(p.axis, x.ndim))
        if p.operation == names.ASUM:
            x = x.abs()
        elif p.operation == names.SUMSQ:
            x = x.square()
        y = x.mean(-1) if p.operation == names.MEAN else x.sum(-1)
        return y * p.coeff


class ArgMax(Operation):
    """The positions of the top_k largest values, largest first; of equal ones the last position comes first.

    With `axis`: along it (out_max_val: the values instead). Without: of each item, N x 1 x top_k positions
    (out_max_val: N x 2 x top_k, positions and values).
    """

    type = "ArgMax"
    undifferentiable = frozenset({0})

    def infer(self, shape: Shape) -> list[Shape]:
        p = self.layer.argmax_param
        axis = self.axis(p.axis, len(shape)) if p.HasField("axis") else None
        among = math.prod(shape[1:]) if axis is None else shape[axis]
        if not 1 <= p.top_k <= among:
            raise self.error(f"top_k must lie between 1 and the {among} values it picks from, found {p.top_k}")
        if axis is not None:
            return [(*shape[:axis], p.top_k, *shape[axis + 1 :])]
        return [(shape[0], 2 if p.out_max_val else 1, p.top_k, *(1,) * (len(shape) - 3))]

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> Tensor:
        p, x = self.layer.argmax_param, raised(bottoms[0])
        flat, axis = (x, self.axis(p.axis, x.ndim)) if p.HasField("axis") else (x.reshape(len(x), 1, -1), 2)
        back = flat.flip(axis)  # so that the first of equals is the last position
        if p.top_k == 1:
            values, index = back.max(axis, keepdim=True)
        else:
            values, index = back.sort(dim=axis, descending=True, stable=True)
            values, index = values.narrow(axis, 0, p.top_k), index.narrow(axis, 0, p.top_k)
        index = (flat.shape[axis] - 1 - index).to(x.dtype)
        if p.HasField("axis"):
            return values if p.out_max_val else index
        y = torch.cat([index, values], 1) if p.out_max_val else index
        return y.reshape(self.infer(tuple(x.shape))[0])
