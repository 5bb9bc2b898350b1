"""Layers whose settings and bottoms are what the schema lets through: each is computed, or refused in one sentence."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from fork_layers import CASES as FORKS
from golden_case import load
from google.protobuf.descriptor import FieldDescriptor as Field

from netspec.base import machine
from netspec.base.errors import LETTERS, Error
from netspec.net.build import build
from netspec.net.module import Net
from netspec.proto import caffe_pb2
from netspec.proto.types import own_fields

LAYERS = Path(__file__).parents[1] / "golden" / "layers"
CASES = {case.net.layer[-1].type: case
         for case in (*FORKS.values(), *map(load, sorted(LAYERS.glob("*.prototxt"), reverse=True)))}
VALUES = {  # by the C++ type of a field
    Field.CPPTYPE_INT32: [-(2**31), -1, 0, 1, 2**31 - 1],
    Field.CPPTYPE_UINT32: [0, 1, 100_000, 2**31 - 1, 2**31, 2**32 - 1],
    Field.CPPTYPE_INT64: [-(2**63), -1, 0, 2**31, 2**63 - 1],
    Field.CPPTYPE_FLOAT: [math.nan, math.inf, -math.inf, -1.0, 0.0, 1e-45, 3e38],
    Field.CPPTYPE_BOOL: [False, True],
    Field.CPPTYPE_STRING: ["", "\0", "." * 5000],
}
SHAPES = [(), (0,), (1,), (3,), (2, 3), (0, 3), (3, 0), (2, 3, 4), (2, 3, 4, 5, 6), (1,) * 32, (1,) * 33, (1,) * 70,
          (-1,), (2**31,), (0, 2**62), (0, 2**31 - 1, 2**31 - 1, 2**31 - 1), (1, 1, 1, 2**31 - 1), (1, 0, 7, 9),
          (2, 3, 0, 5), (2, 3, 4, 0), (0, 3, 7, 9)]


def settings(message, given=()):
    """Each setting as (the fields that lead to it, its values)."""
    for field in message.DESCRIPTOR.fields:
        if field.message_type and len(given) < 2:
            yield from settings(field.message_type._concrete_class(), (*given, field.name))
        values = [v.number for v in field.enum_type.values] if field.enum_type else VALUES.get(field.cpp_type, ())
        for value in values:
            for some in ([value], [value] * 40) if field.is_repeated else (value,):
                yield (*given, field.name), some
        if values and field.is_repeated:
            yield (*given, field.name), []


def changed(layer, path, value):
    for name in path[:-1]:
        inner = getattr(layer, name)
        layer = (inner[0] if len(inner) else inner.add()) if hasattr(inner, "add") else inner
    if isinstance(value, list):
        del getattr(layer, path[-1])[:]
        getattr(layer, path[-1]).extend(value)
    else:
        setattr(layer, path[-1], value)


def nets(case):
    """The case's net with one setting of its layer changed, and with one or all of its inputs in other shapes."""
    kind = case.net.layer[-1].type
    own = {*own_fields(kind), "loss_param" if "Loss" in kind else "param"} - {"transform_param"}
    for name in own:
        for path, value in settings(case.net.layer[-1].DESCRIPTOR.fields_by_name[name].message_type._concrete_class(), (name,)):
            net = caffe_pb2.NetParameter.FromString(case.net.SerializeToString())
            changed(net.layer[-1], path, value)
            yield f"{'.'.join(path)}: {str(value)[:20]}", net
    inputs = [i for i, one in enumerate(case.net.layer) if one.type == "Input" and one.input_param.shape]
    for shape in SHAPES:
        for some in dict.fromkeys([*((i,) for i in inputs), tuple(inputs)]):
            net = caffe_pb2.NetParameter.FromString(case.net.SerializeToString())
            for i in some:
                changed(net.layer[i], ("input_param", "shape", "dim"), [*shape])
            yield f"{some}: {shape[:6]}", net


def run(case, net):
    """A pass forward and back, with zeros where the case has no numbers of that shape."""
    made = Net(build(net, case.phase))
    made.check({b: torch.empty(made.graph.shape(b), device="meta") for b in made.graph.inputs})
    given, inputs = case.part("in"), {}
    for blob in made.graph.inputs:
        shape = made.graph.shape(blob)
        values = given[blob] if blob in given and given[blob].shape == shape else np.zeros(shape, np.float32)
        inputs[blob] = torch.from_numpy(values.copy()).requires_grad_()
    blobs = made(inputs, want=made.graph.outputs)
    total = made.loss(blobs) + sum(blobs[b].sum() for b in made.graph.outputs)
    if total.requires_grad:
        total.backward()


@pytest.mark.parametrize("kind", CASES)
def test_whatever_a_layer_is_told_is_computed_or_one_sentence(kind, monkeypatch):
    monkeypatch.setattr(machine, "room", lambda device: 7e7)
    for what, net in nets(CASES[kind]):
        try:
            run(CASES[kind], net)
        except Error as error:
            assert len(str(error)) < LETTERS + 10
        except Exception as error:
            raise AssertionError(f"{kind}, {what}") from error
