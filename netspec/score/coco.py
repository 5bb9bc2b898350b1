"""COCO's measures of detections, computed by COCO's own library."""

from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from io import StringIO
from typing import Any

import numpy as np

from ..base.errors import Error, lacking

MEASURES = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large", "AR1", "AR10", "AR100", "AR_small",
            "AR_medium", "AR_large")


def measures(truth: Mapping[str, Any], found: Sequence[Mapping[str, Any]]
             ) -> tuple[dict[str, float], dict[int, float]]:
    """COCO's twelve MEASURES as fractions of 1, and the AP of each category by its id; NaN where nothing is
    to be found.

    truth: as in COCO's instances. found: as in COCO's results: image_id, category_id, bbox (x, y, width,
    height), score. Raises Error without pycocotools.
    """
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError:
        raise Error(lacking("measuring as COCO does", "pycocotools")) from None

    with redirect_stdout(StringIO()):  # it prints what it does
        sides = [COCO(), COCO()]
        sides[0].dataset = dict(truth)
        sides[1].dataset = {**truth, "annotations": [
            {**row, "id": number, "area": row["bbox"][2] * row["bbox"][3], "iscrowd": 0}
            for number, row in enumerate(found, 1)]}
        for side in sides:
            side.createIndex()
        run = COCOeval(*sides, iouType="bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    each = run.eval["precision"][:, :, :, 0, -1]  # thresholds x recalls x categories: all areas, 100 an image
    classes = {number: _mean(each[:, :, i]) for i, number in enumerate(run.params.catIds)}
    return dict(zip(MEASURES, (_there(value) for value in run.stats), strict=True)), classes


def _mean(values: np.ndarray) -> float:
    there = values[values > -1]
    return float(there.mean()) if there.size else float("nan")


def _there(value: float) -> float:
    return float("nan") if value < 0 else float(value)
