"""Work that outlives its command: a net is trained from where it was left, measured once, and its figures recorded."""

import argparse
import ast
import csv
import hashlib
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..base import log
from ..base import machine as device
from ..base.errors import Error, Interrupted
from ..base.files import find, writing
from ..base.machine import origin
from ..data.layouts import LAYOUTS
from ..net.graph import Graph
from ..proto import text as prototext
from ..score import predict
from ..score import score as scoring
from ..train import snapshot as resume
from ..train import stages as train
from ..train.solver import Solver

Record = dict[str, Any]
BLOBS = (("score", "label"),)


def digest(*parts: str | bytes | Path) -> str:
    """SHA-256 over texts, bytes and the contents of files."""
    whole = hashlib.sha256()
    for part in parts:
        content = part.read_bytes() if isinstance(part, Path) else part.encode() if isinstance(part, str) else part
        whole.update(b"%d:" % len(content) + content)
    return whole.hexdigest()


def trained(path: Path, param: Any, carried: Path | None, args: argparse.Namespace, mark: str | None = None,
            watch: Callable[[Solver, float], None] | None = None) -> tuple[Path, bool]:
    """The weights of a solver's last iteration, under its snapshot_prefix, and whether they were there already.

    If not, it is trained, from its newest snapshot on if there is one. carried: weights to start from, not those the
    solver names. mark: what the result depends on; snapshots of another mark are removed first (None: all are trusted).
    watch: called after each iteration with solver and loss. args: device, precision, quiet.
    """
    prefix = Path(param.snapshot_prefix)
    noted = Path(f"{prefix}.mark")
    states = resume.kept(prefix, "solverstate")
    ready = [file for n, file in resume.kept(prefix, "caffemodel") if n == param.max_iter]
    if mark is not None and (not noted.exists() or noted.read_text() != mark):
        for old in (*ready, *(file for _, file in states)):
            old.unlink()
        states, ready = [], []
        with writing(noted, "w") as file:
            file.write(mark)
    if ready:
        return ready[-1], True
    state = next((file for n, file in reversed(states) if n < param.max_iter), None)
    param.snapshot_after_train = True
    said = log.make(args.quiet)
    try:
        solver = train.run_stage(path, param, [str(carried)] if carried else None, state and str(state),
                                 args.device or device.asked(param), args.precision, said, watch=watch)
    except Interrupted:
        said("netspec", "this same command goes on from there", "W")
        raise
    finally:
        said.close()
    return Path(solver.final_weights()), False


def weights_of(path: Path, args: argparse.Namespace) -> Path:
    """The weights at the end of a solver file, trained if they are not there: first those that it starts from, if a solver
    beside it makes them."""
    param = prototext.read_solver(path)
    for file in param.weights:
        before = path.with_name(resume.prefix_of(file) + ".prototxt")
        if not Path(file).exists() and before.exists() and before != path:
            weights_of(before, args)
    return trained(path, param, None, args)[0]


def test_net(path: Path, param: Any) -> Path:
    """The net that a solver file's weights are scored with: test.prototxt beside its train net, or val.prototxt."""
    folder = find(param.train_net or param.net, path.resolve().parent, "net").parent
    for name in ("test.prototxt", "val.prototxt"):
        if (folder / name).exists():
            return folder / name
    raise Error(f"{folder} has neither test.prototxt nor val.prototxt, with which the weights of {path.name} could be scored")


class Trace:
    """A CSV file with iteration, loss and seconds of every iteration of a run, which a resumed run goes on with.

    The seconds are those of the processor on a CPU, which others that use it do not lengthen, and of the clock on a GPU.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.rows, self.begun = path, self.read(path), None

    @staticmethod
    def read(path: Path) -> list[tuple[int, float, float]]:
        """The rows of a file; none if it is not there."""
        if not path.exists():
            return []
        with open(path, newline="", encoding="utf-8") as file:
            return [(int(row[0]), float(row[1]), float(row[2])) for row in csv.reader(file) if len(row) == 3]

    def __call__(self, solver: Solver, loss: float) -> None:
        clock = time.process_time if solver.device.type == "cpu" else time.perf_counter
        if self.begun is None:
            self.rows = [row for row in self.rows if row[0] < solver.iter]
            self.begun = clock() - (self.rows[-1][2] if self.rows else 0.0)
            self.path.write_text("".join(f"{i},{x!r},{s!r}\n" for i, x, s in self.rows), encoding="utf-8")
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(f"{solver.iter},{loss!r},{clock() - self.begun!r}\n")


def read(path: Path) -> Record:
    """A record; {} where there is none that can be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def recorded(path: Path, mark: str, measure: Callable[[], Record], device_name: str | None, beside: Path | None = None) -> Record:
    """What `measure` finds, with its origin: from the file if that has the same mark, else measured now and written there.

    device_name: the device that the origin names. beside: what must be there for a record to count.
    """
    known = read(path)
    if known.get("mark") == mark and (beside is None or beside.exists()):
        return known
    found = {**measure(), "mark": mark, "origin": origin(device.choose(device_name))}
    with writing(path, "w") as file:
        json.dump(found, file, indent=1, allow_nan=False)
    return found


def scored(path: Path, made: Graph, weights: Path, args: argparse.Namespace, *, blobs: Sequence[tuple[str, str]] = BLOBS,
           save: Path | None = None, wrap: Callable[[Any], Any] = lambda net: net, what: str = "") -> Record:
    """The record of a TEST graph's scores on its data: Result.as_dict(), the confusion histogram, and the weights file.

    blobs: (scores, truth) of each head; the first gives the record, the pixel accuracy of others goes into "heads".
    save: a folder for predictions. wrap: makes of the net what is scored in its place, which `what` names.
    """
    def measure() -> Record:
        net, remarks = predict.load(made, weights, args.device, args.precision)
        for remark in remarks:
            print(f"note: {remark}", file=sys.stderr)
        said = log.make(args.quiet)

        def progress(done: int, total: int, histogram: Any) -> None:
            said.progress(f"score {made.name}", done, total, "", 1)

        try:
            first, *rest = [scoring.score(wrap(net), score_blob=score, label_blob=label, save=save, progress=progress)
                            for score, label in blobs]
        finally:
            said.close()
        return {"net": made.name, **first.as_dict(), "histogram": first.histogram.tolist(), "weights": str(weights),
                "heads": {label: other.as_dict()["pixel_accuracy"] for (_, label), other in zip(blobs[1:], rest, strict=True)}}

    mark = digest(prototext.to_text(made.proto), weights, f"{args.precision} {what}")
    return recorded(path, mark, measure, args.device, save)


def relocated(net: Any, data: Path | None) -> Any:
    """A NetParameter whose data layers read below `data` what they read below the folder data/; the same for None."""
    for layer in net.layer if data else ():
        if layer.type != "Python" or layer.bottom or not layer.python_param.param_str:
            continue
        param = ast.literal_eval(layer.python_param.param_str)
        beside = LAYOUTS[param["dataset"]].beside if param.get("dataset") in LAYOUTS else {}
        for key, usual in {**beside, "root": param.get("root", "")}.items():
            parts = Path(param.get(key, usual)).parts
            if parts[:1] == ("data",):
                param[key] = str(data.joinpath(*parts[1:]))
        layer.python_param.param_str = str(param)
    return net
