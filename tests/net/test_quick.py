"""A net as it is run to learn: its numbers and gradients, and when the net itself runs."""

import re

import pytest
import torch

from netspec.net.build import build
from netspec.net.front import parted
from netspec.net.grouped import Grouped
from netspec.net.module import Net
from netspec.net.narrow import Narrow
from netspec.net.passes import TRAINING
from netspec.net.quick import Quick, _inner
from netspec.net.rewrite import randomise
from netspec.net.unrolled import Unrolled
from netspec.ops.blobs import _Parameter
from netspec.proto import caffe_pb2
from netspec.proto import text as prototext

TEXT = """
layer { name: "data" type: "Input" top: "data" top: "label" input_param {
  shape { dim: 1 dim: 3 dim: 33 dim: 47 } shape { dim: 1 dim: 1 dim: 33 dim: 47 } } }
layer { name: "c1" type: "Convolution" bottom: "data" top: "c1" convolution_param { num_output: 4 kernel_size: 3 pad: 40 } }
layer { name: "r1" type: "ReLU" bottom: "c1" top: "c1" }
layer { name: "p1" type: "Pooling" bottom: "c1" top: "p1" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "fc" type: "Convolution" bottom: "p1" top: "fc" convolution_param { num_output: 500 kernel_size: 7 stride: 6 } }
layer { name: "drop" type: "Dropout" bottom: "fc" top: "fc" }
layer { name: "score" type: "Convolution" bottom: "fc" top: "score" convolution_param { num_output: 5 kernel_size: 1 } }
layer { name: "up" type: "Deconvolution" bottom: "score" top: "up" param { lr_mult: 0 }
  convolution_param { num_output: 5 kernel_size: 24 stride: 12 bias_term: false } }
layer { name: "crop" type: "Crop" bottom: "up" bottom: "data" top: "crop" crop_param { axis: 2 offset: 30 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "crop" bottom: "label" top: "loss" }
"""

FIRST = """
layer { name: "c0" type: "Convolution" bottom: "data" top: "c0" param { lr_mult: 0 } param { lr_mult: 0 }
  convolution_param { num_output: 3 kernel_size: 3 pad: 1 } }
layer { name: "r0" type: "ReLU" bottom: "c0" top: "c0" }
"""
FROZEN = TEXT.replace('layer { name: "c1" type: "Convolution" bottom: "data"', FIRST + 'layer { name: "c1" type: "Convolution" bottom: "c0"')


def made(text):
    net = Net(build(prototext.parse(text, caffe_pb2.NetParameter), caffe_pb2.TRAIN))
    randomise(net)
    with torch.no_grad():
        net.up.weight.mul_(torch.eye(5)[:, :, None, None])
    return net


@pytest.fixture
def net():
    return made(TEXT)


def batch(size=(33, 47), dtype=torch.float32):
    generator = torch.Generator().manual_seed(2)
    return {"data": torch.randn(1, 3, *size, generator=generator, dtype=dtype),
            "label": torch.randint(0, 5, (1, 1, *size), generator=generator).to(dtype)}


def step(run, net, want=("loss",), size=(33, 47)):
    """The blobs and the gradients of a pass with the same random numbers."""
    torch.manual_seed(5)
    net.zero_grad()
    blobs = run(batch(size, net.dtype), want)
    net.loss(blobs).backward()
    return [*(blobs[blob].detach() for blob in want), *(p.grad.clone() for p in net.parameters() if p.grad is not None)]


def close(ours, plain, bound=1e-5):
    """Held to the largest number of each."""
    for a, b in zip(ours, plain, strict=True):
        assert (a - b).abs().max() <= bound * b.abs().max()


@pytest.mark.parametrize("size", [(33, 47), (1, 5), (20, 61), (48, 17), (35, 35)])
@pytest.mark.parametrize("lay", [False, True])
def test_the_nets_own_numbers_at_any_size(net, size, lay):
    quick, plain = Quick(net.double()), step(net, net, ["loss", "crop"], size)
    if lay:
        quick.lay()
    close(step(quick, net, ["loss", "crop"], size), plain, 1e-14)


@pytest.mark.parametrize("without", [*([name] for name in TRAINING), [*TRAINING]], ids=str)
def test_each_rewrite_can_be_left_out(without):
    """And is done otherwise. Dropout would draw in another order."""
    net = made(re.sub(".*Dropout.*", "", FROZEN)).double()
    quick, plain = Quick(net, without=without), step(net, net)
    quick.lay()
    close(step(quick, net), plain, 1e-14)
    nodes = quick.rewritten.graph.nodes
    kinds = {type(node.op) for node in _inner(nodes)}
    done = {"front": quick.front is not None, "group": Grouped in kinds, "unroll": Unrolled in kinds,
            "narrow": any(isinstance(node.op, Narrow) for node in nodes),
            "order": not net.c1.weight.is_contiguous(), "fused": "fused" in quick.rewrites}
    hidden = {"narrow"} if "front" in without else set()  # the wide padding stands behind c0
    assert {name for name, there in done.items() if not there} == {*without} | hidden


def test_weights_lie_in_the_order_they_are_read(net):
    Quick(net).lay()
    assert net.c1.weight.is_contiguous(memory_format=torch.channels_last) and net.fc.weight.is_contiguous()


def test_other_parameters_are_seen(net):
    quick, other = Quick(net), Net(net.graph)
    randomise(other, 1)
    net.share(other)
    close(step(quick, net), step(net, net))


def test_a_blob_between_comes_from_the_net(net):
    assert torch.equal(Quick(net)(batch(), ["p1", "loss"])["p1"], net(batch(), ["p1"])["p1"])


@pytest.mark.parametrize("layer", [False, True])
def test_who_hangs_on_a_layer_or_the_net_sees_a_pass(net, layer):
    quick, seen = Quick(net), []
    (net.p1 if layer else net).register_forward_hook(lambda *args: seen.append(args))
    quick(batch(), ["loss"])
    assert len(seen) == 1


def memory(run, net):
    """How many numbers a forward pass keeps for the backward pass, beside the parameters."""
    kept = {}
    own = {p.data_ptr() for p in net.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.setdefault(t.data_ptr(), t), lambda t: t):
        run(batch(), ["loss"])
    return sum(t.numel() for place, t in kept.items() if place not in own)


def test_blobs_computed_again_give_the_same_numbers(net):
    plain, again = Quick(net), Quick(net, recompute=True)
    expected = step(plain, net)
    for ours, theirs in zip(step(again, net), expected, strict=True):
        assert torch.equal(ours, theirs)
    assert memory(again, net) < 0.5 * memory(plain, net)


def test_what_a_second_pass_would_change_is_not_computed_again():
    norm = 'layer { name: "bn" type: "BatchNorm" bottom: "c1" top: "c1" }\n'
    text = TEXT.replace('layer { name: "r1"', norm + 'layer { name: "r1"')
    net = made(text)
    start = {name: p.clone() for name, p in net.state_dict().items()}
    found = []
    for recompute in (False, True):
        net.load_state_dict(start)
        step(Quick(net, recompute), net)
        found.append([p.clone() for p in net.state_dict().values()])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("size", [(33, 47), (1, 5), (20, 61), (48, 17), (35, 35)])
def test_a_front_that_does_not_learn_runs_by_its_plan(size):
    net = made(re.sub(".*Dropout.*", "", FROZEN)).double()
    quick, want = Quick(net), ["loss", "crop"]
    assert [node.name for node in quick.front.plan.graph.nodes] == ["c0", "r0"] and quick.front.plan.graph.inputs == ("data",)
    assert {"c0", "r0"}.isdisjoint(node.name for node in quick.rewritten.graph.nodes)
    close(step(quick, net, want, size), step(net, net, want, size), 1e-14)
    with torch.no_grad():
        net.c0.weight.mul_(2)
    close(step(quick, net, want, size), step(net, net, want, size), 1e-14)
    other = Net(net.graph)
    randomise(other, 1)
    net.share(other.double())
    close(step(quick, net, want, size), step(net, net, want, size), 1e-14)


def test_a_front_in_bf16_and_beside_blobs_computed_again():
    net = made(re.sub(".*Dropout.*", "", FROZEN))
    ours, again = Quick(net), Quick(net, recompute=True)
    assert all(torch.equal(a, b) for a, b in zip(step(again, net), step(ours, net), strict=True))
    close(step(ours, net), step(net, net))
    net.precision = torch.bfloat16
    close(step(ours, net), step(net, net), 0.03)


BEHIND = 'layer { name: "%s" type: "%s" bottom: "c0" top: "c0" %s }\nlayer { name: "r0"'
SIDE = """layer { name: "side" type: "Convolution" bottom: "c0" top: "side" convolution_param { num_output: 3 kernel_size: 3 pad: 1 } }
layer { name: "r0" type: "ReLU" bottom: "c0" top: "c0" }
layer { name: "f" type: "Convolution" bottom: "c0" top: "f" param { lr_mult: 0 } param { lr_mult: 0 }
  convolution_param { num_output: 3 kernel_size: 1 } }
layer { name: "sum" type: "Eltwise" bottom: "side" bottom: "f" top: "sum" }
layer { name: "c1" type: "Convolution" bottom: "sum" """


@pytest.mark.parametrize("old, new, front", [
    ("lr_mult: 0 } param", "lr_mult: 1 } param", None),
    ('layer { name: "r0"', BEHIND % ("bn", "BatchNorm", ""), ["c0"]),  # statistics of the batch, which it counts up
    ('layer { name: "r0"', BEHIND % ("bn", "BatchNorm", "batch_norm_param { use_global_stats: true }"), ["c0", "bn", "r0"]),
    ('layer { name: "r0"', BEHIND % ("drop", "Dropout", ""), ["c0"]),
    ('layer { name: "c0"', 'layer { name: "in" type: "ReLU" bottom: "data" top: "data" }\nlayer { name: "c0"', None),
    ('layer { name: "r0" type: "ReLU" bottom: "c0" top: "c0" }\nlayer { name: "c1" type: "Convolution" bottom: "c0" ', SIDE, None),
], ids=["learns", "counts", "stored", "draws", "one name for data and a blob", "one name for two blobs"])
def test_what_is_of_the_front(old, new, front):
    text = re.sub(".*\"drop\" type: \"Dropout\" bottom: \"fc\".*", "", FROZEN.replace("\n\nlayer", "\nlayer"))
    assert old in text
    net = made(text.replace(old, new)).double()
    found, rest = parted(net.graph)
    assert (found and [node.name for node in found.nodes]) == front
    assert len(rest.nodes) + len(front or ()) == len(net.graph.nodes)
    if "Dropout" not in new:
        close(step(Quick(net), net), step(net, net), 1e-13)


def test_a_blob_of_the_front_comes_from_the_net():
    net = made(FROZEN.replace('bottom: "c0" top: "c0" }', 'bottom: "c0" top: "r0" }').replace('bottom: "c0" top: "c1"', 'bottom: "r0" top: "c1"'))
    assert torch.equal(Quick(net)(batch(), ["c0", "loss"])["c0"], net(batch(), ["c0"])["c0"])


def test_gradients_of_what_does_not_learn_come_from_the_net():
    net = made(re.sub(".*Dropout.*", "", FROZEN))
    inputs = {blob: x.requires_grad_(blob == "data") for blob, x in batch().items()}
    net.loss(Quick(net)(inputs, ["loss"])).backward()
    assert inputs["data"].grad.abs().sum() > 0
    net.c0.weight.requires_grad_(True)
    net.loss(Quick(net)(batch(), ["loss"])).backward()
    assert net.c0.weight.grad.abs().sum() > 0


def test_arrays_of_pycaffe_change_the_front():
    net = made(re.sub(".*Dropout.*", "", FROZEN))
    quick, memory = Quick(net), _Parameter(net.c0.weight, tuple(net.c0.weight.shape))
    array = memory.array()
    close(step(quick, net), step(net, net))
    array[1, 1, 1, 1] += 100
    close(step(quick, net), step(net, net))
