"""Which files the page opens: those it was given, by no way any other."""

import os
import sys
from pathlib import Path

import pytest

from netspec.base.errors import Error
from netspec.web import folders
from netspec.web.folders import Folders


@pytest.fixture
def place(tmp_path, monkeypatch):
    """given/ with files and links, and secret.png beside it."""
    monkeypatch.chdir(tmp_path)
    for name in ("given/a.png", "given/deep/b.JPG", "given/.hidden/c.png", "given/net.prototxt", "secret.png", "alone.png", "given2/d.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(name)
    os.symlink(tmp_path / "secret.png", "given/out.png")
    os.symlink(tmp_path, "given/up")
    os.symlink("a.png", "given/same.png")
    os.symlink("circle.png", "given/circle.png")
    return Folders([Path("given"), Path("alone.png")])


def test_files_of_the_folders_are_listed_and_opened(place):
    assert place.files(".png", ".jpg") == ["alone.png", "given/a.png", "given/same.png", "given/deep/b.JPG"]
    for name in (*place.files(".png"), "given", "given/deep", str(Path("given/a.png").absolute()), "given/../given/a.png", "given/same.png"):
        assert place.open(name) == Path(name)


@pytest.mark.parametrize("name", [
    "secret.png", "given/../secret.png", "given/up/secret.png", "given/out.png", "given/circle.png", "/etc/passwd", "..", ".", "", "/",
    "given2/d.png", "given/no.png", "given/%2e%2e/secret.png", "given\\..\\secret.png", "given/..%2fsecret.png", "file:///etc/passwd",
    "given/a.png\0.jpg", "given/\ud800.png", "given/" + "../" * 5000 + "etc/passwd", "x" * 100_000, "~/secret.png", "given/a.png/", "given/a.png/x",
    "given\u2215..\u2215secret.png", "//etc/passwd", "/proc/self/cwd/secret.png", "/dev/zero"])
def test_no_name_leads_out(place, name):
    if name == "given/a.png/":  # pathlib takes the last slash away
        assert place.open(name) == Path("given/a.png")
        return
    with pytest.raises(Error, match="is none of the files that this page was given"):
        place.open(name)


def test_what_was_given_and_is_changed_into_a_link_is_not_followed_out(place, tmp_path):
    os.unlink("given/a.png")
    os.symlink(tmp_path / "secret.png", "given/a.png")
    with pytest.raises(Error, match="none of the files"):
        place.open("given/a.png")
    assert "given/a.png" not in place.files(".png")


def test_folders_without_end_are_listed_as_far_as_is_of_use(place, monkeypatch):
    monkeypatch.setattr(folders, "MOST", 2)
    assert len(place.files(".png", ".jpg")) == 2
    monkeypatch.setattr(folders, "LOOKED", 1)
    assert len(place.files(".png", ".jpg")) < 3


@pytest.mark.skipif(sys.platform == "win32", reason="there are none")
def test_devices_and_pipes_are_not_listed(place):
    os.mkfifo("given/pipe.png")
    assert "given/pipe.png" not in place.files(".png")


def test_what_is_not_there_is_said(place):
    with pytest.raises(Error, match="nowhere: there is no such file or folder"):
        Folders([Path("nowhere")])


def test_a_name_is_no_option_of_a_command(place, tmp_path):
    (tmp_path / "--trust.png").write_text("")
    here = Folders([Path(".")])
    assert str(tmp_path / "--trust.png") in here.files(".png") and not [name for name in here.files(".png") if name.startswith("-")]
    assert here.open("--trust.png") == tmp_path / "--trust.png"
