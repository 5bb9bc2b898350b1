"""Pictures of saved predictions beside their truth."""

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL.Image import Image

from ..base.errors import Error
from ..base.metrics import VOID, Scores, confusion
from ..base.table import percent
from ..data.images import read_label
from ..data.segmentation import SegmentationData
from ..look import pictures
from .predict import Looks

Folder = str | os.PathLike


def worst(source: SegmentationData, looks: Looks, folder: Folder, most: int) -> list[int]:
    """The places in the list of the `most` images whose saved predictions have the least mean IU, sorted."""
    found = [(_mean_iu(_truth(source, i), _saved(source, folder, i), looks), i) for i in range(len(source))]
    chosen = [index for iu, index in sorted(found) if not math.isnan(iu)][:most]
    if not chosen:
        raise Error(f"no image of '{source.dataset}' {source.split} has a labelled pixel")
    return chosen


def worst_beside(source: SegmentationData, looks: Looks, most: int, name: str, folder: Folder,
                 others: Sequence[Folder]) -> Image:
    """The sheet of a net's worst images, or of the places that alone were scored, and what other nets predict
    for them.

    folder: of the predictions of net `name`. others: such folders of other nets, shown under their own names,
    or under their paths where two have one name.
    """
    titles = [*(Path(other).name for other in others), name]
    nets = {str(other) if titles.count(title) > 1 else title: other
            for title, other in zip(titles, others, strict=False)}
    chosen = source.places or worst(source, looks, folder, most)
    return sheet(source, looks, {**nets, name: folder}, chosen)


def sheet(source: SegmentationData, looks: Looks, nets: Mapping[str, Folder], chosen: Sequence[int]
          ) -> Image:
    """Image, truth and predictions, with the mean IU of each, for places in the list.

    nets: title -> the folder where predictions were saved. Raises Error if a folder lacks one.
    """
    truths = [_truth(source, i) for i in chosen]
    photographs = [_photograph(next(top for top in source.read(i) if top.ndim == 3)) for i in chosen]
    columns: list[tuple[str, Sequence[Image | np.ndarray], list[str]]] = [
        ("image", photographs, [source.names[i] for i in chosen]),
        ("truth", [pictures.colour(truth, looks.palette) for truth in truths], [""] * len(chosen))]
    present = [*truths]
    for title, folder in nets.items():
        saved = [_saved(source, folder, i) for i in chosen]
        texts = [f"mean IU {percent(_mean_iu(*pair, looks))}" for pair in zip(truths, saved, strict=True)]
        columns.append((title, [pictures.colour(one, looks.palette) for one in saved], texts))
        present += saved
    keys = pictures.keys(np.concatenate([one.ravel() for one in present]), looks.palette, looks.names)
    return pictures.sheet(columns, legend=keys)


def _truth(source: SegmentationData, index: int) -> np.ndarray:
    label = next(top for top in source.read(index) if top.ndim == 2)
    return np.where(label == source.facts.void, VOID, label)


def _saved(source: SegmentationData, folder: Folder, index: int) -> np.ndarray:
    path = Path(folder) / f"{source.names[index]}.png"
    if not path.exists():
        raise Error(f"prediction '{path}' is not there")
    return read_label(path)


def _mean_iu(truth: np.ndarray, prediction: np.ndarray, looks: Looks) -> float:
    return Scores.from_histogram(confusion(truth, prediction, len(looks.names))).mean_iu


def _photograph(pixels: np.ndarray) -> np.ndarray:
    """Pixels as stored as a picture; bands and depths are stretched from their least to their most."""
    if pixels.dtype == np.uint8:
        return pixels
    low, high = float(pixels.min()), float(pixels.max())
    grey = ((pixels - low) * (255 / max(high - low, 1e-9))).astype(np.uint8)
    return grey[:, :, 2::-1] if grey.shape[2] > 2 else grey[:, :, 0]
