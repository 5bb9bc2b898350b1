"""Weights, solver states and means in Caffe's files, and the copying of weights into a net by layer name."""

import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch

from ..base.errors import Error, closest
from ..base.files import writing
from ..proto import hdf5 as hdf5file
from ..proto.caffe_pb2 import LayerParameter, NetParameter, SolverState, V0LayerParameter, V1LayerParameter
from ..proto.wire import (
    BYTES,
    MOST_NUMBERS,
    Field,
    WireFile,
    blob_size,
    delimited,
    floats,
    is_hdf5,
    varint,
    write_blob,
)

Blobs = list[np.ndarray]
BLOBS = LayerParameter.BLOBS_FIELD_NUMBER
AUTOMATIC = " (automatic)"  # what the name of a top ends in that a loss has in its graph alone
_ROWS = 1 << 23  # numbers copied at a time

# What a layer is in the net, in the three generations of the format; a V0 layer lies inside a V1 layer.
_LAYER, _LAYERS, _INNER = (
    NetParameter.LAYER_FIELD_NUMBER,
    NetParameter.LAYERS_FIELD_NUMBER,
    V1LayerParameter.LAYER_FIELD_NUMBER,
)


def read_weights(path: str | os.PathLike) -> dict[str, Blobs]:
    """The blobs of each layer in a .caffemodel (V0, V1 or V2) or .caffemodel.h5, told apart by content.

    Arrays of a .caffemodel are read-only views of the file, float32 (float64 for double_data), with the axes
    as stored (four in old files); `copy` takes them as they are, np.array(blob) makes one to change. Nobody
    may overwrite the file in place while they live. Layers without parameters have []; a blob that an .h5
    leaves out because the layer shares it is None.
    Raises Error for files that are damaged or of another kind.
    """
    return _read(path, {})


def write_weights(
    path: str | os.PathLike,
    net_name: str,
    layers: Mapping[str, tuple[str | LayerParameter, Sequence[Any]]],
    hdf5: bool = False,
) -> None:
    """Writes layer name -> (type or whole settings, blobs), blobs being arrays or tensors, as Caffe's V2 binary file or
    HDF5, which has no settings.

    Blob by blob, so that no second copy of the model is made; byte for byte what Caffe writes. Raises Error for a binary
    file above 2 GiB, which Caffe could not read.
    """
    if hdf5:
        with hdf5file.creating(path) as file:
            data = file.create_group("data")
            for name, (_, blobs) in layers.items():
                for i, blob in enumerate(blobs):
                    data.create_dataset(f"{name}/{i}", data=floats(blob).reshape(blob.shape))
            for name in layers:  # an empty group for each other layer, as Caffe, unless HDF5 has no place for its name
                with suppress(ValueError, TypeError):
                    data.require_group(name)
        return
    around = {}
    size = 0
    for name, (kind, blobs) in layers.items():
        head, tail = _around(LayerParameter(name=name, type=kind) if isinstance(kind, str) else kind)
        length = len(head) + sum(blob_size(BLOBS, blob.shape) for blob in blobs) + len(tail)
        around[name] = delimited(_LAYER, length) + head, tail
        size += length
    if size > MOST_NUMBERS:
        raise Error(f"{path}: {size} bytes are more than a binary file can have (2 GiB); write HDF5 instead")
    with writing(path) as file:
        file.write(_text(NetParameter.NAME_FIELD_NUMBER, net_name))
        for name, (_, blobs) in layers.items():
            file.write(around[name][0])
            for blob in blobs:
                write_blob(file, BLOBS, blob)
            file.write(around[name][1])


def _around(layer: LayerParameter) -> tuple[bytes, bytes]:
    """What is written of a layer before its blobs and behind them: fields go by their numbers."""
    parts = LayerParameter(), LayerParameter()
    for part, behind in zip(parts, (False, True), strict=True):
        part.CopyFrom(layer)
        for known, _ in part.ListFields():
            if known.number == BLOBS or (known.number > BLOBS) != behind:
                part.ClearField(known.name)
    return parts[0].SerializeToString(), parts[1].SerializeToString()


def layers_of(net: Any) -> dict[str, tuple[LayerParameter, Blobs]]:
    """Settings and blobs of each layer of a compiler.Net, as `write_weights` takes them; the phase is the net's where a
    layer has none, and tops that only the graph knows are left out."""
    params, phase = net.layers_with_params(), LayerParameter(phase=net.graph.phase)
    found = {}
    for node in net.graph.layers:
        settings = LayerParameter()
        settings.CopyFrom(phase)
        settings.MergeFrom(node.op.layer)
        if node.op.loss and not settings.loss_weight:  # LossLayer::LayerSetUp
            settings.loss_weight.append(1)
        if settings.top and settings.top[-1].endswith(AUTOMATIC):
            del settings.top[-1]
        found[node.name] = settings, [blob.detach().cpu().numpy() for blob in params.get(node.name, ())]
    return found


def save(path: str | os.PathLike, net: Any, hdf5: bool = False) -> None:
    """The weights of a compiler.Net as a .caffemodel (or .caffemodel.h5)."""
    write_weights(path, net.graph.name, layers_of(net), hdf5=hdf5)


@dataclass
class State:
    """What a .solverstate holds; `history` has the solver's blobs (arrays or tensors) in Caffe's order."""

    iteration: int = 0
    learned_net: str = ""
    history: Sequence[Any] = field(default_factory=list)
    current_step: int = 0


def read_state(path: str | os.PathLike) -> State:
    """A .solverstate or .solverstate.h5. Raises Error for files that are damaged or of another kind."""
    if is_hdf5(path):
        return _read_state_hdf5(path)
    file = WireFile(path, "state")
    state = State(history=[])
    for part in file.fields():
        if part.number == SolverState.ITER_FIELD_NUMBER:
            state.iteration = file.integer(part)
        elif part.number == SolverState.LEARNED_NET_FIELD_NUMBER:
            state.learned_net = file.text(part)
        elif part.number == SolverState.HISTORY_FIELD_NUMBER:
            state.history.append(file.blob(part))
        elif part.number == SolverState.CURRENT_STEP_FIELD_NUMBER:
            state.current_step = file.integer(part)
    return state


def write_state(
    path: str | os.PathLike,
    *,
    iteration: int,
    learned_net: str,
    history: Sequence[Any],
    current_step: int = 0,
    hdf5: bool = False,
) -> None:
    """Writes what Caffe's solver restores; see State."""
    if hdf5:
        with hdf5file.creating(path) as file:
            file.create_dataset("iter", data=np.array([iteration], np.int32))
            file.create_dataset("current_step", data=np.array([current_step], np.int32))
            hdf5file.create_text(file, "learned_net", learned_net)
            group = file.create_group("history")
            for i, blob in enumerate(history):
                group.create_dataset(str(i), data=floats(blob).reshape(blob.shape))
        return
    with writing(path) as file:
        file.write(varint(SolverState.ITER_FIELD_NUMBER << 3) + varint(iteration))
        file.write(_text(SolverState.LEARNED_NET_FIELD_NUMBER, learned_net))
        for blob in history:
            write_blob(file, SolverState.HISTORY_FIELD_NUMBER, blob)
        file.write(varint(SolverState.CURRENT_STEP_FIELD_NUMBER << 3) + varint(current_step))


def read_mean(path: str | os.PathLike) -> np.ndarray:
    """The mean in a .binaryproto, float32, the axes as stored (usually 1 x 3 x H x W, BGR, 0..255)."""
    file = WireFile(path, "blob")
    return np.array(file.blob(Field(0, BYTES, 0, 0, file.end)), np.float32)


@dataclass
class Report:
    """What `copy` did, by layer name; ignored are in the file only, missing in the net only."""

    copied: list[str] = field(default_factory=list)
    reshaped: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    shapes: dict[str, str] = field(default_factory=dict)

    def table(self) -> str:
        """One line a layer."""
        rows = [
            (name, what, self.shapes.get(name, ""))
            for what, names in (
                ("copied", self.copied),
                ("reshaped", self.reshaped),
                ("ignored (not in the net)", self.ignored),
                ("left at its filler (not in the file)", self.missing),
            )
            for name in names
        ]
        widths = [max((len(row[i]) for row in rows), default=0) for i in (0, 1)]
        return "\n".join(f"{a:{widths[0]}}  {b:{widths[1]}}  {c}".rstrip() for a, b, c in rows)


def load(
    path: str | os.PathLike, target: Mapping[str, Sequence[torch.nn.Parameter]], *, strict: bool = False
) -> Report:
    """`copy` straight from a file, which its errors name."""
    weights = _read(path, target)
    try:
        return copy(weights, target, strict=strict)
    except Error as problem:
        raise Error(f"{path}: {problem}") from None


def copy(
    weights: Mapping[str, Sequence[np.ndarray | None]],
    target: Mapping[str, Sequence[torch.nn.Parameter]],
    *,
    strict: bool = False,
) -> Report:
    """Copies blobs into the parameters of the layers with the same names, as Caffe's CopyTrainedLayersFrom.

    Beyond Caffe, a fully connected layer's weight N x K fits a convolution's N x C x kernel, and the other
    way round, where the numbers are as many. Raises Error, with nothing copied, if a shape or a number of
    blobs does not fit, or (strict) if a layer is on one side only.
    """
    report = Report()
    pairs: list[tuple[torch.nn.Parameter, np.ndarray]] = []
    seen: set[int] = set()
    for name, params in target.items():
        blobs = list(weights.get(name, ()))
        if name in weights:
            pairs += _fit(name, blobs, params, seen, report)
        elif any(id(param) not in seen for param in params):
            report.missing.append(name)
        if name not in weights:
            report.shapes[name] = _shapes(params)
        seen.update(map(id, params))
    for name, blobs in weights.items():
        if blobs and name not in target:
            report.ignored.append(name)
            report.shapes[name] = _shapes(blobs)
    if strict and (report.ignored or report.missing):
        sides = [f"{', '.join(report.ignored)} only in the weights"] if report.ignored else []
        sides += [f"{', '.join(report.missing)} only in the net"] if report.missing else []
        near = closest(report.missing[0], report.ignored) if report.missing else ""
        raise Error(f"strict: layers {' and '.join(sides)}{near}")
    for param, blob in pairs:
        _assign(param, blob)
    return report


def _fit(name: str, blobs: Blobs, params: Sequence[Any], seen: set[int], report: Report) -> Iterator[tuple]:
    """Yields (parameter, array of its shape) for one layer, and files the layer in the report."""
    blobs = blobs + [None] * (len(params) - len(blobs))
    if len(blobs) > len(params) or any(
        blob is None and id(param) not in seen for blob, param in zip(blobs, params, strict=True)
    ):
        found = sum(blob is not None for blob in blobs)
        raise Error(
            f"layer '{name}': the weights have {found} blobs {_shapes(blobs)}, the net has {len(params)} "
            f"{_shapes(params)}; rename the layer in the net to leave it at its filler"
        )
    reshaped = False
    for i, (blob, param) in enumerate(zip(blobs, params, strict=True)):
        if blob is None:  # shared with a layer that has it
            continue
        reshaped |= _reshaping(name, i, tuple(param.shape), blob.shape)
        yield param, blob.reshape(param.shape)
    (report.reshaped if reshaped else report.copied).append(name)
    arrow = f"{_shapes(blobs)} -> " if reshaped else ""
    report.shapes[name] = arrow + _shapes(params)


def _reshaping(name: str, i: int, shape: tuple[int, ...], blob: Sequence[int]) -> bool:
    """Whether blob `i` of layer `name` fits by the fully connected rule only; Error if it fits by none."""
    if tuple(blob) == shape or _equal_as_legacy(tuple(blob), shape):
        return False
    if i == 0 and _dense_and_convolution(tuple(blob), shape):
        return True
    raise Error(
        f"layer '{name}': blob {i} has shape {list(blob)} in the weights and {list(shape)} in the net; "
        "rename the layer in the net to learn it from its filler"
    )


def _equal_as_legacy(blob: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Caffe's ShapeEquals: the four axes of an old file count from the last."""
    return len(blob) == 4 and len(shape) <= 4 and (1,) * (4 - len(shape)) + shape == blob


def _dense_and_convolution(blob: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    if len(blob) == 4 and blob[:2] == (1, 1):  # an InnerProduct's weight in an old file
        blob = blob[2:]
    one_each = (len(blob) == 2) != (len(shape) == 2) and min(len(blob), len(shape)) == 2
    return one_each and blob[0] == shape[0] and math.prod(blob) == math.prod(shape)


def _assign(param: torch.nn.Parameter, blob: np.ndarray) -> None:
    """In pieces: the views of a mapped file are not aligned for torch, and a whole copy would cost memory."""
    with torch.no_grad():
        if not blob.ndim:
            param.fill_(float(blob))
            return
        step = max(1, _ROWS // max(1, math.prod(blob.shape[1:])))
        for row in range(0, len(blob), step):
            param[row : row + step].copy_(torch.from_numpy(np.array(blob[row : row + step])))


def _shapes(blobs: Sequence[Any]) -> str:
    return " + ".join("x".join(map(str, blob.shape)) or "1" for blob in blobs if blob is not None)


def _read(path: str | os.PathLike, target: Mapping[str, Sequence[Any]]) -> dict[str, Blobs]:
    """As `read_weights`; a shape that does not fit the target is refused before the numbers are counted."""
    if is_hdf5(path):
        return _read_weights_hdf5(path)
    file = WireFile(path, "weights")
    layers: dict[str, Blobs] = {}
    for part in file.fields():
        if part.number not in (_LAYER, _LAYERS):
            continue
        name, fields = _layer(file, part, LayerParameter if part.number == _LAYER else V1LayerParameter)
        shapes = [tuple(param.shape) for param in target.get(name, ())]
        blobs = []
        for i, blob in enumerate(fields):
            check = partial(_reshaping, name, i, shapes[i]) if i < len(shapes) else None
            blobs.append(file.blob(blob, f"blob {i} of layer '{name}'", check))
        if blobs or name not in layers:  # a TRAIN and a TEST layer can share a name; Caffe takes the last
            layers[name] = blobs
    return layers


def _layer(file: WireFile, field: Field, message: Any) -> tuple[str, list[Field]]:
    """The name of a layer (of one of the three generations' messages) and where its blobs are."""
    file.expect(field, BYTES)
    name, blobs = "", []
    for part in file.fields(field.start, field.end):
        if part.number == message.NAME_FIELD_NUMBER:
            name = file.text(part)
        elif part.number == message.BLOBS_FIELD_NUMBER:
            blobs.append(part)
        elif message is V1LayerParameter and part.number == _INNER:
            inner_name, inner_blobs = _layer(file, part, V0LayerParameter)
            name, blobs = inner_name or name, blobs + inner_blobs
    return name, blobs


def _text(number: int, text: str) -> bytes:
    raw = text.encode("utf-8")
    return delimited(number, len(raw)) + raw


def _read_weights_hdf5(path: str | os.PathLike) -> dict[str, Blobs]:
    layers: dict[str, Blobs] = {}
    with hdf5file.reading(path) as file:
        if not hasattr(file.get("data"), "keys"):
            raise Error(
                f"{path}: is an HDF5 file without the group 'data' of Caffe's weights; for Keras weights use "
                "'netspec convert weights'"
            )

        def visit(name: str, item: Any) -> None:
            if hasattr(item, "keys"):
                if not len(item):
                    layers[name] = []
                return
            layer, _, index = name.rpartition("/")
            if not layer or not re.fullmatch(r"\d{1,2}", index):
                raise Error(f"{path}: holds data/{name}, where Caffe writes data/LAYER/0, 1, ...")
            blobs = layers.setdefault(layer, [])
            blobs += [None] * (int(index) + 1 - len(blobs))
            blobs[int(index)] = hdf5file.array(item)

        file["data"].visititems(visit)
    return layers


def _read_state_hdf5(path: str | os.PathLike) -> State:
    with hdf5file.reading(path) as file:
        if "iter" not in file or "history" not in file:
            raise Error(f"{path}: is an HDF5 file without the 'iter' and 'history' of a solver state")
        counts = [hdf5file.array(file[name], "<i4").reshape(-1)[0] for name in ("iter", "current_step")]
        net = file["learned_net"][()] if "learned_net" in file else b""
        history = [hdf5file.array(file["history"][str(i)]) for i in range(len(file["history"]))]
        return State(
            int(counts[0]), net.decode() if isinstance(net, bytes) else str(net), history, int(counts[1])
        )
