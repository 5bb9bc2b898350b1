"""What comes of each file of a folder of Caffe's: whether nets are looked at, built and run, solvers taken,
weights read, run and held against OpenCV; and why the others are not."""

import hashlib
import os
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ..base.errors import Error, exhausted, said
from ..look.costs import macs
from ..net import weights
from ..net.build import standing
from ..net.deploy import deploy, feeds
from ..net.graph import Graph
from ..net.module import Net
from ..net.room import held, taken
from ..ops import REGISTRY
from ..proto.caffe_pb2 import TEST, TRAIN, NetParameter, Phase, SolverParameter
from ..proto.model import read_weights
from ..proto.text import SOLVER, outlined, parse, read_net, read_solver, read_text
from ..proto.upgrade import current
from ..proto.wire import head, is_text
from ..train import updates
from ..train.solver import Solver
from .batch import draw
from .opencv import apart

ENDS = ".prototxt", ".pt", ".pbtxt", ".caffemodel", ".caffemodel.h5"
MOST_BYTES = 2 << 30  # of a forward pass that computes
SMALL = """layer { name: "data" type: "DummyData" top: "data" top: "label" dummy_data_param {
                   shape { dim: 1 dim: 2 } shape { dim: 1 dim: 1 } } }
           layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
                   inner_product_param { num_output: 1 } }
           layer { name: "loss" type: "EuclideanLoss" bottom: "fc" bottom: "label" top: "loss" }"""
Row = dict[str, Any]
Look = Callable[[Path], object]  # what a command does with a net


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
        sha = hashlib.sha256(path.read_bytes()).hexdigest()
        found.setdefault(sha, Content(path, sha, [])).places.append(str(path.relative_to(folder)))
    return sorted(found.values(), key=lambda content: content.sha)


def lost(content: Content, why: str = "") -> Row:
    """The row of a content whose process said nothing of it, and why."""
    return {"path": content.places[0], "places": content.places, "sha": content.sha, "kind": "", "types": [],
            "steps": {"ended": why} if why else {}, "seconds": {}, "tracebacks": []}


def examined(looks: Mapping[str, Look], opencv: bool, most: float, content: Content) -> Row:
    """What comes of a content: its kind, `steps` (name -> "", or why not), the seconds of each, the types of
    its layers, how it was run, and the tracebacks of what no Error says, which should be none.

    most: MACs of a pass, above which only its shapes are followed.
    """
    torch.set_num_threads(1)
    row, path = lost(content), content.path
    row["kind"], row["types"] = _step(row, "read", partial(_kind, path)) or ("text", [])
    if row["kind"] == "net":
        for name, look in looks.items():
            _step(row, name, partial(look, path))
        _step(row, "built", lambda: [deploy(*state, losses=True, path=path) for state in _states(path)])
        row["how"] = _step(row, "run", partial(_ran, path, most))
    elif row["kind"] == "solver":
        _step(row, "taken", partial(_taken, path))
    elif row["kind"] == "weights" and (read := _step(row, "read", partial(read_weights, path))):
        net = _step(row, "run", partial(_fitting, read, _beside(content)))
        if net:
            row["net"] = os.path.relpath(net.graph.path, path.parent)
            row["how"] = _step(row, "run", partial(_run, net.graph, most, net))
        elif not row["steps"]["run"]:
            del row["steps"]["run"]
        if opencv and row.get("how") == "computed":
            row["apart"] = _step(row, "agrees with OpenCV", partial(apart, net, path))
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
    return "net", [x if x in REGISTRY else current(x) for x in types]


def _states(path: Path) -> Iterator[tuple[NetParameter, Phase]]:
    """A net in each phase and each stage that its rules name, where it has data of its own; at least once."""
    net, seen = read_net(path), list[tuple[Phase, list[bytes]]]()
    stages = {stage for layer in net.layer for rule in layer.include for stage in rule.stage}
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


def _ran(path: Path, most: float) -> str:
    """Run a net in TEST, or in TRAIN where TEST has no data: without losses where that is something, and
    fits, else with them and the batch that it states."""
    states, how = [*_states(path)], "computed"
    for net, phase in (state for state in states if state[1] == states[0][1]):
        try:
            graph = deploy(net, phase, path=path)
        except Error:
            graph = deploy(net, phase, losses=True, path=path)
        how = max(how, _run(graph, most))  # in the order of letters, as it happens
    return how


def _run(graph: Graph, most: float, net: Net | None = None) -> str:
    """Run a graph on random data: "computed", or "meta", where it costs too much."""
    waiting = [node for node in graph.nodes if node.op.waits]
    costs, device = sum(macs(graph, node) for node in graph.layers), torch.device("cpu")
    if held(graph) + taken(graph.params) > MOST_BYTES or costs > most:
        device = torch.device("meta")
        for node in waiting:  # it needs numbers; who reads its tops need not
            made = tuple(torch.empty(graph.shapes[top], device=device) for top in node.tops)
            vars(node.op)["forward"] = lambda *_, made=made: made
        batch = {blob: torch.empty(graph.shape(blob), device=device) for blob in graph.inputs}
    else:
        batch = draw(graph).blobs
    with device:
        net = net or Net(graph)
    with torch.inference_mode():
        found = net.to(device).train(graph.phase == TRAIN)(batch)
    for blob, x in found.items():
        if tuple(x.shape) != graph.shape(blob) and not (waiting and device.type == "cpu"):
            raise Error(f"'{blob}' was to be {list(graph.shape(blob))} and came as {list(x.shape)}")
    return "computed" if device.type == "cpu" else "meta"


def _taken(path: Path) -> None:
    """Read a solver and make it with a small net in place of its own."""
    param, small = read_solver(path), parse(SMALL, NetParameter)
    param.ClearField("weights")
    for field in ("net", "train_net", "net_param", "train_net_param"):
        if param.HasField(field):
            param.ClearField(field)
            getattr(param, field if field.endswith("_param") else f"{field}_param").CopyFrom(small)
    nets = [small] * (len(param.test_net) + len(param.test_net_param))
    param.ClearField("test_net")
    param.ClearField("test_net_param")
    param.test_net_param.extend(nets)
    param.solver_mode = SolverParameter.CPU
    updates.rate(Solver(param, path=path).param, 0)


def _beside(content: Content) -> list[Path]:
    """The texts beside weights, those of a like name first; where there is none, those to deploy in the
    folders of the same repository that lie beside their own."""
    path, stem = content.path, content.path.name.partition(".caffemodel")[0]
    near = sorted(path.parent.glob("*.prototxt"), key=lambda each: (
        each.stem != stem, "deploy" not in each.name, -len(os.path.commonprefix([stem, each.stem])), each))
    if near or len(Path(content.places[0]).parts) < 3:
        return near
    far = [*path.parent.parent.glob("*/*deploy*.prototxt"), *path.parent.parent.glob("*/*/*deploy*.prototxt")]
    return sorted(far, key=lambda each: (-len(os.path.commonprefix([stem, each.parent.name])), each))


def _fitting(read: Mapping[str, Any], beside: Iterable[Path]) -> Net | None:
    """The first of the nets beside weights that they fit, with them; Error where none does and one of them,
    which names a layer of theirs, cannot be built."""
    problem: Error | None = None
    for path in beside:
        try:
            text = read_net(path) if _kind(path)[0] == "net" else NetParameter()
            if not any(read.get(layer.name) for layer in text.layer):
                continue
            graph = deploy(text, path=path)
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
