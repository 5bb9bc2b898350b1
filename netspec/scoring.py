"""The `score` command: a net over its data set, once each image, in the measures of the FCN papers."""

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from . import files, graph, log, predict, report
from .compiler import Net
from .device import PRECISIONS
from .errors import Error, closest
from .graph import Graph
from .metrics import Scores, confusion
from .proto import caffe_pb2
from .sources import Feed, Source

Progress = Callable[[int, int, np.ndarray], None]  # images done, images in all, histogram so far


@dataclass(frozen=True, eq=False)
class Result:
    """What scoring found.

    loss: the mean objective of a batch (NaN without loss layer). histogram: int64 (classes, classes), rows
    truth. stray: pixels whose label is neither a class nor void. seconds: loading included.
    """

    scores: Scores
    looks: predict.Looks
    loss: float
    images: int
    seconds: float
    histogram: np.ndarray
    stray: int

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON."""
        plain = self.scores.as_dict()
        each = zip(self.looks.names, plain.pop("class_iu"), plain.pop("class_accuracy"), strict=True)
        return {
            **plain,
            "absent": [self.looks.names[i] for i in self.scores.absent],
            "classes": [{"name": name, "iu": iu, "accuracy": accuracy} for name, iu, accuracy in each],
            "loss": self.loss if math.isfinite(self.loss) else None,
            "images": self.images,
            "seconds": round(self.seconds, 3),
            "stray_labels": self.stray,
        }


def score(
    net: Net,
    *,
    score_blob: str = "score",
    label_blob: str = "label",
    save: str | os.PathLike | None = None,
    progress: Progress | None = None,
    workers: int | None = None,
) -> Result:
    """Run a TEST net once over the images of its data layer and compare the best classes with the labels.

    save: a folder for the predictions, NAME.png with class indices and the data set's colours. workers: see
    Feed. Raises Error for a net without these blobs, or whose data do not come as one pass over a list.
    """
    begun = time.monotonic()
    classes = predict.channels(net.graph, score_blob)
    source = _source(net.graph, label_blob)
    total, batch = len(source), source.batch_size
    void = _void(net.graph, source)
    looks = predict.looks(getattr(source, "facts", None), classes)
    histogram = np.zeros((classes, classes), np.int64)
    loss, done, stray = 0.0, 0, 0
    feeds = [Feed(node.op, 0, workers) for node in net.graph.sources]
    try:
        with torch.inference_mode():
            for position in range(-(-total // batch)):
                inputs = {
                    top.blob: tensor
                    for node, feed in zip(net.graph.sources, feeds, strict=True)
                    for top, tensor in zip(node.tops, next(feed), strict=True)
                }
                truth = inputs[label_blob].numpy()
                blobs = net({blob: tensor.to(net.device) for blob, tensor in inputs.items()}, [score_blob])
                best = predict.labels(blobs[score_blob])
                count = min(batch, total - done)  # the list begins again within the last batch
                truth = _truth(truth, best.shape, source, position)
                histogram += confusion(truth[:count], best[:count], classes, void)
                stray += _stray(truth[:count], classes, void)
                loss += net.loss(blobs).item() * count
                if save is not None:
                    for name, image in zip(_names(source, position), best[:count], strict=False):
                        report.save_labels(files.inside(Path(save), f"{name}.png"), image, looks.palette)
                done += count
                if progress:
                    progress(done, total, histogram)
    finally:
        for feed in feeds:
            feed.close()
    return Result(
        Scores.from_histogram(histogram),
        looks,
        loss / done if net.losses else math.nan,
        done,
        time.monotonic() - begun,
        histogram,
        stray,
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("net", metavar="NET", help="with a data layer: models/NAME/val.prototxt")
    parser.add_argument("weights", metavar="WEIGHTS", help=".caffemodel or .caffemodel.h5")
    parser.add_argument("--save", metavar="DIR", help="write the predictions there, as palette PNGs")
    parser.add_argument("--json", action="store_true", help="fractions of 1 instead of tables in percent")
    parser.add_argument("--score-blob", default="score", metavar="BLOB", help="the scores (default score)")
    parser.add_argument("--label-blob", default="label", metavar="BLOB", help="the truth (default label)")
    add_device_arguments(parser)
    parser.add_argument("--strict", action="store_true", help="refuse weights that lack a layer or hold another")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def add_device_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that say where and how exactly a net runs."""
    parser.add_argument("--device", help="cpu, cuda or cuda:N (default: a GPU if there is one)")
    parser.add_argument("--precision", default="fp32", choices=PRECISIONS, help="of convolutions (default fp32)")


def run(args: argparse.Namespace) -> int:
    path = files.find(args.net, what="net")
    made = graph.load(path, caffe_pb2.TEST)
    predict.channels(made, args.score_blob)  # wrong names are found before half a gigabyte is read
    _source(made, args.label_blob)
    net, remarks = predict.load(made, args.weights, args.device, args.precision, args.strict)
    for remark in remarks:
        print(f"note: {remark}", file=sys.stderr)
    said = log.make(args.quiet)

    def progress(done: int, total: int, histogram: np.ndarray) -> None:
        mean_iu = Scores.from_histogram(histogram).mean_iu
        said.progress("score", done, total, f"mean IU {report.percent(mean_iu)}", 1)

    try:
        result = score(
            net, score_blob=args.score_blob, label_blob=args.label_blob, save=args.save, progress=progress
        )
    finally:
        said.close()
    if args.json:
        facts = {"net": str(path), "weights": args.weights, **result.as_dict()}
        print(json.dumps(facts, indent=2, allow_nan=False))
        return 0
    name = made.name or path.stem
    rate = f"{result.images / max(result.seconds, 1e-9):.1f} images/s"
    print(f"{name}: {result.images} images in {result.seconds:.1f} s ({rate}, {net.device})", end="")
    print(f", loss {result.loss:.6g}\n" if net.losses else "\n")
    print(report.measures([(name, result.scores)]), end="\n\n")
    print(report.per_class(result.scores, result.looks.names))
    if result.stray:
        most = len(result.histogram) - 1
        print(f"\nnot counted: {result.stray} pixels with labels that are neither 0 to {most} nor void")
    if args.save:
        print(f"\npredictions: {args.save}")
    return 0


def _source(made: Graph, label_blob: str) -> Source:
    """The layer that gives the labels; Error unless it passes over a list once, in order."""
    nodes = {top.blob: node for node in made.sources for top in node.tops}
    where = f"{made.path}: " if made.path else ""
    if label_blob not in nodes:
        raise Error(
            f"{where}net '{made.name}' has no data layer that gives '{label_blob}' (they give: "
            f"{', '.join(nodes) or 'nothing'}); scoring needs a val net (--label-blob names the truth), infer none"
            f"{closest(label_blob, nodes)}"
        )
    node = nodes[label_blob]
    source = node.op
    if not hasattr(type(source), "__len__") or source.fed:
        raise Error(f"{where}layer '{node.name}' ({node.type}) has no list of images to score")
    if getattr(source, "randomize", False):
        raise Error(
            f"{where}layer '{node.name}' draws images at random, but scores are of each image once: "
            "score a val net, or give param_str 'randomize': False"
        )
    return source


def _void(made: Graph, source: Source) -> int:
    """The label that is not counted: the one that the loss ignores."""
    params = [node.op.layer.loss_param for node in made.nodes]
    told = [p.ignore_label for p in params if p.HasField("ignore_label")]
    return told[0] if told else getattr(getattr(source, "layout", None), "void", report.VOID)


def _stray(truth: np.ndarray, classes: int, void: int) -> int:
    outside = (truth < 0) | (truth >= classes)
    return int(np.count_nonzero(outside & (truth != void) & (truth != report.VOID)))


def _truth(truth: np.ndarray, shape: tuple[int, ...], source: Source, position: int) -> np.ndarray:
    """Labels (N, 1, H, W) or (N, H, W) as (N, H, W); Error if the scores are of another size."""
    flat = truth[:, 0] if truth.ndim == 4 else truth
    if flat.shape != shape:
        raise Error(
            f"{source.describe(position)}: labels are {list(truth.shape)} for {list(shape)} scored pixels; "
            "scoring needs a score for each labelled pixel"
        )
    return flat


def _names(source: Source, position: int) -> list[str]:
    """Names for the files of a batch: the data set's own, or numbers."""
    if hasattr(source, "image_names"):
        return source.image_names(position)
    return [f"{item:06d}" for item in source.items(position)]
