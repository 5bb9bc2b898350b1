"""From a NetParameter and a phase to a graph: filter, in-place layers, shapes, shared parameters."""

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ..base.asked import asked
from ..base.errors import Error, closest
from ..base.names import file_of
from ..base.trust import leave
from ..data import arrays, described, detection, listed, lmdb, pairs, segmentation, windows  # noqa: F401
from ..ops import REGISTRY, Context, Operation, Shape, lookup
from ..ops.source import Source
from ..proto import caffe_pb2
from ..proto.caffe_pb2 import LayerParameter, NetParameter, NetState, ParamSpec, Phase
from ..proto.text import layer_lines, read_net
from ..proto.unread import refuse
from ..proto.wire import MOST_AXES, MOST_NUMBERS, possible
from .coords import Values, aligning
from .graph import AUTOMATIC, UNSEEN, Given, Graph, Node, Opaque, Slot, Value


def load(path: str | os.PathLike, phase: Phase = caffe_pb2.TEST, **options: Any) -> Graph:
    """`build` for a prototxt file; relative paths in its layers start from the file's folder too."""
    return build(path, phase, **options)


def build(net: str | os.PathLike | NetParameter, phase: Phase = caffe_pb2.TEST, *, level: int | None = None,
          stages: Iterable[str] = (), shapes: Mapping[str, Shape] | None = None, base: Path | None = None,
          path: Path | None = None, opaque: bool = False) -> Graph:
    """The graph of a net: a NetParameter, a prototxt, or a name such as voc-fcn8s/train.

    level: instead of the net's own. stages are added to those that the net itself states. shapes: blob name
    -> shape, for data layers that are not to be opened (their data then come from the caller) and for Input
    layers of another size. base: where relative paths start; path: the net's file, for errors. opaque: the
    graph is to be looked at, and layers that cannot be built are Opaque. Raises Error for a graph that cannot
    work, naming file, line and layer, and for settings that change numbers and are not computed.
    """
    if not isinstance(net, NetParameter):
        path = file_of(net)
        net = read_net(path)
    stages = list(stages)
    state = state_of(net, phase, level, stages)
    context = Context(phase=state.phase, base=base or (path.resolve().parent if path else None))
    builder = _Builder(context, dict(shapes or {}), path, net, state)
    refuse(net, f"{path or 'the net'}: ", without="layer")
    for layer in standing(net, phase, level, stages, builder.where):
        (builder.look if opaque else builder.add)(layer)
    return builder.finish(net, path)


def standing(net: NetParameter, phase: Phase, level: int | None = None, stages: Iterable[str] = (),
             where: Callable[[LayerParameter], str] = lambda layer: "") -> list[LayerParameter]:
    """The layers that a net's state keeps in a phase, with what they leave to the net around them; level and
    stages as `build` takes them."""
    state = state_of(net, phase, level, stages)
    if asked.stages:
        rules = (rule for layer in net.layer for rule in (*layer.include, *layer.exclude))
        named = {stage for rule in rules for stage in (*rule.stage, *rule.not_stage)}
        for stage in set(asked.stages) - named:
            leave.tell(f"no rule of net '{net.name}' names the stage '{stage}'{closest(stage, named)}")
    kept = [layer for layer in net.layer if included(layer, state, where(layer))]
    return [REGISTRY.get(layer.type, Operation).within(layer, kept) for layer in kept]


def state_of(net: NetParameter, phase: Phase, level: int | None, stages: Iterable[str]) -> NetState:
    """The NetState that a net is built in. Where no level is given (those of solvers give one), what the
    command line asks for (base/asked.py) goes before the phase and the net's own level."""
    if level is None:
        phase = phase if asked.phase is None else caffe_pb2.TEST if asked.phase else caffe_pb2.TRAIN
        level, stages = asked.level, [*stages, *asked.stages]
    state = NetState(phase=phase, level=net.state.level if level is None else level)
    state.stage.extend([*net.state.stage, *stages])
    return state


def included(layer: LayerParameter, state: NetState, where: str = "") -> bool:
    """Whether a layer's include and exclude rules keep it in this NetState (Net::FilterNet)."""
    if layer.include and layer.exclude:
        raise Error(f"{where}layer '{layer.name}': give include rules or exclude rules, not both")
    if layer.include:
        return any(_meets(state, rule) for rule in layer.include)
    return not any(_meets(state, rule) for rule in layer.exclude)


def _meets(state: NetState, rule: caffe_pb2.NetStateRule) -> bool:
    return not (rule.HasField("phase") and rule.phase != state.phase
                or rule.HasField("min_level") and state.level < rule.min_level
                or rule.HasField("max_level") and state.level > rule.max_level
                or set(rule.stage) - set(state.stage)
                or set(rule.not_stage) & set(state.stage))


class _Builder:
    """The state of building one graph, layer by layer."""

    def __init__(self, context: Context, shapes: dict[str, Shape], path: Path | None,
                 net: NetParameter, state: NetState) -> None:
        self.context, self.given, self.path, self.net = context, shapes, path, net
        self.force, self.state = net.force_backward, state
        self.nodes: list[Node] = []
        self.slots: dict[str, Slot] = {}  # by key
        self.named: dict[str, str] = {}  # the name in `param { name: }` -> key
        self.said: dict[str, set[str]] = {}  # key -> the multipliers that some layer gave
        self.current: dict[str, Value] = {}  # blob -> its newest version
        self.unread: set[str] = set()
        self.shapes: dict[Value, Shape] = {}
        self.kept: dict[str, list[tuple[str, Shape]]] = {}  # layer -> keys and shapes of its parameters
        self.overwritten: dict[Value, str] = {}  # value -> the layer that works on it in place
        self.fed: set[str] = set()  # the names in `given` that were met
        self.opaque: dict[str, str] = {}  # layer -> why it could not be built

    @cached_property
    def lines(self) -> dict[str, int]:
        return layer_lines(self.path) if self.path else {}

    def where(self, layer: LayerParameter) -> str:
        return f"{self.path}:{self.lines.get(layer.name, 1)}: " if self.path else ""

    def error(self, layer: LayerParameter, message: str) -> Error:
        return Error(f"{self.where(layer)}layer '{layer.name}' ({layer.type}): {message}")

    def twice(self, layer: LayerParameter) -> Error:
        """Layers may share a name, or have none, where no parameters are only one's own."""
        return self.error(layer, "the net has two layers of this name; parameters are kept by name, "
                          "rename one")

    def look(self, layer: LayerParameter) -> None:
        """`add`, or an Opaque in the place of a layer that cannot be built, or that reads the top of one."""
        known = [self.shapes.get(self.current.get(blob, Value(""))) for blob in layer.bottom]
        if not any(shape is UNSEEN for shape in known):
            try:
                self.add(layer)
                return
            except Error as e:
                self.opaque[layer.name] = str(e)
        self.blind(layer)

    def blind(self, layer: LayerParameter) -> None:
        """Add a layer as Opaque, whatever is wrong with it."""
        for blob in dict.fromkeys(layer.bottom):
            if blob not in self.current:  # from nowhere
                self.blind(LayerParameter(name=blob, type="?", top=[blob]))
        bottoms = tuple(self.current[blob] for blob in layer.bottom)
        self.unread.difference_update(layer.bottom)
        tops = []
        for blob in layer.top:
            old = self.current.get(blob)
            self.current[blob] = Value(blob) if old is None else Value(blob, old.version + 1)
            tops.append(self.current[blob])
        self.shapes.update(dict.fromkeys(tops, UNSEEN))
        self.unread.update(layer.top)
        op = Opaque(layer, (UNSEEN,) * len(bottoms), self.context)
        self.nodes.append(Node(op, bottoms, tuple(tops), (), (0.0,) * len(tops), (False,) * len(bottoms)))

    def add(self, layer: LayerParameter) -> None:
        context = replace(self.context, where=self.where(layer))
        if layer.HasField("phase"):
            context = replace(context, phase=layer.phase)
        bottoms = tuple(self.read(layer, blob) for blob in layer.bottom)
        given = not bottoms and layer.top and all(blob in self.given for blob in layer.top)
        cls = Given if given else lookup(layer, context.where)
        if not given:
            refuse(layer, f"{context.where}layer '{layer.name}' ({layer.type}): ")
        if cls.aligned:
            layer = self.crop(layer, bottoms)
            cls = lookup(layer)
        automatic = cls.loss and not layer.top  # its loss counts all the same, as a blob that is no output
        if automatic:
            layer = deepcopy(layer)
            taken = layer.name + AUTOMATIC in self.current  # two layers of one name, or of none
            layer.top.append(layer.name + (f" {len(self.nodes)}" if taken else "") + AUTOMATIC)
        op = cls(layer, [self.shapes[b] for b in bottoms], context)
        slots = tuple(self.slot(op, i) for i in range(len(op.params)))
        kept = [(slot.key, param.shape) for slot, param in zip(slots, op.params, strict=True)]
        if self.kept.setdefault(layer.name, kept) != kept:
            raise self.twice(layer)
        if len(layer.param) > len(slots):
            raise op.error(f"has {len(layer.param)} param for {len(slots)} parameters")
        shapes = self.top_shapes(op, bottoms)
        tops = tuple(self.write(layer, i) for i in range(len(layer.top)))
        if automatic:
            self.unread.discard(layer.top[0])
        self.shapes.update(zip(tops, map(tuple, shapes), strict=True))
        self.nodes.append(Node(op, bottoms, tops, slots, _loss_weights(op), self.propagate(op)))

    def crop(self, layer: LayerParameter, bottoms: Sequence[Value]) -> LayerParameter:
        """The Crop that a layer stands for whose offset follows from the layers above."""
        new = deepcopy(layer)
        new.type = "Crop"
        if len(bottoms) == 2:
            try:
                axis, offset = aligning(bottoms[0], bottoms[1], Values(self.nodes))
            except Error as e:
                raise self.error(layer, str(e)) from None
            new.crop_param.CopyFrom(caffe_pb2.CropParameter(axis=axis, offset=offset))
        return new

    def top_shapes(self, op: Operation, bottoms: Sequence[Value]) -> list[Shape]:
        """What the caller gave, else what the operation says."""
        given = [blob for blob in op.layer.top if blob in self.given and not bottoms]
        self.fed.update(given)
        shapes = ([self.given[blob] for blob in given] if isinstance(op, Given) else
                  op.infer(*(self.shapes[b] for b in bottoms)))
        if given and not (isinstance(op, Source) and op.fed):
            raise op.error(f"got a shape for '{given[0]}' from outside but not for its other tops; "
                           "give all or none")
        tops = {blob: self.given[blob] if blob in given else shape
                for blob, shape in zip(op.layer.top, shapes, strict=True)}
        for blob, shape in tops.items():
            _check_possible(op, f"top '{blob}'", shape)
        return [*tops.values()]

    def read(self, layer: LayerParameter, blob: str) -> Value:
        if blob not in self.current:
            near = closest(blob, self.current)
            apart = (x.name for x in self.net.layer if blob in x.top and not included(x, self.state))
            if name := next(apart, ""):
                near = f"; layer '{name}' makes it in another phase, level or stage"
            raise self.error(layer, f"bottom '{blob}' is no top of a layer above{near}")
        self.unread.discard(blob)
        return self.current[blob]

    def write(self, layer: LayerParameter, index: int) -> Value:
        blob = layer.top[index]
        old = self.current.get(blob)
        if old is not None and (index >= len(layer.bottom) or layer.bottom[index] != blob):
            raise self.error(layer, f"top '{blob}' is there already, made above; "
                             "give this one a name of its own")
        if old is not None:
            self.overwritten[old] = layer.name
        self.current[blob] = Value(blob) if old is None else Value(blob, old.version + 1)
        self.unread.add(blob)
        return self.current[blob]

    def slot(self, op: Operation, index: int) -> Slot:
        """The slot of a parameter: a new one, or the one its `param { name: }` shares (Net::AppendParam)."""
        layer, param = op.layer, op.params[index]
        _check_possible(op, f"parameter {index}", param.shape)
        spec = layer.param[index] if index < len(layer.param) else ParamSpec()
        said = {field for field in ("lr_mult", "decay_mult") if spec.HasField(field)}
        if spec.name and spec.name in self.named:
            return self.shared(op, spec, param.shape, said)
        key = f"{layer.name}.{('weight', 'bias')[index] if len(op.params) <= 2 else index}"
        if key in self.slots:
            raise self.twice(layer)
        slot = Slot(key, layer.name, index, param.shape, param.filler, spec.lr_mult, spec.decay_mult)
        if spec.name:
            self.named[spec.name] = key
        self.slots[key], self.said[key] = slot, said
        return slot

    def shared(self, op: Operation, spec: ParamSpec, shape: Shape, said: set[str]) -> Slot:
        """The slot of the layer that shares its parameter with this one; said: the multipliers given here."""
        owner = self.slots[self.named[spec.name]]
        permissive = spec.share_mode == ParamSpec.PERMISSIVE
        if owner.shape != shape and not (permissive and math.prod(owner.shape) == math.prod(shape)):
            raise op.error(f"shares parameter '{spec.name}' with layer '{owner.layer}', which has shape "
                           f"{list(owner.shape)}, but needs {list(shape)}")
        for field in said:
            mine, theirs = getattr(spec, field), getattr(owner, field)
            if field in self.said[owner.key] and mine != theirs:
                raise op.error(f"gives the shared parameter '{spec.name}' {field} {mine:g}, layer "
                               f"'{owner.layer}' gave {theirs:g}; a shared parameter has one")
            owner = replace(owner, **{field: mine})  # whoever says it first, says it for all
        self.said[owner.key] |= said
        self.slots[owner.key] = owner
        return owner

    def propagate(self, op: Operation) -> tuple[bool, ...]:
        told, bottoms = op.layer.propagate_down, op.layer.bottom
        if told and len(told) != len(bottoms):
            raise op.error(f"has {len(told)} propagate_down for {len(bottoms)} bottoms")
        allowed = told if told and not self.force else [True] * len(bottoms)  # force_backward overrules
        return tuple(i not in op.undifferentiable and ok for i, ok in enumerate(allowed))

    def finish(self, net: NetParameter, path: Path | None) -> Graph:
        for blob in sorted(set(self.given) - self.fed) if not self.opaque else ():
            if blob in self.current:
                raise Error(f"net '{net.name}' computes blob '{blob}'; only data layers can be given a shape")
            near = closest(blob, self.current)
            raise Error(f"net '{net.name}' has no blob '{blob}' to give a shape to{near}")
        for node in self.nodes:
            for top, weight in zip(node.tops, node.loss_weights, strict=True):
                if weight and top in self.overwritten:
                    raise node.op.error(f"its loss '{top.blob}' is overwritten in place by layer "
                                        f"'{self.overwritten[top]}'; give that layer's top a name of its own")
        nodes = tuple(replace(node, params=tuple(self.slots[slot.key] for slot in node.params))
                      for node in self.nodes)
        params, outputs = tuple(self.slots.values()), tuple(sorted(self.unread))
        return Graph(net.name, self.context.phase, nodes, params, outputs, self.shapes, path, net,
                     self.opaque)


def _check_possible(op: Operation, what: str, shape: Shape) -> None:
    """Error for a shape that no blob can have, before anything is allocated."""
    if not possible(shape):
        raise op.error(f"{what} would have shape {list(shape)}; sizes are 0 or more, and a blob has at most "
                       f"{MOST_AXES} axes and {MOST_NUMBERS} numbers")


def _loss_weights(op: Operation) -> tuple[float, ...]:
    layer = op.layer
    if layer.loss_weight and len(layer.loss_weight) != len(layer.top):
        raise op.error(f"has {len(layer.loss_weight)} loss_weight for {len(layer.top)} tops")
    if layer.loss_weight:
        return tuple(layer.loss_weight)
    return tuple(float(op.loss and i == 0) for i in range(len(layer.top)))
