"""Receptive fields: what part of the data each blob of a graph sees."""

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from .coords import wide
from .graph import Graph, Node, Value


class Field(NamedTuple):
    """What the cells of a blob see of the data along one axis, in the data's pixels.

    Cell i sees `extent` pixels from first + i * stride on; a negative `first` is padding. Behind a
    deconvolution, whose cells differ, extent is that of the ones that see most, laid around the middle that
    the coordinate map gives.
    """

    stride: Fraction
    first: Fraction
    extent: Fraction


def fields(graph: Graph) -> dict[Value, tuple[Field, ...]]:
    """Value -> its receptive field along each axis of the data; what has no place on the data is not in it.

    Size and place follow from the operations' windows and coordinate maps. Where layers meet, the field
    reaches as far as the widest. A layer without spatial axes in its top, as InnerProduct, keeps those of
    what it sees.
    """
    pixel, shapes = Field(Fraction(1), Fraction(0), Fraction(1)), graph.shapes
    known = {top: (pixel,) * (len(shapes[top]) - 2) for node in graph.sources for top in node.tops
             if len(shapes[top]) > 2}
    for node in graph.nodes:
        seen = [known.get(b) for i, b in enumerate(node.bottoms) if i not in node.op.undifferentiable]
        window = node.op.window(*(shapes[bottom] for bottom in node.bottoms)) if seen and seen[0] else None
        if window is None or len({axes and len(axes) for axes in seen}) > 1:
            continue
        joined = [_hull(axis) for axis in zip(*seen, strict=True)]
        cells = [*window, *(1,) * (len(joined) - len(window))]
        steps = zip(joined, cells, placed(node, len(joined)), strict=True)
        found = tuple(_through(axis, count, *place) for axis, count, place in steps)
        known.update({top: found for top in node.tops if len(shapes[top]) > 1})
    return known


def _hull(parts: Sequence[Field]) -> Field:
    first = min(f.first for f in parts)
    return Field(max(f.stride for f in parts), first, max(f.first + f.extent for f in parts) - first)


def _through(f: Field, cells: int, scale: Fraction | None, shift: Fraction) -> Field:
    """The field behind an operation with a window of `cells`; scale None: it begins at the first cell."""
    extent = f.extent + (cells - 1) * f.stride
    if scale is None:
        return Field(f.stride, f.first, extent)
    centre = f.first + (f.extent - 1) / 2 - f.stride * shift / scale
    return Field(f.stride / scale, centre - (extent - 1) / 2, extent)


def placed(node: Node, dims: int) -> list[tuple[Fraction | None, Fraction]]:
    """Scale and shift of a layer's coordinate map along each axis from 2 on; scale None: it has no map."""
    own = node.op.coord_map(node.op.layer)
    if own is None:
        return [(None, Fraction(0))] * dims
    # the first that moves of the axes behind N x C
    first = 0 if own.axis is None else (own.axis + 1) % (dims + 2) - 2
    ((scales, shifts),) = wide(own)
    at = [0 if len(scales) == 1 and i >= first else i - first for i in range(dims)]
    return [(scales[j], shifts[j]) if 0 <= j < len(scales) else (Fraction(1), Fraction(0)) for j in at]
