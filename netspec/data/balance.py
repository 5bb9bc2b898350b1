"""How often each class occurs in labels, and the weights that even it out."""

import os

import numpy as np

from ..base.files import writing
from ..proto.caffe_pb2 import BlobProto, BlobShape


def weights(pixels: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Median-frequency weights of classes from their pixels (images, classes) and all pixels (images); NaN for absent ones.

    median(freq) / freq(c); freq(c) is the pixels of class c by all pixels of the images it occurs in (Eigen & Fergus 2015).
    """
    with np.errstate(invalid="ignore"):
        frequency = pixels.sum(0) / np.where(pixels > 0, total[:, None], 0).sum(0)
    there = frequency[np.isfinite(frequency)]
    return np.median(there) / frequency if len(there) else frequency


def write_balance(path: str | os.PathLike, pixels: np.ndarray, total: np.ndarray, power: float = 1) -> None:
    """Write the `weights` of labels as InfogainLoss reads them: a diagonal matrix, 1 x 1 x C x C, float32.

    pixels: of each class and, last, of void, in each image (images, C + 1); total: of all values (images). Classes
    that never occur get 1. power: of the weights; 0.5 is milder.
    """
    matrix = np.diag(np.nan_to_num(weights(pixels[:, :-1], total), nan=1.0) ** power).astype(np.float32)
    with writing(path) as file:
        file.write(BlobProto(shape=BlobShape(dim=(1, 1, *matrix.shape)), data=matrix.ravel()).SerializeToString())
