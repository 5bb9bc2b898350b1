"""A manifest as a table in a Parquet file, for what reads tables."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from ..base.errors import Error, lacking
from ..base.files import writing
from .archive import Row
from .manifest import rows

NAME = "manifest.parquet"
BATCH = 4096  # rows at once in memory


def library() -> Any:
    """pyarrow; Error where it is not there."""
    try:
        import pyarrow.parquet
    except ImportError:
        raise Error(lacking("writing Parquet", "pyarrow")) from None
    return pyarrow


def write(manifest: Path, path: Path, names: Sequence[str]) -> None:
    """A manifest's last row of each image as a table, a row a picture.

    names: of the classes. Columns: image, frame (from 1 on; null of a file with one picture), status ("done"
    or "error"), bytes and mtime_ns of the file, width and height of the labels in pixels, labels (the file,
    from the manifest's folder on), share_NAME of each class (of all pixels, 0 to 1; null after an error), and
    error. Raises Error without pyarrow, and as `rows`.
    """
    arrow = library()
    shares = [f"share_{name}" + f"_{i}" * (names.count(name) > 1) for i, name in enumerate(names)]
    text, whole, small = arrow.string(), arrow.int64(), arrow.int32()
    schema = arrow.schema([
        ("image", text), ("frame", small), ("status", text), ("bytes", whole), ("mtime_ns", whole),
        ("width", small), ("height", small), ("labels", text), *((each, arrow.float64()) for each in shares),
        ("error", text)])
    found = (line for row in rows(manifest) for line in _lines(row, shares))
    with writing(path) as file, arrow.parquet.ParquetWriter(file, schema) as table:
        while batch := [*islice(found, BATCH)]:
            table.write_table(arrow.Table.from_pylist(batch, schema))


def _lines(row: Row, shares: Sequence[str]) -> Iterator[Row]:
    """What a row says of each picture, and that there was an error."""
    of_file = {"image": _plain(row["image"]), "bytes": row["bytes"], "mtime_ns": row["mtime_ns"]}
    pictures = row.get("frames", [row] if "files" in row else [])
    for number, picture in enumerate(pictures, 1):
        width, height = picture["size"]
        if any(not 0 <= each["class"] < len(shares) for each in picture["classes"]):
            raise Error(f"the manifest says of image {row['image']} that it has a class beyond "
                        f"{len(shares) - 1}")
        counted = dict.fromkeys(shares, 0.0) | {shares[c["class"]]: c["share"] for c in picture["classes"]}
        yield {**of_file, "frame": number if "frames" in row else None, "status": "done", "width": width,
               "height": height, "labels": _plain(picture["files"]["labels"]), **counted}
    if "error" in row:
        yield {**of_file, "status": "error", "error": _plain(row["error"])}


def _plain(text: str) -> str:
    """A text that is UTF-8: the bytes of a file's name that are none as `\\udcff`."""
    return text.encode("utf-8", "backslashreplace").decode()
