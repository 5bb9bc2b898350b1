"""Training as Caffe's solvers do it: accumulate, update, test, display, snapshot, restore."""

import math
import os
import secrets
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..base.errors import Error, Interrupted
from ..base.log import Log
from ..base.machine import choose
from ..net import weights
from ..net.layerwise import Layerwise
from ..net.module import Net
from ..net.plan import Plan
from ..net.quick import Quick
from ..net.room import check_training
from ..proto.caffe_pb2 import SolverParameter
from ..proto.text import read_solver
from . import resuming, taken_back, updates
from .display import DebugInfo, Display
from .feeding import Feeding
from .jobs import Job, jobs, weights_file, weights_names
from .losses import Losses
from .ranks import ALONE, Parallel, Ranks
from .snapshot import Snapshot, prefixed
from .testing import test
from .validation import Best


class Solver:
    """A SolverParameter at work on its nets.

    `iter` counts finished iterations; `net` is the TRAIN net, `test_nets` the TEST nets, which share its
    parameters. All randomness (fillers, dropout, the order of data whose layer has no seed of its own) comes
    from `seed`: on the CPU two runs with one seed are equal bit for bit.
    """

    def __init__(self, param: SolverParameter, *, path: str | os.PathLike | None = None, device: str = "cpu",
                 precision: str = "fp32", strict: bool = False, log: Log | None = None,
                 checkpoint: bool = False, compiled: bool = False, ranks: Ranks = ALONE,
                 without: Collection[str] = ()) -> None:
        """param: its `weights` are loaded. path: its file, from whose folder its paths are tried too.

        precision: fp32 (Caffe's arithmetic), tf32 or bf16 (for the products only; parameters and updates stay
        float32). strict: weights must fill the net and hold no more. checkpoint, compiled, without: how a
        step is run, see Quick. ranks: the processes that train together. Raises Error for what cannot work.
        """
        self.param, self.path, self.ranks = param, Path(path) if path else None, ranks
        self.base = self.path.resolve().parent if self.path else None
        self.log = log or Log(quiet=True)
        self.device, self.precision, self.strict = choose(device, precision), precision, strict
        try:
            updates.check_settings(param)
        except Error as e:
            raise self.error(str(e)) from None
        train, tests = jobs(param, str(self.path or "solver"))
        drawn = int(ranks.gather(secrets.randbits(31))[0][0])
        seed = param.random_seed if param.random_seed >= 0 else drawn
        torch.manual_seed(seed)
        self.iter = 0
        self.losses = Losses(param.average_loss)
        self.stop: int | None = None  # a signal's number: leave at the next image
        self.snapshot_asked = False  # at the end of the iteration
        self.sound = True  # no update is half done, and no loss or parameter was infinite
        self.last_snapshot: Snapshot | None = None
        self.callbacks: list[Callable[[Solver, float], None]] = []  # (solver, loss), once it is read
        self.best: Best | None = None  # what keeps the best weights by the tests of the first test net
        self.validated = ""  # what the last test found, for the bar
        self.layerwise: dict[Net, Layerwise] = {}  # nets whose every blob is wanted ...
        self.watch_from = math.inf  # ... of the train net in iterations from this number on
        self.display = Display(param, self.log)
        self.display.train_net(train)
        self.net = self._build(train)
        self.quick = Quick(self.net, checkpoint, compiled, without)
        self.quick.lay()
        self.test_nets: list[Net] = []
        for i, job in enumerate(tests):
            self.log("solver.cpp:190", f"Creating test net (#{i}) specified by {job.said}")
            self.test_nets.append(self._build(job, self.net))
        self._prepare_updates()
        self.data = Feeding((self.net, *self.test_nets), self.device, seed, self.log, ranks)
        self.skips = self.data.skips
        self.loaded: dict[str, str] = {}  # layer -> how it came from `weights`: 'copied' or 'reshaped'
        self.skipped: list[str] = []  # layers of those files that the net does not have
        for name in weights_names(param.weights):
            self.load(name)
        self.log("solver.cpp:57", "Solver scaffolding done.")

    def error(self, message: str) -> Error:
        return Error(f"{self.path or 'solver'}: {message}")

    def _build(self, job: Job, share: Net | None = None) -> Net:
        graph, precision = job.graph(self.base), torch.bfloat16 if self.precision == "bf16" else None
        if share is None:
            check_training(graph, self.device, updates.RULES[self.param.type][1], precision)
        net = Net(graph, share)
        net.precision = precision
        return net.to(self.device).train(share is None)

    def _prepare_updates(self) -> None:
        net, self.kinds = self.net, updates.RULES[self.param.type][1]
        self.learned = [(slot, p) for slot, p in net.parameters_by_slot() if p.requires_grad]
        if not self.learned:
            raise self.error(f"net '{net.graph.name}' has nothing to learn: every lr_mult is 0, or it has no "
                             "parameters")
        self.history = [torch.zeros_like(p) for _ in range(self.kinds) for _, p in self.learned]
        self.steps: updates.Tensors = ()  # what the last iteration took from the learned parameters
        # a forward pass in TRAIN changes these, so an iteration that is given up must put them back
        self._moving = [net.parameter(slot) for n in net.graph.nodes if n.op.moving for slot in n.params]

    @cached_property
    def parallel(self) -> Parallel | None:
        """What runs the passes of several ranks; made for the first one, of parameters as they are then."""
        return self.ranks.parallel(self.net, self.quick)

    def positions(self, net: Net) -> list[int]:
        """The number of the next batch of each source of a net."""
        return self.data.batches[net].positions

    def close(self) -> None:
        """End the worker processes that read data; the next iteration starts them again."""
        self.data.close()

    def load(self, name: str) -> weights.Report:
        """Copy the weights of a file into the layers of the same names; Error if it has none of them."""
        file = weights_file(name, self.path)
        self.log("solver.cpp:72", f"Finetuning from {name}")
        report = taken_back.load(file, self.net, strict=self.strict)
        if not report.copied and not report.reshaped:
            raise self.error(f"the weights {file} have no layer of net '{self.net.graph.name}'; layers are "
                             "matched by name")
        self.skipped += report.ignored
        self.loaded |= dict.fromkeys(report.copied, "copied") | dict.fromkeys(report.reshaped, "reshaped")
        return report

    def forward(self, net: Net, way: Quick | Plan | nn.Module, more: Sequence[str] = ()
             ) -> tuple[dict[str, Tensor], int]:
        """What `way` makes of a net's next batch, its outputs and `more`, and how many images that has."""
        inputs, run = self.data.next(net), self._by_layer(net)
        try:
            wanted = (*net.graph.outputs, *more)
            outputs = run.run(inputs, more) if run else way(inputs, wanted)
        except Error as e:
            raise Error(f"{e}; the data were {self.data.batches[net].last()}") from None
        return outputs, max((blob.shape[0] for blob in inputs.values() if blob.ndim), default=1)

    def _by_layer(self, net: Net) -> Layerwise | None:
        """What runs this pass where every blob is wanted: for debug_info, or for one who looks on."""
        debug = self.param.debug_info and (net is not self.net or self.display.due(self.iter))
        if debug and net not in self.layerwise:
            self.layerwise[net] = Layerwise(net)
        if not debug and (net is not self.net or self.iter < self.watch_from):
            return None
        self.layerwise[net].watch = DebugInfo(self.log) if debug else None
        return self.layerwise[net]

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """A block that ends or leaves no trace: an exception puts data, randomness and gradients back."""
        begin, moving = self.data.facts(), [p.detach().clone() for p in self._moving]
        try:
            yield
        except BaseException:
            self.net.zero_grad(set_to_none=True)
            with torch.no_grad():
                for parameter, before in zip(self._moving, moving, strict=True):
                    parameter.copy_(before)
            self.data.rewind(begin)
            raise

    @property
    def lr(self) -> float:
        """The learning rate of the next iteration."""
        return updates.rate(self.param, self.iter)

    @property
    def smoothed_loss(self) -> float:
        """The mean loss of the last average_loss iterations."""
        return self.losses.mean

    def step(self, count: int = 1) -> float:
        """Run `count` iterations, with the tests and snapshots that fall due; the smoothed loss.

        Raises Interrupted when `stop` is set and Error when the loss is not finite, in the state before the
        unfinished iteration; on a GPU, whose losses are looked at when they are displayed, such iterations
        may lie behind.
        """
        p = self.param
        for _ in range(count):
            asked = self.leave_if_asked()
            with self._whole():
                if self._test_due() and (self.iter or p.test_initialization):
                    self.test_all()
                loss, blobs, images = self._accumulate()
                self.losses.wait(self.iter, loss)
                seen = self._read() if self._reads() else []
                rate = self.lr
                self.display.iteration(self.iter, self.smoothed_loss, self.net, blobs, rate)
            self.update(rate)
            self.iter += 1
            self.log.progress(self.net.graph.name, self.iter, p.max_iter,
                              f"loss {self.smoothed_loss:.4g}  {self.validated}lr {rate:.3g}", images)
            self._tell(seen)
            asked = asked if self.ranks.size > 1 else self.snapshot_asked
            if asked or p.snapshot and self.iter % p.snapshot == 0:
                self.snapshot()
        self._tell(self._read())
        return self.smoothed_loss

    def _reads(self) -> bool:
        """Whether this iteration's loss is read before the update, for which the host waits for a GPU."""
        return self.device.type == "cpu" or self.display.due(self.iter) or self.losses.full

    def _read(self) -> list[float]:
        """The losses that were not read yet; Error where one is not finite."""
        return self.losses.read(self.param.iter_size, self._infinite_loss)

    def _infinite_loss(self, loss: float, iteration: int) -> Error:
        then = "nothing was updated" if iteration == self.iter else f"seen before iteration {self.iter}"
        return self._not_finite(f"the loss is {loss}", then, iteration)

    def _tell(self, losses: Sequence[float]) -> None:
        for loss in losses:
            for callback in self.callbacks:
                callback(self, loss)

    def _test_due(self) -> bool:
        return self.param.test_interval > 0 and self.iter % self.param.test_interval == 0

    def _accumulate(self) -> tuple[Tensor, dict[str, Tensor], int]:
        """Sum gradients over iter_size batches; the sum of losses, outputs of the last, number of images."""
        total, images, turns = torch.zeros((), device=self.device), 0, self.param.iter_size
        for turn in range(turns):
            self.break_off()
            with self.parallel.pass_number(turn, turns) if self.parallel else nullcontext():
                blobs, count = self.forward(self.net, self.parallel or self.quick)
                loss = self.net.loss(blobs)
                run = self._by_layer(self.net)
                self.ranks.doing = ""
                if run or loss.requires_grad:  # else there is no gradient: weight decay is all, as in Caffe
                    run.backward() if run else loss.backward()
            total += loss.detach()
            images += count
        self.ranks.mean_(total, *self._moving)
        return total, blobs, images * self.ranks.size

    def break_off(self) -> None:
        """Leave at once if that is asked for; several ranks leave together, between iterations."""
        if self.stop and self.ranks.size == 1:
            raise Interrupted(self.stop)

    def leave_if_asked(self) -> bool:
        """Leave if a rank is asked to; whether one is asked for a snapshot. All ranks find the same, and what
        a rank is asked for meanwhile waits for the next call."""
        stop, snapshot = self.ranks.most(self.stop or 0, self.snapshot_asked)
        if stop:
            raise Interrupted(stop)
        return bool(snapshot)

    def update(self, rate: float) -> None:
        """Change the learned parameters by their gradients, which are cleared."""
        self.sound = False
        params: list[Tensor] = [parameter for _, parameter in self.learned]
        grads = [torch.zeros_like(q) if q.grad is None else q.grad for q in params]
        self.steps, norm = updates.take_step(
            self.param, self.iter, params, grads, self.history,
            [rate * slot.lr_mult for slot, _ in self.learned], [slot.decay_mult for slot, _ in self.learned],
            "fused" in self.quick.rewrites)
        if norm is not None and self._reads():
            self.display.clipped(norm.item())
        self.net.zero_grad(set_to_none=True)
        self.sound = True

    def test_all(self) -> list[dict[str, np.ndarray]]:
        """Run every test net for its test_iter batches; the mean of each output."""
        return [self.test(i) for i in range(len(self.test_nets))]

    def test(self, index: int = 0) -> dict[str, np.ndarray]:
        """The mean outputs of one test net over test_iter batches, also written to the log.

        An output whose shape changes with the image has no mean and is left out; so are regions' numbers.
        """
        return test(self, index)

    def solve(self) -> None:
        """Train up to max_iter, then snapshot and test as Caffe does at the end."""
        p = self.param
        self.display.begin(self.net.graph.name, self.iter)
        self.step(max(0, p.max_iter - self.iter))
        if p.snapshot_after_train and (not p.snapshot or self.iter % p.snapshot):
            self.snapshot()
        with self._whole():
            if self.display.due(self.iter):
                with torch.no_grad():
                    loss = self.net.loss(self.forward(self.net, self.quick)[0]).item()
                shown = [*self.losses, loss][-p.average_loss :]
                self.log("solver.cpp:327", f"Iteration {self.iter}, loss = {sum(shown) / len(shown):.6g}")
            if self._test_due():
                self.test_all()
        self.log("solver.cpp:332", "Optimization Done.")

    def _not_finite(self, what: str, then: str, iteration: int) -> Error:
        self.sound = False
        labels = "" if self.device.type == "cpu" else " (on a GPU a label outside the classes does this too)"
        return self.error(f"{what} at iteration {iteration}; {then}{labels}; the last good snapshot is "
                          f"{self.last_good()}; try a lower base_lr (the rate is {self.lr:g}) or "
                          "clip_gradients")

    def prefix(self) -> str:
        """What the names of its snapshots begin with."""
        return prefixed(self.param, self.path, self.net.graph.name)

    def last_good(self) -> Path | str:
        """The .solverstate of the last snapshot, for messages."""
        return self.last_snapshot.state if self.last_snapshot else "none"

    def snapshot(self) -> Path:
        """Write weights, state and what Caffe's state has no field for; the .solverstate's path.

        Raises Error, with nothing written, if parameters are not finite: the last good one stays the last.
        """
        return self._write().state

    def latest(self) -> Snapshot:
        """The snapshot of this iteration, which is written first if there is none."""
        last = self.last_snapshot
        return last if last and last.iteration == self.iter else self._write()

    def _write(self) -> Snapshot:
        self.snapshot_asked = False
        self._tell(self._read())
        if not all(torch.isfinite(p).all() for p in self.net.parameters()):
            raise self._not_finite("parameters are infinite or NaN", "no snapshot was written", self.iter)
        self.last_snapshot = resuming.write(self)
        return self.last_snapshot

    def save(self, path: str | os.PathLike, hdf5: bool = False) -> None:
        """The train net's weights as a .caffemodel (or .caffemodel.h5)."""
        taken_back.save(path, self.net, hdf5)

    def final_weights(self) -> str:
        """The weights file of the latest snapshot."""
        latest = self.latest()
        self.ranks.most(0)  # until the first rank has written it
        return str(latest.weights)

    def restore(self, path: str | os.PathLike) -> None:
        """Go on from a .solverstate, ours or Caffe's; Error, with nothing changed, if it does not fit.

        A state of Caffe's own has no .resume file beside it: data and random state then start
        again, as in Caffe.
        """
        resuming.restore(self, path)


def get_solver(path: str | os.PathLike, **options: Any) -> Solver:
    """The Solver of a solver file (options: see Solver)."""
    return Solver(read_solver(path), path=path, **options)
