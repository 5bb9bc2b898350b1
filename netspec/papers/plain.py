"""FCN as one writes it in PyTorch without netspec: `netspec time` holds netspec against it, nothing uses it.

Modules of torch.nn under the weights' own names, images padded by the first convolution, transposed
convolutions over all channels, and slices for crops.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:  # a process that runs an FCN alone need not wait for them
    from ..net.graph import Graph
    from ..ops import Shape

SKIPS = ("score_pool4", "score_pool3")


class FCN(nn.Module):
    """FCN-32s, 16s or 8s on a trunk like VGG's: scores (N, classes, H, W) of images (N, 3, H, W)."""

    def __init__(self, shapes: Mapping[str, Shape], border: int, offsets: Sequence[int],
                 dropout: float = 0.5) -> None:
        """shapes: of the parameters, by name. border: zeros around the image. offsets: of each crop, the last
        for the image. KeyError where the names are another net's."""
        super().__init__()
        self.arguments = dict(shapes), border, [*offsets], dropout
        self.offsets = offsets
        self.blocks: list[list[str]] = [[], [], [], [], []]
        names = dict.fromkeys(name.rpartition(".")[0] for name in shapes)
        self.ups = [name for name in names if name.startswith("upscore")]
        for name in names:
            out, across, kernel = shapes[f"{name}.weight"][:3]
            if name in self.ups:
                layer: nn.Module = nn.ConvTranspose2d(out, across, kernel, kernel // 2, bias=False)
            else:
                padding = border if name == "conv1_1" else kernel // 2 if name.startswith("conv") else 0
                layer = nn.Conv2d(across, out, kernel, padding=padding)
            self.add_module(name, layer)
            if name.startswith("conv"):
                self.blocks[int(name[4]) - 1].append(name)
        self.fc6, self.fc7, self.score_fr = (self.get_submodule(name) for name in ("fc6", "fc7", "score_fr"))
        self.skips = SKIPS[: len(self.ups) - 1]
        self.dropout = nn.Dropout(dropout)

    def forward(self, image: Tensor) -> Tensor:
        x, pools = image, []
        for block in self.blocks:
            for name in block:
                x = F.relu(self.get_submodule(name)(x), inplace=True)
            x = F.max_pool2d(x, 2, ceil_mode=True)
            pools.append(x)
        x = self.dropout(F.relu(self.fc6(x), inplace=True))
        x = self.dropout(F.relu(self.fc7(x), inplace=True))
        x = self.score_fr(x)
        finer = zip(self.skips, pools[3:1:-1], self.ups, self.offsets, strict=False)
        for skip, pool, up, at in finer:
            x = self.get_submodule(up)(x)
            x = x + cut(self.get_submodule(skip)(pool), x, at)
        return cut(self.get_submodule(self.ups[-1])(x), image, self.offsets[-1]).contiguous()

    def channels_last(self) -> FCN:
        """This net, its weights in that order."""
        for parameter in self.parameters():
            if parameter.ndim == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        return self


def cut(x: Tensor, like: Tensor, at: int) -> Tensor:
    """What of a map lies over another, from an offset on."""
    return x[:, :, at : at + like.shape[2], at : at + like.shape[3]]


def of(graph: Graph, weights: Mapping[str, Tensor]) -> FCN | None:
    """The FCN that does the same as a graph, with weights (a state_dict's) copied; None if it is no such net.

    Whether it does the same is for the caller to see by its scores.
    """
    crops = [node.op.layer.crop_param.offset for node in graph.nodes if node.type == "Crop"]
    ratios = [node.op.layer.dropout_param.dropout_ratio for node in graph.nodes if node.type == "Dropout"]
    first = next((node.op.layer.convolution_param.pad for node in graph.nodes if node.params), None)
    try:
        made = FCN({name: tuple(value.shape) for name, value in weights.items()}, first[0] if first else 0,
                   [next(iter(offset), 0) for offset in crops], max(ratios, default=0.0))
        made.load_state_dict(dict(weights))
    except (KeyError, IndexError, ValueError, AttributeError, RuntimeError):
        return None
    fits = len(crops) == len(made.ups) and len(graph.inputs) >= 1
    return made if fits else None
