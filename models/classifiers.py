#!/usr/bin/env python3
"""The classifiers that FCNs are made of, as published: writes models/NAME/deploy.prototxt.

    models/classifiers.py            write them all
    models/classifiers.py NAME ...   write some
"""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from netspec import NetSpec, prototext  # noqa: E402 - the path comes first
from netspec import layers as L  # noqa: E402
from netspec import params as P  # noqa: E402
from netspec.errors import Error, closest  # noqa: E402

HERE = Path(__file__).resolve().parent
RATES = [dict(lr_mult=1, decay_mult=1), dict(lr_mult=2, decay_mult=0)]  # of weights and biases
LRN = dict(local_size=5, alpha=1e-4, beta=0.75)

ALEX_CONVOLUTIONS = {
    "conv1": dict(num_output=96, kernel_size=11, stride=4),
    "conv2": dict(num_output=256, pad=2, kernel_size=5, group=2),
    "conv3": dict(num_output=384, pad=1, kernel_size=3),
    "conv4": dict(num_output=384, pad=1, kernel_size=3, group=2),
    "conv5": dict(num_output=256, pad=1, kernel_size=3, group=2),
}
VGG_WIDTHS = (64, 128, 256, 512, 512)  # num_output in each block

# num_output of the six convolutions: 1x1, 3x3_reduce, 3x3, 5x5_reduce, 5x5, pool_proj; a text is a pooling between
INCEPTION = {
    "3a": (64, 96, 128, 16, 32, 32), "3b": (128, 128, 192, 32, 96, 64), "pool3": None,
    "4a": (192, 96, 208, 16, 48, 64), "4b": (160, 112, 224, 24, 64, 64), "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64), "4e": (256, 160, 320, 32, 128, 128), "pool4": None,
    "5a": (256, 160, 320, 32, 128, 128), "5b": (384, 192, 384, 48, 128, 128),
}


def max_pool(bottom: Any, kernel_size: int = 3, **options: Any) -> Any:
    return L.Pooling(bottom, pool=P.Pooling.MAX, kernel_size=kernel_size, **{"stride": 2, **options})


def google_conv(n: NetSpec, block: str, name: str, bottom: Any, num_output: int, kernel: int, std: float,
                suffix: str = "", **options: Any) -> Any:
    """A convolution of GoogLeNet and its ReLU. std: stands in the published file; 'xavier' does not read it."""
    n[f"{block}/{name}{suffix}"] = L.Convolution(
        bottom, num_output=num_output, kernel_size=kernel, param=RATES, weight_filler=dict(type="xavier", std=std),
        bias_filler=dict(type="constant", value=0.2), **options)
    n[f"{block}/relu_{name}"] = L.ReLU(n[f"{block}/{name}{suffix}"], in_place=True)
    return n[f"{block}/relu_{name}"]


def inception(n: NetSpec, block: str, bottom: Any, sizes: tuple[int, ...]) -> Any:
    """Four branches side by side: 1x1, 3x3, 5x5, and a pooling, the last three with a 1x1 that narrows them."""
    one, reduce3, three, reduce5, five, proj = sizes
    branches = [google_conv(n, block, "1x1", bottom, one, 1, 0.03)]
    narrow = google_conv(n, block, "3x3_reduce", bottom, reduce3, 1, 0.09)
    branches.append(google_conv(n, block, "3x3", narrow, three, 3, 0.03, pad=1))
    narrow = google_conv(n, block, "5x5_reduce", bottom, reduce5, 1, 0.2)
    branches.append(google_conv(n, block, "5x5", narrow, five, 5, 0.03, pad=2))
    n[f"{block}/pool"] = max_pool(bottom, stride=1, pad=1)
    branches.append(google_conv(n, block, "pool_proj", n[f"{block}/pool"], proj, 1, 0.1))
    n[f"{block}/output"] = L.Concat(*branches)
    return n[f"{block}/output"]


def googlenet_body(n: NetSpec, bottom: Any, pad: int = 3) -> Any:
    """GoogLeNet from conv1 to inception_5b/output, stride 32, as BVLC published it; without auxiliary losses.

    pad: of the first convolution (an FCN's is wider). Returns the last Top.
    """
    at = google_conv(n, "conv1", "7x7", bottom, 64, 7, 0.1, suffix="_s2", pad=pad, stride=2)
    n["pool1/3x3_s2"] = max_pool(at)
    n["pool1/norm1"] = L.LRN(n["pool1/3x3_s2"], **LRN)
    at = google_conv(n, "conv2", "3x3_reduce", n["pool1/norm1"], 64, 1, 0.1)
    at = google_conv(n, "conv2", "3x3", at, 192, 3, 0.03, pad=1)
    n["conv2/norm2"] = L.LRN(at, **LRN)
    at = n["pool2/3x3_s2"] = max_pool(n["conv2/norm2"])
    for name, sizes in INCEPTION.items():
        if sizes:
            at = inception(n, f"inception_{name}", at, sizes)
        else:
            at = n[f"{name}/3x3_s2"] = max_pool(at)
    return at


def sequence(n: NetSpec, names: str, convolutions: dict[str, dict[str, Any]], pool: int, param: Any = ()) -> Any:
    """The layers that `names` lists, each on top of the last, in the manner of AlexNet; returns the last Top.

    Every conv and fc but fc8 gets its ReLU, every such fc a Dropout. pool: kernel_size of all poolings.
    """
    at = n.data
    for name in names.split():
        kind = name.rstrip("_0123456789")
        number = name[len(kind):]
        if kind == "norm":
            n[name] = L.LRN(at, **LRN)
        elif kind == "pool":
            n[name] = max_pool(at, pool)
        elif kind == "conv":
            n[name] = L.Convolution(at, param=param, **convolutions[name])
        else:
            n[name] = L.InnerProduct(at, param=param, num_output=1000 if name == "fc8" else 4096)
        at = n[name]
        if kind in ("conv", "fc") and name != "fc8":
            at = n[f"relu{number}"] = L.ReLU(at, in_place=True)
        if kind == "fc" and name != "fc8":
            at = n[f"drop{number}"] = L.Dropout(at, dropout_ratio=0.5, in_place=True)
    return at


def alexnet(n: NetSpec) -> Any:
    names = "conv1 norm1 pool1 conv2 norm2 pool2 conv3 conv4 conv5 pool5 fc6 fc7 fc8"
    return sequence(n, names, ALEX_CONVOLUTIONS, 3, RATES)


def caffenet(n: NetSpec) -> Any:
    """AlexNet with the normalisations behind the poolings; its published file states no multipliers."""
    names = "conv1 pool1 norm1 conv2 pool2 norm2 conv3 conv4 conv5 pool5 fc6 fc7 fc8"
    return sequence(n, names, ALEX_CONVOLUTIONS, 3)


def vgg(n: NetSpec, counts: tuple[int, ...]) -> Any:
    """counts: convolutions in each of the five blocks."""
    convolutions, names = {}, ""
    for i, (count, width) in enumerate(zip(counts, VGG_WIDTHS, strict=True), 1):
        block = [f"conv{i}_{j}" for j in range(1, count + 1)]
        convolutions |= dict.fromkeys(block, dict(num_output=width, pad=1, kernel_size=3))
        names += f"{' '.join(block)} pool{i} "
    return sequence(n, names + "fc6 fc7 fc8", convolutions, 2)


def googlenet(n: NetSpec) -> Any:
    n["pool5/7x7_s1"] = L.Pooling(googlenet_body(n, n.data), pool=P.Pooling.AVE, kernel_size=7, stride=1)
    n["pool5/drop_7x7_s1"] = L.Dropout(n["pool5/7x7_s1"], dropout_ratio=0.4, in_place=True)
    n["loss3/classifier"] = L.InnerProduct(n["pool5/drop_7x7_s1"], num_output=1000, param=RATES,
                                           weight_filler=dict(type="xavier"), bias_filler=dict(type="constant", value=0))
    return n["loss3/classifier"]


def normalised(n: NetSpec, name: str, bottom: Any, num_output: int, kernel: int, pad: int, stride: int, relu: bool = True,
               **options: Any) -> Any:
    """A convolution of ResNet with what stands on it, all in place; 'res2a_x' has 'bn2a_x' and 'scale2a_x'."""
    rest = name.removeprefix("res") if name.startswith("res") else f"_{name}"
    n[name] = L.Convolution(bottom, num_output=num_output, kernel_size=kernel, pad=pad, stride=stride, **options)
    n[f"bn{rest}"] = L.BatchNorm(n[name], use_global_stats=True, in_place=True)
    at = n[f"scale{rest}"] = L.Scale(n[f"bn{rest}"], bias_term=True, in_place=True)
    if relu:
        at = n[f"{name}_relu"] = L.ReLU(at, in_place=True)
    return at


def resnet(n: NetSpec, units: tuple[int, ...], numbered: bool, **conv1: Any) -> Any:
    """units: residual units in each stage. numbered: stages 3 and 4 name theirs a, b1, b2, ..., not a, b, c, ..."""
    n.pool1 = at = max_pool(normalised(n, "conv1", n.data, 64, 7, 3, 2, **conv1))
    for stage, count in enumerate(units, 2):
        width = 32 << (stage - 1)
        for i in range(count):
            name = f"res{stage}" + (f"b{i}" if numbered and i and stage in (3, 4) else chr(ord("a") + i))
            first = 2 if i == 0 and stage > 2 else 1  # stride of the unit's first convolutions
            short, no_bias = at, dict(bias_term=False)
            if i == 0:
                short = normalised(n, f"{name}_branch1", at, 4 * width, 1, 0, first, relu=False, **no_bias)
            at = normalised(n, f"{name}_branch2a", at, width, 1, 0, first, **no_bias)
            at = normalised(n, f"{name}_branch2b", at, width, 3, 1, 1, **no_bias)
            at = normalised(n, f"{name}_branch2c", at, 4 * width, 1, 0, 1, relu=False, **no_bias)
            n[name] = L.Eltwise(short, at)
            at = n[f"{name}_relu"] = L.ReLU(n[name], in_place=True)
    n.pool5 = L.Pooling(at, pool=P.Pooling.AVE, kernel_size=7, stride=1)
    n.fc1000 = L.InnerProduct(n.pool5, num_output=1000)
    return n.fc1000


NETS = {  # name -> (body, images and side of the published input)
    "alexnet": (alexnet, 10, 227),
    "caffenet": (caffenet, 10, 227),
    "vgg16": (lambda n: vgg(n, (2, 2, 3, 3, 3)), 10, 224),
    "vgg19": (lambda n: vgg(n, (2, 2, 4, 4, 4)), 10, 224),
    "googlenet": (googlenet, 10, 224),
    "resnet50": (lambda n: resnet(n, (3, 4, 6, 3), numbered=False), 1, 224),
    "resnet101": (lambda n: resnet(n, (3, 4, 23, 3), numbered=True, bias_term=False), 1, 224),
}


def generate(name: str) -> Any:
    """The NetParameter of a published deploy net: 'data' (BGR, mean subtracted) to 'prob', 1000 classes of ILSVRC.

    Raises Error for a name that NETS does not have.
    """
    if name not in NETS:
        raise Error(f"models/classifiers.py: there is no net '{name}'{closest(name, NETS)} (there are {', '.join(NETS)})")
    body, images, side = NETS[name]
    n = NetSpec()
    n.data = L.Input(shape=dict(dim=[images, 3, side, side]))
    n.prob = L.Softmax(body(n))
    net = n.to_proto()
    net.name = name
    return net


def write(name: str, folder: Path = HERE) -> None:
    """Write NAME/deploy.prototxt."""
    prototext.write(folder / name / "deploy.prototxt", generate(name),
                    header="Written by models/classifiers.py; change that, not this.")


if __name__ == "__main__":
    try:
        for name in sys.argv[1:] or NETS:
            write(name)
    except Error as e:
        sys.exit(str(e))
