"""Boxes of objects in images: VOC's XML, COCO's and labelme's JSON read."""

import math
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from xml.parsers import expat

import numpy as np

from ..base import errors
from ..base.errors import Error, closest
from . import layouts, options
from .drawn import coco_parts, crowded, is_background, load, named, sides, take
from .get import obtained
from .images import open_image
from .layouts import BOXED, BOXED_MEAN, Classes, Images, Labels, Layout
from .options import is_list, is_number
from .outlines import points
from .tree import Tree, stem

CORNERS, VOC_FLAGS = ("xmin", "ymin", "xmax", "ymax"), ("difficult", "truncated")
# XML's words for the flags, in small letters
FLAGS = {"true": 1, "yes": 1, "false": 0, "no": 0, "": 0, "unspecified": 0}


class Record(NamedTuple):
    """An image and its boxes, as its file has them: nothing is left out, cut or scaled."""

    name: str
    path: Path  # of the image
    source: Path  # of the boxes
    size: tuple[int, int]  # width and height that the file says; without them, the image's
    boxes: np.ndarray  # float32 (K, 4): x1 y1 x2 y2, counted from 0, both ends included, in pixels
    classes: np.ndarray  # int64 (K,): from 1 on
    difficult: np.ndarray  # bool (K,)
    truncated: np.ndarray  # bool (K,)
    crowd: np.ndarray  # bool (K,): a group in one box (COCO), no truth of training


class Box(NamedTuple):
    """A box as read: its class in the file, its corners counted from 0, its flags."""

    label: str
    corners: Sequence[float]
    difficult: bool = False
    truncated: bool = False
    crowd: bool = False

    @property
    def wrong(self) -> str:
        """Why it is no box, as the end of a sentence; "" if it is one."""
        x1, y1, x2, y2 = self.corners
        if x1 <= x2 and y1 <= y2 and max(map(abs, self.corners)) < 1e9:
            return ""
        return f"('{self.label:.60}') is no box: {self}, counted from 0; x1 <= x2 and y1 <= y2 are expected"

    def __str__(self) -> str:
        return " ".join(f"{value:g}" for value in self.corners)


Size = tuple[int, int]
Read = tuple[Size | None, list[Box]]


def layout(dataset: str, own: Mapping[str, Any] | None = None) -> Layout:
    """The layout of a data set with boxes, by its name or the path of its data set file; Error if not known.

    own: options of FOLDER from param_str; of a known data set they may give the classes and the mean.
    """
    given = dict(own or {})
    if dataset in BOXED:
        if strange := sorted(given.keys() - {"classes", "mean"}):
            raise Error(f"param_str: '{strange[0]}' is for dataset 'folder', not for '{dataset}'")
        found = BOXED[dataset]
        if "classes" not in given:
            return found
        label = replace(found.first(Labels), classes=_classes(given, "param_str"))
        return replace(found, tops={**found.tops, "boxes": label})
    if Path(dataset).suffix == ".txt":
        return folder(options.read_file(Path(dataset)) | given, dataset)
    if dataset == "folder":
        return folder(given, "param_str")
    raise Error(f"data set '{dataset}' is not known, or has no boxes{closest(dataset, (*BOXED, 'folder'))} "
                f"(known: {', '.join(BOXED)}, 'folder' for images of your own)")


def folder(given: Mapping[str, Any], where: str) -> Layout:
    """The layout of a folder of one's own: {name}.xml or .json for each image, or one COCO file."""
    if "shards" in given:
        raise Error(f"{where}: 'shards' are of images and labels, for SegmentationData; boxes lie in files")
    pattern = given.get("boxes", "boxes")
    layouts.check_braces(pattern, "boxes", where)
    whole = pattern.endswith(".json") or "{name}" in pattern
    files = (pattern,) if whole else tuple(f"{pattern}/{{name}}.{kind}" for kind in ("json", "xml"))
    rest = {key: value for key, value in given.items() if key not in ("boxes", "classes")}
    found = layouts.folder({"mean": BOXED_MEAN} | rest | {"classes": ["background"], "labels": "."}, where)
    return replace(found, tops={"data": found.first(Images),
                                "boxes": Labels(files, void=None, classes=_classes(given, where))})


def _classes(given: Mapping[str, Any], where: str) -> Classes:
    """The classes that lines name, background put before them where they don't begin with it."""
    lines = given.get("classes", [])
    first = next(filter(None, map(str.split, lines)), None)
    if not first:
        raise Error(f"{where}: names no class; give a line with the name of each, as the files with boxes "
                    "have it")
    return layouts.parse_classes(lines, where, () if is_background(first[0]) else ("background",))


def numbering(names: Sequence[str]) -> Callable[[str], int]:
    """What gives the class of a name in a file, 0 for none; capitals don't count unless they must."""
    known = {name.strip().lower(): i for i, name in enumerate(names)}
    known |= {name: i for i, name in enumerate(names)}
    return lambda label: known.get(label, known.get(label.strip().lower(), 0))


class Boxes:
    """The boxes of a data set on disk."""

    def __init__(self, tree: Tree) -> None:
        self.tree, self.kind = tree, tree.layout.first(Labels)
        self.names = layouts.classes(tree.layout, self.kind).names
        self._number = numbering(self.names)
        self._listed: dict[Path, dict[str, tuple[Size, list[Box]]]] = {}

    def entries(self, split: str, given: str | None = None) -> list[tuple[Tree, str, str]]:
        """The images of a split (tree, split, name): those of its list, else all that COCO's file has."""
        pattern = self.kind.files[0]
        listed = given or self.tree.path(self.tree.layout.lists, split).is_file()
        if "{name}" not in pattern and not listed and (split == "all" or "{split}" in pattern):
            if not (found := self._coco(self.tree.path(pattern, split))):
                raise Error(f"{self.tree.path(pattern, split)}: has no image")
            return [(self.tree, split, name) for name in found]
        return self.tree.entries(split, given)

    def read(self, tree: Tree, split: str, name: str) -> Record:
        """Raises Error naming the file where boxes cannot be read, are of unknown classes, or are none."""
        path, source = (tree.files(top, split, name)[0] for top in ("data", "boxes"))
        size, boxes = self.raw(source, name)
        if size is None:
            with open_image(path) as image:
                size = image.size
        for number, box in enumerate(boxes, 1):
            if told := box.wrong:
                raise Error(f"{source}: box {number} of '{name}' {told}")
        corners = np.array([box.corners for box in boxes], np.float32).reshape(-1, 4)
        flags = (np.array([getattr(box, key) for box in boxes], bool) for key in Record._fields[-3:])
        classes = np.array([self.number(box.label, source) for box in boxes], np.int64)
        return Record(name, path, source, size, corners, classes, *flags)

    def raw(self, source: Path, name: str) -> Read:
        """What a file says of an image: the size, if it does, and its boxes, whatever they are."""
        if "{name}" not in self.kind.files[0]:
            return self._of_image(source, name)
        return read_labelme(source) if source.suffix == ".json" else read_xml(source)

    def number(self, label: str, source: Path) -> int:
        """The class of a name in a file; Error for none, and for the background."""
        if not (found := self._number(label)):
            raise Error(f"{source}: class '{label:.60}' is none of the data set's"
                        f"{closest(label, self.names)} (it has: {errors.listed(self.names[1:])})")
        return found

    def _of_image(self, source: Path, name: str) -> tuple[Size, list[Box]]:
        found = self._coco(source)
        if name not in found:
            raise Error(f"{source}: has no image '{name}'{closest(name, found)}")
        return found[name]

    def _coco(self, path: Path) -> dict[str, tuple[Size, list[Box]]]:
        if path not in self._listed:
            if self.tree.layout.facts and not path.is_file():
                raise Error(f"the boxes {path} are not there{obtained(self.tree.dataset)}")
            self._listed[path] = read_coco(path)
        return self._listed[path]


def clipped(boxes: np.ndarray, size: Size) -> np.ndarray:
    """Boxes (K, 4) as far as they lie in an image of this width and height; one outside is turned over."""
    last = np.array(size * 2, np.float32) - 1
    return np.stack([np.maximum(boxes[:, :2], 0), np.minimum(boxes[:, 2:], last[2:])], 1).reshape(-1, 4)


# VOC

def read_xml(path: Path) -> Read:
    """The size in an XML file of VOC, if it says one, and its boxes: 1-based there, 0-based here.

    Capitals and underscores in tags don't count, flags may be missing. Raises Error for what is no such file.
    """
    root = _parsed(path)
    if _tag(root) != "annotation":
        raise Error(f"{path} is no file of VOC: it begins with <{root.tag:.60}>, expected <annotation>")
    for child in root:
        if any(_tag(e) == "object" for e in child.iter() if e is not child):
            raise Error(f"{path}: <object> within <{child.tag:.40}>; put it into <annotation> itself")
    size = _child(root, "size")
    width, height = (0 if size is None else _whole(size, key) for key in ("width", "height"))
    boxes = [_voc_box(item, f"{path}: object {number}")
             for number, item in enumerate((e for e in root if _tag(e) == "object"), 1)]
    return (width, height) if width > 0 and height > 0 else None, boxes


def _parsed(path: Path) -> ET.Element:
    """The root of an XML file. A DOCTYPE is an Error: it may define entities, which grow, or name files."""
    parser, builder = expat.ParserCreate(), ET.TreeBuilder()

    def refuse(*_: object) -> None:
        raise Error(f"{path} has a DOCTYPE, which may define entities; they are not read: take it out")

    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(path.read_bytes(), True)
        return builder.close()
    except FileNotFoundError:
        raise Error(f"the boxes {path} are not there") from None
    except (expat.ExpatError, AssertionError, LookupError, ValueError) as error:
        raise Error(f"{path} is no XML, or damaged: {error}") from None


def _tag(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2].lower().replace("_", "")


def _child(element: ET.Element, tag: str) -> ET.Element | None:
    return next((child for child in element if _tag(child) == tag), None)


def _text(element: ET.Element, tag: str) -> str | None:
    child = _child(element, tag)
    return None if child is None else (child.text or "").strip()


def _whole(element: ET.Element, tag: str) -> int:
    """A number of pixels; 0 for what is none, as files have it whose writer did not know."""
    text = _text(element, tag) or ""
    try:
        return int(float(text))
    except (ValueError, OverflowError):
        return 0


def _voc_box(item: ET.Element, where: str) -> Box:
    if not _text(item, "name"):
        raise Error(f"{where} has no <name>")
    label = named({"name": _text(item, "name")}, "name", where)
    frame, corners = _child(item, "bndbox"), []
    if frame is None:
        raise Error(f"{where} ('{label:.60}') has no <bndbox>; draw its box, or take the object out")
    tags = Counter(map(_tag, (*item, *frame)))
    if twice := next((tag for tag in ("name", "bndbox", *CORNERS, *VOC_FLAGS) if tags[tag] > 1), ""):
        raise Error(f"{where} ('{label}') has <{twice}> more than once; write an object for each box")
    for key in CORNERS:
        text = _text(frame, key)
        try:
            corners.append(float((text or "").replace("_", "?")) - 1)  # Python's 1_000 is no number elsewhere
        except ValueError:
            found = repr(text[:40]) if text else "nothing"
            raise Error(f"{where} ('{label:.60}') is no box: <{key}> should be a number, found {found}"
                        ) from None
    difficult, truncated = (_told(_text(item, key) or "") for key in VOC_FLAGS)
    if difficult not in (0, 1):
        raise Error(f"{where} ('{label:.60}'): <difficult> should be 0 or 1, found "
                    f"{(_text(item, 'difficult') or '')[:40]!r}")
    return Box(label, corners, difficult == 1, truncated > 0)  # some write the share that is cut off


def _told(text: str) -> float:
    """What a flag says: a word of FLAGS, or a number; NaN for others."""
    try:
        return float(FLAGS.get(text.lower(), text))
    except ValueError:
        return math.nan


# COCO and labelme

def read_coco(path: Path) -> dict[str, tuple[Size, list[Box]]]:
    """The images of COCO's instances, by name (without suffix): their sizes and boxes.

    A box is x y width height there; its last column is x + width - 1 here, as in the release.
    """
    if not path.is_file():
        raise Error(f"the boxes {path} are not there")
    names, images, of = coco_parts(path, load(path))
    found: dict[str, tuple[Size, list[Box]]] = {}
    for number, image in images.items():
        where = f"{path}: image {number}"
        size = sides(image, "width", "height", where)
        name = stem(named(image, "file_name", where).replace("\\", "/"))
        if name in found:
            raise Error(f"{where} has the name of another one, '{name}'")
        found[name] = size, [_coco_box(each, names[each["category_id"]], at) for at, each in of[number]]
    return found


def _coco_box(annotation: dict[str, Any], label: str, where: str) -> Box:
    box = take(annotation, "bbox", list, where)
    if not is_list(box, is_number, 4):
        raise Error(f"{where} ('{label}') is no box: 'bbox' should be x, y, width, height, found "
                    f"{str(box):.60}")
    x, y, width, height = box
    if min(width, height) < 0:
        raise Error(f"{where} ('{label}') is no box: its width and height are {width:g} and {height:g}")
    far = x + max(width - 1, 0), y + max(height - 1, 0)
    return Box(label, (x, y, *far), crowd=crowded(annotation, where))


def read_labelme(path: Path) -> Read:
    """The size and boxes in a file of labelme: rectangles, and around other shapes the least rectangle."""
    if not path.is_file():
        raise Error(f"the boxes {path} are not there")
    data, boxes = load(path), []
    size = sides(data, "imageWidth", "imageHeight", str(path))
    for number, shape in enumerate(take(data, "shapes", list, str(path)), 1):
        where = f"{path}: shape {number}"
        label = named(shape, "label", where)
        corners = points(take(shape, "points", list, where), size, where, 2)
        kind = shape.get("shape_type")
        if kind == "circle":
            if len(corners) != 2:
                raise Error(f"{where} ('{label}'): a circle of {len(corners)} points, expected 2")
            reach = np.hypot(*(corners[1] - corners[0]))
            corners = np.stack([corners[0] - reach, corners[0] + reach])
        (left, top), (right, low) = corners.min(0).tolist(), corners.max(0).tolist()
        last = kind != "mask"  # whose points are pixels, and the last ones belong to it
        boxes.append(Box(label, (left, top, max(right - last, left), max(low - last, top))))
    return size, boxes
