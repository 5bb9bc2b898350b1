"""Snapshots on disk, whose names only this file knows.

PREFIX_iter_N.caffemodel has the weights, PREFIX_iter_N.solverstate the solver's state (.h5 too for HDF5), as
Caffe writes them, and PREFIX_iter_N.resume what Caffe's own files have no field for.
"""

import base64
import json
import os
import re
import sys
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..base.errors import Error
from ..base.files import find, holding, staging, writing
from ..net.graph import Slot
from ..proto.caffe_pb2 import SolverParameter
from ..proto.model import Layers, State, read_state, read_weights, same_shape, write_state, write_weights
from ..proto.wire import floats

Slots = Sequence[tuple[Slot, Tensor]]  # parameters, once for each blob of history that they have
Facts = dict[str, Any]
HINT = "delete it to start the data from the front"


class Snapshot(NamedTuple):
    """Where a snapshot lies, of which iteration it is."""

    iteration: int
    state: Path
    weights: Path


def stem(prefix: str | os.PathLike, iteration: int | str) -> str:
    """What the paths of a snapshot's files have before their endings."""
    return f"{prefix}_iter_{iteration}"


def at(prefix: str | os.PathLike, iteration: int, hdf5: bool = False) -> Snapshot:
    """The snapshot of an iteration under a snapshot_prefix, there or not."""
    begin, end = stem(prefix, iteration), ".h5" if hdf5 else ""
    return Snapshot(iteration, Path(f"{begin}.solverstate{end}"), Path(f"{begin}.caffemodel{end}"))


def prefixed(param: SolverParameter, path: Path | None, net_name: str) -> str:
    """snapshot_prefix; if it is not given or ends as a folder does, with the name of the solver's file."""
    given = param.snapshot_prefix
    if given and not given.endswith("/"):
        return given
    return given + (path.stem if path else net_name or "net")


def prefix_of(path: str | os.PathLike) -> str:
    """The last part of the snapshot_prefix that a snapshot's file lies under; '' for another file's name."""
    return Path(path).name.rpartition("_iter_")[0]


def kept(prefix: str | os.PathLike, kind: str) -> list[tuple[int, Path]]:
    """Iteration and path of each file of a kind ('caffemodel' or 'solverstate') under a snapshot_prefix.

    In either format; the last iteration last, and of one iteration's two the newer.
    """
    name = re.compile(rf"{re.escape(Path(prefix).name)}_iter_(\d+)\.{kind}(\.h5)?")
    files = [(int(found[1]), file) for file in Path(prefix).parent.glob("*")
             if (found := name.fullmatch(file.name))]
    return sorted(files, key=lambda each: (each[0], each[1].stat().st_mtime_ns))


def write_snapshot(prefix: str, net_name: str, layers: Layers, history: Sequence[Tensor], facts: Facts, *,
                   current_step: int = 0, hdf5: bool = False, log: Callable[[str, str], None]) -> Snapshot:
    """Write the three files of a snapshot, saying so in Caffe's words.

    They get their names when all three are on the disk: then an older .solverstate of this name goes, and the
    new one, which names the weights, comes last. So it is there only if the rest is there and belongs to it,
    wherever the process is killed. facts: 'iter' among them; byte tensors (random states) may be. The
    checksums that bind the files to each other are added to them.
    """
    facts = facts | {"weights": _crc_of({name: blobs for name, (_, blobs) in layers.items()}),
                     "history": _crc(history)}
    kind = "HDF5" if hdf5 else "binary proto"
    _, state, model = made = at(prefix, facts["iter"], hdf5)
    packed = {k: {"bytes": base64.b64encode(v.numpy().tobytes()).decode()} if isinstance(v, Tensor) else v
              for k, v in facts.items()}
    with holding(Path(prefix)), staging(state) as scratch:
        log("solver.cpp:474" if hdf5 else "solver.cpp:464", f"Snapshotting to {kind} file {model}")
        write_weights(scratch / model.name, net_name, layers, hdf5=hdf5)
        with writing(_beside(scratch / state.name), "w") as file:
            json.dump(packed, file)
        line = "sgd_solver.cpp:296" if hdf5 else "sgd_solver.cpp:284"
        log(line, f"Snapshotting solver state to {kind} file {state}")
        write_state(scratch / state.name, iteration=facts["iter"], learned_net=str(model), history=history,
                    current_step=current_step, hdf5=hdf5)
        for form in (False, True):
            at(prefix, facts["iter"], form).state.unlink(missing_ok=True)
        for path in (model, _beside(state), state):
            os.replace(scratch / path.name, path)
    return made


def read_snapshot(path: str | os.PathLike, base: Path | None = None, rule: str = ""
                  ) -> tuple[State, Snapshot, Facts | None]:
    """A solver state, ours or Caffe's, where it lies, and our facts (None beside a state of Caffe's own).

    Its weights are looked for beside the state before the place where they were written, so that a folder of
    snapshots can be moved. rule: the type of the solver that is to go on. Raises Error for files that are
    missing or damaged, and, where our facts show it, for those of several snapshots or another rule.
    """
    path = find(path, base, "solver state")
    state = read_state(path)
    model = path.parent / Path(state.learned_net or path.name.replace(".solverstate", ".caffemodel")).name
    if state.learned_net and not model.exists():
        model = find(state.learned_net, path.resolve().parent, "weights")
    extra = _beside(path)
    facts = read_facts(extra, {"iter", "losses", "train", "test", "cpu"}) if extra.exists() else None
    if facts and facts["iter"] != state.iteration:
        raise Error(f"{extra}: is of iteration {facts['iter']}, the .solverstate beside it of "
                    f"{state.iteration}; {HINT}")
    if facts:
        _check_bound(facts, extra, path, state, model, rule)
    return state, Snapshot(state.iteration, path, model), facts


def whole_history(learned: Iterable[Tensor], slots: Slots) -> list[Tensor]:
    """A history as Caffe writes it: zeros for the parameters that do not learn are among it."""
    blobs = iter(learned)
    return [next(blobs) if parameter.requires_grad else torch.zeros(slot.shape) for slot, parameter in slots]


def learned_history(path: Path, history: Sequence[np.ndarray], slots: Slots, owner: str) -> list[np.ndarray]:
    """What `whole_history` was given, out of the state in `path`; Error if that is not of these slots."""
    pairs = list(zip(history, slots, strict=False))
    if len(history) != len(slots) or not all(same_shape(blob.shape, slot.shape) for blob, (slot, _) in pairs):
        raise Error(f"{path}: its history is not that of {owner} ({len(history)} blobs, {len(slots)} "
                    "expected, or other shapes)")
    return [blob.reshape(slot.shape) for blob, (slot, parameter) in pairs if parameter.requires_grad]


def _beside(state: Path) -> Path:
    return Path(str(state).removesuffix(".h5")).with_suffix(".resume")


def read_facts(path: Path, keys: set[str]) -> Facts:
    """The facts that `write_snapshot` got; Error if the file is something else or lacks one of `keys`."""
    try:
        facts = {k: torch.frombuffer(bytearray(base64.b64decode(v["bytes"])), dtype=torch.uint8)
                 if isinstance(v, dict) else v for k, v in json.loads(path.read_text()).items()}
        missing = keys - set(facts)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        raise Error(f"{path}: not a resume file ({e}); {HINT}") from None
    if missing:
        raise Error(f"{path}: lacks {', '.join(sorted(missing))}; {HINT}")
    for key, value in facts.items():
        if (name := key.partition(":")[0]) in HOLDS and not HOLDS[name](value):
            raise Error(f"{path}: its '{key}' is not what a run leaves there; the file is damaged; {HINT}")
    return facts


def _number(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 62


def _numbers(value: Any) -> bool:
    return isinstance(value, list) and all(map(_number, value))


def _state(value: Any) -> bool:
    """Whether it is a random state of torch's on the CPU."""
    try:
        return bool(torch.Generator().set_state(value))
    except (RuntimeError, TypeError):
        return False


def _bytes(value: Any) -> bool:
    return isinstance(value, Tensor)


def _word(value: Any) -> bool:
    return isinstance(value, str)


HOLDS: dict[str, Callable[[Any], bool]] = {  # what a .resume has -> whether a value can be that
    "iter": _number, "seed": _number, "train": _numbers, "cpu": _state, "cuda": _bytes, "mps": _bytes,
    "learned": _bytes, "type": _word, "weights": _word, "history": _word,
    "test": lambda value: isinstance(value, list) and all(map(_numbers, value)),
    "skipped": lambda value: isinstance(value, list) and all(map(_word, value)),
    "losses": lambda value: isinstance(value, list) and all(
        type(loss) in (int, float) and abs(loss) <= sys.float_info.max for loss in value),
}


def _crc(blobs: Iterable[Any], crc: int = 0) -> str:
    """The CRC-32 of the numbers in arrays or tensors."""
    for blob in blobs:
        crc = zlib.crc32(floats(blob).data, crc)
    return f"{crc:08x}"


def _crc_of(layers: Mapping[str, Iterable[Any]]) -> str:
    """That of weights, layer by layer; HDF5 has these in another order."""
    return _crc(blob for name in sorted(layers) for blob in layers[name] if blob is not None)


def _check_bound(facts: Facts, extra: Path, path: Path, state: State, model: Path, rule: str) -> None:
    """Error where the files of a snapshot are not of one; older versions left no checksums to tell it by."""
    if rule and rule != facts.get("type", rule):
        raise Error(f"{path}: was trained by {facts['type']}, this solver is {rule}; the history of one says "
                    f"nothing to the other: change type, or start from {model} by --weights")
    found = {path: ("history", _crc(state.history))}
    if state.learned_net and "weights" in facts:
        found[model] = "weights", _crc_of(read_weights(model))
    for file, (what, crc) in found.items():
        if crc != facts.get(what, crc):
            raise Error(f"{file}: {extra} was written with another: they are not of one snapshot; put its "
                        f"three files together again, or delete {extra} if Caffe wrote the others")
