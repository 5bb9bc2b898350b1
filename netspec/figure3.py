"""Any net as the streams of Figure 3 (Long et al. 2015): what is summed, on which grid, and whether it aligns."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from .coord_map import Apart, Values, compose, inverse, listed, meeting, offsets, ways, wide
from .errors import Error
from .graph import Graph, Node, Value
from .ops import REGISTRY
from .proto import caffe_pb2

Number = int | Fraction
ROWS = {  # stride of the sum and factor of the last upsampling -> source: upsamplings before the sum
    32: {"conv7": ()},
    16: {"conv7": (2,), "pool4": ()},
    8: {"conv7": (2, 2), "pool4": (2,), "pool3": ()},
}
UNPOOLINGS = {"Upsample": lambda p: p.upsample_param.scale, "Unpooling": lambda p: p.unpooling_param.stride}
FLAT = ("Softmax", "ArgMax", "AutoCrop")  # lie on their bottom (AutoCrop: but for its offset), without a map that says so


@dataclass(frozen=True)
class Fit:
    """How a blob lies on another: cut to it by a Crop, or as it is (offset None) in a sum or over the image.

    offset, and wanted, which the coordinate maps give (None: nothing): one for rows and columns, or one each.
    aligned: None where no map leads from one blob to the other. why: a sentence, where no offset would align them.
    """

    layer: str
    blob: str
    reference: str
    offset: tuple[int, ...] | None
    wanted: tuple[Number, ...] | None
    aligned: bool | None
    why: str = ""

    def __str__(self) -> str:
        done = "lies as it is on" if self.offset is None else "is cut to"
        at = "" if self.offset is None else f" from {listed(self.offset)}"
        said = "aligned" if self.aligned else self.why or f"the coordinate maps say {listed(self.wanted)}"
        return f"'{self.blob}' {done} '{self.reference}'{at}: {said}"


@dataclass(frozen=True)
class Stream:
    """One summand of a prediction: a source, scored, upsampled by `steps` (in this order) and cut before the sum."""

    source: str  # blob
    role: str  # the figure's name for its place in the trunk, "conv7", "pool4", ...; "" if it has none
    image: str  # the blob with the image that it sees
    stride: Number  # pixels of the image between two cells of the source
    score: str | None  # the convolution that makes scores of it
    kernel: int  # of the score; 1 in the figure
    classes: int
    weight: float  # in the sum: the product of the coeff on the way
    steps: tuple[Number, ...]
    fits: tuple[Fit, ...]  # the Crops on the way, from the source on

    @property
    def factor(self) -> Number:
        """Of all upsampling before the sum."""
        return math.prod(self.steps)


@dataclass(frozen=True)
class Prediction:
    """A map of scores: the sum of streams, the coarsest first, then upsampled by `steps` and cut to the image."""

    blob: str
    streams: tuple[Stream, ...]
    stride: Number  # of the sum: pixels of the image between two of its cells
    steps: tuple[Number, ...]
    sums: tuple[Fit, ...]  # how summands lie on the first one of their sum
    fits: tuple[Fit, ...]  # the Crops on the way to the image; without any, how the prediction lies on it
    covers: bool  # whether the last of `fits` is with an image, or a label beside it

    @property
    def factor(self) -> Number:
        """Of all upsampling behind the sum."""
        return math.prod(self.steps)


class _Grid(Values):
    """The walk of the coordinate maps, also through joined channels, which move nothing in space."""

    def layer(self, value: Value) -> Any:
        layer = super().layer(value)
        joins = layer.type == "Concat" and layer.concat_param.axis == 1
        return caffe_pb2.LayerParameter(name=layer.name, type="Split") if joins else layer

    def image(self, value: Value) -> bool:
        """Whether a blob holds data, or data joined."""
        maker = self.makers[value]
        return not maker.bottoms or maker.type == "Concat" and all(map(self.image, maker.bottoms))

    def seen(self, value: Value) -> Any:
        """The step of the coordinate maps that reaches a blob's image; Error if none does."""
        for step in ways(value, self):
            if self.image(step.blob):
                return step
        raise Error(f"no coordinate maps lead from '{value.blob}' to an image, so its stride is not known")

    def stride(self, value: Value) -> Number:
        return _one(1 / scale for scale in wide(self.seen(value).total)[0][0])

    def factor(self, node: Node) -> Number | None:
        """How many times finer than its first bottom a top is; None for a layer that does more than spread it."""
        layer = node.op.layer
        if layer.type in UNPOOLINGS:
            return UNPOOLINGS[layer.type](layer)
        if layer.type in FLAT:
            return 1
        if not node.bottoms or layer.type in ("Eltwise", "Convolution", "Pooling", "Im2col") or layer.type not in REGISTRY:
            return None
        own = REGISTRY[layer.type].coord_map(layer)
        return None if own is None else _one(wide(own)[0][0])

    def traces(self, value: Value, way: tuple[Node, ...] = (), weight: float = 1) -> Iterator[tuple]:
        """Each source of a prediction, the layers from the prediction to it, and the product of the coeff there."""
        node = self.makers[value]
        scored, factor = any(at.type == "Convolution" for at in way), self.factor(node)
        if not scored and summing(node):
            coeffs = node.op.layer.eltwise_param.coeff or [1] * len(node.bottoms)
            for bottom, coeff in zip(node.bottoms, coeffs, strict=True):
                yield from self.traces(bottom, (*way, node), weight * coeff)
        elif factor == 1 or not scored and (factor or node.type == "Convolution"):
            yield from self.traces(node.bottoms[0], (*way, node), weight)
        else:
            yield value, way, weight

    def steps(self, nodes: Iterable[Node]) -> tuple[Number, ...]:
        return tuple(f for node in nodes if (f := self.factor(node)) not in (None, 1))

    def crops(self, nodes: Iterable[Node]) -> tuple[Fit, ...]:
        return tuple(self.fit(node, *node.bottoms) for node in nodes if "Crop" in node.type)

    def fit(self, node: Node, blob: Value, reference: Value) -> Fit:
        """How `blob` lies on `reference`; with the offset, if the layer is a Crop of the two."""
        p, given = node.op.layer.crop_param, None
        if node.bottoms == (blob, reference) and "Crop" in node.type:
            given = tuple(p.offset) if len(p.offset) > 1 else tuple(p.offset or [0]) * (4 - p.axis % 4)
        facts = (node.name, blob.blob, reference.blob)
        try:
            try:
                m = meeting(blob, reference, self)[2]
            except Apart:  # of two trunks: their images are taken to lie on each other
                m = compose(self.seen(reference).total, inverse(self.seen(blob).total))
        except Error as e:
            return Fit(*facts, given, None, None, str(e))
        if given is not None:  # of the offsets, the first that the map speaks of, as in explain-crop
            given = _short(given[max((1 if m.axis is None else m.axis) + 1 - p.axis % 4, 0) :])
        scale, shift = wide(m)[0]
        wanted = _short([_one([-b]) for b in shift]) if set(scale) == {1} else None
        try:
            offsets(m, (f"'{blob.blob}'", f"'{reference.blob}'"))
        except Error as e:
            return Fit(*facts, given, wanted, False, str(e))
        return Fit(*facts, given, wanted, wanted == ((0,) if given is None else given))

    def role(self, value: Value, scores: set[Node]) -> str:
        """The figure's name: poolN where the grid is halved for the Nth time, conv7 with nothing but scores behind it."""
        stride = self.stride(value)
        halving = [step.before for step in ways(value, self) if step.layer is not None and step.layer.type == "Pooling"
                   and wide(step.total)[0][0] == wide(step.own)[0][0] != (1,) * len(wide(step.own)[0][0])]
        if value not in halving and self.deepest(value, scores):
            return "conv7"
        # where strided convolutions halve the grid, each blob of that stride may stand for the figure's pooling
        fits = isinstance(stride, int) and stride.bit_count() == 1 and (value in halving or not halving)
        return f"pool{stride.bit_length() - 1}" if fits else ""

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
    heads = [node.bottoms[0] for node in graph.layers if any(node.loss_weights) and node.bottoms]
    last = {value.blob: value for value in grid.makers}
    found = {head: list(grid.traces(head)) for head in heads or [last[blob] for blob in graph.outputs]}
    scores = {at for ends in found.values() for _, way, _ in ends for at in way if at.type == "Convolution"}
    if not scores:
        raise Error(f"net '{graph.name}' has no map of scores made by a convolution, so there is nothing of Figure 3 in it")
    return [_prediction(grid, head, ends, scores) for head, ends in found.items() if scores & set(ends[0][1])]


def summing(node: Node) -> bool:
    return node.type == "Eltwise" and node.op.layer.eltwise_param.operation == caffe_pb2.EltwiseParameter.SUM


def _prediction(grid: _Grid, head: Value, ends: list[tuple], scores: set[Node]) -> Prediction:
    way = ends[0][1]
    begun = next((i for i, at in enumerate(way) if summing(at) or at in scores), len(way))
    final = way[:begun][::-1]
    while grid.makers[head].type in ("Softmax", "ArgMax"):
        head = grid.makers[head].bottoms[0]
    reference = next((at.bottoms[1] for at in reversed(final) if "Crop" in at.type), grid.seen(head).blob)
    found = [_stream(grid, source, each[begun:][::-1], weight, scores) for source, each, weight in ends]
    found.sort(key=lambda stream: -stream.stride)
    nearest = min(found, key=lambda stream: len(stream.steps))
    sums = dict.fromkeys(at for _, each, _ in ends for at in each if summing(at))
    return Prediction(head.blob, tuple(found), _one([Fraction(nearest.stride) / nearest.factor]), grid.steps(final),
                      tuple(grid.fit(at, other, at.bottoms[0]) for at in sums for other in at.bottoms[1:]),
                      grid.crops(final) or (grid.fit(grid.makers[head], head, reference),), grid.image(reference))


def _stream(grid: _Grid, source: Value, way: Sequence[Node], weight: float, scores: set[Node]) -> Stream:
    score = next((at for at in way if at in scores), None)
    p = score.op.layer.convolution_param if score else caffe_pb2.ConvolutionParameter()
    return Stream(source.blob, grid.role(source, scores), grid.seen(source).blob.blob, grid.stride(source),
                  score and score.name, max([0, *p.kernel_size, p.kernel_h, p.kernel_w]), p.num_output, weight,
                  grid.steps(way), grid.crops(way))


def _short(values: Sequence[Number]) -> tuple[Number, ...]:
    return tuple(values if len(set(values)) > 1 else values[:1])


def _one(values: Iterable[Number]) -> Number:
    """What holds for rows and columns, as an int if it is whole."""
    found = set(values)
    if len(found) > 1:
        raise Error(f"rows and columns are scaled by {listed(found)}; Figure 3 has one factor for both")
    x = found.pop()
    return int(x) if x == int(x) else x
