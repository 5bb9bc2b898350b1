"""How long it takes to begin: a net made of its prototxt, and `netspec infer` on one small image."""

import random
import tempfile
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from PIL import Image

from ..base.errors import count, one_line
from ..base.table import table
from ..net.deploy import deploy
from ..net.module import Net
from ..net.weights import ready
from .measure import child, once, seconds, spread
from .whole import Programs

SMALL = (96, 128)  # rows and columns of the image


def time_start(path: Path, given: Path | None, repeats: int) -> str:
    """Seconds from a prototxt to a module that has its weights, each time the first of a process that has
    imported netspec; and of `netspec infer` on an image of SMALL as a whole process.

    given: the weights. None: the module's are its fillers', and those for `infer` are drawn. The two take
    turns. Raises Error where `infer` fails, and as Programs does.
    """
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder, "small.png")
        noise = np.random.default_rng(0).integers(0, 256, (*SMALL, 3), np.uint8)
        Image.fromarray(noise).save(picture)
        programs = Programs(path, given, str(picture), Path(folder))
        (infer,) = programs.all(["fp32"], ["netspec"], [])
        what = f"module with {given.name}" if given else "module"
        turns: dict[str, Callable[[], float]] = {
            f"prototxt to {what}": lambda: _first(path, given),
            f"netspec infer, {SMALL[0]}x{SMALL[1]}": lambda: seconds(infer.call, 1)[0]}
        order = random.Random(0)
        found = [once(turns, order) for _ in range(repeats + 1)][1:]
    rows = [[name, *spread([each[name] for each in found], 3)] for name in turns]
    head = f"{programs.net.graph.name}, start, {count(repeats, 'round')} after one to warm up"
    return "\n".join([one_line(head), table(rows, ["", "median s", "least", "most"]),
                      "module: the first in a process that has imported netspec; infer: all of a process"])


def _first(path: Path, given: Path | None) -> float:
    """The seconds that making a net takes a fresh process."""
    with child(_makes, path, given) as asked:
        return asked.recv()


def _makes(asked: Connection, path: Path, given: Path | None) -> None:
    asked.send(None)
    asked.send(seconds(lambda: ready(Net(deploy(path)), given), 1)[0])
