"""doctor says whether an engine that is installed runs the net quicker than torch."""

import re
import time

import pytest

from netspec.base.errors import Error
from netspec.check import NOTE, OK, quickest
from netspec.convert import engines
from netspec.net.build import build
from netspec.net.module import Net
from netspec.net.plan import Plan
from netspec.proto import text as prototext
from netspec.proto.caffe_pb2 import NetParameter

pytest.importorskip("onnx")
DATA = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 20 dim: 30 } } }'
CONV = 'layer { name: "c" type: "Convolution" bottom: "data" top: "c" convolution_param { num_output: 4 kernel_size: 3 } }'
FIXED = CONV + 'layer { name: "f" type: "InnerProduct" bottom: "c" top: "f" inner_product_param { num_output: 2 } }'


def net(layers=CONV):
    return Net(build(prototext.parse(DATA + layers, NetParameter)))


@pytest.mark.parametrize("seconds, level, do", [(0.0, NOTE, "infer and score are quicker with --engine openvino"), (0.2, OK, "")])
@pytest.mark.parametrize("layers, size", [(CONV, "1x3x128x128"), (FIXED, "1x3x20x30")])
def test_the_quickest_is_named(monkeypatch, seconds, level, do, layers, size):
    waits = {"openvino": seconds, "onnxruntime": 0.3}
    monkeypatch.setattr(engines, "available", lambda: dict.fromkeys(waits, "1"))
    monkeypatch.setattr(engines, "open", lambda name, model, threads: lambda arrays: time.sleep(waits[name]))
    monkeypatch.setattr(Plan, "__call__", lambda self, images: time.sleep(0.05))
    (found,) = quickest.quickest(net(layers))
    assert (found.level, found.where, found.do) == (level, "engines", do)
    assert re.fullmatch(rf"openvino [\d.]+, onnxruntime [\d.]+ of torch's time on {size}", found.what)


@pytest.mark.engine
@pytest.mark.skipif(not engines.available(), reason="no engine is installed")
def test_real_engines():
    (found,) = quickest.quickest(net())
    assert all(name in found.what for name in engines.available())


def test_without_engines_and_with_nets_that_they_cannot_run(monkeypatch):
    def refuse(*told):
        raise Error("no such layer")

    monkeypatch.setattr(engines, "available", dict)
    assert quickest.quickest(net()) == []
    assert quickest.quickest(net().to("meta")) == []
    monkeypatch.setattr(engines, "available", lambda: {"openvino": "1"})
    monkeypatch.setattr(engines, "open", refuse)
    assert quickest.quickest(net()) == [(OK, "engines", "openvino cannot run the net: no such layer", "")]
