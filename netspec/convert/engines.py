"""Other programs that run nets on this machine's processor, fed with ONNX: OpenVINO and ONNX Runtime."""

import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..base.errors import Error, closest, listed

Arrays = Mapping[str, np.ndarray]  # blob -> what it holds
Run = Callable[[Arrays], dict[str, np.ndarray]]


def available() -> dict[str, str]:
    """The engines that are installed here, each with its version."""
    found = {}
    for name in ENGINES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def open(name: str, model: bytes | Path, threads: int, precision: str = "fp32") -> Run:
    """An ONNX model in an engine: a function from the inputs by name to the outputs by name, as float32.

    Sizes that the model leaves open may change from call to call. model: the file, or what it holds. threads:
    how many work on one call. precision: of products, fp32 or bf16. Raises Error for an engine that is not
    there, does not know the precision on this machine, or cannot take the model.
    """
    check(name, precision)
    try:
        run = ENGINES[name](model, settings(name, threads, precision))
    except Exception as e:  # each engine has kinds of its own
        raise Error(f"{name} cannot take the model ({_first(e)}); use --engine torch") from e

    def guarded(inputs: Arrays) -> dict[str, np.ndarray]:
        try:
            return run(inputs)
        except Exception as e:
            sizes = listed(f"{blob} {'x'.join(map(str, x.shape))}" for blob, x in inputs.items())
            raise Error(f"{name} cannot run the model on {sizes} ({_first(e)}); use --engine torch") from e

    return guarded


def check(name: str, precision: str = "fp32") -> None:
    """Error for an engine that is not known or not installed, or does not know the precision here."""
    if name not in ENGINES:
        known = ("torch", *ENGINES)
        raise Error(f"engine '{name}' is not known{closest(name, known)} ({', '.join(known)})")
    if name not in available():
        raise Error(f"--engine {name} needs {name} and onnx: pip install {name} onnx")
    if precision not in PRECISIONS[name]:
        raise Error(f"{name} computes in {' or '.join(PRECISIONS[name])}, not in {precision}")
    if precision == "bf16" and "BF16" not in _openvino_can():
        raise Error(f"{name} knows no bf16 units of this processor; leave out --precision bf16")


def tiled(precision: str) -> bool:
    """Whether products of this precision are AMX's here."""
    return precision == "bf16" and torch.cpu._is_amx_tile_supported()


def settings(name: str, threads: int, precision: str = "fp32") -> dict[str, str]:
    """What an engine is told, by its own names: what its documentation advises for one image at a time."""
    if name == "openvino":
        return {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "1", "INFERENCE_NUM_THREADS": str(threads),
                "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32"}
    return {"intra_op_num_threads": str(threads), "inter_op_num_threads": "1",
            "graph_optimization_level": "ORT_ENABLE_ALL", "execution_mode": "ORT_SEQUENTIAL"}


def _openvino_can() -> list[str]:
    return vino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def vino() -> Any:
    """OpenVINO, which tells its makers nothing and keeps no file at home. Raises ImportError."""
    modules: Any = sys.modules
    ours = "openvino_telemetry" not in modules
    modules.setdefault("openvino_telemetry", None)  # None: as where that is not installed
    try:
        import openvino
    finally:
        if ours:
            modules.pop("openvino_telemetry", None)
    return openvino


def _openvino(model: bytes | Path, told: Mapping[str, str]) -> Run:
    core = vino().Core()
    read = core.read_model(model)
    compiled = core.compile_model(read, "CPU", dict(told))
    takes = {name for each in compiled.inputs for name in each.names}
    gives = [each.names for each in compiled.outputs]

    def run(inputs: Arrays) -> dict[str, np.ndarray]:
        found = compiled({blob: x for blob, x in inputs.items() if blob in takes}, share_outputs=False)
        return {name: found[i] for i, names in enumerate(gives) for name in names}

    return run


def runtime() -> Any:
    """ONNX Runtime, which tells its makers nothing and keeps no file at home. Raises ImportError."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    return onnxruntime


def _onnxruntime(model: bytes | Path, told: Mapping[str, str]) -> Run:
    ort = runtime()
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = int(told["intra_op_num_threads"])
    options.inter_op_num_threads = int(told["inter_op_num_threads"])
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, told["graph_optimization_level"])
    options.execution_mode = getattr(ort.ExecutionMode, told["execution_mode"])
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    takes, gives = ([each.name for each in ends] for ends in (session.get_inputs(), session.get_outputs()))

    def run(inputs: Arrays) -> dict[str, np.ndarray]:
        return dict(zip(gives, session.run(gives, {blob: inputs[blob] for blob in takes}), strict=True))

    return run


def _first(error: Exception) -> str:
    """The first line that says something of what an engine said."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


ENGINES: dict[str, Callable[[bytes | Path, Mapping[str, str]], Run]] = {
    "openvino": _openvino, "onnxruntime": _onnxruntime}
PRECISIONS = {"openvino": ("fp32", "bf16"), "onnxruntime": ("fp32",)}
