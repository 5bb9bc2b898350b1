"""A net as it is run for its results alone: rewritten, each rewrite equal to the net but for rounding."""

import math
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from threading import Lock
from typing import TypeVar

import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook

from ..base.errors import Error
from ..ops import Shape
from ..proto.caffe_pb2 import TRAIN
from .border import Small, smaller
from .graph import Node, Slot, Value
from .kernels import LARGE, Kernel, ready
from .module import Net, _at, autocast
from .passes import REWRITES, Unit, units
from .regions import Rect
from .room import check_blobs
from .route import Route, Stage, lay

Made = TypeVar("Made")
ROUTES = 64  # sizes of images whose routes are kept
BORDERS = 16  # remainders of sizes whose borders are kept, each some megabytes
SOME = 4  # numbers of a parameter along each axis, at most, that tell of changes that torch does not count
BESIDE = 650_000_000  # bytes: Python, its libraries, what layers need for themselves, what is not given back
STEPS = [0]  # of all of torch's optimizers so far: it does not count what the fused ones write
WORTH = 0.95  # of a pass's multiplications are left, or less, where the border is worth it


class Plan:
    """A net to be called for blobs, like it, where no gradient is asked for.

    `plan(inputs, want)` gives what `net(inputs, want)` gives, but for rounding. Weights are made ready at the
    first call and again when a parameter has changed. Where it can't stand for the net (gradients, training,
    hooks on layers or other modules in their place, numbers that are not finite) the net runs. One call runs
    at a time. Of a parameter on another device than a CPU it does not see what is written through `.data`.
    """

    def __init__(self, net: Net, without: Collection[str] = ()) -> None:
        """without: names of `REWRITES` that are not done."""
        self.net, self.graph = net, net.graph
        self.rewrites = frozenset(REWRITES) - frozenset(without)
        self._parts = dict(zip(net.graph.nodes, net._parts, strict=True))
        self._units: dict[frozenset[Value], list[Unit]] = {}
        self._kernels: dict[Hashable, tuple[Hashable, Kernel | None]] = {}
        self._routes: OrderedDict[Hashable, tuple[Route, Small | None]] = OrderedDict()
        self._borders: OrderedDict[Hashable, tuple[Hashable, dict[Value, Tensor]]] = OrderedDict()
        self._pasted: tuple[Route, Hashable, dict[Value, Tensor]] | None = None
        self._seen: Hashable = None  # the marks of all parameters at the last call
        self._some: list[Tensor] = []  # views of parts of all parameters, whose memory so stays theirs
        self._were: list[Tensor] = []  # those parts' numbers then ...
        self._changes = 0  # ... and changes seen by them
        self._sound = True  # whether those were all finite
        self._fresh: set[Hashable] = set()  # of units whose kernels were looked at since those changed
        self._lock = Lock()

    @classmethod
    def of(cls, net: Net) -> "Plan":
        """The plan that is kept beside a net, with its weights ready."""
        if "_plan" not in vars(net):
            vars(net)["_plan"] = cls(net)
        return vars(net)["_plan"]

    def __reduce__(self) -> tuple[type["Plan"], tuple[Net, frozenset[str]]]:
        """A copy makes its weights ready for itself."""
        return type(self), (self.net, frozenset(REWRITES) - self.rewrites)

    @property
    def device(self) -> torch.device:
        return self.net.device

    @property
    def dtype(self) -> torch.dtype:
        return self.net.dtype

    @property
    def losses(self) -> Mapping[str, float]:
        return self.net.losses

    def loss(self, blobs: Mapping[str, Tensor]) -> Tensor:
        return self.net.loss(blobs)

    @property
    def _size(self) -> int:
        """Bytes of a number of most maps."""
        return (self.net.precision or self.dtype).itemsize

    def __call__(self, inputs: Mapping[str, Tensor], want: Sequence[str] | None = None) -> dict[str, Tensor]:
        """The blobs that are wanted (default: the outputs), as Net.forward gives them."""
        net = self.net
        trains = torch.is_grad_enabled() or net.training or self.graph.phase == TRAIN
        if trains or net.watched:
            return self._plain(inputs, want)
        given = net._given(inputs, whole=False)
        self.graph.check_blobs(want or ())
        last = {v.blob: v for v in self.graph.shapes}  # a later version of a name stands behind the earlier
        asked = self.graph.outputs if want is None else want
        wanted = {last[blob]: blob for blob in (*asked, *self.losses)}
        values = {Value(blob): given[blob] for blob in self.graph.inputs}
        with self._lock:
            self._look()
            if self._sound and all(x.numel() for x in given.values()) and _finite(given.values()):
                way = self._route(frozenset(wanted), {v: tuple(x.shape) for v, x in values.items()})
                check_blobs(self._size * way[0].most, self.graph, self.device)
                values = self._run(way, values)
                return {blob: self._own(values[value]) for value, blob in wanted.items()}
        return self._plain(inputs, want)

    def needs(self, inputs: Mapping[str, Shape], want: Iterable[str]) -> int:
        """About how many bytes of memory a process takes at most for these blobs of inputs of these shapes:
        weights, those of them that are kept in another order too, inputs and maps, and BESIDE."""
        wanted = frozenset(self.graph.newest[blob] for blob in want)
        route, _ = self._lay(wanted, {Value(blob): shape for blob, shape in inputs.items()})
        weights = [math.prod(slot.shape) for slot in self.graph.params]
        packed = sum(numbers for numbers in weights if numbers < LARGE)
        read = sum(map(math.prod, inputs.values()))
        return self.dtype.itemsize * (sum(weights) + packed + read) + self._size * route.most + BESIDE

    def left(self, shapes: Mapping[str, Shape]) -> float:
        """Of all multiplications from inputs of these shapes to the outputs, the part that is done."""
        return self._outward(shapes)[0].ratio

    def laid(self, shapes: Mapping[str, Shape]) -> tuple[Route, dict[Value, Tensor]]:
        """The way from inputs of these shapes to the outputs, and what is around the image's part of each map
        on it that is put together."""
        with self._lock:
            self._look()
            route, small = self._outward(shapes)
            zeros = {Value(blob): torch.zeros(shape, dtype=self.dtype, device=self.device)
                     for blob, shape in shapes.items()}
            return route, self._buffers(route, small, zeros) if small else {}

    def part(self, shapes: Mapping[str, Shape], blob: str, part: Rect) -> Route:
        """The way to a part of a map, where inputs of these shapes would give the whole; what of each input
        it needs, the route's `held` says. The way ends at the rim of an input where the map does: there is
        padding as ever, and nowhere else.

        Raises Error at a layer whose top at a place is made of more than what lies around it.
        """
        value = self.graph.newest[blob]
        made = self._leading([value])
        for unit in made:
            if unit.sights is None:
                raise Error(f"layer '{unit.node.name}' ({unit.node.type}) of net '{self.graph.name}' needs "
                            f"all of '{unit.bottoms[0].blob}', so '{blob}' cannot be computed part by part")
        rewrites = self.rewrites - {"border"} | {"crop"}
        inputs = [Value(name) for name in shapes]
        return lay(made, self.graph.infer(shapes), [value], inputs, rewrites, self._size, part)

    def along(self, route: Route, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What a route of `part` gives of the parts of the inputs that it needs. Raises Error where weights
        are no numbers."""
        with self._lock, torch.inference_mode():
            self._look()
            if not self._sound:
                raise Error(f"net '{self.graph.name}' has weights that are no finite numbers; 'netspec "
                            "doctor NET WEIGHTS' says which")
            values = {Value(blob): x for blob, x in inputs.items()}
            return {value.blob: x for value, x in self._run((route, None), values).items()}

    def _outward(self, shapes: Mapping[str, Shape]) -> tuple[Route, Small | None]:
        last = {v.blob: v for v in self.graph.shapes}
        wanted = frozenset(last[blob] for blob in self.graph.outputs)
        return self._route(wanted, {Value(blob): shape for blob, shape in shapes.items()})

    def _look(self) -> None:
        """See whether parameters have changed: by what torch counts, and in a CPU's memory by some of their
        numbers, since it does not count what is written through `.data` or NumPy. Elsewhere the host would
        wait for those numbers at every call."""
        marks = self._marked(self.graph.params)
        if marks == self._seen and all(map(torch.equal, _numbers(self._some), self._were)):
            return
        parameters = [self.net.parameter(slot).detach() for slot in self.graph.params]
        self._some = [p[tuple(slice(None, None, max(1, -(-n // SOME))) for n in p.shape)] for p in parameters]
        self._were, self._sound = _numbers(self._some), _finite(parameters)
        self._changes += marks == self._seen
        self._seen = self._marked(self.graph.params)
        self._fresh.clear()

    def _plain(self, inputs: Mapping[str, Tensor], want: Sequence[str] | None) -> dict[str, Tensor]:
        """What the net itself gives."""
        found = Net.forward(self.net, inputs, want)
        assert isinstance(found, dict)
        return found

    def _own(self, x: Tensor) -> Tensor:
        """A result in memory that no later call writes to."""
        kept = self._pasted[2].values() if self._pasted else ()
        memory = x.untyped_storage().data_ptr()
        return x.clone() if any(memory == buffer.untyped_storage().data_ptr() for buffer in kept) else x

    def _route(self, wanted: frozenset[Value], shapes: Mapping[Value, Shape]) -> tuple[Route, Small | None]:
        """The way to what is wanted for inputs of these shapes."""
        return _kept(self._routes, (wanted, *shapes.items()), ROUTES, lambda: self._lay(wanted, shapes))

    def _lay(self, wanted: frozenset[Value], inputs: Mapping[Value, Shape]) -> tuple[Route, Small | None]:
        made, shapes = self._leading(wanted), self.graph.infer({v.blob: shape for v, shape in inputs.items()})
        route = lay(made, shapes, wanted, [*inputs], self.rewrites, self._size)
        if not route.pasted:
            return route, None
        small, image = None, self._image(route, inputs)
        if image is not None and route.ratio < WORTH:
            small = smaller(self._leading(route.pasted), shapes, image, route.pasted)
        if small is None:
            route = lay(made, shapes, wanted, [*inputs], self.rewrites - {"border"}, self._size)
        return route, small

    def _leading(self, values: Collection[Value]) -> list[Unit]:
        """The units that lead to some values."""
        key = frozenset(values)
        if key not in self._units:
            self._units[key] = units(self.graph, key, self.rewrites)
        return self._units[key]

    def _image(self, route: Route, inputs: Mapping[Value, Shape]) -> Value | None:
        """The one input that pasted maps are made of."""
        leading = self._leading(route.pasted)
        read = {b for unit in leading for b in unit.bottoms} & {*inputs}
        return read.pop() if len(read) == 1 else None

    def _run(self, way: tuple[Route, Small | None], values: dict[Value, Tensor]) -> dict[Value, Tensor]:
        route, small = way
        buffers = self._buffers(route, small, values) if small else {}
        for stage in route.stages:
            self._step(stage, values, buffers)
        return values

    def _step(self, stage: Stage, values: dict[Value, Tensor], buffers: Mapping[Value, Tensor]) -> None:
        """One unit of a pass, or in bands several."""
        buffer = buffers.get(stage.unit.tops[0]) if stage.unit.tops else None
        if stage.bands:
            tops: Sequence[Tensor] = [self._bands(stage, values, buffer)]
        else:
            tops = self._tops(stage, values)
            if stage.paste and buffer is not None:
                buffer[stage.paste] = tops[0]
                tops = [buffer]
        values.update(zip(stage.unit.tops, tops, strict=True))
        for value in stage.done:
            values.pop(value, None)

    def _tops(self, stage: Stage, values: Mapping[Value, Tensor]) -> Sequence[Tensor]:
        """What a unit makes of the parts of its bottoms."""
        unit = stage.unit
        kernel = self._kernel(unit)
        # those of which the size alone counts may not be there, where the kernel knows it
        bottoms = [values[b] if cut is None else values[b][cut]
                   for b, cut in zip(unit.bottoms, stage.cuts, strict=True) if b in values]
        if kernel is None:
            with autocast(self.device, self.net.precision):
                tops = _at(self._parts[unit.node])(*bottoms)
            tops = (tops,) if isinstance(tops, Tensor) else tops
        else:
            tops = kernel(bottoms, stage.pads)
        return [top[stage.trim] for top in tops] if stage.trim else tops

    def _bands(self, stage: Stage, values: Mapping[Value, Tensor], buffer: Tensor | None) -> Tensor:
        """The map that a stage gives in bands, in the buffer if there is one."""
        (top,), first = stage.unit.tops, stage.bands[0][0][0].unit.bottoms[0]
        for stages, place in stage.bands:
            held = {first: values[first]}
            for inner in stages:
                self._step(inner, held, {})
            if buffer is None:
                size = [along.stop for along in stage.bands[-1][1][2:]]
                buffer = torch.empty(*held[top].shape[:2], *size, dtype=held[top].dtype, device=self.device,
                                     memory_format=torch.channels_last)
            buffer[place] = held[top]
        assert buffer is not None
        return buffer

    def _buffers(self, route: Route, small: Small, values: Mapping[Value, Tensor]) -> dict[Value, Tensor]:
        """For each map that is put together, one with what does not depend on the image around its part."""
        leading = self._leading(route.pasted)
        marks = self._marks(leading)
        if self._pasted and self._pasted[0] is route and self._pasted[1] == marks:
            return self._pasted[2]
        image = next(b for unit in leading for b in unit.bottoms if b in values)
        batch, x = values[image].shape[0], values[image]
        key = small.size, frozenset(route.pasted)
        border = self._borders.get(key)
        if border is None or border[0] != marks:
            zeros = x.new_zeros(1, x.shape[1], *small.size)
            plain = lay(leading, small.shapes, route.pasted, [image], self.rewrites - {"border"})
            made = self._run((plain, None), {image: zeros})
            border = marks, {v: made[v] for v in route.pasted}
            self._borders.pop(key, None)  # that of former parameters
            _kept(self._borders, key, BORDERS, lambda: border)
        held = {}
        for value in route.pasted:
            one = small.spread(border[1][value], value, route.held[value], route.shapes[value])
            with torch.inference_mode(False), torch.no_grad():  # later calls write to it in either mode
                held[value] = one.expand(batch, -1, -1, -1).clone(memory_format=torch.channels_last)
        self._pasted = route, marks, held
        return held

    def _kernel(self, unit: Unit) -> Kernel | None:
        """What computes a unit, with its weights as they are now."""
        known = self._kernels.get(unit.key)
        if known and unit.key in self._fresh:
            return known[1]
        marks = self._marks([unit])
        if known is None or known[0] != marks:
            params = {node: [self._parameter(node, i) for i in range(len(node.params))]
                      for node in (unit.node, *unit.folded)}
            known = marks, ready(unit, params, self.net.precision or self.dtype, self.rewrites)
            self._kernels[unit.key] = known
        self._fresh.add(unit.key)
        return known[1]

    def _parameter(self, node: Node, i: int) -> Tensor:
        return self.net.parameter(node.params[i]).detach().reshape(node.op.params[i].shape)

    def _marks(self, of: Sequence[Unit]) -> Hashable:
        """What differs as soon as a parameter of these units has changed, or the precision."""
        return self._marked(slot for unit in of for node in (unit.node, *unit.folded) for slot in node.params)

    def _marked(self, slots: Iterable[Slot]) -> Hashable:
        found = [mark(self.net.parameter(slot)) for slot in slots]
        return self._changes, self.net.precision, torch.backends.mkldnn.enabled, tuple(found)


def mark(parameter: Tensor) -> Hashable:
    """What differs as soon as a parameter's numbers have changed, as far as torch counts that."""
    if parameter.is_inference() or getattr(parameter, "shown", False):
        return object()  # changes of those, which an array of pycaffe's may make, are not counted
    steps = STEPS[0] if parameter.device.type != "cpu" else 0
    return id(parameter), parameter.data_ptr(), parameter._version, parameter.dtype, steps


def _stepped(*_: object) -> None:
    STEPS[0] += 1


register_optimizer_step_post_hook(_stepped)


def _numbers(parts: Sequence[Tensor]) -> list[Tensor]:
    """The numbers of those tensors that are in a CPU's memory as one vector, or none."""
    here = [part.reshape(-1) for part in parts if part.device.type == "cpu"]
    return [torch.cat(here)] if here else []


def _finite(tensors: Iterable[Tensor]) -> bool:
    """Whether all numbers in a CPU's memory are: oneDNN's ReLU makes zeros of NaN, which are to be seen."""
    return all(math.isfinite(x.sum(dtype=torch.promote_types(x.dtype, torch.float32)))
               for x in tensors if x.device.type == "cpu")


def _kept(kept: OrderedDict[Hashable, Made], key: Hashable, most: int, make: Callable[[], Made]) -> Made:
    """What is kept under a key, made if it is not there; of too many the one used longest ago goes."""
    if key not in kept:
        kept[key] = make()
        if len(kept) > most:
            kept.popitem(last=False)
    kept.move_to_end(key)
    return kept[key]
