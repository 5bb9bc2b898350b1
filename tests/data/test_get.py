"""The data command: from a server or from archives on disk to a folder that is whole, or to one sentence and nothing."""

import hashlib
import io
import json
import os
import pty
import random
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import pytest
from webserver import Web

from netspec.base.files import alone
from netspec.cli import main as cli
from netspec.data import get as getdata
from netspec.data.layouts import LAYOUTS

PROJECT = Path(__file__).resolve().parents[2]
NOISE = random.Random(5).randbytes(60_000)
FILES = {f"kit/VOC/img/{n}.jpg": NOISE[n * 9000 : n * 9000 + 9000] for n in range(6)} | {
    "kit/VOC/lists/train.txt": b"0\n1\n2\n3\n", "kit/VOC/extra": b"", "kit/readme.txt": b"not this"}
COUNTS = {"img/*.jpg": 6, "lists/train.txt": 4}


def archive(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


BODY = archive(FILES)


@pytest.fixture
def web():
    server = Web(BODY)
    yield server
    server.stop()


@pytest.fixture
def table(web, tmp_path, monkeypatch):
    """A table of one data set, `toy`, whose archive the server has; the current folder is where it is wanted."""
    facts = {"what": "Toy images", "terms": "none at all", "site": "http://toy.example", "root": "data/toy/images", "top": "VOC",
             "counts": COUNTS, "archives": [{"name": "toy.tar", "url": web.url, "bytes": len(BODY), "stated_by": "this test",
                                             "checksum": f"sha256:{hashlib.sha256(BODY).hexdigest()}"}]}

    def write():
        (tmp_path / "sources.json").write_text(json.dumps({"toy": facts}))

    write()
    monkeypatch.setattr(getdata, "SOURCES", tmp_path / "sources.json")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return facts, write


def tree(folder="."):
    return sorted(str(p.relative_to(folder)) for p in Path(folder).rglob("*") if p.is_file())


WHOLE = sorted(name.removeprefix("kit/VOC/") for name in FILES if "VOC" in name)


def data(*arguments):
    return cli.main(["data", *map(str, arguments)])


def test_the_table_is_complete_and_agrees_with_the_readers():
    sets = getdata.catalogue()
    assert {"sbd", "camvid", "nyud", "siftflow", "pascalcontext", "38cloud"} <= set(sets) & set(LAYOUTS)
    assert sets["voc2012"].root == LAYOUTS["voc"].root
    assert sets["voc2010"].root == LAYOUTS["pascalcontext"].beside["voc"] and sets["sbd"].root == LAYOUTS["voc"].beside["sbd"]
    for name, one in sets.items():
        assert one.what and one.terms and one.counts and (one.site.startswith("http") or one.program), name
        for part in one.archives:
            kind, _, value = part.checksum.partition(":")
            assert part.stated_by and part.url.startswith("http"), name
            if part.checksum:
                assert len(value) == {"sha256": 64, "md5": 32}[kind] and int(value, 16) and part.bytes, name


def test_without_a_name_it_lists_what_there_is(table, capsys):
    assert data() == 0
    out = capsys.readouterr().out
    assert "toy: Toy images\n    not there: data/toy/images\n    toy.tar, 71.7 kB\n    terms: none at all\n" in out
    (Path("data/toy/images/lists")).mkdir(parents=True)
    Path("data/toy/images/lists/train.txt").write_text("0\n")
    assert data() == 0 and "incomplete (img/*.jpg: 0 of 6): data/toy/images" in capsys.readouterr().out


def test_from_the_network_to_a_whole_folder(table, web, capsys):
    assert data("toy", "--yes") == 0
    out = capsys.readouterr().out
    for said in ("Toy images", "none at all", "toy.tar, 71.7 kB", web.url, "data/toy/images: 6 img/*.jpg, 4 lists/train.txt"):
        assert said in out
    assert tree("data/toy/images") == WHOLE and Path("data/toy/images/img/3.jpg").read_bytes() == FILES["kit/VOC/img/3.jpg"]
    assert sorted(os.listdir("data/toy")) == ["archives", "images"] and os.listdir("data/toy/archives") == ["toy.tar"]
    assert data("toy") == 0 and "there, complete" in capsys.readouterr().out and len(web.requests) == 1
    assert data() == 0 and "    there: data/toy/images" in capsys.readouterr().out


def test_from_archives_on_disk_without_a_network(table, web, tmp_path, capsys):
    (tmp_path / "got").mkdir()
    (tmp_path / "got" / "toy.tar").write_bytes(BODY)
    assert data("toy", "--root", "else/where", "--archives", tmp_path / "got") == 0  # no --yes: nothing is downloaded
    assert tree("else/where") == WHOLE and not web.requests and os.listdir("else") == ["where"]


def test_without_consent_nothing_is_downloaded(table, web, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    assert data("toy") == 2
    assert "netspec data: nothing is downloaded without your consent: --yes gives it" in capsys.readouterr().err
    assert not web.requests and not tree()


@pytest.mark.parametrize("answer, status", [("y\n", 0), ("n\n", 2), ("\n", 2), ("\x04", 2)])
def test_on_a_terminal_it_asks(table, web, tmp_path, answer, status):
    code = ("import sys; from pathlib import Path; "
            "from netspec.cli import main as cli; from netspec.data import get as getdata; getdata.SOURCES = Path(sys.argv[1]);"
            "sys.exit(cli.main(['data', 'toy']))")
    ours, theirs = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", code, tmp_path / "sources.json"], stdin=theirs, stdout=subprocess.PIPE,
                               stderr=theirs, env=os.environ | {"PYTHONPATH": str(PROJECT)})
    os.write(ours, answer.encode())
    out, _ = process.communicate(timeout=60)
    os.close(theirs)
    os.close(ours)
    assert process.returncode == status and b"Download? [y/N]" in out
    assert len(web.requests) == (status == 0) and bool(tree()) == (status == 0)


def test_without_a_checksum_it_says_what_to_get_from_where(table, web, capsys):
    facts, write = table
    facts["archives"][0] |= {"checksum": "", "bytes": 0}
    write()
    assert data("toy", "--yes") == 2
    said = capsys.readouterr()
    assert f"no checksum of toy.tar is known: get it from {web.url} into data/toy/archives, then try again" in said.err
    assert "toy.tar, size unknown" in said.out and not web.requests
    Path("data/toy/archives").mkdir(parents=True)
    Path("data/toy/archives/toy.tar").write_bytes(BODY)
    assert data("toy") == 0
    assert f"no checksum is known to compare with: sha256 {hashlib.sha256(BODY).hexdigest()}" in capsys.readouterr().out
    assert tree("data/toy/images") == WHOLE


def test_of_a_rounded_size_no_more_than_twice_as_much_is_taken(table, web, capsys):
    facts, write = table
    facts["archives"][0] |= {"bytes": len(BODY) // 3, "exact": False}
    write()
    web.says_length = False
    assert data("toy", "--yes") == 2 and "sends more than the" in capsys.readouterr().err
    facts["archives"][0]["bytes"] = len(BODY) - 100
    write()
    assert data("toy", "--yes") == 0


def test_a_wrong_checksum_unpacks_nothing(table, web, capsys):
    facts, write = table
    web.body = BODY[:-1] + b"x"
    assert data("toy", "--yes") == 2 and "kept as toy.tar.bad" in capsys.readouterr().err
    assert tree() == ["data/toy/archives/toy.tar.bad"]
    Path("data/toy/archives/toy.tar").write_bytes(web.body)
    assert data("toy") == 2 and "data/toy/archives/toy.tar is damaged, or another file" in capsys.readouterr().err
    assert os.listdir("data/toy") == ["archives"]


@pytest.mark.parametrize("change, said", [
    ({"kit/VOC/img/2.jpg": None}, "incomplete (img/*.jpg: 5 of 6)"),
    ({"kit/VOC/lists/train.txt": b"0\n1\n"}, "incomplete (lists/train.txt: 2 of 4)"),
    ({"kit/VOC/../../../evil": b"x"}, "a path that leads out of the folder"),
    ({name: None for name in FILES if "VOC" in name}, "is not there; nothing was made"),
])
def test_an_archive_with_something_else_leaves_nothing(table, change, said, capsys):
    facts, write = table
    facts["archives"][0]["checksum"] = ""
    write()
    Path("data/toy/archives").mkdir(parents=True)
    files = {name: content for name, content in (FILES | change).items() if content is not None}
    Path("data/toy/archives/toy.tar").write_bytes(archive(files))
    assert data("toy") == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") <= 2 and os.listdir("data/toy") == ["archives"]
    assert not Path("../evil").exists() and not Path("evil").exists()


def test_several_archives_make_one_folder(table, web):
    facts, write = table
    second = zipfile.ZipFile("more.zip", "w")
    second.writestr("x/VOC/img/9.jpg", b"9")
    second.close()
    facts["archives"].append({"name": "more.zip", "url": "http://127.0.0.1:9/more.zip", "stated_by": "this test"})
    facts["counts"] = {"img/*.jpg": 7}
    write()
    Path("data/toy/archives").mkdir(parents=True)
    os.rename("more.zip", "data/toy/archives/more.zip")
    assert data("toy", "--yes") == 0 and len(tree("data/toy/images/img")) == 7


def test_a_folder_with_other_things_keeps_them(table, web, capsys):
    root = Path("data/toy/images")
    root.mkdir(parents=True)
    (root / "README.md").write_text("mine")
    (root / "extra").write_text("mine too")
    assert data("toy", "--yes") == 0
    assert tree(root) == sorted([*WHOLE, "README.md"]) and (root / "extra").read_text() == "mine too"
    (root / "img" / "0.jpg").unlink()
    assert data("toy", "--yes") == 2
    assert "data/toy/images is incomplete (img/*.jpg: 5 of 6); move it away, or give another --root" in capsys.readouterr().err
    assert len(tree(root)) == len(WHOLE)


def test_what_is_in_the_way_is_said(table, web, capsys):
    root = Path("data/toy/images")
    root.mkdir(parents=True)
    (root / "img").mkdir()
    assert data("toy", "--yes") == 2 and "what was there before is in the way" in capsys.readouterr().err


def test_too_little_room_is_said_before_anything_is_got(table, web, capsys):
    facts, write = table
    facts["archives"][0]["bytes"] = 1 << 60
    write()
    assert data("toy", "--yes") == 2
    err = capsys.readouterr().err
    assert "has" in err and "free, and" in err and "are needed" in err and not web.requests and not tree()


KILLED = """
import os, signal, sys
from pathlib import Path
from netspec.cli import main as cli
from netspec.data import get as getdata, unpack as archives
getdata.SOURCES = Path(sys.argv[1])
def unpack(*arguments, inner=getdata.unpack):
    write, count = archives.write_block, []
    def writing(file, block):
        write(file, block)
        count.append(1)
        if len(count) == 3:
            os.kill(os.getpid(), signal.SIGKILL)
    archives.write_block = writing
    return inner(*arguments)
if sys.argv[2] == "unpacking":
    getdata.unpack = unpack
sys.exit(cli.main(["data", "toy", "--yes"]))
"""


def run(case, tmp_path):
    return subprocess.Popen([sys.executable, "-c", KILLED, tmp_path / "sources.json", case], text=True, stderr=subprocess.PIPE,
                            stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(PROJECT)})


def test_killed_while_unpacking_the_next_run_makes_it_whole(table, web, tmp_path):
    process = run("unpacking", tmp_path)
    assert process.wait(60) == -signal.SIGKILL
    assert not Path("data/toy/images").exists() and len(tree("data/toy/.images.part")) == 3
    assert data("toy") == 0  # no --yes: the archive is there
    assert tree("data/toy/images") == WHOLE and sorted(os.listdir("data/toy")) == ["archives", "images"]
    assert len(web.requests) == 1


def test_killed_while_downloading_the_next_run_goes_on(table, web, tmp_path):
    web.cut, web.stall = 30_000, True
    process = run("downloading", tmp_path)
    part = Path("data/toy/archives/toy.tar.part")
    deadline = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size == 30_000) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait(10)
    assert tree() == ["data/toy/archives/toy.tar.part", "data/toy/archives/toy.tar.part.tag"]
    web.cut = None
    assert data("toy", "--yes") == 0 and web.asked == [None, "bytes=30000-"]
    assert tree("data/toy/images") == WHOLE and os.listdir("data/toy/archives") == ["toy.tar"]


def test_ctrl_c_while_unpacking_leaves_the_archive_only(table, web, tmp_path):
    code = KILLED.replace("os.kill(os.getpid(), signal.SIGKILL)", "raise KeyboardInterrupt")
    process = subprocess.run([sys.executable, "-c", code, tmp_path / "sources.json", "unpacking"], capture_output=True, text=True,
                             env=os.environ | {"PYTHONPATH": str(PROJECT)}, timeout=60)
    assert process.returncode == 130 and tree() == ["data/toy/archives/toy.tar"] and os.listdir("data/toy") == ["archives"]


def test_two_runs_at_once(table, web, capsys):
    Path("data/toy/.images.part").mkdir(parents=True)
    with alone(Path("data/toy/.images.part")):
        assert data("toy", "--yes") == 2
    assert "another run is at work on data/toy/.images.part" in capsys.readouterr().err
    assert data("toy") == 0


def test_a_name_that_is_none(table, capsys):
    with pytest.raises(SystemExit) as caught:
        data("toi")
    assert caught.value.code == 2 and "toy" in capsys.readouterr().err


def test_check_is_another_module_and_takes_its_own_options(table, capsys):
    with pytest.raises(SystemExit) as caught:
        data("check", "--help")
    assert caught.value.code == 0 and "usage: netspec data check" in capsys.readouterr().out


def test_importing_the_command_loads_no_torch():
    code = "import sys, netspec.data.get; print([m for m in ('torch', 'PIL', 'scipy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True).stdout.strip() == "[]"
