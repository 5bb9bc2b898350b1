"""A net at work: its weights loaded, on a device, giving label images in a data set's names and colours."""

import bisect
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..base import machine
from ..base.errors import Error, closest, listed
from ..data import layouts
from ..data.facts import Known, known
from ..data.layouts import Facts
from ..net.build import build, standing
from ..net.deploy import SIDE, feeds, part, unpooled
from ..net.graph import Graph
from ..net.judged import no_blob
from ..net.module import Net
from ..net.weights import RENAME, ready
from ..ops import Shape
from ..proto.caffe_pb2 import TEST, NetParameter
from .frames import SMALLER


class Looks(NamedTuple):
    """How classes are shown: `names`, one a class, and `palette`, uint8 (classes, 3)."""

    names: Sequence[str]
    palette: np.ndarray

    def number(self, given: str, option: str) -> int:
        """The class of a name or number that a person gave with an option; Error with the closest if none."""
        known = {str(i): i for i in range(len(self.names))} | {name: i for i, name in enumerate(self.names)}
        if given not in known:
            raise Error(f"{option}: '{given}' is no class{closest(given, self.names)} "
                        f"(classes: {', '.join(self.names)})")
        return known[given]


def load(made: Graph, path: str | os.PathLike, device: str | None = None, precision: str = "fp32",
         strict: bool = False, whole: bool = False) -> tuple[Net, list[str]]:
    """The net of a graph with weights from a file, and sentences about what a person should know of them.

    device: see choose. Upsampling without filler and weights is made
    bilinear, as `solve` does. whole: the file must fill the net; strict: and hold no more.
    Raises Error if no layer of the net is in the file, or one does not fit.
    """
    place = machine.choose(device, precision)
    net = Net(made)
    remarks = fill(net, path, strict, whole)
    net.precision = torch.bfloat16 if precision == "bf16" else None
    return net.to(place).eval(), remarks


def fill(net: Net, path: str | os.PathLike | None, strict: bool = False, whole: bool = False) -> list[str]:
    """Puts a file's weights into a net, and makes upsampling bilinear, as `load`; without a file the latter.

    Returns sentences about what a person should know of the file.
    """
    try:
        report = ready(net, path, strict=strict)
    except Error as error:
        if not str(error).endswith(RENAME):
            raise
        raise Error(f"{str(error).removesuffix(RENAME)}; these are weights of another net than "
                    f"'{net.graph.name}', or of one for other classes") from None
    if not path:
        return []
    if net.graph.params and not (report.copied or report.reshaped):
        theirs, mine = listed(report.ignored) or "nothing", listed(list(net.layers_with_params()))
        raise Error(f"{path}: has no layer of net '{net.graph.name}' (the file: {theirs}; the net: {mine}); "
                    "parameters are matched by layer name")
    remarks = []
    if report.missing and whole:
        raise Error(f"{path}: does not fit net '{net.graph.name}', of which it lacks {listed(report.missing)}"
                    "; is it another net's?")
    if report.missing:
        remarks.append(f"{path} lacks {listed(report.missing)}: left at their fillers")
    if report.ignored:
        remarks.append(f"{path} holds {listed(report.ignored)}, not in the net: ignored")
    return remarks


def image_net(net: NetParameter, blob: str, path: str | os.PathLike) -> tuple[NetParameter, str, int, Known]:
    """What of a net (deploy or val) leads from an image to `blob`, its data layer left with the image alone.

    Returns a NetParameter, the image's blob, its channels, and what the data layer says of it. path: the
    net's file. Raises Error if there is no such blob, or if it needs more than one image.
    """
    pruned = part(net, blob)
    if not pruned.layer:
        tops = {top for layer in standing(net, TEST) for top in layer.top}
        raise no_blob(f"{path}: net '{net.name}'", blob, tops)
    feeding = [(layer, top) for layer in pruned.layer if feeds(layer) for top in layer.top]
    if len(feeding) != 1:
        found = ", ".join(f"'{top}'" for _, top in feeding) or "none"
        raise Error(f"{path}: '{blob}' is computed from the inputs {found}; infer feeds one image")
    ((data, top),) = feeding
    shape = data.input_param.shape[0].dim if data.input_param.shape else []
    said = known(data, Path(path))
    usual = len(said.bands.files) if said.bands else 3
    return pruned, top, shape[1] if len(shape) == 4 else usual, said


def blob(image: Image.Image, mean: Sequence[float], channels: int = 3, scale: float = 1.0) -> Tensor:
    """The net's input (1, C, H, W), float32: BGR (or grey, for one channel) less the mean, times a scale."""
    pixels = np.asarray(image.convert("L"))[..., None] if channels == 1 else np.asarray(image)[..., ::-1]
    less = np.asarray(mean, np.float32).reshape(-1, 1, 1)
    found = np.subtract(pixels.transpose(2, 0, 1), less, dtype=np.float32)
    return torch.from_numpy(found[None] * np.float32(scale))


def fitted(net: NetParameter, top: str, channels: int, size: tuple[int, int],
           path: Path | None = None, others: Mapping[str, Shape] | None = None) -> Graph:
    """The graph of a net for images of a size (width, height). others: the shapes of its other inputs.

    Raises Error if the net does not take it, with the least size if that is why.
    """
    def at(width: int, height: int) -> Graph:
        return build(net, TEST, shapes={top: (1, channels, height, width), **(others or {})}, path=path)

    def takes(side: int) -> bool:
        with suppress(Error):
            return bool(at(side, side))
        return False

    try:
        return at(*size)
    except Error as error:
        side = min(size)
        larger = next((s for s in (64, 256, 1024) if s > side and takes(s)), 0)
        if not larger:
            raise
        least = bisect.bisect_left(range(larger), True, lo=side, key=takes)
        if least <= side:  # it is not its size alone
            raise
        raise Error(f"is too small for net '{net.name}', which needs {least}x{least} pixels at least "
                    f"({error})") from None


def sample(net: NetParameter, top: str, channels: int, path: Path | None = None) -> Graph:
    """The graph of a net of `image_net` at some size: the one its Input states, else any that it takes.

    Raises Error if it takes none of SIDE x SIDE and those that un-pooling may be made for.
    """
    if any(layer.input_param.shape for layer in net.layer if feeds(layer)):
        with suppress(Error):  # some state a size that is no more than a word
            return build(net, TEST, path=path)
    try:
        return fitted(net, top, channels, (SIDE, SIDE), path)
    except Error:
        for high, wide in unpooled(net.layer):
            with suppress(Error):
                return fitted(net, top, channels, (wide, high), path)
        raise


def check_room(needed: float, net: Net) -> None:
    """TooLarge where a net needs more bytes of memory than its device has."""
    machine.check_room(needed, net.device, f"net '{net.graph.name}' needs about", SMALLER)


def looks(dataset: str | Facts | None, classes: int) -> Looks:
    """Names and colours of a data set, or of facts; numbers and VOC's colours without, or where it has more
    classes."""
    names, palette = [f"class {i}" for i in range(classes)], layouts.voc_colours(max(classes, 1))
    facts = layouts.facts(dataset) if isinstance(dataset, str) else dataset
    if facts and len(facts.names) <= classes:  # with fewer, it is a set of one's own in that layout
        names[: len(facts.names)], palette[: len(facts.names)] = facts.names, facts.palette
    return Looks(names, palette)
