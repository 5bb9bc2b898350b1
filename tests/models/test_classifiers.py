"""The classifiers of models/classifiers.py: committed as written, and equal to the published files they are named after."""

import hashlib
import math
import sys
from pathlib import Path

import pytest
import torch

from netspec import NetSpec
from netspec import layers as L
from netspec.base.errors import Error
from netspec.net.build import build, load
from netspec.net.module import Net
from netspec.net.rewrite import convolutionalise, randomise, rarefy

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "models"))

import classifiers  # noqa: E402 - the path comes first

# Layers with the Input, numbers in all parameter blobs (ResNet's with BatchNorm's), size of the last map, and the SHA-256
# of the layers behind the input (name, type, bottoms, tops, multipliers, settings: LayerParameter as bytes), taken from
# bvlc_{alexnet,reference_caffenet,googlenet}/deploy.prototxt of BVLC Caffe 1.0, KaimingHe/deep-residual-networks and
# VGG_ILSVRC_19_layers_deploy.prototxt, upgraded. VGG16's file was not at hand.
PUBLISHED = {
    "alexnet": (24, 60_965_224, "pool5", 6, "c6be29b19ac72606"),
    "caffenet": (24, 60_965_224, "pool5", 6, "02d7e0ceba212697"),
    "vgg16": (40, 138_357_544, "pool5", 7, None),
    "vgg19": (46, 143_667_240, "pool5", 7, "33bb1876890063a2"),
    "googlenet": (143, 6_998_552, "inception_5b/output", 7, "0b1e1b626af217fa"),
    "resnet50": (229, 25_610_269, "res5c", 7, "ae5162bd50ef255e"),
    "resnet101": (450, 44_654_608, "res5c", 7, "2ca00705881d2f2d"),
}


@pytest.mark.parametrize("name", classifiers.NETS)
def test_committed_nets_are_what_the_generator_writes(name, tmp_path):
    classifiers.write(name, tmp_path)
    assert (tmp_path / name / "deploy.prototxt").read_text() == (ROOT / "models" / name / "deploy.prototxt").read_text()


@pytest.mark.parametrize("name", classifiers.NETS)
def test_equal_to_the_published_net(name):
    layers, numbers, last, side, digest = PUBLISHED[name]
    net = classifiers.generate(name)
    built = build(net)
    assert len(net.layer) == layers
    assert sum(math.prod(slot.shape) for slot in built.params) == numbers
    assert built.shape(last)[2:] == (side, side) and built.shape("prob") == (built.shape("data")[0], 1000)
    found = hashlib.sha256(b"".join(x.SerializeToString(deterministic=True) for x in net.layer if x.bottom)).hexdigest()
    assert digest is None or found.startswith(digest)


def test_vgg16_is_vgg19_less_three_convolutions():
    small, large = (classifiers.generate(name) for name in ("vgg16", "vgg19"))
    more = {f"{kind}{block}_4" for kind in ("conv", "relu") for block in (3, 4, 5)}
    assert [x.name for x in small.layer] == [x.name for x in large.layer if x.name not in more]


@pytest.mark.parametrize("name, first, kernel", [("alexnet", "fc6", 6), ("caffenet", "fc6", 6), ("vgg16", "fc6", 7),
                                                 ("googlenet", "loss3/classifier", 1), ("resnet101", "fc1000", 1)])
def test_each_becomes_convolutional(name, first, kernel):
    classifier = load(ROOT / "models" / name / "deploy.prototxt")
    net, layers, dropped = convolutionalise(classifier)
    assert layers[0] == first and not dropped
    assert {x.name: list(x.convolution_param.kernel_size) for x in net.layer}[first] == [kernel]
    built = build(net)
    assert built.shape("prob") == (1, 1000, 1, 1)
    assert {s.key: math.prod(s.shape) for s in built.params} == {s.key: math.prod(s.shape) for s in classifier.params}


@pytest.mark.parametrize("split", classifiers.SPLITS)
def test_the_small_one_is_committed_as_written(split, tmp_path):
    classifiers.write(classifiers.SMALL, tmp_path)
    name = Path(classifiers.SMALL, f"{split}.prototxt")
    assert (ROOT / "models" / name).read_bytes() == (tmp_path / name).read_bytes()


def test_a_split_that_the_small_one_has_not():
    with pytest.raises(Error, match="no split 'vall'; did you mean 'val'"):
        classifiers.shapes("vall")


def test_dense_alexnet_has_the_grid_of_the_paper():
    net, _, _ = convolutionalise(load(ROOT / "models" / "alexnet" / "deploy.prototxt"))
    assert build(net, shapes={"data": (1, 3, 500, 500)}).shape("fc8") == (1, 1000, 10, 10)


def test_dense_alexnet_is_its_crops_where_no_padding_reaches():
    """As published, with padding inside: of a crop's pool5, the inner 2x2 of 6x6 see nothing but the crop."""
    n = NetSpec()
    n.data = L.Input(shape=dict(dim=[1, 3, 227, 227]))
    classifiers.alexnet(n)
    layers = n.to_proto()
    del layers.layer[[x.name for x in layers.layer].index("fc6"):]
    net = Net(build(layers))
    randomise(net)
    image = torch.randn(1, 3, 227 + 2 * 32, 227 + 2 * 32, generator=torch.Generator().manual_seed(0)) * 50
    with torch.no_grad():
        whole = net({"data": image})["pool5"]
        for y, x in ((0, 0), (1, 2), (2, 1)):
            crop = net({"data": image[..., y * 32 : y * 32 + 227, x * 32 : x * 32 + 227]})["pool5"]
            own = whole[..., y : y + 6, x : x + 6]
            scale = float(own.abs().max())
            torch.testing.assert_close(own[..., 2:4, 2:4], crop[..., 2:4, 2:4], rtol=0, atol=1e-5 * scale)
            assert float((own - crop).abs().max()) > 1e-3 * scale  # and what padding reaches differs


def test_vgg16_rarefied_at_pool5_has_stride_16():
    net, _, _ = convolutionalise(load(ROOT / "models" / "vgg16" / "deploy.prototxt"))
    fine = rarefy(net, "pool5")
    assert [list(x.convolution_param.dilation) for x in fine.layer if x.name.startswith("fc")] == [[2], [2], [2]]
    for side, cells in ((224, 1), (240, 2), (256, 3)):
        assert build(fine, shapes={"data": (1, 3, side, side)}).shape("prob")[2:] == (cells, cells)
    with pytest.raises(Error, match="'pool5' .*no dilated form"):
        rarefy(net, "pool4")
