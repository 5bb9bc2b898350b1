"""`netspec infer`: segment images."""

import argparse
import json
import math
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..base.errors import Error, Final, count, listed, said
from ..data.layouts import LAYOUTS, Facts, facts, read_file
from .finding import find_net, find_weights, is_weights
from .options import add_look_arguments, add_net_arguments, engine, fraction, mixed

if TYPE_CHECKING:
    from ..data.facts import Known


def add_arguments(parser: argparse.ArgumentParser) -> None:
    mixed(parser)
    parser.usage = "%(prog)s NET [WEIGHTS] IMAGE ... [--out DIR] [options]"
    add_net_arguments(parser, "deploy net, or a val net without its data; or the name of one in models/")
    parser.add_argument("image", nargs="+", metavar="[WEIGHTS] IMAGE",
                        help="images of any size, folders, patterns, videos; - is standard input. Before "
                        "them WEIGHTS: .caffemodel or .caffemodel.h5 (default: what `netspec weights` has of "
                        "the net's name)")
    parser.add_argument("--out", default=".", metavar="DIR",
                        help="gets NAME_labels.png and NAME_overlay.png (default: the current folder)")
    parser.add_argument("--dataset", metavar="NAME",
                        help=f"{', '.join(LAYOUTS)} or a data set file: its names and colours, "
                        "and its mean where the net says none (default: what the net says; of released nets, "
                        "what their name does)")
    parser.add_argument("--mean", type=_three, metavar="B,G,R", help="to subtract from images (0 to 255)")
    parser.add_argument("--classes", metavar="CLASS,...", help="show and tell these alone, by name or number")
    parser.add_argument("--alpha", type=fraction, default=0.55, metavar="A",
                        help="share of the classes' colours in the overlay, 0 to 1 (default 0.55)")
    parser.add_argument("--cutout", metavar="CLASS", help="also NAME_cutout.png: this class alone, all else "
                        "transparent")
    parser.add_argument("--scores", action="store_true",
                        help="also NAME_scores.npy: the scores, float32, classes x height x width")
    parser.add_argument("--json", action="store_true", help="one JSON object at the end instead of lines")
    add_look_arguments(parser)


def run(args: argparse.Namespace) -> int:
    from ..net import judged
    from ..proto.text import read_net
    from ..score import predict, results
    from ..score.segment import Segmenter
    from ..score.stream import segmented

    path, weights = _net_and_weights(args)
    told = _Told(args.json)
    files = _files(args.image, Path(args.out), told)
    wanted = results.Wanted(args.alpha, cutout=() if args.cutout else None, scores=args.scores)
    outputs = results.Outputs(Path(args.out), files, wanted.files)
    net, top, channels, known = predict.image_net(read_net(path), args.score_blob, path)
    if channels not in (1, 3):
        raise Error(f"{path}: blob '{top}' has {channels} channels; images have 3 (colour) or 1 (grey)")
    made = predict.sample(net, top, channels, path)
    classes = judged.channels(made, args.score_blob)
    facts, mean = _settle(args, [net.name, path.stem, path.parent.name], known, classes, channels)
    looks = predict.looks(facts, classes)
    wanted = replace(wanted, classes=results.classes_of(args.classes, looks, "--classes"),
                     cutout=results.classes_of(args.cutout, looks, "--cutout"))
    using = engine(args, weights, told.note)
    if files:
        ready, remarks = predict.load(made, weights, args.device, args.precision, args.strict,
                                      args.by_name)
        for remark in remarks:
            told.note(remark)
        segmenter = Segmenter(ready, args.score_blob, mean, known.scale, args.scales, args.flip, using)
        for name, notes, result in segmented(files, segmenter, outputs, looks, wanted, known.resize):
            for note in notes:
                told.note(note)
            with told.going_past(name):
                told.result(name, result())
    return told.end({"net": str(path), "weights": str(weights), **({"engine": args.engine} if using else {})})


def _net_and_weights(args: argparse.Namespace) -> tuple[Path, Path]:
    """The files of both; args.image is left with the images, args.by_name says that no weights are given."""
    from ..proto.wire import head, is_text

    path, given = find_net(args.net, "deploy"), None
    if path.is_file() and not is_text(head(path)):
        raise Error(f"{args.net} is binary (weights, a picture?) and stands where a net is expected; the "
                    "order is: netspec infer NET [WEIGHTS] IMAGE ...")
    if is_weights(args.image[0]):
        given, *args.image = args.image
    if not args.image:
        raise Error(f"no IMAGE is given: {given} holds weights")
    args.by_name = given is None
    return path, find_weights(given, path)


class _Told:
    """What a run says: a line a picture, or with `plain` one JSON object at the end; errors as they come."""

    def __init__(self, plain: bool) -> None:
        self.plain = plain
        self.found: list[dict[str, Any]] = []
        self.errors: list[dict[str, str]] = []

    def note(self, remark: str) -> None:
        print(f"note: {remark}", file=sys.stderr)

    @contextmanager
    def going_past(self, image: str) -> Iterator[None]:
        """An Error, and of a file what the system says, is said, and the others are worth having."""
        try:
            yield
        except Final:
            raise
        except (Error, OSError) as e:
            if isinstance(e, OSError) and e.filename is None:  # of what is printed
                raise
            told = said(e) if isinstance(e, OSError) else str(e)
            self.errors.append({"image": image, "error": told})
            print(f"netspec infer: {told}", file=sys.stderr, flush=True)

    def result(self, image: str, found: dict[str, Any]) -> None:
        self.found.append({"image": image, **found})
        if not self.plain:
            shares = ", ".join(f"{c['name']} {_percent(c['share'])}" for c in found["classes"])
            first, *others = map(Path, found["files"].values())
            files = ", ".join([str(first), *(file.name for file in others)])
            print(f"{image}: {shares or 'none of the classes'} -> {files}", flush=True)

    def end(self, facts: dict[str, Any]) -> int:
        """The exit status, when all is said."""
        if self.plain:
            told = {**facts, "images": self.found, "errors": self.errors}
            print(json.dumps(told, indent=2, allow_nan=False))
        if len(self.errors) > 1 or self.errors and self.found:
            failed = listed(error["image"] for error in self.errors)
            others = "; the results of the others are written" if self.found else ""
            raise Error(f"{len(self.errors)} of {len(self.errors) + len(self.found)} images could not be "
                        f"segmented: {failed}{others}")
        return 2 if self.errors else 0


def _files(given: Sequence[str], out: Path, told: _Told) -> list[str]:
    """The files that words stand for; what a folder has besides is said."""
    from ..score.frames import expand

    files: list[str] = []
    for word in given:
        if os.path.isdir(word) and os.path.realpath(word) == os.path.realpath(out):
            raise Error(f"the results would come into {word}, whose images are read; give another --out")
        with told.going_past(word):
            found, left = expand(word)
            files += found
            if left:
                told.note(f"{word} has {count(len(left), 'file')} that by name are no images: {listed(left)}")
    return files


def _percent(share: float) -> str:
    """A share that is there, however small, as people read it."""
    return f"{100 * share:.0f}%" if share >= 0.005 else "<1%"


def _three(text: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) not in (1, 3) or not all(map(math.isfinite, numbers)):
        raise argparse.ArgumentTypeError(f"expected three numbers B,G,R, found '{text}'")
    return numbers


def _settle(args: argparse.Namespace, names: Sequence[str], known: "Known", classes: int, channels: int
            ) -> tuple[Facts | None, Sequence[float]]:
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
            print(f"note: {args.dataset} names no mean, and ILSVRC's is subtracted: right for a net that was "
                  "trained so (else give --mean B,G,R)", file=sys.stderr)
        mean = found.mean if channels > 1 else (float(np.mean(found.mean)),)
    if guessed:
        mean_too = "" if args.mean or known.mean else f", mean {','.join(f'{m:g}' for m in mean)}"
        print(f"assumed --dataset {guessed[0]}, by the net's name: its names, colours{mean_too}",
              file=sys.stderr)
    elif found and len(found.names) != classes:
        print(f"note: the data set has {len(found.names)} classes and '{args.score_blob}' {classes}: "
              f"{'all' if len(found.names) > classes else 'the last'} are shown as numbers", file=sys.stderr)
    if len(mean) not in (1, channels):
        raise Error(f"a mean of {len(mean)} numbers is given for images of {channels} channels")
    return found, mean


def _beside(net: str, name: str) -> str:
    """The end of a sentence: the data set file that a net without facts was made for, if it is there."""
    file = Path(net).parent.parent / f"{name.rpartition('-fcn')[0]}.txt"
    return f" ('--dataset {file}'; 'netspec own {file}' writes nets that say it)" if file.is_file() else ""
