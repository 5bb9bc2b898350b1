"""The `describe` command: what each layer of a net costs and what part of the data it sees, and Table 1's static rows."""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, NamedTuple

from ..base.errors import Error
from ..base.table import table
from ..net import graph as graphs
from ..net.coords import Step, Values, compose, listed, meeting, offsets, wide
from ..net.fields import fields, placed
from ..net.graph import Graph, Node, Value
from ..ops import CoordMap, Shape

BYTES = 4  # of a float32


class Row(NamedTuple):
    """One layer: sizes in numbers and bytes for the batch as it stands, places in pixels along rows and columns."""

    layer: str
    type: str
    top: str
    shape: Shape
    parameters: int
    macs: int
    memory: int  # bytes of tops that are blobs of their own
    field: tuple[float, ...] | None
    stride: tuple[float, ...] | None
    offset: tuple[float, ...] | None


def rows(graph: Graph) -> list[Row]:
    """Every layer of a graph, in order. A shared parameter counts where it stands first."""
    known, counted, found = fields(graph), set(), []
    for node in graph.layers:
        own = [slot for slot in node.params if slot.key not in counted]
        counted.update(slot.key for slot in own)
        shapes = [graph.shapes[top] for top in node.tops]
        seen = known.get(node.tops[0]) if node.tops else None
        places = (tuple(map(_number, column)) for column in zip(*seen, strict=True)) if seen else [None] * 3
        stride, first, extent = places
        found.append(Row(node.name, node.type, node.tops[0].blob if node.tops else "", shapes[0] if shapes else (),
                         sum(math.prod(slot.shape) for slot in own),
                         _macs(graph, node), sum(_bytes(graph, top) for top in node.tops), extent, stride, first))
    return found


def _macs(graph: Graph, node: Node) -> int:
    return node.op.macs(*(graph.shapes[bottom] for bottom in node.bottoms)) if node.bottoms else 0


def _bytes(graph: Graph, value: Value) -> int:
    return 0 if value.version else BYTES * math.prod(graph.shapes[value])


def _number(x: Fraction) -> float:
    return int(x) if x.denominator == 1 else float(x)


def totals(graph: Graph) -> dict[str, int]:
    """parameters; macs; forward: the most bytes of blobs that are held at once, each until its last reader is done;
    training: the bytes of all blobs and their gradients, as Caffe holds them."""
    found = rows(graph)
    return dict(parameters=sum(math.prod(slot.shape) for slot in graph.params), macs=sum(r.macs for r in found),
                forward=_peak(graph), training=2 * sum(r.memory for r in found))


def _peak(graph: Graph) -> int:
    last = {value.blob: i for i, node in enumerate(graph.layers) for value in (*node.bottoms, *node.tops)}
    held: dict[str, int] = {}
    peak = 0
    for i, node in enumerate(graph.layers):
        held.update({top.blob: _bytes(graph, top) for top in node.tops if not top.version})
        peak = max(peak, sum(held.values()))
        held = {blob: size for blob, size in held.items() if last[blob] > i or blob in graph.outputs}
    return peak


def table1(graph: Graph) -> dict[str, int | float | None]:
    """The lower rows of the paper's Table 1, from a net alone (all but the last two are counts).

    convolution layers: the most that lie on one way from the data, with the score layer, without upsampling ones;
    fully connected layers are convolutions too. parameters: of all but upsampling layers. maximum stride: of the
    coarsest blobs, and receptive field: the largest of theirs, in pixels (None: no layer has a place on the data).
    """
    depth: dict[Value, int] = {}
    upsampling = set()
    for node in graph.layers:
        counts = _macs(graph, node) > 0
        if counts and any((scale or 1) > 1 for scale in placed(node, 1)[0]):
            upsampling.add(node.name)
            counts = False
        depth.update(dict.fromkeys(node.tops, max((depth[b] for b in node.bottoms), default=0) + counts))
    seen = [max(axes, key=lambda f: (f.stride, f.extent)) for axes in fields(graph).values()]
    widest = max(((f.stride, f.extent) for f in seen), default=(None, None))
    return {"convolution layers": max(depth.values(), default=0),
            "parameters": sum(math.prod(slot.shape) for slot in graph.params if slot.layer not in upsampling),
            "receptive field": widest[1] and _number(widest[1]), "maximum stride": widest[0] and _number(widest[0])}


def _pixels(values: Sequence[float] | None) -> str | None:
    """One number where all axes agree, else one each."""
    if values is None:
        return None
    return "x".join(f"{v:g}" for v in (values[:1] if len(set(values)) == 1 else values))


def text(graph: Graph, found: Sequence[Row]) -> str:
    """The table for people; "all" stands for a field of a whole layer that covers the data, "-" for no place on them."""
    size = next((graph.shapes[node.tops[0]][2:] for node in graph.sources if len(graph.shapes[node.tops[0]]) > 2), ())

    def field(row: Row) -> str | None:
        whole = row.field and len(row.field) == len(size) and all(
            first <= 0 and first + extent >= n for n, first, extent in zip(size, row.offset, row.field, strict=True))
        return "all" if whole and len(row.shape) == 2 else _pixels(row.field)

    lines = [[r.layer, r.type, " x ".join(map(str, r.shape)), r.parameters or None, f"{r.macs / 1e6:.1f}" if r.macs else None,
              f"{r.memory / 2**20:.2f}" if r.memory else None, field(r), _pixels(r.stride), _pixels(r.offset)] for r in found]
    return table(lines, ["layer", "type", "top", "parameters", "M MACs", "MiB", "field", "stride", "offset"])


class Explained(NamedTuple):
    """The arithmetic behind a Crop layer, and whether the layer's offset is what comes out (None: nothing comes out)."""

    text: str
    agrees: bool | None


def explain(graph: graphs.Graph, name: str) -> Explained:
    """The arithmetic behind one Crop layer of a graph, step by step. Raises Error if the layer is no Crop."""
    node = graph.node(name)
    if node.type != "Crop":
        raise Error(f"layer '{name}' is a {node.type}, not a Crop")
    walk = Values(graph.layers)
    source, reference = (b.blob for b in node.bottoms)
    lines = [f"{name}: '{source}' is cut to '{reference}'", ""]
    try:
        there, here, m = meeting(*node.bottoms, walk)
    except Error as e:
        return Explained("\n".join([*lines, f"nothing to compare with: {e}"]), None)
    for path in (there, here):
        lines += _table(path, walk) + [""]
    ((scale, shift),) = wide(m)
    lines.append(f"from '{source}' to '{reference}': x -> {_formula(scale, shift)}")
    first = (1 if m.axis is None else m.axis) + 1 - node.op.first  # of the offsets, the first that the map speaks of
    given = node.op.offsets[max(first, 0) :]
    try:
        wanted = offsets(m, (f"'{source}'", f"'{reference}'"))
    except Error as e:
        return Explained("\n".join([*lines, f"but {e}; the layer has {listed(given)}"]), False)
    wanted = wanted * len(given) if len(wanted) == 1 else wanted
    verdict = "as the layer has it" if wanted == given else f"but the layer has {listed(given)}"
    return Explained("\n".join([*lines, f"so the crop begins at {listed(wanted)}: {verdict}"]), wanted == given)


def _table(path: list[Step], walk: Any) -> list[str]:
    """One way in words, from the common blob up; layers that move nothing are left out."""
    end = path[0].blob.blob
    if len(path) == 1:
        return [f"  '{end}' is the common blob: x -> x"]
    lines, total = [], CoordMap()
    for step in path[:0:-1]:
        total = compose(step.own, total)
        own, so_far = (_formula(*wide(m)[0]) for m in (step.own, total))
        if own != "x":
            lines.append(f"    {step.layer.name:<16} {step.layer.type:<14} x -> {own:<14} so far x -> {so_far}")
    return [f"  '{end}' seen from '{path[-1].blob.blob}':", *(lines or ["    no layer between them moves it"])]


def _formula(scale: Sequence[Fraction], shift: Sequence[Fraction]) -> str:
    def one(a: Fraction, b: Fraction) -> str:
        head = "x" if a == 1 else f"{a} x"
        return head if not b else f"{head} {'+' if b > 0 else '-'} {abs(b)}"

    return ", ".join(dict.fromkeys(one(a, b) for a, b in zip(scale, shift, strict=True)))
