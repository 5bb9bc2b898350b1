"""Attempts with archives, and with servers that downloads come from."""

import hashlib
import io
import random
import socket
import stat
import tarfile
import threading
import warnings
import zipfile
from contextlib import suppress
from pathlib import Path

from webserver import Web

from .changing import TEXTS, WHOLE, bytes_changed, text_changed
from .drawing import Area
from .pictures import pictures
from .runner import door

NAMES = ("a.txt", "b/c.txt", "top/a", "top/b/c", "../beside", "/tmp/hostile-archive", "a/../../beside", "a\\..\\..\\beside", "C:\\a", "a//b", "./a",
         "A.TXT", "e\u0301", "\u00e9", "con", "a" * 300, "/".join("d" * 200), "b", "b/c.txt/d", "a\0b", "\x1b[31m", *TEXTS)
KINDS = (tarfile.REGTYPE,) * 12 + (tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE,
                                   tarfile.CONTTYPE, tarfile.GNUTYPE_SPARSE, tarfile.XHDTYPE, b"V", b"~")
BODY = random.Random(7).randbytes(5000)
SUM = hashlib.sha256(BODY).hexdigest()


@door
def unpack(archive: str, top: str = "") -> None:
    from netspec.data.unpack import unpack

    Path("unpacked").mkdir()
    try:
        unpack(Path(archive), Path("unpacked"), top)
    finally:  # only plain files and folders below, whatever it says
        for path in Path("unpacked").rglob("*"):
            assert stat.S_IFMT(path.lstat().st_mode) in (stat.S_IFREG, stat.S_IFDIR), path


def _tar(numbers: random.Random) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:" + numbers.choice(("", "", "gz", "bz2", "xz")),
                      format=numbers.choice((tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT))) as archive:
        for _ in range(numbers.choice((0, 1, 2, 3, 3, 6))):
            info = tarfile.TarInfo(numbers.choice(NAMES) if numbers.random() < 0.6 else f"file{numbers.randrange(5)}")
            info.type = numbers.choice(KINDS)
            info.linkname = numbers.choice(NAMES) if not info.isreg() else ""
            info.mode, info.uid = numbers.choice((0o644, 0o7777, 0)), numbers.choice((0, 1000, 2**21 - 1))
            data = numbers.choice((b"", b"text", bytes(10_000), bytes(3 << 20))) if info.isreg() else b""
            info.size = len(data)
            if numbers.random() < 0.15:
                info.pax_headers = {numbers.choice(("path", "size", "linkpath", "GNU.sparse.map", "GNU.sparse.realsize", "GNU.sparse.major", "x", "uid")):
                                    numbers.choice(("../beside", "-1", "99999999999999", "0,1", "1", "a" * 5000, "0,5," * 500))}
            if numbers.random() < 0.1:
                info.mtime = numbers.choice((-1, 2**40, 1e300, 0.5))
            with suppress(ValueError, OSError, OverflowError):  # what a format cannot say
                archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


def _header(numbers: random.Random, data: bytes) -> bytes:
    """A field of a header changed, and its sum made right."""
    blocks = [at for at in range(0, len(data) - 511, 512) if data[at + 257:at + 262] == b"ustar"]
    if not blocks:
        return bytes_changed(data, numbers, 600)
    at = numbers.choice(blocks)
    begin, size = numbers.choice(((0, 100), (100, 8), (124, 12), (124, 12), (136, 12), (156, 1), (157, 100), (257, 8), (345, 155), (386, 24), (482, 13)))
    field = numbers.choice((b"\xff" * size, b"\x80" + b"\0" * (size - 2) + b"\x7f", b"7" * size, b"-1", b"\0" * size, b"../" * size, b"S", b"x", b"g", b"L", b"K"))
    head = bytearray(data[at:at + 512])
    head[begin:begin + size] = field[:size].ljust(size, b"\0")
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return data[:at] + bytes(head) + data[at + 512:]


def _zip(numbers: random.Random) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w") as archive:
        warnings.simplefilter("ignore")
        for _ in range(numbers.choice((0, 1, 2, 3, 6))):
            info = zipfile.ZipInfo("a")
            info.filename = numbers.choice(NAMES) if numbers.random() < 0.6 else f"file{numbers.randrange(5)}"
            info.compress_type = numbers.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
            info.external_attr = numbers.choice((0o100644, 0o100644, 0o120777, 0o020666, 0o040755, 0o010644)) << 16
            with suppress(ValueError, UnicodeError):
                archive.writestr(info, numbers.choice((b"", b"text", bytes(10_000), bytes(3 << 20), b"../beside")))
        if numbers.random() < 0.1:
            archive.comment = b"PK\5\6" * 10
    data = file.getvalue()
    if numbers.random() < 0.5:  # in the central directory, where what counts stands
        at = data.rfind(b"PK\1\2") if numbers.random() < 0.6 else data.rfind(b"PK\5\6")
        data = data[:at] + bytes_changed(data[at:], numbers, 46)
    return data


def archive(numbers: random.Random, folder: Path) -> list:
    if numbers.random() < 0.6:
        name, data = numbers.choice(("a.tar", "a.tgz", "a.bz2")), _tar(numbers)
        for _ in range(numbers.choice((0, 0, 1, 2))):
            data = _header(numbers, data)
    else:
        name, data = numbers.choice(("a.zip", "a.ZIP", "a.tar")), _zip(numbers)
    if numbers.random() < 0.3:
        data = bytes_changed(data, numbers, 100)
    (folder / name).write_bytes(data)
    return ["unpack", name, numbers.choice(("", "", "top", "b", ".."))]


class Raw(threading.Thread):
    """A server that answers each connection with the next of some bytes, whatever it is asked."""

    def __init__(self, answers: list[bytes]) -> None:
        super().__init__(daemon=True)
        self.answers, self.socket = answers, socket.create_server(("127.0.0.1", 0))
        self.start()

    def run(self) -> None:
        while True:
            connection, _ = self.socket.accept()
            with suppress(OSError), connection:
                connection.settimeout(1)
                connection.recv(4096)
                connection.sendall(self.answers[0])
                self.answers.append(self.answers.pop(0))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.socket.getsockname()[1]}/file"


@door
def download(answers: list[str], ways: dict, checksum: str, size: int | None, most: float) -> None:
    """A download from a server of Web's ways, or of raw answers (as latin-1); what arrives under its name is whole."""
    from netspec.data.get import download

    threading.stack_size(1 << 18)  # of a server that stalls each request has a thread, within the attempt's memory
    server: Raw | Web = Raw([answer.encode("latin-1") for answer in answers]) if answers else Web(BODY)
    for name, value in ways.items():
        setattr(server, name, value)
    if "location" in ways:
        server.location = ways["location"].replace("SELF", server.url)
    try:
        download(server.url, Path("got/a.tar"), checksum, size, timeout=0.05, pause=0.0, most=most)
    finally:
        got = Path("got/a.tar")
        assert not checksum or not got.exists() or got.read_bytes() == BODY
        for name in ("a.tar.part", "a.tar.part.tag", "a.tar.bad"):  # kept for the next call
            Path("got", name).unlink(missing_ok=True)


def _answer(numbers: random.Random) -> str:
    head = {"Content-Length": str(numbers.choice((len(BODY), *WHOLE))), "ETag": numbers.choice(('"one"', 'W/"x"', "\u00ff", "a" * 9000)),
            "Content-Range": numbers.choice((f"bytes 0-{len(BODY) - 1}/{len(BODY)}", "bytes */5", "bytes 5-1/0", "x", f"bytes {WHOLE[-1]}-9/*")),
            "Location": numbers.choice(("/file", "file:///etc/passwd", "http://", "ftp://127.0.0.1/x", "http://[", "//127.0.0.1:1/", "\x01", "SELF")),
            "Transfer-Encoding": numbers.choice(("chunked", "gzip", "identity")), "Last-Modified": numbers.choice(TEXTS).encode().decode("latin-1")}
    lines = [f"{name}: {value}" for name, value in head.items() if numbers.random() < 0.5]
    status = numbers.choice((200, 200, 206, 206, 301, 302, 304, 307, 308, 401, 404, 416, 418, 429, 500, 503, 100, 101, 204, 999, 0, "x"))
    text = "\r\n".join([f"HTTP/1.1 {status} {numbers.choice(('OK', '', chr(27) + '[31m', 'x' * 3000))}", *lines, "", ""])
    if numbers.random() < 0.3:
        text = text_changed(text, numbers).encode("utf-8", "replace").decode("latin-1")
    return text + numbers.choice((BODY, BODY, b"", BODY[:100], b"5\r\nhello\r\n0\r\n\r\n", b"fffffffffffffff\r\n", BODY * 2)).decode("latin-1")


def downloading(numbers: random.Random, folder: Path) -> list:
    ways: dict = {}
    answers = [_answer(numbers) for _ in range(numbers.choice((1, 1, 2)))] if numbers.random() < 0.5 else []
    if not answers:
        for name, value in (("says_length", numbers.choice((True, False, *WHOLE, "x"))), ("cut", numbers.choice((None, 0, 1, 1000, 4999))),
                            ("ranges", numbers.random() < 0.5), ("etag", numbers.choice(('"one"', "", 'W/"x"'))),
                            ("wrong_start", numbers.choice((None, 0, 5, -1, 10**9))), ("stall", numbers.random() < 0.1),
                            ("statuses", [numbers.choice((None, 200, 206, 301, 302, 304, 403, 416, 429, 500, 503)) for _ in range(numbers.randrange(5))]),
                            ("location", numbers.choice(("SELF", "file:///etc/passwd", "http://127.0.0.1:1/", "ftp://127.0.0.1/", "http://[::", "x:", "")))):
            if numbers.random() < 0.35:
                ways[name] = value
    if numbers.random() < 0.4:  # what an earlier call left
        (folder / "got").mkdir()
        data = BODY[:numbers.choice((0, 1, 1000, 5000))] + b"x" * numbers.choice((0, 0, 1, 9000))
        (folder / "got/a.tar.part").write_bytes(data)
        if numbers.random() < 0.7:
            tag = numbers.choice((b'"one"', b'"old"', b"", b"\xff\x00", b"a\r\nX: y", b"t" * 70_000, "\u20ac".encode()))
            (folder / "got/a.tar.part.tag").write_bytes(tag)
    return ["download", answers, ways, numbers.choice((f"sha256:{SUM}", f"sha256:{SUM[:8]}", "")), numbers.choice((None, len(BODY), len(BODY), 1)),
            numbers.choice((1e9, 6000, 100))]


def _pairs(numbers: random.Random) -> bytes:
    """A shard of images and labels, with one member in a while that no shard has."""
    file = io.BytesIO()
    image, label = (pictures()[name] for name in ("PNG RGB", "PNG L"))
    with tarfile.open(fileobj=file, mode="w", format=numbers.choice((tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT))) as archive:
        for number in range(numbers.choice((0, 1, 2, 4))):
            key = numbers.choice(NAMES) if numbers.random() < 0.2 else f"a/{number}"
            for ending, data in (("png", image), ("seg.png", label), ("json", b"{}")):
                info = tarfile.TarInfo(f"{key}.{ending}")
                info.size = len(data) if numbers.random() < 0.95 else numbers.choice((0, 1, 2**33 - 1))
                if numbers.random() < 0.05:
                    info.type = numbers.choice(KINDS)
                if numbers.random() < 0.05:
                    info.pax_headers = {numbers.choice(("path", "size", "GNU.sparse.map", "GNU.sparse.realsize")): numbers.choice(("../a.png", "-512", "a\0.png", "9" * 30))}
                with suppress(ValueError, OSError, OverflowError):
                    archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


def shards(numbers: random.Random, folder: Path) -> list:
    for name in ("train-0.tar", "train-1.tar", "val-0.tar")[: numbers.choice((1, 2, 3))]:
        data = _pairs(numbers) if numbers.random() < 0.9 else _tar(numbers)
        for _ in range(numbers.choice((0, 0, 1, 2))):
            data = _header(numbers, data)
        if numbers.random() < 0.2:
            data = bytes_changed(data, numbers, 100)
        (folder / name).write_bytes(data)
    pattern = numbers.choice(("{split}-*.tar",) * 5 + ("{split}-{0..1}.tar", "*.tar", "../*.tar", "pipe:touch new.tar", "{0..9", "{split}-[01.tar"))
    text = f"shards: {pattern}\nimages: {numbers.choice(('{name}.*', '{name}.png'))}\nlabels: {{name}}.seg.png\nmean: 1, 2, 3\na\nb\nc\nd\n"
    (folder / "set.txt").write_text(text_changed(text, numbers) if numbers.random() < 0.2 else text, encoding="utf-8", errors="surrogateescape")
    return ["netspec", "data", "check", "set.txt", "--jobs", "1"]


AREAS = {"shards": Area(shards, 5_000), "archives": Area(archive, 8_000), "downloads": Area(downloading, 5_000)}
