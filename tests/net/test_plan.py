"""A plan gives what its net gives, with every rewrite and without each, as long as parameters are what they were."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from fork_cases import CASES as FORKS
from golden_case import load, load_all
from ops.test_golden import layer, made

import netspec
from netspec.base import machine
from netspec.base.errors import Error
from netspec.net import kernels, rewrite, route, weights
from netspec.net.deploy import deploy
from netspec.net.module import Net
from netspec.net.passes import REWRITES
from netspec.net.plan import Plan
from netspec.pycaffe import net as caffe

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden"
CASES = {path.stem: load(path) for path in sorted((GOLDEN / "layers").glob("*.prototxt"))}
CASES |= load_all(GOLDEN / "settings.npz")
CASES |= FORKS
DENSE = {"pack", "window", "tile", "fold", "norm", "idle"}  # what FCN has no layers for, or float64 no kernels


def net_of(name, seed=0):
    net = Net(deploy(ROOT / "models" / name / "deploy.prototxt")).eval()
    rewrite.randomise(net, seed)
    weights.ready(net)
    return net.double()


def image(net, *size, seed=0, batch=1):
    channels = net.graph.shape(net.graph.inputs[0])[1]
    return torch.randn(batch, channels, *size, generator=torch.Generator().manual_seed(seed)).to(net.dtype) * 50


def run(call, x, blobs):
    with torch.inference_mode():
        return call({call.graph.inputs[0]: x}, blobs)


def differ(plan, net, x, blobs=("score",)):
    """The largest difference, in parts of the largest number of each blob."""
    mine, theirs = run(plan, x, blobs), run(net, x, blobs)
    assert {*mine} == {*theirs} >= {*blobs}
    worst = 0.0
    for blob in theirs:
        assert mine[blob].shape == theirs[blob].shape and mine[blob].dtype == theirs[blob].dtype
        worst = max(worst, float((mine[blob] - theirs[blob]).abs().max() / theirs[blob].abs().max()))
    return worst


@pytest.fixture(scope="module")
def fcn():
    return net_of("shapes-fcn8s")


@pytest.mark.parametrize("size", [(97, 131), (64, 64), (40, 173), (161, 60), (65, 63)])
def test_a_plan_gives_what_the_net_gives_at_any_size(fcn, size):
    plan = Plan(fcn)
    assert differ(plan, fcn, image(fcn, *size)) < 1e-12
    assert differ(plan, fcn, image(fcn, *size, seed=1, batch=2)) < 1e-12  # and another image, with the border known
    assert differ(plan, fcn, image(fcn, *size, seed=2, batch=2)) < 1e-12


@pytest.mark.parametrize("without", [*([name] for name in REWRITES if name not in DENSE), [*REWRITES], ["crop", "border"]], ids=str)
def test_each_rewrite_can_be_left_out(fcn, without, monkeypatch):
    """That they are done, and the others, see test_passes.py."""
    monkeypatch.setattr(route, "BAND", 1 << 14)
    plan = Plan(fcn, without)
    assert differ(plan, fcn, image(fcn, 75, 90)) < 1e-12
    assert differ(plan, fcn, image(fcn, 90, 75), ["score", "pool3", "fc7", "upscore2"]) < 1e-12


@pytest.mark.parametrize("numbers, size", [(1 << 11, (97, 131)), (1 << 14, (70, 64)), (1 << 17, (200, 60)), (1 << 12, (40, 40))])
def test_maps_in_bands(fcn, monkeypatch, numbers, size):
    monkeypatch.setattr(route, "BAND", numbers)
    plan = Plan(fcn)
    assert differ(plan, fcn, image(fcn, *size, batch=2)) < 1e-12
    assert differ(plan, fcn, image(fcn, *size, batch=2, seed=1), ["pool1", "score", "pool4"]) < 1e-12
    assert any(stage.bands for way in plan._routes.values() for stage in way[0].stages)


@pytest.mark.parametrize("blobs", [["pool1"], ["conv1_1"], ["pool3", "score"], ["upscore8"], ["score_pool3c", "fc6"]])
def test_any_blob_can_be_asked_for(fcn, blobs):
    assert differ(Plan(fcn), fcn, image(fcn, 61, 50), blobs) < 1e-12


def test_the_border_is_not_computed_again(fcn):
    """Not the numbers alone are right: most of the multiplications are gone."""
    plan = Plan(fcn)
    run(plan, image(fcn, 64, 64), ["score"])
    ((way, small),) = plan._routes.values()
    assert small and way.ratio < 0.6 and len(way.pasted) >= 3
    plain = Plan(fcn, {"border"})
    run(plain, image(fcn, 64, 64), ["score"])
    ((way, small),) = plain._routes.values()
    assert not small and not way.pasted and 0.9 < way.ratio < 1  # what crops leave


@pytest.mark.parametrize("name, size", [
    ("voc-fcn-alexnet", (67, 80)), ("voc-fcn-googlenet", (50, 41)), ("googlenet", (224, 224)),
    pytest.param("voc-fcn32s", (20, 35), marks=pytest.mark.slow)])
def test_nets_of_models(name, size):
    net = net_of(name)
    outputs = net.graph.outputs
    before = [b.blob for node in net.graph.nodes if set(outputs) & {t.blob for t in node.tops} for b in node.bottoms][:1]
    assert differ(Plan(net), net, image(net, *size), [*outputs, *before]) < 1e-12


@pytest.mark.parametrize("name", CASES)
def test_every_layer_type(name):
    case = CASES[name]
    net = case.build().double().eval()
    inputs = {k: torch.from_numpy(v).double() for k, v in case.part("in").items()}
    outputs = net.graph.outputs
    with torch.inference_mode():
        torch.manual_seed(0)
        theirs = copy.deepcopy(net)(inputs, want=outputs)
        torch.manual_seed(0)
        mine = Plan(net)(inputs, outputs)
    for blob in outputs:
        np.testing.assert_allclose(mine[blob].detach().numpy(), theirs[blob].detach().numpy(), rtol=1e-10, atol=1e-10)


CONV = 'layer { name: "c" type: "Convolution" bottom: "x" top: "y" convolution_param { num_output: 5 kernel_size: 3 %s } }\n'
BEHIND = [
    ('layer { name: "b" type: "BatchNorm" bottom: "y" top: "y" }\nlayer { name: "s" type: "Scale" bottom: "y" top: "y" '
     'scale_param { bias_term: true } }\nlayer { name: "r" type: "ReLU" bottom: "y" top: "y" }', 1),
    ('layer { name: "s" type: "Scale" bottom: "y" top: "z" scale_param { axis: 2 num_axes: 1 } }', 2),  # not by channel
    ('layer { name: "s" type: "Bias" bottom: "y" top: "z" }', 1),
    ('layer { name: "b" type: "BatchNorm" bottom: "y" top: "y" batch_norm_param { use_global_stats: false } }', 2),
    ('layer { name: "r" type: "ReLU" bottom: "y" top: "z" relu_param { negative_slope: 0.1 } }', 2),
    ('layer { name: "r" type: "ReLU" bottom: "y" top: "z" }\nlayer { name: "t" type: "TanH" bottom: "y" top: "t" }', 3)]


@pytest.mark.parametrize("text, left", BEHIND)
@pytest.mark.parametrize("settings", ["", "bias_term: false", "stride: 2 dilation: 2 pad: 1", "group: 1 pad_h: 2 pad_w: 0"])
@pytest.mark.parametrize("kind", ["Convolution", "Deconvolution"])
def test_what_stands_behind_a_convolution_is_done_by_it(text, left, settings, kind):
    net = made(CONV.replace("Convolution", kind, 1) % settings + text, (2, 4, 9, 9)).eval().double()
    rewrite.randomise(net)
    plan, outputs = Plan(net), net.graph.outputs
    assert differ(plan, net, image(net, 9, 9, batch=2), outputs) < 1e-12
    ((way, _),) = plan._routes.values()
    assert len(way.stages) == left


BRANCHES = """
layer { name: "a" type: "Convolution" bottom: "x" top: "a" convolution_param { num_output: 4 kernel_size: 3 pad: %d } }
layer { name: "b" type: "BatchNorm" bottom: "a" top: "a" }
layer { name: "c" type: "Convolution" bottom: "x" top: "c" convolution_param { num_output: 4 kernel_size: 1 pad: %d } }
layer { name: "e" type: "Eltwise" bottom: "%s" bottom: "%s" top: "e" eltwise_param { %s } }
layer { name: "r" type: "ReLU" bottom: "e" top: "e" }
layer { name: "p" type: "Pooling" bottom: "e" top: "p" pooling_param { kernel_size: 3 stride: 2 pad: 1 } }
layer { name: "d" type: "Convolution" bottom: "p" top: "d" convolution_param { num_output: 2 kernel_size: 3 } }
"""


@pytest.mark.parametrize("pads", [(1, 0), (21, 20)])  # with a border, too
@pytest.mark.parametrize("pair, settings, left", [
    (("a", "c"), "", 4), (("c", "a"), "", 4), (("a", "c"), "operation: MAX", 6), (("a", "c"), "coeff: 1 coeff: -1", 6)])
def test_a_sum_behind_a_convolution_is_done_by_it(pads, pair, settings, left):
    net = made(BRANCHES % (*pads, *pair, settings), (1, 4, 24, 31)).eval().double()
    rewrite.randomise(net)
    plan = Plan(net)
    assert differ(plan, net, image(net, 24, 31, batch=2), ["d"]) < 1e-12
    assert differ(plan, net, image(net, 24, 31, batch=2, seed=1), ["d"]) < 1e-12
    assert [len(way.stages) for way, _ in plan._routes.values()] == [left]
    assert differ(plan, net, image(net, 24, 31), ["d", "c"]) < 1e-12
    assert differ(Plan(net.float()), net, image(net, 24, 31), ["d"]) < 1e-5


def test_grouped_convolutions_and_diagonal_deconvolutions():
    text = (CONV.replace("num_output: 5", "num_output: 6") % "group: 2" + 'layer { name: "d" type: "Deconvolution" bottom: "y" '
            'top: "d" convolution_param { num_output: 6 kernel_size: 4 stride: 2 bias_term: false weight_filler { type: "bilinear" } } }')
    net = made(text, (1, 4, 9, 9)).eval()
    weights.ready(net)
    net.double()
    assert differ(Plan(net), net, image(net, 9, 9), ["d"]) < 1e-12
    with torch.no_grad():
        net.parameter(net.graph.params[-1])[0, 1] = 0.5  # no longer diagonal
    assert differ(Plan(net), net, image(net, 9, 9), ["d"]) < 1e-12


@pytest.mark.parametrize("dtype, bound", [(torch.float32, 1e-5), (torch.bfloat16, 0.03)])
def test_single_and_half_precision(dtype, bound):
    net = net_of("shapes-fcn8s").float()
    net.precision = None if dtype == torch.float32 else dtype
    plan, x = Plan(net), image(net, 64, 80)
    mine, theirs = (run(call, x, ["score"])["score"] for call in (plan, net))
    assert theirs.dtype == dtype and mine.dtype == torch.float32  # of upsampling, which is not rounded
    assert float((mine - theirs).abs().max() / theirs.abs().max()) < bound


def test_convolutions_of_very_many_weights_keep_no_copy_of_them(monkeypatch):
    net, copied = net_of("shapes-fcn8s").float(), []
    packed = kernels._packed
    monkeypatch.setattr(kernels, "_packed", lambda op, *rest: copied.append(op.layer.name) or packed(op, *rest))
    monkeypatch.setattr(kernels, "LARGE", net.get_parameter("fc7.weight").numel())
    assert differ(Plan(net), net, image(net, 61, 84)) < 1e-5
    assert copied and not {"fc6", "fc7"} & {*copied}


def test_a_changed_parameter_is_seen(fcn):
    net = copy.deepcopy(fcn)
    plan, x = Plan(net), image(net, 64, 64)
    before = run(plan, x, ["score"])["score"].clone()
    conv = net.graph.node("conv3_1").params[0]

    def changed():
        nonlocal before
        assert differ(plan, net, x) < 1e-12
        now = run(plan, x, ["score"])["score"].clone()
        assert not torch.equal(now, before)
        before = now

    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
    net.parameter(conv).grad = torch.ones_like(net.parameter(conv))
    optimizer.step()
    changed()
    net.load_state_dict({k: v * 1.01 for k, v in net.state_dict().items()})
    changed()
    with torch.no_grad():
        net.parameter(net.graph.node("conv1_1").params[1]).add_(1.0)  # what the border is made of
    changed()
    net.parameter(conv).data = net.parameter(conv).data * 1.5
    changed()
    other = net_of("shapes-fcn8s", seed=3)
    net.share(other)
    changed()
    weights.save(path := Path("weights.caffemodel"), net_of("shapes-fcn8s", seed=4).float())
    weights.load(path, net.layers_with_params())
    changed()


def test_a_write_through_an_array_of_pycaffe_is_seen():
    net = caffe.Net(str(ROOT / "models" / "shapes-fcn32s" / "deploy.prototxt"), netspec.TEST)
    rewrite.randomise(net._net)
    plan, x = Plan(net._net), torch.randn(1, 3, 40, 50) * 50
    weight = net.params["conv1_1"][0].data
    before = run(plan, x, ["score"])["score"].clone()
    weight[...] += 1
    assert differ(plan, net._net, x) < 1e-4
    assert not torch.equal(run(plan, x, ["score"])["score"], before)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_where_it_cannot_stand_for_the_net_the_net_runs(fcn):
    net = copy.deepcopy(fcn)
    plan, x = Plan(net), image(net, 40, 40)
    y = plan({"data": x.requires_grad_()}, ["score"])["score"]
    y.sum().backward()
    assert x.grad is not None and not plan._routes
    x = x.detach()
    seen = []
    handle = net.conv3_1.register_forward_hook(lambda module, bottoms, top: seen.append(top.shape))
    run(plan, x, ["score"])
    assert len(seen) == 1 and not plan._routes
    handle.remove()
    run(plan, x, ["score"])
    assert plan._routes


def test_a_net_with_labels_and_losses():
    path = ROOT / "models" / "shapes-fcn32s" / "val.prototxt"
    net = Net(deploy(path, losses=True)).eval().double()
    rewrite.randomise(net)
    inputs = {"data": torch.randn(1, 3, 60, 70).double() * 50, "label": torch.randint(0, 5, (1, 1, 60, 70)).double()}
    with torch.inference_mode():
        mine, theirs = Plan(net)(inputs, ["score"]), net(inputs, ["score"])
    assert {*mine} == {*theirs} > {"score"}
    for blob in theirs:
        torch.testing.assert_close(mine[blob], theirs[blob], rtol=1e-11, atol=1e-11)


def test_what_the_net_does_not_read_is_passed_over(fcn):
    x = image(fcn, 40, 40)
    with torch.inference_mode():
        assert torch.equal(Plan(fcn)({"data": x, "label": x})["score"], Plan(fcn)({"data": x})["score"])


@pytest.mark.parametrize("where", ["weights", "image"])
def test_nan_is_not_lost_on_the_way(where):
    """oneDNN's convolution with a ReLU behind it makes zeros of it, and labels of those look like any others."""
    net = Net(deploy(ROOT / "models" / "shapes-fcn8s" / "deploy.prototxt")).eval()
    x, plan = image(net, 96, 128), Plan(net)
    assert run(plan, x, ["score"])["score"].isfinite().all()
    with torch.no_grad():
        (next(net.parameters())[0] if where == "weights" else x[0, 0, :40]).fill_(np.nan)
    mine, theirs = run(plan, x, ["score"])["score"], run(net, x, ["score"])["score"]
    assert theirs.isnan().any() and torch.equal(mine.isnan(), theirs.isnan())


def test_bands_go_where_the_whole_net_has_no_room(monkeypatch):
    """The memory that a plan is held against is its own: maps that it makes in bands are not all there at once."""
    text = (layer("Convolution", "convolution_param { num_output: 16 kernel_size: 1 }", tops="a")
            + layer("Pooling", "pooling_param { kernel_size: 8 stride: 8 }", "a").replace('"l"', '"p"'))
    net, x = made(text, (1, 3, 1600, 1600)), torch.zeros(1, 3, 1600, 1600)
    monkeypatch.setattr(machine, "room", lambda device: 1e8)  # the map has 164 MB, the image 31
    with torch.no_grad():
        Plan(net.eval())({"x": x})
        with pytest.raises(Error, match=r"take at least 19\d.\d MB and cpu has 100.0 MB"):
            net({"x": x})
        with pytest.raises(Error, match=r"take at least 163.8 MB and cpu has 100.0 MB"):
            Plan(net)({"x": x}, ["a"])
