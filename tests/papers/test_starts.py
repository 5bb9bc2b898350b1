"""How long it takes to begin is measured in processes of their own."""

import re
from pathlib import Path

import pytest
import torch

from netspec.cli import main as cli
from netspec.net import weights
from netspec.net.deploy import deploy
from netspec.net.module import Net
from netspec.papers import starts, whole

ROOT = Path(__file__).parents[2]
SMALL = ROOT / "models/shapes-fcn8s/deploy.prototxt"


@pytest.fixture
def given(tmp_path):
    net = Net(deploy(SMALL))
    with torch.no_grad():
        net.get_parameter("conv1_1.weight").fill_(2)
    weights.save(tmp_path / "given.caffemodel", net)
    return tmp_path / "given.caffemodel"


def figures(said: str) -> list[list[str]]:
    return [re.split(r"  +", line) for line in said.splitlines() if re.match("prototxt to|netspec infer,", line)]


@pytest.mark.slow
def test_start_is_timed_in_processes(given, capfd):
    assert cli.main(["time", "start", str(SMALL), str(given), "--repeats", "2"]) == 0
    said, err = capfd.readouterr()
    found = figures(said)
    assert not err and "load average before: " in said and "shapes-fcn8s, start, 2 rounds" in said
    assert [row[0] for row in found] == ["prototxt to module with given.caffemodel", "netspec infer, 96x128"]
    for row in found:
        median, least, most = map(float, row[1:])
        assert 0 < least <= median <= most
    assert float(found[0][1]) < float(found[1][1])  # which imports, too


def test_start_takes_turns_and_leaves_the_first_out(monkeypatch, given):
    took, ran = iter([9.0, 1.0, 2.0, 4.0]), []
    monkeypatch.setattr(starts, "_first", lambda path, weights: next(took))
    monkeypatch.setattr(whole, "_run", ran.append)
    found = figures(starts.time_start(SMALL, given, 3))
    assert found[0][1:] == ["2.000", "1.000", "4.000"] and len(ran) == 4
    assert ran[0][1:5] == ["-m", "netspec", "infer", str(SMALL)] and ran[0][6].endswith("small.png")


def test_a_module_has_the_weights_when_the_clock_stops(monkeypatch, given):
    sent, made = [], []
    asked = type("Asked", (), {"send": staticmethod(sent.append)})
    ready = starts.ready
    monkeypatch.setattr(starts, "ready", lambda net, source: made.append(net) or ready(net, source))
    starts._makes(asked, SMALL, given)
    assert sent[0] is None and 0 < sent[1] < 60
    assert made[0].get_parameter("conv1_1.weight").unique().tolist() == [2]
