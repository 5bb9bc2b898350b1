"""Classifiers of torchvision compute here what they compute there; Keras' files are read under all their names."""

import importlib
import math

import h5py
import numpy as np
import pytest
import torch

from netspec.base.errors import Error
from netspec.cli.main import main
from netspec.convert import importers, trunks
from netspec.net import weights
from netspec.net.build import build, load
from netspec.net.module import Net
from netspec.proto.model import read_weights

MEAN = np.array(importers.MEAN_BGR, np.float32)


@pytest.fixture(scope="session")
def models():
    """torchvision.models; it needs none of torchvision's own operators, which a wheel for another torch lacks."""
    try:
        return importlib.import_module("torchvision.models")
    except ImportError:
        pytest.skip("torchvision is not installed")
    except RuntimeError:
        for operator in ("nms", "qnms"):
            torch.library.define(f"torchvision::{operator}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return importlib.import_module("torchvision.models")


def varied(model):
    """The model with normalisations that do something."""
    torch.manual_seed(2)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1), module.running_var.uniform_(0.5, 1.5)
                module.weight.uniform_(0.5, 1), module.bias.normal_(0, 0.1)
    return model.eval()


@pytest.mark.parametrize("arch, side", [
    ("resnet50", 97), ("googlenet", 96), *(pytest.param(arch, 224, marks=pytest.mark.slow) for arch in (
        "alexnet", "vgg16", "vgg19", "googlenet", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152"))])
def test_torchvision_computes_the_same(models, tmp_path, arch, side):
    model = varied(getattr(models, arch)(weights=None, **{"init_weights": False} if arch == "googlenet" else {}))
    model.transform_input = True  # as torchvision sets it for its weights; only GoogLeNet looks
    torch.save(model.state_dict(), tmp_path / "model.pth")
    assert main(["convert", "trunk", str(tmp_path / "model.pth"), str(tmp_path / "out"), "--arch", arch]) == 0
    net = Net(load(tmp_path / "out" / "deploy.prototxt")).eval()
    weights.load(tmp_path / "out" / f"{arch}.caffemodel", net.layers_with_params(), strict=True)
    pixels = np.random.default_rng(0).integers(0, 256, (2, side, side, 3)).astype(np.float32)  # BGR
    rgb = torch.from_numpy(pixels[..., ::-1].copy()).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(x)[:, None, None] for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    scores = net.graph.node("prob").bottoms[0].blob
    with torch.no_grad():
        theirs = model((rgb - mean) / std)
        ours = net({"data": torch.from_numpy((pixels - MEAN).transpose(0, 3, 1, 2).copy())}, want=[scores])[scores]
    assert float((ours - theirs).abs().max()) < 5e-6 * float(theirs.abs().max())


@pytest.mark.parametrize("arch, parameters", [  # as torchvision's documentation gives them
    ("alexnet", 61_100_840), ("vgg16", 138_357_544), ("vgg19", 143_667_240), ("googlenet", 6_624_904), ("resnet18", 11_689_512),
    ("resnet34", 21_797_672), ("resnet50", 25_557_032), ("resnet101", 44_549_160), ("resnet152", 60_192_808)])
def test_the_trunks_have_torchvisions_parameters(arch, parameters):
    t = trunks.Trunk(False, 1e-5)
    t.net.prob = trunks.L.Softmax(trunks.ARCHITECTURES[arch](t))
    learned = [node for node in build(t.net.to_proto()).nodes if node.type != "BatchNorm" and node.name in t.sources]
    assert sum(math.prod(slot.shape) for node in learned for slot in node.params) == parameters
    assert len(set(t.sources.values())) == len(t.sources)
    if arch.startswith("resnet"):
        assert t.sources["res3a_branch1"] == ("Convolution", "layer2.0.downsample.0")
        assert t.sources["scale3a_branch2b"] == ("Scale", "layer2.0.bn2")


def test_the_command_writes_the_net_and_its_weights(tmp_path):
    t = trunks.Trunk(False, 1e-5)
    t.net.prob = trunks.L.Softmax(trunks.ARCHITECTURES["resnet18"](t))
    state = {}
    for node in build(t.net.to_proto()).nodes:
        if node.name in t.sources:
            kind, there = t.sources[node.name]
            for name, slot in zip(("running_mean", "running_var") if kind == "BatchNorm" else ("weight", "bias"), node.params, strict=False):
                state[f"{there}.{name}"] = torch.full(slot.shape, 0.5)
    torch.save(state, tmp_path / "model.pth")
    assert main(["convert", "trunk", str(tmp_path / "model.pth"), str(tmp_path / "out"), "--arch", "resnet18"]) == 0
    text = (tmp_path / "out/deploy.prototxt").read_text()
    assert text.startswith("# Written by `netspec convert trunk` from model.pth (resnet18).\n# Takes BGR in 0..255 minus ")
    net = load(tmp_path / "out/deploy.prototxt")
    read = read_weights(tmp_path / "out/resnet18.caffemodel")
    assert [name for name in read if read[name]] == [node.name for node in net.nodes if node.params]
    assert (read["fc1000"][0] == 0.5).all()


@pytest.fixture(scope="module")
def resnet50():
    """(where the numbers of each layer come from, Caffe's blobs), of random numbers."""
    t = trunks.Trunk(True, 1e-5)
    t.net.prob = trunks.L.Softmax(trunks.ARCHITECTURES["resnet50"](t))
    rng, params = np.random.default_rng(1), Net(build(t.net.to_proto())).layers_with_params()
    return t.sources, {layer: [rng.standard_normal(p.shape, np.float32) for p in params[layer]] for layer in t.sources}


def keras_file(path, names, resnet50):
    """Them in Keras' layout; names: the layers' in the file."""
    h5py = pytest.importorskip("h5py")
    sources, blobs = resnet50
    with h5py.File(path, "w") as file:
        for layer, (kind, there) in sources.items():
            parts = {"Scale": ("gamma:0", "beta:0"), "BatchNorm": ("moving_mean:0", "moving_variance:0")}.get(
                kind, ("kernel:0", "bias:0"))
            for part, blob in zip(parts, blobs[layer], strict=False):
                where = there if names == "new" else layer.replace("scale", "bn", 1)
                file[f"model_weights/{where}/{where}/{part}"] = (
                    blob.transpose(2, 3, 1, 0) if blob.ndim == 4 else blob.transpose() if kind == "InnerProduct" else blob)


@pytest.mark.parametrize("names", ["new", "caffe's"])
def test_keras_files(tmp_path, names, resnet50):
    blobs = resnet50[1]
    keras_file(tmp_path / "k.h5", names, resnet50)
    proto, net = importers.import_trunk(tmp_path / "k.h5", "resnet50")
    params = net.layers_with_params()
    for layer in ("conv1", "res2a_branch1", "scale2a_branch2b", "res5c_branch2c", "fc1000"):
        for ours, given in zip(params[layer], blobs[layer], strict=True):
            np.testing.assert_array_equal(ours.detach(), given)
    np.testing.assert_array_equal(params["bn4f_branch2b"][1].detach(), blobs["bn4f_branch2b"][1])
    assert float(params["bn4f_branch2b"][2]) == 1
    strides = {layer.name: list(layer.convolution_param.stride) for layer in proto.layer if layer.type == "Convolution"}
    assert strides["res3a_branch2a"] == [2] and strides["res3a_branch2b"] == [1]  # torchvision strides in the 3x3


def test_files_of_something_else(tmp_path):
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, tmp_path / "a.pth")
    with pytest.raises(Error, match="lacks bn_conv1, sought as 'bn1'"):
        importers.import_trunk(tmp_path / "a.pth", "resnet50")
    with pytest.raises(Error, match="architecture 'resnet51' is not known.*did you mean 'resnet50'"):
        importers.import_trunk(tmp_path / "a.pth", "resnet51")
    keras_file = tmp_path / "vgg.h5"
    with h5py.File(keras_file, "w") as file:
        file["block1_conv1/block1_conv1/kernel:0"], file["block1_conv1/block1_conv1/bias:0"] = np.zeros((3, 3, 3, 64)), np.zeros(64)
    with pytest.raises(Error, match="Keras', .*resnet152 are known here, not vgg16; 'netspec convert weights FILE OUT --net vgg16'"):
        importers.import_trunk(keras_file, "vgg16")
    with pytest.raises(Error, match="are known here, not alexnet$"):
        importers.import_trunk(keras_file, "alexnet")
    t = trunks.Trunk(False, 1e-5)
    trunks.ARCHITECTURES["alexnet"](t)
    state = {f"{there}.{part}": torch.zeros(1) for _, there in t.sources.values() for part in ("weight", "bias")}
    torch.save(state | {"features.0.weight": torch.zeros(64, 3, 11, 11)}, tmp_path / "a.pth")
    with pytest.raises(Error, match="is not of alexnet: layer 'conv1': blob 1 has shape"):
        importers.import_trunk(tmp_path / "a.pth", "alexnet")
    torch.save(state | {"features.0.weight": torch.zeros(64, 4, 11, 11)}, tmp_path / "a.pth")
    with pytest.raises(Error, match="is not of alexnet: layer 'conv1': blob 0 has shape"):
        importers.import_trunk(tmp_path / "a.pth", "alexnet")
