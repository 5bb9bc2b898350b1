"""What data layers do to pixels: `transform_param`, and resizing as OpenCV, which Caffe uses, resizes."""

from typing import Any

import numpy as np
from PIL import Image

from ..base.errors import Error
from ..base.files import find
from ..ops.base import Operation
from ..proto.model import read_mean
from .images import DAMAGE


class Transform:
    """The transform_param of a data layer: (pixel - mean) * scale of a crop, mirrored or not.

    crop_size cuts a square, at random in TRAIN and from the middle in TEST; mean_file, C x H x W, is cut in step.
    mirror flips every other image by chance, in TEST too. force_color and force_gray are for encoded images.
    """

    def __init__(self, op: Operation) -> None:
        """Raises Error for settings that contradict each other and for a mean_file that cannot be read."""
        p = op.layer.transform_param
        self.op, self.crop, self.mirror, self.scale = op, p.crop_size, p.mirror, np.float32(p.scale)
        if p.force_color and p.force_gray:
            raise op.error("transform_param has both force_color and force_gray; give one")
        if p.mean_file and p.mean_value:
            raise op.error("transform_param has both mean_file and mean_value; give one")
        self.color = True if p.force_color else False if p.force_gray else None
        self.mean = np.array(p.mean_value, np.float32).reshape(-1, 1, 1)
        self.whole_mean = None
        if p.mean_file:
            try:
                mean = read_mean(find(p.mean_file, op.context.base, "mean_file"))
            except Error as error:
                raise op.error(str(error)) from None
            if mean.ndim not in (3, 4) or mean.ndim == 4 and len(mean) != 1:
                raise op.error(f"the mean in {p.mean_file} has shape {list(mean.shape)}, expected 1 x C x H x W")
            self.whole_mean = mean.reshape(mean.shape[-3:])

    def shape(self, channels: int, height: int, width: int) -> tuple[int, int, int]:
        """What becomes of an image of this size; Error if it does not fit the crop or the mean."""
        if min(channels, height, width) < 1:
            raise self.op.error(f"has an image of {channels} x {height} x {width} pixels")
        if self.crop > min(height, width):
            raise self.op.error(f"crop_size {self.crop} is more than an image of {height} x {width} has")
        if self.whole_mean is not None and self.whole_mean.shape != (channels, height, width):
            raise self.op.error(f"the mean_file is {_by(self.whole_mean.shape)}, an image is "
                                f"{channels} x {height} x {width}; they must be equal in size")
        if len(self.mean) not in (0, 1, channels):
            raise self.op.error(f"has {len(self.mean)} mean_value for {channels} channels; give one, or one a channel")
        return (channels, self.crop or height, self.crop or width)

    def __call__(self, pixels: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Pixels (C, H, W) of any kind of number, transformed, float32."""
        _, height, width = self.shape(*pixels.shape)
        flip = self.mirror and random.integers(2) == 1
        mean: Any = self.mean if len(self.mean) else 0 if self.whole_mean is None else self.whole_mean
        if self.crop:
            room = [n - self.crop for n in pixels.shape[1:]]
            top, left = (int(random.integers(n + 1)) if self.op.context.training else n // 2 for n in room)
            cut = np.s_[:, top : top + height, left : left + width]
            pixels = pixels[cut]
            mean = mean[cut] if self.whole_mean is not None else mean
        result = (pixels.astype(np.float32) - mean) * self.scale
        return np.ascontiguousarray(result[:, :, ::-1] if flip else result)


def decode(image: Image.Image, name: str, color: bool | None) -> np.ndarray:
    """The pixels of an image as Caffe has them: uint8 (C, H, W), channels BGR, or grey (color=False).

    None keeps the channels there are (palettes become colours). Raises Error, beginning with `name`, for an image
    that cannot be read or has more than 8 bits a channel. Grey made of colours may differ from OpenCV's by 1.
    """
    if image.mode[0] in "IF":
        raise Error(f"{name} has pixels of kind {image.mode}, expected 8 bits a channel")
    native = "L" if image.mode in ("1", "L") else "RGBA" if "A" in image.getbands() or "transparency" in image.info else "RGB"
    mode = {True: "RGB", False: "L", None: native}[color]
    try:
        pixels = np.asarray(image if image.mode == mode else image.convert(mode))
    except DAMAGE as error:
        raise Error(f"{name} cannot be read: {error}") from None
    if pixels.ndim == 2:
        return pixels[None]
    return pixels[:, :, [2, 1, 0, 3][: pixels.shape[2]]].transpose(2, 0, 1)


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


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
