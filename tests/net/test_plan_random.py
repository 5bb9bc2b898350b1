"""A plan gives what its net gives: nets at random, and those that once did not."""

import math
import random
from collections import Counter

import pytest
import torch

from netspec.base.errors import Error
from netspec.net import plan as plans
from netspec.net import rewrite, route
from netspec.net.build import build
from netspec.net.module import Net
from netspec.net.passes import REWRITES
from netspec.net.plan import Plan
from netspec.proto import caffe_pb2
from netspec.proto import text as prototext


def graph_of(shapes, layers):
    dims = {blob: " ".join(f"dim: {n}" for n in shape) for blob, shape in shapes.items()}
    inputs = "".join(f'layer {{ name: "{blob}" type: "Input" top: "{blob}" input_param {{ shape {{ {dim} }} }} }}\n'
                     for blob, dim in dims.items())
    return build(prototext.parse(inputs + "\n".join(layers), caffe_pb2.NetParameter))


def layer(kind, bottoms, tops, settings=""):
    """Bottoms and tops are names with spaces between; the layer has its first top's name, or one of its own."""
    field = {"Pooling": "pooling", "Crop": "crop", "Eltwise": "eltwise", "Slice": "slice", "Concat": "concat",
             "Scale": "scale", "Bias": "bias", "BatchNorm": "batch_norm", "Dropout": "dropout", "ReLU": "relu",
             "Softmax": "softmax", "Power": "power", "LRN": "lrn", "Interp": "interp"}.get(kind, "convolution")
    both = "".join(f' {what}: "{blob}"' for what, blobs in (("bottom", bottoms), ("top", tops)) for blob in blobs.split())
    return f'layer {{ name: "{kind} {bottoms} {tops} {settings}" type: "{kind}"{both} {field}_param {{ {settings} }} }}'


def differ(net, plan, sizes, want=None):
    """The largest difference of any blob over calls for images of these sizes, in parts of its largest number."""
    worst, kept = 0.0, []
    for seed, shapes in enumerate(sizes):
        generator = torch.Generator().manual_seed(seed)
        inputs = {blob: torch.randn(shape, generator=generator).double() for blob, shape in shapes.items()}
        with torch.no_grad():
            try:
                theirs = net({blob: x.clone() for blob, x in inputs.items()}, want)
            except Error:
                with pytest.raises(Error):
                    plan(inputs, want)
                continue
            mine = plan(inputs, want)
        assert {*mine} == {*theirs}
        for blob, y in theirs.items():
            assert mine[blob].shape == y.shape and mine[blob].dtype == y.dtype
            worst = max(worst, float((mine[blob] - y).abs().max() / y.abs().max().clamp(min=1e-300)))
        kept += [(x, x.clone()) for x in mine.values()]
    assert all(torch.equal(x, before) for x, before in kept)  # no later call wrote to what an earlier gave
    return worst


def net_of(graph, seed=0):
    net = Net(graph).eval()
    rewrite.randomise(net, seed)
    return net.double()


X = (1, 3, 40, 33)
C, D, P, K = "Convolution", "Deconvolution", "Pooling", "Crop"
FOUND = {
    "a map with a border is what is asked for": [layer(C, "x", "y", "num_output: 2 kernel_size: 3 stride: 2 pad: 20")],
    "and so is a part of one": [
        layer(C, "x", "y", "num_output: 2 kernel_size: 3 stride: 2 pad: 20"), layer("Slice", "y", "z w", "axis: 2 slice_point: 10")],
    "no value reaches what lies between two": [
        layer(D, "x", "y", "num_output: 2 kernel_size: 1 stride: 3"), layer(K, "y", "z", "axis: 2 offset: 42")],
    "a kernel is smaller than its stride, in bands": [
        layer(D, "x", "y", "num_output: 2 kernel_size: 2 stride: 5 pad: 1"),
        layer(C, "y", "z", "num_output: 2 kernel_size: 3 stride: 4")],
    "a border of upsampled values is not one number": [
        layer(C, "x", "y", "num_output: 2 kernel_size: 3 stride: 2 pad: 50"),
        layer(D, "y", "z", "num_output: 2 kernel_size: 4 stride: 2"),
        layer(C, "z", "w", "num_output: 2 kernel_size: 3 stride: 3")],
    "a crop along channels needs the size of what it reads": [
        layer(C, "x", "y", "num_output: 5 kernel_size: 1"), layer(C, "x", "w", "num_output: 2 kernel_size: 1"),
        layer(K, "y w", "z", "axis: 1 offset: 2 offset: 0 offset: 0")],
    "a scale along rows and columns": [
        layer("Scale", "x", "y", "axis: 1 num_axes: -1 bias_term: true"),
        layer(K, "y", "z", "axis: 2 offset: 5")],
    "a term along rows": [layer("Bias", "x", "y", "num_axes: 2"), layer(K, "y", "z", "axis: 2 offset: 5")],
}


@pytest.mark.parametrize("name", FOUND)
@pytest.mark.parametrize("band", [1 << 24, 256])
def test_nets_that_differed(name, band, monkeypatch):
    monkeypatch.setattr(route, "BAND", band)
    monkeypatch.setattr(plans, "WORTH", 10.0)
    shapes, layers = {"x": X}, FOUND[name]
    if 'type: "Crop"' in layers[-1] and layers[-1].count("bottom") == 1:
        shapes["s"] = (1, 3, 20, 21)
        layers = [*layers[:-1], layers[-1].replace(" top:", ' bottom: "s" top:', 1)]
    net = net_of(graph_of(shapes, layers))
    assert differ(net, Plan(net), [shapes] * 3) < 1e-12


def window(r, sizes, strides, pads):
    """Settings of a window: one number for both axes, or two."""
    def one(name, least, most):
        high, wide = r.randint(least, most), r.randint(least, most)
        return f"{name}_h: {high} {name}_w: {wide}" if r.random() < 0.3 else f"{'kernel_size' if name == 'kernel' else name}: {high}"
    return " ".join([one("kernel", 1, sizes), one("stride", 1, strides), one("pad", 0, pads)])


def convolution(r, blob, channels, top, kind):
    group = r.choice([n for n in (1, 1, 2, 3, channels) if channels % n == 0])
    spread = r.choice(["", "", " dilation: 2", " dilation: 3"]) + r.choice(["", "", " bias_term: false"])
    pads = r.choice([2, 2, 9, 30]) if kind == C else 2
    return layer(kind, blob, top, f"num_output: {group * r.randint(1, 2)} group: {group} "
                                  f"{window(r, r.choice([1, 3, 7]), r.choice([1, 2, 4]), pads)}{spread}")


ONE = ["ReLU", "ReLU", "ReLU", "ReLU negative_slope: 0.1", "PReLU", "ELU", "Dropout", "Dropout scale_train: false",
       "BatchNorm", "Scale bias_term: true", "Scale axis: 2", "Bias", "Power scale: 2 shift: 1", "LRN local_size: 3 alpha: 0.1",
       "LRN norm_region: WITHIN_CHANNEL local_size: 3", "Softmax", "TanH"]
OTHER = ["Split", "Slice axis: 1", "Slice axis: 3 slice_point: 4", "Flatten", "Interp zoom_factor: 2"]


def another(r, shapes, top):
    """A layer that may fit blobs of these shapes."""
    maps = [blob for blob, shape in shapes.items() if len(shape) == 4]
    blob, other = r.choice([maps[-1], maps[-1], r.choice(maps)]), r.choice(maps)
    place = shapes[blob]
    what = r.choices([C, D, P, "one", K, "two", "other"], [6, 2, 3, 6, 2, 2, 1])[0]
    if what in (C, D):
        return convolution(r, blob, place[1], top, what)
    if what == P:
        settings = window(r, 4, 4, 2) + r.choice(["", "", " pool: AVE", " round_mode: FLOOR"])
        return layer(P, blob, top, settings)
    if what == K:
        offsets = [r.randint(0, max(0, a - b)) for a, b in zip(place[2:], shapes[other][2:], strict=True)]
        return layer(K, f"{blob} {other}", top, f"axis: 2 offset: {offsets[0]} offset: {offsets[1]}")
    if what == "two":
        pair = [b for b in maps if shapes[b] == place and b != blob][:1] or [blob]
        return layer(r.choice(["Eltwise", "Eltwise", "Concat"]), f"{blob} {pair[0]}", top)
    kind, _, settings = r.choice(ONE if what == "one" else OTHER).partition(" ")
    tops = f"{top} {top}s" if kind in ("Split", "Slice") else r.choice([top, blob]) if what == "one" else top
    return layer(kind, blob, tops, settings)


def some_net(r):
    """A net that can be built, its images of 1 to 80 pixels."""
    shapes = {"x": (r.randint(1, 3), r.randint(1, 4), r.randint(1, 80), r.randint(1, 80))}
    if r.random() < 0.2:
        shapes["z"] = (shapes["x"][0], 3, r.randint(1, 30), r.randint(1, 30))
    layers, graph, blobs = [], None, dict(shapes)
    for i in range(r.randint(3, 16)):
        trial = [*layers, another(r, blobs, f"b{i}")]
        try:
            found = graph_of(shapes, trial)
        except Error:
            continue
        if max(map(math.prod, found.shapes.values())) < 50000:
            layers, graph = trial, found
            blobs = {value.blob: shape for value, shape in graph.shapes.items()}
    return (graph, shapes, layers) if graph else some_net(r)


@pytest.mark.parametrize("seed", range(4))
def test_nets_at_random(seed, monkeypatch):
    done = Counter()
    for i in range(30):
        r = random.Random(30 * seed + i)
        graph, shapes, layers = some_net(r)
        monkeypatch.setattr(route, "BAND", r.choice([1 << 24, 64, 512]))
        monkeypatch.setattr(plans, "WORTH", r.choice([0.95, 10.0]))
        blobs = sorted({value.blob for value in graph.shapes})
        want = r.choice([None, r.sample(blobs, r.randint(1, min(3, len(blobs))))])
        size = (r.randint(1, 3), r.randint(1, 80), r.randint(1, 80))
        other = {blob: (size[0], shape[1], *(size[1:] if blob == "x" else shape[2:])) for blob, shape in shapes.items()}
        net, without = net_of(graph, i), {name for name in REWRITES if r.random() < 0.1}
        plan = Plan(net, without)
        assert differ(net, plan, [shapes, other, shapes], want) < 1e-11, (seed, i, want, without, "\n".join(layers))
        done.update(border=any(way.pasted for way, _ in plan._routes.values()),
                    bands=any(stage.bands for way, _ in plan._routes.values() for stage in way.stages))
    assert done["border"] and done["bands"]


@pytest.mark.parametrize("bias", ["true", "false"])
def test_diagonal_deconvolutions_in_half_precision(bias):
    layers = [layer(C, "x", "y", "num_output: 2 kernel_size: 3"),
              layer(D, "y", "z", f"num_output: 2 kernel_size: 4 stride: 2 bias_term: {bias}")]
    net = net_of(graph_of({"x": X}, layers)).float()
    with torch.no_grad():
        net.parameter(net.graph.nodes[1].params[0]).mul_(torch.eye(2)[:, :, None, None])
    net.precision, x = torch.bfloat16, torch.randn(X)
    with torch.no_grad():
        mine, theirs = Plan(net)({"x": x})["z"], net({"x": x})["z"]
    assert float((mine - theirs).abs().max() / theirs.abs().max()) < 0.03
