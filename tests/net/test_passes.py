"""Each rewrite of a plan is done, and is not where it is left out; the numbers are the net's in float64 all the same: in float64,
in float32 (which alone is packed) to 1e-5; and padding beside rows, in bf16, is held against float32."""

import pytest
import torch
from ops.test_golden import made

from net.test_plan import run
from netspec.net import kernels, rewrite, route
from netspec.net.passes import REWRITES
from netspec.net.plan import Plan
from netspec.net.regions import area, whole

TEXT = """
layer { name: "c" type: "Convolution" bottom: "x" top: "c" convolution_param { num_output: 8 kernel_size: 3 pad: 40 } }
layer { name: "b" type: "BatchNorm" bottom: "c" top: "c" }
layer { name: "r" type: "ReLU" bottom: "c" top: "c" }
layer { name: "p" type: "Pooling" bottom: "c" top: "p" pooling_param { kernel_size: 3 stride: 2 } }
layer { name: "n" type: "LRN" bottom: "p" top: "n" lrn_param { local_size: 3 alpha: 0.5 } }
layer { name: "d" type: "Dropout" bottom: "n" top: "d" }
layer { name: "s" type: "Convolution" bottom: "d" top: "s" convolution_param { num_output: 5 kernel_size: 1 } }
layer { name: "f" type: "Convolution" bottom: "s" top: "f" convolution_param { num_output: 5 kernel_size: 3 } }
layer { name: "q" type: "ReLU" bottom: "f" top: "f" }
layer { name: "t" type: "Convolution" bottom: "d" top: "t" convolution_param { num_output: 2 kernel_size: 1 } }
layer { name: "u" type: "Deconvolution" bottom: "f" top: "u" convolution_param { num_output: 5 kernel_size: 4 stride: 2 bias_term: false } }
layer { name: "k" type: "Crop" bottom: "u" bottom: "x" top: "k" crop_param { axis: 2 offset: 20 } }
"""
LAYERS = {"dead": "t", "idle": "d", "fold": "b", "fuse": "q"}  # a rewrite -> a layer that does not run by itself then
CALLS = {"pack": "_packed", "window": "_windowed", "pool": "_maxima", "norm": "_normalised", "group": "own"}
WITH = {"crop": ["border", "bands"], "pack": ["window"]}  # what is not done either where this is left out
X = torch.randn(2, 3, 30, 41, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture
def net():
    net = made(TEXT, X.shape).eval()
    rewrite.randomise(net)
    with torch.no_grad():
        net.u.weight.mul_(torch.eye(5)[:, :, None, None])
    return net


@pytest.mark.parametrize("dtype, bound", [(torch.float64, 1e-13), (torch.float32, 1e-5)])
@pytest.mark.parametrize("without", [[], *([name] for name in REWRITES if name != "tile"), [*REWRITES]], ids=str)
def test_each_rewrite_is_done_unless_it_is_left_out(net, without, dtype, bound, monkeypatch):
    monkeypatch.setattr(route, "BAND", 1 << 14)
    calls = set()
    for name in CALLS.values():
        plain = getattr(kernels, name)
        monkeypatch.setattr(kernels, name, lambda *args, plain=plain, name=name: calls.add(name) or plain(*args))
    plan = Plan(net.to(dtype), without)
    mine, theirs = run(plan, X.to(dtype), ["k"])["k"], run(net.double(), X, ["k"])["k"]
    assert float((mine.double() - theirs).abs().max() / theirs.abs().max()) < bound
    ((way, _),) = plan._routes.values()
    stages = [*way.stages, *(inner for stage in way.stages for band, _ in stage.bands for inner in band)]
    run_alone = {stage.unit.node.name for stage in stages}
    (upsampled,) = (top for stage in stages for top in stage.unit.tops if top.blob == "u")
    done = {name for name, layer in LAYERS.items() if layer not in run_alone}
    done |= {name for name, call in CALLS.items() if call in calls}
    done |= {"border"} if way.pasted else set()
    done |= {"bands"} if any(stage.bands for stage in stages) else set()
    done |= {"crop"} if area(way.held[upsampled]) < area(whole(way.shapes[upsampled])) else set()
    packs = kernels.packable(torch.empty(0, dtype=dtype))
    can = {*REWRITES} - {"tile"} - (set() if packs else {"pack", "window"})
    assert done == can - {*without} - {other for name in without for other in WITH.get(name, ())}


@pytest.mark.skipif(not kernels.packable(torch.empty(0, dtype=torch.bfloat16)), reason="bf16 is not packed here, so nothing gets padding")
@pytest.mark.parametrize("without", [[], ["tile"]], ids=str)
def test_padding_beside_rows(net, without, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    monkeypatch.setattr(kernels, "TILED", (1, 1))
    order, pads = torch.ops.mkldnn._reorder_convolution_weight, []
    monkeypatch.setattr(torch.ops.mkldnn, "_reorder_convolution_weight", lambda w, pad, *rest: pads.append(pad) or order(w, pad, *rest))
    net.precision = torch.bfloat16
    mine = run(Plan(net, without), X.float(), ["k"])["k"]
    net.precision = None
    theirs = run(net, X.float(), ["k"])["k"]
    assert float((mine - theirs).abs().max() / theirs.abs().max()) < 0.03
    assert any(wide > high for high, wide in pads) == (not without)
