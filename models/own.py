#!/usr/bin/env python3
"""Nets and solvers for images of your own: FCN-32s, 16s and 8s for a data set file (docs/datasets.md).

    netspec own my/set.txt                                      a small trunk, from scratch
    netspec own my/set.txt --weights weights/vgg16.caffemodel   VGG16's, at the paper's rates

This file is a door to that command, and has what it writes.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

import fcn  # noqa: E402 - the path comes first
from sets import Data, Head  # noqa: E402
from trunks import SMALL, VGG16  # noqa: E402

from netspec.base.errors import Error  # noqa: E402
from netspec.cli.main import main  # noqa: E402
from netspec.data import facts, layouts  # noqa: E402
from netspec.data.images import open_image  # noqa: E402
from netspec.data.segmentation import SegmentationData, shared  # noqa: E402
from netspec.ops.base import Context  # noqa: E402
from netspec.proto import caffe_pb2  # noqa: E402
from netspec.proto import text as prototext  # noqa: E402
from netspec.score.predict import fitted  # noqa: E402
from netspec.train import snapshot as resume  # noqa: E402
from netspec.train.validation import interval  # noqa: E402

RATES = {False: (3e-3, 1e-3, 1e-3), True: (1e-4, 1e-6, 1e-8)}  # the demo's, and the paper's


def write(path: Path, weights: str | None, iterations: int, batch: int, splits: tuple[str, str],
          mean: list[float] | None = None) -> list[str]:
    """Write NAME-fcn32s/SPLIT.prototxt, NAME-fcn32s.prototxt, ... beside the data set file; the solvers.

    mean: BGR, where the file has none. Raises Error for a data set file or a list that is wrong or not there;
    then nothing is written.
    """
    (train, val), folder = splits, path.parent
    layout = layouts.layout(str(path), {"mean": mean} if mean else None)
    found = layouts.facts(layout)
    # the mean stands in every net, so that all have the same whatever is changed in the file
    reader = dict(dataset=str(path), root=str(folder), mean=list(found.mean))
    data = Data((Head(len(found.names)),), {split: reader | dict(split=split) for split in splits},
                -1 if found.void is None else found.void, facts=facts.written(layout, dataset=str(path)))
    chance = {key: value for key, value in layouts.read_file(path).items() if key in layouts.CHANCE}
    data.splits[train] |= dict(batch_size=batch, mirror=True) | chance
    nets = {f"{path.stem}-fcn{stride}s": {
        split: named(f"{path.stem}-fcn{stride}s", fcn.FCN(VGG16 if weights else SMALL, data, sources), split)
        for split in (*splits, "deploy")} for stride, sources in fcn.STAGES.items()}
    readers = [SegmentationData(next(iter(nets.values()))[split].layer[0], (), Context()) for split in splits]
    if told := shared(*readers):
        raise Error(f"{path}: {told}")
    check_sizes(path, readers, [net["deploy"] for net in nets.values()])
    solvers: list[str] = []
    for (name, made), stride, rate in zip(nets.items(), fcn.STAGES, RATES[bool(weights)], strict=True):
        for split, net in made.items():
            prototext.write(folder / name / f"{split}.prototxt", net)
        before = resume.stem(folder / "snapshot" / f"{path.stem}-fcn{2 * stride}s", iterations)
        start = f"{before}.caffemodel" if solvers else weights
        solvers.append(str(folder / f"{name}.prototxt"))
        prototext.write(solvers[-1], caffe_pb2.SolverParameter(
            train_net=str(folder / name / f"{train}.prototxt"), weights=[start] if start else [],
            test_net=[str(folder / name / f"{val}.prototxt")], test_iter=[len(readers[1])],
            test_interval=interval(len(readers[1]), batch, iterations), test_initialization=False,
            base_lr=rate, lr_policy="fixed", momentum=0.9, weight_decay=0.0005,
            max_iter=iterations, display=20, average_loss=20, random_seed=1, snapshot=200,
            snapshot_prefix=str(folder / "snapshot" / name)))
    return solvers


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
        elif reader.zoom[0] != 1:
            what, least = f"{what} zoomed to {reader.zoom[0]:g},", int(side * reader.zoom[0])
        for net in nets:
            try:
                fitted(net, "data", 3, (least, least))
            except Error as error:
                raise Error(f"{path}: {what} {error}") from None


if __name__ == "__main__":
    sys.exit(main(["own", *sys.argv[1:]]))
