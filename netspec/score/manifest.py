"""What is done of many images: a file with a line an image, to which one run at a time appends."""

import json
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import cache
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple

from ..base.errors import Error, shortened
from ..base.files import alone, make_folder, naming
from .archive import Job, Row, place, stamp
from .frames import frames

NAME = "manifest.jsonl"
NUMBERED = re.compile(r"(.*)_\d{4,}", re.DOTALL)  # what results of one picture of several are called
BROKEN = -1  # in place of a number of pictures
SYNC = 5.0  # seconds after which rows are brought to the disk
LONGEST = 1 << 30  # bytes of a row: of a video's pictures
Locate = Callable[[str], str]  # from an image's name to where it is; raises Error


class Done(NamedTuple):
    """What is remembered of a row: of the file as it was, and of how many pictures there are results: 0 for
    those of a file with one, BROKEN after an error."""

    bytes: int | None
    mtime_ns: int | None
    pictures: int


class Plan(NamedTuple):
    """The names of images that are to be computed, rows of those that cannot be, and how many are done."""

    todo: list[str]
    refused: list[Row]
    done: int


class Manifest:
    """The manifest of a folder, as `opened` gives it."""

    def __init__(self, path: Path, file: IO[bytes], head: Row, done: dict[str, Done]) -> None:
        self.path, self.file, self.head, self.done = path, file, head, done
        self.folder = os.path.realpath(path.parent)
        self.synced = time.monotonic()
        self.among_results = cache(lambda folder: Path(os.path.realpath(folder)).is_relative_to(self.folder))

    def append(self, row: Row) -> None:
        """Add an image's row. Raises OSError, with the manifest's name, on a full disk."""
        lines = [row] if self.file.tell() else [self.head, row]
        data = "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines).encode()
        with naming(self.path):
            while data:  # the system may take a part
                data = data[self.file.write(data):]
            if time.monotonic() - self.synced > SYNC:
                os.fsync(self.file.fileno())
                self.synced = time.monotonic()

    def plan(self, names: Iterable[str], locate: Locate, ends: Sequence[str]) -> Plan:
        """What there is to do of some images: those that have no row, or changed since, or whose results are
        gone; and those with errors, again.

        ends: of the names of results. Of several images whose results would have one name, that which was
        done before is computed, else the first; the others are refused.
        """
        names = [*dict.fromkeys(names)]
        places: dict[str, str] = {}
        for name in sorted(names, key=lambda name: name not in self.done):  # otherwise as they come
            places.setdefault(place(name), name)
        several = cache(lambda name: _several(name, locate))
        plan, done = Plan([], [], 0), 0
        for name in names:
            try:
                file = self._checked(name, places, locate, several)
            except Error as error:
                plan.refused.append({"image": name, "bytes": None, "mtime_ns": None, "error": str(error)})
                continue
            if self._is_done(name, file, ends):
                done += 1
            else:
                plan.todo.append(name)
        return plan._replace(done=done)

    def _checked(self, name: str, places: dict[str, str], locate: Locate, several: Callable[[str], bool]
                 ) -> str:
        """Where an image is. Raises Error for what is none, and where results would come over others, or over
        images."""
        at = place(name)
        taken = "image {} would have the same results as {}; rename one of them"
        if places[at] != name:
            raise Error(taken.format(name, places[at]))
        if not os.path.isfile(file := locate(name)):
            wrong = "a folder, a device or a pipe" if os.path.exists(file) else "a link that leads nowhere"
            raise Error(f"image {name} is {wrong}; a file is read")
        if self.among_results(os.path.dirname(file)):
            raise Error(f"image {name} lies in {self.path.parent}, where results would be written over it; "
                        "give another --out")
        numbered = NUMBERED.fullmatch(at)
        if numbered and (other := places.get(numbered[1])) and several(other):
            raise Error(taken.format(name, f"one of the pictures in {other}"))
        return file

    def _is_done(self, name: str, file: str, ends: Sequence[str]) -> bool:
        found, now = self.done.get(name), stamp(file)
        if not found or found.pictures == BROKEN or found[:2] != (now["bytes"], now["mtime_ns"]):
            return False
        numbers = [f"_{n:04}" for n in range(1, found.pictures + 1)] if found.pictures else [""]
        at = os.path.join(self.folder, place(name))
        return all(os.path.isfile(f"{at}{number}{end}") for number in numbers for end in ends)


@contextmanager
def opened(job: Job, facts: Row) -> Iterator[Manifest]:
    """The manifest of a job's folder, held against other runs; what a killed run left of a last line is cut.

    facts: what results depend on, see Job.facts. Raises Error where other results were computed into the
    folder, where another run is at work, and for a line that is none of a manifest.
    """
    path = make_folder(job.out) / NAME
    with open(path, "ab", buffering=0) as file, alone(path):
        done, end = _read(path, facts)
        if end != os.path.getsize(path):
            os.truncate(path, end)
        file.seek(0, os.SEEK_END)
        yield Manifest(path, file, {"computed": facts, "net": job.net, "weights": job.weights}, done)
        os.fsync(file.fileno())


def rows(path: Path) -> Iterator[Row]:
    """The last row of each image of a manifest, in its order, as dictionaries. Raises Error as `opened`."""
    last = {row["image"]: number for number, row, _ in _lines(path) if number > 1}
    for number, row, _ in _lines(path):
        if number > 1 and last[row["image"]] == number:
            yield row


def _read(path: Path, facts: Row) -> tuple[dict[str, Done], int]:
    """What is remembered of each image, and the bytes of the lines that count: without an image, of none."""
    done, end = dict[str, Done](), 0
    for number, row, size in _lines(path):
        if number == 1:
            head = row
        else:
            many = len(row.get("frames", ()))
            done[row["image"]] = Done(row["bytes"], row["mtime_ns"], BROKEN if "error" in row else many)
        end += size
    if done and (others := _differences(head["computed"], facts)):
        raise Error(f"{path} says that results of another kind are here ({others}); give another --out")
    return done, end if done else 0


def _lines(path: Path) -> Iterator[tuple[int, Row, int]]:
    """The number, from 1, content and bytes of each whole line."""
    with open(path, "rb") as file:
        number = 0
        while (line := file.readline(LONGEST)).endswith(b"\n"):
            number += 1
            row: Any = None
            with suppress(ValueError, RecursionError):
                row = json.loads(line)
            if not (_is_row(row) if number > 1 else isinstance(row, dict)
                    and isinstance(row.get("computed"), dict)):
                again = "take the line away, and its image is computed again, or " if number > 1 else ""
                raise Error(f"{path}:{number}: is no line of a manifest, found {line[:60]!r}; {again}give "
                            "another --out")
            yield number, row, len(line)


def _is_row(row: Any) -> bool:
    pictures = [row] if _has(row, files=dict) else row["frames"] if _has(row, frames=list) else []
    return (_has(row, image=str, bytes=int | None, mtime_ns=int | None) and all(map(_is_picture, pictures))
            and (_has(row, error=str) or bool(pictures))
            and all(abs(row[key] or 0) < 1 << 63 for key in ("bytes", "mtime_ns")))


def _is_picture(found: Any) -> bool:
    return (_has(found, size=list, classes=list, files=dict) and _has(found["files"], labels=str)
            and len(found["size"]) == 2 and all(isinstance(n, int) and 0 < n < 1 << 31 for n in found["size"])
            and all(_has(each, **{"class": int}, share=int | float) for each in found["classes"]))


def _has(found: Any, **kinds: Any) -> bool:
    """Whether something has these keys with values of these kinds."""
    return isinstance(found, dict) and all(key in found and isinstance(found[key], kind)
                                           for key, kind in kinds.items())


def _differences(was: Row, now: Row) -> str:
    """What of two kinds of results is not alike, in words; of files that they are others."""
    words = []
    for key in [key for key in {**was, **now} if was.get(key) != now.get(key)]:
        before, after = (json.dumps(each.get(key)) for each in (was, now))
        words.append(f"other {key}" if "sha256:" in before + after else
                     f"{key} {shortened(before, 80)}, now {shortened(after, 80)}")
    return "; ".join(words)


def _several(name: str, locate: Locate) -> bool:
    """Whether a file has several pictures."""
    with suppress(Error, OSError), closing(frames(locate(name))) as found:
        return len([*islice(found, 2)]) > 1
    return False
