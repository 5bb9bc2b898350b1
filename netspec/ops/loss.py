"""Softmax, the losses, and how well predictions fit."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..proto import caffe_pb2
from .base import Operation, Shape

FLT_MIN = torch.finfo(torch.float32).tiny


class Softmax(Operation):
    """exp(x) / sum exp(x) along `axis`."""

    type = "Softmax"

    def setup(self, shape: Shape) -> None:
        self.axis(self.layer.softmax_param.axis, len(shape))

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> Tensor:
        return F.softmax(bottoms[0].float(), self.layer.softmax_param.axis)


class SoftmaxWithLoss(Operation):
    """The multinomial logistic loss of the softmax along `softmax_param.axis`; a second top gives the softmax.

    Bottoms: scores N x C x ..., labels with one class index (0..C-1, or ignore_label) for each position. The
    sum over positions that are not ignored is divided by what loss_param.normalization says (VALID: their
    number, FULL: all positions, BATCH_SIZE: N, NONE: 1), never by less than 1. A loss of one position is at
    most -log(FLT_MIN), as in Caffe, without an effect on the gradient.
    """

    type = "SoftmaxWithLoss"
    bottoms = (2, 3)
    tops = (0, 2)
    loss = True
    undifferentiable = frozenset({1, 2})

    def setup(self, *shapes: Shape) -> None:
        p, names = self.layer.loss_param, caffe_pb2.LossParameter
        self.channel = self.axis(self.layer.softmax_param.axis, len(shapes[0]))
        self.mode = p.normalization
        if not p.HasField("normalization") and p.HasField("normalize"):
            self.mode = names.VALID if p.normalize else names.BATCH_SIZE

    def infer(self, *shapes: Shape) -> list[Shape]:
        scores, labels = shapes[:2]
        positions = math.prod(scores) // scores[self.channel]
        if math.prod(labels) != positions:
            raise self.error(f"needs one label a position: scores {list(scores)} have {positions}, "
                             f"labels {list(labels)} are {math.prod(labels)}")
        return [(), scores][: len(self.layer.top)]

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> list[Tensor]:
        p, x = self.layer.loss_param, bottoms[0].float()
        classes = x.shape[self.channel]
        outer, inner = math.prod(x.shape[: self.channel]), math.prod(x.shape[self.channel + 1 :])
        label = bottoms[1].reshape(outer, inner).long()
        ignored = label == p.ignore_label if p.HasField("ignore_label") else torch.zeros_like(label, dtype=torch.bool)
        wrong = ~ignored & ((label < 0) | (label >= classes))
        if label.device.type == "cpu" and bool(wrong.any()):
            found = sorted(set(label[wrong].tolist()))
            raise self.error(f"{int(wrong.sum())} labels lie outside the {classes} classes 0..{classes - 1}: "
                             f"{', '.join(map(str, found[:8]))}{' ...' if len(found) > 8 else ''}; "
                             "set ignore_label, or mend the labels")
        # on a GPU the check would wait for the device at every step: a wrong label makes the loss NaN instead
        label = label.masked_fill(wrong | ignored, 0)
        log = F.log_softmax(x.reshape(outer, classes, inner), 1)
        each = -log.gather(1, label.unsqueeze(1)).squeeze(1)
        each = each + (each.detach().clamp(max=-math.log(FLT_MIN)) - each.detach())
        each = each.masked_fill(ignored, 0.0).masked_fill(wrong, float("nan"))
        top = each.sum() / self.normalizer(ignored, outer, inner)
        return [top, log.exp().reshape(x.shape)][: max(1, len(self.layer.top))]

    @property
    def per_position(self) -> bool:
        """Whether the loss is a mean over positions, which chance puts at ln(classes)."""
        return self.mode in (caffe_pb2.LossParameter.VALID, caffe_pb2.LossParameter.FULL)

    def normalizer(self, ignored: Tensor, outer: int, inner: int) -> Tensor | float:
        names = caffe_pb2.LossParameter
        if self.mode == names.VALID:
            return (ignored.numel() - ignored.sum()).clamp(min=1)
        return max(1.0, {names.FULL: outer * inner, names.BATCH_SIZE: outer, names.NONE: 1}[self.mode])
