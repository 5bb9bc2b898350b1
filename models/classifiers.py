#!/usr/bin/env python3
"""The classifiers that FCNs are made of, as published: writes models/NAME/deploy.prototxt. And a small one of
the generated shapes, with its train and val.

    models/classifiers.py            write them all
    models/classifiers.py NAME ...   write some
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

from trunks import ALEXNET, GOOGLENET, VGG16, Trunk, max_pool, rates, vgg  # noqa: E402 - the path comes first

from netspec import NetSpec  # noqa: E402
from netspec import layers as L  # noqa: E402
from netspec import params as P  # noqa: E402
from netspec.base.errors import Error, closest  # noqa: E402
from netspec.base.machine import HOME  # noqa: E402
from netspec.data.layouts import LAYOUTS, Images  # noqa: E402
from netspec.proto import text as prototext  # noqa: E402


@dataclass(frozen=True)
class Published(Trunk):
    """A trunk as its authors had it: for images of one size, its last layers fully connected."""

    param: Sequence[Any] = ()  # multipliers, where the file states them

    def weighted(self, name: str, at: Any, own: dict[str, Any]) -> Any:
        if name.startswith("fc"):
            return L.InnerProduct(at, param=self.param, num_output=own["num_output"])
        return L.Convolution(at, param=self.param, **own)

    def whole(self, n: NetSpec) -> Any:
        """All layers up to the scores of 1000 classes, on n.data."""
        n.fc8 = L.InnerProduct(self.build(n, n.data)["fc7"], param=self.param, num_output=1000)
        return n.fc8


def alexnet(n: NetSpec) -> Any:
    """CaffeNet with the normalisations before the poolings; its published file states multipliers."""
    names = "conv1 norm1 pool1 conv2 norm2 pool2 conv3 conv4 conv5 pool5 fc6 fc7".split()
    return Published({name: ALEXNET[name] for name in names}, pooled=3, param=rates()).whole(n)


def googlenet(n: NetSpec) -> Any:
    body = replace(GOOGLENET, pad=3).build(n, n.data, train=False)["fc7"]
    n["pool5/7x7_s1"] = L.Pooling(body, pool=P.Pooling.AVE, kernel_size=7, stride=1)
    n["pool5/drop_7x7_s1"] = L.Dropout(n["pool5/7x7_s1"], dropout_ratio=0.4, in_place=True)
    fillers = dict(weight_filler=dict(type="xavier"), bias_filler=dict(type="constant", value=0))
    n["loss3/classifier"] = L.InnerProduct(n["pool5/drop_7x7_s1"], num_output=1000, param=rates(), **fillers)
    return n["loss3/classifier"]


def normalised(n: NetSpec, name: str, at: Any, num_output: int, kernel: int, stride: int, relu: bool = True,
               mult: float | None = None, **options: Any) -> Any:
    """A convolution of ResNet and what stands on it, in place; 'res2a_x' has 'bn2a_x' and 'scale2a_x'.

    mult: the rate of the convolution, all others 0; None: no multipliers are stated.
    """
    rest = name.removeprefix("res") if name.startswith("res") else f"_{name}"
    settings = dict(num_output=num_output, kernel_size=kernel, stride=stride,
                    pad=kernel // 2 * options.get("dilation", 1), **options)
    own, fixed = [], dict(lr_mult=0, decay_mult=0)
    if mult is not None:
        own = [dict(lr_mult=mult)] * (1 + options.get("bias_term", True))
    at = n[name] = L.Convolution(at, param=own, **settings)
    at = n[f"bn{rest}"] = L.BatchNorm(at, use_global_stats=True, in_place=True, param=[fixed] * 3 * bool(own))
    at = n[f"scale{rest}"] = L.Scale(at, bias_term=True, in_place=True, param=[fixed] * 2 * bool(own))
    if relu:
        at = n[f"{name}_relu"] = L.ReLU(at, in_place=True)
    return at


def residual(n: NetSpec, units: tuple[int, ...], numbered: bool, mults: Sequence[float] = (),
             dilated: bool = False, **conv1: Any) -> list[Any]:
    """The ends of ResNet's blocks 1, 2, ... on n.data.

    units: residual units in each block from 2 on. numbered: blocks 3 and 4 name theirs a, b1, not a, b.
    mults: the rate of each block. dilated: block 5 keeps the stride of 4.
    """
    rates = dict(enumerate(mults, 1))
    ends = [max_pool(normalised(n, "conv1", n.data, 64, 7, 2, mult=rates.get(1), **conv1))]
    at = n.pool1 = ends[0]
    for stage, count in enumerate(units, 2):
        width, wide = 32 << (stage - 1), dict(dilation=2) if dilated and stage == 5 else {}
        own = dict(bias_term=False, mult=rates.get(stage))
        for i in range(count):
            name = f"res{stage}" + (f"b{i}" if numbered and i and stage in (3, 4) else chr(ord("a") + i))
            first = 2 if i == 0 and stage > 2 and not wide else 1  # stride of the unit's first convolutions
            short = at
            if i == 0:
                short = normalised(n, f"{name}_branch1", at, 4 * width, 1, first, relu=False, **own)
            at = normalised(n, f"{name}_branch2a", at, width, 1, first, **own)
            at = normalised(n, f"{name}_branch2b", at, width, 3, 1, **own, **wide)
            at = normalised(n, f"{name}_branch2c", at, 4 * width, 1, 1, relu=False, **own)
            n[name] = L.Eltwise(short, at)
            at = n[f"{name}_relu"] = L.ReLU(n[name], in_place=True)
        ends.append(at)
    return ends


def resnet(n: NetSpec, name: str) -> Any:
    n.pool5 = L.Pooling(residual(n, **RESNETS[name])[-1], pool=P.Pooling.AVE, kernel_size=7, stride=1)
    n.fc1000 = L.InnerProduct(n.pool5, num_output=1000)
    return n.fc1000


RESNETS: dict[str, dict[str, Any]] = {
    "resnet50": dict(units=(3, 4, 6, 3), numbered=False),
    "resnet101": dict(units=(3, 4, 23, 3), numbered=True, bias_term=False),
}
SMALL, SPLITS, SIDE = "shapes-classifier", ("train", "val", "deploy"), 48  # and the side of its image
# name -> (body, images and side of the published input)
NETS: dict[str, tuple[Callable[[NetSpec], Any], int, int]] = {
    "alexnet": (alexnet, 10, 227),
    "caffenet": (Published(ALEXNET, pooled=3).whole, 10, 227),
    "vgg16": (Published(VGG16.layers).whole, 10, 224),
    "vgg19": (Published(vgg(2, 2, 4, 4, 4)).whole, 10, 224),
    "googlenet": (googlenet, 10, 224),
    **{name: (partial(resnet, name=name), 1, 224) for name in RESNETS},
}


def generate(name: str) -> Any:
    """The NetParameter of a published deploy net: 'data' (BGR, mean subtracted) to 'prob', 1000 classes of
    ILSVRC. Raises Error for a name that NETS does not have."""
    if name not in NETS:
        raise Error(f"models/classifiers.py: there is no net '{name}'{closest(name, NETS)} "
                    f"(there are {', '.join(NETS)})")
    body, images, side = NETS[name]
    n = NetSpec()
    n.data = L.Input(shape=dict(dim=[images, 3, side, side]))
    n.prob = L.Softmax(body(n))
    net = n.to_proto()
    net.name = name
    return net


def shapes(split: str) -> Any:
    """The NetParameter of a small classifier of square windows of the generated shapes, 48x48: train, val or
    deploy. Nothing in it is padded, so that a window in a larger image scores what it scores alone.

    Raises Error for another split.
    """
    if split not in SPLITS:
        raise Error(f"models/classifiers.py: {SMALL} has no split '{split}'{closest(split, SPLITS)} "
                    f"(there are {', '.join(SPLITS)})")
    n, msra = NetSpec(), dict(weight_filler=dict(type="msra"))
    if split == "deploy":
        facts: dict[str, Any] = dict(python_param=dict(param_str=str(dict(dataset="shapes"))))
        n.data = L.Input(shape=dict(dim=[1, 3, SIDE, SIDE]), **facts)
    else:
        mean = LAYOUTS["shapes"].first(Images).mean
        n.data, n.label = L.WindowData(
            ntop=2, source=f"data/shapes/images/ImageSets/Windows/{split}.txt", batch_size=40,
            root_folder="../../JPEGImages/", fg_threshold=0.5, bg_threshold=0.3, fg_fraction=0.8,
            transform_param=dict(crop_size=SIDE, mirror=split == "train", mean_value=mean))
    at = n.data
    for i, (kernel, channels) in enumerate(((5, 16), (3, 32), (3, 64)), 1):
        filler = dict(weight_filler=dict(type="gaussian", std=0.005)) if i == 1 else msra  # it reads 0..255
        n[f"conv{i}"] = L.Convolution(at, num_output=channels, kernel_size=kernel, param=rates(), **filler)
        n[f"relu{i}"] = L.ReLU(n[f"conv{i}"], in_place=True)
        at = n[f"pool{i}"] = max_pool(n[f"relu{i}"], 2)
    n.fc4 = L.InnerProduct(at, num_output=128, param=rates(), **msra)
    n.relu4 = L.ReLU(n.fc4, in_place=True)
    n.drop4 = L.Dropout(n.relu4, dropout_ratio=0.5, in_place=True)
    n.fc5 = L.InnerProduct(n.drop4, num_output=5, param=rates(),
                           weight_filler=dict(type="gaussian", std=0.01))
    if split == "deploy":
        n.prob = L.Softmax(n.fc5)
    else:
        n.loss = L.SoftmaxWithLoss(n.fc5, n.label)
    if split == "val":
        n.accuracy = L.Accuracy(n.fc5, n.label)
    net = n.to_proto()
    net.name = SMALL
    return net


def write(name: str, folder: Path = HOME / "models") -> None:
    """Write NAME/deploy.prototxt, and of the small one the other SPLITS."""
    made = {split: shapes(split) for split in SPLITS} if name == SMALL else {"deploy": generate(name)}
    for split, net in made.items():
        prototext.write(folder / name / f"{split}.prototxt", net,
                        header="Written by models/classifiers.py; change that, not this.")


if __name__ == "__main__":
    try:
        for name in sys.argv[1:] or (*NETS, SMALL):
            write(name)
    except Error as e:
        sys.exit(str(e))
