"""diff-net: what is a difference and what is not, renames, generators, shapes, and its exit status."""

import importlib.util
import sys
from pathlib import Path

import pytest
from net.test_graph import DATA, conv, net, relu

from netspec.base.errors import Error
from netspec.check import diff as netdiff
from netspec.cli import main as cli
from netspec.proto import caffe_pb2
from netspec.proto import text as prototext
from netspec.pycaffe.script import read_or_generate

MODELS = Path(__file__).resolve().parents[2] / "models"
FCN = MODELS / "fcn.py"
NET = MODELS / "voc-fcn16s" / "train.prototxt"


def diff(a, b, **options):
    """(lines, sentence) for two nets as text."""
    return netdiff.difference(*(netdiff.layers(net(text), **options) for text in (a, b)))


def command(capsys, *args):
    status = cli.main(["diff-net", *map(str, args)])
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    return status, out.splitlines(), err


def layer(settings, type="Convolution", name="a"):
    return f'layer {{ name: "{name}" type: "{type}" bottom: "data" top: "{name}" {settings} }}\n'


# one layer, spelled in two ways

SAME = [
    ("Convolution", "convolution_param { num_output: 2 kernel_size: 3 }",
     "convolution_param { num_output: 2 kernel_size: 3 kernel_size: 3 pad: 0 stride: 1 dilation: 1 group: 1 bias_term: true }"),
    ("Convolution", "convolution_param { num_output: 2 kernel_size: 3 pad: 1 stride: 2 }", "convolution_param { num_output: 2 "
     "kernel_h: 3 kernel_w: 3 pad_h: 1 pad_w: 1 stride_h: 2 stride_w: 2 }"),
    ("Convolution", "convolution_param { kernel_h: 3 kernel_w: 5 }", "convolution_param { kernel_size: 3 kernel_size: 5 }"),
    ("Convolution", "convolution_param { pad_h: 1 pad_w: 0 }", "convolution_param { pad: 1 pad: 0 }"),
    ("Convolution", "param { lr_mult: 1 decay_mult: 1 } param { lr_mult: 2 }", "param { } param { lr_mult: 2 decay_mult: 1 }"),
    ("Convolution", "param { lr_mult: 1 } convolution_param { weight_filler { type: 'constant' } }", "convolution_param { }"),
    ("Pooling", "pooling_param { kernel_size: 2 stride: 2 }", "pooling_param { pool: MAX kernel_h: 2 kernel_w: 2 stride_h: 2 "
     "stride_w: 2 pad: 0 }"),
    ("Crop", "crop_param { offset: 5 }", "crop_param { axis: 2 offset: 5 offset: 5 }"),
    ("ReLU", "", "relu_param { negative_slope: 0 engine: DEFAULT }"),
    ("Eltwise", "", "eltwise_param { operation: SUM }"),
    ("SoftmaxWithLoss", "", "loss_weight: 1"),
    ("Python", "python_param { param_str: \"{'a': 1, 'b': (2, 3)}\" }", "python_param { param_str: \"dict(b=(2, 3))\" }"),
]
SAME[-1] = ("Python", SAME[-1][1], "python_param { param_str: \"{'b': (2,3), 'a':1}\" }")
SAME.append(("Python", "python_param { param_str: \"'stride': 16 \\n'scales': !!python/tuple [4, 8]\" }",
             "python_param { param_str: \"{'scales': [4, 8], 'stride': 16}\" }"))


@pytest.mark.parametrize("type, one, other", SAME)
def test_spellings_that_are_equal(type, one, other):
    lines, said = diff(DATA + layer(one, type), DATA + layer(other, type))
    assert lines == [] and said == "2 equal layers"


@pytest.mark.parametrize("type, one, other, lines", [
    ("Convolution", "convolution_param { kernel_size: 3 }", "convolution_param { kernel_size: 3 kernel_size: 5 }",
     ["-  convolution_param.kernel_size: 3", "+  convolution_param.kernel_size: 3 5"]),
    ("Convolution", "convolution_param { pad: 100 }", "", ["-  convolution_param.pad: 100"]),
    ("Convolution", "", "param { lr_mult: 0 }", ["+  param[0].lr_mult: 0"]),
    ("Pooling", "", "pooling_param { pool: AVE }", ["+  pooling_param.pool: AVE"]),
    ("Eltwise", "eltwise_param { coeff: 0.5 coeff: 0.1 }", "", ["-  eltwise_param.coeff: 0.5 0.1"]),
    ("SoftmaxWithLoss", "loss_weight: 2", "", ["-  loss_weight: 2"]),
    ("SoftmaxWithLoss", "loss_param { normalize: false }", "", ["-  loss_param.normalize: false"]),
    ("Convolution", "convolution_param { weight_filler { std: 1e-10 value: 3 } }", "", [
        "-  convolution_param.weight_filler.value: 3", "-  convolution_param.weight_filler.std: 1e-10"]),
    ("ReLU", "loss_weight: 1", "", ["-  loss_weight: 1"]),
    ("Dropout", "include { phase: TRAIN }", "", ["-  include[0].phase: TRAIN"]),
    ("Scale", "scale_param { filler { value: 0.0001 } }", "scale_param { filler { value: 0.01 } }",
     ["-  scale_param.filler.value: 0.0001", "+  scale_param.filler.value: 0.01"]),
    ("Python", "python_param { param_str: \"{'split': 'train', 'seed': 1}\" }",
     "python_param { param_str: \"{'split': 'val', 'seed': 1}\" }", ["-  param_str.split: 'train'", "+  param_str.split: 'val'"]),
    ("Python", "python_param { param_str: '{1: 2, 1: 3}' }", "", ['-  python_param.param_str: "{1: 2, 1: 3}"']),
    ("Python", "python_param { param_str: 'a b' }", "python_param { param_str: '' }", ['-  python_param.param_str: "a b"']),
    ("Reshape", "reshape_param { shape { dim: 0 dim: -1 } }", "reshape_param { shape { dim: 0 dim: 2 } }",
     ["-  reshape_param.shape.dim: 0 -1", "+  reshape_param.shape.dim: 0 2"]),
])
def test_settings_that_differ(type, one, other, lines):
    found, said = diff(DATA + layer(one, type), DATA + layer(other, type))
    assert found == [f"@@ a ({type}) @@ changed", *lines] and said == "1 equal, 1 changed layers"


def test_another_type_is_a_change():
    found, _ = diff(DATA + layer("", "ReLU"), DATA + layer("", "Sigmoid"))
    assert found == ["@@ a (ReLU) @@ changed", '-  type: "ReLU"', '+  type: "Sigmoid"']


# layers that are there or not, and where

CHAIN = DATA + conv("a", "data") + relu("r", "a") + conv("b", "a", 5) + conv("c", "b", 6)


def test_removed_and_added_stand_where_they_were():
    without = CHAIN.replace(conv("b", "a", 5), "").replace('bottom: "b"', 'bottom: "a"')
    lines, said = diff(CHAIN, without)
    assert lines == ["@@ b (Convolution) @@ removed", '-  type: "Convolution"', "-  bottom: a (after r)", "-  top: b",
                     "-  convolution_param.num_output: 5", "-  convolution_param.kernel_size: 1",
                     "@@ c (Convolution) @@ changed", "-  bottom: b", "+  bottom: a (after r)"]
    assert said == "3 equal, 1 changed, 1 removed layers"
    back, said = diff(without, CHAIN)
    assert said == "3 equal, 1 changed, 1 added layers"
    swap = {"-": "+", "+": "-"}
    assert sorted(back) == sorted(swap.get(line[0], line[0]) + line[1:].replace("removed", "added") for line in lines)


def test_order_that_does_not_matter():
    two = conv("x", "data") + conv("y", "data")
    lines, said = diff(DATA + two, DATA + conv("y", "data") + conv("x", "data"))
    assert lines == [] and said == "3 equal layers (in another order, which does not matter)"


def test_order_that_matters():
    drop = 'layer { name: "d" type: "Dropout" bottom: "a" top: "a" }\n'
    one, other = (DATA + conv("a", "data") + each + conv("b", "a") for each in (relu("r", "a") + drop, drop + relu("r", "a")))
    lines, _ = diff(one, other)
    assert lines == ["@@ r (ReLU) @@ changed", "-  bottom: a", "+  bottom: a (after d)",
                     "@@ d (Dropout) @@ changed", "-  bottom: a (after r)", "+  bottom: a",
                     "@@ b (Convolution) @@ changed", "-  bottom: a (after d)", "+  bottom: a (after r)"]
    lines, _ = diff(one, one.replace(drop, ""))  # what is left out is said once
    assert [line for line in lines if line.startswith("@@")] == ["@@ d (Dropout) @@ removed"]


def test_bottoms_in_another_order():
    sums = [DATA + conv("x", "data") + conv("y", "data") + f'layer {{ name: "s" type: "Eltwise" {each} top: "s" }}\n'
            for each in ('bottom: "x" bottom: "y"', 'bottom: "y" bottom: "x"')]
    assert diff(*sums)[0] == ["@@ s (Eltwise) @@ changed", "-  bottom: x, y", "+  bottom: y, x"]


# renames

def test_a_renamed_blob_and_layer_is_said_once():
    lines, said = diff(CHAIN, CHAIN.replace('"a"', '"first"'))
    assert lines == ["@@ a -> first (Convolution) @@ renamed"] and said == "4 equal, 1 renamed layers"


def test_a_renamed_blob_alone():
    lines, _ = diff(CHAIN, CHAIN.replace('top: "b"', 'top: "bb"').replace('bottom: "b"', 'bottom: "bb"'))
    assert lines == ["@@ blob b -> bb @@ renamed"]


def test_a_whole_net_renamed():
    alike = DATA + "".join(conv(f"conv{i}", f"conv{i - 1}" if i else "data") for i in range(9))
    lines, said = diff(alike, alike.replace('"conv', '"c').replace('"data"', '"image"'))
    assert lines[1:] == [f"@@ conv{i} -> c{i} (Convolution) @@ renamed" for i in range(9)] and said == "10 renamed layers"


def test_renamed_and_changed():
    lines, said = diff(CHAIN + relu("last", "c"), CHAIN.replace(conv("b", "a", 5), conv("score", "a", 60)).replace(
        'bottom: "b"', 'bottom: "score"') + relu("last", "c"))
    assert lines == ["@@ b -> score (Convolution) @@ changed", "-  convolution_param.num_output: 5",
                     "+  convolution_param.num_output: 60"] and said == "5 equal, 1 changed layers"


def test_the_same_settings_elsewhere_are_no_rename():
    _, said = diff(DATA + relu("r", "data", "t") + conv("a", "t", 5) + conv("b", "a"),
                   DATA + conv("a", "data", 5) + conv("b", "a") + relu("r2", "b", "t"))
    assert said == "2 equal, 1 changed, 1 removed, 1 added layers"


def test_siblings_are_matched_by_what_reads_them():
    text = DATA + conv("x", "data") + conv("y", "data") + relu("rx", "x") + conv("z", "y", 7)
    lines, _ = diff(text, text.replace('"y"', '"why"'))
    assert lines == ["@@ y -> why (Convolution) @@ renamed"]


# phases and sources

def test_phases():
    phased = [layer(f"include {{ phase: {p} }}", t, t) for p, t in (("TRAIN", "ReLU"), ("TEST", "TanH"))]
    one, other = DATA + "".join(phased), DATA + phased[0]
    assert diff(one, other)[1] == "2 equal, 1 removed layers"
    assert diff(one, other, phase=caffe_pb2.TRAIN) == ([], "2 equal layers")
    assert diff(DATA + layer("", "ReLU", "ReLU"), one, phase=caffe_pb2.TRAIN)[0] == []
    assert diff(one, other, phase=caffe_pb2.TEST)[1] == "1 equal, 1 removed layers"


def test_body(capsys):
    val = NET.with_name("val.prototxt")
    status, lines, _ = command(capsys, NET, val)
    assert status == 1 and lines[2] == "@@ data (Python) @@ changed" and "-  param_str.split: 'train'" in lines
    assert all(not line.startswith("@@") for line in lines[3:])
    status, lines, _ = command(capsys, NET, val, "--body")
    assert status == 0 and lines == ["45 equal layers"]


# the command

def test_equal_nets_and_how_they_are_printed(capsys, monkeypatch, tmp_path):
    assert command(capsys, NET, NET)[0] == 0
    changed = prototext.read_net(NET)
    changed.name, changed.layer[1].convolution_param.pad[0] = "another", 1
    prototext.write(tmp_path / "net.prototxt", changed)
    plain = [f"--- {NET}", f"+++ {tmp_path / 'net.prototxt'}", "@@ conv1_1 (Convolution) @@ changed",
             "-  convolution_param.pad: 100", "+  convolution_param.pad: 1", "45 equal, 1 changed layers"]
    assert command(capsys, NET, tmp_path / "net.prototxt") == (1, plain, "")
    monkeypatch.setattr(type(sys.stdout), "isatty", lambda self: True, raising=False)
    coloured = command(capsys, NET, tmp_path / "net.prototxt")[1]
    assert coloured[3] == "\x1b[31m-  convolution_param.pad: 100\x1b[0m" and coloured[-1] == plain[-1]
    monkeypatch.setenv("NO_COLOR", "1")
    assert command(capsys, NET, tmp_path / "net.prototxt")[1] == plain


def test_settings_of_the_whole_net(capsys, tmp_path):
    for name, text in (("a", "force_backward: true"), ("b", "")):
        (tmp_path / f"{name}.prototxt").write_text(f"{text}\n{CHAIN}")
    status, lines, _ = command(capsys, tmp_path / "a.prototxt", tmp_path / "b.prototxt")
    assert status == 1 and lines[2:] == ["@@ net @@ changed", "-  force_backward: true", "5 equal layers"]


def test_old_nets_are_compared_as_new_ones(capsys, tmp_path):
    (tmp_path / "old.prototxt").write_text('input: "data" input_dim: 2 input_dim: 3 input_dim: 8 input_dim: 9\n'
        'layers { name: "a" type: CONVOLUTION bottom: "data" top: "a" blobs_lr: 1 blobs_lr: 2 weight_decay: 1 weight_decay: 0 '
        'convolution_param { num_output: 4 kernel_size: 1 } }\n')
    (tmp_path / "new.prototxt").write_text(DATA.replace('name: "data"', 'name: "input"', 1) + conv(
        "a", "data", extra="param { } param { lr_mult: 2 decay_mult: 0 }"))
    assert command(capsys, tmp_path / "old.prototxt", tmp_path / "new.prototxt") == (0, ["2 equal layers"], "")


def test_shapes(capsys, tmp_path):
    padded = prototext.read_net(NET)
    padded.layer[1].convolution_param.pad[0] = 99
    prototext.write(tmp_path / "net.prototxt", padded)
    status, lines, _ = command(capsys, NET, tmp_path / "net.prototxt", "--shapes", "64x96", "--shapes", "500x500")
    assert status == 1
    at = [lines.index(f"@@ shapes at {size} @@") for size in ("64x96", "500x500")]
    assert lines[at[0] + 1 : at[0] + 3] == ["-  conv1_1: 1 x 64 x 262 x 294", "+  conv1_1: 1 x 64 x 260 x 292"]
    assert "-  score: 1 x 21 x 64 x 96" not in lines and any("1 x 64 x 698 x 698" in line for line in lines[at[1] :])
    assert command(capsys, NET, NET, "--shapes", "64x96")[:2] == (0, ["46 equal layers"])


def test_generators(capsys, tmp_path):
    assert command(capsys, f"{FCN}:voc-fcn16s", NET)[0] == 0
    assert command(capsys, f"{FCN}:voc-fcn16s/deploy", NET.with_name("deploy.prototxt"), "--shapes", "64x64")[0] == 0
    (tmp_path / "net.py").write_text(
        "import caffe\nfrom caffe import layers as L, params as P\n\n\ndef fcn(split):\n    n = caffe.NetSpec()\n"
        "    n.data = L.Input(shape=dict(dim=[2, 3, 8, 9]))\n"
        "    n.a = L.Convolution(n.data, num_output=4 if split == 'train' else 5, kernel_size=1)\n    return n.to_proto()\n\n\n"
        "def bare():\n    n = caffe.NetSpec()\n    n.data = L.Input(shape=dict(dim=[2, 3, 8, 9]))\n    return n\n\n\n"
        "def wrong():\n    return 1 / 0\n")
    (tmp_path / "net.prototxt").write_text(DATA + conv("a", "data"))
    (tmp_path / "data.prototxt").write_text(DATA)
    script = tmp_path / "net.py"
    assert command(capsys, f"{script}:fcn", tmp_path / "net.prototxt")[:2] == (0, ["2 equal layers"])
    assert command(capsys, f"{script}:fcn/val", tmp_path / "net.prototxt")[0] == 1
    assert command(capsys, f"{script}:bare", tmp_path / "data.prototxt")[0] == 0
    alexnet = MODELS / "alexnet" / "deploy.prototxt"
    assert command(capsys, f"{MODELS / 'classifiers.py'}:alexnet", alexnet)[0] == 0
    for call, said in (("fnc", "neither a function 'generate' nor 'fnc'; did you mean 'fcn'?"), ("wrong", "ZeroDivisionError"),
                       ("bare/val", "bare makes one net, without splits; leave /val out")):
        status, _, err = command(capsys, f"{script}:{call}", NET)
        assert status == 2 and said in err
    (tmp_path / "old.py").write_text("print 'a net'\n")
    status, _, err = command(capsys, f"{tmp_path / 'old.py'}:fcn", NET)
    assert status == 2 and "this is Python 2" in err


@pytest.mark.parametrize("args, said", [
    ([NET], "two nets are compared, 1 given; --figure3 takes one"),
    ([NET, NET.with_name("tain.prototxt")], "tain.prototxt' is not there"),
    ([f"{FCN}:voc-fcn61s", NET], "did you mean 'voc-fcn16s'?"),
    ([f"{FCN}:voc-fcn16s/trian", NET], "has no split 'trian'"),
    ([MODELS / "nowhere.py:fcn", NET], "generator"),
    ([FCN, NET], "FILE.py:NAME"),
    ([f"{MODELS / 'classifiers.py'}:alexnett", NET], "did you mean 'alexnet'?"),
])
def test_bad_input(capsys, args, said):
    status, out, err = command(capsys, *args)
    assert (status, out) == (2, []) and said in err


def test_a_net_without_layers(capsys, tmp_path):
    (tmp_path / "empty.prototxt").write_text("")
    (tmp_path / "data.prototxt").write_text(DATA)
    assert command(capsys, tmp_path / "empty.prototxt", tmp_path / "empty.prototxt")[:2] == (0, ["no layers"])
    status, lines, _ = command(capsys, tmp_path / "empty.prototxt", tmp_path / "data.prototxt")
    assert status == 1 and "+  top: data" in lines and not any("bottom" in line for line in lines)


def test_load_gives_what_a_file_gives():
    assert read_or_generate(f"{FCN}:voc-fcn16s/train") == prototext.read_net(NET)
    with pytest.raises(Error, match="not there"):
        read_or_generate("nowhere.prototxt")


def test_a_generator_leaves_no_caffe_behind():
    """It may make `import caffe` work, but not for what this process does next."""
    assert read_or_generate(f"{FCN}:voc-fcn16s/train").name and importlib.util.find_spec("caffe") is None


def test_the_generators_of_this_project_work_from_any_folder(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, split in (("voc-fcn8s", "train"), ("studies/voc-fcn-pool3", "val")):
        given = f"models/fcn.py:{name.rpartition('/')[2]}/{split}"
        assert command(capsys, given, MODELS / name / f"{split}.prototxt")[0] == 0


def test_a_stage_needs_its_phase(tmp_path, capsys):
    paths = [tmp_path / "a.prototxt", tmp_path / "b.prototxt"]
    for path, size in zip(paths, (3, 5), strict=True):
        path.write_text('layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 1 dim: 9 dim: 9 } } }'
                        'layer { name: "c" type: "Pooling" bottom: "x" top: "c" include { stage: "s" }'
                        f' pooling_param {{ kernel_size: {size} }} }}')
    for words, status in (["--stage", "s"], 2), (["--level", "1"], 2), (["--phase", "TEST"], 0), (["--phase", "TEST", "--stage", "s"], 1):
        assert cli.main(["diff-net", *map(str, paths), *words]) == status
    assert "give --phase TEST or TRAIN" in capsys.readouterr().err
