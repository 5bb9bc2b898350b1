"""Writes databases as Caffe's programs do, and takes the mean of one."""

import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from ..base.errors import Error, lacking
from ..base.files import staging
from ..ops.base import Context
from ..proto.caffe_pb2 import BlobProto, DataParameter, Datum, LayerParameter
from .lmdb import Data

WRITTEN = {"jpg": "JPEG", "jpeg": "JPEG", "png": "PNG", "bmp": "BMP", "tif": "TIFF", "tiff": "TIFF"}
PART = 1 << 26  # bytes of entries that are kept before they are written


@contextmanager
def creating(path: Path) -> Iterator[Callable[[str, Datum], None]]:
    """A new LMDB: what the block gets puts a Datum under a key. It is there when the block ends without an
    exception, and before that nothing is. Raises Error where something has its name, or it cannot be written.
    """
    try:
        import lmdb
    except ImportError:
        raise Error(lacking("writing a database", "lmdb")) from None
    if os.path.lexists(path):
        raise Error(f"{path} is there already, and no database is written over, as in Caffe; remove it, or "
                    "give another name")
    kept: list[tuple[bytes, bytes]] = []

    def put(key: str, datum: Datum) -> None:
        kept.append((key.encode(), datum.SerializeToString()))
        if len(kept) == 1000 or sum(len(value) for _, value in kept) > PART:
            write()

    def write() -> None:
        while kept:
            try:
                with environment.begin(write=True) as transaction:
                    for key, value in kept:
                        transaction.put(key, value)
                kept.clear()
            except lmdb.MapFullError:
                environment.set_mapsize(2 * environment.info()["map_size"])

    with staging(path) as folder:
        (made := folder / "db").mkdir()
        try:
            with lmdb.open(str(made), map_size=1 << 24, mode=0o664, sync=False) as environment:
                yield put
                write()
                environment.sync(True)
        except lmdb.Error as error:
            raise Error(f"database {path} cannot be written ({error})") from None
        made.rename(path)


def encoded(path: Path, pixels: np.ndarray, label: int, encoding: str, resized: bool) -> Datum:
    """The Datum of an image that is kept encoded: the file itself, unless it is resized or encoded otherwise.

    encoding: such as jpg; "": as its name ends. Raises Error where Pillow is not asked to write such a file.
    """
    ending = path.suffix[1:].lower()
    encoding = encoding.lower() or ending
    if not resized and ending in (encoding, {"jpg": "jpeg"}.get(encoding)):
        return Datum(data=path.read_bytes(), label=label, encoded=True)
    if encoding not in WRITTEN:
        raise Error(f"image {path}: '{encoding}' is no way to encode it; give -encode_type one of "
                    f"{', '.join(WRITTEN)}")
    file = io.BytesIO()
    shown = pixels[0] if len(pixels) == 1 else pixels[::-1].transpose(1, 2, 0)
    Image.fromarray(np.ascontiguousarray(shown)).save(file, WRITTEN[encoding], quality=95)
    return Datum(data=file.getvalue(), label=label, encoded=True)


def mean_of(path: str) -> tuple[BlobProto, int]:
    """The mean of all entries of an LMDB, in the form that compute_image_mean writes, and their number.

    Sums are float64. Raises Error for an entry of another shape than the first one's.
    """
    data = DataParameter(source=path, backend=DataParameter.LMDB, batch_size=1)
    source = Data(LayerParameter(name="compute_image_mean", type="Data", top=["data"], data_param=data), (),
                  Context())
    total = np.zeros(0)
    for number, pixels in enumerate(source.stored()):
        if not number:
            total = np.zeros(pixels.shape)
        if pixels.shape != total.shape:
            raise Error(f"entry {number} of {path} is {list(pixels.shape)}, the first {list(total.shape)}; "
                        "a mean needs images of one size: convert_imageset -resize_height -resize_width")
        total += pixels
    channels, height, width = map(int, total.shape)
    mean = (total / len(source)).astype(np.float32)
    return BlobProto(num=1, channels=channels, height=height, width=width, data=mean.ravel()), len(source)
