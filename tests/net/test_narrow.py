"""The border of an image computed once: equal to the whole border, forward and backward, at any size."""

import pytest
import torch

from netspec.net.build import build
from netspec.net.module import Net
from netspec.net.narrow import narrowed
from netspec.net.rewrite import randomise
from netspec.proto import caffe_pb2
from netspec.proto import text as prototext

SIZES = [(1, 1), (3, 40), (40, 3), *((61 + i, 83 - i) for i in range(9))]
VGG = """
layer { name: "c1" type: "Convolution" bottom: "data" top: "c1" convolution_param { num_output: 4 kernel_size: 3 pad: 60 } }
layer { name: "r1" type: "ReLU" bottom: "c1" top: "c1" }
layer { name: "p1" type: "Pooling" bottom: "c1" top: "p1" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "c2" type: "Convolution" bottom: "p1" top: "c2" convolution_param { num_output: 5 kernel_size: 3 pad: 1 } }
layer { name: "t2" type: "TanH" bottom: "c2" top: "t2" }
layer { name: "p2" type: "Pooling" bottom: "t2" top: "p2" pooling_param { kernel_size: 3 stride: 2 pad: 1 } }
layer { name: "c3" type: "Convolution" bottom: "p2" top: "c3" convolution_param { num_output: 3 kernel_size: 3 dilation: 2 bias_term: false } }
layer { name: "a3" type: "Pooling" bottom: "c3" top: "a3" pooling_param { pool: AVE kernel_size: 2 stride: 2 } }
"""
SIDES = """
layer { name: "c1" type: "Convolution" bottom: "data" top: "c1"
        convolution_param { num_output: 4 kernel_h: 5 kernel_w: 3 pad_h: 90 pad_w: 0 stride_h: 4 stride_w: 1 } }
layer { name: "r1" type: "ReLU" bottom: "c1" top: "c1" relu_param { negative_slope: 0.1 } }
layer { name: "p1" type: "Pooling" bottom: "c1" top: "p1" pooling_param { kernel_size: 3 stride: 2 round_mode: FLOOR pad: 1 } }
layer { name: "c2" type: "Convolution" bottom: "p1" top: "c2" convolution_param { num_output: 4 group: 2 kernel_size: 1 } }
"""
BRANCH = VGG + """
layer { name: "s2" type: "Convolution" bottom: "p2" top: "s2" convolution_param { num_output: 2 kernel_size: 1 } }
"""


def pair(text, size=(61, 83)):
    given = (f'layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ dim: 2 dim: 3 '
             f'dim: {size[0]} dim: {size[1]} }} }} }}')
    graph = build(prototext.parse(given + text, caffe_pb2.NetParameter), caffe_pb2.TRAIN)
    net = Net(graph).double()
    randomise(net)
    return net, Net(narrowed(graph), net)


def passes(net, x, params):
    """The outputs and every gradient for random gradients of the outputs."""
    for p in params:
        p.grad = None
    x = x.detach().requires_grad_()
    blobs = net({"data": x})
    generator = torch.Generator().manual_seed(1)
    sum((y * torch.randn(y.shape, generator=generator, dtype=y.dtype)).sum() for y in blobs.values()).backward()
    return [y.detach() for y in blobs.values()] + [x.grad] + [p.grad for p in params]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("text", [VGG, SIDES, VGG.partition("layer { name: \"c3\"")[0]], ids=["vgg", "sides", "short"])
def test_the_same_numbers_and_gradients(text, size):
    net, quick = pair(text, (61, 83))
    assert len(quick.graph.nodes) < len(net.graph.nodes)
    x = torch.randn(2, 3, *(max(n, 5) for n in size), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    params = list(net.parameters())
    for ours, whole in zip(passes(quick, x, params), passes(net, x, params), strict=True):
        assert (ours - whole).abs().max() <= 1e-14 * whole.abs().max()


def test_less_is_computed():
    net, quick = pair(VGG)
    narrow = quick.graph.nodes[0].op
    assert narrow.layer.name == "c1 to a3"
    seen = []
    narrow.nodes[3].op.apply = lambda x, *params, plain=narrow.nodes[3].op.apply: seen.append(x.shape) or plain(x, *params)
    quick({"data": torch.zeros(1, 3, 61, 83, dtype=torch.float64)})
    ((_, _, high, wide),) = seen
    assert high * wide < 0.8 * (61 + 118) * (83 + 118) / 4


def test_a_map_that_others_read_is_the_last():
    assert pair(BRANCH)[1].graph.nodes[0].op.layer.name == "c1 to p2"


STAY = [("pad: 60", "pad: 1"), ('type: "ReLU" bottom: "c1" top: "c1"', 'type: "Dropout" bottom: "c1" top: "c1"'),
        ('top: "c1" conv', 'top: "c1" propagate_down: false conv')]


@pytest.mark.parametrize("change", STAY)
def test_layers_without_a_border_or_with_random_numbers_stay(change):
    net, quick = pair(VGG.replace(*change))
    assert "c2" in [node.name for node in quick.graph.nodes]


def test_memory_stays_in_the_order_of_channels_last():
    _, quick = pair(VGG)
    quick.to(memory_format=torch.channels_last)
    y = quick.features(torch.zeros(1, 3, 61, 83, dtype=torch.float64), "a3")
    assert y.is_contiguous(memory_format=torch.channels_last)
