"""From a graph to a `torch.nn.Module`."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..base.errors import Error
from ..ops.fillers import fill
from .graph import Graph, Node, Slot, Value


class _Module(nn.Module):
    """A module whose parts may have any name: a layer called "training" must not hide the mode."""

    def train(self, mode: bool = True) -> Any:
        self.__dict__["training"] = mode
        for part in self.children():
            part.train(mode)
        return self


class Net(_Module):
    """A graph that runs.

    `net(inputs)` maps blob names to tensors, in and out; `state_dict()` has one entry a parameter blob,
    LAYER.weight and LAYER.bias (LAYER.0, LAYER.1, ... where there are more). Images may change size from call
    to call. `precision` (None: float32; torch.bfloat16, torch.float16) is that of convolutions and products,
    never of losses or parameters.
    """

    def __init__(self, graph: Graph, share: "Net | None" = None,
                 generator: torch.Generator | None = None) -> None:
        """share: a net whose parameters are used, not copied, by layer name. generator: for fillers."""
        super().__init__()
        self.graph = graph
        self.precision: torch.dtype | None = None
        self._places: dict[str, tuple[nn.Module, str]] = {}
        shared = share.layers_with_params() if share else {}
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
        self._steps = _steps(graph)
        self.losses: Mapping[str, float] = {  # blob name -> its weight in the objective
            top.blob: weight for node in graph.nodes
            for top, weight in zip(node.tops, node.loss_weights, strict=True) if weight}
        self._fits: set[tuple] = set()

    def _register(self, key: str, parameter: nn.Parameter) -> None:
        """Set a parameter under a dotted key; a layer name may hold dots, or be the name of a method."""
        module: nn.Module = self
        *path, name = key.split(".")
        for part in path:  # not add_module, which refuses such names
            inner = module._modules.get(part)
            if inner is None:
                inner = module._modules[part] = _Module()
            module = inner
        module._parameters[name] = parameter
        self._places[key] = module, name

    def parameter(self, slot: Slot) -> nn.Parameter:
        """The tensor of a parameter blob."""
        module, name = self._places[slot.key]
        found = module._parameters[name]
        assert found is not None
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
    def device(self) -> torch.device:
        return next((p.device for p in self.parameters()), torch.device("cpu"))

    def forward(self, inputs: Mapping[str, Tensor], want: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Run the net.

        inputs: every blob of `graph.inputs`, float32. want: the blobs to return (default: the outputs); those
        with a loss weight are always among them. A blob that several layers write in place is returned as the
        last one left it. Raises Error where sizes do not fit, and for a blob that is not there.
        """
        self._check(inputs)
        self.graph.check_blobs(want or ())
        wanted = {*(self.graph.outputs if want is None else want), *self.losses}
        values: dict[str, Tensor] = dict(inputs)
        with torch.autocast(self.device.type, self.precision, enabled=self.precision is not None):
            for node, overwrite, done in self._steps:
                tops = self._run(node, values, {"inplace": True} if overwrite else {})
                values.update(zip((value.blob for value in node.tops), tops, strict=True))
                for blob in done:
                    if blob not in wanted:
                        del values[blob]
        return {blob: values[blob] for blob in values if blob in wanted}

    def _run(self, node: Node, values: Mapping[str, Tensor], options: Mapping[str, bool]) -> Sequence[Tensor]:
        """The tops of a layer."""
        bottoms = [values[b.blob] if ok else values[b.blob].detach()
                   for b, ok in zip(node.bottoms, node.propagate, strict=True)]
        params: list[Tensor] = [self.parameter(slot) for slot in node.params]
        for i, (slot, own) in enumerate(zip(node.params, node.op.params, strict=True)):
            if slot.shape != own.shape:  # see share_mode
                params[i] = params[i].reshape(own.shape)
        tops = node.op.forward(bottoms, params, **options)
        if isinstance(tops, Tensor):
            tops = (tops,)
        if not bottoms:  # a Python layer that makes data does not know the device
            tops = [top.to(self.device) for top in tops]
        return tops

    def loss(self, blobs: Mapping[str, Tensor]) -> Tensor:
        """The objective: the sum over all tops with a loss_weight of that weight times the top's sum."""
        total = torch.zeros((), device=self.device)
        for blob, weight in self.losses.items():
            total = total + weight * blobs[blob].sum()
        return total

    def _check(self, inputs: Mapping[str, Tensor]) -> None:
        """Refuse sizes that do not fit before any arithmetic; every set of sizes is looked at once."""
        if torch.compiler.is_compiling():  # torch.compile and torch.export: sizes are symbols there
            return
        key = tuple((blob, tuple(inputs[blob].shape)) for blob in self.graph.inputs if blob in inputs)
        if key not in self._fits:
            self.graph.infer(dict(key))
            self._fits.add(key)


def _steps(graph: Graph) -> list[tuple[Node, bool, list[str]]]:
    """Of each layer: the node, whether it may overwrite its bottom, the blobs not needed after it."""
    readers = Counter(b for node in graph.nodes for b in node.bottoms)
    maker = {top: node for node in graph.nodes for top in node.tops}
    last = {value.blob: node for node in graph.nodes for value in (*node.bottoms, *node.tops)}
    done = defaultdict(list)
    for blob, node in last.items():
        done[node].append(blob)
    return [(node, _overwrites(node, readers, maker), done[node]) for node in graph.nodes]


def _overwrites(node: Node, readers: Mapping[Value, int], maker: Mapping[Value, Node]) -> bool:
    """Whether an in-place layer may reuse its bottom's memory: no other layer reads it, and no gradient."""
    if not node.op.overwrites or not node.tops or node.tops[0].blob != node.bottoms[0].blob:
        return False
    producer = maker.get(node.bottoms[0])
    return producer is not None and readers[node.bottoms[0]] == 1 and producer.op.fresh
