"""What one batch shows of a net: the images it reads, dead layers, scores that tell no classes apart, gradients."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..base.errors import Error, listed
from ..data.layouts import ILSVRC
from ..net.graph import Graph, Node
from ..net.module import Net
from ..ops.softmax import ignored_label
from ..train.preflight import losses_of, stuck_layers

OK, NOTE, PROBLEM = "ok", "note", "problem"
FALLS, MAY = 0.8, 0.95  # a change of the images that brings the loss down to this share was, or may have been, made in training
ENOUGH = 4  # images to measure that on
GREY = 8  # numbers that lie closer together are no grey levels of 0..255
FAR = 40.0  # grey levels between blue and red: natural images have 19 more red, which the mean takes away
APART = 1e5  # how far a layer's gradient by its weights may be from the median layer's
MEAN, STD = (torch.tensor(v).reshape(3, 1, 1) for v in (ILSVRC, (57.375, 57.12, 58.395)))  # BGR; STD: torchvision's
_MEAN = "subtract the mean, B,G,R = " + ",".join(f"{m:.0f}" for m in ILSVRC) + " (mean_value, or Transformer.set_mean)"
# what images can be, where nets read BGR in 0..255 less the mean -> the way back to that, for tensors and for people
MENDS: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], str]] = {
    "in 0..1": (lambda x, m: 255 * x - m, f"multiply by 255 (set_raw_scale; no scale in transform_param), {_MEAN}"),
    "in 0..1 and RGB": (lambda x, m: 255 * x.flip(1) - m, f"multiply by 255, turn the channels round to BGR, {_MEAN}"),
    "normalised as torchvision does": (
        lambda x, m: x.flip(1) * STD.to(x), f"take BGR in 0..255, {_MEAN}; do not divide by a deviation"),
    "without their mean subtracted": (lambda x, m: x - m, _MEAN),
    "RGB": (lambda x, m: x.flip(1), "turn channels and mean round to BGR (set_channel_swap (2,1,0))"),
    "RGB, less a mean in BGR": (lambda x, m: (x + m).flip(1) - m, "turn the channels round to BGR (set_channel_swap (2,1,0))"),
    "BGR, less a mean in RGB": (lambda x, m: x + m.flip(0) - m, f"turn the mean round: {_MEAN}"),
}
SMALL = ("in 0..1", "in 0..1 and RGB", "normalised as torchvision does")
VERDICTS = {  # on a layer's gradient -> level, what that means, what to do
    "frozen": (NOTE, "frozen (lr_mult 0): keeps its weights", ""),
    "unreachable": (PROBLEM, "no gradient comes: no loss is computed from it, or propagate_down or a bottom without gradient is "
                    "in the way", "follow its top to the loss ('netspec draw'), or freeze it (lr_mult: 0)"),
    "not finite": (PROBLEM, "the gradient is not finite", "look at the layers behind it: a Log, Power or division at 0"),
    "zero": (PROBLEM, "the gradient is zero", "look at the layers behind it: a loss_weight of 0, a ReLU that is shut"),
    "vanishes": (PROBLEM, f"gradient by weight is below 1/{APART:g} of the median layer's",
                 "use ReLUs, a filler such as msra, or weights of a trained trunk"),
    "explodes": (PROBLEM, f"gradient by weight is above {APART:g} times the median layer's",
                 "use a filler such as msra, clip_gradients, or weights of a trained trunk"),
}


@dataclass(frozen=True)
class Finding:
    """level: ok, note or problem. where: a file, layer or blob. do: the way out, "" where nothing needs doing."""

    level: str
    where: str
    what: str
    do: str = ""


class Flow(NamedTuple):
    """A layer's weight and the gradient that one batch gives it, as norms; None: no gradient came."""

    layer: str
    type: str
    weight: float
    gradient: float | None
    verdict: str  # one of VERDICTS, or ""


class Batch(NamedTuple):
    """What a net is fed; `real`: the blobs that are no random numbers."""

    blobs: dict[str, Tensor]
    real: frozenset[str]


def draw(graph: Graph, given: Mapping[str, Tensor] | None = None) -> Batch:
    """The first batch: `given`, what sources load, and random images and labels for those that the caller fills.

    Raises Error or OSError where data cannot be read.
    """
    blobs, real, random = dict(given or {}), set(given or ()), torch.Generator().manual_seed(0)
    classes = {n.bottoms[1].blob: graph.shapes[n.bottoms[0]][1] for n in graph.nodes
               if (n.op.loss or n.type == "Accuracy") and 1 in n.op.undifferentiable}
    for node in graph.sources:
        loaded = () if node.op.fed else node.op.load(0)
        for top, array in zip(node.tops, loaded or [None] * len(node.tops), strict=True):
            if array is not None:
                blobs[top.blob] = torch.from_numpy(np.array(array, np.float32))
                real.add(top.blob)
            elif top.blob not in blobs:
                shape, count = graph.shapes[top], classes.get(top.blob)
                blobs[top.blob] = (torch.randint(count, shape, generator=random).float() if count else
                                   torch.rand(shape, generator=random) * 255 - 117)
    return Batch(blobs, frozenset(real))


def examine(net: Net, batch: Batch, complete: bool, trunk: str | None = None) -> tuple[list[Finding], list[Flow]]:
    """What one pass shows: findings, and the flow of gradients (empty without a loss).

    complete: all layers have trained weights. trunk: the classifier whose layers are in the net. Where weights are not
    finite, or what a layer makes of them, no more is looked at: the rest follows.
    """
    params = {n: [net.parameter(slot) for slot in n.params] for n in net.graph.nodes if n.params}
    if bad := [n.name for n, ps in params.items() if not all(p.isfinite().all() for p in ps)]:
        return [Finding(PROBLEM, listed(bad), "weights that are not finite: NaN or Inf", "take an earlier snapshot")], []
    zeros, stuck = [n.name for n, ps in params.items() if ps[0].ndim > 1 and not ps[0].any()], stuck_layers(net)
    rest = [name for name in zeros if name not in stuck]
    found = [Finding(level, listed(names), f"weights all zero{what}", do) for names, level, what, do in (
        (stuck, PROBLEM, ", and so is what they read or what comes back: they never learn, every class gets the same score",
         "load weights (--weights; weights: in the solver), or give the layers a weight_filler"),
        (rest if net.losses else [], NOTE, ": learns from the first step, what is below from the second", ""),
        ([] if net.losses else rest, PROBLEM, ": what comes out does not depend on the image",
         "load the weights of the trained net (--weights)")) if names]
    inputs = {blob: tensor.to(net.device) for blob, tensor in batch.blobs.items()}
    try:
        blobs = net(inputs, list(dict.fromkeys(value.blob for value in net.graph.shapes)))
    except Error as e:
        return [*found, Finding(PROBLEM, "first batch", str(e), "mend the data, or the layer that is named")], []
    if bad := [v.blob for v in net.graph.shapes if not blobs[v.blob].isfinite().all()]:
        makers = listed(n.name for n in net.graph.layers if bad[0] in [top.blob for top in n.tops])
        return [*found, Finding(PROBLEM, makers, f"makes NaN or Inf in '{bad[0]}' of finite weights",
                                "look at the settings and at the data: a Log or Power at 0, numbers far too great")], []
    dead = [n.name for n in net.graph.nodes if n.type == "ReLU" and not n.op.layer.relu_param.negative_slope
            and not blobs[n.tops[0].blob].any()]
    if dead and not zeros:
        found.append(Finding(PROBLEM, listed(dead), "a dead ReLU: 0 everywhere, nothing passes forward or back", "look at the "
                             "layer before it: biases far below 0 (a run that diverged), or weights that are not its own"))
    found += [*_images(net, batch, inputs, blobs, complete, trunk), *_scores(net, batch, blobs, complete)]
    if not net.losses or not any(p.requires_grad for p in net.parameters()):
        return found + [Finding(PROBLEM, net.graph.name, "all frozen: every lr_mult is 0, or no layer has parameters",
                                "give layers that are to learn param { lr_mult: 1 }")] * bool(net.losses), []
    net.loss(blobs).backward()
    flow = _flow(params)
    for verdict, (level, what, do) in VERDICTS.items():
        names = [row.layer for row in flow if row.verdict == verdict and row.layer not in zeros]
        if names and verdict == "zero" and (zeros or dead):
            level, what, do = NOTE, f"{what}, because of {listed(zeros or dead)}", ""
        elif verdict in ("vanishes", "explodes") and PROBLEM in [f.level for f in found]:
            level = NOTE  # it may follow
        found += [Finding(level, listed(names), what, do)] * bool(names)
    reached = sum(not row.verdict for row in flow)
    return found + [Finding(OK, "gradients", f"reach {reached} of {len(flow)} layers with weights")] * bool(reached), flow


def _images(net: Net, batch: Batch, inputs: Mapping[str, Tensor], blobs: Mapping[str, Tensor], complete: bool,
            trunk: str | None) -> list[Finding]:
    """Whether the first convolution reads images as the weights were trained on them."""
    first = next((n for n in net.graph.nodes if n.type == "Convolution"), None)
    if first is None or first.bottoms[0].blob not in batch.real:
        return [Finding(NOTE, "images", "random here: range, mean and order of channels are not looked at",
                        "give what the net is fed: --image FILE, a picture or an array in .npy")]
    blob = first.bottoms[0].blob
    x, where = blobs[blob], f"'{blob}', read by '{first.name}'"
    said = f"{float(x.min()):.4g} to {float(x.max()):.4g}, mean {', '.join(f'{v:.4g}' for v in x.mean((0, 2, 3)))}"
    if x.shape[1] != 3:
        return [Finding(OK, where, said)]
    judge = next((n for n in losses_of(net.graph) if n.bottoms[1].blob in batch.real), None)
    level = PROBLEM if trunk else NOTE
    if judge and complete:
        some = {name: tensor[:ENOUGH] if tensor.ndim and len(tensor) == len(x) else tensor for name, tensor in inputs.items()}

        def loss(images: Tensor) -> float:
            torch.manual_seed(0)  # the same dropout
            with torch.no_grad():
                return cross_entropy(judge, net({**some, blob: images}, [b.blob for b in judge.bottoms[:2]]))

        now, tried = loss(some[blob]), {kind: loss(mend(some[blob], MEAN.to(x)))
                                        for kind, (mend, _) in MENDS.items() if (kind in SMALL) == (x.max() - x.min() < GREY)}
        best = min(tried, key=tried.__getitem__)
        if tried[best] < MAY * now:
            level, what = (PROBLEM, "not") if tried[best] < FALLS * now else (NOTE, "perhaps not")
            return [Finding(level, where, f"{said}: {what} what the weights were trained on. Taken for images {best}, which is "
                            f"then mended, the loss falls from {now:.3g} to {tried[best]:.3g}", MENDS[best][1])]
        level = NOTE  # whatever they look like, the net knows them
    kind, sure = _suspicion(x, next(n for n in net.graph.sources if blob in [top.blob for top in n.tops]))
    if not kind:
        return [Finding(OK, where, said)]
    return [Finding(level if sure else NOTE, where, f"{said}: {'' if sure else 'may be '}{kind}; " + (
        f"{trunk} was" if trunk else "published weights were") + " trained on BGR in 0..255 less the mean", MENDS[kind][1])]


def _suspicion(x: Tensor, source: Node) -> tuple[str, bool]:
    """Which of MENDS images speak for by their numbers and their layer's mean, and whether that is sure."""
    said = np.ravel(getattr(source.op, "mean", list(source.op.layer.transform_param.mean_value)))  # of SegmentationData, others
    if x.max() - x.min() < GREY:
        return "in 0..1" if x.min() >= 0 else "normalised as torchvision does", True
    if x.min() >= 0:
        return "without their mean subtracted", True
    if len(said) == 3 and abs(said - ILSVRC[::-1]).max() < 2:
        return "BGR, less a mean in RGB", True
    blue, _, red = x.mean((0, 2, 3)).tolist()
    return ("BGR, less a mean in RGB" if red - blue > FAR else "RGB, less a mean in BGR" if blue - red > FAR else ""), False


def cross_entropy(node: Node, blobs: Mapping[str, Tensor]) -> float:
    """The mean over the labels that count, however the loss weighs and sums; NaN without any."""
    x = node.op.flat(blobs[node.bottoms[0].blob])
    label, ignored, _ = node.op.picked(blobs[node.bottoms[1].blob], x, ignored_label(node.op.layer.loss_param))
    return float(-F.log_softmax(x.detach(), 1).gather(1, label)[~ignored].mean())


def _scores(net: Net, batch: Batch, blobs: Mapping[str, Tensor], complete: bool) -> list[Finding]:
    """Whether scores tell classes apart."""
    tops: dict[str, Node | None] = {n.bottoms[0].blob: n for n in losses_of(net.graph)}
    found = []
    for blob, node in (tops or {b: None for b in net.graph.outputs if blobs[b].ndim in (2, 4)}).items():
        scores = node.op.flat(blobs[blob]) if node else blobs[blob].reshape(*blobs[blob].shape[:2], -1)
        if (classes := scores.shape[1]) < 2:
            continue
        value, labels = (cross_entropy(node, blobs), node.bottoms[1].blob) if node else (math.inf, "")
        chosen, chance = scores.argmax(1).unique().tolist(), math.log(classes)
        right = labels in batch.real and blobs[labels].unique().numel() == 1
        at_loss = f"; loss {value:.4g}, ln({classes}) is {chance:.4g}" if node else ""
        level, do = (PROBLEM, "see the other findings; with none, the weights are not this net's") if complete else (
            NOTE, "nothing, if the net is yet to be trained; else load its weights, look at its rate and at what is frozen")
        if math.isnan(value):
            found.append(Finding(PROBLEM, node.name, "no label of the batch counts", "look at the labels ('netspec data check')"))
        elif (scores.amax(1) - scores.amin(1)).max() <= 1e-5 or abs(value - chance) < 0.01 * chance:
            found.append(Finding(level, f"'{blob}'", f"all {classes} classes get much the same score{at_loss}", do))
        elif len(chosen) == 1 and scores[:, 0].numel() > 1 and not right:
            found.append(Finding(level if batch.real else NOTE, f"'{blob}'", f"class {chosen[0]} everywhere{at_loss}", do))
        else:
            found.append(Finding(OK, f"'{blob}'", f"{len(chosen)} of {classes} classes are chosen{at_loss}"))
    return found


def _flow(params: Mapping[Node, Sequence[Tensor]]) -> list[Flow]:
    """What a backward pass left at each layer's weights."""
    rows = []
    for node, (weight, *_) in params.items():
        size, gradient = float(weight.detach().norm()), None if weight.grad is None else float(weight.grad.norm())
        verdict = ("frozen" if not weight.requires_grad else "unreachable" if gradient is None else
                   "not finite" if not math.isfinite(gradient) else "" if gradient else "zero")
        rows.append(Flow(node.name, node.type, size, gradient, verdict))
    apart = {row: row.gradient / row.weight for row in rows if not row.verdict and row.weight}
    middle = median(apart.values()) if apart else 1
    return [row._replace(verdict="explodes" if apart[row] > APART * middle else "vanishes" if apart[row] * APART < middle else "")
            if row in apart else row for row in rows]
