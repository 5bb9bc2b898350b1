"""What reaches the net when a run is resumed, and when files or workers fail in the middle of it."""

import json
import multiprocessing
import os
import re
import signal
import threading
import time
from pathlib import Path

import numpy as np
import programs
import pytest
import torch
from google.protobuf import text_format
from training import (
    VOC,
    changed,
    make_solver,
    params_of,
    same,
    start,
    write_hdf5,
    write_job,
    write_voc,
)

from data.test_arrays import hdf5 as hdf5_source
from data.test_arrays import numbers
from data.test_arrays import write as write_rows
from data.test_listed import LMDB, WINDOWS, database, raw, window_file
from netspec.base.errors import Error
from netspec.base.log import Log
from netspec.cli.main import main
from netspec.data import feed as feeds
from netspec.data.arrays import DummyData
from netspec.data.feed import Batches, Feed, Skips, Unreadable
from netspec.data.listed import DenseImageData, ImageData
from netspec.data.lmdb import Data
from netspec.data.segmentation import SegmentationData
from netspec.data.windows import WindowData
from netspec.net.build import build
from netspec.ops.base import Context
from netspec.proto import caffe_pb2
from netspec.proto import text as prototext

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on two cores

# A resumed run sees what it would have seen


def image_list(folder, dense):
    write_voc(folder, count=5)
    names = [f"images/JPEGImages/im{i}.jpg {f'images/SegmentationClass/im{i}.png' if dense else i}" for i in range(5)]
    (folder / "list.txt").write_text("\n".join(names) + "\n")


def segmentation(folder):
    write_voc(folder, count=5)
    options = dict(dataset="voc", root="images", split="train", seed=3, randomize=True, mirror=True)
    return SegmentationData, "Python", f'python_param {{ param_str: "{options}" }}'


def images(folder):
    image_list(folder, False)
    return ImageData, "ImageData", ('image_data_param { source: "list.txt" batch_size: 3 shuffle: true rand_skip: 4 } '
                                    'transform_param { crop_size: 6 mirror: true mean_value: 7 }')


def dense(folder):
    image_list(folder, True)
    return DenseImageData, "DenseImageData", ('dense_image_data_param { source: "list.txt" batch_size: 3 shuffle: true '
                                              'crop_height: 6 crop_width: 5 mirror: true }')


def lmdb(folder):
    rng = np.random.default_rng(0)
    datums = {f"{i:03d}": raw(0, i) for i in range(7)}
    for datum in datums.values():
        datum.data = rng.integers(0, 256, len(datum.data), np.uint8).tobytes()
    database(folder, datums)
    return Data, "Data", (f'data_param {{ {LMDB} 3 rand_skip: 5 }} transform_param {{ crop_size: 3 mirror: true }}')


def windows(folder):
    window_file(folder, ["2 0.8 3 4 14 13", "5 0.2 0 0 9 9"], ["1 0.9 1 1 9 12", "0 0.1 5 5 16 18"])
    return WindowData, "WindowData", (f'window_data_param {{ {WINDOWS} 4 fg_fraction: 0.5 }} '
                                      'transform_param { crop_size: 7 mirror: true }')


def rows(folder):
    write_rows(folder, (5, 2, 4))


def make(kind, folder):
    """A source made from its files as a new process makes it, with the seed of a run."""
    if kind is rows:
        made = hdf5_source(folder, ("data", "label"), "batch_size: 3 shuffle: true")
    else:
        cls, name, settings = kind
        made = cls(text_format.Parse(f'name: "d" type: "{name}" top: "data" top: "label" {settings}',
                                     caffe_pb2.LayerParameter()), (), Context(phase=caffe_pb2.TRAIN, base=folder))
    if "seed" not in vars(made):
        made.seed = 17
    return made


@pytest.mark.parametrize("kind", [segmentation, images, dense, lmdb, windows, rows])
def test_from_a_position_on_the_images_are_those_of_the_uninterrupted_run(tmp_path, monkeypatch, kind):
    """Random order, mirroring and crops, over several epochs, by a source that has loaded nothing before."""
    monkeypatch.chdir(tmp_path)
    kind = kind(tmp_path) or kind
    straight = Feed(make(kind, tmp_path), 0, 0)
    seen = [[t.numpy() for t in next(straight)] for _ in range(20)]
    straight.close()
    assert len({batch[0].tobytes() for batch in seen}) > 5
    for position, workers in ((0, 1), (7, 0), (7, 1), (9, 2), (14, 2)):
        feed = Feed(make(kind, tmp_path), position, workers)
        for before in seen[position : position + 6]:
            for mine, theirs in zip(next(feed), before, strict=True):
                assert np.array_equal(mine.numpy(), theirs)
        feed.close()


# Going past what cannot be read


def net_of(*sources):
    """A graph of Numbers layers."""
    text = "".join(f'layer {{ name: "n{i}" type: "Python" top: "a{i}" top: "b{i}" python_param {{ module: "data.test_arrays" '
                   f'layer: "Numbers" param_str: "{dict(bad=bad, size=1)}" }} }}' for i, bad in enumerate(sources))
    text += 'layer { name: "s" type: "Silence" ' + " ".join(f'bottom: "a{i}" bottom: "b{i}"' for i in range(len(sources))) + " }"
    return build(prototext.parse(text, caffe_pb2.NetParameter))


@pytest.mark.parametrize("cores", [2, 8])
def test_a_bad_batch_is_left_out_of_all_data_layers_alike(monkeypatch, capsys, cores):
    monkeypatch.setattr(feeds, "cores", lambda: cores)
    skips = Skips(Log(), 3)
    batches = Batches(net_of([1, 4], [3]).readers, torch.device("cpu"), skips)
    for expected in (0, 2, 5):
        blobs = batches.next()
        assert [int(blobs[k][0, 0]) for k in ("a0", "a1")] == [expected] * 2 and batches.positions == [expected + 1] * 2
    batches.rewind([1, 1])
    assert int(batches.next()["a0"][0, 0]) == 2
    batches.close()
    assert skips.seen == ["batch 1 of layer 'n0' is bad", "batch 3 of layer 'n1' is bad", "batch 4 of layer 'n0' is bad"]
    said = re.findall(r"^W.*\] (left out: .*)$", capsys.readouterr().err, re.MULTILINE)
    assert said == [f"left out: {what} ({i} of at most 3)" for i, what in enumerate(skips.seen, 1)]


def test_one_bad_batch_too_many_and_nothing_but_bad_ones():
    batches = Batches(net_of([1, 2]).readers, torch.device("cpu"), Skips(Log(quiet=True), 1))
    batches.next()
    with pytest.raises(Error, match=r"batch 2 of layer 'n0' is bad; 1 others were left out before \(solve --skip-bad"):
        batches.next()
    batches.close()
    skips = Skips(Log(quiet=True), 2)
    skips.past(Unreadable("x.png is bad"), 1)
    with pytest.raises(Error, match="x.png is bad; 31 batches in a row"):
        for running in range(2, 100):  # one file, met again and again
            skips.past(Unreadable("x.png is bad"), running)
    feed = Feed(numbers(bad=[0]), 0, 0)
    with pytest.raises(Unreadable):
        next(feed)
    feed.close()


@pytest.fixture
def damaged(tmp_path, monkeypatch):
    """A job on six images: one cut off, one without its label."""
    monkeypatch.chdir(tmp_path)
    write_voc(tmp_path, count=6)
    write_job(tmp_path, changed("max_iter: 18 snapshot: 3 average_loss: 5"), data=VOC)
    image = tmp_path / "images/JPEGImages/im0.jpg"
    image.write_bytes(image.read_bytes()[:-60])
    (tmp_path / "images/SegmentationClass/im3.png").unlink()
    return tmp_path


@pytest.mark.usefixtures("one_thread")
def test_a_run_past_bad_images_resumes_as_if_uninterrupted(damaged, monkeypatch):
    def run(state=None, cores=2):
        monkeypatch.setattr(feeds, "cores", lambda: cores)
        one = make_solver(Path("solver.prototxt").read_text(), path="solver.prototxt")
        one.skips.most = 2
        if state:
            one.restore(state)
        one.step(18 - one.iter)
        one.close()
        return params_of(one), one.positions(one.net), one.skips.seen, json.loads(Path("run/snap_iter_18.resume").read_text())

    straight = run()
    assert straight[1] > [18] and len(straight[2]) == 2 == len(straight[3]["skipped"])
    assert "im0.jpg cannot be read" in " ".join(straight[2]) and "im3.png is not there" in " ".join(straight[2])
    for at, cores in ((6, 8), (12, 2)):
        again = run(f"run/snap_iter_{at}.solverstate", cores)
        same(straight[0], again[0])
        assert straight[1:] == again[1:]


def test_skip_bad_on_the_command_line(damaged, capsys):
    def solve(*args):
        return main(["solve", *args]), capsys.readouterr().err

    status, err = solve("solver.prototxt")  # whose first batch is one of the bad ones
    assert status == 2 and err.splitlines()[-1].endswith("SegmentationClass/im3.png is not there")
    status, err = solve("solver.prototxt", "--skip-bad", "1")
    assert status == 2 and re.search(r"1 others were left out before", err.splitlines()[-1]), err
    status, err = solve("solver.prototxt", "--skip-bad", "2")
    assert status == 0, err
    assert len(re.findall(r"W.*left out: (?:image|label) .*im[03]\.\w+ .*\([12] of at most 2\)$", err, re.MULTILINE)) == 2
    status, err = solve("solver.prototxt", "--snapshot", "run/snap_iter_15.solverstate", "--skip-bad", "2")
    assert status == 0 and "left out" not in err
    status, err = solve("solver.prototxt", "--skip-bad", "-1")
    assert (status, err) == (2, "netspec solve: --skip-bad must be at least 0, found -1\n")


# A run whose files or workers go away


def workers_of(pid):
    return [int(p) for task in Path(f"/proc/{pid}/task").iterdir() for p in (task / "children").read_text().split()]


@pytest.mark.parametrize("fault", ["worker", "label", "rows"])
def test_a_fault_in_the_middle_of_a_run_is_one_sentence(tmp_path, fault):
    if fault == "rows":
        write_hdf5(tmp_path)
        (tmp_path / "data.txt").write_text("data.h5\nother.h5\n")
        (tmp_path / "other.h5").write_bytes((tmp_path / "data.h5").read_bytes())
        write_job(tmp_path, changed("max_iter: 100000 snapshot: 5"))
    else:
        write_job(tmp_path, changed("max_iter: 100000 snapshot: 5"), data=VOC)
    process = start(tmp_path, "solver.prototxt")
    end = time.monotonic() + 60
    while not list(tmp_path.glob("run/*.solverstate")) and process.poll() is None and time.monotonic() < end:
        time.sleep(0.01)
    if fault == "worker":
        os.kill(workers_of(process.pid)[0], signal.SIGSEGV)
    else:
        (tmp_path / {"label": "images/SegmentationClass/im2.png", "rows": "other.h5"}[fault]).unlink()
    _, err = process.communicate(timeout=60)
    last = err.splitlines()[-1]
    assert process.returncode == 2 and "Traceback" not in err and "Unexpected" not in err, err
    assert {"worker": "layer 'data' (Python): a process that loads its data died (SIGSEGV) before batch",
            "label": "SegmentationClass/im2.png is not there", "rows": f"{tmp_path}/other.h5' is not there"}[fault] in last


def test_a_source_without_workers_is_loaded_by_the_program_itself():
    layer = text_format.Parse('type: "DummyData" top: "a" dummy_data_param { shape { dim: 2 } }', caffe_pb2.LayerParameter())
    before = set(multiprocessing.active_children())
    feed = Feed(DummyData(layer, ()))
    assert next(feed)[0].tolist() == [0, 0] and set(multiprocessing.active_children()) == before
    feed.close()


def test_a_thread_may_load_with_workers():
    """As a web server's does: signals, which the main thread alone may set, stay as they are."""
    seen, before = [], signal.getsignal(signal.SIGCHLD)

    def work():
        feed = Feed(numbers(), 0, 2)
        seen.append([int(next(feed)[0].sum()) for _ in range(2)])
        feed.close()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(60)
    assert seen == [[0, 2]] and signal.getsignal(signal.SIGCHLD) == before


def test_a_feed_forgotten_in_a_cycle_does_not_keep_the_program_from_ending(tmp_path):
    """As a traceback that is kept may hold it: its worker holds, as for a moment with each batch, what it is asked by."""
    tests = Path(__file__).parents[1]
    done = programs.run("-c", """
import gc, sys, time
from pathlib import Path
from data.test_arrays import Numbers, numbers
from netspec.data.feed import Feed

class Holding(Numbers):
    def load(self, position):
        if position:
            frame = sys._getframe()
            while "done_event" not in frame.f_locals:
                frame = frame.f_back
            with frame.f_locals["done_event"]._cond:
                Path("held").touch()
                time.sleep(0.5)
        return super().load(position)

feed = Feed(Holding(numbers().layer, ()), 0, 1)
next(feed)
while not Path("held").exists():
    time.sleep(0.01)
feed.itself = feed
del feed
gc.collect()
print("collected")
""", cwd=tmp_path, timeout=30, env=programs.environment(PYTHONPATH=f"{tests}{os.pathsep}{tests.parent}"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "collected\n", "")
