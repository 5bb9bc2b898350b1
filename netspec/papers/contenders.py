"""Who takes part when forward passes are timed: netspec, plain PyTorch, the engines that are installed."""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..base.errors import Error
from ..base.machine import settle
from ..convert import engines, onnx, routed
from ..net import weights
from ..net.deploy import feeds
from ..net.graph import Graph
from ..net.module import Net
from ..net.passes import REWRITES
from ..net.plan import Plan
from ..proto import text
from ..proto.caffe_pb2 import LayerParameter, NetParameter
from . import plain

PLAIN = "netspec as it is"  # layer by layer, as the net is written
AUTOCAST = {"fp32": None, "tf32": None, "bf16": torch.bfloat16}
OPENCV = "opencv-python-headless", "opencv-python"  # distributions of one library
Feed = Mapping[str, Tensor]  # input blob -> what is put in, float32


class Contender(NamedTuple):
    """One program that does the job. call: does it once; a forward pass gives its outputs by blob. told: its
    settings."""

    name: str
    precision: str
    call: Callable[[], Any]
    told: str
    rival: bool = False  # to be beaten: ratios are to the fastest of these


def installed() -> dict[str, str]:
    """The engines that are installed here, and their versions."""
    found = engines.available()
    for name in OPENCV:
        with suppress(PackageNotFoundError):
            found["opencv"] = version(name)
    return found


def contenders(net: Net, feed: Feed, precisions: Sequence[str], only: Sequence[str],
               rewrites: bool, left: list[str]) -> Iterator[Contender]:
    """All that can compute a net's outputs for an input here, each ready to do so.

    net: built for the input's sizes, with its parameters and `feed` on one device. only: see `asked_for`.
    rewrites: netspec without each of them too. left: gets a sentence for each that is left out; engines
    have the CPU's tables alone.
    """
    runs: dict[str, Callable[[], Net | Plan]] = {PLAIN: lambda: net, "netspec": lambda: Plan(net)}
    runs |= {f"netspec without {name}": partial(Plan, net, (name,)) for name in REWRITES if rewrites}
    for name in runs:
        for precision in precisions if asked_for(name, only) else ():  # a plan's weights are of one precision
            told = "torch.inference_mode" + ", all rewrites" * (name == "netspec")
            call = partial(_ours, net, runs[name](), feed, AUTOCAST[precision])
            yield Contender(name, precision, call, told)
    if asked_for("plain PyTorch", only):
        yield from _plain(net, feed, precisions, left)
    if any(x.device.type != "cpu" for x in feed.values()):
        return
    arrays = {blob: x.numpy() for blob, x in feed.items()}
    yield from _engines(net, arrays, precisions, only, rewrites, left)
    if "fp32" in precisions and "opencv" in installed() and asked_for("opencv", only):
        try:
            yield _opencv(net, arrays)
        except Exception as problem:  # its own kinds of error
            left.append(f"opencv in fp32 is left out: {' '.join(str(problem).split())}")


def settled(each: Contender, device: torch.device) -> Contender:
    """The same, with TF32 as its precision says at each call: the flag is one for the whole process."""
    def call() -> Any:
        settle(device, each.precision)
        return each.call()

    return each._replace(call=call)


def told_of_tf32(device: torch.device, precisions: Sequence[str]) -> list[str]:
    """A line with what `settled` does for these precisions, read back from torch; none for a CPU."""
    found = []
    for precision in precisions if device.type == "cuda" else ():
        settle(device, precision)
        on = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
        found.append(f"{'allowed' if all(on) else 'forbidden'} in {precision}")
    return [f"TF32, set anew for each call: {', '.join(found)}"] if found else []


def check_precisions(precisions: Sequence[str], device: torch.device) -> None:
    """Raise Error for a precision that a device does not have."""
    has = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    if "tf32" in precisions and not has:
        raise Error(f"--precision tf32: {device} has no TF32, which NVIDIA's GPUs have from compute "
                    "capability 8.0 on; use fp32 or bf16")


def asked_for(name: str, only: Sequence[str]) -> bool:
    """Whether a program's name has one of these words, or there are none."""
    return not only or any(word.lower() in name.lower() for word in only)


def _ours(net: Net, run: Net | Plan, feed: Feed, dtype: torch.dtype | None) -> Mapping[str, Any]:
    net.precision = dtype
    with torch.inference_mode():
        found = run(feed)
    assert isinstance(found, Mapping)
    finish(feed)
    return found


def finish(feed: Feed) -> None:
    """Wait for the device of a pass's inputs, which goes on when the call is done."""
    for device in {x.device for x in feed.values() if x.device.type != "cpu"}:
        torch.accelerator.synchronize(device)


def _plain(net: Net, feed: Feed, precisions: Sequence[str], left: list[str]) -> Iterator[Contender]:
    made = plain.of(net.graph, net.state_dict())
    if made is None or len(net.graph.outputs) != 1:
        left.append("plain PyTorch is left out: it is written for FCN-32s, 16s and 8s on a trunk like VGG's")
        return
    made.eval().channels_last()
    (blob,), (image,) = net.graph.outputs, feed.values()

    def call(dtype: torch.dtype | None) -> Mapping[str, Any]:
        with torch.inference_mode(), torch.autocast(image.device.type, dtype, enabled=dtype is not None):
            found = {blob: made(image.contiguous(memory_format=torch.channels_last))}
        finish(feed)
        return found

    for precision in precisions:
        cast = ", autocast" * (AUTOCAST[precision] is not None)
        yield Contender("plain PyTorch", precision, partial(call, AUTOCAST[precision]),
                        f"channels_last, torch.inference_mode{cast}")


def _engines(net: Net, arrays: Mapping[str, np.ndarray], precisions: Sequence[str], only: Sequence[str],
             rewrites: bool, left: list[str]) -> Iterator[Contender]:
    """Engines that are installed, with the net as published, and as its plan runs it."""
    net.precision, threads = None, torch.get_num_threads()
    forms: dict[str, Callable[[str], bytes]] = {"": lambda precision: fixed(net)}
    forms[", rewritten"] = partial(_rewritten, net, ())
    forms |= {f", rewritten without {name}": partial(_rewritten, net, (name,))
              for name in REWRITES if rewrites and name not in routed.THEIRS}
    for (form, make), precision in product(forms.items(), precisions):
        names = [name for name in engines.available() if asked_for(name + form, only)]
        try:
            model = make(precision) if names else b""
        except Error as problem:
            left.append(f"{', '.join(name + form for name in names)}: left out: {problem}")
            continue
        for name in names:
            try:
                run = engines.open(name, model, threads, precision)
            except Error as problem:
                left.append(f"{name}{form} in {precision} is left out: {problem}")
                continue
            told = ", ".join(f"{key} {x}" for key, x in engines.settings(name, threads, precision).items())
            yield Contender(name + form, precision, partial(run, arrays), told, not form)


def _rewritten(net: Net, without: Sequence[str], precision: str) -> bytes:
    """The net as an ONNX model for its own sizes, as an engine runs it of which it is told the precision."""
    shapes = {blob: net.graph.shape(blob) for blob in net.graph.inputs}
    built = routed.Routed(routed.planned(net, without), shapes, engines.tiled(precision))
    return onnx.model(net, built).SerializeToString()


def fixed(net: Net) -> bytes:
    """The net as published as an ONNX model for its own sizes alone, which engines plan best for."""
    model = onnx.model(net)
    for end in (*model.graph.input, *model.graph.output):
        for dim, size in zip(end.type.tensor_type.shape.dim, net.graph.shape(end.name), strict=True):
            dim.dim_value = size
    return model.SerializeToString()


def refed(graph: Graph, layers: Iterable[LayerParameter]) -> NetParameter:
    """The net of a graph with these layers in place of those that give data."""
    proto = deepcopy(graph.proto)
    kept = [layer for layer in proto.layer if not feeds(layer)]
    for old in ("input", "input_dim", "input_shape", "layer"):
        proto.ClearField(old)
    proto.layer.extend([*layers, *kept])
    return proto


def _opencv(net: Net, arrays: Mapping[str, np.ndarray]) -> Contender:
    """OpenCV, which reads Caffe's files itself."""
    import cv2

    inputs = [LayerParameter(name=blob, type="Input", top=[blob]) for blob in arrays]
    for layer in inputs:
        layer.input_param.shape.add(dim=net.graph.shape(layer.name))
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder, "net.prototxt"), Path(folder, "net.caffemodel")
        text.write(files[0], refed(net.graph, inputs))
        weights.save(files[1], net)
        read = cv2.dnn.readNetFromCaffe(*map(str, files))
    cv2.setNumThreads(torch.get_num_threads())
    read.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)
    read.setPreferableTarget(cv2.dnn.DNN_TARGET_CPU)
    outputs = list(net.graph.outputs)

    def call() -> Mapping[str, Any]:
        for blob, array in arrays.items():
            read.setInput(array, blob)
        return dict(zip(outputs, read.forward(outputs), strict=True))

    told = f"DNN_BACKEND_OPENCV, DNN_TARGET_CPU, setNumThreads {cv2.getNumThreads()}"
    return Contender("opencv", "fp32", call, told, True)
