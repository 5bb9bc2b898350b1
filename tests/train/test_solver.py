"""The solver against Caffe's own results: its arithmetic, its ways to a batch, devices and memory."""

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from training import BODY, SOLVER, STILL, changed, params_of, rows, same, solver_param, write_job

from netspec.base import machine
from netspec.base.errors import Error
from netspec.cli import main as cli
from netspec.net.passes import TRAINING
from netspec.proto.caffe_pb2 import NetParameter
from netspec.proto.model import read_state, read_weights
from netspec.train.solver import Solver, get_solver

GOLDEN = Path(__file__).parents[1] / "golden" / "solvers"
JOBS = sorted(path.name for path in GOLDEN.iterdir())
CHECKED = (1, 2, 5, 30)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def golden(request, tmp_path, monkeypatch):
    """A copy of one of Caffe's jobs as the current folder, and what Caffe computed."""
    shutil.copytree(GOLDEN / request.param, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return dict(np.load("expected.npz"))


def close(ours, caffe, what):
    np.testing.assert_allclose(ours, caffe, rtol=1e-4, atol=1e-5, err_msg=what)


def test_a_rewrite_of_a_step_is_left_out_where_that_is_asked(job, monkeypatch):
    """The update too; without all but the one that changes what Dropout draws the numbers stay but for rounding."""
    found, passes = [], []
    fused = torch._fused_sgd_
    monkeypatch.setattr(torch, "_fused_sgd_", lambda *args, **kwargs: passes.append(0) or fused(*args, **kwargs))
    for without in ((), ("fused",), {*TRAINING} - {"order"}):
        one = get_solver("solver.prototxt", without=without)
        one.step(3)
        found.append((params_of(one), len(passes)))
        one.close()
    (first, fused_then), *others = found
    assert fused_then and all(count == fused_then for _, count in others)
    for params, _ in others:
        for key, values in params.items():
            close(values, first[key], key)


def test_first_layers_that_do_not_learn_are_the_same_by_a_plan(job):
    write_job(job, body=BODY.replace("lr_mult: 1 }", "lr_mult: 0 }").replace("lr_mult: 2 ", "lr_mult: 0 "))
    found = []
    for without in ((), ("front",)):
        one = get_solver("solver.prototxt", without=without)
        assert (one.quick.front is None) == bool(without)
        one.step(3)
        found.append(params_of(one))
        one.close()
    for key, values in found[0].items():
        close(values, found[1][key], key)


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


def settings(path):
    """The layers of a .caffemodel without blobs, and without the Splits that Caffe inserts and the names they make."""
    net = NetParameter.FromString(Path(path).read_bytes())
    for layer in net.layer:
        layer.ClearField("blobs")
        layer.ClearField("bottom")
    return [layer for layer in net.layer if layer.type != "Split"]


@pytest.mark.parametrize("golden", JOBS, indirect=True)
def test_solve_command_writes_what_caffe_writes(golden, tmp_path):
    with open("solver.prototxt", "a") as file:
        file.write('\nsnapshot: 30 snapshot_after_train: true snapshot_prefix: "ours"\n')
    text = Path("solver.prototxt").read_text().replace('snapshot_prefix: "final"', "").replace("snapshot: 0", "")
    Path("solver.prototxt").write_text(text)
    assert cli.main(["solve", "solver.prototxt", "--weights", "init.caffemodel", "--quiet"]) == 0
    ours, caffe = (read_weights(f"{name}_iter_30.caffemodel") for name in ("ours", "final"))
    assert settings("ours_iter_30.caffemodel") == settings("final_iter_30.caffemodel")
    for layer in ours:
        for i, (a, b) in enumerate(zip(ours[layer], caffe[layer], strict=True)):
            close(a, b, f"{layer} {i}")
    a, b = (read_state(f"{name}_iter_30.solverstate") for name in ("ours", "final"))
    assert (a.iteration, a.current_step) == (b.iteration, b.current_step)
    slots = get_solver("solver.prototxt").net.parameters_by_slot()
    assert len(a.history) == len(b.history) and len(a.history) % len(slots) == 0
    for i, (x, y) in enumerate(zip(a.history, b.history, strict=True)):
        assert x.shape == y.shape
        if slots[i % len(slots)][1].requires_grad:  # Caffe keeps a history of the others too, which nothing reads
            close(x, y, f"history {i}")
    assert cli.main(["solve", "solver.prototxt", "--snapshot", "final_iter_30.solverstate", "--quiet"]) == 0
    resumed = read_weights("ours_iter_40.caffemodel")
    for layer, index, value in wanted(golden, "resumed:"):
        close(resumed[layer][index], value, f"{layer} {index}")


# one net, several ways to its batches

def trained(folder, settings, data, iterations=4, body=STILL):
    write_job(folder, changed(settings), body, data)
    one = get_solver(folder / "solver.prototxt")
    one.step(iterations)
    one.close()
    return params_of(one)


def test_accumulated_batches_equal_one_big_batch(job):
    body = STILL.replace("ignore_label: 255", "ignore_label: 255 normalization: BATCH_SIZE")
    whole = trained(job, "base_lr: 1e-4", rows(6), body=body)
    parts = trained(job, "base_lr: 1e-4 iter_size: 3", rows(2), body=body)
    clipped = trained(job, "base_lr: 1e-4 iter_size: 3 clip_gradients: 1e-3", rows(2), body=body)
    for key, value in whole.items():
        np.testing.assert_allclose(value, parts[key], rtol=1e-5, atol=1e-7, err_msg=key)
    assert not np.allclose(clipped["conv.weight"], parts["conv.weight"], rtol=1e-5)


def test_gradients_are_clipped_before_they_are_divided(job):
    """Caffe's order: the sum over iter_size is held to the norm, then divided."""
    write_job(job, changed("iter_size: 2 clip_gradients: 0.01 weight_decay: 0 momentum: 0"), STILL, rows(2))
    one = get_solver(job / "solver.prototxt")
    before = params_of(one)
    one.step(1)
    after = params_of(one)
    mults = {slot.key: slot.lr_mult for slot, _ in one.net.parameters_by_slot()}
    norm = np.sqrt(sum(np.square((before[k] - after[k]) / (one.param.base_lr * mults[k])).sum() for k in before))
    assert norm == pytest.approx(0.01 / 2, rel=1e-3)


def test_rates_and_decays_are_multiplied_for_each_parameter(job):
    body = STILL.replace("param { lr_mult: 1 } param { lr_mult: 2 decay_mult: 0 }",
                         "param { lr_mult: 0 } param { lr_mult: 2 decay_mult: 0 }")
    write_job(job, SOLVER, body, rows(2))
    one = get_solver(job / "solver.prototxt")
    before = params_of(one)
    one.step(3)
    after = params_of(one)
    np.testing.assert_array_equal(before["conv.weight"], after["conv.weight"])
    assert all((before[key] != after[key]).any() for key in ("conv.bias", "score.weight", "score.bias"))


def test_a_training_that_no_memory_holds_is_refused_before_anything_is_made(job, monkeypatch):
    monkeypatch.setattr(machine, "room", lambda device: 1e8)
    write_job(job, SOLVER, BODY.replace("num_output: 5", "num_output: 500000"))  # on maps of 8 x 9
    with pytest.raises(Error, match=r"to train net 'tiny' takes at least [\d.]+ MB and cpu has 100.0 MB; take smaller"):
        get_solver("solver.prototxt")


def test_parameters_of_any_number_of_axes(tmp_path, monkeypatch):
    """Three spatial axes, one, and none: only four axes have a faster order in memory."""
    monkeypatch.chdir(tmp_path)
    with h5py.File("data.h5", "w") as file:
        file["data"] = np.random.default_rng(0).normal(size=(4, 2, 3, 4, 5)).astype(np.float32)
        file["label"] = np.arange(4, dtype=np.float32) % 2
    Path("data.txt").write_text("data.h5\n")
    body = """
layer { name: "c" type: "Convolution" bottom: "data" top: "c" convolution_param { num_output: 3 kernel_size: 2
  weight_filler { type: "xavier" } } }
layer { name: "p" type: "PReLU" bottom: "c" top: "c" prelu_param { channel_shared: true } }
layer { name: "ip" type: "InnerProduct" bottom: "c" top: "ip"
  inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
"""
    write_job(tmp_path, SOLVER, body, rows(4))
    one = get_solver("solver.prototxt")
    first = one.step(1)
    one.step(8)
    assert one.losses[-1] < first
    again = get_solver("solver.prototxt")
    again.restore("run/snap_iter_6.solverstate")
    again.step(3)
    same(params_of(one), params_of(again))
    one.close()
    again.close()


def test_devices_and_precisions_that_are_not_here(job):
    for device, words in (("tpu", "device 'tpu' is not known; use cpu, cuda, cuda:N or mps"), ("meta", "is not known"),
                          ("cuda:99", "is not here")):
        with pytest.raises(Error, match=words):
            get_solver("solver.prototxt", device=device)
    with pytest.raises(Error, match="precision 'fp8' is not known; choose one of fp32, tf32, bf16"):
        get_solver("solver.prototxt", precision="fp8")


def test_a_solver_in_python_needs_no_file(job):
    param = solver_param(SOLVER)
    one = Solver(param)
    one.step(3)
    assert one.final_weights() == "run/snap_iter_3.caffemodel"
    one.step(1)
    assert one.final_weights() == "run/snap_iter_4.caffemodel" and Path("run/snap_iter_4.solverstate").exists()
    one.close()


def test_blobs_computed_again_train_the_same_to_the_bit(job):
    """With dropout, whose random numbers are drawn once."""
    write_job(job)
    found = []
    for checkpoint in (False, True):
        one = get_solver(job / "solver.prototxt", checkpoint=checkpoint)
        one.step(3)
        one.close()
        found.append(params_of(one))
    same(*found)


def test_without_a_loss_weights_decay_alone_which_is_said(job, capsys):
    """As in Caffe, which has no gradient then either."""
    write_job(job, body=BODY.partition('layer { name: "loss"')[0])
    one = get_solver(job / "solver.prototxt")
    before = [parameter.detach().clone() for _, parameter in one.learned]
    one.step(1)
    one.close()
    for (slot, parameter), first in zip(one.learned, before, strict=True):
        assert torch.allclose(parameter, first * (1 - 0.05 * slot.lr_mult * 0.001 * slot.decay_mult), rtol=1e-6)
    assert cli.main(["solve", "solver.prototxt"]) == 0
    assert "net 'tiny' has no loss: weight_decay alone changes its weights" in capsys.readouterr().err


def test_a_compiled_net_needs_a_compiler(job, monkeypatch, capsys):
    write_job(job)
    monkeypatch.setenv("PATH", str(job))
    monkeypatch.delenv("CXX", raising=False)
    assert cli.main(["solve", "solver.prototxt", "--compile", "--quiet"]) == 2
    assert "--compile needs a C++ compiler (g++ or clang++), which is not here" in capsys.readouterr().err


@pytest.mark.slow
def test_a_compiled_net_trains_the_same(job):
    write_job(job)
    found = []
    for compiled in (False, True):
        one = get_solver(job / "solver.prototxt", compiled=compiled)
        one.net.graph.node("drop").op.ratio = 0  # it would draw other numbers
        one.step(2)
        one.close()
        found.append(params_of(one))
    for key, value in found[0].items():
        np.testing.assert_allclose(found[1][key], value, rtol=1e-4, atol=1e-6)
