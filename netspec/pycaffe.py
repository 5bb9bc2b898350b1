"""pycaffe's interface: `import netspec as caffe` gives Net, the solvers and what sets the device and the seed."""

import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import compiler, graph, log, prototext, solver, weights
from .batches import Batches
from .blobs import Blob
from .debuginfo import DebugInfo
from .device import choose
from .errors import Error, closest
from .files import find
from .graph import Node
from .layerwise import Layerwise
from .ops import REGISTRY
from .ops.python import BlobVec, Layer

__all__ = ["Blob", "Layer", "Net", "Solver", "SGDSolver", "NesterovSolver", "AdaGradSolver", "RMSPropSolver", "AdaDeltaSolver",
           "AdamSolver", "get_solver", "layer_type_list", "set_device", "set_mode_cpu", "set_mode_gpu", "set_random_seed"]


class _Mode:
    """What pycaffe keeps for the whole process."""

    gpu = False
    number = 0
    seeded = False

    @classmethod
    def device(cls) -> torch.device:
        return choose(f"cuda:{cls.number}" if cls.gpu else "cpu")


def set_mode_cpu() -> None:
    """Nets and solvers that are made from now on run on the CPU."""
    _Mode.gpu = False


def set_mode_gpu() -> None:
    """Nets and solvers that are made from now on run on the GPU; without one they stay on the CPU, with a warning."""
    _Mode.gpu = torch.cuda.is_available()
    if not _Mode.gpu:
        warnings.warn("no CUDA device is here; nets run on the CPU", stacklevel=2)


def set_device(number: int) -> None:
    """Which GPU set_mode_gpu means."""
    _Mode.number = int(number)


def set_random_seed(seed: int) -> None:
    """Fillers, dropout, random order of data: everything random from here on."""
    torch.manual_seed(seed)
    _Mode.seeded = True


def layer_type_list() -> list[str]:
    """The layer types that a net may have."""
    return sorted(REGISTRY)


class Net:
    """A net with the weights and the blobs of its last pass.

    Net(file, phase, weights=file, level=0, stages=None), or in the older order Net(file, weights, phase). Blobs
    are Caffe's by name; the Split layers that Caffe inserts are not listed. Raises Error for what cannot work.
    """

    def __init__(self, network_file: str | os.PathLike, phase: int | str | os.PathLike, level: int = 0,
                 stages: Iterable[str] | None = None, weights: str | os.PathLike | None = None) -> None:
        if isinstance(phase, (str, os.PathLike)):
            phase, weights, level = level, phase, 0
        made = compiler.Net(graph.load(find(network_file, what="net"), int(phase), level=level, stages=stages or ()))
        made.to(_Mode.device())
        for node in made.graph.sources:
            if "seed" not in vars(node.op):
                node.op.seed = int(torch.randint(2**31 - 1, ()))
        self._open(made, Batches(made.graph, torch.device("cpu")))
        if weights is not None:
            self.copy_from(weights)

    @classmethod
    def of(cls, net: compiler.Net, batches: Batches | None = None) -> "Net":
        """This interface to a compiled net, whose data come from `batches`."""
        self = cls.__new__(cls)
        self._open(net, batches or Batches(net.graph, torch.device("cpu")))
        return self

    def _open(self, net: compiler.Net, batches: Batches) -> None:
        self._net, self._batches = net, batches
        self._batches.given = self._given
        self._next: dict[str, Tensor] = {}
        self._run = Layerwise(net, self._feed)
        if net.graph.proto.debug_info:
            self._run.watch = DebugInfo(log.Log(quiet=_quiet()))
        for node in net.graph.sources:
            if node.type == "DummyData":
                for top, values in zip(node.tops, node.op.load(0), strict=True):
                    self.blobs[top.blob].data_memory.put(torch.from_numpy(values))

    def _given(self, node: Node) -> list[Tensor]:
        return [self.blobs[top.blob].data_memory.tensor() for top in node.tops]

    def _feed(self, node: Node) -> list[Tensor] | None:
        """The next tops of a data layer; blobs that the caller fills, and constant ones, stay as they are."""
        if node.op.fed:
            return None
        if any(top.blob not in self._next for top in node.tops):
            self._next = self._batches.next()
        tops = [self._next.pop(top.blob) for top in node.tops]
        if node.type == "DummyData":
            tops = [old if filler is None or filler.type == "constant" else new
                    for old, new, filler in zip(self._given(node), tops, node.op.fillers, strict=True)]
        return tops

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
        return {node.name: [b.blob for b in node.bottoms] for node in self._run.nodes}

    @property
    def top_names(self) -> dict[str, list[str]]:
        return {node.name: [t.blob for t in node.tops] for node in self._run.nodes}

    @property
    def blob_loss_weights(self) -> dict[str, float]:
        """Every blob's weight in the objective, 0 for most."""
        weights = {value.blob: weight for value, weight in self._run.weights.items()}
        return {blob: weights.get(blob, 0.0) for blob in self.blobs}

    # -- passes ------------------------------------------------------------------------------------------

    def forward(self, blobs: Sequence[str] | None = None, start: str | None = None, end: str | None = None,
                **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """Run the net, or its layers from `start` to `end`; the outputs (with `end` its tops) and `blobs`.

        inputs: values for all blobs of `inputs`. Data layers go on to their next batch. The arrays returned are the
        blobs' own: the next pass writes into them.
        """
        if inputs and set(inputs) != set(self.inputs):
            raise Error(f"net '{self._net.graph.name}' takes all of its inputs ({', '.join(self.inputs) or 'it has none'}) or "
                        f"none, found {', '.join(inputs)}")
        for name, values in inputs.items():
            self._fill(name, "data", values)
        wanted = [*(self.outputs if end is None else self.top_names[self._name(end)]), *(blobs or ())]
        self._net.graph.check_blobs(wanted)
        self._run.forward(*self._range(start, end))
        return {blob: self.blobs[blob].data for blob in wanted}

    def backward(self, diffs: Sequence[str] | None = None, start: str | None = None, end: str | None = None,
                 **tops: np.ndarray) -> dict[str, np.ndarray]:
        """Run the net backward, or its layers from `start` down to `end`; the diffs of the inputs (with `end` of its
        bottoms) and of `diffs`.

        tops: diffs for output blobs; without them whatever their `diff` holds (a loss's weight at first). The
        gradients of parameters are added to their `diff`. Layers that lie above no loss are passed over unless the
        net says force_backward.
        """
        self._net.graph.check_blobs(tops)
        for name, values in tops.items():
            self._fill(name, "diff", values)
        wanted = [*(self.inputs if end is None else self.bottom_names[self._name(end)]), *(diffs or ())]
        self._net.graph.check_blobs(wanted)
        if tops and not any(layer.backward for layer in self._run.plan):
            warnings.warn(f"net '{self._net.graph.name}' has no loss and no force_backward: true, so nothing was computed",
                          stacklevel=2)
        first, last = self._range(end, start)
        self._run.backward(last, first)
        return {blob: self.blobs[blob].diff for blob in wanted}

    def _name(self, layer: str) -> str:
        return self._net.graph.node(layer).name

    def _range(self, first: str | None, last: str | None) -> tuple[int, int | None]:
        return (0 if first is None else self._run.index(first)), (None if last is None else self._run.index(last))

    def _fill(self, name: str, part: str, values: Any) -> None:
        array, given = getattr(self.blobs[name], part), np.shape(values)
        try:
            if given[:1] != array.shape[:1]:
                raise ValueError
            array[...] = values
        except ValueError:
            raise Error(f"blob '{name}' has shape {list(array.shape)}, its {part} was given as {list(given)}; reshape the blob "
                        "first, then the net") from None

    def reshape(self) -> None:
        """Give every blob the shape that follows from the inputs' shapes."""
        self._run.reshape()

    def clear_param_diffs(self) -> None:
        for blob in self._run.learnable:
            blob.diff[...] = 0

    # -- weights -----------------------------------------------------------------------------------------

    def copy_from(self, path: str | os.PathLike) -> None:
        """Load a .caffemodel or .caffemodel.h5 into the layers of the same names."""
        self._run.settle()
        weights.load(find(path, what="weights"), self._net.layers_with_params())

    load_hdf5 = copy_from

    def share_with(self, other: "Net") -> None:
        """Use the other net's parameters in the layers of the same names."""
        self._net.share(other._net)
        self._run.bind()

    def save(self, path: str | os.PathLike) -> None:
        """Write a .caffemodel."""
        self._run.settle()
        weights.save(path, self._net)

    def save_hdf5(self, path: str | os.PathLike) -> None:
        """Write a .caffemodel.h5."""
        self._run.settle()
        weights.save(path, self._net, hdf5=True)


class _Seen(Layer):
    """What can be seen of a layer from outside."""

    def __init__(self, kind: str, blobs: Sequence[Blob]) -> None:
        self.type, self.blobs = kind, BlobVec(blobs)


class Solver:
    """Caffe's solvers. `net` and `test_nets` share the parameters; `param` is the SolverParameter."""

    kind: str | None = None  # of update rule; None: what the file says

    def __init__(self, solver_file: str | os.PathLike) -> None:
        path = find(solver_file, what="solver")
        param = prototext.read_solver(path)
        if self.kind:
            param.type = self.kind
        if _Mode.seeded and param.random_seed < 0:
            param.random_seed = int(torch.randint(2**31 - 1, ()))
        device = _Mode.device()
        self._solver = solver.Solver(param, path=path, device=str(device), log=log.Log(quiet=_quiet()))
        self.net, *self.test_nets = (Net.of(net, self._solver.batches[net])
                                     for net in (self._solver.net, *self._solver.test_nets))
        self._solver.layerwise[self._solver.net] = self.net._run

    @property
    def iter(self) -> int:
        """The number of finished iterations."""
        return self._solver.iter

    @property
    def lr(self) -> float:
        """The learning rate of the next iteration."""
        return self._solver.lr

    @property
    def param(self) -> Any:
        return self._solver.param

    def step(self, count: int) -> None:
        """Run iterations. The net's blobs are those of the last batch, the diffs of its parameters the last update."""
        self._to(self.iter + count, lambda: self._solver.step(count))

    def solve(self, resume_file: str | os.PathLike | None = None) -> None:
        """Train up to max_iter, from a .solverstate if one is given."""
        if resume_file:
            self.restore(resume_file)
        self._to(self.param.max_iter, self._solver.solve)

    def _to(self, end: int, run: Callable[[], Any]) -> None:
        self._solver.net.zero_grad(set_to_none=True)
        self._solver.watch_from = end - 1  # the iterations before go the fast way
        self._change(run)

    def apply_update(self) -> None:
        """Change the parameters by the gradients in their diffs, which then hold the change."""
        self._change(lambda: self._solver.update(self.lr))

    def _change(self, run: Callable[[], Any]) -> None:
        self.net._run.settle()
        run()
        for (_, parameter), step in zip(self._solver.learned, self._solver.steps, strict=False):
            parameter.grad = step.clone()

    def restore(self, path: str | os.PathLike) -> None:
        """Go on from a .solverstate, this project's or Caffe's."""
        self.net._run.settle()
        self._solver.restore(path)

    def snapshot(self) -> Path:
        """Write .caffemodel and .solverstate; the latter's path."""
        self.net._run.settle()
        return self._solver.snapshot()


class SGDSolver(Solver):
    kind = "SGD"


class NesterovSolver(SGDSolver):
    kind = "Nesterov"


class AdaGradSolver(SGDSolver):
    kind = "AdaGrad"


class RMSPropSolver(SGDSolver):
    kind = "RMSProp"


class AdaDeltaSolver(SGDSolver):
    kind = "AdaDelta"


class AdamSolver(SGDSolver):
    kind = "Adam"


def get_solver(solver_file: str | os.PathLike) -> Solver:
    """The solver that the file asks for by `type`."""
    kinds = {cls.kind: cls for cls in (SGDSolver, *SGDSolver.__subclasses__())}
    kind = prototext.read_solver(find(solver_file, what="solver")).type
    if kind not in kinds:
        raise Error(f"{solver_file}: solver type '{kind}' is not known{closest(kind, kinds)}")
    return kinds[kind](solver_file)


def _quiet() -> bool:
    """GLOG_minloglevel, by which scripts ask Caffe to be silent."""
    return os.environ.get("GLOG_minloglevel", "0") not in ("", "0")
