"""The `solve` command: solver files as stages, with pre-flight checks, progress and interruption."""

import argparse
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from . import log, preflight, prototext, surgery, weights
from .errors import Error
from .files import find
from .solver import PRECISIONS, Interrupted, Solver

SIGNALS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("solver", nargs="+", metavar="SOLVER", help="solver prototxt; several are stages, each going on "
                        "from the weights of the one before")
    parser.add_argument("--weights", metavar="FILE[,FILE]", help="start from these .caffemodel files, not from those the solver names")
    parser.add_argument("--snapshot", metavar="FILE", help="go on from this .solverstate; earlier stages are skipped")
    parser.add_argument("--iterations", type=int, metavar="N", help="max_iter of every stage, whatever the solvers say")
    parser.add_argument("--device", default=None, help="cpu, cuda or cuda:N (default: what solver_mode says, CPU where no GPU is)")
    parser.add_argument("--precision", default="fp32", choices=PRECISIONS, help="of convolutions on the device (default fp32, as Caffe)")
    parser.add_argument("--quiet", action="store_true", help="only warnings and errors")


def run(args: argparse.Namespace) -> int:
    """Train; the exit status: 0 done, 128 + the signal's number after a stop with a snapshot."""
    if args.iterations is not None and args.iterations < 1:
        raise Error(f"--iterations must be at least 1, found {args.iterations}")
    stages = [(find(path, what="solver"), prototext.read_solver(find(path, what="solver"))) for path in args.solver]
    said = log.make(args.quiet)
    first = _stage_of(args.snapshot, stages) if args.snapshot else 0
    carried = args.weights.split(",") if args.weights else None
    try:
        for number, (path, param) in enumerate(stages[first:], first):
            if args.iterations is not None:
                param.max_iter = args.iterations
            state = args.snapshot if number == first else None
            stopped = run_stage(path, param, carried, state, args.device or _device(param), args.precision, said)
            if isinstance(stopped, int):
                return stopped
            carried = [stopped]
        said("caffe.cpp:250", "Optimization Done.")
    finally:
        said.close()
    return 0


def run_stage(path: Path, param: Any, carried: list[str] | None, state: str | None, device: str, precision: str,
              said: log.Log) -> str | int:
    """One solver from pre-flight to the end: the path of its final weights, or an exit status if it was stopped."""
    said("caffe.cpp:197" if device == "cpu" else "caffe.cpp:218", "Use CPU." if device == "cpu" else f"Use GPU {device}.")
    solver = Solver(param, path=path, device=device, precision=precision, log=said)
    try:
        if state:
            said("caffe.cpp:242", f"Resuming from {state}")
            solver.restore(state)
            begun = {layer: "copied" for layer in solver.net.layers_with_params()}, []
        else:
            begun = start(solver, carried)
        said("netspec", preflight.summary(solver.net, *begun))
        preflight.check_alive(solver.net)
        preflight.check_first_batch(solver.net, solver.positions(solver.net))
        solver.callbacks.append(preflight.watch_plateau(solver.net, lambda text: said("netspec", text, "W")))
        said("caffe.cpp:239" if not state else "caffe.cpp:243", "Starting Optimization")
        with stopping(solver):
            try:
                solver.solve()
            except Interrupted:
                where = solver.snapshot()
                said("netspec", f"Stopped by {SIGNALS[solver.stop]} at iteration {solver.iter}; go on with --snapshot {where}")
                return 128 + solver.stop
        return solver.final_weights()
    finally:
        solver.close()


def start(solver: Solver, carried: list[str] | None) -> tuple[dict[str, str], list[str]]:
    """Load the start weights and make unfilled upsampling bilinear: ({layer: how loaded}, layers made bilinear)."""
    loaded: dict[str, str] = {}
    for name in carried or list(solver.param.weights):
        try:
            file = find(name, solver.base, "weights")
        except Error as e:
            raise Error(f"{solver.path}: {e}; the comment at the top of the solver says how to get them, --weights names others") from None
        solver.log("caffe.cpp:128", f"Finetuning from {name}")
        report = weights.copy(weights.read_weights(file), solver.net.layers_with_params())
        loaded |= {layer: "copied" for layer in report.copied} | {layer: "reshaped" for layer in report.reshaped}
    bilinear = [layer for layer in surgery.unfilled_upsampling(solver.net) if layer not in loaded]
    surgery.interp(solver.net, bilinear)
    return loaded, bilinear


@contextmanager
def stopping(solver: Solver) -> Iterator[None]:
    """Within, Ctrl-C and SIGTERM ask the solver to stop; a second one ends the program at once."""
    def ask(number: int, frame: Any) -> None:
        solver.stop = number
        for n in SIGNALS:
            signal.signal(n, signal.SIG_DFL)

    before = {number: signal.signal(number, ask) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stage_of(snapshot: str, stages: list[tuple[Path, Any]]) -> int:
    """Which stage a .solverstate belongs to, by its snapshot_prefix."""
    name = find(snapshot, what="solver state").name
    fits = [i for i, (path, p) in enumerate(stages) if name.startswith(f"{Path(p.snapshot_prefix or path.stem).name}_iter_")]
    if len(fits) == 1 or len(stages) == 1:
        return fits[0] if fits else 0
    raise Error(f"{snapshot}: which of the {len(stages)} stages it belongs to is not clear from their snapshot_prefix; "
                "give that solver and the ones after it only")


def _device(param: Any) -> str:
    """solver_mode's device: GPU is Caffe's default, so without one the CPU is used silently."""
    gpu = param.solver_mode == param.GPU and torch.cuda.is_available()
    return f"cuda:{param.device_id}" if gpu else "cpu"

