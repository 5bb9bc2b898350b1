"""Alternating training: four solvers, one command; proposals are written once, and bound to data and weights."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from detecting import SOLVER, draw, write_net

from netspec.cli import main as cli
from netspec.data import proposals
from netspec.proto.model import read_weights

pytestmark = pytest.mark.usefixtures("one_thread")
STEPS = ("rpn1", "rfcn1", "rpn2", "rfcn2")
NAME = "shapes-rfcn"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder where `solve` has run the four steps."""
    folder = tmp_path_factory.mktemp("steps")
    draw(folder / "data/shapes/images")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for split in (*STEPS, "rpn", "val"):
            write_net(NAME, split)
        for split in STEPS:
            more = ""
            if split == "rfcn2":
                more = (f'weights: "snapshot/{NAME}-rfcn1_iter_3.caffemodel" test_net: "models/{NAME}/val.prototxt" '
                        "test_iter: 1 test_interval: 999 test_initialization: false")
            Path(f"{split}.prototxt").write_text(f'train_net: "models/{NAME}/{split}.prototxt" {SOLVER} {more} '
                                                 f'snapshot_prefix: "snapshot/{NAME}-{split}"')
        assert cli.main(["solve", *(f"{split}.prototxt" for split in STEPS), "--quiet"]) == 0
    return folder


@pytest.fixture
def steps(trained, tmp_path, monkeypatch):
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)


def weights(split, end="_iter_3"):
    return read_weights(f"snapshot/{NAME}-{split}{end}.caffemodel")


def equal(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_each_stage_begins_with_what_the_paper_says(steps):
    found = {split: weights(split) for split in STEPS}
    assert not equal(found["rpn1"]["conv1_1"], found["rfcn1"]["conv1_1"])  # the detector of its own
    assert all(equal(found["rfcn1"][layer], found[split][layer]) for split in ("rpn2", "rfcn2")
               for layer in ("conv1_1", "conv2_1", "conv3_2", "conv4_2"))  # shared, and kept
    assert not equal(found["rfcn1"]["rfcn_cls"], found["rfcn2"]["rfcn_cls"])


def test_the_last_two_stages_become_one_net(steps):
    found = weights("rfcn2", "_joined")
    assert equal(found["rpn_bbox_pred"], weights("rpn2")["rpn_bbox_pred"])
    assert equal(found["rfcn_bbox"], weights("rfcn2")["rfcn_bbox"]) and equal(found["conv5_2"], weights("rfcn2")["conv5_2"])


def test_proposals_are_of_the_images_in_order_and_written_once(steps):
    place = Path(f"snapshot/{NAME}-rpn2.proposals.npz")
    found, before = proposals.read(place), place.stat().st_mtime_ns
    assert found.names == [f"train_{i:04d}" for i in range(4)]
    for boxes in found.boxes:
        assert boxes.shape[1] == 4 and 0 < len(boxes) <= 300 and boxes.min() >= 0 and boxes[:, 2].max() <= 127
    state = f"snapshot/{NAME}-rfcn2_iter_2.solverstate"
    whole = weights("rfcn2", "_joined")
    Path(f"snapshot/{NAME}-rfcn2_joined.caffemodel").unlink()
    assert cli.main(["solve", *(f"{split}.prototxt" for split in STEPS), "--snapshot", state, "--quiet"]) == 0
    assert place.stat().st_mtime_ns == before
    assert all(equal(whole[layer], weights("rfcn2", "_joined")[layer]) for layer in whole)


def test_proposals_of_other_weights_are_made_anew(steps):
    shutil.copy(f"snapshot/{NAME}-rpn1.proposals.npz", f"snapshot/{NAME}-rpn2.proposals.npz")
    other = proposals.read(Path(f"snapshot/{NAME}-rpn1.proposals.npz"))
    assert cli.main(["solve", "rpn2.prototxt", "rfcn2.prototxt", "--weights", f"snapshot/{NAME}-rfcn1_iter_3.caffemodel",
                     "--quiet"]) == 0
    assert proposals.read(Path(f"snapshot/{NAME}-rpn2.proposals.npz")).weights != other.weights


def test_a_stage_alone_says_what_it_lacks(steps, capsys):
    Path(f"snapshot/{NAME}-rpn1.proposals.npz").unlink()
    assert cli.main(["solve", "rfcn1.prototxt", "--quiet"]) == 2
    assert f"the proposals snapshot/{NAME}-rpn1.proposals.npz are not there; 'netspec solve' makes them" in capsys.readouterr().err


def test_proposals_of_another_data_set_are_refused(steps, capsys):
    shutil.rmtree("data")
    draw(Path("data/shapes/images"), train=3)
    assert cli.main(["solve", "rfcn1.prototxt", "--quiet"]) == 2
    assert "are of another data set" in capsys.readouterr().err


def test_weights_of_the_stage_before_that_are_gone(steps, capsys):
    Path(f"snapshot/{NAME}-rpn2_iter_3.caffemodel").unlink()
    assert cli.main(["solve", *(f"{split}.prototxt" for split in STEPS), "--quiet", "--snapshot",
                     f"snapshot/{NAME}-rfcn2_iter_2.solverstate"]) == 2
    assert f"the weights snapshot/{NAME}-rpn2_iter_3.caffemodel are not there" in capsys.readouterr().err


def test_a_test_net_that_has_not_both_stages_layers_is_told_before_they_train(steps, capsys):
    val = Path(f"models/{NAME}/val.prototxt")
    val.write_text(val.read_text().replace("num_output: 128", "num_output: 64", 1))
    before = sorted(Path("snapshot").iterdir()), Path(f"snapshot/{NAME}-rpn1_iter_3.caffemodel").stat().st_mtime_ns
    assert cli.main(["solve", *(f"{split}.prototxt" for split in STEPS), "--quiet"]) == 2
    told = capsys.readouterr().err
    assert "layer 'rpn_conv/3x3' has parameters [64, 96, 3, 3] in the test net and [128, 96, 3, 3] in what" in told
    assert "rpn2.prototxt trains" in told
    assert before == (sorted(Path("snapshot").iterdir()), Path(f"snapshot/{NAME}-rpn1_iter_3.caffemodel").stat().st_mtime_ns)
