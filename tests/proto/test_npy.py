"""NumPy's files that mean harm: refused before they take memory."""

import io
import os
import pickle
import struct
import zipfile
import zlib

import numpy as np
import pytest
from measured import refusal

from netspec.base.errors import Error
from netspec.check.doctor import picture
from netspec.check.parity import read_results
from netspec.data.images import read_label
from netspec.proto.npy import read_npy, read_npz


def npy(shape, kind="<f4", content=b""):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": kind, "fortran_order": False, "shape": shape})
    return file.getvalue() + content


LONG = b"\x93NUMPY\2\0" + struct.pack("<I", 1 << 30)
ARRAYS = {
    "declared": (npy((1 << 20, 1 << 20), content=bytes(64)), "declares float32 of shape"),
    "beyond any size": (npy((1 << 70, 1), content=bytes(64)), "declares float32 of shape"),
    "less than nothing": (npy((-1, 2), content=bytes(64)), "of shape .-1, 2"),
    "text without end": (npy((2, 2), "|S2000000000", bytes(64)), "declares .S2000000000"),
    "objects": (npy((2, 2), "|O", pickle.dumps(print)), "expected an array of numbers or text"),
    "parts of their own": (npy((2, 2), [("a", "<f4")], bytes(64)), "expected an array of numbers or text"),
    "a header without end": (LONG, "does not begin as NumPy's arrays do"),
    "brackets without end": (npy((2, 2)).replace(b"'<f4'", b"[" * 4000 + b"]" * 4000), "cannot be read"),
    "cut short": (npy((4, 4), content=bytes(63)), "64 bytes, and has 63"),
}


@pytest.mark.parametrize("what", ARRAYS)
def test_an_array_that_declares_more_than_it_has_is_refused(tmp_path, what):
    content, words = ARRAYS[what]
    path = tmp_path / "a.npy"
    path.write_bytes(content)
    if what == "a header without end":
        os.truncate(path, 1 << 31)
    for reader in (read_label, picture):
        assert refusal(lambda reader=reader: pytest.raises(Error, reader, path).match(words)) == ""
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("a.npy", content)
    assert "a.npz: cannot be read as .npz" in refusal(lambda: read_results(tmp_path / "a.npz"))


def test_members_that_are_not_what_the_file_says_are_refused(tmp_path):
    content, path = npy((1 << 24,)) + bytes(1 << 26), tmp_path / "a.npz"
    packer = zlib.compressobj(1, zlib.DEFLATED, -15)
    packed = packer.compress(content) + packer.flush()

    def write(names, size, method=8):
        facts = struct.pack("<5H3I", 20, 0, method, 0, 0, zlib.crc32(content), len(packed), size)
        whole = b"PK\3\4" + facts + struct.pack("<2H", 5, 0) + b"a.npy" + packed
        ends = b"".join(b"PK\1\2\x14\0" + facts + struct.pack("<5H2I", len(name), 0, 0, 0, 0, 0, 0) + name for name in names)
        end = struct.pack("<4H2IH", 0, 0, len(names), len(names), len(ends), len(whole), 0)
        path.write_bytes(whole + ends + b"PK\5\6" + end)

    for words, *how in (("is there twice", [b"a.npy"] * 2, len(content)), ("and has 4872", [b"a.npy"], 5000),
                        ("larger than the file", [b"%d.npy" % i for i in range(40)], len(content)),
                        ("otherwise than NumPy", [b"a.npy"], len(content), 12)):
        write(*how)
        assert words in refusal(lambda: read_results(path))


def test_arrays_are_read_as_numpy_reads_them(tmp_path):
    arrays = {"f": np.asfortranarray(np.arange(6.0).reshape(2, 3)), "u": np.array(["ab", "c"]), "s": np.array(b"x"),
              "0": np.zeros((0, 3), ">i2"), "b": np.array([True, False]), "c": np.array(1j), "big": np.arange(1 << 19)}
    np.savez(tmp_path / "plain.npz", **arrays)
    np.savez_compressed(tmp_path / "packed.npz", **arrays)
    for name in ("plain", "packed"):
        read = read_npz(tmp_path / f"{name}.npz")
        assert list(read) == list(arrays)
        for key, array in arrays.items():
            assert read[key].dtype == array.dtype and np.array_equal(read[key], array) and read[key].flags.writeable
    np.save(tmp_path / "f.npy", arrays["f"])
    assert np.array_equal(read_npy(tmp_path / "f.npy"), arrays["f"])
