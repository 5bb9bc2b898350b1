"""Pictures through a net with threads around it: nothing that comes out depends on them."""

import json
import os
import re
import shutil
import signal
import sys
import threading
from pathlib import Path

import numpy as np
import programs
import pytest
from PIL import Image

from netspec.score import stream
from netspec.score.segment import Segmenter

from .test_infer import infer, place, thirds, written  # noqa: F401 - place is a fixture


@pytest.fixture
def many(place):  # noqa: F811
    """photo.png, more pictures of other sizes in the folder many, some damaged, one of two frames."""
    Path("many").mkdir()
    for i in range(1, 9):
        thirds(12 + i % 3, 6 + i, order=(i % 3, 0, 1)).save(f"many/im{i}.png")
    Path("many/im3.png").write_bytes(Path("many/im3.png").read_bytes()[:45])
    Path("many/im5.png").write_text("words")
    thirds().save("many/im9.gif", save_all=True, append_images=[thirds(order=(2, 1, 0))])
    return place


@pytest.mark.parametrize("scores", [False, True])
def test_threads_change_nothing(many, capsys, monkeypatch, scores):
    found = {}
    for cores in (1, 2, 8):
        monkeypatch.setattr(stream, "cores", lambda cores=cores: cores)
        status, out, err = infer(capsys, "many", "--json", *["--scores"] * scores, out=f"o{cores}")
        files = {path.name: path.read_bytes() for path in Path(f"o{cores}").iterdir()}
        out = re.sub(r',\n *"seconds": [\d.e-]+', "", out)
        found[cores] = status, out.replace(f"o{cores}/", "o/"), err, files
    assert found[1] == found[2] == found[8]
    status, out, err, files = found[8]
    told = json.loads(out)
    names = [f"many/im{i}.png" for i in (1, 2, 4, 6, 7, 8)] + ["many/im9.gif frame 1", "many/im9.gif frame 2"]
    assert status == 2 and [image["image"] for image in told["images"]] == names
    assert [error["image"] for error in told["errors"]] == ["many/im3.png", "many/im5.png"]
    assert len(files) == len(names) * (3 if scores else 2)


IN_ORDER = ("import sys; from netspec.cli.main import main\n"
            "sys.stdout.reconfigure(line_buffering=True); sys.exit(main(sys.argv[1:]))")


def test_lines_and_errors_come_in_the_order_of_the_list(many):
    argv = ["infer", "net.prototxt", "net.caffemodel", "many", "--out", "o", "--device", "cpu"]
    with open("said", "w") as said, open(os.devnull) as nothing:
        program = programs.Program("-c", IN_ORDER, *argv, cwd=".", files=[nothing.fileno(), said.fileno(), said.fileno()])
        program.wait(120)
    told = Path("said").read_text()
    where = [told.index(f"many/im{i}.") for i in range(1, 10)]
    assert program.returncode == 2 and where == sorted(where), told


def test_the_net_works_while_results_are_written(place, capsys, monkeypatch):  # noqa: F811
    """The first picture's results wait until the net is at the second."""
    sampled, write, calls, second = Segmenter.sampled, stream.write, [], threading.Event()

    def counted(segmenter, *args):
        calls.append(None)
        if len(calls) > 1:
            second.set()
        return sampled(segmenter, *args)

    def waiting(*args):
        assert second.wait(60)
        return write(*args)

    monkeypatch.setattr(Segmenter, "sampled", counted)
    monkeypatch.setattr(stream, "write", waiting)
    thirds().save("other.png")
    assert infer(capsys, "photo.png", "other.png")[0] == 0
    assert len(written()) == 4


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT between processes there")
def test_ctrl_c_leaves_whole_files_alone(place):  # noqa: F811
    Path("many").mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (300, 300, 3), np.uint8)
    Image.fromarray(noise).save("many/0.png")
    for i in range(1, 200):
        shutil.copy("many/0.png", f"many/{i}.png")
    argv = ["infer", "net.prototxt", "net.caffemodel", "many", "--out", "o", "--device", "cpu"]
    process = programs.Program("-m", "netspec", *argv, cwd=".")
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    names = written()
    assert process.returncode == 130 and err == "netspec infer: stopped by Ctrl-C\n"
    assert 2 <= len(names) < 400 and all(name.endswith(".png") for name in names)
    for name in names:
        Image.open(f"o/{name}").load()
