"""Training on a GPU does not wait for it inside a step: `meta`, which has no numbers to wait for, stands for one."""

import math
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from training import HDF5, changed, write_job

from netspec.base.errors import Error
from netspec.base.machine import PROJECT
from netspec.net import grouped, narrow, unrolled
from netspec.papers.steps import bare
from netspec.train import solver as solvers
from netspec.train.losses import MOST, Losses
from netspec.train.solver import Solver, get_solver

META = torch.device("meta")


@pytest.fixture
def far(job, monkeypatch):
    """Makes the solver of the job, with other settings, on the meta device."""
    def make(settings):
        write_job(job, changed(settings))
        monkeypatch.setattr(solvers, "choose", lambda device, precision: META)
        return get_solver("solver.prototxt", precision="bf16")
    return make


@pytest.mark.parametrize("settings", ["", "iter_size: 2", "clip_gradients: 0.01", 'type: "Nesterov"', 'type: "AdaGrad" momentum: 0',
                                      'type: "RMSProp" momentum: 0', 'type: "AdaDelta"', 'type: "Adam"', 'regularization_type: "L1"'])
def test_a_step_between_displays_waits_for_nothing(far, settings, monkeypatch):
    """A number asked of the meta device is an error of torch's."""
    read = []
    one = far(f"display: 0 snapshot: 0 {settings}")
    monkeypatch.setattr(Losses, "read", lambda self, size, refuse: read.append((one.iter, len(self._waiting))) or [])
    one.step(3)
    assert read == [(3, 3)]  # what `step` returns is the mean loss, for its caller
    assert all(p.device == META for p in (*one.net.parameters(), *one.history))
    monkeypatch.undo()
    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
        one.losses.read(1, lambda loss, iteration: AssertionError())
    one.close()


def test_a_step_of_fcn8s_waits_for_nothing(monkeypatch):
    """All rewrites of a training step; deconvolutions that do not learn are looked at once."""
    looked, rewritten = [], []
    monkeypatch.setattr(solvers, "choose", lambda device, precision: META)
    monkeypatch.setattr(Losses, "read", lambda self, size, refuse: [])
    monkeypatch.setattr(grouped, "diagonal", lambda weight: looked.append(weight) or True)
    products, zones = unrolled.products, narrow.Narrow.zones
    monkeypatch.setattr(unrolled, "products", lambda *args: rewritten.append("products") or products(*args))
    monkeypatch.setattr(narrow.Narrow, "zones", lambda *args: rewritten.append("zones") or zones(*args))
    path = PROJECT / "solvers/voc-fcn8s.prototxt"
    one = solvers.Solver(bare(path, (120, 100)), path=path, precision="bf16")
    one.step(2)
    assert len(looked) == 1 and {*rewritten} == {"products", "zones"}
    assert all(x.device == META for x in (*one.net.parameters(), *one.history))
    one.close()


@pytest.fixture
def late(monkeypatch):
    """Solvers on the CPU that read losses when they would a GPU's."""
    monkeypatch.setattr(Solver, "_reads", lambda self: self.display.due(self.iter) or self.losses.full)


def test_losses_are_the_same_when_they_are_read_late(job, request):
    def run():
        heard = []
        one = get_solver("solver.prototxt")
        one.callbacks.append(lambda solver, loss: heard.append(loss))
        last = one.step(8)
        one.close()
        return heard, list(one.losses), last
    write_job(job, changed("display: 3 average_loss: 4"))
    now = run()
    request.getfixturevalue("late")
    assert run() == now and len(now[0]) == 8


def test_a_loss_that_is_not_finite_is_found_when_it_is_read(job, late):
    with h5py.File(job / "data.h5", "a") as file:
        file["data"][5] = np.inf
    write_job(job, changed("display: 4 snapshot: 3"), data=HDF5.replace("batch_size: 2 shuffle: true", "batch_size: 1"))
    one = get_solver("solver.prototxt")
    with pytest.raises(Error) as caught:
        one.step(12)
    assert "at iteration 5; seen before iteration 6; " in str(caught.value) and "snap_iter_3.solverstate" in str(caught.value)
    assert not Path("run/snap_iter_6.solverstate").exists()
    one.close()


def test_losses_wait_in_a_bounded_number():
    losses = Losses(2)
    for i in range(MOST):
        assert not losses.full
        losses.wait(i, torch.tensor(float(i)))
    assert losses.full and math.isnan(losses.mean)
    assert losses.read(1, lambda loss, iteration: AssertionError()) == [float(i) for i in range(MOST)]
    assert list(losses) == [MOST - 2, MOST - 1] and not losses.full
    for i, value in enumerate((1.0, math.nan, 3.0), 7):
        losses.wait(i, torch.tensor(value))
    with pytest.raises(Error, match="nan 8"):
        losses.read(1, lambda loss, iteration: Error(f"{loss} {iteration}"))


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_gpu_is_not_waited_for_between_displays(job, precision, monkeypatch):
    write_job(job, changed("display: 0 snapshot: 0 clip_gradients: 0.01"))
    one = get_solver("solver.prototxt", device="cuda", precision=precision)
    one.step(2)  # what is made once may wait
    read = Losses.read

    def late(self, *given):
        torch.cuda.set_sync_debug_mode("default")
        return read(self, *given)

    monkeypatch.setattr(Losses, "read", late)
    torch.cuda.set_sync_debug_mode("error")
    try:
        assert math.isfinite(one.step(5))
    finally:
        torch.cuda.set_sync_debug_mode("default")
        one.close()
