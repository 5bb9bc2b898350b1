"""Planted faults, each told apart by `netspec doctor`, and nothing found where nothing is wrong."""

import configparser
import json
import math
import re
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from detecting import write_net
from programs import PROJECT
from training import HDF5, VOC, write_voc

from netspec.base.machine import amount
from netspec.check import doctor
from netspec.check.batch import Flow, draw
from netspec.check.crops import unaligned
from netspec.check.images import MENDS
from netspec.check.script import lacking
from netspec.check.weights import classifier, fill, weights_file
from netspec.cli import main as cli
from netspec.cli.doctor import _numbers
from netspec.data.layouts import ILSVRC
from netspec.net import weights
from netspec.net.build import load
from netspec.net.deploy import deploy
from netspec.net.module import Net
from netspec.net.weights import bilinear_kernel
from netspec.proto import caffe_pb2
from netspec.proto.model import write_weights

MEAN = np.array(ILSVRC, np.float32).reshape(3, 1, 1)
STD = 255 * np.array((0.225, 0.224, 0.229)).reshape(3, 1, 1)  # BGR
FEED = {  # what a script can do to BGR in 0..255
    "in 0..1": lambda bgr: bgr / 255,
    "in 0..1 and RGB": lambda bgr: bgr[:, ::-1] / 255,
    "normalised as torchvision does": lambda bgr: ((bgr - MEAN) / STD)[:, ::-1],
    "without their mean subtracted": lambda bgr: bgr,
    "RGB": lambda bgr: (bgr - MEAN)[:, ::-1],
    "RGB, less a mean in BGR": lambda bgr: bgr[:, ::-1] - MEAN,
    "BGR, less a mean in RGB": lambda bgr: bgr - MEAN[::-1],
}
BODY = """
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 3 kernel_size: 1
  weight_filler { type: "xavier" } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "score" type: "Convolution" bottom: "conv" top: "score" convolution_param { num_output: 3 kernel_size: 1
  weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" loss_param { ignore_label: 255 } }
"""
DATA = HDF5.replace("batch_size: 2", "batch_size: 4").replace("shuffle: true", "")
SOLVER = 'net: "net.prototxt" base_lr: 1e-4 momentum: 0.9 lr_policy: "fixed" max_iter: 3 snapshot_prefix: "run/snap"\n'


def bright(feed=lambda bgr: bgr - MEAN, label=None):
    """data.h5: images of random colours, each pixel's class the channel that is brightest."""
    bgr = np.random.default_rng(0).integers(0, 256, (4, 3, 8, 9)).astype(np.float32)
    with h5py.File("data.h5", "w") as file:
        file["data"] = feed(bgr).astype(np.float32)
        file["label"] = np.full((4, 1, 8, 9), label, np.float32) if label else bgr.argmax(1)[:, None].astype(np.float32)
    Path("data.txt").write_text("data.h5\n")


def layers(**changed):
    """The weights of a net that tells the brightest channel, some of them changed."""
    eye = np.eye(3, dtype=np.float32)[..., None, None]
    own = {"conv": [eye, np.full(3, 150, np.float32)], "score": [eye / 3, (MEAN.ravel() - 150) / 3]}
    return {name: ("Convolution", blobs) for name, blobs in (own | changed).items() if blobs}


@pytest.fixture
def folder(tmp_path, monkeypatch, one_thread):
    """A healthy net with data and weights."""
    monkeypatch.chdir(tmp_path)
    bright()
    write()
    write_weights("w.caffemodel", "n", layers())


def write(body=BODY, data=DATA, name="net.prototxt"):
    Path(name).write_text(f'name: "n"\n{data}{body}')


def problems(capsys, *args):
    """The lines of the problems; the exit status is held against them."""
    status = cli.main(["doctor", *map(str, args)])
    said = capsys.readouterr()
    assert said.err == ""
    blocks = re.split(r"\n(?=ok |note |problem |\d+ problem)", "\n" + said.out)
    found = [block[8:] for block in blocks if block.startswith("problem ")]
    assert status == bool(found) and f"\n{len(found)} problem" in said.out
    assert all("\n        -> " in block for block in found), "each says what to do"
    problems.out = said.out
    return found


def alone(found, *words):
    """One problem, with these words."""
    assert len(found) == 1, found
    assert not [word for word in words if word not in found[0]], found[0]


WEIGHTS = ("net.prototxt", "--weights", "w.caffemodel")


def test_nothing_is_wrong_with_a_healthy_net(folder, capsys):
    assert problems(capsys, *WEIGHTS) == []
    assert "gradients: reach 2 of 2 layers" in problems.out and "3 of 3 classes are chosen; loss 0.0" in problems.out
    assert "copied: conv, score (2)" in problems.out and "V2, 2 layers, 24 numbers, float32" in problems.out
    assert re.search(r"conv +Convolution +1\.73 +[\d.e-]+ +[\d.e-]+\n", problems.out), "the flow of gradients as a table"
    assert problems(capsys, "net.prototxt") == []  # yet to be trained
    Path("solver.prototxt").write_text(SOLVER + 'weights: "w.caffemodel"')
    assert problems(capsys, "solver.prototxt") == []


def test_json_has_what_is_printed(folder, capsys, monkeypatch):
    monkeypatch.setattr(doctor, "quickest", lambda *nets: [])  # whose times are never the same
    write(BODY.replace('type: "Convolution"', 'type: "Convolution" param { lr_mult: 0 }', 1))
    for zero in (False, True):
        write_weights("w.caffemodel", "n", layers(score=[np.zeros((3, 3, 1, 1), np.float32), np.zeros(3, np.float32)] if zero else layers()["score"][1]))
        status = cli.main(["doctor", *WEIGHTS])
        text = capsys.readouterr().out
        assert cli.main(["doctor", *WEIGHTS, "--json"]) == status
        told = json.loads(capsys.readouterr().out)
        assert list(told) == ["findings", "flow"]
        for each in told["findings"]:
            assert list(each) == ["level", "where", "what", "do"]
            assert f"{each['level']:8}{each['where']}: {each['what']}\n" in text and (not each["do"] or f"-> {each['do']}\n" in text)
        for row in told["flow"]:
            assert list(row) == ["layer", "type", "weight", "gradient", "verdict"] and re.search(rf"{row['layer']} +{row['type']} +{row['weight']:.3g} ", text)
        assert len(told["findings"]) == len(re.findall("^(ok|note|problem) ", text, re.MULTILINE)) and len(told["flow"]) == text.count(" Convolution ") == 2
    assert _numbers(Flow("a", "b", 2.0, math.inf, "not finite")) == {"layer": "a", "type": "b", "weight": 2.0, "gradient": None, "verdict": "not finite"}


@pytest.mark.parametrize("never, told", [((), None), ((1,), None), ((1, 2), "class 0 everywhere")])
def test_a_net_that_says_one_class_of_several_everywhere(folder, capsys, never, told):
    eye, (_, bias) = np.eye(3, dtype=np.float32)[..., None, None], layers()["score"][1]
    bias = bias.astype(np.float32)
    bias[list(never)] -= 1e3
    write_weights("w.caffemodel", "n", layers(score=[eye / 3, bias]))
    found = [each for each in problems(capsys, *WEIGHTS) if each.startswith("'score'")]
    assert ["everywhere" in each for each in found] == [True] * bool(told) and (told or f"{3 - len(never)} of 3 classes") in problems.out


@pytest.mark.parametrize("kind", FEED)
def test_images_unlike_those_that_the_weights_were_trained_on(folder, capsys, kind):
    assert FEED.keys() == MENDS.keys()
    bright(FEED[kind])
    found = [f for f in problems(capsys, *WEIGHTS) if not f.startswith("'score'")]  # all one class: what follows from it
    alone(found, "'data', read by 'conv'", f"Taken for images {kind}, which is then mended", MENDS[kind][1])


@pytest.mark.parametrize("feed, words", [
    ("in 0..1", ["0 to 1, mean 0.5", "in 0..1; AlexNet or CaffeNet was trained on BGR in 0..255 less the mean", "-> multiply"]),
    ("without their mean subtracted", ["without their mean subtracted; AlexNet", "-> subtract the mean, B,G,R = 104,117,123"]),
])
def test_without_labels_the_numbers_of_images_tell_where_the_trunk_is_known(folder, capsys, feed, words):
    text = (PROJECT / "models/alexnet/deploy.prototxt").read_text().partition('name: "relu2"')[0]
    Path("deploy.prototxt").write_text(text.rpartition("layer {")[0].replace("227", "40"))
    images = FEED[feed](np.random.default_rng(0).integers(0, 256, (1, 3, 40, 40)).astype(np.float32))
    np.save("x.npy", images[0] if feed == "in 0..1" else images)
    net = Net(load("deploy.prototxt"))
    for p in net.parameters():
        torch.nn.init.normal_(p)
    weights.save("alex.caffemodel", net)
    alone(problems(capsys, "deploy.prototxt", "--weights", "alex.caffemodel", "--image", "x.npy"), *words)
    np.save("x.npy", np.zeros((40, 50, 3)))
    assert cli.main(["doctor", "deploy.prototxt", "--image", "x.npy"]) == 2
    assert "[40, 50, 3], expected (N x) C x H x W" in capsys.readouterr().err


def test_a_mean_in_the_wrong_order_is_seen_in_the_layer(folder, capsys):
    write_voc(Path("."))
    options = dict(dataset="voc", root="images", split="train", mean=ILSVRC[::-1])
    wide = BODY.replace('"conv"', '"conv3_3"').replace("3 kernel_size: 1", "256 kernel_size: 3 pad: 1", 1)
    wide = wide.replace('"data"', '"wide"').replace("num_output: 3", "num_output: 4")
    first = """layer { name: "wide" type: "Convolution" bottom: "data" top: "wide" convolution_param { num_output: 256
      kernel_size: 1 weight_filler { type: "msra" } } }"""
    write(first + wide, VOC.replace("dict_here", str(options).replace('"', "'")))
    alone(problems(capsys, "net.prototxt"), "BGR, less a mean in RGB; VGG16 was trained", "-> turn the mean round")


FREEZE = "param { lr_mult: 0 } param { lr_mult: 0 } convolution_param"
ASIDE = """name: "aside" type: "InnerProduct" bottom: "conv" top: "aside" inner_product_param { num_output: 2
  weight_filler { type: "xavier" } } }
layer { name: "loss\""""
ONES = np.ones((3, 3, 1, 1))
FAULTS = {  # name -> changes of the body, changes of the weights, words of the one problem
    "a misspelt type": ({'"ReLU"': '"Relu"'}, {}, ["relu: type 'Relu' is not known; did you mean 'ReLU'?", "-> mend it"]),
    "a bottom not there": ({'bottom: "score"': 'bottom: "scor"'}, {}, ["bottom 'scor' is no top", "did you mean 'score'"]),
    "a near name": ({}, {"score": None, "scores": layers()["score"][1]},
                    ["score: not in the weights; did you mean 'scores'?", "-> rename"]),
    "another shape": ({}, {"score": [np.ones((5, 3, 1, 1)), np.ones(5)]}, ["layer 'score': blob 0 has shape [5, 3, 1, 1]"]),
    "frozen": ({"convolution_param": FREEZE}, {}, ["n: all frozen", "-> give layers that are to learn param { lr_mult: 1 }"]),
    "dead": ({}, {"conv": [ONES, np.full(3, -1e4)]}, ["relu: a dead ReLU", "-> look at the layer before"]),
    "at ln C": ({}, {"score": [ONES * [[[[1e-9]]]] * np.arange(3).reshape(3, 1, 1, 1), np.zeros(3)]},
                ["'score': all 3 classes get much the same score; loss 1.099, ln(3) is 1.099"]),
    "not finite": ({}, {"score": [ONES * np.nan, np.zeros(3)]}, ["NaN or Inf in score", "-> take an earlier snapshot"]),
    "made NaN": ({'name: "relu" type: "ReLU" bottom: "conv" top: "conv"': 'name: "log" type: "Log" bottom: "conv" top: "log"',
                  'bottom: "conv" top: "score"': 'bottom: "log" top: "score"'}, {"conv": [-ONES, np.zeros(3)]},
                 ["log: makes NaN or Inf in 'log' of finite weights"]),
    "unreachable": ({'name: "loss"': ASIDE}, {}, ["aside: no gradient comes", "-> follow"]),
    "no gradient": ({'top: "loss"': 'top: "loss" loss_weight: 1e-45'}, {}, ["conv, score (2): the gradient is zero"]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_told_apart(folder, capsys, fault):
    body, changed, words = FAULTS[fault]
    text = BODY
    for old, new in body.items():
        assert old in text
        text = text.replace(old, new)
    write(text)
    write_weights("w.caffemodel", "n", layers(**changed))
    found = problems(capsys, *WEIGHTS)
    if fault == "not finite":  # in the file, and so in the net
        assert found.pop().startswith("score: weights that are not finite")
    if fault == "dead":  # what follows from it
        found = [f for f in found if not f.startswith("'score'")]
    alone(found, *words)


def test_a_near_name_of_another_shape_is_a_layer_to_be_learned_anew(folder, capsys):
    write_weights("w.caffemodel", "n", layers(score=None, score_21=[np.ones((21, 3, 1, 1)), np.ones(21)]))
    assert problems(capsys, *WEIGHTS) == []
    assert "score: not in the weights: left at its filler" in problems.out and "in the file only: score_21" in problems.out


def test_zero_weights(folder, capsys):
    zero = [np.zeros((3, 3, 1, 1)), np.zeros(3)]
    write_weights("w.caffemodel", "n", layers(conv=zero, score=zero))
    found = problems(capsys, *WEIGHTS)
    assert found[0].startswith("conv, score (2): weights all zero, and so is what they read") and "--weights" in found[0]
    assert found[1].startswith("'score': all 3 classes get much the same score") and len(found) == 2
    write_weights("w.caffemodel", "n", layers(score=zero))
    given = 'layer { name: "d" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }'
    write(BODY.rpartition("layer")[0], given, "deploy.prototxt")
    found = problems(capsys, "deploy.prototxt", "--weights", "w.caffemodel")
    assert found[0].startswith("score: weights all zero: what comes out does not depend on the image")


def test_a_net_yet_to_be_trained_may_be_zero_where_it_learns(folder, capsys):
    write(BODY[::-1].replace('weight_filler { type: "xavier" }'[::-1], "", 1)[::-1])
    assert problems(capsys, "net.prototxt") == []
    assert "score: weights all zero: learns from the first step" in problems.out
    assert "conv: the gradient is zero, because of score" in problems.out


def test_zero_layers_that_are_frozen_never_learn(folder, capsys):
    frozen = BODY.replace('weight_filler { type: "xavier" } }', "} param { lr_mult: 0 } param { lr_mult: 0 }", 1)
    write(frozen)
    found = problems(capsys, "net.prototxt")
    assert found[0].startswith("conv: weights all zero and frozen (lr_mult 0): they stay so") and "--weights" in found[0]
    assert "learns from the first step" not in problems.out and "note    conv: frozen (lr_mult 0)" in problems.out


def test_random_images_and_labels_are_what_they_stand_for():
    made = deploy(PROJECT / "models/siftflow-fcn32s/trainval.prototxt", caffe_pb2.TRAIN, (20, 30), losses=True)
    batch = draw(made)
    assert batch.blobs["data"].min() < -100 and batch.blobs["data"].max() > 100 and not batch.real  # though a Crop reads it, too
    assert {name: int(batch.blobs[name].max()) for name in ("sem", "geo")} == {"sem": 32, "geo": 2}
    given = torch.zeros(1, 3, 20, 30)
    assert draw(made, {"data": given}).blobs["data"] is given


def test_random_regions_are_regions():
    """Numbers of anything would name items that are not there."""
    graph = load(PROJECT / "tests/golden/layers/head_k3_ohem.prototxt", caffe_pb2.TRAIN)
    batch = draw(graph)
    item, x1, y1, x2, y2 = batch.blobs["rois"].flatten(1).unbind(1)
    assert not item.any() and (x1 < x2).all() and (y1 < y2).all()
    Net(graph)(batch.blobs)


@pytest.mark.parametrize(("split", "size", "told"), [
    ("deploy", (), ["'cls_prob'", "no loss, so no gradients"]), ("rpn", (), []),
    ("train", ("--size", "96x128"), ["'cls_score'", "reach 14 of 14"]),
    ("rfcn1", ("--size", "96x128"), ["'cls_score'", "reach"])])
def test_nets_that_find_objects(folder, capsys, split, size, told):
    """Their boxes, sizes and regions are drawn as such; transforms and lists of regions are no classes' scores."""
    assert problems(capsys, write_net("shapes-rfcn", split), *size) == []
    assert not [words for words in told if words not in problems.out]
    assert not [blob for blob in ("'bbox_pred", "'rois'", "'gt_boxes'") if blob in problems.out]


def test_labels(folder, capsys):
    bright(label=255)
    assert any(f.startswith("loss: no label of the batch counts") for f in problems(capsys, "net.prototxt"))
    bright(label=7)
    alone(problems(capsys, "net.prototxt"), "7")


def test_data_that_are_not_there_are_replaced(folder, capsys):
    Path("data.txt").unlink()
    assert problems(capsys, *WEIGHTS) == []
    assert "random images and labels take their place" in problems.out and "gradients: reach" in problems.out
    Path("solver.prototxt").write_text(SOLVER + 'weights: "w.caffemodel"')
    alone(problems(capsys, "solver.prototxt"), "data.txt", "random images", "-> get the data")


def test_memory_is_that_of_the_size_asked_for(folder, capsys, monkeypatch):
    assert problems(capsys, "net.prototxt", "--size", "100x200") == []
    one = 4 * 100 * 200  # data 3, label 1, conv 3, score 3, loss; all with gradients; 24 parameters with theirs and history
    assert "memory at 1 x 3 x 100 x 200: " in problems.out
    assert f"{amount(3 * 4 * 24 + 2 * (10 * one + 4))} to train it" in problems.out
    monkeypatch.setattr(doctor, "room", lambda device: 10**5)
    monkeypatch.setattr(doctor, "examine", None)  # what the memory does not hold is not run
    alone(problems(capsys, "net.prototxt", "--size", "100x200"), "memory at 1 x 3 x 100 x 200", "-> take smaller images")


def test_the_solver_is_looked_at(folder, capsys):
    Path("run").write_text("a file, no folder")
    Path("solver.prototxt").write_text(SOLVER.replace("1e-4", "1e-12") + 'weights: "snap/other.caffemodel"')
    found = problems(capsys, "solver.prototxt")
    assert [f.partition(":")[0] for f in found] == ["weights", "base_lr", "snapshot_prefix"]
    assert "it would learn nothing" in found[1]
    Path("solver.prototxt").write_text(SOLVER.replace("max_iter", "max_itre"))
    assert cli.main(["doctor", "solver.prototxt"]) == 1 and "passed by: max_itre" in capsys.readouterr().err


def test_weights_alone(folder, capsys):
    assert problems(capsys, "w.caffemodel") == []
    bad = layers(conv=[np.full((3, 3, 1, 1), np.inf), np.zeros(3)], score=[np.zeros((3, 3, 1, 1)), np.zeros(3)])
    write_weights("bad.caffemodel.h5", "n", bad, hdf5=True)
    alone(problems(capsys, "bad.caffemodel.h5"), "NaN or Inf in conv")
    assert "HDF5, 2 layers" in problems.out and "weights all zero in score" in problems.out
    Path("cut.caffemodel").write_bytes(Path("w.caffemodel").read_bytes()[:60])
    assert cli.main(["doctor", "cut.caffemodel"]) == 2


def test_generations_of_weights(tmp_path):
    blob = caffe_pb2.BlobProto(num=1, channels=1, height=1, width=2, data=[1, 2])
    for name, net in {
        "V0": caffe_pb2.NetParameter(layers=[dict(layer=dict(name="a", type="conv", blobs=[blob]))]),
        "V1": caffe_pb2.NetParameter(layers=[dict(name="a", blobs=[blob])]),
        "V2": caffe_pb2.NetParameter(layer=[dict(name="a", blobs=[blob])]),
    }.items():
        (tmp_path / name).write_bytes(net.SerializeToString())
        assert f"{name}, 1 layer, 2 numbers" in weights_file(tmp_path / name)[0][0].what


@pytest.mark.parametrize("name, known", [
    ("vgg16", "VGG16"), ("vgg19", "VGG19"), ("googlenet", "GoogLeNet"), ("resnet50", "ResNet-50"), ("resnet101", "ResNet-101"),
    ("alexnet", "AlexNet or CaffeNet"), ("voc-fcn32s", "VGG16"), ("shapes-fcn32s", None)])
def test_classifiers_are_known_by_their_layers(name, known):
    made = deploy(PROJECT / f"models/{name}/deploy.prototxt", losses=True)
    assert classifier({slot.layer: slot.shape for slot in reversed(made.params)}) == known


def test_layers_of_forks_are_noted(folder, capsys):
    write(BODY.replace('"ReLU" bottom: "conv" top: "conv"', '"Normalize" bottom: "conv" top: "n"').replace(
        'bottom: "conv" top: "score"', 'bottom: "n" top: "score"'))
    assert problems(capsys, "net.prototxt") == []
    assert "Normalize (1) is of a fork: BVLC Caffe refuses this net" in problems.out


def test_upsampling_without_weights_is_made_bilinear_as_solve_does(tmp_path):
    up = """layer { name: "d" type: "Input" top: "x" input_param { shape { dim: 1 dim: 2 dim: 4 dim: 4 } } }
        layer { name: "up" type: "Deconvolution" bottom: "x" top: "up"
          convolution_param { num_output: 2 kernel_size: 4 stride: 2 bias_term: false } }"""
    (tmp_path / "up.prototxt").write_text(up)
    net = Net(load(tmp_path / "up.prototxt"))
    found, complete = fill(net, {}, "w")
    assert complete and [f.what for f in found] == ["made bilinear upsampling: up"]
    assert np.array_equal(net.layers_with_params()["up"][0][0, 0].detach(), bilinear_kernel(4))


# scripts

SCRIPT = """import numpy as np
import caffe
from caffe import layers as L, params as P
from caffe.proto import caffe_pb2
import caffe.io
from caffe.coord_map import crop
n = caffe.NetSpec()
n.conv = L.Convolution(n.data)
n.pool = L.Pooling(n.conv, pool=P.Pooling.MAX)
net = caffe.Net('a', caffe.TEST)
net.anything.at.all
caffe.io.Transformer({}).set_raw_scale('data', 255)
caffe_pb2.NetParameter()
"""


@pytest.mark.parametrize("line, words", [
    ("", None),
    ("caffe.set_mode_gup()", [":14: caffe.set_mode_gup is not in netspec; did you mean 'set_mode_gpu'?"]),
    ("n.a = L.Convolutoin()", [":14: caffe.layers.Convolutoin", "did you mean 'Convolution'?"]),
    ("P.Pooling.MAXX", ["caffe.params.Pooling.MAXX is not"]),
    ("import caffe.legacy", [":14: caffe.legacy is not"]),
    ("from caffe.nowhere import x", ["caffe.nowhere"]),
    ("caffe.proto.caffe_pb2.Netparameter", ["did you mean 'NetParameter'?"]),
    ("caffe.nothing.below(1)", ["caffe.nothing is not"]),
    ("print 'done'", [":14: this is Python 2 (print 'done')", "2to3"]),
    ("for i in xrange(3): pass", [":14: this is Python 2 (name 'xrange'"]),
    ("{}.iteritems()", ["this is Python 2 (attribute 'iteritems'"]),
    ("import cPickle", ["this is Python 2 (No module named 'cPickle')"]),
    ("try:\n  import cPickle as pickle\nexcept ImportError:\n  import pickle", None),
    ("xrange = range\nxrange(3)", None),
    ("from caffe import *\nimport caffe.net_spec, caffe._caffe", None),
    ("x = (", [":14: is no Python"]),
])
def test_scripts(tmp_path, capsys, line, words):
    (tmp_path / "script.py").write_text(SCRIPT + line)
    found = problems(capsys, tmp_path / "script.py")
    alone(found, *words) if words else (found == [] or pytest.fail(str(found)))


def test_scripts_that_feed_what_load_image_gives(tmp_path, capsys):
    path = tmp_path / "script.py"
    path.write_text("import caffe, surgery_of_mine\nimage = caffe.io.load_image('cat.jpg')\n")
    assert problems(capsys, path) == []
    assert "RGB in 0..1" in problems.out and f"{path}:1: module 'surgery_of_mine' is not here" in problems.out
    (tmp_path / "surgery_of_mine.py").write_text("raise SystemExit('never run')")
    assert problems(capsys, path) == [] and "surgery_of_mine" not in problems.out


@pytest.mark.parametrize("module", ["net.py", "solve.py"])
def test_what_the_release_uses_of_caffe_is_here(module):
    uses = {"net.py": ["layers", "params", "layers.Deconvolution", "params.Pooling.MAX", "coord_map.crop", "NetSpec"],
            "solve.py": ["set_device", "set_mode_gpu", "SGDSolver", "Net", "TEST", "Layer"]}[module]
    assert [lacking(name.split(".")) for name in uses] == [None] * len(uses)


# the installation

def test_the_installation(capsys, monkeypatch, tmp_path):
    assert problems(capsys) == []
    assert "import caffe: gives no module" in problems.out and "takes netspec for it" in problems.out
    assert re.search(r"ok +netspec: .*torch 2.*numpy.*protobuf", problems.out)
    (tmp_path / "caffe").mkdir()
    for name in ("__init__.py", "_caffe.py"):
        (tmp_path / "caffe" / name).write_text("raise SystemExit('never imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = doctor.environment()[-1].what
    assert str(tmp_path / "caffe" / "__init__.py") in found and "a caffe is installed here" in found


def test_the_extras_are_those_of_the_package():
    setup = configparser.ConfigParser()
    setup.read(PROJECT / "setup.cfg")
    extras = " ".join(text for name, text in setup["options.extras_require"].items() if name != "test")
    assert doctor.EXTRAS.keys() < set(re.split(r"\W+", extras.replace("-", "_")))


def test_what_is_known_of_a_net_is_said_though_it_cannot_be_built(folder, capsys):
    Path("net.prototxt").write_text(
        'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: [1, 3, 8, 8] } } }'
        'layer { name: "big" type: "Interp" bottom: "data" top: "big" interp_param { zoom_factor: 2 } }'
        'layer { name: "sum" type: "Eltwise" bottom: "data" bottom: "big" top: "sum" }')
    assert cli.main(["doctor", "net.prototxt", "--size", "8x8"]) == 1
    out = capsys.readouterr().out
    assert "Interp (1) is of a fork" in out and "'sum'" in out


LENET = """
layer { name: "d" type: "Data" top: "data" top: "label" data_param { source: "nowhere" backend: LMDB batch_size: 4 } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 3 kernel_size: 5 weight_filler { type: "xavier" } } }
layer { name: "ip" type: "InnerProduct" bottom: "conv" top: "ip" inner_product_param { num_output: 10 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
"""


def test_a_size_that_nothing_says_is_told_as_an_example(folder, capsys):
    write(LENET, "")
    assert problems(capsys, "net.prototxt") == []
    assert "memory at 4 x 3 x 28 x 28: nothing here says how large images are; as an example: " in problems.out
    assert "-> give --size HxW" in problems.out and "GB to" not in problems.out
    write(LENET.replace("kernel_size: 5", "kernel_size: 40"), "")
    assert problems(capsys, "net.prototxt") == [] and "memory at 4 x 3 x 64 x 64: nothing" in problems.out
    for known in (LENET.replace("data_param", "transform_param { crop_size: 30 } data_param"), LENET):
        write(known, "")
        assert problems(capsys, "net.prototxt", *(("--size", "30x30") if known == LENET else ())) == []
        assert "memory at 4 x 3 x 30 x 30: " in problems.out and "example" not in problems.out
    assert cli.main(["describe", "net.prototxt"]) == 0 and "that is a guess here" in capsys.readouterr().err
    assert cli.main(["describe", "net.prototxt", "--size", "30x30"]) == 0 and capsys.readouterr().err == ""


def test_weights_tell_how_large_images_were(folder, capsys):
    write(LENET, "")
    shapes = {"conv": (3, 1, 5, 5), "ip": (10, 3 * 28 * 28)}  # grey, 32x32
    write_weights("w.caffemodel", "n", {name: ("", [np.random.default_rng(0).normal(0, 0.01, shape), np.zeros(shape[0])]) for name, shape in shapes.items()})
    assert [f for f in problems(capsys, *WEIGHTS) if not f.startswith("'ip'")] == []
    assert "memory at 4 x 1 x 32 x 32: " in problems.out and "copied: conv, ip (2)" in problems.out


def test_each_test_net_is_looked_at_in_its_own_state(folder, capsys):
    body = BODY + """layer { name: "a" type: "Accuracy" bottom: "score" bottom: "label" top: "a" include { stage: "a" } }
        layer { name: "b1" type: "Softmax" bottom: "score" top: "b1" include { stage: "b" } }
        layer { name: "b2" type: "Argmax" bottom: "b1" top: "b2" include { stage: "b" } }"""
    Path("solver.prototxt").write_text(SOLVER.replace('net: "net.prototxt"', f"net_param {{ {DATA} {body.replace('Argmax', 'ArgMax')} }}") + """
        test_iter: 1 test_iter: 1 test_interval: 1 test_state { stage: "a" } test_state { stage: "b" } weights: "w.caffemodel" """)
    assert problems(capsys, "solver.prototxt") == []
    for said in ("net_param: 4 layers in TRAIN", "net_param, stage 'a': 5 layers in TEST", "net_param, stage 'b': 6 layers in TEST"):
        assert said in problems.out
    built = [doctor._built(each, None, "note", {})[0] for each in doctor.nets_of(Path("solver.prototxt"))[0]]
    assert [list(graph.proto.state.stage) for graph in built] == [[], ["a"], ["b"]]


PADDED = """layer { name: "d" type: "Input" top: "data" input_param { shape { dim: [1, 1, 8, 9] } } }
layer { name: "e" type: "Input" top: "other" input_param { shape { dim: [1, 1, 8, 9] } } }
layer { name: "up" type: "Convolution" bottom: "data" top: "up" convolution_param { num_output: 2 kernel_size: 1 pad_h: 3 pad_w: 2 } }
layer { name: "pool" type: "Pooling" bottom: "up" top: "pool" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "crop" type: "Crop" bottom: "%s" bottom: "%s" top: "crop" crop_param { %s } }"""


@pytest.mark.parametrize("cut, size, settings, told", [
    ("up", "data", "", "axis: 2 offset: 3 offset: 2"), ("up", "data", "offset: 0", "axis: 2 offset: 3 offset: 2"),
    ("up", "data", "axis: 3", "axis: 3 offset: 2"), ("up", "data", "axis: 1", "axis: 1 offset: 0 offset: 3 offset: 2"), ("up", "data", "offset: 3 offset: 2", ""),
    ("up", "data", "offset: 1", ""), ("up", "other", "", ""), ("up", "pool", "", "")])
def test_crops_at_0_that_the_maps_lay_elsewhere(tmp_path, cut, size, settings, told):
    """By hand: a kernel of 1 sees pixel i of the data at i + pad. A map to the pool has scale 2: no crop fits."""
    net = PADDED % (cut, size, settings)
    (tmp_path / "net.prototxt").write_text(net)
    graph = load(tmp_path / "net.prototxt")
    found = unaligned([graph, graph])
    assert [(f.level, f.where) for f in found] == [("note", "crop")] * bool(told)
    assert not told or f"write crop_param {{ {told} }}" in found[0].do and f"cuts '{cut}' at 0" in found[0].what


@pytest.mark.parametrize("name", ["voc-fcn8s", "voc-fcn32s", "shapes-fcn8s", "siftflow-fcn32s"])
def test_no_crop_of_the_papers_nets_is_noted(name):
    assert unaligned([deploy(name, losses=True)]) == []


STRANGE = """global_grad_scale: 2
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }
layer { name: "a" type: "Convolution" bottom: "x" top: "a" convolution_param { num_output: 2 kernel_sise: 3 kernel_size: 3 } }
layer { name: "b" type: "Magic" bottom: "a" top: "b" }
layer { name: "c" type: "Eltwise" bottom: "x" bottom: "a" top: "c" }
layer { name: "p" type: "Python" bottom: "x" top: "p" python_param { module: "nowhere" layer: "Mine" } }
"""


def test_all_that_is_not_understood_is_said_at_once(tmp_path, capsys):
    (tmp_path / "net.prototxt").write_text(STRANGE)
    assert cli.main(["doctor", str(tmp_path / "net.prototxt")]) == 1
    out = capsys.readouterr().out
    assert "layer.convolution_param.kernel_sise is not understood; did you mean 'kernel_size'?" in out
    assert "global_grad_scale: no number depends on it" in out and "b: type 'Magic' is not known" in out
    assert "bottoms must have one shape" in out and "--trust" in out and "4 problems" in out


STATED = """layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }
layer { name: "a" type: "ReLU" bottom: "x" top: "a" include { stage: "one" } }
layer { name: "b" type: "TanH" bottom: "x" top: "b" }
layer { name: "t" type: "TanH" bottom: "x" top: "t" include { phase: TRAIN min_level: 1 } }
"""


@pytest.mark.parametrize("options, said", [([], "1 layer in TEST"), (["--stage", "one"], "2 layers in TEST"),
                                           (["--phase", "TRAIN"], "1 layer in TRAIN"), (["--phase", "TRAIN", "--level", "1"], "2 layers in TRAIN")])
def test_a_net_is_looked_at_in_the_state_that_is_asked_for(tmp_path, capsys, options, said):
    (tmp_path / "net.prototxt").write_text(STATED)
    assert cli.main(["doctor", str(tmp_path / "net.prototxt"), *options]) == 0
    assert f": {said}" in capsys.readouterr().out
