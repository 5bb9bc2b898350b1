"""Where files are looked for."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from programs import environment

from netspec.base.errors import Error
from netspec.base.files import find, inside, staging, writing


def test_a_relative_path_is_tried_here_and_above_the_file_that_names_it(tmp_path, monkeypatch):
    here, base = tmp_path / "here", tmp_path / "set" / "models"
    here.mkdir()
    base.mkdir(parents=True)
    monkeypatch.chdir(here)
    with pytest.raises(Error) as caught:
        find("a.txt", base, "list")
    tried = [here, base, *base.parents]
    assert str(caught.value) == f"list 'a.txt' is not there (tried {', '.join(str(folder / 'a.txt') for folder in tried)})"
    for folder in (tmp_path, base.parent, base, here):  # each is nearer than the one before
        (folder / "a.txt").write_text("")
        assert find("a.txt", base) == folder / "a.txt"


@pytest.mark.skipif(os.sep != "/", reason="a backslash is this system's own")
def test_windows_own_spelling_of_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a b.txt").write_text("")
    assert find("data\\a b.txt") == find(".\\data\\a b.txt") == find("a b.txt", tmp_path / "data") == tmp_path / "data/a b.txt"
    (tmp_path / "data\\a b.txt").write_text("")
    assert find("data\\a b.txt") == tmp_path / "data\\a b.txt"  # what is truly called so comes first
    with pytest.raises(Error, match=r"^file 'no\\one' is not there \(tried "):
        find("no\\one")
    assert inside(tmp_path, "data\\x") == tmp_path / "data/x"
    with pytest.raises(Error, match="leaves the folder"):
        inside(tmp_path / "data", "..\\..\\x")


def test_an_absolute_path_is_tried_alone(tmp_path):
    path = tmp_path / "a.txt"
    with pytest.raises(Error) as caught:
        find(path, tmp_path)
    assert str(caught.value) == f"file '{path}' is not there (tried {path})"


@pytest.mark.skipif(not Path("/proc/self").is_dir() or not Path("/dev/full").is_char_device(), reason="there are no such files here")
@pytest.mark.parametrize("path", ["/proc/a.png", "/dev/full"])
def test_a_file_that_cannot_be_written_is_named(path):
    with pytest.raises(OSError) as caught, writing(path) as file:
        file.write(b"x")
    assert caught.value.filename == path


def test_a_pipe_or_a_device_is_written_to_and_not_replaced(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with writing(path) as file:
            file.write(b"abc")
        assert os.read(reader, 10) == b"abc"
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(path.stat().st_mode)
    assert [p.name for p in tmp_path.iterdir()] == ["pipe"]


@pytest.mark.skipif(sys.platform == "win32", reason="kills as Unix does")
def test_what_a_killed_process_left_the_next_removes(tmp_path):
    code = ("import sys, time; from netspec.base.files import writing\n"
            "with writing('a.png') as file:\n    print(flush=True); time.sleep(60)")
    stopped, busy = (subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE,
                                      env=environment()) for _ in range(2))
    try:
        stopped.stdout.readline()
        left = {path.name for path in tmp_path.iterdir()}
        stopped.kill()
        stopped.wait()
        busy.stdout.readline()  # began while the other may still have been alive
        (tmp_path / ".b.png.abcdefgh.part").write_bytes(b"another's")
        with writing(tmp_path / "a.png") as file:
            file.write(b"x")
        found = {path.name for path in tmp_path.iterdir()}
        assert len(left) >= 1 and found >= {"a.png", ".b.png.abcdefgh.part"}
        assert len(found) == 3  # and what the one that is at work has under way
    finally:
        for process in (stopped, busy):
            process.kill()
            process.wait()
            process.stdout.close()


@pytest.mark.skipif(sys.platform == "win32", reason="kills as Unix does")
def test_a_folder_of_a_killed_process_goes_and_one_at_work_stays(tmp_path):
    code = ("import sys, time; from pathlib import Path; from netspec.base.files import staging\n"
            "with staging(Path('made.py')) as folder:\n    (folder / 'x').touch(); print(folder, flush=True); time.sleep(60)")
    stopped, busy = (subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, text=True,
                                      env=environment()) for _ in range(2))
    try:
        left = [tmp_path / process.stdout.readline().strip() for process in (stopped, busy)]
        stopped.kill()
        stopped.wait()
        with staging(tmp_path / "made.py") as own:
            assert own.is_dir() and [path.is_dir() for path in left] == [False, True]
        assert not own.exists()
    finally:
        for process in (stopped, busy):
            process.kill()
            process.wait()
            process.stdout.close()


@pytest.mark.parametrize("error, words", [
    (OSError("3000 requested and 12 written"), "cannot be written whole (3000 requested and 12 written)"),  # NumPy's
    (OSError("encoder error -2 when writing image file"), "cannot be written whole (encoder error -2"),  # Pillow's
    (OSError(28, "No space left on device"), "No space left on device"),
])
def test_whatever_a_library_says_of_a_full_disk_names_the_file(tmp_path, error, words):
    with pytest.raises(OSError) as caught, writing(tmp_path / "a.npy"):
        raise error
    assert caught.value.filename == str(tmp_path / "a.npy") and words in caught.value.strerror
    assert not [*tmp_path.iterdir()]


@pytest.mark.skipif(sys.platform == "win32", reason="no such limits there")
def test_a_file_that_may_not_grow_so_large_is_named(tmp_path):
    code = ("import resource; from netspec.base.files import writing; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
            "try:\n    with writing('a.png') as file:\n        file.write(bytes(2000))\n"
            "except OSError as error:\n    print(error.filename)")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, env=environment())
    assert done.stdout == "a.png\n" and not [*tmp_path.iterdir()]


def test_names_that_no_file_can_have_are_not_there(tmp_path):
    for name in ("a" * 1000, "a/" * 5000, "\u20ac" * 200, "a\0b"):
        with pytest.raises(Error, match="is not there") as told:
            find(name, tmp_path)
        assert len(str(told.value)) < 5000
