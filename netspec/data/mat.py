"""Labels in arrays: .npy, and MATLAB's .mat, which SciPy reads if what it declares is there."""

import io
import math
import os
import struct
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..base.errors import Error, closest, listed
from ..proto.npy import read_npy

MATRIX, COMPRESSED = 14, 15  # elements of a file
CELL, STRUCT, OBJECT, SPARSE, FUNCTION = 1, 2, 3, 5, 16  # matrices that are no arrays of numbers
BEGIN = 128  # where elements begin: behind a text, the version and the order of bytes
NAMED = 4096  # bytes at the start of an element, in which it has its name
BLOCK = 1 << 20  # bytes that are unpacked at once
DEEPEST, MOST = 32, 100_000  # matrices in a matrix: in each other, and in all


def read_array(path: Path, key: str, option: Callable[[str, object], str]) -> np.ndarray:
    """The array of a label in a .npy or a .mat, as `images.read_label` says. Raises Error naming the file."""
    if not path.is_file():
        raise Error(f"label {path} is not there")
    try:
        if path.suffix.lower() == ".npy":
            return read_npy(path)
        found = variables(path)
        first, _, field = key.partition(".")
        first = first or next(iter(found), "")
        if first not in found or (not key and len(found) > 1):
            which = "more than the" if first in found else "no"
            has = f"{closest(first, found) if key else ''} (it has: {listed(found) or 'none'}"
            raise Error(f"label {path} has {which} variable '{first}'{has}; "
                        f"{option('key', first or 'VARIABLE')} names one)")
        value = found[first]()
    except Error:
        raise
    except Exception as error:  # NumPy and SciPy raise nearly anything on a damaged file
        why = " ".join(str(error).split()) or type(error).__name__
        raise Error(f"label {path} cannot be read: {why}") from None
    if not field:
        return np.asarray(value)
    names = getattr(value, "dtype", np.dtype(int)).names or ()
    if field not in names or not value.size:
        raise Error(f"label {path}: variable '{first}' has no field '{field}' (it has: {', '.join(names)})")
    return np.asarray(value[field].flat[0])  # MATLAB's structures are arrays, here of one


def variables(path: Path) -> dict[str, Callable[[], Any]]:
    """The variables of a .mat by name, each to be read by a call, as SciPy does.

    This and the calls raise whatever SciPy does for damaged files, and ValueError for a variable that
    declares more than it has, holds functions or newer objects, or more matrices in a matrix than any label.
    """
    from scipy.io import loadmat

    found: dict[str, Callable[[], Any]] = {}
    with open(path, "rb") as file:
        start, at, size = file.read(BEGIN), BEGIN, os.fstat(file.fileno()).st_size
        order = {b"IM": "<", b"MI": ">"}.get(start[126:])
        if 0 in start[:4] or not order or max(start[124:126]) != 1:  # version 4, or one that SciPy refuses
            held = loadmat(path)
            return {name: partial(held.get, name) for name in held if not name.startswith("__")}
        while at + 8 <= size:
            file.seek(at)
            kind, length = struct.unpack(f"{order}II", file.read(8))
            if kind not in (MATRIX, COMPRESSED) or length > size - at - 8:
                raise ValueError(f"what begins at byte {at} is no variable, or ends beyond the file")
            head, whole = file.read(min(length, NAMED)), length
            if kind == COMPRESSED:
                head = zlib.decompressobj().decompress(head, NAMED)
                whole, head = struct.unpack(f"{order}I", head[4:8])[0], head[8:]
            name = _Matrices(memoryview(head), order).name()
            if name and not name.startswith("__"):
                found[name] = partial(_value, path, start, order, at, whole, name)
            at += 8 + length
    return found


def _value(path: Path, start: bytes, order: str, at: int, whole: int, name: str) -> Any:
    """The value of a variable, whose element begins at a place of a file and has so many bytes, unpacked."""
    from scipy.io import loadmat

    content: Any = io.BytesIO(start)
    with open(path, "rb") as file:
        file.seek(at)
        begin = file.read(8)
        kind, length = struct.unpack(f"{order}II", begin)
        content.seek(BEGIN)
        if kind == MATRIX:
            content.write(begin)
            content.write(file.read(length))
        packed, rest = zlib.decompressobj(), file.read(length) if kind == COMPRESSED else b""
        while rest and content.tell() < BEGIN + 8 + whole:
            content.write(packed.decompress(rest, BLOCK))
            rest = packed.unconsumed_tail
    _Matrices(content.getbuffer()[BEGIN + 8 : BEGIN + 8 + whole], order).check()
    content.seek(0)
    return loadmat(content, variable_names=[name])[name]


class _Matrices:
    """The content of an element MATRIX, and how many matrices in it may still be looked at."""

    def __init__(self, view: memoryview, order: str) -> None:
        self.view, self.order, self.left = view, order, MOST

    def name(self) -> str:
        """That of the first matrix."""
        return bytes(self.head(0, len(self.view))[2]).decode("latin-1")

    def check(self, begin: int = 0, end: int | None = None, depth: int = 0) -> None:
        """Raise ValueError where the matrix between two places declares more than it has, or has too many."""
        end = len(self.view) if end is None else end
        self.left -= 1
        if depth > DEEPEST or self.left < 0:
            raise ValueError(f"it has more than {DEEPEST} matrices in each other, or {MOST} in all")
        if begin == end:
            return
        kind, count, _, at = self.head(begin, end)
        if kind >= FUNCTION:
            raise ValueError("it holds a function or an object, which are not read")
        if kind in (STRUCT, OBJECT):
            if kind == OBJECT:
                at = self.part(at, end)[3]
            _, length, _, at = self.part(at, end)
            _, names, _, at = self.part(at, end)
            if not names and count > MOST:
                raise ValueError(f"it declares {count} structures without fields")
            count *= len(names) // max(int.from_bytes(length, "little" if self.order == "<" else "big"), 1)
        inner = kind in (CELL, STRUCT, OBJECT)
        if kind != SPARSE and count * (8 if inner else 1) > end - at:
            raise ValueError(f"it declares {count} parts and has {end - at} bytes")
        for _ in range(count if inner else 0):
            part, content, begin, at = self.part(at, end)
            if part != MATRIX:
                raise ValueError(f"what begins at byte {begin} of it is no matrix")
            self.check(begin, begin + len(content), depth + 1)

    def head(self, at: int, end: int) -> tuple[int, int, memoryview, int]:
        """Of a matrix: its kind, how many numbers or parts it declares, its name, and where they begin."""
        _, flags, _, at = self.part(at, end)
        _, sizes, _, at = self.part(at, end)
        _, name, _, at = self.part(at, end)
        kind = struct.unpack_from(f"{self.order}I", flags)[0] & 255
        dims = struct.unpack(f"{self.order}{len(sizes) // 4}i", sizes[: len(sizes) // 4 * 4])
        if min(dims, default=0) < 0:
            raise ValueError(f"it declares the shape {dims}")
        return kind, math.prod(dims), name, at

    def part(self, at: int, end: int) -> tuple[int, memoryview, int, int]:
        """Of the element at a place: its kind, content, where that begins, and where the next one is."""
        kind, length = struct.unpack_from(f"{self.order}II", self.view[:end], at)
        begin, after = at + 8, at + 8 + length + -length % 8
        if kind >> 16:  # of at most four bytes, which stand in place of their number
            kind, length, begin, after = kind & 0xFFFF, kind >> 16, at + 4, at + 8
        if begin + length > end:
            raise ValueError(f"what begins at byte {at} of it ends beyond it")
        return kind, self.view[begin : begin + length], begin, after
