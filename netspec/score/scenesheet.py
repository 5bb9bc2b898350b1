"""Pictures of scenes beside their truth, and where nets are wrong."""

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
from PIL.Image import Image

from ..base.table import percent
from ..data.images import read_label
from ..look import pictures
from .scenes import judged
from .scenescore import SceneScoring

MISTAKES = np.array([[0, 0, 0], [255, 255, 255], [222, 45, 38], [49, 130, 189]], np.uint8)
MEANINGS = ("clear", "cloud", "no cloud, found", "cloud, not found")


def sheet(scoring: SceneScoring, nets: Mapping[str, Path], names: Collection[str] | None = None
          ) -> Image:
    """Scene, truth, and of each net its mask and where that is wrong, a row a scene.

    nets: title -> the folder where masks were saved. names: of the scenes (None: all).
    """
    columns: dict[str, tuple[list[Image], list[str]]] = {}

    def put(title: str, pixels: np.ndarray, text: str = "") -> None:
        images, texts = columns.setdefault(title, ([], []))
        images.append(_small(pixels))
        texts.append(text)

    for scene in (each for each in scoring.scenes if names is None or each.name in names):
        truth, pixels = scene.read(), scoring.pixels(scene)
        light = np.float32(255 / max(np.percentile(pixels[..., :3], 99.5), 1))
        put("scene", (pixels[:, :, 2::-1] * light).clip(0, 255).astype(np.uint8), scene.name)
        put("truth", MISTAKES[truth])
        for title, folder in nets.items():
            mask = read_label(folder / f"{scene.name}.png")
            put(title, MISTAKES[mask], f"Jaccard {percent(judged(truth, mask == 1)[1].jaccard)}")
            put(f"{title}, mistakes", MISTAKES[np.where(mask == truth, truth, 2 + truth)])
    keys = pictures.keys(np.arange(4), MISTAKES, MEANINGS)
    return pictures.sheet([(title, *held) for title, held in columns.items()], legend=keys)


def _small(pixels: np.ndarray, side: int = 400) -> Image:
    image = pictures.photograph(pixels)
    image.thumbnail((side, side))
    return image
