"""Generate the embedded data set: drawn shapes with thin parts, in the folder layout of PASCAL VOC.

Every image follows from (seed, split, number) alone. Needs NumPy and Pillow, not the netspec package.
"""

import argparse
import io
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import made  # noqa: E402 - the path comes first

HERE = Path(__file__).resolve().parent
VERSION = 3  # raise it when what is written changes, so that folders of the older kind are made again
FINE = 4  # shapes are drawn this many times larger, then reduced, for soft edges
WINDOWS = 6  # windows around each shape, and as many of the ground in each image
SIDE = 24  # pixels of a window's side, at least; at most it is the image's shorter one
HIDDEN = 0.75  # of a shape's pixels: where later shapes cover more, the rest is difficult, as VOC calls it
HUES = (math.nan, 48.0, 215.0, 130.0, 315.0)  # degrees, one a class; the background has them all


def rgb(hue: np.ndarray, saturation: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Arrays (H, W) in degrees, 0..1 and 0..1 -> (H, W, 3) in 0..1."""
    k = (np.array([5.0, 3.0, 1.0]) + hue[..., None] / 60.0) % 6.0
    return value[..., None] * (1 - saturation[..., None] * np.clip(np.minimum(k, 4 - k), 0, 1))


def noise(rng: np.random.Generator, size: tuple[int, int], grain: float) -> np.ndarray:
    """Smooth noise (H, W) in about -1..1, features `grain` pixels wide; size is (width, height)."""
    cells = [max(2, math.ceil(side / grain) + 1) for side in size]
    coarse = rng.uniform(-1.0, 1.0, (cells[1], cells[0])).astype(np.float32)
    return np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC), np.float64)


def stripes(size: tuple[int, int], angle: float, period: float) -> np.ndarray:
    """Waves (H, W) in -1..1 that travel along `angle` (radians)."""
    y, x = np.mgrid[: size[1], : size[0]]
    return np.sin((x * math.cos(angle) + y * math.sin(angle)) * 2 * math.pi / period)


def texture(rng: np.random.Generator, label: int, size: tuple[int, int]) -> np.ndarray:
    """The pattern (H, W), -1..1, that goes with a class."""
    tilt = rng.uniform(-0.4, 0.4)
    period = rng.uniform(4.0, 7.0)
    if label == 1:  # grains
        return np.clip(1.5 * noise(rng, size, rng.uniform(2.0, 3.0)), -1, 1)
    if label == 2:  # lines one above the other
        return stripes(size, math.pi / 2 + tilt, period)
    if label == 3:  # lines side by side
        return stripes(size, tilt, period)
    return stripes(size, tilt + 0.8, period) * stripes(size, tilt + 0.8 + math.pi / 2, period)  # checks


def ground(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """The picture behind the shapes, (H, W, 3) in 0..1: patches of any hue, mostly pale, smoothly varied."""
    width, height = size
    picture = np.zeros((height, width, 3))
    for patch in range(rng.integers(2, 4)):
        hue = rng.uniform(0, 360) + 25 * noise(rng, size, 40)
        saturation = np.clip(rng.choice([0.12, 0.25, 0.5]) + 0.12 * noise(rng, size, 12), 0, 1)
        pattern = noise(rng, size, rng.uniform(4, 16)) + 0.4 * noise(rng, size, 2)
        value = np.clip(rng.uniform(0.3, 0.8) + 0.14 * pattern, 0, 1)
        where = noise(rng, size, max(size) / 2)[..., None] > 0 if patch else True
        picture = np.where(where, rgb(hue, saturation, value), picture)
    return picture


def outline(rng: np.random.Generator, label: int, size: tuple[int, int]) -> np.ndarray:
    """How much of each pixel one shape covers, (H, W) in 0..1. Thin parts are 3 to 6 pixels wide."""
    width, height = (side * FINE for side in size)
    canvas = Image.new("L", (width, height))
    draw = ImageDraw.Draw(canvas)
    x, y = rng.uniform(0.12, 0.88) * width, rng.uniform(0.15, 0.85) * height
    radius = rng.uniform(0.24, 0.44) * min(width, height)
    turn = rng.uniform(0, 2 * math.pi)
    thin = rng.uniform(3.0, 6.0) * FINE

    def at(distance: float, angle: float) -> tuple[float, float]:
        return x + distance * math.cos(turn + angle), y + distance * math.sin(turn + angle)

    def disc(r: float, fill: int = 255) -> None:
        draw.ellipse((x - r, y - r, x + r, y + r), fill=fill)

    def bar(start: tuple[float, float], end: tuple[float, float], across: float) -> None:
        draw.line((*start, *end), fill=255, width=round(across))

    if label == 1:  # sun: a disc with rays
        rays = int(rng.integers(6, 10))
        for ray in range(rays):
            bar((x, y), at(radius, 2 * math.pi * ray / rays), thin)
        disc(0.52 * radius)
    elif label == 2:  # wheel: a hub, spokes, a rim
        disc(radius)
        disc(radius - thin * 1.3, 0)
        spokes = int(rng.integers(3, 7))
        for spoke in range(spokes):
            bar((x, y), at(radius - thin / 2, 2 * math.pi * spoke / spokes), thin)
        disc(0.42 * radius)
    elif label == 3:  # fork: a plate with prongs and a handle
        along, side = 0.36 * radius, 0.5 * radius
        corners = [(-along, -side), (along, -side), (along, side), (-along, side)]
        draw.polygon([at(math.hypot(u, v), math.atan2(v, u)) for u, v in corners], fill=255)
        for offset in np.linspace(-side + thin / 2, side - thin / 2, max(2, int(side / thin * 0.8))):
            bar(at(offset, math.pi / 2), at(math.hypot(radius, offset), math.atan2(offset, radius)), thin)
        bar((x, y), at(1.2 * radius, math.pi), thin)
    else:  # star: arms that run to a point
        points = int(rng.integers(5, 8))
        ends = [at(radius * (0.42 if i % 2 else 1.15), math.pi * i / points) for i in range(2 * points)]
        draw.polygon(ends, fill=255)
    return np.asarray(canvas.reduce(FINE), np.float64) / 255.0


class Box(NamedTuple):
    """The least rectangle around what is to be seen of a shape: pixels from 0 on, both ends included."""

    label: int
    corners: tuple[int, int, int, int]  # x1 y1 x2 y2
    truncated: bool  # it goes on behind the border, or behind a later shape
    difficult: bool


def scene(rng: np.random.Generator, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, list[Box]]:
    """One image, (H, W, 3) uint8 RGB, its labels, (H, W) uint8: 0..4, 255 on the contours, and its boxes."""
    picture = ground(rng, size)
    labels = np.zeros(picture.shape[:2], np.uint8)
    drawn: list[tuple[int, np.ndarray, np.ndarray]] = []  # class, pixels, those that are to be seen
    for _ in range(rng.integers(2, 4)):
        label = int(rng.integers(1, len(HUES)))
        cover = outline(rng, label, size)
        pattern = texture(rng, label, size)
        hue = HUES[label] + rng.uniform(-25, 25) + 12 * noise(rng, size, 8)
        saturation = np.clip(rng.uniform(0.4, 0.8) + 0.1 * noise(rng, size, 6), 0, 1)
        value = np.clip(rng.uniform(0.45, 0.8) + rng.uniform(0.12, 0.25) * pattern, 0, 1)
        picture += cover[..., None] * (rgb(hue, saturation, value) - picture)
        solid = cover >= 0.5
        grown = np.asarray(Image.fromarray(solid.astype(np.uint8)).filter(ImageFilter.MaxFilter(3)))
        labels[grown > 0] = 255
        labels[solid] = label
        drawn = [(of, whole, seen & (grown == 0)) for of, whole, seen in drawn] + [(label, solid, solid)]
    light = 1 + 0.25 * noise(rng, size, max(size))
    picture = picture * light[..., None] + rng.normal(0, 0.04, picture.shape)
    boxes = [box(*shape) for shape in drawn if shape[2].any()]
    return np.round(255 * np.clip(picture, 0, 1)).astype(np.uint8), labels, boxes


def box(label: int, whole: np.ndarray, seen: np.ndarray) -> Box:
    """The box of a shape from all its pixels and those to be seen, bool (H, W)."""
    rows, columns = np.nonzero(seen)
    corners = int(columns.min()), int(rows.min()), int(columns.max()), int(rows.max())
    edge = np.ones_like(whole)
    edge[1:-1, 1:-1] = False
    share = seen.sum() / whole.sum()
    return Box(label, corners, bool(share < 1 or (whole & edge).any()), bool(share < 1 - HIDDEN))


def annotation(name: str, size: tuple[int, int], boxes: Sequence[Box], names: Sequence[str]) -> str:
    """Boxes as VOC writes them: XML, coordinates from 1 on."""
    lines = [f"<annotation><filename>{name}.jpg</filename>",
             f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>"]
    for each in boxes:
        frame = "".join(f"<{key}>{value + 1}</{key}>"
                        for key, value in zip(("xmin", "ymin", "xmax", "ymax"), each.corners, strict=True))
        lines.append(f"<object><name>{names[each.label]}</name><truncated>{each.truncated:d}</truncated>"
                     f"<difficult>{each.difficult:d}</difficult><bndbox>{frame}</bndbox></object>")
    return "\n".join([*lines, "</annotation>", ""])


def square(x: float, y: float, side: float, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The square window x1 y1 x2 y2, both ends included, around a point, moved and shrunk to lie inside."""
    long = round(min(max(side, SIDE), *size))
    left, top = (round(min(max(at - long / 2, 0), along - long))
                 for at, along in zip((x, y), size, strict=True))
    return left, top, left + long - 1, top + long - 1


def overlap(a: Sequence[int], b: Sequence[int]) -> float:
    """The pixels that two windows share, as a part of those of either."""
    wide, high = (min(a[i + 2], b[i + 2]) - max(a[i], b[i]) + 1 for i in (0, 1))
    both = max(0, wide) * max(0, high)
    return both / (sum((c[2] - c[0] + 1) * (c[3] - c[1] + 1) for c in (a, b)) - both)


def windows(rng: np.random.Generator, size: tuple[int, int], boxes: Sequence[Box]) -> list[str]:
    """Lines "class overlap x1 y1 x2 y2" as Caffe's WindowData reads them: squares near shapes, and others.

    Their class is that of the shape whose surrounding square they overlap most, by so much.
    """
    around = []
    for each in boxes:
        x1, y1, x2, y2 = each.corners
        side = max(x2 - x1, y2 - y1) + 1
        around.append((each, square((x1 + x2 + 1) / 2, (y1 + y2 + 1) / 2, side, size)))
    places: list[tuple[float, float, float]] = []
    for _, (x1, y1, x2, _) in (pair for pair in around if not pair[0].difficult):
        for _ in range(WINDOWS):
            wide, long = x2 - x1 + 1, (x2 - x1 + 1) * rng.uniform(0.85, 1.2)
            x, y = (first + wide / 2 + long * rng.uniform(-0.15, 0.15) for first in (x1, y1))
            places.append((x, y, long))
    for _ in range(WINDOWS):
        places.append((rng.uniform(0, size[0]), rng.uniform(0, size[1]), rng.uniform(SIDE, min(size))))
    lines = []
    for x, y, long in places:
        window = square(x, y, long, size)
        most, label = max(((overlap(window, near), each.label) for each, near in around), default=(0.0, 0))
        lines.append(f"{label} {most:.3f} {' '.join(map(str, window))}")
    return lines


def classes() -> tuple[list[str], list[int]]:
    """The names in classes.txt, and their colours as a PNG palette: 768 numbers, void (255) in cream."""
    lines = [line.split() for line in (HERE / "classes.txt").read_text().splitlines() if line]
    colours = [int(c) for line in lines for c in line[1:]]
    return [line[0] for line in lines], colours + [0] * (765 - len(colours)) + [224, 224, 192]


def generate(folder: Path, settings: dict) -> None:
    """Write the whole set under `folder`."""
    size = tuple(settings["size"])
    for name in ("JPEGImages", "SegmentationClass", "Annotations"):
        (folder / name).mkdir(parents=True)
    known, colours = classes()
    for number, split in enumerate(("train", "val")):
        names, listed = [f"{split}_{i:04d}" for i in range(settings[split])], ""
        for i, name in enumerate(names):
            image, labels, boxes = scene(np.random.default_rng([settings["seed"], number, i]), size)
            jpeg = io.BytesIO()  # Pillow does not notice where a full disk takes a part of a JPEG alone
            Image.fromarray(image).save(jpeg, "JPEG", quality=95, subsampling=0)
            (folder / "JPEGImages" / f"{name}.jpg").write_bytes(jpeg.getvalue())
            indexed = Image.fromarray(labels)
            indexed.putpalette(colours)
            indexed.save(folder / "SegmentationClass" / f"{name}.png")
            (folder / "Annotations" / f"{name}.xml").write_text(annotation(name, size, boxes, known))
            lines = windows(np.random.default_rng([settings["seed"], 2 + number, i]), size, boxes)
            head = ["# " + str(i), f"{name}.jpg", "3", str(size[1]), str(size[0]), str(len(lines))]
            listed += "".join(line + "\n" for line in [*head, *lines])
        for kind in ("Segmentation", "Main"):
            (folder / "ImageSets" / kind).mkdir(parents=True, exist_ok=True)
            (folder / "ImageSets" / kind / f"{split}.txt").write_text("".join(n + "\n" for n in names))
        (folder / "ImageSets" / "Windows").mkdir(exist_ok=True)
        (folder / "ImageSets" / "Windows" / f"{split}.txt").write_text(listed)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--root", type=Path, default=made.root(__file__), help="folder to make (%(default)s)")
    parser.add_argument("--train", type=int, default=240, metavar="N", help="training images (%(default)s)")
    parser.add_argument("--val", type=int, default=60, metavar="N", help="validation images (%(default)s)")
    parser.add_argument("--size", default="128x96", metavar="WxH", help="in pixels (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, another set (%(default)s)")
    args = parser.parse_args(argv)
    width, _, height = args.size.partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) >= 32 and int(height) >= 32):
        parser.error(f"--size {args.size}: expected WIDTHxHEIGHT, both at least 32, such as 128x96")
    if args.train < 1 or args.val < 1 or args.seed < 0:
        parser.error("--train and --val must be at least 1 and --seed at least 0")
    size = [int(width), int(height)]
    settings = dict(version=VERSION, seed=args.seed, train=args.train, val=args.val, size=size)
    return made.run(__file__, args.root, settings, generate,
                    f"{args.train} training and {args.val} validation images of {args.size}")


if __name__ == "__main__":
    sys.exit(main())
