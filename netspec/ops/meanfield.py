"""MultiStageMeanfield, the layer of CRF-RNN (Zheng et al. 2015), and the permutohedral lattice that it
filters by (Adams, Baek and Davis 2010)."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..base.errors import Error
from ..base.files import find
from .base import IDENTITY, Operation, Param, Shape, raised

BLOCK = 4  # points that the fork's lattice takes in at once
FARTHEST = 2**15  # where its coordinates end
LONGEST = 1000  # steps, of which Caffe keeps every blob
MOST = 2**62  # places that corners may be numbered in


class Lattice:
    """Filters the values of points by a Gaussian of deviation 1 about each, nearly.

    features: P x d, where the points are; the geometry is float32, as in the fork. A point's values go to the
    d + 1 corners of the simplex around it by barycentric weights, half of a corner's to its two neighbours
    along each of d + 1 axes in turn, and back by the same weights, times 1 / (1 + 2^-d). ValueError where
    points lie too far apart.
    """

    def __init__(self, features: Tensor) -> None:
        points, d = features.shape
        # The fork fills its last block up by points at 0; they hold nothing, but neighbours pass through
        keys, weights = corners(F.pad(features.float(), (0, 0, 0, -points % BLOCK)))
        low, high = (ends.tolist() for ends in keys.flatten(0, 1).aminmax(dim=0))
        spans = [b - a + 2 * d + 1 for a, b in zip(low, high, strict=True)]  # a neighbour is d away at most
        strides = [math.prod(spans[:i]) for i in range(d + 1)]
        if strides[d] > MOST:
            raise ValueError
        code = torch.stack([(keys[..., i] - low[i]) * strides[i] for i in range(d)]).sum(0)
        codes, at = torch.unique(code, return_inverse=True)
        self.at, self.weights = at[:points], weights[:points]  # P x (d + 1): each point's corners
        self.order = self.at.flatten().argsort(stable=True)  # each corner's points, one corner after another
        counts = self.at.flatten().bincount(minlength=len(codes))
        self.starts = counts.cumsum(0) - counts
        steps = [(d + 1) * (strides[i] if i < d else 0) - sum(strides[:d]) for i in range(d + 1)]
        self.near = [torch.stack([_places(codes, way) for way in (0, step, -step)], 1) for step in steps]

    def filtered(self, x: Tensor, back: bool = False) -> Tensor:
        """x, P x values, filtered. back: by the axes from the last to the first, which is the transpose."""
        weights, count = self.weights.to(x.dtype), self.at.shape[1]
        table = F.embedding_bag(self.order // count, x, self.starts, mode="sum",
                                per_sample_weights=weights.flatten()[self.order])
        table = F.pad(table, (0, 0, 0, 1))  # a last row of 0 for neighbours that are not there
        shares = x.new_tensor([1, 0.5, 0.5]).expand(len(table), 3).contiguous()
        for near in self.near[::-1] if back else self.near:
            table = F.embedding_bag(near, table, mode="sum", per_sample_weights=shares)
        alpha = 1 / (1 + 2.0 ** (1 - count))
        return F.embedding_bag(self.at, table, mode="sum", per_sample_weights=weights * alpha)


def corners(features: Tensor) -> tuple[Tensor, Tensor]:
    """The corners of the simplex around each of P points in d axes, P x (d + 1) x d whole numbers (the last
    of the lattice's d + 1 coordinates follows from them), and the point's weights of each, P x (d + 1)."""
    d = features.shape[1]
    deviation = float(np.float32(math.sqrt(2 / 3) * (d + 1)))
    scaled = features * features.new_tensor([deviation / math.sqrt((i + 1) * (i + 2)) for i in range(d)])
    above = [torch.zeros_like(scaled[:, 0])]
    for i in range(d - 1, -1, -1):
        above.insert(0, above[0] + scaled[:, i])
    y = torch.stack([above[0], *(above[i] - i * scaled[:, i - 1] for i in range(1, d + 1))], 1)  # sums to 0
    if not bool((y.abs() < FARTHEST).all()):  # or one is NaN
        raise ValueError
    whole = (y * (1 / (d + 1))).round()
    nearest = whole * (d + 1)
    rank = (y - nearest).argsort(dim=1, descending=True, stable=True).argsort(1) + whole.sum(1, keepdim=True)
    back = ((rank < 0).float() - (rank > d).float()) * (d + 1)  # until it sums to 0 too
    nearest, rank = (nearest + back).long(), (rank + back).long()
    rising = torch.empty_like(y).scatter(1, d - rank, (y - nearest) * (1 / (d + 1)))
    weights = rising - rising.roll(1, 1)
    weights[:, 0] += 1
    k = torch.arange(d + 1, device=y.device)[:, None]
    wraps = rank[:, None, :d] + k > d
    return nearest[:, None, :d] + k - wraps.long() * (d + 1), weights


def _places(codes: Tensor, step: int) -> Tensor:
    """Of each code, and of a last row, the place of code + step; the last row's, where that is not there."""
    found = torch.searchsorted(codes, codes + step)
    there = codes[found.clamp(max=len(codes) - 1)] == codes + step
    return F.pad(torch.where(there, found, len(codes)), (0, 1), value=len(codes))


class Filter(torch.autograd.Function):
    """A lattice's filter, which keeps nothing but the lattice for its gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, lattice: Lattice, back: bool) -> Tensor:
        ctx.lattice, ctx.back = lattice, back
        return lattice.filtered(x, back)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return Filter.apply(grads[0].contiguous(), ctx.lattice, not ctx.back), None, None


class MultiStageMeanfield(Operation, type="MultiStageMeanfield", bottoms=3, four_axes=True, waits=True,
                          undifferentiable={2}, own_map=IDENTITY, above_0=(
                              "multi_stage_meanfield_param", "theta_alpha", "theta_beta", "theta_gamma")):
    """Steps of mean-field inference in a dense CRF: q becomes u - M (S f(p) + B g(p)), with p = softmax q.

    Bottoms: scores u and the first q, N x C x H x W, and images, N x 3 x H x W. The filter f is by position /
    theta_gamma, g by position / theta_alpha and colour / theta_beta; each is divided by what it makes of
    ones. Parameters S, B and M, C x C: M begins as -1 on the diagonal, S with numbers there that
    spatial_filter_weights_str holds, else the file spatial.par, else spatial_filter_weight (Caffe's needs one
    of the first two), B likewise.
    """

    def setup(self, *shapes: Shape) -> None:
        p, classes = self.layer.multi_stage_meanfield_param, shapes[0][1]
        if not 1 < p.num_iterations <= LONGEST:
            raise self.error(f"takes num_iterations of 2 to {LONGEST}, found {p.num_iterations}")
        first = [self.begun(kind, classes) for kind in ("spatial", "bilateral")] + [[-1.0] * classes]
        self.params = [Param((1, 1, classes, classes), np.diag(each)[None, None]) for each in first]

    def begun(self, kind: str, classes: int) -> list[float]:
        """What the diagonal of S or B begins with."""
        p, one = self.layer.multi_stage_meanfield_param, f"{kind}_filter_weight"
        source, text = f"{one}s_str", getattr(p, f"{one}s_str")
        try:
            if not text:
                source = str(find(f"{kind}.par", self.context.base))
                text = Path(source).read_text(errors="replace")
        except (Error, OSError):
            if p.HasField(one):
                return [getattr(p, one)] * classes
            raise self.error(f"finds no file {kind}.par with a number for each class; write one beside the "
                             f"net, or give {one}s_str, or {one} for all classes") from None
        try:
            numbers = [float(word) for word in text.split()[:classes]]
        except ValueError:
            numbers = []
        if len(numbers) < classes or not all(map(math.isfinite, numbers)):
            raise self.error(f"takes {classes} numbers, one a class, from {source}; found {text[:60]!r}")
        return numbers

    def infer(self, *shapes: Shape) -> list[Shape]:
        (u, q, images), classes = shapes, self.params[0].shape[2]
        if not (u == q and u[1] == classes and len(images) == 4 and images[1] >= 3
                and (images[0], *images[2:]) == (u[0], *u[2:]) and 0 not in u):
            raise self.error(f"takes N x {classes} x H x W twice and N x 3 x H x W, all above 0, "
                             f"found {list(u)}, {list(q)} and {list(images)}")
        return [u]

    def window(self, *shapes: Shape) -> Shape:
        return shapes[0][2:]

    def macs(self, *shapes: Shape) -> int:
        return 3 * self.layer.multi_stage_meanfield_param.num_iterations * math.prod(shapes[0]) * shapes[0][1]

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> Tensor:
        u, q, images = map(raised, bottoms)
        by_column = [matrix[0, 0].t().to(u.dtype) for matrix in params]
        return torch.stack([self.inferred(*item, by_column) for item in zip(u, q, images, strict=True)])

    def inferred(self, scores: Tensor, first: Tensor, image: Tensor, matrices: Sequence[Tensor]) -> Tensor:
        """The top of one item. matrices: transposed, since a position is a row here."""
        p, (_, height, width) = self.layer.multi_stage_meanfield_param, scores.shape
        i = torch.arange(height * width, device=image.device)
        places = torch.stack([i % width, i // width], 1).float()
        colours = image[:3].flatten(1).t() / p.theta_beta
        try:
            lattices = [Lattice(places / p.theta_gamma),
                        Lattice(torch.cat([places / p.theta_alpha, colours], 1))]
        except ValueError:
            raise self.error(f"values of '{self.layer.bottom[2]}' over theta_beta, or positions over another "
                             "theta, are too far apart or not finite; make that theta larger") from None
        norms = [1 / (each.filtered(scores.new_ones(len(places), 1)) + 1e-20) for each in lattices]
        u, q = scores.flatten(1).t(), first.flatten(1).t()
        for _ in range(p.num_iterations):
            share = q.softmax(1).contiguous()
            s, b = (Filter.apply(share, each, False) for each in lattices)
            q = u - (s * norms[0] @ matrices[0] + b * norms[1] @ matrices[1]) @ matrices[2]
        return q.t().reshape(scores.shape)
