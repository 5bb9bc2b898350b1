"""One image looked at several times, at several scales and mirrored, and the looks averaged."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ..base.errors import Error
from ..data.images import resized
from ..net.build import build
from ..net.deploy import feeds, part
from ..net.judged import softmaxed
from ..net.module import Net
from ..net.plan import Plan
from ..proto.caffe_pb2 import TEST
from .engined import Engine, Engined
from .sampled import Draws, Sampled


class Averaged:
    """A net that gives the scores of images averaged over scales and mirror images, to be used like it.

    Each look is the net's input resized bilinearly (smoothed where it shrinks), mirrored or not; its scores
    are turned back, resized bilinearly to what scale 1 has, and made probabilities, so that each look has the
    same weight however large its scores are, as DeepLab averages them. What comes back are the logarithms of
    the mean probabilities: scores, whose softmax these are; the mean itself for a blob that is a Softmax's.
    """

    losses: Mapping[str, float] = {}

    def __init__(self, net: Net | Plan | Engined, blob: str, scales: Sequence[float] = (1.0,),
                 flip: bool = False) -> None:
        """net: of images alone. blob: its scores. scales: factors of the sides. flip: mirror images too."""
        self.looking, self.device, self.odds = net, net.device, softmaxed(net.graph, blob)
        self.looks = [(scale, turned) for scale in scales for turned in ((False, True) if flip else (False,))]

    def __call__(self, inputs: Mapping[str, Tensor], want: Sequence[str]) -> dict[str, Tensor]:
        """The averaged blob want[0], N x C x H x W; inputs: those of the net, N x C x H x W.

        Raises Error where an image is too small at a scale.
        """
        blob, images = want[0], {name: inputs[name] for name in self.looking.graph.inputs}
        shapes = self.looking.graph.infer({name: tuple(image.shape) for name, image in images.items()})
        size = shapes[max((v for v in shapes if v.blob == blob), key=lambda v: v.version)][2:]
        total: Tensor | None = None
        for scale, mirrored in self.looks:
            seen = {name: look(image, scale, mirrored) for name, image in images.items()}
            try:
                scores = self.looking(seen, [blob])[blob].float()
            except Error as e:
                raise type(e)(f"at scale {scale:g}: {e}") from None
            scores = scores.flip(3) if mirrored else scores
            scores = scores if scores.shape[2:] == size else interpolate(scores, size, mode="bilinear")
            odds = scores if self.odds else scores.softmax(1)
            total = odds if total is None else total.add_(odds)
        assert total is not None
        mean = total / len(self.looks)
        return {blob: mean if self.odds else mean.clamp_min(torch.finfo(mean.dtype).tiny).log()}


def looked(net: Net, blob: str, scales: Sequence[float], flip: bool,
           engine: Engine | None = None, draws: Draws | None = None) -> Plan | Engined | Averaged | Sampled:
    """A net's plan for one look at scale 1, else what averages its looks, or samples of one; run by torch or
    an engine.

    Raises Error for other scales than above 0 to 8, for samples of several looks or by an engine, and as
    Engined and Sampled do.
    """
    if not scales or not all(0 < scale <= 8 for scale in scales):
        raise Error(f"scales are factors above 0 to 8, such as (0.75, 1, 1.25), found {scales}")
    once = not flip and tuple(scales) == (1.0,)
    if draws and (engine or not once):
        raise Error("samples are of one look at scale 1 by torch: leave out scales, flip and engine")
    if once and not engine and not draws:
        return Plan.of(net)
    alone = images_only(net, blob)
    if draws:
        return Sampled(alone, blob, draws)
    running = Engined(alone, blob, engine) if engine else Plan(alone)
    return running if once else Averaged(running, blob, scales, flip)


def images_only(net: Net, blob: str) -> Net:
    """What of a net leads to a blob, with its parameters, precision and shapes: without labels, which would
    have to be of the looks' sizes, and losses."""
    images = part(net.graph.proto, blob)
    kept = {top for layer in images.layer if feeds(layer) for top in layer.top}
    shapes = {top.blob: net.graph.shapes[top] for node in net.graph.sources for top in node.tops
              if top.blob in kept}
    found = Net(build(images, TEST, shapes=shapes, path=net.graph.path), share=net)
    found.precision = net.precision
    return found


def look(image: Tensor, scale: float, mirrored: bool) -> Tensor:
    """An image N x C x H x W with its sides times a scale, mirrored left to right or not."""
    if scale != 1:
        size = resized((image.shape[2], image.shape[3]), scale)
        image = interpolate(image, size, mode="bilinear", antialias=True)
    return image.flip(3) if mirrored else image
