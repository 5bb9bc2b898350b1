"""Operations of the forks that make feature maps larger: Interp, Upsample, Unpooling."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..proto.caffe_pb2 import LayerParameter, UnpoolingParameter
from .base import CoordMap, Operation, Shape, spoiled
from .conv import check_geometry, geometry

MAX, AVE = UnpoolingParameter.MAX, UnpoolingParameter.AVE


class Resample(Operation, family="resampling", four_axes=True):
    """What makes an N x C x H x W bottom into N x C x another size."""

    def size(self, n: int, i: int) -> int:
        """The top's size along spatial axis `i` for a bottom of size `n`."""
        raise NotImplementedError

    def infer(self, *shapes: Shape) -> list[Shape]:
        if len(shapes) > 1 and shapes[1] != shapes[0]:
            raise self.error(f"takes a mask of the bottom's shape: {list(shapes[0])} and {list(shapes[1])}")
        return [(*shapes[0][:2], *(self.size(n, i) for i, n in enumerate(shapes[0][2:])))]

    def scattered(self, x: Tensor, index: Tensor, size: Shape) -> Tensor:
        """Zeros with each value of x (N x C x positions) at its index; its gradient is the one there."""
        count = size[2] * size[3]
        index, outside = self.inside(index, count, "the mask holds positions from {} to {} for a top of "
                                     f"{size[2]} x {size[3]}; it must have the size of what the mask's "
                                     "pooling layer read")
        return x.new_zeros(*size[:2], count).scatter(2, index, spoiled(x, outside)).reshape(size)


class Interp(Resample, type="Interp", bottoms=(1, 2), fresh=True, undifferentiable={1}, sized={1}):
    """Bilinear interpolation, corners aligned, of the bottom less a border of -pad_beg and -pad_end pixels.

    The size n left becomes (n - 1) / shrink_factor + 1, then (n - 1) * zoom_factor + 1; or height and width,
    unless just one of the factors is given. With use_blob_size it is the size of a second bottom (soeaver).
    """

    def setup(self, *shapes: Shape) -> None:
        p = self.layer.interp_param
        if p.pad_beg > 0 or p.pad_end > 0:
            raise self.error("takes pad_beg and pad_end of 0 and below, which crop")
        if p.shrink_factor < 1 or p.zoom_factor < 1:
            raise self.error("shrink_factor and zoom_factor must be above 0")
        if p.use_blob_size != (len(shapes) > 1):
            raise self.error("takes a second bottom with use_blob_size: true, whose size the top gets")
        self.fixed = None
        if p.use_blob_size:
            return
        factors = [p.HasField(name) for name in ("shrink_factor", "zoom_factor")]
        sized = p.HasField("height") and p.HasField("width") and sum(factors) != 1
        self.fixed = (p.height, p.width) if sized else None
        if self.fixed is None and not any(factors):
            raise self.error("needs zoom_factor, shrink_factor, or height and width")
        if self.fixed and min(self.fixed) < 1:
            raise self.error("height and width must be above 0")

    def size(self, n: int, i: int) -> int:
        p = self.layer.interp_param
        left = n + p.pad_beg + p.pad_end
        if left < 1:
            raise self.error(f"pad_beg {p.pad_beg} and pad_end {p.pad_end} leave nothing of a bottom of size "
                             f"{n}")
        return self.fixed[i] if self.fixed else (left - 1) // p.shrink_factor * p.zoom_factor + 1

    def infer(self, *shapes: Shape) -> list[Shape]:
        own, like = super().infer(shapes[0]), [shape[2:] for shape in shapes[1:]]
        if any(len(size) != 2 or 0 in size for size in like):
            raise self.error(f"takes the size of an N x C x H x W bottom, found {list(shapes[1])}")
        return [(*shapes[0][:2], *like[0])] if like else own

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> Tensor:
        p, x = self.layer.interp_param, bottoms[0]
        size = self.infer(*(tuple(b.shape) for b in bottoms))[0][2:]
        if p.pad_beg or p.pad_end:
            x = F.pad(x, (p.pad_beg, p.pad_end) * 2)
        if not x.shape[1]:  # torch has no way to stretch nothing
            return x.new_zeros(*x.shape[:2], *size)
        return F.interpolate(x, size, mode="bilinear", align_corners=True)

    @classmethod
    def coord_map(cls, layer: LayerParameter) -> CoordMap | None:
        p = layer.interp_param
        if not p.HasField("zoom_factor") or p.HasField("shrink_factor"):
            return None  # where the corners lie depends on the bottom's size
        return CoordMap(1, p.zoom_factor, p.pad_beg * p.zoom_factor)


class Upsample(Resample, type="Upsample", bottoms=(1, 2), inplace=False, fresh=True, undifferentiable={1}):
    """The first bottom's values, each where the second, a pooling mask, says; zeros elsewhere.

    The top's size is upsample_h x upsample_w, or scale (scale_h, scale_w) times the bottom's, less one row or
    column where pad_out_h or pad_out_w says so. With one bottom each value stands scale x scale times (YOLO).
    """

    def setup(self, *shapes: Shape) -> None:
        p = self.layer.upsample_param
        scales = [p.HasField(name) for name in ("scale_h", "scale_w")]
        sized = p.HasField("upsample_h") and p.HasField("upsample_w")
        self.fixed = (p.upsample_h, p.upsample_w) if sized else None
        if self.fixed is None and any(scales) and (not all(scales) or p.HasField("scale")):
            raise self.error("takes upsample_h and upsample_w, or scale, or scale_h and scale_w")
        self.scale = (p.scale_h, p.scale_w) if all(scales) else (p.scale, p.scale)
        self.less = (int(p.pad_out_h), int(p.pad_out_w))
        if len(shapes) == 1 and (self.fixed or any(scales) or any(self.less) or not p.HasField("scale")):
            raise self.error("takes a bottom and a mask, or a bottom and scale alone")
        if min(self.fixed or self.scale) < len(shapes):
            raise self.error(f"scales and sizes must be above {len(shapes) - 1}")
        odd = any(less and scale != 2 for less, scale in zip(self.less, self.scale, strict=True))
        if not self.fixed and odd:
            raise self.error("pad_out_h and pad_out_w work with a scale of 2")

    def size(self, n: int, i: int) -> int:
        return self.fixed[i] if self.fixed else n * self.scale[i] - self.less[i]

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> Tensor:
        if len(bottoms) == 1:
            return bottoms[0].repeat_interleave(self.scale[0], 2).repeat_interleave(self.scale[1], 3)
        x, mask = bottoms
        size = self.infer(tuple(x.shape), tuple(mask.shape))[0]
        return self.scattered(x.flatten(2), mask.flatten(2), size)


class Unpooling(Resample, type="Unpooling", bottoms=(1, 2), inplace=False, fresh=True, undifferentiable={1}):
    """The reverse of a pooling, to unpool_size (unpool_h x unpool_w), with its kernel_size and stride.

    MAX puts each value where the second bottom, a pooling mask, says, or without one in its window's first
    corner; AVE shares it out evenly over its window, TILE repeats it. Windows that overlap add up.
    """

    def setup(self, *shapes: Shape) -> None:
        p = self.layer.unpooling_param
        check_geometry(self, p, 2)
        self.kernel, self.stride, pad, _ = geometry(p, 2)
        if not all(self.kernel) or not all(self.stride):
            raise self.error("needs kernel_size (or kernel_h and kernel_w) and stride above 0")
        if any(pad):
            raise self.error("takes no pad")
        both = [p.HasField(name) for name in ("unpool_h", "unpool_w")]
        if all(both) == p.HasField("unpool_size") or any(both) != all(both):
            raise self.error("needs unpool_size, or unpool_h and unpool_w")
        self.fixed = (p.unpool_h, p.unpool_w) if all(both) else (p.unpool_size, p.unpool_size)
        if min(self.fixed) < 1:
            raise self.error("the unpooled size must be above 0")

    def size(self, n: int, i: int) -> int:
        return self.fixed[i]

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> Tensor:
        x, method = bottoms[0], self.layer.unpooling_param.unpool
        size = self.infer(*(tuple(b.shape) for b in bottoms))[0]
        if method == MAX:
            index = bottoms[1] if len(bottoms) > 1 else self.corners(x)
            return self.scattered(x.flatten(2), index.flatten(2), size)
        high, wide = (self.windows(n, i, x) for i, n in enumerate(x.shape[2:]))
        shared = self.spread(x, *(windows / windows.sum(0).clamp(min=1) for windows in (high, wide)))
        if method == AVE:
            return shared
        # the forks' gradient of TILE is that of AVE
        return shared + (self.spread(x, high, wide) - shared).detach()

    def corners(self, x: Tensor) -> Tensor:
        """The index in the top of each value's window's first corner, N x C x H x W."""
        rows, columns = (torch.arange(n, device=x.device).mul(self.stride[i]).clamp(max=self.fixed[i] - 1)
                         for i, n in enumerate(x.shape[2:]))
        return (rows[:, None] * self.fixed[1] + columns).expand(x.shape)

    def windows(self, n: int, i: int, like: Tensor) -> Tensor:
        """1 where the window of a value (column) covers a position of the top (row), along axis `i`."""
        distance = (torch.arange(self.fixed[i], device=like.device)[:, None]
                    - torch.arange(n, device=like.device) * self.stride[i])
        return ((distance >= 0) & (distance < self.kernel[i])).to(like.dtype)

    @staticmethod
    def spread(x: Tensor, high: Tensor, wide: Tensor) -> Tensor:
        return high @ x @ wide.t()
