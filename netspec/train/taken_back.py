"""Layers that learn normalised targets (of boxes): weights on disk give the targets themselves.

As R-FCN's release does it, so that nets are tested as they are written. Only the solver's own memory, and the
.resume file of a snapshot, have what is learned.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from ..net import weights
from ..net.graph import Graph
from ..net.module import Net
from ..proto.model import Layers, write_weights

Facts = dict[str, Any]


def scales(graph: Graph) -> dict[str, tuple[Tensor, Tensor]]:
    """Layer -> standard deviations and means of its channels, of the layers that are held against such
    targets in a loss: each target's channels follow each other, k^2 of them below PSROIPooling."""
    makers = {top: (node, i) for node in graph.layers for i, top in enumerate(node.tops)}
    found = {}
    for node in graph.nodes:
        for target in node.bottoms[1:] if node.op.loss else ():
            maker, top = makers[target]
            if top not in maker.op.normalized:
                continue
            layer = makers[node.bottoms[0]][0]
            while not layer.params and layer.bottoms:
                layer = makers[layer.bottoms[0]][0]
            if layer.params:
                columns, channels = graph.shapes[target][1], layer.params[0].shape[0]
                means, deviations = (
                    torch.tensor(each).repeat(columns // len(each)).repeat_interleave(channels // columns)
                    for each in maker.op.normalized[top])
                found[layer.name] = deviations, means
    return found


def _learned(net: Net) -> list[tuple[str, int, Parameter, Tensor, Tensor]]:
    """Layer, number, parameter, and what it is multiplied by and then raised by on disk."""
    params = net.layers_with_params()
    found = []
    for name, (deviations, means) in scales(net.graph).items():
        for i, param in enumerate(params[name]):
            factor = deviations.to(param).reshape(-1, *[1] * (param.dim() - 1))
            found.append((name, i, param, factor, means.to(param) if i else torch.zeros_like(factor)))
    return found


def layers_of(net: Net) -> Layers:
    """What `weights.layers_of` gives, taken back."""
    found = weights.layers_of(net)
    for name, i, param, factor, more in _learned(net):
        settings, blobs = found[name]
        taken = (param.detach() * factor + more).cpu().numpy()
        found[name] = settings, [*blobs[:i], taken, *blobs[i + 1 :]]
    return found


def save(path: str | os.PathLike, net: Net, hdf5: bool) -> None:
    """The weights of a net, taken back, as a .caffemodel (or .caffemodel.h5)."""
    write_weights(path, net.graph.name, layers_of(net), hdf5=hdf5)


@contextmanager
def within(net: Net, test: Net) -> Iterator[None]:
    """In the block the parameters that a test net shares are as they would be on disk, so that it is tested
    as it is written; behind it they are what is learned again, bit for bit. Layers that are held against such
    targets in the test net too are left."""
    own = scales(test.graph)
    learned = [(param, factor, more) for name, _, param, factor, more in _learned(net) if name not in own]
    before = [param.detach().clone() for param, *_ in learned]
    try:
        with torch.no_grad():
            for param, factor, more in learned:
                param.copy_(param * factor + more)
        yield
    finally:
        with torch.no_grad():
            for (param, *_), kept in zip(learned, before, strict=True):
                param.copy_(kept)


def facts(net: Net) -> Facts:
    """What is learned, bit for bit, for a .resume file."""
    return {f"learned:{name}:{i}": param.detach().cpu().flatten().view(torch.uint8)
            for name, i, param, *_ in _learned(net)}


def load(path: str | os.PathLike, net: Net, known: Facts | None = None, *, strict: bool) -> weights.Report:
    """`weights.load`, and what is learned put back: as a .resume file knows it, else from the weights, which
    differs by rounding."""
    report = weights.load(path, net.layers_with_params(), strict=strict)
    with torch.no_grad():
        for name, i, param, factor, more in _learned(net):
            stored = (known or {}).get(f"learned:{name}:{i}")
            if stored is not None and stored.numel() == param.nbytes:
                param.copy_(stored.view(param.dtype).reshape(param.shape))
            elif name in report.copied:
                param.copy_((param - more) / factor)
    return report
