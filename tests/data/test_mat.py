"""MATLAB's files: read as SciPy reads them, and refused where they declare what they do not have."""

import struct
import zlib
from contextlib import suppress

import numpy as np
import pytest
from measured import refusal
from scipy.io import loadmat, savemat

from netspec.base.errors import Error
from netspec.data.images import read_label
from netspec.data.mat import variables

START = b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\1IM"
BYTE = struct.pack("<IBBBBI", 2, 1, 0, 0, 0, 0)
ODD = struct.pack("<II", 5, 4) + struct.pack("<ii", 8, 0)  # the length of a field's name


def element(kind, content):
    return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8)


def matrix(kind, shape, content=b"", name=b""):
    sizes = struct.pack(f"<{len(shape)}i", *shape)
    return element(14, element(6, struct.pack("<II", kind, 0)) + element(5, sizes) + element(1, name) + content)


def fields(*names):
    return ODD + element(1, b"".join(name.ljust(8, b"\0") for name in names))


def nested(depth):
    inner = matrix(9, (1, 1), element(2, b"\1"))
    for level in range(depth):
        inner = matrix(1, (1, 1), inner, b"a" * (level == depth - 1))
    return inner


HUGE = 1 << 15, 1 << 14
KINDS = {
    "numbers": (matrix(9, HUGE, element(2, bytes(16)), b"a"), "declares 536870912 parts and has 24 bytes"),
    "text": (matrix(4, HUGE, element(16, b"a"), b"a"), "declares 536870912 parts"),
    "cells": (matrix(1, HUGE, b"", b"a"), "declares 536870912 parts and has 0"),
    "cells in a field": (matrix(2, (1, 1), fields(b"f") + matrix(1, HUGE), b"a"), "declares 536870912 parts and has 0"),
    "structures": (matrix(2, HUGE, fields(b"f"), b"a"), "declares 536870912 parts"),
    "structures of nothing": (matrix(2, (1, 1), fields(b"f") + matrix(2, HUGE, fields()), b"a"), "without fields"),
    "depth": (nested(2000), "more than 32 matrices in each other"),
    "number of cells": (matrix(1, (1 << 18, 1), element(14, b"") * (1 << 18), b"a"), "or 100000 in all"),
    "less than nothing": (matrix(9, (-1, -1), element(2, b"\1"), b"a"), r"the shape \(-1, -1\)"),
    "a function": (matrix(16, (1, 1), matrix(9, (1, 1)), b"a"), "a function or an object"),
    "an object": (matrix(17, (1, 1), b"", b"a"), "a function or an object"),
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("what", KINDS)
def test_a_variable_that_declares_more_than_it_has_is_refused(tmp_path, what, packed):
    content, words = KINDS[what]
    (tmp_path / "a.mat").write_bytes(START + (element(15, zlib.compress(content)) if packed else content))
    said = refusal(lambda: read_label(tmp_path / "a.mat"), 32 << 20)
    assert f"label {tmp_path}/a.mat cannot be read: " in said
    pytest.raises(ValueError, lambda: [read() for read in variables(tmp_path / "a.mat").values()]).match(words)


def test_one_variable_is_read_and_the_others_take_no_memory(tmp_path):
    bomb = zlib.compress(matrix(9, (1 << 14, 1 << 13), element(2, bytes(1 << 27)), b"b"), 1)
    (tmp_path / "a.mat").write_bytes(START + matrix(9, (2, 2), element(2, b"\1\0\1\0"), b"a") + element(15, bomb)[: 8 + len(bomb)])
    assert refusal(lambda: read_label(tmp_path / "a.mat", key="a"), 32 << 20) == ""
    assert read_label(tmp_path / "a.mat", key="a").tolist() == [[1, 1], [0, 0]]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("format", ["4", "5"])
def test_variables_are_read_as_scipy_reads_them(tmp_path, format, packed):
    given = {"a": np.arange(12.0).reshape(3, 4), "text": "text", "b": np.zeros((0, 3)), "c": np.array([[1j]])}
    if format == "5":
        cells = np.array([np.ones(2), "x"], object)
        given |= {"s": {"f": np.uint16([[7]]), "g": cells}, "cells": cells, "i": np.int8([[-1]]), "long" * 15: np.ones(1)}
    savemat(tmp_path / "a.mat", given, format=format, do_compression=packed and format == "5")
    ours = {name: read() for name, read in variables(tmp_path / "a.mat").items()}
    theirs = {name: value for name, value in loadmat(tmp_path / "a.mat").items() if not name.startswith("__")}
    assert list(ours) == list(theirs) == list(given) and all(repr(ours[key]) == repr(theirs[key]) for key in ours)
    whole = (tmp_path / "a.mat").read_bytes()
    for cut in range(0, len(whole) - 8, 97):
        (tmp_path / "a.mat").write_bytes(whole[:cut])
        with suppress(Error):  # where it has a matrix still
            read_label(tmp_path / "a.mat")
