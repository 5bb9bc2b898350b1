"""Caffe's initialisers of parameter blobs (include/caffe/filler.hpp), by `filler.type`."""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ..base.errors import Error, closest
from ..proto.caffe_pb2 import FillerParameter


def fill(tensor: Tensor, filler: FillerParameter | np.ndarray | None = None,
         generator: torch.Generator | None = None) -> None:
    """Fills a tensor of any device, type and layout in place, as its FillerParameter says (None: zeros).

    An array in place of the FillerParameter holds the numbers themselves: a layer in Python sets its own.
    The numbers depend only on the filler, the shape and the generator's state (None: torch's own on the CPU).
    Raises Error for settings that Caffe refuses.
    """
    if isinstance(filler, np.ndarray):
        tensor.detach().copy_(torch.from_numpy(filler))
        return
    kind = filler.type if filler is not None else "constant"
    if kind not in FILLERS:
        raise Error(f"filler type '{kind}' is not known{closest(kind, FILLERS)}")
    if not tensor.numel():
        raise Error(f"filler '{kind}' is given a blob of shape {list(tensor.shape)}, which holds nothing "
                    "to fill")
    if filler is not None and filler.sparse != -1 and (kind != "gaussian" or filler.sparse < 0):
        raise Error(f"filler '{kind}' has sparse: {filler.sparse}; sparse is 0 or more, "
                    "and for 'gaussian' only")
    if filler is None:
        tensor.detach().zero_()
        return
    if tensor.is_meta:  # a shape without numbers
        return
    device = generator.device if generator else torch.device("cpu")
    plain = tensor.device == device and tensor.dtype == torch.float32 and tensor.is_contiguous()
    values = tensor.detach() if plain else torch.empty(tensor.shape, device=device)
    if not values.ndim:  # Caffe's blob without axes holds one number
        values = values.view(1)
    FILLERS[kind](values, filler, generator)
    if not plain:
        tensor.detach().copy_(values.view(tensor.shape))


def _constant(values: Tensor, filler: FillerParameter, generator: torch.Generator | None) -> None:
    values.fill_(filler.value)


def _uniform(values: Tensor, filler: FillerParameter, generator: torch.Generator | None) -> None:
    if not filler.min <= filler.max:
        raise Error(f"filler 'uniform' has min {filler.min:g} above max {filler.max:g}")
    if not filler.max - filler.min <= torch.finfo(torch.float32).max:
        raise Error(f"filler 'uniform' has min {filler.min:g} and max {filler.max:g}, too far apart to draw "
                    "between")
    values.uniform_(filler.min, filler.max, generator=generator)


def _gaussian(values: Tensor, filler: FillerParameter, generator: torch.Generator | None) -> None:
    if not filler.std > 0:
        raise Error(f"filler 'gaussian' has std {filler.std:g}; it must be above 0 (or use 'constant')")
    outputs = len(values)
    if filler.sparse > outputs:
        raise Error(f"filler 'gaussian' has sparse: {filler.sparse} for {outputs} outputs; it can be no more")
    values.normal_(filler.mean, filler.std, generator=generator)
    if filler.sparse >= 0:
        chances = torch.rand(values.shape, generator=generator, device=values.device)
        values *= chances < filler.sparse / outputs


def _positive_unitball(values: Tensor, filler: FillerParameter, generator: torch.Generator | None) -> None:
    values.uniform_(generator=generator)
    rows = values.view(len(values), -1)
    rows /= rows.sum(1, keepdim=True)


def _xavier(values: Tensor, filler: FillerParameter, generator: torch.Generator | None) -> None:
    bound = math.sqrt(3 / _fan(values, filler))
    values.uniform_(-bound, bound, generator=generator)


def _msra(values: Tensor, filler: FillerParameter, generator: torch.Generator | None) -> None:
    values.normal_(0, math.sqrt(2 / _fan(values, filler)), generator=generator)


def _bilinear(values: Tensor, filler: FillerParameter, generator: torch.Generator | None) -> None:
    if values.ndim != 4 or values.shape[2] != values.shape[3]:
        raise Error(f"filler 'bilinear' needs a blob N x C x K x K, found {list(values.shape)}")
    size = values.shape[3]
    half = math.ceil(size / 2)
    center = (size - 1) / (2 * half)
    along = 1 - (torch.arange(size, dtype=torch.float64) / half - center).abs()
    values.copy_(torch.outer(along, along))


def _fan(values: Tensor, filler: FillerParameter) -> float:
    """Caffe's fans: for a transposed or fully connected blob they are not what their names say."""
    fan_in = values.numel() // values.shape[0]
    fan_out = values.numel() // values.shape[1] if values.ndim > 1 else values.numel()
    fans = {filler.FAN_IN: fan_in, filler.FAN_OUT: fan_out, filler.AVERAGE: (fan_in + fan_out) / 2}
    return fans[filler.variance_norm]


FILLERS: dict[str, Callable[[Tensor, FillerParameter, torch.Generator | None], None]] = {
    "constant": _constant, "uniform": _uniform, "gaussian": _gaussian,
    "positive_unitball": _positive_unitball, "xavier": _xavier, "msra": _msra, "bilinear": _bilinear,
}
