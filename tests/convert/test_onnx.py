"""ONNX files: onnxruntime computes from them what the nets do, for every layer type that has a form, at several sizes."""

import json
import re

import numpy as np
import pytest
import torch

from netspec.cli.main import main
from netspec.convert import agree
from netspec.net import weights
from netspec.net.build import build
from netspec.net.deploy import deploy
from netspec.proto import text as prototext
from netspec.proto.caffe_pb2 import NetParameter

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
from netspec.convert import onnx as onnxfile  # noqa: E402 - after the check
from netspec.convert import onnxops  # noqa: E402

DATA = 'name: "n" layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 20 dim: 26 } } }\n'
FILL = 'weight_filler { type: "gaussian" std: 0.3 } bias_filler { type: "gaussian" std: 0.3 }'
FC = f"inner_product_param {{ num_output: 2 {FILL} }}"
SIZES = ((1, 20, 26), (2, 27, 31), (1, 33, 24))


def layer(kind, settings="", bottom="data", top="y", name=None):
    bottoms = " ".join(f'bottom: "{b}"' for b in bottom.split())
    tops = " ".join(f'top: "{t}"' for t in top.split())
    return f'layer {{ name: "{name or top.split()[0]}" type: "{kind}" {bottoms} {tops} {settings} }}\n'


def conv(settings="", bottom="data", top="c", kind="Convolution"):
    return layer(kind, f"convolution_param {{ {settings} {FILL} }}", bottom, top)


POOLED = conv("num_output: 3 kernel_size: 3 stride: 2") + layer("Pooling", "pooling_param { kernel_size: 2 stride: 2 }", "c", "p")
MASKED = layer("Pooling", "pooling_param { kernel_size: 2 stride: 2 }", top="p mask")

CASES = {
    "conv": conv("num_output: 4 kernel_h: 3 kernel_w: 5 pad_h: 2 pad_w: 1 stride: 2", top="y"),
    "conv group dilated": conv("num_output: 6 kernel_size: 3 dilation: 2 group: 3 pad: 1 bias_term: false", top="y"),
    "conv twice": layer("Convolution", f"convolution_param {{ num_output: 2 kernel_size: 1 {FILL} }}", "data data", "y z"),
    "deconv": conv("num_output: 4 kernel_size: 4 stride: 2 pad: 1", top="y", kind="Deconvolution"),
    **{kind: conv("num_output: 3 group: 3 kernel_size: 3 pad: 1", top="y", kind=kind)
       for kind in ("DepthwiseConvolution", "ConvolutionDepthwise")},
    "depthwise without groups": conv("num_output: 3 kernel_size: 3", top="y", kind="ConvolutionDepthwise"),
    "deconv bilinear": layer("Deconvolution", 'convolution_param { num_output: 3 group: 3 kernel_size: 4 stride: 2 '
                             'bias_term: false weight_filler { type: "bilinear" } }'),
    "deconv dilated": conv("num_output: 4 kernel_size: 3 dilation: 2 stride: 3", top="y", kind="Deconvolution"),
    **{f"pool {how} {k}/{s}/{p} {mode}": layer("Pooling", f"pooling_param {{ pool: {how} kernel_size: {k} stride: {s} pad: {p} "
                                               f"round_mode: {mode} }}")
       for how in ("MAX", "AVE") for mode in ("CEIL", "FLOOR")
       for k, s, p in ((2, 2, 0), (3, 2, 0), (3, 2, 1), (2, 2, 1), (3, 3, 2), (5, 3, 4), (7, 4, 2))},
    "pool mask": layer("Pooling", "pooling_param { kernel_size: 3 stride: 2 pad: 1 }", top="y mask"),
    "pool global": layer("Pooling", "pooling_param { global_pooling: true }")
    + layer("Pooling", "pooling_param { pool: AVE global_pooling: true }", top="z"),
    "fc": POOLED + layer("Pooling", "pooling_param { pool: AVE global_pooling: true }", "p", "g")
    + layer("InnerProduct", f"inner_product_param {{ num_output: 5 {FILL} }}", "g", "f")
    + layer("InnerProduct", "inner_product_param { num_output: 4 transpose: true bias_term: false "
            'weight_filler { type: "xavier" } }', "f"),
    "fc of three axes": layer("Flatten", "flatten_param { axis: 2 }", top="f") + layer("Permute", "permute_param { order: 0 "
                              "order: 2 order: 1 }", "f", "q")
    + layer("InnerProduct", f"inner_product_param {{ axis: 2 num_output: 4 {FILL} }}", "q"),
    "crop": POOLED + conv("num_output: 2 kernel_size: 8 stride: 4", "p", "u", "Deconvolution")
    + layer("Crop", "crop_param { axis: 2 offset: 1 offset: 2 }", "u c"),
    "crop channels": conv("num_output: 9 kernel_size: 1") + conv("num_output: 4 kernel_size: 3", top="d")
    + layer("Crop", "crop_param { axis: 1 offset: 5 offset: 1 offset: 2 }", "c d"),
    "lrn": layer("LRN", "lrn_param { local_size: 3 alpha: 0.5 beta: 0.7 k: 2 }"),
    "lrn within": layer("LRN", "lrn_param { local_size: 3 alpha: 0.01 beta: 0.7 norm_region: WITHIN_CHANNEL }"),
    "eltwise sum": layer("Eltwise", "eltwise_param { coeff: 2 coeff: -0.5 coeff: 1 }", "data data data"),
    "eltwise max": layer("AbsVal", top="a") + layer("Eltwise", "eltwise_param { operation: MAX }", "data a"),
    "eltwise prod": layer("AbsVal", top="a") + layer("Eltwise", "eltwise_param { operation: PROD }", "data a a"),
    "scale": layer("Scale", 'scale_param { bias_term: true filler { type: "gaussian" std: 1 } '
                   'bias_filler { type: "gaussian" std: 1 } }'),
    "scale all": layer("Scale", 'scale_param { num_axes: 0 filler { type: "constant" value: 3 } }'),
    "scale by a blob": layer("Reduction", "reduction_param { axis: 2 operation: MEAN }", top="f")
    + layer("Scale", "scale_param { axis: 0 }", "data f", "z") + layer("Bias", "bias_param { axis: 0 }", "z f"),
    "bias": layer("Bias", 'bias_param { filler { type: "gaussian" std: 1 } }'),
    "batch norm": layer("BatchNorm", "batch_norm_param { eps: 0.01 }"),
    "batch norm of Vitis-AI": layer("BatchNorm", "batch_norm_param { bias_filler { value: 2 } } param { lr_mult: 1 }"),
    "batch norm of NVIDIA": layer("BatchNorm", "batch_norm_param { scale_bias: true bias_filler { value: 2 } }"),
    "batch norm of Intel": layer("BatchNorm", "batch_norm_param { filler { value: 3 } bias_term: false }"),
    "batch norm of the batch": layer("BatchNorm", "batch_norm_param { use_global_stats: false }"),
    "bn": layer("BN", 'bn_param { frozen: true  slope_filler { type: "gaussian" std: 1 } '
                'bias_filler { type: "gaussian" std: 1 } }'),
    "bn of segnet": layer("BN", 'bn_param { scale_filler { type: "gaussian" std: 1 } bn_mode: INFERENCE }'),
    "normalize": layer("Normalize", "norm_param { across_spatial: false channel_shared: false }")
    + layer("Normalize", "norm_param { across_spatial: true channel_shared: true }", top="z"),
    "mvn": layer("MVN") + layer("MVN", "mvn_param { across_channels: true normalize_variance: false }", top="z"),
    "prelu": layer("PReLU") + layer("PReLU", "prelu_param { channel_shared: true }", top="z"),
    "relu": layer("ReLU") + layer("ReLU", "relu_param { negative_slope: 0.2 }", top="z"),
    "neurons": "".join(layer(kind, settings, top=kind) for kind, settings in (
        ("Sigmoid", ""), ("TanH", ""), ("AbsVal", ""), ("BNLL", ""), ("ELU", "elu_param { alpha: 0.7 }"),
        ("Swish", "swish_param { beta: 0.3 }"), ("Clip", "clip_param { min: -1 max: 2 }"),
        ("Threshold", "threshold_param { threshold: 0.4 }"), ("Dropout", ""),
        ("Exp", "exp_param { base: 2 scale: 0.01 shift: 1 }"))),
    "power": layer("Power", "power_param { power: 2 scale: 0.1 shift: 1 }") + layer("Power", "power_param { scale: 0 shift: 3 }",
                                                                                 top="z"),
    "log": layer("AbsVal", top="a") + layer("Log", "log_param { base: 10 scale: 2 shift: 1 }", "a"),
    "dropout without scale": layer("Dropout", "dropout_param { scale_train: false dropout_ratio: 0.3 }"),
    "names": conv("num_output: 2 kernel_size: 1") + "".join(layer(kind, settings, "c", "c", "n") for kind, settings in (
        ("Power", "power_param { scale: 2 shift: 1 power: 2 }"), ("TanH", ""),
        ("Power", "power_param { scale: 3 shift: -1 power: 2 }"))),
    "softmax": conv("num_output: 5 kernel_size: 1") + layer("Softmax", bottom="c"),
    "concat": layer("AbsVal", top="a") + layer("Concat", bottom="data a") + layer("Concat", "concat_param { axis: 2 }",
                                                                                "data a", "z"),
    "slice": conv("num_output: 6 kernel_size: 1") + layer("Slice", "slice_param { slice_point: 1 slice_point: 4 }", "c", "x y z")
    + layer("Slice", bottom="c", top="u v"),
    "flatten": layer("Flatten") + layer("Flatten", "flatten_param { axis: 1 end_axis: 2 }", top="z")
    + layer("Flatten", "flatten_param { axis: 2 end_axis: 1 }", top="w"),
    "reshape": layer("Reshape", "reshape_param { shape { dim: 0 dim: 0 dim: -1 } }")
    + layer("Reshape", "reshape_param { axis: 1 num_axes: 1 shape { dim: 1 dim: 3 } }", top="z")
    + layer("Reshape", "reshape_param { axis: -2 num_axes: 0 shape { dim: 1 } }", top="w"),
    "argmax": layer("ArgMax", "argmax_param { axis: 1 }")
    + layer("ArgMax", "argmax_param { top_k: 3 out_max_val: true }", top="z")
    + layer("ArgMax", "argmax_param { axis: 2 top_k: 2 out_max_val: true }", top="w"),
    "reduction": "".join(layer("Reduction", f"reduction_param {{ operation: {how} axis: {axis} coeff: 0.1 }}", top=how)
                         for how, axis in (("SUM", 2), ("ASUM", 1), ("SUMSQ", 3), ("MEAN", 0))),
    "tile": layer("Tile", "tile_param { axis: 1 tiles: 3 }") + layer("Permute", "permute_param { order: 0 order: 3 order: 1 }",
                                                                     top="z"),
    "split": layer("Split", top="y z"),
    "interp": layer("Interp", "interp_param { zoom_factor: 3 pad_beg: -1 }")
    + layer("Interp", "interp_param { shrink_factor: 2 pad_end: -2 }", top="z")
    + layer("Interp", "interp_param { height: 30 width: 7 }", top="w"),
    "interp to a blob": POOLED + layer("Interp", "interp_param { use_blob_size: true pad_beg: -1 }", "p data"),
    "upsample of one bottom": layer("Upsample", "upsample_param { scale: 3 }"),
    "upsample": MASKED + layer("Upsample", "upsample_param { scale: 2 }", "p mask"),
    "upsample to a size": MASKED + layer("Upsample", "upsample_param { upsample_h: 34 upsample_w: 32 }", "p mask"),
    "in place": layer("Dropout", bottom="data", top="data", name="drop") + conv("num_output: 4 kernel_size: 3")
    + layer("ReLU", bottom="c", top="c", name="relu") + layer("Scale", bottom="c", top="c", name="scale"),
    "shared": (conv("num_output: 3 kernel_size: 3", "data", "c") + conv("num_output: 3 kernel_size: 3", "c", "y")).replace(
        "convolution_param", 'param { name: "w" } convolution_param'),
    "parameter": layer("Parameter", "parameter_param { shape { dim: 3 } }", "", "w") + layer("Bias", bottom="data w"),
}


def built(text):
    return agree.filled(build(prototext.parse(DATA + text, NetParameter)))


def session(net):
    return ort.InferenceSession(onnxfile.model(net).SerializeToString(), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("name", CASES)
def test_onnxruntime_computes_the_same(name):
    net = built(CASES[name])
    other = session(net)
    assert [x.name for x in other.get_outputs()] == list(net.graph.outputs)
    rng = np.random.default_rng(1)
    for size in SIZES:
        x = rng.normal(0, 2, (size[0], 3, *size[1:])).astype(np.float32)
        with torch.no_grad():
            ours = net({"data": torch.from_numpy(x)})
        for blob, theirs in zip(net.graph.outputs, other.run(None, {"data": x}), strict=True):
            np.testing.assert_allclose(theirs, ours[blob].numpy(), rtol=2e-5, atol=2e-5, err_msg=f"{blob} {size}")


def test_every_type_with_a_form_is_in_a_case():
    shown = {layer.type for text in CASES.values() for layer in prototext.parse(text, NetParameter).layer}
    assert shown == set(onnxops.EMIT)


def test_names_axes_and_weights_are_kept():
    net = built(CASES["crop"])
    made = onnxfile.model(net)
    assert {node.name for node in made.graph.node} >= {node.name for node in net.graph.nodes}
    assert {name: array.shape for name, array in ((t.name, onnx.numpy_helper.to_array(t)) for t in made.graph.initializer)
            if "." in name} == {key: tuple(value.shape) for key, value in net.state_dict().items()}
    dims = {x.name: [d.dim_param or d.dim_value for d in x.type.tensor_type.shape.dim]
            for x in (*made.graph.input, *made.graph.output)}
    assert dims == {"data": ["N", 3, "H", "W"], "y": ["N", 2, "y_2", "y_3"]}


FACTS = {"classes": ["road", "car"], "palette": [[1, 2, 3], [4, 5, 6]], "mean": [1.5, 2, 3], "range": [0, 255], "order": "BGR"}
SAID = "{'classes': ['road 1 2 3', 'car 4 5 6'], 'void': 255, 'mean': [1.5, 2, 3], 'range': [0, 255]}"


def test_what_a_net_says_of_its_images_is_metadata():
    text = DATA.replace("input_param", f'python_param {{ param_str: "{SAID}" }} input_param') + CASES["crop"]
    made = onnxfile.model(agree.filled(build(prototext.parse(text, NetParameter, "net"))))
    assert {prop.key: json.loads(prop.value) for prop in made.metadata_props} == FACTS
    assert not onnxfile.model(built(CASES["crop"])).metadata_props
    voc = onnxfile.model(agree.filled(build(prototext.parse(DATA.replace('"n"', '"voc-fcn8s"') + CASES["crop"].replace(
        "num_output: 2", "num_output: 21"), NetParameter, "net"))))
    assert {prop.key for prop in voc.metadata_props} == FACTS.keys()


def write_net(folder, text):
    (folder / "net.prototxt").write_text(DATA + text)
    return str(folder / "net.prototxt")


def test_the_command_checks_what_it_writes(tmp_path, capsys, monkeypatch):
    path, out = write_net(tmp_path, CASES["crop"]), tmp_path / "new" / "net.onnx"
    assert main(["convert", "onnx", path, str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[2:5]] == [["y", "1x20x26"], ["y", "1x15x22"], ["y", "2x13x17"]]
    assert not any("proves nothing" in line for line in lines)
    written = onnx.load(out)
    onnx.checker.check_model(written)
    assert (written.opset_import[0].version, written.ir_version) == (18, 8)  # as docs/export.md says
    out.unlink()
    assert main(["convert", "onnx", write_net(tmp_path, layer("Power", "power_param { scale: 0 }")), str(out)]) == 0
    assert all(line.endswith("  all 0, which proves nothing") for line in capsys.readouterr().out.splitlines()[2:5])
    out.unlink()
    monkeypatch.setitem(onnxops.EMIT, "ReLU", lambda b, op, x: b.node("Abs", x))
    assert main(["convert", "onnx", write_net(tmp_path, CASES["relu"]), str(out), "--sizes", "8x9"]) == 1
    assert "DIFFERS" in capsys.readouterr().out and not out.exists()


def test_weights_come_from_a_file(tmp_path):
    net = built(CASES["crop"])
    weights.save(tmp_path / "w.caffemodel", net)
    out = tmp_path / "net.onnx"
    assert main(["convert", "onnx", write_net(tmp_path, CASES["crop"]), str(tmp_path / "w.caffemodel"), str(out)]) == 0
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(out).graph.initializer}
    np.testing.assert_array_equal(stored["u.weight"], net.state_dict()["u.weight"])


@pytest.mark.parametrize("text, arguments, words", [
    (layer("SPP", "spp_param { pyramid_height: 2 }"), ["o.onnx"], "'y' .SPP.: has no form in ONNX"),
    (CASES["relu"], ["o.onnx", "--sizes", "8"], "'8' is no size"),
    (CASES["relu"], ["w.caffemodel"], r"expected NET \[WEIGHTS\] OUT.onnx"),
    (POOLED + layer("InnerProduct", FC, "p"), ["o.onnx", "--sizes", "20x30"], "20x30: .*'y'"),
    (layer("SoftmaxWithLoss", "", "data data"), ["o.onnx"], "nothing is left"),
])
def test_what_cannot_be_written_is_said(tmp_path, capsys, monkeypatch, text, arguments, words):
    monkeypatch.chdir(tmp_path)
    assert main(["convert", "onnx", write_net(tmp_path, text), *arguments]) == 2
    assert re.search(words, capsys.readouterr().err) and not (tmp_path / "o.onnx").exists()


def test_a_net_of_parameters_alone(tmp_path):
    (tmp_path / "net.prototxt").write_text(
        'layer { name: "p" type: "Parameter" top: "p" parameter_param { shape { dim: 2 dim: 3 } } }')
    assert main(["convert", "onnx", str(tmp_path / "net.prototxt"), str(tmp_path / "p.onnx")]) == 0


def test_a_net_with_one_size_says_so(tmp_path, capsys):
    path = write_net(tmp_path, POOLED + layer("InnerProduct", FC, "p"))
    assert main(["convert", "onnx", path, str(tmp_path / "o.onnx")]) == 0
    said = capsys.readouterr().out
    assert "H, W as in the net" in said and "convert fcn" in said and "2x20x26" in said


def test_a_training_net_is_deployed(tmp_path):
    text = ('''name: "t"
        layer { name: "d" type: "Python" top: "data" top: "label" python_param { module: "absent" layer: "Absent" } }
        layer { name: "only" type: "Power" bottom: "data" top: "p" include { phase: TRAIN } }
        layer { name: "halved" type: "Power" bottom: "label" top: "half" power_param { scale: 0.5 } }'''
            + conv("num_output: 4 kernel_size: 3") + layer("Accuracy", bottom="c label")
            + layer("SoftmaxWithLoss", "", "c half", "l"))
    (tmp_path / "t.prototxt").write_text(text)
    made = deploy(tmp_path / "t.prototxt", size=(12, 14))
    assert made.inputs == ("data",) and made.outputs == ("c",) and made.shape("data") == (1, 3, 12, 14)


def test_a_net_that_onnxruntime_does_not_run_is_one_sentence(tmp_path, capsys):
    shape = "shape { dim: 1 dim: 0 dim: 9 dim: 9 }"
    text = f'layer {{ name: "data" type: "Input" top: "data" input_param {{ {shape} }} }}\n' + layer("Pooling", "pooling_param { kernel_size: 3 }")
    (tmp_path / "n.prototxt").write_text(text)
    assert main(["convert", "onnx", str(tmp_path / "n.prototxt"), str(tmp_path / "o.onnx")]) == 2
    assert "onnxruntime does not run net" in capsys.readouterr().err and not (tmp_path / "o.onnx").exists()
