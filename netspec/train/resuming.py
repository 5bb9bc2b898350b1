"""What a solver's snapshot is made of, and how the solver goes on from one."""

import os
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from ..base.errors import Error
from ..net.graph import Slot
from ..proto.caffe_pb2 import SolverParameter
from . import taken_back, updates
from .snapshot import Snapshot, at, learned_history, read_snapshot, whole_history, write_snapshot

if TYPE_CHECKING:
    from .solver import Solver


def write(solver: "Solver") -> Snapshot:
    """The snapshot of a solver's iteration, which the first rank writes; Error if it cannot be."""
    param, prefix = solver.param, solver.prefix()
    hdf5 = param.snapshot_format == SolverParameter.HDF5
    if solver.ranks.rank:
        return at(prefix, solver.iter, hdf5)
    facts = {"iter": solver.iter, "losses": [*solver.losses], "type": param.type, **solver.data.facts(),
             **taken_back.facts(solver.net)}
    try:
        written = write_snapshot(
            prefix, solver.net.graph.name, taken_back.layers_of(solver.net),
            whole_history(solver.history, _slots(solver)), facts,
            current_step=updates.current_step(param, solver.iter), hdf5=hdf5, log=solver.log)
    except (Error, OSError) as e:
        why = f"{e.strerror} ({e.filename or prefix})" if isinstance(e, OSError) else e
        raise solver.error(f"the snapshot of iteration {solver.iter} cannot be written: {why}; the last good "
                           f"one is {solver.last_good()}") from None
    solver.ranks.remember(written.state)
    return written


def restore(solver: "Solver", path: str | os.PathLike) -> None:
    """See Solver.restore."""
    state, found, facts = read_snapshot(path, solver.base, solver.param.type)
    net = solver.net.graph
    owner = f"net '{net.name}' under {solver.param.type}"
    history = learned_history(found.state, state.history, _slots(solver), owner)
    if facts and len(facts["train"]) != len(net.sources):
        raise Error(f"{found.state}: its run read {len(facts['train'])} data layers, net '{net.name}' "
                    f"has {len(net.sources)}")
    if facts is None:
        solver.log("netspec", f"{found.state} has no .resume file beside it: data and random state start "
                   "again", "W")
    if state.learned_net:
        taken_back.load(found.weights, solver.net, facts or {}, strict=True)
        solver.loaded = dict.fromkeys(solver.net.layers_with_params(), "copied")
    for mine, theirs in zip(solver.history, history, strict=True):
        mine.copy_(torch.from_numpy(np.array(theirs, dtype=np.float32)))
    solver.log("sgd_solver.cpp:336", "SGDSolver: restoring history")
    solver.iter, solver.last_snapshot = state.iteration, found
    solver.losses.clear()
    solver.losses.extend((facts or {}).get("losses", ()))
    solver.data.rewind(facts or {})


def _slots(solver: "Solver") -> list[tuple[Slot, nn.Parameter]]:
    """The parameters, once for each blob of history that they have, in Caffe's order."""
    return solver.net.parameters_by_slot() * solver.kinds
