"""`netspec infer`: segment images."""

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..base.errors import Error
from ..base.files import find
from ..data.layouts import LAYOUTS, facts
from .options import add_net_arguments

if TYPE_CHECKING:
    from ..score.predict import Pixels


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_net_arguments(parser, "deploy net, or a val net without its data")
    parser.add_argument("image", nargs="+", metavar="IMAGE", help="image files of any size")
    parser.add_argument("--out", required=True, metavar="DIR",
                        help="gets NAME_labels.png and NAME_overlay.png")
    parser.add_argument("--dataset", metavar="NAME",
                        help=f"{', '.join(LAYOUTS)} or a data set file: its names, colours and mean "
                        "(default: what the data layer says, or the number of classes suggests)")
    parser.add_argument("--mean", type=_three, metavar="B,G,R", help="to subtract from images (0 to 255)")


def run(args: argparse.Namespace) -> int:
    import numpy as np
    import torch
    from PIL import Image

    from ..look import pictures
    from ..net.build import build
    from ..proto.caffe_pb2 import TEST
    from ..proto.text import read_net
    from ..score import predict

    path, weights = find(args.net, what="net"), find(args.weights, what="weights")
    outputs = _outputs(args.image, Path(args.out))
    net, top, channels, pixels = predict.image_net(read_net(path), args.score_blob, path)
    if channels not in (1, 3):
        raise Error(f"{path}: blob '{top}' has {channels} channels; images have 3 (colour) or 1 (grey)")
    first = predict.picture(args.image[0], pixels.resize)
    shape = (1, channels, first.height, first.width)
    try:
        made = build(net, TEST, shapes={top: shape}, path=path)
    except Error as e:
        raise Error(f"image {args.image[0]} ({first.width}x{first.height}): {e}") from None
    classes = predict.channels(made, args.score_blob)
    dataset, mean = _settle(args, pixels, classes, channels)
    looks = predict.looks(dataset, classes)
    ready, remarks = predict.load(made, weights, args.device, args.precision, args.strict)
    for remark in remarks:
        print(f"note: {remark}", file=sys.stderr)
    for file, (labels_path, overlay_path) in zip(args.image, outputs, strict=True):
        image = predict.picture(file, pixels.resize)
        try:
            with torch.inference_mode():
                inputs = {top: predict.blob(image, mean, channels).to(ready.device)}
                scores = ready(inputs, [args.score_blob])[args.score_blob]
        except Error as e:
            raise Error(f"image {file} ({image.width}x{image.height}): {e}") from None
        labels = predict.labels(scores)[0]
        pictures.save_labels(labels_path, labels, looks.palette)
        if labels.shape != (image.height, image.width):  # nets without a last crop to the image
            image = image.resize(labels.shape[::-1], Image.Resampling.BILINEAR)
        pictures.save(overlay_path, pictures.overlay(image, labels, looks.palette, looks.names))
        counts = np.bincount(labels.ravel(), minlength=classes)
        shares = ", ".join(f"{looks.names[i]} {100 * counts[i] / labels.size:.0f}%"
                           for i in np.argsort(-counts, kind="stable") if counts[i])
        print(f"{file}: {shares} -> {labels_path}, {overlay_path.name}", flush=True)
    return 0


def _three(text: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) not in (1, 3) or not all(map(math.isfinite, numbers)):
        raise argparse.ArgumentTypeError(f"expected three numbers B,G,R, found '{text}'")
    return numbers


def _settle(args: argparse.Namespace, pixels: "Pixels", classes: int, channels: int
            ) -> tuple[str | None, Sequence[float]]:
    """The data set for names and colours, and the mean: as told, as the data layer says, or guessed aloud."""
    import numpy as np

    from ..score.predict import guess

    told = args.dataset or pixels.dataset
    dataset = told or guess(classes)
    mean = args.mean or pixels.mean
    if mean is None:
        if not dataset:
            raise Error(f"{args.net} does not say which mean to subtract, and its {classes} classes fit no "
                        "known data set: give --mean B,G,R or --dataset")
        mean = facts(dataset).mean
        if channels == 1:
            mean = (float(np.mean(mean)),)
    if dataset and not told:
        mean_too = "" if args.mean or pixels.mean else f", mean {','.join(f'{m:g}' for m in mean)}"
        print(f"assumed --dataset {dataset}, which has {classes} classes: its names, colours{mean_too}",
              file=sys.stderr)
    if len(mean) not in (1, channels):
        raise Error(f"a mean of {len(mean)} numbers is given for images of {channels} channels")
    return dataset, mean


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
