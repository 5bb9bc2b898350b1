"""How long a net that finds objects takes for an image, and where the time goes."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

import numpy as np
import torch
from PIL import Image

from ..base.table import table
from ..net import rewrite, weights
from ..net.detections import BoxReader
from ..net.module import Net
from ..ops.proposals import Proposal
from ..ops.regions import Regions
from ..proto.text import read_net
from ..score.objects import BoxFinder, scene
from .measure import spread

Given = ParamSpec("Given")
Made = TypeVar("Made")


def time_detect(path: Path, file: Path | None, size: tuple[int, int], repeats: int) -> str:
    """Seconds of an image through a net that finds objects, from pixels to boxes, and the parts' shares.

    file: its weights; None: some are drawn. size: height and width of a random image.
    """
    shown = scene(read_net(path), path)
    net = Net(shown.graph).eval()
    rewrite.randomise(net)
    with torch.no_grad():
        for slot, parameter in net.parameters_by_slot():  # drawn ones would move all boxes out of the image
            parameter.mul_("bbox" not in slot.layer)
    if file:
        weights.load(file, net.layers_with_params())
    spent: dict[str, float] = {}
    for node in net.graph.nodes:
        if isinstance(node.op, Proposal | Regions):
            part = "proposals" if isinstance(node.op, Proposal) else "pooling of regions"
            vars(node.op)["forward"] = _counted(node.op.forward, spent, part)
    finder = BoxFinder(net, shown, BoxReader(shown.graph))
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8))
    prepare = _counted(finder.blobs, spent, "image to blobs")
    read = _counted(finder.reader, spent, "blobs to boxes")
    rounds = []
    for _ in range(repeats + 1):  # the first warms up
        spent.clear()
        begun = time.perf_counter()
        with torch.inference_mode():
            inputs, scale = prepare(image)
            blobs = finder.looking(inputs, finder.reader.blobs)
            found = read(blobs, size, scale)
        rounds.append({"in all": time.perf_counter() - begun, **spent})
    del rounds[0]
    high, wide = inputs[shown.image].shape[2:]
    rows = []
    for part in rounds[0]:
        each, shares = [one[part] for one in rounds], [100 * one[part] / one["in all"] for one in rounds]
        rows.append([part, *spread(each, 3), spread(shares, 1)[0]])
    rate = spread([1 / each["in all"] for each in rounds], 2)[0]
    regions = len(blobs[finder.reader.blobs[0]])
    return (f"{path}: {rate} images/s (an image of {size[0]}x{size[1]}, seen as {high}x{wide}, "
            f"{regions} regions, {len(found)} boxes)\n"
            + table(rows, ["", "median s", "least", "most", "share in %"]))


def _counted(call: Callable[Given, Made], spent: dict[str, float], part: str) -> Callable[Given, Made]:
    """A call whose seconds are added to those of a part."""
    def timed(*args: Given.args, **options: Given.kwargs) -> Made:
        begun = time.perf_counter()
        made = call(*args, **options)
        spent[part] = spent.get(part, 0.0) + time.perf_counter() - begun
        return made

    return timed
