"""A net as a diagram of its layers: in ranks, with few crossings and straight ways (Sugiyama 1981)."""

from bisect import bisect_right, insort
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

from ..base.errors import Error
from ..net.graph import UNSEEN, Graph, Node, Value
from ..proto.caffe_pb2 import EltwiseParameter, PoolingParameter
from .costs import pixels
from .shapes import GREY, INK, PAPER, Line, Picture, Point, Rect, Text, measure

GAP = 44  # points between ranks
COLOURS = {"data": "#d9d9d9", "convolution": "#aecbe8", "pooling": "#f6c7a4", "resampling": "#b5dcc2",
           "normalisation": "#e3d3ea", "elementwise": "#f5e6a6", "shape": "#ececec", "parameters": "#9fb8d9",
           "losses": "#f0b3b3"}


@dataclass(eq=False)
class Box:
    """A layer with those that work on its top in place, or a place that a long edge passes (no nodes)."""

    rank: int
    nodes: list[Node] = field(default_factory=list)
    x: float = 0  # of its middle
    y: float = 0  # of its top
    width: float = 12
    height: float = 0
    floor: float = 0  # where its rank ends
    pull: float = 1  # how much its wish counts where boxes are in each other's way

    def lines(self) -> list[str]:
        first, *rest = self.nodes
        return [first.name, wording(first), *(f"+ {node.name} {node.type}" for node in rest)]

    @property
    def colour(self) -> str:
        return COLOURS.get(self.nodes[0].op.family, PAPER)

    @cached_property
    def tops(self) -> dict[Value, int]:
        """What leaves the box, and its place: each blob as the last layer in it leaves it."""
        made = {top.blob: top for node in self.nodes for top in node.tops}
        return {top: i for i, top in enumerate(made.values())}

    def port(self, value: Value) -> float:
        """The x where a blob's edges leave it."""
        return self.x + self.width * ((self.tops[value] + 0.5) / len(self.tops) - 0.5)


@dataclass(eq=False)
class Edge:
    """A blob's way from the box that makes it, by a place in each rank between, to one that reads it."""

    value: Value
    aside: bool  # it carries no gradient
    way: list[Box]


Near = dict[Box, tuple[dict[Box, float], dict[Box, float]]]  # how much is joined to a box above and below


def draw_layers(graph: Graph) -> Picture:
    """Layers as boxes coloured by family, those in place inside the box of what they work on; blobs as edges.

    Beside an edge stands its shape; a grey one carries no gradient: labels, sizes. Raises Error for a graph
    without layers.
    """
    if not graph.layers:
        raise Error(f"net '{graph.name}' has no layers to draw")
    boxes, edges = _boxes(graph)
    ranks = _ranks(boxes, edges)
    near: Near = {box: ({}, {}) for rank in ranks for box in rank}
    for edge in edges:
        for a, b in pairwise(edge.way):
            near[a][1][b] = near[b][0][a] = 0.1 if edge.aside else 1
    ranks = _ordered(ranks, near)
    _straighten(ranks, near)
    y = 64.0
    for rank in ranks:
        floor = y + max(box.height for box in rank)
        for box in rank:
            box.y, box.floor = y, floor
        y = floor + GAP
    return _painted(graph, [box for rank in ranks for box in rank], edges)


def wording(node: Node) -> str:
    """A layer's type and the settings that its shape depends on."""
    op, words = node.op, [node.type]
    if node.type == "Pooling":
        words.append(PoolingParameter.PoolMethod.Name(op.layer.pooling_param.pool))
    if node.type == "Eltwise":
        words.append(EltwiseParameter.EltwiseOp.Name(op.layer.eltwise_param.operation))
    kernel = getattr(op, "kernel", ())
    if kernel:
        words.append("x".join(map(str, kernel)))
    for name, usual in (("stride", 1), ("pad", 0), ("dilation", 1)):
        values = getattr(op, name, ())
        if kernel and set(values) - {usual}:
            words.append(f"{name} {pixels(values)}")
    return " ".join(words)


def _label(graph: Graph, box: Box, value: Value) -> str:
    """A blob's shape without the batch axis, with its name where the layer has several."""
    shape: tuple = ("?",) if graph.shapes[value] is UNSEEN else graph.shapes[value]
    name = value.blob if len(box.tops) > 1 else ""
    return ": ".join(filter(None, (name, " x ".join(map(str, shape[1:] if len(shape) > 1 else shape)))))


def _boxes(graph: Graph) -> tuple[list[Box], list[Edge]]:
    readers = Counter(bottom for node in graph.layers for bottom in node.bottoms)
    boxes, edges, made = list[Box](), list[Edge](), dict[Value, Box]()
    for node in graph.layers:
        bottoms, aside = node.bottoms, node.op.undifferentiable
        if len(bottoms) == len(node.tops) == 1 and node.tops[0].version and readers[bottoms[0]] == 1:
            box = made[bottoms[0]]
        else:
            box = Box(max((made[bottom].rank + 1 for bottom in bottoms), default=0))
            boxes.append(box)
            edges += [Edge(bottom, i in aside, [made[bottom], box]) for i, bottom in enumerate(bottoms)]
        box.nodes.append(node)
        made.update(dict.fromkeys(node.tops, box))
    for box in boxes:
        name, *more = box.lines()
        said = [measure(_label(graph, box, top), 9) + 10 for top in box.tops]
        texts = [measure(name, 12), *(measure(line, 10) for line in more)]
        box.width = max(max(texts) + 16, (len(said) + 1) * max([0, *said]))
        box.height = 8 + 15 * len(box.lines())
    return boxes, edges


def _ranks(boxes: Sequence[Box], edges: Sequence[Edge]) -> list[list[Box]]:
    """The boxes by rank, with the places that long edges pass; those of one blob pass the same places."""
    ranks: list[list[Box]] = [[] for _ in range(max(box.rank for box in boxes) + 1)]
    for box in boxes:
        ranks[box.rank].append(box)
    chains: dict[tuple[Value, bool], list[Box]] = {}
    for edge in edges:
        source, target = edge.way
        chain = chains.setdefault((edge.value, edge.aside), [source])
        while len(chain) < target.rank - source.rank:
            chain.append(Box(source.rank + len(chain), pull=0.1 if edge.aside else 8))
            ranks[chain[-1].rank].append(chain[-1])
        edge.way = [*chain[: target.rank - source.rank], target]
    return ranks


def _ordered(ranks: list[list[Box]], near: Near) -> list[list[Box]]:
    """The ranks, each in an order with few crossings: by the mean place of what is above, then below, ..."""
    best, fewest = [list(rank) for rank in ranks], _crossings(ranks, near)
    for sweep in range(12):
        below = sweep % 2
        for fixed, rank in pairwise(ranks[::-1] if below else ranks):
            at = {box: float(i) for i, box in enumerate(fixed)}
            wish = {box: _mean(near[box][below], at, i) for i, box in enumerate(rank)}
            rank.sort(key=wish.__getitem__)
        if (count := _crossings(ranks, near)) < fewest:
            best, fewest = [list(rank) for rank in ranks], count
    return best


def _straighten(ranks: Sequence[Sequence[Box]], near: Near) -> None:
    """Give boxes their x: by what is above, then by what is below, ..., so that ways are straight."""
    for sweep in range(13):
        for rank in ranks[::-1] if sweep % 2 else ranks:
            at = {other: other.x for box in rank for other in near[box][sweep % 2]}
            wanted = [_mean(near[box][sweep % 2], at, box.x) for box in rank]
            places = _spread(wanted, [box.width for box in rank], [box.pull for box in rank])
            for box, x in zip(rank, places, strict=True):
                box.x = x
    left = min(box.x - box.width / 2 for rank in ranks for box in rank)
    for box in (box for rank in ranks for box in rank):
        box.x -= left - 20


def _mean(others: dict[Box, float], at: dict[Box, float], otherwise: float) -> float:
    """The weighted mean of where others are; `otherwise` without any."""
    total = sum(others.values())
    return sum(at[box] * weight for box, weight in others.items()) / total if others else otherwise


def _crossings(ranks: Sequence[Sequence[Box]], near: Near) -> int:
    count = 0
    for upper, lower in pairwise(ranks):
        at = {box: i for i, box in enumerate(lower)}
        seen: list[int] = []  # ends of the edges so far
        for end in (end for box in upper for end in sorted(at[other] for other in near[box][1])):
            count += len(seen) - bisect_right(seen, end)
            insort(seen, end)
    return count


def _spread(wanted: Sequence[float], widths: Sequence[float], weights: Sequence[float],
            gap: float = 16) -> list[float]:
    """Places, in this order and without overlap, nearest to the wanted ones by weighted squares."""
    shift = [0.0]
    for a, b in pairwise(widths):
        shift.append(shift[-1] + (a + b) / 2 + gap)
    blocks: list[list[float]] = []  # mean, weight, members: pool adjacent violators
    for x, s, w in zip(wanted, shift, weights, strict=True):
        blocks.append([x - s, w, 1])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (x1, w1, n1), (x2, w2, n2) = blocks[-2:]
            blocks[-2:] = [[(x1 * w1 + x2 * w2) / (w1 + w2), w1 + w2, n1 + n2]]
    means = [mean for mean, _, members in blocks for _ in range(int(members))]
    return [x + s for x, s in zip(means, shift, strict=True)]


def _painted(graph: Graph, boxes: Sequence[Box], edges: Sequence[Edge]) -> Picture:
    picture = Picture(0, max(box.floor for box in boxes) + 40, [Text(20, 20, graph.name or "net", 14)])
    x = 20.0
    for name, colour in {box.nodes[0].op.family: box.colour for box in boxes if box.nodes}.items():
        picture.shapes += [Rect(x, 36, 12, 12, colour), Text(x + 17, 42, name, 10)]
        x += measure(name, 10) + 34
    picture.width = max(300, x + 20, *(box.x + box.width / 2 + 20 for box in boxes))
    arriving: dict[Box, dict[Edge, int]] = defaultdict(dict)  # edges, from left to right, and their places
    for edge in sorted(edges, key=lambda edge: edge.way[-2].x):
        arriving[edge.way[-1]][edge] = len(arriving[edge.way[-1]])
    for edge in edges:
        first, *places, last = edge.way
        port, ends = first.port(edge.value), arriving[last]
        points = [(port, first.y + first.height), (port, first.floor + GAP / 3)]
        for box in places:
            points += [*_bend(points[-1], (box.x, box.y)), (box.x, box.floor)]
        end = last.x + 0.8 * last.width * ((ends[edge] + 0.5) / len(ends) - 0.5)
        points += [*_bend(points[-1], (end, last.y - 8)), (end, last.y)]
        picture.shapes.append(Line(points, GREY if edge.aside else INK, arrow=True))
    for box in (box for box in boxes if box.nodes):
        left, lines = box.x - box.width / 2, box.lines()
        picture.shapes.append(Rect(left, box.y, box.width, box.height, box.colour, title="\n".join(lines)))
        picture.shapes += [Text(box.x, box.y + 11.5 + 15 * i, line, 10 if i else 12, "middle",
                                INK if i < 2 else "#666666") for i, line in enumerate(lines)]
        picture.shapes += [Text(box.port(value) + 4, box.y + box.height + 9, _label(graph, box, value), 9,
                                fill="#3a5a80", halo=True) for value in box.tops]
    return picture


def _bend(start: Point, end: Point) -> list[Point]:
    """Points of a curve that leaves and arrives upright."""
    (x0, y0), (x1, y1) = start, end
    if abs(x1 - x0) < 0.5:
        return [end]
    steps = [i / 10 for i in range(1, 11)]
    return [(round(x0 + (x1 - x0) * t * t * (3 - 2 * t), 2), round(y0 + (y1 - y0) * t, 2)) for t in steps]
