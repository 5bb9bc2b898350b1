#!/usr/bin/env python3
"""Nets and solvers for images of your own: FCN-32s, 16s and 8s for a data set file (docs/datasets.md).

    netspec own my/set.txt                                      a small trunk, from scratch
    netspec own my/set.txt --weights weights/vgg16.caffemodel   VGG16's, at the paper's rates
    netspec own my/set.txt --from voc-fcn8s --weights FILE      that net, and what it knows of these classes

This file is a door to that command, and has what it writes.
"""

import itertools
import math
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

import fcn  # noqa: E402 - the path comes first
from sets import Data, Head  # noqa: E402
from trunks import SMALL, VGG16  # noqa: E402

from netspec.base.errors import Error  # noqa: E402
from netspec.base.files import writing  # noqa: E402
from netspec.base.names import solver_file  # noqa: E402
from netspec.cli.main import main  # noqa: E402
from netspec.data import facts, layouts, options, zoo  # noqa: E402
from netspec.data.images import open_image  # noqa: E402
from netspec.data.pictured import shared  # noqa: E402
from netspec.data.segmentation import SegmentationData  # noqa: E402
from netspec.net.build import build  # noqa: E402
from netspec.net.weights import for_classes, misfit  # noqa: E402
from netspec.ops.base import Context  # noqa: E402
from netspec.proto import caffe_pb2  # noqa: E402
from netspec.proto import text as prototext  # noqa: E402
from netspec.proto.model import read_weights, write_weights  # noqa: E402
from netspec.proto.text import read_solver  # noqa: E402
from netspec.score.predict import fitted  # noqa: E402
from netspec.train import snapshot as resume  # noqa: E402
from netspec.train.validation import interval  # noqa: E402

RATES = {False: (3e-3, 1e-3, 1e-3), True: (1e-4, 1e-6, 1e-8)}  # the demo's, and the paper's


class Written(NamedTuple):
    """What `write` wrote: the solvers in their order; for a net of other classes the weights that it begins
    with, and which class of the new net has its scores from which of the old one."""

    solvers: list[str]
    start: Path | None = None
    same: dict[str, str] = {}
    replaced: Sequence[Path] = ()  # what was there before and differed, now FILE.old or .old.1 ...


def write(path: Path, weights: str | None, iterations: int, batch: int, splits: tuple[str, str],
          mean: list[float] | None = None, base: str | None = None, seed: int = 1) -> Written:
    """Write NAME-fcn32s/SPLIT.prototxt, NAME-fcn32s.prototxt, ... beside the data set file.

    mean: BGR, where the file has none. base: a net of models/ to go on from, with its weights, in one stage.
    seed: the solvers' random_seed; of another than 1 solvers and snapshots are NAME-fcn32s-seedN.
    Raises Error for a data set file or a list that is wrong or not there; then nothing is written.
    """
    (train, val), folder = splits, path.parent
    old = fcn.named(base) if base else None
    if old and (old.data.images != {"data": 3} or len(old.data.heads) > 1):
        raise Error(f"--from {base}: reads other images than photographs, or scores two kinds of classes")
    if old and not mean and "mean" not in options.read_file(path):
        mean = list(known(old).mean)
    layout = layouts.layout(str(path), {"mean": mean} if mean else None)
    found = layouts.facts(layout)
    # the mean stands in every net, so that all have the same whatever is changed in the file
    reader = dict(dataset=str(path), root=str(folder), mean=list(found.mean))
    data = Data((Head(len(found.names)),), {split: reader | dict(split=split) for split in splits},
                -1 if found.void is None else found.void, facts=facts.written(layout, dataset=str(path)))
    chance = {key: value for key, value in options.read_file(path).items() if key in options.CHANCE}
    data.splits[train] |= dict(batch_size=batch, mirror=True) | chance
    kinds = {f"fcn{stride}s": fcn.FCN(VGG16 if weights else SMALL, data, sources)
             for stride, sources in fcn.STAGES.items()}
    rates: Sequence[float] = RATES[bool(weights)]
    if base and old:
        kind = f"fcn{base.rpartition('-fcn')[2]}"
        kinds = {kind: replace(old, data=data, normalize=True, loss=fcn.pixel_loss)}
        rates = (read_solver(solver_file(re.sub(r"fcn\d+s.*", "fcn32s", base))).base_lr,)
    nets = {f"{path.stem}-{kind}": {split: named(f"{path.stem}-{kind}", net, split)
                                    for split in (*splits, "deploy")} for kind, net in kinds.items()}
    readers = [SegmentationData(next(iter(nets.values()))[split].layer[0], (), Context()) for split in splits]
    for each in readers:
        each.check_files()
    if told := shared(*readers):
        raise Error(f"{path}: {told}")
    check_sizes(path, readers, [net["deploy"] for net in nets.values()])
    same: dict[str, str] = {}
    if weights and not base:
        begins(path, weights, next(iter(nets.values()))["deploy"])
    if base and old and weights:
        name, made = next(iter(nets.items()))
        layers, same = for_classes(made["deploy"], read_weights(weights), known(old).names, found.names)
        write_weights(weights := str(folder / f"{name}-start.caffemodel"), name, layers)
    solvers, replaced, start = list[str](), list[Path](), weights
    for (name, made), rate in zip(nets.items(), rates, strict=True):
        for split, net in made.items():
            replaced += kept(folder / name / f"{split}.prototxt", net)
        run = name if seed == 1 else f"{name}-seed{seed}"
        solvers.append(str(folder / f"{run}.prototxt"))
        replaced += kept(Path(solvers[-1]), caffe_pb2.SolverParameter(
            train_net=str(folder / name / f"{train}.prototxt"), weights=[start] if start else [],
            test_net=[str(folder / name / f"{val}.prototxt")], test_iter=[len(readers[1])],
            test_interval=interval(tested(*readers), batch, iterations), test_initialization=False,
            base_lr=rate, lr_policy="fixed", momentum=0.9, weight_decay=0.0005,
            max_iter=iterations, display=20, average_loss=20, random_seed=seed,
            snapshot=max(1, iterations // 10), snapshot_prefix=str(folder / "snapshot" / run)))
        start = f"{resume.stem(folder / 'snapshot' / run, iterations)}.caffemodel"
    return Written(solvers, Path(weights) if base and weights else None, same, replaced)


def tested(train: SegmentationData, val: SegmentationData) -> int:
    """How many images of val a test costs: those that are there, or where train cuts out parts, so many
    parts as have their pixels."""
    if not train.crop:
        return len(val)
    pixels = sum(math.prod(open_image(val.paths(i)[0]).size) for i in range(len(val)))
    return max(len(val), pixels // math.prod(train.crop))


def kept(path: Path, message: caffe_pb2.NetParameter | caffe_pb2.SolverParameter) -> list[Path]:
    """Write a prototxt. What was there and says something else stays as FILE.old, or .old.1 and on where
    that says something else again; the path of it is returned."""
    before = path.read_bytes() if path.is_file() else b""
    replaced = bool(before) and not before.decode(errors="replace").endswith(prototext.to_text(message))
    ends = itertools.chain([".old"], map(".old.{}".format, itertools.count(1)))
    files = (path.with_name(f"{path.name}{end}") for end in ends)
    old = next(file for file in files if not file.exists() or file.is_file() and file.read_bytes() == before)
    if replaced:
        with writing(old) as file:
            file.write(before)
    prototext.write(path, message)
    return [old] if replaced else []


def begins(path: Path, weights: str, net: caffe_pb2.NetParameter) -> None:
    """Error unless weights, which the net of a data set file is to begin with, have VGG16's layers; those
    that are not there yet are taken as they come."""
    try:
        file = zoo.found(weights, path.resolve().parent)
    except Error:
        return
    if told := misfit(read_weights(file), build(net, caffe_pb2.TEST), VGG16.layers):
        raise Error(f"--weights {weights}: must be VGG16's, with which the net begins; {told}")


def known(net: fcn.FCN) -> layouts.Facts:
    """The facts of the data set of a net of models/."""
    return layouts.facts(net.data.splits[net.data.train]["dataset"])


def named(name: str, net: fcn.FCN, split: str) -> caffe_pb2.NetParameter:
    made = fcn.fcn(net, split)
    made.name = name
    return made


def check_sizes(path: Path, readers: Sequence[SegmentationData],
                nets: Sequence[caffe_pb2.NetParameter]) -> None:
    """Error if the smallest image of a split, as it may be fed, is too small for a net."""
    for reader in readers:
        sides = {min(open_image(reader.paths(i)[0]).size): i for i in range(len(reader))}
        side = min(sides)
        what, least = f"the smallest image of '{reader.split}', {reader.paths(sides[side])[0]},", side
        if reader.crop:
            what, least = "'crop'", min(reader.crop)
        elif (zoom := reader.zoom[0] if reader.zoom[2] == 1 else min(reader.zoom[0], 1)) != 1:
            what, least = f"{what} zoomed to {zoom:g},", int(side * zoom)
        for net in nets:
            try:
                fitted(net, "data", 3, (least, least))
            except Error as error:
                raise Error(f"{path}: {what} {error}") from None


if __name__ == "__main__":
    sys.exit(main(["own", *sys.argv[1:]]))
