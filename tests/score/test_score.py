"""score and infer on a small net and a small data set in VOC's layout, both made here."""

import csv
import io
import json
import os
import re
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.overrides import TorchFunctionMode

from netspec import NetSpec
from netspec import layers as L
from netspec import params as P
from netspec.base.errors import Error
from netspec.base.metrics import Binary, Scores, confusion, trimap
from netspec.cli import main as cli
from netspec.data import facts, layouts
from netspec.data.facts import Known
from netspec.data.feed import Feed
from netspec.net import judged
from netspec.net.build import build, load
from netspec.net.module import Net
from netspec.proto import caffe_pb2
from netspec.proto import text as prototext
from netspec.proto.model import write_weights
from netspec.score import predict
from netspec.score import score as scoring
from netspec.score import sheet as sheets
from netspec.score.frames import picture
from netspec.score.sheet import _photograph

SIZES = {"a": (40, 30), "b": (23, 37), "c": (64, 48)}  # width, height
CLASSES = 5
MEAN = (117.842, 117.764, 117.324)


def net_spec(data=None, **options):
    n = NetSpec()
    if data is None:
        n.data = L.Input(shape=[dict(dim=[1, 3, 500, 500])], python_param=dict(param_str=str(options)))
    else:
        n.data, n.label = L.Python(
            module="netspec.datasets", layer="SegmentationData", ntop=2, param_str=str(dict(data, **options))
        )
    n.conv1 = L.Convolution(n.data, num_output=8, kernel_size=3, pad=20)
    n.relu1 = L.ReLU(n.conv1, in_place=True)
    n.pool1 = L.Pooling(n.relu1, pool=P.Pooling.MAX, kernel_size=2, stride=2)
    n.score_fr = L.Convolution(n.pool1, num_output=CLASSES, kernel_size=1)
    n.upscore = L.Deconvolution(
        n.score_fr, convolution_param=dict(num_output=CLASSES, kernel_size=4, stride=2, bias_term=False)
    )
    n.score = L.Crop(n.upscore, n.data, axis=2, offset=18)
    if data is not None:
        n.loss = L.SoftmaxWithLoss(n.score, n.label, loss_param=dict(normalize=True, ignore_label=255))
    made = n.to_proto()
    made.name = "small"
    return made


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with images/ (VOC's layout), val.prototxt, deploy.prototxt and random.caffemodel."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(5)
    root = tmp_path / "images"
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    for name, (width, height) in SIZES.items():
        coarse = Image.fromarray(rng.integers(0, 256, (5, 6, 3), np.uint8))
        coarse.resize((width, height), Image.Resampling.BICUBIC).save(root / f"JPEGImages/{name}.jpg", quality=95)
        truth = rng.choice(np.array([0, 1, 2, 255], np.uint8), (height, width))
        Image.fromarray(truth).save(root / f"SegmentationClass/{name}.png")
    (root / "ImageSets/Segmentation/val.txt").write_text("a\nb\nc\n")
    prototext.write(tmp_path / "val.prototxt", net_spec(dict(dataset="shapes", root="images", split="val")))
    prototext.write(tmp_path / "deploy.prototxt", net_spec(dataset="shapes"))
    prototext.write(tmp_path / "silent.prototxt", net_spec())
    layers = {
        "conv1": ("Convolution", [rng.normal(0, 0.05, (8, 3, 3, 3)), rng.normal(0, 1, 8)]),
        "score_fr": ("Convolution", [rng.normal(0, 1, (CLASSES, 8, 1, 1)), rng.normal(0, 1, CLASSES)]),
    }
    write_weights(
        tmp_path / "random.caffemodel", "small", {k: (t, [b.astype(np.float32) for b in bs]) for k, (t, bs) in layers.items()}
    )
    return tmp_path


def read(path):
    return np.array(Image.open(path))


def net_of(path, weights="random.caffemodel"):
    return predict.load(load(path, caffe_pb2.TEST), weights, "cpu")[0]


def command(capsys, *argv):
    status = cli.main([str(a) for a in argv])
    out, err = capsys.readouterr()
    return status, out, err


def test_score_equals_the_measures_worked_by_hand(place):
    net = net_of("val.prototxt")
    seen = []
    result = scoring.score(net, save="out", workers=0, progress=lambda done, total, hist: seen.append((done, total)))
    expected, losses = np.zeros((CLASSES, CLASSES), np.int64), []
    source = net.graph.sources[0].op
    for position, name in enumerate(SIZES):
        data, label = source.load(position)
        with torch.no_grad():
            blobs = net({"data": torch.from_numpy(data), "label": torch.from_numpy(label)}, ["score"])
        best = blobs["score"][0].numpy().argmax(0)
        np.testing.assert_array_equal(read(f"out/{name}.png"), best)
        expected += confusion(label[0, 0], best, CLASSES)
        losses.append(blobs["loss"].item())
    np.testing.assert_array_equal(result.histogram, expected)
    assert len(np.unique(read("out/c.png"))) > 1  # or the test shows nothing
    assert result.loss == pytest.approx(np.mean(losses))
    assert (result.images, result.stray, seen) == (3, 0, [(1, 3), (2, 3), (3, 3)])
    assert result.looks.names[1] == "sun"
    assert Image.open("out/a.png").mode == "P"
    again = scoring.score(net, workers=1)
    np.testing.assert_array_equal(again.histogram, expected)


def test_batches_that_do_not_divide_the_list(place):
    for name in SIZES:  # one size, as batches need
        for folder, kind in (("JPEGImages", "jpg"), ("SegmentationClass", "png")):
            path = place / "images" / folder / f"{name}.{kind}"
            Image.open(path).resize((32, 32), Image.Resampling.NEAREST).save(path)
    one = scoring.score(net_of("val.prototxt"), workers=0)
    data = dict(dataset="shapes", root="images", split="val", batch_size=2)
    two = scoring.score(
        predict.load(build(net_spec(data)), "random.caffemodel", "cpu")[0], workers=0, save="out"
    )
    np.testing.assert_array_equal(one.histogram, two.histogram)
    assert two.images == 3 and sorted(p.name for p in (place / "out").iterdir()) == ["a.png", "b.png", "c.png"]


def test_labels_outside_the_classes_are_counted_apart(place):
    path = place / "images/SegmentationClass/a.png"
    truth = read(path)
    before = int((truth != 255).sum())
    truth[0, :7] = 9
    Image.fromarray(truth).save(path)
    (place / "images/ImageSets/Segmentation/val.txt").write_text("a\n")
    made = net_spec(dict(dataset="shapes", root="images", split="val"))
    del made.layer[-1]  # the loss would refuse such labels
    result = scoring.score(predict.load(build(made), "random.caffemodel", "cpu")[0], workers=0)
    assert result.stray == 7 and np.isnan(result.loss) and result.as_dict()["loss"] is None
    assert before - 7 <= result.histogram.sum() <= before


def test_the_data_sets_own_void_is_no_stray_label(place):
    for name in SIZES:
        path = place / f"images/SegmentationClass/{name}.png"
        truth = read(path)
        Image.fromarray(np.where(truth == 255, np.uint8(77), truth)).save(path)
    (place / "images/val.txt").write_text("a\nb\nc\n")
    made = net_spec(dict(dataset="folder", root="images", split="val", images="JPEGImages", labels="SegmentationClass",
                         classes=list("vwxyz"), void=77, mean=MEAN))
    del made.layer[-1]  # the loss, which says what to ignore
    assert scoring.score(predict.load(build(made), "random.caffemodel", "cpu")[0], workers=0).stray == 0


def test_score_command(place, capsys):
    status, out, err = command(capsys, "score", "val.prototxt", "random.caffemodel", "--save", "p", "--device", "cpu")
    assert status == 0 and not err
    lines = out.splitlines()
    assert lines[0].startswith("small: 3 images in ") and ", loss " in lines[0]
    assert lines[2].strip() == "pixel acc.  mean acc.  mean IU  f.w. IU"
    assert any(line.startswith("sun ") for line in lines)
    assert {p.name for p in (place / "p").iterdir()} == {"a.png", "b.png", "c.png"}
    status, out, _ = command(capsys, "score", "val.prototxt", "random.caffemodel", "--json", "--device", "cpu")
    told = json.loads(out)
    assert status == 0 and told["images"] == 3
    assert f"{100 * told['mean_iu']:.1f}" == lines[4].split()[-2]
    assert [c["name"] for c in told["classes"]] == ["background", "sun", "wheel", "fork", "star"]


def test_absent_classes_are_listed(place, capsys):
    weights = {
        "conv1": ("Convolution", [np.zeros((8, 3, 3, 3), np.float32), np.zeros(8, np.float32)]),
        "score_fr": (
            "Convolution",
            [np.zeros((CLASSES, 8, 1, 1), np.float32), np.array([0, 2, 1, 0, 0], np.float32)],
        ),
    }
    write_weights("one.caffemodel", "small", weights)
    _, out, _ = command(capsys, "score", "val.prototxt", "one.caffemodel", "--device", "cpu")
    assert "not counted, being in neither truth nor prediction: fork, star" in out
    _, out, _ = command(capsys, "score", "val.prototxt", "one.caffemodel", "--device", "cpu", "--json")
    told = json.loads(out)
    assert told["absent"] == ["fork", "star"] and told["classes"][3] == {"name": "fork", "iu": None, "accuracy": None}
    assert told["mean_accuracy"] == pytest.approx(1 / 3)


@pytest.mark.parametrize("resize", [1.0, 0.5])
def test_infer_equals_score(place, capsys, resize):
    """A val net and a deploy net, by different graphs, give the labels that scoring saves."""
    data = dict(dataset="shapes", root="images", split="val", resize=resize)
    prototext.write("scaled.prototxt", net_spec(data))
    scoring.score(net_of("scaled.prototxt"), save="scored", workers=0)
    images = [f"images/JPEGImages/{name}.jpg" for name in SIZES]
    nets = ["scaled.prototxt"] + ["deploy.prototxt"] * (resize == 1)
    for net in nets:
        status, out, err = command(
            capsys, "infer", net, "random.caffemodel", *images, "--out", f"of/{net}", "--device", "cpu"
        )
        assert status == 0 and len(out.splitlines()) == 3 and not err
        for name in SIZES:
            labels = Image.open(f"of/{net}/{name}_labels.png")
            scored = Image.open(f"scored/{name}.png")
            np.testing.assert_array_equal(np.array(labels), np.array(scored))
            assert labels.getpalette() == scored.getpalette()
            assert Image.open(f"of/{net}/{name}_overlay.png").mode == "RGB"


def test_infer_equals_score_at_several_scales(place, capsys):
    looks = ("--scales", "0.5,1,2", "--flip", "--device", "cpu")
    status, out, err = command(capsys, "score", "val.prototxt", "random.caffemodel", "--save", "several", "--quiet", *looks)
    assert (status, err) == (0, "") and ", loss" not in out
    status, one, _ = command(capsys, "score", "val.prototxt", "random.caffemodel", "--save", "one", "--quiet", "--device", "cpu")
    assert status == 0 and ", loss" in one
    images = [f"images/JPEGImages/{name}.jpg" for name in SIZES]
    assert command(capsys, "infer", "deploy.prototxt", "random.caffemodel", *images, "--out", "o", *looks)[0] == 0
    for name in SIZES:
        np.testing.assert_array_equal(read(f"several/{name}.png"), read(f"o/{name}_labels.png"))
        assert (read(f"several/{name}.png") != read(f"one/{name}.png")).any()
    status, out, _ = command(capsys, "score", "val.prototxt", "random.caffemodel", "--json", *looks)
    told = json.loads(out)
    assert told["loss"] is None and (told["scales"], told["flip"]) == ([0.5, 1, 2], True)


def test_one_scale_scores_as_it_did(place, capsys):
    for folder, options in (("plain", ()), ("one", ("--scales", "1"))):
        status, out, _ = command(capsys, "score", "val.prototxt", "random.caffemodel", "--save", folder, "--quiet", *options)
        assert status == 0 and ", loss" in out
    for name in SIZES:
        assert Path(f"plain/{name}.png").read_bytes() == Path(f"one/{name}.png").read_bytes()


def test_a_scale_at_which_scored_images_are_too_small(place, capsys):
    made = load("val.prototxt").proto
    made.layer[1].convolution_param.pad[:] = [0]
    made.layer[-2].crop_param.offset[:] = [0]
    prototext.write("narrow.prototxt", made)
    status, out, err = command(capsys, "score", "narrow.prototxt", "random.caffemodel", "--quiet", "--scales", "0.05,1")
    assert status == 2 and not out and "at scale 0.05" in err and err.count("\n") == 1


def test_infer_needs_no_data_set_for_a_val_net(place, capsys):
    (place / "images/JPEGImages/a.jpg").rename(place / "a.jpg")
    for path in sorted((place / "images").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    (place / "images").rmdir()
    assert command(capsys, "infer", "val.prototxt", "random.caffemodel", "a.jpg", "--out", "o")[0] == 0
    assert (place / "o/a_labels.png").exists()


def test_every_kind_of_image_is_read_as_the_same_picture(place):
    rng = np.random.default_rng(1)
    grey = rng.integers(0, 256, (11, 17), np.uint8)
    colour = np.stack([grey] * 3, -1)
    rgba = np.dstack([colour, rng.integers(0, 256, grey.shape, np.uint8)])
    kinds = {
        "grey.png": Image.fromarray(grey),
        "deep.png": Image.fromarray((grey.astype(np.uint16) << 8) + 77),
        "deep.tif": Image.fromarray((grey.astype(np.uint16) << 8) + 200),
        "rgba.png": Image.fromarray(rgba),
        "la.png": Image.fromarray(rgba[..., 2:]),
        "palette.png": Image.fromarray(grey).convert("P"),
        "palette.gif": Image.fromarray(grey).convert("P"),
        "rgb.bmp": Image.fromarray(colour),
    }
    for name, image in kinds.items():
        image.save(name)
        np.testing.assert_array_equal(np.array(picture(name)), colour, name)
    Image.fromarray(grey > 127).save("bits.png")
    np.testing.assert_array_equal(np.array(picture("bits.png")), (colour > 127) * np.uint8(255))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_are_applied(place, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    pixels = np.zeros((20, 30, 3), np.uint8)
    pixels[:10, :15] = 255  # stored top left
    Image.fromarray(pixels).save("t.png", exif=exif)
    found = np.array(picture("t.png"))
    rows, columns = {1: (0, 0), 2: (0, 1), 3: (1, 1), 4: (1, 0), 5: (0, 0), 6: (0, 1), 7: (1, 1), 8: (1, 0)}[orientation]
    height, width = (20, 30) if orientation < 5 else (30, 20)
    assert found.shape == (height, width, 3)
    assert found[rows * (height - 1), columns * (width - 1), 0] == 255
    assert (found == 255).sum() == pixels.sum() // 255


def test_the_input_is_bgr_less_the_mean():
    image = Image.new("RGB", (2, 1), (10, 20, 30))
    assert predict.blob(image, (1, 2, 3))[0, :, 0, 0].tolist() == [29, 18, 7]
    assert predict.blob(image.convert("L").convert("RGB"), (1,), 1).shape == (1, 1, 1, 2)


def test_infer_takes_mean_and_names_as_told(place, capsys):
    image = "images/JPEGImages/c.jpg"

    def labels(*options, net="silent.prototxt"):
        status, out, err = command(capsys, "infer", net, "random.caffemodel", image, "--out", "m", *options)
        assert status == 0, err
        return read("m/c_labels.png"), out, err

    plain, out, err = labels(net="deploy.prototxt")
    assert not err and "sun" in out
    told, out, err = labels("--mean", ",".join(map(str, MEAN)), "--dataset", "shapes")
    assert not err and "sun" in out
    np.testing.assert_array_equal(told, plain)
    told, out, err = labels("--mean", ",".join(map(str, MEAN)))
    assert not err and "class 1" in out and "sun" not in out
    np.testing.assert_array_equal(told, plain)
    other, out, err = labels("--mean", "0,0,250", net="deploy.prototxt")
    assert not err and (other != plain).any()
    _, out, err = labels("--dataset", "voc", net="deploy.prototxt")
    assert "note: the data set has 21 classes and 'score' 5: all are shown as numbers" in err and "class 1" in out


def test_a_net_that_says_nothing_is_no_guess(place, capsys):
    image = "images/JPEGImages/c.jpg"
    status, out, err = command(capsys, "infer", "silent.prototxt", "random.caffemodel", image, "--out", "m")
    assert status == 2 and not out and "does not say which mean to subtract: give --mean B,G,R, or --dataset" in err
    assert not (place / "m").exists()
    (place / "mine" / "pets-fcn8s").mkdir(parents=True)
    (place / "mine" / "pets.txt").write_text("a\nb\nc\nd\ne\n")
    made = net_spec()
    made.name = "pets-fcn8s"
    prototext.write("mine/pets-fcn8s/deploy.prototxt", made)
    status, _, err = command(capsys, "infer", "mine/pets-fcn8s/deploy.prototxt", "random.caffemodel", image, "--out", "m")
    assert status == 2 and "--dataset mine/pets.txt" in err
    status, out, err = command(capsys, "infer", "mine/pets-fcn8s/deploy.prototxt", "random.caffemodel", image, "--out", "m",
                               "--dataset", "mine/pets.txt")
    assert status == 0 and "note: mine/pets.txt names no mean, and ILSVRC's is subtracted" in err


def test_released_nets_are_known_by_their_names(place, capsys):
    assert [(found := facts.by_name([name], n)) and found[0] for name, n in (
        ("voc-fcn8s", 21), ("voc-fcn8s", 5), ("shapes-fcn8s", 5), ("my-fcn8s", 21), ("vocal-fcn8s", 21), ("voc", 21),
        ("siftflow-fcn16s", 33), ("pascalcontext-fcn8s", 60), ("38cloud-fcn8s", 2))
    ] == ["voc", None, "shapes", None, None, None, "siftflow", "pascalcontext", None]
    assert facts.by_name(["deploy", "nyud-fcn32s-color"], 40)[1].mean == (116.190, 97.203, 92.318)
    assert facts.by_name(["nyud-fcn32s-hha"], 40) is None  # not in colours
    (place / "shapes-fcn8s").mkdir()
    prototext.write("shapes-fcn8s/deploy.prototxt", net_spec())
    status, out, err = command(capsys, "infer", "shapes-fcn8s/deploy.prototxt", "random.caffemodel",
                               "images/JPEGImages/c.jpg", "--out", "m")
    assert status == 0 and "sun" in out
    assert err == "assumed --dataset shapes, by the net's name: its names, colours, mean 117.842,117.764,117.324\n"


def test_facts_that_a_deploy_net_carries(place, capsys):
    own = dict(classes=["road 1 2 3", "car 4 5 6", "sky", "tree", "pole"], mean=list(MEAN), void=255, range=[0, 255])
    prototext.write("own.prototxt", net_spec(**own))
    argv = ("random.caffemodel", "images/JPEGImages/c.jpg", "--out")
    status, out, err = command(capsys, "infer", "own.prototxt", *argv, "m")
    assert status == 0 and not err and "car" in out
    assert command(capsys, "infer", "deploy.prototxt", *argv, "n")[0] == 0
    np.testing.assert_array_equal(read("m/c_labels.png"), read("n/c_labels.png"))
    assert Image.open("m/c_labels.png").getpalette()[:6] == [1, 2, 3, 4, 5, 6]
    prototext.write("unit.prototxt", net_spec(**own | {"range": [0, 1]}))
    status, _, err = command(capsys, "infer", "unit.prototxt", *argv, "u")
    assert status == 2 and "images have pixels from 0 to 255" in err
    prototext.write("endless.prototxt", net_spec(**{**own, "mean": (1e39, 2, 3)}))
    status, _, err = command(capsys, "infer", "endless.prototxt", *argv, "u")
    assert status == 2 and "'mean' of param_str is (1e+39, 2, 3), expected numbers" in err
    del own["mean"]
    prototext.write("meanless.prototxt", net_spec(**own))
    status, _, err = command(capsys, "infer", "meanless.prototxt", *argv, "u")
    assert status == 2 and "--mean B,G,R" in err
    for mean in ("nan,1,2", "1,2", "1,inf,3", "a,b,c", ""):
        with pytest.raises(SystemExit):
            command(capsys, "infer", "meanless.prototxt", *argv, "u", "--mean", mean)
        assert f"expected three numbers B,G,R, found '{mean}'" in capsys.readouterr().err


@pytest.mark.parametrize("given, name, mean", [
    (dict(dataset="38cloud", tops=["color", "label"]), "cloud", (0, 0, 0)), (dict(dataset="nyud", tops=["hha", "label"]), "wall", None),
    (dict(dataset="nyud", tops=["color", "label"]), "wall", (116.190, 97.203, 92.318)),
    (dict(dataset="folder", classes=["a", "b 1 2 3"]), "b", layouts.ILSVRC), (dict(classes=["a", "b"]), "b", None)])
def test_what_a_data_layer_says(given, name, mean):
    n = NetSpec()
    n.data, n.label = L.Python(module="netspec.datasets", layer="SegmentationData", ntop=2, param_str=str(given))
    said = facts.known(n.to_proto().layer[0], Path("x.prototxt"))
    assert name in said.facts.names and said.mean == mean


def test_infer_scales_as_transform_param_says(place, capsys):
    made = net_spec()
    made.layer[0].transform_param.scale = 1 / 128
    made.layer[0].transform_param.mean_value[:] = MEAN
    prototext.write("scaled.prototxt", made)
    assert predict.image_net(made, "score", "x.prototxt")[3].scale == 1 / 128
    assert predict.blob(Image.new("RGB", (2, 1), (10, 20, 30)), (1, 2, 3), scale=0.5)[0, :, 0, 0].tolist() == [14.5, 9, 3.5]


def test_infer_goes_past_bad_images(place, capsys):
    truncated(place / "half.jpg")
    good = ["images/JPEGImages/a.jpg", "images/JPEGImages/c.jpg"]
    argv = ("infer", "deploy.prototxt", "random.caffemodel", "half.jpg", good[0], "gone.png", good[1], "--out", "m")
    status, out, err = command(capsys, *argv)
    assert status == 2 and [line.split(":")[0] for line in out.splitlines()] == good
    first, second, last = err.splitlines()
    assert "half.jpg cannot be read" in first and "gone.png is not there" in second
    assert "2 of 4 images gave no results: half.jpg, gone.png (2); the results of the others are written" in last
    assert sorted(p.name for p in (place / "m").iterdir()) == [
        f"{name}_{kind}.png" for name in "ac" for kind in ("labels", "overlay")]


def test_missing_layers(place, capsys):
    made = net_spec()
    made.layer[1].name = "conv_new"
    prototext.write("renamed.prototxt", made)
    status, _, err = command(capsys, "infer", "renamed.prototxt", "random.caffemodel", "images/JPEGImages/a.jpg", "--out", "o",
                             "--dataset", "shapes")
    assert status == 0
    assert "random.caffemodel lacks conv_new: left at their fillers" in err
    assert "holds conv1, not in the net: ignored" in err


def test_upsampling_without_weights_is_bilinear(place):
    net = net_of("val.prototxt")
    kernel = net.layers_with_params()["upscore"][0].detach().numpy()
    along = np.array([0.25, 0.75, 0.75, 0.25])
    np.testing.assert_allclose(kernel[1, 1], np.outer(along, along))
    assert not kernel[0, 1].any()


def truncated(path):
    raw = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 90, 3), np.uint8)).save(raw, "JPEG")
    path.write_bytes(raw.getvalue()[:2000])


def test_mistakes_are_one_sentence_and_exit_2(place, capsys):
    truncated(place / "half.jpg")
    (place / "note.jpg").write_text("not an image")
    Image.fromarray(np.full((4, 4), 0.5, np.float32)).save("fractions.tif")
    image = "images/JPEGImages/a.jpg"
    write_weights("other.caffemodel", "x", {"ip": ("InnerProduct", [np.zeros((2, 2), np.float32)])})
    random = net_spec(dict(dataset="shapes", root="images", split="val", randomize=True))
    prototext.write("random.prototxt", random)
    unknown = net_spec()
    unknown.layer[4].convolution_param.num_output = unknown.layer[5].convolution_param.num_output = 7
    prototext.write("seven.prototxt", unknown)
    cases = [
        (("score", "val.prototxt", "gone.caffemodel"), "weights 'gone.caffemodel' is not there"),
        (("score", "gone.prototxt", "random.caffemodel"), "net 'gone.prototxt' is not there"),
        (("score", "val.prototxt", "other.caffemodel"), "has no layer of net 'small' (the file: ip; the net: conv1"),
        (("score", "val.prototxt", "val.prototxt"), "val.prototxt"),
        (("score", "val.prototxt", "random.caffemodel", "--score-blob", "scores"), "did you mean 'score'?"),
        (("score", "val.prototxt", "random.caffemodel", "--score-blob", "loss"), "scores have N x C x H x W"),
        (("score", "deploy.prototxt", "random.caffemodel"), "has no data layer that gives 'label'"),
        (("score", "random.prototxt", "random.caffemodel"), "draws images at random"),
        (("score", "val.prototxt", "random.caffemodel", "--score-blob", "pool1"), "a score for each labelled pixel"),
        (("score", "val.prototxt", "random.caffemodel", "--device", "cuda:99"), "device 'cuda:99' is not here"),
        (("infer", "deploy.prototxt", "random.caffemodel", "gone.png", "--out", "o"), "gone.png is not there"),
        (("infer", "deploy.prototxt", "random.caffemodel", "note.jpg", "--out", "o"), "note.jpg is no image"),
        (("infer", "deploy.prototxt", "random.caffemodel", "half.jpg", "--out", "o"), "half.jpg cannot be read"),
        (("infer", "deploy.prototxt", "random.caffemodel", "fractions.tif", "--out", "o"), "expected 8 or 16 bits"),
        (("infer", "deploy.prototxt", "random.caffemodel", image, image, "--out", "o"), "would be written over"),
        (("infer", "deploy.prototxt", "random.caffemodel", image, "--out", "o", "--score-blob", "scor"), "'score'?"),
        (("infer", "seven.prototxt", "random.caffemodel", image, "--out", "o"), "does not say which mean to subtract"),
    ]
    for argv, message in cases:
        status, out, err = command(capsys, *argv)
        assert status == 2 and message in err, (argv, err)
        assert not out and err.startswith(f"netspec {argv[0]}: ") and len(err.splitlines()) == 1, err
    assert not (place / "o").exists()


def test_infer_refuses_a_net_with_two_images():
    n = NetSpec()
    n.color, n.depth = L.Input(ntop=2, shape=[dict(dim=[1, 3, 8, 8])] * 2)
    n.score = L.Eltwise(n.color, n.depth)
    with pytest.raises(Error, match="from the inputs 'color', 'depth'"):
        predict.image_net(n.to_proto(), "score", "x.prototxt")


def test_reference_val_nets_give_their_mean():
    n = NetSpec()
    n.data, n.label = L.Python(
        module="voc_layers", layer="VOCSegDataLayer", ntop=2, param_str=str(dict(voc_dir="..", mean=(1.5, 2, 3)))
    )
    n.score = L.Convolution(n.data, num_output=21, kernel_size=1)
    n.loss = L.SoftmaxWithLoss(n.score, n.label)
    pruned, top, channels, pixels = predict.image_net(n.to_proto(), "score", "x.prototxt")
    assert [layer.name for layer in pruned.layer] == ["data", "score"] and list(pruned.layer[0].top) == ["data"]
    assert (top, channels, pixels[:3]) == ("data", 3, ((1.5, 2, 3), 1.0, 1.0)) and pixels.facts.names[15] == "person"
    made = build(pruned, shapes={top: (1, 3, 9, 7)})
    assert Net(made)({"data": torch.zeros(1, 3, 9, 7)})["score"].shape == (1, 21, 9, 7)


def test_names_and_colours():
    names, palette = predict.looks("voc", 21)
    assert names[15] == "person" and palette[15].tolist() == [192, 128, 128]
    np.testing.assert_array_equal(layouts.voc_colours(21), palette)
    names, palette = predict.looks("shapes", 6)
    assert names[4:] == ["star", "class 5"] and palette[5].tolist() == [128, 0, 128]
    assert predict.looks(None, 2).names == ["class 0", "class 1"]


def test_more_than_256_classes():
    best = judged.labels(torch.eye(300).reshape(1, 300, 300, 1), "image a")
    assert best.dtype == np.int32 and best[0, :, 0].tolist() == list(range(300))
    assert judged.labels(torch.zeros(2, 256, 3, 4), "image a").dtype == np.uint8


def test_a_gpu_is_not_waited_for_between_batches(place, monkeypatch):
    """Its labels are asked for by the thread that counts, while the net is at the next batch; losses at the end."""
    net, said, here = net_of("val.prototxt"), [], threading.current_thread()
    expected = scoring.score(net, workers=0, positive=1, threshold=0.2)

    class Told(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            if func in (torch.Tensor.cpu, torch.Tensor.numpy, torch.Tensor.item, torch.Tensor.tolist):
                said.append("asked")
            return func(*args, **(kwargs or {}))

    def late(x):
        def numbers():
            assert threading.current_thread() is not here
            return x.numpy()
        return numbers

    for module in (judged, scoring):
        monkeypatch.setattr(module, "fetched", late)
    net.register_forward_hook(lambda *args: said.append("net"))
    with Told():
        result = scoring.score(net, workers=0, positive=1, threshold=0.2)
    assert said[said.index("net"):] == ["net"] * 3 + ["asked"] * 3
    np.testing.assert_array_equal(result.histogram, expected.histogram)
    assert (result.loss, result.binary) == (expected.loss, expected.binary)


def test_sources_are_closed_when_scoring_fails(place, monkeypatch):
    closed = []
    close = Feed.close
    monkeypatch.setattr(Feed, "close", lambda feed: (closed.append(feed), close(feed)))
    (place / "images/JPEGImages/b.jpg").write_bytes(b"")
    with pytest.raises(Error, match="b.jpg"):
        scoring.score(net_of("val.prototxt"), workers=0)
    assert len(closed) == 1


@pytest.mark.parametrize("command", [["score", "val.prototxt", "less.caffemodel", "--quiet"],
                                     ["infer", "deploy.prototxt", "less.caffemodel", "images/JPEGImages/a.jpg", "--out", "o",
                                      "--dataset", "shapes"]])
def test_strict_refuses_weights_that_lack_a_layer(place, capsys, command):
    net = net_of("val.prototxt")
    blobs = {name: ("Convolution", list(params)) for name, params in net.layers_with_params().items() if name != "score_fr"}
    write_weights("less.caffemodel", "less", blobs)
    assert cli.main(command) == 0
    assert cli.main([*command, "--strict"]) == 2
    assert "score_fr" in capsys.readouterr().err


def test_an_image_too_small_for_a_net_is_named_with_its_size(place, capsys):
    n = net_spec()
    n.layer[1].convolution_param.pad[:] = [0]
    n.layer[-1].crop_param.offset[:] = [0]
    prototext.write("narrow.prototxt", n)
    Image.new("RGB", (1, 40)).save("thin.png")
    write_weights("narrow.caffemodel", "n", {k: ("x", list(v)) for k, v in net_of("val.prototxt").layers_with_params().items()})
    assert cli.main(["infer", "narrow.prototxt", "narrow.caffemodel", "thin.png", "--out", "o", "--dataset", "shapes"]) == 2
    assert "image thin.png (1x40): is too small for net 'small', which needs 3x3 pixels at least" in capsys.readouterr().err


def test_a_set_of_other_classes_is_not_given_the_layouts_names():
    assert predict.looks("voc", 5).names == [f"class {i}" for i in range(5)]
    assert predict.looks("shapes", 5).names[0] == "background"


# beyond the four measures

def test_bands_and_one_class_equal_what_the_saved_predictions_give(place):
    made = net_spec(dict(dataset="shapes", root="images", split="val"))
    result = scoring.score(predict.load(build(made), "random.caffemodel", "cpu")[0], workers=0, save="p", trimap=[1, 3],
                           positive=1)
    pairs = [(read(f"images/SegmentationClass/{name}.png"), read(f"p/{name}.png")) for name in SIZES]
    expected = sum(trimap(t, p, CLASSES, [1, 3]) for t, p in pairs)
    assert [scores.as_dict() for scores in result.bands.values()] == [Scores.from_histogram(h).as_dict() for h in expected]
    assert list(result.bands) == [1, 3] and result.binary == Binary.from_histogram(result.histogram, 1)
    plain = json.loads(json.dumps(result.as_dict(), allow_nan=False))
    assert plain["trimap"]["3"]["mean_iu"] == result.bands[3].mean_iu and plain["binary"]["recall"] == result.binary.recall


def test_padding_of_a_batch_is_no_boundary(place):
    for name, (width, height) in SIZES.items():
        stripes = np.arange(width, dtype=np.uint8)[None].repeat(height, 0) // 20
        Image.fromarray(stripes).save(f"images/SegmentationClass/{name}.png")
    nets = [net_spec(dict(dataset="shapes", root="images", split="val", batch_size=n)) for n in (1, 3)]
    one, two = (scoring.score(predict.load(build(n), "random.caffemodel", "cpu")[0], workers=0, trimap=[2]) for n in nets)
    assert one.bands[2].as_dict()["class_accuracy"] == pytest.approx(two.bands[2].as_dict()["class_accuracy"], nan_ok=True)
    assert (one.images, two.images) == (3, 3)


@pytest.mark.parametrize("softmax", [False, True])
def test_a_threshold_on_the_probability(place, softmax):
    made = net_spec(dict(dataset="shapes", root="images", split="val"))
    del made.layer[-1]
    if softmax:
        made.layer.add(name="prob", type="Softmax", bottom=["score"], top=["prob"])
    net = predict.load(build(made), "random.caffemodel", "cpu")[0]
    blob = "prob" if softmax else "score"
    result = scoring.score(net, score_blob=blob, workers=0, positive=1, threshold=0.3)
    pairs = np.zeros((2, 2), np.int64)
    for position in range(3):
        data, label = net.graph.sources[0].op.load(position)
        with torch.no_grad():
            scores = net({"data": torch.from_numpy(data), "label": torch.from_numpy(label)}, ["score"])["score"][0].numpy()
        odds = np.exp(scores - scores.max(0))
        truth, found = label[0, 0], odds[1] / odds.sum(0) > 0.3
        pairs += confusion(np.where(truth == 255, 255, truth == 1), found, 2)
    assert result.binary == Binary.from_histogram(pairs)
    assert result.binary != scoring.score(net, score_blob=blob, workers=0, positive=1).binary


@pytest.mark.parametrize("sigmoid", [False, True])
def test_one_map_is_scored_as_the_second_class_against_the_first(place, sigmoid):
    results = []
    for maps in (1, 2):
        n = NetSpec()
        n.data, n.label = L.Python(module="netspec.datasets", layer="SegmentationData", ntop=2,
                                   param_str=str(dict(dataset="shapes", root="images", split="val")))
        n.score = L.Convolution(n.data, num_output=maps, kernel_size=1)
        if sigmoid and maps == 1:
            n.odds = L.Sigmoid(n.score)
        made = Net(build(n.to_proto(), caffe_pb2.TEST))
        weight, bias = made.layers_with_params()["score"]
        with torch.no_grad():
            weight.zero_(), bias.zero_()
            weight[-1, :, 0, 0], bias[-1] = torch.tensor([0.02, -0.01, 0.005]), 0.1
        blob = "odds" if sigmoid and maps == 1 else "score"
        results.append([scoring.score(made, score_blob=blob, positive=1, threshold=threshold) for threshold in (None, 0.7)])
    for one, two in zip(*results, strict=True):
        assert np.array_equal(one.histogram, two.histogram) and one.binary == two.binary
    assert (results[0][0].histogram > 100).all() and results[0][0].binary != results[0][1].binary


def test_score_command_writes_matrix_and_sheet(place, capsys):
    status, out, err = command(capsys, "score", "val.prototxt", "random.caffemodel", "--device", "cpu", "--quiet", "--save", "p",
                               "--trimap", "1,4", "--binary", "sun", "--threshold", "0.2", "--confusion", "c.csv",
                               "--sheet", "s.png", "--worst", "2", "--beside", "p")
    assert status == 0 and not err
    assert "within 4 px of a boundary" in out and re.search(r"\nsun +(\d+\.\d *){5}\n", out)
    with open("c.csv", newline="") as file:
        head, *rows = csv.reader(file)
    assert head == ["truth \\ prediction", "background", "sun", "wheel", "fork", "star"]
    histogram = np.array([row[1:] for row in rows], int)
    _, out, _ = command(capsys, "score", "val.prototxt", "random.caffemodel", "--device", "cpu", "--json")
    assert json.loads(out)["classes"][1]["accuracy"] == histogram[1, 1] / histogram[1].sum()
    few = Image.open("s.png")
    command(capsys, "score", "val.prototxt", "random.caffemodel", "--save", "q", "--sheet", "t.png", "--confusion", "c.png")
    three = Image.open("t.png")
    assert three.height > few.height and (few.mode, three.mode) == ("RGB", "RGB")
    assert (np.array(Image.open("c.png").convert("RGB"))[..., 2] > 250).any()


def test_some_images_of_the_list_alone(place, capsys, monkeypatch):
    """What is scored, saved and shown of two places is what is of them in all, in the order asked for."""
    run = "score", "val.prototxt", "random.caffemodel", "--device", "cpu", "--quiet", "--json", "--save"
    command(capsys, *run, "all")
    seen, sheet = [], sheets.sheet
    monkeypatch.setattr(sheets, "sheet", lambda source, looks, nets, chosen: seen.append([source.names[i] for i in chosen]) or
                        sheet(source, looks, nets, chosen))
    status, out, err = command(capsys, *run, "some", "--images", "2,0,2", "--sheet", "s.png", "--worst", "1")
    told = json.loads(out)
    assert (status, err) == (0, "wrote some, s.png\n") and seen == [["c", "a"]] and sorted(os.listdir("some")) == ["a.png", "c.png"]
    assert all((place / "some" / name).read_bytes() == (place / "all" / name).read_bytes() for name in ("a.png", "c.png"))
    assert (told["places"], told["listed"], told["images"]) == ([2, 0], 3, 2)
    pairs = [(read(f"images/SegmentationClass/{name}.png"), read(f"all/{name}.png")) for name in "ac"]
    assert told["mean_iu"] == Scores.from_histogram(sum(confusion(*pair, CLASSES) for pair in pairs)).mean_iu
    assert command(capsys, *run[:-2], "--images", "1")[1].startswith("small: 1 image of the 3 of the list in ")
    status, out, err = command(capsys, *run, "none", "--images", "0,3")
    assert status == 2 and "place 3 is not in the list of 'val', whose places are 0 to 2" in err and not out


def test_some_images_of_a_larger_batch(place, monkeypatch):
    prototext.write(place / "val.prototxt", net_spec(dict(dataset="shapes", root="images", split="val", batch_size=3)))
    made = load("val.prototxt")
    found = scoring.Scoring(made, places=[1]).run(predict.load(made, "random.caffemodel", "cpu")[0], workers=0)
    assert found.images == 1 and made.readers[0].load(0)[0].shape == (1, 3, 37, 23)


def test_extra_options_that_cannot_be_met(place, capsys):
    for options, message in [(("--binary", "wheels"), "'wheels' is no class; did you mean 'wheel'?"),
                             (("--threshold", "0.5"), "goes with --binary"), (("--binary", "1", "--threshold", "1.5"), "below 1"),
                             (("--sheet", "s.png"), "needs --save"), (("--save", "p", "--sheet", "s.jpg"), "must end in .png"),
                             (("--save", "p", "--sheet", "s.png", "--worst", "0"), "above 0"),
                             (("--confusion", "c.txt"), "must end in .csv or .svg")]:
        status, out, err = command(capsys, "score", "val.prototxt", "random.caffemodel", *options)
        assert status == 2 and message in err and not out, (options, err)
    for widths in ("0", "1,x", ""):
        with pytest.raises(SystemExit):
            command(capsys, "score", "val.prototxt", "random.caffemodel", "--trimap", widths)
    assert not list(place.glob("[cps].*")) and not (place / "p").exists()


@pytest.mark.parametrize("folder", ["images/SegmentationClass", "images/JPEGImages", "images/../images/SegmentationClass", "link"])
def test_predictions_never_take_the_place_of_labels_or_images(place, capsys, folder):
    (place / "link").symlink_to("images/SegmentationClass")
    before = {path: path.read_bytes() for path in (place / "images").rglob("*.*")}
    status, out, err = command(capsys, "score", "val.prototxt", "random.caffemodel", "--save", folder)
    assert status == 2 and f"--save: the predictions would come among the images or labels of {folder}; give" in err and not out
    assert {path: path.read_bytes() for path in (place / "images").rglob("*.*")} == before


def test_folders_beside_of_the_nets_own_name_are_shown_too(place, capsys, monkeypatch):
    name = net_of("val.prototxt").graph.name
    for folder in (f"a/{name}", f"b/{name}", "c/other"):
        command(capsys, "score", "val.prototxt", "random.caffemodel", "--quiet", "--save", folder)
    seen = []
    monkeypatch.setattr(sheets, "sheet", lambda source, looks, nets, chosen: seen.append(nets) or Image.new("RGB", (1, 1)))
    command(capsys, "score", "val.prototxt", "random.caffemodel", "--quiet", "--save", f"a/{name}", "--sheet", "s.png",
            "--beside", f"b/{name}", "c/other")
    assert seen == [{f"b/{name}": f"b/{name}", "other": "c/other", name: f"a/{name}"}]


def test_a_folder_beside_that_lacks_a_prediction(place, capsys):
    (place / "empty").mkdir()
    (place / "broken").mkdir()
    for name in SIZES:
        (place / f"broken/{name}.png").write_bytes(b"no picture")
    for folder, words in (("empty", "prediction 'empty/"), ("broken", ".png is no image")):
        status, _, err = command(capsys, "score", "val.prototxt", "random.caffemodel", "--quiet", "--save", "p",
                                 "--sheet", "s.png", "--beside", folder)
        assert status == 2 and words in err and len(err.splitlines()) == 1 and not (place / "s.png").exists()


def test_the_worst_images_come_first(place, monkeypatch):
    net = net_of("val.prototxt")
    result = scoring.score(net, workers=0, save="p")
    pairs = {name: (read(f"images/SegmentationClass/{name}.png"), read(f"p/{name}.png")) for name in SIZES}
    own = {name: Scores.from_histogram(confusion(*pair, CLASSES)).mean_iu for name, pair in pairs.items()}
    seen = []
    monkeypatch.setattr(sheets.pictures, "sheet", lambda columns, legend: seen.extend([columns, legend]))
    source = net.graph.sources[0].op
    sheets.sheet(source, result.looks, {"net": "p"}, sheets.worst(source, result.looks, "p", 2))
    worst = sorted(own, key=own.get)[:2]
    (_, images, names), (_, truths, _), (title, predictions, texts) = seen[0]
    assert names == worst and title == "net" and texts == [f"mean IU {100 * own[name]:.1f}" for name in worst]
    assert [p.size for p in (*truths, *predictions)] == [SIZES[name] for name in worst] * 2
    assert [(i.shape[1], i.shape[0]) for i in images] == [SIZES[name] for name in worst]
    for name, image in zip(worst, images, strict=True):
        given = np.array(Image.open(next(Path("images/JPEGImages").glob(f"{name}.*"))).convert("RGB"), int)
        assert abs(image.astype(int) - given).max() <= 1, name
    assert "void" in [key.name for key in seen[1]]


def test_bands_of_any_depth_are_shown():
    grey = _photograph(np.linspace(100, 5000, 24, dtype=np.float32).reshape(2, 3, 4))
    assert grey.dtype == np.uint8 and grey.shape == (2, 3, 3) and (grey.min(), grey.max()) == (0, 243)
    assert _photograph(np.full((2, 3, 1), 7, np.int32)).tolist() == [[0] * 3] * 2


@pytest.mark.parametrize("given, words", [({"dataset": ["voc"]}, None), ({"mean": "grey"}, "'mean' of param_str is 'grey'"),
                                          ("mean: 1\nmean: 2", "x.prototxt: layer 'data': param_str gives 'mean' twice, 1 and 2;"),
                                          ({"resize": 9}, "expected above 0 to 8")])
def test_odd_settings_of_a_data_layer(given, words):
    n = NetSpec()
    n.data = L.Python(module="m", layer="Mine", param_str=str(given))
    n.score = L.Convolution(n.data, num_output=2, kernel_size=1)
    if words:
        with pytest.raises(Error, match=words):
            predict.image_net(n.to_proto(), "score", "x.prototxt")
    else:  # a layer of one's own may mean anything by it
        assert predict.image_net(n.to_proto(), "score", "x.prototxt")[3] == Known(None)


def test_the_net_works_while_images_are_counted(place, monkeypatch):
    """The first image is counted when the net is at the second; all is told in the order of the list."""
    net = Net(load(place / "val.prototxt")).eval()
    forward, add, second, calls, told = Net.forward, scoring.Tally.add, threading.Event(), [], []

    def called(self, *given):
        calls.append(given)
        if len(calls) == 2:
            second.set()
        return forward(self, *given)

    def counted(self, *given):
        assert second.wait(60)
        add(self, *given)

    monkeypatch.setattr(Net, "forward", called)
    monkeypatch.setattr(scoring.Tally, "add", counted)
    found = scoring.score(net, progress=lambda done, total, histogram: told.append((done, total, int(histogram.sum()))))
    assert len(calls) == 3 and [each[:2] for each in told] == [(1, 3), (2, 3), (3, 3)]
    assert told[0][2] < told[1][2] < told[2][2] == found.histogram.sum()
