"""Nets for inference with batch norms and scales as part of the convolutions before them, and the proof."""

from collections import Counter
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ..base.errors import Error, listed
from ..net.build import build
from ..net.deploy import deploy
from ..net.graph import Graph, Node
from ..net.module import Net
from ..net.passes import Unit, folded, units
from ..net.weights import load
from ..ops.conv import Convolution
from ..proto.caffe_pb2 import NetParameter


class Row(NamedTuple):
    """One blob of both nets, run in float64: the largest difference, the same with the new net's weights
    rounded to float32 as its file has them, and the largest value."""

    blob: str
    layers: list[str]  # that are part of the convolution which now makes it
    apart: float
    written: float
    most: float


class Merged(NamedTuple):
    """What `merged` made: `net.graph.proto` is its prototxt."""

    net: Net
    left: dict[str, str]  # a layer that multiplies and adds and stays -> why
    rows: list[Row]


def merged(path: Path, weights: Path) -> Merged:
    """A net for inference with what inference does for speed (`fold` in net/passes.py) done in its file.

    Layers keep their names; losses and labels are left off, data layers become Input layers. A convolution
    takes the top of the last layer that is now part of it, and has a bias. One whose parameters are shared
    stays as it is. Raises Error where the weights lack a layer, and where nothing can be merged.
    """
    old = Net(deploy(path)).eval()
    if missing := load(weights, old.layers_with_params()).missing:
        raise Error(f"{weights}: has no weights for layer {', '.join(missing)} of {path}")
    graph = old.double().graph
    uses = Counter(slot.key for node in graph.nodes for slot in node.params)
    ends = [graph.newest[blob] for blob in graph.outputs]
    made = {unit.node.name: unit for unit in units(graph, ends, {"fold"})
            if unit.folded and all(uses[slot.key] == 1 for slot in unit.node.params)}
    gone = {node for unit in made.values() for node in unit.folded}
    left = {node.name: _why(graph, node, gone, uses)
            for node in graph.nodes if node.op.affine and node not in gone}
    if not made:
        found = listed(f"{name} {why}" for name, why in left.items())
        raise Error(f"{path}: has nothing to merge: {found or 'no BatchNorm, BN, Scale or Bias'}")
    new = Net(build(_written(graph, made, gone))).eval()
    theirs = old.layers_with_params()
    for name, params in new.layers_with_params().items():
        source = _numbers(old, made[name]) if name in made else theirs[name]
        for mine, given in zip(params, source, strict=True):
            mine.data = given.detach().clone()
    return Merged(new, left, _proof(old, new, made))


def _written(graph: Graph, made: dict[str, Unit], gone: set[Node]) -> NetParameter:
    net = deepcopy(graph.proto)
    del net.layer[:]
    for node, given in zip(graph.layers, graph.proto.layer, strict=True):
        if node.source and given.type != "Input":
            shapes = [dict(dim=graph.shapes[top]) for top in node.tops]
            net.layer.add(name=node.name, type="Input", top=given.top, input_param=dict(shape=shapes))
        elif node not in gone:
            layer = net.layer.add()
            layer.CopyFrom(given)
            if node.name in made:
                layer.top[:] = [top.blob for top in made[node.name].tops]
                layer.convolution_param.bias_term = True
    return net


def _numbers(net: Net, unit: Unit) -> tuple[Tensor, Tensor]:
    params = {node: [net.parameter(slot).detach() for slot in node.params]
              for node in (unit.node, *unit.folded)}
    weight, *bias = params[unit.node]
    return folded(unit, weight, bias[0] if bias else None, params)


def _why(graph: Graph, node: Node, gone: set[Node], uses: Counter[str]) -> str:
    """Why a layer that multiplies and adds stays."""
    bottom = node.bottoms[0]
    before = next(each for each in graph.layers if bottom in each.tops)
    if len(node.bottoms) > 1:
        return "has a second bottom"
    if not getattr(node.op, "stored", True):
        return "normalises by its batch"
    if not isinstance(before.op, Convolution) and before not in gone:
        return f"follows {before.name} ({before.type})"
    if sum(bottom in each.bottoms for each in graph.nodes) > 1:
        return f"{bottom.blob} is read elsewhere too"
    if isinstance(before.op, Convolution) and not before.op.local:
        return f"{before.name} is no convolution of one blob along its last two axes"
    shares = any(uses[slot.key] > 1 for slot in before.params) and before not in gone
    return f"{before.name} shares its parameters" if shares else "has not a number a channel"


def _proof(old: Net, new: Net, made: dict[str, Unit]) -> list[Row]:
    """The blobs that changed convolutions make, and the outputs, of random images; new ends in float32."""
    generator = torch.Generator().manual_seed(0)
    images = {blob: torch.randn(old.graph.shape(blob), generator=generator, dtype=torch.float64) * 50
              for blob in old.graph.inputs}
    layers = {unit.tops[0].blob: [node.name for node in unit.folded] for unit in made.values()}
    blobs = [*dict.fromkeys([*layers, *old.graph.outputs])]

    def run(net: Net) -> Mapping[str, Tensor]:
        torch.manual_seed(0)  # for dropout that goes on in TEST
        with torch.no_grad():
            return net(images, want=blobs)

    def apart(blob: str, given: Mapping[str, Tensor]) -> float:
        return float((given[blob] - theirs[blob]).abs().max())

    theirs, ours, written = run(old), run(new), run(new.float().double())
    new.float()
    return [Row(blob, layers.get(blob, []), apart(blob, ours), apart(blob, written),
                float(theirs[blob].abs().max())) for blob in blobs]
