"""The source of images with boxes: what a batch holds, in which order images come, what is refused."""

import io
import json
import pickle
import zipfile

import numpy as np
import pytest
from PIL import Image

from netspec.base.errors import Error
from netspec.data import proposals
from netspec.data.detection import DetectionData
from netspec.data.feed import Feed
from netspec.data.opencv import scaled
from netspec.data.proposals import Proposals
from netspec.net.build import standing
from netspec.ops.base import REGISTRY, Context
from netspec.proto.caffe_pb2 import TEST, TRAIN, LayerParameter, NetParameter
from netspec.proto.text import parse

MEAN = np.array([102.9801, 115.9465, 122.7717], np.float32)


def write(root, sizes, boxes=None):
    """Images of these sizes in VOC's layout, each with a box from its corner, or those of `boxes`: name -> XML."""
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    names = [f"{i:02d}" for i in range(len(sizes))]
    for name, (width, height) in zip(names, sizes, strict=True):
        pixels = np.random.default_rng(int(name)).integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(pixels).save(root / f"JPEGImages/{name}.jpg", quality=95)
        objects = (boxes or {}).get(name, item(1, 1, int(name) + 5, 8))
        (root / f"Annotations/{name}.xml").write_text(f"<annotation>{objects}</annotation>")
    (root / "ImageSets/Main/train.txt").write_text("\n".join(names))


def item(x1, y1, x2, y2, name="cat", rest=""):
    return (f"<object><name>{name}</name>{rest}<bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax>"
            f"<ymax>{y2}</ymax></bndbox></object>")


def source(root, phase=TRAIN, tops=("data", "im_info", "gt_boxes"), text="",
           named=("netspec.datasets", "DetectionData"), **options):
    layer = LayerParameter(name="data", type="Python", top=tops)
    layer.python_param.module, layer.python_param.layer = named
    given = dict(dataset="voc", root=str(root), split="train", classes=["cat", "dog"], scale=40, max_size=60)
    layer.python_param.param_str = text or str(given | options)
    return DetectionData(layer, (), Context(phase))


def test_a_batch(tmp_path):
    write(tmp_path, [(30, 20)], {"00": item(3, 2, 30, 11) + item(1, 1, 4, 4, "dog")})
    data, info, boxes = source(tmp_path, TEST).load(0)
    assert data.shape == (1, 3, 40, 60) and {a.dtype for a in (data, info, boxes)} == {np.dtype("float32")}
    assert info.tolist() == [[40, 60, 2]]
    assert boxes.tolist() == [[4, 2, 58, 20, 1], [0, 0, 6, 6, 2]]
    pixels = np.asarray(Image.open(tmp_path / "JPEGImages/00.jpg")).astype(np.float32)[:, :, ::-1] - MEAN
    assert np.allclose(data[0, :, 0, 0], pixels[0, 0]) and np.allclose(data[0, :, -1, -1], pixels[-1, -1])
    mixed = pixels[:2, :2].transpose(2, 0, 1).reshape(3, 4) @ np.array([9, 3, 3, 1], np.float32) / 16
    assert np.allclose(data[0, :, 1, 1], mixed, atol=1e-4)


def test_sides_are_rounded_to_the_even_number_as_by_the_release():
    """OpenCV's sizes of images that are 600 on the shorter side, at most 1000 on the longer one."""
    for side, wanted, factor in (((375, 500), (600, 800), 1.6), ((500, 375), (800, 600), 1.6),
                                 ((300, 501), (599, 1000), 1000 / 501), ((300, 500), (600, 1000), 2.0),
                                 ((201, 1600), (126, 1000), 0.625), ((4, 1000), (4, 1000), 1.0)):
        made, found = scaled(np.zeros((*side, 1), np.float32), 600, 1000)
        assert (made.shape[1:], found) == (wanted, factor)


def test_mirrored_boxes_lie_on_the_mirrored_image(tmp_path):
    write(tmp_path, [(30, 20)], {"00": item(3, 2, 10, 11)})
    made = source(tmp_path)
    places = [made.index(item) for item in range(2)]
    assert sorted(places) == [(0, False), (0, True)]
    plain, mirrored = (made.load(places.index((0, flip))) for flip in (False, True))
    assert np.allclose(plain[0][..., ::-1], mirrored[0], atol=1e-3)
    assert plain[2].tolist() == [[4, 2, 18, 20, 1]] and mirrored[2].tolist() == [[40, 2, 54, 20, 1]]


def test_scale_is_bounded_by_the_longer_side(tmp_path):
    write(tmp_path, [(90, 20)])
    assert source(tmp_path).load(0)[1].tolist() == [[13, 60, np.float32(60 / 90)]]


def test_difficult_boxes_are_not_learned_unless_asked_for(tmp_path):
    hard = item(2, 2, 9, 9, rest="<difficult>1</difficult>")
    write(tmp_path, [(30, 20)], {"00": item(3, 2, 10, 11) + hard})
    assert len(source(tmp_path).load(0)[2]) == 1
    assert len(source(tmp_path, difficult=True).load(0)[2]) == 2


def test_images_without_boxes_are_left_out_of_training_and_told(tmp_path):
    write(tmp_path, [(30, 20)] * 4, {"01": "", "03": item(2, 2, 9, 9, rest="<difficult>1</difficult>")})
    made = source(tmp_path)
    assert {made.index(i)[0] for i in range(50)} == {0, 2}
    told, = made.remarks()
    assert "2 of 4 images of 'train'" in told
    tested = source(tmp_path, TEST)
    assert [tested.index(i) for i in range(5)] == [(0, False), (1, False), (2, False), (3, False), (0, False)]
    assert tested.load(1)[2].shape == (0, 5) and tested.remarks() == []
    write(tmp_path, [(30, 20)], {"00": ""})
    with pytest.raises(Error, match="none of the 1 images of 'train' has a box"):
        source(tmp_path).load(0)


SIZES = [(30, 20), (20, 30), (20, 20), (20, 30), (30, 20), (20, 30), (30, 20)]


def test_order_follows_from_seed_and_position(tmp_path):
    write(tmp_path, SIZES)
    made, again = source(tmp_path), source(tmp_path)
    order = [made.index(i) for i in range(42)]
    assert [again.index(i) for i in reversed(range(42))] == order[::-1]
    assert [pickle.loads(pickle.dumps(made)).index(i) for i in range(42)] == order
    every = sorted((i, flip) for i in range(7) for flip in (False, True))
    epochs = [order[:14], order[14:28], order[28:]]
    assert all(sorted(epoch) == every for epoch in epochs) and epochs[0] != epochs[1] != epochs[2]
    wide = [SIZES[index][0] >= SIZES[index][1] for index, _ in order]
    assert wide[::2] == wide[1::2]
    assert [source(tmp_path, seed=4).index(i) for i in range(42)] != order
    assert not any(flip for _, flip in (source(tmp_path, flips=False).index(i) for i in range(42)))


def test_the_first_epoch_has_the_release_s_order(tmp_path):
    """Wide and tall ones are drawn by turns of numpy's generator, then their pairs."""
    write(tmp_path, SIZES)
    random = np.random.RandomState(3)
    wide = np.array([w >= h for w, h in SIZES] * 2)
    drawn = np.concatenate([random.permutation(np.where(kind)[0]) for kind in (wide, ~wide)])
    rows = drawn.reshape(7, 2)[random.permutation(np.arange(7))].ravel()
    assert [made[0] + 7 * made[1] for made in map(source(tmp_path).index, range(14))] == rows.tolist()
    random = np.random.RandomState(3)
    plain = source(tmp_path, aspect_grouping=False)
    assert [made[0] + 7 * made[1] for made in map(plain.index, range(14))] == random.permutation(14).tolist()


def test_workers_load_what_one_process_does(tmp_path):
    write(tmp_path, SIZES)
    alone, helped = (Feed(with_proposals(tmp_path), 3, workers) for workers in (0, 2))
    try:
        for _ in range(12):
            for a, b in zip(next(alone), next(helped), strict=True):
                assert a.equal(b)
    finally:
        helped.close()


def test_an_odd_number_of_images_is_read_whole(tmp_path):
    write(tmp_path, SIZES)
    made = source(tmp_path, flips=False)
    assert sorted(made.index(i)[0] for i in range(7)) == list(range(7))


@pytest.mark.parametrize("options, told", [
    ({"scale": 0}, "'scale' takes"), ({"max_size": 0.5}, "'max_size'"), ({"flip": True}, "did you mean 'flips'"),
    ({"batch_size": 2}, "no key 'batch_size'"), ({"mean": [1.0]}, "3 numbers"), ({"split": "val"}, "no list"),
    ({"dataset": "coc"}, "'coc' is not known"), ({"list": "nowhere"}, "nowhere"),
])
def test_options_that_cannot_work(tmp_path, options, told):
    write(tmp_path, [(30, 20)])
    with pytest.raises(Error, match=told):
        source(tmp_path, **options)


def test_boxes_that_cannot_be_learned_are_refused(tmp_path):
    write(tmp_path, [(30, 20)], {"00": item(31, 2, 40, 11)})
    with pytest.raises(Error, match="the box 30 1 39 10 .* lies outside the image of 30x20"):
        source(tmp_path).load(0)
    write(tmp_path, [(30, 20)] * 20, {"17": item(1, 1, 4, 4) + item(31, 2, 40, 11)})
    for phase in (TRAIN, TEST):
        made = source(tmp_path, phase)
        assert made.shapes()[0] == (1, 3, 40, 60)
        with pytest.raises(Error, match="17.xml: the box 30 1 39 10 .* lies outside the image of 30x20"):
            made.check_files()
    write(tmp_path, [(30, 20)] * 20, {"17": item(31, 2, 40, 11, rest="<difficult>1</difficult>"), "18": item(5, 5, 1, 9)})
    with pytest.raises(Error, match="18.xml: box 1 of '18' .* is no box"):
        source(tmp_path, TEST).check_files()
    (tmp_path / "Annotations/18.xml").write_text("<annotation/>")
    source(tmp_path).check_files()
    write(tmp_path, [(30, 20)], {"00": item(0, 2, 40, 11)})
    assert source(tmp_path, flips=False).load(0)[2].tolist() == [[0, 2, 58, 20, 1]]
    write(tmp_path, [(30, 20)], {"00": "<size><width>20</width><height>30</height></size>" + item(1, 1, 9, 9)})
    with pytest.raises(Error, match=r"00.jpg is 30x20, and by .*00.xml 20x30"):
        source(tmp_path).load(0)
    (tmp_path / "Annotations/00.xml").unlink()
    with pytest.raises(Error, match=r"box file .*00\.xml is not there"):
        source(tmp_path, TEST).check_files()


def with_proposals(root, made=None, **options):
    """A source with rois, of a file that fits `made`: for image i boxes from (i, 0) to (9, 9) and (i, 1) to (9, 9)."""
    made = made or source(root)
    boxes = [np.array([[i, 0, 9, 9], [i, 1, 9, 9]], np.float32) for i in range(len(made))]
    proposals.write(root / "a.proposals", Proposals(made.mark, "w", made.names, boxes))
    return source(root, tops=("data", "im_info", "gt_boxes", "rois"), proposals=str(root / "a.proposals"), **options)


def test_regions_of_a_file(tmp_path):
    write(tmp_path, SIZES)
    made = with_proposals(tmp_path)
    for position in range(14):
        data, info, boxes, rois = made.load(position)
        index, flipped = made.index(position)
        plain, scale = np.array([[index, 0, 9, 9], [index, 1, 9, 9]]), info[0, 2]
        width = SIZES[index][0]
        wanted = np.array([[width - 1 - b[2], b[1], width - 1 - b[0], b[3]] for b in plain]) if flipped else plain
        assert rois.shape == (2, 5) and not rois[:, 0].any() and np.allclose(rois[:, 1:], wanted * scale)
        assert len(boxes) == 1 and data.shape[2:] == tuple(info[0, :2])


def test_proposals_of_another_data_set_are_refused(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    write(one, SIZES)
    write(other, SIZES, {"03": item(2, 2, 9, 9)})  # the same names and sizes
    with pytest.raises(Error, match=r"a.proposals are of another data set"):
        with_proposals(one, source(other))
    (one / "a.proposals").write_bytes(b"PK no")
    with pytest.raises(Error, match="is no file of proposals"):
        source(one, tops=("data", "im_info", "gt_boxes", "rois"), proposals=str(one / "a.proposals"))
    with pytest.raises(Error, match="the file of proposals 'nowhere' is not there"):
        source(one, tops=("data", "im_info", "gt_boxes", "rois"), proposals="nowhere")
    with pytest.raises(Error, match="needs 'proposals'"):
        source(one, tops=("data", "im_info", "gt_boxes", "rois"))


FOUR = ("data", "im_info", "gt_boxes", "rois")


@pytest.mark.parametrize("change, words", [
    (dict(counts=np.full(7, 2.0)), "do not fit together"), (dict(counts=np.array([4, -2, 2, 2, 2, 2, 4])), "do not fit"),
    (dict(boxes=np.full((14, 4), 1e300)), "boxes that are none"), (dict(boxes=np.full((14, 4), "1")), "do not fit together"),
    (dict(boxes=np.zeros((14, 4), complex)), "do not fit together"), (dict(counts=np.full(7, None)), "no file of proposals"),
    (dict(names=np.array(list("abcdefg"))), "are of another data set"),
    (dict(names=np.array(["00"]), counts=np.array([14])), "are of another data set")])
def test_damaged_proposals_are_refused(tmp_path, change, words):
    write(tmp_path, SIZES)
    with_proposals(tmp_path)
    with np.load(tmp_path / "a.proposals") as file:
        held = dict(file) | change
    with open(tmp_path / "a.proposals", "wb") as file:
        np.savez(file, **held)
    with pytest.raises(Error, match=words):
        source(tmp_path, tops=FOUR, proposals=str(tmp_path / "a.proposals"))


def test_proposals_that_claim_more_than_memory_holds_are_refused(tmp_path):
    write(tmp_path, SIZES)
    with_proposals(tmp_path)
    path = tmp_path / "a.proposals"
    with zipfile.ZipFile(path) as file:
        held = {name: file.read(name) for name in file.namelist()}
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (10**13, 4)})
    with zipfile.ZipFile(path, "w") as file:
        for name, content in (held | {"boxes.npy": header.getvalue()}).items():
            file.writestr(name, content)
    with pytest.raises(Error, match="is no file of proposals, or damaged: it declares float32"):
        source(tmp_path, tops=FOUR, proposals=str(path))


def test_settings_that_would_do_nothing_or_cannot_be_are_refused(tmp_path):
    write(tmp_path, SIZES)
    with pytest.raises(Error, match="has 3 tops and reads no 'proposals'"):
        source(tmp_path, proposals="nowhere")
    with pytest.raises(Error, match=r"'seed' takes a whole number from 0 to 2\^32 - 1, found 4294967296"):
        source(tmp_path, seed=1 << 32)


SIX = ("data", "rois", "labels", "bbox_targets", "bbox_inside_weights", "bbox_outside_weights")


def released(root, tops, text, **options):
    return source(root, tops=tops, text=text, named=("roi_data_layer.layer", "RoIDataLayer"), **options)


def test_the_release_s_layer_stands_for_this_one(tmp_path, monkeypatch):
    write(tmp_path / "data/voc/VOC2007", SIZES)
    lists = tmp_path / "data/voc/VOC2007/ImageSets/Main"
    lists.joinpath("trainval.txt").write_text(lists.joinpath("train.txt").read_text())
    monkeypatch.chdir(tmp_path)
    made = released(None, ("data", "im_info", "gt_boxes"), "'num_classes': 21")
    assert (made.scale, made.max_size, made.split, len(made.facts.names)) == (600, 1000, "trainval", 21)
    assert [made.index(i) for i in range(3)] == [source(tmp_path / "data/voc/VOC2007").index(i) for i in range(3)]
    with pytest.raises(Error, match="'num_classes' is 20, and data set 'voc' has 21"):
        released(None, ("data", "im_info", "gt_boxes"), "{'num_classes': 20, 'dataset': 'voc', 'split': 'train'}")
    with pytest.raises(Error, match="rpn.proposals"):
        released(None, SIX, "'num_classes': 21")


def test_six_tops_hold_what_proposals_are_to_learn(tmp_path):
    write(tmp_path, SIZES)
    with_proposals(tmp_path)
    made = source(tmp_path, tops=SIX, proposals=str(tmp_path / "a.proposals"), batch_size=-1, bg_thresh_lo=0)
    position = next(i for i in range(14) if made.index(i) == (4, False))
    data, rois, labels, targets, inside, outside = made.load(position)
    first = [truth for truth, label in zip(rois[:, 1:, 0, 0].tolist(), labels.ravel(), strict=True) if label]
    assert data.shape == (1, 3, 40, 60) and rois.shape == (3, 5, 1, 1) and labels.ravel().tolist() == [1, 0, 0]
    assert first == [[0, 0, 16, 14]]  # the box itself, in pixels of the scaled image
    assert [targets.shape, inside.shape, outside.shape] == [(3, 8, 1, 1)] * 3
    assert all(np.array_equal(a, b) for a, b in zip(made.load(position), made.load(position), strict=True))


def test_shapes_are_known_without_the_images():
    layer = LayerParameter(type="Python", top=["data", "im_info", "gt_boxes"])
    layer.python_param.module, layer.python_param.layer = "roi_data_layer.layer", "RoIDataLayer"
    layer.python_param.param_str = "'num_classes': 21"
    assert REGISTRY["Python"].stated(layer) == [(1, 3, 600, 1000), (1, 3), (1, 5)]
    layer.top[:] = SIX
    assert [shape[1] for shape in REGISTRY["Python"].stated(layer, (300, 400))] == [3, 5, 1, 8, 8, 8]
    assert DetectionData.stated(layer, (300, 400))[0] == (1, 3, 300, 400)
    for tops, columns in ((3, [3, 5, 1]), (5, [3, 5, 1, 8, 8])):  # Fast R-CNN's, with and without boxes to learn
        layer.top[:] = SIX[:tops]
        assert [shape[1] for shape in REGISTRY["Python"].stated(layer)] == columns
    layer.top[:] = SIX
    layer.name, layer.python_param.param_str = "d", "'num_classes': 21\n'seed': 1\n'seed': 2"
    for read in (lambda: REGISTRY["Python"].stated(layer), lambda: REGISTRY["Python"].within(layer, [])):
        with pytest.raises(Error, match=r"^layer 'd' \(Python\): param_str gives 'seed' twice, 1 and 2; leave one out$"):
            read()


def test_two_years_of_voc_in_one_split(tmp_path):
    names = {"VOC2007": "ab", "VOC2012": "cd"}
    for year, given in names.items():
        write(tmp_path / year, [(30, 20)] * 2)
        for old, new in zip(("00", "01"), given, strict=True):
            for path in tmp_path.glob(f"{year}/*/{old}.*"):
                path.rename(path.with_stem(new))
        (tmp_path / year / "ImageSets/Main/trainval.txt").write_text("\n".join(given))
    made = source(tmp_path / "VOC2007", split="07+12trainval", voc2012=str(tmp_path / "VOC2012"))
    assert made.names == ["a", "b", "c", "d"]
    assert [made.record(i).path.parts[-3:] for i in (1, 2)] == [("VOC2007", "JPEGImages", "b.jpg"),
                                                                ("VOC2012", "JPEGImages", "c.jpg")]


def test_coco_is_known(tmp_path):
    (tmp_path / "images/train2014").mkdir(parents=True)
    (tmp_path / "annotations").mkdir()
    Image.new("RGB", (30, 20)).save(tmp_path / "images/train2014/COCO_train2014_000000000009.jpg")
    told = {"categories": [{"id": 90, "name": "toothbrush"}, {"id": 10, "name": "traffic light"}],
            "images": [{"id": 9, "file_name": "COCO_train2014_000000000009.jpg", "width": 30, "height": 20}],
            "annotations": [{"id": i, "image_id": 9, "category_id": number, "bbox": [1, 2, 3, 4], "iscrowd": crowd}
                            for i, (number, crowd) in enumerate([(90, 0), (10, 0), (10, 1)])]}
    (tmp_path / "annotations/instances_train2014.json").write_text(json.dumps(told))
    made = released(tmp_path, ("data", "im_info", "gt_boxes"), str({"num_classes": 81, "dataset": "coco", "root": str(tmp_path),
                                                                  "split": "train2014", "flips": False, "scale": 20}))
    assert made.load(0)[2].tolist() == [[1, 2, 3, 5, 80], [1, 2, 3, 5, 10]]
    assert len(made.record(0).boxes) == 3


@pytest.mark.parametrize(("head", "columns"), [
    ('type: "InnerProduct" bottom: "data" inner_product_param { num_output: 84 }', 84),  # as Fast R-CNN has it
    ('type: "PSROIPooling" bottom: "data" bottom: "rois" psroi_pooling_param { output_dim: 84 group_size: 1 spatial_scale: 1 }',
     84),
    ('type: "InnerProduct" bottom: "data" inner_product_param { num_output: 8 }', 8)])
def test_transforms_are_for_each_class_where_the_net_makes_them_so(head, columns):
    tops = "data", "rois", "labels", "bbox_targets", "bbox_inside_weights", "bbox_outside_weights"
    text = f"""layer {{ name: "data" type: "Python" {" ".join(f'top: "{top}"' for top in tops)} python_param {{
        module: "roi_data_layer.layer" layer: "RoIDataLayer" param_str: "'num_classes': 21" }} }}
        layer {{ name: "bbox_pred" {head} top: "bbox_pred" }}"""
    layers = standing(parse(text, NetParameter), TRAIN)
    assert DetectionData.stated(layers[0])[3] == (300, columns, 1, 1)
