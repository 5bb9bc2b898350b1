"""Nets as ONNX files kept beside their weights, so that engines need not wait for them in every run."""

import glob
import hashlib
import mmap
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from ..base import __version__
from ..base.errors import Error
from ..base.files import writing
from ..net import border, passes, plan, regions, route
from ..net.graph import Graph, Slot
from ..net.module import Net
from ..ops import Shape
from . import onnx, onnxops, routed

View = memoryview
MAKERS = onnx, onnxops, routed, border, passes, plan, regions, route  # modules that say what a model is


class Stored:
    """The ONNX models of a net: files beside its weights that an earlier run left, or are left now.

    WEIGHTS.PARAMETERS.CRC.onnx_data holds the numbers for all models, engines and versions of these, and
    WEIGHTS.PARAMETERS-MODEL.CRC.onnx the rest of one: digests of the numbers that the net has now, and of its
    layers, the inputs' shapes, the version of netspec and what writes ONNX here. A damaged one is made anew.
    Where they cannot be written, `say` is told, and models are held whole; so they are without `beside`.
    """

    def __init__(self, net: Net, beside: Path | None, say: Callable[[str], object]) -> None:
        self.net, self.beside, self.say, self.plan = net, beside, say, routed.planned(net)
        self.start, self.places = "", dict[str, onnx.Place]()
        if beside:
            self._keep_numbers(beside)

    def model(self, shapes: Mapping[str, Shape] | None = None, tiled: bool = False) -> Path | bytes:
        """The model for inputs of these shapes, as the net's plan runs it; of the net as it is without.

        tiled: see `Routed`. Raises Error for a net without a form in ONNX.
        """
        start = f"{self.start}-{_digest(_layers(self.net.graph, shapes, tiled))}"
        if self.beside and self.places:
            for path in self.beside.parent.glob(f"{glob.escape(start)}.*.onnx"):
                if path.name == f"{start}.{_crc(path)}.onnx":
                    return path
        built = routed.Routed(self.plan, shapes, tiled) if shapes else None
        data = onnx.model(self.net, built, self.places).SerializeToString()
        if self.beside and self.places:
            path = self.beside.with_name(f"{start}.{zlib.crc32(data):08x}.onnx")
            if self._write(path, [data]):
                return path
            data = onnx.model(self.net, built).SerializeToString()
        return data

    def _keep_numbers(self, beside: Path) -> None:
        """The file of numbers, and where each parameter's are in it."""
        crc, offset, digest, places = 0, 0, hashlib.sha256(), {}
        for slot, data in _numbers(self.net):
            digest.update(f"{slot.key} {slot.shape} {data.nbytes}\n".encode())
            digest.update(data)
            crc = zlib.crc32(data, crc)
            places[slot.key] = offset
            offset += data.nbytes
        params = digest.hexdigest()[:16]
        self.start = f"{beside.name}.{params}"
        path = beside.with_name(f"{self.start}.{crc:08x}.onnx_data")
        if _crc(path) == f"{crc:08x}" or self._write(path, (data for _, data in _numbers(self.net))):
            self.places = {key: (path.name, place) for key, place in places.items()}
            _drop(beside, params)

    def _write(self, path: Path, parts: Iterable[bytes | View]) -> bool:
        try:
            with writing(path) as file:
                for part in parts:
                    file.write(part)
            return True
        except (OSError, Error) as e:
            why = e.strerror if isinstance(e, OSError) else e
            self.say(f"the net's ONNX model cannot be kept in {path.parent} ({why}): each run makes it anew")
            self.places = {}
            return False


def _drop(beside: Path, params: str) -> None:
    """Remove the models of other numbers than these weights have now."""
    ours = re.compile(re.escape(beside.name) + r"\.([0-9a-f]{16})(-[0-9a-f]{16})?\.[0-9a-f]{8}\.onnx(_data)?")
    for path in beside.parent.glob(f"{glob.escape(beside.name)}.*.onnx*"):
        if (found := ours.fullmatch(path.name)) and found[1] != params:
            with suppress(OSError):  # in use, on Windows
                path.unlink()


def _digest(parts: Iterable[bytes]) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


def _numbers(net: Net) -> Iterator[tuple[Slot, View]]:
    for slot, parameter in net.parameters_by_slot():
        yield slot, parameter.detach().cpu().contiguous().numpy().reshape(-1).view("uint8").data


def _layers(graph: Graph, shapes: Mapping[str, Shape] | None, tiled: bool) -> Iterator[bytes]:
    """What the model has besides numbers, and what writes it."""
    yield f"{__version__} {graph.name} {graph.phase} {graph.outputs} {shapes} {tiled}\n".encode()
    yield from (Path(module.__file__ or "").read_bytes() for module in MAKERS)
    for node in graph.layers:
        params = [slot.key for slot in node.params]
        sizes = [graph.shapes[value] for value in node.tops] if node.source else []
        yield f"{node.bottoms} {node.tops} {params} {sizes}\n".encode()
        yield node.op.layer.SerializeToString(deterministic=True)


def _crc(path: Path) -> str:
    """The file's CRC-32; "" for one that cannot be read, or is empty."""
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as held:
            return f"{zlib.crc32(held):08x}"
    except (OSError, ValueError):
        return ""
