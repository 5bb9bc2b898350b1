"""Nets without their data: shapes in place of data files and, for use elsewhere, no losses and no labels.

An image is what the net's results are computed from, a label what they are only held against: who reads a
blob tells them apart, not its place among the tops of a data layer.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from copy import deepcopy
from pathlib import Path

from ..base.errors import Error
from ..data.arrays import Input
from ..ops import REGISTRY, Operation, Shape, lookup
from ..ops.conv import Window
from ..ops.source import Source
from ..proto import caffe_pb2
from ..proto.caffe_pb2 import LayerParameter, NetParameter, Phase
from ..proto.text import read_net
from .build import build, standing
from .graph import Graph

SIDE = 500  # pixels of images whose size nothing says


def deploy(net: str | os.PathLike | NetParameter, phase: Phase = caffe_pb2.TEST,
           size: tuple[int, int] | None = None, *, losses: bool = False, path: Path | None = None) -> Graph:
    """The graph of a net, a file or a NetParameter, whose data need not be there.

    Data layers give images of `size` (None: their crop_size, else 500x500), with 3 channels if they come
    first or a convolution reads them, and labels. What only judges or keeps results is left off, with the
    labels and what is made of labels alone. losses: all of it stays, and Input layers have `size` too. path:
    the net's file, for errors. Raises Error as `build` does, and where no layer is left or in the phase.
    """
    if not isinstance(net, NetParameter):
        path = Path(net)
        net = read_net(path)
    if not (layers := standing(net, phase)):
        raise Error(f"{path or 'the net'} has no layers in phase {caffe_pb2.Phase.Name(phase)}")
    _, images = _leading(layers, _results(net.layer))
    if not losses:
        layers = list(_useful(layers, images))
        net = _with(net, layers)
        if all(map(feeds, layers)):
            raise Error(f"{path or 'the net'}: nothing is left without data layers and losses")
    shapes = dict(_given(layers, images, size, size if losses else None))
    return build(net, phase, shapes=shapes, path=path)


def part(net: NetParameter, blob: str, phase: Phase = caffe_pb2.TEST) -> NetParameter:
    """The NetParameter of what leads to a blob of a net, its sources left with the tops that are needed.

    It is to be built with shapes for the data layers that it has: these cannot be opened with fewer tops.
    """
    layers, needed = _leading(standing(net, phase), [blob])
    return _with(net, [_trimmed(layer, needed) if feeds(layer) else layer for layer in layers])


def feeds(layer: LayerParameter) -> bool:
    """Whether a layer gives data."""
    return not layer.bottom and _kind(layer).data


def _with(net: NetParameter, layers: Iterable[LayerParameter]) -> NetParameter:
    new = deepcopy(net)
    del new.layer[:]
    new.layer.extend(layers)
    return new


def _kind(layer: LayerParameter) -> type[Operation]:
    """The class of a layer; without bottoms that of its type, as who gives data need not be here.

    A type that is not known is a source or any operation: where it must be known, `build` says so.
    """
    try:
        return lookup(layer) if layer.bottom else REGISTRY[layer.type]
    except (Error, KeyError):
        return Operation if layer.bottom else Source


def _results(layers: Iterable[LayerParameter]) -> set[str]:
    """The blobs that a net is for: what no layer reads, and the predictions that a loss or a measure reads.

    It takes the layers of all phases: what a phase's own loss reads as a label is no result in the other.
    """
    raw = {top for layer in layers if feeds(layer) for top in layer.top}
    found: set[str] = set()
    unread: set[str] = set()
    for layer in layers:
        cls = _kind(layer)
        unread -= set(layer.bottom)
        if cls.loss or cls.sink:
            computed = [blob for blob in layer.bottom if blob not in raw]
            found.update((computed or layer.bottom)[: cls.judged])
        elif not feeds(layer):
            unread.update(layer.top)
    return found | unread


def _leading(layers: Sequence[LayerParameter],
             wanted: Iterable[str]) -> tuple[list[LayerParameter], set[str]]:
    """The layers that lead to the blobs wanted, and all blobs on the way."""
    needed = set(wanted)
    found: list[LayerParameter] = []
    for layer in reversed(layers):
        if needed & set(layer.top):
            found.insert(0, layer)
            needed |= set(layer.bottom)
    return found, needed


def _useful(layers: Iterable[LayerParameter], images: set[str]) -> Iterator[LayerParameter]:
    """The layers without losses, measures and labels, and without what is made of labels alone."""
    labels: set[str] = set()
    for layer in layers:
        cls = _kind(layer)
        if feeds(layer):
            labels.update(set(layer.top) - images)
            if images & set(layer.top):
                yield _trimmed(layer, images)
        elif layer.bottom and labels.issuperset(layer.bottom):
            labels.update(layer.top)
        elif not cls.loss and not cls.sink:
            yield layer


def _trimmed(source: LayerParameter, needed: set[str]) -> LayerParameter:
    """A source with those of its tops that are needed."""
    new, places = deepcopy(source), [i for i, top in enumerate(source.top) if top in needed]
    new.top[:] = [source.top[i] for i in places]
    if len(source.input_param.shape) == len(source.top):
        del new.input_param.shape[:]
        new.input_param.shape.extend(source.input_param.shape[i] for i in places)
    return new


def _given(layers: Iterable[LayerParameter], images: set[str], size: tuple[int, int] | None,
           inputs: tuple[int, int] | None) -> Iterator[tuple[str, Shape]]:
    """The blobs of data layers, and of Input layers if those have a size of `inputs`, with their shapes."""
    seen = {bottom for layer in layers if issubclass(_kind(layer), Window) for bottom in layer.bottom}
    for layer in filter(feeds, layers):
        cls, own = _kind(layer), [tuple(shape.dim) for shape in layer.input_param.shape]
        high, across = size or (layer.transform_param.crop_size or SIDE,) * 2
        for i, top in enumerate(layer.top):
            if cls is not Input:
                picture = top in seen or i == 0 and top in images
                one = i and not picture and cls.one_label
                yield top, (1,) if one else (1, 3 if picture else 1, high, across)
            elif inputs and len(own) in (1, len(layer.top)):
                shape = own[i % len(own)]
                yield top, (*shape[:2], *inputs) if len(shape) == 4 else shape
