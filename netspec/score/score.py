"""The `score` command: a net over its data set, once each image, in the measures of the FCN papers."""

import math
import os
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..base import files, metrics
from ..base.errors import Error, closest
from ..base.metrics import Binary, Scores, confusion
from ..data.feed import Batches
from ..look import pictures as report
from ..net.graph import Graph
from ..net.module import Net
from ..ops.source import Source
from . import predict

Progress = Callable[[int, int, np.ndarray], None]  # images done, images in all, histogram so far


@dataclass(frozen=True, eq=False)
class Result:
    """What scoring found.

    loss: the mean objective of a batch (NaN without loss layer). histogram: int64 (classes, classes), rows
    truth. stray: pixels whose label is neither a class nor void. seconds: loading included. bands: width -> scores of
    the pixels so near a boundary. binary: of the positive class.
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
            "classes": [{"name": name, "iu": iu, "accuracy": accuracy} for name, iu, accuracy in each],
            "loss": self.loss if math.isfinite(self.loss) else None, "images": self.images,
            "seconds": round(self.seconds, 3), "stray_labels": self.stray,
            "trimap": {width: scores.as_dict() for width, scores in self.bands.items()},
            "binary": self.binary and self.binary.as_dict(),
        }


def score(
    net: Net, *, score_blob: str = "score", label_blob: str = "label", save: str | os.PathLike | None = None,
    progress: Progress | None = None, workers: int | None = None, trimap: Sequence[int] = (), positive: int | None = None,
    threshold: float | None = None,
) -> Result:
    """Run a TEST net once over the images of its data layer and compare the best classes with the labels.

    save: a folder for the predictions, NAME.png with class indices and the data set's colours. workers: see
    Feed. trimap: widths of bands around boundaries to score alone (`metrics.trimap`). positive: a class to hold against
    all others, predicted where it is the best, or, with a threshold, where its probability is above it. Raises Error
    for a net without these blobs, or whose data do not come as one pass over a list.
    """
    begun = time.monotonic()
    classes = predict.channels(net.graph, score_blob)
    source = _source(net.graph, label_blob)
    total, void = len(source), _void(net.graph, source)
    looks = predict.looks(getattr(source, "facts", None), classes)
    histogram, pairs = np.zeros((classes, classes), np.int64), np.zeros((2, 2), np.int64)
    bands = np.zeros((len(trimap), classes, classes), np.int64)
    loss, done, stray = 0.0, 0, 0
    with closing(Batches(net.graph.readers, net.device, workers=workers)) as batches, torch.inference_mode():
        for position in range(-(-total // source.batch_size)):
            inputs = batches.next()
            blobs = net(inputs, [score_blob])
            best = predict.labels(blobs[score_blob])
            truth = _truth(inputs[label_blob].cpu().numpy(), best.shape, source, position)
            found = best == positive if threshold is None else _probability(net, blobs, score_blob, positive) > threshold
            count = min(source.batch_size, total - done)  # the list begins again within the last batch
            for name, t, b, f in list(zip(_names(source, position), truth, best, found, strict=True))[:count]:
                inside, called_void = (t >= 0) & (t < classes), t == void
                stray += int(np.count_nonzero(~inside & ~called_void & (t != report.VOID)))
                histogram += confusion(t, b, classes, void)
                if trimap:
                    bands += metrics.trimap(t, b, classes, trimap, void)
                if positive is not None:
                    pairs += confusion((t == positive)[inside & ~called_void], f[inside & ~called_void], 2)
                if save is not None:
                    report.save_labels(files.inside(Path(save), f"{name}.png"), b, looks.palette)
            loss += net.loss(blobs).item() * count
            done += count
            if progress:
                progress(done, total, histogram)
    near = {width: Scores.from_histogram(band) for width, band in zip(trimap, bands, strict=True)}
    return Result(Scores.from_histogram(histogram), looks, loss / done if net.losses else math.nan, done,
                  time.monotonic() - begun, histogram, stray, near, None if positive is None else Binary.from_histogram(pairs))


def _source(made: Graph, label_blob: str) -> Source:
    """The layer that gives the labels; Error unless it passes over a list once, in order."""
    nodes = {top.blob: node for node in made.sources for top in node.tops}
    where = f"{made.path}: " if made.path else ""
    if label_blob not in nodes:
        raise Error(f"{where}net '{made.name}' has no data layer that gives '{label_blob}' (they give: "
                    f"{', '.join(nodes) or 'nothing'}); scoring needs a val net (--label-blob names the truth), infer none"
                    f"{closest(label_blob, nodes)}")
    node, source = nodes[label_blob], nodes[label_blob].op
    if not hasattr(type(source), "__len__") or source.fed:
        raise Error(f"{where}layer '{node.name}' ({node.type}) has no list of images to score")
    if getattr(source, "randomize", False):
        raise Error(f"{where}layer '{node.name}' draws images at random, but scores are of each image once: "
                    "score a val net, or give param_str 'randomize': False")
    return source


def _void(made: Graph, source: Source) -> int:
    """The label that is not counted: the one that the loss ignores."""
    params = [node.op.layer.loss_param for node in made.nodes]
    told = [p.ignore_label for p in params if p.HasField("ignore_label")]
    return told[0] if told else getattr(getattr(source, "layout", None), "void", report.VOID)


def _probability(net: Net, blobs: dict[str, torch.Tensor], blob: str, positive: int) -> np.ndarray:
    """That of a class, (N, H, W): what a Softmax layer gives, or the softmax of scores."""
    ready = any(node.type == "Softmax" for node in net.graph.nodes for top in node.tops if top.blob == blob)
    return (blobs[blob] if ready else blobs[blob].softmax(1))[:, positive].cpu().numpy()


def _truth(truth: np.ndarray, shape: tuple[int, ...], source: Source, position: int) -> np.ndarray:
    """Labels (N, 1, H, W) or (N, H, W) as (N, H, W); Error if the scores are of another size."""
    flat = truth[:, 0] if truth.ndim == 4 else truth
    if flat.shape != shape:
        raise Error(f"{source.describe(position)}: labels are {list(truth.shape)} for {list(shape)} scored pixels; "
                    "scoring needs a score for each labelled pixel")
    return flat


def _names(source: Source, position: int) -> list[str]:
    """Names for the files of a batch: the data set's own, or numbers."""
    if hasattr(source, "image_names"):
        return source.image_names(position)
    return [f"{item:06d}" for item in source.items(position)]
