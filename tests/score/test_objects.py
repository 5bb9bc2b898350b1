"""A net that finds objects, at work: `netspec infer` and `netspec score`."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from detecting import write_net
from PIL import Image

import netspec
from netspec.cli.main import main
from netspec.net import weights
from netspec.net.build import load
from netspec.net.deploy import deploy
from netspec.net.module import Net
from netspec.score import boxscore
from netspec.score.detect import thresholds
from netspec.score.frames import picture
from netspec.score.objects import BoxFinder, save_voc
from netspec.score.predict import Looks

CLASSES = ["background 0 0 0", "cat 200 0 0", "dog 0 0 200"]
NET = """
name: "tiny"
{data}
layer {{ name: "c" type: "Convolution" bottom: "data" top: "c" convolution_param {{ num_output: 8 kernel_size: 3 pad: 1
  stride: 8 weight_filler {{ type: "msra" }} }} }}
layer {{ name: "r" type: "ReLU" bottom: "c" top: "c" }}
layer {{ name: "rs" type: "Convolution" bottom: "c" top: "rs" convolution_param {{ num_output: 6 kernel_size: 1
  weight_filler {{ type: "msra" }} }} }}
layer {{ name: "rb" type: "Convolution" bottom: "c" top: "rb" convolution_param {{ num_output: 12 kernel_size: 1
  weight_filler {{ type: "gaussian" std: 0.001 }} }} }}
layer {{ name: "a" type: "Reshape" bottom: "rs" top: "a" reshape_param {{ shape {{ dim: 0 dim: 2 dim: -1 dim: 0 }} }} }}
layer {{ name: "p" type: "Softmax" bottom: "a" top: "p" }}
layer {{ name: "b" type: "Reshape" bottom: "p" top: "b" reshape_param {{ shape {{ dim: 0 dim: 6 dim: -1 dim: 0 }} }} }}
layer {{ name: "proposal" type: "Python" bottom: "b" bottom: "rb" bottom: "im_info" top: "rois" python_param {{
  module: "rpn.proposal_layer" layer: "ProposalLayer" param_str: "'feat_stride': 8\\n'scales': [2]\\n'rpn_min_size': 4" }} }}
layer {{ name: "s" type: "Convolution" bottom: "c" top: "s" convolution_param {{ num_output: 12 kernel_size: 1
  weight_filler {{ type: "msra" }} }} }}
layer {{ name: "m" type: "Convolution" bottom: "c" top: "m" convolution_param {{ num_output: 32 kernel_size: 1
  weight_filler {{ type: "gaussian" std: 0.001 }} }} }}
layer {{ name: "ps" type: "PSROIPooling" bottom: "s" bottom: "rois" top: "ps" psroi_pooling_param {{ spatial_scale: 0.125
  output_dim: 3 group_size: 2 }} }}
layer {{ name: "pm" type: "PSROIPooling" bottom: "m" bottom: "rois" top: "pm" psroi_pooling_param {{ spatial_scale: 0.125
  output_dim: 8 group_size: 2 }} }}
layer {{ name: "vs" type: "Pooling" bottom: "ps" top: "cls_score" pooling_param {{ pool: AVE kernel_size: 2 stride: 2 }} }}
layer {{ name: "vm" type: "Pooling" bottom: "pm" top: "bbox_pred_pre" pooling_param {{ pool: AVE kernel_size: 2 stride: 2 }} }}
layer {{ name: "o" type: "Softmax" bottom: "cls_score" top: "cls_prob_pre" }}
layer {{ name: "oo" type: "Reshape" bottom: "cls_prob_pre" top: "cls_prob" reshape_param {{ shape {{ dim: -1 dim: 3 }} }} }}
layer {{ name: "mm" type: "Reshape" bottom: "bbox_pred_pre" top: "bbox_pred" reshape_param {{ shape {{ dim: -1 dim: 8 }} }} }}
"""
SIDES = {"scale": 64, "max_size": 120}
FACTS = {"classes": CLASSES, "mean": [100, 110, 120], **SIDES}
INPUTS = f"""layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ dim: [1, 3, 64, 64] }} }}
  python_param {{ param_str: "{FACTS}" }} }}
layer {{ name: "im_info" type: "Input" top: "im_info" input_param {{ shape {{ dim: [1, 3] }} }} }}"""
READS = {"dataset": "folder", "root": ".", "images": "images", "boxes": "boxes", "split": "val", "classes": CLASSES, **SIDES}
READER = f"""layer {{ name: "data" type: "Python" top: "data" top: "im_info" top: "gt_boxes" python_param {{
  module: "netspec.datasets" layer: "DetectionData" param_str: "{READS}" }} }}"""
OBJECT = ("<object><name>{}</name><difficult>{}</difficult><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax>"
          "<ymax>{}</ymax></bndbox></object>")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """deploy.prototxt, val.prototxt, w.caffemodel, and three images with boxes, one of them without any."""
    monkeypatch.chdir(tmp_path)
    Path("deploy.prototxt").write_text(NET.format(data=INPUTS))
    Path("val.prototxt").write_text(NET.format(data=READER))
    torch.manual_seed(0)
    made = load("deploy.prototxt")
    weights.save("w.caffemodel", weights_of(Net(made)))
    random = np.random.default_rng(0)
    Path("images").mkdir()
    Path("boxes").mkdir()
    truth = {"a": [("cat", 0, 1, 1, 40, 40), ("dog", 1, 30, 30, 60, 50)], "b": [("cat", 0, 20, 10, 70, 60)], "c": []}
    for name, size in zip(truth, [(80, 60), (90, 64), (50, 100)], strict=True):
        Image.fromarray(random.integers(0, 256, (*size[::-1], 3), np.uint8)).save(f"images/{name}.png")
        objects = "".join(OBJECT.format(*each) for each in truth[name])
        Path(f"boxes/{name}.xml").write_text(f"<annotation>{objects}</annotation>")
    Path("val.txt").write_text("a\nb\nc\n")
    return tmp_path


def weights_of(net):
    from netspec.net.weights import ready
    ready(net)
    return net


def infer(capsys, *argv):
    status = main(["infer", "deploy.prototxt", "w.caffemodel", *argv, "--out", "o", "--device", "cpu"])
    return status, *capsys.readouterr()


def test_infer_draws_boxes_and_tells_them(place, capsys):
    status, out, err = infer(capsys, "images", "--json", "--threshold", "0.1,dog=0.9")
    told = json.loads(out)
    assert status == 0, err
    assert [image["size"] for image in told["images"]] == [[80, 60], [90, 64], [50, 100]]
    for image in told["images"]:
        assert {box["name"] for box in image["boxes"]} >= {"cat"}
        assert all(box["score"] > {"cat": 0.1, "dog": 0.9}[box["name"]] for box in image["boxes"])
        scores = [box["score"] for box in image["boxes"]]
        assert scores == sorted(scores, reverse=True) and min(scores) > 0.1
        for box in image["boxes"]:
            x1, y1, x2, y2 = box["box"]
            assert 0 <= x1 <= x2 <= image["size"][0] - 1 and 0 <= y1 <= y2 <= image["size"][1] - 1
        page = Image.open(image["files"]["boxes"])
        factor = -(-300 // max(image["size"]))
        assert page.size == tuple(factor * side for side in image["size"])


def test_infer_says_how_many_and_writes_vocs_files(place, capsys):
    status, out, err = infer(capsys, "images/a.png", "--threshold", "0", "--voc", "test", "--most", "5", "--classes", "dog")
    assert status == 0 and out.startswith("images/a.png: ") and " dog -> o/a_boxes.png" in out and "cat" not in out
    assert "wrote o/comp4_det_test_cat.txt, o/comp4_det_test_dog.txt" in err
    lines = Path("o/comp4_det_test_dog.txt").read_text().splitlines()
    assert lines and all(line.split()[0] == "a" and len(line.split()) == 6 for line in lines)
    assert Path("o/comp4_det_test_cat.txt").read_text() == ""


def test_infer_goes_past_what_is_no_picture_and_says_so(place, capsys):
    Path("images/half.png").write_bytes(Path("images/a.png").read_bytes()[:60])
    status, out, err = infer(capsys, "images/a.png", "images/half.png", "--threshold", "0.1")
    assert status == 2 and out.count(" -> o/") == 1
    assert err.endswith("netspec infer: 1 of 2 images gave no results: images/half.png; the results of the others are written\n"), err


def test_score_and_infer_find_the_same(place, capsys):
    status = main(["score", "val.prototxt", "w.caffemodel", "--save", "s", "--device", "cpu", "--quiet", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert status == 0 and told["images"] == 3
    assert [(each["name"], each["truths"]) for each in told["classes"]] == [("cat", 2), ("dog", 0)]
    assert told["classes"][1]["ap"] is None and told["map"] == told["classes"][0]["ap"]
    for threshold in ("0", "0.5", "0.99"):  # it is the picture's
        infer(capsys, "images", "--threshold", threshold, "--voc", "val", "--mean", "102.9801,115.9465,122.7717")
        for name in ("cat", "dog"):
            ours, theirs = (Path(folder, f"comp4_det_val_{name}.txt").read_text() for folder in "so")
            assert ours == theirs and len(ours.splitlines()) > 3


def test_score_prints_a_table_and_draws_a_sheet(place, capsys):
    argv = ["score", "val.prototxt", "w.caffemodel", "--sheet", "s.png", "--worst", "2", "--device", "cpu", "--quiet"]
    assert main(argv) == 0
    out = capsys.readouterr().out
    assert out.startswith("tiny: 3 images in ") and "AP, 11 points" in out
    assert "not in the mean, being never in the truth: dog" in out and out.endswith("wrote s.png\n")
    assert Image.open("s.png").width > 600


def test_options_of_the_other_kind_of_net_are_refused(place, capsys):
    assert infer(capsys, "images/a.png", "--cutout", "cat")[0] == 2
    assert main(["score", "val.prototxt", "w.caffemodel", "--trimap", "1"]) == 2
    told = capsys.readouterr().err
    assert "--trimap: the data of" in told and "are boxes" in told


@pytest.mark.parametrize("given, words", [
    ("0.5,bird=0.2", "--threshold: 'bird' is no class"), ("high", "--threshold: 'high' is no number, nor CLASS=NUMBER"),
    ("cat=", "'cat=' is no number"), ("nan", "'nan' is no number"), ("0.5,cat=inf", "'cat=inf' is no number"),
    ("", "'' is no number"), ("0.5,0.6", "gives two numbers for all classes"), ("dog=0,dog=0.1", "two numbers for dog"),
    ("background=0.1", "'background' is the background"), ("2", "--threshold: '2' lets no box through, since scores go up to 1"),
    ("0.5,dog=1", "'dog=1' lets no box through")])
def test_thresholds_that_are_none(place, capsys, given, words):
    status, _, err = infer(capsys, "images/a.png", "--threshold", given)
    assert status == 2 and words in err


def test_thresholds_of_all_classes_and_of_one():
    looks = Looks(["background", "cat", "dog"], np.zeros((3, 3), np.uint8))
    assert thresholds("0.5,dog=0.8", looks) == [0.5, 0.5, 0.8]
    assert thresholds("dog=0.8,0.6", looks) == [0.6, 0.6, 0.8]
    assert thresholds("dog=0.8", looks) == [0.5, 0.5, 0.8] and thresholds(None, looks) == [0.5] * 3


def test_a_net_that_is_given_its_regions_is_refused(place, capsys):
    text = Path("deploy.prototxt").read_text()
    start, end = text.index('layer { name: "rs"'), text.index('layer { name: "s"')
    rois = INPUTS.splitlines()[-1].replace("im_info", "rois").replace("[1, 3]", "[1, 5]")
    Path("deploy.prototxt").write_text(text[:start] + rois + text[end:])
    status, _, err = infer(capsys, "images/a.png")
    assert status == 2 and "must propose its regions itself" in err


def test_val_nets_infer_and_deploy_nets_are_not_scored(place, capsys):
    for net in ("val.prototxt", write_net("shapes-rfcn", "val")):  # which gives boxes, too
        weights.save("w2.caffemodel", Net(deploy(net)))
        assert main(["infer", net, "w2.caffemodel", "images/a.png", "--out", "v", "--device", "cpu"]) == 0, capsys.readouterr().err
    assert main(["score", "deploy.prototxt", "w.caffemodel"]) == 2
    assert "no data layer that gives boxes; scoring needs a val net" in capsys.readouterr().err


def test_a_net_without_the_blobs_is_refused(place, capsys):
    Path("deploy.prototxt").write_text(Path("deploy.prototxt").read_text().replace('top: "bbox_pred"', 'top: "moves"'))
    status, _, err = infer(capsys, "images/a.png")
    assert status == 2 and "has no blob 'bbox_pred'; did you mean" in err


@pytest.mark.parametrize("blob", ["data", "rois", "bbox_pred", "im_info", "c"])
def test_blobs_that_are_no_scores_of_regions_are_refused(place, capsys, blob):
    status, _, err = infer(capsys, "images/a.png", "--score-blob", blob)
    assert status == 2 and f"'{blob}' [" in err and "R x 5, R x C and R x 8 or R x 4C are expected" in err


@pytest.mark.parametrize("argv, words", [
    (["--voc", "a/b"], "'comp4_det_a/b_cat.txt': the names of split and class make no file name"),
    (["--voc", "x" * 250], "make no file name"), (["--classes", "background"], "is the background"),
    (["images/b b.png", "--voc", "test"], "image 'b b': VOC's result files are lines of words")])
def test_what_cannot_be_told_is_said_before_anything_is_written(place, capsys, argv, words):
    Path("images/b b.png").write_bytes(Path("images/a.png").read_bytes())
    status, _, err = infer(capsys, "images/a.png", *argv)
    assert status == 2 and words in err and not Path("o").exists()


def test_vocs_files_are_not_written_where_an_image_failed(place, capsys):
    Path("images/z.png").write_bytes(b"")
    status, _, err = infer(capsys, "images", "--voc", "val")
    assert status == 2 and "VOC's result files are not written: they would lack 1 image" in err
    assert not [*Path("o").glob("comp4*")] and len([*Path("o").iterdir()]) == 3


def test_a_data_set_of_other_classes_is_noted(place, capsys):
    status, _, err = infer(capsys, "images/a.png", "--dataset", "voc")
    assert status == 0 and "note: the data set has 21 classes and 'cls_prob' 3: all are shown as numbers" in err


def test_names_that_make_no_file_are_refused_before_scoring(place, capsys):
    for path in (Path("val.prototxt"), Path("boxes/a.xml")):
        path.write_text(path.read_text().replace("dog", "hot/dog"))
    status = main(["score", "val.prototxt", "w.caffemodel", "--save", "s", "--device", "cpu", "--quiet"])
    assert status == 2 and "hot/dog.txt': the names of split and class" in capsys.readouterr().err


def test_vocs_lines(tmp_path):
    save_voc(tmp_path, "test", ["background", "a"], [("im1", [[1, 0, 1.04, 9.96, 19, 0.98765432]])])
    assert (tmp_path / "comp4_det_test_a.txt").read_text() == "im1 0.987654 1.0 2.0 11.0 20.0\n"


def test_votes_are_drawn_of_the_surest_region_and_of_given_ones(place, capsys):
    argv = ["votes", "deploy.prototxt", "w.caffemodel", "images/a.png", "--out", "v.png", "--device", "cpu"]
    assert main(argv) == 0 and capsys.readouterr().out == "wrote v.png\n"
    two = Image.open("v.png").size
    assert main([*argv, "--class", "dog", "--region", "5,5,40,30"]) == 0
    one = Image.open("v.png").size
    assert one[0] == two[0] and one[1] < two[1]
    for words, more in (("not in an image of 80x60", ["--region", "5,5,80,30"]), ("is no class", ["--class", "bird"]),
                        ("is the background", ["--class", "0"])):
        assert main([*argv, *more]) == 2 and words in capsys.readouterr().err


@pytest.mark.parametrize("argv", [
    ["votes", "deploy.prototxt", "w.caffemodel", "images/a.png", "--out", "./images/a.png"],
    ["score", "val.prototxt", "w.caffemodel", "--sheet", "images/a.png"],
    ["data", "check", "val.prototxt", "--sheet", "images/b.png"]])
def test_what_is_read_is_not_written_over(place, capsys, argv):
    before = {path: path.read_bytes() for path in Path("images").iterdir()}
    assert main(argv) == 2 and "is read here, and would be written over" in capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in Path("images").iterdir()}


def test_a_val_net_without_its_data_finds_the_same(place, capsys):
    told = [infer(capsys, "images/a.png", "--json", "--threshold", "0", "--mean", "1,2,3")[1]]
    main(["infer", "val.prototxt", "w.caffemodel", "images/a.png", "--json", "--threshold", "0", "--mean", "1,2,3",
          "--out", "o", "--device", "cpu"])
    told.append(capsys.readouterr().out)
    (ours,), (theirs,) = (json.loads(each)["images"] for each in told)
    assert ours.pop("seconds") > 0 and theirs.pop("seconds") > 0
    assert ours == theirs and ours["boxes"]


def test_the_mean_of_the_votes_is_the_nets_score(place):
    """What the picture says of a region is what the net says of it."""
    from netspec.net.detections import BoxReader
    from netspec.proto.text import read_net
    from netspec.score.objects import BoxFinder, scene
    from netspec.score.votes import voting

    shown = scene(read_net("deploy.prototxt"), Path("deploy.prototxt"))
    net = Net(shown.graph)
    weights.load("w.caffemodel", net.layers_with_params())
    finder = BoxFinder(net, shown, BoxReader(shown.graph))
    inputs, scale = finder.blobs(Image.open("images/b.png").convert("RGB"))
    assert inputs["im_info"].tolist() == [[64, 90, 1]] and scale == 1
    found = net(inputs, ["s", "rois", "ps", "cls_prob"])
    node = voting(shown.graph, "cls_prob")
    assert node.name == "ps"
    torch.testing.assert_close(node.op.forward([found["s"], found["rois"]], []).mean((2, 3)).softmax(1), found["cls_prob"])


def test_time_says_what_its_parts_take(place, capsys):
    assert main(["time", "detect", "deploy.prototxt", "--size", "60x80", "--repeats", "2"]) == 0
    out = capsys.readouterr().out
    assert "deploy.prototxt: " in out and " images/s (an image of 60x80, seen as 64x85, " in out
    parts = {line.split("  ")[0]: line.split() for line in out.splitlines()[3:]}
    assert [*parts][1:] == ["in all", "image to blobs", "proposals", "pooling of regions", "blobs to boxes"]
    assert sum(float(parts[name][-1]) for name in [*parts][2:]) < 100


@pytest.mark.parametrize("name, dataset, class_1", [("voc-rfcn-resnet50", None, "aeroplane"), ("mine", "voc", "aeroplane"),
                                                   ("mine", None, "class 1"), ("shapes-rfcn-k7", None, "sun")])
def test_a_released_net_says_nothing_and_its_name_tells_the_classes(place, capsys, name, dataset, class_1):
    classes = 5 if "shapes" in name else 21
    text = NET.replace("num_output: 12", f"num_output: {4 * classes}").replace("output_dim: 3", f"output_dim: {classes}")
    text = text.replace("dim: 3 ", f"dim: {classes} ").format(data=INPUTS.replace(str(FACTS), str(SIDES)))
    Path("other.prototxt").write_text(text.replace('"tiny"', f'"{name}"').replace(
        f"num_output: {4 * classes}", "num_output: 12", 1))
    weights.save("other.caffemodel", weights_of(Net(load("other.prototxt"))))
    argv = ["infer", "other.prototxt", "other.caffemodel", "images/a.png", "--out", "o", "--threshold", "-1", "--json", "--most",
            "0", "--device", "cpu", *(["--dataset", dataset] if dataset else [])]
    assert main(argv) == 0
    told = json.loads(capsys.readouterr().out)
    assert class_1 in {box["name"] for box in told["images"][0]["boxes"]}


@pytest.mark.parametrize("layer", ["c", "s", "m"])
def test_scores_that_are_no_numbers_are_no_empty_result(place, capsys, layer):
    net = Net(load("deploy.prototxt"))
    weights.load("w.caffemodel", net.layers_with_params())
    with torch.no_grad():
        net.layers_with_params()[layer][0][0] = math.nan
    weights.save("w.caffemodel", net)
    assert infer(capsys, "images/a.png")[0] == 2 and main(["score", "val.prototxt", "w.caffemodel", "--device", "cpu"]) == 2
    status, out, err = infer(capsys, "images/a.png")
    assert status == 2 and out == "" and "images/a.png: " in err and "no numbers (NaN)" in err


def test_a_net_that_is_given_proposals_by_its_data_is_scored(place, capsys):
    """The release's way to test the last step of alternating training: the regions come from a file."""
    from netspec.data.detection import DetectionData
    from netspec.data.proposals import Proposals, write

    made = load("val.prototxt")
    (source,) = (op for op in made.readers if isinstance(op, DetectionData))
    proposed = [np.array([[0, 0, 39, 39], [20, 10, 69, 59]], np.float32)[:n] for n in (2, 1, 0)]
    write(Path("rpn.proposals"), Proposals(source.mark, "w", source.names, proposed))
    text = Path("val.prototxt").read_text()
    start, end = text.index('layer { name: "rs"'), text.index('layer { name: "s"')
    text = (text[:start] + text[end:]).replace('top: "gt_boxes"', 'top: "gt_boxes" top: "rois"')
    Path("given.prototxt").write_text(text.replace("{'dataset'", "{'proposals': 'rpn.proposals', 'dataset'"))
    assert main(["score", "given.prototxt", "w.caffemodel", "--device", "cpu", "--quiet", "--json", "--save", "s"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["images"] == 3 and [each["detections"] for each in told["classes"]] == [3, 3]


def test_activations_of_a_net_that_finds_objects(place):
    net = netspec.load("deploy.prototxt", "w.caffemodel", "cpu")
    maps = net.activations("images/a.png", "s")
    finder = BoxFinder(net, *net._finding())
    with torch.inference_mode():
        wanted = finder.looking(finder.blobs(picture("images/a.png"))[0], ["s"])["s"]
    np.testing.assert_allclose(maps, wanted[0], rtol=1e-4, atol=1e-5)
    assert net.activations("images/a.png", "ps").shape == (3, 2, 2)  # of the first region
    with pytest.raises(netspec.Error, match=r"blob 'rois' is \d+ x 5, expected one of images, N x C x H x W"):
        net.activations("images/a.png", "rois")


def test_some_images_alone_are_scored_and_shown_in_their_order(place, capsys, monkeypatch):
    seen = []
    monkeypatch.setattr(boxscore.pictures, "sheet", lambda columns: seen.append(columns[0][2]) or Image.new("RGB", (1, 1)))
    argv = ["score", "val.prototxt", "w.caffemodel", "--device", "cpu", "--quiet", "--json", "--images", "2,0", "--sheet", "s.png", "--worst", "1"]
    assert main(argv) == 0
    told, source = json.loads(capsys.readouterr().out), load("val.prototxt").readers[0]
    assert (told["places"], told["listed"], told["images"]) == ([2, 0], 3, 2) and seen == [[source.names[2], source.names[0]]]


@pytest.mark.parametrize("argv, words", [
    (["--sheet", "s.jpg"], "--sheet: 's.jpg' must end in .png"), (["--sheet", "s.png", "--worst", "0"], "--worst above 0"),
    (["--save", "val.txt"], "the folder 'val.txt' cannot be made"), (["--most", "-1"], "argument --most"),
    (["--overlap", "2"], "expected a number from 0 to 1, found '2'"), (["--score-blob", "cls_pro"], "did you mean 'cls_prob'")])
def test_options_that_cannot_be_met_are_said_before_the_work(place, capsys, argv, words):
    try:
        status = main(["score", "val.prototxt", "w.caffemodel", "--device", "cpu", *argv])
    except SystemExit as e:
        status = e.code
    assert status == 2 and words in capsys.readouterr().err


def test_cocos_measures_beside_the_others(place, capsys):
    pytest.importorskip("pycocotools")
    assert main(["score", "val.prototxt", "w.caffemodel", "--device", "cpu", "--quiet", "--json", "--coco"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert set(told["coco"]) >= {"AP", "AP50", "AR100"} and told["classes"][0]["coco_ap"] is not None
    assert told["classes"][1]["coco_ap"] is None  # its only box is difficult


def test_python_finds_what_infer_does(place, capsys):
    told = json.loads(infer(capsys, "images", "--json", "--threshold", "0.1")[1])["images"]
    net = netspec.load("deploy.prototxt", "w.caffemodel", device="cpu")
    assert net.classes == ["background", "cat", "dog"] and net.preprocess.mean == (100, 110, 120) and net.palette[1].tolist() == [200, 0, 0]
    image = Image.open("images/b.png")
    assert net.preprocess(image).shape == (1, 3, 64, 90)
    batch = net.train().detect([Path("images/a.png"), image, np.asarray(Image.open("images/c.png"))], above=0.1)
    assert net.training
    for found, each in zip(batch, told, strict=True):
        assert each["boxes"] and found.names == [box["name"] for box in each["boxes"]]
        assert found.scores.tolist() == [box["score"] for box in each["boxes"]] and (found.scores > 0.1).all()
        assert found.boxes.tolist() == [box["box"] for box in each["boxes"]]
    none = net.detect(image, above=2)
    assert none.names == [] and none.scores.shape == (0,) and none.boxes.shape == (0, 4)


def test_python_says_which_of_detect_and_segment_it_is(place):
    net = netspec.load("deploy.prototxt", "w.caffemodel", device="cpu")
    with pytest.raises(netspec.Error, match=r"'tiny' finds objects, .* net.detect\(picture\) gives boxes"):
        net.segment("images/a.png")
    with pytest.raises(netspec.Error, match="above is 'high', expected a number"):
        net.detect("images/a.png", above="high")
    pixels = netspec.load("shapes-fcn8s", None, device="cpu")
    with pytest.raises(netspec.Error, match=r"'shapes-fcn8s' says nothing of regions, .* net.segment\(picture\)"):
        pixels.detect("images/a.png")
    with pytest.raises(netspec.Error, match="meta device"):
        netspec.load("shapes-rfcn", None, device="meta").detect("images/a.png")


def test_python_loads_a_net_that_is_given_its_regions(place):
    text = Path("deploy.prototxt").read_text()
    start, end = text.index('layer { name: "rs"'), text.index('layer { name: "s"')
    rois = INPUTS.splitlines()[-1].replace("im_info", "rois").replace("[1, 3]", "[1, 5]")
    Path("given.prototxt").write_text(text[:start] + rois + text[end:])
    net = netspec.load("given.prototxt", None, device="cpu")
    with pytest.raises(netspec.Error, match="given.prototxt: .* must propose its regions itself"):
        net.detect("images/a.png")


def test_a_net_for_training_is_not_scored(place, capsys):
    loss = 'layer { name: "judge" type: "EuclideanLoss" bottom: "cls_score" bottom: "cls_score" top: "l" }'
    Path("val.prototxt").write_text(Path("val.prototxt").read_text().replace('top: "cls_prob"', 'top: "odds"') + loss)
    assert main(["score", "val.prototxt", "w.caffemodel"]) == 2
    told = "has no blob 'cls_prob' but losses (judge): it is a net for training; what is scored is its val or test net"
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("command", [["infer", "deploy.prototxt", "w.caffemodel", "images/a.png"], ["score", "val.prototxt", "w.caffemodel"]])
@pytest.mark.parametrize("change", ["num_output: 16", "bias_term: false num_output: 8"])
def test_weights_of_another_net_are_said_to_be_that(place, capsys, command, change):
    net = Path(command[1])
    net.write_text(net.read_text().replace("num_output: 8", change))
    assert main([*command, "--device", "cpu"]) == 2
    err = capsys.readouterr().err
    assert "w.caffemodel: layer 'c'" in err and "filler" not in err
    assert "these are weights of another net than 'tiny', or of one for other classes" in err


def test_infer_that_finds_nothing_says_what_came_nearest(place, capsys):
    unsure = netspec.load("deploy.prototxt", "w.caffemodel", device="cpu")
    with torch.no_grad():
        unsure.get_submodule("s").weight.mul_(0.05)
    weights.save("w.caffemodel", unsure)
    told = json.loads(infer(capsys, "images/a.png", "--json", "--threshold", "0")[1])["images"][0]
    assert "surest" not in told
    best = {name: next(box for box in told["boxes"] if box["name"] == name) for name in ("cat", "dog")}
    surest = told["boxes"][0]
    given = "0.97," + f"{surest['name']}=0.99"
    none = json.loads(infer(capsys, "images/a.png", "--json", "--threshold", given)[1])["images"][0]
    assert none["boxes"] == [] and none["surest"] == surest | {"above": 0.99}
    out = infer(capsys, "images/a.png", "--threshold", given)[1]
    assert out == f"images/a.png: none above 0.99; surest: {surest['name']} {surest['score']:.3g} -> o/a_boxes.png\n"
    out = infer(capsys, "images/a.png", "--threshold", "0.99", "--classes", "dog")[1]
    assert f"none above 0.99; surest: dog {best['dog']['score']:.3g} -> " in out


def test_infer_says_that_no_region_was_proposed(place, capsys):
    net = Path("deploy.prototxt")
    net.write_text(net.read_text().replace("'rpn_min_size': 4", "'rpn_min_size': 4000"))
    status, out, err = infer(capsys, "images/a.png")
    assert status == 0 and out == "images/a.png: none: the net proposed no region -> o/a_boxes.png\n", err
    assert json.loads(infer(capsys, "images/a.png", "--json")[1])["images"][0]["surest"] is None
