"""Written Python modules compute what the nets do, in a process without netspec; torch.compile and torch.export too."""

import importlib.util

import pytest
import torch

from netspec.base.errors import Error
from netspec.cli.main import main
from netspec.convert import agree, torchops, totorch
from netspec.net.build import build
from netspec.proto import text as prototext
from netspec.proto.caffe_pb2 import NetParameter

safetensors = pytest.importorskip("safetensors.torch")

DATA = 'name: "small-net"\n' \
    'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 20 dim: 26 } } }\n'
FILL = 'weight_filler { type: "gaussian" std: 0.3 } bias_filler { type: "gaussian" std: 0.3 }'


def layer(kind, settings="", bottom="data", top="y", name=None):
    bottoms = " ".join(f'bottom: "{b}"' for b in bottom.split())
    tops = " ".join(f'top: "{t}"' for t in top.split())
    return f'layer {{ name: "{name or top.split()[0]}" type: "{kind}" {bottoms} {tops} {settings} }}\n'


def conv(settings="num_output: 4 kernel_size: 3", bottom="data", top="c", kind="Convolution"):
    return layer(kind, f"convolution_param {{ {settings} {FILL} }}", bottom, top)


def in_place(kind, settings="", blob="c"):
    return layer(kind, settings, blob, blob, f"{kind}_{blob}")


DEEP = (conv() + in_place("BatchNorm") + in_place("Scale", "scale_param { bias_term: true }") + in_place("ReLU")
        + layer("Pooling", "pooling_param { kernel_size: 3 stride: 2 }", "c", "pool/1")
        + conv("num_output: 6 kernel_size: 4 stride: 2 group: 2 bias_term: false", "pool/1", "class", "Deconvolution")
        + layer("Crop", "crop_param { axis: 2 offset: 1 offset: 0 }", "class c", "d.1") + in_place("Dropout", blob="d.1"))
CASES = {
    "deep": DEEP,
    "conv": conv("num_output: 6 kernel_h: 3 kernel_w: 5 pad_h: 2 pad_w: 1 stride: 2 dilation: 2 group: 3 bias_term: false",
                 top="y"),
    **{kind: conv("num_output: 3 group: 3 kernel_size: 3", top="y", kind=kind)
       for kind in ("DepthwiseConvolution", "ConvolutionDepthwise")},
    "bn of Vitis-AI": layer("BatchNorm", "batch_norm_param { bias_filler { value: 2 } } param { lr_mult: 1 }"),
    "bn of NVIDIA": layer("BatchNorm", "batch_norm_param { scale_bias: true bias_filler { value: 2 } }"),
    "bn of Intel": layer("BatchNorm", "batch_norm_param { filler { value: 3 } bias_term: false }"),
    **{f"pool {how} {mode} {k}/{s}/{p}": layer("Pooling", f"pooling_param {{ pool: {how} kernel_size: {k} stride: {s} pad: {p} "
                                               f"round_mode: {mode} }}")
       for how in ("MAX", "AVE") for mode in ("CEIL", "FLOOR") for k, s, p in ((2, 2, 0), (3, 2, 1), (2, 2, 1), (7, 4, 2))},
    "global": layer("Pooling", "pooling_param { global_pooling: true pool: AVE }", top="g")
    + layer("InnerProduct", f"inner_product_param {{ num_output: 5 {FILL} }}", "g", "f") + in_place("PReLU", blob="f")
    + layer("InnerProduct", f"inner_product_param {{ num_output: 4 transpose: true {FILL} }}", "f"),
    "channels": layer("Scale", 'scale_param { filler { type: "gaussian" std: 1 } }', top="s")
    + layer("Bias", 'bias_param { filler { type: "gaussian" std: 1 } }', "s", "b") + layer("PReLU", bottom="b")
    + layer("Pooling", "pooling_param { global_pooling: true }", top="g") + layer("Flatten", bottom="g", top="f")
    + layer("Scale", "scale_param { axis: 0 }", "data f", "z"),
    "bn": layer("BN", 'bn_param { frozen: true slope_filler { type: "gaussian" std: 1 } }'),
    "eltwise": "".join(layer("Eltwise", f"eltwise_param {{ {how} }}", "data s s", top) for how, top in (
        ("coeff: 2 coeff: -0.5 coeff: -1", "x"), ("operation: PROD", "y"), ("operation: MAX", "z"), ("", "w"))).join(
            [layer("Sigmoid", top="s"), ""]),
    "neurons": "".join(layer(kind, settings, top=f"{kind}{i}") for i, (kind, settings) in enumerate((
        ("ReLU", "relu_param { negative_slope: 0.1 }"), ("TanH", ""), ("AbsVal", ""), ("BNLL", ""),
        ("ELU", "elu_param { alpha: 0.7 }"), ("Clip", "clip_param { min: -1 max: 2 }"),
        ("Power", "power_param { power: 2 scale: 0.1 shift: 1 }"), ("Power", ""),
        ("LRN", "lrn_param { local_size: 3 alpha: 0.5 beta: 0.7 k: 2 }"), ("Softmax", ""),
        ("Dropout", "dropout_param { scale_train: false dropout_ratio: 0.3 }")))),
    "shapes": conv("num_output: 6 kernel_size: 1")
    + layer("Slice", "slice_param { slice_point: 1 slice_point: 4 }", "c", "x y z") + layer("Concat", bottom="x z x", top="j")
    + layer("Reshape", "reshape_param { axis: 1 num_axes: 1 shape { dim: 2 dim: -1 } }", "j", "r")
    + layer("Permute", "permute_param { order: 0 order: 2 order: 1 }", "r", "q") + layer("Flatten", "flatten_param { axis: 2 }",
                                                                                       "q", "f")
    + layer("Split", bottom="f", top="f1 f2") + layer("Interp", "interp_param { zoom_factor: 3 pad_beg: -1 }", "y", "i")
    + layer("Interp", "interp_param { use_blob_size: true }", "y data", "k"),
}


def built(text):
    return agree.filled(build(prototext.parse(DATA + text, NetParameter)))


def written(net, folder):
    """The module as it is loaded from its files."""
    writer = torchops.Writer(net)
    (folder / "module.py").write_text(totorch.text(writer, "a test"))
    safetensors.save_file(writer.tensors, folder / "module.safetensors")
    spec = importlib.util.spec_from_file_location("written", folder / "module.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.load()


def images(*sizes):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(n, 3, h, w, generator=generator) * 3 for n, h, w in sizes]


@pytest.mark.parametrize("name", CASES)
def test_the_module_computes_the_same(name, tmp_path):
    net = built(CASES[name])
    module = written(net, tmp_path)
    for x in images((1, 20, 26), (2, 27, 31), (1, 33, 24)):
        with torch.no_grad():
            ours, theirs = net({"data": x}), module(x)
        theirs = dict(zip(net.graph.outputs, theirs if isinstance(theirs, tuple) else (theirs,), strict=True))
        for blob in net.graph.outputs:
            torch.testing.assert_close(theirs[blob], ours[blob], rtol=1e-5, atol=1e-5)


def test_what_drops_at_random_is_not_written(tmp_path):
    with pytest.raises(Error, match="drops at random"):
        written(built(layer("Dropout", "dropout_param { sample_weights_test: true }")), tmp_path)


def test_every_type_with_a_form_is_in_a_case():
    shown = {layer.type for text in CASES.values() for layer in prototext.parse(text, NetParameter).layer}
    assert shown == set(torchops.FORMS)


def test_it_reads_as_a_person_writes_it(tmp_path):
    net = built(DEEP)
    writer = torchops.Writer(net)
    text = totorch.text(writer, "small.prototxt")
    body = text[text.index("def forward(self, data)") :]
    assert body.split("\n\n")[0].splitlines() == [
        "def forward(self, data):",
        "        c = F.relu(self.Scale_c(self.BatchNorm_c(self.c(data))))",
        "        pool_1 = F.max_pool2d(c, 3, 2, ceil_mode=True)",
        "        class_ = self.class_(pool_1)",
        "        d_1 = F.dropout(class_[:, :, 1:1 + c.shape[2], :c.shape[3]], 0.5, self.training)",
        "        return d_1",
    ]
    assert "class SmallNet(nn.Module):" in text
    assert "self.class_ = nn.ConvTranspose2d(4, 6, 4, stride=2, groups=2, bias=False)" in text
    assert {"c.weight", "c.bias", "class_.weight", "Scale_c.weight", "BatchNorm_c.running_mean"} <= set(writer.tensors)
    assert torch.equal(writer.tensors["c.weight"], net.state_dict()["c.weight"])


@pytest.mark.usefixtures("forked")
def test_what_a_net_says_of_its_images_is_there(tmp_path):
    said = "{'classes': ['road 1 2 3', 'car 4 5 6'], 'mean': [1.5, 2, 3], 'range': [0, 255]}"
    text = DATA.replace("input_param", f'python_param {{ param_str: "{said}" }} input_param') + conv("num_output: 2 kernel_size: 3")
    (tmp_path / "net.prototxt").write_text(text)
    assert main(["convert", "torch", str(tmp_path / "net.prototxt"), str(tmp_path / "facts_of.py")]) == 0
    spec = importlib.util.spec_from_file_location("facts_of", tmp_path / "facts_of.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (module.CLASSES, module.PALETTE) == (["road", "car"], [[1, 2, 3], [4, 5, 6]])
    assert (module.MEAN, module.RANGE, module.ORDER) == ([1.5, 2, 3], [0, 255], "BGR")


LONG = "".join(conv("num_output: 2 kernel_size: 1", top=f"{'a_long_name' * 5}_{i}") for i in range(4))


@pytest.mark.parametrize("start, body", [
    ('name: "path" ', conv()), ('name: "n\\"\\"\\"\\nraise SystemExit(3)\\n\\"\\"\\"" ', conv()), ("", LONG),
    ("", LONG + layer("Eltwise", bottom=" ".join(f"{'a_long_name' * 5}_{i}" for i in range(4)))),
    ("", layer("Slice", top=" ".join(f"{'a_long_name' * 5}_{i}" for i in range(3)))),
    ("", conv(top="a_long_name" * 5) + "".join(in_place(kind, settings, "a_long_name" * 5) for kind, settings in (
        ("BatchNorm", ""), ("Scale", "scale_param { bias_term: true }"), ("ReLU", "")))),
], ids=["path", "quotes", "outputs", "sum", "slice", "nested"])
@pytest.mark.usefixtures("forked")
def test_names_of_any_kind_give_a_file_that_runs(tmp_path, start, body):
    (tmp_path / "net.prototxt").write_text(start + DATA.partition("\n")[2] + body)
    out = tmp_path / "out.py"
    assert main(["convert", "torch", str(tmp_path / "net.prototxt"), str(out), "--sizes", "20x26"]) == 0
    assert out.with_suffix(".safetensors").stat().st_mode == out.stat().st_mode


@pytest.mark.usefixtures("forked")
def test_the_command(tmp_path, capsys, monkeypatch):
    (tmp_path / "net.prototxt").write_text(DATA + DEEP)
    out = tmp_path / "new" / "small.py"
    assert main(["convert", "torch", str(tmp_path / "net.prototxt"), str(out), "--sizes", "20x26", "9x31"]) == 0
    said = capsys.readouterr().out
    assert "2x9x31" in said and "DIFFERS" not in said
    assert sorted(path.name for path in out.parent.iterdir()) == ["small.py", "small.safetensors"]
    monkeypatch.setitem(torchops.FORMS, "ReLU", lambda w, op, x: f"torch.abs({x})")
    assert main(["convert", "torch", str(tmp_path / "net.prototxt"), str(tmp_path / "bad.py")]) == 1
    assert "DIFFERS" in capsys.readouterr().out and not (tmp_path / "bad.py").exists()


@pytest.mark.parametrize("text, words", [
    (layer("SPP", "spp_param { pyramid_height: 2 }"), "'y' .SPP.: has no plain form"),
    (layer("Scale", "scale_param { axis: 2 }"), "'y' .Scale.: has a plain form in torch with one number a channel"),
    (layer("Bias", "bias_param { num_axes: 2 }"), "'y' .Bias.: has a plain form in torch with one number a channel"),
    (layer("Pooling", "pooling_param { kernel_size: 3 }", top="y mask"), "'y' .Pooling.: .*mask"),
    ((conv("num_output: 3 kernel_size: 3") + conv("num_output: 3 kernel_size: 3", "c", "y")).replace(
        "convolution_param", 'param { name: "w" } convolution_param'), "'y' .Convolution.: shares"),
])
def test_what_has_no_plain_form_is_refused(text, words):
    with pytest.raises(Error, match=words):
        torchops.Writer(built(text))


SMALL = DEEP.replace('"class"', '"up"')  # torch.export cannot take a layer whose name is a keyword


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_torch_compile_takes_a_net_as_one_graph(backend):
    net = built(SMALL)
    torch._dynamo.reset()
    compiled = torch.compile(net, backend=backend, fullgraph=True)
    with torch.no_grad():
        for x in images((1, 20, 26), (2, 27, 31)):
            torch.testing.assert_close(compiled({"data": x})["d.1"], net({"data": x})["d.1"])
    assert list(compiled._orig_mod.state_dict()) == list(built(SMALL).state_dict())


@pytest.mark.parametrize("strict", [False, True])
def test_torch_export_of_any_size(strict):
    net = built(SMALL)
    first, *others = images((1, 20, 26), (1, 27, 31), (1, 33, 24))
    free = torch.export.Dim.DYNAMIC
    exported = torch.export.export(net, ({"data": first},), dynamic_shapes=({"data": {2: free, 3: free}},), strict=strict)
    assert set(exported.state_dict) == set(net.state_dict())
    for x in (first, *others):
        torch.testing.assert_close(exported.module()({"data": x})["d.1"], net({"data": x})["d.1"])
