"""Pooling with Caffe's window arithmetic, alone and as a pyramid."""

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ..proto.caffe_pb2 import LayerParameter, PoolingParameter, SPPParameter
from .base import CoordMap, Operation, Shape, raised
from .conv import check_geometry, check_padded, geometry, strided

MAX, AVE, STOCHASTIC = PoolingParameter.MAX, PoolingParameter.AVE, PoolingParameter.STOCHASTIC


class Pooling(Operation, type="Pooling", family="pooling", tops=(1, 2), fresh=True, four_axes=True):
    """MAX, AVE or STOCHASTIC over windows of an N x C x H x W bottom; a second top of MAX gives the maxima's
    positions.

    Sizes round up unless round_mode is FLOOR (in forks: ceil_mode false). Of equal maxima the first (in row
    order) gets the gradient. AVE divides by the window's area inside the padded image, so padding counts, but
    not what hangs over its edge. STOCHASTIC, for bottoms of 0 and more, takes in TRAIN one value with a
    probability in proportion to it, else the mean of the values weighted by themselves.
    """

    def setup(self, shape: Shape) -> None:
        p = self.layer.pooling_param
        if len(self.layer.top) > 1 and p.pool != MAX:
            raise self.error("only MAX pooling has a second top (the positions of the maxima)")
        self.dims = len(shape) - 2
        check_geometry(self, p, self.dims)
        self.kernel, self.stride, self.pad, _ = geometry(p, self.dims)
        if p.pool == STOCHASTIC and (any(self.pad) or self.dims != 2):
            raise self.error("STOCHASTIC pooling takes no pad and 2 spatial axes")
        if p.global_pooling:
            if any(self.kernel):
                raise self.error("global_pooling takes no kernel_size")
            if any(self.pad) or set(self.stride) != {1}:
                raise self.error("global_pooling works with pad 0 and stride 1 only")
        elif not all(self.kernel):
            raise self.error("needs kernel_size (or kernel_h and kernel_w) above 0")
        elif any(pad >= kernel for pad, kernel in zip(self.pad, self.kernel, strict=True)):
            raise self.error(f"pad {list(self.pad)} must be smaller than the kernel {list(self.kernel)}")
        if not all(self.stride):
            raise self.error("stride must be above 0")
        check_padded(self, shape, self.pad)
        self.ceil = p.ceil_mode if p.HasField("ceil_mode") else p.round_mode == p.CEIL
        if p.HasField("round_mode") and self.ceil != (p.round_mode == p.CEIL):
            raise self.error("round_mode and ceil_mode, the forks' name for it, contradict; give one")
        self.indexed = len(self.layer.top) > 1  # torch.compile cannot take the length of a message's field

    @property
    def local(self) -> bool:
        p = self.layer.pooling_param
        return p.pool == MAX and not p.global_pooling and not self.indexed and self.dims == 2

    def infer(self, shape: Shape) -> list[Shape]:
        sizes = []
        kernels = shape[2:] if self.layer.pooling_param.global_pooling else self.kernel
        for n, kernel, stride, pad in zip(shape[2:], kernels, self.stride, self.pad, strict=True):
            steps = n + 2 * pad - kernel
            size = (-(-steps // stride) if self.ceil else steps // stride) + 1
            if (size - 1) * stride >= n + pad:  # the last window would start behind the image
                if not any(self.pad):
                    raise self.error(f"stride {stride} takes the last window of kernel {kernel} outside a "
                                     f"bottom of size {n}, where Caffe reads memory that is not the image's; "
                                     "use a pad or round_mode: FLOOR")
                size -= 1
            if size < 1 or not n:
                raise self.error(f"kernel {kernel} does not fit a bottom of size {n} with pad {pad}")
            sizes.append(size)
        return [(*shape[:2], *sizes)] * len(self.layer.top)

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> Tensor | tuple[Tensor, ...]:
        x, p = bottoms[0], self.layer.pooling_param
        if not x.shape[1]:  # torch pools no channels
            return tuple(x.new_zeros(top) for top in self.infer(tuple(x.shape)))
        kernel = x.shape[2:] if p.global_pooling else self.kernel
        if p.pool == STOCHASTIC:
            return self.stochastic(x, kernel)
        if all(2 * a <= k for a, k in zip(self.pad, kernel, strict=True)):
            return self.pool(x, kernel, self.pad)
        # torch pads by half a kernel at most, so this padding is its own step; it may add a window too many
        pad, around = self.pad, [n for size in reversed(self.pad) for n in (size, size)]
        padded = F.pad(x, around, value=float("-inf") if p.pool == MAX else 0.0)
        tops = self.pool(padded, kernel, (0,) * self.dims)
        there = tuple(slice(n) for n in self.infer(tuple(x.shape))[0])
        if isinstance(tops, Tensor):
            return tops[there]
        y, index = (t[there] for t in tops)
        return y, (index // padded.shape[3] - pad[0]) * x.shape[3] + index % padded.shape[3] - pad[1]

    def pool(self, x: Tensor, kernel: Shape, pad: Shape) -> Tensor | tuple[Tensor, Tensor]:
        if self.layer.pooling_param.pool == AVE:
            mean = F.avg_pool2d if self.dims == 2 else F.avg_pool3d
            return mean(x, kernel, self.stride, pad, ceil_mode=self.ceil)
        if not self.indexed:
            largest = F.max_pool2d if self.dims == 2 else F.max_pool3d
            return largest(x, kernel, self.stride, pad, ceil_mode=self.ceil)
        y, index = F.max_pool2d(x, kernel, self.stride, pad, ceil_mode=self.ceil, return_indices=True)
        return y, index.to(raised(x).dtype)

    def stochastic(self, x: Tensor, kernel: Sequence[int]) -> Tensor:
        x = raised(x)
        sizes = self.infer(tuple(x.shape))[0][2:]
        over = [max(0, (size - 1) * stride + k - n)
                for size, stride, k, n in zip(sizes, self.stride, kernel, x.shape[2:], strict=True)]
        x = F.pad(x, (0, over[1], 0, over[0]))  # zeros are never drawn and weigh nothing
        windows = x.unfold(2, kernel[0], self.stride[0]).unfold(3, kernel[1], self.stride[1]).flatten(4)
        windows = windows[:, :, : sizes[0], : sizes[1]]
        total = windows.sum(-1, keepdim=True)
        if not self.context.training:
            mean = windows.square().sum(-1, keepdim=True) / total.masked_fill(total <= 0, 1.0)
            return mean.masked_fill(total <= 0, 0.0).squeeze(-1)
        reached = windows.detach().cumsum(-1) >= torch.rand_like(total) * total.detach()
        return windows.gather(-1, reached.to(torch.uint8).argmax(-1, keepdim=True)).squeeze(-1)

    def window(self, shape: Shape) -> Shape:
        return shape[2:] if self.layer.pooling_param.global_pooling else self.kernel

    @classmethod
    def coord_map(cls, layer: LayerParameter) -> CoordMap | None:
        return None if layer.pooling_param.global_pooling else CoordMap(1, *strided(layer.pooling_param))


class Pooling3D(Pooling, type="Pooling3D", tops=1, four_axes=False):
    """MAX or AVE over windows of an N x C x L x H x W bottom, kernel_depth x kernel_size x kernel_size, moved
    by temporal_stride along L (C3D, which gives each of equal maxima the gradient)."""

    spatial: ClassVar[Sequence[int]] = (3,)

    def setup(self, shape: Shape) -> None:
        if len(shape) - 2 not in self.spatial:
            raise self.error(f"takes N x C x {' or '.join(map(str, self.spatial))} spatial axes, found "
                             f"{list(shape)}")
        super().setup(shape)


class NdPooling(Pooling3D, type="NdPooling"):
    """Pooling over 2 or 3 spatial axes, with kernel_shape, stride_shape and pad_shape (video-caffe)."""

    spatial = (2, 3)


class SPP(Operation, type="SPP", family="pooling", fresh=True):
    """Spatial pyramid pooling: level l of pyramid_height pools into at most 2^l x 2^l bins, all in a row.

    Bottom N x C x H x W, top N x (C times bins), or N x C x 1 x 1 for a pyramid of height 1.
    """

    def setup(self, shape: Shape) -> None:
        if len(shape) != 4 or 0 in shape:
            raise self.error(f"takes an N x C x H x W bottom that is not empty, found {list(shape)}")
        if self.layer.spp_param.pyramid_height < 1:
            raise self.error("needs pyramid_height above 0")
        self.known: dict[Shape, list[Pooling]] = {}

    def levels(self, shape: Shape) -> list[Pooling]:
        """The pooling of each level for a bottom of this shape."""
        size = tuple(shape[2:])
        if size not in self.known:
            self.known[size] = [self.level(2**i, shape) for i in range(self.layer.spp_param.pyramid_height)]
        return self.known[size]

    def level(self, bins: int, shape: Shape) -> Pooling:
        method = SPPParameter.PoolMethod.Name(self.layer.spp_param.pool)
        layer = LayerParameter(name=self.layer.name, type=self.type, bottom=["x"], top=["y"],
                               pooling_param=PoolingParameter(pool=method))
        for name, n in zip("hw", shape[2:], strict=True):
            kernel = -(-n // bins)
            setattr(layer.pooling_param, f"kernel_{name}", kernel)
            setattr(layer.pooling_param, f"stride_{name}", kernel)
            setattr(layer.pooling_param, f"pad_{name}", (kernel * bins - n + 1) // 2)
        return Pooling(layer, [shape], self.context)

    def infer(self, shape: Shape) -> list[Shape]:
        tops = [level.infer(shape)[0] for level in self.levels(shape)]
        return tops if len(tops) == 1 else [(shape[0], sum(math.prod(top[1:]) for top in tops))]

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> Tensor:
        levels = self.levels(tuple(bottoms[0].shape))
        tops = [top for level in levels if isinstance(top := level.forward(bottoms, ()), Tensor)]
        return tops[0] if len(tops) == 1 else torch.cat([top.flatten(1) for top in tops], 1)
