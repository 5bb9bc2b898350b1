"""Validation: a test net's mean IU or AP each time that a solver tests it, and the best weights by it."""

import json
import math
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..base.errors import Error
from ..base.files import writing
from ..base.log import Log
from ..base.metrics import MEASURES, Scores, confusion, mean_of, titled
from ..base.table import percent
from ..net.graph import Graph
from ..net.judged import Judged
from ..net.judgedboxes import JudgedBoxes, truth_of
from ..net.module import Net
from ..net.precision import Truth, curves, mean, means, unseen
from ..ops.source import Source
from . import taken_back

TITLES = {"mean_iu": "mean IU", "map": "mean AP"}  # what tests are judged by, by its name in records
OVERLAP = 0.5  # what a right box has more of


class Tested(NamedTuple):
    """What one test found. measure: a key of TITLES; value: it, a fraction, NaN without any truth; classes:
    how many there are; unseen: those that are never in the truth; images: tested, of `total`; facts: plain
    numbers for JSON."""

    measure: str
    value: float
    classes: int
    unseen: list[str]
    images: int
    total: int
    facts: Mapping[str, float | None]

    @property
    def told(self) -> str:
        """The measure in a line of progress, in percent."""
        return mean_of(TITLES[self.measure], self.value, self.classes, len(self.unseen))


class Pixels:
    """Counts the pixels of one test, each image of the list once. blobs: what `add` reads; items: those that
    are about parts of an image, so that a mean over images says nothing. until: the number of the item with
    which the list begins again, where others count what is before."""

    until = math.inf
    items: Collection[str] = ()

    def __init__(self, made: Graph) -> None:
        """Raises Error for a net that is not to be judged so."""
        self.judged = judged = Judged(made)
        if made.shape(judged.label_blob)[-2:] != made.shape(judged.score_blob)[-2:]:
            raise Error(f"net '{made.name}' has scores and labels of different sizes")
        self.source: Source = judged.source
        self.blobs: Sequence[str] = (judged.score_blob, judged.label_blob)
        self.images: set[int] = set()
        self.histogram = np.zeros((judged.classes, judged.classes), np.int64)

    def add(self, blobs: Mapping[str, Tensor], position: int) -> None:
        """blobs: those named in `blobs`, of the batch at a position."""
        judged = self.judged
        best, truth = judged.compare(blobs[judged.score_blob], blobs[judged.label_blob], position)()
        for item, b, t in zip(judged.source.items(position), best, truth, strict=True):
            # the list may begin again within the test
            if item < self.until and item % judged.total not in self.images:
                self.images.add(item % judged.total)
                self.histogram += confusion(t, b, judged.classes, judged.void)

    def parts(self) -> list[np.ndarray]:
        """What was counted, for `join` of another process."""
        return [self.histogram, np.array(sorted(self.images), np.int64)]

    def join(self, parts: Sequence[Sequence[np.ndarray]]) -> None:
        """Have what all these counted."""
        histograms, images = zip(*parts, strict=True)
        self.histogram = np.sum(histograms, 0)
        self.images = {*np.concatenate(images).tolist()}

    def found(self) -> Tested:
        scores, judged = Scores.from_histogram(self.histogram), self.judged
        plain = scores.as_dict()
        return Tested("mean_iu", scores.mean_iu, judged.classes, [judged.names[i] for i in scores.unseen],
                      len(self.images), judged.total, {name: plain[name] for name in MEASURES})


class Boxes:
    """Keeps what is detected in one test beside the truth, each image of the list once; else as Pixels."""

    until = math.inf

    def __init__(self, made: Graph) -> None:
        """Raises Error for a net that is not to be judged so."""
        self.judged = judged = JudgedBoxes(made)
        self.source: Source = judged.source
        self.blobs: Sequence[str] = judged.blobs
        self.items: Collection[str] = {*self.blobs, *judged.source.layer.top}
        self.images: dict[int, tuple[Truth, Tensor]] = {}

    def add(self, blobs: Mapping[str, Tensor], position: int) -> None:
        """blobs: those named in `blobs`, of the batch at a position."""
        if position < self.until and (index := position % self.judged.total) not in self.images:
            record, some = self.judged.compare(blobs, position)
            self.images[index] = truth_of(record), some.cpu()

    def parts(self) -> list[np.ndarray]:
        """What was kept, for `join` of another process."""
        return [array for index, (truth, some) in self.images.items()
                for array in (np.array(index), *truth, some.numpy())]

    def join(self, parts: Sequence[Sequence[np.ndarray]]) -> None:
        """Have what all these kept, in the order of the list."""
        flat = [array for each in parts for array in each]
        images = [flat[i : i + 5] for i in range(0, len(flat), 5)]
        self.images = {int(index): (Truth(*truth), torch.from_numpy(some))
                       for index, *truth, some in sorted(images, key=lambda each: int(each[0]))}

    def found(self) -> Tested:
        judged, (truths, found) = self.judged, zip(*self.images.values(), strict=True)
        made = curves(truths, found, judged.reader.classes, OVERLAP)
        return Tested("map", mean(made, "area"), len(made), unseen(made, judged.names), len(self.images),
                      judged.total, means(made, OVERLAP))


def counting(net: Net) -> Pixels | Boxes | None:
    """What counts a test of a net; None where it has neither scores of pixels and labels, nor detections and
    boxes, of a list of images."""
    for kind in (Pixels, Boxes):
        with suppress(Error):
            return kind(net.graph)
    return None


class Best:
    """The best weights of a run so far by the measure of its tests: PREFIX_best.caffemodel.

    PREFIX_best.json beside it has the iteration and the measures. A run that is resumed goes on from them.
    """

    def __init__(self, prefix: str, log: Log, resumed: bool = False, hdf5: bool = False) -> None:
        self.record = Path(f"{prefix}_best.json")
        self.weights = Path(f"{prefix}_best.caffemodel{'.h5' if hdf5 else ''}")
        self.log, self.hdf5 = log, hdf5
        self.measure, self.value, self.iteration = "", -1.0, 0
        # none yet, or not of this program
        with suppress(OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError, StopIteration):
            found = json.loads(self.record.read_text()) if resumed and self.weights.exists() else {}
            measure = next(name for name in TITLES if name in found)
            if 0 <= found[measure] <= 1:
                self.iteration, self.value = int(found["iteration"]), float(found[measure])
                self.measure = measure

    def tested(self, net: Net, iteration: int, tested: Tested) -> None:
        """Keep the weights of a net if no test before gave as much."""
        if tested.measure == self.measure and not tested.value > self.value or math.isnan(tested.value):
            return
        self.measure, self.value, self.iteration = tested.measure, tested.value, iteration
        self.record.unlink(missing_ok=True)  # it is there only beside the weights that it is of
        taken_back.save(self.weights, net, self.hdf5)
        found = {**tested.facts, "unseen": tested.unseen, "images": tested.images, "iteration": iteration,
                 "weights": str(self.weights)}
        with writing(self.record, "w") as file:
            json.dump(found, file)

    def say(self) -> None:
        """Where the best weights are, if there are any."""
        if self.measure and self.weights.exists():  # someone may have taken them away
            self.log("netspec", f"the best {TITLES[self.measure]} of the tests, {percent(self.value)}, is of "
                     f"iteration {self.iteration}: {self.weights}")


def said(iteration: int, number: int, tested: Tested) -> str:
    """The line about one test, which curves read."""
    of = "" if tested.images == tested.total else f" of {tested.total}"
    told = f"Iteration {iteration}, test net #{number}: {tested.told}, {tested.images}{of} images"
    return titled(told, tested.unseen)


def interval(images: int, step: int, iterations: int) -> int:
    """The test_interval that costs a training about a tenth of its time, and is at least its 20th part.

    images: tested each time, alone, at up to 0.45 of the cost of one that is learned from in a batch. step:
    images of an iteration. The last test comes at the end of the training where a divisor is near.
    """
    least = min(max(-(-images * 9 // (2 * step)), -(-iterations // 20), 1), iterations)
    return next((n for n in range(least, min(2 * least, iterations) + 1) if iterations % n == 0), least)
