"""The layers of detection nets in Python: what they choose, what they draw, what they refuse."""

import json

import h5py
import numpy as np
import pytest
import torch
from training import changed, params_of, same, write_job

from netspec.base.errors import Error
from netspec.net.build import build
from netspec.net.layerwise import Layerwise
from netspec.net.module import Net
from netspec.net.plan import Plan
from netspec.ops.anchors import all_anchors, base_anchors
from netspec.ops.boxes import decode, encode, overlaps
from netspec.ops.settings import read_settings
from netspec.proto import caffe_pb2
from netspec.proto.text import parse
from netspec.train.solver import get_solver

TRAIN, TEST = caffe_pb2.TRAIN, caffe_pb2.TEST
MODULES = {"ProposalLayer": ("rpn.proposal_layer", "scores deltas im_info", "rois"),
           "AnchorTargetLayer": ("rpn.anchor_target_layer", "map gt_boxes im_info data", "labels targets inside outside"),
           "ProposalTargetLayer": ("rpn.proposal_target_layer", "rois gt_boxes", "regions labels targets inside outside")}


def net(kind, given, param="", tops="", more="", phase=TRAIN):
    """A net of one of the layers, and what follows it."""
    module, bottoms, names = MODULES[kind]
    inputs = "".join(f'layer {{ name: "{b}" type: "Input" top: "{b}" input_param {{ shape {{ '
                     f'{" ".join(f"dim: {n}" for n in given[b].shape)} }} }} }}\n' for b in bottoms.split())
    layer = (f'layer {{ name: "l" type: "Python" {" ".join(f"bottom: {b!r}" for b in bottoms.split())} '
             f'{" ".join(f"top: {t!r}" for t in (tops or names).split())} python_param {{ module: "{module}" layer: "{kind}" '
             f'param_str: {json.dumps(param)} }} }}\n')
    return Net(build(parse(inputs + layer + more, caffe_pb2.NetParameter), phase))


def run(kind, given, param="", **more):
    made = net(kind, given, param, **more)
    return made(given, want=MODULES[kind][2].split())


def boxes_of(*rows):
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 5)


def rpn(height=4, width=5, scale=1.0, seed=0, size=1.0):
    rng = np.random.RandomState(seed)
    scores, deltas = rng.rand(1, 18, height, width), size * rng.randn(1, 36, height, width)
    return {"scores": torch.from_numpy(scores).float(), "deltas": torch.from_numpy(deltas).float() * 0.3,
            "im_info": torch.tensor([[16.0 * height, 16.0 * width, scale]])}


def training(height=14, width=18):
    info = torch.tensor([[16.0 * height, 16.0 * width, 1]])
    return {"map": torch.zeros(1, 18, height, width), "im_info": info, "data": torch.zeros(1, 3, 16 * height, 16 * width),
            "gt_boxes": boxes_of([20, 30, 150, 170, 3], [100, 20, 260, 120, 1])}


def proposed(count=80, seed=0):
    rng = np.random.RandomState(seed)
    truth = boxes_of([20, 30, 150, 170, 3], [100, 20, 260, 120, 1])
    near = truth[rng.randint(0, 2, count), :4] + torch.from_numpy(rng.uniform(-60, 60, (count, 4))).float()
    near = torch.cat([near[:, :2].clamp(min=0), near[:, :2].clamp(min=0).maximum(near[:, 2:])], 1)
    return {"rois": torch.cat([torch.zeros(count, 1), near], 1), "gt_boxes": truth}


# param_str


@pytest.mark.parametrize("text, found", [
    ("'feat_stride': 16 \n'scales': !!python/tuple [4, 8, 16, 32]", {"feat_stride": 16, "scales": (4, 8, 16, 32)}),
    ("{'feat_stride': 16, 'scales': [4, 8]}", {"feat_stride": 16, "scales": [4, 8]}),
    ("{feat_stride: 16, a: {b: 'c, d', e: []}}  # so", {"feat_stride": 16, "a": {"b": "c, d", "e": []}}),
    ("---\na:\n  - 4\n  - 8.5 # eight\nb: yes\n\n# c\nc: !!python/tuple\n- 1\n- -2", {"a": [4, 8.5], "b": True, "c": (1, -2)}),
    ("a: (1, 2)\nb: 1e-3\nc: null\n", {"a": (1, 2), "b": 0.001, "c": None}),
    ("a: [\n  1,\n  2 ]\nb: two words", {"a": [1, 2], "b": "two words"}),
    ('"a": "x: #1"\nb: \'it\'\'s\'\nc: C:/x # y', {"a": "x: #1", "b": "it's", "c": "C:/x"}),
    ("dict(a=1)", None), ("a=1", None), ("a:1", None), ("a: [1, 2", None), ("{'a': 1", None), ("a: 1\n  b: 2", None), ("a: b: c", None),
    ("7", None), ("", {}), ("  \n", {}), ("a: &x 1", None), ("a:\n - - 1", None), ("a: *x", None), ("a: !!python/name:os.system", None),
    ("a: !!python/object/apply:os.system ['true']", None), ("!!python/object:os.x {a: 1}", None), ("'a': 1, 'b': 2", None),
])
def test_param_str_is_read_and_never_evaluated(text, found):
    assert read_settings(text) == found


@pytest.mark.parametrize("param, words", [
    ("'feat_strid': 16", "param_str has no key 'feat_strid'; did you mean 'feat_stride'"),
    ("'feat_stride': 0", "'feat_stride' takes a whole number from 1, found 0"),
    ("'scales': []", r"'scales' takes a list of numbers above 0, found \[\]"),
    ("'scales': !!python/tuple [4, -8]", r"'scales' takes a list of numbers above 0, found \(4, -8\)"),
    ("'rpn_nms_thresh': 1.5", "takes a number from 0 to 1, found 1.5"),
    ("'rpn_min_size': .inf", "takes a number from 0, found '.inf'"),
    ("'rpn_normalize_stds': [1, 1, 1]", "takes 4 numbers above 0"),
    ("'rpn_normalize_targets': 1", "takes True or False, found 1"),
    ("'nms': 1\n'feat_stride': 8\n'feat_stride': 16", "param_str gives 'feat_stride' twice, 8 and 16; leave one out"),
    ("{'feat_stride': 8, 'feat_stride': 16}", "param_str gives 'feat_stride' twice, 8 and 16; leave one out"),
    ("{feat_stride: 8, feat_stride: 8} # so", "param_str gives 'feat_stride' twice, 8 and 8; leave one out"),
    ("{'scales': {'a': 1, 'b': {}, 'a': [2]}}", r"param_str gives 'a' twice, 1 and \[2\]; leave one out"),
    ("scales:\n- 8\nnms: 1\nscales: 2", r"param_str gives 'scales' twice, \[8\] and 2; leave one out"),
    ("import os", "param_str must be a dict, .* or lines of 'KEY': VALUE; found 'import os'"),
])
def test_settings_that_cannot_be_are_refused(param, words):
    with pytest.raises(Error, match=f"layer 'l' .*{words}"):
        net("ProposalLayer", rpn(), param)


# Proposal


def test_proposals_are_those_of_a_loop():
    given = rpn(6, 8, 1.25)
    rois, scores = net("ProposalLayer", given, "'rpn_min_size': 20", "rois sure", phase=TEST)(given, want=["rois", "sure"]).values()
    anchors = all_anchors(base_anchors(), 16, 6, 8).float()
    rows = [(i, j, k) for i in range(6) for j in range(8) for k in range(9)]
    deltas = torch.stack([given["deltas"][0, 4 * k : 4 * k + 4, i, j] for i, j, k in rows])
    moved = decode(anchors, deltas).clamp(min=0).minimum(torch.tensor([127, 95, 127, 95.0]))
    found = []
    for row in sorted(range(len(rows)), key=lambda r: -float(given["scores"][0, 9 + rows[r][2], rows[r][0], rows[r][1]])):
        box = moved[row]
        if (box[2:] - box[:2] + 1 >= 25).all() and not any(overlaps(box[None], moved[[f]])[0, 0] >= 0.7 for f in found):
            found.append(row)
    assert 10 < len(found) < 300 and torch.equal(rois, torch.cat([torch.zeros(len(found), 1), moved[found]], 1))
    assert scores[:, 0].tolist() == [float(given["scores"][0, 9 + rows[r][2], rows[r][0], rows[r][1]]) for r in found]


def test_equal_scores_come_in_the_releases_order():
    """It sorts what is sorted once more, which turns up to 16 equal ones round again."""
    given = rpn(1, 1, size=0) | {"im_info": torch.tensor([[400.0, 400, 1]])}
    given["scores"][0, 9:] = torch.tensor([2, 1, 2, 1, 1, 2, 1, 2, 1.0])[:, None, None]
    moved = decode(base_anchors().float(), torch.zeros(9, 4)).clamp(0, 399)
    assert torch.equal(run("ProposalLayer", given, "'rpn_nms_thresh': 1.0")["rois"][:, 1:], moved[[0, 2, 5, 7, 1, 3, 4, 6, 8]])


CPP = ('layer {{ name: "c" type: "Proposal" bottom: "scores" bottom: "deltas" bottom: "im_info" top: "these" '
       'proposal_param {{ {} }} }}')


@pytest.mark.parametrize("settings, param", [
    ("", ""), ("ratio: 0.5 ratio: 1 ratio: 2 scale: 8 scale: 16 scale: 32", ""),
    ("min_size: 40 pre_nms_topn: 50 post_nms_topn: 9 nms_thresh: 0.5 base_size: 8 feat_stride: 8 scale: 4 scale: 8 scale: 20",
     "{'rpn_min_size': 40, 'rpn_pre_nms_top_n': 50, 'rpn_post_nms_top_n': 9, 'rpn_nms_thresh': 0.5, 'base_size': 8, 'feat_stride': 8, "
     "'scales': (4, 8, 20)}")])
def test_the_forks_layer_in_cpp_is_the_same(settings, param):
    given = rpn()
    made = net("ProposalLayer", given, param, more=CPP.format(settings), phase=TEST)
    found = made(given, want=["rois", "these"])
    assert len(found["rois"]) > 2 and torch.equal(found["rois"], found["these"])
    with pytest.raises(Error, match=r"layer 'c' \(Proposal\): needs feat_stride, base_size, ratio and scale above 0"):
        net("ProposalLayer", given, more=CPP.format("scale: 0"))


def test_pvanets_scales_of_height_and_width_are_the_layers_in_cpp():
    given = rpn()
    wide = given | {"im_info": torch.tensor([[800.0, 800, 3, 1 / 3, 7, 7]])}
    made = net("ProposalLayer", wide, more=CPP.format("min_size: 30 nms_thresh: 1 pre_nms_topn: 100000 post_nms_topn: 100000"), phase=TEST)
    found = made(wide, want=["these"])["these"]
    sides = found[:, 3:] - found[:, 1:3] + 1
    assert len(found) and (sides[:, 0] >= 10).all() and (sides[:, 1] >= 90).all()
    assert (sides[:, 0] < 90).any()  # which one scale for both would have left out
    one = run("ProposalLayer", wide, "{'rpn_min_size': 30}", phase=TEST)["rois"]  # Python's takes the first for both
    assert (one[:, 3:] - one[:, 1:3] + 1 >= 90).all()


def test_normalised_transforms_are_taken_back_in_training_alone():
    given = rpn()
    plain = given | {"deltas": given["deltas"] * torch.tensor([0.1, 0.1, 0.2, 0.2]).repeat(9)[:, None, None]}
    param = "'rpn_normalize_targets': True"
    torch.testing.assert_close(run("ProposalLayer", given, param)["rois"], run("ProposalLayer", plain)["rois"])
    assert torch.equal(run("ProposalLayer", given, param, phase=TEST)["rois"], run("ProposalLayer", given, phase=TEST)["rois"])


POOLED = ('layer { name: "p" type: "ROIPooling" bottom: "scores" bottom: "rois" top: "p" '
          'roi_pooling_param { pooled_h: 2 pooled_w: 2 spatial_scale: 0.0625 } }\n'
          'layer { name: "f" type: "InnerProduct" bottom: "p" top: "f" inner_product_param { num_output: 3 } }\n'
          'layer { name: "s" type: "Softmax" bottom: "f" top: "s" }\n')


@pytest.mark.parametrize("size, least", [(1.0, 5), (0.0, 0)])
def test_layers_behind_take_as_many_regions_as_there_are(size, least):
    """Also none, where all are too small; also layer by layer, as pycaffe runs a net, and by a plan."""
    given = rpn(size=size) | ({} if size else {"im_info": torch.tensor([[64.0, 80, 40]])})
    made = net("ProposalLayer", given, more=POOLED, phase=TEST)
    found = made(given, want=["rois", "s"])
    count = len(found["rois"])
    assert (count > least if least else count == 0) and found["s"].shape == (count, 3)
    layers = Layerwise(made)
    layers.run(given)
    assert layers.blobs["rois"].shape == (count, 5) and layers.blobs["s"].shape == (count, 3)
    np.testing.assert_allclose(layers.blobs["s"].data, found["s"].detach(), rtol=1e-6)
    torch.testing.assert_close(Plan.of(made)(given)["s"], found["s"].detach())


@pytest.mark.parametrize("blob, value, words", [
    ("scores", torch.zeros(1, 12, 4, 5), r"takes 'scores' of shape 1 x 18 x ... x ..., found \[1, 12, 4, 5\]"),
    ("scores", torch.zeros(2, 18, 4, 5), r"takes 'scores' of shape 1 x 18"),
    ("deltas", torch.zeros(1, 36, 5, 5), r"takes 'deltas' of shape 1 x 36 x 4 x 5, found \[1, 36, 5, 5\]"),
    ("im_info", torch.zeros(1, 2), r"takes 'im_info' of shape 1 x 3, found \[1, 2\]")])
def test_bottoms_that_do_not_fit_are_refused(blob, value, words):
    with pytest.raises(Error, match=words):
        net("ProposalLayer", rpn() | {blob: value})


# AnchorTarget


@pytest.mark.parametrize("step, image, told", [
    (16, (112, 144), "'map' and 'data' are 14 x 18 and 112 x 144: give the stride of that map, near 8"),
    (8, (224, 288), "near 16"), (16, (217, 281), None), (16, (250, 300), None)])
def test_a_feat_stride_that_is_not_the_maps_is_an_error(step, image, told):
    given = training() | {"data": torch.zeros(1, 3, *image)}
    if told is None:
        net("AnchorTargetLayer", given, f"'feat_stride': {step}")
        return
    with pytest.raises(Error, match=told):
        net("AnchorTargetLayer", given, f"'feat_stride': {step}")


def labelled(given, positive=0.7, negative=0.3):
    """Candidates by a loop: label and overlap of each anchor, in the order of rows."""
    height, width = given["map"].shape[2:]
    anchors = all_anchors(base_anchors(), 16, height, width)
    high, wide = given["im_info"][0, :2].tolist()
    truth = given["gt_boxes"]
    near = overlaps(anchors, truth)
    inside = [i for i, (x1, y1, x2, y2) in enumerate(anchors.tolist()) if x1 >= 0 and y1 >= 0 and x2 < wide and y2 < high]
    best = near[inside].max(0).values
    labels = np.full(len(anchors), -1.0)
    for i in inside:
        top = near[i].max()
        labels[i] = 1 if top >= positive or (near[i] == best).any() else 0 if top < negative else -1
    return labels, anchors, near


def rows(found, width):
    """A top's numbers in the order of rows."""
    labels = found["labels"].reshape(9, -1, width).permute(1, 2, 0).reshape(-1)
    return labels, *(found[top][0].permute(1, 2, 0).reshape(-1, 4) for top in ("targets", "inside", "outside"))


def test_all_anchors_that_can_be_chosen():
    given = training()
    expected, anchors, near = labelled(given)
    labels, targets, inside, outside = rows(run("AnchorTargetLayer", given, "rpn_batchsize: 100000"), 18)
    assert labels.tolist() == expected.tolist() and 2 < (expected == 1).sum() and 20 < (expected == 0).sum()
    fg = labels == 1
    torch.testing.assert_close(targets[fg], encode(anchors[fg], given["gt_boxes"][near.argmax(1)][fg][:, :4]).float())
    assert (inside == fg[:, None]).all()
    assert torch.equal(outside, ((labels >= 0) / (labels >= 0).sum())[:, None].expand(-1, 4).float())


def drawn_as_the_releases_do(labels, random, batch, share):
    labels, most = labels.copy(), int(batch * share)
    fg = np.where(labels == 1)[0]
    if len(fg) > most:
        labels[random.choice(fg, size=len(fg) - most, replace=False)] = -1
    bg, most = np.where(labels == 0)[0], batch - (labels == 1).sum()
    if len(bg) > most:
        labels[random.choice(bg, size=len(bg) - most, replace=False)] = -1
    return labels


@pytest.mark.parametrize("batch, share", [(24, 0.25), (24, 0.0), (8, 1.0)])
def test_anchors_are_drawn_as_numpys_generator_draws_for_a_stated_seed(batch, share):
    given, random = training(), np.random.RandomState(3)
    all_labels, anchors, _ = labelled(given)
    made = net("AnchorTargetLayer", given, f"{{'rpn_batchsize': {batch}, 'rpn_fg_fraction': {share}, 'seed': 3}}")
    inside = np.where(((anchors[:, :2] >= 0).all(1) & (anchors[:, 2] < 288) & (anchors[:, 3] < 224)).numpy())[0]
    for _ in range(2):  # the second pass goes on from the first
        expected = np.full(len(anchors), -1.0)
        expected[inside] = drawn_as_the_releases_do(all_labels[inside], random, batch, share)
        labels = rows(made(given, want=MODULES["AnchorTargetLayer"][2].split()), 18)[0]
        assert labels.tolist() == expected.tolist()


@pytest.mark.parametrize("kind, given", [("AnchorTargetLayer", training()), ("ProposalTargetLayer", proposed())])
def test_draws_follow_from_torchs_seed_and_differ_from_pass_to_pass(kind, given):
    made = net(kind, given, "{'rpn_batchsize': 16}" if kind[0] == "A" else "{'num_classes': 21, 'batch_size': 16}")
    found = []
    for _ in range(2):
        torch.manual_seed(5)
        found.append([made(given, want=["labels", "targets"]) for _ in range(2)])
    for one, other in zip(*found, strict=True):
        assert all(torch.equal(one[top], other[top]) for top in one)
    assert not torch.equal(found[0][0]["targets"], found[0][1]["targets"]) or not torch.equal(
        found[0][0]["labels"], found[0][1]["labels"])


def test_weights_and_normalised_transforms_of_anchors():
    given = training()
    plain = rows(run("AnchorTargetLayer", given, "rpn_batchsize: 100000"), 18)
    param = ("rpn_batchsize: 100000\nrpn_positive_weight: 0.4\nrpn_bbox_inside_weights: [1, 2, 3, 4]\n"
             "rpn_normalize_targets: yes\nrpn_normalize_means: [0.5, 0, 0, 0]")
    labels, targets, inside, outside = rows(run("AnchorTargetLayer", given, param), 18)
    fg, bg = labels == 1, labels == 0
    assert torch.allclose(outside[fg], 0.4 / fg.sum()) and torch.allclose(outside[bg], 0.6 / bg.sum())
    assert (inside[fg] == torch.tensor([1, 2, 3, 4])).all() and not inside[~fg].any()
    torch.testing.assert_close(targets[fg], (plain[1][fg] - torch.tensor([0.5, 0, 0, 0])) / torch.tensor([0.1, 0.1, 0.2, 0.2]))


def test_background_may_win_and_anchors_may_reach_over_the_edge():
    given = training() | {"gt_boxes": boxes_of([3, 3, 18, 18, 1])}  # nothing overlaps it by 0.3
    assert (run("AnchorTargetLayer", given, "{'rpn_batchsize': 99999}")["labels"] == 1).any()
    assert not (run("AnchorTargetLayer", given, "{'rpn_batchsize': 99999, 'rpn_clobber_positives': True}")["labels"] == 1).any()
    counts = [int((run("AnchorTargetLayer", given, f"{{'rpn_batchsize': 99999, 'allowed_border': {n}}}")["labels"] >= 0).sum())
              for n in (0, 50)]
    assert counts[0] < counts[1]


# ProposalTarget


def sampled_as_the_releases_do(near, random, batch, share, low):
    fg, most = np.where(near >= 0.5)[0], np.round(share * batch)
    count = int(min(most, fg.size))
    if fg.size:
        fg = random.choice(fg, size=count, replace=False)
    bg = np.where((near < 0.5) & (near >= low))[0]
    if bg.size:
        bg = random.choice(bg, size=int(min(batch - count, bg.size)), replace=False)
    return np.append(fg, bg), count


@pytest.mark.parametrize("batch, low", [(16, 0.1), (128, 0.1), (-1, 0.0)])
@pytest.mark.parametrize("classes", [2, 21])
def test_regions_are_drawn_as_numpys_generator_draws_for_a_stated_seed(batch, low, classes):
    given, random = proposed(), np.random.RandomState(3)
    made = net("ProposalTargetLayer", given, f"{{'num_classes': {classes}, 'batch_size': {batch}, 'bg_thresh_lo': {low}, 'seed': 3}}")
    every = torch.cat([given["rois"][:, 1:], given["gt_boxes"][:, :4]])
    near = overlaps(every, given["gt_boxes"])
    for _ in range(2):
        chosen, count = sampled_as_the_releases_do(near.max(1).values.numpy(), random, batch if batch > 0 else np.inf, 0.25, low)
        found = made(given, want=MODULES["ProposalTargetLayer"][2].split())
        assert count and len(chosen) > count and found["regions"].shape == (len(chosen), 5, 1, 1)
        assert torch.equal(found["regions"][:, 1:, 0, 0], every[chosen]) and not found["regions"][:, 0].any()
        which = near.argmax(1)[chosen]
        labels = given["gt_boxes"][which, 4] * (torch.arange(len(chosen)) < count)
        assert torch.equal(found["labels"].flatten(), labels)
        moves = encode(every[chosen], given["gt_boxes"][which, :4]) / torch.tensor([0.1, 0.1, 0.2, 0.2])
        for i, label in enumerate(labels.int().tolist()):
            column = 4 * (label if classes > 2 else min(label, 1))
            row, weights = found["targets"][i, :, 0, 0], found["inside"][i, :, 0, 0]
            assert weights.nonzero()[:, 0].tolist() == ([*range(column, column + 4)] if label else [])
            torch.testing.assert_close(row[column : column + 4], moves[i] if label else moves[i] * 0)
            assert row.count_nonzero() <= 4
        assert torch.equal(found["outside"], found["inside"])


def test_settings_of_region_targets():
    given = proposed()
    plain = run("ProposalTargetLayer", given, "{'seed': 1}")
    raw = run("ProposalTargetLayer", given, "{'seed': 1, 'bbox_normalize_targets_precomputed': False, 'bbox_inside_weights': [1, 0, 2, 1]}")
    torch.testing.assert_close(plain["targets"][:, 4:, 0, 0] * torch.tensor([0.1, 0.1, 0.2, 0.2]), raw["targets"][:, 4:, 0, 0])
    fg = raw["labels"].flatten() > 0
    assert raw["inside"][fg][0, :, 0, 0].tolist() == [0] * 4 + [1, 0, 2, 1] and raw["outside"][fg][0, 4:, 0, 0].tolist() == [1, 0, 1, 1]
    wide = run("ProposalTargetLayer", given, "{'num_classes': 21, 'agnostic': True, 'seed': 1}")
    assert wide["targets"].shape[1] == 84 and torch.equal(wide["targets"][:, :8], plain["targets"])


def test_without_proposals_the_true_boxes_are_learned_from():
    given = proposed() | {"rois": torch.zeros(0, 5)}
    assert sorted(run("ProposalTargetLayer", given)["labels"].flatten().tolist()) == [1, 3]


@pytest.mark.parametrize("kind, given", [("AnchorTargetLayer", training()), ("ProposalTargetLayer", proposed())])
@pytest.mark.parametrize("row, words", [
    (None, "'gt_boxes' holds no box; leave images without boxes out of training"),
    ([5, 5, 3, 9, 1], "must hold boxes x1, y1, x2, y2, class with x1 <= x2, y1 <= y2 and a whole class from 1 on; found 5, 5, 3, 9, 1"),
    ([5, 5, 9, float("nan"), 1], "found 5, 5, 9, nan, 1"), ([5, 5, 9, 9, 0], "found 5, 5, 9, 9, 0"),
    ([5, 5, 9, 9, 1.5], "found 5, 5, 9, 9, 1.5")])
def test_boxes_that_are_none_are_refused(kind, given, row, words):
    given = given | {"gt_boxes": boxes_of(*([[1, 1, 50, 50, 2], row] if row else []))}
    with pytest.raises(Error, match=f"layer 'l' .*{words}"):
        run(kind, given)


@pytest.mark.parametrize("row, words", [
    ([0, 9, 5, 3, 9], "'rois' must hold regions 0, x1, y1, x2, y2 with x1 <= x2 and y1 <= y2; found 0, 9, 5, 3, 9"),
    ([0, 5, 5, float("nan"), 9], "found 0, 5, 5, nan, 9"), ([0, 5, 5, float("inf"), 9], "found 0, 5, 5, inf, 9")])
def test_regions_that_are_none_are_refused(row, words):
    given = proposed()
    given["rois"][4] = torch.tensor(row)
    with pytest.raises(Error, match=f"layer 'l' .*{words}"):
        run("ProposalTargetLayer", given)


@pytest.mark.parametrize("spread", [0.5, 20, 1e4, 1e38])
def test_whatever_is_proposed_is_taken_for_regions(spread):
    """Also where a net that has only begun to learn moves boxes out of the image, or to nothing at all."""
    torch.manual_seed(0)
    given = {"scores": torch.rand(1, 18, 6, 8), "deltas": torch.randn(1, 36, 6, 8) * spread,
             "im_info": torch.tensor([[95.3, 127.9, 1.7]])}
    rois = run("ProposalLayer", given, "'rpn_min_size': 0 \n'rpn_post_nms_top_n': 0 \n'rpn_nms_thresh': 1.0")["rois"]
    assert len(rois) > 5
    run("ProposalTargetLayer", {"rois": rois, "gt_boxes": boxes_of([1, 1, 50, 50, 2])}, "batch_size: -1")


def test_other_things_that_cannot_be_learned_from_are_refused():
    given = proposed()
    for param, words in (("batch_size: 0", "takes a whole number from 1, or -1, found 0"), ("num_classes: 1", "from 2, found 1"),
                         ("seed: 4294967296", r"takes a whole number from 0 to 2\^32 - 1, found 4294967296"),
                         ("bg_thresh_lo: 0.6", "bg_thresh_lo is 0.6 and bg_thresh_hi 0.5")):
        with pytest.raises(Error, match=words):
            net("ProposalTargetLayer", given, param)
    with pytest.raises(Error, match="'gt_boxes' holds class 3, num_classes is 3 with the background"):
        run("ProposalTargetLayer", given, "num_classes: 3")
    given["rois"][4, 0] = 1
    with pytest.raises(Error, match="takes one image, but 'rois' names item 1"):
        run("ProposalTargetLayer", given)
    small = training(2, 3) | {"gt_boxes": boxes_of([1, 1, 9, 9, 1])}
    with pytest.raises(Error, match="no anchor lies within the image, 32 x 48; give smaller scales or larger images"):
        run("AnchorTargetLayer", small)


@pytest.mark.gpu
def test_on_a_gpu():
    for kind, given, param in (("ProposalLayer", rpn(6, 8), ""), ("AnchorTargetLayer", training(), "seed: 3"),
                               ("ProposalTargetLayer", proposed(), "seed: 3")):
        there = net(kind, given, param).to("cuda")({b: x.cuda() for b, x in given.items()}, want=MODULES[kind][2].split())
        for top, here in run(kind, given, param).items():
            torch.testing.assert_close(there[top].cpu(), here, rtol=1e-4, atol=1e-5)


# In a net that learns

FOUND = ("'feat_stride': 8\\n'scales': [1, 2]", "'feat_stride': 8\\n'scales': [1, 2]\\n'rpn_batchsize': 12",
         "'num_classes': 3\\n'batch_size': 8")
DATA = ('layer { name: "data" type: "HDF5Data" top: "data" top: "im_info" top: "gt_boxes" hdf5_data_param { source: "data.txt" '
        'batch_size: 1 shuffle: true } }\n')
DETECTOR = """
layer { name: "conv" type: "Convolution" bottom: "data" top: "map" convolution_param { num_output: 6 kernel_size: 8 stride: 8
  weight_filler { type: "xavier" } } }
layer { name: "relu" type: "ReLU" bottom: "map" top: "map" }
layer { name: "sure" type: "Convolution" bottom: "map" top: "scores" convolution_param { num_output: 12 kernel_size: 1
  weight_filler { type: "xavier" } } }
layer { name: "move" type: "Convolution" bottom: "map" top: "deltas" convolution_param { num_output: 24 kernel_size: 1
  weight_filler { type: "gaussian" std: 0.01 } } }
layer { name: "pairs" type: "Reshape" bottom: "scores" top: "pairs" reshape_param { shape { dim: 0 dim: 2 dim: -1 dim: 0 } } }
layer { name: "aim" type: "Python" bottom: "scores" bottom: "gt_boxes" bottom: "im_info" bottom: "data"
  top: "rpn_labels" top: "rpn_targets" top: "rpn_inside" top: "rpn_outside"
  python_param { module: "rpn.anchor_target_layer" layer: "AnchorTargetLayer" param_str: "%s" } }
layer { name: "rpn_loss" type: "SoftmaxWithLoss" bottom: "pairs" bottom: "rpn_labels" top: "rpn_loss" loss_param { ignore_label: -1 } }
layer { name: "rpn_box" type: "SmoothL1Loss" bottom: "deltas" bottom: "rpn_targets" bottom: "rpn_inside" bottom: "rpn_outside"
  top: "rpn_box" loss_weight: 1 }
layer { name: "chance" type: "Softmax" bottom: "pairs" top: "chance" }
layer { name: "apart" type: "Reshape" bottom: "chance" top: "chances" reshape_param { shape { dim: 0 dim: 12 dim: -1 dim: 0 } } }
layer { name: "propose" type: "Python" bottom: "chances" bottom: "deltas" bottom: "im_info" top: "rois"
  python_param { module: "rpn.proposal_layer" layer: "ProposalLayer" param_str: "%s" } }
layer { name: "learn" type: "Python" bottom: "rois" bottom: "gt_boxes" top: "regions" top: "labels" top: "targets" top: "inside"
  top: "outside" python_param { module: "rpn.proposal_target_layer" layer: "ProposalTargetLayer" param_str: "%s" } }
layer { name: "pool" type: "ROIPooling" bottom: "map" bottom: "regions" top: "pooled"
  roi_pooling_param { pooled_h: 2 pooled_w: 2 spatial_scale: 0.125 } }
layer { name: "class" type: "InnerProduct" bottom: "pooled" top: "class" inner_product_param { num_output: 3
  weight_filler { type: "xavier" } } }
layer { name: "box" type: "InnerProduct" bottom: "pooled" top: "box" inner_product_param { num_output: 12
  weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "class" bottom: "labels" top: "loss" }
layer { name: "loss_box" type: "SmoothL1Loss" bottom: "box" bottom: "targets" bottom: "inside" bottom: "outside" top: "loss_box"
  loss_weight: 1 }
"""


def test_a_detector_learns_and_a_resumed_run_is_the_uninterrupted_one(tmp_path, monkeypatch, one_thread):
    """The draws go on where they were; one image a step, as many regions as come."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    start = rng.uniform(0, 40, (6, 2))
    with h5py.File("data.h5", "w") as file:
        file["data"] = rng.standard_normal((6, 3, 64, 64)).astype(np.float32)
        file["im_info"] = np.tile(np.float32([64, 64, 0.5]), (6, 1))
        file["gt_boxes"] = np.concatenate([start, start + rng.uniform(8, 20, (6, 2)), rng.integers(1, 3, (6, 1))], 1).astype(np.float32)
    (tmp_path / "data.txt").write_text("data.h5\n")
    write_job(tmp_path, changed("base_lr: 0.01 snapshot: 3"), DETECTOR % (FOUND[1], FOUND[0], FOUND[2]), DATA)
    straight, again = get_solver("solver.prototxt"), get_solver("solver.prototxt")
    before, losses = params_of(straight), [straight.step(1) for _ in range(6)]
    again.restore("run/snap_iter_3.solverstate")
    assert [again.step(1) for _ in range(3)] == losses[3:]
    same(params_of(straight), params_of(again))
    assert np.isfinite(losses).all() and all((before[key] != now).any() for key, now in params_of(straight).items())
    for one in (straight, again):
        one.close()


def test_what_the_release_keeps_beside_a_net_follows_from_the_net():
    """With hard examples all regions are looked at, as none is drawn before; what is given stays."""
    given = {"rois": torch.zeros(300, 5), "gt_boxes": torch.zeros(2, 5)}
    hard = """layer { name: "loss" type: "Input" top: "loss" input_param { shape { dim: NUMBER } } }
        layer { name: "hard" type: "BoxAnnotatorOHEM" bottom: "regions" bottom: "loss" bottom: "labels" bottom: "inside"
                top: "a" top: "b" box_annotator_ohem_param { roi_per_img: 2 } }"""

    def settings(param, more=""):
        return net("ProposalTargetLayer", given, param, more=more).graph.node("l").op.p

    plain, all_of_them, told = settings(""), settings("'num_classes': 2", hard.replace("NUMBER", "302")), settings(
        "'batch_size': 64", hard.replace("NUMBER", "64"))
    assert (plain.batch_size, plain.bg_thresh_lo) == (128, 0.1)
    assert (all_of_them.batch_size, all_of_them.bg_thresh_lo, all_of_them.num_classes) == (-1, 0, 2)
    assert (told.batch_size, told.bg_thresh_lo) == (64, 0)
    rpn_alone = training() | {"rois": torch.zeros(8, 5)}
    for more, normalised in (("", False), (hard.replace("NUMBER", "8").replace("regions", "rois").replace("labels", "loss")
                                           .replace("inside", "rois"), True)):
        more = more and 'layer { name: "r" type: "Input" top: "rois" input_param { shape { dim: 8 dim: 5 } } }' + more
        assert net("AnchorTargetLayer", rpn_alone, more=more).graph.node("l").op.p.rpn_normalize_targets is normalised
