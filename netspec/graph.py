"""From a NetParameter and a phase to an immutable graph: filtered, in-place made explicit, every shape known."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from . import datasets, prototext, sources  # noqa: F401 - datasets: so that its readers are importable by name
from .errors import Error, closest
from .ops import Context, Operation, Shape, lookup
from .proto import caffe_pb2


class Value(NamedTuple):
    """A blob at one point of the net: an in-place layer makes version 1 of a name out of version 0."""

    blob: str
    version: int = 0


@dataclass(frozen=True)
class Slot:
    """A parameter blob of the net: its key in `state_dict`, shape, filler and multipliers."""

    key: str
    layer: str
    index: int
    shape: Shape
    filler: Any
    lr_mult: float
    decay_mult: float


@dataclass(frozen=True)
class Node:
    """One layer in its place. `params` are the slots it reads, its own or a sharing layer's."""

    op: Operation
    bottoms: tuple[Value, ...]
    tops: tuple[Value, ...]
    params: tuple[Slot, ...]
    loss_weights: tuple[float, ...]
    propagate: tuple[bool, ...]  # for each bottom: may a gradient pass

    @property
    def name(self) -> str:
        return self.op.layer.name

    @property
    def type(self) -> str:
        return self.op.layer.type


@dataclass(frozen=True)
class Graph:
    """A net in one phase. `sources` give the blobs that `nodes`, in order, turn into `outputs`."""

    name: str
    phase: int
    sources: tuple[Node, ...]
    nodes: tuple[Node, ...]
    params: tuple[Slot, ...]
    outputs: tuple[str, ...]  # blobs that no layer reads, in alphabetical order, as Caffe lists them
    shapes: Mapping[Value, Shape]
    path: Path | None = None

    @property
    def inputs(self) -> tuple[str, ...]:
        """The blobs that come from outside."""
        return tuple(top.blob for node in self.sources for top in node.tops)

    def infer(self, inputs: Mapping[str, Shape]) -> dict[Value, Shape]:
        """The shape of every value for inputs of these shapes; Error at the layer where they do not fit."""
        shapes = {Value(blob): tuple(shape) for blob, shape in inputs.items()}
        for node in self.nodes:
            shapes.update(zip(node.tops, node.op.infer(*(shapes[b] for b in node.bottoms)), strict=True))
        return shapes

    def shape(self, blob: str) -> Shape:
        """The shape of a blob as it leaves the net (its last version)."""
        return self.shapes[max((v for v in self.shapes if v.blob == blob), key=lambda v: v.version)]

    def node(self, name: str) -> Node:
        """The layer of this name; Error with the closest one if there is none."""
        for node in (*self.sources, *self.nodes):
            if node.name == name:
                return node
        names = [n.name for n in (*self.sources, *self.nodes)]
        raise Error(f"net '{self.name}' has no layer '{name}'{closest(name, names)}")


class Given(Operation):
    """Stands for a source whose shapes the caller gave: its data come from the caller too."""

    bottoms = (0, None)
    tops = (0, None)
    fed = True


def load(path: str | os.PathLike, phase: int = caffe_pb2.TEST, **options: Any) -> Graph:
    """`build` for a prototxt file; relative paths in its layers start from the file's folder too."""
    path = Path(path)
    return build(prototext.read_net(path), phase, path=path, **options)


def build(
    net: Any,
    phase: int = caffe_pb2.TEST,
    *,
    level: int = 0,
    stages: Iterable[str] = (),
    shapes: Mapping[str, Shape] | None = None,
    base: Path | None = None,
    path: Path | None = None,
) -> Graph:
    """The graph of a NetParameter.

    shapes: blob name -> shape, for data layers that are not to be opened (their data then come from the
    caller) and for Input layers of another size. base: where relative paths start; path: the net's file, for
    errors. Raises Error for a graph that cannot work, naming file, line and layer.
    """
    state = caffe_pb2.NetState(phase=phase, level=level, stage=list(stages))
    context = Context(phase=phase, base=base or (path.resolve().parent if path else None))
    builder = _Builder(context, dict(shapes or {}), path)
    for layer in net.layer:
        if included(layer, state, builder.where(layer)):
            builder.add(layer)
    return builder.finish(net.name, path)


def included(layer: Any, state: Any, where: str = "") -> bool:
    """Whether a layer's include and exclude rules keep it in this NetState (Net::FilterNet)."""
    if layer.include and layer.exclude:
        raise Error(f"{where}layer '{layer.name}': give include rules or exclude rules, not both")
    if layer.include:
        return any(_meets(state, rule) for rule in layer.include)
    return not any(_meets(state, rule) for rule in layer.exclude)


def _meets(state: Any, rule: Any) -> bool:
    return not (
        (rule.HasField("phase") and rule.phase != state.phase)
        or (rule.HasField("min_level") and state.level < rule.min_level)
        or (rule.HasField("max_level") and state.level > rule.max_level)
        or set(rule.stage) - set(state.stage)
        or set(rule.not_stage) & set(state.stage)
    )


@lru_cache(maxsize=8)
def _lines(path: Path) -> dict[str, int]:
    return prototext.layer_lines(path)


class _Builder:
    """The state of building one graph, layer by layer."""

    def __init__(self, context: Context, shapes: dict[str, Shape], path: Path | None) -> None:
        self.context, self.given, self.path = context, shapes, path
        self.sources: list[Node] = []
        self.nodes: list[Node] = []
        self.slots: list[Slot] = []
        self.named: dict[str, Slot] = {}  # by the name in `param { name: }`
        self.current: dict[str, Value] = {}  # blob -> its newest version
        self.unread: set[str] = set()
        self.shapes: dict[Value, Shape] = {}
        self.layers: set[str] = set()

    def where(self, layer: Any) -> str:
        if self.path is None:
            return ""
        return f"{self.path}:{_lines(self.path).get(layer.name, 1)}: "

    def error(self, layer: Any, message: str) -> Error:
        return Error(f"{self.where(layer)}layer '{layer.name}' ({layer.type}): {message}")

    def add(self, layer: Any) -> None:
        if layer.name in self.layers:
            raise self.error(layer, "the net has two layers of this name; parameters are kept by name, rename one")
        self.layers.add(layer.name)
        context = replace(self.context, where=self.where(layer))
        if layer.HasField("phase"):
            context = replace(context, phase=layer.phase)
        bottoms = tuple(self.read(layer, blob) for blob in layer.bottom)
        given = not bottoms and layer.top and all(blob in self.given for blob in layer.top)
        cls = Given if given else lookup(layer, context.where)
        source = cls is Given or issubclass(cls, sources.Source)
        automatic = cls.loss and not layer.top  # its loss counts all the same, as a blob that is no output
        if automatic:
            layer = type(layer).FromString(layer.SerializeToString())
            layer.top.append(f"{layer.name} (automatic)")
        op = cls(layer, [self.shapes[b] for b in bottoms], context)
        slots = tuple(self.slot(op, i) for i in range(len(op.params)))
        if source and len(layer.top):
            tops_shapes = [self.given[t] for t in layer.top] if given else op.shapes()
        else:
            tops_shapes = op.infer(*(self.shapes[b] for b in bottoms))
        tops = tuple(self.write(layer, i) for i in range(len(layer.top)))
        if automatic:
            self.unread.discard(layer.top[0])
        self.shapes.update(zip(tops, map(tuple, tops_shapes), strict=True))
        node = Node(op, bottoms, tops, slots, self.loss_weights(op), self.propagate(op))
        (self.sources if source else self.nodes).append(node)

    def read(self, layer: Any, blob: str) -> Value:
        if blob not in self.current:
            raise self.error(layer, f"bottom '{blob}' is no top of a layer above{closest(blob, self.current)}")
        self.unread.discard(blob)
        return self.current[blob]

    def write(self, layer: Any, index: int) -> Value:
        blob = layer.top[index]
        old = self.current.get(blob)
        if old is not None and (index >= len(layer.bottom) or layer.bottom[index] != blob):
            raise self.error(layer, f"top '{blob}' is the top of another layer already")
        self.current[blob] = Value(blob) if old is None else Value(blob, old.version + 1)
        self.unread.add(blob)
        return self.current[blob]

    def slot(self, op: Operation, index: int) -> Slot:
        """The slot of a parameter: a new one, or the one its `param { name: }` shares (Net::AppendParam)."""
        layer, param = op.layer, op.params[index]
        names = ("weight", "bias") if len(op.params) <= 2 else tuple(map(str, range(len(op.params))))
        spec = layer.param[index] if index < len(layer.param) else caffe_pb2.ParamSpec()
        slot = Slot(f"{layer.name}.{names[index]}", layer.name, index, param.shape, param.filler,
                    spec.lr_mult, spec.decay_mult)
        owner = self.named.get(spec.name) if spec.name else None
        if owner is None:
            if spec.name:
                self.named[spec.name] = slot
            self.slots.append(slot)
            return slot
        if owner.shape != param.shape:
            raise op.error(f"shares parameter '{spec.name}' with layer '{owner.layer}', which has shape "
                           f"{list(owner.shape)}, but needs {list(param.shape)}")
        for field in ("lr_mult", "decay_mult"):
            if spec.HasField(field) and getattr(spec, field) != getattr(owner, field):
                raise op.error(f"gives the shared parameter '{spec.name}' {field} {getattr(spec, field):g}, "
                               f"layer '{owner.layer}' gave {getattr(owner, field):g}")
        return owner

    def loss_weights(self, op: Operation) -> tuple[float, ...]:
        layer = op.layer
        if layer.loss_weight and len(layer.loss_weight) != len(layer.top):
            raise op.error(f"has {len(layer.loss_weight)} loss_weight for {len(layer.top)} tops")
        if layer.loss_weight:
            return tuple(layer.loss_weight)
        return tuple(float(op.loss and i == 0) for i in range(len(layer.top)))

    def propagate(self, op: Operation) -> tuple[bool, ...]:
        told = op.layer.propagate_down
        if told and len(told) != len(op.layer.bottom):
            raise op.error(f"has {len(told)} propagate_down for {len(op.layer.bottom)} bottoms")
        return tuple(i not in op.undifferentiable and (not told or told[i]) for i in range(len(op.layer.bottom)))

    def finish(self, name: str, path: Path | None) -> Graph:
        unknown = set(self.given) - set(self.current)
        if unknown:
            blob = min(unknown)
            raise Error(f"net '{name}' has no blob '{blob}' to give a shape to{closest(blob, self.current)}")
        outputs = tuple(sorted(self.unread))
        return Graph(name, self.context.phase, tuple(self.sources), tuple(self.nodes), tuple(self.slots),
                     outputs, self.shapes, path)
