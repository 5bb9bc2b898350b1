"""What the page shows of what is wrong: the findings of real commands about real files, whatever their names and words."""

import json

import numpy as np
import pytest
from PIL import Image
from thirds import write_thirds

from netspec.base.errors import Error
from netspec.cli.main import main
from netspec.web.checking import DATA, DOCTOR, MOST, Checking, counted, listed, tables, words
from netspec.web.commands import Commands
from netspec.web.desk import Desk
from netspec.web.folders import Folders
from web.test_reading import Seen

BOLD = "<b onload=alert(1)>"


def found(capsys, how, what, sheet=None):
    """What the page's command told."""
    assert main(words(how, str(what), None, sheet)) in (0, 1)
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def own(tmp_path):
    """A data set file of images with labels: one of another size, one with a class that is none."""
    numbers = np.random.default_rng(0)
    for folder in ("photos", "masks"):
        (tmp_path / folder).mkdir()
    for i, name in enumerate(("a", "b", BOLD)):
        Image.fromarray(numbers.integers(0, 255, (20, 30, 3), np.uint8)).save(tmp_path / f"photos/{name}.png")
        labels = numbers.integers(0, 2, (20 - (i == 1), 30), np.uint8)
        labels[0] += 7 * (i == 2)
        Image.fromarray(labels).save(tmp_path / f"masks/{name}.png")
    (tmp_path / "set.txt").write_text("images: photos\nlabels: masks\nroad 128 64 128\ncar 64 0 128\n")
    return tmp_path / "set.txt"


def test_of_a_net_problems_come_first(tmp_path, capsys):
    write_thirds(tmp_path)
    told = found(capsys, DOCTOR, tmp_path / "net.prototxt")
    levels = [one["level"] for one in told["findings"]]
    seen = Seen(listed(told))
    shown = [attributes["class"] for tag, attributes in seen.tags if tag == "b"]
    assert sorted(shown) == sorted(levels) and shown != levels
    assert shown == sorted(shown, key=["problem", "note", "ok"].index) and shown[0] == "problem"
    assert "score: weights all zero" in seen.text and "\u2192 load the weights" in seen.text
    assert counted(told).startswith("1 problem, ") and "ok" not in counted(told)


def test_of_data_findings_of_a_kind_are_one(own, tmp_path, capsys):
    told = found(capsys, DATA, own, tmp_path / "sheet.png")
    assert counted(told).startswith("2 errors") and (tmp_path / "sheet.png").exists()
    seen = Seen(listed(told))
    assert {tag for tag, _ in seen.tags} == {"ul", "li", "b", "div"}
    assert f"masks/{BOLD}.png: 30 of 600 label values" in seen.text and f"masks/{'b'}.png is 30x19" in seen.text
    splits, classes = map(Seen, tables(told))
    assert "30x20" in splits.text and "mean used" in splits.text
    assert "road" in classes.text and "(void)" in classes.text


def test_of_very_many_places_some_are_shown():
    told = {"findings": [{"level": "error", "kind": "missing", "what": "files that are not there", "where": f"{i}.png"} for i in range(5000)]}
    seen = Seen(listed(told))
    assert len([tag for tag, _ in seen.tags if tag == "div"]) == MOST + 1 and seen.text.endswith("... and 4900 more")
    assert counted(told) == "5000 errors" and tables(told) == []


def test_the_tab(own, tmp_path):
    """What its button makes of a real command; and that it opens nothing else."""
    gradio = pytest.importorskip("gradio")
    (tmp_path / "page").mkdir()
    commands = Commands(main)
    try:
        desk = Desk(commands, Folders([own.parent]), [], tmp_path / "page", 40)
        with gradio.Blocks():
            tab = Checking(desk)
        assert str(own) in dict(tab.begin(DATA)[0].choices) and str(own) not in dict(tab.begin(DOCTOR)[0].choices)
        *_, last = tab.check(desk.session("a"), DATA, str(own), "")
        assert "2 errors" in last[tab.panel.said] and "data:image/png" in last[tab.sheet] and BOLD not in last[tab.found]
        with pytest.raises(Error, match="none of the files"):
            next(tab.check(desk.session("a"), DATA, "/etc", ""))
        with pytest.raises(Error, match="name its data set by --dataset"):
            list(tab.check(desk.session("a"), DATA, str(own.parent / "photos"), ""))
    finally:
        commands.close()
