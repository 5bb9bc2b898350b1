"""What `tests/judge.py` asks of 38-Cloud's evaluation: scenes of patches, their measures, resizing for training."""

from collections.abc import Callable

import numpy as np
from judge_targets import Arrays, Found

from netspec.data.patches import Grid, place
from netspec.data.resizing import shrunk
from netspec.score.scenes import KEYS, judged, mask, mean


def scenes(config: dict, given: Arrays, wanted: Arrays) -> Found:
    """Patches' probabilities, uint8 or any float, and the scenes' truth: masks, counts, measures, their mean."""
    side, truths = config["patch"], {key.partition(":")[2]: array for key, array in given.items() if key != "patches"}
    masks: dict[str, dict[tuple[int, int], np.ndarray]] = {scene: {} for scene in truths}
    for name, probable in zip(config["names"], given["patches"], strict=True):
        at = place(name)
        masks[at.scene][at.row, at.column] = mask(probable, config["threshold"], side)
    results = []
    for scene, truth in truths.items():
        told = config["results"][scene]
        grid = Grid.of(truth.shape, side, *np.max([*masks[scene]], 0))
        found = grid.join(masks[scene])
        yield f"offset of {scene}", np.array(grid.offset), np.array(told["offset"])
        yield f"mask of {scene}", found.astype(np.uint8), wanted[f"mask:{scene}"]
        counts, measures = judged(truth, found)
        results.append(measures)
        yield f"counts of {scene}", counts[[1, 0, 1, 0], [1, 1, 0, 0]], np.array([told[k] for k in ("tp", "fp", "fn", "tn")])
        yield f"measures of {scene}", *_measures(measures, told)
    yield "mean", *_measures(mean(results), config["mean"])


def _measures(found: object, told: dict) -> tuple[np.ndarray, np.ndarray]:
    keys = [key for key in KEYS if key in told]
    assert keys, "no measure is told"
    wanted = [np.nan if told[key] is None else told[key] for key in keys]
    return np.array([100 * getattr(found, KEYS[key]) for key in keys]), np.array(wanted, float)


def resized(config: dict, given: Arrays, wanted: Arrays) -> Found:
    """A patch and its mask as training has them, half as large (or what the file has)."""
    for name, divide in (("image", config["divide_by"]), ("mask", 255)):
        if name in wanted:
            yield name, shrunk(given[name], *wanted[name].shape[:2]) / divide, wanted[name]


def _either(config: dict, given: Arrays, wanted: Arrays) -> Found:
    return (scenes if "names" in config else resized)(config, given, wanted)


KINDS: dict[str, Callable[[dict, Arrays, Arrays], Found]] = {"clouds_*": _either}
