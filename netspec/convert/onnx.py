"""The `convert onnx` command: a net as an ONNX file, written only if onnxruntime computes what the net does."""

import argparse
from collections.abc import Sequence
from typing import Any

from ..base.errors import Error
from ..base.files import writing
from ..net.graph import Value
from ..net.module import Net
from . import agree as export
from .onnxops import Builder

OPSET, IR = 18, 8  # ONNX 1.13 (2022), the first whose Pad, Split, Shape and reductions are as onnxops.py writes them
LIMIT = 2**31 - 2**20  # bytes that one protobuf message holds


def model(net: Net) -> Any:
    """The onnx.ModelProto of a net: layers' and blobs' names kept, N, H and W open where the net takes any.

    Raises Error for a layer without a form in ONNX, and where the file would pass 2 GiB.
    """
    try:
        from onnx import TensorProto, checker, helper, numpy_helper
    except ImportError:
        raise Error("writing ONNX needs the package onnx: pip install netspec[onnx]") from None
    graph, built = net.graph, Builder(net)
    if sum(array.nbytes for array in built.initializers.values()) > LIMIT:
        raise Error(f"net '{graph.name}': more than 2 GiB of parameters do not fit one ONNX file")
    free = set(export.AXES) - set(export.fixed_axes(graph))
    own = export.own_size(graph)
    probes = [own, *(tuple(n + 64 * k * (axis in free) for k, n, axis in zip(steps, own, export.AXES, strict=True))
                     for steps in ((1, 2, 3), (2, 1, 5)))]
    found = [graph.infer(export.shapes_for(graph, probe)) for probe in probes]

    def described(blob: str) -> Any:
        value = Value(blob) if blob in graph.inputs else max(v for v in graph.shapes if v.blob == blob)
        dims = []
        for i, sizes in enumerate(zip(*(shapes[value] for shapes in found), strict=True)):
            same = [axis for axis, numbers in zip(export.AXES, zip(*probes, strict=True), strict=True) if numbers == sizes]
            dims.append(sizes[0] if len(set(sizes)) == 1 else same[0] if same else f"{blob}_{i}")
        return helper.make_tensor_value_info(blob, TensorProto.FLOAT, dims)

    nodes = []
    for node in built.nodes:
        attributes = {k: list(v) if isinstance(v, Sequence) and not isinstance(v, str) else v for k, v in node.items()
                      if k not in ("op_type", "inputs", "outputs", "name")}
        nodes.append(helper.make_node(node["op_type"], node["inputs"], node["outputs"], node["name"], **attributes))
    tensors = [numpy_helper.from_array(array, name) for name, array in built.initializers.items()]
    inputs, outputs = ([described(blob) for blob in blobs] for blobs in (graph.inputs, graph.outputs))
    made = helper.make_model(helper.make_graph(nodes, graph.name or "net", inputs, outputs, tensors), ir_version=IR,
                             opset_imports=[helper.make_opsetid("", OPSET)], producer_name="netspec")
    checker.check_model(made, full_check=True)
    return made


def convert(args: argparse.Namespace) -> int:
    """Write a net as ONNX if onnxruntime makes of it what the net does, which a table shows; else 1."""
    try:
        import onnxruntime
    except ImportError:
        raise Error("checking ONNX needs the package onnxruntime: pip install netspec[onnx]") from None
    net, out, sizes, spread = export.opened(args, ".onnx")
    data = model(net).SerializeToString()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])

    names = list(net.graph.outputs)
    if not export.agrees(net, lambda feeds: [dict(zip(names, session.run(names, x), strict=True)) for x in feeds], sizes, spread):
        print(f"onnxruntime {onnxruntime.__version__} does not agree: {out} is not written")
        return 1
    with writing(out) as file:
        file.write(data)
    print(f"agrees with onnxruntime {onnxruntime.__version__}; {len(data) / 1e6:.1f} MB, opset {OPSET} -> {out}")
    return 0
