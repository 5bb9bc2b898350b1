"""What comes of each file of a folder of Caffe's: whether nets are looked at, built and run, solvers taken,
weights read, run and held against OpenCV; and why the others are not."""

import hashlib
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ..base.errors import Error, exhausted, said
from ..look.costs import macs
from ..net import weights
from ..net.build import build, standing
from ..net.deploy import deploy, feeds
from ..net.graph import Given, Graph
from ..net.module import Net
from ..net.room import held, taken
from ..ops import REGISTRY
from ..proto.caffe_pb2 import TEST, TRAIN, NetParameter, Phase, SolverParameter
from ..proto.model import read_weights
from ..proto.text import SOLVER, outlined, parse, read_net, read_solver, read_text
from ..proto.wire import head, is_text
from ..train import updates
from ..train.solver import Solver
from .batch import draw

ENDS = ".prototxt", ".pt", ".pbtxt", ".caffemodel", ".caffemodel.h5"
MOST_BYTES = 2 << 30  # of a forward pass that computes; beyond, it is run on meta
CLOSE = 1e-4  # of the largest value of a blob: how far OpenCV's may be
OLD = {name.upper(): name for name in REGISTRY} | {
    "SOFTMAXLOSS": "SoftmaxWithLoss", "CROP": "AutoCrop", "CONV": "Convolution", "POOL": "Pooling"}
SMALL = """layer { name: "data" type: "DummyData" top: "data" top: "label" dummy_data_param {
                   shape { dim: 1 dim: 2 } shape { dim: 1 dim: 1 } } }
           layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
                   inner_product_param { num_output: 1 } }
           layer { name: "loss" type: "EuclideanLoss" bottom: "fc" bottom: "label" top: "loss" }"""
Look = Callable[[Path, Phase], object]  # what a command does with a net in a phase; raises Error
Row = dict[str, Any]


class Content(NamedTuple):
    """What a file holds, and the places, below the folder, of all files that hold it."""

    path: Path
    sha: str
    places: list[str]


def gathered(folder: Path) -> list[Content]:
    """The distinct contents of the folder's files whose names end as those of Caffe's, in the order of their
    sums: as good as at random, and the same each time."""
    found: dict[str, Content] = {}
    for path in sorted(path for path in folder.rglob("*") if path.name.endswith(ENDS) and path.is_file()):
        with open(path, "rb") as file:
            sha = hashlib.sha256(file.read()).hexdigest()
        found.setdefault(sha, Content(path, sha, [])).places.append(str(path.relative_to(folder)))
    return sorted(found.values(), key=lambda content: content.sha)


def lost(content: Content, why: str = "") -> Row:
    """The row of a content whose process said nothing of it, and why."""
    return {"path": content.places[0], "places": content.places, "sha": content.sha, "kind": "", "types": [],
            "steps": {"ended": why} if why else {}, "seconds": {}, "tracebacks": []}


def examined(looks: Mapping[str, Look], opencv: bool, most: float, content: Content) -> Row:
    """What comes of a content: its kind, `steps` (name -> "", or why not), the seconds of each, the types of
    its layers, how it was run, and the tracebacks of what no Error says, which should be none. most: MACs
    of a pass, above which only its shapes are followed."""
    torch.set_num_threads(1)
    row, path = lost(content), content.path
    row["kind"], row["types"] = _step(row, "read", partial(_kind, path)) or ("text", [])
    if row["kind"] == "net":
        for name, look in looks.items():
            _step(row, name, partial(_either, look, path))
        _net(row, path, most)
    elif row["kind"] == "solver":
        _step(row, "taken", partial(_taken, path))
    elif row["kind"] == "weights":
        _weights(row, path, most, opencv)
    return row


def _step(row: Row, name: str, work: Callable[[], Any]) -> Any:
    """What work gives; None where it does not, and why in the row."""
    begun, row["steps"][name] = time.monotonic(), ""
    try:
        return work()
    except Exception as error:
        row["steps"][name] = _sentence(error) or f"a traceback: {type(error).__name__}"
        if not _sentence(error):
            row["tracebacks"].append(traceback.format_exc())
        return None
    finally:
        row["seconds"][name] = round(time.monotonic() - begun, 2)


def _sentence(error: Exception) -> str:
    """What a person is told of an exception; "" where that is a traceback."""
    if isinstance(error, Error):
        return str(error)
    if isinstance(error, OSError) and error.filename:
        return said(error)
    with suppress(RuntimeError):
        return exhausted(error) if isinstance(error, MemoryError | RuntimeError) else ""
    return ""


def _kind(path: Path) -> tuple[str, list[str]]:
    """What a file is by its content, and the types of a net's layers, V0's and V1's by their new names."""
    if not is_text(head(path)):
        return "weights", []
    text = read_text(path)
    outermost, types = outlined(text)
    if SOLVER.search(text) or outermost and outermost <= {*SolverParameter.DESCRIPTOR.fields_by_name}:
        return "solver", []
    if not outermost & {"layer", "layers"}:
        return "label map" if "item" in outermost else "other", []
    return "net", [x if x in REGISTRY or not (x.isupper() or x.islower()) else
                   OLD.get(x.upper().replace("_", ""), x) for x in types]


def _either(look: Look, path: Path) -> None:
    """A look at a net in TEST; where that is none, in TRAIN, which may be all that a file is for."""
    try:
        look(path, TEST)
    except Error as error:
        try:
            look(path, TRAIN)
        except Error:
            raise error from None


def _states(net: NetParameter) -> Iterator[tuple[NetParameter, Phase]]:
    """A net in each phase and each stage that its rules name, where it has data of its own; at least once."""
    stages = {stage for layer in net.layer for rule in layer.include for stage in rule.stage}
    seen: list[tuple[Phase, list[bytes]]] = []
    for phase in (TEST, TRAIN):
        for stage in [None, *sorted(stages)]:
            state = deepcopy(net)
            state.state.stage.extend([stage] if stage else [])
            kept = standing(state, phase)
            this = phase, [layer.SerializeToString() for layer in kept]
            if any(map(feeds, kept)) and this not in seen:
                seen.append(this)
                yield state, phase
    if not seen:
        yield net, TEST


def _net(row: Row, path: Path, most: float) -> None:
    """Build a net as it stands in each phase and stage; run it in TEST, in TRAIN where TEST has no data."""
    states = _step(row, "run", lambda: [*_states(read_net(path))])
    row["steps"]["built"] = row["steps"]["run"]
    if states:
        first = [state for state in states if state[1] == states[0][1]]
        _step(row, "built", lambda: [_built(state, phase, path) for state, phase in states])
        how = _step(row, "run", lambda: [_run(_built(state, phase, path, losses=False), most)
                                         for state, phase in first])
        row["how"] = "meta" if "meta" in (how or ()) else "computed"


def _built(net: NetParameter, phase: Phase, path: Path, losses: bool = True) -> Graph:
    """The graph of a net, every blob with its shape. losses: with them and the batch that the net states;
    else only if it is nothing, or does not fit, without."""
    try:
        graph = deploy(net, phase, losses=losses, path=path)
    except Error:
        if losses:
            raise
        graph = deploy(net, phase, losses=True, path=path)
    for blob, shape in graph.shapes.items():
        if not all(isinstance(n, int) for n in shape):
            raise Error(f"{path}: the shape of '{blob.blob}' is not known")
    return graph


def _run(graph: Graph, most: float, net: Net | None = None) -> str:
    """Run a graph on one item of random data: "computed", or "meta", where it costs too much."""
    if net is None:
        graph = _of_one(graph)
    size = held(graph) + taken(graph.params)
    costs = sum(macs(graph, node) for node in graph.layers)
    large = size > MOST_BYTES or costs > most
    device = torch.device("meta" if large else "cpu")
    for node in graph.nodes if large else ():
        if node.op.waits:  # it needs numbers; who reads its tops need not
            made = [torch.empty(graph.shapes[top], device="meta") for top in node.tops]
            vars(node.op)["forward"] = partial(_given, made)
    waits = not large and any(node.op.waits for node in graph.nodes)  # whose tops may be of other sizes
    with device:
        net = net or Net(graph, generator=None if large else torch.Generator().manual_seed(0))
    batch = ({blob: torch.empty(graph.shape(blob), device="meta") for blob in graph.inputs} if large else
             draw(graph).blobs)
    with torch.inference_mode():
        found = net.to(device).train(graph.phase == TRAIN)(batch)
    for blob, x in found.items():
        if not waits and tuple(x.shape) != graph.shape(blob):
            raise Error(f"'{blob}' was to be {list(graph.shape(blob))} and came as {list(x.shape)}")
    return device.type if large else "computed"


def _given(made: Sequence[torch.Tensor], *_: Any) -> tuple[torch.Tensor, ...]:
    return tuple(made)


def _of_one(graph: Graph) -> Graph:
    """The graph with one item a batch, where it can do with that."""
    shapes = {top.blob: (1, *graph.shapes[top][1:]) for node in graph.sources for top in node.tops
              if isinstance(node.op, Given) or node.type == "Input"}
    sizes = {graph.shape(blob)[0] for blob in shapes if graph.shape(blob)}
    if len(sizes) != 1 or sizes == {1}:
        return graph
    try:
        return build(graph.proto, graph.phase, shapes=shapes, path=graph.path)
    except Error:
        return graph


def _taken(path: Path) -> None:
    """Read a solver and make it with a small net in place of its own."""
    param, small = read_solver(path), parse(SMALL, NetParameter)
    del param.weights[:]
    for field in ("net", "train_net", "net_param", "train_net_param"):
        if param.HasField(field):
            param.ClearField(field)
            getattr(param, field if field.endswith("_param") else f"{field}_param").CopyFrom(small)
    param.test_net_param.extend([small] * len(param.test_net))
    del param.test_net[:]
    for each in param.test_net_param:
        each.CopyFrom(small)
    param.solver_mode = SolverParameter.CPU
    updates.rate(Solver(param, path=path).param, 0)


def _weights(row: Row, path: Path, most: float, opencv: bool) -> None:
    """Read weights; run them in a net beside them; hold that against OpenCV."""
    read = _step(row, "read", partial(read_weights, path))
    stem = path.name.partition(".caffemodel")[0]
    beside = sorted(path.parent.glob("*.prototxt"), key=lambda each: (
        each.stem != stem, "deploy" not in each.name, each.name))
    fit = _step(row, "run", partial(_fitting, read or {}, beside))
    if fit:
        row["how"] = _step(row, "run", partial(_run, fit.graph, most, fit))
        if opencv and row["how"] == "computed":
            row["apart"] = _step(row, "agrees with OpenCV", partial(_against_opencv, fit, path))
    elif not row["steps"]["run"]:
        del row["steps"]["run"]


def _fitting(read: dict[str, Any], beside: Sequence[Path]) -> Net | None:
    """The first of the nets beside weights that they fit, with them; Error where none does and one of them
    cannot be built."""
    problem: Error | None = None
    for path in beside if read else ():
        try:
            graph = deploy(path)
        except Error as error:
            problem = problem or error
            continue
        needed = {node.name for node in graph.nodes if node.params}
        if needed and not weights.misfit(read, graph, needed):
            net = Net(graph)
            weights.ready(net, read)
            return net
    if problem:
        raise problem
    return None


def _against_opencv(net: Net, model: Path) -> float:
    """How far the outputs are from OpenCV's, of the largest value of each; Error if it is too far."""
    import cv2

    batch, worst = draw(net.graph).blobs, 0.0
    try:
        read = cv2.dnn.readNetFromCaffe(str(net.graph.path), str(model))
        for blob, x in batch.items():
            read.setInput(x.numpy(), blob)
        made = {top.blob: node.name for node in net.graph.layers for top in node.tops}
        theirs = {blob: read.forward(made[blob]) for blob in net.graph.outputs}
    except cv2.error as e:
        raise Error(f"OpenCV does not run it: {e}") from None
    with torch.inference_mode():
        ours = net(batch)
    for blob, values in theirs.items():
        mine = ours[blob].numpy()
        if mine.size != values.size:
            raise Error(f"'{blob}' is {list(mine.shape)} here, {list(values.shape)} by OpenCV")
        apart = np.abs(mine.ravel() - values.ravel()).max() / max(np.abs(values).max(), 1e-30)
        worst = max(worst, float(apart))
    if not worst <= CLOSE:
        raise Error(f"is {worst:.2g} of the largest value away from OpenCV")
    return worst
