"""Validation while training: the mean IU of score, the best weights kept, nothing of the training changed."""

import json
import re
import shutil
import signal
import sys
from contextlib import closing
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from training import VOC, changed, solved, write_job

from netspec.base.errors import Interrupted
from netspec.base.log import Log
from netspec.cli import main as cli
from netspec.data.feed import Batches
from netspec.net.build import load
from netspec.net.module import Net
from netspec.proto.text import read_solver
from netspec.score.predict import load as ready
from netspec.score.score import score
from netspec.train.solver import get_solver
from netspec.train.stages import run_stage
from netspec.train.validation import Best, interval

BODY = """
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 6 kernel_size: 3 pad: 1
  weight_filler { type: "gaussian" std: 0.02 } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "drop" type: "Dropout" bottom: "conv" top: "conv" }
layer { name: "score" type: "Convolution" bottom: "conv" top: "score"
  convolution_param { num_output: 4 kernel_size: 1 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" loss_param { ignore_label: 255 } }
"""
SETTINGS = 'max_iter: 40 snapshot: 8 test_interval: 5 base_lr: 0.02 display: 5 test_initialization: false'


def write(folder, *settings, classes=4):
    """train.prototxt and val.prototxt of images of different sizes, and solver.prototxt that tests on the second."""
    write_job(folder, changed(), BODY, VOC)
    text = (folder / "net.prototxt").read_text()
    (folder / "train.prototxt").write_text(text)
    (folder / "val.prototxt").write_text(text.replace("'train'", "'val'"))
    root = folder / "images"
    rng = np.random.default_rng(8)
    for i in range(5):
        size = (12 + i, 9 + 2 * i)
        label = rng.integers(0, classes, size).astype(np.uint8)
        Image.fromarray(label[..., None] * np.array([60, 30, 10], np.uint8)).save(root / f"JPEGImages/v{i}.jpg")
        Image.fromarray(label).save(root / f"SegmentationClass/v{i}.png")
    (root / "ImageSets/Segmentation/val.txt").write_text("".join(f"v{i}\n" for i in range(5)))
    param = changed(SETTINGS, *settings).replace('net: "net.prototxt"\n', "")
    (folder / "solver.prototxt").write_text(f'train_net: "train.prototxt" test_net: "val.prototxt" test_iter: 5 {param}')


@pytest.fixture
def job(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """(folder, what was said) of the job that ran through."""
    folder = tmp_path_factory.mktemp("straight")
    write(folder)
    return folder, solved(folder)


@pytest.fixture
def done(straight, job):
    """What was said of the job, which has been done."""
    shutil.copytree(straight[0] / "run", "run")
    return straight[1]


LINE = re.compile(r"netspec\] Iteration (\d+), test net #0: mean IU (\S+), 5 images")


def trained(capsys, *args):
    """What the solve command says."""
    assert cli.main(["solve", "solver.prototxt", *map(str, args)]) == 0
    return capsys.readouterr().err


def test_the_mean_iu_is_that_of_score(done):
    said = LINE.findall(done)
    assert [int(i) for i, _ in said] == [5, 10, 15, 20, 25, 30, 35, 40]
    found = score(ready(load(Path("val.prototxt")), "run/snap_iter_40.caffemodel")[0])
    assert said[-1][1] == f"{100 * found.scores.mean_iu:.1f}"


def test_the_best_weights_are_kept_and_named(done):
    said = {int(i): float(iu) for i, iu in LINE.findall(done)}
    kept = json.loads(Path("run/snap_best.json").read_text())
    assert said[kept["iteration"]] == max(said.values()) == round(100 * kept["mean_iu"], 1)
    assert len(set(said.values())) > 3 and kept["iteration"] not in (0, 40)
    found = score(ready(load(Path("val.prototxt")), "run/snap_best.caffemodel")[0])
    assert found.scores.mean_iu == kept["mean_iu"]
    assert f"the best mean IU of the tests, {max(said.values()):.1f}, is of iteration {kept['iteration']}: " in done
    assert "run/snap_best.caffemodel" in done.splitlines()[-2]


def test_validation_changes_nothing_of_the_training(done, job, capsys):
    tested = Path("run/snap_iter_40.caffemodel").read_bytes(), Path("run/snap_iter_40.solverstate").read_bytes()
    write(job, "test_interval: 1000000 test_initialization: false")
    assert not LINE.search(trained(capsys))
    assert tested == (Path("run/snap_iter_40.caffemodel").read_bytes(), Path("run/snap_iter_40.solverstate").read_bytes())


def files():
    return {path.name: path.read_bytes() for path in Path("run").glob("*_best*")}


@pytest.mark.parametrize("stopped", [1, 19, 25, 37, *(pytest.param(at, marks=pytest.mark.slow) for at in (7, 13, 31))])
@pytest.mark.usefixtures("done")
def test_a_run_that_is_interrupted_ends_with_the_same_best(capsys, stopped):
    expected = files()
    for path in Path("run").glob("*"):
        path.unlink()

    def stop(solver, loss):
        solver.stop = signal.SIGINT if solver.iter == stopped else None

    path = Path("solver.prototxt")
    with pytest.raises(Interrupted):
        run_stage(path, read_solver(path), None, None, "cpu", "fp32", Log(quiet=True), watch=stop)
    trained(capsys, "--snapshot", f"run/snap_iter_{stopped}.solverstate")
    assert files() == expected


@pytest.mark.parametrize("seen", [16, 32])
@pytest.mark.usefixtures("done")
def test_a_run_that_is_killed_and_goes_on_from_its_last_snapshot_ends_with_the_same_best(capsys, seen):
    expected = files()
    trained(capsys, "--snapshot", f"run/snap_iter_{seen}.solverstate")  # the best may be of an iteration to come
    assert files() == expected
    Path("run/snap_best.json").unlink()  # as if it was killed while they were written
    trained(capsys, "--snapshot", "run/snap_iter_8.solverstate")
    assert set(files()) == set(expected)


@pytest.mark.usefixtures("done")
def test_a_new_run_does_not_know_the_best_of_another(capsys):
    record = Path("run/snap_best.json")
    record.write_text(record.read_text().replace('"mean_iu": 0.', '"mean_iu": 0.9'))
    trained(capsys)
    assert json.loads(record.read_text())["mean_iu"] < 0.9


def test_classes_that_are_never_in_the_truth_are_named(job, capsys):
    write(job, classes=3)
    assert re.search(r"mean IU \S+ of 3 of 4 classes, 5 images \(never in the truth: class 3\)", trained(capsys))
    assert cli.main(["report", "solver.prototxt", "--out", "page.html"]) == 0
    assert "snap_best (never in the truth: class 3)" in Path("page.html").read_text()


def test_a_part_of_the_list_and_more_than_the_list(job, capsys):
    text = Path("solver.prototxt").read_text()
    Path("solver.prototxt").write_text(text.replace("test_iter: 5", "test_iter: 3"))
    assert re.search(r"mean IU \S+, 3 of 5 images", trained(capsys))
    Path("solver.prototxt").write_text(text.replace("test_iter: 5", "test_iter: 8"))
    assert re.search(r"mean IU \S+, 5 images", trained(capsys))


def test_a_test_computes_what_its_net_computes_by_a_plan(job, monkeypatch):
    """Also after a step has changed the weights in their place, and as the net itself where someone looks on."""
    solver, seen = get_solver("solver.prototxt"), []
    net, plain = solver.test_nets[0], Net.forward
    monkeypatch.setattr(Net, "forward", lambda self, *args, **more: seen.append(self) or plain(self, *args, **more))
    for _ in range(2):
        solver.step(3)
        seen.clear()
        found = solver.test()
        assert not seen
        with closing(Batches(net.graph.readers, net.device)) as batches, torch.no_grad():
            losses = [plain(net, batches.next())["loss"] for _ in range(5)]
        np.testing.assert_allclose(found["loss"], np.mean(losses), rtol=1e-6)
        assert not hasattr(net, "_plan")  # its copies of the weights are not kept while the solver learns
    net.conv.register_forward_hook(lambda *args: seen.append(args))
    np.testing.assert_allclose(solver.test()["loss"], found["loss"], rtol=1e-6)
    assert len(seen) == 10  # the net and the hook, five times
    solver.close()


def test_debug_info_and_caffes_lines(job, capsys):
    plain = trained(capsys, "--iterations", 6)
    write(job, "debug_info: true")
    found = trained(capsys, "--iterations", 6)
    assert LINE.findall(plain) == LINE.findall(found)
    caffe = [line.partition("] ")[2] for line in plain.splitlines() if re.search("solver.cpp:(347|414)", line)]
    assert caffe[0] == "Iteration 5, Testing net (#0)" and caffe[1].startswith("    Test net output #0: loss = ")
    assert len(caffe) == 2


def test_the_bar_shows_the_last_mean_iu(job):
    class Bar(Log):
        facts: ClassVar[list] = []

        def progress(self, name, done, total, facts, images):
            self.facts.append(facts)

    run_stage(Path("solver.prototxt"), read_solver("solver.prototxt"), None, None, "cpu", "fp32", Bar(quiet=True))
    assert "mean IU" not in Bar.facts[4] and re.fullmatch(r"loss \S+  mean IU \d+\.\d  lr \S+", Bar.facts[5])


def test_nothing_is_kept_where_no_snapshot_is(job, capsys):
    write(job, "snapshot: 0 snapshot_after_train: false")
    assert LINE.search(trained(capsys)) and not Path("run").exists() or not list(Path("run").glob("*"))


def test_how_often():
    assert interval(60, 10, 450) == 30 and interval(6, 10, 1000) == 50
    assert interval(736, 20, 10000) == 500 and interval(5105, 20, 10000) == 1250
    assert interval(3000, 10, 400) == 400 and interval(1, 1, 1) == 1 and interval(60, 10, 457) == 27


@pytest.mark.parametrize("text", ['{"mean_iu": 1e999, "iteration": 3}', '{"mean_iu": 0.9, "iteration": 1e999}', '{"mean_iu": NaN, "iteration": 3}',
                                  "[" * 100000, '{"mean_iu": "0.9", "iteration": 3}'])
def test_a_record_that_is_none_of_this_programs_counts_for_nothing(tmp_path, text):
    (tmp_path / "a_best.json").write_text(text)
    (tmp_path / "a_best.caffemodel").write_bytes(b"")
    best = Best(str(tmp_path / "a"), Log(sys.stderr, True), resumed=True)
    assert (best.measure, best.value, best.iteration) == ("", -1, 0)
