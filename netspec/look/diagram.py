"""A net as a picture of its layers from top to bottom: in ranks, with few crossings and straight ways (Sugiyama 1981)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from ..base.errors import Error
from ..net.graph import Graph, Node, Value
from .shapes import GREY, INK, Line, Picture, Point, Rect, Text, measure
from .types import FAMILIES

COLOURS = {"data": "#d9d9d9", "convolution": "#aecbe8", "pooling": "#f6c7a4", "resampling": "#b5dcc2", "normalisation": "#e3d3ea",
           "elementwise": "#f5e6a6", "shape": "#ececec", "parameters": "#9fb8d9", "losses": "#f0b3b3"}
OTHER = "#ffffff"
KINDS = (("pooling_param", "pool"), ("eltwise_param", "operation"))  # settings that say what a layer computes


@dataclass(eq=False)
class Box:
    """A layer with those that work on its top in place, or a place that a long edge passes (no nodes)."""

    rank: int
    nodes: list[Node] = field(default_factory=list)
    x: float = 0  # of its middle
    width: float = 12
    height: float = 0
    pull: float = 1  # how much its wish counts where boxes are in each other's way

    def lines(self) -> list[str]:
        first, *rest = self.nodes
        return [first.name, wording(first), *(f"+ {node.name} {node.type}" for node in rest)]


Near = dict[Box, tuple[dict[Box, float], dict[Box, float]]]  # what is joined to a box from above and from below, how much


def wording(node: Node) -> str:
    """A layer's type and the settings that its shape depends on."""
    op, words = node.op, [node.type]
    words += [getattr(op.layer, p).DESCRIPTOR.fields_by_name[f].enum_type.values_by_number[getattr(getattr(op.layer, p), f)].name
              for p, f in KINDS if p.startswith(node.type.lower())]
    kernel = getattr(op, "kernel", ())
    if kernel:
        words.append("x".join(map(str, kernel)))
    for name, usual in (("stride", 1), ("pad", 0), ("dilation", 1)):
        values = getattr(op, name, ())
        if kernel and set(values) - {usual}:
            words.append(f"{name} {'x'.join(map(str, values if len(set(values)) > 1 else values[:1]))}")
    return " ".join(words)


def _label(graph: Graph, box: Box, value: Value) -> str:
    """A blob's shape without the batch axis, with its name where the layer has several."""
    shape = graph.shapes[value]
    name = value.blob if len(box.nodes[-1].tops) > 1 else ""
    return ": ".join(filter(None, (name, " x ".join(map(str, shape[1:] if len(shape) > 1 else shape)))))


def draw_layers(graph: Graph) -> Picture:
    """Layers as boxes coloured by family, those in place inside the box of their bottom's; shapes of blobs on the edges.

    A grey edge carries no gradient: labels, sizes. Raises Error for a graph without layers.
    """
    if not graph.layers:
        raise Error(f"net '{graph.name}' has no layers to draw")
    boxes: list[Box] = []
    made: dict[Value, Box] = {}
    readers: dict[Value, int] = {}
    for node in graph.layers:
        for bottom in node.bottoms:
            readers[bottom] = readers.get(bottom, 0) + 1
    edges: list[tuple[Box, Box, Value, bool]] = []
    for node in graph.layers:
        if len(node.bottoms) == len(node.tops) == 1 and node.tops[0].version and readers[node.bottoms[0]] == 1:
            box = made[node.bottoms[0]]
        else:
            box = Box(max((made[b].rank + 1 for b in node.bottoms), default=0))
            boxes.append(box)
            edges += [(made[b], box, b, i in node.op.undifferentiable) for i, b in enumerate(node.bottoms)]
        box.nodes.append(node)
        made.update(dict.fromkeys(node.tops, box))
    for box in boxes:
        said = [_label(graph, box, top) for top in box.nodes[-1].tops]
        texts = [measure(box.lines()[0], 12), *(measure(line, 10) for line in box.lines()[1:])]
        box.width = max(max(texts) + 16, (len(said) + 1) * max([0, *(measure(s, 9) + 10 for s in said)]))
        box.height = 8 + 15 * len(box.lines())
    return _painted(graph, *_routes(boxes, edges))


def _routes(boxes: Sequence[Box], edges: Sequence[tuple[Box, Box, Value, bool]]) -> tuple[list[list[Box]], list[tuple]]:
    """The boxes rank by rank in an order with few crossings and at their x; and the edges with the places they pass."""
    ranks: list[list[Box]] = [[] for _ in range(max(box.rank for box in boxes) + 1)]
    for box in boxes:
        ranks[box.rank].append(box)
    routes: list[tuple] = []
    chains: dict[tuple, list[Box]] = {}  # edges of one blob run together
    for source, target, value, aside in edges:
        chain = chains.setdefault((value, aside), [source])
        while len(chain) < target.rank - source.rank:
            chain.append(Box(source.rank + len(chain), pull=0.1 if aside else 8))
            ranks[chain[-1].rank].append(chain[-1])
        routes.append(([*chain[: target.rank - source.rank], target], value, aside))
    near: Near = {box: ({}, {}) for rank in ranks for box in rank}
    for way, _, aside in routes:
        for a, b in pairwise(way):
            near[a][1][b] = near[b][0][a] = 0.1 if aside else 1
    best = (_crossings(ranks, near), [list(rank) for rank in ranks])
    for sweep in range(12):
        below = sweep % 2
        for fixed, rank in pairwise(ranks[::-1] if below else ranks):
            at = {box: float(i) for i, box in enumerate(fixed)}
            wish = {box: _mean(near[box][below], at, i) for i, box in enumerate(rank)}
            rank.sort(key=wish.__getitem__)
        best = min(best, (_crossings(ranks, near), [list(rank) for rank in ranks]), key=lambda pair: pair[0])
    ranks = best[1]
    for sweep in range(13):  # by what is above, then by what is below, ...: so that ways are straight
        for rank in ranks[::-1] if sweep % 2 else ranks:
            at = {other: other.x for box in rank for other in near[box][sweep % 2]}
            wanted = [_mean(near[box][sweep % 2], at, box.x) for box in rank]
            for box, x in zip(rank, _spread(wanted, [box.width for box in rank], [box.pull for box in rank]), strict=True):
                box.x = x
    return ranks, routes


def _mean(others: dict[Box, float], at: dict[Box, float], otherwise: float) -> float:
    return sum(at[box] * weight for box, weight in others.items()) / sum(others.values()) if others else otherwise


def _crossings(ranks: Sequence[Sequence[Box]], near: Near) -> int:
    count = 0
    for upper, lower in pairwise(ranks):
        at = {box: i for i, box in enumerate(lower)}
        ends = [end for box in upper for end in sorted(at[other] for other in near[box][1])]
        count += sum(a > b for i, a in enumerate(ends) for b in ends[i + 1 :])
    return count


def _spread(wanted: Sequence[float], widths: Sequence[float], weights: Sequence[float], gap: float = 16) -> list[float]:
    """The places nearest to the wanted ones, by weighted squares, where boxes in this order do not overlap."""
    shift = [0.0]
    for a, b in pairwise(widths):
        shift.append(shift[-1] + (a + b) / 2 + gap)
    blocks: list[list[float]] = []  # mean, weight, members: pool adjacent violators
    for x, s, w in zip(wanted, shift, weights, strict=True):
        blocks.append([x - s, w, 1])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (x1, w1, n1), (x2, w2, n2) = blocks[-2:]
            blocks[-2:] = [[(x1 * w1 + x2 * w2) / (w1 + w2), w1 + w2, n1 + n2]]
    return [x + s for x, s in zip([b[0] for b in blocks for _ in range(int(b[2]))], shift, strict=True)]


def _painted(graph: Graph, ranks: Sequence[Sequence[Box]], routes: Sequence[tuple], gap: float = 44) -> Picture:
    left = min(box.x - box.width / 2 for rank in ranks for box in rank) - 20
    tops, y = [], 64.0
    for rank in ranks:
        tops.append(y)
        y += max(box.height for box in rank) + gap
    bottoms = [top + max(box.height for box in rank) for top, rank in zip(tops, ranks, strict=True)]
    used = list(dict.fromkeys(_family(box) for rank in ranks for box in rank if box.nodes))
    right = max(box.x + box.width / 2 for rank in ranks for box in rank) - left + 20
    picture = Picture(max(right, 40 + sum(measure(name, 10) + 34 for name in used), 300), y - gap + 40)
    draw = picture.shapes.append
    draw(Text(20, 20, graph.name or "net", 14))
    x = 20.0
    for name in used:
        draw(Rect(x, 36, 12, 12, COLOURS.get(name, OTHER)))
        draw(Text(x + 17, 42, name, 10))
        x += measure(name, 10) + 34
    for number, (way, value, aside) in enumerate(routes):
        first, last = way[0], way[-1]
        port, begin = _port(first, value) - left, tops[first.rank] + first.height
        points = [(port, begin), (port, bottoms[first.rank] + gap / 3)]
        for box in way[1:-1]:
            points += [*_bend(points[-1], (box.x - left, tops[box.rank])), (box.x - left, bottoms[box.rank])]
        arriving = sorted((w[-2].x, i) for i, (w, _, _) in enumerate(routes) if w[-1] is last)
        share = (arriving.index((way[-2].x, number)) + 0.5) / len(arriving)
        end = (last.x - left + 0.8 * last.width * (share - 0.5), tops[last.rank])
        points += [*_bend(points[-1], (end[0], end[1] - 8)), end]
        draw(Line(points, GREY if aside else INK, 1, True))
    for rank, top in zip(ranks, tops, strict=True):
        for box in rank:
            if box.nodes:
                corner = box.x - left - box.width / 2
                draw(Rect(corner, top, box.width, box.height, COLOURS.get(_family(box), OTHER), title="\n".join(box.lines())))
                for i, line in enumerate(box.lines()):
                    draw(Text(box.x - left, top + 11.5 + 15 * i, line, 10 if i else 12, "middle", INK if i < 2 else "#666666"))
                for value in box.nodes[-1].tops:
                    said = _label(graph, box, value)
                    draw(Text(_port(box, value) - left + 4, top + box.height + 9, said, 9, fill="#3a5a80", halo=True))
    return picture


def _port(box: Box, value: Value) -> float:
    """Where a blob's edges leave its box."""
    made = box.nodes[-1].tops
    return box.x + box.width * ((made.index(value) + 0.5) / len(made) - 0.5)


def _family(box: Box) -> str:
    node = box.nodes[0]
    return "data" if node.source else FAMILIES.get(type(node.op).__module__.rpartition(".")[2], "other")


def _bend(start: Point, end: Point) -> list[Point]:
    """Points of a curve that leaves and arrives upright."""
    (x0, y0), (x1, y1) = start, end
    if abs(x1 - x0) < 0.5:
        return [end]
    steps = [i / 10 for i in range(1, 11)]
    return [(round(x0 + (x1 - x0) * t * t * (3 - 2 * t), 2), round(y0 + (y1 - y0) * t, 2)) for t in steps]
