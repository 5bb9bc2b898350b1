"""What the studies change in the nets of fcn.py; nobody needs to read this first.

Fixed trunks, single layers without skips, learned upsampling, loss sampling, class weights, a trous and
un-pooling, for any data set; CamVid by recipes for 2 processors (docs/camvid.md); and clouds by one map.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sets import camvid
from trunks import MSRA, OWN, Tops, Trunk, changed, fixed, max_pool, rates, vgg

from netspec import NetSpec
from netspec import layers as L

Nets = dict[str, Any]  # name -> FCN
KEPT = [  # as files in models/studies/
    "voc-fcn32s-fixed", "voc-fcn-pool5", "voc-fcn-pool4", "voc-fcn-pool3", "voc-fcn-atrous",
    "voc-fcn32s-sampled50", "voc-fcn32s-sampled25", "voc-fcn32s-balanced",
    "camvid-half-fcn32s", "camvid-half-fcn16s", "camvid-half-fcn8s", "camvid-half-fcn8s-atonce",
    "camvid-crops-fcn8s", "38cloud-sigmoid-fcn32s", "38cloud-sigmoid-fcn16s", "38cloud-sigmoid-fcn8s"]
QUICK = Trunk(fixed(changed(vgg(2, 2, 3, 3, 3, fc=256, kernel=5), fc6=OWN, fc7=OWN),
                    "conv1", "conv2", "conv3"), same=True)
HALF = camvid(dict(resize=0.5), mirror=True, batch_size=5)
CROPS = camvid(zoom=[0.75, 1.333], brightness=0.4, mirror=True, crop=[288, 384], batch_size=5)


class Normalised(Trunk):
    """Batch normalisation behind each convolution, as in SegNet; in TEST by the mean and variance kept."""

    def rectified(self, n: NetSpec, name: str, number: str) -> Any:
        n[f"bn{number}"] = L.BN(n[name], bn_param=dict(slope_filler=dict(value=1)), param=rates()[:1])
        return super().rectified(n, f"bn{number}", number)


class Doubled(Normalised):
    """Back to the image by five doublings, each a deconvolution of every channel for itself that starts
    bilinear, with a convolution before and behind; for images whose sides are multiples of 32."""

    size = 512

    def build(self, n: NetSpec, at: Any, deepest: str = "fc7", suffix: str = "", train: bool = True) -> Tops:
        tops = super().build(n, at, deepest, suffix, train)
        at = tops["fc7"]
        for i in (5, 4, 3, 2, 1, 0):
            width = self.layers[f"conv{max(i, 1)}_1"]["num_output"]
            learned = dict(weight_filler=MSRA, param=self.layers["fc7"].get("param", rates()))
            n[f"narrow{i}"] = L.Convolution(at, num_output=width, kernel_size=3, stride=1, pad=1, **learned)
            at = self.rectified(n, f"narrow{i}", f"_narrow{i}")
            if i:
                n[f"double{i}"] = self.doubled(n, f"mask{i}", at, width, tops[f"pool{i}"])
                at = n[f"double{i}"]
        return {"fc7": at}

    def doubled(self, n: NetSpec, mask: str, at: Any, width: int, pooled: Any) -> Any:
        """at, of `width` channels, twice as large; pooled: the pooling of its size, whose `mask` is named."""
        settings = dict(num_output=width, group=width, kernel_size=4, stride=2, pad=1, bias_term=False,
                        weight_filler=dict(type="bilinear"))
        return L.Deconvolution(at, convolution_param=settings, param=[dict(lr_mult=1)])

    def cropped(self, up: Any, image: Any) -> Any:
        return L.Crop(up, image, axis=2, offset=[0])


class Unpooled(Doubled):
    """The doublings by un-pooling, as in SegNet: each value where the maximum was, zeros elsewhere."""

    def pool(self, at: Any, own: dict[str, Any]) -> Any:
        return max_pool(at, self.pooled, **own, ntop=2)[0]

    def doubled(self, n: NetSpec, mask: str, at: Any, width: int, pooled: Any) -> Any:
        n[mask] = pooled.fn.tops[1]
        return L.Upsample(at, n[mask], scale=2)


class Plain(Unpooled):
    """Without the normalisation."""

    rectified = Trunk.rectified


class Louder(Plain):
    """What is un-pooled times 2: of one value in four the mean square is again what it was."""

    def doubled(self, n: NetSpec, mask: str, at: Any, width: int, pooled: Any) -> Any:
        return L.Power(super().doubled(n, mask, at, width, pooled), scale=2)


class PlainDoubled(Doubled):
    """Without the normalisation."""

    rectified = Trunk.rectified


DECODERS = {"double": Doubled, "unpool": Unpooled, "unpool-plain": Plain, "unpool-louder": Louder,
            "double-plain": PlainDoubled}


def atrous(trunk: Trunk) -> Trunk:
    """pool5 with stride 1 and fc6 rarefied: a prediction of stride 16 without a skip."""
    layers = changed(trunk.layers, pool5=dict(stride=1), fc6=dict(dilation=2))
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
    return replace(base, loss=lambda n, net, scores, label: L.InfogainLoss(
        scores, label, infogain_loss_param=dict(source=source), loss_param=dict(ignore_label=net.data.void)))


def sigmoid(base: Any) -> Any:
    """One map, of the second class against the first, where the papers have one for each."""
    return replace(base, data=replace(base.data, heads=(replace(base.data.heads[0], classes=1),)))


def variants(family: str, stages: Nets) -> Nets:
    """The studies' nets of a data set, from its FCN-32s, 16s and 8s."""
    mean = {stage: replace(net, normalize=True) for stage, net in stages.items()}
    base = mean["fcn32s"]
    trunk, weights = base.trunk, f"weights/{family}-balance.binaryproto"
    return {
        "fcn32s-fixed": replace(base, trunk=replace(trunk, layers=fixed(trunk.layers, "conv", "fc"))),
        **{f"fcn-{source}": replace(base, sources=(source,)) for source in ("pool5", "pool4", "pool3")},
        **{f"{stage}-learned": replace(mean[stage], learned=True) for stage in ("fcn16s", "fcn8s")},
        **{f"fcn32s-sampled{percent}": sampled(base, percent / 100) for percent in (50, 25)},
        **{f"{stage}-balanced": balanced(mean[stage], weights) for stage in ("fcn32s", "fcn8s")},
        "fcn-atrous": replace(base, trunk=atrous(trunk)),
        "fcn32s-bn": replace(base, trunk=Normalised(**vars(trunk) | dict(same=True))),
        **{f"fcn-{name}": replace(base, trunk=kind(**vars(trunk) | dict(same=True, strides={"fc7": 1})))
           for name, kind in DECODERS.items()},
    }


def nets(papers: Mapping[str, Nets]) -> Nets:
    """All by name. papers: the stages of the papers' data sets."""
    half, crops = ({stage: replace(net, trunk=QUICK, data=data) for stage, net in papers["camvid"].items()}
                   for data in (HALF, CROPS))
    crops = {stage: balanced(net, "weights/camvid-balance.binaryproto") for stage, net in crops.items()}
    quick = {"camvid-half": half, "camvid-crops": crops}
    one = {f"{family}-sigmoid-{stage}": sigmoid(net) for family in ("38cloud", "clouds")
           for stage, net in papers[family].items()}
    return one | {f"{family}-{name}": net for family, stages in {**papers, **quick}.items()
                  for name, net in {**quick.get(family, {}), **variants(family, stages)}.items()}
