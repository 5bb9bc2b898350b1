#!/usr/bin/env python3
"""R-FCN: object detection by position-sensitive score maps; writes models/NAME/*.prototxt.

    models/rfcn.py            write those that are kept as files
    models/rfcn.py NAME ...   write some, of all that `generate` knows

A trunk with block 5 at the stride of block 4, an RPN on block 4, k^2 (C + 1) score maps and 4 k^2 box maps
on block 5. Names: FAMILY[-kN][-aware][-ohem], as the release has them; each has the nets of its
training end to end (train) and of the four steps (rpn1, rfcn1, rpn2, rfcn2).
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

from classifiers import RESNETS, residual  # noqa: E402 - the path comes first
from trunks import MSRA, Trunk, changed, fixed, rates, vgg  # noqa: E402

from netspec import NetSpec  # noqa: E402
from netspec import layers as L  # noqa: E402
from netspec import params as P  # noqa: E402
from netspec.base.errors import Error, closest, listed  # noqa: E402
from netspec.base.machine import HOME  # noqa: E402
from netspec.proto import text as prototext  # noqa: E402

WEIGHTS = ("bbox_inside_weights", "bbox_outside_weights")
STEPS = ("rpn1", "rfcn1", "rpn2", "rfcn2")  # the paper's four steps of alternating training
JOINED = "joined"  # what tests the last two of them together
RELEASED = "released"  # instead of the training split: as published, all settings beside the nets
REGIONS = ("rois", "labels", "bbox_targets", *WEIGHTS)


@dataclass(frozen=True)
class Data:
    """Images with boxes. classes: with the background. splits: the reader's options; the first trains."""

    classes: int
    splits: Mapping[str, Mapping[str, Any]]
    scales: Sequence[float] = (8, 16, 32)  # of the anchors, with the ratios 0.5, 1, 2
    base: int = 16  # side of the anchor of scale 1
    facts: Mapping[str, Any] = field(default_factory=dict)  # that deploy nets state
    size: tuple[int, int] = (224, 224)  # of a deploy net's image, which can be changed

    @property
    def train(self) -> str:
        return next(iter(self.splits))


@dataclass(frozen=True)
class RFCN:
    """A net. ends: adds the trunk's blocks, each at its rate, and gives their ends."""

    data: Data
    ends: Callable[[NetSpec, Sequence[float]], Sequence[Any]]
    learns: Sequence[float] = (0, 0, 1, 1, 1)  # the rates of the trunk's blocks
    stride: int = 16
    k: int = 7
    aware: bool = False  # boxes for each class, and the RPN on block 5, as released
    ohem: bool = False
    width: int = 1024  # of the layer that the maps stand on
    head: tuple[float, float] = (1, 1)  # rates of that layer and of the maps, which share a vote's gradient
    rpn: int = 512
    apart: int = 256  # of the RPN, trained by itself
    sigma: float = 3  # of the RPN's loss of boxes, end to end
    filler: Any = field(default_factory=lambda: dict(type="gaussian", std=0.01))
    settings: Mapping[str, Any] = field(default_factory=dict)  # of proposals

    @property
    def boxes(self) -> int:
        """Kinds of boxes: one and the background's, or each class's."""
        return self.data.classes if self.aware else 2

    def own(self, released: bool, *keys: str) -> dict[str, Any]:
        """Those of `settings`, which the release has beside its nets."""
        return {key: self.settings[key] for key in keys if key in self.settings and not released}

    @property
    def anchors(self) -> int:
        return 3 * len(self.data.scales)


def said(**settings: Any) -> str:
    """The param_str of a layer, in YAML as in the release."""
    return "\n".join(f"'{key}': {value!r}" for key, value in settings.items())


def new(net: RFCN, at: Any, num_output: int, kernel_size: int = 1, mults: Any = None, **name: Any) -> Any:
    """A convolution that no classifier has."""
    mults = mults or [dict(lr_mult=1), dict(lr_mult=2)]
    return L.Convolution(at, num_output=num_output, kernel_size=kernel_size, pad=kernel_size // 2, stride=1,
                         weight_filler=net.filler, param=mults, **name)


def tops(n: NetSpec, names: Sequence[str], module: str, layer: str, *bottoms: Any, **options: Any) -> None:
    """A layer in Python with several tops."""
    made = L.Python(*bottoms, ntop=len(names), module=module, layer=layer, **options)
    for top, each in zip(names, made if len(names) > 1 else [made], strict=True):
        n[top] = each


def reader(n: NetSpec, net: RFCN, split: str, *names: str, **options: Any) -> None:
    """The tops of a data layer."""
    if split == RELEASED:
        name = "input-data" if "im_info" in names else "data"
        tops(n, names, "roi_data_layer.layer", "RoIDataLayer", name=name,
             param_str=said(num_classes=net.data.classes))
    else:
        tops(n, names, "netspec.datasets", "DetectionData", name="data",
             param_str=str(dict(net.data.splits[split], **options)))


def inputs(n: NetSpec, net: RFCN, *names: str) -> None:
    """What a deploy net reads."""
    shapes = dict(data=[1, 3, *net.data.size], im_info=[1, 3], rois=[1, 5])
    facts: dict[str, Any] = {}
    if net.data.facts:
        facts["python_param"] = dict(param_str=str(dict(net.data.facts)))
    for name in names:
        n[name] = L.Input(shape=[dict(dim=shapes[name])], **(facts if name == "data" else {}))


def anchored(net: RFCN, released: bool, *ours: str) -> str:
    """The param_str of a layer that works on anchors. ours: of `settings`, those it reads."""
    data = net.data
    found: dict[str, Any] = dict(feat_stride=net.stride)
    if data.scales != Data.scales:
        found["scales"] = list(data.scales)
    if data.base != Data.base:
        found["base_size"] = data.base
    return said(**found, **net.own(released, *ours))


def scored(n: NetSpec, net: RFCN, at: Any, width: int, mults: Any = None) -> None:
    """The RPN's maps: whether each anchor is an object, and its box."""
    n["rpn/output"] = new(net, at, width, 3, mults, name="rpn_conv/3x3")
    at = n["rpn_relu/3x3"] = L.ReLU(n["rpn/output"], in_place=True)
    n.rpn_cls_score = new(net, at, 2 * net.anchors, mults=mults)
    n.rpn_bbox_pred = new(net, at, 4 * net.anchors, mults=mults)
    n.rpn_cls_score_reshape = L.Reshape(n.rpn_cls_score, shape=dict(dim=[0, 2, -1, 0]))


def rpn_losses(n: NetSpec, net: RFCN, released: bool, sigma: float = 3) -> None:
    names = [f"rpn_{name}" for name in ("labels", "bbox_targets", *WEIGHTS)]
    bottoms = n.rpn_cls_score, n.gt_boxes, n.im_info, n.data
    tops(n, names, "rpn.anchor_target_layer", "AnchorTargetLayer", *bottoms,
         name="rpn-data", param_str=anchored(net, released, "rpn_normalize_targets", "allowed_border"))
    n.rpn_cls_loss = L.SoftmaxWithLoss(
        n.rpn_cls_score_reshape, n.rpn_labels, name="rpn_loss_cls", propagate_down=[True, False],
        loss_weight=1, loss_param=dict(ignore_label=-1, normalize=True))
    n.rpn_loss_bbox = L.SmoothL1Loss(n.rpn_bbox_pred, *(n[name] for name in names[1:]), loss_weight=1,
                                     sigma=sigma)


def proposals(n: NetSpec, net: RFCN, released: bool, *names: str) -> None:
    """The regions that the RPN proposes."""
    n.rpn_cls_prob = L.Softmax(n.rpn_cls_score_reshape)
    n.rpn_cls_prob_reshape = L.Reshape(n.rpn_cls_prob, shape=dict(dim=[0, 2 * net.anchors, -1, 0]))
    tops(n, names, "rpn.proposal_layer", "ProposalLayer", n.rpn_cls_prob_reshape, n.rpn_bbox_pred, n.im_info,
         name="proposal", param_str=anchored(net, released, "rpn_normalize_targets", "rpn_pre_nms_top_n",
                                             "rpn_post_nms_top_n", "rpn_min_size"))


def regions(n: NetSpec, net: RFCN, released: bool) -> None:
    """Which proposals are trained on, and what they should be."""
    ours = ("agnostic", "batch_size", "fg_fraction", "bg_thresh_lo")
    tops(n, REGIONS, "rpn.proposal_target_layer", "ProposalTargetLayer", n.rpn_rois, n.gt_boxes,
         name="roi-data", param_str=said(num_classes=net.boxes, **net.own(released, *ours)))


def head(n: NetSpec, net: RFCN, at: Any, box: str) -> None:
    """The maps, their pooling at the rois, and the vote of the k^2 bins. box: name of the top with boxes."""
    under, maps = ([dict(lr_mult=rate), dict(lr_mult=2 * rate)] for rate in net.head)
    n.conv_new_1 = new(net, at, net.width, mults=under)
    at = n.conv_new_1_relu = L.ReLU(n.conv_new_1, in_place=True)
    for kind, short, count, top, vote in (
            ("cls", "cls", net.data.classes, "cls_score", "ave_cls_score_rois"),
            ("bbox", "loc", 4 * net.boxes, box, "ave_bbox_pred_rois")):
        n[f"rfcn_{kind}"] = new(net, at, count * net.k ** 2, mults=maps)
        n[f"psroipooled_{short}_rois"] = L.PSROIPooling(
            n[f"rfcn_{kind}"], n.rois, spatial_scale=1 / net.stride, output_dim=count, group_size=net.k)
        n[top] = L.Pooling(n[f"psroipooled_{short}_rois"], name=vote, pool=P.Pooling.AVE, kernel_size=net.k,
                           stride=net.k)


def hard_examples(n: NetSpec) -> tuple[Any, Any]:
    """The labels and weights that leave the regions of largest loss alone."""
    fixed = [False] * 4
    n.temp_loss_cls, n.temp_prob_cls, n.per_roi_loss_cls = L.SoftmaxWithLossOHEM(
        n.cls_score, n.labels, ntop=3, name="per_roi_loss_cls", loss_weight=[0] * 3, propagate_down=fixed[:2])
    n.temp_loss_bbox, n.per_roi_loss_bbox = L.SmoothL1LossOHEM(
        n.bbox_pred, n.bbox_targets, n.bbox_inside_weights, ntop=2, name="per_roi_loss_bbox",
        loss_weight=[0] * 2, propagate_down=fixed[:3])
    n.per_roi_loss = L.Eltwise(n.per_roi_loss_cls, n.per_roi_loss_bbox, propagate_down=fixed[:2])
    n.labels_ohem, n.bbox_loss_weights_ohem = L.BoxAnnotatorOHEM(
        n.rois, n.per_roi_loss, n.labels, n.bbox_inside_weights, ntop=2, name="annotator_detector",
        roi_per_img=128, ignore_label=-1, propagate_down=fixed)
    n.silence = L.Silence(n.bbox_outside_weights, n.temp_loss_cls, n.temp_prob_cls, n.temp_loss_bbox, ntop=0)
    return n.labels_ohem, n.bbox_loss_weights_ohem


def head_losses(n: NetSpec, net: RFCN) -> None:
    left_out: Any = dict(ignore_label=-1) if net.ohem else {}
    if net.ohem:
        labels, weights = hard_examples(n)
    else:
        labels, weights = n.labels, n.bbox_inside_weights
        n.silence = L.Silence(n.bbox_outside_weights, ntop=0)
    n.loss_cls = L.SoftmaxWithLoss(n.cls_score, labels, name="loss", loss_weight=1,
                                   propagate_down=[True, False], loss_param=left_out)
    # so in the release
    n.accuarcy = L.Accuracy(n.cls_score, labels, propagate_down=[False, False], accuracy_param=left_out)
    n.loss_bbox = L.SmoothL1LossOHEM(n.bbox_pred, n.bbox_targets, weights, loss_weight=1,
                                     propagate_down=[True, False, False],
                                     loss_param=dict(normalization="PRE_FIXED", pre_fixed_normalizer=128))


def results(n: NetSpec, net: RFCN) -> None:
    n.cls_prob_pre = L.Softmax(n.cls_score, name="cls_prob")
    n.cls_prob = L.Reshape(n.cls_prob_pre, name="cls_prob_reshape", shape=dict(dim=[-1, net.data.classes]))
    n.bbox_pred = L.Reshape(n.bbox_pred_pre, name="bbox_pred_reshape", shape=dict(dim=[-1, 4 * net.boxes]))


def end_to_end(n: NetSpec, net: RFCN, split: str, steps: bool = False) -> None:
    """steps: with the RPN of the four steps, which the release has on block 4 and of another width."""
    trains, released = split in (net.data.train, RELEASED), split == RELEASED
    if split == "deploy":
        inputs(n, net, "data", "im_info")
    else:
        reader(n, net, split, "data", "im_info", "gt_boxes")
    ends = net.ends(n, net.learns)
    at, width = (3, net.apart) if steps else (4 if net.aware else 3, net.rpn)
    scored(n, net, ends[at], width, None if trains else rates())
    if trains:
        rpn_losses(n, net, released, net.sigma)
    proposals(n, net, released or not trains, "rpn_rois" if trains else "rois")
    if trains:
        regions(n, net, released)
    head(n, net, ends[4], "bbox_pred" if trains else "bbox_pred_pre")
    head_losses(n, net) if trains else results(n, net)


def step(n: NetSpec, net: RFCN, split: str, released: bool, name: str) -> None:
    """A net of the four steps, or of their results: rpn, rfcn. name: the net's, in the paths of proposals."""
    kind, number = split.rstrip("12"), split[-1]
    train = RELEASED if released else net.data.train
    shared = [0] * 4 if number == "2" else net.learns[:4]
    if kind == "rpn":
        if split == kind:
            inputs(n, net, "data", "im_info")
        else:
            reader(n, net, train, "data", "im_info", "gt_boxes")
        scored(n, net, net.ends(n, shared)[3], net.apart)
        if split == kind:
            return proposals(n, net, True, "rois", "scores")
        return rpn_losses(n, net, released)
    if split == kind:
        inputs(n, net, "data", "rois")
    elif released:
        reader(n, net, train, "data", *REGIONS)
    else:
        reader(n, net, train, "data", "im_info", "gt_boxes", "rpn_rois",
               proposer=f"models/{name}/rpn.prototxt", proposals=f"snapshot/{name}-rpn{number}.proposals.npz")
        regions(n, net, released)
    head(n, net, net.ends(n, [*shared, net.learns[4]])[4], "bbox_pred_pre" if split == kind else "bbox_pred")
    results(n, net) if split == kind else head_losses(n, net)


def residual_ends(name: str) -> Callable[[NetSpec, Sequence[float]], Sequence[Any]]:
    def ends(n: NetSpec, mults: Sequence[float]) -> Sequence[Any]:
        own = RESNETS[name]
        return residual(n, **own | dict(units=own["units"][:len(mults) - 1]), mults=mults, dilated=True)

    return ends


def small_ends(n: NetSpec, mults: Sequence[float]) -> Sequence[Any]:
    """Of a trunk like VGG's, stride 8, from scratch."""
    layers = changed(vgg(1, 1, 2, 2, 2, widths=(16, 32, 64, 96, 96)), conv5_1=dict(dilation=2),
                     conv5_2=dict(dilation=2), conv1_1=dict(weight_filler=dict(type="gaussian", std=0.005)))
    layers = fixed(layers, *(f"conv{i}" for i, mult in enumerate(mults, 1) if not mult))
    del layers["pool4"]
    made = Trunk(layers, same=True, common=dict(weight_filler=MSRA)).build(n, n.data, f"conv{len(mults)}_2")
    return [made.get(f"conv{i}_2", made[f"conv{i}_1"]) for i in range(1, len(mults) + 1)]


BOTH = dict(root="data/voc/VOC2007", voc2012="data/voc/VOC2012")
VOC = Data(21, {"train": dict(dataset="voc", **BOTH, split="07+12trainval"),
                "test": dict(dataset="voc", root=BOTH["root"], split="test")})
COCO = Data(81, {split: dict(dataset="coco", root="data/coco", split=f"{split}2014")
                 for split in ("train", "val")}, scales=(4, 8, 16, 32))
SHAPES = Data(5, {split: dict(dataset="shapes", root="data/shapes/images", split=split, scale=96,
                              max_size=128) for split in ("train", "val")},
              scales=(2, 3, 4, 5), facts=dict(dataset="shapes", scale=96, max_size=128), size=(96, 128))
HARD = dict(batch_size=-1, bg_thresh_lo=0.0, rpn_normalize_targets=True)  # with OHEM, as released
FAMILIES = {
    "voc-rfcn-resnet50": RFCN(VOC, residual_ends("resnet50")),
    "voc-rfcn-resnet101": RFCN(VOC, residual_ends("resnet101")),
    "coco-rfcn-resnet101": RFCN(COCO, residual_ends("resnet101"), sigma=1),
    "shapes-rfcn": RFCN(SHAPES, small_ends, (1,) * 5, stride=8, k=3, width=128, rpn=128, apart=128,
                        filler=MSRA),
}


def nets() -> dict[str, RFCN]:
    """All, by name."""
    found = {}
    variants = (None, 1, 3, 7), ("", "-aware"), ("", "-ohem")
    for (family, net), k, aware, ohem in product(FAMILIES.items(), *variants):
        settings = dict(net.settings, **(dict(agnostic=False) if aware else {}), **(HARD if ohem else {}))
        found[f"{family}{f'-k{k}' * bool(k)}{aware}{ohem}"] = replace(
            net, k=k or net.k, aware=bool(aware), ohem=bool(ohem), settings=settings)
    return found


NETS = nets()
KEPT = {**{f"voc-rfcn-resnet{layers}-ohem": ("train", "test", "deploy", *STEPS, "rpn", JOINED)
           for layers in (50, 101)},
        "shapes-rfcn": ("train", "val", "deploy", *STEPS, "rpn")}


def generate(name: str, split: str = "train") -> Any:
    """The NetParameter of a net: of a split of its data, 'deploy', 'released' (for training, as published),
    a step of the four, 'rpn' or 'rfcn' (which their results are tested in), each also as 'released-STEP',
    'joined' (for the last two steps' weights together).
    Raises Error for an unknown name or split."""
    if name not in NETS:
        raise Error(f"models/rfcn.py: there is no net '{name}'{closest(name, NETS)} "
                    f"(there are {listed(NETS)})")
    net, n = NETS[name], NetSpec()
    wholes, parts = ("train", *net.data.splits, "deploy", RELEASED, JOINED), (*STEPS, "rpn", "rfcn")
    part = split.removeprefix(f"{RELEASED}-")
    if part in parts:
        step(n, net, part, part != split, name)
    elif split in wholes:
        of = {"train": net.data.train, JOINED: [*net.data.splits][-1]}.get(split, split)
        end_to_end(n, net, of, split == JOINED)
    else:
        known = ", ".join(dict.fromkeys(wholes + parts))
        raise Error(f"net '{name}' has no split '{split}' (there are {known})")
    made = n.to_proto()
    made.name = name
    return made


def write(name: str, splits: Sequence[str] = (), folder: Path = HOME / "models") -> None:
    """Write SPLIT.prototxt of each split."""
    for split in splits or (*NETS[name].data.splits, "deploy", *STEPS, "rpn", JOINED):
        prototext.write(folder / name / f"{split}.prototxt", generate(name, split),
                        header=f"Written by models/rfcn.py; change that, not this. Split: {split}.")


if __name__ == "__main__":
    try:
        for name in sys.argv[1:] or KEPT:
            write(name, KEPT.get(name, ()))
    except Error as e:
        sys.exit(str(e))
