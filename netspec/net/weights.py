"""Weights, solver states and means in Caffe's files, and the copying of weights into a net by layer name."""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from ..base.errors import Error, closest
from ..proto.caffe_pb2 import LayerParameter
from ..proto.model import Blobs, _read, _reshaping, write_weights
from .graph import AUTOMATIC

_ROWS = 1 << 23  # numbers copied at a time


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
