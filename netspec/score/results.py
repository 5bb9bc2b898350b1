"""What is kept of a segmented picture: files, and the numbers that are said of it."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL.Image import Image, Resampling

from ..base.errors import Error
from ..base.files import check_folder, writing
from ..look import pictures
from .frames import STDIN, stem_of
from .predict import Looks


@dataclass(frozen=True)
class Wanted:
    """How results look. alpha: of overlays. classes: that are shown and told (None: all). cutout: the classes
    that a picture of their own keeps. scores: whether the scores are kept. unsure:
    whether there are samples, and a picture of how far they differ."""

    alpha: float
    classes: tuple[int, ...] | None = None
    cutout: tuple[int, ...] | None = None
    scores: bool = False
    unsure: bool = False

    @property
    def files(self) -> dict[str, str]:
        """What is written of a picture -> the end of its name."""
        ends = {"labels": "_labels.png", "overlay": "_overlay.png"}
        ends |= {"cutout": "_cutout.png"} if self.cutout is not None else {}
        ends |= {"uncertainty": "_uncertainty.png"} if self.unsure else {}
        return ends | ({"scores": "_scores.npy"} if self.scores else {})


class Outputs:
    """Where results go, each name once, and never over a picture that is read."""

    def __init__(self, folder: Path, files: Sequence[str], ends: dict[str, str]) -> None:
        """folder: of the results; files: the pictures; ends: see Wanted.files. Raises Error for two files of
        one name, for one that a result would be written over, and for a folder that cannot be written."""
        check_folder(folder)
        self.folder, self.ends = folder, ends
        self.taken = {os.path.realpath(file): file for file in files if file != STDIN}
        self.first: dict[str, str] = {}
        for file in files:
            self._claim(stem_of(file), file)
            self.first[stem_of(file)] = file

    def of(self, stem: str, file: str) -> dict[str, Path]:
        """What -> the path, for a frame of a file by its stem; Error if that name is taken."""
        return self._paths(stem) if self.first.get(stem) == file else self._claim(stem, file)

    def _paths(self, stem: str) -> dict[str, Path]:
        return {what: self.folder / (stem + end) for what, end in self.ends.items()}

    def _claim(self, stem: str, file: str) -> dict[str, Path]:
        paths = self._paths(stem)
        for path in paths.values():
            if (here := os.path.realpath(path)) in self.taken:
                raise Error(f"{path} (of {file}) would be written over {self.taken[here]}; give it another "
                            "--out")
            self.taken[here] = f"the result of {file}"
        return paths


def classes_of(given: str | None, looks: Looks, option: str) -> tuple[int, ...] | None:
    """The numbers of classes with commas between them, None of None; Error as Looks.number."""
    if given is None:
        return None
    words = [given] if given in looks.names else [word.strip() for word in given.split(",")]
    return tuple(dict.fromkeys(looks.number(word, option) for word in words))


class Scored(NamedTuple):
    """A picture, the class of each pixel (H, W), the scores, float32 (C, H, W), if they are wanted, where
    results go (see Outputs.of), and of samples their variance (H, W), float32."""

    image: Image
    best: np.ndarray
    scores: np.ndarray | None
    paths: dict[str, Path]
    unsure: np.ndarray | None = None


def write(scored: Scored, looks: Looks, wanted: Wanted) -> dict[str, Any]:
    """Write what is wanted of a picture; what there is to say of it, for JSON.

    size: width and height of the labels. classes: those found, the largest first, with the number, the
    pixels, and their share of all pixels as a fraction of 1. uncertainty: of samples alone, the mean and the
    largest variance. files: what -> path.
    """
    image, best, scores, paths, unsure = scored
    if best.shape != (image.height, image.width):  # nets without a last crop to the image
        image = image.resize(best.shape[::-1], Resampling.BILINEAR)
    made = {"overlay": pictures.overlay(image, best, looks.palette, looks.names, wanted.alpha,
                                        wanted.classes)}
    if wanted.cutout is not None:
        made["cutout"] = pictures.cutout(image, best, wanted.cutout)
    if unsure is not None:
        made["uncertainty"] = pictures.shaded(unsure)
    pictures.save_labels(paths["labels"], best, looks.palette)
    for what, picture in made.items():
        pictures.save(paths[what], picture)
    if scores is not None:
        with writing(paths["scores"]) as file:
            np.save(file, scores)
    counts = np.bincount(best.ravel(), minlength=len(looks.names)).tolist()
    spread = {} if unsure is None else {
        "uncertainty": {"mean": float(unsure.mean(dtype=np.float64)), "max": float(unsure.max())}}
    return summary(image.size, counts, looks, wanted, paths, **spread)


def summary(size: tuple[int, int], counts: Sequence[int], looks: Looks, wanted: Wanted,
            paths: Mapping[str, Path], **spread: Any) -> dict[str, Any]:
    """What there is to say of a picture with so many pixels of each class, see `write`."""
    told, total = range(len(counts)) if wanted.classes is None else wanted.classes, sum(counts)
    found = [{"name": looks.names[i], "class": i, "pixels": counts[i], "share": counts[i] / total}
             for i in sorted(told, key=lambda i: (-counts[i], i)) if counts[i]]
    return {"size": list(size), "classes": found, **spread,
            "files": {what: str(path) for what, path in paths.items()}}
