"""Charts: names, labels and numbers are in them, what is not finite is left out, a file is the same each time."""

import math
import xml.etree.ElementTree as ElementTree

import pytest
from PIL import Image

from netspec.base.errors import Error
from netspec.look import charts
from netspec.look.charts import HEIGHT, WIDTH, Chart, Lines, Marks

LINES = Lines({"up": [(i, i * i) for i in range(10)],
               "gap": [(0, 1), (1, math.nan), (2, 3), (3, math.inf), (4, 81)]}, "x", "y", "t")
MARKS = Marks({"one": [1.0], "more": [2.0, 4.0, math.nan], "none": []}, "mean IU")


def axes(part):
    """matplotlib's axes of a chart of one part."""
    ((found,),) = (place.axes for place in Chart([[part]]).figure.subfigs)
    return found


def words(chart):
    """The texts of an SVG file."""
    return {text.text for text in ElementTree.fromstring(chart.content("SVG")).iter("{http://www.w3.org/2000/svg}text")}


@pytest.mark.parametrize("low, high", [(0, 1), (0.3, 0.7), (-5, 1e6), (1e-9, 3e-9), (99.5, 100.5)])
def test_ticks_are_round_few_and_within(low, high):
    drawn = axes(Lines({"a": [(low, low), (high, high)]}, "x", "y"))
    for axis in (drawn.xaxis, drawn.yaxis):
        found = [t for t in axis.get_majorticklocs() if low <= t <= high]
        assert 2 <= len(found) <= 11
        step = (found[-1] - found[0]) / (len(found) - 1)
        assert round(step / 10 ** math.floor(math.log10(step) + 1e-9), 6) in (1, 2, 2.5, 5)


def test_lines_rise_where_numbers_rise_and_stay_on_the_page():
    drawn = axes(LINES)
    up, gap = drawn.lines
    assert list(up.get_ydata()) == [i * i for i in range(10)] and list(gap.get_ydata()) == [1, 3, 81]
    assert [line.get_color() for line in drawn.lines] == list(charts.COLOURS[:2])
    (left, right), (low, high) = drawn.get_xlim(), drawn.get_ylim()
    assert left <= 0 and right >= 9 and low <= 0 and high >= 81
    assert {"up", "gap", "x", "y", "t"} <= words(Chart([[LINES]]))


def test_a_logarithmic_axis_has_plain_numbers():
    assert {"0.001", "0.01", "0.1"} <= words(Chart([[Lines({"a": [(0, 1e-3), (9, 0.2)]}, "x", "y", logarithmic=True)]]))


@pytest.mark.parametrize("series", [{}, {"a": []}, {"a": [(1, 2)]}, {"a": [(0, 5), (9, 5)]}])
def test_little_or_nothing_is_still_a_picture(series, tmp_path):
    Chart([[Lines(series, "x", "y")]]).save(tmp_path / "a.png")
    assert Image.open(tmp_path / "a.png").width == 2 * 420


def test_points_have_a_mark_each_and_their_mean():
    squares, bars = ([line for line in axes(MARKS).lines if line.get_marker() == marker] for marker in "s|")
    assert [list(line.get_xdata()) for line in squares] == [[1], [2, 4], []]
    assert [list(line.get_ydata()) for line in squares] == [[0], [1, 1], []]
    assert [list(line.get_xdata()) for line in bars] == [[1], [3]]
    assert {"1.0", "3.0", "one", "more", "none", "mean IU"} <= words(Chart([[MARKS]]))


def test_pictures_beside_and_above(tmp_path):
    chart = Chart([[LINES, MARKS], [LINES]])
    assert tuple(chart.figure.get_size_inches() * 72) == (2 * WIDTH, 2 * HEIGHT)
    assert [len(place.axes) for place in chart.figure.subfigs] == [1, 1, 1, 0]


def test_any_name_is_shown_as_it_is():
    names = ["a<b & 'c'", "$x^2$", "_x", "\x01", "\u4e2d"]
    shown = words(Chart([[Lines(dict.fromkeys(names, [(0, 1), (1, 2)]), "$x$", "y", "$\\frac$")]]))
    assert {"a<b & 'c'", "$x^2$", "_x", "\ufffd", "\u4e2d", "$x$", "$\\frac$"} <= shown


@pytest.mark.parametrize("kind, begins", [("SVG", b"<?xml"), ("PNG", b"\x89PNG"), ("PDF", b"%PDF-")])
def test_a_file_is_the_same_each_time(kind, begins, recwarn):
    once, again = (Chart([[LINES], [MARKS]]).content(kind) for _ in range(2))
    assert once == again and once.startswith(begins) and not recwarn.list


def test_what_cannot_be_drawn(tmp_path, monkeypatch):
    with pytest.raises(Error, match="ends in none of .svg, .png, .pdf"):
        Chart([[LINES]]).save(tmp_path / "a.gif")
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(Error, match="pip install matplotlib"):
        Chart([[LINES]])
    assert not list(tmp_path.iterdir())
