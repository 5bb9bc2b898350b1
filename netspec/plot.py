"""Plots out of drawing's shapes: lines over two axes, and points by name; several stand side by side."""

import math
from collections.abc import Mapping, Sequence

from .drawing import GREY, Line, Picture, Point, Rect, Text, measure

COLOURS = ("#1b6ca8", "#d1495b", "#3a8d5d", "#e08e1b", "#7b4fa3", "#0aa3a3", "#8a5a44", "#5b6770")
GRID = "#e4e4e4"
SMALL = 10  # points, of the letters


def plot(series: Mapping[str, Sequence[Point]], xlabel: str, ylabel: str, *, title: str = "", width: float = 420,
         height: float = 280) -> Picture:
    """A line for each name -> points (x, y), above a legend; points that are not finite are left out."""
    lines = {name: [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)] for name, points in series.items()}
    every = [point for points in lines.values() for point in points] or [(0.0, 0.0), (1.0, 1.0)]
    (x0, x1), (y0, y1) = (_span([p[axis] for p in every]) for axis in (0, 1))
    xticks, yticks = ticks(x0, x1), ticks(y0, y1)
    words = [f"{y:g}" for y in yticks]
    left, top = 14 + max(measure(word, SMALL) for word in words), 26
    right, bottom = width - 12, height - 38
    page = Picture(width, height, [Text(left, 13, title, 12), Text(right, 13, ylabel, SMALL, "end", GREY)])

    def at(x: float, y: float) -> Point:
        return left + (x - x0) / (x1 - x0) * (right - left), bottom - (y - y0) / (y1 - y0) * (bottom - top)

    for y, word in zip(yticks, words, strict=True):
        page.shapes += [Line([at(x0, y), at(x1, y)], GRID), Text(left - 5, at(x0, y)[1], word, SMALL, "end")]
    for x in xticks:
        page.shapes += [Line([at(x, y0), at(x, y1)], GRID), Text(at(x, y0)[0], bottom + 10, f"{x:g}", SMALL, "middle")]
    page.shapes.append(Line([(left, top), (left, bottom), (right, bottom)], GREY))
    page.shapes += [Line([at(*point) for point in points], colour, 1.6)
                    for points, colour in zip(lines.values(), _colours(lines), strict=True) if len(points) > 1]
    page.shapes.append(Text((left + right) / 2, bottom + 27, xlabel, 11, "middle"))
    return above(page, _legend(lines, width))


def points(values: Mapping[str, Sequence[float]], xlabel: str, *, title: str = "", width: float = 420) -> Picture:
    """A row for each name, with a mark at each of its values and a bar at their mean."""
    every = [v for row in values.values() for v in row if math.isfinite(v)] or [0.0, 1.0]
    x0, x1 = _span([*every, min(every) - 0.05 * (spread := max(every) - min(every)), max(every) + 0.05 * spread])
    left, right = 14 + max((measure(name, SMALL + 1) for name in values), default=0), width - 40
    top, step = 26, 22
    bottom = top + step * len(values) + 4
    page = Picture(width, bottom + 38)

    def at(x: float) -> float:
        return left + (x - x0) / (x1 - x0) * (right - left)

    for x in ticks(x0, x1):
        page.shapes += [Line([(at(x), top), (at(x), bottom)], GRID), Text(at(x), bottom + 10, f"{x:g}", SMALL, "middle")]
    page.shapes += [Line([(left, top), (left, bottom), (right, bottom)], GREY), Text(left, 13, title, 12),
                    Text((left + right) / 2, bottom + 27, xlabel, 11, "middle")]
    for i, ((name, row), colour) in enumerate(zip(values.items(), _colours(values), strict=True)):
        y, found = top + step * (i + 0.5) + 2, [v for v in row if math.isfinite(v)]
        page.shapes.append(Text(left - 6, y, name, SMALL + 1, "end"))
        if found:
            mean = sum(found) / len(found)
            page.shapes.append(Rect(at(mean) - 1.5, y - 9, 3, 18, colour, colour))
            page.shapes += [Rect(at(v) - 3, y - 3, 6, 6, colour, colour) for v in found]
            page.shapes.append(Text(right + 6, y, f"{mean:.1f}", SMALL))
    return page


def beside(pictures: Sequence[Picture]) -> Picture:
    """Pictures on one page, from left to right."""
    page, x = Picture(0, max(p.height for p in pictures)), 0.0
    for picture in pictures:
        page.shapes += [_moved(shape, x, 0) for shape in picture.shapes]
        x += picture.width
    page.width = x
    return page


def above(upper: Picture, lower: Picture) -> Picture:
    """Two pictures on one page, one above the other."""
    return Picture(max(upper.width, lower.width), upper.height + lower.height,
                   [*upper.shapes, *(_moved(shape, 0, upper.height) for shape in lower.shapes)])


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


def _colours(names: Sequence[str] | Mapping[str, object]) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(len(names))]


def _legend(names: Mapping[str, object], width: float) -> Picture:
    page, x, y = Picture(width, 8), 12.0, 4.0
    for name, colour in zip(names, _colours(names), strict=True):
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
