"""`netspec data check` on images with boxes: each fault planted, and told with its file."""

import json

import numpy as np
import pytest
from data.test_detection import item, write
from PIL import Image

from netspec.check.contact import CELL, MARK
from netspec.cli import main as cli


def check(capsys, *args):
    status = cli.main(["data", "check", *map(str, args)])
    out, err = capsys.readouterr()
    return status, out + err


@pytest.fixture
def place(tmp_path):
    write(tmp_path, [(30, 20)] * 5)
    (tmp_path / "set.txt").write_text("images: JPEGImages\nboxes: Annotations\nlists: ImageSets/Main/{split}.txt\ncat\n")
    return tmp_path


def test_nothing_wrong(capsys, place):
    status, told = check(capsys, place / "set.txt")
    assert status == 0 and "0 errors, on which training would break; 0 warnings" in told
    assert "train       5     5  30x20      5        5" in told
    status, again = check(capsys, place, "--boxes", "--dataset", place / "set.txt")
    assert (status, again) == (0, told)


SIZE = "<size><width>{}</width><height>{}</height></size>"


@pytest.mark.parametrize("text, status, told", [
    (item(2, 2, 1, 5), 1, ["error: boxes that are none: 1", "02.xml: box 1 ('cat'): 1 1 0 4, counted from 0"]),
    (item(2, 2, "nan", 5), 1, ["error: boxes that are none: 1"]),
    (item(31, 2, 40, 5), 1, ["error: boxes that lie outside the image: 1"]),
    (item(31, 2, 40, 5, rest="<difficult>1</difficult>"), 0, ["warning: boxes outside the image that are not learned"]),
    (item(3, 2, 31, 5), 0, ["warning: boxes that go beyond the image, which are cut at its border: 1"]),
    (item(0, 2, 30, 5), 0, ["warning: boxes that go beyond the image"]),
    (item(3, 2, 3, 5) + item(1, 1, 2, 2), 0, ["warning: boxes without area", "box 1 ('cat'): 2 1 2 4"]),
    (item(3, 2, 5, 5, "dog"), 1, ["error: classes that the data set does not have: 1", "class 'dog' is none", ", box 1"]),
    (item(3, 2, 5, 5) * 2, 0, ["warning: boxes of one class that are there twice: 1"]),
    ("", 0, ["warning: images without a box to learn from (training leaves them out): 1", "02.xml"]),
    (item(3, 2, 5, 5, rest="<difficult>1</difficult>"), 0, ["all of which are difficult or crowds"]),
    (SIZE.format(20, 30) + item(3, 2, 5, 5), 1, ["error: images of another size", "02.jpg is 30x20, and by"]),
    ("<object><name>cat</name></object>", 1, ["error: files that cannot be read: 1", "has no <bndbox>"]),
    ("<oops>", 1, ["error: files that cannot be read: 1", "02.xml is no XML"]),
])
def test_what_is_wrong_with_boxes(capsys, place, text, status, told):
    write(place, [(30, 20)] * 5, {"02": text})
    found, out = check(capsys, place / "set.txt")
    assert found == status and all(part in out for part in told), out


def test_json_has_the_findings_and_the_numbers_of_the_tables(capsys, place):
    write(place, [(30, 20)] * 5, {"02": item(3, 2, 31, 5)})
    status, out = check(capsys, place / "set.txt", "--json")
    told = json.loads(out[out.index("{"):])
    assert status == 0 and [(each["kind"], each["level"]) for each in told["findings"]] == [("beyond", "warning")]
    assert told["splits"] == [{"split": "train", "images": 5, "read": 5, "sizes": [[30, 20]] * 2, "boxes": 5, "learned": 5}]
    assert told["classes"] == {"boxes": [{"name": "cat", "splits": {"train": {"boxes": 5, "images": 5}}}]}


def test_lists_that_are_named_and_not_there(capsys, place):
    text = (place / "set.txt").read_text()
    (place / "set.txt").write_text(text.replace("Main", "Mian"))
    status, told = check(capsys, place / "set.txt")
    assert status == 0 and "none is there: 1" in told
    assert "set.txt: 'lists: ImageSets/Mian/{split}.txt' (tried: train, " in told and "; 1 warning" in told
    (place / "set.txt").write_text(text.replace("Main", "main"))
    status, told = check(capsys, place / "set.txt")
    assert status == 2 and "ImageSets/Main is, whose capitals differ" in told and told.count("\n") == 1


def test_a_box_of_no_class_is_neither_counted_nor_learned(capsys, place):
    write(place, [(30, 20)] * 5, {"02": item(3, 2, 5, 5, "dog") + item(6, 6, 9, 9, rest="<difficult>1</difficult>")})
    assert "train       5     5  30x20      5        4" in check(capsys, place / "set.txt")[1]


def test_the_sheet_frames_what_is_wrong(capsys, place):
    write(place, [(30, 20)] * 5, {"02": item(2, 2, 1, 5) + item(5, 5, 20, 15)})
    (place / "Annotations/04.xml").write_text("<oops>")
    status, told = check(capsys, place / "set.txt", "--sheet", place / "sheet.png")
    pixels = np.asarray(Image.open(place / "sheet.png"))
    wide, high, line = 2 * CELL + 2, round(CELL * 20 / 30) + 1, 4
    assert status == 1 and "sheet.png" in told
    frame, grey = (w * h - (w - 2 * line) * (h - 2 * line) for w, h in ((wide, high), (wide, CELL // 2 + 1)))
    assert (pixels == MARK).all(-1).sum() in (2 * frame, frame + grey)


def test_files_and_splits(capsys, place):
    (place / "JPEGImages/01.jpg").write_bytes(b"")
    (place / "Annotations/02.xml").unlink()
    image = place / "JPEGImages/03.jpg"
    (place / "JPEGImages/04.jpg").write_bytes(image.read_bytes())
    (place / "ImageSets/Main/val.txt").write_text("03\n")
    (place / "set.txt").write_text((place / "set.txt").read_text() + "dog\n")
    status, told = check(capsys, place / "set.txt")
    for part in ("01.jpg is empty", "error: files that are not there: 1", "02.xml", "train: 03, 04",
                 "1 of the 1 image of 'val' are in 'train'", "train: dog"):
        assert part in told, (part, told)
    assert status == 1


def test_a_net_is_asked_for_its_data(capsys, place):
    (place / "net.prototxt").write_text("""layer { name: "data" type: "Python" top: "data" top: "im_info" top: "gt_boxes"
        python_param { module: "netspec.datasets" layer: "DetectionData"
        param_str: "{'dataset': 'set.txt', 'split': 'train', 'scale': 20}" } }
        layer { name: "s" type: "Silence" bottom: "data" bottom: "im_info" bottom: "gt_boxes" }""")
    status, told = check(capsys, place / "net.prototxt")
    assert status == 0 and "train       5" in told
    status, told = check(capsys, place / "net.prototxt", "--balance", place / "x.binaryproto")
    assert status == 2 and "--balance weighs classes by their pixels" in told
    for path in place.glob("JPEGImages/*"):
        path.unlink()
    status, told = check(capsys, place / "net.prototxt")
    assert status == 2 and "5 images are not there" in told
    Image.new("RGB", (30, 20)).save(place / "JPEGImages/00.jpg")
    assert check(capsys, place / "net.prototxt")[0] == 1


def test_coco_is_named_where_boxes_are_meant_and_how_to_get_it(capsys, tmp_path):
    with pytest.raises(SystemExit):
        cli.main(["data", "check", "--help"])
    assert ", coco," in " ".join(capsys.readouterr().out.split())
    status, told = check(capsys, tmp_path, "--boxes")
    assert status == 2 and "name its data set by --dataset (voc, coco, shapes, or a data set file)" in told
    (tmp_path / "coco/images/train2014").mkdir(parents=True)
    (tmp_path / "net.prototxt").write_text("""layer { name: "data" type: "Python" top: "data" top: "im_info" top: "gt_boxes"
        python_param { module: "netspec.datasets" layer: "DetectionData"
        param_str: "{'dataset': 'coco', 'root': 'coco', 'split': 'train2014'}" } }""")
    status, told = check(capsys, tmp_path / "net.prototxt")
    assert status == 2 and "instances_train2014.json are not there; netspec data lists what it gets, " in told
    assert "coco/README.md says how to get it" in told


def test_a_split_whose_file_is_damaged_is_not_passed_over(capsys, place):
    (place / "set.txt").write_text("images: JPEGImages/{name}.jpg\nboxes: {split}.json\ncat\n")
    image = {"id": 1, "file_name": "00.jpg", "width": 30, "height": 20}
    for split, images in (("train", [image, image]), ("val", [image])):
        whole = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "cat"}]}
        (place / f"{split}.json").write_text(json.dumps(whole))
    status, told = check(capsys, place / "set.txt")
    assert status == 2 and "train.json: image 1 is there twice" in told
    (place / "set.txt").write_text("images: JPEGImages\nboxes: Annotations\ncat\n")
    (place / "train.txt").write_bytes(b"\xff\xfe00\n")
    (place / "val.txt").write_text("01\n")
    status, told = check(capsys, place / "set.txt")
    assert status == 2 and "train.txt is UTF-16 text; save it as UTF-8" in told
