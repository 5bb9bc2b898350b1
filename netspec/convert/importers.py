"""Brings weights that other frameworks trained into Caffe's layers, layout and input convention."""

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ..base.errors import Error, closest
from ..base.files import find
from ..base.table import table
from ..proto import hdf5 as hdf5file
from ..proto.model import write_weights
from ..proto.wire import is_hdf5

MEAN_BGR = (104.00699, 116.66877, 122.67892)  # Caffe's of ILSVRC, which the nets here subtract


class Row(NamedTuple):
    """A layer under its three names; kernel 0: fully connected."""

    caffe: str
    keras: str
    torch: str
    kernel: int = 0


class Input(NamedTuple):
    """What a net was trained on: pixels in 0..255 in this order, minus `mean`, over `scale`."""

    order: str
    mean: Sequence[float]
    scale: Sequence[float] = (1, 1, 1)


class Found(NamedTuple):
    """A layer as a file has it."""

    name: str
    weight: np.ndarray
    bias: np.ndarray


class Layer(NamedTuple):
    """An imported layer: Caffe's name and type, the name it had, its weight and bias in Caffe's layout."""

    name: str
    type: str
    source: str
    blobs: list[np.ndarray]


def _vgg(*convolutions: int) -> tuple[Row, ...]:
    """A VGG net with so many 3x3 convolutions in each block, from the image up."""
    rows, index = [], 0
    for block, count in enumerate(convolutions, 1):
        for i in range(1, count + 1):
            rows.append(Row(f"conv{block}_{i}", f"block{block}_conv{i}", f"features.{index}", 3))
            index += 2  # a ReLU follows each
        index += 1  # the pooling
    dense = (("fc6", "fc1", 0), ("fc7", "fc2", 3), ("fc8", "predictions", 6))
    return (*rows, *(Row(caffe, keras, f"classifier.{i}") for caffe, keras, i in dense))


NETS = {"vgg16": _vgg(2, 2, 3, 3, 3), "vgg19": _vgg(2, 2, 4, 4, 4)}
INPUTS = {
    "bgr": Input("BGR", MEAN_BGR),
    "rgb": Input("RGB", MEAN_BGR[::-1]),
    "torchvision": Input("RGB", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
}


def import_weights(
    path: str | os.PathLike, net: str = "vgg16", input: str | None = None
) -> dict[str, list[np.ndarray]]:
    """The weight and bias of each layer of `net`, float32, for BGR input in 0..255 minus MEAN_BGR.

    Reads Keras HDF5 (old files and .weights.h5) and torchvision's state dicts (.pth, .safetensors), told apart
    by content. `input` (of INPUTS) is what the file's net was trained on; None: "bgr" for Keras, "torchvision"
    for torch. The fold into the first convolution is exact but at the border, where zero padding stands for
    MEAN_BGR instead of the file's mean (0.5 to 1 grey levels apart for torchvision).
    Convolutions are O x I x H x W, fully connected layers O x I with the inputs in the order C, H, W; fully
    connected layers that are absent or not finite are left out. Raises Error for files that are not of this net.
    """
    return {layer.name: layer.blobs for layer in _layers(path, net, input)}


def convert(
    path: str | os.PathLike, out: str | os.PathLike, net: str = "vgg16", input: str | None = None
) -> str:
    """Imports `path` and writes a .caffemodel (or .h5, by the name); returns a table with a line a layer."""
    layers = _layers(path, net, input)
    contents = {layer.name: (layer.type, layer.blobs) for layer in layers}
    write_weights(out, net, contents, hdf5=str(out).endswith(".h5"))
    rows = [(x.name, x.source, " + ".join("x".join(map(str, b.shape)) for b in x.blobs)) for x in layers]
    rows += [(row.caffe, "(not in the file)", "") for row in NETS[net] if row.caffe not in contents]
    return table(rows)


def _layers(path: str | os.PathLike, net: str, input: str | None) -> list[Layer]:
    for kind, word, known in (("net", net, NETS), ("input", input or "bgr", INPUTS)):
        if word not in known:
            raise Error(f"{kind} '{word}' is not known (there are {', '.join(known)}){closest(word, known)}")
    path, rows = find(path), NETS[net]
    keras = is_hdf5(path)
    found = _keras(path, rows) if keras else _torch(path, rows)
    layers: list[Layer] = []
    channels = 3
    for row in rows:
        if row.caffe in found:
            flat = bool(layers) and layers[-1].type == "InnerProduct"
            layer = _in_caffes_layout(path, row, found[row.caffe], channels, flat, keras)
            layers.append(layer)
            channels = len(layer.blobs[0])
        elif row.kernel:
            raise Error(
                f"{path}: lacks {row.caffe} of {net}, sought as '{row.keras if keras else row.torch}'; is the "
                "file of another net?"
            )
    layers[0] = _refed(layers[0], INPUTS[input or ("bgr" if keras else "torchvision")])
    return layers


def _in_caffes_layout(path: Path, row: Row, found: Found, channels: int, flat: bool, keras: bool) -> Layer:
    """One layer as Caffe has it; Error unless it takes in `channels` maps (or, `flat`, numbers)."""
    weight, bias = found.weight, found.bias
    kind = "Convolution" if row.kernel else "InnerProduct"
    error = Error(
        f"{path}: '{found.name}' has a weight of {list(weight.shape)} and a bias of {list(bias.shape)}, where "
        f"{row.caffe} is {f'a {row.kernel}x{row.kernel}' if row.kernel else 'an'} {kind} of {channels} inputs"
    )
    if weight.ndim != (4 if row.kernel else 2) or bias.ndim != 1:
        raise error
    if keras:
        weight = weight.transpose(3, 2, 0, 1) if row.kernel else weight.T
    side = 1
    if not row.kernel and not flat:
        side = math.isqrt(weight.shape[1] // channels)
        if keras and weight.shape[1] == channels * side**2:  # its inputs are in the order H, W, C
            weight = weight.reshape(-1, side, side, channels).transpose(0, 3, 1, 2).reshape(weight.shape)
    if weight.shape != (len(bias), channels * side**2, *[row.kernel] * (weight.ndim - 2)):
        raise error
    return Layer(row.caffe, kind, found.name, [np.ascontiguousarray(x, np.float32) for x in (weight, bias)])


def _refed(layer: Layer, old: Input) -> Layer:
    """The first layer for BGR minus MEAN_BGR, from one for (pixel - mean) / scale."""
    weight, bias = (blob.astype(np.float64) for blob in layer.blobs)
    weight /= np.reshape(old.scale, (3, 1, 1))
    new_mean = np.array(MEAN_BGR if old.order == "BGR" else MEAN_BGR[::-1])
    bias += np.einsum("oihw,i->o", weight, new_mean - old.mean)
    weight = weight if old.order == "BGR" else weight[:, ::-1]
    return layer._replace(blobs=[np.ascontiguousarray(x, np.float32) for x in (weight, bias)])


def _usable(path: Path, found: Mapping[str, Found], rows: Sequence[Row]) -> dict[str, Found]:
    """Without the fully connected layers that hold NaN (files of features only); Error for such convolutions."""
    bad = {row for row in rows if row.caffe in found and not np.isfinite(found[row.caffe].weight).all()}
    for row in bad:
        if row.kernel:
            raise Error(f"{path}: the weight of '{found[row.caffe].name}' is not finite; the file is damaged")
    return {name: layer for name, layer in found.items() if name not in {row.caffe for row in bad}}


def _keras(path: Path, rows: Sequence[Row]) -> dict[str, Found]:
    """The layers in a Keras file: by name (the group's, or its attribute `name` in .weights.h5), else by order.

    Keras 3 names the groups by class and number (conv2d_1), and its first versions wrote no other name.
    """
    groups: dict[str, dict[int, np.ndarray]] = {}
    names: dict[str, list[str]] = {}

    def visit(name: str, item: Any) -> None:
        group = name.rpartition("/")[0]
        if hasattr(item, "keys") or "optimizer" in name or item.ndim not in (1, 2, 4):
            return
        groups.setdefault(group, {})[item.ndim] = hdf5file.array(item)
        words = group.removesuffix("/vars").rpartition("/")[2], item.parent.attrs.get("name")
        names[group] = [word for word in words if isinstance(word, str)]

    with hdf5file.reading(path) as file:
        file.visititems(visit)
    layers = [
        (names[group], Found(group, blobs[max(blobs)], blobs[1]))
        for group, blobs in sorted(groups.items(), key=lambda item: _natural(item[0]))
        if 1 in blobs and len(blobs) == 2
    ]
    found = {
        row.caffe: layer
        for row in rows
        for words, layer in layers
        if row.keras in words or row.caffe in words
    }
    if not any(row.kernel and row.caffe in found for row in rows):
        for ndim in (4, 2):
            wanted = [row for row in rows if bool(row.kernel) == (ndim == 4)]
            kernel = (wanted[0].kernel,) * 2 if ndim == 4 else ()
            there = [x for _, x in layers if x.weight.ndim == ndim and x.weight.shape[: ndim - 2] == kernel]
            if len(there) == len(wanted):
                found.update({row.caffe: layer for row, layer in zip(wanted, there, strict=True)})
    return _usable(path, found, rows)


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorts conv2d, conv2d_2, conv2d_10 in this order."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _torch(path: Path, rows: Sequence[Row]) -> dict[str, Found]:
    """The layers in a torch file or a .safetensors."""
    state = tensors(path)
    found = {}
    for row in rows:
        weight, bias = state.get(f"{row.torch}.weight"), state.get(f"{row.torch}.bias")
        if weight is not None and bias is not None:
            found[row.caffe] = Found(row.torch, weight.float().numpy(), bias.float().numpy())
    return _usable(path, found, rows)


def tensors(path: Path) -> dict[str, torch.Tensor]:
    """What a state dict in a torch file or a .safetensors holds; Error for anything else."""
    state = _safetensors(path) or _state_dict(path)
    return {key.removeprefix("module."): tensor for key, tensor in state.items()}


def _state_dict(path: Path) -> dict[str, torch.Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as problem:  # whatever a damaged or foreign file makes of unpickling
        reason = str(problem).partition(". ")[0].partition("\n")[0] or type(problem).__name__  # torch's advice: load unsafely
        raise Error(f"{path}: is neither Keras HDF5 nor a state dict that torch loads safely ({reason}); of a whole pickled "
                    "model, save the state_dict()") from None
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    if not isinstance(state, Mapping):
        raise Error(f"{path}: holds a {type(state).__name__} where a state dict belongs")
    return {str(key): value for key, value in state.items() if isinstance(value, torch.Tensor)}


def _safetensors(path: Path) -> dict[str, torch.Tensor] | None:
    """The tensors of a .safetensors file; None where the file is no such file."""
    with open(path, "rb") as file:
        head = file.read(9)
    length = int.from_bytes(head[:8], "little")
    if len(head) < 9 or head[8:] != b"{" or length > path.stat().st_size - 8:
        return None
    data = np.memmap(path, np.uint8, "c")
    try:
        header = json.loads(bytes(data[8 : 8 + length]))
        kinds = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "F64": torch.float64}
        tensors = {}
        for name, entry in header.items():
            if name != "__metadata__" and entry["dtype"] in kinds:
                begin, end = entry["data_offsets"]
                content = torch.from_numpy(np.array(data[8 + length + begin : 8 + length + end]))
                tensors[name] = content.view(kinds[entry["dtype"]]).reshape(entry["shape"])
        return tensors
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as problem:
        raise Error(f"{path}: is a damaged .safetensors file ({problem}); get it again") from None
