"""Caffe's binary files: .caffemodel, .solverstate and .binaryproto, in and out, without a net."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from ..base.errors import Error
from ..base.files import writing
from . import wire
from .caffe_pb2 import (
    BlobProto,
    BlobShape,
    LayerParameter,
    NetParameter,
    SolverState,
    V0LayerParameter,
    V1LayerParameter,
)
from .hdf5 import array, create_text, creating, member, one_text, taken, walk
from .upgrade import upgrade_net
from .wire import Field, WireFile

Blobs = list[np.ndarray | None]  # of a layer; None: it is another layer's, which shares it
Check = Callable[[str, int, Sequence[int]], Any]  # of a layer's name, the blob's number and its shape
# What is written of each layer: its settings, or its type alone, and its blobs
Layers = Mapping[str, tuple[str | LayerParameter, Sequence[Any]]]

_BLOBS = LayerParameter.BLOBS_FIELD_NUMBER
# A layer in the net, in two generations of the format, and in the first, which lies inside the second's
_LAYER, _LAYERS = NetParameter.LAYER_FIELD_NUMBER, NetParameter.LAYERS_FIELD_NUMBER
_INNER = V1LayerParameter.LAYER_FIELD_NUMBER
_C3D = {"ArgMax": "Convolution3D", "Threshold": "Pooling3D", "Slice": "VideoData", "MVN": "Deconvolution3D"}


def read_net(path: str | os.PathLike) -> NetParameter:
    """The net in a .caffemodel, upgraded; its blobs hold the numbers that `read_weights` gives.

    Of a fork whose settings this schema cannot be right about (C3D's first release, or what no message fits),
    layers have their names, types, bottoms, tops and blobs alone. Raises Error.
    """
    file = WireFile(path, "weights")
    layers = _weights(file)  # refuses what is damaged or impossible
    try:
        net = NetParameter.FromString(file.data[:])
        bare = file.shifted or not net.IsInitialized()  # Clip's fields, which are required
    except DecodeError:
        bare = True
    net = _bare(file) if bare else net
    upgrade_net(net, str(path))
    for layer in net.layer:
        if file.shifted:
            layer.type = _C3D.get(layer.type, layer.type)
        if bare or any(blob.HasField("raw_data") for blob in layer.blobs):
            del layer.blobs[:]
            layer.blobs.extend(BlobProto(data=blob.ravel(), shape=BlobShape(dim=blob.shape))
                               for blob in layers[layer.name] if blob is not None)
    return net


def _bare(file: WireFile) -> NetParameter:
    """The net in a file with the name, type, bottoms and tops of each layer alone."""
    net = NetParameter()
    for part in file.fields():
        if part.number not in (_LAYER, _LAYERS):
            continue
        layer: Any = (net.layer if part.number == _LAYER else net.layers).add()
        kept = {layer.DESCRIPTOR.fields_by_name[name].number for name in ("name", "type", "bottom", "top")}
        for each in file.fields(part.start, part.end):
            if each.number in kept:
                content, key = file.data[each.start : each.end], wire.varint(each.number << 3 | each.wire)
                size = wire.varint(len(content)) if each.wire == wire.BYTES else b""
                layer.MergeFromString(key + size + content)
    return net


def read_weights(path: str | os.PathLike, check: Check | None = None) -> dict[str, Blobs]:
    """The blobs of each layer in a .caffemodel (V0, V1 or V2) or .caffemodel.h5, told apart by content.

    Arrays of a .caffemodel are read-only views of the file, float32 (float64 for doubles), with the axes
    as stored (four in old files); `copy` takes them as they are, np.array(blob) makes one to change. Nobody
    may overwrite the file in place while they live. Layers without parameters have []; a blob that an .h5
    leaves out because the layer shares it is None. `check` is told of each blob of a .caffemodel before its
    numbers are counted, and may raise. Raises Error for files that are damaged or of another kind.
    """
    if wire.is_hdf5(path):
        return taken(path, _weights_of_hdf5)
    return _weights(WireFile(path, "weights"), check)


def _weights(file: WireFile, check: Check | None = None) -> dict[str, Blobs]:
    layers: dict[str, Blobs] = {}
    for part in file.fields():
        if part.number not in (_LAYER, _LAYERS):
            continue
        name, fields = _layer(file, part, LayerParameter if part.number == _LAYER else V1LayerParameter)
        blobs: Blobs = []
        for i, blob in enumerate(fields):
            told = partial(check, name, i) if check else None
            blobs.append(file.blob(blob, f"blob {i} of layer '{name}'", told))
        if blobs or name not in layers:  # a TRAIN and a TEST layer can share a name; Caffe takes the last
            layers[name] = blobs
    return layers


def write_weights(path: str | os.PathLike, net_name: str, layers: Layers, hdf5: bool = False) -> None:
    """Writes layer name -> (settings, blobs), blobs being arrays or tensors, as Caffe's V2 binary file or as
    HDF5, which has no settings.

    Blob by blob, so that no second copy of the model is made; byte for byte what Caffe writes. Raises Error
    for a binary file above 2 GiB, which Caffe could not read.
    """
    if hdf5:
        _write_weights_hdf5(path, layers)
        return
    parts, size = [], 0
    for name, (settings, blobs) in layers.items():
        if isinstance(settings, str):
            settings = LayerParameter(name=name, type=settings)
        head, tail = _around(settings)
        length = len(head) + sum(wire.blob_size(_BLOBS, blob.shape) for blob in blobs) + len(tail)
        parts.append((wire.delimited(_LAYER, length) + head, blobs, tail))
        size += length
    if size > wire.MOST_NUMBERS:
        raise Error(f"{path}: {size} bytes are more than a binary file can have (2 GiB); write HDF5 instead")
    with writing(path) as file:
        file.write(NetParameter(name=net_name).SerializeToString())
        for head, blobs, tail in parts:
            file.write(head)
            for blob in blobs:
                wire.write_blob(file, _BLOBS, blob)
            file.write(tail)


@dataclass
class State:
    """What a .solverstate holds; `history` has the solver's blobs (arrays or tensors) in Caffe's order."""

    iteration: int = 0
    learned_net: str = ""
    history: Sequence[Any] = field(default_factory=list)
    current_step: int = 0


def read_state(path: str | os.PathLike) -> State:
    """A .solverstate or .solverstate.h5. Raises Error for files that are damaged or of another kind."""
    if wire.is_hdf5(path):
        return taken(path, _state_of_hdf5)
    file = WireFile(path, "state")
    history: list[np.ndarray] = []
    state = State(history=history)
    for part in file.fields():
        if part.number == SolverState.ITER_FIELD_NUMBER:
            state.iteration = file.integer(part)
        elif part.number == SolverState.LEARNED_NET_FIELD_NUMBER:
            state.learned_net = file.text(part)
        elif part.number == SolverState.HISTORY_FIELD_NUMBER:
            history.append(file.blob(part))
        elif part.number == SolverState.CURRENT_STEP_FIELD_NUMBER:
            state.current_step = file.integer(part)
    return state


def write_state(path: str | os.PathLike, *, iteration: int, learned_net: str, history: Sequence[Any],
                current_step: int = 0, hdf5: bool = False) -> None:
    """Writes what Caffe's solver restores; see State."""
    if hdf5:
        with creating(path) as file:
            file.create_dataset("iter", data=np.array([iteration], np.int32))
            file.create_dataset("current_step", data=np.array([current_step], np.int32))
            create_text(file, "learned_net", learned_net)
            group = file.create_group("history")
            for i, blob in enumerate(history):
                group.create_dataset(str(i), data=wire.floats(blob).reshape(blob.shape))
        return
    with writing(path) as file:
        file.write(SolverState(iter=iteration, learned_net=learned_net).SerializeToString())
        for blob in history:
            wire.write_blob(file, SolverState.HISTORY_FIELD_NUMBER, blob)
        file.write(SolverState(current_step=current_step).SerializeToString())


def read_mean(path: str | os.PathLike) -> np.ndarray:
    """The mean in a .binaryproto, float32, the axes as stored (usually 1 x 3 x H x W, BGR, 0..255)."""
    file = WireFile(path, "blob")
    return np.array(file.blob(Field(0, wire.BYTES, 0, 0, file.end)), np.float32)


def same_shape(blob: Sequence[int], shape: Sequence[int]) -> bool:
    """Caffe's ShapeEquals: whether a file's blob has this shape; old files have four axes (C3D's: five), ones
    in front."""
    blob, shape = tuple(blob), tuple(shape)
    return blob == shape or len(blob) in (4, 5) and blob == (1,) * (len(blob) - len(shape)) + shape


def _layer(file: WireFile, field: Field, message: Any) -> tuple[str, list[Field]]:
    """The name of a layer (of one of the three generations' messages) and where its blobs are."""
    file.expect(field, wire.BYTES)
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


def _around(layer: LayerParameter) -> tuple[bytes, bytes]:
    """What is written of a layer before its blobs and behind them: fields go by their numbers."""
    before = {field.name: value for field, value in layer.ListFields() if field.number < _BLOBS}
    behind = LayerParameter()
    behind.CopyFrom(layer)
    for name in ("blobs", *before):
        behind.ClearField(name)
    return LayerParameter(**before).SerializeToString(), behind.SerializeToString()


def _weights_of_hdf5(file: Any) -> dict[str, Blobs]:
    layers: dict[str, Blobs] = {}
    if not hasattr(data := member(file, "data"), "keys"):
        raise Error(f"{file.filename}: is an HDF5 file without the group 'data' of Caffe's weights; for "
                    "Keras weights use 'netspec convert weights'")
    for name, item in walk(data):
        if hasattr(item, "keys"):
            if not len(item):
                layers[name] = []
            continue
        layer, _, index = name.rpartition("/")
        if not layer or not re.fullmatch(r"\d{1,2}", index):
            raise Error(f"{file.filename}: holds data/{name}, where Caffe writes data/LAYER/0, 1, ...")
        blobs = layers.setdefault(layer, [])
        blobs += [None] * (int(index) + 1 - len(blobs))
        blobs[int(index)] = array(item)
    return layers


def _state_of_hdf5(file: Any) -> State:
    if "iter" not in file or "history" not in file:
        raise Error(f"{file.filename}: is an HDF5 file without the 'iter' and 'history' of a solver state")
    parts = dict(walk(file))
    counts = [array(parts[name], "<i4").reshape(-1)[0] for name in ("iter", "current_step")]
    net = one_text(parts["learned_net"]) if "learned_net" in parts else ""
    blobs = [array(parts[f"history/{i}"]) for i in range(len(parts["history"]))]
    return State(int(counts[0]), net, blobs, int(counts[1]))


def _write_weights_hdf5(path: str | os.PathLike, layers: Layers) -> None:
    with creating(path) as file:
        data = file.create_group("data")
        for name, (_, blobs) in layers.items():
            for i, blob in enumerate(blobs):
                data.create_dataset(f"{name}/{i}", data=wire.floats(blob).reshape(blob.shape))
        for name in layers:  # Caffe's empty group of each other layer, unless HDF5 has no place for its name
            with suppress(ValueError, TypeError):
                data.require_group(name)
