"""The `data` command: get a data set from where it is published, or from archives on disk; data/sources.json has the facts."""

import fcntl
import hashlib
import http.client
import json
import lzma
import os
import re
import shutil
import stat
import sys
import tarfile
import time
import unicodedata
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import IO, NamedTuple

from ..base.errors import Error
from ..base.machine import amount
from .layouts import LAYOUTS

SETS = Path(__file__).resolve().parent / "sets", Path(__file__).resolve().parents[2] / "data"  # installed, or not
SOURCES = next(path for folder in SETS if (path := folder / "sources.json").is_file())


class Archive(NamedTuple):
    """A file that a data set comes in; `bytes` is 0 where the size is not known, `exact` False where it is rounded."""

    name: str
    url: str
    stated_by: str  # whose figures these are
    checksum: str = ""  # KIND:HEXADECIMAL; without one nothing is downloaded
    bytes: int = 0
    exact: bool = True

    def __str__(self) -> str:
        return f"{self.name}, {'' if self.exact else 'about '}{amount(self.bytes) if self.bytes else 'size unknown'}"


class DataSet(NamedTuple):
    """What sources.json says of a data set."""

    what: str
    terms: str
    site: str
    root: str  # its usual place
    counts: dict[str, int]  # below the root: files by pattern, or lines of a list
    archives: list[Archive]
    top: str = ""  # the folder in the archives that becomes the root, if that is a folder in them

    def state(self, root: Path) -> str:
        """What is under `root`: "" if all is, else "not there" or "incomplete" and the first thing that is wrong."""
        found = {pattern: sum(1 if "*" in pattern else len(path.read_text("utf-8", "replace").splitlines())
                              for path in root.glob(pattern)) for pattern in self.counts}
        wrong = [f"{pattern}: {found[pattern]} of {n}" for pattern, n in self.counts.items() if found[pattern] != n]
        return "" if not wrong else f"incomplete ({wrong[0]})" if any(found.values()) else "not there"


def catalogue() -> dict[str, DataSet]:
    """The data sets of sources.json by name."""
    sets = {}
    for name, facts in json.loads(SOURCES.read_text("utf-8")).items():
        usual = {"root": LAYOUTS[name].root} if name in LAYOUTS else {}
        sets[name] = DataSet(**usual | facts | {"archives": [Archive(**a) for a in facts["archives"]]})
    return sets


def prepare(data: DataSet, root: Path, archives: Path, consent: Callable[[], bool]) -> None:
    """Make `root` from the archives in a folder, downloading those that are not there.

    Asks `consent` before it downloads. `root` (or, if it is there, its entries) appears when all is
    unpacked and counted; before that only archives, or parts of them, are left behind. Raises Error.
    """
    if not (state := data.state(root)):
        return print(f"{root}: there, complete")
    if state != "not there":
        raise Error(f"{root} is {state}; move it away, or give another --root")
    missing = [a for a in data.archives if not (archives / a.name).is_file()]
    print(f"{data.what}\nsite     {data.site}\nterms    {data.terms}")
    for archive in data.archives:
        print(f"archive  {archive}, {f'from {archive.url}' if archive in missing else f'in {archives}'}")
        if archive in missing and not archive.checksum:
            raise Error(f"no checksum of {archive.name} is known: get it from {archive.url} into {archives}, then try again")
    if missing and not consent():
        raise Error("nothing is downloaded without your consent: --yes gives it")
    space({archives: sum(a.bytes for a in missing), root: sum(a.bytes for a in data.archives)})
    for archive, path in ((a, archives / a.name) for a in data.archives):
        if archive in missing:
            download(archive.url, path, archive.checksum, archive.bytes if archive.exact else None)
        elif archive.checksum:
            verify(path, archive.checksum)
        else:
            print(f"no checksum is known to compare with: sha256 {digest(path)}  {path}")
    scratch = root.with_name(f".{root.name}.part")
    scratch.mkdir(parents=True, exist_ok=True)
    with alone(scratch):
        try:
            for left in scratch.iterdir():  # by a run that was killed
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            for archive in data.archives:
                print(f"unpacking {archive.name}", flush=True)
                unpack(archives / archive.name, scratch, data.top)
            if state := data.state(scratch):
                raise Error(f"what was expected in the archives is {state}; nothing was made")
            for entry in list(scratch.iterdir()) if root.exists() else [scratch]:
                if not (place := root if entry == scratch else root / entry.name).exists():
                    entry.rename(place)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    if state := data.state(root):
        raise Error(f"{root} is {state}: what was there before is in the way")
    print(f"{root}: " + ", ".join(f"{count} {pattern}" for pattern, count in data.counts.items()))


BLOCK, TRIES = 1 << 20, 5  # bytes; requests in a row without one byte more
DAMAGE = (OSError, EOFError, RuntimeError, IndexError, ValueError, zlib.error, lzma.LZMAError,
          tarfile.TarError, zipfile.BadZipFile)  # what Python's readers raise for damaged archives
@contextmanager
def meter(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A function that is told how many bytes are there: one line redrawn on a terminal, a line every 10 s elsewhere."""
    due, (start, end) = 0.0, ("\r\x1b[K", "") if sys.stderr.isatty() else ("", "\n")

    def show(done: int) -> None:
        nonlocal due
        if time.monotonic() >= due:
            due = time.monotonic() + (0.2 if start else 10)
            share = f" of {amount(total)}, {100 * done // total} %" if total else ""
            print(f"{start}{what}: {amount(done)}{share}", end=end, file=sys.stderr, flush=True)

    try:
        yield show
    finally:
        sys.stderr.write(start)


def digest(path: Path, kind: str = "sha256") -> str:
    """The checksum of a file in lower-case hexadecimal; kind: a name that hashlib knows."""
    sums = hashlib.new(kind, usedforsecurity=False)
    with open(path, "rb") as file, meter(f"{kind} of {path.name}", path.stat().st_size) as show:
        while block := file.read(BLOCK):
            sums.update(block)
            show(file.tell())
    return sums.hexdigest()


def verify(path: Path, checksum: str) -> None:
    """Raise Error unless a file has `checksum`, written KIND:HEXADECIMAL."""
    kind, _, expected = checksum.partition(":")
    if (found := digest(path, kind)) != expected.lower():
        raise Error(f"{path} is damaged, or another file: its {kind} is {found}, expected {expected}")


def space(needs: dict[Path, int]) -> None:
    """Raise Error where a disk has less room than the folders on it need, in bytes."""
    disks: dict[int, int] = {}
    for folder, size in needs.items():
        place = next(p for p in (folder / "x").absolute().parents if p.exists())
        disk, free = place.stat().st_dev, shutil.disk_usage(place).free
        disks[disk] = disks.get(disk, 0) + size
        if free < disks[disk]:
            raise Error(f"the disk of {place} has {amount(free)} free, and {amount(disks[disk])} are needed")


def download(url: str, path: Path, checksum: str, size: int | None = None, timeout: float = 60.0, pause: float = 1.0) -> None:
    """Get a file whole and checked, or not at all.

    What has arrived is kept in PATH.part; the next call goes on from there, if the server still has the same file. A
    file with another checksum ends as PATH.bad. checksum: KIND:HEXADECIMAL; size: bytes, where known; timeout:
    seconds without a byte; pause: seconds before another try, more each time. Raises Error naming the URL.
    """
    part, tag, bad = (path.with_name(path.name + end) for end in (".part", ".part.tag", ".bad"))
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(part, "ab") as file, alone(part), meter(path.name, size) as show:
        left, before = TRIES, file.tell()
        while True:
            try:
                if _transfer(url, file, tag, size, timeout, show):
                    break
                reason = "the transfer ended early"
            except (OSError, http.client.HTTPException) as error:
                reason = str(error) or type(error).__name__
                if getattr(error, "code", 500) in (400, 401, 403, 404, 410):
                    raise Error(f"{url}: {reason}") from None
            left, before = TRIES if file.tell() > before else left - 1, file.tell()
            if not left:
                raise Error(f"{url}: {reason} ({TRIES} times in a row); the same command goes on from the {amount(before)} got")
            time.sleep(pause * (TRIES - left))
        tag.unlink(missing_ok=True)
        try:
            verify(part, checksum)
        except Error as error:
            os.replace(part, bad)
            raise Error(f"{url}: {error} (kept as {bad.name})") from None
        os.replace(part, path)
@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold a file or folder against other runs of this program; Error if one holds it already."""
    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise Error(f"another run is at work on {path}") from None
    finally:
        os.close(handle)


def _transfer(url: str, file: IO, tag: Path, size: int | None, timeout: float, show: Callable[[int], None]) -> bool:
    """One request for what `file` lacks; whether all is there now. The tag tells versions of the server's file apart."""
    start = file.tell()
    if size is not None and start >= size:
        return start == size or _restart(file)
    version = tag.read_text("latin-1") if tag.exists() else ""
    headers = {"User-Agent": "netspec", "Range": f"bytes={start}-", "If-Range": version}
    headers = {key: value for key, value in headers.items() if value and (start or key == "User-Agent")}
    try:
        reply = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout)
    except urllib.request.HTTPError as error:
        if error.code == 416:  # the server's file is no longer than what is here
            _restart(file)
        raise
    with reply:
        total = reply.headers.get("Content-Length")
        if reply.status == 206:
            given = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", reply.headers.get("Content-Range", ""))
            if not given or int(given[1]) != start:
                return _restart(file)
            total = given[2].replace("*", "")
        elif start:  # the server knows no ranges, or has another file now
            _restart(file)
        if size is not None and total and int(total) != size:
            raise Error(f"{url}: the server has a file of {total} bytes, expected {size}")
        etag = reply.headers.get("ETag", "W/")
        tag.write_text(reply.headers.get("Last-Modified", "") if etag.startswith("W/") else etag, "latin-1")
        while block := reply.read1(BLOCK):
            if size is not None and file.tell() + len(block) > size:
                raise Error(f"{url}: the server sends more than the {size} bytes expected")
            _write(file, block)
            show(file.tell())
    return not total or file.tell() == int(total)


def _restart(file: IO) -> bool:
    return bool(file.truncate(0) or file.seek(0))


def _write(file: IO, block: bytes) -> None:
    try:
        file.write(block)
        file.flush()
    except OSError as error:
        raise Error(f"{file.name} cannot be written: {error.strerror}") from None


def _members(archive: Path) -> Iterator[tuple[str, str, int, Callable[[], IO[bytes]]]]:
    """Name, kind ("file", "folder", "link or device"), size in bytes as the archive says, and how to read it."""
    if archive.suffix.lower() == ".zip":
        with zipfile.ZipFile(archive) as zipped:
            for info in zipped.infolist():
                form = stat.S_IFMT(info.external_attr >> 16) or stat.S_IFREG
                kind = "folder" if info.is_dir() else "file" if form == stat.S_IFREG else "link or device"
                yield info.filename, kind, info.file_size, lambda info=info: zipped.open(info)
    else:
        with tarfile.open(archive, "r|*") as tar:
            for info in tar:
                kind = "folder" if info.isdir() else "file" if info.isreg() else "link or device"
                yield info.name, kind, info.size, lambda info=info: tar.extractfile(info)


def unpack(archive: Path, folder: Path, top: str = "") -> int:
    """Write the files of a .zip or .tar (compressed or not) under `folder`; how many.

    top: only what is in the folder of this name, from there on. Only plain files are made, under new names. Raises
    Error for a path that is absolute or has '..', a link or device, names that clash on some system, more than 100
    times the archive's size and 64 MiB, or than the disk has room for, or damage; the caller removes what was written.
    """
    left = min(100 * archive.stat().st_size + (64 << 20), shutil.disk_usage(folder).free)
    folders: dict[str, str] = {}
    files: set[str] = set()
    try:
        for name, kind, size, read in _members(archive):
            parts = [p for p in name.replace("\\", "/").split("/") if p not in ("", ".")]
            refused = f"nothing of {archive} is used: it holds '{name}', "
            if name[:1] in ("/", "\\") or any(p == ".." or ":" in p or "\0" in p for p in parts):
                raise Error(f"{refused}a path that leads out of the folder")
            parts = parts[parts.index(top) + 1 :] if top in parts else [] if top else parts
            if not parts or kind == "folder":
                continue
            if kind != "file":
                raise Error(f"{refused}a {kind}; expected files and folders only")
            *above, path = accumulate(parts, "{}/{}".format)
            *keys, key = (unicodedata.normalize("NFC", p).casefold() for p in (*above, path))
            clash = key in folders or not files.isdisjoint([*keys, key])
            if clash or any(folders.setdefault(k, p) != p for k, p in zip(keys, above, strict=True)):
                raise Error(f"{refused}a name that is there already, or differs from another in upper and lower case only")
            files.add(key)
            if (left := left - max(size, 4096)) < 0:  # no file takes less of a disk
                raise Error(f"{refused}and with it too much for an archive of this size, or for the disk")
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            with open(folder / path, "xb") as file, read() as source:
                while block := source.read(BLOCK):
                    _write(file, block)
                if file.tell() != size:
                    raise EOFError(f"'{name}' ends early")
    except DAMAGE as error:
        raise Error(f"{archive} cannot be unpacked: {str(error) or type(error).__name__}") from None
    return len(files)
