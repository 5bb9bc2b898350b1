"""The describe command: its numbers against ones worked out by hand, against gradients, and against the paper's Table 1."""

import csv
import io
import json
from pathlib import Path

import pytest
import torch
from net.test_graph import DATA, net

from netspec import layers
from netspec.cli import main as cli
from netspec.look import costs
from netspec.net import fields as analysis
from netspec.net import graph
from netspec.net.build import build
from netspec.net.deploy import deploy
from netspec.net.module import Net
from netspec.proto import spec
from netspec.proto import text as prototext

MODELS = Path(__file__).resolve().parents[2] / "models"
L = layers


def conv(bottom, num_output, kernel_size, **settings):
    return L.Convolution(bottom, num_output=num_output, kernel_size=kernel_size, **settings)


def pool(bottom, kernel_size=3, stride=2, **settings):
    return L.Pooling(bottom, kernel_size=kernel_size, stride=stride, pool=0, **settings)


def dense_net(n, top, kernel, last, upsampling):
    """A classifier's end as convolutions, a score layer, and its upsampling."""
    n.fc6 = conv(top, last, kernel)
    n.fc7 = conv(n.fc6, last, 1)
    n.score_fr = conv(n.fc7, 21, 1)
    n.upscore = L.Deconvolution(n.score_fr, convolution_param=dict(num_output=21, kernel_size=upsampling, stride=32,
                                                                   bias_term=False))
    return n


def start(size=500):
    n = spec.NetSpec()
    n.data = L.Input(shape=dict(dim=[1, 3, size, size]))
    return n


def alexnet():
    n = start()
    top = pool(conv(n.data, 96, 11, stride=4, pad=100))
    top = pool(conv(top, 256, 5, pad=2, group=2))
    top = conv(conv(conv(top, 384, 3, pad=1), 384, 3, pad=1, group=2), 256, 3, pad=1, group=2)
    return dense_net(n, pool(top), 6, 4096, 63)


def vgg16():
    n = start()
    top = n.data
    for i, (width, deep) in enumerate([(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)]):
        for j in range(deep):
            top = conv(top, width, 3, pad=100 if i == j == 0 else 1)
        top = pool(top, 2)
    return dense_net(n, top, 7, 4096, 64)


INCEPTION = {"3a": (64, 96, 128, 16, 32, 32), "3b": (128, 128, 192, 32, 96, 64), "4a": (192, 96, 208, 16, 48, 64),
             "4b": (160, 112, 224, 24, 64, 64), "4c": (128, 128, 256, 24, 64, 64), "4d": (112, 144, 288, 32, 64, 64),
             "4e": (256, 160, 320, 32, 128, 128), "5a": (256, 160, 320, 32, 128, 128), "5b": (384, 192, 384, 48, 128, 128)}


def googlenet(average):
    n = start()
    top = pool(conv(n.data, 64, 7, stride=2, pad=3))
    top = pool(conv(conv(top, 64, 1), 192, 3, pad=1))
    for name, (one, small3, three, small5, five, projected) in INCEPTION.items():
        if name in ("4a", "5a"):
            top = pool(top)
        top = L.Concat(conv(top, one, 1), conv(conv(top, small3, 1), three, 3, pad=1),
                       conv(conv(top, small5, 1), five, 5, pad=2), conv(pool(top, 3, 1, pad=1), projected, 1))
    n.last = L.Pooling(top, pool=1, kernel_size=7, stride=1) if average else top
    n.score_fr = conv(n.last, 21, 1)
    return n


PAPER = {  # Table 1: convolution layers, parameters in millions, receptive field, maximum stride
    "alexnet": (alexnet, 8, 57, 355, 32), "vgg16": (vgg16, 16, 134, 404, 32),
    "googlenet": (lambda: googlenet(False), 22, 6, 715, 32), "googlenet-average": (lambda: googlenet(True), 22, 6, 907, 32),
}


@pytest.mark.parametrize("name", PAPER)
def test_table_1_of_the_paper(name):
    make, *expected = PAPER[name]
    found = list(costs.table1(build(make().to_proto())).values())
    found[1] = round(found[1] / 1e6)
    assert found == expected


def test_table_1_by_one_command(capsys, tmp_path):
    paths = []
    for name, (make, *_) in PAPER.items():
        made = make().to_proto()
        made.name = name
        paths.append(str(tmp_path / f"{name}.prototxt"))
        prototext.write(paths[-1], made)
    assert cli.main(["describe", "--table1", *paths]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == list(PAPER)
    assert [line[-4:] for line in lines[2:]] == [["8", "16", "22", "22"], ["57M", "134M", "6M", "6M"],
                                                 ["355", "404", "715", "907"], ["32"] * 4]
    assert cli.main(["describe", "--table1", "--json", *paths[:2]]) == 0
    assert json.loads(capsys.readouterr().out)["vgg16"]["receptive field"] == 404


@pytest.mark.parametrize("name", ["voc-fcn32s", "voc-fcn16s", "voc-fcn8s"])
@pytest.mark.parametrize("kind", ["deploy", "train"])
def test_skips_do_not_change_table_1(name, kind):
    found = costs.table1(deploy(MODELS / name / f"{kind}.prototxt", losses=True))
    assert (found["convolution layers"], found["receptive field"], found["maximum stride"]) == (16, 404, 32)
    assert round(found["parameters"] / 1e6) == 134


# By hand

SMALL = """
layer { name: "c" type: "Convolution" bottom: "data" top: "c"
    convolution_param { num_output: 4 kernel_size: 3 pad: 1 stride: 2 } }
layer { name: "r" type: "ReLU" bottom: "c" top: "c" }
layer { name: "p" type: "Pooling" bottom: "c" top: "p" pooling_param { kernel_size: 3 stride: 2 } }
layer { name: "d" type: "Convolution" bottom: "p" top: "d"
    convolution_param { num_output: 6 kernel_h: 1 kernel_w: 2 group: 2 bias_term: false dilation: 1 } }
layer { name: "ip" type: "InnerProduct" bottom: "d" top: "ip" inner_product_param { num_output: 5 } }
"""


def test_numbers_worked_out_by_hand():
    made = build(net(DATA + SMALL))  # 2 x 3 x 8 x 9
    found = {row.layer: row for row in costs.layer_costs(made)}
    assert found["data"][3:] == ((2, 3, 8, 9), 0, 0, 4 * 432, (1, 1), (1, 1), (0, 0))
    assert found["c"][3:] == ((2, 4, 4, 5), 4 * 27 + 4, 160 * 27, 640, (3, 3), (2, 2), (-1, -1))
    assert found["r"][3:] == ((2, 4, 4, 5), 0, 0, 0, (3, 3), (2, 2), (-1, -1))
    assert found["p"][3:] == ((2, 4, 2, 2), 0, 0, 128, (7, 7), (4, 4), (-1, -1))  # rows round up: 3 of 4 fit once and a half
    assert found["d"][3:] == ((2, 6, 2, 1), 6 * 2 * 2, 24 * 4, 96, (7, 11), (4, 4), (-1, -1))
    assert found["ip"][3:] == ((2, 5), 65, 10 * 12, 40, (11, 11), (4, 4), (-1, -1))
    assert costs.totals(made) == dict(parameters=112 + 24 + 65, macs=4320 + 96 + 120, forward=4 * (432 + 160),
                                         training=8 * (432 + 160 + 32 + 24 + 10))


def test_a_shared_parameter_counts_once():
    shared = ('layer {{ name: "{0}" type: "Convolution" bottom: "data" top: "{0}" param {{ name: "w" }} param {{ name: "b" }} '
              "convolution_param {{ num_output: 2 kernel_size: 1 }} }}\n")
    made = build(net(DATA + shared.format("a") + shared.format("b")))
    assert [row.parameters for row in costs.layer_costs(made)] == [0, 8, 0]
    assert costs.totals(made)["parameters"] == 8


def test_multiplications_are_those_of_the_arithmetic():
    """A deconvolution multiplies as often as the convolution that it is the transpose of."""
    both = build(net(DATA + """
layer { name: "c" type: "Convolution" bottom: "data" top: "c"
    convolution_param { num_output: 6 kernel_size: 4 stride: 2 pad: 1 group: 3 } }
layer { name: "d" type: "Deconvolution" bottom: "c" top: "d"
    convolution_param { num_output: 3 kernel_size: 4 stride: 2 pad: 1 group: 3 } }"""))
    found = [row.macs for row in costs.layer_costs(both)]
    assert found[1] == found[2] == (2 * 6 * 4 * 4) * 16  # each result is a sum over 1 channel of 4 x 4


# Fields, held against which pixels a gradient reaches

STACKS = {
    "dilation": [dict(type="Convolution", kernel_size=3, dilation=3, pad=2), dict(type="Pooling", kernel_size=3, stride=2)],
    "ceil": [dict(type="Pooling", kernel_size=2, stride=2), dict(type="Convolution", kernel_size=4, stride=3),
             dict(type="Pooling", kernel_size=3, stride=2, pad=1)],
    "up": [dict(type="Pooling", kernel_size=2, stride=2), dict(type="Convolution", kernel_size=3),
           dict(type="Deconvolution", kernel_size=4, stride=2), dict(type="Convolution", kernel_size=3)],
    "up odd": [dict(type="Convolution", kernel_size=5, stride=3), dict(type="Deconvolution", kernel_size=7, stride=3, pad=1)],
    "up gaps": [dict(type="Convolution", kernel_size=4, stride=4), dict(type="Deconvolution", kernel_size=2, stride=2)],
    "interp": [dict(type="Pooling", kernel_size=2, stride=2), dict(type="Interp", zoom_factor=2)],
}


def built(stack):
    n = start(41)
    top = n.data
    for i, settings in enumerate(stack):
        kind, rest = settings["type"], {k: v for k, v in settings.items() if k != "type"}
        rest.update(dict(pool=1) if kind == "Pooling" else dict(num_output=1) if kind.endswith("onvolution") else {})
        param = {"Interp": "interp_param", "Pooling": "pooling_param"}.get(kind, "convolution_param")
        top = n[f"l{i}"] = getattr(L, kind)(top, **{param: rest})
    return build(n.to_proto())


def reached(made, blob):
    """For each row of the blob, in its middle column, the first and the last row of the data that it depends on."""
    module = Net(made)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(1.0)
    x = torch.rand(made.shape("data"), requires_grad=True)
    y = module({"data": x}, want=[blob])[blob]
    spans = []
    for cell in range(y.shape[2]):
        (gradient,) = torch.autograd.grad(y[0, 0, cell].sum(), x, retain_graph=True)
        rows = gradient[0].sum((0, 2)).nonzero().flatten()
        spans.append((int(rows[0]), int(rows[-1])))
    return spans


@pytest.mark.parametrize("name", STACKS)
def test_fields_are_the_pixels_that_a_gradient_reaches(name):
    made = built(STACKS[name])
    blob = made.outputs[0]
    field = analysis.fields(made)[graph.Value(blob)][0]
    spans = reached(made, blob)
    if any(step["type"] in ("Deconvolution", "Interp") for step in STACKS[name]):
        inner = [b - a + 1 for a, b in spans if a > 0 and b < 40]
        assert max(inner) == field.extent
        return
    for i, (a, b) in enumerate(spans):
        first = field.first + i * field.stride
        last = first + field.extent - 1
        assert a == max(0, first) and (b == last if last <= 40 else b <= 40)  # sizes that round down leave some unseen


def test_where_branches_meet_the_widest_counts():
    n = start(40)
    n.a, n.b = conv(n.data, 2, 5, pad=2), conv(n.data, 2, 1)
    n.sum, n.joined = L.Eltwise(n.a, n.b), L.Concat(n.b, n.a)
    n.cut = L.Crop(n.joined, L.Slice(n.sum, ntop=1, slice_param=dict(axis=1)), axis=2, offset=0)
    made = build(n.to_proto())
    known = analysis.fields(made)
    for blob in ("sum", "joined", "cut"):
        assert [tuple(axis) for axis in known[graph.Value(blob)]] == [(1, -2, 5)] * 2


def test_a_crop_moves_the_axes_that_it_cuts():
    text = DATA + """
layer { name: "small" type: "DummyData" top: "small" dummy_data_param { shape { dim: 2 dim: 3 dim: 4 dim: 5 } } }
layer { name: "cut" type: "Crop" bottom: "data" bottom: "small" top: "cut" crop_param { axis: %d offset: %s } }"""
    for axis, offset, expected in ((2, "3", (3, 3)), (2, "1 offset: 3", (1, 3)), (-2, "1 offset: 3", (1, 3)),
                                   (1, "0 offset: 1 offset: 3", (1, 3))):
        made = build(net(text % (axis, offset)))
        assert [axis.first for axis in analysis.fields(made)[graph.Value("cut")]] == list(expected)
    made = build(net((text % (3, "2")).replace("dim: 4", "dim: 8")))
    assert [axis.first for axis in analysis.fields(made)[graph.Value("cut")]] == [0, 2]


def test_layers_without_a_place_on_the_data():
    made = build(net(DATA + """
layer { name: "flat" type: "Flatten" bottom: "data" top: "flat" }
layer { name: "ip" type: "InnerProduct" bottom: "flat" top: "ip" inner_product_param { num_output: 5 } }
layer { name: "global" type: "Pooling" bottom: "data" top: "global" pooling_param { pool: AVE global_pooling: true } }"""))
    found = {row.layer: row for row in costs.layer_costs(made)}
    assert found["flat"].field is None and found["ip"].field is None
    assert found["global"].field == (8, 9) and found["global"].offset == (0, 0)
    lone = build(net('layer { name: "p" type: "Parameter" top: "p" parameter_param { shape { dim: 2 } } }'))
    assert costs.table1(lone) == {"convolution layers": 0, "parameters": 2, "receptive field": None,
                                     "maximum stride": None}


# The command

def described(capsys, *args):
    status = cli.main(["describe", *map(str, args)])
    out, err = capsys.readouterr()
    return status, out, err


def test_shapes_are_those_of_the_graph(capsys):
    for options, size in (([], 500), (["--size", "200x300"], None)):
        status, out, _ = described(capsys, MODELS / "voc-fcn8s" / "deploy.prototxt", "--json", *options)
        made = deploy(MODELS / "voc-fcn8s" / "deploy.prototxt", size=None if size else (200, 300), losses=True)
        found = json.loads(out)
        assert status == 0 and [row["layer"] for row in found["layers"]] == [node.name for node in made.layers]
        for row, node in zip(found["layers"], made.layers, strict=True):
            assert tuple(row["shape"]) == made.shapes[node.tops[0]]
        assert made.shape("data") == ((1, 3, 500, 500) if size else (1, 3, 200, 300))
        assert found["totals"]["parameters"] == sum(row["parameters"] for row in found["layers"])


def test_text_and_csv(capsys, tmp_path):
    prototext.write(tmp_path / "net.prototxt", net(DATA + SMALL))
    status, out, _ = described(capsys, tmp_path / "net.prototxt")
    lines = [line.split() for line in out.splitlines()]
    assert status == 0 and lines[0] == "layer type top parameters M MACs MiB field stride offset".split()
    assert lines[7][:2] == ["ip", "InnerProduct"] and lines[6][-3:] == ["7x11", "4", "-1"]
    assert out.splitlines()[-1].startswith("201 parameters (0.0 MiB), 0.00 G MACs, ")
    status, out, _ = described(capsys, tmp_path / "net.prototxt", "--csv", "--layer", "d")
    (row,) = csv.DictReader(io.StringIO(out))
    assert row == dict(layer="d", type="Convolution", top="d", shape="2x6x2x1", parameters="24", macs="96", memory="96",
                       field="7x11", stride="4", offset="-1")


def test_phase_and_classifiers_at_their_own_size(capsys, tmp_path):
    text = """
layer { name: "data" type: "Data" top: "data" top: "label" transform_param { crop_size: 20 } data_param { source: "no" } }
layer { name: "c" type: "Convolution" bottom: "data" top: "c" convolution_param { num_output: 2 kernel_size: 5 stride: 5 } }
layer { name: "drop" type: "Dropout" bottom: "c" top: "c" include { phase: TRAIN } }
layer { name: "fc" type: "InnerProduct" bottom: "c" top: "fc" inner_product_param { num_output: 5 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }"""
    prototext.write(tmp_path / "net.prototxt", net(text))
    status, out, _ = described(capsys, tmp_path / "net.prototxt")
    assert status == 0 and "drop" not in out
    (fc,) = (line.split() for line in out.splitlines() if line.startswith("fc "))
    assert fc[fc.index("5") + 1] == str(2 * 4 * 4 * 5 + 5) and fc[-3:] == ["all", "5", "0"]
    assert "drop" in described(capsys, tmp_path / "net.prototxt", "--phase", "TRAIN")[1]


def test_questions_that_have_no_answer(capsys):
    path = MODELS / "voc-fcn8s" / "deploy.prototxt"
    status, out, err = described(capsys, path, "--layer", "fuse_pool5")
    assert (status, out) == (2, "") and "did you mean 'fuse_pool" in err
    assert "one net at a time, 2 given" in described(capsys, path, path)[2]
    assert "is not there" in described(capsys, "nowhere.prototxt")[2]
    with pytest.raises(SystemExit):
        described(capsys, path, "--size", "500")
    assert "invalid size value" in capsys.readouterr().err
