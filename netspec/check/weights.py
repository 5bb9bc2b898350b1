"""What is in a file of weights, and what of it fits a net."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ..base.errors import Error, closest, count, listed
from ..net import weights
from ..net.module import Net
from ..proto.caffe_pb2 import NetParameter, V1LayerParameter
from ..proto.model import Blobs, read_weights
from ..proto.wire import WireFile, is_hdf5
from . import NOTE, OK, PROBLEM, Finding

KNOWN = (  # classifier, a layer that tells it from those further down, the shape of its weight
    ("VGG19", "conv3_4", (256, 256, 3, 3)),
    ("VGG16", "conv3_3", (256, 256, 3, 3)),
    ("ResNet-152", "res4b35_branch2a", (256, 1024, 1, 1)),
    ("ResNet-101", "res4b22_branch2a", (256, 1024, 1, 1)),
    ("ResNet-50", "res4f_branch2a", (256, 1024, 1, 1)),
    ("GoogLeNet", "inception_3a/1x1", (64, 192, 1, 1)),
    ("AlexNet or CaffeNet", "conv2", (256, 48, 5, 5)),
)


def classifier(shapes: Mapping[str, Sequence[int]]) -> str | None:
    """The classifier that layers of these names, and of these shapes of weights, belong to."""
    return next((name for name, layer, shape in KNOWN if tuple(shapes.get(layer, ())) == shape), None)


def weights_file(path: Path) -> tuple[list[Finding], dict[str, Blobs]]:
    """What is in a file of weights, and its blobs by layer. Raises Error for another kind of file."""
    read = {name: blobs for name, blobs in read_weights(path).items() if blobs}
    own = {name: [blob for blob in blobs if blob is not None] for name, blobs in read.items()}
    every = [blob for blobs in own.values() for blob in blobs]
    said = (f"{_generation(path)}, {count(len(read), 'layer')}, "
            f"{sum(blob.size for blob in every):,} numbers, "
            + " and ".join(sorted({str(blob.dtype) for blob in every})))
    if known := classifier({name: blobs[0].shape for name, blobs in own.items() if blobs}):
        said += f"; the layers of {known}"
    found = [Finding(OK, str(path), said)]
    bad = [name for name, blobs in own.items() if not all(np.isfinite(blob).all() for blob in blobs)]
    if bad:
        found.append(Finding(PROBLEM, str(path), f"NaN or Inf in {listed(bad)}",
                             "take an earlier snapshot: the run had diverged"))
    zero = [name for name, blobs in own.items() if any(b.squeeze().ndim > 1 and not b.any() for b in blobs)]
    if zero:
        found.append(Finding(NOTE, str(path), f"weights all zero in {listed(zero)}",
                             "right in a score layer yet to be trained; else its training never reached it"))
    return found, read


def _generation(path: Path) -> str:
    """HDF5, or which of the three forms of a .caffemodel."""
    if is_hdf5(path):
        return "HDF5"
    file = WireFile(path, "weights")
    old = next((part for part in file.fields() if part.number == NetParameter.LAYERS_FIELD_NUMBER), None)
    if old is None:
        return "V2"
    inner = [part.number for part in file.fields(old.start, old.end)]
    return "V0" if V1LayerParameter.LAYER_FIELD_NUMBER in inner else "V1"


def fill(net: Net, read: Mapping[str, Blobs], where: str) -> tuple[list[Finding], bool]:
    """Copy the weights that fit into a net; what fits and what does not, and whether all layers have theirs.

    Upsampling without filler is made bilinear where the weights lack it, as `solve` does.
    """
    found: list[Finding] = []
    try:
        done = weights.ready(net, read)
    except Error:
        target, fits = net.layers_with_params(), dict(read)
        for name in [name for name in read if name in target]:
            try:
                weights.copy({name: read[name]}, {name: target[name]})
            except Error as e:
                found.append(Finding(PROBLEM, where, str(e), "or take weights of a net with such a layer"))
                del fits[name]
        done = weights.ready(net, fits)
    for level, what, names in ((OK, "copied", done.copied), (OK, "copied in another shape", done.reshaped),
                               (OK, "made bilinear upsampling", done.bilinear),
                               (NOTE, "in the file only", done.ignored)):
        if names:
            found.append(Finding(level, where, f"{what}: {listed(names)}"))
    for name in done.missing:
        if name in read:  # what does not fit was said
            continue
        near = closest(name, [other for other in done.ignored if done.shapes[other] == done.shapes[name]])
        if near:
            found.append(Finding(PROBLEM, name, f"not in the weights{near}",
                                 "rename the layer: weights go by layer names"))
        else:
            level = NOTE if net.losses else PROBLEM
            found.append(Finding(level, name, "not in the weights: left at its filler",
                                 "nothing, if it is to be trained; else take weights that have it"))
    return found, not done.missing
