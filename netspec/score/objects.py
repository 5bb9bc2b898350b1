"""A net that finds objects, shown pictures, and what is kept of what it finds."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..base.errors import Error, listed
from ..base.files import writing
from ..data import boxes, layouts
from ..data.facts import Known, known
from ..data.opencv import scaled
from ..look import pictures
from ..look.boxes import boxed
from ..net.deploy import deploy, feeds
from ..net.detections import BoxReader, Rules
from ..net.graph import Graph
from ..net.module import Net
from ..net.plan import Plan
from ..net.room import held
from ..proto.caffe_pb2 import NetParameter
from . import predict
from .predict import Looks
from .segment import Viewer


class Scene(NamedTuple):
    """What a net that finds objects is shown: `image`, the blob with an image, `info`, that with its size and
    scale, and what the net says of images, or its name of its data set (voc-rfcn-resnet50)."""

    graph: Graph
    image: str
    info: str
    known: Known


class Found(NamedTuple):
    """What there is in a picture, the surest first: of D objects the `names` of their classes, their
    `scores`, float32 (D,), and `boxes`, float32 (D, 4): x1, y1, x2, y2 in pixels of the picture from 0, both
    ends included."""

    names: list[str]
    scores: np.ndarray
    boxes: np.ndarray


def scene(net: NetParameter, path: Path) -> Scene:
    """A net, deploy or val, without its data. Raises Error if it needs more than an image and its size."""
    return scene_of(deploy(net, path=path))


def scene_of(made: Graph) -> Scene:
    """`scene` of a net that has no data layers any more."""
    path = made.path or Path(made.name or "net")
    shapes = {blob: made.shape(blob) for blob in made.inputs}
    images = [blob for blob, shape in shapes.items() if len(shape) == 4]
    infos = [blob for blob, shape in shapes.items() if blob not in images and shape[1:] == (3,)]
    if len(images) != 1 or len(infos) != 1 or len(shapes) != 2:
        raise Error(f"{path}: its results follow from {listed(list(shapes))}; it is given an image and its "
                    "size (data and im_info), and must propose its regions itself")
    (layer,) = (layer for layer in made.proto.layer if feeds(layer) and images[0] in layer.top)
    told = known(layer, path)
    sets = (name.partition("-rfcn")[0] for name in (made.name, path.parent.name, path.stem)
            if "-rfcn" in name)
    named = next((layouts.facts(boxes.layout(name), "boxes") for name in sets if name in layouts.BOXED), None)
    return Scene(made, images[0], infos[0], told._replace(facts=told.facts or named))


def mean_of(scene: Scene) -> Sequence[float]:
    """BGR: what the net says, or else the release's."""
    return scene.known.mean or layouts.BOXED_MEAN


def blob(image: Image.Image, mean: Sequence[float], sides: tuple[int, int]) -> tuple[Tensor, float]:
    """The net's input (1, 3, H, W), float32: BGR less the mean, brought to `sides` (see scaled); and how many
    times as large it is."""
    data, scale = scaled(np.asarray(image)[..., ::-1] - np.array(mean, np.float32), *sides)
    return torch.from_numpy(data[None]), scale


class BoxFinder(Viewer):
    """Detections in frames of any size."""

    def __init__(self, net: Net, scene: Scene, reader: BoxReader, mean: Sequence[float] | None = None,
                 filed: Rules | None = None) -> None:
        """net: of the scene's graph. mean: BGR, instead of what the net says, or else the release's. filed:
        the rules for VOC's result files, whose rows `rows` then gets (see save_voc)."""
        super().__init__(net)
        self.filed, self.rows = filed, list[tuple[str, Sequence]]()
        self.scene, self.reader, self.sides = scene, reader, scene.known.sides
        self.looking = Plan.of(net)
        self.mean = mean or mean_of(scene)

    def blobs(self, image: Image.Image) -> tuple[dict[str, Tensor], float]:
        """The inputs of the net for a picture, and how many times as large it sees it."""
        data, scale = blob(image, self.mean, self.sides)
        info = torch.tensor([[*data.shape[2:], scale]], dtype=torch.float32)
        given = {self.scene.image: data, self.scene.info: info}
        return {name: value.to(self.net.device, self.net.dtype) for name, value in given.items()}, scale

    def seen(self, name: str, image: Image.Image, paths: dict[str, Path]) -> "Seen":
        """The detections in a picture; Error, with its name, without memory for it. paths: see Seen."""
        with self.working(name, image):
            (inputs, scale), size = self.blobs(image), image.size[::-1]
            try:
                blobs = self.looking(inputs, self.reader.blobs)
                found = self.reader(blobs, size, scale)
                near = found[:0] if len(found) else self.reader(blobs, size, scale, rules=self._any())
                if self.filed:
                    rows = self.reader(blobs, size, scale, rules=self.filed)
                    self.rows.append((paths["boxes"].name.removesuffix("_boxes.png"), rows.tolist()))
            except Error as error:
                raise Error(f"image {name}: {error}") from None
            return Seen(image, found.cpu(), paths, near[:1].tolist(), self._above())

    def _above(self) -> Sequence[float]:
        """What the score of each class must be above."""
        above = self.reader.rules.above
        return above if isinstance(above, Sequence) else [above] * self.reader.classes

    def _any(self) -> Rules:
        """The rules for the surest box alone, however unsure, of the classes that are asked for."""
        least = [above if above == math.inf else -math.inf for above in self._above()]
        return replace(self.reader.rules, above=least, most=1)

    def fit(self, size: tuple[int, int]) -> float:
        high, wide = scaled(np.empty((*size[::-1], 0), np.float32), *self.sides)[0].shape[1:]
        needed = held(predict.fitted(self.net.graph.proto, self.scene.image, 3, (wide, high),
                                     self.net.graph.path, {self.scene.info: (1, 3)}))
        predict.check_room(needed, self.net)
        return needed


class Seen(NamedTuple):
    """A picture, the detections in it (D x 6, see detections.py), where results go (see Outputs.of), where
    nothing is found the surest box, none without regions, and what each class's score must be above."""

    image: Image.Image
    found: Tensor
    paths: dict[str, Path]
    near: Sequence[Sequence[float]]
    above: Sequence[float]


def found_in(seen: Seen, looks: Looks) -> Found:
    """The detections in a picture, for programs."""
    rows = surest_first(seen.found).numpy()
    return Found([looks.names[int(number)] for number in rows[:, 0]], rows[:, 5].copy(), rows[:, 1:5].copy())


def surest_first(found: Tensor) -> Tensor:
    return found[found[:, 5].argsort(descending=True, stable=True)]


def keep(seen: Seen, looks: Looks) -> dict[str, Any]:
    """Write the picture with boxes; what there is to say of it, for JSON: its size (width, height), boxes,
    the surest first, or else the surest that did not count and what it should have been above; files."""
    rows = surest_first(seen.found).tolist()
    pictures.save(seen.paths["boxes"], boxed(seen.image, rows, looks.palette, looks.names))

    def told(row: Sequence[float]) -> dict[str, Any]:
        number = int(row[0])
        return {"name": looks.names[number], "class": number, "score": row[5], "box": list(row[1:5])}

    near = [told(row) | {"above": seen.above[int(row[0])]} for row in seen.near]
    return {"size": list(seen.image.size), "boxes": [told(row) for row in rows],
            **({} if rows else {"surest": near[0] if near else None}),
            "files": {what: str(path) for what, path in seen.paths.items()}}


def voc_paths(folder: Path, split: str, names: Sequence[str], images: Iterable[str]) -> list[Path]:
    """VOC's result files. Raises Error for a split or class whose name cannot be part of a file's, and for an
    image whose name is not one word, as the lines in them are words."""
    found = [f"comp4_det_{split}_{name}.txt" for name in names[1:]]
    if wrong := next((file for file in found if Path(file).name != file or len(file.encode()) > 255), ""):
        raise Error(f"VOC's result file '{wrong[:300]}': the names of split and class make no file name")
    if strange := next((image for image in images if image.split() != [image]), None):
        raise Error(f"image {strange!r}: VOC's result files are lines of words, so a name must have no blank")
    return [folder / file for file in found]


def save_voc(folder: Path, split: str, names: Sequence[str], found: Iterable[tuple[str, Sequence]]
             ) -> list[Path]:
    """Write VOC's result files, comp4_det_SPLIT_CLASS.txt of each class: lines of an image's name, a score
    and a box, whose corners are counted from 1 there. names: of the classes from 0, the background, on;
    found: an image's name and the detections in it, class, x1, y1, x2, y2, score each."""
    found = list(found)
    paths = voc_paths(folder, split, names, [image for image, _ in found])
    lines: dict[int, list[str]] = {number: [] for number in range(1, len(names))}
    for image, rows in found:
        for number, *corners, score in rows:
            lines[int(number)].append(f"{image} {score:.6f} {' '.join(f'{at + 1:.1f}' for at in corners)}\n")
    for path, told in zip(paths, lines.values(), strict=True):
        with writing(path, "w") as file:
            file.writelines(told)
    return paths
