"""What YOLO's maps detect, against plain loops."""

import math

import numpy as np
import pytest
import torch
from fork_cases import layer

from netspec.base.errors import Error
from netspec.net.build import build
from netspec.net.module import Net
from netspec.proto import text as prototext
from netspec.proto.caffe_pb2 import NetParameter

CLASSES, ITEMS = 3, 2
MAPS = [(ITEMS, 2 * (5 + CLASSES), 3, 4), (ITEMS, 2 * (5 + CLASSES), 6, 8)]


def net(text, *shapes):
    head = "".join(f'layer {{ name: "{k}" type: "Input" top: "{k}" input_param {{ shape {{ '
                   f'{" ".join(f"dim: {n}" for n in shape)} }} }} }}\n' for k, shape in zip("abc", shapes, strict=False))
    return Net(build(prototext.parse(head + text, NetParameter)))


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def shared(a, b):
    wide, high = (min(a[i] + a[i + 2] / 2, b[i] + b[i + 2] / 2) - max(a[i] - a[i + 2] / 2, b[i] - b[i + 2] / 2) for i in (0, 1))
    both = 0 if wide < 0 or high < 0 else wide * high
    return both / (a[2] * a[3] + b[2] * b[3] - both)


def detected(maps, anchors, version, above, threshold):
    """anchors: of each map, in cells."""
    found = []
    for x, sizes in zip(maps, anchors, strict=True):
        high, wide = x.shape[2:]
        for item, j, i, n in np.ndindex(len(x), high, wide, 2):
            at = x[item, n * (5 + CLASSES) : (n + 1) * (5 + CLASSES), j, i]
            box = [(i + sigmoid(at[0])) / wide, (j + sigmoid(at[1])) / high, math.exp(at[2]) * sizes[n][0] / wide,
                   math.exp(at[3]) * sizes[n][1] / high]
            if version == 3:
                found += [(sigmoid(at[4]) * sigmoid(at[5 + c]), c, box) for c in range(CLASSES)
                          if sigmoid(at[4]) * sigmoid(at[5 + c]) > above]
            else:
                c = int(np.argmax(at[5:]))
                score = sigmoid(at[4]) * math.exp(at[5 + c]) / sum(math.exp(v) for v in at[5:])
                found += [(score, c, box)] if score >= above else []
    kept = []
    for score, c, box in sorted(found, key=lambda one: -one[0]):
        if all(shared(box, other) < threshold for _, _, other in kept):
            kept.append((score, c, box))
    rows = [[0, c + 1, score, x - w / 2, y - h / 2, x + w / 2, y + h / 2] for score, c, (x, y, w, h) in kept]
    return np.array(rows or [[item, *[-1] * 6] for item in range(ITEMS)])


V2 = ("YoloDetectionOutput", "yolo_detection_output_param", "num_box: 2 biases: 1.5 biases: 2 biases: 0.5 biases: 3",
      [[(1.5, 2), (0.5, 3)]] * 2, 2)
V3 = ("Yolov3DetectionOutput", "yolov3_detection_output_param",
      "num_box: 2 biases: 10 biases: 14 biases: 20 biases: 12 biases: 30 biases: 60 mask: 1 mask: 2 mask: 0 mask: 1 "
      "anchors_scale: 16 anchors_scale: 8", [[(20 / 16, 12 / 16), (30 / 16, 60 / 16)], [(10 / 8, 14 / 8), (20 / 8, 12 / 8)]], 3)


@pytest.mark.parametrize("above,threshold", [(0.3, 0.45), (0.1, 0.2), (0.999, 0.45)])
@pytest.mark.parametrize("kind,field,settings,anchors,version", [V2, V3])
def test_what_is_detected(kind, field, settings, anchors, version, above, threshold):
    random = np.random.RandomState(1)
    maps = [random.randn(*shape).astype(np.float32) for shape in MAPS]
    made = net(layer(kind, f"{field} {{ num_classes: {CLASSES} {settings} confidence_threshold: {above} "
                     f"nms_threshold: {threshold} }}", "ab"), *MAPS)
    found = made({k: torch.from_numpy(x) for k, x in zip("ab", maps, strict=True)})["y"]
    expected = detected([x.astype(float) for x in maps], anchors, version, np.float32(above), np.float32(threshold))
    assert found.shape == (1, 1, *expected.shape) and found.shape[2] <= made.graph.shape("y")[2]
    np.testing.assert_allclose(found[0, 0], expected, rtol=0, atol=2e-6)
    assert (len(expected) == ITEMS) == (above == 0.999)


@pytest.mark.parametrize("kind,settings,words", [
    ("YoloDetectionOutput", "yolo_detection_output_param { num_classes: 3 }", "two biases for each of the 5 boxes"),
    ("YoloDetectionOutput", "yolo_detection_output_param { num_classes: 9 num_box: 1 biases: 1 biases: 1 }", "takes 2 x 14 x H x W"),
    ("Yolov3DetectionOutput", "yolov3_detection_output_param { num_classes: 3 num_box: 2 biases: 1 biases: 1 mask: 0 mask: 1 "
     "mask: 1 mask: 2 anchors_scale: 8 anchors_scale: 4 }", "pairs of biases from 0"),
    ("Yolov3DetectionOutput", "yolov3_detection_output_param { gaussian_box: true }", "gaussian_box would change numbers"),
])
def test_what_is_refused(kind, settings, words):
    with pytest.raises(Error, match=words):
        net(layer(kind, settings, "ab"), *MAPS)
