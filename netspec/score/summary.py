"""Scores as the tables that `netspec score` prints, and the confusion matrix as a file."""

import os
from collections.abc import Sequence

import numpy as np

from ..base.errors import Error, count, one_line
from ..base.files import writing
from ..base.metrics import BINARY, MEASURES, Scores, titled
from ..base.table import as_csv, percent, table
from ..look.shapes import GREY, INK, PAPER, Picture, Rect, Text, measure
from .score import Result


def summary(name: str, result: Result, positive: int | None = None) -> str:
    """All tables of a net's scores, in percent. positive: the class that `result.binary` is of."""
    names = result.looks.names
    parts = [measures([(name, result.scores)], names=names), per_class(result.scores, names)]
    if result.bands:
        parts.append(measures([(f"within {width} px of a boundary", scores)
                               for width, scores in result.bands.items()], names=names))
    if result.binary and positive is not None:
        cells = [percent(getattr(result.binary, measure)) for measure in BINARY]
        parts.append(table([[result.looks.names[positive], *cells]], ["", *BINARY.values()]))
    if result.stray:
        parts.append(f"not counted: {count(result.stray, 'pixel')} with labels that are neither 0 to "
                     f"{len(result.histogram) - 1} nor void")
    return "\n\n".join(parts)


def measures(results: Sequence[tuple[str, Scores]], *, names: Sequence[str] = (),
             markdown: bool = False) -> str:
    """The papers' Table 2: a row for each (name, scores), the four measures in percent.

    names: of the classes, to name those that are never in a truth.
    """
    rows = [[titled(name, [names[i] for i in scores.unseen] if names else ()),
             *(percent(getattr(scores, m)) for m in MEASURES)] for name, scores in results]
    return table(rows, ["", *MEASURES.values()], markdown=markdown)


def per_class(scores: Scores, names: Sequence[str] | None = None) -> str:
    """IU and accuracy of each class in percent, and a line that lists the classes not counted.

    names: one a class, or None for their numbers. Raises Error if there are more or fewer.
    """
    names = class_names(len(scores.class_iu), names)
    counted = [i for i in range(len(names)) if i not in scores.absent]
    rows = [[names[i], percent(scores.class_iu[i]), percent(scores.class_accuracy[i])] for i in counted]
    text = table(rows, ["class", "IU", "acc."])
    if scores.absent:
        absent = ", ".join(names[i] for i in scores.absent)
        text += f"\n\nnot counted, being in neither truth nor prediction: {one_line(absent)}"
    return text


def class_names(classes: int, names: Sequence[str] | None) -> list[str]:
    """`names`, or "class 0", "class 1", ... for None. Raises Error if they are not as many as `classes`."""
    if names is None:
        return [f"class {i}" for i in range(classes)]
    if len(names) != classes:
        raise Error(f"{len(names)} class names are given for {classes} classes")
    return list(names)


def save_confusion(path: str | os.PathLike, histogram: np.ndarray, names: Sequence[str] | None) -> None:
    """Write a confusion matrix, rows truth: .csv in pixels; .png, .svg or .pdf in percent of each row."""
    names = class_names(len(histogram), names)
    if not str(path).lower().endswith(".csv"):
        shares = np.asarray(histogram) / np.maximum(np.sum(histogram, 1, keepdims=True), 1)
        _matrix(shares, names).save(path)
        return
    with writing(path, "w") as file:
        rows = [[name, *row] for name, row in zip(names, histogram.tolist(), strict=True)]
        file.write(as_csv([["truth \\ prediction", *names], *rows]) + "\n")


def _matrix(shares: np.ndarray, names: Sequence[str]) -> Picture:
    cell, left, top = 28, 24 + max(measure(f"{name} 00", 11) for name in names), 44
    page = Picture(max(270, left + cell * len(names) + 12), top + cell * len(names) + 12)
    page.shapes.append(Text(12, 14, "rows truth, columns prediction, in % of the row", 11, fill=GREY))
    for i, (name, row) in enumerate(zip(names, shares, strict=True)):
        y = top + cell * i
        page.shapes += [Text(left - 6, y + cell / 2, f"{name} {i}", 11, "end"),
                        Text(left + cell * (i + 0.5), top - 10, str(i), 11, "middle")]
        for j, share in enumerate(row):
            x = left + cell * j
            shade = "#" + "".join(f"{round(255 + share * (full - 255)):02x}" for full in (8, 69, 148))
            said = f"{names[j]} for {name}: {percent(share)} %"
            page.shapes.append(Rect(x, y, cell, cell, shade, "#dddddd", said))
            if share >= 0.005:
                ink = PAPER if share > 0.5 else INK
                page.shapes.append(Text(x + cell / 2, y + cell / 2, f"{100 * share:.0f}", 10, "middle", ink))
    return page
