"""Coordinate maps between blobs and the crop offsets that follow from them.

A map takes a coordinate x of one blob to scale * x + shift on another. Convolution and pooling shrink,
deconvolution spreads, padding and cropping shift (Long et al. 2015; released with the nets as "coordinate
maps").
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..base.errors import Error
from ..ops import REGISTRY, CoordMap
from ..proto import spec
from ..proto.caffe_pb2 import LayerParameter

if TYPE_CHECKING:
    from .graph import Node, Value

Fractions = tuple[Fraction, ...]


class Misfit(Error, AssertionError):
    """Two blobs that no crop can align; pycaffe asserts, so this is an AssertionError too."""


class Apart(Error, RuntimeError):
    """Two blobs that no layers with a map connect; pycaffe raises RuntimeError, so this is one too."""


class Step(NamedTuple):
    """A blob on the way from a start up through first causes: how `start` = scale * x + shift of its x."""

    blob: Any  # a Top, or a graph's Value
    layer: LayerParameter | None  # between this blob and the one before it; None for the start
    own: CoordMap  # that layer's map
    total: CoordMap  # of the whole way so far
    before: Any  # the blob before it


def compose(base: CoordMap, inner: CoordMap) -> CoordMap:
    """The map that applies `inner` first, then `base`; Misfit if they move different axes."""
    if base.axis is not None and inner.axis is not None and base.axis != inner.axis:
        raise Misfit(f"maps along axis {base.axis} and along axis {inner.axis} cannot be joined")
    axis = inner.axis if base.axis is None else base.axis
    (a1, b1), (a2, b2) = wide(base, inner)
    scale = tuple(p * q for p, q in zip(a1, a2, strict=True))
    return CoordMap(axis, scale, tuple(p * d + c for p, d, c in zip(a1, b2, b1, strict=True)))


def inverse(m: CoordMap) -> CoordMap:
    """The map back."""
    ((scale, shift),) = wide(m)
    back = tuple(-b / a for a, b in zip(scale, shift, strict=True))
    return CoordMap(m.axis, tuple(1 / a for a in scale), back)


def wide(*maps: CoordMap) -> list[tuple[Fractions, Fractions]]:
    """Scales and shifts as fractions, one for each axis that any of the maps tells apart."""
    rows = [tuple(Fraction(n) for n in (numbers if isinstance(numbers, tuple) else (numbers,)))
            for m in maps for numbers in (m.scale, m.shift)]
    axes = max(map(len, rows))
    rows = [row * axes if len(row) == 1 else row for row in rows]
    return list(zip(rows[::2], rows[1::2], strict=True))


class Tops:
    """The walk over NetSpec's Tops."""

    def causes(self, top: spec.Top) -> Sequence[spec.Top]:
        return top.fn.inputs

    def layer(self, top: spec.Top) -> LayerParameter:
        return top.fn.layer("", [], [])

    def name(self, top: spec.Top) -> str:
        return f"a {top.fn.type_name}"


class Values:
    """The walk over the values of a graph's nodes."""

    def __init__(self, nodes: Iterable["Node"]) -> None:
        self.makers = {top: node for node in nodes for top in node.tops}

    def causes(self, value: "Value") -> Sequence["Value"]:
        return self.makers[value].bottoms

    def layer(self, value: "Value") -> LayerParameter:
        return self.makers[value].op.layer

    def name(self, value: "Value") -> str:
        return f"'{value.blob}'"


def ways(start: Any, walk: Tops | Values) -> Iterator[Step]:
    """Every blob that `start` is computed from, nearest first, as far as layers have a coordinate map.

    A Crop's second bottom gives a size, not values, so the way goes through the first alone.
    """
    seen, queue = {start}, deque([Step(start, None, CoordMap(), CoordMap(), None)])
    while queue:
        step = queue.popleft()
        yield step
        if not (causes := walk.causes(step.blob)):
            continue
        layer = walk.layer(step.blob)
        own = REGISTRY[layer.type].coord_map(layer) if layer.type in REGISTRY else None
        if own is None:
            continue
        for cause in causes[:1] if layer.type == "Crop" else causes:
            if cause not in seen:
                seen.add(cause)
                queue.append(Step(cause, layer, own, compose(step.total, own), step.blob))


def meeting(top_from: Any, top_to: Any, walk: Tops | Values) -> tuple[list[Step], list[Step], CoordMap]:
    """The ways back from two blobs to the nearest behind both, and the map from the first to the second."""
    behind = {step.blob: step for step in ways(top_from, walk)}
    reached: dict[Any, Step] = {}
    for step in ways(top_to, walk):
        reached[step.blob] = step
        if step.blob in behind:
            total = compose(step.total, inverse(behind[step.blob].total))
            return _path(behind, step.blob), _path(reached, step.blob), total
    raise Apart(f"no coordinate map leads from {walk.name(top_from)} to {walk.name(top_to)}: "
                "no layers with a map connect them to a common blob")


def _path(steps: dict[Any, Step], end: Any) -> list[Step]:
    """The steps from the start to `end`."""
    path = [steps[end]]
    while path[-1].before is not None:
        path.append(steps[path[-1].before])
    return path[::-1]


def coord_map_from_to(top_from: spec.Top, top_to: spec.Top) -> tuple[int | None, np.ndarray, np.ndarray]:
    """pycaffe's: (axis, scale, shift), float64 arrays, from a coordinate on `top_from` to one on `top_to`."""
    m = meeting(top_from, top_to, Tops())[2]
    ((scale, shift),) = wide(m)
    return m.axis, np.array([float(a) for a in scale]), np.array([float(b) for b in shift])


def offsets(m: CoordMap, names: tuple[str, str]) -> list[int]:
    """The crop offsets that make a blob lie on another; Misfit if no whole, non-negative offset does."""
    ((scale, shift),) = wide(m)
    start = f"{names[0]} cannot be cropped to {names[1]}: "
    if any(a != 1 for a in scale):
        raise Misfit(f"{start}one step on it is {distinct(scale)} steps there, upsample or downsample first")
    if any(b > 0 for b in shift):
        raise Misfit(f"{start}it begins {distinct(shift)} behind it, so the offset would be negative; "
                     "pad more")
    if any(b.denominator != 1 for b in shift):
        raise Misfit(f"{start}it lies {distinct(-b for b in shift)} away, which is not a whole offset")
    return [int(-b) for b in shift]


def crop(top_from: spec.Top, top_to: spec.Top) -> spec.Top:
    """A Crop layer that cuts `top_from` to the size of `top_to`, where the two lie on each other."""
    axis, offset = aligning(top_from, top_to, Tops())
    return spec.layers.Crop(top_from, top_to, crop_param=dict(axis=axis, offset=offset))


def aligning(top_from: Any, top_to: Any, walk: Tops | Values) -> tuple[int, list[int]]:
    """Axis and offsets of the Crop that lays the first blob on the second; Misfit or Apart without one."""
    m = meeting(top_from, top_to, walk)[2]
    axis = 2 if m.axis is None else m.axis + 1
    return axis, offsets(m, (walk.name(top_from), walk.name(top_to)))


def distinct(values: Iterable[Any]) -> str:
    """The values in words, each once."""
    return ", ".join(dict.fromkeys(str(v) for v in values))
