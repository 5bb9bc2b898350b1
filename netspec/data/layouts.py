"""The tables of data sets, `LAYOUTS` with labels and `BOXED` with boxes; and data set files of one's own."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from ..base.errors import Error, closest
from ..base.files import find, native
from ..base.machine import PROJECT
from .options import check_shards, read_file
from .patches import SIDE

if TYPE_CHECKING:  # commands list the data sets in their help: the functions that need NumPy import it
    import numpy as np

SETS = PROJECT / "data"  # the folder of facts, one below it for each data set

SHARDED = {"images": "{name}.*", "labels": "{name}.seg.*"}  # of WebDataset's samples, unless told

Top = TypeVar("Top", "Images", "Labels")

# File patterns have {split} and {name}, and start below the data set's root, or with "voc:" below the folder
# of that name in `beside`. ".*" at the end stands for the suffix of any image.


@dataclass(frozen=True)
class Images:
    """A top with pixels: (value * scale, or its logarithm, less the mean), channel by channel."""

    files: tuple[str, ...]  # one 8-bit image in colour; or one-channel images of any depth, one a channel
    mean: tuple[float, ...]  # of the channels as they are fed
    order: tuple[int, ...] = (2, 1, 0)  # the file's channels as fed: BGR; (): the files are the channels
    scale: float = 1.0
    log: bool = False  # 0, no measurement, becomes the mean
    smooth: bool = False  # resized as `resizing.shrunk` does it, not as Pillow


@dataclass(frozen=True)
class Labels:
    """A top with class indices."""

    files: tuple[str, ...]  # the first that is there is read
    void: int | None = 255  # the label of pixels that belong to no class
    classes: str | Classes = "classes.txt"  # or the name of such a file in the folder of facts
    key: str = ""  # of a .mat: VARIABLE or VARIABLE.FIELD
    values: Mapping[int, int] | str = field(default_factory=dict)  # in the file -> fed; or for `raw_values`
    colours: bool = False  # the files hold the classes' colours
    nearest: bool = False  # the files were stored with loss: other values and colours are the nearest class's


@dataclass(frozen=True)
class Derived:
    """A split made of others, each (data set, split). A name counts once, from the first that has it."""

    of: tuple[tuple[str, str], ...]
    without: tuple[tuple[str, str], ...] = ()
    count: int | None = None  # its number of images, where that is always the same
    names: tuple[str, ...] = ()  # lists to read the parts by, if not their own: the first that is there
    share: tuple[float, float] = (0, 1)  # which of their images, see `_share` in tree.py


@dataclass(frozen=True)
class Layout:
    """Where a data set keeps its files, below its root, and its facts."""

    root: str  # the usual place, from the project's folder
    lists: str  # the pattern of the lists of names
    tops: Mapping[str, Images | Labels]
    facts: str  # the folder in data/ with README.md, classes.txt, and lists where the data set has none
    default: tuple[str, ...] = ("data", "label")  # tops, unless told
    beside: Mapping[str, str] = field(default_factory=dict)  # other data sets it needs -> their usual places
    derived: Mapping[str, Derived] = field(default_factory=dict)
    patches: int = 0  # the images are patches of scenes, in 16 bits, with so many pixels a side
    scenes: str = ""  # the pattern of the truth of a scene {name}
    blind: tuple[str, ...] = ()  # the splits whose images have no labels of their own
    shards: str = ""  # the pattern of the archives in which its files are members

    def usual(self, split: str) -> tuple[str, ...]:
        """The default tops of a split: of a blind one those alone that are no labels."""
        return tuple(top for top in self.default
                     if split not in self.blind or not isinstance(self.tops[top], Labels))

    def shared(self, split: str) -> bool:
        """Whether a split is a share of another's images: of scenes it has some patches alone."""
        return split in self.derived and self.derived[split].share != (0, 1)

    def first(self, kind: type[Top]) -> Top:
        """Its first top of a kind, Images or Labels."""
        return next(top for top in self.tops.values() if isinstance(top, kind))


CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # what moves a terminal's cursor; no name has it
VOID_COLOUR = (224, 224, 192)  # as in VOC's own label images
ILSVRC = (104.00699, 116.66877, 122.67892)  # the mean of the images that the classifiers saw
BOXED_MEAN = (102.9801, 115.9465, 122.7717)  # BGR; what R-FCN's release subtracts in every data set


def _voc(mean: tuple[float, ...]) -> dict[str, Images | Labels]:
    return {"data": Images(("JPEGImages/{name}.jpg",), mean),
            "label": Labels(("SegmentationClass/{name}.png",))}


def _from_one(classes: int) -> dict[int, int]:
    """Files that count classes from 1 and have 0 or -1 for void."""
    return {-1: 255, 0: 255} | {i + 1: i for i in range(classes)}


def _sift(folder: str, suffix: str) -> tuple[str, ...]:
    return (f"{folder}/spatial_envelope_256x256_static_8outdoorcategories/{{name}}.{suffix}",)


# "{split:.5}" is the split's first five letters: the folders are 38-Cloud_test/test_red and
# 38-Cloud_training/train_red
_CLOUD = "38-Cloud_{split}/{split:.5}_%s/%s_{name}.TIF"
_MORE = "95-cloud_training_only_additional_to38-cloud"


def _bands(file: str, mean: tuple[float, ...] = (0.0,) * 4) -> dict[str, Images | Labels]:
    """38-Cloud's tops. No mean is published; the scale brings 16 bits to 0..255."""
    bgr = tuple(file % (band, band) for band in ("blue", "green", "red"))
    return {"data": Images((*bgr, file % ("nir", "nir")), mean, order=(), scale=1 / 257, smooth=True),
            "color": Images(bgr, mean[:3], order=(), scale=1 / 257, smooth=True),
            "label": Labels((file % ("gt", "gt"),), void=None, values={255: 1})}


def _patches(dataset: str, root: str, *mean: float) -> Layout:
    """38-Cloud's files; a fifth of the patches that are not empty is held out for validation, as the release
    holds out a fifth of all."""
    file = "training_patches_38-cloud_nonempty.csv"
    part = Derived(((dataset, "training"),), names=(f"38-Cloud_training/{file}", file))
    return Layout(
        root, "38-Cloud_{split}/{split}_patches_38-Cloud.csv",
        _bands(_CLOUD, mean or (0.0,) * 4), "38cloud",
        derived={"train": replace(part, share=(0.2, 1)), "val": replace(part, share=(0, 0.2))},
        patches=SIDE, blind=("test",),
        scenes="38-Cloud_{split}/Entire_scene_gts/edited_corrected_gts_{name}.TIF",
    )


LAYOUTS = {
    "voc": Layout(
        "data/voc/VOC2012", "ImageSets/Segmentation/{split}.txt", _voc(ILSVRC), "voc",
        beside={"sbd": "data/sbd/dataset"},
        derived={
            "seg11valid": Derived((("voc", "val"),), (("sbd", "train"),), 736),  # of VOC 2011
            "seg12valid": Derived((("voc", "val"),), (("sbd", "train"), ("sbd", "val")), 346),  # of VOC 2012
            "train+sbd": Derived((("voc", "train"), ("sbd", "train"))),
            "trainaug": Derived((("voc", "train"), ("sbd", "train"), ("sbd", "val")), (("voc", "val"),)),
        },
    ),
    "sbd": Layout(
        "data/sbd/dataset", "{split}.txt",
        {"data": Images(("img/{name}.jpg",), ILSVRC),
         "label": Labels(("cls/{name}.png", "cls/{name}.mat"), key="GTcls.Segmentation")},
        "voc",
    ),
    # mean: over all pixels of the train list, as prepare.py makes it without options
    "shapes": Layout("data/shapes/images", "ImageSets/Segmentation/{split}.txt",
                     _voc((117.842, 117.764, 117.324)), "shapes"),
    # mean: over all pixels of the train list
    "camvid": Layout(
        "data/camvid/images", "{split}.txt",
        {"data": Images(("{split}/{name}.png",), (110.331, 108.409, 105.033)),
         "label": Labels(("{split}annot/{name}.png",), void=11)},
        "camvid",
    ),
    # means from here on: the papers'
    "nyud": Layout(
        "data/nyud", "{split}.txt",
        {"color": Images(("data/images/img_{name}.png",), (116.190, 97.203, 92.318)),
         "depth": Images(("data/depth/img_{name}.png",), (7.844,), order=(), log=True),
         "hha": Images(("data/hha/img_{name}.png",), (132.431, 94.076, 118.477), order=(0, 1, 2)),
         "label": Labels(("segmentation/img_{name}.mat",), key="segmentation", values=_from_one(40))},
        "nyud", default=("color", "label"),
        derived={"trainval": Derived((("nyud", "train"), ("nyud", "val")))},
    ),
    "siftflow": Layout(
        "data/siftflow", "{split}.txt",
        {"data": Images(_sift("Images", "jpg"), (114.578, 115.294, 108.353)),
         "sem": Labels(_sift("SemanticLabels", "mat"), key="S", values=_from_one(33)),
         "geo": Labels(_sift("GeoLabels", "mat"), key="S", values=_from_one(3), classes="classes-geo.txt")},
        "siftflow", default=("data", "sem", "geo"),
    ),
    "pascalcontext": Layout(
        "data/pascalcontext", "voc:ImageSets/Main/{split}.txt",
        {"data": Images(("voc:JPEGImages/{name}.jpg",), (104.007, 116.669, 122.679)),
         "label": Labels(("trainval/{name}.mat",), key="LabelMap", values="classes-459.txt")},
        "pascalcontext", beside={"voc": "data/voc/VOC2010"},
    ),
    "38cloud": _patches("38cloud", "data/38cloud"),
    # mean: over all pixels of the training patches, as prepare.py makes them without options
    "clouds": _patches("clouds", "data/clouds/images", 47.0, 47.9, 49.2, 52.1),
    # what 95-Cloud adds to the training patches of 38-Cloud, and both
    "95cloud": Layout(
        "data/95cloud", f"{_MORE}/training_patches_95-cloud_{{split}}_to_38-cloud.csv",
        _bands(f"{_MORE}/train_%s_{{split}}_to38cloud/%s_{{name}}.TIF"), "38cloud",
        patches=SIDE, beside={"38cloud": "data/38cloud"},
        derived={"training": Derived((("38cloud", "training"), ("95cloud", "additional")))},
    ),
}


def _voc_boxes(root: str, facts: str, mean: tuple[float, ...] = BOXED_MEAN) -> Layout:
    return Layout(root, "ImageSets/Main/{split}.txt", {
        "data": Images(("JPEGImages/{name}.jpg",), mean),
        "boxes": Labels(("Annotations/{name}.xml",), void=None),
    }, facts)


_VOC2007 = _voc_boxes("data/voc/VOC2007", "voc")

BOXED = {
    "voc": replace(_VOC2007, beside={"voc2012": "data/voc/VOC2012"}, derived={
        "07+12trainval": Derived((("voc", "trainval"), ("voc2012", "trainval"))),  # the paper's training set
    }),
    "coco": Layout("data/coco", "{split}.txt", {
        "data": Images(("images/{split}/{name}.jpg",), BOXED_MEAN),
        "boxes": Labels(("annotations/instances_{split}.json",), void=None),
    }, "coco"),
    "shapes": _voc_boxes("data/shapes/images", "shapes", LAYOUTS["shapes"].first(Images).mean),
}

# classes of PASCAL-Context's 59 whose names among its 459 are others
CONTEXT_NAMES = {"diningtable": "table", "bedcloth": "bedclothes", "clothes": "cloth"}


class Classes(NamedTuple):
    names: tuple[str, ...]  # in index order
    palette: np.ndarray  # uint8 (classes, 3), RGB
    void: Sequence[int] | None = None  # the colour of void, where labels are in colours


class Facts(NamedTuple):
    """What is known of a data set."""

    names: tuple[str, ...]  # of the classes, in index order
    palette: np.ndarray  # their colours, uint8 (classes, 3)
    mean: tuple[float, ...]  # of the first top with pixels, as it is fed: BGR
    void: int | None


def facts(dataset: str | Layout, top: str | None = None) -> Facts:
    """The facts of a data set, by its name, the path of its data set file, or its layout.

    top: which of its labels (the first). Names and colours are those of data/NAME/classes.txt, "name r g b" a
    line.
    """
    found = layout(dataset) if isinstance(dataset, str) else dataset
    label = found.tops[top] if top else found.first(Labels)
    if isinstance(label, Images):
        raise Error(f"top '{top}' has images, not classes")
    known = classes(found, label)
    return Facts(known.names, known.palette, found.first(Images).mean, label.void)


def layout(dataset: str, own: dict[str, Any] | None = None) -> Layout:
    """The layout of a data set, by its name or the path of its data set file; Error if it is not known.

    own: options FOLDER from param_str, which go before those of a file, and describe the data set 'folder'.
    """
    if dataset in LAYOUTS:
        for key in sorted((own or {}).keys() - {"mean"}):
            raise Error(f"param_str: '{key}' is for dataset 'folder', not for '{dataset}'")
        return LAYOUTS[dataset]
    if Path(dataset).suffix == ".txt":
        return folder(read_file(Path(dataset)) | (own or {}), dataset)
    if dataset == "folder" and own is not None:
        return folder(own, "param_str")
    hint = closest(dataset, (*LAYOUTS, "folder"))
    raise Error(f"data set '{dataset}' is not known{hint} (known: {', '.join(LAYOUTS)}, "
                "'folder' for images of your own)")


def nearby(dataset: str, folder: Path) -> str | None:
    """What a net in a folder calls its data set, as `layout` takes it; None if it is unknown or not there."""
    if dataset in LAYOUTS:
        return dataset
    with suppress(Error):
        return str(find(dataset, folder)) if dataset.endswith(".txt") else None
    return None


def classes(found: Layout, label: Labels) -> Classes:
    """Names and colours of the classes of a label top."""
    if isinstance(label.classes, Classes):
        return label.classes
    path = facts_folder(found) / label.classes
    return parse_classes(path.read_text(encoding="utf-8").splitlines(), str(path))


def parse_classes(lines: Sequence[str], where: str, before: Sequence[str] = ()) -> Classes:
    """Classes from lines "name r g b", or "name", which gets VOC's colour; "void r g b" is none of them.

    before: the names of classes that come first, in black.
    """
    import numpy as np

    default = voc_colours(len(before) + len(lines)).tolist()
    colours: dict[str, Sequence[int]] = {name: (0, 0, 0) for name in before}
    for number, line in enumerate(lines, 1):
        words = re.fullmatch(r"\s*(\S.*?)((?:\s+\d{1,9}){3})?\s*", line)
        if not words:  # an empty line
            continue
        name, digits = words.groups()
        rgb = [int(d) for d in digits.split()] if digits else default[len(colours)]
        if name in colours:
            raise Error(f"{where}:{number}: class {name!r} stands a second time; each class has one line")
        numbers = not digits and re.fullmatch(r"[-+.,;\d]*\d[-+.,;\d]*", name.split()[-1])
        if max(rgb) > 255 or numbers or CONTROL.search(name):
            raise Error(f"{where}:{number}: expected a name and three numbers from 0 to 255, "
                        f"found {CONTROL.sub('?', line[:80])!r}")
        colours[name] = rgb
    void = colours.pop("void", None)
    return Classes(tuple(colours), np.array([*colours.values()], np.uint8).reshape(-1, 3), void)


def voc_colours(count: int) -> np.ndarray:
    """VOC's colour map, uint8 (count, 3).

    Bits 0, 3, 6 of a class's number are red's bits from the highest on, bits 1, 4, 7 green's, 2, 5, 8 blue's.
    """
    import numpy as np

    bits = np.arange(count)[:, None] >> np.arange(24) & 1
    return np.packbits(bits.reshape(count, 8, 3).astype(bool), axis=1)[:, 0]


@cache
def raw_values(dataset: str, file: str) -> dict[int, int]:
    """What the numbers of PASCAL-Context's files mean.

    `file` has the names of 1, 2, ... in turn; numbers whose names are no class are background, 0.
    """
    found = LAYOUTS[dataset]
    names = facts(dataset).names
    known = {CONTEXT_NAMES.get(name, name): i for i, name in enumerate(names)}
    raw = (facts_folder(found) / file).read_text(encoding="utf-8").splitlines()
    return {number: known.get(name.replace(" ", ""), 0) for number, name in enumerate(raw, 1)}


def facts_folder(found: Layout) -> Path:
    """The folder in data/ of a data set, or of the one that it has its classes from."""
    place = SETS / found.facts
    if (place / "classes.txt").is_file():
        return place
    raise Error(f"the facts of data set '{found.facts}' are not there (tried {place})")


def check_braces(pattern: str, key: str, where: str) -> None:
    """Error for a path, given under a key, that cannot be filled in with names and splits."""
    if re.search("[{}\0]", re.sub(r"\{(name|split)\}", "", pattern)):
        raise Error(f"{where}: '{key}' is {pattern[:80]!r}; in braces it takes {{name}} and {{split}} alone")


def folder(given: dict[str, Any], where: str) -> Layout:
    """The layout of a folder of one's own from options FOLDER; `where` names it in errors."""
    if "boxes" in given:
        raise Error(f"{where}: 'boxes' are read by DetectionData; SegmentationData needs 'labels'")
    shards = given.get("shards", "")
    usual = SHARDED if "shards" in given else {"images": "images", "labels": "labels"}
    files = {key: given.get(key, usual[key]) for key in usual}
    if "shards" in given:
        check_shards(given | files, where)
    for key, pattern in files.items():
        check_braces(pattern, key, where)
        if key == "images" and pattern.count("{name}") > 1:
            raise Error(f"{where}: 'images' is '{pattern:.80}'; it takes {{name}} once")
        whole = pattern if "{name}" in pattern else f"{pattern or '.'}/{{name}}.*"
        files[key] = os.path.normpath(native(whole))  # without ./ and //, as folders list their files
    named = parse_classes(given.get("classes", []), where)
    if not named.names:
        raise Error(f"{where}: names no class; give a line 'name' or 'name r g b' for each, in the order of "
                    "their numbers")
    mean = tuple(given.get("mean", ILSVRC))
    if len(mean) != 3:
        raise Error(f"{where}: 'mean' takes 3 numbers, BGR, found {mean}")
    rest = {key: given[key] for key in ("void", "key", "values", "colours", "nearest") if key in given}
    label = Labels((files["labels"],), classes=named, **rest)
    if label.nearest and not (label.values or label.colours):
        raise Error(f"{where}: 'nearest' says that labels were stored with loss; what in them is exact needs "
                    "'colours: True', or 'values' with what numbers mean, such as values: {255: 1}")
    if re.search("[{}\0]", (lists := given.get("lists", "{split}.txt")).replace("{split}", "")):
        raise Error(f"{where}: 'lists' is {lists[:80]!r}; in braces it takes {{split}} alone")
    tops: dict[str, Images | Labels] = {"data": Images((files["images"],), mean), "label": label}
    return Layout("", native(lists), tops, "", shards=native(shards))
