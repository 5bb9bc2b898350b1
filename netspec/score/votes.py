"""The votes of a region's bins, as R-FCN's figures 3 and 4 show them, of any net with such maps."""

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from ..base.errors import Error
from ..look.maps import Vote, draw_votes
from ..net.graph import Graph, Node
from ..ops.regions import PSROIPooling
from .objects import BoxFinder
from .predict import Looks


def voting(made: Graph, scores: str) -> Node:
    """The layer whose bins vote for a blob of scores; Error if there is none."""
    blob = scores
    for node in reversed(made.nodes):
        if blob in (top.blob for top in node.tops):
            if isinstance(node.op, PSROIPooling):
                return node
            blob = node.bottoms[0].blob
    raise Error(f"net '{made.name}': '{scores}' follows from no PSROIPooling: there are no maps, a bin each")


def drawn(finder: BoxFinder, name: str, image: Image.Image, looks: Looks, number: int | None = None,
          regions: Sequence[Sequence[float]] = ()) -> Image.Image:
    """A class's votes in regions (x1, y1, x2, y2 in pixels of the image) of a picture.

    Without regions: in the one that the net proposes and is surest of, and in the same moved by half its
    width. Without a class: the one that the net is surest of.
    """
    node, (rois, scores, _) = voting(finder.net.graph, finder.reader.blobs[1]), finder.reader.blobs
    layer = node.op.layer.psroi_pooling_param
    with finder.working(name, image):
        inputs, scale = finder.blobs(image)
        maps = node.bottoms[0].blob
        found = finder.looking(inputs, [maps, rois, scores])
        odds = found[scores].float().flatten(1)[:, 1:]
        if not len(odds):
            raise Error(f"image {name}: the net proposes no region")
        column = int(odds.amax(0).argmax()) if number is None else number - 1
        best = found[rois][int(odds[:, column].argmax()), 1:5] / scale
        chosen = torch.tensor(regions) if len(regions) else torch.stack([best, _moved(best, image.width)])
        given = torch.cat([torch.zeros(len(chosen), 1), chosen.cpu() * scale], 1).to(found[maps].device)
        pooled = node.op.forward([found[maps], given], [])
    assert isinstance(pooled, Tensor)
    probability = pooled.float().mean((2, 3)).softmax(1)
    k, row, label = layer.group_size, column + 1, looks.names[column + 1]
    own = found[maps][0].float().unflatten(0, (-1, k, k))[row].cpu().numpy()
    votes = [Vote(region, own, bins.float().cpu().numpy(),
                  f"{label}: mean {float(bins.mean()):.2f}, probability {float(odd):.2f}")
             for region, bins, odd in zip(chosen.tolist(), pooled[:, row], probability[:, row], strict=True)]
    return draw_votes(image, votes, 1 / layer.spatial_scale / scale)


def _moved(region: Tensor, width: int) -> Tensor:
    """A region moved by half its width to the side with more room."""
    half = (region[2] - region[0] + 1) / 2
    way = half if width - 1 - region[2] > region[0] else -half
    return region + way * torch.tensor([1.0, 0, 1, 0], device=region.device)
