"""What each layer of a net costs and what it sees of the data, and the static rows of the paper's Table 1."""

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

from ..base.table import table
from ..net.fields import fields, placed
from ..net.graph import UNSEEN, Graph, Node, Value
from ..net.room import BYTES, held
from ..ops import Shape


class LayerCost(NamedTuple):
    """One layer: numbers and bytes for the batch as it stands, places in pixels along rows and columns."""

    layer: str
    type: str
    top: str
    shape: Shape | None  # None: it cannot be told
    parameters: int
    macs: int
    memory: int  # bytes of tops that are blobs of their own
    field: tuple[float, ...] | None
    stride: tuple[float, ...] | None
    offset: tuple[float, ...] | None


def layer_costs(graph: Graph) -> list[LayerCost]:
    """Every layer of a graph, in order. A shared parameter counts where it stands first."""
    known, counted, found = fields(graph), set[str](), []
    for node in graph.layers:
        own = [slot for slot in node.params if slot.key not in counted]
        counted.update(slot.key for slot in own)
        top, shape = (node.tops[0].blob, graph.shapes[node.tops[0]]) if node.tops else ("", ())
        seen = known.get(node.tops[0]) if node.tops else None
        stride, first, extent = ([tuple(map(_number, column)) for column in zip(*seen, strict=True)] if seen
                                 else (None, None, None))
        found.append(LayerCost(node.name, node.type, top, None if shape is UNSEEN else shape,
                               sum(math.prod(slot.shape) for slot in own), macs(graph, node),
                               sum(_bytes(graph, each) for each in node.tops),
                               extent, stride, first))
    return found


def totals(graph: Graph) -> dict[str, int]:
    """parameters; macs; forward: the most bytes of blobs that are held at once; training: the bytes of all
    blobs and their gradients, as Caffe holds them."""
    found, parameters = layer_costs(graph), sum(math.prod(slot.shape) for slot in graph.params)
    return dict(parameters=parameters, macs=sum(cost.macs for cost in found), forward=held(graph),
                training=2 * sum(cost.memory for cost in found))


def in_all(total: Mapping[str, int], opaque: bool = False) -> str:
    """What `totals` gives, for people; opaque: there are layers that it does not know."""
    size, forward, training = (f"{number / 2**20:.1f} MiB" for number in (
        total["parameters"] * BYTES, total["forward"], total["training"]))
    least = "at least " if opaque else ""
    return (f"{least}{total['parameters']:,} parameters ({size}), {total['macs'] / 1e9:.2f} G MACs, "
            f"blobs {forward} at most in a forward pass, {training} with all gradients for training")


def table1(graph: Graph) -> dict[str, int | float | None]:
    """The lower rows of the paper's Table 1, from a net alone (all but the last two are counts).

    convolution layers: the most that lie on one way from the data, with the score layer, without upsampling
    ones; fully connected layers are convolutions too. parameters: of all but upsampling layers. maximum
    stride: of the coarsest blobs, and receptive field: the largest of theirs, in pixels (None: no layer has a
    place on the data).
    """
    depth: dict[Value, int] = {}
    upsampling = set()
    for node in graph.layers:
        counts = macs(graph, node) > 0
        if counts and any((scale or 1) > 1 for scale, _ in placed(node, 1)):
            upsampling.add(node.name)
            counts = False
        depth.update(dict.fromkeys(node.tops, max((depth[b] for b in node.bottoms), default=0) + counts))
    seen = [max(axes, key=lambda f: (f.stride, f.extent)) for axes in fields(graph).values()]
    stride, extent = max(((_number(f.stride), _number(f.extent)) for f in seen), default=(None, None))
    return {"convolution layers": max(depth.values(), default=0),
            "parameters": sum(math.prod(slot.shape) for slot in graph.params if slot.layer not in upsampling),
            "receptive field": extent, "maximum stride": stride}


def cost_table(graph: Graph, found: Sequence[LayerCost]) -> str:
    """The table for people; "all": the field of a whole layer that covers the data; "-": no place on them."""
    tops = [graph.shapes[node.tops[0]] for node in graph.sources]
    size = next((shape[2:] for shape in tops if len(shape) > 2), ())

    def field(cost: LayerCost) -> str | None:
        flat = len(cost.shape or ()) == 2
        whole = flat and cost.field and cost.offset and len(cost.field) == len(size) and all(
            first <= 0 and first + extent >= n
            for n, first, extent in zip(size, cost.offset, cost.field, strict=True))
        return "all" if whole else pixels(cost.field)

    lines = [[c.layer, c.type, shaped(c.shape, " x "), c.parameters or None,
              f"{c.macs / 1e6:.1f}" if c.macs else None, f"{c.memory / 2**20:.2f}" if c.memory else None,
              field(c), pixels(c.stride), pixels(c.offset)] for c in found]
    return table(lines, ["layer", "type", "top", "parameters", "M MACs", "MiB", "field", "stride", "offset"])


def shaped(shape: Shape | None, between: str) -> str:
    return "?" if shape is None else between.join(map(str, shape))


def pixels(values: Sequence[float] | None) -> str | None:
    """One number where all axes agree, else one each."""
    if values is None:
        return None
    return "x".join(f"{v:g}" for v in (values[:1] if len(set(values)) == 1 else values))


def macs(graph: Graph, node: Node) -> int:
    """Multiplications with an addition in one forward pass of a layer."""
    return node.op.macs(*(graph.shapes[bottom] for bottom in node.bottoms)) if node.bottoms else 0


def _bytes(graph: Graph, value: Value) -> int:
    shape = graph.shapes[value]
    return 0 if value.version or shape is UNSEEN else BYTES * math.prod(shape)


def _number(x: Fraction) -> float:
    return int(x) if x.denominator == 1 else float(x)
