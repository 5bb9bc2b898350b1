"""Images of one's own, before nets are made for them: their folders, the lists of the splits, the mean."""

import glob
import os
import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..base.errors import Error, closest
from ..base.files import inside, other_capitals, writing
from ..base.log import Log
from ..base.machine import cores
from ..data import boxes
from ..data.boxes import Boxes
from ..data.layouts import Images, Labels, layout
from ..data.options import read_file
from ..data.sharded import on_disk
from ..data.tree import Tree, ending, suffixes

SEED, SHARE = 1, 5  # of the split that is made: one image in so many is for validation


class Split(NamedTuple):
    """Lists to be written: the names of a split's images; images without a label, labels without an image."""

    lists: dict[Path, list[str]]
    unlabelled: list[str]
    unpictured: list[str]


def tree(path: Path, splits: Sequence[str]) -> Tree:
    """The data set that a file describes, once its folders are there and hold something.

    Raises Error for a file or folder that is not there, with the nearest that is.
    """
    if path.is_dir() or path.suffix != ".txt":
        raise Error(f"{path} is {'a folder' if path.is_dir() else 'no .txt'}; a data set file such as "
                    f"{path if path.is_dir() else path.parent}/set.txt is expected, as docs/datasets.md says")
    if not path.is_file():
        there = [file.name for file in path.parent.glob("*.txt")]
        raise Error(f"the data set file {path} is not there{closest(path.name, there)}; docs/datasets.md "
                    "says what it holds")
    if path.stem in splits:
        raise Error(f"the data set file {path} has the name of the list of '{path.stem}'; rename it")
    return (_sharded if "shards" in read_file(path) else _in_folders)(path, splits)


def _sharded(path: Path, splits: Sequence[str]) -> Tree:
    found = layout(str(path))
    if "{split}" not in found.shards:
        raise Error(f"{path}: 'shards: {found.shards:.80}' are those of {' and '.join(splits)} alike; "
                    "{split} in it tells them apart")
    return on_disk(str(path), found, path.parent)


def _in_folders(path: Path, splits: Sequence[str]) -> Tree:
    given = "boxes" in read_file(path)
    found = boxes.layout(str(path)) if given else layout(str(path))
    key, usual = "boxes" if given else "labels", found.first(Labels).files
    pattern = next((each for each in usual if _any(path.parent, each)), usual[-1])
    patterns = {"images": found.first(Images).files[0], key: pattern}
    if given and "{name}" not in pattern:
        patterns.pop(key)
        for split in splits if "{split}" in pattern else splits[:1]:
            if not (file := inside(path.parent, pattern.format(split=split))).is_file():
                raise Error(f"{path}: the file of 'boxes', {file}, is not there")
    if patterns.get("labels") == patterns["images"]:
        raise Error(f"{path}: 'images' and 'labels' are both {patterns['images']}; labels need a folder or "
                    "names of their own")
    for key, pattern in patterns.items():
        for split in splits if "{split}" in pattern else splits[:1]:
            _folder(path, key, pattern.format(split=split, name="\0"))
    return Tree(str(path), found, path.parent, {}, None)


def _folder(path: Path, key: str, pattern: str) -> None:
    """Error unless the folder in a pattern, which has a zero for the name, is there and holds such files."""
    start, _, end = pattern.partition("\0")
    name = start.rpartition("/")[0]
    folder = inside(path.parent, name)
    told = f"{path}: the folder of '{key}'"
    if not folder.is_dir():
        gone = next(each for each in (*reversed(folder.parents), folder) if not each.is_dir())
        there = sorted(entry.name for entry in gone.parent.iterdir() if entry.is_dir())
        line = "" if key in read_file(path) else f"; a line '{key}: FOLDER' names it"
        raise Error(f"{told}, {folder}, is not there{closest(gone.name, there)} (the folders in "
                    f"{gone.parent}: {', '.join(there) or 'none'}){line}")
    first = start.rpartition("/")[2]
    files = folder.glob(re.sub("\0+", "*", f"{glob.escape(first)}\0{ending(end)}"))
    if not any(not end.endswith(".*") or file.suffix.lower() in suffixes() for file in files):
        kind = {"images": "image", "labels": "label"}.get(key, "box file")
        raise Error(f"{told}, {folder}, holds no {kind} {first}NAME{end}".replace("\0", "NAME"))


def _any(root: Path, pattern: str) -> bool:
    """Whether there is a file that a pattern names."""
    whole, kind = os.path.splitext(str(inside(root, pattern)))
    found = glob.escape(whole).replace("{name}", "*").replace("{split}", "*") + ending(kind)
    return bool(glob.glob(found))


def split(data: Tree, train: str, val: str, asked: bool = False) -> Split:
    """The lists that a data set of one's own lacks; none where it has both, or its folders are the splits.

    asked: a person named the two. Images with a label are shuffled by SEED, and one in SHARE is for
    validation. Raises Error where one list of the two is there, or by another name (see `misnamed`), or
    fewer than two images have a label.
    """
    lists = {name: data.path(data.layout.lists, name) for name in (train, val)}
    there = [path for path in lists.values() if path.is_file()]
    truth = next(top for top, kind in data.layout.tops.items() if isinstance(kind, Labels))
    whole = "" if truth == "label" or "{name}" in (file := data.layout.first(Labels).files[0]) else file
    if len(there) == 2 or "{split}" in data.pattern + whole + data.layout.shards:
        return Split({}, [], [])
    misnamed(data.dataset, lists.values(), data.root)
    if there:
        gone = train if there[0] == lists[val] else val
        raise Error(f"split '{gone}' has no list {lists[gone]}, though {there[0]} is there: write it, or "
                    f"move {there[0].name} away to have both made")
    if asked and "lists" in read_file(Path(data.dataset)):
        raise Error(f"{data.dataset}: 'lists: {data.layout.lists}' and --splits name {lists[train]} and "
                    f"{lists[val].name}, which are not there; mend the line or the names, or leave --splits "
                    "out to have lists made")
    names = [name for _, _, name in data.entries("all")]
    labels = {name: data.files(truth, "all", name)[0] for name in names}
    labelled = [name for name in names if labels[name].is_file()]
    spare = [] if whole or not names else _spare(data, names[0], labels)
    if whole:  # one file has them all
        known = [name for _, _, name in boxes.Boxes(data).entries("all")]
        labelled = [name for name in names if name in set(known)]
        spare = [name for name in known if name not in labels]
    if len(labelled) < 2:
        raise Error(f"{data.dataset}: {len(labelled)} of {len(names)} images have a label, and two at "
                    f"least are needed: {labels[names[0]]} would be the first's{_meant(data, names)}")
    shuffled = random.Random(SEED).sample(labelled, len(labelled))
    count = max(1, round(len(labelled) / SHARE))
    made = {lists[train]: sorted(shuffled[count:]), lists[val]: sorted(shuffled[:count])}
    return Split(made, [name for name in names if name not in set(labelled)], spare)


def misnamed(dataset: str, lists: Iterable[Path], root: Path) -> None:
    """Error for a list that is not there, though a file or folder differs from its path in capitals alone."""
    for path in lists:
        if other := other_capitals(path, root):
            raise Error(f"{dataset}: the list {path} is not there, but {other} is, whose capitals differ; "
                        "mend 'lists' in the data set file, or rename one")


def _spare(data: Tree, name: str, labels: Mapping[str, Path]) -> list[str]:
    """The files in the folder of labels that are no image's, if it is a folder of labels alone."""
    folder = labels[name].parent
    if folder == data.files("data", "all", name)[0].parent:
        return []
    used = {path.name for path in labels.values()}
    return sorted(path.name for path in folder.iterdir()
                  if path.is_file() and path.name not in used and not path.name.startswith("."))


def _meant(data: Tree, names: Sequence[str]) -> str:
    """The line of a data set file under which most of the names have labels; "" if there is none."""
    pattern = data.layout.first(Labels).files[-1]
    folder = data.path(pattern, "all", names[0]).parent
    fits: dict[str, int] = {}
    for file in sorted(os.listdir(folder))[:20]:
        inner = max((name for name in names if name in file), key=len, default="")
        tried = file.replace(inner, "{name}", 1) if inner else ""
        if tried and tried not in fits:
            fits[tried] = sum((folder / tried.replace("{name}", name)).is_file() for name in names)
    best = max(fits, key=lambda each: fits[each], default="")
    if not best or fits[best] < 2:
        return ""
    where = pattern.rpartition("/")[0]
    key = "labels" if "label" in data.layout.tops else "boxes"
    return f"; '{key}: {where}/{best}' in the data set file finds {fits[best]}"


@contextmanager
def written(lists: Mapping[Path, Sequence[str]]) -> Iterator[None]:
    """Write lists, and take them away again if what needs them fails."""
    try:
        for path, found in lists.items():
            with writing(path, "w") as file:
                file.write("".join(f"{name}\n" for name in found))
        yield
    except BaseException:
        for path in lists:
            path.unlink(missing_ok=True)
        raise


def names(data: Tree, split: str, made: Split) -> list[str]:
    """The images of a split, as its list has them."""
    return made.lists.get(data.path(data.layout.lists, split)) or [
        name for _, _, name in (Boxes(data) if "boxes" in data.layout.tops else data).entries(split)]


def mean(data: Tree, split: str, images: Sequence[str], said: Log) -> list[float]:
    """The mean of all pixels of images, BGR, to three decimals. Raises Error for one that cannot be read."""
    total, pixels = np.zeros(3), 0
    order = list(data.layout.first(Images).order)
    with closing(said), ThreadPoolExecutor(cores()) as pool:
        def sums(name: str) -> tuple[np.ndarray, int]:
            read = data.read("data", split, name, 1.0)
            return read.sum((0, 1), dtype=np.float64)[order], read.shape[0] * read.shape[1]

        for done, (each, count) in enumerate(pool.map(sums, images), 1):
            total, pixels = total + each, pixels + count
            said.progress("mean", done, len(images), "", 1)
    return [round(value, 3) for value in (total / pixels).tolist()]
