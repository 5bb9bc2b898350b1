"""HDF5 files that mean harm: what each kind of reader refuses before it takes memory, or opens other files."""

import os
import sys
import zlib
from functools import cache

import h5py
import numpy as np
import pytest
from measured import refusal

from netspec.convert.readers import read_layers
from netspec.data.arrays import HDF5Data
from netspec.ops.base import Context
from netspec.proto.caffe_pb2 import LayerParameter
from netspec.proto.model import read_state, read_weights

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are not forked")


def rows(path):
    (path.parent / "list.txt").write_text(path.name)
    layer = LayerParameter(name="d", type="HDF5Data", top=["data"])
    layer.hdf5_data_param.source, layer.hdf5_data_param.batch_size = "list.txt", 1
    return HDF5Data(layer, (), Context(base=path.parent)).load(0)


READERS = {"data/conv/0": read_weights, "data": rows, "conv/conv/kernel:0": read_layers}  # by what they look for
SMALL = 4, 10


@cache
def zeros(size):
    return zlib.compress(bytes(size), 1)


def chunked(chunk, size):
    """One chunk of a dataset of 40 numbers, that unpacks to so many bytes."""
    def make(file, name):
        data = file.create_dataset(name, SMALL, "f4", chunks=chunk, maxshape=(4, None), compression="gzip")
        data.id.write_direct_chunk((0, 0), zeros(size))
    return make


def linked(file, name):
    pipe = f"{file.filename}.{len(name)}"
    os.mkfifo(pipe)  # which would be waited for
    file[name] = h5py.ExternalLink(pipe, "/x")


def virtual(file, name):
    layout = h5py.VirtualLayout(SMALL, "f4")
    layout[:] = h5py.VirtualSource("/dev/zero", "x", SMALL)
    file.create_virtual_dataset(name, layout)


KINDS = {
    "declared": ("declares shape", lambda file, name: file.create_dataset(name, (4, 2**36), "f4")),
    "never written": ("declares shape", lambda file, name: file.create_dataset(name, (4, 2**28), "f4", compression="gzip")),
    "chunk": ("in chunks of", chunked((4, 2**23), 160)),
    "chunk that unpacks to more": ("filter returned failure", chunked(SMALL, 2**27)),
    "external": ("in other files", lambda file, name: file.create_dataset(name, (4, 2**28), "f4", external=[("/dev/zero", 0, 2**32)])),
    "virtual": ("in other files", virtual),
    "link": ("a link to another file", linked),
    "text": ("expected numbers", lambda file, name: file.create_dataset(name, data=[b"a", b"b"])),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_would_take_memory_or_other_files_is_refused(tmp_path, kind):
    words, make = KINDS[kind]
    for name, reader in READERS.items():
        path = tmp_path / f"{len(name)}.h5"
        with h5py.File(path, "w") as file:
            make(file, name)
        said = refusal(lambda reader=reader, path=path: reader(path))
        assert str(path) in said and words in said and "\n" not in said


def test_a_dataset_is_read_once_whatever_links_lead_to_it(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["data/a/0"] = np.ones((1 << 20,), np.float32)
        file["data/a/circle"] = file["data"]
        file["data/b"] = h5py.SoftLink("/data/a")
        for i in range(100):
            file[f"data/c{i}/0"] = file["data/a/0"]
        inner = file["data"]
        for _ in range(40):  # there are 2 ** 40 ways to the last
            inner["e"] = inner.create_group("d")
            inner = inner["d"]
    assert not refusal(lambda: read_weights(tmp_path / "a.h5"))
    held = read_weights(tmp_path / "a.h5")
    assert [name for name, blobs in held.items() if blobs] == ["a"] and held["a"][0].sum() == 1 << 20


def test_more_groups_in_groups_than_weights_have_are_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        inner = file.create_group("data")
        for _ in range(500):
            inner = inner.create_group("a")
        inner["0"] = np.ones(1)
    assert "is beyond 64 groups in groups" in refusal(lambda: read_weights(tmp_path / "a.h5"))


def test_a_state_with_a_long_name_or_one_blob_many_times_is_refused(tmp_path):
    for name, words in (("text", "does not hold one text"), ("blobs", "history/1")):
        with h5py.File(tmp_path / name, "w") as file:
            file["iter"], file["current_step"] = np.zeros(1, int), np.zeros(1, int)
            file["history/0"] = np.ones(1 << 20, np.float32)
            for i in range(1, 100):
                file[f"history/{i}"] = file["history/0"]
            if name == "text":
                file.create_dataset("learned_net", (), "S2000000000")
        assert words in refusal(lambda name=name: read_state(tmp_path / name))
