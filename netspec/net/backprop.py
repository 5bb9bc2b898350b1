"""Which layers and blobs a backward pass of Caffe reaches: what a loss needs, or everything with force_backward."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from .graph import Graph, Node, Value


@dataclass
class Layer:
    """One layer of the net as Caffe runs it: a node, or a Split behind a blob that several layers read.

    Blobs have the names that they have in Caffe, where each reader of a shared blob has a name of its own.
    """

    name: str
    maker: str  # the layer itself, or the one whose top a Split spreads
    node: Node | None  # None: Split
    bottoms: list[str]
    tops: list[str]
    weights: Sequence[float]  # of the tops in the loss
    backward: bool = False  # the layer runs backward
    bottom_backward: Sequence[bool] = ()  # which bottoms get a gradient
    param_backward: Sequence[bool] = ()


def layers(graph: Graph) -> list[Layer]:
    """The layers of a graph in Caffe's order, Splits among them (InsertSplits), with their flags (Net::Init)."""
    found = list(_with_splits(graph))
    _flag(found)
    if graph.proto is not None and graph.proto.force_backward:
        for layer in found:
            layer.backward = True
            layer.bottom_backward = [flag or _may_be_forced(layer, i) for i, flag in enumerate(layer.bottom_backward)]
            layer.param_backward = [True] * len(layer.param_backward)
    return found


def _with_splits(graph: Graph) -> list[Layer]:
    uses = Counter(value for node in graph.layers for value in node.bottoms)
    for node in graph.layers:  # a loss counts as a reader only where the prototxt says so
        uses.update(top for top, _, said in zip(node.tops, node.loss_weights, node.op.layer.loss_weight, strict=False) if said)
    taken: Counter[Value] = Counter()
    split: dict[Value, str] = {}
    found = []
    for node in graph.layers:
        bottoms = []
        for value in node.bottoms:
            bottoms.append(f"{split[value]}_{taken[value]}" if value in split else value.blob)
            taken[value] += 1
        weights = list(node.loss_weights)
        found.append(Layer(node.name, node.name, node, bottoms, [top.blob for top in node.tops], weights))
        for i, top in enumerate(node.tops):
            if uses[top] > 1:
                split[top] = f"{top.blob}_{node.name}_{i}_split"
                taken[top] = int(bool(weights[i]))
                found.append(Layer(split[top], node.name, None, [top.blob], [f"{split[top]}_{k}" for k in range(uses[top])],
                                   [weights[i]] + [0.0] * (uses[top] - 1)))
                weights[i] = 0.0
    return found


def _flag(found: list[Layer]) -> None:
    needed: dict[str, bool] = {}
    for layer in found:
        told = layer.node.op.layer.propagate_down if layer.node else ()
        layer.bottom_backward = list(told) or [needed[blob] for blob in layer.bottoms]
        layer.param_backward = _learned(layer.node) if layer.node else ()
        layer.backward = any(needed[blob] for blob in layer.bottoms) or any(layer.param_backward)
        for top in layer.tops:
            needed[top] = needed.get(top, False) or layer.backward
    under_loss, skipped = set(), set()
    for layer in reversed(found):
        counts = any(layer.weights) or any(top in under_loss for top in layer.tops)
        if layer.backward and all(top in skipped for top in layer.tops):
            layer.backward, layer.bottom_backward = False, [False] * len(layer.bottoms)
        if counts:
            under_loss.update(layer.bottoms)
        else:
            layer.backward, layer.bottom_backward = False, [False] * len(layer.bottoms)
        skipped.update(blob for blob, flag in zip(layer.bottoms, layer.bottom_backward, strict=True) if not flag)


def _learned(node: Node) -> list[bool]:
    specs = node.op.layer.param
    if node.type == "BatchNorm":  # Caffe freezes its parameters only after it has looked
        return [True] * len(node.params)
    return [i >= len(specs) or specs[i].lr_mult != 0 for i in range(len(node.params))]


def _may_be_forced(layer: Layer, index: int) -> bool:
    """AllowForceBackward: not the labels of a loss."""
    return layer.node is None or index not in layer.node.op.undifferentiable
