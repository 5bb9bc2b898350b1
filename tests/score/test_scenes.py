"""The arithmetic of 38-Cloud's evaluation: cut, measures, empty scenes, and all thresholds at once."""

import math

import numpy as np
import pytest

from netspec.base.errors import Error
from netspec.base.metrics import BINARY
from netspec.score import scenes
from netspec.score.scenes import THRESHOLDS, at, fractions, judged, levels, mask, mean, tally

RNG = np.random.default_rng(5)


def test_the_threshold_is_above_12_of_255_whatever_holds_the_probability():
    assert mask(np.uint8([[12, 13]] * 2), THRESHOLDS[0], 2).tolist() == [[False, True]] * 2
    for kind in (np.float16, np.float32, np.float64):
        exact = np.array([[0.047, 0.0472]] * 2, kind)  # 12/255 is 0.04706
        assert mask(exact, THRESHOLDS[0], 2).tolist() == [[False, True]] * 2
    assert mask(np.uint16([[3084, 3085]] * 2), THRESHOLDS[0], 2).tolist() == [[False, True]] * 2  # 12/255 of 65535


def test_a_smaller_patch_is_resized_and_then_cut():
    small = np.float32([[0.02, 0.08], [0.02, 0.08]])  # cut first, the border would lie in the middle
    found = mask(small, THRESHOLDS[0], 8)
    assert found.shape == (8, 8) and found[:, 4:].all() and not found[:, :4].any()
    lower = mask(small, 0.03, 8)
    assert lower.sum() > found.sum()


def test_measures_are_of_cloud():
    truth = np.array([[1, 1, 1, 0, 0, 0, 0, 0]])
    counts, found = judged(truth, np.array([[1, 1, 0, 1, 0, 0, 0, 0]], bool))
    assert counts.tolist() == [[4, 1], [1, 2]]
    assert (found.jaccard, found.precision, found.recall) == (2 / 4, 2 / 3, 2 / 3)
    assert (found.specificity, found.overall_accuracy) == (4 / 5, 6 / 8)
    with pytest.raises(Error, match=r"truth is 1 x 8 and prediction 1 x 7"):
        judged(truth, np.zeros((1, 7), bool))


def test_scenes_have_the_same_weight_whatever_their_size():
    small, large = (judged(np.ones((n, n), int), np.full((n, n), n == 1))[1] for n in (1, 30))
    assert mean([small, large]).recall == 0.5


def test_a_scene_without_cloud_has_no_recall_and_then_there_is_no_mean():
    clear = np.zeros((4, 4), int)
    _, nothing = judged(clear, clear.astype(bool))
    assert math.isnan(nothing.jaccard) and math.isnan(nothing.precision) and math.isnan(nothing.recall)
    assert (nothing.specificity, nothing.overall_accuracy) == (1, 1)
    _, wrong = judged(clear, np.eye(4, dtype=bool))
    assert (wrong.jaccard, wrong.precision) == (0, 0) and math.isnan(wrong.recall)
    _, cloudy = judged(np.ones((4, 4), int), np.ones((4, 4), bool))
    assert math.isnan(cloudy.specificity) and cloudy.recall == 1
    found = mean([wrong, cloudy])
    assert found.jaccard == 0.5 and math.isnan(found.recall) and math.isnan(found.specificity)


@pytest.mark.parametrize("kind", [np.uint8, np.float16, np.float32])
def test_a_tally_has_the_measures_of_every_threshold(kind, monkeypatch):
    thresholds = sorted({*(k / 255 for k in range(255)), 0.5})
    monkeypatch.setattr(scenes, "ROWS", 7)  # parts, the last of them smaller
    probable = RNG.random((40, 50)) ** 3
    probable = (255 * probable).round().astype(np.uint8) if kind == np.uint8 else probable.astype(kind)
    probable.ravel()[:3] = 0, (12 if kind == np.uint8 else 12 / 255), (255 if kind == np.uint8 else 1)
    truth = (RNG.random((40, 50)) < 0.4).astype(int)
    tallied = tally(truth, levels(probable, thresholds), len(thresholds))
    assert tallied.sum() == truth.size
    for number, threshold in enumerate(thresholds):
        want = judged(truth, fractions(probable) > threshold)[1]
        found = at(tallied, number)
        np.testing.assert_equal([getattr(found, name) for name in BINARY], [getattr(want, name) for name in BINARY])
