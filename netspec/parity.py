"""The `parity` command: a net here against what another program computed for it, blob by blob."""

import argparse
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from . import compiler, graph, prototext, weights
from .blobs import Blob
from .errors import Error, closest
from .files import find
from .proto import caffe_pb2
from .pycaffe import Net

KINDS = ("in", "param", "topdiff", "out", "l2", "param_after", "indiff", "paramdiff", "grad_l2", "grad_at")
RTOL, ATOL = 1e-4, 1e-5


class Row(NamedTuple):
    """One comparison: what, in whose layer, how far apart, whether that is too far."""

    key: str
    layer: str
    found: str
    verdict: str  # ok, DIFFERS, SHAPE, MISSING


@dataclass
class Comparison:
    """Rows in the order in which a pass meets them; `unchecked`: blobs of the net that the results do not have."""

    rows: list[Row]
    unchecked: list[str]

    @property
    def first(self) -> Row | None:
        """The first row that is out of tolerance: everything behind it may only follow from it."""
        return next((row for row in self.rows if row.verdict != "ok"), None)

    def table(self) -> str:
        head = Row("what", "layer", "difference", "")
        wide = [max(len(row[i]) for row in (head, *self.rows)) for i in range(3)]
        return "\n".join("  ".join([*(f"{cell:{w}}" for cell, w in zip(row, wide, strict=False)), row.verdict]).rstrip()
                         for row in (head, *self.rows))


def compare(path: str | os.PathLike, results: Mapping[str, np.ndarray], weights_path: str | os.PathLike | None = None,
            phase: int = caffe_pb2.TEST, rtol: float = RTOL, atol: float = ATOL) -> Comparison:
    """Run a net on the inputs that `results` hold and compare what comes out with the rest of `results`.

    results: arrays by `in:BLOB`, `param:LAYER:I`, `topdiff:BLOB`, `out:BLOB`, `param_after:LAYER:I`, `indiff:BLOB`,
    `paramdiff:LAYER:I`, and in short for large nets `l2:BLOB`, `grad_l2:LAYER:I` (norms) and `grad_at:LAYER:I` (two
    rows: flat indices, gradients there); `phase` says TRAIN or TEST. weights_path: a file for parameters that the
    results do not hold. Two numbers agree if |ours - theirs| <= atol + rtol max(|theirs|, root mean square of their blob):
    sums that cancel to nearly nothing are no better than what was summed. Raises Error for results that do not fit
    the net's inputs or parameters.
    """
    parts: dict[str, dict[str, np.ndarray]] = {kind: {} for kind in KINDS}
    for key, value in results.items():
        kind, _, name = key.partition(":")
        if key == "phase":
            phase = caffe_pb2.Phase.Value(str(value))
        elif kind not in parts or not name:
            raise Error(f"the results hold '{key}'; known are phase and NAME behind {', '.join(f'{k}:' for k in KINDS)}")
        else:
            parts[kind][name] = value
    net = _net(Path(path), phase, parts, weights_path)
    check = _Check(net, rtol, atol)
    net.forward()
    rows = [*check.blobs("out", parts["out"]), *check.blobs("l2", parts["l2"]),
            *check.params("param_after", parts["param_after"])]
    order = {name: i for i, name in enumerate(net.blobs)}
    rows.sort(key=lambda row: order.get(row.key.partition(":")[2], len(order)))
    backward = [kind for kind in ("indiff", "paramdiff", "grad_l2", "grad_at") if parts[kind]]
    unfit = [name for name, diff in parts["topdiff"].items() if name not in net.blobs or net.blobs[name].shape != diff.shape]
    rows += check.blobs("topdiff", {name: parts["topdiff"][name] for name in unfit})
    if backward and not unfit:
        for name, diff in parts["topdiff"].items():
            net.blobs[name].diff[...] = diff
        net.backward()
        back = [row for kind in backward for row in (
            check.blobs(kind, parts[kind]) if kind == "indiff" else check.params(kind, parts[kind]))]
        place = {name: -i for i, name in enumerate(net.top_names)}
        rows += sorted(back, key=lambda row: place.get(row.layer, 1))
    seen = {name for kind in ("in", "out", "l2") for name in parts[kind]}
    return Comparison(rows, [blob for blob in net.blobs if blob not in seen])


def _net(path: Path, phase: int, parts: Mapping[str, Mapping[str, np.ndarray]], weights_path: str | os.PathLike | None) -> Net:
    """The net with the parameters and the inputs of the results."""
    text = prototext.read_net(path)
    options = {"phase": phase, "path": path, "shapes": {k: v.shape for k, v in parts["in"].items()}}
    made = graph.build(text, **options)
    frozen = {f"{slot.layer}:{slot.index}" for slot in made.params if not slot.lr_mult}
    if set(parts["indiff"]) & set(made.inputs) or any(
            np.any(value) for kind in ("paramdiff", "grad_l2") for key, value in parts[kind].items() if key in frozen):
        text.force_backward = True  # as it must have been there
        made = graph.build(text, **options)
    built = compiler.Net(made)
    if weights_path:
        report = weights.load(weights_path, built.layers_with_params())
        if report.ignored or report.missing:
            print(f"{weights_path}:\n{report.table()}\n")
    net = Net.of(built)
    check = _Check(net, 0, 0)
    for name, value in parts["in"].items():
        net.blobs[name].data[...] = value
    for name, value in parts["param"].items():
        check.given(name, check.param(name), value)
        check.param(name).data[...] = value
    absent = [f"{layer}:{i}" for layer, blobs in net.params.items() for i in range(len(blobs))
              if f"{layer}:{i}" not in parts["param"]]
    if absent and not weights_path:
        raise Error(f"the results lack param:{absent[0]} and {len(absent) - 1} more parameters; give --weights, the file "
                    "that the other program had loaded")
    return net


class _Check:
    """Comparisons of one net's blobs with given ones."""

    def __init__(self, net: Net, rtol: float, atol: float) -> None:
        self.net, self.rtol, self.atol = net, rtol, atol
        self.makers: dict[str, str] = {}
        for layer, tops in net.top_names.items():
            self.makers.update(dict.fromkeys(tops, layer))

    def param(self, name: str) -> Blob | None:
        """The parameter blob LAYER:I."""
        layer, _, index = name.rpartition(":")
        blobs = self.net.params.get(layer, ())
        return blobs[int(index)] if index.isdecimal() and int(index) < len(blobs) else None

    def given(self, name: str, blob: Blob | None, value: np.ndarray) -> None:
        """Error if the net has no such blob, or one of another shape."""
        if blob is None:
            raise Error(f"the results hold '{name}', which the net does not have{closest(name, self.net.blobs)}")
        if blob.shape != value.shape:
            raise Error(f"'{name}' has shape {list(value.shape)} in the results and {list(blob.shape)} in the net")

    def blobs(self, kind: str, wanted: Mapping[str, np.ndarray]) -> Iterator[Row]:
        for name, theirs in wanted.items():
            blob = self.net.blobs.get(name)
            ours = None if blob is None else blob.diff if kind == "indiff" else blob.data
            yield self.row(f"{kind}:{name}", self.makers.get(name, "-"), ours, theirs)

    def params(self, kind: str, wanted: Mapping[str, np.ndarray]) -> Iterator[Row]:
        for name, theirs in wanted.items():
            blob = self.param(name)
            ours = None if blob is None else blob.data if kind == "param_after" else blob.diff
            yield self.row(f"{kind}:{name}", name.rpartition(":")[0], ours, theirs)

    def row(self, key: str, layer: str, ours: np.ndarray | None, theirs: np.ndarray) -> Row:
        if ours is None:
            return Row(key, layer, "the net has none", "MISSING")
        kind = key.partition(":")[0]
        if kind in ("l2", "grad_l2"):
            ours = np.linalg.norm(ours.astype(np.float64))
        elif kind == "grad_at":
            at, theirs = theirs
            ours = ours.ravel()[at.astype(int)]
        if np.shape(ours) != np.shape(theirs):
            return Row(key, layer, f"{list(np.shape(ours))} here, {list(np.shape(theirs))} in the results", "SHAPE")
        return Row(key, layer, *self.difference(np.asarray(ours, np.float64), np.asarray(theirs, np.float64)))

    def difference(self, ours: np.ndarray, theirs: np.ndarray) -> tuple[str, str]:
        """How far apart, and ok or DIFFERS."""
        if not ours.size:
            return "nothing in it", "ok"
        equal = (ours == theirs) | np.isnan(ours) & np.isnan(theirs)
        with np.errstate(invalid="ignore", divide="ignore"):
            apart = np.where(equal, 0.0, np.abs(ours - theirs))
            apart = np.where(np.isnan(apart), np.inf, apart)
            ratio = np.where(equal, 0.0, np.nan_to_num(apart / np.abs(theirs), nan=np.inf))
            scale = np.sqrt(np.mean(np.square(theirs, where=np.isfinite(theirs), out=np.zeros_like(theirs))))
            excess = apart - (self.atol + self.rtol * np.maximum(np.abs(theirs), scale))
            excess = np.where(equal, -np.inf, np.where(np.isnan(excess), np.inf, excess))
        if excess.max() <= 0:
            return f"max {apart.max():.2g}", "ok"
        at = np.unravel_index(np.argmax(np.where(excess > 0, apart, -1)), ours.shape)
        return (f"max {apart.max():.2g}, relative {ratio.max():.2g}, {np.mean(excess > 0):.0%} of it; at "
                f"{[int(i) for i in at]} {ours[at]:.6g} here, {theirs[at]:.6g} in the results"), "DIFFERS"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("net", metavar="NET.prototxt")
    parser.add_argument("results", metavar="RESULTS.npz", help="what the other program was fed and computed (docs/pycaffe.md)")
    parser.add_argument("--weights", metavar="FILE", help="parameters that RESULTS does not hold")
    parser.add_argument("--phase", choices=("TEST", "TRAIN"), default="TEST", help="where RESULTS does not say it (default TEST)")
    parser.add_argument("--rtol", type=float, default=RTOL, help=f"of a number or the blob's rms, the larger (default {RTOL:g})")
    parser.add_argument("--atol", type=float, default=ATOL, help=f"absolute tolerance (default {ATOL:g})")


def run(args: argparse.Namespace) -> int:
    """The `parity` command; 1 if anything is out of tolerance."""
    results = read_results(find(args.results, what="results"))
    given = find(args.weights, what="weights") if args.weights else None
    found = compare(find(args.net, what="net"), results, given, caffe_pb2.Phase.Value(args.phase), args.rtol, args.atol)
    if not found.rows:
        raise Error(f"{args.results}: holds nothing to compare ({', '.join(KINDS[3:])})")
    print(found.table())
    if found.unchecked:
        print(f"not in the results: {_listed(found.unchecked)}")
    bad = [row for row in found.rows if row.verdict != "ok"]
    print(f"{len(found.rows) - len(bad)} of {len(found.rows)} agree" + (
        f"; the first that does not, in the order of the passes: {found.first.key}, layer '{found.first.layer}'" if bad else ""))
    return int(bool(bad))


def read_results(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file; Error if it is something else."""
    try:
        with zipfile.ZipFile(path), np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except (zipfile.BadZipFile, OSError, ValueError, EOFError) as e:
        raise Error(f"{path}: cannot be read as .npz ({e})") from None


def _listed(names: Sequence[str], most: int = 12) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
