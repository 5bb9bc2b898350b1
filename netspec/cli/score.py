"""`netspec score`: score a net on its data set."""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from ..base import files, log
from ..base.errors import Error, closest
from ..base.machine import origin
from ..base.metrics import BINARY, Scores
from ..base.table import percent, table
from ..data.segmentation import SegmentationData
from ..look import pictures as report
from ..look import shapes
from ..net.build import load
from ..net.graph import Graph
from ..ops.source import Source
from ..proto import caffe_pb2
from ..score import predict
from ..score.score import _source, score
from ..score.sheet import measures, per_class, save_confusion, sheet, worst
from .options import add_device_arguments, widths


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("net", metavar="NET", help="with a data layer: models/NAME/val.prototxt")
    parser.add_argument("weights", metavar="WEIGHTS", help=".caffemodel or .caffemodel.h5")
    parser.add_argument("--save", metavar="DIR", help="write the predictions there, as palette PNGs")
    parser.add_argument("--json", action="store_true", help="fractions of 1 instead of tables in percent")
    parser.add_argument("--score-blob", default="score", metavar="BLOB", help="the scores (default score)")
    parser.add_argument("--label-blob", default="label", metavar="BLOB", help="the truth (default label)")
    parser.add_argument("--trimap", metavar="W,W,...", type=widths, default=[], help="score the pixels within so many "
                        "pixels of a boundary between labels alone too, such as 1,2,4,8,16,32")
    parser.add_argument("--binary", metavar="CLASS", help="hold this class, a name or number, against all others too")
    parser.add_argument("--threshold", type=float, metavar="P", help="the --binary class is where its probability is above P "
                        "(38-Cloud: 0.047), not where it is the best")
    parser.add_argument("--confusion", metavar="FILE", help="write the confusion matrix: .csv (pixels), .png, .svg or .pdf")
    parser.add_argument("--sheet", metavar="FILE.png", help="with --save: picture of the images of least mean IU")
    parser.add_argument("--worst", type=int, default=8, metavar="N", help="images in --sheet (default 8)")
    parser.add_argument("--beside", nargs="+", default=[], metavar="DIR", help="other nets' --save, also shown in --sheet")
    add_device_arguments(parser)
    parser.add_argument("--strict", action="store_true", help="refuse weights that lack a layer or hold another")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def run(args: argparse.Namespace) -> int:
    path = files.find(args.net, what="net")
    made = load(path, caffe_pb2.TEST)
    predict.channels(made, args.score_blob)  # wrong names are found before half a gigabyte is read
    source, positive = _asked(args, made)
    net, remarks = predict.load(made, args.weights, args.device, args.precision, args.strict)
    for remark in remarks:
        print(f"note: {remark}", file=sys.stderr)
    said = log.make(args.quiet)

    def progress(done: int, total: int, histogram: np.ndarray) -> None:
        said.progress("score", done, total, f"mean IU {percent(Scores.from_histogram(histogram).mean_iu)}", 1)

    try:
        result = score(net, score_blob=args.score_blob, label_blob=args.label_blob, save=args.save, progress=progress,
                       trimap=args.trimap, positive=positive, threshold=args.threshold)
    finally:
        said.close()
    name = made.name or path.stem
    if args.confusion:
        save_confusion(args.confusion, result.histogram, result.looks.names)
    if args.sheet:
        titles = [*(Path(folder).name for folder in args.beside), name]
        nets = {folder if titles.count(title) > 1 else title: folder for title, folder in zip(titles, args.beside, strict=False)}
        nets[name] = args.save
        report.save(args.sheet, sheet(source, result.looks, nets, worst(source, result.looks, args.save, args.worst)))
    if args.json:
        facts = {"net": str(path), "weights": args.weights, **result.as_dict(), "origin": origin(net.device)}
        print(json.dumps(facts, indent=2, allow_nan=False))
        return 0
    rate = f"{result.images / max(result.seconds, 1e-9):.1f} images/s"
    print(f"{name}: {result.images} images in {result.seconds:.1f} s ({rate}, {net.device})", end="")
    print(f", loss {result.loss:.6g}\n" if net.losses else "\n")
    print(measures([(name, result.scores)]), end="\n\n")
    print(per_class(result.scores, result.looks.names))
    if result.bands:
        print("\n" + measures([(f"within {w} px of a boundary", scores) for w, scores in result.bands.items()]))
    if result.binary:
        cells = [percent(getattr(result.binary, measure)) for measure in BINARY]
        print("\n" + table([[result.looks.names[positive], *cells]], ["", *BINARY.values()]))
    if result.stray:
        most = len(result.histogram) - 1
        print(f"\nnot counted: {result.stray} pixels with labels that are neither 0 to {most} nor void")
    for what, where in (("predictions", args.save), ("confusion", args.confusion), ("sheet", args.sheet)):
        print(f"\n{what}: {where}" if where else "", end="\n" if where else "")
    return 0


def _asked(args: argparse.Namespace, made: Graph) -> tuple[Source, int | None]:
    """The labels' source and the --binary class; Error, before any work, for options that cannot be met."""
    source, classes = _source(made, args.label_blob), predict.channels(made, args.score_blob)
    names = predict.looks(getattr(source, "facts", None), classes).names
    named = {**{str(i): i for i in range(classes)}, **{name: i for i, name in enumerate(names)}}
    if args.binary is not None and args.binary not in named:
        raise Error(f"--binary: '{args.binary}' is no class{closest(args.binary, names)} (classes: {', '.join(names)})")
    if args.threshold is not None and (args.binary is None or not 0 <= args.threshold < 1):
        raise Error(f"--threshold {args.threshold:g}: goes with --binary CLASS, and is from 0 to below 1")
    if args.sheet and not (args.save and isinstance(source, SegmentationData) and args.worst > 0):
        raise Error("--sheet needs --save DIR, --worst above 0, and a net whose data layer is SegmentationData")
    for option, path, ends in (("--sheet", args.sheet, [".png"]), ("--confusion", args.confusion, [".csv", *shapes.KINDS])):
        if path and Path(path).suffix.lower() not in ends:
            raise Error(f"{option}: '{path}' must end in {' or '.join(ends)}")
    return source, named.get(args.binary)
