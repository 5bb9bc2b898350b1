"""The reader of segmentation data sets, on small trees of the right layout made here."""

import os
import random
import shutil
import signal

import numpy as np
import pytest
from PIL import Image

from netspec.base.errors import Error
from netspec.data import layouts
from netspec.data.feed import Feed
from netspec.data.images import check_labels, read_image, read_label
from netspec.data.layouts import LAYOUTS, Images, Labels, facts
from netspec.data.segmentation import SegmentationData
from netspec.ops.base import Context
from netspec.proto import caffe_pb2

SIZES = [(20, 12), (13, 17), (20, 12), (8, 9), (20, 12)]  # width, height


def source(base=None, top=("data", "label"), **options):
    layer = caffe_pb2.LayerParameter(name="data", type="Python", top=top)
    layer.python_param.param_str = str(options)
    return SegmentationData(layer, (), Context(base=base))


def picture(size, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)


def voc(root, sizes=SIZES, split="train"):
    """A tree in VOC's layout whose images are exact (PNG content under the .jpg names)."""
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    names = [f"2007_{i:06d}" for i in range(len(sizes))]
    for i, (name, size) in enumerate(zip(names, sizes, strict=True)):
        pixels = picture(size, i)
        Image.fromarray(pixels).save(root / f"JPEGImages/{name}.jpg", format="PNG")
        label = Image.fromarray((pixels[..., 0] % 21).astype(np.uint8))
        label.putpalette(facts("voc").palette.tobytes())
        label.save(root / f"SegmentationClass/{name}.png")
    (root / f"ImageSets/Segmentation/{split}.txt").write_text("".join(f"{n}\n" for n in names))
    return root


def expected(root, index, mean=(104.00699, 116.66877, 122.67892)):
    pixels = picture(SIZES[index], index)
    data = pixels[:, :, ::-1].astype(np.float32) - np.array(mean, np.float32)
    return data.transpose(2, 0, 1)[None], (pixels[..., 0] % 21)[None, None]


# What is read


def test_capitals_of_endings_do_not_count(tmp_path):
    root = voc(tmp_path)
    for path in (*root.glob("JPEGImages/*0.jpg"), *root.glob("SegmentationClass/*0.png")):
        path.rename(path.with_suffix(path.suffix.upper()))
    made = source(dataset="voc", root=str(root), split="train", randomize=False)
    assert [path.suffix for path in made.paths(0)] == [".JPG", ".PNG"]
    for found, wanted in zip(made.load(0), expected(root, 0), strict=True):
        assert np.allclose(found, wanted, atol=1e-3)


def test_images_are_bgr_less_the_mean_at_their_own_size(tmp_path):
    data = source(dataset="voc", root=str(voc(tmp_path)), split="train", randomize=False)
    assert len(data) == 5
    for position in (0, 1, 3, 8, 1):
        image, label = data.load(position)
        want = expected(tmp_path, position % 5)
        assert image.dtype == label.dtype == np.float32
        assert np.array_equal(image, want[0]) and np.array_equal(label, want[1])
    assert data.shapes() == [(1, 3, 12, 20), (1, 1, 12, 20)] == data.infer()


def test_images_alone_or_labels_alone(tmp_path):
    both = source(dataset="voc", root=str(voc(tmp_path)), split="train", randomize=False, batch_size=2).load(0)
    for i, top in enumerate(("data", "label")):
        alone = source(top=[top], dataset="voc", root=str(tmp_path), split="train", randomize=False, batch_size=2, tops=[top])
        (blob,) = alone.load(0)
        assert np.array_equal(blob, both[i]) and alone.shapes() == [blob.shape]


def test_mean_can_be_given(tmp_path):
    data = source(dataset="voc", root=str(voc(tmp_path)), split="train", randomize=False, mean=(1, 2, 3.5))
    assert np.array_equal(data.load(0)[0], expected(tmp_path, 0, (1, 2, 3.5))[0])


def test_batches(tmp_path):
    root = str(voc(tmp_path, [(6, 5)] * 5))
    data = source(dataset="voc", root=root, split="train", randomize=False, batch_size=3)
    image, label = data.load(1)
    assert image.shape == (3, 3, 5, 6) and label.shape == (3, 1, 5, 6)
    one = source(dataset="voc", root=root, split="train", randomize=False)
    for i in range(3):
        assert np.array_equal(image[i], one.load((3 + i) % 5)[0][0])
    assert data.image_names(1) == ["2007_000003", "2007_000004", "2007_000000"]
    assert data.image_names(1)[0] == "2007_000003"


def test_a_batch_of_different_sizes_is_padded_with_the_mean_and_void(tmp_path):
    data = source(dataset="voc", root=str(voc(tmp_path)), split="train", randomize=False, batch_size=4)
    image, label = data.load(0)
    assert image.shape == (4, 3, 17, 20) and label.shape == (4, 1, 17, 20)
    assert data.shapes() == [image.shape, label.shape]
    for i, (width, height) in enumerate(SIZES[:4]):
        want = expected(tmp_path, i)
        assert np.array_equal(image[i, :, :height, :width], want[0][0])
        assert np.array_equal(label[i, :, :height, :width], want[1][0])
        outside = np.ones((17, 20), bool)
        outside[:height, :width] = False
        assert (image[i, :, outside] == 0).all() and (label[i, :, outside] == 255).all()


def test_a_batch_that_goes_round_the_list_reads_each_image_once(tmp_path, monkeypatch):
    """A doctor would look at a batch of 65,536 of five images for a minute."""
    layer, read = source(dataset="voc", root=str(voc(tmp_path, SIZES[:1] * 5)), split="train", batch_size=12, randomize=False), []
    monkeypatch.setattr(layer, "read", lambda index, zoom, read_one=layer.read: read.append(index) or read_one(index, zoom))
    data, label = layer.load(0)
    assert read == [0, 1, 2, 3, 4]
    for item in range(12):
        again = source(dataset="voc", root=str(tmp_path), split="train", randomize=False).load(item)
        assert np.array_equal(data[item], again[0][0]) and np.array_equal(label[item], again[1][0])


def test_scale(tmp_path):
    data = source(dataset="voc", root=str(voc(tmp_path)), split="train", randomize=False, resize=0.5)
    assert data.shapes() == [(1, 3, 6, 10), (1, 1, 6, 10)]
    image, label = data.load(0)
    pixels = picture(SIZES[0], 0)
    assert image.shape == (1, 3, 6, 10)
    assert abs(image[0, 2].mean() + 122.67892 - pixels[..., 0].mean()) < 3  # smoothed, not picked
    assert np.abs(np.diff(image)).mean() < np.abs(np.diff(expected(tmp_path, 0)[0])).mean()
    assert np.isin(label, pixels[..., 0] % 21).all() and label.shape == (1, 1, 6, 10)


def test_mirror_follows_from_seed_and_item(tmp_path):
    root = str(voc(tmp_path, [(6, 5)]))
    plain = source(dataset="voc", root=root, split="train").load(0)
    mirrored = source(dataset="voc", root=root, split="train", mirror=True)
    again = source(dataset="voc", root=root, split="train", mirror=True, batch_size=4).load(2)
    turned = []
    for position in range(40):
        image, label = mirrored.load(position)
        turned.append(not np.array_equal(image, plain[0]))
        step = -1 if turned[-1] else 1
        assert np.array_equal(image[..., ::step], plain[0]) and np.array_equal(label[..., ::step], plain[1])
    assert 10 < sum(turned) < 30
    for i in range(4):
        assert np.array_equal(again[0][i], mirrored.load(8 + i)[0][0])


def test_camvid_layout(tmp_path):
    for folder in ("val", "valannot"):
        (tmp_path / folder).mkdir()
    Image.fromarray(picture((6, 4))).save(tmp_path / "val/a.b_1.png")
    Image.fromarray(np.full((4, 6), 11, np.uint8)).save(tmp_path / "valannot/a.b_1.png")
    for line in ("a.b_1\n", "/SegNet/CamVid/val/a.b_1.png /SegNet/CamVid/valannot/a.b_1.png\r\n\n"):
        (tmp_path / "val.txt").write_text(line)
        data = source(dataset="camvid", root=str(tmp_path), split="val")
        image, label = data.load(5)
        assert data.image_names(0)[0] == "a.b_1" and not data.randomize
        assert (label == 11).all() and image.shape == (1, 3, 4, 6)
    assert data.facts.void == 11


# Order


def test_random_order_is_pythons_own(tmp_path):
    data = source(dataset="voc", root=str(voc(tmp_path)), split="train", seed=42)
    random.seed(42)
    draws = [random.randint(0, 4) for _ in range(200)]
    assert [data.index(199), *(data.index(k) for k in range(199))] == [draws[199], *draws[:199]]
    assert [data.image_names(k)[0] for k in (7, 3)] == [f"2007_{draws[k]:06d}" for k in (7, 3)]
    pairs = source(dataset="voc", root=str(tmp_path), split="train", seed=42, batch_size=2)
    assert pairs.image_names(9) == [f"2007_{k:06d}" for k in draws[18:20]]


def test_order_is_random_for_training_splits_only_unless_told(tmp_path):
    voc(tmp_path)
    voc(tmp_path, split="seg11valid")
    root = str(tmp_path)
    assert source(dataset="voc", root=root, split="train").randomize
    data = source(dataset="voc", root=root, split="seg11valid")
    assert not data.randomize and [data.index(k) for k in (0, 4, 5, 11)] == [0, 4, 0, 1]
    assert source(dataset="voc", root=root, split="seg11valid", randomize=True).randomize


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_a_resumed_feed_sees_what_it_would_have_seen(tmp_path, workers):
    data = source(dataset="voc", root=str(voc(tmp_path)), split="train", mirror=True)
    whole = [data.load(k) for k in range(20)]
    other = source(dataset="voc", root=str(tmp_path), split="train", mirror=True)
    feed = Feed(other, 6, workers)
    for position in range(6, 20):
        for tensor, array in zip(next(feed), whole[position], strict=True):
            assert np.array_equal(tensor.numpy(), array)
    assert feed.position == 20
    feed.close()


def test_a_reader_process_that_is_killed_is_one_sentence(tmp_path):
    feed = Feed(source(dataset="voc", root=str(voc(tmp_path)), split="train"), 0, 1)
    next(feed)
    os.kill(feed._batches._workers[0].pid, signal.SIGKILL)
    with pytest.raises(Error, match=r"layer 'data' \(Python\): a process that loads its data died \(SIGKILL\)"):
        for _ in range(50):
            next(feed)


# Kinds of files


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
def test_images_of_other_kinds_become_rgb(tmp_path, mode):
    original = Image.fromarray(picture((7, 5)))
    image = original.convert("RGBA").convert(mode) if mode == "LA" else original.convert(mode)
    suffix = {"CMYK": "tiff", "YCbCr": "tiff"}.get(mode, "png")
    image.save(tmp_path / f"x.{suffix}")
    read = read_image(tmp_path / f"x.{suffix}")
    assert read.shape == (5, 7, 3) and read.dtype == np.uint8
    assert np.array_equal(read, np.asarray(Image.open(tmp_path / f"x.{suffix}").convert("RGB")))


def test_sixteen_bits_would_be_clipped_and_are_refused(tmp_path):
    Image.fromarray(np.full((4, 4), 40000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(Error, match="deep.png has pixels of kind I.*8 bits"):
        read_image(tmp_path / "deep.png")
    assert (read_label(tmp_path / "deep.png") == 40000).all()  # as label: indices may be that large


def test_labels_in_colours_are_recognised(tmp_path):
    data = source(dataset="voc", root=str(voc(tmp_path)), split="train", randomize=False)
    path = tmp_path / "SegmentationClass/2007_000000.png"
    Image.open(path).convert("RGB").save(path)
    with pytest.raises(Error, match=r"label .*2007_000000.png is in colours \(RGB\); expected one channel"):
        data.load(0)


def test_image_and_label_of_different_size_name_both(tmp_path):
    data = source(dataset="voc", root=str(voc(tmp_path)), split="train", randomize=False)
    shutil.copy(tmp_path / "SegmentationClass/2007_000001.png", tmp_path / "SegmentationClass/2007_000000.png")
    with pytest.raises(Error, match="2007_000000.jpg is 20x12 and its label .*2007_000000.png is 13x17"):
        data.load(0)


@pytest.mark.parametrize("workers", [0, 1])
def test_damaged_and_missing_files_are_named(tmp_path, workers):
    data = source(dataset="voc", root=str(voc(tmp_path, [(6, 5)] * 6)), split="train", randomize=False)
    image = tmp_path / "JPEGImages"
    Image.fromarray(picture((64, 64))).save(image / "2007_000001.jpg", format="JPEG")
    whole = (image / "2007_000001.jpg").read_bytes()
    (image / "2007_000001.jpg").write_bytes(whole[: len(whole) // 2])
    (image / "2007_000002.jpg").write_bytes(b"<html>404</html>")
    (image / "2007_000003.jpg").unlink()
    (tmp_path / "SegmentationClass/2007_000004.png").write_bytes(b"")
    feed = Feed(data, 0, workers)
    next(feed)
    for i, (folder, words) in enumerate([("JPEG", "cannot be read"), ("JPEG", "no image"), ("JPEG", "not there"),
                                         ("Seg", "is empty")], 1):
        with pytest.raises(Error, match=f"{folder}.*2007_00000{i}.*{words}") as caught:
            next(feed)
        assert "\n" not in str(caught.value)
    next(feed)
    feed.close()


@pytest.mark.filterwarnings("ignore")  # Pillow's, of what it can read past
def test_no_damage_escapes_as_a_traceback(tmp_path):
    """Every damaged image is read or refused by Error, whatever Pillow makes of it."""
    rng = np.random.default_rng(0)
    refused = 0
    for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF"):
        path = tmp_path / kind
        Image.fromarray(picture((24, 24))).save(path, format=kind)
        whole = path.read_bytes()
        for _ in range(60):
            damaged = bytearray(whole[: rng.integers(1, len(whole) + 1)])
            for at in rng.integers(0, len(damaged), 3):
                damaged[at] = rng.integers(256)
            path.write_bytes(damaged)
            for read in (read_image, read_label):
                try:
                    read(path)
                except Error as error:
                    assert kind in str(error)
                    refused += 1
    assert refused > 100


# Mistakes


def test_a_missing_root_says_where_it_was_sought_and_how_to_get_it(tmp_path, monkeypatch):
    (tmp_path / "a" / "models").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Error) as caught:
        source(tmp_path / "a" / "models", dataset="camvid", split="train", root="data/nowhere")
    text = str(caught.value)
    for place in (tmp_path, tmp_path / "a" / "models", tmp_path / "a"):
        assert f"{place}/data/nowhere" in text
    assert "layer 'data' (Python)" in text and "data/camvid/README.md says how to get it" in text


def test_the_root_is_found_from_the_nets_folder(tmp_path):
    voc(tmp_path / LAYOUTS["voc"].root)
    (tmp_path / "models" / "net").mkdir(parents=True)
    assert len(source(tmp_path / "models" / "net", dataset="voc", split="train")) == 5


@pytest.mark.parametrize(("options", "message"), [
    (dict(dataset="vco", split="train"), "data set 'vco' is not known; did you mean 'voc'"),
    (dict(dataset="voc", split="trian"), "split 'trian' has no list .*did you mean 'train'.*there are: train"),
    (dict(dataset="voc", split="../../../etc/passwd"), "leaves the folder"),
    (dict(dataset="voc"), "needs 'split'"),
    (dict(split="train"), "needs 'dataset'"),
    (dict(dataset="voc", split="train", voc_dir="x"), "no key 'voc_dir'"),
    (dict(dataset="voc", split="train", means=(1, 2, 3)), "no key 'means'; did you mean 'mean'"),
    (dict(dataset="voc", split="train", mean=(1, 2)), "'mean' takes 3 numbers, BGR"),
    (dict(dataset="voc", split="train", batch_size=0), "'batch_size' takes a whole number from 1, found 0"),
    (dict(dataset="voc", split="train", resize=0), "'resize' takes"),
    (dict(dataset="voc", split="train", resize=8.5), "'resize' takes a number above 0, at most 8, found 8.5"),
    (dict(dataset="voc", split="train", zoom=(1, 8.5)), r"'zoom' takes \[least, most\], above 0, at most 8, .*, found \(1, 8.5\)"),
    (dict(dataset="voc", split="train", zoom=(0, 1)), "'zoom' takes"),
    (dict(dataset="voc", split="train", zoom=(2, 1)), "'zoom' takes"),
    (dict(dataset="voc", split="train", seed=-1), "'seed' takes"),
    (dict(dataset="voc", split="train", mirror=1), "'mirror' takes True or False"),
])
def test_mistakes_in_param_str_are_named(tmp_path, options, message):
    voc(tmp_path)
    with pytest.raises(Error, match=message):
        source(**{"root": str(tmp_path), **options})


def test_a_key_twice_in_param_str_is_named(tmp_path):
    layer = caffe_pb2.LayerParameter(name="data", type="Python", top=["data", "label"])
    layer.python_param.param_str = "{'dataset': 'voc', 'split': 'train', 'split': 'val'}"
    with pytest.raises(Error, match=r"layer 'data' \(Python\): param_str gives 'split' twice, 'train' and 'val'; leave one out"):
        SegmentationData(layer, (), Context(base=tmp_path))


def test_resize_and_zoom_are_taken_up_to_8(tmp_path):
    voc(tmp_path, [(3, 2)])
    assert source(dataset="voc", split="train", root=str(tmp_path), resize=8).shapes()[0] == (1, 3, 16, 24)
    assert source(dataset="voc", split="train", root=str(tmp_path), zoom=(8, 8)).load(0)[1].shape == (1, 1, 16, 24)


def test_names_that_leave_the_folder_are_refused(tmp_path):
    voc(tmp_path / "set")
    Image.new("RGB", (4, 4)).save(tmp_path / "secret.jpg")
    (tmp_path / "set/ImageSets/Segmentation/train.txt").write_text("../../secret\n")
    with pytest.raises(Error, match="leaves the folder"):
        source(dataset="voc", root=str(tmp_path / "set"), split="train").load(0)


def test_an_empty_list_is_refused(tmp_path):
    voc(tmp_path, [])
    with pytest.raises(Error, match="train.txt is empty"):
        source(dataset="voc", root=str(tmp_path), split="train")


# Facts


def voc_colour(index):
    """VOC's colour map: the bits of the index, three at a time, become the high bits of red, green, blue."""
    return [sum((index >> (3 * i + c) & 1) << (7 - i) for i in range(8)) for c in range(3)]


def test_facts_of_the_data_sets():
    assert facts("voc").palette.tolist() == [voc_colour(i) for i in range(21)]
    assert facts("voc").names[::5] == ("background", "bottle", "cow", "person", "tvmonitor")
    assert {name: len(facts(name).names) for name in LAYOUTS} == {
        "voc": 21, "sbd": 21, "shapes": 5, "camvid": 11, "nyud": 40, "siftflow": 33, "pascalcontext": 60, "38cloud": 2, "clouds": 2, "95cloud": 2}
    for name, layout in LAYOUTS.items():
        for top, kind in layout.tops.items():
            if isinstance(kind, Labels):
                found = facts(name, top)
                assert len(set(map(tuple, found.palette.tolist()))) == len(found.names) == len(set(found.names))
                assert found.void not in range(len(found.names)) and found.mean == layout.first(Images).mean
    with pytest.raises(Error, match="did you mean 'camvid'"):
        facts("camvld")


def test_a_broken_class_list_is_named(tmp_path, monkeypatch):
    (tmp_path / "classes.txt").write_text("shower curtain 1 2 3\nsofa 1 2 300\n")
    monkeypatch.setattr(layouts, "facts_folder", lambda layout: tmp_path)
    with pytest.raises(Error, match="classes.txt:2: expected a name and three numbers"):
        facts("voc")
    (tmp_path / "classes.txt").write_text("shower curtain 1 2 3\n")
    assert facts("voc").names == ("shower curtain",)


def test_check_labels():
    assert check_labels(np.array([0, 4, 255.0]), 5) is None
    assert check_labels(np.array([0, 4]), 5, None) is None
    assert check_labels(np.array([0, 11, 10]), 11, 11) is None
    text = check_labels(np.array([[0, 5, 5], [-1, 2.5, 255]], np.float32), 5)
    assert text.startswith("4 of 6 label values") and "5 (2 times)" in text and "-1 (1 times)" in text
    assert "2.5 (1" in text and "0 to 4 and are not 255" in text
    assert "255 (1 times)" in check_labels(np.array([255]), 5, None)
    assert check_labels(np.arange(256), 21).endswith(", ...")
    assert "nan" in check_labels(np.array([np.nan, 1]), 5)
