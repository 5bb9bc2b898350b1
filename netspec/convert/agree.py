"""Nets held against what another program makes of them, on noise of several sizes."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ..base.errors import Error
from ..data.facts import exported
from ..net.graph import Graph, Value
from ..net.module import Net
from ..net.weights import ready
from ..ops import Shape
from ..ops.norm import BatchNorm
from .maxima import masked, taking

AXES = ("N", "H", "W")
TOLERANCE = 1e-4  # of an output's largest number: float32's rounding through a hundred layers, and no more
Size = tuple[int, int, int]  # N, H, W
Arrays = Mapping[str, np.ndarray]  # blob -> what it holds


def filled(graph: Graph, path: Path | None = None, say: Callable[[str], object] = lambda text: None) -> Net:
    """The net with a file's weights; without, with numbers drawn by its fillers, or msra's where they say 0.

    say: is told which layers the file lacks, or that numbers were drawn.
    """
    torch.manual_seed(0)
    net = Net(graph).eval()
    left = ready(net, path).missing
    if path:
        if left:
            say(f"{path} lacks {', '.join(left)}: left at their fillers")
        return net
    with torch.no_grad():
        for node in graph.nodes:
            params = [net.parameter(slot) for slot in node.params]
            if isinstance(node.op, BatchNorm):
                mean, variance, weight, *_ = node.op.ordered(params)
                mean.normal_(), variance.uniform_(0.5, 2), weight.fill_(1)
            for param in params:
                if not param.any():
                    param.normal_(0, (2 / (param[0].numel() or 1)) ** 0.5 if param.ndim > 1 else 0.1)
    say("no weights given: drawn by the net's fillers (msra's where they say 0), seed 0")
    return net


def facts(graph: Graph) -> dict[str, Any]:
    """What a net says of its images and classes, as lists (`exported`)."""
    path = graph.path or Path("net")
    shapes = [graph.shape(blob) for blob in graph.outputs]
    names = [graph.name, path.stem, path.resolve().parent.name]
    return exported([node.op.layer for node in graph.sources], names,
                    [shape[1] for shape in shapes if len(shape) > 1], path)


def own_size(graph: Graph) -> Size:
    """N, H and W of the graph as it is written."""
    shapes = [graph.shapes[Value(blob)] for blob in graph.inputs]
    _, _, high, across = next((shape for shape in shapes if len(shape) == 4), (1, 1, 1, 1))
    return shapes[0][0] if shapes and shapes[0] else 1, high, across


def shapes_for(graph: Graph, size: Size) -> dict[str, Shape]:
    """The shape of each input for N, H and W: images are those as large as the first input with 4 axes."""
    n, *image = own_size(graph)

    def resized(shape: Shape) -> Shape:
        if [*shape[2:]] == image:
            shape = (*shape[:2], *size[1:])
        return (size[0], *shape[1:]) if shape[:1] == (n,) else shape

    return {blob: resized(graph.shapes[Value(blob)]) for blob in graph.inputs}


def fixed_axes(graph: Graph) -> dict[str, str]:
    """Those of N, H and W that can have only the net's own size, each with the sentence that says why."""
    n, h, w = own_size(graph)
    found = {}
    for axis, size in zip(AXES, ((n + 1, h, w), (n, h + 64, w), (n, h, w + 64)), strict=True):
        try:
            graph.infer(shapes_for(graph, size))
        except Error as problem:
            found[axis] = str(problem)
    return found


def sizes_to_check(graph: Graph, asked: Sequence[tuple[int, int]]) -> list[Size]:
    """The sizes asked for (H, W), else 3: the net's own, others that it takes; the least as a batch of 2."""
    fixed, (n, h, w) = fixed_axes(graph), own_size(graph)
    some = ((h, w), (h * 3 // 4 | 1, w * 7 // 8), (h // 2 + 3 | 1, w * 2 // 3 | 1), (h + 5, w + 8),
            (2 * h + 1, w + 3))
    found: list[Size] = []
    for size in asked or some:
        problems = [fixed[axis] for axis, new, own in zip(AXES[1:], size, (h, w), strict=True)
                    if axis in fixed and new != own]
        try:
            graph.infer(shapes_for(graph, (n, *size)))
        except Error as problem:
            problems.append(str(problem))
        if problems and asked:
            raise Error(f"size {size[0]}x{size[1]}: {problems[0]}")
        if not problems and (asked or len(found) < 3):
            found.append((n if "N" in fixed else 1, *size))
    least = min(found, key=lambda size: size[1] * size[2])
    return [size if size != least or "N" in fixed else (2, *size[1:]) for size in found]


class Agreement(NamedTuple):
    """An output at one size: its shape in the other program, the net's largest number, their distance.

    elsewhere: maxima that poolings take elsewhere there, equal but for rounding, as the net was then told to.
    """

    blob: str
    size: Size
    shape: Shape
    largest: float
    apart: float
    fits: bool
    elsewhere: int = 0


def agreements(net: Net, other: Callable[[list[Arrays]], Iterable[Arrays]], sizes: Sequence[Size],
               spread: float, masks: Callable[[Arrays], Arrays] | None = None) -> list[Agreement]:
    """Each output of the net and of another program, for normal noise of deviation `spread` at each size.

    masks: those of `masked` in the other program, of noise. Where outputs differ by more than rounding, but
    each maximum that it takes elsewhere is equal to the largest but for rounding, they are compared once
    more, with these maxima taken in the net as well.
    """
    rng = np.random.default_rng(0)
    feeds: list[Arrays] = [
        {blob: rng.normal(0, spread, shape).astype(np.float32)
         for blob, shape in shapes_for(net.graph, size).items()} for size in sizes]
    found = []
    for size, feed, theirs in zip(sizes, feeds, other(feeds), strict=True):
        rows = _compared(net, size, feed, theirs)
        if masks and masked(net.graph) and not all(row.fits for row in rows):
            with taking(net, masks(feed), TOLERANCE) as taken:
                again = _compared(net, size, feed, theirs)
            if taken.fair:
                rows = [row._replace(elsewhere=taken.count) for row in again]
        found += rows
    return found


def _compared(net: Net, size: Size, feed: Arrays, theirs: Arrays) -> list[Agreement]:
    # steps: rounding may make them pick something else
    picks = {top.blob for node in net.graph.nodes if 0 in node.op.undifferentiable for top in node.tops}
    found = []
    with torch.no_grad():
        ours = net({blob: torch.from_numpy(x) for blob, x in feed.items()}, list(net.graph.outputs))
    for blob in net.graph.outputs:
        a, b = ours[blob].detach().numpy(), theirs[blob]
        largest = float(np.abs(a).max(initial=0))
        apart = float(np.abs(a - b).max(initial=0)) if a.shape == b.shape else np.inf
        fits = apart <= TOLERANCE * largest
        if blob in picks and np.isfinite(apart):
            fits |= np.mean(a != b) < 1e-3
        found.append(Agreement(blob, size, b.shape, largest, apart, bool(fits)))
    return found
