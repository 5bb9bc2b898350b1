"""Weights into a net and out of it, by the names of its layers."""

import itertools
import math
import os
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.nn import Parameter

from ..base.errors import Error, closest, listed
from ..base.table import table
from ..ops import Shape
from ..ops.conv import Deconvolution
from ..proto.caffe_pb2 import LayerParameter, NetParameter
from ..proto.model import Blobs, read_weights, same_shape, write_weights
from ..proto.wire import release
from .graph import AUTOMATIC, Graph
from .module import Net

_ROWS = 1 << 22  # numbers copied at a time
_PLAIN = torch.float32, torch.float64
WIDEN = "; 'netspec convert transplant' makes weights of more inputs of them"
RENAME = "; rename the layer in the net to learn it from its filler"  # what helps who trains, and nobody else


@dataclass
class Report:
    """What `copy` did, by layer name."""

    copied: list[str] = field(default_factory=list)
    reshaped: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)  # in the weights only
    missing: list[str] = field(default_factory=list)  # in the net only
    bilinear: list[str] = field(default_factory=list)  # in the net only, and made so by `ready`
    shapes: dict[str, str] = field(default_factory=dict)

    def table(self) -> str:
        """One line a layer."""
        kinds = {"copied": self.copied, "reshaped": self.reshaped, "ignored (not in the net)": self.ignored,
                 "left at its filler (not in the file)": self.missing}
        return table([(name, what, self.shapes.get(name, "")) for what in kinds for name in kinds[what]])


def ready(net: Net, source: str | os.PathLike | Mapping[str, Blobs] | None = None, *,
          strict: bool = False) -> Report:
    """Copies weights, of a file or read already, into the layers of the same names, and makes upsampling that
    neither they nor a filler fill bilinear. Raises Error as `copy`."""
    target = net.layers_with_params()
    report = (load(source, target, strict=strict) if isinstance(source, str | os.PathLike)
              else copy(source or {}, target, strict=strict))
    report.bilinear = interp_missing(net, report.missing)
    report.missing = [name for name in report.missing if name not in report.bilinear]
    return report


def load(path: str | os.PathLike, target: Mapping[str, Sequence[Parameter]], *,
         strict: bool = False) -> Report:
    """`copy` straight from a file, which its errors name."""
    def check(name: str, i: int, shape: Sequence[int]) -> None:
        if i < len(target.get(name, ())):
            _reshaping(name, i, target[name][i].shape, shape)

    weights = read_weights(path, check)
    try:
        return copy(weights, target, strict=strict)
    except Error as problem:
        raise Error(f"{path}: {problem}") from None


def copy(weights: Mapping[str, Sequence[np.ndarray | None]], target: Mapping[str, Sequence[Parameter]], *,
         strict: bool = False) -> Report:
    """Copies blobs into the parameters of the layers with the same names, as Caffe's CopyTrainedLayersFrom.

    Beyond Caffe, a fully connected layer's weight N x K fits a convolution's N x C x kernel, and the other
    way round, where the numbers are as many. Raises Error, with nothing copied, if a shape or a number of
    blobs does not fit, or (strict) if a layer is on one side only.
    """
    report = Report()
    pairs: list[tuple[Parameter, np.ndarray]] = []
    seen: set[int] = set()
    for name, params in target.items():
        if name in weights:
            pairs += _fit(name, weights[name], params, seen, report)
        else:
            report.shapes[name] = _shapes(params)
            if any(id(param) not in seen for param in params):
                report.missing.append(name)
        seen.update(map(id, params))
    for name, blobs in weights.items():
        if blobs and name not in target:
            report.ignored.append(name)
            report.shapes[name] = _shapes(blobs)
    if strict and (report.ignored or report.missing):
        sides = [f"{', '.join(names)} only in the {side}"
                 for side, names in (("weights", report.ignored), ("net", report.missing)) if names]
        near = closest(report.missing[0], report.ignored) if report.missing else ""
        raise Error(f"strict: layers {' and '.join(sides)}{near}")
    for param, blob in pairs:
        _assign(param, blob)
    return report


def misfit(read: Mapping[str, Sequence[np.ndarray | None]], graph: Graph, needed: Container[str]) -> str:
    """Why weights cannot be what a net begins with, before it is made; "" if they can.

    read: layer -> blobs. needed: the layers of the net that must be among them. Those that both have must be
    of one shape, as `copy` wants it.
    """
    params = {node.name: [Parameter(torch.empty(each.shape, device="meta")) for each in node.op.params]
              for node in graph.nodes if node.op.params}
    if lacking := [name for name in params if name in needed and not read.get(name)]:
        return f"they lack {listed(lacking)}, and have {listed(read) or 'no layer'}"
    try:
        for name in params.keys() & read.keys():
            list(_fit(name, read[name], params[name], set(), Report()))
    except Error as error:
        return str(error)
    return ""


def layers_of(net: Net) -> dict[str, tuple[LayerParameter, Blobs]]:
    """Settings and blobs of each layer of a net, as `write_weights` takes them.

    The phase is the net's where a layer has none, and tops that only the graph knows are left out.
    """
    params, phase = net.layers_with_params(), LayerParameter(phase=net.graph.phase)
    found: dict[str, tuple[LayerParameter, Blobs]] = {}
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


def save(path: str | os.PathLike, net: Net, hdf5: bool = False) -> None:
    """The weights of a net as a .caffemodel (or .caffemodel.h5)."""
    write_weights(path, net.graph.name, layers_of(net), hdf5=hdf5)


def bilinear_kernel(size: int) -> np.ndarray:
    """The size x size kernel that upsamples by (size + 1) // 2 with bilinear interpolation, float32."""
    factor = (size + 1) // 2
    center = factor - 1 if size % 2 else factor - 0.5
    along = 1 - abs(np.arange(size) - center) / factor
    return np.outer(along, along).astype(np.float32)


def interp(net: Net, layers: Iterable[str]) -> None:
    """Make deconvolutions bilinear upsampling: the kernel on the diagonal of the channels, zero elsewhere."""
    params = net.layers_with_params()
    for layer in layers:
        weight = params[layer][0]
        outer, inner, h, w = weight.shape
        if h != w or inner not in (1, outer):
            raise Error(f"layer '{layer}': bilinear upsampling needs a square kernel and as many inputs as "
                        f"outputs, found {list(weight.shape)}")
        with torch.no_grad():
            weight.zero_()
            rows = torch.arange(outer)
            kernel = torch.from_numpy(bilinear_kernel(h)).to(weight)
            weight[rows, rows if inner == outer else 0] = kernel


def unfilled_upsampling(net: Net) -> list[str]:
    """Deconvolution layers that the prototxt gives no weight_filler: the ones that `interp` is for."""
    return [n.name for n in net.graph.nodes if isinstance(n.op, Deconvolution) and n.op.dims == 2
            and not n.op.layer.convolution_param.HasField("weight_filler")]


def interp_missing(net: Net, missing: Container[str]) -> list[str]:
    """Make those of the layers that are unfilled upsampling bilinear; their names."""
    found = [name for name in unfilled_upsampling(net) if name in missing]
    interp(net, found)
    return found


def transplant(net: Net, read: Mapping[str, Blobs], change: str = "", rescale: bool = False
               ) -> list[list[str]]:
    """Copy weights into the layers of a net under other names; rows of (layer, from, shapes).

    change: OLD=NEW renames one layer, other text is what the net's names end in. Fully connected weights fit
    convolutions, and `grown` widens, by `rescale`. Raises Error if nothing fits.
    """
    params = net.layers_with_params()
    old, _, new = change.rpartition("=")
    if old and (old not in read or new not in params):
        missing, known, where = (old, read, "the weights") if old not in read else (new, params, "the net")
        raise Error(f"layer '{missing}' is not in {where}{closest(missing, known)}")
    renamed, origin = {}, {}
    for name, blobs in read.items():
        mine = name + change if not old else new if name == old else name
        target = params.get(mine, ())
        if target and len(target) == len(blobs):
            renamed[mine] = [None if blob is None else grown(np.asarray(blob), param.shape, rescale)
                             for blob, param in zip(blobs, target, strict=True)]
            origin[mine] = name
    if not renamed:
        ending = f" ending in {change!r}" if change else ""
        raise Error(f"no layer of net '{net.graph.name}' has a name from the weights{ending}")
    report = copy(renamed, params)
    return [[name, origin[name], report.shapes[name]] for name in renamed]


def for_classes(net: NetParameter, read: Mapping[str, Blobs], old: Sequence[str], new: Sequence[str]
                ) -> tuple[dict[str, tuple[LayerParameter, Blobs]], dict[str, str]]:
    """Weights of an FCN for one of other classes: what `write_weights` takes, and which class is which.

    net: the new one. read: the old one's weights; old, new: the names of their classes. A score layer (a
    convolution with a row a class, whose name begins with "score") keeps the rows of classes of the same
    name, whatever their case; others begin at zero, as in the paper. Upsampling is left out: it is made
    bilinear. Raises Error if the weights have no layer of the net, or scores of another number of classes.
    """
    plain = {"".join(filter(str.isalnum, name.lower())): i for i, name in enumerate(old)}
    rows = [plain.get("".join(filter(str.isalnum, name.lower()))) for name in new]
    layers: dict[str, tuple[LayerParameter, Blobs]] = {}
    for layer in net.layer:
        if layer.name not in read or layer.type == "Deconvolution":
            continue
        blobs = read[layer.name]
        if layer.name.startswith("score"):
            if any(blob is None or len(blob) != len(old) for blob in blobs):
                raise Error(f"layer '{layer.name}' of the weights does not score {len(old)} classes: "
                            f"{listed(old)}")
            blobs = [np.stack([np.zeros_like(blob[0]) if row is None else blob[row] for row in rows])
                     for blob in blobs if blob is not None]
        layers[layer.name] = layer, blobs
    if not any(name.startswith("score") for name in layers):
        raise Error(f"the weights have no scores of net '{net.name}' (they have: {listed(read)})")
    return layers, {new[i]: old[row] for i, row in enumerate(rows) if row is not None}


def grown(blob: np.ndarray, shape: Sequence[int], rescale: bool = False) -> np.ndarray:
    """A blob (outputs, inputs, ...) widened to `shape`: new inputs get the mean of the old, new outputs 0.

    That is how colour weights come to read depth, and the scores of k classes to begin those of more. A blob
    of another kind is returned as it is. rescale: weights of so many times more inputs are divided by that.
    Of inputs that are equal then comes what came before; where the new are the mean of the old, what comes
    of the old moved towards that mean by the part that the new are of all.
    """
    if len(shape) != blob.ndim or tuple(shape[2:]) != blob.shape[2:] or (np.array(blob.shape) > shape).any():
        return blob
    if blob.ndim > 1:
        extra = np.repeat(blob.mean(1, keepdims=True), shape[1] - blob.shape[1], axis=1)
        old = blob.shape[1]
        blob = np.concatenate([blob, extra.astype(blob.dtype)], 1)
        if rescale and old < shape[1]:
            blob *= blob.dtype.type(old / shape[1])
    return np.concatenate([blob, np.zeros((shape[0] - blob.shape[0], *blob.shape[1:]), blob.dtype)])


def _fit(name: str, blobs: Sequence[np.ndarray | None], params: Sequence[Parameter], seen: set[int],
         report: Report) -> Iterator[tuple[Parameter, np.ndarray]]:
    """Yields (parameter, array of its shape) for one layer, and files the layer in the report."""
    pairs = list(itertools.zip_longest(params, blobs))  # blob None: shared with a layer that has it
    if len(blobs) > len(params) or any(blob is None and id(param) not in seen for param, blob in pairs):
        found = sum(blob is not None for blob in blobs)
        raise Error(f"layer '{name}': the weights have {found} blobs {_shapes(blobs)}, the net has "
                    f"{len(params)} {_shapes(params)}{RENAME}")
    reshaped = False
    for i, (param, blob) in enumerate(pairs):
        if blob is not None:
            reshaped |= _reshaping(name, i, param.shape, blob.shape)
            yield param, blob.reshape(param.shape)
    (report.reshaped if reshaped else report.copied).append(name)
    report.shapes[name] = (f"{_shapes(blobs)} -> " if reshaped else "") + _shapes(params)


def _reshaping(name: str, i: int, shape: Sequence[int], blob: Sequence[int]) -> bool:
    """Whether blob `i` of layer `name` fits by the fully connected rule only; Error if it fits by none."""
    if same_shape(blob, shape) or tuple(blob) == (1, *shape, 1, 1):  # forks' 1 x C x 1 x 1, of channels
        return False
    if i == 0 and _dense_and_convolution(tuple(blob), tuple(shape)):
        return True
    fewer = [*blob[:1], *blob[2:]] == [*shape[:1], *shape[2:]] and tuple(blob[1:2]) < tuple(shape[1:2])
    raise Error(f"layer '{name}': blob {i} has shape {list(blob)} in the weights and {list(shape)} in the "
                f"net{WIDEN if fewer else RENAME}")


def _dense_and_convolution(blob: Shape, shape: Shape) -> bool:
    if len(blob) == 4 and blob[:2] == (1, 1):  # an InnerProduct's weight in an old file
        blob = blob[2:]
    one_each = (len(blob) == 2) != (len(shape) == 2) and min(len(blob), len(shape)) == 2
    return one_each and blob[0] == shape[0] and math.prod(blob) == math.prod(shape)


def _assign(param: Parameter, blob: np.ndarray) -> None:
    """In pieces, and what is read of a mapped file is let go of: together they would take the file's size in
    memory once more. NumPy copies, for the views of a mapped file are not aligned for torch."""
    with torch.no_grad():
        if not blob.ndim:
            param.fill_(float(blob))
            return
        here = param.detach().numpy() if param.device.type == "cpu" and param.dtype in _PLAIN else None
        step = max(1, _ROWS // max(1, math.prod(blob.shape[1:])))
        for row in range(0, len(blob), step):
            piece = blob[row : row + step]
            if here is not None:
                np.copyto(here[row : row + step], piece)
            else:
                param[row : row + step].copy_(torch.from_numpy(np.array(piece)))
            release(piece)
        torch.autograd.graph.increment_version(param)  # NumPy's writing is not counted


def _shapes(blobs: Sequence[Any]) -> str:
    return " + ".join("x".join(map(str, blob.shape)) or "1" for blob in blobs if blob is not None)
