"""Work that outlives its command: training goes on where it was left, records hold until what they are of changes."""

import ast
import sys
from pathlib import Path

import numpy as np
import pytest

from netspec import NetSpec
from netspec import layers as L
from netspec.base.errors import Error
from netspec.base.machine import PROJECT
from netspec.cli import main as cli
from netspec.papers import record
from netspec.proto import text as prototext
from netspec.proto.model import read_weights
from netspec.train.solver import Solver

sys.path.insert(0, str(PROJECT / "data" / "shapes"))

import prepare  # noqa: E402 - the path comes first

ARGS = record.Settings(device="cpu", quiet=True)


def net(split="train", root="images"):
    n = NetSpec()
    n.data, n.label = L.Python(module="netspec.datasets", layer="SegmentationData", ntop=2, param_str=str(
        dict(dataset="shapes", root=root, split=split)))
    n.score = L.Convolution(n.data, num_output=5, kernel_size=1)
    n.loss = L.SoftmaxWithLoss(n.score, n.label, loss_param=dict(normalize=True, ignore_label=255))
    return n.to_proto()


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert not prepare.main(["--root", "images", "--train", "3", "--val", "2", "--size", "48x40"])
    prototext.write("train.prototxt", net())
    return tmp_path


def solver(iterations, rate="1e-5"):
    (path := Path("a.prototxt")).write_text(
        f'train_net: "train.prototxt" base_lr: {rate} lr_policy: "fixed" momentum: 0.9 max_iter: {iterations} snapshot: 2 '
        'snapshot_prefix: "out/a" solver_mode: CPU random_seed: 1')
    return path, prototext.read_solver(path)


def test_training_goes_on_and_equals_a_run_without_interruption(place):
    file, kept = record.trained(*solver(4), None, ARGS)
    assert not kept and file.name == "a_iter_4.caffemodel"
    whole = read_weights(file)["score"]
    for left in place.glob("out/*_4.*"):
        left.unlink()
    seen = []
    file, kept = record.trained(*solver(4), None, ARGS, watch=lambda s, loss: seen.append(s.iter))
    assert seen == [3, 4] and not kept
    assert all(np.array_equal(a, b) for a, b in zip(whole, read_weights(file)["score"], strict=True))
    assert record.trained(*solver(4), None, ARGS)[1]


def test_weights_are_scored_on_the_test_images_or_on_val(place):
    path, param = solver(2)
    with pytest.raises(Error, match="neither test.prototxt nor val.prototxt"):
        record.test_net(path, param)
    for name in ("val.prototxt", "test.prototxt"):
        prototext.write(name, net("val"))
        assert record.test_net(path, param) == place / name


def test_snapshots_of_another_mark_are_not_gone_on_with(place):
    record.trained(*solver(2), None, ARGS, "one")
    seen = []
    record.trained(*solver(4), None, ARGS, "one", lambda s, loss: seen.append(s.iter))
    assert seen == [3, 4]
    assert not record.trained(*solver(4), None, ARGS, "two", lambda s, loss: seen.append(s.iter))[1]
    assert seen == [3, 4, 1, 2, 3, 4]


@pytest.mark.parametrize("prefix", ["out/a", "out/"])
def test_snapshots_in_hdf5_are_found_and_gone_on_with(place, prefix):
    def ask(iterations, mark="one"):
        solver(iterations)[0].write_text(solver(iterations)[0].read_text().replace("out/a", prefix) + " snapshot_format: HDF5")
        seen = []
        file, kept = record.trained(path := Path("a.prototxt"), prototext.read_solver(path), None, ARGS, mark,
                                        lambda s, loss: seen.append(s.iter))
        assert file.exists() and file.name == f"a_iter_{iterations}.caffemodel.h5"
        return kept, seen

    assert ask(4) == (False, [1, 2, 3, 4])
    assert ask(4) == (True, [])
    assert ask(6) == (False, [5, 6])
    assert ask(6, "two") == (False, [1, 2, 3, 4, 5, 6])


def test_a_trace_goes_on_behind_the_iteration_that_a_run_goes_on_from(place):
    path, param = solver(6)
    trace = record.Trace(place / "loss.csv")
    running = Solver(param, path=path)
    for at, loss in ((1, 3.0), (2, 2.0), (3, 9.0)):
        running.iter = at
        trace(running, loss)
    again = record.Trace(place / "loss.csv")
    for at, loss in ((3, 1.5), (4, 1.0)):  # from the snapshot at 2 on
        running.iter = at
        again(running, loss)
    rows = record.Trace.read(place / "loss.csv")
    assert [row[:2] for row in rows] == [(1, 3.0), (2, 2.0), (3, 1.5), (4, 1.0)]
    assert [row[2] for row in rows] == sorted(row[2] for row in rows)


def test_a_record_is_measured_once_and_anew_under_another_mark(tmp_path):
    calls = []

    def measure():
        calls.append(1)
        return {"value": len(calls)}

    path = tmp_path / "deep" / "r.json"
    assert [record.recorded(path, mark, measure, "cpu")["value"] for mark in ("a", "a", "b", "b")] == [1, 1, 2, 2]
    known = record.read(path)
    assert set(known["origin"]) >= {"command", "date", "device", "netspec"} and known["mark"] == "b"
    assert record.recorded(path, "b", measure, "cpu", beside=tmp_path / "gone")["value"] == 3
    path.write_text("{ not json")
    assert record.recorded(path, "b", measure, "cpu")["value"] == 4


WRONG = ["", "{", "[1]", "\xff", "[" * 100_000, '{"mean_iu": "0.5"}', '{"mean_iu": true}', '{"loss": NaN}', '{"loss": 1e999}',
         '{"images": ' + "9" * 400 + "}", '{"images": ' + "9" * 5000 + "}", '{"classes": {}}', '{"classes": [1]}',
         '{"classes": [{"iu": 1}]}', '{"classes": [{"name": "a", "iu": "b"}]}', '{"trimap": [1]}', '{"trimap": {"4": {"mean_iu": []}}}',
         '{"binary": 3}', '{"origin": "here"}', '{"origin": {"device": 1}}', '{"heads": {"geo": "x"}}', '{"unseen": [null]}',
         '{"weights": 1}', '{"histogram": [1]}', '{"milliseconds": "fast"}']


@pytest.mark.parametrize("text", WRONG, ids=range(len(WRONG)))
def test_what_is_no_record_is_one_sentence_and_measured_again(tmp_path, text):
    path = tmp_path / "voc-fcn32s.scores.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(Error, match=f"^{path}: is no record of measurements: ") as caught:
        record.read(path)
    assert len(str(caught.value)) < 400 and "\n" not in str(caught.value)
    assert record.recorded(path, "mark", lambda: {"mean_iu": 0.5}, "cpu")["mean_iu"] == 0.5 and record.read(path)["mark"] == "mark"


def test_tables_name_a_record_that_is_none(tmp_path, capsys):
    (tmp_path / "voc-fcn32s.scores.json").write_text('{"mean_iu": []}')
    assert cli.main(["tables", "1", "--results", str(tmp_path)]) == 2
    assert "voc-fcn32s.scores.json: is no record of measurements: 'mean_iu' cannot be []" in capsys.readouterr().err


def test_a_trace_that_is_none_is_named_with_its_line(tmp_path):
    (tmp_path / "a.csv").write_text("1,0.5,0.1\n2,x,0.2\n")
    with pytest.raises(Error, match=f"{tmp_path}/a.csv:2: expected iteration, loss and seconds"):
        record.Trace.read(tmp_path / "a.csv")


def test_data_below_another_root():
    voc = net("seg11valid", "data/voc/VOC2011")
    for layer in voc.layer[:1]:
        layer.python_param.param_str = layer.python_param.param_str.replace("'shapes'", "'voc'")
    moved = record.relocated(voc, Path("/there"))
    param = ast.literal_eval(moved.layer[0].python_param.param_str)
    assert (param["root"], param["sbd"]) == ("/there/voc/VOC2011", "/there/sbd/dataset")
    own = record.relocated(net(root="/mine"), Path("/there"))
    assert ast.literal_eval(own.layer[0].python_param.param_str)["root"] == "/mine"


def test_digests_tell_parts_apart(tmp_path):
    (tmp_path / "f").write_text("ab")
    assert record.digest("a", "b") != record.digest("ab", "")
    assert record.digest("ab") == record.digest(tmp_path / "f") == record.digest(b"ab")
