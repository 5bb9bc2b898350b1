#!/usr/bin/env python3
"""Writes the solvers of the papers' nets: solvers/NAME.prototxt, the papers' recipe, and
solvers/heavy/NAME.prototxt, that of the published nets. The solvers of other data sets are written by hand.

    solvers/recipes.py
"""

import sys
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from netspec.base.machine import HOME  # noqa: E402 - the path comes first
from netspec.papers.published import PAPER, RELEASED  # noqa: E402
from netspec.train.validation import interval  # noqa: E402

HERE = Path(__file__).resolve().parent
MODELS = {path.parent.name: path.parent for path in sorted((HERE.parent / "models").rglob("deploy.prototxt"))}


class Place(NamedTuple):
    """A data set as the solvers see it."""

    needs: str
    test_iter: int
    iterations: int  # of the release; 0: there is none
    snapshot: int | None


PLACES = {
    "voc": Place("SBD in data/sbd/dataset and VOC2011 in data/voc/VOC2011 (data/voc/README.md)",
                 736, 100000, 4000),
    "nyud": Place("NYUDv2 in data/nyud (data/nyud/README.md)", 654, 300000, 2000),
    "siftflow": Place("SIFT Flow in data/siftflow (data/siftflow/README.md)", 200, 300000, None),
    "pascalcontext": Place("VOC2010 in data/voc/VOC2010 and PASCAL-Context in data/pascalcontext "
                           "(data/pascalcontext/README.md)", 5105, 300000, 4000),
    # a fifth of the patches that are not empty, whose number no page says: a test counts each once
    "38cloud": Place("38-Cloud in data/38cloud (data/38cloud/README.md)", 1031, 0, None),
}
VGG = "weights/vgg16.caffemodel"
TRANSPLANT = "netspec convert transplant {net}/%s.prototxt {file} \\\n      "
START = {  # of a net that is trained in one stage; others: VGG
    "voc-fcn-alexnet": "weights/alexnet.caffemodel", "voc-fcn-googlenet": "weights/googlenet.caffemodel",
    "nyud-fcn32s-color-d": "weights/vgg16-bgrd.caffemodel",
    "nyud-fcn32s-color-hha": "weights/nyud-color-hha.caffemodel",
    **dict.fromkeys(("38cloud-fcn32s", "38cloud-sigmoid-fcn32s"), "weights/vgg16-bgrn.caffemodel")}
FROM = {  # a weights file that is no stage -> how to get it
    VGG: "the ILSVRC VGG16, fully connected or convolutional, as\n{file} (netspec convert weights makes it "
    "from a Keras or torchvision file)",
    "weights/alexnet.caffemodel": "the ILSVRC AlexNet with pooling before normalising (CaffeNet), as\n{file} "
    "(Caffe's own file serves)",
    "weights/googlenet.caffemodel": "the ILSVRC GoogLeNet, as\n{file} (Caffe's own file serves)",
    "weights/vgg16-bgrd.caffemodel": "the ILSVRC VGG16 with a fourth input, as {file}:\n  " + TRANSPLANT
    % "trainval" + VGG + ":conv1_1=conv1_1_bgrd " + VGG,
    "weights/vgg16-bgrn.caffemodel": "the ILSVRC VGG16 for near infrared too, as {file}:\n  " + TRANSPLANT
    % "train" + VGG + " --rescale",
    "weights/nyud-color-hha.caffemodel": "the nets of both kinds of image, as {file}:\n  " + TRANSPLANT
    % "trainval" + "snapshot/{folder}nyud-fcn32s-color_iter_{last}.caffemodel:color "
    "snapshot/{folder}nyud-fcn32s-hha_iter_{last}.caffemodel:hha",
}
BALANCE = ("weights/voc-balance.binaryproto, which this writes:\n"
           "  netspec data check models/voc-fcn32s/train.prototxt --balance weights/voc-balance.binaryproto")
RATES, HEAVY_RATES = {32: 1e-4, 16: 1e-6, 8: 1e-8}, {32: 1e-10, 16: 1e-12, 8: 1e-14}


def stage(name: str) -> int:
    """The stride that a net's name gives; 32 for those trained in one stage."""
    return next((s for s in (16, 8) if f"fcn{s}s" in name and "atonce" not in name), 32)


def before(name: str) -> str:
    """The net whose weights a stage starts from."""
    return name.replace(f"fcn{stage(name)}s", f"fcn{2 * stage(name)}s")


def paper(name: str) -> dict[str, Any]:
    """The papers' recipe: momentum 0.9, 20 images a step, a mean loss, fixed rates, 100 times lower a stage.

    A step of a loss that counts a part p of the cells has 1/p times the images.
    """
    rate = {"voc-fcn-alexnet": 1e-3, "voc-fcn-googlenet": 5e-5}.get(name, RATES[stage(name)])
    images = 20 * {"sampled50": 2, "sampled25": 4}.get(name.rpartition("-")[2], 1)
    return dict(base_lr=rate, lr_policy="fixed", momentum=0.9, weight_decay=0.0005, iter_size=images,
                max_iter=10000, display=20, average_loss=20, snapshot=1000, random_seed=1)


def heavy(name: str) -> dict[str, Any]:
    """The release's: one image a step, momentum 0.99, a summed loss; AlexNet's is another."""
    place = PLACES[name.partition("-")[0]]
    alexnet = name == "voc-fcn-alexnet"
    other = {"voc-fcn-alexnet": 1e-4, "nyud-fcn32s-color-hha": 1e-12, "siftflow-fcn8s": 1e-12}
    rate = other.get(name, HEAVY_RATES[stage(name)])
    iterations = 300000 if name == "voc-fcn8s-atonce" else place.iterations
    return dict(base_lr=rate, lr_policy="fixed", momentum=0.9 if alexnet else 0.99, weight_decay=0.0005,
                iter_size=20 if alexnet else 1, max_iter=iterations, display=20, average_loss=20,
                **({"snapshot": place.snapshot} if place.snapshot else {}))


def expected(name: str, released: bool) -> str:
    """What the header says of the scores."""
    scores = (RELEASED if released else PAPER).get(name)
    if not scores:
        return "Scores to expect: none were published, nor a mean IU."
    whose = "others who scored the released weights" if released else "the paper"
    if scores[0] is None:
        return f"Scores to expect, from {whose}: mean IU {scores[2]}."
    found = " / ".join(map(str, scores[:4]))
    return f"Scores to expect, from {whose}: pixel acc. / mean acc. / mean IU / f.w. IU {found}."


def text(name: str, released: bool) -> str:
    """A solver with its header."""
    place = PLACES[name.partition("-")[0]]
    recipe, folder = (heavy, "heavy/") if released else (paper, "")
    fields = recipe(name)
    net = MODELS[name].relative_to(HERE.parent).as_posix()
    there = {path.stem for path in MODELS[name].iterdir()}
    train = next(split for split in ("paper", "train", "trainval")[released:] if split in there)
    test = next(split for split in ("val", "test") if split in there)
    if stage(name) == 32:
        weights, run, last = START.get(name, VGG), [name], recipe("nyud-fcn32s-color")["max_iter"]
        needs = FROM[weights].format(file=weights, net=net, folder=folder, last=last)
    else:
        earlier = before(name)
        weights = f"snapshot/{folder}{earlier}_iter_{recipe(earlier)['max_iter']}.caffemodel"
        needs, run = f"the weights of {earlier}", [earlier, name]
        if stage(name) == 8:
            run.insert(0, before(earlier))
    if name.endswith("balanced"):
        needs += f", and\n{BALANCE}"
    size = fields["iter_size"]
    rate = f"{fields['base_lr']:.0e}".replace("e-0", "e-")
    header = [
        f"{name}, the {'release' if released else 'paper'}'s recipe: momentum {fields['momentum']}, {size} "
        f"image{'s' * (size > 1)} a step, rate {rate}, the loss "
        f"{'as published' if released else 'a mean over pixels'}.",
        "", "  tools/solve.py " + " ".join(f"solvers/{folder}{each}.prototxt" for each in run), "",
        *f"Needs {place.needs} and\n{needs}".split("\n"),
        f"Time: {size * fields['max_iter']:,} images, a GPU's work, not run here; 2 CPU cores need seconds "
        "for each image.",
        expected(name, released)]
    often = "999999999  # the test net is made here, and scored by tools/score.py"
    if test == "val" and not released:  # images to choose by; those of a test split are for the end
        often = f"{interval(place.test_iter, size, fields['max_iter'])}"
    body = [f'train_net: "{net}/{train}.prototxt"', f'test_net: "{net}/{test}.prototxt"',
            f"test_iter: {place.test_iter}", f"test_interval: {often}",
            "test_initialization: false", f'weights: "{weights}"']
    for key, value in fields.items():
        written = f'"{value}"' if isinstance(value, str) else f"{value:g}".replace("e-0", "e-")
        body.append(f"{key}: {written}")
    body += [f'snapshot_prefix: "snapshot/{folder}{name}"', "solver_mode: GPU"]
    return "\n".join([*(f"# {line}".rstrip() for line in header), *body]) + "\n"


def names(released: bool) -> list[str]:
    """The nets in models/ with a recipe; released: that the release has a solver for."""
    unreleased = ("voc-fcn-googlenet", "nyud-fcn16s-color-hha")
    families = {family for family, place in PLACES.items() if place.iterations or not released}
    return [name for name, path in MODELS.items() if name.partition("-")[0] in families and "-fcn" in name
            and not (released and (name in unreleased or path.parent.name == "studies"))]


if __name__ == "__main__":
    for released, folder in ((False, HOME / "solvers"), (True, HOME / "solvers" / "heavy")):
        folder.mkdir(parents=True, exist_ok=True)
        for name in names(released):
            (folder / f"{name}.prototxt").write_text(text(name, released), encoding="utf-8")
