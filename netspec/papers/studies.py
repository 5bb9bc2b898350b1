"""The `studies` command: each of the papers' studies on any data set of models/fcn.py, as a table and a figure."""

import argparse
import ast
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..base import __version__, log
from ..base.errors import Error
from ..base.files import find
from ..base.machine import PROJECT, cores
from ..base.table import percent, table
from ..check import data as datacheck
from ..data.balance import write_balance
from ..data.segmentation import SegmentationData
from ..look.charts import Chart, Lines, Marks, require_matplotlib
from ..net.build import build
from ..net.deploy import deploy
from ..net.module import Net
from ..proto import caffe_pb2
from ..proto import text as prototext
from ..proto.model import read_weights, write_weights
from ..pycaffe.script import read_or_generate
from ..score.stitch import Stitched
from . import record as experiment
from .record import Record, Trace

QUICK = 60  # iterations
SMOOTH = 20  # a plotted loss is a mean over this part of a run
OTHER = 100  # added to a run's seed: another seed


class Run(NamedTuple):
    """A net to train: a variant of the family, what it goes on from, and how it differs from the family's solver."""

    net: str
    after: str = ""  # the run whose weights it starts from
    stages: int = 1  # the budget of so many stages (32s, 16s, 8s) together
    more: int = 1  # times the images a step
    images: int = 0  # a step, one a pass, at the same number of images in all; 0: as the solver says
    momentum: float = 0  # 0: the solver's
    rate: float = 1  # times the solver's
    seed: int = 0  # added to the study's
    fresh: bool = False  # without the score layers of `after`, or from the weights that the family's solver names
    stitch: int = 0  # not trained: the net of `after`, shifted and stitched to a grid so many times as fine


RUNS = {
    "fcn32s": Run("fcn32s"), "fcn16s": Run("fcn16s", "fcn32s"), "fcn8s": Run("fcn8s", "fcn16s"),
    "fcn16s-learned": Run("fcn16s-learned", "fcn32s"), "fcn8s-learned": Run("fcn8s-learned", "fcn16s-learned"),
    "atonce": Run("fcn8s-atonce", stages=3),
    "pool5": Run("fcn-pool5"), "pool4": Run("fcn-pool4", stages=2), "pool3": Run("fcn-pool3", stages=3),
    "sampled50": Run("fcn32s-sampled50", more=2), "sampled25": Run("fcn32s-sampled25", more=4),
    "balanced": Run("fcn32s-balanced"), "unpool": Run("fcn-unpool"),
    "stitch2": Run("fcn32s", "fcn32s", stitch=2), "stitch4": Run("fcn32s", "fcn32s", stitch=4),
    "trunk": Run("fcn32s", seed=OTHER), "all": Run("fcn32s", "trunk", fresh=True),
    "classifier": Run("fcn32s-fixed", "trunk", fresh=True), "random": Run("fcn32s-fixed"),
    "m90": Run("fcn32s", images=20, momentum=0.9), "m99": Run("fcn32s", images=1, momentum=0.99, rate=1 / 200),
}


class Study(NamedTuple):
    """What the papers say, the runs that show it by label, and pairs of labels: whether they say that the mean IU of the
    first is "above" the second's or "like" it, or give no figures ("open")."""

    says: str
    runs: Mapping[str, str]
    claims: Sequence[tuple[str, str, str]]
    axes: Sequence[str] = ("iterations",)


STUDIES = {
    "sampling": Study(
        "Section 3.4, Figure 5: where each cell of the final layer counts with probability p in the loss, and a step has 1/p "
        "times the images, training converges as fast by iterations and slower by the clock.",
        {"p = 1": "fcn32s", "p = 0.5": "sampled50", "p = 0.25": "sampled25"},
        [("p = 0.5", "like", "p = 1"), ("p = 0.25", "like", "p = 1")], ("iterations", "seconds")),
    "balancing": Study(
        "Section 4.3: balancing the classes by weights in the loss is not needed. The weights here are by median frequency.",
        {"plain": "fcn32s", "balanced": "balanced"}, [("balanced", "like", "plain")]),
    "upsampling": Study(
        "The upsampling between stages starts bilinear and learns in the paper; the released nets keep it fixed.",
        {"16s fixed": "fcn16s", "16s learned": "fcn16s-learned", "8s fixed": "fcn8s", "8s learned": "fcn8s-learned"},
        [("16s learned", "open", "16s fixed"), ("8s learned", "open", "8s fixed")]),
    "skips": Study(
        "Section 4.2, Table 2: each skip raises the scores; one layer alone, without skips, does worse (the journal version has "
        "22.4 for pool4 on VOC). Here pool5 alone has the iterations of the 32s, pool4 those up to the 16s, pool3 of all stages, "
        "and all its layers learn in all of them at the rate of the 32s.",
        {"32s": "fcn32s", "16s": "fcn16s", "8s": "fcn8s", "pool5 alone": "pool5", "pool4 alone": "pool4", "pool3 alone": "pool3"},
        [("16s", "above", "32s"), ("8s", "above", "16s"), ("16s", "above", "pool4 alone"), ("8s", "above", "pool3 alone")]),
    "stitching": Study(
        "Section 3.2: shift-and-stitch gives finer output without training; the paper found skips to do more for their cost. "
        "Here a trained 32s is stitched to the strides 16 and 8, then upsampled bilinearly.",
        {"32s": "fcn32s", "16s": "fcn16s", "8s": "fcn8s", "32s stitched to 16": "stitch2", "32s stitched to 8": "stitch4"},
        [("32s stitched to 16", "open", "32s"), ("16s", "above", "32s stitched to 16"), ("8s", "above", "32s stitched to 8")]),
    "unpooling": Study(
        "Upsampling by un-pooling (the recorded places of the maxima), a convolution before each, against one deconvolution: the "
        "papers give no figures.",
        {"32s, deconvolution": "fcn32s", "un-pooling": "unpool"}, [("un-pooling", "open", "32s, deconvolution")]),
    "finetuning": Study(
        "Section 4.3, Table 2: fine-tuning all layers, against the score layer alone over a fixed trunk.",
        {"all layers": "all", "score layer only": "classifier", "score layer, random trunk": "random"},
        [("all layers", "above", "score layer only"), ("score layer only", "above", "score layer, random trunk")]),
    "stages": Study(
        "Training in stages against all at once, with scaled skips, the same number of iterations: about the same on VOC (65.5 "
        "and 65.4, of the released nets).",
        {"8s in stages": "fcn8s", "8s at once": "atonce"}, [("8s at once", "like", "8s in stages")]),
    "momentum": Study(
        "Momentum 0.9 with 20 images a step (the paper) against 0.99 with one (the released nets), at 1/200 of the rate, which "
        "moves as far an image, over the same number of images.", {"0.9, 20 images": "m90", "0.99, 1 image": "m99"},
        [("0.99, 1 image", "open", "0.9, 20 images")], ("images",)),
}


class Place:
    """Where the runs of one family, budget and seed lie, and how they are made."""

    def __init__(self, family: str, budget: int | None, seed: int, args: argparse.Namespace) -> None:
        self.family, self.seed, self.args = family, seed, args
        self.folder = args.out / f"{family}-{budget or 'whole'}" / f"seed{seed}"
        self.first = self.solver("fcn32s").max_iter
        self.scale = budget / self.first if budget else 1.0

    def solver(self, stage: str) -> Any:
        return prototext.read_solver(find(f"solvers/{self.family}-{stage}.prototxt", PROJECT, "solver"))

    def net(self, variant: str, split: str) -> Any:
        """A NetParameter of the family; its last split of images for "test"."""
        name = f"{PROJECT / 'models/fcn.py'}:{self.family}-{variant}"
        if split != "test":
            return read_or_generate(f"{name}/{split}")
        try:
            return read_or_generate(f"{name}/test")
        except Error:
            return read_or_generate(f"{name}/val")

    @cached_property
    def balance(self) -> Path:
        """A matrix for InfogainLoss with the training labels' median-frequency weights; 1 for classes that never occur."""
        path = self.folder.parent / "balance.binaryproto"
        if not path.exists():
            made = build(self.net("fcn32s", "train"), caffe_pb2.TRAIN, base=PROJECT)
            source = next(node.op for node in made.sources if isinstance(node.op, SegmentationData))
            (part,) = datacheck.look([source], cores(), log.make(True))
            write_balance(path, *part.pixels(next(iter(part.labels))))
        return path

    def start(self, name: str) -> tuple[Path | None, str]:
        """The weights file that a run starts from (None: what its solver names), and words for it."""
        run, given = RUNS[name], list(self.solver("fcn32s").weights)
        if not run.after or run.fresh and given:
            return None, f"from {', '.join(given) or 'random weights'}"
        file = self.trained(run.after)
        if not run.fresh:
            return file, f"from {run.after}"
        kept = {layer: ("", blobs) for layer, blobs in read_weights(file).items() if "score" not in layer}
        write_weights(fresh := self.folder / f"{run.after}-trunk.caffemodel", run.after, kept)
        return fresh, f"from a 32s of seed {self.seed + RUNS[run.after].seed} without its score layer, trained on the same images"

    def recipe(self, name: str) -> tuple[Any, int]:
        """The SolverParameter of a run, its net inside, and the images a step."""
        run = RUNS[name]
        staged = run.after and not run.fresh and not run.stitch
        param = self.solver(run.net.partition("-")[0] if staged else "fcn32s")
        iterations = param.max_iter if staged else sum(self.solver(f"fcn{s}s").max_iter for s in (32, 16, 8)[: run.stages])
        net, batch = self.net(run.net, "train"), 1
        for layer in net.layer:
            if layer.type == "Python" and not layer.bottom:
                options = ast.literal_eval(layer.python_param.param_str)
                batch = options.get("batch_size", 1)
                layer.python_param.param_str = str({**options, "batch_size": 1} if run.images else options)
            if layer.type == "SoftmaxWithLoss":  # the published nets' is a sum; the solvers' rates are for a mean
                layer.loss_param.normalize = True
            if layer.type == "InfogainLoss":
                layer.infogain_loss_param.source = str(self.balance)
        usual = batch * param.iter_size
        images = run.images or usual * run.more
        param.iter_size = run.images or param.iter_size * run.more
        param.max_iter = max(1, round(iterations * self.scale * (usual / images if run.images else 1)))
        param.base_lr *= run.rate
        param.momentum = run.momentum or param.momentum
        param.random_seed, param.snapshot = self.seed + run.seed, max(1, param.max_iter // 2)
        param.snapshot_prefix = str(self.folder / name)
        for field in ("train_net", "net", "test_net", "test_iter", "test_interval"):
            param.ClearField(field)
        param.train_net_param.CopyFrom(net)
        return param, images

    def trained(self, name: str) -> Path:
        """The weights of a run, trained as far as they are not there, after those that it starts from."""
        (param, _), (before, _) = self.recipe(name), self.start(name)
        mark = experiment.digest(__version__, self.args.precision, prototext.to_text(param), *[before] * bool(before))
        path = find(f"solvers/{self.family}-fcn32s.prototxt", PROJECT, "solver")
        return experiment.trained(path, param, before, self.args, mark, Trace(self.folder / f"{name}.loss.csv"))[0]

    def scored(self, name: str) -> Record:
        """The scores of a run, trained if it is not."""
        run = RUNS[name]
        made = build(self.net(run.net, "test"), caffe_pb2.TEST, base=PROJECT)
        file = self.trained(run.after if run.stitch else name)

        def wrap(net: Net) -> Any:
            if not run.stitch:
                return net
            small = Net(deploy(self.net(run.net, "deploy"), losses=True), share=net).to(net.device)
            return Stitched(net, small, run.stitch)

        return experiment.scored(self.folder / f"{name}.json", made, file, self.args, wrap=wrap, what=f"stitched {run.stitch}")

    def curve(self, name: str, drawn: Collection[str] = ()) -> list[dict[str, float]]:
        """The smoothed loss of a run: iterations, images, seconds, loss; behind that of the run it goes on with, of which
        only the end is left if it is drawn itself."""
        run = RUNS[name]
        before = self.curve(run.after, drawn)[-1 if run.after in drawn else 0 :] if run.after and not run.fresh else []
        if run.stitch:
            return []
        images, begin = self.recipe(name)[1], before[-1] if before else {"iterations": 0, "images": 0, "seconds": 0}
        rows = np.array(Trace.read(self.folder / f"{name}.loss.csv")).reshape(-1, 3)
        window = max(1, len(rows) // SMOOTH)
        smooth = np.convolve(rows[:, 1], np.ones(window) / window, "valid") if len(rows) else []
        found = [{"iterations": i + begin["iterations"], "images": i * images + begin["images"], "seconds": s + begin["seconds"],
                  "loss": loss} for (i, _, s), loss in zip(rows[window - 1 :], smooth, strict=True)]
        return before + found[: -1 : max(1, len(found) // 200)] + found[-1:]


def verdict(claim: tuple[str, str, str], mean_iu: Mapping[str, Sequence[float]]) -> str:
    """What the runs say of a claim: the difference of the mean IU, in points, and whether the seeds agree on its sign."""
    first, relation, second = claim
    apart = [100 * (a - b) for a, b in zip(mean_iu[first], mean_iu[second], strict=True)]
    text = f"{first} less {second}: {np.mean(apart):+.1f}"
    if len(apart) == 1:
        side = {"above": "as the paper" if apart[0] > 0 else "the opposite of the paper"}.get(relation)
        return f"{text} ({f'{side}, but ' if side else ''}one seed cannot tell this from chance)"
    text += f" ({min(apart):+.1f} to {max(apart):+.1f} over {len(apart)} seeds): "
    if min(apart) <= 0 <= max(apart):
        return text + "no difference that the seeds agree on" + ", as the paper" * (relation == "like")
    if relation == "above":
        return text + ("as the paper" if apart[0] > 0 else "the opposite of the paper")
    return text + "the seeds agree" + ", where the paper saw no great difference" * (relation == "like")


def shown(name: str, places: Sequence[Place], picture: Path) -> str:
    """Run a study for each seed, draw its figure, and describe it in Markdown."""
    require_matplotlib()
    study, first = STUDIES[name], places[0]
    pretrained = bool(first.solver("fcn32s").weights)  # then there is no random trunk
    runs = {label: run for label, run in study.runs.items() if not (pretrained and run == "random")}
    found = {label: [place.scored(run) for place in places] for label, run in runs.items()}
    mean_iu = {label: [record["mean_iu"] or 0.0 for record in records] for label, records in found.items()}
    curves = {label: first.curve(run, set(runs.values())) for label, run in runs.items()}
    lines = []
    for label, run in runs.items():
        end = curves[label][-1] if curves[label] else {}
        pixel = np.mean([record["pixel_accuracy"] for record in found[label]])
        lines.append([label, *map(percent, (np.mean(mean_iu[label]), min(mean_iu[label]), max(mean_iu[label]), pixel)),
                      *(f"{end[key]:.0f}" if end else None for key in ("iterations", "images", "seconds")), first.start(run)[1]])
    drawn = {label: points for label, points in curves.items() if points}
    losses = [Lines({label: [(point[axis], point["loss"]) for point in points] for label, points in drawn.items()},
                    axis, "loss", f"training loss, seed {first.seed}") for axis in study.axes]
    marks = {label: [100 * v for v in values] for label, values in mean_iu.items()}
    Chart([*([each] for each in losses), [Marks(marks, "mean IU, %", "mean IU, a mark a seed")]]).save(picture)
    head = ["", "mean IU", "least", "most", "pixel acc.", "iterations", "images", "seconds", "starts"]
    claims = [verdict(claim, mean_iu) for claim in study.claims if {claim[0], claim[2]} <= set(runs)]
    claims += [f"{label}: learned nothing yet, it predicts one class everywhere" for label, records in found.items()
               if all(np.count_nonzero(np.sum(record["histogram"], 0)) == 1 for record in records)]
    return "\n\n".join([f"## {name}", study.says, f"![{name}]({picture.parent.name}/{picture.name})",
                        table(lines, head, markdown=True), "\n".join(f"- {claim}" for claim in claims)])
