"""Resizing as OpenCV does it, without it."""

import numpy as np


def resize(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """uint8 (C, H, W) resized bilinearly, to the bit as OpenCV's INTER_LINEAR.

    Half-pixel centres, no smoothing when shrinking (which Pillow's BILINEAR does), weights in 1/2048, and the
    intermediate roundings of its fixed-point arithmetic.
    """
    low, high, a, b = _taps(pixels.shape[2], width, True)
    x = pixels.astype(np.int32)
    x = x[:, :, low] * a + x[:, :, high] * b
    low, high, a, b = _taps(pixels.shape[1], height, False)
    x >>= 4
    y = (x[:, low] * a[:, None] >> 16) + (x[:, high] * b[:, None] >> 16)
    return ((y + 2) >> 2).astype(np.uint8)


def _taps(size: int, new: int, columns: bool) -> tuple[np.ndarray, ...]:
    """For each new position the two old ones it lies between, and their weights in 1/2048."""
    at = ((np.arange(new) + 0.5) * _step(size, new) - 0.5).astype(np.float32)
    low = np.floor(at).astype(int)
    part = at - low.astype(np.float32)
    if columns:  # beyond the border the weights differ for rows and columns, though not what they are of
        part[(low < 0) | (low >= size - 1)] = 0
    weights = (np.rint(share * np.float32(2048)).astype(np.int32) for share in (1 - part, part))
    return low.clip(0, size - 1), (low + 1).clip(0, size - 1), *weights


def nearest(label: np.ndarray, height: int, width: int) -> np.ndarray:
    """A label (H, W) resized to the nearest position above and to the left, as OpenCV's INTER_NEAREST."""
    rows, columns = (np.minimum(np.arange(new) * _step(size, new), size - 1).astype(int)
                     for size, new in zip(label.shape, (height, width), strict=True))
    return label[rows[:, None], columns]


def _step(size: int, new: int) -> float:
    """Old positions a new one; OpenCV inverts the scale, which may round otherwise than size / new."""
    return 1 / (new / size)


def scaled(pixels: np.ndarray, side: int, most: int) -> tuple[np.ndarray, float]:
    """float32 (H, W, C) scaled so that the shorter side is `side`, or less where the longer one would be more
    than `most`: float32 (C, H, W), and the factor.

    As OpenCV does it: bilinear, half-pixel centres in steps of 1 / factor, no smoothing when shrinking; both
    sides are rounded, halves to the even number.
    """
    short, long = sorted(pixels.shape[:2])
    factor = side / short
    if round(factor * long) > most:
        factor = most / long
    result = pixels.astype(np.float32, copy=False)
    for axis in (0, 1):
        old = result.shape[axis]
        at = (np.arange(max(1, round(old * factor))) + 0.5) / factor - 0.5
        low = np.floor(at).astype(int)
        part = (at - low).astype(np.float32).reshape(-1, *(1,) * (2 - axis))
        first, second = (result.take(np.clip(place, 0, old - 1), axis) for place in (low, low + 1))
        result = first + (second - first) * part
    return np.ascontiguousarray(result.transpose(2, 0, 1)), factor
