"""What `netspec serve` takes, before there is a page; the page itself is in tests/browser."""

import importlib.util
import os
from pathlib import Path

import pytest
from thirds import write_thirds

from netspec.cli import serve
from netspec.cli.main import main
from netspec.web import page
from netspec.web.desk import Pair


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(serve.PASSWORD, raising=False)
    for name in ("GRADIO_ANALYTICS_ENABLED", "HF_HUB_DISABLE_TELEMETRY", "HF_HUB_OFFLINE", "DO_NOT_TRACK", "GRADIO_TEMP_DIR"):
        monkeypatch.setenv(name, "before")
    write_thirds(tmp_path)
    Path("run").mkdir()
    return tmp_path


def refused(capsys, *argv):
    assert main(["serve", *argv]) == 2
    out, err = capsys.readouterr()
    assert not out and err.count("\n") == 1
    return err.removeprefix("netspec serve: ").rstrip()


@pytest.mark.parametrize("argv, words", [
    (["nowhere.prototxt", "net.caffemodel"], "nowhere.prototxt"),
    (["net.prototxt"], "net.prototxt: give WEIGHTS behind it"),
    (["net.caffemodel"], "net.caffemodel holds weights, and stands behind no net: netspec serve NET WEIGHTS"),
    (["net.prototxt", "net.caffemodel", "net.caffemodel"], "net.caffemodel holds weights, and stands behind no net"),
    (["net.prototxt", "no.caffemodel"], "no.caffemodel"),
    (["run", "--pixels", "nan"], "--pixels nan: is a number above 0"),
    (["run", "--port", "65536"], "--port 65536: is from 0 to 65535"),
    (["run", "--host", "0.0.0.0"], "--host 0.0.0.0 shows the page, and every file in its folders, to whoever reaches this machine: give --auth"),
    (["run", "--host", "0.0.0.0", "--auth", "ann"], "--auth needs a password: set NETSPEC_PASSWORD"),
])
def test_what_cannot_be_shown_is_one_sentence(place, capsys, argv, words):
    assert words in refused(capsys, *argv)


def test_nets_with_their_weights_and_folders_are_told_apart(place):
    named = ["net.prototxt", "net.caffemodel", "run", "net.prototxt", "net.caffemodel", str(place)]
    assert serve._named(named) == ([Pair(str(place / "net.prototxt"), str(place / "net.caffemodel"))] * 2, [Path("run"), place])


def test_a_password_comes_from_the_environment_or_is_asked_for(place, monkeypatch):
    monkeypatch.setenv(serve.PASSWORD, "secret")
    assert serve._password() == "secret"


@pytest.mark.skipif(importlib.util.find_spec("gradio") is not None, reason="the extra is installed")
def test_without_the_extra_it_is_named(place, capsys):
    assert "needs gradio: pip install gradio" in refused(capsys, "run")


def test_the_libraries_behind_the_page_are_told_to_report_nothing(place, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    page.prepare(place)
    assert (os.environ["GRADIO_ANALYTICS_ENABLED"], os.environ["HF_HUB_OFFLINE"]) == ("False", "1")
    assert os.environ["GRADIO_TEMP_DIR"] == str(place / "cache")
