"""What writes blobs to files: HDF5Output."""

import os
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from ..proto import hdf5 as hdf5file
from .base import Operation, Shape

NAMES = ("data", "label")


class HDF5Output(Operation):
    """Writes its bottoms as the data sets 'data' and 'label' of the file `file_name`, with at least four axes.

    The first batch makes the file anew, each further one adds its rows. While rows are added the file has another
    name (.NAME.part), so that whoever opens it finds it whole.
    """

    type = "HDF5Output"
    sink = True
    bottoms = 2
    tops = 0
    undifferentiable = frozenset({0, 1})

    def setup(self, *shapes: Shape) -> None:
        if not self.layer.hdf5_output_param.file_name:
            raise self.error("needs hdf5_output_param { file_name: FILE }")
        self.path = Path(self.layer.hdf5_output_param.file_name)
        self.rows: list[Shape] | None = None  # the shapes of a row, once there is one

    def infer(self, *shapes: Shape) -> list[Shape]:
        if not all(shapes) or shapes[0][0] != shapes[1][0]:
            raise self.error(f"takes bottoms with as many items: {list(shapes[0])} and {list(shapes[1])}")
        return []

    def forward(self, bottoms: Sequence[Tensor], params: Sequence[Tensor]) -> list[Tensor]:
        blobs = [x.detach().float().cpu().numpy() for x in bottoms]
        blobs = [x.reshape(*x.shape, *(1,) * (4 - x.ndim)) for x in blobs]
        rows = [x.shape[1:] for x in blobs]
        if self.rows is None:
            with hdf5file.creating(self.path) as file:
                for name, values in zip(NAMES, blobs, strict=True):
                    file.create_dataset(name, data=values, maxshape=(None, *values.shape[1:]))
            self.rows = rows
            return []
        if rows != self.rows:
            raise self.error(f"{self.path} holds rows of shapes {self.rows}, this batch has {rows}")
        part = self.path.with_name(f".{self.path.name}.part")
        os.replace(self.path, part)
        with hdf5file.adding(part) as file:
            for name, values in zip(NAMES, blobs, strict=True):
                data = file[name]
                data.resize(len(data) + len(values), 0)
                data[-len(values) :] = values
        os.replace(part, self.path)
        return []
