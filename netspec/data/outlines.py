"""From outlines, run lengths and small bitmaps to masks, each by the rule of the tool that draws them.

Every function takes a picture's size (width, height) and gives a bool array (height, width). Points are
pixels from the picture's upper left corner, float (N, 2), x before y; what lies outside of the picture is cut
off.
"""

import base64
import binascii
import io
import math
import re

import numpy as np
from PIL import Image, ImageDraw

from ..base.errors import Error
from .images import DAMAGE

Size = tuple[int, int]

FINE = 5  # COCO walks along outlines on a grid so many times as fine as the pixels


def points(value: object, size: Size, where: str, least: int = 1) -> np.ndarray:
    """Coordinates out of a file, float (N, 2), from pairs [x, y] or, as COCO has them, x, y, x, y, ...

    Raises Error, beginning with `where`, for what are no finite numbers, for fewer than `least` points, and
    for points that lie farther outside of the picture than it is large: they belong to a larger one.
    """
    flat = value if isinstance(value, list) else []
    if flat and all(isinstance(pair, list) and len(pair) == 2 for pair in flat):
        flat = [number for pair in flat for number in pair]
    if not flat or len(flat) % 2 or not all(type(number) in (int, float) for number in flat):
        raise Error(f"{where}: expected points, two numbers each, found {_short(value)}")
    far = max(size)
    for number in flat:
        if not (math.isfinite(number) if isinstance(number, float) else abs(number) < 1 << 31):
            raise Error(f"{where}: a coordinate is {_short(number)}, expected a finite number")
    found = np.array(flat, np.float64).reshape(-1, 2)
    if len(found) < least:
        raise Error(f"{where}: has {len(found)} points, expected at least {least}")
    beyond = np.maximum(-found, found - size).max(1)
    if beyond.max() > far:
        x, y = found[beyond.argmax()]
        raise Error(f"{where}: the point {x:g}, {y:g} lies far outside of the picture of {size[0]}x{size[1]} "
                    "pixels; was it drawn on a larger one?")
    return found


def outside(found: np.ndarray, size: Size) -> bool:
    """Whether points lie outside of the picture, so that something is cut off."""
    return bool((found < 0).any() or (found > size).any())


def drawn(kind: str, found: np.ndarray, size: Size) -> np.ndarray:
    """A polygon, rectangle or circle (its middle and a point on it) as labelme draws it: by Pillow."""
    image = Image.new("L", size)
    pen, line = ImageDraw.Draw(image), [(x, y) for x, y in found.tolist()]
    if kind == "rectangle":
        low, high = found.min(0).tolist(), found.max(0).tolist()
        pen.rectangle((*low, *high), fill=1, outline=1)
    elif kind == "circle":
        (x, y), radius = line[0], math.dist(line[0], line[1])
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=1, outline=1)
    else:
        pen.polygon(line, fill=1, outline=1)
    return np.asarray(image).astype(bool)


def coco_polygon(found: np.ndarray, size: Size) -> np.ndarray:
    """A polygon as pycocotools draws it, to the pixel: about the pixels whose middles lie inside.

    The outline is walked along the finer grid. Where it steps over the middle of a column of pixels, all
    pixels of the column from there on change sides.
    """
    width, height = size
    start = (FINE * found + 0.5).astype(np.int64)  # rounds towards 0, as C does
    x, y = np.concatenate([_walk(*ends) for ends in zip(start, np.roll(start, -1, 0), strict=True)], 1)
    crossed = np.flatnonzero(x[1:] != x[:-1])
    column = (np.minimum(x[crossed], x[crossed + 1]) + 0.5) / FINE - 0.5
    row = np.ceil(((np.minimum(y[crossed], y[crossed + 1]) + 0.5) / FINE - 0.5).clip(0, height)).astype(int)
    middle = (column == np.floor(column)) & (column >= 0) & (column <= width - 1)
    mask = np.zeros((height + 1, width), bool)
    row, column = row[middle], column[middle].astype(int)
    if len(row):
        np.logical_xor.at(mask, (row, column), True)
        part = mask[row.min() : row.max() + 1, column.min() : column.max() + 1]
        np.logical_xor.accumulate(part, 0, out=part)
    return mask[:height]


def _walk(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """The points (2, N) of the finer grid on an edge: every step of its longer axis, counted from below."""
    along = int(abs(end[0] - start[0]) < abs(end[1] - start[1]))
    low, high = (start, end) if start[along] <= end[along] else (end, start)
    steps = np.arange(high[along] - low[along] + 1)
    slope = (high - low)[1 - along] / max(len(steps) - 1, 1)
    walk = np.empty((2, len(steps)), np.int64)
    walk[along], walk[1 - along] = low[along] + steps, low[1 - along] + slope * steps + 0.5
    return walk if low is start else walk[:, ::-1]


def run_lengths(counts: object, size: Size, where: str) -> np.ndarray:
    """COCO's run lengths, a list or a packed string: how many pixels are out, in, out, ..., by columns."""
    width, height = size
    runs = _unpacked(counts, where) if isinstance(counts, str) else counts
    if not (isinstance(runs, list) and all(type(run) is int for run in runs)):
        raise Error(f"{where}: expected run lengths, whole numbers or a string, found {_short(runs)}")
    if min(runs, default=-1) < 0 or sum(runs) != width * height:
        raise Error(f"{where}: the run lengths make {sum(runs)} pixels, expected {width * height} of the "
                    f"picture of {width}x{height}, and none below 0")
    inside = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return inside.reshape(width, height).T


def _unpacked(text: str, where: str) -> list[int]:
    """The numbers of a packed string.

    Each character has 5 bits, the lowest come first; from the fourth number on they are added to the last but
    one.
    """
    runs: list[int] = []
    value = shift = 0
    for letter in text:
        bits = ord(letter) - 48
        if not 0 <= bits < 64 or shift > 60:
            raise Error(f"{where}: the run lengths are damaged: '{letter}' at number {len(runs) + 1}")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:  # the number's last
            value -= (bits & 16 and 1) << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    if shift:
        raise Error(f"{where}: the run lengths end in the middle of a number")
    return runs


def bitmap(data: str, size: Size, where: str) -> np.ndarray:
    """A mask (H, W), of its own size, from a PNG in base64.

    Raises Error for damaged ones, and for those larger than the picture.
    """
    try:
        raw = base64.b64decode(re.sub(r"\s", "", data), validate=True)
        with Image.open(io.BytesIO(raw), formats=["PNG"]) as image:
            if image.width > size[0] or image.height > size[1]:
                raise Error(f"{where}: the bitmap is {image.width}x{image.height}, larger than its picture "
                            f"of {size[0]}x{size[1]}")
            return np.asarray(image.convert("RGB")).max(2) > 0
    except (binascii.Error, *DAMAGE) as error:
        raise Error(f"{where}: the bitmap cannot be read: {error}") from None


def placed(mask: np.ndarray, left: int, top: int, size: Size) -> np.ndarray:
    """A small mask (H, W) put into the picture; what does not fit is cut off."""
    width, height = size
    whole = np.zeros((height, width), bool)
    part = mask[max(-top, 0) : max(height - top, 0), max(-left, 0) : max(width - left, 0)]
    x, y = max(left, 0), max(top, 0)
    whole[y : y + part.shape[0], x : x + part.shape[1]] = part
    return whole


def _short(value: object) -> str:
    """A value as messages show it, in one short line."""
    text = str(value)[:200] if isinstance(value, str | float) else type(value).__name__
    if isinstance(value, int):
        text = str(value) if abs(value) < 1 << 40 else "a huge number"
    if isinstance(value, list):
        text = f"a list of {len(value)}"
    return text if len(text) < 60 else f"{text[:57]}..."
