"""What `tests/judge.py` asks of average precision and of detections: cases of a folder like golden/targets."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from netspec.score.coco import measures
from netspec.score.precision import Truth, curves

RTOL, ATOL = 1e-4, 1e-5


def voc(path: Path) -> Iterator[str]:
    """What differs from a file of VOC's average precision."""
    case = json.loads(path.read_text())
    images, numbers = list(case["truth"]), {name: i for i, name in enumerate(case["classes"], 1)}
    truths = [Truth(np.array([each["bbox"] for each in boxes], float).reshape(-1, 4),
                    np.array([numbers[each["name"]] for each in boxes], int),
                    np.array([each["difficult"] for each in boxes], bool))
              for boxes in case["truth"].values()]
    rows: dict[str, list[list[float]]] = {image: [] for image in images}
    for each in case["detections"]:
        rows[each["image"]].append([numbers[each["name"]], *each["bbox"], each["score"]])
    found = [torch.tensor(rows[image], dtype=torch.float64).reshape(-1, 6) for image in images]
    for threshold, mean in case["mean"].items():
        made = dict(zip(numbers, curves(truths, found, len(numbers) + 1, float(threshold)), strict=True))
        for name, curve in made.items():
            wanted = case["results"][f"{name}@{threshold}"]
            for key, value in (("ap", curve.area), ("ap_11_point", curve.eleven),
                               ("recall", curve.recall), ("precision", curve.precision)):
                yield from differs(f"{name}@{threshold} {key}", value, wanted[key])
        yield from differs(f"map@{threshold}", np.mean([curve.area for curve in made.values()]), mean["map"])
        yield from differs(f"map_11_point@{threshold}", np.mean([curve.eleven for curve in made.values()]),
                           mean["map_11_point"])


def coco(path: Path) -> Iterator[str]:
    """What differs from a file of COCO's measures; -1 stands there for what there is nothing of."""
    case = json.loads(path.read_text())
    found, classes = measures(case["truth"], case["detections"])
    for key, wanted in case["results"].items():
        yield from differs(key, found[key], wanted)
    for key, wanted in case.get("ap_per_class", {}).items():
        yield from differs(f"AP of {key}", classes[int(key)], wanted)


def differs(what: str, ours: object, theirs: object) -> Iterator[str]:
    """A sentence if numbers, or lists of them, differ; null and -1 are NaN."""
    a, b = (np.array(value, float) for value in (ours, theirs))
    b = np.where(b == -1, np.nan, b)
    if a.shape != b.shape:
        yield f"{what}: {a.shape}, expected {b.shape}"
    elif not np.allclose(a, b, RTOL, ATOL, equal_nan=True):
        yield f"{what}: {a}, expected {b}"


FORMS = {"voc_ap*.json": voc, "coco_ap*.json": coco}
