"""What a net with labels is judged by: its scores beside the truth, in scoring and in a solver's tests."""

from collections.abc import Callable, Iterable, Sized

import numpy as np
import torch
from torch import Tensor

from ..base.errors import Error, closest
from ..base.metrics import VOID
from ..data.segmentation import SegmentationData
from ..ops.base import fetched
from ..ops.shape import Moved
from ..ops.source import Source
from .deploy import scored
from .graph import Graph


class Judged:
    """A TEST net's scores and the labels to compare them with.

    names: of the classes. source: the layer that gives the labels, of `total` images. void: the label that is
    not counted.
    """

    def __init__(self, made: Graph, score_blob: str = "", label_blob: str = "label") -> None:
        """score_blob: see `scored` where it is not said.

        Raises Error for a net without these blobs, or whose data do not come as one pass over a list."""
        self.graph, self.score_blob, self.label_blob = made, score_blob or scored(made.proto), label_blob
        self.classes, self.whole = classes(made, self.score_blob), whole(made, self.score_blob)
        self.odds = likely(made, self.score_blob)
        self.source, self.total = _source(made, label_blob)
        self.facts = self.source.facts if isinstance(self.source, SegmentationData) else None
        known = self.facts.names if self.facts and len(self.facts.names) <= self.classes else ()
        self.names = [*known, *(f"class {i}" for i in range(len(known), self.classes))]
        losses = [node.op.layer.loss_param for node in made.nodes]
        ignored = [loss.ignore_label for loss in losses if loss.HasField("ignore_label")]
        void = self.facts and self.facts.void
        self.void = ignored[0] if ignored else VOID if void is None else void

    def compare(self, scores: Tensor, truth: Tensor, position: int
                ) -> Callable[[], tuple[np.ndarray, np.ndarray]]:
        """What gives the best class of each pixel of a batch, and its label, (N, H, W) both: see fetched.

        scores: (N, C, H, W), of one map as `whole` takes it. truth: (N, 1, H, W) or (N, H, W). Raises Error
        where their sizes differ.
        """
        flat, pixels = truth[:, 0] if truth.ndim == 4 else truth, [len(scores), *scores.shape[2:]]
        if list(flat.shape) != pixels:
            raise Error(f"{self.source.describe(position)}: labels are {list(truth.shape)} for "
                        f"{pixels} scored pixels; scoring needs a score for each labelled pixel")
        best, there = judging(self.whole(scores), self.source.describe(position)), fetched(flat)
        return lambda: (best(), there())


def labels(scores: Tensor, of: str) -> np.ndarray:
    """The best class of each pixel (N, H, W) from scores (N, C, H, W): uint8, int32 above 256 classes.

    Raises Error where scores are NaN, of which no class is the best; `of` is what they are of.
    """
    return judging(scores, of)()


def judging(scores: Tensor, of: str) -> Callable[[], np.ndarray]:
    """What gives `labels`, and raises its Error: see fetched."""
    best, pixels = scores.argmax(1), scores[:, 0].numel()
    numbers = fetched(best.to(torch.uint8 if scores.shape[1] <= 256 else torch.int32))
    unclear = fetched(scores.amax(1).isnan().sum())

    def found() -> np.ndarray:
        if wrong := int(unclear()):
            raise Error(f"{of}: the scores are no numbers (NaN) in {wrong} of {pixels} pixels, so no class "
                        "can be told; 'netspec doctor NET WEIGHTS' says where they come from")
        return numbers()

    return found


def channels(made: Graph, blob: str) -> int:
    """The number of classes that a score blob (N, C, H, W) has. Raises Error if the net has no such blob."""
    blobs = {value.blob for value in made.shapes}
    if blob not in blobs:
        raise no_blob(f"net '{made.name}'", blob, blobs)
    shape = made.shape(blob)
    if len(shape) != 4:
        raise Error(f"blob '{blob}' of net '{made.name}' has shape {list(shape)}, scores have N x C x H x W")
    return shape[1]


def classes(made: Graph, blob: str) -> int:
    """The number of classes that a score blob (N, C, H, W) tells apart: of one map two, see `whole`."""
    return max(2, channels(made, blob))


def whole(made: Graph, blob: str) -> Callable[[Tensor], Tensor]:
    """What makes of the scores or probabilities (N, C, H, W) of a blob those of each class.

    One map (C = 1) is that of the second class against the first: a probability p stands for 1 - p and p, a
    score s, of which the sigmoid is the probability, for 0 and s. Others are left as they are.
    """
    odds = likely(made, blob)

    def both(scores: Tensor) -> Tensor:
        return torch.cat([1 - scores if odds else torch.zeros_like(scores), scores], 1)

    return both if channels(made, blob) == 1 else lambda scores: scores


def likely(made: Graph, blob: str) -> bool:
    """Whether a blob holds probabilities, not scores."""
    return any(softmaxed(made, blob, kind) for kind in ("Softmax", "Sigmoid"))


def softmaxed(made: Graph, blob: str, kind: str = "Softmax") -> bool:
    """Whether a blob holds probabilities, a Softmax's or other layer's, in whatever form, and not scores."""
    for node in reversed(made.nodes):
        if blob in (top.blob for top in node.tops):
            if not isinstance(node.op, Moved):
                return node.type == kind
            blob = node.bottoms[0].blob
    return False


def no_blob(where: str, blob: str, blobs: Iterable[str]) -> Error:
    return Error(f"{where} has no blob '{blob}' (--score-blob names the one with the scores)"
                 f"{closest(blob, blobs)}")


def _source(made: Graph, label_blob: str) -> tuple[Source, int]:
    """The layer that gives the labels, and of how many images; Error unless it goes once through a list."""
    nodes = {top.blob: node for node in made.sources for top in node.tops}
    where = f"{made.path}: " if made.path else ""
    if label_blob not in nodes:
        raise Error(f"{where}net '{made.name}' has no data layer that gives '{label_blob}' (they give: "
                    f"{', '.join(nodes) or 'nothing'}); scoring needs a val net (--label-blob names the "
                    f"truth), infer none{closest(label_blob, nodes)}")
    node, source = nodes[label_blob], nodes[label_blob].op
    if not isinstance(source, Source) or not isinstance(source, Sized) or source.fed:
        raise Error(f"{where}layer '{node.name}' ({node.type}) has no list of images to score")
    if isinstance(source, SegmentationData) and source.randomize:
        raise Error(f"{where}layer '{node.name}' draws images at random, but scores are of each image once: "
                    "score a val net, or give param_str 'randomize': False")
    return source, len(source)
