"""A net over small scenes in 38-Cloud's layout: both protocols against arithmetic on whole scenes, and bad input."""

import json
import re

import numpy as np
import pytest
from clouds import scene, tiff
from PIL import Image

from netspec.cli.main import main
from netspec.data.patches import Grid
from netspec.data.resizing import cubic, shrunk
from netspec.proto.model import write_weights
from netspec.score.scenes import judged, mean

A, B = "LC08_L1TP_003052_20160120_20170405_01_T1", "LC08_L1TP_041016_20160120_20170324_01_T1"
SIZES = {A: (500, 600), B: (300, 384)}
NET = """name: "clouds"
layer {{ name: "data" type: "Python" top: "data" python_param {{ module: "netspec.datasets" layer: "SegmentationData"
  param_str: "{{'dataset': '38cloud', 'root': '{root}', 'split': 'test', 'batch_size': 2{more}}}" }} }}
layer {{ name: "score" type: "Convolution" bottom: "data" top: "{top}" convolution_param {{ num_output: {classes} kernel_size: 1 }} }}
{last}"""
SLOPE, BIAS = 0.06, -7.0  # of the score of cloud, over the red band in 0..255


@pytest.fixture
def tree(tmp_path):
    return {name: scene(tmp_path / "root", name, size) for name, size in SIZES.items()}


def net(folder, classes=2, last="", more="", top="score"):
    path, weights = folder / "val.prototxt", folder / "w.caffemodel"
    path.write_text(NET.format(root=folder / "root", classes=classes, last=last, more=more, top=top))
    kernel, bias = np.zeros((classes, 4, 1, 1), np.float32), np.zeros(classes, np.float32)
    kernel[-1, 2], bias[-1] = SLOPE, BIAS  # blue, green, red, near infrared
    write_weights(weights, "clouds", {"score": ("Convolution", [kernel, bias])})
    return str(path), str(weights)


def score(capsys, *args):
    status = main(["score", *args, "--quiet", "--device", "cpu"])
    return (status, *capsys.readouterr())


def odds(bands):
    return 1 / (1 + np.exp(-(SLOPE * np.float64(bands[..., 0]) / 257 + BIAS)))


def expected(bands, truth, threshold, released):
    """The measures of a scene, patch by patch, in the two orders."""
    grid = Grid.of(truth.shape)
    masks = {}
    for at, patch in grid.cut(bands):
        if released:
            masks[at] = odds(patch) > threshold
        else:
            masks[at] = (odds(shrunk(patch, 192, 192)) > threshold).repeat(2, 0).repeat(2, 1)
    return judged(truth, grid.join(masks))[1]


@pytest.mark.parametrize("protocol", ["38cloud", "38cloud-released"])
def test_scores_are_those_of_the_protocol(tree, tmp_path, capsys, protocol):
    files = net(tmp_path)
    chosen = [] if protocol == "38cloud" else ["--protocol", protocol]
    status, out, err = score(capsys, *files, *chosen, "--json", "--save", str(tmp_path / "masks"))
    assert status == 0, err
    found = json.loads(out)
    assert found["protocol"] == protocol and found["images"] == 5 and found["missing"] == {}
    for told, threshold in zip(found["thresholds"], (12 / 255, 0.5), strict=True):
        assert told["threshold"] == threshold
        want = {name: expected(*tree[name], threshold, protocol == "38cloud-released") for name in SIZES}
        for name in SIZES:
            assert told["scenes"][name] == pytest.approx(want[name].as_dict(), abs=2e-5), (name, threshold)
        assert told["mean"] == pytest.approx(mean(want.values()).as_dict(), abs=2e-5)
    jaccard = [told["mean"]["jaccard"] for told in found["thresholds"]]
    assert 0.5 < min(jaccard) < max(jaccard) < 1  # neither is trivial, and the threshold matters
    curve = {point["threshold"]: point for point in found["curve"]}
    assert len(curve) == 256 and curve[0.5]["jaccard"] == found["thresholds"][1]["mean"]["jaccard"]
    recalls = [curve[threshold]["recall"] for threshold in sorted(curve)]
    assert recalls == sorted(recalls, reverse=True) and recalls[0] == 1
    for name, size in SIZES.items():
        mask = np.asarray(Image.open(tmp_path / f"masks/{name}.png"))
        assert mask.shape == size
        assert judged(tree[name][1], mask == 1)[1].jaccard == found["thresholds"][0]["scenes"][name]["jaccard"]


def test_a_coarse_map_is_resized_before_it_is_cut(tree, tmp_path, capsys):
    """Released order, a map of half the side: cubic, then the threshold."""
    last = ('layer { name: "pool" type: "Pooling" bottom: "fine" top: "score" pooling_param { pool: AVE kernel_size: 2 stride: 2 } }')
    status, out, err = score(capsys, *net(tmp_path, last=last, top="fine"), "--protocol", "38cloud-released", "--json")
    assert status == 0, err
    found = json.loads(out)["thresholds"][0]["scenes"][B]
    bands, truth = tree[B]
    ((_, patch),) = Grid.of(truth.shape).cut(bands)
    scores = SLOPE * np.float64(patch[..., 0]) / 257 + BIAS
    coarse = 1 / (1 + np.exp(-scores.reshape(192, 2, 192, 2).mean((1, 3))))
    mask = cubic(coarse, 384, 384) > 12 / 255
    assert found == pytest.approx(judged(truth, Grid.of(truth.shape).join({(1, 1): mask}))[1].as_dict(), abs=2e-5)


@pytest.mark.parametrize(("classes", "last", "top", "blob"), [
    (1, "", "score", "score"),
    (1, 'layer { name: "p" type: "Sigmoid" bottom: "score" top: "prob" }', "score", "prob"),
    (2, 'layer { name: "p" type: "Softmax" bottom: "score" top: "prob" }', "score", "prob")])
def test_one_map_or_two_scores_or_probabilities(tree, tmp_path, capsys, classes, last, top, blob):
    status, out, err = score(capsys, *net(tmp_path, classes, last, top=top), "--json", "--score-blob", blob)
    assert status == 0, err
    want = expected(*tree[A], 0.5, False)
    assert json.loads(out)["thresholds"][1]["scenes"][A] == pytest.approx(want.as_dict(), abs=2e-5)


def test_the_table_and_the_curve(tree, tmp_path, capsys):
    curve = tmp_path / "curve.svg"
    sheet = tmp_path / "sheet.png"
    status, out, err = score(capsys, *net(tmp_path), "--curve", str(curve), "--save", str(tmp_path / "masks"), "--sheet", str(sheet),
                             "--worst", "1")
    assert status == 0, err
    page = Image.open(sheet)
    assert 1500 < page.width < 1700 and page.height < 500  # one scene, its truth, mask and mistakes
    assert {(222, 45, 38), (49, 130, 189)} <= {colour for _, colour in page.getcolors(1 << 24)}
    assert "protocol 38cloud: patches at 192x192; probabilities cut at the threshold, then resized" in out
    assert "in percent, cloud above 12/255 / 0.5:" in out
    rows = {line.split()[0]: line for line in out.splitlines() if line.startswith(("LC08", "mean"))}
    want = [100 * expected(*tree[A], threshold, False).jaccard for threshold in (12 / 255, 0.5)]
    assert f"{want[0]:.1f} / {want[1]:>5.1f}" in rows[A] and [*rows] == [A, B, "mean"]
    drawn = curve.read_text()
    assert "Jaccard, best" in drawn and "specificity" in drawn and f"wrote {tmp_path / 'masks'}, {sheet}, {curve}" in out


def test_another_threshold_takes_the_place_of_the_first(tree, tmp_path, capsys):
    status, out, _ = score(capsys, *net(tmp_path), "--threshold", "0.2", "--json")
    found = json.loads(out)
    assert status == 0 and [told["threshold"] for told in found["thresholds"]] == [0.2, 0.5]
    assert found["thresholds"][0]["scenes"][A] == pytest.approx(expected(*tree[A], 0.2, False).as_dict(), abs=2e-5)


def test_a_scene_without_cloud_is_said_to_have_no_recall(tree, tmp_path, capsys):
    truth = tmp_path / f"root/38-Cloud_test/Entire_scene_gts/edited_corrected_gts_{B}.TIF"
    tiff(truth, np.zeros(SIZES[B], np.uint8))
    files = net(tmp_path)
    status, out, _ = score(capsys, *files)
    recall = 100 * expected(*tree[A], 0.5, False).recall
    assert status == 0 and f"recall above 0.5 is 0/0 in {B}, so it has no mean; of the other 1 {recall:.1f}" in out
    status, out, _ = score(capsys, *files, "--json")
    told = json.loads(out)["thresholds"][1]
    assert told["mean"]["recall"] is None and told["scenes"][B]["recall"] is None and told["mean"]["specificity"] > 0


def test_missing_patches_are_named_and_scored_only_when_asked(tmp_path, capsys):
    bands, truth = scene(tmp_path / "root", A, SIZES[A], skip=[(2, 1)])
    lost = f"patch_3_2_by_1_{A}"
    files = net(tmp_path)
    status, out, err = score(capsys, *files)
    assert (status, out) == (2, "") and f"blue_{lost}.TIF is not there" in err
    assert "--partial scores without such patches" in err
    status, out, err = score(capsys, *files, "--partial", "--json")
    assert status == 0 and f"scene {A} lacks 1 of its 4 patches: {lost}; there it has no cloud" in err
    found = json.loads(out)
    grid = Grid.of(truth.shape)
    masks = {at: (odds(shrunk(patch, 192, 192)) > 0.5).repeat(2, 0).repeat(2, 1) for at, patch in grid.cut(bands) if at != (2, 1)}
    assert found["missing"] == {A: [lost]}
    assert found["thresholds"][1]["scenes"][A] == pytest.approx(judged(truth, grid.join(masks))[1].as_dict(), abs=2e-5)


def test_one_patch_of_a_scene_is_enough_whatever_the_batch(tmp_path, capsys):
    bands, truth = scene(tmp_path / "root", A, SIZES[A], skip=[(1, 1), (1, 2), (2, 2)])
    path, weights = net(tmp_path)
    text = open(path).read()
    open(path, "w").write(text.replace("'batch_size': 2", "'batch_size': 12"))
    status, out, err = score(capsys, path, weights, "--partial", "--json")
    assert status == 0, err
    grid = Grid.of(truth.shape)
    mask = (odds(shrunk(dict(grid.cut(bands))[2, 1], 192, 192)) > 0.5).repeat(2, 0).repeat(2, 1)
    want = judged(truth, grid.join({(2, 1): mask}))[1]
    assert json.loads(out)["thresholds"][1]["scenes"][A] == pytest.approx(want.as_dict(), abs=2e-5)
    status, out, err = score(capsys, path, weights)
    assert (status, out) == (2, "") and "3 images are not there" in err and "--partial scores without such patches" in err


def test_a_list_that_lacks_a_patch_is_no_whole_scene(tree, tmp_path, capsys):
    names = tmp_path / "root/38-Cloud_test/test_patches_38-Cloud.csv"
    names.write_text("".join(line for line in names.read_text().splitlines(True) if "_1_by_2_" not in line))
    status, out, err = score(capsys, *net(tmp_path), "--save", str(tmp_path / "masks"))
    assert (status, out) == (2, "") and not (tmp_path / "masks").exists()
    assert f"scene {A} lacks 1 of its 4 patches: patch_2_1_by_2_{A}; --partial scores such scenes" in err
    assert len(err.strip().splitlines()) == 1


def broken(root, what):
    folder = root / "38-Cloud_test"
    truth = folder / f"Entire_scene_gts/edited_corrected_gts_{A}.TIF"
    names = folder / "test_patches_38-Cloud.csv"
    if what == "gone":
        truth.unlink()
    elif what == "wide":
        tiff(truth, np.zeros((500, 800), np.uint8))
    elif what == "values":
        tiff(folder / f"Entire_scene_gts/edited_corrected_gts_{B}.TIF", np.full(SIZES[B], 255, np.uint8))
    elif what == "name":
        names.write_text(names.read_text().replace(f"patch_1_1_by_1_{B}", f"patch_1_by_1_{B}"))
        for band in ("red", "green", "blue", "nir"):
            (folder / f"test_{band}/{band}_patch_1_1_by_1_{B}.TIF").rename(folder / f"test_{band}/{band}_patch_1_by_1_{B}.TIF")
    elif what == "twice":
        names.write_text(names.read_text() + f"patch_1_1_by_1_{B}\n")
    elif what == "size":
        for band in ("red", "green", "blue", "nir"):
            tiff(folder / f"test_{band}/{band}_patch_2_1_by_2_{A}.TIF", np.zeros((400, 384), np.uint16))
    elif what == "eight":
        tiff(folder / f"test_nir/nir_patch_1_1_by_1_{B}.TIF", np.zeros((384, 384), np.uint8))
    elif what == "band":
        tiff(folder / f"test_nir/nir_patch_1_1_by_1_{B}.TIF", np.zeros((384, 300), np.uint16))


@pytest.mark.parametrize(("what", "said"), [
    ("gone", r"the truth of a scene .*edited_corrected_gts_LC08_L1TP_003052.*\.TIF is not there"),
    ("wide", r"edited_corrected.* is 800x500, and the numbers of its patches say 2 columns of 384, 768 pixels"),
    ("values", r"edited_corrected.*: the truth of a scene is 0 \(clear\) and 1 \(cloud\), found 255 \(115200 times\)"),
    ("name", r"'patch_1_by_1_LC08.*' is no name of a patch.* \(split 'test' below .*root\)"),
    ("twice", r"patches patch_1_1_by_1_.* and patch_1_1_by_1_.* of the list of split 'test' have the same place"),
    ("size", r"blue_patch_2_1_by_2_.*\.TIF is 384x400, expected 384x384"),
    ("band", r"nir_patch_1_1_by_1_.*\.TIF is 300x384, expected 384x384"),
    ("eight", r"nir_patch_1_1_by_1_.*\.TIF has pixels of kind L, expected 16 bits")])
def test_bad_input_is_one_sentence(tree, tmp_path, capsys, what, said):
    broken(tmp_path / "root", what)
    status, out, err = score(capsys, *net(tmp_path), "--save", str(tmp_path / "masks"))
    assert (status, out) == (2, "") and len(err.strip().splitlines()) == 1, err
    assert re.search(said, err), err
    assert not (tmp_path / "masks").exists()  # though the scene before is whole


@pytest.mark.parametrize(("options", "said"), [
    (["--protocol", "38clouds"], "--protocol: '38clouds' is not known; did you mean '38cloud'? (known: 38cloud, 38cloud-released)"),
    (["--threshold", "1"], "--threshold 1: is from 0 to below 1"), (["--binary", "cloud"], "--binary: the data of"),
    (["--curve", "curve.txt"], "--curve: 'curve.txt' must end in"), (["--sheet", "s.png"], "--sheet needs --save DIR"),
    (["--sheet", "s.txt"], "--sheet: 's.txt' must end in .png")])
def test_options_that_cannot_be_met(tree, tmp_path, capsys, options, said):
    status, out, err = score(capsys, *net(tmp_path), *options)
    assert (status, out) == (2, "") and said in err


def test_labels_of_the_test_split_are_by_the_scene(tree, tmp_path, capsys):
    path, weights = net(tmp_path)
    text = open(path).read().replace('top: "data" python_param', 'top: "data" top: "label" python_param')
    open(path, "w").write(text.replace("'batch_size'", "'tops': ['data', 'label'], 'batch_size'"))
    status, out, err = score(capsys, path, weights)
    assert (status, out) == (2, "") and "split 'test' of data set '38cloud' has no labels image by image, but truth by the scene" in err


def test_nan_is_named_with_its_patch(tree, tmp_path, capsys):
    path, weights = net(tmp_path)
    write_weights(weights, "clouds", {"score": ("Convolution", [np.full((2, 4, 1, 1), np.nan, np.float32), np.zeros(2, np.float32)])})
    status, out, err = score(capsys, path, weights)
    assert (status, out) == (2, "") and f"patch_1_1_by_1_{A}" in err and "NaN" in err


def blurred(folder):
    """A net whose pixels see their neighbours, two away on either side."""
    path, weights = net(folder)
    text = open(path).read().replace("kernel_size: 1", "kernel_size: 5 pad: 2")
    open(path, "w").write(text)
    kernel, bias = np.zeros((2, 4, 5, 5), np.float32), np.zeros(2, np.float32)
    kernel[1, 2], bias[1] = SLOPE / 25, BIAS
    write_weights(weights, "clouds", {"score": ("Convolution", [kernel, bias])})
    return path, weights


def test_with_a_margin_patches_are_seen_as_the_whole_scene_is(tree, tmp_path, capsys):
    """And without one zeros stand for the neighbours, which costs what lies near the borders."""
    files = blurred(tmp_path)
    found = {}
    for margin in ("0", "2", "64"):
        status, out, err = score(capsys, *files, "--protocol", "38cloud-released", "--margin", margin, "--seams", "2", "--json")
        assert status == 0, err
        found[margin] = json.loads(out)
        assert found[margin]["margin"] == int(margin) and found[margin]["seams"]["within"] == 2
    assert found["2"]["thresholds"] == found["64"]["thresholds"] != found["0"]["thresholds"]
    bands, truth = tree[A]
    around = np.pad(np.float64(bands[..., 0]) / 257, 2)
    mean_of = sum(around[y : y + truth.shape[0], x : x + truth.shape[1]] for y in range(5) for x in range(5)) / 25
    want = judged(truth, SLOPE * mean_of + BIAS > 0)[1]
    assert found["2"]["thresholds"][1]["scenes"][A] == pytest.approx(want.as_dict(), abs=2e-5)
    parts = {margin: {part: found[margin]["seams"][part][1]["scenes"][A] for part in ("near", "elsewhere")} for margin in ("0", "2")}
    assert parts["0"]["elsewhere"] == parts["2"]["elsewhere"] and parts["0"]["near"]["recall"] < parts["2"]["near"]["recall"]
    assert found["2"]["seams"]["near"][1]["scenes"][B]["recall"] is None  # of one patch there is no border


def test_the_table_says_margin_and_borders(tree, tmp_path, capsys):
    status, out, err = score(capsys, *net(tmp_path), "--margin", "8", "--seams", "16")
    assert status == 0, err
    assert "with 8 pixels of the neighbours on all sides" in out and "within 16 pixels of a border between patches, and elsewhere:" in out
    assert re.search(r"^near borders mean  ", out, re.MULTILINE)
    for margin in ("3", "400"):
        status, out, err = score(capsys, *net(tmp_path), "--margin", margin)
        assert (status, out) == (2, "") and f"a margin of {margin} pixels is not from 0 to 384, or no whole number" in err


def test_a_patch_that_is_cut_short_is_found_before_the_first_mask_is_written(tree, tmp_path, capsys):
    path, weights = net(tmp_path)
    *_, patch = sorted((tmp_path / "root").rglob(f"red_patch_*{B}.TIF"))
    patch.write_bytes(patch.read_bytes()[:-1000])
    status, _, err = score(capsys, path, weights, "--save", str(tmp_path / "out"))
    assert status == 2 and re.search(rf"{patch} is cut short: it has \d+ bytes, and pixels up to byte \d+$", err.strip())
    assert not (tmp_path / "out").exists()
