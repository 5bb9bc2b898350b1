"""Labels that people drew with other tools: each tool's files are made here as the tool writes them."""

import base64
import io
import json
from importlib.util import find_spec

import numpy as np
import pytest
from PIL import Image
from programs import PROJECT

from netspec.base.errors import Error
from netspec.cli.main import main
from netspec.data.images import TURNS, read_label
from netspec.data.layouts import facts
from netspec.data.outlines import bitmap, coco_polygon, drawn, placed, run_lengths
from netspec.data.segmentation import SegmentationData
from netspec.ops.base import Context
from netspec.proto.caffe_pb2 import LayerParameter

W, H = 40, 30
CAT, DOG = [[2, 3], [20, 3], [20, 20], [2, 20]], [[10, 10], [30, 10], [30, 25], [10, 25]]


def photo(path, size=(W, H), turn=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if turn:
        exif[0x0112] = turn
    Image.new("RGB", size, (90, 120, 60)).save(path, exif=exif)


def png(mask):
    file = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).save(file, "PNG")
    return file.getvalue()


def labelme(folder, name="a", shapes=(("cat", CAT), ("dog", DOG)), size=(W, H), image=True, **more):
    """An image and labelme's file beside it; shapes: (label, points, shape_type, ...)."""
    if image:
        photo(folder / f"{name}.jpg", size)
    made = [dict(label=label, points=points, shape_type=kind[0] if kind else "polygon", flags={}, group_id=None)
            for label, points, *kind in shapes]
    write(folder / f"{name}.json", dict(version="5.4.1", flags={}, shapes=made, imagePath=f"{name}.jpg", imageData=None,
                                        imageWidth=size[0], imageHeight=size[1]) | more)


def write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))


def coco(folder, annotations, images=("a.jpg",), names=("cat", "dog"), **more):
    """COCO's file, beside its images; annotations: (image's number from 0, class's from 0, segmentation)."""
    for file in images:
        photo(folder / file)
    write(folder / "instances.json", {
        "images": [dict(id=70 + 3 * i, file_name=file, width=W, height=H) for i, file in enumerate(images)],
        "categories": [dict(id=5 + 4 * i, name=name) for i, name in enumerate(names)],
        "annotations": [dict(id=i, image_id=70 + 3 * image, category_id=5 + 4 * kind, segmentation=what, iscrowd=0)
                        for i, (image, kind, what) in enumerate(annotations)]} | more)


def flat(points):
    return [number for point in points for number in point]


def run(capsys, *args, status=0):
    """What the command says, on standard output, or on standard error if it refuses."""
    assert main(["data", "labels", *map(str, args)]) == status
    out = capsys.readouterr()
    return out.out if status == 0 else out.err


def label(path):
    with Image.open(path) as image:
        assert image.mode == "P"
    return read_label(path)


@pytest.fixture
def my(tmp_path):
    return tmp_path / "my"


def listed(my, *lines):
    """A data set file of one's own."""
    my.mkdir(exist_ok=True)
    (my / "set.txt").write_text("images: photos\nlabels: masks\n" + "\n".join(lines) + "\n")
    return my / "set.txt"


def test_labelme_makes_labels_and_the_data_set_file(my, capsys):
    labelme(my / "photos")
    said = run(capsys, my / "photos", "--set", my / "set.txt")
    got = label(my / "labels" / "a.png")
    want = np.zeros((H, W), int)
    want[3:21, 2:21], want[10:26, 10:31] = 1, 2  # with the outline, the later shape on top
    assert (got == want).all()
    known = facts(str(my / "set.txt"))
    assert known.names == ("background", "cat", "dog") and known.void == 255
    with Image.open(my / "labels" / "a.png") as image:
        palette = np.array(image.getpalette()).reshape(-1, 3)
    assert (palette[:3] == known.palette).all() and palette[255].tolist() == [224, 224, 192]
    assert f"{11 * 11} pixels of 1 picture in shapes of two classes ('dog' on 'cat' 121): the later" in said
    assert "set.txt is new" in said and "wrote 1 label into " in said


def test_a_second_run_gives_the_same_bytes_and_other_labels_stay(my, capsys):
    labelme(my / "photos")
    run(capsys, my / "photos", "--set", my / "set.txt")
    before = (my / "labels" / "a.png").read_bytes(), (my / "set.txt").read_bytes()
    assert "1 of them there already" in run(capsys, my / "photos", "--set", my / "set.txt")
    (my / "labels" / "a.png").write_bytes(b"drawn by hand")
    assert "--overwrite" in run(capsys, my / "photos", "--set", my / "set.txt", status=2)
    assert (my / "labels" / "a.png").read_bytes() == b"drawn by hand"
    run(capsys, my / "photos", "--set", my / "set.txt", "--overwrite")
    assert ((my / "labels" / "a.png").read_bytes(), (my / "set.txt").read_bytes()) == before
    assert sorted(p.name for p in my.iterdir()) == ["labels", "photos", "set.txt"]
    assert [p.name for p in (my / "labels").iterdir()] == ["a.png"]


@pytest.mark.parametrize("overlap, there", [("last", 2), ("first", 1), ("void", 255)])
def test_where_shapes_of_two_classes_overlap_a_rule_says_what_counts(my, capsys, overlap, there):
    labelme(my / "photos")
    run(capsys, my / "photos", "--set", my / "set.txt", "--overlap", overlap)
    got = label(my / "labels" / "a.png")
    assert (got[10:21, 10:21] == there).all() and got[4, 4] == 1 and got[24, 24] == 2


def test_labels_go_where_the_data_set_file_says_by_its_numbers(my, capsys):
    file = listed(my, "void: 9", "background", "lamp", "dog", "cat")
    labelme(my / "photos")
    run(capsys, my / "photos", "--set", file, "--rest", "void")
    got = label(my / "masks" / "a.png")
    assert (got[4, 4], got[24, 24], got[0, 0]) == (3, 2, 9)


def test_classes_that_the_list_lacks_are_named_and_never_guessed(my, capsys):
    file = listed(my, "background", "cats")
    labelme(my / "photos")
    said = run(capsys, my / "photos", "--set", file, status=2)
    assert "'cat' (1 shape in 1 picture; did you mean 'cats')" in said and "'dog'" in said and "--as" in said
    assert not (my / "masks").exists()
    run(capsys, my / "photos", "--set", file, "--as", "cat=cats", "--as", "*=void")
    got = label(my / "masks" / "a.png")
    assert (got[4, 4], got[24, 24], got[0, 0]) == (1, 255, 0)
    assert "nothing that was drawn is called so" in run(
        capsys, my / "photos", "--set", file, "--as", "cta=cats", status=2)


def test_what_is_where_nothing_was_drawn_must_be_known(my, capsys):
    file = listed(my, "cat", "dog")
    labelme(my / "photos")
    said = run(capsys, my / "photos", "--set", file, status=2)
    assert "has no class 'background'" in said and "--rest void" in said and not list(my.glob("masks/*"))
    run(capsys, my / "photos", "--set", file, "--rest", "void")
    assert label(my / "masks" / "a.png")[0, 0] == 255


def test_pictures_without_shapes_and_images_without_labels_are_told(my, capsys):
    labelme(my / "photos")
    labelme(my / "photos", "b", shapes=())
    photo(my / "photos" / "c.png")
    said = run(capsys, my / "photos", "--set", my / "set.txt")
    assert "1 picture without a shape, which gets no label (--empty" in said and ": b\n" in said
    assert "1 image of" in said and "not drawn on, without a label: leave it out of the lists: c" in said
    assert not (my / "labels" / "b.png").exists()
    run(capsys, my / "photos", "--set", my / "set.txt", "--empty")
    assert not label(my / "labels" / "b.png").any()


def test_lines_have_no_area_and_all_other_shapes_are_drawn(my, capsys):
    mask = np.zeros((4, 5), bool)
    mask[1:3, 2:] = True
    shapes = [("a", [[5, 5], [9, 8]], "rectangle"), ("b", [[20, 15], [24, 15]], "circle"),
              ("c", [[30, 2], [36, 2], [36, 8], [30, 8]], "oriented_rectangle"), ("d", [[3, 20], [7, 23]], "mask")]
    labelme(my / "photos", shapes=shapes)
    path = my / "photos" / "a.json"
    data = json.loads(path.read_text())
    data["shapes"][3]["mask"] = base64.b64encode(png(mask)).decode()
    write(path, data)
    run(capsys, my / "photos", "--set", my / "set.txt")
    got = label(my / "labels" / "a.png")
    assert (got == 1).sum() == 5 * 4 and got[15, 24] == 2 and got[15, 25] == 0 and got[2, 30] == 3
    assert np.argwhere(got == 4).tolist() == [[y, x] for y in (21, 22) for x in (5, 6, 7)]
    data["shapes"].append(dict(label="crack", points=[[0, 28], [39, 28]], shape_type="linestrip"))
    write(path, data)
    said = run(capsys, my / "photos", "--set", my / "more.txt", status=2)
    assert "shape 5 ('crack'): shapes of type 'linestrip' are not known, or have no area: draw polygons" in said


@pytest.mark.parametrize("shapes, more, words", [
    ([("cat", [[1, 1], [5, 5]])], {}, "shape 1 ('cat'): has 2 points, expected at least 3"),
    ([("cat", [[1, 1], [5, 5], [float("nan"), 3]])], {}, "a coordinate is nan"),
    ([("cat", [[1, 1], [5, 5], [10 ** 400, 3]])], {}, "a coordinate is a huge number"),
    ([("cat", [[1, 1], [5, 5], [900, 3]])], {}, "the point 900, 3 lies far outside of the picture of 40x30"),
    ([("cat", [[1, 1], [5, 5], ["7", 3]])], {}, "expected points, two numbers each"),
    ([("cat", [[1, 1], [5, 5], [True, 3]])], {}, "expected points, two numbers each"),
    ([("cat", "everywhere")], {}, "'points' should be a list, found str"),
    ([("cat", CAT, "sphere")], {}, "shapes of type 'sphere' are not known"),
    ([("cat", CAT, "circle")], {}, "a circle of 4 points, expected 2"),
    ([(7, CAT)], {}, "'label' should be text, found int"),
    ([("cat", CAT)], dict(imageWidth=10 ** 9, imageHeight=10 ** 9), "said to be of 1000000000x1000000000"),
    ([("cat", CAT)], dict(imageWidth=None), "'imageWidth' should be a whole number, found nothing"),
    ([("cat", CAT)], dict(imageWidth=80, imageHeight=60), "was drawn on a picture of 80x60"),
    ([("cat", CAT)], dict(imagePath="b.jpg"), "none of the 1 images that were drawn on, such as 'b'"),
    ([("ca#t", CAT)], {}, "'ca#t' cannot stand in a data set file"),
])
def test_what_labelme_cannot_have_drawn_is_refused_in_a_sentence(my, capsys, shapes, more, words):
    labelme(my / "photos", shapes=shapes, **more)
    said = run(capsys, my / "photos", "--set", my / "set.txt", status=2)
    assert words in said and len(said.splitlines()) == 1
    assert not (my / "set.txt").exists() and not list(my.glob("labels/*"))


def test_json_that_is_none_or_nested_without_end_is_refused(my, capsys):
    labelme(my / "photos")
    for text, words in (("[" * 100_000, "is no JSON"), ("{]", "is no JSON"), ("[1]", "expected a JSON object"),
                        ("{}", "is no file of labelme"), ("\xff", "is no JSON")):
        (my / "photos" / "b.json").write_bytes(text.encode("latin-1"))
        assert words in run(capsys, my / "photos", "--set", my / "set.txt", status=2)


def test_one_image_is_not_labelled_twice_and_not_taken_for_another(my, capsys):
    labelme(my / "photos")
    labelme(my / "photos", "b", image=False, imagePath="a.jpg")
    assert "has a label already" in run(capsys, my / "photos", "--set", my / "set.txt", status=2)


@pytest.mark.parametrize("turn", TURNS)
def test_labels_of_turned_photographs_lie_on_the_stored_pixels(my, capsys, turn):
    """Drawn on what an EXIF turn shows: known by the size, asked for where that is the same."""
    drawn_on = (H, W) if turn >= 5 else (W, H)
    labelme(my / "photos", shapes=[("cat", [[0, 0], [9, 0], [9, 4], [0, 4]])], size=drawn_on, image=False)
    photo(my / "photos" / "a.jpg", turn=turn)
    args = [my / "photos", "--set", my / "set.txt"]
    if turn < 5:
        assert f"(orientation {turn}) that leaves its size" in run(capsys, *args, status=2)
        run(capsys, *args, "--exif", "stored")
        assert label(my / "labels" / "a.png")[:5, :10].all()
        args += ["--exif", "turned", "--overwrite"]
    said = run(capsys, *args)
    assert "the label turned back to the stored pixels: a" in said
    shown = Image.fromarray(label(my / "labels" / "a.png")).transpose(TURNS[turn])
    want = np.zeros(drawn_on[::-1], int)
    want[:5, :10] = 1
    assert (np.asarray(shown) == want).all()


def test_square_photographs_with_a_turn_are_asked_about(my, capsys):
    labelme(my / "photos", size=(30, 30), image=False)
    photo(my / "photos" / "a.jpg", (30, 30), turn=6)
    assert "--exif turned" in run(capsys, my / "photos", "--set", my / "set.txt", status=2)


def test_coco_draws_as_pycocotools_does(my, capsys):
    inner = [[8, 8], [14, 8], [14, 14], [8, 14]]
    crowd = {"size": [H, W], "counts": [0, H, (W - 1) * H]}  # the first column
    coco(my / "photos", [(0, 1, [flat(CAT), flat(inner)]), (0, 0, crowd), (1, 0, [flat(DOG)])],
         images=("a.jpg", "sub/b.jpg"), names=("dog", "cat", "never"))
    said = run(capsys, my / "photos" / "instances.json", "--set", my / "set.txt")
    want = np.zeros((H, W), int)
    want[3:20, 2:20], want[:, 0] = 2, 1
    assert (label(my / "labels" / "a.png") == want).all()
    assert (label(my / "labels" / "sub" / "b.png") == 1).sum() == 20 * 15
    assert facts(str(my / "set.txt")).names == ("background", "dog", "cat")  # by id; what was never drawn is left out
    assert "1 shape with a part inside another part, filled as COCO does" in said


def test_coco_crowds_are_told(my, capsys):
    coco(my / "photos", [(0, 0, {"size": [H, W], "counts": [600, 600]})])
    path = my / "photos" / "instances.json"
    data = json.loads(path.read_text())
    data["annotations"][0]["iscrowd"] = 1
    write(path, data)
    assert "1 shape of a crowd, taken for the class" in run(capsys, path, "--set", my / "set.txt")


@pytest.mark.parametrize("what, words", [
    ([], "has no outline ('segmentation'), a box at most"),
    (None, "has no outline"),
    ([[1, 1, 5, 5]], "has 2 points, expected at least 3"),
    ([[1, 1, 5, 5, 7]], "expected points"),
    (flat(CAT), "expected points, two numbers each, found 2"),
    ([CAT], "found lists of pairs"),
    ([flat(CAT), 7], "expected points"),
    ({"size": [W, H], "counts": [W * H]}, "run lengths are of the size [40, 30], expected [30, 40]"),
    ({"size": [H, W], "counts": [10]}, "make 10 pixels, expected 1200"),
    ({"size": [H, W], "counts": [1300, -100]}, "none below 0"),
    ({"size": [H, W], "counts": [True]}, "expected run lengths"),
    ({"size": [H, W], "counts": "a~"}, "the run lengths are damaged"),
    ({"size": [H, W], "counts": "o" * 9}, "end in the middle of a number"),
    ({"size": [H, W], "counts": "o" * 99}, "the run lengths are damaged"),
])
def test_what_coco_cannot_have_is_refused_in_a_sentence(my, capsys, what, words):
    coco(my / "photos", [(0, 0, what)])
    said = run(capsys, my / "photos", "--set", my / "set.txt", status=2)
    assert words in said and "annotation 0" in said and len(said.splitlines()) == 1
    assert not (my / "set.txt").exists() and not list(my.glob("labels/*"))


@pytest.mark.parametrize("change, words", [
    (lambda d: d["annotations"][0].update(image_id=1), "its image_id 1 is none of the file's"),
    (lambda d: d["annotations"][0].update(category_id=1), "its category_id 1 is none of the file's"),
    (lambda d: d["images"].append(d["images"][0]), "image 70 is there twice"),
    (lambda d: d["categories"].append(dict(id=5, name="bird")), "category 5 is there twice"),
    (lambda d: d["images"][0].update(file_name="../../a.jpg"), "leaves the folder"),
    (lambda d: d["images"][0].update(file_name="/etc/a.jpg"), "leaves the folder"),
])
def test_coco_files_that_contradict_themselves_are_refused(my, capsys, change, words):
    coco(my / "photos", [(0, 0, [flat(CAT)])])
    path = my / "photos" / "instances.json"
    data = json.loads(path.read_text())
    change(data)
    write(path, data)
    assert words in run(capsys, path, "--set", my / "set.txt", status=2)


GOLDEN = json.loads((PROJECT / "tests" / "golden" / "coco.json").read_text())


@pytest.mark.parametrize("wide, high, numbers, packed", GOLDEN)
def test_polygons_and_run_lengths_are_pycocotools_to_the_pixel(wide, high, numbers, packed):
    want = run_lengths(packed, (wide, high), "golden")
    assert (coco_polygon(np.array(numbers).reshape(-1, 2), (wide, high)) == want).all()


@pytest.mark.skipif(not find_spec("pycocotools"), reason="pycocotools is not installed")
def test_polygons_and_run_lengths_agree_with_pycocotools():
    from pycocotools import mask as theirs
    rng = np.random.default_rng(0)
    for _ in range(500):
        wide, high = (int(n) for n in rng.integers(1, 60, 2))
        points = (rng.uniform(-0.4, 1.4, (int(rng.integers(3, 12)), 2)) * [wide, high]).round(int(rng.integers(3)))
        packed = theirs.frPyObjects([points.ravel().tolist()], high, wide)[0]
        want = theirs.decode(packed).astype(bool)
        assert (coco_polygon(points, (wide, high)) == want).all()
        assert (run_lengths(packed["counts"].decode(), (wide, high), "") == want).all()


@pytest.mark.skipif(not find_spec("labelme"), reason="labelme is not installed")
@pytest.mark.parametrize("kind, count", [("polygon", 7), ("rectangle", 2), ("circle", 2)])
def test_shapes_agree_with_labelme(kind, count):
    from labelme.utils.shape import shape_to_mask
    rng = np.random.default_rng(0)
    for _ in range(100):
        points = rng.uniform(-0.2, 1.2, (count, 2)) * [W, H]
        assert (drawn(kind, points, (W, H)) == shape_to_mask((H, W), points.tolist(), kind)).all()


def cvat(folder, classes=("background:0,0,0::", "cat:250,50,83::", "dog:51,221,255::"), mode="RGB"):
    """CVAT's "segmentation mask", with two masks; b is all background."""
    (folder / "SegmentationClass").mkdir(parents=True)
    (folder / "labelmap.txt").write_text("\n".join(["# label:color_rgb:parts:actions", *classes]) + "\n")
    pixels = np.zeros((H, W, 3), np.uint8)
    pixels[3:20, 2:20], pixels[10:25, 10:30] = (250, 50, 83), (51, 221, 255)
    for name, shown in (("a", pixels), ("b", 0 * pixels)):
        Image.fromarray(shown).convert(mode).save(folder / "SegmentationClass" / f"{name}.png")


@pytest.mark.parametrize("mode", ["RGB", "P", "RGBA"])
def test_cvat_masks_take_the_colours_of_labelmap(my, capsys, mode):
    cvat(my / "export", mode=mode if mode != "P" else "RGB")
    if mode == "P":
        for path in (my / "export" / "SegmentationClass").iterdir():
            Image.open(path).quantize(8).save(path)
    for name in "ab":
        photo(my / "photos" / f"{name}.jpg")
    said = run(capsys, my / "export", "--set", my / "set.txt", "--images", my / "photos")
    got = label(my / "labels" / "a.png")
    assert (got[4, 4], got[24, 24], got[0, 0]) == (1, 2, 0)
    known = facts(str(my / "set.txt"))
    assert known.names == ("background", "cat", "dog") and known.palette[1].tolist() == [250, 50, 83]
    assert "1 picture without a shape" in said


def test_colours_that_labelmap_lacks_are_told(my, capsys):
    cvat(my / "export", classes=("background:0,0,0::", "cat:250,50,83::"))
    photo(my / "photos" / "a.jpg")
    args = [my / "export", "--set", my / "set.txt", "--images", my / "photos"]
    assert "300 pixels of colours that are no class: 51 221 255 (300 times)" in run(capsys, *args, status=2)
    (my / "export" / "labelmap.txt").write_text("cat:1,2,3::\ndog:1,2,3::\n")
    assert "one colour" in run(capsys, *args, status=2)
    (my / "export" / "labelmap.txt").write_text("cat 1 2 3\n")
    assert "labelmap.txt:1: expected NAME:RED,GREEN,BLUE" in run(capsys, *args, status=2)
    (my / "export" / "labelmap.txt").unlink()
    assert "says which colour is which class" in run(capsys, *args, status=2)


def supervisely(folder):
    """A project of Supervisely with one data set, ds, and an image, a.jpg."""
    write(folder / "meta.json", {"classes": [dict(title="cat", shape="polygon", color="#FA3253"),
                                             dict(title="dog", shape="bitmap", color="#33DDFF")], "tags": []})
    photo(folder / "ds" / "img" / "a.jpg")
    write(folder / "obj_class_to_machine_color.json", {"cat": [1, 1, 1], "dog": [2, 2, 2]})


def test_supervisely_machine_masks(my, capsys):
    supervisely(my / "p")
    assert "export the project as masks" in run(capsys, my / "p", "--set", my / "set.txt", status=2)
    pixels = np.zeros((H, W, 3), np.uint8)
    pixels[3:9, 4:9] = 2
    (my / "p" / "ds" / "masks_machine").mkdir()
    Image.fromarray(pixels).save(my / "p" / "ds" / "masks_machine" / "a.png")
    run(capsys, my / "p", "--set", my / "set.txt")
    assert (label(my / "labels" / "a.png") == 1).sum() == 30
    assert facts(str(my / "set.txt")).names == ("background", "dog")


def test_folders_without_labels_and_places_outside_are_refused(my, tmp_path, capsys):
    my.mkdir()
    assert "holds no labels that are known" in run(capsys, my, "--set", my / "set.txt", status=2)
    (my / "export.zip").write_bytes(b"PK")
    assert "unpack an archive first" in run(capsys, my / "export.zip", "--set", my / "set.txt", status=2)
    labelme(tmp_path / "elsewhere")
    assert "does not lie below" in run(capsys, tmp_path / "elsewhere", "--set", my / "set.txt", status=2)
    file = listed(my, "values: {255: 1}", "background", "cat", "dog")
    assert "'values' is for other labels" in run(capsys, tmp_path / "elsewhere", "--set", file, status=2)


def checked(my, capsys, size, shape, turn):
    """What `data check` says of one turned photograph of a size, whose label has a shape (H, W)."""
    file = listed(my, "background", "cat")
    photo(my / "photos" / "a.jpg", size, turn)
    (my / "masks").mkdir()
    Image.fromarray(np.resize(np.array([0, 1], np.uint8), shape)).save(my / "masks" / "a.png")
    (my / "train.txt").write_text("a\n")
    status = main(["data", "check", str(file), "--jobs", "1"])
    return status, capsys.readouterr().out


def test_reading_a_label_of_the_turned_size_names_the_cure(my, capsys):
    status, said = checked(my, capsys, (W, H), (W, H), 6)
    assert status == 1 and "images and labels that differ in size: 1" in said
    assert "EXIF turn (orientation 6)" in said and "mogrify -auto-orient" in said
    source = SegmentationData(LayerParameter(name="data", top=["data", "label"], python_param=dict(
        param_str=str(dict(dataset=str(my / "set.txt"), split="train", resize=0.5)))), (), Context())
    with pytest.raises(Error, match=r"is 20x15 and its label .* is 15x20; .* EXIF turn \(orientation 6\)"):
        source.read(0)


@pytest.mark.parametrize("size, turn, told", [((W, H), 3, True), ((H, H), 8, True), ((W, H), 8, False), ((W, H), None, False)])
def test_turns_that_the_size_does_not_tell_are_asked_about(my, capsys, size, turn, told):
    status, said = checked(my, capsys, size, size[::-1], turn)
    assert status == 0 and ("EXIF turn" in said) == told
    assert not told or f"a.jpg (orientation {turn})" in said


def test_other_sizes_have_no_such_cure(my, capsys):
    assert "EXIF" not in checked(my, capsys, (W, H), (W, W), 6)[1]


def test_images_beside_the_files_are_found(my, capsys):
    """labelme's in another folder; CVAT's and COCO's own places of annotations; names that stand for a whole file."""
    labelme(my / "json", image=False, imagePath="..\\photos\\a.jpg")
    photo(my / "photos" / "a.jpg")
    run(capsys, my / "json", "--set", my / "set.txt")
    assert "images: photos" in (my / "set.txt").read_text()
    coco(my / "export" / "images" / "default", [(0, 0, [flat(CAT)])])
    (my / "export" / "annotations").mkdir()
    (my / "export" / "images" / "default" / "instances.json").rename(my / "export" / "annotations" / "instances.json")
    run(capsys, my / "export", "--set", my / "other.txt")
    assert label(my / "labels" / "default" / "a.png").any() and "images: export/images" in (my / "other.txt").read_text()
    cvat(my / "masks")
    (my / "masks" / "SegmentationClass" / "a.png").rename(my / "masks" / "SegmentationClass" / "a.jpg.png")
    (my / "masks" / "SegmentationClass" / "b.png").unlink()
    run(capsys, my / "masks", "--set", my / "third.txt", "--images", my / "photos", "--overwrite")
    assert label(my / "labels" / "a.png").max() == 2


def test_what_was_written_is_what_training_reads(my, capsys):
    file = listed(my, "background", "cat", "dog")
    coco(my / "photos", [(0, 0, [flat(CAT)]), (1, 1, [flat(DOG)])], images=("a.jpg", "sub/b.jpg"))
    run(capsys, my / "photos", "--set", file)
    (my / "train.txt").write_text("a\nsub/b\n")
    assert main(["data", "check", str(file), "--jobs", "1"]) == 0
    assert "0 errors" in capsys.readouterr().out
    source = SegmentationData(LayerParameter(name="data", top=["data", "label"], python_param=dict(
        param_str=str(dict(dataset=str(file), split="train", randomize=False)))), (), Context())
    assert [np.unique(source.load(i)[1]).tolist() for i in (0, 1)] == [[0, 1], [0, 2]]


def test_patterns_of_the_data_set_file_are_followed(my, capsys):
    (my / "train").mkdir(parents=True)
    (my / "set.txt").write_text("images: {split}/rgb/img_{name}.jpg\nlabels: {split}/gt/{name}_label.png\nbackground\ncat\ndog\n")
    labelme(my / "train" / "rgb", "img_7")
    assert "--split" in run(capsys, my / "train" / "rgb", "--set", my / "set.txt", status=2)
    run(capsys, my / "train" / "rgb", "--set", my / "set.txt", "--split", "train")
    assert label(my / "train" / "gt" / "7_label.png").max() == 2
    (my / "set.txt").write_text("images: train/rgb\nlabels: train/rgb\nbackground\ncat\ndog\n")
    assert "folders of their own" in run(capsys, my / "train" / "rgb", "--set", my / "set.txt", status=2)


def test_coco_categories_of_one_name_are_one_class(my, capsys):
    coco(my / "photos", [(0, 0, [flat(CAT)]), (0, 1, [flat(DOG)])], names=("cat", "cat"))
    run(capsys, my / "photos", "--set", my / "set.txt")
    assert facts(str(my / "set.txt")).names == ("background", "cat")


@pytest.mark.parametrize("name", ["ca\nt", "\x1b[31mcat", "c" * 300, ""])
def test_names_that_cannot_be_shown_are_refused(my, capsys, name):
    labelme(my / "photos", shapes=[(name, CAT)])
    said = run(capsys, my / "photos", "--set", my / "set.txt", status=2)
    assert "'label'" in said and "\x1b" not in said and len(said.splitlines()) == 1 and len(said) < 400


def test_what_is_cut_off_at_the_border_is_told(my, capsys):
    labelme(my / "photos", shapes=[("cat", [[0, 15], [10, 15]], "circle"), ("dog", [[-3, 0], [5, 0], [5, 5]])])
    assert "2 shapes cut off at the border of the picture" in run(
        capsys, my / "photos", "--set", my / "set.txt")


def test_human_masks_do_where_they_are_alone(my, capsys):
    supervisely(my / "p")
    pixels = np.zeros((H, W, 3), np.uint8)
    pixels[3:9, 4:9] = (0xFA, 0x32, 0x53)
    (my / "p" / "ds" / "masks_human").mkdir()
    Image.fromarray(pixels).save(my / "p" / "ds" / "masks_human" / "a.png")
    run(capsys, my / "p", "--set", my / "set.txt")
    assert (label(my / "labels" / "a.png") == 1).sum() == 30
    Image.fromarray(np.hstack([pixels, pixels])).save(my / "p" / "ds" / "masks_human" / "a.png")
    assert "was drawn on a picture of 80x30" in run(capsys, my / "p", "--set", my / "other.txt", status=2)


def test_an_interruption_leaves_nothing_behind(my, capsys, monkeypatch):
    labelme(my / "photos")
    labelme(my / "photos", "b")
    saved = []

    def stop(*args):
        if saved:
            raise KeyboardInterrupt
        saved.append(args)

    monkeypatch.setattr("netspec.data.painting._save", stop)
    assert main(["data", "labels", str(my / "photos"), "--set", str(my / "set.txt")]) == 130
    assert sorted(p.name for p in my.rglob("*") if p.is_file()) == ["a.jpg", "a.json", "b.jpg", "b.json"]


def test_a_data_set_file_is_a_text_file(my, capsys):
    labelme(my / "photos")
    assert "ends in .txt" in run(capsys, my / "photos", "--set", my / "set", status=2)
    assert "ends in .txt" in run(capsys, my / "photos", "--set", my, status=2)


def test_what_is_refused_while_painting_leaves_no_folder(my, capsys):
    coco(my / "photos", [(0, 0, {"size": [H, W], "counts": [10]})])
    before = sorted(my.rglob("*"))
    run(capsys, my / "photos", "--set", my / "set.txt", status=2)
    assert sorted(my.rglob("*")) == before


@pytest.mark.parametrize("void, words", [(1, "from 2 to 255"), (300, "from 2 to 255"), (-1, "from 2 to 255")])
def test_a_void_that_is_a_class_or_no_byte_is_refused(my, capsys, void, words):
    labelme(my / "photos", shapes=[("cat", CAT)])
    said = run(capsys, my / "photos", "--set", listed(my, f"void: {void}", "background", "cat"), status=2)
    assert f"'void' is {void}; labels written here have it {words}" in said


def test_where_nothing_was_drawn_at_all_it_is_said(my, capsys):
    labelme(my / "photos", shapes=[])
    said = run(capsys, my / "photos", "--set", my / "set.txt", status=2)
    assert "nothing was drawn: no picture has a shape" in said


def test_pictures_that_are_drawn_on_all_over_leave_no_background(my, capsys):
    labelme(my / "photos", shapes=[("cat", [[0, 0], [W, H]], "rectangle")])
    assert "give --rest void" in run(capsys, my / "photos", "--set", my / "set.txt", status=2)
    said = run(capsys, my / "photos", "--set", my / "set.txt", "--rest", "void")
    assert facts(str(my / "set.txt")).names == ("cat",) and not label(my / "labels" / "a.png").any()
    assert "cut off" not in said and "cat          0       1   100.000" in said


def test_labels_of_turned_photographs_may_be_drawn_as_stored(my, capsys):
    labelme(my / "photos", image=False)
    photo(my / "photos" / "a.jpg", turn=6)
    assert "EXIF" not in run(capsys, my / "photos", "--set", my / "set.txt")
    assert label(my / "labels" / "a.png")[4, 4] == 1


def test_small_masks_are_cut_off_at_every_border():
    mask = np.arange(12).reshape(3, 4) % 5 > 0
    for left, top in ((-1, -2), (W - 2, H - 1), (0, 0), (-4, 0), (0, H)):
        want = np.pad(np.zeros((H, W), bool), 9)
        want[9 + top : 12 + top, 9 + left : 13 + left] = mask
        assert (placed(mask, left, top, (W, H)) == want[9:-9, 9:-9]).all()


@pytest.mark.parametrize("shape", [(H + 1, 2), (2, W + 1)])
def test_bitmaps_larger_than_their_picture_one_way_are_refused(shape):
    with pytest.raises(Error, match="larger than its picture"):
        bitmap(base64.b64encode(png(np.ones(shape, bool))).decode(), (W, H), "x")
    assert bitmap(base64.b64encode(png(np.ones((H, W), bool))).decode(), (W, H), "x").all()
    with pytest.raises(Error, match="x: the bitmap cannot be read"):
        bitmap("AAAA", (W, H), "x")
