"""Image and label files of all kinds into arrays."""

import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..base.errors import Error, closest

_NATURAL = {"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"}

# what Pillow raises for damaged files, by format and place of the damage
DAMAGE = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error,
           Image.DecompressionBombError)


def open_image(path: Path) -> Image.Image:
    """An image file, its header read; Error naming it if it is none."""
    try:
        return Image.open(path)
    except FileNotFoundError:
        raise Error(f"image {path} is not there") from None
    except UnidentifiedImageError:
        raise Error(f"{path} is no image of a kind that Pillow reads, or it is damaged") from None
    except DAMAGE as error:
        raise Error(f"image {path} cannot be read: {error}") from None


def read_image(path: Path, resize: float = 1.0) -> np.ndarray:
    """Pixels as stored (EXIF's turn is not applied), uint8 RGB (H, W, 3), resized by `resize`.

    Grey, palette, CMYK and transparent images are converted (transparency is dropped). Raises Error naming a
    file that cannot be read, or that has more than 8 bits a channel, which a conversion would clip.
    """
    image = open_image(path)
    if image.mode not in _NATURAL:
        raise Error(f"image {path} has pixels of kind {image.mode}, expected 8 bits a channel")
    try:
        image = image.convert("RGB") if image.mode != "RGB" else image
        if resize != 1:
            image = image.resize(resized(image.size, resize), Image.Resampling.BILINEAR)
        return np.asarray(image)
    except DAMAGE as error:
        raise Error(f"image {path} cannot be read: {error}") from None


def read_bands(paths: Sequence[Path], resize: float = 1.0) -> np.ndarray:
    """One-channel images of any depth, such as a camera's bands, as float32 (H, W, bands), resized by `resize`.

    Raises Error naming a file that cannot be read, has more channels, or another size than the first.
    """
    bands: list[np.ndarray] = []
    for path in paths:
        image = open_image(path)
        if len(image.getbands()) != 1:
            raise Error(f"image {path} has the channels {''.join(image.getbands())}, expected one: it is read as a band")
        try:
            band = np.asarray(image).astype(np.float32)
        except DAMAGE as error:
            raise Error(f"image {path} cannot be read: {error}") from None
        if bands and band.shape != bands[0].shape:
            raise Error(f"band {path} is {size(band)} and {paths[0]} is {size(bands[0])}; they must be equal in size")
        bands.append(band)
    if resize != 1:
        to = resized(bands[0].shape[::-1], resize)
        bands = [np.asarray(Image.fromarray(band).resize(to, Image.Resampling.BILINEAR)) for band in bands]
    return np.stack(bands, -1)


def read_label(path: Path, resize: float = 1.0, *, key: str = "", legend: np.ndarray | None = None,
               values: Mapping[int, int] | None = None, nearest: bool = False) -> np.ndarray:
    """The class indices (H, W), integers, of a label file; resized by `resize`, to the nearest.

    The file is a grey or palette image, a .npy, or a .mat, of which `key` names the variable (and 'VARIABLE.FIELD'
    a field of it; without key there must be one matrix alone). legend: uint8 (classes, 3), the colours of an RGB
    label, whose rows are the classes. values: what a number in the file means, where that is not the class itself.
    nearest: other colours, and other numbers where there are values, count as the nearest (labels stored as JPEG).
    Raises Error naming a file that cannot be read, that holds colours where there is no legend, or other colours.
    """
    arrays = path.suffix.lower() in (".mat", ".npy")
    label = _read_array(path, key) if arrays else _read_label_image(path, legend, nearest)
    if label.ndim != 2 or label.dtype.kind not in "buif" or (label.dtype.kind == "f" and (label != np.rint(label)).any()):
        raise Error(f"label {path} holds {label.dtype} of shape {label.shape}, expected whole numbers (H, W)")
    if label.dtype.kind in "bf":
        label = label.astype(np.int64)
    if values:
        label = renumbered(label, values, nearest and legend is None)
    if resize != 1:
        image = Image.fromarray(label if label.dtype == np.uint8 else label.astype(np.int32))
        label = np.asarray(image.resize(resized(image.size, resize), Image.Resampling.NEAREST))
    return label


def renumbered(label: np.ndarray, values: Mapping[int, int], nearest: bool = False) -> np.ndarray:
    """An array of whole numbers with `values` put in place of their keys; other numbers stay, or count as the nearest key."""
    keys, new = np.array(sorted(values.items()), np.int64).T
    if nearest:
        return new[np.searchsorted((keys[1:] + keys[:-1]) / 2, label)]
    table = np.arange(keys[0], keys[-1] + 1)
    table[keys - keys[0]] = new
    out, inside = label.astype(np.int64), (label >= keys[0]) & (label <= keys[-1])
    out[inside] = table[out[inside] - keys[0]]
    return out


def _read_label_image(path: Path, legend: np.ndarray | None, nearest: bool) -> np.ndarray:
    image = open_image(path)
    try:
        if legend is not None:  # a PNG of few colours may be stored as palette, or as grey
            return _indices(path, np.asarray(image.convert("RGB")), legend, nearest)
        if len(image.getbands()) == 1 and image.mode != "F":
            return np.asarray(image)
    except DAMAGE as error:
        raise Error(f"label {path} cannot be read: {error}") from None
    raise Error(
        f"label {path} is in colours ({''.join(image.getbands())}); expected one channel of class "
        "indices, as a palette or grey PNG has: convert its colours to indices, or give the option 'colours'"
    )


def _indices(path: Path, pixels: np.ndarray, legend: np.ndarray, nearest: bool) -> np.ndarray:
    """The row of `legend` that each pixel's colour is, or is nearest to."""
    codes, places, counts = np.unique((pixels.astype(np.int32) << (16, 8, 0)).sum(-1), return_inverse=True, return_counts=True)
    colours = codes[:, None] >> (16, 8, 0) & 255
    apart = np.square(colours[:, None] - legend.astype(np.int32)).sum(-1)
    strange = np.flatnonzero(apart.min(1))
    if len(strange) and not nearest:
        most = strange[np.argsort(-counts[strange], kind="stable")][:5]
        listed = ", ".join(f"{' '.join(map(str, colours[i]))} ({counts[i]} times)" for i in most)
        raise Error(f"label {path} has {counts[strange].sum()} pixels of colours that are no class: {listed}"
                    f"{', ...' if len(strange) > 5 else ''}; is one missing, or the file stored with loss (option 'nearest')?")
    return apart.argmin(1).astype(np.int32)[places].reshape(pixels.shape[:2])


def _read_array(path: Path, key: str) -> np.ndarray:
    from scipy.io import loadmat

    if not path.is_file():
        raise Error(f"label {path} is not there")
    try:
        if path.suffix.lower() == ".npy":
            return np.load(path, allow_pickle=False)
        found = {k: v for k, v in loadmat(path).items() if not k.startswith("__")}
    except Exception as error:  # NumPy and SciPy raise nearly anything on a damaged file
        raise Error(f"label {path} cannot be read: {' '.join(str(error).split())}") from None
    first, _, field = key.partition(".")
    first = first or next(iter(found), "")
    if first not in found or (not key and len(found) > 1):
        which = "more than the" if first in found else "no"
        raise Error(f"label {path} has {which} variable '{first}'{closest(first, found) if key else ''} "
                    f"(it has: {', '.join(found) or 'none'}; the option 'key' names one)")
    value = found[first]
    if not field:
        return np.asarray(value)
    names = getattr(value, "dtype", np.dtype(int)).names or ()
    if field not in names or not value.size:
        raise Error(f"label {path}: variable '{first}' has no field '{field}' (it has: {', '.join(names)})")
    return np.asarray(value[field].flat[0])  # MATLAB's structures are arrays, here of one


def resized(size: tuple[int, int], resize: float) -> tuple[int, int]:
    return max(1, round(size[0] * resize)), max(1, round(size[1] * resize))


def size(pixels: np.ndarray) -> str:
    """'WxH' of an array (H, W, ...), for messages."""
    return f"{pixels.shape[1]}x{pixels.shape[0]}"


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
    listed = ", ".join(f"{value:g} ({-count} times)" for count, value in worst[:5])
    ignored = f" and are not {void} (ignored)" if void is not None else ""
    more = ", ..." if len(worst) > 5 else ""
    return (f"{counts[bad].sum()} of {counts.sum()} label values are not whole numbers from 0 to "
            f"{classes - 1}{ignored}: {listed}{more}")
