"""Other programs compute what a net does: those that are installed, from ONNX files and from memory, for images of any size."""

import re
import sys
import types

import numpy as np
import pytest
import torch
from engine_cases import HERE, each_engine
from programs import environment, run

from netspec.base.errors import Error
from netspec.convert import agree, engines
from netspec.net.build import build
from netspec.proto import text as prototext
from netspec.proto.caffe_pb2 import NetParameter

pytest.importorskip("onnx")
from netspec.convert import onnx as onnxfile  # noqa: E402 - after the check

FILL = 'weight_filler { type: "gaussian" std: 0.1 } bias_filler { type: "gaussian" std: 0.1 }'
NET = f'''name: "n"
layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ dim: 1 dim: 3 dim: 20 dim: 26 }} }} }}
layer {{ name: "c" type: "Convolution" bottom: "data" top: "c" convolution_param {{ num_output: 8 kernel_size: 3 pad: 9 {FILL} }} }}
layer {{ name: "r" type: "ReLU" bottom: "c" top: "c" }}
layer {{ name: "p" type: "Pooling" bottom: "c" top: "p" pooling_param {{ kernel_size: 2 stride: 2 }} }}
layer {{ name: "u" type: "Deconvolution" bottom: "p" top: "u" convolution_param {{ num_output: 4 kernel_size: 4 stride: 2 {FILL} }} }}
layer {{ name: "score" type: "Crop" bottom: "u" bottom: "data" top: "score" crop_param {{ axis: 2 offset: 5 }} }}
'''
SIZES = ((1, 20, 26), (2, 33, 21), (1, 20, 26), (1, 7, 64))


def net():
    return agree.filled(build(prototext.parse(NET, NetParameter)))


def compare(run, ours, tolerance=1e-5):
    rng = np.random.default_rng(0)
    for n, h, w in SIZES:
        x = rng.normal(0, 30, (n, 3, h, w)).astype(np.float32)
        with torch.no_grad():
            want = ours({"data": torch.from_numpy(x)})["score"].numpy()
        found = run({"data": x, "label": x})["score"]  # what the model does not take is left
        assert found.shape == want.shape and found.dtype == np.float32
        assert np.abs(found - want).max() <= tolerance * np.abs(want).max()


@each_engine
def test_an_engine_computes_the_same_at_any_size(name, tmp_path):
    ours = net()
    data = onnxfile.model(ours).SerializeToString()
    (tmp_path / "n.onnx").write_bytes(data)
    for model in (data, tmp_path / "n.onnx"):
        compare(engines.open(name, model, 1), ours)


@each_engine
def test_outputs_and_what_an_engine_is_told(name):
    told = engines.settings(name, 3, "fp32")
    assert "3" in told.values()
    compare(engines.open(name, onnxfile.model(net()).SerializeToString(), 3), net())


@each_engine
def test_a_model_or_an_input_that_an_engine_cannot_take_is_said(name, tmp_path):
    (tmp_path / "n.onnx").write_bytes(b"no model")
    for model in (b"no model", tmp_path / "n.onnx", tmp_path / "not there"):
        with pytest.raises(Error, match=f"^{name} cannot take the model .*; use --engine torch$"):
            engines.open(name, model, 1)
    run = engines.open(name, onnxfile.model(net()).SerializeToString(), 1)
    with pytest.raises(Error, match=f"^{name} cannot run the model on data 1x5x9x9 .*; use --engine torch$"):
        run({"data": np.zeros((1, 5, 9, 9), np.float32)})


@pytest.mark.engine
def test_bf16_is_near_where_there_is_bf16():
    try:
        engines.check("openvino", "bf16")
    except Error as e:
        pytest.skip(str(e))
    compare(engines.open("openvino", onnxfile.model(net()).SerializeToString(), 1, "bf16"), net(), 2**-5)


@pytest.mark.parametrize("name, precision, installed, words", [
    ("onnxruntine", "fp32", HERE, "engine 'onnxruntine' is not known; did you mean 'onnxruntime'.*openvino"),
    ("openvino", "fp32", [], "^--engine openvino needs openvino and onnx: pip install openvino onnx$"),
    ("onnxruntime", "fp32", [], "needs onnxruntime and onnx: pip install onnxruntime onnx"),
    ("onnxruntime", "bf16", ["onnxruntime"], "onnxruntime computes in fp32, not in bf16"),
    ("openvino", "tf32", ["openvino"], "openvino computes in fp32 or bf16, not in tf32"),
])
def test_what_is_not_there_is_said(monkeypatch, name, precision, installed, words):
    monkeypatch.setattr(engines, "available", lambda: dict.fromkeys(installed, "1"))
    with pytest.raises(Error) as error:
        engines.open(name, b"", 1, precision)
    assert re.search(words, str(error.value)) and "\n" not in str(error.value)


@pytest.mark.parametrize("given", [None, types.ModuleType("openvino_telemetry")])
def test_what_a_person_put_in_the_telemetrys_place_stays(monkeypatch, given):
    monkeypatch.setitem(sys.modules, "openvino", types.ModuleType("openvino"))
    monkeypatch.setitem(sys.modules, "openvino_telemetry", given)
    engines.vino()
    assert sys.modules["openvino_telemetry"] is given
    monkeypatch.delitem(sys.modules, "openvino_telemetry")
    engines.vino()
    assert "openvino_telemetry" not in sys.modules


@each_engine
def test_engines_tell_nobody_and_keep_nothing_in_the_persons_home(name, tmp_path):
    code = ("import sys, threading\nfrom netspec.convert.engines import runtime, vino\n"
            f"{dict(openvino='vino', onnxruntime='runtime')[name]}()\n"
            "assert threading.enumerate() == [threading.main_thread()] and 'openvino_telemetry' not in sys.modules")
    done = run("-c", code, cwd=tmp_path, env=environment(HOME=str(tmp_path), CI=""))
    assert (done.returncode, done.stderr) == (0, "") and not [*tmp_path.iterdir()]
