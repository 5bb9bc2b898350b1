"""Operations on the parameters of whole nets, as the FCN release's surgery does them."""

from collections.abc import Iterable

import numpy as np
import torch

from .compiler import Net
from .errors import Error


def bilinear_kernel(size: int) -> np.ndarray:
    """The size x size kernel that upsamples by (size + 1) // 2 with bilinear interpolation, float32."""
    factor = (size + 1) // 2
    center = factor - 1 if size % 2 else factor - 0.5
    along = 1 - abs(np.arange(size) - center) / factor
    return np.outer(along, along).astype(np.float32)


def interp(net: Net, layers: Iterable[str]) -> None:
    """Make deconvolution layers bilinear upsampling: the kernel on the diagonal of the channels, zero elsewhere."""
    params = net.layers_with_params()
    for layer in layers:
        weight = params[layer][0]
        outer, inner, h, w = weight.shape
        if h != w or inner not in (1, outer):
            raise Error(f"layer '{layer}': bilinear upsampling needs a square kernel and as many inputs as outputs, "
                        f"found {list(weight.shape)}")
        with torch.no_grad():
            weight.zero_()
            rows = torch.arange(outer)
            weight[rows, rows if inner == outer else 0] = torch.from_numpy(bilinear_kernel(h)).to(weight.device)


def unfilled_upsampling(net: Net) -> list[str]:
    """Deconvolution layers that the prototxt gives no weight_filler: the ones that `interp` is for."""
    return [n.name for n in net.graph.nodes if n.type == "Deconvolution"
            and not n.op.layer.convolution_param.HasField("weight_filler") and n.op.dims == 2]
