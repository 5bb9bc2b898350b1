"""Classifiers of torchvision and Keras as Caffe's nets, with their layers' names there; without torch."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ..proto.spec import NetSpec, Top
from ..proto.spec import layers as L
from ..proto.spec import params as P

MEAN_BGR = (104.00699, 116.66877, 122.67892)  # Caffe's of ILSVRC, which the nets here subtract


class Input(NamedTuple):
    """What a net was trained on: pixels in 0..255 in this order, minus `mean`, over `scale`."""

    order: str
    mean: Sequence[float]
    scale: Sequence[float] = (1, 1, 1)

    @property
    def step(self) -> int:
        """Channels in steps of this are in the order BGR."""
        return 1 if self.order == "BGR" else -1


INPUTS = {
    "bgr": Input("BGR", MEAN_BGR),
    "rgb": Input("RGB", MEAN_BGR[::-1]),
    "torchvision": Input("RGB", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    "keras": Input("BGR", (103.939, 116.779, 123.68)),
    "half": Input("RGB", (127.5,) * 3, (127.5,) * 3),
}
# 1x1, 3x3_reduce, 3x3, 5x5_reduce, 5x5, pool_proj; a number: the kernel of a pooling between
INCEPTION: dict[str, int | tuple[int, ...]] = {
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
        # not in the first convolution's bias, so that its zero padding stands for their mean, as it did there
        self.start: Top = L.Bias(self.net.data, param=dict(lr_mult=0, decay_mult=0))
        self.net.data_shift = self.start

    def conv(self, name: str, bottom: Top, num_output: int, kernel: int, there: str, norm: str = "", *,
             stride: int = 1, pad: int = 0, relu: bool = True) -> Top:
        """A convolution, its normalisation `norm` (in place, as published ResNets have it), and its ReLU."""
        n, rest = self.net, name.removeprefix("res") if name.startswith("res") else f"_{name}"
        at = n[name] = L.Convolution(bottom, num_output=num_output, kernel_size=kernel, stride=stride,
                                     pad=pad, bias_term=self.keras or not norm)
        self.sources[name] = "Convolution", there
        if norm:
            n[f"bn{rest}"] = L.BatchNorm(at, use_global_stats=True, eps=self.eps, in_place=True)
            at = n[f"scale{rest}"] = L.Scale(n[f"bn{rest}"], bias_term=True, in_place=True)
            self.sources |= {f"bn{rest}": ("BatchNorm", norm), f"scale{rest}": ("Scale", norm)}
        if relu:
            at = n[f"{name}_relu"] = L.ReLU(at, in_place=True)
        return at

    def pool(self, name: str, bottom: Top, kernel: int, stride: int = 2, pad: int = 0, *,
             ceil: bool = False) -> Top:
        rounding: dict[str, Any] = {} if ceil else {"round_mode": P.Pooling.FLOOR}
        made = self.net[name] = L.Pooling(bottom, pool=P.Pooling.MAX, kernel_size=kernel, stride=stride,
                                          pad=pad, **rounding)
        return made

    def dense(self, name: str, bottom: Top, num_output: int, there: str, relu: bool = False) -> Top:
        at = self.net[name] = L.InnerProduct(bottom, num_output=num_output)
        self.sources[name] = "InnerProduct", there
        if relu:
            self.net[f"{name}_relu"] = L.ReLU(at, in_place=True)
            at = self.net[f"{name}_drop"] = L.Dropout(self.net[f"{name}_relu"], in_place=True)
        return at

    def top(self, name: str, bottom: Top, there: str) -> Top:
        """The mean over all positions, and the classes."""
        mean = self.net.pool5 = L.Pooling(bottom, pool=P.Pooling.AVE, global_pooling=True)
        return self.dense(name, mean, 1000, there)


def _resnet(t: Trunk, units: Sequence[int], basic: bool = False) -> Top:
    """torchvision's ResNets, which stride in a unit's 3x3, or Keras', which do in its 1x1 as published."""
    there = ("conv1_conv", "conv1_bn") if t.keras else ("conv1", "bn1")
    at = t.pool("pool1", t.conv("conv1", t.start, 64, 7, *there, stride=2, pad=3), 3, pad=1)
    for stage, count in enumerate(units, 2):
        for i in range(count):
            at = _unit(t, at, stage, i, chr(ord("a") + i) if count <= 8 or not i else f"b{i}", basic)
    return t.top("fc1000", at, "predictions" if t.keras else "fc")


def _unit(t: Trunk, bottom: Top, stage: int, i: int, letter: str, basic: bool) -> Top:
    """Unit `i` of a stage: its convolutions, added to what they read or, in the first unit, a projection."""
    name, width, stride = f"res{stage}{letter}", 32 << (stage - 1), 2 if i == 0 and stage > 2 else 1
    convs = [(width, 3), (width, 3)] if basic else [(width, 1), (width, 3), (4 * width, 1)]

    def there(part: int) -> list[str]:
        """The names of a convolution (0: of the projection) and its normalisation."""
        if t.keras:
            return [f"conv{stage}_block{i + 1}_{part}_{kind}" for kind in ("conv", "bn")]
        if part == 0:
            return [f"layer{stage - 1}.{i}.downsample.{j}" for j in (0, 1)]
        return [f"layer{stage - 1}.{i}.{kind}{part}" for kind in ("conv", "bn")]

    short = at = bottom
    if i == 0 and not (basic and stage == 2):
        short = t.conv(f"{name}_branch1", bottom, convs[-1][0], 1, *there(0), stride=stride, relu=False)
    for j, (num_output, kernel) in enumerate(convs, 1):
        strided = j == (1 if basic or t.keras else 2)
        at = t.conv(f"{name}_branch2{'abc'[j - 1]}", at, num_output, kernel, *there(j),
                    stride=stride if strided else 1, pad=kernel // 2, relu=j < len(convs))
    t.net[name] = L.Eltwise(short, at)
    at = t.net[f"{name}_relu"] = L.ReLU(t.net[name], in_place=True)
    return at


def _googlenet(t: Trunk) -> Top:
    """torchvision's GoogLeNet: normalised, a 3x3 where the paper has 5x5, and a smaller fourth pooling."""
    def conv(name: str, bottom: Top, num_output: int, kernel: int, there: str, stride: int = 1) -> Top:
        return t.conv(name, bottom, num_output, kernel, f"{there}.conv", f"{there}.bn", stride=stride,
                      pad=kernel // 2)

    at = t.pool("pool1/3x3_s2", conv("conv1/7x7_s2", t.start, 64, 7, "conv1", 2), 3, ceil=True)
    at = conv("conv2/3x3", conv("conv2/3x3_reduce", at, 64, 1, "conv2"), 192, 3, "conv3")
    at = t.pool("pool2/3x3_s2", at, 3, ceil=True)
    for name, sizes in INCEPTION.items():
        if isinstance(sizes, int):
            at = t.pool(f"{name}/{sizes}x{sizes}_s2", at, sizes, ceil=True)
            continue
        block, there = f"inception_{name}", f"inception{name}.branch"
        pooled = t.pool(f"{block}/pool", at, 3, 1, 1, ceil=True)
        branches = [conv(f"{block}/1x1", at, sizes[0], 1, f"{there}1")]
        for i, kernel in ((2, "3x3"), (3, "5x5")):
            reduced = conv(f"{block}/{kernel}_reduce", at, sizes[2 * i - 3], 1, f"{there}{i}.0")
            branches.append(conv(f"{block}/{kernel}", reduced, sizes[2 * i - 2], 3, f"{there}{i}.1"))
        branches.append(conv(f"{block}/pool_proj", pooled, sizes[5], 1, f"{there}4.1"))
        at = t.net[f"{block}/output"] = L.Concat(*branches)
    return t.top("loss3/classifier", at, "fc")


def _sequence(t: Trunk, convolutions: Sequence[Sequence[tuple[str, int, int, int, int]]], pool: int,
              dense: Sequence[int]) -> Top:
    """Blocks of (name, outputs, kernel, stride, pad), a pooling behind each; then fc6 to fc8."""
    at, index = t.start, 0
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
    last = [("conv3", 384, 3, 1, 1), ("conv4", 256, 3, 1, 1), ("conv5", 256, 3, 1, 1)]
    return _sequence(t, [[("conv1", 64, 11, 4, 2)], [("conv2", 192, 5, 1, 2)], last], 3, (1, 4, 6))


ARCHITECTURES: dict[str, Callable[[Trunk], Top]] = {
    "alexnet": _alexnet, "googlenet": _googlenet,
    "vgg16": lambda t: _vgg(t, (2, 2, 3, 3, 3)), "vgg19": lambda t: _vgg(t, (2, 2, 4, 4, 4)),
    "resnet18": lambda t: _resnet(t, (2, 2, 2, 2), basic=True),
    "resnet34": lambda t: _resnet(t, (3, 4, 6, 3), basic=True),
    "resnet50": lambda t: _resnet(t, (3, 4, 6, 3)), "resnet101": lambda t: _resnet(t, (3, 4, 23, 3)),
    "resnet152": lambda t: _resnet(t, (3, 8, 36, 3)),
}
KERAS = ("resnet50", "resnet101", "resnet152")  # of these, Keras' files are known too
FITTING = ("vgg16", "vgg19")  # whose weights fit the nets in models/ by name, those of Keras too
