"""Parts of a large picture: cut out of one that is held, or read from a TIFF as they are asked for."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from itertools import accumulate
from pathlib import Path
from threading import Lock
from typing import Protocol

from PIL import Image, TiffImagePlugin, TiffTags

from ..base.errors import Error
from ..data.images import DAMAGE
from ..net.regions import Rect

# of TIFF: the ways in which a picture is cut up, as the tags of (width, height, offsets, bytes) of a part
TILES, STRIPS = (322, 323, 324, 325), (256, 278, 273, 279)
WIDTH, HEIGHT, SAMPLES, PLANES = 256, 257, 277, 284
# what says how a part's numbers are to be understood: bits, compression, colours, predictor, JPEG's tables
UNDERSTOOD = (258, 259, 262, 266, SAMPLES, PLANES, 292, 293, 317, 320, 332, 338, 339, 347, 529, 530, 531, 532,
              34675)
_limit = Lock()


class Windows(Protocol):
    """A picture of `size` (width, height), of which rectangles are read: 8-bit RGB, as a whole one is."""

    size: tuple[int, int]

    def window(self, rect: Rect) -> Image.Image:
        """Rows and columns of it. Raises Error where the file is damaged."""
        ...


class Held:
    """A picture that is there."""

    def __init__(self, image: Image.Image) -> None:
        self.image, self.size = image, image.size

    def window(self, rect: Rect) -> Image.Image:
        (top, bottom), (left, right) = rect
        return self.image.crop((left, top, right, bottom))


class TiffWindows:
    """A page of a TIFF, of which each window is decoded by itself, from the tiles or strips that it lies in.

    They are put, as they are in the file, into a small TIFF with the tags that say how to understand them: so
    whatever can be read as a whole can be read so, and gives the same pixels.
    """

    def __init__(self, image: TiffImagePlugin.TiffImageFile, path: Path,
                 rgb: Callable[[Image.Image], Image.Image]) -> None:
        """image: opened, at its page. rgb: what makes a picture RGB. Raises one of DAMAGE for tags that
        make no sense."""
        tags = image.tag_v2
        self.path, self.size, self.rgb, self.prefix = path, image.size, rgb, image.tag_v2.prefix
        self.kept = {tag: (tags.tagtype[tag], tags[tag]) for tag in UNDERSTOOD if tag in tags}
        self.names = TILES if TILES[2] in tags else STRIPS
        wide, high, offsets, sizes = self.names
        self.side = min(tags.get(high, self.size[1]), 1 << 31), tags[wide]
        self.count = [-(-n // side) for n, side in zip(self.size[::-1], self.side, strict=True)]
        self.planes = tags.get(SAMPLES, 1) if tags.get(PLANES, 1) == 2 else 1
        self.offsets, self.sizes = _several(tags[offsets]), _several(tags[sizes])
        if self.planes * self.count[0] * self.count[1] > min(len(self.offsets), len(self.sizes)):
            raise ValueError("its tags name fewer parts than it has")

    def window(self, rect: Rect) -> Image.Image:
        (top, bottom), (left, right) = ((lo // side, -(-hi // side))
                                        for (lo, hi), side in zip(rect, self.side, strict=True))
        down, across = self.count
        chosen = [(plane * down + row) * across + column for plane in range(self.planes)
                  for row in range(top, bottom) for column in range(left, right)]
        size = [min(hi * side, n) - lo * side for lo, hi, side, n in zip(
            (left, top), (right, bottom), self.side[::-1], self.size, strict=True)]
        try:
            with any_size():
                part = Image.open(BytesIO(self._tiff(chosen, size)))
            found = self.rgb(part)
        except DAMAGE as error:
            raise Error(f"image {self.path} cannot be read in rows {rect[0][0]} to {rect[0][1]}: {error}"
                        ) from None
        first = top * self.side[0], left * self.side[1]
        (a, b), (c, d) = ((lo - n, hi - n) for (lo, hi), n in zip(rect, first, strict=True))
        return found.crop((c, a, d, b))

    def _tiff(self, chosen: Sequence[int], size: Sequence[int]) -> bytes:
        """A file of some of the parts, which make a picture of this size (width, height)."""
        with open(self.path, "rb") as file:
            end, parts = os.fstat(file.fileno()).st_size, []
            for i in chosen:
                file.seek(self.offsets[i])
                parts.append(file.read(min(self.sizes[i], end)))
        wide, high, offsets, sizes = self.names
        made = TiffImagePlugin.ImageFileDirectory_v2(prefix=self.prefix)
        shape = {wide: self.side[1], high: self.side[0], WIDTH: size[0], HEIGHT: size[1]}
        starts = list(accumulate(map(len, parts[:-1]), initial=0))
        numbers = {tag: (TiffTags.LONG, value) for tag, value in shape.items()} | {
            offsets: (TiffTags.LONG, tuple(starts)), sizes: (TiffTags.LONG, tuple(map(len, parts)))}
        for tag, (kind, value) in (self.kept | numbers).items():
            made.tagtype[tag] = kind
            made[tag] = value
        if self.names is TILES:  # of strips the library itself says where behind its tags they begin
            behind = 8 + len(made.tobytes(8))
            made[offsets] = tuple(behind + start for start in starts)
        head = BytesIO()
        made.save(head)
        return head.getvalue() + b"".join(parts)


@contextmanager
def any_size() -> Iterator[None]:
    """Pillow opens pictures of any size: that reads their headers, and `rgb` looks at the size first."""
    with _limit:
        most, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = most


def _several(value: int | tuple[int, ...]) -> Sequence[int]:
    return value if isinstance(value, tuple) else (value,)
