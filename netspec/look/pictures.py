"""Pictures of pixels: label images in class colours, overlays, sheets of images side by side."""

import os
import zlib
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from ..base.errors import Error
from ..base.files import writing
from ..base.metrics import VOID
from ..data.layouts import VOID_COLOUR

PAPER, INK, RULE = (255, 255, 255), (40, 40, 40), (150, 150, 150)
MOST_LETTERS = 1 << 10  # pixels: fonts have no letters of any size

Pixels = Image.Image | np.ndarray  # an array is (H, W, 3), RGB, or (H, W)
Palette = np.ndarray | Sequence[Sequence[int]]


class Key(NamedTuple):
    """One entry of a legend."""

    name: str
    colour: tuple[int, int, int]


def colours(palette: Palette) -> np.ndarray:
    """A palette of n colours as uint8 (256, 3): black from n on, and void's colour at 255."""
    palette = np.asarray(palette, np.uint8).reshape(-1, 3)[:VOID]
    full = np.zeros((256, 3), np.uint8)
    full[: len(palette)] = palette
    full[VOID] = VOID_COLOUR
    return full


def colour(labels: np.ndarray, palette: Palette) -> Image.Image:
    """Class numbers (H, W), 0 to 255, as an RGB image."""
    return Image.fromarray(colours(palette)[_labels(labels)])


def save_labels(path: str | os.PathLike, labels: np.ndarray, palette: Palette) -> None:
    """Write class numbers (H, W), 0 to 255, as a PNG of indices with a palette, as VOC's are."""
    image = Image.fromarray(_labels(labels))
    image.putpalette(colours(palette).tobytes())
    save(path, image)


def save(path: str | os.PathLike, image: Image.Image) -> None:
    """Write a PNG, whole or not at all."""
    # run lengths of photographs under colours take a fifth of the time that zlib's default does, for 2 % more
    how = {} if image.mode == "P" else {"compress_type": zlib.Z_RLE}
    with writing(path) as file:
        image.save(file, format="PNG", **how)


def keys(labels: np.ndarray, palette: Palette, names: Sequence[str]) -> list[Key]:
    """The legend of the classes present in labels (any shape), void last; numbers where names end."""
    known = {**dict(enumerate(names)), VOID: "void"}
    full = colours(palette).tolist()
    return [Key(known.get(i, f"class {i}"), tuple(full[i])) for i in np.unique(labels).tolist()]


def overlay(image: Pixels, labels: np.ndarray, palette: Palette, names: Sequence[str],
            alpha: float = 0.55, shown: Collection[int] | None = None) -> Image.Image:
    """The image under its labels' colours, classes outlined, above a legend of the classes present.

    image: RGB; labels: (H, W) of the same size. alpha: share of the class colour, 0 to 1. shown: the classes
    that are coloured (None: all); the image is left as it is elsewhere. Images smaller than 300 pixels are
    enlarged by a whole factor. Raises Error if the sizes differ.
    """
    below = photograph(image)
    made = Overlay(below.size, palette, names, alpha, shown)
    mixed, legend = Image.fromarray(made.rows(below, labels)), made.legend()
    return _stack([mixed, legend]) if legend else mixed


class Overlay:
    """An overlay whose rows come one after the other, from the top; see `overlay`."""

    def __init__(self, size: tuple[int, int], palette: Palette, names: Sequence[str], alpha: float = 0.55,
                 shown: Collection[int] | None = None) -> None:
        """size: width and height of the image."""
        self.palette, self.names, self.shown = palette, names, shown
        self.factor, self.full = max(1, -(-300 // max(size))), colours(palette)
        self.width, self.height = (side * self.factor for side in size)
        self.page = max(self.width, self.height // 2, 240)  # of it with a legend
        # black (VOC's background) hides what is under it, so it gets half the weight
        self.weights = np.where(self.full.any(1), alpha, alpha / 2).astype(np.float32)
        if shown is not None:
            self.weights[VOID] = 0
        self.present: set[int] = set()
        self.above: np.ndarray | None = None  # the last row of labels

    def rows(self, image: Pixels, labels: np.ndarray) -> np.ndarray:
        """The next rows, uint8 (H, W, 3), enlarged; image and labels are of these rows. Raises Error if their
        sizes differ."""
        below, labels = photograph(image), _labels(labels)
        if self.shown is not None:
            labels = np.where(np.isin(labels, list(self.shown)), labels, np.uint8(VOID))
        if below.size != labels.shape[::-1]:
            height, width = labels.shape
            raise Error(f"the labels are {width} x {height} for an image of {below.width} x {below.height}")
        self.present.update(np.unique(labels).tolist())
        labels = labels.repeat(self.factor, 0).repeat(self.factor, 1)
        weight = self.weights[labels][..., None]
        enlarged = ImageOps.scale(below, self.factor, Image.Resampling.NEAREST)
        pixels = np.asarray(enlarged, np.float32) * (1 - weight) + self.full[labels] * weight
        edge = np.zeros(labels.shape, bool)
        edge[:, 1:] |= labels[:, 1:] != labels[:, :-1]
        edge[1:] |= labels[1:] != labels[:-1]
        if self.above is not None:
            edge[0] |= labels[0] != self.above
        self.above = labels[-1]
        pixels[edge] = (pixels[edge] + PAPER) / 2  # not plain white: thin things are all edge
        return (pixels + 0.5).astype(np.uint8)

    def legend(self) -> Image.Image | None:
        """What stands below all rows, if any class is shown."""
        there = self.present - ({VOID} if self.shown is not None else set())
        found = keys(np.array(sorted(there), np.int64), self.palette, self.names)
        return _legend(found, self.page, letters((self.width, self.height))) if found else None


def letters(size: tuple[int, int]) -> int:
    """The height of a legend's letters: they can be read still where the picture is shown on a small screen,
    which makes the longer of its sides fit."""
    return max(14, min(round(max(size) / 45), MOST_LETTERS))


def cutout(image: Pixels, labels: np.ndarray, kept: Collection[int]) -> Image.Image:
    """The pixels of some classes as RGBA, all others transparent and black. image: RGB; labels: (H, W)."""
    there = np.isin(labels, list(kept))
    pixels = np.asarray(photograph(image))
    return Image.fromarray(np.dstack([pixels * there[..., None], there * np.uint8(255)]))


def shaded(values: np.ndarray) -> Image.Image:
    """Numbers of 0 or more (H, W) as grey: 0 white, the largest of them black."""
    top = float(values.max(initial=0))
    share = values / top if top > 0 else np.zeros_like(values)
    return Image.fromarray(np.rint(255 * (1 - share)).astype(np.uint8))


def sheet(columns: Sequence[tuple], *, legend: Sequence[Key] = (), smallest: int = 200) -> Image.Image:
    """Pictures side by side: one column for each (title, images), one row for each image of the columns.

    A column may be (title, images, texts): the texts stand below its images, cut at the left if they are too
    wide. Pictures narrower than `smallest` pixels are all enlarged by one whole factor, pixels kept square.
    `legend` goes below. Raises Error if the columns have different numbers of images.
    """
    if not columns or len({len(images) for _, images, *_ in columns}) > 1 or not columns[0][1]:
        found = ", ".join(f"'{title}': {len(images)}" for title, images, *_ in columns) or "no columns"
        raise Error(f"a sheet needs columns of equally many images ({found})")
    grid = [[photograph(image) for image in images] for _, images, *_ in columns]
    factor = max(1, -(-smallest // max(i.width for c in grid for i in c)))
    grid = [[ImageOps.scale(image, factor, Image.Resampling.NEAREST) for image in column] for column in grid]
    widths = [max(image.width for image in column) for column in grid]
    heights = [max(column[row].height for column in grid) for row in range(len(grid[0]))]
    high = max(16, round(sum(widths) / len(widths) / 20))  # letters
    font, gap = ImageFont.load_default(high), high // 2
    below = gap + high if any(rest for _, _, *rest in columns) else gap  # a picture
    top = high + 2 * gap
    size = sum(widths) + gap * (len(widths) + 1), top + sum(heights) + below * len(heights)
    page = Image.new("RGB", size, PAPER)
    draw, x = ImageDraw.Draw(page), gap
    for (title, _, *texts), column, width in zip(columns, grid, widths, strict=True):
        draw.text((x + width / 2, gap + high / 2), title, INK, font, anchor="mm")
        y = top
        shown = texts[0] if texts else [""] * len(column)
        for image, height, text in zip(column, heights, shown, strict=True):
            page.paste(image, (x + (width - image.width) // 2, y + (height - image.height) // 2))
            y += height + below
            short = next(text[n:] for n in range(len(text) + 1) if font.getlength(text[n:]) <= width)
            draw.text((x + width / 2, y - below / 2), short, INK, font, anchor="mm")
        x += width + gap
    return _stack([page, _legend(legend, page.width, max(14, round(high * 0.8)))]) if legend else page


def _legend(keys: Sequence[Key], width: int, size: int) -> Image.Image:
    """Swatches with names, `size` pixels high: on one line if it fits into `width`, else in even columns."""
    font, pad, near = ImageFont.load_default(size), max(8, size // 2), max(4, size // 3)
    steps = [size + near + int(font.getlength(key.name)) + 2 * pad for key in keys]
    across = len(keys)
    if sum(steps) > width:
        across = max(1, min(len(keys), width // max(steps)))
        steps = [max(steps)] * across
    lines = -(-len(keys) // across)
    page = Image.new("RGB", (max(width, sum(steps[:across])), lines * (size + near) - near + 2 * pad), PAPER)
    draw = ImageDraw.Draw(page)
    for n, key in enumerate(keys):
        x, y = pad + sum(steps[: n % across]), pad + n // across * (size + near)
        draw.rectangle((x, y, x + size - 1, y + size - 1), key.colour, RULE)
        draw.text((x + size + near, y + size / 2), key.name, INK, font, anchor="lm")
    return page


def _stack(images: Sequence[Image.Image]) -> Image.Image:
    page = Image.new("RGB", (max(i.width for i in images), sum(i.height for i in images)), PAPER)
    y = 0
    for image in images:
        page.paste(image, ((page.width - image.width) // 2, y))
        y += image.height
    return page


def photograph(image: Pixels) -> Image.Image:
    """As an RGB image."""
    return (image if isinstance(image, Image.Image) else Image.fromarray(image)).convert("RGB")


def _labels(labels: np.ndarray) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.ndim != 2:
        raise Error(f"labels have {labels.ndim} axes; a label image has two, height and width")
    if labels.size and not (labels.min() >= 0 and labels.max() <= VOID):
        raise Error(f"labels are 0 to 255 in a label image, these are {labels.min():g} to {labels.max():g}")
    return np.ascontiguousarray(labels, np.uint8)
