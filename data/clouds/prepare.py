"""Generate small satellite scenes with clouds, snow and sand, cut into patches as 38-Cloud's are.

Every scene follows from (seed, split, number) alone, by arithmetic that is the same on all machines: sums,
products and quotients, no library's sine or power. Needs NumPy and Pillow, not the netspec package.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, TiffImagePlugin

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import made  # noqa: E402 - the path comes first

VERSION = 1  # raise it when what is written changes, so that folders of the older kind are made again
SIDE = 384  # pixels of a patch
EMPTY = 0.8  # of a patch: with so much of it black, or more, the list of non-empty patches lacks it
SHOWN = 0.25  # cloud that hides more of the ground than this is cloud in the truth
BANDS = {"red": 4, "green": 3, "blue": 2, "nir": 5}  # and Landsat 8's numbers of them
# what the ground sends back in each band, as a part of 65535
VEGETATION = (0.115, 0.13, 0.135, 0.30)
SOIL = (0.24, 0.20, 0.175, 0.29)
WATER = (0.095, 0.11, 0.13, 0.085)
SAND = (0.58, 0.46, 0.34, 0.68)
SNOW = (0.64, 0.65, 0.66, 0.40)
CLOUD = (0.52, 0.52, 0.53, 0.55)
METRES = 30.0  # a pixel's side
ORIGIN = 500000.0, 4500000.0  # east and north of the whole scene's corner, metres of UTM zone 31

Size = tuple[int, int]  # height and width


def noise(rng: np.random.Generator, size: Size, grain: float, stretch: float = 1.0) -> np.ndarray:
    """Smooth noise (H, W) in -1..1, features `grain` pixels wide, and so many times that along the rows."""
    steps = grain, grain * stretch
    cells = [int(side / step) + 3 for side, step in zip(size, steps, strict=True)]
    field = rng.uniform(-1.0, 1.0, cells)
    for axis, (side, step) in enumerate(zip(size, steps, strict=True)):
        at = np.arange(side) / step + rng.uniform()
        first = np.floor(at).astype(int)
        part = at - first
        part = (part * part * (3 - 2 * part)).reshape((-1, 1) if axis == 0 else (1, -1))
        low, high = field.take(first, axis), field.take(first + 1, axis)
        field = low + part * (high - low)
    return field


def fractal(rng: np.random.Generator, size: Size, grain: float, octaves: int, stretch: float = 1.0
            ) -> np.ndarray:
    """Noise with features at `grain` and at halves of it, each half as strong; (H, W) in about -1..1."""
    return sum((noise(rng, size, grain / 2**k, stretch) / 2**k for k in range(octaves)), np.zeros(size))


def above(field: np.ndarray, share: float, width: float) -> np.ndarray:
    """1 where a field is in its highest `share`, 0 elsewhere, with a ramp `width` wide below 1; (H, W)."""
    rank = int((1 - share) * (field.size - 1))
    level = np.partition(field.ravel(), rank)[rank]
    return np.clip((field - level) / width, 0, 1)


def mixed(below: np.ndarray, over: np.ndarray | Sequence[float], part: np.ndarray) -> np.ndarray:
    """What is seen where `part` (H, W) of (H, W, 4) is hidden behind something else."""
    return below + part[..., None] * (np.asarray(over) - below)


def ground(rng: np.random.Generator, size: Size) -> np.ndarray:
    """The land below, (H, W, 4): fields and soil, water, sand, and snow on ridges."""
    fields = fractal(rng, size, 90, 4) + 0.5 * np.rint(1.5 * noise(rng, size, 24))  # with straight steps
    land = mixed(np.broadcast_to(VEGETATION, (*size, 4)), SOIL, np.clip(0.45 + 0.6 * fields, 0, 1))
    land = land * (1 + 0.22 * fractal(rng, size, 10, 2))[..., None]
    land = mixed(land, WATER, above(fractal(rng, size, 230, 4), rng.uniform(0.04, 0.14), 0.02))
    across, along = np.mgrid[: size[0], : size[1]]
    wave = (0.3 * along + across + 14 * noise(rng, size, 70)) / rng.uniform(11, 19)
    ripples = np.abs(2 * (wave - np.floor(wave)) - 1)  # dunes
    light = 0.8 + 0.2 * ripples + 0.12 * fractal(rng, size, 120, 3)
    desert = above(fractal(rng, size, 300, 5), rng.uniform(0.12, 0.28), 0.06)
    land = mixed(land, np.asarray(SAND) * light[..., None], desert)
    ridges = 1 - np.abs(fractal(rng, size, 110, 5))
    slope = np.diff(ridges, axis=1, prepend=ridges[:, :1])
    snow = np.asarray(SNOW) * np.clip(0.95 + 14 * slope, 0.35, 1.3)[..., None]
    high = above(ridges + 1.1 * noise(rng, size, 320), rng.uniform(0.18, 0.32), 0.03)
    return mixed(land, snow, high)


def clouds(rng: np.random.Generator, size: Size) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How much of the ground clouds hide, with thin ones and the thick alone, and how bright they are."""
    bank = above(fractal(rng, size, 240, 6), rng.uniform(0.18, 0.32), 0.2)
    puffs = above(fractal(rng, size, 44, 4) + 1.2 * noise(rng, size, 260), rng.uniform(0.04, 0.09), 0.25)
    veil = above(fractal(rng, size, 100, 4, 3.0), rng.uniform(0.08, 0.16), 0.35)
    thick = 1 - (1 - bank) * (1 - puffs)
    thin = veil * rng.uniform(0.4, 0.65)
    billows = 1 - np.abs(fractal(rng, size, 40, 4))  # round tops with seams between them
    return 1 - (1 - thick) * (1 - thin), thick, 0.68 + 0.5 * billows + 0.2 * noise(rng, size, 180)


def valid(rng: np.random.Generator, size: Size) -> np.ndarray:
    """Where the sensor saw something, bool (H, W): a tilted rectangle whose corners touch the sides."""
    height, width = size
    tilt = rng.uniform(0.1, 0.2)
    from_left = (tilt * height - tilt * tilt * width) / (1 - tilt * tilt)  # of the topmost corner
    down, right = np.mgrid[:height, :width] + 0.5
    inside = np.ones(size, bool)
    for y, x in ((down, right), (height - down, width - right)):
        inside &= (y >= tilt * (x - from_left)) & (x >= from_left - tilt * y)
    return inside if rng.uniform() < 0.5 else inside[:, ::-1]


def scene(rng: np.random.Generator, size: Size) -> tuple[np.ndarray, np.ndarray]:
    """The bands of a scene, uint16 (H, W, 4), red, green, blue, near infrared, 0 outside the valid area; and
    its truth, uint8 (H, W), 1 where there is cloud."""
    land = ground(rng, size)
    hidden, thick, bright = clouds(rng, size)
    y, x = (int(step) for step in rng.integers(12, 34, 2))
    shadow = np.zeros(size)
    shadow[y:, x:] = thick[:-y, :-x]
    seen = land * (1 - 0.55 * shadow)[..., None]
    seen = mixed(seen, np.asarray(CLOUD) * bright[..., None], hidden)
    light = rng.uniform(0.65, 1.2) * (1 + 0.08 * noise(rng, size, max(size)))
    seen = seen * light[..., None] + rng.uniform(0.0, 0.03) + rng.uniform(-0.012, 0.012, seen.shape)
    inside = valid(rng, size)
    bands = np.rint(65535 * np.clip(seen, 1 / 65535, 1)).astype(np.uint16)
    return bands * inside[..., None], ((hidden > SHOWN) & inside).astype(np.uint8)


def patches(pixels: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """NUMBER_ROW_by_COLUMN of each patch and its pixels; the scene lies in the middle, zeros around it."""
    high, wide = (-(-side // SIDE) for side in pixels.shape[:2])
    whole = np.zeros((high * SIDE, wide * SIDE, *pixels.shape[2:]), pixels.dtype)
    top, left = (whole.shape[0] - pixels.shape[0]) // 2, (whole.shape[1] - pixels.shape[1]) // 2
    whole[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    for row in range(high):
        for column in range(wide):
            part = whole[row * SIDE : (row + 1) * SIDE, column * SIDE : (column + 1) * SIDE]
            yield f"{row * wide + column + 1}_{row + 1}_by_{column + 1}", part


def write(path: Path, pixels: np.ndarray, origin: Sequence[float] | None = None) -> None:
    """A TIFF of one channel; origin: as ORIGIN, which makes a GeoTIFF of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    if origin:
        tags[33550], tags.tagtype[33550] = (METRES, METRES, 0.0), 12  # ModelPixelScale, doubles
        tags[33922], tags.tagtype[33922] = (0.0, 0.0, 0.0, *origin, 0.0), 12  # ModelTiepoint
        # GeoKeyDirectory, shorts: projected, a pixel is an area, WGS 84 / UTM zone 31N
        tags[34735], tags.tagtype[34735] = (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32631), 3
    Image.fromarray(np.ascontiguousarray(pixels)).save(path, format="TIFF", tiffinfo=tags)


def generate(folder: Path, settings: dict) -> None:
    """Write the whole set under `folder`."""
    for turn, split in enumerate(("training", "test")):
        place, names, nonempty = folder / f"38-Cloud_{split}", ["name"], ["name"]
        for number in range(settings[split]):
            rng = np.random.default_rng([settings["seed"], turn, number])
            width, height = (side + (number == 0) * side // 6 for side in settings["size"])
            size = height - int(rng.integers(height // 10)), width - int(rng.integers(width // 10))
            bands, truth = scene(rng, size)
            title = f"made_{split}_{number:02d}"
            write(place / f"Entire_scene_gts/edited_corrected_gts_{title}.TIF", truth)
            masks = dict(patches(truth * np.uint8(255)))
            for at, pixels in patches(bands):
                name = f"patch_{at}_{title}"
                names.append(name)
                nonempty += [name] * bool((~pixels.any(-1)).sum() < EMPTY * SIDE * SIDE)
                for i, band in enumerate(BANDS):
                    write(place / f"{split[:5]}_{band}/{band}_{name}.TIF", pixels[..., i])
                if split == "training":
                    write(place / f"train_gt/gt_{name}.TIF", masks[at])
            if split == "test" and number == 0:  # as it comes from the satellite, for `netspec infer`
                for i, landsat in enumerate(BANDS.values()):
                    write(folder / f"scenes/{title}_B{landsat}.TIF", bands[..., i], ORIGIN)
        (place / f"{split}_patches_38-Cloud.csv").write_text("\n".join(names) + "\n")
        if split == "training":
            (place / "training_patches_38-cloud_nonempty.csv").write_text("\n".join(nonempty) + "\n")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--root", type=Path, default=made.root(__file__), help="folder to make (%(default)s)")
    parser.add_argument("--training", type=int, default=7, metavar="N", help="training scenes (%(default)s)")
    parser.add_argument("--test", type=int, default=4, metavar="N", help="test scenes (%(default)s)")
    parser.add_argument("--size", default="760x740", metavar="WxH",
                        help="in pixels, about; the first of each split is a sixth larger (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, another set (%(default)s)")
    args = parser.parse_args(argv)
    width, _, height = args.size.partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) >= 64 and int(height) >= 64):
        parser.error(f"--size {args.size}: expected WIDTHxHEIGHT, both at least 64, such as 760x740")
    if args.training < 1 or args.test < 1 or args.seed < 0:
        parser.error("--training and --test must be at least 1 and --seed at least 0")
    settings = dict(version=VERSION, seed=args.seed, training=args.training, test=args.test,
                    size=[int(width), int(height)])
    return made.run(__file__, args.root, settings, generate,
                    f"{args.training} training and {args.test} test scenes of about {args.size}")


if __name__ == "__main__":
    sys.exit(main())
