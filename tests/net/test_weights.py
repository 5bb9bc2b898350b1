"""Weights, states and means: Caffe's own files, protobuf's parser as the judge, damage of every kind, copying."""

import io
import math
import mmap
import random
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from netspec.base.errors import Error
from netspec.net import module, weights
from netspec.net.build import load
from netspec.proto.caffe_pb2 import TEST, BlobProto, NetParameter, SolverState
from netspec.proto.model import read_mean, read_state, read_weights, write_state, write_weights
from netspec.proto.wire import MOST_FIELDS, delimited, varint

GOLDEN = Path(__file__).parents[1] / "golden" / "weights"
NETS = ("small", "v1", "double", "partial")


def parameters(*shapes):
    return [torch.nn.Parameter(torch.full(shape, 0.5)) for shape in shapes]


def small_net():
    return {"conv": parameters((4, 3, 3, 3), (4,)), "ip": parameters((5, 80), (5,))}


def by_protobuf(blob):
    """The array of a BlobProto by protobuf's own parser, as Caffe would make it; None where it would refuse."""
    shape = list(blob.shape.dim)
    if any(map(blob.HasField, ("num", "channels", "height", "width"))):
        shape = [blob.num, blob.channels, blob.height, blob.width]
    data = blob.double_data or blob.data
    if blob.raw_data:
        data = np.frombuffer(blob.raw_data, ("<f8", "<f4", "<f2")[blob.raw_data_type])
    if min(shape, default=0) < 0 or math.prod(shape) != len(data):
        return None
    return np.array(data, np.float64 if blob.double_data or blob.raw_data and not blob.raw_data_type else np.float32).reshape(shape)


def layers_by_protobuf(content):
    net = NetParameter.FromString(content)
    found = {}
    for layer in (*net.layer, *net.layers):
        inner = layer.layer if hasattr(layer, "layer") else None
        blobs = [by_protobuf(blob) for blob in (*layer.blobs, *(inner.blobs if inner else ()))]
        name = inner.name if inner and inner.name else layer.name
        if blobs or name not in found:
            found[name] = blobs
    return found


def same(a, b):
    """The same layers with the same arrays; the bits of a NaN may change on the way through Python's floats."""
    return a.keys() == b.keys() and all(
        len(a[k]) == len(b[k])
        and all(
            y is not None and x.dtype == y.dtype and np.array_equal(x, y, equal_nan=True)
            for x, y in zip(a[k], b[k], strict=True)
        )
        for k in a
    )


def file_of(tmp_path, content, name="file"):
    path = tmp_path / name
    path.write_bytes(content)
    return path


def v0_net():
    net = NetParameter(name="old")
    layer = net.layers.add().layer
    layer.name, layer.type = "conv", "conv"
    layer.blobs.add(num=2, channels=1, height=1, width=2, data=[1, 2, 3, 4])
    layer.blobs.add(num=1, channels=1, height=1, width=2, data=[5, 6])
    return net.SerializeToString()


def field(number, content):
    return delimited(number, len(content)) + content


def blob_with(data, dims=(2, 3)):
    """A net with one layer 'x' of one blob, its data in any encoding."""
    shape = field(7, field(1, b"".join(map(varint, dims))))
    return field(100, field(1, b"x") + field(7, shape + data))


def unpacked(values, number=5):
    return b"".join(varint(number << 3 | 5) + np.float32(v).tobytes() for v in values)


# Reading what Caffe wrote


@pytest.mark.parametrize(
    "name", ["small.caffemodel", "small.caffemodel.h5", "v1.caffemodel", "double.caffemodel"]
)
def test_files_of_caffe(name):
    read, expected = read_weights(GOLDEN / name), np.load(GOLDEN / f"{name.split('.')[0]}.npz")
    keys = [key for key in expected if key.startswith("param:")]
    assert sum(map(len, read.values())) == len(keys) == 4
    for key in keys:
        _, layer, i = key.split(":")
        np.testing.assert_array_equal(read[layer][int(i)].reshape(expected[key].shape), expected[key])


@pytest.mark.parametrize("name", NETS)
def test_equals_protobuf(name):
    path = GOLDEN / f"{name}.caffemodel"
    assert same(read_weights(path), layers_by_protobuf(path.read_bytes()))


LEGACY = b"\x08\x01\x10\x01\x18\x02\x20\x03"  # num 1, channels 1, height 2, width 3
SIX = np.arange(6, dtype="<f4")
PACKED = field(5, SIX.tobytes())
ODD = {
    "V0": v0_net(),
    "V1, 4 axes": field(2, field(4, b"x") + field(6, LEGACY + PACKED)),
    "4 axes before shape": blob_with(LEGACY + PACKED, (3, 2)),
    "packed": blob_with(PACKED),
    "unpacked": blob_with(unpacked(SIX)),
    "in pieces": blob_with(field(5, SIX[:2].tobytes()) + unpacked(SIX[2:4]) + field(5, SIX[4:].tobytes())),
    "a diff": blob_with(unpacked(SIX, 6) + PACKED),
    "double": blob_with(field(8, SIX.astype("<f8").tobytes())),
    "double before float": blob_with(PACKED + field(8, (-SIX.astype("<f8")).tobytes())),
    "raw double": blob_with(b"\x50\x00" + field(12, SIX.astype("<f8").tobytes())),
    "raw single": blob_with(b"\x50\x01" + field(12, SIX.tobytes())),
    "raw half": blob_with(b"\x50\x02" + field(12, SIX.astype("<f2").tobytes())),
    "raw, type behind": blob_with(field(12, SIX.astype("<f2").tobytes()) + b"\x50\x02"),
    "raw beside float": blob_with(PACKED + b"\x50\x01" + field(12, (-SIX).tobytes())),
    "raw in V1": field(2, field(4, b"x") + field(6, LEGACY + b"\x50\x02" + field(12, SIX.astype("<f2").tobytes()))),
    "no numbers": blob_with(b"", (0, 3)),
    "scalar": blob_with(field(5, SIX[1:2].tobytes()), ()),
    "shape in pieces": blob_with(field(7, b"\x08\x01") + PACKED),
    "a name twice": blob_with(PACKED) + field(100, field(1, b"x")) + field(100, field(1, b"none")),
    "unknown fields": blob_with(PACKED) + field(77, b"fork") + varint(78 << 3) + b"\x05",
}


@pytest.mark.parametrize("what", ODD)
def test_odd_encodings(what, tmp_path):
    read = read_weights(file_of(tmp_path, ODD[what]))
    assert any(map(len, read.values()))
    assert same(read, layers_by_protobuf(ODD[what]))


def test_mean(tmp_path):
    np.testing.assert_array_equal(
        read_mean(GOLDEN / "mean.binaryproto"), np.load(GOLDEN / "mean.npz")["mean"]
    )
    raw = LEGACY + b"\x50\x02" + field(12, SIX.astype("<f2").tobytes())
    np.testing.assert_array_equal(read_mean(file_of(tmp_path, raw)), SIX.reshape(1, 1, 2, 3))


def test_state_of_caffe():
    path = GOLDEN / "adagrad.solverstate"
    state, judge = read_state(path), SolverState.FromString(path.read_bytes())
    assert (state.iteration, state.learned_net) == (30, "final_iter_30.caffemodel")
    assert (state.iteration, state.current_step) == (judge.iter, judge.current_step)
    assert (
        same({"": state.history}, {"": [by_protobuf(blob) for blob in judge.history]})
        and len(state.history) == 4
    )


def test_nothing_is_copied_in_reading(tmp_path):
    """The arrays are views, so a file as large as memory opens at once."""
    path = tmp_path / "big.caffemodel"
    write_weights(path, "big", {"x": ("InnerProduct", [np.zeros((1000, 5000), np.float32)])})
    tracemalloc.start()
    read = read_weights(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20 and not read["x"][0].flags.owndata and not read["x"][0].flags.writeable


@pytest.mark.skipif(not hasattr(mmap, "MADV_DONTNEED"), reason="mapped files stay in memory there")
def test_loading_takes_no_second_copy_in_memory(tmp_path):
    path = tmp_path / "big.caffemodel"
    write_weights(path, "big", {"x": ("InnerProduct", [np.arange(3e7, dtype=np.float32).reshape(3, -1)])})
    code = ("import resource, sys, numpy, torch; from netspec.net import weights; "
            "p = torch.nn.Parameter(torch.ones(3, 10**7)); "
            "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; before = peak(); "
            "weights.load(sys.argv[1], {'x': [p]}); assert p[2, -1] == 3e7 - 1; print(peak() - before)")
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) * (1 if sys.platform == "darwin" else 1024) < path.stat().st_size / 2


# Writing what Caffe reads


def contents():
    rng = np.random.RandomState(0)
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in ((4, 3, 2, 2), (4,), (300, 7))]
    return {
        "conv": ("Convolution", arrays[:2]),
        "a/b": ("InnerProduct", [arrays[2].T]),  # not contiguous
        "bn": (
            "BatchNorm",
            [torch.ones(3, dtype=torch.float64), torch.nn.Parameter(torch.zeros(2)), np.float32([2])],
        ),
        "relu": ("ReLU", []),
    }


def plain(layers):
    return {
        name: [np.float32(b.detach().numpy() if hasattr(b, "detach") else b) for b in blobs]
        for name, (_, blobs) in layers.items()
    }


@pytest.mark.parametrize("hdf5", [False, True])
def test_written_is_read(tmp_path, hdf5):
    path = tmp_path / "new" / "x.bin"
    write_weights(path, "net", contents(), hdf5=hdf5)
    assert same(read_weights(path), plain(contents()))
    assert [x.name for x in path.parent.iterdir()] == ["x.bin"]


def test_protobuf_reads_what_is_written(tmp_path):
    path = tmp_path / "x.caffemodel"
    write_weights(path, "net", contents())
    net = NetParameter.FromString(path.read_bytes())
    assert net.name == "net" and not net.layers
    assert [(x.name, x.type) for x in net.layer] == [(name, kind) for name, (kind, _) in contents().items()]
    assert same(layers_by_protobuf(path.read_bytes()), plain(contents()))


def test_what_is_saved_is_byte_for_byte_what_caffe_wrote(tmp_path):
    net = module.Net(load(GOLDEN / "small.prototxt", TEST))
    weights.copy(read_weights(GOLDEN / "small.caffemodel"), net.layers_with_params())
    weights.save(tmp_path / "x.caffemodel", net)
    assert (tmp_path / "x.caffemodel").read_bytes() == (GOLDEN / "small.caffemodel").read_bytes()
    state = read_state(GOLDEN / "adagrad.solverstate")
    write_state(tmp_path / "x.solverstate", **vars(state))
    assert (tmp_path / "x.solverstate").read_bytes() == (GOLDEN / "adagrad.solverstate").read_bytes()


@pytest.mark.parametrize("shape", [(), (0,), (2, 0), (3,), (1, 2, 3, 4)])
def test_a_blob_is_written_as_caffe_writes_it(tmp_path, shape):
    blob = np.arange(math.prod(shape), dtype=np.float32).reshape(shape)
    write_weights(tmp_path / "x.caffemodel", "", {"x": ("PReLU", [blob])})
    net = NetParameter(name="")
    made = net.layer.add(name="x", type="PReLU").blobs.add()
    if shape:  # Blob::ToProto adds one dimension after the other, and data number by number
        made.shape.dim.extend(shape)
    made.data.extend(blob.ravel().tolist())
    assert (tmp_path / "x.caffemodel").read_bytes() == net.SerializeToString()
    assert np.array_equal(read_weights(tmp_path / "x.caffemodel")["x"][0], blob)


STRANGE = """layer { name: "data" type: "Input" top: "data" top: "label" input_param {
  shape { dim: 1 dim: 3 dim: 4 dim: 4 } shape { dim: 1 dim: 1 dim: 4 dim: 4 } } }
layer { name: "c" type: "Convolution" bottom: "data" top: "c" convolution_param { num_output: 2 kernel_size: 1 } }
layer { type: "ReLU" bottom: "c" top: "c" } layer { name: "c/1" type: "ReLU" bottom: "c" top: "d" }
layer { name: "c/0/x" type: "ReLU" bottom: "d" top: "e" } layer { name: "plain" type: "ReLU" bottom: "e" top: "f" }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "f" bottom: "label" }"""


def test_layers_with_odd_names_and_losses_without_a_top(tmp_path):
    (tmp_path / "net.prototxt").write_text(STRANGE)
    net = module.Net(load(tmp_path / "net.prototxt", TEST))
    for hdf5 in (False, True):
        weights.save(tmp_path / "x", net, hdf5=hdf5)
        assert {k: len(v) for k, v in read_weights(tmp_path / "x").items() if v} == {"c": 2}
    weights.save(tmp_path / "x", net)
    saved = NetParameter.FromString((tmp_path / "x").read_bytes()).layer[-1]
    assert (saved.type, list(saved.top), list(saved.loss_weight)) == ("SoftmaxWithLoss", [], [1])


def test_hdf5_has_caffes_layout(tmp_path):
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "x.caffemodel.h5"
    write_weights(path, "net", {k: v for k, v in contents().items() if k != "a/b"}, hdf5=True)
    with h5py.File(path) as mine, h5py.File(GOLDEN / "small.caffemodel.h5") as caffes:
        assert list(mine) == list(caffes) == ["data"]
        assert list(mine["data"]) == ["bn", "conv", "relu"] and not len(mine["data/relu"])
        assert [mine["data/conv"][i].shape for i in "01"] == [(4, 3, 2, 2), (4,)]
        assert mine["data/conv/0"].dtype == caffes["data/conv/0"].dtype


def test_a_binary_file_above_2_gib_is_refused(tmp_path):
    huge = np.broadcast_to(np.float32(0), (1 << 14, 1 << 15))
    with pytest.raises(Error, match="HDF5"):
        write_weights(tmp_path / "x", "net", {"x": ("InnerProduct", [huge])})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("hdf5", [False, True])
def test_state_goes_round(tmp_path, hdf5):
    path, history = tmp_path / "x.solverstate", [torch.arange(6.0).reshape(2, 3), np.float32([7])]
    facts = {"iteration": 300000, "learned_net": "net_iter_300000.caffemodel", "current_step": 3}
    write_state(path, **facts, history=history, hdf5=hdf5)
    state = read_state(path)
    assert {name: getattr(state, name) for name in facts} == facts
    assert same({"": state.history}, {"": [np.float32(blob) for blob in history]})
    if hdf5:
        h5py = pytest.importorskip("h5py")
        with h5py.File(path) as file:  # Caffe reads integers of one element, and a text that ends in zero
            assert file["iter"].shape == file["current_step"].shape == (1,)
            assert file["learned_net"].id.get_type().get_size() == len(facts["learned_net"]) + 1
    else:
        judge = SolverState.FromString(path.read_bytes())
        assert (judge.iter, judge.learned_net, judge.current_step) == tuple(facts.values())


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = file_of(tmp_path, b"old")
    for hdf5 in (False, True):
        with pytest.raises((ValueError, TypeError)):
            write_weights(path, "net", {"x": ("ReLU", [np.array(["text"])])}, hdf5=hdf5)
        assert path.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1


# What is refused

SMALL = (GOLDEN / "small.caffemodel").read_bytes()
STATE = (GOLDEN / "adagrad.solverstate").read_bytes()
MEAN = (GOLDEN / "mean.binaryproto").read_bytes()


def saved_by_torch():
    file = io.BytesIO()
    torch.save({"a": torch.zeros(3)}, file)
    return file.getvalue()


WRONG = {
    "empty": (b"", "is empty"),
    "text": (b'name: "x"\nlayer { type: "ReLU" }', "a text file"),
    "web page": (b"<!DOCTYPE html><html>", "a web page"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "git lfs pull"),
    "torch": (saved_by_torch(), "zip archive"),
    "gzip": (b"\x1f\x8b" + SMALL, "gzip"),
    "state": (STATE, "a .solverstate file"),
    "mean": (MEAN, "a .binaryproto mean file"),
    "zeros": (bytes(1000), "field number 0"),
    "nothing": (field(1, b"name"), "none of Caffe's"),
    "half": (SMALL[: len(SMALL) // 2], "where 545 are left"),
    "a byte less": (SMALL[:-1], "cut short"),
    "declares much": (field(100, b"")[:-1] + varint(1 << 62), "declares 4611686018427387904 bytes"),
    "endless number": (b"\xa2\x06" + b"\xff" * 40, "does not end"),
    "raw whole numbers": (blob_with(b"\x50\x03" + field(12, SIX.tobytes())), "raw_data of type 3, expected"),
    "raw without type": (blob_with(field(12, SIX.tobytes())), "raw_data of type None"),
    "raw cut short": (blob_with(b"\x50\x02" + field(12, SIX.astype("<f2").tobytes()[:-2])), "but holds 5"),
    "raw odd": (blob_with(b"\x50\x02" + field(12, SIX.tobytes()[:-1])), "whole number of 2-byte"),
    "group": (blob_with(PACKED) + b"\x0b\x0c", "wire type 3"),
    "negative dim": (blob_with(PACKED, (-2 & 2**64 - 1, 3)), "which cannot be"),
    "huge dim": (blob_with(PACKED, (1 << 40, 3)), "which cannot be"),
    "overflow": (blob_with(PACKED, (1 << 16, 1 << 16, 1 << 16, 1 << 16)), "which cannot be"),
    "overflow by zero": (blob_with(b"", (0, 2**31 - 1, 2**31 - 1, 2**31 - 1)), "which cannot be"),
    "axes": (blob_with(PACKED, [1] * 33), "more than 32 axes"),
    "shape cut short": (field(100, field(1, b"x") + field(7, field(7, b"\x08\xff") + PACKED)), "byte 10: a shape that cannot be read"),
    "many axes": (field(100, field(1, b"x") + field(7, field(7, field(1, b"\x01" * 10**6)) + PACKED)), "more than 32 axes"),
    "count": (blob_with(PACKED, (2, 4)), "blob 0 of layer 'x' has shape .2, 4., so 8 numbers, but holds 6"),
    "no data": (blob_with(b""), "holds 0"),
    "part of a number": (blob_with(field(5, bytes(23))), "23 bytes"),
    "numbers as varint": (blob_with(varint(5 << 3) + b"\1"), "wire type 0"),
    "name not text": (field(100, field(1, b"\xff\xfe")), "not text"),
    "name too long": (field(100, field(1, b"x" * 5000)), "5000 bytes"),
    "too many fields": (b"\xa2\x06\x00" * (MOST_FIELDS + 1), "more than"),
    "too many blobs": (field(100, b"\x3a\x00" * MOST_FIELDS), "more than|holds 0"),
}


@pytest.mark.parametrize("what", WRONG)
def test_refused(what, tmp_path):
    content, words = WRONG[what]
    path = file_of(tmp_path, content)
    start = time.process_time()
    with pytest.raises(Error, match=words) as refusal:
        read_weights(path)
    assert time.process_time() - start < 5
    assert (
        str(path) in str(refusal.value) and "\n" not in str(refusal.value) and len(str(refusal.value)) < 500
    )


def test_other_kinds_are_refused(tmp_path):
    small, state, mean = (
        GOLDEN / "small.caffemodel",
        GOLDEN / "adagrad.solverstate",
        GOLDEN / "mean.binaryproto",
    )
    for read, wrong in (
        (read_state, (small, mean, GOLDEN / "small.caffemodel.h5", GOLDEN)),
        (read_mean, (small, state, GOLDEN / "small.caffemodel.h5", GOLDEN)),
        (read_weights, (state, mean, GOLDEN, GOLDEN / "small.npz")),
    ):
        for path in wrong:
            with pytest.raises(Error):
                read(path)
    with pytest.raises(Error, match="not there"):
        read_weights(tmp_path / "absent.caffemodel")


@pytest.mark.parametrize("cut", [100, 2000, 6000, 12000])
def test_damaged_hdf5(tmp_path, cut):
    pytest.importorskip("h5py")
    content = (GOLDEN / "small.caffemodel.h5").read_bytes()
    with pytest.raises(Error, match="HDF5"):
        read_weights(file_of(tmp_path, content[:cut]))


def test_foreign_hdf5(tmp_path):
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "x.h5"
    for name, make, words in (
        ("layers/conv/vars/0", lambda file, name: file.create_dataset(name, data=[1.0]), "Keras"),
        ("data", lambda file, name: file.create_dataset(name, data=[1.0]), "group 'data'"),
        ("data/conv/kernel", lambda file, name: file.create_dataset(name, data=[1.0]), "data/LAYER/0"),
        ("data/conv/0", lambda file, name: file.create_dataset(name, data=b"text"), "numbers"),
        (
            "data/conv/0",
            lambda file, name: file.create_dataset(name, (1 << 40,), "f4", chunks=(9,)),
            "stores less",
        ),
    ):
        with h5py.File(path, "w") as file:
            make(file, name)
        with pytest.raises(Error, match=words):
            read_weights(path)


def mutated(content, rng):
    """One to four random changes of the kinds that files suffer: flips, cuts, repeats, wild numbers."""
    content = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(content) + 1)
        to = min(len(content), at + rng.choice((1, 1, 2, 4, 16, 200)))
        match rng.randrange(7):
            case 0 | 1 if at < len(content):
                content[at] ^= 1 << rng.randrange(8)
            case 2:
                content[at:to] = rng.randbytes(to - at)
            case 3:
                del content[at:to]
            case 4:
                content[at:at] = content[at:to] * rng.choice((1, 1, 50))
            case 5:
                wild = rng.choice((0, 1, 127, 128, 2**31 - 1, 2**31, 2**32, 2**62, 2**63, 2**64 - 1))
                content[at : at + 1] = varint(wild)
            case 6:
                del content[at:]
    return bytes(content)


def fuzz(count, seed, folder):
    """Reads `count` mutated files; each is refused with Error, or read as protobuf reads it. How many were read."""
    rng = random.Random(seed)
    tiny = NetParameter(name="n")
    for name in ("a", "b"):
        blob = tiny.layer.add(name=name, type="X").blobs.add(data=[1, 2])
        blob.shape.dim.extend((1, 2))
    seeds = [(read_weights, tiny.SerializeToString())] * 6
    seeds += [(read_weights, content) for content in (SMALL, *ODD.values())]
    seeds += [(read_weights, (GOLDEN / "v1.caffemodel").read_bytes())]
    seeds += [
        (read_state, STATE),
        (read_state, STATE[:28] + STATE[-2:]),
        (read_mean, MEAN),
    ]
    path, accepted, slowest = folder / "mutant", 0, 0.0
    for i in range(count):
        read, content = seeds[i % len(seeds)]
        content = mutated(content, rng)
        path.write_bytes(content)
        start = time.process_time()
        try:
            result = read(path)
        except Error:
            continue
        finally:
            slowest = max(slowest, time.process_time() - start)
        accepted += 1
        agrees(read, result, content)
    assert slowest < 2
    return accepted


def agrees(read, result, content):
    """Where protobuf reads the content too, it must read the same."""
    try:
        if read is read_weights:
            expected = layers_by_protobuf(content)
        elif read is read_state:
            result = {"": result.history}
            expected = {"": [by_protobuf(blob) for blob in SolverState.FromString(content).history]}
        else:
            result, expected = {"": [result]}, {"": [np.float32(by_protobuf(BlobProto.FromString(content)))]}
    except Exception:  # protobuf refuses; parts that are skipped here may be damaged
        return
    assert same(result, expected), content


def test_fuzz(tmp_path):
    assert 200 < fuzz(2000, 0, tmp_path) < 1800


@pytest.mark.slow
def test_fuzz_at_length(tmp_path):
    assert fuzz(100_000, 1, tmp_path)


# Copying into a net


def test_by_name_as_caffe(tmp_path):
    target = small_net()
    report = weights.load(GOLDEN / "partial.caffemodel", target)
    assert (report.copied, report.ignored, report.missing, report.reshaped) == (
        ["conv"],
        ["elsewhere"],
        ["ip"],
        [],
    )
    expected = np.load(GOLDEN / "small.npz")
    for i in (0, 1):
        np.testing.assert_array_equal(target["conv"][i].detach(), expected[f"param:conv:{i}"])
        assert (target["ip"][i] == 0.5).all()
    lines = report.table().splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["conv", "copied"],
        ["elsewhere", "ignored"],
        ["ip", "left"],
    ]
    assert "4x3x3x3 + 4" in lines[0]
    assert [line.index(word) for line, word in zip(lines, ("copied", "ignored", "left"), strict=True)] == [11] * 3
    assert [line.rindex("  ") + 2 for line in lines] == [11 + len("left at its filler (not in the file)") + 2] * 3


@pytest.mark.parametrize(
    "name", ["small.caffemodel", "small.caffemodel.h5", "v1.caffemodel", "double.caffemodel"]
)
def test_into_parameters_of_any_kind(name):
    expected = np.load(GOLDEN / f"{name.split('.')[0]}.npz")
    for change in (
        lambda x: x,
        lambda x: x.double(),
        lambda x: x.to(memory_format=torch.channels_last) if x.ndim == 4 else x,
    ):
        target = {k: [torch.nn.Parameter(change(p.data)) for p in v] for k, v in small_net().items()}
        report = weights.load(GOLDEN / name, target, strict=True)
        assert report.copied == ["conv", "ip"] and not report.reshaped
        for layer, params in target.items():
            for i, param in enumerate(params):
                np.testing.assert_array_equal(param.detach().float(), expected[f"param:{layer}:{i}"])
                assert param.requires_grad and param.is_leaf


def test_copying_in_pieces(monkeypatch):
    monkeypatch.setattr(weights, "_ROWS", 10)
    shapes = (7, 3, 2), (4, 30), (25,), (), (0, 3)
    blobs = [np.random.RandomState(1).standard_normal(shape).astype(np.float32) for shape in shapes[:3]]
    blobs += [np.array(3, np.float32), np.empty(shapes[4], np.float32)]
    target = {"x": parameters(*shapes)}
    weights.copy({"x": blobs}, target)
    for param, blob in zip(target["x"], blobs, strict=True):
        np.testing.assert_array_equal(param.detach(), blob)


@pytest.mark.parametrize(
    "there, here", [((6, 12), (6, 3, 2, 2)), ((6, 3, 2, 2), (6, 12)), ((1, 1, 6, 12), (6, 12, 1, 1))]
)
def test_fully_connected_and_convolution(there, here):
    blob = np.arange(72, dtype=np.float32).reshape(there)
    target = {"fc": parameters(here, (6,))}
    report = weights.copy({"fc": [blob, np.ones(6, np.float32)]}, target)
    assert report.reshaped == ["fc"] and not report.copied
    np.testing.assert_array_equal(target["fc"][0].detach(), blob.reshape(here))
    assert "->" in report.table()


def test_numbers_of_channels_come_with_two_axes_behind_them_too():
    blob, target = np.arange(6, dtype=np.float32).reshape(1, 6, 1, 1), {"bn": parameters((6,))}
    assert weights.copy({"bn": [blob]}, target).copied == ["bn"]
    np.testing.assert_array_equal(target["bn"][0].detach(), blob.ravel())


@pytest.mark.parametrize(
    "there, here",
    [
        ((6, 12), (12, 6)),
        ((6, 12), (3, 6, 2, 2)),
        ((6, 12), (6, 3, 2, 3)),
        ((6, 12), (72,)),
        ((6, 3, 2, 2), (6, 2, 3, 2)),
        ((1, 6, 12), (6, 12)),
        ((1, 6, 1, 2), (12,)),
        ((5,), (6,)),
    ],
)
def test_a_shape_that_does_not_fit(there, here):
    weight = np.zeros(there, np.float32)
    target = {"first": parameters((2,)), "fc": parameters(here)}
    with pytest.raises(Error) as refusal:
        weights.copy({"first": [np.ones(2, np.float32)], "fc": [weight]}, target)
    for words in ("'fc'", str(list(there)), str(list(here)), "rename"):
        assert words in str(refusal.value)
    assert (target["first"][0] == 0.5).all(), "nothing is copied if anything fails"


def test_mismatch_of_caffes(tmp_path):
    """Its ip is 4 x 80 with another count besides: the shape is what a person needs to hear of."""
    target = small_net()
    with pytest.raises(Error, match=r"mismatch.*'ip'.*\[4, 80\].*\[5, 80\].*rename"):
        weights.load(GOLDEN / "mismatch.caffemodel", target)
    with pytest.raises(Error):
        weights.load(GOLDEN / "truncated.caffemodel", target)
    assert all((param == 0.5).all() for params in target.values() for param in params)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_numbers_of_blobs(count):
    blobs = [np.zeros((4, 3, 3, 3), np.float32), np.zeros(4, np.float32), np.zeros(4, np.float32)][:count]
    with pytest.raises(Error, match=f"'conv': the weights have {count} blobs"):
        weights.copy({"conv": blobs}, small_net())


def test_shared_parameters_may_be_left_out():
    """Caffe's HDF5 files hold a shared blob once, with the layer that owns it."""
    owner = parameters((2, 2), (2,))
    target = {"a": owner, "b": [owner[0], *parameters((2,))], "c": [owner[0]]}
    one, two = np.ones(2, np.float32), np.full(2, 2, np.float32)
    report = weights.copy({"a": [np.eye(2, dtype=np.float32), one], "b": [None, two]}, target)
    assert report.copied == ["a", "b"] and not report.missing
    assert torch.equal(owner[0].detach(), torch.eye(2)) and (target["b"][1] == 2).all()
    with pytest.raises(Error, match="'b'"):
        weights.copy({"a": [np.eye(2, dtype=np.float32), one], "b": [None]}, target)


def test_strict():
    target = small_net()
    with pytest.raises(Error, match="elsewhere only in the weights and ip only in the net"):
        weights.load(GOLDEN / "partial.caffemodel", target, strict=True)
    assert all((param == 0.5).all() for params in target.values() for param in params)


def test_numbers_that_an_hdf5_file_keeps_in_others_are_not_read(tmp_path):
    """A few kilobytes could name a device, or somebody's file."""
    (tmp_path / "secret").write_bytes(bytes(400))
    with h5py.File(tmp_path / "outside.h5", "w") as file:
        file.create_dataset("data/conv/0", (100,), "f4", external=[(str(tmp_path / "secret"), 0, 400)])
    with h5py.File(tmp_path / "virtual.h5", "w") as file:
        layout = h5py.VirtualLayout((100,), "f4")
        layout[:] = h5py.VirtualSource(str(tmp_path / "outside.h5"), "data/conv/0", (100,))
        file.create_virtual_dataset("data/conv/0", layout)
    for name in ("outside.h5", "virtual.h5"):
        with pytest.raises(Error, match=f"{name}: /data/conv/0 keeps its numbers in other files"):
            read_weights(tmp_path / name)
