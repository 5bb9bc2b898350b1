"""A name is a net: of models/, of NETSPEC_MODELS, in every command, from any folder."""

import json
import os
import shutil
from pathlib import Path

import pytest

from netspec.base import names
from netspec.base.errors import Error
from netspec.cli import main as cli

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder, which is the current one; no folders of nets but the project's."""
    monkeypatch.delenv("NETSPEC_MODELS", raising=False)
    monkeypatch.setenv("NETSPEC_WEIGHTS", str(tmp_path / "none"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


def test_a_name_is_a_net_whichever_file_the_command_wants(here):
    folder = PROJECT / "models" / "voc-fcn8s"
    assert names.net_file("voc-fcn8s") == folder / "deploy.prototxt"
    assert names.net_file("voc-fcn8s", "test", "val") == folder / "val.prototxt"
    assert names.net_file("camvid-fcn8s", "test", "val").name == "test.prototxt"
    for written in ("voc-fcn8s/train", "voc-fcn8s/train.prototxt"):
        assert names.net_file(written, "test", "val") == folder / "train.prototxt"
    assert names.net_file("voc-fcn-pool3").parent == PROJECT / "models" / "studies" / "voc-fcn-pool3"
    assert names.solver_file("voc-fcn8s") == PROJECT / "solvers" / "voc-fcn8s.prototxt"


def test_folders_of_netspec_models_and_a_file_here_go_first(here, monkeypatch, capsys):
    for place in ("a", "b"):
        shutil.copytree(PROJECT / "models" / "shapes-fcn8s", here / place / f"mine-{place}")
    shutil.copytree(PROJECT / "models" / "shapes-fcn8s", here / "b" / "voc-fcn8s")
    monkeypatch.setenv("NETSPEC_MODELS", os.pathsep.join(map(str, (here / "a", here / "b", here / "gone"))))
    assert names.net_file("mine-a") == here / "a" / "mine-a" / "deploy.prototxt"
    assert names.net_file("mine-b/train") == here / "b" / "mine-b" / "train.prototxt"
    assert cli.main(["describe", "voc-fcn8s", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["net"] == "shapes-fcn8s"
    assert err == f"note: {here}/b/voc-fcn8s/deploy.prototxt is taken, not the net of that name in {PROJECT}/models/voc-fcn8s\n"
    shutil.copy(PROJECT / "models" / "voc-fcn32s" / "deploy.prototxt", "vgg16")  # a file of that name
    assert cli.main(["describe", "vgg16", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["net"] == "voc-fcn32s" and "vgg16 is taken, not the net of that name" in err
    Path("vgg16").unlink()
    Path("vgg16").mkdir()  # a folder is no net
    assert cli.main(["describe", "vgg16", "--json"]) == 0 and json.loads(capsys.readouterr().out)["net"] == "vgg16"


@pytest.mark.parametrize("given, said", [
    ("voc-fcn8", "did you mean 'voc-fcn8s' or 'voc-fcn32s' or 'voc-fcn16s'?"),
    ("VOC-FCN8S", "did you mean 'voc-fcn8s'"),
    ("voc-fnc8s/val", "did you mean 'voc-fcn8s'"),
    ("voc-fcn8s/vall", "has no vall.prototxt"),
    ("voc-fcn8s/vall", "did you mean 'val'?"),
    ("voc-fcn8s/test", "(there are voc-fcn8s/deploy, voc-fcn8s/paper, voc-fcn8s/train, voc-fcn8s/val)"),
])
def test_a_misspelt_name_gets_the_closest(here, given, said):
    with pytest.raises(Error) as error:
        names.net_file(given)
    assert said in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("command", [
    ("describe", "shapes-fcn8s"), ("describe", "shapes-fcn8s/val"), ("draw", "shapes-fcn8s", "--out", "net.svg"),
    ("draw", "shapes-fcn32s", "shapes-fcn8s", "--style", "figure3", "--out", "net.svg"), ("explain-crop", "shapes-fcn8s"),
    ("diff-net", "shapes-fcn8s/train", "shapes-fcn8s/train"), ("doctor", "shapes-fcn8s", "--device", "cpu", "--size", "64x64"),
    ("diff-net", "--figure3", "8s", "voc-fcn8s"),
], ids=" ".join)
def test_commands_take_names(here, capsys, command):
    assert cli.main(list(command)) in (0, 1)
    assert "not there" not in capsys.readouterr().err


@pytest.mark.parametrize("command", [
    ("describe", "shapes-fcn8"), ("draw", "shapes-fcn8", "--out", "n.svg"), ("explain-crop", "shapes-fcn8"),
    ("score", "shapes-fcn8"), ("infer", "shapes-fcn8", "a.jpg"), ("solve", "shapes-fcn8"), ("doctor", "shapes-fcn8"),
    ("data", "check", "shapes-fcn8"), ("report", "shapes-fcn8"), ("demo", "shapes-fcn8"), ("time", "data", "shapes-fcn8"),
    ("time", "load", "shapes-fcn8", "w"), ("convert", "onnx", "shapes-fcn8", "o.onnx"), ("convert", "fcn", "shapes-fcn8"),
    ("convert", "transplant", "shapes-fcn8", "o.caffemodel", "w"), ("diff-net", "shapes-fcn8", "voc-fcn8s"),
], ids=" ".join)
def test_every_command_knows_the_closest_name(here, capsys, command):
    assert cli.main(list(command)) == 2
    err = capsys.readouterr().err
    assert "did you mean 'shapes-fcn8s'" in err and err.count("\n") == 1 or command[0] == "time" and "'shapes-fcn8s'" in err
    assert not os.listdir()


def test_a_solver_goes_by_its_name(here, capsys):
    Path("solvers").mkdir()
    Path("solvers/quick.prototxt").write_text('net: "nowhere.prototxt" base_lr: 1 lr_policy: "fixed" max_iter: 1')
    assert cli.main(["solve", "quick"]) == 2 and "nowhere.prototxt" in capsys.readouterr().err
    Path("voc-fcn8s").write_text('net: "elsewhere.prototxt" base_lr: 1 lr_policy: "fixed" max_iter: 1')
    assert cli.main(["solve", "voc-fcn8s"]) == 2
    err = capsys.readouterr().err
    assert "elsewhere.prototxt" in err and "note: voc-fcn8s is taken, not " in err.replace(str(Path.cwd()) + "/", "")


@pytest.mark.parametrize("told", ["gone", "file", "~nobody-of-this-name/x"])
def test_what_netspec_models_names_in_vain_is_said(here, monkeypatch, told):
    Path("file").touch()
    monkeypatch.setenv("NETSPEC_MODELS", told)
    assert names.net_file("shapes-fcn8s").is_file() and names.solver_file("shapes-fcn8s").is_file()
    for find in names.net_file, names.solver_file:
        with pytest.raises(Error) as error:
            find("mine")
        assert f"; of NETSPEC_MODELS, {told} is no folder that can be read" in str(error.value)


def test_a_net_that_a_program_writes_names_it(here):
    for name in ("camvid-bayesian-segnet", "camvid-half-bayesian-segnet-basic", "shapes-segnet"):
        with pytest.raises(Error, match=f"net '{name}' is not there .*; 'models/segnet.py {name}' writes it$"):
            names.net_file(name)
