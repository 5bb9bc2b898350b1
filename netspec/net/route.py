"""The way of a plan through a net for inputs of one shape: which part of each blob is computed from which."""

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from ..ops import Shape
from ..ops.conv import Deconvolution
from .graph import Value
from .passes import Unit
from .regions import Rect, Span, area, clip, common, hull, shrinks, whole
from .room import shows

Shapes = Mapping[Value, Shape]
Cut = tuple[slice, slice, slice, slice]
Pads = tuple[int, int, int, int]
Windows = tuple[tuple[Cut | None, ...], Pads, Cut | None]
# Bytes of a map from which it is not held whole but in bands of half as many. glibc gives so much memory back
# to the system each time, which then fills it with zeros for the next.
BAND = 1 << 25
LEAST = 0.9  # of a map is computed, or less, where it pays to put it together of two parts


class Stage(NamedTuple):
    """One unit's part of a pass.

    cuts: what of each bottom's tensor it takes (None: all). pads: rows and columns of padding around the
    first, negative where a window lies in padding alone. trim: what of its tops is kept. paste: where in the
    map of `buffer` the top belongs, the rest of which does not depend on the image. done: values that nothing
    needs any more. bands: instead of all that, stages from the first bottom to a band of the top, and where
    in the map that belongs.
    """

    unit: Unit
    cuts: tuple[Cut | None, ...]
    pads: Pads
    trim: Cut | None
    paste: Cut | None
    done: tuple[Value, ...]
    bands: tuple[tuple[list["Stage"], Cut], ...] = ()


@dataclass
class Route:
    """The stages in order, and of each value the part that its tensor holds."""

    stages: list[Stage]
    held: Mapping[Value, Rect]
    shapes: Shapes
    pasted: tuple[Value, ...]
    ratio: float = 1.0  # of all multiplications, those that are left

    @cached_property
    def most(self) -> int:
        """The most numbers that its stages hold at once, at least; of what shows others' memory none."""
        there: dict[Value, int] = {}
        most = 0
        for stage in self.stages:
            for top in [] if shows(stage.unit.node.op) else stage.unit.tops:
                shape, part = self.shapes[top], self.held.get(top)
                there[top] = math.prod(shape[:2]) * area(part) if part else math.prod(shape)
            most = max(most, sum(there.values()))
            for value in stage.done:
                there.pop(value, None)
        return most


class Layout:
    """The parts of all values: which are needed, which depend on the image, which are computed."""

    def __init__(self, units: Sequence[Unit], shapes: Shapes, need: Mapping[Value, Rect],
                 inputs: Sequence[Value], rewrites: Collection[str]) -> None:
        """need: what is wanted of some values."""
        self.units, self.shapes, self.rewrites = units, shapes, rewrites
        self.image = self._image(inputs) if "border" in rewrites else {}
        self.need = {**need}
        self.computed: dict[Value, Rect] = {}
        for unit in reversed(units):
            self._ask(unit)

    def _image(self, inputs: Sequence[Value]) -> dict[Value, Rect]:
        """The part of each value that depends on the image; all of what is made larger, where the rest is not
        one number throughout."""
        found = {v: whole(self.shapes[v]) for v in inputs if len(self.shapes[v]) == 4}
        for unit in self.units:
            seen, reached = unit.sights, []
            for top in unit.tops:
                if len(self.shapes[top]) != 4:
                    continue
                if seen is not None and max(s.scale for s in seen) <= 1:
                    reached = [_through(unit, i, found[b], "reached") for i, b in enumerate(unit.bottoms)
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
                read = clip(_through(unit, i, part, "read"), shape)
            self.need[bottom] = hull([self.need[bottom], read]) if bottom in self.need else read

    def _left(self, unit: Unit, top: Value, need: Rect) -> Rect:
        """What of a map is computed for an image, where the rest is the same for all: behind layers that make
        maps smaller, since putting maps together has its price too."""
        if not self.image or not shrinks(unit.sights):
            return need
        part = common(need, self.image[top])
        return part if part and area(part) < LEAST * area(need) else need


def lay(units: Sequence[Unit], shapes: Shapes, wanted: Collection[Value], inputs: Sequence[Value],
        rewrites: Collection[str], size: int = 4, part: Rect | None = None) -> Route:
    """The route for inputs of these shapes to the values that are wanted, which come out whole.

    size: bytes of a number. part: what alone comes out of the maps that are wanted; of each input it is then
    given what the route says that it holds.
    """
    maps = {v: whole(shapes[v]) for v in (*inputs, *wanted) if len(shapes[v]) == 4}
    layout = Layout(units, shapes, {v: part or maps[v] for v in wanted if v in maps}, inputs, rewrites)
    given = {v: layout.need.get(v, maps[v]) if part else maps[v] for v in inputs if v in maps}
    held = given | {v: layout.need[v] for v in layout.computed}
    stages = _stages(layout, held, wanted)
    total = sum(_macs(unit, shapes) for unit in units)
    left = sum(_macs(unit, shapes) * _share(unit, layout) for unit in units)
    pasted = tuple(s.unit.tops[0] for s in stages if s.paste)
    if {"bands", "crop"} <= {*rewrites}:
        stages = _banded(stages, layout, held, wanted, size)
    return Route(stages, held, shapes, pasted, left / total if total else 1.0)


def _macs(unit: Unit, shapes: Shapes) -> int:
    return unit.node.op.macs(*(shapes[b] for b in unit.node.bottoms))


def _share(unit: Unit, layout: Layout) -> float:
    """Of a unit's top, the part that is computed."""
    maps = [top for top in unit.tops if top in layout.computed]
    parts = [area(layout.computed[top]) / area(whole(layout.shapes[top])) for top in maps]
    return max(parts, default=1.0)


def _stages(layout: Layout, held: Mapping[Value, Rect], wanted: Collection[Value]) -> list[Stage]:
    """A stage each unit."""
    last = {v: unit for unit in layout.units for v in (*unit.bottoms, *unit.tops)}
    stages = []
    for unit in layout.units:
        paste = None
        for top in unit.tops[:1]:
            if top in layout.computed and layout.computed[top] != layout.need[top]:
                paste = _cut(layout.computed[top], layout.need[top])
        touched = dict.fromkeys((*unit.bottoms, *unit.tops))
        done = tuple(v for v in touched if last[v] is unit and v not in wanted)
        stages.append(Stage(unit, *_windows(unit, layout, held), paste, done))
    return stages


def _banded(stages: Sequence[Stage], layout: Layout, held: Mapping[Value, Rect],
            wanted: Collection[Value], size: int) -> list[Stage]:
    """The stages with those that lead to a smaller map, through larger ones, as one, band by band."""
    readers = Counter(b for stage in stages for b in stage.unit.bottoms)
    chains: list[list[Stage]] = [[]]
    for stage in stages:
        before, read = [s.unit for s in chains[-1]], stage.unit.bottoms
        alone = before and len(read) == 1 and read == before[-1].tops and readers[read[0]] == 1
        if not alone or read[0] in wanted or shrinks(before[-1].sights):
            chains.append([])
        chains[-1].append(stage)
    return [stage for chain in chains for stage in _in_bands(chain, layout, held, size)]


def _in_bands(chain: list[Stage], layout: Layout, held: Mapping[Value, Rect], size: int) -> list[Stage]:
    """A chain as one stage, where that holds less at once."""
    units = [stage.unit for stage in chain]
    if len(chain) < 2 or len(units[0].bottoms) != 1 or not all(unit.sights for unit in units) or not shrinks(
            units[-1].sights):
        return chain
    between, (top,), first = [unit.tops[0] for unit in units[:-1]], units[-1].tops, units[0].bottoms[0]
    largest = size * max(area(layout.computed[v]) * math.prod(layout.shapes[v][:2]) for v in between)
    (begin, end), columns = layout.computed[top]
    rows = max(1, (end - begin) * BAND // (2 * largest))
    if largest < BAND or rows >= end - begin:
        return chain
    bands = []
    for row in range(begin, end, rows):
        band = (row, min(row + rows, end)), columns
        inner = Layout(units, layout.shapes, {top: band}, (), {"crop", "dead"})
        stages = _stages(inner, {first: held[first], **inner.computed}, {top})
        bands.append((stages, _cut(band, layout.need[top])))
    done = tuple(v for stage in chain for v in stage.done if v not in between)
    return [chain[-1]._replace(done=done, bands=tuple(bands))]


def _windows(unit: Unit, layout: Layout,
             held: Mapping[Value, Rect]) -> Windows:
    """What a unit takes of each bottom, with how much padding around, and what is kept of its top."""
    seen, tops = unit.sights, [t for t in unit.tops if t in layout.computed]
    if seen is None or not tops:
        return tuple(None for _ in unit.bottoms), (0, 0, 0, 0), None
    part, cuts = layout.computed[tops[0]], []
    for i, bottom in enumerate(unit.bottoms):
        inside = clip(_through(unit, i, part, "read"), layout.shapes[bottom])
        cuts.append(None if i in unit.node.op.sized or inside == held[bottom] else _cut(inside, held[bottom]))
    asked = _through(unit, 0, part, "read")
    inside = clip(asked, layout.shapes[unit.bottoms[0]])
    pads: list[int] = []
    made: list[Span] = []
    for (lo, hi), (a, b) in zip(asked, inside, strict=True):
        if isinstance(unit.node.op, Deconvolution):  # it gives all that its window reaches
            pads += [0, 0]
            made.append(unit.node.op.reach((a, b), len(made)))
        else:
            pads += [a - lo, hi - b]
            made.append(part[len(made)])
    trim = None if tuple(made) == part else _cut(part, (made[0], made[1]))
    return tuple(cuts), (pads[0], pads[1], pads[2], pads[3]), trim


def _through(unit: Unit, i: int, rect: Rect, way: str) -> Rect:
    seen = unit.sees(i)
    assert seen is not None
    a, b = (getattr(one, way)(span) for one, span in zip(seen, rect, strict=True))
    return a, b


def _cut(part: Rect, held: Rect) -> Cut:
    """A part of a map, as slices of the tensor that holds another part of it."""
    rows, columns = (slice(lo - first, hi - first) for (lo, hi), (first, _) in zip(part, held, strict=True))
    return slice(None), slice(None), rows, columns
