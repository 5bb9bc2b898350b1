"""A classifier used densely: made convolutional, run over whole images, a map of each class's probability."""

import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..base.errors import Error, listed
from ..data.facts import Known, known
from ..data.images import resized
from ..net.build import build
from ..net.deploy import deploy, feeds, part
from ..net.fields import fields
from ..net.graph import Graph
from ..net.judged import softmaxed
from ..net.module import Net
from ..net.plan import Plan
from ..net.rewrite import convolutionalise, share_reshaped
from ..net.room import held
from ..ops.conv import geometry
from ..proto.caffe_pb2 import NetParameter
from . import predict
from .engined import Engine, Engined
from .segment import Viewer

SAMPLE = 10  # crops that are classified, for the time that all would take
BEST = 3  # classes that are shown where none is named


class Dense(NamedTuple):
    """A classifier's graph and that of its convolutional form; in either, `blob` has the scores of `classes`.

    side: height and width of the classifier's image, the window of each of the form's scores. stride: pixels
    from a window to the next, down and to the right. known: what the net says of images.
    """

    classifier: Graph
    form: Graph
    blob: str
    classes: int
    side: tuple[int, int]
    stride: tuple[int, int]
    known: Known

    @property
    def channels(self) -> int:
        return self.classifier.shape(self.classifier.inputs[0])[1]

    @property
    def padded(self) -> bool:
        """Whether layers pad: a crop then has zeros where the image goes on, and scores differ from it."""
        found = (layer.pooling_param if layer.type == "Pooling" else layer.convolution_param
                 for layer in self.form.proto.layer if layer.type in ("Convolution", "Pooling"))
        return any(max(geometry(own, 2)[2]) for own in found)


def dense(net: NetParameter, path: Path, blob: str | None = None) -> Dense:
    """A classifier, deploy or val, to be used densely. blob: its scores (None: its one result).

    Raises Error for a net of other inputs than an image, of several results, or that is no classifier.
    """
    if blob:
        net = part(net, blob)
    classifier = deploy(net, path=path)
    if len(classifier.inputs) != 1 or len(classifier.shape(classifier.inputs[0])) != 4:
        raise Error(f"{path}: its results follow from {listed(classifier.inputs)}; a classifier is given one "
                    "image (N x C x H x W)")
    if len(classifier.outputs) != 1:
        raise Error(f"{path}: its results are {listed(classifier.outputs)}; --score-blob names the one with "
                    "the scores of the classes")
    (blob,), (top,) = classifier.outputs, classifier.inputs
    after = classifier.shape(blob)
    if len(after) not in (2, 4) or after[2:] not in ((), (1, 1)):
        raise Error(f"{path}: '{blob}' is {' x '.join(map(str, after))}: the net gives maps of scores for "
                    "images of any size already, so leave out --dense")
    try:
        form = build(convolutionalise(classifier)[0])
    except Error as error:
        raise Error(f"{path}: cannot be used densely: {error}") from None
    if form.shape(blob) != (1, after[1], 1, 1):
        raise Error(f"{path}: cannot be used densely: '{blob}' becomes {list(form.shape(blob))}, expected "
                    f"{[1, after[1], 1, 1]}")
    (layer,) = (layer for layer in classifier.proto.layer if feeds(layer))
    value = max((v for v in form.shapes if v.blob == blob), key=lambda v: v.version)
    high, wide = (int(axis.stride) for axis in fields(form)[value])
    side = classifier.shape(top)[2], classifier.shape(top)[3]
    return Dense(classifier, form, blob, after[1], side, (high, wide), known(layer, path))


class Timing(NamedTuple):
    """Seconds of one pass over an image for `windows` (down, across), and of the classifier on `crops` of
    them, whose scores differ by `apart` at most, as a share of the largest."""

    windows: tuple[int, int]
    dense: float
    crops: int
    cropped: float
    apart: float

    @property
    def all_crops(self) -> float:
        """Seconds that all windows would take as crops."""
        return self.cropped * self.windows[0] * self.windows[1] / self.crops

    def words(self, of: Dense) -> str:
        """For people."""
        down, across = self.windows
        (high, wide), all_crops = of.side, self.all_crops
        why = "whose borders are padded where the image goes on" if of.padded else "nothing is padded inside"
        return (f"{across}x{down} windows of {wide}x{high} in one pass: {self.dense:.3g} s; as crops about "
                f"{all_crops:.3g} s, {all_crops / self.dense:.1f} times as long ({self.crops} of them took "
                f"{self.cropped:.3g} s; scores of these differ by {self.apart:.1e} of the largest at most: "
                f"{why})")


class DenseClassifier(Viewer):
    """Maps of probabilities of frames of any size, looked at once, or at several scales and mirrored.

    `timing`: of the first frame at its largest scale, when it was seen.
    """

    def __init__(self, net: Net, of: Dense, mean: Sequence[float], scales: Sequence[float] = (1.0,),
                 flip: bool = False, engine: Engine | None = None) -> None:
        """net: of the classifier, with weights, which are shared. mean: see predict.blob. scales: factors of
        the sides. flip: mirror images too. engine: what runs the form, and crops by it (None: torch, crops by
        the classifier). Raises Error as Engined does.
        """
        form = Net(of.form).to(net.device)
        share_reshaped(net, form)
        form.precision = net.precision
        super().__init__(form.eval())
        self.running = Engined(form, of.blob, engine) if engine else Plan.of(form)
        self.cropping = self.running if engine else Plan.of(net)
        self.of, self.mean = of, mean
        self.looks = [(scale, turned) for scale in sorted(scales, reverse=True)
                      for turned in ((False, True) if flip else (False,))]
        self.odds = softmaxed(of.form, of.blob)
        (self.top,) = of.form.inputs
        self.timing: Timing | None = None

    def fit(self, size: tuple[int, int]) -> float:
        (high, wide), graph, needed = self.of.side, self.net.graph, 0.0
        for scale in dict.fromkeys(scale for scale, _ in self.looks):
            across, down = resized(size, scale)
            if across < wide or down < high:
                raise Error(f"is {across}x{down} at scale {scale:g}, smaller than what net '{graph.name}' "
                            f"classifies, {wide}x{high}; the least scale for it is "
                            f"{_up(max(wide / size[0], high / size[1]))} (--scales)")
            shapes = {self.top: (1, self.of.channels, down, across)}
            needed = max(needed, held(build(graph.proto, shapes=shapes, path=graph.path)))
            predict.check_room(needed, self.net)
        return needed

    def maps(self, name: str, image: Image.Image) -> "Maps":
        """What the classifier says of every window of a picture; Error, with its name, without memory for it,
        and where scores are no numbers."""
        found = []
        with self.working(name, image):
            for scale, mirrored in self.looks:
                shown = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else image
                shown = shown if scale == 1 else shown.resize(resized(image.size, scale),
                                                              Image.Resampling.BILINEAR)
                blob = predict.blob(shown, self.mean, self.of.channels, self.of.known.scale)
                blob = blob.to(self.net.device, self.net.dtype)
                scores = self._timed(blob) if self.timing is None else self._scores(self.running, blob)
                if scores.isnan().any():
                    raise Error(f"image {name}: the scores are no numbers (NaN), so no class can be told; "
                                "'netspec doctor NET WEIGHTS' says where they come from")
                found.append(Look(self._probable(scores)[0].cpu().numpy(), shown.size, mirrored))
        return Maps(found, image.size, self.of.side, self.of.stride)

    def seen(self, name: str, image: Image.Image, paths: dict[str, Path]) -> "Seen":
        """The maps of a picture, whose results go to `paths` (see Outputs.of)."""
        return Seen(image, self.maps(name, image), paths)

    def _scores(self, run: Plan | Engined, blob: Tensor) -> Tensor:
        return run({self.top: blob}, [self.of.blob])[self.of.blob].float()

    def _probable(self, scores: Tensor) -> Tensor:
        if self.odds:
            return scores
        return scores.softmax(1) if scores.shape[1] > 1 else scores.sigmoid()

    def _timed(self, blob: Tensor) -> Tensor:
        """The scores of an image, timed, and against those of some of its windows as crops."""
        scores, spent = _timed(lambda: self._scores(self.running, blob))
        down, across = scores.shape[2:]
        inside = [(i, j) for i in range(down) for j in range(across)
                  if i * self.of.stride[0] + self.of.side[0] <= blob.shape[2]
                  and j * self.of.stride[1] + self.of.side[1] <= blob.shape[3]]
        chosen = [inside[k] for k in np.linspace(0, len(inside) - 1, min(SAMPLE, len(inside))).astype(int)]
        crops = torch.cat([blob[:, :, (y := i * self.of.stride[0]) : y + self.of.side[0],
                                (x := j * self.of.stride[1]) : x + self.of.side[1]] for i, j in chosen])
        theirs, cropped = _timed(lambda: self._scores(self.cropping, crops))
        ours = torch.stack([scores[0, :, i, j] for i, j in chosen])
        apart = (ours - theirs.reshape(ours.shape)).abs().max() / theirs.abs().max().clamp(min=1e-30)
        self.timing = Timing((down, across), spent, len(chosen), cropped, float(apart))
        return scores


def _timed(work: Callable[[], Tensor]) -> tuple[Tensor, float]:
    """What work gives, and its seconds when all is ready: it is done twice."""
    work()
    start = time.perf_counter()
    found = work().cpu()  # who copies waits for the device
    return found, time.perf_counter() - start


def _up(scale: float) -> str:
    """A factor in three digits, rounded up."""
    return f"{np.ceil(scale * 1000) / 1000:g}"


class Look(NamedTuple):
    """Probabilities (C, h, w) of the windows of a picture of a size (width, height), maybe of its mirror
    image."""

    odds: np.ndarray
    size: tuple[int, int]
    mirrored: bool


class Maps(NamedTuple):
    """What a classifier said of a picture of a size (width, height), at each look; its windows' side and
    stride, in pixels of the look."""

    looks: list[Look]
    size: tuple[int, int]
    side: tuple[int, int]
    stride: tuple[int, int]

    def best(self, count: int = BEST, without: Collection[int] = ()) -> tuple[int, ...]:
        """The classes that reach most somewhere, in the mean of the looks; without some."""
        peaks = np.mean([look.odds.max((1, 2)) for look in self.looks], axis=0)
        order = np.argsort(-peaks, kind="stable").tolist()
        return tuple(i for i in order if i not in without)[:count]

    def of(self, classes: Sequence[int]) -> np.ndarray:
        """The maps of some classes, float32 (classes, H, W), 0 to 1, as large as the picture.

        What a window scores stands at its middle; between middles it is linear, and beyond the last ones it
        stays what it is there. Looks are averaged.
        """
        total = np.zeros((len(classes), *self.size[::-1]), np.float32)
        for look in self.looks:
            found = look.odds[list(classes)]
            for axis in (1, 2):
                found = _along(found, axis, look.size[2 - axis], self.size[2 - axis], self.side[axis - 1],
                               self.stride[axis - 1])
            total += found[:, :, ::-1] if look.mirrored else found
        return total / np.float32(len(self.looks))


def _along(found: np.ndarray, axis: int, seen: int, size: int, side: int, stride: int) -> np.ndarray:
    """A map brought to `size` pixels along one axis, of which the net saw `seen`."""
    middle = (np.arange(size) + 0.5) * (seen / size) - 0.5
    at = np.clip((middle - (side - 1) / 2) / stride, 0, found.shape[axis] - 1)
    low = np.minimum(at.astype(int), max(0, found.shape[axis] - 2))
    high = np.minimum(low + 1, found.shape[axis] - 1)
    part = (at - low).astype(np.float32).reshape(-1, *(1,) * (2 - axis))
    return found.take(low, axis) * (1 - part) + found.take(high, axis) * part


class Seen(NamedTuple):
    """A picture, what the classifier says of it, and where results go (see Outputs.of)."""

    image: Image.Image
    maps: Maps
    paths: dict[str, Path]
