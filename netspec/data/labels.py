"""Where labels go that people drew: a data set file, its images and classes; whether all fits is judged."""

import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..base.errors import Error, closest, count, listed
from ..base.files import inside
from .drawn import Drawing, Picture, is_background
from .images import open_image, turn_of
from .layouts import Images, Labels, classes, folder, voc_colours
from .options import read_file
from .tree import stem, suffixes

VOID, REST = -1, -2  # numbers while labels are made: of void, and of pixels where nothing was drawn
VOID_NAMES = ("void", "__ignore__")  # ours, and labelme's
ALL = "*"  # in `renamed`: every class that the list lacks


class Choices(NamedTuple):
    """What only a person can say."""

    overlap: str = "last"  # the shape that counts where two classes lie on each other: last, first or void
    rest: str | None = None  # the class, or void, of pixels where nothing was drawn
    exif: str | None = None  # on what people drew where an EXIF turn leaves the size as it is: stored, turned
    renamed: Mapping[str, str] = {}  # class in the tool -> class of the list, or void
    empty: bool = False  # pictures without a shape get a label too
    overwrite: bool = False  # other labels of the same names


@dataclass
class Target:
    """A data set file, and where it has images and labels; a new one's classes come of what was drawn."""

    file: Path
    images: Path  # their folder
    prefix: str  # what the names of image files have before and behind the image's name
    suffix: str
    labels: str  # the pattern of the labels, below the file's folder
    new: bool
    names: list[str]
    palette: np.ndarray  # uint8 (classes, 3)
    void: int | None = 255

    def label(self, name: str) -> Path:
        return inside(self.file.parent, self.labels.format(name=name))


@dataclass
class Tally:
    """What is counted while pictures are judged and painted."""

    shapes: Counter[str] = field(default_factory=Counter)  # by class
    pictures: Counter[str] = field(default_factory=Counter)
    pixels: Counter[int] = field(default_factory=Counter)  # by number in the labels
    remarks: dict[str, list[str]] = field(default_factory=dict)  # -> where
    overlaps: Counter[tuple[int, int]] = field(default_factory=Counter)  # below and above -> pixels
    overlapping: int = 0  # pictures


class Planned(NamedTuple):
    """A picture's name in the data set, its image if that is there, the EXIF turn to undo, its shapes."""

    name: str
    image: Path | None
    turn: int
    shapes: int


def target(file: Path, drawing: Drawing, images: Path | None, split: str | None) -> Target:
    """What a data set file says, or is to say; Error where it contradicts what is to be written."""
    home = file.parent
    if file.suffix != ".txt" or file.is_dir():
        raise Error(f"--set {file}: a data set file is a text file, whose name ends in .txt")
    if not file.exists():
        place = images or drawing.images
        if place is None:
            raise Error(f"{drawing.tool}'s export holds no images; --images says where they are")
        _below(home, place)
        return Target(file, place, "", ".*", "labels/{name}.png", True, [], np.zeros((0, 3), np.uint8))
    given = read_file(file)
    for key in ("values", "colours", "nearest"):
        if given.get(key):
            raise Error(f"{file}: '{key}' is for other labels; those written here hold the classes' "
                        "numbers: take the line out")
    layout = folder(given, str(file))
    patterns = layout.first(Images).files[0], layout.first(Labels).files[0]
    if any("{split}" in pattern for pattern in patterns) and not split:
        raise Error(f"{file} has a folder a split; --split says which one this is")
    shown, labels = (pattern.replace("{split}", split or "") for pattern in patterns)
    labels = labels.removesuffix(".*") + ".png" if labels.endswith(".*") else labels
    if not labels.endswith(".png"):
        raise Error(f"{file}: the labels are to be '{labels}', and PNGs are what is written")
    path, _, name = shown.rpartition("/")
    if labels == f"{path}/{{name}}.png":
        raise Error(f"{file}: images and labels are both in '{path}'; they need folders of their own")
    prefix, _, suffix = name.partition("{name}")
    known, void = classes(layout, layout.first(Labels)), layout.first(Labels).void
    least = min(len(known.names), 255)
    if void is not None and not least <= void <= 255:
        raise Error(f"{file}: 'void' is {void}; labels written here have it from {least} to 255, beside the "
                    "classes' numbers")
    return Target(file, images or inside(home, path), prefix, suffix, labels, False, list(known.names),
                  known.palette, void)


def _below(home: Path, place: Path) -> str:
    """A folder as a data set file names it; Error if it does not lie below the file's."""
    try:
        found = place.resolve().relative_to(home.resolve()).as_posix()
    except ValueError:
        raise Error(f"{place} does not lie below {home}, where the data set file is; it names "
                    "folders below its own") from None
    if found == ".":
        raise Error(f"{place} is the data set file's own folder, and images and labels need folders of their "
                    "own below it: --images names that of the images")
    return found


class Shelf:
    """The images of a folder, by name."""

    def __init__(self, place: Target) -> None:
        self.place, self.known = place, dict[str, list[Path]]()
        root = place.images
        label = re.compile(".+".join(map(re.escape, str(place.label("\0").absolute()).split("\0"))))
        for path in sorted(root.rglob("*")):
            image = path.suffix.lower() in suffixes() and path.is_file()
            if image and not label.fullmatch(str(path.absolute())):
                self.known.setdefault(self.name(path.relative_to(root).as_posix()), []).append(path)
        self.bases: dict[str, list[str]] = {}  # names without folders -> with
        for name in self.known:
            self.bases.setdefault(name.rpartition("/")[2], []).append(name)

    def name(self, file: str) -> str:
        """The name of an image by its file below the folder."""
        before, slash, base = file.rpartition("/")
        base = stem(base) if self.place.suffix == ".*" else base
        return before + slash + base.removeprefix(self.place.prefix).removesuffix(self.place.suffix)

    def find(self, picture: Picture) -> tuple[str, Path | None]:
        """The name and the file of the image that was drawn on; Error if it could be two."""
        inside(self.place.images, picture.file)
        name = self.name(picture.file)
        for each in (name, self.name(name)):  # some masks are named a.jpg.png
            found = [each] if each in self.known else self.bases.get(each.rpartition("/")[2], [])
            if len(found) == 1:
                name = found[0]
                break
        files = self.known.get(name, [])
        exact = [path for path in files if path.name == picture.file.rpartition("/")[2]] or files
        if len(exact) > 1:
            raise Error(f"{picture.where}: '{picture.file}' may be {exact[0]} or {exact[1].name}; keep one")
        return name, exact[0] if exact else None


def turn_between(picture: Picture, image: Path, exif: str | None) -> int:
    """The EXIF turn between an image as stored and as it was drawn on, as EXIF counts: 1 is none.

    Told by the size; Error where that does not tell and `exif` does not say it, and where no turn explains
    the size.
    """
    with open_image(image) as opened:
        turn, stored = turn_of(opened), opened.size
    swapped = turn >= 5 and stored[0] != stored[1]
    if picture.size == (stored[::-1] if swapped else stored):
        if turn == 1 or swapped:
            return turn
        if exif is None:
            raise Error(f"{image} has an EXIF turn (orientation {turn}) that leaves its size as it is, so "
                        "that nothing tells whether it was drawn on as stored or turned; look, and say "
                        "--exif turned (labelme, CVAT and browsers turn it) or --exif stored")
        return turn if exif == "turned" else 1
    if swapped and picture.size == stored:
        return 1
    raise Error(f"{picture.where}: was drawn on a picture of {picture.size[0]}x{picture.size[1]}, {image} is "
                f"{stored[0]}x{stored[1]}; find the image that it was drawn on")


def judge(drawing: Drawing, place: Target, choices: Choices, shelf: Shelf, tally: Tally,
          step: Callable[[], None]) -> list[Planned]:
    """What is planned for each picture; counts shapes. Error for what contradicts the images."""
    plan: list[Planned] = []
    seen: dict[str, str] = {}
    for picture in drawing.pictures():
        name, image = shelf.find(picture)
        if name in seen:
            raise Error(f"{picture.where}: the image '{name}' has a label already, from {seen[name]}; keep "
                        "one")
        seen[name] = picture.where
        turn = turn_between(picture, image, choices.exif) if image else 1
        plan.append(Planned(name, image, turn, len(picture.shapes)))
        tally.shapes.update(shape.label for shape in picture.shapes)
        tally.pictures.update({shape.label for shape in picture.shapes})
        step()
    if plan and not any(planned.image for planned in plan):
        raise Error(f"none of the {len(plan)} images that were drawn on, such as '{plan[0].name}', is in "
                    f"{place.images}; --images says where they are")
    return plan


def chosen(option: str, name: str, place: Target) -> int:
    """The number of a class that an option names, or VOID; Error for what the list lacks."""
    if name in VOID_NAMES:
        return VOID
    if name not in place.names:
        raise Error(f"{option}: {place.file} has no class '{name}'{closest(name, place.names)} (classes: "
                    f"{listed(place.names)}, or void)")
    return place.names.index(name)


def numbered(drawing: Drawing, place: Target, choices: Choices, tally: Tally) -> tuple[dict[str, int], int]:
    """The number, or VOID, of each class that was drawn, and of pixels where nothing was (REST: not known).

    A new data set file gets its list of classes. Raises Error for what a list lacks.
    """
    if place.new:
        name_classes(drawing, place, choices, tally.shapes)
    for old, new in choices.renamed.items():
        if old not in (ALL, *tally.shapes):
            raise Error(f"--as '{old}={new}': nothing that was drawn is called so"
                        f"{closest(old, tally.shapes)}")
    given = {old: chosen(f"--as '{old}={new}'", new, place) for old, new in choices.renamed.items()}
    known = {name: number for number, name in enumerate(place.names)}
    background = [number for name, number in known.items() if is_background(name)]
    known = {name: number for name in tally.shapes for number in background if is_background(name)} | known
    known |= dict.fromkeys(VOID_NAMES, VOID) | given
    lacking = [f"'{label}' ({count(tally.shapes[label], 'shape')} in "
               f"{count(tally.pictures[label], 'picture')}{closest(label, place.names).rstrip('?')})"
               for label in sorted(tally.shapes) if label not in known]
    if lacking and ALL not in given:
        raise Error(f"{place.file} lacks classes that were drawn: {listed(lacking, 10)}; add a line for "
                    "each, or say what they are: --as NAME=CLASS, --as NAME=void, or --as '*=CLASS' for all "
                    f"of them (classes: {listed(place.names)})")
    if len(place.names) > 255:
        raise Error(f"{len(place.names)} classes are more than the 255 that a palette PNG holds beside void")
    rest = next(iter(background), REST) if choices.rest is None else chosen(
        f"--rest '{choices.rest}'", choices.rest, place)
    return {label: known[label] if label in known else given[ALL] for label in tally.shapes}, rest


def name_classes(drawing: Drawing, place: Target, choices: Choices, drawn: Collection[str]) -> None:
    """The list of a new data set file: what is where nothing was drawn, then the tool's that were drawn."""
    rest = choices.rest or "background"
    colours = {choices.renamed.get(label, label): drawing.classes[label]
               for label in drawing.classes if label in drawn}
    first = [rest] if rest not in VOID_NAMES else []
    place.names = [n for n in dict.fromkeys([*first, *colours]) if n not in VOID_NAMES and
                   (n in first or not (first and is_background(n)))]
    own = voc_colours(max(len(place.names), 1))
    rgb = [colours.get(name) or own[number] for number, name in enumerate(place.names)]
    place.palette = np.array(rgb, np.uint8).reshape(-1, 3)
