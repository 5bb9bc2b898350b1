"""Classifiers as fully convolutional nets, with the proof that both compute the same."""

from pathlib import Path

import torch

from ..base.errors import Error
from ..net.build import build
from ..net.deploy import deploy
from ..net.module import Net
from ..net.rewrite import convolutionalise, randomise, share_reshaped
from ..net.weights import load
from ..proto.caffe_pb2 import NetParameter

ROUNDING = 1e-6  # of a blob's largest value: float32's rounding; both nets, run in float64, stay far below


def convolutional(path: Path, weights: Path | None = None) -> tuple[
        NetParameter, Net, list[str], list[str], list[tuple[str, float, float]]]:
    """The convolutional form of a classifier's prototxt, with weights (None: random ones), and the proof.

    Returns the NetParameter, the Net, the names of the layers that were fully connected, of those left out,
    and of each blob its name, the largest difference and the largest value, both nets being run in float64
    on 2 random images of the classifier's size.
    """
    old = Net(deploy(path, losses=True))
    proto, layers, dropped = convolutionalise(old.graph)
    new = Net(build(proto))
    if weights:
        left = load(weights, old.layers_with_params()).missing
        if left:
            raise Error(f"{weights}: has no weights for layer {', '.join(left)} of {path}")
    else:
        randomise(old)
    share_reshaped(old.double(), new)
    blobs = list(dict.fromkeys([*(new.graph.node(name).tops[0].blob for name in layers), *new.graph.outputs]))
    generator = torch.Generator().manual_seed(0)
    inputs = {blob: torch.zeros(2, *old.graph.shape(blob)[1:], dtype=torch.float64)
              for blob in old.graph.inputs}
    for blob in new.graph.inputs:
        inputs[blob].normal_(0, 50, generator=generator)
    with torch.no_grad():
        ours, theirs = (net({blob: inputs[blob] for blob in net.graph.inputs}, want=blobs)
                        for net in (new, old))
    rows = [(blob, float((ours[blob].reshape(theirs[blob].shape) - theirs[blob]).abs().max()),
             float(theirs[blob].abs().max())) for blob in blobs]
    return proto, new.float(), layers, dropped, rows
