"""What one batch shows of a net: the images it reads, dead layers, scores that are all alike, gradients."""

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..base.errors import Error, listed
from ..net.graph import Graph, Node
from ..net.judged import softmaxed
from ..net.module import Net
from ..net.room import shows
from ..ops import Shape
from ..ops.softmax import Classified
from ..ops.source import Source
from ..train.preflight import losses_of, stuck_layers
from . import NOTE, OK, PROBLEM, Finding, images

APART = 1e5  # how far a layer's gradient by its weights may be from the median layer's
VERDICTS = {  # on a layer's gradient -> level, what that means, what to do
    "frozen": (NOTE, "frozen (lr_mult 0): keeps its weights", ""),
    "unreachable": (PROBLEM, "no gradient comes: no loss is computed from it, or propagate_down or a bottom "
                    "without gradient is in the way",
                    "follow its top to the loss ('netspec draw'), or freeze it (lr_mult: 0)"),
    "not finite": (PROBLEM, "the gradient is not finite",
                   "look at the layers behind it: a Log, Power or division at 0"),
    "zero": (PROBLEM, "the gradient is zero",
             "look at the layers behind it: a loss_weight of 0, a ReLU that is shut"),
    "vanishes": (PROBLEM, f"gradient by weight is below 1/{APART:g} of the median layer's",
                 "use ReLUs, a filler such as msra, or weights of a trained trunk"),
    "explodes": (PROBLEM, f"gradient by weight is above {APART:g} times the median layer's",
                 "use a filler such as msra, clip_gradients, or weights of a trained trunk"),
}


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
    """The first batch: `given`, what sources load, and at random what a caller feeds: images, labels, boxes.

    Raises Error or OSError where data cannot be read.
    """
    blobs, real, random = dict(given or {}), set(given or ()), torch.Generator().manual_seed(0)
    classes = {n.bottoms[1].blob: graph.shapes[n.bottoms[0]][1] for n in graph.nodes
               if (n.op.loss or n.type == "Accuracy") and 1 in n.op.undifferentiable}
    for n in reversed(graph.nodes):  # words, whose numbers may come in another shape
        if n.type == "Embed":
            classes[n.bottoms[0].blob] = n.op.layer.embed_param.input_dim
        elif n.tops and shows(n.op) and n.tops[0].blob in classes:
            classes.setdefault(n.bottoms[0].blob, classes[n.tops[0].blob])
    held = {n.bottoms[i].blob: what for n in graph.nodes for i, what in n.op.reads.items()}
    image = next((shape[2:] for top in graph.inputs if len(shape := graph.shape(top)) == 4), (256, 256))
    for node in graph.sources:
        if isinstance(node.op, Source) and not node.op.fed:
            for top, array in zip(node.tops, node.op.load(0), strict=True):
                blobs[top.blob] = torch.from_numpy(np.array(array, np.float32))
                real.add(top.blob)
            continue
        for top in [top for top in node.tops if top.blob not in blobs]:
            shape, count = graph.shapes[top], classes.get(top.blob)
            blobs[top.blob] = (torch.randint(count, shape, generator=random).float() if count else
                               torch.rand(shape, generator=random) * 255 - 117)
            if top.blob in held:
                blobs[top.blob] = _boxes(held[top.blob], shape, image, random)
    return Batch(blobs, frozenset(real))


def _boxes(what: str, shape: Shape, image: Shape, random: torch.Generator) -> Tensor:
    """What an operation `reads`: the size of an image (height, width), or boxes in it."""
    if what == "size":
        return torch.tensor([*image, 1.0]).expand(shape)
    corners = torch.rand(shape[0], 2, 2, generator=random).sort(1).values * (torch.tensor(image[::-1]) - 1)
    columns = [torch.zeros(shape[0], 1), corners.flatten(1)]  # of the first item
    if what == "boxes":
        columns = [columns[1], torch.ones(shape[0], 1)]
    return torch.cat(columns, 1).reshape(shape)


def examine(net: Net, batch: Batch, complete: bool) -> tuple[list[Finding], list[Flow]]:
    """What one pass shows: findings, and the flow of gradients (empty without a loss).

    complete: all layers have trained weights. Where weights are not finite, or what a layer makes of them,
    no more is looked at: the rest follows.
    """
    params = {n: [net.parameter(slot) for slot in n.params] for n in net.graph.nodes if n.params}
    if bad := [n.name for n, ps in params.items() if not all(p.isfinite().all() for p in ps)]:
        return [Finding(PROBLEM, listed(bad), "weights that are not finite: NaN or Inf",
                        "take an earlier snapshot")], []
    zeros = [n.name for n, ps in params.items() if ps[0].ndim > 1 and not ps[0].any()]
    found, inputs = _zeros(net, zeros), {blob: x.to(net.device) for blob, x in batch.blobs.items()}
    try:
        blobs = net(inputs, list(dict.fromkeys(value.blob for value in net.graph.shapes)))
    except Error as e:
        return [*found, Finding(PROBLEM, "first batch", str(e),
                                "mend the data, or the layer that is named")], []
    if endless := next((v.blob for v in net.graph.shapes if not blobs[v.blob].isfinite().all()), ""):
        makers = listed(n.name for n in net.graph.layers if endless in [top.blob for top in n.tops])
        return [*found, Finding(
            PROBLEM, makers, f"makes NaN or Inf in '{endless}' of finite weights",
            "look at the settings and at the data: a Log or Power at 0, numbers far too great")], []
    dead = [n.name for n in net.graph.nodes if n.type == "ReLU" and not n.op.layer.relu_param.negative_slope
            and not blobs[n.tops[0].blob].any()]
    if dead and not zeros:
        found.append(Finding(
            PROBLEM, listed(dead), "a dead ReLU: 0 everywhere, nothing passes forward or back", "look at the "
            "layer before it: biases far below 0 (a run that diverged), or weights that are not its own"))
    found.append(images.fed(net, inputs, batch.real, blobs, complete))
    tops: dict[str, Node | None] = {n.bottoms[0].blob: n for n, _ in losses_of(net.graph)}
    tops = tops or dict.fromkeys(_scores(net.graph, blobs))
    found += [each for blob, loss in tops.items() if (each := _told(blob, loss, batch, blobs, complete))]
    if not net.losses:
        return found, []
    if not any(p.requires_grad for p in net.parameters()):
        return [*found, Finding(
            PROBLEM, net.graph.name, "all frozen: every lr_mult is 0, or no layer has parameters",
            "give layers that are to learn param { lr_mult: 1 }")], []
    net.loss(blobs).backward()
    flow = _flow(params)
    return found + _gradients(flow, zeros, dead, found), flow


def _scores(graph: Graph, blobs: Mapping[str, Tensor]) -> list[str]:
    """The outputs of a net without a loss that are scores of classes: those that are probabilities, if any
    are; none of what a layer lists, counts or chooses."""
    made = {top.blob: n for n in graph.nodes for top in n.tops if len(n.bottoms) > len(n.op.undifferentiable)}
    found = [blob for blob in graph.outputs if blob in made and blobs[blob].ndim in (2, 4)]
    odds = [blob for blob in found if softmaxed(graph, blob)]
    return [blob for blob in odds or found if blobs[blob].numel()]


def _zeros(net: Net, zeros: Sequence[str]) -> list[Finding]:
    """What it means that the weights of these layers are all zero."""
    stuck = stuck_layers(net)
    frozen = [n.name for n in net.graph.nodes if n.name in zeros
              and not net.parameter(n.params[0]).requires_grad] if net.losses else []
    rest = [name for name in zeros if name not in (*stuck, *frozen)]
    found = []
    if frozen:
        found.append(Finding(
            PROBLEM, listed(frozen), "weights all zero and frozen (lr_mult 0): they stay so, and what is "
            "behind them learns nothing of the image", "load the weights of a trained net (--weights; "
            "weights: in the solver), or let the layers learn (lr_mult: 1)"))
    if stuck:
        found.append(Finding(
            PROBLEM, listed(stuck), "weights all zero, and so is what they read or what comes back: they "
            "never learn, every class gets the same score",
            "load weights (--weights; weights: in the solver), or give the layers a weight_filler"))
    if rest and net.losses:
        found.append(Finding(NOTE, listed(rest), "weights all zero: learns from the first step, what is "
                             "below from the second"))
    elif rest:
        found.append(Finding(PROBLEM, listed(rest), "weights all zero: what comes out does not depend on the "
                             "image", "load the weights of the trained net (--weights)"))
    return found


def _told(blob: str, loss: Node | None, batch: Batch, blobs: Mapping[str, Tensor],
          complete: bool) -> Finding | None:
    """Whether the scores in a blob, those of a loss if any, tell classes apart; None for one class."""
    x, value, at_loss, one_label = blobs[blob], math.inf, "", False
    scores = loss.op.flat(x) if loss and isinstance(loss.op, Classified) else x.reshape(*x.shape[:2], -1)
    if (classes := scores.shape[1]) < 2:
        return None
    chance, chosen = math.log(classes), scores.argmax(1).unique().tolist()
    if loss:
        value, labels = images.cross_entropy(loss, blobs), loss.bottoms[1].blob
        at_loss = f"; loss {value:.4g}, ln({classes}) is {chance:.4g}"
        one_label = labels in batch.real and blobs[labels].unique().numel() == 1
        if math.isnan(value):
            return Finding(PROBLEM, loss.name, "no label of the batch counts",
                           "look at the labels ('netspec data check')")
    level, do = NOTE, ("nothing, if the net is yet to be trained; else load its weights, look at its rate "
                       "and at what is frozen")
    if complete:
        level, do = PROBLEM, "see the other findings; with none, the weights are not this net's"
    if (scores.amax(1) - scores.amin(1)).max() <= 1e-5 or abs(value - chance) < 0.01 * chance:
        return Finding(level, f"'{blob}'", f"all {classes} classes get much the same score{at_loss}", do)
    if len(chosen) == 1 and scores[:, 0].numel() > 1 and not one_label:
        level = level if batch.real else NOTE
        return Finding(level, f"'{blob}'", f"class {chosen[0]} everywhere{at_loss}", do)
    return Finding(OK, f"'{blob}'", f"{len(chosen)} of {classes} classes are chosen{at_loss}")


def _flow(params: Mapping[Node, Sequence[Tensor]]) -> list[Flow]:
    """What a backward pass left at each layer's weights."""
    rows = []
    for node, (weight, *_) in params.items():
        gradient = None if weight.grad is None else float(weight.grad.norm())
        verdict = ("frozen" if not weight.requires_grad else "unreachable" if gradient is None else
                   "not finite" if not math.isfinite(gradient) else "" if gradient else "zero")
        rows.append(Flow(node.name, node.type, float(weight.detach().norm()), gradient, verdict))
    apart = {row: row.gradient / row.weight for row in rows
             if row.gradient and row.weight and not row.verdict}
    middle = median(apart.values()) if apart else 1
    extreme = {row: "explodes" if by > APART * middle else "vanishes" if by * APART < middle else ""
               for row, by in apart.items()}
    return [row._replace(verdict=extreme.get(row, row.verdict)) for row in rows]


def _gradients(flow: Sequence[Flow], zeros: Sequence[str], dead: Sequence[str],
               before: Sequence[Finding]) -> list[Finding]:
    """A finding for each verdict, and how many layers a gradient reaches.

    zeros, dead: layers that let no gradient pass. before: the findings so far; what is extreme may follow.
    """
    found: list[Finding] = []
    for verdict, (level, what, do) in VERDICTS.items():
        names = [row.layer for row in flow
                 if row.verdict == verdict and (verdict == "frozen" or row.layer not in zeros)]
        if names and verdict == "zero" and (zeros or dead):
            level, what, do = NOTE, f"{what}, because of {listed(zeros or dead)}", ""
        elif verdict in ("vanishes", "explodes") and PROBLEM in [f.level for f in (*before, *found)]:
            level = NOTE
        if names:
            found.append(Finding(level, listed(names), what, do))
    reached = sum(not row.verdict for row in flow)
    if reached:
        found.append(Finding(OK, "gradients", f"reach {reached} of {len(flow)} layers with weights"))
    return found
