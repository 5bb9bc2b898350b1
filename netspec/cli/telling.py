"""What `netspec infer` says: a line an image, or JSON at the end, and errors as they come."""

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..base.errors import Error, Final, count, listed, said
from .options import note
from .terminal import say, show

if TYPE_CHECKING:
    from ..score.stream import Told


class Telling:
    """What a run says: a line a picture, or with `plain` one JSON object at the end; errors as they come."""

    def __init__(self, plain: bool) -> None:
        self.plain = plain
        self.found: list[dict[str, Any]] = []
        self.errors: list[dict[str, str]] = []

    note = staticmethod(note)

    @contextmanager
    def going_past(self, image: str) -> Iterator[None]:
        """An Error, and of a file what the system says, is said, and the others are worth having."""
        try:
            yield
        except Final:
            raise
        except (Error, OSError) as e:
            if isinstance(e, OSError) and e.filename is None:  # of what is printed
                raise
            told = said(e) if isinstance(e, OSError) else str(e)
            self.errors.append({"image": image, "error": told})
            say(f"netspec infer: {told}", file=sys.stderr)

    def all(self, results: Iterable["Told"], words: Callable[[dict[str, Any]], str]) -> None:
        """The results of a stream, and in words what is in each."""
        for name, notes, result, seconds in results:
            for remark in notes:
                self.note(remark)
            with self.going_past(name):
                found = result()
                timed = {} if seconds is None else {"seconds": round(seconds, 6)}
                self.found.append({"image": name, **found, **timed})
                if not self.plain:
                    first, *others = map(Path, found["files"].values())
                    files = ", ".join([str(first), *(file.name for file in others)])
                    say(f"{name}: {words(found) or 'none of the classes'} -> {files}")

    def end(self, facts: dict[str, Any]) -> int:
        """The exit status, when all is said."""
        if self.plain:
            told = {**facts, "images": self.found, "errors": self.errors}
            show(json.dumps(told, indent=2, allow_nan=False))
        if len(self.errors) > 1 or self.errors and self.found:
            failed = listed(error["image"] for error in self.errors)
            others = "; the results of the others are written" if self.found else ""
            raise Error(f"{len(self.errors)} of {len(self.errors) + len(self.found)} images gave no "
                        f"results: {failed}{others}")
        return 2 if self.errors else 0


def files_of(given: Sequence[str], out: Path, told: Telling) -> list[str]:
    """The files that words stand for; what a folder has besides is said."""
    from ..score.frames import expand

    files: list[str] = []
    for word in given:
        if os.path.isdir(word) and os.path.realpath(word) == os.path.realpath(out):
            raise Error(f"the results would come into {word}, whose images are read; give another --out")
        with told.going_past(word):
            found, left = expand(word)
            files += found
            if left:
                told.note(f"{word} has {count(len(left), 'file')} that by name are no images: {listed(left)}")
    return files


def shares(found: dict[str, Any]) -> str:
    told = ", ".join(f"{c['name']} {as_percent(c['share'])}" for c in found["classes"])
    if unsure := found.get("uncertainty"):
        told += f"; uncertainty {unsure['mean']:.2g} in the mean, {unsure['max']:.2g} at most"
    return told


def as_percent(share: float) -> str:
    """A share that is there, however small, as people read it."""
    return f"{100 * share:.0f}%" if share >= 0.005 else "<1%"
