"""The front of a train net, whose layers do not learn: no gradient comes to it, so it runs as for results."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..proto.caffe_pb2 import TEST, LayerParameter
from .graph import Given, Graph, Node, Value
from .module import Net
from .plan import Plan
from .segment import read_elsewhere


class Front:
    """What a net's first layers make of a batch, without gradients, by their plan, which sees of changes to
    parameters what Plan says."""

    def __init__(self, graph: Graph, net: Net) -> None:
        """graph: of `parted`. net: whose parameters are used."""
        self.net = Net(graph, net).eval()
        self.plan = Plan(self.net)

    def learns(self, inputs: Mapping[str, Tensor], net: Net) -> bool:
        """Whether a gradient is asked for after all: of an input, or of a parameter that a person thawed."""
        mine = (net.parameter(slot) for slot in self.net.graph.params)
        return any(x.requires_grad for x in (*inputs.values(), *mine))

    def __call__(self, inputs: Mapping[str, Tensor], net: Net) -> dict[str, Tensor]:
        """The inputs, and what the front makes of them with the parameters that the net has by now."""
        mine = [net.parameter(slot) for slot in self.net.graph.params]
        if any(a is not b for a, (_, b) in zip(mine, self.net.parameters_by_slot(), strict=True)):
            self.net.share(net)
        self.net.precision = net.precision
        # what arrays of pycaffe's may change, a plan would make ready at each call
        run = self.net if any(getattr(parameter, "shown", False) for parameter in mine) else self.plan
        with torch.no_grad():
            return {**inputs, **run({blob: inputs[blob] for blob in self.net.graph.inputs})}


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
    mine, own = {*front}, {top for node in front for top in node.tops}
    made = sorted(own & read_elsewhere(graph, front))
    names = [value.blob for node in graph.sources for value in node.tops] + [value.blob for value in made]
    newest = {value.blob: value for value in sorted(own)}
    clear = len({*names}) == len(names) and all(newest[value.blob] == value for value in made)
    if not clear or not any(node.params for node in front):  # blobs are passed on by name
        return None, graph
    read = {bottom for node in front for bottom in node.bottoms}
    given = (_given(node.name, [top for top in node.tops if top in read]) for node in graph.sources)
    sources = [node for node in given if node.tops]
    keys = {slot.key for node in front for slot in node.params}
    first = replace(graph, phase=TEST, layers=(*sources, *front), outputs=tuple(v.blob for v in made),
                    params=tuple(slot for slot in graph.params if slot.key in keys),
                    shapes=_shapes(graph, [*sources, *front]))
    left = [*graph.sources, _given("front", made), *(node for node in graph.nodes if node not in mine)]
    return first, replace(graph, layers=tuple(left), shapes=_shapes(graph, left))


def _given(name: str, tops: Sequence[Value]) -> Node:
    """What stands for those who make these values."""
    layer = LayerParameter(name=name, type="Input", top=[top.blob for top in tops])
    return Node(Given(layer, []), (), tuple(tops), (), (0.0,) * len(tops), ())


def _steady(node: Node) -> bool:
    op = node.op
    moves = op.moving and not getattr(op, "stored", False)
    learns = any(slot.lr_mult for slot in node.params)
    return not (learns or moves or op.draws or op.once or op.waits or op.loss or op.sink
                or any(node.loss_weights))


def _shapes(graph: Graph, nodes: list[Node]) -> dict[Value, tuple[int, ...]]:
    return {top: graph.shapes[top] for node in nodes for top in node.tops}
