#!/usr/bin/env python3
"""The fully convolutional nets of the papers, from figure 3 down; writes models/NAME/*.prototxt.

    models/fcn.py            write them all
    models/fcn.py NAME ...   write some

A classifier's trunk (trunks.py) on the images of a data set (sets.py), and figure 3 on the trunk. What the
studies change in it (studies.py) is written to models/studies/NAME/.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

import studies  # noqa: E402 - the path comes first
from sets import CAMVID, CLOUD, CLOUDS, CONTEXT, NYUD_LATE, SHAPES, SIFT, VOC, Data, Head, nyud  # noqa: E402
from trunks import CAFFENET, GOOGLENET, NARROW, SMALL, VGG16, VGG16_BGRD, Trunk, rates  # noqa: E402

from netspec import NetSpec  # noqa: E402
from netspec import layers as L  # noqa: E402
from netspec import params as P  # noqa: E402
from netspec.base.errors import Error, closest, listed  # noqa: E402
from netspec.base.machine import HOME  # noqa: E402
from netspec.coord_map import crop  # noqa: E402
from netspec.proto import text as prototext  # noqa: E402

# FCN-32s, 16s and 8s: the layers of the trunk whose scores are summed, the coarsest first
STAGES = {32: ("fc7",), 16: ("fc7", "pool4"), 8: ("fc7", "pool4", "pool3")}
ATONCE = {"pool4": 0.01, "pool3": 0.0001}  # the release's scales: later blobs are larger


def upsample(bottom: Any, classes: int, factor: int, mult: float = 0, odd: int = 0) -> Any:
    """A deconvolution, fixed unless `mult`; `solve` makes it bilinear, since it has no filler."""
    settings = dict(num_output=classes, kernel_size=2 * factor - odd, stride=factor, bias_term=False)
    return L.Deconvolution(bottom, convolution_param=settings, param=[dict(lr_mult=mult)])


def pixel_loss(n: NetSpec, net: "FCN", scores: Any, label: Any) -> Any:
    """A softmax over the classes, or a sigmoid where one map tells two apart."""
    if net.data.heads[0].classes == 1:
        return L.SigmoidCrossEntropyLoss(scores, label, loss_param=dict(normalize=net.normalize))
    counted = dict(normalize=net.normalize, ignore_label=net.data.void)
    return L.SoftmaxWithLoss(scores, label, loss_param=counted)


@dataclass(frozen=True)
class FCN:
    """A net: trunk, data, and the sources whose scores are summed, the coarsest first."""

    trunk: Trunk
    data: Data
    sources: tuple[str, ...]
    normalize: bool = True  # the paper's loss is a mean over pixels; the released nets sum
    learned: bool = False  # the upsamplings between stages learn, as in the paper; the last never does
    scales: dict[str, float] = field(default_factory=dict)  # of sources, where all stages are trained at once
    loss: Callable[[NetSpec, Any, Any, Any], Any] = pixel_loss  # in training


def figure3(n: NetSpec, net: FCN, head: Head, image: str, scored: Callable[[str, Head], str]) -> Any:
    """The scores of each pixel of `image`. scored: adds the scores of a source, and returns their name.

    From the coarsest source on: for each skip upsample, score a finer layer, crop, sum; then up to the image.
    """
    strides, (coarsest, *skips) = net.trunk.strides, net.sources
    at, stride, before = scored(coarsest, head), strides[coarsest], ""
    for skip in skips:
        factor, stride = stride // strides[skip], strides[skip]
        up = (f"upscore_{before}" if before else f"upscore{factor}") + head.suffix
        n[up] = upsample(n[at], head.classes, factor, float(net.learned))
        finer = scored(skip, head)
        larger, smaller = (up, finer) if net.trunk.same else (finer, up)
        n[larger + "c"] = crop(n[larger], n[smaller])
        at, before = f"fuse_{skip}{head.suffix}", skip
        n[at] = L.Eltwise(n[smaller], n[larger + "c"], operation=P.Eltwise.SUM)
    if stride > 1:
        last = ("upscore" if stride == 32 else f"upscore{stride}") + head.suffix
        n[last], at = upsample(n[at], head.classes, stride, odd=net.trunk.odd), last
    return net.trunk.cropped(n[at], n[image])


def fcn(net: FCN, split: str) -> Any:
    """The NetParameter of one split of the data, or of 'deploy'."""
    n, data = NetSpec(), net.data
    images = data.add(n, split, net.trunk.size)

    @cache
    def trunk(suffix: str) -> dict[str, Any]:
        return net.trunk.build(n, n[images[suffix]], net.sources[0], suffix, split != "deploy")

    def scored(source: str, head: Head) -> str:
        """The scores of a source, averaged over the trunks."""
        name = "score_fr" if source == "fc7" else f"score_{source}"
        for suffix in images:
            at = trunk(suffix)[source]
            if source in net.scales:
                constant = dict(type="constant", value=net.scales[source])
                at = n[f"scale_{source}"] = L.Scale(at, filler=constant, param=[dict(lr_mult=0)])
            # without a filler it starts at zero
            n[name + suffix + head.suffix] = L.Convolution(at, num_output=head.classes, kernel_size=1, pad=0,
                                                           param=rates())
        if not data.late:
            return name + head.suffix
        fused = name.removesuffix("_fr") + "_fused"
        n[fused] = L.Eltwise(*(n[name + suffix] for suffix in images), operation=P.Eltwise.SUM,
                             coeff=[1 / len(images)] * len(images))
        return fused

    for head in data.heads:
        n["score" + head.suffix] = figure3(n, net, head, next(iter(images.values())), scored)
        if split not in ("deploy", *data.blind):
            loss = net.loss if split == data.train else pixel_loss
            n[head.loss] = loss(n, net, n["score" + head.suffix], n[head.label])
    return n.to_proto()


def stages(trunk: Trunk, data: Data, normalize: bool = True) -> dict[str, FCN]:
    """FCN-32s, 16s and 8s, and 8s with all stages trained at once."""
    nets = {f"fcn{stride}s": FCN(trunk, data, sources, normalize) for stride, sources in STAGES.items()}
    return nets | {"fcn8s-atonce": replace(nets["fcn8s"], scales=ATONCE)}


FAMILIES = {
    "shapes": stages(SMALL, SHAPES), "voc": stages(VGG16, VOC, False), "camvid": stages(NARROW, CAMVID),
    "siftflow": stages(VGG16, SIFT, False), "pascalcontext": stages(VGG16, CONTEXT, False),
    "38cloud": stages(VGG16, CLOUD), "clouds": stages(SMALL, CLOUDS)}
PAPERS = {f"{family}-{stage}": net for family, nets in FAMILIES.items() for stage, net in nets.items()} | {
    "voc-fcn-alexnet": FCN(CAFFENET, VOC, ("fc7",)),
    "voc-fcn-googlenet": FCN(GOOGLENET, VOC, ("fc7",)),
    "nyud-fcn32s-color": FCN(VGG16, nyud("color", data=3), STAGES[32], False),
    "nyud-fcn32s-color-d": FCN(VGG16_BGRD, nyud("color", "depth", color=3, depth=1), STAGES[32], False),
    "nyud-fcn32s-hha": FCN(VGG16, nyud("hha", data=3), STAGES[32], False),
    "nyud-fcn32s-color-hha": FCN(VGG16, NYUD_LATE, STAGES[32], False),
    "nyud-fcn16s-color-hha": FCN(VGG16, NYUD_LATE, STAGES[16], False),
}
ALL = PAPERS | studies.nets(FAMILIES)
# those that are kept as files
NETS = {name: ALL[name] for name in (*PAPERS, *studies.KEPT)
        if not name.endswith("-atonce") or name in ("voc-fcn8s-atonce", *studies.KEPT)}


def named(name: str) -> FCN:
    """One of ALL; Error for any other name."""
    if name in ALL:
        return ALL[name]
    raise Error(f"models/fcn.py: there is no net '{name}'{closest(name, ALL)} (there are {listed(ALL)})")


def generate(name: str, split: str = "train") -> Any:
    """The NetParameter of a net: of a split of its data, of 'deploy', or of 'paper', the training net whose
    loss is a mean and whose upsamplings between stages learn. Raises Error for an unknown name or split."""
    net = named(name)
    known = (*net.data.splits, "deploy", "paper")
    if split not in ("train", *known):
        raise Error(f"net '{name}' has no split '{split}' (there are {', '.join(known)})")
    if split == "paper":
        net = replace(net, normalize=True, learned=True)
    made = fcn(net, net.data.train if split in ("train", "paper") else split)
    made.name = name
    return made


def write(name: str, folder: Path = HOME / "models") -> None:
    """Write SPLIT.prototxt for each split, deploy.prototxt, and of a released net paper.prototxt."""
    net = named(name)
    for split in (*net.data.splits, "deploy", *([] if net.normalize else ["paper"])):
        prototext.write(folder / ("" if name in PAPERS else "studies") / name / f"{split}.prototxt",
                        generate(name, split),
                        header=f"Written by models/fcn.py; change that, not this. Split: {split}.")


if __name__ == "__main__":
    try:
        for name in sys.argv[1:] or NETS:
            write(name)
    except Error as e:
        sys.exit(str(e))
