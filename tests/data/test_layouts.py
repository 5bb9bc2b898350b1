"""The data sets of the papers, and folders of one's own, on small trees of the right layout made here."""

import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from netspec.base.errors import Error
from netspec.data import images as pixels
from netspec.data import layouts
from netspec.data.layouts import ILSVRC, LAYOUTS, Images, Labels, facts
from netspec.data.patches import PATCH
from netspec.data.pictured import overlap
from netspec.data.resizing import shrunk
from netspec.data.segmentation import SegmentationData
from netspec.net.build import load
from netspec.ops.base import Context
from netspec.proto import caffe_pb2

PROJECT = Path(__file__).resolve().parents[2]
SHARED = PROJECT.parent / "shared"
RNG = np.random.default_rng(0)


def source(blobs=("data", "label"), base=None, python=("", ""), **options):
    layer = caffe_pb2.LayerParameter(name="data", type="Python", top=blobs)
    layer.python_param.module, layer.python_param.layer = python
    layer.python_param.param_str = str(options)
    return SegmentationData(layer, (), Context(base=base))


def file(path, array, kind="PNG", **mat):
    """Write an image exactly (PNG, whatever its name says), or a .mat."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".mat":
        savemat(path, mat)
    elif path.suffix == ".npy":
        np.save(path, array)
    else:
        Image.fromarray(array).save(path, format=kind)
    return array


def colour(path, size=(6, 8)):
    return file(path, RNG.integers(0, 256, (*size, 3), np.uint8))


def names(path, *listed):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name}\n" for name in listed))


def bgr(array, mean):
    return array[..., ::-1].transpose(2, 0, 1)[None].astype(np.float32) - np.array(mean, np.float32).reshape(1, -1, 1, 1)


def classes_of(shape, low, high, dtype=np.uint8):
    return RNG.integers(low, high + 1, shape).astype(dtype)


# VOC and SBD


def sbd(root, name, label, png=False):
    if png:
        file(root / f"cls/{name}.png", label)
    else:
        (root / "cls").mkdir(parents=True, exist_ok=True)
        record = np.zeros((1, 1), [("Boundaries", object), ("Segmentation", object), ("CategoriesPresent", object)])
        record[0, 0] = (np.zeros((20, 1)), label, np.zeros((3, 1)))
        savemat(root / f"cls/{name}.mat", {"GTcls": record})
    return colour(root / f"img/{name}.jpg")


@pytest.mark.parametrize("png", [False, True])
def test_sbd(tmp_path, png):
    truth = classes_of((6, 8), 0, 20)
    image = sbd(tmp_path, "2008_1", truth, png)
    names(tmp_path / "train.txt", "2008_1")
    data, label = source(dataset="sbd", root=str(tmp_path), split="train").load(0)
    assert np.array_equal(data, bgr(image, ILSVRC)) and np.array_equal(label[0, 0], truth)


@pytest.fixture
def years(tmp_path):
    """VOC 2011's and SBD's lists as far as they matter: 1111 in val, 375 of which SBD has for training."""
    val = [f"v{i:04d}" for i in range(1111)]
    names(tmp_path / "voc/ImageSets/Segmentation/val.txt", *val)
    names(tmp_path / "voc/ImageSets/Segmentation/train.txt", "t0", "t1")
    names(tmp_path / "sbd/train.txt", *val[100:475], "t1", "s0")
    names(tmp_path / "sbd/val.txt", *val[:90], "s1")
    return tmp_path


def voc(root, split, **options):
    return source(dataset="voc", root=str(root / "voc"), sbd=str(root / "sbd"), split=split, **options)


def test_seg11valid_is_val_without_what_sbd_trains_on(years):
    data = voc(years, "seg11valid")
    assert len(data) == 736 and data.names[99:101] == ["v0099", "v0475"] and not data.randomize
    assert data.paths(100)[1] == years / "voc/SegmentationClass/v0475.png"
    assert overlap(data, source(dataset="sbd", root=str(years / "sbd"), split="train")) == []
    assert len(overlap(voc(years, "val"), source(dataset="sbd", root=str(years / "sbd"), split="train"))) == 375


def test_the_length_of_a_derived_split_is_checked(years):
    with pytest.raises(Error, match=r"layer 'data'.*'seg12valid' has 646 images, expected 346: it is voc val without sbd train "
                                    "and sbd val; is .*voc the right year"):
        voc(years, "seg12valid")
    names(years / "sbd/val.txt", *(f"v{i:04d}" for i in [*range(90), *range(800, 1100)]))
    assert len(voc(years, "seg12valid")) == 346


def test_a_list_that_shares_images_with_training_is_refused(years):
    path = years / "voc/ImageSets/Segmentation/seg11valid.txt"
    names(path, "v0000", "v0101", "v0102")
    with pytest.raises(Error, match="list .*seg11valid.txt shares 2 images with sbd train, .*v0101, v0102; remove the list"):
        voc(years, "seg11valid")
    names(path, "v0000")
    assert voc(years, "seg11valid").names == ["v0000"]


def test_voc_and_sbd_together(years):
    truth = {name: classes_of((6, 8), 0, 20) for name in ("t1", "s0")}
    image = colour(years / "voc/JPEGImages/t1.jpg")
    file(years / "voc/SegmentationClass/t1.png", truth["t1"])
    sbd(years / "sbd", "t1", truth["s0"])
    sbd(years / "sbd", "s0", truth["s0"])
    data = voc(years, "train+sbd")
    assert data.randomize and len(data) == 2 + 375 + 1
    one = data.read(data.names.index("t1"))
    assert np.array_equal(one[0], image) and np.array_equal(one[1], truth["t1"])  # VOC's own label comes first
    assert (data.read(data.names.index("s0"))[1] == truth["s0"]).all()
    everything = voc(years, "trainaug")
    assert everything.names == ["t0", "t1", "s0", "s1"] and overlap(everything, voc(years, "val")) == []


def test_a_missing_sbd_is_said(years):
    with pytest.raises(Error, match=r"the folder of data set 'sbd' \(param_str's 'sbd'\), '/nowhere' is not there"):
        source(dataset="voc", root=str(years / "voc"), sbd="/nowhere", split="seg11valid")


# NYUDv2, SIFT Flow, PASCAL-Context


def test_nyud(tmp_path):
    image, hha = colour(tmp_path / "data/images/img_5001.png"), colour(tmp_path / "data/hha/img_5001.png")
    depth = RNG.integers(500, 9000, (6, 8)).astype(np.uint16)
    depth[0, 0] = 0
    file(tmp_path / "data/depth/img_5001.png", depth)
    truth = classes_of((6, 8), 0, 40)
    file(tmp_path / "segmentation/img_5001.mat", None, segmentation=truth)
    for split in ("train", "val"):
        names(tmp_path / f"{split}.txt", "5001" if split == "train" else "5002")
    tops = ["color", "depth", "hha", "label"]
    data = source(tops, dataset="nyud", root=str(tmp_path), split="trainval", tops=tops, randomize=False)
    assert data.names == ["5001", "5002"]
    shapes = [(1, 3, 6, 8), (1, 1, 6, 8), (1, 3, 6, 8), (1, 1, 6, 8)]
    found = data.load(0)
    assert data.shapes() == shapes == [top.shape for top in found]
    assert data.describe(0) == f"{tmp_path}/data/images/img_5001.png (label {tmp_path}/segmentation/img_5001.mat)"
    assert np.array_equal(found[0], bgr(image, (116.190, 97.203, 92.318)))
    np.testing.assert_allclose(found[1][0, 0, 1:], np.log(depth[1:].astype(np.float64)) - 7.844, atol=1e-5)
    assert found[1][0, 0, 0, 0] == 0  # nothing was measured there
    assert np.array_equal(found[2], bgr(hha[..., ::-1], (132.431, 94.076, 118.477)))
    assert np.array_equal(found[3][0, 0], np.where(truth == 0, 255, truth.astype(int) - 1))
    with pytest.raises(Error, match="'brightness' is for photographs, and 'depth' has logarithms"):
        source(["depth", "label"], dataset="nyud", root=str(tmp_path), split="val", tops=["depth", "label"], brightness=0.5)
    assert facts("nyud").names[0] == "wall" and facts("nyud").names[39] == "otherprop"


def test_siftflow(tmp_path):
    place = "spatial_envelope_256x256_static_8outdoorcategories/coast_1"
    image = colour(tmp_path / f"Images/{place}.jpg")
    sem, geo = classes_of((6, 8), 0, 33), classes_of((6, 8), -1, 3, np.float64)
    geo[0, :2] = -1, 0
    file(tmp_path / f"SemanticLabels/{place}.mat", None, S=sem, names=np.array(["a"]))
    file(tmp_path / f"GeoLabels/{place}.mat", None, S=geo)
    names(tmp_path / "trainval.txt", "coast_1")
    data = source(("data", "sem", "geo"), dataset="siftflow", root=str(tmp_path), split="trainval")
    found = data.load(0)
    assert np.array_equal(found[0], bgr(image, (114.578, 115.294, 108.353)))
    assert np.array_equal(found[1][0, 0], np.where(sem == 0, 255, sem.astype(int) - 1))
    assert np.array_equal(found[2][0, 0], np.where(geo <= 0, 255, geo - 1))
    assert facts("siftflow", "geo").names == ("sky", "horizontal", "vertical")
    assert facts("siftflow").names == data.facts.names and len(data.facts.names) == 33
    both = source(("data", "geo"), dataset="siftflow", root=str(tmp_path), split="trainval", tops=["data", "geo"])
    assert len(both.facts.names) == 3


def test_pascalcontext(tmp_path):
    image = colour(tmp_path / "voc/JPEGImages/2008_1.jpg")
    raw = {"wall": 440, "table": 397, "bedclothes": 19, "cloth": 80, "wool": 459, "pottedplant": 308, "accordion": 1}
    file(tmp_path / "context/trainval/2008_1.mat", None, LabelMap=np.array([[*raw.values(), 0]], np.uint16).repeat(6, 0))
    names(tmp_path / "voc/ImageSets/Main/train.txt", "2008_1")
    data = source(dataset="pascalcontext", root=str(tmp_path / "context"), voc=str(tmp_path / "voc"), split="train")
    found = data.load(0)
    assert np.array_equal(found[0], bgr(image, (104.007, 116.669, 122.679)))
    known = facts("pascalcontext").names
    meant = ["wall", "diningtable", "bedcloth", "clothes", "background", "pottedplant", "background", "background"]
    assert found[1][0, 0, 0].tolist() == [known.index(name) for name in meant]


def test_each_of_the_59_classes_has_one_number_among_the_459():
    values = layouts.raw_values("pascalcontext", "classes-459.txt")
    assert sorted(values) == list(range(1, 460))
    assert sorted(v for v in values.values() if v) == list(range(1, 60))


def test_the_lists_that_come_with_the_project():
    folder = PROJECT / "data"
    for dataset, counts in {"nyud": {"train": 381, "val": 414, "test": 654}, "siftflow": {"trainval": 2486, "test": 200}}.items():
        lists = {split: (folder / dataset / f"{split}.txt").read_text().split() for split in counts}
        assert {split: len(listed) for split, listed in lists.items()} == counts
        everything = [name for listed in lists.values() for name in listed]
        assert len(everything) == len(set(everything))


def test_the_projects_lists_serve_where_a_tree_has_none(tmp_path):
    tops = ("color", "label")
    assert len(source(tops, dataset="nyud", root=str(tmp_path), split="trainval")) == 795
    assert source(tops, dataset="nyud", root=str(tmp_path), split="test").names[0] == "5133"
    data = source(("data", "sem", "geo"), dataset="siftflow", root=str(tmp_path), split="trainval")
    assert len(data) == 2486
    with pytest.raises(Error, match=r"layer 'data'.*image .*\.jpg is not there; data/siftflow/README.md says how to get"):
        data.shapes()


# 38-Cloud


def test_38cloud(tmp_path):
    name = "patch_192_10_by_12_LC08_L1TP_002053_20160520_20170324_01_T1"
    folder = tmp_path / "38-Cloud_training"
    bands = {band: file(folder / f"train_{band}/{band}_{name}.TIF", RNG.integers(0, 65536, (384, 384)).astype(np.uint16), "TIFF")
             for band in ("red", "green", "blue", "nir")}
    truth = file(folder / f"train_gt/gt_{name}.TIF", classes_of((384, 384), 0, 1) * np.uint8(255), "TIFF")
    names(folder / "training_patches_38-Cloud.csv", "name", name)
    data = source(dataset="38cloud", root=str(tmp_path), split="training", mean=(1, 2, 3, 4))
    found, label = data.load(0)
    assert data.names == [name] and data.shapes() == [(1, 4, 384, 384), (1, 1, 384, 384)]
    want = np.stack([bands[b] / 257 for b in ("blue", "green", "red", "nir")])[None] - np.array([1, 2, 3, 4]).reshape(1, 4, 1, 1)
    np.testing.assert_allclose(found, want, atol=1e-4)
    assert np.array_equal(label[0, 0], truth // 255)
    three = source(dataset="38cloud", root=str(tmp_path), split="training", tops=["color", "label"]).load(0)[0]
    np.testing.assert_allclose(three, want[:, :3] + np.array([1, 2, 3]).reshape(1, 3, 1, 1), atol=1e-4)
    half = source(dataset="38cloud", root=str(tmp_path), split="training", resize=0.5).load(0)
    assert half[0].shape == (1, 4, 192, 192) and set(np.unique(half[1])) <= {0, 1}
    smooth = shrunk(np.stack([bands[b] / 257 for b in ("blue", "green", "red", "nir")], -1), 192, 192)  # as the release trains
    np.testing.assert_allclose(half[0][0].transpose(1, 2, 0), smooth, atol=1e-4)
    assert PATCH.fullmatch(name).groupdict() == dict(number="192", row="10", column="12",
                                                     scene="LC08_L1TP_002053_20160520_20170324_01_T1")
    for wrong, said in ((np.zeros((384, 385), np.uint16), "is 385x384, expected 384x384"),
                        (np.zeros((384, 384), np.uint8), "has pixels of kind L, expected 16 bits")):
        file(folder / f"train_nir/nir_{name}.TIF", wrong, "TIFF")
        with pytest.raises(Error, match=f"nir_patch_192_10_by_12.* {said}"):
            data.load(0)
    file(folder / f"train_nir/nir_{name}.TIF", bands["nir"], "TIFF")
    file(folder / f"train_gt/gt_{name}.TIF", np.zeros((192, 192), np.uint8), "TIFF")
    with pytest.raises(Error, match="gt_patch_192_10_by_12.* is 192x192, expected 384x384"):
        data.load(0)


def test_a_fifth_of_the_patches_that_are_not_empty_is_held_out(tmp_path):
    folder, listed = tmp_path / "38-Cloud_training", [f"patch_{i}_1_by_{i}_made" for i in range(1, 13)]
    names(folder / "training_patches_38-Cloud.csv", "name", *listed)
    with pytest.raises(Error, match="list .*nonempty.csv"):
        source(dataset="38cloud", root=str(tmp_path), split="train")
    names(tmp_path / "training_patches_38-cloud_nonempty.csv", "name", *listed[1:])  # beside the folder, as in the archive
    train, val = (source(dataset="38cloud", root=str(tmp_path), split=split) for split in ("train", "val"))
    # what scikit-learn 1.9's train_test_split(names, test_size=0.2, random_state=42) holds out of eleven
    assert val.names == [listed[1:][i] for i in (0, 5, 9)]
    assert train.names == [name for name in listed[1:] if name not in val.names]
    assert train.randomize and not val.randomize and not overlap(train, val)
    assert val.paths(0)[0] == folder / f"train_blue/blue_{val.names[0]}.TIF"
    names(folder / "training_patches_38-cloud_nonempty.csv", "name", *listed[:5])
    train, val = (source(dataset="38cloud", root=str(tmp_path), split=split) for split in ("train", "val"))
    assert (len(train), len(val)) == (4, 1)
    with pytest.raises(Error, match="of split 'test'|no list .*test_patches"):
        source(dataset="38cloud", root=str(tmp_path), split="test", blobs=("data",))


def cloud_patch(place, bands, name):
    """Four bands and a mask; bands: the pattern of a band's folder."""
    for band in ("red", "green", "blue", "nir"):
        file(place / (bands % band) / f"{band}_{name}.TIF", RNG.integers(0, 65536, (384, 384)).astype(np.uint16), "TIFF")
    return file(place / (bands % "gt") / f"gt_{name}.TIF", classes_of((384, 384), 0, 1) * np.uint8(255), "TIFF")


def test_95cloud_is_38cloud_and_what_it_adds(tmp_path):
    old, new = "patch_1_1_by_1_LC08_L1TP_002053_20160520_20170324_01_T1", "patch_100_5_by_12_LC08_L1TP_006248_20160820_20170322_01_T1"
    first, more = tmp_path / "38/38-Cloud_training", tmp_path / "95/95-cloud_training_only_additional_to38-cloud"
    cloud_patch(first, "train_%s", old)
    truth = cloud_patch(more, "train_%s_additional_to38cloud", new)
    names(first / "training_patches_38-Cloud.csv", "name", old)
    names(more / "training_patches_95-cloud_additional_to_38-cloud.csv", "name", new)
    where = dict(dataset="95cloud", root=str(tmp_path / "95"))
    alone = source(**where, split="additional")
    assert alone.names == [new] and np.array_equal(alone.load(0)[1][0, 0], truth // 255)
    # 38-Cloud may stand in another folder, of its own layout
    layer = caffe_pb2.LayerParameter(name="data", type="Python", top=["data", "label"])
    layer.python_param.param_str = str({**where, "split": "training", "38cloud": str(tmp_path / "38"), "randomize": False})
    both = SegmentationData(layer, (), Context())
    assert both.names == [old, new] and [both.load(i)[0].shape for i in (0, 1)] == [(1, 4, 384, 384)] * 2
    names(more / "training_patches_95-cloud_nonempty.csv", "name", new, old)
    layer.python_param.param_str = str({**where, "split": "training", "38cloud": str(tmp_path / "38"), "randomize": False,
                                        "list": f"{more.name}/training_patches_95-cloud_nonempty.csv"})
    assert SegmentationData(layer, (), Context()).names == [new, old]
    assert [SegmentationData(layer, (), Context()).load(i)[1].shape for i in (0, 1)] == [(1, 1, 384, 384)] * 2


def test_patches_of_scenes_say_their_shapes_without_files():
    def stated(blobs=("data", "label"), size=None, **options):
        layer = caffe_pb2.LayerParameter(name="data", type="Python", top=blobs)
        layer.python_param.param_str = str({"dataset": "38cloud", "split": "training"} | options)
        return SegmentationData.stated(layer, size)

    assert stated(batch_size=12, resize=0.5) == [(12, 4, 192, 192), (12, 1, 192, 192)]
    assert stated(size=(100, 50)) == [(1, 4, 100, 50), (1, 1, 100, 50)]
    assert stated(("data",), split="test") == [(1, 4, 384, 384)] and stated(("color",), tops=["color"]) == [(1, 3, 384, 384)]
    assert stated(crop=[96, 64])[0] == (1, 4, 96, 64) and stated(resize="x", dataset="voc") == stated(dataset=3) == []
    broken = caffe_pb2.LayerParameter(name="data", type="Python", top=["data"])
    broken.python_param.param_str = "{'dataset': "
    assert SegmentationData.stated(broken) == []


def test_the_test_split_of_38cloud_has_no_labels(tmp_path):
    name = "patch_1_1_by_1_LC08_L1TP_002053_20160520_20170324_01_T1"
    cloud_patch(tmp_path / "38-Cloud_test", "test_%s", name)
    names(tmp_path / "38-Cloud_test/test_patches_38-Cloud.csv", "name", name)
    assert source(("data",), dataset="38cloud", root=str(tmp_path), split="test").load(0)[0].shape == (1, 4, 384, 384)
    with pytest.raises(Error, match="reads 1 tops, data, and has 2"):
        source(dataset="38cloud", root=str(tmp_path), split="test")


@pytest.mark.skipif(not (SHARED / "38-cloud").is_dir(), reason="no genuine patch here")
def test_a_genuine_patch_of_38cloud(tmp_path):
    name = "patch_192_10_by_12_LC08_L1TP_002053_20160520_20170324_01_T1"
    for band in ("red", "green", "blue", "nir", "gt"):
        place = tmp_path / f"38-Cloud_training/train_{band}"
        place.mkdir(parents=True)
        (place / f"{band}_{name}.TIF").symlink_to(SHARED / f"38-cloud/{band}_{name}.TIF")
    names(tmp_path / "38-Cloud_training/training_patches_38-Cloud.csv", "name", name)
    data, label = source(dataset="38cloud", root=str(tmp_path), split="training").load(0)
    assert data.shape == (1, 4, 384, 384) and 0 < data.min() and data.max() < 255
    assert abs(data[0, 2].mean() * 257 - np.asarray(Image.open(SHARED / f"38-cloud/red_{name}.TIF")).mean()) < 1
    assert set(np.unique(label)) == {0, 1}


# CamVid as it is


@pytest.mark.skipif(not (PROJECT / "data/camvid/images/train.txt").is_file(), reason="CamVid is not linked")
def test_camvid_is_complete():
    for split, count in {"train": 367, "val": 101, "test": 233}.items():
        data = source(dataset="camvid", root=str(PROJECT / "data/camvid/images"), split=split)
        assert len(data) == count == len(set(data.names))
        image, label = data.load(0)
        assert image.shape == (1, 3, 360, 480) and pixels.check_labels(label, 11, 11) is None


def test_the_means_of_camvid_and_shapes_are_over_all_pixels(tmp_path):
    """How the means were computed, on a set whose mean is known."""
    for i, value in enumerate(((10, 20, 30), (30, 40, 50))):
        file(tmp_path / f"train/{i}.png", np.full((4, 4, 3), value, np.uint8))
        file(tmp_path / f"trainannot/{i}.png", np.zeros((4, 4), np.uint8))
    names(tmp_path / "train.txt", "0", "1")
    data = source(dataset="camvid", root=str(tmp_path), split="train", mean=(0, 0, 0), randomize=False, batch_size=2)
    assert data.load(0)[0].mean((0, 2, 3)).tolist() == [40, 30, 20]


# Folders of one's own


@pytest.fixture
def photos(tmp_path):
    images = {name: colour(tmp_path / f"photos/{name}.jpg") for name in ("a", "b c", "sub/d")}
    truths = {name: file(tmp_path / f"masks/{name}.png", classes_of((6, 8), 0, 1)) for name in images}
    (tmp_path / "set.txt").write_text("images: photos\nlabels: masks\nmean: 110, 108.5, 105  # BGR\nwall\ncrack 255 0 0\n")
    names(tmp_path / "train.txt", "sub/d", "a")
    return tmp_path, images, truths


def test_a_data_set_file(photos):
    root, images, truths = photos
    data = source(dataset="set.txt", base=root, split="train", randomize=False)
    assert data.names == ["sub/d", "a"]
    found, label = data.load(0)
    assert np.array_equal(found, bgr(images["sub/d"], (110, 108.5, 105))) and np.array_equal(label[0, 0], truths["sub/d"])
    for known in (data.facts, facts(str(root / "set.txt"))):
        assert known.names == ("wall", "crack") and known.void == 255 and known.mean == (110, 108.5, 105)
        assert known.palette.tolist() == [[0, 0, 0], [255, 0, 0]]
    assert source(dataset="set.txt", base=root, split="all").names == ["a", "b c"]


def test_a_folder_described_in_param_str(photos):
    root, images, truths = photos
    options = dict(dataset="folder", root=str(root), images="photos", labels="masks", classes=["wall", "crack"])
    data = source(split="all", **options)
    assert np.array_equal(data.load(1)[1][0, 0], truths["b c"]) and data.facts.mean == ILSVRC
    assert source(split="train", **options, mean=(1, 2, 3)).mean.tolist() == [1, 2, 3]
    with pytest.raises(Error, match="split 'val' has no list .*val.txt.*there are: set, train"):
        source(split="val", **options)
    assert source(split="val", **options, list="train.txt").names == ["sub/d", "a"]


@pytest.mark.parametrize("lines", [
    ["photos/a.jpg masks/a.png"], ["photos/a.jpg\tmasks/a.png"], ["photos/a.jpg,masks/a.png"], ["photos/a.jpg"],
    ["a.jpg"], ["a"], ["./photos/a.jpg"], ["my/photos/a.jpg"], ["/where/my/photos/a.jpg"], ["./photos/a.jpg masks/a.png"],
    ["\ufeffphotos/a.jpg"]])
def test_lists_of_pairs_of_paths_and_of_names(photos, lines):
    root, images, truths = photos
    names(root / "some.txt", *lines)
    data = source(dataset="set.txt", base=root, split="x", list=str(root / "some.txt"))
    assert np.array_equal(data.load(0)[1][0, 0], truths["a"]) and data.paths(0)[0] == root / "photos/a.jpg"


def test_patterns(tmp_path):
    for split in ("train", "val"):
        colour(tmp_path / f"img/{split}/1.jpg")
        file(tmp_path / f"gt/{split}_1_mask.png", classes_of((6, 8), 0, 1))
    data = source(dataset="folder", root=str(tmp_path), split="val", images="img/{split}", labels="gt/{split}_{name}_mask.png",
                  classes=["a", "b"])
    assert data.paths(0) == (tmp_path / "img/val/1.jpg", tmp_path / "gt/val_1_mask.png") and data.load(0)
    train = source(dataset="folder", root=str(tmp_path), split="train", images="img/{split}", labels="gt/{split}_{name}_mask.png",
                   classes=["a", "b"])
    assert train.names == data.names and overlap(train, data) == [] and len(overlap(train, train)) == 1
    one = dict(dataset="folder", root=str(tmp_path), images="img/val/{name}.jpg", labels="gt/val_{name}_mask.png", classes=["a"])
    assert source(split="all", **one).paths(0) == data.paths(0)
    for listed in ("1", "1.jpg", "img/val/1.jpg"):
        names(tmp_path / "val.txt", listed)
        assert source(split="val", **one).paths(0) == data.paths(0)


@pytest.mark.parametrize("written", ["./photos", "photos//", ".\\photos", "photos/./{name}.*", "x/../photos"])
def test_folders_as_people_write_them(photos, written):
    """Without lists the names come from the folder, which shows its own name plainly."""
    data = source(dataset="folder", root=str(photos[0]), classes=["x", "y"], split="all", images=written, labels="masks")
    assert data.names == ["a", "b c"]


def test_names_with_spaces_in_a_list(photos):
    root, images, truths = photos
    names(root / "train.txt", "b c", "a")
    data = source(dataset="set.txt", base=root, split="train")
    assert data.names == ["b c", "a"] and np.array_equal(data.read(0)[0], images["b c"])


def test_a_list_that_is_no_utf8_is_refused(photos):
    root, _, _ = photos
    for encoding in ("latin-1", "utf-16"):
        (root / "train.txt").write_text("é\n", encoding=encoding)
        with pytest.raises(Error, match="the list .*train.txt is (no UTF-8|UTF-16) text"):
            source(dataset="set.txt", base=root, split="train")


def test_two_images_of_one_name_are_refused(photos):
    root, images, _ = photos
    colour(root / "photos/a.tif")
    with pytest.raises(Error, match=r"both .*photos/a.jpg and a.tif are there; .* a pattern: photos/\{name\}.jpg$"):
        source(dataset="set.txt", base=root, split="train", randomize=False).load(1)
    data = source(dataset="set.txt", base=root, split="train", images="photos/{name}.jpg", randomize=False)
    assert np.array_equal(data.read(1)[0], images["a"])


def test_a_file_that_an_editor_wrote_with_a_mark_and_class_names_with_digits(photos):
    root, _, _ = photos
    (root / "set.txt").write_bytes(b"\xef\xbb\xbfimages: photos\r\nlabels: masks\r\nwall2\r\ncrack 3 255 0 0\r\n")
    known = source(dataset="set.txt", base=root, split="train").facts
    assert known.names == ("wall2", "crack 3") and known.palette.tolist() == [[0, 0, 0], [255, 0, 0]]


def test_labels_in_colours_that_a_tool_stored_as_grey_or_palette(tmp_path):
    truth = classes_of((6, 8), 0, 1)
    colour(tmp_path / "images/x.png")
    (tmp_path / "labels").mkdir()
    for colours, mode in (([[0] * 3, [255] * 3], "L"), ([[0] * 3, [255] * 3], "1"), ([[9, 0, 0], [0, 0, 9]], "P")):
        Image.fromarray(np.array(colours, np.uint8)[truth]).convert(mode, palette=1).save(tmp_path / "labels/x.png")
        data = source(dataset="folder", root=str(tmp_path), split="all", colours=True,
                      classes=[f"{name} {' '.join(map(str, rgb))}" for name, rgb in zip("ab", colours, strict=True)])
        assert np.array_equal(data.read(0)[1], truth), mode


def test_numbers_beyond_32_bits_do_not_wrap(tmp_path):
    np.save(tmp_path / "x.npy", np.array([[0, 1, 1 << 32]]))
    assert pixels.read_label(tmp_path / "x.npy", values={1: 2}).tolist() == [[0, 2, 1 << 32]]
    np.save(tmp_path / "x.npy", np.array([[0, 7, 2e9]]))
    assert pixels.read_label(tmp_path / "x.npy", values={0: 0, 10: 1}, nearest=True).tolist() == [[0, 1, 1]]


def test_labels_of_all_kinds(tmp_path):
    colour(tmp_path / "images/x.png", (4, 6))
    truth = np.array([[0, 1, 2, 0, 9, 9]] * 4, np.uint8)  # 9: void
    options = dict(dataset="folder", root=str(tmp_path), split="all", classes=["a 1 2 3", "b 200 0 0", "c 0 0 200", "void 9 9 9"])
    palette = np.zeros((10, 3), np.uint8)
    palette[[0, 1, 2, 9]] = [[1, 2, 3], [200, 0, 0], [0, 0, 200], [9, 9, 9]]
    grey = dict(values={9: 255})

    def label(suffix, array=None, more=grey, **mat):
        for old in (tmp_path / "labels").glob("*"):
            old.unlink()
        file(tmp_path / f"labels/x{suffix}", array, **mat)
        return source(**options, **more).load(0)[1][0, 0]

    want = np.where(truth == 9, 255, truth)
    assert np.array_equal(label(".png", truth), want)
    assert np.array_equal(label(".png", truth.astype(np.uint16)), want)
    assert np.array_equal(label(".png", palette[truth], dict(colours=True)), want)
    assert np.array_equal(label(".npy", truth.astype(np.int64)), want)
    assert np.array_equal(label(".mat", seg=truth.astype(np.float64)), want)
    assert np.array_equal(label(".mat", more=grey | dict(key="seg"), seg=truth, other=truth + 1), want)
    noisy = (np.clip(palette[truth].astype(int) + RNG.integers(-4, 5, (4, 6, 3)), 0, 255)).astype(np.uint8)
    assert np.array_equal(label(".png", noisy, dict(colours=True, nearest=True)), want)
    lossy = np.where(truth == 0, 40, 200).astype(np.uint8)
    assert np.array_equal(label(".png", lossy, dict(values={0: 0, 255: 1}, nearest=True)), truth > 0)
    with_palette = Image.fromarray(truth)
    with_palette.putpalette(palette.tobytes())
    with_palette.save(tmp_path / "labels/y.png")
    assert np.array_equal(pixels.read_label(tmp_path / "labels/y.png"), truth)

    def grey_levels(count):
        return (60 + np.arange(24, dtype=np.uint8) % count).reshape(4, 6, 1).repeat(3, 2)

    for array, more, message in [
        (palette[truth] + np.uint8(1), dict(colours=True), r"x.png has 24 pixels of colours that are no class: 2 3 4 \(8 times"),
        (grey_levels(5), dict(colours=True), r"24 pixels of colours that are no class: 60 60 60 \(5 times\)(, [\d ]+ \(5 times\)){3}, "
                                      r"64 64 64 \(4 times\); is one"),
        (grey_levels(6), dict(colours=True), r"no class: (\d\d \d\d \d\d \(4 times\), ){5}\.\.\.; is one"),
        (palette[truth], {}, r"in colours \(RGB\).*option 'colours'"),
    ]:
        with pytest.raises(Error, match=message):
            label(".png", array, more)
    with pytest.raises(Error, match="has more than the variable 'one' .it has: one, two .2.; the option 'key'"):
        label(".mat", one=truth, two=truth)
    with pytest.raises(Error, match="no variable 'sgm'; did you mean 'seg'"):
        label(".mat", more=dict(key="sgm"), seg=truth)
    with pytest.raises(Error, match="no field 'b'"):
        label(".mat", more=dict(key="seg.b"), seg=truth)
    with pytest.raises(Error, match=r"holds float64 of shape \(4, 6\), expected whole numbers"):
        label(".npy", truth / 2)
    with pytest.raises(Error, match=r"holds uint8 of shape \(2, 4, 6\)"):
        label(".npy", np.stack([truth] * 2))


@pytest.mark.parametrize("suffix", [".mat", ".npy"])
def test_damaged_arrays_are_named(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    with pytest.raises(Error, match=f"label .*x{suffix} is not there"):
        pixels.read_label(path)
    file(path, np.arange(600).reshape(20, 30), seg=np.arange(600).reshape(20, 30))
    whole, refused = path.read_bytes(), 0
    for _ in range(150):
        damaged = bytearray(whole[: RNG.integers(1, len(whole) + 1)])
        for at in RNG.integers(0, min(len(damaged), 200), 3):
            damaged[at] = RNG.integers(256)
        path.write_bytes(damaged)
        try:
            pixels.read_label(path)
        except Error as error:
            assert "label" in str(error) and "\n" not in str(error)
            refused += 1
    assert refused > 50
    np.save(tmp_path / "object.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(Error, match="cannot be read"):
        pixels.read_label(tmp_path / "object.npy")


@pytest.mark.skipif(not (SHARED / "hyta").is_dir(), reason="no photographs of the sky here")
def test_real_photographs_of_the_sky_with_labels_in_jpeg(tmp_path):
    (tmp_path / "sky.txt").write_text("labels: 2GT/{name}_GT.jpg\nvalues: {0: 0, 255: 1}\nnearest: True\nsky\ncloud\n")
    data = source(dataset=str(tmp_path / "sky.txt"), root=str(SHARED / "hyta"), split="all", batch_size=2)
    assert len(data) == 32 and data.names[0] == "B1"
    for position in range(16):
        image, label = data.load(position)
        assert image.shape[2:] == label.shape[2:] and pixels.check_labels(label, 2) is None
        for index in (2 * position, 2 * position + 1):
            truth = np.asarray(Image.open(SHARED / f"hyta/2GT/{data.names[index]}_GT.jpg")) >= 128
            assert np.array_equal(label[index % 2, 0, : truth.shape[0], : truth.shape[1]], truth)


@pytest.mark.parametrize(("text", "message"), [
    ("image: x\na\nb", "set.txt:1: there is no key 'image'; did you mean 'images'"),
    ("a\nvoid: x", "set.txt:2: 'void' takes a whole number, or None, found 'x'"),
    ("a\nvalues: {1: 'b'}", "set.txt:2: 'values' takes a dict of whole numbers"),
    ("images: {split.__class__}/x\na", "in braces it takes {name} and {split} alone"),
    ("images: x", "names no class"),
    ("mean: 1, 2, 3\na 1 2 3\n\na 3 4 5", "set.txt:4: class 'a' stands a second time"),
    ("mean: 1, 2, 3\na 1 2 3\n\nb 3 4 500", "set.txt:4: expected a name and three numbers"),
    ("a\na", "set.txt:2: class 'a' stands a second time; each class has one line"),
    ("mean: 1, 2\na", "'mean' takes 3 numbers, BGR, found (1, 2)"),
    ("a\nvalues: {0: 99999999999}", "set.txt:2: 'values' takes a dict of whole numbers"),
    ("a\nvoid: 99999999999", "set.txt:2: 'void' takes a whole number"),
    ("images: x\nimages: y\na", "set.txt:2: has the key 'images' a second time"),
    ("classes: ['b']\na", "; a class is a line by itself)"),
    ("a 1 2", "expected a name and three numbers from 0 to 255, found 'a 1 2'"),
    ("a 0 0 -1", "set.txt:1: expected a name and three numbers from 0 to 255, found 'a 0 0 -1'"),
    ("a 0.5 0.5 0.5", "set.txt:1: expected a name and three numbers"),
    ("a 128,64,128", "set.txt:1: expected a name and three numbers"),
    ("a 0 0 " + 5000 * "9", "set.txt:1: expected a name and three numbers"),
    ("\x1b[31ma 1 2 3", "found '?[31ma 1 2 3'"),
    ("a\nvoid: " + 100000 * "-" + "1", "set.txt:2: 'void' takes a whole number, or None, found '-----"),
    ("a\nvalues: {[]: 1}", "set.txt:2: 'values' takes a dict of whole numbers"),
    ("a\nmean: 1e999, 0, 0", "set.txt:2: 'mean' takes a number for each channel: BGR, found '1e999, 0, 0'"),
    ("a\nmean: 1e39, 0, 0", "set.txt:2: 'mean' takes a number for each channel"),
    ("a\nimages: {name}/{name}.png", "'images' is '{name}/{name}.png'; it takes {name} once"),
    ("a\nimages: x\0y", "is binary"),
])
def test_mistakes_in_a_data_set_file_are_named(tmp_path, text, message):
    (tmp_path / "set.txt").write_text(text)
    with pytest.raises(Error) as caught:
        source(dataset=str(tmp_path / "set.txt"), split="train")
    assert message in str(caught.value)


@pytest.mark.parametrize(("options", "message"), [
    (dict(dataset="camvid", split="train", images="x"), "'images' is for dataset 'folder', not for 'camvid'"),
    (dict(dataset="camvid", split="train", tops=["data", "lable"]), "has no top 'lable'; did you mean 'label'"),
    (dict(dataset="camvid", split="train", tops=["data"]), "reads 1 tops, data, and has 2; 'tops' in param_str chooses"),
    (dict(dataset="camvid", split="train", crop=[1]), r"'crop' takes \[height, width\]"),
    (dict(dataset="camvid", split="train", rotate=[20, 4]), r"'rotate' takes \[least, most\], degrees from 0 to 180"),
    (dict(dataset="camvid", split="train", rotate=10), "'rotate' takes"),
    (dict(dataset="camvid", split="train", zoom=[1, 2, 1.5]), "'zoom' takes .*a chance of 0 to 1"),
    (dict(dataset="camvid", split="train", zoom=[0, 2]), "'zoom' takes"),
    (dict(dataset="camvid", split="train", order="python4"), "'order' takes 'python2' or 'python3'"),
    (dict(dataset="folders", split="train"), "did you mean 'folder'"),
])
def test_mistakes_in_param_str_are_named(tmp_path, options, message):
    names(tmp_path / "train.txt", "x")
    with pytest.raises(Error, match=message):
        source(**{"root": str(tmp_path), **options}).load(0)


# Jitter and crops


def square(tmp_path, size=(6, 8), **options):
    """One image whose pixels tell where they came from: red is 10 row, green 10 column, and the label row * 8 + column."""
    y, x = np.mgrid[: size[0], : size[1]]
    file(tmp_path / "images/x.png", np.stack([10 * y, 10 * x, 0 * x], -1).astype(np.uint8))
    file(tmp_path / "labels/x.png", (y * size[1] + x).astype(np.uint8))
    return source(dataset="folder", root=str(tmp_path), split="all", mean=(-1, -1, -1), classes=["a"], **options)


def test_jitter_moves_image_and_label_alike(tmp_path):
    data = square(tmp_path, jitter=2)
    moves = set()
    for position in range(300):
        image, label = data.load(position)
        assert image.shape == (1, 3, 6, 8)
        seen = label[0, 0] != 255
        assert (image[0][:, ~seen] == 0).all()
        y, x = np.divmod(label[0, 0][seen], 8)
        assert np.array_equal(image[0, 2][seen], 10 * y + 1) and np.array_equal(image[0, 1][seen], 10 * x + 1)
        rows, columns = np.nonzero(seen)
        move = {(int(r - a), int(c - b)) for r, a, c, b in zip(rows, y, columns, x, strict=True)}
        assert len(move) == 1 and seen.sum() == (6 - abs(min(move)[0])) * (8 - abs(min(move)[1]))
        moves |= move
    assert moves == {(dy, dx) for dy in range(-2, 3) for dx in range(-2, 3)}
    wide = square(tmp_path, jitter=100)
    assert any((wide.load(k)[1] == 255).all() for k in range(20))


def test_crops_are_windows_of_the_image(tmp_path):
    data = square(tmp_path, crop=[4, 5], batch_size=3)
    assert data.shapes() == [(3, 3, 4, 5), (3, 1, 4, 5)]
    corners = set()
    for position in range(100):
        image, label = data.load(position)
        for one, truth in zip(image, label, strict=True):
            top, left = divmod(int(truth[0, 0, 0]), 8)
            assert np.array_equal(truth[0], (np.arange(top, top + 4)[:, None] * 8 + np.arange(left, left + 5)))
            assert np.array_equal(one[2], np.repeat(10 * np.arange(top, top + 4)[:, None] + 1, 5, 1))
            corners.add((top, left))
    assert corners == {(t, c) for t in range(3) for c in range(4)}


def test_a_crop_larger_than_the_image_is_padded(tmp_path):
    image, label = square(tmp_path, crop=[7, 6]).load(0)
    assert image.shape == (1, 3, 7, 6) and (label[0, 0, 6] == 255).all() and (image[0, :, 6] == 0).all()
    assert (label[0, 0, :6] != 255).all()


def test_each_random_choice_is_the_same_whatever_else_is_chosen(tmp_path):
    plain = [square(tmp_path, jitter=1).load(k)[1][0, 0] for k in range(20)]
    both = [square(tmp_path, jitter=1, mirror=True).load(k)[1][0, 0] for k in range(20)]
    flips = [square(tmp_path, mirror=True).load(k)[1][0, 0, 0, 0] == 7 for k in range(20)]
    assert 3 < sum(flips) < 17
    for k in range(20):
        rows = [np.flatnonzero((label != 255).any(1)).tolist() for label in (plain[k], both[k])]
        assert rows[0] == rows[1]
        first = both[k][both[k] != 255].reshape(len(rows[0]), -1)[0]
        assert (first[0] > first[-1]) == flips[k]


def test_zoom_draws_a_size_for_image_and_label_alike(tmp_path):
    data = square(tmp_path, size=(60, 80), zoom=[0.5, 2])
    sizes = []
    for position in range(60):
        image, label = data.load(position)
        assert image.shape[2:] == label.shape[2:]
        sizes.append(image.shape[2:])
        assert set(label.ravel()) <= set(range(256))  # to the nearest: no label is made up
        rows = image[0, 2, : label.shape[2] // 3, 0] / (10 * 60 / label.shape[2])  # red tells the row, up to the 25th
        assert np.abs(rows - np.arange(len(rows))).max() < 1.1
    logs = np.log2([h / 60 for h, _ in sizes])
    assert logs.min() >= -1 and logs.max() <= 1 and -0.3 < logs.mean() < 0.3 and logs.std() > 0.4  # even in the logarithm
    assert all(abs(w / h - 80 / 60) < 0.05 for h, w in sizes)
    assert [square(tmp_path, size=(60, 80), zoom=[0.5, 2]).load(k)[0].shape[2:] for k in (7, 3)] == [sizes[7], sizes[3]]


def test_zoom_with_a_chance_leaves_the_other_images_as_they_are(tmp_path):
    often = square(tmp_path, size=(60, 80), zoom=[1.5, 2, 0.25])
    always = square(tmp_path, size=(60, 80), zoom=[1.5, 2])
    heights = [data.load(k)[0].shape[2] for data in (often, always) for k in range(60)]
    zoomed = [a for a, b in zip(heights[:60], heights[60:], strict=True) if a == b]  # by what is drawn without a chance
    assert set(heights[:60]) - set(zoomed) == {60} and 6 < len(zoomed) < 26


def test_rotate_turns_image_and_label_alike(tmp_path):
    data, plain = square(tmp_path, size=(13, 17), rotate=[5, 40, 0.5], jitter=1), square(tmp_path, size=(13, 17), jitter=1)
    angles = []
    for position in range(80):
        (image, label), (before, _) = data.load(position), plain.load(position)
        seen = label[0, 0] != 255
        assert np.array_equal(seen, (before[0] != 0).any(0))  # the jitter is drawn as without
        y, x = np.divmod(label[0, 0], 17)
        inner = np.s_[3:-3, 3:-3]  # beyond, the mirrored border is no plane
        rows, columns = (image[0, c][inner] / 10 for c in (2, 1))
        assert np.abs(rows - 0.1 - y[inner]).max() <= 0.51 and np.abs(columns - 0.1 - x[inner]).max() <= 0.51
        step = rows[3, 4] - rows[3, 3], rows[4, 3] - rows[3, 3]
        angles.append(np.rad2deg(np.arctan2(-step[0], step[1])))
        np.testing.assert_allclose(np.hypot(*step), 1, atol=1e-4)  # turned, not stretched
    angles = np.array(angles)
    still = np.abs(angles) < 1e-3
    assert 10 < still.sum() < 32 and (angles > 4).sum() > 10 < (angles < -4).sum() and 20 < np.abs(angles).max() <= 40
    again = square(tmp_path, size=(13, 17), rotate=[5, 40, 0.5], jitter=1)
    assert all(np.array_equal(a, b) for k in (9, 2) for a, b in zip(again.load(k), data.load(k), strict=True))


def test_brightness_multiplies_the_pixels_and_leaves_the_label(tmp_path):
    plain, data = square(tmp_path, size=(6, 8)), square(tmp_path, size=(6, 8), brightness=0.25)
    stored, truth = plain.load(0)
    gains = []
    for position in range(40):
        image, label = data.load(position)
        assert np.array_equal(label, truth)
        gain = (image[0, 2, 5, 0] - 1) / 50
        np.testing.assert_allclose(image - 1, (stored - 1) * gain, rtol=1e-5)
        gains.append(gain)
    assert 0.75 <= min(gains) < 0.85 and 1.15 < max(gains) <= 1.25
    file(tmp_path / "images/x.png", np.full((6, 8, 3), 250, np.uint8))
    assert max(float((data.load(k)[0] - 1).max()) for k in range(40)) == 255  # and no pixel is above white


@pytest.mark.parametrize("options", [dict(zoom=2), dict(zoom=[2, 1]), dict(zoom=[0, 1]), dict(brightness=1.5),
                                     dict(brightness=True)])
def test_a_range_that_is_none_is_refused(tmp_path, options):
    with pytest.raises(Error, match=f"'{min(options)}' takes"):
        square(tmp_path, **options)


def test_pictures_are_those_of_one_size_and_list(tmp_path):
    assert square(tmp_path).pictures == square(tmp_path, mirror=True).pictures != square(tmp_path, resize=0.5).pictures


def test_padding_without_a_void_label_is_refused(tmp_path):
    with pytest.raises(Error, match="leave pixels without a label.*has no void"):
        square(tmp_path, jitter=50, void=None).load(0)
    assert square(tmp_path, crop=[2, 2], void=None).load(0)


# The release's layers

RELEASED = {
    "train": ("voc_layers", "SBDDSegDataLayer", ["data", "label"],
              "{'sbdd_dir': '../data/sbdd/dataset', 'seed': 1337, 'split': 'train', 'mean': (104.00699, 116.66877, 122.67892)}"),
    "val": ("voc_layers", "VOCSegDataLayer", ["data", "label"],
            "{'voc_dir': '../data/pascal/VOC2011', 'seed': 1337, 'split': 'val', 'mean': (104.00699, 116.66877, 122.67892)}"),
    "nyud": ("nyud_layers", "NYUDSegDataLayer", ["data", "label"],
             "{'tops': ['hha', 'label'], 'seed': 1337, 'nyud_dir': '../data/nyud', 'split': 'trainval'}"),
    "siftflow": ("siftflow_layers", "SIFTFlowSegDataLayer", ["data", "sem", "geo"],
                 "{'siftflow_dir': '../data/sift-flow', 'seed': 1337, 'split': 'trainval'}"),
    "context": ("pascalcontext_layers", "PASCALContextSegDataLayer", ["data", "label"],
                "{'context_dir': '../data/pascal-context', 'seed': 1337, 'split': 'val', 'voc_dir': '../data/pascal'}"),
}


@pytest.mark.parametrize("net", RELEASED)
def test_nets_of_the_release_run_as_they_are(tmp_path, net, monkeypatch):
    data, place = tmp_path / "data", "spatial_envelope_256x256_static_8outdoorcategories"
    truth = np.full((6, 8), 1, np.uint8)
    sbd(data / "sbdd/dataset", "x", truth)
    names(data / "sbdd/dataset/train.txt", "x")
    for year, kind in (("VOC2011", "Segmentation"), ("VOC2010", "Main")):
        colour(data / f"pascal/{year}/JPEGImages/x.jpg")
        names(data / f"pascal/{year}/ImageSets/{kind}/val.txt", "x")
    file(data / "pascal/VOC2011/SegmentationClass/x.png", truth)
    file(data / "pascal-context/trainval/x.mat", None, LabelMap=truth + 1)
    colour(data / "nyud/data/hha/img_x.png")
    file(data / "nyud/segmentation/img_x.mat", None, segmentation=truth + 1)
    names(data / "nyud/trainval.txt", "x")
    colour(data / f"sift-flow/Images/{place}/x.jpg")
    file(data / f"sift-flow/SemanticLabels/{place}/x.mat", None, S=truth + 1)
    file(data / f"sift-flow/GeoLabels/{place}/x.mat", None, S=truth + 1)
    names(data / "sift-flow/trainval.txt", "x")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "voc_layers.py").write_text("raise SystemExit('the project reads by itself')\n")
    module, layer, tops, param_str = RELEASED[net]
    text = "".join(f'top: "{top}" ' for top in tops)
    path = tmp_path / "net" / "train.prototxt"
    path.parent.mkdir()
    path.write_text(f'layer {{ name: "data" type: "Python" {text} python_param {{ module: "{module}" layer: "{layer}" '
                    f'param_str: "{param_str}" }} }}')
    op = load(path).sources[0].op
    assert isinstance(op, SegmentationData)
    found = op.load(0)
    assert [top.shape for top in found] == [(1, 3, 6, 8)] + [(1, 1, 6, 8)] * (len(tops) - 1)
    assert all((label == 1).all() for label in found[1:])
    assert op.randomize == ("train" in op.split) and op.seed == 1337


def test_python_2_draws_as_the_release_did(tmp_path):
    for i in range(7):
        sbd(tmp_path, f"x{i}", np.zeros((6, 8), np.uint8))
    names(tmp_path / "train.txt", *(f"x{i}" for i in range(7)))
    old = source(python=("voc_layers", "SBDDSegDataLayer"), sbdd_dir=str(tmp_path), split="train", seed=1337, mean=(1, 2, 3))
    generator = random.Random(1337)
    assert [old.index(k) for k in range(50)] == [int(generator.random() * 7) for _ in range(50)]
    new = source(dataset="sbd", root=str(tmp_path), split="train", seed=1337)
    generator = random.Random(1337)
    assert [new.index(k) for k in range(50)] == [generator.randint(0, 6) for _ in range(50)]
    assert [new.index(k) for k in range(50)] != [old.index(k) for k in range(50)]
    still = source(python=("voc_layers", "SBDDSegDataLayer"), sbdd_dir=str(tmp_path), split="train", randomize=False)
    assert not still.randomize


def test_every_layout_says_where_it_comes_from():
    for name, layout in LAYOUTS.items():
        folder = PROJECT / "data" / layout.facts
        assert (folder / "README.md").is_file() and (PROJECT / "data" / name / "README.md").is_file()
        for top in layout.tops.values():
            assert not isinstance(top, Labels) or (folder / top.classes).is_file()
            assert not isinstance(top, Images) or len(top.mean) == len(top.order or top.files)


@pytest.fixture
def masks(tmp_path):
    """images/x.png and a function that writes labels/x.SUFFIX and reads it by a data set file of these lines."""
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    colour(tmp_path / "images/x.png", (16, 16))
    (tmp_path / "train.txt").write_text("x\n")

    def read(array, suffix, *lines, **options):
        for old in (tmp_path / "labels").glob("*"):
            old.unlink()
        Image.fromarray(array).save(tmp_path / f"labels/x.{suffix}", **options)
        (tmp_path / "set.txt").write_text("\n".join(["ground 0 0 0", "crack 255 0 0", *lines]))
        return source(dataset=str(tmp_path / "set.txt"), split="train", batch_size=1).load(0)[1][0, 0]

    return read


BLOCKS = np.zeros((16, 16), np.uint8)
BLOCKS[4:12, 3:13] = 255


def test_in_labels_stored_as_jpeg_the_numbers_that_values_does_not_name_count_too(masks):
    noisy = masks(BLOCKS, "jpg", "values: {255: 1}", "nearest: True", quality=60)
    assert np.array_equal(noisy, BLOCKS > 0)
    three = masks(np.array([[0, 1, 2, 255] * 4] * 16, np.uint8), "png", "stone 1 1 1", "values: {255: 2}", "nearest: True")
    assert three[0, :4].tolist() == [0, 1, 1, 2]  # 2 is no number of the files


def test_labels_stored_as_jpeg_are_refused_where_their_numbers_cannot_be_told_apart(masks, tmp_path):
    for lines in (["values: {255: 1}"], []):
        with pytest.raises(Error, match=r"x.jpg is a JPEG.*add the line 'nearest: True' in .*set.txt"):
            masks(BLOCKS, "jpg", *lines)
    with pytest.raises(Error, match="x.jpg is a JPEG"):  # 0 and the third class, 2
        masks(BLOCKS, "jpg", "stone 1 1 1", "values: {255: 1}", "nearest: True")
    with pytest.raises(Error, match=r"set.txt: 'nearest' says that.* such as values: \{255: 1\}"):
        masks(BLOCKS, "png", "nearest: True")


def test_labels_in_colours_name_the_line_that_reads_them(masks):
    rgb = np.stack([BLOCKS, BLOCKS * 0, BLOCKS * 0], -1)
    with pytest.raises(Error, match=r"labels/x.png is in colours \(RGB\).*add the line 'colours: True' in .*set.txt"):
        masks(rgb, "png")
    assert np.array_equal(masks(rgb, "png", "colours: True"), BLOCKS > 0)
    with pytest.raises(Error, match=r"no class: 255 1 0 .*add the line 'nearest: True' in .*set.txt"):
        masks(rgb + np.array([0, 1, 0], np.uint8) * (rgb[:, :, :1] > 0), "png", "colours: True")


def test_all_files_of_a_list_are_looked_for_at_once(tmp_path):
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    for i in range(5):
        colour(tmp_path / f"images/{i}.png", (4, 4))
        colour(tmp_path / f"labels/{i}.png", (4, 4))
    (tmp_path / "train.txt").write_text("0\n1\nimages/2.png labels/2.png\n3\n4\n")
    (tmp_path / "set.txt").write_text("a\nb\n")
    made = source(dataset=str(tmp_path / "set.txt"), split="train")
    made.check_files()
    (tmp_path / "labels/2.png").unlink()
    (tmp_path / "labels/4.png").unlink()
    (tmp_path / "images/3.png").unlink()
    with pytest.raises(Error, match=r"^[^;]*: image \S*images/3.* is not there; 2 labels are not there, such as "
                       r"\S*labels/2.png; the line 'images: FOLDER' in \S*set.txt says where images are, train.txt"):
        source(dataset=str(tmp_path / "set.txt"), split="train").check_files()
