"""Kernels and activations as sheets, looked at in single pixels, and the command that draws them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import netspec
from netspec.base.errors import Error
from netspec.cli import main as cli
from netspec.look.inside import LARGEST, MOST_CHANNELS, SMALLEST, draw_channels, draw_kernels
from netspec.net.build import build
from netspec.net.module import Net
from netspec.proto import text as prototext
from netspec.proto.caffe_pb2 import NetParameter
from netspec.proto.model import write_weights

NET = """name: "n"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: [1, 3, 8, 8] } } SAID }
layer { name: "one" type: "Convolution" bottom: "data" top: "one" convolution_param { num_output: 5 kernel_size: 3 pad: 1 } }
layer { name: "relu" type: "ReLU" bottom: "one" top: "one" }
layer { name: "score" type: "Convolution" bottom: "one" top: "score" convolution_param { num_output: 2 kernel_size: 1 } }
layer { name: "up" type: "Deconvolution" bottom: "score" top: "up" convolution_param { num_output: 2 kernel_size: 4 stride: 2 bias_term: false } }
"""
SAID = "python_param { param_str: \"{'classes': ['a', 'b'], 'mean': [1, 2, 3]}\" }"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A net with weights, and a picture."""
    monkeypatch.chdir(tmp_path)
    Path("net.prototxt").write_text(NET.replace("SAID", SAID))
    one = np.zeros((5, 3, 3, 3), np.float32)
    one[0, 0], one[1, 2, 0], one[2] = 2, -1, 1  # all of blue, a line of red taken off, white
    two = np.arange(10, dtype=np.float32).reshape(2, 5, 1, 1) - 4
    write_weights("n.caffemodel", "n", {"one": ("Convolution", [one, np.arange(5, dtype=np.float32)]), "score": ("Convolution", [two, np.zeros(2, np.float32)]),
                                        "up": ("Deconvolution", [np.ones((2, 2, 4, 4), np.float32)])})
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 10, 3), np.uint8)).save("a.png")
    return tmp_path


def tile(page, row, column, high, wide):
    """What is in a tile of so many values to a side, one pixel a value."""
    factor = -(-SMALLEST // max(high, wide))
    letters, gap = 16, 8
    y, x = 32 + row * (factor * high + gap + letters), gap + column * (max(SMALLEST, factor * wide) + gap)
    return np.asarray(page)[y + factor // 2 :: factor, x + factor // 2 :: factor][:high, :wide]


def run(capsys, *argv):
    status = cli.main(["draw", *argv, "--out", "o.png"])
    out, err = capsys.readouterr()
    return status, out + err


def test_kernels_of_an_image_are_in_colour(place, capsys):
    assert run(capsys, "net.prototxt", "n.caffemodel", "--kernels", "one") == (0, "wrote o.png: 5 kernels 3 x 3 of 'one', in colour\n")
    page, grey = Image.open("o.png"), 128
    assert (tile(page, 0, 0, 3, 3) == [grey, grey, 255]).all()
    red = tile(page, 0, 1, 3, 3)
    assert (red[0] == [64, grey, grey]).all() and (red[1:] == grey).all()
    assert (tile(page, 0, 2, 3, 3) == 191).all() and (tile(page, 1, 0, 3, 3) == grey).all() and (tile(page, 1, 2, 3, 3) == 255).all()


def test_other_kernels_are_tiles_of_output_and_input(place, capsys):
    assert run(capsys, "net.prototxt", "n.caffemodel", "--kernels", "score") == (0, "wrote o.png: 2 x 5 kernels 1 x 1 of 'score'\n")
    page = Image.open("o.png")
    found = [[tile(page, row, column, 1, 1)[0, 0, 0] for column in range(5)] for row in range(2)]
    np.testing.assert_allclose(found, 127.5 + 25.5 * (np.arange(10).reshape(2, 5) - 4), atol=0.6)
    assert run(capsys, "net.prototxt", "n.caffemodel", "--kernels", "up") == (0, "wrote o.png: 2 x 2 kernels 4 x 4 of 'up'\n")


@pytest.mark.parametrize("outputs, inputs, words", [(100, 7, "73 of 100 x 7"), (3, 700, "3 x 170 of 700"), (300, 300, "64 of 300 x 8 of 300"), (600, 1, "512 of 600 x 1")])
def test_of_many_kernels_some(outputs, inputs, words):
    text = f"""layer {{ name: "d" type: "Input" top: "d" input_param {{ shape {{ dim: [1, {inputs}, 4, 4] }} }} }}
    layer {{ name: "c" type: "Convolution" bottom: "d" top: "c" convolution_param {{ num_output: {outputs} kernel_size: 1 }} }}"""
    page, said = draw_kernels(Net(build(prototext.parse(text, NetParameter))), "c")
    assert said == f"{words} kernels 1 x 1 of 'c'" and max(page.size) < 3000


def test_channels_are_scaled_each_and_of_many_the_strongest_are_there():
    maps = np.arange(12, dtype=np.float32).reshape(3, 2, 2) * [[[1]], [[-100]], [[0]]]
    page, words = draw_channels(maps, "b")
    assert words == "3 channels 2 x 2 of 'b'"
    assert tile(page, 0, 0, 2, 2)[..., 0].tolist() == [[0, 85], [170, 255]] and tile(page, 0, 1, 2, 2)[..., 0].tolist() == [[255, 170], [85, 0]]
    assert (tile(page, 1, 0, 2, 2) == 0).all()
    many = np.zeros((MOST_CHANNELS + 9, 1, 1), np.float32)
    many[5:-4] = -1
    page, words = draw_channels(many, "b")
    assert words == f"{MOST_CHANNELS} of {MOST_CHANNELS + 9} channels 1 x 1 of 'b', the strongest"
    large, _ = draw_channels(np.zeros((4, 500, 300), np.float32), "b")
    assert 2 * LARGEST < large.height < 3 * LARGEST


def test_activations_are_those_of_the_net_for_the_image(place, capsys):
    assert run(capsys, "net.prototxt", "n.caffemodel", "a.png", "--activations", "one", "--device", "cpu") == (0, "wrote o.png: 5 channels 6 x 10 of 'one'\n")
    net = netspec.load("net.prototxt", "n.caffemodel", "cpu")
    found = net.activations("a.png", "one")
    assert found.shape == (5, 6, 10) and found.min() == 0 and (found > 0).any()
    channel = found[0]
    np.testing.assert_allclose(tile(Image.open("o.png"), 0, 0, 6, 10)[..., 0], 255 * (channel - channel.min()) / np.ptp(channel), atol=0.6)
    np.testing.assert_allclose(net.activations("a.png", "up"), net(net.preprocess("a.png"))[0].detach(), rtol=1e-5)


@pytest.mark.parametrize("argv, words", [
    (["--kernels", "relu"], "layer 'relu' (ReLU) has no kernels; these have some: one, score, up"), (["--kernels", "on"], "did you mean 'one'?"),
    (["a.png", "--kernels", "one"], "--kernels takes NET [WEIGHTS], and 'a.png' is neither"), (["--activations", "one"], "--activations draws one image, 0 given"),
    (["a.png", "--activations", "two"], "has no blob 'two'"), (["gone.png", "--activations", "one"], "gone.png"),
    (["--kernels", "one", "--style", "figure3"], "--style: goes without"), (["a.png", "--activations", "one", "--size", "3x3"], "--size: goes without"),
    (["--mean", "1,2,3"], "--mean: goes with --kernels and --activations"),
])
def test_what_cannot_be_drawn_is_said(place, capsys, argv, words):
    status, said = run(capsys, "net.prototxt", "n.caffemodel", *argv)
    assert status == 2 and words in said and said.count("\n") == 1 and not Path("o.png").exists()


def test_a_mean_is_asked_for_and_taken(place, capsys):
    Path("net.prototxt").write_text(NET.replace("SAID", ""))
    argv = "net.prototxt", "n.caffemodel", "a.png", "--activations", "one"
    status, said = run(capsys, *argv)
    assert status == 2 and "does not say which mean to subtract: give --mean B,G,R" in said
    assert run(capsys, *argv, "--mean", "9,9,9")[0] == 0
    assert cli.main(["draw", "net.prototxt", "n.caffemodel", "--kernels", "one", "--out", "o.svg"]) == 2
    assert cli.main(["draw", *argv, "--mean", "9,9,9", "--out", "a.png"]) == 2 and "is read here" in capsys.readouterr().err


def test_numbers_that_are_none_are_an_error():
    with pytest.raises(Error, match="blob 'b': numbers that are not finite"):
        draw_channels(np.full((1, 2, 2), np.nan), "b")
