"""Caffe's lines about iterations and outputs of nets, which log parsers read."""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..base.log import Log
from ..net.module import Net
from . import updates


class Display:
    """What a solver says of its iterations; the time between two of its lines is measured from `start` on."""

    def __init__(self, param: Any, log: Log) -> None:
        self.param, self.log = param, log
        self.start(0)

    def start(self, iteration: int) -> None:
        self.since, self.at = time.monotonic(), iteration

    def due(self, iteration: int) -> bool:
        return self.param.display > 0 and iteration % self.param.display == 0

    def iteration(self, number: int, loss: float, net: Net, blobs: Mapping[str, Any], rate: float) -> None:
        """The lines of an iteration whose turn it is. loss: smoothed; blobs: the net's outputs, tensors."""
        p, due = self.param, self.due(number)
        if due:
            done, spent = number - self.at, time.monotonic() - self.since
            self.start(number)
            self.log("solver.cpp:239", f"Iteration {number} ({done / max(spent, 1e-9):.6g} iter/s, {spent:.6g}s/{p.display} "
                     f"iters), loss = {loss:.6g}")
            self.outputs("Train", "solver.cpp:258", net, {k: v.detach().cpu().numpy() for k, v in blobs.items()})
        step = updates.current_step(p, number)
        if p.lr_policy == "multistep" and step != (updates.current_step(p, number - 1) if number else 0):
            self.log("sgd_solver.cpp:50", f"MultiStep Status: Iteration {number}, step = {step}")
        if due:
            self.log("sgd_solver.cpp:112", f"Iteration {number}, lr = {rate:.6g}")

    def outputs(self, word: str, where: str, net: Net, blobs: Mapping[str, np.ndarray]) -> None:
        """The outputs of a net; a blob of more than 100 numbers (a score map) is left out."""
        number = 0
        for name in net.graph.outputs:
            weight, values = net.losses.get(name, 0), np.ravel(blobs[name]) if name in blobs else ()
            for value in values if len(values) <= 100 else ():
                tail = f" (* {weight:.6g} = {weight * value:.6g} loss)" if weight else ""
                self.log(where, f"    {word} net output #{number}: {name} = {value:.6g}{tail}")
                number += 1
