"""Sources that read image files named in a list: ImageData, and SegNet's DenseImageData."""

import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..base.errors import Error
from ..base.files import find
from ..ops.base import Shape
from ..ops.source import Batch, Source
from .images import Transform, decode, nearest, open_image, read_label, resize

ORDER, PIXELS, SKIP = range(3)  # what a random generator is for


class Line(NamedTuple):
    """A line of a list: the image, and its label or the file with its labels."""

    image: str
    label: Any


class ListedImages(Source):
    """Images of a list, in its order, which starts again at its end; `shuffle` makes a new order for each epoch.

    rand_skip leaves out a random number, less than it, of images at the start of the run. File names are appended to
    root_folder as they are; relative ones start from the current folder or the list's, or one above it.
    """

    tops = 2

    def read(self, path: Path) -> list[Line]:
        raise NotImplementedError

    def begin(self, p: Any) -> None:
        """Read the settings that the parameter messages have in common."""
        self.p = p
        if p.batch_size < 1:
            raise self.error("needs a batch_size of at least 1")
        self.new = self.both("new_height", "new_width")
        self.batch_size = p.batch_size
        try:
            self.list = find(p.source, self.context.base, "source")
        except Error as error:
            raise self.error(str(error)) from None
        self.lines = self.read(self.list)
        if not self.lines:
            raise self.error(f"source {self.list} lists no image")
        if p.rand_skip > len(self.lines):
            raise self.error(f"rand_skip {p.rand_skip} is more than the {len(self.lines)} images of {self.list}")
        self._orders: dict[tuple[int, int], np.ndarray] = {}
        self.transform = Transform(self)

    def both(self, height: str, width: str) -> tuple[int, int] | None:
        """Two settings that come together, or not at all."""
        size = getattr(self.p, height), getattr(self.p, width)
        if bool(size[0]) != bool(size[1]):
            raise self.error(f"{height} and {width} come together")
        return size if size[0] else None

    def __len__(self) -> int:
        return len(self.lines)

    def line(self, item: int) -> Line:
        """The line of image number `item` of the run."""
        if self.p.rand_skip:
            item += int(self.generator(SKIP).integers(self.p.rand_skip))
        epoch, place = divmod(item, len(self.lines))
        if not self.p.shuffle:
            return self.lines[place]
        key = self.seed, epoch
        if key not in self._orders:
            if len(self._orders) > 2:
                self._orders.clear()
            self._orders[key] = self.generator(ORDER, epoch).permutation(len(self.lines))
        return self.lines[self._orders[key][place]]

    def path(self, name: str) -> Path:
        return find(self.p.root_folder + name, self.list.parent, f"{self.list}: image")

    def pixels(self, line: Line) -> np.ndarray:
        """An image before the transformation, uint8 (C, H, W)."""
        path = self.path(line.image)
        image = decode(open_image(path), f"image {path}", self.p.is_color)
        return resize(image, *self.new) if self.new and image.shape[1:] != self.new else image

    def describe(self, position: int) -> str:
        return ", ".join(self.p.root_folder + self.line(item).image for item in self.items(position))

    def image_names(self, position: int) -> list[str]:
        """The names of a batch's images, without folders and endings: stems for files about them."""
        return [Path(self.line(item).image).stem for item in self.items(position)]

    def odd_one_out(self, line: Line, found: Shape, first: Shape) -> Error:
        return self.error(f"image {line.image} gives {list(found)}, the first of its batch {list(first)}; images of different "
                          "size need new_height and new_width, a crop_size, or batch_size 1")


class ImageData(ListedImages):
    """Tops: data (N, C, H, W), BGR or grey (is_color: false), and label (N). A list line is a file name and a number."""

    type = "ImageData"
    one_label = True

    def setup(self) -> None:
        self.begin(self.layer.image_data_param)

    def read(self, path: Path) -> list[Line]:
        lines = []
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            name, _, label = line.rstrip().rpartition(" ")
            if not name:  # Caffe reads a name alone as label 0
                name, label = label, "0"
            if not re.fullmatch(r"[+-]?\d{1,10}", label):
                raise self.error(f"{path}:{number}: expected a file name, a space and a whole number, found '{line}'")
            if name.strip():
                lines.append(Line(name, int(label)))
        return lines

    def shapes(self) -> list[Shape]:
        first = self.transform.shape(*self.pixels(self.line(0)).shape)
        return [(self.batch_size, *first), (self.batch_size,)]

    def load(self, position: int) -> Batch:
        lines = [self.line(item) for item in self.items(position)]
        data = None
        for i, (item, line) in enumerate(zip(self.items(position), lines, strict=True)):
            image = self.transform(self.pixels(line), self.generator(PIXELS, item))
            if data is None:
                data = np.empty((self.batch_size, *image.shape), np.float32)
            if image.shape != data.shape[1:]:
                raise self.odd_one_out(line, image.shape, data.shape[1:])
            data[i] = image
        return data, np.array([line.label for line in lines], np.float32)


class DenseImageData(ListedImages):
    """Tops: data (N, C, H, W) and label (N, 1, H, W). A list line is the file names of an image and of its labels.

    Labels are grey or palette images of class indices (of a palette the index counts, not its grey value); they are
    resized to the nearest. crop_height x crop_width and mirror, random in both phases, apply to both alike.
    """

    type = "DenseImageData"

    def setup(self) -> None:
        p = self.layer.dense_image_data_param
        self.begin(p)
        if self.layer.transform_param.mirror or self.layer.transform_param.crop_size:
            raise self.error("transform_param cannot mirror or crop the labels; use mirror, crop_height and crop_width of "
                             "dense_image_data_param")
        if p.mean_file:
            raise self.error("mean_file has no effect in dense_image_data_param; move it into transform_param")
        self.cut = self.both("crop_height", "crop_width")
        if self.cut and self.transform.whole_mean is not None and self.transform.whole_mean.shape[1:] != self.cut:
            raise self.error(f"the mean_file is subtracted after the crop, so it must be {self.cut[0]} x {self.cut[1]}")

    def read(self, path: Path) -> list[Line]:
        words = path.read_text(encoding="utf-8", errors="replace").split()
        if len(words) % 2:
            raise self.error(f"{path} must hold pairs of file names, image and labels, without spaces in them; found "
                             f"{len(words)} names")
        return [Line(*pair) for pair in zip(words[::2], words[1::2], strict=True)]

    def describe(self, position: int) -> str:
        lines = [self.line(item) for item in self.items(position)]
        return ", ".join(f"{self.p.root_folder}{line.image} (label {self.p.root_folder}{line.label})" for line in lines)

    def shapes(self) -> list[Shape]:
        channels, *size = self.pixels(self.line(0)).shape
        _, *size = self.transform.shape(channels, *(self.cut or size))
        return [(self.batch_size, channels, *size), (self.batch_size, 1, *size)]

    def load(self, position: int) -> Batch:
        data = label = None
        for i, item in enumerate(self.items(position)):
            line, random = self.line(item), self.generator(PIXELS, item)
            image, truth = self.pixels(line), read_label(self.path(line.label))
            truth = nearest(truth, *self.new) if self.new else truth
            if truth.shape != image.shape[1:]:
                raise self.error(f"image {line.image} is {list(image.shape[1:])} and its label {line.label} {list(truth.shape)}; "
                                 "they must be equal in size")
            if self.p.mirror and random.integers(2):
                image, truth = image[:, :, ::-1], truth[:, ::-1]
            if self.cut:
                image, truth = self.crop(line, image, truth, random)
            image = self.transform(image, random)
            if data is None:
                data = np.empty((self.batch_size, *image.shape), np.float32)
                label = np.empty((self.batch_size, 1, *truth.shape), np.float32)
            if image.shape != data.shape[1:]:
                raise self.odd_one_out(line, image.shape, data.shape[1:])
            data[i], label[i, 0] = image, truth
        return data, label

    def crop(
        self, line: Line, image: np.ndarray, truth: np.ndarray, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        room = [n - cut for n, cut in zip(truth.shape, self.cut, strict=True)]
        if min(room) < 0:
            raise self.error(f"image {line.image} is {list(truth.shape)}, smaller than the crop of {list(self.cut)}")
        top, left = (int(random.integers(n + 1)) for n in room)
        rows, columns = slice(top, top + self.cut[0]), slice(left, left + self.cut[1])
        return image[:, rows, columns], truth[rows, columns]
