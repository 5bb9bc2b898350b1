"""What memory a net needs at least."""

import math
from collections.abc import Iterable, Mapping

import torch

from ..base.machine import check_room
from ..ops import Operation, Shape
from .graph import UNSEEN, Graph, Slot, Value

BYTES = 4  # of a float32
SMALLER = "take smaller images or batches"  # what to do about blobs that are too large


def taken(slots: Iterable[Slot]) -> int:
    """The bytes of parameters."""
    return BYTES * sum(math.prod(slot.shape) for slot in slots)


def shows(op: Operation) -> bool:
    """Whether its tops may show its bottom's memory."""
    return op.idle or op.family == "shape" and not op.fresh


def held(graph: Graph, shapes: Mapping[Value, Shape] | None = None, size: int = BYTES) -> int:
    """The most bytes of blobs that a forward pass holds at once, each until its last reader is done.

    What shows another's memory (Split, Reshape, Slice, ...) has none of its own, nor has what is written in
    place. shapes: instead of those that the graph was built for; size: bytes of a number.
    """
    shapes, owner, last = shapes or graph.shapes, dict[str, str](), dict[str, float]()
    for i, node in enumerate(graph.layers):
        for top in node.tops:
            owner.setdefault(top.blob, owner[node.bottoms[0].blob] if shows(node.op) else top.blob)
        last |= {owner[v.blob]: i for v in (*node.bottoms, *node.tops)}
    last |= {owner[blob]: math.inf for blob in graph.outputs}
    own, there, most = dict[str, int](), 0, 0
    for i, node in enumerate(graph.layers):
        for top in node.tops:
            if owner[top.blob] == top.blob and top.blob not in own:  # else written in place
                own[top.blob] = 0 if shapes[top] is UNSEEN else size * math.prod(shapes[top])
                there += own[top.blob]
        most = max(most, there)
        touched = {owner[value.blob] for value in (*node.bottoms, *node.tops)}
        there -= sum(own[blob] for blob in touched if last[blob] == i)
    return most


def check_blobs(needed: int, graph: Graph, device: torch.device) -> None:
    """Error where a device has no room for so many bytes of a graph's blobs."""
    check_room(needed, device, f"the blobs of net '{graph.name}' take at least", SMALLER)


def check_training(graph: Graph, device: torch.device, kinds: int,
                   precision: torch.dtype | None = None) -> None:
    """Error where the device has no room for parameters, as many blobs of history for each learned one, and
    what a forward pass holds in a precision."""
    history = kinds * taken(slot for slot in graph.params if slot.lr_mult)
    blobs = held(graph, size=(precision or torch.float32).itemsize)
    check_room(taken(graph.params) + history + blobs, device,
               f"to train net '{graph.name}' takes at least", SMALLER)
