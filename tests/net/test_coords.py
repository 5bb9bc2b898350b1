"""Coordinate maps: Caffe's own for 40 pairs of stacks, pycaffe's rules, and each layer's map by moving an impulse."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from netspec import NetSpec, layers, params
from netspec.base.errors import Error
from netspec.net import coords
from netspec.net.build import build
from netspec.net.module import Net
from netspec.ops import REGISTRY
from netspec.proto import caffe_pb2
from netspec.proto import text as prototext

PAIRS = json.loads((Path(__file__).parents[1] / "golden/coord/coords.json").read_text())


def stack(top, described):
    for kind, settings in described:
        top = getattr(layers, kind)(top, **settings)
    return top


@pytest.mark.parametrize("pair", PAIRS, ids=range(len(PAIRS)))
def test_as_pycaffe_maps_and_crops(pair):
    data = layers.Input(shape=dict(dim=[1, 1, 100, 100]))
    top_from, top_to = stack(data, pair["from"]), stack(data, pair["to"])
    axis, scale, shift = coords.coord_map_from_to(top_from, top_to)
    assert axis == pair["map"]["axis"]
    assert list(scale) == pair["map"]["scale"] and list(shift) == pair["map"]["shift"]
    if "error" in pair:
        with pytest.raises(AssertionError):
            coords.crop(top_from, top_to)
    else:
        settings = coords.crop(top_from, top_to).fn.params["crop_param"]
        assert settings == dict(axis=axis + 1, offset=pair["offset"])


def example(ks=3, stride=1, pad=0, pool=2, dstride=2, dpad=0, dim=(2, 1, 100, 100)):
    n = NetSpec()
    n.data = layers.Input(shape=dict(dim=list(dim)))
    n.conv = layers.Convolution(n.data, num_output=10, kernel_size=ks, stride=stride, pad=pad)
    n.pool = layers.Pooling(n.conv, pool=params.Pooling.MAX, kernel_size=pool, stride=pool, pad=0)
    n.deconv = layers.Deconvolution(n.pool, num_output=10, kernel_size=2 * dstride, stride=dstride, pad=dpad)
    return n


def mapped(n, name="deconv"):
    return coords.coord_map_from_to(getattr(n, name), n.data)


def test_pool_and_deconvolution_of_one_factor_cancel():
    assert mapped(example()) == (1, 1, 0)
    assert mapped(example(pool=4, dstride=4)) == (1, 1, -1)


def test_padding_shifts_one_way_in_convolution_and_the_other_in_deconvolution():
    for pad in (1, 7):
        assert mapped(example(pad=pad))[2] == -pad
        assert mapped(example(dpad=pad))[2] == pad
        assert mapped(example(pad=pad, dpad=pad)) == mapped(example())


def test_each_axis_by_itself():
    axis, scale, shift = mapped(example(ks=[3, 5], stride=[1, 2], pad=[0, 10]))
    for i, alone in enumerate((example(), example(ks=5, stride=2, pad=10))):
        assert (axis, scale[i], shift[i]) == mapped(alone)
    _, scale, shift = mapped(example(ks=[3, 3, 3], stride=[1, 1, 1], pad=[0, 1, 2], dim=(2, 3, 50, 50, 50)))
    assert list(scale) == [1, 1, 1]
    assert shift[0] - 1 == shift[1] == shift[2] + 1


def test_a_stride_of_0_has_no_map():
    with pytest.raises(Error, match="stride 0 has no coordinate map"):
        mapped(example(stride=[0, 1]))


def test_a_crop_moves_by_its_offset():
    n = example()
    n.crop = layers.Crop(n.deconv, n.data, axis=2, offset=6)
    axis, scale, shift = mapped(n, "crop")
    assert (axis, scale, shift - 6) == mapped(n)


def test_layers_without_a_map_end_the_way():
    n = example()
    n.ip = layers.InnerProduct(n.deconv, num_output=10)
    with pytest.raises(RuntimeError, match="no coordinate map"):
        mapped(n, "ip")
    assert issubclass(coords.Misfit, Error)


# One layer of each type with a map: settings, and the axes of its bottom.
MAPPED = {
    "Convolution": ["num_output: 1 kernel_size: 3", "num_output: 1 kernel_size: 4 stride: 3 pad: 2",
                    "num_output: 1 kernel_size: 3 dilation: 2 pad: 1", "num_output: 1 kernel_size: 1 stride: 2",
                    "num_output: 1 kernel_size: 3 kernel_size: 4 stride: 2 stride: 1 pad: 1 pad: 0"],
    "Im2col": ["kernel_size: 3 stride: 2 pad: 1"],
    "Deconvolution": ["num_output: 1 kernel_size: 4 stride: 2", "num_output: 1 kernel_size: 3 stride: 3 pad: 1",
                      "num_output: 1 kernel_size: 5 dilation: 2"],
    "Pooling": ["pool: AVE kernel_size: 3 stride: 2", "pool: AVE kernel_size: 2 stride: 2 pad: 1",
                "pool: AVE kernel_h: 3 kernel_w: 5"],
    "Interp": ["zoom_factor: 3", "zoom_factor: 2 pad_beg: -1 pad_end: -2"],
    "Crop": ["offset: 3", "axis: 2 offset: 1 offset: 4"],
    "DepthwiseConvolution": ["num_output: 1 kernel_size: 3 stride: 2 pad: 1"],
    "ConvolutionDepthwise": ["num_output: 1 kernel_size: 4 stride: 3 pad: 2"],
}
SIZE = (21, 23)
FIELD = dict.fromkeys(("Im2col", "Deconvolution", "DepthwiseConvolution", "ConvolutionDepthwise"), "convolution_param")
THREE = {"Convolution3D", "Deconvolution3D", "NdConvolution", "Pooling3D", "NdPooling"}  # axes; the maps are those of two
WITHOUT = {"MVN", "BatchNorm", "MultiStageMeanfield", "Normalize", "Threshold"}  # each top depends on all of the bottom, or on none of it
IDENTITIES = [t for t, op in REGISTRY.items() if t not in MAPPED and t not in WITHOUT | THREE and t != "Python"
              and op.coord_map(caffe_pb2.LayerParameter(type=t)) is not None]
CASES = [*((t, s) for t, many in MAPPED.items() for s in many), *((t, "") for t in IDENTITIES)]


@pytest.mark.parametrize("kind,settings", CASES, ids=[f"{t} {s}".strip() for t, s in CASES])
def test_an_impulse_on_the_top_comes_from_where_the_map_says(kind, settings):
    field = FIELD.get(kind, f"{kind.lower()}_param")
    second = 'bottom: "y"' if kind in ("Crop", "Eltwise") else ""
    extra = {"Clip": "clip_param { min: -9 max: 9 }"}.get(kind, f"{field} {{ {settings} }}" if settings else "")
    text = f"""layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ dim: 1 dim: 1 dim: 21 dim: 23 }} }} }}
    layer {{ name: "y" type: "Input" top: "y" input_param {{ shape {{ dim: 1 dim: 1 dim: 21 dim: 23 }} }} }}
    layer {{ name: "l" type: "{kind}" bottom: "x" {second} top: "t" {extra} }}"""
    shapes = {"y": (1, 1, 12, 12)} if kind == "Crop" else {}
    net = Net(build(prototext.parse(text, caffe_pb2.NetParameter), shapes=shapes))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(0.5)
    node = net.graph.node("l")
    ((scale, shift),) = coords.wide(node.op.coord_map(node.op.layer))
    scale, shift = (np.resize(np.array([float(v) for v in values]), 2) for values in (scale, shift))
    y = torch.zeros(shapes.get("y", (1, 1, *SIZE)))

    def run(x):
        return net({"x": x, "y": y}, want=["t"])["t"]

    x = torch.rand(1, 1, *SIZE).add_(0.5)
    if kind == "Deconvolution":  # what one position of the bottom spreads over
        at = np.array([9, 11])
        moved = x.clone()
        moved[0, 0, at[0], at[1]] += 1
        spread = (run(moved) - run(x))[0, 0].detach()
        assert centre(spread) == pytest.approx(scale * at + shift, abs=1e-4)
    else:  # what one position of the top gathers from
        x.requires_grad_()
        top = run(x)
        at = np.array(top.shape[2:]) // 2
        top[0, :, at[0], at[1]].sum().backward()
        assert centre(x.grad[0, 0]) == pytest.approx((at - shift) / scale, abs=1e-4)


def centre(image):
    """The centre of mass of |image|, as row and column."""
    weight = image.abs().numpy()
    return np.array([(weight.sum(1 - i) * np.arange(weight.shape[i])).sum() / weight.sum() for i in (0, 1)])
