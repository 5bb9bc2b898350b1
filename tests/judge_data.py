"""What `tests/judge.py` asks of images for detection: the scale that they get, and their pixels."""

from collections.abc import Callable

import numpy as np
from judge_targets import Arrays, Found

from netspec.data.opencv import scaled


def scale(config: dict, given: Arrays, wanted: Arrays) -> Found:
    """Images of the sizes h_w: the factor, and the size that follows."""
    made = [scaled(np.zeros((*side, 1), np.float32), config["target"], config["max_size"]) for side in given["h_w"]]
    yield "scale", np.array([factor for _, factor in made]), wanted["scale"]
    yield "h_w", np.array([image.shape[1:] for image, _ in made]), wanted["h_w"]


def resized(config: dict, given: Arrays, wanted: Arrays) -> Found:
    """An image (BGR, uint8) less the mean, then scaled: its upper left part, as far as the file has it."""
    pixels = given["image"] - np.array(config["means_bgr"], np.float32)
    made, factor = scaled(pixels, config["target"], config["max_size"])
    yield "scale", np.array(factor), wanted["scale"]
    height, width = wanted["image"].shape[:2]
    yield "image", made.transpose(1, 2, 0)[:height, :width], wanted["image"]


KINDS: dict[str, Callable[[dict, Arrays, Arrays], Found]] = {"image_scale*": scale, "image_resized*": resized}
