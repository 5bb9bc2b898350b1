"""What 38-Cloud's release does to pixels: two ways of resizing, one that smooths where it shrinks and cubic
convolution; and turning."""

from functools import lru_cache

import numpy as np


def shrunk(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Pixels (H, W, ...) resized as scikit-image's `resize` does it of order 1: float64.

    What becomes smaller is smoothed before by a Gaussian, whose deviation is half of what the factor is above
    1; then linear, half-pixel centres, mirrored at the border.
    """
    found = np.asarray(pixels, np.float64)
    for axis, new in enumerate((height, width)):
        if (old := found.shape[axis]) != new:
            found = np.moveaxis(np.tensordot(_smoothed(old, new), found, (1, axis)), 0, axis)
    return found


@lru_cache(16)
def _smoothed(old: int, new: int) -> np.ndarray:
    """How much each old position has in each new one, of `shrunk`: (new, old)."""
    from scipy import ndimage

    found = np.eye(old)
    if old > new:
        found = ndimage.gaussian_filter1d(found, (old / new - 1) / 2, 0)
    at = (np.arange(new) + 0.5) * (old / new) - 0.5
    low = np.floor(at).astype(int)
    first, second = (found[_mirrored(each, old)] for each in (low, low + 1))
    return first + (second - first) * (at - low)[:, None]


def turned(pixels: np.ndarray, degrees: float, nearest: bool = False) -> np.ndarray:
    """Pixels (H, W) or (H, W, C) turned about the middle, counterclockwise, in the size they had: linear and
    float32, or the nearest of the same kind. Beyond the border they are mirrored, its pixel twice, as by
    scikit-image's `rotate` with mode "symmetric"."""
    from scipy import ndimage

    sine, cosine = np.sin(np.deg2rad(degrees)), np.cos(np.deg2rad(degrees))
    back = np.array([[cosine, sine], [-sine, cosine]])  # from where (row, column) comes
    middle = (np.array(pixels.shape[:2]) - 1) / 2
    made = np.empty(pixels.shape, pixels.dtype if nearest else np.float32)
    for channel, out in zip(np.atleast_3d(pixels).T, np.atleast_3d(made).T, strict=True):
        ndimage.affine_transform(channel.T, back, middle - back @ middle, output=out.T, mode="reflect",
                                 order=0 if nearest else 1)
    return made


def cubic(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Pixels (H, W) resized as MATLAB's `imresize` does it: cubic convolution (Keys, a = -1/2), float64.

    Half-pixel centres, mirrored at the border; where it shrinks, the kernel is as much wider. The axis comes
    first that shrinks more, or grows less, of equal ones the rows. uint8 and uint16 stay so: each axis is
    rounded, up from one half, and cut to the numbers that there are.
    """
    found = np.asarray(pixels, np.float64)
    news, whole = (height, width), pixels.dtype.kind == "u"
    for axis in sorted((0, 1), key=lambda axis: news[axis] / pixels.shape[axis]):
        weights = _weights(pixels.shape[axis], news[axis])
        found = weights @ found if axis == 0 else found @ weights.T
        if whole:
            found = np.floor(found.clip(0, np.iinfo(pixels.dtype).max) + 0.5)
    return found.astype(pixels.dtype) if whole else found


@lru_cache(16)
def _weights(old: int, new: int) -> np.ndarray:
    """How much each old position has in each new one: (new, old)."""
    if old == new:
        return np.eye(old)
    scale = min(1.0, new / old)
    reach = int(np.ceil(4 / scale)) + 2
    at = (np.arange(new) + 0.5) * (old / new) - 0.5
    near = np.floor(at - 2 / scale).astype(int)[:, None] + np.arange(reach)
    x = np.abs(at[:, None] - near) * scale
    inner, outer = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    kernel = np.where(x <= 1, inner, np.where(x <= 2, outer, 0))
    kernel /= kernel.sum(1, keepdims=True)
    found = np.zeros((new, old))
    np.add.at(found, (np.arange(new)[:, None], _mirrored(near, old)), kernel)
    return found


def _mirrored(at: np.ndarray, count: int) -> np.ndarray:
    """Positions outside 0 .. count - 1 mirrored at the border, whose pixel comes twice."""
    at = at % (2 * count)
    return np.where(at < count, at, 2 * count - 1 - at)
