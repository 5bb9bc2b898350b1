"""How often each class occurs in labels, and the weights that even it out."""

import os
from collections.abc import Mapping, Sequence

import numpy as np

from ..base.files import writing
from ..proto.caffe_pb2 import BlobProto, BlobShape
from .layouts import Facts, Labels, facts
from .segmentation import SegmentationData


def pixel_counts(labels: np.ndarray) -> dict[int, int]:
    """Label value -> how many pixels have it."""
    if labels.dtype == np.uint8:  # ten times as quick
        pixels = np.bincount(labels.ravel(), minlength=1)
        values = np.flatnonzero(pixels)
        return dict(zip(values.tolist(), pixels[values].tolist(), strict=True))
    values, pixels = np.unique(labels, return_counts=True)
    return dict(zip(values.tolist(), pixels.tolist(), strict=True))


def by_class(images: Sequence[Mapping[int, int]], known: Facts) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of each class and, last, of void, in each image (images, classes + 1), and of all values
    (images)."""
    values = (*range(len(known.names)), known.void)
    return (np.array([[image.get(value, 0) for value in values] for image in images]),
            np.array([sum(image.values()) for image in images]))


def unseen(pixels: Mapping[int, int], source: SegmentationData, top: str) -> list[str]:
    """A sentence, with its cure, for each class that no label of a training split has.

    pixels: of all values in the labels `top`. Only for images of one's own: the papers' data sets are as they
    are.
    """
    known, kind = facts(source.layout, top), source.labels[top]
    missing = [i for i in range(len(known.names)) if not pixels.get(i)]
    if source.layout.facts or not missing:
        return []
    values = {} if isinstance(kind.values, str) else dict(kind.values)
    spare = [] if kind.colours else sorted(set(pixels) - {*range(len(known.names))})
    held = ", ".join(f"{value} (void)" if value == known.void else str(value) for value in sorted(pixels)[:6])
    back = {fed: number for number, fed in values.items()}
    cures = dict(zip(missing, spare, strict=False))
    line = values | {back.get(value, value): i for i, value in cures.items()}
    told = []
    for i in missing:
        cure = f"take it out of the list of classes, or add images of it to '{source.split}'"
        if i in cures:
            cure = f"if {cures[i]} is '{known.names[i]}', add {source.tree.option('values', line)}; or {cure}"
        told.append(f"class '{known.names[i]}' ({i}) never occurs in the labels of '{source.split}', which "
                    f"hold {held or 'nothing'}: {cure}")
    return told


def count_labels(source: SegmentationData) -> tuple[np.ndarray, np.ndarray]:
    """`by_class` of the first labels that a source reads, of every image in its list."""
    kinds = zip(source.tops_read, source.kinds, strict=True)
    top = next(top for top, kind in kinds if isinstance(kind, Labels))
    labels = (tree.read(top, split, name, 1.0) for tree, split, name in source.entries)
    return by_class([pixel_counts(each) for each in labels], facts(source.layout, top))


def weights(pixels: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Median-frequency weights of classes from their pixels (images, classes) and all pixels (images); NaN
    for absent ones.

    median(freq) / freq(c); freq(c) is the pixels of class c by all pixels of the images it occurs in (Eigen &
    Fergus 2015).
    """
    with np.errstate(invalid="ignore"):
        frequency = pixels.sum(0) / np.where(pixels > 0, total[:, None], 0).sum(0)
    there = frequency[np.isfinite(frequency)]
    return np.median(there) / frequency if len(there) else frequency


def write_balance(path: str | os.PathLike, pixels: np.ndarray, total: np.ndarray, power: float = 1) -> None:
    """Write the `weights` of labels as InfogainLoss reads them: a diagonal matrix, 1 x 1 x C x C, float32.

    pixels: of each class and, last, of void, in each image (images, C + 1); total: of all values (images).
    Classes that never occur get 1. power: of the weights; 0.5 is milder.
    """
    matrix = np.diag(np.nan_to_num(weights(pixels[:, :-1], total), nan=1.0) ** power).astype(np.float32)
    blob = BlobProto(shape=BlobShape(dim=(1, 1, *matrix.shape)), data=matrix.ravel())
    with writing(path) as file:
        file.write(blob.SerializeToString())
