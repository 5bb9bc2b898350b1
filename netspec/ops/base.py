"""What an operation is: one class that holds all there is to know of a Caffe layer type, and the registry."""

import re
import sys
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from ..base.errors import Error, closest
from ..proto import caffe_pb2, own
from ..proto.caffe_pb2 import FillerParameter, LayerParameter
from .settings import impossible, read_settings

Result = TypeVar("Result")
Shape = tuple[int, ...]
Number = float | Fraction
Count = int | tuple[int, int | None]  # exactly so many, or (at least, at most)
Kind = type["Operation"]
OfShapes = Callable[..., Result]  # a method that is given the shape of each bottom

REGISTRY: dict[str, Kind] = {}
WORDS = re.compile("(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")  # where one begins in a type's name


class CoordMap(NamedTuple):
    """Where a layer's top lies on its first bottom: bottom = (top - shift) / scale along each spatial axis.

    `axis` is the first axis that the map moves (None: it moves none and fits any).
    """

    axis: int | None = None
    scale: Number | tuple[Number, ...] = 1.0
    shift: Number | tuple[Number, ...] = 0.0


IDENTITY = CoordMap()


@dataclass(frozen=True)
class Context:
    """What an operation knows of the net around it.

    phase: caffe_pb2.TRAIN or TEST. base: the folder that relative paths start from. where: "file:line: " of
    the layer, for errors.
    """

    phase: caffe_pb2.Phase = caffe_pb2.TEST
    base: Path | None = None
    where: str = ""

    @property
    def training(self) -> bool:
        return self.phase == caffe_pb2.TRAIN


@dataclass(frozen=True)
class Param:
    """A parameter blob before it exists: its shape and how Caffe fills it."""

    shape: Shape
    filler: FillerParameter | np.ndarray | None = None  # or the numbers themselves; None: zeros


class Operation:
    """One layer of a net, ready to run: its settings, the shapes of its parameters, its arithmetic.

    A subclass states the facts below that are others for it, in its first line: `type` (Caffe's name, which
    registers it), the numbers of bottoms and tops, ... It writes `setup`, `infer` and `forward`. `setup`,
    `infer`, `window` and `macs` are given the shapes of the bottoms, which a subclass takes one by one or as
    *shapes. It holds no tensors: parameters are handed to `forward`, so that nets can share them and rewrites
    can replace operations.
    """

    type: ClassVar[str] = ""
    family: ClassVar[str] = "other"  # of the types it is listed with, and drawn in one colour with
    bottoms: ClassVar[Count] = 1
    tops: ClassVar[Count] = 1
    loss: ClassVar[bool] = False  # the first top counts in the objective with weight 1 unless told otherwise
    sink: ClassVar[bool] = False  # it measures, keeps or drops what others made; a deployed net has none
    judged: ClassVar[int] = 1  # of a loss's or sink's bottoms, how many are results; the others are labels
    data: ClassVar[bool] = False  # without bottoms it gives data, which a deployed net gets from its caller
    one_label: ClassVar[bool] = False  # the second top of the data is one class an image
    elementwise: ClassVar[bool] = False  # on a map it does at each position what it does on a vector
    channelwise: ClassVar[bool] = False  # so it does if its `axis` is 1
    overwrites: ClassVar[bool] = False  # forward(..., inplace=True) may reuse the bottom's memory
    inplace: ClassVar[bool] = True  # a top may have a bottom's name (Caffe refuses it for some types)
    fresh: ClassVar[bool] = False  # no gradient reads its top, memory of its own: the next may overwrite it
    random: ClassVar[bool] = False  # a pass may draw numbers for each element
    once: ClassVar[bool] = False  # a second pass over the same bottoms may not give the same
    moving: ClassVar[bool] = False  # a forward pass in TRAIN may change its parameters
    aligned: ClassVar[bool] = False  # a Crop whose offset the graph works out
    four_axes: ClassVar[bool] = False  # its first bottom is N x C x H x W
    waits: ClassVar[bool] = False  # the host needs numbers of a bottom: it waits for a GPU, and meta has none
    above_0: ClassVar[Sequence[str]] = ()  # the message of its settings, then those that must be above 0
    affine: ClassVar[bool] = False  # in TEST it multiplies and adds, by one number of its own each a channel
    own_map: ClassVar[CoordMap | None] = None  # its coordinate map, where no setting plays a part
    normalized: Mapping[int, Sequence[Sequence[float]]] = {}  # tops: targets less means, over deviations
    sized: Set[int] = frozenset()  # bottoms of which the size alone counts, and is known before it runs
    undifferentiable: Set[int] = frozenset()  # bottoms that never get a gradient (labels)
    reads: ClassVar[Mapping[int, str]] = {}  # bottoms of regions, true boxes, an image's size (im_info)
    differentiable: ClassVar[str] = ""  # in words, where it depends on the bottoms given which get one
    settings: ClassVar[own.Settings] = {}  # of a type that the schema lacks: name -> default (see own.TAKES)
    settings_field: ClassVar[str] = ""  # of LayerParameter, where they stand; "": foo_param of type Foo
    example: ClassVar[Sequence[Any]] = ()  # settings as text; of each bottom a shape, or a tensor

    def __init_subclass__(cls, **facts: Any) -> None:
        super().__init_subclass__()
        for name, fact in facts.items():
            getattr(cls, name)  # there is such a fact
            setattr(cls, name, fact)
        if "type" in cls.__dict__ and cls.type:
            other = REGISTRY.get(cls.type, cls)
            if (home := _home(other)) != _home(cls):
                raise Error(f"layer type {cls.type} exists already, in {home}; give yours another name")
            if cls.settings:
                usual = WORDS.sub("_", cls.type).lower() + "_param"
                own.add(cls.type, cls.settings_field or usual, cls.settings)
            REGISTRY[cls.type] = cls

    def __init__(self, layer: LayerParameter, shapes: Sequence[Shape],
                 context: Context | None = None) -> None:
        """shapes: of the bottoms. Raises Error for settings that cannot work."""
        self.layer = layer
        self.context = context or Context()
        self.params: list[Param] = []
        if wrong := next(impossible(layer), ""):
            raise self.error(wrong)
        self._count("bottom", self.bottoms, len(layer.bottom))
        self._count("top", self.tops, len(layer.top))
        both = set(layer.top) & set(layer.bottom)
        if both and not self.inplace:
            raise self.error(f"does not work in place; give top '{min(both)}' a name of its own")
        if self.four_axes and len(shapes[0]) != 4:
            raise self.error(f"takes an N x C x H x W bottom, found {list(shapes[0])}")
        if self.above_0:
            settings, *names = self.above_0
            if any(getattr(getattr(layer, settings), name) <= 0 for name in names):
                raise self.error(f"needs {' and '.join(names)} above 0")
        self.setup(*shapes)

    def _setup(self, *shapes: Shape) -> None:
        """Read the settings and append to `self.params`, once, for bottoms of these shapes."""

    def _infer(self, *shapes: Shape) -> list[Shape]:
        """The shapes of the tops for bottoms of these shapes; Error if they do not fit."""
        return [shapes[0]] * len(self.layer.top)

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> Tensor | Sequence[Tensor]:
        """The tops (one tensor, or one each) from the bottoms; differentiable by autograd."""
        raise NotImplementedError

    def _window(self, *shapes: Shape) -> Shape | None:
        """How many cells of a bottom one cell of the top is computed from, along each axis from 2 on.

        None: the top's cells have no places among the bottom's. A map that changes the scale puts a cell
        between two.
        """
        m, axes = self.coord_map(self.layer), shapes[0][2:]
        if m is None and [top[2:] for top in self.infer(*shapes)[:1]] != [axes]:  # Silence has no top
            return None
        return (1 if m is None or m.scale == 1 else 2,) * len(axes)

    def _macs(self, *shapes: Shape) -> int:
        """Multiplications with an addition in one forward pass; only convolutions and products count."""
        return 0

    setup: ClassVar[OfShapes[None]] = _setup
    infer: ClassVar[OfShapes[list[Shape]]] = _infer
    window: ClassVar[OfShapes[Shape | None]] = _window
    macs: ClassVar[OfShapes[int]] = _macs

    @property
    def local(self) -> bool:
        """Whether a part of its top can be computed from its windows there alone (see net/regions.py)."""
        return False

    @property
    def draws(self) -> bool:
        """Whether a pass in this phase does draw numbers."""
        return self.random

    @property
    def idle(self) -> bool:
        """Whether its tops are its bottom as it is."""
        return False

    @classmethod
    def resolve(cls, layer: LayerParameter, where: str = "") -> Kind:
        """The class that runs this layer: itself, unless the layer's settings name another (Python)."""
        return cls

    @classmethod
    def within(cls, layer: LayerParameter, net: Sequence[LayerParameter]) -> LayerParameter:
        """The layer with the settings that it leaves to the net around it."""
        return layer

    @classmethod
    def stated(cls, layer: LayerParameter, size: tuple[int, int] | None = None) -> list[Shape]:
        """The shapes of a source's tops as its settings have them, for data that are not there.

        size: of the images instead. 0 stands for channels that the settings leave open; [] where they have
        no size.
        """
        return []

    @classmethod
    def coord_map(cls, layer: LayerParameter) -> CoordMap | None:
        """The coordinate map of a layer with these settings; None where there is none (see net/coords.py)."""
        return cls.own_map

    def options(self, known: Mapping[str, tuple[str, Callable[[Any], bool]]]) -> dict[str, Any]:
        """param_str of a Python layer, see `read_settings`. `known`: key -> (what it takes, its check)."""
        text = self.layer.python_param.param_str
        try:
            given = read_settings(text)
        except Error as error:
            raise self.error(str(error)) from None
        if given is None:
            raise self.error("param_str must be a dict, as str(dict(split='train')) gives, or lines of "
                             f"'KEY': VALUE; found {text!r}")
        for key, value in given.items():
            if key not in known:
                hint = closest(str(key), known)
                raise self.error(f"param_str has no key '{key}'{hint} (keys: {', '.join(known)})")
            words, check = known[key]
            if not check(value):
                raise self.error(f"param_str: '{key}' takes {words}, found {value!r}")
        return given

    def error(self, message: str) -> Error:
        return Error(f"{self.context.where}layer '{self.layer.name}' ({self.layer.type}): {message}")

    def axis(self, axis: int, dims: int) -> int:
        """A possibly negative axis of a blob with `dims` axes, counted from the front."""
        if not -dims <= axis < dims:
            raise self.error(f"axis {axis} is outside a blob of {dims} axes ({-dims} to {dims - 1})")
        return axis % dims

    def inside(self, numbers: Tensor, count: int, message: str) -> tuple[Tensor, Tensor | None]:
        """Numbers of a bottom as indices, which must lie in 0..count - 1.

        On the CPU one outside is an Error: the message, with the least and the largest in its {}. Elsewhere
        that check would wait for the device at every step: there those outside become 0, and the second
        result says where they were, so that what they pick can be `spoiled`.
        """
        index = numbers.long()
        outside = (index < 0) | (index >= count)
        if index.device.type != "cpu":
            return index.masked_fill(outside, 0), outside
        if bool(outside.any()):
            raise self.error(message.format(int(index.min()), int(index.max())))
        return index, None

    def _count(self, what: str, allowed: Count, found: int) -> None:
        low, high = (allowed, allowed) if isinstance(allowed, int) else allowed
        if low <= found and (high is None or found <= high):
            return
        words = f"exactly {low}" if low == high else f"{low} or more" if high is None else f"{low} to {high}"
        raise self.error(f"takes {words} {what}{'s' * (high != 1)}, {found} given")


def _home(kind: Kind) -> str:
    """The file that a class stands in; its module, where that has none."""
    return getattr(sys.modules.get(kind.__module__), "__file__", None) or kind.__module__


def lookup(layer: LayerParameter, where: str = "") -> Kind:
    """The operation class of a layer. Raises Error with the nearest type's name where there is none."""
    try:
        found = REGISTRY[layer.type]
    except KeyError:
        hint = closest(layer.type, REGISTRY) or ";"
        raise Error(f"{where}layer '{layer.name}' has type '{layer.type}', which is not known{hint} A layer "
                    'of your own can be given as type "Python" with python_param { module: ... layer: ... }, '
                    "or its type by --ops MODULE") from None
    return found.resolve(layer, where)


def spoiled(x: Tensor, outside: Tensor | None) -> Tensor:
    """x, NaN where an index was outside, as `Operation.inside` says it; the loss that follows is NaN too."""
    if outside is None:
        return x
    return x.masked_fill(outside.reshape(*outside.shape, *(1,) * (x.ndim - outside.ndim)), float("nan"))


def carried(x: Tensor, device: torch.device) -> Tensor:
    """x on a device. A GPU takes it while the host goes on: from memory that stays where it is till then."""
    if device.type != "cuda":  # others may read memory that is gone by then
        return x.to(device)
    return (x.pin_memory() if x.device.type == "cpu" else x).to(device, non_blocking=True)


def fetched(x: Tensor) -> Callable[[], np.ndarray]:
    """What gives the numbers of x: a GPU's come while the host goes on, which waits when it calls this."""
    if x.device.type != "cuda":
        return x.cpu().numpy
    here, there = x.to("cpu", non_blocking=True), torch.cuda.Event()  # into page-locked memory
    there.record(torch.cuda.current_stream(x.device))

    def numbers() -> np.ndarray:
        there.synchronize()
        return here.numpy()

    return numbers


def raised(x: Tensor) -> Tensor:
    """x in a precision that sums and logarithms bear: half precision becomes float32, the rest stays."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
