"""`netspec score`: score a net on its data set."""

import argparse
import json
import math
import sys
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..base import log
from ..base.errors import Error, count
from ..base.files import check_folder
from ..base.table import percent, table
from .finding import find_net, find_weights
from .options import (
    add_box_arguments,
    add_look_arguments,
    add_net_arguments,
    apart,
    draws,
    ending,
    engine,
    fraction,
    loaded,
    mixed,
    note,
    only,
    whole,
    wrote,
)
from .terminal import say, show

if TYPE_CHECKING:
    import torch

    from ..net.graph import Graph
    from ..score.score import Scoring


def add_arguments(parser: argparse.ArgumentParser) -> None:
    mixed(parser)
    parser.usage = "%(prog)s NET [WEIGHTS] [options]"  # --beside takes all that follows
    add_net_arguments(parser, "with a data layer: models/NAME/val.prototxt; or NAME", "no progress bar")
    parser.add_argument("weights", metavar="WEIGHTS", nargs="?",
                        help=".caffemodel or .caffemodel.h5 (default: what `netspec weights` has of NAME)")
    add = parser.add_argument
    add("--save", metavar="DIR", help="write the predictions there, as palette PNGs; of nets that "
        "detect, VOC's result files")
    add("--json", action="store_true", help="fractions of 1 instead of tables in percent")
    add("--label-blob", default="label", metavar="BLOB", help="the truth (default label)")
    add("--trimap", metavar="W,W,...", type=widths, default=[],
        help="also score only the pixels within so many pixels of a boundary between labels, such as "
        "1,2,4,8,16,32")
    add("--binary", metavar="CLASS", help="also hold this class, a name or number, against all others")
    add("--threshold", type=float, metavar="P", help="the --binary class is where its probability is above "
        "P, not where it is the best; of scenes, cloud is (default 12/255)")
    add("--confusion", metavar="FILE", help="write the confusion matrix: .csv (pixels), .png, .svg or .pdf")
    add("--sheet", metavar="FILE.png", help="picture of the images of least mean IU (with --save), with "
        "the most wrong boxes, or of the scenes of least Jaccard (with --save)")
    add("--worst", type=int, default=8, metavar="N", help="images in --sheet (default 8)")
    add("--images", type=places, default=[], metavar="N,N,...", help="score these places of the list alone, "
        "counted from 0; --sheet shows all of them, in this order")
    add("--beside", nargs="+", default=[], metavar="DIR", help="other nets' --save, also shown in --sheet")
    add_look_arguments(parser)
    add("--protocol", default="38cloud", metavar="NAME", help="patches of scenes: how they become masks, "
        "38cloud (default: seen at 192x192, cut at the threshold, then resized) or 38cloud-released (seen at "
        "384x384, cut at the end)")
    add("--partial", action="store_true", help="patches of scenes: score scenes with patches missing too, "
        "without cloud there")
    add("--margin", type=whole, default=0, metavar="N", help="patches of scenes: each is seen with N "
        "pixels of its neighbours on all sides (default 0, as the protocols have it)")
    add("--seams", type=whole, default=0, metavar="N", help="patches of scenes: score what is within "
        "N pixels of a border between patches by itself, too")
    add("--curve", metavar="FILE", help="patches of scenes: draw the measures over all thresholds, .png, "
        ".svg or .pdf (--json has them)")
    add_box_arguments(parser)
    add("--overlap", type=fraction, default=0.5, metavar="IOU",
        help="nets that detect: a box is right that overlaps the truth by more (default 0.5)")
    add("--coco", action="store_true", help="nets that detect: COCO's measures too (needs pycocotools)")


LOOKS = "scales", "flip", "engine"
SEGMENTING = "label_blob", "trimap", "binary", "confusion", "beside"
SAMPLES = "samples", "seed"
SCENES = "protocol", "partial", "curve", "margin", "seams"
NOT_SCENES = *SEGMENTING, *SAMPLES, "images"
DETECTING = "overlap", "nms", "most", "coco"


def run(args: argparse.Namespace) -> int:
    from ..base.machine import origin
    from ..data.detection import DetectionData
    from ..net.build import load
    from ..net.detections import pools_regions
    from ..score.scenescore import scened

    path = find_net(args.net, "test", "val")
    weights = find_weights(args.weights, path)
    made = load(path)
    boxes = pools_regions(made.proto.layer) or any(isinstance(op, DetectionData) for op in made.readers)
    what, score, strange = (
        ("boxes", _boxes, (*SEGMENTING, "threshold", *LOOKS, *SAMPLES, *SCENES)) if boxes else
        ("patches of scenes", _scenes, (*NOT_SCENES, *DETECTING)) if scened(made) else
        ("labels", _labels, (*SCENES, *DETECTING)))
    only(args, add_arguments, strange,
         f"the data of {path} are {what}, and there is no such thing for those")
    found = score(args, path, weights, made)
    written = [path for path in (args.save, args.confusion, args.sheet, args.curve) if path]
    if args.json:
        facts = {"net": str(path), "weights": str(weights), **found.facts, "origin": origin(found.device)}
        show(json.dumps(facts, indent=2, allow_nan=False))
    else:
        images, spent = found.facts["images"], found.facts["seconds"]
        listed = f" of the {found.facts['listed']} of the list" if args.images else ""
        rate = f"{images / max(spent, 1e-3):.1f} images/s"
        say(f"{made.name or path.stem}: {count(images, 'image')}{listed} in {spent:.1f} s ({rate}, "
            f"{found.device}){found.loss}", "")
        show(found.tables + "\n" * bool(written))
    if written:
        wrote(*written, file=sys.stderr if args.json else None)
    return 0


class _Found(NamedTuple):
    """What is said of a net: as JSON, and as text."""

    facts: dict[str, Any]
    tables: str
    device: "torch.device"
    loss: str = ""


def _labels(args: argparse.Namespace, path: Path, weights: Path, made: "Graph") -> _Found:
    from ..base.metrics import Scores, mean_iu
    from ..data.segmentation import SegmentationData
    from ..look.pictures import save
    from ..net.plan import Plan
    from ..score.averaged import looked
    from ..score.score import Scoring
    from ..score.sheet import worst_beside
    from ..score.summary import save_confusion, summary

    name = made.name or path.stem
    # mistakes come before weights are read
    scoring = Scoring(made, args.score_blob or "", args.label_blob, args.images)
    positive = _positive(args, scoring)
    using, sampling = engine(args, weights, note), draws(args, made, note)
    net = loaded(args, made, weights, not args.weights)
    looking = looked(net, scoring.score_blob, args.scales, args.flip, using, sampling)
    with closing(log.make(args.quiet)) as said:
        result = scoring.run(
            looking, save=args.save, trimap=args.trimap, positive=positive, threshold=args.threshold,
            progress=lambda done, total, histogram: said.progress(
                "score", done, total, mean_iu(Scores.from_histogram(histogram)), 1))
    if args.confusion:
        save_confusion(args.confusion, result.histogram, result.looks.names)
    if args.sheet and isinstance(scoring.source, SegmentationData):
        save(args.sheet, worst_beside(scoring.source, result.looks, args.worst, name, args.save, args.beside))
    told = () if isinstance(looking, Plan) else SAMPLES if sampling else LOOKS
    args.seed = sampling.seed if sampling else None
    facts = {name: vars(args)[name] for name in told} | _of(args, scoring.listed) | result.as_dict()
    loss = f", loss {result.loss:.6g}" if looking.losses else ""
    return _Found(facts, summary(name, result, positive), net.device, loss)


def _boxes(args: argparse.Namespace, path: Path, weights: Path, made: "Graph") -> _Found:
    from ..look.pictures import save
    from ..net.detections import SCORES, Rules
    from ..score import coco
    from ..score.boxscore import BoxScoring, sheet
    from ..score.objects import save_voc, voc_paths

    ending("--sheet", args.sheet, ".png")
    if args.sheet and args.worst < 1:
        raise Error(f"--sheet needs --worst above 0, found {args.worst}")
    if args.coco:
        coco.require()
    if args.save:
        check_folder(args.save)
    scoring = BoxScoring(made, args.score_blob or SCORES, args.images)
    source = scoring.source
    apart("--sheet", args.sheet, (file for i in range(len(source)) for file in source.paths(i)))
    if args.save:
        voc_paths(Path(args.save), source.split, source.facts.names, source.names)
    net = loaded(args, made, weights, not args.weights)
    with closing(log.make(args.quiet)) as said:
        result = scoring.run(
            net, Rules(overlap=args.nms, most=args.most), args.overlap,
            progress=lambda done, total, boxes: said.progress("score", done, total, count(boxes, "box"), 1))
    facts, text = _of(args, scoring.listed) | result.as_dict(), result.summary(made.name or path.stem)
    if args.coco:
        whole, each = coco.score(result.records, result.found, result.looks.names)
        facts["coco"] = {key: None if math.isnan(value) else value for key, value in whole.items()}
        for number, told in enumerate(facts["classes"], 1):
            told["coco_ap"] = None if math.isnan(each[number]) else each[number]
        text += "\n\n" + table([[key, percent(value)] for key, value in whole.items()], ["COCO", ""])
    if args.save:
        names = [record.name for record in result.records]
        rows = zip(names, (some.tolist() for some in result.found), strict=True)
        save_voc(Path(args.save), scoring.source.split, result.looks.names, rows)
    if args.sheet:
        save(args.sheet, sheet(scoring.source, result, None if args.images else args.worst))
    return _Found(facts, text, net.device)


def _scenes(args: argparse.Namespace, path: Path, weights: Path, made: "Graph") -> _Found:
    from ..look.charts import require_matplotlib
    from ..look.pictures import save
    from ..look.shapes import KINDS
    from ..score.averaged import looked
    from ..score.scenes import THRESHOLDS
    from ..score.scenescore import SceneScoring
    from ..score.scenesheet import sheet
    from ..score.scenetable import curves, summary
    from ..score.wholescene import protocol

    ending("--curve", args.curve, *KINDS)
    ending("--sheet", args.sheet, ".png")
    if args.sheet and not (args.save and args.worst > 0):
        raise Error("--sheet needs --save DIR and --worst above 0")
    if args.curve:
        require_matplotlib()
    protocol(args.protocol)
    if args.threshold is not None and not 0 <= args.threshold < 1:
        raise Error(f"--threshold {args.threshold:g}: is from 0 to below 1")
    blob, name = args.score_blob or "score", made.name or path.stem
    scoring = SceneScoring(made, blob, args.protocol, args.partial)
    if args.save:
        check_folder(args.save)
        _apart(args.save, [scene.name for scene in scoring.scenes], [
            *(file for index in range(len(scoring.source)) for file in scoring.source.paths(index)),
            *(scene.truth for scene in scoring.scenes)])
    if scoring.classes == 1 and (args.flip or args.scales != (1.0,)):
        raise Error("--scales and --flip average the probabilities of classes, and the net has one map")
    for remark in scoring.remarks():
        note(remark)
    using = engine(args, weights, note)
    net = loaded(args, made, weights, not args.weights)
    asked = THRESHOLDS if args.threshold is None else (args.threshold, THRESHOLDS[1])
    with closing(log.make(args.quiet)) as said:
        result = scoring.run(
            looked(net, blob, args.scales, args.flip, using), thresholds=asked, save=args.save,
            margin=args.margin, within=args.seams,
            progress=lambda done, total, scene: said.progress("score", done, total, scene, 1))
    if args.curve:
        curves(name, result).save(args.curve)
    if args.sheet:
        save(args.sheet, sheet(scoring, {name: Path(args.save)}, result.worst(args.worst)))
    looks = {name: vars(args)[name] for name in LOOKS}
    return _Found(looks | result.as_dict(), summary(result), net.device)


def _apart(folder: str, names: Sequence[str], read: Iterable[Path]) -> None:
    """Error where predictions of these names would come among the files that are read."""
    places = {Path(folder, name).parent.resolve() for name in names}
    if places & {path.parent.resolve() for path in read}:
        raise Error(f"--save: the predictions would come among the images or labels of {folder}; give "
                    "another folder")


def _of(args: argparse.Namespace, listed: int) -> dict[str, Any]:
    """What is said of scores of a part of a list: which places, and how many images are listed."""
    return {"places": args.images, "listed": listed} if args.images else {}


def places(text: str) -> list[int]:
    """Whole numbers from 0 on, with commas between them, each once; ValueError, which argparse words, for
    anything else."""
    return list(dict.fromkeys(map(whole, text.split(","))))


def widths(text: str) -> list[int]:
    """Numbers above 0, with commas between them; ValueError, which argparse words, for anything else."""
    found = [int(word) for word in text.split(",")]
    if min(found) < 1:
        raise ValueError(text)
    return found


def _positive(args: argparse.Namespace, scoring: "Scoring") -> int | None:
    """The --binary class; Error, before any work, for options that cannot be met."""
    from ..data.segmentation import SegmentationData
    from ..look.shapes import KINDS

    positive = None if args.binary is None else scoring.looks.number(args.binary, "--binary")
    if args.threshold is not None and (args.binary is None or not 0 <= args.threshold < 1):
        raise Error(f"--threshold {args.threshold:g}: goes with --binary CLASS, and is from 0 to below 1")
    if args.save and isinstance(source := scoring.source, SegmentationData):
        _apart(args.save, source.names, (path for i in range(len(source)) for path in source.paths(i)))
    if args.sheet and not (args.save and isinstance(scoring.source, SegmentationData) and args.worst > 0):
        raise Error("--sheet needs --save DIR, --worst above 0, and a net whose data layer is "
                    "SegmentationData")
    ending("--sheet", args.sheet, ".png")
    ending("--confusion", args.confusion, ".csv", *KINDS)
    return positive
