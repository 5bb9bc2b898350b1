"""Loss sampling (Long et al. 2015, section 3.4): a random part of the final layer's cells counts in the loss."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .base import Operation, Shape
from .python import ALIASES


class LossSampling(Operation):
    """Labels (N, 1, H, W) with the pixels of some cells made void; for a Python layer, in training alone.

    param_str: keep, the probability that a cell stays; cell, its side in pixels (the net's stride); void, the label
    that the loss ignores. The draws are torch's, so they belong to a snapshot.
    """

    undifferentiable = frozenset({0})
    inplace = False
    OPTIONS = {
        "keep": ("a number above 0, at most 1", lambda v: isinstance(v, int | float) and 0 < v <= 1),
        "cell": ("a whole number from 1", lambda v: type(v) is int and v > 0),
        "void": ("a whole number", lambda v: type(v) is int),
    }

    def setup(self, shape: Shape) -> None:
        given = {"keep": 1, "cell": 32, "void": 255, **self.options(self.OPTIONS)}
        self.keep, self.cell, self.void = given["keep"], given["cell"], given["void"]
        if len(shape) != 4:
            raise self.error(f"takes labels N x 1 x H x W, found {list(shape)}")

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> Tensor:
        label = bottoms[0]
        if not self.context.training:
            return label.clone()
        n, _, height, width = label.shape
        cells = torch.rand(n, 1, -(-height // self.cell), -(-width // self.cell), device=label.device) >= self.keep
        dropped = cells.repeat_interleave(self.cell, 2).repeat_interleave(self.cell, 3)[..., :height, :width]
        return label.masked_fill(dropped, self.void)


ALIASES["netspec.sampling", "LossSampling"] = LossSampling  # the name that prototxts have for it
