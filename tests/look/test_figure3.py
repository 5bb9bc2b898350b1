"""Pictures of nets: every layer is there, nothing lies on anything else, files are whole and the same each time."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from net.test_graph import DATA, conv, net, relu
from PIL import Image

from netspec.base.errors import Error
from netspec.cli import main as cli
from netspec.look import diagram
from netspec.look import figure3 as draw
from netspec.look.diagram import draw_layers
from netspec.look.shapes import GREY, Line, Picture, Rect, Text, measure
from netspec.net.build import build
from netspec.net.deploy import deploy
from netspec.proto import text as prototext
from netspec.pycaffe.draw import draw_net_to_file

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
        assert not shape or any(text.endswith(" x ".join(map(str, shape[1:] or shape))) for text in shown), value


def test_nothing_overlaps_and_all_is_on_the_page(drawn):
    _, picture = drawn
    found = boxes(picture)
    assert not [(a.title, b.title) for i, a in enumerate(found) for b in found[:i] if overlap(a, b)]
    for shape in found:
        assert 0 <= shape.x and shape.x + shape.width <= picture.width
        assert 0 <= shape.y and shape.y + shape.height <= picture.height
        assert max(measure(line, 10) for line in shape.title.split("\n")) < shape.width


def test_edges_join_the_right_boxes_and_cross_none(drawn):
    made, picture = drawn
    found = boxes(picture)
    joined = set()
    for line in (shape for shape in picture.shapes if isinstance(shape, Line)):
        (x0, y0), (x1, y1) = line.points[0], line.points[-1]
        (first,) = [b for b in found if b.x <= x0 <= b.x + b.width and abs(b.y + b.height - y0) < 1e-6]
        (last,) = [b for b in found if b.x <= x1 <= b.x + b.width and abs(b.y - y1) < 1e-6]
        joined.add((first.title.split("\n")[0], last.title.split("\n")[0]))
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


# Figure 3


def words(picture):
    return [shape.text for shape in picture.shapes if isinstance(shape, Text)]


def cells(picture, label):
    """Cells along a side of the grid with this label: lines inside it, and one."""
    (box,) = [b for b in boxes(picture) if b.title.startswith(f"{label}: ")]
    upright = {line.points[0][0] for line in picture.shapes if isinstance(line, Line) and line.width < 1
               and line.points[0][0] == line.points[1][0] and line.points[0][1] == box.y
               and box.x < line.points[0][0] < box.x + box.width}
    return len(upright) + 1


def test_streams_of_the_three_nets_in_one_picture():
    picture = draw.draw_figure3([loaded(f"voc-fcn{stride}s/deploy") for stride in (32, 16, 8)])
    shown = words(picture)
    for text in ("image", "conv1", "pool1", "conv5", "pool5", "fc6-7", "2x conv7", "4x conv7", "2x pool4"):
        assert shown.count(text) == 1, text
    assert shown.count("pool4") == shown.count("pool3") == 2  # in the trunk and as a stream
    assert [f"{factor}x upsampled prediction" in shown for factor in (32, 16, 8, 4)] == [True, True, True, False]
    assert shown.count("+") == 3
    assert [cells(picture, label) for label in ("image", "pool1", "pool5", "2x conv7", "4x conv7")] == [32, 16, 1, 2, 4]
    bars = [b for b in boxes(picture) if b.width == 4]
    assert len(bars) == 15  # 13 convolutions of VGG16, fc6 and fc7


@pytest.mark.parametrize("names, expected", [
    (["voc-fcn32s/train"], ["32x upsampled prediction"]),
    (["voc-fcn-alexnet/deploy"], ["conv3-5", "fc6-7", "32x upsampled prediction"]),
    (["voc-fcn-googlenet/deploy"], ["inception_3a-b", "inception_4a-e", "32x upsampled prediction"]),
    (["nyud-fcn32s-color-hha/trainval"], ["color", "hha", "fc7color", "fc7hha", "+", "32x upsampled prediction"]),
    (["siftflow-fcn16s/trainval"], ["siftflow-fcn16s score_sem", "siftflow-fcn16s score_geo", "16x upsampled prediction"]),
    (["studies/voc-fcn-pool4/deploy"], ["pool4", "16x upsampled prediction"]),
    (["voc-fcn-alexnet/deploy", "voc-fcn16s/deploy"], ["conv3-5", "conv3", "2x conv7", "32x upsampled prediction"]),
    (["shapes-fcn8s/deploy"], ["conv1_1", "4x conv7", "8x upsampled prediction"]),
])
def test_any_fcn_as_streams(names, expected):
    picture = draw.draw_figure3([loaded(name) for name in names])
    assert set(expected) <= set(words(picture))
    found = boxes(picture)
    assert not [(a.title, b.title) for i, a in enumerate(found) for b in found[:i] if overlap(a, b)]
    assert all(0 <= b.x and b.x + b.width <= picture.width and b.y + b.height <= picture.height for b in found)
    ElementTree.fromstring(picture.svg())


# Files and the command


def drew(capsys, *args):
    status = cli.main(["draw", *map(str, args)])
    return status, capsys.readouterr().err


def test_files_of_each_kind(capsys, tmp_path):
    prototext.write(tmp_path / "small.prototxt", net(DATA + conv("c", "data") + relu("r", "c")))
    for path, style in ((tmp_path / "small.prototxt", "layers"), (MODELS / "shapes-fcn32s" / "deploy.prototxt", "figure3")):
        for name in ("net.svg", "net.png", "net.pdf"):
            assert drew(capsys, path, "--out", tmp_path / name, "--style", style) == (0, "")
        root = ElementTree.parse(tmp_path / "net.svg").getroot()
        with Image.open(tmp_path / "net.png") as image:
            assert image.size == (round(2 * float(root.get("width"))), round(2 * float(root.get("height"))))
            assert len(image.convert("RGB").getcolors(1 << 20)) > 10
        assert (tmp_path / "net.pdf").read_bytes().startswith(b"%PDF-")
    assert drew(capsys, tmp_path / "small.prototxt", "--out", tmp_path / "net.svg", "--size", "64x80")[0] == 0
    assert "3 x 64 x 80" in (tmp_path / "net.svg").read_text()


def test_any_name_makes_well_formed_svg():
    picture = Picture(9, 9, [Text(1, 1, "a<b & 'c' \x01 \u00e9"), Rect(1, 1, 2, 2, GREY, title='"]]>\n\x1b')])
    root = ElementTree.fromstring(picture.svg())
    assert root.find("{*}text").text == "a<b & 'c' \ufffd \u00e9" and root.find(".//{*}title").text == '"]]>\n\ufffd'


def test_svg_needs_no_pillow():
    picture = Picture(30, 20, [Rect(1, 1, 8, 8, "#ffffff", title="a & b"), Line([(0, 0), (3, 4)], arrow=True),
                               Text(5, 5, "<x>", halo=True)])
    text = picture.svg()
    root = ElementTree.fromstring(text)
    assert root.find(".//{*}title").text == "a & b" and root.find(".//{*}text").text == "<x>"
    assert root.find("{*}polygon").get("points").startswith("3.0,4.0 ")


def test_questions_that_have_no_answer(capsys, tmp_path):
    path = MODELS / "voc-fcn8s" / "deploy.prototxt"
    status, err = drew(capsys, path, "--out", tmp_path / "net.gif")
    assert status == 2 and "ends in none of .svg, .png, .pdf" in err and not list(tmp_path.iterdir())
    assert "the layers of one net, 2 given" in drew(capsys, path, path, "--out", tmp_path / "net.svg")[1]
    prototext.write(tmp_path / "net.prototxt", net(DATA + relu("r", "data", "r")))
    assert "nothing of Figure 3" in drew(capsys, tmp_path / "net.prototxt", "--style", "figure3", "--out", tmp_path / "n.svg")[1]
    with pytest.raises(Error, match="has no layers to draw"):
        draw_net_to_file(net(""), tmp_path / "net.svg")
    with pytest.raises(Error, match="ends in none"):
        Picture(1, 1).save(tmp_path / "net")
