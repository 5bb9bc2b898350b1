"""Pooling of regions: ROIPooling, PSROIPooling, ROIAlign.

Regions are a bottom R x 5: the item's number in the batch, then x1, y1, x2, y2 in pixels of the image, both
ends included; spatial_scale takes them to the feature map. torchvision's roi_pool computes the same as
ROIPooling; its ps_roi_pool differs from PSROIPooling: it scales ends before it rounds them, and the last
position is not included.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import Operation, Shape, raised

Ends = tuple[Tensor, Tensor]  # the first and the last + 1 position of each bin along an axis, R x bins


class Regions(Operation, family="regions", bottoms=2, inplace=False, fresh=True, waits=True,
              undifferentiable={1}, reads={1: "regions"}):
    """What pools each region of a feature map N x C x H x W into a grid.

    How many positions the bins have is known only when it runs, so the host waits for a GPU.
    """

    def grid(self, shapes: Sequence[Shape], channels: int, size: tuple[int, int]) -> list[Shape]:
        x, regions = shapes
        if len(x) != 4 or not regions or math.prod(regions[1:]) != 5:
            raise self.error(f"takes N x C x H x W and R x 5, found {list(x)} and {list(regions)}")
        return [(regions[0], channels, *size)]

    def parts(self, bottom: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Each region's item, R, and its x1, y1, x2, y2, R x 4. Error for one that is no region of x."""
        regions, (of, named) = raised(bottom).reshape(-1, 5), self.layer.bottom
        wrong = ~regions.isfinite().all(1) | (regions[:, 0].trunc() < 0) | (regions[:, 0] >= len(x))
        if bool(wrong.any()):
            row = int(wrong.nonzero()[0])
            raise self.error(f"region {row} of '{named}' is {regions[row].tolist()}, expected one of the "
                             f"{len(x)} items of '{of}', counted from 0, and finite x1, y1, x2, y2; mend "
                             f"what makes '{named}'")
        return regions[:, 0].long(), regions[:, 1:]

    def grown(self, ends: Tensor) -> Tensor:
        """Regions whose sides lie pad_ratio of their size further out (MS-CNN), scaled to the map."""
        p = self.layer.roi_pooling_param
        pad = (ends[:, 2:] - ends[:, :2] + 1) * p.pad_ratio
        return torch.cat([ends[:, :2] - pad, ends[:, 2:] + pad], 1) * p.spatial_scale

    @staticmethod
    def bins(start: Tensor, length: Tensor, count: int) -> Ends:
        """The ends of `count` bins of each region along an axis, before they are cut to the map."""
        steps = torch.arange(count, device=start.device, dtype=start.dtype)
        step = (length / count)[:, None]
        return (steps * step + start[:, None]).floor(), ((steps + 1) * step + start[:, None]).ceil()

    @staticmethod
    def pooled(maps: Tensor, items: Tensor, rows: Ends, columns: Ends,
               mode: Literal["mean", "max"]) -> Tensor:
        """The mean or the (first) maximum in each bin, 0 in one without positions; R x C x I x J.

        maps: N x C x B x H x W, with a map for each bin (B = I J) or one for all (B = 1). items: R. rows,
        columns: of the bins, R x I and R x J.
        """
        (_, channels, each, height, width), device = maps.shape, maps.device
        (top, bottom), (left, right) = ((a.clamp(0, size).long(), b.clamp(0, size).long())
                                        for (a, b), size in ((rows, height), (columns, width)))
        high, wide = ((b - a).clamp(min=0) for a, b in ((top, bottom), (left, right)))
        grid = (len(items), top.shape[1], left.shape[1])
        sizes = (high[:, :, None] * wide[:, None]).flatten()
        before = sizes.cumsum(0) - sizes
        total = int(sizes.sum())
        which = torch.arange(len(sizes), device=device).repeat_interleave(sizes, output_size=total)
        place = torch.arange(total, device=device) - before[which]  # of a position, in its bin
        own = torch.arange(grid[1] * grid[2], device=device).reshape(grid[1:]) % each
        corner = ((items[:, None, None] * each + own) * height + top[:, :, None]) * width + left[:, None]
        across = wide[:, None].expand(grid).flatten()[which]
        at = corner.flatten()[which] + place + place // across * (width - across)
        table = maps.movedim(1, -1).flatten(0, -2)
        return F.embedding_bag(at, table, before, mode=mode).reshape(*grid, channels).permute(0, 3, 1, 2)


class ROIPooling(Regions, type="ROIPooling", above_0=("roi_pooling_param", "pooled_h", "pooled_w")):
    """The maximum in each of pooled_h x pooled_w bins of each region; 0 for a bin outside the map.

    Ends are rounded to whole positions after they are scaled; each is pad_ratio of the region's size further
    out before. Bins overlap where they share one. The first of equal maxima gets the gradient.
    """

    def infer(self, *shapes: Shape) -> list[Shape]:
        p = self.layer.roi_pooling_param
        return self.grid(shapes, shapes[0][1] if len(shapes[0]) == 4 else 0, (p.pooled_h, p.pooled_w))

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> Tensor:
        p, x = self.layer.roi_pooling_param, bottoms[0]
        items, ends = self.parts(bottoms[1], x)
        x1, y1, x2, y2 = away_from_zero(self.grown(ends)).unbind(1)
        zero = torch.zeros_like(x1)  # bins are rounded before the start is added, which is whole
        rows, columns = ((first + start[:, None], last + start[:, None]) for start, (first, last) in (
            (y1, self.bins(zero, (y2 - y1 + 1).clamp(min=1), p.pooled_h)),
            (x1, self.bins(zero, (x2 - x1 + 1).clamp(min=1), p.pooled_w))))
        return self.pooled(x[:, :, None], items, rows, columns, "max")


class ROIAlign(Regions, type="ROIAlign", above_0=("roi_pooling_param", "pooled_h", "pooled_w")):
    """The map at the corners of pooled_h x pooled_w bins of each region, by bilinear interpolation: one more
    than bins along each axis; 0 outside the map and for regions without a size (MS-CNN).

    Scaled ends are moved by half a position and not rounded; pad_ratio is as for ROIPooling.
    """

    def infer(self, *shapes: Shape) -> list[Shape]:
        p = self.layer.roi_pooling_param
        channels = shapes[0][1] if len(shapes[0]) == 4 else 0
        return self.grid(shapes, channels, (p.pooled_h + 1, p.pooled_w + 1))

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> Tensor:
        p, x = self.layer.roi_pooling_param, raised(bottoms[0])
        items, ends = self.parts(bottoms[1], x)
        if not x.numel():
            return x.new_zeros(self.infer(*(tuple(b.shape) for b in bottoms))[0])
        x1, y1, x2, y2 = (self.grown(ends) - 0.5).unbind(1)
        table, (height, width) = x.movedim(1, -1).flatten(0, 2), x.shape[2:]
        there = ((y2 > y1) & (x2 > x1)).to(x.dtype)[:, None, None]
        top = x.new_zeros(len(items), p.pooled_h + 1, p.pooled_w + 1, x.shape[1])
        for row, high in self.between(y1, y2, p.pooled_h, height):
            for column, wide in self.between(x1, x2, p.pooled_w, width):
                at = (items[:, None, None] * height + row[:, :, None]) * width + column[:, None]
                top = top + table[at] * (high[:, :, None] * wide[:, None] * there)[..., None]
        return top.permute(0, 3, 1, 2)

    @staticmethod
    def between(start: Tensor, end: Tensor, count: int, size: int) -> list[tuple[Tensor, Tensor]]:
        """The two positions around each corner of `count` bins along an axis, R x (count + 1), and the share
        that each has in it; no share outside the map."""
        steps = torch.arange(count + 1, device=start.device, dtype=start.dtype)
        at = start[:, None] + steps * ((end - start) / count)[:, None]
        inside = (at >= -0.5) & (at <= size - 0.5)
        at = torch.where(inside, at, 0.0)
        low, high = (whole.clamp(0, size - 1) for whole in (at.floor(), at.floor() + 1))
        share = at.clamp(0, size - 1) - low
        return [(low.long(), (1 - share) * inside), (high.long(), share * inside)]


class PSROIPooling(Regions, type="PSROIPooling"):
    """The mean in each of group_size x group_size bins of each region, each bin from channels of its own.

    Bottom N x (output_dim group_size^2) x H x W: channel (d g + i) g + j is for bin (i, j) of output d. Ends
    are rounded before they are scaled.
    """

    def setup(self, *shapes: Shape) -> None:
        p = self.layer.psroi_pooling_param
        if p.output_dim < 1 or p.group_size < 1 or not p.HasField("spatial_scale"):
            raise self.error("needs spatial_scale, and output_dim and group_size above 0")

    def infer(self, *shapes: Shape) -> list[Shape]:
        p = self.layer.psroi_pooling_param
        tops = self.grid(shapes, p.output_dim, (p.group_size, p.group_size))
        if shapes[0][1] != p.output_dim * p.group_size**2:
            raise self.error(f"needs group_size^2 output_dim = {p.group_size}^2 x {p.output_dim} = "
                             f"{p.output_dim * p.group_size**2} channels, '{self.layer.bottom[0]}' has "
                             f"{shapes[0][1]}; num_output of the layer below must be that number")
        return tops

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> Tensor:
        p, x = self.layer.psroi_pooling_param, bottoms[0]
        items, ends = self.parts(bottoms[1], x)
        ends = away_from_zero(ends)
        starts, stops = ends[:, :2] * p.spatial_scale, (ends[:, 2:] + 1) * p.spatial_scale
        columns, rows = (self.bins(start, (stop - start).clamp(min=0.1), p.group_size)
                         for start, stop in zip(starts.unbind(1), stops.unbind(1), strict=True))
        maps = raised(x).reshape(len(x), p.output_dim, p.group_size**2, *x.shape[2:])
        return self.pooled(maps, items, rows, columns, "mean")


def away_from_zero(x: Tensor) -> Tensor:
    """Whole numbers as C's round() gives them: halves away from zero."""
    whole = x.trunc()
    return whole + ((x - whole).abs() >= 0.5) * x.sign()
