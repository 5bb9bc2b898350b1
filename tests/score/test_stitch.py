"""Shift-and-stitch and the rarefied net (section 3.2) compute the same, in float64, over random stacks of layers."""

import random

import pytest
import torch

from netspec import NetSpec
from netspec import layers as L
from netspec.base.errors import Error
from netspec.net.build import build
from netspec.net.module import Net
from netspec.net.rewrite import randomise, rarefy, share_reshaped
from netspec.score.stitch import shift_and_stitch


def stack(layers, size=41, channels=2):
    """A net of ('conv' | 'pool' | other type, kernel, stride[, pad]) on an image of size x size + 3."""
    n = NetSpec()
    at = n.data = L.Input(shape=dict(dim=[1, channels, size, size + 3]))
    for i, (kind, *window) in enumerate(layers):
        kernel, stride, pad = (*window, 0, 0, 0)[:3]
        if kind == "conv":
            at = n[f"l{i}"] = L.Convolution(at, num_output=3, kernel_size=kernel, stride=stride, pad=pad)
        elif kind == "pool":
            at = n[f"l{i}"] = L.Pooling(at, kernel_size=kernel, stride=stride, pad=pad, round_mode=1)
        else:
            at = n[f"l{i}"] = getattr(L, kind)(at)
    return n.to_proto()


def pair(net, rare):
    """Both compiled, in float64, with the same random parameters."""
    first, second = (Net(build(x)).double() for x in (net, rare))
    randomise(first)
    share_reshaped(first, second)
    return first, second


def image(net, seed=0):
    shape = tuple(net.layer[0].input_param.shape[0].dim)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def same(first, second, x, factor, step=1):
    with torch.no_grad():
        stitched = shift_and_stitch(first, x, first.graph.outputs[0], factor, step)
        whole = second({"data": x})[second.graph.outputs[0]]
    torch.testing.assert_close(whole, stitched, rtol=1e-12, atol=1e-12)
    return stitched


@pytest.mark.parametrize("seed", range(12))
def test_all_subsampling_removed_equals_all_shifts(seed):
    """Every stride of a random stack taken away, layer by layer: the stride of the whole is shifted and stitched."""
    draw = random.Random(seed)
    layers, factor = [], 1
    if draw.random() < 0.5:
        layers.append(("pool", draw.choice([2, 3]), 2))
        factor = 2
    for _ in range(draw.choice([2, 3])):
        stride = draw.choice([1, 2, 3]) if factor < 6 else 1
        layers += [("conv", draw.choice([1, 2, 3]), stride), (draw.choice(["ReLU", "LRN", "Softmax", "TanH"]),)]
        factor *= stride
    net = rare = stack(layers)
    for layer in net.layer:
        if layer.type in ("Convolution", "Pooling") and max([1, *rare_stride(layer)]) > 1:
            rare = rarefy(rare, layer.name)
    stitched = same(*pair(net, rare), image(net), factor)
    built = build(net).shape(build(net).outputs[0])
    assert stitched.shape[2] >= (built[2] - 1) * factor + 1


def rare_stride(layer):
    p = layer.convolution_param.stride if layer.type == "Convolution" else layer.pooling_param.stride
    return [p] if isinstance(p, int) else list(p)


def test_one_layer_of_several_takes_the_shifts_that_it_had_left_out():
    """pool5 at stride 1, as in the VGG-based variant: shifts of 4 pixels, 2 x 2 of them, beneath a stride of 8."""
    net = stack([("conv", 3, 1), ("pool", 2, 2), ("conv", 3, 2), ("pool", 3, 2), ("conv", 3, 1), ("ReLU",), ("conv", 1, 1)], 63)
    rare = rarefy(net, "l3")
    assert [list(x.convolution_param.dilation) for x in rare.layer if x.type == "Convolution"] == [[], [], [2], [2]]
    same(*pair(net, rare), image(net), 2, step=4)


def test_padding_is_spread_with_the_taps():
    """At the shift of nothing both nets see the same zeros, everywhere."""
    net = stack([("conv", 3, 1, 1), ("pool", 2, 2), ("conv", 3, 1, 1), ("conv", 3, 1, 2)])
    first, second = pair(net, rarefy(net, "l1"))
    x, blob = image(net), "l3"
    with torch.no_grad():
        torch.testing.assert_close(second({"data": x})[blob][:, :, ::2, ::2], first({"data": x})[blob], rtol=1e-12, atol=1e-12)


def test_the_stitched_map_is_the_net_at_every_pixel():
    """Each cell is what the net gives for the crop that begins there."""
    net = stack([("conv", 3, 2), ("ReLU",), ("pool", 2, 2), ("conv", 2, 1)], 23)
    first, _ = pair(net, net)
    x = image(net)
    with torch.no_grad():
        stitched = shift_and_stitch(first, x, "l3", 4)
        assert stitched.shape == (1, 3, 15, 18)  # 23 and 26 pixels, windows of 9
        for y, z in ((0, 0), (5, 2), (14, 17)):
            one = first({"data": x[..., y : y + 9, z : z + 9]})["l3"]
            torch.testing.assert_close(stitched[..., y : y + 1, z : z + 1], one, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("layers, name, said", [
    ([("conv", 3, 2), ("pool", 2, 2)], "l0", "layer 'l1' \\(Pooling\\) .*no dilated form"),
    ([("pool", 2, 2), ("InnerProduct",)], "l0", "convert fcn"),
    ([("pool", 2, 2), ("MVN",)], "l0", "no dilated form"),
    ([("pool", 2, 1)], "l0", "stride 1 already"),
    ([("ReLU",)], "l0", "has a stride"),
    ([("pool", 2, 2)], "l9", "no layer 'l9'"),
])
def test_what_is_not_exact_is_refused(layers, name, said):
    n = [x if x[0] != "InnerProduct" else ("Flatten",) for x in layers]
    net = stack(n)
    if len(n) != len([x for x in layers if x[0] != "InnerProduct"]):
        net.layer[-1].type = "InnerProduct"
    with pytest.raises(Error, match=said):
        rarefy(net, name)


def test_a_skip_around_the_layer_is_refused():
    n = NetSpec()
    n.data = L.Input(shape=dict(dim=[1, 2, 8, 8]))
    n.pool = L.Pooling(n.data, kernel_size=2, stride=2)
    n.other = L.Pooling(n.data, kernel_size=2, stride=2)
    n.sum = L.Eltwise(n.pool, n.other)
    with pytest.raises(Error, match="layer 'sum'.*joins it with blobs that are not finer"):
        rarefy(n.to_proto(), "pool")


def test_shifting_refuses_what_it_cannot_do():
    net = Net(build(stack([("conv", 3, 2)])))
    x = torch.zeros(1, 2, 9, 9)
    for arguments, said in ((("l0", 0), "at least 1"), (("l1", 2), "no blob 'l1'"), (("l0", 8), "does not fit")):
        with pytest.raises(Error, match=said):
            shift_and_stitch(net, x, *arguments)
