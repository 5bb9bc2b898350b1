"""The generated data set: same bytes every time, whole or not at all, and made for finer strides to win."""

import hashlib
import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from netspec.base.metrics import Scores, confusion
from netspec.data.boxes import Boxes
from netspec.data.boxes import layout as layout_of_boxes
from netspec.data.layouts import facts
from netspec.data.tree import Tree
from netspec.data.windows import WindowData
from netspec.ops.base import Context
from netspec.proto import text as prototext
from netspec.proto.caffe_pb2 import LayerParameter

SCRIPT = Path(__file__).resolve().parents[2] / "data" / "shapes" / "prepare.py"
SMALL = ["--train", "3", "--val", "2", "--size", "64x48"]


@pytest.fixture(scope="module")
def prepare():
    spec = importlib.util.spec_from_file_location("shapes_prepare", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def labels(folder):
    return {p.stem: np.asarray(Image.open(p)) for p in (folder / "SegmentationClass").iterdir()}


def test_layout_and_labels(prepare, tmp_path):
    root = tmp_path / "set"
    assert prepare.main(["--root", str(root), "--train", "12", "--val", "2"]) == 0
    train = (root / "ImageSets/Segmentation/train.txt").read_text().split()
    val = (root / "ImageSets/Segmentation/val.txt").read_text().split()
    assert (len(train), len(val)) == (12, 2) and not set(train) & set(val)
    assert {p.stem for p in (root / "JPEGImages").iterdir()} == set(train + val)
    truth = labels(root)
    assert truth.keys() == set(train + val)
    assert {t.shape for t in truth.values()} == {(96, 128)}
    assert set(np.unique(np.stack(list(truth.values())))) == {0, 1, 2, 3, 4, 255}
    picture = Image.open(root / "SegmentationClass" / f"{train[0]}.png")
    assert np.array_equal(np.array(picture.getpalette()[:15]).reshape(5, 3), facts("shapes").palette)
    assert not list(tmp_path.glob(".*"))  # no scratch folder left


def test_pictures_and_labels_are_those_of_the_first_version(prepare):
    """All figures in the pages were measured on them."""
    pictures, truth = hashlib.sha256(), hashlib.sha256()
    for part, number in ((0, 0), (0, 7), (1, 3)):
        image, label, _ = prepare.scene(np.random.default_rng([0, part, number]), (128, 96))
        pictures.update(image.tobytes())
        truth.update(label.tobytes())
    assert pictures.hexdigest() == "db984206b097d93b3561980a810ff8dbf9a7ef9a3d754c8bdf4a4187538e4700"
    assert truth.hexdigest() == "679798bb215d191c8c5da4fff9dc8f3e90eea6844ba27a881b8bb2a5d73f85a9"


def test_boxes_are_around_what_is_to_be_seen(prepare, tmp_path):
    root = tmp_path / "set"
    prepare.main(["--root", str(root), "--train", "12", "--val", "2"])
    boxes = Boxes(Tree("shapes", layout_of_boxes("shapes"), root, {}, None))
    for split in ("train", "val"):
        for entry in boxes.entries(split):
            record, truth = boxes.read(*entry), np.asarray(Image.open(root / f"SegmentationClass/{entry[2]}.png"))
            assert record.size == (128, 96) and 1 <= len(record.boxes) <= 3
            inside = np.zeros_like(truth, bool)
            for (x1, y1, x2, y2), label in zip(record.boxes.astype(int), record.classes, strict=True):
                cut = truth[y1 : y2 + 1, x1 : x2 + 1] == label
                assert cut[0].any() and cut[-1].any() and cut[:, 0].any() and cut[:, -1].any()
                inside[y1 : y2 + 1, x1 : x2 + 1] = True
            assert not ((truth > 0) & (truth < 255) & ~inside).any()  # each labelled pixel is in a box


def test_windows_have_the_class_of_the_shape_that_they_lie_around(prepare, tmp_path):
    """Read as Caffe reads them, and held against the boxes."""
    root = tmp_path / "set"
    prepare.main(["--root", str(root), "--train", "12", "--val", "2"])
    layer = prototext.parse(f"""name: "w" type: "WindowData" top: "data" top: "label" transform_param {{ crop_size: 48 }}
        window_data_param {{ source: "{root}/ImageSets/Windows/train.txt" root_folder: "../../JPEGImages/" batch_size: 10
                             bg_threshold: 0.3 fg_fraction: 0.8 }}""", LayerParameter)
    windows = WindowData(layer, [], Context())
    windows.setup()
    assert windows.images == [f"train_{i:04d}.jpg" for i in range(12)] and not list(windows.gone())
    boxes = Boxes(Tree("shapes", layout_of_boxes("shapes"), root, {}, None))
    records, counts = [boxes.read(*entry) for entry in boxes.entries("train")], [0] * 12
    for kind in windows.kinds:
        for image, label, _, x1, y1, x2, y2 in kind.tolist():
            assert x2 - x1 == y2 - y1 >= 23 and x1 >= 0 and y1 >= 0 and x2 < 128 and y2 < 96
            counts[int(image)] += 1
            record = records[int(image)]
            middles = (record.boxes[record.classes == label].reshape(-1, 2, 2).sum(1) / 2).tolist()
            assert label == 0 or any(x1 <= x <= x2 and y1 <= y <= y2 for x, y in middles)
    assert min(counts) >= 6 and windows.load(0)[1].tolist()[:2] == [0, 0] and (windows.load(0)[1][2:] > 0).all()


def test_a_covered_shape_is_difficult_and_a_hidden_one_has_no_box(prepare):
    whole = np.zeros((20, 30), bool)
    whole[5:15, 5:15] = True
    seen = whole.copy()
    assert prepare.box(2, whole, seen) == (2, (5, 5, 14, 14), False, False)
    seen[:, 8:] = False
    assert prepare.box(2, whole, seen) == (2, (5, 5, 7, 14), True, False)
    seen[:, 7:] = False
    assert prepare.box(2, whole, seen) == (2, (5, 5, 6, 14), True, True)
    whole[0] = True
    assert prepare.box(2, whole, whole).truncated


def test_same_settings_give_same_bytes(prepare, tmp_path):
    for name in ("a", "b"):
        prepare.main(["--root", str(tmp_path / name), *SMALL])
    prepare.main(["--root", str(tmp_path / "c"), *SMALL, "--seed", "1"])
    a, b, c = (contents(tmp_path / name) for name in "abc")
    assert a == b
    assert a["JPEGImages/train_0000.jpg"] != c["JPEGImages/train_0000.jpg"]


def test_an_image_does_not_depend_on_how_many_there_are(prepare, tmp_path):
    prepare.main(["--root", str(tmp_path / "a"), *SMALL])
    prepare.main(["--root", str(tmp_path / "b"), "--train", "2", "--val", "2", "--size", "64x48"])
    a, b = contents(tmp_path / "a"), contents(tmp_path / "b")
    assert all(a[name] == b[name] for name in b if name.endswith(("jpg", "png")))


def test_second_run_does_nothing_and_other_settings_replace(prepare, tmp_path, capsys):
    root = tmp_path / "set"
    prepare.main(["--root", str(root), *SMALL])
    before = {p: p.stat().st_mtime_ns for p in root.rglob("*")}
    prepare.main(["--root", str(root), *SMALL])
    assert "already there" in capsys.readouterr().out
    assert {p: p.stat().st_mtime_ns for p in root.rglob("*")} == before
    prepare.main(["--root", str(root), "--train", "1", "--val", "1", "--size", "64x48"])
    assert len(list((root / "JPEGImages").iterdir())) == 2


def test_a_foreign_folder_is_left_alone(prepare, tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "holiday.jpg").write_bytes(b"x")
    assert prepare.main(["--root", str(tmp_path / "photos"), *SMALL]) == 2
    assert "photos" in capsys.readouterr().err
    assert contents(tmp_path / "photos") == {"holiday.jpg": b"x"}


@pytest.mark.parametrize("options", [["--size", "64"], ["--size", "8x8"], ["--train", "0"], ["--seed", "-1"]])
def test_senseless_options_are_refused(prepare, tmp_path, options):
    with pytest.raises(SystemExit) as stop:
        prepare.main(["--root", str(tmp_path / "set"), *options])
    assert stop.value.code == 2


def test_killed_run_leaves_nothing_under_the_final_name(prepare, tmp_path):
    root = tmp_path / "set"
    run = subprocess.Popen([sys.executable, SCRIPT, "--root", root, "--train", "5000"], stdout=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 30
        while not list(tmp_path.glob(".set.*/new/JPEGImages/*.jpg")):
            assert run.poll() is None and time.monotonic() < end
            time.sleep(0.02)
    finally:
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
    assert not root.exists()
    assert prepare.main(["--root", str(root), *SMALL]) == 0
    assert len(labels(root)) == 5


def test_finer_strides_can_draw_more_of_it(prepare, tmp_path):
    """The truth averaged over cells of the stride, enlarged bilinearly: mean IU rises as the stride falls."""
    prepare.main(["--root", str(tmp_path / "set"), "--train", "20", "--val", "1"])
    found = {}
    for stride in (8, 16, 32):
        hist = np.zeros((5, 5), np.int64)
        for truth in labels(tmp_path / "set").values():
            parts = []
            for k in range(5):
                part = Image.fromarray((truth == k).astype(np.float32))
                small = part.resize((128 // stride, 96 // stride), Image.Resampling.BOX)
                parts.append(np.asarray(small.resize((128, 96), Image.Resampling.BILINEAR)))
            hist += confusion(truth, np.argmax(parts, axis=0), 5)
        found[stride] = Scores.from_histogram(hist).mean_iu
    assert found[32] + 0.1 < found[16] < found[8] - 0.1
    assert found[32] > 0.25
