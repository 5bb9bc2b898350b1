"""Average precision, by hand and against the plain loop over detections that the measure is defined by."""

import numpy as np
import pytest
import torch

from netspec.net.precision import Curve, Truth, curves


def truth(*boxes, difficult=()):
    """boxes: (class, x1, y1, x2, y2) each; difficult: the places of those that are."""
    table = np.array(boxes, float).reshape(-1, 5)
    return Truth(table[:, 1:], table[:, 0], np.isin(np.arange(len(table)), difficult))


def found(*rows):
    return torch.tensor(rows, dtype=torch.float64).reshape(-1, 6)


def test_the_second_detection_of_a_box_is_wrong_and_of_a_difficult_one_nothing():
    images = [truth((1, 10, 10, 29, 29), (1, 50, 50, 69, 69), difficult=[1])]
    (curve,) = curves(images, [found((1, 10, 10, 29, 29, 0.9), (1, 10, 10, 29, 29, 0.8),
                                     (1, 50, 50, 69, 69, 0.7), (1, 50, 50, 69, 69, 0.6))], 2)
    assert curve.truths == 1
    np.testing.assert_array_equal(curve.recall, [1, 1, 1, 1])
    np.testing.assert_array_equal(curve.precision, [1, 0.5, 0.5, 0.5])
    assert curve.area == 1 and curve.eleven == pytest.approx(1)


def test_an_overlap_of_exactly_the_threshold_is_wrong():
    images = [truth((1, 1, 1, 20, 20))]
    for bottom, right in ((10, 0.0), (11, 1.0)):  # 200 and 220 of 400 pixels
        (curve,) = curves(images, [found((1, 1, 1, 20, bottom, 0.5))], 2)
        assert curve.area == right


def test_boxes_of_other_classes_and_images_are_not_found():
    images = [truth((1, 0, 0, 9, 9)), truth((2, 0, 0, 9, 9))]
    one, two = curves(images, [found((2, 0, 0, 9, 9, 0.9)), found((2, 0, 0, 9, 9, 0.8))], 3)
    assert one.area == 0 and len(one.recall) == 0 and one.truths == 1
    np.testing.assert_array_equal(two.precision, [0, 0.5])
    assert two.area == 0.5


def test_nothing_to_find():
    (curve,) = curves([truth(), truth((1, 0, 0, 9, 9), difficult=[0])],
                      [found((1, 0, 0, 9, 9, 0.9)), found((1, 0, 0, 9, 9, 0.8))], 2)
    assert curve.truths == 0 and np.isnan(curve.recall).all() and np.isnan(curve.area) and curve.eleven == 0
    np.testing.assert_array_equal(curve.precision, [0, 0])
    (none,) = curves([truth()], [found()], 2)
    assert none.area == none.eleven == none.truths == 0


def test_the_two_measures_of_one_curve():
    right = np.array([True, True, False, True])
    curve = Curve(right, ~right, 4)
    assert curve.area == pytest.approx(0.25 + 0.25 + 0.25 * 0.75)
    assert curve.eleven == pytest.approx((6 * 1.0 + 2 * 0.75) / 11)


def naive(truths, detected, wanted, threshold):
    """Right (1), wrong (0) or nothing (None) for each detection of a class, the surest first."""
    rows = [(float(row[5]), image, row[1:5].tolist())
            for image, some in enumerate(detected) for row in some if row[0] == wanted]
    rows.sort(key=lambda row: -row[0])
    taken, told = set(), []
    for _, image, (x1, y1, x2, y2) in rows:
        best, which = 0.0, None
        for k, (a1, b1, a2, b2) in enumerate(truths[image].boxes):
            if truths[image].classes[k] == wanted:
                both = max(min(x2, a2) - max(x1, a1) + 1, 0) * max(min(y2, b2) - max(y1, b1) + 1, 0)
                over = both / ((x2 - x1 + 1) * (y2 - y1 + 1) + (a2 - a1 + 1) * (b2 - b1 + 1) - both)
                if over > best:
                    best, which = over, k
        if best <= threshold:
            told.append(0)
        elif truths[image].difficult[which]:
            told.append(None)
        else:
            told.append(0 if (image, which) in taken else 1)
            taken.add((image, which))
    return told


@pytest.mark.parametrize("seed", range(4))
def test_the_plain_loop_finds_the_same(seed):
    random = np.random.default_rng(seed)

    def boxes(count):
        corners = random.integers(0, 30, (count, 2))
        return np.hstack([corners, corners + random.integers(0, 30, (count, 2))])

    truths = [Truth(boxes(n), random.integers(1, 4, n), random.random(n) < 0.3)
              for n in random.integers(0, 7, 12)]
    scores = random.permutation(400) // 3  # many are equal
    detected = [torch.from_numpy(np.column_stack([random.integers(1, 4, n), boxes(n), scores[i * 30: i * 30 + n]]))
                for i, n in enumerate(random.integers(0, 30, 12))]
    for wanted, curve in enumerate(curves(truths, detected, 4, 0.3), 1):
        told = naive(truths, detected, wanted, 0.3)
        right, counted = np.cumsum([t == 1 for t in told]), np.cumsum([t is not None for t in told])
        np.testing.assert_allclose(curve.recall, right / curve.truths)
        np.testing.assert_allclose(curve.precision, right / np.maximum(counted, 1))
