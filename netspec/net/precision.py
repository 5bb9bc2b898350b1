"""Average precision of detections, as PASCAL VOC's development kit and R-FCN's release measure it.

A detection is right where the box of its class that it overlaps most (intersection over union; both ends of a
side belong to it) overlaps it by more than the threshold, and no surer detection was right by that box. What
finds a difficult box counts neither way.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..ops.boxes import overlaps

RECALLS = np.arange(0.0, 1.1, 0.1)  # of VOC 2007's measure


class Truth(NamedTuple):
    """The boxes of an image, (K, 4): x1, y1, x2, y2 in its pixels; their classes (K,), from 1 on; which of
    them are difficult (K,)."""

    boxes: np.ndarray
    classes: np.ndarray
    difficult: np.ndarray


@dataclass(frozen=True, eq=False)
class Curve:
    """How one class is found as the least score that counts falls.

    right, wrong: bool (D,), of each detection, the surest first, equal scores in the order given; what finds
    a difficult box is neither. truths: the boxes to be found, without the difficult ones.
    """

    right: np.ndarray
    wrong: np.ndarray
    truths: int

    @cached_property
    def recall(self) -> np.ndarray:
        """After each detection, float64 (D,); NaN without truths."""
        found = np.cumsum(self.right)
        return found / self.truths if self.truths else np.full(len(found), np.nan)

    @cached_property
    def precision(self) -> np.ndarray:
        """After each detection, float64 (D,)."""
        found = np.cumsum(self.right)
        return found / np.maximum(found + np.cumsum(self.wrong), 1)

    @property
    def area(self) -> float:
        """The area under the curve, whose precision is the most there or at more recall.

        Without truths it is NaN, and 0 if nothing was detected either.
        """
        recall = np.concatenate([[0.0], self.recall, [1.0]])
        best = np.maximum.accumulate(np.append(self.precision, 0.0)[::-1])[::-1]
        return float(np.sum(np.diff(recall) * best))

    @property
    def eleven(self) -> float:
        """VOC 2007's measure: at recalls 0, 0.1, ..., 1, the mean of the most precision there or at more; 0
        without truths."""
        return float(sum(self.precision[self.recall >= least].max(initial=0.0) / 11 for least in RECALLS))


def mean(made: Sequence[Curve], measure: str) -> float:
    """The mean of "area" or "eleven" over the classes that the truth has; NaN without any."""
    each = [getattr(curve, measure) for curve in made if curve.truths]
    return sum(each) / len(each) if each else math.nan


def unseen(made: Sequence[Curve], names: Sequence[str]) -> list[str]:
    """The classes that are never in the truth: a mean says nothing of them. names: the background's first."""
    return [name for name, curve in zip(names[1:], made, strict=True) if not curve.truths]


def means(made: Sequence[Curve], overlap: float) -> dict[str, float | None]:
    """The means in plain numbers for JSON, null without truth, and the overlap that a right box exceeds."""
    there = any(curve.truths for curve in made)
    return {"map": mean(made, "area") if there else None,
            "map_11_point": mean(made, "eleven") if there else None, "overlap": overlap}


def curves(truths: Sequence[Truth], found: Sequence[Tensor], classes: int, threshold: float = 0.5
           ) -> list[Curve]:
    """A curve for each class from 1 to classes - 1.

    found: the detections of each image, D x 6: class, x1, y1, x2, y2, score (see detections.py).
    """
    starts = np.cumsum([0, *(len(truth.boxes) for truth in truths)])
    matched = [_matched(truth, detected.double().cpu(), start)
               for truth, detected, start in zip(truths, found, starts, strict=False)]
    number, score, overlap, which = map(np.concatenate, zip(*matched, strict=True))
    named = np.concatenate([np.asarray(truth.classes, int) for truth in truths])
    easy = np.concatenate([~np.asarray(truth.difficult, bool) for truth in truths])
    return [_curve(which[of], overlap[of] > threshold, easy, int(easy[named == wanted].sum()))
            for wanted in range(1, classes) for of in [_surest(score, number == wanted)]]


def _surest(score: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """The places of those chosen, falling by score."""
    places = np.flatnonzero(chosen)
    return places[np.argsort(-score[places], kind="stable")]


def _curve(which: np.ndarray, near: np.ndarray, easy: np.ndarray, truths: int) -> Curve:
    """The curve of a class from its detections, the surest first: the box nearest to each, and whether that
    is near enough. easy: of all boxes, which are not difficult."""
    hits = np.flatnonzero(near)
    hits = hits[easy[which[hits]]]
    right, wrong = np.zeros(len(which), bool), ~near
    right[hits[np.unique(which[hits], return_index=True)[1]]] = True
    wrong[hits] = ~right[hits]
    return Curve(right, wrong, truths)


def _matched(truth: Truth, found: Tensor, start: int) -> tuple[np.ndarray, ...]:
    """Of each detection of an image its class, its score, its largest overlap with a box of its class, and
    the number of that box, the first of equal ones; numbers begin at `start`."""
    number, score = found[:, 0].long(), found[:, 5].numpy()
    if not len(truth.boxes):
        return number.numpy(), score, np.full(len(found), -1.0), np.zeros(len(found), int)
    near = overlaps(found[:, 1:5], torch.as_tensor(truth.boxes))
    near[number[:, None] != torch.as_tensor(truth.classes)] = -1
    return number.numpy(), score, near.amax(1).numpy(), near.numpy().argmax(1) + start
