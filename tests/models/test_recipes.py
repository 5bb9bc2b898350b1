"""The first three iterations of every recipe of the papers, on small images in each data set's layout, at full width."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from clouds import scene
from data.test_layouts import classes_of, colour, file, names, sbd

from netspec.cli import main as cli
from netspec.net import weights
from netspec.net.deploy import deploy
from netspec.net.module import Net
from netspec.proto import text as prototext
from netspec.proto.caffe_pb2 import BlobProto
from netspec.proto.model import write_weights

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "solvers"))

import recipes  # noqa: E402 - the path comes first

SIZE = (64, 48)


def voc(data):
    val = [f"v{i:04d}" for i in range(1111)]
    root = data / "voc/VOC2011"
    names(root / "ImageSets/Segmentation/val.txt", *val)
    names(data / "sbd/dataset/train.txt", *val[100:475], "s0")
    colour(root / "JPEGImages/v0000.jpg", SIZE)
    file(root / "SegmentationClass/v0000.png", classes_of(SIZE, 0, 20))
    for name in val[1:]:  # all files of a list are looked for
        (root / f"JPEGImages/{name}.jpg").hardlink_to(root / "JPEGImages/v0000.jpg")
        (root / f"SegmentationClass/{name}.png").hardlink_to(root / "SegmentationClass/v0000.png")
    for name in (*val[100:475], "s0"):
        sbd(data / "sbd/dataset", name, classes_of(SIZE, 0, 20), png=True)
        colour(data / f"sbd/dataset/img/{name}.jpg", SIZE)


def nyud(data):
    root = data / "nyud"
    for name, split in (("5001", "train"), ("5002", "val"), ("5003", "test")):
        names(root / f"{split}.txt", name)
        for kind in ("images", "hha"):
            colour(root / f"data/{kind}/img_{name}.png", SIZE)
        file(root / f"data/depth/img_{name}.png", classes_of(SIZE, 500, 9000, np.uint16))
        file(root / f"segmentation/img_{name}.mat", None, segmentation=classes_of(SIZE, 0, 40))


def siftflow(data):
    for name, split in (("coast_1", "trainval"), ("coast_2", "test")):
        place = f"spatial_envelope_256x256_static_8outdoorcategories/{name}"
        names(data / f"siftflow/{split}.txt", name)
        colour(data / f"siftflow/Images/{place}.jpg", SIZE)
        file(data / f"siftflow/SemanticLabels/{place}.mat", None, S=classes_of(SIZE, 0, 33))
        file(data / f"siftflow/GeoLabels/{place}.mat", None, S=classes_of(SIZE, -1, 3, np.float64))


def pascalcontext(data):
    for split in ("train", "val"):
        names(data / f"voc/VOC2010/ImageSets/Main/{split}.txt", split)
        colour(data / f"voc/VOC2010/JPEGImages/{split}.jpg", SIZE)
        file(data / f"pascalcontext/trainval/{split}.mat", None, LabelMap=classes_of(SIZE, 1, 459, np.uint16))


def patches(data, folder="38cloud"):
    root = data / folder
    scene(root / "images" if folder == "clouds" else root, "made_training", (500, 600), "training")
    scene(root / "images" if folder == "clouds" else root, "made_test", (300, 384), "test")
    for path in root.rglob("training_patches_38-Cloud.csv"):
        path.with_name("training_patches_38-cloud_nonempty.csv").write_text(path.read_text())


TREES = {"voc": voc, "nyud": nyud, "siftflow": siftflow, "pascalcontext": pascalcontext, "38cloud": patches}


def random_weights(path, net, seed=0):
    """Weights of the size that keeps the sizes of activations, for all but the scores, which start at zero."""
    made = Net(deploy(net, losses=True))
    generator = torch.Generator().manual_seed(seed)
    for parameter in made.parameters():
        if parameter.ndim == 4:
            parameter.data.normal_(0, (2 / parameter[0].numel()) ** 0.5, generator=generator)
    kept = {k: v for k, v in weights.layers_of(made).items() if not k.startswith(("score", "up", "scale"))}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_weights(path, "random", kept)


@pytest.mark.slow
@pytest.mark.parametrize("released, name", [(released, name) for released in (False, True) for name in recipes.names(released)])
def test_three_iterations(tmp_path, monkeypatch, capsys, released, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").symlink_to(ROOT / "models")
    (tmp_path / "data").mkdir()
    TREES[name.partition("-")[0]](tmp_path / "data")
    solver = prototext.read_solver(ROOT / "solvers" / ("heavy" if released else "") / f"{name}.prototxt")
    if name.endswith("balanced"):
        blob = BlobProto(data=np.eye(21).ravel().tolist())
        blob.shape.dim.extend([1, 1, 21, 21])
        (tmp_path / "weights").mkdir()
        (tmp_path / "weights/voc-balance.binaryproto").write_bytes(blob.SerializeToString())
    random_weights(tmp_path / solver.weights[0], ROOT / solver.train_net)
    solver.iter_size, solver.max_iter, solver.snapshot, solver.display, solver.snapshot_after_train = 1, 3, 0, 1, False
    prototext.write(tmp_path / "solver.prototxt", solver)
    assert cli.main(["solve", "solver.prototxt"]) == 0
    log = capsys.readouterr()
    found = losses(log)
    assert len(found) >= 3 and np.isfinite(found).all(), log


@pytest.mark.parametrize("path", sorted((ROOT / "solvers").glob("*.prototxt")), ids=lambda path: path.stem)
def test_recipes_snapshot_at_intervals(path):
    solver = prototext.read_solver(path)
    assert 0 < solver.snapshot <= solver.max_iter / 2 and solver.max_iter % solver.snapshot == 0


def losses(log):
    return [float(line.rpartition("loss = ")[2]) for line in (log.out + log.err).splitlines()
            if "Iteration" in line and ", loss = " in line]


def project(tmp_path, monkeypatch, folder):
    """The nets, and patches of two scenes."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").symlink_to(ROOT / "models")
    (tmp_path / "data").mkdir()
    patches(tmp_path / "data", folder)


def few(name, *weights):
    """A solver of two steps, in the current folder."""
    solver = prototext.read_solver(ROOT / "solvers" / f"{name}.prototxt")
    solver.iter_size, solver.max_iter, solver.snapshot, solver.display, solver.test_iter[:] = 1, 2, 0, 1, [1]
    solver.weights[:] = weights or solver.weights
    prototext.write(Path(f"{name}.prototxt"), solver)
    return f"{name}.prototxt"


@pytest.mark.slow
def test_vgg16_of_three_bands_begins_a_net_of_four(tmp_path, monkeypatch, capsys):
    """The way that the solver's header says, and what doctor says of it."""
    project(tmp_path, monkeypatch, "38cloud")
    random_weights(tmp_path / "weights/vgg16.caffemodel", ROOT / "models/voc-fcn32s/train.prototxt")
    header = (ROOT / "solvers/38cloud-fcn32s.prototxt").read_text().replace("\\\n#", "")
    command = next(line for line in header.splitlines() if "netspec convert" in line)
    assert cli.main(command.split("netspec ")[1].split()) == 0
    file = few("38cloud-fcn32s")
    assert cli.main(["doctor", file, "--device", "cpu"]) == 0
    assert "0 problems" in capsys.readouterr().out
    assert cli.main(["solve", file]) == 0
    assert np.isfinite(losses(capsys.readouterr())).all()


@pytest.mark.parametrize("stages", [["fcn32s"], pytest.param(["fcn32s", "fcn16s", "fcn8s"], marks=pytest.mark.slow)], ids=len)
def test_the_stages_for_generated_scenes_train_and_are_scored_by_the_scene(tmp_path, monkeypatch, capsys, stages):
    project(tmp_path, monkeypatch, "clouds")
    before = ()
    for stage in stages:
        name = f"clouds-{stage}"
        file = few(name, *before)
        assert cli.main(["solve", file]) == 0
        found = losses(capsys.readouterr())
        assert len(found) >= 2 and np.isfinite(found).all()
        before = [f"snapshot/{name}_iter_2.caffemodel"]
    assert cli.main(["doctor", file, "--device", "cpu"]) == 0
    assert "0 problems" in capsys.readouterr().out
    assert cli.main(["score", f"models/{name}/test.prototxt", *before, "--device", "cpu"]) == 0
    assert "made_test" in capsys.readouterr().out
