"""The trunks of the papers' nets: classifiers up to their last hidden layer. classifiers.py has the whole."""

import re
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from netspec import NetSpec
from netspec import layers as L
from netspec import params as P
from netspec.convert.trunks import INCEPTION
from netspec.coord_map import crop

Layers = dict[str, dict[str, Any]]  # name -> settings, in order: conv, pool and norm, then fc6 and fc7
Tops = dict[str, Any]  # what a net can predict from, by name
LRN = dict(local_size=5, alpha=1e-4, beta=0.75)
MSRA = dict(type="msra")
STRIDES = {"fc7": 32, "pool5": 32, "pool4": 16, "pool3": 8}  # of what a net can predict from
ALEXNET = {  # CaffeNet's: it normalises behind the poolings
    "conv1": dict(num_output=96, kernel_size=11, stride=4), "pool1": {}, "norm1": {},
    "conv2": dict(num_output=256, pad=2, kernel_size=5, group=2), "pool2": {}, "norm2": {},
    "conv3": dict(num_output=384, pad=1, kernel_size=3),
    "conv4": dict(num_output=384, pad=1, kernel_size=3, group=2),
    "conv5": dict(num_output=256, pad=1, kernel_size=3, group=2), "pool5": {},
    "fc6": dict(num_output=4096, kernel_size=6), "fc7": dict(num_output=4096, kernel_size=1),
}


def vgg(*counts: int, widths: Any = (64, 128, 256, 512, 512), fc: int = 4096, kernel: int = 7) -> Layers:
    """VGG's layers: so many convolutions a block, of so many channels; fc6, of `kernel`, and fc7 of `fc`."""
    found: Layers = {}
    for i, (count, width) in enumerate(zip(counts, widths, strict=True), 1):
        found |= {f"conv{i}_{j}": dict(num_output=width, pad=1, kernel_size=3) for j in range(1, count + 1)}
        found[f"pool{i}"] = {}
    return found | {"fc6": dict(num_output=fc, kernel_size=kernel), "fc7": dict(num_output=fc, kernel_size=1)}


def changed(layers: Layers, **settings: dict[str, Any]) -> Layers:
    """With other settings of some layers, by name."""
    return {name: own | settings.get(name, {}) for name, own in layers.items()}


def fixed(layers: Layers, *starts: str) -> Layers:
    """With layers that do not learn: those whose names start so."""
    return changed(layers, **{name: dict(param=rates(0)) for name in layers if name.startswith(starts)})


def rates(mult: float = 1) -> list[dict[str, float]]:
    """The multipliers of weights and biases; the rate of biases is doubled and their decay 0."""
    return [dict(lr_mult=mult, decay_mult=1), dict(lr_mult=2 * mult, decay_mult=0)]


def max_pool(bottom: Any, kernel_size: int = 3, **options: Any) -> Any:
    return L.Pooling(bottom, pool=P.Pooling.MAX, kernel_size=kernel_size, **{"stride": 2, **options})


@dataclass(frozen=True)
class Trunk:
    """VGG and what is built like it: layers one on another, fc6 and fc7 convolutions as well."""

    layers: Layers
    pooled: int = 2  # kernel_size of the poolings
    pad: int = 100  # of the first convolution: any image gives an output that covers it
    same: bool = False  # instead, all convolutions keep their size: less to compute
    common: dict[str, Any] = field(default_factory=dict)  # settings of all layers with weights
    dropout: float = 0.5  # behind fc6 and fc7; 0: none
    odd: int = 0  # 1: the last upsampling has an odd kernel, so that the crop lands on a pixel
    strides: dict[str, int] = field(default_factory=STRIDES.copy)
    size = 500  # of a deploy net's image, which can be changed

    def build(self, n: NetSpec, at: Any, deepest: str = "fc7", suffix: str = "", train: bool = True) -> Tops:
        """Add the layers on `at` up to `deepest`, names ending in `suffix`. train: with dropout, which is the
        identity in TEST; the published deploy nets of FCNs have none."""
        tops = {}
        for name, settings in self.layers.items():
            kind, number = re.findall(r"[a-z]+|[0-9_]*[0-9]", name)[:2]
            if kind == "pool":
                at = n[name + suffix] = self.pool(at, settings)
            elif kind == "norm":
                at = n[name + suffix] = L.LRN(at, **LRN)
            else:
                n[name + suffix] = self.weighted(name, at, settings)
                at = self.rectified(n, name + suffix, f"{number}{suffix}")
            if kind == "fc" and self.dropout and train:
                at = n[f"drop{number}{suffix}"] = L.Dropout(at, dropout_ratio=self.dropout, in_place=True)
            tops[name] = at
            if name == deepest:
                break
        return tops

    def weighted(self, name: str, at: Any, own: dict[str, Any]) -> Any:
        """A convolution with its own settings."""
        settings: dict[str, Any] = dict(stride=1, pad=0, param=rates()) | self.common | own
        if self.same:
            settings["pad"] = settings["kernel_size"] // 2 * settings.get("dilation", 1)
        elif name == next(iter(self.layers)):
            settings["pad"] = self.pad
        return L.Convolution(at, **settings)

    def rectified(self, n: NetSpec, name: str, number: str) -> Any:
        """What follows a layer with weights."""
        n[f"relu{number}"] = L.ReLU(n[name], in_place=True)
        return n[f"relu{number}"]

    def pool(self, at: Any, own: dict[str, Any]) -> Any:
        return max_pool(at, self.pooled, **own)

    def cropped(self, up: Any, image: Any) -> Any:
        """The scores laid on the image."""
        return crop(up, image)


class GoogLeNet(Trunk):
    """GoogLeNet from conv1 to inception_5b/output, as BVLC published it; without auxiliary losses."""

    def build(self, n: NetSpec, at: Any, deepest: str = "fc7", suffix: str = "", train: bool = True) -> Tops:
        at = google_conv(n, "conv1", "7x7_s2", at, 64, 7, 0.1, pad=self.pad, stride=2)
        at = n["pool1/3x3_s2"] = max_pool(at)
        at = n["pool1/norm1"] = L.LRN(at, **LRN)
        at = google_conv(n, "conv2", "3x3_reduce", at, 64, 1, 0.1)
        at = google_conv(n, "conv2", "3x3", at, 192, 3, 0.03)
        at = n["conv2/norm2"] = L.LRN(at, **LRN)
        at = n["pool2/3x3_s2"] = max_pool(at)
        for name, sizes in INCEPTION.items():
            if isinstance(sizes, int):
                at = n[f"{name}/3x3_s2"] = max_pool(at)
            else:
                at = inception(n, f"inception_{name}", at, sizes)
        if train:
            at = n["inception_5b/drop"] = L.Dropout(at, dropout_ratio=0.4)
        return {"fc7": at}

    def cropped(self, up: Any, image: Any) -> Any:
        # Caffe's coordinate maps end at a Concat; the layers that move anything are those of one plain chain
        at = L.Convolution(image, num_output=1, kernel_size=7, stride=2, pad=self.pad)
        for _ in range(4):
            at = max_pool(at)
        at = L.Deconvolution(at, convolution_param=dict(num_output=1, kernel_size=63, stride=32))
        return L.Crop(up, image, crop_param=crop(at, image).fn.params["crop_param"])


def google_conv(n: NetSpec, block: str, name: str, at: Any, num_output: int, kernel: int, std: float,
                **more: Any) -> Any:
    """A convolution and its ReLU. std: stands in the published file; 'xavier' does not read it."""
    fillers = dict(weight_filler=dict(type="xavier", std=std), bias_filler=dict(type="constant", value=0.2))
    more = ({"pad": kernel // 2} if kernel > 1 else {}) | more | fillers
    n[f"{block}/{name}"] = L.Convolution(at, num_output=num_output, kernel_size=kernel, param=rates(), **more)
    relu = f"{block}/relu_{name.removesuffix('_s2')}"
    n[relu] = L.ReLU(n[f"{block}/{name}"], in_place=True)
    return n[relu]


def inception(n: NetSpec, block: str, bottom: Any, sizes: tuple[int, ...]) -> Any:
    """Four branches side by side: 1x1, 3x3, 5x5, and a pooling; a 1x1 narrows the last three."""
    one, reduce3, three, reduce5, five, proj = sizes
    conv, pooled = partial(google_conv, n, block), max_pool(bottom, stride=1, pad=1)
    n[f"{block}/pool"], n[f"{block}/output"] = pooled, L.Concat(
        conv("1x1", bottom, one, 1, 0.03),
        conv("3x3", conv("3x3_reduce", bottom, reduce3, 1, 0.09), three, 3, 0.03),
        conv("5x5", conv("5x5_reduce", bottom, reduce5, 1, 0.2), five, 5, 0.03),
        conv("pool_proj", pooled, proj, 1, 0.1))
    return n[f"{block}/output"]


VGG16 = Trunk(vgg(2, 2, 3, 3, 3))
# with a fourth input, depth: its first convolution is not the classifier's, and has another name
VGG16_BGRD = Trunk({name.replace("conv1_1", "conv1_1_bgrd"): x for name, x in VGG16.layers.items()})
CAFFENET = Trunk(ALEXNET, pooled=3, odd=1, common=dict(group=1, param=()))  # all rates equal, as released
GOOGLENET = GoogLeNet({}, odd=1)
# pad 49 covers images from 33 pixels on with a kernel of 5, as the paper's 100 any image with a kernel of 7
SMALL = Trunk(changed(vgg(1, 1, 2, 2, 2, widths=(16, 32, 64, 96, 128), fc=128, kernel=5),
                      conv1_1=dict(weight_filler=dict(type="gaussian", std=0.005))),  # it reads 0..255
              pad=49, dropout=0, common=dict(weight_filler=MSRA))
# the VGG16 at hand lacks fc6 and fc7: narrower ones start from a filler, at ten times the rate
OWN = dict(weight_filler=MSRA, param=rates(10))
NARROW = Trunk(changed(vgg(2, 2, 3, 3, 3, fc=1024), fc6=OWN, fc7=OWN))
