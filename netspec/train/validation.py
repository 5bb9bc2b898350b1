"""Validation: the mean IU of a test net each time that a solver tests it, and the best weights by it."""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
from torch import Tensor

from ..base.errors import Error
from ..base.files import writing
from ..base.log import Log
from ..base.metrics import MEASURES, Scores, confusion, mean_iu, titled
from ..base.table import percent
from ..net import weights
from ..net.judged import Judged
from ..net.module import Net


class Counting:
    """Counts the pixels of one test, each image of the list once."""

    def __init__(self, judged: Judged) -> None:
        self.judged = judged
        self.blobs = (judged.score_blob, judged.label_blob)
        self.images: set[int] = set()
        self.histogram = np.zeros((judged.classes, judged.classes), np.int64)

    def add(self, blobs: Mapping[str, Tensor], position: int) -> None:
        """blobs: those named in `blobs`, of the batch at a position."""
        judged = self.judged
        best, truth = judged.compare(blobs[judged.score_blob], blobs[judged.label_blob], position)()
        for item, b, t in zip(judged.source.items(position), best, truth, strict=True):
            if item % judged.total not in self.images:  # the list may begin again within the test
                self.images.add(item % judged.total)
                self.histogram += confusion(t, b, judged.classes, judged.void)


def judged(net: Net) -> Judged | None:
    """What a test net is judged by; None where it has no scores of pixels and labels of a list of images."""
    with suppress(Error):
        found = Judged(net.graph)
        if net.graph.shape(found.label_blob)[-2:] == net.graph.shape(found.score_blob)[-2:]:
            return found
    return None


class Best:
    """The best weights of a run so far by the mean IU of its tests: PREFIX_best.caffemodel.

    PREFIX_best.json beside it has the iteration and the measures. A run that is resumed goes on from them.
    """

    def __init__(self, prefix: str, log: Log, resumed: bool = False, hdf5: bool = False) -> None:
        self.record = Path(f"{prefix}_best.json")
        self.weights = Path(f"{prefix}_best.caffemodel{'.h5' if hdf5 else ''}")
        self.log, self.hdf5 = log, hdf5
        self.mean_iu, self.iteration = -1.0, 0
        # none yet, or not of this program
        with suppress(OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
            found = json.loads(self.record.read_text()) if resumed and self.weights.exists() else {}
            if 0 <= found["mean_iu"] <= 1:
                self.iteration, self.mean_iu = int(found["iteration"]), float(found["mean_iu"])

    def tested(self, net: Net, iteration: int, scores: Scores, counting: Counting) -> None:
        """Keep the weights of a net if no test before gave as much."""
        if not scores.mean_iu > self.mean_iu:
            return
        self.mean_iu, self.iteration = scores.mean_iu, iteration
        self.record.unlink(missing_ok=True)  # it is there only beside the weights that it is of
        weights.save(self.weights, net, hdf5=self.hdf5)
        plain = scores.as_dict()
        found = {name: plain[name] for name in MEASURES} | {
            "unseen": [counting.judged.names[i] for i in scores.unseen], "images": len(counting.images),
            "iteration": iteration, "weights": str(self.weights)}
        with writing(self.record, "w") as file:
            json.dump(found, file)

    def say(self) -> None:
        """Where the best weights are, if there are any."""
        if self.mean_iu >= 0 and self.weights.exists():  # someone may have taken them away
            self.log("netspec", f"the best mean IU of the tests, {percent(self.mean_iu)}, is of iteration "
                     f"{self.iteration}: {self.weights}")


def said(iteration: int, number: int, scores: Scores, counting: Counting) -> str:
    """The line about one test, which curves read."""
    judged, images = counting.judged, len(counting.images)
    of = "" if images == judged.total else f" of {judged.total}"
    told = f"Iteration {iteration}, test net #{number}: {mean_iu(scores)}, {images}{of} images"
    return titled(told, [judged.names[i] for i in scores.unseen])


def interval(images: int, step: int, iterations: int) -> int:
    """The test_interval that costs a training about a tenth of its time, and is at least its 20th part.

    images: tested each time, alone, at up to 0.45 of the cost of one that is learned from in a batch. step:
    images of an iteration. The last test comes at the end of the training where a divisor is near.
    """
    least = min(max(-(-images * 9 // (2 * step)), -(-iterations // 20), 1), iterations)
    return next((n for n in range(least, min(2 * least, iterations) + 1) if iterations % n == 0), least)
