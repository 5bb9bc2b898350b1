"""`netspec score`: score a net on its data set."""

import argparse
import json
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from ..base import log
from ..base.errors import Error, count
from .finding import find_net, find_weights
from .options import add_look_arguments, add_net_arguments, engine, mixed, wrote

if TYPE_CHECKING:
    from ..score.score import Scoring


def add_arguments(parser: argparse.ArgumentParser) -> None:
    mixed(parser)
    parser.usage = "%(prog)s NET [WEIGHTS] [options]"  # --beside takes all that follows
    add_net_arguments(parser, "with a data layer: models/NAME/val.prototxt; or NAME", "no progress bar")
    parser.add_argument("weights", metavar="WEIGHTS", nargs="?",
                        help=".caffemodel or .caffemodel.h5 (default: what `netspec weights` has of NAME)")
    add = parser.add_argument
    add("--save", metavar="DIR", help="write the predictions there, as palette PNGs")
    add("--json", action="store_true", help="fractions of 1 instead of tables in percent")
    add("--label-blob", default="label", metavar="BLOB", help="the truth (default label)")
    add("--trimap", metavar="W,W,...", type=widths, default=[],
        help="also score only the pixels within so many pixels of a boundary between labels, such as "
        "1,2,4,8,16,32")
    add("--binary", metavar="CLASS", help="also hold this class, a name or number, against all others")
    add("--threshold", type=float, metavar="P", help="the --binary class is where its probability is above P "
        "(38-Cloud: 0.047), not where it is the best")
    add("--confusion", metavar="FILE", help="write the confusion matrix: .csv (pixels), .png, .svg or .pdf")
    add("--sheet", metavar="FILE.png", help="with --save: picture of the images of least mean IU")
    add("--worst", type=int, default=8, metavar="N", help="images in --sheet (default 8)")
    add("--beside", nargs="+", default=[], metavar="DIR", help="other nets' --save, also shown in --sheet")
    add_look_arguments(parser)


def run(args: argparse.Namespace) -> int:
    from ..base.machine import origin
    from ..base.metrics import Scores, mean_iu
    from ..data.segmentation import SegmentationData
    from ..look.pictures import save
    from ..net.build import load
    from ..net.plan import Plan
    from ..score import predict
    from ..score.averaged import looked
    from ..score.score import Scoring
    from ..score.sheet import worst_beside
    from ..score.summary import save_confusion, summary

    path = find_net(args.net, "test", "val")
    weights = find_weights(args.weights, path)
    made = load(path)
    scoring = Scoring(made, args.score_blob, args.label_blob)  # mistakes are found before weights are read
    positive = _positive(args, scoring)
    using = engine(args, weights, lambda remark: print(f"note: {remark}", file=sys.stderr))
    net, remarks = predict.load(made, weights, args.device, args.precision, args.strict,
                                not args.weights)
    for remark in remarks:
        print(f"note: {remark}", file=sys.stderr)
    looking = looked(net, args.score_blob, args.scales, args.flip, using)
    with closing(log.make(args.quiet)) as said:
        result = scoring.run(
            looking, save=args.save, trimap=args.trimap, positive=positive, threshold=args.threshold,
            progress=lambda done, total, histogram: said.progress(
                "score", done, total, mean_iu(Scores.from_histogram(histogram)), 1))
    name = made.name or path.stem
    if args.confusion:
        save_confusion(args.confusion, result.histogram, result.looks.names)
    if args.sheet and isinstance(scoring.source, SegmentationData):
        save(args.sheet, worst_beside(scoring.source, result.looks, args.worst, name, args.save, args.beside))
    written = [path for path in (args.save, args.confusion, args.sheet) if path]
    if args.json:
        told = () if isinstance(looking, Plan) else ("scales", "flip", "engine")
        looks = {name: vars(args)[name] for name in told}
        facts = {"net": str(path), "weights": str(weights), **looks, **result.as_dict(),
                 "origin": origin(net.device)}
        print(json.dumps(facts, indent=2, allow_nan=False))
        if written:
            wrote(*written, file=sys.stderr)
        return 0
    rate = f"{result.images / max(result.seconds, 1e-9):.1f} images/s"
    loss = f", loss {result.loss:.6g}" if looking.losses else ""
    print(f"{name}: {count(result.images, 'image')} in {result.seconds:.1f} s ({rate}, {net.device}){loss}\n")
    print(summary(name, result, positive))
    if written:
        print()
        wrote(*written)
    return 0


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
        folders = {path.parent for i in range(len(source)) for path in source.paths(i)}
        places = {Path(args.save, name).parent for name in source.names}
        if {place.resolve() for place in places} & {folder.resolve() for folder in folders}:
            raise Error(f"--save: the predictions would come among the images or labels of {args.save}; give "
                        "another folder")
    if args.sheet and not (args.save and isinstance(scoring.source, SegmentationData) and args.worst > 0):
        raise Error("--sheet needs --save DIR, --worst above 0, and a net whose data layer is "
                    "SegmentationData")
    for option, path, ends in (("--sheet", args.sheet, [".png"]),
                               ("--confusion", args.confusion, [".csv", *KINDS])):
        if path and Path(path).suffix.lower() not in ends:
            raise Error(f"{option}: '{path}' must end in {' or '.join(ends)}")
    return positive
