"""pycaffe's solvers: Caffe's by name, whose nets' blobs can be read and written between iterations."""

import os
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..base.errors import Error, closest
from ..base.files import find, holding
from ..ops import REGISTRY
from ..proto.caffe_pb2 import SolverParameter
from ..proto.text import read_solver
from ..train import solver
from ..train.snapshot import Snapshot
from ..train.updates import RULES
from . import session
from .net import Net


def layer_type_list() -> list[str]:
    """The layer types that a net may have."""
    return sorted(REGISTRY)


class _Solver(solver.Solver):
    """A Solver that lets pycaffe's callbacks in."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.around: list[tuple[Callable[[], Any], Callable[[], Any]]] = []
        super().__init__(*args, **options)
        self.held, self._holds = "", ExitStack()
        weakref.finalize(self, self._holds.close)

    def step(self, count: int = 1) -> float:
        if self.param.snapshot:
            self._hold()
        return super().step(count)

    def _write(self) -> Snapshot:
        self._hold()
        return super()._write()

    def _hold(self) -> None:
        """Keep the names of its snapshots from other processes as long as it lives."""
        if self.held != self.prefix():
            self._holds.enter_context(holding(Path(self.prefix())))
            self.held = self.prefix()

    def _accumulate(self) -> tuple[Tensor, dict[str, Tensor], int]:
        for on_start, _ in self.around:
            on_start()
        done = super()._accumulate()
        for _, on_gradients_ready in self.around:
            on_gradients_ready()
            self.layerwise[self.net].settle()
        return done


class Solver:
    """Caffe's solvers. `net` and `test_nets` share the parameters; `param` is the SolverParameter."""

    kind: ClassVar[str] = ""  # of update rule; "": what the file says

    def __init__(self, solver_file: str | os.PathLike) -> None:
        path = find(solver_file, what="solver")
        param = read_solver(path)
        if self.kind:
            param.type = self.kind
        if session.seeded() and param.random_seed < 0:
            param.random_seed = int(torch.randint(2**31 - 1, ()))
        self._solver = _Solver(param, path=path, device=str(session.device()), log=session.Said())
        self.net, *self.test_nets = (Net.of(net, self._solver.data.batches[net])
                                     for net in (self._solver.net, *self._solver.test_nets))
        self._solver.layerwise[self._solver.net] = self.net._run

    @property
    def iter(self) -> int:
        """The number of finished iterations."""
        return self._solver.iter

    @property
    def lr(self) -> float:
        """The learning rate of the next iteration."""
        return self._solver.lr

    @property
    def param(self) -> SolverParameter:
        return self._solver.param

    @property
    def _settled(self) -> _Solver:
        """The solver at work, its parameters and gradients as they were written into arrays."""
        self.net._run.settle()
        return self._solver

    def step(self, count: int) -> None:
        """Run iterations. The net's blobs are then the last batch's, its params' diffs the last update."""
        self._to(self.iter + count, lambda solver: solver.step(count))

    def solve(self, resume_file: str | os.PathLike | None = None) -> None:
        """Train up to max_iter, from a .solverstate if one is given."""
        if resume_file:
            self.restore(resume_file)
        self._to(self.param.max_iter, _Solver.solve)

    def _to(self, end: int, run: Callable[[_Solver], Any]) -> None:
        self._settled.net.zero_grad(set_to_none=True)
        # the iterations before the last go the fast way, unless someone wants to hear of each layer
        self._solver.watch_from = self.iter if any(self.net._run.hooks.values()) else end - 1
        self._change(run)

    def add_callback(self, on_start: Callable[[], Any], on_gradients_ready: Callable[[], Any]) -> None:
        """Have on_start() called before each iteration, on_gradients_ready() before its update."""
        self._solver.around.append((on_start, on_gradients_ready))

    def share_weights(self, net: Net) -> None:
        """Have a net use the parameters of this solver's."""
        net.share_with(self.net)

    def apply_update(self) -> None:
        """Change the parameters by the gradients in their diffs, which then hold the change."""
        self._change(lambda solver: solver.update(self.lr))

    def _change(self, run: Callable[[_Solver], Any]) -> None:
        run(self._settled)
        for (_, parameter), step in zip(self._solver.learned, self._solver.steps, strict=False):
            parameter.grad = step.clone()

    def restore(self, path: str | os.PathLike) -> None:
        """Go on from a .solverstate, this project's or Caffe's."""
        self._settled.restore(path)

    def snapshot(self) -> Path:
        """Write .caffemodel and .solverstate; the latter's path."""
        return self._settled.snapshot()


class SGDSolver(Solver):
    kind = "SGD"


class NesterovSolver(SGDSolver):
    kind = "Nesterov"


class AdaGradSolver(SGDSolver):
    kind = "AdaGrad"


class RMSPropSolver(SGDSolver):
    kind = "RMSProp"


class AdaDeltaSolver(SGDSolver):
    kind = "AdaDelta"


class AdamSolver(SGDSolver):
    kind = "Adam"


def get_solver(solver_file: str | os.PathLike) -> Solver:
    """The solver that the file asks for by `type`: of Caffe's class for it, where there is one."""
    classes: list[type[Solver]] = [SGDSolver, *SGDSolver.__subclasses__()]
    kind = read_solver(find(solver_file, what="solver")).type
    if kind not in RULES:
        raise Error(f"{solver_file}: solver type '{kind}' is not known{closest(kind, RULES)}")
    return next((cls for cls in classes if cls.kind == kind), Solver)(solver_file)
