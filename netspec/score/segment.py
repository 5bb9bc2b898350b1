"""A net with its weights as what turns pictures, one after the other, into scores."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from PIL import Image
from torch import Tensor

from ..base import machine
from ..base.errors import Error, TooLarge, exhausted
from ..data.images import resized
from ..net.graph import Graph
from ..net.judged import whole
from ..net.module import Net
from ..net.plan import Plan
from ..net.room import held
from . import predict
from .averaged import looked
from .engined import Engine
from .frames import SMALLER, Frame
from .sampled import UNCERTAINTY, Draws, Sampled
from .windows import Windows

TILED = ", as infer does with --tile auto"  # behind SMALLER
Shown = Image.Image | Windows
LARGE = 1 << 24  # pixels of an image beyond which its memory is reckoned from one of 1/64 of them
MUCH = 2e9  # bytes of memory from which it is said what is needed
AVERAGING = 8  # times the scores are held by what averages looks: theirs, odds, sums and between


class Viewer:
    """A net that is shown frames, of any size: what it needs for one is known before it works on it."""

    def __init__(self, net: Net, say: Callable[[str], object] = lambda text: None) -> None:
        """say: is told of images that need much memory."""
        self.net, self.say = net, say
        self.seconds = 0.0  # that it worked, on all pictures
        self.fits: set[tuple[int, int]] = set()

    def read(self, frame: Frame) -> Image.Image:
        """A frame as RGB. What the net needs for it is known before it is decoded.

        Raises Error, with its name, for one that is damaged, too small for the net, or too large for the
        device.
        """
        if frame.size not in self.fits:
            what = f"image {frame.name} ({frame.size[0]}x{frame.size[1]}): "
            try:
                needed = self.fit(frame.size)
            except Error as e:
                raise Error(f"{what}{e}") from None
            if needed > MUCH:
                needs, has = map(machine.amount, (needed, machine.room(self.net.device)))
                self.say(f"{what}net '{self.net.graph.name}' needs about {needs} for it, of the {has} that "
                         f"{self.net.device} has")
            self.fits.add(frame.size)
        return frame.read()

    def fit(self, size: tuple[int, int]) -> float:
        """About how many bytes of memory an image of this size (width, height) needs; Error if the net does
        not take it, or the device has no room."""
        raise NotImplementedError

    @contextmanager
    def working(self, name: str, image: Shown) -> Iterator[None]:
        """Without gradients, and timed; Error, with the picture's name, if there is no memory left for it."""
        begun = time.perf_counter()
        try:
            with torch.inference_mode():
                yield
                if self.net.device.type == "cuda":
                    torch.cuda.synchronize(self.net.device)
        except (RuntimeError, MemoryError) as e:
            exhausted(e)
            raise Error(f"image {name} ({image.size[0]}x{image.size[1]}): {self.net.device} has not "
                        f"enough memory left for it; {SMALLER}") from None
        finally:
            self.seconds += time.perf_counter() - begun


class Segmenter(Viewer):
    """Scores of frames of any size, looked at once, or at several scales and mirrored."""

    def __init__(self, net: Net, blob: str, mean: Sequence[float], scale: float = 1.0,
                 scales: Sequence[float] = (1.0,), flip: bool = False, engine: Engine | None = None,
                 draws: Draws | None = None, say: Callable[[str], object] = lambda text: None) -> None:
        """net: of one image and nothing else. mean, scale: see predict.blob. say: see Viewer. The others: see
        looked."""
        super().__init__(net, say)
        self.blob, self.mean, self.scale, self.scales = blob, mean, scale, scales
        self.looking = looked(net, blob, scales, flip, engine, draws)
        self.whole = whole(net.graph, blob)
        (self.top,) = net.graph.inputs
        self.channels = net.graph.shape(self.top)[1]

    def __call__(self, frame: Frame) -> tuple[Image.Image, Tensor]:
        """A frame as RGB, and its scores: `read` and `scores`."""
        image = self.read(frame)
        return image, self.scores(frame.name, image)

    def scores(self, name: str, image: Image.Image) -> Tensor:
        """The scores (1, C, H, W) of a picture, of one map as `whole` takes it.

        Raises Error, with the picture's name, if there is no memory left for them.
        """
        return self.sampled(name, image)[0]

    def sampled(self, name: str, image: Image.Image) -> tuple[Tensor, Tensor | None]:
        """The scores of a picture, and of samples their uncertainty (1, 1, H, W); Error as `scores`."""
        with self.working(name, image):
            inputs = predict.blob(image, self.mean, self.channels, self.scale)
            inputs = inputs.to(self.net.device, self.net.dtype)
            found = self.looking({self.top: inputs}, [self.blob])
            unsure = found.get(UNCERTAINTY) if isinstance(self.looking, Sampled) else None
            return self.whole(found[self.blob]), unsure

    def fit(self, size: tuple[int, int]) -> float:
        def at(scale: float) -> Graph:
            proto, path = self.net.graph.proto, self.net.graph.path
            return predict.fitted(proto, self.top, self.channels, resized(size, scale), path)

        needed = 0.0
        for scale in self.scales:
            parts = 8 if scale * scale * size[0] * size[1] > LARGE else 1
            try:
                needed = max(needed, self.needs(at(scale / parts), parts * parts, resized(size, scale)))
                predict.check_room(needed, self.net)
                if parts > 1:
                    at(scale)
            except Error as e:
                where, cure = f"at scale {scale:g} " * (scale != 1), f"; {SMALLER}" * (parts > 1)
                large = TooLarge if parts > 1 else type(e)  # then nothing is too small
                tiled = TILED if large is TooLarge and self.scales == (1.0,) else ""
                raise large(f"{where}{str(e).removesuffix(cure)}{cure}{tiled}") from None
        return needed

    def needs(self, made: Graph, times: int, size: tuple[int, int]) -> float:
        """About how many bytes an image of this size (width, height) needs, of `times` the pixels of what a
        graph is made for. A plan holds less than all of large maps at once, and reckons for itself."""
        most, plan = times * held(made), getattr(self.looking, "looking", self.looking)
        if not isinstance(plan, Plan) or most < MUCH / 2:
            return most
        there = plan.needs({self.top: (1, self.channels, *size[::-1])}, [self.blob])
        scores = times * math.prod(made.shape(self.blob)) * plan.dtype.itemsize
        return there + AVERAGING * scores * (plan is not self.looking)
