#!/usr/bin/env python3
"""R-FCN for images of your own with boxes: the nets and the solver for a data set file that names `boxes`.

    netspec own my/set.txt                                      a small trunk, from scratch
    netspec own my/set.txt --weights weights/vgg16.caffemodel   VGG16's, conv5 as the shared maps

This file is a door to that command, and has what it writes.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

import numpy as np  # noqa: E402 - the path comes first
import rfcn  # noqa: E402
from own import Written, begins, kept  # noqa: E402
from trunks import Trunk, changed, fixed, vgg  # noqa: E402

from netspec import NetSpec  # noqa: E402
from netspec.base.errors import Error  # noqa: E402
from netspec.cli.main import main  # noqa: E402
from netspec.data import boxes, facts  # noqa: E402
from netspec.data.detection import MAX_SIZE, SCALE, DetectionData  # noqa: E402
from netspec.data.pictured import shared  # noqa: E402
from netspec.ops.base import Context  # noqa: E402
from netspec.proto import caffe_pb2  # noqa: E402
from netspec.train.validation import interval  # noqa: E402

RATES: dict[bool, dict[str, Any]] = {  # from scratch, and from weights: docs/rfcn.md has what else was tried
    False: dict(base_lr=0.01, clip_gradients=35), True: dict(base_lr=0.0001, type="Adam", momentum2=0.999)}
NEW = dict(type="gaussian", std=0.02)  # VGG16's features are large, and MSRA's would make scores of hundreds
ANCHORS = 4  # kinds of sizes


def write(path: Path, weights: str | None, iterations: int, batch: int, splits: tuple[str, str],
          mean: list[float] | None = None, scale: int | None = None) -> Written:
    """Write NAME-rfcn/SPLIT.prototxt and NAME-rfcn.prototxt beside the data set file.

    mean: BGR, where the file has none. scale: of images' shorter side (None: as most have it). Raises Error
    for a data set file or a list that is wrong or not there; then nothing is written.
    """
    own = {"mean": mean} if mean else {}
    given: dict[str, object] = {"dataset": str(path), "root": str(path.parent), **own}
    readers = [reader(given | dict(split=split), phase)
               for split, phase in zip(splits, (caffe_pb2.TRAIN, caffe_pb2.TEST), strict=True)]
    for each in readers:
        each.check_files()
    if told := shared(*readers):
        raise Error(f"{path}: {told}")
    scale, scales = sizes(readers[0], scale)
    most = scale * MAX_SIZE // SCALE
    given |= {"scale": scale, "max_size": most}
    layout = boxes.layout(str(path), own)
    stated = facts.written(layout, dataset=str(path), scale=scale, max_size=most)
    data = rfcn.Data(len(readers[0].facts.names), {split: given | dict(split=split) for split in splits},
                     scales=scales, facts=stated, size=(scale, scale * 4 // 3))
    net = replace(rfcn.NETS["shapes-rfcn"], data=data)
    if weights:
        net = replace(net, ends=vgg16_ends, learns=(0, 0, 1, 1, 1), width=512, head=(3, 10), rpn=512,
                      filler=NEW)
    name, folder = f"{path.stem}-rfcn", path.parent
    replaced: list[Path] = []
    made = {split: named(name, net, split) for split in (*splits, "deploy")}
    if weights:
        begins(path, weights, made["deploy"])
    for split, written in made.items():
        replaced += kept(folder / name / f"{split}.prototxt", written)
    solver = folder / f"{name}.prototxt"
    replaced += kept(solver, caffe_pb2.SolverParameter(
        train_net=str(folder / name / f"{splits[0]}.prototxt"), weights=[weights] if weights else [],
        test_net=[str(folder / name / f"{splits[1]}.prototxt")], test_iter=[len(readers[1])],
        test_interval=interval(len(readers[1]), batch, iterations), test_initialization=False,
        **RATES[bool(weights)], lr_policy="step", gamma=0.1, stepsize=max(1, iterations * 2 // 3),
        momentum=0.9, weight_decay=0.0005, iter_size=batch, max_iter=iterations,
        display=20, average_loss=20, random_seed=1, snapshot=max(1, iterations // 10),
        snapshot_prefix=str(folder / "snapshot" / name)))
    return Written([str(solver)], replaced=replaced)


def named(name: str, net: rfcn.RFCN, split: str) -> caffe_pb2.NetParameter:
    n = NetSpec()
    rfcn.end_to_end(n, net, split)
    made = n.to_proto()
    made.name = name
    return made


def reader(given: dict, phase: caffe_pb2.Phase) -> DetectionData:
    layer = caffe_pb2.LayerParameter(name="data", type="Python", top=DetectionData.usual_tops(""))
    layer.python_param.param_str = str(given)
    return DetectionData(layer, (), Context(phase))


def sizes(source: DetectionData, scale: int | None) -> tuple[int, list[float]]:
    """What images' shorter side is brought to: what is given, else as most have it, at most R-FCN's; and the
    scales of anchors, in units of 16 pixels, which suit the boxes of each class, however few it has."""
    records = [source.record(index) for index in source.drawn]
    sides = np.array([min(record.size) for record in records])
    scale = scale or min(SCALE, int(np.median(sides)))
    found = np.concatenate([np.sqrt(np.prod(record.boxes[:, 2:] - record.boxes[:, :2] + 1, 1)) * scale / side
                            for record, side in zip(records, sides, strict=True)])
    kinds = np.concatenate([record.classes for record in records])
    ends = np.array([np.quantile(found[kinds == kind], (0.05, 0.95)) for kind in np.unique(kinds)])
    least, most = np.array([ends[:, 0].min(), ends[:, 1].max()]).clip(8) / 16
    steps = np.geomspace(least, most, ANCHORS)
    return scale, sorted({round(float(step), 2) for step in steps})


def vgg16_ends(n: NetSpec, mults: Sequence[float]) -> Sequence[object]:
    """Of VGG16's trunk without pool4, stride 8, for small objects; the RPN stands on block 5 as well, which
    sees twice as far as block 4."""
    layers = changed(vgg(2, 2, 3, 3, 3), **{f"conv5_{i}": dict(dilation=2) for i in (1, 2, 3)})
    layers = fixed(layers, *(f"conv{i}" for i, mult in enumerate(mults, 1) if not mult))
    del layers["pool4"]
    made = Trunk(layers, same=True).build(n, n.data, "conv5_3")
    return [*(made[f"conv{i}"] for i in ("1_2", "2_2", "3_3")), *[made["conv5_3"]] * 2]


if __name__ == "__main__":
    sys.exit(main(["own", *sys.argv[1:]]))
