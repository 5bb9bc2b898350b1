"""Downloads from a real server with faults, and archives that mean harm."""

import hashlib
import io
import os
import random
import signal
import socket
import stat
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest
from webserver import Web

from netspec import Error
from netspec.data import get as fetching
from netspec.data.get import download, space
from netspec.data.unpack import unpack

PROJECT = Path(__file__).resolve().parents[2]
BODY = random.Random(7).randbytes(300_000)
SUM = "sha256:" + hashlib.sha256(BODY).hexdigest()


@pytest.fixture
def web():
    server = Web(BODY)
    yield server
    server.stop()


def get(web, folder, checksum=SUM, size=300_000, timeout=5.0):
    download(web.url, folder / "a.tar", checksum, size, timeout=timeout, pause=0.01)


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def child(code, *arguments):
    """A Python process of its own with netspec; its output comes with its end."""
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], cwd=PROJECT, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


DOWNLOAD = """
import sys
from pathlib import Path
from netspec import Error
from netspec.data.get import download
try:
    download(sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), pause=0.01)
except Error as error:
    sys.exit(f"Error: {error}")
"""


# Downloads


def test_a_file_is_whole_and_nothing_else_is_left(web, tmp_path):
    get(web, tmp_path / "new" / "folder")
    assert (tmp_path / "new" / "folder" / "a.tar").read_bytes() == BODY
    assert names(tmp_path / "new" / "folder") == ["a.tar"]


@pytest.mark.parametrize("kind", ["md5", "sha1", "sha512"])
def test_other_checksums(web, tmp_path, kind):
    get(web, tmp_path, f"{kind}:{hashlib.new(kind, BODY).hexdigest().upper()}")
    assert names(tmp_path) == ["a.tar"]


@pytest.mark.parametrize("size", [len(BODY), None])
def test_a_connection_that_breaks_again_and_again_is_taken_up_where_it_broke(web, tmp_path, size):
    web.cut = 40_000
    get(web, tmp_path, size=size)
    assert (tmp_path / "a.tar").read_bytes() == BODY
    assert web.asked == [None, *(f"bytes={n}-" for n in range(40_000, 300_000, 40_000))]
    assert {headers.get("If-Range") for headers in web.requests[1:]} == {'"one"'}


def test_a_server_that_gives_no_byte_more_ends_it_and_the_next_call_goes_on(web, tmp_path):
    part = tmp_path / "a.tar.part"
    part.write_bytes(BODY[:100_000])
    web.statuses = [None] * 5
    with pytest.raises(Error, match=r"127.0.0.1.*5 times in a row.*goes on from the 100.0 kB got"):
        get(web, tmp_path)
    assert part.read_bytes() == BODY[:100_000] and web.asked == ["bytes=100000-"] * 5
    get(web, tmp_path)
    assert (tmp_path / "a.tar").read_bytes() == BODY and names(tmp_path) == ["a.tar"]


def test_tries_count_only_without_progress(web, tmp_path):
    web.cut = 20_000  # 15 requests
    get(web, tmp_path)
    assert len(web.requests) == 15


def test_a_server_without_ranges_sends_it_all_again(web, tmp_path):
    web.ranges = False
    (tmp_path / "a.tar.part").write_bytes(b"x" * 1000)
    get(web, tmp_path)
    assert (tmp_path / "a.tar").read_bytes() == BODY and web.asked == ["bytes=1000-"]


def test_a_file_that_changed_on_the_server_is_begun_again(web, tmp_path):
    (tmp_path / "a.tar.part").write_bytes(b"old" * 1000)
    (tmp_path / "a.tar.part.tag").write_text('"old"')
    get(web, tmp_path)
    assert (tmp_path / "a.tar").read_bytes() == BODY
    assert web.requests[-1]["If-Range"] == '"old"' and names(tmp_path) == ["a.tar"]


@pytest.mark.parametrize("etag", ["", 'W/"weak"'])
def test_without_a_tag_that_tells_versions_apart_the_checksum_does(web, tmp_path, etag):
    web.etag = etag
    web.cut = 200_000
    get(web, tmp_path)
    assert (tmp_path / "a.tar").read_bytes() == BODY and web.asked == [None, "bytes=200000-"]
    assert "If-Range" not in web.requests[1]


def test_a_part_that_begins_elsewhere_is_not_put_in(web, tmp_path):
    web.wrong_start = 5
    (tmp_path / "a.tar.part").write_bytes(BODY[:1000])
    get(web, tmp_path)
    assert (tmp_path / "a.tar").read_bytes() == BODY and web.asked == ["bytes=1000-", None]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_server_that_sends_the_same_part_again_and_again_is_left(web, tmp_path, ranges):
    web.wrong_start, web.ranges, web.cut = 0, ranges, 100_000
    with pytest.raises(Error, match="the transfer ended early .5 times in a row"):
        get(web, tmp_path)
    assert len(web.requests) <= 10 and names(tmp_path) == ["a.tar.part", "a.tar.part.tag"]


@pytest.mark.parametrize("size", [len(BODY), None])
@pytest.mark.parametrize("length", [300_000, 300_001])
def test_a_part_that_is_whole_or_too_long(web, tmp_path, size, length):
    (tmp_path / "a.tar.part").write_bytes((BODY + b"x")[:length])
    get(web, tmp_path, size=size)
    assert (tmp_path / "a.tar").read_bytes() == BODY
    if (size, length) == (300_000, 300_000):
        assert not web.requests  # a run that was killed before the check


def test_a_wrong_checksum_keeps_the_file_apart(web, tmp_path):
    with pytest.raises(Error, match=r"127.0.0.1.*sha256 is [0-9a-f]{64}, expected 00ff \(kept as a.tar.bad\)"):
        get(web, tmp_path, "sha256:00ff")
    assert names(tmp_path) == ["a.tar.bad"]
    get(web, tmp_path)
    assert (tmp_path / "a.tar").read_bytes() == BODY


def test_a_file_of_another_size_is_not_fetched(web, tmp_path):
    with pytest.raises(Error, match="the server has a file of 300000 bytes, expected 1000"):
        get(web, tmp_path, size=1000)
    web.says_length = False
    with pytest.raises(Error, match="sends more than the 1000 bytes"):
        get(web, tmp_path, size=1000)
    assert (tmp_path / "a.tar.part").stat().st_size <= 1000


def test_a_length_that_nobody_says(web, tmp_path):
    web.says_length = False
    get(web, tmp_path, size=None)
    assert names(tmp_path) == ["a.tar"]


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_file_that_is_not_there_is_asked_for_once(web, tmp_path, status):
    web.statuses = [status] * 9
    with pytest.raises(Error, match=f"{web.url}.*{status}"):
        get(web, tmp_path)
    assert len(web.requests) == 1


def test_a_server_that_is_busy_is_asked_again(web, tmp_path):
    web.statuses = [503, 429, 500, None]
    get(web, tmp_path)
    assert (tmp_path / "a.tar").read_bytes() == BODY


ENDLESS = {
    "a chunk of 2 to the 63": b"200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7fffffffffffffff0\r\nx",
    "a redirect with exabytes": b"302 Found\r\nLocation: /file\r\nContent-Length: 18446744073709551615\r\n\r\nx",
}


@pytest.mark.parametrize("reply", ENDLESS.values(), ids=ENDLESS)
def test_lengths_that_no_machine_can_hold(tmp_path, reply):
    with socket.create_server(("127.0.0.1", 0)) as server:
        def serve():
            with suppress(OSError):
                while True:
                    with server.accept()[0] as connection:
                        connection.recv(9999)
                        connection.sendall(b"HTTP/1.1 " + reply)

        threading.Thread(target=serve, daemon=True).start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/file"
        with pytest.raises(Error, match=url):
            download(url, tmp_path / "a.tar", SUM, None, timeout=5.0, pause=0.01)
        server.shutdown(socket.SHUT_RDWR)


def test_a_server_that_falls_silent(web, tmp_path):
    web.cut, web.stall = 100_000, True
    begun = time.monotonic()
    get(web, tmp_path, timeout=0.2)
    assert (tmp_path / "a.tar").read_bytes() == BODY and time.monotonic() - begun < 5
    assert web.asked == [None, "bytes=100000-", "bytes=200000-"]


def test_a_server_that_never_says_anything(web, tmp_path):
    web.cut, web.stall = 0, True
    with pytest.raises(Error, match="timed out.*5 times in a row"):
        get(web, tmp_path, timeout=0.1)


def test_nobody_is_there(web, tmp_path):
    web.stop()
    with pytest.raises(Error, match=f"{web.url}.*refused"):
        get(web, tmp_path)


def test_killed_in_the_middle_it_goes_on_from_there(web, tmp_path):
    web.cut, web.stall = 120_000, True
    running = child(DOWNLOAD, web.url, tmp_path / "a.tar", SUM, len(BODY))
    part = tmp_path / "a.tar.part"
    deadline = time.monotonic() + 30
    while not (part.exists() and part.stat().st_size == 120_000) and time.monotonic() < deadline:
        time.sleep(0.01)
    with pytest.raises(Error, match="another run is at work on .*a.tar.part"):
        get(web, tmp_path)
    running.kill()
    assert running.wait(10) == -signal.SIGKILL
    assert names(tmp_path) == ["a.tar.part", "a.tar.part.tag"] and part.read_bytes() == BODY[:120_000]
    web.cut = None
    get(web, tmp_path)
    assert (tmp_path / "a.tar").read_bytes() == BODY and names(tmp_path) == ["a.tar"]
    assert web.asked == [None, "bytes=120000-"]


def test_a_write_that_fails_ends_it_with_a_sentence(web, tmp_path):
    limit = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n" \
            "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
    running = child(limit + DOWNLOAD, web.url, tmp_path / "a.tar", SUM, len(BODY))
    _, err = running.communicate(timeout=30)
    assert running.returncode == 1 and f"{tmp_path}/a.tar.part cannot be written: File too large" in err, err
    get(web, tmp_path)
    assert (tmp_path / "a.tar").read_bytes() == BODY and web.asked[1] == "bytes=100000-"


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 200 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("only root can make a small disk")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk(web, tmp_path, small_disk):
    with pytest.raises(Error, match="a.tar.part cannot be written: No space left on device"):
        get(web, small_disk)
    kept = (small_disk / "a.tar.part").stat().st_size
    assert 100_000 < kept < 250_000 and len(web.requests) == 1
    (small_disk / "a.tar.part").unlink()
    with pytest.raises(Error, match=f"the disk of {small_disk} has 20.* kB free, and 300.0 kB are needed"):
        space({small_disk / "not" / "there": 200_000, small_disk: 100_000})
    (small_disk / "a.tar.part.tag").unlink()
    archive = tar(tmp_path / "big.tar", {f"{n}": os.urandom(30_000) for n in range(9)})
    with pytest.raises(Error, match="too much for an archive of this size, or for the disk"):
        unpack(archive, small_disk)
    for left in small_disk.iterdir():
        left.unlink()
    many = tar(tmp_path / "many.tar", {f"small/{n}": b"1" for n in range(90)})  # 90 bytes, but each takes a page
    with pytest.raises(Error, match="holds 'small/[345].', and with it too much"):
        unpack(many, small_disk)


def test_space_counts_each_disk_once(tmp_path):
    free = fetching.shutil.disk_usage(tmp_path).free
    space({tmp_path: free // 3, tmp_path / "b": free // 3})
    with pytest.raises(Error, match="are needed"):
        space({tmp_path: free * 2 // 3, tmp_path / "b": free * 2 // 3})


# Archives


def entry(name, kind=tarfile.REGTYPE, content=b"", **facts):
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(content)
    for key, value in facts.items():
        setattr(info, key, value)
    return info, content


def tar(path, files, mode="w"):
    """A tar of names and contents, or of what `entry` gives."""
    entries = [entry(*item) if isinstance(item, str) else item for item in files] if not isinstance(files, dict) else \
        [entry(name, content=content) for name, content in files.items()]
    with tarfile.open(path, mode) as out:
        for info, content in entries:
            out.addfile(info, io.BytesIO(content))
    return path


def zipped(path, files, compression=zipfile.ZIP_DEFLATED):
    """A zip of (name or ZipInfo, content)."""
    with zipfile.ZipFile(path, "w", compression) as out:
        for name, content in files:
            out.writestr(name, content)
    return path


def special(name, mode):
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


TREE = {"top/VOC/a.txt": b"one\n", "top/VOC/deep/er/b.bin": bytes(5000), "top/readme": b"no"}


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tgz", "a.tar.bz2", "a.tar.xz", "a.zip", "A.ZIP"])
def test_what_is_unpacked(tmp_path, name):
    path = tmp_path / name
    if name.lower().endswith("zip"):
        zipped(path, [("top/", b""), *TREE.items()])
    else:
        tar(path, [entry("./top", tarfile.DIRTYPE), *(entry(f"./{n}", content=c) for n, c in TREE.items())],
            {"gz": "w:gz", "tgz": "w:gz", "bz2": "w:bz2", "xz": "w:xz"}.get(name.rpartition(".")[2], "w"))
    (tmp_path / "all").mkdir()
    assert unpack(path, tmp_path / "all") == 3
    assert {str(p.relative_to(tmp_path / "all")): p.read_bytes() for p in (tmp_path / "all").rglob("*") if p.is_file()} == TREE
    (tmp_path / "voc").mkdir()
    assert unpack(path, tmp_path / "voc", "VOC") == 2
    assert (tmp_path / "voc" / "a.txt").read_bytes() == b"one\n" and names(tmp_path / "voc") == ["a.txt", "deep"]
    mode = (tmp_path / "voc" / "a.txt").stat().st_mode
    assert stat.S_ISREG(mode) and mode & 0o111 == 0  # as any file that this user makes, whatever the archive says


LEAVES = "a path that leads out of the folder"
OTHER = "a link or device; expected files and folders only"
CLASH = "a name that is there already, or differs from another in upper and lower case only"
NAME = "a name that is too long or has control characters"
GOOD = ("good.txt", b"good")
HOSTILE_TAR = {
    "above": ([entry("../evil", content=b"x")], LEAVES),
    "above, deep": ([entry("a/b/../../../evil", content=b"x")], LEAVES),
    "absolute": ([entry("/tmp/evil", content=b"x")], LEAVES),
    "another system's separators": ([entry("..\\evil", content=b"x")], LEAVES),
    "another system's root": ([entry("\\evil", content=b"x")], LEAVES),
    "a drive": ([entry("c:/evil", content=b"x")], LEAVES),
    "a folder above": ([entry("../dir", tarfile.DIRTYPE)], LEAVES),
    "a symbolic link out": ([entry("l", tarfile.SYMTYPE, linkname="/etc"), entry("l/evil", content=b"x")], OTHER),
    "a symbolic link inside": ([entry("l", tarfile.SYMTYPE, linkname="good.txt")], OTHER),
    "a hard link": ([entry("l", tarfile.LNKTYPE, linkname="../../etc/passwd")], OTHER),
    "a pipe": ([entry("p", tarfile.FIFOTYPE)], OTHER),
    "a device": ([entry("d", tarfile.CHRTYPE, devmajor=1, devminor=3)], OTHER),
    "a disk": ([entry("d", tarfile.BLKTYPE, devmajor=8)], OTHER),
    "a sparse file of terabytes": ([entry("s", content=b"1\n0\n4\n".ljust(512, b"x"), pax_headers={
        "GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "s", "GNU.sparse.realsize": "9" * 13})],
        "with it too much"),
    "a size beyond all disks": ([entry("s", pax_headers={"size": "9" * 30})], "with it too much"),
    "above, in an extended header": ([entry("x", content=b"x", pax_headers={"path": "../evil"})], LEAVES),
    "a name of 256 bytes": ([entry("a" * 256, content=b"x")], NAME),
    "folders in folders": ([entry("a/" * 500 + "b", content=b"x")], NAME),
    "what a terminal would obey": ([entry("a\x1b[2J\n", content=b"x")], NAME),
    "twice": ([entry("good.txt", content=b"bad")], CLASH),
    "twice, written otherwise": ([entry("./x//..good", content=b"1"), entry("x/./..good", content=b"2")], CLASH),
    "upper case": ([entry("Good.TXT", content=b"bad")], CLASH),
    "folders in upper case": ([entry("a/x", content=b"1"), entry("A/y", content=b"2")], CLASH),
    "two forms of one letter": ([entry("\u00e9", content=b"1"), entry("e\u0301", content=b"2")], CLASH),
    "a file where a folder is": ([entry("a/b", content=b"1"), entry("a", content=b"2")], CLASH),
    "a folder where a file is": ([entry("a", content=b"1"), entry("a/b", content=b"2")], CLASH),
}
HOSTILE_ZIP = {
    "above": ([("../evil", b"x")], LEAVES),
    "absolute": ([("/tmp/evil", b"x")], LEAVES),
    "another system's separators": ([("a\\..\\..\\evil", b"x")], LEAVES),
    "a drive": ([("C:evil", b"x")], LEAVES),
    "a symbolic link": ([(special("l", stat.S_IFLNK | 0o777), b"/etc")], OTHER),
    "a device": ([(special("d", stat.S_IFCHR | 0o666), b"")], OTHER),
    "a long name": ([("a" * 60000, b"x")], NAME),
    "what a terminal would obey": ([("a\x1b[2J\n", b"x")], NAME),
    "a pipe": ([(special("p", stat.S_IFIFO | 0o666), b"")], OTHER),
    "upper case": ([("GOOD.txt", b"bad")], CLASH),
    "a file where a folder is": ([("a/b", b"1"), ("a", b"2")], CLASH),
}


@pytest.mark.parametrize("form, case", [("tar", c) for c in HOSTILE_TAR] + [("zip", c) for c in HOSTILE_ZIP])
def test_an_archive_that_means_harm(tmp_path, form, case):
    bad, message = (HOSTILE_TAR if form == "tar" else HOSTILE_ZIP)[case]
    path = tmp_path / f"a.{form}"
    if form == "tar":
        tar(path, [entry(GOOD[0], content=GOOD[1]), *bad])
    else:
        zipped(path, [GOOD, *bad])
    out = tmp_path / "in" / "here"
    out.mkdir(parents=True)
    with pytest.raises(Error) as caught:
        unpack(path, out)
    assert f"nothing of {path} is used" in str(caught.value) and message in str(caught.value)
    assert names(tmp_path) == sorted([path.name, "in"]) and names(tmp_path / "in") == ["here"]
    assert all(p.is_dir() or p.is_file() and not p.is_symlink() for p in out.rglob("*"))
    assert (out / "good.txt").read_bytes() == b"good" and not Path("/tmp/evil").exists()


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
def test_what_a_tar_says_of_a_file_is_read_in_bounded_memory(tmp_path, kind):
    with open(tmp_path / "a.tar", "wb") as file:
        file.write(entry("long", kind, bytes(100_000_000))[0].tobuf())
        file.truncate(101_000_000)
    with pytest.raises(Error, match="cannot be unpacked: it has 100000000 bytes about one file, more than 1048576"):
        unpack(tmp_path / "a.tar", tmp_path)


def test_a_damaged_header_is_not_the_end_of_an_archive(tmp_path):
    path = tar(tmp_path / "a.tar", {"a": b"1", "b": b"2"})
    path.write_bytes(path.read_bytes()[:1024] + b"x" + path.read_bytes()[1025:])
    with pytest.raises(Error, match="cannot be unpacked: bad checksum"):
        unpack(path, tmp_path)


def test_what_is_passed_over_is_no_way_to_bombs_either(tmp_path):
    path = zipped(tmp_path / "a.zip", [("zeros", bytes(150 << 20)), ("VOC/a", b"1")])
    with pytest.raises(Error, match="holds 'zeros', and with it too much"):
        unpack(path, tmp_path, "VOC")


def test_links_outside_the_part_that_is_taken_do_no_harm(tmp_path):
    path = tar(tmp_path / "a.tar", [entry("x/link", tarfile.SYMTYPE, linkname="/etc"), entry("x/VOC/a", content=b"1")])
    assert unpack(path, tmp_path, "VOC") == 1 and (tmp_path / "a").read_bytes() == b"1"


@pytest.mark.parametrize("make", [tar, zipped])
def test_a_link_in_the_folder_does_not_lead_out(tmp_path, make):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "x").symlink_to(tmp_path)
    archive = make(tmp_path / f"a.{make.__name__[:3]}", [("x/deep/evil", b"1") if make is zipped else entry("x/deep/evil")])
    with pytest.raises(Error, match="cannot be unpacked: 'x/deep/evil' would be extracted to .* outside"):
        unpack(archive, tmp_path / "out")
    assert names(tmp_path) == [archive.name, "out"]


def test_a_python_without_the_filter_is_refused(tmp_path, monkeypatch):
    monkeypatch.delattr(tarfile, "data_filter")
    with pytest.raises(Error, match="cannot filter .*a.tar; use Python 3.10.12, 3.11.4 or later"):
        unpack(tar(tmp_path / "a.tar", TREE), tmp_path)


class Zeros(io.RawIOBase):
    def readable(self):
        return True

    def readinto(self, buffer):
        buffer[:] = bytes(len(buffer))
        return len(buffer)


@pytest.mark.parametrize("form", ["tar.gz", "zip"])
def test_a_bomb(tmp_path, form):
    path = tmp_path / f"a.{form}"
    size = 150 << 20
    if form == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as out, out.open("zeros", "w") as file:
            for _ in range(150):
                file.write(bytes(1 << 20))
    else:
        with tarfile.open(path, "w:gz", compresslevel=1) as out:
            info = tarfile.TarInfo("zeros")
            info.size = size
            out.addfile(info, io.BufferedReader(Zeros()))
    assert path.stat().st_size < 1 << 20
    (tmp_path / "out").mkdir()
    with pytest.raises(Error, match="it holds 'zeros', and with it too much for an archive of this size"):
        unpack(path, tmp_path / "out")
    assert names(tmp_path / "out") == []


@pytest.mark.parametrize("size", [10, 100_010])
def test_a_zip_that_lies_about_a_size(tmp_path, size):
    path = zipped(tmp_path / "a.zip", [("a", bytes(100_000))])
    raw = bytearray(path.read_bytes())
    place = raw.index(b"PK\1\2")
    raw[place + 24 : place + 28] = size.to_bytes(4, "little")
    path.write_bytes(raw)
    (tmp_path / "out").mkdir()
    with pytest.raises(Error, match="cannot be unpacked: .*a"):
        unpack(path, tmp_path / "out")
    assert (tmp_path / "out" / "a").stat().st_size <= size


def test_a_zip_with_a_password(tmp_path):
    path = zipped(tmp_path / "a.zip", [("a", b"secret")])
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"PK\1\2") + 8] |= 1
    raw[6] |= 1
    path.write_bytes(raw)
    with pytest.raises(Error, match="cannot be unpacked: .*password"):
        unpack(path, tmp_path)


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tar.bz2", "a.tar.xz", "a.zip"])
def test_archives_cut_short_or_changed_end_with_a_sentence(tmp_path, name):
    path = tmp_path / name
    files = {f"f{n}": random.Random(n).randbytes(2000) for n in range(6)}
    if name.endswith("zip"):
        zipped(path, files.items())
    else:
        tar(path, files, f"w:{name[6:]}" if name[6:] else "w")
    whole, draw = path.read_bytes(), random.Random(3)
    cases = [whole[: draw.randrange(len(whole))] for _ in range(25)] + [b"", b"<html>not here</html>"]
    for _ in range(60):
        changed = bytearray(whole)
        for _ in range(3):
            changed[draw.choice([draw.randrange(len(whole)), draw.randrange(600), -draw.randrange(1, 400)])] = draw.randrange(256)
        cases.append(bytes(changed))
    refused = 0
    for number, content in enumerate(cases):
        path.write_bytes(content)
        out = tmp_path / f"box{number}" / "out"
        out.mkdir(parents=True)
        try:
            unpack(path, out)
        except Error:
            refused += 1
        assert names(out.parent) == ["out"]
    assert refused >= 12


def test_a_gzip_header_cut_short_is_one_sentence(tmp_path):
    (tmp_path / "a.tar.gz").write_bytes(b"\x1f\x8b\x08\x04" + bytes(6) + b"\x01")  # that says that more of it follows
    with pytest.raises(Error, match="a.tar.gz cannot be unpacked: its gzip header is cut short"):
        unpack(tmp_path / "a.tar.gz", tmp_path)
