"""Convolutions as one product: equal to themselves, forward and backward, and only where it pays."""

import pytest
import torch

from netspec.net.build import build
from netspec.net.module import Net
from netspec.net.rewrite import randomise
from netspec.net.unrolled import Unrolled, unrolled
from netspec.proto import caffe_pb2
from netspec.proto import text as prototext

FORMS = ["kernel_size: 3", "kernel_size: 1 stride: 2", "kernel_h: 5 kernel_w: 2 bias_term: false",
         "kernel_size: 3 pad_h: 1 pad_w: 2 stride: 2 dilation: 2", "kernel_size: 7 pad: 3 stride: 3"]


SIZES = [(7, 8, 2), (5, 3, 1), (9, 5, 3), (6, 11, 1), (5, 17, 2)]  # of images, and how many


def pair(form, size=(7, 8), batch=2, outputs=400):
    graph = build(prototext.parse(f"""
        layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ dim: {batch} dim: 3 dim: {size[0]} dim: {size[1]} }} }} }}
        layer {{ name: "c" type: "Convolution" bottom: "x" top: "c" convolution_param {{ num_output: {outputs} {form} }} }}
        """, caffe_pb2.NetParameter), caffe_pb2.TRAIN)
    net = Net(graph).double()
    randomise(net)
    return net, Net(unrolled(graph), net)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("high, wide, batch", SIZES)
def test_the_same_numbers_and_gradients(form, high, wide, batch):
    net, quick = pair(form, (high, wide), batch)
    assert type(quick.graph.node("c").op) is Unrolled and type(net.graph.node("c").op) is not Unrolled
    x = torch.randn(batch, 3, high, wide, dtype=torch.float64, requires_grad=True)
    variables = [x, *net.parameters()]
    both = [one({"x": x})["c"] for one in (quick, net)]
    top = torch.randn_like(both[0])
    passes = ((y, *torch.autograd.grad(y, variables, top)) for y in both)
    for ours, plain in zip(*passes, strict=True):
        assert ours.shape == plain.shape and (ours - plain).abs().max() <= 1e-14 * plain.abs().max()


def test_a_larger_image_is_convolved(monkeypatch):
    net, quick = pair(FORMS[0])
    monkeypatch.setattr(torch.nn.functional, "unfold", None)
    x = torch.randn(1, 3, 30, 40, dtype=torch.float64)
    assert torch.equal(quick({"x": x})["c"], net({"x": x})["c"])


@pytest.mark.parametrize("form, outputs", [("kernel_size: 1", 8), ("kernel_size: 3 group: 3", 402), ("kernel_size: 1 axis: 2", 400)])
def test_what_does_not_pay_or_has_another_form_stays(form, outputs):
    assert type(pair(form, outputs=outputs)[1].graph.node("c").op) is not Unrolled


def test_half_precision_gives_gradients_in_float32():
    net, quick = (one.float() for one in pair(FORMS[0]))
    quick.precision = torch.bfloat16
    x = torch.randn(1, 3, 7, 8)
    y = quick({"x": x})["c"]
    y.float().sum().backward()
    assert y.dtype == torch.bfloat16 and {p.grad.dtype for p in net.parameters()} == {torch.float32}
    torch.testing.assert_close(y.float(), net({"x": x})["c"], rtol=0.05, atol=0.05)
