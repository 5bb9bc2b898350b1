"""The source of segmentation data: one reader for all data sets, driven by the table in layouts.py."""

import random
from array import array
from collections.abc import Mapping
from contextlib import suppress
from functools import cache, cached_property
from typing import Any, NamedTuple

import numpy as np

from ..base.errors import Error, closest
from ..ops.base import Shape
from ..ops.python import ALIASES
from ..ops.settings import settings_of
from ..ops.source import Batch
from ..proto.caffe_pb2 import LayerParameter
from .images import resized, size, turn_cure
from .layouts import LAYOUTS, Facts, Images, Labels, facts
from .options import CHANCE, FOLDER, is_list, is_number, is_text, whole
from .pictured import Pictured
from .resizing import turned
from .sharded import Order, Sharded

# the FCN release's data layers: (module, class) -> the data set, and what their param_str calls the options
RELEASE = {
    ("voc_layers", "VOCSegDataLayer"): ("voc", {"voc_dir": "root"}),
    ("voc_layers", "SBDDSegDataLayer"): ("sbd", {"sbdd_dir": "root"}),
    ("nyud_layers", "NYUDSegDataLayer"): ("nyud", {"nyud_dir": "root"}),
    ("siftflow_layers", "SIFTFlowSegDataLayer"): ("siftflow", {"siftflow_dir": "root"}),
    ("pascalcontext_layers", "PASCALContextSegDataLayer"):
        ("pascalcontext", {"context_dir": "root", "voc_dir": "voc"}),
}


SHARDS = 1  # what a random generator is for, behind two other numbers


class Drawn(NamedTuple):
    """What chance does to an image."""

    flip: bool = False
    move: tuple[float, ...] = (0.5, 0.5)  # of what the jitter allows, down and right
    cut: tuple[float, ...] = (0.0, 0.0)  # of what is left beside the crop, above and to the left
    zoom: float = 1.0  # times its size
    angle: float = 0.0  # degrees, counterclockwise
    gain: float = 1.0  # times its pixels


class SegmentationData(Pictured):
    """Images and their labels, float32: data (N, C, H, W) less the mean, labels (N, 1, H, W).

    `tops` names them. Random order draws images as the reference's data layers do: with replacement,
    random.seed(seed), then one randint an image. Otherwise images come in the order of the list, which starts
    again at its end. Each image is resized and zoomed, turned, mirrored, moved by the jitter, cropped, in
    this order, and at last padded at its right and bottom to the largest of its batch. Where there is no
    image the data are 0, which is the mean, and the labels void. `brightness` is of the first top with
    images: its pixels are multiplied, and what is then above 255 is 255.
    """

    OPTIONS = Pictured.OPTIONS | {
        "dataset": (f"one of {', '.join(LAYOUTS)}, 'folder' or a data set file", is_text),
        "sbd": ("the folder of SBD, for splits that are derived from it", is_text),
        "38cloud": ("the folder of 38-Cloud, for what 95-Cloud adds to it", is_text),
        "voc": ("the folder of the VOC year that has the images", is_text),
        "tops": ("a list of names", lambda v: is_list(v, is_text)),
        "order": ("'python2' or 'python3', whose randint draws", lambda v: v in ("python2", "python3")),
        "resize": ("a number above 0, at most 8", lambda v: is_number(v) and 0 < v <= 8),
        "jitter": whole(0),
    } | FOLDER | CHANCE

    def setup(self) -> None:
        given = self._given()
        self.open(given)
        self.seed = given.get("seed", 1337)  # the seed of all the reference's nets
        self.randomize = given.get("randomize", "train" in self.split)
        self.python2 = given.get("order") == "python2"
        self.batch_size = given.get("batch_size", 1)
        self.resize = given.get("resize", 1.0)
        self.mirror, self.jitter = given.get("mirror", False), given.get("jitter", 0)
        self.crop, self.rotate = given.get("crop"), (*given.get("rotate", (0.0, 0.0)), 1.0)[:3]
        self.zoom = (*given.get("zoom", (1.0, 1.0)), 1.0)[:3]
        self.brightness = given.get("brightness", 0.0)
        self.tops_read = tuple(given.get("tops", self.layout.usual(self.split)))
        self._check_tops(given)
        self._draws = array("L")
        self._order: Order | None = None
        if isinstance(self.tree, Sharded):
            drawn = (lambda epoch, shard: self.generator(epoch, shard, SHARDS)) if self.randomize else None
            counts = [len(shard) for shard in self.tree.shards(self.split).values()]
            self._order = Order(counts, self.batch_size, drawn)

    def _given(self) -> dict[str, Any]:
        """param_str; that of the release's layers in this one's words."""
        named = self.layer.python_param
        dataset, words = RELEASE.get((named.module, named.layer), ("", {}))
        given = self.options(self.OPTIONS | {word: self.OPTIONS["root"] for word in words})
        if not dataset:
            return given
        given = {words.get(key, key): value for key, value in given.items()}
        if "voc" in given:
            given["voc"] += "/VOC2010"
        drawn = given.get("randomize", True) and "train" in given.get("split", "")
        return {"dataset": dataset, "order": "python2"} | given | {"randomize": drawn}

    def _check_tops(self, given: Mapping[str, Any]) -> None:
        known = self.layout.tops
        for name in self.tops_read:
            if name not in known:
                raise self.error(f"param_str: data set '{self.dataset}' has no top '{name}'"
                                 f"{closest(name, known)} (it has: {', '.join(known)})")
        self.kinds = [known[name] for name in self.tops_read]
        if self.split in self.layout.blind and any(isinstance(kind, Labels) for kind in self.kinds):
            raise self.error(f"split '{self.split}' of data set '{self.dataset}' has no labels image by "
                             "image, but truth by the scene: give the layer the top 'data' alone, and "
                             "'netspec score' puts the scenes together")
        if len(self.kinds) != len(self.layer.top):
            raise self.error(f"reads {len(self.kinds)} tops, {', '.join(self.tops_read)}, and has "
                             f"{len(self.layer.top)}; 'tops' in param_str chooses")
        self.means = [np.array(getattr(kind, "mean", ()), np.float32) for kind in self.kinds]
        self._image = next((i for i, kind in enumerate(self.kinds) if isinstance(kind, Images)), 0)
        if self.brightness and getattr(self.kinds[self._image], "log", False):
            raise self.error("param_str: 'brightness' is for photographs, and "
                             f"'{self.tops_read[self._image]}' has logarithms")
        mean = given.get("mean", self.mean)
        if len(mean) != len(self.mean):
            raise self.error(f"param_str: 'mean' takes {len(self.mean)} numbers, BGR, found {mean!r}")
        self.means[self._image] = np.array(mean, np.float32)

    @property
    def mean(self) -> np.ndarray:
        """What is subtracted from the first top with images, float32, channel by channel as fed."""
        return self.means[self._image]

    @property
    def pictures(self) -> tuple:
        """What images it gives, and how large.

        Predictions of nets for which this is equal can stand side by side.
        """
        return self.root, self.resize, *self.names

    @cached_property
    def facts(self) -> Facts:
        """Class names, colours, mean and void label of the data set."""
        return facts(self.layout, next(iter(self.labels), None))

    def meant(self, label: np.ndarray) -> str:
        """The end of a sentence about numbers in a label of one's own that are no class: how to say what they
        mean."""
        known, numbers = self.facts, set(np.unique(label).tolist())
        strange = sorted(numbers - {*range(len(known.names)), known.void})
        if self.layout.facts or not strange:
            return ""
        line = self.tree.option("values", f"{{{int(strange[0])}: CLASS}}")
        return f"; what numbers in the files mean: add {line} with the class's number"

    @classmethod
    def stated(cls, layer: LayerParameter, size: tuple[int, int] | None = None) -> list[Shape]:
        """Of patches of scenes, whose size and bands the data set says; of other images nothing."""
        given: dict[str, Any] = {}
        with suppress(Error):  # a param_str that cannot be read says nothing
            given = {key: value for key, value in (settings_of(layer) or {}).items()
                     if key in cls.OPTIONS and cls.OPTIONS[key][1](value)}
        found = LAYOUTS.get(given.get("dataset", ""))
        if not found or not found.patches:
            return []
        side = resized((found.patches, found.patches), given.get("resize", 1.0))
        kinds = (found.tops.get(top) for top in given.get("tops", found.usual(given.get("split", ""))))
        return [(given.get("batch_size", 1), len(kind.mean) if isinstance(kind, Images) else 1,
                 *(size or given.get("crop", side))) for kind in kinds]

    def shapes(self) -> list[Shape]:
        # `solve --skip-bad` goes past a first batch that cannot be read, too
        for position in range(min(10, len(self))):
            with suppress(Error, OSError):
                return [blob.shape for blob in self.load(position)]
        whole = (i for i, (tree, split, name) in enumerate(self.entries)
                 if not any(tree.lacking(top, split, name) for top in self.tops_read))
        if self.layout.patches and (place := next(whole, None)) is not None:  # scored though some are missing
            size = self.crop or self.read(place)[0].shape[:2]
            return [(self.batch_size, len(mean) or 1, *size) for mean in self.means]
        first = self.paths(self.index(0))[0]
        if self.layout.facts and not first.exists():
            raise self.error(f"image {first} is not there{self.cure('image', len(self))}")
        return [blob.shape for blob in self.load(0)]

    def index(self, item: int) -> int:
        """The place in the list of image number `item` of the run."""
        if self.places:
            return self.places[item % len(self.places)]
        if self._order:
            return self._order.index(item)
        count = len(self.names)
        if not self.randomize:
            return item % count
        if not self._draws:
            self._random = random.Random(self.seed)
        while item >= len(self._draws):
            drawn = int(self._random.random() * count) if self.python2 else self._random.randint(0, count - 1)
            self._draws.append(drawn)
        return self._draws[item]

    def image_names(self, position: int) -> list[str]:
        """The names of a batch's images, as the list has them: stems for files about them."""
        return [self.names[self.index(item)] for item in self.items(position)]

    def remarks(self) -> list[str]:
        return self.tree.remarks(self.split) if isinstance(self.tree, Sharded) else []

    def describe(self, position: int) -> str:
        return ", ".join(map(self._describe, map(self.index, self.items(position))))

    def _describe(self, index: int) -> str:
        tree, split, name = self.entries[index]
        labels = ", ".join(str(tree.files(top, split, name)[0]) for top in self.labels)
        return f"{self.paths(index)[0]} (label {labels})"

    def read(self, index: int, zoom: float = 1.0) -> list[np.ndarray]:
        """The tops of a place in the list, only resized: labels (H, W), pixels (H, W, C) as stored (RGB)."""
        tree, split, name = self.entries[index]
        for fault in (fault for top in self.tops_read for _, fault in tree.faults(top, split, name)):
            raise Error(fault)
        found = [tree.read(top, split, name, self.resize * zoom) for top in self.tops_read]
        for top, pixels in zip(self.tops_read, found, strict=True):
            if pixels.shape[:2] != found[0].shape[:2]:
                paths = [tree.files(t, split, name)[0] for t in (self.tops_read[0], top)]
                what = "label" if pixels.ndim == 2 else f"'{top}'"
                raise Error(f"image {paths[0]} is {size(found[0])} and its {what} {paths[1]} is "
                            f"{size(pixels)}; they must be equal in size"
                            f"{turn_cure(paths[0], found[0].shape, pixels.shape)}")
        return found

    def load(self, position: int) -> Batch:
        drawn, read = {item: self._draw(item) for item in self.items(position)}, cache(self.read)
        images = [read(self.index(item), chance.zoom) for item, chance in drawn.items()]
        height, width = self.crop or np.max([tops[0].shape[:2] for tops in images], 0).tolist()
        shapes = [(len(images), len(mean) or 1, height, width) for mean in self.means]
        batch = tuple(np.empty(shape, np.float32) for shape in shapes)
        for n, (chance, tops) in enumerate(zip(drawn.values(), images, strict=True)):
            rows, columns = self._place(chance, tops[0].shape[:2], (height, width))
            full = rows[0] == slice(0, height) and columns[0] == slice(0, width)
            for t, (kind, mean, pixels) in enumerate(zip(self.kinds, self.means, tops, strict=True)):
                out = batch[t][n]
                if not full:
                    void = getattr(kind, "void", 0)
                    if void is None:
                        raise self.error("images of different size, zoom, jitter and a large crop leave "
                                         f"pixels without a label, and data set '{self.dataset}' has no void")
                    out[:] = void
                if chance.angle:
                    pixels = turned(pixels, chance.angle, isinstance(kind, Labels))
                pixels = (pixels[:, ::-1] if chance.flip else pixels)[rows[1], columns[1]]
                if isinstance(kind, Labels):
                    out[0, rows[0], columns[0]] = pixels
                    continue
                if t == self._image and chance.gain != 1:
                    pixels = np.minimum(pixels * np.float32(chance.gain), 255)
                for c, channel in enumerate(kind.order or range(len(mean))):
                    np.subtract(pixels[:, :, channel], mean[c], out=out[c, rows[0], columns[0]])
        return batch

    def _draw(self, item: int) -> Drawn:
        """What chance does to an image of the run."""
        least, most, often = self.zoom
        low, high, turns = self.rotate
        asked = self.mirror, self.jitter, self.crop, self.brightness, (least, most) != (1, 1), high
        if not any(asked):
            return Drawn()
        # all are drawn whatever is asked for, so that one option does not change what another does
        flip, *chances = self.generator(item).random(12)
        zoom = least * (most / least) ** chances[4] if chances[6] < often else 1.0
        left, right = (low + (high - low) * by if chance < turns else 0.0
                       for chance, by in (chances[7:9], chances[9:]))
        return Drawn(self.mirror and flip < 0.5, tuple(chances[:2]), tuple(chances[2:4]), zoom, left - right,
                     1 + self.brightness * (2 * chances[5] - 1))

    def _place(self, drawn: Drawn, have: Shape, want: Shape) -> list[tuple[slice, slice]]:
        """By axis the (target, source) slices of what is seen of an image."""
        slices = []
        for have_n, want_n, move, cut in zip(have, want, drawn.move, drawn.cut, strict=True):
            start = int(move * (2 * self.jitter + 1)) - self.jitter
            start -= int(cut * (max(have_n - want_n, 0) + 1)) if self.crop else 0
            first, last = max(start, 0), max(min(want_n, start + have_n), 0)
            last = max(first, last)
            slices.append((slice(first, last), slice(first - start, last - start)))
        return slices


ALIASES.update(dict.fromkeys([*RELEASE, ("netspec.datasets", "SegmentationData")], SegmentationData))
