"""Caffe's lines about iterations and outputs of nets, which log parsers read."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from ..base.log import Log
from ..net.layerwise import Layer, Layerwise
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



class DebugInfo:
    """A Watch that writes Caffe's lines (Net::ForwardDebugInfo, BackwardDebugInfo) to a log."""

    def __init__(self, log: Callable[[str, str, str], None]) -> None:
        self.log = log

    def forward(self, run: Layerwise, layer: Layer) -> None:
        for i, top in enumerate(layer.tops):
            blob = run.blobs[layer.node.tops[i].blob if layer.node else layer.bottoms[0]]
            self._say(593, f"[Forward] Layer {layer.name}, top blob {top} data: {_mean(blob.data_memory.tensor())}")
        specs = layer.node.op.layer.param if layer.node else ()
        for i, blob in enumerate(run.params.get(layer.name, ())):
            name = specs[i].name if i < len(specs) and specs[i].name else i
            self._say(605, f"[Forward] Layer {layer.name}, param blob {name} data: {_mean(blob.data_memory.tensor())}")

    def backward(self, run: Layerwise, layer: Layer, grads: Sequence[Tensor | None]) -> None:
        for i, bottom in enumerate(layer.bottoms):
            if layer.bottom_backward[i]:
                diff = grads[i] if layer.node else run.blobs[bottom].diff_memory.tensor()
                self._say(621, f"[Backward] Layer {layer.name}, bottom blob {bottom} diff: {_mean(diff)}")
        for i, blob in enumerate(run.params.get(layer.name, ())):
            if layer.param_backward[i]:
                self._say(632, f"[Backward] Layer {layer.name}, param blob {i} diff: {_mean(blob.diff_memory.tensor())}")

    def through(self, run: Layerwise) -> None:
        both = [[getattr(blob, kind).tensor(run.net.device) for blob in run.learnable] for kind in ("data_memory", "diff_memory")]
        l1 = ", ".join(f"{sum(t.abs().sum().item() for t in tensors):g}" for tensors in both)
        l2 = ", ".join(f"{sum(t.square().sum().item() for t in tensors) ** 0.5:g}" for tensors in both)
        self._say(721, f"[Backward] All net params (data, diff): L1 norm = ({l1}); L2 norm = ({l2})", "E")

    def _say(self, line: int, text: str, level: str = "I") -> None:
        self.log(f"net.cpp:{line}", f"    {text}", level)


def _mean(numbers: Tensor | None) -> str:
    return "0" if numbers is None else f"{numbers.abs().mean().item():g}"
