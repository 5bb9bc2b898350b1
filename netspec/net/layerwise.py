"""A net run layer by layer, as Caffe runs one: data and diff of blobs can be read and written in between."""

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge, increment_version

from ..ops import Shape
from ..ops.blobs import Blob
from ..ops.python import BlobVec, Python
from .graph import Graph, Node, Value
from .module import Net, autocast


@dataclass
class Layer:
    """One layer of the net as Caffe runs it: a node, or a Split behind a blob that several layers read.

    Blobs have the names that they have in Caffe, where each reader of a shared blob has a name of its own.
    """

    name: str
    maker: Node  # the layer itself, or the one whose top a Split spreads
    node: Node | None  # None: Split
    bottoms: list[str]
    tops: list[str]
    weights: Sequence[float]  # of the tops in the loss
    backward: bool = False  # the layer runs backward
    bottom_backward: Sequence[bool] = ()  # which bottoms get a gradient
    param_backward: Sequence[bool] = ()


def layers(graph: Graph) -> list[Layer]:
    """The layers of a graph in Caffe's order, with Splits (InsertSplits) and flags (Net::Init)."""
    found = list(_with_splits(graph))
    _flag(found)
    if graph.proto.force_backward:
        for layer in found:
            layer.backward = True
            labels = layer.node.op.undifferentiable if layer.node else ()  # AllowForceBackward spares them
            layer.bottom_backward = [flag or i not in labels for i, flag in enumerate(layer.bottom_backward)]
            layer.param_backward = [True] * len(layer.param_backward)
    return found


def _with_splits(graph: Graph) -> Iterator[Layer]:
    uses = Counter(value for node in graph.layers for value in node.bottoms)
    for node in graph.layers:  # a loss counts as a reader only where the prototxt says so
        uses.update(top for top, said in zip(node.tops, node.op.layer.loss_weight, strict=False) if said)
    taken: Counter[Value] = Counter()
    split: dict[Value, str] = {}
    for node in graph.layers:
        bottoms = []
        for value in node.bottoms:
            bottoms.append(f"{split[value]}_{taken[value]}" if value in split else value.blob)
            taken[value] += 1
        shared = [uses[top] > 1 for top in node.tops]  # the weight of such a top goes to its Split
        weights = [0.0 if many else weight for many, weight in zip(shared, node.loss_weights, strict=True)]
        yield Layer(node.name, node, node, bottoms, [top.blob for top in node.tops], weights)
        for i, top in enumerate(node.tops):
            if shared[i]:
                name = split[top] = f"{top.blob}_{node.name}_{i}_split"
                weight = node.loss_weights[i]
                taken[top] = int(bool(weight))
                tops = [f"{name}_{k}" for k in range(uses[top])]
                yield Layer(name, node, None, [top.blob], tops, [weight] + [0.0] * (uses[top] - 1))


def _flag(found: list[Layer]) -> None:
    needed: dict[str, bool] = {}
    for layer in found:
        told = layer.node.op.layer.propagate_down if layer.node else ()
        layer.bottom_backward = list(told) or [needed[blob] for blob in layer.bottoms]
        layer.param_backward = _learned(layer.node) if layer.node else ()
        layer.backward = any(needed[blob] for blob in layer.bottoms) or any(layer.param_backward)
        for top in layer.tops:
            needed[top] = needed.get(top, False) or layer.backward
    under_loss: set[str] = set()
    skipped: set[str] = set()
    for layer in reversed(found):
        counts = any(layer.weights) or any(top in under_loss for top in layer.tops)
        if not counts or layer.backward and all(top in skipped for top in layer.tops):
            layer.backward, layer.bottom_backward = False, [False] * len(layer.bottoms)
        if counts:
            under_loss.update(layer.bottoms)
        flags = zip(layer.bottoms, layer.bottom_backward, strict=True)
        skipped.update(blob for blob, flag in flags if not flag)


def _learned(node: Node) -> list[bool]:
    specs = node.op.layer.param
    if node.type == "BatchNorm":  # Caffe freezes its parameters only after it has looked
        return [True] * len(node.params)
    return [i >= len(specs) or specs[i].lr_mult != 0 for i in range(len(node.params))]


class Watch(Protocol):
    """Who is told of each layer that was run; Splits, which take no time, among them."""

    def forward(self, run: "Layerwise", layer: Layer) -> None: ...

    def backward(self, run: "Layerwise", layer: Layer, grads: Sequence[Tensor | None]) -> None: ...

    def through(self, run: "Layerwise") -> None: ...


class Tape(NamedTuple):
    """What a layer's backward pass needs of its forward pass."""

    bottoms: list[Tensor]
    params: list[Tensor]
    tops: list[tuple[GradientEdge, torch.dtype] | None]  # None where no gradient comes through


class Layerwise:
    """The blobs of a net, and passes over any part of its layers.

    blobs: every top by name. params: layer -> its parameter blobs, which are the net's own parameters and
    gradients. Gradients of parameters add up over passes, diffs of blobs are replaced. The fast way through a
    net is `net(inputs)`; this one is for looking at it.
    """

    def __init__(self, net: Net, feed: Callable[[Node], Sequence[Tensor] | None] = lambda node: None) -> None:
        """feed: the tops of a source for the next pass, or None where they are to stay as they are."""
        self.net, self.feed = net, feed
        self.watch: Watch | None = None
        self.hooks: dict[str, list[Callable[[int], Any]]] = defaultdict(list)  # called with a layer's number
        self.nodes = net.graph.layers
        self.plan = layers(net.graph)
        self.weights = {top: weight for node in self.nodes
                        for top, weight in zip(node.tops, node.loss_weights, strict=True) if weight}
        self._makers = {top: node for node in self.nodes for top in node.tops}
        self._read = {value for node in self.nodes for value in node.bottoms}
        shapes = net.graph.shapes
        self._fits = {(node, *(shapes[b] for b in node.bottoms)) for node in self.nodes}
        self._tapes: dict[Node, Tape] = {}
        self.blobs = {top.blob: Blob(net.graph.shape(top.blob)) for top in self._makers}
        for value in self.weights:
            self._weigh(value)
        self.params: dict[str, list[Blob]] = {}
        self.bind()

    def bind(self) -> None:
        """Take the net's parameters as they are now: `share` replaces them."""
        self.learnable = [Blob.of(parameter) for _, parameter in self.net.parameters_by_slot()]
        for node in self.nodes:
            if node.params:
                self.params.setdefault(node.name, BlobVec())[:] = [
                    Blob.of(self.net.parameter(slot), param.shape)
                    for slot, param in zip(node.params, node.op.params, strict=True)]
            if isinstance(node.op, Python):
                node.op.instance.blobs[:] = self.params.get(node.name, ())

    def settle(self) -> None:
        """Carry what was written into arrays over to the net's parameters, before others use them."""
        for blob in self.learnable:
            blob.data_memory.settle()
            blob.diff_memory.settle()

    def index(self, name: str) -> int:
        """The place of a layer in `nodes`; Error with the closest name if there is none."""
        return self.nodes.index(self.net.graph.node(name))

    def reshape(self) -> None:
        """Give every blob the shape that follows from those of the sources' tops."""
        shapes = self.net.graph.infer(self._inputs())
        self.net.check_room(shapes)
        for value, shape in shapes.items():
            self._shape(value, shape)

    def _inputs(self) -> dict[str, Shape]:
        return {blob: self.blobs[blob].shape for blob in self.net.graph.inputs}

    def forward(self, start: int = 0, end: int | None = None) -> None:
        """Run the layers from number `start` to number `end` (None: the last), both included.

        Raises Error where sizes do not fit.
        """
        _forkable()
        if start == 0:
            self._tapes.clear()
            built = self.net.graph.shapes
            if all(built[Value(blob)] == shape for blob, shape in self._inputs().items()):
                self.net.check_room(built)  # of others `reshape` has asked
        nodes = self._between(start, end)
        for layer in self.plan:
            if layer.maker in nodes:
                self._call("before_forward", layer)
                if layer.node:
                    self._forward(layer, layer.node)
                if self.watch:
                    self.watch.forward(self, layer)
                self._call("after_forward", layer)

    def backward(self, start: int | None = None, end: int = 0) -> None:
        """Run layers backward from their tops' diffs, from number `start` (None: the last) down to `end`."""
        nodes = self._between(end, start)
        done: set[Value] = set()
        for value, weight in self.weights.items():
            if value in self._read and self._makers[value] in nodes:  # its diff is that of its readers, too
                shape = self.blobs[value.blob].shape
                self._add(value, torch.full(shape, weight, device=self.net.device), done)
        for layer in reversed(self.plan):
            if layer.maker in nodes:
                self._call("before_backward", layer)
                if layer.backward:
                    self._pass_back(layer, done)
                self._call("after_backward", layer)
        if self.watch and len(nodes) == len(self.nodes):
            self.watch.through(self)

    def _pass_back(self, layer: Layer, done: set[Value]) -> None:
        """Run a layer backward; `done` has the values that got a gradient in this pass."""
        grads: Sequence[Tensor | None] = ()
        if layer.node and not layer.node.source:
            grads = self._backward(layer, layer.node)
            for value, grad in zip(layer.node.bottoms, grads, strict=True):
                if grad is not None:
                    self._add(value, grad, done)
        if self.watch:
            self.watch.backward(self, layer, grads)

    def run(self, inputs: Mapping[str, Tensor], more: Sequence[str] = ()) -> dict[str, Tensor]:
        """The whole net, as `net(inputs)`: outputs, losses and more blobs, without gradients."""
        feed, self.feed = self.feed, lambda node: [inputs[top.blob] for top in node.tops]
        try:
            self.forward()
        finally:
            self.feed = feed
        wanted = dict.fromkeys((*self.net.graph.outputs, *self.net.losses, *more))
        return {name: self.blobs[name].data_memory.tensor(self.net.device) for name in wanted}

    def _call(self, when: str, layer: Layer) -> None:
        if layer.node and self.hooks.get(when):
            for hook in self.hooks[when]:
                hook(self.nodes.index(layer.node))

    def _between(self, first: int, last: int | None) -> set[Node]:
        return {*self.nodes[first : None if last is None else last + 1]}

    def _weigh(self, value: Value) -> None:
        """A loss passes its weight down, unless someone writes another diff."""
        memory = self.blobs[value.blob].diff_memory
        memory.put(torch.full(memory.shape, self.weights[value]))

    def _shape(self, value: Value, shape: Shape) -> None:
        blob = self.blobs[value.blob]
        if shape != blob.diff_memory.shape:
            blob.reshape(*shape)
            if value in self.weights:
                self._weigh(value)

    def _forward(self, layer: Layer, node: Node) -> None:
        self._tapes.pop(node, None)
        if node.source:
            tops = self.feed(node) or ()
        else:
            tape, tops = self._record(layer, node)
            if layer.backward:
                self._tapes[node] = tape
            tops = _apart(tops, [*tape.bottoms, *tape.params])
        for value, top in zip(node.tops, tops, strict=bool(tops)):
            self.blobs[value.blob].data_memory.put(top)
            self._shape(value, tuple(top.shape))

    def _record(self, layer: Layer, node: Node, moves: bool = True) -> tuple[Tape, list[Tensor]]:
        """Run a layer: its tape and its tops; moves: it may change its parameters."""
        device = self.net.device
        memories = [self.blobs[b.blob].data_memory for b in node.bottoms]
        shapes = [memory.shape for memory in memories]
        if (node, *shapes) not in self._fits:
            node.op.infer(*shapes)
            self._fits.add((node, *shapes))
        bottoms = [memory.tensor(device) for memory in memories]
        for i, (value, memory) in enumerate(zip(node.bottoms, memories, strict=True)):
            if memory.shown and value.blob in {top.blob for top in node.tops}:
                bottoms[i] = bottoms[i].clone()  # where it lies, the top will lie
        params = [blob.data_memory.tensor(device) for blob in self.params.get(node.name, ())]
        if node.op.moving and not moves:
            params = [param.clone() for param in params]
        wanted = (*map(all, zip(layer.bottom_backward, node.propagate, strict=True)), *layer.param_backward)
        leaves = [t.detach().requires_grad_(layer.backward and flag)
                  for t, flag in zip((*bottoms, *params), wanted, strict=True)]
        bottoms, params = leaves[: len(bottoms)], leaves[len(bottoms) :]
        with torch.set_grad_enabled(layer.backward), autocast(device, self.net.precision):
            made = node.op.forward(bottoms, params)
        if node.op.moving and moves:
            for slot in node.params:  # through `data`, where torch does not count it
                increment_version(self.net.parameter(slot))
        tops = [made] if isinstance(made, Tensor) else list(made)
        edges = [(get_gradient_edge(top), top.dtype) if top.requires_grad else None for top in tops]
        return Tape(bottoms, params, edges), tops

    def _backward(self, layer: Layer, node: Node) -> list[Tensor | None]:
        """The gradients of a layer's bottoms, where they get one; adds those of its parameters to theirs."""
        device = self.net.device
        if not any((*layer.bottom_backward, *layer.param_backward)):
            return [None] * len(node.bottoms)
        if node not in self._tapes:  # there was no forward pass: from the data as they are
            self._tapes[node], _ = self._record(layer, node, moves=False)
        tape = self._tapes[node]
        edges = [edge for edge, _ in filter(None, tape.tops)]
        diffs = [self.blobs[value.blob].diff_memory.tensor(device).to(edge[1])
                 for value, edge in zip(node.tops, tape.tops, strict=True) if edge]
        wanted = [t for t in (*tape.bottoms, *tape.params) if t.requires_grad]
        if not edges or not wanted:
            return [None] * len(tape.bottoms)
        found = torch.autograd.grad(edges, wanted, diffs, retain_graph=True, allow_unused=True)
        whole = [torch.zeros_like(t) if grad is None else grad for t, grad in zip(wanted, found, strict=True)]
        grads = iter(_apart(whole, diffs))
        of_bottoms = [next(grads) if t.requires_grad else None for t in tape.bottoms]
        for param, blob in zip(tape.params, self.params.get(node.name, ()), strict=True):
            if param.requires_grad:
                blob.diff_memory.tensor(device).add_(next(grads))
        return of_bottoms

    def _add(self, value: Value, grad: Tensor, done: set[Value]) -> None:
        """The first gradient of a value in a pass replaces its diff, those of other readers are added."""
        memory = self.blobs[value.blob].diff_memory
        memory.put(memory.tensor(self.net.device) + grad if value in done else grad)
        done.add(value)


@cache
def _forkable() -> None:
    """After a pass, a forked process would wait for ever for threads that it has not inherited."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=partial(torch.set_num_threads, 1))


def _apart(tensors: Sequence[Tensor], others: Sequence[Tensor]) -> list[Tensor]:
    """The tensors without gradient, copied where they share memory with others, one another or themselves."""
    seen = {t.untyped_storage().data_ptr() for t in others if t.numel()}
    apart = []
    for tensor in tensors:
        place, tensor = tensor.untyped_storage().data_ptr(), tensor.detach()
        if tensor.numel() and place in seen or 0 in tensor.stride():
            tensor = tensor.clone(memory_format=torch.contiguous_format)
        seen.add(place)
        apart.append(tensor)
    return apart
