"""The papers' studies: what each run is, the stitched net, the balance, what the seeds say; and one whole on tiny images."""

import ast
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from netspec.base.machine import PROJECT
from netspec.cli import main as cli
from netspec.net.build import build
from netspec.net.deploy import deploy
from netspec.net.module import Net
from netspec.net.weights import interp, unfilled_upsampling
from netspec.papers import studies
from netspec.papers.record import Settings
from netspec.proto import caffe_pb2
from netspec.proto.model import read_weights
from netspec.pycaffe import io
from netspec.pycaffe.script import read_or_generate
from netspec.score.stitch import Stitched

sys.path.insert(0, str(PROJECT / "data" / "shapes"))

import prepare  # noqa: E402 - the path comes first

ARGS = Settings(device="cpu", quiet=True)


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert not prepare.main(["--root", "data/shapes/images", "--train", "3", "--val", "2", "--size", "64x64"])
    return tmp_path


def test_every_study_is_of_runs_that_are_and_claims_what_it_runs():
    for study in studies.STUDIES.values():
        ends = [f"-x{rate}{end}" for rate in study.rates for end in ("", "-tried")]
        assert {run + end for run in study.runs.values() for end in ends or [""]} <= set(studies.RUNS)
        assert all({a, b} <= set(study.runs) and how in ("above", "like", "open") for a, how, b in study.claims)
    assert all(run.after in ("", *studies.RUNS) for run in studies.RUNS.values())


def test_the_budget_is_in_proportion_and_images_are_counted(place):
    at = studies.Place("shapes", 45, 1, ARGS)  # the solvers have 450, 180 and 180 iterations of ten images
    found = {name: (param.max_iter, images) for name in studies.RUNS for param, images in [at.recipe(name)]}
    assert found["fcn32s"] == (45, 10) and found["fcn8s"] == found["fcn16s-learned"] == (18, 10)
    assert found["atonce"] == found["pool3"] == (81, 10) and found["pool4"] == (63, 10)
    assert found["sampled50"] == (45, 20) and found["sampled25"] == (45, 40)
    assert found["m90"] == (22, 20) and found["m99"] == (450, 1)
    assert (found["bn32s-x3"], found["double-x12"], found["unpool-x48-tried"]) == ((162, 10), (94, 10), (90, 10))
    param, _ = at.recipe("m99")
    assert (param.iter_size, round(param.momentum, 6)) == (1, 0.99) and param.base_lr == pytest.approx(0.003 / 200)
    assert at.recipe("trunk")[0].random_seed == 101
    assert not at.recipe("fcn32s")[0].test_net and at.recipe("fcn16s")[0].base_lr == pytest.approx(0.001)
    whole = studies.Place("shapes", None, 1, ARGS)
    assert whole.recipe("fcn32s")[0].max_iter == 450 and whole.folder != at.folder


def test_the_balance_is_of_the_training_labels(place):
    at = studies.Place("shapes", 1, 1, ARGS)
    blob = caffe_pb2.BlobProto.FromString(at.balance.read_bytes())
    matrix = io.blobproto_to_array(blob)[0, 0]
    assert matrix.shape == (5, 5) and not (matrix - np.diag(np.diag(matrix))).any()
    names = Path("data/shapes/images/ImageSets/Segmentation/train.txt").read_text().split()
    labels = [np.array(Image.open(f"data/shapes/images/SegmentationClass/{name}.png")) for name in names]
    there = [c for c in range(5) if any((label == c).any() for label in labels)]
    frequency = {c: sum((x == c).sum() for x in labels) / sum(x.size for x in labels if (x == c).any()) for c in there}
    for c in range(5):
        expected = np.median(list(frequency.values())) / frequency[c] if c in there else 1
        assert matrix[c, c] == pytest.approx(expected, rel=1e-6)


def stitched(factor, image):
    """A random 32s with its own data: as it is, and stitched."""
    generator = f"{PROJECT / 'models/fcn.py'}:shapes-fcn32s"
    torch.manual_seed(0)
    net = Net(deploy(read_or_generate(f"{generator}/val"), size=image.shape[2:], losses=True))
    with torch.no_grad():
        net.layers_with_params()["score_fr"][0].normal_()
    interp(net, unfilled_upsampling(net))
    small = Net(deploy(read_or_generate(f"{generator}/deploy"), size=image.shape[2:], losses=True), share=net)
    with torch.no_grad():
        return (small({"data": image}, ["score", "score_fr"]), small,
                Stitched(net, small, factor)({"data": image}, ["score"])["score"])


def test_stitching_once_is_the_nets_own_upsampling():
    image = torch.randn(1, 3, 96, 128, generator=torch.Generator().manual_seed(1)) * 50
    own, _, found = stitched(1, image)
    # outside the middles of the first and last cells the deconvolution fades, and stitching repeats the border
    inside = found[..., 32:-32, 32:-32]
    assert torch.allclose(inside, own["score"][..., 32:-32, 32:-32], atol=1e-4 * float(inside.abs().max()))


def test_a_stitched_cell_stands_where_its_window_is():
    """Shifting the image by 8 pixels moves the map stitched to stride 8 by one cell, and its scores by 8 pixels."""
    image = torch.randn(1, 3, 96, 128, generator=torch.Generator().manual_seed(1)) * 50
    _, _, found = stitched(4, image)
    _, _, moved = stitched(4, image[..., 8:, 8:])
    a, b = found[..., 40:-40, 40:-40], moved[..., 32:-40, 32:-40]
    assert a.shape == b.shape and float((a - b).abs().mean()) < 0.05 * float(a.std())


@pytest.mark.parametrize("claim, values, says", [
    (("a", "above", "b"), {"a": [0.5], "b": [0.4]}, "+10.0 (as the paper, but one seed"),
    (("a", "above", "b"), {"a": [0.3], "b": [0.4]}, "-10.0 (the opposite of the paper, but one seed"),
    (("a", "like", "b"), {"a": [0.3], "b": [0.4]}, "-10.0 (one seed cannot"),
    (("a", "above", "b"), {"a": [0.5, 0.6], "b": [0.4, 0.4]}, "as the paper"),
    (("a", "above", "b"), {"a": [0.3, 0.2], "b": [0.4, 0.4]}, "the opposite of the paper"),
    (("a", "above", "b"), {"a": [0.3, 0.5], "b": [0.4, 0.4]}, "no difference that the seeds agree on"),
    (("a", "like", "b"), {"a": [0.3, 0.5], "b": [0.4, 0.4]}, "agree on, as the paper"),
    (("a", "like", "b"), {"a": [0.5, 0.5], "b": [0.4, 0.4]}, "the seeds agree, where the paper saw no great difference"),
    (("a", "open", "b"), {"a": [0.5, 0.5], "b": [0.4, 0.4]}, "over 2 seeds): the seeds agree"),
    (("a", "above", "b"), {"a": [0.4001], "b": [0.4]}, "+0.0 (no difference with this seed)"),
])
def test_what_the_seeds_say(claim, values, says):
    assert says in studies.verdict(claim, values)


@pytest.mark.parametrize("relation", ["above", "like", "open"])
@pytest.mark.parametrize("seeds", [1, 2])
def test_runs_that_learned_nothing_say_nothing(relation, seeds):
    values = {"a": [0.146] * seeds, "b": [0.146] * seeds}
    said = studies.verdict(("a", relation, "b"), values, ["b", "a"])
    assert "says nothing" in said and "paper" not in said


def test_a_study_from_data_to_page_is_kept_and_shared_with_the_next(place, capsys):
    command = ["studies", "balancing", "--budget", "1", "--seeds", "1,2", "--quiet", "--page", "page.md"]
    assert cli.main(command) == 0
    first = capsys.readouterr().out
    page = Path("page.md").read_text()
    assert page.strip() in first and "Budget: 1 iteration of" in page and "random_seed 1, 2" in page
    assert len([line for line in page.splitlines() if line.startswith(("| plain", "| balanced"))]) == 2
    assert re.search(r"^\| plain .* \| +1 \| +10 \| +\d+ \| 1\.61 \| from random weights \|$", page, re.MULTILINE)  # ln 5
    assert "learned nothing yet" in page and "![balancing](page/balancing.png)" in page
    assert Image.open("page/balancing.png").width > 800
    times = {path: path.stat().st_mtime_ns for path in Path("studies").rglob("*.caffemodel")}
    assert cli.main(command) == 0
    assert times == {path: path.stat().st_mtime_ns for path in Path("studies").rglob("*.caffemodel")}
    again = capsys.readouterr().out
    assert [x for x in again.splitlines() if x[:2] in ("| ", "- ")] == [x for x in first.splitlines() if x[:2] in ("| ", "- ")]
    assert cli.main(["studies", "skips", "--family", "shaps"]) == 2
    assert "solvers/shaps-fcn32s.prototxt" in capsys.readouterr().err


def test_each_of_a_study_has_the_rate_that_did_best_with_another_seed(place, monkeypatch, capsys):
    tried = {"bn32s-x3": 0.2, "bn32s-x12": 0.4, "bn32s-x48": 0.3, "double-x3": 0.5, "unpool-x48": 0.1}

    def scored(self, name):
        iu = tried.get(name.removesuffix("-tried"), 0) if name.endswith("-tried") else 0.6
        return {"mean_iu": iu, "pixel_accuracy": 0.9, "histogram": [[1, 1], [1, 1]]}

    monkeypatch.setattr(studies.Place, "scored", scored)
    assert cli.main(["studies", "unpooling", "--budget", "1", "--seed", "4", "5", "--quiet"]) == 0
    said = capsys.readouterr().out
    assert "one deconvolution: base_lr of 0.036, the best of 0.009 (20.0), 0.036 (40.0), 0.144 (30.0), 0.576 (0.0) by the mean IU with seed 104" in said
    assert "five deconvolutions: base_lr of 0.009, the" in said and "un-pooling: base_lr of 0.144, the" in said


def test_a_curve_is_the_mean_of_a_part_of_the_run_up_to_each_point(place):
    at = studies.Place("shapes", 60, 1, ARGS)
    at.folder.mkdir(parents=True)
    (at.folder / "fcn32s.loss.csv").write_text("".join(f"{i},{i / 2},{i / 4}\n" for i in range(60)))  # three are a part
    assert at.curve("fcn32s") == [dict(iterations=i, images=10 * i, seconds=i / 4, loss=pytest.approx((i - 1) / 2)) for i in range(2, 60)]


def test_a_stitched_net_is_scored_as_any(place):
    at = studies.Place("shapes", 1, 1, ARGS)
    assert 0 <= at.scored("stitch2")["mean_iu"] <= 1 and at.scored("stitch2")["images"] == 2
    assert at.curve("stitch2") == [] and len(at.curve("fcn32s")) == 1


def test_a_fixed_trunk_comes_from_another_seed_without_its_scores(place):
    at = studies.Place("shapes", 1, 1, ARGS)
    file, said = at.start("classifier")
    assert "seed 101" in said and not any("score" in layer for layer in read_weights(file))
    before = read_weights(file)
    after = read_weights(at.trained("classifier"))
    assert all(np.array_equal(a, b) for layer in before for a, b in zip(before[layer], after[layer], strict=True))
    assert after["score_fr"][0].any()


def test_sampling_and_balance_change_the_training_net_alone(place):
    at = studies.Place("shapes", 1, 1, ARGS)
    trained = at.recipe("sampled50")[0].train_net_param
    assert [x.name for x in trained.layer if x.type == "Python" and x.bottom] == ["sampled"]
    assert ast.literal_eval(next(x for x in trained.layer if x.name == "sampled").python_param.param_str)["keep"] == 0.5
    made = build(at.net("fcn32s-sampled50", "test"), caffe_pb2.TEST, base=PROJECT)
    assert "sampled" not in [node.name for node in made.nodes]
    assert at.trained("balanced").exists()
