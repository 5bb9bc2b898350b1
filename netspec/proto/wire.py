"""Caffe's binary files through a memory map: walks protobuf's wire format, copies nothing.

The format: https://protobuf.dev/programming-guides/encoding/. Parsing half a gigabyte of floats with protobuf
itself takes seconds and several times the memory.
"""

import math
import mmap
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Any, NamedTuple

import numpy as np
from google.protobuf.message import DecodeError

from ..base.errors import Error
from ..base.files import missing
from .caffe_pb2 import BlobProto, BlobShape, NetParameter, SolverState

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
MOST_FIELDS = 250_000  # far above any net; bounds the time and memory that a hostile file can take
MOST_TEXT = 4096  # bytes of a name, or of a shape
MOST_AXES = 32  # Caffe's kMaxBlobAxes
MOST_COMPRESSION = 1032  # what deflate can reach at best
MOST_NUMBERS = 2**31 - 1  # Caffe counts a blob's numbers in an int
# NVIDIA's raw_data by its raw_data_type
RAW: dict[int, str] = {BlobProto.DOUBLE: "<f8", BlobProto.FLOAT: "<f4", BlobProto.FLOAT16: "<f2"}

_LEGACY = tuple(getattr(BlobProto, f"{axis}_FIELD_NUMBER") for axis in ("NUM", "CHANNELS", "HEIGHT", "WIDTH"))
# Vitis-AI has other fields of these numbers, of other kinds
_RAW = {(BlobProto.RAW_DATA_TYPE_FIELD_NUMBER, VARINT), (BlobProto.RAW_DATA_FIELD_NUMBER, BYTES)}
_HDF5 = b"\x89HDF\r\n\x1a\n"
_FOREIGN = (
    (b"PK\x03\x04", "a zip archive (torch or Keras?); 'netspec convert weights' reads torch's state dicts"),
    (b"\x80\x02", "a pickle (torch?); 'netspec convert weights' reads torch's state dicts"),
    (b"\x1f\x8b", "compressed by gzip; unpack it first"),
    (b"\x93NUMPY", "a NumPy array"),
    (_HDF5, "an HDF5 file"),
)
_KINDS = {"weights": ".caffemodel", "state": ".solverstate", "blob": ".binaryproto mean"}


def possible(shape: Sequence[int]) -> bool:
    """Whether a blob can have these sizes (Blob::Reshape's checks)."""
    small = len(shape) <= MOST_AXES and all(0 <= n <= MOST_NUMBERS for n in shape)
    return small and math.prod(n or 1 for n in shape) <= MOST_NUMBERS


class Field(NamedTuple):
    """One field of a message: the value of a varint, or where the content of any other lies in the file."""

    number: int
    wire: int
    value: int
    start: int
    end: int


class WireFile:
    """A binary file of Caffe's, mapped into memory. `kind` is "weights", "state" or "blob" (a mean).

    Raises Error for anything else, and for damage, naming the place in the file.
    """

    def __init__(self, path: str | os.PathLike, kind: str) -> None:
        self.path = path
        begins = head(path)
        foreign = describe(begins) if begins else "empty"
        if foreign:
            raise Error(f"{self.path}: is {foreign}; expected a {_KINDS[kind]} file")
        try:
            with open(self.path, "rb") as file:
                self.data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as problem:
            raise Error(f"{self.path}: cannot be read as a {_KINDS[kind]} file ({problem})") from None
        self.left = MOST_FIELDS
        self.shifted = False  # C3D's fields, of the blobs that were read
        self.end = len(self.data)
        found = self._kind()
        if found != kind:
            what = f"a {_KINDS[found]} file" if found else "none of Caffe's binary files"
            raise Error(f"{self.path}: is {what}; expected a {_KINDS[kind]} file")

    def error(self, at: int, message: str) -> Error:
        return Error(f"{self.path}: byte {at}: {message}; the file is cut short or damaged: get it again")

    def fields(self, start: int = 0, end: int | None = None) -> Iterator[Field]:
        """The fields of the message between two places.

        A run of unpacked numbers of one field comes as one Field, the tags between them included.
        """
        at, end = start, self.end if end is None else end
        while at < end:
            self.left -= 1
            if self.left < 0:
                raise self.error(at, f"more than {MOST_FIELDS} fields, which no net has")
            key, content = self._varint(at, end)
            number, wire = key >> 3, key & 7
            if not 0 < number < 2**29:
                raise self.error(at, f"field number {number}, which cannot be")
            if wire == VARINT:
                value, stop = self._varint(content, end)
                yield Field(number, wire, value, content, stop)
            elif wire == BYTES:
                length, content = self._varint(content, end)
                stop, rest = content + length, end - content
                if length > rest:
                    raise self.error(at, f"field {number} declares {length} bytes where {rest} are left")
                yield Field(number, wire, 0, content, stop)
            elif wire in (FIXED32, FIXED64):
                stop = content + (4 if wire == FIXED32 else 8)
                if stop > end:
                    raise self.error(at, f"field {number} ends beyond its message")
                stop = self._run(at, content, stop, end)
                yield Field(number, wire, 0, content, stop)
            else:
                raise self.error(at, f"wire type {wire}, which Caffe does not write")
            at = stop

    def expect(self, field: Field, wire: int) -> None:
        if field.wire != wire:
            found = f"field {field.number} has wire type {field.wire}"
            raise self.error(field.start, f"{found} instead of {wire}")

    def text(self, field: Field) -> str:
        self.expect(field, BYTES)
        if field.end - field.start > MOST_TEXT:
            raise self.error(field.start, f"a name of {field.end - field.start} bytes, which cannot be")
        try:
            return self.data[field.start : field.end].decode("utf-8")
        except UnicodeDecodeError:
            raise self.error(field.start, "a name that is not text") from None

    def integer(self, field: Field) -> int:
        """An int32."""
        self.expect(field, VARINT)
        value = field.value & (2**32 - 1)
        return value - 2**32 if value >> 31 else value

    def blob(self, field: Field, name: str = "the blob",
             check: Callable[[list[int]], Any] | None = None) -> np.ndarray:
        """The array of a BlobProto: a read-only view of the file, float32 (float64 for doubles).

        A blob with num, channels, height and width instead of a shape has four axes, one with C3D's length
        behind channels, which shifts all the fields that follow, five. `name` is for errors;
        `check` is given the shape before the numbers are looked at, and may raise.
        """
        shape, parts = self._of_c3d(field) or self._contents(field, name)
        if not possible(shape):
            raise self.error(field.start, f"{name} has shape {shape}, which cannot be")
        if check:
            try:
                check(shape)
            except Error as problem:
                raise Error(f"{self.path}: {problem}") from None
        found, needed = sum(map(len, parts)), math.prod(shape)
        if found != needed:
            raise self.error(field.start, f"{name} has shape {shape}, so {needed} numbers, but holds {found}")
        if len(parts) == 1:
            return parts[0].reshape(shape)
        return np.concatenate(parts or [np.empty(0, "<f4")]).reshape(shape)

    def _of_c3d(self, field: Field) -> tuple[list[int], list[np.ndarray]] | None:
        """`_contents` of C3D's first release: num, channels, length, height, width, data, each of which is
        always there; elsewhere field 5 holds float32. None for another's blob."""
        self.expect(field, BYTES)
        parts = [*self.fields(field.start, field.end)]
        sizes = {part.number: self.integer(part) for part in parts if part.wire == VARINT}
        if not {1, 2, 3, 4, 5} <= sizes.keys():
            return None
        self.shifted = True
        data = [self._numbers(part, "<f4", FIXED32) for part in parts if part.number == 6]
        return [sizes[i] for i in range(1, 6)], data

    def _contents(self, field: Field, name: str) -> tuple[list[int], list[np.ndarray]]:
        """The shape that a blob declares, and its numbers in the pieces that the file has them in."""
        shape: list[int] = []
        legacy: dict[int, int] = {}
        single: list[np.ndarray] = []
        double: list[np.ndarray] = []
        raw: dict[int, Field] = {}
        for part in self.fields(field.start, field.end):
            if part.number in _LEGACY:
                legacy[part.number] = self.integer(part)
            elif part.number == BlobProto.SHAPE_FIELD_NUMBER:
                shape += self._dims(part)
            elif part.number == BlobProto.DATA_FIELD_NUMBER:
                single.append(self._numbers(part, "<f4", FIXED32))
            elif part.number == BlobProto.DOUBLE_DATA_FIELD_NUMBER:
                double.append(self._numbers(part, "<f8", FIXED64))
            elif (part.number, part.wire) in _RAW:
                raw[part.number] = part
            if len(shape) > MOST_AXES:
                raise self.error(field.start, f"{name} has more than {MOST_AXES} axes")
        if legacy:
            shape = [legacy.get(number, 0) for number in _LEGACY]
        numbers = any(map(len, single)) or any(map(len, double))
        # without a type beside numbers it is another fork's field of that number, such as Vitis-AI's
        if BlobProto.RAW_DATA_FIELD_NUMBER in raw and (len(raw) == 2 or not numbers):
            return shape, [self._raw(raw, name)]
        return shape, double if any(map(len, double)) else single

    def _raw(self, fields: Mapping[int, Field], name: str) -> np.ndarray:
        """The numbers of NVIDIA's raw_data; those in half precision come as a float32 copy."""
        kind = fields.get(BlobProto.RAW_DATA_TYPE_FIELD_NUMBER)
        number = None if kind is None else self.integer(kind)
        if number not in RAW:
            raise Error(f"{self.path}: {name} has raw_data of type {number}, expected "
                        + ", ".join(f"{known} ({BlobProto.Type.Name(known)})" for known in RAW))
        found = self._numbers(fields[BlobProto.RAW_DATA_FIELD_NUMBER], RAW[number], -1)
        return found.astype("<f4") if number == BlobProto.FLOAT16 else found

    def _dims(self, field: Field) -> list[int]:
        self.expect(field, BYTES)
        if field.end - field.start > MOST_TEXT:
            raise self.error(field.start, f"a shape of more than {MOST_AXES} axes")
        try:
            return list(BlobShape.FromString(self.data[field.start : field.end]).dim)
        except DecodeError:
            raise self.error(field.start, "a shape that cannot be read") from None

    def _numbers(self, field: Field, dtype: str, fixed: int) -> np.ndarray:
        size, length = np.dtype(dtype).itemsize, field.end - field.start
        if field.wire == fixed:  # one byte of tag before each number
            count = (length + 1) // (size + 1)
            return np.ndarray(count, dtype, self.data, field.start, (size + 1,))
        self.expect(field, BYTES)
        if length % size:
            raise self.error(field.start, f"{length} bytes are not a whole number of {size}-byte numbers")
        return np.frombuffer(self.data, dtype, length // size, field.start)

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        value = 0
        for i in range(min(10, end - at)):
            byte = self.data[at + i]
            value |= (byte & 127) << 7 * i
            if byte < 128:
                return value & (2**64 - 1), at + i + 1
        raise self.error(at, "a number that does not end")

    def _run(self, at: int, content: int, stop: int, end: int) -> int:
        """The end of the run of numbers with the one-byte tag at `at`, the first of which ends at `stop`."""
        tag, stride = self.data[at], stop - at
        if content - at > 1:
            return stop
        window = 1
        while stop < end:  # doubling steps: as long as the run, whatever follows it
            count = min(window, (end - stop) // stride)
            tags = np.ndarray(count, np.uint8, self.data, stop, (stride,)) == tag
            same = count if tags.all() else int(tags.argmin())
            stop += same * stride
            if same < window:
                break
            window = min(2 * window, 1 << 20)
        return stop

    def _kind(self) -> str | None:
        found = {(field.number, field.wire == VARINT) for field in self.fields()}
        if (NetParameter.LAYER_FIELD_NUMBER, False) in found:
            return "weights"
        if {(BlobProto.DATA_FIELD_NUMBER, False), (BlobProto.DOUBLE_DATA_FIELD_NUMBER, False),
                (BlobProto.DATA_FIELD_NUMBER, True),  # C3D's width
                (BlobProto.RAW_DATA_FIELD_NUMBER, False)} & found:
            return "blob"
        if (SolverState.ITER_FIELD_NUMBER, True) in found:
            return "state"
        return "weights" if (NetParameter.LAYERS_FIELD_NUMBER, False) in found else None


def head(path: str | os.PathLike) -> bytes:
    """The first 512 bytes of a file. Raises Error where there is none to read."""
    if not os.path.exists(path):
        raise missing(path)
    if not os.path.isfile(path):
        raise Error(f"{path}: is no file that can be read (a folder? a device?)")
    try:
        with open(path, "rb") as file:
            return file.read(512)
    except OSError as problem:
        raise Error(f"{path}: cannot be read ({problem.strerror})") from None


def is_hdf5(path: str | os.PathLike) -> bool:
    """Whether the content says so, whatever the name says."""
    return head(path).startswith(_HDF5)


def is_text(head: bytes) -> bool:
    """Whether a file that begins so is text, in any encoding: Caffe's others have control characters."""
    return not any(byte < 9 or 13 < byte < 32 for byte in head)


def describe(head: bytes) -> str | None:
    """What a file that begins with `head` is, if that is plainly no file of Caffe's binary kinds."""
    for magic, what in _FOREIGN:
        if head.startswith(magic):
            return what
    if not is_text(head):
        return None
    text = head.decode("utf-8", "replace").strip().lower()
    if text.startswith("version https://git-lfs"):
        return "a Git LFS pointer, not the file itself; fetch it with 'git lfs pull'"
    if text.startswith("<"):
        return "a web page (a failed download?)"
    return "a text file (a prototxt?)"


def release(array: np.ndarray) -> None:
    """Give back the memory of the mapped file that an array of WireFile views, if it does: what is read of it
    again comes from the file again."""
    found: object = array
    while isinstance(found, np.ndarray | memoryview):
        found = found.base if isinstance(found, np.ndarray) else found.obj
    if isinstance(found, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
        found.madvise(mmap.MADV_DONTNEED)


def delimited(number: int, size: int) -> bytes:
    """What stands before `size` bytes of field `number`."""
    return varint(number << 3 | BYTES) + varint(size)


def varint(value: int) -> bytes:
    parts = bytearray()
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def blob_size(number: int, shape: Sequence[int]) -> int:
    """The bytes that `write_blob` writes."""
    return sum(map(len, _around_blob(number, shape))) + 4 * math.prod(shape)


def _around_blob(number: int, shape: Sequence[int]) -> tuple[bytes, bytes]:
    """What stands before and behind the numbers of field `number`, a BlobProto of this shape in float32."""
    dims = BlobProto(shape=BlobShape(dim=shape) if shape else None).SerializeToString()
    size = 4 * math.prod(shape)
    head = delimited(BlobProto.DATA_FIELD_NUMBER, size) if size else b""
    return delimited(number, len(head) + size + len(dims)) + head, dims


def write_blob(file: IO[bytes], number: int, blob: Any) -> None:
    """Writes field `number`, a BlobProto, from an array or tensor of any type, as float32."""
    head, tail = _around_blob(number, blob.shape)
    file.write(head)
    file.write(floats(blob).reshape(-1).view(np.uint8).data)
    file.write(tail)


def floats(blob: Any) -> np.ndarray:
    """An array or a tensor (on any device) as a contiguous float32 array; a copy only where it must be."""
    if hasattr(blob, "detach"):
        blob = blob.detach().cpu().float().numpy()
    return np.ascontiguousarray(blob, "<f4")
