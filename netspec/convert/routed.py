"""A net's plan for inputs of one shape as an ONNX graph: what engines do not do themselves is done there."""

from collections.abc import Collection, Mapping

import numpy as np
import torch
from torch import Tensor

from ..net.graph import Node
from ..net.grouped import diagonal, own
from ..net.module import Net
from ..net.plan import Plan
from ..net.route import Cut
from ..ops import Shape
from ..ops.conv import Convolution, Deconvolution
from ..ops.pool import Pooling
from ..ops.shape import Crop
from .onnxops import Builder, Names

TILED = 256, 56  # channels and columns from which OpenVINO's convolution on AMX is slow without padding
THEIRS = {"fold", "fuse", "pack", "window", "pool", "norm", "bands"}  # what is left to engines


def planned(net: Net, without: Collection[str] = ()) -> Plan:
    """The plan of a net as engines are to run it. without: names of rewrites that are not done."""
    return Plan(net, {*without, *THEIRS})


class Routed(Builder):
    """The nodes of a plan's stages: parts of maps are sliced, and what does not depend on the image is
    constant and joined to them."""

    def __init__(self, plan: Plan, shapes: Mapping[str, Shape], tiled: bool = False) -> None:
        """plan: of `planned`. shapes: of the inputs. tiled: convolutions that AMX does faster with padding
        beside the rows (`TILED`) get some, and the column that this makes is cut off, unless the plan is
        without "tile"."""
        self.group, self.tiled = "group" in plan.rewrites, tiled and "tile" in plan.rewrites
        with torch.no_grad():
            self.route, self.border = plan.laid(shapes)
        found = {value.blob: shape for value, shape in self.route.shapes.items()}  # of the last version
        self.ends = {blob: found[blob] for blob in (*plan.graph.inputs, *plan.graph.outputs)}
        super().__init__(plan.net)

    def run(self) -> None:
        for stage in self.route.stages:
            self.stage = stage
            self.add(stage.unit.node)

    def made(self, node: Node) -> Names:
        stage, (top, *_) = self.stage, node.tops
        bottoms = [self.names[b] if cut is None else self.cut(self.names[b], cut)
                   for b, cut in zip(stage.unit.bottoms, stage.cuts, strict=True)]
        self.pads = ()
        if node.op.local and isinstance(node.op, Crop):  # its window is what it leaves
            return bottoms[:1]
        if node.op.local and isinstance(node.op, Convolution | Pooling):
            bottoms = [self.padded(node.op, bottoms[0])]
        more = type(node.op) is Convolution and self.widened(node.op)
        found = self.emit(node, *bottoms)
        found = [self.node("Slice", found[0], [0], [-1], [3])] if more else found
        return [self.pasted(found[0], self.border[top], stage.paste)] if stage.paste else found

    @property
    def size(self) -> list[int]:
        """Of the part of its first bottom that the layer at hand takes."""
        (bottom, *_), (cut, *_) = self.stage.unit.bottoms, self.stage.cuts
        return [s.stop - s.start for s in cut[2:]] if cut else [b - a for a, b in self.route.held[bottom]]

    def padded(self, op: Convolution | Pooling, x: str) -> str:
        """The bottom of a layer with windows; what padding is left to it goes to `pads`."""
        above, below, left, right = self.stage.pads
        self.pads = [above, left, below, right]
        if isinstance(op, Deconvolution):
            self.pads = self.trimmed(op)
        elif min(self.pads) < 0 or isinstance(op, Pooling) and max(self.pads) >= min(op.kernel):
            fill = -np.inf if isinstance(op, Pooling) else 0.0
            more, less = ([sign * max(0, sign * pad) for pad in self.pads] for sign in (1, -1))
            x = self.node("Pad", x, [0, 0, *more[:2], 0, 0, *more[2:]], fill) if any(more) else x
            size = self.node("Shape", x, start=2)
            x = self.node("Slice", x, [-less[0], -less[1]], self.node("Add", size, less[2:]), [2, 3])
            self.pads = [0] * 4
        return x

    def widened(self, op: Convolution) -> bool:
        """Whether a convolution gets padding that it does not need."""
        if not self.tiled or not self.pads or op.kernel[1] == 1 or op.stride[1] > 1:
            return False
        above, left, below, right = self.pads
        more = left + right == 0 and op.channels >= TILED[0] and self.size[1] >= TILED[1]
        self.pads = [above, left, below, right + more]
        return more

    def trimmed(self, op: Deconvolution) -> list[int]:
        """What a deconvolution computes more, at the rims of all that its bottom reaches, than is kept."""
        if self.stage.trim is None:
            return [0] * 4
        kept = self.stage.trim[2:]
        reached = [op.reach((0, n), i) for i, n in enumerate(self.size)]
        return [s.start for s in kept] + [b - a - s.stop for (a, b), s in zip(reached, kept, strict=True)]

    def cut(self, x: str, part: Cut) -> str:
        return self.node("Slice", x, [s.start for s in part[2:]], [s.stop for s in part[2:]], [2, 3])

    def pasted(self, x: str, around: Tensor, place: Cut) -> str:
        """A map in its place, with what is around it."""
        for axis in (3, 2):
            span, whole = place[axis], around if axis == 2 else around[place[:3]]
            parts = [whole.narrow(axis, 0, span.start),
                     whole.narrow(axis, span.stop, whole.shape[axis] - span.stop)]
            before, behind = ([self.const(part.numpy())] if part.numel() else [] for part in parts)
            x = self.node("Concat", *before, x, *behind, axis=axis) if before or behind else x
        return x

    def products(self, op: Convolution) -> tuple[Names, int]:
        params, group = super().products(op)
        weight = self.net.parameter(self.layer.params[0]).detach()
        if self.group and isinstance(op, Deconvolution) and group == 1 and (
                weight.shape[0] == weight.shape[1] and diagonal(weight)):
            return [self.const(own(weight).numpy()), *params[1:]], len(weight)
        return params, group
