"""A net for one's own programs: a torch module that knows what it wants and what it gives."""

import math
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..base.errors import Error
from ..base.machine import choose
from ..base.names import name_of, net_file
from ..convert.agree import facts
from ..data import zoo
from ..data.images import resized
from ..net import judged
from ..net.deploy import deploy
from ..net.detections import SCORES, BoxReader, Rules, pools_regions
from ..net.graph import Graph
from ..net.module import Net
from ..net.plan import Plan
from ..net.room import held
from ..proto.caffe_pb2 import TEST, TRAIN, NetParameter
from . import objects, predict
from .frames import Frame, frames, rgb
from .segment import Segmenter

PRETRAINED = "pretrained"
Picture = str | os.PathLike | Image.Image | np.ndarray


@dataclass
class Preprocess:
    """Makes of a picture what a net wants: BGR (or grey, of 1 channel) from 0 to 255, less `mean`, times
    `scale`, its sides times `resize`; of a net that finds objects its shorter side is brought to the first of
    `sides`, the longer to the second at most. Where the net says no mean it is None, and to be set."""

    net: str
    mean: Sequence[float] | None
    channels: int = 3
    scale: float = 1.0
    resize: float = 1.0
    order: str = "BGR"
    sides: tuple[int, int] | None = None

    def __call__(self, picture: Picture) -> Tensor:
        """The net's input (1, C, H, W), float32. picture: as Loaded.segment takes one. Raises Error."""
        mean = self.checked()
        with opened(picture, self.resize) as (frame, _):
            if self.sides:
                return objects.blob(frame.read(), mean, self.sides)[0]
            return predict.blob(frame.read(), mean, self.channels, self.scale)

    def checked(self) -> Sequence[float]:
        """The mean. Raises Error without one, for one of other channels, and for what are no numbers."""
        if self.mean is None:
            raise Error(f"net '{self.net}' does not say which mean to subtract: set net.preprocess.mean to "
                        "(B, G, R), from 0 to 255")
        try:
            mean = [float(number) for number in self.mean]
        except (TypeError, ValueError):
            mean = [math.nan]
        if not all(map(math.isfinite, mean)):
            raise Error(f"net.preprocess.mean is {self.mean!r}, expected numbers (B, G, R), from 0 to 255")
        if len(mean) not in (1, self.channels):
            raise Error(f"a mean of {len(mean)} numbers is given for images of {self.channels} channels")
        return mean


class Loaded(Net):
    """A net in the hands of a Python program: a torch module, and `segment`, from a picture to its labels, or
    `detect`, from a picture to the objects in it.

    `preprocess` says, and does, what the net wants; `classes` are the names of its classes, `palette` (uint8,
    classes x 3, RGB) their colours, `score_blob` the blob that has their scores. train() and eval() mean what
    they mean in torch: Dropout, and statistics of the batch, follow them, unless a layer has a phase of its
    own.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph)
        said = facts(graph)
        self.score_blob = _scores(graph, len(said.get("classes", ())))
        shape = graph.shape(self.score_blob) if self.score_blob else ()
        looks = predict.looks(None, judged.classes(graph, self.score_blob) if len(shape) == 4 else
                              shape[1] if len(shape) > 1 else 0)
        self.classes = list(said.get("classes", looks.names))
        self.palette = np.array(said.get("palette", looks.palette), np.uint8)
        seen = graph.shape(graph.inputs[0])
        channels = seen[1] if len(seen) == 4 else 3
        self.preprocess = Preprocess(
            graph.name, tuple(said["mean"]) if "mean" in said else None, channels, said.get("scale", 1.0),
            said.get("resize", 1.0), "BGR" if channels == 3 else "grey")
        self.finds = pools_regions(graph.proto.layer)
        with suppress(Error):  # a net that is given its regions finds nothing by itself: detect says so
            if self.finds:
                scene, reader = self._finding()
                looks = predict.looks(scene.known.facts, reader.classes)
                self.score_blob = reader.blobs[1]
                self.classes, self.palette = list(looks.names), looks.palette
                self.preprocess.mean = tuple(objects.mean_of(scene))
                self.preprocess.sides = scene.known.sides

    def _finding(self, rules: Rules | None = None) -> tuple[objects.Scene, BoxReader]:
        """What it takes to find objects. Raises Error for a net that does not, by itself."""
        if not self.finds:
            raise Error(f"net '{self.graph.name}' says nothing of regions, so it finds no objects: "
                        "net.segment(picture) gives the class of each pixel")
        return objects.scene_of(self.graph), BoxReader(self.graph, self.score_blob or SCORES, rules)

    def forward(self, inputs: Mapping[str, Tensor] | Tensor | None = None, /,
                want: Sequence[str] | None = None, **blobs: Tensor) -> dict[str, Tensor] | Tensor:
        """As Net's; where no gradient is asked for, by its plan: the same but for rounding, and faster."""
        named = inputs if isinstance(inputs, Mapping) else blobs
        if isinstance(inputs, Tensor) and len(self._inputs) == 1:
            named = {self._inputs[0]: inputs}
        plain = all(type(x) is Tensor for x in named.values()) and {*named} == {*self._inputs}
        if not plain or self.training or _watched():
            return super().forward(inputs, want, **blobs)  # which says what is wrong
        found = Plan.of(self)(named, want)
        alone = isinstance(inputs, Tensor) and want is None and len(found) == 1
        return next(iter(found.values())) if alone else found

    def train(self, mode: bool = True) -> "Loaded":
        super().train(mode)
        for node in self.graph.nodes:
            if not node.op.layer.HasField("phase"):
                node.op.context = replace(node.op.context, phase=TRAIN if mode else TEST)
        return self

    def segment(self, picture: Picture | Sequence[Picture], scales: Sequence[float] = (1.0,),
                flip: bool = False) -> np.ndarray | list[np.ndarray]:
        """The class of each pixel, (H, W) uint8 (int32 above 256 classes); of a batch a list of them.

        picture: a file (of several pictures the first), a PIL image, an array uint8 (H, W, 3) RGB or (H, W)
        grey; a batch is a list, or an array (N, H, W, 3). scales, flip: it is looked at at several scales and
        mirrored too, as in `netspec infer`. Raises Error for what is no picture, and one too small or large.
        """
        if isinstance(picture, list | tuple) or isinstance(picture, np.ndarray) and picture.ndim == 4:
            return [self._segment(one, scales, flip) for one in picture]
        return self._segment(picture, scales, flip)

    def detect(self, picture: Picture | Sequence[Picture], above: float = 0.5
               ) -> objects.Found | list[objects.Found]:
        """The objects in a picture, whose score is more than `above`: see Found; of a batch a list of them.

        picture: as segment takes one. Raises Error as it does, and for a net that finds none.
        """
        if not isinstance(above, float | int) or not math.isfinite(above):
            raise Error(f"above is {above!r}, expected a number: the score that a box must have more than")
        scene, reader = self._finding(Rules(above))
        self._has_numbers()
        mean = None if self.preprocess.mean is None else self.preprocess.checked()
        finder = objects.BoxFinder(self, scene, reader, mean)
        looks = predict.Looks(self.classes, self.palette)
        if isinstance(picture, list | tuple) or isinstance(picture, np.ndarray) and picture.ndim == 4:
            return [self._detect(one, finder, looks) for one in picture]
        return self._detect(picture, finder, looks)

    def _detect(self, picture: object, finder: objects.BoxFinder, looks: predict.Looks) -> objects.Found:
        with self._evaluating(), opened(picture) as (frame, _):
            return objects.found_in(finder.seen(frame.name, finder.read(frame), {}), looks)

    def _segment(self, picture: object, scales: Sequence[float], flip: bool) -> np.ndarray:
        wants = self.preprocess
        if self.finds:
            raise Error(f"net '{self.graph.name}' finds objects, and gives no class of each pixel: "
                        "net.detect(picture) gives boxes")
        self._alone("segment")
        if not self.score_blob:
            raise Error(f"net '{self.graph.name}' has the outputs {', '.join(self.graph.outputs)}: set "
                        "net.score_blob to the one with the scores")
        self._has_numbers()
        judged.channels(self.graph, self.score_blob)
        segmenter = Segmenter(self, self.score_blob, wants.checked(), wants.scale, scales, flip)
        with self._evaluating(), opened(picture, wants.resize) as (frame, size):
            labels = judged.labels(segmenter(frame)[1], f"image {frame.name}")[0]
        if labels.shape != size[::-1]:  # of a net that sees pictures made smaller, or crops nothing to them
            labels = np.asarray(Image.fromarray(labels).resize(size, Image.Resampling.NEAREST))
        return labels

    def activations(self, picture: Picture, blob: str) -> np.ndarray:
        """A blob of the net, such as "pool4", for a picture: its first item, (C, H, W) float32.

        The picture goes in as `segment` or `detect` gives it to the net; no layer behind the blob runs.
        Raises Error as they do, and for a blob that is not there or has no height and width.
        """
        self.graph.check_blobs([blob])
        self._has_numbers()
        seen = opened(picture, self.preprocess.resize)
        with self._evaluating(), torch.inference_mode(), seen as (frame, _):
            if self.finds:
                finder = objects.BoxFinder(self, *self._finding(), self.preprocess.checked())
                inputs, _ = finder.blobs(finder.read(frame))
            else:
                inputs = {self._alone("activations"): self._shown(frame)}
            found = self.features(inputs, blob)
        if found.ndim != 4 or not len(found):
            raise Error(f"blob '{blob}' is {' x '.join(map(str, found.shape))}, expected one of images, "
                        "N x C x H x W")
        return found[0].float().cpu().numpy()

    def _shown(self, frame: Frame) -> Tensor:
        """The net's input for a frame; Error for one that is too small, or too large for the device."""
        graph, wants = self.graph, self.preprocess
        try:
            made = predict.fitted(graph.proto, graph.inputs[0], wants.channels, frame.size, graph.path)
            predict.check_room(held(made), self)
        except Error as e:
            raise Error(f"image {frame.name} ({frame.size[0]}x{frame.size[1]}): {e}") from None
        data = predict.blob(frame.read(), wants.checked(), wants.channels, wants.scale)
        return data.to(self.device, self.dtype)

    def _alone(self, what: str) -> str:
        """The net's only input."""
        names = self.graph.inputs
        if len(names) != 1:
            raise Error(f"net '{self.graph.name}' has {len(names)} inputs: {', '.join(names)}; {what} gives "
                        "one picture")
        return names[0]

    def _has_numbers(self) -> None:
        if self.device.type == "meta":
            raise Error(f"net '{self.graph.name}' is on the meta device, where there are no numbers: load "
                        "it, or give it to_empty and weights, on another")

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        """In eval mode; what follows is as it was before."""
        training = self.training
        if training:
            self.eval()
        try:
            yield
        finally:
            if training:
                self.train()


def _watched() -> bool:
    """Whether gradients are asked for, or torch itself looks on: what it compiles, traces, transforms or
    casts is the net as it stands."""
    return (torch.is_grad_enabled() or torch.compiler.is_compiling() or torch.jit.is_tracing()
            or torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda")
            or torch._C._are_functorch_transforms_active() or torch._C._len_torch_dispatch_stack() > 0)


def _scores(graph: Graph, classes: int) -> str:
    """The blob with a net's scores: "score", the only output, or the only one of so many classes; else ""."""
    if "score" in {value.blob for value in graph.shapes}:
        return "score"
    outputs = graph.outputs
    named = [blob for blob in outputs if graph.shape(blob)[1:2] == (classes,)]
    return (outputs if len(outputs) == 1 else named if len(named) == 1 else [""])[0]


@contextmanager
def opened(picture: object, resize: float = 1.0) -> Iterator[tuple[Frame, tuple[int, int]]]:
    """A picture as a frame with its sides scaled, and the (width, height) that it has of its own, upright.

    Raises Error for what is no Picture.
    """
    held: AbstractContextManager[Iterator[Frame]]
    if isinstance(picture, str | os.PathLike):
        held = closing(frames(os.fspath(picture)))
    elif isinstance(picture, Image.Image):
        held = nullcontext(iter([_frame(rgb(picture, "image"))]))
    elif isinstance(picture, np.ndarray):
        grey = picture.ndim == 2
        if picture.dtype != np.uint8 or not grey and picture.shape[2:] != (3,) or not picture.size:
            raise Error(f"array {picture.shape} of {picture.dtype}, expected (H, W, 3) RGB or (H, W) grey, "
                        "uint8")
        held = nullcontext(iter([_frame(Image.fromarray(picture).convert("RGB"))]))
    else:
        raise Error(f"a picture is a file, a PIL image or an array, found {type(picture).__name__}")
    with held as found:  # a file stays open until it is read
        frame = next(found)
        size = resized(frame.size, resize)

        def read() -> Image.Image:
            image = frame.read()
            return image.resize(size, Image.Resampling.BILINEAR) if resize != 1 else image

        yield frame._replace(size=size, read=read), frame.size


def _frame(image: Image.Image) -> Frame:
    return Frame("given", "image", image.size, lambda: image)


def load(net: str | os.PathLike | NetParameter, weights: str | os.PathLike | None = PRETRAINED,
         device: str | torch.device | None = None, precision: str | None = None) -> Loaded:
    """A net as a torch module in eval mode, its data layers and losses left off.

    net: a prototxt, a name such as voc-fcn8s, or a message. weights: pretrained, those of the net's name (see
    `netspec weights`; nothing is downloaded here); a file, or the name of another net; None, and of a message
    without others: what the net's fillers draw, and bilinear upsampling. What the file lacks, or holds
    besides, is a UserWarning. device: cpu, cuda, cuda:N, mps or meta; None: a GPU if there is one. precision:
    fp32, tf32 or bf16 (of products alone).
    Raises Error for what cannot work.
    """
    path = None if isinstance(net, NetParameter) else net_file(os.fspath(net))
    graph = deploy(path or net)
    if "meta" in (str(device), str(torch.get_default_device())):
        with torch.device("meta"):
            return Loaded(graph).eval()
    place = choose(None if device is None else str(device), precision or "fp32")
    file = None if weights is None else weights_file(path, os.fspath(weights))
    made = Loaded(graph)
    for remark in predict.fill(made, file, whole=weights == PRETRAINED):
        warnings.warn(remark, stacklevel=2)
    made.precision = torch.bfloat16 if precision == "bf16" else None
    return made.to(place).eval()


def weights_file(net: Path | None, given: str) -> Path | None:
    """The file that load's `weights` mean for the net of a prototxt (None: of a message)."""
    if given != PRETRAINED:
        return zoo.found(given)
    name = name_of(net) if net else None
    if net and name is None:
        raise Error(f"{net}: has no pretrained weights, which only nets in models/ have by their name: give "
                    "weights a file, or None for what the net's fillers draw")
    return zoo.weights_of(name) if name else None
