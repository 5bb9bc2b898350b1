"""What a long run says: Caffe's log lines (glog's form), or a progress bar on a terminal."""

import os
import sys
import time
from datetime import datetime
from typing import TextIO


class Log:
    """Writes each message as one line `Lmmdd hh:mm:ss.uuuuuu  PID FILE:LINE] TEXT` to standard error.

    FILE:LINE is where BVLC Caffe says the same thing: people's log parsers look for it.
    """

    def __init__(self, stream: TextIO | None = None, quiet: bool = False) -> None:
        self.stream, self.quiet = stream or sys.stderr, quiet

    def __call__(self, where: str, text: str, level: str = "I") -> None:
        """level: I (said unless quiet), W or E."""
        if self.quiet and level == "I":
            return
        now = datetime.now()
        for line in text.splitlines() or [""]:
            self.write(f"{level}{now:%m%d %H:%M:%S.%f} {os.getpid():5d} {where}] {line}")

    def write(self, line: str) -> None:
        print(line, file=self.stream, flush=True)

    def progress(self, name: str, done: int, total: int, facts: str, images: float) -> None:
        """A step is over: `done` of `total` iterations, `facts` to show, `images` seen since the last call."""

    def close(self) -> None:
        """Nothing more comes."""


class Bar(Log):
    """A Log for a terminal: one bar that is redrawn; only what is not in the bar gets lines, above it."""

    IN_BAR = ("solver.cpp:239", "solver.cpp:258", "sgd_solver.cpp:112")

    def __init__(self, stream: TextIO | None = None, quiet: bool = False) -> None:
        super().__init__(stream, quiet)
        self.drawn, self.next_draw, self.rate = "", 0.0, 0.0
        self.last_time, self.first_done = None, 0

    def __call__(self, where: str, text: str, level: str = "I") -> None:
        if where not in self.IN_BAR:
            super().__call__(where, text, level)

    def write(self, line: str) -> None:
        if self.drawn:
            self.stream.write("\r\x1b[K")
        prefix, _, text = line.partition("] ")
        mark = {"W": "warning: ", "E": "error: "}.get(prefix[:1], "")
        self.stream.write(f"{mark}{text}\n{self.drawn}")
        self.stream.flush()

    def progress(self, name: str, done: int, total: int, facts: str, images: float) -> None:
        if self.quiet:
            return
        now = time.monotonic()
        if self.last_time is None or done <= self.first_done:
            self.first_done, self.start, self.images = done, now, 0.0
            self.last_time = now
        self.images += images if now > self.start else 0
        if now < self.next_draw and done < total:
            return
        self.next_draw = now + 0.2
        spent = max(now - self.start, 1e-9)
        left = spent / max(done - self.first_done, 1) * (total - done)
        width, filled = 24, int(24 * done / max(total, 1))
        minutes, seconds = divmod(int(left), 60)
        hours, minutes = divmod(minutes, 60)
        clock = f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
        self.drawn = (f"{name} [{'#' * filled}{'.' * (width - filled)}] {done}/{total}  {facts}  "
                      f"{self.images / spent:.1f} images/s  {clock} left")
        columns = os.get_terminal_size(self.stream.fileno()).columns if self.stream.isatty() else 200
        self.drawn = self.drawn[: columns - 1]
        self.stream.write(f"\r\x1b[K{self.drawn}")
        self.stream.flush()

    def close(self) -> None:
        if self.drawn:
            self.stream.write("\n")
            self.stream.flush()
        self.drawn, self.last_time = "", None


def make(quiet: bool = False, stream: TextIO | None = None) -> Log:
    """A Bar where standard error is a terminal, a Log elsewhere."""
    stream = stream or sys.stderr
    return (Bar if stream.isatty() else Log)(stream, quiet)
