"""A solver file run as one stage of a training: pre-flight checks, progress, interruption."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path

import torch

from ..base.errors import Interrupted, count
from ..base.files import holding
from ..base.log import Log
from ..net.weights import interp_missing
from ..proto.caffe_pb2 import SolverParameter
from .preflight import check_run
from .ranks import ALONE, Ranks
from .solver import Solver
from .stopping import EFFECTS, STOPS, stopping
from .validation import Best


def run_stage(path: Path, param: SolverParameter, carried: list[str] | None, state: str | None, device: str,
              precision: str, said: Log, strict: bool = False, skip_bad: int = 0,
              watch: Callable[[Solver, float], None] | None = None,
              again: str = " with --snapshot {}", checkpoint: bool = False, compiled: bool = False,
              ranks: Ranks = ALONE, effects: Mapping[int, str] = EFFECTS) -> Solver:
    """One solver from pre-flight to the end; its data are closed.

    carried: weights to start from, not those the solver names. state: a .solverstate to go on from. skip_bad:
    how many images that cannot be read to go past (see Skips). watch: called after each iteration with solver
    and loss. again: what to change in the command to go on after a stop, {} being the last .solverstate.
    checkpoint, compiled, ranks: see Solver. effects: see stopping.
    Raises Interrupted after a stop with a snapshot; whatever else ends it within the training leaves one too.
    """
    if device == "cpu":
        said("caffe.cpp:197", "Use CPU.")
    if carried or state:
        param.weights[:] = carried or ()
    solver = Solver(param, path=path, device=device, precision=precision, strict=strict, log=said,
                    checkpoint=checkpoint, compiled=compiled, ranks=ranks)
    solver.skips.most = skip_bad
    solver.callbacks += [watch] if watch else []
    if solver.device.type == "cuda":
        said("caffe.cpp:204", f"Using GPUs {solver.device.index or 0}")
        said("caffe.cpp:209", f"GPU {solver.device.index or 0}: {torch.cuda.get_device_name(solver.device)}")
    try:
        if state:
            said("caffe.cpp:235", f"Resuming from {state}")
            solver.restore(state)
        lacking = solver.net.layers_with_params().keys() - solver.loaded.keys()
        check_run(solver, [] if state else interp_missing(solver.net, lacking))
        if not ranks.rank and (param.snapshot or param.snapshot_after_train):
            solver.best = Best(solver.prefix(), said, bool(state), param.snapshot_format == param.HDF5)
        said("caffe.cpp:239", "Starting Optimization")
        begun = solver.iter
        with nullcontext() if ranks.rank else holding(Path(solver.prefix())), \
                stopping(solver, effects):
            try:
                with ranks.watched():
                    solver.solve()
                    solver.leave_if_asked()  # within the last step, or its snapshot: there are stages to come
            except Interrupted as stop:
                last = solver.latest()
                said("solver.cpp:311", "Optimization stopped early.")
                said("netspec", f"stopped by {STOPS.get(stop.number, 'SIGHUP')} after "
                     f"{count(solver.iter, 'iteration')}; the same command{again.format(last.state)} "
                     "goes on", "W")
                raise
            except Exception as problem:
                _leave(solver, begun, problem, again)
                raise
        if solver.best:
            solver.best.say()
        return solver
    finally:
        solver.close()


def _leave(solver: Solver, begun: int, problem: Exception, again: str) -> None:
    """A snapshot of the state before the step that failed, if that is sound and not the one it began with."""
    if not solver.sound or solver.iter == begun:
        return
    try:
        last = solver.latest()
    except Exception as refused:  # a broken GPU too says no
        if str(refused) != str(problem):  # else it is what ended the run
            solver.log("netspec", f"no snapshot is left: {refused}", "W")
    else:
        solver.log("netspec", f"ended by an error after {count(solver.iter, 'iteration')}, whose state is "
                   f"kept; the same command{again.format(last.state)} goes on", "W")
