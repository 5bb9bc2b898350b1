"""The `demo` command: train stages from solver files, score each, and show them side by side."""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .. import __version__
from ..base.errors import Error
from ..base.files import find
from ..base.metrics import Scores
from ..base.table import percent, table
from ..data import segmentation as datasets
from ..look import pictures as report
from ..net.build import load
from ..proto import caffe_pb2
from ..proto import text as prototext
from ..score import predict
from ..score import score as scoring
from ..score.sheet import measures, sheet
from . import record as experiment

PROJECT = Path(__file__).resolve().parents[2]
STAGES = [f"solvers/shapes-fcn{stride}s.prototxt" for stride in (32, 16, 8)]


class Stage(NamedTuple):
    """One solver of a run, trained and scored."""

    name: str
    test: Path  # the net it is scored with
    weights: Path
    predictions: Path  # folder of palette PNGs
    scores: Scores


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("solver", nargs="*", metavar="SOLVER", help="stages (default: the embedded data set's 32s, 16s, 8s); "
                        "each needs a test.prototxt, or val.prototxt, beside its train net")
    parser.add_argument("--out", default="demo", metavar="DIR", help="for weights, predictions and pictures (default demo)")
    parser.add_argument("--seed", type=int, nargs="+", default=[1], metavar="N", help="random_seed; several: one run each")
    parser.add_argument("--rows", type=int, default=3, help="images in the picture (default 3)")
    scoring.add_device_arguments(parser)
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


def run_stages(solvers: Sequence[Path], seed: int, out: Path, args: argparse.Namespace) -> list[Stage]:
    """Train and score the stages of one seed; what an earlier run left, from the same files, is kept."""
    stages: list[Stage] = []
    for path in solvers:
        param = prototext.read_solver(path)
        test = experiment.test_net(path, param)
        param.random_seed, param.snapshot_prefix = seed, str(out / path.stem)
        before = stages[-1].weights if stages else None
        mark = experiment.digest(f"{__version__} {args.precision}", prototext.to_text(param),
                                 *sorted(test.parent.glob("*.prototxt")), *[before] * bool(before))
        weights, kept = experiment.trained(path, param, before, args, mark)
        if kept:
            print(f"{path.stem}: kept from an earlier run; remove {out} to train again")
        made, predictions = load(test, caffe_pb2.TEST), out / path.stem
        found = experiment.scored(out / f"{path.stem}.json", made, weights, args, save=predictions)
        stages.append(Stage(path.stem, test, weights, predictions, Scores.from_histogram(np.array(found["histogram"]))))
    return stages


def over_seeds(runs: Sequence[Sequence[Stage]]) -> str:
    """A row for each stage: mean, least and most of the mean IU over runs with different seeds."""
    rows = []
    for stages in zip(*runs, strict=True):
        values = [stage.scores.mean_iu for stage in stages]
        rows.append([stages[0].name, *map(percent, (np.mean(values), min(values), max(values)))])
    return table(rows, ["", "mean", "least", "most"])


def reader(test: Path) -> datasets.SegmentationData:
    """The data layer of a net that scores."""
    for node in load(test, caffe_pb2.TEST).sources:
        if isinstance(node.op, datasets.SegmentationData):
            return node.op
    raise Error(f"{test}: stages are shown for nets whose data layer is SegmentationData")
