"""What follows from a graph alone: the arithmetic behind crop offsets."""

import argparse
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

from . import graph as graphs
from . import prototext
from .coord_map import CoordMap, Step, Values, compose, listed, meeting, offsets, wide
from .errors import Error
from .files import find
from .proto import caffe_pb2


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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("net", metavar="NET.prototxt")
    parser.add_argument("layer", nargs="?", help="one Crop layer (default: all)")


def run(args: argparse.Namespace) -> int:
    """The `explain-crop` command; 1 if an offset differs from what the maps give."""
    graph = without_data(find(args.net, what="net"))
    names = [args.layer] if args.layer else [n.name for n in graph.nodes if n.type == "Crop"]
    if not names:
        raise Error(f"{args.net}: the net has no Crop layer")
    found = [explain(graph, name) for name in names]
    print("\n\n".join(each.text for each in found))
    return int(any(each.agrees is False for each in found))


def without_data(path: str | Path, phase: int = caffe_pb2.TEST, size: tuple[int, int] = (500, 500)) -> graphs.Graph:
    """The graph of a net file whose data sets need not be there: data layers give `size` images, 3 channels."""
    net = prototext.read_net(path)
    state = caffe_pb2.NetState(phase=phase, stage=net.state.stage)
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in net.layer:
        if not layer.bottom and layer.type != "Input" and graphs.included(layer, state):
            for i, top in enumerate(layer.top):
                shapes[top] = (1, 1 if i else 3, *size)
    return graphs.build(net, phase, shapes=shapes, path=Path(path))


