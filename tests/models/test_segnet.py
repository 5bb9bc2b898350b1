"""SegNet's generated nets: committed as written, equal to the released ones in a table of their facts, of odd sizes too."""

import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from netspec import NetSpec
from netspec.base.errors import Error
from netspec.cli.main import main as cli
from netspec.data.facts import known
from netspec.net.build import build, load
from netspec.papers import record
from netspec.proto.caffe_pb2 import TEST, BNParameter
from netspec.proto.text import read_net, read_solver

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "models"))

import segnet  # noqa: E402 - the path comes first

# Of SegNet-Tutorial's Models/: the names of the layers beside BN, ReLU and Dropout, in order, and the channels of
# convolutions; upsampled sizes are of 360x480
BASIC = """norm conv1:64 pool1 conv2:64 pool2 conv3:64 pool3 conv4:64 pool4 upsample4 conv_decode4:64 upsample3 conv_decode3:64
           upsample2 conv_decode2:64 upsample1 conv_decode1:64""".split()
FULL = """conv1_1:64 conv1_2:64 pool1 conv2_1:128 conv2_2:128 pool2 conv3_1:256 conv3_2:256 conv3_3:256 pool3
          conv4_1:512 conv4_2:512 conv4_3:512 pool4 conv5_1:512 conv5_2:512 conv5_3:512 pool5
          upsample5 conv5_3_D:512 conv5_2_D:512 conv5_1_D:512 upsample4 conv4_3_D:512 conv4_2_D:512 conv4_1_D:256
          upsample3 conv3_3_D:256 conv3_2_D:256 conv3_1_D:128 upsample2 conv2_2_D:128 conv2_1_D:64
          upsample1 conv1_2_D:64 conv1_1_D:11""".split()
DROPS = {
    "camvid-bayesian-segnet-basic": "encdrop3 encdrop4 decdrop4 decdrop3",
    "camvid-bayesian-segnet": "encdrop3 encdrop4 encdrop5 decdrop5 decdrop4 decdrop3",
}
RELEASED = {
    "camvid-segnet-basic": ([*BASIC, "conv_classifier:11"], 1416587),
    "camvid-segnet": (FULL, 29449355),
    "camvid-bayesian-segnet-basic": ([*BASIC, "dense_softmax_inner_prod:11"], 1416587),
    "camvid-bayesian-segnet": (FULL, 29449355),
}
SIZED = {
    "camvid-segnet": {
        "upsample5": dict(upsample_h=23, upsample_w=30),
        "upsample4": dict(upsample_h=45, upsample_w=60),
    },
    "camvid-segnet-basic": {"upsample4": dict(pad_out_h=True)},
}


def folder(name):
    return f"{'studies/' * ('half' in name)}{name}"


@pytest.mark.parametrize("name", segnet.KEPT)
def test_committed_nets_are_what_the_generator_writes(name, tmp_path):
    segnet.write(name, tmp_path)
    written = {p.name: p.read_text() for p in (tmp_path / folder(name)).iterdir()}
    assert written == {p.name: p.read_text() for p in (ROOT / "models" / folder(name)).iterdir()}


@pytest.mark.parametrize("name", RELEASED)
def test_nets_equal_the_released_ones(name):
    made = segnet.generate(name)
    layers = {layer.name: layer for layer in made.layer}
    body = [
        x
        for x in made.layer
        if x.type not in ("Python", "BN", "ReLU", "Dropout", "SoftmaxWithLoss", "Accuracy")
    ]
    wanted, parameters = RELEASED[name]
    assert [
        f"{x.name}:{x.convolution_param.num_output}" if x.type == "Convolution" else x.name for x in body
    ] == wanted
    assert [x.name for x in made.layer if x.type == "Dropout"] == DROPS.get(name, "").split()
    basic = "basic" in name
    for i, x in enumerate(made.layer):
        if x.type == "Convolution":
            p = x.convolution_param
            kernel = (1, 0) if p.num_output == 11 and basic else (7, 3) if basic else (3, 1)
            assert (p.kernel_size[0], p.pad[0] if p.pad else 0, p.weight_filler.type) == (*kernel, "msra")
            assert [(m.lr_mult, m.decay_mult) for m in x.param] == [(1, 1), (2, 0)]
            assert (made.layer[i + 1].type == "BN") == (p.num_output != 11)
        if x.type == "BN":
            assert [(m.lr_mult, m.decay_mult) for m in x.param] == [] if basic else [(1, 1), (1, 0)]
            shift = 0 if name == "camvid-bayesian-segnet" else 0.001
            assert (x.bn_param.scale_filler.value, x.bn_param.shift_filler.value) == (1, pytest.approx(shift))
            assert (made.layer[i + 1].type == "ReLU") == (not basic or "decode" not in x.name)
        if x.type == "Upsample":
            given = {field.name: value for field, value in x.upsample_param.ListFields()}
            assert given == {"scale": 2} | SIZED[name.replace("bayesian-", "")].get(x.name, {})
            assert x.bottom[1] == x.name.replace("upsample", "pool") + "_mask"
    loss = layers["loss"].loss_param
    assert loss.weight_by_label_freqs and loss.ignore_label == 11 and len(loss.class_weighting) == 11
    assert (min(loss.class_weighting), max(loss.class_weighting)) == pytest.approx(
        (0.1417, 9.6446)
    )  # Road, SignSymbol
    built = build(segnet.generate(name, "deploy"), TEST)
    slots = {id(slot): slot for node in built.nodes for slot in node.params}.values()
    assert sum(math.prod(slot.shape) for slot in slots) == parameters
    assert list(layers["accuracy"].top) == ["accuracy", "per_class_accuracy"]


@pytest.mark.parametrize("name", segnet.KEPT)
def test_what_batches_normalise_by_and_where_units_drop(name):
    for split in segnet.SPLITS:
        net = read_net(ROOT / "models" / folder(name) / f"{split}.prototxt")
        stored = split in ("test", "deploy")
        modes = {x.bn_param.bn_mode for x in net.layer if x.type == "BN"}
        assert modes == {BNParameter.INFERENCE if stored else BNParameter.LEARN}
        assert {x.dropout_param.sample_weights_test for x in net.layer if x.type == "Dropout"} <= {stored}
    made = known(segnet.generate(name, "deploy").layer[0], ROOT / "models" / folder(name) / "deploy.prototxt")
    assert (
        made.mean == (0, 0, 0) and made.resize == (0.5 if "half" in name else 1) and {"Car", "star"} & {*made.facts.names}
    )


@pytest.mark.parametrize("blocks", [segnet.BASIC, ((1, 4), (2, 8), (1, 8))])
@pytest.mark.parametrize("size", [(180, 240), (45, 61), (33, 50), (7, 9)])
def test_un_pooling_gives_odd_sizes_back(blocks, size):
    net, n = segnet.SegNet(segnet.NETS["camvid-segnet"].data, size, blocks), NetSpec()
    net.data.add(n, "deploy", *size)
    n.scores = segnet.scores(n, net, True)
    shapes = build(n.to_proto(), TEST).shapes
    assert next(shape for value, shape in shapes.items() if value.blob == "scores") == (1, 11, *size)


@pytest.mark.parametrize(
    "path", sorted((ROOT / "solvers").glob("*segnet*.prototxt")), ids=lambda path: path.stem
)
def test_solvers_have_the_releases_rates_and_say_what_to_expect(path):
    p, name = read_solver(path), path.stem
    assert p.train_net == f"models/{folder(name)}/train.prototxt" and p.snapshot_prefix == f"snapshot/{name}"
    assert all((ROOT / each).exists() for each in (p.train_net, *p.test_net))
    basic = "basic" in name
    assert (p.base_lr, p.momentum, p.weight_decay) == pytest.approx((0.1 if basic else 0.001, 0.9, 5e-4))
    assert (p.lr_policy, p.gamma, p.iter_size) == ("step", 1, 1)
    assert not name.startswith("camvid-segnet") or (p.max_iter, p.snapshot) == (10000 if basic else 40000, 1000)
    head = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert any(f"solvers/{name}.prototxt" in line and "tools/solve.py" in line for line in head)
    assert any(
        f"convert bn {p.train_net} snapshot/{name}_iter_{p.max_iter}.caffemodel" in line for line in head
    )
    assert all(
        any(word in line for line in head) for word in ("Needs", "Time", "cores", "mean IU", *p.weights)
    )


@pytest.mark.parametrize(
    "name, split, message",
    [
        (
            "camvid-segnet-basics",
            "train",
            "there is no net 'camvid-segnet-basics'.*did you mean 'camvid-segnet-basic'",
        ),
        ("camvid-segnet", "trainval", "has no split 'trainval' .there are train, val, test, deploy"),
    ],
)
def test_unknown_names(name, split, message):
    with pytest.raises(Error, match=message):
        segnet.generate(name, split)


@pytest.fixture
def streets(tmp_path, monkeypatch):
    """Images in CamVid's layout, and two nets for their size, as files in models/."""
    monkeypatch.chdir(tmp_path)
    drawn, root = np.random.default_rng(0), tmp_path / "data/camvid/images"
    for split, count in (("train", 6), ("val", 5), ("test", 3)):
        for folder in (root / split, root / f"{split}annot"):
            folder.mkdir(parents=True)
        for i in range(count):
            label = np.repeat(np.repeat(drawn.integers(0, 12, (3, 4), np.uint8), 7, 0), 8, 1)
            Image.fromarray(np.stack([label * 20] * 3, -1)).save(root / split / f"{split}{i}.png")
            Image.fromarray(label).save(root / f"{split}annot/{split}{i}.png")
        (root / f"{split}.txt").write_text("".join(f"{split}{i}\n" for i in range(count)))
    for name, blocks in (("camvid-small", ((1, 4), (2, 6))), ("camvid-bayesian-small", ((1, 4),) * 3)):
        net = replace(segnet.NETS["camvid-segnet"], size=(21, 32), blocks=blocks, bayesian="bayesian" in name)
        monkeypatch.setitem(segnet.NETS, name, net)
        segnet.write(name, tmp_path / "models")
    return tmp_path


@pytest.mark.parametrize("name", ["camvid-small", "camvid-bayesian-small"])
def test_the_whole_way_from_images_to_scores(streets, name, capsys):
    folder = f"models/{name}"
    Path("s.prototxt").write_text(
        f'train_net: "{folder}/train.prototxt" test_net: "{folder}/val.prototxt" test_iter: 2 test_interval: 2 max_iter: 2 base_lr: 0.01 '
        'lr_policy: "step" gamma: 1 stepsize: 100 momentum: 0.9 snapshot_prefix: "s" display: 1 test_initialization: false')
    assert cli(["solve", "s.prototxt"]) == 0
    log = capsys.readouterr()
    assert "test net #0: mean IU" in log.out + log.err and "5 images" in log.out + log.err  # whose blob is not called score
    assert cli(["convert", "bn", f"{folder}/train.prototxt", "s_iter_2.caffemodel", "f.caffemodel"]) == 0
    param, made = read_solver("s.prototxt"), load(f"{folder}/test.prototxt")
    ready = record.testable(Path("s.prototxt"), param, Path("s_iter_2.caffemodel"), made, record.Settings(quiet=True))
    assert ready.name == "s_iter_2_folded.caffemodel" and ready.read_bytes() == Path("f.caffemodel").read_bytes()
    val = load(f"{folder}/val.prototxt")  # which normalises by its batch
    assert record.testable(Path("s.prototxt"), param, Path("w"), val, record.Settings()) == Path("w")
    capsys.readouterr()
    more = ["--samples", "3"] if "bayesian" in name else []
    assert cli(["score", f"{folder}/test.prototxt", "f.caffemodel", "--json", *more]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 3
    shown = ["infer", f"{folder}/deploy.prototxt", "f.caffemodel", "data/camvid/images/test/test0.png", "--out", "seen", *more]
    assert cli(shown) == 0 and Path("seen/test0_labels.png").exists() and Path("seen/test0_uncertainty.png").exists() == bool(more)
