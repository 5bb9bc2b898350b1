"""Brings weights that other frameworks trained into Caffe's layers, layout and input convention."""

import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..base.errors import Error, closest
from ..net import weights
from ..net.build import build
from ..net.module import Net
from ..proto import caffe_pb2
from ..proto.caffe_pb2 import NetParameter
from ..proto.spec import layers as L
from .readers import Stored, read_layers
from .trunks import ARCHITECTURES, FITTING, INPUTS, KERAS, MEAN_BGR, Input, Trunk

DENSE = {"fc6": "fc1", "fc7": "fc2", "fc8": "predictions"}  # Caffe's -> Keras'


class Row(NamedTuple):
    """A layer under its three names; kernel 0: fully connected."""

    caffe: str
    keras: str
    torch: str
    kernel: int


class Imported(NamedTuple):
    """An imported layer: Caffe's name and type, the name it had, its weight and bias in Caffe's layout."""

    name: str
    type: str
    source: str
    blobs: list[np.ndarray]


def import_layers(path: Path, net: str = "vgg16", input: str | None = None) -> list[Imported]:
    """The layers of `net` from the image up, float32, for BGR input in 0..255 minus MEAN_BGR.

    Reads Keras HDF5 (old files and .weights.h5) and torchvision's state dicts (.pth, .safetensors), told
    apart by content. `input` (of INPUTS) is what the file's net was trained on; None: "bgr" for Keras,
    "torchvision" for torch. The fold into the first convolution is exact but at the border, where zero
    padding stands for MEAN_BGR instead of the file's mean (0.5 to 1 grey levels apart for torchvision).
    Convolutions are O x I x H x W, fully connected layers O x I with the inputs in the order C, H, W; fully
    connected layers that are absent or not finite are left out. Raises Error for files of another net.
    """
    _check("net", net, FITTING)
    _check("input", input or "bgr", INPUTS)
    rows = rows_of(net)
    stored, keras = read_layers(path)
    found = matched(stored, rows, keras)
    layers: list[Imported] = []
    for row in rows:
        layer = found.get(row.caffe)
        if layer and not np.isfinite(layer.parts["weight"]).all():
            if row.kernel:
                raise Error(f"{path}: the weight of '{layer.place}' is not finite; the file is damaged")
            layer = None  # as in files of features only
        if layer:
            layers.append(_in_caffes_layout(path, row, layer, layers[-1] if layers else None, keras))
        elif row.kernel:
            raise Error(f"{path}: lacks {row.caffe} of {net}, sought as "
                        f"'{row.keras if keras else row.torch}'; is the file of another net?")
    trained = INPUTS[input or ("bgr" if keras else "torchvision")]
    weight, bias = _unscaled(layers[0].blobs[0], trained), layers[0].blobs[1].astype(np.float64)
    bias += np.einsum("oihw,i->o", weight, np.array(MEAN_BGR[:: trained.step]) - trained.mean)
    blobs = [np.ascontiguousarray(x, np.float32) for x in (weight[:, :: trained.step], bias)]
    return [layers[0]._replace(blobs=blobs), *layers[1:]]


def rows_of(net: str) -> list[Row]:
    """The layers of a VGG net."""
    t = Trunk(keras=False, eps=0)
    ARCHITECTURES[net](t)
    return [Row(name, re.sub(r"conv(\d)_(\d)", r"block\1_conv\2", DENSE.get(name, name)), there,
                3 if kind == "Convolution" else 0) for name, (kind, there) in t.sources.items()]


def _check(kind: str, word: str, known: Iterable[str]) -> None:
    if word not in known:
        raise Error(f"{kind} '{word}' is not known (there are {', '.join(known)}){closest(word, known)}")


def matched(stored: Sequence[Stored], rows: Sequence[Row], keras: bool) -> dict[str, Stored]:
    """The file's layers under Caffe's names: by a name, else, as Keras 3 may have written none, by order."""
    whole = [layer for layer in stored if {"weight", "bias"} <= layer.parts.keys()]
    found = {row.caffe: layer for row in rows for layer in whole if {*row[:3]} & {*layer.names}}
    if not keras or any(row.kernel and row.caffe in found for row in rows):
        return found
    for kernel, shape in ((3, (3, 3)), (0, ())):
        wanted = [row for row in rows if row.kernel == kernel]
        there = [x for x in whole if x.parts["weight"].ndim > 1 and x.parts["weight"].shape[2:] == shape]
        if len(there) == len(wanted):
            found.update({row.caffe: layer for row, layer in zip(wanted, there, strict=True)})
    return found


def _in_caffes_layout(path: Path, row: Row, found: Stored, before: Imported | None, keras: bool) -> Imported:
    """One layer as Caffe has it; Error unless it takes in what the layer before gives."""
    weight, bias = found.parts["weight"], found.parts["bias"]
    channels, flat = (len(before.blobs[0]), before.type == "InnerProduct") if before else (3, False)
    kind, side = "Convolution" if row.kernel else "InnerProduct", 1
    if not row.kernel and not flat and weight.ndim == 2:
        side = math.isqrt(weight.shape[1] // max(1, channels))
        if keras and weight.shape[1] == channels * side**2:  # its inputs are in the order H, W, C
            weight = weight.reshape(-1, side, side, channels).transpose(0, 3, 1, 2).reshape(weight.shape)
    window = (row.kernel, row.kernel) if row.kernel else ()
    if bias.ndim != 1 or weight.shape != (len(bias), channels * side**2, *window):
        raise Error(f"{path}: '{found.place}' has a weight of {list(weight.shape)} and a bias of "
                    f"{list(bias.shape)}, where {row.caffe} is "
                    f"{f'a {row.kernel}x{row.kernel}' if row.kernel else 'an'} {kind} of {channels} inputs")
    blobs = [np.ascontiguousarray(x, np.float32) for x in (weight, bias)]
    return Imported(row.caffe, kind, found.place, blobs)


def _unscaled(weight: np.ndarray, trained: Input) -> np.ndarray:
    """A first layer's weight, its channels in their own order, for pixels that were not divided; float64."""
    return weight / np.reshape(np.array(trained.scale, np.float64), (3, 1, 1))


def import_trunk(path: Path, arch: str, input: str | None = None) -> tuple[NetParameter, Net]:
    """A classifier in torchvision's or (ResNets of 50 layers and more) Keras' file: its net, bare and loaded.

    It takes what the nets here take, BGR in 0..255 minus MEAN_BGR, and gives `prob`: the weights of its
    first layers (data_shift, and the first convolution) turn this exactly into `input` (of INPUTS), which the
    file's net was trained on; None: "keras", "half" for googlenet (as torchvision feeds its weights), else
    "torchvision". Raises Error for files that are not of this architecture.
    """
    stored, keras = read_layers(path)
    _check("architecture", arch, ARCHITECTURES)
    if keras and arch not in KERAS:
        other = f"; 'netspec convert weights FILE OUT --net {arch}' reads it" if arch in FITTING else ""
        raise Error(f"{path}: is Keras', of whose classifiers {', '.join(KERAS)} are known here, not "
                    f"{arch}{other}")
    _check("input", input or "keras", INPUTS)
    t = Trunk(keras, 1.001e-5 if keras else 1e-3 if arch == "googlenet" else 1e-5)
    t.net.prob = L.Softmax(ARCHITECTURES[arch](t))
    proto = t.net.to_proto()
    proto.name = arch
    net = Net(build(proto, caffe_pb2.TEST)).eval()
    params = net.layers_with_params()
    there = {layer.names[-1]: layer.parts for layer in stored}
    blobs: dict[str, list[np.ndarray]] = {}
    for name, (kind, source) in t.sources.items():
        # Keras' first ResNet50 has Caffe's names, and a Scale's numbers in its BatchNorm
        old = name.replace("scale", "bn", 1) if kind == "Scale" else name
        parts = there.get(source) or there.get(old, {})
        words = ("running_mean", "running_var") if kind == "BatchNorm" else ("weight", "bias")
        if words[0] not in parts:
            raise Error(f"{path}: lacks {name}, sought as '{source}'{closest(source, there)}; is the file of "
                        "another architecture?")
        found = [parts[word] for word in words if word in parts]
        if kind == "BatchNorm":  # the weight of its statistics
            found.append(np.ones(1, np.float32))
        blobs[name] = found[: len(params[name])]
    first = blobs[next(iter(blobs))]
    trained = INPUTS[input or ("keras" if keras else "half" if arch == "googlenet" else "torchvision")]
    if first[0].ndim == 4 and first[0].shape[1] == 3:  # else `copy` refuses it
        first[0] = _unscaled(first[0], trained)[:, :: trained.step].astype(np.float32)
    mean, theirs = (np.array(x, np.float32) for x in (MEAN_BGR, trained.mean[:: trained.step]))
    blobs["data_shift"] = [mean - theirs]
    try:
        weights.copy(blobs, params, strict=True)
    except Error as problem:
        raise Error(f"{path}: is not of {arch}: {problem}") from None
    return proto, net
