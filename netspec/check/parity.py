"""A net here against what another program computed for it, blob by blob."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..base.errors import Error, closest
from ..base.table import table
from ..net import module, weights
from ..net.build import build
from ..proto.caffe_pb2 import TEST, TRAIN, Phase
from ..proto.npy import read_npz
from ..proto.text import read_net
from ..pycaffe.net import Net

OF = {  # kind of result -> of what, which part; the first three are what the net is given
    "in": ("blob", "data"), "param": ("parameter", "data"), "topdiff": ("blob", "diff"),
    "out": ("blob", "data"), "l2": ("blob", "data"), "param_after": ("parameter", "data"),
    "indiff": ("blob", "diff"), "paramdiff": ("parameter", "diff"), "grad_l2": ("parameter", "diff"),
    "grad_at": ("parameter", "diff")}
KINDS = tuple(OF)
PHASES = {"TRAIN": TRAIN, "TEST": TEST}
BACKWARD = ("indiff", "paramdiff", "grad_l2", "grad_at")
Parts = Mapping[str, Mapping[str, np.ndarray]]  # kind -> name -> array


class Row(NamedTuple):
    """One comparison: what, in whose layer, how far apart, whether that is too far."""

    key: str
    layer: str
    found: str
    verdict: str  # ok, DIFFERS, SHAPE, MISSING


@dataclass
class Comparison:
    """Rows in the order in which a pass meets them.

    unchecked: blobs of the net that the results do not have. remark: on a file of weights that does not fit.
    """

    rows: list[Row]
    unchecked: list[str]
    remark: str

    @property
    def first(self) -> Row | None:
        """The first row that is out of tolerance: everything behind it may only follow from it."""
        return next((row for row in self.rows if row.verdict != "ok"), None)

    def table(self) -> str:
        return table(self.rows, ["what", "layer", "difference", ""])


def compare(path: Path, results: Mapping[str, np.ndarray], weights_path: Path | None = None,
            phase: Phase = TEST, rtol: float = 1e-4, atol: float = 1e-5) -> Comparison:
    """Run a net on the inputs that `results` hold and compare what comes out with the rest of `results`.

    results: arrays by `in:BLOB`, `param:LAYER:I`, `topdiff:BLOB`, `out:BLOB`, `param_after:LAYER:I`,
    `indiff:BLOB`, `paramdiff:LAYER:I`, and in short for large nets `l2:BLOB`, `grad_l2:LAYER:I` (norms) and
    `grad_at:LAYER:I` (two rows: flat indices, gradients there); `phase` says TRAIN or TEST. weights_path: a
    file for parameters that the results do not hold. Two numbers agree if |ours - theirs| <= atol + rtol
    max(|theirs|, root mean square of their blob): sums that cancel to nearly nothing are no better than what
    was summed. Raises Error for results that do not fit the net's inputs or parameters.
    """
    parts: dict[str, dict[str, np.ndarray]] = {kind: {} for kind in KINDS}
    for key, value in results.items():
        kind, _, name = key.partition(":")
        if key == "phase":
            if str(value) not in PHASES:
                raise Error(f"the results say phase '{value}', expected TRAIN or TEST")
            phase = PHASES[str(value)]
        elif kind not in parts or not name:
            known = ", ".join(f"{kind}:" for kind in KINDS)
            raise Error(f"the results hold '{key}'; known are phase and NAME behind {known}")
        else:
            parts[kind][name] = value
    built, remark = _built(path, phase, parts), ""
    if weights_path:
        loaded = weights.load(weights_path, built.layers_with_params())
        if loaded.ignored or loaded.missing:
            remark = f"{weights_path}:\n{loaded.table()}\n"
    net = Net.of(built)
    _set(net, parts, weights_path is not None)

    def compared(*kinds: str) -> list[Row]:
        return [_row(net, kind, name, value, rtol, atol)
                for kind in kinds for name, value in parts[kind].items()]

    net.forward()
    order = {name: i for i, name in enumerate(net.blobs)}
    rows = sorted(compared("out", "l2", "param_after"),
                  key=lambda row: order.get(row.key.partition(":")[2], len(order)))
    unfit = [name for name, diff in parts["topdiff"].items()
             if name not in net.blobs or net.blobs[name].shape != diff.shape]
    rows += [_row(net, "topdiff", name, parts["topdiff"][name], rtol, atol) for name in unfit]
    if any(parts[kind] for kind in BACKWARD) and not unfit:
        for name, diff in parts["topdiff"].items():
            net.blobs[name].diff[...] = diff
        net.backward()
        place = {name: -i for i, name in enumerate(net.top_names)}
        rows += sorted(compared(*BACKWARD), key=lambda row: place.get(row.layer, 1))
    seen = {name for kind in ("in", "out", "l2") for name in parts[kind]}
    return Comparison(rows, [blob for blob in net.blobs if blob not in seen], remark)


def _built(path: Path, phase: Phase, parts: Parts) -> module.Net:
    """The net for inputs of the results' shapes, with gradients wherever the results have some."""
    param, shapes = read_net(path), {name: value.shape for name, value in parts["in"].items()}
    made = build(param, phase, level=0, path=path, shapes=shapes)
    frozen = {f"{slot.layer}:{slot.index}" for slot in made.params if not slot.lr_mult}
    unasked = any(np.any(value) for kind in ("paramdiff", "grad_l2") for key, value in parts[kind].items()
                  if key in frozen)
    if unasked or set(parts["indiff"]) & set(made.inputs):
        param.force_backward = True  # as it must have been there
        made = build(param, phase, level=0, path=path, shapes=shapes)
    return module.Net(made)


def _set(net: Net, parts: Parts, loaded: bool) -> None:
    """Give a net the inputs and parameters of the results; `loaded`: it has others from a file."""
    for name, value in parts["in"].items():
        net.blobs[name].data[...] = value
    own = {f"{layer}:{i}": blob for layer, blobs in net.params.items() for i, blob in enumerate(blobs)}
    for name, value in parts["param"].items():
        if name not in own:
            raise Error(f"the results hold '{name}', which the net does not have{closest(name, own)}")
        if own[name].shape != value.shape:
            raise Error(f"'{name}' has shape {list(value.shape)} in the results and {list(own[name].shape)} "
                        "in the net")
        own[name].data[...] = value
    absent = [name for name in own if name not in parts["param"]]
    if absent and not loaded:
        raise Error(f"the results lack param:{absent[0]} and {len(absent) - 1} more parameters; give "
                    "--weights, the file that the other program had loaded")


def _row(net: Net, kind: str, name: str, theirs: np.ndarray, rtol: float, atol: float) -> Row:
    """What the results say under KIND:NAME against what the net has there."""
    of, part = OF[kind]
    if of == "blob":
        layer = {top: layer for layer, tops in net.top_names.items() for top in tops}.get(name, "-")
        blobs, index = [net.blobs[name]] if name in net.blobs else [], "0"
    else:
        layer, _, index = name.rpartition(":")
        blobs = net.params.get(layer, [])
    key = f"{kind}:{name}"
    if not index.isdecimal() or int(index) >= len(blobs):
        return Row(key, layer, "the net has none", "MISSING")
    ours = getattr(blobs[int(index)], part)
    if kind in ("l2", "grad_l2"):
        ours = np.linalg.norm(ours.astype(np.float64))
    elif kind == "grad_at":
        at, theirs = theirs
        ours = ours.ravel()[at.astype(int)]
    if np.shape(ours) != np.shape(theirs):
        shapes = f"{list(np.shape(ours))} here, {list(np.shape(theirs))} in the results"
        return Row(key, layer, shapes, "SHAPE")
    return Row(key, layer, *_apart(np.asarray(ours, np.float64), np.asarray(theirs, np.float64), rtol, atol))


def _apart(ours: np.ndarray, theirs: np.ndarray, rtol: float, atol: float) -> tuple[str, str]:
    """How far apart, and ok or DIFFERS."""
    if not ours.size:
        return "nothing in it", "ok"
    equal = (ours == theirs) | np.isnan(ours) & np.isnan(theirs)
    size = np.nan_to_num(np.abs(theirs), posinf=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        apart = np.where(equal, 0, np.nan_to_num(np.abs(ours - theirs), nan=np.inf, posinf=np.inf))
        relative = np.where(equal, 0, apart / size)
    wrong = apart > atol + rtol * np.maximum(size, np.sqrt(np.mean(np.square(size))))
    if not wrong.any():
        return f"max {apart.max():.2g}", "ok"
    at = np.unravel_index(np.argmax(np.where(wrong, apart, -1)), ours.shape)
    return (f"max {apart.max():.2g}, relative {relative.max():.2g}, {np.mean(wrong):.0%} of it; at "
            f"{[int(i) for i in at]} {ours[at]:.6g} here, {theirs[at]:.6g} in the results"), "DIFFERS"


def read_results(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file; Error if it is something else."""
    try:
        return read_npz(path)
    except (OSError, ValueError) as e:
        raise Error(f"{path}: cannot be read as .npz ({e})") from None
