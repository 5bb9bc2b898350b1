"""Reads NumPy's files, .npy and .npz, in the memory of their numbers: no pickles, nothing only declared."""

import io
import math
import os
import zipfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import IO

import numpy as np

from .wire import MOST_COMPRESSION

_MAGIC = b"\x93NUMPY"
_LONGEST_HEADER = 10_000  # bytes, NumPy's own limit, which it looks at when it has read it
_BLOCK = 1 << 20  # bytes that are read at once


def read_npy(path: str | os.PathLike) -> np.ndarray:
    """The array of a .npy: numbers, bools or text. Raises ValueError for what is none, is damaged, or
    declares more than the file has, and OSError for what cannot be opened."""
    with _reading(path) as file:
        return _array(file, os.fstat(file.fileno()).st_size)


def read_npz(path: str | os.PathLike, wanted: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """The arrays of an .npz by name; wanted: of these names alone. Raises as `read_npy`, and ValueError for
    members that are there twice, or are more together than the file has."""
    with _reading(path) as file, zipfile.ZipFile(file) as packed:
        members = {info.filename.removesuffix(".npy"): info for info in packed.infolist()}
        if len(members) < len(packed.infolist()):
            raise ValueError("a member is there twice")
        if sum(info.compress_size for info in members.values()) > os.fstat(file.fileno()).st_size:
            raise ValueError("its members are larger than the file")
        arrays = {}
        for name, info in members.items():
            if wanted is None or name in wanted:
                if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise ValueError(f"'{name}' is compressed otherwise than NumPy does")
                with packed.open(info) as member:
                    arrays[name] = _array(member, min(info.file_size, MOST_COMPRESSION * info.compress_size))
        return arrays


@contextmanager
def _reading(path: str | os.PathLike) -> Iterator[IO[bytes]]:
    if os.path.exists(path) and not os.path.isfile(path):  # a pipe would be waited for
        raise ValueError("it is no file")
    try:
        with open(path, "rb") as file:
            yield file
    except OSError:
        raise
    except Exception as problem:  # NumPy and zipfile raise nearly anything on a damaged file
        raise ValueError(" ".join(str(problem).split())[:200] or type(problem).__name__) from None


def _array(file: IO[bytes], size: int) -> np.ndarray:
    """The array of a file of so many bytes, at its start."""
    start = file.read(8)
    wide = 2 if start[6:7] == b"\1" else 4
    start += file.read(wide)
    length = int.from_bytes(start[8:], "little")
    if not start.startswith(_MAGIC) or start[6:8] not in (b"\1\0", b"\2\0") or length > _LONGEST_HEADER:
        raise ValueError("it does not begin as NumPy's arrays do")
    header = io.BytesIO(start[8:] + file.read(length))
    header_of = np.lib.format.read_array_header_1_0 if wide == 2 else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = header_of(header)
    count, left = math.prod(shape) * dtype.itemsize, size - len(start) - length
    if dtype.kind not in "buifcUS" or min(shape, default=0) < 0:
        raise ValueError(f"it holds {dtype} of shape {shape}, expected an array of numbers or text")
    if count > left:
        raise ValueError(f"it declares {dtype} of shape {shape}, {count} bytes, and has {max(left, 0)}")
    numbers = np.empty(count, np.uint8)
    at = 0
    while at < count:
        block = np.frombuffer(file.read(min(_BLOCK, count - at)), np.uint8)
        if not len(block):
            raise ValueError(f"it ends after {at} of {count} bytes")
        numbers[at : at + len(block)] = block
        at += len(block)
    return np.ndarray(shape, dtype, numbers, order="F" if fortran else "C")
