"""The main commands as on Windows and macOS: without Unix's modules and calls, processes spawned,
names that the output's encoding lacks, odd folders."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from programs import PROJECT, environment
from torch.utils._python_dispatch import TorchDispatchMode
from training import HDF5, VOC, changed, write_job

from netspec.cli.main import main

# what Python starts with, in the processes that it spawns too; others than this package may use what they find
ELSEWHERE = """
import builtins, os, signal, sys
class Less:
    def __init__(self, module, *hidden, **other):
        vars(self).update(module=module, hidden=hidden, other=other)
    def __getattr__(self, name):
        if name in self.hidden:
            raise AttributeError(f"module has no attribute {name!r}")
        return self.other.get(name) or getattr(self.module, name)
    def __setattr__(self, name, value):
        setattr(self.module, name, value)
LESS = {
    "os": Less(os, "fork", "register_at_fork", "sysconf", "sched_getaffinity", "getloadavg", "killpg", "geteuid", "getpgid"),
    "signal": Less(signal, "SIGHUP", "SIGUSR1", "SIGCHLD", "SIGKILL"),
    "sys": Less(sys, platform="win32"),
}
HIDDEN = ("fcntl", "resource", "pwd", "grp", "termios")
ordinary = builtins.__import__
def hiding(name, globals=None, *rest, **more):
    mine = (globals or {}).get("__name__", "").startswith("netspec")
    if mine and name in HIDDEN:
        raise ImportError(f"no module named {name}")
    return LESS[name] if mine and name in LESS else ordinary(name, globals, *rest, **more)
builtins.__import__ = hiding
"""


@pytest.fixture
def elsewhere(tmp_path):
    """A function: run a command in a folder named with a blank and an umlaut; its output."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(ELSEWHERE)
    folder = tmp_path / "Übung 1"
    folder.mkdir()

    def call(*args):
        env = environment(PYTHONPATH=f"{tmp_path / 'site'}{os.pathsep}{PROJECT}", PYTHONIOENCODING="ascii")
        done = subprocess.run([sys.executable, *map(str, args)], cwd=folder, env=env, capture_output=True, text=True, timeout=300)
        assert "Traceback" not in done.stderr and done.returncode == 0, done.stderr
        return done.stdout + done.stderr
    return folder, call


NAMES = [".".join(path.with_suffix("").relative_to(PROJECT).parts).removesuffix(".__init__")
         for path in sorted((PROJECT / "netspec").rglob("*.py")) if path.name != "__main__.py"]
COMMANDS = f"""
import importlib
for name in {NAMES}: importlib.import_module(name)
from netspec.base.processes import START
assert START == "spawn"
from netspec.cli.main import main
weights = "run/snap_iter_6.caffemodel"
assert main(["score", "val.prototxt", weights, "--save", "out put"]) == 0
assert main(["infer", "net.prototxt", weights, "images/JPEGImages/im1.jpg", "--out", "färbt", "--mean", "100,100,100"]) == 0
main(["data", "check", "net.prototxt"])
"""


def test_every_module_can_be_imported_to_train_resume_score_infer_and_check(elsewhere, one_thread, monkeypatch):
    folder, call = elsewhere
    write_job(folder, data=VOC)
    net = (folder / "net.prototxt").read_text()
    (folder / "val.prototxt").write_text(net.replace("'seed': 11", "'randomize': False"))
    monkeypatch.chdir(folder)
    assert main(["solve", "solver.prototxt", "--iterations", "6", "--quiet"]) == 0  # as here
    before, whole = (Path(f"run/snap_iter_{i}.caffemodel").read_bytes() for i in (3, 6))
    Path("run/snap_iter_6.caffemodel").unlink()
    call(PROJECT / "tools/solve.py", "solver.prototxt", "--iterations", 6, "--snapshot", "run/snap_iter_3.solverstate")
    assert Path("run/snap_iter_6.caffemodel").read_bytes() == whole != before
    assert "mean IU" in call("-c", COMMANDS)
    assert len(list((folder / "out put").glob("*.png"))) == 4
    assert Image.open(next((folder / "färbt").glob("*.png"))).size


class NoDouble(TorchDispatchMode):
    """Apple's GPU has no float64: no operation of a step or a pass may give it (here on the CPU, in its place)."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **kwargs or {})
        for each in out if isinstance(out, list | tuple) else (out,):
            assert not isinstance(each, torch.Tensor) or each.dtype != torch.float64, func
        return out


def test_training_and_scoring_need_no_float64(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_job(tmp_path, changed("clip_gradients: 0.01 max_iter: 3"), data=VOC)
    val = (tmp_path / "net.prototxt").read_text().replace("'seed': 11", "'randomize': False")
    (tmp_path / "val.prototxt").write_text(val)
    with NoDouble():
        assert main(["solve", "solver.prototxt", "--quiet"]) == 0
        assert main(["score", "val.prototxt", "run/snap_iter_3.caffemodel"]) == 0
        with pytest.raises(AssertionError):
            torch.zeros(2).double()


@pytest.mark.skipif(os.sep != "/", reason="a backslash is this system's own")
@pytest.mark.parametrize("data", [VOC, HDF5], ids=["SegmentationData", "HDF5Data"])
def test_files_that_were_written_on_windows(tmp_path, monkeypatch, data):
    """Backslashes in prototxts and lists, line ends of two bytes, a byte order mark, blanks in names."""
    monkeypatch.chdir(tmp_path)
    write_job(tmp_path, changed("max_iter: 2"), data=data)
    (tmp_path / "my files").mkdir()
    for name in ("data.h5", "data.txt", "images", "net.prototxt"):
        if (tmp_path / name).exists():
            (tmp_path / name).rename(tmp_path / "my files" / name)
    net = tmp_path / "my files/net.prototxt"
    net.write_text(net.read_text().replace('source: "', 'source: "my files\\\\').replace("'images'", "'my files\\\\images'")
                   .replace("\n", "\r\n"))
    for path, before in (("my files/data.txt", "my files\\"), ("my files/images/ImageSets/Segmentation/train.txt", ".\\")):
        if (tmp_path / path).exists():
            lines = (tmp_path / path).read_text().splitlines()
            (tmp_path / path).write_bytes(("\ufeff" + "\r\n".join(before + line for line in lines)).encode())
    solver = (tmp_path / "solver.prototxt").read_text()
    (tmp_path / "solver.prototxt").write_text(solver.replace("net.prototxt", "my files\\\\net.prototxt")
                                              .replace("run/snap", "my run\\\\snap"))
    assert main(["solve", "solver.prototxt", "--quiet"]) == 0
    assert (tmp_path / "my run/snap_iter_2.caffemodel").exists() and not list(tmp_path.glob("*\\*"))
