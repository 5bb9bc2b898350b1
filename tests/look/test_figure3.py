"""Nets in the manner of Figure 3, and the draw command: files are whole, and what cannot be drawn is refused."""

import xml.etree.ElementTree as ElementTree

import pytest
from net.test_graph import DATA, conv, net, relu
from PIL import Image

from look.test_diagram import MODELS, boxes, loaded, overlap
from netspec.base.errors import Error
from netspec.cli import main as cli
from netspec.look.figure3 import draw_figure3
from netspec.look.shapes import Line, Picture, Text
from netspec.proto import text as prototext
from netspec.pycaffe.draw import draw_net_to_file


def words(picture):
    return [shape.text for shape in picture.shapes if isinstance(shape, Text)]


def cells(picture, label):
    """Cells along a side of the grid with this label: lines inside it, and one."""
    (box,) = [b for b in boxes(picture) if b.title.startswith(f"{label}: ")]
    (left, top), (right, bottom) = corners = (box.x, box.y), (box.x + box.width, box.y + box.height)
    thin = [line.points for line in picture.shapes if isinstance(line, Line) and line.width < 1]
    upright = {a[0] for a, b in thin if a[0] == b[0] and (a[1], b[1]) == (top, bottom) and left < a[0] < right}
    flat = {a[1] for a, b in thin if a[1] == b[1] and (a[0], b[0]) == (left, right) and top < a[1] < bottom}
    assert len(upright) == len(flat), corners
    return len(upright) + 1


def test_streams_of_the_three_nets_in_one_picture():
    picture = draw_figure3([loaded(f"voc-fcn{stride}s/deploy") for stride in (32, 16, 8)])
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
    picture = draw_figure3([loaded(name) for name in names])
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
