"""Imported nets compute what the nets they come from compute, for every layout of file."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from netspec.base.errors import Error
from netspec.cli.main import main
from netspec.convert import importers
from netspec.proto.model import read_weights

h5py = pytest.importorskip("h5py")

WIDTHS = (4, 5, 6, 7, 8)
DENSE = (9, 10, 11)
BLOCKS = (2, 2, 3, 3, 3)
SIDE = 64  # of the images: 2 x 2 after five poolings
MEAN = np.array([104.00699, 116.66877, 122.67892], np.float32)  # BGR


def imported(*args, **options):
    """Layer -> its weight and bias."""
    return {layer.name: layer.blobs for layer in importers.import_layers(*args, **options)}


def keras_net(seed=0):
    """Keras name -> (kernel H x W x I x O or I x O, bias), from the image up."""
    rng = np.random.RandomState(seed)
    net, channels = {}, 3
    for block, (count, width) in enumerate(zip(BLOCKS, WIDTHS, strict=True), 1):
        for i in range(1, count + 1):
            kernel = rng.standard_normal((3, 3, channels, width)) * np.sqrt(2 / (9 * channels))
            net[f"block{block}_conv{i}"] = kernel.astype("f4"), rng.standard_normal(width).astype("f4")
            channels = width
    channels *= (SIDE // 32) ** 2
    for name, width in zip(("fc1", "fc2", "predictions"), DENSE, strict=True):
        kernel = rng.standard_normal((channels, width)) * np.sqrt(2 / channels)
        net[name] = kernel.astype("f4"), rng.standard_normal(width).astype("f4")
        channels = width
    return net


def keras_forward(net, image):
    """What Keras computes from an H x W x C image: every array has its channels last."""
    x = image
    for name, (kernel, bias) in net.items():
        if kernel.ndim == 2:
            x = x.reshape(-1) @ kernel + bias
            x = x if name == "predictions" else np.maximum(x, 0)
            continue
        if name.endswith("conv1") and name != "block1_conv1":
            h, w, c = x.shape
            x = x.reshape(h // 2, 2, w // 2, 2, c).max((1, 3))
        h, w = x.shape[:2]
        padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
        x = sum(padded[dy : dy + h, dx : dx + w] @ kernel[dy, dx] for dy in range(3) for dx in range(3))
        x = np.maximum(x + bias, 0)
        if name == "block5_conv3":
            x = x.reshape(h // 2, 2, w // 2, 2, -1).max((1, 3))
    return x


def caffe_forward(layers, image):
    """What Caffe computes from an H x W x BGR image with imported layers."""
    x = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)[None]))
    layers = {name: [torch.from_numpy(blob) for blob in blobs] for name, blobs in layers.items()}
    for block, count in enumerate(BLOCKS, 1):
        for i in range(1, count + 1):
            x = F.relu(F.conv2d(x, *layers[f"conv{block}_{i}"], padding=1))
        x = F.max_pool2d(x, 2)
    x = x.flatten(1)
    for name in ("fc6", "fc7", "fc8"):
        x = F.linear(x, *layers[name])
        x = x if name == "fc8" else F.relu(x)
    return x[0].numpy()


def image(seed=1):
    return np.random.RandomState(seed).randint(0, 256, (SIDE, SIDE, 3)).astype(np.float32)


def class_names(net):
    """The groups' names of Keras 3: by class, counted, whatever the layers are called."""
    counts = {"conv2d": 0, "dense": 0}
    for name, (kernel, _) in net.items():
        kind = "conv2d" if kernel.ndim == 4 else "dense"
        yield name, kind + (f"_{counts[kind]}" if counts[kind] else "")
        counts[kind] += 1


def keras_1(file, net):
    file.attrs["layer_names"] = [name.encode() for name in net]
    for name, (kernel, bias) in net.items():
        file[f"{name}/{name}_W_1:0"], file[f"{name}/{name}_b_1:0"] = kernel, bias


def keras_2(file, net):
    for name, (kernel, bias) in net.items():
        file[f"{name}/{name}/kernel:0"], file[f"{name}/{name}/bias:0"] = kernel, bias
    file.create_group("flatten")


def keras_2_model(file, net):
    keras_2(file.create_group("model_weights"), net)
    for name, (kernel, bias) in net.items():
        file[f"optimizer_weights/{name}/kernel/m:0"], file[f"optimizer_weights/{name}/bias/m:0"] = (
            -kernel,
            -bias,
        )


def keras_3(file, net, named=True):
    for (name, (kernel, bias)), (_, group) in zip(net.items(), class_names(net), strict=True):
        file[f"layers/{group}/vars/0"], file[f"layers/{group}/vars/1"] = kernel, bias
        if named:
            file[f"layers/{group}/vars"].attrs["name"] = name
        file[f"optimizer/vars/{group}"] = -kernel
    file.create_group("layers/flatten/vars")


def keras_3_nameless(file, net):
    keras_3(file, net, named=False)


def inside_blocks(file, net):
    """As a model that holds VGG16 as one block after another, and has more layers besides."""
    for name, (kernel, bias) in net.items():
        if kernel.ndim == 4:
            block, i = name[5], int(name[-1]) - 1
            group = f"block{block}/layers/conv2d{f'_{i}' if i else ''}/vars"
        else:
            group = f"{name}/vars"
        file[f"{group}/0"], file[f"{group}/1"] = kernel, bias
        file[group].attrs["name"] = name
    for i in range(1, 6):
        file[f"dsn{i}/vars/0"], file[f"dsn{i}/vars/1"] = (
            np.zeros((1, 1, WIDTHS[i - 1], 1), "f4"),
            np.zeros(1, "f4"),
        )
        file[f"dsn{i}/vars"].attrs["name"] = f"conv2d_{i}"


LAYOUTS = (keras_1, keras_2, keras_2_model, keras_3, keras_3_nameless, inside_blocks)


def keras_file(tmp_path, net=None, layout=keras_2):
    path = tmp_path / "keras.h5"
    with h5py.File(path, "w") as file:
        layout(file, net or keras_net())
    return path


class Vgg(torch.nn.Module):
    """As torchvision's VGG16, but narrow."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        features, channels = [], 3
        for count, width in zip(BLOCKS, WIDTHS, strict=True):
            for _ in range(count):
                features += [torch.nn.Conv2d(channels, width, 3, padding=1), torch.nn.ReLU()]
                channels = width
            features.append(torch.nn.MaxPool2d(2))
        classifier, channels = [], channels * (SIDE // 32) ** 2
        for width in DENSE:
            classifier += [torch.nn.Linear(channels, width), torch.nn.ReLU(), torch.nn.Dropout()]
            channels = width
        self.features = torch.nn.Sequential(*features)
        self.classifier = torch.nn.Sequential(*classifier[:-2])

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


def torchvision_input(bgr):
    """H x W x BGR in 0..255 -> 1 x RGB x H x W as torchvision's transforms make it."""
    rgb = torch.from_numpy(bgr[:, :, ::-1].copy()).permute(2, 0, 1) / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return ((rgb - mean[:, None, None]) / std[:, None, None])[None]


def torch_file(tmp_path, state):
    torch.save(state, tmp_path / "vgg.pth")
    return tmp_path / "vgg.pth"


def safetensors_file(tmp_path, state):
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, tensor in state.items():
        raw = tensor.numpy().tobytes()
        header[name] = {
            "dtype": "F32",
            "shape": list(tensor.shape),
            "data_offsets": [len(data), len(data) + len(raw)],
        }
        data += raw
    text = json.dumps(header).encode()
    path = tmp_path / "vgg.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


@pytest.mark.parametrize("layout", LAYOUTS)
def test_keras(tmp_path, layout):
    net = keras_net()
    layers = imported(keras_file(tmp_path, net, layout))
    assert list(layers)[:2] == ["conv1_1", "conv1_2"] and list(layers)[-3:] == ["fc6", "fc7", "fc8"]
    assert layers["conv1_1"][0].shape == (4, 3, 3, 3) and layers["fc6"][0].shape == (9, 32)
    x = image() - MEAN
    expected = keras_forward(net, x)
    np.testing.assert_allclose(caffe_forward(layers, x), expected, rtol=1e-4, atol=1e-4 * abs(expected).max())


def test_keras_without_the_top(tmp_path):
    for layout in LAYOUTS:
        net = {name: pair for name, pair in keras_net().items() if name.startswith("block")}
        layers = imported(keras_file(tmp_path, net, layout))
        assert len(layers) == 13 and "fc6" not in layers


def test_torchvision(tmp_path):
    """Exact where no padding is seen; at the border, the padding stands for another mean."""
    model, bgr = Vgg(), image()
    layers = imported(torch_file(tmp_path, model.state_dict()))
    x = torch.from_numpy((bgr - MEAN).transpose(2, 0, 1)[None].copy())
    with torch.no_grad():
        expected = model.features[0](torchvision_input(bgr))
        found = F.conv2d(x, *map(torch.from_numpy, layers["conv1_1"]), padding=1)
    inner = (..., slice(1, -1), slice(1, -1))
    torch.testing.assert_close(found[inner], expected[inner], rtol=1e-4, atol=1e-5)
    # the means are at most 1 of 255 apart, so 9 x 3 weights see at most 0.0175 more
    bound = 0.0175 * model.features[0].weight.abs().sum((1, 2, 3)).max()
    assert 1e-4 < (found - expected).abs().max() < bound
    for name, index in (("conv1_2", 2), ("conv2_1", 5), ("conv5_3", 28)):
        np.testing.assert_array_equal(layers[name][0], model.features[index].weight.detach())
    for name, index in (("fc6", 0), ("fc7", 3), ("fc8", 6)):
        np.testing.assert_array_equal(layers[name][0], model.classifier[index].weight.detach())


def test_the_fold_is_exact_where_the_means_agree(tmp_path, monkeypatch):
    model, bgr, scale = Vgg().eval(), image(), (58.0, 57.0, 50.0)
    monkeypatch.setitem(importers.INPUTS, "scaled", importers.Input("RGB", tuple(MEAN[::-1]), scale))
    layers = imported(torch_file(tmp_path, model.state_dict()), input="scaled")
    x = ((bgr - MEAN)[:, :, ::-1] / np.float32(scale)).transpose(2, 0, 1)[None]
    with torch.no_grad():
        expected = model(torch.from_numpy(x.copy()))[0].numpy()
    np.testing.assert_allclose(caffe_forward(layers, bgr - MEAN), expected, rtol=1e-4, atol=1e-6)


def test_torch_files_of_all_kinds(tmp_path):
    state = Vgg().state_dict()
    expected = imported(torch_file(tmp_path, state))
    files = [
        torch_file(tmp_path, {"epoch": 3, "state_dict": {f"module.{k}": v for k, v in state.items()}}),
        safetensors_file(tmp_path, state),
    ]
    for path in files:
        for name, blobs in imported(path).items():
            for i in (0, 1):
                np.testing.assert_array_equal(blobs[i], expected[name][i])


def test_features_only(tmp_path):
    """torchvision's IMAGENET1K_FEATURES: RGB in 0..255 minus the mean, and no numbers in the classifier."""
    model = Vgg()
    for parameter in model.classifier.parameters():
        torch.nn.init.constant_(parameter, float("nan"))
    layers = imported(torch_file(tmp_path, model.state_dict()), input="rgb")
    assert len(layers) == 13
    np.testing.assert_allclose(layers["conv1_1"][0], model.features[0].weight.detach().numpy()[:, ::-1])
    model.features[5].weight.data[0, 0, 0, 0] = float("inf")
    with pytest.raises(Error, match="features.5.*finite"):
        imported(torch_file(tmp_path, model.state_dict()))


def test_vgg19_is_told_from_vgg16(tmp_path):
    with pytest.raises(Error, match="lacks conv3_4 of vgg19.*block3_conv4"):
        imported(keras_file(tmp_path), "vgg19")
    net = keras_net()
    for block in (3, 4, 5):
        net[f"block{block}_conv4"] = net[f"block{block}_conv3"]
    order = sorted(
        net, key=lambda name: (not name.startswith("block"), name if name.startswith("block") else "")
    )
    path = keras_file(tmp_path, {name: net[name] for name in order}, keras_3_nameless)
    assert len(imported(path, "vgg19")) == 19
    with pytest.raises(Error, match="lacks conv1_1 of vgg16"):
        imported(path, "vgg16")


@pytest.mark.parametrize(
    "name, change, words",
    [
        (
            "block2_conv1",
            lambda k, b: (k.transpose(3, 2, 0, 1), b),
            "conv2_1 is a 3x3 Convolution of 4 inputs",
        ),
        ("block2_conv1", lambda k, b: (k, b[1:]), "bias of .4."),
        ("fc1", lambda k, b: (k[1:], b), "fc6 is an InnerProduct of 8 inputs"),
        ("fc2", lambda k, b: (k.T, b), "fc7 is an InnerProduct of 9 inputs"),
    ],
)
def test_shapes_that_do_not_chain(tmp_path, name, change, words):
    net = keras_net()
    net[name] = change(*net[name])
    with pytest.raises(Error, match=words):
        imported(keras_file(tmp_path, net))


def test_bad_files(tmp_path):
    path = tmp_path / "x"
    good = safetensors_file(tmp_path, Vgg().state_dict()).read_bytes()
    for content in (
        b"",
        b"<html>",
        b"\x80\x02csomething\nelse\n.",
        good[: len(good) // 2],
        good[:200],
        good.replace(b"F32", b"F64"),
        keras_file(tmp_path).read_bytes()[:5000],
    ):
        path.write_bytes(content)
        with pytest.raises(Error, match=str(path)) as caught:
            imported(path)
        assert "weights_only" not in str(caught.value)  # torch's own advice
    torch.save([1, 2], path)
    with pytest.raises(Error, match="a list where a state dict belongs"):
        imported(path)
    for wrong in ({"net": "vgg61"}, {"input": "torch"}):
        with pytest.raises(Error, match="did you mean|there are"):
            imported(keras_file(tmp_path), **wrong)


@pytest.mark.parametrize("name", ["out.caffemodel", "out.caffemodel.h5"])
def test_the_command(tmp_path, capsys, name):
    path, out = keras_file(tmp_path), tmp_path / name
    assert main(["convert", "weights", str(path), str(out), "--net", "vgg16"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["conv1_1", "block1_conv1/block1_conv1", "4x3x3x3", "+", "4"]
    assert [line.split()[0] for line in lines[13:16]] == ["fc6", "fc7", "fc8"]
    read, expected = read_weights(out), imported(path)
    assert read.keys() == expected.keys()
    for layer, blobs in expected.items():
        for i in (0, 1):
            np.testing.assert_array_equal(read[layer][i], blobs[i])
    assert main(["convert", "weights", str(tmp_path / "absent.h5"), str(out)]) == 2
    assert "absent.h5" in capsys.readouterr().err
