"""What 38-Cloud's public evaluation computes: a scene's mask, and five measures of cloud, scene by scene."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ..base.metrics import BINARY, Binary, confusion
from ..data.resizing import cubic

THRESHOLDS = 12 / 255, 0.5  # the evaluation's, and the one where cloud is the likelier class
ROWS = 512  # of a scene that are counted at once: as a whole it is 60 million pixels
KEYS: Mapping[str, str] = {"precision": "precision", "recall": "recall", "specificity": "specificity",
                           "jaccard": "jaccard", "accuracy": "overall_accuracy"}
"""The measures in the evaluation's order and words -> those of `Binary`."""


def mask(probable: np.ndarray, threshold: float, side: int) -> np.ndarray:
    """Where a patch is cloud, bool (side, side): resized first, where its size differs, then cut.

    probable: (H, W), floats from 0 to 1, or uint8 from 0 to 255, which are resized as such.
    """
    if probable.shape != (side, side):
        probable = cubic(probable, side, side)
    return fractions(probable) > threshold


def fractions(probable: np.ndarray) -> np.ndarray:
    """Probabilities, float64; of whole numbers as shares of the largest of their kind."""
    if probable.dtype.kind == "u":
        return probable / np.float64(np.iinfo(probable.dtype).max)
    return probable.astype(np.float64, copy=False)


def judged(truth: np.ndarray, found: np.ndarray) -> tuple[np.ndarray, Binary]:
    """The pixels of a scene, int64 (2, 2), rows truth, clear before cloud; and the measures of cloud.

    truth: 0 or 1, and found: True where cloud, of one shape. Raises Error where these differ.
    """
    counts = confusion(truth, found, 2, None)
    return counts, Binary.from_histogram(counts)


def mean(scenes: Iterable[Binary]) -> Binary:
    """The mean over scenes, each of the same weight however many pixels it has.

    As in the evaluation a measure that one scene has none of (0/0, such as the recall where there is no
    cloud) has no mean.
    """
    held = list(scenes)
    return Binary(*(float(np.mean([getattr(scene, name) for scene in held])) for name in BINARY))


def levels(probable: np.ndarray, thresholds: Sequence[float]) -> np.ndarray:
    """How many of the thresholds, which rise, each probability is above: uint16."""
    return np.searchsorted(thresholds, fractions(probable), side="left").astype(np.uint16)


def tally(truth: np.ndarray, level: np.ndarray, thresholds: int) -> np.ndarray:
    """The pixels of a scene by truth, 0 or 1, and level, 0 to the number of thresholds: int64 (2, N + 1)."""
    count = thresholds + 1
    found = np.zeros(2 * count, np.int64)
    for row in range(0, len(truth), ROWS):
        part = truth[row : row + ROWS] * np.intp(count) + level[row : row + ROWS]
        found += np.bincount(part.ravel(), minlength=2 * count)
    return found.reshape(2, count)


def at(tallied: np.ndarray, number: int) -> Binary:
    """The measures of a scene's tally at the threshold of a number."""
    cloud = tallied[:, number + 1 :].sum(1)
    return Binary.from_histogram(np.stack([tallied.sum(1) - cloud, cloud], 1))
