"""How long a training step takes beside plain PyTorch's, which does the same, in one run."""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..base import log
from ..base.errors import Error, count, one_line
from ..base.machine import settle
from ..convert.agree import own_size, shapes_for
from ..data.feed import Batches
from ..net.deploy import deploy
from ..net.graph import Node
from ..net.passes import TRAINING
from ..ops.softmax import MODES, ignored_label, normalization
from ..proto.caffe_pb2 import TRAIN, FillerParameter, LayerParameter, SolverParameter
from ..proto.text import read_solver
from ..train import jobs
from ..train.solver import Solver
from . import plain
from .contenders import AUTOCAST, Contender, asked_for, check_precisions, refed, settled, told_of_tf32
from .measure import rounds
from .profiled import spent_on
from .speed import beside, enliven
from .work import memory, of_card, of_step

# of the step's length: with more, a program does something else. Chosen, not measured: TF32 keeps 11 bits
# where bf16 keeps 8, so that its error is an eighth or so
STEP_BOUNDS = {"fp32": 1e-3, "tf32": 0.05, "bf16": 0.3}
MEANING = "the length of the difference to netspec's first step in fp32 (without dropout), as a share of it"


Forms = Mapping[str, Mapping[str, Any]]  # a name of netspec run in some way -> its Solver's options
USUAL: Forms = {"netspec": {}}


class Ours:
    """netspec's solver."""

    told = "no tests, snapshots and display"

    def __init__(self, param: SolverParameter, path: Path, precision: str, device: str = "cpu",
                 **form: Any) -> None:
        """form: options of the Solver's. Raises Error as it does."""
        self.solver = Solver(param, path=path, device=device, precision=precision, log=log.Log(quiet=True),
                             **form)
        enliven(self.solver.net)
        batch = self.solver.data.next(self.solver.net)  # one, on the device, as plain PyTorch has
        vars(self.solver.data)["next"] = lambda net: batch
        self.dropouts = [node.op for node in self.solver.net.graph.nodes if node.type == "Dropout"]
        self.ratios = [op.layer.dropout_param.dropout_ratio for op in self.dropouts]

    def step(self, times: int = 1) -> float:
        return self.solver.step(times)

    def taken(self) -> dict[str, Tensor]:
        """What the first step took from each parameter."""
        return {slot.key: x for (slot, _), x in zip(self.solver.learned, self.solver.history, strict=True)}

    def drop(self, on: bool) -> None:
        """Whether dropout drops."""
        for op, ratio in zip(self.dropouts, self.ratios, strict=True):
            vars(op)["ratio"] = ratio if on else 0.0


class Plain:
    """A step of plain PyTorch: plain.FCN, cross entropy, SGD with a group for each rate and decay."""

    told = "channels_last, set_to_none, torch.optim.SGD(fused=True), autocast in bf16"

    def __init__(self, solver: Solver, precision: str) -> None:
        """solver: netspec's, whose settings, parameters and first batch it takes. Raises Error where they
        have no plain form here."""
        p, graph = solver.param, solver.net.graph
        made = plain.of(graph, solver.net.state_dict())
        losses = [node for node in graph.nodes if node.loss_weights and any(node.loss_weights)]
        if made is None or p.type != "SGD" or [node.type for node in losses] != ["SoftmaxWithLoss"]:
            raise Error("it is written for FCN-32s, 16s and 8s on a trunk like VGG's, with SoftmaxWithLoss "
                        "and SGD")
        self.device, made = solver.device, made.to(solver.device)
        self.net, self.dtype, self.clip = made.channels_last(), AUTOCAST[precision], p.clip_gradients
        self.criterion = _criterion(losses[0])
        learned = {slot.key: (slot.lr_mult, slot.decay_mult) for slot, _ in solver.learned}
        for name, parameter in made.named_parameters():
            parameter.requires_grad_(name in learned)
        names = sorted(learned, key=lambda name: learned[name])
        groups = [{"params": [made.get_parameter(name) for name in same], "lr": solver.lr * rate,
                   "weight_decay": p.weight_decay * decay}
                  for (rate, decay), same in groupby(names, lambda name: learned[name])]
        self.optimizer = torch.optim.SGD(groups, lr=solver.lr, momentum=p.momentum, fused=True)
        with closing(Batches(graph.readers, self.device)) as batches:
            batch = batches.next()
        image, label = (batch[value.blob] for value in (graph.nodes[0].bottoms[0], losses[0].bottoms[1]))
        self.image, self.label = image.contiguous(memory_format=torch.channels_last), label[:, 0].long()

    def step(self, times: int = 1) -> float:
        for _ in range(times):
            with torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None):
                score = self.net(self.image)
            loss = self.criterion(score.float(), self.label)
            loss.backward()
            if self.clip > 0:
                nn.utils.clip_grad_norm_(self.net.parameters(), self.clip)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
        return loss.item()

    def taken(self) -> dict[str, Tensor]:
        rates = {id(x): group["lr"] for group in self.optimizer.param_groups for x in group["params"]}
        return {name: rates[id(x)] * self.optimizer.state[x]["momentum_buffer"]
                for name, x in self.net.named_parameters() if id(x) in rates}

    def drop(self, on: bool) -> None:
        self.net.dropout.train(on)


def _criterion(node: Node) -> Callable[[Tensor, Tensor], Tensor]:
    """torch's cross entropy, normalised as a SoftmaxWithLoss layer is."""
    p = node.op.layer.loss_param
    mode, ignore = normalization(p), ignored_label(p)

    def loss(score: Tensor, label: Tensor) -> Tensor:
        kind = "mean" if mode == MODES.VALID else "sum"
        found = F.cross_entropy(score, label, ignore_index=-100 if ignore is None else ignore, reduction=kind)
        return found / {MODES.BATCH_SIZE: len(label), MODES.FULL: label.numel()}.get(mode, 1)

    return loss


def bare(path: Path, size: tuple[int, int] | None, batch: int | None = None) -> SolverParameter:
    """A solver's training alone, of a batch a step, on made images and labels of a size (None: as its data
    say, else 500x500). batch: of so many (None: as its data say)."""
    param = read_solver(path)
    opened = jobs.jobs(param, str(path))[0].opened(path.resolve().parent)
    graph = deploy(opened.net, TRAIN, size, losses=True, path=opened.path)
    images, high, wide = own_size(graph)
    shapes = shapes_for(graph, (batch or images, high, wide))
    classes = {node.bottoms[1].blob: graph.shapes[node.bottoms[0]][1] for node in graph.nodes
               if node.op.loss and len(node.bottoms) > 1}
    data = LayerParameter(name="data", type="DummyData", top=graph.inputs)
    for blob in graph.inputs:
        data.dummy_data_param.shape.add(dim=shapes[blob])
        noise = FillerParameter(type="gaussian", std=1)
        labels = FillerParameter(type="uniform", max=classes.get(blob, 1) - 1e-3)  # whose whole part counts
        data.dummy_data_param.data_filler.append(labels if blob in classes else noise)
    for field in ("net", "train_net", "net_param", "test_net", "test_net_param", "test_iter", "weights"):
        param.ClearField(field)
    param.train_net_param.CopyFrom(refed(graph, [data]))
    param.display = param.snapshot = param.test_interval = 0
    param.iter_size, param.random_seed = 1, 0
    return param


def forms_of(rewrites: bool = False, checkpoint: bool = False, compiled: bool = False) -> Forms:
    """netspec as it trains, and in the ways that are asked for too. rewrites: without each of them."""
    without = {f"netspec without {name}": {"without": (name,)} for name in TRAINING if rewrites}
    more = {"netspec --checkpoint": {"checkpoint": checkpoint}, "netspec --compile": {"compiled": compiled}}
    return {**USUAL, **without, **{name: form for name, form in more.items() if any(form.values())}}


def time_train(path: Path, size: tuple[int, int] | None, precisions: Sequence[str], only: Sequence[str],
               repeats: int, device: str = "cpu", batch: int | None = None, steps: int = 1,
               forms: Forms = USUAL, profile: bool = False) -> str:
    """Seconds of a solver's training step in netspec and in plain PyTorch, which take turns.

    Data and parameters are as `bare` and `enliven` make them. The first step of each is held against
    netspec's in float32, and who differs by more than STEP_BOUNDS is left out. Ratios are of one round each,
    to plain PyTorch. only: the words of which the name of a program must have one. steps: taken in a row in
    each round, the loss read behind the last; memory and `profile` (see `spent_on`) are of one. Raises Error
    for a precision that the device does not have.
    """
    check_precisions(precisions, torch.device(device))
    param, left = bare(path, size, batch), list[str]()
    ours = Ours(param, path, "fp32", device)
    runs = dict(_runs(ours, param, path, precisions, only, steps, forms, left))
    found = _alike(ours, runs, left)
    if not found:
        raise Error(f"{path}: there is nothing to time; {'; '.join(left) or 'no program has such a name'}")
    graph, place, asked = ours.solver.net.graph, ours.solver.device, read_solver(path)
    sizes = ", ".join("x".join(map(str, shape)) for source in graph.readers for shape in source.shapes())
    head = (f"{graph.name}, a training step, {sizes}, {count(repeats, 'round')} after one to warm up"
            + f", {steps} steps in each" * (steps > 1))
    calls = {each: each.call for each in found}
    spent = {each: [s / steps for s in row] for each, row in rounds(calls, repeats).items()}
    work, once = of_step(graph), [settled(each._replace(call=runs[each].step), place) for each in found]
    return "\n".join([one_line(head), beside(found, spent, MEANING, work=work), *of_card(place, work, spent),
                      *([] if batch else whole(spent, asked)), *memory(place, once),
                      *told_of_tf32(place, precisions), *left,
                      *(["", spent_on(once, repeats, place)] if profile else [])])


def whole(spent: Mapping[Contender, Sequence[float]], asked: SolverParameter) -> list[str]:
    """A line with the minutes of all of a solver's iterations at its own steps; none without max_iter."""
    steps = asked.max_iter * asked.iter_size
    found = [f"{each.name} in {each.precision} {statistics.median(row) * steps / 60:.1f}"
             for each, row in spent.items() if " without " not in each.name]
    return [f"minutes for {asked.max_iter} iterations ({count(steps, 'step')}) by the median, without "
            f"reading data, tests and snapshots: {', '.join(found)}"] if steps else []


def _alike(ours: Ours, runs: Mapping[Contender, Ours | Plain], left: list[str]) -> dict[Contender, str]:
    """Those whose first step is netspec's in float32, and by how much each differs. left: gets a sentence for
    each other."""
    settle(ours.solver.device, "fp32")
    ours.drop(False)
    ours.step()
    first, found = ours.taken(), {}
    for each, run in runs.items():
        if run is not ours:
            settle(ours.solver.device, each.precision)
            run.drop(False)
            run.step()
        apart = _apart(first, run.taken())
        if apart <= STEP_BOUNDS[each.precision]:
            found[each] = f"{apart:.1e}"
        else:
            left.append(f"{each.name} in {each.precision} is left out: its step differs by {apart:.2g}")
        run.drop(True)
    return found


def _runs(ours: Ours, param: SolverParameter, path: Path, precisions: Sequence[str], only: Sequence[str],
          steps: int, forms: Forms, left: list[str]) -> Iterator[tuple[Contender, Ours | Plain]]:
    """Who takes part, before any first step. left: gets a sentence for who can't."""
    device = ours.solver.device

    def taking(run: Ours | Plain, name: str, precision: str) -> tuple[Contender, Ours | Plain]:
        told = "" if name in forms and forms[name] else run.told
        each = Contender(name, precision, partial(run.step, steps), told, isinstance(run, Plain))
        return settled(each, device), run

    for name, form in forms.items():
        for precision in precisions if asked_for(name, only) else ():
            try:
                usual = not form and precision == "fp32"
                run = ours if usual else Ours(param, path, precision, str(device), **form)
            except Error as problem:
                left.append(f"{name} is left out: {problem}")
                break
            yield taking(run, name, precision)
    for precision in precisions if asked_for("plain PyTorch", only) else ():
        try:
            other = Plain(ours.solver, precision)
        except Error as problem:
            left.append(f"plain PyTorch is left out: {problem}")
            return
        yield taking(other, "plain PyTorch", precision)


def _apart(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> float:
    """The length of the difference of two steps as a share of the first; infinite where one lacks a part."""
    if ours.keys() != theirs.keys():
        return float("inf")
    whole = sum(float(x.square().sum()) for x in ours.values())
    return (sum(float((x - theirs[key]).square().sum()) for key, x in ours.items()) / whole) ** 0.5
