"""What a long run says: Caffe's log lines (glog's form), or a progress bar on a terminal."""

import os
import sys
import time
from datetime import datetime
from typing import TextIO

from .errors import one_line


class Log:
    """Writes each message as a line `Lmmdd hh:mm:ss.uuuuuu  PID FILE:LINE] TEXT` to standard error.

    FILE:LINE is where BVLC Caffe says the same thing: people's log parsers look for it. What cannot be
    written (the disk is full, the terminal or the pipe closed) is lost: no run ends for it.
    """

    def __init__(self, stream: TextIO | None = None, quiet: bool = False) -> None:
        self.stream, self.quiet = stream or sys.stderr, quiet
        self.name, self.lost = getattr(self.stream, "name", "log"), False
        self.copies: list[Log] = []  # which are told every line too
        self.original: Log | None = None  # whose copy it is

    def __call__(self, where: str, text: str, level: str = "I") -> None:
        """level: I (said unless quiet), W or E. A text is one line, whatever names it has in it."""
        line = one_line(text)
        if level != "I" or not self.quiet:
            self.say(where, line, level)
        for copy in self.copies:
            copy.say(where, line, level)

    def say(self, where: str, line: str, level: str) -> None:
        self.put(f"{level}{datetime.now():%m%d %H:%M:%S.%f} {os.getpid():5d} {where}] {line}\n")

    def put(self, text: str) -> None:
        try:
            self.stream.write(text)
            self.stream.flush()
        except OSError as error:
            self.lose(error)

    def lose(self, error: OSError) -> None:
        """Lines cannot be written; those who still hear of the run are told, once."""
        others = [*self.copies, self.original] if not self.lost else []
        self.lost = True
        for other in filter(None, others):
            other.say("netspec", f"{self.name} takes no lines ({error.strerror}): they are lost, and the run "
                      "goes on", "W")

    def progress(self, name: str, done: int, total: int, facts: str, images: float) -> None:
        """A step is over, the `done`th of `total`; `facts` to show; `images` seen since the last call."""

    def close(self) -> None:
        """Nothing more comes."""


class Bar(Log):
    """A Log for a terminal: one bar that is redrawn below all lines; what the bar shows gets no lines."""

    IN_BAR = ("solver.cpp:239", "solver.cpp:258", "sgd_solver.cpp:112", "solver.cpp:332")
    MARKS = {"W": "warning: ", "E": "error: "}

    def __init__(self, stream: TextIO | None = None, quiet: bool = False) -> None:
        super().__init__(stream, quiet)
        self.bar = ""  # what is drawn
        self.begun: tuple[float, int] | None = None  # time and `done` of the first call of a run
        self.images, self.due = 0.0, 0.0

    def say(self, where: str, line: str, level: str) -> None:
        if where not in self.IN_BAR:
            self.put(f"\r\x1b[K{self.MARKS.get(level, '')}{line}\n{self.bar}" if self.bar else
                     f"{self.MARKS.get(level, '')}{line}\n")

    def progress(self, name: str, done: int, total: int, facts: str, images: float) -> None:
        now = time.monotonic()
        if self.quiet or self.begun and now < self.due and done < total:
            self.images += images
            return
        if self.begun is None:  # the first images count from here on: their time includes the start-up
            self.begun, self.images = (now, done), -images
        self.images, self.due = self.images + images, now + 0.2
        spent, iterations = max(now - self.begun[0], 1e-9), done - self.begun[1]
        parts = [f"{done}/{total}", *one_line(facts).split("  ")]
        if iterations > 0:
            left = spent / iterations * (total - done)
            parts += [f"{self.images / spent:.1f} images/s", f"{clock(left)} left"]
        self.bar = _fit(one_line(name), done / max(total, 1), parts, self.columns() - 1)
        self.put(f"\r\x1b[K{self.bar}")
        if done >= total:
            self.put("\n")
            self.bar, self.begun = "", None

    def columns(self) -> int:
        try:
            return os.get_terminal_size(self.stream.fileno()).columns or 80
        except OSError:
            return 80

    def close(self) -> None:
        """Take a bar that did not get to its end away, and leave the cursor on an empty line."""
        if self.bar:
            self.put("\r\x1b[K")
        self.bar, self.begun = "", None


class Part(Log):
    """What one part of a longer run says to `log`: its steps count among those of all parts.

    name: what the part is. before: steps of the parts before it; total: of all. A Bar shows all of them; a
    plain Log says now and then how far all is.
    """

    EVERY = 10.0  # seconds from one such line to the next

    def __init__(self, log: Log, name: str, before: int, total: int) -> None:
        super().__init__(log.stream, log.quiet)
        self.log, self.name, self.before, self.total = log, name, before, total
        self.begun: tuple[float, int] | None = None
        self.due = 0.0

    def say(self, where: str, line: str, level: str) -> None:
        self.log.say(where, line, level)

    def progress(self, name: str, done: int, total: int, facts: str, images: float) -> None:
        done += self.before
        self.log.progress(self.name, done, self.total, facts, images)
        now = time.monotonic()
        self.begun = self.begun or (now, done)
        if isinstance(self.log, Bar) or now < self.due or done <= self.begun[1]:
            return
        self.due = now + self.EVERY
        left = (now - self.begun[0]) / (done - self.begun[1]) * (self.total - done)
        self("netspec", f"{self.name}: {100 * done / self.total:.0f} % of all, about {clock(left)} left")

    def close(self) -> None:
        self.log.close()


def _fit(name: str, share: float, parts: list[str], width: int) -> str:
    """`NAME [####....] PARTS` in at most `width` columns; the bar takes what room is left, if enough.

    Where it is narrow, all but the first part and the last, the time left, go from behind; then the name.
    """
    while len(parts) > 2 and len("  ".join([name, *parts])) > width + 1:
        del parts[-2]
    text = "  ".join(parts)
    name = name[: max(width - len(text) - 1, 0)]
    room = min(24, width - len(name) - len(text) - 4)
    filled = int(room * min(share, 1))
    bar = f"[{'#' * filled}{'.' * (room - filled)}] " if room >= 4 else ""
    return f"{name} {bar}{text}".lstrip()[: max(width, 0)]


def clock(seconds: float) -> str:
    """Seconds as people read them: 4:05, or 1:04:05."""
    hours, rest = divmod(round(seconds), 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def make(quiet: bool = False, stream: TextIO | None = None) -> Log:
    """A Bar where standard error is a terminal, a Log elsewhere."""
    stream = stream or sys.stderr
    return (Bar if stream.isatty() else Log)(stream, quiet)
