"""The time command prints figures it measured, for a small net."""

import multiprocessing
import os
import re
from pathlib import Path

import h5py
import numpy as np
import pytest

from netspec import NetSpec
from netspec import layers as L
from netspec.cli import main as cli
from netspec.papers import timing
from netspec.proto import text as prototext

ROOT = Path(__file__).parents[2]


def small(path: Path, **data) -> None:
    n = NetSpec()
    if data:
        n.data, n.label = L.HDF5Data(ntop=2, **data)
    else:
        n.data = L.Input(shape=dict(dim=[1, 3, 8, 8]))
    n.score = L.Convolution(n.data, num_output=4, kernel_size=3, pad=1, weight_filler=dict(type="xavier"))
    if data:
        n.loss = L.SoftmaxWithLoss(n.score, n.label)
    prototext.write(path, n.to_proto())


def test_load_makes_the_file_and_times_it(tmp_path, capsys):
    small(tmp_path / "net.prototxt")
    weights = tmp_path / "made.caffemodel"
    command = ["time", "load", str(tmp_path / "net.prototxt"), str(weights), "--runs", "2"]
    assert cli.main(command) == 2 and not weights.exists()  # a slip of the name writes nothing
    assert f"weights '{weights}' is not there" in capsys.readouterr().err
    assert cli.main([*command, "--make"]) == 0
    said = capsys.readouterr().out
    assert weights.exists() and f"wrote {weights}: of the net's fillers\n" in said
    row = said.splitlines()[-1].split()
    assert row[0] == "made.caffemodel" and float(row[3]) <= float(row[2]) <= float(row[4])


@pytest.fixture
def solver(tmp_path, monkeypatch):
    """solver.prototxt in the current folder, and a net and data."""
    monkeypatch.chdir(tmp_path)
    with h5py.File("data.h5", "w") as file:
        file["data"] = np.random.default_rng(0).standard_normal((4, 3, 8, 8)).astype(np.float32)
        file["label"] = np.zeros((4, 1, 8, 8), np.float32)
    Path("data.txt").write_text("data.h5\n")
    small(Path("net.prototxt"), source="data.txt", batch_size=2)
    Path("solver.prototxt").write_text('net: "net.prototxt"\nbase_lr: 0.01\nlr_policy: "fixed"\nmax_iter: 9\n'
                                       'weights: "none.caffemodel" snapshot: 1\n')


def test_data_gives_rates_and_the_share_of_waiting(solver, capsys):
    assert cli.main(["time", "data", "solver.prototxt", "--iterations", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[-3:]] == ["data", "training", "a"]
    assert 0 <= float(lines[-1].split()[5]) <= 100
    assert not list(Path().glob("*.solverstate"))


def test_images_of_all_batches_of_a_step_are_counted(solver, monkeypatch):
    monkeypatch.setattr(timing, "seconds", lambda call, times: [0.5] * times)
    for more, rate in (("", "4.0"), ("iter_size: 3", "12.0")):  # two images in half a second
        Path("more.prototxt").write_text(Path("solver.prototxt").read_text() + more)
        lines = timing.time_data(Path("more.prototxt"), 2, "cpu", "fp32").splitlines()
        assert [line.split()[-3:] for line in lines[2:4]] == [["4.0"] * 3, [rate] * 3]


@pytest.mark.slow
def test_wait_holds_the_policies_against_each_other_quiet_and_busy(solver, capfd):
    before = dict(os.environ)
    assert cli.main(["time", "wait", "solver.prototxt", "--repeats", "2"]) == 0
    out, err = capfd.readouterr()
    assert err == "" and os.environ == before and not list(Path().glob("*.solverstate"))
    rows = [re.split(r"  +", line) for line in out.splitlines() if line.startswith(("quiet", "busy"))]
    assert [row[:2] for row in rows] == [[load, name] for load in timing.LOADS for name in timing.POLICIES]
    for row in rows:
        median, least, most = map(float, row[3:])
        assert 0 < least <= median <= most
        if row[1] == "as commands wait":
            assert least == median == most == 1
    assert "nothing but spin" in out and not multiprocessing.active_children()


def test_wait_says_what_is_wrong_with_the_solver(capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("solver.prototxt").write_text('net: "nowhere.prototxt" base_lr: 1 lr_policy: "fixed"')
    assert cli.main(["time", "wait", "solver.prototxt"]) == 2
    err = capfd.readouterr().err
    assert err.count("\n") == 1 and "nowhere.prototxt" in err


@pytest.mark.slow
def test_ranks_train_beside_one_process(solver, capfd):
    assert cli.main(["time", "ranks", "solver.prototxt", "--size", "8", "--repeats", "2"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert "2 images an iteration, 2 rounds" in lines[1]
    assert [line.rsplit(None, 6)[0] for line in lines[4:7]] == ["one process", "one rank", "2 ranks"]
    assert lines[4].split()[-3:] == ["1.00"] * 3 and all(float(word) > 0 for line in lines[4:7] for word in line.split()[-6:])
    assert not multiprocessing.active_children()


def test_more_ranks_than_cores_are_refused(solver, capfd):
    assert cli.main(["time", "ranks", "solver.prototxt", "--ranks", "1000"]) == 2
    assert "--ranks must lie between 2 and" in capfd.readouterr().err


def classifier(path: Path) -> None:
    n = NetSpec()
    n.data = L.Input(shape=dict(dim=[1, 3, 21, 21]))
    n.conv = L.Convolution(n.data, num_output=4, kernel_size=3, stride=2)
    n.pool = L.Pooling(L.Convolution(n.conv, num_output=4, kernel_size=3, pad=1), kernel_size=2, stride=2)
    n.fc = L.InnerProduct(n.pool, num_output=4)
    prototext.write(path, n.to_proto())


def test_dense_scores_equal_the_classifier_on_their_windows(tmp_path, capsys):
    classifier(tmp_path / "net.prototxt")
    assert cli.main(["time", "dense", str(tmp_path / "net.prototxt"), "--size", "45", "--repeats", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "7x7 scores at stride 4, or crops of 21x21" in lines[1] and lines[5].startswith("49 crops")
    # the window: 5 of pool, 10 before it, 12 before the padded convolution, 25 pixels
    words = lines[-1].split()
    assert "36 scores" in lines[-1] and "25x25" in lines[-1]
    assert 0 <= float(words[words.index("by") + 1]) < 1e-4 * float(words[-1])


@pytest.mark.slow
def test_dense_alexnet_equals_its_windows(capsys):
    assert cli.main(["time", "dense", str(ROOT / "models/alexnet/deploy.prototxt"), "--repeats", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    words = lines[-1].split()
    assert "10x10 scores at stride 32" in lines[1] and "25 scores" in lines[-1] and "355x355" in lines[-1]
    assert float(words[words.index("by") + 1]) < 1e-5 * float(words[-1])
    assert float(lines[-2].split()[3]) > 1


def test_dense_refuses_images_of_one_window_and_nets_of_several_paths(tmp_path, capsys):
    classifier(tmp_path / "net.prototxt")
    assert cli.main(["time", "dense", str(tmp_path / "net.prototxt"), "--size", "26"]) == 2
    assert "larger --size" in capsys.readouterr().err
    assert cli.main(["time", "dense", str(tmp_path / "net.prototxt"), "--size", "-1"]) == 2
    assert "--size must be at least 1" in capsys.readouterr().err
    assert cli.main(["time", "dense", str(ROOT / "models/googlenet/deploy.prototxt")]) == 2
    assert "inception_3a/output" in capsys.readouterr().err


def test_no_measurements_are_refused(tmp_path, capsys):
    assert cli.main(["time", "load", "x", "y", "--runs", "0"]) == 2
    assert "at least 1" in capsys.readouterr().err
