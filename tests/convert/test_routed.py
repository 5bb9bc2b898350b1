"""A plan as ONNX: onnxruntime computes from it what the net does, at its size, with every rewrite and without each."""

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from net.test_plan_random import FOUND, X, graph_of, some_net

from netspec.base.errors import Error
from netspec.convert import routed
from netspec.net import plan as plans
from netspec.net import rewrite, weights
from netspec.net.deploy import deploy
from netspec.net.module import Net
from netspec.net.passes import REWRITES

pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
from convert.test_onnx import CASES, SIZES, built  # noqa: E402 - after the check
from netspec.convert import onnx as onnxfile  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
BOUND = 1e-4  # of the largest number: what score/engined lets pass


def given(net, shapes, without=(), tiled=False):
    """What onnxruntime makes of noise and what the net does, and the builder."""
    made = routed.Routed(routed.planned(net, without), shapes, tiled)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(onnxfile.model(net, made).SerializeToString(), options, providers=["CPUExecutionProvider"])
    generator = torch.Generator().manual_seed(0)
    feed = {blob: torch.randn(shape, generator=generator) for blob, shape in shapes.items()}
    takes = {each.name for each in session.get_inputs()}
    theirs = session.run(list(net.graph.outputs), {blob: x.numpy() for blob, x in feed.items() if blob in takes})
    with torch.no_grad():
        ours = net(feed)
    return made, {blob: (ours[blob].numpy(), y) for blob, y in zip(net.graph.outputs, theirs, strict=True)}


def assert_equal(found, note=""):
    for blob, (ours, theirs) in found.items():
        assert ours.shape == theirs.shape, (blob, note)
        np.testing.assert_allclose(theirs, ours, rtol=0, atol=BOUND * np.abs(ours).max(initial=0), err_msg=f"{blob} {note}")


@pytest.fixture(scope="module")
def fcn():
    net = Net(deploy(ROOT / "models" / "shapes-fcn8s" / "deploy.prototxt")).eval()
    rewrite.randomise(net)
    weights.ready(net)
    return net


@pytest.mark.parametrize("size", [(61, 84), (90, 111), (50, 47), (48, 150)])
@pytest.mark.parametrize("tiled", [False, True])
def test_fcn_at_odd_sizes(fcn, monkeypatch, size, tiled):
    monkeypatch.setattr(routed, "TILED", (1, 1))
    made, found = given(fcn, {"data": (2, 3, *size)}, tiled=tiled)
    assert_equal(found)
    kinds = Counter(node.op_type for node in made.nodes)
    groups = [a.i for node in made.nodes for a in node.attribute if node.op_type == "ConvTranspose" and a.name == "group"]
    assert made.route.pasted and kinds["Concat"] and all(group > 1 for group in groups)


@pytest.mark.parametrize("without", [name for name in REWRITES if name not in routed.THEIRS])
def test_each_rewrite_can_be_left_out(fcn, without):
    made, found = given(fcn, {"data": (1, 3, 61, 84)}, {without})
    assert_equal(found)
    assert bool(made.route.pasted) == (without not in ("border", "crop"))


@pytest.mark.parametrize("without", [(), ("tile",)], ids=str)
def test_padding_beside_rows(fcn, monkeypatch, without):
    monkeypatch.setattr(routed, "TILED", (1, 1))
    made, found = given(fcn, {"data": (1, 3, 61, 84)}, without, tiled=True)
    assert_equal(found)
    pads = [a.ints for node in made.nodes for a in node.attribute if node.op_type == "Conv" and a.name == "pads"]
    assert any(right > left for _, left, _, right in pads) == (not without)


@pytest.mark.parametrize("name", CASES)
def test_every_layer_type(name):
    net = built(CASES[name])
    for n, h, w in SIZES:
        assert_equal(given(net, {"data": (n, 3, h, w)})[1], (n, h, w))


@pytest.mark.parametrize("name", FOUND)
def test_nets_that_are_hard_to_cut(name, monkeypatch):
    monkeypatch.setattr(plans, "WORTH", 10.0)
    shapes, layers = {"x": X}, FOUND[name]
    if 'type: "Crop"' in layers[-1] and layers[-1].count("bottom") == 1:
        shapes["s"] = (1, 3, 20, 21)
        layers = [*layers[:-1], layers[-1].replace(" top:", ' bottom: "s" top:', 1)]
    assert_equal(given(drawn(graph_of(shapes, layers)), shapes)[1])


def drawn(graph, seed=0):
    net = Net(graph).eval()
    rewrite.randomise(net, seed)
    return net


@pytest.mark.parametrize("seed", range(4))
def test_nets_at_random(seed, monkeypatch):
    monkeypatch.setattr(plans, "WORTH", 10.0)
    monkeypatch.setattr(routed, "TILED", (1, 1))
    pasted = 0
    for i in range(20):
        r = random.Random(20 * seed + i)
        graph, shapes, layers = some_net(r)
        if {*graph.outputs} & {*shapes}:  # a layer in place on an image, which ONNX has no name for
            continue
        try:
            made, found = given(drawn(graph, i), shapes, tiled=r.random() < 0.5)
        except Error as e:
            assert "ONNX" in str(e)
            continue
        assert_equal(found, (seed, i, shapes, "\n".join(layers)))
        pasted += bool(made.route.pasted)
    assert pasted
