"""Plots: everything drawn lies on the page, ticks are round, what is not finite is left out."""

import math

import pytest

from netspec.look import charts
from netspec.look.shapes import Line, Rect, Text


def extent(picture):
    for shape in picture.shapes:
        yield from shape.points if isinstance(shape, Line) else [(shape.x, shape.y)]


def lines(picture, colour):
    return [shape for shape in picture.shapes if isinstance(shape, Line) and shape.stroke == colour and len(shape.points) > 2]


@pytest.mark.parametrize("low, high", [(0, 1), (0.3, 0.7), (-5, 1e6), (1e-9, 3e-9), (99.5, 100.5)])
def test_ticks_are_round_few_and_within(low, high):
    found = charts.ticks(low, high)
    assert 2 <= len(found) <= 7 and all(low - 1e-9 <= t <= high + 1e-9 for t in found)
    step = (found[-1] - found[0]) / (len(found) - 1)
    assert round(step / 10 ** math.floor(math.log10(step) + 1e-9), 6) in (1, 2, 5)


def test_lines_rise_where_numbers_rise_and_stay_on_the_page():
    page = charts.plot({"up": [(i, i * i) for i in range(10)], "gap": [(0, 1), (1, math.nan), (2, 3), (3, math.inf), (4, 81)]},
                     "x", "y", title="t")
    assert all(0 <= x <= page.width and 0 <= y <= page.height for x, y in extent(page))
    (up,), (gap,) = (lines(page, colour) for colour in charts.COLOURS[:2])
    assert [y for _, y in up.points] == sorted((y for _, y in up.points), reverse=True) and len(gap.points) == 3
    assert up.points[-1][1] == pytest.approx(gap.points[-1][1])  # 81 both
    assert {"up", "gap", "x", "y", "t"} <= {shape.text for shape in page.shapes if isinstance(shape, Text)}


@pytest.mark.parametrize("series", [{}, {"a": []}, {"a": [(1, 2)]}, {"a": [(0, 5), (9, 5)]}])
def test_little_or_nothing_is_still_a_picture(series):
    assert charts.plot(series, "x", "y").image(1).width == 420


def test_points_have_a_mark_each_and_their_mean():
    page = charts.points({"one": [1.0], "more": [2.0, 4.0, math.nan], "none": []}, "mean IU")
    marks = [shape for shape in page.shapes if isinstance(shape, Rect) and shape.width == 6]
    assert [round(mark.y) for mark in marks].count(round(marks[-1].y)) == 2 and len(marks) == 3
    assert {"1.0", "3.0", "one", "more", "none"} <= {shape.text for shape in page.shapes if isinstance(shape, Text)}
    assert all(0 <= x <= page.width and 0 <= y <= page.height for x, y in extent(page))


def test_pictures_beside_and_above():
    one, two = charts.plot({}, "x", "y", width=300), charts.points({"a": [1]}, "x", width=200)
    assert (charts.beside([one, two]).width, charts.beside([one, two]).height) == (500, max(one.height, two.height))
    assert (charts.above([one, two]).width, charts.above([one, two]).height) == (300, one.height + two.height)
