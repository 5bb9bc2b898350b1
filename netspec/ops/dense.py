"""Operations whose parameters multiply the bottom, or are added to it, or picked from."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..proto.caffe_pb2 import BiasParameter, FillerParameter, ScaleParameter
from .base import Operation, Param, Shape, spoiled
from .neuron import Same


class InnerProduct(Operation, type="InnerProduct", family="parameters", fresh=True,
                   above_0=("inner_product_param", "num_output")):
    """The bottom's axes from `axis` on, as one vector, times a matrix: num_output results in their place.

    Weight num_output x K (transpose: K x num_output), K being the vector's length; bias num_output.
    """

    def setup(self, shape: Shape) -> None:
        p = self.layer.inner_product_param
        self.size = math.prod(shape[self.axis(p.axis, len(shape)) :])
        weight = (self.size, p.num_output) if p.transpose else (p.num_output, self.size)
        self.params.append(Param(weight, p.weight_filler))
        if p.bias_term:
            self.params.append(Param((p.num_output,), p.bias_filler))

    def infer(self, shape: Shape) -> list[Shape]:
        p = self.layer.inner_product_param
        axis = self.axis(p.axis, len(shape))
        if math.prod(shape[axis:]) != self.size:
            raise self.error(f"was set up for {self.size} values from axis {p.axis} on, bottom {list(shape)} "
                             f"has {math.prod(shape[axis:])}; its weights fix the input's size "
                             "(a Convolution's do not)")
        return [(*shape[:axis], p.num_output)]

    def window(self, shape: Shape) -> Shape | None:
        return shape[2:] if self.layer.inner_product_param.axis == 1 else None

    def macs(self, shape: Shape) -> int:
        return math.prod(self.infer(shape)[0]) * self.size

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> Tensor:
        p, x = self.layer.inner_product_param, bottoms[0]
        x = x.flatten(self.axis(p.axis, x.ndim))
        return F.linear(x, params[0].t() if p.transpose else params[0], params[1] if p.bias_term else None)


class Embed(Operation, type="Embed", family="parameters", fresh=True, undifferentiable={0},
            above_0=("embed_param", "num_output", "input_dim")):
    """Row x of the weight for each index x of the bottom (0..input_dim-1), along a new last axis; plus a
    bias.

    Weight input_dim x num_output, bias num_output. An index outside is an Error on the CPU, elsewhere its row
    is NaN.
    """

    def setup(self, shape: Shape) -> None:
        p = self.layer.embed_param
        self.params.append(Param((p.input_dim, p.num_output), p.weight_filler))
        if p.bias_term:
            self.params.append(Param((p.num_output,), p.bias_filler))

    def infer(self, shape: Shape) -> list[Shape]:
        return [(*shape, self.layer.embed_param.num_output)]

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> Tensor:
        rows = len(params[0])
        index, outside = self.inside(bottoms[0], rows, f"has {rows} rows (input_dim), bottom "
                                     f"'{self.layer.bottom[0]}' holds indices from {{}} to {{}}")
        y = spoiled(F.embedding(index, params[0]), outside)
        return y + params[1] if len(params) > 1 else y


class Applied(Same, family="parameters", bottoms=(1, 2), channelwise=True, fresh=True):
    """What Scale and Bias share: a second bottom or a parameter that is laid along the axes from `axis`
    on."""

    p: ScaleParameter | BiasParameter

    def shape_of(self, shape: Shape) -> Shape:
        """The shape of the parameter: num_axes of the bottom's axes (-1: all) from `axis` on."""
        p = self.p
        axis, count = self.axis(p.axis, len(shape)), p.num_axes
        if count < -1 or axis + count > len(shape):
            raise self.error(f"num_axes {count} from axis {p.axis} on does not fit bottom {list(shape)}")
        return shape[axis:] if count == -1 else shape[axis : axis + count]

    def infer(self, *shapes: Shape) -> list[Shape]:
        shape, first = shapes[0], self.axis(self.p.axis, len(shapes[0]))
        for factor in [*shapes[1:], *(param.shape for param in self.params)]:
            if shape[first : first + len(factor)] != factor:
                raise self.error(f"lays {list(factor)} along the axes from {self.p.axis} on of bottom "
                                 f"{list(shape)}, whose sizes there differ")
        return [shape]

    def laid(self, x: Tensor, factor: Tensor) -> Tensor:
        """The factor in a shape that broadcasts over x, and in x's precision."""
        behind = x.ndim - self.axis(self.p.axis, x.ndim) - factor.ndim
        return factor.reshape((*factor.shape, *(1,) * behind)).to(x.dtype)


class Scale(Applied, type="Scale", affine=True):
    """x times a factor, plus a bias with bias_term; a factor that is a parameter starts as 1."""

    def setup(self, *shapes: Shape) -> None:
        self.p = p = self.layer.scale_param
        factor = self.shape_of(shapes[0]) if len(shapes) == 1 else shapes[1]
        if len(shapes) == 1:
            one = FillerParameter(type="constant", value=1)
            self.params.append(Param(factor, p.filler if p.HasField("filler") else one))
        if p.bias_term:
            self.params.append(Param(factor, p.bias_filler))

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> Tensor:
        x = bottoms[0]
        factor, *bias = (self.laid(x, t) for t in (*bottoms[1:], *params))
        return torch.addcmul(bias[0], x, factor) if bias else x * factor


class Bias(Applied, type="Bias", affine=True):
    """x plus a term; one that is a parameter starts as 0."""

    def setup(self, *shapes: Shape) -> None:
        self.p = self.layer.bias_param
        if len(shapes) == 1:
            self.params.append(Param(self.shape_of(shapes[0]), self.p.filler))

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> Tensor:
        return bottoms[0] + self.laid(bottoms[0], (*bottoms[1:], *params)[0])


class Axpy(Operation, type="Axpy", family="elementwise", bottoms=3, fresh=True):
    """a x + y: of three bottoms the first, N x C (x 1 x 1), is a factor for each channel of the second; the
    third has the second's shape (SENet)."""

    def infer(self, *shapes: Shape) -> list[Shape]:
        a, x, y = shapes
        if x != y or len(x) < 2 or a not in (x[:2], (*x[:2], 1, 1)):
            raise self.error("takes N x C (x 1 x 1) and two of N x C x H x W, found "
                             f"{', '.join(str(list(shape)) for shape in shapes)}")
        return [x]

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> Tensor:
        a, x, y = bottoms
        return torch.addcmul(y, a.reshape(*x.shape[:2], *(1,) * (x.ndim - 2)), x)


class Parameter(Operation, type="Parameter", family="parameters", bottoms=0):
    """A parameter of the given shape as a blob, for layers to use and the solver to learn; first values by
    filler (OpenVINO), else zeros."""

    def setup(self) -> None:
        p = self.layer.parameter_param
        self.params.append(Param(tuple(p.shape.dim), p.filler))

    def infer(self) -> list[Shape]:
        return [self.params[0].shape]

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> Tensor:
        return params[0].view_as(params[0])
