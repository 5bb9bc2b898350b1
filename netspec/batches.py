"""The batches of a net: what all its sources give, position by position."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .graph import Graph, Node
from .sources import Feed


class Batches:
    """One Feed for each source of a graph, opened when the first batch is asked for.

    given: what fills the tops of a source that waits for its caller (Input); without it such a source is an Error.
    """

    def __init__(self, graph: Graph, device: torch.device) -> None:
        self.sources, self.device = graph.sources, device
        self.given: Callable[[Node], Sequence[Tensor]] | None = None
        self._feeds: list[Feed | None] = []
        self._positions = [0] * len(graph.sources)

    @property
    def positions(self) -> list[int]:
        """The number of the next batch of each source."""
        return [feed.position if feed else 0 for feed in self._feeds] or self._positions

    def next(self) -> dict[str, Tensor]:
        """The net's next input blobs, on its device."""
        if not self._feeds:
            self._feeds = [None if node.op.fed and self.given else Feed(node.op, at)
                           for node, at in zip(self.sources, self._positions, strict=True)]
        blobs = {}
        for node, feed in zip(self.sources, self._feeds, strict=True):
            for top, tensor in zip(node.tops, next(feed) if feed else self.given(node), strict=True):
                blobs[top.blob] = tensor.to(self.device, non_blocking=True)
        return blobs

    def last(self) -> str:
        """The files behind the batch that `next` gave, for error messages."""
        places = ["given by the caller" if node.op.fed else node.op.describe(at - 1)
                  for node, at in zip(self.sources, self.positions, strict=True)]
        return ", ".join(dict.fromkeys(places))

    def rewind(self, positions: Sequence[int]) -> None:
        """Go on from these positions."""
        self.close()
        self._positions = list(positions)

    def close(self) -> None:
        """End the worker processes; the next batch starts them again where they were."""
        self._positions = self.positions
        for feed in filter(None, self._feeds):
            feed.close()
        self._feeds = []
