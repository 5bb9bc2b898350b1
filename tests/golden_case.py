"""Running a net of one layer against what Caffe computed for it (tests/golden/README.md)."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from netspec.net import build as builds
from netspec.net.module import Net
from netspec.proto import caffe_pb2
from netspec.proto import text as prototext

RTOL, ATOL = 1e-4, 1e-5


def close(name: str, ours: np.ndarray, caffe: np.ndarray, atol: float = 0) -> None:
    """Equal shapes and |ours - caffe| <= max(atol, ATOL) + RTOL |caffe|."""
    ours = np.asarray(ours)
    assert ours.shape == caffe.shape, f"{name}: shape {ours.shape}, Caffe has {caffe.shape}"
    np.testing.assert_allclose(ours, caffe, rtol=RTOL, atol=max(atol, ATOL), err_msg=name)


@dataclass(frozen=True)
class Case:
    """A net of one layer, the phase it runs in, and Caffe's arrays by "kind:name"."""

    net: Any  # NetParameter
    phase: int
    arrays: Mapping[str, np.ndarray]

    def part(self, kind: str) -> dict[str, np.ndarray]:
        """The arrays of a kind ("in", "param", "out", "param_after", "topdiff", "indiff", "paramdiff") by name."""
        return {k.split(":", 1)[1]: v for k, v in self.arrays.items() if k.startswith(kind + ":")}

    def build(self) -> Net:
        """The net with the case's parameters."""
        net = Net(builds.build(self.net, self.phase))
        params = net.layers_with_params()
        with torch.no_grad():
            for key, value in self.part("param").items():
                layer, index = key.rsplit(":", 1)
                target = params[layer][int(index)]
                assert tuple(target.shape) == value.shape, key
                target.copy_(torch.from_numpy(value))
        return net


@cache
def load(prototxt: Path) -> Case:
    """A case of golden/layers/: NAME.prototxt with NAME.npz beside it."""
    arrays = dict(np.load(prototxt.with_suffix(".npz")))
    phase = caffe_pb2.Phase.Value(str(arrays.pop("phase")))
    return Case(prototext.read_net(prototxt), phase, arrays)


@cache
def load_all(packed: Path) -> dict[str, Case]:
    """The cases of golden/settings.npz by name: all numbers in one array, and a JSON index of nets and shapes."""
    cases, start = {}, 0
    with np.load(packed) as file:
        index, data = json.loads(file["index"].tobytes()), file["data"]
    for name, entry in index.items():
        arrays = {}
        for key, shape in entry["arrays"].items():
            stop = start + math.prod(shape)
            arrays[key] = data[start:stop].reshape(shape).copy()
            start = stop
        net = prototext.parse(entry["net"], caffe_pb2.NetParameter)
        cases[name] = Case(net, caffe_pb2.Phase.Value(entry["phase"]), arrays)
    return cases


def run(case: Case, device: str = "cpu") -> None:
    """Forward and backward of one case on a device; AssertionError at the first blob that differs from Caffe's."""
    net, part = case.build().to(device), case.part
    params = net.layers_with_params()
    inputs = {k: torch.from_numpy(v).to(device).requires_grad_(v.dtype.kind == "f") for k, v in part("in").items()}
    outputs = part("out")
    blobs = net(inputs, want=list(outputs))
    for name, value in outputs.items():
        close(f"out:{name}", blobs[name].detach().cpu().numpy(), value)
    for key, value in part("param_after").items():
        layer, index = key.rsplit(":", 1)
        close(f"param_after:{key}", params[layer][int(index)].detach().cpu().numpy(), value)
    objective = net.loss(blobs)
    for name, diff in part("topdiff").items():
        objective = objective + (blobs[name] * torch.from_numpy(diff).to(device)).sum()
    wanted, learned = part("indiff"), part("paramdiff")
    if (wanted or learned) and objective.requires_grad:
        objective.backward()
    zero = torch.zeros(())
    for name, value in wanted.items():
        gradient = inputs[name].grad
        close(f"indiff:{name}", (zero.expand(value.shape) if gradient is None else gradient).cpu().numpy(), value)
    for key, value in learned.items():
        layer, index = key.rsplit(":", 1)
        gradient = params[layer][int(index)].grad
        close(f"paramdiff:{key}", (zero.expand(value.shape) if gradient is None else gradient).cpu().numpy(), value)
