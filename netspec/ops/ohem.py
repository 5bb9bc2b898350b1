"""Losses of regions' boxes and the choice of hard examples: SmoothL1Loss, SmoothL1LossOHEM,
BoxAnnotatorOHEM."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .base import Operation, Shape, raised, spoiled
from .loss import Paired
from .softmax import MODES, normaliser, normalization


class SmoothL1Loss(Paired, type="SmoothL1Loss", family="regions", bottoms=(2, 4), tops=(0, 2),
                   undifferentiable={2, 3}):
    """The sum of w_out f(w_in (a - b)) divided by N, with f(d) = (sigma d)^2 / 2 for |d| < 1 / sigma^2,
    else |d| - 0.5 / sigma^2; a second top gives the sum of each position.

    Bottoms: a, b, and where given w_in, w_out (1 without), N x C x ... With loss_param the sum is divided by
    the number of positions (NONE: 1, BATCH_SIZE: N, PRE_FIXED: pre_fixed_normalizer) instead. With 3 bottoms
    or a second top it is R-FCN's (MATLAB) layer: by default divided by the number of positions, and the
    gradient is not multiplied by a lone w_in. No gradient comes from the second top, N x 1 x ...
    """

    released = False  # it is R-FCN's

    def setup(self, *shapes: Shape) -> None:
        self.released = self.released or len(shapes) == 3 or len(self.layer.top) == 2
        self.mode = normalization(self.layer.loss_param, MODES.VALID if self.released else MODES.BATCH_SIZE)
        if self.released and self.layer.smooth_l1_loss_param.sigma != 1:
            raise self.error("has sigma 1 in this form, R-FCN's, which reads no other; take "
                             "smooth_l1_loss_param out")

    def infer(self, *shapes: Shape) -> list[Shape]:
        super().infer(*shapes)
        return [(), four_axes(shapes[0], 1)][: len(self.layer.top)]

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> list[Tensor]:
        p, a = self.layer.loss_param, raised(bottoms[0])
        b, *weights = (x.reshape(a.shape).to(a.dtype) for x in bottoms[1:])
        square = self.layer.smooth_l1_loss_param.sigma ** 2
        knee = 1 / square if square else math.inf
        apart = a - b
        d = weights[0] * apart if weights else apart
        if len(weights) == 1:
            d = d.detach() + (apart - apart.detach())
        each = torch.where(d.abs() < knee, d.square() * (square / 2), d.abs() - 0.5 * knee)
        each = each * weights[1] if len(weights) > 1 else each
        none = torch.zeros(len(a), math.prod(a.shape[2:]), dtype=torch.bool, device=a.device)  # is ignored
        tops = [each.sum() / normaliser(p, self.mode, none)]
        if len(self.layer.top) > 1:
            by_channel = each.detach().reshape(four_axes(tuple(a.shape)))
            tops.append(by_channel.sum(1, keepdim=True))
        return tops


class SmoothL1LossOHEM(SmoothL1Loss, type="SmoothL1LossOHEM", bottoms=(2, 3), tops=(1, 2),
                       undifferentiable={2}):
    """SmoothL1Loss with sigma 1, a second top and one weight w: the sum of f(w (a - b)) divided by the number
    of positions.

    The gradient is not multiplied by w, as in R-FCN's release, whose weights are 0 or 1.
    """

    released = True


class BoxAnnotatorOHEM(Operation, type="BoxAnnotatorOHEM", family="regions", bottoms=4, tops=2, sink=True,
                       judged=0, inplace=False, above_0=("box_annotator_ohem_param", "roi_per_img"),
                       undifferentiable={0, 1, 2, 3}, reads={0: "regions"}):
    """Labels and weights of the roi_per_img regions of each image that have the largest losses; of the other
    regions the labels are ignore_label, the weights 0.

    Bottoms: regions R x 5 (or R x 5 x H x W), and for each a loss, a label and weights (R x C). Tops: labels
    and weights, four axes each. Of equal losses the first counts as larger.
    """

    def infer(self, *shapes: Shape) -> list[Shape]:
        regions, loss, labels, weights = shapes
        if len(regions) < 2 or regions[1] != 5:
            raise self.error(f"takes regions R x 5, found {list(regions)}")
        each = regions[0] * math.prod(regions[2:])
        if (math.prod(loss), math.prod(labels), math.prod((*weights[:1], *weights[2:]))) != (each,) * 3:
            raise self.error(f"needs a loss, a label and weights for each region: {list(regions)}, "
                             f"{list(loss)}, {list(labels)} and {list(weights)}")
        return [four_axes(regions, 1), four_axes(weights)]

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> list[Tensor]:
        p, (regions, loss, labels, weights) = self.layer.box_annotator_ohem_param, bottoms
        numbers = regions.reshape(len(regions), 5, math.prod(regions.shape[2:]))[:, 0].flatten()
        items, outside = self.inside(numbers, 1 << 31, f"'{self.layer.bottom[0]}' names items {{}} to {{}}; "
                                     "they count from 0")
        order = loss.flatten().argsort(descending=True, stable=True)
        order = order[items[order].argsort(stable=True)]  # by item, in each the largest first
        sorted_items = items[order]
        place = torch.arange(len(order), device=order.device) - torch.searchsorted(sorted_items, sorted_items)
        kept = torch.empty_like(order, dtype=torch.bool).scatter(0, order, place < p.roi_per_img)
        chosen = spoiled(labels.flatten().masked_fill(~kept, p.ignore_label), outside)
        shapes = self.infer(*(tuple(x.shape) for x in bottoms))
        kept = kept.reshape(shapes[0])
        return [chosen.reshape(shapes[0]), weights.reshape(shapes[1]).masked_fill(~kept, 0)]


def four_axes(shape: Shape, channels: int | None = None) -> Shape:
    """A shape N x C x ... with axes of size 1 up to four, as layers of the forks make it; channels: for C."""
    shape = (*shape, *(1,) * (4 - len(shape)))
    return shape if channels is None else (shape[0], channels, *shape[2:])
