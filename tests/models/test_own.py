"""Nets and solvers for images of one's own, as models/own.py writes them."""

import ast
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import programs
import pytest
import torch
from PIL import Image
from programs import PROJECT

from netspec.cli.main import main
from netspec.data import zoo
from netspec.data.layouts import facts
from netspec.look.streams import FIGURE3, deviations, streams
from netspec.net.build import load
from netspec.net.module import Net
from netspec.net.weights import save
from netspec.proto import text as prototext
from netspec.proto.model import read_weights, write_weights


@pytest.fixture
def own(tmp_path, monkeypatch):
    """my/: ten images of different sizes, three classes, described in a file of five lines."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for kind in ("photos", "masks"):
        (tmp_path / "my" / kind).mkdir(parents=True)
    for i in range(10):
        size = (40 + i, 50 - i)
        Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(f"my/photos/{i}.jpg")
        Image.fromarray(rng.integers(0, 3, size).astype(np.uint8)).save(f"my/masks/{i}.png")
    Path("my/train.txt").write_text("".join(f"{i}\n" for i in range(7)))
    Path("my/val.txt").write_text("".join(f"{i}\n" for i in range(7, 10)))
    Path("my/set.txt").write_text("images: photos\nlabels: masks\nground 90 90 90\ndisc 200 60 60\nbox 60 200 90\n")
    return tmp_path


def commands(out):
    """The commands that a run ends with, by their names, as words."""
    found = [shlex.split(line) for line in out.splitlines() if line.startswith("    netspec ")]
    return {words[1]: words[1:] for words in found}


def tree():
    return sorted(str(path) for path in Path("my").rglob("*"))


def test_the_stages_train_and_are_scored(own, capsys):
    own.joinpath("my").rename("it's \"my\" ü")
    assert main(["own", "it's \"my\" ü/set.txt", "--iterations", "2", "--batch", "2"]) == 0
    told = commands(capsys.readouterr().out)
    assert list(told) == ["data", "solve", "score", "infer"]
    assert main(told["data"]) == 0 and Path("it's \"my\" ü/sheet.png").is_file()
    assert main([*told["solve"], "--quiet"]) == 0 and main(told["score"]) == 0
    out = capsys.readouterr().out
    assert "disc" in out and "3 images" in out
    assert main(told["infer"]) == 0
    out, err = capsys.readouterr()
    assert not err and any(name in out for name in ("ground", "disc", "box")) and "class " not in out
    for stride in (32, 16, 8):
        built = load(own / f"it's \"my\" ü/set-fcn{stride}s/deploy.prototxt")
        assert not deviations(streams(built)[0], f"{stride}s" if f"{stride}s" in FIGURE3 else None)


@pytest.mark.parametrize("iterations, apart", [(1, 1), (600, 60), (100000, 10000)])
def test_snapshots_are_a_tenth_of_the_run_apart(own, iterations, apart):
    assert main(["own", "my/set.txt", "--iterations", str(iterations), "--batch", "1"]) == 0
    assert {prototext.read_solver(path).snapshot for path in Path("my").glob("set-fcn*.prototxt")} == {apart}


def test_another_seed_has_solvers_and_snapshots_of_its_own(own, capsys):
    assert main(["own", "my/set.txt", "--iterations", "1", "--batch", "1"]) == 0
    before = {path: path.read_bytes() for path in Path("my").rglob("*.prototxt")}
    capsys.readouterr()
    assert main(["own", "my/set.txt", "--iterations", "1", "--batch", "1", "--seed", "2"]) == 0
    told = commands(capsys.readouterr().out)
    assert told["solve"] == ["solve", *(f"my/set-fcn{stride}s-seed2.prototxt" for stride in (32, 16, 8))]
    assert {path: path.read_bytes() for path in before} == before and not list(Path("my").rglob("*.old"))
    assert main([*told["solve"], "--quiet"]) == 0 and main(told["score"]) == 0
    assert sorted(path.name for path in Path("my/snapshot").glob("*_iter_1.caffemodel")) == [
        f"set-fcn{stride}s-seed2_iter_1.caffemodel" for stride in (16, 32, 8)]
    assert prototext.read_solver("my/set-fcn16s-seed2.prototxt").random_seed == 2
    assert main(["own", "my/set.txt", "--seed", "0"]) == 2 and "--seed 0: must be from 1" in capsys.readouterr().err


def test_crops_are_tested_as_seldom_as_whole_images_cost_more(own):
    assert main(["own", "my/set.txt", "--batch", "1", "--iterations", "100"]) == 0
    every = prototext.read_solver("my/set-fcn32s.prototxt").test_interval
    own.joinpath("my/set.txt").write_text(f"crop: [33, 33]\n{own.joinpath('my/set.txt').read_text()}")
    assert main(["own", "my/set.txt", "--batch", "1", "--iterations", "100"]) == 0
    # three images of 47 x 43 to 49 x 41 have the pixels of five crops
    assert (every, prototext.read_solver("my/set-fcn32s.prototxt").test_interval) == (20, 25)


def test_the_file_in_models_is_a_program(own):
    done = subprocess.run([PROJECT / "models/own.py", "my/set.txt"], capture_output=True, text=True,
                          env=programs.environment(PYTHONPATH="", PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}"))
    assert done.returncode == 0, done.stderr
    assert list(commands(done.stdout)) == ["data", "solve", "score", "infer"]


def test_every_net_says_its_data_set(own, capsys):
    assert main(["own", "my/set.txt"]) == 0
    out = capsys.readouterr().out
    read = [np.asarray(Image.open(f"my/photos/{i}.jpg")).reshape(-1, 3) for i in range(7)]
    mean = np.concatenate(read).mean(0)[::-1]
    assert [float(n) for n in out.split("mean: ")[1].splitlines()[0].split(",")] == pytest.approx(mean, abs=1e-3)
    for stride in (32, 16, 8):
        for split in ("train", "val", "deploy"):
            net = prototext.read_net(f"my/set-fcn{stride}s/{split}.prototxt")
            given = ast.literal_eval(net.layer[0].python_param.param_str)
            assert given["dataset"] == "my/set.txt" and given["mean"] == pytest.approx(mean, abs=1e-3)
    assert given == {"classes": ["ground 90 90 90", "disc 200 60 60", "box 60 200 90"], "void": 255,
                     "mean": given["mean"], "range": [0, 255], "dataset": "my/set.txt"}
    with open("my/set.txt", "a") as file:
        file.write("mean: 1, 2, 3\n")
    assert main(["own", "my/set.txt"]) == 0 and "mean: " not in capsys.readouterr().out
    given = ast.literal_eval(prototext.read_net("my/set-fcn8s/deploy.prototxt").layer[0].python_param.param_str)
    assert given["mean"] == [1, 2, 3]


def test_the_training_nets_alone_vary_their_images(own, capsys):
    def given(split):
        return ast.literal_eval(prototext.read_net(f"my/set-fcn8s/{split}.prototxt").layer[0].python_param.param_str)

    assert main(["own", "my/set.txt"]) == 0 and given("train")["mirror"] is True
    with open("my/set.txt", "a") as file:
        file.write("mirror: False\ncrop: [36, 34]\nzoom: [0.75, 1.5, 0.5]\nrotate: [4, 20, 0.5]\nbrightness: 0.25\n")
    assert main(["own", "my/set.txt", "--iterations", "1", "--batch", "2"]) == 0
    told = commands(capsys.readouterr().out)
    chance = dict(mirror=False, crop=[36, 34], zoom=[0.75, 1.5, 0.5], rotate=[4, 20, 0.5], brightness=0.25)
    assert {key: given("train")[key] for key in chance} == chance and not chance.keys() & given("val").keys()
    assert main([*told["solve"], "--quiet"]) == 0
    Path("my/set.txt").write_text(Path("my/set.txt").read_text().replace("[36, 34]", "36"))
    assert main(["own", "my/set.txt"]) == 2 and "my/set.txt:7: 'crop' takes [height, width], found '36'" in capsys.readouterr().err


@pytest.mark.parametrize("line, words", [
    ("crop: [36, 20]", "my/set.txt: 'crop' is too small for net 'set-fcn32s', which needs"),
    ("zoom: [0.5, 2]", ".jpg, zoomed to 0.5, is too small"),
    ("", "/my/photos/8.jpg, is too small for net")])
def test_images_that_are_too_small_are_told_before_training(own, capsys, line, words):
    with open("my/set.txt", "a") as file:
        file.write(line)
    if not line:
        Image.new("RGB", (70, 20)).save("my/photos/8.jpg")
    else:
        for name in ("train", "val"):
            Path(f"my/{name}.txt").unlink()
    before = tree()
    assert main(["own", "my/set.txt"]) == 2
    out, err = capsys.readouterr()
    assert words in err and not out and tree() == before


def test_lists_are_made_where_there_are_none(own, capsys):
    for name in ("train", "val"):
        Path(f"my/{name}.txt").unlink()
    Path("my/masks/4.png").unlink()
    Image.new("L", (5, 5)).save("my/masks/spare.png")
    assert main(["own", "my/set.txt"]) == 0
    out = capsys.readouterr().out
    train, val = (Path(f"my/{name}.txt").read_text().split() for name in ("train", "val"))
    assert sorted([*train, *val]) == [*"012356789"] and len(val) == 2
    assert "wrote my/train.txt: 7 images, drawn with seed 1" in out and "wrote my/val.txt: 2 images" in out
    assert "left out, images without a label: 4" in out and "left out, labels without an image: spare.png" in out
    assert main(["own", "my/set.txt"]) == 0  # they are kept
    assert "seed" not in capsys.readouterr().out
    assert [train, val] == [Path(f"my/{name}.txt").read_text().split() for name in ("train", "val")]


@pytest.mark.parametrize("pattern, splits, told", [
    ("lists/main/{split}.txt", [], "the list my/lists/main/train.txt is not there, but my/lists/Main is, whose capitals differ"),
    ("lists/Main/{split}.txt", ["--splits", "Fold1", "fold2"], "but my/lists/Main/fold1.txt is, whose capitals differ"),
    ("lists/Mian/{split}.txt", ["--splits", "fold1", "fold2"],
     "'lists: lists/Mian/{split}.txt' and --splits name my/lists/Mian/fold1.txt and fold2.txt, which are not there"),
    ("lists/Main/{split}.txt", ["--splits", "fold1", "fold2"], ""), ("lists/Main/{split}.txt", [], "")])
def test_no_split_is_made_beside_one_that_was_meant(own, capsys, pattern, splits, told):
    Path("my/lists/Main").mkdir(parents=True)
    for old, new in (("train", "fold1"), ("val", "fold2")):
        Path(f"my/{old}.txt").rename(f"my/lists/Main/{new}.txt")
    with open("my/set.txt", "a") as file:
        file.write(f"lists: {pattern}\n")
    before = tree()
    assert main(["own", "my/set.txt", *splits]) == (2 if told else 0)
    err = capsys.readouterr().err
    assert told in err and err.count("\n") == bool(told) and (tree() == before) == bool(told)
    assert Path("my/lists/Main/train.txt").exists() == (not told and not splits)


@pytest.mark.parametrize("text, words", [
    ("images: photo\nlabels: masks\na\nb\nc\n", "my/photo, is not there; did you mean 'photos'? (the folders in my: "
                                                "data, empty, masks, photos)"),
    ("images: data/foto\nlabels: masks\na\nb\nc\n", "my/data/foto, is not there; did you mean 'fotos'? (the folders in my/data: fotos)"),
    ("images: photos\nlabels: masks/{name}_gt.png\na\nb\nc\n", "holds no label NAME_gt.png"),
    ("images: empty\nlabels: masks\na\nb\nc\n", "the folder of 'images', my/empty, holds no image NAME.*"),
    ("images: photos\nlabels: masks/{name}{name}.png\na\nb\nc\n", "7 labels are not there, such as"),
    ("labels: masks\na\nb\nc\n", "masks, photos); a line 'images: FOLDER' names it"),
    ("images: photos\nlabels: photos\na\nb\nc\n", "'images' and 'labels' are both photos/{name}.*; labels need"),
    ("images: {split}/photos\nlabels: masks\na\n", "my/train/photos, is not there"),
])
def test_folders_that_are_not_there(own, capsys, text, words):
    Path("my/empty").mkdir()
    Path("my/data/fotos").mkdir(parents=True)
    Path("my/empty/notes.md").write_text("no image")
    Path("my/set.txt").write_text(text)
    before = tree()
    assert main(["own", "my/set.txt"]) == 2
    out, err = capsys.readouterr()
    assert words in err and err.count("\n") == 1 and not out and tree() == before


def test_labels_under_other_names(own, capsys):
    for path in Path("my/masks").iterdir():
        path.rename(path.with_name(f"{path.stem}_mask.png"))
    Path("my/train.txt").unlink()
    Path("my/val.txt").unlink()
    before = tree()
    assert main(["own", "my/set.txt"]) == 2
    out, err = capsys.readouterr()
    assert "0 of 10 images have a label" in err and "'labels: masks/{name}_mask.png' in the data set file finds 10" in err
    assert tree() == before and not out


@pytest.mark.parametrize("given, words", [
    (["my"], "my is a folder; a data set file such as my/set.txt is expected"), (["my/set.text"], "my/set.text is no .txt"),
    (["my/se.txt"], "my/se.txt is not there; did you mean 'set.txt'?"), (["my/train.txt"], "has the name of the list of 'train'"),
    (["my/set.txt", "--splits", "train", "train"], "--splits train train: the two must differ"),
    (["my/set.txt", "--splits", "train", "vall"], "split 'vall' has no list my/vall.txt, though my/train.txt is there"),
    (["my/set.txt", "--batch", "0"], "must be from 1"),
    (["my/set.txt", "--splits", "deploy", "val"], "must differ, also from 'deploy'"),
])
def test_arguments_that_are_wrong(own, capsys, given, words):
    before = tree()
    assert main(["own", *given]) == 2
    out, err = capsys.readouterr()
    assert words in err and err.count("\n") == 1 and not out and tree() == before


def test_folders_of_the_splits_need_no_lists(own, capsys):
    for i in range(10):
        split = "train" if i < 7 else "val"
        for kind in ("photos", "masks"):
            new = Path("my", split, kind)
            new.mkdir(parents=True, exist_ok=True)
            next(Path("my", kind).glob(f"{i}.*")).rename(new / f"{i}{'.jpg' if kind == 'photos' else '.png'}")
    for name in ("train", "val"):
        Path(f"my/{name}.txt").unlink()
    Path("my/set.txt").write_text("images: {split}/photos\nlabels: {split}/masks\nground\ndisc\nbox\n")
    assert main(["own", "my/set.txt"]) == 0
    assert "my/val/photos/" in capsys.readouterr().out and not Path("my/train.txt").exists()


@pytest.mark.parametrize("names, count", [("789", 0), ("689", 1), ("0123456", 7)])
def test_images_in_both_lists(own, capsys, names, count):
    Path("my/val.txt").write_text("\n".join(names))
    before = tree()
    assert main(["own", "my/set.txt"]) == (2 if count else 0)
    err = capsys.readouterr().err
    assert f"{count} of the {len(names)} images of 'val' are in 'train'" in err and tree() == before if count else not err


@pytest.mark.parametrize("folder, what", [("photos", "image"), ("masks", "label")])
def test_a_listed_file_that_is_not_there(own, capsys, folder, what):
    next(Path("my", folder).glob("8.*")).unlink()
    before = tree()
    assert main(["own", "my/set.txt"]) == 2
    assert f"{what} {own}/my/{folder}/8.* is not there; the line '{what}s: FOLDER'" in capsys.readouterr().err and tree() == before


def test_an_image_that_cannot_be_read(own, capsys):
    Path("my/photos/3.jpg").write_bytes(b"no image")
    before = tree()
    assert main(["own", "my/set.txt"]) == 2
    assert "my/photos/3.jpg is no image" in capsys.readouterr().err and tree() == before


def test_weights_take_vgg16_and_the_papers_rates(own):
    assert main(["own", "my/set.txt", "--weights", "weights/vgg16.caffemodel"]) == 0
    solvers = [prototext.read_solver(f"my/set-fcn{stride}s.prototxt") for stride in (32, 16, 8)]
    assert [s.base_lr for s in solvers] == pytest.approx([1e-4, 1e-6, 1e-8])
    assert [s.weights[0] for s in solvers] == ["weights/vgg16.caffemodel", "my/snapshot/set-fcn32s_iter_600.caffemodel",
                                               "my/snapshot/set-fcn16s_iter_600.caffemodel"]
    assert "conv5_3" in Path("my/set-fcn32s/train.prototxt").read_text()


def shapes_of(name, split="deploy"):
    """Weights in the shapes of a net of models/, all zero, without the memory."""
    graph = load(PROJECT / f"models/{name}/{split}.prototxt")
    return {n.name: [np.broadcast_to(np.float32(0), p.shape) for p in n.op.params] for n in graph.nodes if n.op.params}


@pytest.mark.parametrize("change, told", [
    ({}, ""), ({"fc6": None}, "they lack fc6, and have conv1_1"),
    ({"conv1_1": [np.zeros((64, 4, 3, 3)), np.zeros(64)]}, "layer 'conv1_1': blob 0 has shape [64, 4, 3, 3] in the weights"),
    ({"score_fr": [np.zeros((21, 4096, 1, 1)), np.zeros(21)]}, "layer 'score_fr': blob 0 has shape [21, 4096, 1, 1]")])
def test_weights_of_another_net_are_refused_before_anything_is_written(own, capsys, monkeypatch, change, told):
    blobs = {name: each for name, each in (shapes_of("vgg16") | change).items() if each}
    monkeypatch.setattr("netspec.proto.model.read_weights", lambda file: blobs)
    Path("w.caffemodel").touch()
    before = tree()
    assert main(["own", "my/set.txt", "--weights", "w.caffemodel"]) == (2 if told else 0)
    err = capsys.readouterr().err
    assert (tree() == before) == bool(told) and told in err and err.count("\n") == bool(told)
    assert not told or "--weights w.caffemodel: must be VGG16's, with which the net begins; " in err


def test_weights_by_name(own, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("NETSPEC_WEIGHTS", str(tmp_path / "zoo"))
    assert main(["own", "my/set.txt", "--weights", "vgg16"]) == 0
    err = capsys.readouterr().err
    assert prototext.read_solver("my/set-fcn32s.prototxt").weights == ["vgg16"]
    assert "note: the weights of vgg16 are not here" in err and "'netspec weights get vgg16' gets them; solve needs" in err


def test_a_missing_file_is_one_sentence(own, capsys):
    assert main(["own", "my/sets.txt"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "my/sets.txt is not there" in err
    assert main(["own", "my/set.txt", "--iterations", "0"]) == 2
    Path("my/val.txt").unlink()
    capsys.readouterr()
    assert main(["own", "my/set.txt"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "split 'val' has no list" in err
    assert not Path("my/set-fcn32s").exists()


def test_the_solvers_have_a_test_net_so_that_both_lists_are_checked(own, capsys):
    own.joinpath("my").rename("it's \"my\" ü")
    assert main(["own", "it's \"my\" ü/set.txt"]) == 0
    solver = prototext.read_solver("it's \"my\" ü/set-fcn32s.prototxt")
    assert solver.test_iter == [3] and solver.test_net == ["it's \"my\" ü/set-fcn32s/val.prototxt"]
    Image.new("L", (2, 2)).save("it's \"my\" ü/masks/8.png")
    assert main(["data", "check", "it's \"my\" ü/set-fcn32s.prototxt"]) == 1
    assert "masks/8.png is 2x2" in capsys.readouterr().out


def test_a_net_of_other_classes_goes_on_from_its_weights(own, capsys):
    """shapes-fcn8s, whose classes are background, sun, wheel, fork and star, on ground, Wheel and box."""
    Path("my/set.txt").write_text("images: photos\nlabels: masks\nground 90 90 90\nWheel 200 60 60\nbox 60 200 90\n")
    torch.manual_seed(0)
    old = Net(load(PROJECT / "models/shapes-fcn8s/deploy.prototxt"))
    for parameter in old.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    save("old.caffemodel", old)
    assert main(["own", "my/set.txt", "--from", "shapes-fcn8s", "--weights", "old.caffemodel", "--iterations", "1"]) == 0
    out = capsys.readouterr().out
    assert "shapes-fcn8s's weights with the scores of Wheel from 'wheel'; the scores of the other classes begin at zero" in out
    new, was = read_weights("my/set-fcn8s-start.caffemodel"), read_weights("old.caffemodel")
    for name, blobs in was.items():
        for i, blob in enumerate(blobs):
            if name.startswith("upscore"):
                assert name not in new
            elif name.startswith("score"):
                assert np.array_equal(new[name][i][1], blob[2]) and not new[name][i][[0, 2]].any()
            else:
                assert np.array_equal(new[name][i], blob)
    solver = prototext.read_solver("my/set-fcn8s.prototxt")
    assert solver.weights == ["my/set-fcn8s-start.caffemodel"]
    assert solver.base_lr == prototext.read_solver(PROJECT / "solvers/shapes-fcn32s.prototxt").base_lr
    given = ast.literal_eval(prototext.read_net("my/set-fcn8s/deploy.prototxt").layer[0].python_param.param_str)
    assert given["mean"] == list(facts("shapes").mean)
    told = commands(out)
    assert main([*told["solve"], "--quiet"]) == 0 and main(told["score"]) == 0


def test_the_name_of_a_net_as_weights_is_that_net_trained_on(own, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("NETSPEC_WEIGHTS", str(tmp_path / "zoo"))
    save("old.caffemodel", Net(load(PROJECT / "models/shapes-fcn8s/deploy.prototxt")))
    assert main(["weights", "add", "shapes-fcn8s", "old.caffemodel"]) == 0
    made = []
    for words in (["--from", "shapes-fcn8s"], ["--weights", "shapes-fcn8s"]):
        assert main(["own", "my/set.txt", *words]) == 0
        assert "wrote my/set-fcn8s-start.caffemodel: shapes-fcn8s's weights" in capsys.readouterr().out
        made.append({file: Path(file).read_bytes() for file in tree() if Path(file).is_file()})
    assert made[0] == made[1]


@pytest.mark.parametrize("words, told", [
    (["--weights", "shapes-fcn8s"], "the weights of shapes-fcn8s are not here"),
    (["--from", "shapes-fcn9s"], "netspec own: net 'shapes-fcn9s' is not there"),
    (["--from", "shapes-fcn8s"], "--from shapes-fcn8s needs its weights"),
    (["--from", "shapes-fcn9s", "--weights", "old.caffemodel"], "did you mean 'shapes-fcn8s'"),
    (["--from", "siftflow-fcn8s", "--weights", "old.caffemodel"], "scores two kinds of classes"),
    (["--from", "voc-fcn8s", "--weights", "old.caffemodel"], "does not score 21 classes"),
    (["--from", "shapes-fcn8s", "--weights", "no.caffemodel"], "'no.caffemodel' is not there"),
])
def test_what_a_net_cannot_go_on_from(own, capsys, monkeypatch, words, told):
    monkeypatch.setattr(zoo, "PROJECT", own)  # in the checkout a demo may have made weights
    monkeypatch.setenv("NETSPEC_WEIGHTS", str(own / "weights"))
    write_weights("old.caffemodel", "x", {"score_fr": ("Convolution", [np.zeros((5, 2, 1, 1), np.float32)])})
    before = tree()
    assert main(["own", "my/set.txt", *words]) == 2
    err = capsys.readouterr().err
    assert told in err and err.count("\n") == 1 and tree() == before


def test_what_was_changed_by_hand_is_kept_where_own_writes_again(own, capsys):
    assert main(["own", "my/set.txt"]) == 0
    before = tree()
    assert main(["own", "my/set.txt"]) == 0
    assert "kept what" not in capsys.readouterr().out and tree() == before
    changed = Path("my/set-fcn32s.prototxt").read_text().replace("max_iter: 600", "max_iter: 77")
    Path("my/set-fcn32s.prototxt").write_text(changed)
    assert main(["own", "my/set.txt"]) == 0
    assert "kept what said something else before: my/set-fcn32s.prototxt.old\n" in capsys.readouterr().out
    assert Path("my/set-fcn32s.prototxt.old").read_text() == changed and "max_iter: 600" in Path("my/set-fcn32s.prototxt").read_text()
    again = changed.replace("max_iter: 77", "max_iter: 78")
    for text, kept in ((again, "old.1"), (changed, "old"), (again, "old.1")):
        Path("my/set-fcn32s.prototxt").write_text(text)
        assert main(["own", "my/set.txt"]) == 0
        assert f"kept what said something else before: my/set-fcn32s.prototxt.{kept}\n" in capsys.readouterr().out
    assert Path("my/set-fcn32s.prototxt.old").read_text() == changed and Path("my/set-fcn32s.prototxt.old.1").read_text() == again
    assert not Path("my/set-fcn32s.prototxt.old.2").exists()
