"""Diagrams of nets: every layer is there, nothing lies on anything else, a file is the same each time."""

import xml.etree.ElementTree as ElementTree
from itertools import pairwise
from pathlib import Path

import pytest
from net.test_graph import DATA, conv, net, relu

from netspec.look import diagram
from netspec.look.diagram import draw_layers
from netspec.look.shapes import GREY, Line, Rect, Text, measure
from netspec.net.build import build
from netspec.net.deploy import deploy

MODELS = Path(__file__).resolve().parents[2] / "models"
NETS = ["voc-fcn8s/train", "voc-fcn32s/deploy", "voc-fcn-googlenet/train", "googlenet/deploy", "resnet50/deploy",
        "siftflow-fcn8s/trainval", "nyud-fcn32s-color-hha/trainval"]


def loaded(name):
    return deploy(MODELS / f"{name}.prototxt", losses=True)


def boxes(picture):
    """The boxes of layers, which have titles; a legend's have none."""
    return [shape for shape in picture.shapes if isinstance(shape, Rect) and shape.title]


def overlap(a, b):
    return a.x < b.x + b.width and b.x < a.x + a.width and a.y < b.y + b.height and b.y < a.y + a.height


@pytest.fixture(scope="module", params=NETS)
def drawn(request):
    made = loaded(request.param)
    return made, draw_layers(made)


def test_every_layer_is_in_the_picture(drawn):
    made, picture = drawn
    lines = [line for box in boxes(picture) for line in box.title.split("\n")]
    for node in made.layers:
        assert node.name in lines or f"+ {node.name} {node.type}" in lines
    shown = [shape.text for shape in picture.shapes if isinstance(shape, Text)]
    assert set(lines) <= set(shown)
    for value, shape in made.shapes.items():
        assert not shape or any(text.split(": ")[-1] == " x ".join(map(str, shape[1:] or shape)) for text in shown), value


@pytest.mark.parametrize("above, below, shown", [
    ('type: "Slice" slice_param { axis: 1 }', "", ["a: 2 x 6 x 6", "b: 2 x 6 x 6"]),
    ('type: "Pooling" pooling_param { kernel_size: 2 stride: 2 }', "", ["a: 4 x 3 x 3", "b: 4 x 3 x 3"]),
    ('type: "Split"', "", ["a: 4 x 6 x 6", "b: 4 x 6 x 6"]),
    ('type: "Slice" slice_param { axis: 1 }', relu("other", "b"), ["a: 2 x 6 x 6", "b: 2 x 6 x 6"]),
])
def test_a_layer_in_place_on_one_of_several_tops_leaves_the_others(above, below, shown):
    made = build(net(f"""layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ dim: [1, 4, 6, 6] }} }} }}
        layer {{ name: "two" bottom: "x" top: "a" top: "b" {above} }} {relu("relu", "a")} {below}
        layer {{ name: "sum" type: "Eltwise" bottom: "a" bottom: "b" top: "sum" }}"""))
    picture = draw_layers(made)
    texts = [shape.text for shape in picture.shapes if isinstance(shape, Text)]
    assert [text for text in texts if text[:2] in ("a:", "b:")] == shown
    (box,) = (box for box in boxes(picture) if box.title.startswith("two"))
    starts = {line.points[0][0] for line in picture.shapes if isinstance(line, Line) and line.points[0][1] == box.y + box.height}
    assert len(starts) == 2 and "+ relu ReLU" in box.title


def test_nothing_overlaps_and_all_is_on_the_page(drawn):
    _, picture = drawn
    found = boxes(picture)
    assert not [(a.title, b.title) for i, a in enumerate(found) for b in found[:i] if overlap(a, b)]
    for shape in found:
        assert 0 <= shape.x and shape.x + shape.width <= picture.width
        assert 0 <= shape.y and shape.y + shape.height <= picture.height
        assert max(measure(line, 10) for line in shape.title.split("\n")) < shape.width
    legend = [(a, b) for a, b in pairwise(picture.shapes) if isinstance(a, Rect) and not a.title]
    for (square, word), following in zip(legend, [*legend[1:], None], strict=True):
        assert square.x + square.width < word.x
        assert word.x + measure(word.text, 10) < (following[0].x if following else picture.width)


def test_edges_join_the_right_boxes_and_cross_none(drawn):
    made, picture = drawn
    found = boxes(picture)
    joined = set()
    for line in (shape for shape in picture.shapes if isinstance(shape, Line)):
        (x0, y0), (x1, y1) = line.points[0], line.points[-1]
        (first,) = [b for b in found if b.x <= x0 <= b.x + b.width and abs(b.y + b.height - y0) < 1e-6]
        (last,) = [b for b in found if b.x <= x1 <= b.x + b.width and abs(b.y - y1) < 1e-6]
        joined.add((first.title.split("\n")[0], last.title.split("\n")[0]))
        assert [y for _, y in line.points] == sorted(y for _, y in line.points)  # downwards all the way
        for x, y in line.points[1:-1]:
            assert not [b.title for b in found if b.x < x < b.x + b.width and b.y < y < b.y + b.height]
    owner = {line: box.title.split("\n")[0] for box in found for line in box.title.split("\n")}
    owner = {node.name: owner.get(node.name, owner.get(f"+ {node.name} {node.type}")) for node in made.layers}
    makers = {top: node.name for node in made.layers for top in node.tops}
    wanted = {(owner[makers[b]], owner[node.name]) for node in made.layers for b in node.bottoms}
    assert joined == {(a, b) for a, b in wanted if a != b}


def test_svg_is_well_formed_and_the_same_each_time(drawn):
    made, picture = drawn
    text = picture.svg()
    root = ElementTree.fromstring(text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert len(root.findall(".//{*}title")) == len(boxes(picture))
    assert draw_layers(made).svg() == text


def test_words_in_boxes():
    made = build(net(DATA + conv("a<b", "data", more="pad: 1 stride: 2 dilation: 3") + relu("r", "a<b") + """
layer { name: "p" type: "Pooling" bottom: "a<b" top: "p" pooling_param { pool: AVE kernel_h: 3 kernel_w: 2 stride: 2 } }
layer { name: "s" type: "Eltwise" bottom: "p" bottom: "p" top: "s" eltwise_param { operation: PROD } }"""))
    picture = draw_layers(made)
    titles = [box.title.split("\n") for box in boxes(picture)]
    assert titles == [["data", "Input"], ["a<b", "Convolution 1x1 stride 2 pad 1 dilation 3", "+ r ReLU"],
                      ["p", "Pooling AVE 3x2 stride 2"], ["s", "Eltwise PROD"]]
    ElementTree.fromstring(picture.svg())


def test_a_layer_in_place_whose_bottom_others_read_is_a_box_of_its_own():
    made = build(net(DATA + conv("c", "data") + conv("before", "c") + relu("r", "c") + conv("after", "c")))
    picture = draw_layers(made)
    assert [box.title.split("\n")[0] for box in boxes(picture)] == ["data", "c", "before", "r", "after"]


def test_edges_without_a_gradient_are_grey():
    picture = draw_layers(loaded("voc-fcn8s/train"))
    lines = [shape for shape in picture.shapes if isinstance(shape, Line)]
    assert sum(line.stroke == GREY for line in lines) == 4  # three sizes of crops and the labels


def test_boxes_are_spread_as_little_as_needed():
    assert diagram._spread([0, 100], [10, 10], [1, 1], gap=5) == [0, 100]
    assert diagram._spread([0, 0, 0], [10, 10, 10], [1, 1, 1], gap=5) == pytest.approx([-15, 0, 15])
    assert diagram._spread([0, 0], [10, 10], [3, 1], gap=2) == pytest.approx([-3, 9])
    assert diagram._spread([50, 0, 200], [10, 10, 10], [1, 1, 1], gap=0) == pytest.approx([20, 30, 200])
