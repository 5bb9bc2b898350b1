"""The source that reads windows of images, objects and background, as R-CNN trains on them: WindowData."""

import math
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np

from ..base.files import lacking
from ..ops.base import Shape
from ..ops.source import Batch
from .images import decode, open_image
from .listed import PIXELS, Listed
from .opencv import resize
from .transform import Transform

f32 = np.float32  # Caffe computes in float32, and where a window begins depends on how sums are rounded


class Window(NamedTuple):
    """A window as it is cut: rows and columns of the image, its size in the top, where it begins there."""

    rows: slice
    columns: slice
    size: tuple[int, int]
    begin: tuple[int, int]


class WindowData(Listed, type="WindowData", tops=2, one_label=True):
    """Windows drawn at random, with replacement, from those of the window file `source`.

    Tops: data (N, 3, crop_size, crop_size) and label (N): first the background windows (overlap below
    bg_threshold, label 0), then N * fg_fraction of objects (overlap of fg_threshold and more). A window is
    warped to the crop_size of transform_param; with crop_mode "square" its surrounding square is. It is
    widened so that context_pad pixels of the top on each side are context, and what lies outside the image is
    0. `mirror`, `mean_file` (its middle) and `mean_value` come from transform_param, `scale` from
    window_data_param; cache_images has no effect.

    The file has for each image: "# INDEX", its path (after root_folder), channels, height, width, the number
    of windows, and for each "class overlap x1 y1 x2 y2", both ends included.
    """

    def setup(self) -> None:
        super().setup()
        self.transform = Transform(self)
        self.crop = self.transform.crop
        p, mean, given = self.p, self.transform.whole_mean, len(self.transform.mean)
        if self.crop < 1:
            raise self.error("needs a crop_size in transform_param")
        if 2 * p.context_pad >= self.crop:
            raise self.error(f"context_pad {p.context_pad} leaves nothing of crop_size {self.crop}")
        if self.layer.transform_param.scale != 1:
            raise self.error("scale has no effect in transform_param of a WindowData layer; move it into "
                             "window_data_param")
        if p.crop_mode not in ("warp", "square"):
            raise self.error(f"crop_mode is 'warp' or 'square', found '{p.crop_mode}'")
        if given not in (0, 1, 3):
            raise self.error(f"has {given} mean_value for 3 channels; give one, or one a channel")
        if mean is not None and (len(mean) != 3 or min(mean.shape[1:]) < self.crop):
            raise self.error(f"the mean_file is {list(mean.shape)}, expected 3 channels of at least "
                             f"crop_size {self.crop}")
        self.images, windows = self._read()
        overlaps, objects = windows[:, 2], windows[:, 2] >= f32(self.p.fg_threshold)
        background = windows[~objects & (overlaps < f32(self.p.bg_threshold))]
        background[:, 1] = 0
        self.kinds = background, windows[objects]
        for kind, what in zip(self.kinds, ("background", "object"), strict=True):
            if not len(kind):
                raise self.error(f"{self.source} has no {what} window at these thresholds")
        if (self.kinds[1][:, 1] <= 0).any():
            raise self.error(f"{self.source} has object windows of class 0, which is the background")
        self.objects = int(f32(self.batch_size) * f32(self.p.fg_fraction))

    def gone(self) -> Iterator[tuple[str, str]]:
        for name in lacking((self.p.root_folder + each for each in self.images), self.source.parent):
            yield "image", name

    def shapes(self) -> list[Shape]:
        return [(self.batch_size, 3, self.crop, self.crop), (self.batch_size,)]

    def load(self, position: int) -> Batch:
        data = np.zeros(self.shapes()[0], f32)
        labels = np.empty(self.batch_size, f32)
        for i, item in enumerate(self.items(position)):
            random, kind = self.generator(PIXELS, item), self.kinds[i >= self.batch_size - self.objects]
            window = kind[random.integers(len(kind))]
            flip = self.transform.mirror and random.integers(2) == 1
            path = self.path(self.images[int(window[0])])
            image = decode(open_image(path), f"image {path}", True)
            try:
                place = self.place(window[3:], image.shape[1:], flip)
            except ValueError:
                raise self.error(f"window {window[3:].astype(int).tolist()} of {path} does not lie in the "
                                 f"image, which is {image.shape[2]} wide and {image.shape[1]} high") from None
            pixels = resize(image[:, place.rows, place.columns], *place.size)
            pixels = (pixels[:, :, ::-1] if flip else pixels).astype(f32)
            (high, wide), (top, left) = place.size, place.begin
            part = data[i, :, top : top + high, left : left + wide]
            mean, whole = self.transform.mean, self.transform.whole_mean
            if whole is not None:
                middle = (whole.shape[-1] - self.crop) // 2  # Caffe takes it for both axes
                top, left = top + middle, left + middle
                mean = whole[:, top : top + high, left : left + wide]
            part[...] = (pixels - (mean if len(mean) else f32(0))) * f32(self.p.scale)
            labels[i] = window[1]
        return data, labels

    def describe(self, position: int) -> str:
        return f"windows of batch {position} from {self.source}"

    def place(self, corners: np.ndarray, size: Shape, flip: bool) -> Window:
        """Where a window (x1, y1, x2, y2) of an image of this size goes; ValueError if no part is inside."""
        x1, y1, x2, y2 = (int(c) for c in corners)
        least = max(y2 - y1, x2 - x1) + 1 if self.p.crop_mode == "square" else 0
        rows, high, top = self._axis(y1, y2, least, size[0], False)
        columns, wide, left = self._axis(x1, x2, least, size[1], flip)
        return Window(rows, columns, (high, wide), (top, left))

    def _axis(self, first: int, last: int, least: int, size: int, flip: bool) -> tuple[slice, int, int]:
        """Along one axis: what is cut, how long that is in the top, and where it begins there.

        first, last: of a window, which is widened to `least` pixels around its centre, and by the context.
        """
        crop, begin = self.crop, 0
        warped, long = crop, last - first + 1
        if self.p.context_pad or self.p.crop_mode == "square":
            centre = f32(f32(first) + f32(f32(long) / 2))
            scale = f32(crop) / f32(crop - 2 * self.p.context_pad)
            reach = f32(f32(f32(max(long, least)) / 2) * scale)
            first, last = _rounded(centre - reach), _rounded(centre + reach)
            before, behind = max(0, -first), max(0, last - size + 1)
            share = f32(crop) / f32(last - first + 1)
            first, last = first + before, last - behind
            begin = _rounded(f32(behind if flip else before) * share)
            warped = min(_rounded(f32(last - first + 1) * share), crop - begin)
        if not 0 <= first <= last < size or warped < 1:
            raise ValueError
        return slice(first, last + 1), warped, begin

    def _read(self) -> tuple[list[str], np.ndarray]:
        """The names of the images, and a row "image class overlap x1 y1 x2 y2" for each window."""
        path, words = self.source, (word for line in self.text() for word in line.split())
        images: list[str] = []
        windows: list[np.ndarray] = []
        try:
            while begin := [*islice(words, 7)]:
                mark, index, image, channels, _, _, count = begin
                if mark != "#" or int(index) != len(images):
                    raise ValueError
                if int(channels) != 3:
                    raise self.error(f"{path}: image {image} has {channels} channels, expected 3")
                boxes = np.fromiter(map(f32, islice(words, 6 * int(count))), f32).reshape(int(count), 6)
                windows.append(np.column_stack([np.full(len(boxes), len(images), f32), boxes]))
                images.append(image)
        except ValueError:
            raise self.error(f"{path}: image {len(images)} is not written as \"# {len(images)}\", path, "
                             "channels, height, width, number of windows, and six numbers a window") from None
        if not images:
            raise self.error(f"{path} is empty")
        return images, np.concatenate(windows)


def _rounded(value: f32) -> int:
    """As C's round: halves away from zero."""
    return int(math.copysign(math.floor(abs(value) + 0.5), value))
