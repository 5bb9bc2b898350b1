"""The scores of scenes as a table, and as curves over all thresholds."""

import math
from collections.abc import Mapping, Sequence

from ..base.errors import one_line
from ..base.metrics import BINARY, Binary
from ..base.table import percent, table
from ..look.charts import Chart, Lines
from . import scenes
from .scenescore import SceneResult
from .wholescene import PROTOCOLS

MEAN = "mean"


def summary(result: SceneResult) -> str:
    """A row a scene and one for their mean, in percent, each measure at all the thresholds asked for."""
    found = [result.at(threshold) for threshold in result.asked]
    rows = [[name, *_cells([each[name] for each in found])] for name in result.tallies]
    rows.append([MEAN, *_cells([scenes.mean(each.values()) for each in found])])
    words = " / ".join(map(worded, result.asked))
    seen = f"; with {result.margin} pixels of the neighbours on all sides" if result.margin else ""
    head = (f"protocol {result.protocol}: {PROTOCOLS[result.protocol]}{seen}\n\nin percent, cloud above "
            f"{words}:\n")
    lines = [head, table(rows, ["scene", *BINARY.values()])]
    if result.near:
        means = [[f"{title} mean", *_cells([scenes.mean(result.at(threshold, part).values())
                                            for threshold in result.asked])]
                 for part, title in (("near", "near borders"), ("elsewhere", "elsewhere"))]
        lines += ["", f"within {result.within} pixels of a border between patches, and elsewhere:\n",
                  table(means, ["", *BINARY.values()])]
    for threshold, each in zip(result.asked, found, strict=True):
        if told := _without(threshold, each):
            lines += ["", *told]
    return "\n".join(lines)


def worded(threshold: float) -> str:
    """A threshold as people write it: in 255ths where it is some."""
    whole = threshold * 255
    return f"{round(whole)}/255" if abs(whole - round(whole)) < 1e-9 else f"{threshold:g}"


def curves(name: str, result: SceneResult) -> Chart:
    """The five measures over the threshold, in percent, each a mean over scenes."""
    points = result.curve()
    series = {}
    for measure, title in BINARY.items():
        line = [(threshold, 100 * getattr(mean, measure)) for threshold, mean in points]
        best = max((point for point in line if math.isfinite(point[1])), key=lambda p: p[1], default=None)
        told = measure == "jaccard" and best
        series[f"{title}, best {best[1]:.1f} at {worded(best[0])}" if told and best else title] = line
    return Chart([[Lines(series, "threshold: cloud where its probability is above", "percent, mean of scenes",
                         f"{name}, protocol {result.protocol}")]])


def _cells(found: Sequence[Binary]) -> list[str]:
    return [" / ".join(f"{percent(getattr(each, name)):>5}" for each in found) for name in BINARY]


def _without(threshold: float, found: Mapping[str, Binary]) -> list[str]:
    """What scenes have no measure of, which leaves it without a mean, and the mean of the others."""
    lines = []
    for name, title in BINARY.items():
        values = {scene: getattr(each, name) for scene, each in found.items()}
        lacking = [scene for scene, value in values.items() if math.isnan(value)]
        if lacking:
            others = [value for value in values.values() if not math.isnan(value)]
            rest = f"; of the other {len(others)} {percent(sum(others) / len(others))}" if others else ""
            where = one_line(", ".join(lacking))
            lines.append(f"{title} above {worded(threshold)} is 0/0 in {where}, so it has no mean{rest}")
    return lines
