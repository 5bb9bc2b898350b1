"""`data check`: every image and label of a data set opened once, and what is wrong with them."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, suppress
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from ..base.errors import Error
from ..base.log import Log
from ..base.machine import cores
from ..base.pool import Died, spread
from ..base.table import table
from ..data.balance import by_class, pixel_counts, unseen, weights
from ..data.images import check_labels, open_image, size, turn_cure, turn_of
from ..data.layouts import Labels, facts
from ..data.pictured import Pictured, shared
from ..data.segmentation import SegmentationData
from ..net.graph import Graph, Value
from ..ops.softmax import Classified, ignored_label
from . import patches
from .given import mark

Kinds = Mapping[str, tuple[str, bool]]
UNLISTED = "lists that the data set file names, of which none is there", False
KINDS: Kinds = {  # what a finding is -> (its heading, whether training breaks on it)
    "missing": ("files that are not there", True),
    "unreadable": ("files that cannot be read", True),
    "colours": ("labels that cannot be taken for classes", True),
    "sizes": ("images and labels that differ in size", True),
    "unlisted": UNLISTED,
    "side": ("patches of another size than the data set's", True),
    "depth": ("bands of another depth than the data set's", True),
    "scene": ("truths of scenes that cannot be scored against", True),
    "stray": ("labels outside the classes (a data set file's 'values' says what numbers mean, "
              "'nearest' undoes JPEG)", True),
    "unseen": ("classes that the training labels never show", True),
    "loss": ("losses that do not fit the labels", True),
    "spare": ("losses that labels fit, but not exactly", False),
    "void": ("labels that are void all over", False),
    "turned": ("images with an EXIF turn, which is not applied; their size does not tell whether labels were "
               "drawn on the turned picture (--sheet shows it, mogrify -auto-orient stores images turned)",
               False),
    "blank": ("images of one colour all over", False),
    "absent": ("classes that never occur", False),
    "named": ("patches whose names tell no place in a scene", False),
    "lacking": ("scenes with patches missing (score wants --partial)", False),
    "lists": ("lists of patches that do not fit what is there", False),
    "trained": ("images of the training split in another one", True),
    "shared": ("images in two splits, equal in every pixel", False),
    "names": ("names in two splits, for different images", False),
    "twice": ("images more than once in a split, equal in every pixel", False),
    "mean": ("a mean far from the one that is subtracted", False),
}
APART = 15.0  # of 255: how far the mean of a channel may be from the one used
Finding = tuple[str, str]  # its kind, and where and what


class Item(NamedTuple):
    """What was found out about an image and its labels; zeros and nothing where they could not be read.

    size: width and height. counts: top -> label value -> pixels. total: of each channel as fed, over the
    image. digest: of its pixels.
    """

    findings: list[Finding]
    size: tuple[int, int]
    counts: dict[str, dict[int, int]]
    total: np.ndarray
    digest: bytes
    margin: int | None = None  # of a patch of a scene: pixels that are 0 in every band


class Part:
    """A split that was checked.

    `items` is parallel to the source's names, `labels` has the facts of each top of labels.
    """

    def __init__(self, source: SegmentationData, title: str) -> None:
        self.source, self.title = source, title
        self.items: list[Item] = []
        self.labels = {top: facts(source.layout, top) for top in source.labels}
        self.training = source.context.training

    @property
    def digests(self) -> list[bytes]:
        return [b"" if item.margin == item.size[0] * item.size[1] else item.digest for item in self.items]

    def pixels(self, top: str) -> tuple[np.ndarray, np.ndarray]:
        """Of each class, and of void, in each image: (images, classes + 1); and of all values, (images)."""
        return by_class([item.counts.get(top, {}) for item in self.items], self.labels[top])

    def mean(self) -> np.ndarray:
        """Over all pixels of the images that can be read, as fed (BGR); NaN without any."""
        pixels = sum(item.size[0] * item.size[1] for item in self.items)
        total = sum((item.total for item in self.items), np.zeros_like(self.source.mean, np.float64))
        return total / (pixels or np.nan)


def fits(net: Graph, parts: Sequence[Part]) -> list[Finding]:
    """The losses of a net that do not fit the labels that they read.

    They have another number of classes, or another ignore_label.
    """
    findings: list[Finding] = []
    labels: dict[Value, tuple[SegmentationData, str]] = {}
    for node in net.sources:
        if isinstance(node.op, SegmentationData):
            labels |= {value: (node.op, top) for value, top in zip(node.tops, node.op.tops_read, strict=True)
                       if top in node.op.labels}
    for node in net.nodes:
        if not (node.op.loss and isinstance(node.op, Classified) and node.bottoms[1] in labels):
            if node.bottoms and node.bottoms[0] in labels:  # a part of them
                labels |= dict.fromkeys(node.tops, labels[node.bottoms[0]])
            continue
        source, top = labels[node.bottoms[1]]
        part = next(part for part in parts if mark(part.source) == mark(source))
        count, void = len(part.labels[top].names), part.labels[top].void
        classes = net.shapes[node.bottoms[0]][node.op.channel]
        ignored = ignored_label(node.op.layer.loss_param)
        where = f"net '{net.name}': layer '{node.name}'"
        told = f"the labels '{top}' of data set '{source.dataset}'"
        if classes != count:
            findings.append(("loss" if classes < count else "spare",
                             f"{where} has {classes} classes, {told} {count}"))
        if ignored != void and (void is not None or ignored in range(classes)):
            breaks = ignored in range(count) or part.pixels(top)[0][:, -1].any()
            findings.append(("loss" if breaks else "spare",
                             f"{where} has ignore_label {ignored}, in {told} void is {void}"))
    return findings


def look(given: Sequence[SegmentationData], processes: int, said: Log) -> list[Part]:
    """Open everything once, in parallel; Error if a process dies over it."""
    splits = [source.split for source in given]
    parts = [Part(source, name if splits.count(name) == 1 else f"{name} {number}")
             for number, (source, name) in enumerate(zip(given, splits, strict=True), 1)]
    places = [(number, index) for number, source in enumerate(given) for index in range(len(source))]
    processes = min(processes, len(places), 4 * cores())  # all begin at once
    done = 0
    with closing(said):
        try:
            for item in spread(partial(_look, tuple(given)), places, max(processes, 1)):
                parts[places[done][0]].items.append(item)
                done += 1
                said.progress("check", done, len(places), "", 1)
        except Died as death:
            number, index = places[death.number]
            raise Error(f"a process that reads died, at {given[number].paths(index)[0]} or soon after; if "
                        "memory ran out, give fewer --jobs") from None
        except OSError:  # which names nothing
            raise Error("no process can be started to read the images: is the limit of open files or of "
                        "processes reached?") from None
    return parts


Tops = dict[str, tuple[Path, np.ndarray]]  # top -> its first file, and what is in it


def read_tops(source: SegmentationData, index: int) -> tuple[Tops, list[Finding]]:
    """The tops of an image that can be read, as stored, whatever `resize` says; why the others cannot."""
    tree, split, name = source.entries[index]
    tops: Tops = {}
    findings: list[Finding] = []
    for top in source.tops_read:
        paths = tree.files(top, split, name)
        gone = [("missing", str(path)) for path in tree.lacking(top, split, name)]
        findings += gone
        try:
            if not gone:
                tops[top] = paths[0], tree.read(top, split, name, 1.0)
        except (Error, OSError) as error:
            coloured = top in source.labels and " colours " in str(error)
            findings.append(("colours" if coloured else "unreadable", str(error)))
    return tops, findings


def _look(given: Sequence[SegmentationData], place: tuple[int, int]) -> Item:
    """Open an image of the list of a source and its labels."""
    source = given[place[0]]
    tops, findings = read_tops(source, place[1])
    counts: dict[str, dict[int, int]] = {}
    seen, total, digest = (0, 0), np.zeros(len(source.mean)), b""
    for top, (path, pixels) in tops.items():
        other, first = next(iter(tops.values()))
        if pixels.shape[:2] != first.shape[:2]:
            cure = turn_cure(other, first.shape, pixels.shape)
            findings.append(("sizes", f"{other} is {size(first)}, {path} is {size(pixels)}{cure}"))
        kind = source.layout.tops[top]
        if isinstance(kind, Labels):
            counts[top] = pixel_counts(pixels)
            wrong = check_labels(pixels, len(facts(source.layout, top).names), kind.void)
            if wrong:
                findings.append(("stray", f"{path}: {wrong}"))
            if set(counts[top]) == {kind.void}:
                findings.append(("void", str(path)))
        elif not digest:
            seen = pixels.shape[1], pixels.shape[0]
            digest = hashlib.blake2b(str(pixels.shape).encode() + pixels.tobytes()).digest()
            total = pixels.sum((0, 1), np.float64)[list(kind.order or range(pixels.shape[2]))]
            if (pixels == pixels[0, 0]).all():
                findings.append(("blank", str(path)))
            with suppress(Error), open_image(path) as image:
                turn = turn_of(image)
                if turn != 1 and (turn < 5 or seen[0] == seen[1]):
                    findings.append(("turned", f"{path} (orientation {turn})"))
    margin = None
    if source.layout.patches:
        findings += patches.of_patch(source, place[1], {top: pixels for top, (_, pixels) in tops.items()})
        bands = [pixels for top, (_, pixels) in tops.items() if top not in source.labels]
        margin = patches.margin(bands[0]) if bands else None
    return Item(findings, seen, counts, total, digest, margin)


def across(parts: Sequence[Part]) -> list[Finding]:
    """What no single image shows: doubles, absent classes, a mean that is not the training images'."""
    findings = doubles(parts)
    for part in parts:
        if part.source.layout.patches:
            findings += patches.of_split(part.source, [item.margin for item in part.items])
        for top, known in part.labels.items():
            counts: Counter[int] = sum((Counter(item.counts.get(top)) for item in part.items), Counter())
            if part.training and counts and (told := unseen(counts, part.source, top)):
                findings += [("unseen", text) for text in told]
                continue
            absent = (name for i, name in enumerate(known.names) if not counts[i])
            findings += [("absent", f"{part.title}: {name}") for name in absent]
        used = part.source.mean
        if part.training and (np.abs(part.mean() - used) > APART).any():
            findings.append(("mean", f"{part.title}: {_numbers(part.mean())}, used: {_numbers(used)}"))
    return findings


class Looked(Protocol):
    """A split whose images were looked at; `digests` are of their pixels, b"" of those that can't be read."""

    @property
    def source(self) -> Pictured: ...

    @property
    def title(self) -> str: ...

    @property
    def digests(self) -> Sequence[bytes]: ...


def doubles(parts: Sequence[Looked]) -> list[Finding]:
    """Images that are there twice, also in two splits, and names that are there for different ones."""
    findings: list[Finding] = []
    held: list[dict[bytes, list[str]]] = []  # digest -> the names of a part's images that have it
    for part in parts:
        names: dict[bytes, list[str]] = {}
        for name, digest in zip(part.source.names, part.digests, strict=True):
            if digest:
                names.setdefault(digest, []).append(name)
        held.append(names)
        twice = (", ".join(same) for same in names.values() if len(same) > 1)
        findings += [("twice", f"{part.title}: {same}") for same in twice]
    for (a, mine), (b, theirs) in combinations(zip(parts, held, strict=True), 2):
        both = [key for key in mine if key in theirs]
        trained = a.source.context.training or b.source.context.training
        overlapping = shared(a.source, b.source) if both and trained else ""
        if overlapping:
            findings.append(("trained", overlapping))
        elif not (a.source.overlap or b.source.overlap):
            kind = "trained" if trained and not a.source.layout.facts else "shared"
            findings += [(kind, f"{a.title} {mine[key][0]} = {b.title} {theirs[key][0]}") for key in both]
        others = set(b.source.names) - {name for key in both for name in mine[key]}
        findings += [("names", f"{a.title}, {b.title}: {name}") for name in a.source.names if name in others]
    return findings


def tallied(parts: Sequence[Part]) -> dict[str, Any]:
    """What there is to say of the data, for JSON; None where there is no number.

    splits: of each its title, images, and how many could be read, the least and the largest size (width,
    height), the mean and that which is subtracted (BGR). classes: top -> of each class, void last, its
    weight by the first split, and in each split the pixels, their share, and the images that show it.
    """
    splits = []
    for part in parts:
        read = [item.size for item in part.items if item.digest]
        mean = part.mean().tolist() if read else None
        splits.append({"split": part.title, "images": len(part.items), "read": len(read),
                       "sizes": [list(min(read)), list(max(read))] if read else None,
                       "mean": mean, "mean_used": np.asarray(part.source.mean).tolist()})
    classes = {}
    for top, known in parts[0].labels.items():
        pixels, total = parts[0].pixels(top)
        found = [float(w) if np.isfinite(w) else None for w in weights(pixels[:, :-1], total)]
        rows: list[dict[str, Any]] = [{"name": name, "weight": weight, "splits": {}} for name, weight in
                                      zip([*known.names, "(void)"], [*found, None], strict=True)]
        classes[top] = rows
        for part in parts:
            if top in part.labels and part.labels[top].names == known.names:
                pixels, total = part.pixels(top)
                for row, counts in zip(rows, pixels.T, strict=True):
                    row["splits"][part.title] = {
                        "pixels": int(counts.sum()), "share": float(counts.sum() / max(total.sum(), 1)),
                        "images": int((counts > 0).sum())}
    return {"splits": splits, "classes": classes}


def summary(parts: Sequence[Part]) -> str:
    """A table with a line a split, and for each top of labels one with a line a class.

    The weights are of the first split.
    """
    told = tallied(parts)
    rows = [[part["split"], part["images"], part["read"], between(part["sizes"]),
             part["mean"] and _numbers(part["mean"]), _numbers(part["mean_used"])] for part in told["splits"]]
    lines = [table(rows, ["split", "images", "read", "size", "mean BGR", "mean used"])]
    for top, classes in told["classes"].items():
        titles = list(classes[0]["splits"])
        rows = [[each["name"], *(cell for part in each["splits"].values()
                                 for cell in (f"{100 * part['share']:.3f}", part["images"])),
                 None if each["weight"] is None else f"{each['weight']:.4f}"] for each in classes]
        heads = [head for title in titles for head in (f"{title} %", f"{title} images")]
        lines += ["", table(rows, [f"class of '{top}'", *heads, "weight"])]
    return "\n".join(lines)


def between(sizes: Sequence[Sequence[int]] | None) -> str | None:
    """The least and the largest of some sizes (width, height) in words."""
    return " to ".join(f"{w}x{h}" for w, h in dict.fromkeys(map(tuple, sizes))) if sizes else None


def as_json(findings: Iterable[Finding], kinds: Kinds = KINDS) -> list[dict[str, str]]:
    """The findings in the order of `listed`: kind, level (error or warning), what, where."""
    findings = list(findings)
    return [{"kind": kind, "level": "error" if breaks else "warning", "what": heading, "where": text}
            for kind, (heading, breaks) in kinds.items() for found, text in findings if found == kind]


def listed(findings: Iterable[Finding], most: int | None, kinds: Kinds = KINDS) -> list[str]:
    """Lines about the findings by kind, those that break training first; at most so many of a kind."""
    lines = []
    for kind, (heading, breaks) in kinds.items():
        texts = [text for found, text in findings if found == kind]
        if texts:
            lines.append(f"{'error' if breaks else 'warning'}: {heading}: {len(texts)}")
            lines += [f"  {text}" for text in texts[:most]]
        if most and len(texts) > most:
            lines.append(f"  ... and {len(texts) - most} more (--all lists them)")
    return lines


def _numbers(values: Iterable[float]) -> str:
    return ", ".join(f"{v:.1f}" for v in values)
