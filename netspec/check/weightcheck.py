"""What is in a file of weights, and what of it fits a net."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..base.errors import Error, closest, listed
from ..net import weights
from ..net.module import Net
from ..net.weights import interp, unfilled_upsampling
from ..proto.caffe_pb2 import NetParameter, V1LayerParameter
from ..proto.model import Blobs, read_weights
from ..proto.wire import WireFile, is_hdf5
from .batch import NOTE, OK, PROBLEM, Finding

# classifier, a layer that tells it from those further down, the shape of its weight
KNOWN = (("VGG19", "conv3_4", (256, 256, 3, 3)), ("VGG16", "conv3_3", (256, 256, 3, 3)),
         ("ResNet-152", "res4b35_branch2a", (256, 1024, 1, 1)), ("ResNet-101", "res4b22_branch2a", (256, 1024, 1, 1)),
         ("ResNet-50", "res4f_branch2a", (256, 1024, 1, 1)), ("GoogLeNet", "inception_3a/1x1", (64, 192, 1, 1)),
         ("AlexNet or CaffeNet", "conv2", (256, 48, 5, 5)))


def classifier(shapes: Mapping[str, Sequence[int]]) -> str | None:
    """The classifier that layers of these names, and of these shapes of weights, belong to."""
    return next((name for name, layer, shape in KNOWN if tuple(shapes.get(layer, ())) == shape), None)


def weights_file(path: Path) -> tuple[list[Finding], dict[str, Blobs]]:
    """What is in a file of weights, and its blobs by layer."""
    read = {name: blobs for name, blobs in read_weights(path).items() if blobs}
    own = {name: [blob for blob in blobs if blob is not None] for name, blobs in read.items()}
    blobs = [blob for each in own.values() for blob in each]
    known = classifier({name: each[0].shape for name, each in own.items() if each})
    found = [Finding(OK, str(path), f"{_generation(path)}, {len(read)} layers, {sum(b.size for b in blobs):,} numbers, "
                     + " and ".join(sorted({str(b.dtype) for b in blobs})) + (f"; the layers of {known}" if known else ""))]
    for level, what, do, bad in (
            (PROBLEM, "NaN or Inf", "take an earlier snapshot: the run had diverged", lambda b: not np.isfinite(b).all()),
            (NOTE, "weights all zero", "right in a score layer yet to be trained; else its training never reached it",
             lambda b: b.squeeze().ndim > 1 and not b.any())):
        if names := [name for name, each in own.items() if any(map(bad, each))]:
            found.append(Finding(level, str(path), f"{what} in {listed(names)}", do))
    return found, read


def _generation(path: Path) -> str:
    """HDF5, or which of the three forms of a .caffemodel."""
    if is_hdf5(path):
        return "HDF5"
    file = WireFile(path, "weights")
    old = next((part for part in file.fields() if part.number == NetParameter.LAYERS_FIELD_NUMBER), None)
    if old is None:
        return "V2"
    return "V0" if any(f.number == V1LayerParameter.LAYER_FIELD_NUMBER for f in file.fields(old.start, old.end)) else "V1"


def fill(net: Net, read: Mapping[str, Sequence[Any]], where: str) -> tuple[list[Finding], bool]:
    """Copy the weights that fit into a net; what fits and what does not, and whether all layers have theirs.

    Upsampling without filler is made bilinear where the weights lack it, as `solve` does.
    """
    target, fits, found = net.layers_with_params(), dict(read), []
    try:
        done = weights.copy(fits, target)
    except Error:
        for name in read.keys() & target.keys():
            try:
                weights.copy({name: read[name]}, {name: target[name]})
            except Error as e:
                found.append(Finding(PROBLEM, where, str(e), "or take weights of a net with such a layer"))
                del fits[name]
        done = weights.copy(fits, target)
    bilinear = [name for name in unfilled_upsampling(net) if name in done.missing]
    interp(net, bilinear)
    lacking = [name for name in done.missing if name not in bilinear]
    for level, what, names in ((OK, "copied", done.copied), (OK, "copied in another shape", done.reshaped),
                               (OK, "made bilinear upsampling", bilinear), (NOTE, "in the file only", done.ignored)):
        found += [Finding(level, where, f"{what}: {listed(names)}")] * bool(names)
    for name in [name for name in lacking if name not in read]:
        near = closest(name, [other for other in done.ignored if done.shapes[other] == done.shapes[name]])
        level = PROBLEM if near or not net.losses else NOTE
        found.append(Finding(level, name, f"not in the weights{near or ': left at its filler'}",
                             "rename the layer: weights go by layer names" if near else
                             "nothing, if it is to be trained; else take weights that have it"))
    return found, not lacking
