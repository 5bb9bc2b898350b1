"""`data check` of trees in 38-Cloud's layout: each thing that is wrong is named, and nothing else."""

import re

import numpy as np
import pytest
from clouds import scene, tiff
from PIL import Image

from netspec.cli.main import main

A, B = "LC08_L1TP_003052_20160120_20170405_01_T1", "LC08_L1TP_041016_20160120_20170324_01_T1"
FIRST = f"patch_1_1_by_1_{A}"


@pytest.fixture
def root(tmp_path):
    place = tmp_path / "38cloud"
    scene(place, A, (500, 600), "training")
    scene(place, B, (300, 384), "test")
    return place


def check(root, capsys, *options):
    status = main(["data", "check", str(root), "--jobs", "1", *options])
    out, err = capsys.readouterr()
    return status, out, err


def lines(out, heading):
    """What a kind of finding lists."""
    found = re.search(rf"^(?:error|warning): {re.escape(heading)}.*: \d+\n((?:  .*\n)*)", out, re.M)
    return [line.strip() for line in found[1].splitlines()] if found else []


def test_what_is_whole_has_no_finding(root, capsys):
    status, out, err = check(root, capsys)
    assert status == 0, out + err
    headings = re.findall(r"^(error|warning): ([^:]*)", out, re.M)
    assert headings == [("warning", "a mean far from the one that is subtracted")]  # none is published
    table = {line.split()[0]: line for line in out.splitlines() if line.startswith(("training", "test"))}
    assert re.search(r"training +4 +4 +384x384", table["training"]) and re.search(r"test +1 +1 +384x384", table["test"])


def spoil(root, what):
    train, test = root / "38-Cloud_training", root / "38-Cloud_test"
    band, gt = train / f"train_nir/nir_{FIRST}.TIF", train / f"train_gt/gt_{FIRST}.TIF"
    truth, names = test / f"Entire_scene_gts/edited_corrected_gts_{B}.TIF", train / "training_patches_38-Cloud.csv"
    if what == "band":
        band.unlink()
    elif what == "bytes":
        tiff(band, np.zeros((384, 384), np.uint8))
    elif what == "side":
        for other in ("red", "green", "blue", "nir", "gt"):
            path = train / f"train_{other}/{other}_{FIRST}.TIF"
            tiff(path, np.asarray(Image.open(path))[:380])
    elif what == "one":
        tiff(gt, np.asarray(Image.open(gt)) // 255)
    elif what == "grey":
        mask = np.array(Image.open(gt))
        mask[:2, :3] = 128
        tiff(gt, mask)
    elif what == "name":
        for other in ("red", "green", "blue", "nir", "gt"):
            (train / f"train_{other}/{other}_{FIRST}.TIF").rename(train / f"train_{other}/{other}_patch_1_1_{A}.TIF")
        names.write_text(names.read_text().replace(FIRST, f"patch_1_1_{A}"))
    elif what == "number":
        for other in ("red", "green", "blue", "nir", "gt"):
            (train / f"train_{other}/{other}_{FIRST}.TIF").rename(train / f"train_{other}/{other}_patch_7_1_by_1_{A}.TIF")
        names.write_text(names.read_text().replace(FIRST, f"patch_7_1_by_1_{A}"))
    elif what == "unlisted":
        names.write_text(names.read_text().replace(FIRST + "\n", ""))
    elif what == "truth":
        truth.unlink()
    elif what == "scene":
        tiff(truth, 255 * np.asarray(Image.open(truth)))


HEADINGS = {"band": "files that are not there", "bytes": "bands of another depth", "side": "patches of another size",
            "one": "labels outside the classes", "grey": "labels outside the classes", "name": "patches whose names tell no place",
            "number": "patches whose names tell no place", "unlisted": "scenes with patches missing", "truth": "files that are not there",
            "scene": "truths of scenes that cannot be scored"}


@pytest.mark.parametrize(("what", "said", "status"), [
    ("band", rf".*nir_{FIRST}\.TIF", 1), ("bytes", rf".*nir_{FIRST}\.TIF has pixels of kind L, expected 16 bits \(I;16\)", 1),
    ("side", rf".*blue_{FIRST}\.TIF is 384x380, expected 384x384", 1),
    ("one", rf".*gt_{FIRST}\.TIF: \d+ of 147456 values are 1; in a patch cloud is 255 \(1 in the truth of a scene\)", 1),
    ("grey", rf".*gt_{FIRST}\.TIF: 6 of 147456 label values are not whole numbers from 0 to 1: 128 \(6 times\)", 1),
    ("name", r"'patch_1_1_LC08.*' is no name of a patch", 0),
    ("number", rf"scene {A}: the numbers of its patches contradict their rows and columns", 0),
    ("unlisted", rf"scene {A} lacks 1 of 4 patches: 1_by_1", 0),
    ("truth", rf".*edited_corrected_gts_{B}\.TIF", 1),
    ("scene", rf".*edited_corrected_gts_{B}\.TIF: 0 is clear and 1 cloud, found 255 \(\d+ times\)", 1)])
def test_what_is_wrong_is_named(root, capsys, what, said, status):
    spoil(root, what)
    found, out, err = check(root, capsys)
    assert re.match(said, lines(out, HEADINGS[what])[0]), out
    assert found == status, out + err


def test_a_split_without_labels_has_a_sheet_and_no_balance(root, tmp_path, capsys):
    (root / "38-Cloud_training").rename(tmp_path / "away")
    status, out, err = check(root, capsys, "--sheet", str(tmp_path / "sheet.png"))
    assert status == 0 and Image.open(tmp_path / "sheet.png").width > 200, out + err
    status, out, err = check(root, capsys, "--balance", str(tmp_path / "b.binaryproto"))
    assert (status, out) == (2, "") and "--balance weighs the classes of labels, and split 'test' has none" in err


def test_lists_of_patches_that_are_not_empty(root, capsys):
    folder = root / "38-Cloud_training"
    names = (folder / "training_patches_38-Cloud.csv").read_text().split()[1:]
    dark = names[0]
    for band in ("red", "green", "blue", "nir"):
        pixels = np.zeros((384, 384), np.uint16)
        pixels[:70] = 9000  # less than a fifth
        tiff(folder / f"train_{band}/{band}_{dark}.TIF", pixels)
    given = folder / "training_patches_38-cloud_nonempty.csv"
    given.write_text("\n".join(["name", *names[1:]]) + "\n")
    (folder / "training_sceneids_38-Cloud.csv").write_text(f"name\n{A}\n")
    assert not lines(check(root, capsys)[1], "lists of patches")
    given.write_text("\n".join(["name", *names[:-1], names[-1].replace("_2_by_2_", "_3_by_2_")]) + "\n")
    status, out, _ = check(root, capsys)
    assert status == 0 and lines(out, "lists of patches") == [
        f"{given}: of split 'training' there is no {names[-1].replace('_2_by_2_', '_3_by_2_')}",
        f"{given} has patches of which 80% or more is black: {dark}", f"{given} lacks patches of which less than 80% is: {names[-1]}"]


def test_a_share_of_the_patches_lacks_none_and_a_folder_is_looked_at_once(root, tmp_path, capsys):
    folder = root / "38-Cloud_training"
    (folder / "training_patches_38-cloud_nonempty.csv").write_text((folder / "training_patches_38-Cloud.csv").read_text())
    for split, count in (("train", 3), ("val", 1)):
        net = tmp_path / f"{split}.prototxt"
        net.write_text(f"""layer {{ name: "data" type: "Python" top: "data" top: "label" python_param {{
            module: "netspec.datasets" layer: "SegmentationData"
            param_str: "{{'dataset': '38cloud', 'root': '{root}', 'split': '{split}'}}" }} }}""")
        status, out, err = check(net, capsys)
        assert status == 0 and re.search(rf"^{split} +{count} +{count} ", out, re.M), out + err
        assert "lacks" not in out and "there is no" not in out
    out = check(root, capsys)[1]
    assert re.search(r"^training +4 +4 ", out, re.M) and not re.search(r"^(train|val) ", out, re.M)


def test_black_patches_are_not_doubles(root, capsys):
    folder = root / "38-Cloud_training"
    names = (folder / "training_patches_38-Cloud.csv").read_text().split()[1:]
    for name in names[:2]:
        for band in ("red", "green", "blue", "nir"):
            tiff(folder / f"train_{band}/{band}_{name}.TIF", np.zeros((384, 384), np.uint16))
    _, out, _ = check(root, capsys)
    assert len(lines(out, "images of one colour")) == 2 and not lines(out, "images more than once")


def test_95cloud(tmp_path, capsys):
    scene(tmp_path / "95cloud", A, (300, 384), "training")
    new = tmp_path / "95cloud/95-cloud_training_only_additional_to38-cloud"
    (tmp_path / "95cloud/38-Cloud_training").rename(new)
    for band in ("red", "green", "blue", "nir", "gt"):
        (new / f"train_{band}").rename(new / f"train_{band}_additional_to38cloud")
    (new / "training_patches_38-Cloud.csv").rename(new / "training_patches_95-cloud_additional_to_38-cloud.csv")
    status, out, err = check(tmp_path / "95cloud", capsys)
    assert status == 0 and re.search(r"^additional +1 +1 +384x384", out, re.M), out + err
    (new / f"train_red_additional_to38cloud/red_{FIRST}.TIF").unlink()
    status, out, _ = check(tmp_path / "95cloud", capsys)
    assert status == 1 and f"red_{FIRST}.TIF" in lines(out, "files that are not there")[0]
