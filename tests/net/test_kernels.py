"""A plan's convolutions in single and half precision: as products."""

import pytest
import torch
from ops.test_golden import made

from netspec.net import kernels, rewrite, weights
from netspec.net.plan import Plan

TEXT = """layer {{ name: "y" type: "Convolution" bottom: "x" top: "y" convolution_param {{ num_output: 5 {} }} }}
layer {{ name: "r" type: "ReLU" bottom: "y" top: "y" }}"""
BOUNDS = {torch.float32: 2e-6, torch.bfloat16: 1e-2}


def differ(settings, size, dtype):
    """The largest difference of a plan to the net in float64, in parts of the largest number."""
    net = made(TEXT.format(settings), size).eval()
    rewrite.randomise(net)
    weights.ready(net)
    x = torch.randn(size, generator=torch.Generator().manual_seed(0)).to(dtype)
    with torch.inference_mode():
        net.precision = dtype if dtype == torch.bfloat16 else None
        mine = Plan(net)({"x": x.float()}, ["y"])["y"].double()
        net.precision = None
        theirs = net.double()({"x": x.double()}, ["y"])["y"]
    assert mine.shape == theirs.shape
    return float((mine - theirs).abs().max() / theirs.abs().max()) if theirs.numel() else 0.0


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("size", [(1, 6, 19, 23), (3, 6, 8, 9), (1, 6, 1, 1), (2, 6, 1, 5)])
def test_convolutions_of_single_cells(size, dtype):
    for settings in ("kernel_size: 1", "kernel_size: 1 bias_term: false", "kernel_size: 1 pad: 2",
                     "kernel_size: 1 stride: 2"):
        assert differ(settings, size, dtype) < BOUNDS[dtype]


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("settings", ["kernel_size: 3", "kernel_h: 2 kernel_w: 5 stride: 2", "kernel_size: 4 pad: 3 stride: 3"])
def test_convolutions_with_very_many_weights(settings, dtype, monkeypatch):
    monkeypatch.setattr(kernels, "LARGE", 1)
    for places in (4, 10000):
        monkeypatch.setattr(kernels, "PLACES", places)
        for size in ((2, 6, 9, 12), (1, 6, 5, 5), (1, 6, 19, 23), (0, 6, 9, 12)):
            assert differ(settings, size, dtype) < BOUNDS[dtype]
