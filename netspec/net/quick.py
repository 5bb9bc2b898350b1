"""A net as it is run to learn: rewritten, and equal to itself but for rounding, forward and backward."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from ..base.machine import compiler
from .front import Front, parted
from .graph import Node
from .grouped import grouped
from .module import Net
from .narrow import narrowed
from .passes import TRAINING
from .segment import Segment, recomputed
from .unrolled import Unrolled, unrolled

GRAPHS = {"group": grouped, "unroll": unrolled, "narrow": narrowed}  # what is done to a graph, in this order


class Quick:
    """A net to be called for blobs, like it, with gradients of the parameters that learn.

    Where it can't stand for the net (hooks on it or on layers, other modules in their place, a blob that it
    does not compute, gradients of what does not learn) the net runs.
    """

    def __init__(self, net: Net, recompute: bool = False, compiled: bool = False,
                 without: Collection[str] = ()) -> None:
        """recompute: keep few blobs for the backward pass, which computes the others again. compiled: by
        torch.compile, for any size; Error where it has no compiler. without: names of `TRAINING` that are
        not done."""
        if compiled:
            compiler(net.device)
        self.net, self.rewrites = net, frozenset(TRAINING) - frozenset(without)
        front, graph = parted(net.graph) if "front" in self.rewrites and not compiled else (None, net.graph)
        self.front = Front(front, net) if front else None
        for name, rewrite in GRAPHS.items():
            graph = rewrite(graph) if name in self.rewrites else graph
        self.rewritten = Net(recomputed(graph) if recompute else graph, net)
        self.run = torch.compile(self.rewritten, dynamic=True) if compiled else self.rewritten
        self.made = {*self.rewritten.graph.shapes}

    def lay(self) -> None:
        """Bring weights into the order of memory that is the faster one, on CPUs too."""
        if "order" not in self.rewrites:
            return
        nodes = _inner(self.rewritten.graph.nodes)
        rows = {slot.key for node in nodes if isinstance(node.op, Unrolled) for slot in node.params}
        for slot, parameter in self.net.parameters_by_slot():
            order = torch.contiguous_format if slot.key in rows else torch.channels_last
            if parameter.ndim == 4:
                parameter.data = parameter.data.contiguous(memory_format=order)

    def __call__(self, inputs: Mapping[str, Tensor], want: Sequence[str]) -> dict[str, Tensor]:
        """The blobs that are wanted, and the losses, as the net's own call gives them."""
        net = self.net
        there = all(net.graph.newest.get(blob) in self.made for blob in want)
        if net.watched or not there or self.front and self.front.learns(inputs, net):
            return net(dict(inputs), want)
        mine = self.rewritten.parameters_by_slot()
        if any(a is not b for (_, a), (_, b) in zip(mine, net.parameters_by_slot(), strict=True)):
            self.rewritten.share(net)
        self.rewritten.precision = net.precision
        return self.run(self.front(inputs, net) if self.front else inputs, want)


def _inner(nodes: Iterable[Node]) -> Iterator[Node]:
    """The layers, those of segments one by one."""
    for node in nodes:
        if isinstance(node.op, Segment):
            yield from _inner(node.op.nodes)
        else:
            yield node
