"""What the studies change in the nets of fcn.py: nobody needs to read this first.

Fixed trunks, single layers without skips, learned upsampling, loss sampling, class weights, a trous, un-pooling; and CamVid
by recipes for a processor (docs/camvid.md). Any of them exists for any data set; those KEPT are files in models/studies/.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sets import camvid
from trunks import MSRA, NARROW, Trunk, max_pool, rates, vgg

from netspec import NetSpec
from netspec import layers as L

Nets = dict[str, Any]  # name -> FCN
KEPT = [f"voc-{name}" for name in ("fcn32s-fixed", "fcn-pool5", "fcn-pool4", "fcn-pool3", "fcn32s-sampled50",
                                   "fcn32s-sampled25", "fcn32s-balanced", "fcn-atrous")]
KEPT += ["camvid-half-fcn32s", "camvid-half-fcn16s", "camvid-half-fcn8s", "camvid-half-fcn8s-atonce", "camvid-crops-fcn8s"]
QUICK = replace(NARROW, layers=vgg(2, 2, 3, 3, 3, fc=256, kernel=5), same=True, frozen=3)
HALF = camvid(dict(resize=0.5), mirror=True, batch_size=5)
CROPS = camvid(zoom=[0.75, 1.333], brightness=0.4, mirror=True, crop=[288, 384], batch_size=5)


class Unpooled(Trunk):
    """Un-pooling back to the image, a convolution before each; for images whose sides are multiples of 32."""

    size = 512

    def build(self, n: NetSpec, at: Any, deepest: str = "fc7", suffix: str = "", train: bool = True) -> dict[str, Any]:
        tops = super().build(n, at, deepest, suffix, train)
        at = tops["fc7"]
        for i in (5, 4, 3, 2, 1):
            n[f"mask{i}"] = tops[f"pool{i}"].fn.tops[1]
            n[f"narrow{i}"] = L.Convolution(
                at, num_output=self.layers[f"conv{i}_1"]["num_output"], kernel_size=3, stride=1, pad=1,
                param=rates(self.fc_mult * (self.frozen < 6)), weight_filler=self.filler or MSRA)
            n[f"relu_narrow{i}"] = L.ReLU(n[f"narrow{i}"], in_place=True)
            at = n[f"unpool{i}"] = L.Upsample(n[f"relu_narrow{i}"], n[f"mask{i}"], scale=2)
        return {"fc7": at}

    def pool(self, at: Any, own: dict[str, Any]) -> Any:
        return max_pool(at, self.pooled, **own, ntop=2)[0]

    def cropped(self, up: Any, image: Any) -> Any:
        return L.Crop(up, image, axis=2, offset=[0])


def atrous(trunk: Trunk) -> Trunk:
    """pool5 with stride 1 and fc6 rarefied: a prediction of stride 16 without a skip."""
    layers = trunk.layers | {"pool5": dict(stride=1), "fc6": trunk.layers["fc6"] | dict(dilation=2)}
    return replace(trunk, layers=layers, pad=trunk.pad + 16, strides={"fc7": 16})


def sampled(base: Any, keep: float) -> Any:
    """Each cell of the coarsest layer counts in the loss with probability `keep`."""
    def loss(n: NetSpec, net: Any, scores: Any, label: Any) -> Any:
        n.sampled = L.Python(label, module="netspec.sampling", layer="LossSampling",
                             param_str=str(dict(keep=keep, cell=32, void=net.data.void)))
        return base.loss(n, net, scores, n.sampled)

    return replace(base, loss=loss)


def balanced(base: Any, source: str) -> Any:
    """source: a file with the weights of classes, as a matrix for InfogainLoss."""
    def loss(n: NetSpec, net: Any, scores: Any, label: Any) -> Any:
        return L.InfogainLoss(scores, label, infogain_loss_param=dict(source=source),
                              loss_param=dict(ignore_label=net.data.void))

    return replace(base, loss=loss)


def variants(family: str, stages: Nets) -> Nets:
    """The studies' nets of a data set, from its FCN-32s, 16s and 8s."""
    mean = {stage: replace(net, normalize=True) for stage, net in stages.items()}
    base = mean["fcn32s"]
    trunk, weights = base.trunk, f"weights/{family}-balance.binaryproto"
    return {
        "fcn32s-fixed": replace(base, trunk=replace(trunk, frozen=7)),
        **{f"fcn-{source}": replace(base, sources=(source,)) for source in ("pool5", "pool4", "pool3")},
        **{f"{stage}-learned": replace(mean[stage], learned=True) for stage in ("fcn16s", "fcn8s")},
        **{f"fcn32s-sampled{percent}": sampled(base, percent / 100) for percent in (50, 25)},
        **{f"{stage}-balanced": balanced(mean[stage], weights) for stage in ("fcn32s", "fcn8s")},
        "fcn-atrous": replace(base, trunk=atrous(trunk)),
        "fcn-unpool": replace(base, trunk=Unpooled(**vars(trunk) | dict(same=True, strides={"fc7": 1}))),
    }


def nets(papers: Mapping[str, Nets]) -> Nets:
    """All by name, of the papers' data sets (each with its stages by name) and of CamVid by recipes for a processor."""
    stages = papers["camvid"].items()
    quick = {"camvid-half": {stage: replace(net, trunk=QUICK, data=HALF) for stage, net in stages},
             "camvid-crops": {stage: balanced(replace(net, trunk=QUICK, data=CROPS), "weights/camvid-balance.binaryproto")
                              for stage, net in stages}}
    return {f"{family}-{name}": net for family, own in {**papers, **quick}.items()
            for name, net in {**quick.get(family, {}), **variants(family, own)}.items()}
