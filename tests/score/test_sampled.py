"""Nets that drop in TEST too: the mean of samples and their variance, from numbers to pictures and scores."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from netspec.base.errors import Error
from netspec.cli import main as cli
from netspec.net.build import build
from netspec.net.module import Net
from netspec.net.rewrite import randomise
from netspec.proto.caffe_pb2 import TEST, NetParameter
from netspec.proto.model import write_weights
from netspec.proto.text import parse
from netspec.score.sampled import UNCERTAINTY, Draws, Sampled

NET = """name: "bayesian"
{data}
layer {{ name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param {{ num_output: 8 kernel_size: 3 pad: 1 }} }}
layer {{ name: "relu" type: "ReLU" bottom: "conv" top: "conv" }}
layer {{ name: "drop" type: "Dropout" bottom: "conv" top: "conv"
        dropout_param {{ dropout_ratio: 0.5 {drops} }} }}
layer {{ name: "score" type: "Convolution" bottom: "conv" top: "score"
        convolution_param {{ num_output: 4 kernel_size: 1 }} }}
layer {{ name: "prob" type: "Softmax" bottom: "score" top: "prob" }}
"""
INPUT = """layer { name: "data" type: "Input" top: "data" input_param { shape { dim: [8, 3, 6, 5] } } }"""
LISTED = """layer { name: "data" type: "DenseImageData" top: "data" top: "label"
        dense_image_data_param { source: "list.txt" batch_size: 1 } }"""
DROPS = "sample_weights_test: true"
SAMPLES = 7


def text(data=INPUT, drops=DROPS):
    return NET.format(data=data, drops=drops)


def net(drops=DROPS):
    made = Net(build(parse(text(drops=drops), NetParameter), TEST)).eval()
    randomise(made, 3)
    return made


@pytest.mark.parametrize("blob", ["prob", "score"])
def test_mean_and_variance_are_numpys_over_the_same_samples(blob):
    made, image = net(), torch.rand(2, 3, 6, 5)
    with torch.inference_mode():
        torch.manual_seed(11)
        seen = np.stack([made({"data": image}, ["prob"])["prob"].numpy() for _ in range(SAMPLES)])
        state = torch.get_rng_state()
        found = Sampled(made, blob, Draws(SAMPLES, 11))({"data": image}, [blob])
        assert torch.equal(torch.get_rng_state(), state)  # nobody else's random numbers change
    mean = found[blob].numpy() if blob == "prob" else np.exp(found[blob].numpy())
    assert np.var(seen, 0).max() > 1e-3  # samples that do differ
    np.testing.assert_allclose(mean, seen.mean(0), atol=1e-6)
    np.testing.assert_allclose(found[UNCERTAINTY][:, 0].numpy(), np.var(seen, 0).mean(1), atol=1e-6)


def test_dropout_is_the_forks():
    """One unit of 1, kept times 1 / (1 - 0.75) or gone: two probabilities only, by a count of samples kept."""
    small = parse('''
        layer { name: "data" type: "Input" top: "data" input_param { shape { dim: [1, 1, 1, 1] } } }
        layer { name: "drop" type: "Dropout" bottom: "data" top: "drop"
                dropout_param { dropout_ratio: 0.75 sample_weights_test: true } }
        layer { name: "score" type: "Convolution" bottom: "drop" top: "score"
                convolution_param { num_output: 2 kernel_size: 1 } }
        layer { name: "prob" type: "Softmax" bottom: "score" top: "prob" }''', NetParameter)
    made, many = Net(build(small, TEST)).eval(), 400
    with torch.no_grad():
        made.get_parameter("score.weight").copy_(torch.tensor([0.3, 0.0]).reshape(2, 1, 1, 1))
        made.get_parameter("score.bias").zero_()
        found = Sampled(made, "prob", Draws(many, 1))({"data": torch.ones(1, 1, 1, 1)}, ["prob"])
    kept = 1 / (1 + np.exp(-0.3 * 4))
    share = (float(found["prob"][0, 0]) - 0.5) / (kept - 0.5)
    assert share * many == pytest.approx(round(share * many), abs=1e-2)  # a whole number of samples
    assert 0.25 - 0.09 < share < 0.25 + 0.09  # four standard deviations
    assert float(found[UNCERTAINTY]) == pytest.approx(share * (1 - share) * (kept - 0.5) ** 2, abs=1e-6)


def test_a_net_that_drops_nothing_is_told():
    with pytest.raises(Error, match="drops nothing in TEST.*sample_weights_test: true"):
        Sampled(net(""), "prob", Draws(3))


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with the net, its weights, photographs, and their labels in a list."""
    monkeypatch.chdir(tmp_path)
    Path("net.prototxt").write_text(text())
    Path("val.prototxt").write_text(text(LISTED))
    Path("plain.prototxt").write_text(text(drops=""))
    made, random = net(), np.random.default_rng(0)
    kinds = {"conv": "Convolution", "score": "Convolution"}
    write_weights("net.caffemodel", "bayesian", {
        name: (kind, [made.get_parameter(f"{name}.weight").detach().numpy() / (100 if name == "conv" else 1),
                      made.get_parameter(f"{name}.bias").detach().numpy()]) for name, kind in kinds.items()})
    for name in ("a", "b"):
        Image.fromarray(random.integers(0, 256, (9, 8, 3), np.uint8)).save(f"{name}.png")
        Image.fromarray(random.integers(0, 4, (9, 8), np.uint8)).save(f"{name}_truth.png")
    Path("list.txt").write_text("a.png a_truth.png\nb.png b_truth.png\n")
    return tmp_path


def run(capsys, command, *argv):
    status = cli.main([command, *map(str, argv), "--device", "cpu", "--score-blob", "prob"])
    return status, *capsys.readouterr()


def infer(capsys, *argv, out="o", which="net.prototxt"):
    return run(capsys, "infer", which, "net.caffemodel", "a.png", "b.png", "--mean", "0", "--out", out, *argv)


def test_infer_writes_what_numpy_says(place, capsys):
    status, told, err = infer(capsys, "--samples", SAMPLES, "--seed", 5)
    assert (status, err) == (0, "") and "; uncertainty " in told and "a_uncertainty.png" in told
    made = Net(build(parse(text(), NetParameter), TEST, shapes={"data": (1, 3, 9, 8)})).eval()
    made.load_state_dict(net().state_dict())
    with torch.no_grad():
        for name in ("conv.weight", "score.weight"):
            made.get_parameter(name).div_(100 if name == "conv.weight" else 1)
    for name in ("a", "b"):  # each begins at the seed
        image = np.array(Image.open(f"{name}.png"))[..., ::-1].transpose(2, 0, 1)[None].astype(np.float32)
        torch.manual_seed(5)
        with torch.inference_mode():
            seen = np.concatenate([made({"data": torch.from_numpy(np.ascontiguousarray(image))}, ["prob"])["prob"].numpy()
                                   for _ in range(SAMPLES)])
        np.testing.assert_array_equal(np.array(Image.open(f"o/{name}_labels.png")), seen.mean(0).argmax(0))
        unsure = np.var(seen, 0).mean(0)
        shown = np.array(Image.open(f"o/{name}_uncertainty.png"), np.float32)
        np.testing.assert_allclose(shown, 255 * (1 - unsure / unsure.max()), atol=0.51)


def test_infer_again_and_as_json(place, capsys):
    status, told, _ = infer(capsys, "--samples", SAMPLES, "--seed", 5, "--json")
    found = json.loads(told)["images"][0]
    assert status == 0 and 0 < found["uncertainty"]["mean"] <= found["uncertainty"]["max"] <= 0.25
    infer(capsys, "--samples", SAMPLES, "--seed", 5, out="p")
    infer(capsys, "--samples", SAMPLES, "--seed", 6, out="q")
    first, again, other = (Path(f"{folder}/a_uncertainty.png").read_bytes() for folder in "opq")
    assert first == again != other


def test_one_pass_of_such_a_net_is_noted(place, capsys):
    status, _, err = infer(capsys)
    assert status == 0 and "drops at random in TEST too" in err and "--samples N" in err
    assert not Path("o/a_uncertainty.png").exists()
    assert infer(capsys, which="plain.prototxt", out="p")[2] == ""


@pytest.mark.parametrize(("options", "words", "which"), [
    (("--seed", 1), "--seed goes with --samples", "net.prototxt"),
    (("--samples", 2, "--flip"), "--samples goes without", "net.prototxt"),
    (("--samples", 2, "--scales", "1,2"), "--samples goes without", "net.prototxt"),
    (("--samples", 2, "--seed", 1 << 70), "--seed is from 0", "net.prototxt"),
    (("--samples", 2), "drops nothing in TEST", "plain.prototxt"),
])
def test_what_cannot_be_sampled(place, capsys, options, words, which):
    status, out, err = infer(capsys, *options, which=which)
    assert (status, out) == (2, "") and words in err and err.count("\n") == 1


def test_score_is_of_the_same_labels(place, capsys):
    infer(capsys, "--samples", SAMPLES, "--seed", 5)
    right = sum(np.sum(np.array(Image.open(f"o/{name}_labels.png")) == np.array(Image.open(f"{name}_truth.png")))
                for name in ("a", "b"))
    status, told, _ = run(capsys, "score", "val.prototxt", "net.caffemodel", "--samples", SAMPLES, "--seed", 5, "--json")
    found = json.loads(told)
    assert status == 0 and (found["samples"], found["seed"]) == (SAMPLES, 5)
    assert found["pixel_accuracy"] == pytest.approx(right / 144)
