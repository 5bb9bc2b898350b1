"""The source that reads windows of images, of objects and of background, as R-CNN trains on them: WindowData."""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..base.errors import Error
from ..base.files import find
from ..ops.base import Shape
from ..ops.source import Batch, Source
from .images import Transform, decode, open_image, resize
from .listed import PIXELS

f32 = np.float32  # Caffe computes in float32, and where a window begins depends on how sums are rounded


class Window(NamedTuple):
    """A window as it is cut: rows and columns of the image, its size in the top, and where it begins there."""

    rows: slice
    columns: slice
    size: tuple[int, int]
    begin: tuple[int, int]


class WindowData(Source):
    """Windows drawn at random, with replacement, from those of the window file `source`.

    Tops: data (N, 3, crop_size, crop_size) and label (N): first the background windows (overlap below bg_threshold,
    label 0), then N * fg_fraction of objects (overlap of fg_threshold and more). A window is warped to the crop_size of
    transform_param; with crop_mode "square" its surrounding square is. It is widened so that context_pad pixels of
    the top on each side are context, and what lies outside the image is 0. `mirror`, `mean_file` (its middle) and
    `mean_value` come from transform_param, `scale` from window_data_param; cache_images has no effect.

    The file has for each image: "# INDEX", its path (after root_folder), channels, height, width, the number of
    windows, and for each "class overlap x1 y1 x2 y2", both ends included.
    """

    type = "WindowData"
    one_label = True
    tops = 2

    def setup(self) -> None:
        p = self.p = self.layer.window_data_param
        if p.batch_size < 1:
            raise self.error("window_data_param needs a batch_size of at least 1")
        self.batch_size = p.batch_size
        self.transform = Transform(self)
        self.crop = self.transform.crop
        if self.crop < 1:
            raise self.error("needs a crop_size in transform_param")
        if 2 * p.context_pad >= self.crop:
            raise self.error(f"context_pad {p.context_pad} leaves nothing of crop_size {self.crop}")
        if self.layer.transform_param.scale != 1:
            raise self.error("scale has no effect in transform_param of a WindowData layer; move it into window_data_param")
        if p.crop_mode not in ("warp", "square"):
            raise self.error(f"crop_mode is 'warp' or 'square', found '{p.crop_mode}'")
        if len(self.transform.mean) not in (0, 1, 3):
            raise self.error(f"has {len(self.transform.mean)} mean_value for 3 channels; give one, or one a channel")
        mean = self.transform.whole_mean
        if mean is not None and (len(mean) != 3 or min(mean.shape[1:]) < self.crop):
            raise self.error(f"the mean_file is {list(mean.shape)}, expected 3 channels of at least crop_size {self.crop}")
        try:
            self.source = find(p.source, self.context.base, "source")
        except Error as error:
            raise self.error(str(error)) from None
        self.images, windows = self._read(self.source)
        background = windows[windows[:, 2] < f32(p.bg_threshold)]
        background = background[background[:, 2] < f32(p.fg_threshold)]
        background[:, 1] = 0
        self.kinds = (background, windows[windows[:, 2] >= f32(p.fg_threshold)])
        for kind, what in zip(self.kinds, ("background", "object"), strict=True):
            if not len(kind):
                raise self.error(f"{self.source} has no {what} window at these thresholds")
        if (self.kinds[1][:, 1] <= 0).any():
            raise self.error(f"{self.source} has object windows of class 0, which is the background")
        self.objects = int(f32(self.batch_size) * f32(p.fg_fraction))

    def shapes(self) -> list[Shape]:
        return [(self.batch_size, 3, self.crop, self.crop), (self.batch_size,)]

    def load(self, position: int) -> Batch:
        data = np.zeros(self.shapes()[0], f32)
        labels = np.empty(self.batch_size, f32)
        for i, item in enumerate(self.items(position)):
            random, kind = self.generator(PIXELS, item), self.kinds[i >= self.batch_size - self.objects]
            window = kind[random.integers(len(kind))]
            flip = self.transform.mirror and random.integers(2) == 1
            path = self._path(window)
            image = decode(open_image(path), f"image {path}", True)
            try:
                place = self.place(window[3:], image.shape[1:], flip)
            except ValueError:
                raise self.error(f"window {window[3:].astype(int).tolist()} of {path} does not lie in the image, which is "
                                 f"{image.shape[2]} wide and {image.shape[1]} high") from None
            pixels = resize(image[:, place.rows, place.columns], *place.size)
            top, left = place.begin
            data[i, :, top : top + place.size[0], left : left + place.size[1]] = self.scaled(
                pixels[:, :, ::-1] if flip else pixels, top, left)
            labels[i] = window[1]
        return data, labels

    def describe(self, position: int) -> str:
        return f"windows of batch {position} from {self.source}"

    def place(self, corners: np.ndarray, size: tuple[int, int], flip: bool) -> Window:
        """Where a window (x1, y1, x2, y2) of an image of this size goes; ValueError if it has no pixel in it."""
        p, crop = self.p, self.crop
        x1, y1, x2, y2 = (int(c) for c in corners)
        spans, warped, begin = [(y1, y2), (x1, x2)], [crop, crop], [0, 0]
        if p.context_pad or p.crop_mode == "square":
            scale = f32(crop) / f32(crop - 2 * p.context_pad)
            half = [f32(f32(last - first + 1) / 2) for first, last in spans]
            centre = [f32(f32(first) + h) for (first, _), h in zip(spans, half, strict=True)]
            if p.crop_mode == "square":
                half = [max(half)] * 2
            for i in range(2):
                first, last = (_rounded(centre[i] + sign * f32(half[i] * scale)) for sign in (f32(-1), f32(1)))
                before, behind = max(0, -first), max(0, last - size[i] + 1)
                share = f32(crop) / f32(last - first + 1)
                spans[i] = first + before, last - behind
                warped[i] = _rounded(f32(spans[i][1] - spans[i][0] + 1) * share)
                begin[i] = _rounded(f32(behind if flip and i else before) * share)
                warped[i] = min(warped[i], crop - begin[i])
        for (first, last), n in zip(spans, size, strict=True):
            if not 0 <= first <= last < n:
                raise ValueError
        if min(warped) < 1:
            raise ValueError
        rows, columns = (slice(first, last + 1) for first, last in spans)
        return Window(rows, columns, tuple(warped), tuple(begin))

    def scaled(self, pixels: np.ndarray, top: int, left: int) -> np.ndarray:
        """(pixel - mean) * scale for pixels that begin at this place of the top."""
        mean = self.transform.mean if len(self.transform.mean) else f32(0)
        if self.transform.whole_mean is not None:
            middle = (self.transform.whole_mean.shape[2] - self.crop) // 2  # Caffe takes it for both axes
            top, left = top + middle, left + middle
            mean = self.transform.whole_mean[:, top : top + pixels.shape[1], left : left + pixels.shape[2]]
        return (pixels.astype(f32) - mean) * f32(self.p.scale)

    def _path(self, window: np.ndarray) -> Path:
        return find(self.p.root_folder + self.images[int(window[0])], self.source.parent, f"{self.source}: image")

    def _read(self, path: Path) -> tuple[list[str], np.ndarray]:
        """The names of the images, and a row "image class overlap x1 y1 x2 y2" for each window."""
        words, at, images, windows = path.read_text(encoding="utf-8", errors="replace").split(), 0, [], []
        try:
            while at < len(words):
                mark, index, image, channels, _, _, count = words[at : at + 7]
                if mark != "#" or int(index) != len(images):
                    raise ValueError
                if int(channels) != 3:
                    raise self.error(f"{path}: image {image} has {channels} channels, expected 3")
                end = at + 7 + 6 * int(count)
                boxes = np.array(words[at + 7 : end], f32).reshape(int(count), 6)
                windows.append(np.column_stack([np.full(len(boxes), len(images), f32), boxes]))
                images.append(image)
                at = end
        except ValueError:
            raise self.error(f"{path}: image {len(images)} is not written as \"# {len(images)}\", path, channels, height, "
                             "width, number of windows, and six numbers a window") from None
        if not images:
            raise self.error(f"{path} is empty")
        return images, np.concatenate(windows)


def _rounded(value: f32) -> int:
    """As C's round: halves away from zero."""
    return int(math.copysign(math.floor(abs(value) + 0.5), value))
