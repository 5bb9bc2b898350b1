"""The source of detection data: scaled images and the boxes of the objects in them."""

from contextlib import suppress
from functools import cached_property
from typing import Any

import numpy as np

from ..base.errors import Error
from ..ops.base import Shape
from ..ops.python import ALIASES
from ..ops.source import Batch
from . import boxes, layouts
from .boxes import Boxes, Record, clipped
from .images import read_image, scaled, size, turn_cure
from .layouts import FLAG, FOLDER, Facts
from .pictured import Pictured
from .tree import Tree

TOPS = "data", "im_info", "gt_boxes"
SHUFFLED, GROUP = 3, 2  # the release's seed; how many images of one kind follow each other, tall or wide


class DetectionData(Pictured):
    """Images with boxes, as R-FCN's training reads them, float32, one image a batch.

    data (1, 3, H, W): BGR less the mean, scaled so that the shorter side is `scale` and the longer one at
    most `max_size`. im_info (1, 3): height, width, scale. gt_boxes (G, 5): x1 y1 x2 y2 class, in pixels of
    the scaled image, both ends included; without difficult boxes (unless `difficult`) and crowds.

    Where `randomize` is True (the default in training), images come in an order drawn anew for each epoch,
    and with `flips` an epoch has each a second time, mirrored. `aspect_grouping` lets wide images follow wide
    ones, and tall ones tall ones, in pairs. Images without a box are left out, as by the release, and
    `remarks` says how many. Otherwise images come in the order of their list.
    """

    OPTIONS = Pictured.OPTIONS | {
        "scale": ("a whole number of pixels, at least 1", lambda v: type(v) is int and v >= 1),
        "max_size": layouts.whole(1),
        "flips": FLAG,
        "aspect_grouping": FLAG,
        "difficult": FLAG,
    } | {key: FOLDER[key] for key in ("images", "boxes", "lists", "classes", "mean")}
    truth = "box file", "boxes"

    def setup(self) -> None:
        given = self._given()
        self.open(given, boxes.layout)
        self.tops_read = ("data", "boxes")
        self.seed = given.get("seed", SHUFFLED)
        self.randomize = given.get("randomize", self.context.training)
        self.flips = given.get("flips", self.randomize)
        self.grouped = given.get("aspect_grouping", True)
        self.scale, self.max_size = given.get("scale", 600), given.get("max_size", 1000)
        self.difficult = given.get("difficult", False)
        self.mean = np.array(given.get("mean", self.facts.mean), np.float32)
        if len(self.mean) != 3:
            raise self.error(f"param_str: 'mean' takes 3 numbers, BGR, found {given['mean']!r}")
        if given.get("batch_size", 1) != 1:
            raise self.error("param_str: 'batch_size' is 1 for tops with boxes; the solver's iter_size takes "
                             "more")
        if len(self.layer.top) != len(TOPS):
            raise self.error(f"has the tops {', '.join(TOPS)}, found {len(self.layer.top)}")
        self._records: dict[int, Record] = {}
        self._orders: dict[int, np.ndarray] = {}

    def _given(self) -> dict[str, Any]:
        return self.options(self.OPTIONS)

    def list_entries(self, given: str | None) -> list[tuple[Tree, str, str]]:
        self.boxes = Boxes(self.tree)
        return self.boxes.entries(self.split, given)

    @cached_property
    def facts(self) -> Facts:
        """Class names, colours and mean of the data set."""
        return layouts.facts(self.tree.layout, "boxes")

    def record(self, index: int) -> Record:
        """The boxes of a place in the list. Raises Error naming the file that cannot be read."""
        if index not in self._records:
            self._records[index] = self.boxes.read(*self.entries[index])
        return self._records[index]

    def learned(self, record: Record) -> np.ndarray:
        """Which of its boxes are truth in training, bool (K,)."""
        return ~record.crowd & (self.difficult | ~record.difficult)

    @cached_property
    def drawn(self) -> list[int]:
        """The places in the list that are read: in training those with a box."""
        found = [i for i in range(len(self)) if not self.randomize or self.learned(self.record(i)).any()]
        if not found:
            raise self.error(f"none of the {len(self)} images of '{self.split}' has a box to learn from")
        return found

    def remarks(self) -> list[str]:
        left = len(self) - len(self.drawn)
        return [f"layer '{self.layer.name}': {left} of {len(self)} images of '{self.split}' have no box to "
                "learn from and are left out of training"] if left else []

    def index(self, item: int) -> tuple[int, bool]:
        """The place in the list of image number `item` of the run, and whether it is mirrored."""
        if not self.randomize:
            return self.drawn[item % len(self.drawn)], False
        many = len(self.drawn) * (1 + self.flips)
        epoch, at = divmod(item, many)
        if epoch not in self._orders:
            self._orders = {epoch: self._order(epoch, many)}
        flipped, place = divmod(int(self._orders[epoch][at]), len(self.drawn))
        return self.drawn[place], bool(flipped)

    def _order(self, epoch: int, many: int) -> np.ndarray:
        """The order of an epoch, int64 (many,): the first is the release's for the seed."""
        random = np.random.RandomState([self.seed, epoch] if epoch else self.seed)
        if not self.grouped:
            return random.permutation(many)
        sizes = np.array([self.record(index).size for index in self.drawn])
        wide = np.tile(sizes[:, 0] >= sizes[:, 1], 1 + self.flips)
        order = np.hstack([random.permutation(np.flatnonzero(kind)) for kind in (wide, ~wide)])
        whole = many - many % GROUP
        pairs = order[:whole].reshape(-1, GROUP)
        return np.hstack([random.permutation(pairs).reshape(-1), order[whole:]])

    def shapes(self) -> list[Shape]:
        for position in range(min(10, len(self))):  # `solve --skip-bad` goes past the first ones, too
            with suppress(Error, OSError):
                return [blob.shape for blob in self.load(position)]
        return [blob.shape for blob in self.load(0)]

    def image_names(self, position: int) -> list[str]:
        return [self.names[self.index(item)[0]] for item in self.items(position)]

    def describe(self, position: int) -> str:
        image, truth = self.paths(self.index(position)[0])
        return f"{image} (boxes {truth})"

    def load(self, position: int) -> Batch:
        index, flipped = self.index(position)
        record = self.record(index)
        pixels = self.read(record)
        found = self.truth_of(record)
        if flipped:
            pixels = pixels[:, ::-1]
            found[:, [0, 2]] = record.size[0] - 1 - found[:, [2, 0]]
        data, factor = scaled(pixels[:, :, ::-1] - self.mean, self.scale, self.max_size)
        found[:, :4] *= factor
        info = np.array([[*data.shape[1:], factor]], np.float32)
        return data[None], info, found

    def read(self, record: Record) -> np.ndarray:
        """The pixels of an image, uint8 RGB (H, W, 3); Error if they are of another size than its boxes'."""
        pixels = read_image(record.path)
        width, height = record.size
        if pixels.shape[:2] != (height, width):
            raise Error(f"image {record.path} is {size(pixels)}, and by {record.source} {width}x{height}; "
                        "boxes are read in pixels of the image"
                        f"{turn_cure(record.path, pixels.shape, (height, width))}")
        return pixels

    def truth_of(self, record: Record) -> np.ndarray:
        """The boxes to learn from, float32 (G, 5): x1 y1 x2 y2 class, cut at the border of the image."""
        kept = self.learned(record)
        found = clipped(record.boxes[kept], record.size)
        out = (found[:, :2] > found[:, 2:]).any(1)
        if out.any():
            shown = " ".join(f"{value:g}" for value in record.boxes[kept][out][0])
            raise Error(f"{record.source}: the box {shown} (counted from 0) of '{record.name}' lies outside "
                        f"the image of {record.size[0]}x{record.size[1]} pixels")
        return np.hstack([found, record.classes[kept, None]]).astype(np.float32)


ALIASES["netspec.datasets", "DetectionData"] = DetectionData
