"""What `debug_info` says of each layer in a pass: mean magnitudes of data and gradients, in Caffe's words."""

from collections.abc import Callable, Sequence

from torch import Tensor

from ..net.layerwise import Layer, Layerwise


class DebugInfo:
    """A Watch that writes Caffe's lines (Net::ForwardDebugInfo, BackwardDebugInfo) to a log."""

    def __init__(self, log: Callable[[str, str, str], None]) -> None:
        self.log = log

    def forward(self, run: Layerwise, layer: Layer) -> None:
        for i, top in enumerate(layer.tops):
            blob = run.blobs[layer.node.tops[i].blob if layer.node else layer.bottoms[0]]
            self._say(593, f"[Forward] Layer {layer.name}, top blob {top} data: {_mean(blob.data_memory.tensor())}")
        specs = layer.node.op.layer.param if layer.node else ()
        for i, blob in enumerate(run.params.get(layer.name, ())):
            name = specs[i].name if i < len(specs) and specs[i].name else i
            self._say(605, f"[Forward] Layer {layer.name}, param blob {name} data: {_mean(blob.data_memory.tensor())}")

    def backward(self, run: Layerwise, layer: Layer, grads: Sequence[Tensor | None]) -> None:
        for i, bottom in enumerate(layer.bottoms):
            if layer.bottom_backward[i]:
                diff = grads[i] if layer.node else run.blobs[bottom].diff_memory.tensor()
                self._say(621, f"[Backward] Layer {layer.name}, bottom blob {bottom} diff: {_mean(diff)}")
        for i, blob in enumerate(run.params.get(layer.name, ())):
            if layer.param_backward[i]:
                self._say(632, f"[Backward] Layer {layer.name}, param blob {i} diff: {_mean(blob.diff_memory.tensor())}")

    def through(self, run: Layerwise) -> None:
        both = [[getattr(blob, kind).tensor(run.net.device) for blob in run.learnable] for kind in ("data_memory", "diff_memory")]
        l1 = ", ".join(f"{sum(t.abs().sum().item() for t in tensors):g}" for tensors in both)
        l2 = ", ".join(f"{sum(t.square().sum().item() for t in tensors) ** 0.5:g}" for tensors in both)
        self._say(721, f"[Backward] All net params (data, diff): L1 norm = ({l1}); L2 norm = ({l2})", "E")

    def _say(self, line: int, text: str, level: str = "I") -> None:
        self.log(f"net.cpp:{line}", f"    {text}", level)


def _mean(numbers: Tensor | None) -> str:
    return "0" if numbers is None else f"{numbers.abs().mean().item():g}"
