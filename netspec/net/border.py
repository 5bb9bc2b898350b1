"""What a net computes where it does not see the image: once for its weights and all images of like size.

Far from the image, in the padding of a first layer (FCN's 100 pixels), every activation is what the net makes
of an all-zero image. Along each axis such a map is a strip at either rim, and one and the same number between
them. So a small all-zero image, whose size leaves the same remainder by the strides, has all of its numbers.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..base.errors import Error
from ..ops import Shape
from .graph import Value
from .passes import Unit
from .regions import ENDLESS, Rect, Span

Shapes = Mapping[Value, Shape]


@dataclass(frozen=True)
class Small:
    """A smaller image of the same remainders: its size, its shapes, and of each map a cell that neither rim
    reaches."""

    size: tuple[int, int]
    shapes: Shapes
    middle: Mapping[Value, tuple[int, int]]

    def spread(self, small: Tensor, value: Value, part: Rect, shape: Shape) -> Tensor:
        """A part of the map of an image, from the map (1, C, h, w) of the small one."""
        for axis, (span, cell) in enumerate(zip(part, self.middle[value], strict=True), 2):
            cells = torch.arange(*span, device=small.device)
            less = shape[axis] - small.shape[axis]
            there = torch.where(cells < cell, cells, torch.where(cells >= cell + less, cells - less, cell))
            small = small.index_select(axis, there)
        return small


def smaller(units: Sequence[Unit], shapes: Shapes, image: Value, values: Collection[Value]) -> Small | None:
    """The least all-zero image from which the maps of `values` can be told; None if that is not smaller.

    units: those that lead from the image to the values. shapes: for the image as it is.
    """
    full, size = shapes[image], []
    for axis in (2, 3):
        strides = [_stride(units, v, axis - 2) for v in values]
        if math.inf in strides:
            return None
        step = math.lcm(*(math.ceil(stride) for stride in strides))
        side = full[axis] % step or step
        while side < full[axis]:
            trial = [*full]
            trial[axis] = side
            if _told(units, shapes, image, values, (1, *trial[1:]), axis - 2):
                break
            side += step
        size.append(min(side, full[axis]))
    if size[0] * size[1] * 2 > full[2] * full[3]:
        return None
    small = _shapes(units, image, (1, full[1], *size))
    if small is None:
        return None
    middle = {v: (small[v][2] // 2, small[v][3] // 2) for v in values}
    return Small((size[0], size[1]), small, middle)


def _told(units: Sequence[Unit], shapes: Shapes, image: Value, values: Collection[Value], trial: Shape,
          i: int) -> bool:
    """Whether an image of this shape has, along axis i, all that the full one's maps have."""
    small = _shapes(units, image, trial)
    if small is None:
        return False
    clean: dict[Value, Span] = {image: ENDLESS}
    for unit in units:
        within = []
        for j, bottom in enumerate(unit.bottoms):
            seen = unit.sees(j)
            if seen is None:
                return False
            if j not in unit.node.op.sized:
                within.append(seen[i].within(clean[bottom]))
        for top in unit.tops:
            clean[top] = max(0, *(a for a, _ in within)), min(small[top][2 + i], *(b for _, b in within))
    less = shapes[image][2 + i] - trial[2 + i]
    return all(clean[v][0] <= small[v][2 + i] // 2 < clean[v][1]
               and (shapes[v][2 + i] - small[v][2 + i]) * _stride(units, v, i) == less for v in values)


def _stride(units: Sequence[Unit], value: Value, i: int) -> float:
    """Pixels of the image from one cell of a map to the next."""
    makers = {top: unit for unit in units for top in unit.tops}
    stride = 1.0
    while value in makers:
        seen = makers[value].sights
        if seen is None:
            return math.inf
        stride, value = stride / float(seen[i].scale), makers[value].bottoms[0]
    return stride


def _shapes(units: Sequence[Unit], image: Value, shape: Shape) -> dict[Value, Shape] | None:
    """The shapes of all that units make of an image; None if it is too small, or they read something else."""
    shapes = {image: tuple(shape)}
    try:
        for unit in units:
            if any(b not in shapes for b in unit.bottoms):
                return None
            bottoms = [shapes[b] for b in unit.bottoms]  # what is added may follow
            shapes |= zip(unit.node.bottoms, bottoms, strict=False)
            tops = unit.node.op.infer(*(shapes[b] for b in unit.node.bottoms))
            shapes |= zip((*unit.node.tops, *unit.tops), (*tops, *tops), strict=True)
    except Error:
        return None
    return shapes
