"""Training curves out of logs, Caffe's or ours: as a picture, or as events for TensorBoard while they are written."""

import math
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from ..base.errors import Error
from ..base.log import Log
from ..base.machine import origin
from . import charts
from .shapes import Picture

LINE = re.compile(
    r"(?:^|\] ?)\s*(?:Solving (?P<net>.*)|Iteration (?P<at>\d+)(?: \([^)]*\))?,? (?:loss = (?P<smoothed>\S+)|lr = (?P<rate>\S+)"
    r"|Testing net \(#(?P<tested>\d+)\))|(?P<phase>Train|Test) net output #(?P<number>\d+): (?P<output>.*?) = "
    r"(?P<value>\S+)(?P<loss> \(\* .*)?)\s*$")
PANELS = ("loss", "other outputs", "learning rate")


class Run:
    """One net's training: `series` has for (panel, label) the points (iteration, value), iterations rising."""

    def __init__(self, name: str) -> None:
        self.name, self.series = name, {}

    def add(self, panel: str, label: str, iteration: int, value: float) -> None:
        """A new point; it takes the place of those from its iteration on, which a resumed run has run again."""
        points = self.series.setdefault((panel, label), [])
        while points and points[-1][0] >= iteration:
            points.pop()
        points.append((iteration, value))


class Reader:
    """Makes `runs` of the lines of a log, with or without glog's beginnings; other lines are let by."""

    def __init__(self) -> None:
        self.runs: list[Run] = []
        self.at, self.tested, self.first = 0, "0", {}

    def line(self, text: str) -> tuple[Run, str, str, int, float] | None:
        """What the next line says, added to its run: (run, panel, label, iteration, value), or None."""
        found = LINE.search(text)
        if found and found["net"] is not None and not (self.runs and self.runs[-1].name == found["net"]):  # else resumed
            self.runs.append(Run(found["net"]))
            self.first = {}  # (phase, output) -> its number, the first if it has several
        if not found or found["net"] is not None:
            return None
        self.at, self.tested = int(found["at"] or self.at), found["tested"] or self.tested
        try:
            value = float(found["smoothed"] or found["rate"] or found["value"] or "")
        except ValueError:
            return None
        panel, label = ("loss", "smoothed loss") if found["smoothed"] else (PANELS[2], PANELS[2])
        if found["phase"]:
            phase = found["phase"].lower() + (f" #{self.tested}" if found["phase"] == "Test" and self.tested != "0" else "")
            number = self.first.setdefault((phase, found["output"]), found["number"])
            label = f"{phase} {found['output']}" + (f" #{found['number']}" if number != found["number"] else "")
            panel = PANELS[0 if found["loss"] else 1]
        self.runs = self.runs or [Run("")]
        self.runs[-1].add(panel, label, self.at, value)
        return self.runs[-1], panel, label, self.at, value


def read(path: str | os.PathLike) -> list[Run]:
    """The runs of a log in order. Raises Error if there is none with a number in it."""
    reader = Reader()
    with open(path, encoding="utf-8", errors="replace") as file:
        for text in file:
            reader.line(text)
    if not any(run.series for run in reader.runs):
        raise Error(f"{path}: is no log of a training: it has no line such as 'Iteration 20, loss = 1.5'")
    return [run for run in reader.runs if run.series]


def picture(runs: Sequence[Run]) -> Picture:
    """A column of plots for each run: losses, other outputs where there are any, rate; over iterations.

    Losses and rates that differ more than 30 times are shown by their logarithm.
    """
    columns = []
    for run in runs:
        plots = []
        for panel in PANELS:  # reversed: the smoothed loss comes last, on top
            series = {label: points for (p, label), points in sorted(run.series.items(), reverse=True) if p == panel}
            values = [v for points in series.values() for _, v in points if math.isfinite(v)]
            wide = panel != PANELS[1] and values and 0 < 30 * min(values) < max(values)
            if wide:
                series = {label: [(i, math.log10(v)) for i, v in points if math.isfinite(v)] for label, points in series.items()}
            if series:
                title = "" if plots else run.name
                plots.append(charts.plot(series, "iteration", f"log10 of the {panel}" if wide else panel, title=title))
        columns.append(charts.above(plots))
    return charts.beside(columns)


class Events(Log):
    """A log that becomes events for TensorBoard, one folder a run below `folder`. Raises Error without TensorBoard."""

    def __init__(self, folder: str) -> None:
        super().__init__()
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise Error("TensorBoard is not here; pip install netspec[tensorboard]") from None
        self.folder, self.writer, self.reader, self.writers = folder, SummaryWriter, Reader(), {}

    def say(self, where: str, line: str, level: str) -> None:
        if found := self.reader.line(line):
            run, panel, label, iteration, value = found
            if run not in self.writers:
                name = re.sub(r"\W+", "-", run.name) or "run"  # no way out of the folder
                self.writers[run] = self.writer(os.path.join(self.folder, name), flush_secs=5)
            self.writers[run].add_scalar(f"{panel}/{label}".replace(" ", "_"), value, iteration)

    def close(self) -> None:
        for writer in self.writers.values():
            writer.close()


@contextmanager
def following(said: Log, path: str | None = None, folder: str | None = None) -> Iterator[None]:
    """Within, what `said` is told goes to the end of the file `path` too, after where it all comes from, and to TensorBoard
    below `folder`. At the end the file's curves are drawn as PATH.png."""
    copies: list[Log] = [Events(folder)] if folder else []
    if path:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        copies.append(Log(open(path, "a", encoding="utf-8")))
        copies[-1]("netspec", "\n".join(f"{key}: {value}" for key, value in origin().items()))
    said.copies += copies
    try:
        yield
    finally:
        said.copies[:] = [copy for copy in said.copies if copy not in copies]
        for copy in copies:
            copy.close()
        if path:
            copies[-1].stream.close()
            with suppress(Error):  # a run that ended before its first loss has no curves
                picture(read(path)).save(f"{path}.png")
