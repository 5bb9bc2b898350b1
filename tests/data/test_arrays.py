"""Sources of blobs and HDF5 rows, and the feed: position-pure, the same with any number of workers, no hang."""

import copy
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import programs
import pytest
import torch
from google.protobuf import text_format

from netspec.base.errors import Error
from netspec.data import feed as feeds
from netspec.data.arrays import DummyData, HDF5Data, Input
from netspec.data.feed import Feed
from netspec.ops.base import REGISTRY, Context
from netspec.ops.source import Source
from netspec.proto import caffe_pb2


def layer(text):
    return text_format.Parse(text, caffe_pb2.LayerParameter())


def hdf5(folder, tops=("data",), settings="batch_size: 2", extra=""):
    top = " ".join(f'top: "{t}"' for t in tops)
    return HDF5Data(
        layer(f'name: "d" type: "HDF5Data" {top} hdf5_data_param {{ source: "list.txt" {settings} }} {extra}'),
        (),
        Context(base=folder),
    )


def write(folder, rows, **more):
    """Files a.h5, b.h5, ... of these numbers of rows; row r of all, counted through, holds the value r."""
    start = 0
    for name, n in zip("abcd", rows, strict=False):
        with h5py.File(folder / f"{name}.h5", "w") as file:
            values = np.arange(start, start + n)
            file["data"] = np.broadcast_to(values[:, None, None].astype(np.float32), (n, 2, 3))
            file["label"] = values
            for key, value in more.items():
                file[key] = value
        start += n
    (folder / "list.txt").write_text("\n".join(f"{name}.h5" for name, _ in zip("abcd", rows, strict=False)) + "\n")


class Numbers(Source):
    """Batch k holds k and the process that made it; some positions fail, some are slow or large."""

    tops = 2

    def setup(self):
        self.bad, self.size = self.options({"bad": ("a list", lambda v: isinstance(v, list)),
                                            "size": ("a number", lambda v: v > 0)}).values()

    def shapes(self):
        return [(1, 2), (1,)]

    def load(self, position):
        if position in self.bad:
            raise Error(f"{self.describe(position)} is bad")
        if position == 666:
            raise FileNotFoundError(2, "No such file", "gone.png")
        if position == 999:
            raise ZeroDivisionError("a mistake in the program")
        return np.full((1, 2 * self.size), position, np.float32), np.array([os.getpid()], np.float32)


def numbers(bad=(), size=1):
    made = layer('name: "n" type: "Python" top: "a" top: "b"')
    made.python_param.param_str = str(dict(bad=list(bad), size=size))
    return Numbers(made, ())


# Input, DummyData


def test_input_gives_its_shapes_once_or_for_each_top():
    one = Input(layer('type: "Input" top: "a" top: "b" input_param { shape { dim: 1 dim: 3 } }'), ())
    assert one.fed and one.shapes() == [(1, 3), (1, 3)] == one.infer()
    two = Input(layer('type: "Input" top: "a" top: "b" input_param { shape { dim: 1 } shape { dim: 2 } }'), ())
    assert two.shapes() == [(1,), (2,)]
    with pytest.raises(Error, match="2 tops"):
        Input(layer('type: "Input" top: "a" top: "b" input_param { shape {} shape {} shape {} }'), ()).shapes()
    with pytest.raises(Error, match="filled by the caller"):
        Feed(one)


def test_a_source_takes_no_bottom():
    with pytest.raises(Error, match="exactly 0 bottoms"):
        Input(layer('type: "Input" top: "a" bottom: "b"'), ())


def test_dummy_data():
    made = DummyData(layer("""type: "DummyData" top: "a" top: "b" dummy_data_param {
        shape { dim: 2 dim: 3 } data_filler { value: 5 } data_filler { type: "constant" value: -1 } }"""), ())
    a, b = made.load(7)
    assert made.shapes() == [(2, 3), (2, 3)] == [a.shape, b.shape]
    assert (a == 5).all() and (b == -1).all() and a.dtype == np.float32
    old = DummyData(layer("""type: "DummyData" top: "a" top: "b"
        dummy_data_param { num: 4 channels: 1 channels: 2 height: 5 width: 6 }"""), ())
    assert old.shapes() == [(4, 1, 5, 6), (4, 2, 5, 6)]
    assert not old.load(0)[0].any()


def test_dummy_data_too_large_to_be_tried_are_known_by_their_shape(monkeypatch):
    monkeypatch.setattr(DummyData, "load", None)
    made = DummyData(layer('type: "DummyData" top: "a" dummy_data_param { shape { dim: 20000 dim: 30000 } }'), ())
    assert made.shapes() == [(20000, 30000)]
    below = DummyData(layer('type: "DummyData" top: "a" dummy_data_param { shape { dim: -1 } }'), ())
    assert below.shapes() == [(-1,)]  # which the graph refuses


def test_dummy_data_random_fillers_follow_from_seed_and_position():
    made = DummyData(layer("""type: "DummyData" top: "a" top: "b"
        dummy_data_param { shape { dim: 50 } data_filler { type: "gaussian" std: 2 } }"""), ())
    a, b = made.load(3)
    assert np.array_equal(made.load(3)[0], a)
    assert not np.array_equal(a, b) and not np.array_equal(a, made.load(4)[0])
    assert 1 < a.std() < 3


@pytest.mark.parametrize(("param", "message"), [
    ("num: 1 channels: 1 height: 1", "all of the older"),
    ("num: 1 channels: 1 height: 1 width: 1 shape { dim: 1 }", "either shape"),
    ("", "shape once"),
    ("shape { dim: 1 } data_filler {} data_filler {}", "data_filler once"),
    ('shape { dim: 1 } data_filler { type: "gausian" }', "'gausian' is not known; did you"),
])
def test_dummy_data_refuses(param, message):
    with pytest.raises(Error, match=message):
        DummyData(layer(f'type: "DummyData" top: "a" dummy_data_param {{ {param} }}'), ())


# HDF5Data


def test_rows_come_in_order_across_files_and_start_again(tmp_path):
    write(tmp_path, (3, 1, 3))
    source = hdf5(tmp_path, ("data", "label"), "batch_size: 5")
    assert source.shapes() == [(5, 2, 3), (5,)] and len(source) == 7
    for position in (0, 1, 2, 30, 1):
        data, label = source.load(position)
        expected = np.arange(5 * position, 5 * position + 5) % 7
        assert np.array_equal(label, expected) and label.dtype == np.float32
        assert np.array_equal(data, np.broadcast_to(expected[:, None, None], (5, 2, 3)))
    assert source.describe(0).endswith(f"b.h5 row 0, {tmp_path}/c.h5 row 0")


def test_shuffle_gives_every_row_once_an_epoch_from_the_position_alone(tmp_path):
    write(tmp_path, (5, 2, 9))
    source, other = (hdf5(tmp_path, ("label",), "batch_size: 4 shuffle: true") for _ in range(2))
    epochs = [np.concatenate([source.load(4 * e + i)[0] for i in range(4)]) for e in range(3)]
    for rows in epochs:
        assert sorted(rows) == list(range(16)) and list(rows) != list(range(16))
    assert not np.array_equal(epochs[0], epochs[1])
    for position in (11, 3, 7):
        assert np.array_equal(other.load(position)[0], epochs[position // 4].reshape(4, 4)[position % 4])
    other.seed = 1
    assert not np.array_equal(other.load(0)[0], source.load(0)[0])


def test_a_source_can_be_copied_to_another_process(tmp_path):
    write(tmp_path, (4,))
    source = hdf5(tmp_path)
    source.seed = 5
    source.load(0)
    other = copy.deepcopy(source)
    assert other.seed == 5 and np.array_equal(other.load(3)[0], source.load(3)[0])


def test_hdf5_lists_are_found_from_the_nets_folder(tmp_path, monkeypatch):
    write(tmp_path, (2,))
    (tmp_path / "models" / "net").mkdir(parents=True)
    assert len(hdf5(tmp_path / "models" / "net")) == 2
    monkeypatch.chdir(tmp_path)
    assert len(hdf5(None)) == 2


def test_hdf5_mistakes_are_named(tmp_path):
    with pytest.raises(Error, match=r"'d' \(HDF5Data\).*list.txt.*tried"):
        hdf5(tmp_path)
    write(tmp_path, (3,), lable=np.zeros(3), text=np.array([b"x"] * 3), short=np.zeros(2), scalar=1.0)
    with pytest.raises(Error, match="no data set 'labels'; did you mean"):
        hdf5(tmp_path, ("labels",))
    for top, message in (("text", "expected numbers"), ("short", r"short' \(2,\)"), ("scalar", r"scalar' \(\)")):
        with pytest.raises(Error, match=message):
            hdf5(tmp_path, ("data", top))
    with pytest.raises(Error, match="batch_size"):
        hdf5(tmp_path, settings="")
    with pytest.raises(Error, match="transform_param"):
        hdf5(tmp_path, extra="transform_param { scale: 2 }")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["data"] = np.zeros((2, 9))
    (tmp_path / "list.txt").write_text("a.h5 b.h5")
    with pytest.raises(Error, match=r"b.h5 have shapes \(\(9,\),\), those of .*a.h5 \(\(2, 3\),\)"):
        hdf5(tmp_path)
    (tmp_path / "list.txt").write_text("a.h5\nnot_there.h5\n")
    with pytest.raises(Error, match="list.txt: HDF5 file 'not_there.h5' is not there"):
        hdf5(tmp_path)
    (tmp_path / "bad.h5").write_bytes(b"not HDF5")
    (tmp_path / "list.txt").write_text("bad.h5")
    with pytest.raises(Error, match="bad.h5: cannot be read as HDF5"):
        hdf5(tmp_path)
    (tmp_path / "list.txt").write_text("\n")
    with pytest.raises(Error, match="lists no file"):
        hdf5(tmp_path)
    (tmp_path / "list.txt").write_bytes((tmp_path / "a.h5").read_bytes())
    with pytest.raises(Error, match="is an HDF5 file; it must be a text file"):
        hdf5(tmp_path)


# param_str


@pytest.mark.parametrize(("text", "message"), [
    ("{'bad': [], 'sise': 1}", "no key 'sise'; did you mean 'size'"),
    ("{'bad': [], 'size': 0}", "'size' takes a number, found 0"),
    ("__import__('os').system('true')", "must be a dict"),
    ("['bad']", "must be a dict"),
    ("{'bad': ", "must be a dict"),
    ("{1: 2}", "no key '1'"),
])
def test_param_str_mistakes_are_named(text, message):
    made = layer('name: "n" type: "Python" top: "a" top: "b"')
    made.python_param.param_str = text
    with pytest.raises(Error, match=message):
        Numbers(made, ())


# Feed


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_any_number_of_workers_gives_the_same_from_any_position(tmp_path, workers):
    write(tmp_path, (5, 2, 9))
    source = hdf5(tmp_path, ("data", "label"), "batch_size: 3 shuffle: true")
    for start in (0, 7):
        feed = Feed(source, start, workers)
        for position in range(start, start + 12):
            assert feed.position == position
            got = next(feed)
            for tensor, array in zip(got, source.load(position), strict=True):
                assert tensor.dtype == torch.float32 and np.array_equal(tensor.numpy(), array)
        feed.close()


def test_batches_stay_what_they_were_when_later_ones_arrive():
    feed = Feed(numbers(), 0, 1)
    batches = [next(feed)[0] for _ in range(40)]
    assert [int(b[0, 0]) for b in batches] == list(range(40))
    feed.close()


def test_batches_much_larger_than_the_first():
    feed = Feed(numbers(size=1000), 3, 1)
    a, b = next(feed)
    assert a.shape == (1, 2000) and (a == 3).all() and b.shape == (1,)
    feed.close()


@pytest.mark.slow  # tests/cli/test_platforms.py spawns some too
def test_spawned_workers_do_as_well(tmp_path, monkeypatch):
    write(tmp_path, (5,))
    monkeypatch.setattr(feeds, "START", "spawn")
    feed = Feed(hdf5(tmp_path, ("label",), "batch_size: 3"), 1, 1)
    assert next(feed)[0].tolist() == [3, 4, 0]
    feed.close()


def test_workers_are_other_processes_and_can_be_left_out():
    for workers, own in ((0, True), (1, False)):
        feed = Feed(numbers(), 0, workers)
        assert (int(next(feed)[1]) == os.getpid()) is own
        feed.close()
    assert DummyData.workers is False
    quick = DummyData(layer('type: "DummyData" top: "a" dummy_data_param { shape { dim: 1 } }'), ())
    assert not hasattr(Feed(quick)._batches, "_workers")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_batch_that_fails_is_one_sentence_and_is_stepped_over(workers):
    feed = Feed(numbers(bad=[1]), 0, workers)
    next(feed)
    with pytest.raises(Error) as caught:
        next(feed)
    assert str(caught.value) == "batch 1 of layer 'n' is bad"
    assert feed.position == 2 and int(next(feed)[0][0, 0]) == 2
    feed.close()
    feed = Feed(numbers(), 666, workers)
    with pytest.raises(Error, match="batch 666 of layer 'n'.*gone.png"):
        next(feed)
    feed.close()
    feed = Feed(numbers(), 999, workers)
    with pytest.raises(ZeroDivisionError):  # a fault of the program keeps its traceback
        next(feed)
    feed.close()


def test_the_nets_random_state_is_not_touched():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    for workers in (0, 1):
        feed = Feed(numbers(), 0, workers)
        next(feed)
        feed.close()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_worker_is_one_sentence_not_a_hang(workers):
    handler = signal.getsignal(signal.SIGCHLD)
    feed = Feed(numbers(), 0, workers)
    assert signal.getsignal(signal.SIGCHLD) == handler
    os.kill(int(next(feed)[1]), signal.SIGKILL)
    start = time.monotonic()
    with pytest.raises(Error, match=r"layer 'n' \(Python\): a process that loads its data died \(SIGKILL\) before"):
        for _ in range(100):  # what was loaded ahead may still come
            next(feed)
    assert time.monotonic() - start < 20
    with pytest.raises(RuntimeError, match="closed"):
        next(feed)


def test_a_batch_may_take_longer_than_the_patience(monkeypatch):
    monkeypatch.setattr(feeds, "PATIENCE", 1e-4)
    feed = Feed(numbers(), 0, 2)
    assert [int(next(feed)[0][0, 0]) for _ in range(9)] == [*range(9)]
    feed.close()


def test_workers_outlive_ctrl_c_and_sigterm():
    feed = Feed(numbers(), 0, 1)
    pid = int(next(feed)[1])
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(pid, number)
    for _ in range(20):
        assert int(next(feed)[1]) == pid
    feed.close()


def test_closing_ends_the_workers():
    feed = Feed(numbers(), 0, 2)
    pids = {int(next(feed)[1]) for _ in range(6)}
    feed.close()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def program(text):
    here = Path(__file__).parents[1]
    run = subprocess.run([sys.executable, "-c", text], env={**os.environ, "PYTHONPATH": f"{here}:{here.parent}"},
                         timeout=60, capture_output=True, text=True)
    return run.returncode, run.stdout, run.stderr


def test_a_program_that_forgets_to_close_still_ends():
    assert program("""
from data.test_arrays import numbers
from netspec.data.feed import Feed
kept = [Feed(numbers(), 3, n) for n in (1, 2)]
print(*(int(next(feed)[0].sum()) for feed in kept))
""") == (0, "6 6\n", "")


def test_a_death_is_told_at_the_next_batch_not_in_the_middle_of_a_step(tmp_path):
    tests = Path(__file__).parents[1]
    done = programs.run("-c", """
import os, signal, time
from data.test_arrays import numbers
from netspec.base.errors import Error
from netspec.data.feed import Feed
feed = Feed(numbers(), 0, 1)
os.kill(int(next(feed)[1]), signal.SIGKILL)
for step in range(50):
    time.sleep(0.01)
print("stepped")
try:
    while True:
        next(feed)
except Error as error:
    print("SIGKILL" in str(error))
""", cwd=tmp_path, env=programs.environment(PYTHONPATH=f"{tests}{os.pathsep}{tests.parent}"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "stepped\nTrue\n", "")


@pytest.mark.parametrize("width", [1, 8])
def test_whatever_is_damaged_in_an_hdf5_file_is_an_error_or_read(tmp_path, width):
    write(tmp_path, (3,))
    whole, refused = (tmp_path / "a.h5").read_bytes(), 0
    for at in range(0, len(whole), 40):
        (tmp_path / "a.h5").write_bytes(whole[:at] + b"\xf3" * width + whole[at + width:])
        try:
            hdf5(tmp_path).load(0)
        except Error:
            refused += 1
    assert refused


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
@pytest.mark.parametrize("name", ["/dev/zero", "pipe"])
@pytest.mark.parametrize("text", [
    'type: "HDF5Data" hdf5_data_param { source: "NAME" batch_size: 1 }',
    'type: "ImageData" image_data_param { source: "NAME" batch_size: 1 }', 'type: "ImageData" image_data_param { source: "list.txt" batch_size: 1 }',
    'type: "DenseImageData" dense_image_data_param { source: "NAME" batch_size: 1 }',
    'type: "WindowData" window_data_param { source: "NAME" batch_size: 1 } transform_param { crop_size: 2 }', 'type: "Data" data_param { source: "NAME" backend: LMDB batch_size: 1 }'])
def test_devices_and_pipes_are_no_files(tmp_path, text, name):
    """They would be read for ever, or waited for."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "list.txt").write_text(f"{name} 0\n")
    made = layer(f'name: "d" top: "a" top: "b" {text.replace("NAME", name)}')
    with pytest.raises(Error, match="a device or a pipe|is no file"):
        REGISTRY[made.type](made, (), Context(base=tmp_path)).shapes()
