"""The solver against Caffe's own results, and its promises: whole iterations, exact resumption, errors that tell."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from training import BODY, HDF5, SOLVER, make_solver, params_of, same, solver_param, write_hdf5, write_job

from netspec import cli, solver, weights
from netspec.errors import Error, Interrupted
from netspec.solver import Solver, get_solver
from netspec.sources import Source

GOLDEN = Path(__file__).parent / "golden" / "solvers"
JOBS = sorted(path.name for path in GOLDEN.iterdir())
CHECKED = (1, 2, 5, 30)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def job(tmp_path, monkeypatch):
    """A folder with a small job, which is the current folder."""
    monkeypatch.chdir(tmp_path)
    write_job(tmp_path)
    return tmp_path


@pytest.fixture
def golden(request, tmp_path, monkeypatch):
    """A copy of one of Caffe's jobs as the current folder, and what Caffe computed."""
    shutil.copytree(GOLDEN / request.param, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return dict(np.load("expected.npz"))


def close(ours, caffe, what):
    np.testing.assert_allclose(ours, caffe, rtol=1e-4, atol=1e-5, err_msg=what)


def wanted(expected, prefix):
    for key, value in expected.items():
        if key.startswith(prefix):
            layer, index = key.removeprefix(prefix).rsplit(":", 1)
            yield layer, int(index), value


def watch_loss(made):
    """A list that gets the train net's loss blob of each forward pass."""
    seen = []
    made.net.register_forward_hook(lambda net, inputs, blobs: seen.append(blobs["loss"].item()))
    return seen


@pytest.mark.parametrize("golden", JOBS, indirect=True)
def test_training_is_caffes(golden):
    made = get_solver("solver.prototxt")
    made.load("init.caffemodel")
    blobs = made.net.layers_with_params()
    for layer, index, value in wanted(golden, "init:"):
        np.testing.assert_array_equal(blobs[layer][index].detach(), value)
    batches, rates = watch_loss(made), []
    for k in range(1, 31):
        rates.append(made.lr)
        made.step(1)
        for layer, index, value in wanted(golden, f"at:{k}:"):
            close(blobs[layer][index].detach(), value, f"{layer} {index} after {k}")
    made.close()
    size = made.param.iter_size  # Caffe's loss blob is that of the last batch of an iteration
    close(batches[size - 1 :: size], golden["loss"][:30], "loss")
    close(rates, golden["lr"][:30], "rate")
    assert sum(1 for _ in wanted(golden, "at:30:")) == len(made.net.parameters_by_slot())


@pytest.mark.parametrize("golden", JOBS, indirect=True)
def test_caffes_solverstate_is_gone_on_from(golden):
    made = get_solver("solver.prototxt")
    made.restore("final_iter_30.solverstate")
    assert made.iter == 30 and made.positions(made.net) == [0]  # Caffe's data begin again
    batches = watch_loss(made)
    made.step(10)
    made.close()
    close(batches[made.param.iter_size - 1 :: made.param.iter_size], golden["resumed_loss"], "loss")
    blobs = made.net.layers_with_params()
    for layer, index, value in wanted(golden, "resumed:"):
        close(blobs[layer][index].detach(), value, f"{layer} {index}")


@pytest.mark.parametrize("golden", JOBS, indirect=True)
def test_solve_command_writes_what_caffe_writes(golden, tmp_path):
    with open("solver.prototxt", "a") as file:
        file.write('\nsnapshot: 30 snapshot_after_train: true snapshot_prefix: "ours"\n')
    text = Path("solver.prototxt").read_text().replace('snapshot_prefix: "final"', "").replace("snapshot: 0", "")
    Path("solver.prototxt").write_text(text)
    assert cli.main(["solve", "solver.prototxt", "--weights", "init.caffemodel", "--quiet"]) == 0
    ours, caffe = (weights.read_weights(f"{name}_iter_30.caffemodel") for name in ("ours", "final"))
    learned = [layer for layer, blobs in caffe.items() if blobs]
    assert list(ours) == learned
    for layer in learned:
        for i, (a, b) in enumerate(zip(ours[layer], caffe[layer], strict=True)):
            close(a, b, f"{layer} {i}")
    a, b = (weights.read_state(f"{name}_iter_30.solverstate") for name in ("ours", "final"))
    assert (a.iteration, a.current_step) == (b.iteration, b.current_step)
    slots = get_solver("solver.prototxt").net.parameters_by_slot()
    assert len(a.history) == len(b.history) and len(a.history) % len(slots) == 0
    for i, (x, y) in enumerate(zip(a.history, b.history, strict=True)):
        assert x.shape == y.shape
        if slots[i % len(slots)][1].requires_grad:  # Caffe keeps a history of the others too, which nothing reads
            close(x, y, f"history {i}")
    assert cli.main(["solve", "solver.prototxt", "--snapshot", "final_iter_30.solverstate", "--quiet"]) == 0
    resumed = weights.read_weights("ours_iter_40.caffemodel")
    for layer, index, value in wanted(golden, "resumed:"):
        close(resumed[layer][index], value, f"{layer} {index}")
