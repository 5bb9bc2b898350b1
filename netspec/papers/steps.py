"""How long a training step takes beside plain PyTorch's, which does the same, in one run."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import groupby
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..base import log
from ..base.errors import Error, count, one_line
from ..data.feed import Batches
from ..net.deploy import deploy
from ..net.graph import Node
from ..ops.softmax import MODES, ignored_label, normalization
from ..proto.caffe_pb2 import TRAIN, FillerParameter, LayerParameter, SolverParameter
from ..proto.text import read_solver
from ..train import jobs
from ..train.solver import Solver
from . import plain
from .contenders import AUTOCAST, Contender, asked_for, refed
from .measure import rounds
from .speed import beside, enliven

STEP_BOUNDS = {"fp32": 1e-3, "bf16": 0.3}  # of the step's length: with more, a program does something else
MEANING = "the length of the difference to netspec's first step in fp32 (without dropout), as a share of it"


class Ours:
    """netspec's solver."""

    told = "no tests, snapshots and display"

    def __init__(self, param: SolverParameter, path: Path, precision: str, device: str = "cpu") -> None:
        self.solver = Solver(param, path=path, device=device, precision=precision, log=log.Log(quiet=True))
        enliven(self.solver.net)
        self.dropouts = [node.op for node in self.solver.net.graph.nodes if node.type == "Dropout"]
        self.ratios = [op.layer.dropout_param.dropout_ratio for op in self.dropouts]

    def step(self) -> float:
        return self.solver.step()

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

    def step(self) -> float:
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


def bare(path: Path, size: tuple[int, int] | None) -> SolverParameter:
    """A solver's training alone, of a batch a step, on made images and labels of a size (None: as its data
    say, else 500x500)."""
    param = read_solver(path)
    opened = jobs.jobs(param, str(path))[0].opened(path.resolve().parent)
    graph = deploy(opened.net, TRAIN, size, losses=True, path=opened.path)
    classes = {node.bottoms[1].blob: graph.shapes[node.bottoms[0]][1] for node in graph.nodes
               if node.op.loss and len(node.bottoms) > 1}
    data = LayerParameter(name="data", type="DummyData", top=graph.inputs)
    for blob in graph.inputs:
        data.dummy_data_param.shape.add(dim=graph.shape(blob))
        noise = FillerParameter(type="gaussian", std=1)
        labels = FillerParameter(type="uniform", max=classes.get(blob, 1) - 1e-3)  # whose whole part counts
        data.dummy_data_param.data_filler.append(labels if blob in classes else noise)
    for field in ("net", "train_net", "net_param", "test_net", "test_net_param", "test_iter", "weights"):
        param.ClearField(field)
    param.train_net_param.CopyFrom(refed(graph, [data]))
    param.display = param.snapshot = param.test_interval = 0
    param.iter_size, param.random_seed = 1, 0
    return param


def time_train(path: Path, size: tuple[int, int] | None, precisions: Sequence[str], only: Sequence[str],
               repeats: int, device: str = "cpu") -> str:
    """Seconds of a solver's training step in netspec and in plain PyTorch, which take turns.

    Data and parameters are as `bare` and `enliven` make them. The first step of each is held against
    netspec's in float32, and who differs by more than STEP_BOUNDS is left out. Ratios are of one round each,
    to plain PyTorch. only: the words of which the name of a program must have one.
    """
    param, left = bare(path, size), list[str]()
    ours = Ours(param, path, "fp32", device)
    runs = dict(_runs(ours, param, path, precisions, only, left))
    ours.drop(False)
    ours.step()
    first, found = ours.taken(), {}
    for each, run in runs.items():
        if run is not ours:
            run.drop(False)
            run.step()
        apart = _apart(first, run.taken())
        if apart <= STEP_BOUNDS[each.precision]:
            found[each] = f"{apart:.1e}"
        else:
            left.append(f"{each.name} in {each.precision} is left out: its step differs by {apart:.2g}")
        run.drop(True)
    if not found:
        raise Error(f"{path}: there is nothing to time; {'; '.join(left) or 'no program has such a name'}")
    net = ours.solver.net
    sizes = ", ".join("x".join(map(str, shape)) for source in net.graph.readers for shape in source.shapes())
    head = f"{net.graph.name}, a training step, {sizes}, {count(repeats, 'round')} after one to warm up"
    spent = rounds({each: each.call for each in found}, repeats)
    return "\n".join([one_line(head), beside(found, spent, MEANING), *left])


def _runs(ours: Ours, param: SolverParameter, path: Path, precisions: Sequence[str], only: Sequence[str],
          left: list[str]) -> Iterator[tuple[Contender, Ours | Plain]]:
    """Who takes part, before any first step. left: gets a sentence for who can't."""
    for precision in precisions if asked_for("netspec", only) else ():
        run = ours if precision == "fp32" else Ours(param, path, precision, str(ours.solver.device))
        yield Contender("netspec", precision, run.step, run.told), run
    for precision in precisions if asked_for("plain PyTorch", only) else ():
        try:
            other = Plain(ours.solver, precision)
        except Error as problem:
            left.append(f"plain PyTorch is left out: {problem}")
            return
        yield Contender("plain PyTorch", precision, other.step, other.told, True), other


def _apart(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> float:
    """The length of the difference of two steps as a share of the first; infinite where one lacks a part."""
    if ours.keys() != theirs.keys():
        return float("inf")
    whole = sum(float(x.square().sum()) for x in ours.values())
    return (sum(float((x - theirs[key]).square().sum()) for key, x in ours.items()) / whole) ** 0.5
