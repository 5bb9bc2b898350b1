"""Dense prediction without upsampling (section 3.2): the stitched outputs of shifted images."""

from collections.abc import Mapping, Sequence
from itertools import product

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from ..base.errors import Error
from ..net.fields import fields
from ..net.module import Net
from ..net.plan import Plan


def shift_and_stitch(net: Net | Plan, image: Tensor, blob: str, factor: int, step: int = 1) -> Tensor:
    """A blob `factor` times as fine along both axes: of factor x factor shifts of the image, interlaced.

    image: N x C x H x W, for a net with this one input. Shift (y, x) leaves out the first y * step rows and
    x * step columns of pixels, y and x in 0..factor-1; its cells (i, j) become cells (i * factor + y,
    j * factor + x). The stride of the blob, in pixels, should be factor * step. Cells that padding reaches
    differ from shift to shift in how far it reaches. Raises Error for a net of several inputs, a blob that is
    no map, and images too small.
    """
    if factor < 1 or step < 1:
        raise Error(f"factor and step must be at least 1, found {factor} and {step}")
    if len(net.graph.inputs) != 1:
        raise Error(f"net '{net.graph.name}' has the inputs {', '.join(net.graph.inputs)}; "
                    "only a net of one is shifted")
    parts = {}
    for y, x in product(range(factor), repeat=2):
        shifted = image[..., y * step :, x * step :]
        found = parts[y, x] = net({net.graph.inputs[0]: shifted}, want=[blob])[blob]
        if found.ndim != 4:
            raise Error(f"blob '{blob}' has shape {list(found.shape)}; only N x C x H x W can be stitched")
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
    """A net whose scores are stitched from shifts of the image and laid on it bilinearly, to be scored.

    net: the net with its data; deploy: a net of the image alone with the same weights. factor: how much
    finer.
    """

    losses: Mapping[str, float] = {}

    def __init__(self, net: Net, deploy: Net | Plan, factor: int, blob: str = "score_fr") -> None:
        self.graph, self.device, self.deploy = net.graph, net.device, deploy
        self.factor, self.blob = factor, blob
        known = fields(deploy.graph)
        self.fields = known[max((v for v in known if v.blob == blob), key=lambda v: v.version)]

    def __call__(self, inputs: Mapping[str, Tensor], want: Sequence[str]) -> dict[str, Tensor]:
        image = inputs[self.deploy.graph.inputs[0]]
        step = int(self.fields[0].stride) // self.factor
        cells = shift_and_stitch(self.deploy, image, self.blob, self.factor, step)
        at = []  # of each pixel along each axis, on the map of cells from -1 to 1
        for field, pixels, count in zip(self.fields, image.shape[2:], cells.shape[2:], strict=True):
            middle = float(field.first + (field.extent - 1) / 2)
            cell = (torch.arange(pixels, device=image.device) - middle) / (float(field.stride) / self.factor)
            at.append(2 * cell / max(count - 1, 1) - 1)
        grid = torch.stack(torch.meshgrid(*at, indexing="ij")[::-1], -1).expand(len(image), -1, -1, -1)
        return {want[0]: grid_sample(cells, grid, padding_mode="border", align_corners=True)}
