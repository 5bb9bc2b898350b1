"""`netspec demo`: train stages, score them, show them side by side."""

import argparse
import time
from pathlib import Path

import numpy as np

from ..base.files import find
from ..look import pictures as report
from ..papers.demo import PROJECT, STAGES, over_seeds, reader, run_stages
from ..score import predict
from ..score.sheet import measures, sheet
from .options import add_device_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("solver", nargs="*", metavar="SOLVER", help="stages (default: the embedded data set's 32s, 16s, 8s); "
                        "each needs a test.prototxt, or val.prototxt, beside its train net")
    parser.add_argument("--out", default="demo", metavar="DIR", help="for weights, predictions and pictures (default demo)")
    parser.add_argument("--seed", type=int, nargs="+", default=[1], metavar="N", help="random_seed; several: one run each")
    parser.add_argument("--rows", type=int, default=3, help="images in the picture (default 3)")
    add_device_arguments(parser)
    parser.add_argument("--quiet", action="store_true", help="only warnings and errors beside the results")


def run(args: argparse.Namespace) -> int:
    solvers = [find(path, what="solver") for path in args.solver] or [find(path, PROJECT, "solver") for path in STAGES]
    begun, out = time.monotonic(), Path(args.out)
    runs = {seed: run_stages(solvers, seed, out / f"seed{seed}", args) for seed in args.seed}
    stages = runs[args.seed[0]]
    data = reader(stages[0].test)
    for seed, found in runs.items():
        print(f"\n{len(data)} images, '{data.split}' of '{data.dataset}', random_seed {seed}, in percent\n")
        print(measures([(stage.name, stage.scores) for stage in found]))
    if len(runs) > 1:
        print(f"\nmean IU in percent over random_seed {', '.join(map(str, runs))}\n")
        print(over_seeds(list(runs.values())))
    alike = [stage for stage in stages if reader(stage.test).pictures == data.pictures]
    titles = [stage.name.rpartition("-fcn")[2] or stage.name for stage in alike]
    titles = [stage.name if titles.count(title) > 1 else title for title, stage in zip(titles, alike, strict=True)]
    chosen = np.linspace(0, len(data) - 1, max(1, min(args.rows, len(data)))).round().astype(int).tolist()
    shown = {title: stage.predictions for title, stage in zip(titles, alike, strict=True)}
    looks = predict.looks(data.facts, len(stages[0].scores.class_iu))
    report.save(out / "stages.png", sheet(data, looks, shown, chosen))
    others = [stage.name for stage in stages if stage not in alike]
    print(f"\npicture      {out / 'stages.png'}" + f", without {', '.join(others)}, of other images" * bool(others))
    for stage in stages:
        print(f"{stage.name:<12} weights {stage.weights}, predictions {stage.predictions}")
    print(f"{time.monotonic() - begun:.0f} s in all")
    return 0
