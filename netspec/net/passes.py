"""Rewrites of a graph for inference: what is not asked for goes, what can be computed at once is."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from ..base.errors import Error
from ..ops.base import Operation
from ..ops.conv import Convolution, Deconvolution
from ..ops.dense import InnerProduct
from ..ops.neuron import Eltwise, ReLU
from .graph import Graph, Node, Value
from .regions import SAME, Sight, sights

REWRITES = {  # name -> what it does, each equal to the plain net but for rounding; see docs/speed.md
    "dead": "layers that the blobs asked for do not need do not run",
    "idle": "layers that change nothing, as Dropout in TEST, are gone",
    "fold": "batch norms and scales become part of the convolution before them",
    "fuse": "a convolution or product does the sum and the ReLU behind it",
    "pack": "weights are cast and put in the machine's order once",
    "window": "of these, convolutions of single cells or very many weights are products",
    "tile": "of these, convolutions in bf16 on AMX get padding beside the rows, cut off again",
    "pool": "poolings are maxima of slices, which write no places",
    "norm": "LRN's sums over channels are a product with a band of ones",
    "group": "deconvolutions whose weights are diagonal over channels run channel by channel",
    "crop": "only that part of a map is computed which a crop leaves",
    "border": "what lies so far from the image that it does not depend on it is computed once",
    "bands": "maps at full size are computed band by band, and never held whole",
}
# The same of a training step; see net/quick.py and train/updates.py. Each is equal to the plain step but for
# rounding, and for what Dropout drops: it draws in the order in which its map lies in memory.
TRAINING = {
    "front": "first layers that do not learn run as for results, by their plan",
    "group": "deconvolutions that do not learn and whose weights are diagonal run channel by channel",
    "unroll": "convolutions with far more outputs than positions are one matrix product",
    "narrow": "a wide padding is computed on a narrower border, whose columns and rows are then repeated",
    "order": "weights lie in memory in the order in which they are read",
    "fused": "SGD, decay and iter_size are one pass over the parameters",
}


@dataclass(frozen=True, eq=False)
class Unit:
    """Layers that run as one: the first, then `folded` ones, a sum, and a ReLU.

    `bottoms` are the first one's, and the value that the sum adds, if there is one. `tops` are the last's.
    """

    node: Node
    bottoms: tuple[Value, ...]
    tops: tuple[Value, ...]
    sights: tuple[Sight, Sight] | None  # how the top sees the bottoms; see net/regions.py
    folded: tuple[Node, ...] = ()
    added: bool = False
    relu: bool = False

    @cached_property
    def key(self) -> tuple:
        """Equal for units that compute the same."""
        return self.node, self.folded, self.added, self.relu

    def sees(self, i: int) -> tuple[Sight, Sight] | None:
        """How the top sees bottom i: what is added lies on it."""
        return SAME if self.sights and self.added and i == len(self.bottoms) - 1 else self.sights


def needed(nodes: Iterable[Node], wanted: Collection[Value]) -> list[Node]:
    """The layers that lead to the values that are wanted, in order."""
    found, asked = [], set(wanted)
    for node in reversed([*nodes]):
        if asked.intersection(node.tops):
            found.append(node)
            asked.update(b for i, b in enumerate(node.bottoms) if i not in node.op.sized)
    return found[::-1]


def units(graph: Graph, wanted: Collection[Value], rewrites: Collection[str] = (*REWRITES,)) -> list[Unit]:
    """What runs, in order, for the values that are wanted; no other value need come out of it."""
    nodes = needed(graph.nodes, wanted) if "dead" in rewrites else [*graph.nodes]
    same: dict[Value, Value] = {}  # the top of an idle layer -> what it is
    made: list[Unit] = []
    for node in nodes:
        bottoms = tuple(same.get(b, b) for b in node.bottoms)
        if "idle" in rewrites and node.op.idle and not set(wanted).intersection(node.tops):
            same.update(dict.fromkeys(node.tops, bottoms[0]))
        else:
            made.append(Unit(node, bottoms, node.tops, sights(node, graph.shapes)))
    return _joined(made, wanted, rewrites)


def _joined(made: list[Unit], wanted: Collection[Value], rewrites: Collection[str]) -> list[Unit]:
    """The units with what follows a product done by it, where nothing else reads what is between."""
    readers = Counter(b for unit in made for b in unit.bottoms)
    order: dict[tuple[Value, ...], Unit] = {}  # by tops
    for unit in made:
        joined = None
        for bottom in reversed(unit.bottoms):  # of two convolutions that are added the later
            before = order.get((bottom,))
            if joined is None and before and readers[bottom] == 1 and bottom not in wanted:
                joined = _after(before, unit, rewrites)
                if joined:
                    del order[(bottom,)]
        order[unit.tops] = joined or unit
    return [*order.values()]


def _after(before: Unit, unit: Unit, rewrites: Collection[str]) -> Unit | None:
    """`before` with what `unit` does to its top, if it can do that."""
    head, op = before.node.op, unit.node.op
    if not isinstance(head, Convolution | InnerProduct) or before.relu or len(unit.tops) != 1:
        return None
    if len(unit.bottoms) == 2:
        sums = isinstance(op, Eltwise) and op.plain_sum and "fuse" in rewrites
        if not sums or before.added or type(head) is not Convolution or not head.local:
            return None
        other = unit.bottoms[unit.bottoms[0] == before.tops[0]]
        return replace(before, bottoms=(*before.bottoms, other), tops=unit.tops, added=True)
    if isinstance(op, ReLU) and not op.layer.relu_param.negative_slope and "fuse" in rewrites:
        return replace(before, tops=unit.tops, relu=True)
    if isinstance(head, Convolution) and head.local and not before.added and "fold" in rewrites and affine(
            op, head):
        return replace(before, tops=unit.tops, folded=(*before.folded, unit.node))
    return None


def affine(op: Operation, head: Convolution) -> bool:
    """Whether a layer behind a convolution multiplies and adds, by one number of its own each a channel."""
    if not op.affine or len(op.layer.bottom) != 1 or not getattr(op, "stored", True):
        return False
    try:
        op.infer((1, head.layer.convolution_param.num_output, 1, 1))
    except Error:
        return False
    return True


def folded(unit: Unit, weight: Tensor, bias: Tensor | None,
           params: Mapping[Node, list[Tensor]]) -> tuple[Tensor, Tensor]:
    """A convolution's weight and bias with its unit's folded layers in them, float64.

    Each layer is asked what it makes of 0 and of 1 in every channel: those are its two numbers.
    """
    weight, axis = weight.double(), 1 if isinstance(unit.node.op, Deconvolution) else 0
    channels = unit.node.op.layer.convolution_param.num_output
    total = weight.new_zeros(channels) if bias is None else bias.double()
    for node in unit.folded:
        probe = torch.stack([torch.zeros_like(total), torch.ones_like(total)])[:, :, None, None]
        tops = node.op.forward([probe], [p.double() for p in params[node]])
        zero, one = (tops if isinstance(tops, Tensor) else tops[0])[:, :, 0, 0]
        factor = one - zero
        total = total * factor + zero
        weight = _times(weight, factor, axis)
    return weight, total


def _times(weight: Tensor, factor: Tensor, axis: int) -> Tensor:
    """A weight times a factor for each output; along axis 1 (a deconvolution's) outputs go by groups."""
    if axis == 0:
        return weight * factor.reshape(-1, *(1,) * (weight.ndim - 1))
    groups = len(factor) // weight.shape[1]
    each = weight.unflatten(0, (groups, -1)) * factor.reshape(groups, 1, -1, *(1,) * (weight.ndim - 2))
    return each.flatten(0, 1)
