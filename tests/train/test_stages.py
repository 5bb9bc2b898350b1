"""Stages, and the options and mistakes of the solve command."""

import multiprocessing
import os
import re
import shutil
import signal
import time
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from training import VOC, changed, write_hdf5, write_job

from netspec import NetSpec
from netspec import layers as L
from netspec import params as P
from netspec.base.errors import Error, Interrupted
from netspec.base.log import Log
from netspec.cli import main as cli
from netspec.net.build import build
from netspec.net.coords import crop
from netspec.net.module import Net
from netspec.net.weights import bilinear_kernel
from netspec.proto import text as prototext
from netspec.proto.model import read_weights, write_weights
from netspec.train import stages as train
from netspec.train import updates
from netspec.train.solver import Solver
from netspec.train.stopping import stopping
from train.test_stages_stopped import newest


def fcn(stride, deploy=False):
    """A tiny FCN that predicts at a stride of 8, 4 or 2, with fillers for nothing but the trunk of the first stage."""
    n = NetSpec()
    if deploy:
        n.data = L.Input(shape=[dict(dim=[1, 3, 18, 26])])
    else:
        n.data, n.label = L.HDF5Data(source="data.txt", batch_size=1, ntop=2)
    bottom, pools = n.data, {}
    for i, pad in ((1, 20), (2, 1), (3, 1)):
        n[f"conv{i}"] = L.Convolution(bottom, num_output=4, kernel_size=3, pad=pad, weight_filler=dict(type="xavier"))
        n[f"relu{i}"] = L.ReLU(n[f"conv{i}"], in_place=True)
        n[f"pool{i}"] = bottom = pools[2**i] = L.Pooling(n[f"relu{i}"], pool=P.Pooling.MAX, kernel_size=2, stride=2)
    n.fc = L.Convolution(n.pool3, num_output=6, kernel_size=3, weight_filler=dict(type="xavier"))
    n.drop = L.Dropout(n.fc, in_place=True)
    up = n.score_fr = L.Convolution(n.drop, num_output=4, kernel_size=1)
    for finer in (s for s in (4, 2) if s >= stride):
        n[f"upscore{finer}"] = L.Deconvolution(up, convolution_param=dict(num_output=4, kernel_size=4, stride=2, bias_term=False))
        n[f"score_pool{finer}"] = L.Convolution(pools[finer], num_output=4, kernel_size=1, param=[dict(lr_mult=1)])
        n[f"score_pool{finer}c"] = crop(n[f"score_pool{finer}"], n[f"upscore{finer}"])
        n[f"fuse{finer}"] = up = L.Eltwise(n[f"upscore{finer}"], n[f"score_pool{finer}c"], operation=P.Eltwise.SUM)
    n[f"upscore_last{stride}"] = L.Deconvolution(up, param=[dict(lr_mult=0)], convolution_param=dict(
        num_output=4, kernel_size=2 * stride, stride=stride, bias_term=False))
    n.score = crop(n[f"upscore_last{stride}"], n.data)
    if not deploy:
        n.loss = L.SoftmaxWithLoss(n.score, n.label, loss_param=dict(ignore_label=255))
    made = n.to_proto()
    made.name = f"fcn{stride}"
    return made


@pytest.fixture
def stages(tmp_path, monkeypatch):
    """Solver files of three stages in the current folder: 8, 4, 2."""
    monkeypatch.chdir(tmp_path)
    write_hdf5(tmp_path, items=5, size=(18, 26))
    for stride in (8, 4, 2):
        prototext.write(f"net{stride}.prototxt", fcn(stride))
        Path(f"solver{stride}.prototxt").write_text(str(changed("base_lr: 0.01 max_iter: 6 snapshot: 4")).replace(
            "net.prototxt", f"net{stride}.prototxt").replace("run/snap", f"run/fcn{stride}"))
    return [f"solver{stride}.prototxt" for stride in (8, 4, 2)]


class Watched(Solver):
    """A solver that keeps the blobs of the first and the last net of its stage, for the same images."""

    stages: ClassVar[list] = []

    def solve(self):
        begin = self.blobs()
        super().solve()
        self.stages.append((self, begin, self.blobs()))

    def blobs(self):
        stride = int(self.net.graph.name.removeprefix("fcn"))
        deploy = Net(build(fcn(stride, deploy=True)), share=self.net)
        images = [torch.from_numpy(self.net.graph.sources[0].op.load(k)[0]) for k in range(5)]
        names = [name for name in dict.fromkeys(v.blob for v in deploy.graph.shapes) if not name.startswith("conv")]
        with torch.no_grad():
            return [{k: v.numpy().copy() for k, v in deploy({"data": image}, names).items()} for image in images]


def test_each_stage_goes_on_exactly_where_the_one_before_ended(stages, monkeypatch):
    """The finer net computes the coarser one's scores bit for bit, and its new skip adds exact zeros to them."""
    monkeypatch.setattr(train, "Solver", Watched)
    monkeypatch.setattr(Watched, "stages", [])
    assert cli.main(["solve", *stages, "--quiet"]) == 0
    (eight, _, end8), (four, begin4, end4), (two, begin2, end2) = Watched.stages
    assert [s.net.graph.name for s in (eight, four, two)] == ["fcn8", "fcn4", "fcn2"]
    for before, after, kept, skip in ((end8, begin4, "score_fr", 4), (end4, begin2, "fuse4", 2)):
        for old, new in zip(before, after, strict=True):
            assert new[kept].any()
            np.testing.assert_array_equal(old[kept], new[kept])
            np.testing.assert_array_equal(new[f"fuse{skip}"], new[f"upscore{skip}"])
            # two steps of bilinear upsampling and one round the corners a little differently
            assert (old["score"].argmax(1) == new["score"].argmax(1)).mean() > 0.85
    assert any((a["fuse2"] != a["upscore2"]).any() for a in end2)  # the skip has learned
    assert Path("run/fcn2_iter_6.caffemodel").exists()


def test_a_snapshot_is_gone_on_from_in_its_own_stage(stages):
    assert cli.main(["solve", *stages, "--quiet"]) == 0
    expected = {p.name: p.read_bytes() for p in Path("run").glob("fcn2_*") if p.suffix != ".resume"}
    for path in Path("run").glob("fcn2_*"):
        path.unlink()
    Path("run/fcn8_iter_6.caffemodel").unlink()  # of a stage that is over
    assert cli.main(["solve", *stages, "--quiet", "--snapshot", "run/fcn4_iter_4.solverstate"]) == 0
    assert {p.name: p.read_bytes() for p in Path("run").glob("fcn2_*") if p.suffix != ".resume"} == expected
    assert not Path("run/fcn8_iter_6.caffemodel").exists()


def said(capsys, *args):
    """(exit status, standard error) of the command in this process."""
    status = cli.main(["solve", *map(str, args)])
    return status, capsys.readouterr().err


def refused(capsys, *args):
    status, err = said(capsys, *args)
    lines = [line for line in err.splitlines() if not re.match(r"I\d{4} ", line)]
    assert status == 2 and len(lines) == 1 and lines[0].startswith("netspec solve: "), err
    return lines[0]


def test_a_mistake_in_a_later_stage_is_found_before_the_first(stages, capsys):
    Path("net2.prototxt").write_text(Path("net2.prototxt").read_text().replace('"Eltwise"', '"Eltwice"', 1))
    assert "did you mean 'Eltwise'" in refused(capsys, *stages, "--quiet")
    Path("net2.prototxt").unlink()
    assert "net 'net2.prototxt' is not there" in refused(capsys, *stages, "--quiet")
    assert not Path("run").exists()


def test_of_several_stages_the_first_that_lacks_something_is_named(stages, capsys):
    Path("data.txt").rename("other.txt")
    assert "net8.prototxt" in refused(capsys, *stages)
    assert "net4.prototxt" in refused(capsys, *stages[1:])
    Path("other.txt").rename("data.txt")
    Path("solver8.prototxt").write_text(Path("solver8.prototxt").read_text() + ' weights: "vgg16.caffemodel"')
    Path("net2.prototxt").unlink()
    assert "solver8.prototxt: weights 'vgg16.caffemodel' is not there" in refused(capsys, *stages)


def test_weights_that_stages_make_name_them(stages, capsys):
    for stride, before in ((4, 8), (2, 4)):
        path = Path(f"solver{stride}.prototxt")
        path.write_text(path.read_text() + f' weights: "run/fcn{before}_iter_6.caffemodel"')
    said = refused(capsys, "solver2.prototxt").replace(f"{Path.cwd()}/", "")
    assert re.fullmatch(r"netspec solve: solver2.prototxt: weights 'run/fcn4_iter_6.caffemodel' is not there \(tried .*\); "
                        r"solver4.prototxt makes it, and stages go on from each other: "
                        r"netspec solve solver8.prototxt solver4.prototxt solver2.prototxt", said)
    assert cli.main([*said.rpartition("netspec ")[2].split(), "--quiet"]) == 0
    Path("run/fcn4_iter_6.caffemodel").unlink()
    assert "netspec solve solver4.prototxt solver2.prototxt" in refused(capsys, "solver2.prototxt").replace(f"{Path.cwd()}/", "")


def test_which_stage_a_snapshot_belongs_to_must_be_clear(stages, capsys):
    assert cli.main(["solve", stages[0], "--quiet"]) == 0
    Path("run/fcn8_iter_6.solverstate").rename("run/other.solverstate")
    assert "which of the 3 stages it belongs to is not clear" in refused(capsys, *stages, "--snapshot", "run/other.solverstate")
    assert cli.main(["solve", stages[0], "--quiet", "--snapshot", "run/other.solverstate"]) == 0


def test_options_that_cannot_work(job, capsys):
    assert "--iterations must be at least 1, found 0" in refused(capsys, "solver.prototxt", "--iterations", 0)
    assert "give one of them" in refused(capsys, "solver.prototxt", "--snapshot", "x", "--weights", "y")
    assert "solver state 'x' is not there (tried " in refused(capsys, "solver.prototxt", "--snapshot", "x")
    message = refused(capsys, "solver.prototxt", "--weights", "none.caffemodel")
    assert f"weights 'none.caffemodel' is not there (tried {job / 'none.caffemodel'}, " in message
    assert "the comment at the top of the solver says how to get them, --weights names others" in message
    assert "solver 'none.prototxt' is not there" in refused(capsys, "none.prototxt")
    if not torch.cuda.is_available():
        message = refused(capsys, "solver.prototxt", "--device", "cuda")
        assert message == "netspec solve: device 'cuda' is not here (0 CUDA devices found); use --device cpu"
    assert "device 'gpu' is not known; use cpu, cuda, cuda:N or mps" in refused(capsys, "solver.prototxt", "--device", "gpu")


def test_a_folder_is_no_solver(job, capsys):
    (job / "dir.prototxt").mkdir()
    assert "dir.prototxt cannot be read: Is a directory" in refused(capsys, "dir.prototxt")


def test_iterations_replaces_max_iter_and_quiet_says_nothing(job, capsys):
    status, err = said(capsys, "solver.prototxt", "--iterations", 5, "--quiet")
    assert (status, err) == (0, "")
    assert sorted(p.name for p in Path("run").glob("*.caffemodel")) == ["snap_iter_3.caffemodel", "snap_iter_5.caffemodel"]


def test_a_solver_that_says_no_number_of_iterations_is_refused(job, capsys):
    text = (job / "solver.prototxt").read_text()
    assert text.count("max_iter: 12") == 1
    (job / "solver.prototxt").write_text(text.replace("max_iter: 12", ""))
    assert "solver.prototxt: has no max_iter, so there is nothing to train; give --iterations N" in refused(capsys, "solver.prototxt")
    assert not Path("run").exists()
    assert cli.main(["solve", "solver.prototxt", "--quiet", "--iterations", "2"]) == 0
    (job / "solver.prototxt").write_text(text.replace("max_iter: 12", "max_iter: 0"))
    assert cli.main(["solve", "solver.prototxt", "--quiet"]) == 0


def test_no_snapshot_after_training_if_the_solver_says_so(job):
    write_job(job, changed("snapshot_after_train: false snapshot: 0"))
    assert cli.main(["solve", "solver.prototxt", "--quiet"]) == 0
    assert not list(Path("run").glob("*"))
    (job / "second.prototxt").write_text((job / "solver.prototxt").read_text().replace("run/snap", "run/second"))
    assert cli.main(["solve", "solver.prototxt", "second.prototxt", "--quiet"]) == 0
    assert {p.name for p in Path("run").glob("*.caffemodel")} == {"snap_iter_12.caffemodel"}  # the second starts from it


def test_several_weights_files(job, capsys):
    assert cli.main(["solve", "solver.prototxt", "--quiet"]) == 0
    read = read_weights("run/snap_iter_12.caffemodel")
    for name in read:
        write_weights(f"{name}.caffemodel", "x", {name: ("Convolution", read[name])})
    _, err = said(capsys, "solver.prototxt", "--weights", "conv.caffemodel, score.caffemodel", "--iterations", 1)
    assert "solver.cpp:72] Finetuning from conv.caffemodel" in err and "Finetuning from score.caffemodel" in err
    assert "loaded: conv, score (2)" in err


def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_the_last_good_snapshot(job, capsys):
    write_job(job, changed("base_lr: 1e6 max_iter: 500 snapshot: 1"))
    message = refused(capsys, "solver.prototxt", "--quiet")
    found = re.search(r"solver.prototxt: (the loss is (inf|nan) at|parameters are infinite or NaN at) iteration (\d+); "
                      r".*the last good snapshot is (\S+); try a lower base_lr \(the rate is 1e\+06\)", message)
    state = Path(found[4])
    assert state.name == newest(job).name and int(re.search(r"_iter_(\d+)", state.name)[1]) <= int(found[3])
    for blobs in read_weights(state.with_suffix(".caffemodel")).values():
        assert all(np.isfinite(blob).all() for blob in blobs)


def test_stops_are_answered_within_and_as_before_after(job):
    one = Solver(prototext.read_solver("solver.prototxt"), path="solver.prototxt")
    before = signal.getsignal(signal.SIGTERM)
    with stopping(one):
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGTERM)
        assert one.snapshot_asked
        for _ in range(100):
            time.sleep(0.01 * (one.stop is None))
        assert one.stop == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == before and signal.set_wakeup_fd(-1) == -1


def test_a_stop_within_the_last_step_is_no_start_of_the_next_stage(job, capsys):
    def stop(solver, loss):
        solver.stop = signal.SIGINT if solver.iter == solver.param.max_iter else None

    path = Path("solver.prototxt")
    with pytest.raises(Interrupted):
        train.run_stage(path, prototext.read_solver(path), None, None, "cpu", "fp32", Log(), watch=stop)
    assert "stopped by Ctrl-C after 12 iterations" in capsys.readouterr().err


def test_bilinear_upsampling_where_neither_filler_nor_weights_fill(stages, capsys):
    _, err = said(capsys, stages[0], "--iterations", 1)
    assert "bilinear upsampling: upscore_last8" in err
    assert "left at their filler: conv1, conv2, conv3, fc, score_fr (5)" in err
    assert "frozen (lr_mult 0): upscore_last8" in err
    blob = read_weights("run/fcn8_iter_1.caffemodel")["upscore_last8"][0]
    np.testing.assert_array_equal(blob[0, 0], bilinear_kernel(16))
    assert not blob[0, 1].any()


STOPPED = {  # what happens after iteration 5
    "a missing image": lambda: [file.rename(f"{file}.away") for file in Path("images/JPEGImages").glob("*.jpg")],
    "a dead worker": lambda: [os.kill(child.pid, signal.SIGKILL) for child in multiprocessing.active_children()],
    "a mistake in Python": lambda: 1 / 0,
}


@pytest.mark.parametrize("happens", STOPPED)
def test_whatever_stops_a_sound_run_leaves_the_state_before_the_step(job, capsys, happens):
    def run(state=None, watch=None):
        train.run_stage(path, prototext.read_solver(path), None, state, "cpu", "fp32", Log(quiet=True), watch=watch)
        return [Path(f"run/snap_iter_12.{kind}").read_bytes() for kind in ("caffemodel", "solverstate", "resume")]

    path = write_job(job, changed("snapshot: 0"), data=VOC)
    expected = run()
    shutil.rmtree("run")
    with pytest.raises((Error, ZeroDivisionError)):
        run(watch=lambda solver, loss: STOPPED[happens]() if solver.iter == 5 else None)
    (state,) = Path("run").glob("*.solverstate")
    assert f"whose state is kept; the same command with --snapshot {state} goes on" in capsys.readouterr().err
    for file in Path("images/JPEGImages").glob("*.away"):
        file.rename(file.with_suffix(""))
    assert run(str(state)) == expected


def test_a_state_that_is_not_sound_is_not_kept(job, monkeypatch):
    path = write_job(job, changed("snapshot: 0"))
    plain = updates.take_step
    monkeypatch.setattr(updates, "take_step", lambda param, iteration, *rest: 1 / 0 if iteration == 5 else plain(param, iteration, *rest))
    with pytest.raises(ZeroDivisionError):
        train.run_stage(path, prototext.read_solver(path), None, None, "cpu", "fp32", Log(quiet=True))
    assert not list(Path("run").glob("*"))
