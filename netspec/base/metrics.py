"""The FCN papers' measures of semantic segmentation, and those of one class, from confusion histograms."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import Error, listed
from .table import percent

VOID = 255  # the label of pixels that are not counted, where nothing names another
MEASURES: Mapping[str, str] = {"pixel_accuracy": "pixel acc.", "mean_accuracy": "mean acc.",
                               "mean_iu": "mean IU", "fw_iu": "f.w. IU"}
"""The four measures: attribute of `Scores` -> column title of the papers' tables."""
BINARY: Mapping[str, str] = {"jaccard": "Jaccard", "precision": "precision", "recall": "recall",
                             "specificity": "specificity", "overall_accuracy": "overall acc."}
"""The measures of one class against the others: attribute of `Binary` -> column title."""


def titled(name: str, unseen: Sequence[str]) -> str:
    """The title of a row of measures: the name, and the classes of which its means say nothing."""
    return f"{name} (never in the truth: {listed(unseen)})" if unseen else name


def mean_of(title: str, value: float, classes: int, unseen: int) -> str:
    """A mean over classes in a line of progress, in percent; `unseen` of them are never in the truth."""
    seen = f" of {classes - unseen} of {classes} classes"
    return f"{title} {percent(value)}{seen if unseen else ''}"


def mean_iu(scores: "Scores") -> str:
    """The mean IU in a line of progress, in percent."""
    return mean_of(MEASURES["mean_iu"], scores.mean_iu, len(scores.class_iu), len(scores.unseen))


def confusion(truth: np.ndarray, prediction: np.ndarray, classes: int,
              ignore: int | None = VOID) -> np.ndarray:
    """Pixels of each true class (rows) predicted as each class (columns): int64, (classes, classes).

    truth, prediction: whole numbers in any dtype, of the same shape. A pixel whose truth is `ignore`, or
    outside 0..classes-1, is not counted. Raises Error if the shapes differ, or if a counted pixel is
    predicted as something outside 0..classes-1: leaving it out would flatter the prediction.
    """
    truth, prediction = np.asarray(truth), np.asarray(prediction)
    if truth.shape != prediction.shape:
        raise Error(f"truth is {_size(truth)} and prediction {_size(prediction)}; they must be the same size")
    counted = (truth >= 0) & (truth < classes) & (truth != ignore)
    rows, columns = truth[counted].astype(np.intp), prediction[counted].astype(np.intp)
    if columns.size and (columns.min() < 0 or columns.max() >= classes):
        wrong = columns.min() if columns.min() < 0 else columns.max()
        raise Error(f"a pixel is predicted as class {wrong}; classes are 0 to {classes - 1}")
    counts = np.bincount(rows * classes + columns, minlength=classes**2).reshape(classes, classes)
    return counts.astype(np.int64, copy=False)


def boundary_distance(labels: np.ndarray) -> np.ndarray:
    """How many pixels each pixel of labels (H, W) is from another label: float64 (H, W), 1 beside a boundary.

    Euclidean: 1 + the distance to the nearest pixel of whose four neighbours one has another label; inf
    without any.
    """
    from scipy import ndimage  # a tenth of the time that `infer` takes to start, and it measures nothing

    labels = np.asarray(labels)
    beside = np.zeros(labels.shape, bool)
    for one, other in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        differs = labels[one] != labels[other]
        beside[one] |= differs
        beside[other] |= differs
    return ndimage.distance_transform_edt(~beside) + 1 if beside.any() else np.full(labels.shape, np.inf)


def trimap(truth: np.ndarray, prediction: np.ndarray, classes: int, widths: Sequence[int],
           ignore: int | None = VOID) -> np.ndarray:
    """The `confusion` of the pixels within each width of a boundary: int64 (len(widths), classes, classes).

    truth, prediction: (H, W), of one image. The band of width w is the pixels at most w from another label of
    the truth, on either side (Kohli, Ladicky, Torr 2009; Kraehenbuehl, Koltun 2011). `ignore` is a label too:
    VOC has it between objects. Rows and columns at the bottom and right that hold nothing else are the
    padding of a batch, no boundary. Raises Error as `confusion` does.
    """
    truth, prediction = np.asarray(truth), np.asarray(prediction)
    whole = confusion(truth, prediction, classes, ignore)
    rows, columns = np.nonzero(truth != ignore)
    if not len(rows):
        return np.zeros((len(widths), *whole.shape), np.int64)
    inner = np.s_[: rows.max() + 1, : columns.max() + 1]
    truth, prediction = truth[inner], prediction[inner]
    distance = boundary_distance(truth)
    bands = [distance <= width for width in widths]
    return np.stack([confusion(truth[band], prediction[band], classes, ignore) for band in bands])


@dataclass(frozen=True, eq=False)
class Scores:
    """The measures of one histogram, as fractions of 1; NaN where nothing is there to measure.

    With n_ij pixels of class i predicted as j, and t_i = sum_j n_ij (Long, Shelhamer, Darrell, CVPR 2015, 5):
    class_accuracy n_ii / t_i; class_iu n_ii / (t_i + sum_j n_ji - n_ii), both float64 (classes,).
    A class that is in neither truth nor prediction (`absent`) has no IU and does not count in the mean; one
    that is only predicted has IU 0, and no accuracy. Histograms of parts of a data set are merged by adding.
    """

    pixel_accuracy: float
    mean_accuracy: float
    mean_iu: float
    fw_iu: float
    class_accuracy: np.ndarray
    class_iu: np.ndarray
    absent: list[int]

    @classmethod
    def from_histogram(cls, histogram: np.ndarray) -> "Scores":
        """Of a (classes, classes) histogram, rows truth. Raises Error if it is not square."""
        histogram = np.asarray(histogram)
        if histogram.ndim != 2 or histogram.shape[0] != histogram.shape[1]:
            raise Error(f"a confusion histogram is square, this one is {_size(histogram)}")
        right = np.diag(histogram).astype(np.float64)
        truth = histogram.sum(1).astype(np.float64)
        union = truth + histogram.sum(0) - right
        accuracy, iu = _ratio(right, truth), _ratio(right, union)
        parts = np.array([right.sum(), truth @ np.nan_to_num(iu)])
        pixels, weighted = _ratio(parts, np.full(2, truth.sum())).tolist()
        absent = np.flatnonzero(union == 0).tolist()
        return cls(pixels, _mean(accuracy), _mean(iu), weighted, accuracy, iu, absent)

    @property
    def unseen(self) -> list[int]:
        """The classes that are never in the truth: a mean says nothing of them."""
        return np.flatnonzero(np.isnan(self.class_accuracy)).tolist()

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON, which has no NaN: None there."""
        return {
            **{name: _plain(getattr(self, name)) for name in MEASURES},
            "class_accuracy": [_plain(x) for x in self.class_accuracy],
            "class_iu": [_plain(x) for x in self.class_iu],
            "absent": self.absent,
            "unseen": self.unseen,
        }


class Measures:
    """The four measures, counted batch by batch.

    `histogram` is what was counted, int64 (classes, classes), rows truth; several processes add theirs.
    """

    def __init__(self, classes: int, ignore: int | None = VOID) -> None:
        """ignore: the label of pixels that are not counted, beside those that are no class."""
        self.classes, self.ignore = classes, ignore
        self.reset()

    def reset(self) -> None:
        """Forget what was counted."""
        self.histogram = np.zeros((self.classes, self.classes), np.int64)

    def update(self, prediction: Any, truth: Any) -> None:
        """Count a batch; arrays, or tensors on any device, whole numbers in any dtype.

        prediction: classes (N, H, W), or scores (N, classes, H, W), of which the highest counts. truth:
        labels (N, H, W). Both may have an axis of one channel (N, 1, H, W). Raises Error, with nothing
        counted, for other shapes and numbers.
        """
        if getattr(truth, "is_meta", False) or getattr(prediction, "is_meta", False):
            raise Error("tensors on the meta device have no numbers to count")
        if truth.ndim > 3 and truth.shape[1] == 1:
            truth = truth[:, 0]
            prediction = prediction[:, 0] if prediction.shape[1] == 1 else prediction
        if prediction.ndim == truth.ndim + 1:
            if prediction.shape[1] != self.classes:
                raise Error(f"the scores are of {prediction.shape[1]} classes, expected {self.classes}")
            if (prediction != prediction).any():
                raise Error("there are NaN among the scores, of which no class is the best")
            prediction = prediction.argmax(1)
        self.histogram += confusion(_whole(truth, "truth"), _whole(prediction, "prediction"), self.classes,
                                    self.ignore)

    def compute(self) -> Scores:
        """The measures of all that was counted."""
        return Scores.from_histogram(self.histogram)


@dataclass(frozen=True)
class Binary:
    """One class, the positive, against all others, as fractions of 1; NaN where nothing is there to measure.

    With tp pixels rightly positive, fp wrongly so, tn rightly negative, fn wrongly so: jaccard
    tp / (tp + fp + fn), precision tp / (tp + fp), recall tp / (tp + fn), specificity tn / (tn + fp),
    overall_accuracy (tp + tn) / all.
    """

    jaccard: float
    precision: float
    recall: float
    specificity: float
    overall_accuracy: float

    @classmethod
    def from_histogram(cls, histogram: np.ndarray, positive: int = 1) -> "Binary":
        """Of a (classes, classes) histogram, rows truth."""
        histogram = np.asarray(histogram)
        tp, total = histogram[positive, positive], histogram.sum()
        fn, fp = histogram[positive].sum() - tp, histogram[:, positive].sum() - tp
        tn = total - tp - fn - fp
        parts, wholes = [tp, tp, tp, tn, tp + tn], [tp + fp + fn, tp + fp, tp + fn, tn + fp, total]
        return cls(*_ratio(np.array(parts), np.array(wholes)).tolist())

    def as_dict(self) -> dict[str, float | None]:
        """Plain numbers for JSON, which has no NaN: None there."""
        return {name: _plain(getattr(self, name)) for name in BINARY}


def _whole(labels: Any, what: str) -> np.ndarray:
    """Labels as an array; Error where they are fractions."""
    if hasattr(labels, "cpu"):
        labels = labels.detach().cpu()
        labels = labels.double() if labels.is_floating_point() else labels  # NumPy has no bfloat16
    found = np.asarray(labels)
    if found.dtype.kind == "f" and (wrong := found[found != np.floor(found)]).size:
        raise Error(f"the {what} holds {wrong[0]:g}, expected whole numbers")
    return found


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)


def _mean(values: np.ndarray) -> float:
    there = values[~np.isnan(values)]
    return float(there.mean()) if there.size else float("nan")


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _size(array: np.ndarray) -> str:
    return " x ".join(map(str, array.shape)) or "a single number"
