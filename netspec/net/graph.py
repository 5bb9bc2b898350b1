"""A net in one phase as an immutable graph: filtered, in-place layers made explicit, every shape known."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..base.errors import Error, closest
from ..ops import Operation, Shape
from ..ops.source import Source
from ..proto.caffe_pb2 import FillerParameter, NetParameter, Phase

AUTOMATIC = " (automatic)"  # ends the name of a top that the graph adds to a loss without one


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
    filler: FillerParameter | np.ndarray | None  # or the numbers themselves; None: zeros
    lr_mult: float
    decay_mult: float


class Given(Source, fed=True):
    """Stands for a source whose shapes the caller gave: its data come from the caller too."""


class _Unseen(tuple):
    """No axes, as a scalar has, but only this one says that nothing is known."""


UNSEEN: Shape = _Unseen()  # the shape of a blob that cannot be told


class Opaque(Operation, bottoms=(0, None), tops=(0, None)):
    """Stands in a graph that is only looked at for a layer that cannot be built: its tops are UNSEEN."""

    def _infer(self, *shapes: Shape) -> list[Shape]:
        return [UNSEEN] * len(self.layer.top)

    def _window(self, *shapes: Shape) -> None:
        return None

    infer, window = _infer, _window


@dataclass(frozen=True, eq=False)
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

    @property
    def source(self) -> bool:
        """Whether it makes data, or stands for who does."""
        return isinstance(self.op, Source)


@dataclass(frozen=True)
class Graph:
    """A net in one phase. `sources` give the blobs that `nodes`, in order, turn into `outputs`."""

    name: str
    phase: Phase
    layers: tuple[Node, ...]  # sources and nodes, as they stand in the file
    params: tuple[Slot, ...]
    outputs: tuple[str, ...]  # blobs that no layer reads, in alphabetical order, as Caffe lists them
    shapes: Mapping[Value, Shape]
    path: Path | None = None
    proto: NetParameter = field(default_factory=NetParameter)  # what it was built from
    opaque: Mapping[str, str] = field(default_factory=dict)  # layers that could not be built -> why

    @cached_property
    def sources(self) -> tuple[Node, ...]:
        return tuple(node for node in self.layers if node.source)

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        return tuple(node for node in self.layers if not node.source)

    @cached_property
    def readers(self) -> tuple[Source, ...]:
        """The operations of `sources`."""
        return tuple(node.op for node in self.layers if isinstance(node.op, Source))

    @property
    def inputs(self) -> tuple[str, ...]:
        """The blobs that come from outside."""
        return tuple(top.blob for node in self.sources for top in node.tops)

    @cached_property
    def newest(self) -> dict[str, Value]:
        """Blob -> its last version."""
        return {v.blob: v for v in sorted(self.shapes, key=lambda v: v.version)}

    def infer(self, inputs: Mapping[str, Shape]) -> dict[Value, Shape]:
        """The shape of every value for inputs of these shapes; Error at the layer where they do not fit."""
        for blob in self.inputs:
            if blob not in inputs:
                raise Error(f"net '{self.name}' needs the blob '{blob}', which was not given")
        shapes = {top: tuple(inputs[top.blob]) for node in self.sources for top in node.tops}
        for node in self.nodes:
            shapes.update(zip(node.tops, node.op.infer(*(shapes[b] for b in node.bottoms)), strict=True))
        return shapes

    def under_loss(self, zero: Collection[Node] = (), live: Collection[Value] | None = None) -> set[Node]:
        """The layers that a gradient comes back to, past layers of zeros and ReLUs that read zeros.

        zero: layers whose weights are all zero. live: the values that are not; None: take none for zero.
        """
        wanted: set[Value] = set()
        reached = set()
        for node in reversed(self.nodes):
            weighted = zip(node.tops, node.loss_weights, strict=True)
            if not any(weight or top in wanted for top, weight in weighted):
                continue
            reached.add(node)
            closed = node.type == "ReLU" and live is not None and node.bottoms[0] not in live
            if node not in zero and not closed:
                pairs = zip(node.bottoms, node.propagate, strict=True)
                wanted |= {bottom for bottom, passes in pairs if passes}
        return reached

    def shape(self, blob: str) -> Shape:
        """The shape of a blob as it leaves the net (its last version)."""
        self.check_blobs([blob])
        return self.shapes[self.newest[blob]]

    def check_blobs(self, blobs: Iterable[str]) -> None:
        """Error, with the closest name, for a blob that the net does not have."""
        for blob in blobs:
            if blob not in self.newest:
                raise Error(f"net '{self.name}' has no blob '{blob}'{closest(blob, self.newest)}")

    def node(self, name: str) -> Node:
        """The layer of this name; Error with the closest one if there is none."""
        found = {node.name: node for node in self.layers}
        if name not in found:
            raise Error(f"net '{self.name}' has no layer '{name}'{closest(name, found)}")
        return found[name]
