"""What `tests/judge.py` asks of detections and of average precision."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from golden_case import close

from netspec.net.detections import Rules, detections
from netspec.net.precision import Truth, curves
from netspec.score.coco import measures


def voc(case: Path) -> None:
    """voc_ap_NAME.json: truth, detections, and of each class and threshold what VOC's measure gives."""
    told = json.loads(case.with_name(f"{case.name}.json").read_text())
    numbers = {name: i for i, name in enumerate(told["classes"], 1)}
    truths = {image: Truth(np.array([each["bbox"] for each in boxes], float).reshape(-1, 4),
                           np.array([numbers[each["name"]] for each in boxes], int),
                           np.array([each["difficult"] for each in boxes], bool))
              for image, boxes in told["truth"].items()}
    rows: dict[str, list[list[float]]] = {image: [] for image in truths}
    for each in told["detections"]:
        rows[each["image"]].append([numbers[each["name"]], *each["bbox"], each["score"]])
    found = [torch.tensor(some, dtype=torch.float64).reshape(-1, 6) for some in rows.values()]
    for threshold, mean in told["mean"].items():
        made = curves(list(truths.values()), found, len(numbers) + 1, float(threshold))
        for name, curve in zip(numbers, made, strict=True):
            wanted = told["results"][f"{name}@{threshold}"]
            for key, value in (("ap", curve.area), ("ap_11_point", curve.eleven),
                               ("recall", curve.recall), ("precision", curve.precision)):
                same(f"{key} of {name} at {threshold}", value, wanted[key])
        same(f"map at {threshold}", np.mean([curve.area for curve in made]), mean["map"])
        same(f"map_11_point at {threshold}", np.mean([curve.eleven for curve in made]), mean["map_11_point"])


def coco(case: Path) -> None:
    """coco_ap_NAME.json: truth, detections, COCO's measures; -1 stands there for what there is nothing of."""
    told = json.loads(case.with_name(f"{case.name}.json").read_text())
    found, classes = measures(told["truth"], told["detections"])
    for key, wanted in told["results"].items():
        same(key, found[key], wanted)
    for key, wanted in told.get("ap_per_class", {}).items():
        same(f"AP of {key}", classes[int(key)], wanted)


def detected(case: Path) -> None:
    """detections_NAME.npz: a net's three blobs, and the detections after suppression and limit."""
    arrays = dict(np.load(case.with_name(f"{case.name}.npz")))
    config = json.loads(str(arrays["config"]))
    rois, scores, moves = (torch.from_numpy(arrays[f"in:{name}"]) for name in ("rois", "cls_prob", "bbox_pred"))

    def found(most: int) -> np.ndarray:
        rules = Rules(config["threshold"], config["nms"], most)
        return detections(rois, scores, moves, config["image_h_w"], config["scale"], rules).numpy()

    assert len(found(0)) == config["before_the_limit"]
    close("detections", found(config["max_per_image"]), arrays["out:detections"])


def same(what: str, ours: Any, theirs: Any) -> None:
    """Equal numbers, or lists of them; what is not defined is NaN here, null or -1 there."""
    wanted = np.array(theirs, float)
    close(what, np.array(ours, float), np.where(wanted == -1, np.nan, wanted))
