"""Caffe's binary files: .caffemodel, .solverstate and .binaryproto, in and out, without a net."""

import math
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from ..base.errors import Error
from ..base.files import writing
from . import hdf5 as hdf5file
from .caffe_pb2 import LayerParameter, NetParameter, SolverState, V0LayerParameter, V1LayerParameter
from .wire import BYTES, MOST_NUMBERS, Field, WireFile, blob_size, delimited, floats, is_hdf5, varint, write_blob

Blobs = list[np.ndarray]
BLOBS = LayerParameter.BLOBS_FIELD_NUMBER


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
