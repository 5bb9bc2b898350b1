"""Commands that write make the folders of what they write, and say it in one way."""

import sys
from pathlib import Path

import pytest

try:
    import resource
except ImportError:  # Windows
    resource = None

from netspec.base.errors import Error
from netspec.base.files import make_folder
from netspec.cli.main import main

NET = ('layer { name: "data" type: "Input" top: "data" input_param { shape { dim: [1, 3, 8, 8] } } }\n'
       'layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 2 kernel_size: 3 '
       'weight_filler { type: "msra" } } }\n')
OUTS = [  # command -> what it writes, in folders that are not there
    ("draw net.prototxt --out new/deep/net.svg", ["new/deep/net.svg"]),
    ("draw models/voc-fcn8s/deploy.prototxt --style figure3 --out new/deep/net.pdf", ["new/deep/net.pdf"]),
    ("curves run.log --out new/deep/curves.png", ["new/deep/curves.png"]),
    ("report run.log --out new/deep/run.html", ["new/deep/run.html"]),
    ("convert upgrade net.prototxt new/deep/net.prototxt", ["new/deep/net.prototxt"]),
    ("convert onnx net.prototxt new/deep/net.onnx", ["new/deep/net.onnx"]),
    ("convert torch net.prototxt new/deep/net.py", ["new/deep/net.py", "new/deep/net.safetensors"]),
    ("time load net.prototxt new/deep/w.caffemodel --make --repeats 1", ["new/deep/w.caffemodel"]),
    ("convert transplant net.prototxt new/deep/w.caffemodel w.caffemodel", ["new/deep/w.caffemodel"]),
]


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("net.prototxt").write_text(NET)
    Path("run.log").write_text("".join(f"I0101 00:00:0{i}.000000 1 solver.cpp:239] Iteration {i}, loss = {9 - i}\n" for i in range(5)))
    main(["time", "load", "net.prototxt", "w.caffemodel", "--make", "--repeats", "1"])


@pytest.mark.parametrize("command, paths", OUTS, ids=[command for command, _ in OUTS])
def test_commands_make_the_folders_and_say_what_they_wrote(place, capsys, command, paths):
    capsys.readouterr()
    assert main(command.split()) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"wrote {', '.join(paths)}" in [line.partition(":")[0] for line in lines], lines
    assert all(Path(path).stat().st_size for path in paths)


def contents(folder):
    return {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")}


@pytest.mark.skipif(sys.platform == "win32", reason="no such limits there")
@pytest.mark.parametrize("command, paths, most", [(*OUTS[0], 0), *((*out, 150) for out in OUTS)])
def test_a_full_disk_is_one_sentence_with_the_file_and_leaves_nothing(place, tmp_path, capsys, command, paths, most):
    (tmp_path / "new/deep").mkdir(parents=True)
    Path("new/deep/x").write_text("there")
    before = contents(tmp_path)
    capsys.readouterr()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)  # most: bytes that a file may have
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, limits[1]))
    try:
        status = main(command.split())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    err = capsys.readouterr().err
    assert status == 2 and err.count("\n") == 1 and any(path in err for path in paths), err
    assert contents(tmp_path) == before


@pytest.mark.parametrize("command, paths", OUTS, ids=[command for command, _ in OUTS])
def test_a_file_in_the_place_of_a_folder_is_one_sentence(place, capsys, command, paths):
    Path("new").write_text("mine")
    assert main(command.split()) == 2
    assert "the folder 'new/deep' cannot be made: a file stands in its place" in capsys.readouterr().err
    assert Path("new").read_text() == "mine"


def test_making_a_folder(tmp_path):
    assert make_folder(tmp_path / "a" / "b").is_dir() and make_folder(str(tmp_path / "a")) == tmp_path / "a"
    (tmp_path / "file").touch()
    for name in ("file", "file/below"):
        with pytest.raises(Error, match="a file stands in its place"):
            make_folder(tmp_path / name)
