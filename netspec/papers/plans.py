"""What the papers' studies are: the runs, what the papers say of them, and which results are compared."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

OTHER = 100  # added to a run's seed: another seed
Claim = tuple[str, str, str]  # a label, "above", "like" or "open", and another label


class Run(NamedTuple):
    """A net to train: a variant of the family, what it starts from, how its solver differs."""

    net: str
    after: str = ""  # the run whose weights it starts from
    stages: int = 1  # the budget of so many stages (32s, 16s, 8s) together
    more: int = 1  # times the images a step
    images: int = 0  # a step, one in each batch, at the same number of images in all; 0: as the solver says
    momentum: float = 0  # 0: the solver's
    rate: float = 1  # times the solver's
    longer: float = 1  # times the iterations, where runs whose steps differ are to take the same time
    seed: int = 0  # added to the study's
    fresh: bool = False  # without the score layers of `after`, or from the weights that the solver names
    stitch: int = 0  # not trained: the net of `after`, shifted and stitched to a grid so many times as fine


RUNS = {
    "fcn32s": Run("fcn32s"), "fcn16s": Run("fcn16s", "fcn32s"), "fcn8s": Run("fcn8s", "fcn16s"),
    "fcn16s-learned": Run("fcn16s-learned", "fcn32s"),
    "fcn8s-learned": Run("fcn8s-learned", "fcn16s-learned"),
    "atonce": Run("fcn8s-atonce", stages=3),
    "pool5": Run("fcn-pool5"), "pool4": Run("fcn-pool4", stages=2), "pool3": Run("fcn-pool3", stages=3),
    "sampled50": Run("fcn32s-sampled50", more=2), "sampled25": Run("fcn32s-sampled25", more=4),
    "balanced": Run("fcn32s-balanced"),
    "stitch2": Run("fcn32s", "fcn32s", stitch=2), "stitch4": Run("fcn32s", "fcn32s", stitch=4),
    "trunk": Run("fcn32s", seed=OTHER), "all": Run("fcn32s", "trunk", fresh=True),
    "classifier": Run("fcn32s-fixed", "trunk", fresh=True), "random": Run("fcn32s-fixed"),
    "m90": Run("fcn32s", images=20, momentum=0.9),
    "m99": Run("fcn32s", images=1, momentum=0.99, rate=1 / 200),
    "plain": Run("fcn-unpool-plain"), "plain-fast": Run("fcn-unpool-plain", rate=48),
    "louder": Run("fcn-unpool-louder"), "louder-fast": Run("fcn-unpool-louder", rate=12),
    "normal": Run("fcn-unpool"), "normal-fast": Run("fcn-unpool", rate=48),
    "dense": Run("fcn-double-plain"),
}
RATES = (3, 12, 48, 192)
# meant for the same time; in the run that docs/studies.md shows it was 65, 58 and 69 seconds
STEPS = {"bn32s": Run("fcn32s-bn", longer=3.6), "double": Run("fcn-double", longer=2.1),
         "unpool": Run("fcn-unpool", longer=2)}
RUNS |= {f"{name}-x{rate}{end}": run._replace(rate=rate, seed=seed) for name, run in STEPS.items()
         for rate in RATES for end, seed in (("", 0), ("-tried", OTHER))}


class Study(NamedTuple):
    """What the papers say, the runs that show it by label, and pairs of labels: whether the mean IU of the
    first is said to be "above" the second's or "like" it, or the papers give no figures ("open")."""

    says: str
    runs: Mapping[str, str]
    claims: Sequence[Claim]
    axes: Sequence[str] = ("iterations",)
    rates: Sequence[float] = ()  # times the solver's: each run has the best one of another seed


STUDIES = {
    "sampling": Study(
        "Section 3.4, Figure 5: where each cell of the final layer counts with probability p in the loss, "
        "and a step has 1/p times the images, training converges as fast by iterations and slower by the "
        "clock.",
        {"p = 1": "fcn32s", "p = 0.5": "sampled50", "p = 0.25": "sampled25"},
        [("p = 0.5", "like", "p = 1"), ("p = 0.25", "like", "p = 1")], ("iterations", "seconds")),
    "balancing": Study(
        "Section 4.3: balancing the classes by weights in the loss is not needed. The weights here are by "
        "median frequency.",
        {"plain": "fcn32s", "balanced": "balanced"}, [("balanced", "like", "plain")]),
    "upsampling": Study(
        "The upsampling between stages starts bilinear and learns in the paper; the released nets keep it "
        "fixed.",
        {"16s fixed": "fcn16s", "16s learned": "fcn16s-learned",
         "8s fixed": "fcn8s", "8s learned": "fcn8s-learned"},
        [("16s learned", "open", "16s fixed"), ("8s learned", "open", "8s fixed")]),
    "skips": Study(
        "Section 4.2, Table 2: each skip raises the scores; one layer alone, without skips, does worse (the"
        " journal version has 22.4 for pool4 on VOC). Here pool5 alone has the iterations of the 32s, pool4"
        " those up to the 16s, pool3 of all stages, and all its layers learn in all of them at the rate of "
        "the 32s.",
        {"32s": "fcn32s", "16s": "fcn16s", "8s": "fcn8s",
         "pool5 alone": "pool5", "pool4 alone": "pool4", "pool3 alone": "pool3"},
        [("16s", "above", "32s"), ("8s", "above", "16s"),
         ("16s", "above", "pool4 alone"), ("8s", "above", "pool3 alone")]),
    "stitching": Study(
        "Section 3.2: shift-and-stitch gives finer output without training; the paper found skips to do "
        "more for their cost. Here a trained 32s is stitched to the strides 16 and 8, then upsampled "
        "bilinearly.",
        {"32s": "fcn32s", "16s": "fcn16s", "8s": "fcn8s",
         "32s stitched to 16": "stitch2", "32s stitched to 8": "stitch4"},
        [("32s stitched to 16", "open", "32s"), ("16s", "above", "32s stitched to 16"),
         ("8s", "above", "32s stitched to 8")]),
    "unpooling": Study(
        "Back to the image by un-pooling (the recorded places of the maxima), by as many deconvolutions "
        "with a stride of 2 in the same decoder, and by the one deconvolution of the 32s: the same trunk,"
        " all normalised by batch as SegNet is, as many iterations as take about the same time, and for "
        "each the rate that did best on the same images with another seed. The papers have no such "
        "comparison; nearest is SegNet's Table 1: 47.7 (SegNet-Basic) and 47.3 (FCN-Basic, which adds "
        "maps of the encoder), on CamVid.",
        {"one deconvolution": "bn32s", "five deconvolutions": "double", "un-pooling": "unpool"},
        [("un-pooling", "open", "five deconvolutions"), ("un-pooling", "open", "one deconvolution")],
        ("iterations", "seconds"), RATES),
    "sparseness": Study(
        "Why un-pooling learns slowly. An un-pooled map is 0 at three of four positions, which halves the "
        "deviation of what goes forward and of the gradient that comes back, at each of five. Against it one "
        "by one: a larger rate, un-pooled maps times 2, normalisation by batch; and deconvolutions in their "
        "place. The papers give no figures.",
        {"as it is": "plain", "rate x48": "plain-fast", "times 2": "louder",
         "times 2, rate x12": "louder-fast", "normalised": "normal", "normalised, rate x48": "normal-fast",
         "deconvolutions": "dense"},
        [("deconvolutions", "open", "as it is"), ("normalised, rate x48", "open", "rate x48")]),
    "finetuning": Study(
        "Section 4.3, Table 2: fine-tuning all layers, against the score layer alone over a fixed trunk.",
        {"all layers": "all", "score layer only": "classifier", "score layer, random trunk": "random"},
        [("all layers", "above", "score layer only"),
         ("score layer only", "above", "score layer, random trunk")]),
    "stages": Study(
        "Training in stages against all at once, with scaled skips, the same number of iterations: about "
        "the same on VOC (65.5 and 65.4, of the released nets).",
        {"8s in stages": "fcn8s", "8s at once": "atonce"}, [("8s at once", "like", "8s in stages")]),
    "momentum": Study(
        "Momentum 0.9 with 20 images a step (the paper) against 0.99 with one (the released nets), at 1/200"
        " of the rate, which moves as far an image, over the same number of images.",
        {"0.9, 20 images": "m90", "0.99, 1 image": "m99"},
        [("0.99, 1 image", "open", "0.9, 20 images")], ("images",)),
}
