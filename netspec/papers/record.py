"""Work that outlives its command: training that goes on where it was left, and records of what was
measured."""

import ast
import csv
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple

from ..base import log
from ..base.errors import Error
from ..base.files import naming, writing
from ..base.machine import asked, choose, origin
from ..base.metrics import BINARY, MEASURES
from ..convert.folded import folded
from ..data.layouts import LAYOUTS
from ..net.graph import Graph
from ..net.module import Net
from ..net.plan import Plan
from ..ops.norm import BN
from ..proto.caffe_pb2 import NetParameter, SolverParameter
from ..proto.model import write_weights
from ..proto.text import read_solver, to_text
from ..score import predict
from ..score.score import score
from ..score.stitch import Stitched
from ..train import jobs, snapshot, stages
from ..train.solver import Solver

Record = dict[str, Any]
MOST = 64 << 20  # bytes of a record
BLOBS = (("", "label"),)  # the net's own


class Settings(NamedTuple):
    """How nets are trained and scored, and where what they need is.

    device: see choose; None: what solver_mode says, a GPU if there is one. quiet: only warnings and
    errors are said. data: what stands for the folder data/ (None: itself). released: the folder of the
    release's weights. results: the folder of the tables' records.
    """

    device: str | None = None
    precision: str = "fp32"
    quiet: bool = False
    data: Path | None = None
    released: Path | None = None
    results: Path = Path("results")


def digest(*parts: str | bytes | Path | None) -> str:
    """SHA-256 over texts, bytes and the contents of files; None is left out."""
    whole = hashlib.sha256()
    for part in parts:
        if part is not None:
            part = part.read_bytes() if isinstance(part, Path) else part
            content = part.encode() if isinstance(part, str) else part
            whole.update(b"%d:" % len(content) + content)
    return whole.hexdigest()


def trained(path: Path, param: SolverParameter, carried: Path | None, settings: Settings,
            mark: str | None = None, watch: Callable[[Solver, float], None] | None = None,
            part: Callable[[log.Log], log.Log] = lambda said: said) -> tuple[Path, bool]:
    """The weights of a solver's last iteration, under its snapshot_prefix, and if they were there before.

    If not, it is trained, from its newest snapshot on if there is one. carried: weights to start from, not
    those the solver names. mark: what the result depends on; snapshots of another mark are removed first
    (None: all are trusted). watch: called after each iteration with solver and loss. part: makes of the log
    that of a part of a longer run.
    """
    prefix, noted = param.snapshot_prefix, Path(f"{param.snapshot_prefix}.mark")
    states = snapshot.kept(prefix, "solverstate")
    ready = [file for n, file in snapshot.kept(prefix, "caffemodel") if n == param.max_iter]
    if mark is not None and (not noted.exists() or noted.read_text() != mark):
        for old in (*ready, *(file for _, file in states)):
            old.unlink()
        states, ready = [], []
        with writing(noted, "w") as file:
            file.write(mark)
    if ready:
        return ready[-1], True
    param.snapshot_after_train = True
    state = next((str(file) for n, file in reversed(states) if n < param.max_iter), None)
    with closing(part(log.make(settings.quiet))) as said:
        solver = stages.run_stage(path, param, [str(carried)] if carried else None, state,
                                  settings.device or asked(param), settings.precision, said, watch=watch,
                                  again="")
    return Path(solver.final_weights()), False


def weights_of(path: Path, settings: Settings) -> Path:
    """The weights at the end of a solver file, trained if they are not there, after those that it starts
    from, if a solver beside it makes these."""
    param = read_solver(path)
    for file in param.weights:
        before = path.with_name(snapshot.prefix_of(file) + ".prototxt")
        if not Path(file).exists() and before.exists() and before != path:
            weights_of(before, settings)
    return trained(path, param, None, settings)[0]


def test_net(path: Path, param: SolverParameter) -> Path:
    """The net that scores a solver file's weights: test.prototxt beside its train net, or val.prototxt."""
    folder = next(iter(jobs.files(param, path)), path).parent
    for name in ("test.prototxt", "val.prototxt"):
        if (folder / name).exists():
            return folder / name
    raise Error(f"{folder} has neither test.prototxt nor val.prototxt, with which the weights of {path.name} "
                "could be scored")


def testable(path: Path, param: SolverParameter, weights: Path, made: Graph, settings: Settings) -> Path:
    """The weights of a solver file for the graph of its test net: where that stores statistics and training
    takes those of the batch (SegNet's BN), a file beside them with those of the training data folded in."""
    if not any(isinstance(node.op, BN) and node.op.segnet and node.op.stored for node in made.nodes):
        return weights
    out = weights.with_name(f"{weights.stem.removesuffix('.caffemodel')}_folded.caffemodel")
    if not out.exists() or out.stat().st_mtime_ns < weights.stat().st_mtime_ns:
        ready = folded(jobs.files(param, path)[0], weights, device=choose(settings.device))
        write_weights(out, ready.name, ready.layers)
    return out


def place(net: str, kind: str, settings: Settings) -> Path:
    """Where the tables' record of a net's scores, released scores or time is."""
    return settings.results / f"{net}.{kind}.json"


class Trace:
    """A CSV file with iteration, loss and seconds of every iteration, which a resumed run goes on with.

    Seconds are the processor's on a CPU, where other programs do not lengthen them, the clock's on a GPU.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.rows = path, self.read(path)
        self.begun: float | None = None

    @staticmethod
    def read(path: Path) -> list[tuple[int, float, float]]:
        """The rows of a file; none if it is not there. Raises Error for one that is no such file."""
        if not path.exists():
            return []
        with open(path, newline="", encoding="utf-8", errors="replace") as file:
            rows = csv.reader(file)
            try:
                return [(int(row[0]), float(row[1]), float(row[2])) for row in rows if len(row) == 3]
            except (ValueError, csv.Error):
                raise Error(f"{path}:{rows.line_num}: expected iteration, loss and seconds; delete the file "
                            "to train anew") from None

    def __call__(self, solver: Solver, loss: float) -> None:
        clock = time.process_time if solver.device.type == "cpu" else time.perf_counter
        if self.begun is None:
            self.rows = [row for row in self.rows if row[0] < solver.iter]
            self.begun = clock() - (self.rows[-1][2] if self.rows else 0.0)
            with writing(self.path, "w") as file:
                file.write("".join(f"{i},{x!r},{s!r}\n" for i, x, s in self.rows))
        with naming(self.path), open(self.path, "a", encoding="utf-8") as file:
            file.write(f"{solver.iter},{loss!r},{clock() - self.begun!r}\n")


def _number(value: Any) -> bool:
    return value is None or type(value) in (int, float) and abs(value) < 1e300


def _word(value: Any) -> bool:
    return isinstance(value, str)


def _of(keys: Iterable[str]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, dict) and all(_number(value.get(key)) for key in keys)


def _all(holds: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(holds, value))


def _each(holds: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, dict) and all(map(holds, value.values()))


HOLDS: dict[str, Callable[[Any], bool]] = {  # what a record has -> whether a value can be that
    **dict.fromkeys((*MEASURES, "loss", "images", "milliseconds"), _number),
    "classes": _all(lambda value: _of(["iu"])(value) and _word(value.get("name"))),
    "unseen": _all(_word), "trimap": _each(_of(MEASURES)), "heads": _each(_number),
    "binary": lambda value: value is None or _of(BINARY)(value), "histogram": _all(_all(_number)),
    "origin": _each(_word), "weights": _word,
}


def read(path: Path) -> Record:
    """A record; {} where there is none. Raises Error for a file that is something else."""
    try:
        if path.stat().st_size > MOST:
            raise ValueError(f"it has more than {MOST >> 20} MiB")
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError("it holds no object")
        if wrong := [key for key, value in found.items() if key in HOLDS and not HOLDS[key](value)]:
            raise ValueError(f"'{wrong[0]}' cannot be {str(found[wrong[0]])[:40]}")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise Error(f"{path}: is no record of measurements: {getattr(error, 'strerror', error)}") from None
    return found


def recorded(path: Path, mark: str, measure: Callable[[], Record], device: str | None,
             beside: Path | None = None) -> Record:
    """What `measure` finds, with its origin: from the file if that has the same mark, else from now on there.

    device: that which the origin names. beside: what must be there for a record to count.
    """
    with suppress(Error):  # a damaged one is measured again
        known = read(path)
        if known.get("mark") == mark and (beside is None or beside.exists()):
            return known
    found = {**measure(), "mark": mark, "origin": origin(choose(device))}
    write(path, found)
    return found


def write(path: Path, found: Record) -> None:
    with writing(path, "w") as file:
        json.dump(found, file, indent=1, allow_nan=False)


def scored(path: Path, made: Graph, weights: Path, settings: Settings, *,
           blobs: Sequence[tuple[str, str]] = BLOBS, save: Path | None = None,
           wrap: Callable[[Net], Plan | Stitched] = Plan, what: str = "") -> Record:
    """The record of a TEST graph's scores on its data: Result.as_dict(), confusion histogram, weights file.

    blobs: (scores, truth) of each head; the first gives the record, others the pixel accuracy in "heads".
    save: a folder for predictions. wrap: makes of the net what is scored in its place, which `what` names.
    """
    def measure() -> Record:
        net, remarks = predict.load(made, weights, settings.device, settings.precision)
        with closing(log.make(settings.quiet)) as said:
            for remark in remarks:
                said.put(f"note: {remark}\n")
            first, *rest = [score(wrap(net), score_blob=blob, label_blob=label, save=save,
                                  progress=lambda done, total, _: said.progress(
                                      f"score {made.name}", done, total, "", 1)) for blob, label in blobs]
        heads = zip(blobs[1:], rest, strict=True)
        return {"net": made.name, **first.as_dict(), "histogram": first.histogram.tolist(),
                "weights": str(weights),
                "heads": {label: other.as_dict()["pixel_accuracy"] for (_, label), other in heads}}

    mark = digest(to_text(made.proto), weights, f"{settings.precision} {what}")
    return recorded(path, mark, measure, settings.device, save)


def relocated(net: NetParameter, data: Path | None) -> NetParameter:
    """A net whose data layers read below `data` what they read below the folder data/; the same for None."""
    if data is None:
        return net
    for layer in net.layer:
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
