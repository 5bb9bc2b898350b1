"""Pooling with Caffe's window arithmetic."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..proto import caffe_pb2
from .base import CoordMap, Operation, Shape
from .conv import geometry, strided

MAX, AVE = caffe_pb2.PoolingParameter.MAX, caffe_pb2.PoolingParameter.AVE


class Pooling(Operation):
    """MAX or AVE over windows of an N x C x H x W bottom; a second top of MAX gives the maxima's positions.

    Sizes round up by default. Of equal maxima the first (in row order) gets the gradient. AVE divides by the
    window's area inside the padded image, so padding counts, but not what hangs over its edge.
    """

    type = "Pooling"
    fresh = True
    tops = (1, 2)

    def setup(self, shape: Shape) -> None:
        p = self.layer.pooling_param
        if len(shape) != 4:
            raise self.error(f"takes an N x C x H x W bottom, found {list(shape)}")
        if p.pool not in (MAX, AVE):
            raise self.error(f"pool {caffe_pb2.PoolingParameter.PoolMethod.Name(p.pool)} is not supported, MAX and AVE are")
        if len(self.layer.top) > 1 and p.pool != MAX:
            raise self.error("only MAX pooling has a second top (the positions of the maxima)")
        self.kernel, self.stride, self.pad, _ = geometry(p, 2)
        if p.global_pooling:
            if any(self.kernel):
                raise self.error("global_pooling takes no kernel_size")
            if self.pad != (0, 0) or self.stride != (1, 1):
                raise self.error("global_pooling works with pad 0 and stride 1 only")
        elif not all(self.kernel):
            raise self.error("needs kernel_size (or kernel_h and kernel_w) above 0")
        elif any(pad >= kernel for pad, kernel in zip(self.pad, self.kernel, strict=True)):
            raise self.error(f"pad {list(self.pad)} must be smaller than the kernel {list(self.kernel)}")
        if not all(self.stride):
            raise self.error("stride must be above 0")
        self.ceil = p.round_mode == caffe_pb2.PoolingParameter.CEIL

    def infer(self, shape: Shape) -> list[Shape]:
        sizes = []
        kernels = shape[2:] if self.layer.pooling_param.global_pooling else self.kernel
        for n, kernel, stride, pad in zip(shape[2:], kernels, self.stride, self.pad, strict=True):
            steps = n + 2 * pad - kernel
            size = (-(-steps // stride) if self.ceil else steps // stride) + 1
            if (size - 1) * stride >= n + pad:  # the last window would start behind the image
                if not any(self.pad):
                    raise self.error(f"stride {stride} takes the last window of kernel {kernel} outside a bottom of size {n}, "
                                     "where Caffe reads memory that is not the image's; use a pad or round_mode: FLOOR")
                size -= 1
            if size < 1:
                raise self.error(f"kernel {kernel} does not fit a bottom of size {n} with pad {pad}")
            sizes.append(size)
        return [(*shape[:2], *sizes)] * len(self.layer.top)

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> Tensor | tuple[Tensor, Tensor]:
        x, pad, p = bottoms[0], self.pad, self.layer.pooling_param
        kernel = x.shape[2:] if p.global_pooling else self.kernel
        if any(2 * a > k for a, k in zip(pad, kernel, strict=True)):  # torch pads by half a kernel at most
            fill = float("-inf") if p.pool == MAX else 0.0
            x, pad = F.pad(x, (pad[1], pad[1], pad[0], pad[0]), value=fill), (0, 0)
        if p.pool == AVE:
            return F.avg_pool2d(x, kernel, self.stride, pad, ceil_mode=self.ceil)
        if len(self.layer.top) == 1:
            return F.max_pool2d(x, kernel, self.stride, pad, ceil_mode=self.ceil)
        y, index = F.max_pool2d(x, kernel, self.stride, pad, ceil_mode=self.ceil, return_indices=True)
        if pad != self.pad:
            rows, columns = index // x.shape[3] - self.pad[0], index % x.shape[3] - self.pad[1]
            index = rows * bottoms[0].shape[3] + columns
        return y, index.to(torch.float32)

    @classmethod
    def coord_map(cls, layer: Any) -> CoordMap:
        return strided(layer.pooling_param)
