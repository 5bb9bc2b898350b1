"""FCN-32s, 16s and 8s on the scenes that come with the project: trained, scored by the scene, and held
against the best that brightness alone can do."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from ..base import log
from ..base.machine import PROJECT
from ..base.metrics import BINARY
from ..base.table import percent, table
from ..data import geotiff
from ..net.plan import Plan
from ..proto.caffe_pb2 import NetParameter
from ..proto.text import to_text
from ..pycaffe.script import read_or_generate
from ..score import predict, scenes
from ..score.scenescore import SceneScoring
from ..score.scenetable import worded
from . import record
from .demo import Trained
from .record import Record, Settings

STAGES = ("clouds-fcn32s", "clouds-fcn16s", "clouds-fcn8s")
STEPS = [k / 255 for k in range(255)]
NEIGHBOURS, WITHIN = 64, 32  # pixels, of the figures on borders between patches
PLACES = "whole", "near", "elsewhere"
ALONE, BESIDE = "", ", with neighbours"  # how patches are seen


def one_map(name: str, split: str) -> NetParameter:
    """The net of a stage with one map and a sigmoid, in place of two and a softmax."""
    return read_or_generate(f"{PROJECT / 'models/fcn.py'}:{name.replace('clouds', 'clouds-sigmoid')}/{split}")


def scored(trained: Trained, out: Path, settings: Settings, margin: int = 0) -> Record:
    """What `SceneResult.as_dict` says of a stage, scored unless that is recorded in `out`; masks are in
    out/NAME. margin: see SceneNet; 0 is the protocol."""
    def measure() -> Record:
        net, _ = predict.load(trained.made, trained.weights, settings.device, settings.precision)
        with closing(log.make(settings.quiet)) as said:
            found = SceneScoring(trained.made).run(
                Plan.of(net), save=None if margin else out / trained.name, margin=margin, within=WITHIN,
                progress=lambda done, total, scene: said.progress("score", done, total, scene, 1))
        return {"net": trained.made.name, **found.as_dict(), "weights": str(trained.weights)}

    mark = record.digest(to_text(trained.made.proto), trained.weights, f"{settings.precision} {margin}")
    name = f"{trained.name}-margin{margin}.json" if margin else f"{trained.name}.json"
    return record.recorded(out / name, mark, measure, settings.device)


def brightest(scoring: SceneScoring) -> Record:
    """The best that brightness alone can do: cloud is above a threshold, the measures are means over scenes.

    Band and threshold are those of the best Jaccard on the scored scenes themselves, so that none does
    better: each band, the mean of all, and the least of all (bright in every band).
    """
    tallies: dict[str, list[np.ndarray]] = {}
    for scene in scoring.scenes:
        truth, pixels = scene.read(), scoring.pixels(scene) / np.float32(255)
        for band, bright in {**dict(zip(geotiff.BANDS, np.moveaxis(pixels, 2, 0), strict=True)),
                             "the mean of all bands": pixels.mean(2), "every band": pixels.min(2)}.items():
            tallies.setdefault(band, []).append(scenes.tally(truth, scenes.levels(bright, STEPS), len(STEPS)))
    found = [(scenes.mean(scenes.at(each, number) for each in tallied), band, step)
             for band, tallied in tallies.items() for number, step in enumerate(STEPS)]
    best, band, step = max(found, key=lambda each: each[0].jaccard)
    return {"band": band, "threshold": step, **best.as_dict()}


def run_of(seed: int, protocol: Record, beside: Record) -> Record:
    """What the tables show of a stage of a seed, from its records by the protocol and with neighbours: the
    means over scenes, the threshold of the best Jaccard, and the Jaccard above 0.5 by places."""
    points = [(point["jaccard"] or 0.0, point["threshold"]) for point in protocol["curve"]]
    whole = {title: {"whole": each["thresholds"][1], **{part: each["seams"][part][1] for part in PLACES[1:]}}
             for title, each in ((ALONE, protocol), (BESIDE, beside))}
    asked = [{"threshold": each["threshold"], **each["mean"]} for each in protocol["thresholds"]]
    return {"net": protocol["net"], "seed": seed, "thresholds": asked,
            "best": dict(zip(("jaccard", "threshold"), max(points), strict=True)),
            "borders": {title: {part: told["mean"]["jaccard"] for part, told in parts.items()}
                        for title, parts in whole.items()}}


def measures(runs: Sequence[Record], baseline: Record) -> str:
    """A row a stage of one seed, in percent, each measure at both thresholds; and the baseline's."""
    rows = [[run["net"], *(" / ".join(f"{_percent(told[key]):>5}" for told in run["thresholds"])
                           for key in BINARY)] for run in runs]
    bright = [f"{percent(baseline[key]):>5}" for key in BINARY]
    return table([*rows, [f"{baseline['band']} above {worded(baseline['threshold'])}", *bright]],
                 ["", *BINARY.values()])


def thresholds(runs: Sequence[Record]) -> str:
    """A row a stage: the Jaccard at 12/255 and 0.5 and the best over all k/255, each a mean over seeds with
    the least and the most."""
    rows = []
    for name, each in _by_net(runs).items():
        at = ([run["thresholds"][number]["jaccard"] for run in each] for number in (0, 1))
        rows.append([name, *map(_spread, at), _spread([run["best"]["jaccard"] for run in each]),
                     ", ".join(worded(run["best"]["threshold"]) for run in each)])
    return table(rows, ["Jaccard", *map(worded, scenes.THRESHOLDS), "best", "at"])


def borders(runs: Sequence[Record]) -> str:
    """Two rows a stage: the Jaccard above 0.5 of whole scenes, near borders between patches and elsewhere,
    patches seen as the protocol has them and with their neighbours' pixels; over seeds as `thresholds`."""
    rows = [[f"{name}{title}", *(_spread([run["borders"][title][part] for run in each]) for part in PLACES)]
            for name, each in _by_net(runs).items() for title in (ALONE, BESIDE)]
    return table(rows, ["Jaccard above 0.5", "whole scenes", f"within {WITHIN} pixels", "elsewhere"])


def _by_net(runs: Sequence[Record]) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = {}
    for run in runs:
        found.setdefault(run["net"], []).append(run)
    return found


def _spread(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return "-"
    mean = f"{100 * float(np.mean(known)):.1f}"
    return mean if len(known) < 2 else f"{mean} ({100 * min(known):.1f} to {100 * max(known):.1f})"


def _percent(value: float | None) -> str:
    return "-" if value is None else percent(value)
