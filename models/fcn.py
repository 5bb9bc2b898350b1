#!/usr/bin/env python3
"""The fully convolutional nets of the papers: one parameterised FCN that writes models/NAME/*.prototxt.

    models/fcn.py            write them all
    models/fcn.py NAME ...   write some
"""

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

from classifiers import googlenet_body  # noqa: E402 - the path comes first

from netspec import NetSpec, prototext  # noqa: E402
from netspec import layers as L  # noqa: E402
from netspec import params as P  # noqa: E402
from netspec.coord_map import crop  # noqa: E402
from netspec.errors import Error, closest  # noqa: E402

HERE = Path(__file__).resolve().parent
MSRA = dict(type="msra")
SOURCES = {"fc7": 32, "pool5": 32, "pool4": 16, "pool3": 8}  # what a prediction can come from -> its stride


@dataclass(frozen=True)
class Trunk:
    """VGG and what is built like it: blocks of 3x3 convolutions with a pooling behind each, then fc6 and fc7."""

    blocks: tuple[tuple[int, ...], ...]  # num_output of each convolution
    fc: tuple[int, int]  # num_output of fc6 and fc7
    kernel: int = 7  # of fc6
    pad: int = 100  # of the first convolution: any image gives an output that covers it
    same: bool = False  # instead, all convolutions keep their size (pad 1, and fc6 padded as well): less to compute
    filler: dict[str, Any] | None = None  # of every layer; None: weights come from a file
    first_filler: dict[str, Any] | None = None  # of the very first, which reads 0..255 (default: `filler`)
    fc_filler: dict[str, Any] | None = None  # of fc6 and fc7, where the file lacks them
    fc_mult: float = 1  # of the rates of fc6 and fc7, which learn more where they start from nothing
    dropout: float = 0.5  # behind fc6 and fc7; 0: none
    frozen: int = 0  # blocks at the bottom that are not trained; 6 and 7 are fc6 and fc7
    first: str = "conv1_1"  # the first convolution's name, where its shape is another than the classifier's
    atrous: bool = False  # pool5 with stride 1 and fc6 rarefied: a prediction of stride 16 without a skip
    unpool: bool = False  # un-pooling back to the image, for images whose sides are multiples of 32
    odd = 0  # 1: the last upsampling has an odd kernel, so that the crop lands on a pixel

    def conv_relu(self, bottom: Any, block: int, num_output: int, filler: Any, mult: float = 1, **options: Any) -> Any:
        """A convolution and its ReLU, in place; the rate of biases is doubled and their decay 0."""
        mult *= block > self.frozen
        conv = L.Convolution(bottom, **dict(kernel_size=3, stride=1, num_output=num_output, pad=1) | options,
                             param=[dict(lr_mult=mult, decay_mult=1), dict(lr_mult=2 * mult, decay_mult=0)],
                             **({"weight_filler": filler} if filler else {}))
        return conv, L.ReLU(conv, in_place=True)

    def build(self, n: NetSpec, bottom: Any, suffix: str, deepest: str, train: bool) -> dict[str, Any]:
        """Add the layers up to source `deepest`, names ending in `suffix`; the sources by name."""
        sources = {}
        for i, block in enumerate(self.blocks, 1):
            for j, num_output in enumerate(block, 1):
                first = (i, j) == (1, 1)
                name = self.first if first else f"conv{i}_{j}"
                n[name + suffix], n[f"relu{i}_{j}{suffix}"] = self.conv_relu(
                    bottom, i, num_output, first and self.first_filler or self.filler,
                    pad=self.pad if first and not self.same else 1)
                bottom = n[f"relu{i}_{j}{suffix}"]
            tops = L.Pooling(bottom, pool=P.Pooling.MAX, kernel_size=2, stride=1 if self.atrous and i == 5 else 2,
                             ntop=1 + self.unpool)
            if self.unpool:
                n[f"pool{i}"], n[f"mask{i}"] = tops
            else:
                n[f"pool{i}{suffix}"] = tops
            bottom = sources[f"pool{i}"] = n[f"pool{i}{suffix}"]
            if deepest == f"pool{i}":
                return sources
        for i, num_output, kernel in ((6, self.fc[0], self.kernel), (7, self.fc[1], 1)):
            dilation = 2 if self.atrous and i == 6 else 1
            n[f"fc{i}{suffix}"], n[f"relu{i}{suffix}"] = self.conv_relu(
                bottom, i, num_output, self.fc_filler or self.filler, self.fc_mult, kernel_size=kernel,
                pad=dilation * (kernel // 2) * self.same, **(dict(dilation=dilation) if dilation > 1 else {}))
            bottom = n[f"relu{i}{suffix}"]
            if self.dropout and train:  # in TEST it is the identity; the published deploy net has none
                bottom = n[f"drop{i}{suffix}"] = L.Dropout(bottom, dropout_ratio=self.dropout, in_place=True)
        for i, block in reversed(list(enumerate(self.blocks, 1))) if self.unpool else ():
            n[f"narrow{i}"], n[f"relu_narrow{i}"] = self.conv_relu(bottom, 6, block[-1], self.filler or MSRA, self.fc_mult)
            bottom = n[f"unpool{i}"] = L.Upsample(n[f"relu_narrow{i}"], n[f"mask{i}"], scale=2)
        return {**sources, "fc7": bottom}

    def cropped(self, up: Any, image: Any) -> Any:
        """The scores laid on the image."""
        return crop(up, image)


class AlexNet(Trunk):
    """AlexNet as the release has it: CaffeNet's order of pooling and normalising, all rates equal."""

    odd = 1

    def build(self, n: NetSpec, bottom: Any, suffix: str, deepest: str, train: bool) -> dict[str, Any]:
        layers = [(96, 11, dict(stride=4, pad=self.pad)), (256, 5, dict(pad=2, group=2)), (384, 3, dict(pad=1)),
                  (384, 3, dict(pad=1, group=2)), (256, 3, dict(pad=1, group=2)), (self.fc[0], 6, {}), (self.fc[1], 1, {})]
        for i, (num_output, kernel, options) in enumerate(layers, 1):
            name = f"{'conv' if i < 6 else 'fc'}{i}"
            n[name] = L.Convolution(bottom, kernel_size=kernel, num_output=num_output,
                                    **dict(stride=1, pad=0, group=1) | options)
            bottom = n[f"relu{i}"] = L.ReLU(n[name], in_place=True)
            if i in (1, 2, 5):
                bottom = n[f"pool{i}"] = L.Pooling(bottom, pool=P.Pooling.MAX, kernel_size=3, stride=2)
            if i < 3:
                bottom = n[f"norm{i}"] = L.LRN(bottom, local_size=5, alpha=1e-4, beta=0.75)
            if i > 5 and train:
                bottom = n[f"drop{i}"] = L.Dropout(bottom, dropout_ratio=0.5, in_place=True)
        return {"fc7": bottom}


class GoogLeNet(Trunk):
    """GoogLeNet without its auxiliary losses and its final average pooling."""

    odd = 1

    def build(self, n: NetSpec, bottom: Any, suffix: str, deepest: str, train: bool) -> dict[str, Any]:
        bottom = googlenet_body(n, bottom, pad=self.pad)
        if train:
            bottom = n["inception_5b/drop"] = L.Dropout(bottom, dropout_ratio=0.4)
        return {"fc7": bottom}

    def cropped(self, up: Any, image: Any) -> Any:
        # Caffe's coordinate maps end at a Concat; the layers that move anything are those of one plain chain
        at = L.Convolution(image, num_output=1, kernel_size=7, stride=2, pad=self.pad)
        for _ in range(4):
            at = L.Pooling(at, kernel_size=3, stride=2)
        return L.Crop(up, image, crop_param=crop(upsample(at, 1, 32, odd=self.odd), image).fn.params["crop_param"])


@dataclass(frozen=True)
class Head:
    """A prediction: its classes, the top of the data that holds its truth, and what its layers' names end in."""

    classes: int
    label: str = "label"
    suffix: str = ""
    loss: str = "loss"


@dataclass(frozen=True)
class Data:
    """A data set: where the train and val nets find it, its images and its classes."""

    heads: tuple[Head, ...]
    splits: dict[str, dict[str, Any]]  # net -> the reader's options
    void: int = 255
    options: dict[str, Any] = field(default_factory=dict)  # for the reader in all splits
    images: dict[str, int] = field(default_factory=lambda: {"data": 3})  # tops with images -> channels
    balance: str = ""  # the balance of all its nets
    late: bool = False  # each image has a trunk of its own, and scores are averaged; or they are stacked

    @property
    def train(self) -> str:
        """The split that is trained on."""
        return next(iter(self.splits))

    def tops(self, n: NetSpec, split: str, size: int) -> None:
        """Add the tops of a reader, or for deploy Inputs, whose size can be changed."""
        if split == "deploy":
            for name, channels in self.images.items():
                n[name] = L.Input(shape=[dict(dim=[1, channels, size, size])])
            return
        names = [*self.images, *(head.label for head in self.heads)]
        options = {**self.options, **self.splits[split]}
        options = {key: options.pop(key) for key in ("dataset", "root", "split")} | options
        tops = L.Python(module="netspec.datasets", layer="SegmentationData", ntop=len(names), param_str=str(options))
        for name, top in zip(names, tops, strict=True):
            n[name] = top


@dataclass(frozen=True)
class FCN:
    """A net: trunk, data, and the sources whose scores are summed, the coarsest first."""

    trunk: Trunk
    data: Data
    sources: tuple[str, ...]
    normalize: bool = True  # the paper's loss is a mean over pixels; the released nets sum
    learned: bool = False  # the upsamplings between stages learn, as in the paper; the last never does
    scales: dict[str, float] = field(default_factory=dict)  # of sources, where all stages are trained at once
    keep: float = 1  # the probability that a cell of the coarsest layer counts in the loss
    balance: str = ""  # a file with the weights of classes, as a matrix for InfogainLoss


def score(bottom: Any, classes: int) -> Any:
    """A 1x1 convolution, one channel a class; without a filler it starts at zero."""
    return L.Convolution(bottom, num_output=classes, kernel_size=1, pad=0,
                         param=[dict(lr_mult=1, decay_mult=1), dict(lr_mult=2, decay_mult=0)])


def upsample(bottom: Any, classes: int, factor: int, mult: float = 0, odd: int = 0) -> Any:
    """A deconvolution, fixed unless `mult`; `solve` makes it bilinear, since it has no filler."""
    return L.Deconvolution(bottom, convolution_param=dict(num_output=classes, kernel_size=2 * factor - odd, stride=factor,
                                                          bias_term=False), param=[dict(lr_mult=mult)])


def fcn(net: FCN, split: str) -> Any:
    """The NetParameter of one split of the data, or of 'deploy'."""
    n, data = NetSpec(), net.data
    data.tops(n, split, 512 if net.trunk.unpool else 500)
    image = next(iter(data.images))
    trunks = {name: name for name in data.images} if data.late else {"": image}  # what names end in -> what is read
    if len(data.images) > len(trunks):
        image = trunks[""] = "data"
        n.data = L.Concat(*(n[name] for name in data.images))
    built: dict[str, dict[str, Any]] = {}

    def scored(source: str, head: Head) -> Any:
        """The scores of a source, averaged over the trunks."""
        stem = "score_fr" if source == "fc7" else f"score_{source}"
        for trunk, bottom in trunks.items():
            if trunk not in built:
                built[trunk] = net.trunk.build(n, n[bottom], trunk, net.sources[0], split != "deploy")
            at = built[trunk][source]
            if source in net.scales:
                at = n[f"scale_{source}"] = L.Scale(at, filler=dict(type="constant", value=net.scales[source]),
                                                    param=[dict(lr_mult=0)])
            n[stem + trunk + head.suffix] = score(at, head.classes)
        if data.late:
            fused = stem.removesuffix("_fr") + "_fused"
            n[fused] = L.Eltwise(*(n[stem + trunk] for trunk in trunks), operation=P.Eltwise.SUM,
                                 coeff=[1 / len(trunks)] * len(trunks))
            return fused
        return stem + head.suffix

    # Figure 3: each skip multiplies the resolution and adds the scores of a finer layer
    for head in data.heads:
        at, before = scored(net.sources[0], head), net.sources[0]
        stride = 1 if net.trunk.unpool else 16 if net.trunk.atrous else SOURCES[before]
        for skip in net.sources[1:]:
            factor, stride = stride // SOURCES[skip], SOURCES[skip]
            up = (f"upscore{factor}" if before == net.sources[0] else f"upscore_{before}") + head.suffix
            n[up] = upsample(n[at], head.classes, factor, float(net.learned))
            finer = scored(skip, head)
            larger, smaller = (up, finer) if net.trunk.same else (finer, up)
            n[larger + "c"] = crop(n[larger], n[smaller])
            at = f"fuse_{skip}{head.suffix}"
            n[at] = L.Eltwise(n[smaller], n[larger + "c"], operation=P.Eltwise.SUM)
            before = skip
        if stride > 1:
            last = ("upscore" if stride == 32 else f"upscore{stride}") + head.suffix
            n[last] = upsample(n[at], head.classes, stride, odd=net.trunk.odd)
            n["score" + head.suffix] = net.trunk.cropped(n[last], n[image])
        else:
            n["score" + head.suffix] = L.Crop(n[at], n[image], axis=2, offset=[0])
        if split != "deploy":
            n[head.loss] = loss(n, net, head, split)
    return n.to_proto()


def loss(n: NetSpec, net: FCN, head: Head, split: str) -> Any:
    """The loss of a head; what the studies change in it holds in training alone."""
    label, void = n[head.label], dict(ignore_label=net.data.void)
    if split == net.data.train and net.keep < 1:
        label = n.sampled = L.Python(label, module="netspec.sampling", layer="LossSampling",
                                     param_str=str(dict(keep=net.keep, cell=32, void=net.data.void)))
    if split == net.data.train and net.balance:
        return L.InfogainLoss(n["score" + head.suffix], label, infogain_loss_param=dict(source=net.balance), loss_param=void)
    return L.SoftmaxWithLoss(n["score" + head.suffix], label, loss_param=dict(normalize=net.normalize, **void))


STAGES = {32: ("fc7",), 16: ("fc7", "pool4"), 8: ("fc7", "pool4", "pool3")}
ATONCE = {"pool4": 0.01, "pool3": 0.0001}  # the release's scales: later blobs are larger

VGG16 = Trunk(((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3), (4096, 4096))
# pad 49 covers images from 33 pixels on with a kernel of 5, as the paper's 100 does any image with a kernel of 7
SMALL = Trunk(((16,), (32,), (64, 64), (96, 96), (128, 128)), (128, 128), kernel=5, pad=49, dropout=0,
              filler=MSRA, first_filler=dict(type="gaussian", std=0.005))
# the VGG16 at hand lacks fc6 and fc7: narrower ones start from a filler, at ten times the rate
NARROW = replace(VGG16, fc=(1024, 1024), fc_filler=MSRA, fc_mult=10)
QUICK = replace(NARROW, fc=(256, 256), kernel=5, same=True, frozen=3)


def reader(dataset: str, root: str, *splits: str, heads: tuple[Head, ...], train: Any, options: Any = (), **fields: Any) -> Data:
    """A data set whose splits are files of the same names; train: the reader's options for the first, options: for all."""
    return Data(heads, {split: dict(split=split, **train if split == splits[0] else {}) for split in splits},
                options=dict(dataset=dataset, root=root, **dict(options)), **fields)


SEED = dict(seed=1337)
VOC = Data((Head(21),), {"train": dict(dataset="sbd", root="data/sbd/dataset", split="train", **SEED),
                         "val": dict(dataset="voc", root="data/voc/VOC2011", split="seg11valid")})
CONTEXT = reader("pascalcontext", "data/pascalcontext", "train", "val", heads=(Head(60),), train=SEED)
SIFT = reader("siftflow", "data/siftflow", "trainval", "test", train=SEED,
              heads=(Head(33, "sem", "_sem"), Head(3, "geo", "_geo", "loss_geo")))
CAMVID = reader("camvid", "data/camvid/images", "train", "val", "test", heads=(Head(11),), void=11, train=dict(SEED, mirror=True))
HALF = reader("camvid", "data/camvid/images", "train", "val", "test", heads=(Head(11),), void=11, options=dict(resize=0.5),
              train=dict(SEED, mirror=True, batch_size=5))
CROPS = reader("camvid", "data/camvid/images", "train", "val", "test", heads=(Head(11),), void=11,
               balance="weights/camvid-balance.binaryproto",
               train=dict(SEED, zoom=[0.75, 1.333], brightness=0.4, mirror=True, crop=[288, 384], batch_size=5))
SHAPES = reader("shapes", "data/shapes/images", "train", "val", heads=(Head(5),), train=dict(SEED, batch_size=10))


def nyud(*tops: str, **images: int) -> Data:
    """NYUDv2 with some of its images: the reader's tops, and the net's with their channels."""
    return reader("nyud", "data/nyud", "trainval", "test", heads=(Head(40),), train=SEED, images=images,
                  options=dict(tops=[*tops, "label"]))


LATE = replace(nyud("color", "hha", color=3, hha=3), late=True)
FAMILIES = {"shapes": (SMALL, SHAPES), "voc": (VGG16, VOC), "camvid": (NARROW, CAMVID), "camvid-half": (QUICK, HALF),
            "camvid-crops": (QUICK, CROPS),
            "siftflow": (VGG16, SIFT), "pascalcontext": (VGG16, CONTEXT)}
PUBLISHED = {"voc", "siftflow", "pascalcontext"}  # families whose nets the release has, with a loss that is summed


def family(name: str) -> dict[str, FCN]:
    """The nets of a family: its stages, and the variants of the papers' studies."""
    trunk, data = FAMILIES[name]
    base = FCN(trunk, data, STAGES[32], balance=data.balance)
    nets = {f"fcn{stride}s": replace(base, sources=sources, normalize=name not in PUBLISHED)
            for stride, sources in STAGES.items()}
    nets["fcn8s-atonce"] = replace(nets["fcn8s"], scales=ATONCE)
    nets["fcn32s-fixed"] = replace(base, trunk=replace(trunk, frozen=7))
    nets |= {f"fcn-{source}": replace(base, sources=(source,)) for source in ("pool5", "pool4", "pool3")}
    nets |= {f"fcn{stride}s-learned": replace(base, sources=STAGES[stride], learned=True) for stride in (16, 8)}
    nets |= {f"fcn32s-sampled{percent}": replace(base, keep=percent / 100) for percent in (50, 25)}
    nets |= {f"{each}-balanced": replace(nets[each], normalize=True, balance=f"weights/{name}-balance.binaryproto")
             for each in ("fcn32s", "fcn8s")}
    nets["fcn-atrous"] = replace(base, trunk=replace(trunk, atrous=True, pad=trunk.pad + 16))
    nets["fcn-unpool"] = replace(base, trunk=replace(trunk, unpool=True, same=True))
    return {f"{name}-{variant}": net for variant, net in nets.items()}


ALL = {name: net for each in FAMILIES for name, net in family(each).items()} | {
    "voc-fcn-alexnet": FCN(AlexNet((), (4096, 4096)), VOC, ("fc7",)),
    "voc-fcn-googlenet": FCN(GoogLeNet((), (0, 0)), VOC, ("fc7",)),
    "nyud-fcn32s-color": FCN(VGG16, nyud("color", data=3), STAGES[32], normalize=False),
    "nyud-fcn32s-color-d": FCN(replace(VGG16, first="conv1_1_bgrd"), nyud("color", "depth", color=3, depth=1), STAGES[32],
                               normalize=False),
    "nyud-fcn32s-hha": FCN(VGG16, nyud("hha", data=3), STAGES[32], normalize=False),
    "nyud-fcn32s-color-hha": FCN(VGG16, LATE, STAGES[32], normalize=False),
    "nyud-fcn16s-color-hha": FCN(VGG16, LATE, STAGES[16], normalize=False),
}
# the nets that are kept as files: all stages, and on VOC and NYUDv2 all that the papers tell of
NETS = {name: net for name, net in ALL.items()
        if name.endswith(("-fcn32s", "-fcn16s", "-fcn8s")) and not name.startswith("camvid-crops")
        or name.startswith(("voc-", "nyud-")) and not name.endswith(("-learned", "-unpool", "8s-balanced"))
        or name in ("camvid-half-fcn8s-atonce", "camvid-crops-fcn8s")}


def named(name: str) -> FCN:
    """One of ALL; Error for any other name."""
    if name not in ALL:
        raise Error(f"models/fcn.py: there is no net '{name}'{closest(name, ALL)} (there are {', '.join(ALL)})")
    return ALL[name]


def generate(name: str, split: str = "train") -> Any:
    """The NetParameter of a net: of a split of its data, of 'deploy', or of 'paper', the training net whose loss is a
    mean and whose upsamplings between stages learn. Raises Error for a name or split that is not there."""
    net = named(name)
    data = net.data
    if split == "train":
        split = data.train
    if split not in (*data.splits, "deploy", "paper"):
        raise Error(f"net '{name}' has no split '{split}' (there are {', '.join(data.splits)}, deploy, paper)")
    if split == "paper":
        net, split = replace(net, normalize=True, learned=True), data.train
    made = fcn(net, split)
    made.name = name
    return made


def write(name: str, folder: Path = HERE) -> None:
    """Write NAME/SPLIT.prototxt for each split of the data, deploy.prototxt, and for the release's nets paper.prototxt."""
    net = named(name)
    for split in (*net.data.splits, "deploy", *([] if net.normalize else ["paper"])):
        prototext.write(folder / name / f"{split}.prototxt", generate(name, split),
                        header=f"Written by models/fcn.py; change that, not this. Split: {split}.")


if __name__ == "__main__":
    try:
        for name in sys.argv[1:] or NETS:
            write(name)
    except Error as e:
        sys.exit(str(e))
