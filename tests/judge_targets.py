"""Judges files of targets: anchors, transforms, overlaps, suppression, proposals, targets, detections.

A file NAME.npz has `config` (JSON), `in:*` and `out:*`, as the detection releases computed them. Its kind follows from
how NAME begins. `python tests/judge_targets.py FOLDER` prints a line for each disagreement and `N of M agree`.
"""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from netspec.net.build import build
from netspec.net.module import Net
from netspec.ops import boxes
from netspec.ops.anchors import base_anchors
from netspec.proto import caffe_pb2
from netspec.proto.text import parse

Arrays = dict[str, np.ndarray]
Found = Iterator[tuple[str, np.ndarray, np.ndarray]]  # what it is, what was found, what was expected


class First:
    """A generator of random numbers that chooses what comes first, as the files do."""

    def choice(self, count: int, size: int, replace: bool) -> np.ndarray:
        return np.arange(size)


def net(kind: str, module: str, settings: dict, given: Arrays, tops: list[str], phase: int, text: str = "") -> Net:
    """A net of one layer in Python; text: param_str as it stands in the prototxt, before the settings."""
    inputs = "".join(f'layer {{ name: "{b}" type: "Input" top: "{b}" input_param {{ shape {{ '
                     f'{" ".join(f"dim: {n}" for n in array.shape)} }} }} }}\n' for b, array in given.items())
    param = (text.strip().removeprefix("{").removesuffix("}").replace(", '", "\n'") + "\n"
             + "\n".join(f"{key}: {json.dumps(value)}" for key, value in settings.items()))
    layer = (f'layer {{ name: "l" type: "Python" {" ".join(f"bottom: {b!r}" for b in given)} '
             f'{" ".join(f"top: {t!r}" for t in tops)} '
             f'python_param {{ module: "{module}" layer: "{kind}" param_str: {json.dumps(param)} }} }}')
    return Net(build(parse(inputs + layer, caffe_pb2.NetParameter), phase))


def run(made: Net, given: Arrays, tops: list[str]) -> Arrays:
    found = made({blob: torch.from_numpy(array) for blob, array in given.items()}, want=tops)
    return {top: found[top].numpy() for top in tops}


def anchors(config: dict, given: Arrays, wanted: Arrays) -> Found:
    yield "anchors", base_anchors(**config).numpy(), wanted["anchors"]


def box_transform(config: dict, given: Arrays, wanted: Arrays) -> Found:
    held = {name: torch.from_numpy(array) for name, array in given.items()}
    yield "targets", boxes.encode(held["boxes"], held["gt"]).numpy(), wanted["targets"]
    predicted = boxes.decode(held["boxes"], held["deltas"])
    yield "predicted", predicted.numpy(), wanted["predicted"]
    yield "clipped", boxes.clip(predicted, config["image_h_w"]).numpy(), wanted["clipped"]


def overlaps(config: dict, given: Arrays, wanted: Arrays) -> Found:
    yield "overlaps", boxes.overlaps(*map(torch.from_numpy, (given["a"], given["b"]))).numpy(), wanted["overlaps"]


def nms(config: dict, given: Arrays, wanted: Arrays) -> Found:
    dets = torch.from_numpy(given["dets"])
    for name, strict in (("keep", False), ("keep_gt", True)):
        if name in wanted:
            yield name, boxes.nms(dets, dets[:, 4], config["threshold"], strict=strict).numpy(), wanted[name]


def softnms(config: dict, given: Arrays, wanted: Arrays) -> Found:
    dets = torch.from_numpy(given["dets"])
    order, scores = boxes.soft_nms(dets, dets[:, 4], config["method"], sigma=config["sigma"], overlap=config["Nt"],
                                   threshold=config["threshold"])
    yield "dets", torch.cat([dets[order, :4], scores[:, None]], 1).numpy(), wanted["dets"]


def proposals(config: dict, given: Arrays, wanted: Arrays) -> Found:
    settings = {"rpn_pre_nms_top_n": config["pre_nms"], "rpn_post_nms_top_n": config["post_nms"],
                "rpn_nms_thresh": config["nms"], "rpn_min_size": config["min_size"], **rpn_normalised(config)}
    made = net("ProposalLayer", "rpn.proposal_layer", settings, given, [*wanted], caffe_pb2.Phase.Value(config["phase"]),
               config["param_str"])
    for top, array in run(made, given, [*wanted]).items():
        yield top, array, wanted[top]


def rpn_normalised(config: dict) -> dict:
    return {"rpn_normalize_targets": config["normalized"], "rpn_normalize_means": config["means"],
            "rpn_normalize_stds": config["stds"]}


def anchor_targets(config: dict, given: Arrays, wanted: Arrays) -> Found:
    tops = ["rpn_labels", "rpn_bbox_targets", "rpn_bbox_inside_weights", "rpn_bbox_outside_weights"]
    settings = {"rpn_batchsize": config["batch"], "rpn_fg_fraction": config["fg_fraction"],
                "rpn_positive_overlap": config["positive"], "rpn_negative_overlap": config["negative"],
                "rpn_clobber_positives": config["clobber"], "rpn_positive_weight": config["positive_weight"],
                **rpn_normalised(config)}
    height, width = config["feature_map"] if "feature_map" in config else wanted["rpn_bbox_targets"].shape[2:]
    given = {"map": np.zeros((1, 1, height, width), np.float32), **given}
    found = run(net("AnchorTargetLayer", "rpn.anchor_target_layer", settings, given, tops, caffe_pb2.TRAIN,
                    config["param_str"]), given, tops)
    labels = found["rpn_labels"]
    numbers = [int((labels == value).sum()) for value in (1, 0, -1)]
    yield "counts", np.array(numbers), np.array([*config["counts"].values()])
    for top in set(tops) & set(wanted):
        yield top, found[top], wanted[top]
    if "candidates" in wanted:  # who was drawn is chance, who could be is not
        yield "candidates", np.where(labels < 0, wanted["candidates"], labels), wanted["candidates"]
    if "outside_weights" in config:
        yield "outside weights", np.unique(found[tops[3]]), np.float32(config["outside_weights"])


def proposal_targets(config: dict, given: Arrays, wanted: Arrays) -> Found:
    settings = {"num_classes": config["num_classes"], "batch_size": config["batch"], "fg_fraction": config["fg_fraction"],
                "fg_thresh": config["fg"], "bg_thresh_hi": config["bg_hi"], "bg_thresh_lo": config["bg_lo"],
                "agnostic": config["agnostic"], "bbox_normalize_means": config["means"],
                "bbox_normalize_stds": config["stds"]}
    runs = []
    for normalised in (True, False):  # the files don't say: either will do
        made = net("ProposalTargetLayer", "rpn.proposal_target_layer",
                   settings | {"bbox_normalize_targets_precomputed": normalised}, given, [*wanted], caffe_pb2.TRAIN)
        made.graph.node("l").op.generator = First
        runs.append(run(made, given, [*wanted]))
    found = runs[0] if agrees(runs[0]["bbox_targets"], wanted["bbox_targets"]) else runs[1]
    for top, array in found.items():
        yield top, array, wanted[top]


def detections(config: dict, given: Arrays, wanted: Arrays) -> Found:
    rois, scores, deltas = (torch.from_numpy(given[name]) for name in ("rois", "cls_prob", "bbox_pred"))
    moved = boxes.clip(boxes.decode(rois[:, 1:] / config["scale"], deltas), config["image_h_w"])
    rows = []
    for kind in range(1, scores.shape[1]):
        column = 4 if config["agnostic"] else 4 * kind
        good = scores[:, kind] > config["threshold"]
        kept = boxes.nms(moved[good, column : column + 4], scores[good, kind], config["nms"])
        rows += [[kind, *box, score] for box, score in zip(moved[good, column : column + 4][kept].tolist(),
                                                           scores[good, kind][kept].tolist(), strict=True)]
    yield "before the limit", np.array(len(rows)), np.array(config["before_the_limit"])
    least = sorted(row[5] for row in rows)[-config["max_per_image"] :][0] if rows else 0
    yield "detections", np.array([row for row in rows if row[5] >= least], np.float32).reshape(-1, 6), wanted["detections"]


KINDS: dict[str, Callable[[dict, Arrays, Arrays], Found]] = {
    "anchors_": anchors, "box_transform": box_transform, "overlaps": overlaps, "nms_": nms, "softnms_": softnms,
    "proposals_": proposals, "anchor_targets": anchor_targets, "proposal_targets": proposal_targets,
    "detections_": detections}


def agrees(found: np.ndarray, wanted: np.ndarray) -> bool:
    """Whole numbers exactly, others within 1e-5 + 1e-4 |b|."""
    if found.shape != wanted.shape:
        return False
    if wanted.dtype.kind in "iub":
        return bool((found == wanted).all())
    return bool((np.abs(found - wanted) <= 1e-5 + 1e-4 * np.abs(wanted)).all())


def judge(path: Path) -> list[str]:
    """What of a file disagrees, each in a sentence; KeyError for a kind that is not known."""
    with np.load(path, allow_pickle=False) as file:
        held = {name: file[name] for name in file.files}
    kind = next((kind for start, kind in KINDS.items() if path.stem.startswith(start)), None)
    if kind is None:
        raise KeyError(path.stem)
    parts = ({name.removeprefix(start): array for name, array in held.items() if name.startswith(start)}
             for start in ("in:", "out:"))
    said = []
    for name, found, wanted in kind(json.loads(str(held["config"])), *parts):
        if found.shape != wanted.shape:
            said.append(f"{name} has shape {[*found.shape]}, expected {[*wanted.shape]}")
        elif not agrees(found, wanted):
            said.append(f"{name} is up to {np.abs(found - wanted).max():g} away")
    return said


def main(folder: Path) -> int:
    count = right = 0
    for path in sorted(folder.glob("*.npz")):
        try:
            said = judge(path)
        except KeyError:
            continue
        count += 1
        right += not said
        for sentence in said:
            print(f"{path.name}: {sentence}")
    print(f"{right} of {count} agree")
    return int(right < count or not count)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
