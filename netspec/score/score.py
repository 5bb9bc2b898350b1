"""A net over its data set, once each image, in the measures of the FCN papers."""

import math
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..base import metrics
from ..base.errors import Error
from ..base.files import inside
from ..base.metrics import VOID, Binary, Scores, confusion
from ..data.feed import Batches
from ..data.pictured import Pictured
from ..look.pictures import save_labels
from ..net.graph import Graph
from ..net.judged import Judged
from ..net.module import Net
from ..net.plan import Plan
from ..ops.base import fetched
from . import predict
from .averaged import Averaged
from .engined import Engined
from .sampled import Sampled
from .stitch import Stitched

Progress = Callable[[int, int, np.ndarray], None]  # images done, images in all, histogram so far


@dataclass(frozen=True, eq=False)
class Result:
    """What scoring found.

    loss: the mean objective of a batch (NaN without loss layer). histogram: int64 (classes, classes), rows
    truth. stray: pixels whose label is neither a class nor void. seconds: loading included. bands: width ->
    scores of the pixels so near a boundary. binary: of the positive class.
    """

    scores: Scores
    looks: predict.Looks
    loss: float
    images: int
    seconds: float
    histogram: np.ndarray
    stray: int
    bands: dict[int, Scores]
    binary: Binary | None

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON."""
        plain = self.scores.as_dict()
        each = zip(self.looks.names, plain.pop("class_iu"), plain.pop("class_accuracy"), strict=True)
        return {
            **plain,
            "absent": [self.looks.names[i] for i in self.scores.absent],
            "unseen": [self.looks.names[i] for i in self.scores.unseen],
            "classes": [{"name": name, "iu": iu, "accuracy": accuracy} for name, iu, accuracy in each],
            "loss": self.loss if math.isfinite(self.loss) else None, "images": self.images,
            "seconds": round(self.seconds, 3), "stray_labels": self.stray,
            "trimap": {width: scores.as_dict() for width, scores in self.bands.items()},
            "binary": self.binary and self.binary.as_dict(),
        }


class Tally:
    """What is counted of images, one after the other, and their predictions written."""

    def __init__(self, classes: int, void: int, trimap: Sequence[int], positive: int | None) -> None:
        """See Scoring.run."""
        self.classes, self.void, self.trimap, self.positive = classes, void, trimap, positive
        self.histogram, self.pairs = np.zeros((classes, classes), np.int64), np.zeros((2, 2), np.int64)
        self.bands = np.zeros((len(trimap), classes, classes), np.int64)
        self.done = self.stray = 0

    def add(self, paths: Sequence[Path | None], judged: Callable[[], tuple[np.ndarray, np.ndarray]],
            probable: Callable[[], np.ndarray] | None, looks: predict.Looks) -> None:
        """Count a batch, once a GPU has given it.

        paths: where the predictions of its images go, of which those behind do not count. judged: see
        Judged.compare. probable: what gives where the positive class is, (N, H, W); None: where it is best.
        """
        classes, void = self.classes, self.void
        predicted, labels = judged()
        positive = predicted == self.positive if probable is None else probable()
        for path, truth, best, found in zip(paths, labels, predicted, positive, strict=False):
            counted = (truth >= 0) & (truth < classes) & (truth != void)
            self.stray += int(np.count_nonzero(~counted & (truth != void) & (truth != VOID)))
            self.histogram += confusion(truth, best, classes, void)
            if self.trimap:
                self.bands += metrics.trimap(truth, best, classes, self.trimap, void)
            if self.positive is not None:
                self.pairs += confusion((truth == self.positive)[counted], found[counted], 2)
            if path is not None:
                save_labels(path, best, looks.palette)
            self.done += 1


class Scoring(Judged):
    """What is known of a TEST net's scores before weights are loaded: of `total` images of those `listed`."""

    def __init__(self, made: Graph, score_blob: str = "", label_blob: str = "label",
                 places: Sequence[int] = ()) -> None:
        """places: of the list, from 0, whose images alone are scored; none: all. Raises Error for a net
        without these blobs, or whose data do not come as one pass over a list that has these places, and for
        files that are not there."""
        super().__init__(made, score_blob, label_blob)
        self.listed = self.total
        if places:
            if not isinstance(self.source, Pictured) or len(made.readers) > 1:
                raise Error(f"net '{made.name}': --images is of nets with one data layer, SegmentationData")
            self.source.only(places)
            self.total = len(places)
        self.source.check_files()
        self.looks = predict.looks(self.facts, self.classes)

    def run(self, net: Net | Plan | Stitched | Engined | Averaged | Sampled, *,
            save: str | os.PathLike | None = None, progress: Progress | None = None,
            workers: int | None = None, trimap: Sequence[int] = (),
            positive: int | None = None, threshold: float | None = None) -> Result:
        """Run the net once over the images of its data layer and compare the best classes with the labels.

        save: a folder for the predictions, NAME.png with class indices and the data set's colours. workers:
        see Feed. trimap: widths of bands around boundaries to score alone (`metrics.trimap`). positive: a
        class to hold against all others, predicted where it is the best, or, with a threshold, where its
        probability is above it. Raises Error where labels and scores differ in size.
        """
        begun, size, done = time.monotonic(), self.source.batch_size, 0
        losses: list[tuple[Tensor, int]] = []  # of each batch, and its images
        tally = Tally(self.classes, self.void, trimap, positive)
        waiting: deque[Future[None]] = deque()  # batches that are counted while the net is at the next
        data = Batches(self.graph.readers, net.device, workers=workers)
        with closing(data) as batches, ThreadPoolExecutor(1) as pool, torch.inference_mode():
            for position in range(-(-self.total // size)):
                inputs = batches.next()
                blobs = net(inputs, [self.score_blob])
                judged = self.compare(blobs[self.score_blob], inputs[self.label_blob], position)
                found = self._found(blobs[self.score_blob], positive, threshold)
                count = min(size, self.total - done)  # the list begins again within the last batch
                names = self.source.image_names(position)
                paths = [None if save is None else inside(Path(save), f"{name}.png") for name in names]
                if isinstance(net, Net | Plan):
                    losses.append((net.loss(blobs), count))
                done += count
                while waiting:
                    self._told(waiting.popleft(), tally, progress)
                waiting.append(pool.submit(tally.add, paths[:count], judged, found, self.looks))
            for last in waiting:
                self._told(last, tally, progress)
        near = {width: Scores.from_histogram(band) for width, band in zip(trimap, tally.bands, strict=True)}
        binary = None if positive is None else Binary.from_histogram(tally.pairs)
        loss = sum(each.item() * count for each, count in losses) / done
        mean_loss, seconds = loss if net.losses else math.nan, time.monotonic() - begun
        return Result(Scores.from_histogram(tally.histogram), self.looks, mean_loss, done, seconds,
                      tally.histogram, tally.stray, near, binary)

    def _told(self, counting: "Future[None]", tally: "Tally", progress: Progress | None) -> None:
        """Wait until a batch is counted, and say how far that is."""
        counting.result()
        if progress:
            progress(tally.done, self.total, tally.histogram)

    def _found(self, scores: Tensor, positive: int | None, threshold: float | None
               ) -> Callable[[], np.ndarray] | None:
        """What gives where the positive class is more probable than the threshold, if there is one."""
        if positive is None or threshold is None:
            return None
        scores = self.whole(scores)
        odds = fetched((scores if self.odds else scores.softmax(1))[:, positive])
        return lambda: odds() > threshold


def score(net: Net | Plan | Stitched, *, score_blob: str = "", label_blob: str = "label",
          **options: Any) -> Result:
    """Score a TEST net on its data by the blobs of these names (see Scoring); options: see Scoring.run."""
    return Scoring(net.graph, score_blob, label_blob).run(net, **options)
