"""The proof that a VGG net of torchvision or Keras, made Caffe's, computes the same."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..net import weights
from ..net.graph import Graph
from ..net.module import Net
from .importers import Imported, matched, rows_of
from .readers import read_layers
from .trunks import INPUTS, MEAN_BGR

ROUNDING = 1e-4  # of the largest score; float32 through 16 layers stays at a tenth of it


def prove(path: Path, net: str, layers: Sequence[Imported], graph: Graph) -> tuple[float, float]:
    """The largest difference between the scores of a random image, and the largest score.

    One side is the arithmetic of the file's framework, with the file's numbers in its order, on pixels as it
    was trained on; the other the net of `graph` with the imported layers. The border that the first
    convolution adds is MEAN_BGR on both sides (it would be the framework's own mean on the first).
    """
    stored, keras = read_layers(path)
    trained = INPUTS["bgr" if keras else "torchvision"]
    made = Net(graph).eval()
    weights.copy({layer.name: layer.blobs for layer in layers}, made.layers_with_params())
    (data,) = graph.inputs
    size = graph.shape(data)
    image = np.random.default_rng(0).integers(0, 256, (1, 3, *size[2:])).astype(np.float32)  # BGR
    mean = np.array(MEAN_BGR, np.float32).reshape(3, 1, 1)

    def fed(pixels: np.ndarray) -> Tensor:
        less, over = (np.reshape(np.array(x, np.float32), (3, 1, 1)) for x in (trained.mean, trained.scale))
        return torch.from_numpy(((pixels[:, :: trained.step] - less) / over).astype(np.float32))

    border = fed(np.broadcast_to(mean, (1, 3, size[2] + 2, size[3] + 2)))
    border[:, :, 1:-1, 1:-1] = fed(image)
    found = {name: {part: torch.from_numpy(np.array(x, np.float32)) for part, x in layer.parts.items()}
             for name, layer in matched(stored, rows_of(net), keras).items()}
    last = list(found)[-1]
    with torch.inference_mode():
        theirs = _scores(border, found, keras)
        ours = made({data: torch.from_numpy(image - mean)}, [last])[last].reshape(theirs.shape)
    return float((theirs - ours).abs().max()), float(theirs.abs().max())


def _scores(x: Tensor, layers: dict[str, dict[str, Tensor]], keras: bool) -> Tensor:
    """VGG's scores of an image that has its border already."""
    padding = 0
    for _, names in groupby([name for name in layers if name.startswith("conv")], lambda name: name[:5]):
        for name in names:
            x, padding = F.relu(F.conv2d(x, layers[name]["weight"], layers[name]["bias"], padding=padding)), 1
        x = F.max_pool2d(x, 2)
    x = (x.permute(0, 2, 3, 1) if keras else x).flatten(1)
    dense = [layer for name, layer in layers.items() if name.startswith("fc")]
    for number, layer in enumerate(dense, 1):
        x = F.linear(x, layer["weight"], layer["bias"])
        x = F.relu(x) if number < len(dense) else x
    return x
