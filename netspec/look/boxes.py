"""Pictures of boxes around objects."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from .pictures import INK, PAPER, Palette, Pixels, colours, photograph

Box = Sequence[float]  # class, x1, y1, x2, y2, score
Frame = tuple[float, float, float, float]


def boxed(image: Pixels, boxes: Sequence[Box], palette: Palette, names: Sequence[str]) -> Image.Image:
    """An image with boxes in their classes' colours and each one's class and score; the surest on top.

    boxes: class, x1, y1, x2, y2, score each; in pixels from 0, both ends included; a score of NaN is not
    written. Images smaller than 300 pixels are enlarged by a whole factor. Words never hide each other: of a
    box around which there is no room for its own, they are left out.
    """
    below = photograph(image)
    factor, full = max(1, -(-300 // max(below.size))), colours(palette)
    page = ImageOps.scale(below, factor, Image.Resampling.NEAREST)
    draw, line = ImageDraw.Draw(page), max(3, round(max(page.size) / 300))
    font = ImageFont.load_default(max(11, round(max(page.size) / 50)))
    frames, words = list[Frame](), list[str]()
    boxes = sorted(boxes, key=lambda box: 1.0 if math.isnan(box[5]) else -box[5])
    for number, *corners, score in boxes:
        x1, y1, x2, y2 = (float(at) * factor for at in corners)
        frames.append((x1, y1, x2 + factor - 1, y2 + factor - 1))
        words.append(names[int(number)] + ("" if math.isnan(score) else f" {score:.2f}"))
    shades = [tuple(full[int(box[0])].tolist()) for box in boxes]
    for (x1, y1, x2, y2), colour in zip(reversed(frames), reversed(shades), strict=True):
        draw.rectangle((x1 - 1, y1 - 1, x2 + 1, y2 + 1), outline=PAPER, width=line + 2)
        draw.rectangle((x1, y1, x2, y2), outline=colour, width=line)
    spans = [draw.textbbox((0, 0), text, font) for text in words]
    sizes = [(right + 4, bottom + 4) for *_, right, bottom in spans]
    for text, size, at, colour in zip(words, sizes, placed(frames, sizes, page.size), shades, strict=True):
        if at:
            _tag(draw, text, at, size, colour, font)
    return page


def placed(frames: Sequence[Frame], sizes: Sequence[tuple[float, float]], page: tuple[int, int]
           ) -> list[tuple[float, float] | None]:
    """Where the upper left corners of the frames' words go on a page (width, height), so that none hides
    another's: the first of a frame's places that is free; None where none is. The first frames choose first.

    frames: x1, y1, x2, y2. sizes: width and height of each one's words.
    """
    taken, found = list[Frame](), list[tuple[float, float] | None]()
    for (x1, y1, x2, y2), (wide, high) in zip(frames, sizes, strict=True):
        places = ((max(0.0, min(x, page[0] - wide)), y)
                  for y in (y1 - high, y1, y2 + 1, y2 + 1 - high)  # above it, in it, below it, in it
                  for x in (x1, x2 + 1 - wide, (x1 + x2 + 1 - wide) / 2))
        free = (at for at in places if 0 <= at[1] <= page[1] - high and not any(
            at[0] < right and left < at[0] + wide and at[1] < bottom and top < at[1] + high
            for left, top, right, bottom in taken))
        found.append(at := next(free, None))
        if at:
            taken.append((*at, at[0] + wide, at[1] + high))
    return found


def _tag(draw: ImageDraw.ImageDraw, text: str, at: tuple[float, float], size: tuple[float, float],
         colour: tuple[int, ...], font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> None:
    """A word on a ground of a colour."""
    (x, y), (wide, high) = at, size
    draw.rectangle((x, y, x + wide - 1, y + high - 1), colour)
    bright = float(np.dot(colour, (0.299, 0.587, 0.114)))
    draw.text((x + 2, y + 1), text, INK if bright > 140 else PAPER, font)
