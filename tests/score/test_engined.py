"""infer and score with another program to run the net: the same results, held against torch, its model kept beside the weights."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from engine_cases import HERE as ALL
from engine_cases import each_engine
from PIL import Image

from netspec.base.errors import Final
from netspec.base.machine import choose
from netspec.cli import main as cli
from netspec.convert import engines, onnxops, routed, stored
from netspec.net.build import build
from netspec.net.module import Net
from netspec.proto import text as prototext
from netspec.proto.caffe_pb2 import NetParameter
from netspec.proto.model import write_weights
from netspec.score import engined

pytest.importorskip("onnx")

LAYERS = '''
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 6 kernel_size: 3 pad: 9 } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "up" type: "Deconvolution" bottom: "pool" top: "up" convolution_param { num_output: 3 kernel_size: 4 stride: 2 bias_term: false } }
layer { name: "score" type: "Crop" bottom: "up" bottom: "data" top: "score" crop_param { axis: 2 offset: 7 } }
'''
DEPLOY = '''name: "n"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 16 dim: 16 } }
        python_param { param_str: "{'classes': ['a', 'b', 'c'], 'mean': [90, 100, 110]}" } }''' + LAYERS
VAL = '''name: "n"
layer { name: "data" type: "Python" top: "data" top: "label" python_param { module: "netspec.datasets" layer: "SegmentationData"
        param_str: "{'dataset': 'shapes', 'root': 'images', 'split': 'val', 'mean': [90, 100, 110]}" } }''' + LAYERS + '''
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" loss_param { ignore_label: 255 } }'''
SIZES = {"a": (40, 30), "b": (23, 37), "c": (40, 30), "d": (17, 19)}  # width, height
HERE = next(iter(ALL), None)
pytestmark = pytest.mark.engine
any_engine = pytest.mark.skipif(not HERE, reason="no engine is installed")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with deploy.prototxt, val.prototxt, its images of several sizes, and w/n.caffemodel."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(3)
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        Path("images", folder).mkdir(parents=True)
    for name, (width, height) in SIZES.items():
        Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)).save(f"images/JPEGImages/{name}.jpg")
        Image.fromarray(rng.integers(0, 3, (height, width), np.uint8)).save(f"images/SegmentationClass/{name}.png")
    Path("images/ImageSets/Segmentation/val.txt").write_text("\n".join(SIZES))
    Path("deploy.prototxt").write_text(DEPLOY)
    Path("val.prototxt").write_text(VAL)
    weigh(3)
    return tmp_path


def weigh(seed):
    rng = np.random.default_rng(seed)
    shapes = {"conv": ("Convolution", [(6, 3, 3, 3), (6,)]), "up": ("Deconvolution", [(6, 3, 4, 4)])}
    Path("w").mkdir(exist_ok=True)
    write_weights("w/n.caffemodel", "n", {
        layer: (kind, [rng.normal(0, 0.1, shape).astype(np.float32) for shape in blobs]) for layer, (kind, blobs) in shapes.items()})


def command(capsys, *words):
    status = cli.main([*map(str, words), "--device", "cpu"])
    return (status, *capsys.readouterr())


def infer(capsys, *options, out="o"):
    images = [f"images/JPEGImages/{name}.jpg" for name in SIZES]
    return command(capsys, "infer", "deploy.prototxt", "w/n.caffemodel", *images, "--out", out, "--scores", *options)


def kept():
    return sorted(path.name for path in Path("w").glob("*.onnx"))


@each_engine
@pytest.mark.parametrize("looks", [(), ("--scales", "0.75,1", "--flip")])
def test_infer_gives_what_torch_gives(place, capsys, name, looks):
    status, ours, _ = infer(capsys, *looks, out="t")
    assert status == 0
    status, theirs, err = infer(capsys, *looks, "--engine", name)
    assert (status, err, theirs) == (0, "", ours.replace("t/", "o/"))
    for image in SIZES:
        a, b = (np.load(f"{out}/{image}_scores.npy") for out in "to")
        assert np.abs(a - b).max() <= 1e-4 * np.abs(a).max() and a.std() > 0.01


@each_engine
@pytest.mark.parametrize("looks", [(), ("--flip",)])
def test_score_gives_what_torch_gives(place, capsys, name, looks):
    told = {}
    for engine in ("torch", name):
        status, out, err = command(capsys, "score", "val.prototxt", "w/n.caffemodel", "--json", "--quiet", "--engine", engine, *looks)
        assert (status, err) == (0, "")
        told[engine] = json.loads(out)
    ours, theirs = told["torch"], told[name]
    assert theirs["mean_iu"] == pytest.approx(ours["mean_iu"], abs=2e-3) and theirs["engine"] == name
    assert theirs["loss"] is None and theirs["images"] == 4  # the loss is torch's alone


@any_engine
def test_the_model_is_kept_beside_the_weights(place, capsys, monkeypatch):
    made = []
    monkeypatch.setattr(stored.onnx, "model", lambda net, *rest, make=stored.onnx.model: made.append(1) or make(net, *rest))
    assert infer(capsys, "--engine", HERE)[0] == 0
    first = kept()
    assert len(first) == 1 and re.fullmatch(r"n\.caffemodel\.[0-9a-f]{16}-[0-9a-f]{16}\.[0-9a-f]{8}\.onnx", first[0])
    assert infer(capsys, "--engine", HERE)[0] == 0 and (kept(), len(made)) == (first, 1)
    assert command(capsys, "score", "val.prototxt", "w/n.caffemodel", "--quiet", "--engine", HERE)[0] == 0
    assert len(kept()) == len(made) == 2  # another net of these weights
    Path("w/n.caffemodel.mine.onnx").write_text("of somebody else")
    weigh(4)
    assert infer(capsys, "--engine", HERE)[0] == 0
    assert len(kept()) == 2 and not set(kept()) & set(first)  # of the weights that are gone nothing is left
    assert "n.caffemodel.mine.onnx" in kept() and len(made) == 3


@each_engine
def test_sizes_that_come_often_get_a_model_of_their_own(place, capsys, monkeypatch, name):
    opened = []
    monkeypatch.setattr(engines, "open", lambda name, model, *rest, open=engines.open: opened.append(model) or open(name, model, *rest))
    monkeypatch.setitem(engined.OFTEN, "fp32", 2)
    monkeypatch.setattr(engined, "OWN", 1)
    assert infer(capsys, out="t")[0] == 0
    images = [f"images/JPEGImages/{image}.jpg" for image in "acacbabb"]  # a and c have one size; b's turn comes when there is no room
    for _ in range(2):
        assert command(capsys, "infer", "deploy.prototxt", "w/n.caffemodel", *images[:2], "--out", "o", "--scores", "--engine", name)[0] == 0
    assert len(opened) == 4 and opened[:2] == opened[2:] and len(kept()) == len({*opened}) == 2
    assert len([*Path("w").glob("*.onnx_data")]) == 1 and all(path.stat().st_size < 40000 for path in opened)
    for image in "ac":
        a, b = (np.load(f"{out}/{image}_scores.npy") for out in "to")
        assert np.abs(a - b).max() <= 1e-4 * np.abs(a).max() and a.std() > 0.01
    opened.clear()
    net = Net(build(prototext.parse(DEPLOY, NetParameter))).eval()
    run = engined.Engined(net, "score", engined.Engine(name))
    for image in images:
        x = torch.randn(1, 3, *SIZES[image[-5]][::-1])
        with torch.no_grad():
            ours = net({"data": x})["score"]
        assert (run({"data": x}, ["score"])["score"] - ours).abs().max() <= 1e-4 * ours.abs().max()
    assert len(opened) == 2 and len(run.own) == 1 and len(run.compared) == 2


@any_engine
def test_a_model_of_one_size_is_held_against_torch(place, capsys, monkeypatch):
    monkeypatch.setitem(engined.OFTEN, "fp32", 2)
    monkeypatch.setattr(routed.Routed, "pasted", lambda self, x, around, place, real=routed.Routed.pasted: real(self, x, around + 9, place))
    status, out, err = infer(capsys, "--engine", HERE)
    assert status == 2 and out.count("\n") == 2 and "c.jpg" not in out and "differs from torch" in err


@any_engine
@pytest.mark.parametrize("lacking", ["a gain", "memory"])
def test_a_size_that_would_not_run_faster_or_has_no_room_gets_none(place, capsys, monkeypatch, lacking):
    monkeypatch.setitem(engined.OFTEN, "fp32", 2)
    if lacking == "memory":
        monkeypatch.setattr(engined, "room", lambda device: 3000)
        assert infer(capsys, "--engine", HERE)[0] == 0 and len(kept()) == 1
        return
    Path("deploy.prototxt").write_text(DEPLOY.replace("pad: 9", "pad: 1").replace("offset: 7", "offset: 0"))
    assert infer(capsys, "--engine", HERE)[0] == 0 and len(kept()) == 1


@any_engine
@pytest.mark.parametrize("damage", ["cut", "empty", "bytes"])
@pytest.mark.parametrize("ending", ["onnx", "onnx_data"])
def test_a_damaged_model_is_made_anew(place, capsys, damage, ending):
    assert infer(capsys, "--engine", HERE, out="t")[0] == 0
    (path,) = Path("w").glob(f"*.{ending}")
    good = path.read_bytes()
    middle = len(good) // 2
    path.write_bytes({"cut": good[:middle], "empty": b"", "bytes": good[:middle] + b"\0\1\2\3" + good[middle + 4:]}[damage])
    assert infer(capsys, "--engine", HERE)[0] == 0
    assert path.read_bytes() == good
    np.testing.assert_array_equal(np.load("t/a_scores.npy"), np.load("o/a_scores.npy"))


@any_engine
@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder that nobody can write")
def test_a_folder_that_cannot_be_written_is_said_once(place, capsys, monkeypatch):
    monkeypatch.setattr(stored, "writing", lambda path, real=stored.writing: real(Path("/proc", path.name)))
    status, _, err = infer(capsys, "--engine", HERE)
    assert status == 0 and kept() == []
    assert re.fullmatch(r"note: the net's ONNX model cannot be kept in \S+/w \(.+\): each run makes it anew\n", err)


@any_engine
def test_other_scores_than_torchs_stop_the_run(place, capsys, monkeypatch):
    monkeypatch.setitem(onnxops.EMIT, "ReLU", lambda b, op, x: b.node("LeakyRelu", x, alpha=0.01))
    status, out, err = infer(capsys, "--engine", HERE)
    assert (status, out) == (2, "") and not list(Path("o").glob("*.png"))
    assert re.search(f"^netspec infer: {HERE} differs from torch on the first image, by .* where the largest score is "
                     r".* \(fp32 may differ by 0.0001 of it\); use --engine torch$", err) and err.count("\n") == 1
    status, out, err = infer(capsys, "--engine", HERE, "--flip")
    assert status == 2 and "at scale 1: " in err and err.count("\n") == 1
    status, out, err = command(capsys, "score", "val.prototxt", "w/n.caffemodel", "--engine", HERE, "--quiet")
    assert (status, out) == (2, "") and "differs from torch" in err


@pytest.mark.parametrize("options, words", [
    (["--engine", "openvine"], r"engine 'openvine' is not known; did you mean 'openvino'\? \(torch, openvino, onnxruntime\)"),
    (["--engine", "openvino"], "--engine openvino needs openvino and onnx: pip install openvino onnx"),
])
def test_what_is_not_there_is_said_before_anything_is_read(place, capsys, monkeypatch, options, words):
    monkeypatch.setattr(engines, "available", dict)
    os.unlink("w/n.caffemodel"), Path("w/n.caffemodel").write_bytes(b"")
    status, out, err = infer(capsys, *options)
    assert (status, out) == (2, "") and re.search(words, err) and err.count("\n") == 1


@any_engine
def test_what_engines_cannot_run_is_said(place, capsys, monkeypatch):
    with pytest.raises(engined.Error, match="runs on the CPU: give --device cpu, or use --engine torch"):
        engined.Engine(HERE).check(torch.device("cuda"), "fp32")
    assert engined.Engine(HERE).check(choose("cpu"), "tf32") == "fp32"
    monkeypatch.syspath_prepend(".")
    Path("mine.py").write_text("import caffe\nclass Same(caffe.Layer):\n    def setup(self, bottom, top): pass\n"
                               "    def reshape(self, bottom, top): top[0].reshape(*bottom[0].data.shape)\n"
                               "    def forward(self, bottom, top): top[0].data[...] = bottom[0].data\n")
    Path("deploy.prototxt").write_text(DEPLOY.replace('type: "ReLU"', 'type: "Python" python_param { module: "mine" layer: "Same" }'))
    status, out, err = infer(capsys, "--engine", HERE)
    assert (status, out) == (2, "") and f"--engine {HERE}: " in err and "has no form in ONNX" in err
    assert infer(capsys)[0] == 0


@any_engine
def test_a_net_of_one_size(place, capsys):
    fixed = DEPLOY.replace('name: "score" type: "Crop"', 'name: "cut" type: "Crop"').replace('top: "score"', 'top: "cut"') + (
        'layer { name: "s" type: "Flatten" bottom: "cut" top: "s" flatten_param { axis: 2 } }'
        'layer { name: "score" type: "Reshape" bottom: "s" top: "score" reshape_param { shape { dim: 0 dim: 0 dim: 16 dim: 16 } } }')
    Path("deploy.prototxt").write_text(fixed)
    Image.new("RGB", (16, 16), "red").save("images/JPEGImages/b.jpg")
    for engine in ("torch", HERE):
        status, out, err = infer(capsys, "--engine", engine, out=engine)
        assert status == 2 and len(out.splitlines()) == 1 and out.startswith("images/JPEGImages/b.jpg") and "a.jpg" in err
    a, b = (np.load(f"{engine}/b_scores.npy") for engine in ("torch", HERE))
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-4 * np.abs(a).max())


@any_engine
def test_bounds_are_of_the_largest_score(monkeypatch):
    """As far from torch as is allowed, and a little farther, in both precisions; and no number at all."""
    net = Net(build(prototext.parse(DEPLOY, NetParameter)))
    for param in net.parameters():
        torch.nn.init.normal_(param)
    x = {"data": torch.randn(1, 3, 16, 16)}
    ours = net(x)["score"].detach().numpy()
    monkeypatch.setattr(engined.Engine, "check", lambda engine, device, precision: precision)
    for precision, bound in (("fp32", 1e-4), ("bf16", 1 / 32)):
        for factor, fits in ((0.98, True), (1.02, False), (np.nan, False)):
            found = ours + np.float32(factor * bound * np.abs(ours).max())
            monkeypatch.setattr(engines, "open", lambda *told, found=found: lambda inputs: {"score": found})
            net.precision = torch.bfloat16 if precision == "bf16" else None
            run = engined.Engined(net, "score", engined.Engine(HERE))
            if fits:
                run(x, ["score"])
            else:
                with pytest.raises(Final, match=precision):
                    run(x, ["score"])


def test_scores_of_a_later_image_that_are_others_say_which(monkeypatch):
    """As where the first are no numbers."""
    net = Net(build(prototext.parse(DEPLOY, NetParameter))).eval()
    monkeypatch.setattr(engined.Engine, "check", lambda engine, device, precision: precision)
    monkeypatch.setattr(engines, "open", lambda *told: lambda inputs: {"score": np.ones((1, 3, *inputs["data"].shape[2:]), np.float32)})
    run, nowhere = engined.Engined(net, "score", engined.Engine("openvino")), torch.full((1, 3, 16, 16), torch.nan)
    for torn in (nowhere, nowhere[..., :12]):
        assert run({"data": torn}, ["score"])["score"].isnan().all()
    with pytest.raises(Final, match="^openvino differs from torch on input 3, 1x3x16x16, by .*; use --engine torch$"):
        run({"data": torch.zeros(1, 3, 16, 16)}, ["score"])


@each_engine
@pytest.mark.parametrize("where", ["weights", "image"])
def test_nan_is_not_lost_on_the_way(name, where):
    """OpenVINO's ReLU makes zeros of it, and labels of those look like any others."""
    net = Net(build(prototext.parse(DEPLOY, NetParameter))).eval()
    x = torch.randn(1, 3, 16, 16)
    if where == "weights":
        with torch.no_grad():
            net.get_parameter("conv.weight")[0] = np.nan
    run = engined.Engined(net, "score", engined.Engine(name))
    for _ in range(2):
        assert run({"data": x}, ["score"])["score"].isfinite().all() == (where == "image")
    x[0, 0, :4] = np.nan
    with torch.no_grad():
        ours = net({"data": x})["score"]
    assert ours.isnan().any() and torch.equal(run({"data": x}, ["score"])["score"].isnan(), ours.isnan())


@pytest.fixture
def bf16():
    try:
        engines.check("openvino", "bf16")
    except engined.Error as e:
        pytest.skip(str(e))


def test_bf16_is_as_near_as_is_said(place, capsys, bf16):
    assert infer(capsys, out="t")[0] == 0
    assert infer(capsys, "--engine", "openvino", "--precision", "bf16")[0] == 0
    for image in SIZES:
        assert_near(image)
    assert infer(capsys, "--engine", "openvino")[0] == 0 and len(kept()) == 1  # one model for both precisions


@pytest.mark.parametrize("tiled", [False, True])
def test_bf16_of_a_size_that_comes_often(place, capsys, monkeypatch, bf16, tiled):
    monkeypatch.setitem(engined.OFTEN, "bf16", 2)
    monkeypatch.setattr(engines, "tiled", lambda precision: tiled)
    monkeypatch.setattr(routed, "TILED", (1, 1))
    assert infer(capsys, out="t")[0] == 0
    assert infer(capsys, "--engine", "openvino", "--precision", "bf16")[0] == 0 and len(kept()) == 2
    assert_near("c")  # the second of its size


def assert_near(image):
    """Scores within 1/32 of the largest, and labels that differ where two classes are so near to each other alone."""
    ours, theirs = (np.load(f"{out}/{image}_scores.npy") for out in "to")
    a, b = (np.asarray(Image.open(f"{out}/{image}_labels.png")) for out in "to")
    second, best = np.sort(ours, axis=0)[-2:]
    apart = np.abs(ours - theirs).max()
    assert 0 < apart <= np.abs(ours).max() / 32 and ours.std() > 0.01 and len(np.unique(a)) == 3
    assert (best - second)[a != b].max(initial=0) <= 2 * apart and (a == b).mean() > 0.9
