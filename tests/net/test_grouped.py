"""Deconvolutions whose weights are diagonal: equal to themselves, and found anew when the weights change."""

import pytest
import torch

from netspec.net.build import build
from netspec.net.grouped import Grouped, grouped
from netspec.net.module import Net
from netspec.proto import caffe_pb2
from netspec.proto import text as prototext


def pair(form, rate=0, channels=3):
    graph = build(prototext.parse(f"""
        layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ dim: 2 dim: {channels} dim: 7 dim: 9 }} }} }}
        layer {{ name: "up" type: "Deconvolution" bottom: "x" top: "up" param {{ lr_mult: {rate} }}
                 convolution_param {{ num_output: 3 {form} }} }}
        """, caffe_pb2.NetParameter), caffe_pb2.TRAIN)
    net = Net(graph).double()
    with torch.no_grad():
        for p in net.parameters():
            p.normal_(generator=torch.Generator().manual_seed(1))
    return net, Net(grouped(graph), net)


def agree(net, quick):
    for size in [(7, 9), (1, 1), (5, 12), (3, 8), (11, 4)]:
        x = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)
        both = [one({"x": x})["up"] for one in (quick, net)]
        top = torch.randn_like(both[0])
        for ours, plain in zip(*((y, *torch.autograd.grad(y, x, top)) for y in both), strict=True):
            assert ours.shape == plain.shape and (ours - plain).abs().max() <= 1e-14 * plain.abs().max()


@pytest.mark.parametrize("form", ["kernel_size: 16 stride: 8 bias_term: false", "kernel_size: 4 stride: 2 pad: 1",
                                  "kernel_h: 3 kernel_w: 5 stride: 2 dilation: 2"])
def test_the_same_numbers_and_gradients_before_and_after_a_change(form):
    net, quick = pair(form)
    op = quick.graph.node("up").op
    agree(net, quick)
    assert op.seen[1] is False  # every weight is a number
    with torch.no_grad():
        net.up.weight.mul_(torch.eye(3, dtype=torch.float64)[:, :, None, None])
    agree(net, quick)
    assert op.seen[1] is True
    with torch.no_grad():
        net.up.weight[0, 1, 0, 0] = 5
    agree(net, quick)
    assert op.seen[1] is False


@pytest.mark.parametrize("form, rate, channels", [("kernel_size: 4", 1, 3), ("kernel_size: 4 group: 3", 0, 3), ("kernel_size: 4", 0, 2)])
def test_what_learns_or_has_another_form_stays(form, rate, channels):
    assert type(pair(form, rate, channels)[1].graph.node("up").op) is not Grouped
