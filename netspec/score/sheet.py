"""Scores as tables, and pictures of predictions beside their truth."""

import csv
import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ..base import files
from ..base.errors import Error
from ..base.files import writing
from ..base.metrics import MEASURES, Scores, confusion
from ..base.table import percent, table
from ..data.images import read_label
from ..data.segmentation import SegmentationData
from ..look import pictures as report
from ..look import shapes
from . import predict


def measures(results: Sequence[tuple[str, Scores]], *, markdown: bool = False) -> str:
    """The papers' Table 2: a row for each (name, scores), the four measures in percent."""
    rows = [[name, *(percent(getattr(scores, m)) for m in MEASURES)] for name, scores in results]
    return table(rows, ["", *MEASURES.values()], markdown=markdown)


def per_class(scores: Scores, names: Sequence[str] | None = None, *, markdown: bool = False) -> str:
    """IU and accuracy of each class in percent, and a line that lists the classes not counted.

    names: one a class, or None for their numbers. Raises Error if there are more or fewer.
    """
    names = class_names(len(scores.class_iu), names)
    counted = [i for i in range(len(names)) if i not in scores.absent]
    rows = [[names[i], percent(scores.class_iu[i]), percent(scores.class_accuracy[i])] for i in counted]
    text = table(rows, ["class", "IU", "acc."], markdown=markdown)
    if scores.absent:
        absent = ", ".join(names[i] for i in scores.absent)
        text += f"\n\nnot counted, being in neither truth nor prediction: {absent}"
    return text


def save_confusion(path: str | os.PathLike, histogram: np.ndarray, names: Sequence[str]) -> None:
    """Write a confusion matrix, rows truth: as .csv in pixels; as .png, .svg or .pdf in percent of each true class."""
    names = class_names(len(histogram), names)
    if str(path).lower().endswith(".csv"):
        with writing(path, "w") as file:
            rows = [[name, *row] for name, row in zip(names, histogram.tolist(), strict=True)]
            csv.writer(file, lineterminator="\n").writerows([["truth \\ prediction", *names], *rows])
        return
    shares = np.asarray(histogram) / np.maximum(np.sum(histogram, 1, keepdims=True), 1)
    cell, left = 28, 24 + max(shapes.measure(f"{name} 00", 11) for name in names)
    page = shapes.Picture(max(270, left + cell * len(names) + 12), 44 + cell * len(names) + 12)
    page.shapes.append(shapes.Text(12, 14, "rows truth, columns prediction, in % of the row", 11, fill=shapes.GREY))
    for i, (name, row) in enumerate(zip(names, shares, strict=True)):
        y, x = 44 + cell * i, left + cell * i
        page.shapes += [shapes.Text(left - 6, y + cell / 2, f"{name} {i}", 11, "end"),
                        shapes.Text(x + cell / 2, 34, str(i), 11, "middle")]
        for j, share in enumerate(row):
            shade = "#" + "".join(f"{round(255 + share * (full - 255)):02x}" for full in (8, 69, 148))
            said = f"{names[j]} for {name}: {percent(share)} %"
            page.shapes.append(shapes.Rect(left + cell * j, y, cell, cell, shade, "#dddddd", said))
            if share >= 0.005:
                ink = shapes.PAPER if share > 0.5 else shapes.INK
                page.shapes.append(shapes.Text(left + cell * (j + 0.5), y + cell / 2, f"{100 * share:.0f}", 10, "middle", ink))
    page.save(path)


def class_names(classes: int, names: Sequence[str] | None) -> list[str]:
    """`names`, or "class 0", "class 1", ... for None. Raises Error if they are not as many as `classes`."""
    if names is None:
        return [f"class {i}" for i in range(classes)]
    if len(names) != classes:
        raise Error(f"{len(names)} class names are given for {classes} classes")
    return list(names)



Folder = str | os.PathLike


def worst(source: SegmentationData, looks: predict.Looks, folder: Folder, most: int) -> list[int]:
    """The places in the list of at most `most` images whose saved predictions have the least mean IU, that first."""
    found = [(_mean_iu(source, looks, folder, i), i) for i in range(len(source))]
    chosen = [index for iu, index in sorted(found) if not math.isnan(iu)][:most]
    if not chosen:
        raise Error(f"no image of '{source.dataset}' {source.split} has a labelled pixel")
    return chosen


def sheet(source: SegmentationData, looks: predict.Looks, nets: dict[str, Folder], chosen: Sequence[int]) -> Image.Image:
    """Image, truth and predictions, with the mean IU of each, for places in the list.

    nets: title -> the folder where predictions were saved. Raises Error if a folder lacks one.
    """
    shown = {"truth": [_labelled(source, i) for i in chosen]}
    shown |= {title: [_saved(source, folder, i) for i in chosen] for title, folder in nets.items()}
    below = {title: [f"mean IU {percent(_mean_iu(source, looks, folder, i))}" for i in chosen]
             for title, folder in nets.items()}
    photographs = [_photograph(next(top for top in source.read(i) if top.ndim == 3)) for i in chosen]
    columns = [("image", photographs, [source.names[i] for i in chosen])]
    for title, each in shown.items():
        columns.append((title, [report.colour(one, looks.palette) for one in each], below.get(title, [""] * len(chosen))))
    present = np.concatenate([one.ravel() for each in shown.values() for one in each])
    return report.sheet(columns, legend=report.keys(present, looks.palette, looks.names))


def _saved(source: SegmentationData, folder: Folder, index: int) -> np.ndarray:
    return read_label(files.find(Path(folder) / f"{source.names[index]}.png", what="prediction"))


def _labelled(source: SegmentationData, index: int) -> np.ndarray:
    label = next(top for top in source.read(index) if top.ndim == 2)
    return np.where(label == source.facts.void, report.VOID, label)


def _mean_iu(source: SegmentationData, looks: predict.Looks, folder: Folder, index: int) -> float:
    return Scores.from_histogram(confusion(_labelled(source, index), _saved(source, folder, index), len(looks.names))).mean_iu


def _photograph(pixels: np.ndarray) -> np.ndarray:
    """Pixels as stored as a picture; bands and depths are stretched from their least to their most."""
    if pixels.dtype == np.uint8:
        return pixels
    low, high = float(pixels.min()), float(pixels.max())
    grey = ((pixels - low) * (255 / max(high - low, 1e-9))).astype(np.uint8)
    return grey[:, :, 2::-1] if grey.shape[2] > 2 else grey[:, :, 0]
