"""Opens HDF5 files for reading and writing, with errors in one sentence and bounded memory."""

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..base.errors import Error, lacking
from ..base.files import missing, writing
from ..base.processes import tried, within
from .wire import MOST_COMPRESSION

_SMALL = 1 << 24  # bytes that may be declared without being stored, or be in a chunk of a smaller dataset
_DEEPEST = 64  # groups in groups
_MOST_OBJECTS = 100_000
_MOST_TEXT = 1 << 16  # bytes
_DAMAGE = (OSError, RuntimeError, LookupError, ValueError, TypeError, AttributeError, MemoryError)
Taken = TypeVar("Taken")


def taken(path: str | os.PathLike, take: Callable[[Any], Taken]) -> Taken:
    """What `take` makes of the open h5py.File, once a process of its own has done it and lives."""
    def work() -> Taken:
        with reading(path) as file:
            return take(file)

    tried(work, f"{path}:")
    return work()


@contextmanager
def reading(path: str | os.PathLike) -> Iterator[Any]:
    """The open h5py.File; whatever HDF5 or h5py says of a damaged file inside the block becomes Error."""
    h5py = _h5py()
    if os.path.exists(path) and not os.path.isfile(path):  # a pipe would be waited for
        raise Error(f"{path}: is no file that can be read (a folder? a device?)")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except FileNotFoundError:
        raise missing(path) from None
    except _DAMAGE as problem:
        raise Error(f"{path}: cannot be read as HDF5 ({problem}); get the file again") from None


def member(group: Any, name: str, soft: bool = True) -> Any:
    """The object of a name in an h5py.File or Group; None without one, or where a soft link leads to it that
    is not wanted. Raises Error for a link to another file, which may be any."""
    links = _h5py().h5l
    for part in filter(None, name.split("/")):
        if not hasattr(group, "keys") or not group.id.links.exists(part.encode()):
            return None
        kind = group.id.links.get_info(part.encode()).type
        if kind == links.TYPE_EXTERNAL:
            raise _wrong(group, f"has '{part}' by a link to another file, which is not followed")
        if kind == links.TYPE_HARD:
            group = group[part]
        else:
            target = group.get(part, getlink=True).path if soft else ""
            group = member(group.file if target.startswith("/") else group, target) if soft else None
    return group


def walk(group: Any) -> Iterator[tuple[str, Any]]:
    """Each group and dataset below an h5py.Group, with its name from there: once, whatever other links lead
    to it, and none that only a soft link leads to.

    Raises Error for links to other files, for more groups in groups, or objects, than weights have, and for
    datasets that store more bytes together than the file has.
    """
    information = _h5py().h5o.get_info
    seen, left = {information(group.id).addr}, os.path.getsize(group.file.filename)
    queue = [("", group)]
    while queue:
        name, item = queue.pop()
        if name:
            yield name, item
        if hasattr(item, "keys"):
            if name.count("/") > _DEEPEST or len(seen) + len(item) > _MOST_OBJECTS:
                raise _wrong(item, f"is beyond {_DEEPEST} groups in groups, or {_MOST_OBJECTS} in all")
            parts = {}
            for key in item:
                part = member(item, key, soft=False)
                if part is not None and (address := information(part.id).addr) not in seen:
                    seen.add(address)
                    parts[f"{name}/{key}".lstrip("/")] = part
            queue += reversed(parts.items())
        elif hasattr(item, "external") and not item.external:
            left -= item.id.get_storage_size()
            if left < 0:
                raise _wrong(item, "and the datasets before it store more than the file has")


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
    """The content of an h5py.Dataset of numbers. Raises Error as `check`."""
    check(dataset)
    result = np.empty(dataset.shape, dtype)
    if result.size:
        within(_room(dataset))
        dataset.read_direct(result)
    return result


def ends(dataset: Any) -> None:
    """Read the first and last row of an h5py.Dataset, if it has rows. Raises Error as `check`."""
    check(dataset)
    within(_room(dataset))
    for row in (0, -1) if dataset.shape and dataset.size else ():
        dataset[row]


def check(dataset: Any) -> None:
    """Raise Error for what is no h5py.Dataset of numbers, for one that declares more than it can hold, or
    more in a chunk than in all, and for one whose numbers are in other files, which may be of any size,
    devices, or somebody's own."""
    if getattr(dataset, "shape", None) is None or dataset.dtype.kind not in "fiu":
        raise _wrong(dataset, f"holds {getattr(dataset, 'dtype', 'a group')}, expected numbers in an array")
    _check_size(dataset)


def one_text(dataset: Any) -> str:
    """The one text of an h5py.Dataset."""
    if getattr(dataset, "shape", None) != () or dataset.dtype.itemsize > _MOST_TEXT:
        raise _wrong(dataset, f"does not hold one text of at most {_MOST_TEXT} bytes")
    _check_size(dataset)
    value = dataset[()]
    return value.decode() if isinstance(value, bytes) else str(value)


def _check_size(dataset: Any) -> None:
    if dataset.external or dataset.is_virtual:
        raise _wrong(dataset, "keeps its numbers in other files, which are not read")
    if dataset.nbytes > MOST_COMPRESSION * dataset.id.get_storage_size() + _SMALL:
        raise _wrong(dataset, f"declares shape {list(dataset.shape)} but stores less")
    chunk = math.prod(dataset.chunks or ()) * dataset.dtype.itemsize
    if chunk > max(dataset.nbytes, _SMALL):
        raise _wrong(dataset, f"declares shape {list(dataset.shape)} in chunks of {list(dataset.chunks)}")


def _room(dataset: Any) -> int:
    """The bytes that reading a dataset may take: the numbers and a chunk, packed and unpacked."""
    return 4 * max(dataset.nbytes, _SMALL)


def _wrong(item: Any, what: str) -> Error:
    return Error(f"{item.file.filename}: {item.name} {what}; the file is damaged or of another kind")


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
