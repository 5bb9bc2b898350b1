"""Resizing of patches: against values worked out by hand, and naive loops over kernels."""

import numpy as np
import pytest

from netspec.data.resizing import cubic, shrunk, turned

RNG = np.random.default_rng(4)


def keys(x):
    """Cubic convolution, a = -1/2."""
    x = abs(x)
    return 1.5 * x**3 - 2.5 * x**2 + 1 if x <= 1 else -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x <= 2 else 0


def naive(row, new):
    """A row resized cubically: positions beyond the border are mirrored, a shrinking kernel is wider."""
    old, found = len(row), []
    wide = max(1.0, old / new)
    for i in range(new):
        middle = (i + 0.5) * old / new - 0.5
        near = range(int(np.floor(middle - 2 * wide)) - 1, int(np.ceil(middle + 2 * wide)) + 2)
        weights = [keys((middle - j) / wide) for j in near]
        values = [row[j] if 0 <= j < old else row[-1 - j] if j < 0 else row[2 * old - 1 - j] for j in near]
        found.append(np.dot(weights, values) / sum(weights))
    return np.array(found)


@pytest.mark.parametrize(("old", "new"), [(8, 16), (7, 21), (16, 8), (20, 7), (9, 13), (12, 12)])
def test_cubic_is_keys_convolution_along_either_axis(old, new):
    row = RNG.random(old)
    np.testing.assert_allclose(cubic(row[None], 1, new)[0], naive(row, new), atol=1e-12)
    np.testing.assert_allclose(cubic(row[:, None], new, 1)[:, 0], naive(row, new), atol=1e-12)


def test_cubic_of_bytes_rounds_each_axis_and_stays_within_bytes():
    edge = np.repeat(np.uint8([[0, 0, 255, 255]]), 4, 0)
    found = cubic(edge, 8, 8)
    want = naive(edge[0].astype(float), 8)
    assert want.min() < 0 and want.max() > 255  # it overshoots beside an edge
    assert found.dtype == np.uint8 and np.array_equal(found[0], np.floor(want.clip(0, 255) + 0.5))
    noise = RNG.integers(0, 256, (6, 5)).astype(np.uint8)
    rows = np.stack([naive(noise[:, i].astype(float), 12) for i in range(5)], 1).clip(0, 255)
    rows = np.floor(rows + 0.5)
    both = np.stack([naive(row, 10) for row in rows]).clip(0, 255)
    assert np.array_equal(cubic(noise, 12, 10), np.floor(both + 0.5))
    deep = cubic(np.uint16(257) * edge, 8, 8)
    assert deep.dtype == np.uint16 and np.array_equal(deep[0], np.floor(257 * want.clip(0, 255) + 0.5))


def test_cubic_keeps_what_is_flat_and_half_precision_is_not_rounded():
    assert np.allclose(cubic(np.full((5, 7), 0.3), 11, 3), 0.3)
    half = np.float16([[0.1, 0.7], [0.2, 0.4]])
    assert cubic(half, 4, 4).dtype == np.float64 and np.array_equal(cubic(half, 4, 4), cubic(half.astype(float), 4, 4))


def test_shrunk_to_half_is_a_gaussian_and_then_means_of_two():
    row = RNG.random(20)
    x = np.arange(-2, 3)
    gauss = np.exp(-(x**2) / (2 * 0.5**2))
    gauss /= gauss.sum()
    smooth = np.convolve(np.concatenate([row[1::-1], row, row[:-3:-1]]), gauss, "valid")
    np.testing.assert_allclose(shrunk(row[None], 1, 10)[0], (smooth[::2] + smooth[1::2]) / 2, atol=1e-12)
    np.testing.assert_allclose(shrunk(row[:, None], 10, 1)[:, 0], (smooth[::2] + smooth[1::2]) / 2, atol=1e-12)


def test_shrunk_does_not_smooth_where_nothing_shrinks_and_keeps_channels_apart():
    bands = RNG.random((6, 8, 4))
    assert np.array_equal(shrunk(bands, 6, 8), bands)
    found = shrunk(bands, 12, 4)
    assert found.shape == (12, 4, 4)
    for band in range(4):
        np.testing.assert_allclose(found[..., band], shrunk(bands[..., band], 12, 4))


def naive_turned(pixels, degrees):
    """Linear at the place that each pixel comes from, by the definition, mirrored at the border."""
    high, wide = pixels.shape
    angle, found = np.deg2rad(degrees), np.zeros(pixels.shape)

    def at(row, column):
        row, column = row % (2 * high), column % (2 * wide)
        return pixels[min(row, 2 * high - 1 - row), min(column, 2 * wide - 1 - column)]

    for row, column in np.ndindex(high, wide):
        down, right = row - (high - 1) / 2, column - (wide - 1) / 2
        y = (high - 1) / 2 + down * np.cos(angle) + right * np.sin(angle)
        x = (wide - 1) / 2 - down * np.sin(angle) + right * np.cos(angle)
        a, b = int(np.floor(y)), int(np.floor(x))
        found[row, column] = sum(at(a + i, b + j) * abs(1 - i - y + a) * abs(1 - j - x + b) for i in (0, 1) for j in (0, 1))
    return found


def test_turned_is_linear_between_pixels_and_mirrored_at_the_border():
    noise = RNG.random((5, 8, 2))
    for degrees in (7, -35, 160):
        found = turned(noise, degrees)
        assert found.dtype == np.float32
        for channel in (0, 1):
            np.testing.assert_allclose(found[..., channel], naive_turned(noise[..., channel], degrees), atol=1e-6)
    np.testing.assert_allclose(turned(noise[:, :5], 90), np.rot90(noise[:, :5]), atol=1e-6)  # counterclockwise


def test_turned_to_the_nearest_makes_up_no_number():
    label = RNG.integers(0, 2, (9, 7)).astype(np.uint8) * np.uint8(200)
    assert np.array_equal(turned(label, 180, nearest=True), label[::-1, ::-1])
    found = turned(label, 20, nearest=True)
    assert found.dtype == np.uint8 and set(np.unique(found)) == {0, 200} and not np.array_equal(found, label)
