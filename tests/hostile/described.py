"""Attempts with what describes data and runs: data set files, boxes, outlines, lists, logs, records; and the commands that read them."""

import base64
import io
import json
import random
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image
from training import VOC, write_job, write_voc

from .changing import TEXTS, bytes_changed, json_changed, text_changed
from .drawing import Area
from .nets import GOLDEN
from .pictures import deploy, pictures

SET = "images: photos\nlabels: masks\nmean: 104, 117, 123\nground 90 90 90\ndisc 200 60 60\nbox 60 200 90\n"
BOXED = "images: photos\nboxes: boxes\nlists: {split}.txt\ncat\ndog\n"
SCORED = """
layer { name: "score" type: "Convolution" bottom: "data" top: "score" convolution_param { num_output: 4 kernel_size: 3 pad: 1 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" loss_param { ignore_label: 255 } }"""
VOC_BOX = """<annotation><size><width>44</width><height>36</height></size><object><name>cat</name><difficult>0</difficult>
<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>8</xmax><ymax>7</ymax></bndbox></object></annotation>"""


@cache
def _coco() -> Any:
    return {"categories": [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}],
            "images": [{"id": 5 + i, "file_name": f"{i}.png", "width": 44, "height": 36} for i in range(2)],
            "annotations": [{"id": 1, "image_id": 5, "category_id": 7, "bbox": [0, 1, 8, 5], "iscrowd": 0, "area": 9,
                             "segmentation": [[1, 1, 8, 1, 8, 7]]},
                            {"id": 2, "image_id": 6, "category_id": 3, "bbox": [2, 2, 3, 3], "iscrowd": 1,
                             "segmentation": {"size": [36, 44], "counts": [10, 20, 1554]}}]}


def _labelme() -> Any:
    data = base64.b64encode(pictures()["PNG L"]).decode()
    return {"version": "5.4.1", "flags": {}, "imagePath": "0.png", "imageData": data, "imageWidth": 44, "imageHeight": 36,
            "shapes": [{"label": "cat", "points": [[1, 1], [8, 1], [8, 7]], "shape_type": "polygon", "flags": {}, "group_id": None},
                       {"label": "dog", "points": [[2, 2], [5, 5]], "shape_type": "circle", "flags": {}},
                       {"label": "dog", "points": [[2, 2], [5, 5]], "shape_type": "mask", "mask": data, "flags": {}}]}


def _text(text: str, numbers: random.Random, most: int = 3) -> bytes:
    for _ in range(numbers.randrange(most + 1)):
        text = text_changed(text, numbers)
    data = text.encode("utf-8", "replace")
    return bytes_changed(data, numbers) if numbers.random() < 0.1 else data


def _json(value: Any, numbers: random.Random) -> bytes:
    for _ in range(numbers.choice((0, 1, 1, 1, 2))):
        value = json_changed(value, numbers)
    text = json.dumps(value)
    return _text(text, numbers, 1) if numbers.random() < 0.2 else text.encode()


@cache
def _large(kind: str) -> bytes:
    """A PNG of 44 x 36, large enough for any of the nets."""
    file = io.BytesIO()
    with Image.open(io.BytesIO(pictures()[kind])) as image:
        image.resize((44, 36), Image.Resampling.NEAREST).point(lambda value: value % 3 if image.mode == "P" else value).save(file, "PNG")
    return file.getvalue()


def _photos(folder: Path, numbers: random.Random) -> None:
    for name, kind in (("photos", "PNG RGB"), ("masks", "PNG P")):
        (folder / name).mkdir()
        for i in range(4):
            (folder / name / f"{i}.png").write_bytes(_large(kind))
    for name, lines in (("train", "0\n1\n"), ("val", "2\n3\n")):
        (folder / f"{name}.txt").write_bytes(_text(lines, numbers, 1) if numbers.random() < 0.3 else lines.encode())


def own(numbers: random.Random, folder: Path) -> list:
    _photos(folder, numbers)
    boxed = numbers.random() < 0.4
    if boxed:
        (folder / "boxes").mkdir()
        for i in range(4):
            (folder / f"boxes/{i}.xml").write_bytes(_text(VOC_BOX, numbers, 1))
        if numbers.random() < 0.3:
            (folder / "boxes.json").write_bytes(_json(_coco(), numbers))
    text = BOXED if boxed else SET
    (folder / "set.txt").write_bytes(_text(text.replace("boxes: boxes\n", "boxes: boxes.json\n") if (folder / "boxes.json").exists() else text, numbers, 2))
    return numbers.choice((["data", "check", "set.txt", "--jobs", "1"], ["data", "check", "set.txt", "--jobs", "1", "--sheet", "new.png"],
                           ["own", "set.txt", "--iterations", "2"], ["data", "check", ".", "--dataset", "set.txt", "--jobs", "1"]))


def labels(numbers: random.Random, folder: Path) -> list:
    _photos(folder, numbers)
    if numbers.random() < 0.5:
        (folder / "drawn.json").write_bytes(_json(_coco(), numbers))
        name = "drawn.json"
    else:
        (folder / "photos/0.json").write_bytes(_json(_labelme(), numbers))
        name = "photos"
    (folder / "my.txt").write_text("images: photos\nlabels: new\ncat\ndog\n")
    return ["data", "labels", name, "--set", "my.txt"]


def log(numbers: random.Random, folder: Path) -> list:
    (folder / "train.log").write_bytes(_text((GOLDEN / "log/train.log").read_text(), numbers, 4))
    return numbers.choice((["curves", "train.log", "--out", "new.svg"], ["curves", "train.log", "--out", "new.png"], ["report", "train.log", "--out", "new.html"]))


def score(numbers: random.Random, folder: Path) -> list:
    write_voc(folder, 2)
    write_job(folder, data=VOC, body=SCORED)
    net = folder / "net.prototxt"
    net.write_text(net.read_text().replace("'overlap': True", "'randomize': False"))
    deploy(folder)
    listed = folder / "images/ImageSets/Segmentation/train.txt"
    if numbers.random() < 0.5:
        listed.write_bytes(_text(listed.read_text(), numbers, 2))
    else:
        place = folder / numbers.choice(("images/SegmentationClass/im0.png", "images/JPEGImages/im1.jpg"))
        place.write_bytes(numbers.choice((bytes_changed(place.read_bytes(), numbers, 60), pictures()["PNG L"], b"")))
    return ["score", "net.prototxt", "w.caffemodel", *numbers.choice(([], ["--save", "new"], ["--json"], ["--confusion", "new.csv"], ["--trimap", "1,2"],
                                                                      ["--binary", numbers.choice(("1", *TEXTS))]))]


def records(numbers: random.Random, folder: Path) -> list:
    (folder / "results").mkdir()
    for path in sorted((GOLDEN.parents[1] / "docs/records").glob("*.json"))[:3]:
        (folder / "results" / path.name).write_bytes(_json(json.loads(path.read_text()), numbers))
    return ["report", "results", "--out", "new.html"]


def kept(numbers: random.Random, folder: Path) -> list:
    deploy(folder)
    name = numbers.choice(("voc-fcn8s", "shapes-fcn8s", *TEXTS))
    if numbers.random() < 0.4:
        (folder / "w.caffemodel").write_bytes(bytes_changed((folder / "w.caffemodel").read_bytes(), numbers))
    return ["weights", *numbers.choice((["add", name, "w.caffemodel"], ["where", name], ["check"], ["check", name], ["list"]))]


KINDS = (own, own, own, labels, labels, log, log, score, records, kept)


def described(numbers: random.Random, folder: Path) -> list:
    return ["netspec", *numbers.choice(KINDS)(numbers, folder)]


AREAS = {"described": Area(described, 5_000)}
