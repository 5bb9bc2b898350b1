"""The check of a data set: each fault planted in a small tree is found and named, and nothing else is."""

import argparse
import json
import os
import re
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from netspec.base.errors import Error, count
from netspec.base.processes import START
from netspec.check import contact
from netspec.cli.data import add_check_arguments as add_arguments
from netspec.cli.data import check_data as run
from netspec.data import tree
from netspec.data.balance import weights
from netspec.data.layouts import facts
from netspec.proto.model import read_mean

CLASSES, VOID = 11, 11


def draw(rng, size=(12, 10), values=range(CLASSES + 1)):
    """An image around CamVid's mean, and a label with all classes."""
    image = rng.normal(107, 10, (*size, 3)).clip(0, 255).astype(np.uint8)
    label = np.resize(np.array([*values], np.uint8), size)
    return image, label


@pytest.fixture
def camvid(tmp_path):
    """A sound tree in CamVid's layout: camvid/train with t0 .. t5, camvid/val with v0 .. v3; its root."""
    rng = np.random.default_rng(0)
    root = tmp_path / "camvid"
    for split, many in (("train", 6), ("val", 4)):
        for folder in (split, f"{split}annot"):
            (root / folder).mkdir(parents=True)
        names = [f"{split[0]}{i}" for i in range(many)]
        for name in names:
            put(root, split, name, *draw(rng))
        (root / f"{split}.txt").write_text("\n".join(names) + "\n")
    return root


def put(root, split, name, image=None, label=None):
    for folder, pixels in ((split, image), (f"{split}annot", label)):
        if pixels is not None:
            Image.fromarray(pixels).save(root / folder / f"{name}.png")


def check(*args):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return run(parser.parse_args(["--jobs", "2", *map(str, args)]))


def net(path, **options):
    param = str(dict(dataset="camvid", **options)).replace('"', "'")
    path.write_text(f'layer {{ name: "data" type: "Python" top: "data" top: "label" python_param {{ '
                    f'module: "netspec.datasets" layer: "SegmentationData" param_str: "{param}" }} }}\n')
    return path


def test_a_sound_data_set(camvid, capsys):
    assert check(camvid) == 0
    said = capsys.readouterr().out
    assert "0 errors, on which training would break; 0 warnings" in said and "error:" not in said
    rows = {line.split()[0]: line.split() for line in said.splitlines() if line}
    assert rows["train"][1:4] == ["6", "6", "10x12"] and rows["val"][1:4] == ["4", "4", "10x12"]
    assert rows["Road"][1:] == ["8.333", "6", "8.333", "4", "1.0000"]  # the 12 values come in turn
    assert rows["(void)"][1:] == ["8.333", "6", "8.333", "4", "-"]


def test_weights_are_the_median_frequency_by_the_frequency():
    """Worked by hand: class 0 has 30 of 100 + 100 pixels, class 1 60 of 100, class 2 none, class 3 20 of 100 + 100."""
    pixels, total = np.array([[10, 60, 0, 10], [20, 0, 0, 10]]), np.array([100, 100])
    found = weights(pixels, total)
    np.testing.assert_allclose(found[[0, 1, 3]], 0.15 / np.array([0.15, 0.6, 0.1]))
    assert np.isnan(found[2])
    assert np.isnan(weights(np.zeros((2, 4)), total)).all()


def test_the_balance_is_the_matrix_that_infogain_reads(camvid, tmp_path):
    for i in range(6):
        put(camvid, "train", f"t{i}", label=draw(np.random.default_rng(1), values=[0, 0, 0, 1, 2, VOID])[1])
    assert check(camvid, "--balance", tmp_path / "new/camvid.binaryproto") == 0
    matrix = read_mean(tmp_path / "new/camvid.binaryproto")
    np.testing.assert_allclose(np.diag(matrix.reshape(CLASSES, CLASSES)), [1 / 3, 1, 1, *[1] * 8], rtol=1e-6)
    assert matrix.shape == (1, 1, CLASSES, CLASSES) and np.count_nonzero(matrix) == CLASSES
    assert check(camvid, "--balance", tmp_path / "mild.binaryproto", "--power", "0.5") == 0
    np.testing.assert_allclose(read_mean(tmp_path / "mild.binaryproto"), matrix**0.5, rtol=1e-6)


@pytest.mark.parametrize(("classes", "ignored", "said", "status"), [
    (11, "ignore_label: 11", "0 errors, on which training would break; 0 warnings", 0),
    (10, "ignore_label: 11", r"error: losses that do not fit the labels: 1\n.*'loss' has 10 classes, .* 11$", 1),
    (12, "ignore_label: 11", r"warning: losses that labels fit, but not exactly: 1\n.*'loss' has 12 classes", 0),
    (11, "ignore_label: 255", r"error: losses that do not fit.*\n.*'loss' has ignore_label 255, in the labels .* void is 11$", 1),
    (11, "", "'loss' has ignore_label None", 1),
])
def test_the_loss_fits_the_labels(camvid, tmp_path, capsys, classes, ignored, said, status):
    with open(net(tmp_path / "train.prototxt", root="camvid", split="train"), "a") as file:
        file.write(f"""layer {{ name: "score" type: "Convolution" bottom: "data" top: "score"
            convolution_param {{ num_output: {classes} kernel_size: 1 }} }}
            layer {{ name: "some" type: "Python" bottom: "label" top: "some" python_param {{
            module: "netspec.sampling" layer: "LossSampling" param_str: "{{'void': 11}}" }} }}
            layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "some" top: "loss"
            loss_param {{ {ignored} }} }}""")
    assert check(tmp_path / "train.prototxt") == status
    out = capsys.readouterr().out
    assert re.search(said, out, re.MULTILINE) and "is not checked" not in out


def test_a_net_that_cannot_be_built_is_said_and_its_data_are_checked(camvid, tmp_path, capsys):
    with open(net(tmp_path / "train.prototxt", root="camvid", split="train"), "a") as file:
        file.write('layer { name: "loss" type: "SoftmaxWithLoss" bottom: "scores" bottom: "label" top: "loss" }')
    assert check(tmp_path / "train.prototxt") == 0
    said = capsys.readouterr().out
    assert "the losses of a net that cannot be built are not checked" in said and "'scores'" in said and "train" in said


def test_a_net_may_read_the_balance_that_is_written(camvid, tmp_path, capsys):
    with open(net(tmp_path / "train.prototxt", root="camvid", split="train"), "a") as file:
        file.write('layer { name: "score" type: "Convolution" bottom: "data" top: "score" convolution_param { num_output: 10 '
                   'kernel_size: 1 } } layer { name: "loss" type: "InfogainLoss" bottom: "score" bottom: "label" top: "loss" '
                   'infogain_loss_param { source: "new.binaryproto" } loss_param { ignore_label: 11 } }')
    assert check(tmp_path / "train.prototxt", "--balance", tmp_path / "new.binaryproto") == 0
    said = capsys.readouterr().out
    assert "needs a matrix of 10 x 10 for 10 classes, found [1, 1, 11, 11]" in said


def test_a_balance_that_cannot_be_written_loses_nothing_else(camvid, capsys):
    with pytest.raises(OSError):
        check(camvid, "--balance", "/proc/none/x.binaryproto")
    assert "train" in capsys.readouterr().out


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def stray(root):
    label = draw(np.random.default_rng(1))[1]
    label[0, :3] = 200
    put(root, "train", "t2", label=label)


FAULTS = {  # name -> (what to do to the tree, what is said, whether training would break)
    "image gone": (lambda r: (r / "train/t1.png").unlink(), r"files that are not there: 1\n  \S*train/t1.png$", 1),
    "label gone": (lambda r: (r / "valannot/v1.png").unlink(), r"files that are not there: 1\n  \S*valannot/v1.png$", 1),
    "image cut off": (lambda r: cut(r / "train/t1.png"), r"files that cannot be read: 1\n  image \S*train/t1.png cannot", 1),
    "label cut off": (lambda r: cut(r / "trainannot/t1.png"), r"files that cannot be read: 1\n  \S* ?\S*trainannot/t1.png", 1),
    "no image": (lambda r: (r / "train/t1.png").write_text("x"), r"files that cannot be read: 1\n  \S*t1.png is no image", 1),
    "colours": (lambda r: put(r, "train", "t2", label=draw(np.random.default_rng(1))[0]),
                r"labels that cannot be taken for classes: 1\n  label \S*trainannot/t2.png", 1),
    "stray": (stray, r"labels outside the classes \(.* JPEG\): 1\n  \S*annot/t2.png: 3 of 120 label .* 200 \(3 times\)$", 1),
    "sizes": (lambda r: put(r, "train", "t2", draw(np.random.default_rng(1), (12, 13))[0]),
              r"images and labels that differ in size: 1\n  \S*train/t2.png is 13x12, \S*trainannot/t2.png is 10x12$", 1),
    "void": (lambda r: put(r, "train", "t2", label=np.full((12, 10), VOID, np.uint8)),
             r"labels that are void all over: 1\n  \S*trainannot/t2.png$", 0),
    "blank": (lambda r: put(r, "train", "t2", np.full((12, 10, 3), 107, np.uint8)),
              r"images of one colour all over: 1\n  \S*train/t2.png$", 0),
    "shared": (lambda r: (r / "val/v1.png").write_bytes((r / "train/t3.png").read_bytes()),
               r"images in two splits, equal in every pixel: 1\n  train t3 = val v1$", 0),
    "twice": (lambda r: (r / "train/t1.png").write_bytes((r / "train/t3.png").read_bytes()),
              r"images more than once in a split, equal in every pixel: 1\n  train: t1, t3$", 0),
    "names": (lambda r: [put(r, "val", "t3", *draw(np.random.default_rng(1))), (r / "val.txt").write_text("v0\nv1\nt3\n")],
              r"names in two splits, for different images: 1\n  train, val: t3$", 0),
    "absent": (lambda r: [put(r, "val", f"v{i}", label=draw(np.random.default_rng(1), values=[*range(9), 10, 11])[1])
                          for i in range(4)], r"classes that never occur: 1\n  val: Pedestrian$", 0),
    "mean": (lambda r: [put(r, "train", f"t{i}", draw(np.random.default_rng(i))[0] // 2) for i in range(6)],
             r"a mean far from the one that is subtracted: 1\n  train: 5\d.*, used: 110.3", 0),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_found(camvid, capsys, tmp_path, fault):
    plant, words, breaks = FAULTS[fault]
    plant(camvid)
    assert check(camvid, "--sheet", tmp_path / "sheet.png") == breaks
    said = capsys.readouterr().out
    assert re.search(("error: " if breaks else "warning: ") + words, said, re.MULTILINE), said
    assert f"{count(breaks, 'error')}, on which training would break; {count(1 - breaks, 'warning')}" in said
    marked = (np.asarray(Image.open(tmp_path / "sheet.png")) == contact.MARK).all(2).sum()
    alone = fault in ("shared", "twice", "names", "absent", "mean")  # of no one image
    assert (marked > 1000) is not alone


def test_json_has_the_findings_and_the_numbers_of_the_tables(camvid, capsys, tmp_path):
    for fault in ("image gone", "void", "absent"):
        FAULTS[fault][0](camvid)
    assert check(camvid, "--json", "--sheet", tmp_path / "sheet.png", "--balance", tmp_path / "b.binaryproto") == 1
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert err.endswith(f"wrote {tmp_path}/b.binaryproto\nwrote {tmp_path}/sheet.png\n") and list(told) == ["splits", "classes", "notes", "findings"]
    assert [(each["kind"], each["level"]) for each in told["findings"]] == [("missing", "error"), ("void", "warning"), ("absent", "warning")]
    assert told["findings"][0]["what"] == "files that are not there" and told["findings"][0]["where"].endswith("train/t1.png")
    train, val = told["splits"]
    assert [train[what] for what in ("split", "images", "read", "sizes")] == ["train", 6, 5, [[10, 12]] * 2] and len(train["mean"]) == len(val["mean_used"]) == 3
    (classes,) = told["classes"].values()
    assert [each["name"] for each in classes][3::8] == ["Road", "(void)"] and classes[-1]["weight"] is None
    assert classes[-1]["splits"] == {"train": {"pixels": 170, "share": pytest.approx(170 / 720), "images": 6}, "val": {"pixels": 40, "share": pytest.approx(40 / 480), "images": 4}}
    assert check(camvid) == 1
    text = capsys.readouterr().out
    road = next(line for line in text.splitlines() if line.startswith("Road ")).split()[1:]
    numbers = [number for part in classes[3]["splits"].values() for number in (f"{100 * part['share']:.3f}", str(part["images"]))]
    assert road == [*numbers, f"{classes[3]['weight']:.4f}"]


def test_many_findings_are_cut_off_unless_all_are_wanted(camvid, capsys):
    (camvid / "train.txt").write_text("\n".join(f"no{i}" for i in range(30)) + "\nt0\n")
    assert check(camvid) == 1
    said = capsys.readouterr().out
    assert "files that are not there: 60\n" in said and said.count("/no") == 10 and "... and 50 more (--all lists them)" in said
    assert check(camvid, "--all") == 1
    assert capsys.readouterr().out.count("/no") == 60


def test_a_data_set_file_of_colours_and_an_image_that_two_splits_lack(tmp_path, capsys):
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    pixels = np.zeros((4, 5, 3), np.uint8)
    pixels[:2] = 0, 0, 255
    for name in "ab":
        Image.fromarray(draw(np.random.default_rng(ord(name)), (4, 5))[0]).save(tmp_path / f"images/{name}.png")
        Image.fromarray(pixels).save(tmp_path / f"labels/{name}.png")
    (tmp_path / "own.txt").write_text("land 0 0 0\nsea 0 0 255\ncolours: True\n")
    assert check(tmp_path / "own.txt", "--sheet", tmp_path / "sheet.png") == 0
    said = capsys.readouterr().out
    assert re.search(r"^all +2 +2 +5x4", said, re.MULTILINE) and re.search(r"^sea +50.000 +2 +1.0000$", said, re.MULTILINE)
    pixels[0, 0] = 9, 9, 9
    Image.fromarray(pixels).save(tmp_path / "labels/b.png")
    for split, names in (("train", "a gone"), ("val", "b gone")):
        (tmp_path / f"{split}.txt").write_text("\n".join(names.split()))
    assert check(tmp_path / "own.txt") == 1
    said = capsys.readouterr().out
    assert "error: labels that cannot be taken for classes: 1\n" in said and "are no class: 9 9 9 (1 times)" in said
    assert "error: files that are not there: 4\n" in said and "equal in every pixel" not in said
    assert "warning: names in two splits, for different images: 1\n  train, val: gone\n" in said


def test_nets_and_solvers(camvid, capsys, tmp_path):
    (tmp_path / "solver.prototxt").write_text('train_net: "train.prototxt" test_net: "val.prototxt" test_net: "val.prototxt"\n'
                                              "test_iter: 4 test_iter: 4 test_interval: 10 base_lr: 1")
    net(tmp_path / "train.prototxt", root="camvid", split="train", mean=(107, 107, 108))
    with open(net(tmp_path / "val.prototxt", root="camvid", split="val"), "a") as file:
        file.write('layer { name: "more" type: "ImageData" top: "x" top: "y" image_data_param { source: "l" batch_size: 1 } }')
    assert check(tmp_path / "train.prototxt") == 0
    said = capsys.readouterr().out
    assert "val" not in said and "107.0, 107.0, 108.0" in said
    assert check(tmp_path / "solver.prototxt") == 0
    said = capsys.readouterr().out
    assert len(re.findall(r"^(?:train|val) +\d", said, re.MULTILINE)) == 2  # a net that comes twice is checked once
    assert "layer 'more' (ImageData) is not checked" in said
    net(tmp_path / "other.prototxt", root="camvid", split="train", list="val.txt")
    (tmp_path / "solver.prototxt").write_text('train_net: "train.prototxt" test_net: "other.prototxt" test_iter: 4 '
                                              "test_interval: 10 base_lr: 1")
    assert check(tmp_path / "solver.prototxt") == 1  # val's names are not in train's folder
    assert {"train 1", "train 2"} <= set(re.findall(r"^train \d", capsys.readouterr().out, re.MULTILINE))
    (tmp_path / "none.prototxt").write_text('layer { name: "x" type: "Input" top: "x" }')
    with pytest.raises(Error, match=r"none.prototxt: has no layer of SegmentationData or DetectionData, whose images and "
                                    r"labels or box files could be checked$"):
        check(tmp_path / "none.prototxt")
    with pytest.raises(Error, match=r"has no layer of DetectionData, whose images and box files could be checked$"):
        check(tmp_path / "other.prototxt", "--boxes")
    with pytest.raises(Error, match="name its data set by --dataset .*camvid"):
        check(tmp_path)
    with pytest.raises(Error, match="'nowhere' is not there"):
        check("nowhere")
    with pytest.raises(Error, match="--jobs"):
        check(camvid, "--jobs", "0")
    with pytest.raises(Error, match="--power from 0 to 2, found 2 and nan"):
        check(camvid, "--power", "nan")


@pytest.mark.skipif(START != "fork", reason="the planted death must reach the processes")
def test_a_process_that_dies_is_one_sentence(camvid, monkeypatch):
    monkeypatch.setattr(tree, "read_image", lambda *args: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(Error, match=r"a process that reads died, at \S*train/t0.png or soon after"):
        check(camvid)


def test_the_sheet_shows_what_the_labels_say(camvid, tmp_path):
    put(camvid, "train", "t0", np.zeros((12, 10, 3), np.uint8), np.full((12, 10), 3, np.uint8))
    check(camvid, "--sheet", tmp_path / "sheet.png")
    road = 0.7 * facts("camvid").palette[3]
    pixels = np.asarray(Image.open(tmp_path / "sheet.png")).astype(float)
    assert (np.abs(pixels - road).max(2) <= 1).sum() > 5000
    assert not list(Path(tmp_path).glob(".sheet*"))


def own(folder, masks, *lines):
    """A data set file of one's own with two classes and an image for each mask, half of them in val.txt."""
    for name in ("images", "labels"):
        (folder / name).mkdir()
    for i, mask in enumerate(masks):
        Image.fromarray(draw(np.random.default_rng(i), mask.shape)[0]).save(folder / f"images/{i}.png")
        Image.fromarray(mask).save(folder / f"labels/{i}.png")
    names = [str(i) for i in range(len(masks))]
    (folder / "train.txt").write_text("\n".join(names[::2]))
    (folder / "val.txt").write_text("\n".join(names[1::2]))
    (folder / "set.txt").write_text("\n".join(["ground", "crack", *lines]))
    return folder / "set.txt"


MASK = np.array([[0, 0, 255], [0, 255, 255]], np.uint8)


def test_a_class_that_the_training_labels_never_show_is_an_error_with_its_cure(tmp_path, capsys):
    """Masks of 0 and 255, of which 255 is void unless one says so: each pixel that counts is ground."""
    path = own(tmp_path, [MASK] * 4)
    assert check(path) == 1
    said = capsys.readouterr().out
    assert "error: classes that the training labels never show: 1" in said
    assert (f"class 'crack' (1) never occurs in the labels of 'train', which hold 0, 255 (void): if 255 is 'crack', add "
            f"the line 'values: {{255: 1}}' in {path}; or take it out") in said
    path.write_text(path.read_text() + "\nvalues: {255: 1}\n")
    check(path)
    assert "never show" not in capsys.readouterr().out


def test_a_class_that_only_the_validation_labels_lack_is_a_warning(tmp_path, capsys):
    path = own(tmp_path, [MASK // 255, MASK * 0])
    assert check(path) == 0
    assert "warning: classes that never occur: 1\n  val: crack" in capsys.readouterr().out


def test_a_list_that_is_trained_on_and_scored_is_an_error_told_as_solve_tells_it(tmp_path, capsys):
    path = own(tmp_path, [MASK // 255] * 2)
    (tmp_path / "val.txt").write_text("0\n")
    assert check(path) == 1
    assert "error: images of the training split in another one: 1\n  1 of the 1 image of 'val' are in 'train'" in (
        capsys.readouterr().out)
    (tmp_path / "val.txt").write_text("1\n")  # a copy under another name: drawn alike
    (tmp_path / "images/1.png").write_bytes((tmp_path / "images/0.png").read_bytes())
    assert check(path) == 1
    assert "error: images of the training split in another one: 1\n  train 0 = val 1\n" in capsys.readouterr().out


@pytest.mark.parametrize("dataset, words", [
    ("nyud", r"381 images are not there, such as \S*img_5449.png; .*data/nyud/README.md says how"),
    ("38cloud", r"no split of data set '38cloud' has a list there \(tried: train, .* test\); netspec data 38cloud gets it, .*data/38cloud/README.md says how"),
])
def test_a_data_set_of_which_nothing_is_there_is_one_sentence(tmp_path, dataset, words):
    (tmp_path / dataset).mkdir()
    with pytest.raises(Error, match=words):
        check(tmp_path / dataset, "--dataset", dataset)


def test_a_split_is_trained_on_by_its_name_or_by_the_solver(tmp_path, capsys):
    path = own(tmp_path, [MASK] * 4)
    (tmp_path / "train.txt").rename(tmp_path / "trainval.txt")
    assert check(path) == 1
    assert "class 'crack' (1) never occurs in the labels of 'trainval'" in capsys.readouterr().out
    (tmp_path / "trainval.txt").rename(tmp_path / "latest.txt")  # no "train" in it: the solver says so
    for split in ("latest", "val"):
        param = dict(dataset=str(path), split=split)
        (tmp_path / f"{split}.prototxt").write_text(
            'layer { name: "data" type: "Python" top: "data" top: "label" python_param { module: "netspec.datasets" '
            f'layer: "SegmentationData" param_str: "{param}" }} }}\n')
    (tmp_path / "solver.prototxt").write_text(
        f'train_net: "{tmp_path}/latest.prototxt" test_net: "{tmp_path}/val.prototxt" test_iter: 1 test_interval: 9 base_lr: 1')
    assert check(tmp_path / "solver.prototxt") == 1
    assert "never occurs in the labels of 'latest'" in capsys.readouterr().out
    check(tmp_path / "val.prototxt")
    assert "never show" not in capsys.readouterr().out
    for file in (tmp_path / "labels").iterdir():
        file.write_text("")
    assert check(path) == 1
    said = capsys.readouterr().out
    assert "files that cannot be read" in said and "never show" not in said
