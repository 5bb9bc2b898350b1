"""Nets as ONNX files kept beside their weights, so that engines need not wait for them in every run."""

import glob
import hashlib
import mmap
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from ..base import __version__
from ..base.errors import Error
from ..base.files import writing
from ..net.graph import Graph
from ..net.module import Net
from . import onnx, onnxops


def stored(net: Net, beside: Path | None, say: Callable[[str], object]) -> Path | bytes:
    """The ONNX model of a net: the file beside these weights that an earlier run left, or is left now.

    The file is WEIGHTS.PARAMETERS-NET.CRC.onnx: digests of the numbers that the net has now, and of its
    layers, the version of netspec and what writes ONNX here. A damaged one is made anew. One file serves all
    engines in all versions. Where it cannot be written, `say` is told, and what it would hold is returned; so
    it is without `beside`. Raises Error for a net without a form in ONNX.
    """
    if beside is None:
        return onnx.model(net).SerializeToString()
    params = _digest(_numbers(net))
    start = f"{beside.name}.{params}-{_digest(_layers(net.graph))}"
    for path in beside.parent.glob(f"{glob.escape(start)}.*.onnx"):
        if path.name == f"{start}.{_crc(path)}.onnx":
            return path
    data = onnx.model(net).SerializeToString()
    path = beside.with_name(f"{start}.{zlib.crc32(data):08x}.onnx")
    try:
        with writing(path) as file:
            file.write(data)
    except (OSError, Error) as e:
        why = e.strerror if isinstance(e, OSError) else e
        say(f"the net's ONNX model cannot be kept in {beside.parent} ({why}): each run makes it anew")
        return data
    _drop(beside, params)
    return path


def _drop(beside: Path, params: str) -> None:
    """Remove the models of other numbers than these weights have now."""
    ours = re.compile(re.escape(beside.name) + r"\.([0-9a-f]{16})-[0-9a-f]{16}\.[0-9a-f]{8}\.onnx")
    for path in beside.parent.glob(f"{glob.escape(beside.name)}.*.onnx"):
        if (found := ours.fullmatch(path.name)) and found[1] != params:
            with suppress(OSError):  # in use, on Windows
                path.unlink()


def _digest(parts: Iterator[bytes | memoryview]) -> str:
    found = hashlib.sha256()
    for part in parts:
        found.update(part)
    return found.hexdigest()[:16]


def _numbers(net: Net) -> Iterator[bytes | memoryview]:
    for slot, parameter in net.parameters_by_slot():
        yield f"{slot.key} {slot.shape} {parameter.dtype}\n".encode()
        yield parameter.detach().cpu().contiguous().numpy().reshape(-1).view("uint8").data


def _layers(graph: Graph) -> Iterator[bytes]:
    """What the model has besides numbers, and what writes it."""
    yield f"{__version__} {graph.name} {graph.phase} {graph.outputs}\n".encode()
    yield from (Path(module.__file__ or "").read_bytes() for module in (onnx, onnxops))
    for node in graph.layers:
        params = [slot.key for slot in node.params]
        shapes = [graph.shapes[value] for value in node.tops] if node.source else []
        yield f"{node.bottoms} {node.tops} {params} {shapes}\n".encode()
        yield node.op.layer.SerializeToString(deterministic=True)


def _crc(path: Path) -> str:
    """The file's CRC-32; "" for one that cannot be read, or is empty."""
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as held:
            return f"{zlib.crc32(held):08x}"
    except (OSError, ValueError):
        return ""
