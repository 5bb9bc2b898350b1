"""Training as Caffe's solvers do it: accumulate, clip, divide, decay, update; test, display, snapshot, restore."""

import math
import os
import secrets
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import graph, prototext, resume, updates, weights
from .compiler import Net
from .errors import Error
from .files import find
from .log import Log
from .proto import caffe_pb2
from .sources import Feed

PRECISIONS = ("fp32", "tf32", "bf16")


class Interrupted(Exception):
    """The run was asked to stop; the solver stands where its last whole iteration left it."""


class Solver:
    """A SolverParameter at work on its nets.

    `iter` counts finished iterations; `net` is the TRAIN net, `test_nets` the TEST nets, which share its
    parameters. All randomness (fillers, dropout, data order) comes from `seed`: on the CPU two runs with one
    seed are equal bit for bit.
    """

    def __init__(self, param: Any, *, path: str | os.PathLike | None = None, device: str = "cpu",
                 precision: str = "fp32", log: Log | None = None) -> None:
        """param: SolverParameter. path: its file, from whose folder its paths are tried too.

        precision: fp32 (Caffe's arithmetic), tf32 or bf16 (for the products only; parameters and updates stay
        float32). Raises Error for a solver or net that cannot work.
        """
        updates.check(param)
        self.param, self.path = param, Path(path) if path else None
        self.base = self.path.resolve().parent if self.path else None
        self.log = log or Log(quiet=True)
        self.device = _device(device, precision)
        self.seed = param.random_seed if param.random_seed >= 0 else secrets.randbits(31)
        torch.manual_seed(self.seed)
        self.iter = 0
        self.last_snapshot: Path | None = None
        self.losses: deque[float] = deque(maxlen=max(1, param.average_loss))
        self.stop: int | None = None  # a signal's number: leave at the next image
        self.callbacks: list[Callable[[Solver, float], None]] = []  # after each iteration: (solver, loss)
        self.precision = precision
        train, tests = self._nets()
        self.log("solver.cpp:102", f"Creating training net from {_said(train)}")
        self.net = self._build(caffe_pb2.TRAIN, train, param.train_state)
        self.test_nets = []
        for i, (net, state) in enumerate(tests):
            self.log("solver.cpp:190", f"Creating test net (#{i}) specified by {_said(net)}")
            self.test_nets.append(self._build(caffe_pb2.TEST, net, state))
        self.log("solver.cpp:57", "Solver scaffolding done.")
        self.learned = [(s, p) for s, p in self.net.parameters_by_slot() if p.requires_grad]
        if not self.learned:
            raise self.error(f"net '{self.net.graph.name}' has nothing to learn: every lr_mult is 0, or it has no parameters")
        self.rule, self.kinds = updates.RULES[param.type]
        self.history = [torch.zeros_like(p) for _ in range(self.kinds) for _, p in self.learned]
        self._feeds: dict[Net, list[Feed]] = {}
        self._positions: dict[Net, list[int]] = {n: [0] * len(n.graph.sources) for n in (self.net, *self.test_nets)}
        self._clock, self._clock_iter = time.monotonic(), 0

    def error(self, message: str) -> Error:
        return Error(f"{self.path or 'solver'}: {message}")

    # -- nets --------------------------------------------------------------------------------------------

    def _nets(self) -> tuple[Any, list[tuple[Any, Any]]]:
        """The train net, and each test net with its NetState; a net is a path or a NetParameter."""
        p = self.param
        named = [f for f in ("net", "train_net", "net_param", "train_net_param") if p.HasField(f)]
        if len(named) != 1:
            raise self.error("must name one train net, by net, train_net, net_param or train_net_param, found "
                             f"{', '.join(named) or 'none'}")
        tests = [*p.test_net_param, *p.test_net]
        shared = [getattr(p, f) for f in ("net", "net_param") if p.HasField(f)]
        tests += shared * (len(p.test_iter) - len(tests))
        if len(p.test_iter) != len(tests):
            raise self.error(f"has {len(p.test_iter)} test_iter for {len(tests)} test nets")
        if tests and p.test_interval <= 0:
            raise self.error("has a test net but no test_interval above 0")
        if len(p.test_state) not in (0, len(tests)):
            raise self.error(f"has {len(p.test_state)} test_state for {len(tests)} test nets")
        states = p.test_state or [caffe_pb2.NetState()] * len(tests)
        return getattr(p, named[0]), list(zip(tests, states, strict=True))

    def _build(self, phase: int, net: Any, state: Any) -> Net:
        path = find(net, self.base, "net") if isinstance(net, str) else None
        param = prototext.read_net(path) if path else net
        built = graph.build(param, phase, level=state.level or param.state.level,
                            stages=[*param.state.stage, *state.stage],
                            base=path.resolve().parent if path else self.base, path=path)
        made = Net(built, share=getattr(self, "net", None))
        made.precision = torch.bfloat16 if self.precision == "bf16" else None
        return made.to(self.device, memory_format=torch.channels_last)  # the faster one, on CPUs too

    # -- data --------------------------------------------------------------------------------------------

    def _next(self, net: Net) -> dict[str, Tensor]:
        """The next batch of a net, on its device."""
        if net not in self._feeds:
            self._feeds[net] = [Feed(node.op, position) for node, position
                                in zip(net.graph.sources, self._positions[net], strict=True)]
        inputs = {}
        for node, feed in zip(net.graph.sources, self._feeds[net], strict=True):
            for top, tensor in zip(node.tops, next(feed), strict=True):
                inputs[top.blob] = tensor.to(self.device, non_blocking=True)
        return inputs

    def positions(self, net: Net) -> list[int]:
        """The number of the next batch of each source of a net."""
        return [feed.position for feed in self._feeds[net]] if net in self._feeds else self._positions[net]

    def close(self) -> None:
        """End the worker processes that read data."""
        for net, feeds in self._feeds.items():
            self._positions[net] = [feed.position for feed in feeds]
            for feed in feeds:
                feed.close()
        self._feeds.clear()

    def _capture(self) -> dict[str, Any]:
        """What decides the next iteration beside parameters and history: data positions and random state."""
        state = {"train": self.positions(self.net), "test": [self.positions(n) for n in self.test_nets],
                 "cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            state["cuda"] = torch.cuda.get_rng_state(self.device)
        return state

    def _rewind(self, state: dict[str, Any]) -> None:
        self.close()
        self._positions = dict(zip((self.net, *self.test_nets), (state["train"], *state["test"]), strict=True))
        torch.set_rng_state(state["cpu"])
        if self.device.type == "cuda" and "cuda" in state:
            torch.cuda.set_rng_state(state["cuda"], self.device)

    # -- iterations --------------------------------------------------------------------------------------

    @property
    def lr(self) -> float:
        """The learning rate of the next iteration."""
        return updates.rate(self.param, self.iter)

    def step(self, count: int = 1) -> float:
        """Run `count` iterations, with the tests and snapshots that fall due; the smoothed loss.

        Raises Interrupted when `stop` is set, at the state before the unfinished iteration; Error when the
        loss is not finite, before anything is updated.
        """
        for _ in range(count):
            begin, p = self._capture(), self.param
            try:
                if p.test_interval > 0 and self.iter % p.test_interval == 0 and (self.iter or p.test_initialization):
                    self.test_all()
                loss, blobs = self._accumulate()
            except Interrupted:
                self.net.zero_grad(set_to_none=True)
                self._rewind(begin)
                raise
            if not math.isfinite(loss):
                raise self._not_finite(loss)
            self.losses.append(loss)
            shown = p.display > 0 and self.iter % p.display == 0
            if shown:
                self._display(blobs)
            rate = updates.rate(p, self.iter)
            if shown:
                self.log("sgd_solver.cpp:112", f"Iteration {self.iter}, lr = {rate:.6g}")
            self._update(rate)
            self.iter += 1
            images = max((b.shape[0] for b in self._last_inputs.values() if b.ndim), default=1) * max(1, p.iter_size)
            self.log.progress(self.net.graph.name, self.iter, p.max_iter,
                              f"loss {self.smoothed_loss:.4g}  lr {rate:.3g}", images)
            for callback in self.callbacks:
                callback(self, loss)
            if p.snapshot and self.iter % p.snapshot == 0:
                self.snapshot()
        return self.smoothed_loss

    @property
    def smoothed_loss(self) -> float:
        """The mean loss of the last average_loss iterations."""
        return sum(self.losses) / len(self.losses) if self.losses else math.nan

    def _accumulate(self) -> tuple[float, dict[str, Tensor]]:
        """Sum gradients over iter_size batches; the mean loss and the outputs of the last batch."""
        size = max(1, self.param.iter_size)
        total = torch.zeros((), device=self.device)
        for _ in range(size):
            if self.stop:
                raise Interrupted(self.stop)
            self._last_inputs = self._next(self.net)
            blobs = self.net(self._last_inputs)
            loss = self.net.loss(blobs)
            loss.backward()
            total += loss.detach()
        return total.item() / size, blobs

    def _update(self, rate: float) -> None:
        p, size = self.param, max(1, self.param.iter_size)
        params = [param for _, param in self.learned]
        grads = [torch.zeros_like(q) if q.grad is None else q.grad for q in params]
        with torch.no_grad():
            norm = updates.clip(p, grads)
            if norm is not None:
                self.log("sgd_solver.cpp:93", f"Gradient clipping: scaling down gradients (L2 norm {norm:.6g} > "
                         f"{p.clip_gradients:.6g}) by scale factor {p.clip_gradients / norm:.6g}")
            if size > 1:
                torch._foreach_div_(grads, size)
            updates.decay(p, grads, params, [slot.decay_mult for slot, _ in self.learned])
            rates = [rate * slot.lr_mult for slot, _ in self.learned]
            torch._foreach_sub_(params, self.rule(p, self.iter, grads, self.history, rates))
        self.net.zero_grad(set_to_none=True)

    def _display(self, blobs: dict[str, Tensor]) -> None:
        now, last = time.monotonic(), self._clock
        done, spent = self.iter - self._clock_iter, now - last
        self._clock, self._clock_iter = now, self.iter
        self.log("solver.cpp:239", f"Iteration {self.iter} ({done / max(spent, 1e-9):.6g} iter/s, {spent:.6g}s/"
                 f"{self.param.display} iters), loss = {self.smoothed_loss:.6g}")
        self._outputs("Train", "solver.cpp:258", self.net, {k: v.detach().cpu().numpy() for k, v in blobs.items()})

    def _outputs(self, word: str, where: str, net: Net, blobs: dict[str, np.ndarray]) -> None:
        """Caffe's lines for the outputs of a net; a blob of more than 100 numbers (a score map) is left out."""
        number = 0
        for name in net.graph.outputs:
            weight, values = net.losses.get(name, 0), np.ravel(blobs[name])
            for value in values if values.size <= 100 else ():
                tail = f" (* {weight:.6g} = {weight * value:.6g} loss)" if weight else ""
                self.log(where, f"    {word} net output #{number}: {name} = {value:.6g}{tail}")
                number += 1

    def test_all(self) -> list[dict[str, np.ndarray]]:
        """Run every test net for its test_iter batches; the mean of each output."""
        return [self.test(i) for i in range(len(self.test_nets))]

    def test(self, index: int = 0) -> dict[str, np.ndarray]:
        """The mean outputs of one test net over test_iter batches, also written to the log."""
        net, sums = self.test_nets[index], {}
        self.log("solver.cpp:347", f"Iteration {self.iter}, Testing net (#{index})")
        count = self.param.test_iter[index]
        with torch.inference_mode():
            for _ in range(count):
                if self.stop:
                    raise Interrupted(self.stop)
                for name, blob in net(self._next(net)).items():
                    if name in net.graph.outputs:
                        sums[name] = sums[name] + blob if name in sums else blob
        means = {name: (total / count).cpu().numpy() for name, total in sums.items()}
        self._outputs("Test", "solver.cpp:414", net, means)
        return means

    def solve(self) -> None:
        """Train up to max_iter, then snapshot and test as Caffe does at the end."""
        p = self.param
        self.log("solver.cpp:289", f"Solving {self.net.graph.name}")
        self.log("solver.cpp:290", f"Learning Rate Policy: {p.lr_policy}")
        self._clock, self._clock_iter = time.monotonic(), self.iter
        self.step(max(0, p.max_iter - self.iter))
        if p.snapshot_after_train and (not p.snapshot or self.iter % p.snapshot):
            self.snapshot()
        if p.display and self.iter % p.display == 0:
            with torch.no_grad():
                loss = self.net.loss(self.net(self._next(self.net))).item()
            self.losses.append(loss)
            self.log("solver.cpp:327", f"Iteration {self.iter}, loss = {self.smoothed_loss:.6g}")
        if p.test_interval > 0 and self.iter % p.test_interval == 0:
            self.test_all()
        self.log("solver.cpp:332", "Optimization Done.")

    def _not_finite(self, loss: float) -> Error:
        kept = self.last_snapshot
        labels = "" if self.device.type == "cpu" else " (on a GPU a label outside the classes does this too)"
        return self.error(f"the loss is {loss} at iteration {self.iter}{labels}; nothing was updated; the last good snapshot is "
                          f"{kept or 'none'}; try a lower base_lr (now {self.lr:g}) or clip_gradients")

    # -- snapshots ---------------------------------------------------------------------------------------

    def prefix(self) -> str:
        """snapshot_prefix; without one, or where it names a folder, the solver file's name is used."""
        given, stem = self.param.snapshot_prefix, self.path.stem if self.path else self.net.graph.name
        if not given:
            return stem
        return str(Path(given) / stem) if given.endswith("/") or Path(given).is_dir() else given

    def snapshot(self) -> Path:
        """Write weights, state and what Caffe's state has no field for; the .solverstate's path.

        The .solverstate comes last and names the rest, so a snapshot is whole or is not there.
        """
        hdf5 = self.param.snapshot_format == caffe_pb2.SolverParameter.HDF5
        stem, end = f"{self.prefix()}_iter_{self.iter}", ".h5" if hdf5 else ""
        kind = "HDF5" if hdf5 else "binary proto"
        self.log("solver.cpp:464", f"Snapshotting to {kind} file {stem}.caffemodel{end}")
        self.save(f"{stem}.caffemodel{end}", hdf5)
        resume.write(Path(f"{stem}.resume"), {"iter": self.iter, "losses": list(self.losses), **self._capture()})
        self.log("sgd_solver.cpp:284", f"Snapshotting solver state to {kind} file {stem}.solverstate{end}")
        history = iter(self.history)
        blobs = [next(history) if param.requires_grad else torch.zeros(slot.shape)
                 for _ in range(self.kinds) for slot, param in self.net.parameters_by_slot()]
        weights.write_state(f"{stem}.solverstate{end}", iteration=self.iter, learned_net=f"{stem}.caffemodel{end}",
                            history=[b.detach().cpu().numpy() for b in blobs], current_step=self._current_step(), hdf5=hdf5)
        self.last_snapshot = Path(f"{stem}.solverstate{end}")
        return self.last_snapshot

    def save(self, path: str | os.PathLike, hdf5: bool = False) -> None:
        """The train net's weights as a .caffemodel (or .caffemodel.h5)."""
        types = {node.name: node.type for node in self.net.graph.nodes}
        weights.write_weights(path, self.net.graph.name, {
            layer: (types[layer], [b.detach().cpu().numpy() for b in blobs])
            for layer, blobs in self.net.layers_with_params().items()}, hdf5=hdf5)

    def final_weights(self) -> str:
        """The weights file of the newest snapshot, written first if there is none of this iteration."""
        stem = f"{self.prefix()}_iter_{self.iter}"
        if self.last_snapshot is None or not self.last_snapshot.name.startswith(f"{Path(stem).name}."):
            self.snapshot()
        return str(self.last_snapshot).replace(".solverstate", ".caffemodel")

    def _current_step(self) -> int:
        p = self.param
        if p.lr_policy == "multistep":
            return sum(self.iter >= value for value in p.stepvalue)
        return self.iter // p.stepsize if p.lr_policy == "step" else 0

    def restore(self, path: str | os.PathLike) -> None:
        """Go on from a .solverstate, ours or Caffe's; Error, with nothing changed, if it does not fit.

        A state of Caffe's own has no .resume file beside it: the data then start again, as in Caffe.
        """
        path = find(path, self.base, "solver state")
        state = weights.read_state(path)
        slots = self.net.parameters_by_slot()
        if [tuple(h.shape) for h in state.history] != [s.shape for _ in range(self.kinds) for s, _ in slots]:
            raise Error(f"{path}: its history is not that of net '{self.net.graph.name}' under {self.param.type} "
                        f"({len(state.history)} blobs, {self.kinds * len(slots)} expected, or other shapes)")
        learned = find(state.learned_net, path.resolve().parent, "weights") if state.learned_net else None
        if learned:
            weights.copy(weights.read_weights(learned), self.net.layers_with_params())
        kept = [h for h, (_, p) in zip(state.history, slots * self.kinds, strict=True) if p.requires_grad]
        for mine, theirs in zip(self.history, kept, strict=True):
            mine.copy_(torch.from_numpy(np.array(theirs, dtype=np.float32)))
        self.iter, self.last_snapshot = state.iteration, path
        beside = Path(str(path).removesuffix(".h5")).with_suffix(".resume")
        if beside.exists():
            self._resume(beside)

    def _resume(self, path: Path) -> None:
        facts = resume.read(path, {"iter", "losses", "train", "test", "cpu"})
        if facts["iter"] != self.iter or len(facts["test"]) != len(self.test_nets):
            raise Error(f"{path}: belongs to another run than the .solverstate beside it; delete it to start the "
                        "data from the front")
        self.losses.clear()
        self.losses.extend(facts["losses"])
        self._rewind(facts)


def get_solver(path: str | os.PathLike, **options: Any) -> Solver:
    """The Solver of a solver file (options: see Solver)."""
    return Solver(prototext.read_solver(path), path=path, **options)


def _said(net: Any) -> str:
    return f"net file: {net}" if isinstance(net, str) else "net_param"


def _device(name: str, precision: str) -> torch.device:
    if precision not in PRECISIONS:
        raise Error(f"precision '{precision}' is not known; choose one of {', '.join(PRECISIONS)}")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise Error(f"device '{name}' is not known; use cpu, cuda or cuda:N") from None
    if device.type == "cuda":
        if not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count():
            raise Error(f"device '{name}' is not here ({torch.cuda.device_count()} CUDA devices found); use --device cpu")
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = precision != "fp32"
    return device
