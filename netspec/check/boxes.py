"""`data check` of data sets with boxes: every image and box looked at once, and what is wrong with them."""

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from functools import partial
from typing import Any, NamedTuple

from PIL import Image

from ..base.errors import Error
from ..base.log import Log
from ..base.table import table
from ..data.boxes import Box
from ..data.detection import DetectionData
from ..data.images import read_image, size, turn_cure
from ..look import pictures
from ..look.boxes import boxed
from .contact import CELL, beside, framed, shown
from .data import UNLISTED, Finding, between, doubles

KINDS = {  # what a finding is -> (its heading, whether training breaks on it)
    "missing": ("files that are not there", True),
    "unreadable": ("files that cannot be read", True),
    "sizes": ("images of another size than their boxes' file says", True),
    "unknown": ("classes that the data set does not have", True),
    "none": ("boxes that are none", True),
    "outside": ("boxes that lie outside the image", True),
    "trained": ("images of the training split in another one", True),
    "unlisted": UNLISTED,
    "away": ("boxes outside the image that are not learned, being difficult or crowds", False),
    "shared": ("images in two splits, equal in every pixel", False),
    "names": ("names in two splits, for different images", False),
    "beyond": ("boxes that go beyond the image, which are cut at its border", False),
    "flat": ("boxes without area: one pixel wide or high, as both ends count", False),
    "again": ("boxes of one class that are there twice", False),
    "empty": ("images without a box to learn from (training leaves them out)", False),
    "twice": ("images more than once in a split, equal in every pixel", False),
    "absent": ("classes that never occur", False),
}


class Item(NamedTuple):
    """What was found out about an image; zeros and nothing where it could not be read."""

    findings: list[Finding]
    boxes: Counter[int]  # of each class
    learned: int  # how many of these are truth in training
    size: tuple[int, int]
    digest: bytes  # of its pixels


class Part(NamedTuple):
    """A split that was checked; `items` is parallel to the source's names."""

    source: DetectionData
    title: str
    items: list[Item]

    @property
    def digests(self) -> list[bytes]:
        return [item.digest for item in self.items]


def look(given: Sequence[DetectionData], jobs: int, said: Log) -> list[Part]:
    """Open everything once, by so many threads."""
    splits = [source.split for source in given]
    parts = [Part(source, split if splits.count(split) == 1 else f"{split} {number}", [])
             for number, (source, split) in enumerate(zip(given, splits, strict=True), 1)]
    total, done = sum(map(len, given)), 0
    with closing(said), ThreadPoolExecutor(jobs) as pool:
        for part in parts:
            for item in pool.map(partial(_look, part.source), range(len(part.source))):
                part.items.append(item)
                done += 1
                said.progress("check", done, total, "", 1)
    return parts


def _look(source: DetectionData, index: int) -> Item:
    path, truth = source.paths(index)
    name = source.names[index]
    findings = [("missing", str(file)) for file in (path, truth) if not file.is_file()]
    found, digest = (0, 0), b""
    said, boxes = None, list[Box]()
    try:
        if path.is_file():
            pixels = read_image(path)
            found = pixels.shape[1], pixels.shape[0]
            digest = hashlib.blake2b(str(pixels.shape).encode() + pixels.tobytes()).digest()
    except (Error, OSError) as error:
        findings.append(("unreadable", str(error)))
    try:
        if truth.is_file():
            said, boxes = source.boxes.raw(truth, name)
    except (Error, OSError) as error:
        findings.append(("unreadable", str(error)))
        return Item(findings, Counter(), 0, found, digest)
    if digest and said and said != found:
        cure = turn_cure(path, pixels.shape, (said[1], said[0]))
        findings.append(("sizes", f"{path} is {size(pixels)}, and by {truth} {said[0]}x{said[1]}{cure}"))
    where = f"{truth} ('{name}')" if "{name}" not in source.boxes.kind.files[0] else str(truth)
    within = said or found
    counts, learned = Counter[int](), 0
    for number, box in enumerate(boxes, 1):
        try:
            counts[source.boxes.number(box.label, truth)] += 1
            learned += source.learns(box)
        except Error as error:
            findings.append(("unknown", f"{error}, box {number}"))
        kinds = _wrong(box, within, boxes[: number - 1])
        if not source.learns(box):
            kinds = ["away" if kind == "outside" else kind for kind in kinds]
        findings += [(kind, f"{where}: box {number} ('{box.label:.60}'): {box}, counted from 0")
                     for kind in kinds]
    if truth.is_file() and not any(map(source.learns, boxes)):
        findings.append(("empty", f"{where}{', all of which are difficult or crowds' * bool(boxes)}"))
    return Item(findings, counts, learned, found, digest)


def _wrong(box: Box, within: tuple[int, int], before: Sequence[Box]) -> list[str]:
    """The kinds of what is wrong with a box in an image of a width and height (0: not known)."""
    if box.wrong:
        return ["none"]
    x1, y1, x2, y2 = box.corners
    width, height = within
    kinds = ["flat"] * (x1 == x2 or y1 == y2)
    kinds += ["again"] * any(other[:2] == box[:2] for other in before)
    if not width:
        return kinds
    if x2 < 0 or y2 < 0 or x1 > width - 1 or y1 > height - 1:
        return [*kinds, "outside"]
    return kinds + ["beyond"] * (min(x1, y1) < 0 or x2 > width - 1 or y2 > height - 1)


def sheet(parts: Sequence[Part]) -> Image.Image:
    """Images beside themselves with their boxes, those with findings before others and in a frame."""
    columns: list[tuple[str, list[Image.Image]]] = []
    for part in parts:
        wide, chosen = shown([bool(item.findings) for item in part.items], len(parts))
        columns += beside(part.title, [_cell(part, index) for index in chosen], wide)
    return pictures.sheet(columns)


def _cell(part: Part, index: int) -> Image.Image:
    source, halves = part.source, [Image.new("RGB", (CELL, CELL // 2), pictures.RULE)] * 2
    with suppress(Error, OSError):  # what cannot be read is grey
        path, truth = source.paths(index)
        halves = [Image.fromarray(read_image(path))] * 2
        rows = [[source.boxes.number(box.label, truth), *box.corners, math.nan]
                for box in source.boxes.raw(truth, source.names[index])[1] if not box.wrong]
        halves[1] = boxed(halves[0], rows, source.facts.palette, source.facts.names)
    return framed(halves, source.names[index], part.items[index].findings)


def across(parts: Sequence[Part]) -> list[Finding]:
    """What no single image shows: doubles, also between splits, and absent classes."""
    findings = doubles(parts)
    for part in parts:
        counts, known = sum((item.boxes for item in part.items), Counter[int]()), part.source.facts.names
        findings += [("absent", f"{part.title}: {known[i]}") for i in range(1, len(known)) if not counts[i]]
    return findings


def tallied(parts: Sequence[Part]) -> dict[str, Any]:
    """What there is to say of the data, for JSON.

    splits: of each its title, images, how many could be read, the least and the largest size (width, height;
    None without any), boxes, and those that are learned. classes: under "boxes" of each class its boxes in
    each split and the images that show it.
    """
    splits = []
    for part in parts:
        sizes = sorted(item.size for item in part.items if item.digest)
        splits.append({"split": part.title, "images": len(part.items), "read": len(sizes),
                       "sizes": [list(sizes[0]), list(sizes[-1])] if sizes else None,
                       "boxes": sum(item.boxes.total() for item in part.items),
                       "learned": sum(item.learned for item in part.items)})
    names = parts[0].source.facts.names
    classes = [{"name": name, "splits": {
        part.title: {"boxes": sum(item.boxes[i] for item in part.items),
                     "images": sum(item.boxes[i] > 0 for item in part.items)}
        for part in parts if part.source.facts.names == names}} for i, name in enumerate(names) if i]
    return {"splits": splits, "classes": {"boxes": classes}}


def summary(parts: Sequence[Part]) -> str:
    """A table with a line a split, and one with a line a class."""
    told = tallied(parts)
    rows = [[part["split"], part["images"], part["read"], between(part["sizes"]), part["boxes"],
             part["learned"]] for part in told["splits"]]
    classes = told["classes"]["boxes"]
    counted = [[each["name"], *(cell for part in each["splits"].values() for cell in part.values())]
               for each in classes]
    heads = [f"{title} {what}" for title, part in classes[0]["splits"].items() for what in part]
    return "\n".join([table(rows, ["split", "images", "read", "size", "boxes", "learned"]), "",
                      table(counted, ["class", *heads])])
