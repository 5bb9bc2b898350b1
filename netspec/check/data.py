"""The `data check` command: every image and label of a data set opened once, and what is wrong with them."""

import hashlib
import signal
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import combinations
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..base import log
from ..base.errors import Error
from ..base.files import find
from ..base.table import table
from ..data import feed
from ..data.balance import by_class, pixel_counts, weights
from ..data.images import check_labels, size
from ..data.layouts import LAYOUTS, Images, Labels, facts_of, layout
from ..data.segmentation import SegmentationData
from ..look import pictures as report
from ..net import graph
from ..ops.base import REGISTRY, Context
from ..ops.softmax import Classified, ignored_label
from ..proto import caffe_pb2
from ..proto import text as prototext
from ..proto.text import SOLVER
from ..train import jobs

KINDS = {  # what a finding is -> (its heading, whether training breaks on it)
    "missing": ("files that are not there", True),
    "unreadable": ("files that cannot be read", True),
    "colours": ("labels whose colours are no classes", True),
    "sizes": ("images and labels that differ in size", True),
    "stray": ("labels outside the classes (a data set file's 'values' says what numbers mean, 'nearest' undoes JPEG)", True),
    "loss": ("losses that do not fit the labels", True),
    "spare": ("losses that labels fit, but not exactly", False),
    "void": ("labels that are void all over", False),
    "blank": ("images of one colour all over", False),
    "absent": ("classes that never occur", False),
    "shared": ("images in two splits, equal in every pixel", False),
    "names": ("names in two splits, for different images", False),
    "twice": ("images more than once in a split, equal in every pixel", False),
    "mean": ("a mean far from the one that is subtracted", False),
}
APART = 15.0  # of 255: how far the mean of a channel may be from the one used
SPLITS = ("train", "trainval", "training", "all", "val", "test")  # of a folder; the 2nd to 4th only without those before
CELL, ROWS, MARK = 200, 8, (255, 0, 255)  # of the contact sheet: pixels, images a column, the colour of what is wrong
Finding = tuple[str, str]  # its kind, and where and what


class Item(NamedTuple):
    """What was found out about an image and its labels; None and empty where they could not be read.

    counts: top -> label value -> pixels. total: of each channel as fed, over the image. digest: of its pixels.
    """

    findings: list[Finding]
    size: tuple[int, int] | None
    counts: dict[str, dict[int, int]]
    total: np.ndarray | None
    digest: bytes


class Part:
    """A split that was checked. `items` is parallel to the source's names, `labels` has the facts of each top of labels."""

    def __init__(self, source: SegmentationData, title: str) -> None:
        self.source, self.title = source, title
        self.items: list[Item] = []
        self.labels = {top: facts_of(source.layout, top) for top, kind in zip(source.tops_read, source.kinds, strict=True)
                       if isinstance(kind, Labels)}

    def pixels(self, top: str) -> tuple[np.ndarray, np.ndarray]:
        """Of each class, and of void, in each image: (images, classes + 1); and of all values, (images)."""
        return by_class([item.counts.get(top, {}) for item in self.items], self.labels[top])

    def mean(self) -> np.ndarray:
        """Over all pixels of the images that can be read, as fed (BGR); NaN without any."""
        read = [item for item in self.items if item.size]
        pixels = sum(item.size[0] * item.size[1] for item in read)
        return sum(item.total for item in read) / pixels if pixels else np.full(len(self.source.mean), np.nan)


def sources(path: Path, dataset: str | None = None) -> tuple[list[SegmentationData], list[jobs.Job], list[str]]:
    """The data of a net, of a solver's nets, of a folder or data set file; the nets; sentences about what is not checked."""
    if path.is_dir() or path.suffix == ".txt":
        return _on_disk(path, dataset), [], []
    base, nets = path.resolve().parent, [jobs.Job(caffe_pb2.TRAIN, "net", str(path), caffe_pb2.NetState())]
    if SOLVER.search(prototext.read_text(path)):
        train, tests = jobs.jobs(prototext.read_solver(path), str(path))
        nets = [train, *tests]
    found, passed = {}, {}
    for job in nets:
        file = find(job.net, base, "net") if isinstance(job.net, str) else path
        for layer in (prototext.read_net(file) if isinstance(job.net, str) else job.net).layer:
            kind = REGISTRY[layer.type].resolve(layer, f"{file}: ") if layer.type in REGISTRY and not layer.bottom else None
            if kind and issubclass(kind, SegmentationData):
                made = kind(layer, (), Context(base=file.resolve().parent, where=f"{file}: "))
                found.setdefault(_mark(made), made)
            elif kind:
                passed[f"{file}: layer '{layer.name}' ({layer.type}) is not checked: it is no SegmentationData"] = True
    if not found:
        raise Error(f"{path}: has no layer of SegmentationData, whose images and labels could be checked")
    return list(found.values()), nets, list(passed)


def _mark(source: SegmentationData) -> tuple:
    """Equal where the images are."""
    return source.dataset, source.root.resolve(), *source.names


def fits(net: graph.Graph, parts: Sequence[Part]) -> list[Finding]:
    """The losses of a net with another number of classes, or another ignore_label, than the labels that they read."""
    findings: list[Finding] = []
    labels = {value: (node.op, top) for node in net.sources if isinstance(node.op, SegmentationData)
              for value, top, kind in zip(node.tops, node.op.tops_read, node.op.kinds, strict=True) if isinstance(kind, Labels)}
    for node in net.nodes:
        if not (node.op.loss and isinstance(node.op, Classified) and node.bottoms[1] in labels):
            if node.bottoms and node.bottoms[0] in labels:  # a part of them
                labels |= dict.fromkeys(node.tops, labels[node.bottoms[0]])
            continue
        source, top = labels[node.bottoms[1]]
        part = next(part for part in parts if _mark(part.source) == _mark(source))
        names, void = part.labels[top].names, part.labels[top].void
        classes, ignored = net.shapes[node.bottoms[0]][node.op.channel], ignored_label(node.op.layer.loss_param)
        where = f"net '{net.name}': layer '{node.name}'"
        if classes != len(names):
            findings.append(("loss" if classes < len(names) else "spare",
                             f"{where} has {classes} classes, the labels '{top}' of data set '{source.dataset}' {len(names)}"))
        if ignored != void and (void is not None or ignored in range(classes)):
            breaks = ignored in range(len(names)) or part.pixels(top)[0][:, -1].any()
            findings.append(("loss" if breaks else "spare", f"{where} has ignore_label {ignored}, in the labels '{top}' of data "
                             f"set '{source.dataset}' void is {void}"))
    return findings


def _on_disk(path: Path, dataset: str | None) -> list[SegmentationData]:
    """The splits of a folder or data set file; what a folder is, its path tells where it is not said."""
    folders = {*path.absolute().parts, *path.resolve().parts}
    likely = [name for name, known in LAYOUTS.items() if Path(known.root).parts[1] in folders]
    if path.is_dir() and not dataset and len(likely) != 1:
        raise Error(f"{path}: name its data set by --dataset ({', '.join(LAYOUTS)}, or a data set file)")
    dataset = dataset or (likely[0] if path.is_dir() else str(path))
    found, errors = [], []
    for split in SPLITS:
        param = {"dataset": dataset, "split": split} | ({"root": str(path)} if path.is_dir() else {})
        layer = caffe_pb2.LayerParameter(name=dataset, type="Python", top=layout(dataset).default)
        layer.python_param.param_str = str(param)
        try:
            found += [SegmentationData(layer, (), Context())] if not found or split not in SPLITS[1:4] else []
        except Error as error:
            errors.append(error)
    if not found:
        raise errors[0]
    return found


_sources: Sequence[SegmentationData] = ()  # in the processes that look


def _begin(given: Sequence[SegmentationData]) -> None:
    global _sources
    _sources = given
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the caller answers Ctrl-C


def look(given: Sequence[SegmentationData], processes: int, said: log.Log) -> list[Part]:
    """Open everything once, in parallel; Error if a process dies over it."""
    splits = [source.split for source in given]
    parts = [Part(source, name if splits.count(name) == 1 else f"{name} {number}")
             for number, (source, name) in enumerate(zip(given, splits, strict=True), 1)]
    places = [(number, index) for number, source in enumerate(given) for index in range(len(source))]
    pool = ProcessPoolExecutor(processes, get_context(feed.START), _begin, (tuple(given),))
    done = 0
    try:
        for item in pool.map(_look, places, chunksize=4):
            parts[places[done][0]].items.append(item)
            done += 1
            said.progress("check", done, len(places), "", 1)
    except BrokenProcessPool:
        file = given[places[done][0]].paths(places[done][1])[0]
        raise Error(f"a process that reads died, at {file} or soon after; if memory ran out, give fewer --jobs") from None
    finally:
        pool.shutdown(cancel_futures=True)
        said.close()
    return parts


def _tops(source: SegmentationData, index: int, findings: list[Finding]) -> dict[str, tuple[Path, np.ndarray]]:
    """The first file and the array of each top of an image, as stored (whatever `resize` says), if it can be read."""
    tree, split, name = source.entries[index]
    tops = {}
    for top, kind in zip(source.tops_read, source.kinds, strict=True):
        paths = tree.files(top, split, name)
        gone = [("missing", str(path)) for path in paths if not path.is_file()]
        findings += gone
        try:
            if not gone:
                tops[top] = paths[0], tree.read(top, split, name, 1.0)
        except (Error, OSError) as error:
            coloured = isinstance(kind, Labels) and " colours " in str(error)
            findings.append(("colours" if coloured else "unreadable", str(error)))
    return tops


def _look(place: tuple[int, int]) -> Item:
    """Open an image of the list of a source and its labels."""
    findings: list[Finding] = []
    source = _sources[place[0]]
    tops = _tops(source, place[1], findings)
    counts, shape, total, digest = {}, None, None, b""
    for top, (path, pixels) in tops.items():
        kind = source.layout.tops[top]
        other, first = next(iter(tops.values()))
        if pixels.shape[:2] != first.shape[:2]:
            findings.append(("sizes", f"{other} is {size(first)}, {path} is {size(pixels)}"))
        if isinstance(kind, Labels):
            counts[top] = pixel_counts(pixels)
            wrong = check_labels(pixels, len(facts_of(source.layout, top).names), kind.void)
            findings += [("stray", f"{path}: {wrong}")] * bool(wrong) + [("void", str(path))] * (set(counts[top]) == {kind.void})
        elif shape is None:
            shape, digest = pixels.shape[1::-1], hashlib.blake2b(str(pixels.shape).encode() + pixels.tobytes()).digest()
            total = pixels.sum((0, 1), np.float64)[list(kind.order or range(pixels.shape[2]))]
            findings += [("blank", str(path))] * bool((pixels == pixels[0, 0]).all())
    return Item(findings, shape, counts, total, digest)


def across(parts: Sequence[Part]) -> list[Finding]:
    """What no single image shows: doubles, absent classes, a mean that is not the training images'."""
    findings: list[Finding] = []
    held: list[dict[bytes, list[str]]] = [defaultdict(list) for _ in parts]
    for part, names in zip(parts, held, strict=True):
        for name, item in zip(part.source.names, part.items, strict=True):
            names[item.digest].append(name)
        names.pop(b"", None)  # of those that cannot be read
        findings += [("twice", f"{part.title}: {', '.join(same)}") for same in names.values() if len(same) > 1]
        findings += [("absent", f"{part.title}: {name}") for top, facts in part.labels.items()
                     for name, count in zip(facts.names, part.pixels(top)[0].sum(0), strict=False) if not count]
        if "val" not in part.title and "test" not in part.title and (np.abs(part.mean() - part.source.mean) > APART).any():
            findings.append(("mean", f"{part.title}: {_numbers(part.mean())}, used: {_numbers(part.source.mean)}"))
    for (a, mine), (b, theirs) in combinations(zip(parts, held, strict=True), 2):
        both = [key for key in mine if key in theirs]
        findings += [("shared", f"{a.title} {mine[key][0]} = {b.title} {theirs[key][0]}") for key in both]
        others = set(b.source.names) - {name for key in both for name in mine[key]}
        findings += [("names", f"{a.title}, {b.title}: {name}") for name in a.source.names if name in others]
    return findings


def summary(parts: Sequence[Part]) -> str:
    """A table with a line a split, and for each top of labels one with a line a class; the weights are of the first split."""
    rows = []
    for part in parts:
        read = [item.size for item in part.items if item.size]
        sizes = " to ".join(f"{w}x{h}" for w, h in dict.fromkeys([min(read), max(read)])) if read else None
        rows.append([part.title, len(part.items), len(read), sizes, _numbers(part.mean()), _numbers(part.source.mean)])
    lines = [table(rows, ["split", "images", "read", "size", "mean BGR", "mean used"])]
    for top, facts in parts[0].labels.items():
        columns = {f"class of '{top}'": [*facts.names, "(void)"]}
        for part in parts:
            if top in part.labels and part.labels[top].names == facts.names:
                pixels, total = part.pixels(top)
                columns[f"{part.title} %"] = [f"{100 * n / max(total.sum(), 1):.3f}" for n in pixels.sum(0)]
                columns[f"{part.title} images"] = [*(pixels > 0).sum(0)]
        pixels, total = parts[0].pixels(top)
        columns["weight"] = [f"{w:.4f}" if np.isfinite(w) else None for w in weights(pixels[:, :-1], total)] + [None]
        lines += ["", table(list(zip(*columns.values(), strict=True)), list(columns))]
    return "\n".join(lines)


def listed(findings: Iterable[Finding], most: int | None) -> str:
    """The findings by kind, those that break training first; at most so many of a kind."""
    lines = []
    for kind, (heading, breaks) in KINDS.items():
        texts = [text for found, text in findings if found == kind]
        if texts:
            lines += [f"{'error' if breaks else 'warning'}: {heading}: {len(texts)}", *(f"  {text}" for text in texts[:most])]
        if texts[most or len(texts):]:
            lines.append(f"  ... and {len(texts) - most} more (--all lists them)")
    return "\n".join(lines)


def contact_sheet(parts: Sequence[Part]) -> Image.Image:
    """Images beside their labels, those with findings before others; what is wrong has a frame, its pixels are MARK."""
    columns, seen = [], {report.VOID}
    for part in parts:
        wide = max(1, min(4 // len(parts), -(-len(part.items) // ROWS)))
        count = min(ROWS * wide, len(part.items))
        wrong = [i for i, item in enumerate(part.items) if item.findings]
        spread = np.linspace(0, len(part.items) - 1, count).astype(int).tolist()
        cells = [_cell(part, index, seen) for index in sorted(list(dict.fromkeys(wrong[:count] + spread))[:count])]
        cells += [Image.new("RGB", (1, 1), report.PAPER)] * (ROWS * wide - count)
        columns += [(part.title, cells[i * ROWS : (i + 1) * ROWS]) for i in range(wide)]
    facts = next(iter(parts[0].labels.values()), parts[0].source.facts)
    legend = report.keys(np.array(sorted(seen)), facts.palette, facts.names)
    return report.sheet(columns, legend=[*legend, report.Key("not a class", MARK)])


def _cell(part: Part, index: int, seen: set[int]) -> Image.Image:
    """An image, and it under its first labels' colours, above its name and first finding; adds to the classes seen."""
    item, tops = part.items[index], _tops(part.source, index, [])
    top, facts = next(iter(part.labels.items()), ("", part.source.facts))
    halves = [_picture(pixels, part.source.layout.tops[name]) for name, (_, pixels) in tops.items() if name not in part.labels]
    halves = halves[:1] or [Image.new("RGB", (CELL, CELL // 2), report.RULE)]
    halves.insert(1, Image.new("RGB", halves[0].size, report.RULE))
    label = tops[top][1] if top in tops else None
    if label is not None and label.shape == halves[0].size[::-1]:
        classes = np.isin(label, range(len(facts.names)))
        seen |= set(label[classes].tolist())
        coloured = np.array(report.colour(np.where(classes, label, report.VOID), facts.palette))
        coloured[~classes & (label != facts.void)] = MARK
        halves[1] = Image.blend(halves[0], Image.fromarray(coloured), 0.7)
    height = max(1, min(2 * CELL, round(CELL * halves[0].height / halves[0].width)))
    cell = Image.new("RGB", (2 * CELL + 2, height + 18), report.PAPER)
    for i, half in enumerate(halves):
        cell.paste(half.resize((CELL, height), Image.Resampling.BILINEAR), (i * (CELL + 2), 0))
    draw = ImageDraw.Draw(cell)
    text = ": ".join([part.source.names[index], *dict(item.findings[:1])])
    draw.text((2, height + 2), text, report.INK, ImageFont.load_default(12))
    if item.findings:
        draw.rectangle((0, 0, cell.width - 1, height), outline=MARK, width=4)
    return cell


def _picture(pixels: np.ndarray, kind: Images) -> Image.Image:
    """The first three channels (or one) as fed, BGR, as a picture; numbers that are no bytes are stretched."""
    seen = pixels[..., list(kind.order) or slice(None)][..., :3][..., ::-1]
    if seen.dtype != np.uint8:
        seen = (seen * (255 / max(np.percentile(seen, 99), 1e-6))).clip(0, 255).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(np.broadcast_to(seen, (*seen.shape[:2], 3))))


def _numbers(values: Iterable[float]) -> str:
    return ", ".join(f"{v:.1f}" for v in values)
