"""Whole scenes' files through a net of patches: masks, and probabilities, that lie where the scene does."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..data import geotiff
from ..data.layouts import Images
from ..data.patches import SIDE, Grid
from .predict import Looks
from .scenes import fractions
from .stream import Told
from .wholescene import SceneNet

Progress = Callable[[int, int, str], object]  # patches done, in all, and the scene at work


class Wanted(NamedTuple):
    """How scenes are read and what is kept. bands: as the net's data set feeds them. order: the bands of a
    file that has them all (None: it says). ends: what is written -> the end of its name, "mask" always."""

    bands: Images
    order: Sequence[str] | None
    threshold: float
    looks: Looks
    folder: Path
    ends: Mapping[str, str]


def segmented(files: Sequence[geotiff.SceneFiles], viewer: SceneNet, wanted: Wanted, progress: Progress
              ) -> Iterator[Told]:
    """Segment each scene, and write what is wanted of it."""
    for each in files:
        yield Told(str(each), [], partial(_kept, each, viewer, wanted, progress))


def _kept(files: geotiff.SceneFiles, viewer: SceneNet, wanted: Wanted, progress: Progress) -> dict[str, Any]:
    pixels, placed = geotiff.read(files, geotiff.BANDS[: len(wanted.bands.files)], wanted.order)
    grid = Grid.of((pixels.shape[0], pixels.shape[1]))
    whole = np.zeros((grid.rows * SIDE, grid.columns * SIDE), np.float32)
    for done, (at, probable) in enumerate(viewer.maps(files.name, pixels, wanted.bands.scale), 1):
        grid.patch(whole, *at)[:] = probable
        progress(done, grid.rows * grid.columns, files.name)
    found = grid.inner(whole)
    mask = (fractions(found) > wanted.threshold).astype(np.uint8)
    paths = {what: wanted.folder / (files.name + end) for what, end in wanted.ends.items()}
    if "scores" in paths:
        geotiff.write(paths["scores"], found, placed)
    geotiff.write(paths["mask"], mask, placed, wanted.looks.palette)
    counts = np.bincount(mask.ravel(), minlength=2).tolist()
    names, size = wanted.looks.names, mask.size
    classes = [{"name": names[i], "class": i, "pixels": counts[i], "share": counts[i] / size}
               for i in sorted(range(2), key=lambda i: -counts[i]) if counts[i]]
    return {"size": [mask.shape[1], mask.shape[0]], "classes": classes, "placed": bool(placed),
            "files": {what: str(path) for what, path in paths.items()}}
