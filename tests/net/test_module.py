"""Nets that run: names of parameters, sizes, in-place layers, losses, sharing, and what is kept of the blobs."""

import copy
import weakref

import numpy as np
import pytest
import torch

from net.test_graph import DATA, LABEL, TRAIN, conv, loss, net, relu
from netspec.base import machine
from netspec.base.errors import Error
from netspec.net.build import build
from netspec.net.module import Net
from netspec.ops import REGISTRY
from netspec.proto import caffe_pb2

FILLER = 'weight_filler { type: "gaussian" std: 0.5 } bias_filler { type: "gaussian" std: 0.5 }'


def made(text, phase=TRAIN, share=None, **options):
    torch.manual_seed(1)
    return Net(build(net(text), phase, **options), share)


def image(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def run(text, *, wrt="data", phase=TRAIN, shape=(2, 3, 8, 9)):
    """(blobs, gradients of the parameters and of the input) of the sum of squares of all outputs."""
    one = made(text, phase)
    x = image(*shape).requires_grad_()
    torch.manual_seed(7)
    blobs = one({wrt: x})
    sum(b.square().sum() for b in blobs.values()).backward()
    grads = {key: p.grad for key, p in one.named_parameters()}
    return blobs, {**grads, wrt: x.grad}


def equal(a, b):
    assert a.keys() == b.keys()
    for key in a:
        assert torch.equal(a[key], b[key]), key


# parameters

def test_a_name_of_many_dots():
    one = made(DATA + conv("." * 64, "data", 3))
    copy.deepcopy(one).train().double().load_state_dict(one.state_dict())
    with pytest.raises(Error, match=r"a name has at most 64 dots; rename it"):
        made(DATA + conv("." * 65, "data", 3))


def test_keys_are_layer_and_weight_or_bias_whatever_the_layer_is_called():
    names = ["conv1_1", "inception/3x3", "res2a.branch", "res2a", "a..b", ".c", "train", "graph", "a", "weight", "a.weight",
             "training", "a.training", "é x"]
    text, bottom = DATA, "data"
    for name in names:
        text, bottom = text + conv(name, bottom, 3, more=FILLER), name
    one, other = made(text), made(text)
    state = one.state_dict()
    assert list(state) and set(state) == {f"{name}.{part}" for name in names for part in ("weight", "bias")}
    assert len(list(one.parameters())) == 2 * len(names)
    for p in other.parameters():
        p.data.zero_()
    other.load_state_dict(state)
    assert torch.equal(one({"data": image(1, 3, 4, 5)})[names[-1]], other({"data": image(1, 3, 4, 5)})[names[-1]])
    assert set(one.layers_with_params()) == set(names)
    assert one.training and not one.eval().training
    twin = copy.deepcopy(one)
    twin.layers_with_params()["a"][0].data.zero_()
    assert one.layers_with_params()["a"][0].any()
    assert one.double().layers_with_params()["a"][0].dtype == torch.float64


def test_more_than_two_parameters_are_numbered():
    text = DATA + 'layer { name: "bn" type: "BatchNorm" bottom: "data" top: "bn" }' + conv("c", "bn", more="bias_term: false")
    assert set(made(text).state_dict()) == {"bn.0", "bn.1", "bn.2", "c.weight"}


def test_frozen_parameters_ask_for_no_gradient():
    one = made(DATA + conv("c", "data", extra="param { lr_mult: 0 } param { lr_mult: 2 }"))
    assert {slot.key: p.requires_grad for slot, p in one.parameters_by_slot()} == {"c.weight": False, "c.bias": True}


def test_shared_parameters_gradients_add_up():
    own = DATA + conv("a", "data", 3, more=FILLER) + conv("b", "a", 3, more=FILLER)
    pair = 'param { name: "w" } param { name: "b" }'
    tied = DATA + conv("a", "data", 3, pair, FILLER) + conv("b", "a", 3, pair, FILLER)
    separate, together = made(own), made(tied)
    assert set(together.state_dict()) == {"a.weight", "a.bias"}
    assert together.layers_with_params()["b"][0] is together.layers_with_params()["a"][0]
    with torch.no_grad():
        for layer in ("a", "b"):
            for mine, theirs in zip(separate.layers_with_params()[layer], together.layers_with_params()["a"], strict=True):
                mine.copy_(theirs)
    for one in (separate, together):
        one({"data": image(2, 3, 4, 5)})["b"].square().sum().backward()
    for i in (0, 1):
        parts = [separate.layers_with_params()[layer][i].grad for layer in ("a", "b")]
        torch.testing.assert_close(together.layers_with_params()["a"][i].grad, parts[0] + parts[1])


def test_permissive_sharing_reads_the_numbers_in_the_layers_own_shape():
    text = DATA.replace("dim: 8 dim: 9", "dim: 1 dim: 1") + conv("a", "data", 4, 'param { name: "w" }', FILLER) + \
        ('layer { name: "b" type: "InnerProduct" bottom: "data" top: "b" param { name: "w" share_mode: PERMISSIVE }'
         " inner_product_param { num_output: 4 bias_term: false } }")
    one = made(text)
    x = image(2, 3, 1, 1)
    blobs = one({"data": x})
    weight, bias = one.layers_with_params()["a"]
    torch.testing.assert_close(blobs["b"], blobs["a"].flatten(1) - bias)
    blobs["b"].sum().backward()
    torch.testing.assert_close(weight.grad[0].flatten(), x.sum(0).flatten())


def test_a_test_net_shares_the_train_nets_parameters():
    train = made(DATA + conv("a", "data", 3, 'param { name: "w" }', FILLER)
                 + conv("b", "a", 3, 'param { name: "w" lr_mult: 1 }', FILLER))
    test = made(DATA + conv("b", "data", 3, 'param { name: "w" }') + conv("new", "b", 2), share=train)
    assert test.layers_with_params()["b"][0] is train.layers_with_params()["a"][0]  # though 'a' is not there
    assert test.layers_with_params()["b"][1] is train.layers_with_params()["b"][1]
    with pytest.raises(Error, match=r"layer 'a'.*\[3, 3, 1, 1\] in net 'n' and \[7, 3, 1, 1\]"):
        made(DATA + conv("a", "data", 7), share=train)


# sizes

POOLED = DATA + conv("c", "data", more=FILLER) + relu("r", "c") + \
    'layer { name: "p" type: "Pooling" bottom: "c" top: "p" pooling_param { kernel_size: 2 stride: 2 } }\n' + \
    'layer { name: "s" type: "Crop" bottom: "c" bottom: "p" top: "s" crop_param { axis: 2 offset: 1 } }\n'


def test_sizes_may_change_from_call_to_call():
    one = made(POOLED)
    for n, h, w in ((2, 8, 9), (1, 31, 4), (3, 5, 5), (2, 8, 9)):
        blobs = one({"data": image(n, 3, h, w)}, ["p", "s"])
        assert blobs["p"].shape == blobs["s"].shape == (n, 4, -(-h // 2), -(-w // 2))
        fresh = made(POOLED)({"data": image(n, 3, h, w)}, ["p", "s"])
        equal(blobs, fresh)


@pytest.mark.parametrize("shape, words", [
    ((2, 5, 8, 9), "layer 'c' (Convolution): "),
    ((2, 3, 1, 1), "layer 's' (Crop): the crop leaves 'c' [2, 4, 1, 1]"),
    ((3, 8, 9), "layer 'c' (Convolution): "),
])
def test_sizes_that_do_not_fit_are_refused_before_any_arithmetic(shape, words, monkeypatch):
    one = made(POOLED)
    monkeypatch.setattr(REGISTRY["Convolution"], "forward", lambda *a: pytest.fail("ran"))
    with pytest.raises(Error) as caught:
        one({"data": image(*shape)})
    assert words in str(caught.value)


def test_a_fully_connected_layer_says_what_it_was_set_up_for():
    one = made(DATA + 'layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" '
               "inner_product_param { num_output: 2 } }")
    with pytest.raises(Error, match="layer 'ip' .*set up for 216 values.*480"):
        one({"data": image(1, 3, 10, 16)})


def test_missing_and_unknown_blobs_are_refused():
    one = made(loss())
    with pytest.raises(Error, match="needs the blob 'label'"):
        one({"data": image(2, 3, 8, 9)})
    with pytest.raises(Error, match="no blob 'los'; did you mean 'loss'"):
        made(DATA + conv("loss", "data"))({"data": image(2, 3, 8, 9)}, ["los"])


# in place

CHAIN = [("relu", "ReLU", ""), ("drop", "Dropout", ""), ("tanh", "TanH", ""),
         ("leaky", "ReLU", "relu_param { negative_slope: 0.1 }"), ("power", "Power", "power_param { power: 2 shift: 1 }"),
         ("sigmoid", "Sigmoid", ""), ("elu", "ELU", "")]


def chain(layers, in_place):
    text, blob = DATA + conv("c", "data", more=FILLER), "c"
    for name, kind, settings in layers:
        top = blob if in_place else name
        text += f'layer {{ name: "{name}" type: "{kind}" bottom: "{blob}" top: "{top}" {settings} }}\n'
        blob = top
    return text + conv("end", blob, 2, more=FILLER)


@pytest.mark.parametrize("order", [(0,), (1,), (0, 1), (1, 0), (0, 1, 0), (2, 0), (3, 0, 1), (4, 0), (1, 1, 4), (5, 1), (6, 0, 1),
                                   (1, 4, 0)])
def test_in_place_chains_are_the_same_as_others(order):
    layers = [(f"{CHAIN[i][0]}{n}", *CHAIN[i][1:]) for n, i in enumerate(order)]
    apart, grads_apart = run(chain(layers, False))
    inside, grads_inside = run(chain(layers, True))
    equal(apart, inside)
    equal(grads_apart, grads_inside)
    assert inside["end"].any() and grads_inside["data"].any()


def test_memory_is_reused_only_where_nobody_reads_it():
    """The plan itself: a convolution's output may be overwritten, an input, or what a gradient reads, may not."""
    def plan(text):
        return {node.name: below is not None for node, below, _ in made(text)._steps}

    assert plan(chain(CHAIN[:2], True)) == {"c": False, "relu": True, "drop": False, "end": False}
    assert plan(chain(CHAIN[:2], False))["relu"] is False
    assert plan(DATA + relu("r", "data"))["r"] is False
    twice = DATA + conv("c", "data") + conv("d", "c") + relu("r", "c")
    assert plan(twice)["r"] is False


def test_the_caller_keeps_his_input():
    x = image(1, 3, 8, 9)
    before = x.clone()
    assert (made(DATA + relu("r", "data"))({"data": x})["data"] >= 0).all()
    assert torch.equal(x, before)


@pytest.mark.parametrize("phase", [TRAIN, caffe_pb2.TEST])
def test_a_blob_read_before_and_after_an_in_place_layer(phase):
    head = DATA + conv("c", "data", more=FILLER)
    tail = 'layer { name: "sum" type: "Eltwise" bottom: "before" bottom: "after" top: "sum" }'
    inside = head + conv("before", "c", 2, more=FILLER) + relu("r", "c") + conv("after", "c", 2, more=FILLER) + tail
    apart = head + conv("before", "c", 2, more=FILLER) + relu("r", "c", "r") + conv("after", "r", 2, more=FILLER) + tail
    a, b = run(inside, phase=phase), run(apart, phase=phase)
    equal(a[0], b[0])
    equal(a[1], b[1])


def test_in_place_without_gradients():
    text = chain(CHAIN[:4], True)
    one = made(text)
    with torch.no_grad():
        torch.manual_seed(7)
        a = one({"data": image(2, 3, 8, 9)})
    equal(a, {k: v.detach() for k, v in run(text)[0].items()})
    with torch.inference_mode():
        torch.manual_seed(7)
        equal(a, one({"data": image(2, 3, 8, 9)}))


# blobs

def test_wanted_blobs_are_returned_and_outputs_by_default():
    one = made(chain(CHAIN[:1], False))
    x = {"data": image(1, 3, 4, 5)}
    assert set(one(x)) == {"end"}
    found = one(x, ["relu", "c", "data"])
    assert set(found) == {"relu", "c", "data"}
    assert torch.equal(found["relu"], found["c"].relu()) and found["data"] is x["data"]
    inside = made(chain(CHAIN[:1], True))(x, ["c"])["c"]
    assert torch.equal(inside, found["relu"])  # the last version
    assert one(x, []) == {}


def test_blobs_are_dropped_when_nobody_reads_them_any_more(monkeypatch):
    kept, first = [], []
    forward = REGISTRY["Convolution"].forward

    def watch(self, bottoms, params):
        tops = forward(self, bottoms, params)
        kept.append(sum(ref() is not None for ref in first))
        first.append(weakref.ref(tops[0]))
        return tops

    text, bottom = DATA, "data"
    for name in "abcde":
        text, bottom = text + conv(name, bottom), name
    one = made(text)
    monkeypatch.setattr(REGISTRY["Convolution"], "forward", watch)
    with torch.inference_mode():
        one({"data": image(1, 3, 4, 5)})
    assert kept == [0, 1, 1, 1, 1]  # only its own bottom is alive beside


# losses

def labels():
    return torch.from_numpy(np.random.default_rng(0).integers(0, 4, (2, 1, 8, 9)).astype(np.float32))


def test_several_losses_and_one_on_an_inner_top():
    text = loss() + ('layer { name: "norm" type: "Reduction" bottom: "c" top: "norm" loss_weight: 0.01 '
                     "reduction_param { operation: SUMSQ axis: 1 } }\n"
                     'layer { name: "half" type: "Power" bottom: "norm" top: "half" power_param { scale: 0.5 } }\n')
    one = made(text.replace("kernel_size: 1 ", "kernel_size: 1 " + FILLER))
    assert dict(one.losses) == {"loss": 1.0, "norm": pytest.approx(0.01)}
    blobs = one({"data": image(2, 3, 8, 9), "label": labels()})
    assert set(blobs) == {"loss", "half", "norm"}  # a loss is there though another layer reads it
    torch.testing.assert_close(one.loss(blobs), blobs["loss"] + 0.01 * blobs["norm"].sum())
    one.loss(blobs).backward()
    both = one.layers_with_params()["c"][0].grad.clone()
    one.zero_grad()
    again = one({"data": image(2, 3, 8, 9), "label": labels()})
    parts = torch.autograd.grad(again["loss"], one.layers_with_params()["c"][0], retain_graph=True)[0] + \
        torch.autograd.grad(0.01 * again["norm"].sum(), one.layers_with_params()["c"][0])[0]
    torch.testing.assert_close(both, parts)


def test_a_net_without_losses_has_objective_zero():
    one = made(DATA + conv("c", "data"))
    assert one.loss(one({"data": image(1, 3, 4, 5)})).item() == 0


def test_propagate_down_false_stops_the_gradient():
    head = LABEL + conv("a", "data", 4, more=FILLER)
    for told, moved in (("", True), ("propagate_down: false propagate_down: false", False)):
        one = made(head + f'layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "a" bottom: "label" top: "loss" {told} }}')
        objective = one.loss(one({"data": image(2, 3, 8, 9), "label": labels()}))
        assert objective.requires_grad == moved
        assert objective.item() > 0


def test_accumulated_gradients_are_those_of_one_big_batch():
    text = LABEL + conv("c", "data", 6, more=FILLER) + relu("r", "c") + conv("score", "c", 4, more=FILLER) + \
        ('layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" '
         "loss_param { normalization: NONE ignore_label: 255 } }")
    whole, parts = made(text), made(text)
    data, label = image(2, 3, 8, 9), labels()
    label[0, 0, :4] = 255
    whole.loss(whole({"data": data, "label": label})).backward()
    for i in (0, 1):
        parts.loss(parts({"data": data[i : i + 1], "label": label[i : i + 1]})).backward()
    for (key, a), (_, b) in zip(whole.named_parameters(), parts.named_parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, msg=key)


def test_half_precision_keeps_losses_and_parameters_in_float32():
    one = made(loss().replace("kernel_size: 1 ", "kernel_size: 1 " + FILLER))
    exact = one({"data": image(2, 3, 8, 9), "label": labels()})["loss"]
    one.precision = torch.bfloat16
    blobs = one({"data": image(2, 3, 8, 9), "label": labels()}, ["c"])
    assert blobs["c"].dtype == torch.bfloat16 and blobs["loss"].dtype == torch.float32
    one.loss(blobs).backward()
    assert all(p.dtype == p.grad.dtype == torch.float32 for p in one.parameters())
    assert blobs["loss"].item() == pytest.approx(exact.item(), rel=0.02)


@pytest.mark.parametrize("kind", ["BatchNorm", "BN"])
def test_statistics_do_not_begin_with_what_memory_holds(kind, monkeypatch):
    one = made(DATA + f'layer {{ name: "bn" type: "{kind}" bottom: "data" top: "bn" }}')
    monkeypatch.setattr(torch, "empty_like", lambda like: torch.full_like(like, float("nan")))
    one({"data": image(2, 3, 8, 9)})
    assert all(p.isfinite().all() for p in one.parameters())


# memory

def test_what_no_memory_holds_is_refused_before_it_is_made(monkeypatch):
    monkeypatch.setattr(machine, "room", lambda device: 1e8)
    with pytest.raises(Error, match=r"the parameters of net '.*' take 160.0 MB and cpu has 100.0 MB; make its layers smaller"):
        made(DATA + conv("c", "data", 10**7))
    one = made(DATA + conv("a", "data", 4) + relu("r", "a") + conv("b", "a", 4) + conv("c", "b", 4), shapes={"data": (1, 3, 2000, 2000)})
    with pytest.raises(Error, match=r"blobs of net '.*' take at least 128.0 MB and cpu has 100.0 MB; take smaller images or ba"):
        one(torch.empty(1, 1).expand(1, 3, 2000, 2000))
    one(image(1, 3, 8, 8))
    one.bfloat16()(torch.empty(1, 1, dtype=torch.bfloat16).expand(1, 3, 2000, 8))  # of two bytes a number


def test_what_shows_anothers_memory_needs_none(monkeypatch):
    monkeypatch.setattr(machine, "room", lambda device: 1e8)
    text = "".join(f'layer {{ name: "s{i}" type: "Split" bottom: "data" top: "s{i}" }}\n' for i in range(9))
    x = torch.zeros(1, 3, 2000, 2000)  # 48 MB
    assert all(y.data_ptr() == x.data_ptr() for y in made(DATA + text)(x).values())
