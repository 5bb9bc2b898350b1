"""Pictures of scenes beside their truth, and where nets are wrong."""

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
from PIL.Image import Image

from ..data.images import read_label
from ..look import pictures
from .scenescore import SceneScoring

MISTAKES = np.array([[0, 0, 0], [255, 255, 255], [222, 45, 38], [49, 130, 189]], np.uint8)
MEANINGS = ("clear", "cloud", "no cloud, found", "cloud, not found")


def sheet(scoring: SceneScoring, nets: Mapping[str, Path], names: Collection[str] | None = None
          ) -> Image:
    """Scene, truth, and of each net its mask and where that is wrong, a row a scene.

    nets: title -> the folder where masks were saved. names: of the scenes (None: all).
    """
    columns: dict[str, list[Image]] = {"scene": [], "truth": []}
    for scene in (each for each in scoring.scenes if names is None or each.name in names):
        truth, pixels = scene.read(), scoring.pixels(scene)
        light = np.float32(255 / max(np.percentile(pixels[..., :3], 99.5), 1))
        columns["scene"].append(_small((pixels[:, :, 2::-1] * light).clip(0, 255).astype(np.uint8)))
        columns["truth"].append(_small(MISTAKES[truth]))
        for title, folder in nets.items():
            mask = read_label(folder / f"{scene.name}.png")
            columns.setdefault(title, []).append(_small(MISTAKES[mask]))
            wrong = np.where(mask == truth, truth, 2 + truth)
            columns.setdefault(f"{title}, mistakes", []).append(_small(MISTAKES[wrong]))
    keys = pictures.keys(np.arange(4), MISTAKES, MEANINGS)
    return pictures.sheet([*columns.items()], legend=keys)


def _small(pixels: np.ndarray, side: int = 400) -> Image:
    image = pictures.photograph(pixels)
    image.thumbnail((side, side))
    return image
