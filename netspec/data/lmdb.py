"""The source that reads Caffe's databases: Data."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from PIL import Image

from ..base.errors import Error
from ..base.files import find
from ..ops.base import Shape
from ..ops.source import Batch, Source
from ..proto import caffe_pb2
from .images import DAMAGE, Transform, decode
from .listed import PIXELS, SKIP


class Data(Source):
    """The Datum messages of an LMDB, in the order of their keys, which starts again at its end.

    Tops: data (N, C, H, W) and, if there is a second one, label (N). rand_skip leaves out a random number, less than
    it, at the start of the run.
    """

    type = "Data"
    one_label = True
    tops = (1, 2)

    def setup(self) -> None:
        p = self.layer.data_param
        if p.batch_size < 1:
            raise self.error("data_param needs a batch_size of at least 1")
        self.batch_size = p.batch_size
        try:
            self.path = find(p.source, self.context.base, "database")
        except Error as error:
            raise self.error(str(error)) from None
        if p.backend != p.LMDB:
            there = (self.path / "data.mdb").exists()
            raise self.error(f"database {self.path} is said to be a LevelDB (the default), which is not read; "
                             + ("it is an LMDB: say backend: LMDB" if there else "convert it to LMDB and say backend: LMDB"))
        with self.opened() as (_, entries):
            self.entries = entries
        if not self.entries:
            raise self.error(f"database {self.path} is empty")
        if p.rand_skip > self.entries:
            raise self.error(f"rand_skip {p.rand_skip} is more than the {self.entries} entries of {self.path}")
        self.transform = Transform(self)
        self._known = 0, b""  # the key of one entry, so that those near it are found without counting from the first

    def __len__(self) -> int:
        return self.entries

    def shapes(self) -> list[Shape]:
        with self.opened() as (cursor, _):
            datum = self.datum(cursor, self.entry(0))
        data = self.transform.shape(*self.pixels(datum).shape)
        return [(self.batch_size, *data), (self.batch_size,)][: len(self.layer.top)]

    def describe(self, position: int) -> str:
        first, last = (self.entry(self.items(position)[i]) for i in (0, -1))
        return f"entries {first} to {last} of {self.path}"

    def load(self, position: int) -> Batch:
        data, labels = None, np.empty(self.batch_size, np.float32)
        with self.opened() as (cursor, _):
            for i, item in enumerate(self.items(position)):
                datum = self.datum(cursor, self.entry(item))
                image = self.transform(self.pixels(datum), self.generator(PIXELS, item))
                if data is None:
                    data = np.empty((self.batch_size, *image.shape), np.float32)
                if image.shape != data.shape[1:]:
                    raise self.error(f"entry {self.entry(item)} of {self.path} gives {list(image.shape)}, the first of its batch "
                                     f"{list(data.shape[1:])}; images of different size need a crop_size or batch_size 1")
                data[i], labels[i] = image, datum.label
        return (data, labels)[: len(self.layer.top)]

    def entry(self, item: int) -> int:
        """The number in the database of item number `item` of the run."""
        skip = self.layer.data_param.rand_skip
        return (item + (int(self.generator(SKIP).integers(skip)) if skip else 0)) % self.entries

    @contextmanager
    def opened(self) -> Iterator[tuple[Any, int]]:
        """A cursor and the number of entries; opened anew for each batch, since an LMDB must not outlive a fork."""
        try:
            import lmdb
        except ImportError:
            raise self.error("reading a database needs lmdb: pip install netspec[lmdb]") from None
        folder = self.path.is_dir()
        try:
            with (lmdb.open(str(self.path), readonly=True, lock=False, create=False, readahead=False, subdir=folder)
                  as environment, environment.begin() as transaction):
                stat, pages = environment.stat(), environment.info()["last_pgno"] + 1
                size = (self.path / "data.mdb" if folder else self.path).stat().st_size
                if size < pages * stat["psize"]:  # reading what is not there would end the process
                    raise self.error(f"database {self.path} has {size} bytes of {pages * stat['psize']}; copy it again")
                yield transaction.cursor(), stat["entries"]
        except lmdb.Error as error:
            raise self.error(f"database {self.path} cannot be read as LMDB ({error})") from None

    def datum(self, cursor: Any, entry: int) -> Any:
        """The Datum of an entry."""
        at, key = self._known
        if key and at <= entry and cursor.set_key(key):
            steps = entry - at
        else:
            cursor.first()
            steps = entry
        for _ in range(steps):
            cursor.next()
        self._known = entry, cursor.key()
        try:
            return caffe_pb2.Datum.FromString(cursor.value())
        except DecodeError:
            raise self.error(f"entry {entry} of {self.path}, key {cursor.key()!r}, is no Datum") from None

    def pixels(self, datum: Any) -> np.ndarray:
        """The numbers of a Datum, (C, H, W): uint8, or float32 as float_data has them."""
        name = f"{self.path}, key {self._known[1]!r}: the image"
        if datum.encoded:
            try:
                image = Image.open(io.BytesIO(datum.data))
            except DAMAGE:
                raise Error(f"{name} is of no kind that Pillow reads, or it is damaged") from None
            return decode(image, name, self.transform.color)
        shape = datum.channels, datum.height, datum.width
        values = np.frombuffer(datum.data, np.uint8) if datum.data else np.array(datum.float_data, np.float32)
        if min(shape) < 1 or np.prod(shape, dtype=object) != len(values):
            raise Error(f"{name} is said to be {' x '.join(map(str, shape))} but has {len(values)} values")
        return values.reshape(shape)
