"""The parity command: agreement on Caffe's own results, and planted mistakes found at the layer where they are."""

import re
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

import netspec as caffe
from netspec.check import parity
from netspec.cli import main as cli

LAYERS = Path(__file__).parents[1] / "golden" / "layers"
NAMES = sorted(path.stem for path in LAYERS.glob("*.prototxt"))
NET = """name: "net"
layer { name: "data" type: "Python" top: "data" top: "label" python_param { module: "not_here" layer: "Data" } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1" param { lr_mult: 0 } param { lr_mult: 0 }
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "score" type: "Convolution" bottom: "pool1" top: "score" convolution_param { num_output: 3 kernel_size: 1 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" }
"""


@pytest.fixture
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def made(tmp_path, monkeypatch, one_thread):
    """A folder with net.prototxt, w.caffemodel, and the results of a run of them in `results`."""
    monkeypatch.chdir(tmp_path)
    Path("net.prototxt").write_text(NET)
    plain = NET.replace('type: "Python"', 'type: "Input"').replace(
        'python_param { module: "not_here" layer: "Data" }',
        "input_param { shape { dim: 2 dim: 3 dim: 6 dim: 8 } shape { dim: 2 dim: 1 dim: 3 dim: 4 } }")
    Path("plain.prototxt").write_text("force_backward: true\n" + plain)
    net = caffe.Net("plain.prototxt", caffe.TEST)
    rng = np.random.default_rng(1)
    results = {}
    for layer, blobs in net.params.items():
        for i, blob in enumerate(blobs):
            blob.data[...] = rng.standard_normal(blob.shape)
            results[f"param:{layer}:{i}"] = blob.data.copy()
    results["in:data"] = rng.standard_normal((2, 3, 6, 8)).astype(np.float32)
    results["in:label"] = rng.integers(0, 3, (2, 1, 3, 4)).astype(np.float32)
    net.forward(data=results["in:data"], label=results["in:label"])
    net.backward()
    net.save("w.caffemodel")
    for blob in ("conv1", "pool1", "score", "loss"):
        results[f"out:{blob}"] = net.blobs[blob].data.copy()
    for layer, blobs in net.params.items():
        for i, blob in enumerate(blobs):
            results[f"paramdiff:{layer}:{i}"] = blob.diff.copy()
    results["indiff:data"] = net.blobs["data"].diff.copy()
    return results


def run(capsys, results, *args, net="net.prototxt"):
    np.savez("results.npz", **results)
    status = cli.main(["parity", net, "results.npz", *args])
    out, err = capsys.readouterr()
    return status, out, err


@pytest.mark.parametrize("name", NAMES)
def test_every_layer_agrees_with_caffe(name, one_thread):
    found = parity.compare(LAYERS / f"{name}.prototxt", dict(np.load(LAYERS / f"{name}.npz")))
    assert found.rows and found.first is None, found.table()
    kinds = {row.key.split(":")[0] for row in found.rows}
    assert kinds == {key.split(":")[0] for key in np.load(LAYERS / f"{name}.npz").files} & set(parity.KINDS[3:])


def test_a_net_whose_data_layer_is_not_there(made, capsys):
    status, out, err = run(capsys, made)
    assert (status, err) == (0, "")
    rows = [line.split()[0] for line in out.splitlines()[2:-1]]
    assert rows == ["out:conv1", "out:pool1", "out:score", "out:loss", "paramdiff:score:0", "paramdiff:score:1",
                    "paramdiff:conv1:0", "paramdiff:conv1:1", "indiff:data"]
    assert out.splitlines()[-1] == "9 of 9 agree"


def test_weights_from_a_file_and_results_in_short(made, capsys):
    short = {key: value for key, value in made.items() if key.startswith("in:") or key == "out:score"}
    short["l2:pool1"] = np.linalg.norm(made["out:pool1"])
    for key, value in made.items():
        if key.startswith("paramdiff:"):
            name = key.removeprefix("paramdiff:")
            at = np.random.default_rng(zlib.crc32(key.encode())).choice(value.size, min(8, value.size), replace=False)
            short[f"grad_l2:{name}"] = np.linalg.norm(value)
            short[f"grad_at:{name}"] = np.stack([at, value.ravel()[at]])
    status, out, err = run(capsys, short)
    assert status == 2 and "the results lack param:conv1:0 and 3 more parameters; give --weights" in err
    status, out, _ = run(capsys, short, "--weights", "w.caffemodel")
    assert status == 0 and out.splitlines()[-1] == "10 of 10 agree"
    assert "not in the results: conv1, loss (2)\n" in out
    short["grad_at:score:0"][1, 3] += 0.1
    short["l2:pool1"] *= 1.01
    status, out, _ = run(capsys, short, "--weights", "w.caffemodel")
    assert status == 1 and "8 of 10 agree; the first that does not, in the order of the passes: l2:pool1, layer 'pool1'" in out
    assert "at [3] " in next(line for line in out.splitlines() if line.startswith("grad_at:score:0"))


PLANTED = [  # in the net, then the first that differs and its verdict
    ("kernel_size: 2 stride: 2", "kernel_size: 2 stride: 2 pool: AVE", "out:pool1", "DIFFERS"),
    ("kernel_size: 2 stride: 2", "kernel_size: 3 stride: 2 pad: 1", "out:pool1", "SHAPE"),
    ('name: "relu1"', 'name: "relu1" relu_param { negative_slope: 0.01 }', "out:conv1", "DIFFERS"),
    ('top: "loss"', 'top: "loss" loss_param { normalization: BATCH_SIZE }', "out:loss", "DIFFERS"),
    ('top: "loss"', 'top: "loss" loss_weight: 2', "paramdiff:score:0", "DIFFERS"),
    ('top: "pool1"', 'top: "pool"', "out:pool1", "MISSING"),
]


@pytest.mark.parametrize("old, new, first, verdict", PLANTED, ids=[first + verdict for _, _, first, verdict in PLANTED])
def test_the_first_difference_is_where_the_mistake_is(made, capsys, old, new, first, verdict):
    text = NET.replace(old, new)
    Path("net.prototxt").write_text(text.replace('bottom: "pool1"', 'bottom: "pool"') if 'top: "pool"' in new else text)
    if first.startswith("out:pool1") and verdict == "SHAPE":  # sizes of labels no longer fit: the forward pass cannot end
        made = {key: value for key, value in made.items() if key != "in:label" and "loss" not in key and "diff" not in key}
        Path("net.prototxt").write_text(text[: text.index('layer { name: "loss"')].replace(' top: "label"', ""))
    status, out, err = run(capsys, made)
    assert status == 1, err
    found = next(line for line in out.splitlines()[2:] if not line.endswith("ok"))
    assert found.startswith(first) and found.endswith(verdict), out
    assert f"the first that does not, in the order of the passes: {first}" in out


def test_numbers_that_are_not(made, capsys):
    made["out:score"][0, 1, 2, 3] = np.nan
    made["out:loss"] = np.float32(np.inf)
    status, out, _ = run(capsys, made)
    lines = {line.split()[0]: line for line in out.splitlines()[1:]}
    assert status == 1 and "at [0, 1, 2, 3]" in lines["out:score"] and "nan in the results" in lines["out:score"]
    assert lines["out:loss"].endswith("DIFFERS") and "relative inf" in lines["out:loss"]


def test_tolerance(made, capsys):
    made["out:score"] *= 1.001
    assert run(capsys, made)[0] == 1
    assert run(capsys, made, "--rtol", "0.01")[0] == 0
    small = {**made, "out:score": made["out:score"] / 1.001}
    small["out:score"][0, 0, 0, 0] += 1e-5 * np.abs(small["out:score"]).max()  # what rounding does in a deep net
    assert run(capsys, small)[0] == 0


@pytest.mark.parametrize("change, words", [
    ({"foo:bar": np.zeros(1)}, "the results hold 'foo:bar'; known are phase and NAME behind in:, param:"),
    ({"in:dat": np.zeros(1)}, "has no blob 'dat' to give a shape to; did you mean 'data'"),
    ({"param:conv1:0": np.zeros((4, 3, 5, 5))}, r"'conv1:0' has shape \[4, 3, 5, 5\] in the results and \[4, 3, 3, 3\] in"),
    ({"param:conv9:0": np.zeros(1)}, "the results hold 'conv9:0', which the net does not have"),
    ({"param:conv1:7": np.zeros(4)}, "does not have; did you mean 'conv1:"),
    ({"in:data": np.zeros((2, 5, 6, 8))}, "conv1"),
])
def test_results_that_do_not_fit_are_refused(made, capsys, change, words):
    status, _, err = run(capsys, {**made, **change})
    assert status == 2 and err.count("\n") == 1 and re.search(words, err), err


def test_files_that_are_something_else(made, capsys):
    assert cli.main(["parity", "net.prototxt", "net.prototxt"]) == 2
    assert "cannot be read as .npz" in capsys.readouterr().err
    assert run(capsys, {key: value for key, value in made.items() if key[:3] in ("in:", "par") and "diff" not in key})[0] == 2
