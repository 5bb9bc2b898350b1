"""pycaffe's Net: a compiled net whose every blob can be read and written between passes."""

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..base.errors import Error
from ..base.files import find
from ..data.arrays import DummyData, MemoryData
from ..data.feed import Batches
from ..net import module, weights
from ..net.build import load
from ..net.graph import Node, Value
from ..net.layerwise import Layerwise
from ..ops.blobs import Blob
from ..ops.python import BlobVec, Layer
from ..ops.source import Source
from ..proto.caffe_pb2 import TEST, TRAIN
from ..train.display import DebugInfo
from . import session


def _adds(when: str) -> Callable[["Net", Callable[[int], Any]], None]:
    def add(self: "Net", call: Callable[[int], Any]) -> None:
        """Have call(number of the layer) at this point of each layer's pass."""
        self._run.hooks[when].append(call)
    return add


class Net:
    """A net with the weights and the blobs of its last pass.

    Net(file, phase, weights=file, level=0, stages=None), or in the older order Net(file, weights, phase).
    Blobs are Caffe's by name; the Split layers that Caffe inserts are not listed. Raises Error for what
    cannot work.
    """

    def __init__(self, network_file: str | os.PathLike, phase: int | str | os.PathLike, level: int = 0,
                 stages: Iterable[str] | None = None, weights: str | os.PathLike | None = None) -> None:
        if isinstance(phase, (str, os.PathLike)):
            weights, phase, level = phase, level, 0
        made = module.Net(load(find(network_file, what="net"), TEST if phase else TRAIN, level=level,
                               stages=stages or ()))
        made.to(session.device())
        for source in made.graph.readers:
            if "seed" not in vars(source):
                source.seed = int(torch.randint(2**31 - 1, ()))
        self._open(made, Batches(made.graph.readers, torch.device("cpu")))
        if weights is not None:
            self.copy_from(weights)

    @classmethod
    def of(cls, net: module.Net, batches: Batches | None = None) -> "Net":
        """This interface to a compiled net, whose data come from `batches`."""
        self = cls.__new__(cls)
        self._open(net, batches or Batches(net.graph.readers, torch.device("cpu")))
        return self

    def _open(self, net: module.Net, batches: Batches) -> None:
        self._net, self._batches = net, batches
        self._batches.given = self._given
        self._next: dict[str, Tensor] = {}
        self._arrays: dict[str, Iterator[list[Tensor]]] = {}  # of MemoryData layers
        self._run = Layerwise(net, self._feed)
        if net.graph.proto.debug_info:
            self._run.watch = DebugInfo(session.Said())
        for source in net.graph.readers:
            if isinstance(source, DummyData):
                for blob, values in zip(source.layer.top, source.load(0), strict=True):
                    self.blobs[blob].data_memory.put(torch.from_numpy(values))

    def _given(self, source: Source) -> list[Tensor]:
        if source.layer.name in self._arrays:
            return next(self._arrays[source.layer.name])
        return [self.blobs[blob].data_memory.tensor() for blob in source.layer.top]

    def _feed(self, node: Node) -> list[Tensor] | None:
        """The next tops of a data layer; blobs that the caller fills, and constant ones, stay as they are."""
        if isinstance(node.op, Source) and node.op.fed and node.name not in self._arrays:
            return None
        if any(top.blob not in self._next for top in node.tops):
            self._next = self._batches.next()
        tops = [self._next.pop(top.blob) for top in node.tops]
        if isinstance(node.op, DummyData):
            tops = [old if filler is None or filler.type == "constant" else new
                    for old, new, filler in zip(self._given(node.op), tops, node.op.fillers, strict=True)]
        return tops

    @property
    def _settled(self) -> module.Net:
        """The compiled net, its parameters as they were written into arrays: for all that works on them."""
        self._run.settle()
        return self._net

    # -- what there is -----------------------------------------------------------------------------------

    @property
    def blobs(self) -> dict[str, Blob]:
        """Every top by name, in the order of the layers."""
        return self._run.blobs

    @property
    def params(self) -> dict[str, list[Blob]]:
        """Layer -> its parameter blobs."""
        return self._run.params

    @property
    def inputs(self) -> list[str]:
        """The tops of Input layers."""
        return [top.blob for node in self._net.graph.sources if node.type == "Input" for top in node.tops]

    @property
    def outputs(self) -> list[str]:
        """The blobs that no layer reads, in alphabetical order."""
        return list(self._net.graph.outputs)

    @property
    def _layer_names(self) -> list[str]:
        return [node.name for node in self._run.nodes]

    @property
    def layers(self) -> list[Layer]:
        """Each layer's `type` and `blobs`; of a layer written in Python the Layer itself."""
        return [getattr(node.op, "instance", None) or _Seen(node.type, self.params.get(node.name, ()))
                for node in self._run.nodes]

    @property
    def layer_dict(self) -> dict[str, Layer]:
        return dict(zip(self._layer_names, self.layers, strict=True))

    @property
    def bottom_names(self) -> dict[str, list[str]]:
        return {node.name: _blobs_of(node.bottoms) for node in self._run.nodes}

    @property
    def top_names(self) -> dict[str, list[str]]:
        return {node.name: _blobs_of(node.tops) for node in self._run.nodes}

    @property
    def blob_loss_weights(self) -> dict[str, float]:
        """Every blob's weight in the objective, 0 for most."""
        weights = {value.blob: weight for value, weight in self._run.weights.items()}
        return {blob: weights.get(blob, 0.0) for blob in self.blobs}

    # pycaffe's inner names, which scripts use all the same
    _blob_loss_weights = property(lambda self: list(self.blob_loss_weights.values()))
    _blob_names = property(lambda self: list(self.blobs))
    _blobs = property(lambda self: list(self.blobs.values()))
    _inputs = property(lambda self: [self._blob_names.index(blob) for blob in self.inputs])
    _outputs = property(lambda self: [self._blob_names.index(blob) for blob in self.outputs])
    _forward = property(lambda self: self._run.forward)  # from a layer's number to another's
    _backward = property(lambda self: self._run.backward)

    def _bottom_ids(self, layer: int) -> list[int]:
        return [self._blob_names.index(blob) for blob in _blobs_of(self._run.nodes[layer].bottoms)]

    def _top_ids(self, layer: int) -> list[int]:
        return [self._blob_names.index(blob) for blob in _blobs_of(self._run.nodes[layer].tops)]

    # -- passes ------------------------------------------------------------------------------------------

    def forward(self, blobs: Sequence[str] | None = None, start: str | None = None, end: str | None = None,
                **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """Run the net, or its layers from `start` to `end`; the outputs (with `end` its tops) and `blobs`.

        inputs: values for all blobs of `inputs`. Data layers go on to their next batch. The arrays returned
        are the blobs' own: the next pass writes into them.
        """
        if inputs and set(inputs) != set(self.inputs):
            raise Error(f"net '{self._net.graph.name}' takes all of its inputs "
                        f"({', '.join(self.inputs) or 'it has none'}) or none, found {', '.join(inputs)}")
        for name, values in inputs.items():
            self._fill(name, "data", values)
        ends = self.outputs if end is None else _blobs_of(self._net.graph.node(end).tops)
        self._net.graph.check_blobs(wanted := [*ends, *(blobs or ())])
        self._run.forward(*self._range(start, end))
        return {blob: self.blobs[blob].data for blob in wanted}

    def backward(self, diffs: Sequence[str] | None = None, start: str | None = None, end: str | None = None,
                 **tops: np.ndarray) -> dict[str, np.ndarray]:
        """Run the net backward, or its layers from `start` down to `end`; the diffs of the inputs (with `end`
        of its bottoms) and of `diffs`.

        tops: diffs for output blobs; without them whatever their `diff` holds (a loss's weight at first). The
        gradients of parameters are added to their `diff`. Layers that lead to no loss are passed over unless
        the net says force_backward.
        """
        self._net.graph.check_blobs(tops)
        for name, values in tops.items():
            self._fill(name, "diff", values)
        ends = self.inputs if end is None else _blobs_of(self._net.graph.node(end).bottoms)
        self._net.graph.check_blobs(wanted := [*ends, *(diffs or ())])
        if tops and not any(layer.backward for layer in self._run.plan):
            warnings.warn(f"net '{self._net.graph.name}' has no loss and no force_backward: true, "
                          "so nothing was computed", stacklevel=2)
        first, last = self._range(end, start)
        self._run.backward(last, first)
        return {blob: self.blobs[blob].diff for blob in wanted}

    def forward_all(self, blobs: Sequence[str] | None = None, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """`forward` for any number of images, batch by batch; the outputs, and `blobs`, of all of them."""
        return self._all(inputs, lambda batch: [self.forward(blobs, **batch)])[0]

    def forward_backward_all(self, blobs: Sequence[str] | None = None, diffs: Sequence[str] | None = None,
                             **arrays: np.ndarray) -> list[dict[str, np.ndarray]]:
        """As forward_all, and `backward` each time; arrays: inputs, and diffs of outputs. Blobs, diffs."""
        def both(batch: dict[str, Any]) -> list[dict[str, np.ndarray]]:
            down = {name: batch.pop(name) for name in self.outputs if name in batch}
            return [self.forward(blobs, **batch), self.backward(diffs, **down)]
        return self._all(arrays, both)

    def _all(self, arrays: Mapping[str, Any], run: Callable[[dict[str, Any]], list[dict[str, np.ndarray]]]
             ) -> list[dict[str, np.ndarray]]:
        """What `run` gives for each batch, joined; the last is filled with zeros, their results cut off."""
        if not arrays or len({len(values) for values in arrays.values()}) > 1:
            raise Error(f"net '{self._net.graph.name}': arrays of one length are cut into batches, found "
                        f"{ {name: len(values) for name, values in arrays.items()} or 'none'}")
        count, size = len(next(iter(arrays.values()))), next(iter(self.blobs.values())).num
        kept = []
        for at in range(0, count, size):
            parts = {name: np.asarray(values[at : at + size]) for name, values in arrays.items()}
            whole = {name: np.pad(part, [(0, size - len(part)), *[(0, 0)] * (part.ndim - 1)])
                     for name, part in parts.items()}
            kept.append([{name: np.atleast_1d(values.copy()) for name, values in one.items()}
                         for one in run(whole)])
        joined = [{name: np.concatenate([one[name] for one in each]) for name in each[0]}
                  for each in zip(*kept, strict=True)]
        return [{name: values[:count] if len(values) == count + -count % size else values
                 for name, values in one.items()} for one in joined]

    def set_input_arrays(self, data: np.ndarray, labels: np.ndarray) -> None:
        """What the net's MemoryData layer gives: images (N, C, H, W) and N labels, float32, a batch a pass.

        Raises Error unless the first layer is a MemoryData layer, and N a multiple of its batch size.
        """
        node = self._run.nodes[0]
        if not isinstance(node.op, MemoryData):
            raise Error(f"set_input_arrays needs a MemoryData layer first, net '{self._net.graph.name}' "
                        f"has a {node.type}")
        (size, *image), count = node.op.size, len(data)
        if [*data.shape[1:]] != image or np.size(labels) != count or not count or count % size:
            raise Error(f"layer '{node.name}' (MemoryData): expected images of {tuple(image)}, a multiple of "
                        f"{size} of them, and as many labels; found {data.shape} and {np.shape(labels)}")
        labels = np.reshape(labels, count)
        self._arrays[node.name] = ([torch.tensor(array[at : at + size], dtype=torch.float32)
                                    for array in (data, labels)] for at in cycle(range(0, count, size)))
        for top in node.tops:
            self._next.pop(top.blob, None)

    _set_input_arrays = set_input_arrays

    before_forward, after_forward = _adds("before_forward"), _adds("after_forward")
    before_backward, after_backward = _adds("before_backward"), _adds("after_backward")

    def _range(self, first: str | None, last: str | None) -> tuple[int, int | None]:
        return 0 if first is None else self._run.index(first), None if last is None else self._run.index(last)

    def _fill(self, name: str, part: str, values: Any) -> None:
        array, given = getattr(self.blobs[name], part), np.shape(values)
        try:
            if given[:1] != array.shape[:1]:
                raise ValueError
            array[...] = values
        except ValueError:
            raise Error(f"blob '{name}' has shape {list(array.shape)}, its {part} was given as {list(given)};"
                        " reshape the blob first, then the net") from None

    def reshape(self) -> None:
        """Give every blob the shape that follows from the inputs' shapes."""
        self._run.reshape()

    def clear_param_diffs(self) -> None:
        for blob in self._run.learnable:
            blob.diff[...] = 0

    # -- weights -----------------------------------------------------------------------------------------

    def copy_from(self, path: str | os.PathLike) -> None:
        """Load a .caffemodel or .caffemodel.h5 into the layers of the same names."""
        weights.load(find(path, what="weights"), self._settled.layers_with_params())

    load_hdf5 = copy_from

    def share_with(self, other: "Net") -> None:
        """Use the other net's parameters in the layers of the same names."""
        self._net.share(other._net)
        self._run.bind()

    def save(self, path: str | os.PathLike) -> None:
        """Write a .caffemodel."""
        weights.save(path, self._settled)

    def save_hdf5(self, path: str | os.PathLike) -> None:
        """Write a .caffemodel.h5."""
        weights.save(path, self._settled, hdf5=True)


def _blobs_of(values: Iterable[Value]) -> list[str]:
    return [value.blob for value in values]


class _Seen(Layer):
    """What can be seen of a layer from outside."""

    def __init__(self, kind: str, blobs: Sequence[Blob]) -> None:
        self.type, self.blobs = kind, BlobVec(blobs)
