"""SSD's detections against plain loops and OpenCV; what its layers refuse. PriorBox's numbers are in fork_cases.py."""

import math

import numpy as np
import pytest
import torch
from fork_cases import layer

from netspec.base.errors import Error
from netspec.net import weights
from netspec.net.build import build
from netspec.net.module import Net
from netspec.proto import text as prototext
from netspec.proto.caffe_pb2 import NetParameter

ITEMS, PRIORS, CLASSES = 2, 40, 4


def net(text, **shapes):
    head = "".join(f'layer {{ name: "{k}" type: "Input" top: "{k}" input_param {{ shape {{ '
                   f'{" ".join(f"dim: {n}" for n in shape)} }} }} }}\n' for k, shape in shapes.items())
    return Net(build(prototext.parse(head + text, NetParameter)))


# DetectionOutput, in plain Python


def shared(a, b):
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if wide <= 0 or high <= 0:
        return 0.0
    return wide * high / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - wide * high)


def decoded(move, prior, variance, code, encoded):
    v = [1.0] * 4 if encoded else variance
    wide, high = prior[2] - prior[0], prior[3] - prior[1]
    if code == "CORNER":
        return [p + s * m for p, s, m in zip(prior, v, move, strict=True)]
    if code == "CORNER_SIZE":
        return [p + s * m * side for p, s, m, side in zip(prior, v, move, (wide, high, wide, high), strict=True)]
    x = (prior[0] + prior[2]) / 2 + v[0] * move[0] * wide
    y = (prior[1] + prior[3]) / 2 + v[1] * move[1] * high
    w, h = wide * math.exp(v[2] * move[2]), high * math.exp(v[3] * move[3])
    return [x - w / 2, y - h / 2, x + w / 2, y + h / 2]


def suppressed(boxes, scores, above, most, threshold, eta):
    best = sorted((i for i in range(len(scores)) if scores[i] > above), key=lambda i: -scores[i])  # a stable sort
    kept = []
    for i in best if most is None else best[:most]:
        if all(shared(boxes[i], boxes[j]) <= threshold for j in kept):
            kept.append(i)
            if eta < 1 and threshold > 0.5:
                threshold *= eta
    return kept


def detected(moves, scores, priors, code="CORNER", encoded=False, share=True, background=0, above=-math.inf, top_k=None,
             keep=-1, threshold=0.3, eta=1.0):
    rows = []
    for item in range(len(moves)):
        found = []
        for c in range(CLASSES):
            if c == background:
                continue
            at = [moves[item].reshape(PRIORS, -1, 4)[p, 0 if share else c] for p in range(PRIORS)]
            boxes = [decoded(at[p], priors[0, 0, 4 * p : 4 * p + 4], priors[0, 1, 4 * p : 4 * p + 4], code, encoded)
                     for p in range(PRIORS)]
            score = [scores[item, p * CLASSES + c] for p in range(PRIORS)]
            found += [[item, c, score[i], *boxes[i]] for i in suppressed(boxes, score, above, top_k, threshold, eta)]
        if -1 < keep < len(found):
            best = sorted(range(len(found)), key=lambda i: -found[i][2])[:keep]
            found = [row for i, row in enumerate(found) if i in best]
        rows += found
    return np.array(rows or [[item, *[-1] * 6] for item in range(len(moves))])


SETTINGS = {
    "": {},
    "code_type: CENTER_SIZE": dict(code="CENTER_SIZE"),
    "code_type: CORNER_SIZE": dict(code="CORNER_SIZE"),
    **{f"variance_encoded_in_target: true code_type: {code}": dict(encoded=True, code=code)
       for code in ("CORNER", "CENTER_SIZE", "CORNER_SIZE")},
    "share_location: false code_type: CENTER_SIZE": dict(share=False, code="CENTER_SIZE"),
    "background_label_id: -1": dict(background=-1),
    "background_label_id: 2 confidence_threshold: 0.4": dict(background=2, above=0.4),
    "nms_param { nms_threshold: 0.1 top_k: 10 } keep_top_k: 7": dict(threshold=0.1, top_k=10, keep=7),
    "nms_param { nms_threshold: 0.9 eta: 0.8 }": dict(threshold=0.9, eta=0.8),
    "nms_param { nms_threshold: 0.4 eta: 0.8 }": dict(threshold=0.4, eta=0.8),
    "nms_param { nms_threshold: 0.6 top_k: -1 } keep_top_k: 1000": dict(threshold=0.6, keep=1000),
    "confidence_threshold: 1": dict(above=1.0),
}


def numbers(share=True):
    """Predictions, scores with ties, and priors; corners of a small spread, so that boxes meet."""
    random = np.random.RandomState(3)
    moves = 0.3 * random.randn(ITEMS, PRIORS * 4 * (1 if share else CLASSES))
    scores = (random.rand(ITEMS, PRIORS * CLASSES) * 64).round() / 64
    middle, size = random.rand(PRIORS, 2), 0.1 + 0.3 * random.rand(PRIORS, 2)
    priors = np.stack([np.concatenate([middle - size, middle + size], 1), 0.05 + 0.2 * random.rand(PRIORS, 4)])
    return [x.astype(np.float32) for x in (moves, scores, priors.reshape(1, 2, -1))]


def output(settings, moves, scores, priors):
    text = layer("DetectionOutput", f"detection_output_param {{ num_classes: {CLASSES} {settings} }}", "lcp")
    made = net(text, l=moves.shape, c=scores.shape, p=priors.shape)
    found = made({k: torch.from_numpy(x) for k, x in (("l", moves), ("c", scores), ("p", priors))})["y"]
    assert found.shape[2] <= made.graph.shape("y")[2]
    return found.numpy()


@pytest.mark.parametrize("settings", SETTINGS)
def test_what_is_detected(settings):
    facts = SETTINGS[settings]
    given = numbers(facts.get("share", True))
    found, expected = output(settings, *given), detected(*(x.astype(float) for x in given), **facts)
    assert found.shape == (1, 1, *expected.shape)
    np.testing.assert_allclose(found[0, 0], expected, rtol=0, atol=1e-6)
    assert settings in ("confidence_threshold: 1", "") or len(expected) not in (ITEMS, len(detected(*given)))


def test_an_item_without_detections_beside_one_with_some_has_no_row():
    moves, scores, priors = numbers()
    scores[0] = 0
    assert set(output("confidence_threshold: 0.5", moves, scores, priors)[0, 0, :, 0]) == {1}


@pytest.mark.parametrize("text,shapes,words", [
    (layer("DetectionOutput", "", "lcp"), [(1, 4), (1, 2), (1, 2, 4)], "num_classes"),
    (layer("DetectionOutput", "detection_output_param { num_classes: 2 nms_param { soft_nms: true } }", "lcp"),
     [(1, 4), (1, 2), (1, 2, 4)], "soft_nms"),
    (layer("DetectionOutput", "detection_output_param { num_classes: 2 nms_param { eta: 0 } }", "lcp"),
     [(1, 4), (1, 2), (1, 2, 4)], "eta above 0"),
    (layer("DetectionOutput", "detection_output_param { num_classes: 2 }", "lcp"), [(1, 4), (1, 3), (1, 2, 4)], "N x 2 numbers"),
    (layer("PriorBox", "", "lc"), [(1, 2, 3, 4)] * 2, "sizes above 0"),
    (layer("PriorBox", "prior_box_param { min_size: 0.5 }", "lc"), [(1, 2, 3, 4)] * 2, "sizes above 0"),
    (layer("PriorBox", "prior_box_param { min_size: 3 min_size: 4 max_size: 5 }", "lc"), [(1, 2, 3, 4)] * 2, "each of the 2 min_size"),
    (layer("PriorBox", "prior_box_param { min_size: 3 variance: 1 variance: 2 }", "lc"), [(1, 2, 3, 4)] * 2, "1 or 4 variance"),
    (layer("PriorBox", "prior_box_param { min_size: 3 step: 1 step_h: 2 }", "lc"), [(1, 2, 3, 4)] * 2, "either step or"),
    (layer("PriorBox", "prior_box_param { min_size: 3 img_h: 2 }", "lc"), [(1, 2, 3, 4)] * 2, "img_h and img_w, above 0"),
    (layer("PriorBox", "prior_box_param { min_size: 3 aspect_ratio: 0 }", "lc"), [(1, 2, 3, 4)] * 2, "aspect_ratio above 0, and finite"),
    (layer("PriorBox", "prior_box_param { min_size: inf }", "lc"), [(1, 2, 3, 4)] * 2, "and finite"),
    (layer("DetectionOutput", "detection_output_param { num_classes: 2000000000 }", "lcp"), [(1, 0), (1, 0), (1, 2, 0)], "of 0 priors"),
    (layer("PriorBox", "prior_box_param { min_size: 3 }", "lc"), [(1, 2, 3, 4), (1, 2)], "an image N x C x H x W"),
    (layer("PriorBoxClustered", "prior_box_param { width: 3 }", "lc"), [(1, 2, 3, 4)] * 2, "as many width as height"),
    (layer("DetectionEvaluate", "", "lc"), [(1, 1, 1, 7), (1, 1, 1, 8)], "num_classes"),
    (layer("DetectionEvaluate", "detection_evaluate_param { num_classes: 2 }", "lc"), [(1, 1, 1, 7), (1, 1, 1, 7)], "K x 8"),
])
def test_what_is_refused(text, shapes, words):
    with pytest.raises(Error, match=words):
        net(text, **dict(zip("lcp", shapes, strict=False)))


# DetectionEvaluate

TRUTH = [[0, 1, 0, 0, 0, 4, 4, 0], [0, 1, 1, 5, 5, 9, 9, 1], [0, 2, 0, 0, 0, 2, 2, 0], [1, 3, 0, 1, 1, 3, 3, 0],
         [-1, -1, -1, -1, -1, -1, -1, -1]]
FOUND = [[0, 1, 0.3, 0, 0, 4, 4], [0, 1, 0.9, 0, 0, 4, 3.5], [0, 1, 0.8, 5, 5, 9, 9], [0, 1, 0.7, 0, 0, 1, 1],
         [1, 1, 0.6, 0, 0, 4, 4], [2, 3, 0.2, 1, 1, 3, 3], [2, 3, 0.4, 1, 1, 3, 3], [3, -1, -1, -1, -1, -1, -1]]


@pytest.mark.parametrize("difficult", [True, False])
def test_how_detections_meet_true_boxes(difficult):
    """The surest that overlaps a true box hits it, others miss; nothing of an item without true boxes is sorted."""
    settings = f"detection_evaluate_param {{ num_classes: 4 evaluate_difficult_gt: {str(difficult).lower()} }}"
    made = net(layer("DetectionEvaluate", settings, "ft"), f=(1, 1, 8, 7), t=(1, 1, 5, 8))
    found = made({"f": torch.tensor([[FOUND]]), "t": torch.tensor([[TRUTH]], dtype=torch.float32)})["y"]
    np.testing.assert_allclose(found[0, 0], [
        [-1, 1, 1 + difficult, -1, -1], [-1, 2, 1, -1, -1], [-1, 3, 1, -1, -1],
        [0, 1, 0.9, 1, 0], [0, 1, 0.8, difficult, 0], [0, 1, 0.7, 0, 1], [0, 1, 0.3, 0, 1],
        [1, 1, 0.6, 0, 1], [2, 3, 0.2, 0, 1], [2, 3, 0.4, 0, 1]], atol=1e-6)


def test_overlaps_in_pixels_are_not_made_up():
    settings = 'detection_evaluate_param { num_classes: 4 name_size_file: "sizes.txt" }'
    made = net(layer("DetectionEvaluate", settings, "ft"), f=(1, 1, 8, 7), t=(1, 1, 5, 8))
    with pytest.raises(Error, match="does not read name_size_file"):
        made({"f": torch.tensor([[FOUND]]), "t": torch.tensor([[TRUTH]], dtype=torch.float32)})


# A whole small SSD


def head(blob, priors, settings):
    """The head of SSD at a blob: places, scores and priors."""
    def conv(name, count):
        fill = 'weight_filler { type: "gaussian" std: 0.1 } bias_filler { type: "gaussian" std: 0.3 }'
        return (f'layer {{ name: "{name}" type: "Convolution" bottom: "{blob}" top: "{name}" '
                f'convolution_param {{ num_output: {count} kernel_size: 3 pad: 1 {fill} }} }}\n'
                f'layer {{ name: "{name}_perm" type: "Permute" bottom: "{name}" top: "{name}_perm" '
                f'permute_param {{ order: 0 order: 2 order: 3 order: 1 }} }}\n'
                f'layer {{ name: "{name}_flat" type: "Flatten" bottom: "{name}_perm" top: "{name}_flat" flatten_param {{ axis: 1 }} }}\n')
    return (conv(f"{blob}_loc", 4 * priors) + conv(f"{blob}_conf", CLASSES * priors)
            + f'layer {{ name: "{blob}_prior" type: "PriorBox" bottom: "{blob}" bottom: "data" top: "{blob}_prior" '
            f'prior_box_param {{ {settings} variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2 offset: 0.5 }} }}\n')


def small_ssd():
    def joined(name, axis):
        return (f'layer {{ name: "{name}" type: "Concat" bottom: "norm_{name}" bottom: "pool_{name}" top: "{name}" '
                f'concat_param {{ axis: {axis} }} }}\n')
    return ("""name: "ssd"
        layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 40 dim: 56 } } }
        layer { name: "c" type: "Convolution" bottom: "data" top: "c" convolution_param { num_output: 6 kernel_size: 3 pad: 1
                stride: 4 weight_filler { type: "gaussian" std: 0.2 } bias_filler { value: 1 } } }
        layer { name: "r" type: "ReLU" bottom: "c" top: "c" }
        layer { name: "norm" type: "Normalize" bottom: "c" top: "norm" norm_param { across_spatial: false
                scale_filler { value: 3 } channel_shared: false } }
        layer { name: "pool" type: "Pooling" bottom: "c" top: "pool" pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
    """ + head("norm", 4, "min_size: 8 max_size: 14 aspect_ratio: 2 flip: true clip: false step: 4")
        + head("pool", 3, "min_size: 14 aspect_ratio: 3 flip: true clip: true")
        + joined("loc_flat", 1) + joined("conf_flat", 1) + joined("prior", 2) + f"""
        layer {{ name: "re" type: "Reshape" bottom: "conf_flat" top: "re" reshape_param {{ shape {{ dim: 0 dim: -1 dim: {CLASSES} }} }} }}
        layer {{ name: "soft" type: "Softmax" bottom: "re" top: "soft" softmax_param {{ axis: 2 }} }}
        layer {{ name: "flat" type: "Flatten" bottom: "soft" top: "flat" flatten_param {{ axis: 1 }} }}
        layer {{ name: "detection_out" type: "DetectionOutput" bottom: "loc_flat" bottom: "flat" bottom: "prior" top: "detection_out"
                detection_output_param {{ num_classes: {CLASSES} share_location: true background_label_id: 0
                nms_param {{ nms_threshold: 0.45 top_k: 100 }} code_type: CENTER_SIZE keep_top_k: 50 confidence_threshold: 0.25 }} }}
    """)


@pytest.mark.engine
def test_a_whole_ssd_is_what_opencv_computes(tmp_path):
    dnn = pytest.importorskip("cv2").dnn
    torch.manual_seed(0)
    made = Net(build(prototext.parse(small_ssd(), NetParameter)))
    weights.save(tmp_path / "w.caffemodel", made)
    (tmp_path / "n.prototxt").write_text(small_ssd())
    theirs = dnn.readNetFromCaffe(str(tmp_path / "n.prototxt"), str(tmp_path / "w.caffemodel"))
    x = np.random.RandomState(0).randn(1, 3, 40, 56).astype(np.float32)
    theirs.setInput(x, "data")
    want = ("norm", "prior", "loc_flat", "flat", "detection_out")
    found = made({"data": torch.from_numpy(x)}, want)
    for blob in want:
        other = theirs.forward(blob)
        ours = found[blob].detach().numpy()
        assert ours.size == other.size and (blob != "detection_out" or 20 < ours.shape[2] <= 50)
        if blob == "detection_out":  # class by class; OpenCV has all classes in one order
            ours, other = ours[0, 0][np.argsort(-ours[0, 0, :, 2])], other[0, 0]
            assert len(set(ours[:, 1])) > 1
        np.testing.assert_allclose(ours.ravel(), other.ravel(), rtol=0, atol=2e-6 * max(1, np.abs(other).max()))
