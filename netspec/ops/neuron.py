"""Operations that work on each element by itself, and Eltwise, which joins blobs element by element."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..proto import caffe_pb2
from .base import IDENTITY, CoordMap, Operation, Shape


class Neuron(Operation):
    """An operation whose top has the bottom's shape and lies exactly on it."""

    @classmethod
    def coord_map(cls, layer: Any) -> CoordMap:
        return IDENTITY


class ReLU(Neuron):
    """max(x, 0) + negative_slope * min(x, 0)."""

    type = "ReLU"
    overwrites = True

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor], inplace: bool = False) -> Tensor:
        slope = self.layer.relu_param.negative_slope
        if slope:
            return F.leaky_relu(bottoms[0], slope)
        return F.relu(bottoms[0], inplace=inplace)


class Dropout(Neuron):
    """In TRAIN, zero with probability dropout_ratio and scale the rest by 1 / (1 - ratio); else the identity."""

    type = "Dropout"
    overwrites = True

    def setup(self, *shapes: Shape) -> None:
        self.ratio = self.layer.dropout_param.dropout_ratio
        if not 0 < self.ratio < 1:
            raise self.error(f"dropout_ratio must lie between 0 and 1, found {self.ratio:g}")

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor], inplace: bool = False) -> Tensor:
        return F.dropout(bottoms[0], self.ratio, self.context.training, inplace=inplace)


class Eltwise(Neuron):
    """SUM (with coeff), PROD or MAX of two or more bottoms of one shape; of equal maxima the first wins."""

    type = "Eltwise"
    bottoms = (2, None)

    def setup(self, *shapes: Shape) -> None:
        p = self.layer.eltwise_param
        if len(p.coeff) not in (0, len(shapes)):
            raise self.error(f"has {len(p.coeff)} coeff for {len(shapes)} bottoms")
        if len(p.coeff) and p.operation == caffe_pb2.EltwiseParameter.PROD:
            raise self.error("coeff goes with SUM only")

    def infer(self, *shapes: Shape) -> list[Shape]:
        for name, shape in zip(self.layer.bottom, shapes, strict=True):
            if shape != shapes[0]:
                raise self.error(f"bottoms must have one shape: '{self.layer.bottom[0]}' is {list(shapes[0])}, "
                                 f"'{name}' is {list(shape)}; crop the larger one first")
        return [shapes[0]]

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> Tensor:
        p = self.layer.eltwise_param
        if p.operation == caffe_pb2.EltwiseParameter.SUM:
            y = bottoms[0] * p.coeff[0] if p.coeff else bottoms[0]
            for i, x in enumerate(bottoms[1:], 1):
                y = torch.add(y, x, alpha=p.coeff[i] if p.coeff else 1)
            return y
        y = bottoms[0]
        for x in bottoms[1:]:
            # torch.maximum would halve the gradient between equal maxima
            y = y * x if p.operation == caffe_pb2.EltwiseParameter.PROD else torch.where(y >= x, y, x)
        return y
