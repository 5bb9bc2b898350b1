"""From a graph to a `torch.nn.Module`."""

import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from types import NoneType
from typing import Any

import torch
from google.protobuf import text_format
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

from ..base.errors import Error, closest
from ..base.machine import check_room
from ..ops import Shape
from ..ops.fillers import fill
from ..proto.caffe_pb2 import NetParameter
from .build import build
from .graph import Graph, Node, Slot, Value
from .room import check_blobs, held, taken

Place = tuple[nn.Module, str]  # the module around, and the name in it
DEEP = 64  # dots of a layer's name, for each of which a module lies in another: torch calls itself as often


class _Module(nn.Module):
    """A module whose parts may have any name: those called "training" or "losses" hide nothing of its own."""

    def __setattr__(self, name: str, value: Any) -> None:
        plain = not isinstance(value, nn.Module | Tensor | NoneType)  # those may be parts
        if plain or name in vars(self):
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)


class Part(_Module):
    """A layer as a submodule of its net, under its name: its parameters, and what hooks are hung on.

    `part(*bottoms)` is its top, or the tuple of its tops. Without a node it only holds others: those of the
    layers "a.b" and "a.c" stand in "a".
    """

    def __init__(self) -> None:
        super().__init__()
        self._node: Node | None = None
        self._reads: list[tuple[nn.Module, str, str]] = []  # where its parameters are: shared ones elsewhere

    def forward(self, *bottoms: Tensor, inplace: bool = False) -> Tensor | tuple[Tensor, ...]:
        node = self._node
        assert node is not None
        params: list[Tensor] = [getattr(outer._modules[path], name) for outer, path, name in self._reads]
        for i, (slot, own) in enumerate(zip(node.params, node.op.params, strict=True)):
            if slot.shape != own.shape:  # see share_mode
                params[i] = params[i].reshape(own.shape)
        tops = node.op.forward(bottoms, params, **{"inplace": True} if inplace else {})
        return tops if isinstance(tops, Tensor) else tops[0] if len(tops) == 1 else tuple(tops)

    def _get_name(self) -> str:
        return self._node.type if self._node else "Layers"

    def extra_repr(self) -> str:
        if not self._node:
            return ""
        layer = self._node.op.layer
        texts = [f"{', '.join(layer.bottom)} -> {', '.join(layer.top)}"]
        for field, settings in layer.ListFields():
            if field.message_type and field.name.endswith("_param"):
                shown = type(settings)()
                shown.CopyFrom(settings)
                for inner, _ in settings.ListFields():  # how parameters began says nothing of what they are
                    if inner.name.endswith("filler"):
                        shown.ClearField(inner.name)
                texts.append(text_format.MessageToString(shown, as_one_line=True))
        return ", ".join(filter(None, texts))


class Net(_Module):
    """A graph that runs.

    `net(inputs)` maps blob names to tensors, in and out; of a net with one input, `net(x)` is its only output
    (of several, the dictionary). `net(data=x, label=y)` is `net({"data": x, "label": y})`. `state_dict()` has
    one entry a parameter blob, LAYER.weight and LAYER.bias (LAYER.0, LAYER.1, ... where there are more); each
    layer is a submodule of its name. Images may change size from call to call. `precision` (None: as torch is
    told, float32 by itself; torch.bfloat16, torch.float16) is that of convolutions and products, never of
    losses or parameters.
    """

    def __init__(self, graph: Graph | NetParameter | str | os.PathLike, share: "Net | None" = None,
                 generator: torch.Generator | None = None) -> None:
        """graph: or what `build` makes one of, in phase TEST. share: a net whose parameters are used, not
        copied, by layer name. generator: for fillers."""
        super().__init__()
        graph = graph if isinstance(graph, Graph) else build(graph)
        self.graph = graph
        self.precision: torch.dtype | None = None
        self._places: dict[str, tuple[Place, str]] = {}
        for node in graph.nodes:  # in the order of the layers
            if node.name.count(".") > DEEP:
                raise node.op.error(f"a name has at most {DEEP} dots; rename it")
            self._module(node.name)
        shared = share.layers_with_params() if share else {}
        own = [slot for slot in graph.params if not shared.get(slot.layer, ())[slot.index :]]
        check_room(taken(own), torch.get_default_device(), f"the parameters of net '{graph.name}' take",
                   "make its layers smaller")
        for slot in graph.params:
            parameter = next(iter(shared.get(slot.layer, ())[slot.index :]), None)
            if parameter is None:
                parameter = nn.Parameter(torch.empty(slot.shape), requires_grad=slot.lr_mult != 0)
                with torch.no_grad():
                    fill(parameter, slot.filler, generator)
            elif tuple(parameter.shape) != slot.shape:
                name = share.graph.name if share else ""
                raise Error(f"layer '{slot.layer}': parameter {slot.index} is {list(parameter.shape)} in net "
                            f"'{name}' and {list(slot.shape)} in net '{graph.name}', so they cannot share it")
            self._register(slot.key, parameter)
        self._inputs = graph.inputs  # torch.compile cannot ask the graph
        self._steps = _steps(graph)
        numbers: dict[str, int] = {}
        self._parts = [self._part(node, numbers) for node in graph.nodes]
        self.losses: Mapping[str, float] = {  # blob name -> its weight in the objective
            top.blob: weight for node in graph.nodes
            for top, weight in zip(node.tops, node.loss_weights, strict=True) if weight}
        self._fits: set[tuple] = set()

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles go without the plan that is kept beside a net (see Plan.of)."""
        return {name: value for name, value in vars(self).items() if name != "_plan"}

    def _register(self, key: str, parameter: nn.Parameter) -> None:
        """Set a parameter under a dotted key; a layer name may hold dots, or be the name of a method."""
        path, _, name = key.rpartition(".")
        module = self._module(path)
        module._parameters[name] = parameter
        self._places[key] = self._place(path), name

    def _module(self, path: str) -> Part:
        """The submodule of a dotted name, which is made if it is not there."""
        module: nn.Module = self
        for name in path.split("."):
            inner = module._modules.get(name)
            if not isinstance(inner, Part):
                inner = module._modules[name] = Part()  # not add_module, which refuses such names
            module = inner
        assert isinstance(module, Part)
        return module

    def _place(self, path: str) -> Place:
        """Where the submodule of a dotted name stands: people put others there."""
        outer, _, name = path.rpartition(".")
        return self._module(outer) if outer or name != path else self, name

    def _part(self, node: Node, numbers: dict[str, int]) -> Place:
        """The place of a layer's submodule. Those of one name, which have no parameters, are numbered, on
        from the last number of that name."""
        number = numbers.get(node.name, 0) + 1
        path = node.name if number == 1 else f"{node.name} ({number})"
        while (part := self._module(path))._node is not None:
            number += 1
            path = f"{node.name} ({number})"
        numbers[node.name] = number
        part._node = node
        part._reads = [(*self._places[slot.key][0], self._places[slot.key][1]) for slot in node.params]
        return self._place(path)

    def parameter(self, slot: Slot) -> nn.Parameter:
        """The tensor of a parameter blob."""
        (outer, path), name = self._places[slot.key]
        found = getattr(outer._modules[path], name, None)
        if found is None:
            kind = type(outer._modules[path]).__name__
            raise Error(f"layer '{slot.layer}' is now {kind}, which has no '{name}'")
        return found

    def share(self, other: "Net") -> None:
        """From now on use the other net's parameters, by layer name; Error if they do not fit."""
        theirs = other.layers_with_params()
        for slot, mine in self.parameters_by_slot():
            if slot.layer not in theirs:
                continue
            found = theirs[slot.layer][slot.index :][:1]
            shapes = [list(p.shape) for p in found]
            if shapes != [list(mine.shape)]:
                raise Error(f"layer '{slot.layer}': parameter {slot.index} is {shapes} in net "
                            f"'{other.graph.name}' and [{list(mine.shape)}] in net '{self.graph.name}', "
                            "so they cannot share it")
            self._register(slot.key, found[0])

    def parameters_by_slot(self) -> list[tuple[Slot, nn.Parameter]]:
        """Every parameter blob of the net with its facts, in the order of the layers."""
        return [(slot, self.parameter(slot)) for slot in self.graph.params]

    def layers_with_params(self) -> dict[str, list[nn.Parameter]]:
        """Layer name -> its parameter blobs in Caffe's order (shared ones under each of their layers)."""
        return {n.name: [self.parameter(s) for s in n.params] for n in self.graph.nodes if n.params}

    @property
    def watched(self) -> bool:
        """Whether somebody looks on, by hooks on the net or a layer or by a module in a layer's place."""
        return _hooked(self) or not all(_alone(_at(place)) for place in self._parts)

    @property
    def device(self) -> torch.device:
        return next((p.device for p in self.parameters()), torch.device("cpu"))

    @property
    def dtype(self) -> torch.dtype:
        return next((p.dtype for p in self.parameters()), torch.float32)

    def forward(self, inputs: Mapping[str, Tensor] | Tensor | None = None, /,
                want: Sequence[str] | None = None, **blobs: Tensor) -> dict[str, Tensor] | Tensor:
        """Run the net.

        inputs: every blob of `graph.inputs`, float32, as a dictionary or by keyword; of a net with one input,
        that tensor. want: the blobs to return (default: the outputs); those with a loss weight are always
        among them. A blob that several layers write in place is returned as the last one left it. Returns a
        dictionary, or for a tensor alone the only output. Raises Error where sizes do not fit, and for a blob
        that is not there.
        """
        for name in blobs:
            if name not in self._inputs:
                raise Error(f"net '{self.graph.name}' has no input '{name}'{closest(name, self._inputs)}")
        given = self._given(blobs if inputs is None else inputs)
        self.graph.check_blobs(want or ())
        wanted = {*(self.graph.outputs if want is None else want), *self.losses}
        found = self._run(given, wanted, len(self._steps))
        alone = isinstance(inputs, Tensor) and want is None and len(found) == 1
        return next(iter(found.values())) if alone else found

    def features(self, inputs: Mapping[str, Tensor] | Tensor, blob: str) -> Tensor:
        """A blob of the net, such as "pool4", for inputs as `forward` takes them; no layer behind it runs.

        Raises Error, with the closest name, if there is none such.
        """
        self.graph.check_blobs([blob])
        makers = [i for i, node in enumerate(self.graph.nodes) for top in node.tops if top.blob == blob]
        return self._run(self._given(inputs, whole=False), {blob}, max(makers, default=-1) + 1)[blob]

    def _given(self, inputs: Mapping[str, Tensor] | Tensor, whole: bool = True) -> dict[str, Tensor]:
        """The net's inputs by blob. Raises Error where they do not fit it; whole: see `check`."""
        names = self._inputs
        if isinstance(inputs, Tensor):
            if len(names) != 1:
                raise Error(f"net '{self.graph.name}' has {len(names)} inputs: {', '.join(names)}; give them "
                            "as a dictionary or by keyword")
            inputs = {names[0]: inputs}
        elif not isinstance(inputs, Mapping):
            raise Error(f"net '{self.graph.name}' takes a tensor or a dictionary of tensors, found "
                        f"{type(inputs).__name__}")
        self.check(inputs, whole)
        return dict(inputs)

    def _run(self, values: dict[str, Tensor], wanted: set[str], end: int) -> dict[str, Tensor]:
        """The blobs that are wanted, after so many layers."""
        device = next((value.device for value in values.values()), self.device)  # it may have no parameters
        with autocast(device, self.precision):
            for place, (node, overwrite, done) in zip(self._parts[:end], self._steps, strict=False):
                part = _at(place)
                bottoms = [values[b.blob] if ok else values[b.blob].detach()
                           for b, ok in zip(node.bottoms, node.propagate, strict=True)]
                alone = overwrite is not None and _alone(part) and _alone(_at(self._parts[overwrite]))
                tops = part(*bottoms, inplace=True) if alone else part(*bottoms)
                if isinstance(tops, Tensor):
                    tops = (tops,)
                if not bottoms:  # a Python layer that makes data does not know the device
                    tops = [top.to(self.device) for top in tops]
                values.update(zip((value.blob for value in node.tops), tops, strict=True))
                for blob in done:
                    if blob not in wanted:
                        del values[blob]
        return {blob: values[blob] for blob in values if blob in wanted}

    def loss(self, blobs: Mapping[str, Tensor]) -> Tensor:
        """The objective: the sum over all tops with a loss_weight of that weight times the top's sum."""
        total = torch.zeros((), device=next((x.device for x in blobs.values()), self.device))
        for blob, weight in self.losses.items():
            total = total + weight * blobs[blob].sum()
        return total

    def check(self, inputs: Mapping[str, Any], whole: bool = True) -> None:
        """Error for tensors or blobs whose sizes do not fit, or take more memory than there is, before any
        arithmetic; every set of sizes is looked at once. whole: all layers run, each on whole blobs."""
        if torch.compiler.is_compiling():  # torch.compile and torch.export: sizes are symbols there
            return
        key = tuple((blob, tuple(inputs[blob].shape)) for blob in self.graph.inputs if blob in inputs)
        if (whole, *key) not in self._fits:
            shapes = self.graph.infer(dict(key))
            if whole:
                self.check_room(shapes)
            self._fits.add((whole, *key))

    def check_room(self, shapes: Mapping[Value, Shape]) -> None:
        """Error where values of these shapes, each held until its last reader is done, are more than the
        device has."""
        size = min((self.precision or self.dtype).itemsize, self.dtype.itemsize)
        check_blobs(held(self.graph, shapes, size), self.graph, self.device)


def autocast(device: torch.device, precision: torch.dtype | None) -> AbstractContextManager[Any]:
    """Products in a precision, in float32 as their numbers come; as it is where none is asked for (whoever
    calls may have) and on meta."""
    if precision is None or not torch.amp.is_autocast_available(device.type):
        return nullcontext()
    return torch.autocast(device.type, precision, enabled=precision != torch.float32)


def _at(place: Place) -> nn.Module:
    """What stands at a place."""
    module = place[0]._modules[place[1]]
    assert module is not None
    return module


def _alone(part: nn.Module) -> bool:
    """Whether nobody looks on, who must find what a layer gave, and it is no module of another's."""
    own = type(part) is Part and "forward" not in vars(part)
    return own and not _hooked(part) and not _has_any_global_hook()


def _hooked(module: nn.Module) -> bool:
    return any((module._forward_hooks, module._forward_pre_hooks, module._backward_hooks,
                module._backward_pre_hooks))


def _steps(graph: Graph) -> list[tuple[Node, int | None, list[str]]]:
    """Of each layer: the node, the number of the one below whose top it may overwrite, if it may, and the
    blobs not needed after it."""
    readers = Counter(b for node in graph.nodes for b in node.bottoms)
    maker = {top: i for i, node in enumerate(graph.nodes) for top in node.tops}
    last = {value.blob: node for node in graph.nodes for value in (*node.bottoms, *node.tops)}
    done = defaultdict(list)
    for blob, node in last.items():
        done[node].append(blob)

    def overwritten(node: Node) -> int | None:
        """No other layer may read that memory, and no gradient."""
        if not node.op.overwrites or not node.tops or node.tops[0].blob != node.bottoms[0].blob:
            return None
        below = maker.get(node.bottoms[0])
        alone = below is not None and readers[node.bottoms[0]] == 1 and graph.nodes[below].op.fresh
        return below if alone else None

    return [(node, overwritten(node), done[node]) for node in graph.nodes]
