"""The detection demo and its study, with few iterations on few images."""

import json
from pathlib import Path

import pytest
from detecting import draw

from netspec.cli import main as cli
from netspec.papers import objects
from netspec.papers.record import Settings

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draw(Path("data/shapes/images"), train=3, val=2)


def test_both_ways_train_score_and_are_not_done_again(data, capsys):
    drawn = []
    for _ in range(2):
        place = objects.Place(Path("demo"), 1, Settings(quiet=True), iterations=2)
        found = [(way, place.scored(objects.NAME, way, lambda *each: drawn.append(each))) for way in objects.WAYS]
        assert len(drawn) == 2  # scored the first time only
        assert [record["images"] for _, record in found] == [2, 2] and all(0 <= record["map"] <= 1 for _, record in found)
    assert found[1][1]["weights"] == "demo/seed1/shapes-rfcn-rfcn2_joined.caffemodel"
    assert Path("demo/seed1/shapes-rfcn-rpn2.proposals.npz").exists() and not Path("snapshot").exists()
    words = objects.measures(found).split()
    assert words[:3] == ["AP50", "11", "points"] and {"sun", "wheel", "fork", "star"} < set(words)


def test_the_study_goes_on_where_it_stopped(data, capsys):
    command = ["studies", "rfcn", "--budget", "2", "--seed", "1", "--quiet"]
    assert cli.main(command) == 0
    first = Path("studies/rfcn.md").read_text()
    trained = {path: path.stat().st_mtime_ns for path in Path("studies").rglob("*.caffemodel")}
    assert len(trained) == 4
    assert cli.main(command) == 0
    assert {path: path.stat().st_mtime_ns for path in trained} == trained
    assert all(f"| {label}" in first for label in objects.VARIANTS)
    assert json.loads(Path("studies/rfcn-2/seed1/shapes-rfcn-k1-end-to-end.json").read_text())["net"] == "shapes-rfcn-k1"


def test_the_demo_has_its_own_solvers(data, capsys):
    assert cli.main(["demo", "shapes-fcn8s", "--detection"]) == 2
    assert "leave 'shapes-fcn8s' out" in capsys.readouterr().err


@pytest.mark.slow
def test_the_small_net_finds_shapes_both_ways(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draw(Path("data/shapes/images"), train=240, val=60)
    place = objects.Place(Path("demo"), 1, Settings(quiet=True))
    for way in objects.WAYS:
        assert place.scored(objects.NAME, way)["map"] > 0.8
