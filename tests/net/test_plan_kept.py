"""What a plan keeps between calls, and when it must not: parameters written to in any way, modes, copies."""

import copy
import pickle

import pytest
import torch
from ops.test_golden import made

from net.test_plan import differ, run
from netspec.net import rewrite
from netspec.net.plan import Plan
from netspec.proto import caffe_pb2

TEXT = """
layer { name: "c" type: "Convolution" bottom: "x" top: "c" convolution_param { num_output: 8 kernel_size: 3 pad: 40 } }
layer { name: "b" type: "BatchNorm" bottom: "c" top: "c" }
layer { name: "r" type: "ReLU" bottom: "c" top: "c" }
layer { name: "p" type: "Pooling" bottom: "c" top: "p" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "s" type: "Convolution" bottom: "p" top: "s" convolution_param { num_output: 5 kernel_size: 3 stride: 2 } }
"""
X = torch.randn(2, 3, 30, 41, generator=torch.Generator().manual_seed(0)).double()


def net_of(text=TEXT, phase=caffe_pb2.TEST):
    net = made(text, X.shape, phase=phase).eval()
    rewrite.randomise(net)
    return net.double()


def weight(net):
    return net.parameter(net.graph.node("c").params[0])


def stepped(kind, **settings):
    def step(net):
        for p in net.parameters():
            p.grad = torch.ones_like(p)
        kind(net.parameters(), lr=0.1, **settings).step()
    return step


WRITES = {
    ".data": lambda net: weight(net).data.mul_(2),
    "NumPy": lambda net: weight(net).detach().numpy().__imul__(2),
    "a small one's .data": lambda net: net.parameter(net.graph.node("c").params[1]).data[0].fill_(3),
    "a statistic's .data": lambda net: net.parameter(net.graph.node("b").params[1]).data.mul_(3),
    "all at once": lambda net: torch._foreach_mul_([p.data for p in net.parameters()], 2.0),
    "assign": lambda net: net.load_state_dict({k: 2 * v for k, v in net.state_dict().items()}, assign=True),
    "fused SGD": stepped(torch.optim.SGD, fused=True), "fused Adam": stepped(torch.optim.Adam, fused=True),
    "SGD, foreach": stepped(torch.optim.SGD, foreach=True),
    "norm": lambda net: torch.nn.utils.parametrizations.spectral_norm(net.c),
}


@pytest.mark.parametrize("name", WRITES)
def test_whatever_writes_to_a_parameter_is_seen(name):
    net = net_of()
    plan = Plan(net)
    before = run(plan, X, ["s"])["s"]
    WRITES[name](net)
    assert differ(plan, net, X, ["s", "p"]) < 1e-11
    assert not torch.equal(run(plan, X, ["s"])["s"], before)




def test_a_layer_that_computes_something_else_is_asked():
    net = net_of()
    plan, before = Plan(net), run(net, X, ["s"])["s"]
    run(plan, X, ["s"])
    kind = type(net.s)
    net.s.__class__ = type("Other", (kind,), {"forward": lambda self, x, **_: 2 * kind.forward(self, x)})
    torch.testing.assert_close(run(plan, X, ["s"])["s"], 2 * before)
    net.s.__class__ = kind
    net.s.forward = lambda x, **_: 3 * kind.forward(net.s, x)
    torch.testing.assert_close(run(plan, X, ["s"])["s"], 3 * before)
    del net.s.forward
    hook = torch.nn.modules.module.register_module_forward_hook(lambda module, _, top: 4 * top if module is net.s else None)
    torch.testing.assert_close(run(plan, X, ["s"])["s"], 4 * before)
    hook.remove()
    torch.testing.assert_close(run(plan, X, ["s"])["s"], before)


def test_calls_with_and_without_inference_mode_in_turn():
    net = net_of()
    plan, theirs = Plan(net), run(net, X, ["s"])["s"]
    for mode in (torch.inference_mode, torch.no_grad, torch.inference_mode, torch.no_grad):
        with mode():
            torch.testing.assert_close(plan({"x": X}, ["s"])["s"], theirs, rtol=1e-11, atol=1e-11)
    scale = torch.ones((), requires_grad=True)
    with torch.no_grad():
        y = plan({"x": X}, ["p"])["p"]
    (scale * y).sum().backward()


@pytest.mark.parametrize("shape", [(0, 3, 30, 41), (2, 3, 0, 41)])
def test_no_images_give_what_the_net_gives(shape):
    net = net_of()
    results = []
    for call in (net, Plan(net)):
        try:
            results.append(run(call, torch.empty(shape).double(), ["s"])["s"].shape)
        except RuntimeError as error:
            results.append(str(error))
    assert results[0] == results[1]


@pytest.mark.parametrize("phase, settings", [(caffe_pb2.TRAIN, ""), (caffe_pb2.TEST, "sample_weights_test: true")])
def test_chance_is_not_kept(phase, settings):
    """Neither in the border nor elsewhere: every pass draws anew."""
    dropout = f'layer {{ name: "d" type: "Dropout" bottom: "c" top: "c" dropout_param {{ {settings} }} }}'
    net = net_of(TEXT.replace('layer { name: "r" type: "ReLU" bottom: "c" top: "c" }', dropout), phase)
    plan = Plan(net)
    first, second = (run(plan, X, ["p"])["p"] for _ in range(2))
    assert not torch.equal(first[:, :, :8, :8], second[:, :, :8, :8])


def test_copies_of_a_plan_are_plans_of_copies():
    net = net_of()
    plan = Plan(net, {"border"})
    run(plan, X, ["s"])
    for other in (copy.deepcopy(plan), pickle.loads(pickle.dumps(plan))):
        assert other.rewrites == plan.rewrites and other.net is not net
        weight(other.net).data.mul_(2)
        assert differ(other, other.net, X, ["s"]) < 1e-11
    assert differ(plan, net, X, ["s"]) < 1e-11
