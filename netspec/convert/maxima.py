"""Maxima that rounding decides. Where two values of a pooling's window are the largest but for rounding, two
programs may take different ones, and un-pooling by the mask puts a value at the one place or the other."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..net.graph import Graph, Node
from ..net.module import Net
from ..ops.pool import Pooling


def masked(graph: Graph) -> dict[str, Node]:
    """The poolings whose mask a layer reads, by the mask's blob."""
    read = {value for node in graph.nodes for value in node.bottoms}
    return {node.tops[1].blob: node for node in graph.nodes
            if isinstance(node.op, Pooling) and len(node.tops) > 1 and node.tops[1] in read}


class Taken:
    """Maxima that were taken elsewhere. count: how many; fair: all masks point into their windows, to values
    that are less than the largest by rounding alone."""

    def __init__(self, tolerance: float) -> None:
        self.tolerance, self.count, self.fair = tolerance, 0, True

    def add(self, op: Pooling, x: Tensor, largest: Tensor, own: Tensor, mask: Tensor) -> None:
        """One pooling's bottom (N, C, H, W), its tops (N, C, h, w), and the other mask of that shape."""
        place, (high, wide) = mask.long(), x.shape[2:]
        kernel = op.window(tuple(x.shape))
        inside = (place >= 0) & (place < high * wide)
        for axis, at in ((0, place // wide), (1, place % wide)):
            start = torch.arange(mask.shape[2 + axis]) * op.stride[axis] - op.pad[axis]
            within = at - (start[:, None] if axis == 0 else start)
            inside &= (within >= 0) & (within < kernel[axis])
        values = x.flatten(2).gather(2, place.clamp(0, high * wide - 1).flatten(2)).reshape(mask.shape)
        near = largest - values <= self.tolerance * x.abs().max()
        self.fair &= bool((inside & near).all())
        self.count += int((mask != own).sum())


@contextmanager
def taking(net: Net, masks: Mapping[str, np.ndarray], tolerance: float) -> Iterator[Taken]:
    """While it lasts, the net's poolings give these masks, by blob, in their own's place.

    tolerance: rounding, as a part of the largest number that a pooling reads.
    """
    taken = Taken(tolerance)

    def hook(node: Node) -> Any:
        mask = torch.from_numpy(masks[node.tops[1].blob])

        def instead(_: Any, bottoms: tuple[Tensor], tops: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            if tops[1].shape != mask.shape:
                taken.fair = False
                return tops
            taken.add(node.op, bottoms[0], *tops, mask)  # type: ignore[arg-type]  # masked: a Pooling
            return tops[0], mask.to(tops[1].dtype)

        return instead

    with ExitStack() as stack:
        for node in masked(net.graph).values():
            stack.callback(net.get_submodule(node.name).register_forward_hook(hook(node)).remove)
        yield taken
