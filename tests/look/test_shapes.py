"""Shapes: any name makes a well-formed file."""

import xml.etree.ElementTree as ElementTree

import pytest

from netspec.base.errors import Error
from netspec.look import shapes
from netspec.look.shapes import GREY, Line, Picture, Rect, Text


def test_any_name_makes_well_formed_svg():
    picture = Picture(9, 9, [Text(1, 1, "a<b & 'c' \x01 \u00e9"), Rect(1, 1, 2, 2, GREY, title='"]]>\n\x1b')])
    root = ElementTree.fromstring(picture.svg())
    assert root.find("{*}text").text == "a<b & 'c' \\x01 \u00e9" and root.find(".//{*}title").text == '"]]>\n\ufffd'


def test_svg_needs_no_pillow():
    picture = Picture(30, 20, [Rect(1, 1, 8, 8, "#ffffff", title="a & b"), Line([(0, 0), (3, 4)], arrow=True),
                               Text(5, 5, "<x>", halo=True)])
    text = picture.svg()
    root = ElementTree.fromstring(text)
    assert root.find(".//{*}title").text == "a & b" and root.find(".//{*}text").text == "<x>"
    assert root.find("{*}polygon").get("points") == "3.0,4.0 -3.0,1.0 1.8,-2.6"  # 6 back, 3 aside


def test_pictures_without_bound_are_painted_smaller_or_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(shapes, "LARGEST", 10_000)
    assert Picture(400, 100).image().size == (200, 50) and Picture(50, 40).image().size == (100, 80)
    monkeypatch.setattr(shapes, "LONGEST", 99)
    with pytest.raises(Error, match="has 100x80 pixels, a PDF at most 99 along a side; write .svg"):
        Picture(50, 40).save(tmp_path / "a.pdf")
    Picture(50, 40).save(tmp_path / "a.png")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
