"""Plots out of drawing's shapes: lines over two axes, and points by name; several stand side by side."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import cycle

from .shapes import GREY, Line, Picture, Point, Rect, Text, measure

COLOURS = ("#1b6ca8", "#d1495b", "#3a8d5d", "#e08e1b", "#7b4fa3", "#0aa3a3", "#8a5a44", "#5b6770")
GRID = "#e4e4e4"
SMALL = 10  # points, of the letters
TOP = 26  # where the axes begin


def plot(series: Mapping[str, Sequence[Point]], xlabel: str, ylabel: str, *, title: str = "", width: float = 420,
         height: float = 280) -> Picture:
    """A line for each name -> points (x, y), above a legend; points that are not finite are left out."""
    lines = {name: [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)] for name, points in series.items()}
    every = [point for points in lines.values() for point in points] or [(0.0, 0.0), (1.0, 1.0)]
    xspan, (y0, y1) = (_span(numbers) for numbers in zip(*every, strict=True))
    marks = {f"{y:g}": y for y in ticks(y0, y1)}
    page, right = Picture(width, height), width - 12
    at, left, bottom = _axes(page, max(measure(word, SMALL) for word in marks), right, xspan, xlabel, title)

    def up(y: float) -> float:
        return bottom - (y - y0) / (y1 - y0) * (bottom - TOP)

    page.shapes[:0] = [Line([(left, up(y)), (right, up(y))], GRID) for y in marks.values()]  # under the axes
    page.shapes += [Text(left - 5, up(y), word, SMALL, "end") for word, y in marks.items()]
    page.shapes.append(Text(right, 13, ylabel, SMALL, "end", GREY))
    page.shapes += [Line([(at(x), up(y)) for x, y in points], colour, 1.6)
                    for points, colour in zip(lines.values(), cycle(COLOURS), strict=False) if len(points) > 1]
    return above([page, _legend(lines, width)])


def points(values: Mapping[str, Sequence[float]], xlabel: str, *, title: str = "", width: float = 420) -> Picture:
    """A row for each name, with a mark at each of its values and a bar at their mean."""
    every = [v for row in values.values() for v in row if math.isfinite(v)] or [0.0, 1.0]
    margin, step, right = 0.05 * (max(every) - min(every)), 22, width - 40
    page = Picture(width, TOP + step * len(values) + 42)
    at, left, _ = _axes(page, max((measure(name, SMALL + 1) for name in values), default=0), right,
                        _span([min(every) - margin, max(every) + margin]), xlabel, title)
    for i, ((name, row), colour) in enumerate(zip(values.items(), cycle(COLOURS), strict=False)):
        y, found = TOP + step * (i + 0.5) + 2, [v for v in row if math.isfinite(v)]
        page.shapes.append(Text(left - 6, y, name, SMALL + 1, "end"))
        if found:
            mean = sum(found) / len(found)
            page.shapes += [Rect(at(mean) - 1.5, y - 9, 3, 18, colour, colour),
                            *(Rect(at(v) - 3, y - 3, 6, 6, colour, colour) for v in found),
                            Text(right + 6, y, f"{mean:.1f}", SMALL)]
    return page


def beside(pictures: Sequence[Picture], down: bool = False) -> Picture:
    """Pictures on one page, from left to right, or down the page."""
    page = Picture(0, 0)
    for picture in pictures:
        x, y = (0, page.height) if down else (page.width, 0)
        page.shapes += [_moved(shape, x, y) for shape in picture.shapes]
        page.width, page.height = max(page.width, x + picture.width), max(page.height, y + picture.height)
    return page


above = partial(beside, down=True)


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) from low to high."""
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough * 0.999)
    return [round(i * step, 12) for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _span(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    half = abs(low) / 2 or 0.5
    return (low, high) if high > low else (low - half, high + half)


def _axes(page: Picture, wide: float, right: float, span: tuple[float, float], xlabel: str,
          title: str) -> tuple[Callable[[float], float], float, float]:
    """Draws axes beside words `wide`, and a grid upon `span`; where a number lies across, and the left and bottom ends."""
    left, bottom, (x0, x1) = 14 + wide, page.height - 38, span

    def at(x: float) -> float:
        return left + (x - x0) / (x1 - x0) * (right - left)

    for x in ticks(*span):
        page.shapes += [Line([(at(x), TOP), (at(x), bottom)], GRID), Text(at(x), bottom + 10, f"{x:g}", SMALL, "middle")]
    page.shapes += [Line([(left, TOP), (left, bottom), (right, bottom)], GREY), Text(left, 13, title, 12),
                    Text((left + right) / 2, bottom + 27, xlabel, 11, "middle")]
    return at, left, bottom


def _legend(names: Iterable[str], width: float) -> Picture:
    page, x, y = Picture(width, 8), 12.0, 4.0
    for name, colour in zip(names, cycle(COLOURS), strict=False):
        wide = 30 + measure(name, SMALL)
        if x + wide > width and x > 12:
            x, y = 12.0, y + 15
        page.shapes += [Line([(x, y), (x + 16, y)], colour, 2.5), Text(x + 20, y, name, SMALL)]
        x, page.height = x + wide + 6, y + 12
    return page


def _moved(shape: Rect | Line | Text, dx: float, dy: float) -> Rect | Line | Text:
    if isinstance(shape, Line):
        return shape._replace(points=[(x + dx, y + dy) for x, y in shape.points])
    return shape._replace(x=shape.x + dx, y=shape.y + dy)
