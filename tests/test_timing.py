"""The time command prints figures it measured, for a small net."""

from pathlib import Path

import h5py
import numpy as np

from netspec import NetSpec, cli, prototext
from netspec import layers as L


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
    assert cli.main(["time", "load", str(tmp_path / "net.prototxt"), str(weights), "--runs", "2"]) == 0
    assert weights.exists()
    row = capsys.readouterr().out.splitlines()[-1].split()
    assert row[0] == "made.caffemodel" and float(row[3]) <= float(row[2]) <= float(row[4])


def test_data_gives_rates_and_the_share_of_waiting(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with h5py.File("data.h5", "w") as file:
        file["data"] = np.random.default_rng(0).standard_normal((4, 3, 8, 8)).astype(np.float32)
        file["label"] = np.zeros((4, 1, 8, 8), np.float32)
    Path("data.txt").write_text("data.h5\n")
    small(Path("net.prototxt"), source="data.txt", batch_size=2)
    Path("solver.prototxt").write_text('net: "net.prototxt"\nbase_lr: 0.01\nlr_policy: "fixed"\nmax_iter: 9\n'
                                       'weights: "none.caffemodel" snapshot: 1\n')
    assert cli.main(["time", "data", "solver.prototxt", "--iterations", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[-3:]] == ["data", "training", "a"]
    assert 0 <= float(lines[-1].split()[5]) <= 100
    assert not list(Path().glob("*.solverstate"))


def test_no_measurements_are_refused(tmp_path, capsys):
    assert cli.main(["time", "load", "x", "y", "--runs", "0"]) == 2
    assert "at least 1" in capsys.readouterr().err
