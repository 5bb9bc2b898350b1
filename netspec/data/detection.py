"""The source of detection data: scaled images and the boxes of the objects in them."""

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..base import files
from ..base.errors import Error
from ..ops.base import Shape
from ..ops.proposals import SEED, ProposalTarget
from ..ops.python import ALIASES
from ..ops.settings import completed, settings_of
from ..ops.source import Batch
from ..proto.caffe_pb2 import LayerParameter
from . import boxes, layouts, options, proposals
from .boxes import Box, Boxes, Record, clipped
from .images import read_image, size, turn_cure
from .layouts import Facts, Layout
from .opencv import scaled
from .options import FLAG, FOLDER
from .pictured import Pictured
from .tree import Tree

SCALE, MAX_SIZE, MOST = 600, 1000, 300  # sides of images in pixels, and proposals of one
SHUFFLED, GROUP = 3, 2  # the release's seed; how many images of one kind follow each other, tall or wide
SAMPLED = "rois", "labels", "bbox_targets", "bbox_inside_weights", "bbox_outside_weights"
TOPS = {3: ("data", "im_info", "gt_boxes"), 4: ("data", "im_info", "gt_boxes", "rois"), 6: ("data", *SAMPLED)}
# the release's layer, with what its nets read it with
RELEASE = "roi_data_layer.layer", "RoIDataLayer"
RELEASED = {21: {"dataset": "voc", "split": "trainval"}, 81: {"dataset": "coco", "split": "train2014"}}
PROPOSALS = {"proposals": "rpn.proposals"}
OF_REGIONS = {key: (words, check) for key, (_, words, check) in ProposalTarget.SETTINGS.items()
              if key not in ("num_classes", "seed")}


class DetectionData(Pictured):
    """Images with boxes, as R-FCN's training reads them, float32, one image a batch.

    Its tops are 3: data (1, 3, H, W), BGR less the mean, scaled so that the shorter side is `scale` and the
    longer one at most `max_size`; im_info (1, 3): height, width, scale; gt_boxes (G, 5): x1 y1 x2 y2 class,
    in pixels of the scaled image, both ends included, without difficult boxes (or `difficult`) and crowds.
    Or 4: with them rois (R, 5): 0 and the boxes that the file `proposals` has of the image. Or, as the
    release's layer has them without an RPN, 6: data and what ProposalTarget makes of the proposals and boxes,
    whose settings are then taken too.

    Where `randomize` is True (the default in training), images come in an order drawn anew for each epoch,
    and with `flips` an epoch has each a second time, mirrored. `aspect_grouping` lets wide images follow wide
    ones, and tall ones tall ones, in pairs. Images without a box are left out, as by the release, and
    `remarks` says how many. Otherwise images come in the order of their list.
    """

    OPTIONS = {key: value for key, value in Pictured.OPTIONS.items() if key != "batch_size"} | {
        "voc2012": ("the folder of VOC 2012, for splits of both years", options.is_text),
        "scale": ("a whole number of pixels, at least 1", lambda v: type(v) is int and v >= 1),
        "max_size": options.whole(1),
        "flips": FLAG,
        "aspect_grouping": FLAG,
        "difficult": FLAG,
        "proposals": ("a file of proposals", options.is_text),
        "proposer": ("the net that makes the proposals", options.is_text),
        "num_classes": options.whole(2),
        "seed": SEED[1:],
    } | {key: FOLDER[key] for key in ("images", "boxes", "lists", "classes", "mean")}
    truth = "box file", "boxes"

    @staticmethod
    def layout_of(dataset: str, own: dict[str, Any] | None = None) -> Layout:
        return boxes.layout(dataset, own)

    @classmethod
    def usual_tops(cls, dataset: str, split: str = "") -> Sequence[str]:
        return TOPS[3]

    def setup(self) -> None:
        given, count = self._given(), len(self.layer.top)
        if count not in TOPS:
            told = "; or ".join(", ".join(names) for names in TOPS.values())
            raise self.error(f"has {count} tops, expected {told}")
        self.open(given)
        self.tops_read = ("data", "boxes")
        self.seed = given.get("seed", SHUFFLED)
        self.randomize = given.get("randomize", self.context.training)
        self.flips = given.get("flips", self.randomize)
        self.grouped = given.get("aspect_grouping", True)
        self.scale, self.max_size = given.get("scale", SCALE), given.get("max_size", MAX_SIZE)
        self.difficult = given.get("difficult", False)
        self.mean = np.array(given.get("mean", self.facts.mean), np.float32)
        if len(self.mean) != 3:
            raise self.error(f"param_str: 'mean' takes 3 numbers, BGR, found {given['mean']!r}")
        classes = len(self.facts.names)
        if given.get("num_classes", classes) != classes:
            raise self.error(f"param_str: 'num_classes' is {given['num_classes']}, and data set "
                             f"'{self.dataset}' has {classes} with the background")
        self._records: dict[int, Record] = {}
        self._orders: dict[int, np.ndarray] = {}
        self.place, self.proposer = given.get("proposals", ""), given.get("proposer", "")
        self._proposals = self._read_proposals(given, count)
        self._targets = self._sampling(given, classes) if count == 6 else None
        if self._targets:
            self.normalized = {top + 1: scale for top, scale in self._targets.normalized.items()}

    def _given(self) -> dict[str, Any]:
        """param_str; of the release's layer with what was beside its nets."""
        six = len(self.layer.top) == 6
        given = self.options(self.OPTIONS | (OF_REGIONS if six else {}))
        named = self.layer.python_param
        if (named.module, named.layer) != RELEASE:
            return given
        beside = {} if "dataset" in given else RELEASED.get(given.get("num_classes", 0), {})
        return beside | (PROPOSALS if six else {}) | given

    def _read_proposals(self, given: dict[str, Any], tops: int) -> list[np.ndarray]:
        """The proposals for each image of the list; none where no top needs them."""
        if tops == 3:
            if "proposals" in given:
                raise self.error("has 3 tops and reads no 'proposals' of param_str; add a fourth "
                                 "top for them, or take the key out")
            return []
        if "proposals" not in given:
            raise self.error(f"has {tops} tops, so param_str needs 'proposals': the file with the regions")
        if self.awaited:
            return []
        try:
            path = files.find(given["proposals"], self.context.base, "the file of proposals")
            return proposals.read(path, self.mark, self.names).boxes
        except Error as error:
            raise self.error(str(error)) from None

    @property
    def awaited(self) -> bool:
        """Whether a stage before has yet to make the proposals, by the net that `proposer` names."""
        return bool(self.proposer) and not Path(self.place).is_file()

    def check_files(self) -> None:
        if self.awaited:
            raise self.error(f"the proposals {self.place} are not there; 'netspec solve' makes them after "
                             "the stage before this one")
        super().check_files()
        for index in range(len(self)):  # a run that finds them by and by would end then
            self.truth_of(self.record(index))

    def cure(self, what: str, many: int) -> str:
        found, pattern = super().cure(what, many), self.boxes.kind.files[-1]
        if what == self.truth[0] and pattern.endswith("{name}.xml") and many < len(set(self.names)):
            found += ("; for an image that holds no object write <annotation/> there, or leave it out of the "
                      "list")
        return found

    def listed(self) -> "DetectionData":
        """The images with their boxes in the order of their list: none left out, none mirrored."""
        layer = LayerParameter()
        layer.CopyFrom(self.layer)
        layer.top[:] = TOPS[3]
        own = {key: value for key, value in self._given().items()
               if key in self.OPTIONS and key not in ("proposals", "proposer")}
        layer.python_param.param_str = str(own | {"randomize": False})
        return DetectionData(layer, (), self.context)

    def _sampling(self, given: dict[str, Any], classes: int) -> ProposalTarget:
        """What chooses regions to learn from, and their targets."""
        own = {key: given[key] for key in OF_REGIONS if key in given}
        layer = LayerParameter(name=self.layer.name, type="Python", top=SAMPLED)
        layer.bottom[:] = "proposals", "boxes"
        layer.python_param.param_str = str(own | {"num_classes": 2 if own.get("agnostic", True) else classes})
        return ProposalTarget(layer, [(1, 5), (1, 5)], self.context)

    @classmethod
    def within(cls, layer: LayerParameter, net: Sequence[LayerParameter]) -> LayerParameter:
        """In 6 tops (Fast R-CNN's 5) transforms are for all classes, unless the net makes some for each."""
        columns = 4 * (settings_of(layer) or {}).get("num_classes", 0)
        if len(layer.top) not in (5, 6) or not columns:
            return layer
        each = any(columns in (x.inner_product_param.num_output, x.psroi_pooling_param.output_dim)
                   for x in net)
        return ProposalTarget.within(completed(layer, {"agnostic": not each}), net)

    @classmethod
    def stated(cls, layer: LayerParameter, size: tuple[int, int] | None = None) -> list[Shape]:
        given = settings_of(layer) or {}
        usual = {"scale": SCALE, "max_size": MAX_SIZE, "num_classes": 2}
        side, most, classes = (value if type(value := given.get(key)) is int and value > 0 else without
                               for key, without in usual.items())
        columns = 8 if given.get("agnostic", True) else 4 * classes
        sampled: list[Shape] = [(MOST, n, 1, 1) for n in (5, 1, columns, columns, columns)]
        known: dict[int, list[Shape]] = {2: [(1, 3)], 3: [(1, 3), (1, 5)], 4: [(1, 3), (1, 5), (MOST, 5)],
                                         6: sampled}
        if layer.top[1:2] == ["rois"] and len(layer.top) < 6:  # of Fast R-CNN
            known[len(layer.top)] = sampled[: len(layer.top) - 1]
        return [(1, 3, *(size or (side, most))), *known.get(len(layer.top), [])]

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
            try:
                self._records[index] = self.boxes.read(*self.entries[index])
            except Error:
                if "{name}" in self.boxes.kind.files[0]:
                    super().check_files()  # tells all files that are not there, and what to do
                raise
        return self._records[index]

    @cached_property
    def mark(self) -> str:
        """What tells this list of images, with their boxes, from others: a checksum."""
        found = hashlib.blake2b(digest_size=16)
        for record in map(self.record, range(len(self))):
            found.update(repr((record.name, record.size, record.classes.tolist())).encode())
            found.update(record.boxes.tobytes())
        return found.hexdigest()

    def learned(self, record: Record) -> np.ndarray:
        """Which of its boxes are truth in training, bool (K,)."""
        return ~record.crowd & (self.difficult | ~record.difficult)

    def learns(self, box: Box) -> bool:
        """The same of one box."""
        return not box.crowd and (self.difficult or not box.difficult)

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
            drawn = self.places or self.drawn
            return drawn[item % len(drawn)], False
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
        if self.awaited:
            return self.stated(self.layer)
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
        pixels, truth = self.read(record), self.truth_of(record)
        regions = self._regions(index)
        if flipped:
            pixels = pixels[:, ::-1]
            truth, regions = (mirrored(each, record.size[0]) for each in (truth, regions))
        data, factor = scaled(pixels[:, :, ::-1] - self.mean, self.scale, self.max_size)
        found = {"data": data[None], "im_info": np.array([[*data.shape[1:], factor]], np.float32)}
        if self._targets:
            self._targets.seeded = np.random.RandomState([self.seed, position])
            given = np.hstack([np.zeros_like(regions[:, :1]), regions])
            made = self._targets.forward([torch.from_numpy(given), torch.from_numpy(truth)], [])
            found |= dict(zip(SAMPLED, (top.numpy() for top in made), strict=True))
            found["rois"][:, 1:] *= factor
        else:
            truth[:, :4] *= factor
            found |= {"gt_boxes": truth, "rois": np.hstack([np.zeros_like(regions[:, :1]), regions * factor])}
        return tuple(found[name].astype(np.float32) for name in TOPS[len(self.layer.top)])

    def _regions(self, index: int) -> np.ndarray:
        """The proposals for a place in the list, float32 (R, 4)."""
        if self.awaited:
            self.check_files()
        return self._proposals[index] if self._proposals else np.empty((0, 4), np.float32)

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


def mirrored(boxes: np.ndarray, width: int) -> np.ndarray:
    """Boxes (K, 4 or more columns) in an image of this width that is mirrored."""
    made = boxes.copy()
    made[:, [0, 2]] = width - 1 - boxes[:, [2, 0]]
    return made


ALIASES.update(dict.fromkeys([RELEASE, ("netspec.datasets", "DetectionData")], DetectionData))
