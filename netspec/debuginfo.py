"""What `debug_info` says of each layer in a pass: mean magnitudes of data and gradients, in Caffe's words."""

from collections.abc import Callable, Sequence

from torch import Tensor

from .backprop import Layer
from .blobs import Blob
from .layerwise import Layerwise


class DebugInfo:
    """A Watch that writes Caffe's lines (Net::ForwardDebugInfo, BackwardDebugInfo) to a log."""

    def __init__(self, log: Callable[[str, str, str], None]) -> None:
        self.log = log

    def forward(self, run: Layerwise, layer: Layer) -> None:
        for i, top in enumerate(layer.tops):
            blob = run.blobs[layer.node.tops[i].blob if layer.node else layer.bottoms[0]]
            self._say(593, f"[Forward] Layer {layer.name}, top blob {top} data: {_data(blob)}")
        specs = layer.node.op.layer.param if layer.node else ()
        for i, blob in enumerate(run.params.get(layer.name, ())):
            name = specs[i].name if i < len(specs) and specs[i].name else i
            self._say(605, f"[Forward] Layer {layer.name}, param blob {name} data: {_data(blob)}")

    def backward(self, run: Layerwise, layer: Layer, grads: Sequence[Tensor | None]) -> None:
        for i, bottom in enumerate(layer.bottoms):
            if layer.bottom_backward[i]:
                mean = _diff(run.blobs[bottom]) if layer.node is None else "0" if grads[i] is None else _mean(grads[i])
                self._say(621, f"[Backward] Layer {layer.name}, bottom blob {bottom} diff: {mean}")
        for i, blob in enumerate(run.params.get(layer.name, ())):
            if layer.param_backward[i]:
                self._say(632, f"[Backward] Layer {layer.name}, param blob {i} diff: {_diff(blob)}")

    def through(self, run: Layerwise) -> None:
        data, diff = ([memory.tensor(run.net.device) for memory in memories] for memories in (
            [blob.data_memory for blob in run.learnable], [blob.diff_memory for blob in run.learnable]))
        l1, l2 = ([sum(t.abs().sum().item() for t in ts) for ts in (data, diff)],
                  [sum(t.square().sum().item() for t in ts) ** 0.5 for ts in (data, diff)])
        self._say(721, f"[Backward] All net params (data, diff): L1 norm = ({l1[0]:g}, {l1[1]:g}); "
                  f"L2 norm = ({l2[0]:g}, {l2[1]:g})", "E")

    def _say(self, line: int, text: str, level: str = "I") -> None:
        self.log(f"net.cpp:{line}", f"    {text}", level)


def _data(blob: Blob) -> str:
    return _mean(blob.data_memory.tensor())


def _diff(blob: Blob) -> str:
    return _mean(blob.diff_memory.tensor())


def _mean(numbers: Tensor) -> str:
    return f"{numbers.abs().mean().item():g}"
