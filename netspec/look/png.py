"""PNGs that are written row by row, for pictures too large to be held."""

import struct
import zlib
from typing import IO

import numpy as np

KINDS = {1: 3, 3: 2, 4: 6}  # channels -> PNG's colour type: numbers of a palette's colours, RGB, RGBA


class Png:
    """A PNG of 8 bits a channel in a file that can be gone back in: `add` rows, then `end`."""

    def __init__(self, file: IO[bytes], width: int, channels: int, palette: np.ndarray | None = None) -> None:
        """channels: 1, with a palette (uint8, colours x 3), 3 or 4."""
        self.file, self.width, self.channels, self.height = file, width, channels, 0
        # run lengths of photographs take a fifth of the time that zlib's default does, see pictures.save
        self.packed = zlib.compressobj(strategy=zlib.Z_DEFAULT_STRATEGY if channels == 1 else zlib.Z_RLE)
        self._head()
        if palette is not None:
            self._chunk(b"PLTE", np.asarray(palette, np.uint8).tobytes())

    def add(self, rows: np.ndarray) -> None:
        """The next rows, uint8 (rows, width) or (rows, width, channels)."""
        flat = rows.reshape(len(rows), -1)
        lines = np.zeros((len(rows), 1 + flat.shape[1]), np.uint8)
        lines[:, 1:] = flat
        if self.channels > 1:  # each pixel less the one before it, which the first byte of a line says
            lines[:, 0] = 1
            lines[:, 1 + self.channels :] -= flat[:, : -self.channels]
        self.height += len(rows)
        if data := self.packed.compress(lines.tobytes()):
            self._chunk(b"IDAT", data)

    def end(self) -> None:
        """Write what is left, and the height into the head."""
        self._chunk(b"IDAT", self.packed.flush())
        self._chunk(b"IEND", b"")
        self.file.seek(0)
        self._head()

    def _head(self) -> None:
        self.file.write(b"\x89PNG\r\n\x1a\n")
        kind = KINDS[self.channels]
        self._chunk(b"IHDR", struct.pack(">IIBBBBB", self.width, self.height, 8, kind, 0, 0, 0))

    def _chunk(self, kind: bytes, data: bytes) -> None:
        size, check = struct.pack(">I", len(data)), struct.pack(">I", zlib.crc32(kind + data))
        self.file.write(size + kind + data + check)
