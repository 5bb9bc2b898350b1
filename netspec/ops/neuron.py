"""Operations that work on each element by itself, and Eltwise, which joins blobs element by element."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ..proto.caffe_pb2 import EltwiseParameter, FillerParameter
from .base import IDENTITY, Operation, Param, Shape


class Same(Operation, own_map=IDENTITY):
    """An operation whose top has the bottom's shape and lies exactly on it."""


class Neuron(Same, family="elementwise", elementwise=True):
    """An operation that works on each number by itself, or on the numbers at one place of several bottoms."""

    formula: ClassVar[Callable[[Tensor], Tensor]] = torch.clone  # where no setting plays a part

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> Tensor:
        return type(self).formula(bottoms[0])


class ReLU(Neuron, type="ReLU", overwrites=True):
    """max(x, 0) + negative_slope * min(x, 0)."""

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor], inplace: bool = False) -> Tensor:
        slope = self.layer.relu_param.negative_slope
        if slope:
            return F.leaky_relu(bottoms[0], slope)
        return F.relu(bottoms[0], inplace=inplace)


class PerChannel(Same):
    """What has one number, or several, for each channel (axis 1)."""

    channels: int | None = None  # that it was set up for; None: any

    def factor(self, shape: Shape, shared: bool, filler: FillerParameter) -> None:
        """Have one parameter: a number a channel, or one for all."""
        if len(shape) < 2:
            raise self.error(f"needs a bottom of 2 axes or more, found {list(shape)}")
        self.channels = None if shared else shape[1]
        self.params.append(Param(() if shared else (shape[1],), filler))

    def infer(self, shape: Shape) -> list[Shape]:
        if self.channels is not None and (shape[1] if len(shape) > 1 else 1) != self.channels:
            raise self.error(f"was set up for {self.channels} channels, bottom is {list(shape)}")
        return [shape]


class PReLU(PerChannel, type="PReLU", family="elementwise", channelwise=True):
    """max(x, 0) + slope * min(x, 0) with one slope a channel (axis 1), or one for all (channel_shared)."""

    def setup(self, shape: Shape) -> None:
        p = self.layer.prelu_param
        filler = p.filler if p.HasField("filler") else FillerParameter(type="constant", value=0.25)
        self.factor(shape, p.channel_shared, filler)

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> Tensor:
        return F.prelu(bottoms[0], params[0].to(bottoms[0].dtype))


class ReLU6(Neuron, type="ReLU6"):
    """min(max(x, 0) + negative_slope * min(x, 0), 6) (YOLO, jolibrain)."""

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> Tensor:
        y = F.leaky_relu(bottoms[0], self.layer.relu6_param.negative_slope)
        return y.masked_fill(y >= 6, 6.0)  # on 6 no gradient passes, as in Caffe


class ELU(Neuron, type="ELU"):
    """x above 0, alpha * (exp(x) - 1) below."""

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> Tensor:
        return F.elu(bottoms[0], self.layer.elu_param.alpha)


class Sigmoid(Neuron, type="Sigmoid", formula=torch.sigmoid):
    """1 / (1 + exp(-x))."""


class TanH(Neuron, type="TanH", formula=torch.tanh):
    """The hyperbolic tangent."""


class Swish(Neuron, type="Swish"):
    """x * sigmoid(beta * x)."""

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> Tensor:
        return bottoms[0] * torch.sigmoid(bottoms[0] * self.layer.swish_param.beta)


class BNLL(Neuron, type="BNLL", formula=F.softplus):
    """log(1 + exp(x))."""


class AbsVal(Neuron, type="AbsVal", formula=torch.abs, inplace=False):
    """|x|."""


class Clip(Neuron, type="Clip"):
    """x held between min and max; the gradient passes on the bounds too."""

    def setup(self, *shapes: Shape) -> None:
        p = self.layer.clip_param
        if not p.HasField("min") or not p.HasField("max"):
            raise self.error("needs clip_param { min: ... max: ... }")

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> Tensor:
        return bottoms[0].clamp(self.layer.clip_param.min, self.layer.clip_param.max)


class Threshold(Neuron, type="Threshold", undifferentiable={0}):
    """1 where x is above threshold, else 0; no gradient."""

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> Tensor:
        return (bottoms[0] > self.layer.threshold_param.threshold).to(bottoms[0].dtype)


class Power(Neuron, type="Power"):
    """(shift + scale * x) ^ power."""

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> Tensor:
        p, x = self.layer.power_param, bottoms[0]
        if p.power * p.scale == 0:  # the bottom does not count, whatever it holds
            return torch.full_like(x, p.shift).pow(p.power)
        y = x * p.scale + p.shift if p.shift else x * p.scale
        return y if p.power == 1 else y.pow(p.power)


class Exp(Neuron, type="Exp"):
    """base ^ (shift + scale * x), for base -1 to the base e."""

    def setup(self, *shapes: Shape) -> None:
        p = self.layer.exp_param
        log = log_of_base(self, p.base)
        self.inner = log * p.scale
        self.outer = torch.tensor(log * p.shift, dtype=torch.float64).exp().item()  # math.exp overflows

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> Tensor:
        return torch.exp(bottoms[0] * self.inner) * self.outer


class Log(Neuron, type="Log"):
    """The logarithm of shift + scale * x to the base `base`, for base -1 the natural one."""

    def setup(self, *shapes: Shape) -> None:
        log = log_of_base(self, self.layer.log_param.base)
        if log == 0:
            raise self.error("base 1 has no logarithm")
        self.outer = 1 / log

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> Tensor:
        p = self.layer.log_param
        return torch.log(bottoms[0] * p.scale + p.shift) * self.outer


def log_of_base(op: Operation, base: float) -> float:
    if base == -1:
        return 1.0
    if not 0 < base < math.inf:
        raise op.error(f"base must be above 0 (or -1 for e), found {base:g}")
    return math.log(base)


class Dropout(Neuron, type="Dropout", overwrites=True, random=True):
    """In TRAIN, zero with probability dropout_ratio and the rest times 1 / (1 - ratio); else the identity.

    With sample_weights_test (Bayesian SegNet's) it drops in TEST too. With scale_train: false (Fast R-CNN's)
    the rest stays as it is, and where nothing is dropped everything is times 1 - ratio.
    """

    def setup(self, *shapes: Shape) -> None:
        p = self.layer.dropout_param
        self.ratio, self.scaled, self.always = p.dropout_ratio, p.scale_train, p.sample_weights_test
        if not 0 <= self.ratio < 1:
            raise self.error(f"dropout_ratio must be at least 0 and below 1, found {self.ratio:g}")

    @property
    def draws(self) -> bool:
        return self.context.training or self.always

    @property
    def idle(self) -> bool:
        return self.scaled and not self.draws

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor], inplace: bool = False) -> Tensor:
        x = bottoms[0]
        if self.scaled:
            return F.dropout(x, self.ratio, self.draws, inplace=inplace)
        return x * (torch.empty_like(x).bernoulli_(1 - self.ratio) if self.draws else 1 - self.ratio)


class Eltwise(Neuron, type="Eltwise", bottoms=(2, None), fresh=True):
    """SUM (with coeff), PROD or MAX of two or more bottoms of one shape.

    Of equal maxima one gets the gradient: the first, but of the first two bottoms the second (as Caffe's CPU
    does).
    """

    def setup(self, *shapes: Shape) -> None:
        p = self.layer.eltwise_param
        if len(p.coeff) not in (0, len(shapes)):
            raise self.error(f"has {len(p.coeff)} coeff for {len(shapes)} bottoms")
        if len(p.coeff) and p.operation == EltwiseParameter.PROD:
            raise self.error("coeff goes with SUM only")
        self.coeff = list(p.coeff) or [1.0] * len(shapes)

    @property
    def plain_sum(self) -> bool:
        return self.layer.eltwise_param.operation == EltwiseParameter.SUM and set(self.coeff) == {1.0}

    def infer(self, *shapes: Shape) -> list[Shape]:
        for name, shape in zip(self.layer.bottom, shapes, strict=True):
            if shape != shapes[0]:
                raise self.error(f"bottoms must have one shape: '{self.layer.bottom[0]}' is "
                                 f"{list(shapes[0])}, '{name}' is {list(shape)}; crop the larger one first")
        return [shapes[0]]

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> Tensor:
        p = self.layer.eltwise_param
        if p.operation == EltwiseParameter.SUM:
            y = bottoms[0] * self.coeff[0] if self.coeff[0] != 1 else bottoms[0]
            for x, coeff in zip(bottoms[1:], self.coeff[1:], strict=True):
                y = torch.add(y, x, alpha=coeff)
            return y
        if p.operation == EltwiseParameter.PROD:
            return functools.reduce(torch.mul, bottoms)
        # torch.maximum would share the gradient between equal maxima
        y = torch.where(bottoms[0] > bottoms[1], bottoms[0], bottoms[1])
        for x in bottoms[2:]:
            y = torch.where(x > y, x, y)
        return y
