"""metrics.py against cases worked by hand, and against scikit-learn."""

import json

import numpy as np
import pytest

from netspec.errors import Error
from netspec.metrics import MEASURES, Scores, confusion


def test_histogram_by_hand():
    truth = np.array([[0, 0, 1], [1, 2, 255]], np.uint8)
    prediction = np.array([[0, 1, 1], [1, 0, 2]], np.uint8)
    hist = confusion(truth, prediction, 3)
    assert hist.dtype == np.int64
    assert hist.tolist() == [[1, 1, 0], [0, 2, 0], [1, 0, 0]]


def test_measures_by_hand():
    scores = Scores.from_histogram([[6, 2, 0], [1, 7, 0], [2, 0, 2]])
    assert scores.pixel_accuracy == pytest.approx(15 / 20)
    assert scores.class_accuracy == pytest.approx([6 / 8, 7 / 8, 2 / 4])
    assert scores.mean_accuracy == pytest.approx((6 / 8 + 7 / 8 + 2 / 4) / 3)
    iu = [6 / 11, 7 / 10, 2 / 4]
    assert scores.class_iu == pytest.approx(iu)
    assert scores.mean_iu == pytest.approx(sum(iu) / 3)
    assert scores.fw_iu == pytest.approx((8 * iu[0] + 8 * iu[1] + 4 * iu[2]) / 20)
    assert scores.absent == []


def test_classes_that_are_missing():
    # class 1 is predicted but never true; class 2 is nowhere; class 3 is true but never predicted
    hist = np.zeros((4, 4), np.int64)
    hist[0, 0], hist[0, 1], hist[3, 0] = 3, 1, 2
    scores = Scores.from_histogram(hist)
    assert scores.absent == [2]
    assert scores.class_iu == pytest.approx([3 / 6, 0, np.nan, 0], nan_ok=True)
    assert scores.class_accuracy == pytest.approx([3 / 4, np.nan, np.nan, 0], nan_ok=True)
    assert scores.mean_iu == pytest.approx((0.5 + 0 + 0) / 3)
    assert scores.mean_accuracy == pytest.approx((0.75 + 0) / 2)
    assert scores.fw_iu == pytest.approx(4 * 0.5 / 6)


@pytest.mark.filterwarnings("error")
def test_nothing_counted_is_nan_without_warnings():
    scores = Scores.from_histogram(confusion(np.full((2, 2), 255), np.zeros((2, 2)), 3))
    assert all(np.isnan(getattr(scores, name)) for name in MEASURES)
    assert scores.absent == [0, 1, 2]
    assert json.loads(json.dumps(scores.as_dict(), allow_nan=False))["class_iu"] == [None] * 3


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int32, np.int64, np.float32])
def test_label_types_and_uncounted_values(dtype):
    truth = np.array([0, 1, 1, 20, 7, 100], dtype)
    prediction = np.array([0, 1, 0, 20, 3, 1], dtype)
    hist = confusion(truth, prediction, 21)
    assert hist.sum() == 5 and hist[20, 20] == hist[7, 3] == hist[1, 0] == 1
    assert confusion(truth, prediction, 21, ignore=7).sum() == 4
    assert confusion(truth, prediction, 21, ignore=None).sum() == 5
    if dtype != np.uint8:
        truth[0] = -1
        assert confusion(truth, prediction, 21).sum() == 4


def test_three_hundred_classes():
    truth, prediction = np.array([299, 255, 256]), np.array([299, 255, 0])
    hist = confusion(truth, prediction, 300, ignore=None)
    assert hist.shape == (300, 300) and hist[299, 299] == hist[255, 255] == hist[256, 0] == 1
    assert confusion(truth, prediction, 300)[255].sum() == 0


def test_merging_is_adding():
    truth, prediction = np.random.default_rng(0).integers(0, 5, (2, 4, 9, 11))
    whole = confusion(truth, prediction, 5)
    assert whole.sum() == truth.size
    parts = sum(confusion(t, p, 5) for t, p in zip(truth, prediction, strict=True))
    np.testing.assert_array_equal(whole, parts)


def test_refusals():
    with pytest.raises(Error, match="2 x 3 and prediction 3 x 2"):
        confusion(np.zeros((2, 3)), np.zeros((3, 2)), 2)
    with pytest.raises(Error, match="predicted as class 5; classes are 0 to 2"):
        confusion(np.array([0, 1]), np.array([5, 1]), 3)
    with pytest.raises(Error, match="predicted as class -1"):
        confusion(np.array([0, 1]), np.array([-1, 1]), 3)
    assert confusion(np.array([255, 1]), np.array([5, 1]), 3).sum() == 1
    with pytest.raises(Error, match="square"):
        Scores.from_histogram(np.zeros((2, 3)))


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_scikit_learn(seed):
    sklearn = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(seed)
    truth = rng.choice([0, 1, 2, 3, 5, 255], 4000)
    prediction = np.where(rng.random(4000) < 0.6, truth % 255, rng.integers(0, 6, 4000)) % 6
    counted = truth != 255
    t, p = truth[counted], prediction[counted]
    hist = confusion(truth.reshape(40, 100), prediction.reshape(40, 100), 6)
    np.testing.assert_array_equal(hist, sklearn.confusion_matrix(t, p, labels=range(6)))
    scores = Scores.from_histogram(hist)
    assert scores.class_iu == pytest.approx(sklearn.jaccard_score(t, p, labels=range(6), average=None))
    assert scores.pixel_accuracy == pytest.approx(sklearn.accuracy_score(t, p))
    present = np.unique(t)
    recall = sklearn.recall_score(t, p, labels=present, average=None)
    assert scores.mean_accuracy == pytest.approx(recall.mean())
    weighted = sklearn.jaccard_score(t, p, labels=present, average="weighted")
    assert scores.fw_iu == pytest.approx(weighted)
