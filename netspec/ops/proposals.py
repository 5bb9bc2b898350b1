"""Region proposals of Faster R-CNN and R-FCN, and what an RPN and its regions are to learn.

The layers in Python that the releases call rpn.* are these. What the releases keep in a file of settings is
in param_str here, under its names in small letters; what is not given is R-FCN's for VOC, end to end,
for OHEM where the net has that. A pass takes one image, as there. im_info (height, width, scale), boxes and
regions are those of the scaled image.
"""

import math
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ..proto.caffe_pb2 import LayerParameter
from .anchors import BASE, RATIOS, SCALES, all_anchors, base_anchors
from .base import Operation, Shape, carried, raised
from .boxes import clip, decode, encode, extents, nms, overlaps, ranked, widest
from .ohem import BoxAnnotatorOHEM
from .python import ALIASES
from .settings import completed

Setting = tuple[Any, str, Callable[[Any], bool]]  # what it is if not given, what it takes, its check


def _whole(default: int | None, least: int) -> Setting:
    return default, f"a whole number from {least}", lambda v: type(v) is int and v >= least


def _number(default: float, least: float, most: float = math.inf) -> Setting:
    words = f"a number from {least:g}" + f" to {most:g}" * (most < math.inf)
    return default, words, lambda v: type(v) in (int, float) and least <= v <= most and v < math.inf


def _flag(default: bool | None) -> Setting:
    return default, "True or False", lambda v: isinstance(v, bool)


def _numbers(default: Sequence[float], count: int = 0, least: float = -math.inf) -> Setting:
    above = f" above {least:g}" if least > -math.inf else ""
    return default, f"{count or 'a list of'} numbers{above}", lambda v: (
        isinstance(v, list | tuple) and len(v) == (count or max(len(v), 1))
        and all(type(n) in (int, float) and least < n < math.inf for n in v))


def _normalised(prefix: str) -> dict[str, Setting]:
    means, stds = (0, 0, 0, 0), (0.1, 0.1, 0.2, 0.2)
    return {f"{prefix}_means": _numbers(means, 4), f"{prefix}_stds": _numbers(stds, 4, 0)}


# of NumPy's RandomState
SEED: Setting = None, "a whole number from 0 to 2^32 - 1", lambda v: type(v) is int and 0 <= v < 1 << 32
ANCHORS = {"feat_stride": _whole(16, 1), "base_size": _whole(BASE, 1), "ratios": _numbers(RATIOS, 0, 0),
           "scales": _numbers(SCALES, 0, 0), "rpn_normalize_targets": _flag(False),
           **_normalised("rpn_normalize")}


class Detection(Operation, family="regions", inplace=False, waits=True):
    """A layer of detection nets with the settings SETTINGS, which become `p`."""

    SETTINGS: ClassVar[dict[str, Setting]] = {}
    HARD: ClassVar[dict[str, Any]] = {"rpn_normalize_targets": True}  # what is not given, in a net with OHEM

    @classmethod
    def within(cls, layer: LayerParameter, net: Sequence[LayerParameter]) -> LayerParameter:
        return completed(layer, cls.HARD) if any(x.type == BoxAnnotatorOHEM.type for x in net) else layer

    def setup(self, *shapes: Shape) -> None:
        given = self.options({key: setting[1:] for key, setting in self.SETTINGS.items()})
        self.p = SimpleNamespace(**{key: setting[0] for key, setting in self.SETTINGS.items()} | given)

    def anchors(self, height: int, width: int, device: torch.device) -> Tensor:
        """The anchors of a map; rows in the order height, width, anchor."""
        return all_anchors(carried(self.base.to(widest(device)), device), self.p.feat_stride, height, width)

    @property
    def base(self) -> Tensor:
        return base_anchors(self.p.base_size, self.p.ratios, self.p.scales)

    def check(self, shapes: Sequence[Shape], *wanted: Sequence[int]) -> None:
        """Error unless the bottoms have these shapes, as far as they go; 0 fits any size."""
        for name, shape, sizes in zip(self.layer.bottom, shapes, wanted, strict=False):
            fits = len(shape) >= len(sizes) and math.prod(shape[len(sizes) :]) == 1
            if not fits or any(n not in (0, m) for n, m in zip(sizes, shape, strict=False)):
                words = " x ".join(str(n) if n else "..." for n in sizes)
                raise self.error(f"takes '{name}' of shape {words}, found {list(shape)}")


class Proposal(Detection, type="Proposal", bottoms=3, tops=(1, 2), undifferentiable={0, 1, 2},
               reads={2: "size"}):
    """The regions that an RPN proposes in an image: R x 5 (item 0, x1, y1, x2, y2), and their scores R x 1.

    Bottoms: probabilities 1 x 2A x H x W (background of A anchors, then foreground), transforms
    1 x 4A x H x W, im_info. Anchors are moved by the transforms, cut to the image and left out where a side
    is shorter than rpn_min_size times the image's scale; of the rpn_pre_nms_top_n best those of `nms` at
    rpn_nms_thresh, at most rpn_post_nms_top_n. So R follows from the numbers, and is 0 where nothing is left.
    As a layer in C++ the forks have the same settings in proposal_param. PVANET's im_info goes on behind the
    scale: of height and width apart, which that layer takes.
    """

    SETTINGS = ANCHORS | {"rpn_pre_nms_top_n": _whole(6000, 0), "rpn_post_nms_top_n": _whole(300, 0),
                          "rpn_nms_thresh": _number(0.7, 0, 1), "rpn_min_size": _number(16, 0)}

    def setup(self, *shapes: Shape) -> None:
        super().setup(*shapes)
        if self.layer.type != "Proposal":
            return
        p = self.layer.proposal_param
        ratios, scales = tuple(p.ratio) or RATIOS, tuple(p.scale) or SCALES
        if min(p.feat_stride, p.base_size, *ratios, *scales) <= 0 or not 0 <= p.nms_thresh <= 1:
            raise self.error("needs feat_stride, base_size, ratio and scale above 0, nms_thresh from 0 to 1")
        vars(self.p).update(feat_stride=p.feat_stride, base_size=p.base_size, ratios=ratios, scales=scales,
                            rpn_min_size=p.min_size, rpn_pre_nms_top_n=p.pre_nms_topn,
                            rpn_post_nms_top_n=p.post_nms_topn, rpn_nms_thresh=p.nms_thresh)

    def infer(self, *shapes: Shape) -> list[Shape]:
        """The most regions that there can be."""
        count, p = len(self.base), self.p
        height, width = shapes[0][2:] if len(shapes[0]) == 4 else (0, 0)
        columns = shapes[2][1] if len(shapes[2]) > 1 and 3 <= shapes[2][1] <= 6 else 3
        self.check(shapes, (1, 2 * count, 0, 0), (1, 4 * count, height, width), (1, columns))
        limits = [n for n in (p.rpn_pre_nms_top_n, p.rpn_post_nms_top_n) if n]
        most = min([count * height * width, *limits])
        return [(most, n) for n, _ in zip((5, 1), self.layer.top, strict=False)]

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> tuple[Tensor, ...]:
        p, (scores, deltas, info) = self.p, (raised(x.detach()) for x in bottoms)
        height, width = scores.shape[2:]
        if not self.context.training and bool(scores.isnan().any() | deltas.isnan().any()):  # else a loss is
            raise self.error("its bottoms are no numbers (NaN), so nothing can be proposed; 'netspec doctor "
                             "NET WEIGHTS' says where they come from")
        scores = scores[0, len(self.base) :].permute(1, 2, 0).reshape(-1)
        deltas = deltas[0].permute(1, 2, 0).reshape(-1, 4)
        if p.rpn_normalize_targets and self.context.training:
            deltas = scaled_back(deltas, p.rpn_normalize_means, p.rpn_normalize_stds)
        info = info.reshape(-1)
        boxes = clip(decode(self.anchors(height, width, deltas.device), deltas), info[:2])
        apart = self.layer.type == "Proposal" and len(info) > 3
        scale = info[2:4].flip(0) if apart else info[2]  # of width and height, as `extents`
        large = (extents(boxes) >= p.rpn_min_size * scale).all(1)
        boxes, scores = boxes[large], scores[large]
        order = ranked(scores)[: p.rpn_pre_nms_top_n or None]
        boxes, scores = boxes[order], scores[order]
        kept = nms(boxes, scores, p.rpn_nms_thresh, most=p.rpn_post_nms_top_n or None)
        regions = torch.cat([boxes.new_zeros(len(kept), 1), boxes[kept]], 1)
        return (regions, scores[kept][:, None])[: len(self.layer.top)]


class Targets(Detection, random=True, once=True):
    """What gives targets for training from true boxes, G x 5 (x1, y1, x2, y2, class from 1 on).

    Draws are those of the releases, by NumPy's RandomState: in each pass of a seed that torch draws, so that
    they follow from the solver's seed and belong to a snapshot; or with `seed` in param_str of that one, from
    pass to pass, as the releases go on from theirs.
    """

    def setup(self, *shapes: Shape) -> None:
        super().setup(*shapes)
        self.seeded = None if self.p.seed is None else np.random.RandomState(self.p.seed)

    def generator(self) -> np.random.RandomState:
        """What one pass draws from."""
        return self.seeded or np.random.RandomState(int(torch.randint(1 << 32, ())))

    def truth(self, boxes: Tensor) -> Tensor:
        """The true boxes, G x 5; Error where they are none."""
        name, boxes = self.layer.bottom[1], raised(boxes.detach()).reshape(-1, 5)
        if not len(boxes):
            raise self.error(f"'{name}' holds no box; leave images without boxes out of training, as the "
                             "releases do")
        wrong = ~_boxes(boxes) | (boxes[:, 4] < 1) | (boxes[:, 4] != boxes[:, 4].round())
        if wrong.any():
            raise self.error(f"'{name}' must hold boxes x1, y1, x2, y2, class with x1 <= x2, y1 <= y2 and a "
                             f"whole class from 1 on; found {_row(boxes[wrong][0])}")
        return boxes


class AnchorTarget(Targets, bottoms=(3, 4), tops=4, sink=True, undifferentiable={0, 1, 2, 3},
                   reads={1: "boxes", 2: "size"}):
    """Which anchors an RPN is to call foreground (1) or background (0), and their transforms to true boxes.

    Bottoms: a map of the RPN, of which the size counts, true boxes, im_info, and as the releases have it the
    image. Tops: labels 1 x 1 x AH x W (-1: left out), transforms, inside and outside weights, 1 x 4A x H x W.
    Of anchors within the image (by allowed_border) those are foreground whose overlap with a box is
    rpn_positive_overlap or more, and each box's best ones; background below rpn_negative_overlap with all.
    Of rpn_batchsize at most rpn_fg_fraction are foreground.
    """

    SETTINGS = ANCHORS | {
        "allowed_border": _number(0, 0), "rpn_positive_overlap": _number(0.7, 0, 1),
        "rpn_negative_overlap": _number(0.3, 0, 1), "rpn_clobber_positives": _flag(False),
        "rpn_batchsize": _whole(256, 1), "rpn_fg_fraction": _number(0.5, 0, 1),
        "rpn_bbox_inside_weights": _numbers((1, 1, 1, 1), 4), "rpn_positive_weight": _number(-1, -1, 1),
        "seed": SEED}

    def setup(self, *shapes: Shape) -> None:
        super().setup(*shapes)
        if self.p.rpn_normalize_targets:
            self.normalized = {1: (self.p.rpn_normalize_means, self.p.rpn_normalize_stds)}

    def infer(self, *shapes: Shape) -> list[Shape]:
        count = len(self.base)
        self.check(shapes, (1, 0, 0, 0), (0, 5), (1, 3))
        height, width = shapes[0][2:]
        if len(shapes) > 3 and len(shapes[3]) == 4:
            self.check_stride((height, width), shapes[3][2:])
        return [(1, 1, count * height, width), *[(1, 4 * count, height, width)] * 3]

    def check_stride(self, places: Shape, image: Shape) -> None:
        """Error where anchors would cover far more than the image, or far less, and training find nothing."""
        step, names = self.p.feat_stride, self.layer.bottom
        found = [size / max(n, 1) for n, size in zip(places, image, strict=True)]
        if min(places) > 2 and (min(found) > 1.5 * step or max(found) < step / 1.5):
            told = " and ".join(" x ".join(map(str, size)) for size in (places, image))
            raise self.error(f"feat_stride is {step}, but '{names[0]}' and '{names[3]}' are {told}: give the "
                             f"stride of that map, near {found[0]:.3g}")

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> tuple[Tensor, ...]:
        truth, (height, width) = self.truth(bottoms[1]), bottoms[0].shape[2:]
        anchors, border = self.anchors(height, width, truth.device), self.p.allowed_border
        size = raised(bottoms[2]).reshape(3)[:2]
        inside = ((anchors[:, :2] >= -border) & (anchors[:, 2:] < size.flip(0) + border)).all(1)
        places = inside.nonzero()[:, 0]
        if not len(places):
            found = " x ".join(f"{n:g}" for n in size.tolist())
            raise self.error(f"no anchor lies within the image, {found}; give smaller scales or larger "
                             "images")
        near = overlaps(anchors[places], truth)
        labels = self.sampled(self.labelled(near))
        targets = encode(anchors[places], truth[near.argmax(1), :4]).float()
        if self.p.rpn_normalize_targets:
            targets = (targets - _wide(self.p.rpn_normalize_means, targets)).float()
            targets = (targets / _wide(self.p.rpn_normalize_stds, targets)).float()
        inner = (labels == 1)[:, None] * targets.new_tensor(self.p.rpn_bbox_inside_weights)
        outer = self.weights(labels)[:, None].expand(-1, 4)
        whole = labels.new_full((len(anchors),), -1).index_copy(0, places, labels)
        whole = whole.reshape(height, width, -1).permute(2, 0, 1).reshape(1, 1, -1, width)
        maps = [targets.new_zeros(len(anchors), 4).index_copy(0, places, x).reshape(1, height, width, -1)
                .permute(0, 3, 1, 2).contiguous() for x in (targets, inner, outer)]
        return whole, *maps

    def labelled(self, near: Tensor) -> Tensor:
        """Labels of anchors from their overlaps N x G, before any is left out: float32, N."""
        p, best = self.p, near.amax(1)
        labels = torch.full_like(best, -1, dtype=torch.float32)
        below = best < p.rpn_negative_overlap
        labels[below] = 0
        labels[(near == near.amax(0)).any(1) | (best >= p.rpn_positive_overlap)] = 1
        if p.rpn_clobber_positives:
            labels[below] = 0
        return labels

    def sampled(self, labels: Tensor) -> Tensor:
        """The labels with -1 for those that are too many of their kind."""
        random, most = self.generator(), int(self.p.rpn_fg_fraction * self.p.rpn_batchsize)
        for kind in (1, 0):
            places = (labels == kind).nonzero()[:, 0]
            if len(places) > most:
                labels[picked(random, places, len(places) - most)] = -1
            most = self.p.rpn_batchsize - min(len(places), most)
        return labels

    def weights(self, labels: Tensor) -> Tensor:
        """What each anchor counts in the loss of the boxes."""
        foreground, background = (labels == 1).sum(), (labels == 0).sum()
        share = self.p.rpn_positive_weight
        if share < 0:
            each = [1 / (foreground + background)] * 2
        else:
            each = [share / foreground, (1 - share) / background]
        return torch.where(labels == 1, each[0], torch.where(labels == 0, each[1], 0)).float()


class ProposalTarget(Targets, bottoms=2, tops=5, undifferentiable={0, 1},
                     reads={0: "regions", 1: "boxes"}):
    """Which regions a detector is to learn from, their classes, and their transforms to true boxes.

    Bottoms: regions R x 5, true boxes, which are regions too. Tops: regions n x 5, classes n (0: background),
    transforms, inside and outside weights n x 4 num_classes, each with two more axes of 1. Foreground is a
    region whose largest overlap is fg_thresh or more, background one in bg_thresh_lo to below bg_thresh_hi:
    batch_size of them (-1: all), of which at most fg_fraction foreground, which comes first. The transforms
    stand in the columns of their class, with agnostic (if num_classes is 2) in those of class 1.
    """

    SETTINGS = {
        "num_classes": _whole(2, 2), "fg_fraction": _number(0.25, 0, 1),
        "batch_size": (128, "a whole number from 1, or -1", lambda v: type(v) is int and (v > 0 or v == -1)),
        "fg_thresh": _number(0.5, 0, 1), "bg_thresh_hi": _number(0.5, 0, 1),
        "bg_thresh_lo": _number(0.1, 0, 1), "agnostic": _flag(None),
        "bbox_normalize_targets_precomputed": _flag(True), **_normalised("bbox_normalize"),
        "bbox_inside_weights": _numbers((1, 1, 1, 1), 4), "seed": SEED}
    HARD: ClassVar = {"batch_size": -1, "bg_thresh_lo": 0.0}

    def setup(self, *shapes: Shape) -> None:
        super().setup(*shapes)
        if self.p.bg_thresh_lo > self.p.bg_thresh_hi:
            raise self.error(f"bg_thresh_lo is {self.p.bg_thresh_lo:g} and bg_thresh_hi "
                             f"{self.p.bg_thresh_hi:g}: no region could be background; give lo the lower one")
        if self.p.bbox_normalize_targets_precomputed:
            self.normalized = {2: (self.p.bbox_normalize_means, self.p.bbox_normalize_stds)}

    def infer(self, *shapes: Shape) -> list[Shape]:
        """The most regions that there can be."""
        self.check(shapes, (0, 5), (0, 5))
        count = shapes[0][0] + shapes[1][0]
        count = count if self.p.batch_size < 0 else min(count, self.p.batch_size)
        return [(count, n, 1, 1) for n in (5, 1, *[4 * self.p.num_classes] * 3)]

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> tuple[Tensor, ...]:
        regions, truth = self.proposed(bottoms[0]), self.truth(bottoms[1])
        regions = torch.cat([regions, torch.cat([torch.zeros_like(truth[:, :1]), truth[:, :4]], 1)])
        near = overlaps(regions[:, 1:], truth)
        which = near.argmax(1)
        chosen, count = self.sampled(near.amax(1))
        regions, which = regions[chosen], which[chosen]
        labels = truth[which, 4]
        labels[count:] = 0
        targets = encode(regions[:, 1:], truth[which])
        if self.p.bbox_normalize_targets_precomputed:
            targets = (targets - _wide(self.p.bbox_normalize_means, targets)) \
                / _wide(self.p.bbox_normalize_stds, targets)
        inner = targets.new_tensor(self.p.bbox_inside_weights).expand_as(targets)
        targets, inner = (self.spread(x.float(), labels) for x in (targets, inner))
        tops = regions, labels[:, None], targets, inner, (inner > 0).float()
        return tuple(top[:, :, None, None] for top in tops)

    def proposed(self, regions: Tensor) -> Tensor:
        """The regions of the one image, R x 5; Error where they are none."""
        name, regions = self.layer.bottom[0], raised(regions.detach()).reshape(-1, 5)
        wrong = ~_boxes(regions[:, 1:]) | (regions[:, 0] != 0)
        if wrong.any():  # asked once: a GPU is waited for
            if (regions[:, 0] != 0).any():
                raise self.error(f"takes one image, but '{name}' names item {regions[:, 0].max():g}")
            raise self.error(f"'{name}' must hold regions 0, x1, y1, x2, y2 with x1 <= x2 and y1 <= y2; "
                             f"found {_row(regions[wrong][0])}")
        return regions

    def sampled(self, near: Tensor) -> tuple[Tensor, int]:
        """The regions to learn from, by their largest overlaps, and how many of them are foreground."""
        p, random = self.p, self.generator()
        most = math.inf if p.batch_size < 0 else p.batch_size
        limit = math.inf if p.batch_size < 0 else round(p.fg_fraction * p.batch_size)
        found = []
        for mask in (near >= p.fg_thresh, (near < p.bg_thresh_hi) & (near >= p.bg_thresh_lo)):
            places = mask.nonzero()[:, 0]
            count = int(min(limit, len(places)))
            found.append(picked(random, places, count) if len(places) else places)
            limit = most - count
        return torch.cat(found), len(found[0])

    def spread(self, numbers: Tensor, labels: Tensor) -> Tensor:
        """N x 4 in the columns of each region's class, N x 4 num_classes; 0 elsewhere, and for background."""
        classes, agnostic = self.p.num_classes, self.p.agnostic
        agnostic = classes == 2 if agnostic is None else agnostic
        column = labels.long().clamp(max=1) if agnostic else labels.long()
        if bool((column >= classes).any()):
            raise self.error(f"'{self.layer.bottom[1]}' holds class {int(column.max())}, num_classes is "
                             f"{classes} with the background")
        at = torch.nn.functional.one_hot(column, classes).to(numbers.dtype)
        at[:, 0] = 0
        return (at[:, :, None] * numbers[:, None]).flatten(1)


def _boxes(numbers: Tensor) -> Tensor:
    """Which rows, N x 4 or more, are finite and begin with a box, bool N."""
    return numbers.isfinite().all(1) & (extents(numbers) >= 1).all(1)


def _row(numbers: Tensor) -> str:
    return ", ".join(f"{n:g}" for n in numbers.tolist())


def picked(random: np.random.RandomState, places: Tensor, count: int) -> Tensor:
    """So many of the places, in the order that they are drawn, as RandomState.choice draws without putting
    back."""
    return places[torch.from_numpy(random.choice(len(places), count, replace=False)).to(places.device)]


def scaled_back(deltas: Tensor, means: Sequence[float], stds: Sequence[float]) -> Tensor:
    """Normalised transforms (N x 4) as they were; each step is rounded to their dtype."""
    return ((deltas * _wide(stds, deltas)).to(deltas.dtype) + _wide(means, deltas)).to(deltas.dtype)


def _wide(numbers: Sequence[float], like: Tensor) -> Tensor:
    """Settings in the precision that the releases compute with them in."""
    return torch.tensor(list(numbers), dtype=widest(like.device), device=like.device)


ALIASES["rpn.proposal_layer", "ProposalLayer"] = Proposal  # the names that prototxts have for them
ALIASES["rpn.anchor_target_layer", "AnchorTargetLayer"] = AnchorTarget
ALIASES["rpn.proposal_target_layer", "ProposalTargetLayer"] = ProposalTarget
