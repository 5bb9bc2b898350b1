"""What a net that came from somebody may do: commands that look at it import nothing of its and write nothing, unless it is trusted."""

import subprocess
import sys

import pytest
from programs import environment

from netspec.base.trust import leave, looking
from netspec.cli.main import main

MODULE = """import pathlib
import netspec
pathlib.Path("RAN").touch()
class Evil(netspec.Layer):
    def reshape(self, bottom, top):
        top[0].reshape(2, 3, 6, 6)
    def forward(self, bottom, top):
        top[0].data[...] = 1
"""
HEAD = 'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 dim: 6 dim: 6 } } }\n'
PYTHON = ('layer { name: "py" type: "Python" bottom: "x" top: "p" python_param { module: "MODULE" layer: "Evil" } }\n'
          'layer { name: "c" type: "Convolution" bottom: "p" top: "c" convolution_param { num_output: 4 kernel_size: 1 } }\n')
SOURCE = PYTHON.replace('bottom: "x" ', "")
LOOKS = [["describe", "net.prototxt"], ["draw", "net.prototxt", "--out", "drawn.svg"], ["doctor", "net.prototxt"],
         ["explain-crop", "net.prototxt"], ["diff-net", "net.prototxt", "net.prototxt", "--size", "8x8"],
         ["diff-net", "--figure3", "own", "net.prototxt"]]


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes a module of a name of its own into the current folder, and a net that names it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(leave, "told", set())

    def write(net=HEAD + PYTHON, text=MODULE):
        name = f"module_{tmp_path.name}"
        (tmp_path / f"{name}.py").write_text(text)
        (tmp_path / "net.prototxt").write_text(net.replace("MODULE", name))
        return name
    yield write
    sys.modules.pop(f"module_{tmp_path.name}", None)


def said(capsys, *args):
    status = main([*map(str, args)])
    return status, capsys.readouterr().err


@pytest.mark.parametrize("args", LOOKS, ids=lambda args: args[0])
def test_who_looks_at_a_net_does_not_run_it(module, tmp_path, capsys, args):
    name = module()
    status, err = said(capsys, *args)
    reads = args[0] in ("describe", "draw") or "--size" in args  # they show the other layers, and say why this one is not known
    assert status == (0 if reads else 1 if args[0] == "doctor" else 2)
    if status != 1:  # doctor says it among what it finds
        assert err.count("\n") == 1 + (reads and args[0] != "diff-net") and f"in module '{name}'" in err and "--trust" in err
    assert not (tmp_path / "RAN").exists() and (tmp_path / "drawn.svg").exists() == (args[0] == "draw")


def test_a_trusted_net_is_run_and_its_file_named_once(module, tmp_path, capsys):
    name = module()
    status, err = said(capsys, "describe", "net.prototxt", "--trust")
    assert (status, err) == (0, f"netspec describe: module '{name}' is imported for a layer in Python: {tmp_path / name}.py\n")
    assert (tmp_path / "RAN").exists()


def test_data_check_says_what_it_does_not_check(module, job, capsys):
    name = module(SOURCE)
    status, err = said(capsys, "data", "check", "net.prototxt")
    assert status == 2 and f"in module '{name}'" in err and not (job / "RAN").exists()


def test_who_runs_a_net_names_what_it_imports(module, tmp_path, capsys):
    name = module(SOURCE + 'layer { name: "l" type: "Reduction" bottom: "c" top: "l" loss_weight: 1 }')
    (tmp_path / "s.prototxt").write_text('net: "net.prototxt" base_lr: 0 lr_policy: "fixed" max_iter: 1 snapshot_prefix: "s"')
    status, err = said(capsys, "solve", "s.prototxt", "--quiet")
    assert f"module '{name}' is imported for a layer in Python: {tmp_path / name}.py\n" in err and (tmp_path / "RAN").exists()


@pytest.mark.parametrize("name", [".x", "../x", "a/b", "..", "a..b", "a\\\\b"])
def test_what_is_no_modules_name_is_refused(module, capsys, name):
    module((HEAD + PYTHON).replace("MODULE", name))
    status, err = said(capsys, "explain-crop", "net.prototxt", "--trust")
    assert status == 2 and err.count("\n") == 1 and "is no module's name" in err


@pytest.mark.parametrize("text, words", [
    ("raise KeyError('gone')", "KeyError: 'gone'"), ("import sys; sys.exit(0)", "SystemExit: 0"),
    ("def f(:", "SyntaxError"), ("import nothing_of_this_name", "No module named 'nothing_of_this_name'")])
def test_a_module_that_cannot_be_imported_is_one_sentence(module, capsys, text, words):
    name = module(text=text)
    status, err = said(capsys, "explain-crop", "net.prototxt", "--trust")
    assert status == 2 and f"module '{name}'" in err and words in err
    assert err.count("\n") == 2  # what is imported, and why it was not


def test_no_layer_of_any_type_writes_while_a_net_is_looked_at(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "precious.txt").write_text("precious")
    (tmp_path / "net.prototxt").write_text(
        HEAD + 'layer { name: "out" type: "HDF5Output" bottom: "x" bottom: "x" hdf5_output_param { file_name: "precious.txt" } }\n'
        'layer { name: "c" type: "Convolution" bottom: "x" top: "c" convolution_param { num_output: 2 kernel_size: 1 } }\n')
    main(["doctor", "net.prototxt", "--trust"])
    assert (tmp_path / "precious.txt").read_text() == "precious" and not list(tmp_path.glob(".*"))


def test_what_is_allowed_again_behind_a_look(tmp_path):
    with pytest.raises(ZeroDivisionError), looking(False):
        assert not leave.code and not leave.files
        1 / 0  # noqa: B018
    assert leave.code and leave.files


def test_files_of_the_current_folder_do_not_take_the_place_of_libraries(tmp_path):
    for name in ("argparse", "numpy"):
        (tmp_path / f"{name}.py").write_text("open('RAN', 'w')")
    done = subprocess.run([sys.executable, "-m", "netspec", "--version"], cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert done.stdout.startswith("netspec ") and not (tmp_path / "RAN").exists(), done.stderr
