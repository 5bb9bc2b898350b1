"""Any net as the streams of Figure 3 (Long et al. 2015): what is summed, on which grid, whether it aligns,
and how that differs from the rows of the figure."""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from functools import cached_property
from typing import Any, NamedTuple

from ..base.errors import Error
from ..net.build import standing
from ..net.coords import Values, distinct, meeting, offsets, ways, wide
from ..net.graph import Graph, Node, Value
from ..ops import REGISTRY, Operation, Shape
from ..proto import caffe_pb2
from ..proto.caffe_pb2 import LayerParameter, NetParameter

Number = int | Fraction
Trace = tuple[Value, tuple[Node, ...], float]  # a source, the layers from the prediction to it, its weight
Way = tuple[Node, Any] | None  # the last layer of a way, and the way to it: ways share where they begin
ORIGIN = Value("")
FIGURE3: dict[Number, dict[str, tuple[Number, ...]]] = {
    # stride of the sum and factor of the last upsampling -> source: upsamplings before the sum
    32: {"conv7": ()},
    16: {"conv7": (2,), "pool4": ()},
    8: {"conv7": (2, 2), "pool4": (2,), "pool3": ()},
}


class Fit(NamedTuple):
    """How a blob lies on another: cut to it by a Crop, or as it is (offset None) in a sum or over the image.

    offset, and wanted, which the coordinate maps give (None: nothing): one for rows and columns, or one each.
    aligned: None where no map leads from one blob to the other. why: a sentence, where no offset would align
    them.
    """

    layer: str
    blob: str
    reference: str
    offset: tuple[Number, ...] | None
    wanted: tuple[Number, ...] | None
    aligned: bool | None
    why: str = ""

    def __str__(self) -> str:
        way = "lies uncut on" if self.offset is None else "is cut to"
        at = "" if self.offset is None else f" from {distinct(self.offset)}"
        told = self.why or f"the coordinate maps say {distinct(self.wanted or ())}"
        return f"'{self.blob}' {way} '{self.reference}'{at}: {'aligned' if self.aligned else told}"


class Stream(NamedTuple):
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


class Prediction(NamedTuple):
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

    def traces(self, head: Value) -> Iterator[Trace]:
        """Each source of a prediction, the layers on the way to it, and the product of the coeff there."""
        rest: list[tuple[Value, Way, float, bool]] = [(head, None, 1, False)]
        while rest:
            value, way, weight, scored = rest.pop()
            node = self.makers[value]
            factor, on = self.factor(node), (node, way)
            if not scored and summing(node):
                coeff = dict(enumerate(node.op.layer.eltwise_param.coeff))
                rest += [(bottom, on, weight * coeff.get(i, 1), False)
                         for i, bottom in reversed([*enumerate(node.bottoms)])]
            elif factor == 1 or not scored and (factor or node.type == "Convolution"):
                rest.append((node.bottoms[0], on, weight, scored or node.type == "Convolution"))
            else:
                yield value, _nodes(way), weight

    def passed(self, nodes: Iterable[Node]) -> dict[str, Any]:
        """What the layers of a way do to the grid."""
        steps = tuple(factor for node in nodes if (factor := self.factor(node)) not in (None, 1))
        return dict(steps=steps, factor=math.prod(steps),
                    fits=tuple(self.fit(node, *node.bottoms) for node in nodes if node.type == "Crop"))

    def fit(self, node: Node, blob: Value, reference: Value) -> Fit:
        """How `blob` lies on `reference`; with the offset, if the layer is a Crop of the two."""
        p = node.op.layer.crop_param
        crop = node.bottoms == (blob, reference) and node.type == "Crop"
        given = _short(tuple(p.offset) or (0,)) if crop else None
        facts = (node.name, blob.blob, reference.blob)
        try:
            m = meeting(blob, reference, self)[2]
        except Error as e:
            return Fit(*facts, given, None, None, str(e))
        scale, shift = wide(m)[0]
        wanted = _short([_one([-b]) for b in shift]) if set(scale) == {1} else None
        try:
            offsets(m, (f"'{blob.blob}'", f"'{reference.blob}'"))
        except Error as e:
            return Fit(*facts, given, wanted, False, str(e))
        return Fit(*facts, given, wanted, wanted == ((0,) if given is None else given))

    def role(self, value: Value, scores: set[Node]) -> str:
        """The figure's name: poolN where the grid is halved for the Nth time, conv7 if only scores follow."""
        stride, halving = self.seen(value)[1], []
        for step in ways(value, self):  # poolings that alone scale all of their way so far
            own, total = wide(step.own)[0][0], wide(step.total)[0][0]
            if step.layer and step.layer.type == "Pooling" and total == own != (1,) * len(own):
                halving.append(step.before)
        if value not in halving and self.deepest(value, scores):
            return "conv7"
        # where strided convolutions halve the grid, each blob of that stride may stand for a pooling
        if isinstance(stride, int) and stride.bit_count() == 1 and (value in halving or not halving):
            return f"pool{stride.bit_length() - 1}"
        return ""

    def deepest(self, value: Value, scores: set[Node]) -> bool:
        """Whether nothing but scores is computed from a blob."""
        rest, met = [value], {value}
        while rest:
            for node in self.readers.get(rest.pop(), ()):
                if node in scores or any(node.loss_weights):
                    continue
                if self.factor(node) != 1:
                    return False
                rest += [top for top in node.tops if top not in met]
                met.update(node.tops)
        return True

    @cached_property
    def readers(self) -> dict[Value, list[Node]]:
        """The layers that work on a value: that have it as their first bottom."""
        found = defaultdict[Value, list[Node]](list)
        for node in dict.fromkeys(self.makers.values()):
            if node.bottoms:
                found[node.bottoms[0]].append(node)
        return found


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


def _nodes(way: Way) -> tuple[Node, ...]:
    """The layers of a way, from the prediction on."""
    found = []
    while way:
        node, way = way
        found.append(node)
    return tuple(found[::-1])


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


def _short(values: Sequence[Number]) -> tuple[Number, ...]:
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


def deviations(p: Prediction, row: Number | None = None) -> list[str]:
    """Sentences on how a prediction differs from the figure's row (32, 16, 8; None: by its stride)."""
    strides = [Fraction(s.stride) / s.factor for s in p.streams]
    own = (p.stride, p.factor) if len(set(strides)) == 1 else (p.factor, p.stride)
    row = row or next((number for number in own if number in FIGURE3), None)
    if row is None or row not in FIGURE3:
        return [f"the sum has stride {p.stride} and is upsampled x{p.factor}; "
                "the figure has nets of 32, 16 and 8"]
    missing = [f"{role} {times(steps)} is missing" for role, steps in FIGURE3[row].items()
               if all(s.role != role for s in p.streams)]
    told = [f"'{s.source}' (stride {s.stride}) {said}"
            for i, s in enumerate(p.streams) for said in _stream_deviations(p, i, row, strides[i])]
    return [*missing, *told, *_sum_deviations(p, row)]


def _stream_deviations(p: Prediction, number: int, row: Number, stride: Fraction) -> Iterator[str]:
    """What is wrong with a stream; stride: where it is summed."""
    s, figure = p.streams[number], FIGURE3[row]
    steps = figure.get(s.role, s.steps)
    if not s.role:
        yield "has no place in the figure: no pooling that halves the grid, and not the end of the trunk"
    elif s.role not in figure:
        yield f"is the figure's {s.role}; FCN-{row}s sums {' + '.join(figure)}"
    if s.steps != steps:
        yield f"is upsampled {times(s.steps)} before the sum; FCN-{row}s has {s.role} {times(steps)}"
    if any((s.role, s.image) == (other.role, other.image) for other in p.streams[:number]):
        yield "is one more stream from that place"
    if s.kernel != 1:
        scored = f"'{s.score}', a convolution of kernel_size {s.kernel}" if s.score else "no convolution"
        yield f"is scored by {scored}; the figure scores by 1x1 convolutions"
    if stride != p.stride:
        yield f"has stride {stride} where it is summed, the sum has {p.stride}"


def _sum_deviations(p: Prediction, row: Number) -> Iterator[str]:
    """What is wrong with all streams together and with what follows."""
    if len({s.classes for s in p.streams}) > 1:
        yield f"the streams have {distinct(s.classes for s in p.streams)} classes"
    if len({s.weight for s in p.streams}) > 1:
        weights = distinct(f"{s.weight:g}" for s in p.streams)
        yield f"the streams are summed {weights} times; in the figure they weigh the same"
    if p.factor != row:
        yield f"the last upsampling is x{p.factor}; FCN-{row}s has x{row}"
    if not p.covers:
        yield f"'{p.blob}' is cut to '{p.fits[-1].reference}', which is not the image"
    crops = [fit for s in p.streams for fit in s.fits]
    fits = p.sums if all(fit.aligned for fit in crops) else crops  # what is cut wrongly is summed wrongly
    yield from (str(fit) for fit in dict.fromkeys((*fits, *p.fits)) if not fit.aligned)


def times(steps: Sequence[Number]) -> str:
    """'x4 (2 x 2)'."""
    return f"x{math.prod(steps)}" + (f" ({' x '.join(map(str, steps))})" if len(steps) > 1 else "")


def in_words(p: Prediction) -> list[str]:
    lines = [f"'{p.blob}' is the sum of"]
    for s in p.streams:
        weight = "" if s.weight == 1 else f"{s.weight:g} times "
        scaled = "".join(f", scaled by '{name}'" for name in s.scales)
        scored = f"'{s.score}' makes {s.classes} classes" if s.score else "not scored"
        begin = f"  {s.role or '?':<6} {times(s.steps):<11} {weight}'{s.source}', stride {s.stride}{scaled}"
        lines.append("; ".join([begin, scored, *map(str, s.fits)]))
    return [*lines, f"  with stride {p.stride}, then {times(p.steps)}; {'; '.join(map(str, p.fits))}"]
