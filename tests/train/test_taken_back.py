"""Normalised targets of boxes: snapshots hold what the net is tested with, and resume what was learned, bit for bit."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from detecting import draw, solver, write_net
from training import params_of, same

from netspec.net.build import load
from netspec.proto.caffe_pb2 import TEST
from netspec.proto.model import read_weights
from netspec.train.solver import Solver
from netspec.train.taken_back import scales

pytestmark = pytest.mark.usefixtures("one_thread")
STDS = np.array([0.1, 0.1, 0.2, 0.2], np.float32)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    root = tmp_path_factory.mktemp("shapes") / "images"
    draw(root)
    return root


@pytest.fixture
def job(shapes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(shapes, "data/shapes/images")
    return lambda name, **lists: Solver(solver(name, **lists))


@pytest.mark.parametrize("name, layers", [("shapes-rfcn", ["rfcn_bbox"]), ("shapes-rfcn-aware", ["rfcn_bbox"]),
                                          ("shapes-rfcn-ohem", ["rfcn_bbox", "rpn_bbox_pred"])])
def test_snapshots_are_taken_back_and_resume_bit_for_bit(job, name, layers):
    straight = job(name)
    assert sorted(scales(straight.net.graph)) == layers
    straight.step(2)
    params = {key: [p.detach().numpy().copy() for p in own] for key, own in straight.net.layers_with_params().items()}
    straight.step(1)
    straight.close()
    written = read_weights("run_iter_2.caffemodel")
    for key, own in params.items():
        for mine, stored in zip(own, written[key], strict=True):
            channels = len(mine)
            factor = np.repeat(np.tile(STDS, channels // 36), 9) if key == "rfcn_bbox" else np.tile(STDS, channels // 4)
            factor = factor.reshape(-1, *[1] * (mine.ndim - 1)) if key in layers else 1
            np.testing.assert_array_equal(stored, mine * factor)
    again = job(name)
    again.restore("run_iter_2.solverstate")
    for key, own in again.net.layers_with_params().items():
        for mine, theirs in zip(own, params[key], strict=True):
            np.testing.assert_array_equal(mine.detach().numpy(), theirs)
    again.step(1)
    again.close()
    same(params_of(straight), params_of(again))


def test_training_on_begins_with_what_was_learned(job):
    first = job("shapes-rfcn")
    first.step(2)
    first.close()
    second = job("shapes-rfcn", weights=["run_iter_2.caffemodel"])
    for mine, theirs in zip(first.net.layers_with_params()["rfcn_bbox"], second.net.layers_with_params()["rfcn_bbox"],
                            strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=0)
    second.close()


def test_a_tested_net_takes_nothing_back(job):
    assert scales(load(Path(write_net("shapes-rfcn", "deploy")), TEST)) == {}
