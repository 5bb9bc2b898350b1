"""Segmentation data sets on disk: the images of a split, their files, and what is read from them."""

import glob
import math
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
from PIL import Image

from ..base import files
from ..base.errors import Error, closest
from ..proto.text import read_lines
from .images import check_whole, open_image, read_bands, read_image, read_label
from .layouts import LAYOUTS, Derived, Images, Labels, Layout, classes, facts_folder, raw_values
from .shards import meant

DEEP = "I;16"  # Pillow's mode of 16 bits, in whatever order of bytes


class Tree:
    """A data set on disk: what its layout's patterns stand for.

    beside: the folders of other data sets that it needs, which are looked for when they are needed; base:
    where relative paths start (files.find).
    """

    def __init__(self, dataset: str, layout: Layout, root: Path, beside: Mapping[str, str],
                 base: Path | None) -> None:
        self.dataset, self.layout, self.root, self.beside, self.base = dataset, layout, root, beside, base
        self.pattern = layout.first(Images).files[0]
        self.pairs: dict[str, list[Path]] = {}  # name -> image and label, where a list gives both
        self._found: dict[Path, dict[str, list[Path]]] = {}  # folder -> what may stand for a name -> files

    def of(self, dataset: str) -> "Tree":
        """The tree of another data set beside this one."""
        if dataset == self.dataset:
            return self
        known = LAYOUTS.get(dataset, self.layout)  # or another year of the same
        return Tree(dataset, known, self._root(dataset), {}, self.base)

    def _root(self, name: str) -> Path:
        if not name:
            return self.root
        path = self.beside.get(name, self.layout.beside[name])
        return files.find(path, self.base, f"the folder of data set '{name}' (param_str's '{name}'),")

    def path(self, pattern: str, split: str, name: str = "") -> Path:
        """The file that a pattern names, if need be with other capitals in its ending; Error if it leaves the
        root's folder, or several files may be meant."""
        where, _, rest = pattern.partition(":")
        where, rest = (where, rest) if where in self.layout.beside else ("", pattern)
        path = files.inside(self._root(where), rest.format(split=split, name=name))
        if path.suffix != ".*" and path.exists():
            return path
        if path.parent not in self._found:
            self._found[path.parent] = _listing(path.parent)  # whole, for other threads
        first, *others = self._found[path.parent].get(path.stem + path.suffix.lower(), [path])
        if others and path.suffix != ".*":
            raise Error(f"both {first} and {others[0].name} are there for {path.name}; take one of them away")
        if others:
            raise Error(f"both {first} and {others[0].name} are there; say which is meant by a pattern: "
                        f"{pattern.removesuffix('.*')}{first.suffix}")
        return first

    def files(self, top: str, split: str, name: str) -> list[Path]:
        """The files that a top of an image is read from."""
        kind = self.layout.tops[top]
        if name in self.pairs:
            return [self.pairs[name][isinstance(kind, Labels)]]
        paths = [self.path(pattern, split, name) for pattern in kind.files]
        return paths if isinstance(kind, Images) else [next((p for p in paths if p.exists()), paths[-1])]

    def lacking(self, top: str, split: str, name: str) -> list[Path]:
        """The files of a top of an image that are not there."""
        return [path for path in self.files(top, split, name) if not path.is_file()]

    def read(self, top: str, split: str, name: str, resize: float) -> np.ndarray:
        """One top of an image: a label (H, W), as it is fed, or pixels (H, W, C), the channels as stored."""
        kind, paths = self.layout.tops[top], self.files(top, split, name)
        if isinstance(kind, Images):
            if kind.order:
                return read_image(paths[0], resize)
            pixels = read_bands(paths, resize, kind.smooth) * np.float32(kind.scale)
            if kind.log:
                pixels = np.log(pixels, out=np.full_like(pixels, kind.mean), where=pixels > 0)
            return pixels
        values, legend, known = kind.values, None, classes(self.layout, kind)
        lossy = paths[0].suffix.lower() in (".jpg", ".jpeg")
        if isinstance(values, str):
            values = raw_values(self.dataset, values)
        elif kind.nearest:
            values = _candidates(values, len(known.names), kind.void)
        if lossy and not (kind.nearest and (kind.colours or _apart(values))):
            raise Error(f"label {paths[0]} is a JPEG, which changes numbers and colours a little: store "
                        "labels as PNG; or, where what is in them lies far apart, add "
                        f"{self.option('nearest', True)}, with 'values' or 'colours'")
        if kind.colours:
            legend = known.palette if known.void is None else np.vstack([known.palette, [known.void]])
            values = {len(known.names): kind.void} if kind.void is not None else {}
        return read_label(paths[0], resize, key=kind.key, legend=legend, values=values, nearest=kind.nearest,
                          option=self.option)

    def faults(self, top: str, split: str, name: str) -> Iterator[tuple[str, str]]:
        """What the files of a top of a patch of a scene are not, by their headers: "side" or "depth", and a
        sentence. Nothing of images that are no patches. Raises Error for a file that is no whole image."""
        side, label = self.layout.patches, isinstance(self.layout.tops[top], Labels)
        for path in self.files(top, split, name) if side else ():
            with open_image(path, "label" if label else "image") as image:
                mode, size = image.mode, image.size
                check_whole(image, path)
            if size != (side, side):
                yield "side", f"{path} is {size[0]}x{size[1]}, expected {side}x{side}"
            if not label and not mode.startswith(DEEP):
                yield "depth", f"{path} has pixels of kind {mode}, expected 16 bits ({DEEP})"

    def option(self, key: str, value: object) -> str:
        """How a person gives an option of a data set of their own."""
        if self.dataset.endswith(".txt"):
            return f"the line '{key}: {value}' in {self.dataset}"
        return f"the option '{key}': {value!r} in param_str"

    def entries(self, split: str, given: str | None = None) -> list["Entry"]:
        """The images of a split: (tree, split, name) each. given: the list to read, if not the usual one."""
        path = files.find(given, self.root, "the list") if given else self.path(self.layout.lists, split)
        if not path.is_file() and self.layout.facts:
            usual = facts_folder(self.layout) / f"{split}.txt"
            path = usual if usual.is_file() else path
        derived = self.layout.derived.get(split, Derived(()))
        if path.is_file():
            lines = islice(read_lines(path), path.suffix == ".csv", None)
            found = [(self, split, self._name(line, split)) for line in lines if line.strip()]
            if given and derived.of:  # where its names are, its parts tell
                with suppress(Error):
                    parts = {entry[2]: entry for entry in self._derived(split, derived)}
                    found = [parts.get(entry[2], entry) for entry in found]
            try:
                both = {name for _, _, name in found} & self._names(derived.without) if not given else set()
            except Error:  # what it is to have nothing of is not here
                both = set()
            if both:
                raise Error(f"the list {path} shares {len(both)} images with {_words(derived.without)}, of "
                            f"which it is to have none: {', '.join(sorted(both)[:3])}; remove the list, and "
                            "the split is derived")
        elif derived.of:
            found = self._derived(split, derived)
        else:
            found = [(self, split, name) for name in self._all(split, path)]
        if not found:
            raise Error(f"the list {path} is empty")
        return found

    def _derived(self, split: str, derived: Derived) -> list["Entry"]:
        taken = self._names(derived.without)
        lists = [file for file in derived.names if (self.root / file).is_file()] or derived.names
        parts = [entry for dataset, part in derived.of
                 for entry in _share(self.of(dataset).entries(part, *lists[:1]), derived.share)]
        # each name once: in its last place, as the first part has it
        found = list({entry[2]: entry for entry in reversed(parts) if entry[2] not in taken}.values())[::-1]
        if derived.count not in (None, len(found)):
            raise Error(f"split '{split}' has {len(found)} images, expected {derived.count}: it is "
                        f"{_words(derived.of)} without {_words(derived.without)}; is {self.root} the right "
                        "year, and are the lists complete?")
        return found

    def _names(self, parts: Iterable[tuple[str, str]]) -> set[str]:
        return {name for dataset, split in parts for _, _, name in self.of(dataset).entries(split)}

    def _all(self, split: str, path: Path) -> list[str]:
        """The images that there are, for folders of one's own without a list."""
        if self.layout.facts or not (split == "all" or "{split}" in self.pattern):
            lists = sorted(p.stem for p in path.parent.glob(f"*{path.suffix}"))
            raise Error(f"split '{split}' has no list {path}{closest(split, lists)} "
                        f"(there are: {', '.join(lists) or 'none'})")
        before, _, after = self.pattern.format(split=split, name="\0").partition("\0")
        found = self.root.glob(f"{glob.escape(before)}*{ending(after)}")
        there = sorted(p.relative_to(self.root) for p in found)
        return [*dict.fromkeys(self._bare(p.as_posix(), split) for p in there
                               if p.suffix.lower() in suffixes())]

    def _name(self, line: str, split: str) -> str:
        """The name of an image from a line of a list, which may give its path, and the label's after it."""
        line = files.native(line.strip()).removeprefix("./")  # as `find` writes them
        words = line.split(",") if "," in line else line.split("\t") if "\t" in line else line.split()
        if self.layout.facts:
            bare = _without(words[0], Path(self.pattern).suffix)
            return words[0] if bare == words[0] else bare.rpartition("/")[2]
        whole = self._bare(line, split)
        if len(words) == 1 or self.path(self.pattern, split, whole).is_file():  # names may have spaces
            return whole
        name = stem(words[0])
        self.pairs[name] = [files.inside(self.root, word.strip()) for word in words[:2]]
        return name

    def _bare(self, name: str, split: str) -> str:
        """The name in what may be the path of an image."""
        before, _, after = self.pattern.format(split=split, name="\0").partition("\0")
        if before:  # the path may start above the root
            name = f"/{name}".rpartition(f"/{before}")[2].removeprefix("/")
        return stem(name) if after == ".*" else _without(name, after)


Entry = tuple[Tree, str, str]


def _share(entries: Sequence[Entry], share: tuple[float, float]) -> list[Entry]:
    """A part of a list, in its order: what scikit-learn's train_test_split holds out, of random_state 42.

    share: from where to where in the permutation there, of which the first are held out.
    """
    if share == (0, 1):
        return [*entries]
    first, last = (math.ceil(len(entries) * part) for part in share)
    return [entries[i] for i in sorted(np.random.RandomState(42).permutation(len(entries))[first:last])]


def _listing(folder: Path) -> dict[str, list[Path]]:
    """The files of a folder by their names with the ending in small letters, and images by NAME.* too."""
    found = defaultdict(list)
    for entry in sorted(os.listdir(folder)) if folder.is_dir() else ():
        path = folder / entry
        found[path.stem + path.suffix.lower()].append(path)
        if path.suffix.lower() in suffixes():
            found[f"{path.stem}.*"].append(path)
    return found


def ending(after: str) -> str:
    """What follows a name in a pattern, for glob: .* as nothing, another ending in any capitals."""
    start, kind = os.path.splitext("x" + after)
    either = "".join(f"[{c.lower()}{c.upper()}]" if c.isalpha() else glob.escape(c) for c in kind)
    return glob.escape(start[1:]) + either * (kind != ".*")


def _without(name: str, after: str) -> str:
    """A name without what follows it in a pattern, in whose ending capitals don't count."""
    start, kind = os.path.splitext("x" + after)
    cut = len(name) - len(after)
    fits = name[cut:][: len(start) - 1] == start[1:] and name.lower().endswith(kind.lower())
    return name[:cut] if fits and cut >= 0 else name


def _candidates(values: Mapping[int, int], classes: int, void: int | None) -> Mapping[int, int]:
    """What a label stored with loss may have meant: `values`, and the indices that they do not speak of.

    Who names an index as itself has named all that there is.
    """
    if not values or any(number == fed for number, fed in values.items()):
        return values
    others = {*range(classes), *(() if void is None else (void,))} - {*values.values()}
    return {i: i for i in others} | dict(values)


def _apart(values: Mapping[int, int], least: int = 16) -> bool:
    """Whether numbers that mean different things differ so much that JPEG does not confuse them."""
    found = sorted(values.items())
    return all(b[0] - a[0] >= least or a[1] == b[1] for a, b in pairwise(found))


def stem(name: str) -> str:
    """The name of an image's or label's file without its suffix; other names as they are."""
    suffix = Path(name).suffix
    return name.removesuffix(suffix) if suffix.lower() in suffixes() else name


def there(layout: Layout, root: Path, split: str) -> bool:
    """Whether a split is there, by its list or one file with all of its boxes."""
    if layout.shards:
        return any(path.is_file() for path in meant(root, layout.shards, split))
    found = layout.lists, *(file for file in layout.first(Labels).files if "{name}" not in file)
    return any((root / file.format(split=split)).is_file() for file in found
               if "{split}" in file or split == "all")


@cache
def suffixes() -> frozenset[str]:
    """How the names of images and labels end, in small letters."""
    return frozenset(Image.registered_extensions()) | {".mat", ".npy"}


def _words(parts: Iterable[tuple[str, str]]) -> str:
    return " and ".join(f"{dataset} {split}" for dataset, split in parts)
