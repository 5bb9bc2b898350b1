"""The data sets of the nets: where their train and test nets find images and labels."""

from dataclasses import dataclass, field, replace
from typing import Any

from netspec import NetSpec
from netspec import layers as L
from netspec.data.layouts import ILSVRC


@dataclass(frozen=True)
class Head:
    """A prediction: its classes, the top with its truth, and what the names of its layers end in."""

    classes: int
    label: str = "label"
    suffix: str = ""
    loss: str = "loss"


@dataclass(frozen=True)
class Data:
    """A data set: where the train and val nets find it, its images and its classes."""

    heads: tuple[Head, ...]
    splits: dict[str, dict[str, Any]]  # net -> the reader's options; the first is trained on
    void: int = 255
    images: dict[str, int] = field(default_factory=lambda: {"data": 3})  # tops with images -> channels
    facts: dict[str, Any] = field(default_factory=dict)  # that deploy nets state; released ones none
    blind: tuple[str, ...] = ()  # the splits whose images have no labels of their own
    late: bool = False  # each image has a trunk of its own, and scores are averaged; or they are stacked

    @property
    def train(self) -> str:
        return next(iter(self.splits))

    def add(self, n: NetSpec, split: str, *size: int) -> dict[str, str]:
        """Add the tops of a reader, or for deploy Inputs of a side, or height and width; both can be changed.

        Returns what the trunks read, by what the names of their layers end in.
        """
        if split == "deploy":
            said = dict(python_param=dict(param_str=str(self.facts))) if self.facts else {}
            for name, channels in self.images.items():
                n[name] = L.Input(shape=[dict(dim=[1, channels, size[0], size[-1]])], **said)
        else:
            names = [*self.images, *(head.label for head in self.heads if split not in self.blind)]
            tops = L.Python(module="netspec.datasets", layer="SegmentationData", ntop=len(names),
                            param_str=str(self.splits[split]))
            for name, top in zip(names, [tops] if len(names) == 1 else tops, strict=True):
                n[name] = top
        if self.late or len(self.images) == 1:
            return {name if self.late else "": name for name in self.images}
        n.data = L.Concat(*(n[name] for name in self.images))
        return {"": "data"}


def reader(dataset: str, root: str, *splits: str, train: Any = (), options: Any = (), **fields: Any) -> Data:
    """A data set whose splits are files of the same names.

    options: the reader's for all splits; train: for the first, beside a seed.
    """
    known = {split: dict(dataset=dataset, root=root, split=split, **dict(options)) for split in splits}
    known[splits[0]] |= dict(SEED, **dict(train))
    return Data(splits=known, **fields)


def camvid(options: Any = (), **train: Any) -> Data:
    return reader("camvid", "data/camvid/images", "train", "val", "test", heads=(Head(11),), void=11,
                  options=options, train=train, facts=dict(dataset="camvid", **dict(options)))


def nyud(*tops: str, **images: int) -> Data:
    """NYUDv2 with some of its images: the reader's tops, and the net's with their channels."""
    return reader("nyud", "data/nyud", "trainval", "test", heads=(Head(40),), images=images,
                  options=dict(tops=[*tops, "label"]))


def patches(dataset: str, root: str, options: Any = (), **train: Any) -> Data:
    """38-Cloud's four bands, blue, green, red and near infrared, at half their size; test by the scene."""
    options = dict(resize=0.5, **dict(options))
    return reader(dataset, root, "train", "val", "test", heads=(Head(2),), void=-1, images={"data": 4},
                  options=options, train=train, blind=("test",), facts=dict(dataset=dataset, **options))


SEED = dict(seed=1337)
VOC = Data((Head(21),), {"train": dict(dataset="sbd", root="data/sbd/dataset", split="train", **SEED),
                         "val": dict(dataset="voc", root="data/voc/VOC2011", split="seg11valid")})
CONTEXT = reader("pascalcontext", "data/pascalcontext", "train", "val", heads=(Head(60),))
SIFT = reader("siftflow", "data/siftflow", "trainval", "test",
              heads=(Head(33, "sem", "_sem"), Head(3, "geo", "_geo", "loss_geo")))
NYUD_LATE = replace(nyud("color", "hha", color=3, hha=3), late=True)
CAMVID = camvid(mirror=True)
SHAPES = reader("shapes", "data/shapes/images", "train", "val", heads=(Head(5),), train=dict(batch_size=10),
                facts=dict(dataset="shapes"))
# as the release trains, which draws angles and factors from lists, and zooms into a corner or the middle
CLOUD = patches("38cloud", "data/38cloud", mirror=True, rotate=[4, 20, 0.5], zoom=[1.2, 2.5, 0.5],
                crop=[192, 192], options=dict(
                    # that of the trunk's images; of near infrared, whose weights begin as the mean of the
                    # others', their mean
                    mean=[*ILSVRC, round(sum(ILSVRC) / 3, 5)]))
CLOUDS = patches("clouds", "data/clouds/images", batch_size=6, mirror=True)
