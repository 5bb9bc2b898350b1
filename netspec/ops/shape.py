"""Operations that move, cut and join blobs without computing."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .base import IDENTITY, CoordMap, Operation, Shape


class Crop(Operation):
    """The first bottom cut to the second's size along `axis` and all axes behind it, from `offset` on."""

    type = "Crop"
    bottoms = 2
    undifferentiable = frozenset({1})

    def setup(self, *shapes: Shape) -> None:
        p, dims = self.layer.crop_param, len(shapes[0])
        self.first = self.axis(p.axis, dims)
        count = dims - self.first
        if len(p.offset) not in (0, 1, count):
            raise self.error(f"has {len(p.offset)} offsets for {count} cropped axes; give one, or one an axis")
        self.offsets = list(p.offset) if len(p.offset) == count else list(p.offset or [0]) * count

    def infer(self, *shapes: Shape) -> list[Shape]:
        (source, size) = shapes
        if len(source) != len(size):
            raise self.error(f"bottoms must have as many axes: {list(source)} and {list(size)}")
        for axis, offset in enumerate(self.offsets, self.first):
            if offset + size[axis] > source[axis]:
                raise self.error(f"the crop leaves '{self.layer.bottom[0]}' {list(source)} along axis {axis}: "
                                 f"offset {offset} + size {size[axis]} > {source[axis]}")
        return [(*source[: self.first], *size[self.first :])]

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> Tensor:
        x, size = bottoms[0], bottoms[1].shape
        for axis, offset in enumerate(self.offsets, self.first):
            x = x.narrow(axis, offset, size[axis])
        return x

    @classmethod
    def coord_map(cls, layer: Any) -> CoordMap:
        p = layer.crop_param
        return CoordMap(p.axis - 1, 1, tuple(-offset for offset in p.offset) or 0)


class Concat(Operation):
    """Bottoms joined along `axis`, in order."""

    type = "Concat"
    bottoms = (1, None)

    def setup(self, *shapes: Shape) -> None:
        p = self.layer.concat_param
        if p.HasField("axis") and p.HasField("concat_dim"):
            raise self.error("takes axis or concat_dim, not both")
        self.along = self.axis(p.concat_dim if p.HasField("concat_dim") else p.axis, len(shapes[0]))

    def infer(self, *shapes: Shape) -> list[Shape]:
        rest = {(*s[: self.along], *s[self.along + 1 :]) for s in shapes}
        if len(rest) > 1 or len({len(s) for s in shapes}) > 1:
            raise self.error(f"bottoms may differ along axis {self.along} only, found {[list(s) for s in shapes]}")
        total = sum(s[self.along] for s in shapes)
        return [(*shapes[0][: self.along], total, *shapes[0][self.along + 1 :])]

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(bottoms), self.along)


class Split(Operation):
    """The bottom, once for each top; gradients add up."""

    type = "Split"
    tops = (1, None)

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> list[Tensor]:
        return [bottoms[0].view_as(bottoms[0]) for _ in self.layer.top]

    @classmethod
    def coord_map(cls, layer: Any) -> CoordMap:
        return IDENTITY


class Silence(Operation):
    """Swallows bottoms that would otherwise be outputs of the net."""

    type = "Silence"
    bottoms = (1, None)
    tops = 0

    def infer(self, *shapes: Shape) -> list[Shape]:
        return []

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> list[Tensor]:
        return []
