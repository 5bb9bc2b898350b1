"""Boxes and anchors against naive loops, at the edges that the releases' code decides."""

import math

import numpy as np
import pytest
import torch

from netspec.ops import boxes
from netspec.ops.anchors import all_anchors, base_anchors


def some(count, seed=0, whole=False):
    rng = np.random.RandomState(seed)
    start = rng.uniform(0, 60, (count, 2))
    found = np.concatenate([start, start + rng.uniform(0, 40, (count, 2))], 1)
    return torch.from_numpy((found.round() if whole else found).astype(np.float32))


def area(box):
    return (box[2] - box[0] + 1) * (box[3] - box[1] + 1)


def overlap(a, b):
    """In the precision of the numbers given."""
    wide = min(a[2], b[2]) - max(a[0], b[0]) + 1
    high = min(a[3], b[3]) - max(a[1], b[1]) + 1
    if wide <= 0 or high <= 0:
        return type(wide)(0)
    return wide * high / (area(a) + area(b) - wide * high)


def test_overlaps_are_those_of_float64():
    a, b = some(20), some(9, 1)
    expected = [[overlap(one, other) for other in b.double().tolist()] for one in a.double().tolist()]
    found = boxes.overlaps(a, b)
    assert found.dtype == torch.float64 and found.tolist() == expected
    assert boxes.overlaps(a[:0], b).shape == (0, 9)


def test_overlaps_of_boxes_that_touch_and_of_one_pixel():
    a = torch.tensor([[0, 0, 9, 9], [9, 9, 9, 9], [10, 0, 19, 9.0]])
    assert boxes.overlaps(a, a).tolist() == [[1, 0.01, 0], [0.01, 1, 0], [0, 0, 1]]


def test_the_way_there_and_back_differs_by_the_releases_pixel():
    ones, truth = some(7), some(7, 1)
    moves = boxes.encode(ones, truth)
    for i in range(7):
        (x1, y1, x2, y2), (u1, v1, u2, v2) = ones[i].tolist(), truth[i].tolist()
        wide, high = x2 - x1 + 1, y2 - y1 + 1
        expected = [(u1 + (u2 - u1 + 1) / 2 - x1 - wide / 2) / wide, (v1 + (v2 - v1 + 1) / 2 - y1 - high / 2) / high,
                    math.log((u2 - u1 + 1) / wide), math.log((v2 - v1 + 1) / high)]
        assert moves[i].tolist() == pytest.approx(expected, abs=1e-5)
    torch.testing.assert_close(boxes.decode(ones, moves), truth + torch.tensor([0, 0, 1, 1.0]), atol=1e-4, rtol=0)
    several = torch.cat([moves, moves * 0], 1)
    assert torch.equal(boxes.decode(ones, several)[:, :4], boxes.decode(ones, moves))
    assert boxes.decode(ones[:0], several[:0]).shape == (0, 8)


def test_boxes_are_cut_to_the_last_pixel():
    found = boxes.clip(torch.tensor([[-3, -1, 500, 7, 4, 5, 6, 99.0]]), (20, 30))
    assert found.tolist() == [[0, 0, 29, 7, 4, 5, 6, 19]]
    assert torch.equal(boxes.clip(found, torch.tensor([20, 30.0])), found)


def test_equal_scores_come_in_the_order_of_numpys_plain_quicksort():
    """What NumPy gives where NPY_DISABLE_CPU_FEATURES takes all vector instructions away."""
    assert boxes.ranked(torch.arange(16) % 3.0).tolist() == [i for k in (2, 1, 0) for i in range(15, -1, -1) if i % 3 == k]
    assert boxes.ranked(torch.arange(20) % 3.0).tolist() == [5, 17, 14, 2, 11, 8, 19, 16, 1, 13, 10, 7, 4, 3, 9, 6, 18, 12, 15, 0]
    found = boxes.ranked(torch.tensor([0.5, float("nan"), -1, 2, float("inf")]))
    assert found.tolist() == [1, 4, 3, 0, 2] and boxes.ranked(torch.empty(0)).tolist() == []


def kept(given, scores, threshold, strict=False):
    """Box by box, overlaps in float32: against the threshold in double, or with strict in float32."""
    given, limit = given.numpy(), np.float32(threshold) if strict else float(threshold)
    left, found = scores.numpy().astype(np.longdouble).argsort()[::-1].tolist(), []
    while left:
        best = left.pop(0)
        found.append(best)
        near = {i: overlap(given[best], given[i]) for i in left}
        left = [i for i in left if (near[i] <= limit if strict else float(near[i]) < limit)]
    return found


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("block", [1, 7, 128])
@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
def test_suppression_is_that_of_a_loop(strict, block, threshold, monkeypatch):
    monkeypatch.setattr(boxes, "BLOCK", block)
    for seed in range(4):
        given = some(60, seed, whole=True)
        scores = torch.from_numpy(np.random.RandomState(seed).randint(0, 20, 60).astype(np.float32))  # many are equal
        expected = kept(given, scores, threshold, strict)
        assert boxes.nms(given, scores, threshold, strict=strict).tolist() == expected
        assert boxes.nms(given, scores, threshold, strict=strict, most=5).tolist() == expected[:5]
    assert boxes.nms(given[:0], scores[:0], threshold).tolist() == []


def test_a_threshold_that_float32_has_not():
    """0.7 in float32 lies below 0.7: an overlap that is rounded to it is no 0.7 for the CPU's code, and no more for the GPU's."""
    given = torch.tensor([[0, 0, 9, 9], [0, 0, 9, 6.0]])
    scores = torch.tensor([0.9, 0.8])
    assert float(np.float32(0.7)) < 0.7 and overlap(*given.numpy()) == np.float32(0.7)
    assert boxes.nms(given, scores, 0.7).tolist() == boxes.nms(given, scores, 0.7, strict=True).tolist() == [0, 1]
    half = torch.tensor([[0, 0, 9, 9], [0, 0, 9, 4.0]])
    assert boxes.nms(half, scores, 0.5).tolist() == [0] and boxes.nms(half, scores, 0.5, strict=True).tolist() == [0, 1]


def softly(given, scores, method, sigma, limit, threshold):
    """As the release does it in place: the best to the front, the last into the place of one that goes."""
    rows = [[i, *given[i], scores[i]] for i in range(len(given))]
    count, f32 = len(rows), np.float32
    for i in range(len(rows)):
        if i >= count:
            break
        best = max(range(i, count), key=lambda j: (rows[j][5], -j))
        rows[i], rows[best] = rows[best], rows[i]
        j = i + 1
        while j < count:
            shared = overlap(rows[i][1:5], rows[j][1:5])
            if shared > 0:
                weight = f32(1) if method != "gaussian" else f32(np.exp(float(-(shared * shared) / f32(sigma))))
                if method != "gaussian" and shared > f32(limit):
                    weight = 1 - shared if method == "linear" else f32(0)
                rows[j] = [*rows[j][:5], weight * rows[j][5]]
                if rows[j][5] < f32(threshold):
                    count -= 1
                    rows[j] = rows[count]
                    continue
            j += 1
    return [row[0] for row in rows[:count]], [row[5] for row in rows[:count]]


@pytest.mark.parametrize("method", ["linear", "gaussian", "hard"])
def test_soft_suppression_is_that_of_a_loop(method):
    for seed in range(6):
        given, rng = some(40, seed, whole=True), np.random.RandomState(seed)
        scores = (rng.randint(1, 9, 40) / 8).astype(np.float32)  # equal ones: the places they swap to decide
        order, new = softly(given.numpy(), scores, method, 0.5, 0.3, 0.2)
        found, values = boxes.soft_nms(given, torch.from_numpy(scores), method, threshold=0.2)
        assert found.tolist() == order and values.tolist() == pytest.approx(new, rel=1e-6)
    assert [len(x) for x in boxes.soft_nms(given[:0], torch.empty(0), method)] == [0, 0]
    with pytest.raises(ValueError, match="linear, gaussian or hard, found 'soft'"):
        boxes.soft_nms(given, torch.from_numpy(scores), "soft")


def test_anchors_of_the_releases():
    assert base_anchors().tolist() == [
        [-84, -40, 99, 55], [-176, -88, 191, 103], [-360, -184, 375, 199], [-56, -56, 71, 71], [-120, -120, 135, 135],
        [-248, -248, 263, 263], [-36, -80, 51, 95], [-80, -168, 95, 183], [-168, -344, 183, 359]]
    assert base_anchors(scales=(4,)).tolist() == [[-38, -16, 53, 31], [-24, -24, 39, 39], [-14, -36, 29, 51]]
    grid = all_anchors(base_anchors(), 16, 2, 3)
    assert grid.dtype == torch.float64 and grid.shape == (54, 4)
    assert grid[9].tolist() == [-68, -40, 115, 55] and grid[27].tolist() == [-84, -24, 99, 71]
