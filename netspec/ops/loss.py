"""The losses beside SoftmaxWithLoss. A loss is one number; it counts with weight 1 unless told otherwise."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..base.errors import Error
from ..base.files import find
from ..proto.caffe_pb2 import HingeLossParameter
from ..proto.model import read_mean
from .base import Operation, Shape, carried, raised
from .python import ALIASES
from .softmax import MODES, Classified, ignored_label, normaliser, normalization

LEAST = 1e-20  # a probability counts as at least this


class Loss(Operation, family="losses", bottoms=2, tops=(0, 1), loss=True, undifferentiable={1}):
    """A loss of predictions and targets, items along axis 0. It needs no top."""

    def infer(self, *shapes: Shape) -> list[Shape]:
        if not shapes[0] or shapes[0][:1] != shapes[1][:1]:
            raise self.error(f"takes bottoms with as many items: {list(shapes[0])} and {list(shapes[1])}")
        return [()] * len(self.layer.top)


class Paired(Loss):
    """A loss of values with a target each; further bottoms give a weight for each."""

    def infer(self, *shapes: Shape) -> list[Shape]:
        for targets in shapes[1:]:
            if math.prod(shapes[0]) != math.prod(targets):
                raise self.error(f"needs a target for each value: {list(shapes[0])} and {list(targets)}")
        return super().infer(*shapes)


class EuclideanLoss(Paired, type="EuclideanLoss", undifferentiable=frozenset()):
    """sum((a - b)^2) / (2 N); both bottoms get a gradient."""

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> Tensor:
        a, b = (raised(x) for x in bottoms)
        return (a - b.reshape(a.shape)).square().sum() / (2 * len(a))


class SigmoidCrossEntropyLoss(Paired, type="SigmoidCrossEntropyLoss"):
    """-sum(t log s + (1 - t) log(1 - s)) with s = sigmoid(x), for targets t of 0 to 1.

    Divided by what loss_param.normalization says, as in SoftmaxWithLoss; BATCH_SIZE is the default here. A
    target whose whole part is ignore_label does not count.
    """

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> Tensor:
        p, x = self.layer.loss_param, raised(bottoms[0])
        target, ignore = bottoms[1].reshape(x.shape).to(x.dtype), ignored_label(p)
        each = F.binary_cross_entropy_with_logits(x, target, reduction="none")
        ignored = target.trunc() == ignore if ignore is not None else torch.zeros_like(x, dtype=torch.bool)
        mode = normalization(p, MODES.BATCH_SIZE)
        return each.masked_fill(ignored, 0.0).sum() / normaliser(p, mode, ignored)


class Judged(Loss, Classified):
    """A loss of N items with one label each; all values of an item are scores of classes."""

    def infer(self, *shapes: Shape) -> list[Shape]:
        tops = super().infer(*shapes)
        if math.prod(shapes[1]) != shapes[0][0]:
            raise self.error(f"needs one label an item: {shapes[0][0]} items, labels {list(shapes[1])}")
        return tops

    def flat(self, x: Tensor) -> Tensor:
        return raised(x).reshape(len(x), math.prod(x.shape[1:]), 1)


class MultinomialLogisticLoss(Judged, type="MultinomialLogisticLoss"):
    """-sum(log(probability of the label)) / N."""

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> Tensor:
        x = self.flat(bottoms[0])
        label, _, wrong = self.picked(bottoms[1], x, None)
        chance = x.gather(1, label)
        chance = chance + (chance.detach().clamp(min=LEAST) - chance.detach())
        return -chance.log().masked_fill(wrong, float("nan")).sum() / len(x)


class HingeLoss(Judged, type="HingeLoss"):
    """sum(max(0, 1 - s x)) / N, s being 1 for the label's score, -1 for others; norm L2: of the squares."""

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> Tensor:
        x = self.flat(bottoms[0])
        label, _, wrong = self.picked(bottoms[1], x, None)
        each = F.relu(1 + x.scatter(1, label, -x.gather(1, label))).masked_fill(wrong, float("nan"))
        if self.layer.hinge_loss_param.norm == HingeLossParameter.L2:
            each = each.square()
        return each.sum() / len(x)


class InfogainLoss(Loss, Classified, type="InfogainLoss", bottoms=(2, 3), tops=(0, 2),
                   undifferentiable={1, 2}):
    """-sum over positions and classes c of H[label, c] log(softmax c); a second top gives the softmax.

    H, C x C, is the third bottom or the blob in infogain_loss_param.source. Divided by what
    loss_param.normalization says (default VALID). No gradient comes from the second top.
    """

    def setup(self, *shapes: Shape) -> None:
        p = self.layer.infogain_loss_param
        self.channel = self.axis(p.axis, len(shapes[0]))
        self.mode = normalization(self.layer.loss_param)
        if self.layer.loss_param.HasField("normalize"):
            raise self.error("takes normalization, not normalize")
        if len(shapes) == 2:
            if not p.source:
                raise self.error("needs the matrix as third bottom, or infogain_loss_param { source: FILE }")
            try:
                file = find(p.source, self.context.base, "infogain matrix")
                self.matrix = torch.from_numpy(read_mean(file))
            except Error as e:
                raise self.error(str(e)) from None

    def infer(self, *shapes: Shape) -> list[Shape]:
        super().infer(*shapes)
        self.check(*shapes[:2])
        classes = shapes[0][self.channel]
        matrix = shapes[2] if len(shapes) > 2 else tuple(self.matrix.shape)
        if math.prod(matrix) != classes**2:
            raise self.error(f"needs a matrix of {classes} x {classes} for {classes} classes, "
                             f"found {list(matrix)}")
        return [(), shapes[0]][: len(self.layer.top)]

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> list[Tensor]:
        x = self.flat(bottoms[0])
        p = self.layer.loss_param
        label, ignored, wrong = self.picked(bottoms[1], x, ignored_label(p))
        matrix = bottoms[2] if len(bottoms) > 2 else carried(self.matrix, x.device)
        matrix = matrix.to(x.dtype).reshape(x.shape[1], -1)
        log = F.log_softmax(x, 1)
        least = log + (log.detach().clamp(min=math.log(LEAST)) - log.detach())
        each = -(F.embedding(label.squeeze(1), matrix).movedim(-1, 1) * least).sum(1, keepdim=True)
        each = each.masked_fill(ignored, 0.0).masked_fill(wrong, float("nan"))
        tops = [each.sum() / normaliser(p, self.mode, ignored)]
        if len(self.layer.top) > 1:
            tops.append(log.detach().exp().reshape(bottoms[0].shape))
        return tops


class ContrastiveLoss(Loss, type="ContrastiveLoss", bottoms=3, judged=2, undifferentiable={2}):
    """Pulls similar pairs together and others apart up to margin:
    sum(s d^2 + (1 - s) max(margin - d, 0)^2) / (2 N).

    Bottoms: a and b, N x C, and s, N (whether they are similar); d is the distance of a and b. legacy_version
    takes max(margin - d^2, 0) for pairs that are not similar.
    """

    def infer(self, *shapes: Shape) -> list[Shape]:
        tops = super().infer(*shapes)
        a, b, similar = shapes
        if len(a) < 2 or math.prod(a[2:]) != 1 or math.prod(a) != math.prod(b) or math.prod(similar) != a[0]:
            raise self.error(f"takes N x C, N x C and N, found {list(a)}, {list(b)} and {list(similar)}")
        return tops

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> Tensor:
        p, (a, b) = self.layer.contrastive_loss_param, (raised(x).flatten(1) for x in bottoms[:2])
        square = (a - b).square().sum(1)
        if p.legacy_version:
            apart = F.relu(p.margin - square)
        else:
            root = square.detach().sqrt()
            # Caffe's gradient of the distance has a little more below the line, and none where it is 0
            apart = F.relu(p.margin - (root + (square - square.detach()) / (2 * (root + 1e-4)))).square()
        similar = bottoms[2].flatten().trunc() != 0
        return torch.where(similar, square, apart).sum() / (2 * len(a))


class LossSampling(Operation, inplace=False, undifferentiable={0}):
    """Labels (N, 1, H, W) with the pixels of some cells made void; for a Python layer, in training alone.

    param_str: keep, the probability that a cell stays; cell, its side in pixels (the net's stride); void, the
    label that the loss ignores. The draws are torch's, so they belong to a snapshot.
    """

    OPTIONS = {
        "keep": ("a number above 0, at most 1", lambda v: isinstance(v, int | float) and 0 < v <= 1),
        "cell": ("a whole number from 1", lambda v: type(v) is int and v > 0),
        "void": ("a whole number", lambda v: type(v) is int),
    }

    def setup(self, shape: Shape) -> None:
        given = {"keep": 1, "cell": 32, "void": 255, **self.options(self.OPTIONS)}
        self.keep, self.cell, self.void = given["keep"], given["cell"], given["void"]
        if len(shape) != 4:
            raise self.error(f"takes labels N x 1 x H x W, found {list(shape)}")

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> Tensor:
        label = bottoms[0]
        if not self.context.training:
            return label.clone()
        n, _, height, width = label.shape
        rows, columns = -(-height // self.cell), -(-width // self.cell)
        cells = torch.rand(n, 1, rows, columns, device=label.device) >= self.keep
        dropped = cells.repeat_interleave(self.cell, 2).repeat_interleave(self.cell, 3)[..., :height, :width]
        return label.masked_fill(dropped, self.void)


ALIASES["netspec.sampling", "LossSampling"] = LossSampling  # the name that prototxts have for it
