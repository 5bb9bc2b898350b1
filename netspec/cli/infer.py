"""`netspec infer`: segment images, or find objects in them."""

import argparse
import math
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..base import log
from ..base.errors import Error, count
from ..base.files import find
from ..data.layouts import BOXED, LAYOUTS, Facts, facts
from ..data.options import read_file
from . import archive, scenes
from .finding import find_net, find_weights, is_weights
from .options import (
    add_box_arguments,
    add_look_arguments,
    add_net_arguments,
    draws,
    engine,
    fraction,
    loaded,
    mixed,
    only,
    tile,
    wrote,
)
from .telling import Telling, as_percent, files_of, shares
from .terminal import say

if TYPE_CHECKING:
    from ..data.facts import Known
    from ..proto.caffe_pb2 import NetParameter
    from ..score.predict import Looks


def add_arguments(parser: argparse.ArgumentParser) -> None:
    mixed(parser)
    parser.usage = ("%(prog)s NET [WEIGHTS] IMAGE ... [--out DIR] [options]\n       "
                    "%(prog)s NET [WEIGHTS] --list FILE|FOLDER --out DIR [options]")
    add_net_arguments(parser, "deploy net, or a val net without its data; or the name of one in models/")
    parser.add_argument("image", nargs="*", metavar="[WEIGHTS] IMAGE",
                        help="images of any size, folders, patterns, videos; - is standard input. Before "
                        "them WEIGHTS: .caffemodel or .caffemodel.h5 (default: what `netspec weights` has of "
                        "the net's name)")
    parser.add_argument("--out", default=".", metavar="DIR",
                        help="gets NAME_labels.png and NAME_overlay.png, or NAME_boxes.png (default: the "
                        "current folder)")
    parser.add_argument("--dataset", metavar="NAME",
                        help=f"{', '.join(LAYOUTS | BOXED)} or a data set file: its names and colours, "
                        "and its mean where the net says none (default: what the net says; of released nets, "
                        "what their name does)")
    parser.add_argument("--mean", type=three, metavar="B,G,R", help="to subtract from images (0 to 255); of "
                        "scenes a fourth, near infrared's")
    parser.add_argument("--classes", metavar="CLASS,...", help="show and tell these alone, by name or number")
    parser.add_argument("--alpha", type=fraction, default=0.55, metavar="A",
                        help="share of the classes' colours in the overlay, 0 to 1 (default 0.55)")
    parser.add_argument("--cutout", metavar="CLASS", help="also NAME_cutout.png: this class alone, all else "
                        "transparent")
    parser.add_argument("--scores", action="store_true",
                        help="also NAME_scores.npy: the scores, float32, classes x height x width")
    parser.add_argument("--tile", type=tile, metavar="N",
                        help="compute images larger than N pixels a side in tiles of N, which give the whole "
                        "image's scores; auto: those that there is no memory for, in tiles that it holds")
    parser.add_argument("--json", action="store_true", help="one JSON object at the end instead of lines")
    parser.add_argument("--dense", nargs="*", metavar="CLASS",
                        help="a classifier, made convolutional, over the whole image: NAME_dense_CLASS.png, "
                        "how probable each of these classes (names or numbers) is where, or NAME_dense.png, "
                        "the three that are most so; at several --scales the maps are enlarged to the image "
                        "and averaged; stands behind the images")
    parser.add_argument("--names", metavar="FILE", help="with --dense: the names of the classes, one a line, "
                        "or as in ILSVRC's synset_words.txt (default: what the net or --dataset says)")
    add_look_arguments(parser)
    add_box_arguments(parser)
    parser.add_argument("--threshold", metavar="P,CLASS=P,...",
                        help="nets that detect: the score that a box must have more than to be drawn and "
                        "told, of all classes or of one (default 0.5)")
    parser.add_argument("--voc", metavar="SPLIT", help="nets that detect: also VOC's result files, "
                        "comp4_det_SPLIT_CLASS.txt, with boxes of any score, whatever --threshold is")
    scenes.add_arguments(parser)
    archive.add_arguments(parser)


SEGMENTING = "alpha", "cutout", "scores", "tile", "scales", "flip", "engine", "samples", "seed"
DETECTING = "threshold", "voc", "nms", "most"
SCENES = "protocol", "bands"
NOT_DENSE = "classes", "cutout", "tile", "samples", "seed", *DETECTING, *SCENES


def run(args: argparse.Namespace) -> int:
    from ..net.detections import pools_regions
    from ..proto.text import read_net

    path, weights = _net_and_weights(args)
    if args.list is not None:
        archive.check(args, add_arguments)
    elif alone := [name for name in archive.ITS if getattr(args, name) not in (None, False)]:
        raise Error(f"--{alone[0]} goes with --list")
    told, net = Telling(args.json), read_net(path)
    boxes = pools_regions(net.layer)
    if boxes and args.list is not None:
        raise Error(f"{path} finds objects in images, and --list is of nets that segment; give it the images")
    if args.dense is not None and not boxes:
        only(args, add_arguments, NOT_DENSE, "a classifier run with --dense has no such thing")
        return _dense(args, path, weights, net, told)
    scene = not boxes and scenes.wanted(args, net, path)
    if scene and args.list is not None:
        raise Error(f"{path} finds clouds in whole scenes, and --list is of images; give it the scenes")
    what, work, strange = (
        ("finds objects in images", _find, (*SEGMENTING, "dense", "names", *SCENES)) if boxes else
        ("finds clouds in whole scenes", scenes.run, scenes.STRANGE) if scene else
        ("segments images", _segment, (*DETECTING, "names", *SCENES)))
    only(args, add_arguments, strange, f"{path} {what}, and has no such thing")
    return work(args, path, weights, net, told)


def _segment(args: argparse.Namespace, path: Path, weights: Path, proto: "NetParameter", told: Telling
             ) -> int:
    from ..net import judged
    from ..net.deploy import scored
    from ..score import predict, results
    from ..score.segment import Segmenter
    from ..score.stream import segmented
    from ..score.tiles import Tiler

    blob = args.score_blob or scored(proto)
    files = files_of(args.image, Path(args.out), told)
    wanted = results.Wanted(args.alpha, cutout=() if args.cutout else None, scores=args.scores,
                            unsure=args.samples > 0)
    outputs = results.Outputs(Path(args.out), files, wanted.files)
    try:
        net, top, channels, known = predict.image_net(proto, blob, path)
    except Error as error:
        if args.score_blob or all(layer.type != "InnerProduct" for layer in proto.layer):
            raise
        raise Error(f"{error}; a classifier is run over whole images with --dense") from None
    if channels not in (1, 3):
        raise Error(f"{path}: blob '{top}' has {channels} channels; images have 3 (colour) or 1 (grey)")
    made = predict.sample(net, top, channels, path)
    classes = judged.classes(made, blob)
    facts, mean = _settle(args, [net.name, path.stem, path.parent.name], known, classes, channels, blob)
    looks = predict.looks(facts, classes)
    wanted = replace(wanted, classes=results.classes_of(args.classes, looks, "--classes"),
                     cutout=results.classes_of(args.cutout, looks, "--cutout"))
    using, sampling = engine(args, weights, told.note), draws(args, made, told.note)
    if args.tile and (using or sampling or args.flip or args.scales != (1.0,)):
        raise Error("--tile goes without --scales, --flip, --samples and --engine: tiles are of one look by "
                    "torch")
    if args.list is not None:
        return archive.run(args, archive.job(args, path, weights, blob, mean, looks, wanted, sampling))
    if files:
        filled = loaded(args, made, weights, args.by_name)
        with closing(log.make()) as said:
            segmenter = Tiler(filled, blob, mean, known.scale, None if args.tile == "auto" else args.tile,
                              lambda done, total, name: said.progress("infer", done, total, name, 1)
                              ) if args.tile else Segmenter(filled, blob, mean, known.scale, args.scales,
                                                            args.flip, using, sampling, told.note)
            told.all(segmented(files, segmenter, outputs, looks, wanted, known.resize), shares)
    return told.end({**_given(args, path, weights), **_classes(looks)})


def _find(args: argparse.Namespace, path: Path, weights: Path, proto: "NetParameter", told: Telling
          ) -> int:
    from ..data import boxes, layouts
    from ..net.detections import SCORES, BoxReader, Rules
    from ..score import objects, predict, results
    from ..score.detect import object_class, thresholds
    from ..score.frames import stem_of
    from ..score.stream import streamed

    files = files_of(args.image, Path(args.out), told)
    outputs = results.Outputs(Path(args.out), files, {"boxes": "_boxes.png"})
    scene = objects.scene(proto, path)
    reader = BoxReader(scene.graph, args.score_blob or SCORES)
    named = layouts.facts(boxes.layout(args.dataset), "boxes") if args.dataset else scene.known.facts
    looks = predict.looks(named, reader.classes)
    shown = results.classes_of(args.classes, looks, "--classes")
    if args.voc is not None:
        objects.voc_paths(Path(args.out), args.voc, looks.names, map(stem_of, files))
    if named and len(named.names) != reader.classes:
        told.note(_differs(len(named.names), reader.blobs[1], reader.classes))
    if shown and 0 in shown:
        object_class("0", looks, "--classes")

    def rules(least: Sequence[float]) -> Rules:
        above = [each if shown is None or number in shown else math.inf for number, each in enumerate(least)]
        return Rules(above, args.nms, args.most)

    reader.rules, rows = rules(thresholds(args.threshold, looks)), []
    filed = None if args.voc is None else rules([-math.inf] * len(looks.names))
    if files:
        net = loaded(args, scene.graph, weights, args.by_name)
        finder = objects.BoxFinder(net, scene, reader, args.mean, filed)
        seen = streamed(files, finder, outputs, finder.seen, lambda each: objects.keep(each, looks))
        told.all(seen, _counts)
        rows = finder.rows
    if args.voc is not None and told.errors:
        told.note(f"VOC's result files are not written: they would lack {count(len(told.errors), 'image')}")
    elif args.voc is not None:
        wrote(*objects.save_voc(Path(args.out), args.voc, looks.names, rows), file=sys.stderr)
    return told.end({**_given(args, path, weights), **_classes(looks)})


def _dense(args: argparse.Namespace, path: Path, weights: Path, proto: "NetParameter", told: Telling
           ) -> int:
    from ..score import heats, predict, results
    from ..score.dense import DenseClassifier, dense
    from ..score.stream import streamed

    files = files_of(args.image, Path(args.out), told)
    of = dense(proto, path, args.score_blob)
    named = [of.form.name, path.stem, path.parent.name]
    facts, mean = _settle(args, named, of.known, of.classes, of.channels, of.blob)
    names = (heats.read_names(find(args.names, what="--names"), of.classes) if args.names
             else heats.names_of(predict.looks(facts, of.classes).names))
    wanted = heats.Heats(names.names, args.alpha, names.numbers(args.dense), args.scores)
    outputs = results.Outputs(Path(args.out), files, wanted.files)
    using, timing = engine(args, weights, told.note), None
    if files:
        net = loaded(args, of.classifier, weights, args.by_name)
        viewer = DenseClassifier(net, of, mean, args.scales, args.flip, using)
        told.all(streamed(files, viewer, outputs, viewer.seen, wanted.keep, of.known.resize), _peaks)
        timing = viewer.timing
        if timing and not args.json:
            say(timing.words(of))
    return told.end({**_given(args, path, weights), **({"timing": timing._asdict()} if timing else {})})


def _given(args: argparse.Namespace, path: Path, weights: Path) -> dict[str, Any]:
    """What --json says of what worked."""
    return {"net": str(path), "weights": str(weights),
            **({"engine": args.engine} if args.engine != "torch" else {})}


def _classes(looks: "Looks") -> dict[str, Any]:
    """What --json says of all classes of a net: their names, and colours, red, green, blue."""
    return {"names": list(looks.names), "palette": looks.palette[: len(looks.names)].tolist()}


def _net_and_weights(args: argparse.Namespace) -> tuple[Path, Path]:
    """The files of both; args.image is left with the images, args.by_name says that no weights are given."""
    from ..proto.wire import head, is_text

    path, given = find_net(args.net, "deploy"), None
    if path.is_file() and not is_text(head(path)):
        raise Error(f"{args.net} is binary (weights, a picture?) and stands where a net is expected; the "
                    "order is: netspec infer NET [WEIGHTS] IMAGE ...")
    if args.image and is_weights(args.image[0]):
        given, *args.image = args.image
    if not args.image and args.list is None:
        raise Error(f"no IMAGE is given: {given} holds weights" if given else "no IMAGE is given, nor --list")
    args.by_name = given is None
    return path, find_weights(given, path)


def _peaks(found: dict[str, Any]) -> str:
    return ", ".join(f"{c['name']} {as_percent(c['most'])} at {c['at'][0]},{c['at'][1]}"
                     for c in found["classes"])


def _counts(found: dict[str, Any]) -> str:
    if not found["boxes"]:
        near = found["surest"]
        return (f"none above {near['above']:g}; surest: {near['name']} {near['score']:.3g}" if near else
                "none: the net proposed no region")
    many = Counter(box["name"] for box in found["boxes"])
    return ", ".join(f"{number} {name}" for name, number in many.items())


def three(text: str) -> tuple[float, ...]:
    """A mean: one, three or four numbers with commas between them; argparse's error for anything else."""
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) not in (1, 3, 4) or not all(map(math.isfinite, numbers)):
        raise argparse.ArgumentTypeError(f"expected three numbers B,G,R, found '{text}'")
    return numbers


def _settle(args: argparse.Namespace, names: Sequence[str], known: "Known", classes: int, channels: int,
            blob: str) -> tuple[Facts | None, Sequence[float]]:
    """What names and colours are from, and the mean: as told, as the net says, or by a released net's name.

    names: those that the net goes by.
    """
    import numpy as np

    from ..data.facts import by_name

    told = facts(args.dataset) if args.dataset else known.facts
    guessed = None if told else by_name(names, classes)
    found = guessed[1] if guessed else told
    mean = args.mean or known.mean
    if mean is None:
        if not found or not (args.dataset or guessed):
            raise Error(f"{args.net} does not say which mean to subtract: give --mean B,G,R, or --dataset "
                        "with what it was trained on, a name or a data set file"
                        f"{_beside(args.net, names[0])}")
        if str(args.dataset).endswith(".txt") and "mean" not in read_file(Path(args.dataset)):
            say(f"note: {args.dataset} names no mean, and ILSVRC's is subtracted: right for a net that was "
                "trained so (else give --mean B,G,R)", file=sys.stderr)
        mean = found.mean if channels > 1 else (float(np.mean(found.mean)),)
    if guessed:
        mean_too = "" if args.mean or known.mean else f", mean {','.join(f'{m:g}' for m in mean)}"
        say(f"assumed --dataset {guessed[0]}, by the net's name: its names, colours{mean_too}",
            file=sys.stderr)
    elif found and len(found.names) != classes:
        say(f"note: {_differs(len(found.names), blob, classes)}", file=sys.stderr)
    if len(mean) not in (1, channels):
        raise Error(f"a mean of {len(mean)} numbers is given for images of {channels} channels")
    return found, mean


def _differs(known: int, blob: str, classes: int) -> str:
    shown = "all" if known > classes else "the last"
    return f"the data set has {known} classes and '{blob}' {classes}: {shown} are shown as numbers"


def _beside(net: str, name: str) -> str:
    """The end of a sentence: the data set file that a net without facts was made for, if it is there."""
    file = Path(net).parent.parent / f"{name.rpartition('-fcn')[0]}.txt"
    return f" ('--dataset {file}'; 'netspec own {file}' writes nets that say it)" if file.is_file() else ""
