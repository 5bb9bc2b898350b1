"""Segmentation data sets as they lie on disk: one reader, driven by the table `LAYOUTS`."""

import random
import struct
import zlib
from array import array
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from . import files
from .errors import Error, closest
from .ops.base import Shape
from .sources import Batch, Source


@dataclass(frozen=True)
class Layout:
    """Where a data set keeps its files, below its root, and its facts."""

    root: str  # the usual place, from the project's folder
    images: str  # patterns, with {split} and {name}
    labels: str
    lists: str
    mean: tuple[float, float, float]  # of the training images, BGR
    void: int  # the label of pixels that belong to no class
    facts: str  # the folder in data/ with README.md and classes.txt


_VOC = dict(
    images="JPEGImages/{name}.jpg",
    labels="SegmentationClass/{name}.png",
    lists="ImageSets/Segmentation/{split}.txt",
    void=255,
)

LAYOUTS = {
    # mean: the papers', of ILSVRC's images
    "voc": Layout("data/voc/VOC2012", mean=(104.00699, 116.66877, 122.67892), facts="voc", **_VOC),
    # means below: over all pixels of the train list (shapes: as prepare.py makes it without options)
    "shapes": Layout("data/shapes/images", mean=(117.842, 117.764, 117.324), facts="shapes", **_VOC),
    "camvid": Layout(
        "data/camvid/images",
        images="{split}/{name}.png",
        labels="{split}annot/{name}.png",
        lists="{split}.txt",
        mean=(110.331, 108.409, 105.033),
        void=11,
        facts="camvid",
    ),
}


class Facts(NamedTuple):
    """What is known of a data set."""

    names: tuple[str, ...]  # of the classes, in index order
    palette: np.ndarray  # their colours, uint8 (classes, 3)
    mean: tuple[float, float, float]  # BGR
    void: int


def facts(dataset: str) -> Facts:
    """The facts of a data set; names and colours come from data/NAME/classes.txt ("name r g b" a line)."""
    layout = _layout(dataset)
    path = _facts_folder(layout) / "classes.txt"
    names, colours = [], []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        name, *colour = line.rsplit(maxsplit=3)
        if len(colour) != 3 or not all(c.isdecimal() and int(c) < 256 for c in colour):
            raise Error(f"{path}:{number}: expected a name and three numbers from 0 to 255, found '{line}'")
        names.append(name)
        colours.append([int(c) for c in colour])
    return Facts(tuple(names), np.array(colours, np.uint8), layout.mean, layout.void)


def _layout(dataset: str) -> Layout:
    if dataset not in LAYOUTS:
        hint = closest(dataset, LAYOUTS)
        raise Error(f"data set '{dataset}' is not known{hint} (known: {', '.join(LAYOUTS)})")
    return LAYOUTS[dataset]


def _facts_folder(layout: Layout) -> Path:
    here = Path(__file__).resolve().parent
    places = [folder / "data" / layout.facts for folder in (here, here.parent)]  # installed; in the project
    for place in places:
        if (place / "classes.txt").is_file():
            return place
    raise Error(f"the facts of data set '{layout.facts}' are not there (tried {places[0]}, {places[1]})")


_NATURAL = {"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"}


# what Pillow raises for damaged files, by format and place of the damage
DAMAGE = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error,
           Image.DecompressionBombError)


def open_image(path: Path) -> Image.Image:
    """An image file, its header read; Error naming it if it is none."""
    try:
        return Image.open(path)
    except FileNotFoundError:
        raise Error(f"image {path} is not there") from None
    except UnidentifiedImageError:
        raise Error(f"{path} is no image of a kind that Pillow reads, or it is damaged") from None
    except DAMAGE as error:
        raise Error(f"image {path} cannot be read: {error}") from None


def read_image(path: Path, resize: float = 1.0) -> np.ndarray:
    """Pixels as stored (EXIF's turn is not applied), uint8 RGB (H, W, 3), resized by `resize`.

    Grey, palette, CMYK and transparent images are converted (transparency is dropped). Raises Error naming a
    file that cannot be read, or that has more than 8 bits a channel, which a conversion would clip.
    """
    image = open_image(path)
    if image.mode not in _NATURAL:
        raise Error(f"image {path} has pixels of kind {image.mode}, expected 8 bits a channel")
    try:
        image = image.convert("RGB") if image.mode != "RGB" else image
        if resize != 1:
            image = image.resize(resized(image.size, resize), Image.Resampling.BILINEAR)
        return np.asarray(image)
    except DAMAGE as error:
        raise Error(f"image {path} cannot be read: {error}") from None


def read_label(path: Path, resize: float = 1.0) -> np.ndarray:
    """The class indices (H, W), integers, of a grey or palette image; resized by `resize`, to the nearest.

    Raises Error naming a file that cannot be read, or that holds colours.
    """
    image = open_image(path)
    if len(image.getbands()) != 1 or image.mode == "F":
        raise Error(
            f"label {path} is in colours ({''.join(image.getbands())}); expected one channel of class "
            "indices, as a palette or grey PNG has: convert its colours to indices"
        )
    try:
        if resize != 1:
            image = image.resize(resized(image.size, resize), Image.Resampling.NEAREST)
        return np.asarray(image)
    except DAMAGE as error:
        raise Error(f"label {path} cannot be read: {error}") from None


def resized(size: tuple[int, int], resize: float) -> tuple[int, int]:
    return max(1, round(size[0] * resize)), max(1, round(size[1] * resize))


def check_labels(label: np.ndarray, classes: int, void: int | None = 255) -> str | None:
    """A sentence that counts the values of a label array that are no class; None if there are none.

    Classes are 0 .. classes - 1, and void (None: nothing is void).
    """
    values, counts = np.unique(np.asarray(label), return_counts=True)
    bad = ~((values >= 0) & (values < classes) & (values == np.floor(values)))
    if void is not None:
        bad &= values != void
    if not bad.any():
        return None
    worst = sorted(zip(-counts[bad], values[bad], strict=True))
    listed = ", ".join(f"{value:g} ({-count} times)" for count, value in worst[:5])
    ignored = f" and are not {void} (ignored)" if void is not None else ""
    more = ", ..." if len(worst) > 5 else ""
    return (f"{counts[bad].sum()} of {counts.sum()} label values are not whole numbers from 0 to "
            f"{classes - 1}{ignored}: {listed}{more}")


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _numbers(values: Any, count: int) -> bool:
    return len(values) == count and all(map(_number, values))


def _whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


class SegmentationData(Source):
    """Images and their labels. Tops: data (N, 3, H, W) BGR less the mean, label (N, 1, H, W), both float32.

    Random order draws images as the reference's data layers do: with replacement, random.seed(seed), then one
    randint an image. Otherwise images come in the order of the list, which starts again at its end. Images of
    one batch must be equal in size; batches may differ.
    """

    tops = 2
    OPTIONS = {
        "dataset": (f"one of {', '.join(LAYOUTS)}", lambda v: isinstance(v, str)),
        "split": ("the name of a list, such as 'train'", lambda v: isinstance(v, str)),
        "root": ("a folder", lambda v: isinstance(v, str)),
        "mean": ("three numbers, BGR", lambda v: isinstance(v, tuple | list) and _numbers(v, 3)),
        "seed": ("a whole number from 0", lambda v: _whole(v, 0)),
        "randomize": ("True or False", lambda v: isinstance(v, bool)),
        "batch_size": ("a whole number from 1", lambda v: _whole(v, 1)),
        "resize": ("a number above 0, at most 8", lambda v: _number(v) and 0 < v <= 8),
        "mirror": ("True or False", lambda v: isinstance(v, bool)),
    }

    def setup(self) -> None:
        given = self.options(self.OPTIONS)
        for key in ("dataset", "split"):
            if key not in given:
                raise self.error(f"param_str needs '{key}': {self.OPTIONS[key][0]}")
        self.dataset, self.split = given["dataset"], given["split"]
        try:
            self.layout = _layout(self.dataset)
        except Error as error:
            raise self.error(f"param_str: {error}") from None
        self.seed = given.get("seed", 1337)  # the seed of all the reference's nets
        self.randomize = given.get("randomize", "train" in self.split)
        self.batch_size = given.get("batch_size", 1)
        self.resize = given.get("resize", 1.0)
        self.mirror = given.get("mirror", False)
        self.mean = np.array(given.get("mean", self.layout.mean), np.float32)
        self.root = self._root(given.get("root", self.layout.root))
        self.names = self._names()
        self._draws = array("L")

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def facts(self) -> Facts:
        """Class names, colours, mean and void label of the data set."""
        return facts(self.dataset)

    def shapes(self) -> list[Shape]:
        path = self.paths(self.index(0))[0]
        width, height = resized(open_image(path).size, self.resize)
        return [(self.batch_size, 3, height, width), (self.batch_size, 1, height, width)]

    def index(self, item: int) -> int:
        """The place in the list of image number `item` of the run."""
        if not self.randomize:
            return item % len(self.names)
        if item >= len(self._draws):
            if not self._draws:
                self._random = random.Random(self.seed)
            while item >= len(self._draws):
                self._draws.append(self._random.randint(0, len(self.names) - 1))
        return self._draws[item]

    def paths(self, index: int) -> tuple[Path, Path]:
        """The image file and the label file of a place in the list."""
        patterns = (self.layout.images, self.layout.labels)
        name = self.names[index]
        return tuple(files.inside(self.root, p.format(split=self.split, name=name)) for p in patterns)

    def image_names(self, position: int) -> list[str]:
        """The names of a batch's images, as the list has them: stems for files about them."""
        return [self.names[self.index(item)] for item in self.items(position)]

    def name(self, position: int) -> str:
        """The name of a batch's first image, its only one unless batch_size is given."""
        return self.image_names(position)[0]

    def describe(self, position: int) -> str:
        pairs = [self.paths(self.index(item)) for item in self.items(position)]
        return ", ".join(f"{image} (label {label})" for image, label in pairs)

    def load(self, position: int) -> Batch:
        data = label = None
        for i, item in enumerate(self.items(position)):
            image_path, label_path = self.paths(self.index(item))
            image, truth = read_image(image_path, self.resize), read_label(label_path, self.resize)
            if image.shape[:2] != truth.shape:
                raise Error(f"image {image_path} is {_size(image)} and its label {label_path} is "
                            f"{_size(truth)}; they must be equal in size")
            if self.mirror and self.generator(item).random() < 0.5:
                image, truth = image[:, ::-1], truth[:, ::-1]
            if data is None:
                data = np.empty((self.batch_size, 3, *truth.shape), np.float32)
                label = np.empty((self.batch_size, 1, *truth.shape), np.float32)
                first = image_path
            elif data.shape[2:] != truth.shape:
                raise self.error(f"image {image_path} is {_size(image)} and {first} of the same batch is "
                                 f"{_size(data[0, 0])}; images of different size need batch_size 1")
            for c in range(3):
                np.subtract(image[:, :, 2 - c], self.mean[c], out=data[i, c])
            label[i, 0] = truth
        return data, label

    def _root(self, root: str) -> Path:
        try:
            return files.find(root, self.context.base, f"the folder of data set '{self.dataset}',")
        except Error as error:
            raise self.error(f"{error}; data/{self.layout.facts}/README.md says how to get it") from None

    def _names(self) -> list[str]:
        path = files.inside(self.root, self.layout.lists.format(split=self.split))
        if not path.is_file():
            lists = sorted(p.stem for p in path.parent.glob("*.txt"))
            has = f" (there are: {', '.join(lists)})" if lists else ""
            hint = closest(self.split, lists)
            raise self.error(f"split '{self.split}' has no list {path}{hint}{has}")
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        names = [self._name(line) for line in lines if line.strip()]
        if not names:
            raise self.error(f"the list {path} is empty")
        return names

    def _name(self, line: str) -> str:
        """The name of an image from a line of the list, which may give the image's path and more after it."""
        word = line.split()[0]
        suffix = Path(self.layout.images).suffix
        return word.rpartition("/")[2].removesuffix(suffix) if word.endswith(suffix) else word


def _size(pixels: np.ndarray) -> str:
    return f"{pixels.shape[1]}x{pixels.shape[0]}"
