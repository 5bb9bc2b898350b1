#!/usr/bin/env python3
"""The fully convolutional nets of the paper: one parameterised FCN that writes models/NAME/*.prototxt.

    models/fcn.py            write them all
    models/fcn.py NAME ...   write some
"""

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from netspec import NetSpec, prototext  # noqa: E402 - the path comes first
from netspec import layers as L  # noqa: E402
from netspec import params as P  # noqa: E402
from netspec.coord_map import crop  # noqa: E402

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Trunk:
    """A classifier made convolutional: blocks of 3x3 convolutions with a pooling behind each, then fc6 and fc7."""

    blocks: tuple[tuple[int, ...], ...]  # num_output of each convolution
    fc: tuple[int, int]  # num_output of fc6 and fc7
    kernel: int = 7  # of fc6
    pad: int = 100  # of the first convolution: any image gives an output that covers it
    filler: dict[str, Any] | None = None  # of every layer; None: weights come from a file
    first_filler: dict[str, Any] | None = None  # of the very first, which reads 0..255 (default: `filler`)
    fc_filler: dict[str, Any] | None = None  # of fc6 and fc7, where the file lacks them
    fc_mult: float = 1  # of the rates of fc6 and fc7, which learn more where they start from nothing
    dropout: float = 0.5  # behind fc6 and fc7; 0: none
    frozen: int = 0  # blocks at the bottom that are not trained


@dataclass(frozen=True)
class Data:
    """A data set: where the train and val nets find it, and its classes."""

    name: str
    root: str
    classes: int
    splits: dict[str, str] = field(default_factory=lambda: {"train": "train", "val": "val"})  # ours -> the data set's
    void: int = 255
    options: dict[str, Any] = field(default_factory=dict)  # more for the reader
    train_options: dict[str, Any] = field(default_factory=dict)


VGG16 = Trunk(((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3), (4096, 4096))
SKIPS = {32: (), 16: ("pool4",), 8: ("pool4", "pool3")}


@dataclass(frozen=True)
class FCN:
    """A net of Figure 3: trunk, data and the stride of its prediction (32, 16 or 8)."""

    trunk: Trunk
    data: Data
    stride: int
    normalize: bool = True  # the paper's loss is a mean over pixels; the released nets sum


def conv_relu(bottom: Any, num_output: int, *, kernel_size: int = 3, pad: int = 1, mult: float = 1,
              filler: Any = None) -> tuple[Any, Any]:
    """A convolution and its ReLU, in place; the rate of biases is doubled and their decay 0."""
    fillers = {"weight_filler": filler} if filler else {}
    conv = L.Convolution(bottom, kernel_size=kernel_size, stride=1, num_output=num_output, pad=pad,
                         param=[dict(lr_mult=mult, decay_mult=1), dict(lr_mult=2 * mult, decay_mult=0)], **fillers)
    return conv, L.ReLU(conv, in_place=True)


def score(bottom: Any, classes: int) -> Any:
    """A 1x1 convolution, one channel a class; without a filler it starts at zero."""
    return L.Convolution(bottom, num_output=classes, kernel_size=1, pad=0,
                         param=[dict(lr_mult=1, decay_mult=1), dict(lr_mult=2, decay_mult=0)])


def upsample(bottom: Any, classes: int, factor: int) -> Any:
    """A fixed deconvolution; `solve` makes it bilinear, since it has no filler."""
    return L.Deconvolution(bottom, convolution_param=dict(num_output=classes, kernel_size=2 * factor, stride=factor,
                                                          bias_term=False), param=[dict(lr_mult=0)])


def inputs(data: Data, split: str) -> Any:
    """The tops data and label of a reader, or for deploy an Input of any size."""
    if split == "deploy":
        return L.Input(shape=[dict(dim=[1, 3, 500, 500])])
    options = {**data.options, **(data.train_options if split == "train" else {})}
    return L.Python(module="netspec.datasets", layer="SegmentationData", ntop=2, param_str=str(dict(
        dataset=data.name, root=data.root, split=data.splits[split], **options)))


def fcn(net: FCN, split: str) -> Any:
    """The NetParameter of one split: train, val, test where the data have one, or deploy."""
    n, trunk, classes = NetSpec(), net.trunk, net.data.classes
    if split == "deploy":
        n.data = inputs(net.data, split)
    else:
        n.data, n.label = inputs(net.data, split)

    bottom = n.data
    for i, block in enumerate(trunk.blocks, 1):
        for j, num_output in enumerate(block, 1):
            n[f"conv{i}_{j}"], n[f"relu{i}_{j}"] = conv_relu(
                bottom, num_output, pad=trunk.pad if (i, j) == (1, 1) else 1, mult=i > trunk.frozen,
                filler=trunk.first_filler if trunk.first_filler and (i, j) == (1, 1) else trunk.filler)
            bottom = n[f"relu{i}_{j}"]
        bottom = n[f"pool{i}"] = L.Pooling(bottom, pool=P.Pooling.MAX, kernel_size=2, stride=2)
    for i, num_output, kernel in ((6, trunk.fc[0], trunk.kernel), (7, trunk.fc[1], 1)):
        n[f"fc{i}"], n[f"relu{i}"] = conv_relu(bottom, num_output, kernel_size=kernel, pad=0, mult=trunk.fc_mult,
                                               filler=trunk.fc_filler or trunk.filler)
        bottom = n[f"relu{i}"]
        if trunk.dropout and split != "deploy":  # in TEST it is the identity; the published deploy net has none
            bottom = n[f"drop{i}"] = L.Dropout(bottom, dropout_ratio=trunk.dropout, in_place=True)

    # Figure 3: each skip doubles the resolution and adds the scores of a finer layer
    at, stride = score(bottom, classes), 32
    n.score_fr = at
    for i, skip in enumerate(SKIPS[net.stride]):
        stride //= 2
        up = "upscore2" if i == 0 else f"upscore_{SKIPS[net.stride][i - 1]}"
        n[up] = upsample(at, classes, 2)
        n[f"score_{skip}"] = score(n[skip], classes)
        n[f"score_{skip}c"] = crop(n[f"score_{skip}"], n[up])
        at = n[f"fuse_{skip}"] = L.Eltwise(n[up], n[f"score_{skip}c"], operation=P.Eltwise.SUM)
    last = "upscore" if net.stride == 32 else f"upscore{net.stride}"
    n[last] = upsample(at, classes, stride)
    n.score = crop(n[last], n.data)
    if split != "deploy":
        n.loss = L.SoftmaxWithLoss(n.score, n.label,
                                   loss_param=dict(normalize=net.normalize, ignore_label=net.data.void))
    return n.to_proto()


VOC = Data("voc", "data/voc/VOC2012", 21, train_options=dict(seed=1337))
CAMVID = Data("camvid", "data/camvid/images", 11, {split: split for split in ("train", "val", "test")}, void=11,
              train_options=dict(seed=1337, mirror=True))
HALF = replace(CAMVID, options=dict(resize=0.5), train_options=dict(seed=1337, mirror=True, batch_size=5))
SHAPES = Data("shapes", "data/shapes/images", 5, train_options=dict(seed=1337, batch_size=10))

# pad 49 covers images from 33 pixels on with a kernel of 5, as the paper's 100 does any image with a kernel of 7
SMALL = Trunk(((16,), (32,), (64, 64), (96, 96), (128, 128)), (128, 128), kernel=5, pad=49, dropout=0,
              filler=dict(type="msra"), first_filler=dict(type="gaussian", std=0.005))
# the VGG16 at hand lacks fc6 and fc7: narrower ones start from a filler, at ten times the rate
NARROW = replace(VGG16, fc=(1024, 1024), fc_filler=dict(type="msra"), fc_mult=10)
QUICK = replace(NARROW, fc=(256, 256), kernel=5, pad=49, frozen=3)

FAMILIES = {"shapes": (SMALL, SHAPES), "voc": (VGG16, VOC), "camvid": (NARROW, CAMVID), "camvid-half": (QUICK, HALF)}
NETS = {f"{family}-fcn{stride}s": FCN(trunk, data, stride) for family, (trunk, data) in FAMILIES.items() for stride in SKIPS}


def write(name: str, folder: Path = HERE) -> None:
    """Write NAME/SPLIT.prototxt for each split of the data, and NAME/deploy.prototxt."""
    for split in (*NETS[name].data.splits, "deploy"):
        net = fcn(NETS[name], split)
        net.name = name
        prototext.write(folder / name / f"{split}.prototxt", net,
                        header=f"Written by models/fcn.py; change that, not this. Split: {split}.")


if __name__ == "__main__":
    unknown = [name for name in sys.argv[1:] if name not in NETS]
    if unknown:
        sys.exit(f"models/fcn.py: no net '{unknown[0]}'; there are {', '.join(NETS)}")
    for name in sys.argv[1:] or NETS:
        write(name)
