"""The `time` command: how fast the parts of a job are, measured on this machine, warm, side by side."""

import argparse
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from ..base import log
from ..base.errors import Error
from ..base.files import find
from ..base.machine import PROJECT
from ..base.table import table
from ..data.feed import Feed
from ..net import graph, weights
from ..net import rewrite as convolutional
from ..net.build import build
from ..net.deploy import deploy
from ..net.module import Net
from ..proto import text as prototext
from ..train.solver import Solver


def time_data(args: argparse.Namespace) -> None:
    """Images/s of the data pipeline alone and of training, and the share of a training step spent waiting for data."""
    path = find(args.solver, what="solver")
    param = prototext.read_solver(path)
    for field in ("test_net", "test_iter", "weights"):  # the speed is the same without
        param.ClearField(field)
    param.display = param.snapshot = param.test_interval = 0
    solver = Solver(param, path=path, device=args.device or "cpu", precision=args.precision, log=log.Log(quiet=True))
    weights.ready(solver.net)
    size = max(1, param.iter_size)
    try:
        solver.step(2)
        solver.waited = 0.0
        steps = _timed(lambda: solver.step(1), args.iterations)
    finally:
        solver.close()
    batch = solver.net.graph.sources[0].op.batch_size
    feeds = [Feed(node.op) for node in solver.net.graph.sources]
    try:
        for feed in feeds:
            next(feed)
        loads = _timed(lambda: [next(feed) for feed in feeds], args.iterations * size)
    finally:
        for feed in feeds:
            feed.close()
    rows = [["data alone", *_rates(loads, batch)], ["training", *_rates(steps, batch * size)]]
    print(table(rows, ["images/s", "median", "least", "most"]))
    print(f"a step waits for data {100 * solver.waited / sum(steps):.1f} % of its time")


def time_load(args: argparse.Namespace) -> None:
    """Seconds to read a weights file into a net that exists, and the memory that takes beside the net's."""
    path = Path(args.weights)
    net = Net(deploy(find(args.net, PROJECT, "net"), losses=True))
    if not path.exists():
        weights.save(path, net)
    target = net.layers_with_params()
    before = _peak()
    weights.load(path, target)
    spent = _timed(lambda: weights.load(path, target), args.runs)
    size = path.stat().st_size
    rows = [[path.name, f"{size / 1e6:.0f}", *(f"{t:.3f}" for t in (statistics.median(spent), min(spent), max(spent))),
             f"{(_peak() - before) / size:.2f}"]]
    print(table(rows, ["file", "MB", "median s", "least", "most", "extra memory / size"]))


def time_dense(args: argparse.Namespace) -> None:
    """Section 3.1: seconds for all scores of an image in one pass, and for the classifier on as many crops of it.

    Where their inputs agree, both compute the same: without padding inside the net a score depends on its window of the
    image alone, and such windows are then the classifier's input. With padding, a crop has zeros where the image goes on.
    """
    classifier = Net(deploy(find(args.net, PROJECT, "net"), losses=True))
    form, layers, _ = convolutional.convolutionalise(classifier.graph)
    net = Net(build(form))
    convolutional.randomise(classifier)
    convolutional.share_reshaped(classifier, net)
    data, score = net.graph.inputs[0], net.graph.node(layers[-1]).tops[0].blob
    channels, side = net.graph.shape(data)[1:3]
    image = torch.randn(1, channels, args.size, args.size, generator=torch.Generator().manual_seed(0)) * 50
    try:
        plain = Net(build(convolutional.unpadded(form), shapes={data: tuple(image.shape)}), share=net)
    except Error as problem:
        raise Error(f"{problem}; without padding a net needs larger images, and paths of the same size") from None
    window, stride = _window(plain.graph, score, tuple(image.shape))
    small = build(convolutional.unpadded(classifier.graph.proto), shapes={data: (1, channels, window, window)})

    with torch.no_grad():
        high, wide = net({data: image}, [score])[score].shape[2:]
        over = max(0, (high - 1) * stride + side - args.size)  # the last crops hang over the edge, as poolings do
        crops = _crops(torch.nn.functional.pad(image, (0, over, 0, over)), side, stride)
        passes = {"dense, one pass": lambda: net({data: image}, [score]),
                  f"{len(crops)} crops, one batch": lambda: classifier({data: crops}, [score])}
        rounds = [[_timed(call, 1)[0] for call in passes.values()] for _ in range(args.runs + 1)][1:]  # in turn
        whole = plain({data: image}, [score])[score][0].flatten(1).t()
        each = Net(small, share=classifier)({data: _crops(image, window, stride)}, [score])[score]
    print(f"random image of {args.size}x{args.size} and weights, seed 0: {high}x{wide} scores at stride {stride}, or crops of "
          f"{side}x{side}")
    rows = [[name, *(f"{f(spent):.3f}" for f in (statistics.median, min, max))]
            for name, spent in zip(passes, zip(*rounds, strict=True), strict=True)]
    print(table(rows, ["", "median s", "least", "most"]))
    ratios = [crops / dense for dense, crops in rounds]
    print(f"the crops cost {statistics.median(ratios):.1f} times as much (least {min(ratios):.1f}, most {max(ratios):.1f})")
    print(f"without padding inside the net, {len(whole)} scores and the classifier on their windows of {window}x{window} differ "
          f"by {float((whole - each).abs().max()):.2g} at most; the largest score is {float(each.abs().max()):.4g}")


def _crops(image: torch.Tensor, side: int, stride: int) -> torch.Tensor:
    """Every side x side crop of a 1 x C x H x W image at this stride, row by row, as a batch."""
    return image[0].unfold(1, side, stride).unfold(2, side, stride).permute(1, 2, 0, 3, 4).flatten(0, 1).contiguous()


def _window(net: graph.Graph, blob: str, shape: tuple[int, ...]) -> tuple[int, int]:
    """The side of the image that gives one cell of a blob, and how much more gives two; Error if `shape` is too small."""
    found: dict[int, int] = {}
    for side in range(1, shape[-1] + 1):
        try:
            shapes = net.infer({net.inputs[0]: (*shape[:2], side, side)})
        except Error:  # too small for some layer
            continue
        found.setdefault(next(s[2] for value, s in shapes.items() if value.blob == blob), side)
    if not {1, 2} <= set(found):
        raise Error(f"net '{net.name}': two windows do not fit an image of {shape[2]}x{shape[3]}; give a larger --size")
    return found[1], found[2] - found[1]


def _peak() -> int:
    """The most memory this process has held, in bytes; pages of mapped files count while they are in memory."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _timed(call: Callable[[], object], times: int) -> list[float]:
    spent = []
    for _ in range(times):
        begin = time.perf_counter()
        call()
        spent.append(time.perf_counter() - begin)
    return spent


def _rates(seconds: list[float], images: int) -> list[str]:
    return [f"{images / s:.1f}" for s in (statistics.median(seconds), max(seconds), min(seconds))]
