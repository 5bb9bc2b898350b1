"""Files of proposals: the regions that one net found in the images of a split, for another to learn from."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..base.errors import Error
from ..base.files import writing
from ..ops.settings import settings_of
from ..proto.caffe_pb2 import NetParameter
from ..proto.npy import read_npz


class Proposals(NamedTuple):
    """What a file of proposals holds, an entry for each image of a split, in its order."""

    dataset: str  # `DetectionData.mark` of the split
    weights: str  # what the weights are told by that found them: a checksum
    names: list[str]
    boxes: list[np.ndarray]  # float32 (R, 4), x1 y1 x2 y2 in pixels of the image as stored, best ones first


def write(path: Path, found: Proposals) -> None:
    """Write a file whole or not at all: a NumPy archive of dataset, weights, names, counts and boxes."""
    rows = np.concatenate([np.empty((0, 4)), *found.boxes]).astype(np.float32)
    with writing(path) as file:
        np.savez(file, dataset=found.dataset, weights=found.weights, names=np.array(found.names, str),
                 counts=np.array([len(each) for each in found.boxes], np.int64), boxes=rows)


def redirected(net: NetParameter, folder: Path) -> NetParameter:
    """A net whose data layers read proposals, if they read some, in another folder."""
    for layer in net.layer:
        given = None if layer.bottom else settings_of(layer)
        if given and "proposals" in given:
            place = str(folder / Path(given["proposals"]).name)
            layer.python_param.param_str = str(given | {"proposals": place})
    return net


def read(path: Path, dataset: str | None = None, listed: Sequence[str] = ()) -> Proposals:
    """A file of proposals. Raises Error for what is none, or was made of another data set than `dataset`,
    whose images are `listed`."""
    try:
        held = read_npz(path, ("dataset", "weights", "names", "counts", "boxes"))
        counts, boxes, names = held["counts"], held.pop("boxes"), held["names"].tolist()
        whole = counts.dtype.kind in "iu" and (counts >= 0).all() and boxes.dtype.kind == "f"
        if not whole or counts.shape != (len(names),) or boxes.shape != (counts.sum(), 4):
            raise ValueError("its parts do not fit together")
        with np.errstate(over="ignore"):
            boxes = boxes.astype(np.float32, copy=False)
        if not (np.isfinite(boxes).all() and (boxes[:, :2] <= boxes[:, 2:]).all()):
            raise ValueError("it holds boxes that are none")
    except FileNotFoundError:
        raise Error(f"the proposals {path} are not there; the step before writes them") from None
    except (OSError, ValueError, KeyError, TypeError, MemoryError) as error:
        words = " ".join(str(error).split())[:200]
        raise Error(f"{path} is no file of proposals, or damaged: {words}") from None
    found = Proposals(str(held["dataset"]), str(held["weights"]), names,
                      np.split(boxes, np.cumsum(counts)[:-1]) if names else [])
    if dataset is not None and (found.dataset != dataset or names != list(listed)):
        raise Error(f"the proposals {path} are of another data set, or its list or boxes changed since they "
                    "were made: make them anew")
    return found
