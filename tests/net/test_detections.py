"""Detections of an image from what a net says of its regions."""

import math

import pytest
import torch

from netspec.base.errors import Error
from netspec.net.detections import Rules, detections

BOXES = torch.tensor([[0, 10, 10, 29, 29], [0, 11, 10, 30, 29], [0, 60, 60, 99, 89]], dtype=torch.float32)
SCORES = torch.tensor([[0.1, 0.8, 0.1], [0.2, 0.7, 0.1], [0.3, 0.1, 0.6]])
STILL = torch.zeros(3, 8)


def test_the_less_sure_of_two_boxes_goes_and_the_others_come_by_class():
    found = detections(BOXES, SCORES, STILL, (100, 120), 1.0, Rules(above=0.05))
    assert found[:, 0].tolist() == [1, 1, 2, 2]
    torch.testing.assert_close(found[:, 5], torch.tensor([0.8, 0.1, 0.6, 0.1]))
    # half a side is added to the centre: a region that does not move grows by a pixel
    torch.testing.assert_close(found[0, 1:5], torch.tensor([10.0, 10, 30, 30]))
    torch.testing.assert_close(found[2, 1:5], torch.tensor([60.0, 60, 100, 90]))


def test_boxes_are_those_of_the_image_as_it_is_and_end_at_its_border():
    found = detections(BOXES[2:], SCORES[2:], STILL[2:], (45, 48), 2.0, Rules(above=0.5))
    torch.testing.assert_close(found, torch.tensor([[2.0, 30, 30, 47, 44, 0.6]]))


def test_columns_of_the_class_or_of_all_classes():
    moves = torch.zeros(1, 12)
    moves[:, 4], moves[:, 8] = 0.5, 1.0  # half a width to the right, and one
    own = detections(BOXES[:1], SCORES[:1], moves, (500, 500), 1.0)
    assert own[:, 1].tolist() == [20, 30]
    shared = detections(BOXES[:1], SCORES[:1], moves[:, :8], (500, 500), 1.0)
    assert shared[:, 1].tolist() == [20, 20]


def test_a_class_has_its_own_threshold_and_an_image_its_limit():
    found = detections(BOXES, SCORES, STILL, (100, 120), 1.0, Rules(above=(0, 0.75, 0.05), overlap=1.1))
    assert found[:, 0].tolist() == [1, 2, 2, 2]
    few = detections(BOXES, SCORES, STILL, (100, 120), 1.0, Rules(overlap=1.1, most=4))
    assert sorted(few[:, 5].tolist(), reverse=True) == pytest.approx([0.8, 0.7, 0.6, 0.1, 0.1, 0.1])  # equals stay
    assert len(detections(BOXES, SCORES, STILL, (100, 120), 1.0, Rules(overlap=1.1, most=0))) == 6


def test_no_regions_and_none_sure_enough():
    none = detections(BOXES[:0], SCORES[:0], STILL[:0], (100, 120), 1.0)
    assert none.shape == (0, 6) and none.dtype == torch.float32
    assert detections(BOXES, SCORES, STILL, (100, 120), 1.0, Rules(above=0.9)).shape == (0, 6)


def test_what_does_not_go_together_and_what_is_no_number():
    with pytest.raises(Error, match=r"3 x 3 scores and 3 x 16 box transforms .* 12 transforms .* or 8"):
        detections(BOXES, SCORES, torch.zeros(3, 16), (100, 120), 1.0)
    with pytest.raises(Error, match="2 x 3 scores .* for 3 regions"):
        detections(BOXES, SCORES[:2], STILL, (100, 120), 1.0)
    with pytest.raises(Error, match=r"no numbers \(NaN\) in 1 of 3 regions"):
        detections(BOXES, SCORES.index_fill(0, torch.tensor([1]), math.nan), STILL, (100, 120), 1.0)
