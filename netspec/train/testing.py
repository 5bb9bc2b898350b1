"""A test of one of a solver's nets, shared by the ranks of a run."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..data.feed import Batches
from ..net.plan import Plan
from . import taken_back
from .ranks import Ranks
from .validation import Boxes, Pixels, counting, said

if TYPE_CHECKING:
    from .solver import Solver

Blobs = list[Tensor | None]  # None: the shapes of several batches differ
Tally = Pixels | Boxes


def test(solver: "Solver", index: int) -> dict[str, np.ndarray]:
    """The mean outputs of a solver's test net over test_iter batches, also written to the log.

    See Solver.test.
    """
    net, count, log = solver.test_nets[index], solver.param.test_iter[index], solver.log
    way = net if net.watched else Plan(net)  # for this test alone: it copies weights, which change
    tally, batches, names = counting(net), solver.data.batches[net], net.graph.outputs
    log("solver.cpp:347", f"Iteration {solver.iter}, Testing net (#{index})")

    def run() -> Blobs:
        """The outputs of the next batch, and last its loss, if that is wanted."""
        solver.break_off()
        blobs, _ = solver.forward(net, way, tally.blobs if tally else ())
        if tally:
            tally.add(blobs, batches.position(tally.source))
        loss = [solver.net.loss(blobs)] if solver.param.test_compute_loss else []
        return [*(blobs[name] for name in names), *loss]

    with taken_back.within(solver.net, net), torch.no_grad():
        sums = _shared(run, batches, count, solver.ranks, tally)
    found = dict(zip([*names, "the loss"], sums, strict=False))
    means = {name: (total / count).cpu().numpy() for name, total in found.items()
             if total is not None and not (tally and name in tally.items)}
    if solver.param.test_compute_loss:
        log("solver.cpp:401", f"Test loss: {means.pop('the loss', 0.0):.6g}")
    solver.display.outputs("Test", "solver.cpp:414", net, means)
    if tally:
        tested = tally.found()
        log("netspec", said(solver.iter, index, tested))
        if index == 0:
            solver.validated = f"{tested.told}  "
            if solver.best:  # of the first test net
                solver.best.tested(solver.net, solver.iter, tested)
    return means


def _shared(run: Callable[[], Blobs], batches: Batches, count: int, ranks: Ranks,
            tally: Tally | None) -> Blobs:
    """The sums of what `run` gives of `count` batches, of which each rank runs its share; the tally is then
    that of all."""
    sums, begin = None, batches.positions
    if tally and ranks.size > 1:
        tally.until = tally.source.items(begin[batches.sources.index(tally.source)])[0] + tally.judged.total
    for _ in range(ranks.rank, count, ranks.size):
        sums = _added(sums, run())
    if ranks.size > 1:
        parts = ranks.gather(*map(_sent, sums or ()))
        sums = None
        for part in parts[:count]:  # ranks behind the last batch have none
            sums = _added(sums, [torch.from_numpy(blob)[0] if len(blob) else None for blob in part])
        if tally:
            tally.join(ranks.gather(*tally.parts()))
        if count % ranks.size:
            batches.rewind([position + count for position in begin])
    return sums or []


def _sent(blob: Tensor | None) -> np.ndarray:
    """An array with the blob in it, or with none."""
    return np.zeros(0, np.float32) if blob is None else blob[None].cpu().numpy()


def _added(sums: Blobs | None, blobs: Blobs) -> Blobs:
    if sums is None:  # a net may give its outputs' memory again
        return [None if blob is None else blob.clone() for blob in blobs]
    return [None if a is None or b is None or a.shape != b.shape else a + b
            for a, b in zip(sums, blobs, strict=True)]
