"""Charts by matplotlib: lines over two axes, and marks by name; several stand in one picture."""

import io
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle
from typing import TYPE_CHECKING, NamedTuple

from ..base.errors import Error, lacking
from .shapes import Drawn, Point, printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

COLOURS = ("#1b6ca8", "#d1495b", "#3a8d5d", "#e08e1b", "#7b4fa3", "#0aa3a3", "#8a5a44", "#5b6770")
STYLES = ("-", "--", ":")  # once all colours are taken
WIDTH, HEIGHT = 420, 290  # points, of each part of a chart; a PNG has two pixels a point
EM = 9  # points, of letters
DATES = {"SVG": "Date", "PDF": "CreationDate"}  # left out, so that a file is the same each time


class Lines(NamedTuple):
    """A line for each name -> points (x, y), above a legend; points that are not finite are left out, a name
    without points takes its colour alone."""

    series: Mapping[str, Sequence[Point]]
    xlabel: str
    ylabel: str
    title: str = ""
    logarithmic: bool = False  # the axis upwards
    marked: bool = False  # a dot at each point: there are few, with nothing between them

    def draw(self, place: "SubFigure") -> "Axes":
        axes = place.subplots()
        if self.logarithmic:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
        styles = cycle((style, colour) for style in STYLES for colour in COLOURS)
        for points, (style, colour) in zip(self.series.values(), styles, strict=False):
            finite = [point for point in points if all(map(math.isfinite, point))]
            axes.plot([x for x, _ in finite], [y for _, y in finite], style, color=colour, linewidth=1.6,
                      marker="." if self.marked or len(finite) == 1 else "")
        axes.locator_params("x", steps=[1, 2, 5, 10])  # iterations are whole numbers
        axes.set(xlabel=printable(self.xlabel), ylabel=printable(self.ylabel))
        lines = [line for line, points in zip(axes.lines, self.series.values(), strict=True) if points]
        names = [printable(name) for name, points in self.series.items() if points]
        beside = int(WIDTH // (EM * (5 + 0.55 * max(map(len, names), default=0))))  # 5: a line, and gaps
        place.legend(lines, names, loc="outside lower left", ncols=max(1, min(3, beside)))
        return axes


class Marks(NamedTuple):
    """A row for each name: a mark at each of its finite values, a bar and a number for their mean."""

    values: Mapping[str, Sequence[float]]
    xlabel: str
    title: str = ""

    def draw(self, place: "SubFigure") -> "Axes":
        axes = place.subplots()
        for row, (values, colour) in enumerate(zip(self.values.values(), cycle(COLOURS), strict=False)):
            finite = [value for value in values if math.isfinite(value)]
            axes.plot(finite, [row] * len(finite), "s", color=colour, markersize=5)
            if finite:
                mean = sum(finite) / len(finite)
                axes.plot([mean], [row], "|", color=colour, markersize=16, markeredgewidth=2.5)
                axes.annotate(f"{mean:.1f}", (1.01, row), xycoords=("axes fraction", "data"), va="center")
        axes.set_yticks(range(len(self.values)), list(map(printable, self.values)))
        axes.set_ylim(len(self.values) - 0.5, -0.5)
        axes.set_xlabel(printable(self.xlabel))
        return axes


class Chart(Drawn):
    """Columns of Lines and Marks in one picture, from left to right; `figure` is matplotlib's."""

    def __init__(self, columns: Sequence[Sequence[Lines | Marks]]) -> None:
        """Raises Error without matplotlib."""
        with _settings():
            from matplotlib.figure import Figure

            wide, high = len(columns), max(map(len, columns))
            self.figure = Figure((wide * WIDTH / 72, high * HEIGHT / 72), layout="constrained")
            places = self.figure.subfigures(high, wide, squeeze=False)
            for number, column in enumerate(columns):
                for place, part in zip(places[:, number], column, strict=False):
                    part.draw(place).set_title(printable(part.title))

    def content(self, kind: str) -> bytes:
        undated = {DATES[kind]: None} if kind in DATES else {}
        with _settings(), io.BytesIO() as file:
            self.figure.savefig(file, format=kind.lower(), dpi=144, metadata=undated)
            return file.getvalue()


def require_matplotlib() -> None:
    """Error, naming what to install, without matplotlib; for before a long run that ends in a chart."""
    try:
        import matplotlib  # noqa: F401 - whether it is there
    except ImportError:
        raise Error(lacking("drawing charts", "matplotlib")) from None


@contextmanager
def _settings() -> Iterator[None]:
    """Within, matplotlib's settings are ours, and it does not warn of letters that its font lacks."""
    require_matplotlib()
    from matplotlib import rc_context

    with rc_context({
        "text.parse_math": False,  # a $ in a name begins no formula
        "svg.fonttype": "none", "svg.hashsalt": "netspec",  # letters stay letters; the same file each time
        "font.size": EM, "axes.titlesize": 10, "axes.titlelocation": "left", "axes.spines.top": False,
        "axes.spines.right": False, "axes.grid": True, "grid.color": "#e4e4e4", "legend.frameon": False,
    }), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
