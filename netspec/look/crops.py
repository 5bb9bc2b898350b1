"""The arithmetic behind crop offsets, step by step (`netspec explain-crop`)."""

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from ..base.errors import Error, one_line
from ..net.coords import Step, Values, compose, distinct, meeting, offsets, wide
from ..net.graph import Graph
from ..ops import CoordMap
from ..ops.shape import Crop


class Explained(NamedTuple):
    """The arithmetic behind a Crop layer, and whether its offset is what comes out (None: nothing does)."""

    text: str
    agrees: bool | None


def explain(graph: Graph, name: str) -> Explained:
    """The arithmetic behind one Crop layer of a graph. Raises Error if the layer is no Crop."""
    node = graph.node(name)
    if not isinstance(node.op, Crop):
        raise Error(f"layer '{name}' is a {node.type}, not a Crop")
    walk, (cut, size) = Values(graph.layers), node.bottoms
    source, reference = f"'{cut.blob}'", f"'{size.blob}'"
    lines = [f"{name}: {source} is cut to {reference}", ""]

    def told(end: str, agrees: bool | None) -> Explained:
        return Explained("\n".join(map(one_line, [*lines, end])), agrees)

    try:
        there, here, m = meeting(cut, size, walk)
    except Error as e:
        return told(f"nothing to compare with: {e}", None)
    lines += [*_way(there), "", *_way(here), "", f"from {source} to {reference}: x -> {_formula(m)}"]
    moved = 2 if m.axis is None else m.axis + 1  # the first axis that the map speaks of
    given = node.op.offsets[max(moved - node.op.first, 0) :]
    try:
        wanted = offsets(m, (source, reference))
    except Error as e:
        return told(f"but {e}; the layer has {distinct(given)}", False)
    wanted = wanted * len(given) if len(wanted) == 1 else wanted
    verdict = "as the layer has it" if wanted == given else f"but the layer has {distinct(given)}"
    return told(f"so the crop begins at {distinct(wanted)}: {verdict}", wanted == given)


def _way(path: Sequence[Step]) -> list[str]:
    """One way in words, from the common blob up; layers that move nothing are left out."""
    end = path[0].blob.blob
    if len(path) == 1:
        return [f"  '{end}' is the common blob: x -> x"]
    lines, total = [], CoordMap()
    for step in path[:0:-1]:
        total = compose(step.own, total)
        own, so_far, layer = _formula(step.own), _formula(total), step.layer
        if layer and own != "x":
            lines.append(f"    {layer.name:<16} {layer.type:<14} x -> {own:<14} so far x -> {so_far}")
    lines = lines or ["    no layer between them moves it"]
    return [f"  '{end}' seen from '{path[-1].blob.blob}':", *lines]


def _formula(m: CoordMap) -> str:
    def one(a: Fraction, b: Fraction) -> str:
        head = "x" if a == 1 else f"{a} x"
        return head if not b else f"{head} {'+' if b > 0 else '-'} {abs(b)}"

    ((scale, shift),) = wide(m)
    return distinct(map(one, scale, shift))
