"""`netspec solve`: train nets by solver files."""

import argparse
import os
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from ..base import log
from ..base.errors import Error
from ..base.files import find
from ..base.machine import PRECISIONS, asked
from ..proto.text import read_solver
from .finding import find_solver
from .options import add_strict_argument

if TYPE_CHECKING:
    from ..proto.caffe_pb2 import SolverParameter
    from ..train.ranks import Ranks


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("solver", nargs="+", metavar="SOLVER", help="a prototxt, or NAME of solvers/; several are stages, "
        "each going on from the weights of the one before")
    add("--weights", metavar="FILE[,FILE]",
        help="start from these .caffemodel files, not from those the solver names")
    add("--snapshot", metavar="FILE", help="go on from this .solverstate; earlier stages are skipped")
    add("--iterations", type=int, metavar="N", help="max_iter of every stage, whatever the solvers say")
    add("--device", help="cpu, cuda, cuda:N or mps (default: what solver_mode says, cpu where no GPU is)")
    add("--precision", default="fp32", choices=PRECISIONS,
        help="of convolutions and products (default fp32, as Caffe)")
    add("--checkpoint", action="store_true",
        help="keep few blobs of a pass and compute the others again: less memory, more time, equal numbers")
    add("--compile", action="store_true",
        help="run the train net by torch.compile, which needs a compiler and begins slowly")
    add("--skip-bad", type=int, default=0, metavar="N", help="go on past at most N images that cannot be "
        "read; a batch with one is left out, the next takes its place")
    add("--rank-timeout", type=float, default=600.0, metavar="S", help="of several processes that torchrun "
        "starts: how many seconds they wait for one of them (default 600)")
    add_strict_argument(parser)
    add("--log", metavar="FILE", help="add Caffe's log lines to this file too, and draw their curves, "
        "FILE.png, at the end")
    add("--tensorboard", metavar="DIR",
        help="write loss, rate and test outputs there, a folder a net, as they come")
    add("--quiet", action="store_true", help="only warnings and errors")
    parser.set_defaults(state=None, effects=None)  # what `netspec caffe train` says besides


def run(args: argparse.Namespace) -> int:
    """Train the stages. Raises Interrupted after a stop with a snapshot."""
    from ..train.ranks import joined

    if args.iterations is not None and not 0 < args.iterations < 1 << 31:  # max_iter is an int32
        most = " and at most 2147483647" if args.iterations > 0 else ""
        raise Error(f"--iterations must be at least 1{most}, found {args.iterations}")
    if args.skip_bad < 0:
        raise Error(f"--skip-bad must be at least 0, found {args.skip_bad}")
    if not 0 < args.rank_timeout < 1e6:
        raise Error("--rank-timeout must be above 0 and below a million seconds, found "
                    f"{args.rank_timeout:g}")
    if args.snapshot and args.weights:
        raise Error("--snapshot goes on with a run, --weights starts one; give one of them")
    with joined(args.rank_timeout) as ranks:
        return _run(args, ranks)


def _run(args: argparse.Namespace, ranks: "Ranks") -> int:
    """Train the stages as one of the ranks: the first one speaks."""
    from ..look.curves import following
    from ..train import jobs, proposals
    from ..train.stages import run_stage
    from ..train.stopping import EFFECTS

    args.snapshot = ranks.remembered() or args.snapshot
    stages = [(path, read_solver(path)) for path in (find_solver(name) for name in args.solver)]
    first = _stage_of(args.snapshot, stages) if args.snapshot else 0
    carried, state = [args.weights] if args.weights else None, args.snapshot
    for number, (path, param) in enumerate(stages):
        param.max_iter = _iterations(path, param, args.iterations)
        if args.state:
            param.train_state.MergeFrom(args.state)
        if number >= first:  # all of them now, not when the stages before are through
            jobs.check(param, path, () if number > first or state else carried or param.weights)
    proposals.check_join(stages)
    again = " with --snapshot {}" + (" in place of --weights" if args.weights else "")
    done = dict(map(proposals.ended, stages[:first]))  # each stage's last weights by its snapshot_prefix
    said = log.Log(open(os.devnull, "w")) if ranks.rank else log.make(args.quiet)  # noqa: SIM115
    watched = (None, None) if ranks.rank else (args.log, args.tensorboard)
    with closing(said), following(said, *watched):
        for number, (path, param) in enumerate(stages[first:], first + 1):
            device = ranks.device(args.device, asked(param))
            reader = proposals.wanted(param, path) if done else None
            if reader and ranks.size > 1:
                raise Error(f"{path}: reads proposals, which one process makes between stages; train these "
                            "without torchrun")
            if reader:
                proposals.make(reader, [*done.values()][-1], device, args.precision, said)
                carried = None if state else proposals.begins(param, done, args.weights)
            solver = run_stage(path, param, carried, state, device, args.precision, said,
                               args.strict, args.skip_bad, again=again, checkpoint=args.checkpoint,
                               compiled=args.compile, ranks=ranks, effects=args.effects or EFFECTS)
            if number < len(stages) or reader:
                carried, state = [solver.final_weights()], None
                done[Path(solver.prefix()).name] = carried[0]
        if reader and (made := proposals.join(param, path, *[*done.values()][-2:])):
            said("netspec", f"the weights of the last two stages together: {made}")
        said("caffe.cpp:250", "Optimization Done.")
    return 0


def _iterations(path: Path, param: "SolverParameter", given: int | None) -> int:
    """How many a stage is to have. Error where nothing says it: Caffe would train none, and call it done."""
    if given is None and not param.HasField("max_iter"):
        raise Error(f"{path}: has no max_iter, so there is nothing to train; give --iterations N, or a line "
                    "max_iter: N in the solver")
    return param.max_iter if given is None else given


def _stage_of(snapshot: str, stages: "list[tuple[Path, SolverParameter]]") -> int:
    """Which stage a .solverstate belongs to, by its snapshot_prefix."""
    from ..train.snapshot import prefix_of

    name = prefix_of(find(snapshot, what="solver state"))
    fits = [i for i, (_, param) in enumerate(stages) if name == Path(param.snapshot_prefix).name]
    if len(fits) == 1 or len(stages) == 1:
        return fits[0] if fits else 0
    raise Error(f"{snapshot}: which of the {len(stages)} stages it belongs to is not clear from their "
                "snapshot_prefix; give that solver and the ones after it only")
