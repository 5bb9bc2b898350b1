"""Archives, which may be damaged or mean harm, to plain files."""

import io
import lzma
import os
import re
import shutil
import stat
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import IO, Any

from ..base.errors import Error
from ..base.files import make_folder

BLOCK = 1 << 20  # bytes that are read at once
MOST_PATH, MOST_NAME = 1000, 255  # bytes of a path, and of one name in it
MOST_TOLD = 1 << 20  # bytes that a tar may have about one file: Python reads them at once
ABOUT = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME,
         tarfile.GNUTYPE_LONGLINK)
# what Python's readers raise for damaged archives
DAMAGE = (OSError, EOFError, RuntimeError, IndexError, ValueError, zlib.error, lzma.LZMAError,
          tarfile.TarError, zipfile.BadZipFile)


def unpack(archive: Path, folder: Path, top: str = "") -> int:
    """Write the files of a .zip or .tar (compressed or not) under `folder`; how many.

    top: only what is in the folder of this name, from there on. Only plain files are made, under new names.
    Raises Error for a path that is absolute or has '..', that is too long or has control characters, a link
    or device, names that clash on some system, more than 100 times the archive's size and 64 MiB, or than
    the disk has room for, what tarfile's own data filter refuses, or damage; the caller removes what was
    written.
    """
    if not hasattr(tarfile, "data_filter"):
        raise Error(f"this Python's tarfile cannot filter {archive}; use Python 3.10.12, 3.11.4 or later")
    left, room = 100 * archive.stat().st_size + (64 << 20), shutil.disk_usage(folder).free
    names, count = _Names(), 0
    try:
        for info, read in _members(archive):
            refused = f"nothing of {archive} is used: it holds '{_shown(info.name)}', "
            if _shown(info.name) != info.name:
                raise Error(f"{refused}a name that is too long or has control characters")
            parts, size = _parts(info.name, top), max(info.size, 4096)  # no file takes less of a disk
            if parts is None:
                raise Error(f"{refused}a path that leads out of the folder")
            taken = bool(parts) and not info.isdir()
            if taken and not info.isreg():
                raise Error(f"{refused}a link or device; expected files and folders only")
            if taken and not names.add(parts):
                raise Error(f"{refused}a name that is there already, or differs from another in upper and "
                            "lower case only")
            left, room = left - size, room - size * taken  # what is passed over has to be unpacked too
            if min(left, room) < 0:
                raise Error(f"{refused}and with it too much for an archive of this size, or for the disk")
            if taken:
                place = "/".join(parts)
                tarfile.data_filter(info.replace(name=place, deep=False), str(folder))
                with read() or io.BytesIO() as source:
                    _copy(source, folder / place, info)
                count += 1
    except DAMAGE as error:
        raise Error(f"{archive} cannot be unpacked: {str(error) or type(error).__name__}") from None
    return count


def write_block(file: IO[bytes], block: bytes) -> None:
    """Write through to the disk; Error if it is full, or the like."""
    try:
        file.write(block)
        file.flush()
    except OSError as error:
        raise Error(f"{file.name} cannot be written: {error.strerror}") from None


def _members(archive: Path) -> Iterator[tuple[tarfile.TarInfo, Callable[[], IO[bytes] | None]]]:
    """What an archive holds, and how to read it; entries of a .zip as tar would have them."""
    if archive.suffix.lower() != ".zip":
        with _tar(archive) as tar:
            for info in tar:
                yield info, partial(tar.extractfile, info)
        return
    with zipfile.ZipFile(archive) as zipped:
        for entry in zipped.infolist():
            info = tarfile.TarInfo(entry.filename)
            info.size = entry.file_size
            plain = (stat.S_IFMT(entry.external_attr >> 16) or stat.S_IFREG) == stat.S_IFREG
            info.type = tarfile.DIRTYPE if entry.is_dir() else tarfile.REGTYPE if plain else tarfile.SYMTYPE
            yield info, partial(zipped.open, entry)


def _tar(archive: Path) -> tarfile.TarFile:
    try:
        return tarfile.open(archive, "r|*", tarinfo=TarInfo)
    except TypeError:  # tarfile's, of the end of a file where a number should be
        raise tarfile.ReadError("its gzip header is cut short") from None


class TarInfo(tarfile.TarInfo):
    """What a tar says of a file, in bounded memory; tarfile takes a damaged header for the archive's end."""

    @classmethod
    def frombuf(cls, header: Any, *decoding: Any) -> "TarInfo":
        try:
            info = super().frombuf(header, *decoding)
        except tarfile.HeaderError as error:
            if header.strip(b"\0"):  # the end is nothing or zeros
                raise tarfile.ReadError(str(error)) from None
            raise
        if info.type in ABOUT and not 0 <= info.size <= MOST_TOLD:  # less than none is read to the end
            raise tarfile.ReadError(f"it has {info.size} bytes about one file, more than {MOST_TOLD}")
        return info


def _shown(name: str) -> str:
    """A name as a sentence can hold it: itself, if a file can have it on the usual systems."""
    told, raw = re.sub(r"[\x00-\x1f\x7f]", "?", name), os.fsencode(name)
    whole = len(raw) <= MOST_PATH and all(len(part) <= MOST_NAME for part in raw.split(b"/"))
    return told if whole else f"{told[:60]}..."


def _parts(name: str, top: str) -> list[str] | None:
    """The parts of a path from below the folder `top` on, none if it is elsewhere; None if it leads out."""
    parts = [p for p in name.replace("\\", "/").split("/") if p not in ("", ".")]
    if name[:1] in ("/", "\\") or any(p == ".." or ":" in p for p in parts):
        return None
    if top:
        return parts[parts.index(top) + 1 :] if top in parts else []
    return parts


class _Names:
    """The names of files and folders so far, as systems compare them that know no case."""

    def __init__(self) -> None:
        self.folders: dict[str, str] = {}
        self.files: set[str] = set()

    def add(self, parts: list[str]) -> bool:
        """Add a file by the parts of its path; False if that clashes with another name."""
        *above, path = accumulate(parts, "{}/{}".format)
        *keys, key = (unicodedata.normalize("NFC", p).casefold() for p in (*above, path))
        clash = key in self.folders or not self.files.isdisjoint([*keys, key])
        self.files.add(key)
        return not clash and all(self.folders.setdefault(k, p) == p for k, p in zip(keys, above, strict=True))


def _copy(source: IO[bytes], place: Path, info: tarfile.TarInfo) -> None:
    make_folder(place.parent)
    with open(place, "xb") as file:
        while block := source.read(BLOCK):
            write_block(file, block)
        if file.tell() != info.size:
            raise EOFError(f"'{info.name}' ends early")
