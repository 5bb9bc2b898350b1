"""A net that finds objects over its data set, once each image, in the measures of VOC and COCO."""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor

from ..base.errors import Error
from ..base.table import percent, table
from ..data.boxes import Record
from ..data.detection import DetectionData
from ..data.feed import Batches
from ..look import pictures
from ..look.boxes import boxed
from ..net.detections import SCORES, Rules
from ..net.graph import Graph
from ..net.judgedboxes import JudgedBoxes, truth_of
from ..net.module import Net
from ..net.plan import Plan
from ..net.precision import Curve, curves, mean, means, unseen
from . import predict

MEASURES = {"area": "AP", "eleven": "AP, 11 points"}
SURE = 0.5  # the score that a box in a sheet has more than


@dataclass(frozen=True, eq=False)
class BoxResult:
    """What scoring found.

    curves: of each class from 1 on, where a right box has more than `overlap`. found: the detections of each
    image (D x 6, see detect.py), in the order of `records`. seconds: loading included.
    """

    looks: predict.Looks
    overlap: float
    curves: Sequence[Curve]
    records: Sequence[Record]
    found: Sequence[Tensor]
    seconds: float

    def mean(self, measure: str) -> float:
        """The mean of "area" or "eleven" over the classes that the truth has; NaN without any."""
        return mean(self.curves, measure)

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON; null for classes that are never in the truth."""
        classes = [{"name": name, "ap": _plain(curve, "area"), "ap_11_point": _plain(curve, "eleven"),
                    "truths": curve.truths, "detections": len(curve.recall)}
                   for name, curve in zip(self.looks.names[1:], self.curves, strict=True)]
        return {**means(self.curves, self.overlap), "classes": classes, "images": len(self.found),
                "seconds": round(self.seconds, 3)}

    def summary(self, name: str) -> str:
        """A net's table, in percent: all classes, then each."""
        rows = [[name, *(percent(self.mean(measure)) for measure in MEASURES),
                 sum(curve.truths for curve in self.curves), sum(map(len, self.found))]]
        rows += [[each, *(percent(getattr(curve, measure)) if curve.truths else "-" for measure in MEASURES),
                  curve.truths, len(curve.recall)]
                 for each, curve in zip(self.looks.names[1:], self.curves, strict=True)]
        text = table(rows, [f"overlap above {self.overlap:g}", *MEASURES.values(), "boxes", "found"])
        lacking = unseen(self.curves, self.looks.names)
        told = f"\n\nnot in the mean, being never in the truth: {', '.join(lacking)}"
        return text + told * bool(lacking)


class BoxScoring(JudgedBoxes):
    """What is known of a TEST net's detections before weights are loaded."""

    def __init__(self, made: Graph, score_blob: str = SCORES, places: Sequence[int] = ()) -> None:
        """places: of the list, from 0, whose images alone are scored; none: all. Raises Error for a net
        without its blobs, or whose images do not come as one pass over a list that has these places, and for
        files that are not there."""
        super().__init__(made, score_blob)
        self.listed = self.total
        if places:
            self.source.only(places)
            self.total = len(places)
        self.source.check_files()
        self.looks = predict.looks(self.source.facts, self.reader.classes)

    def run(self, net: Net, rules: Rules | None = None, overlap: float = 0.5, *,
            progress: Callable[[int, int, int], None] | None = None, workers: int | None = None) -> BoxResult:
        """Run the net once over its images and compare what it finds with their boxes.

        progress: is told images done, images in all, boxes found. workers: see Feed.
        """
        begun, self.reader.rules, looking = time.monotonic(), rules or Rules(), Plan.of(net)
        records, found = [], []
        with (closing(Batches(self.graph.readers, net.device, workers=workers)) as batches,
              torch.inference_mode()):
            for position in range(self.total):
                try:
                    blobs = looking(batches.next(), self.blobs)
                except Error as error:
                    raise Error(f"{self.source.describe(position)}: {error}") from None
                record, some = self.compare(blobs, position)
                records.append(record)
                found.append(some.cpu())
                if progress:
                    progress(position + 1, self.total, sum(map(len, found)))
        made = curves(list(map(truth_of, records)), found, self.reader.classes, overlap)
        return BoxResult(self.looks, overlap, made, records, found, time.monotonic() - begun)


def sheet(source: DetectionData, result: BoxResult, most: int | None) -> Image:
    """The images with the most boxes missed and found wrongly, so many at most (None: all as they were
    scored), with the truth and the boxes above SURE."""
    sure = [some[some[:, 5] > SURE] for some in result.found]
    wrong = [_wrong(record, some, result) for record, some in zip(result.records, sure, strict=True)]
    places = range(len(wrong))
    chosen = [*places] if most is None else sorted(places, key=lambda i: -sum(wrong[i]))[:most]
    palette, names = result.looks.palette, result.looks.names

    def shown(index: int, boxes: Sequence[Sequence[float]]) -> Image:
        return boxed(source.read(result.records[index]), boxes, palette, names)

    truths = [[[number, *box, math.nan] for number, box in zip(record.classes, record.boxes, strict=True)]
              for record in result.records]
    columns = [("truth", [shown(i, truths[i]) for i in chosen], [result.records[i].name for i in chosen]),
               (f"found, score above {SURE:g}", [shown(i, sure[i].tolist()) for i in chosen],
                ["{} missed, {} wrong".format(*wrong[i]) for i in chosen])]
    return pictures.sheet(columns)


def _wrong(record: Record, found: Tensor, result: BoxResult) -> tuple[int, int]:
    """How many boxes are missed, and how many found are wrong."""
    made = curves([truth_of(record)], [found], len(result.looks.names), result.overlap)
    return (sum(curve.truths - int(curve.right.sum()) for curve in made),
            sum(int(curve.wrong.sum()) for curve in made))


def _plain(curve: Curve, measure: str) -> float | None:
    return getattr(curve, measure) if curve.truths else None
