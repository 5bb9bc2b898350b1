"""metrics.py against cases worked by hand, and against scikit-learn and torchmetrics."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from netspec.base.errors import Error
from netspec.base.metrics import (
    BINARY,
    MEASURES,
    VOID,
    Binary,
    Measures,
    Scores,
    boundary_distance,
    confusion,
    trimap,
)

PROJECT = Path(__file__).resolve().parents[2]


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
    with pytest.raises(Error, match="predicted as class 3; classes are 0 to 2"):
        confusion(np.array([0, 1]), np.array([3, 1]), 3)
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


# bands around boundaries

def naive_distance(labels):
    """For each pixel the distance to the nearest that has a 4-neighbour of another label, plus 1, pixel by pixel."""
    height, width = labels.shape
    beside = [(y, x) for y in range(height) for x in range(width)
              if any(0 <= y + a < height and 0 <= x + b < width and labels[y + a, x + b] != labels[y, x]
                     for a, b in ((0, 1), (1, 0), (0, -1), (-1, 0)))]
    return np.array([[min((((y - a) ** 2 + (x - b) ** 2) ** 0.5 for a, b in beside), default=np.inf) + 1
                      for x in range(width)] for y in range(height)])


@pytest.mark.parametrize("seed", range(4))
def test_boundary_distance_is_the_naive_one(seed):
    rng = np.random.default_rng(seed)
    labels = rng.choice(np.array([0, 1, 255], np.uint8), (4, 5)).repeat(3, 0).repeat(4, 1)[: 7 + seed]
    np.testing.assert_allclose(boundary_distance(labels), naive_distance(labels))


def test_boundary_distance_by_hand():
    assert boundary_distance([[0, 0, 0, 0, 7, 7]]).tolist() == [[4, 3, 2, 1, 1, 2]]
    assert np.isinf(boundary_distance(np.ones((3, 2)))).all()
    assert boundary_distance(np.zeros((0, 4))).shape == (0, 4)


def test_trimap_by_hand():
    truth = np.array([[0, 0, 0, 0, 1, 1, 255, 255]])
    prediction = np.array([[1, 1, 0, 1, 1, 0, 0, 1]])  # void at the right is padding: the last 1 is not beside a boundary
    bands = trimap(truth, prediction, 2, [1, 2, 3, 100])
    assert bands.dtype == np.int64
    assert bands.tolist() == [[[0, 1], [0, 1]], [[1, 1], [1, 1]], [[1, 2], [1, 1]], [[1, 3], [1, 1]]]
    inside = trimap([[0, 0, 0, 255, 0]], [[0, 1, 1, 1, 0]], 2, [1])  # void between objects is a boundary
    assert inside.tolist() == [[[1, 1], [0, 0]]]
    assert not trimap(np.full((3, 3), 255), np.zeros((3, 3)), 2, [1, 9]).any()
    assert not trimap(np.zeros((3, 3)), np.zeros((3, 3)), 2, [9]).any()  # one label: no boundary at all
    with pytest.raises(Error, match="must be the same size"):
        trimap(np.zeros((3, 3)), np.zeros((3, 4)), 2, [1])


def test_a_wide_band_is_the_whole_image():
    truth, prediction = np.random.default_rng(1).integers(0, 4, (2, 13, 9))
    for widths in ([13 + 9], [1, 13 + 9]):
        np.testing.assert_array_equal(trimap(truth, prediction, 4, widths)[-1], confusion(truth, prediction, 4))


@pytest.mark.parametrize("width", [1, 2, 4])
def test_trimap_agrees_with_scikit_learn(width):
    sklearn = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(width)
    truth = rng.choice([0, 1, 2, 255], (5, 6)).repeat(8, 0).repeat(9, 1)
    truth[-1, -1] = 0  # no padding
    prediction = np.where(rng.random(truth.shape) < 0.7, truth % 255, rng.integers(0, 3, truth.shape))
    near = (naive_distance(truth) <= width) & (truth != 255)
    iu = Scores.from_histogram(trimap(truth, prediction, 3, [width])[0]).class_iu
    assert iu == pytest.approx(sklearn.jaccard_score(truth[near], prediction[near], labels=range(3), average=None))


# one class against the others

def test_binary_by_hand():
    found = Binary.from_histogram([[50, 4, 6], [3, 20, 1], [2, 5, 9]], 1)
    tp, fp, fn, tn = 20, 9, 4, 67
    assert found.jaccard == tp / (tp + fp + fn) and found.precision == tp / (tp + fp) and found.recall == tp / (tp + fn)
    assert found.specificity == tn / (tn + fp) and found.overall_accuracy == (tp + tn) / 100


def test_binary_agrees_with_scikit_learn():
    sklearn = pytest.importorskip("sklearn.metrics")
    truth, prediction = np.random.default_rng(2).integers(0, 3, (2, 500))
    for positive in range(3):
        found = Binary.from_histogram(confusion(truth, prediction, 3), positive)
        t, p = truth == positive, prediction == positive
        assert found.jaccard == pytest.approx(sklearn.jaccard_score(t, p))
        assert found.precision == pytest.approx(sklearn.precision_score(t, p))
        assert found.recall == pytest.approx(sklearn.recall_score(t, p))
        assert found.specificity == pytest.approx(sklearn.recall_score(~t, ~p))
        assert found.overall_accuracy == pytest.approx(sklearn.accuracy_score(t, p))


@pytest.mark.filterwarnings("error")
def test_a_class_that_is_nowhere():
    found = Binary.from_histogram([[7, 0], [0, 0]]).as_dict()
    assert list(found) == list(BINARY)
    assert found == {"jaccard": None, "precision": None, "recall": None, "specificity": 1, "overall_accuracy": 1}


PART = """
import sys
import numpy as np
from netspec.base.metrics import confusion, trimap
data = np.load(sys.argv[1])
names = sorted({name[1:] for name in data})[int(sys.argv[2])::3]
parts = [(data["t" + n], data["p" + n]) for n in names]
np.savez(sys.argv[3], whole=sum(confusion(t, p, 5) for t, p in parts), bands=sum(trimap(t, p, 5, [1, 3]) for t, p in parts))
"""


def test_processes_merge_by_adding_images_of_any_size(tmp_path):
    sklearn = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(8)
    images = {}
    for i, size in enumerate([(9, 7), (1, 30), (12, 12), (5, 21), (8, 8)]):
        images[f"t{i}"] = rng.choice(np.array([0, 1, 2, 4, 255], np.uint8), size)  # class 3 only predicted
        images[f"p{i}"] = rng.integers(0, 5, size, np.uint8)
    np.savez(tmp_path / "images.npz", **images)
    parts = [tmp_path / f"part{k}.npz" for k in range(3)]
    running = [subprocess.Popen([sys.executable, "-c", PART, tmp_path / "images.npz", str(k), part], cwd=PROJECT)
               for k, part in enumerate(parts)]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    merged = {key: sum(np.load(part)[key] for part in parts) for key in ("whole", "bands")}
    pairs = [(images[f"t{i}"], images[f"p{i}"]) for i in range(5)]
    truth, prediction = (np.concatenate([pair[k].ravel() for pair in pairs]) for k in (0, 1))
    counted = truth != 255
    expected = sklearn.confusion_matrix(truth[counted], prediction[counted], labels=range(5))
    np.testing.assert_array_equal(merged["whole"], expected)
    assert merged["whole"].dtype == np.int64
    np.testing.assert_array_equal(merged["bands"], sum(trimap(t, p, 5, [1, 3]) for t, p in pairs))

# the measures as an object, as training loops of others use them

def batches_of(seed=0, classes=5):
    rng = np.random.default_rng(seed)
    return [(rng.integers(0, classes, (2, 7, 9)), rng.choice([*range(classes - 1), VOID], (2, 7, 9))) for _ in range(3)]


@pytest.mark.parametrize("form", [np.asarray, torch.from_numpy])
def test_measures_are_added_batch_by_batch(form):
    measures = Measures(5)
    for prediction, truth in batches_of():
        measures.update(form(prediction), form(truth))
    prediction, truth = (np.concatenate(part) for part in zip(*batches_of(), strict=True))
    whole = confusion(truth, prediction, 5)
    np.testing.assert_array_equal(measures.histogram, whole)
    found, expected = measures.compute(), Scores.from_histogram(whole)
    assert found.as_dict() == expected.as_dict()
    measures.reset()
    assert not measures.histogram.any() and np.isnan(measures.compute().mean_iu)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_measures_take_scores_and_labels_as_nets_give_them(dtype):
    scores = torch.randn(2, 5, 7, 9, requires_grad=True).to(dtype)
    truth = torch.from_numpy(batches_of()[0][1])
    expected = Measures(5)
    expected.update(scores.argmax(1), truth)
    for given in (truth, truth[:, None], truth[:, None].float(), truth.to(torch.uint8)):
        found = Measures(5)
        found.update(scores, given)
        np.testing.assert_array_equal(found.histogram, expected.histogram)
    found = Measures(5)
    found.update(scores.argmax(1, keepdim=True), truth[:, None])
    np.testing.assert_array_equal(found.histogram, expected.histogram)


@pytest.mark.parametrize("ignore, classes", [(VOID, 5), (0, 5), (None, 5), (VOID, 2)])
def test_measures_agree_with_sklearn_and_torchmetrics(ignore, classes):
    measures, pairs = Measures(classes, ignore), batches_of(3, classes)
    pairs = [(p, t if ignore == VOID else np.minimum(t, classes - 1)) for p, t in pairs]
    for prediction, truth in pairs:
        measures.update(torch.from_numpy(prediction), torch.from_numpy(truth))
    scores = measures.compute()
    prediction, truth = (np.concatenate(part).ravel() for part in zip(*pairs, strict=True))
    counted = truth != ignore
    sklearn = pytest.importorskip("sklearn.metrics")
    there = np.union1d(prediction[counted], truth[counted])
    assert scores.mean_iu == pytest.approx(
        sklearn.jaccard_score(truth[counted], prediction[counted], labels=there, average="macro"))
    assert scores.pixel_accuracy == pytest.approx(sklearn.accuracy_score(truth[counted], prediction[counted]))
    torchmetrics = pytest.importorskip("torchmetrics")
    theirs = torchmetrics.JaccardIndex("multiclass", num_classes=classes, ignore_index=ignore)
    each = torchmetrics.JaccardIndex("multiclass", num_classes=classes, ignore_index=ignore, average="none")
    if ignore == 0:
        # torchmetrics leaves the class itself out of the mean, here it has an IU of 0 where it is predicted
        each.update(torch.from_numpy(prediction), torch.from_numpy(truth))
        np.testing.assert_allclose(each.compute()[1:], scores.class_iu[1:], rtol=1e-6)
        return
    for p, t in pairs:
        for metric in (theirs, each):
            metric.update(torch.from_numpy(p), torch.from_numpy(t))
    assert scores.mean_iu == pytest.approx(theirs.compute().item(), rel=1e-6)
    np.testing.assert_allclose(each.compute(), np.nan_to_num(scores.class_iu), rtol=1e-6)


@pytest.mark.parametrize("prediction, truth, words", [
    (np.zeros((1, 4, 6, 6)), np.zeros((1, 6, 6)), "scores are of 4 classes, expected 5"),
    (np.full((1, 6, 6), 0.7), np.zeros((1, 6, 6)), "prediction holds 0.7, expected whole numbers"),
    (np.zeros((1, 6, 6)), np.full((1, 6, 6), 1.5), "truth holds 1.5, expected whole numbers"),
    (np.full((1, 6, 6), np.nan), np.zeros((1, 6, 6)), "prediction holds nan, expected whole numbers"),
    (np.zeros((1, 6, 6), int), np.zeros((1, 6, 7), int), "must be the same size"),
    (np.full((1, 6, 6), 5), np.zeros((1, 6, 6), int), "predicted as class 5"),
])
def test_measures_refuse_what_they_cannot_count(prediction, truth, words):
    measures = Measures(5)
    with pytest.raises(Error, match=words):
        measures.update(prediction, truth)
    assert not measures.histogram.any()


def test_what_has_no_numbers_is_not_counted():
    measures, truth = Measures(3), torch.zeros(1, 4, 4, dtype=torch.long)
    scores = torch.zeros(1, 3, 4, 4)
    scores[0, 1, 2, 3] = torch.nan
    for wrong in (scores, scores.numpy()):
        with pytest.raises(Error, match="NaN among the scores"):
            measures.update(wrong, truth if wrong is scores else truth.numpy())
    for pair in ((truth.to("meta"), truth), (scores.to("meta"), truth), (truth, truth.to("meta"))):
        with pytest.raises(Error, match="meta device"):
            measures.update(*pair)
    assert not measures.histogram.any()
    measures.update(truth.bfloat16().requires_grad_(), truth.half())
    assert measures.histogram[0, 0] == 16
