"""transform_param: what Caffe's own data layers do to the pixels of an image."""

import numpy as np

from ..base.errors import Error
from ..base.files import find
from ..ops.base import Operation
from ..proto.model import read_mean


class Transform:
    """The transform_param of a data layer: (pixel - mean) * scale of a crop, mirrored or not.

    crop_size cuts a square, at random in TRAIN and from the middle in TEST, and the same out of mean_file,
    C x H x W. mirror flips an image with a chance of one half, in TEST too. force_color and force_gray are
    for encoded images.
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
        self.whole_mean: np.ndarray | None = None
        if p.mean_file:
            try:
                mean = read_mean(find(p.mean_file, op.context.base, "mean_file"))
            except Error as error:
                raise op.error(str(error)) from None
            if mean.ndim not in (3, 4) or mean.ndim == 4 and len(mean) != 1:
                raise op.error(f"the mean in {p.mean_file} has shape {list(mean.shape)}, "
                               "expected 1 x C x H x W")
            self.whole_mean = mean.reshape(mean.shape[-3:])

    def shape(self, channels: int, height: int, width: int) -> tuple[int, int, int]:
        """What becomes of an image of this size; Error if it does not fit the crop or the mean."""
        if min(channels, height, width) < 1:
            raise self.op.error(f"has an image of {channels} x {height} x {width} pixels")
        if self.crop > min(height, width):
            raise self.op.error(f"crop_size {self.crop} is more than an image of {height} x {width} has")
        if self.whole_mean is not None and self.whole_mean.shape != (channels, height, width):
            has = " x ".join(map(str, self.whole_mean.shape))
            raise self.op.error(f"the mean_file is {has}, an image is {channels} x {height} x {width}; they "
                                "must be equal in size")
        if len(self.mean) not in (0, 1, channels):
            raise self.op.error(f"has {len(self.mean)} mean_value for {channels} channels; "
                                "give one, or one a channel")
        return (channels, self.crop or height, self.crop or width)

    def __call__(self, pixels: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Pixels (C, H, W) of any kind of number, transformed, float32."""
        return self.both(pixels, pixels[:0], random)[0]

    def both(self, pixels: np.ndarray, label: np.ndarray, random: np.random.Generator,
             anywhere: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Pixels transformed, and a label (1, H, W) cut and mirrored with them; anywhere: crops are random in
        TEST too."""
        _, height, width = self.shape(*pixels.shape)
        flip = self.mirror and random.integers(2) == 1
        mean = self.mean if len(self.mean) else self.whole_mean
        if self.crop:
            room, drawn = [n - self.crop for n in pixels.shape[1:]], self.op.context.training or anywhere
            top, left = (int(random.integers(n + 1)) if drawn else n // 2 for n in room)
            cut = np.s_[:, top : top + height, left : left + width]
            pixels, label = pixels[cut], label[cut]
            mean = mean if self.whole_mean is None else self.whole_mean[cut]
        result = pixels.astype(np.float32)
        if mean is not None:
            result -= mean
        result *= self.scale
        turned = np.s_[:, :, ::-1] if flip else np.s_[:]
        return np.ascontiguousarray(result[turned]), label[turned]
