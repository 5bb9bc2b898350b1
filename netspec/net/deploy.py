"""Nets without their data: shapes in place of data files and, for use elsewhere, no losses and no labels.

An image is what the net's results are computed from, a label what they are only held against: who reads a
blob tells them apart, not its place among the tops of a data layer.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import deepcopy
from functools import partial
from itertools import product
from pathlib import Path

from ..base.errors import Error
from ..base.names import file_of
from ..data.arrays import Input
from ..ops import REGISTRY, Operation, Shape, lookup
from ..ops.conv import Window
from ..ops.source import Source
from ..proto import caffe_pb2
from ..proto.caffe_pb2 import LayerParameter, NetParameter, Phase
from ..proto.text import read_net
from .build import build, standing
from .graph import Graph, Opaque

SIDE = 500  # pixels of images whose size nothing says
SIDES = (28, 32, 64, 128, 227, SIDE)  # to try for the least that a net takes, or that its weights are for
OTHERS = 512, 224, 32, 28  # to try where a net does not take what is to be tried first
# Of what nothing says: the channels of an image, and whether a label is one an image or a map. The first that
# fits the net counts: most nets see colours, BVLC's of MNIST one or two grey images
GUESSES = ((3, False), (3, True), (1, False), (1, True), (2, True))


def deploy(net: str | os.PathLike | NetParameter, phase: Phase = caffe_pb2.TEST,
           size: tuple[int, int] | None = None, *, losses: bool = False, path: Path | None = None,
           opaque: bool = False, sides: Sequence[int] = (SIDE,),
           fits: Callable[[Graph], bool] | None = None) -> Graph:
    """The graph of a net, a file, a name or a NetParameter, whose data need not be there.

    Data layers give what their settings state, images of `size` (None: what they state, else 500x500, or
    where the net does not take that, one of `unpooled` or OTHERS) to what comes first or a convolution
    reads, and labels; what nothing states is one of GUESSES. What only judges or keeps results is left off,
    with the labels and what is made of labels alone, and a batch is one image. losses: all of it stays, and
    Input layers have `size` too. path: the net's file, for errors. opaque: as `build` has it, where the net
    cannot be built otherwise. sides: to try in this order in place of 500. fits: whether it is the graph
    that is wanted; where none is, the first that can be built is given. Raises Error as `build` does, and
    where no layer is left or in the phase.
    """
    if not isinstance(net, NetParameter):
        path = file_of(net)
        net = read_net(path)
    if not (layers := standing(net, phase)):
        raise Error(f"{path or 'the net'} has no layers in phase {caffe_pb2.Phase.Name(phase)}")
    _, images = _leading(layers, _results(net.layer))
    whole = layers
    if not losses:
        layers = list(_useful(layers, images))
        net = _with(net, layers)
        if all(map(feeds, layers)):
            raise Error(f"{path or 'the net'}: nothing is left without data layers and losses")
    tried: list[dict[str, Shape]] = []
    said = size or _all_sized(layers)
    guesses = [(size, SIDE)] if said else [*((None, side) for side in sides),
                                           *((each, SIDE) for each in unpooled(layers)),
                                           *((None, side) for side in _others(layers))]
    fed = {top for layer in filter(feeds, layers) for top in layer.top}
    for (each, side), guess in product(guesses, GUESSES):
        given = _given(whole, images, each, side, losses, guess)
        shapes = {top: shape for top, shape in given if top in fed}
        if shapes not in tried:
            tried.append(shapes)
    known = all(layer.type in REGISTRY for layer in layers)  # else no other size will do
    found = _fitting((partial(build, net, phase, shapes=shapes, path=path)
                      for shapes in tried[: None if known else 1]), fits)
    if isinstance(found, Graph):
        return found
    if opaque:
        looks = (build(net, phase, shapes=shapes, path=path, opaque=True) for shapes in tried[: len(GUESSES)])
        return min(looks, key=lambda graph: sum(isinstance(node.op, Opaque) for node in graph.layers))
    if not said and unpooled(layers):
        raise Error(f"{found}; its data do not say how large images are, which un-pooling depends on: give "
                    "--size HxW")
    raise found


def _fitting(builds: Iterable[Callable[[], Graph]], fits: Callable[[Graph], bool] | None) -> Graph | Error:
    """The first graph that fits; else the first that can be built, else what is wrong with the first."""
    first: Graph | None = None
    problem: Error | None = None
    for built in builds:
        try:
            graph = built()
        except Error as error:
            problem = problem or error
        else:
            first = first or graph
            if not fits or fits(graph):
                return graph
    found = first or problem
    assert found
    return found


def sized(net: NetParameter, phase: Phase) -> bool:
    """Whether the layers that give a net its data say how large they are."""
    return _all_sized(standing(net, phase))


def _others(layers: Iterable[LayerParameter]) -> Sequence[int]:
    """OTHERS; none where a layer is of no known type, or of another's, which no size would mend."""
    return OTHERS if all(layer.type in REGISTRY and layer.type != "Python" for layer in layers) else ()


def unpooled(layers: Iterable[LayerParameter]) -> list[tuple[int, int]]:
    """The sizes (H, W) of images to try that un-pooling by masks may want, where nothing says it.

    That which upsample_h and upsample_w of a layer say, times the scales of those above it; else some that
    are halved without and with a rest, one behind the other, where SIDE has both sides alike.
    """
    ups = [layer.upsample_param for layer in layers if layer.type == "Upsample" and len(layer.bottom) > 1]
    size = 0, 0
    for p in ups:
        stated = p.upsample_h and p.upsample_w
        size = (p.upsample_h, p.upsample_w) if stated else (size[0] * (p.scale_h or p.scale),
                                                           size[1] * (p.scale_w or p.scale))
    sides = range(SIDE // 8 * 8, SIDE - 32, -8)
    return [] if not ups else [size] if all(size) else [*product(sides, sides)]


def scored(net: NetParameter) -> str:
    """The blob with the scores of a net that segments, where nobody names it: 'score', or where there is none
    the one that its losses and measures read, or that it ends in."""
    tops = {top for layer in net.layer for top in layer.top}
    found = _results(net.layer)
    classifies = any(layer.type == "InnerProduct" for layer in net.layer)
    return "score" if "score" in tops or classifies or len(found) != 1 else found.pop()


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


def _all_sized(layers: Iterable[LayerParameter]) -> bool:
    return all(map(_sized, filter(feeds, layers)))


def _sized(layer: LayerParameter) -> bool:
    """Whether a layer that gives data says how large it is."""
    cls = _kind(layer)
    return cls is Input or bool(layer.transform_param.crop_size or cls.stated(layer))


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
    """The layers without losses, measures and labels, and without what is made of these alone."""
    labels: set[str] = set()
    for layer in layers:
        cls = _kind(layer)
        if feeds(layer):
            labels.update(set(layer.top) - images)
            if images & set(layer.top):
                yield _trimmed(layer, images)
        elif cls.loss or cls.sink or layer.bottom and labels.issuperset(layer.bottom):
            labels.update(layer.top)
        else:
            yield layer


def _trimmed(source: LayerParameter, needed: set[str]) -> LayerParameter:
    """A source with those of its tops that are needed."""
    new, places = deepcopy(source), [i for i, top in enumerate(source.top) if top in needed]
    new.top[:] = [source.top[i] for i in places]
    for name in ("input_param", "dummy_data_param"):
        for field, values in getattr(source, name).ListFields():  # one value for all tops, or one for each
            if len(values) == len(source.top):
                getattr(new, name).ClearField(field.name)
                getattr(getattr(new, name), field.name).extend(values[i] for i in places)
    return new


def _given(layers: Iterable[LayerParameter], images: set[str], size: tuple[int, int] | None, side: int,
           losses: bool, guess: tuple[int, bool]) -> Iterator[tuple[str, Shape]]:
    """The blobs of data layers, and of Input layers if `size` is for them too, with their shapes."""
    seen = {bottom for layer in layers if issubclass(_kind(layer), Window) for bottom in layer.bottom}
    rows = {bottom: 3 if _kind(layer).reads[i] == "size" else 5 for layer in layers
            for i, bottom in enumerate(layer.bottom) if i in _kind(layer).reads}  # of boxes, and of im_info
    for layer in filter(feeds, layers):
        cls, own = _kind(layer), [tuple(shape.dim) for shape in layer.input_param.shape]
        known = cls.stated(layer, size) or cls.stated(layer, (side, side))
        high, across = size or (layer.transform_param.crop_size or side,) * 2
        for i, top in enumerate(layer.top):
            if cls is not Input:
                picture = top in seen or i == 0 and top in images
                channels = guess[0] if picture else 1
                if i < len(known) and not (i and picture):
                    n, *rest = known[i]
                    shape = (n if losses or n != known[0][0] else 1, *rest)
                    yield top, shape if all(rest[:1]) else (shape[0], channels, *rest[1:])
                elif top in rows:
                    yield top, (1, rows[top])
                elif not picture and (guess[1] or i and cls.one_label):
                    yield top, (1,)
                else:
                    yield top, (1, channels, high, across)
            elif size and losses and len(own) in (1, len(layer.top)):
                shape = own[i % len(own)]
                yield top, (*shape[:2], *size) if len(shape) == 4 and shape[2:] != (1, 1) else shape
