"""R-FCN's figures 3 and 4: a region, the position-sensitive score maps of a class, the votes of its bins."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .pictures import INK, PAPER, RULE, Pixels, photograph

LOW, HIGH, OWN = (180, 40, 30), (8, 69, 148), (240, 150, 20)  # scores below 0 and above; a bin's own place
SIDE, GAP, LETTERS = 320, 16, 15  # of an image and of a panel of maps, in pixels

Frame = tuple[float, float, float, float]


class Vote(NamedTuple):
    """A region (x1, y1, x2, y2 in pixels of the image, both ends included), and what the net says of it.

    maps: (k, k, H, W), of bin (i, j) in row i; pooled: (k, k), a bin's mean in its own map; words: below it.
    """

    region: Sequence[float]
    maps: np.ndarray
    pooled: np.ndarray
    words: str


def draw_votes(image: Pixels, votes: Sequence[Vote], stride: float) -> Image.Image:
    """A line for each region: image, maps, votes. Blue is above 0 and red below, as strong in all lines.

    stride: pixels of the image for a position of the maps. In each map the region is drawn, and its bin.
    """
    picture, most = photograph(image), max(1e-9, *(float(np.abs(vote.maps).max()) for vote in votes))
    high = round(SIDE * picture.height / picture.width)
    titles = "image and region", "score maps, one a bin", "mean of each bin in its map"
    tall = 2 * GAP + LETTERS + (high + 3 * LETTERS) * len(votes)
    page = Image.new("RGB", (3 * SIDE + 4 * GAP, tall), PAPER)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(LETTERS)
    for column, title in enumerate(titles):
        draw.text((GAP + column * (SIDE + GAP) + SIDE / 2, GAP + LETTERS / 2), title, INK, font, anchor="mm")
    for line, vote in enumerate(votes):
        y = 2 * GAP + LETTERS + line * (high + 3 * LETTERS)
        maps = _maps(vote, most, stride, picture.size, high)
        for column, panel in enumerate((_image(picture, vote, high), maps, _bins(vote, most, high))):
            page.paste(panel, (GAP + column * (SIDE + GAP) + (SIDE - panel.width) // 2, y))
        draw.text((2.5 * SIDE + 3 * GAP, y + high + LETTERS), vote.words, INK, font, anchor="mm")
    return page


def shade(values: np.ndarray, most: float) -> np.ndarray:
    """Scores as colours, uint8 (..., 3): white is 0, HIGH is `most`, LOW its negative."""
    share = np.clip(values / most, -1, 1)[..., None]
    full = np.where(share > 0, np.array(HIGH), np.array(LOW))
    return (255 + np.abs(share) * (full - 255) + 0.5).astype(np.uint8)


def _image(picture: Image.Image, vote: Vote, high: int) -> Image.Image:
    scale = SIDE / picture.width
    panel = picture.resize((SIDE, high), Image.Resampling.BILINEAR)
    frame, draw = _scaled(vote.region, scale), ImageDraw.Draw(panel)
    k = len(vote.pooled)
    for bound in (_bin(frame, i, j, k) for i in range(k) for j in range(k)):
        draw.rectangle(bound, outline=PAPER)
    draw.rectangle(frame, outline=OWN, width=3)
    return panel


def _maps(vote: Vote, most: float, stride: float, size: tuple[int, int], high: int) -> Image.Image:
    """The k x k maps, each the whole image's."""
    k = len(vote.maps)
    wide, tall = (SIDE - 4 * (k - 1)) // k, (high - 4 * (k - 1)) // k
    panel = Image.new("RGB", (SIDE, high), PAPER)
    for i in range(k):
        for j in range(k):
            seen = vote.maps[i, j][: max(1, round(size[1] / stride)), : max(1, round(size[0] / stride))]
            each = Image.fromarray(shade(seen, most)).resize((wide, tall), Image.Resampling.NEAREST)
            draw, frame = ImageDraw.Draw(each), _scaled(vote.region, wide / size[0])
            draw.rectangle(frame, outline=RULE)
            draw.rectangle(_bin(frame, i, j, k), outline=OWN, width=2)
            draw.rectangle((0, 0, wide - 1, tall - 1), outline=RULE)
            panel.paste(each, (j * (wide + 4), i * (tall + 4)))
    return panel


def _bins(vote: Vote, most: float, high: int) -> Image.Image:
    """The votes, as strong as they are, with their numbers where there is room."""
    k, side = len(vote.pooled), min(SIDE, high) // len(vote.pooled)
    panel = Image.new("RGB", (side * k + 1, side * k + 1), PAPER)
    draw, font = ImageDraw.Draw(panel), ImageFont.load_default(min(LETTERS, side // 3))
    for i in range(k):
        for j in range(k):
            value, x, y = float(vote.pooled[i, j]), j * side, i * side
            colour = shade(vote.pooled[i, j], most)
            draw.rectangle((x, y, x + side, y + side), tuple(colour.tolist()), RULE)
            ink = PAPER if abs(value) > most / 2 else INK
            draw.text((x + side / 2, y + side / 2), f"{round(value, 1) + 0:.1f}", ink, font, anchor="mm")
    return panel


def _scaled(region: Sequence[float], scale: float) -> Frame:
    x1, y1, x2, y2 = region
    return x1 * scale, y1 * scale, (x2 + 1) * scale - 1, (y2 + 1) * scale - 1


def _bin(frame: Frame, i: int, j: int, k: int) -> Frame:
    x1, y1, x2, y2 = frame
    wide, tall = (x2 - x1) / k, (y2 - y1) / k
    return x1 + j * wide, y1 + i * tall, x1 + (j + 1) * wide, y1 + (i + 1) * tall
