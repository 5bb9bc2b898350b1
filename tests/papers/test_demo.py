"""Stages trained, scored and shown by one command, and kept for the next one."""

import sys

import pytest
from PIL import Image

from netspec import NetSpec
from netspec import layers as L
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
    for stage in ("a-fcn32s", "a-fcn16s"):
        for split in ("train", "val"):
            prototext.write(f"nets/{stage}/{split}.prototxt", net(split))
        (tmp_path / f"{stage}.prototxt").write_text(
            f'train_net: "nets/{stage}/train.prototxt" base_lr: 1e-5 lr_policy: "fixed" max_iter: 2 solver_mode: CPU')


def test_stages_are_trained_scored_shown_and_kept(place, capsys):
    command = ["demo", "a-fcn32s.prototxt", "a-fcn16s.prototxt", "--seed", "1", "2", "--rows", "2", "--quiet"]
    assert cli.main(command) == 0
    first = capsys.readouterr().out
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
