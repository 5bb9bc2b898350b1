"""Any net as the streams of Figure 3 (Long et al. 2015): what is summed, on which grid, whether it aligns."""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeVar

from ..base.errors import Error
from ..net.build import standing
from ..net.coords import Step, Values, distinct, meeting, offsets, ways, wide
from ..net.graph import Graph, Node, Value
from ..ops import REGISTRY, Operation, Shape
from ..proto import caffe_pb2
from ..proto.caffe_pb2 import LayerParameter, NetParameter

Number = int | Fraction
Trace = tuple[Value, tuple[Node, ...], float]  # a source, the layers from the prediction to it, its weight
T = TypeVar("T")
ORIGIN = Value("")


@dataclass(frozen=True)
class Fit:
    """How a blob lies on another: cut to it by a Crop, or as it is (offset None) in a sum or over the image.

    offset, and wanted, which the coordinate maps give (None: nothing): one for rows and columns, or one each.
    aligned: None where no map leads from one blob to the other. why: a sentence, where no offset would align
    them.
    """

    layer: str
    blob: str
    reference: str
    offset: tuple[int, ...] | None
    wanted: tuple[Number, ...] | None
    aligned: bool | None
    why: str = ""

    def __str__(self) -> str:
        way = "lies uncut on" if self.offset is None else "is cut to"
        at = "" if self.offset is None else f" from {distinct(self.offset)}"
        told = self.why or f"the coordinate maps say {distinct(self.wanted or ())}"
        return f"'{self.blob}' {way} '{self.reference}'{at}: {'aligned' if self.aligned else told}"


@dataclass(frozen=True)
class Stream:
    """A summand of a prediction: a source, scored, upsampled by `steps` (in this order) and cut."""

    source: str  # blob
    role: str  # the figure's name for its place in the trunk, "conv7", "pool4", ...; "" if it has none
    image: str  # the blob with the image that it sees
    stride: Number  # pixels of the image between two cells of the source
    scales: tuple[str, ...]  # the Scale layers between the source and the sum
    score: str | None  # the convolution that makes scores of it
    kernel: int  # of the score; 1 in the figure
    classes: int
    weight: float  # in the sum: the product of the coeff on the way
    steps: tuple[Number, ...]
    factor: Number  # of all steps
    fits: tuple[Fit, ...]  # the Crops on the way, from the source on


@dataclass(frozen=True)
class Prediction:
    """A map of scores: the sum of streams, coarsest first, upsampled by `steps` and cut to the image."""

    blob: str
    streams: tuple[Stream, ...]
    stride: Number  # of the sum: pixels of the image between two of its cells
    steps: tuple[Number, ...]
    factor: Number  # of all steps
    sums: tuple[Fit, ...]  # how summands lie on the first one of their sum
    fits: tuple[Fit, ...]  # the Crops on the way to the image; without any, how the prediction lies on it
    covers: bool  # whether the last of `fits` is with an image, or a label beside it


class _Grid(Values):
    """The walk of the coordinate maps, also through joined channels, which move nothing in space, and on from
    all data to one ORIGIN: images and labels are taken to lie on each other."""

    def causes(self, value: Value) -> Sequence[Value]:
        return () if value == ORIGIN else self.makers[value].bottoms or (ORIGIN,)

    def layer(self, value: Value) -> LayerParameter:
        layer = super().layer(value)
        still = not self.makers[value].bottoms or layer.type == "Concat" and layer.concat_param.axis == 1
        return LayerParameter(name=layer.name, type="Split") if still else layer

    def image(self, value: Value) -> bool:
        """Whether a blob holds data, or data joined."""
        maker = self.makers[value]
        return not maker.bottoms or maker.type == "Concat" and all(map(self.image, maker.bottoms))

    def seen(self, value: Value) -> tuple[Value, Number]:
        """The data that a blob is computed from, and its stride on them."""
        for step in ways(value, self):
            if step.blob == ORIGIN:
                return step.before, _one(1 / scale for scale in wide(step.total)[0][0])
        raise Error(f"no coordinate maps lead from '{value.blob}' to an image, so its stride is not known")

    def factor(self, node: Node) -> Number | None:
        """How many times finer than its first bottom a top is; None for a layer that does more than that."""
        more = node.type in ("Eltwise", "Convolution", "Pooling", "Im2col") or node.type not in REGISTRY
        own = None if more or not node.bottoms else REGISTRY[node.type].coord_map(node.op.layer)
        return None if own is None else _one(wide(own)[0][0])

    def traces(self, value: Value, way: tuple[Node, ...] = (), weight: float = 1) -> Iterator[Trace]:
        """Each source of a prediction, the layers on the way to it, and the product of the coeff there."""
        node = self.makers[value]
        scored, factor = any(at.type == "Convolution" for at in way), self.factor(node)
        if not scored and summing(node):
            for i, bottom in enumerate(node.bottoms):
                coeff = dict(enumerate(node.op.layer.eltwise_param.coeff)).get(i, 1)
                yield from self.traces(bottom, (*way, node), weight * coeff)
        elif factor == 1 or not scored and (factor or node.type == "Convolution"):
            yield from self.traces(node.bottoms[0], (*way, node), weight)
        else:
            yield value, way, weight

    def passed(self, nodes: Iterable[Node]) -> dict[str, Any]:
        """What the layers of a way do to the grid."""
        steps = tuple(factor for node in nodes if (factor := self.factor(node)) not in (None, 1))
        return dict(steps=steps, factor=math.prod(steps),
                    fits=tuple(self.fit(node, *node.bottoms) for node in nodes if node.type == "Crop"))

    def fit(self, node: Node, blob: Value, reference: Value) -> Fit:
        """How `blob` lies on `reference`; with the offset, if the layer is a Crop of the two."""
        p, given = node.op.layer.crop_param, None
        if node.bottoms == (blob, reference) and node.type == "Crop":
            given = tuple(p.offset) or (0,)
        facts = (node.name, blob.blob, reference.blob)
        try:
            m = meeting(blob, reference, self)[2]
        except Error as e:
            return Fit(*facts, given, None, None, str(e))
        if given is not None and len(given) > 1:  # the axes that the map speaks of, as in explain-crop
            given = _short(given[max((2 if m.axis is None else m.axis + 1) - p.axis % 4, 0) :])
        scale, shift = wide(m)[0]
        wanted = _short([_one([-b]) for b in shift]) if set(scale) == {1} else None
        try:
            offsets(m, (f"'{blob.blob}'", f"'{reference.blob}'"))
        except Error as e:
            return Fit(*facts, given, wanted, False, str(e))
        return Fit(*facts, given, wanted, wanted == ((0,) if given is None else given))

    def role(self, value: Value, scores: set[Node]) -> str:
        """The figure's name: poolN where the grid is halved for the Nth time, conv7 if only scores follow."""
        stride = self.seen(value)[1]
        halving = [step.before for step in ways(value, self) if self._halves(step)]
        if value not in halving and self.deepest(value, scores):
            return "conv7"
        # where strided convolutions halve the grid, each blob of that stride may stand for a pooling
        if isinstance(stride, int) and stride.bit_count() == 1 and (value in halving or not halving):
            return f"pool{stride.bit_length() - 1}"
        return ""

    def _halves(self, step: Step) -> bool:
        """Whether a step is a pooling that alone scales all of its way so far."""
        own, total = wide(step.own)[0][0], wide(step.total)[0][0]
        return step.layer is not None and step.layer.type == "Pooling" and total == own != (1,) * len(own)

    def deepest(self, value: Value, scores: set[Node]) -> bool:
        """Whether nothing but scores is computed from a blob."""
        return all(self.factor(node) == 1 and all(self.deepest(top, scores) for top in node.tops)
                   for node in set(self.makers.values())
                   if node.bottoms[:1] == (value,) and node not in scores and not any(node.loss_weights))


def streams(graph: Graph) -> list[Prediction]:
    """The net's predictions, one for each loss, or without a loss for each output, that convolutions score.

    Raises Error if there is none, or where a stride is not known because no coordinate maps lead to an image.
    """
    grid = _Grid(graph.layers)
    last = {value.blob: value for value in grid.makers}
    heads = [node.bottoms[0] for node in graph.layers if any(node.loss_weights) and node.bottoms]
    heads = heads or [last[blob] for blob in graph.outputs]
    for i, head in enumerate(heads):
        while (maker := grid.makers[head]).type in ("Softmax", "ArgMax"):
            head = heads[i] = maker.bottoms[0]
    found = {head: list(grid.traces(head)) for head in heads}
    scores = {at for ends in found.values() for _, way, _ in ends for at in way if at.type == "Convolution"}
    if not scores:
        raise Error(f"net '{graph.name}' has no map of scores made by a convolution, so there is nothing of "
                    "Figure 3 in it")
    return [_prediction(grid, head, ends, scores) for head, ends in found.items()
            if any(scores & set(way) for _, way, _ in ends)]


def summing(node: Node) -> bool:
    return node.type == "Eltwise" and node.op.layer.eltwise_param.operation == caffe_pb2.EltwiseParameter.SUM


def _prediction(grid: _Grid, head: Value, ends: Sequence[Trace], scores: set[Node]) -> Prediction:
    way = ends[0][1]
    begun = next((i for i, at in enumerate(way) if summing(at) or at in scores), len(way))
    final = grid.passed(way[:begun][::-1])
    reference = next((at.bottoms[1] for at in way[:begun] if at.type == "Crop"), grid.seen(head)[0])
    final["fits"] = final["fits"] or (grid.fit(grid.makers[head], head, reference),)
    found = [_stream(grid, source, each[begun:][::-1], weight, scores) for source, each, weight in ends]
    found.sort(key=lambda stream: -stream.stride)
    nearest = min(found, key=lambda stream: len(stream.steps))
    sums = dict.fromkeys(at for _, each, _ in ends for at in each if summing(at))
    fits = tuple(grid.fit(at, other, at.bottoms[0]) for at in sums for other in at.bottoms[1:])
    stride = _one([Fraction(nearest.stride) / nearest.factor])
    return Prediction(head.blob, tuple(found), stride, sums=fits, covers=grid.image(reference), **final)


def _stream(grid: _Grid, source: Value, way: Sequence[Node], weight: float, scores: set[Node]) -> Stream:
    score = next((at for at in way if at in scores), None)
    p = score.op.layer.convolution_param if score else caffe_pb2.ConvolutionParameter()
    image, stride = grid.seen(source)
    scales = tuple(at.name for at in way if at.type == "Scale")
    kernel, name = max([0, *p.kernel_size, p.kernel_h, p.kernel_w]), score.name if score else None
    return Stream(source.blob, grid.role(source, scores), image.blob, stride, scales, name, kernel,
                  p.num_output, weight, **grid.passed(way))


def _short(values: Sequence[T]) -> tuple[T, ...]:
    return tuple(values if len(set(values)) > 1 else values[:1])


def _one(values: Iterable[Number]) -> Number:
    """What holds for rows and columns, as an int if it is whole."""
    found = set(values)
    if len(found) > 1:
        raise Error(f"rows and columns are scaled by {distinct(found)}; Figure 3 has one factor for both")
    x = found.pop()
    return int(x) if x == int(x) else x


def outline(net: NetParameter, phase: "caffe_pb2.Phase | None", lenient: bool = False) -> Graph:
    """A graph without sizes (shapes are empty) and parameters, of a net that need not fit.

    It is enough to draw it and for `streams`. phase None: all layers, whatever their rules. Raises KeyError
    for a bottom that no layer makes; lenient: leaves it out.
    """
    now: dict[str, Value] = {}
    nodes = []
    for layer in net.layer if phase is None else standing(net, phase):
        op = object.__new__(REGISTRY.get(layer.type, Operation))  # setting it up needs shapes
        op.layer = layer
        bottoms = tuple(now[blob] for blob in layer.bottom if blob in now or not lenient)
        tops = tuple(Value(top, now[top].version + 1 if top in now else 0) for top in layer.top)
        now |= zip(layer.top, tops, strict=True)
        nodes.append(Node(op, bottoms, tops, (), tuple(layer.loss_weight or [float(op.loss)]), ()))
    read, shapes = {value for node in nodes for value in node.bottoms}, defaultdict[Value, Shape](tuple)
    outputs = tuple(sorted(blob for blob in now if now[blob] not in read))
    return Graph(net.name, phase or caffe_pb2.TRAIN, tuple(nodes), (), outputs, shapes)
