"""Many pictures through a net: read ahead of it, written behind it, and told in the order of the list."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypeVar

from PIL import Image

from ..base.errors import Error
from ..base.machine import cores
from ..net.judged import labels
from .frames import Frame, frames
from .predict import Looks
from .results import Outputs, Scored, Wanted, write
from .segment import Segmenter

Picture = Future[tuple[Image.Image, dict[str, Path]]]  # with where its results go
Made = TypeVar("Made")
WRITERS = 4  # threads at most: a GPU gives pictures faster than one thread compresses their results


class Read(NamedTuple):
    """A picture, or a file that cannot be read from there on, and what a person should know of it."""

    name: str
    notes: list[str]
    found: Picture


class Told(NamedTuple):
    """Of a picture, what a person should know, and `result()`: see results.write. It raises an Error or
    OSError that is this picture's alone."""

    name: str
    notes: list[str]
    result: Callable[[], dict[str, Any]]


def segmented(files: Sequence[str], segmenter: Segmenter, outputs: Outputs, looks: Looks, wanted: Wanted,
              resize: float = 1.0) -> Iterator[Told]:
    """Segment every frame of some files, their sides scaled by `resize`, and write what is wanted of each.

    While the net works, threads read the next picture and write the ones before, of which pixels and labels
    are held; neither results nor their order depend on that. Who goes away leaves whole files alone.
    """
    pictures = _read(files, segmenter, outputs, resize)
    if all(map(os.path.isfile, files)):  # at a pipe Ctrl-C would wait for a thread that waits for more
        pictures = _ahead(pictures)
    writers = max(1, min(WRITERS, cores() - 1))
    with ThreadPoolExecutor(writers) as pool:
        waiting: deque[Told] = deque()
        try:
            for name, notes, found in pictures:
                scored = _done(_scored, name, found, segmenter, wanted)
                waiting.append(Told(name, notes, pool.submit(_written, scored, looks, wanted).result))
                if len(waiting) > (0 if wanted.scores else writers):  # scores are held of one alone
                    yield waiting.popleft()
            yield from waiting
        finally:
            pool.shutdown(cancel_futures=True)


def _read(files: Sequence[str], segmenter: Segmenter, outputs: Outputs, resize: float) -> Iterator[Read]:
    """Each frame of each file, decoded."""
    for file in files:
        notes: list[str] = []
        try:
            for frame in frames(file, resize, notes.append):
                found = _done(_picture, frame, file, segmenter, outputs)
                yield Read(frame.name, _taken(notes), found)
        except (Error, OSError) as error:
            yield Read(file, _taken(notes), _done(_failed, error))


def _taken(notes: list[str]) -> list[str]:
    """What was noted, which is not noted again."""
    found = notes.copy()
    notes.clear()
    return found


def _picture(frame: Frame, file: str, segmenter: Segmenter, outputs: Outputs
             ) -> tuple[Image.Image, dict[str, Path]]:
    paths = outputs.of(frame.stem, file)
    return segmenter.read(frame), paths


def _failed(error: Exception) -> NoReturn:
    raise error


def _scored(name: str, found: Picture, segmenter: Segmenter, wanted: Wanted) -> Scored:
    """A picture's labels; of its scores, which are large, no more than is wanted."""
    image, paths = found.result()
    scores = segmenter.scores(name, image)
    best = labels(scores, f"image {name}")[0]
    return Scored(image, best, scores[0].float().cpu().numpy() if wanted.scores else None, paths)


def _written(scored: "Future[Scored]", looks: Looks, wanted: Wanted) -> dict[str, Any]:
    return write(scored.result(), looks, wanted)


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
