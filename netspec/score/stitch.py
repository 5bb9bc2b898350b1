"""Dense prediction without upsampling (section 3.2): shift-and-stitch, and the rarefied net that computes the same at once."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from ..base.errors import Error, closest
from ..net.fields import fields
from ..net.module import Net
from ..net.rewrite import pointwise
from ..ops.conv import geometry
from ..proto import caffe_pb2


def shift_and_stitch(net: Net, image: Tensor, blob: str, factor: int, step: int = 1) -> Tensor:
    """A blob `factor` times as fine along both axes: computed for each of factor x factor shifts of the image, interlaced.

    image: N x C x H x W, for a net with this one input. Shift (y, x) leaves out the first y * step rows and x * step columns
    of pixels, y and x in 0..factor-1; its cells (i, j) become cells (i * factor + y, j * factor + x). The stride of the
    blob, in pixels, should be factor * step. Cells that padding reaches differ from shift to shift in how far it reaches.
    Raises Error for a net of several inputs, a blob that is no map, and images too small.
    """
    if factor < 1 or step < 1:
        raise Error(f"factor and step must be at least 1, found {factor} and {step}")
    if len(net.graph.inputs) != 1:
        raise Error(f"net '{net.graph.name}' has the inputs {', '.join(net.graph.inputs)}; only a net of one is shifted")
    parts = {}
    for y in range(factor):
        for x in range(factor):
            shifted = image[..., y * step :, x * step :]
            parts[y, x] = net({net.graph.inputs[0]: shifted}, want=[blob])[blob]
            if parts[y, x].ndim != 4:
                raise Error(f"blob '{blob}' has shape {list(parts[y, x].shape)}; only N x C x H x W can be stitched")
    # what every shift has: a shift that has one cell less than the first ends the stitched map
    high = min(part.shape[2] * factor + y for (y, _), part in parts.items())
    wide = min(part.shape[3] * factor + x for (_, x), part in parts.items())
    first = parts[0, 0]
    out = first.new_empty(*first.shape[:2], high, wide)
    for (y, x), part in parts.items():
        place = out[..., y::factor, x::factor]
        place.copy_(part[..., : place.shape[2], : place.shape[3]])
    return out


class Stitched:
    """A net whose scores are stitched from the shifts of the image and laid on it bilinearly, for scoring.score.

    net: the net with its data; deploy: a net of the image alone with the same weights. factor: how much finer.
    """

    losses: Mapping[str, float] = {}

    def __init__(self, net: Net, deploy: Net, factor: int, blob: str = "score_fr") -> None:
        self.graph, self.device, self.deploy, self.factor, self.blob = net.graph, net.device, deploy, factor, blob
        known = fields(deploy.graph)
        self.fields = known[max((v for v in known if v.blob == blob), key=lambda v: v.version)]

    def __call__(self, inputs: Mapping[str, Tensor], want: Sequence[str]) -> dict[str, Tensor]:
        image = inputs[self.deploy.graph.inputs[0]]
        cells = shift_and_stitch(self.deploy, image, self.blob, self.factor, int(self.fields[0].stride) // self.factor)
        at = []  # of each pixel along each axis, on the map of cells from -1 to 1
        for field, pixels, count in zip(self.fields, image.shape[2:], cells.shape[2:], strict=True):
            middle = float(field.first + (field.extent - 1) / 2)
            cell = (torch.arange(pixels, device=image.device) - middle) / (float(field.stride) / self.factor)
            at.append(2 * cell / max(count - 1, 1) - 1)
        grid = torch.stack(torch.meshgrid(*at, indexing="ij")[::-1], -1).expand(len(image), -1, -1, -1)
        return {want[0]: grid_sample(cells, grid, padding_mode="border", align_corners=True)}

    def loss(self, blobs: Mapping[str, Tensor]) -> Tensor:
        return torch.zeros(())


def rarefy(net: Any, layer: str) -> Any:
    """The NetParameter with a pooling's or convolution's stride 1, and the convolutions behind it dilated by that stride.

    Its outputs are stride times as fine, and are what shift_and_stitch interlaces (the paper's enlarged filter with zeros).
    Raises Error for a layer that is not there or has no stride, and where a layer behind it has no dilated form: in Caffe
    convolutions alone have one.
    """
    new = caffe_pb2.NetParameter.FromString(net.SerializeToString())
    found = next((x for x in new.layer if x.name == layer), None)
    if found is None:
        raise Error(f"net '{net.name}' has no layer '{layer}'{closest(layer, [x.name for x in new.layer])}")
    if found.type not in ("Convolution", "Pooling"):
        raise Error(f"layer '{layer}' is of type {found.type}; a Convolution or Pooling has a stride")
    own = found.convolution_param if found.type == "Convolution" else found.pooling_param
    _, stride, _, _ = geometry(own, 2)
    if stride == (1, 1):
        raise Error(f"layer '{layer}' has stride 1 already")
    for field in ("stride", "stride_h", "stride_w"):
        own.ClearField(field)
    fine: set[str] = set()  # blobs on the finer grid
    for x in new.layer:
        touched = [blob in fine for blob in x.bottom]
        if x.name == layer:
            fine.update(x.top)
        elif x.type == "Convolution" and any(touched):
            _dilate(x.convolution_param, stride)
            fine.update(x.top)
        elif all(touched) and touched and pointwise(x):
            fine.update(x.top)
        elif any(touched):
            why = ("joins it with blobs that are not finer" if not all(touched) else
                   "is fully connected; make the net convolutional first (netspec convert fcn)" if x.type == "InnerProduct"
                   else "has no dilated form in Caffe; rarefy a layer behind it, or shift and stitch")
            raise Error(f"layer '{x.name}' ({x.type}) reads what layer '{layer}' makes, and {why}")
    return new


def _dilate(p: Any, factor: tuple[int, int]) -> None:
    """Spread a convolution's taps, and its padding with them."""
    _, _, pad, dilation = geometry(p, 2)
    for field in ("pad", "pad_h", "pad_w", "dilation"):
        p.ClearField(field)
    for field, values in (("pad", pad), ("dilation", dilation)):
        scaled = [v * f for v, f in zip(values, factor, strict=True)]
        getattr(p, field).extend(scaled[:1] if len(set(scaled)) == 1 else scaled)
