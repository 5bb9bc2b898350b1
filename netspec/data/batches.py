"""The batches of a net: what all its sources give, position by position."""

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..base.errors import Error
from ..base.log import Log
from ..net.graph import Graph, Node
from .feed import Feed, Unreadable


class Skips:
    """The batches that a run could not load and went past: at most `most` different ones, each said once.

    Such a batch is left out whole, in all data layers of its net alike, and the one at the next position takes its
    place. So what a net sees follows from its positions alone, whatever the number of workers. `seen`, what was wrong
    with each, only counts; a file that a later epoch meets again counts once.
    """

    def __init__(self, log: Log, most: int = 0) -> None:
        self.log, self.most = log, most
        self.seen: list[str] = []

    def past(self, error: Unreadable, running: int) -> None:
        """Count a batch, the `running`th in a row; raises Error where it is one too many."""
        what = str(error)
        if what not in self.seen and len(self.seen) < self.most:
            self.seen.append(what)
            self.log("netspec", f"left out: {what} ({len(self.seen)} of at most {self.most})", "W")
        elif what not in self.seen or not self.most:
            before = f"; {len(self.seen)} others were left out before" if self.seen else ""
            raise Error(f"{what}{before} (solve --skip-bad N goes past N such)") from None
        elif running > 10 * (self.most + 1):
            raise Error(f"{what}; {running} batches in a row cannot be loaded") from None


class Batches:
    """One Feed for each source of a graph, opened when the first batch is asked for.

    given: what fills the tops of a source that waits for its caller (Input); without it such a source is an Error.
    skips: what to go past; without it a batch that cannot be loaded is an Error. workers: see Feed.
    """

    def __init__(self, graph: Graph, device: torch.device, skips: Skips | None = None, workers: int | None = None) -> None:
        self.sources, self.device, self.skips, self.workers = graph.sources, device, skips, workers
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
            self._feeds = [None if node.op.fed and self.given else Feed(node.op, at, self.workers)
                           for node, at in zip(self.sources, self._positions, strict=True)]
        for running in itertools.count(1):
            try:
                return {top.blob: tensor.to(self.device, non_blocking=True) for node, batch in self._draw()
                        for top, tensor in zip(node.tops, batch, strict=True)}
            except Unreadable as error:
                if self.skips is None:
                    raise
                self.skips.past(error, running)

    def _draw(self) -> list[tuple[Node, Sequence[Tensor]]]:
        """The next batch of every source; where one cannot be loaded, all go past their own before Unreadable is raised."""
        drawn, failed = [], None
        for node, feed in zip(self.sources, self._feeds, strict=True):
            try:
                drawn.append((node, next(feed) if feed else self.given(node)))
            except Unreadable as error:
                failed = failed or error
        if failed:
            raise failed
        return drawn

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
