"""What YOLO's maps of scores detect, of its second and third version."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .base import Operation, Shape, carried, raised
from .boxes import nms
from .priors import rows_or_none


class YoloDetectionOutput(Operation, type="YoloDetectionOutput", family="regions", bottoms=(1, 2),
                          inplace=False, fresh=True, waits=True, undifferentiable={0, 1}, four_axes=True):
    """What is detected: 1 x 1 x R x 7, rows of 0, class (from 1), score, x1, y1, x2, y2.

    Corners are parts of the image. Bottoms: maps N x (num_box (5 + num_classes)) x H x W; of each position
    and box: x and y in the cell, width and height by `biases` (in cells), whether there is an object,
    classes. The likeliest class counts, with the object's chance times its own, from confidence_threshold on.
    A box that a surer one of any class overlaps by nms_threshold or more goes. All items count as one image.
    Nothing found: a row of -1 an item.
    """

    @property
    def p(self) -> Any:
        return self.layer.yolo_detection_output_param

    def setup(self, *shapes: Shape) -> None:
        count = self.p.num_box
        self.anchors = [torch.tensor(each) for each in self.sizes(len(shapes))]  # in cells, width and height
        if not count or any(each.shape != (count, 2) for each in self.anchors):
            raise self.error(f"needs two biases for each of the {count} boxes (num_box) of each bottom")
        wanted = shapes[0][0], count * (5 + self.p.num_classes)
        if not self.p.num_classes or any(len(x) != 4 or x[:2] != wanted for x in shapes):
            raise self.error(f"takes {' x '.join(map(str, wanted))} x H x W with classes, found "
                             f"{', '.join(str(list(x)) for x in shapes)}")

    def sizes(self, bottoms: int) -> list[list[tuple[float, float]]]:
        """Width and height of the boxes of each bottom, in cells."""
        return [[*zip(self.p.biases[::2], self.p.biases[1::2], strict=False)]] * bottoms

    def infer(self, *shapes: Shape) -> list[Shape]:
        """The most rows that there can be."""
        return [(1, 1, max(1, sum(self.p.num_box * math.prod(x[2:]) for x in shapes)) * shapes[0][0], 7)]

    def odds(self, scores: Tensor) -> Tensor:
        """What classes count (... x C); 0 for what does not."""
        chance = scores.softmax(-1)
        return chance * torch.zeros_like(chance).scatter(-1, chance.argmax(-1, keepdim=True), 1)

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> Tensor:
        read = [self.read(raised(x), anchors) for x, anchors in zip(bottoms, self.anchors, strict=True)]
        boxes, odds = (torch.cat(parts) for parts in zip(*read, strict=True))
        at, number = self.counted(odds).nonzero().unbind(1)
        score, box = odds[at, number], boxes[at]
        order = score.sort(descending=True, stable=True).indices
        kept = nms(box, score, self.p.nms_threshold, order=order, ends=0)
        told = torch.stack([torch.zeros_like(score), number + 1, score], 1)
        return rows_or_none(torch.cat([told, box], 1)[kept], len(bottoms[0]))

    def counted(self, odds: Tensor) -> Tensor:
        return (odds > 0) & (odds >= self.p.confidence_threshold)

    def read(self, x: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor]:
        """The boxes of a map, B x 4, and what each class counts in them, B x C."""
        high, wide = x.shape[2:]
        x = x.reshape(len(x), self.p.num_box, -1, high, wide).permute(0, 3, 4, 1, 2)
        rows, columns = (torch.arange(n, device=x.device, dtype=x.dtype) for n in (high, wide))
        cell = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1)[:, :, None]
        size = torch.stack([torch.full_like(cell[..., 0], n) for n in (wide, high)], -1)
        middle = (x[..., :2].sigmoid() + cell) / size
        half = x[..., 2:4].exp() * carried(anchors, x.device) / size / 2
        odds = self.odds(x[..., 5:]) * x[..., 4:5].sigmoid()
        return torch.cat([middle - half, middle + half], -1).flatten(0, -2), odds.flatten(0, -2)


class Yolov3DetectionOutput(YoloDetectionOutput, type="Yolov3DetectionOutput", bottoms=(1, 3),
                            undifferentiable={0, 1, 2}):
    """As YoloDetectionOutput, but every class with a score above confidence_threshold counts, each with a
    sigmoid of its own.

    `biases` are in pixels of the image; bottom i has those that `mask` numbers, mask_group_num groups of
    equal length, and cells of anchors_scale[i] pixels.
    """

    @property
    def p(self) -> Any:
        return self.layer.yolov3_detection_output_param

    def sizes(self, bottoms: int) -> list[list[tuple[float, float]]]:
        p, pairs = self.p, super().sizes(1)[0]
        each = len(p.mask) // max(p.mask_group_num, 1)
        if bottoms != p.mask_group_num or len(p.anchors_scale) < bottoms or not p.mask or not (
                max(p.mask) < len(pairs) and min(p.anchors_scale) > 0):
            raise self.error("needs a bottom and an anchors_scale for each of mask_group_num groups of mask, "
                             "which number pairs of biases from 0")
        groups = [p.mask[i * each : i * each + p.num_box] for i in range(bottoms)]
        return [[(pairs[n][0] / scale, pairs[n][1] / scale) for n in group]
                for group, scale in zip(groups, p.anchors_scale, strict=False)]

    def infer(self, *shapes: Shape) -> list[Shape]:
        return [(1, 1, super().infer(*shapes)[0][2] * self.p.num_classes, 7)]

    def odds(self, scores: Tensor) -> Tensor:
        return scores.sigmoid()

    def counted(self, odds: Tensor) -> Tensor:
        return odds > self.p.confidence_threshold
