"""What `tests/judge.py` asks of the statistics of SegNet's BN layers over a training set."""

from collections.abc import Callable

import torch
from judge_targets import Arrays, Found

from netspec.convert.folded import fold, measure, observed
from netspec.net.build import build
from netspec.net.module import Net
from netspec.proto import caffe_pb2
from netspec.proto.text import parse


def segnet(config: dict, given: Arrays, wanted: Arrays) -> Found:
    """Batches (data: batches x N x C x H x W) through a convolution that keeps their size, and a BN layer."""
    outputs, _, *kernel = given["conv:0"].shape
    sizes = "".join(f" dim: {n}" for n in given["data"].shape[1:])
    kernels = "".join(f" kernel_size: {n} pad: {n // 2}" for n in kernel)
    text = (f'layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{{sizes} }} }} }}\n'
            f'layer {{ name: "conv" type: "Convolution" bottom: "data" top: "conv" '
            f'convolution_param {{ num_output: {outputs}{kernels} }} }}\n'
            'layer { name: "bn" type: "BN" bottom: "conv" top: "conv" bn_param { bn_mode: LEARN scale_filler {} } }')
    graph = build(parse(text, caffe_pb2.NetParameter))
    net = Net(build(observed(graph)))
    params = net.layers_with_params()
    with torch.no_grad():
        for param, array in zip(params["conv"], (given["conv:0"], given["conv:1"]), strict=True):
            param.copy_(torch.from_numpy(array))
    found = measure(net, ({"data": torch.from_numpy(batch)} for batch in given["data"]))["bn"]
    yield "mean", found.mean, wanted["mean"]
    yield "variance", found.variance, wanted["variance"]
    for suffix, variance in (("", found.variance), ("_unbiased", found.unbiased)):
        new = fold(given["scale"], given["shift"], found.mean, variance, graph.node("bn").op.eps)
        for name, array in zip(("scale", "shift"), new, strict=True):
            if name + suffix in wanted:
                yield name + suffix, array, wanted[name + suffix]


KINDS: dict[str, Callable[[dict, Arrays, Arrays], Found]] = {"segnet_bn_statistics*": segnet}
