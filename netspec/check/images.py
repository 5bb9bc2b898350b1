"""Whether a net is fed images as its weights were trained on them: range, mean and order of channels."""

from collections.abc import Callable, Collection, Iterable, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.layouts import ILSVRC
from ..net.graph import Node
from ..net.module import Net
from ..ops.softmax import Classified, ignored_label
from ..train.preflight import losses_of
from . import NOTE, OK, PROBLEM, Finding
from .weights import classifier

# a change of the images that brings the loss down to this share was, or may have been, made in training
FALLS, MAY = 0.8, 0.95
ENOUGH = 4  # images to measure that on
GREY = 8  # numbers that lie closer together are no grey levels of 0..255
FAR = 40.0  # grey levels between blue and red: natural images have 19 more red, which the mean takes away
MEAN, STD = (torch.tensor(v).reshape(3, 1, 1) for v in (ILSVRC, (57.375, 57.12, 58.395)))  # BGR, torchvision
_BGR = ",".join(f"{m:.0f}" for m in ILSVRC)
_MEAN = f"subtract the mean, B,G,R = {_BGR} (mean_value, or Transformer.set_mean)"
# what images can be, where nets read BGR in 0..255 less the mean -> the way back, for tensors and for people
MENDS: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], str]] = {
    "in 0..1": (lambda x, m: 255 * x - m,
                f"multiply by 255 (set_raw_scale; no scale in transform_param), {_MEAN}"),
    "in 0..1 and RGB": (lambda x, m: 255 * x.flip(1) - m,
                        f"multiply by 255, turn the channels round to BGR, {_MEAN}"),
    "normalised as torchvision does": (lambda x, m: x.flip(1) * STD.to(x),
                                       f"take BGR in 0..255, {_MEAN}; do not divide by a deviation"),
    "without their mean subtracted": (lambda x, m: x - m, _MEAN),
    "RGB": (lambda x, m: x.flip(1), "turn channels and mean round to BGR (set_channel_swap (2,1,0))"),
    "RGB, less a mean in BGR": (lambda x, m: (x + m).flip(1) - m,
                                "turn the channels round to BGR (set_channel_swap (2,1,0))"),
    "BGR, less a mean in RGB": (lambda x, m: x + m.flip(0) - m, f"turn the mean round: {_MEAN}"),
}
SMALL = ("in 0..1", "in 0..1 and RGB", "normalised as torchvision does")  # within GREY


def fed(net: Net, inputs: Mapping[str, Tensor], real: Collection[str], blobs: Mapping[str, Tensor],
        complete: bool) -> Finding:
    """What is to be said of the images that the first convolution reads.

    inputs, real, blobs: what the net is fed, which of that is no random numbers, and all that comes of it.
    complete: all layers have trained weights, so that the loss can tell.
    """
    trunk = classifier({name: params[0].shape for name, params in net.layers_with_params().items()})
    first = next((n for n in net.graph.nodes if n.type == "Convolution"), None)
    if first is None or first.bottoms[0].blob not in real:
        return Finding(NOTE, "images", "random here: range, mean and order of channels are not looked at",
                       "give what the net is fed: --image FILE, a picture or an array in .npy")
    blob = first.bottoms[0].blob
    x, where, level = blobs[blob], f"'{blob}', read by '{first.name}'", PROBLEM if trunk else NOTE
    mean = ", ".join(f"{v:.4g}" for v in x.mean((0, 2, 3)))
    said = f"{float(x.min()):.4g} to {float(x.max()):.4g}, mean {mean}"
    if x.shape[1] != 3:
        return Finding(OK, where, said)
    judge = next((n for n, _ in losses_of(net.graph) if n.bottoms[1].blob in real), None)
    if judge and complete:
        small = bool(x.max() - x.min() < GREY)
        kinds = [kind for kind in MENDS if (kind in SMALL) == small]
        now, least, best = _losses(net, inputs, judge, blob, kinds)
        if least < MAY * now:
            level, what = (PROBLEM, "not") if least < FALLS * now else (NOTE, "perhaps not")
            return Finding(level, where, f"{said}: {what} what the weights were trained on. Taken for images "
                           f"{best}, which is then mended, the loss falls from {now:.3g} to {least:.3g}",
                           MENDS[best][1])
        level = NOTE  # whatever they look like, the net knows them
    kind, sure = _suspicion(x, next(n for n in net.graph.sources if blob in [t.blob for t in n.tops]))
    if not kind:
        return Finding(OK, where, said)
    who = f"{trunk} was" if trunk else "published weights were"
    said += f": {kind if sure else f'may be {kind}'}; {who} trained on BGR in 0..255 less the mean"
    return Finding(level if sure else NOTE, where, said, MENDS[kind][1])


def _losses(net: Net, inputs: Mapping[str, Tensor], judge: Node, blob: str,
            kinds: Iterable[str]) -> tuple[float, float, str]:
    """The loss of the images as they are, the least if they are mended as one of `kinds`, and that kind."""
    images = inputs[blob][:ENOUGH]
    some = {name: x[:ENOUGH] if x.ndim and len(x) == len(inputs[blob]) else x for name, x in inputs.items()}

    def loss(images: Tensor) -> float:
        torch.manual_seed(0)  # the same dropout
        with torch.no_grad():
            return cross_entropy(judge, net({**some, blob: images}, [b.blob for b in judge.bottoms[:2]]))

    now, tried = loss(images), {kind: loss(MENDS[kind][0](images, MEAN.to(images))) for kind in kinds}
    best = min(tried, key=tried.__getitem__)
    return now, tried[best], best


def _suspicion(x: Tensor, source: Node) -> tuple[str, bool]:
    """Which of MENDS images speak for by their numbers and their layer's mean, and whether that is sure."""
    if x.max() - x.min() < GREY:
        return "in 0..1" if x.min() >= 0 else "normalised as torchvision does", True
    if x.min() >= 0:
        return "without their mean subtracted", True
    mean = np.ravel(getattr(source.op, "mean", list(source.op.layer.transform_param.mean_value)))
    if len(mean) == 3 and abs(mean - ILSVRC[::-1]).max() < 2:
        return "BGR, less a mean in RGB", True
    blue, _, red = x.mean((0, 2, 3)).tolist()
    if red - blue > FAR:
        return "BGR, less a mean in RGB", False
    return "RGB, less a mean in BGR" if blue - red > FAR else "", False


def cross_entropy(node: Node, blobs: Mapping[str, Tensor]) -> float:
    """The mean over the labels that count, however the loss weighs and sums; NaN without any."""
    op = node.op
    assert isinstance(op, Classified)  # as those of losses_of are
    x = op.flat(blobs[node.bottoms[0].blob])
    label, ignored, _ = op.picked(blobs[node.bottoms[1].blob], x, ignored_label(op.layer.loss_param))
    return float(-F.log_softmax(x.detach(), 1).gather(1, label)[~ignored].mean())
