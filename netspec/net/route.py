"""The way of a plan through a net for inputs of one shape: which part of each blob is computed from which."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..ops import Shape
from ..ops.conv import Deconvolution
from .graph import Value
from .passes import Unit
from .regions import Rect, Sight, Span, area, clip, common, hull, whole

Shapes = Mapping[Value, Shape]
Cut = tuple[slice, slice, slice, slice]
Pads = tuple[int, int, int, int]
Windows = tuple[tuple[Cut | None, ...], Pads, Cut | None]
LEAST = 0.9  # of a map must be left for it to pay to put it together of two parts


class Stage(NamedTuple):
    """One unit's part of a pass.

    cuts: what of each bottom's tensor it takes (None: all). pads: rows and columns of padding around the
    first. trim: what of its tops is kept. paste: where in the map of `buffer` the top belongs, the rest of
    which does not depend on the image. done: values that nothing needs any more.
    """

    unit: Unit
    cuts: tuple[Cut | None, ...]
    pads: Pads
    trim: Cut | None
    paste: Cut | None
    done: tuple[Value, ...]


@dataclass
class Route:
    """The stages in order, and of each value the part that its tensor holds."""

    stages: list[Stage]
    held: Mapping[Value, Rect]
    shapes: Shapes
    pasted: tuple[Value, ...]
    ratio: float = 1.0  # of all multiplications, those that are left


class Layout:
    """The parts of all values: which are needed, which depend on the image, which are computed."""

    def __init__(self, units: Sequence[Unit], shapes: Shapes, wanted: Collection[Value],
                 inputs: Sequence[Value], rewrites: Collection[str]) -> None:
        self.units, self.shapes, self.rewrites = units, shapes, rewrites
        self.image = self._image(inputs) if "border" in rewrites else {}
        self.need: dict[Value, Rect] = {v: whole(shapes[v]) for v in wanted if len(shapes[v]) == 4}
        self.computed: dict[Value, Rect] = {}
        for unit in reversed(units):
            self._ask(unit)

    def _image(self, inputs: Sequence[Value]) -> dict[Value, Rect]:
        """The part of each value that depends on the image."""
        found = {v: whole(self.shapes[v]) for v in inputs if len(self.shapes[v]) == 4}
        for unit in self.units:
            seen, reached = unit.sights, []
            for top in unit.tops:
                if len(self.shapes[top]) != 4:
                    continue
                if seen is not None:
                    reached = [_through(seen, found[b], "reached") for i, b in enumerate(unit.bottoms)
                               if i not in unit.node.op.sized and b in found]
                found[top] = clip(hull(reached), self.shapes[top]) if reached else whole(self.shapes[top])
        return found

    def _ask(self, unit: Unit) -> None:
        """What a unit computes, and so what it needs of its bottoms."""
        part, seen = None, unit.sights
        maps = [top for top in unit.tops if len(self.shapes[top]) == 4]
        if maps:
            asked = [self.need[top] for top in maps if top in self.need and seen is not None]
            need = hull(asked) if asked else whole(self.shapes[maps[0]])
            part = self._left(unit, maps[0], need)
            for top in maps:
                self.need[top] = need if seen is not None else whole(self.shapes[top])
                self.computed[top] = part if seen is not None else whole(self.shapes[top])
        for i, bottom in enumerate(unit.bottoms):
            shape = self.shapes[bottom]
            if len(shape) != 4 or i in unit.node.op.sized and "dead" in self.rewrites:
                continue
            read = whole(shape)
            if seen is not None and part is not None and "crop" in self.rewrites:
                read = clip(_through(seen, part, "read"), shape)
            self.need[bottom] = hull([self.need[bottom], read]) if bottom in self.need else read

    def _left(self, unit: Unit, top: Value, need: Rect) -> Rect:
        """What of a map is computed for an image, where the rest is the same for all: behind layers that make
        maps smaller, since putting maps together has its price too."""
        seen = unit.sights
        if not self.image or seen is None or min(s.scale for s in seen) >= 1:
            return need
        part = common(need, self.image[top])
        return part if part and area(part) < LEAST * area(need) else need


def lay(units: Sequence[Unit], shapes: Shapes, wanted: Collection[Value], inputs: Sequence[Value],
        rewrites: Collection[str]) -> Route:
    """The route for inputs of these shapes to the values that are wanted, which come out whole."""
    layout = Layout(units, shapes, wanted, inputs, rewrites)
    need, computed = layout.need, layout.computed
    held = {v: whole(shapes[v]) for v in inputs if len(shapes[v]) == 4} | {v: need[v] for v in computed}
    last = {b: unit for unit in units for b in (*unit.bottoms, *unit.tops)}
    stages, total, left = [], 0, 0.0
    for unit in units:
        cuts, pads, trim = _windows(unit, layout, held)
        top = unit.tops[0] if unit.tops else None
        paste = None
        if top in computed and computed[top] != need[top]:
            paste = _cut(computed[top], need[top])
        touched = dict.fromkeys((*unit.bottoms, *unit.tops))
        done = tuple(v for v in touched if last[v] is unit and v not in wanted)
        stages.append(Stage(unit, cuts, pads, trim, paste, done))
        macs = unit.node.op.macs(*(shapes[b] for b in unit.node.bottoms))
        total += macs
        left += macs * area(computed[top]) / area(whole(shapes[top])) if top in computed else macs
    pasted = tuple(s.unit.tops[0] for s in stages if s.paste)
    return Route(stages, held, shapes, pasted, left / total if total else 1.0)


def _windows(unit: Unit, layout: Layout,
             held: Mapping[Value, Rect]) -> Windows:
    """What a unit takes of each bottom, with how much padding around, and what is kept of its top."""
    seen, tops = unit.sights, [t for t in unit.tops if t in layout.computed]
    if seen is None or not tops:
        return tuple(None for _ in unit.bottoms), (0, 0, 0, 0), None
    part, cuts = layout.computed[tops[0]], []
    asked = _through(seen, part, "read")
    for i, bottom in enumerate(unit.bottoms):
        inside = clip(asked, layout.shapes[bottom])
        cuts.append(None if i in unit.node.op.sized or inside == held[bottom] else _cut(inside, held[bottom]))
    inside = clip(asked, layout.shapes[unit.bottoms[0]])
    pads: list[int] = []
    made: list[Span] = []
    for (lo, hi), (a, b) in zip(asked, inside, strict=True):
        if isinstance(unit.node.op, Deconvolution):  # it gives all that its window reaches
            pads += [0, 0]
            made.append(unit.node.op.reach((a, b), len(made)))
        else:
            pads += [max(0, a - lo), max(0, hi - b)]
            made.append(part[len(made)])
    trim = None if tuple(made) == part else _cut(part, (made[0], made[1]))
    return tuple(cuts), (pads[0], pads[1], pads[2], pads[3]), trim


def _through(seen: tuple[Sight, Sight], rect: Rect, way: str) -> Rect:
    a, b = (getattr(one, way)(span) for one, span in zip(seen, rect, strict=True))
    return a, b


def _cut(part: Rect, held: Rect) -> Cut:
    """A part of a map, as slices of the tensor that holds another part of it."""
    rows, columns = (slice(lo - first, hi - first) for (lo, hi), (first, _) in zip(part, held, strict=True))
    return slice(None), slice(None), rows, columns
