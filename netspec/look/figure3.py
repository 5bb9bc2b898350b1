"""Nets in the manner of Figure 3 (Long et al. 2015): trunks as grids that coarsen, and below them what is summed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from os.path import commonprefix

from ..base.errors import Error
from ..net.fields import fields
from ..net.graph import Graph
from .shapes import GREY, PAPER, Line, Picture, Rect, Text, measure
from .streams import Number, Stream, streams

SIDE, GAP, DEEP = 84.0, 26.0, 62.0  # of a grid, beside it, and below it for its label and the arrows
IMAGE, POOLED, SCORED, PREDICTED = "#eeeeee", "#cfe0f1", "#f5e6a6", "#b5dcc2"


@dataclass
class Part:
    """A piece of a trunk: a grid where the stride changes, else the bars of convolutions that keep it."""

    stride: Number
    names: list[str]  # of its layers
    grid: bool
    x: float = 0  # of its middle
    y: float = 0  # of its top

    @property
    def width(self) -> float:
        return SIDE if self.grid else max(8.0 * len(self.names), measure(self.label, 10))

    @property
    def label(self) -> str:
        """conv1_1, conv1_2: conv1; fc6, fc7: fc6-7; inception_3a/5x5, inception_3b/5x5: inception_3a-b."""
        names = [name.partition("/")[0] for name in self.names]
        first, last, common = names[0], names[-1], commonprefix(names)
        stem = common.rstrip("_-/.")
        return first if first == last else stem if stem != common else f"{first}-{last[len(common):]}"


def trunk(graph: Graph, stream: Stream) -> list[Part]:
    """The way from the image to a stream's source; where branches meet, the one that sees most."""
    known, makers = fields(graph), {top: node for node in graph.layers for top in node.tops}
    value = max((v for v in graph.shapes if v.blob == stream.source), key=lambda v: v.version)
    way = []
    while makers[value].bottoms:
        way.append(value)
        seen = [bottom for bottom in makers[value].bottoms if bottom in known]
        if not seen:
            raise Error(f"no way with receptive fields leads from an image to '{stream.source}'")
        value = max(seen, key=lambda bottom: known[bottom][0].extent)
    parts = [Part(known[value][0].stride, [value.blob if value.blob != "data" else "image"], True)]
    for value in reversed(way):
        node, stride = makers[value], known[value][0].stride
        if stride != parts[-1].stride:
            parts.append(Part(stride, [node.name], True))
        elif node.op.macs(*(graph.shapes[b] for b in node.bottoms)):
            parts += [Part(stride, [], False)] if parts[-1].grid else []
            parts[-1].names.append(node.name)
    return parts


def draw_figure3(graphs: Sequence[Graph]) -> Picture:
    """Each net's trunk in a row, drawn once where nets share it, and below it a row for each prediction.

    All grids cover the same image, so their cells grow with the stride; the coarsest has one. A prediction's streams
    are drawn on the grid of their sum, below their sources, which arrows that pass through other rows come from too.
    """
    rows = [(graph, p, [(s, trunk(graph, s)) for s in p.streams]) for graph in graphs for p in streams(graph)]
    ways = {tuple(_names(way)): way for _, _, found in rows for _, way in found}
    trunks = [way for names, way in ways.items() if not any(o != names and o[: len(names)] == names for o in ways)]
    coarsest = max(part.stride for way in trunks for part in way)
    picture, right = Picture(0, 0), 0.0
    floor: dict[float, float] = {}  # x -> where an arrow down may begin
    for row, way in enumerate(trunks):
        x = GAP
        for before, part in zip([None, *way], way, strict=False):
            part.x, part.y = x + part.width / 2, GAP + row * (SIDE + DEEP)
            if before:
                picture.shapes.append(Line([(x - GAP, part.y + SIDE / 2), (x - 2, part.y + SIDE / 2)], arrow=True))
            picture.shapes += _grid(part.x, part.y, part.stride, coarsest, POOLED if before else IMAGE, part.label) if part.grid \
                else _bars(part)
            floor[part.x] = part.y + SIDE + 20
            x += part.width + GAP
        right = max(right, x)
    y = GAP + len(trunks) * (SIDE + DEEP)
    plans = []
    for graph, prediction, found in rows:
        placed: list[tuple[float, Part, Stream]] = []
        alone = len(trunks) == len(found) == 1 and _names(found[0][1]) == _names(trunks[0]) and not plans
        for below in (True, False):  # first what stands below its source, then what needs a column of its own
            for stream, way in reversed(found):
                home = next(there for there in trunks if _names(there)[: len(_names(way))] == _names(way))
                if below == (home is trunks[-1]):
                    source, least = home[len(way) - 1], placed[-1][0] + SIDE + GAP if placed else 0.0
                    x = source.x if below and source.x >= least else max(least, right + SIDE / 2)
                    placed.append((x, source, stream))
        right = max(right, *(x + SIDE / 2 + GAP for x, _, _ in placed)) if not alone else right
        plans.append((graph, prediction, placed, alone, GAP if alone else y))
        y += 0 if alone else SIDE + DEEP
    for graph, prediction, placed, alone, top in plans:
        middle, end = top + SIDE / 2, right + 2 * GAP
        if alone:
            begin = placed[0][1].x + placed[0][1].width / 2
        else:
            for i, (x, source, stream) in enumerate(placed):
                low = source.y + SIDE + 20
                lane = low + 6 * (len(placed) - i)
                way = [(x, floor[x])] if x in floor else [(source.x, low), (source.x, lane), (x, lane)]
                floor[x] = top + SIDE + 32
                same = [s for _, _, s in placed if s.role == stream.role]
                name = stream.role if stream.role and len(same) == 1 else stream.source
                picture.shapes.append(Line([*way, (x, top - 2)], arrow=True))
                cuts = [f"crop offset {'x'.join(map(str, fit.offset))}" for fit in stream.fits if fit.offset is not None]
                picture.shapes += _grid(x, top, prediction.stride, coarsest, SCORED,
                                        name if stream.factor == 1 else f"{stream.factor}x {name}", ", ".join(cuts))
            for (a, _, _), (b, _, _) in pairwise(placed):
                picture.shapes += [Line([(a + SIDE / 2, middle), (b - SIDE / 2, middle)]),
                                   Rect((a + b) / 2 - 8, middle - 8, 16, 16, PAPER), Text((a + b) / 2, middle, "+", 15, "middle")]
            begin = placed[-1][0] + SIDE / 2
        picture.shapes.append(Line([(begin, middle), (end - 2, middle)], arrow=True))
        text = f"{prediction.factor}x upsampled prediction" if prediction.factor != 1 else "prediction"
        picture.shapes += _grid(end + SIDE / 2, top, prediction.stride, coarsest, PREDICTED, text,
                                " ".join(dict.fromkeys([graph.name, prediction.blob])))
    picture.width, picture.height = right + 2 * GAP + SIDE + 60, y - DEEP + 50
    return picture


def _names(way: Sequence[Part]) -> list[str]:
    return [name for part in way for name in part.names]


def _grid(x: float, y: float, stride: Number, coarsest: Number, fill: str, label: str,
          more: str = "") -> Iterator[Rect | Line | Text]:
    yield Rect(x - SIDE / 2, y, SIDE, SIDE, fill, title=f"{label}: stride {stride}")
    cells = max(1, round(coarsest / stride))
    for i in range(1, cells):
        at = SIDE * i / cells
        yield Line([(x - SIDE / 2 + at, y), (x - SIDE / 2 + at, y + SIDE)], GREY, 0.5)
        yield Line([(x - SIDE / 2, y + at), (x + SIDE / 2, y + at)], GREY, 0.5)
    yield Text(x, y + SIDE + 11, label, 11, "middle")
    if more:
        yield Text(x, y + SIDE + 24, more, 9, "middle", "#666666")


def _bars(part: Part) -> Iterator[Rect | Text]:
    for i in range(len(part.names)):
        yield Rect(part.x - 4 * len(part.names) + 8 * i + 2, part.y, 4, SIDE, "#7f9fc4", title=part.names[i])
    yield Text(part.x, part.y + SIDE + 11, part.label, 10, "middle")
