"""Whole nets: NAME.json says the layers, their settings and shapes, NAME.npz what came out, forward and backward.

Parameters, and the images that the files leave out, follow from the names of layers and blobs.
"""

import json
import zlib
from pathlib import Path
from typing import Any

import golden_case
import judge_double
import numpy as np
import torch
from google.protobuf.message import Message

from netspec.net.build import build
from netspec.net.module import Net
from netspec.proto.caffe_pb2 import LayerParameter, NetParameter, Phase


def nets(case: Path, double: bool = False) -> None:
    """One case, its path without a suffix; AssertionError at the first thing that differs. double: see judge_double."""
    facts = json.loads(case.with_suffix(".json").read_text())
    arrays = dict(np.load(case.with_suffix(".npz")))
    given = {top for each in facts["layers"] if each["type"] == "Input" for top in each["tops"]}
    named = [dict(name=name, type="Input", bottoms=[], tops=[name], settings={}) for name in facts["inputs"]]
    layers = [*(each for each in named if each["name"] not in given), *facts["layers"]]
    net = NetParameter(layer=[layer(each, facts["inputs"]) for each in layers])
    built = build(net, Phase.Value(facts["phase"]))
    for each in facts["layers"]:
        found = [[list(slot.shape), slot.lr_mult, slot.decay_mult] for slot in built.node(each["name"]).params]
        assert found == [list(param.values()) for param in each.get("params", ())], each["name"]
    module = Net(built)
    params = {f"{name}:{i}": param for name, own in module.layers_with_params().items()
              for i, param in enumerate(own)}
    kinds = {each["name"]: each["type"] for each in facts["layers"]}
    with torch.no_grad():
        for key, param in params.items():
            name, _, number = key.rpartition(":")
            param.copy_(torch.from_numpy(parameter(name, int(number), kinds[name], tuple(param.shape))))
    if double:
        judge_double.doubled(module, arrays, lambda text: print(f"{case.name}: {text}", flush=True))
    inputs = {name: torch.from_numpy(arrays[f"in:{name}"] if f"in:{name}" in arrays else image(name, shape)).to(module.dtype)
              for name, shape in facts["inputs"].items()}
    blobs = module(inputs, want=list(facts["blobs"]))
    for name, shape in facts["blobs"].items():
        ones = (1,) * (len(shape) - blobs[name].dim())  # SegNet's Caffe has four axes throughout
        assert [*blobs[name].shape, *ones] == shape, f"{name}: {list(blobs[name].shape)}, not {shape}"
    learned = any(key.startswith("grad") for key in arrays)
    if learned:
        module.loss(blobs).backward()
    gradients = {key: param.grad for key, param in params.items() if param.grad is not None}
    for key, value in arrays.items():
        kind, _, name = key.partition(":")
        if kind not in ("phase", "in"):
            found = gradients[name] if kind.startswith("grad") else blobs[name]
            compare(key, kind.removeprefix("grad_"), found.detach().numpy(), value)


def compare(key: str, kind: str, ours: np.ndarray, theirs: np.ndarray) -> None:
    """kind: at or out_at, an array [flat index, value]; l2, a norm; out, all of it."""
    if kind.endswith("at"):
        ours, theirs = ours.ravel()[theirs[0].astype(np.int64)], theirs[1]
    elif kind == "l2":
        ours = np.linalg.norm(ours.astype(np.float64))
    golden_case.close(key, ours, theirs)


def layer(facts: dict[str, Any], shapes: dict[str, list[int]]) -> LayerParameter:
    """A layer as its facts have it; of an Input, the shape."""
    made = LayerParameter(name=facts["name"], type=facts["type"], bottom=facts["bottoms"], top=facts["tops"],
                          loss_weight=facts.get("loss_weight"), propagate_down=facts.get("propagate_down"))
    fill(made, facts["settings"])
    if facts["type"] == "Input":
        made.input_param.shape.add(dim=shapes[facts["tops"][0]])
    for param in facts.get("params", ()):
        made.param.add(lr_mult=param["lr_mult"], decay_mult=param["decay_mult"])
    return made


def fill(message: Message, settings: dict[str, Any]) -> None:
    """Set fields from JSON's values: forks differ in which are repeated, and whole numbers may be text."""
    for key, value in settings.items():
        field = message.DESCRIPTOR.fields_by_name[key]
        current = getattr(message, key)
        repeated = hasattr(current, "extend")
        for item in value if isinstance(value, list) else [value]:
            if field.message_type:
                fill(current.add() if repeated else current, item)
                continue
            if field.enum_type:
                item = field.enum_type.values_by_name[item].number
            elif isinstance(item, str) and field.cpp_type != field.CPPTYPE_STRING:
                item = int(item)
            current.append(item) if repeated else setattr(message, key, item)


def random(name: str) -> np.random.RandomState:
    return np.random.RandomState(zlib.crc32(name.encode()))


def image(name: str, shape: list[int]) -> np.ndarray:
    """An input that is not stored: an image, or SegNet's label."""
    drawn = random(f"in:{name}")
    if name == "label":
        labels = drawn.randint(0, 11, shape)
        labels[drawn.rand(*shape) < 0.1] = 11
        return labels.astype(np.float32)
    return drawn.uniform(-110, 130, shape).astype(np.float32)


def parameter(name: str, number: int, kind: str, shape: tuple[int, ...]) -> np.ndarray:
    """A parameter of a layer by the rule of its kind."""
    drawn = random(f"{name}/{number}")
    if kind == "BatchNorm":
        values = (drawn.uniform(0.5, 1.5, shape) if number == 1 else
                  np.ones(shape) if number else 0.1 * drawn.standard_normal(shape))
    elif kind in ("Scale", "BN"):
        values = 0.1 * drawn.standard_normal(shape) if number else drawn.uniform(0.3, 0.7, shape)
    else:
        values = drawn.standard_normal(shape) * (0.1 if number else np.sqrt(2 / np.prod(shape[1:])))
        values = values * (0.05 if "bbox" in name else 1)
    return values.astype(np.float32)
