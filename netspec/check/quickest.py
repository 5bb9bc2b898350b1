"""Whether another program runs a net quicker on this machine than torch."""

import time
from collections.abc import Callable
from functools import partial
from statistics import median

import torch

from ..base.errors import Error
from ..convert import engines, onnx, routed
from ..convert.agree import shapes_for
from ..net.deploy import SIDES, deploy
from ..net.module import Net
from ..net.plan import Plan
from ..proto.caffe_pb2 import NetParameter
from . import NOTE, OK, Finding

SIDE, TIMES, GAIN = 128, 3, 0.85  # pixels of an image that takes little time; runs; the share that pays


def quickest(net: Net, proto: NetParameter | None = None) -> list[Finding]:
    """The times of the engines that are installed, as shares of torch's: of a small image, by turns, warm.

    net: with its weights, on the CPU, where alone engines run. proto: what is run for results, if
    not the same. Nothing is said where none is installed.
    """
    here = engines.available()
    if not here or net.device.type != "cpu":
        return []
    try:
        has = {slot.key: slot.shape for slot in net.graph.params}
        graph = deploy(proto or net.graph.proto, path=net.graph.path, sides=SIDES, fits=lambda graph: all(
            has.get(slot.key, slot.shape) == slot.shape for slot in graph.params))
        ours = Net(graph, share=net).eval()
        shapes = shapes_for(graph, (1, SIDE, SIDE))
        try:
            graph.infer(shapes)
        except Error:  # the net has a size of its own
            shapes = {blob: graph.shape(blob) for blob in graph.inputs}
        built, threads = routed.Routed(routed.planned(ours), shapes), torch.get_num_threads()
        model = onnx.model(ours, built).SerializeToString()
        images = {blob: torch.randn(shape) for blob, shape in shapes.items()}
        arrays = {blob: image.numpy() for blob, image in images.items()}
        runs: dict[str, Callable[[], object]] = {"torch": partial(Plan(ours), images)}
        for name in here:
            runs[name] = partial(engines.open(name, model, threads), arrays)
        taken = _taken(runs)
    except Error as e:
        return [Finding(OK, "engines", f"{' and '.join(here)} cannot run the net: {e}")]
    shares = {name: taken[name] / taken["torch"] for name in here}
    size = ", ".join("x".join(map(str, shape)) for shape in shapes.values())
    said = ", ".join(f"{name} {share:.2f}" for name, share in shares.items()) + f" of torch's time on {size}"
    best = min(shares, key=lambda name: shares[name])
    if shares[best] >= GAIN:
        return [Finding(OK, "engines", said)]
    return [Finding(NOTE, "engines", said, f"infer and score are quicker with --engine {best}")]


def _taken(runs: dict[str, Callable[[], object]]) -> dict[str, float]:
    """The median seconds of each, after one run that is not counted."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    with torch.inference_mode():
        for turn in range(TIMES + 1):
            for name, run in runs.items():
                begun = time.perf_counter()
                run()
                if turn:
                    found[name].append(time.perf_counter() - begun)
    return {name: median(times) for name, times in found.items()}
