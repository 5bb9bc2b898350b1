"""What `tests/judge.py` asks of targets: anchors, transforms, overlaps, suppression, proposals, targets.

A file has `config` (JSON), `in:*` and `out:*`, as the detection releases computed them.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from golden_case import close

from netspec.net.build import build
from netspec.net.module import Net
from netspec.ops import boxes
from netspec.ops.anchors import base_anchors
from netspec.ops.settings import read_settings
from netspec.proto import caffe_pb2
from netspec.proto.text import parse

Arrays = dict[str, np.ndarray]
Found = Iterator[tuple[str, np.ndarray, np.ndarray]]  # what it is, what was found, what was expected


class First:
    """A generator of random numbers that chooses what comes first, as the files do."""

    def choice(self, count: int, size: int, replace: bool) -> np.ndarray:
        return np.arange(size)


def net(kind: str, module: str, settings: dict, given: Arrays, tops: list[str], phase: int, text: str = "") -> Net:
    """A net of one layer in Python; text: param_str as it stands in the prototxt, which the settings go with."""
    inputs = "".join(f'layer {{ name: "{b}" type: "Input" top: "{b}" input_param {{ shape {{ '
                     f'{" ".join(f"dim: {n}" for n in array.shape)} }} }} }}\n' for b, array in given.items())
    param = repr((read_settings(text) or {}) | settings)
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
    found = min(runs, key=lambda tops: np.abs(tops["bbox_targets"] - wanted["bbox_targets"]).max())
    for top, array in found.items():
        yield top, array, wanted[top]


KINDS: dict[str, Callable[[dict, Arrays, Arrays], Found]] = {  # by the names of files
    "anchors_*": anchors, "box_transform*": box_transform, "overlaps*": overlaps, "nms_*": nms, "softnms_*": softnms,
    "proposals_*": proposals, "anchor_targets*": anchor_targets, "proposal_targets*": proposal_targets}


def judged(kind: Callable[[dict, Arrays, Arrays], Found]) -> Callable[[Path], None]:
    """What judges a case of a kind."""
    def judge(case: Path) -> None:
        held = dict(np.load(case.with_name(f"{case.name}.npz")))
        parts = ({name.removeprefix(start): array for name, array in held.items() if name.startswith(start)}
                 for start in ("in:", "out:"))
        for name, found, wanted in kind(json.loads(str(held["config"])), *parts):
            close(name, found, wanted)
            assert wanted.dtype.kind not in "iub" or np.array_equal(found, wanted), f"{name}: {found}, expected {wanted}"
    return judge
