"""`data check` of patches of scenes, such as 38-Cloud's: depth, size, names, scenes, and lists of them."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from ..base.errors import Error, count, listed
from ..data.balance import pixel_counts
from ..data.images import open_image, read_label, size
from ..data.layouts import Labels
from ..data.patches import Grid, Place, columns, place
from ..data.segmentation import SegmentationData

Finding = tuple[str, str]  # a kind of `data.KINDS`, and where and what
MARGIN = 0.8  # of a patch: with so much of it black, or more, the lists of non-empty patches lack it


def of_patch(source: SegmentationData, index: int, pixels: Mapping[str, np.ndarray]) -> Iterator[Finding]:
    """What is wrong with the files of a patch that can be read. pixels: by top, as read."""
    tree, split, name = source.entries[index]
    for top, found in pixels.items():
        yield from tree.faults(top, split, name)
        for path in tree.files(top, split, name) if isinstance(source.layout.tops[top], Labels) else ():
            with open_image(path) as image:
                two = image.mode == "1"
            if not two and (ones := np.count_nonzero(read_label(path) == 1)):
                yield "stray", (f"{path}: {ones} of {found.size} values are 1; in a patch cloud is 255 (1 in "
                                "the truth of a scene)")


def margin(pixels: np.ndarray) -> int:
    """The pixels of a patch (H, W, C) that are 0 in every band, as what lies outside the scene is."""
    return int(np.count_nonzero(~pixels.any(-1)))


def of_split(source: SegmentationData, margins: Sequence[int | None]) -> list[Finding]:
    """What no single patch shows: names, places, whole scenes and their truth, other lists of the patches.

    margins: black pixels of each patch, None where it could not be read.
    """
    findings: list[Finding] = []
    held: dict[tuple[str, str], list[Place]] = {}  # (data set, scene) -> its patches
    trees = {}
    for tree, split, name in source.entries:
        try:
            at = place(name)
        except Error as error:
            findings.append(("named", str(error)))
            continue
        held.setdefault((tree.dataset, at.scene), []).append(at)
        trees[tree.dataset] = tree, split
    for (dataset, scene), places in held.items():
        tree, split = trees[dataset]
        pattern = tree.layout.scenes
        split = split if tree.dataset == source.dataset or not tree.layout.scenes else source.split
        path = tree.path(pattern, split, scene) if pattern else None
        if path and not path.is_file() and split not in tree.layout.blind and not path.parent.is_dir():
            path = None  # patches with labels of their own need none
        findings += _of_scene(scene, places, path, source.layout.patches)
    if source.layout.shared(source.split):  # scenes and lists are those of the whole split
        return [each for each in findings if each[0] != "lacking"]
    return findings + list(_of_lists(source, margins))


def _of_scene(scene: str, places: Sequence[Place], path: Path | None, side: int) -> Iterator[Finding]:
    """path: of the scene's truth, None if it needs none."""
    grid, wide = None, columns(places)
    there = {(at.row, at.column) for at in places}
    rows, most = np.max([*there], 0).tolist()
    if len(there) < len(places):
        yield "named", f"scene {scene}: {count(len(places) - len(there), 'name')} more than places in it"
    if rows > 1 and not wide:
        yield "named", (f"scene {scene}: the numbers of its patches contradict their rows and columns; they "
                        "count row by row")
    if path and not path.is_file():
        yield "missing", str(path)
    elif path:
        try:
            truth = read_label(path)
        except Error as error:
            yield "unreadable", str(error)
            return
        if wide and truth.shape[1] > wide * side:
            yield "scene", f"{path} is {size(truth)}, wider than the scene's {wide} columns of {side}"
            return
        if other := [f"{value} ({number} times)" for value, number in pixel_counts(truth).items()
                     if value not in (0, 1)]:
            yield "scene", f"{path}: 0 is clear and 1 cloud, found {listed(other, 4)}"
        grid = Grid.of((truth.shape[0], truth.shape[1]), side, rows, max(wide, most))
    grid = grid or Grid((rows * side, 0), rows, max(wide, most), side)
    if lacks := [f"{row}_by_{column}" for row, column in grid.places() if (row, column) not in there]:
        yield "lacking", (f"scene {scene} lacks {len(lacks)} of {grid.rows * grid.columns} patches: "
                          f"{listed(lacks, 4)}")


def _of_lists(source: SegmentationData, margins: Sequence[int | None]) -> Iterator[Finding]:
    """Lists of patches beside the split's own."""
    layout, known = source.layout, set(source.names)
    own = source.tree.path(layout.lists, source.split)
    area = layout.patches**2
    for path in sorted(own.parent.glob("*patches*.csv")):
        if path.name == own.name:
            continue
        try:
            names = [name for _, _, name in source.tree.entries(source.split, str(path.resolve()))]
        except Error as error:
            yield "lists", str(error)
            continue
        if strange := [name for name in names if name not in known]:
            yield "lists", f"{path}: of split '{source.split}' there is no {listed(strange, 4)}"
        if "nonempty" in path.name:
            inside = set(names)
            dark = {name for name, dark in zip(source.names, margins, strict=True)
                    if dark is not None and dark >= MARGIN * area}
            read = {name for name, dark in zip(source.names, margins, strict=True) if dark is not None}
            for said, wrong in ((f"has patches of which {MARGIN:.0%} or more is black", inside & dark),
                                (f"lacks patches of which less than {MARGIN:.0%} is", read - dark - inside)):
                if wrong:
                    yield "lists", f"{path} {said}: {listed(sorted(wrong), 4)}"
