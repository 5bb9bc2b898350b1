"""Validation of nets that find objects: the AP of score, the best weights kept, nothing of the training changed."""

import json
import re
import shutil
from functools import cache
from pathlib import Path

import pytest
from detecting import draw, write_net
from training import solved

from netspec.cli import main as cli
from netspec.proto.model import read_weights

pytestmark = pytest.mark.usefixtures("one_thread")
EACH = pytest.mark.parametrize("name", ["shapes-rfcn-ohem", pytest.param("shapes-rfcn", marks=pytest.mark.slow)])
LINE = re.compile(r"netspec\] Iteration (\d+), test net #0: (mean AP \S+(?: of \d of \d classes)?), 3 images")
SETTINGS = 'base_lr: 0.004 lr_policy: "fixed" momentum: 0.9 clip_gradients: 10 random_seed: 1 max_iter: 60 snapshot: 20 display: 20'


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    root = tmp_path_factory.mktemp("shapes") / "images"
    draw(root, train=6, val=3)
    return root


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """What is said of the training of a net, tested every 20 iterations, once it has been done, here or, before, elsewhere."""
    @cache
    def elsewhere(name):
        folder = tmp_path_factory.mktemp(name) / "job"
        shutil.copytree(".", folder)
        return folder, solved(folder)

    def here(job, name):
        job(name, 20)
        folder, said = elsewhere(name)
        shutil.copytree(folder / "run", "run")
        return said

    return here


@pytest.fixture
def job(drawn, tmp_path, monkeypatch):
    """Writes solver.prototxt for a net, tested every so many iterations."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(drawn, "data/shapes/images")

    def made(name, interval):
        train, val = write_net(name), write_net(name, "val")
        Path("solver.prototxt").write_text(f'train_net: "{train}" test_net: "{val}" test_iter: 3 test_interval: {interval} '
                                           f'test_initialization: false snapshot_prefix: "run/snap" {SETTINGS}')
    return made


def trained(capsys, *args):
    assert cli.main(["solve", "solver.prototxt", *map(str, args)]) == 0
    return capsys.readouterr().err


def scored(capsys, weights, name):
    assert cli.main(["score", f"models/{name}/val.prototxt", weights, "--json", "--quiet", "--device", "cpu"]) == 0
    return json.loads(capsys.readouterr().out)["map"]


@EACH
def test_the_ap_is_that_of_score_and_the_best_weights_are_kept(done, job, capsys, name):
    """Though boxes are learned normalised, with OHEM those of the RPN too."""
    err = done(job, name)
    said = {int(i): told for i, told in LINE.findall(err)}
    assert sorted(said) == [20, 40, 60]
    found = {i: scored(capsys, f"run/snap_iter_{i}.caffemodel", name) for i in said}
    assert {i: told.split()[2] for i, told in said.items()} == {i: f"{100 * ap:.1f}" for i, ap in found.items()}
    assert max(found.values()) > 0
    kept = json.loads(Path("run/snap_best.json").read_text())
    assert kept["map"] == max(found.values()) == found[kept["iteration"]] and kept["images"] == 3
    assert scored(capsys, "run/snap_best.caffemodel", name) == kept["map"]
    best, same = (read_weights(f"run/snap_{end}.caffemodel") for end in ("best", f"iter_{kept['iteration']}"))
    assert all((a == b).all() for layer in best for a, b in zip(best[layer], same[layer], strict=True))
    assert f"the best mean AP of the tests, {100 * kept['map']:.1f}, is of iteration {kept['iteration']}" in err
    assert not re.search("Test net output.*(rois|cls_prob|bbox_pred|gt_boxes|im_info)", err)


@EACH
def test_tests_change_nothing_of_the_training(done, job, capsys, name):
    kinds = ("caffemodel", "solverstate")
    assert LINE.search(done(job, name))
    tested = [Path(f"run/snap_iter_40.{kind}").read_bytes() for kind in kinds]
    shutil.rmtree("run")
    job(name, 1000000)
    assert not LINE.search(trained(capsys, "--iterations", 40))
    assert tested == [Path(f"run/snap_iter_40.{kind}").read_bytes() for kind in kinds]


def test_a_resumed_run_goes_on_from_the_best(done, job, capsys):
    done(job, "shapes-rfcn-ohem")
    expected = Path("run/snap_best.json").read_bytes(), Path("run/snap_best.caffemodel").read_bytes()
    trained(capsys, "--snapshot", "run/snap_iter_20.solverstate")
    assert expected == (Path("run/snap_best.json").read_bytes(), Path("run/snap_best.caffemodel").read_bytes())


def test_curves_show_it(done, job):
    Path("run.log").write_text(done(job, "shapes-rfcn-ohem"))
    assert cli.main(["curves", "run.log", "--out", "curves.svg"]) == 0
    text = Path("curves.svg").read_text()
    assert "mean AP in percent" in text and "test mean AP, best" in text
