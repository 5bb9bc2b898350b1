"""Opens HDF5 files for reading and writing, with errors in one sentence and bounded memory."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..base.errors import Error, lacking
from ..base.files import missing, writing

_MOST_COMPRESSION = 1032  # what deflate can reach at best
_DAMAGE = (OSError, RuntimeError, LookupError, ValueError, TypeError, AttributeError, MemoryError)


@contextmanager
def reading(path: str | os.PathLike) -> Iterator[Any]:
    """The open h5py.File; whatever HDF5 or h5py says of a damaged file inside the block becomes Error."""
    h5py = _h5py()
    try:
        with h5py.File(path, "r") as file:
            yield file
    except FileNotFoundError:
        raise missing(path) from None
    except _DAMAGE as problem:
        raise Error(f"{path}: cannot be read as HDF5 ({problem}); get the file again") from None


@contextmanager
def creating(path: str | os.PathLike) -> Iterator[Any]:
    """An h5py.File to fill, which appears under `path` only when the block ends without an exception."""
    h5py = _h5py()
    with writing(path, "w+b") as raw, h5py.File(raw, "w") as file:
        yield file


@contextmanager
def adding(path: Path) -> Iterator[Any]:
    """The open h5py.File, to add to. Meanwhile it has a temporary name, so that whoever opens it finds it
    whole; Error, and it is gone, where it cannot be written."""
    h5py = _h5py()
    part = path.with_name(f".{path.name}.underway.part")
    os.replace(path, part)
    try:
        with h5py.File(part, "r+") as file:
            yield file
        os.replace(part, path)
    except (OSError, RuntimeError) as problem:
        raise Error(f"{path}: cannot be written as HDF5 ({problem})") from None
    finally:
        part.unlink(missing_ok=True)


def array(dataset: Any, dtype: str = "<f4") -> np.ndarray:
    """The content of an h5py.Dataset of numbers. Raises Error where it declares more than it can hold, and
    where its numbers are in other files, which may be of any size, devices, or somebody's own."""
    where = f"{dataset.file.filename}: {dataset.name}"
    if not hasattr(dataset, "shape") or dataset.dtype.kind not in "fiu":
        raise Error(f"{where} does not hold an array of numbers; the file is damaged or of another kind")
    if dataset.external or dataset.is_virtual:
        raise Error(f"{where} keeps its numbers in other files, which are not read; write them into this one")
    if dataset.size * dataset.dtype.itemsize > _MOST_COMPRESSION * dataset.id.get_storage_size():
        raise Error(f"{where} declares shape {list(dataset.shape)} but stores less; the file is damaged")
    result = np.empty(dataset.shape, dtype)
    if result.size:
        dataset.read_direct(result)
    return result


def create_text(file: Any, name: str, text: str) -> None:
    """A string dataset as Caffe reads it back, which needs the zero at its end."""
    h5py = _h5py()
    raw = text.encode("utf-8") + b"\0"
    kind = h5py.h5t.C_S1.copy()
    kind.set_size(len(raw))
    dataset = h5py.h5d.create(file.id, name.encode(), kind, h5py.h5s.create(h5py.h5s.SCALAR))
    dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, np.array(raw, f"S{len(raw)}"))


def _h5py() -> Any:
    try:
        import h5py
    except ImportError:
        raise Error(lacking("reading and writing HDF5", "h5py")) from None
    return h5py
