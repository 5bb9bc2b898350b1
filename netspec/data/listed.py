"""Sources that read lists: their base, and those of image files, ImageData and SegNet's DenseImageData."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ..base.errors import Error
from ..base.files import find, lacking
from ..ops.base import Shape
from ..ops.source import Batch, Source
from ..proto.caffe_pb2 import LayerParameter
from ..proto.text import read_lines
from ..proto.types import own_fields
from .images import decode, open_image, read_label
from .opencv import nearest, resize
from .transform import Transform

ORDER, PIXELS, SKIP = range(3)  # what a random generator is for


class Listed(Source):
    """A source whose items stand in a list, or a database, in an order that starts again at its end.

    rand_skip leaves out a random number, less than it, of items at the start of the run.
    """

    what: ClassVar[str] = "source"  # the list, in errors
    unequal: ClassVar[str] = "a crop_size or batch_size 1"  # what images of different size need

    def setup(self) -> None:
        """Read the settings that the parameter messages have in common."""
        self.p: Any = self.message(self.layer)
        if self.p.batch_size < 1:
            raise self.error(f"{own_fields(self.type)[0]} needs a batch_size of at least 1")
        self.batch_size = self.p.batch_size
        try:
            self.source = find(self.p.source, self.context.base, self.what)
        except Error as error:
            raise self.error(str(error)) from None

    def text(self) -> Iterator[str]:
        """The lines of the list. Raises Error for what is none."""
        try:
            yield from read_lines(self.source, self.what)
        except Error as error:
            raise self.error(str(error)) from None

    @classmethod
    def message(cls, layer: LayerParameter) -> Any:
        """The parameter message with what all have in common."""
        return getattr(layer, own_fields(cls.type)[0])

    @classmethod
    def stated(cls, layer: LayerParameter, size: tuple[int, int] | None = None) -> list[Shape]:
        p = cls.message(layer)
        crop = layer.transform_param.crop_size or getattr(p, "crop_size", 0)  # of C3D's videos
        channels = 1 if not getattr(p, "is_color", True) or layer.transform_param.force_gray else 0
        own = (crop, crop) if crop else (getattr(p, "new_height", 0), getattr(p, "new_width", 0))
        for resized in () if crop else layer.transform_param.resize_param[:1]:
            own = resized.height, resized.width
        high, wide = size or own
        return [(p.batch_size or 1, channels, high, wide), (p.batch_size or 1,)] if high and wide else []

    def check_skip(self, count: int, what: str) -> None:
        """Error if rand_skip leaves out more than there is."""
        if self.p.rand_skip > count:
            raise self.error(f"rand_skip {self.p.rand_skip} is more than the {count} {what} of {self.source}")

    def skipped(self, item: int) -> int:
        """The number of an item if those count too that rand_skip leaves out."""
        return item + int(self.generator(SKIP).integers(self.p.rand_skip)) if self.p.rand_skip else item

    def order(self, count: int, *numbers: int) -> np.ndarray:
        """The list's order of so many items; with `shuffle` a random one, which the numbers decide."""
        return _permutation(count, self.seed, *numbers) if self.p.shuffle else np.arange(count)

    def path(self, name: str) -> Path:
        """An image that the list names."""
        return find(self.p.root_folder + name, self.source.parent, f"{self.source}: image")

    def image(self, item: int) -> tuple[str, np.ndarray, Any]:
        """What image number `item` of the run is called, its pixels as they are fed, (C, H, W), its label."""
        raise NotImplementedError

    def load(self, position: int) -> Batch:
        labels = []
        for i, item in enumerate(self.items(position)):
            name, image, label = self.image(item)
            if i == 0:
                data = np.empty((self.batch_size, *image.shape), np.float32)
            if image.shape != data.shape[1:]:
                raise self.error(f"{name} gives {list(image.shape)}, the first of its batch "
                                 f"{list(data.shape[1:])}; images of different size need {self.unequal}")
            data[i] = image
            labels.append(label)
        return data, np.array(labels, np.float32)


@lru_cache(16)
def _permutation(count: int, *seed: int) -> np.ndarray:
    return np.random.default_rng(seed).permutation(count)


class Line(NamedTuple):
    """A line of a list: the image, and its label or the file with its labels."""

    image: str
    label: Any


def labelled(lines: Iterable[str], path: Path, error: Callable[[str], Error] = Error) -> list[Line]:
    """Lines of a file name and a number; a blank one has no name. Raises an error for any other."""
    found = []
    for number, line in enumerate(lines, 1):
        name, _, label = line.rstrip().rpartition(" ")
        if not name:  # Caffe reads a name alone as label 0
            name, label = label, "0"
        if not re.fullmatch(r"[+-]?\d{1,10}", label) or not -1 << 31 <= int(label) < 1 << 31:
            raise error(f"{path}:{number}: expected a file name, a space and a whole number, found '{line}'")
        found.append(Line(name, int(label)))
    return found


class ListedImages(Listed, tops=2):
    """Images of a list, in its order; `shuffle` makes a new order for each epoch.

    File names are appended to root_folder as they are; relative ones start from the current folder or the
    list's, or one above it.
    """

    unequal = "new_height and new_width, a crop_size, or batch_size 1"

    def read(self, path: Path) -> list[Line]:
        raise NotImplementedError

    def setup(self) -> None:
        super().setup()
        self.new = self.both("new_height", "new_width")
        self.lines = self.read(self.source)
        if not self.lines:
            raise self.error(f"source {self.source} lists no image")
        self.check_skip(len(self.lines), "images")
        self.transform = Transform(self)

    def gone(self) -> Iterator[tuple[str, str]]:
        labels = [str(line.label) for line in self.lines if isinstance(line.label, str)]
        for what, names in (("image", [line.image for line in self.lines]), ("label", labels)):
            for name in lacking((self.p.root_folder + each for each in names), self.source.parent):
                yield what, name

    def cure(self, what: str, many: int) -> str:
        return f"; {self.source} names them, after root_folder '{self.p.root_folder}'"

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
        epoch, place = divmod(self.skipped(item), len(self.lines))
        return self.lines[self.order(len(self.lines), ORDER, epoch)[place] if self.p.shuffle else place]

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


class ImageData(ListedImages, type="ImageData", one_label=True):
    """Tops: data (N, C, H, W), BGR or grey (is_color: false), and label (N).

    A list line is a file name and a number.
    """

    def read(self, path: Path) -> list[Line]:
        return [line for line in labelled(self.text(), path, self.error) if line.image.strip()]

    def shapes(self) -> list[Shape]:
        first = self.transform.shape(*self.pixels(self.line(0)).shape)
        return [(self.batch_size, *first), (self.batch_size,)]

    def image(self, item: int) -> tuple[str, np.ndarray, int]:
        line = self.line(item)
        pixels = self.transform(self.pixels(line), self.generator(PIXELS, item))
        return f"image {line.image}", pixels, line.label


class Paired(ListedImages):
    """Images of a list that has the files of their labels beside them."""

    def read(self, path: Path) -> list[Line]:
        words = [word for line in self.text() for word in line.split()]
        if len(words) % 2:
            raise self.error(f"{path} must hold pairs of file names, image and labels, without spaces in "
                             f"them; found {len(words)} names")
        return [Line(*pair) for pair in zip(words[::2], words[1::2], strict=True)]

    def describe(self, position: int) -> str:
        folder, lines = self.p.root_folder, [self.line(item) for item in self.items(position)]
        return ", ".join(f"{folder}{line.image} (label {folder}{line.label})" for line in lines)


class DenseImageData(Paired, type="DenseImageData"):
    """Tops: data (N, C, H, W) and label (N, 1, H, W).

    A list line is the file names of an image and its labels: grey or palette images of class indices (of a
    palette the index counts, not its grey value), which are resized to the nearest. crop_height x crop_width
    and mirror, random in both phases, apply to both alike. Labels are smaller than images by
    label_divide_factor (ENet's), which rounds down and goes with no crop.
    """

    def setup(self) -> None:
        super().setup()
        if self.layer.transform_param.mirror or self.layer.transform_param.crop_size:
            raise self.error("transform_param cannot mirror or crop the labels; use mirror, crop_height and "
                             "crop_width of dense_image_data_param")
        if self.p.mean_file:
            raise self.error("mean_file has no effect in dense_image_data_param; "
                             "move it into transform_param")
        self.cut = self.both("crop_height", "crop_width")
        factor = self.p.label_divide_factor
        if not 1 <= factor <= min(self.new or (factor,)) or self.cut and factor > 1:
            raise self.error(f"label_divide_factor must be from 1 to new_height and new_width, and 1 with a "
                             f"crop, found {factor}")
        mean = self.transform.whole_mean
        if self.cut and mean is not None and mean.shape[1:] != self.cut:
            raise self.error("the mean_file is subtracted after the crop, so it must be "
                             f"{self.cut[0]} x {self.cut[1]}")

    def shapes(self) -> list[Shape]:
        channels, *size = self.pixels(self.line(0)).shape
        _, *size = self.transform.shape(channels, *(self.cut or size))
        return [(self.batch_size, channels, *size), (self.batch_size, 1, *self.divided(size))]

    @classmethod
    def stated(cls, layer: LayerParameter, size: tuple[int, int] | None = None) -> list[Shape]:
        p = layer.dense_image_data_param
        cut = (p.crop_height, p.crop_width) if p.crop_height and p.crop_width else None
        if not (known := super().stated(layer, size or cut)):
            return []
        data = known[0]
        return [data, (data[0], 1, *(n // p.label_divide_factor for n in data[2:]))]

    def divided(self, size: Sequence[int]) -> Shape:
        """The size of the labels of an image."""
        return tuple(n // self.p.label_divide_factor for n in size)

    def image(self, item: int) -> tuple[str, np.ndarray, np.ndarray]:
        line, random = self.line(item), self.generator(PIXELS, item)
        image, label = self.pixels(line), read_label(self.path(line.label))
        label = nearest(label, *self.divided(self.new)) if self.new else label
        if label.shape != (divided := self.divided(image.shape[1:])):
            must = "they must be equal in size"
            if self.p.label_divide_factor > 1:
                must = f"the label must have {list(divided)}, by label_divide_factor"
            raise self.error(f"image {line.image} is {list(image.shape[1:])} and its label {line.label} "
                             f"{list(label.shape)}; {must}")
        if self.p.mirror and random.integers(2):
            image, label = image[:, :, ::-1], label[:, ::-1]
        if self.cut:
            room = [n - cut for n, cut in zip(label.shape, self.cut, strict=True)]
            if min(room) < 0:
                raise self.error(f"image {line.image} is {list(label.shape)}, smaller than the crop of "
                                 f"{list(self.cut)}")
            top, left = (int(random.integers(n + 1)) for n in room)
            part = np.s_[..., top : top + self.cut[0], left : left + self.cut[1]]
            image, label = image[part], label[part]
        return f"image {line.image}", self.transform(image, random), label[None]
