"""The front of a train net, whose layers do not learn: no gradient comes to it, so it runs as for results."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from ..proto.caffe_pb2 import TEST, LayerParameter
from .graph import Given, Graph, Node, Value
from .module import Net
from .plan import Plan
from .segment import read_elsewhere


class Front:
    """What a net's first layers make of a batch, without gradients, by their plan."""

    def __init__(self, graph: Graph, net: Net) -> None:
        """graph: of `parted`. net: whose parameters are used."""
        self.plan = Plan(Net(graph, net).eval())

    def __call__(self, inputs: Mapping[str, Tensor], net: Net) -> dict[str, Tensor]:
        """The inputs, and what the front makes of them with the parameters that the net has by now."""
        mine = self.plan.net
        if any(parameter is not net.parameter(slot) for slot, parameter in mine.parameters_by_slot()):
            mine.share(net)
        mine.precision = net.precision
        with torch.no_grad():
            return {**inputs, **self.plan(inputs)}


def parted(graph: Graph) -> tuple[Graph | None, Graph]:
    """The front of a graph, and the rest of it, which is given what the front makes; None and the graph where
    no layer with weights stands at the front.

    Of the front are layers that no gradient comes to, since neither they nor what they read learn, and that
    do in TRAIN what they do in TEST.
    """
    settled = {top for node in graph.sources for top in node.tops}
    front: list[Node] = []
    for node in graph.nodes:
        if node.bottoms and settled.issuperset(node.bottoms) and _steady(node):
            front.append(node)
            settled.update(node.tops)
    own = {top for node in front for top in node.tops}
    made = sorted(own & read_elsewhere(graph, front))
    names = [value.blob for node in graph.sources for value in node.tops] + [value.blob for value in made]
    if not any(node.params for node in front) or len({*names}) < len(names):  # blobs are passed on by name
        return None, graph
    keys = {slot.key for node in front for slot in node.params}
    first = replace(graph, phase=TEST, layers=(*graph.sources, *front), outputs=tuple(v.blob for v in made),
                    params=tuple(slot for slot in graph.params if slot.key in keys),
                    shapes=_shapes(graph, [*graph.sources, *front]))
    layer = LayerParameter(name="front", type="Input", top=first.outputs)
    given = Node(Given(layer, []), (), tuple(made), (), (0.0,) * len(made), ())
    left = [*graph.sources, given, *(node for node in graph.nodes if node not in front)]
    return first, replace(graph, layers=tuple(left), shapes=_shapes(graph, left))


def _steady(node: Node) -> bool:
    op = node.op
    learns = any(slot.lr_mult for slot in node.params)
    return not (learns or op.draws or op.moving or op.once or op.waits or op.loss or op.sink
                or any(node.loss_weights))


def _shapes(graph: Graph, nodes: list[Node]) -> dict[Value, tuple[int, ...]]:
    return {top: graph.shapes[top] for node in nodes for top in node.tops}
