"""The source that reads Caffe's databases: Data."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from ..base.errors import Error, lacking
from ..base.processes import tried
from ..ops.base import Shape
from ..ops.source import Batch
from ..proto.caffe_pb2 import Datum
from .images import decode, open_image
from .listed import PIXELS, Listed
from .transform import Transform


class Data(Listed, type="Data", tops=(1, 2), one_label=True, what="database"):
    """The Datum messages of an LMDB, in the order of their keys.

    Tops: data (N, C, H, W) and, if there is a second one, label (N).
    """

    def setup(self) -> None:
        super().setup()
        if self.p.backend != self.p.LMDB:
            there = (self.source / "data.mdb").exists()
            remedy = "it is an LMDB: say" if there else "convert it to LMDB and say"
            raise self.error(f"database {self.source} is said to be a LevelDB (the default), which is not "
                             f"read; {remedy} backend: LMDB")
        with self.opened() as transaction:
            self.entries = transaction.stat()["entries"]
        if not self.entries:
            raise self.error(f"database {self.source} is empty")
        self.check_skip(self.entries, "entries")
        self.transform = Transform(self)
        self._known = 0, b""  # an entry and its key: those near it are found without counting from the first
        # a page that leads out of the file ends the process
        tried(self._read_first, f"{self.error('database')} {self.source}")

    def __len__(self) -> int:
        return self.entries

    def shapes(self) -> list[Shape]:
        with self.opened() as self._transaction:
            datum = self.datum(self.entry(0))
        data = self.transform.shape(*self.pixels(datum).shape)
        return [(self.batch_size, *data), (self.batch_size,)][: len(self.layer.top)]

    def describe(self, position: int) -> str:
        first, last = (self.entry(self.items(position)[i]) for i in (0, -1))
        return f"entries {first} to {last} of {self.source}"

    def load(self, position: int) -> Batch:
        with self.opened() as self._transaction:
            return super().load(position)[: len(self.layer.top)]

    def _read_first(self) -> None:
        """Read the first batch and compute nothing: in a forked process torch has no threads."""
        with self.opened() as self._transaction:
            for item in self.items(0):
                self.datum(self.entry(item))

    def stored(self) -> Iterator[np.ndarray]:
        """The numbers of every entry, as `pixels`, in the order of the keys."""
        with self.opened() as self._transaction:
            for entry in range(self.entries):
                yield self.pixels(self.datum(entry))

    def image(self, item: int) -> tuple[str, np.ndarray, int]:
        entry = self.entry(item)
        datum = self.datum(entry)
        pixels = self.transform(self.pixels(datum), self.generator(PIXELS, item))
        return f"entry {entry} of {self.source}", pixels, datum.label

    def entry(self, item: int) -> int:
        """The number in the database of item number `item` of the run."""
        return self.skipped(item) % self.entries

    @contextmanager
    def opened(self) -> Iterator[Any]:
        """A transaction. The database is opened anew for each batch: an LMDB must not outlive a fork."""
        try:
            import lmdb
        except ImportError:
            raise self.error(lacking("reading a database", "lmdb")) from None
        folder = self.source.is_dir()
        file = self.source / "data.mdb" if folder else self.source
        if file.exists() and not file.is_file():
            raise self.error(f"database {file} is a device or a pipe; a file is read")
        try:
            with (lmdb.open(str(self.source), readonly=True, lock=False, create=False, readahead=False,
                            subdir=folder) as environment, environment.begin() as transaction):
                size = file.stat().st_size
                whole = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
                if size < whole:  # reading what is not there would end the process
                    raise self.error(f"database {self.source} has {size} bytes of {whole}; copy it again")
                yield transaction
        except lmdb.Error as error:
            raise self.error(f"database {self.source} cannot be read as LMDB ({error})") from None

    def datum(self, entry: int) -> Datum:
        """The Datum of an entry."""
        cursor, (at, key) = self._transaction.cursor(), self._known
        if not (key and at <= entry and cursor.set_key(key)):
            at = 0
            cursor.first()
        if not all(cursor.next() for _ in range(entry - at)):
            raise self.error(f"database {self.source} has fewer entries than it says; copy it again")
        self._known = entry, cursor.key()
        try:
            return Datum.FromString(cursor.value())
        except DecodeError:
            raise self.error(f"entry {entry} of {self.source}, key {cursor.key()!r}, is no Datum") from None

    def pixels(self, datum: Datum) -> np.ndarray:
        """The numbers of a Datum, (C, H, W): uint8, or float32 as float_data has them."""
        name = f"{self.source}, key {self._known[1]!r}: the image"
        if datum.encoded:
            return decode(open_image(Path(name), file=io.BytesIO(datum.data)), name, self.transform.color)
        shape = datum.channels, datum.height, datum.width
        values = (np.frombuffer(datum.data, np.uint8) if datum.data
                  else np.fromiter(datum.float_data, np.float32, len(datum.float_data)))
        if min(shape) < 1 or np.prod(shape, dtype=object) != len(values):
            raise Error(f"{name} is said to be {' x '.join(map(str, shape))} but has {len(values)} values")
        return values.reshape(shape)
