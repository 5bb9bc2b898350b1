"""Inside a net: the kernels of a layer and the channels of a blob, as sheets of small pictures."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from ..base.errors import Error, listed
from ..net.module import Net
from .pictures import PAPER, photograph, sheet

MOST_KERNELS, MOST_CHANNELS = 512, 256  # tiles of a sheet
FEW = 64  # outputs that are shown with some inputs each, where not all pairs have room
SMALLEST, LARGEST = 56, 160  # pixels of the longer side of a tile


def draw_kernels(net: Net, layer: str) -> tuple[Image.Image, str]:
    """The kernels of a layer, a convolution or deconvolution, and in words which are there.

    Those that read an image of three channels are in colour, a tile for each output, B, G, R shown as such;
    else a grey tile is one output's for one input, under the numbers of both (of a deconvolution the input
    comes first). 0 is the middle grey, black and white are what is farthest from it in the sheet.
    Raises Error for a layer that is not there or has no kernels, and for NaN.
    """
    node = net.graph.node(layer)
    if not node.params or len(node.params[0].shape) != 4:
        having = [n.name for n in net.graph.nodes if n.params and len(n.params[0].shape) == 4]
        raise Error(f"layer '{layer}' ({node.type}) has no kernels; these have some: {listed(having)}")
    weight = net.parameter(node.params[0]).detach().float().cpu().numpy()
    _check(weight, f"the kernels of layer '{layer}'")
    (many, deep), size = weight.shape[:2], " x ".join(map(str, weight.shape[2:]))
    coloured = deep == 3 and node.bottoms[0].blob in net.graph.inputs
    if coloured:
        shown = weight[:MOST_KERNELS, ::-1].transpose(0, 2, 3, 1)
        names = [str(i) for i in range(len(shown))]
        across = _side(len(shown))
        words = f"{_of(len(shown), many)} kernels {size} of '{layer}', in colour"
    else:
        rows = min(many, max(FEW, MOST_KERNELS // deep))
        columns = min(deep, max(1, MOST_KERNELS // rows))
        shown = weight[:rows, :columns].reshape(-1, *weight.shape[2:])
        names = [f"{i},{j}" for i in range(rows) for j in range(columns)]
        side = _side(len(shown))
        across = columns * max(1, side // columns) if columns <= 2 * side else side
        words = f"{_of(rows, many)} x {_of(columns, deep)} kernels {size} of '{layer}'"
    most = max(float(np.abs(shown).max()), 1e-30)
    tiles = list(np.rint(127.5 + 127.5 * (shown / most)).astype(np.uint8))
    return _tiled(tiles, names, across), words


def draw_channels(maps: np.ndarray, blob: str) -> tuple[Image.Image, str]:
    """The channels of a blob (C, H, W), each under its number, in grey from its own least to its own most,
    in their order; and in words which are there: of more than MOST_CHANNELS those whose numbers are largest,
    signs apart, in the mean. Raises Error for NaN."""
    _check(maps, f"blob '{blob}'")
    many, height, width = maps.shape
    strength = np.abs(maps).mean((1, 2), dtype=np.float64)
    chosen = sorted(np.argsort(-strength, kind="stable")[:MOST_CHANNELS].tolist())
    low, high = (each[chosen, None, None] for each in (maps.min((1, 2)), maps.max((1, 2))))
    shares = (maps[chosen] - low) / np.maximum(high - low, 1e-30)
    tiles = list(np.rint(255 * shares).astype(np.uint8))
    words = f"{_of(len(chosen), many)} channels {height} x {width} of '{blob}'"
    words += ", the strongest" * (len(chosen) < many)
    return _tiled(tiles, list(map(str, chosen)), _side(len(tiles))), words


def _check(numbers: np.ndarray, what: str) -> None:
    if not np.isfinite(numbers).all():
        raise Error(f"{what}: numbers that are not finite; 'netspec doctor NET WEIGHTS' says where they come "
                    "from")


def _of(shown: int, all_: int) -> str:
    return f"{shown}" if shown == all_ else f"{shown} of {all_}"


def _side(many: int) -> int:
    return math.ceil(math.sqrt(many))


def _tiled(tiles: Sequence[np.ndarray], names: Sequence[str], across: int) -> Image.Image:
    """Small pictures row by row, so many in a row, each above its name, enlarged by a whole factor or made
    smaller to a size that can be looked at."""
    high, wide = tiles[0].shape[:2]
    side = max(high, wide)
    factor = max(1, -(-SMALLEST // side)) if side <= LARGEST else LARGEST / side
    way = Image.Resampling.NEAREST if factor >= 1 else Image.Resampling.BILINEAR
    size = max(1, round(wide * factor)), max(1, round(high * factor))
    cells = []
    for tile in tiles:
        cell = Image.new("RGB", (max(SMALLEST, size[0]), size[1]), PAPER)  # as wide as the name needs
        cell.paste(photograph(tile).resize(size, way), ((cell.width - size[0]) // 2, 0))
        cells.append(cell)
    blank = -len(cells) % across
    cells += [Image.new("RGB", (1, 1), PAPER)] * blank
    texts = [*names, *[""] * blank]
    return sheet([("", cells[i::across], texts[i::across]) for i in range(across)], smallest=1)
