#!/usr/bin/env python3
"""Nets and solvers for images of your own: FCN-32s, 16s and 8s for a data set file (docs/datasets.md).

    models/own.py my/set.txt                                      a small trunk, from scratch
    models/own.py my/set.txt --weights weights/vgg16.caffemodel   VGG16's, at the paper's rates
"""

import argparse
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

import fcn  # noqa: E402 - the path comes first
from sets import Data, Head  # noqa: E402
from trunks import SMALL, VGG16  # noqa: E402

from netspec.base.errors import Error  # noqa: E402
from netspec.data import layouts  # noqa: E402
from netspec.data.segmentation import SegmentationData  # noqa: E402
from netspec.ops.base import Context  # noqa: E402
from netspec.proto import caffe_pb2  # noqa: E402
from netspec.proto import text as prototext  # noqa: E402
from netspec.train import snapshot as resume  # noqa: E402

RATES = {False: (3e-3, 1e-3, 1e-3), True: (1e-4, 1e-6, 1e-8)}  # the demo's, and the paper's


def write(path: Path, weights: str | None, iterations: int, batch: int, splits: tuple[str, str]) -> list[str]:
    """Write NAME-fcn32s/SPLIT.prototxt, NAME-fcn32s.prototxt, ... beside the data set file; the solvers.

    Raises Error for a data set file or a list that is wrong or not there; then nothing is written.
    """
    if not 0 < iterations < 1 << 31:
        raise Error(f"--iterations must be from 1 to 2147483647, found {iterations}")
    facts = layouts.facts(str(path))
    (train, val), folder = splits, path.parent
    data = Data((Head(len(facts.names)),), {split: dict(dataset=str(path), root=str(folder), split=split)
                                            for split in splits}, -1 if facts.void is None else facts.void)
    data.splits[train] |= dict(batch_size=batch, mirror=True)
    solvers: list[str] = []
    for (stride, sources), rate in zip(fcn.STAGES.items(), RATES[bool(weights)], strict=True):
        name = f"{path.stem}-fcn{stride}s"
        net = fcn.FCN(VGG16 if weights else SMALL, data, sources)
        nets = {split: fcn.fcn(net, split) for split in (*splits, "deploy")}
        images = [len(SegmentationData(nets[split].layer[0], (), Context())) for split in splits]
        for split, made in nets.items():
            made.name = name
            prototext.write(folder / name / f"{split}.prototxt", made)
        before = resume.stem(f"{folder}/snapshot/{path.stem}-fcn{2 * stride}s", iterations)
        start = f"{before}.caffemodel" if solvers else weights
        solvers.append(f"{folder}/{name}.prototxt")
        prototext.write(solvers[-1], caffe_pb2.SolverParameter(
            train_net=f"{folder}/{name}/{train}.prototxt", weights=[start] if start else [],
            # made and checked, and scored by tools/score.py
            test_net=[f"{folder}/{name}/{val}.prototxt"], test_iter=images[1:], test_interval=999999999,
            test_initialization=False, base_lr=rate, lr_policy="fixed", momentum=0.9, weight_decay=0.0005,
            max_iter=iterations, display=20, average_loss=20, random_seed=1, snapshot=200,
            snapshot_prefix=f"{folder}/snapshot/{name}"))
    return solvers


def main() -> None:
    parser = argparse.ArgumentParser(description="Nets and solvers for images of your own.")
    add = parser.add_argument
    add("dataset", type=Path, metavar="SET.txt", help="the data set file; all is written beside it")
    add("--weights", metavar="FILE",
        help="VGG16's weights to start from (default: a small trunk, from scratch)")
    add("--iterations", type=int, default=600, metavar="N", help="of each stage (default 600)")
    add("--batch", type=int, default=5, metavar="N", help="images a step (default 5)")
    add("--splits", nargs=2, default=("train", "val"), metavar=("TRAIN", "VAL"),
        help="lists (default train val)")
    args = parser.parse_args()
    try:
        path = args.dataset
        if not path.is_file():
            raise Error(f"the data set file {path} is not there; docs/datasets.md says what it holds")
        solvers = write(path, args.weights, args.iterations, args.batch, tuple(args.splits))
    except Error as e:
        print(f"models/own.py: {e}", file=sys.stderr)
        sys.exit(2)
    print(f"check  netspec data check {solvers[0]}\ntrain  tools/solve.py {' '.join(solvers)}\n"
          f"score  tools/score.py {path.parent}/{path.stem}-fcn8s/{args.splits[1]}.prototxt "
          f"{resume.stem(f'{path.parent}/snapshot/{path.stem}-fcn8s', args.iterations)}.caffemodel")


if __name__ == "__main__":
    main()
