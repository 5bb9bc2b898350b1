"""Maps of probabilities drawn over the picture that they are of."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from ..base.errors import Error
from .pictures import INK, PAPER, RULE, Pixels, letters, photograph

# what 0, 1/5, ... 1 look like: lighter all the way, so that it can be read in grey too
RAMP = np.array([(10, 8, 40), (84, 20, 110), (170, 42, 95), (232, 94, 48), (250, 170, 30), (255, 250, 170)],
                np.float32)
SMALLEST = 300  # pixels of the longer side, which smaller pictures are enlarged to by a whole factor


def shades(shares: np.ndarray) -> np.ndarray:
    """Numbers from 0 to 1 (...) as colours, float32 (..., 3), 0 to 255; those outside count as 0 or 1."""
    at = np.clip(shares, 0, 1) * (len(RAMP) - 1)
    low = np.minimum(at.astype(int), len(RAMP) - 2)
    return RAMP[low] + (RAMP[low + 1] - RAMP[low]) * (at - low)[..., None].astype(np.float32)


def heat(image: Pixels, shares: np.ndarray, alpha: float = 0.55) -> Image.Image:
    """The image in grey under the colours of a map (H, W), 0 to 1, of the same size.

    alpha: share of the colours, 0 to 1. Images smaller than SMALLEST are enlarged by a whole factor. Raises
    Error if the sizes differ.
    """
    below = photograph(image)
    if below.size != shares.shape[::-1]:
        raise Error(f"the map is {shares.shape[1]} x {shares.shape[0]} for an image of {below.width} x "
                    f"{below.height}")
    grey = np.asarray(below.convert("L"), np.float32)[..., None]
    mixed = Image.fromarray((grey * (1 - alpha) + shades(shares) * alpha + 0.5).astype(np.uint8))
    return enlarged(mixed)


def enlarged(image: Pixels) -> Image.Image:
    """An image as large as `heat` makes it."""
    whole = photograph(image)
    return ImageOps.scale(whole, max(1, -(-SMALLEST // max(whole.size))), Image.Resampling.NEAREST)


def with_legend(picture: Image.Image, title: str, alpha: float = 0.55) -> Image.Image:
    """A picture above its title and the colours of 0 to 1 as `heat` mixes them with a middle grey."""
    size = letters(picture.size)
    font, pad = ImageFont.load_default(size), max(8, size // 2)
    bar = min(8 * size, picture.width // 3)
    needed = int(font.getlength(f"{title}  0  1")) + bar + 4 * pad
    page = Image.new("RGB", (max(picture.width, needed), picture.height + size + 2 * pad), PAPER)
    page.paste(picture, ((page.width - picture.width) // 2, 0))
    draw, middle = ImageDraw.Draw(page), picture.height + pad + size / 2
    draw.text((pad, middle), title, INK, font, anchor="lm")
    right = page.width - pad - int(font.getlength(" 1"))
    colours = (shades(np.linspace(0, 1, bar)) * alpha + 128 * (1 - alpha) + 0.5).astype(np.uint8)
    page.paste(Image.fromarray(colours[None].repeat(size, 0)), (right - bar, picture.height + pad))
    draw.rectangle((right - bar, picture.height + pad, right - 1, picture.height + pad + size - 1),
                   outline=RULE)
    draw.text((right - bar, middle), "0 ", INK, font, anchor="rm")
    draw.text((right, middle), " 1", INK, font, anchor="lm")
    return page
