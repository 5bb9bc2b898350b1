"""Caffe's lines about iterations and outputs of nets, which log parsers read."""

import time
from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from ..base.log import Log
from ..net.layerwise import Layer, Layerwise
from ..net.module import Net
from ..proto.caffe_pb2 import SolverParameter
from . import updates
from .jobs import Job

MOST_SHOWN = 100  # numbers of a blob; a larger one, such as a score map, is left out
TRAIN_LINES = {"net": 102, "train_net": 92, "net_param": 97, "train_net_param": 88}  # of solver.cpp


class Display:
    """What a solver says of its iterations; the time between two of its lines is measured from `start` on."""

    def __init__(self, param: SolverParameter, log: Log) -> None:
        self.param, self.log = param, log
        self.start(0)

    def start(self, iteration: int) -> None:
        self.since, self.at = time.monotonic(), iteration

    def due(self, iteration: int) -> bool:
        return self.param.display > 0 and iteration % self.param.display == 0

    def train_net(self, job: Job) -> None:
        """The train net is to be built."""
        origin = f"from {job.said}" if isinstance(job.net, str) else f"specified in {job.said}."
        self.log(f"solver.cpp:{TRAIN_LINES[job.field]}", f"Creating training net {origin}")

    def begin(self, name: str, iteration: int) -> None:
        """The training of a net of this name begins, or goes on."""
        self.log("netspec", f"max_iter: {self.param.max_iter}")  # Caffe's log has it among all settings
        self.log("solver.cpp:289", f"Solving {name}")
        self.log("solver.cpp:290", f"Learning Rate Policy: {self.param.lr_policy}")
        self.start(iteration)

    def iteration(self, number: int, loss: float, net: Net, blobs: Mapping[str, Tensor], rate: float) -> None:
        """The lines of an iteration whose turn it is. loss: smoothed; blobs: the net's outputs."""
        p, due = self.param, self.due(number)
        if due:
            done, spent = number - self.at, time.monotonic() - self.since
            self.start(number)
            self.log("solver.cpp:239", f"Iteration {number} ({done / max(spent, 1e-9):.6g} iter/s, "
                     f"{spent:.6g}s/{p.display} iters), loss = {loss:.6g}")
            arrays = {name: blob.detach().cpu().numpy() for name, blob in blobs.items()}
            self.outputs("Train", "solver.cpp:258", net, arrays)
        step = updates.current_step(p, number)
        if p.lr_policy == "multistep" and step != (updates.current_step(p, number - 1) if number else 0):
            self.log("sgd_solver.cpp:50", f"MultiStep Status: Iteration {number}, step = {step}")
        if due:
            self.log("sgd_solver.cpp:112", f"Iteration {number}, lr = {rate:.6g}")

    def clipped(self, norm: float) -> None:
        """Gradients of this common norm were scaled down, if it was too much."""
        most = self.param.clip_gradients
        if norm <= most:
            return
        self.log("sgd_solver.cpp:99", f"Gradient clipping: scaling down gradients (L2 norm {norm:.6g} > "
                 f"{most:.6g}) by scale factor {most / norm:.6g}")

    def outputs(self, word: str, where: str, net: Net, blobs: Mapping[str, np.ndarray]) -> None:
        """The outputs of a net that are among `blobs` and have at most MOST_SHOWN numbers."""
        number = 0
        for name in net.graph.outputs:
            weight, values = net.losses.get(name, 0), np.ravel(blobs.get(name, ()))
            for value in values if len(values) <= MOST_SHOWN else ():
                tail = f" (* {weight:.6g} = {weight * value:.6g} loss)" if weight else ""
                self.log(where, f"    {word} net output #{number}: {name} = {value:.6g}{tail}")
                number += 1


class DebugInfo:
    """A Watch that writes Caffe's lines (Net::ForwardDebugInfo, BackwardDebugInfo) to a log."""

    def __init__(self, log: Log) -> None:
        self.log = log

    def forward(self, run: Layerwise, layer: Layer) -> None:
        for i, top in enumerate(layer.tops):
            blob = run.blobs[layer.node.tops[i].blob if layer.node else layer.bottoms[0]]
            self._say(593, "Forward", layer, f"top blob {top} data: {_mean(blob.data_memory.tensor())}")
        specs = layer.node.op.layer.param if layer.node else ()
        for i, blob in enumerate(run.params.get(layer.name, ())):
            name = specs[i].name if i < len(specs) and specs[i].name else i
            self._say(605, "Forward", layer, f"param blob {name} data: {_mean(blob.data_memory.tensor())}")

    def backward(self, run: Layerwise, layer: Layer, grads: Sequence[Tensor | None]) -> None:
        for i, bottom in enumerate(layer.bottoms):
            if layer.bottom_backward[i]:
                diff = grads[i] if layer.node else run.blobs[bottom].diff_memory.tensor()
                self._say(621, "Backward", layer, f"bottom blob {bottom} diff: {_mean(diff)}")
        for i, blob in enumerate(run.params.get(layer.name, ())):
            if layer.param_backward[i]:
                self._say(632, "Backward", layer, f"param blob {i} diff: {_mean(blob.diff_memory.tensor())}")

    def through(self, run: Layerwise) -> None:
        l1, l2 = [], []
        for kind in ("data_memory", "diff_memory"):
            tensors = [getattr(blob, kind).tensor(run.net.device) for blob in run.learnable]
            l1.append(f"{sum(t.abs().sum().item() for t in tensors):g}")
            l2.append(f"{sum(t.square().sum().item() for t in tensors) ** 0.5:g}")
        self.log("net.cpp:721", "    [Backward] All net params (data, diff): "
                 f"L1 norm = ({', '.join(l1)}); L2 norm = ({', '.join(l2)})", "E")

    def _say(self, line: int, way: str, layer: Layer, text: str) -> None:
        self.log(f"net.cpp:{line}", f"    [{way}] Layer {layer.name}, {text}", "I")


def _mean(numbers: Tensor | None) -> str:
    return "0" if numbers is None else f"{numbers.abs().mean().item():g}"
