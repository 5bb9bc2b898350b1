"""The one table in text: columns as wide as their widest cell, numbers to the right."""

import csv
import io
import math
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from .errors import Error, one_line


def table(rows: Sequence[Sequence[Any]], headers: Sequence[str] | None = None, *,
          markdown: bool = False) -> str:
    """Aligned columns, plain or Markdown; columns of numbers to the right; None and NaN as "-".

    Without headers there is no rule either. Raises Error if a row has more or fewer cells than there
    are headers. A cell is one line, whatever it holds.
    """
    names = [*map(one_line, headers)] if headers is not None else [""] * max(map(len, rows), default=0)
    for row in rows:
        if len(row) != len(names):
            raise Error(f"a table row has {len(row)} cells for {len(names)} headers: {list(row)}")
    cells = [["-" if cell is None or cell != cell else one_line(str(cell)) for cell in row] for row in rows]
    columns = list(zip(names, *cells, strict=True))
    least = 3 if markdown else 1  # Markdown's rule needs three dashes
    widths = [max(least, *map(len, column)) for column in columns]
    right = [len(column) > 1 and all(map(numeric, column[1:])) for column in columns]

    def line(texts: Sequence[str]) -> str:
        padded = [t.rjust(w) if r else t.ljust(w) for t, w, r in zip(texts, widths, right, strict=True)]
        return f"| {' | '.join(padded)} |" if markdown else "  ".join(padded).rstrip()

    rule = ["-" * w for w in widths]
    if markdown:
        rule = [dashes[:-1] + ":" if r else dashes for dashes, r in zip(rule, right, strict=True)]
    return "\n".join([*([line(names), line(rule)] if headers is not None else []), *map(line, cells)])


def as_csv(rows: Iterable[Sequence[Any]]) -> str:
    """Rows as comma-separated values, a line each."""
    with io.StringIO() as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
        return file.getvalue().rstrip("\n")


def percent(value: float) -> str:
    """A fraction in percent with one decimal, as the papers print it; "-" for NaN."""
    return "-" if math.isnan(value) else f"{100 * value:.1f}"


def numeric(cell: str) -> bool:
    """Whether a cell holds a number, maybe in percent, or stands for one."""
    with suppress(ValueError):
        float(cell.rstrip("%"))
        return True
    return cell == "-"
