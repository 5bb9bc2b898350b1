"""Training as Caffe's solvers do it: accumulate, clip, divide, decay, update; test, display, snapshot, restore."""

import math
import os
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..base.errors import Error, Interrupted
from ..base.files import find
from ..base.log import Log
from ..base.machine import choose
from ..data.feed import Batches, Skips
from ..net import weights
from ..net.layerwise import Layerwise
from ..net.module import Net
from ..proto import caffe_pb2
from ..proto import text as prototext
from . import jobs, updates
from . import snapshot as resume
from .display import DebugInfo, Display
from .jobs import Job

TRAIN_LINES = {"net": 102, "train_net": 92, "net_param": 97, "train_net_param": 88}  # of solver.cpp, for log parsers


class Solver:
    """A SolverParameter at work on its nets.

    `iter` counts finished iterations; `net` is the TRAIN net, `test_nets` the TEST nets, which share its
    parameters. All randomness (fillers, dropout, the order of data whose layer has no seed of its own) comes
    from `seed`: on the CPU two runs with one seed are equal bit for bit.
    """

    def __init__(self, param: Any, *, path: str | os.PathLike | None = None, device: str = "cpu",
                 precision: str = "fp32", strict: bool = False, log: Log | None = None) -> None:
        """param: SolverParameter; its `weights` are loaded. path: its file, from whose folder its paths are tried too.

        precision: fp32 (Caffe's arithmetic), tf32 or bf16 (for the products only; parameters and updates stay
        float32). strict: weights must fill the net and hold no more. Raises Error for what cannot work.
        """
        self.param, self.path = param, Path(path) if path else None
        self.base = self.path.resolve().parent if self.path else None
        self.log = log or Log(quiet=True)
        self.device, self.precision, self.strict = choose(device, precision), precision, strict
        try:
            updates.check(param)
        except Error as e:
            raise self.error(str(e)) from None
        train, tests = jobs.jobs(param, str(self.path or "solver"))
        self.seed = param.random_seed if param.random_seed >= 0 else secrets.randbits(31)
        torch.manual_seed(self.seed)
        self.iter = 0
        self.losses: deque[float] = deque(maxlen=param.average_loss)
        self.stop: int | None = None  # a signal's number: leave at the next image
        self.snapshot_asked = False  # at the end of the iteration
        self.last_snapshot = resume.Snapshot()
        self.callbacks: list[Callable[[Solver, float], None]] = []  # after each iteration: (solver, loss)
        self.layerwise: dict[Net, Layerwise] = {}  # nets whose every blob is wanted ...
        self.watch_from = math.inf  # ... of the train net in iterations from this number on
        self.steps: updates.Tensors = ()  # what the last iteration took from the learned parameters
        self.log(f"solver.cpp:{TRAIN_LINES[train.field]}", "Creating training net " + (
            f"from {train.said}" if isinstance(train.net, str) else f"specified in {train.said}."))
        self.net = self._build(train)
        self.test_nets: list[Net] = []
        for i, job in enumerate(tests):
            self.log("solver.cpp:190", f"Creating test net (#{i}) specified by {job.said}")
            self.test_nets.append(self._build(job, self.net))
        self.learned = [(s, p) for s, p in self.net.parameters_by_slot() if p.requires_grad]
        if not self.learned:
            raise self.error(f"net '{self.net.graph.name}' has nothing to learn: every lr_mult is 0, or it has no parameters")
        self.rule, self.kinds = updates.RULES[param.type]
        self.history = [torch.zeros_like(p) for _ in range(self.kinds) for _, p in self.learned]
        # a forward pass in TRAIN changes these, so an iteration that is given up must put them back
        self._moving = [p for n in self.net.graph.nodes if n.op.moving
                        for p in self.net.layers_with_params()[n.name]]
        self.skips = Skips(self.log)  # its `most` is for the caller to set
        self.batches = {net: Batches(net.graph.readers, self.device, self.skips)
                        for net in (self.net, *self.test_nets)}
        self._unseeded = [node.op for net in self.batches for node in net.graph.sources if "seed" not in vars(node.op)]
        self._seed(self.seed)
        self.display = Display(param, self.log)
        self.waited = 0.0  # seconds, for data
        self.loaded: dict[str, str] = {}  # layer -> how it came from a file of `weights`: 'copied' or 'reshaped'
        self.skipped: list[str] = []  # layers of those files that the net does not have
        for name in ",".join(param.weights).split(",") if param.weights else ():
            self.load(name.strip())
        self.log("solver.cpp:57", "Solver scaffolding done.")

    def error(self, message: str) -> Error:
        return Error(f"{self.path or 'solver'}: {message}")

    def _build(self, job: Job, share: Net | None = None) -> Net:
        net = Net(job.graph(self.base), share)
        net.precision = torch.bfloat16 if self.precision == "bf16" else None
        net.to(self.device)
        for parameter in net.parameters():
            if parameter.ndim == 4:  # the faster order, on CPUs too
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        return net

    def _seed(self, seed: int) -> None:
        self.seed = seed
        for source in self._unseeded:
            source.seed = seed

    def load(self, name: str) -> weights.Report:
        """Copy the weights of a file into the layers of the same names; Error if it has none of them."""
        try:
            file = find(name, self.base, "weights")
        except Error as e:
            raise self.error(f"{e}; the comment at the top of the solver says how to get them, --weights names others") from None
        self.log("solver.cpp:72", f"Finetuning from {name}")
        report = weights.load(file, self.net.layers_with_params(), strict=self.strict)
        if not report.copied and not report.reshaped:
            raise self.error(f"the weights {file} have no layer of net '{self.net.graph.name}'; layers are matched by name")
        self.skipped += report.ignored
        self.loaded |= {layer: "copied" for layer in report.copied} | {layer: "reshaped" for layer in report.reshaped}
        return report

    # -- data --------------------------------------------------------------------------------------------

    def _run(self, net: Net) -> tuple[dict[str, Tensor], int]:
        """The outputs of a net for its next batch, and the number of images in it."""
        begin = time.perf_counter()
        inputs = self.batches[net].next()
        self.waited += time.perf_counter() - begin
        run = self._by_layer(net)
        try:
            return run.run(inputs) if run else net(inputs), max((t.shape[0] for t in inputs.values() if t.ndim), default=1)
        except Error as e:
            raise Error(f"{e}; the data were {self.batches[net].last()}") from None

    def _by_layer(self, net: Net) -> Layerwise | None:
        """What runs this pass where every blob is wanted: for debug_info, or for one who looks on."""
        debug = self.param.debug_info and (net is not self.net or self.display.due(self.iter))
        if debug and net not in self.layerwise:
            self.layerwise[net] = Layerwise(net)
        if not debug and (net is not self.net or self.iter < self.watch_from):
            return None
        self.layerwise[net].watch = DebugInfo(self.log) if debug else None
        return self.layerwise[net]

    def positions(self, net: Net) -> list[int]:
        """The number of the next batch of each source of a net."""
        return self.batches[net].positions

    def close(self) -> None:
        """End the worker processes that read data; the next iteration starts them again."""
        for batches in self.batches.values():
            batches.close()

    def _capture(self) -> dict[str, Any]:
        """What decides the next iteration beside parameters and history: data positions and random state."""
        state = {"seed": self.seed, "train": self.positions(self.net), "test": [self.positions(n) for n in self.test_nets],
                 "skipped": list(self.skips.seen), "cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            state["cuda"] = torch.cuda.get_rng_state(self.device)
        return state

    def _rewind(self, state: dict[str, Any]) -> None:
        for batches, positions in zip(self.batches.values(), (state["train"], *state["test"]), strict=True):
            batches.rewind(positions)
        self._seed(state["seed"])
        self.skips.seen = list(state["skipped"])
        torch.set_rng_state(state["cpu"])
        if self.device.type == "cuda" and "cuda" in state:
            torch.cuda.set_rng_state(state["cuda"], self.device)

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """A block that either ends or leaves no trace: an exception puts data, randomness and gradients back."""
        begin, moving = self._capture(), [p.detach().clone() for p in self._moving]
        try:
            yield
        except BaseException:
            self.net.zero_grad(set_to_none=True)
            with torch.no_grad():
                for parameter, before in zip(self._moving, moving, strict=True):
                    parameter.copy_(before)
            self._rewind(begin)
            raise

    # -- iterations --------------------------------------------------------------------------------------

    @property
    def lr(self) -> float:
        """The learning rate of the next iteration."""
        return updates.rate(self.param, self.iter)

    @property
    def smoothed_loss(self) -> float:
        """The mean loss of the last average_loss iterations."""
        return sum(self.losses) / len(self.losses) if self.losses else math.nan

    def step(self, count: int = 1) -> float:
        """Run `count` iterations, with the tests and snapshots that fall due; the smoothed loss.

        Raises Interrupted when `stop` is set and Error when the loss is not finite, in the state before the
        unfinished iteration.
        """
        p = self.param
        for _ in range(count):
            with self._whole():
                if p.test_interval > 0 and self.iter % p.test_interval == 0 and (self.iter or p.test_initialization):
                    self.test_all()
                loss, blobs, images = self._accumulate()
                if not math.isfinite(loss):
                    raise self._not_finite(f"the loss is {loss} at iteration {self.iter}; nothing was updated")
            self.losses.append(loss)
            rate = self.lr
            self.display.iteration(self.iter, self.smoothed_loss, self.net, blobs, rate)
            self.update(rate)
            self.iter += 1
            self.log.progress(self.net.graph.name, self.iter, p.max_iter,
                              f"loss {self.smoothed_loss:.4g}  lr {rate:.3g}", images)
            for callback in self.callbacks:
                callback(self, loss)
            if self.snapshot_asked or p.snapshot and self.iter % p.snapshot == 0:
                self.snapshot()
        return self.smoothed_loss

    def _accumulate(self) -> tuple[float, dict[str, Tensor], int]:
        """Sum gradients over iter_size batches; the mean loss, the outputs of the last batch, the images in all."""
        size = self.param.iter_size
        total, images = torch.zeros((), device=self.device), 0
        for _ in range(size):
            if self.stop:
                raise Interrupted(self.stop)
            blobs, count = self._run(self.net)
            loss = self.net.loss(blobs)
            run = self._by_layer(self.net)
            run.backward() if run else loss.backward()
            total += loss.detach()
            images += count
        return total.item() / size, blobs, images

    def update(self, rate: float) -> None:
        """Change the learned parameters by their gradients, which are cleared."""
        p, size = self.param, self.param.iter_size
        params = [param for _, param in self.learned]
        grads = [torch.zeros_like(q) if q.grad is None else q.grad for q in params]
        with torch.no_grad():
            norm = updates.clip(p, grads)
            if norm is not None:
                self.log("sgd_solver.cpp:99", f"Gradient clipping: scaling down gradients (L2 norm {norm:.6g} > "
                         f"{p.clip_gradients:.6g}) by scale factor {p.clip_gradients / norm:.6g}")
            if size > 1:
                torch._foreach_div_(grads, size)
            updates.decay(p, grads, params, [slot.decay_mult for slot, _ in self.learned])
            rates = [rate * slot.lr_mult for slot, _ in self.learned]
            self.steps = self.rule(p, self.iter, grads, self.history, rates)
            torch._foreach_sub_(params, self.steps)
        self.net.zero_grad(set_to_none=True)

    def test_all(self) -> list[dict[str, np.ndarray]]:
        """Run every test net for its test_iter batches; the mean of each output."""
        return [self.test(i) for i in range(len(self.test_nets))]

    def test(self, index: int = 0) -> dict[str, np.ndarray]:
        """The mean outputs of one test net over test_iter batches, also written to the log.

        An output whose shape changes with the image has no mean and is left out.
        """
        net, count, loss = self.test_nets[index], self.param.test_iter[index], 0.0
        sums: dict[str, Tensor | None] = {}
        self.log("solver.cpp:347", f"Iteration {self.iter}, Testing net (#{index})")
        with torch.no_grad():
            for _ in range(count):
                if self.stop:
                    raise Interrupted(self.stop)
                blobs, _ = self._run(net)
                loss += self.net.loss(blobs) if self.param.test_compute_loss else 0.0
                for name in net.graph.outputs:
                    total = sums.get(name, torch.zeros_like(blobs[name]))
                    fits = total is not None and total.shape == blobs[name].shape
                    sums[name] = total + blobs[name] if fits else None
        means = {name: (total / count).cpu().numpy() for name, total in sums.items() if total is not None}
        if self.param.test_compute_loss:
            self.log("solver.cpp:401", f"Test loss: {float(loss) / count:.6g}")
        self.display.outputs("Test", "solver.cpp:414", net, means)
        return means

    def solve(self) -> None:
        """Train up to max_iter, then snapshot and test as Caffe does at the end."""
        p = self.param
        self.log("solver.cpp:289", f"Solving {self.net.graph.name}")
        self.log("solver.cpp:290", f"Learning Rate Policy: {p.lr_policy}")
        self.display.start(self.iter)
        self.step(max(0, p.max_iter - self.iter))
        if p.snapshot_after_train and (not p.snapshot or self.iter % p.snapshot):
            self.snapshot()
        with self._whole():
            if self.display.due(self.iter):
                with torch.no_grad():
                    loss = self.net.loss(self._run(self.net)[0]).item()
                shown = [*self.losses, loss][-self.losses.maxlen :]
                self.log("solver.cpp:327", f"Iteration {self.iter}, loss = {sum(shown) / len(shown):.6g}")
            if p.test_interval > 0 and self.iter % p.test_interval == 0:
                self.test_all()
        self.log("solver.cpp:332", "Optimization Done.")

    def _not_finite(self, what: str) -> Error:
        labels = "" if self.device.type == "cpu" else " (on a GPU a label outside the classes does this too)"
        return self.error(f"{what}{labels}; the last good snapshot is {self.last_snapshot.state or 'none'}; "
                          f"try a lower base_lr (the rate is {self.lr:g}) or clip_gradients")

    # -- snapshots ---------------------------------------------------------------------------------------

    def prefix(self) -> str:
        """snapshot_prefix, with a name where it ends as a folder does; without one, the net's name."""
        given, name = self.param.snapshot_prefix, self.path.stem if self.path else self.net.graph.name or "net"
        return given + name if not given or given.endswith("/") else given

    def snapshot(self) -> Path:
        """Write weights, state and what Caffe's state has no field for; the .solverstate's path.

        Raises Error, with nothing written, if parameters are not finite: the last good snapshot stays the last.
        """
        self.snapshot_asked = False
        if not all(torch.isfinite(p).all() for p in self.net.parameters()):
            raise self._not_finite(f"parameters are infinite or NaN at iteration {self.iter}; no snapshot was written")
        history = iter(self.history)
        blobs = [next(history) if param.requires_grad else torch.zeros(slot.shape)
                 for _ in range(self.kinds) for slot, param in self.net.parameters_by_slot()]
        facts = {"iter": self.iter, "losses": list(self.losses), **self._capture()}
        try:
            self.last_snapshot = resume.save(
                self.prefix(), self.net.graph.name, weights.layers_of(self.net),
                [b.detach().cpu().numpy() for b in blobs], facts, current_step=updates.current_step(self.param, self.iter),
                hdf5=self.param.snapshot_format == caffe_pb2.SolverParameter.HDF5, log=self.log)
        except OSError as e:
            raise self.error(f"the snapshot of iteration {self.iter} cannot be written: {e.strerror} "
                             f"({e.filename or self.prefix()}); the last good one is {self.last_snapshot.state or 'none'}"
                             ) from None
        return self.last_snapshot.state

    def save(self, path: str | os.PathLike, hdf5: bool = False) -> None:
        """The train net's weights as a .caffemodel (or .caffemodel.h5)."""
        weights.save(path, self.net, hdf5=hdf5)

    def final_weights(self) -> str:
        """The weights file of this iteration's snapshot, which is written first if there is none."""
        if self.last_snapshot.iteration != self.iter:
            self.snapshot()
        return str(self.last_snapshot.weights)

    def restore(self, path: str | os.PathLike) -> None:
        """Go on from a .solverstate, ours or Caffe's; Error, with nothing changed, if it does not fit.

        A state of Caffe's own has no .resume file beside it: the data then start again, as in Caffe.
        """
        state, found, facts = resume.load(path, self.base)
        slots = self.net.parameters_by_slot() * self.kinds
        if len(state.history) != len(slots) or not all(
                _fits(blob.shape, slot.shape) for blob, (slot, _) in zip(state.history, slots, strict=True)):
            raise Error(f"{found.state}: its history is not that of net '{self.net.graph.name}' under {self.param.type} "
                        f"({len(state.history)} blobs, {len(slots)} expected, or other shapes)")
        if facts and len(facts["train"]) != len(self.net.graph.sources):
            raise Error(f"{found.state}: its run read {len(facts['train'])} data layers, net '{self.net.graph.name}' has "
                        f"{len(self.net.graph.sources)}")
        if facts is None:
            self.log("netspec", f"{found.state} has no .resume file beside it: data and random state start again", "W")
        if found.weights:
            weights.load(found.weights, self.net.layers_with_params(), strict=True)
            self.loaded = dict.fromkeys(self.net.layers_with_params(), "copied")
        kept = [blob for blob, (_, p) in zip(state.history, slots, strict=True) if p.requires_grad]
        for mine, theirs in zip(self.history, kept, strict=True):
            mine.copy_(torch.from_numpy(np.array(theirs, dtype=np.float32).reshape(mine.shape)))
        self.log("sgd_solver.cpp:336", "SGDSolver: restoring history")
        self.iter, self.last_snapshot = state.iteration, found
        self.losses.clear()
        first, *rest = ([0] * len(net.graph.sources) for net in self.batches)
        begin = {**self._capture(), "train": first, "test": rest, **(facts or {})}
        self.losses.extend(begin.get("losses", ()))
        if len(begin["test"]) != len(rest):  # other test nets do not change the training
            begin["test"] = rest
        self._rewind(begin)


def _fits(blob: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Equal, or the four axes that every blob of an old file has, filled up with ones."""
    return tuple(blob) == shape or len(blob) == 4 and [n for n in blob if n > 1] == [n for n in shape if n > 1]


def get_solver(path: str | os.PathLike, **options: Any) -> Solver:
    """The Solver of a solver file (options: see Solver)."""
    return Solver(prototext.read_solver(path), path=path, **options)
