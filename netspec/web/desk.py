"""What the tabs of a page share: its commands, its files, and who looks at it."""

import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from ..base import names
from ..base.errors import Error
from ..papers.page import Html, tag
from ..train.snapshot import prefix_of
from .commands import Commands, Run, words
from .folders import Folders, latest

NETS, WEIGHTS = (".prototxt",), (".caffemodel", ".h5")
IMAGES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
PAUSE = 0.15  # seconds between two looks at a command


class Pair(NamedTuple):
    """A net and weights for it."""

    net: str
    weights: str


@dataclass
class Session:
    """One tab of a browser: what runs for it, and what it made, which goes with it."""

    folder: Path
    runs: list[Run] = field(default_factory=list)
    told: list[dict[str, Any]] = field(default_factory=list)  # of each net tried what infer printed
    known: dict[str, Any] = field(default_factory=dict)  # what was seen last, by name
    numbers: Iterator[int] = field(default_factory=count)

    def place(self) -> Path:
        """A new folder."""
        made = self.folder / str(next(self.numbers))
        made.mkdir()
        return made

    def news(self, name: str, what: Any) -> bool:
        """Whether something is not as it was seen last; now it is seen."""
        before, self.known[name] = self.known.get(name), what
        return what != before

    def stop(self, *commands: str) -> None:
        """End what runs, or these commands alone."""
        for run in list(self.runs):
            if not commands or run.argv[0] in commands:
                run.stop()


class Desk:
    """A page's commands, files and sessions. Its methods may be called by several threads."""

    def __init__(self, commands: Commands, folders: Folders, pairs: Sequence[Pair], temporary: Path,
                 pixels: float) -> None:
        """pairs: nets with weights that are named. temporary: the folder of what is made. pixels: millions
        that an image may have."""
        self.commands, self.folders, self.named = commands, folders, list(pairs)
        self.temporary, self.pixels = temporary, pixels
        self.sessions, self.left = dict[str, Session](), set[str]()
        self.lock, self.numbers = threading.Lock(), count()

    def session(self, key: str | None) -> Session:
        """The session that a browser's tab has, by its key. Raises Error where it is closed."""
        key = str(key)
        with self.lock:
            if key in self.left:
                raise Error("this tab is closed: load the page again")
            if key not in self.sessions:
                folder = self.temporary / f"tab{next(self.numbers)}"
                folder.mkdir()
                self.sessions[key] = Session(folder)
            return self.sessions[key]

    def leave(self, key: str | None) -> None:
        """A tab is closed, or loaded again: what runs for it ends, what it made goes."""
        with self.lock:
            session = self.sessions.pop(str(key), None)
            self.left.add(str(key))
        if session:
            session.stop()
            shutil.rmtree(session.folder, ignore_errors=True)  # which ends what waits for a run in it

    def pairs(self) -> dict[str, Pair]:
        """Nets with weights, by what they are called: those named, and weights in the folders whose net is
        known by their name, or lies beside them as deploy.prototxt; the newest first."""
        found = {f"{_called(pair.net)} · {Path(pair.weights).name}": pair for pair in self.named}
        for file in latest(self.folders.files(*WEIGHTS)):
            if net := self._net_of(Path(file)):
                found.setdefault(f"{_called(str(net))} · {file}", Pair(str(net), file))
        return found

    def _net_of(self, weights: Path) -> Path | None:
        """The net that weights are of, as far as names tell."""
        name = prefix_of(weights) or weights.name.partition(".caffemodel")[0].removesuffix("_best")
        if name in names.nets():
            return names.net_file(name, "deploy")
        with suppress(Error):  # it is not there, or none that may be opened
            return self.folders.open(str(weights.parent / "deploy.prototxt"))
        return None

    def nets(self) -> dict[str, str]:
        """Nets to read, by what they are called: named, in the folders, and by their names in models/."""
        found = {_called(pair.net): pair.net for pair in self.named}
        found |= {file: file for file in self.folders.files(*NETS)}
        return found | {name: name for name in names.nets()}

    def follow(self, session: Session, argv: Sequence[str]) -> Iterator[Run]:
        """Run a command for a session: again and again, until it ends."""
        run = self.commands.start(argv, session.place())
        session.runs.append(run)
        try:
            while run.status is None:
                yield run
                time.sleep(PAUSE)
            yield run
        finally:
            run.stop()
            session.runs.remove(run)

    def words(self, argv: Sequence[str]) -> str:
        """A command as a person types it."""
        return words(argv, self.temporary)


def said(text: str, bad: bool = False) -> Html:
    """A line for people."""
    return tag("p", text, class_="said bad" if bad else "said", role="status")


def _called(net: str) -> str:
    path = Path(net)
    return names.name_of(path) or (f"{path.parent.name}/{path.stem}" if path.suffix else net)
