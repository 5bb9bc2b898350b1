"""Whole scenes as satellites' files hold them, GeoTIFFs of 16 bits: one of all bands, or one a band."""

import logging
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from ..base.errors import Error, closest, lacking, listed
from ..base.files import writing
from ..proto.wire import MOST_COMPRESSION
from .images import DAMAGE

BANDS = ("blue", "green", "red", "nir")  # as nets of 38-Cloud's patches read them
LANDSAT = {"2": "blue", "3": "green", "4": "red", "5": "nir"}  # of Landsat 8 and 9, in names' _B2 and so on
# a scene's name and a band, as Landsat's files and 38-Cloud's patches have them
NUMBERED = re.compile(r"(?P<scene>.+?)(?:_SR)?_B(?P<band>\d+)")
NAMED = re.compile(rf"(?P<band>{'|'.join(BANDS)}|gt)_(?P<scene>.+)")  # gt: the truth
ENDINGS = (".tif", ".tiff")
# ModelPixelScale, ModelTiepoint, ModelTransformation, GeoKeyDirectory, GeoDoubleParams, GeoAsciiParams
PLACED = (33550, 33922, 34264, 34735, 34736, 34737)
DESCRIBED = 42112  # GDAL's metadata, which has the names of bands
BAND = re.compile(r'sample="(\d+)" role="description">\s*(\w+)\s*<')


class SceneFiles(NamedTuple):
    """The files of a scene: of each band, or one, of which `bands` is None, that holds them all."""

    name: str
    paths: Sequence[Path]
    bands: Sequence[str] | None

    def __str__(self) -> str:
        return str(self.paths[0]) if self.bands is None else f"scene {self.name}"


class Scene(NamedTuple):
    """A scene's pixels, uint16 (H, W, bands), and the tags that say where it lies, as tifffile takes them."""

    pixels: np.ndarray
    placed: Sequence[tuple]


def scenes(files: Sequence[str | os.PathLike]) -> tuple[list[SceneFiles], list[str]]:
    """The scenes whose files are given, and the files that are of other bands. Raises Error for two of a
    name, or two files of a scene's band."""
    held: dict[str, dict[str, Path]] = {}
    whole: dict[str, Path] = {}
    others = []
    for path in map(Path, files):
        stem = path.stem
        found = NUMBERED.fullmatch(stem) or NAMED.fullmatch(stem)
        band = found and (found["band"] if found["band"] in BANDS else LANDSAT.get(found["band"]))
        if path.suffix.lower() not in ENDINGS or found and not band:
            others.append(str(path))
        elif not (found and band):
            if (first := whole.setdefault(stem, path)) != path:
                raise Error(f"both {first} and {path} are scene {stem}, and so would be their results; give "
                            "one at a time")
        elif (first := held.setdefault(found["scene"], {}).setdefault(band, path)) != path:
            raise Error(f"both {first} and {path} are the {band} band of scene {found['scene']}; give one")
    if both := sorted(held.keys() & whole):
        raise Error(f"scene {both[0]} is {whole[both[0]]}, and has files for its bands too; give one of both")
    return [SceneFiles(name, [path], None) for name, path in whole.items()] + [
        SceneFiles(name, [*by.values()], [*by]) for name, by in held.items()], others


def read(files: SceneFiles, wanted: Sequence[str], order: Sequence[str] | None = None) -> Scene:
    """A scene, its bands as `wanted`. order: those of a file that holds them all and does not name them.

    Raises Error for a file that is damaged or has not 16 bits, for bands that are missing or of different
    sizes, and where it is not known which is which.
    """
    if files.bands is None:
        (path,) = files.paths
        pixels, said, placed = _opened(path)
        names = order or said
        if pixels.shape[2] < len(wanted):
            raise Error(f"{path} has {pixels.shape[2]} of the bands {', '.join(wanted)}; give one file that "
                        f"holds them all, or a file for each, such as {path.stem}_B2.TIF to _B5.TIF")
        if not names:
            raise Error(f"{path} does not say which of its {pixels.shape[2]} bands is which; say it in their "
                        "order: --bands red,green,blue,nir")
        if len(names) != pixels.shape[2]:
            raise Error(f"{path} has {pixels.shape[2]} bands, and {len(names)} are named: {', '.join(names)}")
        _all(str(path), names, wanted)
        return Scene(pixels[:, :, [names.index(band) for band in wanted]], placed)
    _all(str(files), files.bands, wanted)
    parts: list[np.ndarray] = []
    first = files.paths[files.bands.index(wanted[0])]
    for band in wanted:
        path = files.paths[files.bands.index(band)]
        pixels, _, placed = _opened(path)
        if pixels.shape[2] != 1:
            raise Error(f"{path} has {pixels.shape[2]} bands, expected one: its name says '{band}'")
        if parts and pixels.shape != parts[0].shape:
            raise Error(f"{path} is {_size(pixels)} and {first} is {_size(parts[0])}; the bands of a scene "
                        "must be equal in size")
        parts.append(pixels)
    return Scene(np.concatenate(parts, 2), placed)


def write(path: str | os.PathLike, pixels: np.ndarray, placed: Sequence[tuple],
          palette: np.ndarray | None = None) -> None:
    """A TIFF of one channel (H, W), deflated, lying where `placed` says; palette: uint8 (classes, 3)."""
    how: dict[str, Any] = {"photometric": "minisblack"}
    if palette is not None:
        colours = np.zeros((3, 256), np.uint16)
        colours[:, : len(palette)] = palette.T * np.uint16(257)
        how = {"photometric": "palette", "colormap": colours}
    made = BytesIO()  # the library wants a file that has a name
    library().imwrite(made, pixels, compression="zlib", metadata=None, extratags=placed, **how)
    with writing(path) as file:
        file.write(made.getbuffer())


def parse_bands(given: str) -> list[str]:
    """The names of bands in a file's order, with commas between them; '-' stands for others. Raises Error."""
    names = [name.strip() for name in given.split(",")]
    for name in names:
        if name not in (*BANDS, "-"):
            raise Error(f"--bands: '{name}' is no band{closest(name, BANDS)} (bands: {', '.join(BANDS)}, and "
                        "- for others)")
    if twice := {name for name in names if name != "-" and names.count(name) > 1}:
        raise Error(f"--bands: {listed(sorted(twice))} is named twice in '{given}'")
    return names


def _all(where: str, names: Sequence[str], wanted: Sequence[str]) -> None:
    if gone := [band for band in wanted if band not in names]:
        numbers = {band: number for number, band in LANDSAT.items()}
        files = ", ".join(f"B{numbers[band]}" for band in gone)
        raise Error(f"{where} lacks the band {' and '.join(gone)} (of Landsat 8, {files}); it has "
                    f"{', '.join(names)}")


def _opened(path: Path) -> tuple[np.ndarray, list[str], list[tuple]]:
    """The pixels of a file (H, W, bands), what it calls its bands, and where it says that they lie."""
    tiff, remarks = library(), _Remarks()
    try:
        with remarks.taken(), tiff.TiffFile(path) as file:
            found, axes = file.series[0], file.series[0].axes
            if found.nbytes > MOST_COMPRESSION * file.filehandle.size:
                raise ValueError(f"it declares {found.shape} pixels, and is too small for them")
            pixels = found.asarray()
            tags = {tag.code: (tag.code, int(tag.dtype), tag.count, tag.value, True)
                    for tag in file.pages.first.tags if tag.code in (*PLACED, DESCRIBED)}
    except FileNotFoundError:
        raise Error(f"scene {path} is not there") from None
    except (tiff.TiffFileError, *DAMAGE) as error:
        cure = "; gdal_translate -co COMPRESS=DEFLATE rewrites it" if "imagecodecs" in str(error) else ""
        raise Error(f"scene {path} cannot be read: {' '.join(str(error).split())}{cure}") from None
    if pixels.dtype != np.uint16:
        raise Error(f"{path} has pixels of {pixels.dtype}, expected 16 bits (uint16) as the satellite has "
                    "them: a picture that was made for looking at has lost them")
    if pixels.ndim not in (2, 3):
        raise Error(f"{path} holds pixels of shape {pixels.shape}, expected rows, columns and bands")
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    elif axes[-1] != "S":  # a plane for each band
        pixels = np.moveaxis(pixels, 0, 2)
    if remarks.texts:
        warnings.warn(f"scene {path}: {' '.join(remarks.texts[0].split())}", stacklevel=2)
    named = dict(BAND.findall(str(tags[DESCRIBED][3]))) if DESCRIBED in tags else {}
    names = [named.get(str(number), "-").lower() for number in range(pixels.shape[2])]
    placed = [tags[code] for code in PLACED if code in tags]
    return pixels, names if {*names} & {*BANDS} else [], placed


class _Remarks(logging.Filter):
    """What tifffile says of a file, any number of lines, which go no further."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def filter(self, record: logging.LogRecord) -> bool:
        self.texts.append(record.getMessage())
        return False

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Within, they come here."""
        logger = logging.getLogger("tifffile")
        logger.addFilter(self)
        try:
            yield
        finally:
            logger.removeFilter(self)


def _size(pixels: np.ndarray) -> str:
    return f"{pixels.shape[1]}x{pixels.shape[0]}"


def library() -> ModuleType:
    """tifffile; Error where it is not there."""
    try:
        import tifffile
    except ImportError:
        raise Error(lacking("reading and writing scenes (GeoTIFF)", "tifffile")) from None
    return tifffile
