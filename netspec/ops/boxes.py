"""Boxes, with the arithmetic of the detection releases: transforms, overlaps, suppression.

A box is x1, y1, x2, y2 in pixels, both ends included: x2 - x1 + 1 wide. All of it is done by tensors, on the
device of what is given. torchvision's nms is no other way to the same: there a box is x2 - x1 wide.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

BLOCK = 64  # boxes whose suppression of each other is settled at once


def extents(boxes: Tensor) -> Tensor:
    """Width and height of boxes (... x 4 or more): ... x 2, in their dtype."""
    return boxes[..., 2:4] - boxes[..., :2] + 1


def encode(boxes: Tensor, truth: Tensor) -> Tensor:
    """The transform of each box to a true one: N x 4 and N x 4 give N x 4 (dx, dy, dw, dh).

    dx and dy are the way between the centres in widths and heights of the box, dw and dh the logarithms of
    the sides' ratios. The dtype is the wider of the two.
    """
    size, true = extents(boxes), extents(truth)
    way = truth[:, :2] + 0.5 * true - (boxes[:, :2] + 0.5 * size)
    return torch.cat([way / size, (true / size).log()], 1)


def decode(boxes: Tensor, deltas: Tensor) -> Tensor:
    """Boxes (N x 4) moved by transforms (N x 4K): N x 4K, in the transforms' dtype.

    The releases add half a width to the centre for x2, and no - 1: the way back is not that of `encode`.
    """
    boxes, moves = boxes.to(deltas.dtype), deltas.reshape(len(deltas), deltas.shape[1] // 4, 4)
    size = extents(boxes)[:, None]
    centre = moves[..., :2] * size + (boxes[:, None, :2] + 0.5 * size)
    half = 0.5 * (moves[..., 2:].exp() * size)
    return torch.cat([centre - half, centre + half], -1).reshape(deltas.shape)


def clip(boxes: Tensor, size: Tensor | Sequence[float]) -> Tensor:
    """Boxes (N x 4K) cut to an image of a size (height, width): x to 0..width - 1, y to 0..height - 1."""
    last = torch.as_tensor(size, dtype=boxes.dtype, device=boxes.device).flip(0).repeat(2) - 1
    return boxes.reshape(-1, 4).minimum(last).clamp(min=0).reshape(boxes.shape)


def widest(device: torch.device) -> torch.dtype:
    """float64, which Apple's GPU has not."""
    return torch.float32 if device.type == "mps" else torch.float64


def overlaps(a: Tensor, b: Tensor, ends: int = 1) -> Tensor:
    """Intersection over union of all pairs, N x K of N x 4 and K x 4, in the `widest` dtype; ends: 0 for
    boxes that are x2 - x1 wide."""
    wide = widest(a.device)
    return _overlaps(a.to(wide), b.to(wide), ends)


def _overlaps(a: Tensor, b: Tensor, ends: int = 1) -> Tensor:
    """In the dtype of the boxes; 0 where they do not meet."""
    (left, top, right, bottom), other = a[:, :4, None].unbind(1), b[:, :4].unbind(1)
    wide = (right.minimum(other[2]) - left.maximum(other[0]) + ends).clamp_(min=0)
    shared = wide.mul_((bottom.minimum(other[3]) - top.maximum(other[1]) + ends).clamp_(min=0))
    area = (right - left + ends) * (bottom - top + ends)
    union = area + (other[2] - other[0] + ends) * (other[3] - other[1] + ends) - shared
    return (shared / union).masked_fill_(shared == 0, 0)


def ranked(scores: Tensor) -> Tensor:
    """Indices of scores (N), the highest first, equal ones as the releases have them: by NumPy's quicksort.

    Up to 16 it puts the later of them first; of more, its swaps decide. With vector instructions it swaps
    otherwise, so on every machine the sort of complex numbers does it, which has none.
    """
    order = scores.detach().float().cpu().numpy().astype(np.complex64).argsort()[::-1].copy()
    return torch.from_numpy(order).to(scores.device)


def nms(boxes: Tensor, scores: Tensor, threshold: float, *, strict: bool = False, most: int | None = None,
        order: Tensor | None = None, ends: int = 1, eta: float = 1) -> Tensor:
    """The boxes that no better one which is kept overlaps: their indices, the highest score first.

    boxes N x 4 and scores N are taken as float32; equal ones come as in `ranked`. A box goes whose overlap is
    the threshold or more, as in the releases' code for the CPU; strict: only more, as in that for the GPU.
    most: so many at most. order: the indices of those that count, in their order. ends: 0 for boxes that are
    x2 - x1 wide. eta: of SSD; while the threshold is above 0.5 each that is kept makes it so many times as
    high, for what comes after it. The host waits for the device.
    """
    boxes, limit = boxes[:, :4].float(), np.float32(threshold)
    if not strict and float(limit) < threshold:  # there a float32 is held against a double
        limit = np.nextafter(limit, np.float32(np.inf))
    rest = ranked(scores) if order is None else order
    kept, count = [rest[:0]], 0

    def hit(one: Tensor, other: Tensor) -> Tensor:
        found = _overlaps(boxes[one], boxes[other], ends)
        return found > float(limit) if strict else found >= float(limit)

    while eta < 1 and limit > 0.5 and len(rest):
        one, rest = rest[:1], rest[1:]
        if not hit(torch.cat(kept), one).any():
            kept.append(one)
            count += 1
            limit *= np.float32(eta)
    if count:
        rest = rest[~hit(torch.cat(kept), rest).any(0)]
    while len(rest) and (most is None or count < most):
        block, rest = rest[:BLOCK], rest[BLOCK:]
        good = block[_unhit(hit(block, block).triu(1))]
        rest = rest[~hit(good, rest).any(0)]
        kept.append(good)
        count += len(good)
    return torch.cat(kept)[:most]


def _unhit(hits: Tensor) -> Tensor:
    """Of boxes in order the mask of those kept; hits[i, j]: i, if it is kept, suppresses the later j."""
    alive = torch.ones_like(hits[0])
    while True:  # the first k are right after k rounds
        now = ~(hits & alive[:, None]).any(0)
        if now.equal(alive):
            return now
        alive = now


def soft_nms(boxes: Tensor, scores: Tensor, method: str = "linear", *, sigma: float = 0.5,
             overlap: float = 0.3, threshold: float = 0.001) -> tuple[Tensor, Tensor]:
    """Soft-NMS (arXiv:1704.04503): indices of the boxes in the order they are chosen, and their new scores.

    Each box chosen, the best left, lowers the scores s of those that overlap it by o: "linear" to (1 - o) s
    where o is above `overlap`, "gaussian" to exp(-o^2 / sigma) s, "hard" to 0 where o is above it. A box goes
    whose score falls below `threshold` so. boxes N x 4, scores N, taken as float32; the release's swaps of
    places are kept, as they decide between equal scores. The host waits for the device.
    """
    if method not in ("linear", "gaussian", "hard"):
        raise ValueError(f"method is linear, gaussian or hard, found {method!r}")
    places = torch.arange(len(boxes), device=boxes.device)
    boxes, scores = boxes[:, :4].float(), scores.float()
    chosen = 0
    while chosen < len(places):
        order = torch.arange(len(places), device=boxes.device)
        best = chosen + int(scores[chosen:].argmax())
        order[chosen], order[best] = best, chosen
        places, scores = places[order], scores[order]
        shared = _overlaps(boxes[places[chosen : chosen + 1]], boxes[places[chosen + 1 :]])[0]
        if method == "gaussian":
            weight = (-shared.square() / sigma).to(widest(boxes.device)).exp().float()
        else:
            lower = 1 - shared if method == "linear" else torch.zeros_like(shared)
            weight = torch.where(shared > overlap, lower, 1)
        scores = torch.cat([scores[: chosen + 1], weight * scores[chosen + 1 :]])
        chosen += 1
        left = _closed((shared == 0) | ~(scores[chosen:] < threshold))
        places, scores = (torch.cat([x[:chosen], x[chosen:][left]]) for x in (places, scores))
    return places, scores


def _closed(alive: Tensor) -> Tensor:
    """Indices of those alive, where each gap was filled with the last one."""
    count = int(alive.sum())
    index = torch.arange(count, device=alive.device)
    gaps, behind = (~alive[:count]).nonzero()[:, 0], alive[count:].nonzero()[:, 0] + count
    index[gaps] = behind.flip(0)
    return index
