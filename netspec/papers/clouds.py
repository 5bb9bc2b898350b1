"""FCN-32s, 16s and 8s on the scenes that come with the project: trained, scored by the scene, and held
against the best that brightness alone can do."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..base import log
from ..base.metrics import BINARY, Binary
from ..base.table import percent, table
from ..data import geotiff
from ..net.plan import Plan
from ..proto.text import to_text
from ..score import predict, scenes
from ..score.scenescore import SceneScoring
from ..score.scenetable import worded
from . import record
from .demo import Trained
from .record import Record, Settings

STAGES = ("clouds-fcn32s", "clouds-fcn16s", "clouds-fcn8s")
STEPS = [k / 255 for k in range(255)]
NEIGHBOURS, WITHIN = 64, 32  # pixels, of the figures on borders between patches


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


class Baseline(NamedTuple):
    """Cloud as what is brighter than a threshold: of which band, above what part of the largest number."""

    band: str
    threshold: float
    mean: Binary


def brightest(scoring: SceneScoring) -> Baseline:
    """The band and threshold of the best mean Jaccard, chosen on the scored scenes themselves, so that none
    does better: each band, the mean of all, and the least of all (bright in every band)."""
    tallies: dict[str, list[np.ndarray]] = {}
    for scene in scoring.scenes:
        truth, pixels = scene.read(), scoring.pixels(scene) / np.float32(255)
        for band, bright in {**dict(zip(geotiff.BANDS, np.moveaxis(pixels, 2, 0), strict=True)),
                             "the mean of all bands": pixels.mean(2), "every band": pixels.min(2)}.items():
            tallies.setdefault(band, []).append(scenes.tally(truth, scenes.levels(bright, STEPS), len(STEPS)))
    found = [Baseline(band, step, scenes.mean(scenes.at(each, number) for each in tallied))
             for band, tallied in tallies.items() for number, step in enumerate(STEPS)]
    return max(found, key=lambda each: each.mean.jaccard)


def measures(found: Mapping[str, Record], baseline: Baseline) -> str:
    """A row a stage, in percent, each measure at both thresholds; and the baseline's."""
    rows = [[name, *(" / ".join(f"{_percent(told['mean'][key]):>5}" for told in each["thresholds"])
                     for key in BINARY)] for name, each in found.items()]
    bright = [f"{percent(getattr(baseline.mean, key)):>5}" for key in BINARY]
    return table([*rows, [f"{baseline.band} above {worded(baseline.threshold)}", *bright]],
                 ["", *BINARY.values()])


def thresholds(found: Mapping[str, Sequence[Record]]) -> str:
    """A row a stage: the Jaccard at 12/255 and 0.5 and the best over all k/255, each a mean over seeds with
    the least and the most."""
    rows = []
    for name, each in found.items():
        best = [max((point["jaccard"] or 0, point["threshold"]) for point in one["curve"]) for one in each]
        at = ([one["thresholds"][number]["mean"]["jaccard"] for one in each] for number in (0, 1))
        rows.append([name, *map(_spread, at), _spread([jaccard for jaccard, _ in best]),
                     ", ".join(worded(threshold) for _, threshold in best)])
    return table(rows, ["Jaccard", *map(worded, scenes.THRESHOLDS), "best", "at"])


def borders(found: Mapping[str, Sequence[tuple[Record, Record]]]) -> str:
    """Two rows a stage: the Jaccard above 0.5 of whole scenes, near borders between patches and elsewhere,
    patches seen as the protocol has them (the first record of a seed) and with their neighbours' pixels."""
    rows = []
    for name, pairs in found.items():
        for title, each in zip(("", ", with neighbours"), zip(*pairs, strict=True), strict=True):
            parts = [[one["thresholds"][1] for one in each],
                     *([one["seams"][part][1] for one in each] for part in ("near", "elsewhere"))]
            cells = [_spread([one["mean"]["jaccard"] for one in part]) for part in parts]
            rows.append([name + title, *cells])
    return table(rows, ["Jaccard above 0.5", "whole scenes", f"within {WITHIN} pixels", "elsewhere"])


def _spread(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return "-"
    mean = f"{100 * float(np.mean(known)):.1f}"
    return mean if len(known) < 2 else f"{mean} ({100 * min(known):.1f} to {100 * max(known):.1f})"


def _percent(value: float | None) -> str:
    return "-" if value is None else percent(value)
