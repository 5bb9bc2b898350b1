"""Nets and solvers for images of one's own, as models/own.py writes them."""

from pathlib import Path

import numpy as np
import programs
import pytest
from PIL import Image
from programs import PROJECT

from netspec.cli.main import main
from netspec.look.streams import FIGURE3, deviations, streams
from netspec.net.build import load
from netspec.proto import text as prototext


@pytest.fixture
def own(tmp_path, monkeypatch):
    """my/: ten images of different sizes, three classes, described in a file of five lines."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for kind in ("photos", "masks"):
        (tmp_path / "my" / kind).mkdir(parents=True)
    for i in range(10):
        size = (40 + i, 50 - i)
        Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(f"my/photos/{i}.jpg")
        Image.fromarray(rng.integers(0, 3, size).astype(np.uint8)).save(f"my/masks/{i}.png")
    Path("my/train.txt").write_text("".join(f"{i}\n" for i in range(7)))
    Path("my/val.txt").write_text("".join(f"{i}\n" for i in range(7, 10)))
    Path("my/set.txt").write_text("images: photos\nlabels: masks\nground 90 90 90\ndisc 200 60 60\nbox 60 200 90\n")
    return tmp_path


def run(*args):
    return programs.run(PROJECT / "models" / "own.py", *args, cwd=".", env=programs.environment(PYTHONPATH=""))


def test_the_stages_train_and_are_scored(own, capsys):
    done = run("my/set.txt", "--iterations", "2", "--batch", "2")
    assert done.returncode == 0, done.stderr
    commands = dict(line.split("  ", 1) for line in done.stdout.splitlines())
    assert main(["data", "check", *commands["check"].split()[3:]]) == 0
    assert main(["solve", *commands["train"].split()[1:], "--quiet"]) == 0
    assert main(["score", *commands["score"].split()[1:]]) == 0
    out = capsys.readouterr().out
    assert "disc" in out and "3 images" in out
    for stride in (32, 16, 8):
        built = load(own / f"my/set-fcn{stride}s/deploy.prototxt")
        assert not deviations(streams(built)[0], f"{stride}s" if f"{stride}s" in FIGURE3 else None)


def test_weights_take_vgg16_and_the_papers_rates(own):
    assert run("my/set.txt", "--weights", "weights/vgg16.caffemodel").returncode == 0
    solvers = [prototext.read_solver(f"my/set-fcn{stride}s.prototxt") for stride in (32, 16, 8)]
    assert [s.base_lr for s in solvers] == pytest.approx([1e-4, 1e-6, 1e-8])
    assert [s.weights[0] for s in solvers] == ["weights/vgg16.caffemodel", "my/snapshot/set-fcn32s_iter_600.caffemodel",
                                               "my/snapshot/set-fcn16s_iter_600.caffemodel"]
    assert "conv5_3" in Path("my/set-fcn32s/train.prototxt").read_text()


def test_a_missing_file_is_one_sentence(own):
    done = run("my/sets.txt")
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "my/sets.txt is not there" in done.stderr
    assert run("my/set.txt", "--iterations", "0").returncode == 2
    Path("my/val.txt").unlink()
    done = run("my/set.txt")
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "split 'val' has no list" in done.stderr
    assert not Path("my/set-fcn32s").exists()


def test_the_solvers_have_a_test_net_so_that_both_lists_are_checked(own, capsys):
    own.joinpath("my").rename("it's \"my\" ü")
    assert run("it's \"my\" ü/set.txt").returncode == 0
    solver = prototext.read_solver("it's \"my\" ü/set-fcn32s.prototxt")
    assert solver.test_iter == [3] and solver.test_net == ["it's \"my\" ü/set-fcn32s/val.prototxt"]
    Image.new("L", (2, 2)).save("it's \"my\" ü/masks/8.png")
    assert main(["data", "check", "it's \"my\" ü/set-fcn32s.prototxt"]) == 1
    assert "masks/8.png is 2x2" in capsys.readouterr().out
