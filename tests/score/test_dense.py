"""`netspec infer --dense`: a classifier over a whole image says of each window what it says of it alone."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from engine_cases import each_engine
from PIL import Image

from netspec import NetSpec
from netspec import layers as L
from netspec.base.errors import Error
from netspec.cli.main import main
from netspec.convert import engines, onnxops
from netspec.data.layouts import facts
from netspec.look.heat import heat, shades
from netspec.net import weights
from netspec.net.deploy import deploy
from netspec.net.module import Net
from netspec.net.rewrite import randomise
from netspec.proto import text as prototext
from netspec.proto.text import read_net
from netspec.score import predict
from netspec.score.dense import DenseClassifier, Look, Maps, dense

SIDE, MEAN = (12, 16), (100, 110, 120)  # of the classifier's image, H x W
ROOT = Path(__file__).parents[2]


def convolutions(n, pad=0):
    n.data = L.Input(shape=dict(dim=[3, 3, *SIDE]))
    n.conv1 = L.Convolution(n.data, num_output=6, kernel_size=3, pad=pad)
    n.relu1 = L.ReLU(n.conv1, in_place=True)
    n.pool1 = L.Pooling(n.relu1, kernel_size=2, stride=2)
    n.conv2 = L.Convolution(n.pool1, num_output=8, kernel_size=2)
    return L.ReLU(n.conv2)


def connected(n, pad=0):
    n.fc3 = L.InnerProduct(convolutions(n, pad), num_output=7)
    n.fc4 = L.InnerProduct(L.ReLU(n.fc3), num_output=4)
    n.prob = L.Softmax(n.fc4)


def padded(n):
    connected(n, pad=1)


def scored(n):
    """Without a Softmax, as some deploy nets end."""
    n.fc3 = L.InnerProduct(convolutions(n), num_output=4)


def averaged(n):
    """A global average, then a fully connected layer, as ResNet."""
    n.pool = L.Pooling(convolutions(n), pool=1, global_pooling=True)
    n.prob = L.Softmax(L.InnerProduct(n.pool, num_output=4))


def pooled(n):
    """Scores, then their global average, as SqueezeNet."""
    n.score = L.Convolution(convolutions(n), num_output=4, kernel_size=1)
    n.prob = L.Softmax(L.Pooling(n.score, pool=1, global_pooling=True))


def write(folder, build, name="net"):
    n = NetSpec()
    build(n)
    proto = n.to_proto()
    proto.name = name
    prototext.write(folder / "net.prototxt", proto)
    net = Net(deploy(folder / "net.prototxt"))
    randomise(net, seed=3)
    with torch.no_grad():
        for key, parameter in net.state_dict().items():
            if key.startswith("conv1"):
                parameter.div_(50)  # pixels are large
    weights.save(folder / "w.caffemodel", net)
    return net


def picture(width=46, height=33, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height // 3 + 1, width // 3 + 1, 3), np.uint8)
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder, the current one, with photo.png, and a classifier of four classes with its weights."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path, connected)
    picture().save("photo.png")
    return tmp_path


def viewer(folder, *settings):
    path = folder / "net.prototxt"
    of = dense(read_net(path), path)
    net, _ = predict.load(of.classifier, folder / "w.caffemodel", "cpu")
    return DenseClassifier(net, of, MEAN, *settings)


def alone(net, image, odds=True):
    """What the classifier says of each window of an image, (C, h, w), one after the other."""
    blob, (high, wide) = predict.blob(image, MEAN), SIDE
    rows = []
    for y in range(0, blob.shape[2] - high + 1, 2):
        crops = [blob[:, :, y : y + high, x : x + wide] for x in range(0, blob.shape[3] - wide + 1, 2)]
        with torch.no_grad():
            (scores,) = net({"data": torch.cat(crops)}).values()
        scores = scores.reshape(len(crops), -1)
        rows.append(scores if odds else scores.softmax(1))
    return torch.stack(rows).permute(2, 0, 1).numpy()


@pytest.mark.parametrize("build", [connected, scored, averaged, pooled])
def test_a_window_scores_what_it_scores_alone(tmp_path, build):
    net = write(tmp_path, build)
    image = picture(46, 32)
    seen = viewer(tmp_path)
    maps = seen.maps("photo", image)
    theirs = alone(net, image, build is not scored)
    assert maps.stride == (2, 2) and maps.side == SIDE and theirs.shape == (4, 11, 16)
    assert theirs.std((1, 2)).max() > 0.02  # there is something to see
    np.testing.assert_allclose(maps.looks[0].odds[:, :11, :16], theirs, rtol=0, atol=1e-5 * theirs.max())
    assert seen.timing.crops == 10 and seen.timing.apart < 1e-5
    assert not seen.of.padded and "nothing is padded" in seen.timing.words(seen.of)


def test_padding_is_said_to_make_a_difference(tmp_path):
    write(tmp_path, padded)
    seen = viewer(tmp_path)
    seen.maps("photo", picture())
    assert seen.of.padded and seen.timing.apart > 1e-3 and "padded" in seen.timing.words(seen.of)


def test_of_an_image_of_its_own_size_it_says_what_the_classifier_says(tmp_path):
    """With padding too: nothing goes on behind the borders."""
    net = write(tmp_path, padded)
    image = picture(SIDE[1], SIDE[0])
    maps = viewer(tmp_path).maps("photo", image)
    np.testing.assert_allclose(maps.looks[0].odds, alone(net, image), rtol=0, atol=1e-6)
    assert (maps.of((2,)) == maps.of((2,))[0, 0, 0]).all() and maps.of((2,)).shape == (1, *SIDE)


def test_scores_stand_at_the_middle_of_their_windows():
    """A window of 5 pixels from x = 2 i on has its middle at 2 i + 2; one of 4 rows from 3 i on at 3 i + 1.5."""
    odds = np.arange(8, dtype=np.float32).reshape(1, 2, 4) / 8
    found = Maps([Look(odds, (11, 7), False)], (11, 7), (4, 5), (3, 2)).of([0])[0]
    rows = np.clip((np.arange(7) - 1.5) / 3, 0, 1)
    columns = np.clip((np.arange(11) - 2) / 2, 0, 3)
    np.testing.assert_allclose(found, (4 * rows[:, None] + columns) / 8, atol=1e-6)


def test_looks_are_averaged_on_the_image(tmp_path):
    write(tmp_path, connected)
    image = picture()
    both = viewer(tmp_path, (0.5, 1.0), True).maps("photo", image)
    assert [(look.size, look.mirrored) for look in both.looks] == [
        ((46, 33), False), ((46, 33), True), ((23, 16), False), ((23, 16), True)]
    half = image.resize((23, 16), Image.Resampling.BILINEAR)
    parts = [viewer(tmp_path).maps("p", image).of([1])]
    parts += [viewer(tmp_path).maps("p", image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)).of([1])[:, :, ::-1]]
    for mirrored in (False, True):
        shown = half.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else half
        look = viewer(tmp_path).maps("p", shown).looks[0]
        parts.append(both._replace(looks=[look._replace(mirrored=mirrored)]).of([1]))
    np.testing.assert_allclose(both.of([1]), np.mean(parts, axis=0), atol=1e-6)


def infer(capsys, *argv):
    status = main(["infer", "net.prototxt", "w.caffemodel", *argv, "--mean", "100,110,120", "--device", "cpu"])
    return status, capsys.readouterr()


def test_a_picture_a_class(place, capsys):
    assert infer(capsys, "photo.png", "--out", "o", "--scores", "--dense", "class 1", "3")[0] == 0
    assert sorted(file.name for file in Path("o").iterdir()) == [
        "photo_dense_class_1.png", "photo_dense_class_3.png", "photo_scores.npy"]
    found = np.load("o/photo_scores.npy")
    assert found.shape == (2, 33, 46) and found.dtype == np.float32
    np.testing.assert_array_equal(found, viewer(place).maps("photo", picture()).of([1, 3]))
    drawn = Image.open("o/photo_dense_class_1.png")
    np.testing.assert_array_equal(np.asarray(drawn)[: 33 * 7, : 46 * 7], np.asarray(heat(picture(), found[0])))


def test_json_says_where_each_is_seen_best(place, capsys):
    status, said = infer(capsys, "photo.png", "--out", "o", "--json", "--dense")
    told = json.loads(said.out)
    (image,) = told["images"]
    maps = viewer(place).maps("photo", picture())
    assert status == 0 and image["files"] == {"dense": str(Path("o/photo_dense.png"))}
    assert [each["class"] for each in image["classes"]] == list(maps.best()) and len(image["classes"]) == 3
    for each in image["classes"]:
        (found,) = maps.of([each["class"]])
        x, y = each["at"]
        assert each["most"] == pytest.approx(found.max()) and found[y, x] == found.max()
        assert each["mean"] == pytest.approx(found.mean())
    assert told["timing"]["windows"] == list(maps.looks[0].odds.shape[1:])


def test_the_ground_is_not_among_the_best():
    odds = np.array([0.9, 0.1, 0.7, 0.3, 0.8], np.float32)[:, None, None]
    maps = Maps([Look(odds, (16, 12), False)], (16, 12), SIDE, (2, 2))
    assert maps.best() == (0, 4, 2) and maps.best(without=[0]) == (4, 2, 3)


def test_a_line_an_image_and_one_of_the_time(place, capsys):
    picture(50, 40).save("other.png")
    status, said = infer(capsys, "photo.png", "other.png", "--out", "o", "--dense", "class 2")
    first, second, timing = said.out.splitlines()
    assert status == 0 and first.startswith("photo.png: class 2 ") and second.startswith("other.png: class 2 ")
    assert "16x12 windows of 16x12 in one pass" in timing and "as crops about" in timing


def test_names_of_a_file(place, capsys):
    Path("words.txt").write_text("n00000001 tabby, tabby cat\nn00000002 tiger cat\n\nn00000003 crane\nn00000004 crane, bird\n")
    assert infer(capsys, "photo.png", "--out", "o", "--names", "words.txt", "--dense", "Tabby cat", "n00000004", "crane")[0] == 0
    assert sorted(file.name for file in Path("o").iterdir()) == [
        "photo_dense_crane_2.png", "photo_dense_crane_3.png", "photo_dense_tabby.png"]


@each_engine
@pytest.mark.parametrize("looks", [(), ("--scales", "0.5,1.2", "--flip")])
@pytest.mark.parametrize("build", [connected, scored, averaged])
def test_an_engine_says_what_torch_says(place, capsys, name, looks, build):
    write(place, build)
    picture(51, 40, seed=1).save("other.png")
    told = {}
    for engine in ("torch", name):
        status, said = infer(capsys, "photo.png", "other.png", "--out", engine, "--scores", "--json", *looks, "--engine", engine, "--dense")
        assert (status, said.err) == (0, "")
        told[engine] = json.loads(said.out)
    for image in ("photo", "other"):
        ours, theirs = (np.load(f"{engine}/{image}_scores.npy") for engine in ("torch", name))
        assert ours.std() > 0.01
        np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-4)
    assert told[name]["engine"] == name and "engine" not in told["torch"]
    assert told[name]["timing"]["windows"] == told["torch"]["timing"]["windows"] and told[name]["timing"]["apart"] < 1e-4
    assert len([*place.glob("w.caffemodel.*.onnx")]) == len([*place.glob("w.caffemodel.*.onnx_data")]) == 1  # one serves all sizes


@each_engine
def test_an_engine_that_says_something_else_stops_the_run(place, capsys, monkeypatch, name):
    monkeypatch.setitem(onnxops.EMIT, "ReLU", lambda b, op, x: b.node("LeakyRelu", x, alpha=0.5))
    picture(51, 40).save("other.png")
    status, said = infer(capsys, "photo.png", "other.png", "--out", "o", "--engine", name, "--dense")
    assert (status, said.out) == (2, "") and not list(Path("o").glob("*"))
    assert said.err.startswith(f"netspec infer: {name} differs from torch on the first image, by ") and said.err.count("\n") == 1


@pytest.mark.parametrize("argv, words", [
    (["photo.png", "--dense", "clas 1"], "'clas 1' is no class; did you mean 'class 1'?"),
    (["photo.png", "--dense", "class 1", "photo.png"], "images stand before --dense"),
    (["photo.png", "--names", "three.txt", "--dense"], "three.txt has 3 lines and the net 4 classes"),
    (["photo.png", "--names", "none.txt", "--dense"], "none.txt' is not there"),
    (["photo.png", "--scales", "0.3,1", "--dense"], "14x10 at scale 0.3, smaller than what net 'net' classifies, 16x12; the "
                                                    "least scale for it is 0.364"),
    (["small.png", "--dense"], "15x40 at scale 1, smaller than what net 'net' classifies, 16x12"),
    (["photo.png", "--cutout", "class 1", "--dense"], "--cutout: a classifier run with --dense has no such thing"),
    (["photo.png", "--samples", "3", "--dense"], "--samples: a classifier run with --dense has no such thing"),
    (["photo.png", "--seed", "3", "--dense"], "--seed: a classifier run with --dense has no such thing"),
    (["photo.png", "--engine", "onnxruntine", "--dense"], "engine 'onnxruntine' is not known; did you mean 'onnxruntime'?"),
    (["photo.png", "--names", "three.txt"], "net.prototxt segments images, and has no such thing"),
    (["photo.png"], "a classifier is run over whole images with --dense"),
])
def test_what_cannot_be(place, capsys, argv, words):
    Path("three.txt").write_text("a\nb\nc\n")
    picture(15, 40).save("small.png")
    status, said = infer(capsys, *argv, "--out", "o")
    assert status == 2 and words in said.err and not list(Path("o").glob("*"))


def test_the_least_scale_that_is_named_is_enough(place, capsys):
    assert infer(capsys, "photo.png", "--scales", "0.364", "--out", "o", "--dense")[0] == 0


def fully(n):
    n.score = L.Convolution(convolutions(n), num_output=4, kernel_size=1)


def two(n):
    n.one, n.two = (L.InnerProduct(at, num_output=4) for at in [convolutions(n)] * 2)


@pytest.mark.parametrize("build, words", [(fully, "'score' is 3 x 4 x 4 x 6: the net gives maps of scores .*leave out --dense"),
                                          (two, "its results are one, two.*--score-blob")])
def test_nets_that_are_no_classifiers(tmp_path, build, words):
    write(tmp_path, build)
    with pytest.raises(Error, match=words):
        viewer(tmp_path)


def test_one_of_several_results(tmp_path):
    write(tmp_path, two)
    path = tmp_path / "net.prototxt"
    assert dense(read_net(path), path, "two").blob == "two"


@pytest.mark.engine
@pytest.mark.parametrize("engine", ["torch", *engines.available()])
def test_scores_that_are_no_numbers(place, capsys, engine):
    net = write(place, connected)
    with torch.no_grad():
        net.state_dict()["fc3.bias"][0] = float("nan")
    weights.save(place / "w.caffemodel", net)
    status, said = infer(capsys, "photo.png", "--out", "o", "--engine", engine, "--dense")
    assert status == 2 and "image photo.png: the scores are no numbers (NaN)" in said.err


@pytest.mark.parametrize("name, windows", [("alexnet", (2, 1)), ("googlenet", (2, 1)), ("resnet50", (2, 1))])
def test_published_classifiers(name, windows):
    """One stride more than their image has is a window more, wherever their average stands."""
    path = ROOT / "models" / name / "deploy.prototxt"
    of = dense(read_net(path), path)
    assert of.stride == (32, 32) and of.classes == 1000 and of.padded
    high, wide = of.side
    assert of.form.infer({"data": (1, 3, high + 32, wide)})[max(v for v in of.form.shapes if v.blob == "prob")][2:] == windows


def test_the_small_classifier_of_shapes():
    """One window of its own size, then one each 8 pixels; with the names of its classes and its mean."""
    path = ROOT / "models" / "shapes-classifier" / "deploy.prototxt"
    of = dense(read_net(path), path)
    assert (of.side, of.stride, of.classes, of.padded) == ((48, 48), (8, 8), 5, False)
    assert of.known.facts.names == facts("shapes").names and of.known.mean == facts("shapes").mean


def test_colours_are_lighter_all_the_way():
    light = shades(np.linspace(0, 1, 101)) @ [0.299, 0.587, 0.114]
    assert (np.diff(light) > 0).all()
    np.testing.assert_array_equal(shades(np.array([-1.0, 2.0])), shades(np.array([0.0, 1.0])))


def test_maps_of_another_size_are_refused():
    with pytest.raises(Error, match="the map is 4 x 3 for an image of 46 x 33"):
        heat(picture(), np.zeros((3, 4)))
