"""CRF-RNN's layer: its lattice, what it computes of images worked out by hand, and where its first numbers come from.

Whole passes and gradients are held against plain loops in fork_cases.py.
"""

import math

import dense_crf
import numpy as np
import pytest
import torch

from netspec.base.errors import Error
from netspec.net.build import build
from netspec.net.module import Net
from netspec.ops.meanfield import Lattice, corners
from netspec.proto import caffe_pb2
from netspec.proto import text as prototext
from netspec.proto.upgrade import upgrade_net

from .test_golden import layer, made

SHAPES = [(1, 2, 1, 3)] * 2 + [(1, 3, 1, 3)]
GIVEN = "spatial_filter_weight: 3 bilateral_filter_weight: 5"


def crf(settings=GIVEN, shapes=SHAPES, iterations=2, theta=1.0):
    each = " ".join(f"theta_{name}: {theta}" for name in ("alpha", "beta", "gamma"))
    text = layer("MultiStageMeanfield", f"multi_stage_meanfield_param {{ num_iterations: {iterations} {each} {settings} }}",
                 bottoms=["x", "z", "w"])
    return made(text, *shapes)


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def grid(d, step):
    """Points with many on borders of simplexes."""
    return torch.stack(torch.meshgrid(*[torch.arange(3) * step] * d, indexing="ij"), -1).reshape(-1, d).float()


@pytest.mark.parametrize("features", [random(200, 2) * 9, random(100, 5) * 9, grid(2, 1), grid(3, 1.5), grid(5, 0.5)],
                         ids=["plane", "space", "grid", "grid of three", "grid of five"])
def test_a_point_is_the_mean_of_its_corners_by_its_weights(features):
    d = features.shape[1]
    keys, weights = corners(features)
    last = torch.cat([keys, -keys.sum(2, keepdim=True)], 2)
    naive = [dense_crf.simplex(point) for point in features.numpy()]
    assert last.tolist() == [[[*corner] for corner in around] for _, around, _ in naive]
    np.testing.assert_allclose(weights, [w for *_, w in naive], atol=1e-6)
    assert weights.min() > -1e-5
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(torch.einsum("pk,pki->pi", weights, last.float()), [y for y, *_ in naive], atol=1e-4)
    assert all(int(c) % (d + 1) == k for corner in last for k, row in enumerate(corner) for c in row)


@pytest.mark.parametrize("features", [*(random(points, 3, seed=points) * 0.8 for points in range(1, 9)), grid(2, 0.5), grid(3, 0.4)],
                         ids=lambda features: "x".join(map(str, features.shape)))
@pytest.mark.parametrize("back", [False, True])
def test_filters_as_loops_do(features, back):
    naive, x = dense_crf.Lattice(features.numpy()), random(len(features), 2, seed=1).double()
    expected = np.transpose([naive.filter(column, back) for column in x.t().tolist()])
    np.testing.assert_allclose(Lattice(features).filtered(x, back), expected, rtol=1e-6, atol=1e-7)


def test_what_fills_up_the_last_block_of_the_lattice_lets_values_through():
    """Two points on either side of 0, filled up there; four points are not, and nothing gets across."""
    x, far = torch.tensor([[1.0], [0.0]]), torch.tensor([[-1.0], [1.0]])
    assert Lattice(far).filtered(x)[1] > 0
    assert Lattice(torch.cat([far, far])).filtered(torch.cat([x, x]))[1] == 0


@pytest.mark.parametrize("d,bound", [(2, 0.05), (5, 0.1)])
def test_filters_nearly_as_a_gaussian_does(d, bound):
    features = torch.rand(300, d, generator=torch.Generator().manual_seed(2)) * 3
    values = torch.stack([torch.sin(features[:, 0]), (features[:, 1] > 1.5).float()], 1)
    exact = torch.exp(-torch.cdist(features, features).square() / 2)
    lattice = Lattice(features)
    ours = lattice.filtered(values) / lattice.filtered(torch.ones(600, 1))
    error = (ours - exact @ values / exact.sum(1, keepdim=True)).abs()
    assert error.max() < bound


def test_positions_that_are_far_apart_hear_of_themselves_alone():
    """So f and g are the identity: with S = 3, B = 5 and M = -1 a step is u + 8 softmax q."""
    net, u = crf(theta=0.01), np.array([[0.5, 0, -1], [-0.5, 2, 3]])
    q = np.array([[1.0, 0, 2], [0, 0, 5]])
    for _ in range(2):
        q = u + 8 * np.exp(q) / np.exp(q).sum(0)
    blobs = {"x": u, "z": [[1.0, 0, 2], [0, 0, 5]], "w": np.zeros((3, 3))}
    found = net({name: torch.tensor(x, dtype=torch.float32).reshape(1, -1, 1, 3) for name, x in blobs.items()})["y"]
    np.testing.assert_allclose(found.detach().reshape(2, 3), q, rtol=1e-5)


def test_positions_of_one_place_share_what_they_think():
    """Thetas so large that f and g are the mean of all."""
    net, u = crf(theta=1e6, iterations=3), np.array([[0.5, 0, -1], [-0.5, 2, 3]])
    q = u
    for _ in range(3):
        q = u + 8 * (np.exp(q) / np.exp(q).sum(0)).mean(1, keepdims=True)
    x = torch.tensor(u, dtype=torch.float32).reshape(SHAPES[0])
    found = net({"x": x, "z": x, "w": random(*SHAPES[2])})["y"]
    np.testing.assert_allclose(found.detach().reshape(2, 3), q, rtol=1e-4)


def first(net):
    return [parameter.detach()[0, 0] for parameter in net.layers_with_params()["l"]]


def test_first_numbers_come_from_text_files_or_one_number(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert [m.tolist() for m in first(crf())] == [[[3, 0], [0, 3]], [[5, 0], [0, 5]], [[-1, 0], [0, -1]]]
    (tmp_path / "spatial.par").write_text("2 4\n")  # as in Caffe, rather than the setting
    assert [m.diag().tolist() for m in first(crf())] == [[2, 4], [5, 5], [-1, -1]]
    strings = 'spatial_filter_weights_str: "7 8 9" bilateral_filter_weights_str: "1 1.5"'
    assert [m.diag().tolist() for m in first(crf(strings))] == [[7, 8], [1, 1.5], [-1, -1]]
    for text in ("2", "2 x", "", "2 nan"):
        (tmp_path / "spatial.par").write_text(text)
        with pytest.raises(Error, match=r"takes 2 numbers, one a class, from .*spatial\.par; found"):
            crf()
    (tmp_path / "spatial.par").unlink()
    with pytest.raises(Error, match=r"no file spatial\.par with a number for each class; write one"):
        crf("bilateral_filter_weight: 5")


def test_refuses_what_cannot_work():
    for count in (1, 1001):
        with pytest.raises(Error, match=f"num_iterations of 2 to 1000, found {count}"):
            crf(iterations=count)
    with pytest.raises(Error, match="theta_alpha and theta_beta and theta_gamma above 0"):
        crf(theta=0)
    for at, shape in enumerate([(1, 2, 2, 3), (1, 3, 1, 3), (1, 1, 1, 3)]):
        with pytest.raises(Error, match="takes N x . x H x W twice and N x 3 x H x W"):
            crf(shapes=[shape if i == at else given for i, given in enumerate(SHAPES)])
    with pytest.raises(Error, match="all above 0"):
        crf(shapes=[(0, 2, 1, 3)] * 2 + [(0, 3, 1, 3)])
    blobs = {name: torch.zeros(shape) for name, shape in zip("xzw", SHAPES, strict=True)}
    for value in (math.nan, math.inf, 1e20, 6000):
        blobs["w"][0, :, 0] = torch.tensor([[0, value, -value], [0, -value, value], [value, 0, -value]])
        with pytest.raises(Error, match="'w' over theta_beta, or positions over another theta, are too far apart"):
            crf()(blobs)


NET = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 12 dim: 14 } } }
layer { name: "score" type: "Convolution" bottom: "data" top: "score" convolution_param {
  num_output: 3 kernel_size: 4 stride: 2 pad: 4 weight_filler { type: "gaussian" std: 0.1 } } }
layer { name: "up" type: "Deconvolution" bottom: "score" top: "up"
  convolution_param { num_output: 3 kernel_size: 4 stride: 2 bias_term: false weight_filler { type: "bilinear" } } }
layer { name: "crop" type: "Crop" bottom: "up" bottom: "data" top: "coarse" }
layer { name: "splitting" type: "Split" bottom: "coarse" top: "unary" top: "Q0" }
layer { name: "inference1" type: "MultiStageMeanfield" bottom: "unary" bottom: "Q0" bottom: "data" top: "pred"
  multi_stage_meanfield_param { num_iterations: 5 compatibility_mode: POTTS threshold: 2 theta_alpha: 160 theta_beta: 3
    theta_gamma: 3 spatial_filter_weights_str: "3 3 3" bilateral_filter_weights_str: "5 5 5" } }
"""


def test_a_net_ends_in_it():
    graph = build(prototext.parse(NET, caffe_pb2.NetParameter))
    net, op = Net(graph), graph.node("inference1").op
    assert graph.outputs == ("pred",) and graph.shape("pred") == (1, 3, 12, 14)
    shapes = [(1, 3, 12, 14)] * 3
    assert op.window(*shapes) == (12, 14) and op.macs(*shapes) == 3 * 5 * 3 * 3 * 12 * 14
    blobs = net({"data": random(1, 3, 12, 14) * 9}, want=["pred", "Q0"])
    assert blobs["pred"].shape == blobs["Q0"].shape and not torch.equal(blobs["pred"], blobs["Q0"])
    blobs["pred"].square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in net.parameters() if parameter.requires_grad)


def test_older_nets_name_it_in_capitals():
    old = """layers { name: "l" type: MULTI_STAGE_MEANFIELD bottom: "u" bottom: "q" bottom: "i" top: "y" blobs_lr: 10000
      multi_stage_meanfield_param { num_iterations: 10 theta_alpha: 160 spatial_filter_weight: 3 } }"""
    net = prototext.parse(old, caffe_pb2.NetParameter)
    upgrade_net(net)
    (new,) = net.layer
    assert (new.type, new.multi_stage_meanfield_param.theta_alpha, new.param[0].lr_mult) == ("MultiStageMeanfield", 160, 10000)
