"""Stages trained, scored and shown by one command, and kept for the next one."""

import re
import shutil
import signal
import sys
from pathlib import Path

import pytest
from PIL import Image
from programs import Program

from netspec import NetSpec
from netspec import layers as L
from netspec.base.log import Part
from netspec.base.machine import PROJECT
from netspec.cli import main as cli
from netspec.proto import text as prototext

sys.path.insert(0, str(PROJECT / "data" / "shapes"))

import prepare  # noqa: E402 - the path comes first


def net(split, **options):
    n = NetSpec()
    n.data, n.label = L.Python(module="netspec.datasets", layer="SegmentationData", ntop=2, param_str=str(
        dict(dataset="shapes", root="images", split=split, **options)))
    n.score = L.Convolution(n.data, num_output=5, kernel_size=1)
    n.loss = L.SoftmaxWithLoss(n.score, n.label, loss_param=dict(normalize=True, ignore_label=255))
    return n.to_proto()


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert not prepare.main(["--root", "images", "--train", "3", "--val", "2", "--size", "48x40"])
    (tmp_path / "solvers").mkdir()
    for stage in ("a-fcn32s", "a-fcn16s"):
        for split in ("train", "val"):
            prototext.write(f"nets/{stage}/{split}.prototxt", net(split))
        (tmp_path / f"{stage}.prototxt").write_text(
            f'train_net: "nets/{stage}/train.prototxt" base_lr: 1e-5 lr_policy: "fixed" max_iter: 2 solver_mode: CPU')


def test_how_far_all_is_is_said_without_a_terminal(place, capsys, monkeypatch):
    monkeypatch.setattr(Part, "EVERY", 0)
    assert cli.main(["demo", "a-fcn32s.prototxt", "a-fcn16s.prototxt", "--seed", "1", "2"]) == 0
    said = re.findall(r"netspec\] (seed . of 2, stage . of 2): (\d+) % of all, about (\d+:\d\d) left", capsys.readouterr().err)
    assert [(part, share) for part, share, _ in said] == [
        ("seed 1 of 2, stage 1 of 2", "25"), ("seed 1 of 2, stage 2 of 2", "50"),
        ("seed 2 of 2, stage 1 of 2", "75"), ("seed 2 of 2, stage 2 of 2", "100")]


def test_a_stopped_demo_says_how_to_go_on(place):
    path = Path("a-fcn32s.prototxt")
    path.write_text(path.read_text().replace("max_iter: 2", "max_iter: 100000"))
    process = Program("-m", "netspec", "demo", path, cwd=".")
    while "% of all" not in process.stderr.readline():
        pass
    process.send_signal(signal.SIGINT)
    said = process.communicate(60)[1]
    assert process.returncode == 130 and "the same command goes on" in said and "--snapshot" not in said


def test_stages_are_trained_scored_shown_and_kept(place, capsys):
    command = ["demo", "a-fcn32s.prototxt", "a-fcn16s.prototxt", "--seed", "1", "2", "--rows", "2", "--quiet"]
    assert cli.main(command) == 0
    first = capsys.readouterr().out
    assert "records      results, which netspec tables shows: seed 1's" in first
    assert re.search(r"^to look at   netspec serve demo images/JPEGImages$", first, re.MULTILINE)
    for stage in ("a-fcn32s", "a-fcn16s"):
        shutil.copy(f"{stage}.prototxt", "solvers")
    assert cli.main(["tables", "2", "--family", "a"]) == 0
    row = re.search(r"^a-fcn16s +here +(.*)$", capsys.readouterr().out, re.MULTILINE)
    assert re.search(rf"^a-fcn16s +{' +'.join(row[1].split())}$", first, re.MULTILINE)
    kept = Path("results/a-fcn16s.scores.json").read_text()
    assert cli.main(["demo", "a-fcn16s.prototxt", "--seed", "3", "--out", "else", "--quiet"]) == 0
    assert "without a-fcn16s: records of other weights are there" in capsys.readouterr().out
    assert Path("results/a-fcn16s.scores.json").read_text() == kept
    assert "2 images, 'val' of 'shapes', random_seed 2" in first and "over random_seed 1, 2" in first
    assert "kept" not in first
    assert Image.open("demo/stages.png").width > 4 * 48
    assert cli.main(command) == 0
    again = capsys.readouterr().out
    assert again.count("kept from an earlier run") == 4
    tables = [[line for line in text.splitlines() if line.startswith("a-fcn") and "weights" not in line and "kept" not in line]
              for text in (first, again)]
    assert tables[0] == tables[1] and len(tables[0]) == 6
    prototext.write("nets/b-fcn16s/train.prototxt", net("train"))
    prototext.write("nets/b-fcn16s/val.prototxt", net("val", resize=0.5))
    open("b-fcn16s.prototxt", "w").write(open("a-fcn16s.prototxt").read().replace("a-fcn16s", "b-fcn16s"))
    assert cli.main(["demo", "a-fcn16s.prototxt", "b-fcn16s.prototxt", "--out", "two", "--quiet"]) == 0
    assert "two/stages.png, without b-fcn16s, of other images" in capsys.readouterr().out
    text = open("a-fcn16s.prototxt").read()
    open("a-fcn16s.prototxt", "w").write(text.replace("1e-5", "2e-5"))
    assert cli.main(command) == 0
    assert capsys.readouterr().out.count("kept from an earlier run") == 2
