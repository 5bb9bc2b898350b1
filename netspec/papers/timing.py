"""How fast the parts of a job are on this machine, warm: its data, a weights file, scores of a whole image at
once."""

import random
from contextlib import ExitStack, closing, suppress
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from torch.nn.functional import pad

from ..base import log
from ..base.errors import Error, count
from ..base.machine import WAITING, cores
from ..base.table import table
from ..data.feed import Batches
from ..net import rewrite, weights
from ..net.build import build
from ..net.deploy import deploy
from ..net.fields import fields
from ..net.module import Net
from ..proto.text import read_solver
from ..train.solver import Solver
from .measure import child, load_average, once, peak, ratios, rounds, seconds, spread

OURS = "as commands wait"
POLICIES = {  # how threads wait -> the environment of a process
    OURS: WAITING,
    "as torch comes": {},
    "asleep at once": {"OMP_WAIT_POLICY": "passive"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}
LOADS = ("quiet", "busy")


def _training(path: Path, device: str = "cpu", precision: str = "fp32") -> Solver:
    """A solver's training alone, without tests, weights and snapshots: the speed is the same."""
    param = read_solver(path)
    for field in ("test_net", "test_iter", "weights"):
        param.ClearField(field)
    param.display = param.snapshot = param.test_interval = 0
    solver = Solver(param, path=path, device=device, precision=precision, log=log.Log(quiet=True))
    weights.ready(solver.net)
    return solver


def time_data(path: Path, iterations: int, device: str, precision: str) -> str:
    """Images/s of a solver's data alone and of training, and how much of a step is waiting for data."""
    solver = _training(path, device, precision)
    graph, size = solver.net.graph, solver.param.iter_size
    with closing(solver):
        solver.step(2)
        solver.data.waited = 0.0
        steps = seconds(lambda: solver.step(1), iterations)
    with closing(Batches(graph.readers, torch.device("cpu"))) as batches:
        batches.next()
        loads = seconds(batches.next, iterations * size)
    images = graph.readers[0].batch_size
    rows = [["data alone", *spread([images / s for s in loads], 1)],
            ["training", *spread([images * size / s for s in steps], 1)]]
    return (table(rows, ["images/s", "median", "least", "most"])
            + f"\na step waits for data {100 * solver.data.waited / sum(steps):.1f} % of its time")


def make_weights(path: Path, file: Path) -> None:
    """A weights file of a net's fillers."""
    weights.save(file, Net(deploy(path, losses=True)))


def time_wait(path: Path, repeats: int) -> str:
    """Seconds of a training step for each of POLICIES, quiet and beside a program that spins on every core.

    Each trains in a process of its own, with its data processes. They take turns, in a new order each round,
    a round of quiet after one of busy; ratios are of one round each, so that other load falls on all alike.
    """
    _training(path).close()  # its mistakes are told here
    spent: dict[tuple[str, str], list[float]] = {(load, name): [] for load in LOADS for name in POLICIES}
    order, began = random.Random(0), load_average()
    with ExitStack() as stack:
        asked = {name: stack.enter_context(child(_steps, path, **policy))
                 for name, policy in POLICIES.items()}
        turns = {name: partial(_answer, process) for name, process in asked.items()}
        for load in LOADS * (repeats + 1):  # the first round warms up
            with ExitStack() as spinning:
                for _ in range(cores() if load == "busy" else 0):
                    spinning.enter_context(child(_spin))
                for name, found in once(turns, order).items():
                    spent[load, name].append(found)
    rows = [[load, name, spread(steps[1:], 3)[0], *ratios(steps[1:], spent[load, OURS][1:])]
            for (load, name), steps in spent.items()]
    return (f"a training step; busy: beside {count(cores(), 'process')} that do nothing but spin; "
            f"load average before: {began}\n"
            + table(rows, ["", "threads", "median s", "ratio", "least", "most"]))


def _steps(asked: Connection, path: Path) -> None:
    """Take as many training steps as asked for, and give their seconds, until nothing more can be asked."""
    with closing(_training(path)) as solver, suppress(EOFError):
        solver.step(2)
        asked.send(None)
        while steps := asked.recv():
            asked.send(seconds(lambda: solver.step(steps), 1)[0])


def _answer(asked: Connection) -> float:
    """The seconds of one more step in another process."""
    asked.send(1)
    return asked.recv()


def _spin(asked: Connection) -> None:
    asked.send(None)
    while not asked.poll():
        pass


def time_load(path: Path, file: Path, repeats: int) -> str:
    """Seconds to read a weights file into a net that exists, and the memory that takes beside the net's."""
    net = Net(deploy(path, losses=True))
    target = net.layers_with_params()
    before = peak()
    weights.load(file, target)
    spent = seconds(lambda: weights.load(file, target), repeats)
    size = file.stat().st_size
    row = [file.name, f"{size / 1e6:.0f}", *spread(spent, 3), f"{(peak() - before) / size:.2f}"]
    return table([row], ["file", "MB", "median s", "least", "most", "extra memory / size"])


def time_dense(path: Path, size: tuple[int, int], repeats: int) -> str:
    """Section 3.1: seconds for all scores of an image in one pass, and for the classifier on as many crops.

    Where their inputs agree, both compute the same: without padding inside the net a score depends on its
    window of the image alone, and such windows are then the classifier's input. With padding, a crop has
    zeros where the image goes on. size: height and width; Error where two windows do not fit.
    """
    classifier = Net(deploy(path, losses=True))
    form, layers, _ = rewrite.convolutionalise(classifier.graph)
    net = Net(build(form))
    rewrite.randomise(classifier)
    rewrite.share_reshaped(classifier, net)
    data, score = net.graph.inputs[0], net.graph.node(layers[-1]).tops[0].blob
    channels, side = net.graph.shape(data)[1:3]
    image = torch.randn(1, channels, *size, generator=torch.Generator().manual_seed(0)) * 50
    try:
        plain = Net(build(rewrite.unpadded(form), shapes={data: tuple(image.shape)}), share=net)
    except Error as e:
        raise Error(f"{e}; without padding a net needs larger images, and paths of the same size") from None
    seen = fields(plain.graph)[plain.graph.node(layers[-1]).tops[0]][0]
    window, stride = int(seen.extent), int(seen.stride)
    if window + stride > min(size):
        raise Error(f"net '{form.name}': two windows do not fit an image of {size[0]}x{size[1]}; give a "
                    "larger --size")
    small = build(rewrite.unpadded(classifier.graph.proto), shapes={data: (1, channels, window, window)})

    with torch.no_grad():
        cells = net({data: image}, [score])[score].shape[2:]
        # the last crops hang over the edge, as poolings do
        low, right = (max(0, (n - 1) * stride + side - along) for n, along in zip(cells, size, strict=True))
        crops = _crops(pad(image, (0, right, 0, low)), side, stride)
        passes = {"dense, one pass": lambda: net({data: image}, [score]),
                  f"{len(crops)} crops, one batch": lambda: classifier({data: crops}, [score])}
        spent = rounds(passes, repeats)
        whole = plain({data: image}, [score])[score][0].flatten(1).t()
        each = Net(small, share=classifier)({data: _crops(image, window, stride)}, [score])[score]
    dense, cropped = spent.values()
    rows = [[name, *spread(times, 3)] for name, times in spent.items()]
    median, least, most = spread([b / a for a, b in zip(dense, cropped, strict=True)], 1)
    return "\n".join([
        f"random image of {size[0]}x{size[1]} and weights, seed 0: {cells[0]}x{cells[1]} scores at stride "
        f"{stride}, or crops of {side}x{side}", table(rows, ["", "median s", "least", "most"]),
        f"the crops cost {median} times as much (least {least}, most {most})",
        f"without padding inside the net, {len(whole)} scores and the classifier on their windows of "
        f"{window}x{window} differ by {float((whole - each).abs().max()):.2g} at most; the largest score is "
        f"{float(each.abs().max()):.4g}"])


def _crops(image: torch.Tensor, side: int, stride: int) -> torch.Tensor:
    """Every side x side crop of a 1 x C x H x W image at this stride, row by row, as a batch."""
    crops = image[0].unfold(1, side, stride).unfold(2, side, stride).permute(1, 2, 0, 3, 4)
    return crops.flatten(0, 1).contiguous()
