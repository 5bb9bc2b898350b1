"""The pictures behind what a person names: a file of one or many, folder, pattern, standard input, video."""

import glob
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np
import torch
from PIL import Image, ImageCms, TiffImagePlugin

from ..base.errors import Error, lacking
from ..base.machine import check_room
from ..data.images import DAMAGE, TURNS, open_image, resized, turn_of
from .windows import TiffWindows, Windows, any_size

STDIN = "-"  # the name of standard input
SIXTEEN = ("I;16", "I;16L", "I;16B", "I;16N", "I")  # Pillow opens some 16-bit PNGs as "I"
# whose further pictures are previews, depths or layers of the first one
SINGLE = {"MPO", "PSD"}
# what Pillow knows by name and does not decode by itself
STUBS = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}
VIDEO = {".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".webm",
         ".wmv"}
SMALLER = "make the image smaller, or cut it into parts"  # what to do about one that is too large
SUBFILE = 254  # TIFF's NewSubfileType
BYTES = 24  # of memory a pixel, in all the forms that it has at once

Note = Callable[[str], None]


class Frame(NamedTuple):
    """One picture: what messages call it, what its results are called, its (width, height).

    read: the picture as 8-bit RGB, to be called before the next frame is asked for. Raises Error for a
    damaged one. windows: parts of it, to be made before the next frame is asked for, and read whenever; None
    where all of it must be decoded at once.
    """

    name: str
    stem: str
    size: tuple[int, int]
    read: Callable[[], Image.Image]
    windows: Callable[[], Windows] | None = None


def expand(given: str) -> tuple[list[str], list[str]]:
    """The files that a word stands for, and those of a folder that are left out, being no pictures by name.

    A word is a file, "-", a folder (of which the files that are pictures or videos by their names, without
    the folders in it) or a pattern with *, ? or [ that no file has as its name; files come in the order of
    the numbers in their names. Raises Error for a folder and a pattern without any; a file that is not there
    is one.
    """
    path = Path(given)
    if given and path.is_dir():
        inside = sorted((p for p in path.iterdir() if p.is_file() and p.name[0] != "."), key=_natural)
        chosen = [str(p) for p in inside if p.suffix.lower() in _endings()]
        if not chosen:
            raise Error(f"folder {given} has no images (of folders in it, none is entered)")
        return chosen, [p.name for p in inside if str(p) not in chosen]
    if given == STDIN or path.exists() or not glob.has_magic(given):
        return [given], []
    found = sorted((p for p in map(Path, glob.glob(given)) if p.is_file()), key=_natural)
    if not found:
        raise Error(f"no file has a name like '{given}'")
    return [str(p) for p in found], []


def walk(folder: str, past: str) -> tuple[list[str], list[str]]:
    """The names, from a folder on, of the files in it and in its folders that are pictures or videos by name,
    and of files that are not, folder by folder in the order of the numbers in their names. What has a
    picture's name is among the first where it is a pipe, or a link that leads nowhere.

    past: the folder that is not entered; nor are hidden ones, and links to folders. Raises OSError for one
    that cannot be read, and Error where there is no picture.
    """
    def refuse(error: OSError) -> NoReturn:
        raise error

    chosen, others, ends, past = list[str](), list[str](), _endings(), os.path.realpath(past)
    for at, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [each for each in sorted(folders, key=lambda name: _natural(Path(name)))
                      if each[0] != "." and os.path.realpath(os.path.join(at, each)) != past]
        for name in sorted(files, key=lambda name: _natural(Path(name))):
            file, known = os.path.join(at, name), os.path.splitext(name)[1].lower() in ends
            if name[0] != "." and (known or os.path.isfile(file)):
                (chosen if known else others).append(os.path.relpath(file, folder))
    if not chosen:
        raise Error(f"folder {folder} has no images, nor have the folders in it")
    return chosen, others


def frames(file: str, resize: float = 1.0, note: Note = lambda text: None) -> Generator[Frame]:
    """The pictures of a file ("-": of standard input) in order, their sides scaled by `resize`.

    Of animations, multi-page files and videos each frame, as FILE frame 1, STEM_0001 and so on. note: is told
    what a person should know of one. Raises Error naming a file that cannot be read, the frame beyond which
    it cannot, and for video without its library.
    """
    path, stem = Path("standard input" if file == STDIN else file), stem_of(file)

    def frame(number: int, size: tuple[int, int], read: Callable[[str], Image.Image]) -> Frame:
        name = f"{path} frame {number}" if number else str(path)
        return Frame(name, f"{stem}_{number:04}" if number else stem, resized(size, resize),
                     lambda: _scaled(read(name), resize))

    if path.suffix.lower() in VIDEO:
        for n, image in enumerate(_video(path), 1):
            yield frame(n, image.size, partial(_same, image))
        return
    with any_size(), _warned(f"image {path}", note):
        opened = open_image(path, file=_stream(file))
        turned = (turn := turn_of(opened)) >= 5
    with opened:
        for n, count in _pages(opened, path, note):
            size = opened.size[::-1] if turned else opened.size
            found = frame(n if count > 1 else 0, size, lambda name: rgb(opened, f"image {name}", note))
            tiff = isinstance(opened, TiffImagePlugin.TiffImageFile) and path.is_file()
            if tiff and (resize, turn) == (1, 1):
                found = found._replace(windows=partial(_windows, opened, path, found.name))
            yield found


def _windows(image: Image.Image, path: Path, name: str) -> Windows:
    assert isinstance(image, TiffImagePlugin.TiffImageFile)
    try:
        return TiffWindows(image, path, lambda part: rgb(part, f"image {name}"))
    except DAMAGE as error:
        raise Error(f"image {name} cannot be read: {error}") from None


def _stream(file: str) -> BytesIO | None:
    """All that standard input or a pipe that a person names gives, once; None for what can be opened."""
    if file == STDIN:
        return BytesIO(sys.stdin.buffer.read())
    return BytesIO(Path(file).read_bytes()) if Path(file).is_fifo() else None


def stem_of(file: str) -> str:
    """What the results of a file are called."""
    return "stdin" if file == STDIN else Path(file).stem


def picture(path: str | os.PathLike, resize: float = 1.0) -> Image.Image:
    """The first picture of a file as 8-bit RGB, as `rgb` makes it, its sides scaled.

    Raises Error naming a file that cannot be read.
    """
    with closing(frames(os.fspath(path), resize)) as found:  # held, or the file would be closed
        return next(found).read()


def rgb(image: Image.Image, name: str, note: Note = lambda text: None) -> Image.Image:
    """A picture as 8-bit RGB, upright as its EXIF says, in sRGB as its ICC profile says.

    Grey, palette, CMYK and Lab are converted, transparency is dropped, of 16-bit grey the high byte is taken.
    note: is told of a profile that is damaged, or for other channels, and left out, and of what Pillow warns
    of. Raises Error, beginning with `name`, for a damaged picture, for fractions, and for one that the memory
    has no room for.
    """
    check_room(BYTES * image.width * image.height, torch.device("cpu"),
               f"{name} is {image.width}x{image.height}: to read it takes", SMALLER)
    try:
        with _warned(name, note):
            image.load()
            turn = turn_of(image)
            found = _in_srgb(_plain(image, name), image.info.get("icc_profile"))
    except DAMAGE as error:
        raise Error(f"{name} cannot be read: {error}") from None
    return found.transpose(TURNS[turn]) if turn in TURNS else found


def _same(image: Image.Image, name: str) -> Image.Image:
    return image


def _scaled(image: Image.Image, resize: float) -> Image.Image:
    return image.resize(resized(image.size, resize), Image.Resampling.BILINEAR) if resize != 1 else image


def _plain(image: Image.Image, name: str) -> Image.Image:
    """A picture in mode L, RGB, CMYK or LAB, 8 bits a channel."""
    if image.mode in SIXTEEN:
        values = np.asarray(image)
        least, most = values.min(), values.max()
        if least < 0 or most > 65535:
            raise Error(f"{name} has values from {least} to {most}, expected 8 or 16 bits")
        return Image.fromarray((values >> 8).astype(np.uint8))
    if image.mode == "F":
        raise Error(f"{name} has pixels of kind F (fractions), expected 8 or 16 bits a channel")
    if image.mode in ("1", "L", "LA"):
        return image.convert("L")
    if image.mode == "P" and "transparency" in image.info:  # else Pillow warns of it
        image = image.convert("RGBA")
    return image if image.mode in ("CMYK", "LAB") else image.convert("RGB")


def _in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """A picture of `_plain` in the colours that its profile, a file's bytes, says; else it is warned of."""
    if not profile and image.mode != "LAB":
        return image.convert("RGB")
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile) if profile else ImageCms.createProfile("LAB"))
        called = ImageCms.getProfileDescription(source).lower()
        if source.profile.xcolor_space.strip() == "RGB":  # grey pictures have it too
            image = image.convert("RGB")
            if "srgb" in called and "linear" not in called:
                return image
        made = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
        assert made is not None
        return made
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError, ImportError):
        warnings.warn("its colour profile is damaged or for other channels, and is left out", stacklevel=2)
        return image.convert("RGB")


def _pages(image: Image.Image, path: Path, note: Note) -> Iterator[tuple[int, int]]:
    """Go to one frame of an opened file after the other that is a picture of its own: its number, from 1, of
    how many. Raises Error where one cannot be reached."""
    number = 0
    try:
        with _warned(f"image {path}", note):
            pages, damage = _reached(image)
        if damage and len(pages) < 2:
            raise damage
        if len(pages) > 1 and isinstance(image, TiffImagePlugin.TiffImageFile):
            pages = [page for page in pages if not _reduced(image, page)] or pages[:1]
        for number, page in enumerate(pages, 1):
            if len(pages) > 1:
                image.seek(page)
            yield number, len(pages)
        if damage:
            number += 1
            raise damage
    except DAMAGE as error:
        beyond = f" from its frame {number} on" if number else ""
        raise Error(f"image {path} cannot be read{beyond}: {error}") from None


def _reached(image: Image.Image) -> tuple[Sequence[int], Exception | None]:
    """The frames of an opened file that can be gone to, and what is wrong with the next, if anything is."""
    try:
        return range(1 if image.format in SINGLE else getattr(image, "n_frames", 1)), None
    except DAMAGE as error:
        count = 1
        with suppress(*DAMAGE):
            while True:
                image.seek(count)
                count += 1
        return range(count), error


def _reduced(image: TiffImagePlugin.TiffImageFile, page: int) -> bool:
    """Whether a page of a TIFF says that it is another one made smaller."""
    image.seek(page)
    return bool(image.tag_v2.get(SUBFILE, 0) & 1)


def _video(path: Path) -> Iterator[Image.Image]:
    """The frames of a video, turned as it says. Raises Error for a damaged one, and without its library."""
    try:
        import imageio_ffmpeg
    except ImportError:
        raise Error(lacking(f"reading video ({path})", "imageio-ffmpeg")) from None
    if not path.is_file():
        raise Error(f"video {path} is not there")
    logging.getLogger("imageio_ffmpeg").setLevel(logging.ERROR)  # it warns of each turned video
    reader = imageio_ffmpeg.read_frames(str(path), pix_fmt="rgb24")
    count = 0
    try:
        size = next(reader)["size"]
        for raw in reader:
            yield Image.frombytes("RGB", size, raw)
            count += 1
    except (*DAMAGE, StopIteration) as error:
        told = [line.strip() for line in str(error).splitlines() if line.strip()]
        beyond = f" beyond its frame {count}" if count else ""
        raise Error(f"video {path} cannot be read{beyond}: {told[-1] if told else 'it ends'}") from None
    finally:
        reader.close()
    if not count:
        raise Error(f"video {path} holds no picture")


@contextmanager
def _warned(name: str, note: Note) -> Iterator[None]:
    """What is warned of, by Pillow in its own words, becomes a note on the picture."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", ResourceWarning)  # of a pipe, which is read whole
        yield
    for text in dict.fromkeys(" ".join(str(warning.message).split()) for warning in found):
        note(f"{name}: {text}")


def _natural(path: Path) -> list[str | int]:
    """A key that sorts im2 before im10."""
    return [int(part) if part.isdigit() else part.lower() for part in re.split("([0-9]+)", str(path))]


def _endings() -> set[str]:
    """The ends of names of pictures and videos."""
    known = Image.registered_extensions().items()
    return VIDEO | {end for end, kind in known if kind in Image.OPEN and kind not in STUBS}
