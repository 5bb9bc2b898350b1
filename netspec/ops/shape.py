"""Operations that move, cut, pick and join what blobs hold, without computing."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from ..proto.caffe_pb2 import LayerParameter
from ..proto.wire import MOST_AXES
from .base import IDENTITY, CoordMap, Operation, Shape, spoiled


class Moved(Operation, family="shape"):
    """What gives the bottom's own numbers, in other places or not at all."""


class Crop(Moved, type="Crop", bottoms=2, undifferentiable={1}, sized={1}):
    """The first bottom cut to the second's size along `axis` and all axes behind it, from `offset` on."""

    def setup(self, *shapes: Shape) -> None:
        p, dims = self.layer.crop_param, len(shapes[0])
        self.first = self.axis(p.axis, dims)
        count = dims - self.first
        if len(p.offset) not in (0, 1, count):
            raise self.error(f"has {len(p.offset)} offsets for {count} cropped axes; "
                             "give one, or one an axis")
        self.offsets = list(p.offset) if len(p.offset) == count else list(p.offset or [0]) * count
        self.maps = dims == 4 and self.first > 1
        self.sized = self.sized if self.maps else frozenset()

    @property
    def local(self) -> bool:
        return self.maps

    def infer(self, *shapes: Shape) -> list[Shape]:
        (source, size) = shapes
        if len(source) != len(size):
            raise self.error(f"bottoms must have as many axes: {list(source)} and {list(size)}")
        for axis, offset in enumerate(self.offsets, self.first):
            if offset + size[axis] > source[axis]:
                raise self.error(f"the crop leaves '{self.layer.bottom[0]}' {list(source)} along axis "
                                 f"{axis}: offset {offset} + size {size[axis]} > {source[axis]}")
        return [(*source[: self.first], *size[self.first :])]

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> Tensor:
        x, size = bottoms[0], bottoms[1].shape
        for axis, offset in enumerate(self.offsets, self.first):
            x = x.narrow(axis, offset, size[axis])
        return x

    @classmethod
    def coord_map(cls, layer: LayerParameter) -> CoordMap | None:
        p = layer.crop_param
        return CoordMap(p.axis - 1, 1, tuple(-offset for offset in p.offset) or 0)


class AutoCrop(Crop, type="AutoCrop", aligned=True):
    """A Crop of both spatial axes whose offset is what the coordinate maps between its bottoms say.

    The graph works the offset out and makes a Crop of it, since that takes the layers above it.
    """

    @classmethod
    def coord_map(cls, layer: LayerParameter) -> CoordMap | None:
        return None


class Concat(Moved, type="Concat", bottoms=(1, None), channelwise=True, fresh=True):
    """Bottoms joined along `axis`, in order."""

    def setup(self, *shapes: Shape) -> None:
        p = self.layer.concat_param
        if p.HasField("axis") and p.HasField("concat_dim"):
            raise self.error("takes axis or concat_dim, not both")
        self.along = self.axis(p.concat_dim if p.HasField("concat_dim") else p.axis, len(shapes[0]))

    def infer(self, *shapes: Shape) -> list[Shape]:
        rest = {(*s[: self.along], *s[self.along + 1 :]) for s in shapes}
        if len(rest) > 1 or len({len(s) for s in shapes}) > 1:
            found = [list(s) for s in shapes]
            raise self.error(f"bottoms may differ along axis {self.along} only, found {found}")
        total = sum(s[self.along] for s in shapes)
        return [(*shapes[0][: self.along], total, *shapes[0][self.along + 1 :])]

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(bottoms), self.along)


class Slice(Moved, type="Slice", tops=(1, None), channelwise=True):
    """The bottom cut along `axis` at each slice_point, or without any into equal parts, one a top."""

    def infer(self, shape: Shape) -> list[Shape]:
        axis, sizes = self.parts(shape)
        return [(*shape[:axis], size, *shape[axis + 1 :]) for size in sizes]

    def parts(self, shape: Shape) -> tuple[int, list[int]]:
        """The axis to cut and the size of each part along it."""
        p, count = self.layer.slice_param, len(self.layer.top)
        if p.HasField("axis") and p.HasField("slice_dim"):
            raise self.error("takes axis or slice_dim, not both")
        axis = self.axis(p.slice_dim if p.HasField("slice_dim") else p.axis, len(shape))
        total = shape[axis]
        if not p.slice_point:
            if total % count:
                raise self.error(f"cannot cut {total} along axis {axis} of bottom {list(shape)} into {count} "
                                 "equal tops")
            return axis, [total // count] * count
        points = [0, *p.slice_point, total]
        if len(points) != count + 1 or any(a >= b for a, b in pairwise(points)):
            raise self.error(f"slice_point {list(p.slice_point)} must be {count - 1} growing numbers for "
                             f"{count} tops, between 0 and the {total} along axis {axis}")
        return axis, [b - a for a, b in pairwise(points)]

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> Sequence[Tensor]:
        axis, sizes = self.parts(tuple(bottoms[0].shape))
        return bottoms[0].split(sizes, axis)


class Flatten(Moved, type="Flatten", inplace=False):
    """The axes from `axis` to `end_axis` joined into one; a new axis of size 1 if end_axis is the one
    before."""

    def infer(self, shape: Shape) -> list[Shape]:
        p = self.layer.flatten_param
        first, last = self.axis(p.axis, len(shape)), self.axis(p.end_axis, len(shape))
        if first > last + 1:
            raise self.error(f"axis {p.axis} lies behind end_axis {p.end_axis} in bottom {list(shape)}")
        return [(*shape[:first], math.prod(shape[first : last + 1]), *shape[last + 1 :])]

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> Tensor:
        return bottoms[0].reshape(self.infer(tuple(bottoms[0].shape))[0])


class Reshape(Moved, type="Reshape", inplace=False):
    """num_axes axes from `axis` on replaced by `shape`: dim 0 keeps the bottom's size, one -1 is what is
    left."""

    def span(self, dims: int) -> tuple[int, int]:
        """Of a bottom of `dims` axes the first that is replaced, and the first behind that is not."""
        p = self.layer.reshape_param
        first = p.axis if p.axis >= 0 else dims + p.axis + 1
        return first, dims if p.num_axes == -1 else first + p.num_axes

    def infer(self, shape: Shape) -> list[Shape]:
        p, dims = self.layer.reshape_param, len(shape)
        new, (first, last) = list(p.shape.dim), self.span(dims)
        if len(new) > MOST_AXES:
            raise self.error(f"shape has {len(new)} axes; a blob has at most {MOST_AXES}")
        if not 0 <= first <= last <= dims:
            raise self.error(f"axis {p.axis} and num_axes {p.num_axes} do not fit bottom {list(shape)}")
        if new.count(-1) > 1 or any(n < -1 for n in new):
            raise self.error(f"shape {new} may hold one -1, and else sizes of 0 (kept) and more")
        for i, n in enumerate(new):
            if n == 0 and first + i >= dims:
                raise self.error(f"shape {new} keeps (0) an axis {first + i} that bottom {list(shape)} "
                                 "does not have")
        new = [shape[first + i] if n == 0 else n for i, n in enumerate(new)]
        top = [*shape[:first], *new, *shape[last:]]
        count = math.prod(shape)
        if -1 in new:
            rest = math.prod(n for n in top if n != -1)
            top[top.index(-1)] = count // rest if rest else 0
        if math.prod(top) != count:
            raise self.error(f"cannot make {top} of bottom {list(shape)}: {math.prod(top)} values are not "
                             f"{count}")
        return [tuple(top)]

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> Tensor:
        return bottoms[0].reshape(self.infer(tuple(bottoms[0].shape))[0])


class Tile(Moved, type="Tile", fresh=True, above_0=("tile_param", "tiles")):
    """The bottom `tiles` times in a row along `axis`."""

    def infer(self, shape: Shape) -> list[Shape]:
        p = self.layer.tile_param
        axis = self.axis(p.axis, len(shape))
        return [(*shape[:axis], shape[axis] * p.tiles, *shape[axis + 1 :])]

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> Tensor:
        p, x = self.layer.tile_param, bottoms[0]
        times = [1] * x.ndim
        times[self.axis(p.axis, x.ndim)] = p.tiles
        return x.repeat(times)


class Permute(Moved, type="Permute", inplace=False):
    """The bottom with its axes in the order of `order`; axes that it does not name follow in theirs."""

    def setup(self, shape: Shape) -> None:
        order = list(self.layer.permute_param.order)
        if len(set(order)) < len(order) or any(axis >= len(shape) for axis in order):
            raise self.error(f"order {order} must name axes of bottom {list(shape)} from 0, each once")
        self.order = order + [axis for axis in range(len(shape)) if axis not in order]

    def infer(self, shape: Shape) -> list[Shape]:
        return [tuple(shape[axis] for axis in self.order)]

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> Tensor:
        return bottoms[0].permute(self.order).contiguous()


class ShuffleChannel(Moved, type="ShuffleChannel", inplace=False, own_map=IDENTITY,
                     above_0=("shuffle_channel_param", "group")):
    """Channels (axis 1) in another order: j of group i, i C/group + j, goes to j group + i (ShuffleNet)."""

    def infer(self, shape: Shape) -> list[Shape]:
        group = self.layer.shuffle_channel_param.group
        if len(shape) < 2 or shape[1] % group:
            raise self.error(f"group {group} must divide the channels of bottom {list(shape)}")
        return [shape]

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> Tensor:
        groups = bottoms[0].unflatten(1, (self.layer.shuffle_channel_param.group, -1))
        return groups.transpose(1, 2).flatten(1, 2)


class Reorg(Moved, type="Reorg", inplace=False, four_axes=True, above_0=("reorg_param", "stride")):
    """Darknet's reorganisation of N x C x H x W by s = stride: C s^2 x H/s x W/s, reverse: C/s^2 x H s x W s.

    Reverse takes channel q C/s^2 + c at (h, w) to channel c at (h s + q / s, w s + q % s). Else the bottom
    counts as a map of C/s^2 x H s x W s, of which that is undone (YOLO, intel; their gradient is of nothing).
    """

    def infer(self, shape: Shape) -> list[Shape]:
        (n, c, h, w), p = shape, self.layer.reorg_param
        s = p.stride
        if c % s**2 or not p.reverse and (h % s or w % s):
            raise self.error(f"stride {s} must divide height and width of {list(shape)}, its square C")
        return [(n, c // s**2, h * s, w * s) if p.reverse else (n, c * s**2, h // s, w // s)]

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> Tensor:
        x, s = bottoms[0], self.layer.reorg_param.stride
        (n, c, h, w), top = x.shape, self.infer(tuple(x.shape))[0]
        if self.layer.reorg_param.reverse:
            return x.reshape(n, s, s, c // s**2, h, w).permute(0, 3, 4, 1, 5, 2).reshape(top)
        return x.reshape(n, c // s**2, h, s, w, s).permute(0, 3, 5, 1, 2, 4).reshape(top)


class BatchReindex(Moved, type="BatchReindex", bottoms=2, fresh=True, undifferentiable={1}):
    """The items (axis 0) of the first bottom that the second lists, in its order; gradients of repeats add
    up."""

    def infer(self, *shapes: Shape) -> list[Shape]:
        if len(shapes[1]) != 1 or not shapes[0]:
            raise self.error(f"takes a list of indices as second bottom, found {list(shapes[1])}")
        return [(*shapes[1], *shapes[0][1:])]

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> Tensor:
        x, (items, listing) = bottoms[0], self.layer.bottom
        index, outside = self.inside(bottoms[1], len(x), f"'{listing}' holds indices from {{}} to {{}} for "
                                     f"the {len(x)} items of '{items}'")
        return spoiled(x.index_select(0, index), outside)


class Filter(Moved, type="Filter", bottoms=(2, None), tops=(1, None), fresh=True,
             waits=True, differentiable="all but the last"):
    """The items (axis 0) of each bottom but the last for which the last one, the selector, is not 0.

    How many that are is known only when it runs: `infer` gives the shapes for all.
    """

    def setup(self, *shapes: Shape) -> None:
        if len(self.layer.top) != len(shapes) - 1:
            raise self.error(f"gives one top for each bottom but the last: {len(shapes) - 1}, "
                             f"found {len(self.layer.top)}")
        self.undifferentiable = frozenset({len(shapes) - 1})

    def infer(self, *shapes: Shape) -> list[Shape]:
        *others, selector = shapes
        if not selector or math.prod(selector[1:]) != 1 or any(s[:1] != selector[:1] for s in others):
            raise self.error(f"takes a selector with one value an item, found {list(selector)} for bottoms "
                             f"{', '.join(str(list(s)) for s in others)}")
        return others

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> list[Tensor]:
        *blobs, selector = bottoms
        kept = selector.flatten().nonzero().squeeze(1)
        return [x.index_select(0, kept) for x in blobs]


class GSTiling(Moved, type="GSTiling", inplace=False, four_axes=True, above_0=("gs_tiling_param", "stride")):
    """N x C x H x W in tiles of s x s, s = stride: C s^2 x H/s x W/s, row q / s and column q % s of each tile
    of channel c as channel q C + c; reverse: C/s^2 x H s x W s, which undoes that (Vitis-AI)."""

    def infer(self, shape: Shape) -> list[Shape]:
        (n, c, h, w), p = shape, self.layer.gs_tiling_param
        s = p.stride
        if p.reverse and c % s**2 or not p.reverse and (h % s or w % s):
            raise self.error(f"stride {s} must divide height and width of {list(shape)}, or its square C")
        return [(n, c // s**2, h * s, w * s) if p.reverse else (n, c * s**2, h // s, w // s)]

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> Tensor:
        x, p = bottoms[0], self.layer.gs_tiling_param
        (n, c, h, w), s = x.shape, p.stride
        if p.reverse:
            return x.reshape(n, s, s, c // s**2, h, w).permute(0, 3, 4, 1, 5, 2).reshape(n, -1, h * s, w * s)
        return x.reshape(n, c, h // s, s, w // s, s).permute(0, 3, 5, 1, 2, 4).reshape(n, -1, h // s, w // s)


class Split(Moved, type="Split", tops=(1, None), elementwise=True, inplace=False, own_map=IDENTITY):
    """The bottom, once for each top; gradients add up."""

    @property
    def idle(self) -> bool:
        return True

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> list[Tensor]:
        return [bottoms[0].view_as(bottoms[0]) for _ in self.layer.top]


class Silence(Moved, type="Silence", bottoms=(1, None), tops=0, sink=True, judged=0):
    """Swallows bottoms that would otherwise be outputs of the net."""

    def infer(self, *shapes: Shape) -> list[Shape]:
        return []

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> list[Tensor]:
        return []
