"""Which part of a blob depends on which part of another: rectangles over a map's two axes."""

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

from ..ops import Shape
from .fields import placed
from .graph import Node, Value
from .rewrite import pointwise

Span = tuple[int, int]  # cells along an axis: from the first to the one before the second
Rect = tuple[Span, Span]
ENDLESS: Span = (-1 << 30, 1 << 30)  # of an image of zeros: padding goes on with it


class Along(NamedTuple):
    """The numbers within h of a line: from (a x + b - h) / d to (a x + b + h) / d, in whole ones."""

    a: int
    b: int
    h: int
    d: int

    def around(self, span: Span) -> Span:
        """Those of any of these."""
        return -((self.h - self.a * span[0] - self.b) // self.d), self._last(span[1] - 1, self.h) + 1

    def between(self, span: Span) -> Span:
        """Those that lie within h of these alone."""
        return -((-self.h - self.a * span[0] - self.b) // self.d), self._last(span[1] - 1, -self.h) + 1

    def _last(self, x: int, h: int) -> int:
        return (self.a * x + self.b + h) // self.d


class Sight(NamedTuple):
    """What a top sees of a bottom along one axis: cell t of it cells around (t - shift) / scale."""

    scale: Fraction
    back: Along  # from the top to the bottom
    forth: Along

    def read(self, top: Span) -> Span:
        """What these cells of the top see; it may reach over the bottom's ends, into padding."""
        return self.back.around(top)

    def reached(self, bottom: Span) -> Span:
        """The cells of the top that see any of these."""
        return self.forth.around(bottom)

    def within(self, bottom: Span) -> Span:
        """The cells of the top that see these alone."""
        return self.forth.between(bottom)


_HERE = Sight(Fraction(1), Along(1, 0, 0, 1), Along(1, 0, 0, 1))
SAME = _HERE, _HERE


def sights(node: Node, shapes: Mapping[Value, Shape]) -> tuple[Sight, Sight] | None:
    """How a layer's top sees each of its bottoms, along both axes of their maps.

    None for a layer whose top at a place is not made of the bottoms around that place alone, or by chance.
    """
    blobs = [shapes[v] for v in (*node.bottoms, *node.tops)]
    if not node.tops or node.op.random or any(len(shape) != 4 for shape in blobs):
        return None
    if node.op.local:
        return windowed(node, shapes)
    here = pointwise(node.op.layer) and getattr(node.op, "stored", True)
    return SAME if here and len({shape[2:] for shape in blobs}) == 1 else None


def windowed(node: Node, shapes: Mapping[Value, Shape]) -> tuple[Sight, Sight] | None:
    """How the windows of a layer, and its coordinate map, lie on its bottoms along both axes, if they do."""
    window = node.op.window(*(shapes[b] for b in node.bottoms))
    if window is None:
        return None
    first, second = (_sight(cells, *place) for cells, place in zip(window, placed(node, 2), strict=True))
    return (first, second) if first and second else None


def shrinks(seen: tuple[Sight, Sight] | None) -> bool:
    """Whether a layer makes maps smaller along an axis."""
    return seen is not None and min(sight.scale for sight in seen) < 1


def _sight(cells: int, scale: Fraction | None, shift: Fraction) -> Sight | None:
    if scale is None:
        return None
    # a transposed convolution's window counts whole cells, and its centre lies between them; where none of
    # them reaches, two lie around
    half = Fraction(cells - 1, 2) if scale <= 1 else Fraction(max(cells, 2), 2)
    return Sight(scale, _along(1 / scale, -shift / scale, half), _along(scale, shift, half * scale))


def _along(*line: Fraction) -> Along:
    d = math.lcm(*(number.denominator for number in line))
    a, b, h = (int(number * d) for number in line)
    return Along(a, b, h, d)


def whole(shape: Shape) -> Rect:
    """All of a map."""
    return (0, shape[2]), (0, shape[3])


def clip(rect: Sequence[Span], shape: Shape) -> Rect:
    """What of a rectangle lies on a map; at least one cell."""
    (a, b), (c, d) = ((min(max(lo, 0), n - 1), max(min(hi, n), 1))
                      for (lo, hi), n in zip(rect, shape[2:], strict=True))
    return (a, max(b, a + 1)), (c, max(d, c + 1))


def hull(rects: Sequence[Rect]) -> Rect:
    """The least rectangle around some."""
    (a, b), (c, d) = ((min(r[i][0] for r in rects), max(r[i][1] for r in rects)) for i in range(2))
    return (a, b), (c, d)


def common(one: Rect, other: Rect) -> Rect | None:
    """What two rectangles share, if anything."""
    (a, b), (c, d) = ((max(p[0], q[0]), min(p[1], q[1])) for p, q in zip(one, other, strict=True))
    return ((a, b), (c, d)) if a < b and c < d else None


def area(rect: Rect) -> int:
    return math.prod(hi - lo for lo, hi in rect)
