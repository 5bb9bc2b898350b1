"""Crops that cut at 0 where the coordinate maps of the net say another place."""

from collections.abc import Iterable, Iterator

from ..base.errors import Error
from ..net.coords import Values, aligning
from ..net.graph import Graph
from ..ops.shape import Crop
from . import NOTE, Finding


def unaligned(graphs: Iterable[Graph]) -> list[Finding]:
    """A note for each Crop of some graphs that is all at 0 and by the maps is not, each once.

    No more than a note: Caffe cuts such a net at 0 too, and who trained it so has weights that go with it.
    But the Crop of FCN's fork had no offset and aligned by itself: a net of its gives shifted scores here.
    """
    return list(dict.fromkeys(each for graph in graphs for each in _of(graph)))


def _of(graph: Graph) -> Iterator[Finding]:
    walk = Values(graph.layers)
    for node in graph.nodes:
        if not isinstance(node.op, Crop) or len(node.bottoms) != 2 or any(node.op.offsets):
            continue
        try:
            axis, wanted = aligning(*node.bottoms, walk)
        except Error:  # nothing is known, or nothing would align them
            continue
        first, axes = node.op.first, node.op.first + len(node.op.offsets)
        each = wanted if len(wanted) > 1 else wanted * (axes - axis)
        whole = [*[0] * axis, *each][first:]  # of each axis that the layer cuts
        if any(whole):
            said = ", ".join(map(str, whole))
            settings = " ".join(f"offset: {n}" for n in (whole if len({*whole}) > 1 else whole[:1]))
            cut, size = (bottom.blob for bottom in node.bottoms)
            yield Finding(
                NOTE, node.name, f"cuts '{cut}' at 0, but the coordinate maps lay it on '{size}' at {said}",
                "nothing, if the net was trained so; if it is of a Caffe whose Crop aligned by "
                f"itself, as FCN's fork did, write crop_param {{ axis: {first} {settings} }} "
                "('netspec explain-crop' shows the sum)")
