#!/usr/bin/env python3
"""Nets and solvers for images of your own: FCN-32s, 16s and 8s for a data set file (docs/datasets.md).

    netspec own my/set.txt                                      a small trunk, from scratch
    netspec own my/set.txt --weights weights/vgg16.caffemodel   VGG16's, at the paper's rates

This file is a door to that command, and has what it writes.
"""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

import fcn  # noqa: E402 - the path comes first
from sets import Data, Head  # noqa: E402
from trunks import SMALL, VGG16  # noqa: E402

from netspec.base.errors import Error  # noqa: E402
from netspec.cli.main import main  # noqa: E402
from netspec.data import facts, layouts  # noqa: E402
from netspec.data.segmentation import SegmentationData, shared  # noqa: E402
from netspec.ops.base import Context  # noqa: E402
from netspec.proto import caffe_pb2  # noqa: E402
from netspec.proto import text as prototext  # noqa: E402
from netspec.train import snapshot as resume  # noqa: E402

CHANCE = ("mirror", "crop", "zoom", "brightness")  # keys of the file that are for training alone
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
    given = layouts.read_file(path)
    data.splits[train] |= dict(batch_size=batch, mirror=True) | {k: given[k] for k in CHANCE if k in given}
    solvers: list[str] = []
    for (stride, sources), rate in zip(fcn.STAGES.items(), RATES[bool(weights)], strict=True):
        name = f"{path.stem}-fcn{stride}s"
        net = fcn.FCN(VGG16 if weights else SMALL, data, sources)
        nets = {split: fcn.fcn(net, split) for split in (*splits, "deploy")}
        readers = [SegmentationData(nets[split].layer[0], (), Context()) for split in splits]
        if told := shared(*readers):
            raise Error(f"{path}: {told}")
        for split, made in nets.items():
            made.name = name
            prototext.write(folder / name / f"{split}.prototxt", made)
        before = resume.stem(f"{folder}/snapshot/{path.stem}-fcn{2 * stride}s", iterations)
        start = f"{before}.caffemodel" if solvers else weights
        solvers.append(f"{folder}/{name}.prototxt")
        prototext.write(solvers[-1], caffe_pb2.SolverParameter(
            train_net=f"{folder}/{name}/{train}.prototxt", weights=[start] if start else [],
            # made and checked, and scored by tools/score.py
            test_net=[f"{folder}/{name}/{val}.prototxt"], test_iter=[len(readers[1])],
            test_interval=999999999, test_initialization=False,
            base_lr=rate, lr_policy="fixed", momentum=0.9, weight_decay=0.0005,
            max_iter=iterations, display=20, average_loss=20, random_seed=1, snapshot=200,
            snapshot_prefix=f"{folder}/snapshot/{name}"))
    return solvers


if __name__ == "__main__":
    sys.exit(main(["own", *sys.argv[1:]]))
