"""What can be known to be wrong before the first step, and the one-screen summary of what is about to run."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from .compiler import Net
from .datasets import check_labels
from .errors import Error
from .graph import Graph, Node, Value
from .solver import Solver


def summary(net: Net, loaded: Mapping[str, str], interpolated: Sequence[str]) -> str:
    """One screen about a net: what it is, and for its layers with parameters where they stand.

    loaded: layer -> how it came from the weights file ('copied', 'reshaped').
    """
    slots = net.parameters_by_slot()
    total = sum(p.numel() for _, p in slots)
    frozen = [s.layer for s, p in slots if not p.requires_grad and s.index == 0]
    layers = list(net.layers_with_params())
    filled = [layer for layer in layers if layer not in loaded and layer not in interpolated]
    lines = [f"{net.graph.name}: {len(net.graph.nodes)} layers, {len(layers)} with parameters, "
             f"{total:,} parameters ({sum(p.numel() for _, p in slots if p.requires_grad):,} learned)"]
    for word, names in (("loaded", [k for k, v in loaded.items() if v == "copied"]),
                        ("loaded, reshaped", [k for k, v in loaded.items() if v == "reshaped"]),
                        ("bilinear upsampling", interpolated), ("left at their filler", filled),
                        ("frozen (lr_mult 0)", frozen)):
        if names:
            lines.append(f"  {word}: {_listed(names)}")
    return "\n".join(lines)


def _listed(names: Sequence[str], most: int = 8) -> str:
    shown = names if len(names) <= most else [*names[: most - 2], "...", names[-1]]
    return f"{', '.join(shown)} ({len(names)})"


def check_alive(net: Net) -> None:
    """Error if layers that lie one behind the other both have all-zero weights: no gradient passes either, ever.

    This is what a net looks like whose weights were not loaded and whose prototxt gives no filler.
    """
    zero = {n.name for n in net.graph.nodes if n.params and net.parameter(n.params[0]).ndim > 1
            and not net.parameter(n.params[0]).any()}
    stuck = [n.name for n in net.graph.nodes if n.name in zero and zero & _behind(net.graph, n)]
    if stuck:
        raise Error(f"net '{net.graph.name}': {_listed(stuck)} {'is' if len(stuck) == 1 else 'are'} all zero and so is a layer "
                    "behind: nothing would ever learn; load weights (weights: in the solver, or --weights), or give "
                    "the layers a weight_filler")


def _behind(graph: Graph, start: Node) -> set[str]:
    """The names of the layers that read, directly or not, what a layer makes."""
    reached: set[Value] = set(start.tops)
    names: set[str] = set()
    for node in graph.nodes:
        if reached & set(node.bottoms):
            reached |= set(node.tops)
            names.add(node.name)
    return names - {start.name}


def loss_of(graph: Graph) -> Node | None:
    """The first SoftmaxWithLoss layer of a net."""
    return next((n for n in graph.nodes if n.type == "SoftmaxWithLoss"), None)


def check_first_batch(net: Net, positions: Sequence[int]) -> None:
    """Error if the labels of the first batch cannot be classes of the net's loss; names the file."""
    node = loss_of(net.graph)
    if node is None:
        return
    classes = net.graph.shapes[node.bottoms[0]][node.op.channel]
    p = node.op.layer.loss_param
    ignore = p.ignore_label if p.HasField("ignore_label") else None
    for source, position in zip(net.graph.sources, positions, strict=True):
        if node.bottoms[1] not in source.tops or source.op.fed:
            continue
        label = np.asarray(source.op.load(position)[source.tops.index(node.bottoms[1])])
        wrong = check_labels(label, classes, ignore)
        if wrong:
            raise Error(f"{source.op.describe(position)}: {wrong}")


def watch_plateau(net: Net, warn: Callable[[str], None], iterations: int = 100) -> Callable[[Solver, float], None]:
    """A solver callback that warns, once, when the mean loss has sat at ln(classes) for `iterations` iterations.

    That is the loss of a net that gives every class the same score: it has not begun to learn.
    """
    node = loss_of(net.graph)
    seen: list[float] = []
    if node is None or not node.op.per_position:
        return lambda solver, loss: None
    chance = math.log(net.graph.shapes[node.bottoms[0]][node.op.channel])

    def watch(solver: Solver, loss: float) -> None:
        if len(seen) >= iterations:
            return
        seen.append(loss)
        mean = sum(seen) / len(seen)
        if len(seen) == iterations and abs(mean - chance) < 0.01 * chance:
            warn(f"after {iterations} iterations the loss is still {mean:.4g}, which is ln({math.exp(chance):.0f} classes): the net "
                 "gives all classes the same score; are weights loaded, the rate high enough, the layers not frozen?")

    return watch
