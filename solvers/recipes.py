#!/usr/bin/env python3
"""Writes the solvers of the papers' nets: solvers/NAME.prototxt, the papers' recipe, and solvers/heavy/NAME.prototxt, the
recipe that the published nets were trained with. The solvers of the other families are written by hand.

    solvers/recipes.py
"""

from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent


class Place(NamedTuple):
    """A data set as the solvers see it."""

    needs: str
    test_iter: int
    split: tuple[str, str]  # of the nets
    iterations: int  # of the release
    snapshot: int | None


PLACES = {
    "voc": Place("SBD in data/sbd/dataset and VOC2011 in data/voc/VOC2011 (data/voc/README.md)", 736, ("train", "val"), 100000, 4000),
    "nyud": Place("NYUDv2 in data/nyud (data/nyud/README.md)", 654, ("trainval", "test"), 300000, 2000),
    "siftflow": Place("SIFT Flow in data/siftflow (data/siftflow/README.md)", 200, ("trainval", "test"), 300000, None),
    "pascalcontext": Place("VOC2010 and PASCAL-Context in data/pascalcontext (data/pascalcontext/README.md)", 5105, ("train", "val"), 300000, 4000),
}
VGG = "weights/vgg16.caffemodel"
FROM = {  # a weights file that is no stage -> how to get it
    VGG: "the ILSVRC VGG16, fully connected or convolutional, as\n{} (netspec convert weights makes it from a Keras or torchvision file)",
    "weights/alexnet.caffemodel": "the ILSVRC AlexNet with pooling before normalising (CaffeNet), as\n{} (Caffe's own file serves as it is)",
    "weights/googlenet.caffemodel": "the ILSVRC GoogLeNet, as\n{} (Caffe's own file serves as it is)",
    "weights/vgg16-bgrd.caffemodel": "the ILSVRC VGG16 with a fourth input, as\n{}:\n"
    "  netspec convert transplant models/nyud-fcn32s-color-d/trainval.prototxt {} weights/vgg16.caffemodel:conv1_1=conv1_1_bgrd",
    "weights/nyud-color-hha.caffemodel": "the nets of both kinds of image, as\n{}:\n"
    "  netspec convert transplant models/nyud-fcn32s-color-hha/trainval.prototxt {} \\\n"
    "      snapshot/{}nyud-fcn32s-color_iter_{}.caffemodel:color snapshot/{}nyud-fcn32s-hha_iter_{}.caffemodel:hha",
}
CVPR = {  # pixel acc. / mean acc. / mean IU / f.w. IU of the papers' nets
    "voc-fcn32s": "89.1 / 73.3 / 59.4 / 81.4", "voc-fcn16s": "90.0 / 75.7 / 62.4 / 83.0", "voc-fcn8s": "90.3 / 75.9 / 62.7 / 83.2",
    "voc-fcn32s-fixed": "83.0 / 59.7 / 45.4 / 72.0", "nyud-fcn32s-color": "60.0 / 42.2 / 29.2 / 43.9",
    "nyud-fcn32s-color-d": "61.5 / 42.4 / 30.5 / 45.5", "nyud-fcn32s-hha": "57.1 / 35.2 / 24.2 / 40.4",
    "nyud-fcn32s-color-hha": "64.3 / 44.9 / 32.8 / 48.0", "nyud-fcn16s-color-hha": "65.4 / 46.1 / 34.0 / 49.5",
    "siftflow-fcn16s": "85.2 / 51.7 / 39.5 / 76.1",
}
MEAN_IU = {"voc-fcn-alexnet": 39.8, "voc-fcn-googlenet": 42.5, "pascalcontext-fcn32s": 31.8, "pascalcontext-fcn16s": 34.8,
           "pascalcontext-fcn8s": 35.1}  # where the paper gives no more
RELEASED = {
    "voc-fcn32s": "90.5 / 76.5 / 63.6 / 83.5", "voc-fcn16s": "91.0 / 78.1 / 65.0 / 84.3", "voc-fcn8s": "91.2 / 77.6 / 65.5 / 84.5",
    "voc-fcn8s-atonce": "91.1 / 78.5 / 65.4 / 84.4",
}
STEPS = {32: 10000, 16: 10000, 8: 10000}  # of 20 images
HEAVY_RATES = {32: 1e-10, 16: 1e-12, 8: 1e-14}


def stage(name: str) -> int:
    """The stride that a net's name gives; 32 for those trained in one stage."""
    return next((s for s in (16, 8) if f"fcn{s}s" in name and "atonce" not in name), 32)


def before(name: str) -> str:
    """The net whose weights a stage starts from."""
    return name.replace(f"fcn{stage(name)}s", f"fcn{2 * stage(name)}s")


def start(name: str) -> str:
    """The file with what a net in one stage starts from."""
    known = {"voc-fcn-alexnet": "weights/alexnet.caffemodel", "voc-fcn-googlenet": "weights/googlenet.caffemodel",
             "nyud-fcn32s-color-d": "weights/vgg16-bgrd.caffemodel", "nyud-fcn32s-color-hha": "weights/nyud-color-hha.caffemodel"}
    return known.get(name, VGG)


def paper(name: str) -> dict[str, Any]:
    """The papers' recipe: momentum 0.9, 20 images a step, a mean loss, fixed rates, skips 100 times lower a stage."""
    rate = {"voc-fcn-alexnet": 1e-3, "voc-fcn-googlenet": 5e-5}.get(name, 1e-4 * 0.01 ** (5 - stage(name).bit_length() + 1))
    return dict(base_lr=rate, lr_policy="fixed", momentum=0.9, weight_decay=0.0005, iter_size=20, max_iter=10000, display=20,
                average_loss=20, snapshot=1000, random_seed=1)


def heavy(name: str) -> dict[str, Any]:
    """The release's: one image a step, momentum 0.99, a summed loss; AlexNet's is another."""
    place = PLACES[name.partition("-")[0]]
    alexnet = name == "voc-fcn-alexnet"
    rate = 1e-4 if alexnet else 1e-12 if name in ("nyud-fcn32s-color-hha", "siftflow-fcn8s") else HEAVY_RATES[stage(name)]
    iterations = 300000 if name == "voc-fcn8s-atonce" else place.iterations
    return dict(base_lr=rate, lr_policy="fixed", momentum=0.9 if alexnet else 0.99, weight_decay=0.0005, iter_size=20 if alexnet else 1,
                max_iter=iterations, display=20, average_loss=20, **({"snapshot": place.snapshot} if place.snapshot else {}))


def text(name: str, released: bool, train_net: str) -> str:
    """A solver with its header."""
    family = name.partition("-")[0]
    place = PLACES[family]
    fields = heavy(name) if released else paper(name)
    folder = "heavy/" if released else ""
    if stage(name) == 32:
        weights = start(name)
        last = (heavy if released else paper)("nyud-fcn32s-color")["max_iter"]
        needs = FROM[weights].format(weights, weights, folder, last, folder, last)
        run = [name]
    else:
        earlier = before(name)
        weights = f"snapshot/{folder}{earlier}_iter_{(heavy if released else paper)(earlier)['max_iter']}.caffemodel"
        needs = f"the weights of {earlier}"
        run = [earlier, name] if stage(name) == 16 else [before(earlier), earlier, name]
    images = fields["iter_size"] * fields["max_iter"]
    scores = (RELEASED if released else CVPR).get(name)
    expected = f"pixel acc. / mean acc. / mean IU / f.w. IU: {scores}" if scores else \
        f"mean IU: {MEAN_IU[name]}" if name in MEAN_IU and not released else "mean IU: not published"
    how = "the release's recipe" if released else "the paper's recipe"
    lines = [f"{name}, {how}: momentum {fields['momentum']}, {fields['iter_size']} image{'s' * (fields['iter_size'] > 1)} a step, "
             f"rate {fields['base_lr']:.0e}, {'the loss as published' if released else 'the loss a mean over pixels'}.".replace("e-0", "e-"),
             "", "  tools/solve.py " + " ".join(f"solvers/{folder}{each}.prototxt" for each in run), "",
             *f"Needs {place.needs} and {needs}.".split("\n"),
             f"Time: {images:,} images, a GPU's work, not run here; 2 CPU cores need seconds for each image.",
             f"Scores to expect, from {'others who scored the released weights' if released and scores else 'the paper'}, {expected}."]
    body = [f'train_net: "models/{name}/{train_net}.prototxt"', f'test_net: "models/{name}/{place.split[1]}.prototxt"',
            f"test_iter: {place.test_iter}",
            "test_interval: 999999999  # the test net is made here, and scored by tools/score.py", "test_initialization: false",
            f'weights: "{weights}"']
    for key, value in fields.items():
        body.append(f'{key}: "{value}"' if isinstance(value, str) else f"{key}: {value:g}".replace("e-0", "e-"))
    body += [f'snapshot_prefix: "snapshot/{folder}{name}"', "solver_mode: GPU"]
    return "\n".join([*(f"# {line}".rstrip() for line in lines), *body]) + "\n"


def names(released: bool) -> list[str]:
    """The nets with a recipe: models/ has a folder for each; released: that the release has a solver for."""
    found = sorted(p.name for p in (HERE.parent / "models").iterdir() if p.name.partition("-")[0] in PLACES)
    unpublished = ("fixed", "pool5", "pool4", "pool3", "sampled", "balanced", "atrous", "unpool", "googlenet", "fcn16s-color-hha")
    return [n for n in found if not released or not any(word in n for word in unpublished)]


def write() -> None:
    (HERE / "heavy").mkdir(exist_ok=True)
    for released in (False, True):
        for name in names(released):
            split = PLACES[name.partition("-")[0]].split[0]
            own = (HERE.parent / "models" / name / "paper.prototxt").exists() and not released
            path = HERE / ("heavy" if released else "") / f"{name}.prototxt"
            path.write_text(text(name, released, "paper" if own else split), encoding="utf-8")


if __name__ == "__main__":
    write()
