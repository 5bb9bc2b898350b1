"""What `netspec infer` made of pictures, looked at: an overlay at any share and of any classes, the map of a
class, what the net says of a pixel, boxes above a score."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..base.errors import Error
from ..look.boxes import boxed
from ..look.heat import heat, with_legend
from ..look.pictures import overlay
from ..score.frames import picture

BEST = 5  # classes that are told of a pixel


class Seen:
    """One picture and what is known of it: `told`, its entry in what `netspec infer --json` prints."""

    def __init__(self, told: Mapping[str, Any], names: list[str], palette: list[list[int]]) -> None:
        """names, palette: of all classes of the net."""
        self.told, self.names = told, names
        self.palette = np.array(palette, np.uint8).reshape(-1, 3)
        self.files = {what: Path(path) for what, path in told["files"].items()}
        self.image = picture(told["image"])
        width, height = told["size"]
        if self.image.size != (width, height):  # as infer shows the picture of nets that crop nothing
            self.image = self.image.resize((width, height), Image.Resampling.BILINEAR)

    @property
    def factor(self) -> int:
        """How many pixels of what is shown, to a side, are one of the picture."""
        return max(1, -(-300 // max(self.image.size)))

    def pixel(self, x: int, y: int, width: int) -> tuple[int, int]:
        """The pixel of the picture that lies at a place of what is shown, which is so wide: a legend may be
        wider than the picture, which then stands in the middle."""
        return (x - (width - self.factor * self.image.width) // 2) // self.factor, y // self.factor


class Segmented(Seen):
    """A segmented picture: with labels, and scores."""

    def __init__(self, told: Mapping[str, Any], names: list[str], palette: list[list[int]]) -> None:
        super().__init__(told, names, palette)
        with Image.open(self.files["labels"]) as labels:
            self.labels = np.asarray(labels)
        self.scores = np.load(self.files["scores"], mmap_mode="r")  # (C, H, W), float32
        self.present = [one["class"] for one in sorted(told["classes"], key=lambda one: one["class"])]

    def overlay(self, alpha: float, classes: Collection[str]) -> Image.Image:
        """The picture under the colours of some classes, alpha (0 to 1) of them, with a legend."""
        shown = [number for number in self.present if self.names[number] in classes]
        return overlay(self.image, self.labels, self.palette, self.names, alpha,
                       None if len(shown) == len(self.present) else shown)

    def map(self, name: str) -> Image.Image:
        """Where the net finds a class how probable: the softmax of its scores."""
        if name not in self.names:
            raise Error(f"the net has no class '{name}'")
        return with_legend(heat(self.image, self._odds(self.names.index(name))), f"probability of {name}")

    def _odds(self, number: int) -> np.ndarray:
        if len(self.scores) == 1:
            raise Error("the net has one map, which is no class's")
        top = self.scores.max(0)
        total = np.zeros(top.shape, np.float32)
        for each in self.scores:
            total += np.exp(each - top)
        return np.exp(self.scores[number] - top) / total

    def at(self, x: int, y: int) -> list[tuple[str, float, float]]:
        """The classes that are most probable at a pixel, in words, with probability and score."""
        height, width = self.labels.shape
        if not (0 <= x < width and 0 <= y < height):
            raise Error(f"{x},{y} lies outside the picture, which has {width} x {height} pixels")
        scores = np.array(self.scores[:, y, x], np.float64)
        odds = np.exp(scores - scores.max())
        odds /= odds.sum()
        return [(self.names[i], odds[i], scores[i]) for i in np.argsort(-odds, kind="stable")[:BEST].tolist()]


class Detected(Seen):
    """A picture with boxes around objects."""

    def above(self, score: float) -> list[dict[str, Any]]:
        """The boxes whose score is above a number, the surest first."""
        return [box for box in self.told["boxes"] if box["score"] > score]

    def drawn(self, score: float) -> Image.Image:
        """The picture with those boxes."""
        rows = [(box["class"], *box["box"], box["score"]) for box in self.above(score)]
        return boxed(self.image, rows, self.palette, self.names)


def seen(told: Mapping[str, Any], which: int) -> Seen:
    """One of the pictures in what `netspec infer --json` printed, by its place."""
    one = told["images"][which]
    if not Path(one["image"]).is_file():
        raise Error(f"{one['image']} is one of several pictures of a file, which netspec infer shows")
    return (Detected if "boxes" in one else Segmented)(one, told["names"], told["palette"])
