"""From what a net says of regions to detections: the boxes that it draws around objects, and how sure it is.

The detections of an image are a tensor D x 6: class (from 1 on), x1, y1, x2, y2, score; boxes in pixels of
the image as it is, from 0, both ends included; class by class, the surest first.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..base.errors import Error, closest, listed
from ..ops import REGISTRY, Operation
from ..ops.boxes import clip, decode, nms
from ..ops.regions import Regions
from ..proto.caffe_pb2 import LayerParameter
from .graph import Graph
from .judged import softmaxed

SCORES = "cls_prob"


@dataclass(frozen=True)
class Rules:
    """Which boxes count. As they stand, those of R-FCN's release.

    above: the score that one must have more than; a number, or one for each class from 0 on. overlap: from
    this intersection over union on the less sure of two boxes of a class goes. most: of an image, over all
    classes, the surest; more where the last ones are equally sure; 0: all.
    """

    above: float | Sequence[float] = -math.inf
    overlap: float = 0.3
    most: int = 400


def detections(rois: Tensor, scores: Tensor, moves: Tensor, size: tuple[int, int], scale: float,
               rules: Rules | None = None) -> Tensor:
    """The detections of an image of a size (height, width), which the net saw `scale` times as large.

    rois: R x 5, of this image. scores: R x C probabilities, class 0 the background. moves: R x 4C, a box for
    each class, or R x 8, one for all, in columns 4 to 7. All are on one device, where the detections are too.
    Raises Error where the numbers do not go together, or are none.
    """
    rules, classes = rules or Rules(), scores.shape[1]
    if not len(rois) == len(scores) == len(moves) or moves.shape[1] not in (8, 4 * classes):
        raise Error(f"{len(scores)} x {classes} scores and {len(moves)} x {moves.shape[1]} box transforms "
                    f"are given for {len(rois)} regions; of each are expected as many, and {4 * classes} "
                    "transforms (for each class) or 8 (for all)")
    if wrong := int(scores.isnan().any(1).sum() + moves.isnan().any(1).sum()):
        raise Error(f"the net's scores or boxes are no numbers (NaN) in {wrong} of {len(rois)} regions; "
                    "'netspec doctor NET WEIGHTS' says where they come from")
    boxes = clip(decode(rois[:, 1:5] / scale, moves), size)
    above = torch.as_tensor(rules.above, device=scores.device).expand(classes)
    found = []
    for number in range(1, classes):
        own = 4 * number if moves.shape[1] == 4 * classes else 4
        sure = scores[:, number] > above[number]
        of, score = boxes[sure, own : own + 4], scores[sure, number]
        kept = nms(of, score, rules.overlap)
        found.append(torch.cat([torch.full_like(score, number)[kept, None], of[kept], score[kept, None]], 1))
    some = torch.cat(found) if found else scores.new_zeros(0, 6)
    if 0 < rules.most < len(some):
        some = some[some[:, 5] >= some[:, 5].topk(rules.most).values[-1]]
    return some


def pools_regions(layers: Iterable[LayerParameter]) -> bool:
    """Whether a net says something of each region, and not of each pixel or image."""
    return any(issubclass(REGISTRY.get(layer.type, Operation), Regions) for layer in layers)


class BoxReader:
    """Reads detections from the blobs of a net, which are called as in R-FCN's release: rois, cls_prob (or
    another with the scores) and bbox_pred."""

    def __init__(self, made: Graph, scores: str = SCORES, rules: Rules | None = None) -> None:
        """Raises Error for a net without these blobs."""
        self.blobs, self.rules = ["rois", scores, "bbox_pred"], rules or Rules()
        known = dict.fromkeys(value.blob for value in made.shapes)
        for blob in self.blobs:
            if blob not in known and (losses := [node.name for node in made.nodes if node.op.loss]):
                raise Error(f"net '{made.name}' has no blob '{blob}' but losses ({listed(losses)}): it is a "
                            "net for training; what is scored is its val or test net")
            if blob not in known:
                raise Error(f"net '{made.name}' has no blob '{blob}'{closest(blob, known)}; detections are "
                            f"read from {', '.join(self.blobs)} (--score-blob names the one with the scores)")
        regions, *shapes = map(made.shape, self.blobs)
        self.classes, columns = (math.prod(shape[1:]) for shape in shapes)
        told = ", ".join(f"'{name}' {list(made.shape(name))}" for name in self.blobs)
        if (len(set(self.blobs)) < 3 or math.prod(regions[1:]) != 5 or self.classes < 2
                or any(shape[:1] != regions[:1] for shape in shapes) or columns not in (8, 4 * self.classes)):
            raise Error(f"net '{made.name}' has {told}; of R regions in C classes R x 5, R x C and R x 8 or "
                        "R x 4C are expected (--score-blob names the scores)")
        self.odds = softmaxed(made, scores)

    def __call__(self, blobs: Mapping[str, Tensor], size: tuple[int, int], scale: float, item: int = 0,
                 rules: Rules | None = None) -> Tensor:
        """The detections, D x 6, of an item of a batch: of an image of a size (height, width), which the net
        saw `scale` times as large. rules: others than the reader's."""
        rois, scores, moves = (blobs[name].float().flatten(1) for name in self.blobs)
        of = rois[:, 0] == item
        odds = scores[of] if self.odds else scores[of].softmax(1)
        return detections(rois[of], odds, moves[of], size, scale, rules or self.rules)
