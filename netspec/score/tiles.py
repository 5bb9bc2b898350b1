"""Images too large for memory: tiles whose joined scores are the whole image's, written as they come."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from ..base.errors import Error, TooLarge
from ..base.files import writing
from ..base.machine import amount, room
from ..look import pictures
from ..look.png import Png
from ..net.graph import Value
from ..net.judged import judging
from ..net.module import Net
from ..net.plan import Plan
from ..net.regions import Rect, Span
from ..net.route import Route
from . import predict
from .frames import BYTES, Frame
from .predict import Looks
from .results import Wanted, summary
from .segment import Segmenter
from .windows import Held, Windows

SIDES = 2048, 1536, 1024, 768, 512, 256  # of tiles: a larger one computes less twice, and holds more
WORK = 2  # times the maps that are held: what a layer needs beside them
WEIGHTS = 3  # times the weights: their own order for convolutions, and what reads them
ROWS = 256  # are written at once

Progress = Callable[[int, int, str], object]  # tiles done, in all, and the image at work


class Tiler(Segmenter):
    """A Segmenter that computes large images tile by tile.

    A tile's route (see Plan.part) goes from its pixels back through windows and strides to the part of the
    image that they are computed from: it is cut there, and padded where the image itself ends, so each
    score is made of the same numbers as the whole image's.
    """

    def __init__(self, net: Net, blob: str, mean: Sequence[float], scale: float = 1.0,
                 side: int | None = None, progress: Progress = lambda done, total, name: None) -> None:
        """side: of tiles, in pixels; images that are no larger are computed whole. None: those that there is
        memory for, and the tiles of others are as large as there is memory for."""
        super().__init__(net, blob, mean, scale)
        self.side, self.plan, self.progress = side, Plan.of(net), progress
        self.sides: dict[tuple[int, int], int] = {}

    def read(self, frame: Frame) -> Any:
        """A frame as RGB, or its Windows where it is tiled; Error as Viewer.read."""
        if self.side and max(frame.size) <= self.side or not self.side and self._fits(frame):
            return super().read(frame)
        try:
            self.sides[frame.size] = self._tile(frame.size)
        except Error as e:
            raise Error(f"image {frame.name} ({frame.size[0]}x{frame.size[1]}): {e}") from None
        return frame.windows() if frame.windows else Held(frame.read())

    def _fits(self, frame: Frame) -> bool:
        """Whether there is memory for all of a picture, and for the net on it."""
        try:
            self.fit(frame.size)
        except TooLarge:
            return False
        except Error:
            return True  # no tile helps, and who reads it says what does
        return BYTES * frame.size[0] * frame.size[1] <= room(torch.device("cpu"))

    def _tile(self, size: tuple[int, int]) -> int:
        """The side of tiles for images of a size (width, height), looked at on the tile that needs most."""
        weights = WEIGHTS * sum(parameter.nbytes for parameter in self.net.parameters())
        there = room(self.net.device)
        for side in [self.side] if self.side else SIDES:
            middle = [(start := (n - min(side, n)) // 2, start + min(side, n)) for n in size[::-1]]
            route = self._route(size, (middle[0], middle[1]))
            needed = weights + WORK * (self.net.precision or self.net.dtype).itemsize * route.most
            if needed <= there / 2 or self.side and needed <= there:
                return side
        raise Error(f"a tile of {side}x{side} needs about {amount(needed)} and {self.net.device} has "
                    f"{amount(there)}; give --tile a smaller side" if self.side else
                    f"the least tile needs about {amount(needed)}, and half of {amount(there)} is for it; "
                    f"--tile {SIDES[-1] // 2} takes less")

    def _route(self, size: tuple[int, int], part: Rect) -> Route:
        shapes = {self.top: (1, self.channels, *size[::-1])}
        route = self.plan.part(shapes, self.blob, part)
        if (found := route.shapes[self.net.graph.newest[self.blob]][2:]) != size[::-1]:
            raise Error(f"'{self.blob}' of net '{self.net.graph.name}' is {found[1]}x{found[0]}; tiles are "
                        "of nets that give a score for each pixel")
        return route

    def tiles(self, name: str, image: Windows) -> Iterator[tuple[Span, Iterator[tuple[Span, Tensor]]]]:
        """Rows, and for these the columns and the scores (1, C, H, W) of each tile, of one map as `whole`
        takes it.

        Raises Error, with the picture's name, if there is no memory left for them, and where windows cannot
        be read.
        """
        width, height = image.size
        side = self.sides[image.size]
        rows, columns = _spans(height, side), _spans(width, side)

        def row(number: int) -> Iterator[tuple[Span, Tensor]]:
            for i, across in enumerate(columns, 1):
                yield across, self._scores(name, image, (rows[number], across))
                self.progress(number * len(columns) + i, len(rows) * len(columns), name)

        for number, down in enumerate(rows):
            yield down, row(number)

    def _scores(self, name: str, image: Windows, part: Rect) -> Tensor:
        route = self._route(image.size, part)
        seen = image.window(route.held[Value(self.top)])
        with self.working(name, image):
            inputs = predict.blob(seen, self.mean, self.channels, self.scale)
            inputs = inputs.to(self.net.device, self.net.dtype)
            return self.whole(self.plan.along(route, {self.top: inputs})[self.blob])


def segment(tiler: Tiler, name: str, image: Windows, paths: Mapping[str, Path], looks: Looks, wanted: Wanted
            ) -> dict[str, Any]:
    """Segment a picture tile by tile, and write what is wanted of it a row of tiles at a time: what
    results.write gives, and the same pixels."""
    counts = np.zeros(len(looks.names), np.int64)
    with ExitStack() as held:
        made = _Made({what: held.enter_context(writing(path)) for what, path in paths.items()},
                     image.size, looks, wanted)
        for rows, tiles in tiler.tiles(name, image):
            parts = []
            for columns, scores in tiles:
                parts.append(judging(scores, f"image {name}")()[0])
                if wanted.scores:
                    made.scores((rows, columns), scores[0].float().cpu().numpy())
            best = np.concatenate(parts, 1)
            counts += np.bincount(best.ravel(), minlength=len(counts))
            for start in range(*rows, ROWS):
                part = start, min(start + ROWS, rows[1])
                seen = image.window((part, (0, image.size[0])))
                made.rows(seen, best[start - rows[0] : part[1] - rows[0]])
        made.end()
    return summary(image.size, counts.tolist(), looks, wanted, paths)


class _Made:
    """The files of a picture's results, which grow from the top."""

    def __init__(self, files: Mapping[str, IO[bytes]], size: tuple[int, int], looks: Looks, wanted: Wanted
                 ) -> None:
        self.files, self.size, self.wanted = files, size, wanted
        self.overlay = pictures.Overlay(size, looks.palette, looks.names, wanted.alpha, wanted.classes)
        self.labels = Png(files["labels"], size[0], 1, pictures.colours(looks.palette))
        self.shown = Png(files["overlay"], self.overlay.page, 3)
        self.cutout = Png(files["cutout"], size[0], 4) if "cutout" in files else None
        if "scores" in files:
            shape = len(looks.names), size[1], size[0]
            np.lib.format.write_array_header_1_0(
                files["scores"], {"descr": "<f4", "fortran_order": False, "shape": shape})
            self.start = files["scores"].tell()

    def rows(self, image: Any, best: np.ndarray) -> None:
        """The next rows of the picture, and the class of each of their pixels."""
        self._show(self.overlay.rows(image, best))
        self.labels.add(best)
        if self.cutout:
            self.cutout.add(np.asarray(pictures.cutout(image, best, self.wanted.cutout or ())))

    def _show(self, rows: np.ndarray) -> None:
        """Rows of the overlay or its legend, in the middle of the page."""
        page = np.full((len(rows), self.overlay.page, 3), pictures.PAPER, np.uint8)
        left = (page.shape[1] - rows.shape[1]) // 2
        page[:, left : left + rows.shape[1]] = rows
        self.shown.add(page)

    def scores(self, part: Rect, scores: np.ndarray) -> None:
        """Those of a tile, (C, H, W), to where they lie in the file."""
        (top, _), (left, _) = part
        file, (width, height) = self.files["scores"], self.size
        for number, one in enumerate(scores.astype("<f4", copy=False)):
            for row, line in enumerate(one, top):
                file.seek(self.start + 4 * ((number * height + row) * width + left))
                file.write(line.tobytes())

    def end(self) -> None:
        if legend := self.overlay.legend():
            self._show(np.asarray(legend)[:, : self.overlay.page])
        for each in filter(None, (self.labels, self.shown, self.cutout)):
            each.end()


def _spans(size: int, side: int) -> list[Span]:
    return [(start, min(start + side, size)) for start in range(0, size, side)]
