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

from netspec import layouts, prototext  # noqa: E402
from netspec.errors import Error  # noqa: E402
from netspec.files import writing  # noqa: E402

RATES = {False: (3e-3, 1e-3, 1e-3), True: (1e-4, 1e-6, 1e-8)}  # the demo's, and the paper's


def write(path: Path, weights: str | None, iterations: int, batch: int, splits: tuple[str, str]) -> list[str]:
    """Write NAME-fcn32s/SPLIT.prototxt, NAME-fcn32s.prototxt and so on beside the data set file; the solvers' paths."""
    facts = layouts.facts(str(path))
    train, val = splits
    options = dict(dataset=str(path), root=str(path.parent))
    data = fcn.Data((fcn.Head(len(facts.names)),),
                    {train: dict(split=train, batch_size=batch, mirror=True), val: dict(split=val)},
                    void=-1 if facts.void is None else facts.void, options=options)
    solvers: list[str] = []
    for (stride, sources), rate in zip(fcn.STAGES.items(), RATES[bool(weights)], strict=True):
        name = f"{path.stem}-fcn{stride}s"
        net = fcn.FCN(fcn.VGG16 if weights else fcn.SMALL, data, sources)
        for split in (*splits, "deploy"):
            made = fcn.fcn(net, split)
            made.name = name
            prototext.write(path.parent / name / f"{split}.prototxt", made)
        start = f"{path.parent}/snapshot/{path.stem}-fcn{2 * stride}s_iter_{iterations}.caffemodel" if solvers else weights
        lines = [f'train_net: "{path.parent}/{name}/{train}.prototxt"', *([f'weights: "{start}"'] if start else []),
                 f'base_lr: {rate:g} lr_policy: "fixed" momentum: 0.9 weight_decay: 0.0005', f"max_iter: {iterations}",
                 "display: 20 average_loss: 20 random_seed: 1", f'snapshot: 200 snapshot_prefix: "{path.parent}/snapshot/{name}"']
        solvers.append(f"{path.parent}/{name}.prototxt")
        with writing(solvers[-1]) as out:
            out.write(("\n".join(lines) + "\n").encode())
    return solvers


def main() -> None:
    parser = argparse.ArgumentParser(description="Nets and solvers for images of your own.")
    parser.add_argument("dataset", type=Path, metavar="SET.txt", help="the data set file; all is written beside it")
    parser.add_argument("--weights", metavar="FILE", help="VGG16's weights to start from (default: a small trunk, from scratch)")
    parser.add_argument("--iterations", type=int, default=600, metavar="N", help="of each stage (default 600)")
    parser.add_argument("--batch", type=int, default=5, metavar="N", help="images a step (default 5)")
    parser.add_argument("--splits", nargs=2, default=("train", "val"), metavar=("TRAIN", "VAL"), help="lists (default train val)")
    args = parser.parse_args()
    try:
        path = args.dataset
        if not path.is_file():
            raise Error(f"the data set file {path} is not there; docs/datasets.md says what it holds")
        solvers = write(path, args.weights, args.iterations, args.batch, tuple(args.splits))
    except Error as e:
        sys.exit(f"models/own.py: {e}")
    print(f"check  netspec data check {solvers[0]}\ntrain  tools/solve.py {' '.join(solvers)}\n"
          f"score  tools/score.py {path.parent}/{path.stem}-fcn8s/{args.splits[1]}.prototxt "
          f"{path.parent}/snapshot/{path.stem}-fcn8s_iter_{args.iterations}.caffemodel")


if __name__ == "__main__":
    main()
