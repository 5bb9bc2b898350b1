"""Whole nets in float64, for what `tests/judge.py` says of float32: whose rounding is it?

Where two values of a pooling window differ by less than float32 rounds, which is the larger is chance, and layers that unpool
carry it on. A file that has the norm of a mask (the maxima's positions) tells which one it took.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from netspec.net.module import Net
from netspec.ops.pool import Pooling

NEAR = 1e-4  # of a maximum: how far below it the second value of its window may be, to be taken for it


def doubled(net: Net, arrays: Mapping[str, np.ndarray], say: Callable[[str], None]) -> None:
    """The net in float64; a maximum whose window's second value the file took is taken there, and said."""
    net.double()
    parts = dict(net.named_modules())
    for node in net.graph.nodes:
        if isinstance(node.op, Pooling) and len(node.tops) > 1 and f"l2:{node.tops[1].blob}" in arrays:
            norm = float(arrays[f"l2:{node.tops[1].blob}"])
            parts[node.name].register_forward_hook(_settling(node.name, node.op, norm, say))


def _settling(name: str, op: Pooling, norm: float, say: Callable[[str], None]) -> Callable[..., Any]:
    def settle(part: torch.nn.Module, bottoms: tuple[Tensor, ...], tops: tuple[Tensor, Tensor]) -> Any:
        change = norm**2 - float(tops[1].square().sum())
        if abs(change) <= 1e-14 * norm**2:
            return None
        below, second = seconds(bottoms[0].detach(), op, tops[0].shape)
        near = (below < NEAR) & ((second.square() - tops[1].square() - change).abs() <= 1e-14 * norm**2)
        if not near.any():
            say(f"{name}: no maximum by itself makes its mask the file's")
            return None
        best = int(torch.where(near, below, torch.inf).argmin())
        place = tuple(int(i) for i in np.unravel_index(best, tuple(near.shape)))
        say(f"{name}: of {near.numel()} maxima {list(place[1:])} is the file's other value, lower by {below[place]:.1e} of it")
        mask = tops[1].clone()
        mask[place] = second[place]
        return tops[0], mask
    return settle


def seconds(x: Tensor, op: Pooling, shape: torch.Size) -> tuple[Tensor, Tensor]:
    """How far each window's second value is below its first, as a part of it, and the second's position in the image.

    Infinite where the first is not above 0: unpooling a 0 it is the same wherever it lies.
    """
    (high, wide), (down, right) = op.kernel, op.stride
    more = [max(0, (n - 1) * s + k - m) for n, s, k, m in zip(shape[2:], op.stride, op.kernel, x.shape[2:], strict=True)]
    padded = F.pad(x, (0, more[1], 0, more[0]), value=-torch.inf)
    windows = padded.unfold(2, high, down).unfold(3, wide, right).flatten(4)[:, :, : shape[2], : shape[3]]
    values, places = windows.topk(2)
    first, place = values[..., 0], places[..., 1]
    rows = torch.arange(shape[2])[:, None] * down + place // wide
    columns = torch.arange(shape[3]) * right + place % wide
    return torch.where(first > 0, 1 - values[..., 1] / first, torch.inf), (rows * x.shape[3] + columns).to(x)
