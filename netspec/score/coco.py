"""COCO's measures of detections, computed by COCO's own library."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from io import StringIO
from typing import Any

import numpy as np
from torch import Tensor

from ..base.errors import Error, lacking
from ..data.boxes import Record, numbering
from ..data.drawn import coco_parts, crowded, load
from ..data.options import is_number
from ..data.tree import stem

MEASURES = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large", "AR1", "AR10", "AR100", "AR_small",
            "AR_medium", "AR_large")


def require() -> None:
    """Error without COCO's library."""
    try:
        import pycocotools.coco  # noqa: F401
    except ImportError:
        raise Error(lacking("measuring as COCO does", "pycocotools")) from None


def measures(truth: Mapping[str, Any], found: Sequence[Mapping[str, Any]]
             ) -> tuple[dict[str, float], dict[int, float]]:
    """COCO's twelve MEASURES as fractions of 1, and the AP of each category by its id; NaN where nothing is
    to be found.

    truth: as in COCO's instances. found: as in COCO's results: image_id, category_id, bbox (x, y, width,
    height), score. Raises Error without pycocotools.
    """
    require()
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

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


def score(records: Sequence[Record], found: Sequence[Tensor], names: Sequence[str]
          ) -> tuple[dict[str, float], dict[int, float]]:
    """`measures` of detections (D x 6 each, see detect.py) beside the boxes of their images.

    Of COCO's instances the boxes, areas and crowds are as the file has them; elsewhere areas are those of
    boxes, and difficult boxes count as crowds. names: of the classes, whose numbers are ids.
    """
    truth = {"images": [{"id": image, "width": each.size[0], "height": each.size[1]}
                        for image, each in enumerate(records)],
             "categories": [{"id": number, "name": name} for number, name in enumerate(names) if number],
             "annotations": [{**each, "id": number} for number, each in enumerate(_truth(records, names), 1)]}
    rows = [{"image_id": image, "category_id": int(row[0]), "bbox": _corner(row[1:5]), "score": row[5]}
            for image, some in enumerate(found) for row in some.tolist()]
    return measures(truth, rows)


def _truth(records: Sequence[Record], names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The boxes of all images; ids are those of `score`."""
    sources = {each.source for each in records}
    whole = load(sources.pop()) if len(sources) == 1 and records[0].source.suffix == ".json" else {}
    if "images" not in whole:
        for image, each in enumerate(records):
            for number, box, crowd in zip(each.classes, each.boxes, each.difficult | each.crowd, strict=True):
                yield {"image_id": image, "category_id": int(number), "bbox": _corner(box),
                       "iscrowd": int(crowd), "area": math.prod(_corner(box)[2:])}
        return
    places, number = {each.name: image for image, each in enumerate(records)}, numbering(names)
    kinds, listing, of = coco_parts(records[0].source, whole)
    for key, listed in listing.items():
        at = places.get(stem(listed["file_name"].replace("\\", "/")))
        for where, annotation in of[key] if at is not None else ():
            box = annotation["bbox"]
            area = annotation.get("area", math.prod(box[2:]))
            if not is_number(area):
                raise Error(f"{where}: 'area' should be a number, found {str(area)[:40]!r}")
            yield {"image_id": at, "category_id": number(kinds[annotation["category_id"]]), "bbox": box,
                   "iscrowd": int(crowded(annotation, where)), "area": area}


def _corner(box: Sequence[float]) -> list[float]:
    """x, y, width and height of a box whose ends both belong to it."""
    x1, y1, x2, y2 = map(float, box)
    return [x1, y1, x2 - x1 + 1, y2 - y1 + 1]


def _mean(values: np.ndarray) -> float:
    there = values[values > -1]
    return float(there.mean()) if there.size else float("nan")


def _there(value: float) -> float:
    return float("nan") if value < 0 else float(value)
