"""Layers of a graph as one operation, so that what lies between them can be computed in another way."""

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..ops import Operation, Shape
from ..proto.caffe_pb2 import LayerParameter
from .graph import Graph, Node, Value


class Segment(Operation, bottoms=(0, None), tops=(0, None)):
    """Some layers of a graph that stand one behind the other, run as one.

    Its bottoms are the values that they read and do not make, its tops those that others read or want, and
    its parameters those of all of them, layer by layer. recompute: the backward pass computes once more what
    lies between, with the same random numbers, so that the forward pass need not keep it.
    """

    recompute = False

    def __init__(self, nodes: Sequence[Node], bottoms: Sequence[Value], tops: Sequence[Value]) -> None:
        self.nodes, self.read, self.made = tuple(nodes), tuple(bottoms), tuple(tops)
        ends = dict.fromkeys(node.name for node in (nodes[0], nodes[-1]))
        layer = LayerParameter(name=" to ".join(ends), type="Segment", bottom=[b.blob for b in bottoms],
                               top=[t.blob for t in tops])
        super().__init__(layer, [], nodes[0].op.context)
        self.params += [param for node in nodes for param in node.op.params]
        readers = Counter(b for node in nodes for b in node.bottoms)
        own = {top for node in nodes if node.op.fresh for top in node.tops if readers[top] == 1} - {*tops}
        self.over = {node for node in nodes if node.bottoms and node.bottoms[0] in own}

    def infer(self, *shapes: Shape) -> list[Shape]:
        known = dict(zip(self.read, shapes, strict=True))
        for node in self.nodes:
            known.update(zip(node.tops, node.op.infer(*(known[b] for b in node.bottoms)), strict=True))
        return [known[top] for top in self.made]

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> list[Tensor]:
        return self.kept(self.through, bottoms, params)

    def kept(self, work: Callable[..., Any], *args: Any) -> Any:
        """What work gives, of which only the arguments are kept if it can be computed again."""
        if self.recompute and torch.is_grad_enabled():
            return checkpoint(work, *args, use_reentrant=False)
        return work(*args)

    def through(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> list[Tensor]:
        """The tops, one layer after the other."""
        known, left = dict(zip(self.read, bottoms, strict=True)), list(params)
        for node in self.nodes:
            mine, left = left[: len(node.params)], left[len(node.params) :]
            read = [known[b] if ok else known[b].detach()
                    for b, ok in zip(node.bottoms, node.propagate, strict=True)]
            known.update(zip(node.tops, run(node, read, mine, node in self.over), strict=True))
        return [known[top] for top in self.made]


def run(node: Node, bottoms: Sequence[Tensor], params: Sequence[Tensor],
        inplace: bool = False) -> Sequence[Tensor]:
    """The tops of a layer. inplace: it may overwrite its bottom, if it can."""
    own = [p if tuple(p.shape) == param.shape else p.reshape(param.shape)
           for p, param in zip(params, node.op.params, strict=True)]
    tops = node.op.forward(bottoms, own, **{"inplace": True} if inplace and node.op.overwrites else {})
    return (tops,) if isinstance(tops, Tensor) else tops


def merged(graph: Graph, segments: Iterable[Segment]) -> Graph:
    """The graph with a segment in the place of its layers: it computes the same, and gives fewer blobs."""
    layers = list(graph.layers)
    for segment in segments:
        weights = {top: weight for node in segment.nodes
                   for top, weight in zip(node.tops, node.loss_weights, strict=True)}
        at = layers.index(segment.nodes[0])
        layers[at] = Node(segment, segment.read, segment.made,
                          tuple(slot for node in segment.nodes for slot in node.params),
                          tuple(weights[top] for top in segment.made), (True,) * len(segment.read))
        layers = [node for node in layers if node not in segment.nodes]
    kept = {top for node in layers for top in node.tops}
    shapes = {value: shape for value, shape in graph.shapes.items() if value in kept}
    return replace(graph, layers=tuple(layers), shapes=shapes)


def read_elsewhere(graph: Graph, nodes: Collection[Node]) -> set[Value]:
    """The values that layers other than these read, that leave the net, or that count in the objective."""
    last = {v.blob: v for node in graph.layers for v in node.tops}
    found = {last[blob] for blob in graph.outputs}
    for node in graph.layers:
        found |= {top for top, weight in zip(node.tops, node.loss_weights, strict=True) if weight}
        found |= set() if node in nodes else {*node.bottoms}
    return found


def recomputed(graph: Graph) -> Graph:
    """The graph in segments whose inner values the backward pass computes once more, about sqrt(n) of them.

    Layers that a second pass would change, or that would not give the same again, stand alone.
    """
    length, found = math.isqrt(len(graph.nodes)) + 1, []
    for node in graph.nodes:
        if isinstance(node.op, Segment):
            node.op.recompute = True
    for alone, nodes in groupby(graph.nodes, lambda n: n.op.moving or n.op.once or isinstance(n.op, Segment)):
        rest = [] if alone else list(nodes)
        for part in (rest[i : i + length] for i in range(0, len(rest), length)):
            made = {top: None for node in part for top in node.tops}
            bottoms = dict.fromkeys(b for node in part for b in node.bottoms if b not in made)
            wanted = read_elsewhere(graph, part)
            found.append(Segment(part, [*bottoms], [top for top in made if top in wanted]))
            found[-1].recompute = True
    return merged(graph, found)
