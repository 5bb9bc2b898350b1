"""The `demo` command: train stages from solver files, score each, and show them side by side."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..base import __version__
from ..base.errors import Error
from ..base.metrics import Scores
from ..base.table import percent, table
from ..data import segmentation as datasets
from ..net.build import load
from ..proto import caffe_pb2
from ..proto import text as prototext
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
