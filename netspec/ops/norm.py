"""Normalisation: LRN across or within channels, MVN, BatchNorm; of the forks BN and Normalize."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..proto.caffe_pb2 import FillerParameter, LayerParameter
from .base import Param, Shape, raised
from .neuron import PerChannel, Same

LARGE = 31  # a local_size; maps may be smaller than larger ones


class LRN(Same, type="LRN", family="normalisation", four_axes=True):
    """Local response normalisation of an N x C x H x W bottom: x / (k + alpha * m) ^ beta.

    m is the mean of x^2 over local_size channels (ACROSS_CHANNELS), or over local_size x local_size positions
    (WITHIN_CHANNEL, where k is always 1); what lies outside the blob counts as 0.
    """

    def setup(self, shape: Shape) -> None:
        if self.layer.lrn_param.local_size % 2 == 0:
            raise self.error(f"local_size must be odd, found {self.layer.lrn_param.local_size}")

    @property
    def across(self) -> bool:
        return self.layer.lrn_param.norm_region == self.layer.lrn_param.ACROSS_CHANNELS

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> Tensor:
        p, x = self.layer.lrn_param, raised(bottoms[0])
        across, high, wide = (size if (size := p.local_size) <= LARGE else min(size, max(2 * n - 1, 1))
                              for n in x.shape[1:])  # from end to end; what is further out is 0
        if self.across:
            return F.local_response_norm(x, across, p.alpha * (across / p.local_size), p.beta, p.k)
        if 0 in x.shape[1:]:  # torch pools no empty map
            return x
        mean = F.avg_pool2d(x.square(), (high, 1), 1, (high // 2, 0))
        mean = F.avg_pool2d(mean, (1, wide), 1, (0, wide // 2))
        share = (high / p.local_size) * (wide / p.local_size)
        return x * (1 + p.alpha * share * mean).pow(-p.beta)


class MVN(Same, type="MVN", family="normalisation"):
    """(x - mean) / (deviation + eps) of each channel, or of each item over all channels (across_channels).

    normalize_variance: false leaves the division out. The top always has 4 axes or more.
    """

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
        # Caffe's gradient takes the divisor for the deviation, without eps; so has the root of this sum
        return x / (variance + (divisor.square() - variance.detach())).sqrt()


class BatchNorm(PerChannel, type="BatchNorm", family="normalisation", channelwise=True, fresh=True,
                moving=True, affine=True):
    """(x - mean) / sqrt(variance + eps) of each channel (axis 1).

    In TEST, or with use_global_stats: true, by the mean and variance kept in the parameters; else by those of
    the batch, which are then added to the parameters. The three parameters (means C, unbiased variances C,
    the weight of both 1) are sums that fade by moving_average_fraction a step: divided by the weight they are
    averages. They are not learned, so lr_mult is 0 for them and nothing else may be asked.

    In two forks' forms a learned scale and shift, parameters 4 and 5, follow: NVIDIA's, told by scale_bias,
    scale_filler or bias_filler, in which the phase alone counts, eps is 1e-5 at least and the kept ones are
    averages, with weight 1: fraction * kept + (1 - fraction) * batch's, the first batch's as they are; and
    Intel's (of its MKL engines), told by filler, use_weight_bias or bias_term. Where the first lr_mult of
    NVIDIA's is not 0, and no scale_bias is there, they come first, and the weight does not count (its 0.14,
    Vitis-AI).
    """

    nvidia = learned_first = False

    def setup(self, shape: Shape) -> None:
        p = self.layer.batch_norm_param
        if not shape or p.eps < 0:
            raise self.error(f"takes a bottom with axes and an eps of 0 or more, found {list(shape)} and "
                             f"{p.eps:g}")
        self.channels = shape[1] if len(shape) > 1 else 1
        self.told = p.use_global_stats if p.HasField("use_global_stats") else None
        intel = any(map(p.HasField, ("filler", "use_weight_bias", "bias_term")))
        self.nvidia = p.scale_bias or not intel and any(map(p.HasField, ("scale_filler", "bias_filler")))
        one = FillerParameter(value=1)
        weight = Param((1,), one if self.nvidia else None)
        self.params += [Param((self.channels,)), Param((self.channels,)), weight]
        if self.nvidia or intel and p.use_weight_bias:
            scale = p.scale_filler if p.HasField("scale_filler") else p.filler
            self.params.append(Param((self.channels,), scale if scale.ListFields() else one))
            if self.nvidia or p.bias_term:
                self.params.append(Param((self.channels,), p.bias_filler))
        self.eps = max(p.eps, 1e-5) if self.nvidia else p.eps
        if not self.nvidia and any(spec.lr_mult for spec in self.layer.param[:3]):
            raise self.error("keeps statistics in its parameters, which no solver may change: "
                             "give each lr_mult: 0")
        self.learned_first = self.nvidia and not p.scale_bias and any(s.lr_mult for s in self.layer.param[:1])
        if self.learned_first:
            self.params = self.params[3:] + self.params[:3]
        self.layer = fixed(self.layer, range(2, 5) if self.learned_first else range(3))

    def ordered(self, params: Sequence[Any]) -> list[Any]:
        """Means, variances, weight, and scale and shift where there are any, of parameters as they stand."""
        if not self.learned_first:
            return list(params)
        return [*params[2:4], params[4] * 0 + 1, *params[:2]]

    @property
    def stored(self) -> bool:
        return not self.context.training if self.told is None or self.nvidia else self.told

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> Tensor:
        p, bottom = self.layer.batch_norm_param, bottoms[0]
        x = bottom if bottom.ndim > 1 else bottom.unsqueeze(1)
        params = self.ordered(params)
        total_mean, total_variance, weight = (param.detach() for param in params[:3])
        scale, shift = (*params[3:], None, None)[:2]
        if self.stored:
            part = torch.where(weight == 0, 0.0, 1 / weight)
            y = F.batch_norm(x, total_mean * part, total_variance * part, scale, shift, eps=self.eps)
            return y.reshape(bottom.shape)
        # with momentum 1 torch leaves the batch's own mean and unbiased variance in the running ones, which
        # begin as zeros, since 0 times what memory holds may be NaN
        mean, variance = torch.zeros_like(total_mean), torch.zeros_like(total_variance)
        cudnn = torch.backends.cudnn.enabled
        y = torch.batch_norm(x, scale, shift, mean, variance, True, 1.0, self.eps, cudnn)
        if math.prod(x.shape) == self.channels:
            variance = torch.zeros_like(variance)  # of one value: torch divides by 0
        kept, share = p.moving_average_fraction, 1 - p.moving_average_fraction
        for total, new in ((total_mean, mean), (total_variance, variance), (weight, 1)):
            if not self.nvidia:
                total.mul_(kept).add_(new)
            elif total is not weight:
                total.copy_(torch.where(total_variance.any(), kept * total + share * new, new))
        return y.reshape(bottom.shape)


class BN(PerChannel, type="BN", family="normalisation", tops=(1, 3), channelwise=True, fresh=True,
         moving=True, affine=True):
    """slope (x - mean) / sqrt(variance + eps) + bias of each channel (axis 1), in the forms of two forks.

    PSPNet's: parameters slope, bias, mean and variance. In TEST, or frozen: by the mean and variance kept;
    else by those of the batch, which the kept ones follow: kept = momentum * kept + (1 - momentum) * batch's
    (the variance as it is, not the unbiased one). The kept ones are never learned, and where frozen nor are
    slope and bias.

    SegNet's, told by scale_filler, shift_filler or bn_mode: parameters slope and bias. In mode LEARN always
    by the batch, eps being 1e-9; further tops give its mean and variance. In mode INFERENCE slope x + bias.
    """

    def setup(self, shape: Shape) -> None:
        p = self.layer.bn_param
        if not 2 <= len(shape) <= 4:
            raise self.error(f"takes a bottom of 2 to 4 axes, found {list(shape)}")
        given = [field.name for field, _ in p.ListFields() if field.name != "engine"]
        segnet = [name for name in given if name in ("scale_filler", "shift_filler", "bn_mode")]
        pspnet = [name for name in given if name not in segnet]
        if segnet and pspnet:
            raise self.error(f"takes the settings of one fork: {', '.join(segnet)} (SegNet) or "
                             f"{', '.join(pspnet)} (PSPNet)")
        self.segnet = bool(segnet)
        self.eps = 1e-9 if self.segnet else p.eps
        self.told = p.bn_mode == p.INFERENCE if self.segnet else p.frozen or None
        if len(self.layer.top) > 1 and (self.stored or not self.segnet):
            raise self.error("gives mean and variance as tops in SegNet's form only, in mode LEARN")
        self.channels, blob = shape[1], (1, shape[1], 1, 1)
        if self.segnet:
            self.params += [Param(blob, p.scale_filler), Param(blob, p.shift_filler)]
            return
        learned, kept = (p.slope_filler, p.bias_filler), (None, FillerParameter(value=float(p.frozen)))
        self.params += [Param(blob, filler) for filler in (*learned, *kept)]
        self.layer = fixed(self.layer, range(0 if p.frozen else 2, 4))

    @property
    def stored(self) -> bool:
        return not self.context.training if self.told is None else self.told

    def infer(self, shape: Shape) -> list[Shape]:
        return [*super().infer(shape), *[(1, shape[1], 1, 1)] * (len(self.layer.top) - 1)]

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> list[Tensor]:
        p, x = self.layer.bn_param, bottoms[0]
        slope, bias = (param.flatten() for param in params[:2])
        if self.segnet and self.stored:
            shape = (-1, *(1,) * (x.ndim - 2))
            return [x * slope.reshape(shape) + bias.reshape(shape)]
        if self.stored:
            mean, variance = (param.detach().flatten() for param in params[2:])
            return [F.batch_norm(x, mean, variance, slope, bias, eps=self.eps)]
        mean, variance = torch.zeros_like(slope), torch.zeros_like(slope)
        cudnn = torch.backends.cudnn.enabled
        y = torch.batch_norm(x, slope, bias, mean, variance, True, 1.0, self.eps, cudnn)
        count = x.numel() // x.shape[1]  # torch gives the unbiased variance, which of one value is none
        variance = variance * ((count - 1) / count) if count > 1 else torch.zeros_like(variance)
        for kept, new in zip(params[2:], (mean, variance), strict=False):
            kept.detach().mul_(p.momentum).add_(new.reshape(kept.shape), alpha=1 - p.momentum)
        return [y, *(t.reshape(1, -1, 1, 1) for t in (mean, variance))][: len(self.layer.top)]


class Normalize(PerChannel, type="Normalize", family="normalisation"):
    """scale x / sqrt(sum x^2 + eps), the sum over each item, or over the channels of each position
    (across_spatial: false).

    scale is one number, or one a channel (channel_shared: false); 1 without scale_filler.
    """

    def setup(self, shape: Shape) -> None:
        p = self.layer.norm_param
        filler = p.scale_filler if p.HasField("scale_filler") else FillerParameter(value=1)
        self.factor(shape, p.channel_shared, filler)

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> Tensor:
        p, x = self.layer.norm_param, raised(bottoms[0])
        axes = tuple(range(1, x.ndim)) if p.across_spatial else (1,)
        scale = params[0].reshape(-1, *(1,) * (x.ndim - 2))
        return x / (x.square().sum(axes, keepdim=True) + p.eps).sqrt() * scale


def fixed(layer: LayerParameter, which: range) -> LayerParameter:
    """A copy of the layer in which these parameters, its last ones, have lr_mult 0."""
    copy = LayerParameter()
    copy.CopyFrom(layer)
    for _ in range(len(layer.param), which.stop):
        copy.param.add()
    for i in which:
        copy.param[i].lr_mult = 0
    return copy
