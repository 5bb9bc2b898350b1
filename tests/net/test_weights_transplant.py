"""Weights under other names, and widened: `convert transplant`."""

from pathlib import Path

import numpy as np
import pytest
import torch

from netspec import NetSpec
from netspec import layers as L
from netspec.base.errors import Error
from netspec.cli.main import main
from netspec.convert import agree
from netspec.net.build import load
from netspec.net.module import Net
from netspec.net.weights import bilinear_kernel, grown, save
from netspec.proto import text as prototext
from netspec.proto.model import read_weights, write_weights
from netspec.score import predict


def two_trunks(path, classes=4):
    n = NetSpec()
    n.rgb = L.Input(shape=dict(dim=[1, 3, 8, 8]))
    n.rgbd = L.Input(shape=dict(dim=[1, 4, 8, 8]))
    for name, bottom in (("color", n.rgb), ("depth", n.rgbd)):
        n["conv" + name] = L.Convolution(bottom, num_output=5, kernel_size=3)
        n["score" + name] = L.Convolution(n["conv" + name], num_output=classes, kernel_size=1)
    prototext.write(path, n.to_proto())


@pytest.fixture
def trained(tmp_path):
    rng = np.random.RandomState(0)
    made = {"conv": [rng.rand(5, 3, 3, 3), rng.rand(5)], "score": [rng.rand(4, 5, 1, 1), rng.rand(4)]}
    made = {k: [b.astype(np.float32) for b in v] for k, v in made.items()}
    write_weights(tmp_path / "a.caffemodel", "a", {k: ("Convolution", v) for k, v in made.items()})
    two_trunks(tmp_path / "net.prototxt")
    return made


def test_two_files_fill_the_two_trunks_of_a_net(tmp_path, trained, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["convert", "transplant", "net.prototxt", "out.caffemodel", "a.caffemodel:color", "a.caffemodel:depth"]) == 0
    read = read_weights("out.caffemodel")
    for layer in ("conv", "score"):
        np.testing.assert_array_equal(read[layer + "color"][0], trained[layer][0])
        np.testing.assert_array_equal(read[layer + "depth"][1], trained[layer][1])
    deep = read["convdepth"][0]
    np.testing.assert_array_equal(deep[:, :3], trained["conv"][0])
    np.testing.assert_allclose(deep[:, 3], trained["conv"][0].mean(1), rtol=1e-6)
    assert "without weights: none" in capsys.readouterr().out


def test_a_band_more_rescaled_gives_the_same_of_grey_and_a_quarter_less_colour(tmp_path, monkeypatch):
    """Near infrared for a trunk of three bands, before its first ReLU and behind all."""
    monkeypatch.chdir(tmp_path)
    for bands in (3, 4):
        n = NetSpec()
        n.data = L.Input(shape=dict(dim=[2, bands, 9, 7]))
        n.conv1 = L.Convolution(n.data, num_output=5, kernel_size=3, pad=2, weight_filler=dict(type="msra"),
                                bias_filler=dict(type="gaussian"))
        n.relu1 = L.ReLU(n.conv1)
        n.conv2 = L.Convolution(n.relu1, num_output=2, kernel_size=3, weight_filler=dict(type="msra"))
        prototext.write(tmp_path / f"{bands}.prototxt", n.to_proto())
    three = Net(load("3.prototxt"))
    save("three.caffemodel", three)
    with pytest.raises(Error, match=r"conv1.*\[5, 3, 3, 3\] in the weights.*convert transplant"):
        predict.load(load("4.prototxt"), Path("three.caffemodel"), "cpu")
    assert main(["convert", "transplant", "4.prototxt", "four.caffemodel", "three.caffemodel", "--rescale"]) == 0
    four, _ = predict.load(load("4.prototxt"), Path("four.caffemodel"), "cpu")
    image = 100 * torch.randn(2, 3, 9, 7)
    grey = image.mean(1, keepdim=True)
    for seen, fed in ((torch.cat([image, grey], 1), (3 * image + grey) / 4), (grey.expand(2, 4, 9, 7), grey.expand(2, 3, 9, 7))):
        found, want = four({"data": seen}, ["conv1", "conv2"]), three({"data": fed}, ["conv1", "conv2"])
        for blob in ("conv1", "conv2"):
            np.testing.assert_allclose(found[blob].detach(), want[blob].detach(), rtol=1e-4, atol=1e-3)
    blobs = read_weights("four.caffemodel")
    np.testing.assert_array_equal(blobs["conv2"][0], read_weights("three.caffemodel")["conv2"][0])  # no more inputs there


def test_a_score_layer_of_more_classes_begins_with_the_old_ones(tmp_path, trained, monkeypatch):
    monkeypatch.chdir(tmp_path)
    two_trunks("more.prototxt", classes=6)
    assert main(["convert", "transplant", "more.prototxt", "out.caffemodel", "a.caffemodel:score=scorecolor"]) == 0
    read = read_weights("out.caffemodel")
    assert list(read) == ["scorecolor"]
    np.testing.assert_array_equal(read["scorecolor"][0][:4], trained["score"][0])
    assert not read["scorecolor"][0][4:].any() and not read["scorecolor"][1][4:].any()


@pytest.mark.parametrize("given, words", [
    ("a.caffemodel:colour", "no layer of net"), ("a.caffemodel:score=scorecolour", "'scorecolour' is not in the net"),
    ("a.caffemodel:scores=scorecolor", "'scores' is not in the weights"),
    ("one.caffemodel:score=scorecolor", "no layer of net"), ("b.caffemodel:color", "b.caffemodel")])
def test_what_does_not_fit_is_refused(tmp_path, trained, monkeypatch, capsys, given, words):
    monkeypatch.chdir(tmp_path)
    write_weights("one.caffemodel", "one", {"score": ("Convolution", trained["score"][:1])})  # without a bias
    assert main(["convert", "transplant", "net.prototxt", "out.caffemodel", given]) == 2
    assert words in capsys.readouterr().err and not (tmp_path / "out.caffemodel").exists()


def test_blobs_of_another_kind_stay_as_they_are():
    blob = np.ones((2, 3, 3, 3), np.float32)
    assert grown(blob, (2, 3, 5, 5)) is blob and grown(blob, (1, 3, 3, 3)) is blob


@pytest.mark.parametrize("size, along", [
    (1, [1]), (2, [1 / 2, 1 / 2]), (3, [1 / 2, 1, 1 / 2]), (4, [1 / 4, 3 / 4, 3 / 4, 1 / 4]), (5, [1 / 3, 2 / 3, 1, 2 / 3, 1 / 3])])
def test_the_bilinear_kernel_is_a_hat(size, along):
    """The weights of interpolation between the middles of cells."""
    np.testing.assert_allclose(bilinear_kernel(size), np.outer(along, along), rtol=1e-6)


def test_upsampling_without_weights_is_bilinear_where_nets_are_exported_and_run(tmp_path):
    n = NetSpec()
    n.data = L.Input(shape=dict(dim=[1, 2, 4, 4]))
    n.score = L.Convolution(n.data, num_output=2, kernel_size=1)
    n.up = L.Deconvolution(n.score, convolution_param=dict(num_output=2, kernel_size=4, stride=2, bias_term=False))
    prototext.write(tmp_path / "net.prototxt", n.to_proto())
    blobs = [np.ones((2, 2, 1, 1), np.float32), np.zeros(2, np.float32)]
    write_weights(tmp_path / "w.caffemodel", "n", {"score": ("Convolution", blobs)})
    built = load(tmp_path / "net.prototxt")
    for net in (agree.filled(built, tmp_path / "w.caffemodel"), predict.load(built, tmp_path / "w.caffemodel", "cpu")[0]):
        up = net.layers_with_params()["up"][0].detach().numpy()
        np.testing.assert_array_equal(up[0, 0], np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 16)
        assert not up[0, 1].any()
