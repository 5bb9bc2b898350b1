"""Nets in the manner of Figure 3 (Long et al. 2015): trunks of ever coarser grids, below them the sums."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise, takewhile
from os.path import commonprefix

from ..base.errors import Error
from ..net.fields import Field, fields
from ..net.graph import Graph, Node, Value
from .shapes import GREY, PAPER, Line, Picture, Point, Rect, Text, measure
from .streams import Number, Prediction, Stream, streams

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
        if first == last:
            return first
        return stem if stem != common else f"{first}-{last[len(common):]}"


@dataclass
class Row:
    """A prediction of a net, and where the grids of its streams stand."""

    graph: Graph
    prediction: Prediction
    ways: list[tuple[Stream, list[Part]]]  # to each stream's source
    placed: list[tuple[float, Part, Stream]] = field(default_factory=list)  # x of its middle, source
    alone: bool = False  # nothing is summed: the prediction stands in the row of the one trunk
    y: float = GAP


def trunks(graph: Graph, sources: Iterable[str]) -> list[list[Part]]:
    """The ways from the image to these blobs; where branches meet, the one that sees most."""
    known, makers = fields(graph), {top: node for node in graph.layers for top in node.tops}
    return [_trunk(graph, source, known, makers) for source in sources]


def _trunk(graph: Graph, source: str, known: Mapping[Value, tuple[Field, ...]],
           makers: Mapping[Value, Node]) -> list[Part]:
    value, way = graph.newest[source], []
    while makers[value].bottoms:
        way.append(value)
        seen = [bottom for bottom in makers[value].bottoms if bottom in known]
        if not seen:
            raise Error(f"no way with receptive fields leads from an image to '{source}'")
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

    All grids cover the same image, so their cells grow with the stride; the coarsest has one. A prediction's
    streams are drawn on the grid of their sum, below their sources, from which arrows come that pass through
    other rows.
    """
    rows = [Row(graph, p, list(zip(p.streams, trunks(graph, (s.source for s in p.streams)), strict=True)))
            for graph in graphs for p in streams(graph)]
    ways = {tuple(_names(way)): way for row in rows for _, way in row.ways}
    inner = {a for a, b in pairwise(sorted(ways)) if b[: len(a)] == a}  # others go on from there
    figure = _Figure([way for names, way in ways.items() if names not in inner])
    for way in figure.trunks:
        figure.draw_trunk(way)
    for row in rows:
        figure.place(row, row is rows[0])
    for row in rows:
        figure.draw_row(row)
    figure.picture.width = figure.right + 2 * GAP + SIDE + 60
    figure.picture.height = figure.y - DEEP + 50
    return figure.picture


class _Figure:
    """The picture as it is drawn, and where its next row and column begin."""

    def __init__(self, trunks: Sequence[list[Part]]) -> None:
        self.picture, self.trunks = Picture(0, 0), trunks
        self.coarsest = max(part.stride for way in trunks for part in way)
        self.right, self.y = 0.0, GAP
        self.floor: dict[float, float] = {}  # x -> where an arrow down may begin
        self.sorted = sorted((_names(way), i) for i, way in enumerate(trunks))

    def draw_trunk(self, way: Sequence[Part]) -> None:
        x, middle = GAP, self.y + SIDE / 2
        for part in way:
            part.x, part.y = x + part.width / 2, self.y
            if part is not way[0]:
                self._line((x - GAP, middle), (x - 2, middle), arrow=True)
            if part.grid:
                self._grid(part.x, part.y, part.stride, IMAGE if part is way[0] else POOLED, part.label)
            else:
                self.picture.shapes += [
                    Rect(part.x - 4 * len(part.names) + 2 + 8 * i, part.y, 4, SIDE, "#7f9fc4", title=name)
                    for i, name in enumerate(part.names)]
                self.picture.shapes.append(Text(part.x, part.y + SIDE + 11, part.label, 10, "middle"))
            self.floor[part.x] = part.y + SIDE + 20
            x += part.width + GAP
        self.right = max(self.right, x)
        self.y += SIDE + DEEP

    def place(self, row: Row, first: bool) -> None:
        """Give a row its y and its streams their x: first what stands below its source, then the others."""
        lone = first and len(self.trunks) == len(row.ways) == 1
        row.alone = lone and _names(row.ways[0][1]) == _names(self.trunks[0])
        for below in (True, False):
            for stream, way in reversed(row.ways):
                home = self.home(_names(way))
                if below == (home is self.trunks[-1]):
                    source, least = home[len(way) - 1], row.placed[-1][0] + SIDE + GAP if row.placed else 0.0
                    x = source.x if below and source.x >= least else max(least, self.right + SIDE / 2)
                    row.placed.append((x, source, stream))
        if not row.alone:
            self.right = max(self.right, *(x + SIDE / 2 + GAP for x, _, _ in row.placed))
            row.y = self.y
            self.y += SIDE + DEEP

    def home(self, names: list[str]) -> Sequence[Part]:
        """The first trunk that begins with layers of these names."""
        behind = islice(self.sorted, bisect_left(self.sorted, (names, 0)), None)
        return self.trunks[min(i for _, i in takewhile(lambda each: each[0][: len(names)] == names, behind))]

    def draw_row(self, row: Row) -> None:
        prediction, middle, end = row.prediction, row.y + SIDE / 2, self.right + 2 * GAP
        begin = row.placed[-1][0] + SIDE / 2
        if row.alone:
            begin = row.placed[0][1].x + row.placed[0][1].width / 2
        else:
            roles = Counter(stream.role for _, _, stream in row.placed)
            for i in range(len(row.placed)):
                self._stream(row, i, roles)
            for (a, _, _), (b, _, _) in pairwise(row.placed):
                self._line((a + SIDE / 2, middle), (b - SIDE / 2, middle))
                self.picture.shapes += [Rect((a + b) / 2 - 8, middle - 8, 16, 16, PAPER),
                                        Text((a + b) / 2, middle, "+", 15, "middle")]
        self._line((begin, middle), (end - 2, middle), arrow=True)
        label = f"{prediction.factor}x upsampled prediction" if prediction.factor != 1 else "prediction"
        names = " ".join(dict.fromkeys([row.graph.name, prediction.blob]))
        self._grid(end + SIDE / 2, row.y, prediction.stride, PREDICTED, label, names)

    def _stream(self, row: Row, number: int, roles: Mapping[str, int]) -> None:
        """A stream's grid, and the arrow from its source."""
        x, source, stream = row.placed[number]
        low = source.y + SIDE + 20
        lane = low + 6 * (len(row.placed) - number)
        way = [(x, self.floor[x])] if x in self.floor else [(source.x, low), (source.x, lane), (x, lane)]
        self.floor[x] = row.y + SIDE + 32
        self._line(*way, (x, row.y - 2), arrow=True)
        name = stream.role if stream.role and roles[stream.role] == 1 else stream.source
        label = name if stream.factor == 1 else f"{stream.factor}x {name}"
        cuts = ("x".join(map(str, fit.offset)) for fit in stream.fits if fit.offset is not None)
        offsets = ", ".join(f"crop offset {cut}" for cut in cuts)
        self._grid(x, row.y, row.prediction.stride, SCORED, label, offsets)

    def _line(self, *points: Point, arrow: bool = False) -> None:
        self.picture.shapes.append(Line(points, arrow=arrow))

    def _grid(self, x: float, y: float, stride: Number, fill: str, label: str, more: str = "") -> None:
        left, right, bottom, draw = x - SIDE / 2, x + SIDE / 2, y + SIDE, self.picture.shapes.append
        draw(Rect(left, y, SIDE, SIDE, fill, title=f"{label}: stride {stride}"))
        cells = max(1, round(self.coarsest / stride))
        for at in (SIDE * i / cells for i in range(1, cells)):
            draw(Line([(left + at, y), (left + at, bottom)], GREY, 0.5))
            draw(Line([(left, y + at), (right, y + at)], GREY, 0.5))
        draw(Text(x, bottom + 11, label, 11, "middle"))
        if more:
            draw(Text(x, bottom + 24, more, 9, "middle", "#666666"))


def _names(way: Sequence[Part]) -> list[str]:
    return [name for part in way for name in part.names]
