#!/usr/bin/env python3
"""SegNet and SegNet basic, plain and Bayesian, as released, on CamVid and the generated shapes; writes
models/NAME/*.prototxt.

    models/segnet.py            write those that are kept
    models/segnet.py NAME ...   write some

train and val normalise by the batch (BN in mode LEARN); test and deploy are for weights in which
`netspec convert bn` has folded the statistics of the training set (mode INFERENCE).
"""

import sys
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

from sets import Data, Head, camvid, reader  # noqa: E402 - the path comes first
from trunks import MSRA, max_pool, rates  # noqa: E402

from netspec import NetSpec  # noqa: E402
from netspec import layers as L  # noqa: E402
from netspec import params as P  # noqa: E402
from netspec.base.errors import Error, closest, listed  # noqa: E402
from netspec.base.machine import HOME  # noqa: E402
from netspec.proto import text as prototext  # noqa: E402

BLOCKS = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))  # VGG16's: convolutions, and their channels
BASIC = ((1, 64),) * 4
CAMVID = (  # weights of the classes in the loss, by median frequency, as released
    0.2595, 0.1826, 4.5640, 0.1417, 0.9051, 0.3826, 9.6446, 1.8418, 0.6823, 6.2478, 7.3614)
SPLITS = ("train", "val", "test", "deploy")
SHAPES = (0.1975, 1.1942, 0.8368, 1.4378, 1.0)  # of the generated ones, by `netspec data check --balance`
RAW = dict(mean=[0, 0, 0])  # images are fed as they are
HALF = dict(resize=0.5, **RAW)
BATCH = dict(batch_size=4)
CAFFE: Any = dict(engine=P.Softmax.CAFFE)


@dataclass(frozen=True)
class SegNet:
    """A net: its data, the height and width of the images that its Upsample layers are made for, its blocks
    (BASIC: SegNet basic), and whether it drops units in the middle of the net, at test time as well."""

    data: Data
    size: tuple[int, int] = (360, 480)
    blocks: tuple[tuple[int, int], ...] = BLOCKS
    bayesian: bool = False
    weights: tuple[float, ...] = CAMVID  # of classes in the loss

    @property
    def basic(self) -> bool:
        return self.blocks == BASIC


def convolved(n: NetSpec, net: SegNet, name: str, at: Any, width: int, **settings: Any) -> Any:
    zero = dict(value=0) if net.bayesian and not net.basic else {}
    settings |= dict(param=rates(), weight_filler=MSRA, bias_filler=dict(type="constant", **zero))
    n[name] = L.Convolution(at, num_output=width, **settings)
    return n[name]


def unit(n: NetSpec, net: SegNet, stored: bool, name: str, at: Any, width: int, relu: str = "") -> Any:
    """A convolution, BN and, where it has a name, a ReLU. stored: BN in mode INFERENCE."""
    kernel: Any = dict(kernel_size=7, pad=3) if net.basic else dict(kernel_size=3, pad=1)
    at = convolved(n, net, name, at, width, **kernel)
    shift = 0 if net.bayesian and not net.basic else 0.001
    settings: Any = dict(scale_filler=dict(type="constant", value=1),
                    shift_filler=dict(type="constant", value=shift),
                    **(dict(bn_mode=P.BN.INFERENCE) if stored else {}))
    multipliers: Any = {} if net.basic else dict(param=[dict(lr_mult=1, decay_mult=d) for d in (1, 0)])
    at = n[f"{name}_bn"] = L.BN(at, in_place=True, bn_param=settings, **multipliers)
    if relu:
        at = n[relu] = L.ReLU(at, in_place=True)
    return at


def upsampled(net: SegNet, at: Any, mask: Any, size: tuple[int, int], name: str) -> Any:
    """To the size that the mask's pooling read; where it was odd, poolings rounded up."""
    high, wide = (n % 2 for n in size)
    if net.basic:
        odd: Any = (dict(pad_out_h=True) if high else {}) | (dict(pad_out_w=True) if wide else {})
    else:
        odd = dict(upsample_w=size[1], upsample_h=size[0]) if high or wide else {}
    return L.Upsample(at, mask, name=name, scale=2, **odd)


def encoded(n: NetSpec, net: SegNet, step: Any, drop: Any) -> list[tuple[int, int]]:
    """Add the blocks, each with its pooling and mask; returns the sizes that the poolings read."""
    at, size, sizes = n.data, net.size, []
    if net.basic:
        at = n.norm = L.LRN(at, local_size=5, alpha=1e-4, beta=0.75)
    for i, (count, width) in enumerate(net.blocks, 1):
        for j in range(1, count + 1):
            part = str(i) if net.basic else f"{i}_{j}"
            at = step(f"conv{part}", at, width, f"relu{part}")
        n[f"pool{i}"], n[f"pool{i}_mask"] = max_pool(at, 2, ntop=2)
        sizes.append(size)
        size, at = (-(-size[0] // 2), -(-size[1] // 2)), n[f"pool{i}"]
        if net.bayesian and i > 2:
            at = n[f"encdrop{i}"] = drop(at)
    return sizes


def scores(n: NetSpec, net: SegNet, stored: bool) -> Any:
    """The scores of each pixel of n.data. stored: for weights with folded statistics."""
    step = partial(unit, n, net, stored)
    sampled: Any = dict(sample_weights_test=True) if stored else {}
    drop = partial(L.Dropout, in_place=True, dropout_ratio=0.5, **sampled)
    sizes, depth = encoded(n, net, step, drop), len(net.blocks)
    at, classes = n[f"pool{depth}"], net.data.heads[0].classes
    for i in range(depth, 0, -1):
        up = f"upsample{i}" if net.basic else f"pool{i}_D"
        at = n[up] = upsampled(net, at, n[f"pool{i}_mask"], sizes[i - 1], f"upsample{i}")
        count, width = net.blocks[i - 1]
        for j in range(count, 0, -1):
            if net.basic:
                at = step(f"conv_decode{i}", at, width)
            elif i + j > 2:
                below = width if j > 1 else net.blocks[i - 2][1]
                at = step(f"conv{i}_{j}_D", at, below, f"relu{i}_{j}_D")
        if net.bayesian and i > 2:
            at = n[f"decdrop{i}"] = drop(at)
    if not net.basic:
        return convolved(n, net, "conv1_1_D", at, classes, kernel_size=3, pad=1)
    last = "dense_softmax_inner_prod" if net.bayesian else "conv_classifier"
    return convolved(n, net, last, at, classes, kernel_size=1)


def generate(name: str, split: str = "train") -> Any:
    """The NetParameter of a net of NETS: of train, val, test or deploy. Raises Error for another name or
    split."""
    if name not in NETS:
        raise Error(f"models/segnet.py: there is no net '{name}'{closest(name, NETS)} "
                    f"(there are {listed(NETS)})")
    if split not in SPLITS:
        raise Error(f"net '{name}' has no split '{split}' (there are {', '.join(SPLITS)})")
    net, n = NETS[name], NetSpec()
    net.data.add(n, split, *net.size)
    found = scores(n, net, split in ("test", "deploy"))
    if split == "deploy":
        n.prob = L.Softmax(found, softmax_param=CAFFE)
    else:
        weights: Any = dict(weight_by_label_freqs=True, class_weighting=net.weights)
        weights = weights if split == "train" else {}
        n.loss = L.SoftmaxWithLoss(found, n.label, softmax_param=CAFFE,
                                   loss_param=dict(ignore_label=net.data.void, **weights))
    if split == "train":
        n.accuracy, n.per_class_accuracy = L.Accuracy(found, n.label, ntop=2)
    made = n.to_proto()
    made.name = name
    return made


def fed(data: Data) -> Data:
    """With batches of 4, also of val, which is normalised by them; where it has no test images, val's."""
    told = data.splits
    batches = {split: told[split] | BATCH for split in ("train", "val")}
    return replace(data, splits=told | batches | {"test": told.get("test", told["val"])})


def nets() -> dict[str, SegNet]:
    """All by name."""
    shapes = reader("shapes", "data/shapes/images", "train", "val", options=RAW, heads=(Head(5),),
                    facts=dict(dataset="shapes", **RAW))
    found, families = {}, {
        "camvid": SegNet(fed(camvid(RAW))), "camvid-half": SegNet(fed(camvid(HALF)), (180, 240)),
        "shapes": SegNet(fed(shapes), (96, 128), weights=SHAPES)}
    for family, net in families.items():
        for name, blocks in (("segnet", BLOCKS), ("segnet-basic", BASIC)):
            for bayesian in (False, True):
                found[f"{family}-{'bayesian-' * bayesian}{name}"] = replace(net, blocks=blocks,
                                                                            bayesian=bayesian)
    return found


NETS = nets()
KEPT = ("camvid-segnet", "camvid-segnet-basic", "camvid-half-segnet", "camvid-half-segnet-basic",
        "shapes-bayesian-segnet-basic")


def write(name: str, folder: Path = HOME / "models") -> None:
    """Write SPLIT.prototxt of each of SPLITS; of images at half size in studies/."""
    for split in SPLITS:
        prototext.write(folder / ("studies" if "half" in name else "") / name / f"{split}.prototxt",
                        generate(name, split),
                        header=f"Written by models/segnet.py; change that, not this. Split: {split}.")


if __name__ == "__main__":
    try:
        for name in sys.argv[1:] or KEPT:
            write(name)
    except Error as e:
        sys.exit(str(e))
