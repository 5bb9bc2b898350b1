"""The contact sheet of `data check`: images beside their labels, with what is wrong marked."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..base.metrics import VOID
from ..data.layouts import Images
from ..look import pictures
from .data import Finding, Part, Tops, read_tops

CELL, ROWS = 200, 8  # pixels of an image's width, images a column
MARK = (255, 0, 255)  # the colour of what is wrong


def contact_sheet(parts: Sequence[Part]) -> Image.Image:
    """Images beside their labels, those with findings before others.

    What is wrong has a frame, and its pixels are MARK.
    """
    seen = {VOID}
    columns: list[tuple[str, list[Image.Image]]] = []
    for part in parts:
        wide, chosen = shown([bool(item.findings) for item in part.items], len(parts))
        columns += beside(part.title, [_cell(part, index, seen) for index in chosen], wide)
    facts = next(iter(parts[0].labels.values()), parts[0].source.facts)
    legend = pictures.keys(np.array(sorted(seen)), facts.palette, facts.names)
    return pictures.sheet(columns, legend=[*legend, pictures.Key("not a class", MARK)])


def shown(wrong: Sequence[bool], parts: int) -> tuple[int, list[int]]:
    """How many columns a part of so many gets, and which images: those with findings before others."""
    wide = max(1, min(4 // parts, -(-len(wrong) // ROWS)))
    count = min(ROWS * wide, len(wrong))
    spread = np.linspace(0, len(wrong) - 1, count).astype(int).tolist()
    return wide, sorted(list(dict.fromkeys(np.flatnonzero(wrong)[:count].tolist() + spread))[:count])


def beside(title: str, cells: list[Image.Image], wide: int) -> list[tuple[str, list[Image.Image]]]:
    """Cells in so many columns."""
    cells = cells + [Image.new("RGB", (1, 1), pictures.PAPER)] * (ROWS * wide - len(cells))
    return [(title, cells[i * ROWS : (i + 1) * ROWS]) for i in range(wide)]


def _cell(part: Part, index: int, seen: set[int]) -> Image.Image:
    """An image, and it under its first labels' colours, above its name and first finding.

    Adds to the classes seen.
    """
    item, (tops, _) = part.items[index], read_tops(part.source, index)
    image = _image(part, tops)
    label = Image.new("RGB", image.size, pictures.RULE)  # grey if it cannot be read or has another size
    top, facts = next(iter(part.labels.items()), ("", part.source.facts))
    if top in tops and tops[top][1].shape == image.size[::-1]:
        pixels = tops[top][1]
        classes = np.isin(pixels, range(len(facts.names)))
        seen |= set(pixels[classes].tolist())
        coloured = np.array(pictures.colour(np.where(classes, pixels, VOID), facts.palette))
        coloured[~classes & (pixels != facts.void)] = MARK
        label = Image.blend(image, Image.fromarray(coloured), 0.7)
    return framed((image, label), part.source.names[index], item.findings)


def framed(halves: Sequence[Image.Image], name: str, findings: Sequence[Finding]) -> Image.Image:
    """Pictures side by side above a name and the first finding, in a frame where there is one."""
    height = max(1, min(2 * CELL, round(CELL * halves[0].height / halves[0].width)))
    cell = Image.new("RGB", (2 * CELL + 2, height + 18), pictures.PAPER)
    for i, half in enumerate(halves):
        cell.paste(half.resize((CELL, height), Image.Resampling.BILINEAR), (i * (CELL + 2), 0))
    draw = ImageDraw.Draw(cell)
    text = ": ".join([name, *dict(findings[:1])])
    draw.text((2, height + 2), text, pictures.INK, ImageFont.load_default(12))
    if findings:
        draw.rectangle((0, 0, cell.width - 1, height), outline=MARK, width=4)
    return cell


def _image(part: Part, tops: Tops) -> Image.Image:
    """The first three channels (or one) of the first image as fed, BGR, as a picture; grey if there is none.

    Numbers that are no bytes are stretched.
    """
    for name, (_, pixels) in tops.items():
        kind = part.source.layout.tops[name]
        if isinstance(kind, Images):
            seen = pixels[..., list(kind.order) or slice(None)][..., :3][..., ::-1]
            if seen.dtype != np.uint8:
                seen = (seen * (255 / max(np.percentile(seen, 99), 1e-6))).clip(0, 255).astype(np.uint8)
            return Image.fromarray(np.ascontiguousarray(np.broadcast_to(seen, (*seen.shape[:2], 3))))
    return Image.new("RGB", (CELL, CELL // 2), pictures.RULE)
