"""Pooling of regions: ROIPooling, PSROIPooling.

Regions are a bottom R x 5: the item's number in the batch, then x1, y1, x2, y2 in pixels of the image, both
ends included; spatial_scale takes them to the feature map.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .base import Operation, Shape, carried, raised, spoiled


class Regions(Operation, family="regions", bottoms=2, inplace=False, fresh=True, undifferentiable={1}):
    """What pools each region of a feature map N x C x H x W into a grid."""

    def grid(self, shapes: Sequence[Shape], channels: int, size: tuple[int, int]) -> list[Shape]:
        x, regions = shapes
        if len(x) != 4 or not regions or math.prod(regions[1:]) != 5:
            raise self.error(f"takes N x C x H x W and R x 5, found {list(x)} and {list(regions)}")
        return [(regions[0], channels, *size)]

    def items(self, regions: Tensor, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Each region's item, and where there is none such (see `inside`)."""
        of, named = self.layer.bottom
        return self.inside(regions[:, 0], len(x), f"'{named}' names items {{}} to {{}} of the {len(x)} of "
                           f"'{of}', which count from 0; the first column must name one of these")

    @staticmethod
    def bins(start: Tensor, length: Tensor, count: int, size: int) -> tuple[Tensor, Tensor]:
        """First and last + 1 position of each of `count` bins of each region, cut to 0..size; R x count."""
        steps = torch.arange(count, device=start.device, dtype=start.dtype)
        step = (length / count)[:, None]
        first, last = ((steps * step + start[:, None]).floor(), ((steps + 1) * step + start[:, None]).ceil())
        return first.clamp(0, size).long(), last.clamp(0, size).long()


class ROIPooling(Regions, type="ROIPooling", waits=True,
                 above_0=("roi_pooling_param", "pooled_h", "pooled_w")):
    """The maximum in each of pooled_h x pooled_w bins of each region; 0 for a bin outside the map.

    Ends are rounded to whole positions. Bins overlap where they share one. The first of equal maxima gets the
    gradient.
    """

    def infer(self, *shapes: Shape) -> list[Shape]:
        p = self.layer.roi_pooling_param
        return self.grid(shapes, shapes[0][1] if len(shapes[0]) == 4 else 0, (p.pooled_h, p.pooled_w))

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> Tensor:
        p, x = self.layer.roi_pooling_param, bottoms[0]
        regions = raised(bottoms[1]).reshape(-1, 5).cpu()  # few, and what follows goes through them
        items, _ = self.items(regions, x)
        x1, y1, x2, y2 = away_from_zero(regions[:, 1:] * p.spatial_scale).unbind(1)
        zero = torch.zeros_like(x1)  # bins are cut after the start is added, which is whole
        tops, lefts = (self.bins(zero, (b - a + 1).clamp(min=1), n, 1 << 30)
                       for a, b, n in ((y1, y2, p.pooled_h), (x1, x2, p.pooled_w)))
        rows, columns = ([(ends + start.long()[:, None]).clamp(0, size).tolist() for ends in bins]
                         for bins, start, size in ((tops, y1, x.shape[2]), (lefts, x1, x.shape[3])))
        index = torch.zeros(len(items), x.shape[1], p.pooled_h, p.pooled_w, dtype=torch.long, device=x.device)
        empty = torch.ones(len(items), 1, p.pooled_h, p.pooled_w, dtype=torch.bool)
        values = x.detach()
        for r, item in enumerate(items.tolist()):
            for i, (top, bottom) in enumerate(zip(rows[0][r], rows[1][r], strict=True)):
                for j, (left, right) in enumerate(zip(columns[0][r], columns[1][r], strict=True)):
                    if top < bottom and left < right:
                        best = values[item, :, top:bottom, left:right].flatten(1).argmax(1)
                        wide = right - left
                        index[r, :, i, j] = (best // wide + top) * x.shape[3] + best % wide + left
                        empty[r, 0, i, j] = False
        channels = torch.arange(x.shape[1], device=x.device)[:, None]
        which = carried(items, x.device)[:, None, None]
        found = x.flatten(2)[which, channels, index.flatten(2)]
        return found.reshape(index.shape).masked_fill(carried(empty, x.device), 0.0)


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
        regions = raised(bottoms[1]).reshape(-1, 5)
        (items, outside), g = self.items(regions, x), p.group_size
        maps = x.reshape(len(x), p.output_dim, g, g, *x.shape[2:])
        ends = away_from_zero(regions[:, 1:])
        starts, stops = ends[:, :2] * p.spatial_scale, (ends[:, 2:] + 1) * p.spatial_scale
        inside = []
        for axis, size in ((1, x.shape[2]), (0, x.shape[3])):
            first, last = self.bins(starts[:, axis], (stops - starts)[:, axis].clamp(min=0.1), g, size)
            at = torch.arange(size, device=x.device)
            inside.append(((at >= first[..., None]) & (at < last[..., None])).to(x.dtype))
        shares = [mask / mask.sum(-1, keepdim=True).clamp(min=1) for mask in inside]
        tops = [torch.einsum("ndijhw,ih,jw->dij", maps.index_select(0, item), high, wide)
                for item, high, wide in zip(items[:, None], *shares, strict=True)]
        return spoiled(torch.stack(tops), outside) if tops else x.new_zeros(0, p.output_dim, g, g)


def away_from_zero(x: Tensor) -> Tensor:
    """Whole numbers as C's round() gives them: halves away from zero."""
    whole = x.trunc()
    return whole + ((x - whole).abs() >= 0.5) * x.sign()
