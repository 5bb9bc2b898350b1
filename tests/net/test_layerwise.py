"""Passes layer by layer: every blob's data and diff, parameters' gradients and debug_info as Caffe's own."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from golden_case import close, load_all

from netspec.net.build import build
from netspec.net.layerwise import Layerwise
from netspec.net.module import Net
from netspec.proto import caffe_pb2
from netspec.proto import text as prototext
from netspec.train.display import DebugInfo

PACKED = Path(__file__).parents[1] / "golden" / "passes.npz"
CASES = load_all(PACKED)
with np.load(PACKED) as packed:
    LINES = {name: entry["lines"] for name, entry in json.loads(packed["index"].tobytes()).items()}
X = 'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: [2, 1, 1, 2] } } }'
LEARNED = """layer {{ name: "scale" type: "Scale" bottom: "x" top: "x" param {{ lr_mult: {} }} }}"""
NUMBER = re.compile(r"-?\d[\d.]*(?:e[-+]?\d+)?")


def opened(case):
    """The net of a case with its inputs, parameters and the diffs of its tops."""
    run = Layerwise(case.build())
    for name, value in case.part("in").items():
        run.blobs[name].data[...] = value
    for name, value in case.part("topdiff").items():
        run.blobs[name].diff[...] = value
    return run


def made(text, phase=caffe_pb2.TEST):
    return Layerwise(Net(build(prototext.parse(text, caffe_pb2.NetParameter), phase)))


@pytest.mark.parametrize("name", CASES)
def test_every_blob_is_as_caffe_leaves_it(name):
    case = CASES[name]
    run = opened(case)
    run.forward()
    run.backward()
    for blob, value in case.part("out").items():
        close(f"out:{blob}", run.blobs[blob].data, value)
    for blob, value in case.part("diff").items():
        if not (name == "bn" and blob == "x"):  # Caffe's BatchNorm fills in a diff that nobody asked for
            close(f"diff:{blob}", run.blobs[blob].diff, value)
    for key, value in case.part("paramdiff").items():
        layer, index = key.rsplit(":", 1)
        close(f"paramdiff:{key}", run.params[layer][int(index)].diff, value)


@pytest.mark.parametrize("name", CASES)
def test_debug_info_says_what_caffe_says(name):
    run, said = opened(CASES[name]), []
    run.watch = DebugInfo(lambda where, line, level: said.append(line))
    run.forward()
    run.backward()
    caffe = LINES[name]
    if name.startswith("auto"):  # Caffe gives automatic tops no name of their own
        said = [line.replace("top blob loss (automatic)", "top blob (automatic)") for line in said]
    assert [NUMBER.sub("#", line) for line in said] == [NUMBER.sub("#", line) for line in caffe]
    for ours, theirs in zip(said, caffe, strict=True):
        a, b = ([float(n) for n in NUMBER.findall(line)] for line in (ours, theirs))
        assert a == pytest.approx(b, rel=2e-4, abs=1e-6), f"{ours} | {theirs}"


@pytest.mark.parametrize("name", [name for name in CASES if name.endswith("_forced")])
def test_equals_the_compiled_net(name):
    case = CASES[name]
    run = opened(case)
    run.forward()
    run.backward()
    net = case.build()
    inputs = {k: torch.from_numpy(v).requires_grad_() for k, v in case.part("in").items()}
    blobs = net(inputs)
    objective = net.loss(blobs) + sum((blobs[k] * torch.from_numpy(v)).sum() for k, v in case.part("topdiff").items())
    objective.backward()
    for a, b in zip(net.parameters(), run.net.parameters(), strict=True):
        if not a.requires_grad:
            continue
        np.testing.assert_allclose(a.grad, b.grad, rtol=1e-5, atol=1e-6)
    for blob, x in inputs.items():
        if x.grad is not None:
            np.testing.assert_allclose(x.grad, run.blobs[blob].diff, rtol=1e-5, atol=1e-6)


INPUT = 'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }\n'


def test_a_pass_backward_without_one_forward_takes_the_data_as_they_are():
    run = made('force_backward: true\n' + INPUT +
               'layer { name: "p" type: "Power" bottom: "x" top: "y" power_param { power: 2 } }')
    run.blobs["x"].data[...] = 3
    run.blobs["y"].diff[...] = 1
    run.backward()
    assert (run.blobs["x"].diff == 6).all() and (run.blobs["y"].data == 0).all()


def test_blobs_do_not_share_memory_where_operations_pass_their_bottom_on():
    run = made(INPUT + 'layer { name: "d" type: "Dropout" bottom: "x" top: "d" }'
               'layer { name: "s" type: "Split" bottom: "d" top: "a" top: "b" }'
               'layer { name: "c" type: "Slice" bottom: "b" top: "e" top: "f" slice_param { slice_point: 1 } }')
    run.blobs["x"].data[...] = 5
    run.forward()
    for blob in run.blobs.values():
        assert (blob.data == 5).all()
    for i, blob in enumerate(run.blobs.values()):
        blob.data[...] = i
    assert [set(blob.data.ravel()) for blob in run.blobs.values()] == [{i} for i in range(len(run.blobs))]


def test_gradients_that_autograd_shares_are_apart():
    run = made('force_backward: true\n' + INPUT + INPUT.replace('"x"', '"z"').replace('"in"', '"in2"') +
               'layer { name: "e" type: "Eltwise" bottom: "x" bottom: "z" top: "y" }')
    run.forward()
    run.blobs["y"].diff[...] = 2
    run.backward()
    run.blobs["x"].diff[...] = 7
    assert (run.blobs["z"].diff == 2).all() and (run.blobs["y"].diff == 2).all()


def test_in_place_layers_keep_what_their_gradient_needs_when_arrays_are_held():
    text = ('force_backward: true\n' + INPUT + 'layer { name: "p" type: "Power" bottom: "x" top: "y" power_param { scale: 1 } }'
            'layer { name: "l" type: "PReLU" bottom: "y" top: "y" prelu_param { filler { value: 0.5 } } }')
    run = made(text)
    held = run.blobs["y"].data
    for value, gradient in ((-2, 0.5), (4, 1), (-3, 0.5)):
        run.blobs["x"].data[...] = value
        run.forward()
        assert (held == value * gradient).all()
        run.blobs["y"].diff[...] = 1
        run.params["l"][0].diff[...] = 0
        run.backward()
        assert (run.blobs["x"].diff == gradient).all()
        assert (run.params["l"][0].diff == (2 * value if value < 0 else 0)).all()


@pytest.mark.parametrize("kind", ["ReLU", "ELU", "Sigmoid", "TanH", "Softmax", "Exp", "BNLL", "PReLU", "MVN", "Power"])
def test_a_layer_in_place_spoils_no_gradient_of_the_layer_below(kind):
    """Caffe's backward pass reads what was overwritten."""
    def gradients(top):
        run = made(f"""force_backward: true {X} layer {{ name: "below" type: "{kind}" bottom: "x" top: "y"
                power_param {{ power: 2 }} }}
            layer {{ name: "scale" type: "Scale" bottom: "y" top: "{top}" scale_param {{ filler {{ value: -2 }} }} }}
            layer {{ name: "loss" type: "Reduction" bottom: "{top}" top: "loss" loss_weight: 1
                reduction_param {{ operation: SUMSQ }} }}""")
        x = run.blobs["x"].data[...] = np.array([-1, 2, 0.5, -3]).reshape(2, 1, 1, 2)
        run.forward()
        run.backward()
        given = {"x": torch.tensor(x, dtype=torch.float32).requires_grad_()}
        run.net.loss(run.net(given)).backward()
        return run.blobs["x"].diff.copy(), given["x"].grad.numpy()

    for found, fast in (gradients("y"), gradients("z")):
        np.testing.assert_allclose(found, gradients("z")[1], rtol=1e-5)
        np.testing.assert_allclose(fast, gradients("z")[1], rtol=1e-5)


@pytest.mark.parametrize("below, layer", [
    ("", 'type: "BatchNorm"'),
    (LEARNED.format(0), 'type: "BatchNorm"'),
    (LEARNED.format(1), 'type: "BatchNorm" propagate_down: false'),
    (LEARNED.format(1), 'type: "BatchNorm"'),
    ("", 'type: "BN" bn_param { momentum: 0.5 }'),
], ids=["on data", "over what is fixed", "propagating nothing", "over what learns", "of PSPNet"])
@pytest.mark.parametrize("force", [False, True], ids=["", "forced"])
def test_a_layer_changes_its_parameters_once_a_pass(below, layer, force):
    run = made(f"""force_backward: {str(force).lower()} {X} {below}
        layer {{ name: "bn" bottom: "x" top: "bn" {layer} }}
        layer {{ name: "ip" type: "InnerProduct" bottom: "bn" top: "ip" inner_product_param {{ num_output: 1
          weight_filler {{ type: "xavier" }} }} }}
        layer {{ name: "loss" type: "Reduction" bottom: "ip" top: "loss" loss_weight: 1 }}""", caffe_pb2.TRAIN)
    run.blobs["x"].data[...] = np.arange(1, 5).reshape(2, 1, 1, 2)
    kept = run.params["bn"]
    before = [blob.data.copy() for blob in kept]
    run.backward()
    for blob, value in zip(kept, before, strict=True):  # backward alone moves nothing
        close("kept", blob.data, value)
    for _ in range(2):
        run.forward()
        after = [blob.data.copy() for blob in kept]
        run.backward()
        run.backward()
        for blob, value in zip(kept, after, strict=True):
            close("kept", blob.data, value)
    if len(kept) == 3:
        close("weight", kept[2].data, np.array([1.999], np.float32))
    if not below and len(kept) == 3:
        close("mean", kept[0].data, np.array([4.9975], np.float32))
        close("variance", kept[1].data, np.array([5 / 3 * 1.999], np.float32))


def test_a_layer_without_tops_runs_once_a_pass(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = made(f"""force_backward: true {X} layer {{ name: "out" type: "HDF5Output" bottom: "x" bottom: "x"
        hdf5_output_param {{ file_name: "out.h5" }} }}""")
    run.forward()
    run.backward()
    with pytest.importorskip("h5py").File("out.h5") as file:
        assert len(file["data"]) == 2


def test_statistics_that_a_pass_moves_count_as_changed():
    """Who keeps what follows from parameters looks at torch's count."""
    text = X + 'layer { name: "n" type: "BatchNorm" bottom: "x" top: "y" }'
    net = Net(build(prototext.parse(text, caffe_pb2.NetParameter), caffe_pb2.TRAIN))
    before = [p._version for p in net.parameters()]
    Layerwise(net).run({"x": torch.randn(2, 1, 1, 2)})
    assert all(p._version > version for p, version in zip(net.parameters(), before, strict=True))
