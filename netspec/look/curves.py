"""Training curves out of logs, Caffe's or ours: as a chart, or as events for TensorBoard while they come."""

import math
import os
import re
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from ..base.errors import Error, count, lacking
from ..base.files import make_folder
from ..base.log import Log
from ..base.machine import origin
from .charts import Chart, Lines

LINE = re.compile(
    r"(?:^|\] ?)\s*(?:Solving (?P<net>.*)|max_iter: (?P<most>\d+)|Optimization Done\.|"
    r"Iteration (?P<at>\d+)(?: \([^)]*\))?,? "
    r"(?:loss = (?P<smoothed>\S+)|lr = (?P<rate>\S+)|Testing net \(#(?P<tested>\d+)\)|"
    r"test net #(?P<judged>\d+): mean (?P<measure>IU|AP) (?P<mean>[^\s,]+).*)|"
    r"(?P<phase>Train|Test) net output #(?P<number>\d+): (?P<output>.*?) = (?P<value>\S+)(?P<loss> \(\* .*)?)"
    r"\s*$")
LOSS, OTHER, RATE = "loss", "other outputs", "learning rate"
MEANS = {name: f"mean {name} in percent" for name in ("IU", "AP")}
PANELS = (LOSS, *MEANS.values(), OTHER, RATE)
STAMP = re.compile(r"[IWEF](?:\d{4})?(\d{4} \d\d:\d\d:\d\d\.\d{1,6}) ")  # maybe a year; month, day, time
LATEST = 5  # intervals between displays, of which the speed is told
MOST_LINE = 1 << 16  # characters of a line that can be a log's
MOST_RUNS = 12  # side by side
MOST_ITERATION = 1 << 62
WIDE = 30  # from here on, the greatest value by the least, a panel's axis is logarithmic


class Training:
    """One net's run in a log; `series`: (panel, label) -> points (iteration, value), iterations rising.

    max_iter: None where the log does not say it. finished: it came to its end.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.series: dict[tuple[str, str], list[tuple[int, float]]] = {}
        self.max_iter: int | None = None
        self.finished = False
        self.moments: deque[tuple[int, datetime]] = deque(maxlen=LATEST + 1)  # of the last displays

    def add(self, panel: str, label: str, iteration: int, value: float) -> None:
        """A new point, in place of those from its iteration on, which a resumed run has run again."""
        points = self.series.setdefault((panel, label), [])
        while points and points[-1][0] >= iteration:
            points.pop()
        points.append((iteration, value))

    @property
    def iteration(self) -> int:
        """The last one with a value."""
        return max(points[-1][0] for points in self.series.values())

    @property
    def speed(self) -> float | None:
        """Iterations a second between the last LATEST + 1 displays, tests and snapshots in between included;
        None where the log does not tell it."""
        if len(self.moments) < 2:
            return None
        (first, begun), (last, ended) = self.moments[0], self.moments[-1]
        spent = (ended - begun).total_seconds()
        return (last - first) / spent if spent > 0 else None

    @property
    def seconds_left(self) -> float | None:
        """Until max_iter, at this speed; None where the log does not tell it."""
        if self.finished or self.max_iter is None or not self.speed:
            return 0.0 if self.finished else None
        return max(0, self.max_iter - self.iteration) / self.speed

    def as_dict(self) -> dict[str, Any]:
        """For JSON; None in place of values that are not finite."""
        panels: dict[str, dict[str, list]] = {}
        for (panel, label), points in self.series.items():
            panels.setdefault(panel, {})[label] = [[i, v if math.isfinite(v) else None] for i, v in points]
        return {"panels": panels, "iteration": self.iteration, "max_iter": self.max_iter,
                "finished": self.finished, "iterations_per_second": self.speed,
                "seconds_left": self.seconds_left}


class LogReader:
    """Makes `runs` of the lines of a log, with or without glog's beginnings; other lines are passed over.

    `odd` counts the lines that begin like a log's and hold no numbers; `example` is the first.
    """

    def __init__(self) -> None:
        self.runs: list[Training] = []
        self.odd, self.example = 0, ""
        self.iteration, self.tested = 0, "0"
        self.most: int | None = None  # max_iter of the run that begins next
        self.first: dict[str, str] = {}  # phase and output -> the first of its numbers

    def line(self, text: str) -> tuple[Training, str, str, int, float] | None:
        """What the next line says, added to its run: (run, panel, label, iteration, value), or None."""
        found = LINE.search(text)
        if not found:
            return None
        if found["at"] is None and found["phase"] is None:
            self._between(found)
            return None
        self.tested = found["tested"] or self.tested
        numbers = _numbers(found["at"] or self.iteration, found["smoothed"] or found["rate"] or found["mean"]
                           or found["value"] or "nan")
        if not numbers:
            self.odd, self.example = self.odd + 1, self.example or text.strip()[:80]
            return None
        self.iteration, value = numbers
        if found["tested"]:
            return None
        value = value if abs(value) < 1e300 else value * math.inf  # beyond it no axis has ticks
        panel, label = (LOSS, "smoothed loss") if found["smoothed"] else (RATE, RATE)
        if found["judged"]:
            panel = MEANS[found["measure"]]
            label = f"test #{found['judged']} mean {found['measure']}".replace(" #0", "")
        if found["phase"]:
            panel, phase, number = LOSS if found["loss"] else OTHER, found["phase"].lower(), found["number"]
            if phase == "test" and self.tested != "0":
                phase += f" #{self.tested}"
            label = f"{phase} {found['output']}"
            if self.first.setdefault(label, number) != number:
                label += f" #{number}"
        self.runs = self.runs or [Training("")]
        self.runs[-1].add(panel, label, self.iteration, value)
        if found["smoothed"] and (moment := _moment(text)):
            self.runs[-1].moments.append((self.iteration, moment))
        return self.runs[-1], panel, label, self.iteration, value

    def _between(self, found: re.Match[str]) -> None:
        """A line that is about a run as a whole."""
        if found["most"] is not None:
            self.most = int(found["most"]) if len(found["most"]) < 20 else None
        elif found["net"] is not None:
            if not self.runs or self.runs[-1].name != found["net"]:  # else the run is resumed
                self.runs.append(Training(found["net"]))
                self.first = {}
            run = self.runs[-1]
            run.max_iter, run.finished, self.most = self.most, False, None
            run.moments.clear()
        elif self.runs:
            self.runs[-1].finished = True


def _numbers(at: str | int, value: str) -> tuple[int, float] | None:
    """The iteration and the value that a line says; None where a chart has no place for them."""
    try:
        return (int(at), float(value)) if int(at) < MOST_ITERATION else None
    except ValueError:
        return None


def _moment(text: str) -> datetime | None:
    """When a line was said, in a leap year; None where it does not tell."""
    if found := STAMP.match(text):
        with suppress(ValueError):
            return datetime.strptime(f"2000{found[1]}", "%Y%m%d %H:%M:%S.%f")
    return None


def lines(path: str | os.PathLike) -> Iterator[str]:
    """The lines of a log with their ends, but for those that are too long for one, and a last one without an
    end, which may be cut short in a number."""
    whole = True
    with open(path, encoding="utf-8", errors="replace") as file:
        while text := file.readline(MOST_LINE):
            before, whole = whole, text.endswith("\n")
            if before and whole:
                yield text


def read_log(path: str | os.PathLike, remark: Callable[[str], object] = lambda text: None,
             heard: Callable[[str], object] = lambda text: None) -> list[Training]:
    """The runs of a log in order; `remark` is told what is passed over, `heard` every line. Raises Error if
    there is none with a number in it."""
    reader = LogReader()
    try:
        for text in lines(path):
            reader.line(text)
            heard(text)
    except OSError as error:
        raise Error(f"{path}: the log cannot be read: {error.strerror}") from None
    runs = [run for run in reader.runs if run.series]
    if not runs:
        raise Error(f"{path}: is no log of a training: it has no line such as 'Iteration 20, loss = 1.5'")
    if reader.odd:
        remark(f"{path}: {count(reader.odd, 'line')} without a number passed over, such as "
               f"'{reader.example}'")
    return runs


def tell_apart(logs: Mapping[Path, Sequence[Training]]) -> list[Training]:
    """All runs of some logs, renamed by the first of these that tells them apart: the net's name, the end of
    the log's path, both, or both with a number."""
    places = [(path, run) for path, runs in logs.items() for run in runs]

    def ways() -> Iterator[list[str]]:
        yield [run.name for _, run in places]
        for deep in range(1, max(len(path.parts) for path in logs) + 1):
            ends = [Path(*path.parts[-deep:]).as_posix() for path, _ in places]
            yield ends
            both = [f"{end} {run.name}" for end, (_, run) in zip(ends, places, strict=True)]
            yield both
        yield [f"{name} #{both[: number + 1].count(name)}" for number, name in enumerate(both)]

    found = next(names for names in ways() if all(names) and len(set(names)) == len(names))
    for (_, run), name in zip(places, found, strict=True):
        run.name = name
    return [run for _, run in places]


def draw_curves(runs: Sequence[Training], overlay: bool = False) -> Chart:
    """A column for each run: losses, mean IU or AP and other outputs if there are any, rate; over iterations.

    overlay: a part for each of these instead, two side by side, with a line for each run. Losses and rates
    that differ more than WIDE times are shown over a logarithmic axis. Of very many runs the last are drawn,
    which the first column says.
    """
    more = f" (after {len(runs) - MOST_RUNS} other runs)" * (len(runs) > MOST_RUNS)
    runs = runs[-MOST_RUNS:]
    if overlay:
        parts = _overlaid(runs, more)
        return Chart([parts[::2], parts[1::2]][: len(parts)])
    columns = []
    for run in runs:
        column: list[Lines] = []
        for panel in PANELS:  # reversed: the smoothed loss comes last, on top
            labels = sorted((label for p, label in run.series if p == panel), reverse=True)
            series = {label: run.series[panel, label] for label in labels}
            if series:
                column.append(_lines(panel, panel, series, "" if column else run.name + more))
        columns.append(column)
        more = ""
    return Chart(columns)


def _overlaid(runs: Sequence[Training], more: str) -> list[Lines]:
    """A part for each label, in each of which a run has the same colour."""
    column: list[Lines] = []
    for panel in PANELS:
        for label in sorted({label for run in runs for p, label in run.series if p == panel}):
            series = {run.name: run.series.get((panel, label), []) for run in runs}
            said = f"{label} in percent" if panel in MEANS.values() else label
            column.append(_lines(panel, said, series, more.strip() if not column else ""))
    return column


def _lines(panel: str, said: str, series: Mapping[str, Sequence[tuple[int, float]]], title: str) -> Lines:
    values = [v for points in series.values() for _, v in points if math.isfinite(v)]
    wide = panel in (LOSS, RATE) and bool(values) and 0 < WIDE * min(values) < max(values)
    if panel in MEANS.values():
        series = {_with_best(label, points) if points else label: points for label, points in series.items()}
    return Lines(series, "iteration", said, title, wide)


def _with_best(label: str, points: Sequence[tuple[int, float]]) -> str:
    at, best = max(points, key=lambda point: point[1])
    return f"{label}, best {best:g} at {at}"


class Events(Log):
    """A log that becomes events for TensorBoard, a folder a run below `folder`; Error without TensorBoard."""

    def __init__(self, folder: str) -> None:
        super().__init__()
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise Error(lacking("logging for TensorBoard", "tensorboard")) from None
        self.folder, self.writer, self.reader, self.name = folder, SummaryWriter, LogReader(), folder
        self.writers: dict[Training, SummaryWriter] = {}
        self.hook, threading.excepthook = threading.excepthook, self.ended

    def ended(self, thread: Any) -> None:
        """A thread ended by an exception; of a writer's it is lines that are lost, and no traceback."""
        of_writer = type(thread.thread).__module__.startswith("tensorboard")
        if of_writer and isinstance(thread.exc_value, OSError):
            self.lose(thread.exc_value)
        else:
            self.hook(thread)

    def say(self, where: str, line: str, level: str) -> None:
        if found := self.reader.line(line):
            run, panel, label, iteration, value = found
            try:
                if run not in self.writers:
                    name = re.sub(r"\W+", "-", run.name) or "run"  # no way out of the folder
                    self.writers[run] = self.writer(os.path.join(self.folder, name), flush_secs=5)
                self.writers[run].add_scalar(f"{panel}/{label}".replace(" ", "_"), value, iteration)
            except OSError as error:  # of any event before, which a thread writes
                self.lose(error)

    def close(self) -> None:
        for writer in self.writers.values():
            try:
                writer.close()
            except OSError as error:
                self.lose(error)
        threading.excepthook = self.hook


@contextmanager
def following(said: Log, path: str | None = None, folder: str | None = None) -> Iterator[None]:
    """Within, what `said` is told goes to TensorBoard below `folder` too, and to the end of the file `path`,
    after lines on where it all comes from. At the end the file's curves are drawn as PATH.png."""
    copies: list[Log] = [Events(folder)] if folder else []
    if path:
        make_folder(Path(path).parent)
        copies.append(Log(open(path, "a", encoding="utf-8")))
    for copy in copies:
        copy.original = said
    if path:
        for key, value in origin().items():
            copies[-1]("netspec", f"{key}: {value}")
    said.copies += copies
    try:
        yield
    finally:
        said.copies[:] = [copy for copy in said.copies if copy not in copies]
        for copy in copies:
            copy.close()
        if path:
            with suppress(OSError):  # of lines that are known to be lost
                copies[-1].stream.close()
        if path and os.path.isfile(path):
            with suppress(Error):  # a run that ended before its first loss has no curves
                runs = read_log(path, lambda text: said("netspec", text, "W"))
                try:
                    draw_curves(runs).save(f"{path}.png")
                    said("netspec", f"wrote {path}.png")
                except (Error, OSError) as e:  # no reason to fail: the log is whole
                    said("netspec", f"no curves are drawn: {e}", "W")
