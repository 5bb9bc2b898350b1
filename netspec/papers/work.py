"""How much arithmetic a pass is, and what of it a card could do in the same time."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import torch

from ..base.machine import device_name
from ..look.costs import macs
from ..net.graph import Graph, Value
from .contenders import Contender

# Torch's name of a card -> operations/s of dense products in bf16, of NVIDIA's data sheets "H100 Tensor Core
# GPU" (SXM) and "H200 Tensor Core GPU" (SXM): they print 1,979 TFLOP/s "with sparsity", twice as many
CARDS = {"NVIDIA H100 80GB HBM3": 989e12, "NVIDIA H200": 989e12}
COUNTED = ("{:.4g} G multiplications with an addition, two operations each, of the convolutions and products "
           "of the net as it is written{}; what a program leaves out is counted all the same")


class Work(NamedTuple):
    """Operations of one pass, and how they are counted."""

    operations: int
    told: str

    def rate(self, spent: Sequence[float]) -> float:
        """Operations/s of the median of some seconds."""
        return self.operations / statistics.median(spent)


def of_pass(graph: Graph) -> Work:
    """A forward pass of the net as it is written."""
    found = sum(macs(graph, node) for node in graph.nodes)
    return Work(2 * found, COUNTED.format(found / 1e9, ""))


def of_step(graph: Graph) -> Work:
    """A training step of the net as it is written: a layer counts for its tops, once more where its weights
    learn, and once more where a gradient goes on to a layer below that learns."""
    found, reached = 0, set[Value]()  # what a gradient comes to
    for node in graph.nodes:
        learns = any(slot.lr_mult for slot in node.params)
        on = any(b in reached and ok for b, ok in zip(node.bottoms, node.propagate, strict=True))
        found += macs(graph, node) * (1 + any(slot.lr_mult for slot in node.params[:1]) + on)
        if learns or on:
            reached.update(node.tops)
    return Work(2 * found, COUNTED.format(found / 1e9, ": once for the forward pass, once for weights that "
                                          "learn, once for a gradient that layers below need"))


def of_card(device: torch.device, work: Work, spent: Mapping[Contender, Sequence[float]]) -> list[str]:
    """A line with the share of the card's rate in bf16 that each reaches there; none of an unknown card."""
    name = device_name(device)
    here = [f"{each.name} {work.rate(times) / CARDS[name]:.3f}" for each, times in spent.items()
            if name in CARDS and each.precision == "bf16"]
    return [f"of the {CARDS[name] / 1e12:.0f} TFLOP/s of dense products in bf16 of {name}: {', '.join(here)}"
            ] if here else []


def memory(device: torch.device, given: Iterable[Contender]) -> list[str]:
    """A line with the most memory of a CUDA device that one call of each takes beyond what all hold before
    it; none for a CPU, where those of one process cannot be told apart."""
    found = []
    for each in given if device.type == "cuda" else ():
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        each.call()
        taken = torch.cuda.max_memory_allocated(device) - before
        found.append(f"{each.name} in {each.precision} {taken / 1e6:.0f}")
    return [f"MB of the device at most, beyond parameters and history: {', '.join(found)}"] if found else []
