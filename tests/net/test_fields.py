"""The explain-crop command on the published nets' offsets, on planted mistakes, and where nothing can be said."""

import re
from pathlib import Path

import pytest

from net.test_graph import DATA, conv, net
from netspec.base.errors import Error
from netspec.cli import main as cli
from netspec.look import crops
from netspec.net.build import build
from netspec.net.fields import fields
from netspec.ops.base import REGISTRY
from netspec.proto import text as prototext
from netspec.proto.caffe_pb2 import LayerParameter

MODELS = Path(__file__).resolve().parents[2] / "models"
OFFSETS = {  # of the released nets
    "voc-fcn32s": {"score": 19},
    "voc-fcn16s": {"score_pool4c": 5, "score": 27},
    "voc-fcn8s": {"score_pool4c": 5, "score_pool3c": 9, "score": 31},
}


def explain(capsys, *args):
    status = cli.main(["explain-crop", *map(str, args)])
    out, err = capsys.readouterr()
    return status, out, err


@pytest.mark.parametrize("name", OFFSETS)
@pytest.mark.parametrize("kind", ["deploy", "train"])  # train: its data set need not be there
def test_the_published_offsets_are_explained(capsys, name, kind):
    status, out, err = explain(capsys, MODELS / name / f"{kind}.prototxt")
    assert (status, err) == (0, "")
    found = dict(re.findall(r"^(\w+): '\w+' is cut to .*?so the crop begins at (\d+): as the layer has it$", out, re.S | re.M))
    assert {k: int(v) for k, v in found.items()} == OFFSETS[name]


def test_one_layer_step_by_step(capsys):
    status, out, _ = explain(capsys, MODELS / "voc-fcn16s" / "deploy.prototxt", "score_pool4c")
    assert status == 0
    lines = out.splitlines()
    assert lines[0] == "score_pool4c: 'score_pool4' is cut to 'upscore2'"
    steps = [line.split() for line in lines if "Convolution" in line or "Pooling" in line or "Deconvolution" in line]
    assert [step[0] for step in steps] == ["pool5", "fc6", "upscore2"]
    assert lines[-2:] == ["from 'score_pool4' to 'upscore2': x -> x - 5", "so the crop begins at 5: as the layer has it"]


@pytest.mark.parametrize("name", OFFSETS)
def test_a_planted_mistake_is_found(capsys, tmp_path, name):
    made = prototext.read_net(MODELS / name / "deploy.prototxt")
    for layer, offset in OFFSETS[name].items():
        spoilt = type(made)()
        spoilt.CopyFrom(made)
        for each in spoilt.layer:
            if each.name == layer:
                each.crop_param.offset[0] = offset - 1
        prototext.write(tmp_path / "net.prototxt", spoilt)
        status, out, _ = explain(capsys, tmp_path / "net.prototxt", layer)
        assert status == 1
        assert out.splitlines()[-1] == f"so the crop begins at {offset}: but the layer has {offset - 1}"
        assert explain(capsys, tmp_path / "net.prototxt")[0] == 1


def crop(reference, settings, name="crop", source="up"):
    return (f'layer {{ name: "{name}" type: "Crop" bottom: "{source}" bottom: "{reference}" top: "{name}" '
            f"crop_param {{ {settings} }} }}\n")


UP = DATA + 'layer { name: "c" type: "Convolution" bottom: "data" top: "c" ' \
    "convolution_param { num_output: 3 kernel_size: 3 pad: 4 } }\n" \
    'layer { name: "up" type: "Pooling" bottom: "c" top: "up" pooling_param { pool: AVE kernel_size: 3 stride: 1 pad: 1 } }\n'


def explained(text, name="crop"):
    return crops.explain(build(net(text)), name)


@pytest.mark.parametrize("settings, agrees", [
    ("axis: 2 offset: 3", True), ("axis: 2 offset: 3 offset: 3", True), ("axis: 2 offset: 3 offset: 2", False),
    ("axis: -2 offset: 3", True), ("axis: 2 offset: 0", False), ("axis: 2", False),
    ("axis: 1 offset: 0 offset: 3 offset: 3", True),  # the map says nothing of channels
    ("axis: 3 offset: 3", True),
])
def test_offsets_are_compared_axis_by_axis(settings, agrees):
    if "axis: 3" in settings:  # rows as they are
        text = UP.replace("pad: 4", "pad_h: 1 pad_w: 4").replace("kernel_size: 3 pad_h", "kernel_h: 3 kernel_w: 3 pad_h")
        found = explained(text + crop("data", settings))
        assert found.text.splitlines()[-1].startswith("so the crop begins at 0, 3: ")
        return
    found = explained(UP + crop("data", settings))
    assert found.agrees is agrees, found.text


def test_a_map_of_one_axis_is_compared_with_its_offset():
    narrow = UP + conv("thin", "data", more="kernel_w: 4").replace("kernel_size: 1", "kernel_h: 1")
    columns = crop("thin", "axis: 3 offset: 2", "columns", source="data")
    for offsets, agrees in (((0, 2), True), ((0, 1), False)):
        settings = "axis: 2 " + " ".join(f"offset: {n}" for n in offsets)
        assert explained(narrow + columns + crop("columns", settings, source="data")).agrees is agrees


def test_where_no_offset_is_right():
    strided = UP.replace("stride: 1", "stride: 2")
    found = explained(strided + crop("up", "axis: 2 offset: 1", source="c"))
    assert found.agrees is False and "1/2" in found.text and found.text.endswith("the layer has 1")


def test_where_nothing_can_be_compared():
    apart = UP + 'layer { name: "flat" type: "Tile" bottom: "up" top: "flat" tile_param { axis: 2 tiles: 2 } }\n'
    found = explained(apart + crop("data", "axis: 2 offset: 1", source="flat"))
    assert found.agrees is None and "no coordinate map leads from 'flat' to 'data'" in found.text


def test_questions_that_have_no_answer(capsys, tmp_path):
    status, out, err = explain(capsys, MODELS / "voc-fcn16s" / "deploy.prototxt", "score_pool4")
    assert (status, out) == (2, "") and "layer 'score_pool4' is a Convolution, not a Crop" in err
    status, _, err = explain(capsys, MODELS / "voc-fcn16s" / "deploy.prototxt", "score_pool5c")
    assert status == 2 and "has no layer 'score_pool5c'; did you mean 'score_pool4c'?" in err
    prototext.write(tmp_path / "net.prototxt", net(DATA + conv("c", "data")))
    status, _, err = explain(capsys, tmp_path / "net.prototxt")
    assert status == 2 and "net.prototxt: the net has no Crop layer" in err
    (tmp_path / "empty.prototxt").write_text("")
    status, _, err = explain(capsys, tmp_path / "empty.prototxt")
    assert status == 2 and "empty.prototxt has no layers in phase TEST" in err
    status, _, err = explain(capsys, tmp_path / "nowhere.prototxt")
    assert status == 2 and "nowhere.prototxt' is not there" in err
    with pytest.raises(Error, match="is a Convolution, not a Crop"):
        explained(DATA + conv("c", "data"), "c")


def test_what_has_no_top_sees_nothing():
    silence = LayerParameter(type="Silence", bottom=["a"])
    assert REGISTRY["Silence"](silence, [(1, 2, 3, 3)]).window((1, 2, 3, 3)) is None


@pytest.mark.parametrize("axis, shape, seen", [(0, (3, 9, 9, 9), [(3, 1), (2, 3)]), (1, (1, 3, 9, 9), [(3, 1), (2, 3)]),
                                               (2, (1, 2, 3, 9), [(1, 1), (3, 1)])])
def test_a_window_lies_behind_the_channel_axis_wherever_that_is(axis, shape, seen):
    size = {0: "kernel_size: 2 kernel_size: 3 kernel_size: 2 stride: 2 stride: 1 stride: 3", 2: "kernel_size: 3",
            1: "kernel_h: 3 kernel_w: 2 stride_h: 1 stride_w: 3"}[axis]
    data = f'layer {{ name: "d" type: "Input" top: "d" input_param {{ shape {{ {" ".join(f"dim: {n}" for n in shape)} }} }} }}'
    text = (f'layer {{ name: "c" type: "Convolution" bottom: "d" top: "c" '
            f'convolution_param {{ num_output: 1 axis: {axis} {size} }} }}')
    made = build(net(data + text))
    assert [(f.extent, f.stride) for f in fields(made)[made.nodes[0].tops[0]]] == seen
