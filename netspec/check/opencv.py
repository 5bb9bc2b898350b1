"""What a net gives, held against what OpenCV's dnn (4 or older, which reads Caffe's files) gives."""

import math
import re
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from ..base.errors import Error
from ..net.module import Net
from .batch import draw

CLOSE = 1e-4  # of the largest value of a blob: how far OpenCV's may be


def apart(net: Net, model: Path) -> float:
    """How far the outputs of a net of a file, with the weights of model, are from OpenCV's on one batch, of
    the largest value of each; Error if it is too far, or OpenCV does not run it."""
    import cv2

    batch, path, worst = draw(net.graph).blobs, net.graph.path, 0.0
    assert path
    with torch.inference_mode():
        ours = net(batch)
    try:
        # OpenCV does not cut the sizes of priors to whole numbers, as Caffe does: it is given them cut
        text = re.sub(rb"\b(m(?:in|ax)_size\s*:\s*\d+)\.\d+", rb"\1", path.read_bytes())
        other = cv2.dnn.readNetFromCaffe(np.frombuffer(text, np.uint8), np.fromfile(model, np.uint8))
        for blob, x in batch.items():
            other.setInput(x.numpy(), blob)
        made = {top.blob: node for node in net.graph.layers for top in node.tops}
        theirs = {blob: other.forward(made[blob].name) for blob in net.graph.outputs}
    except cv2.error as e:
        raise Error(f"OpenCV does not run it: {e}") from None
    for blob, values in theirs.items():
        compare = rows_apart if made[blob].type == "DetectionOutput" else numbers_apart
        if not (far := compare(ours[blob].numpy(), values)) <= CLOSE:
            raise Error(f"'{blob}' is {far:.2g} of the largest value away from OpenCV")
        worst = max(worst, far)
    return worst


def numbers_apart(mine: np.ndarray, theirs: np.ndarray) -> float:
    """How far numbers are from OpenCV's, of the largest of those; infinity where they are not as many."""
    if mine.size != theirs.size:
        return math.inf
    far = np.abs(mine.ravel() - theirs.ravel()).max(initial=0)
    return float(far / max(np.abs(theirs).max(initial=0), 1e-30))


def rows_apart(mine: np.ndarray, theirs: np.ndarray) -> float:
    """`numbers_apart` of what DetectionOutput found, R x 7, classes and rows of equal scores in any order."""
    # where less is found than can be, OpenCV has rows of zeros, Caffe one of -1
    mine, theirs = (rows[rows.any(1) & (rows[:, 1] >= 0)]
                    for rows in (mine.reshape(-1, 7), theirs.reshape(-1, 7)))
    mine, theirs = (rows[np.lexsort((rows[:, 1], rows[:, 0]))] for rows in (mine, theirs))  # by class
    if mine.shape != theirs.shape or (mine[:, :2] != theirs[:, :2]).any():
        return math.inf
    order = linear_sum_assignment(np.abs(mine[:, None] - theirs).max(-1))[1]
    return max(numbers_apart(mine[:, 2], theirs[:, 2]), numbers_apart(mine[:, 2:], theirs[order, 2:]))
