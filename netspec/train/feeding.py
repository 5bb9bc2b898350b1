"""The data and random numbers of a solver: what decides its next iteration beside parameters and history."""

import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..base.log import Log
from ..data.feed import Batches, Skips
from ..net.module import Net
from .ranks import ALONE, Ranks


class Feeding:
    """The batches of a solver's nets, its TRAIN net first, and the random state, which all of torch shares.

    `waited` counts the seconds that `next` took. `skips.most` is for the caller to set.
    """

    def __init__(self, nets: Sequence[Net], device: torch.device, seed: int, log: Log, ranks: Ranks = ALONE
                 ) -> None:
        """seed: of random choices in data whose layer has no seed of its own. ranks: who share them."""
        self.device, self.ranks, self.waited = device, ranks, 0.0
        self.skips = Skips(log)
        self.batches = {net: Batches(net.graph.readers, device, self.skips, part=ranks.rank, parts=ranks.size)
                        for net in nets}
        sources = [source for net in nets for source in net.graph.readers]
        self._unseeded = [source for source in sources if "seed" not in vars(source)]
        self._sow(seed)

    def _sow(self, seed: int) -> None:
        self.seed = seed
        for source in self._unseeded:
            source.seed = seed

    def next(self, net: Net) -> dict[str, Tensor]:
        """The next input blobs of a net; a launched run draws what follows by the seed and their position."""
        begin, batches = time.perf_counter(), self.batches[net]
        at = [position + self.ranks.rank for position in batches.positions[:1]]
        self.ranks.doing = f"at batch {', '.join(map(str, at))}"
        self.ranks.sow(self.device, self.seed, [*self.batches].index(net), *at)
        inputs = batches.next()
        self.waited += time.perf_counter() - begin
        return inputs

    def facts(self) -> dict[str, Any]:
        """Where data and random state stand, as snapshots keep it."""
        train, *tests = (batches.positions for batches in self.batches.values())
        facts = {"seed": self.seed, "train": train, "test": tests, "skipped": list(self.skips.seen),
                 "cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            facts["cuda"] = torch.cuda.get_rng_state(self.device)
        if self.device.type == "mps":
            facts["mps"] = torch.mps.get_rng_state()
        return facts

    def rewind(self, facts: dict[str, Any]) -> None:
        """Go on from what `facts` gave; data whose position is not among them start again."""
        fresh = [[0] * len(batches.sources) for batches in self.batches.values()]
        given = [facts.get("train", fresh[0]), *facts.get("test", ())]
        if [*map(len, given)] != [*map(len, fresh)]:  # other test nets do not change the training
            given[1:] = fresh[1:]
        for batches, positions in zip(self.batches.values(), given, strict=True):
            batches.rewind(positions)
        self._sow(facts.get("seed", self.seed))
        self.skips.seen = list(facts.get("skipped", self.skips.seen))
        torch.set_rng_state(facts.get("cpu", torch.get_rng_state()))
        if self.device.type == "cuda" and "cuda" in facts:
            torch.cuda.set_rng_state(facts["cuda"], self.device)
        if self.device.type == "mps" and "mps" in facts:
            torch.mps.set_rng_state(facts["mps"])

    def close(self) -> None:
        """End the worker processes that read data; the next iteration starts them again."""
        for batches in self.batches.values():
            batches.close()
