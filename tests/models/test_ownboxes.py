"""R-FCN for images of one's own, as models/ownboxes.py writes it."""

import ast
import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from data.test_detection import item, write

from netspec.cli.main import main
from netspec.data.detection import DetectionData
from netspec.net.build import load
from netspec.proto import text as prototext
from netspec.proto.model import write_weights

SET = "images: JPEGImages\nboxes: Annotations\ncat 200 0 0\ndog\n"
OUTSIDE = item(70, 2, 80, 40, "dog")


@pytest.fixture
def own(tmp_path, monkeypatch):
    """my/: six images with a box each, in VOC's XML, described in a file of four lines."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "my", [(64, 48)] * 6, {f"{i:02d}": item(3 + i, 2, 40, 40, "dog" if i % 2 else "cat") for i in range(6)})
    Path("my/set.txt").write_text(SET)
    return tmp_path


def test_it_trains(own, capsys):
    assert main(["own", "my/set.txt", "--iterations", "2", "--batch", "1"]) == 0
    out = capsys.readouterr().out
    assert "my/train.txt: 5 images" in out and "my/val.txt: 1 image" in out
    found = {words[1]: words[1:] for words in map(shlex.split, out.splitlines()) if words[:1] == ["netspec"]}
    assert list(found) == ["data", "solve", "score", "infer"]
    assert main(found["data"]) == 0
    assert "the net is tested on 'val' every 2 iterations" in out
    assert main(found["solve"]) == 0
    assert "Iteration 2, test net #0: mean AP 0.0 of 1 of 2 classes, 1 images" in capsys.readouterr().err
    assert Path("my/snapshot/set-rfcn_iter_2.caffemodel").is_file() and Path("my/snapshot/set-rfcn_best.caffemodel").is_file()
    source, = load("my/set-rfcn/train.prototxt", phase=0).readers
    assert isinstance(source, DetectionData) and source.scale == 48 and source.facts.names == ("background", "cat", "dog")
    assert source.facts.palette[1].tolist() == [200, 0, 0]
    deploy = prototext.read_net("my/set-rfcn/deploy.prototxt")
    assert "'cat 200 0 0'" in deploy.layer[0].python_param.param_str


def test_images_without_boxes_are_told_before_training(own, capsys):
    write(own / "my", [(64, 48)] * 6, {"01": "", "03": ""})
    assert main(["own", "my/set.txt", "--iterations", "1", "--batch", "1"]) == 0
    assert main(["solve", "my/set-rfcn.prototxt"]) == 0
    out = "".join(capsys.readouterr())
    names = Path("my/train.txt").read_text().split()
    left = sum(name in names for name in ("01", "03"))
    assert left and f"{left} of 5 images of 'train' have no box to learn from and are left out of training" in out


def coco(own):
    images = [{"id": i, "file_name": f"{i:02d}.jpg", "width": 64, "height": 48} for i in range(7)]  # one is not there
    boxes = [{"id": i, "image_id": i, "category_id": 1 + i % 2, "bbox": [3, 2, 30, 30]} for i in range(7)]
    Path("my/all.json").write_text(json.dumps({
        "images": images[1:], "annotations": boxes[1:],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]}))
    return SET.replace("Annotations", "all.json")


def coco_by_split(own):
    coco(own)
    whole = json.loads(Path("my/all.json").read_text())
    for split, images in (("train", whole["images"][:3]), ("val", whole["images"][3:5])):
        kept = {image["id"] for image in images}
        boxes = [box for box in whole["annotations"] if box["image_id"] in kept]
        Path(f"my/{split}.json").write_text(json.dumps(whole | {"images": images, "annotations": boxes}))
    return SET.replace("Annotations", "{split}.json")


def labelme(own):
    for path in Path("my/Annotations").iterdir():
        shape = {"label": "cat", "points": [[3, 2], [40, 40]], "shape_type": "rectangle"}
        path.with_suffix(".json").write_text(json.dumps({
            "imagePath": f"{path.stem}.jpg", "imageWidth": 64, "imageHeight": 48, "shapes": [shape]}))
        path.unlink()
    return SET


@pytest.mark.parametrize("form, told", [
    (coco, ["my/train.txt: 4 images", "left out, images without a box file: 00", "left out, box files without an image: 06"]),
    (coco_by_split, ["the mean of the 3 images of 'train'"]),
    (labelme, ["my/train.txt: 5 images"])])
def test_other_forms_of_boxes(own, capsys, form, told):
    Path("my/set.txt").write_text(form(own))
    assert main(["own", "my/set.txt"]) == 0
    out = capsys.readouterr().out
    assert all(part in out for part in told), out
    assert main(["data", "check", "my/set.txt"]) == 0


def test_vgg16_begins_with_its_weights_and_its_first_blocks_stay(own, capsys):
    assert main(["own", "my/set.txt", "--weights", "weights/vgg16.caffemodel"]) == 0
    assert "solve needs it" in capsys.readouterr().err
    solver = prototext.read_solver("my/set-rfcn.prototxt")
    assert solver.type == "Adam" and (list(solver.weights), round(solver.base_lr, 6)) == (["weights/vgg16.caffemodel"], 0.0001)
    layers = {layer.name: layer for layer in prototext.read_net("my/set-rfcn/train.prototxt").layer}
    assert [layers[name].param[0].lr_mult for name in ("conv1_1", "conv2_2", "conv3_1", "conv5_3")] == [0, 0, 1, 1]
    assert layers["psroipooled_cls_rois"].psroi_pooling_param.spatial_scale == 1 / 8


def test_weights_of_another_net_are_refused_before_anything_is_written(own, capsys):
    write_weights("w.caffemodel", "x", {"conv1": ("Convolution", [np.zeros((64, 3, 7, 7), np.float32)])})
    before = sorted(Path("my").rglob("*"))
    assert main(["own", "my/set.txt", "--weights", "w.caffemodel"]) == 2
    err = capsys.readouterr().err
    assert "must be VGG16's" in err and "conv5_3 (13), and have conv1" in err and err.count("\n") == 1
    assert sorted(Path("my").rglob("*")) == before


@pytest.mark.parametrize("weights", [[], ["--weights", "weights/vgg16.caffemodel"]])
def test_anchors_stand_on_the_image(own, weights):
    assert main(["own", "my/set.txt", *weights]) == 0
    net = load("my/set-rfcn/train.prototxt", phase=0)
    high, wide = net.shape("data")[2:]
    assert net.shape("rpn_cls_score")[2:] == net.shape("rfcn_cls")[2:] == (high // 8, wide // 8)


def test_anchors_suit_the_boxes_of_a_rare_class(own):
    boxes = {f"{i:02d}": item(1, 1, 200, 200, "dog") * 20 + item(9, 9, 40, 40, "cat") * (i == 1) for i in range(6)}
    write(own / "my", [(320, 240)] * 6, boxes)
    Path("my/train.txt").write_text("".join(f"{i:02d}\n" for i in range(5)))
    Path("my/val.txt").write_text("05\n")
    assert main(["own", "my/set.txt"]) == 0
    layers = {layer.name: layer for layer in prototext.read_net("my/set-rfcn/train.prototxt").layer}
    scales = ast.literal_eval(layers["proposal"].python_param.param_str.partition("'scales': ")[2].partition("\n")[0])
    assert (scales[0] * 16, scales[-1] * 16) == pytest.approx((32, 200), abs=1)


def test_images_are_brought_to_the_scale_that_is_asked_for(own, capsys):
    assert main(["own", "my/set.txt", "--scale", "32"]) == 0
    assert load("my/set-rfcn/train.prototxt", phase=0).shape("data")[2:] == (32, 43)
    assert main(["own", "my/set.txt", "--scale", "0"]) == 2
    assert "--scale 0: must be at least 32 pixels" in capsys.readouterr().err
    Path("my/set.txt").write_text("images: JPEGImages\nlabels: JPEGImages\ncat\n")
    assert main(["own", "my/set.txt", "--scale", "64"]) == 2
    assert "--scale 64: is for images with boxes, and my/set.txt has labels" in capsys.readouterr().err


@pytest.mark.parametrize("change, told", [
    (lambda: Path("my/set.txt").write_text(SET.replace("Annotations", "nowhere")), "the folder of 'boxes'"),
    (lambda: Path("my/set.txt").write_text(SET.replace("Annotations", "no.json")), "no.json, is not there"),
    (lambda: Path("my/set.txt").write_text(SET.replace("dog\n", "")), "class 'dog' is none of the data set's"),
    (lambda: Path("my/set.txt").write_text("images: JPEGImages\nboxes: Annotations\n"), "names no class"),
    (lambda: Path("my/set.txt").write_text(SET.replace("Annotations", "/")), "leaves the folder"),
    (lambda: [path.unlink() for path in Path("my/Annotations").iterdir()], "holds no box file"),
    (lambda: write(Path("my"), [(64, 48)] * 6, {"04": OUTSIDE}), "04.xml: the box 69 1 79 39 (counted from 0) of '04' lies"),
])
def test_what_is_wrong_is_told_and_nothing_is_written(own, capsys, change, told):
    change()
    before = sorted(Path("my").rglob("*"))
    assert main(["own", "my/set.txt"]) == 2
    assert told in capsys.readouterr().err and sorted(Path("my").rglob("*")) == before


@pytest.mark.parametrize("images", ["JPEGImages", "JPEGImages/{name}.jpg"])
def test_capitals_of_endings_do_not_count(own, capsys, images):
    for path in [*Path("my/JPEGImages").iterdir(), *Path("my/Annotations").iterdir()]:
        path.rename(path.with_suffix(path.suffix.upper()))
    Path("my/set.txt").write_text(SET.replace("JPEGImages", images))
    assert main(["own", "my/set.txt", "--iterations", "1", "--batch", "1"]) == 0
    assert "my/train.txt: 5 images" in capsys.readouterr().out
    assert main(["data", "check", "my/set.txt"]) == 0 and main(["solve", "my/set-rfcn.prototxt"]) == 0


def test_an_image_without_a_file_of_boxes_says_how_to_write_that_it_has_none(own, capsys):
    assert main(["own", "my/set.txt", "--iterations", "1", "--batch", "1"]) == 0
    gone = Path("my/Annotations", Path("my/train.txt").read_text().split()[0]).with_suffix(".xml")
    gone.unlink()
    capsys.readouterr()
    assert main(["solve", "my/set-rfcn.prototxt"]) == 2
    err = capsys.readouterr().err
    assert f"{gone} is not there; " in err and err.endswith("; for an image that holds no object write <annotation/> there, "
                                                            "or leave it out of the list\n")
    gone.write_text("<annotation/>")
    assert main(["solve", "my/set-rfcn.prototxt"]) == 0
    assert "1 of 5 images of 'train' have no box to learn from" in capsys.readouterr().err
    for path in Path("my/Annotations").iterdir():
        path.unlink()
    assert main(["solve", "my/set-rfcn.prototxt"]) == 2 and "<annotation/>" not in capsys.readouterr().err


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_box_outside_its_image_is_told_before_the_first_step(own, capsys, split):
    assert main(["own", "my/set.txt", "--iterations", "1", "--batch", "1"]) == 0
    last = Path(f"my/{split}.txt").read_text().split()[-1].removesuffix(".jpg").rpartition("/")[2]
    Path(f"my/Annotations/{last}.xml").write_text(f"<annotation>{OUTSIDE}</annotation>")
    capsys.readouterr()
    assert main(["solve", "my/set-rfcn.prototxt"]) == 2
    err = capsys.readouterr().err
    assert f"{last}.xml: the box 69 1 79 39" in err and "Iteration 0" not in err
    if split == "train":  # of the other the net is known by its only image
        assert main(["solve", "my/set-rfcn.prototxt", "--skip-bad", "1"]) == 0


def test_a_net_of_labels_is_no_beginning(own, capsys):
    assert main(["own", "my/set.txt", "--from", "voc-fcn8s"]) == 2
    assert "is for labels of pixels" in capsys.readouterr().err


def test_segmentation_refuses_a_file_with_boxes(own, capsys):
    Path("net.prototxt").write_text("""layer { name: "d" type: "Python" top: "data" top: "label" python_param {
        module: "netspec.datasets" layer: "SegmentationData" param_str: "{'dataset': 'my/set.txt', 'split': 'all'}" } }""")
    assert main(["data", "check", "net.prototxt"]) == 2
    assert "'boxes' are read by DetectionData" in capsys.readouterr().err
