"""The tables of a net's scores, and its confusion matrix."""

import csv
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from netspec.base.errors import Error
from netspec.base.metrics import Scores, mean_iu
from netspec.score.summary import measures, per_class, save_confusion

NAMES = ["background", "cat", "dog"]


@pytest.fixture
def scores():
    return Scores.from_histogram([[6, 2, 0], [1, 7, 0], [0, 0, 0]])


def test_measures_are_table_2(scores):
    text = measures([("FCN-32s", scores)], markdown=True)
    assert text.splitlines()[0] == "|         | pixel acc. | mean acc. | mean IU | f.w. IU |"
    # 13/16; (6/8 + 7/8)/2; (6/9 + 7/10)/2; (8*6/9 + 8*7/10)/16
    assert text.splitlines()[2] == "| FCN-32s |       81.2 |      81.2 |    68.3 |    68.3 |"


def test_a_mean_without_a_class_in_the_truth_says_so_in_its_line(scores):
    """Two classes, masks of which 255 is void: all 100.0, of one class."""
    one = Scores.from_histogram([[6, 0], [0, 0]])
    full = Scores.from_histogram([[6, 1], [0, 3]])
    lines = measures([("a", one), ("b", full)], names=["ground", "crack"]).splitlines()
    assert lines[2].startswith("a (never in the truth: crack)  ") and lines[2].endswith("100.0    100.0")
    assert lines[3].split()[3] == "80.4"
    assert "never" not in measures([("b", full)], names=["ground", "crack"])
    assert one.as_dict()["unseen"] == [1] and full.as_dict()["unseen"] == []
    assert mean_iu(one) == "mean IU 100.0 of 1 of 2 classes" and mean_iu(full) == "mean IU 80.4"


def test_per_class_lists_what_is_not_counted(scores):
    lines = per_class(scores, NAMES).splitlines()
    assert [line.split() for line in lines[2:4]] == [["background", "66.7", "75.0"], ["cat", "70.0", "87.5"]]
    assert lines[-1] == "not counted, being in neither truth nor prediction: dog"
    assert "class 1" in per_class(scores)
    with pytest.raises(Error, match="2 class names are given for 3 classes"):
        per_class(scores, NAMES[:2])


def test_class_that_is_only_predicted_has_no_accuracy():
    text = per_class(Scores.from_histogram([[3, 1], [0, 0]]), ["a", "b"])
    assert text.splitlines()[-1].split() == ["b", "0.0", "-"]


def test_confusion_matrix_as_text_and_picture(tmp_path):
    histogram = np.array([[3, 1, 0], [0, 0, 0], [5, 0, 123456789012]])
    names = ["a,b", '<"x">', "sky"]
    save_confusion(tmp_path / "c.csv", histogram, names)
    with open(tmp_path / "c.csv", newline="") as file:
        head, *rows = csv.reader(file)
    assert head[1:] == names == [row[0] for row in rows]
    assert [[int(cell) for cell in row[1:]] for row in rows] == histogram.tolist()
    save_confusion(tmp_path / "c.svg", histogram, names)
    ElementTree.parse(tmp_path / "c.svg")
    assert ">75<" in (tmp_path / "c.svg").read_text()
    page = ElementTree.parse(tmp_path / "c.svg").getroot()
    middles = {each.text: float(each.get("x")) for each in page.findall(".//{*}text") if each.text in ("0", "1", "2")}
    shown = {rect.find("{*}title").text: float(rect.get("x")) + float(rect.get("width")) / 2
             for rect in page.findall(".//{*}rect") if rect.find("{*}title") is not None}
    assert [middles[str(j)] for j in range(3)] == [shown[next(t for t in shown if t.startswith(f"{name} for"))] for name in names]
    save_confusion(tmp_path / "c.png", histogram, None)
    full = (np.array(Image.open(tmp_path / "c.png").convert("RGB")) == (8, 69, 148)).all(-1).sum()
    assert 0.5 * 56**2 < full < 56**2  # one cell is 100 %
    with pytest.raises(Error, match="2 class names are given for 3"):
        save_confusion(tmp_path / "d.csv", histogram, names[:2])
