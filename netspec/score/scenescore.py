"""A net over the patches of 38-Cloud's scenes, put together and held against the truth scene by scene."""

import os
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ..base.errors import Error, count, listed
from ..base.files import inside
from ..base.metrics import Binary
from ..data.balance import pixel_counts
from ..data.feed import Batches
from ..data.images import open_image, read_label
from ..data.patches import SIDE, Grid, Place, columns, place
from ..data.segmentation import SegmentationData
from ..look.pictures import save_labels
from ..net.graph import Graph
from ..net.judged import channels
from . import predict, scenes
from .wholescene import PROTOCOLS, Looking, SceneNet, cloudy

Progress = Callable[[int, int, str], None]  # patches done, in all, and the scene at work


class Scene(NamedTuple):
    """A scene of a split: its truth, its grid, the places in the list of its patches, and what it lacks."""

    name: str
    truth: Path
    grid: Grid
    patches: Mapping[tuple[int, int], int]
    missing: Sequence[str]

    def read(self) -> np.ndarray:
        """The truth, 0 or 1 (H, W). Raises Error for other numbers."""
        found = read_label(self.truth)
        other = [f"{value} ({number} times)" for value, number in pixel_counts(found).items()
                 if value not in (0, 1)]
        if other:
            raise Error(f"{self.truth}: the truth of a scene is 0 (clear) and 1 (cloud), found "
                        f"{listed(other, 4)}; divide 255 by 255, or give the file of the data set")
        return found.astype(np.uint8)


@dataclass(frozen=True, eq=False)
class SceneResult:
    """What scoring scenes found. tallies: of each scene, see `scenes.tally`, at the thresholds, which rise;
    `asked` are those that the tables show. seconds: loading included."""

    protocol: str
    tallies: Mapping[str, np.ndarray]
    thresholds: Sequence[float]
    asked: Sequence[float]
    missing: Mapping[str, Sequence[str]]
    images: int
    seconds: float
    margin: int = 0  # of neighbours' pixels, with which patches were seen
    within: int = 0  # pixels from borders between patches, if these were tallied by themselves
    near: Mapping[str, np.ndarray] = field(default_factory=dict)

    def at(self, threshold: float, part: str = "whole") -> dict[str, Binary]:
        """The measures of each scene at one of the thresholds. part: whole scenes, what is "near" borders
        between patches, or "elsewhere"."""
        number = list(self.thresholds).index(threshold)
        tallies = {"whole": self.tallies, "near": self.near}.get(part) or {
            name: whole - self.near[name] for name, whole in self.tallies.items()}
        return {name: scenes.at(tallied, number) for name, tallied in tallies.items()}

    def worst(self, most: int) -> list[str]:
        """So many scenes, those of the least Jaccard at the first threshold asked for."""
        return sorted(found := self.at(self.asked[0]), key=lambda name: found[name].jaccard)[:most]

    def curve(self) -> list[tuple[float, Binary]]:
        """Each threshold, and the mean over scenes there."""
        return [(threshold, scenes.mean(self.at(threshold).values())) for threshold in self.thresholds]

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON, fractions of 1."""
        def told(measures: Mapping[str, Binary]) -> dict[str, Any]:
            return {"mean": scenes.mean(measures.values()).as_dict(),
                    "scenes": {name: each.as_dict() for name, each in measures.items()}}

        return {
            "protocol": self.protocol, "images": self.images, "seconds": round(self.seconds, 3),
            "thresholds": [{"threshold": threshold, **told(self.at(threshold))} for threshold in self.asked],
            "curve": [{"threshold": threshold, **mean.as_dict()} for threshold, mean in self.curve()],
            "missing": {name: list(lacks) for name, lacks in self.missing.items()},
            "margin": self.margin, **({"seams": {"within": self.within, **{part: [
                {"threshold": threshold, **told(self.at(threshold, part))} for threshold in self.asked]
                for part in ("near", "elsewhere")}}} if self.near else {}),
        }


class SceneScoring:
    """What is known of the scores of a net over scenes before weights are loaded."""

    def __init__(self, made: Graph, blob: str = "score", protocol: str = "38cloud", partial: bool = False
                 ) -> None:
        """Raises Error for a net whose scores are neither of two classes nor one map, files that are not
        there, patches and truths of other sizes or numbers, and scenes with patches missing, unless
        `partial`: all that a run would end at when part of it is written."""
        self.graph, self.blob, self.protocol = made, blob, protocol
        if channels(made, blob) not in (1, 2):
            raise Error(f"blob '{blob}' of net '{made.name}' has {channels(made, blob)} channels; cloud is "
                        "scored by two, clear and cloud, or by one")
        source = scened(made)
        if source is None:
            raise Error(f"net '{made.name}' reads no patches of scenes without labels, as the test split of "
                        "data set '38cloud' has them, which are scored by the scene")
        self.classes, self.source = channels(made, blob), source
        if source.randomize:
            raise Error(f"layer '{self.source.layer.name}' of net '{made.name}' draws patches at random, but "
                        "each is scored once: give param_str 'randomize': False")
        self.looks = predict.looks(self.source.facts, 2)
        self._check_files(partial)
        self.scenes = self._scenes(partial)
        order = [index for scene in self.scenes for index in scene.patches.values()]
        self._check_patches()
        for scene in self.scenes:
            scene.read()
        self._keep([self.source.entries[index] for index in order])
        self.total = len(order)

    def _check_files(self, partial: bool) -> None:
        """Read whole patches alone, if partial; else Error where files are not there."""
        whole = [each for each, paths in zip(self.source.entries, map(
            self.source.paths, range(len(self.source))), strict=True) if all(p.is_file() for p in paths)]
        if partial:
            self._keep(whole)
        try:
            self.source.check_files()
        except Error as error:
            raise Error(f"{error}; --partial scores without such patches" if whole else str(error)) from None

    def _keep(self, entries: Sequence[Any]) -> None:
        """Read these patches alone, in this order."""
        if not entries:
            raise Error(f"no patch of split '{self.source.split}' below {self.source.root} is there")
        self.source.entries, self.source.names = list(entries), [name for _, _, name in entries]

    def _check_patches(self) -> None:
        for tree, split, name in self.source.entries:
            for _, fault in tree.faults(self.source.tops_read[0], split, name):
                raise Error(fault)

    def _scenes(self, partial: bool) -> list[Scene]:
        held: dict[str, dict[tuple[int, int], int]] = {}
        places: dict[str, list[Place]] = {}
        for index, name in enumerate(self.source.names):
            try:
                at = place(name)
            except Error as error:
                raise Error(f"{error} (split '{self.source.split}' below {self.source.root})") from None
            patches = held.setdefault(at.scene, {})
            if (at.row, at.column) in patches:
                raise Error(f"patches {self.source.names[patches[at.row, at.column]]} and {name} of the list "
                            f"of split '{self.source.split}' have the same place in the scene")
            patches[at.row, at.column] = index
            places.setdefault(at.scene, []).append(at)
        found = [self._scene(name, held[name], columns(places[name])) for name in sorted(held)]
        lacking = [scene for scene in found if scene.missing]
        if lacking and not partial:
            raise Error(f"{_lacks(lacking[0])}" + (f" (and {count(len(lacking) - 1, 'other scene')} lack "
                        "some)" if lacking[1:] else "") + "; --partial scores such scenes, with no cloud "
                        "where a patch is missing")
        return found

    def _scene(self, name: str, patches: Mapping[tuple[int, int], int], wide: int) -> Scene:
        tree, split, _ = self.source.entries[next(iter(patches.values()))]
        path = tree.path(tree.layout.scenes, split, name)
        with open_image(path, "the truth of a scene") as image:
            size = image.height, image.width
        rows, most = np.max([*patches], 0).tolist()
        if wide and size[1] > wide * SIDE:
            raise Error(f"{path} is {size[1]}x{size[0]}, and the numbers of its patches say {wide} columns "
                        f"of {SIDE}, {wide * SIDE} pixels; a truth is no wider than its patches")
        grid = Grid.of(size, SIDE, rows, max(wide, most))
        gone = [f"patch_{grid.number(*at)}_{at[0]}_by_{at[1]}_{name}" for at in grid.places()
                if at not in patches]
        return Scene(name, path, grid, dict(sorted(patches.items())), gone)

    def remarks(self) -> list[str]:
        """What a person should know of the scenes, in sentences."""
        found = [f"{_lacks(scene)}; there it has no cloud" for scene in self.scenes if scene.missing]
        wide = [scene.name for scene in self.scenes if max(scene.grid.offset) >= SIDE]
        return found + ([f"the padding of {listed(wide)} is more than a patch"] if wide else [])

    def run(self, net: Looking, *,
            thresholds: Sequence[float] = scenes.THRESHOLDS, save: str | os.PathLike | None = None,
            progress: Progress | None = None, workers: int | None = None, margin: int = 0, within: int = 0
            ) -> SceneResult:
        """Run the net over the patches, scene by scene, and hold each scene against its truth.

        thresholds: those to be shown; cloud is where its probability is above. All k/255 are counted too.
        save: a folder for the masks at the first of them, SCENE.png. workers: see Feed. margin: see SceneNet.
        within: count also what is so near to borders between patches by itself.
        """
        begun, done = time.monotonic(), 0
        steps = sorted({*thresholds, *(k / 255 for k in range(255))})
        protocol = PROTOCOLS[self.protocol]
        tallies: dict[str, np.ndarray] = {}
        near: dict[str, np.ndarray] = {}
        with closing(self._beside(net, margin) if margin else self._maps(net, workers)) as maps:
            for scene in self.scenes:
                truth = scene.read()
                grid = scene.grid
                whole = np.zeros((grid.rows * SIDE, grid.columns * SIDE), np.uint16)
                for at in scene.patches:
                    grid.patch(whole, *at)[:] = scenes.levels(protocol.enlarged(next(maps)), steps)
                    done += 1
                    if progress:
                        progress(done, self.total, scene.name)
                level = grid.inner(whole)
                tallies[scene.name] = scenes.tally(truth, level, len(steps))
                if within:
                    seams = grid.seams(within)
                    near[scene.name] = scenes.tally(truth[seams][None], level[seams][None], len(steps))
                if save is not None:
                    mask = (level > steps.index(thresholds[0])).astype(np.uint8)
                    save_labels(inside(Path(save), f"{scene.name}.png"), mask, self.looks.palette)
        missing = {scene.name: scene.missing for scene in self.scenes if scene.missing}
        return SceneResult(self.protocol, tallies, steps, tuple(dict.fromkeys(thresholds)), missing, done,
                           time.monotonic() - begun, margin, within, near)

    def _beside(self, net: Looking, margin: int) -> Generator[np.ndarray]:
        """What `_maps` gives, of patches that are seen with the pixels around them."""
        viewer = SceneNet(self.graph, net, self.blob, self.source.layer.top[0], self.source.mean,
                          PROTOCOLS[self.protocol], margin)
        for scene in self.scenes:
            for at, probable in viewer.maps(f"scene {scene.name}", self.pixels(scene), grid=scene.grid):
                if at in scene.patches:
                    yield probable

    def pixels(self, scene: Scene) -> np.ndarray:
        """The bands of a scene as the net reads them but for the mean, float32 (H, W, bands), 0 to 255."""
        patches = {}
        for at, index in scene.patches.items():
            tree, split, name = self.source.entries[index]
            patches[at] = tree.read(self.source.tops_read[0], split, name, 1.0)
        return scene.grid.join(patches)

    def _maps(self, net: Looking, workers: int | None) -> Generator[np.ndarray]:
        """The probability of cloud in each patch, float32 (H, W)."""
        self.source.resize = PROTOCOLS[self.protocol].side / SIDE
        batches = Batches(self.graph.readers, net.device, workers=workers)
        with closing(batches), torch.inference_mode():
            for position in range(-(-self.total // self.source.batch_size)):
                scores = net(batches.next(), [self.blob])[self.blob]
                yield from cloudy(self.graph, self.blob, scores, self.source.describe(position))


def scened(made: Graph) -> SegmentationData | None:
    """The layer of a net that reads patches of scenes and no labels, if it has one."""
    return next((op for op in made.readers if isinstance(op, SegmentationData) and op.layout.scenes
                 and not op.labels), None)


def _lacks(scene: Scene) -> str:
    return (f"scene {scene.name} lacks {len(scene.missing)} of its "
            f"{scene.grid.rows * scene.grid.columns} patches: {listed(scene.missing, 4)}")
