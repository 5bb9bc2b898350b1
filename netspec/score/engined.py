"""A net that another program runs, to be used like it, and held against torch on the first image."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..base.errors import Error, Final
from ..base.machine import room
from ..convert import engines
from ..convert.stored import Stored
from ..net.module import Net
from ..net.plan import WORTH
from ..ops import Shape

Sizes = tuple[Shape, ...]  # of each input, in the order of the net's
# Of the largest score. float32: its rounding through a hundred layers, as for exported files. bf16 keeps 8
# bits, so each layer rounds by up to 2^-9: 64 layers, whose errors add like random ones, make 8 times that,
# and twice as much is let pass.
TOLERANCE = {"fp32": 1e-4, "bf16": 2.0**-5}
OFTEN = {"fp32": 8, "bf16": 48}  # images of one size, with which making it a model of its own begins to pay
OWN = 2  # sizes that get one, since each takes twice the memory of the weights


class Engine(NamedTuple):
    """A program that runs nets instead of torch: its name, the weights file beside which it keeps its model
    (None: nowhere), and who is told where it cannot."""

    name: str
    beside: Path | None = None
    say: Callable[[str], object] = lambda text: None

    def check(self, device: torch.device, precision: str) -> str:
        """The precision as engines call it. Raises Error for what it cannot run with."""
        if device.type != "cpu":
            raise Error(f"--engine {self.name} runs on the CPU: give --device cpu, or use --engine torch")
        precision = "bf16" if precision == "bf16" else "fp32"  # TF32 is of GPUs
        engines.check(self.name, precision)
        return precision


class Engined:
    """A net of images alone, run by an engine. Blobs come and go as torch tensors on the CPU, float32."""

    losses: Mapping[str, float] = {}

    def __init__(self, net: Net, blob: str, engine: Engine) -> None:
        """net: of which `blob` is an output; its precision becomes float32, to compare with.

        Raises Error for an engine that is not installed, does not know the net's precision or device, and for
        a net without a form in ONNX.
        """
        self.net, self.blob, self.engine = net, blob, engine
        self.graph, self.device, self.dtype = net.graph, net.device, net.dtype
        self.precision = engine.check(net.device, "bf16" if net.precision is torch.bfloat16 else "fp32")
        net.precision = None
        try:
            self.models = Stored(net, engine.beside, engine.say)
            self.run = self._open(None)
        except Error as e:
            raise Error(f"--engine {engine.name}: {e}") from None
        self.own: dict[Sizes, engines.Run] = {}  # for images of these sizes alone, as the net's plan does it
        self.compared: set[engines.Run] = set()
        self._seen: Counter[Sizes] = Counter()

    def __call__(self, inputs: Mapping[str, Tensor], want: Sequence[str]) -> dict[str, Tensor]:
        """As a net's: torch's where those are no numbers. Raises Final where the first images have other
        scores than torch gives them."""
        images = {blob: inputs[blob] for blob in self.graph.inputs}
        run = self._running({blob: tuple(image.shape) for blob, image in images.items()})
        found = run({blob: image.float().contiguous().numpy() for blob, image in images.items()})
        if run not in self.compared or not all(image.isfinite().all() for image in images.values()):
            with torch.no_grad():
                ours = self.net(images, [self.blob])[self.blob].float().numpy()
            if np.isfinite(ours).all():
                self._compare(images, ours, found[self.blob])
                self.compared.add(run)
            else:  # OpenVINO's ReLU makes zeros of NaN; who reads these says so
                found[self.blob] = ours
        return {blob: torch.from_numpy(found[blob]) for blob in want}

    def _open(self, shapes: Mapping[str, Shape] | None) -> engines.Run:
        """The engine with the model for these shapes, or for all."""
        model = self.models.model(shapes, bool(shapes) and engines.tiled(self.precision))
        return engines.open(self.engine.name, model, torch.get_num_threads(), self.precision)

    def _running(self, shapes: Mapping[str, Shape]) -> engines.Run:
        """What runs images of these shapes: from the OFTENth on a model of their own, if that does less."""
        sizes = tuple(shapes.values())
        if not self._seen[sizes]:
            self.graph.infer(shapes)
        self._seen[sizes] += 1
        if self._seen[sizes] == OFTEN[self.precision] and self._fits() and (
                self.models.plan.left(shapes) < WORTH):
            self.own[sizes] = self._open(shapes)
        return self.own.get(sizes, self.run)

    def _fits(self) -> bool:
        """Whether one more model may be held: beside the weights and their reading twice those for each."""
        weights = sum(parameter.nbytes for parameter in self.net.parameters())
        return len(self.own) < OWN and (6 + 2 * len(self.own)) * weights < room(self.device)

    def _compare(self, images: Mapping[str, Tensor], ours: np.ndarray, found: np.ndarray) -> None:
        """Final where the engine's scores are not those that torch gives."""
        name, bound, count = self.engine.name, TOLERANCE[self.precision], self._seen.total()
        sizes = ", ".join("x".join(map(str, image.shape)) for image in images.values())
        which = f"input {count}, {sizes}" if count > 1 else "the first image"
        if found.shape != ours.shape:
            raise Final(f"{name} makes '{self.blob}' {list(found.shape)} of {which}, where torch "
                        f"makes {list(ours.shape)}; use --engine torch")
        largest = float(np.abs(ours).max(initial=0))
        apart = float(np.abs(found - ours).max(initial=0))
        if not apart <= bound * largest:
            raise Final(f"{name} differs from torch on {which}, by {apart:.2g} where the largest score "
                        f"is {largest:.3g} ({self.precision} may differ by {bound:.2g} of it); use "
                        "--engine torch")
