"""Image and label files of all kinds into arrays."""

import os
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import numpy as np
from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError

from ..base.errors import Error
from ..proto.wire import MOST_COMPRESSION
from .mat import read_array
from .resizing import shrunk
from .shards import opened

# what Pillow raises for damaged files, by format and place of the damage
DAMAGE = (OSError, SyntaxError, ValueError, TypeError, EOFError, LookupError, RuntimeError, MemoryError,
          struct.error, zlib.error, Image.DecompressionBombError)
# EXIF's orientations, but for 1, which is none -> what Pillow does to a stored picture to show it
TURNS = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
         4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270,
         7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_90}
PNG_GREY = 9797, 19234, 3737  # of 2^15, which png_set_rgb_to_gray makes of 0.299 and 0.587
MOST_PIXELS = 8 * MOST_COMPRESSION  # that a byte of a PNG can become at best, of one bit each
PART = 1 << 20  # pixels that Pillow is asked for at once
Option = Callable[[str, object], str]  # how a person gives an option of a name and value, for errors


def open_image(path: Path, what: str = "image", file: IO[bytes] | None = None) -> Image.Image:
    """An image file or member of a shard, its header read; Error naming it if it is none. file: it, open."""
    if not file and os.path.exists(path) and not os.path.isfile(path):  # a pipe would be waited for
        raise Error(f"{what} {path} is no file")
    try:
        file = file or opened(path)
        size = file.seek(0, os.SEEK_END) if file else os.path.getsize(path)
        image = Image.open(file or path)
        if image.format == "EPS":  # which Pillow lets Ghostscript run
            raise Error(f"{what} {path} is PostScript, a program, which is not run; convert it")
        if image.format == "PNG" and (pixels := image.width * image.height) > MOST_PIXELS * size:
            image.close()
            raise Error(f"{what} {path} cannot be read: {size} bytes are too few for its {pixels} pixels")
        image.getbands()  # fails for a kind of pixels that only a damaged header can name
        return image
    except FileNotFoundError:
        raise Error(f"{what} {path} is not there") from None
    except UnidentifiedImageError:
        kind = "empty" if not size else "no image of a kind that Pillow reads, or it is damaged"
        raise Error(f"{path} is {kind}") from None
    except DAMAGE as error:
        raise Error(f"{what} {path} cannot be read: {error}") from None


def check_whole(image: Image.Image, path: Path) -> None:
    """Error for a TIFF that ends before the pixels that its header tells of; nothing is unpacked."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        found, end = os.path.getsize(path), 0
        with suppress(*DAMAGE):  # which reading says
            told = [image.tag_v2.get(number, ()) for number in (273, 279, 324, 325)]  # of strips, of tiles
            end = max(map(sum, (*zip(*told[:2], strict=False), *zip(*told[2:], strict=False))), default=0)
        if end > found:
            raise Error(f"{path} is cut short: it has {found} bytes, and pixels up to byte {end}")


def turn_of(image: Image.Image) -> int:
    """The EXIF orientation of a picture, a key of TURNS, or 1; from 5 on the sides are swapped."""
    if image.format == "PNG" and "exif" not in image.info:  # else Pillow decodes it, to look behind
        return 1
    try:
        turn = image.getexif().get(ExifTags.Base.Orientation, 1)
    except DAMAGE:
        return 1
    return turn if turn in TURNS else 1


def turn_cure(path: Path, stored: Sequence[int], label: Sequence[int]) -> str:
    """The end of a sentence about an image and a label of other sides (H, W), if an EXIF turn explains it."""
    turn = 1
    if stored[0] != stored[1] and list(label[:2]) == [stored[1], stored[0]]:
        with suppress(Error), open_image(path) as image:
            turn = turn_of(image)
    return "" if turn < 5 else (
        f"; the image has an EXIF turn (orientation {turn}), which is not applied, and the label is of the "
        "turned picture: store the image turned (mogrify -auto-orient FILE), or turn the label back")


def read_image(path: Path, resize: float = 1.0) -> np.ndarray:
    """Pixels as stored (EXIF's turn is not applied), uint8 RGB (H, W, 3), resized by `resize`.

    Grey, palette, CMYK and transparent images are converted (transparency is dropped). Raises Error naming a
    file that cannot be read, or that has more than 8 bits a channel, which a conversion would clip.
    """
    image = open_image(path)
    if image.mode[0] in "IF":
        raise Error(f"image {path} has pixels of kind {image.mode}, expected 8 bits a channel")
    with _reading(f"image {path}"):
        if resize != 1:
            image = image.convert("RGB") if image.mode != "RGB" else image
            image = image.resize(resized(image.size, resize), Image.Resampling.BILINEAR)
        return _pixels(image, "RGB")


def read_bands(paths: Sequence[Path], resize: float = 1.0, smooth: bool = False) -> np.ndarray:
    """One-channel images of any depth, such as a camera's bands: float32 (H, W, bands), resized by `resize`.

    smooth: by `resizing.shrunk`, not by Pillow. Raises Error naming a file that cannot be read, has more
    channels, or another size than the first.
    """
    bands: list[np.ndarray] = []
    for path in paths:
        image = open_image(path)
        if len(image.getbands()) != 1:
            raise Error(f"image {path} has the channels {''.join(image.getbands())}, expected one: "
                        "it is read as a band")
        with _reading(f"image {path}"):
            band = _pixels(image, image.mode).astype(np.float32)
        if bands and band.shape != bands[0].shape:
            raise Error(f"band {path} is {size(band)} and {paths[0]} is {size(bands[0])}; "
                        "they must be equal in size")
        bands.append(band)
    if resize != 1:
        height, width = bands[0].shape
        to = resized((width, height), resize)
        if smooth:
            return shrunk(np.stack(bands, -1), to[1], to[0]).astype(np.float32)
        bands = [np.asarray(Image.fromarray(band).resize(to, Image.Resampling.BILINEAR)) for band in bands]
    return np.stack(bands, -1)


def read_label(path: Path, resize: float = 1.0, *, key: str = "", legend: np.ndarray | None = None,
               values: Mapping[int, int] | None = None, nearest: bool = False,
               option: Option = "the option '{}'".format) -> np.ndarray:
    """The class indices (H, W), integers, of a label file; resized by `resize`, to the nearest.

    The file is a grey or palette image, a .npy, or a .mat, of which `key` names the variable (and
    'VARIABLE.FIELD' a field of it; without key there must be one matrix alone). legend: uint8 (classes, 3),
    the colours of an RGB label, whose rows are the classes. values: what a number in the file means, where
    that is not the class itself. nearest: other colours, and other numbers where there are values, count as
    the nearest (labels stored as JPEG). option: how a person gives one of a name and value, for errors.
    Raises Error naming a file that cannot be read, that holds colours where there is no legend, or other
    colours.
    """
    arrays = path.suffix.lower() in (".mat", ".npy")
    label = read_array(path, key, option) if arrays else _read_label_image(path, legend, nearest, option)
    kind = label.dtype.kind
    if label.ndim != 2 or kind not in "buif" or (kind == "f" and (label != np.rint(label)).any()):
        raise Error(f"label {path} holds {label.dtype} of shape {label.shape}, expected whole numbers (H, W)")
    if kind in "bf":
        label = label.astype(np.int64)
    if values:
        label = renumbered(label, values, nearest and legend is None)
    if resize != 1:
        image = Image.fromarray(label if label.dtype == np.uint8 else label.astype(np.int32))
        label = np.asarray(image.resize(resized(image.size, resize), Image.Resampling.NEAREST))
    return label


def decode(image: Image.Image, name: str, color: bool | None) -> np.ndarray:
    """The pixels of an image as Caffe has them: uint8 (C, H, W), channels BGR, or grey (color=False).

    None keeps the channels there are (palettes become colours). Raises Error, beginning with `name`, for an
    image that cannot be read or has more than 8 bits a channel. Grey is OpenCV's: what a JPEG holds, libpng's
    of a PNG in colours; of other files' colours it may differ by 1.
    """
    if image.mode[0] in "IF":
        raise Error(f"{name} has pixels of kind {image.mode}, expected 8 bits a channel")
    clear = "A" in image.getbands() or "transparency" in image.info
    native = "L" if image.mode in ("1", "L") else "RGBA" if clear else "RGB"
    mode = native if color is None else "RGB" if color else "L"
    with _reading(name):
        if mode == "L":
            image.draft("L", None)
        if mode == "L" and native != "L" and image.format == "PNG":
            pixels = (_pixels(image, "RGB") @ np.array(PNG_GREY) >> 15).astype(np.uint8)
        else:
            pixels = _pixels(image, mode)
    if pixels.ndim == 2:
        return pixels[None]
    order = np.s_[::-1] if pixels.shape[2] == 3 else [2, 1, 0, 3]  # of three a view
    return pixels[:, :, order].transpose(2, 0, 1)


def _pixels(image: Image.Image, mode: str) -> np.ndarray:
    """The pixels of an image in a mode, (H, W) or (H, W, C): a part at a time, for Pillow copies what it
    gives away three times."""
    width, height = image.size
    rows = max(1, PART // max(width, 1))
    if rows >= height:
        return np.asarray(image if image.mode == mode else image.convert(mode))
    pixels = np.empty(0)
    for top in range(0, height, rows):
        part = image.crop((0, top, width, min(top + rows, height)))
        values = np.asarray(part if part.mode == mode else part.convert(mode))
        if not top:
            pixels = np.empty((height, *values.shape[1:]), values.dtype)
        pixels[top : top + rows] = values
    return pixels


@contextmanager
def _reading(name: str) -> Iterator[None]:
    """Error, beginning with `name`, for what Pillow raises over a damaged file."""
    try:
        yield
    except DAMAGE as error:
        raise Error(f"{name} cannot be read: {error}") from None


def _read_label_image(path: Path, legend: np.ndarray | None, nearest: bool, option: Option) -> np.ndarray:
    image = open_image(path, "label")
    with _reading(f"label {path}"):
        if legend is not None:  # a PNG of few colours may be stored as palette, or as grey
            return _indices(path, _pixels(image, "RGB"), legend, nearest, option)
        if len(image.getbands()) == 1 and image.mode != "F":
            return _pixels(image, image.mode)
    raise Error(f"label {path} is in colours ({''.join(image.getbands())}); expected one channel of class "
                f"indices, as a palette or grey PNG has: convert its colours to indices, or add "
                f"{option('colours', True)}, which takes them for the classes' colours")


def _indices(path: Path, pixels: np.ndarray, legend: np.ndarray, nearest: bool, option: Option
             ) -> np.ndarray:
    """The row of `legend` that each pixel's colour is, or is nearest to."""
    codes = (pixels.astype(np.int32) << (16, 8, 0)).sum(-1)
    codes, places, counts = np.unique(codes, return_inverse=True, return_counts=True)
    colours = codes[:, None] >> (16, 8, 0) & 255
    apart = np.square(colours[:, None] - legend.astype(np.int32)).sum(-1)
    strange = np.flatnonzero(apart.min(1))
    if len(strange) and not nearest:
        most = strange[np.argsort(-counts[strange], kind="stable")]
        named = [f"{' '.join(map(str, colours[i]))} ({counts[i]} times)" for i in most[:5]]
        if len(strange) > 5:
            named.append("...")
        raise Error(f"label {path} has {counts[strange].sum()} pixels of colours that are no class: "
                    f"{', '.join(named)}; is one missing from the list of classes? Where files were stored "
                    f"with loss, add {option('nearest', True)}")
    return apart.argmin(1).astype(np.int32)[places].reshape(pixels.shape[:2])


def resized(size: tuple[int, int], resize: float) -> tuple[int, int]:
    """A width and height times `resize`, in whole pixels, at least one."""
    return max(1, round(size[0] * resize)), max(1, round(size[1] * resize))


def size(pixels: np.ndarray) -> str:
    """'WxH' of an array (H, W, ...), for messages."""
    return f"{pixels.shape[1]}x{pixels.shape[0]}"


def renumbered(label: np.ndarray, values: Mapping[int, int], nearest: bool = False) -> np.ndarray:
    """An array of whole numbers with `values` put in place of their keys.

    Other numbers stay, or count as the nearest key.
    """
    keys, new = np.array(sorted(values.items()), np.int64).T
    if nearest:
        return new[np.searchsorted((keys[1:] + keys[:-1]) / 2, label)]
    table = np.arange(keys[0], keys[-1] + 1)
    table[keys - keys[0]] = new
    out, inside = label.astype(np.int64), (label >= keys[0]) & (label <= keys[-1])
    out[inside] = table[out[inside] - keys[0]]
    return out


def check_labels(label: np.ndarray, classes: int, void: int | None = 255) -> str | None:
    """A sentence that counts the values of a label array that are no class; None if there are none.

    Classes are 0 .. classes - 1, and void (None: nothing is void).
    """
    values, counts = np.unique(np.asarray(label), return_counts=True)
    bad = ~((values >= 0) & (values < classes) & (values == np.floor(values)))
    if void is not None:
        bad &= values != void
    if not bad.any():
        return None
    worst = sorted(zip(-counts[bad], values[bad], strict=True))
    named = [f"{value:g} ({-count} times)" for count, value in worst[:5]] + ["..."] * (len(worst) > 5)
    ignored = f" and are not {void} (ignored)" if void is not None else ""
    return (f"{counts[bad].sum()} of {counts.sum()} label values are not whole numbers from 0 to "
            f"{classes - 1}{ignored}: {', '.join(named)}")
