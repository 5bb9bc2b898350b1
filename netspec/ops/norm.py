"""Normalisation: LRN across or within channels, MVN, BatchNorm."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..proto import caffe_pb2
from .base import Param, Shape, raised
from .neuron import Neuron


class LRN(Neuron):
    """Local response normalisation of an N x C x H x W bottom: x / (k + alpha * m) ^ beta.

    m is the mean of x^2 over local_size channels (ACROSS_CHANNELS), or over local_size x local_size positions
    (WITHIN_CHANNEL, where k is always 1); what lies outside the blob counts as 0.
    """

    type = "LRN"

    def setup(self, shape: Shape) -> None:
        if len(shape) != 4:
            raise self.error(f"takes an N x C x H x W bottom, found {list(shape)}")
        if self.layer.lrn_param.local_size % 2 == 0:
            raise self.error(f"local_size must be odd, found {self.layer.lrn_param.local_size}")

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> Tensor:
        p, x = self.layer.lrn_param, raised(bottoms[0])
        if p.norm_region == caffe_pb2.LRNParameter.ACROSS_CHANNELS:
            return F.local_response_norm(x, p.local_size, p.alpha, p.beta, p.k)
        mean = F.avg_pool2d(x.square(), p.local_size, 1, p.local_size // 2)
        return x * (1 + p.alpha * mean).pow(-p.beta)


class MVN(Neuron):
    """(x - mean) / (deviation + eps) of each channel, or of each item over all channels (across_channels).

    normalize_variance: false leaves the division out. The top always has 4 axes or more.
    """

    type = "MVN"

    def infer(self, shape: Shape) -> list[Shape]:
        return [(*shape, *(1,) * (4 - len(shape)))]

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> Tensor:
        p, x = self.layer.mvn_param, raised(bottoms[0])
        x = x.reshape(self.infer(tuple(x.shape))[0])
        axes = tuple(range(1 if p.across_channels else 2, x.ndim))
        x = x - x.mean(axes, keepdim=True)
        if not p.normalize_variance:
            return x
        variance = x.square().mean(axes, keepdim=True)
        divisor = variance.detach().sqrt() + p.eps
        # Caffe's gradient takes the divisor for the deviation, without eps; the root of this sum has that gradient
        return x / (variance + (divisor.square() - variance.detach())).sqrt()


class BatchNorm(Neuron):
    """(x - mean) / sqrt(variance + eps) of each channel (axis 1).

    In TEST, or with use_global_stats: true, by the mean and variance kept in the parameters; else by those of
    the batch, which are then added to the parameters. The three parameters (means C, unbiased variances C,
    their common weight 1) are sums that fade by moving_average_fraction a step: divided by the weight they are
    averages. They are not learned, so lr_mult is 0 for them and nothing else may be asked.
    """

    type = "BatchNorm"
    fresh = True

    def setup(self, shape: Shape) -> None:
        p = self.layer.batch_norm_param
        self.channels = shape[1] if len(shape) > 1 else 1
        self.stored = p.use_global_stats if p.HasField("use_global_stats") else not self.context.training
        self.params += [Param((self.channels,)), Param((self.channels,)), Param((1,))]
        if any(spec.lr_mult for spec in self.layer.param[:3]):
            raise self.error("keeps statistics in its parameters, which no solver may change: give each lr_mult: 0")
        self.layer = fixed(self.layer, len(self.params))

    def infer(self, shape: Shape) -> list[Shape]:
        if (shape[1] if len(shape) > 1 else 1) != self.channels:
            raise self.error(f"was set up for {self.channels} channels, bottom is {list(shape)}")
        return [shape]

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> Tensor:
        p, bottom = self.layer.batch_norm_param, bottoms[0]
        x = bottom if bottom.ndim > 1 else bottom.unsqueeze(1)
        total_mean, total_variance, weight = (param.detach() for param in params)
        if self.stored:
            part = torch.where(weight == 0, 0.0, 1 / weight)
            y = F.batch_norm(x, total_mean * part, total_variance * part, eps=p.eps)
            return y.reshape(bottom.shape)
        mean, variance = torch.empty_like(total_mean), torch.empty_like(total_variance)
        # with momentum 1 torch leaves the batch's own mean and unbiased variance in the running ones
        y = torch.batch_norm(x, None, None, mean, variance, True, 1.0, p.eps, torch.backends.cudnn.enabled)
        if math.prod(x.shape) == self.channels:
            variance = torch.zeros_like(variance)  # of one value: torch divides by 0
        for total, new in ((total_mean, mean), (total_variance, variance), (weight, 1)):
            total.mul_(p.moving_average_fraction).add_(new)
        return y.reshape(bottom.shape)


def fixed(layer: Any, count: int) -> Any:
    """A copy of the layer whose `count` parameters all have lr_mult 0."""
    copy = type(layer)()
    copy.CopyFrom(layer)
    for _ in range(len(layer.param), count):
        copy.param.add(lr_mult=0)
    return copy
