"""How a forward pass's time and memory grow with images and batches, each point in its own process."""

import math
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import torch

from ..base.errors import Error
from ..base.machine import WAITING
from ..base.table import table
from ..look.charts import Chart, Lines
from ..net.plan import Plan
from ..net.room import check_blobs, held
from .contenders import AUTOCAST, PLAIN
from .measure import child, peak, seconds, spread
from .speed import at_size, drawn

NAMES = ("netspec", PLAIN)


class Point(NamedTuple):
    """A pass for a batch of images of a size, rows and columns: its seconds, and bytes of memory. peak: of
    the whole process; beyond: what the passes took of it."""

    name: str
    size: tuple[int, int]
    batch: int
    spent: Sequence[float] = ()
    peak: float = float("nan")
    beyond: float = float("nan")
    problem: str = ""

    @property
    def side(self) -> float:
        """Of a square image with as many pixels."""
        return math.sqrt(math.prod(self.size))

    @property
    def image(self) -> str:
        return "x".join(map(str, self.size))


def time_grow(path: Path, sizes: Sequence[tuple[int, int]], batches: Sequence[int], precision: str,
              repeats: int) -> Iterator[Point]:
    """Each size with the first batch, then each batch with the first size; netspec, and the net as it is.

    A point that the machine has no room for, or whose process the system ends, has a problem and no figures.
    """
    places = [*((size, batches[0]) for size in sizes), *((sizes[0], batch) for batch in batches)]
    for size, batch in dict.fromkeys(places):
        at_size(path, size, batch)  # its mistakes are told here
        for name in NAMES:
            yield _measured(Point(name, size, batch), path, precision, repeats)


def _measured(point: Point, path: Path, precision: str, repeats: int) -> Point:
    try:
        made = at_size(path, point.size, point.batch)
        check_blobs(held(made), made, torch.device("cpu"))
        with child(_passes, path, point, precision, repeats, **WAITING,
                   OMP_NUM_THREADS=str(torch.get_num_threads())) as asked:
            return asked.recv()
    except Error as error:
        return point._replace(problem=str(error))
    except EOFError:
        return point._replace(problem="its process was ended, as the system does where memory is short")


def _passes(asked: Connection, path: Path, point: Point, precision: str, repeats: int) -> None:
    """Run a point's passes, one to warm up, and send it with what they took."""
    asked.send(None)
    net, feed = drawn(at_size(path, point.size, point.batch))
    net.precision = AUTOCAST[precision]
    run, before = net if point.name == PLAIN else Plan(net), peak()
    with torch.inference_mode():
        spent = seconds(lambda: run(feed), repeats + 1)[1:]
    asked.send(point._replace(spent=spent, peak=peak(), beyond=peak() - before))


def grown(points: Sequence[Point]) -> str:
    """The table of points, and what went wrong."""
    rows = [[p.image, p.batch, p.name,
             *(spread(p.spent, 3) if p.spent else [None] * 3),
             *(None if x != x else f"{x / 1e6:.0f}" for x in (p.peak, p.beyond))] for p in points]
    head = ["image", "batch", "", "median s", "least", "most", "peak MB", "of the passes"]
    return "\n".join([table(rows, head), *(f"{p.name}, {p.image}, batch {p.batch}: {p.problem}"
                                           for p in points if p.problem)])


def draw_growth(points: Sequence[Point], title: str) -> Chart:
    """Time above memory; against sides on the left, against batches on the right, where there are several."""
    first = points[0]

    def lines(ylabel: str, axis: str, value: int) -> Lines:
        series = {name: [(getattr(p, axis), (sorted(p.spent)[len(p.spent) // 2], p.peak / 1e9)[value])
                         for p in points if p.name == name and p.spent
                         and (p.batch == first.batch if axis == "side" else p.size == first.size)]
                  for name in NAMES}
        square = all(high == wide for high, wide in (p.size for p in points))
        side = "pixels along a side" if square else "pixels along a side of a square as large"
        where = side if axis == "side" else "images in a batch"
        fixed = f"batch {first.batch}" if axis == "side" else first.image
        return Lines(series, where, ylabel, "" if value else f"{title}, {fixed}", marked=True)

    axes = [axis for axis in ("side", "batch")
            if any(getattr(p, axis) != getattr(first, axis) for p in points)] or ["side"]
    return Chart([[lines("seconds", axis, 0), lines("peak memory, GB", axis, 1)] for axis in axes])
