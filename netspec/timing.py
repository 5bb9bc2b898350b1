"""The `time` command: how fast the parts of a job are, measured on this machine, warm, side by side."""

import argparse
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from . import analysis, log, prototext, report, surgery, weights
from .compiler import Net
from .errors import Error
from .feed import Feed, cores
from .files import find
from .scoring import add_device_arguments
from .solver import Solver


def add_arguments(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="WHAT")
    data = kinds.add_parser("data", help="whether reading data keeps ahead of training")
    data.add_argument("solver", metavar="SOLVER")
    data.add_argument("--iterations", type=int, default=10, metavar="N", help="to time after 2 to warm up (default 10)")
    add_device_arguments(data)
    data.set_defaults(measure=time_data)
    load = kinds.add_parser("load", help="reading a weights file into a net")
    load.add_argument("net", metavar="NET", help="a prototxt; its data need not be there")
    load.add_argument("weights", metavar="WEIGHTS", help="a file to read; made from the net's fillers if it is not there")
    load.add_argument("--runs", type=int, default=5, metavar="N", help="after 1 to warm up (default 5)")
    load.set_defaults(measure=time_load)


def run(args: argparse.Namespace) -> int:
    """Measure and print; medians, with the least and most."""
    if getattr(args, "iterations", 1) < 1 or getattr(args, "runs", 1) < 1:
        raise Error("the number of measurements must be at least 1")
    print(f"{cores()} CPU cores, {torch.get_num_threads()} threads, torch {torch.__version__}")
    args.measure(args)
    return 0


def time_data(args: argparse.Namespace) -> None:
    """Images/s of the data pipeline alone and of training, and the share of a training step spent waiting for data."""
    path = find(args.solver, what="solver")
    param = prototext.read_solver(path)
    for field in ("test_net", "test_iter", "weights"):  # the speed is the same without
        param.ClearField(field)
    param.display = param.snapshot = param.test_interval = 0
    solver = Solver(param, path=path, device=args.device or "cpu", precision=args.precision, log=log.Log(quiet=True))
    surgery.interp(solver.net, surgery.unfilled_upsampling(solver.net))
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
    print(report.table(rows, ["images/s", "median", "least", "most"]))
    print(f"a step waits for data {100 * solver.waited / sum(steps):.1f} % of its time")


def time_load(args: argparse.Namespace) -> None:
    """Seconds to read a weights file into a net that exists, and the memory that takes beside the net's."""
    path = Path(args.weights)
    net = Net(analysis.without_data(find(args.net, what="net")))
    if not path.exists():
        types = {node.name: node.type for node in net.graph.nodes}
        blobs = {name: (types[name], [p.detach() for p in params]) for name, params in net.layers_with_params().items()}
        weights.write_weights(path, net.graph.name, blobs)
    target = net.layers_with_params()
    before = _peak()
    weights.load(path, target)
    spent = _timed(lambda: weights.load(path, target), args.runs)
    size = path.stat().st_size
    rows = [[path.name, f"{size / 1e6:.0f}", *(f"{t:.3f}" for t in (statistics.median(spent), min(spent), max(spent))),
             f"{(_peak() - before) / size:.2f}"]]
    print(report.table(rows, ["file", "MB", "median s", "least", "most", "extra memory / size"]))


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
