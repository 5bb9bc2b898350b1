"""`netspec demo`: train stages, score them, show them side by side."""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..base.files import find
from .options import add_device_arguments, settings

if TYPE_CHECKING:
    from ..papers.demo import Stage


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("solver", nargs="*", metavar="SOLVER",
                        help="stages (default: the embedded data set's 32s, 16s, 8s); each needs a "
                        "test.prototxt, or val.prototxt, beside its train net")
    parser.add_argument("--out", type=Path, default=Path("demo"), metavar="DIR",
                        help="for weights, predictions and pictures (default demo)")
    parser.add_argument("--seed", type=int, nargs="+", default=[1], metavar="N",
                        help="random_seed; several: one run each")
    parser.add_argument("--rows", type=int, default=3, metavar="N", help="images in the picture (default 3)")
    add_device_arguments(parser)
    parser.add_argument("--quiet", action="store_true", help="only warnings and errors beside the results")


def run(args: argparse.Namespace) -> int:
    from ..papers.demo import draw, over_seeds, reader
    from ..score.sheet import measures
    from ..train.jobs import solver_file

    begun = time.monotonic()
    solvers = [find(path, what="solver") for path in args.solver] \
        or [solver_file(f"shapes-fcn{stride}s") for stride in (32, 16, 8)]
    runs = {seed: _stages(solvers, seed, args) for seed in args.seed}
    stages = runs[args.seed[0]]
    data = reader(stages[0].test)
    for seed, found in runs.items():
        print(f"\n{len(data)} images, '{data.split}' of '{data.dataset}', random_seed {seed}, in percent\n")
        print(measures([(stage.name, stage.scores) for stage in found]))
    if len(runs) > 1:
        print(f"\nmean IU in percent over random_seed {', '.join(map(str, runs))}\n")
        print(over_seeds(list(runs.values())))
    path = args.out / "stages.png"
    others = ", ".join(draw(path, stages, args.rows))
    print(f"\npicture      {path}" + (f", without {others}, of other images" if others else ""))
    for stage in stages:
        print(f"{stage.name:<12} weights {stage.weights}, predictions {stage.predictions}")
    print(f"{time.monotonic() - begun:.0f} s in all")
    return 0


def _stages(solvers: Sequence[Path], seed: int, args: argparse.Namespace) -> list["Stage"]:
    from ..papers.demo import run_stages

    stages, out = [], args.out / f"seed{seed}"
    for stage in run_stages(solvers, seed, out, settings(args)):
        if stage.kept:
            print(f"{stage.name}: kept from an earlier run; remove {out} to train again")
        stages.append(stage)
    return stages
