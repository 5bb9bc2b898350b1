"""A solver's rule and rate policy as torch's optimizer and scheduler, for a training loop of one's own."""

import os
from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ..base.errors import Error
from ..base.names import solver_file
from ..net.module import Net
from ..proto.caffe_pb2 import SolverParameter
from ..proto.text import read_solver
from . import updates


class CaffeOptimizer(Optimizer):
    """Any of the six rules, with its decay and clipping, step for step as in `solve`.

    Each learned parameter is a group with its `name` in `state_dict`, its `lr` (the policy's rate times
    `lr_mult`) and its `decay_mult`. One without a gradient counts as if it were zero. A step divides
    by iter_size: before it, gradients of so many batches are summed.
    """

    def __init__(self, net: Net, solver: SolverParameter) -> None:
        self.solver = solver
        rate = updates.rate(solver, 0)
        groups = [{"params": [parameter], "name": slot.key, "lr": rate * slot.lr_mult,
                   "lr_mult": slot.lr_mult, "decay_mult": slot.decay_mult}
                  for slot, parameter in net.parameters_by_slot() if parameter.requires_grad]
        if not groups:
            raise Error(f"net '{net.graph.name}' has nothing to learn: every lr_mult is 0, or it has no "
                        "parameters")
        super().__init__(groups, {"iteration": 0})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update by the gradients, which stay as they are. closure: computes the loss anew; it is
        returned."""
        loss = None
        if closure:
            with torch.enable_grad():
                loss = closure()
        groups = [g for g in self.param_groups if g["params"][0].requires_grad]
        params = [group["params"][0] for group in groups]
        kinds = [f"history{kind}" for kind in range(updates.RULES[self.solver.type][1])]
        for p in params:
            if not self.state[p]:
                self.state[p] = {kind: torch.zeros_like(p) for kind in kinds}
        history = [self.state[p][kind] for kind in kinds for p in params]
        grads = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in params]
        updates.take_step(self.solver, self.param_groups[0]["iteration"], params, grads, history,
                          [group["lr"] for group in groups], [group["decay_mult"] for group in groups])
        for group in self.param_groups:
            group["iteration"] += 1
        return loss

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"solver": self.solver}


class CaffeRate(LRScheduler):
    """The rate policy of a CaffeOptimizer's solver: `step()` once after each of the optimizer's."""

    optimizer: CaffeOptimizer

    def get_lr(self) -> list[Any]:
        rate = updates.rate(self.optimizer.solver, self.last_epoch)
        return [rate * group["lr_mult"] for group in self.optimizer.param_groups]


def optimizer(net: Net, solver: str | os.PathLike | SolverParameter) -> tuple[CaffeOptimizer, CaffeRate]:
    """The update rule of a solver for a net's parameters, and its rate policy.

    solver: a file, a name such as voc-fcn8s, or a message. What else it names (nets, tests, snapshots) plays
    no part. Raises Error for settings that cannot work, and where the net has nothing to learn.
    """
    param = solver if isinstance(solver, SolverParameter) else read_solver(solver_file(os.fspath(solver)))
    try:
        updates.check_settings(param)
    except Error as e:
        raise Error(f"{'solver' if isinstance(solver, SolverParameter) else solver}: {e}") from None
    made = CaffeOptimizer(net, param)
    return made, CaffeRate(made)
