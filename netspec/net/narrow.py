"""A wide padding computed once: far from the image and from the rim all columns of a map are the same.

FCN pads an image by 100 pixels, and the first layers' maps of that border repeat a column, and a row, tens of
times. Here they are computed on a narrower border, and repeated where a map leaves these layers. A map has
the same numbers, and a gradient the same sums: that of a repeated column is the sum over its copies.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..ops import Shape
from ..ops.base import Operation
from ..ops.conv import Convolution, Deconvolution
from ..ops.neuron import Neuron
from ..ops.pool import STOCHASTIC, Pooling
from .graph import Graph, Node, Value
from .regions import ENDLESS, Sight, Span, shrinks, windowed
from .segment import Segment, merged, read_elsewhere, run

Pair = tuple[int, int]  # before the image, and behind it
Pieces = list[tuple[slice, slice]]  # where cells lie in one map along an axis, and where in another


class Zone(NamedTuple):
    """Cells of a map along one axis: `clean` ones see no rim of a map, `seeing` ones (of these) the image.

    stride: pixels of the image from one cell to the next.
    """

    clean: Span
    seeing: Span
    size: int
    stride: int

    def through(self, sight: Sight, size: int) -> "Zone":
        """The zone behind a layer whose top has so many cells."""
        clean, seeing = ((max(0, lo), min(size, hi))
                         for lo, hi in (sight.within(self.clean), sight.reached(self.seeing)))
        return Zone(clean, seeing, size, self.stride * sight.scale.denominator)

    @property
    def spare(self) -> Pair:
        """How many pixels the border may have less: one cell of its like is left."""
        before, behind = self.seeing[0] - self.clean[0] - 1, self.clean[1] - self.seeing[1] - 1
        return max(0, before) * self.stride, max(0, behind) * self.stride

    def pieces(self, now: Pair, then: Pair) -> Pieces:
        """From a map with `now` pixels less to one with `then`: a cell on each side becomes several."""
        less = [pixels // self.stride for pixels in now]
        more = [(a - b) // self.stride for a, b in zip(now, then, strict=True)]
        first, last = self.clean[0], self.clean[1] - sum(less) - 1
        ends = [0, first, first + 1, last, last + 1, self.size - sum(less)]
        found, at = [], 0
        for i in range(5):
            wide = ends[i + 1] - ends[i] + (more[i // 2] if i % 2 else 0)
            found.append((slice(ends[i], ends[i + 1]), slice(at, at + wide)))
            at += wide
        return [(here, there) for here, there in found if there.stop > there.start]


class _Widen(torch.autograd.Function):
    """A map with rows and columns repeated."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *pieces: Pieces) -> Tensor:
        ctx.pieces, ctx.shape = pieces, x.shape
        return _moved(x, (*x.shape[:2], *(along[-1][1].stop for along in pieces)), *pieces)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None, None]:
        rows, columns = ([(there, here) for here, there in pieces] for pieces in ctx.pieces)
        return _moved(grads[0], ctx.shape, rows, columns), None, None


def _moved(x: Tensor, shape: Sequence[int], rows: Pieces, columns: Pieces) -> Tensor:
    """A map put together of pieces of x: one cell to several, or several added up to one."""
    last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    y = torch.empty(shape, dtype=x.dtype, device=x.device,
                    memory_format=torch.channels_last if last else torch.contiguous_format)
    for here, there in rows:
        for left, right in columns:
            piece, place = x[:, :, here, left], y[:, :, there, right]
            if place.shape[2] < piece.shape[2]:
                piece = piece.sum(2, keepdim=True)
            if place.shape[3] < piece.shape[3]:
                piece = piece.sum(3, keepdim=True)
            place.copy_(piece)
    return y


class Narrow(Segment):
    """A chain of layers from an image to a map, on a border that is no wider than its numbers differ."""

    def __init__(self, nodes: Sequence[Node], shapes: Mapping[Value, Shape]) -> None:
        super().__init__(nodes, nodes[0].bottoms, nodes[-1].tops)
        self.sights = [windowed(node, shapes) for node in nodes]

    def zones(self, shape: Shape) -> list[list[Zone]]:
        """The zones behind each layer along both axes, for images of this shape."""
        zones, found = [Zone(ENDLESS, (0, size), size, 1) for size in shape[2:]], []
        for node, seen in zip(self.nodes, self.sights, strict=True):
            assert seen is not None
            (shape,) = node.op.infer(shape)
            zones = [zone.through(*facts) for zone, facts in
                     zip(zones, zip(seen, shape[2:], strict=True), strict=True)]
            found.append(zones)
        return found

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> list[Tensor]:
        x, left, start = bottoms[0], list(params), 0
        zones = self.zones(tuple(x.shape))
        ends = [i + 1 for i, seen in enumerate(self.sights) if shrinks(seen)]
        spare = [[zone.spare for zone in zones[i - 1]] for i in ends] + [[(0, 0), (0, 0)]]
        for end, now, then in zip(ends, spare, spare[1:], strict=False):
            count = sum(len(node.params) for node in self.nodes[start:end])
            x = self.kept(self.stage, start, end, x, left[:count], now)
            if now != then:
                x = _Widen.apply(x, *(zone.pieces(*pair)
                                      for zone, *pair in zip(zones[end - 1], now, then, strict=True)))
            left, start = left[count:], end
        return [x]

    def stage(self, start: int, end: int, x: Tensor, left: list[Tensor], less: Sequence[Pair]) -> Tensor:
        """The layers from number start to before end, on maps with so many pixels less."""
        for i, node in enumerate(self.nodes[start:end], start):
            mine, left = left[: len(node.params)], left[len(node.params) :]
            (x,) = run(node, [x], mine, i > start and self.nodes[i - 1].op.fresh) if i else (
                self.begin(node.op, x, mine, less),)
        return x

    @staticmethod
    def begin(op: Operation, x: Tensor, params: Sequence[Tensor], less: Sequence[Pair]) -> Tensor:
        """The first convolution, with so many pixels less of its padding."""
        assert isinstance(op, Convolution)
        sides = zip(reversed(op.pad), reversed(less), strict=True)
        pads = [pad - pixels for pad, pair in sides for pixels in pair]
        weight, bias = params[0], params[1] if len(params) > 1 else None
        group = op.layer.convolution_param.group
        return F.conv2d(F.pad(x, pads), weight, bias, op.stride, 0, op.dilation, group)


def narrowed(graph: Graph) -> Graph:
    """The graph with the layers above a widely padded image as one, on a narrower border."""
    found = [chain for node in graph.sources for top in node.tops
             if len(graph.shapes[top]) == 4 and (chain := _chain(graph, top))]
    return merged(graph, found)


def _chain(graph: Graph, image: Value) -> Narrow | None:
    """The layers above an image, each read by the next alone, as far as a narrower border will do."""
    readers = [n for n in graph.nodes if n.bottoms[:1] == (image,) and isinstance(n.op, Convolution)]
    nodes, best = list[Node](), None
    while len(readers) == 1 and _repeats(readers[0]):
        nodes += readers
        value = nodes[-1].tops[0]
        if shrinks(windowed(nodes[-1], graph.shapes)):
            tried = Narrow(nodes, graph.shapes)
            best = tried if any(max(zone.spare) for zone in tried.zones(graph.shapes[image])[-1]) else best
        readers = [node for node in graph.nodes if value in node.bottoms]
        if value in read_elsewhere(graph, [*nodes, *readers]):
            break
    return best


def _repeats(node: Node) -> bool:
    """Whether a layer makes the same numbers of the same numbers, wherever on a map they lie."""
    op = node.op
    if len(node.bottoms) != 1 or len(node.tops) != 1 or not all(node.propagate):
        return False
    if isinstance(op, Pooling):
        return op.layer.pooling_param.pool != STOCHASTIC and not op.layer.pooling_param.global_pooling
    if isinstance(op, Convolution):
        return not isinstance(op, Deconvolution) and (op.dims, op.channel_axis) == (2, 1)
    return isinstance(op, Neuron) and not op.random
