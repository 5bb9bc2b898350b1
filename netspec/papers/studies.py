"""Each of the papers' studies on any data set of models/fcn.py: its runs trained and scored, as a table and a
figure."""

import ast
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from ..base import __version__
from ..base.errors import Error
from ..base.machine import PROJECT
from ..base.names import solver_file
from ..base.table import percent, table
from ..data.balance import count_labels, write_balance
from ..data.segmentation import SegmentationData
from ..look.charts import Chart, Lines, Marks, require_matplotlib
from ..net.build import build
from ..net.deploy import deploy
from ..net.module import Net
from ..net.plan import Plan
from ..proto.caffe_pb2 import TEST, TRAIN, NetParameter, SolverParameter
from ..proto.model import read_weights, write_weights
from ..proto.text import read_solver, to_text
from ..pycaffe.script import read_or_generate
from ..score.stitch import Stitched
from . import record
from .plans import OTHER, RUNS, STUDIES, Claim
from .record import Record, Settings, Trace

SMOOTH = 20  # a plotted loss is a mean over this part of a run
AXES = ("iterations", "images", "seconds")
DIGITS = dict.fromkeys(AXES, 0) | {"loss": 2}  # in the tables
Point = dict[str, float]  # of a curve: AXES and loss


class Place:
    """Where the runs of one family, budget and seed lie, and how they are made."""

    def __init__(self, family: str, budget: int | None, seed: int, settings: Settings,
                 out: Path = Path("studies")) -> None:
        self.family, self.seed, self.settings = family, seed, settings
        self.folder = out / f"{family}-{budget or 'whole'}" / f"seed{seed}"
        self.first = self.solver("fcn32s").max_iter
        self.scale = budget / self.first if budget else 1.0

    def solver(self, stage: str) -> SolverParameter:
        return read_solver(solver_file(f"{self.family}-{stage}"))

    def net(self, variant: str, split: str) -> NetParameter:
        """A net of the family; its last split of images for "test"."""
        name = f"{PROJECT / 'models/fcn.py'}:{self.family}-{variant}"
        if split != "test":
            return read_or_generate(f"{name}/{split}")
        try:
            return read_or_generate(f"{name}/test")
        except Error:
            return read_or_generate(f"{name}/val")

    @cached_property
    def balance(self) -> Path:
        """A matrix for InfogainLoss with the median-frequency weights of the training labels."""
        path = self.folder.parent / "balance.binaryproto"
        if not path.exists():
            made = build(self.net("fcn32s", "train"), TRAIN, base=PROJECT)
            source = next(each for each in made.readers if isinstance(each, SegmentationData))
            write_balance(path, *count_labels(source))
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
        seed = self.seed + RUNS[run.after].seed
        return fresh, f"from a 32s of seed {seed} without its score layer, trained on the same images"

    def recipe(self, name: str) -> tuple[SolverParameter, int]:
        """The solver of a run, its net inside, and the images a step."""
        run = RUNS[name]
        staged = run.after and not run.fresh and not run.stitch
        param = self.solver(run.net.partition("-")[0] if staged else "fcn32s")
        budget = [param] if staged else [self.solver(f"fcn{s}s") for s in (32, 16, 8)[: run.stages]]
        iterations = run.longer * sum(each.max_iter for each in budget)
        net, batch = self.net(run.net, "train"), 1  # images of a batch as the family has it
        for layer in net.layer:
            if layer.type == "Python" and not layer.bottom:
                options = ast.literal_eval(layer.python_param.param_str)
                batch = options.get("batch_size", 1)
                layer.python_param.param_str = str({**options, "batch_size": 1} if run.images else options)
            if layer.type == "SoftmaxWithLoss":  # a sum in the published nets; solvers' rates are for a mean
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
        mark = record.digest(__version__, self.settings.precision, to_text(param), before)
        path = solver_file(f"{self.family}-fcn32s")
        return record.trained(path, param, before, self.settings, mark, self._trace(name))[0]

    def _trace(self, name: str) -> Trace:
        return Trace(self.folder / f"{name}.loss.csv")

    def scored(self, name: str) -> Record:
        """The scores of a run, trained if it is not."""
        run = RUNS[name]
        made = build(self.net(run.net, "test"), TEST, base=PROJECT)
        file = self.trained(run.after if run.stitch else name)

        def wrap(net: Net) -> Plan | Stitched:
            if not run.stitch:
                return Plan(net)
            small = Net(deploy(self.net(run.net, "deploy"), losses=True), share=net).to(net.device)
            return Stitched(net, Plan(small), run.stitch)

        return record.scored(self.folder / f"{name}.json", made, file, self.settings, wrap=wrap,
                             what=f"stitched {run.stitch}")

    def tried(self, name: str, rates: Sequence[float]) -> dict[str, float]:
        """The mean IU of a run of another seed at each of some rates, under the run of this seed."""
        runs = [f"{name}-x{rate:g}" for rate in rates]
        return {run: self.scored(f"{run}-tried")["mean_iu"] or 0.0 for run in runs}

    def curve(self, name: str, drawn: Collection[str] = ()) -> list[Point]:
        """The smoothed loss of a run, behind that of the run it goes on with, of which only the end is left
        if it is drawn itself; of a run that is not trained nothing."""
        run = RUNS[name]
        if run.stitch:
            return []
        goes_on = run.after and not run.fresh
        before = self.curve(run.after, drawn)[-1 if run.after in drawn else 0 :] if goes_on else []
        begin = before[-1] if before else dict.fromkeys(AXES, 0.0)
        images, rows = self.recipe(name)[1], self._trace(name).rows
        window = max(1, len(rows) // SMOOTH)
        means = np.convolve([loss for _, loss, _ in rows], np.ones(window) / window, "valid") if rows else ()
        found = [{"iterations": begin["iterations"] + i, "images": begin["images"] + i * images,
                  "seconds": begin["seconds"] + s, "loss": float(mean)}
                 for (i, _, s), mean in zip(rows[window - 1 :], means, strict=True)]
        return before + found[: -1 : max(1, len(found) // 200)] + found[-1:]


def verdict(claim: Claim, mean_iu: Mapping[str, Sequence[float]], idle: Collection[str] = ()) -> str:
    """What the runs say of a claim: the difference of the mean IU in points, and if the seeds agree on it.

    idle: labels of runs that learned nothing; two of those say nothing.
    """
    first, relation, second = claim
    apart = [100 * (a - b) for a, b in zip(mean_iu[first], mean_iu[second], strict=True)]
    text = f"{first} less {second}: {np.mean(apart):+.1f}"
    if {first, second} <= {*idle}:
        return f"{text} (says nothing: neither has learned anything yet)"
    if len(apart) == 1 and abs(apart[0]) < 0.05:
        return f"{text} (no difference with this seed)"
    side = "as the paper" if apart[0] > 0 else "the opposite of the paper"
    if len(apart) == 1:
        but = f"{side}, but " if relation == "above" else ""
        return f"{text} ({but}one seed cannot tell this from chance)"
    text += f" ({min(apart):+.1f} to {max(apart):+.1f} over {len(apart)} seeds): "
    if min(apart) <= 0 <= max(apart):
        text += "no difference that the seeds agree on"
        return f"{text}, as the paper" if relation == "like" else text
    if relation == "above":
        return text + side
    text += "the seeds agree"
    return f"{text}, where the paper saw no great difference" if relation == "like" else text


def run_study(name: str, places: Sequence[Place], picture: Path) -> str:
    """Run a study for each seed, draw its figure, and describe it in Markdown."""
    require_matplotlib()
    study, first = STUDIES[name], places[0]
    pretrained = bool(first.solver("fcn32s").weights)  # then there is no random trunk
    runs = {label: run for label, run in study.runs.items() if not (pretrained and run == "random")}
    tried = {label: first.tried(run, study.rates) for label, run in runs.items() if study.rates}
    runs |= {label: max(rates, key=rates.__getitem__) for label, rates in tried.items()}
    found = {label: [place.scored(run) for place in places] for label, run in runs.items()}
    mean_iu = {label: [each["mean_iu"] or 0.0 for each in records] for label, records in found.items()}
    curves = {label: first.curve(run, set(runs.values())) for label, run in runs.items()}
    lines = []
    for label, run in runs.items():
        pixel = np.mean([each["pixel_accuracy"] for each in found[label]])
        scores = map(percent, (np.mean(mean_iu[label]), min(mean_iu[label]), max(mean_iu[label]), pixel))
        last = curves[label][-1] if curves[label] else {}
        end = [f"{last[axis]:.{digits}f}" if last else None for axis, digits in DIGITS.items()]
        lines.append([label, *scores, *end, first.start(run)[1]])
    _draw(picture, curves, mean_iu, study.axes, first.seed)
    idle = [label for label, records in found.items()
            if all(np.count_nonzero(np.sum(each["histogram"], 0)) == 1 for each in records)]
    claims = [verdict(claim, mean_iu, idle) for claim in study.claims if {claim[0], claim[2]} <= set(runs)]
    claims += [f"{label}: learned nothing yet, it predicts one class everywhere" for label in idle]
    claims += [f"{label}: base_lr of {first.recipe(runs[label])[0].base_lr:.3g}, the best of "
               + ", ".join(f"{first.recipe(run)[0].base_lr:.3g} ({percent(iu)})" for run, iu in rates.items())
               + f" by the mean IU with seed {first.seed + OTHER}" for label, rates in tried.items()]
    head = ["", "mean IU", "least", "most", "pixel acc.", *DIGITS, "starts"]
    return "\n\n".join([f"## {name}", study.says, f"![{name}]({picture.parent.name}/{picture.name})",
                        table(lines, head, markdown=True), "\n".join(f"- {claim}" for claim in claims)])


def _draw(path: Path, curves: Mapping[str, Sequence[Point]], mean_iu: Mapping[str, Sequence[float]],
          axes: Sequence[str], seed: int) -> None:
    """The losses over each axis, and the mean IU of each seed."""
    parts: list[Lines | Marks] = []
    for axis in axes:
        lines = {label: [(point[axis], point["loss"]) for point in curve]
                 for label, curve in curves.items() if curve}
        parts.append(Lines(lines, axis, "loss", f"training loss, seed {seed}"))
    marks = {label: [100 * v for v in values] for label, values in mean_iu.items()}
    parts.append(Marks(marks, "mean IU, %", "mean IU, a mark a seed"))
    Chart([[part] for part in parts]).save(path)
