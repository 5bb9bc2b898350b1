"""The source of images with boxes: what a batch holds, in which order images come, what is refused."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from netspec.base.errors import Error
from netspec.data.detection import DetectionData
from netspec.ops.base import Context
from netspec.proto.caffe_pb2 import TEST, TRAIN, LayerParameter

SHARED = Path(__file__).resolve().parents[4] / "shared"
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


def source(root, phase=TRAIN, **options):
    layer = LayerParameter(name="data", type="Python", top=["data", "im_info", "gt_boxes"])
    layer.python_param.module, layer.python_param.layer = "netspec.datasets", "DetectionData"
    layer.python_param.param_str = str(dict(dataset="voc", root=str(root), split="train", classes=["cat", "dog"],
                                            scale=40, max_size=60) | options)
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


def test_an_odd_number_of_images_is_read_whole(tmp_path):
    write(tmp_path, SIZES)
    made = source(tmp_path, flips=False)
    assert sorted(made.index(i)[0] for i in range(7)) == list(range(7))


@pytest.mark.parametrize("options, told", [
    ({"scale": 0}, "'scale' takes"), ({"max_size": 0.5}, "'max_size'"), ({"flip": True}, "did you mean 'flips'"),
    ({"batch_size": 2}, "'batch_size' is 1"), ({"mean": [1.0]}, "3 numbers"), ({"split": "val"}, "no list"),
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
    write(tmp_path, [(30, 20)], {"00": item(0, 2, 40, 11)})
    assert source(tmp_path, flips=False).load(0)[2].tolist() == [[0, 2, 58, 20, 1]]
    write(tmp_path, [(30, 20)], {"00": "<size><width>20</width><height>30</height></size>" + item(1, 1, 9, 9)})
    with pytest.raises(Error, match=r"00.jpg is 30x20, and by .*00.xml 20x30"):
        source(tmp_path).load(0)
    (tmp_path / "Annotations/00.xml").unlink()
    with pytest.raises(Error, match=r"box file .*00\.xml is not there"):
        source(tmp_path, TEST).check_files()


@pytest.mark.skipif(not (SHARED / "golden/targets").is_dir(), reason="needs the shared reference results")
def test_images_are_scaled_as_by_the_release():
    from netspec.data.images import scaled

    for path in sorted((SHARED / "golden/targets").glob("image_scale_*.npz")):
        case = np.load(path)
        config = json.loads(str(case["config"]))
        for side, factor, wanted in zip(case["in:h_w"], case["out:scale"], case["out:h_w"], strict=True):
            made, found = scaled(np.zeros((*side, 1), np.float32), config["target"], config["max_size"])
            assert found == factor and made.shape[1:] == tuple(wanted)
