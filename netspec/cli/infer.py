"""`netspec infer`: segment images."""

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..base.errors import Error, listed
from ..data.layouts import LAYOUTS, Facts, facts, read_file
from .options import add_net_arguments, find_net, find_weights, is_weights

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

    from ..data.facts import Known
    from ..net.module import Net
    from ..score.predict import Looks


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "%(prog)s NET [WEIGHTS] IMAGE ... [--out DIR] [options]"
    add_net_arguments(parser, "deploy net, or a val net without its data; or the name of one in models/")
    parser.add_argument("image", nargs="+", metavar="[WEIGHTS] IMAGE",
                        help="image files of any size; before them .caffemodel or "
                        ".caffemodel.h5 (default: what `netspec weights` has of the net's name)")
    parser.add_argument("--out", default=".", metavar="DIR",
                        help="gets NAME_labels.png and NAME_overlay.png (default: the current folder)")
    parser.add_argument("--dataset", metavar="NAME",
                        help=f"{', '.join(LAYOUTS)} or a data set file: its names and colours, "
                        "and its mean where the net says none (default: what the net says; of released nets, "
                        "what their name does)")
    parser.add_argument("--mean", type=_three, metavar="B,G,R", help="to subtract from images (0 to 255)")


def run(args: argparse.Namespace) -> int:
    import torch

    from ..net import judged
    from ..proto.text import read_net
    from ..score import predict

    path = find_net(args.net, "deploy")
    if is_weights(args.image[0]):
        given, *args.image = args.image
    else:
        given = None
    if not args.image:
        raise Error(f"no IMAGE is given: {given} holds weights")
    weights = find_weights(given, path)
    outputs = _outputs(args.image, Path(args.out))
    net, top, channels, known = predict.image_net(read_net(path), args.score_blob, path)
    if channels not in (1, 3):
        raise Error(f"{path}: blob '{top}' has {channels} channels; images have 3 (colour) or 1 (grey)")
    ready: Net | None = None
    failed: list[str] = []
    for file, out in zip(args.image, outputs, strict=True):
        try:
            image = predict.picture(file, known.resize)
            with _naming(file, image):
                made = predict.fitted(net, top, channels, image.size, path)
        except Error as e:  # the others are worth having
            if len(args.image) == 1:
                raise
            failed.append(file)
            print(f"netspec infer: {e}", file=sys.stderr, flush=True)
            continue
        if ready is None:
            classes = judged.channels(made, args.score_blob)
            facts, mean = _settle(args, [net.name, path.stem, path.parent.name], known, classes, channels)
            looks = predict.looks(facts, classes)
            ready, remarks = predict.load(made, weights, args.device, args.precision, args.strict)
            for remark in remarks:
                print(f"note: {remark}", file=sys.stderr)
        with torch.inference_mode():
            inputs = {top: predict.blob(image, mean, channels, known.scale).to(ready.device)}
            scores = ready(inputs, [args.score_blob])[args.score_blob]
        print(_save(file, image, judged.labels(scores)[0], looks, out), flush=True)
    if failed:
        raise Error(f"{len(failed)} of {len(args.image)} images could not be segmented: {listed(failed)}; "
                    "the results of the others are written")
    return 0


@contextmanager
def _naming(file: str, image: "Image") -> Iterator[None]:
    """Say of which image an error is."""
    try:
        yield
    except Error as e:
        raise Error(f"image {file} ({image.width}x{image.height}): {e}") from None


def _save(file: str, image: "Image", labels: "np.ndarray", looks: "Looks", out: tuple[Path, Path]) -> str:
    """Write the labels of an image and its overlay; the line that says so."""
    import numpy as np
    from PIL.Image import Resampling

    from ..look import pictures

    if labels.shape != (image.height, image.width):  # nets without a last crop to the image
        image = image.resize(labels.shape[::-1], Resampling.BILINEAR)
    overlay = pictures.overlay(image, labels, looks.palette, looks.names)
    pictures.save_labels(out[0], labels, looks.palette)
    pictures.save(out[1], overlay)
    counts = np.bincount(labels.ravel(), minlength=len(looks.names))
    shares = ", ".join(f"{looks.names[i]} {100 * counts[i] / labels.size:.0f}%"
                       for i in np.argsort(-counts, kind="stable") if counts[i])
    return f"{file}: {shares} -> {out[0]}, {out[1].name}"


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


def _outputs(images: Sequence[str], folder: Path) -> list[tuple[Path, Path]]:
    """Label and overlay files of each image; Error if they are another image's, or an image itself."""
    taken = {Path(image).resolve(): image for image in images}
    pairs = [(folder / f"{Path(image).stem}_labels.png", folder / f"{Path(image).stem}_overlay.png")
             for image in images]
    for image, pair in zip(images, pairs, strict=True):
        for out in pair:
            if (here := out.resolve()) in taken:
                raise Error(f"{out} (of {image}) would be written over {taken[here]}; give it another --out")
            taken[here] = f"the result of {image}"
    return pairs
