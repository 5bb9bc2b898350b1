"""What the page shows of nets: tables, differences and drawings out of real commands, whatever names are written in the files."""

import json
from html.parser import HTMLParser

import pytest
from thirds import write_thirds

from netspec import NetSpec
from netspec import layers as L
from netspec.base.errors import Error
from netspec.cli.main import main
from netspec.web import reading
from netspec.web.commands import Commands
from netspec.web.desk import Desk
from netspec.web.folders import Folders
from netspec.web.panel import drawn
from netspec.web.reading import (
    ACTIVATIONS,
    COLUMNS,
    DIFFERENCES,
    DRAWING,
    FIGURE3,
    KERNELS,
    LAYERS,
    TAKES,
    Asked,
    Reading,
)

EMPTY = [None] * 5  # what is chosen beside a net
NAMES = "<img src=x onerror=alert(1)>", "**bold**", "</span></pre><script>alert(2)</script>"


@pytest.fixture
def net(tmp_path):
    """A net whose layers have such names, of kernels that see other heights than widths."""
    made = NetSpec()
    made.data = L.Input(shape=dict(dim=[1, 3, 32, 32]))
    for name in NAMES:
        made.tops[name] = L.Convolution(made.data, num_output=4, kernel_h=3, kernel_w=1)
    path = tmp_path / "named.prototxt"
    path.write_text(str(made.to_proto()))
    return path


def printed(capsys, what, net, out=None, **given):
    """What the page's command printed, and its exit status."""
    status = main(Asked(what, str(net), **given).words(out))
    return capsys.readouterr().out, status


class Seen(HTMLParser):
    """The elements of a piece of HTML, and what a person reads."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def test_layers(net, capsys):
    told, status = printed(capsys, LAYERS, net)
    found = reading.rows(json.loads(told))
    assert status == 0 and {len(row) for row in found} == {len(COLUMNS)}
    assert found[0] == ["data", "Input", "1 x 3 x 32 x 32", 0, 0.0, 1, 1, 0.01]
    assert [row[0] for row in found[1:]] == list(NAMES)
    assert found[1][1:] == ["Convolution", "1 x 4 x 30 x 32", 4 * 3 * 3 + 4, 0.0, "3x1", 1, 0.01]


def test_numbers_sort_as_numbers(capsys):
    told, _ = printed(capsys, LAYERS, "shapes-fcn8s")
    for heading, column in zip(COLUMNS, zip(*reading.rows(json.loads(told)), strict=True), strict=True):
        kinds = {type(cell) for cell in column if cell is not None}
        assert kinds <= ({int, float} if COLUMNS[heading] else {str}), heading


def test_differences(net, capsys):
    text, status = printed(capsys, DIFFERENCES, "shapes-fcn8s", other=str(net))
    assert status == 1
    seen = Seen(reading.coloured(text))
    assert seen.text == text and {tag for tag, _ in seen.tags} == {"pre", "span"}
    kinds = [attributes["class"] for tag, attributes in seen.tags if tag == "span"]
    lines = text.splitlines()
    assert [kind for kind, line in zip(kinds, lines, strict=True) if line.startswith("@@")] == \
        ["place"] * text.count("\n@@ ")
    assert kinds[:3] == ["gone", "added", "place"] and kinds[-1] == "same"


@pytest.mark.parametrize("what, given, lacks", [
    (DIFFERENCES, {}, "second net"), (KERNELS, {"blob": "data"}, "layer"), (ACTIVATIONS, {"blob": "data"}, "picture"),
    (ACTIVATIONS, {"image": "a.png", "blob": ""}, "blob")])
def test_what_lacks_is_asked_for(what, given, lacks, tmp_path):
    with pytest.raises(Error, match=f"^choose the {lacks}$"):
        Asked(what, "net.prototxt", **given).words(tmp_path)


@pytest.mark.parametrize("what, of", [(DRAWING, None), (FIGURE3, "shapes-fcn8s")])
def test_drawings_are_images(net, tmp_path, capsys, what, of):
    out = tmp_path / "net.svg"
    _, status = printed(capsys, what, of or net, out=out)
    assert status == 0 and (of or "onerror" in out.read_text())
    seen = Seen(drawn(out))
    assert {tag for tag, _ in seen.tags} == {"div", "form", "label", "input", "figure", "img", "figcaption"}
    (source,) = [attributes["src"] for tag, attributes in seen.tags if tag == "img"]
    assert source.startswith("data:image/svg+xml;base64,")
    assert [a["value"] for tag, a in seen.tags if tag == "input" and "checked" in a] == ["fit"]


def test_kernels_and_activations_are_of_layers_and_blobs_that_the_table_has(tmp_path, capsys):
    told, _ = printed(capsys, LAYERS, "shapes-fcn8s")
    layers, blobs = reading.inside(json.loads(told))
    assert layers[0] == "conv1_1" and "relu1_1" not in layers and "upscore8" in layers
    assert blobs[:2] == ["data", "conv1_1"] and len(blobs) == len(set(blobs))


def test_what_is_inside_a_net(tmp_path, capsys):
    write_thirds(tmp_path)
    net, given = tmp_path / "net.prototxt", {"weights": str(tmp_path / "net.caffemodel"), "image": str(tmp_path / "photo.png")}
    said, status = printed(capsys, KERNELS, net, tmp_path / "k.png", layer="score", **given)
    assert status == 0 and "3 kernels 3 x 3" in said and drawn(tmp_path / "k.png").count("data:image/png;base64,") == 1
    said, status = printed(capsys, ACTIVATIONS, net, tmp_path / "a.png", blob="score", **given)
    assert status == 0 and "3 channels 6 x 12" in said and (tmp_path / "a.png").exists()


@pytest.mark.parametrize("what", list(TAKES))
def test_names_are_no_options(what, tmp_path):
    """Of layers and blobs, which a file may call anything."""
    argv = Asked(what, "a.prototxt", "b.prototxt", None, "photo.png", "--out", "-x").words(tmp_path / "o.png")
    assert "-x" not in argv and argv.count("--out") <= 1


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A page's commands, with the folder of the nets that its tests write."""
    commands = Commands(main)
    yield Desk(commands, Folders([tmp_path_factory.getbasetemp()]), [], tmp_path_factory.mktemp("page"), 40)
    commands.close()


def test_the_tab(desk, net):
    """What its button makes of a real command, step by step, and of a net that is none."""
    gradio = pytest.importorskip("gradio")
    with gradio.Blocks():
        tab = Reading(desk)
    assert str(net) in dict(tab.begin().choices)
    *steps, last = tab.read(desk.session("a"), LAYERS, str(net), *EMPTY)
    assert steps[0][tab.panel.words].value == f"netspec describe {net} --json"
    assert [row[0] for row in last[tab.table].value["data"]] == ["data", *NAMES] and last[tab.table].visible
    assert "parameters" in last[tab.panel.said] and last[tab.seen].value == ""
    *_, last = tab.read(desk.session("a"), DRAWING, str(net), *EMPTY)
    assert "<img src=\"data:image/svg+xml" in last[tab.seen].value and not last[tab.table].visible
    with pytest.raises(Error, match="no net is chosen"):
        next(tab.read(desk.session("a"), LAYERS, "/etc/passwd", *EMPTY))
    *_, last = tab.offer(desk.session("a"), KERNELS, str(net))
    assert [name for name, _ in last[tab.fields[3]].choices] == list(NAMES) and last[tab.fields[3]].value == NAMES[0]
    with pytest.raises(Error, match="none of the files"):
        next(tab.read(desk.session("a"), ACTIVATIONS, str(net), None, None, "/etc/passwd", None, NAMES[0]))
    net.write_text("layer {")
    with pytest.raises(Error, match="named.prototxt:1:7: layer: the text ends"):
        list(tab.read(desk.session("a"), LAYERS, str(net), *EMPTY))
