"""What runs of an earlier commit left behind (golden/oldrun) goes on as before: snapshots, logs, records, nets of one's own."""

import base64
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from netspec.cli import main as cli
from netspec.look import curves
from netspec.net import weights
from netspec.net.build import load
from netspec.net.module import Net
from netspec.proto import caffe_pb2
from netspec.proto import text as prototext
from netspec.proto.model import read_weights
from netspec.train.snapshot import read_snapshot

OLD = Path(__file__).parents[1] / "golden" / "oldrun"
SNAPSHOT = "snapshot/tiny-fcn32s_iter_4.solverstate"
pytestmark = pytest.mark.usefixtures("one_thread")
same_draws = pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="torch draws Dropout's masks by MKL where it can: "
                                "without it they are others, whatever this project does")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A copy of the run, which is the current folder."""
    shutil.copytree(OLD, tmp_path / "run")
    monkeypatch.chdir(tmp_path / "run")
    return tmp_path / "run"


def close(mine, theirs):
    """To 1e-6 of the largest."""
    mine, theirs = (np.asarray(each, dtype=np.float64) for each in (mine, theirs))
    np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-6 * np.abs(theirs).max())


def facts_in(name):
    return json.loads(Path(name).read_text(encoding="utf-8"))


@same_draws
def test_a_run_goes_on_to_the_parameters_of_the_uninterrupted_one(place):
    assert cli.main(["solve", "solvers/tiny-fcn32s.prototxt", "--snapshot", SNAPSHOT, "--quiet"]) == 0
    mine, theirs = (read_weights(f"{folder}/tiny-fcn32s_iter_10.caffemodel") for folder in ("snapshot", "whole"))
    assert list(mine) == list(theirs) and len([layer for layer, blobs in theirs.items() if blobs]) == 4
    for layer in theirs:
        for a, b in zip(mine[layer], theirs[layer], strict=True):
            close(a, b)
    mine, theirs = (facts_in(f"{folder}/tiny-fcn32s_iter_10.resume") for folder in ("snapshot", "whole"))
    close(mine.pop("losses"), theirs.pop("losses"))
    assert {key: mine[key] for key in theirs} == theirs  # where the data are, and the random state


@same_draws
def test_its_log_goes_on_too(place):
    before = Path("tiny.log").read_text()
    assert cli.main(["solve", "solvers/tiny-fcn32s.prototxt", "--snapshot", SNAPSHOT, "--log", "tiny.log", "--quiet"]) == 0
    after = Path("tiny.log").read_text()
    assert after.startswith(before)
    Path("new.log").write_text(after.removeprefix(before))
    (new,), (whole,), (old,) = (curves.read_log(f"{name}.log") for name in ("new", "whole/whole", "tiny"))
    for run in (new, old):
        assert run.series.pop(("mean IU in percent", "test mean IU"))  # that day it was not said
    assert old.name == whole.name == "tiny-fcn32s" and set(new.series) == set(old.series) == set(whole.series)
    for key, points in whole.series.items():
        assert [at for at, _ in old.series[key]] == [at for at, _ in points]
        for run in (new, old):
            np.testing.assert_allclose(run.series[key], [p for p in points if p[0] >= run.series[key][0][0]], rtol=1.1e-5)
    assert min(at for points in new.series.values() for at, _ in points) == 4


def test_a_resume_file_is_json_with_bytes_in_base64(place):
    facts = facts_in(Path(SNAPSHOT).with_suffix(".resume"))
    assert {key: facts[key] for key in ("iter", "seed", "train", "test", "skipped")} == {
        "iter": 4, "seed": 3, "train": [8], "test": [[2]], "skipped": []}
    state = torch.frombuffer(bytearray(base64.b64decode(facts["cpu"]["bytes"])), dtype=torch.uint8)
    assert set(facts) == {"iter", "losses", "seed", "train", "test", "skipped", "cpu"} and list(facts["cpu"]) == ["bytes"]
    assert len(facts["losses"]) == 4 and len(state) == len(torch.get_rng_state())
    read_state, found, facts_read = read_snapshot(SNAPSHOT)
    assert read_state.iteration == found.iteration == 4 and found.weights == place / "snapshot/tiny-fcn32s_iter_4.caffemodel"
    assert torch.equal(facts_read["cpu"], state) and facts_read["losses"] == facts["losses"]


def test_records_are_read_and_nothing_is_scored_again(place):
    """A record that is made anew has another date."""
    path = Path("snapshot/tiny-fcn32s.json")
    before = path.read_bytes()
    for _ in range(2):
        assert cli.main(["report", "solvers/tiny-fcn32s.prototxt", "--score", "--quiet", "--out", "page.html"]) == 0
        assert path.read_bytes() == before
    iu = json.loads(before)["mean_iu"]
    assert f"{100 * iu:.1f}" in Path("page.html").read_text(encoding="utf-8")


def test_tables_read_their_records_and_do_not_train_again(place, capsys):
    shutil.copy("whole/tiny-fcn32s_iter_10.caffemodel", "snapshot")
    path = Path("results/tiny-fcn32s.scores.json")
    before = path.read_bytes()
    assert cli.main(["tables", "2", "--family", "tiny", "--run", "--quiet", "--format", "json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)[0]["rows"]
    assert path.read_bytes() == before and row["cells"]["mean_iu"] == 100 * json.loads(before)["mean_iu"]


def test_a_record_says_what_is_measured_now(place):
    """Scored again: the same figures and facts, all but seconds and origin."""
    path = Path("snapshot/tiny-fcn32s.json")
    old = json.loads(path.read_text())
    path.unlink()
    assert cli.main(["report", "solvers/tiny-fcn32s.prototxt", "--score", "--quiet", "--out", "page.html"]) == 0
    new = json.loads(path.read_text())
    assert new.pop("unseen") == []  # that day it was not said
    assert list(new) == list(old) and set(new["origin"]) == set(old["origin"])
    for key in ("seconds", "origin"):
        del new[key], old[key]
    close(new.pop("loss"), old.pop("loss"))
    assert new == old


def test_nets_of_ones_own_are_built_trained_and_scored(place, capsys):
    assert prototext.read_solver("set/set-fcn8s.prototxt").weights == ["set/snapshot/set-fcn16s_iter_2.caffemodel"]
    net = Net(load("set/set-fcn8s/train.prototxt", caffe_pb2.TRAIN))
    assert net.graph.shape("score")[1:] == (3, 36, 40) and {"fc7", "score_pool3", "upscore8"} <= set(net.layers_with_params())
    torch.manual_seed(0)
    for parameter in net.parameters():
        if not parameter.any():  # of the layers that begin with zeros, where only weights of the stage before let them learn
            torch.nn.init.normal_(parameter, std=0.01)
    Path("set/snapshot").mkdir()
    weights.save("set/snapshot/set-fcn16s_iter_2.caffemodel", net)
    assert cli.main(["solve", "set/set-fcn8s.prototxt", "--quiet"]) == 0
    assert cli.main(["score", "set/set-fcn8s/val.prototxt", "set/snapshot/set-fcn8s_iter_2.caffemodel"]) == 0
    out = capsys.readouterr().out
    assert "disc" in out and "2 images" in out
