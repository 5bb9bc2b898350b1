"""The batches of a net: what all its sources give, position by position."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .graph import Graph
from .sources import Feed


class Batches:
    """One Feed for each source of a graph, opened when the first batch is asked for."""

    def __init__(self, graph: Graph, device: torch.device) -> None:
        self.sources, self.device = graph.sources, device
        self._feeds: list[Feed] = []
        self._positions = [0] * len(graph.sources)

    @property
    def positions(self) -> list[int]:
        """The number of the next batch of each source."""
        return [feed.position for feed in self._feeds] or self._positions

    def next(self) -> dict[str, Tensor]:
        """The net's next input blobs, on its device."""
        if not self._feeds:
            self._feeds = [Feed(node.op, at) for node, at in zip(self.sources, self._positions, strict=True)]
        blobs = {}
        for node, feed in zip(self.sources, self._feeds, strict=True):
            for top, tensor in zip(node.tops, next(feed), strict=True):
                blobs[top.blob] = tensor.to(self.device, non_blocking=True)
        return blobs

    def last(self) -> str:
        """The files behind the batch that `next` gave, for error messages."""
        places = [node.op.describe(at - 1) for node, at in zip(self.sources, self.positions, strict=True)]
        return ", ".join(dict.fromkeys(places))

    def rewind(self, positions: Sequence[int]) -> None:
        """Go on from these positions."""
        self.close()
        self._positions = list(positions)

    def close(self) -> None:
        """End the worker processes; the next batch starts them again where they were."""
        self._positions = self.positions
        for feed in self._feeds:
            feed.close()
        self._feeds = []
