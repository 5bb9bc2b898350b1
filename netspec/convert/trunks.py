"""The `convert trunk` command: classifiers of torchvision and Keras as Caffe's nets and weights, architecture included."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..base.errors import Error, closest
from ..base.files import find
from ..net import weights
from ..net.build import build
from ..net.module import Net
from ..proto import caffe_pb2
from ..proto import hdf5 as hdf5file
from ..proto import text as prototext
from ..proto.spec import NetSpec, Top
from ..proto.spec import layers as L
from ..proto.spec import params as P
from ..proto.wire import is_hdf5
from . import importers
from .importers import MEAN_BGR, Input

INPUTS = {
    **importers.INPUTS,
    "keras": Input("BGR", (103.939, 116.779, 123.68)),
    "half": Input("RGB", (127.5,) * 3, (127.5,) * 3),
}
PARTS = {  # Caffe's type -> its blobs, each under the names that it has in torch, Keras, and Keras by number
    "Convolution": (("weight", "kernel", "0"), ("bias", "1")),
    "InnerProduct": (("weight", "kernel", "0"), ("bias", "1")),
    "Scale": (("weight", "gamma", "0"), ("bias", "beta", "1")),
    "BatchNorm": (("running_mean", "moving_mean", "2"), ("running_var", "moving_variance", "3")),
}
INCEPTION = {  # 1x1, 3x3_reduce, 3x3, 5x5_reduce, 5x5, pool_proj; a number: the kernel of a pooling between
    "3a": (64, 96, 128, 16, 32, 32), "3b": (128, 128, 192, 32, 96, 64), "pool3": 3,
    "4a": (192, 96, 208, 16, 48, 64), "4b": (160, 112, 224, 24, 64, 64), "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64), "4e": (256, 160, 320, 32, 128, 128), "pool4": 2,
    "5a": (256, 160, 320, 32, 128, 128), "5b": (384, 192, 384, 48, 128, 128),
}


class Trunk:
    """A classifier under construction, and what each of its layers is called where its weights are from."""

    def __init__(self, keras: bool, eps: float) -> None:
        self.net, self.keras, self.eps = NetSpec(), keras, eps
        self.sources: dict[str, tuple[str, str]] = {}  # Caffe's layer -> its type, its name there
        self.net.data = L.Input(shape=dict(dim=[1, 3, 224, 224]))
        # beside the first convolution and not in its bias, so that its zero padding is their mean, as it was there
        self.net.data_shift = L.Bias(self.net.data, param=dict(lr_mult=0, decay_mult=0))

    def conv(self, name: str, bottom: Top, num_output: int, kernel: int, there: str, norm: str = "", *, stride: int = 1,
             pad: int = 0, relu: bool = True) -> Top:
        """A convolution, its normalisation with `norm` (in place, as published ResNets have it), and its ReLU."""
        n, rest = self.net, name.removeprefix("res") if name.startswith("res") else f"_{name}"
        at = n[name] = L.Convolution(bottom, num_output=num_output, kernel_size=kernel, stride=stride, pad=pad,
                                     bias_term=self.keras or not norm)
        self.sources[name] = "Convolution", there
        if norm:
            n[f"bn{rest}"] = L.BatchNorm(at, use_global_stats=True, eps=self.eps, in_place=True)
            at = n[f"scale{rest}"] = L.Scale(n[f"bn{rest}"], bias_term=True, in_place=True)
            self.sources |= {f"bn{rest}": ("BatchNorm", norm), f"scale{rest}": ("Scale", norm)}
        if relu:
            at = n[f"{name}_relu"] = L.ReLU(at, in_place=True)
        return at

    def pool(self, name: str, bottom: Top, kernel: int, stride: int = 2, pad: int = 0, ceil: bool = False) -> Top:
        options = {} if ceil else {"round_mode": P.Pooling.FLOOR}
        self.net[name] = L.Pooling(bottom, pool=P.Pooling.MAX, kernel_size=kernel, stride=stride, pad=pad, **options)
        return self.net[name]

    def dense(self, name: str, bottom: Top, num_output: int, there: str, relu: bool = False) -> Top:
        at = self.net[name] = L.InnerProduct(bottom, num_output=num_output)
        self.sources[name] = "InnerProduct", there
        if relu:
            self.net[f"{name}_relu"] = L.ReLU(at, in_place=True)
            at = self.net[f"{name}_drop"] = L.Dropout(self.net[f"{name}_relu"], in_place=True)
        return at

    def top(self, name: str, bottom: Top, there: str) -> Top:
        """The mean over all positions, and the classes."""
        self.net.pool5 = L.Pooling(bottom, pool=P.Pooling.AVE, global_pooling=True)
        return self.dense(name, self.net.pool5, 1000, there)


def _resnet(t: Trunk, units: Sequence[int], basic: bool = False) -> Top:
    """torchvision's ResNets, which stride in the 3x3 of a unit, and Keras', which stride in the 1x1 before as published ones."""
    at = t.conv("conv1", t.net.data_shift, 64, 7, *(("conv1_conv", "conv1_bn") if t.keras else ("conv1", "bn1")), stride=2, pad=3)
    at = t.pool("pool1", at, 3, pad=1)
    for stage, count in enumerate(units, 2):
        width = 32 << (stage - 1)
        outputs = width if basic else 4 * width
        convs = [(width, 3), (width, 3)] if basic else [(width, 1), (width, 3), (outputs, 1)]
        for i in range(count):
            name = f"res{stage}" + (chr(ord("a") + i) if count <= 8 or not i else f"b{i}")
            stride, short, unit = 2 if i == 0 and stage > 2 else 1, at, at
            there = f"conv{stage}_block{i + 1}_{{0}}_conv conv{stage}_block{i + 1}_{{0}}_bn" if t.keras else \
                f"layer{stage - 1}.{i}.conv{{0}} layer{stage - 1}.{i}.bn{{0}}"
            if i == 0 and not (basic and stage == 2):
                projection = there.format(0) if t.keras else f"layer{stage - 1}.0.downsample.0 layer{stage - 1}.0.downsample.1"
                short = t.conv(f"{name}_branch1", at, outputs, 1, *projection.split(), stride=stride, relu=False)
            for j, (num_output, kernel) in enumerate(convs, 1):
                strided = j == (1 if basic or t.keras else 2)
                unit = t.conv(f"{name}_branch2{'abc'[j - 1]}", unit, num_output, kernel, *there.format(j).split(),
                              stride=stride if strided else 1, pad=kernel // 2, relu=j < len(convs))
            t.net[name] = L.Eltwise(short, unit)
            at = t.net[f"{name}_relu"] = L.ReLU(t.net[name], in_place=True)
    return t.top("fc1000", at, "predictions" if t.keras else "fc")


def _googlenet(t: Trunk) -> Top:
    """torchvision's GoogLeNet: normalised, a 3x3 where the paper has 5x5, and a smaller fourth pooling."""
    def conv(name: str, bottom: Top, num_output: int, kernel: int, there: str, stride: int = 1) -> Top:
        return t.conv(name, bottom, num_output, kernel, f"{there}.conv", f"{there}.bn", stride=stride, pad=kernel // 2)

    at = t.pool("pool1/3x3_s2", conv("conv1/7x7_s2", t.net.data_shift, 64, 7, "conv1", 2), 3, ceil=True)
    at = conv("conv2/3x3", conv("conv2/3x3_reduce", at, 64, 1, "conv2"), 192, 3, "conv3")
    at = t.pool("pool2/3x3_s2", at, 3, ceil=True)
    for name, sizes in INCEPTION.items():
        if isinstance(sizes, int):
            at = t.pool(f"{name}/{sizes}x{sizes}_s2", at, sizes, ceil=True)
            continue
        block, there = f"inception_{name}", f"inception{name}.branch"
        pooled = t.pool(f"{block}/pool", at, 3, 1, 1, ceil=True)
        at = t.net[f"{block}/output"] = L.Concat(
            conv(f"{block}/1x1", at, sizes[0], 1, f"{there}1"),
            conv(f"{block}/3x3", conv(f"{block}/3x3_reduce", at, sizes[1], 1, f"{there}2.0"), sizes[2], 3, f"{there}2.1"),
            conv(f"{block}/5x5", conv(f"{block}/5x5_reduce", at, sizes[3], 1, f"{there}3.0"), sizes[4], 3, f"{there}3.1"),
            conv(f"{block}/pool_proj", pooled, sizes[5], 1, f"{there}4.1"))
    return t.top("loss3/classifier", at, "fc")


def _sequence(t: Trunk, convolutions: Sequence[Sequence[tuple[str, int, int, int, int]]], pool: int, dense: Sequence[int]) -> Top:
    """Blocks of (name, num_output, kernel, stride, pad) with a pooling behind each, then fc6 to fc8 at `dense` in torch."""
    at, index = t.net.data_shift, 0
    for i, block in enumerate(convolutions, 1):
        for name, num_output, kernel, stride, pad in block:
            at = t.conv(name, at, num_output, kernel, f"features.{index}", stride=stride, pad=pad)
            index += 2
        at = t.pool(f"pool{i if pool == 2 or i < 3 else 5}", at, pool)
        index += 1
    for name, num_output, there in zip(("fc6", "fc7", "fc8"), (4096, 4096, 1000), dense, strict=True):
        at = t.dense(name, at, num_output, f"classifier.{there}", relu=name != "fc8")
    return at


def _vgg(t: Trunk, counts: Sequence[int]) -> Top:
    return _sequence(t, [[(f"conv{i}_{j}", min(512, 32 << i), 3, 1, 1) for j in range(1, count + 1)]
                         for i, count in enumerate(counts, 1)], 2, (0, 3, 6))


def _alexnet(t: Trunk) -> Top:
    """torchvision's AlexNet: one column of fewer maps, without normalisation."""
    return _sequence(t, [[("conv1", 64, 11, 4, 2)], [("conv2", 192, 5, 1, 2)],
                         [("conv3", 384, 3, 1, 1), ("conv4", 256, 3, 1, 1), ("conv5", 256, 3, 1, 1)]], 3, (1, 4, 6))


ARCHITECTURES: dict[str, Callable[[Trunk], Top]] = {
    "alexnet": _alexnet, "googlenet": _googlenet,
    "vgg16": lambda t: _vgg(t, (2, 2, 3, 3, 3)), "vgg19": lambda t: _vgg(t, (2, 2, 4, 4, 4)),
    "resnet18": lambda t: _resnet(t, (2, 2, 2, 2), basic=True), "resnet34": lambda t: _resnet(t, (3, 4, 6, 3), basic=True),
    "resnet50": lambda t: _resnet(t, (3, 4, 6, 3)), "resnet101": lambda t: _resnet(t, (3, 4, 23, 3)),
    "resnet152": lambda t: _resnet(t, (3, 8, 36, 3)),
}


def trunk(path: str | Path, arch: str, input: str | None = None) -> tuple[Any, Net]:
    """The NetParameter and the net, weights loaded, of a classifier in torchvision's or (ResNets of 50 and more) Keras' file.

    It takes what the nets here take, BGR in 0..255 minus MEAN_BGR, and gives `prob`: with weights in its first layers
    (data_shift, and the first convolution) that turn this exactly into `input` (of INPUTS), which the file's net was trained
    on; None: "keras", "half" for googlenet (as torchvision feeds its weights), else "torchvision". Raises Error for files that
    are not of this architecture.
    """
    path = find(path)
    keras = is_hdf5(path)
    for kind, word, known in (("architecture", arch, [a for a in ARCHITECTURES if not keras or a in ("resnet50", "resnet101",
                                                                                                    "resnet152")]),
                              ("input", input or "keras", INPUTS)):
        if word not in known:
            raise Error(f"{kind} '{word}' is not known (there are {', '.join(known)}){closest(word, known)}")
    t = Trunk(keras, 1.001e-5 if keras else 1e-3 if arch == "googlenet" else 1e-5)
    t.net.prob = L.Softmax(ARCHITECTURES[arch](t))
    proto = t.net.to_proto()
    proto.name = arch
    net = Net(build(proto, caffe_pb2.TEST)).eval()
    there = _keras(path) if keras else _torch(path)
    blobs = {name: _blobs(path, name, kind, source, there, keras) for name, (kind, source) in t.sources.items()}
    for name, params in net.layers_with_params().items():
        if name in blobs:
            blobs[name] = blobs[name][: len(params)]
    trained = INPUTS[input or ("keras" if keras else "half" if arch == "googlenet" else "torchvision")]
    first, step = next(iter(t.sources)), 1 if trained.order == "BGR" else -1
    blobs[first][0] = (blobs[first][0] / np.reshape(trained.scale, (3, 1, 1)))[:, ::step].astype(np.float32)
    blobs["data_shift"] = [np.array(MEAN_BGR, np.float32) - np.array(trained.mean[::step], np.float32)]
    try:
        weights.copy(blobs, net.layers_with_params(), strict=True)
    except Error as problem:
        raise Error(f"{path}: is not of {arch}: {problem}") from None
    return proto, net


def _blobs(path: Path, name: str, kind: str, source: str, there: Mapping[str, Mapping[str, np.ndarray]],
           keras: bool) -> list[np.ndarray]:
    """A layer's blobs in Caffe's layout."""
    parts = there.get(source) or there.get(name, {})  # Keras' first ResNet50 has Caffe's names
    if kind == "Scale" and source not in there:
        parts = there.get(name.replace("scale", "bn", 1), {})
    found = [next((parts[word] for word in words if word in parts), None) for words in PARTS[kind]]
    if found[0] is None:
        raise Error(f"{path}: lacks {name}, sought as '{source}'{closest(source, there)}; is the file of another architecture?")
    if keras and kind in ("Convolution", "InnerProduct"):
        found[0] = found[0].transpose((3, 2, 0, 1) if kind == "Convolution" else (1, 0))
    return [*(x for x in found if x is not None), *([np.ones(1, np.float32)] if kind == "BatchNorm" else [])]


def _torch(path: Path) -> dict[str, dict[str, np.ndarray]]:
    layers: dict[str, dict[str, np.ndarray]] = {}
    for key, tensor in importers.tensors(path).items():
        layer, _, part = key.rpartition(".")
        layers.setdefault(layer, {})[part] = tensor.float().numpy()
    return layers


def _keras(path: Path) -> dict[str, dict[str, np.ndarray]]:
    layers: dict[str, dict[str, np.ndarray]] = {}

    def visit(name: str, item: Any) -> None:
        if not hasattr(item, "keys") and "optimizer" not in name:
            group, _, part = name.rpartition("/")
            layer = item.parent.attrs.get("name") or group.removesuffix("/vars").rpartition("/")[2]
            layers.setdefault(str(layer), {})[part.partition(":")[0]] = hdf5file.array(item)

    with hdf5file.reading(path) as file:
        file.visititems(visit)
    return layers


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="a state dict in .pth or .safetensors, or Keras .h5 (ResNets)")
    parser.add_argument("out", metavar="OUT", help="the folder for deploy.prototxt and ARCH.caffemodel")
    parser.add_argument("--arch", required=True, help=f"one of {', '.join(ARCHITECTURES)}")
    parser.add_argument("--input", help=f"what the net was trained on, one of {', '.join(INPUTS)} (default: by FILE and ARCH)")


def run(args: argparse.Namespace) -> int:
    """The `convert trunk` command."""
    proto, net = trunk(args.file, args.arch, args.input)
    text, model = Path(args.out) / "deploy.prototxt", Path(args.out) / f"{args.arch}.caffemodel"
    weights.save(model, net)
    prototext.write(text, proto, header=f"Written by `netspec convert trunk` from {Path(args.file).name} ({args.arch}).\n"
                    f"Takes BGR in 0..255 minus {MEAN_BGR}, 224 x 224.")
    print(f"{len(net.layers_with_params())} layers, {sum(p.numel() for p in net.parameters())} parameters -> {text}, {model}")
    return 0
