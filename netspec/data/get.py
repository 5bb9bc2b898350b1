"""Data sets from where they are published, or from archives on disk; data/sources.json has the facts."""

import hashlib
import http.client
import json
import math
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO, NamedTuple

from ..base.errors import Error
from ..base.files import alone, make_folder
from ..base.machine import amount
from .layouts import LAYOUTS, SETS
from .unpack import BLOCK, unpack, write_block

SOURCES = SETS / "sources.json"
TRIES = 5  # requests in a row without one byte more
# Shows how far a file is: called with what is done to it and its bytes in all (None: unknown), it gives a
# function that is told, again and again, how many bytes are done.
Meter = Callable[[str, int | None], AbstractContextManager[Callable[[int], object]]]


class Unserved(Error):
    """A file does not come from an address, or another one does: another address may have it."""


def silent(what: str, total: int | None) -> AbstractContextManager[Callable[[int], object]]:
    """The Meter that shows nothing."""
    return nullcontext(lambda done: None)


class Archive(NamedTuple):
    """A file that a data set comes in.

    `bytes` is 0 where the size is not known; `exact` is False where it is rounded.
    """

    name: str
    url: str
    stated_by: str  # whose figures these are
    checksum: str = ""  # KIND:HEXADECIMAL; without one nothing is downloaded
    bytes: int = 0
    exact: bool = True

    def __str__(self) -> str:
        size = amount(self.bytes) if self.bytes else "size unknown"
        return f"{self.name}, {'' if self.exact else 'about '}{size}"


class DataSet(NamedTuple):
    """What sources.json says of a data set."""

    what: str
    terms: str
    site: str
    root: str  # its usual place
    counts: dict[str, int]  # below the root: files by pattern, or lines of a list
    archives: list[Archive]
    top: str = ""  # the folder in the archives that becomes the root, if that is a folder in them
    program: str = ""  # below data/: draws the set, which is in no archive

    def state(self, root: Path) -> str:
        """What is under `root`: "" if all is, or "not there", or "incomplete" and the first thing missing."""
        found = {pattern: sum(1 if "*" in pattern else len(path.read_text("utf-8", "replace").splitlines())
                              for path in root.glob(pattern)) for pattern in self.counts}
        if not any(found.values()):
            return "not there"
        wrong = [f"{key}: {found[key]} of {n}" for key, n in self.counts.items() if found[key] != n]
        return f"incomplete ({wrong[0]})" if wrong else ""


def catalogue() -> dict[str, DataSet]:
    """The data sets of sources.json by name."""
    sets = {}
    for name, facts in json.loads(SOURCES.read_text("utf-8")).items():
        usual = {"root": LAYOUTS[name].root} if name in LAYOUTS else {}
        sets[name] = DataSet(**usual | facts | {"archives": [Archive(**a) for a in facts["archives"]]})
    return sets


def obtained(dataset: str, root: str = "") -> str:
    """The end of an error sentence: what brings a data set of LAYOUTS that should be in `root`."""
    sets = catalogue()
    name = next((name for name, data in sets.items() if data.root == root), dataset)
    command = f"netspec data {name} gets it" if name in sets else "netspec data lists what it gets"
    return f"; {command}, {SETS / dataset / 'README.md'} says how to get it"


def prepare(data: DataSet, root: Path, archives: Path, consent: Callable[[], bool],
            say: Callable[[str], object], meter: Meter = silent) -> None:
    """Make `root` from the archives in a folder, downloading those that are not there.

    Asks `consent` before it downloads, and tells `say` what it does. `root` (or, if it is there, its entries)
    appears when all is unpacked and counted; before that only archives, or parts of them, are left behind.
    Raises Error.
    """
    state = data.state(root)
    if not state:
        say(f"{root}: there, complete")
        return
    if state != "not there":
        raise Error(f"{root} is {state}; move it away, or give another --root")
    missing = [a for a in data.archives if not (archives / a.name).is_file()]
    say(f"{data.what}\nsite     {data.site}\nterms    {data.terms}")
    for archive in data.archives:
        say(f"archive  {archive}, {f'from {archive.url}' if archive in missing else f'in {archives}'}")
        if archive in missing and not archive.checksum:
            raise Error(f"no checksum of {archive.name} is known: get it from {archive.url} into {archives}, "
                        "then try again")
    if missing and not consent():
        raise Error("nothing is downloaded without your consent: --yes gives it")
    space({archives: sum(a.bytes for a in missing), root: sum(a.bytes for a in data.archives)})
    for archive in data.archives:
        path = archives / archive.name
        if archive in missing:
            size = archive.bytes if archive.exact else None
            most = 2 * archive.bytes or math.inf  # of a rounded size
            download(archive.url, path, archive.checksum, size, meter=meter, most=most)
        elif archive.checksum:
            verify(path, archive.checksum, meter)
        else:
            say(f"no checksum is known to compare with: sha256 {digest(path, meter=meter)}  {path}")
    _make(data, root, archives, say)
    say(f"{root}: " + ", ".join(f"{count} {pattern}" for pattern, count in data.counts.items()))


def draw(data: DataSet, root: Path) -> None:
    """Let the program of a data set make `root`, and say so; it leaves one that is there. Raises Error."""
    command = [sys.executable, str(SETS / data.program), "--root", str(root)]
    if subprocess.run(command).returncode:
        raise Error(f"{root} is not made: {data.program} says why above")


def _make(data: DataSet, root: Path, archives: Path, say: Callable[[str], object]) -> None:
    """Unpack all archives beside the root, count what is in them, and move it to the root."""
    scratch = make_folder(root.with_name(f".{root.name}.part"))
    with alone(scratch):
        try:
            for left in scratch.iterdir():  # by a run that was killed
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            for archive in data.archives:
                say(f"unpacking {archive.name}")
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


def space(needs: dict[Path, int]) -> None:
    """Raise Error where a disk has less room than the folders on it need, in bytes."""
    disks: dict[int, int] = {}
    for folder, size in needs.items():
        place = next(p for p in (folder / "x").absolute().parents if p.exists())
        disk, free = place.stat().st_dev, shutil.disk_usage(place).free
        disks[disk] = disks.get(disk, 0) + size
        if free < disks[disk]:
            raise Error(f"the disk of {place} has {amount(free)} free, and {amount(disks[disk])} are needed")


def digest(path: Path, kind: str = "sha256", meter: Meter = silent) -> str:
    """The checksum of a file in lower-case hexadecimal; kind: a name that hashlib knows."""
    sums = hashlib.new(kind, usedforsecurity=False)
    with open(path, "rb") as file, meter(f"{kind} of {path.name}", path.stat().st_size) as show:
        while block := file.read(BLOCK):
            sums.update(block)
            show(file.tell())
    return sums.hexdigest()


def verify(path: Path, checksum: str, meter: Meter = silent) -> None:
    """Raise Error unless a file has `checksum`, written KIND:HEXADECIMAL, or one that begins with it."""
    kind, _, expected = checksum.partition(":")
    found = digest(path, kind, meter)
    if not found.startswith(expected.lower()):
        raise Error(f"{path} is damaged, or another file: its {kind} is {found}, expected {expected}")


def download(url: str, path: Path, checksum: str, size: int | None = None, timeout: float = 60.0,
             pause: float = 1.0, meter: Meter = silent, most: float = math.inf,
             fits: Callable[[Path], object] = lambda part: None) -> None:
    """Get a file whole and checked, or not at all.

    What has arrived is kept in PATH.part; the next call goes on from there, if the server still has the same
    file. A file with another checksum, or that `fits` raises Error for, ends as PATH.bad. checksum:
    KIND:HEXADECIMAL, or how it begins; "": none is known, and no other host than the URL's is asked. size:
    bytes, where known; most: that may come where it is not. timeout: seconds without a byte; pause: seconds
    before another try, more each time. Raises Error naming the URL, at once if nobody answers there.
    """
    part, tag, bad = (path.with_name(path.name + end) for end in (".part", ".part.tag", ".bad"))
    make_folder(path.parent)
    part.touch()
    with alone(part):
        with open(part, "ab") as file, meter(path.name, size) as show:
            _Fetching(url, file, tag, size, most, timeout, bool(checksum), show).fill(pause)
        tag.unlink(missing_ok=True)
        try:
            if checksum:
                verify(part, checksum, meter)
            fits(part)
        except Error as error:
            os.replace(part, bad)
            raise Unserved(f"{url}: {error} (kept as {bad.name})") from None
        os.replace(part, path)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows where a server points, but not from https to http, nor, without a checksum, to another host."""

    def __init__(self, anywhere: bool) -> None:
        self.anywhere = anywhere

    def redirect_request(self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str,
                         headers: http.client.HTTPMessage, newurl: str) -> urllib.request.Request | None:
        fp.close()  # else it is read, however long it is
        old, new = urllib.parse.urlsplit(req.full_url), urllib.parse.urlsplit(newurl)
        if old.scheme == "https" != new.scheme:
            raise Unserved(f"{req.full_url}: leads to {newurl}, which anybody on the way could change")
        if not self.anywhere and old.netloc != new.netloc:
            raise Unserved(f"{req.full_url}: leads to {newurl}, another host, and no checksum is known")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _Fetching(NamedTuple):
    """A file that comes from a URL; the tag file tells versions of the server's file apart."""

    url: str
    file: IO[bytes]
    tag: Path
    size: int | None
    most: float
    timeout: float
    checked: bool
    show: Callable[[int], object]

    def fill(self, pause: float) -> None:
        """All that the file lacks, in as many requests as that takes."""
        left, most, begun = TRIES, self.file.tell(), self.file.tell()
        while True:
            try:
                if self.transfer():
                    return
                reason = "the transfer ended early"
            except (OSError, http.client.HTTPException, ValueError, OverflowError) as error:
                reason = self.refused(error, self.file.tell() > begun)
            got = self.file.tell()
            left, most = (TRIES, got) if got > most else (left - 1, most)  # what comes again is no progress
            if not left:
                raise Unserved(f"{self.url}: {reason} ({TRIES} times in a row); the same command goes on "
                               f"from the {amount(got)} got")
            time.sleep(pause * (TRIES - left))

    def refused(self, error: Exception, got: bool) -> str:
        """Why a request failed; Error if it is not worth another. got: whether bytes came before."""
        code = getattr(error, "code", 500)
        wrong = ValueError | OverflowError | http.client.InvalidURL
        nowhere = isinstance(error, wrong) or 300 <= code < 400  # it leads to
        if nowhere or code in (400, 401, 403, 404, 410):
            raise Unserved(f"{self.url}: {' '.join(str(error).split())}") from None
        if isinstance(error, urllib.error.HTTPError | http.client.HTTPException) or not str(error):
            return str(error) or type(error).__name__
        if isinstance(error, urllib.error.URLError) and not got:
            why = getattr(error.reason, "strerror", None) or error.reason
            raise Unserved(f"{self.url}: nobody answers there ({why})") from None
        return str(error)

    def transfer(self) -> bool:
        """One request for what the file lacks; whether all is there now."""
        url, file, size, start = self.url, self.file, self.size, self.file.tell()
        if size is not None and start >= size:
            return start == size or _restart(file)
        opener = urllib.request.build_opener(_Redirects(self.checked))
        try:
            reply = opener.open(_request(url, start, self.tag), timeout=self.timeout)
        except urllib.error.HTTPError as error:
            if error.code == 416:  # the server's file is no longer than what is here
                _restart(file)
            raise
        with reply:
            total = reply.headers.get("Content-Length", "")
            total = total if total.isdecimal() else ""
            if reply.status == 206:
                given = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", reply.headers.get("Content-Range", ""))
                if not given or int(given[1]) != start:
                    return _restart(file)
                total = given[2].replace("*", "")
            elif start:  # the server knows no ranges, or has another file now
                _restart(file)
            if size is not None and total and int(total) != size:
                raise Unserved(f"{url}: the server has a file of {total} bytes, expected {size}")
            etag = reply.headers.get("ETag", "W/")
            version = reply.headers.get("Last-Modified", "") if etag.startswith("W/") else etag
            with open(self.tag, "wb") as tag:
                write_block(tag, version.encode("latin-1"))
            self.read(reply)
        return not total or file.tell() == int(total)

    def read(self, reply: http.client.HTTPResponse) -> None:
        """What comes to the file."""
        most = self.most if self.size is None else self.size
        while block := reply.read1(BLOCK):
            if self.file.tell() + len(block) > most:
                raise Unserved(f"{self.url}: the server sends more than the {most} bytes expected")
            write_block(self.file, block)
            self.show(self.file.tell())


def _request(url: str, start: int, tag: Path) -> urllib.request.Request:
    """For what comes after the first `start` bytes, if the server still has the version of the tag file."""
    headers = {"User-Agent": "netspec"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if tag.exists() and (version := tag.read_text("latin-1")):
            headers["If-Range"] = version
    return urllib.request.Request(url, headers=headers)


def _restart(file: IO[bytes]) -> bool:
    return bool(file.truncate(0) or file.seek(0))
