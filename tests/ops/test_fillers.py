"""Fillers: distributions by Kolmogorov-Smirnov with fixed seeds, exact values where nothing is random."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from netspec.base.errors import Error
from netspec.ops.fillers import FILLERS, fill
from netspec.proto.caffe_pb2 import FillerParameter

SHAPE = (40, 25, 3, 5)  # fan_in 375, fan_out 600, average 487.5
SURELY = 1e-3  # a right sampler fails a KS test at this level once in 1000 seeds; the seeds are fixed


def filled(shape=SHAPE, seed=0, generator=None, dtype=torch.float32, **settings):
    tensor = torch.full(shape, math.nan, dtype=dtype)
    fill(tensor, FillerParameter(**settings), generator or torch.Generator().manual_seed(seed))
    return tensor


def ks(tensor, distribution):
    return stats.kstest(tensor.numpy().ravel(), distribution.cdf).pvalue


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_uniform(seed):
    tensor = filled(seed=seed, type="uniform", min=-2, max=0.5)
    assert -2 <= tensor.min() and tensor.max() <= 0.5
    assert ks(tensor, stats.uniform(-2, 2.5)) > SURELY


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_gaussian(seed):
    tensor = filled(seed=seed, type="gaussian", mean=3, std=0.2)
    assert ks(tensor, stats.norm(3, 0.2)) > SURELY
    assert ks(tensor, stats.norm(3, 0.22)) < SURELY, "the test must be able to tell 10 % apart"


@pytest.mark.parametrize("norm, fan", [("FAN_IN", 375), ("FAN_OUT", 600), ("AVERAGE", 487.5)])
def test_xavier_and_msra(norm, fan):
    variance_norm = FillerParameter.VarianceNorm.Value(norm)
    bound = math.sqrt(3 / fan)
    tensor = filled(type="xavier", variance_norm=variance_norm)
    assert tensor.abs().max() <= bound
    assert ks(tensor, stats.uniform(-bound, 2 * bound)) > SURELY
    tensor = filled(type="msra", variance_norm=variance_norm)
    assert ks(tensor, stats.norm(0, math.sqrt(2 / fan))) > SURELY


def test_fans_of_other_shapes():
    """Caffe: fan_in = count / shape[0]; fan_out = count / shape[1], or count for a vector."""
    out = FillerParameter.FAN_OUT
    assert ks(filled((20000,), type="msra"), stats.norm(0, math.sqrt(2))) > SURELY
    assert ks(filled((20000,), type="msra", variance_norm=out), stats.norm(0, math.sqrt(2 / 20000))) > SURELY
    assert ks(filled((50, 400), type="msra"), stats.norm(0, math.sqrt(2 / 400))) > SURELY
    assert ks(filled((50, 400), type="msra", variance_norm=out), stats.norm(0, math.sqrt(2 / 50))) > SURELY


@pytest.mark.parametrize("sparse", [0, 10, 40])
def test_sparse_gaussian(sparse):
    tensor = filled(seed=3, type="gaussian", std=2, sparse=sparse)
    alive = tensor[tensor != 0]
    n, p = tensor.numel(), sparse / SHAPE[0]
    assert abs(alive.numel() - n * p) <= 4 * math.sqrt(n * p * (1 - p))  # four sigma of the binomial
    if sparse:
        assert ks(alive, stats.norm(0, 2)) > SURELY


def test_positive_unitball():
    tensor = filled((30, 20, 10), type="positive_unitball")
    assert (tensor >= 0).all()
    torch.testing.assert_close(tensor.sum((1, 2)), torch.ones(30))
    # within a row the numbers are uniform, up to the row's own sum, which is 100 +- 4.1
    assert ks(tensor[0] / tensor[0].max(), stats.uniform(0, 1)) > SURELY


def test_constant_and_none():
    assert (filled(type="constant", value=0.7) == np.float32(0.7)).all()
    assert (filled() == 0).all(), "the default type is constant, its value 0"
    assert filled(shape=(), type="constant", value=0.25) == 0.25
    tensor = torch.ones(3)
    fill(tensor)
    assert not tensor.any()


def test_bilinear():
    four = torch.tensor([0.25, 0.75, 0.75, 0.25])
    assert torch.equal(filled((2, 3, 4, 4), type="bilinear"), torch.outer(four, four).expand(2, 3, 4, 4))
    five = torch.tensor([1, 2, 3, 2, 1]) / 3  # f = 3, c = 2/3
    torch.testing.assert_close(filled((1, 1, 5, 5), type="bilinear")[0, 0], torch.outer(five, five))


def test_one_generator_one_result():
    """The layout, the type and the device of the tensor do not change what it is filled with."""
    for kind in FILLERS:
        shape = (6, 4, 3, 3)
        first, second = filled(shape, 5, type=kind), filled(shape, 5, type=kind)
        assert torch.equal(first, second)
        last = torch.empty(shape, dtype=torch.float64).to(memory_format=torch.channels_last)
        fill(last, FillerParameter(type=kind), torch.Generator().manual_seed(5))
        assert torch.equal(last.float(), first)
        if kind not in ("constant", "bilinear"):
            assert not torch.equal(first, filled(shape, 6, type=kind))
    torch.manual_seed(9)
    a, b = torch.empty(5), torch.empty(5)
    fill(a, FillerParameter(type="uniform"))
    torch.manual_seed(9)
    fill(b, FillerParameter(type="uniform"))
    assert torch.equal(a, b)


def test_parameters_are_filled_without_a_gradient():
    parameter = torch.nn.Parameter(torch.empty(3, 3))
    for kind in set(FILLERS) - {"bilinear"}:
        fill(parameter, FillerParameter(type=kind))
    assert parameter.requires_grad and parameter.grad_fn is None


@pytest.mark.parametrize(
    "shape, settings, words",
    [
        ((3,), {"type": "gausian"}, "did you mean 'gaussian'"),
        ((3,), {"type": "gaussian", "std": 0}, "std 0"),
        ((3,), {"type": "uniform", "min": 2}, "min 2 above max 1"),
        ((3,), {"type": "gaussian", "sparse": 4}, "sparse: 4 for 3 outputs"),
        ((3,), {"type": "gaussian", "sparse": -2}, "sparse: -2"),
        ((3,), {"type": "xavier", "sparse": 1}, "for 'gaussian' only"),
        ((3, 3), {"type": "bilinear"}, "N x C x K x K"),
        ((3, 3, 4, 5), {"type": "bilinear"}, "N x C x K x K"),
        ((0, 3), {"type": "constant"}, "holds nothing"),
    ],
)
def test_refused_as_caffe_refuses(shape, settings, words):
    before = torch.full(shape, 7.0)
    tensor = before.clone()
    with pytest.raises(Error, match=words):
        fill(tensor, FillerParameter(**settings))
    assert torch.equal(tensor, before)
