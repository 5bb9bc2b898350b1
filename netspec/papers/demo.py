"""Stages from solver files: each trained on from the one before and scored, once for each seed."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..base import __version__
from ..base.errors import Error
from ..base.log import Part
from ..base.machine import PROJECT
from ..base.metrics import Scores
from ..base.table import percent, table
from ..data.segmentation import SegmentationData
from ..look import pictures
from ..net.build import build, load
from ..net.graph import Graph
from ..proto.caffe_pb2 import TEST, NetParameter, SolverParameter
from ..proto.text import read_solver, to_text
from ..score import predict
from ..score.sheet import Folder, sheet
from . import record
from .record import Settings


class Stage(NamedTuple):
    """One solver of a run, trained and scored."""

    name: str
    weights: Path
    predictions: Path  # folder of palette PNGs
    data: SegmentationData  # that it was scored on
    scores: Scores


class Trained(NamedTuple):
    """One solver of a run, trained: the net that scores it, and its weights."""

    name: str
    made: Graph
    weights: Path


def train_stages(solvers: Sequence[Path], seed: int, out: Path, settings: Settings,
                 tell: Callable[[str], None], turn: int = 0, turns: int = 1,
                 other: Callable[[str, str], NetParameter] | None = None) -> Iterator[Trained]:
    """Train the stages of a seed; what an earlier run left in `out` from the same files is kept.

    turn: which of so many seeds this one is, from 0, for what is said of how far all is. other: the net, of a
    solver's name and "train" or "test", that takes the place of the solver's own.
    """
    before = None
    params = [read_solver(path) for path in solvers]
    steps = [param.max_iter for param in params]
    seeds = f"seed {turn + 1} of {turns}, " if turns > 1 else ""
    for number, (path, param) in enumerate(zip(solvers, params, strict=True)):
        part = partial(Part, name=f"{seeds}stage {number + 1} of {len(solvers)}",
                       before=turn * sum(steps) + sum(steps[:number]), total=turns * sum(steps))
        nets: list[str] | list[Path]
        if other:
            _exchange(param, other(path.stem, "train"))
            made = build(other(path.stem, "test"), TEST, base=PROJECT)
            name = made.name
            nets = [to_text(made.proto)]
        else:
            test = record.test_net(path, param)
            name, made = path.stem, load(test, TEST)
            nets = sorted(test.parent.glob("*.prototxt"))
        if not any(isinstance(each, SegmentationData) for each in made.readers):
            raise Error(f"net '{made.name}' of {path}: stages are shown for nets whose data layer is "
                        "SegmentationData")
        param.random_seed, param.snapshot_prefix = seed, str(out / name)
        mark = record.digest(f"{__version__} {settings.precision}", to_text(param), *nets, before)
        before, kept = record.trained(path, param, before, settings, mark, part=part)
        if kept:
            tell(f"{name}: kept from an earlier run; remove {out} to train again")
        yield Trained(name, made, record.testable(path, param, before, made, settings))


def _exchange(param: SolverParameter, net: NetParameter) -> None:
    """Put a training net into a solver in place of its own, and leave out its tests, which are of that."""
    for field in ("train_net", "test_net", "test_iter", "test_interval"):
        param.ClearField(field)
    param.train_net_param.CopyFrom(net)


def run_stages(solvers: Sequence[Path], seed: int, out: Path, settings: Settings,
               tell: Callable[[str], None], turn: int = 0, turns: int = 1) -> list[Stage]:
    """Train and score the stages of a seed, as `train_stages`."""
    stages: list[Stage] = []
    for name, made, weights in train_stages(solvers, seed, out, settings, tell, turn, turns):
        data = next(each for each in made.readers if isinstance(each, SegmentationData))
        found = record.scored(out / f"{name}.json", made, weights, settings, save=out / name)
        scores = Scores.from_histogram(np.array(found["histogram"]))
        stages.append(Stage(name, weights, out / name, data, scores))
    return stages


def keep(stages: Sequence[Stage], settings: Settings) -> list[str]:
    """Let the stages' records be the tables' too; the names of those that have one of other weights there."""
    others = []
    for stage in stages:
        path = record.place(stage.name, "scores", settings)
        if record.read(path).get("weights", str(stage.weights)) == str(stage.weights):
            record.write(path, record.read(stage.predictions.with_suffix(".json")))
        else:
            others.append(stage.name)
    return others


def over_seeds(runs: Sequence[Sequence[Stage]]) -> str:
    """A row for each stage: mean, least and most of the mean IU over runs with different seeds."""
    rows = []
    for stages in zip(*runs, strict=True):
        values = [stage.scores.mean_iu for stage in stages]
        rows.append([stages[0].name, *map(percent, (np.mean(values), min(values), max(values)))])
    return table(rows, ["", "mean", "least", "most"])


def draw_stages(path: Path, stages: Sequence[Stage], rows: int) -> list[str]:
    """Show truth and predictions for so many images; the names of stages with other images, left out."""
    data = stages[0].data
    alike = [stage for stage in stages if stage.data.pictures == data.pictures]
    titles = [stage.name.rpartition("-fcn")[2] or stage.name for stage in alike]
    shown: dict[str, Folder] = {stage.name if titles.count(title) > 1 else title: stage.predictions
                                for title, stage in zip(titles, alike, strict=True)}
    chosen = np.linspace(0, len(data) - 1, max(1, min(rows, len(data)))).round().astype(int).tolist()
    looks = predict.looks(data.facts, len(stages[0].scores.class_iu))
    pictures.save(path, sheet(data, looks, shown, chosen))
    return [stage.name for stage in stages if stage not in alike]
