"""Many pictures through a net: read ahead of it, written behind it, and told in the order of the list."""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypeVar

from PIL import Image

from ..base.errors import Error
from ..base.machine import cores
from ..net.judged import labels
from . import tiles
from .frames import Frame, frames
from .predict import Looks
from .results import Outputs, Scored, Wanted, write
from .segment import Segmenter, Shown, Viewer
from .tiles import Tiler

Paths = dict[str, Path]  # of a picture's results
Picture = Future[tuple[Image.Image, Paths]]
Made = TypeVar("Made")
WRITERS = 4  # threads at most: a GPU gives pictures faster than one thread compresses their results


class Read(NamedTuple):
    """A picture, or a file that cannot be read from there on, and what a person should know of it."""

    name: str
    notes: list[str]
    found: Picture


class Told(NamedTuple):
    """Of a picture, what a person should know, and `result()`: see results.write. It raises an Error or
    OSError that is this picture's alone. seconds: of the net's pass, or passes, without reading and writing;
    None where they were not taken."""

    name: str
    notes: list[str]
    result: Callable[[], dict[str, Any]]
    seconds: float | None = None


def segmented(files: Sequence[str], segmenter: Segmenter, outputs: Outputs, looks: Looks, wanted: Wanted,
              resize: float = 1.0) -> Generator[Told]:
    """Segment every frame of some files, their sides scaled by `resize`, and write what is wanted of each."""
    def scored(name: str, image: Shown, paths: Paths) -> Scored | dict[str, Any]:
        if not isinstance(image, Image.Image):
            assert isinstance(segmenter, Tiler)  # no other reads windows
            return tiles.segment(segmenter, name, image, paths, looks, wanted)
        scores, unsure = segmenter.sampled(name, image)
        best = labels(scores, f"image {name}")[0]
        return Scored(image, best, scores[0].float().cpu().numpy() if wanted.scores else None, paths,
                      None if unsure is None else unsure[0, 0].cpu().numpy())

    def keep(found: Scored | dict[str, Any]) -> dict[str, Any]:
        return found if isinstance(found, dict) else write(found, looks, wanted)

    return streamed(files, segmenter, outputs, scored, keep, resize, wanted.scores)


def streamed(files: Sequence[str], viewer: Viewer, outputs: Outputs,
             work: Callable[[str, Image.Image, Paths], Made], keep: Callable[[Made], dict[str, Any]],
             resize: float = 1.0, large: bool = False) -> Generator[Told]:
    """What a net makes of every frame of some files, their sides scaled by `resize`, kept.

    work: is given a frame's name, its picture and where its results go; keep: what that gave, and writes it.
    While the net works, threads read the next picture and keep the ones before, of `large` results one alone;
    neither results nor their order depend on that. Who goes away leaves whole files alone.
    """
    pictures = _read(files, viewer, outputs, resize)
    if all(map(os.path.isfile, files)):  # at a pipe Ctrl-C would wait for a thread that waits for more
        pictures = _ahead(pictures)
    writers = max(1, min(WRITERS, cores() - 1))
    with ThreadPoolExecutor(writers) as pool:
        waiting: deque[Told] = deque()
        try:
            for name, notes, found in pictures:
                before = viewer.seconds
                made = _done(_worked, name, found, work)
                spent = viewer.seconds - before
                waiting.append(Told(name, notes, pool.submit(_kept, made, keep).result, spent))
                if len(waiting) > (0 if large else writers):
                    yield waiting.popleft()
            yield from waiting
        finally:
            pool.shutdown(cancel_futures=True)


def _read(files: Sequence[str], viewer: Viewer, outputs: Outputs, resize: float) -> Iterator[Read]:
    """Each frame of each file, decoded."""
    for file in files:
        notes: list[str] = []
        try:
            for frame in frames(file, resize, notes.append):
                found = _done(_picture, frame, file, viewer, outputs)
                yield Read(frame.name, _taken(notes), found)
        except (Error, OSError) as error:
            yield Read(file, _taken(notes), _done(_failed, error))


def _taken(notes: list[str]) -> list[str]:
    """What was noted, which is not noted again."""
    found = notes.copy()
    notes.clear()
    return found


def _picture(frame: Frame, file: str, viewer: Viewer, outputs: Outputs
             ) -> tuple[Image.Image, Paths]:
    paths = outputs.of(frame.stem, file)
    return viewer.read(frame), paths


def _failed(error: Exception) -> NoReturn:
    raise error


def _worked(name: str, found: Picture, work: Callable[[str, Image.Image, Paths], Made]) -> Made:
    image, paths = found.result()
    return work(name, image, paths)


def _kept(made: "Future[Made]", keep: Callable[[Made], dict[str, Any]]) -> dict[str, Any]:
    return keep(made.result())


def _done(work: Callable[..., Made], *given: Any) -> "Future[Made]":
    """Work that is done, whatever came of it for this picture."""
    found: Future[Made] = Future()
    try:
        found.set_result(work(*given))
    except (Error, OSError) as error:
        found.set_exception(error)
    return found


def _ahead(items: Iterator[Read]) -> Iterator[Read]:
    """What an iterator gives, the next one made by a thread while one is worked on."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = pool.submit(next, items, None)
            yield item
