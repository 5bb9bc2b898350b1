"""Anchors of a region proposal network: boxes of some shapes and sizes around each position of a map."""

from collections.abc import Sequence

import torch
from torch import Tensor

RATIOS, SCALES, BASE = (0.5, 1, 2), (8, 16, 32), 16


def base_anchors(base_size: int = BASE, ratios: Sequence[float] = RATIOS,
                 scales: Sequence[float] = SCALES) -> Tensor:
    """The anchors of the first position: A x 4 (x1, y1, x2, y2), float64; first all scales of a ratio.

    Around the centre of a square of base_size pixels: of its area, with height / width near a ratio and
    sides rounded to whole pixels (halves to even), then times a scale.
    """
    ratio, scale = (torch.tensor(list(given), dtype=torch.float64) for given in (ratios, scales))
    widths = (base_size**2 / ratio).sqrt().round()
    size = torch.stack([widths, (widths * ratio).round()], 1)[:, None] * scale[:, None]
    half = 0.5 * (size.reshape(-1, 2) - 1)
    centre = 0.5 * (base_size - 1)
    return torch.cat([centre - half, centre + half], 1)


def all_anchors(base: Tensor, stride: int, height: int, width: int) -> Tensor:
    """The anchors (A x 4) moved to each position of a map: (height width A) x 4, row by row of the map."""
    y, x = (torch.arange(n, device=base.device, dtype=base.dtype) * stride for n in (height, width))
    moves = torch.stack([x.expand(height, width), y[:, None].expand(height, width)], -1).repeat(1, 1, 2)
    return (moves[:, :, None] + base).reshape(-1, 4)
