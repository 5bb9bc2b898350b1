"""What produces data: layers without bottoms, which load the batch of any position."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..base.errors import Error, closest
from ..base.files import find, native
from ..base.machine import SMALL
from ..base.processes import tried
from ..base.trust import leave
from ..ops.base import Operation, Shape
from ..ops.fillers import fill
from ..ops.source import Batch, Source
from ..proto import hdf5
from ..proto.caffe_pb2 import LayerParameter
from ..proto.wire import is_hdf5, possible
from .listed import Listed


class Input(Source, type="Input", fed=True):
    """Blobs that the caller fills."""

    def shapes(self) -> list[Shape]:
        return _one_each(self, "shape", [tuple(s.dim) for s in self.layer.input_param.shape], ())


class MemoryData(Source, type="MemoryData", tops=2, one_label=True, fed=True):
    """Images (N, C, H, W) and labels (N) that the caller gives; transform_param has no effect on them."""

    def setup(self) -> None:
        p = self.layer.memory_data_param
        self.size = p.batch_size, p.channels, p.height, p.width
        if not all(self.size):
            raise self.error("memory_data_param needs batch_size, channels, height and width above 0")
        self.batch_size = p.batch_size

    def shapes(self) -> list[Shape]:
        return [self.size, (self.batch_size,)]

    @classmethod
    def stated(cls, layer: LayerParameter, size: tuple[int, int] | None = None) -> list[Shape]:
        p = layer.memory_data_param
        shape = p.batch_size, p.channels, *(size or (p.height, p.width))
        return [shape, shape[:1]] if all(shape) else []


class DummyData(Source, type="DummyData", workers=False):
    """Blobs that fillers fill: with the same numbers always (constant) or anew for each batch (others)."""

    def setup(self) -> None:
        p = self.layer.dummy_data_param
        self.fillers = _one_each(self, "data_filler", list(p.data_filler), None)
        older = [list(getattr(p, k)) for k in ("num", "channels", "height", "width")]
        if not any(older):
            self._shapes = _one_each(self, "shape", [tuple(s.dim) for s in p.shape])
        elif p.shape or not all(older):
            raise self.error("takes either shape or all of the older num, channels, height and width")
        else:
            each = [_one_each(self, "each of num, channels, height and width", k) for k in older]
            self._shapes = list(zip(*each, strict=True))
        numbers = [math.prod(shape) if possible(shape) else math.inf for shape in self._shapes]
        try:
            if 4 * sum(numbers) <= SMALL:  # else it is not known that they have room
                self.load(0)
        except Error as error:
            raise self.error(f"data_filler: {error}") from None

    def shapes(self) -> list[Shape]:
        return list(self._shapes)

    @classmethod
    def stated(cls, layer: LayerParameter, size: tuple[int, int] | None = None) -> list[Shape]:
        known = cls(layer, ()).shapes()
        return [(*shape[:2], *size) if size and len(shape) == 4 and shape[2:] == known[0][2:] else shape
                for shape in known]

    def load(self, position: int) -> Batch:
        blobs = tuple(np.empty(shape, np.float32) for shape in self._shapes)
        for i, (blob, filler) in enumerate(zip(blobs, self.fillers, strict=True)):
            seed = int(self.generator(position, i).integers(2**63))
            fill(torch.from_numpy(blob), filler, torch.Generator().manual_seed(seed))
        return blobs


class HDF5Data(Listed, type="HDF5Data", workers=False):
    """Rows of HDF5 files: the data sets named like the tops, of the files that the text file `source` lists.

    Rows come in order across the files and start again at the end. `shuffle` permutes the files of an epoch
    and the rows within each, as Caffe does (but not into Caffe's order, which is the C library's).
    """

    def setup(self) -> None:
        if self.layer.HasField("transform_param"):
            raise self.error("does not transform data; remove transform_param")
        super().setup()
        if is_hdf5(self.source):
            raise self.error(f"source {self.source} is an HDF5 file; it must be a text file that lists such "
                             "files")
        self.files = [find(name, self.source.parent, f"{self.source}: HDF5 file")
                      for line in self.text() for name in self._names(line)]
        if not self.files:
            raise self.error(f"source {self.source} lists no file")
        tried(lambda: [self._open(path, hdf5.ends) for path in self.files],
              str(self.error(f"a file of {self.source}")))
        rows, shapes = zip(*map(self._look, self.files), strict=True)
        for path, found in zip(self.files, shapes, strict=True):
            if found != shapes[0]:
                raise self.error(f"rows of {path} have shapes {found}, those of {self.files[0]} "
                                 f"{shapes[0]}; they must be equal")
        self._row_shapes = shapes[0]
        self.rows = np.array(rows)
        self._loaded: tuple[int, Batch] | None = None  # one file at a time in memory, as in Caffe

    def __len__(self) -> int:
        return int(self.rows.sum())

    def shapes(self) -> list[Shape]:
        return [(self.batch_size, *shape) for shape in self._row_shapes]

    @classmethod
    def stated(cls, layer: LayerParameter, size: tuple[int, int] | None = None) -> list[Shape]:
        return []

    def load(self, position: int) -> Batch:
        batch = tuple(np.empty(shape, np.float32) for shape in self.shapes())
        for i, item in enumerate(self.items(position)):
            file, row = self._locate(item)
            for out, values in zip(batch, self._read(file), strict=True):
                out[i] = values[row]
        return batch

    def describe(self, position: int) -> str:
        places = [self._locate(item) for item in self.items(position)]
        return ", ".join(f"{self.files[file]} row {row}" for file, row in places)

    def _locate(self, item: int) -> tuple[int, int]:
        """(file, row) of an item."""
        epoch, item = divmod(item, len(self))
        order = self.order(len(self.files), epoch)
        ends = np.cumsum(self.rows[order])
        at = int(np.searchsorted(ends, item, side="right"))
        file = int(order[at])
        row = item - (ends[at] - self.rows[file])
        return file, int(self.order(self.rows[file], epoch, 1 + file)[row])

    def _look(self, path: Path) -> tuple[int, tuple[Shape, ...]]:
        """The number of rows in a file and the shape of a row for each top."""
        shapes = self._open(path, lambda data: data.shape)
        if len({shape[:1] for shape in shapes}) > 1 or not shapes[0] or not shapes[0][0]:
            found = ", ".join(f"'{top}' {shape}" for top, shape in zip(self.layer.top, shapes, strict=True))
            raise self.error(f"the data sets of {path} must have equal numbers of rows, not 0; found {found}")
        return shapes[0][0], tuple(shape[1:] for shape in shapes)

    def _read(self, file: int) -> Batch:
        if self._loaded is None or self._loaded[0] != file:
            self._loaded = None  # before the next takes memory
            self._loaded = file, tuple(self._open(self.files[file], hdf5.array))
        return self._loaded[1]

    def _names(self, line: str) -> list[str]:
        """The files of a line: one, whose name may have blanks, or several between blanks, as Caffe reads."""
        try:
            return [line.strip()] if find(line.strip(), self.source.parent).is_file() else line.split()
        except Error:
            return line.split()

    def _open(self, path: Path, take: Callable[[Any], Any]) -> list[Any]:
        """What `take` makes of each top's data set in an HDF5 file."""
        taken = []
        with hdf5.reading(path) as file:
            for top in self.layer.top:
                data = hdf5.member(file, top)
                if not hasattr(data, "shape"):
                    has = f"{closest(top, file)} (it has: {', '.join(file) or 'none'})"
                    raise self.error(f"{path} has no data set '{top}'{has}")
                hdf5.check(data)
                taken.append(take(data))
        return taken


class HDF5Output(Operation, type="HDF5Output", bottoms=2, tops=0, sink=True, undifferentiable={0, 1}):
    """Writes its bottoms as the data sets 'data' and 'label', of at least four axes, of the file `file_name`.

    The first batch makes the file anew, each further one adds its rows. Where a net is only looked at (see
    base/trust), nothing is written.
    """

    def setup(self, *shapes: Shape) -> None:
        if not self.layer.hdf5_output_param.file_name:
            raise self.error("needs hdf5_output_param { file_name: FILE }")
        self.path = Path(native(self.layer.hdf5_output_param.file_name))
        self.rows: list[Shape] | None = None  # the shapes of a row, once there is one

    def infer(self, *shapes: Shape) -> list[Shape]:
        if not all(shapes) or shapes[0][0] != shapes[1][0]:
            raise self.error(f"takes bottoms with as many items: {list(shapes[0])} and {list(shapes[1])}")
        return []

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> list[Tensor]:
        if not leave.files:
            return []
        blobs = [x.detach().float().cpu().numpy() for x in bottoms]
        blobs = [x.reshape(*x.shape, *(1,) * (4 - x.ndim)) for x in blobs]
        rows = [x.shape[1:] for x in blobs]
        if self.rows is None:
            with hdf5.creating(self.path) as file:
                for name, values in zip(("data", "label"), blobs, strict=True):
                    file.create_dataset(name, data=values, maxshape=(None, *values.shape[1:]))
            self.rows = rows
            return []
        if rows != self.rows:
            raise self.error(f"{self.path} holds rows of shapes {self.rows}, this batch has {rows}")
        with hdf5.adding(self.path) as file:
            for name, values in zip(("data", "label"), blobs, strict=True):
                data = file[name]
                data.resize(len(data) + len(values), 0)
                data[-len(values) :] = values
        return []


def _one_each(source: Source, field: str, values: list, *default: Any) -> list:
    """A repeated field given once for all tops or once for each; `default` where it is not given at all."""
    tops = len(source.layer.top)
    if not values and default:
        values = list(default)
    if len(values) not in (1, tops):
        raise source.error(f"needs {field} once, or once for each of the {tops} tops; found {len(values)}")
    return values if len(values) == tops else values * tops
