"""SSD's boxes: the priors around each position of a map, and the detections that predictions make of them.

A box is x1, y1, x2, y2 in parts of the image, from 0 to 1, x2 - x1 wide.
"""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ..proto.caffe_pb2 import PriorBoxParameter
from .base import Operation, Shape, carried, raised
from .boxes import nms, overlaps, widest


class PriorBox(Operation, type="PriorBox", family="regions", bottoms=2, inplace=False, fresh=True,
               undifferentiable={0, 1}, sized={0, 1}, four_axes=True):
    """The priors of each position of the first bottom's map in the image, the second bottom: 1 x 2 x 4 H W P,
    their corners and then their variances.

    For each min_size a square of it, one of sqrt(min_size max_size), and for each aspect_ratio r but 1 a box
    of its area, sqrt(r) times as wide, after r (flip) 1 / r. Sizes are cut to whole numbers, as Caffe cuts
    them. Centres are (i + offset) step; step is image / map where it is not given. clip: to 0..1.
    """

    def setup(self, features: Shape, image: Shape) -> None:
        p = self.layer.prior_box_param
        self.boxes, variance = [*self.sides()], [*p.variance] or [0.1]
        if not self.boxes or min(map(min, self.boxes)) <= 0:
            raise self.error("needs sizes above 0 (min_size, or width and height)")
        if len(variance) not in (1, 4) or min(variance) <= 0:
            raise self.error(f"takes 1 or 4 variance above 0, found {variance}")
        self.variance = torch.tensor(variance * (4 // len(variance)))
        self.half = torch.tensor(self.boxes).flip(1).T / 2  # height, width
        self.image = self._both("img_size", "img_h", "img_w")
        self.step = self._both("step", "step_h", "step_w")

    def sides(self) -> Iterator[tuple[float, float]]:
        """Width and height of each prior of a position, in pixels of the image."""
        p, ratios = self.layer.prior_box_param, [1.0]
        if p.max_size and len(p.max_size) != len(p.min_size):
            raise self.error(f"takes a max_size for each of the {len(p.min_size)} min_size, or none")
        if not all(0 < n < math.inf for n in (*p.min_size, *p.max_size, *p.aspect_ratio)):
            raise self.error("takes min_size, max_size and aspect_ratio above 0, and finite")
        for ratio in p.aspect_ratio:
            if all(abs(ratio - known) >= 1e-6 for known in ratios):
                ratios += [ratio, 1 / ratio] if p.flip else [ratio]
        for i, least in enumerate(float(int(size)) for size in p.min_size):
            yield least, least
            if p.max_size:
                yield (math.sqrt(least * int(p.max_size[i])),) * 2
            yield from ((least * math.sqrt(ratio), least / math.sqrt(ratio)) for ratio in ratios[1:])

    def _both(self, name: str, high: str, wide: str) -> tuple[float, float] | None:
        """Two settings that come together, or as one; None without them."""
        p = self.layer.prior_box_param
        one, two = p.HasField(name), p.HasField(high) or p.HasField(wide)
        found = (getattr(p, high), getattr(p, wide)) if two else (getattr(p, name),) * 2
        if one and two or (one or two) and min(found) <= 0:
            raise self.error(f"takes either {name} or {high} and {wide}, above 0")
        return found if one or two else None

    def infer(self, features: Shape, image: Shape) -> list[Shape]:
        if len(image) != 4 or 0 in features[2:]:
            raise self.error("takes a map with positions, and an image N x C x H x W, found "
                             f"{list(features)} and {list(image)}")
        return [(1, 2, 4 * math.prod(features[2:]) * len(self.boxes))]

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> Tensor:
        p, device, wide = self.layer.prior_box_param, bottoms[0].device, widest(bottoms[0].device)
        size, image = bottoms[0].shape[2:], self.image or bottoms[1].shape[2:]
        centres = [(torch.arange(n, dtype=torch.float32, device=device) + p.offset) * step for n, step in
                   zip(size, self.step or [whole / n for whole, n in zip(image, size, strict=True)],
                       strict=True)]
        half = carried(self.half, device).to(wide)
        y, x = ([(centre[:, None].to(wide) + sign * side) / whole for sign in (-1, 1)]
                for centre, side, whole in zip(centres, half, image, strict=True))
        corners = torch.stack(torch.broadcast_tensors(x[0], y[0][:, None], x[1], y[1][:, None]), -1)
        corners = corners.clamp(0, 1) if p.clip else corners
        told = torch.stack([corners, carried(self.variance, device).to(wide).expand_as(corners)])
        return told.reshape(1, 2, -1).to(torch.promote_types(bottoms[0].dtype, torch.float32))


class PriorBoxClustered(PriorBox, type="PriorBoxClustered"):
    """As PriorBox, with a prior of each width and height."""

    def sides(self) -> Iterator[tuple[float, float]]:
        p = self.layer.prior_box_param
        if len(p.width) != len(p.height):
            raise self.error(f"takes as many width as height, found {len(p.width)} and {len(p.height)}")
        return zip(p.width, p.height, strict=True)


class DetectionOutput(Operation, type="DetectionOutput", family="regions", bottoms=(3, 4), inplace=False,
                      fresh=True, waits=True, undifferentiable={0, 1, 2, 3}):
    """What is detected: 1 x 1 x R x 7, rows of item, class, score, x1, y1, x2, y2.

    Bottoms: predictions N x 4P (not share_location: N x 4PC) for P priors in C classes, scores N x PC, the
    priors, and the image where it is to be shown, which is not done. A class but background_label_id takes
    the top_k surest above confidence_threshold that no surer one overlaps by more than nms_threshold, which
    falls by eta with each that is kept until it is 0.5; an item the keep_top_k surest of all classes, of
    equal ones the first. So R follows from the numbers; where nothing is found there is a row of -1 an item.
    """

    def setup(self, *shapes: Shape) -> None:
        p = self.p = self.layer.detection_output_param
        if not p.num_classes or p.nms_param.nms_threshold < 0 or not 0 < p.nms_param.eta <= 1:
            raise self.error("needs num_classes, nms_threshold of 0 or more, and eta above 0, at most 1")
        if p.nms_param.soft_nms:
            raise self.error("does not compute soft_nms")
        self.above = p.confidence_threshold if p.HasField("confidence_threshold") else -math.inf
        self.most = p.nms_param.top_k if p.nms_param.HasField("top_k") and p.nms_param.top_k >= 0 else None

    def infer(self, *shapes: Shape) -> list[Shape]:
        """The most rows that there can be."""
        p, (items, *moves), (rows, *scores) = self.p, *shapes[:2]
        count, classes = shapes[2][2] // 4 if len(shapes[2]) > 2 else 0, self.p.num_classes
        expected = 4 * count * (1 if p.share_location else classes), count * classes
        if not count or items != rows or (math.prod(moves), math.prod(scores)) != expected:
            raise self.error(f"takes of {count} priors N x {expected[0]} and N x {expected[1]} numbers, "
                             f"found {' and '.join(str(list(shape)) for shape in shapes[:2])}")
        most = (classes - (0 <= p.background_label_id < classes)) * (
            count if self.most is None else min(count, self.most))
        return [(1, 1, max(1, most if p.keep_top_k < 0 else min(most, p.keep_top_k)) * items, 7)]

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> Tensor:
        p, (moves, scores, priors) = self.p, map(raised, bottoms[:3])
        items, classes = len(scores), p.num_classes
        prior, variance = priors.reshape(2, -1, 1, 4)
        boxes = self.decoded(moves.reshape(items, len(prior), -1, 4), prior, variance)
        found = [self.kept(item, boxes[item], scores[item].reshape(-1, classes)) for item in range(items)]
        return rows_or_none(torch.cat(found), items)

    def decoded(self, moves: Tensor, prior: Tensor, variance: Tensor) -> Tensor:
        """The boxes of predictions N x P x L x 4 for priors P x 1 x 4, by code_type."""
        code, first, size = self.p.code_type, prior[..., :2], prior[..., 2:] - prior[..., :2]
        moves = moves if self.p.variance_encoded_in_target else moves * variance
        if code == PriorBoxParameter.CENTER_SIZE:
            middle, half = moves[..., :2] * size + first + size / 2, moves[..., 2:].exp() * size / 2
            return torch.cat([middle - half, middle + half], -1)
        return prior + (moves if code == PriorBoxParameter.CORNER else moves * torch.cat([size, size], -1))

    def kept(self, item: int, boxes: Tensor, scores: Tensor) -> Tensor:
        """The rows of an item, class by class, the surest first: R x 7 of P x L x 4 and P x C."""
        p, found = self.p, [scores.new_zeros(0, 7)]
        for number in range(p.num_classes):
            if number == p.background_label_id:
                continue
            box, score = boxes[:, 0 if p.share_location else number], scores[:, number]
            some = (score > self.above).nonzero()[:, 0]
            order = some[score[some].sort(descending=True, stable=True).indices][: self.most]
            order = nms(box, score, p.nms_param.nms_threshold, strict=True, order=order, ends=0,
                        eta=p.nms_param.eta)
            told = score.new_tensor([item, number]).expand(len(order), 2)
            found.append(torch.cat([told, score[order, None], box[order]], 1))
        rows = torch.cat(found)
        if 0 <= p.keep_top_k < len(rows):
            rows = rows[rows[:, 2].sort(descending=True, stable=True).indices[: p.keep_top_k].sort().values]
        return rows


class DetectionEvaluate(Operation, type="DetectionEvaluate", family="regions", bottoms=2, inplace=False,
                        waits=True, sink=True, undifferentiable={0, 1}):
    """How detections 1 x 1 x R x 7 meet true boxes 1 x 1 x K x 8 (item, class, ..., corners, difficult):
    1 x 1 x (C - 1 + R) x 5.

    First a row for each class but background_label_id: -1, class, its true boxes, -1, -1; then one for each
    detection: item, class, score, hit, miss. It hits the true box of its class that it overlaps most, by
    overlap_threshold or more, if no surer one has; neither, where that is difficult and
    evaluate_difficult_gt is false. Overlaps in pixels (name_size_file) are not computed.
    """

    def setup(self, *shapes: Shape) -> None:
        self.p = self.layer.detection_evaluate_param
        if not self.p.num_classes or self.p.overlap_threshold <= 0:
            raise self.error("needs num_classes, and overlap_threshold above 0")
        self.classes = [n for n in range(self.p.num_classes) if n != self.p.background_label_id]

    def infer(self, found: Shape, truth: Shape) -> list[Shape]:
        """The most rows that there can be."""
        if len(found) != 4 or found[3] != 7 or len(truth) != 4 or truth[3] != 8:
            raise self.error(f"takes 1 x 1 x R x 7 and 1 x 1 x K x 8, found {list(found)} and {list(truth)}")
        return [(1, 1, len(self.classes) + found[2], 5)]

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> Tensor:
        if self.p.name_size_file:
            raise self.error("does not read name_size_file; without it overlaps are those of boxes in parts "
                             "of the image")
        found, truth = raised(bottoms[0]).reshape(-1, 7), raised(bottoms[1]).reshape(-1, 8)
        truth, found = truth[truth[:, 0] != -1], found[(found[:, 0] != -1) & (found[:, 1] != -1)]
        easy = self.p.evaluate_difficult_gt
        counted = truth if easy else truth[truth[:, 7] == 0]
        rows: list[list[float]] = [[-1, n, int((counted[:, 1] == n).sum()), -1, -1] for n in self.classes]
        for pair in found[:, :2].unique(dim=0):
            mine, true = (x[(x[:, :2] == pair).all(1)] for x in (found, truth))
            if len(true):
                mine = mine[mine[:, 2].sort(descending=True, stable=True).indices]
            shares, taken = overlaps(mine[:, 3:], true[:, 3:], ends=0).tolist(), set()
            for row, shared in zip(mine.tolist(), shares, strict=True):
                best = max(range(len(true)), key=shared.__getitem__, default=-1)
                meets = best >= 0 and shared[best] >= self.p.overlap_threshold
                passed = meets and not easy and bool(true[best, 7])
                hit = meets and not passed and best not in taken
                taken |= {best} if hit else set()
                rows.append([*row[:3], hit, not hit and not passed])
        return found.new_tensor(rows)[None, None]


def rows_or_none(rows: Tensor, items: int) -> Tensor:
    """What was found, 1 x 1 x R x 7; if that is nothing, a row of -1 for each item, behind its number."""
    if not len(rows):
        rows = rows.new_full((items, 7), -1)
        rows[:, 0] = torch.arange(items)
    return rows[None, None]
