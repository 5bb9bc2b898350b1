"""Nets on their way out of Caffe: without data and losses, and held against what another program makes of them."""

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from ..base.errors import Error
from ..base.files import find
from ..net.deploy import deploy
from ..net.graph import Graph, Value
from ..net.module import Net
from ..net.weights import ready
from ..ops import Shape

AXES = ("N", "H", "W")
TOLERANCE = 1e-4  # of the largest number of an output: float32's rounding through a hundred layers, and no more
Size = tuple[int, int, int]  # N, H, W
Arrays = Mapping[str, np.ndarray]  # blob -> what it holds


def filled(graph: Graph, path: str | os.PathLike | None, seed: int = 0) -> Net:
    """The net with a file's weights; without one, with numbers drawn by its fillers, and where those say 0 by msra's."""
    torch.manual_seed(seed)
    net = Net(graph).eval()
    left = ready(net, find(path, what="weights") if path else None).missing
    if path:
        if left:
            print(f"{path} lacks {', '.join(left)}: left at their fillers")
        return net
    with torch.no_grad():
        for node in graph.nodes:
            params = [net.parameter(slot) for slot in node.params]
            if node.type == "BatchNorm":
                params[0].normal_(), params[1].uniform_(0.5, 2), params[2].fill_(1)
            for param in params:
                if not param.any():
                    param.normal_(0, (2 / (param[0].numel() or 1)) ** 0.5 if param.ndim > 1 else 0.1)
    print(f"no weights given: drawn by the net's fillers (msra's where they say 0), seed {seed}")
    return net


def shapes_for(graph: Graph, size: Size) -> dict[str, Shape]:
    """The shape of each input of a graph for N, H and W: image inputs are those as large as the first with 4 axes."""
    n, *image = own_size(graph)
    own = {blob: graph.shapes[Value(blob)] for blob in graph.inputs}
    return {blob: (size[0] if shape[:1] == (n,) else shape[0], shape[1], *size[1:]) if [*shape[2:]] == image else
            (size[0], *shape[1:]) if shape[:1] == (n,) else shape for blob, shape in own.items()}


def own_size(graph: Graph) -> Size:
    """N, H and W of the graph as it is written."""
    shapes = [graph.shapes[Value(blob)] for blob in graph.inputs]
    first = next((shape for shape in shapes if len(shape) == 4), (1, 1, 1, 1))
    return (shapes[0][0] if shapes and shapes[0] else 1, *first[2:])


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


def sizes_to_check(graph: Graph, asked: Sequence[tuple[int, int]], count: int = 3) -> list[Size]:
    """The sizes asked for, else the net's own and others that it takes; the smallest as a batch of 2."""
    fixed, (n, h, w) = fixed_axes(graph), own_size(graph)
    tried = asked or [(h, w), (h * 3 // 4 | 1, w * 7 // 8), (h // 2 + 3 | 1, w * 2 // 3 | 1), (h + 5, w + 8), (2 * h + 1, w + 3)]
    found: list[Size] = []
    for size in tried:
        try:
            for axis, new, own in zip(AXES[1:], size, (h, w), strict=True):
                if axis in fixed and new != own:
                    raise Error(fixed[axis])
            graph.infer(shapes_for(graph, (n, *size)))
        except Error as problem:
            if asked:
                raise Error(f"size {size[0]}x{size[1]}: {problem}") from None
            continue
        if asked or len(found) < count:
            found.append((n if "N" in fixed else 1, *size))
    least = min(found, key=lambda size: size[1] * size[2])
    return [size if size != least or "N" in fixed else (2, *size[1:]) for size in found]


def agrees(net: Net, other: Callable[[list[Arrays]], Sequence[Arrays]], sizes: Sequence[Size], spread: float) -> bool:
    """Whether another program's outputs are the net's, for normal noise of this deviation at each size; prints a table."""
    rng = np.random.default_rng(0)
    feeds = [{blob: rng.normal(0, spread, shape).astype(np.float32) for blob, shape in shapes_for(net.graph, size).items()}
             for size in sizes]
    print(f"{'output':20}  {'N x H x W':14}  {'shape':20}  {'largest':>10}  {'difference':>10}")
    good = True
    picks = {top.blob for node in net.graph.nodes if node.type in ("ArgMax", "Threshold") for top in node.tops}
    for size, feed, theirs in zip(sizes, feeds, other(feeds), strict=True):
        with torch.no_grad():
            ours = net({blob: torch.from_numpy(x) for blob, x in feed.items()})
        for blob in net.graph.outputs:
            a, b = ours[blob].detach().numpy(), theirs[blob]
            largest, apart = float(np.abs(a).max(initial=0)), np.inf
            if a.shape == b.shape:
                apart = float(np.abs(a - b).max(initial=0))
            fits = apart <= TOLERANCE * largest or np.isfinite(apart) and blob in picks and np.mean(a != b) < 1e-3
            good &= bool(fits)
            print(f"{blob:20}  {'x'.join(map(str, size)):14}  {'x'.join(map(str, b.shape)):20}  {largest:10.4g}  {apart:10.2g}"
                  f"{'  DIFFERS' if not fits else '' if largest else '  all 0, which proves nothing'}")
    return good


def add_arguments(parser: argparse.ArgumentParser, suffix: str) -> None:
    parser.add_argument("net", metavar="NET.prototxt", help="any net: data layers become inputs, losses are left off")
    parser.add_argument("files", nargs="+", metavar=f"[WEIGHTS] OUT{suffix}", help="without weights: random ones")
    parser.add_argument("--sizes", nargs="+", default=[], metavar="HxW", help="image sizes to check (default: 3 that fit)")


def opened(args: argparse.Namespace, suffix: str) -> tuple[Net, Path, list[Size], float]:
    """The net of a command's NET, [WEIGHTS] OUT and --sizes, the file to write, the sizes and spread to check."""
    *given, out = args.files
    if len(given) > 1 or Path(out).suffix != suffix:  # no weights file is overwritten by a slip
        raise Error(f"expected NET [WEIGHTS] OUT{suffix}, found {' '.join([args.net, *args.files])}")
    asked = []
    for text in args.sizes:
        h, _, w = text.partition("x")
        if not (h.isdecimal() and w.isdecimal() and int(h) and int(w)):
            raise Error(f"'{text}' is no size; write HEIGHTxWIDTH, such as 500x375")
        asked.append((int(h), int(w)))
    graph = deploy(find(args.net, what="net"), size=asked[0] if asked else None)
    net = filled(graph, given[0] if given else None)
    fixed = fixed_axes(graph)
    if fixed:
        print(f"{', '.join(fixed)} as in the net, since {next(iter(fixed.values()))}; `netspec convert fcn` makes a classifier "
              "take any size")
    # an image's deviation; under random weights it would saturate a softmax, where any two agree
    return net, Path(out), sizes_to_check(graph, asked), 60.0 if given else 1.0
