"""Files of boxes, in the forms and spellings that people have, and those that are refused."""

import json

import numpy as np
import pytest
from PIL import Image

from netspec.base.errors import Error
from netspec.data.boxes import Boxes, clipped, layout
from netspec.data.tree import Tree

OBJECT = """<object><name>{name}</name><truncated>{truncated}</truncated><difficult>{difficult}</difficult>
<bndbox><xmin>{xmin}</xmin><ymin>{ymin}</ymin><xmax>{xmax}</xmax><ymax>{ymax}</ymax></bndbox></object>"""


def voc(*objects, size="<size><width>60</width><height>40</height></size>"):
    default = dict(name="cat", truncated=0, difficult=0, xmin=1, ymin=2, xmax=30, ymax=20)
    return f"<annotation>{size}{''.join(OBJECT.format(**default | each) for each in objects)}</annotation>"


@pytest.fixture
def read(tmp_path):
    """Writes a file of boxes (its text, and its name) beside an image of 60x40, and reads it."""
    (tmp_path / "images").mkdir()
    (tmp_path / "boxes").mkdir()
    Image.new("RGB", (60, 40)).save(tmp_path / "images/a.png")

    def reading(text, name="a.xml", **options):
        (tmp_path / "boxes" / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        given = {"classes": ["cat", "Big Dog"]} | options
        boxes = Boxes(Tree("folder", layout("folder", given), tmp_path, {}, None))
        entry, = boxes.entries("all")
        return boxes.read(*entry)

    return reading


def test_voc_counts_from_1_and_here_from_0(read):
    record = read(voc({}, dict(name="Big Dog", difficult=1, xmin=5.5), dict(truncated=1)))
    assert record.size == (60, 40) and record.boxes.dtype == np.float32
    assert record.boxes.tolist() == [[0, 1, 29, 19], [4.5, 1, 29, 19], [0, 1, 29, 19]]
    assert record.classes.tolist() == [1, 2, 1]
    assert record.difficult.tolist() == [False, True, False]
    assert record.truncated.tolist() == [False, False, True]


@pytest.mark.parametrize("change", [
    lambda text: text.replace("<name>cat", "<name> Cat\n"),
    lambda text: "\ufeff<?xml version='1.0'?>\n" + text,
    lambda text: text.encode("utf-16"),
    lambda text: text.replace("<difficult>0</difficult>", "").replace("<truncated>0</truncated>", ""),
    lambda text: text.replace("<difficult>0", "<difficult>Unspecified").replace("<truncated>0", "<truncated>False"),
    lambda text: text.replace("<xmin>1<", "<xmin> 1.0 <"),
    lambda text: text.replace("bndbox", "BndBox").replace("xmin", "x_min").replace("ymax", "YMax"),
    lambda text: text.replace("<annotation>", "<annotation xmlns='http://example.org/voc'>"),
    lambda text: text.replace("<xmin>1</xmin>", "").replace("</bndbox>", "<xmin>1</xmin></bndbox>"),
    lambda text: text.replace("</object>", "<part><name>head</name><bndbox><xmin>9</xmin></bndbox></part></object>"),
    lambda text: text.replace("<bndbox>", "<part><name>head</name><bndbox><xmin>9</xmin></bndbox></part><bndbox>"),
    lambda text: text.replace("<width>60</width>", "<width>0</width>"),
    lambda text: text.replace("<size><width>60</width><height>40</height></size>", ""),
])
def test_spellings_in_the_wild(read, change):
    record = read(change(voc({})))
    assert record.size == (60, 40)
    assert record.boxes.tolist() == [[0, 1, 29, 19]] and record.classes.tolist() == [1]
    assert not record.difficult.any() and not record.truncated.any()


@pytest.mark.parametrize("difficult, truncated, told", [
    ("1.0", "0.3", (True, True)), ("0.0", "0.0", (False, False)), ("True", "1.0", (True, True)), ("False", "-1", (False, False)),
    ("", "unknown", (False, False)), (" 1 ", "2", (True, True))])
def test_flags_as_converters_write_them(read, difficult, truncated, told):
    record = read(voc(dict(difficult=difficult, truncated=truncated)))
    assert (record.difficult.tolist(), record.truncated.tolist()) == ([told[0]], [told[1]])


def test_no_object_is_no_box(read):
    record = read(voc())
    assert record.boxes.shape == (0, 4) and record.classes.shape == (0,) and record.difficult.dtype == bool


ENTITIES = '<!DOCTYPE annotation [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><annotation>&b;</annotation>'
OUTSIDE = '<!DOCTYPE annotation SYSTEM "file:///etc/passwd"><annotation></annotation>'


@pytest.mark.parametrize("text, told", [
    (ENTITIES, "DOCTYPE"), (OUTSIDE, "DOCTYPE"), (ENTITIES.encode("utf-16"), "DOCTYPE"),
    ("<annotation>&lol;</annotation>", "damaged"), ("<annotation>", "damaged"), ("", "damaged"),
    ("\x00\xff", "damaged"), ("<html/>", "expected <annotation>"),
    (voc(dict(xmin=31)), "is no box: 30 1 29 19"), (voc(dict(ymin=20.5)), "is no box"),
    (voc(dict(xmin="nan")), "is no box"), (voc(dict(xmax="inf")), "is no box"), (voc(dict(xmax="1e300")), "is no box"),
    (voc(dict(xmin="")), "<xmin> should be a number, found nothing"), (voc(dict(xmax="3,5")), "found '3,5'"),
    (voc(dict(xmax="3_5")), "found '3_5'"),
    (voc({}).replace("bndbox", "polygon"), "has no <bndbox>"), (voc({}).replace("name>", "nom>"), "has no <name>"),
    (voc(dict(name="dog")), "class 'dog' is none"), (voc(dict(name="background")), "class 'background' is none"),
    (voc(dict(name="a&#10;Error: b")), r"found 'a\\nError: b'"), (voc(dict(name="\x9b31m")), "plain characters"),
    (voc(dict(name="x" * 300)), "plain characters"), (voc(dict(xmin="1&#10;2")), r"found '1\\n2'"),
    (voc({}).replace("</bndbox>", "</bndbox><bndbox></bndbox>"), "<bndbox> more than once"),
    (voc({}).replace("<xmin>1", "<xmin>1</xmin><xmin>2"), "<xmin> more than once"),
    (voc({}).replace("<name>", "<name>dog</name><name>"), "<name> more than once"),
    (voc({}).replace("<object>", "<objects><object>").replace("</object>", "</object></objects>"), "within <objects>"),
    (voc(dict(name="Big Dgo")), "did you mean 'Big Dog'"), (voc(dict(difficult="maybe")), "<difficult>"),
    (voc(dict(difficult="0.5")), "<difficult> should be 0 or 1, found '0.5'"), (voc(dict(difficult="nan")), "<difficult>"),
])
def test_what_is_no_file_of_boxes_is_refused_by_name(read, text, told):
    with pytest.raises(Error, match=told) as raised:
        read(text)
    assert "a.xml" in str(raised.value) and "\n" not in str(raised.value)


def coco(*annotations, **image):
    return json.dumps({"categories": [{"id": 7, "name": "cat"}, {"id": 3, "name": "Big Dog"}],
                       "images": [{"id": 5, "file_name": "a.png", "width": 60, "height": 40} | image],
                       "annotations": [{"id": 1, "image_id": 5, "category_id": 7, "bbox": [0, 1, 30, 19]} | each
                                       for each in annotations]})


def test_coco(read):
    record = read(coco({}, dict(category_id=3, iscrowd=1, bbox=[2.5, 0, 0.5, 4])), "all.json", boxes="boxes/all.json")
    assert (record.name, record.size) == ("a", (60, 40))
    assert record.boxes.tolist() == [[0, 1, 29, 19], [2.5, 0, 2.5, 3]]
    assert record.classes.tolist() == [1, 2] and record.crowd.tolist() == [False, True]


@pytest.mark.parametrize("text, told", [
    (coco(dict(bbox=[1, 2, 3])), "'bbox' should be"), (coco(dict(bbox=[1, 2, -3, 4])), "width and height are -3"),
    (coco(dict(bbox=["1", 2, 3, 4])), "'bbox' should be"), (coco(dict(bbox=[1, float("nan"), 3, 4])), "'bbox'"),
    (coco(dict(category_id=9)), "category_id 9"), ("[1]", "object"),
    (coco({}, width=0), "0x40"), (coco(dict(bbox=[10**400, 2, 3, 4])), "'bbox' should be"),
    (coco(dict(iscrowd=2)), "annotation 1: 'iscrowd' should be 0 or 1, found '2'"), (coco(dict(iscrowd="one")), "0 or 1, found 'one'"),
    (coco({}, width=60.5), "'width' should be a whole number, found float"), (coco({}, id=5.5), "'id' should be a whole"),
    (coco(dict(image_id="5")), "its image_id .5. is none of the file's, which has 5: write both in one way"),
    (coco(dict(category_id=None)), "'category_id' should be a whole number, found nothing"), (coco({}, id=""), "plain characters"),
    (coco({}, width=10**400), "'width' should be a whole number, found a huge number"),
    (coco(dict(id={"x": "\n"}, bbox=[1])), "annotation 1 "), ('{"images":[],"annotations":[],"categories":[]}', "has no image"),
])
def test_coco_that_is_none(read, text, told):
    with pytest.raises(Error, match=told):
        read(text, "all.json", boxes="boxes/all.json")


@pytest.mark.parametrize("ids", [dict(image="5", category="7"), dict(image=5.0, category=7.0), dict(image="a_b", category="x")])
def test_coco_as_converters_write_it(read, ids):
    text = json.dumps({"categories": [{"id": 3, "name": "Big Dog"}, {"id": ids["category"], "name": "cat"}],
                       "images": [{"id": ids["image"], "file_name": "a.png", "width": 60.0, "height": 40.0}],
                       "annotations": [{"id": "1", "image_id": ids["image"], "category_id": ids["category"],
                                        "bbox": [0.0, 1, 30, 19], "iscrowd": crowd} for crowd in ("0", "1", 1.0)]})
    record = read(text, "all.json", boxes="boxes/all.json")
    assert record.size == (60, 40) and record.classes.tolist() == [1, 1, 1] and record.crowd.tolist() == [False, True, True]
    assert record.boxes.tolist() == [[0, 1, 29, 19]] * 3


def test_coco_and_a_list(read, tmp_path):
    (tmp_path / "all.txt").write_text("a\n")
    assert len(read(coco({}), "all.json", boxes="boxes/all.json").boxes) == 1
    with pytest.raises(Error, match="has no image 'a'"):
        read(coco({}, file_name="b.png"), "all.json", boxes="boxes/all.json")


def test_labelme(read):
    shapes = [{"label": "cat", "points": [[30, 20], [0, 1]], "shape_type": "rectangle"},
              {"label": "Big Dog", "points": [[10, 10], [10, 14]], "shape_type": "circle"},
              {"label": "cat", "points": [[1, 1], [5, 2], [3, 9]], "shape_type": "polygon"},
              {"label": "cat", "points": [[1, 1], [5, 9]], "shape_type": "mask", "mask": ""}]
    record = read(json.dumps({"imagePath": "a.png", "imageWidth": 60, "imageHeight": 40, "shapes": shapes}), "a.json")
    assert record.boxes.tolist() == [[0, 1, 29, 19], [6, 6, 13, 13], [1, 1, 4, 8], [1, 1, 5, 9]]
    assert record.classes.tolist() == [1, 2, 1, 1]
    shapes[1]["points"] *= 2
    with pytest.raises(Error, match="shape 2 .'Big Dog'.: a circle of 4 points, expected 2"):
        read(json.dumps({"imagePath": "a.png", "imageWidth": 60, "imageHeight": 40, "shapes": shapes}), "a.json")


def test_a_list_names_the_images_and_a_missing_file_is_told(read, tmp_path):
    with pytest.raises(Error, match=r"a\.xml are not there"):
        read(voc({}), "b.xml")
    (tmp_path / "all.txt").write_text("images/a.png\n")
    assert read(voc({})).name == "a"


def test_capitals_of_an_ending_do_not_count(read, tmp_path):
    """As files come from cameras and from Windows; a file of exactly the name comes first."""
    if (tmp_path / "IMAGES").exists():
        pytest.skip("this file system has one file of both names")
    assert len(read(voc({}), "a.XML").boxes) == 1
    assert len(read(voc({}, {}), "a.xml").boxes) == 2
    for made in ("a.xml", "a.XML"):
        (tmp_path / "boxes" / made).unlink()
    (tmp_path / "boxes/a.Xml").write_text(voc({}))
    with pytest.raises(Error, match=r"both .*a\.XML and a\.Xml are there for a\.xml; take one of them away"):
        read(voc({}), "a.XML")
    (tmp_path / "images/a.png").rename(tmp_path / "images/a.PNG")
    (tmp_path / "boxes/a.Xml").unlink()
    assert read(voc({}), "a.XML", images="images/{name}.png").path.name == "a.PNG"
    (tmp_path / "all.txt").write_text("images/a.PNG\n")
    assert read(voc({}), "a.XML", images="images/{name}.png").path.name == "a.PNG"


def test_capitals_of_endings_in_vocs_folders(tmp_path):
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (tmp_path / folder).mkdir(parents=True)
    for name, image, xml in (("a", "jpg", "xml"), ("b", "JPG", "XML"), ("c.d", "Jpg", "xml")):
        Image.new("RGB", (60, 40)).save(tmp_path / f"JPEGImages/{name}.{image}", format="JPEG")
        (tmp_path / f"Annotations/{name}.{xml}").write_text(voc({}))
    (tmp_path / "ImageSets/Main/train.txt").write_text("a\nb.JPG\nc.d.jpg\n")
    boxes = Boxes(Tree("voc", layout("voc", {"classes": ["cat"]}), tmp_path, {}, None))
    found = [boxes.read(*entry) for entry in boxes.entries("train")]
    assert [each.path.name for each in found] == ["a.jpg", "b.JPG", "c.d.Jpg"]
    assert [each.source.name for each in found] == ["a.xml", "b.XML", "c.d.xml"]


@pytest.mark.parametrize("given, told", [
    ({}, "names no class"), ({"classes": ["background"]}, None), ({"classes": ["x", "x"]}, "a second time"),
    ({"classes": ["x"], "images": "{nome}"}, "in braces"), ({"classes": ["x"], "boxes": "a}"}, "in braces"), ({"classes": ["x"], "mean": [1, 2]}, "3 numbers"),
])
def test_a_folder_that_cannot_be_read(given, told):
    if told:
        with pytest.raises(Error, match=told):
            layout("folder", given)


def test_known_sets():
    with pytest.raises(Error, match="did you mean 'voc'"):
        layout("vcc")
    with pytest.raises(Error, match="'images' is for dataset 'folder'"):
        layout("voc", {"images": "x"})
    assert layout("voc", {"classes": ["RBC"]}).tops["boxes"].classes.names == ("background", "RBC")


def test_clipped():
    boxes = np.array([[-3, 2, 80, 45], [61, 0, 70, 5], [0, 0, 59, 39]], np.float32)
    assert clipped(boxes, (60, 40)).tolist() == [[0, 2, 59, 39], [61, 0, 59, 5], [0, 0, 59, 39]]
    assert clipped(boxes[:0], (60, 40)).shape == (0, 4)
