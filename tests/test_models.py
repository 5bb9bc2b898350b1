"""The generated nets: committed as written, equal to the published ones, and fit for any image size."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from netspec import graph, prototext
from netspec.proto import caffe_pb2

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "models"))

import fcn  # noqa: E402 - the path comes first

GOLDEN = Path(__file__).parent / "golden" / "nets"


@pytest.mark.parametrize("name", fcn.NETS)
def test_committed_nets_are_what_the_generator_writes(name, tmp_path):
    fcn.write(name, tmp_path)
    written = {p.name: p.read_text() for p in (tmp_path / name).iterdir()}
    assert written == {p.name: p.read_text() for p in (ROOT / "models" / name).iterdir()}


def facts(layer):
    """A LayerParameter in the form of the golden facts: (name, type, bottoms, tops, own settings)."""
    settings = {}
    for field, value in layer.ListFields():
        if field.name.endswith("_param") and field.name != "python_param":
            settings[field.name] = {
                f.name: f.enum_type.values_by_number[v].name if f.enum_type else v if not hasattr(v, "extend") else list(v)
                for f, v in value.ListFields()
            }
    return [layer.name, layer.type, list(layer.bottom), list(layer.top), settings]


@pytest.mark.parametrize("stride", [32, 16, 8])
def test_voc_nets_equal_the_published_ones(stride):
    name = f"voc-fcn{stride}s"
    golden = json.loads((GOLDEN / f"{name}.json").read_text())
    net = fcn.fcn(replace(fcn.NETS[name], normalize=False), "train")  # published with a summed loss
    built = graph.build(net, caffe_pb2.TRAIN, shapes={"data": (1, 3, 375, 500), "label": (1, 1, 375, 500)})
    ours = [facts(layer) for layer in net.layer if layer.bottom]
    theirs = [[x["name"], x["type"], x["bottoms"], x["tops"], x["settings"]] for x in golden["layers"] if x["bottoms"]]
    assert ours == theirs
    params = {x["name"]: [(tuple(p["shape"]), p["lr_mult"], p["decay_mult"]) for p in x["params"]]
              for x in golden["layers"] if "params" in x}
    assert {n.name: [(s.shape, s.lr_mult, s.decay_mult) for s in n.params] for n in built.nodes if n.params} == params
    assert {v.blob: list(s) for v, s in built.shapes.items() if v.blob in golden["shapes"]} == golden["shapes"]


@pytest.mark.parametrize("family, least", [("shapes", 33), ("camvid-half", 33), ("voc", 1)])
def test_the_output_covers_images_of_any_size(family, least):
    for stride in fcn.SKIPS:
        built = graph.load(ROOT / "models" / f"{family}-fcn{stride}s" / "deploy.prototxt")
        for size in range(least, least + 128):
            other = 2 * least + 127 - size
            shapes = built.infer({"data": (1, 3, size, other)})
            assert shapes[graph.Value("score")][2:] == (size, other)


def recipes():
    return [p for p in sorted((ROOT / "solvers").glob("*.prototxt"))]


@pytest.mark.parametrize("path", recipes(), ids=lambda p: p.stem)
def test_each_solver_names_nets_that_are_there_and_says_what_to_expect(path):
    p = prototext.read_solver(path)
    assert p.train_net == f"models/{path.stem}/train.prototxt" and list(p.test_net) == [f"models/{path.stem}/val.prototxt"]
    assert (ROOT / p.train_net).exists() and (ROOT / p.test_net[0]).exists()
    head = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert any("tools/solve.py" in line for line in head)
    assert any("Needs" in line for line in head) and any("Time" in line for line in head)
    assert any("cores" in line for line in head) and any("mean IU" in line for line in head)


@pytest.mark.parametrize("family", ["voc", "camvid"])
def test_recipes_mirror_the_paper(family):
    rates = []
    for stride in (32, 16, 8):
        p = prototext.read_solver(ROOT / "solvers" / f"{family}-fcn{stride}s.prototxt")
        assert (p.lr_policy, p.type, p.iter_size) == ("fixed", "SGD", 20)
        assert (p.momentum, p.weight_decay) == pytest.approx((0.9, 5e-4))
        rates.append(p.base_lr)
    assert rates == pytest.approx([1e-4, 1e-6, 1e-8])


@pytest.mark.parametrize("name", fcn.NETS)
def test_biases_learn_twice_as_fast_and_scores_start_at_zero(name):
    net = prototext.read_net(ROOT / "models" / name / "train.prototxt")
    for layer in net.layer:
        if layer.type == "Convolution":
            weight, bias = layer.param
            assert bias.lr_mult == 2 * weight.lr_mult and (weight.decay_mult, bias.decay_mult) == (1, 0)
            if layer.name.startswith("score"):
                assert not layer.convolution_param.HasField("weight_filler")
        if layer.type == "Deconvolution":
            assert layer.param[0].lr_mult == 0


@pytest.mark.parametrize("name", fcn.NETS)
def test_splits_differ_in_their_data_alone(name):
    nets = {p.stem: prototext.read_net(p) for p in (ROOT / "models" / name).glob("*.prototxt")}
    other = ("Dropout", "SoftmaxWithLoss")  # not in deploy nets
    body = {split: [x.SerializeToString() for x in net.layer if x.bottom and x.type not in other]
            for split, net in nets.items()}
    assert all(layers == body["train"] for layers in body.values())
