"""A plan on a device that is not the CPU: `meta` stands for one, which has shapes and no numbers to wait for."""

from contextlib import contextmanager

import pytest
import torch
from ops.test_device import META, WAITING, Elsewhere, Unpacked, placed
from ops.test_golden import made

from net.test_plan import CASES, ROOT
from net.test_plan_kept import TEXT, X
from netspec.net import kernels, plan, rewrite
from netspec.net.deploy import deploy
from netspec.net.module import Net
from netspec.net.plan import Plan
from netspec.proto.caffe_pb2 import TRAIN

PRECISIONS = pytest.mark.parametrize("precision", [None, torch.bfloat16], ids=["fp32", "bf16"])

KERNELS = {"Convolution", "Deconvolution", "InnerProduct", "Pooling", "LRN", "Crop"}


@contextmanager
def nothing_is_fetched():
    """Nothing is made on the CPU, nothing waits, and a number asked of the meta device is an error of torch's."""
    with torch.no_grad(), Elsewhere(), Unpacked():
        yield


def shapes(blobs):
    assert all(x.device == META for x in blobs.values())
    return {blob: tuple(x.shape) for blob, x in blobs.items()}


@PRECISIONS
def test_every_layer_that_a_plan_computes_itself(precision):
    """The others are the net's, which tests/ops/test_device.py has."""
    for name in [name for name, case in CASES.items() if KERNELS & {each.type for each in case.net.layer} and name not in WAITING]:
        net, inputs = placed(CASES[name], precision)
        runs = Plan(net.eval())
        with nothing_is_fetched():
            mine = runs(inputs, net.graph.outputs)
        with torch.no_grad():
            assert shapes(mine) == shapes(net(inputs, net.graph.outputs)), name
        assert runs._routes or net.graph.phase == TRAIN


@PRECISIONS
@pytest.mark.parametrize("name, sizes", [("voc-fcn8s", [(375, 500), (90, 111)]), ("voc-fcn-alexnet", [(120, 90)])])
def test_nets(name, sizes, precision, monkeypatch):
    looked = []
    monkeypatch.setattr(kernels, "diagonal", lambda weight: looked.append(weight) or True)
    with META:
        net = Net(deploy(ROOT / "models" / name / "deploy.prototxt")).eval()
    net.precision, runs = precision, Plan(net)
    for size in sizes:
        x = {net.graph.inputs[0]: torch.empty(2, 3, *size, device=META)}
        for _ in range(2):  # the second time all is ready
            with nothing_is_fetched():
                mine = runs(x)
        with torch.no_grad():
            assert shapes(mine) == shapes(net(x))
    assert len(looked) == sum(node.type == "Deconvolution" for node in net.graph.nodes)  # the one wait, once
    ways = [way for way, _ in runs._routes.values()]
    if "fcn8s" in name:
        assert all(way.pasted for way in ways) and any(stage.bands for way in ways for stage in way.stages)


def fused(net):
    """A step that writes what torch does not count, as those of fused optimizers."""
    class Fused(torch.optim.Optimizer):
        def step(self):
            for group in self.param_groups:
                torch._foreach_mul_([p.data for p in group["params"]], 2.0)

    Fused(net.parameters(), {}).step()


@torch.no_grad()
def inside(net):
    next(net.parameters()).mul_(2)


WRITES = {"nothing": lambda net: None, "a fused optimizer": fused, "in place": inside,
          "load_state_dict": lambda net: net.load_state_dict({k: v.clone() for k, v in net.state_dict().items()}),
          "an array that was given out": lambda net: vars(next(net.parameters())).update(shown=True)}


@pytest.mark.parametrize("name", WRITES)
def test_what_writes_to_a_parameter_is_seen_without_its_numbers(name, monkeypatch):
    ready, times = kernels.ready, []
    monkeypatch.setattr(plan, "ready", lambda *args: times.append(0) or ready(*args))
    net = made(TEXT, X.shape).eval()
    rewrite.randomise(net)
    net, x = net.to(META), X.float().to(META)
    runs = Plan(net)
    counts = []
    for _ in range(2):
        with nothing_is_fetched():
            runs({"x": x}, ["s"])
        counts.append(len(times))
        WRITES[name](net)
    assert (counts[1] > counts[0]) == (name != "nothing")
