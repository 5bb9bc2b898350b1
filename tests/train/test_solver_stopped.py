"""Whole iterations or nothing: what a stop, a number that is not finite and an error in the data leave of a training."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from training import BODY, SOLVER, STILL, changed, params_of, rows, same, write_job

from netspec.base.errors import Error, Interrupted
from netspec.train.solver import get_solver

pytestmark = pytest.mark.usefixtures("one_thread")

MOVING = STILL.replace('layer { name: "relu"',
                       'layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }\nlayer { name: "relu"')


def stop_after(one, batches):
    seen = []

    def hook(*ignored):
        seen.append(1)
        if len(seen) == batches:
            one.stop = 2
    one.net.register_forward_hook(hook)


def history_of(iterations):
    """The parameters after each iteration of an uninterrupted run; two solvers at once would share torch's random numbers."""
    one, after = get_solver("solver.prototxt"), []
    for _ in range(iterations):
        after.append(params_of(one))
        one.step(1)
    places = [one.positions(net) for net in (one.net, *one.test_nets)]
    one.close()
    return [*after, params_of(one)], places


@pytest.mark.parametrize("body", [BODY, MOVING])
@pytest.mark.parametrize("batches", [4, 5, 6])
def test_a_stop_leaves_the_last_whole_iteration(job, body, batches):
    write_job(job, SOLVER + " iter_size: 3", body)
    straight, places = history_of(6)
    one = get_solver("solver.prototxt")
    stop_after(one, batches)
    with pytest.raises(Interrupted) as stop:
        one.step(5)
    assert (stop.value.number, stop.value.status) == (2, 130)
    assert one.iter == batches // 3
    same(params_of(one), straight[one.iter])
    assert one.positions(one.net) == [3 * one.iter]
    one.stop = None
    one.step(6 - one.iter)
    same(params_of(one), straight[6])
    assert [one.positions(one.net)] == places
    one.close()


def test_a_stop_during_a_test_does_not_lose_the_place(job):
    write_job(job, SOLVER + " test_iter: 3 test_interval: 2")
    straight, places = history_of(4)
    one = get_solver("solver.prototxt")
    one.step(2)
    seen = []
    hook = one.test_nets[0].register_forward_hook(lambda *ignored: seen.append(setattr(one, "stop", 15)))
    with pytest.raises(Interrupted):
        one.step(2)
    assert len(seen) == 1  # at the next image, not at the end of the test
    assert one.iter == 2 and one.positions(one.test_nets[0]) == [3]
    one.stop = None
    hook.remove()
    one.step(2)
    same(params_of(one), straight[4])
    assert [one.positions(net) for net in (one.net, *one.test_nets)] == places
    one.close()


@pytest.mark.parametrize("body", [BODY, MOVING])
def test_a_loss_that_is_not_finite_updates_nothing(job, body):
    with h5py.File(job / "data.h5", "a") as file:
        file["data"][5] = np.inf
    write_job(job, SOLVER.replace("snapshot: 3", "snapshot: 1"), body, rows(1))
    one = get_solver("solver.prototxt")
    one.step(5)
    before = params_of(one)
    with pytest.raises(Error) as caught:
        one.step(1)
    assert "at iteration 5; nothing was updated; the last good snapshot is run/snap_iter_5.solverstate; " in str(caught.value)
    same(before, params_of(one))
    assert one.iter == 5 and all(p.grad is None for p in one.net.parameters()) and one.positions(one.net) == [5]
    one.close()


def test_diverged_parameters_are_not_written_over_the_last_good_snapshot(job):
    write_job(job, changed("base_lr: 3e38 snapshot: 1"), BODY.replace("std: 0.02", "std: 5"))
    one = get_solver("solver.prototxt")
    with pytest.raises(Error, match="parameters are infinite or NaN at iteration 1; no snapshot was written.*is none"):
        one.step(1)
    one.close()
    assert not Path("run").exists()


def test_an_error_in_the_data_names_them_and_the_layer(job):
    with h5py.File(job / "data.h5", "a") as file:
        file["label"][2, 0, 0, :2] = 7
    write_job(job, data=rows(1))
    one = get_solver("solver.prototxt")
    one.step(2)
    with pytest.raises(Error) as caught:
        one.step(1)
    assert "layer 'loss' (SoftmaxWithLoss): 2 labels lie outside" in str(caught.value)
    assert str(caught.value).endswith("data.h5 row 2")
    one.close()
