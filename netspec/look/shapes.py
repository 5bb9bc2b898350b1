"""Pictures as lists of shapes, written as SVG text by hand or painted by Pillow as PNG and PDF."""

import io
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from xml.sax.saxutils import escape

from ..base.errors import Error, one_line
from ..base.files import writing

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

INK, GREY, PAPER = "#282828", "#8a8a8a", "#ffffff"
KINDS = {".svg": "SVG", ".png": "PNG", ".pdf": "PDF"}
FONT = "Helvetica, Arial, 'Liberation Sans', sans-serif"
WIDTHS = {"iljtfrI.,:;'|!()[]/- ": 0.34, "mwMW%@": 0.9, "ABCDEFGHJKLNOPQRSTUVXYZ_+=": 0.7}
USUAL = 0.57  # the width of any other letter; in sizes, as all of them
# characters that XML has no way to write
BARRED = dict.fromkeys({*range(32), *range(0xd800, 0xe000), 0xfffe, 0xffff} - {9, 10, 13}, "\ufffd")
MOST_PIXELS = 24_000_000  # of a painting before it is made smaller
LARGEST = 100_000_000  # pixels of a picture before it has fewer a point
LONGEST = 65500  # pixels along a side of a JPEG, which a PDF has inside

Point = tuple[float, float]


class Rect(NamedTuple):
    """A box; title is what a browser shows for it."""

    x: float
    y: float
    width: float
    height: float
    fill: str
    stroke: str = INK
    title: str = ""

    def svg(self) -> str:
        title = f"<title>{escape(self.title)}</title>" if self.title else ""
        return (f'<rect x="{self.x:g}" y="{self.y:g}" width="{self.width:g}" height="{self.height:g}" '
                f'fill="{self.fill}" stroke="{self.stroke}">{title}</rect>')

    def paint(self, canvas: "ImageDraw", scale: float) -> None:
        x, y, width, height = (number * scale for number in self[:4])
        canvas.rectangle((x, y, x + width, y + height), self.fill, self.stroke, max(1, round(scale)))


class Line(NamedTuple):
    """A line through points, maybe with an arrow at its end."""

    points: Sequence[Point]
    stroke: str = INK
    width: float = 1
    arrow: bool = False

    def head(self) -> list[Point]:
        """The corners of the arrow."""
        (x0, y0), (x1, y1) = self.points[-2:]
        length = math.dist((x0, y0), (x1, y1)) or 1.0
        dx, dy = 6 * (x1 - x0) / length, 6 * (y1 - y0) / length
        return [(x1, y1), (x1 - dx - dy / 2, y1 - dy + dx / 2), (x1 - dx + dy / 2, y1 - dy - dx / 2)]

    def svg(self) -> str:
        points = " ".join(f"{x:g},{y:g}" for x, y in self.points)
        colour = self.stroke
        line = f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{self.width:g}"/>'
        head = " ".join(f"{x:.1f},{y:.1f}" for x, y in self.head()) if self.arrow else ""
        return f'{line}<polygon points="{head}" fill="{colour}"/>' if head else line

    def paint(self, canvas: "ImageDraw", scale: float) -> None:
        points = [(x * scale, y * scale) for x, y in self.points]
        canvas.line(points, self.stroke, max(1, round(self.width * scale)), joint="curve")
        if self.arrow:
            canvas.polygon([(x * scale, y * scale) for x, y in self.head()], self.stroke)


class Text(NamedTuple):
    """A line of letters, its middle at the height y; anchor: start, middle or end; halo: paper around it."""

    x: float
    y: float
    text: str
    size: float = 11
    anchor: str = "start"
    fill: str = INK
    halo: bool = False

    def svg(self) -> str:
        halo = f' stroke="{PAPER}" stroke-width="3" paint-order="stroke"' if self.halo else ""
        return (f'<text x="{self.x:g}" y="{self.y + 0.35 * self.size:g}" font-size="{self.size:g}" '
                f'fill="{self.fill}" text-anchor="{self.anchor}"{halo}>{escape(one_line(self.text))}</text>')

    def paint(self, canvas: "ImageDraw", scale: float) -> None:
        place, font = (self.x * scale, self.y * scale), _font(self.size * scale)
        where = {"start": "lm", "middle": "mm", "end": "rm"}[self.anchor]
        canvas.text(place, one_line(self.text), self.fill, font, where, stroke_fill=PAPER,
                    stroke_width=round(1.5 * scale) if self.halo else 0)


class Drawn:
    """What can be written as a file of each of the KINDS."""

    def content(self, kind: str) -> bytes:
        """The whole file; kind: SVG, PNG or PDF."""
        raise NotImplementedError

    def save(self, path: str | os.PathLike) -> None:
        """Write a file of the kind that its name ends in; Error if that is none of the KINDS."""
        end = Path(path).suffix.lower()
        if end not in KINDS:
            ends = ", ".join(KINDS)
            raise Error(f"'{path}' ends in none of {ends}, the kinds of picture that can be written")
        content = self.content(KINDS[end])
        with writing(path) as file:
            file.write(content)


@dataclass
class Picture(Drawn):
    """Shapes on a page of width x height points, later ones on top."""

    width: float
    height: float
    shapes: list[Rect | Line | Text] = field(default_factory=list)

    def svg(self) -> str:
        wide, high = f"{self.width:g}", f"{self.height:g}"
        head = (f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide}" height="{high}" '
                f'viewBox="0 0 {wide} {high}" font-family="{FONT}">')
        paper = f'<rect width="100%" height="100%" fill="{PAPER}"/>'
        return printable("\n".join([head, paper, *(shape.svg() for shape in self.shapes), "</svg>", ""]))

    def image(self, scale: float = 2) -> "Image":
        """An image of `scale` pixels a point, or fewer where those would be more than LARGEST; painted larger
        and made smaller, so that lines are smooth."""
        from PIL import Image, ImageDraw

        scale = min(scale, (LARGEST / (self.width * self.height)) ** 0.5)
        fine = max(1.0, min(3.0, (MOST_PIXELS / (self.width * self.height)) ** 0.5 / scale)) * scale
        size = round(self.width * scale), round(self.height * scale)
        canvas = Image.new("RGB", (round(self.width * fine), round(self.height * fine)), PAPER)
        draw = ImageDraw.Draw(canvas)
        for shape in self.shapes:
            shape.paint(draw, fine)
        return canvas.resize(size, Image.Resampling.LANCZOS)

    def content(self, kind: str) -> bytes:
        if kind == "SVG":
            return self.svg().encode()
        image = self.image()
        if kind == "PDF" and max(image.size) > LONGEST:
            raise Error(f"the picture has {image.width}x{image.height} pixels, a PDF at most {LONGEST} along "
                        "a side; write .svg, or .png")
        with io.BytesIO() as file:
            image.save(file, kind, resolution=144)
            return file.getvalue()


def printable(text: str) -> str:
    """A text without the characters that XML has no way to write."""
    return text.translate(BARRED)


@cache
def _font(size: float) -> "FreeTypeFont | ImageFont":
    from PIL import ImageFont

    return ImageFont.load_default(size)


def measure(text: str, size: float) -> float:
    """About how wide a text is: rather too wide, since the letters are those of whoever shows it."""
    return size * sum(next((w for alike, w in WIDTHS.items() if letter in alike), USUAL)
                      for letter in one_line(text))
