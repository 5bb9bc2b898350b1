"""Pictures of boxes around objects."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from .pictures import INK, PAPER, Palette, Pixels, colours, photograph

Box = Sequence[float]  # class, x1, y1, x2, y2, score


def boxed(image: Pixels, boxes: Sequence[Box], palette: Palette, names: Sequence[str]) -> Image.Image:
    """An image with boxes in their classes' colours and each one's class and score; the surest on top.

    boxes: class, x1, y1, x2, y2, score each; in pixels from 0, both ends included; a score of NaN is not
    written. Images smaller than 300 pixels are enlarged by a whole factor.
    """
    below = photograph(image)
    factor, full = max(1, -(-300 // max(below.size))), colours(palette)
    page = ImageOps.scale(below, factor, Image.Resampling.NEAREST)
    draw, line = ImageDraw.Draw(page), max(3, round(max(page.size) / 300))
    font = ImageFont.load_default(max(11, round(max(page.size) / 50)))
    for number, *corners, score in sorted(boxes, key=lambda box: -1 if math.isnan(box[5]) else box[5]):
        colour = tuple(full[int(number)].tolist())
        x1, y1, x2, y2 = (float(at) * factor for at in corners)
        x2, y2 = x2 + factor - 1, y2 + factor - 1
        draw.rectangle((x1 - 1, y1 - 1, x2 + 1, y2 + 1), outline=PAPER, width=line + 2)
        draw.rectangle((x1, y1, x2, y2), outline=colour, width=line)
        text = names[int(number)] + ("" if math.isnan(score) else f" {score:.2f}")
        _tag(draw, text, (x1, y1), colour, font, page.width)
    return page


def _tag(draw: ImageDraw.ImageDraw, text: str, corner: tuple[float, float], colour: tuple[int, ...],
         font: ImageFont.ImageFont | ImageFont.FreeTypeFont, width: int) -> None:
    """A word at the upper left corner of a frame: above it where the picture has room, else in it."""
    *_, right, bottom = draw.textbbox((0, 0), text, font)
    wide, high = right + 4, bottom + 4
    x, y = max(0, min(corner[0], width - wide)), corner[1] - (high if corner[1] >= high else 0)
    draw.rectangle((x, y, x + wide - 1, y + high - 1), colour)
    bright = float(np.dot(colour, (0.299, 0.587, 0.114)))
    draw.text((x + 2, y + 1), text, INK if bright > 140 else PAPER, font)
