"""COCO's measures come from COCO's library; what is asked of it, and what is left open."""

import json
import math
import sys

import numpy as np
import pytest
import torch

from netspec.base.errors import Error
from netspec.data.boxes import Boxes, Record, layout
from netspec.data.tree import Tree
from netspec.score.coco import MEASURES, measures, score


def truth(*boxes):
    """boxes: (image, category, x, y, width, height, crowd) each, in two images and two categories."""
    annotations = [{"id": i, "image_id": image, "category_id": category, "bbox": list(box), "area": box[2] * box[3],
                    "iscrowd": crowd} for i, (image, category, *box, crowd) in enumerate(boxes, 1)]
    return {"images": [{"id": i, "width": 500, "height": 500} for i in (1, 2)],
            "categories": [{"id": i, "name": str(i)} for i in (1, 7)], "annotations": annotations}


def found(*rows):
    return [{"image_id": image, "category_id": category, "bbox": list(box), "score": score}
            for image, category, *box, score in rows]


def test_an_overlap_of_two_thirds_counts_up_to_there(capsys):
    pytest.importorskip("pycocotools")
    told, classes = measures(truth((1, 7, 0, 0, 100, 150, 0)), found((1, 7, 0, 0, 100, 100, 0.9)))
    assert tuple(told) == MEASURES
    assert told["AP50"] == pytest.approx(1) and told["AP75"] == 0
    assert told["AP"] == told["AP_large"] == classes[7] == pytest.approx(0.4)  # at 0.5, 0.55, 0.6, 0.65
    assert math.isnan(told["AP_small"]) and math.isnan(classes[1])
    assert capsys.readouterr().out == ""


def test_what_is_found_of_a_crowd_counts_neither_way():
    pytest.importorskip("pycocotools")
    boxes = truth((1, 1, 0, 0, 50, 50, 0), (2, 1, 0, 0, 200, 200, 1))
    right = (1, 1, 0, 0, 50, 50, 0.5)
    told, _ = measures(boxes, found((2, 1, 0, 0, 60, 60, 0.9), (2, 1, 10, 10, 60, 60, 0.8), right))
    assert told["AP"] == pytest.approx(1)
    told, _ = measures(boxes, found((2, 7, 0, 0, 60, 60, 0.9), right))
    assert told["AP"] == pytest.approx(1)  # of a category without truth


def test_nothing_found_and_nothing_there():
    pytest.importorskip("pycocotools")
    told, _ = measures(truth((1, 1, 0, 0, 50, 50, 0)), [])
    assert told["AP"] == told["AR100"] == 0
    assert all(math.isnan(value) for value in measures(truth(), [])[0].values())


def test_without_the_library_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools.coco", None)
    with pytest.raises(Error, match="measuring as COCO does needs pycocotools: pip install pycocotools"):
        measures(truth(), [])


def test_areas_and_crowds_are_those_of_cocos_file(tmp_path):
    pytest.importorskip("pycocotools")
    whole = {"images": [{"id": 7, "file_name": "b.jpg"}, {"id": 9, "file_name": "a.jpg"}, {"id": 8, "file_name": "c.jpg"}],
             "categories": [{"id": 44, "name": "Dog"}], "annotations": [
                 {"id": 1, "image_id": 7, "category_id": 44, "bbox": [10, 10, 80, 80], "area": 900, "iscrowd": 0},
                 {"id": 2, "image_id": 9, "category_id": 44, "bbox": [0, 0, 90, 90], "area": 8100, "iscrowd": 1},
                 {"id": 3, "image_id": 8, "category_id": 44, "bbox": [0, 0, 90, 90]}]}
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(whole))
    boxes = np.array([[10, 10, 89, 89]], np.float32)

    def record(name, source):
        none = np.zeros(1, bool)
        return Record(name, tmp_path, source, (100, 100), boxes, np.array([1]), none, none, none)

    detections = [torch.tensor([[1, 10, 10, 89, 89, 0.9]]), torch.tensor([[1, 0, 0, 89, 89, 0.95]])]
    told, _ = score([record("b", path), record("a", path)], detections, ["background", "dog"])
    assert told["AP"] == told["AP_small"] == pytest.approx(1) and math.isnan(told["AP_medium"])
    told, _ = score([record("b", tmp_path / "b.xml")], detections[:1], ["background", "dog"])
    assert told["AP_medium"] == pytest.approx(1) and math.isnan(told["AP_small"])


def test_classes_that_differ_in_capitals_alone_are_two(tmp_path):
    pytest.importorskip("pycocotools")
    path = tmp_path / "instances.json"
    path.write_text(json.dumps({
        "images": [{"id": 1, "file_name": "a.jpg", "width": 100, "height": 100}],
        "categories": [{"id": 1, "name": "Star"}, {"id": 2, "name": "star"}], "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 30, 30]},
            {"id": 2, "image_id": 1, "category_id": 2, "bbox": [50, 50, 40, 40]}]}))
    given = {"classes": ["Star", "star"], "boxes": "instances.json"}
    boxes = Boxes(Tree("folder", layout("folder", given), tmp_path, {}, None))
    record = Record("a", tmp_path, path, *boxes.raw(path, "a")[:1], np.array([[10, 10, 39, 39], [50, 50, 89, 89]]),
                    np.array([1, 2]), *[np.zeros(2, bool)] * 3)
    found = torch.tensor([[1, 10, 10, 39, 39, 0.9], [2, 50, 50, 89, 89, 0.8]])
    told, each = score([record], [found], boxes.names)
    assert told["AP"] == each[1] == each[2] == pytest.approx(1)


@pytest.mark.parametrize("change, told", [({}, None), ({"area": "big"}, "annotation 1: 'area' should be a number, found 'big'")])
def test_ids_and_crowds_that_are_text(tmp_path, change, told):
    pytest.importorskip("pycocotools")
    path = tmp_path / "instances.json"
    path.write_text(json.dumps({
        "images": [{"id": "x", "file_name": "a.jpg", "width": 100, "height": 100}], "categories": [{"id": "c", "name": "star"}],
        "annotations": [{"id": 1, "image_id": "x", "category_id": "c", "bbox": [10, 10, 30, 30], "iscrowd": "0"} | change]}))
    none = np.zeros(1, bool)
    record = Record("a", tmp_path, path, (100, 100), np.array([[10, 10, 39, 39]]), np.array([1]), none, none, none)
    found = torch.tensor([[1, 10, 10, 39, 39, 0.9]])
    if told:
        with pytest.raises(Error, match=told):
            score([record], [found], ["background", "star"])
    else:
        assert score([record], [found], ["background", "star"])[0]["AP"] == pytest.approx(1)
