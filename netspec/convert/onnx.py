"""Nets as ONNX files, written only if onnxruntime computes what the net does."""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..base.errors import Error, lacking
from ..base.files import writing
from ..net.graph import Graph, Value
from ..net.module import Net
from .agree import AXES, Agreement, Arrays, Size, agreements, facts, fixed_axes, own_size, shapes_for
from .engines import runtime
from .maxima import masked
from .onnxops import Builder

OPSET, IR = 18, 8  # ONNX 1.13 (2022), the first with Pad, Split, Shape and reductions as in onnxops.py
Place = tuple[str, int]  # the name of a file beside the model, and from which byte of it
LIMIT = 2**31 - 2**20  # bytes that one protobuf message holds


def write_onnx(net: Net, out: Path, sizes: Sequence[Size], spread: float) -> tuple[list[Agreement], str]:
    """Write a net as ONNX if onnxruntime makes of it what the net does; what was compared, and the end.

    sizes, spread: of the noise that both are given.
    """
    try:
        onnxruntime = runtime()
    except ImportError:
        raise Error(lacking("checking ONNX", "onnxruntime")) from None
    made = model(net)
    data = made.SerializeToString()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3

    def run(data: bytes, names: list[str], feeds: list[Arrays]) -> list[Arrays]:
        try:
            session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
            return [dict(zip(names, session.run(names, feed), strict=True)) for feed in feeds]
        except Exception as error:  # its own have no class in common
            raise Error(f"onnxruntime does not run net '{net.graph.name}': {error}") from error

    def masks(feed: Arrays) -> Arrays:
        """Of a file that gives them besides."""
        names, wider = list(masked(net.graph)), type(made).FromString(data)
        wider.graph.output.extend(type(made.graph.output[0])(name=name) for name in names)
        return run(wider.SerializeToString(), names, [feed])[0]

    found = agreements(net, partial(run, data, list(net.graph.outputs)), sizes, spread, masks)
    program = f"onnxruntime {onnxruntime.__version__}"
    if not all(row.fits for row in found):
        return found, f"{program} does not agree: {out} is not written"
    with writing(out) as file:
        file.write(data)
    return found, f"agrees with {program}; {len(data) / 1e6:.1f} MB, opset {OPSET}"


def model(net: Net, built: Builder | None = None, places: Mapping[str, Place] | None = None) -> Any:
    """The onnx.ModelProto of a net: layers' and blobs' names kept, N, H and W open where the net takes any.

    built: the net's nodes, where they are not one a layer. places: of parameters' numbers, by their keys,
    which then stay outside the model. metadata_props have what the net says of its images, in JSON: classes,
    palette, mean, range, order.
    Raises Error for a layer without a form in ONNX, and where the file would pass 2 GiB.
    """
    try:
        from onnx import TensorProto, checker, helper  # which Builder uses too
    except ImportError:
        raise Error(lacking("writing ONNX", "onnx")) from None
    graph, places = net.graph, places or {}
    built = built or Builder(net)
    used = {name for node in built.nodes for name in node.input}
    arrays = {name: array for name, array in built.initializers.items() if name in used}
    if not places and sum(array.nbytes for array in arrays.values()) > LIMIT:
        raise Error(f"net '{graph.name}': more than 2 GiB of parameters do not fit one ONNX file")
    tensors = [_tensor(name, array, places.get(built.keys.get(name, ""))) for name, array in arrays.items()]
    ends = {blob: helper.make_tensor_value_info(blob, TensorProto.FLOAT, dims)
            for blob, dims in (built.ends or _open_shapes(graph)).items()}
    inputs, outputs = ([ends[blob] for blob in blobs] for blobs in (graph.inputs, graph.outputs))
    whole = helper.make_graph(built.nodes, graph.name or "net", inputs, outputs, tensors)
    made = helper.make_model(whole, ir_version=IR, opset_imports=[helper.make_opsetid("", OPSET)],
                             producer_name="netspec")
    helper.set_model_props(made, {key: json.dumps(value) for key, value in facts(graph).items()})
    if not places:  # it would look for them
        checker.check_model(made, full_check=True)
    return made


def _tensor(name: str, array: np.ndarray, place: Place | None) -> Any:
    """The onnx.TensorProto of an array, which holds its numbers or says where they are."""
    from onnx import TensorProto, helper, numpy_helper

    if place is None:
        return numpy_helper.from_array(array, name)
    tensor = TensorProto(name=name, dims=array.shape, data_location=TensorProto.EXTERNAL,
                         data_type=helper.np_dtype_to_tensor_dtype(array.dtype))
    for key, value in zip(("location", "offset", "length"), (*place, array.nbytes), strict=True):
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def _open_shapes(graph: Graph) -> dict[str, list[int | str]]:
    """The shapes of inputs and outputs; sizes that change with N, H or W are names, theirs if equal."""
    own, fixed = own_size(graph), fixed_axes(graph)
    probes: list[Size] = []
    for steps in ((0, 0, 0), (64, 128, 192), (128, 64, 320)):  # no two axes change alike
        n, h, w = (n if axis in fixed else n + step for n, step, axis in zip(own, steps, AXES, strict=True))
        probes.append((n, h, w))
    found = [graph.infer(shapes_for(graph, probe)) for probe in probes]
    names = dict(zip(zip(*probes, strict=True), AXES, strict=True))  # the sizes in all probes -> the axis
    shapes: dict[str, list[int | str]] = {}
    for blob in (*graph.inputs, *graph.outputs):
        value = Value(blob) if blob in graph.inputs else max(v for v in graph.shapes if v.blob == blob)
        dims = enumerate(zip(*(each[value] for each in found), strict=True))
        shapes[blob] = [n[0] if len(set(n)) == 1 else names.get(n, f"{blob}_{i}") for i, n in dims]
    return shapes
