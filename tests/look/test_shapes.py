"""Shapes: any name makes a well-formed file."""

import xml.etree.ElementTree as ElementTree

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
