"""SegNet's BN layers: statistics over the training set, folded into the weights of its inference nets."""

import re

import numpy as np
import pytest
import torch
from PIL import Image

from netspec.base.errors import Error
from netspec.cli.main import main
from netspec.convert import folded
from netspec.net import weights
from netspec.net.batches import batches
from netspec.net.build import build
from netspec.net.module import Net
from netspec.proto.caffe_pb2 import TEST, NetParameter
from netspec.proto.model import read_weights
from netspec.proto.text import parse

NET = """name: "small"
layer { name: "data" type: "DenseImageData" top: "data" top: "label" dense_image_data_param { source: "list.txt" batch_size: 2 } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1" convolution_param { num_output: 3 kernel_size: 3 pad: 1 } }
layer { name: "bn1" type: "BN" bottom: "conv1" top: "conv1" bn_param { scale_filler { value: 1 } shift_filler { value: 0.001 } } }
layer { name: "relu" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "drop" type: "Dropout" bottom: "conv1" top: "conv1" }
layer { name: "conv2" type: "Convolution" bottom: "conv1" top: "conv2" convolution_param { num_output: 2 kernel_size: 1 } }
layer { name: "bn2" type: "BN" bottom: "conv2" top: "bn2" bn_param { scale_filler { value: 1 } } }
"""


@pytest.fixture
def files(tmp_path):
    """A training net with 6 images and its weights."""
    drawn = np.random.default_rng(0)
    for i in range(6):
        Image.fromarray(drawn.integers(0, 256, (5, 7, 3), np.uint8)).save(tmp_path / f"{i}.png")
        Image.fromarray(np.zeros((5, 7), np.uint8)).save(tmp_path / f"{i}_label.png")
    (tmp_path / "list.txt").write_text("".join(f"{tmp_path}/{i}.png {tmp_path}/{i}_label.png\n" for i in range(6)))
    path = tmp_path / "train.prototxt"
    path.write_text(NET)
    net = Net(build(path))
    torch.manual_seed(0)
    with torch.no_grad():
        for param in net.parameters():
            param.uniform_(0.2, 1)
    weights.save(tmp_path / "w.caffemodel", net)
    return path, tmp_path / "w.caffemodel"


def naive(path, given):
    """What both layers see: each channel's values of each batch, (batches, C, values), at the batches' statistics."""
    layers, seen = read_weights(given), {"bn1": [], "bn2": []}
    for batch in batches(path, TEST, count=3):
        x = batch["data"].double()
        for conv, bn, pad in (("conv1", "bn1", 1), ("conv2", "bn2", 0)):
            weight, bias = (torch.from_numpy(np.array(blob)).double() for blob in layers[conv])
            x = torch.nn.functional.conv2d(x.relu() if pad == 0 else x, weight, bias.flatten(), padding=pad)
            flat = x.transpose(0, 1).flatten(1)
            seen[bn].append(flat.numpy())
            slope, shift = (torch.from_numpy(np.array(blob)).double().flatten() for blob in layers[bn])
            y = (flat - flat.mean(1, keepdim=True)) / flat.var(1, correction=0, keepdim=True).sqrt()
            x = (slope[:, None] * y + shift[:, None]).reshape(x.transpose(0, 1).shape).transpose(0, 1)
    return {name: np.array(each) for name, each in seen.items()}


@pytest.mark.parametrize("unbiased", (False, True))
def test_statistics_of_all_batches_stand_in_the_weights(files, tmp_path, unbiased, capsys):
    path, given = files
    out = tmp_path / "new" / "test.caffemodel"
    assert main(["convert", "bn", str(path), str(given), str(out), *["--unbiased"][: unbiased]]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"wrote {out}: 2 BN layers, 3 batches"
    old, new = read_weights(given), read_weights(out)
    assert [*new] == [*old]
    for name, values in naive(path, given).items():
        mean, variance = values.mean((0, 2)), values.var(2, ddof=unbiased).mean(0)
        slope, shift = (np.array(blob, float).ravel() for blob in old[name])
        scale = slope / np.sqrt(variance + 1e-9)
        np.testing.assert_allclose(np.ravel(new[name][0]), scale, rtol=1e-5)
        np.testing.assert_allclose(np.ravel(new[name][1]), shift - mean * scale, rtol=1e-4, atol=1e-5)
    for name in ("conv1", "conv2"):
        assert all(np.array_equal(a, b) for a, b in zip(old[name], new[name], strict=True))


def test_an_inference_net_of_one_batch_gives_what_the_batch_gave(files, tmp_path):
    path, given = files
    made = folded.folded(path, given, 1)
    assert made.batches == 1
    inference = parse(re.sub(r"bn_param \{", "bn_param { bn_mode: INFERENCE", NET), NetParameter)
    learnt, fixed = Net(build(path)), Net(build(inference, base=path.parent))
    weights.ready(learnt, given, strict=True)
    weights.ready(fixed, {name: blobs for name, (_, blobs) in made.layers.items()}, strict=True)
    batch = next(iter(batches(path, TEST)))
    torch.testing.assert_close(fixed(batch)["bn2"], learnt(batch)["bn2"], rtol=1e-3, atol=1e-4)


def test_what_cannot_be_measured_is_an_error(files, tmp_path, capsys):
    path, given = files
    assert main(["convert", "bn-stats", str(path), str(given), str(tmp_path / "o.caffemodel"), "--batches", "0"]) == 2
    assert "--batches must be at least 1, found 0" in capsys.readouterr().err
    path.write_text(NET.replace("scale_filler", "bn_mode: INFERENCE scale_filler"))
    with pytest.raises(Error, match="'small' has no BN layer of SegNet's in mode LEARN"):
        folded.folded(path, given)
    path.write_text(NET.replace('name: "conv2"', 'name: "conv3"'))
    with pytest.raises(Error, match="strict: layers conv2 only in the weights and conv3 only in the net"):
        folded.folded(path, given)
    source = re.search("layer.*DenseImageData.*\n", NET)[0]
    path.write_text(NET.replace(source, 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 5 dim: 7 } } }\n'))
    with pytest.raises(Error, match="filled by the caller"):
        folded.folded(path, given, 1)
