"""What people draw labels with, read: labelme, COCO's instances, CVAT's and Supervisely's exports."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from PIL import Image

from ..base.errors import Error, listed
from ..proto.text import read_lines
from .images import read_label
from .outlines import Size, bitmap, coco_polygon, drawn, outside, placed, points, run_lengths

Kind = TypeVar("Kind")
Colours = dict[str, Sequence[int] | None]  # the classes' names in the tool -> their colours there, RGB

HUGE = 1 << 63  # no number of an image or of pixels
BEYOND = "cut off at the border of the picture"
CROWD = "of a crowd, taken for the class"
FILLED = "with a part inside another part, filled as COCO does, whose holes are run lengths"


class Shape(NamedTuple):
    """Something drawn: its class in the tool, where the file says so, what is to be said of it, its mask."""

    label: str
    where: str
    remarks: list[str]
    mask: Callable[[], np.ndarray]  # bool, of the picture's size


class Picture(NamedTuple):
    """An image that was drawn on: its name in the tool, below a folder of images, and its size there."""

    file: str
    where: str
    size: Size  # width and height
    shapes: list[Shape]  # in the order in which they were drawn


class Drawing(NamedTuple):
    """All that a tool wrote. `pictures` reads them, from the files or what is held of them, once a call."""

    tool: str
    classes: Colours
    order: str  # what the order of the classes is, in words
    images: Path | None  # the folder where the images should be
    number: int  # of pictures
    pictures: Callable[[], Iterator[Picture]]


def drawing(path: Path) -> Drawing:
    """What was drawn, in a JSON file or a folder; the tool is known by what its files hold.

    Raises Error for what no tool known here writes.
    """
    if path.is_dir() and (path / "SegmentationClass").is_dir():
        return _cvat(path)
    if path.is_dir() and (path / "meta.json").is_file():
        return _supervisely(path)
    if path.is_file() and path.suffix.lower() != ".json":
        raise Error(f"{path} is neither a folder nor a JSON file; unpack an archive first")
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*.json") if p.is_file())
    if not files:
        raise Error(f"{path} holds no labels that are known: no JSON of labelme or COCO, no "
                    "SegmentationClass with labelmap.txt (CVAT), no meta.json (Supervisely)")
    opened = {file: load(file) for file in files}
    coco = [file for file, data in opened.items() if {"images", "annotations"} <= data.keys()]
    if len(coco) == 1 and len(files) == 1:
        return _coco(coco[0], opened[coco[0]])
    if coco:
        raise Error(f"{path} holds {len(coco)} COCO files among {len(files)} of JSON; name the one that is "
                    f"meant: {listed(map(str, coco))}")
    return _labelme(path if path.is_dir() else path.parent, opened)


def load(path: Path) -> dict[str, Any]:
    """A JSON file with an object in it; Error for anything else."""
    try:
        data = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise Error(f"{path} is no JSON, or damaged: {str(error)[:200]}") from None
    if not isinstance(data, dict):
        raise Error(f"{path} holds {type(data).__name__}, expected a JSON object")
    return data


def take(data: object, key: str, kind: type[Kind], where: str) -> Kind:
    """What an object of a JSON file has under a key; Error if it is not there, or of another kind."""
    value = data.get(key) if isinstance(data, dict) else None
    if kind is int and isinstance(value, float) and value.is_integer():
        value = int(value)  # as pandas writes numbers
    huge = isinstance(value, int) and abs(value) >= HUGE
    if not isinstance(value, kind) or isinstance(value, bool) or huge:
        names = {str: "text", list: "a list", dict: "an object", int: "a whole number"}
        found = "a huge number" if huge else "nothing" if value is None else type(value).__name__
        raise Error(f"{where}: '{key}' should be {names[kind]}, found {found}")
    return value


def named(data: object, key: str, where: str) -> str:
    """A name in a JSON file, of at most 255 characters, none of which moves a terminal's cursor."""
    found = take(data, key, str, where)
    if not found.isprintable() or not 0 < len(found) < 256:
        raise Error(f"{where}: '{key}' should be a name of up to 255 plain characters, found {found[:40]!r}")
    return found


def sides(data: object, width: str, height: str, where: str) -> Size:
    """A picture's width and height in a JSON file; Error for more pixels than Pillow reads."""
    size = take(data, width, int, where), take(data, height, int, where)
    if min(size) < 1 or size[0] * size[1] > 2 * (Image.MAX_IMAGE_PIXELS or 0):
        raise Error(f"{where}: the picture is said to be of {size[0]}x{size[1]} pixels")
    return size


# labelme

# types of shapes -> their fewest points
AREAS = {"polygon": 3, "rectangle": 2, "circle": 2, "oriented_rectangle": 4, "rotation": 4}


def _labelme(folder: Path, opened: dict[Path, dict[str, Any]]) -> Drawing:
    """labelme's files, one an image; a later shape covers an earlier one."""
    names: set[str] = set()
    for path, data in opened.items():
        if "shapes" not in data:
            raise Error(f"{path} is no file of labelme ('shapes') or COCO ('images' and 'annotations'); "
                        "keep other JSON files elsewhere")
        data.pop("imageData", None)
        names |= {named(shape, "label", str(path)) for shape in take(data, "shapes", list, str(path))}
    first, data = next(iter(opened.items()))
    there = first.parent / named(data, "imagePath", str(first)).replace("\\", "/")
    images = there.resolve().parent if there.is_file() else folder

    def pictures() -> Iterator[Picture]:
        for path, data in opened.items():
            size = sides(data, "imageWidth", "imageHeight", str(path))
            shapes = [_labelme_shape(shape, size, f"{path}: shape {number}")
                      for number, shape in enumerate(data["shapes"], 1)]
            file = named(data, "imagePath", str(path)).replace("\\", "/").rpartition("/")[2]
            within = path.parent.relative_to(folder) if folder in path.parents else Path()
            yield Picture((within / file).as_posix(), str(path), size, shapes)

    return Drawing("labelme", dict.fromkeys(sorted(names)), "by name", images, len(opened), pictures)


def _labelme_shape(shape: object, size: Size, where: str) -> Shape:
    label = named(shape, "label", where)
    where = f"{where} ('{label}')"
    kind = shape.get("shape_type") if isinstance(shape, dict) else None
    kind = "polygon" if kind is None else kind
    if kind == "mask":
        corners = points(take(shape, "points", list, where), size, where, 2)
        small = bitmap(take(shape, "mask", str, where), size, where)
        (left, top), (right, low) = corners.min(0).astype(int).tolist(), corners.max(0).astype(int).tolist()
        wide, high = right - left + 1, low - top + 1
        if small.shape != (high, wide):
            raise Error(f"{where}: the mask is {small.shape[1]}x{small.shape[0]}, its box {wide}x{high}")
        cut = min(left, top) < 0 or right >= size[0] or low >= size[1]
        return Shape(label, where, [BEYOND] * cut, partial(placed, small, left, top, size))
    if not isinstance(kind, str) or kind not in AREAS:
        raise Error(f"{where}: shapes of type '{kind}' are not known, or have no area: draw polygons (known: "
                    f"{', '.join(AREAS)}, mask)")
    found = points(take(shape, "points", list, where), size, where, AREAS[kind])
    if kind in ("rectangle", "circle") and len(found) != 2:
        if kind == "circle" or len(found) != 4:
            raise Error(f"{where}: a {kind} of {len(found)} points, expected 2")
        kind = "polygon"  # as forks of labelme write them
    reach = np.abs(found[1:] - found[0]).max(initial=0) if kind == "circle" else 0
    cut = outside(found - reach, size) or outside(found + reach, size)
    return Shape(label, where, [BEYOND] * cut, partial(drawn, kind, found, size))


# COCO

Id = int | str
Listed = dict[Id, dict[str, Any]]  # COCO's images by their ids
Annotations = dict[Id, list[tuple[str, dict[str, Any]]]]  # an image's id -> (where, annotation)


def coco_parts(path: Path, data: dict[str, Any]) -> tuple[dict[Id, str], Listed, Annotations]:
    """What COCO's instances hold: the names of the categories, the images, and the annotations of each."""
    names: dict[Id, str] = {}
    for category in take(data, "categories", list, str(path)):
        number = _id(category, "id", f"{path}: a category")
        if number in names:
            raise Error(f"{path}: category {number} is there twice")
        # two may have one name, and are one class
        names[number] = named(category, "name", f"{path}: category {number}")
    listing: Listed = {}
    for image in take(data, "images", list, str(path)):
        number = _id(image, "id", f"{path}: an image")
        if number in listing:
            raise Error(f"{path}: image {number} is there twice")
        listing[number] = image
    of: Annotations = {number: [] for number in listing}
    for place, annotation in enumerate(take(data, "annotations", list, str(path)), 1):
        own = annotation.get("id") if isinstance(annotation, dict) else None
        where = f"{path}: annotation {own if type(own) is int and abs(own) < HUGE else place}"
        for key, known in (("image_id", of), ("category_id", names)):
            if (found := _id(annotation, key, where)) not in known:
                other = next((each for each in known if str(each) == str(found)), None)
                raise Error(f"{where}: its {key} {json.dumps(found):.60} is none of the file's" + (
                    "" if other is None else f", which has {json.dumps(other)}: write both in one way"))
        of[annotation["image_id"]].append((where, annotation))
    return names, listing, of


def _id(data: object, key: str, where: str) -> Id:
    """An id in COCO's JSON, a whole number or text."""
    given = isinstance(data, dict) and isinstance(data.get(key), str)
    return named(data, key, where) if given else take(data, key, int, where)


def _coco(path: Path, data: dict[str, Any]) -> Drawing:
    """COCO's instances; a later annotation covers an earlier one."""
    names, listing, of = coco_parts(path, data)

    def pictures() -> Iterator[Picture]:
        for number, image in listing.items():
            where = f"{path}: image {number}"
            size = sides(image, "width", "height", where)
            shapes = [_coco_shape(annotation, names[annotation["category_id"]], size, where)
                      for where, annotation in of[number]]
            yield Picture(named(image, "file_name", where).replace("\\", "/"), where, size, shapes)

    first = str(next(iter(listing.values()), {}).get("file_name"))
    home = path.parent
    likely = (home, home / "images", home.parent / "images",
              home.parent / path.stem.removeprefix("instances_"))
    base = first.replace("\\", "/").rpartition("/")[2]
    images = next((p for p in likely if any(file.name == base for file in p.rglob("*"))), home)
    # text has the order of the file
    classes: Colours = dict.fromkeys(names[number] for number in sorted(
        names, key=lambda number: number if isinstance(number, int) else 0))
    return Drawing("COCO", classes, "by their ids", images, len(listing), pictures)


def crowded(annotation: dict[str, Any], where: str) -> bool:
    """Whether an annotation of COCO is a group, told by 1; Error for other words than 0 and 1."""
    told = annotation.get("iscrowd", 0)
    told = {"0": 0, "1": 1}.get(told, told) if isinstance(told, str) else told
    if told not in (0, 1):
        raise Error(f"{where}: 'iscrowd' should be 0 or 1, found {str(told)[:40]!r}")
    return bool(told)


def _coco_shape(annotation: dict[str, Any], label: str, size: Size, where: str) -> Shape:
    where = f"{where} ('{label}')"
    what = annotation.get("segmentation")
    crowd = [CROWD] if crowded(annotation, where) else []
    if isinstance(what, dict):
        if what.get("size") != [size[1], size[0]]:
            raise Error(f"{where}: its run lengths are of the size {str(what.get('size'))[:40]}, expected "
                        f"{[size[1], size[0]]}, the picture's height and width")
        return Shape(label, where, crowd, partial(run_lengths, what.get("counts"), size, where))
    if not isinstance(what, list) or not what:
        raise Error(f"{where}: has no outline ('segmentation'), a box at most; draw one, or take the "
                    "annotation out")
    parts = [points(part, size, where, 3) for part in what]
    if any(isinstance(part[0], list) for part in what):
        raise Error(f"{where}: expected polygons as lists x, y, x, y, ..., found lists of pairs")
    cut = any(outside(part, size) for part in parts)
    masks = [coco_polygon(part, size) for part in parts] if len(parts) > 1 else []
    nested = any(a is not b and a.any() and not (a & ~b).any() for a in masks for b in masks)
    return Shape(label, where, [BEYOND] * cut + crowd + [FILLED] * nested, partial(_joined, parts, size))


def _joined(parts: Sequence[np.ndarray], size: Size) -> np.ndarray:
    return np.logical_or.reduce([coco_polygon(part, size) for part in parts])


# CVAT, and masks in colours

def _cvat(path: Path) -> Drawing:
    """Masks in the colours of labelmap.txt: CVAT's "segmentation mask", and its Pascal VOC."""
    file = path / "labelmap.txt"
    if not file.is_file():
        raise Error(f"{file} is not there: it says which colour is which class")
    colours: Colours = {}
    for number, line in enumerate(read_lines(file, "the map of colours"), 1):
        if not line.strip() or line.startswith("#"):
            continue
        found = re.fullmatch(r"(.+?):(\d{1,3}),(\d{1,3}),(\d{1,3})(:.*)?", line.strip())
        if not found or found[1] in colours:
            raise Error(f"{file}:{number}: expected NAME:RED,GREEN,BLUE::, each name once, found "
                        f"'{line[:60]}'")
        colours[found[1]] = [int(value) for value in found.groups()[1:4]]
    images = next((path / name for name in ("JPEGImages", "images") if (path / name).is_dir()), None)
    return _masks("CVAT", colours, "labelmap.txt's", images, {path / "SegmentationClass": ""})


def _masks(tool: str, colours: Colours, order: str, images: Path | None, folders: dict[Path, str]) -> Drawing:
    """Masks in classes' colours. folders: of masks -> where their images lie below `images`."""
    background = next((name for name in colours if is_background(name)), None)
    rgb = [tuple(colours.pop(background) or ()) if background else (0, 0, 0)]
    rgb += [tuple(colour or ()) for colour in colours.values()]
    if len(set(rgb)) < len(rgb) or max(map(max, rgb)) > 255:
        raise Error(f"{tool}: two classes have one colour (black is background's where none is named), or "
                    f"one is above 255: {'; '.join(f'{n} {c}' for n, c in colours.items())[:200]}")
    legend, names = np.array(rgb, np.uint8), list(colours)
    files = [(file, place + file.relative_to(folder).as_posix())
             for folder, place in folders.items() for file in sorted(folder.rglob("*.png"))]
    if not files:
        raise Error(f"{listed(map(str, folders))} holds no PNG")

    def pictures() -> Iterator[Picture]:
        for file, name in files:
            label = read_label(file, legend=legend)
            shapes = [Shape(names[index - 1], str(file), [], partial(np.equal, label, index))
                      for index in np.unique(label).tolist() if index]
            yield Picture(name, str(file), (label.shape[1], label.shape[0]), shapes)

    return Drawing(tool, colours, order, images, len(files), pictures)


def is_background(name: str) -> bool:
    """Whether a class goes by the name that pixels have where nothing was drawn."""
    return name.strip("_ ").lower() == "background"


# Supervisely

def _supervisely(path: Path) -> Drawing:
    """A project of Supervisely, exported as masks."""
    colours: Colours = {}
    for entry in take(load(path / "meta.json"), "classes", list, str(path / "meta.json")):
        where = f"{path / 'meta.json'}: a class"
        title, colour = named(entry, "title", where), take(entry, "color", str, where)
        if not re.fullmatch("#[0-9a-fA-F]{6}", colour):
            raise Error(f"{where}, '{title}', has the colour '{colour[:40]}', expected #RRGGBB")
        colours[title] = list(bytes.fromhex(colour[1:]))
    machine, human = ([p for p in sorted(path.rglob(kind)) if p.is_dir()]
                      for kind in ("masks_machine", "masks_human"))
    folders = machine or human
    if not folders:
        raise Error(f"{path} has no masks_machine or masks_human below it; export the project as masks (the "
                    "app 'Export as Masks')")
    alone = len(folders) == 1
    images = folders[0].parent / "img" if alone else path
    places = {folder: "" if alone else (folder.parent / "img").relative_to(path).as_posix() + "/"
              for folder in folders}
    if machine:
        file = path / "obj_class_to_machine_color.json"
        colours = load(file)
        if not all(isinstance(rgb, list) and len(rgb) == 3 and all(type(n) is int for n in rgb)
                   and 0 <= min(rgb) and max(rgb) < 256 for rgb in colours.values()):
            raise Error(f"{file}: expected colours of three numbers from 0 to 255")
    return _masks("Supervisely", colours, "the project's", images, places)
