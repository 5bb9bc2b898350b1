"""Softmax, its loss, Accuracy, ArgMax and Reduction: what nets that classify positions end in."""

import logging
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..proto.caffe_pb2 import AccuracyParameter, LossParameter, ReductionParameter
from .base import Operation, Shape, carried, raised
from .boxes import widest

FLT_MIN = torch.finfo(torch.float32).tiny
MODES = LossParameter
Mode = LossParameter.NormalizationMode


class Softmax(Operation, type="Softmax", family="losses", channelwise=True):
    """exp(x) / sum exp(x) along `axis`."""

    def setup(self, shape: Shape) -> None:
        self.axis(self.layer.softmax_param.axis, len(shape))

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> Tensor:
        return F.softmax(raised(bottoms[0]), self.layer.softmax_param.axis)


class Classified(Operation, family="losses"):
    """What compares scores along one axis with one label for each position.

    Bottoms: scores N x C x ..., labels with a class index (0..C-1, or ignore_label) for each position.
    """

    channel: int  # the axis that the classes lie along

    def check(self, scores: Shape, labels: Shape) -> None:
        if not scores[self.channel]:
            raise self.error(f"needs scores of 1 class or more, found {list(scores)}")
        positions = math.prod(scores[: self.channel]) * math.prod(scores[self.channel + 1 :])
        if math.prod(labels) != positions:
            raise self.error(f"needs one label a position: scores {list(scores)} have {positions}, "
                             f"labels {list(labels)} are {math.prod(labels)}")

    def flat(self, x: Tensor) -> Tensor:
        """Scores as outer x classes x inner."""
        outer, (classes, *inner) = x.shape[: self.channel], x.shape[self.channel :]
        return raised(x).reshape(math.prod(outer), classes, math.prod(inner))

    def picked(self, blob: Tensor, scores: Tensor, ignore: int | None) -> tuple[Tensor, Tensor, Tensor]:
        """Labels as outer x 1 x inner indices, 0 where none counts; where they are ignored, where wrong.

        On a CPU a wrong label is an Error (see `outside`). On a GPU that check would wait for the device at
        every step: the caller makes its result NaN there instead.
        """
        label = blob.reshape(scores.shape[0], 1, scores.shape[2]).long()
        ignored = label == ignore if ignore is not None else torch.zeros_like(label, dtype=torch.bool)
        classes = scores.shape[1]
        wrong = ~ignored & ((label < 0) | (label >= classes))
        if label.device.type == "cpu" and bool(wrong.any()):
            found = sorted(set(label[wrong].tolist()))
            self.outside(f"{int(wrong.sum())} labels lie outside the {classes} classes 0..{classes - 1}: "
                         f"{', '.join(map(str, found[:8]))}{' ...' if len(found) > 8 else ''}; "
                         "set ignore_label, or mend the labels")
        return label.masked_fill(wrong | ignored, 0), ignored, wrong

    def outside(self, message: str) -> None:
        """Deal with labels outside the classes, which the message counts."""
        raise self.error(message)


def ignored_label(p: LossParameter | AccuracyParameter) -> int | None:
    """The ignore_label, None without one."""
    return p.ignore_label if p.HasField("ignore_label") else None


def normalization(p: LossParameter, default: Mode = MODES.VALID) -> Mode:
    """How a loss is normalised; normalize is the older spelling. default: where neither is given."""
    if p.HasField("normalization") or not p.HasField("normalize"):
        return p.normalization if p.HasField("normalization") else default
    return MODES.VALID if p.normalize else MODES.BATCH_SIZE


def normaliser(p: LossParameter, mode: Mode, ignored: Tensor) -> Tensor | float:
    """What a sum of losses is divided by; `ignored` has the batch as its first axis. Never less than 1."""
    if mode == MODES.VALID:
        return (ignored.numel() - ignored.sum()).clamp(min=1)
    return max(1.0, {MODES.FULL: ignored.numel(), MODES.BATCH_SIZE: len(ignored), MODES.NONE: 1,
                     MODES.PRE_FIXED: p.pre_fixed_normalizer}[mode])


class SoftmaxWithLoss(Classified, type="SoftmaxWithLoss", bottoms=(2, 3), tops=(0, 3), loss=True,
                      undifferentiable={1, 2}):
    """The multinomial logistic loss of the softmax along `axis`; a second top gives the softmax, a third the
    loss of each position.

    The sum over positions that are not ignored is divided by what loss_param.normalization says (VALID: their
    number, FULL: all positions, BATCH_SIZE: N, NONE: 1, PRE_FIXED: pre_fixed_normalizer), never by less than
    1. A loss of one position is at most -log(FLT_MIN), as in Caffe, without an effect on the gradient. No
    gradient comes from the second and third top; the third, R-FCN's, has the shape of the labels, and 0 where
    they are ignored. With weight_by_label_freqs (SegNet's) a position counts class_weighting[label] times in
    the sum, once in the divisor.
    """

    def setup(self, *shapes: Shape) -> None:
        p = self.layer.loss_param
        self.channel = self.axis(self.layer.softmax_param.axis, len(shapes[0]))
        self.mode = normalization(p)
        self.weights = list(p.class_weighting) if p.weight_by_label_freqs else []
        self.weighting = torch.tensor(self.weights)
        classes = shapes[0][self.channel]
        if p.weight_by_label_freqs and len(self.weights) != classes:
            raise self.error(f"needs a class_weighting for each of the {classes} classes, "
                             f"found {len(self.weights)}")

    def infer(self, *shapes: Shape) -> list[Shape]:
        self.check(*shapes[:2])
        return [(), *shapes[:2]][: len(self.layer.top)]

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> list[Tensor]:
        p, x = self.layer.loss_param, self.flat(bottoms[0])
        label, ignored, wrong = self.picked(bottoms[1], x, ignored_label(p))
        log = F.log_softmax(x, 1)
        each = -log.gather(1, label)
        each = each + (each.detach().clamp(max=-math.log(FLT_MIN)) - each.detach())
        if self.weights:
            each = each * carried(self.weighting, each.device).to(each.dtype)[label]
        each = each.masked_fill(ignored, 0.0).masked_fill(wrong, float("nan"))
        tops = [each.sum() / normaliser(p, self.mode, ignored)]
        if len(self.layer.top) > 1:
            tops.append(log.detach().exp().reshape(bottoms[0].shape))
        if len(self.layer.top) > 2:
            tops.append(each.detach().reshape(bottoms[1].shape))
        return tops

    @property
    def per_position(self) -> bool:
        """Whether the loss is a mean over positions, which chance puts at ln(classes)."""
        return self.mode in (MODES.VALID, MODES.FULL) and not self.weights


class SoftmaxWithLossOHEM(SoftmaxWithLoss, type="SoftmaxWithLossOHEM", family="regions", bottoms=2,
                          tops=(1, 3), undifferentiable={1}):
    """SoftmaxWithLoss under the name that R-FCN's Python release has for the one with a third top."""


class Accuracy(Classified, type="Accuracy", bottoms=2, tops=(1, 2), sink=True, undifferentiable={0, 1}):
    """The share of positions whose label has one of the top_k scores along `axis`; a second top: by class.

    A score as high as the label's own counts as higher, so that equal scores are no success. Ignored labels
    do not count at all; without any that counts the share is 0. Labels outside the classes count as failures,
    but of no class: training nets of SegNet and ENet ignore theirs in the loss alone.
    """

    warned = False

    def setup(self, *shapes: Shape) -> None:
        self.channel = self.axis(self.layer.accuracy_param.axis, len(shapes[0]))

    def infer(self, *shapes: Shape) -> list[Shape]:
        self.check(*shapes)
        classes, top_k = shapes[0][self.channel], self.layer.accuracy_param.top_k
        if top_k > classes:
            raise self.error(f"top_k {top_k} is more than the {classes} classes")
        return [(), (classes,)][: len(self.layer.top)]

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> list[Tensor]:
        p, x = self.layer.accuracy_param, self.flat(bottoms[0])
        label, ignored, wrong = self.picked(bottoms[1], x, ignored_label(p))
        higher = (x >= x.gather(1, label)).sum(1, keepdim=True) - 1
        counted = (~ignored).flatten().long()
        right = ((higher < p.top_k) & ~ignored & ~wrong).flatten().long()
        tops = [right.sum() / counted.sum().clamp(min=1)]
        if len(self.layer.top) > 1:
            label, none, counted = label.flatten(), right.new_zeros(x.shape[1]), counted * ~wrong.flatten()
            tops.append(none.scatter_add(0, label, right) / none.scatter_add(0, label, counted).clamp(min=1))
        return [top.to(x.dtype) for top in tops]

    def outside(self, message: str) -> None:
        if not self.warned:
            logging.getLogger("netspec").warning("%s", self.error(f"{message}. They count as failures"))
            self.warned = True


class SegAccuracy(Operation, type="SegAccuracy", family="losses", bottoms=2, sink=True, once=True,
                  undifferentiable={0, 1}, four_axes=True):
    """1 x 1 x 1 x 3: the share of positions that are right, the mean share of each class that is there, and
    the mean over all classes of intersection over union, which is 1 for a class that is nowhere.

    Bottoms: scores N x C x H x W and labels N x 1 x H x W. Of equal scores the last counts. Positions with an
    ignore_label do not count. reset: false counts those of all passes so far.
    """

    counts: Tensor | float = 0.0  # of the passes so far: true class by found class

    def infer(self, *shapes: Shape) -> list[Shape]:
        if shapes[1] != (shapes[0][0], 1, *shapes[0][2:]):
            raise self.error(f"takes a label for each position of the scores, found {list(shapes[1])} for "
                             f"{list(shapes[0])}")
        return [(1, 1, 1, 3)]

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> Tensor:
        p, x, kind = self.layer.seg_accuracy_param, bottoms[0], widest(bottoms[0].device)
        classes = x.shape[1]
        found, label = classes - 1 - x.flip(1).argmax(1).flatten(), bottoms[1].long().flatten()
        counted = torch.ones_like(label, dtype=torch.bool)
        for ignored in p.ignore_label:
            counted &= label != ignored
        at, wrong = self.inside(torch.where(counted, label, 0), classes,
                                f"labels are {{}} to {{}}, expected 0 to {classes - 1} or an ignore_label")
        counts = torch.zeros(classes**2, dtype=kind, device=x.device)
        counts = counts.scatter_add(0, at * classes + found, counted.to(kind)).reshape(classes, classes)
        if not p.reset:
            self.counts = counts = counts + self.counts
        right, true = counts.diag(), counts.sum(1)
        union, there = true + counts.sum(0) - right, (true > 0).sum().clamp(min=1)
        shared = torch.where(union == right, 1.0, right / union)
        shares = (right / true.clamp(min=1)).sum() / there
        told = torch.stack([right.sum() / true.sum().clamp(min=1), shares, shared.mean()])
        told = told.to(raised(x).dtype).reshape(1, 1, 1, 3)
        return told if wrong is None else told.masked_fill(wrong.any(), float("nan"))


class Reduction(Operation, type="Reduction", family="reduction"):
    """SUM, ASUM (of |x|), SUMSQ (of x^2) or MEAN over `axis` and all axes behind it, times coeff."""

    def infer(self, shape: Shape) -> list[Shape]:
        return [shape[: self.axis(self.layer.reduction_param.axis, len(shape))]]

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> Tensor:
        p, names = self.layer.reduction_param, ReductionParameter
        x = raised(bottoms[0])
        x = x.flatten(self.axis(p.axis, x.ndim))
        if p.operation == names.ASUM:
            x = x.abs()
        elif p.operation == names.SUMSQ:
            x = x.square()
        y = x.mean(-1) if p.operation == names.MEAN else x.sum(-1)
        return y * p.coeff


class ArgMax(Operation, type="ArgMax", family="reduction", undifferentiable={0}):
    """The positions of the top_k largest values, largest first; of equal ones the last position comes first.

    With `axis`: along it (out_max_val: the values instead). Without: of each item, N x 1 x top_k positions
    (out_max_val: N x 2 x top_k, positions and values).
    """

    def infer(self, shape: Shape) -> list[Shape]:
        p = self.layer.argmax_param
        axis = self.axis(p.axis, len(shape)) if p.HasField("axis") or not shape else None
        among = math.prod(shape[1:]) if axis is None else shape[axis]
        if not 1 <= p.top_k <= among:
            raise self.error(f"top_k must lie between 1 and the {among} values it picks from, "
                             f"found {p.top_k}")
        if axis is not None:
            return [(*shape[:axis], p.top_k, *shape[axis + 1 :])]
        return [(shape[0], 2 if p.out_max_val else 1, p.top_k, *(1,) * (len(shape) - 3))]

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> Tensor:
        p, x = self.layer.argmax_param, raised(bottoms[0])
        flat, axis = x, self.axis(p.axis, x.ndim) if p.HasField("axis") else 2
        if not p.HasField("axis"):
            flat = x.reshape(len(x), 1, math.prod(x.shape[1:]))
        back = flat.flip(axis)  # so that the first of equals is the last position
        if p.top_k == 1:
            values, index = back.max(axis, keepdim=True)
        else:
            values, index = back.sort(dim=axis, descending=True, stable=True)
            values, index = values.narrow(axis, 0, p.top_k), index.narrow(axis, 0, p.top_k)
        index = (flat.shape[axis] - 1 - index).to(x.dtype)
        if p.HasField("axis"):
            return values if p.out_max_val else index
        y = torch.cat([index, values], 1) if p.out_max_val else index
        return y.reshape(self.infer(tuple(x.shape))[0])
