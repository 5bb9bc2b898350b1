"""Trainings as the page sees them: a log that grows, weights and the net that tests them, scores and records of real runs."""

import json
import os
import shutil
from pathlib import Path

import pytest
from training import write_tested

from netspec.base.errors import Error
from netspec.cli.main import main
from netspec.web import runs
from netspec.web.commands import Commands
from netspec.web.desk import Desk
from netspec.web.folders import Folders
from netspec.web.panel import output
from netspec.web.watching import Watching

GOLDEN = Path(__file__).parents[1] / "golden" / "log" / "train.log"
NASTY = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a small training that has ended: solver, nets, data, log and snapshots."""
    return write_tested(tmp_path_factory.mktemp("trained"))


@pytest.fixture
def home(trained, tmp_path, monkeypatch):
    """A copy of it, which is the current folder."""
    shutil.copytree(trained, tmp_path / "home")
    monkeypatch.chdir(tmp_path / "home")
    return tmp_path / "home"


def aged(*files):
    """Files from the oldest to the newest."""
    for age, file in enumerate(files):
        os.utime(file, (10**9 + age, 10**9 + age))


def test_logs_are_known_by_what_is_in_them_the_newest_first(home):
    shutil.copy(GOLDEN, "run/caffe.txt")
    Path("run/bare.log").write_text("Iteration 20, loss = 1.5\n")
    Path("run/classes.txt").write_text("background\nsun\n")
    Path("run/other.log").write_text("I1130 08:16:44.283781 19208 server.go:17] Iteration\n")
    Path("run/bytes.log").write_bytes(bytes(range(256)) * 100)
    aged("run/run.log", "run/bare.log", "run/caffe.txt")
    assert runs.logs(Folders([Path("run")])) == ["run/caffe.txt", "run/bare.log", "run/run.log"]


def test_a_log_that_has_grown_is_news_once(home):
    session, files = Desk(None, Folders([home]), [], home, 40).session("a"), [Path("run/run.log")]
    assert session.news("logs", runs.marks(files)) and not session.news("logs", runs.marks(files))
    with open("run/run.log", "a") as log:
        log.write("x")
    assert session.news("logs", runs.marks(files)) and not session.news("logs", runs.marks(files))
    assert session.news("weights", runs.marks(files))  # another thing


def test_a_log_has_begun_once_there_is_a_number(home):
    whole = Path("run/run.log").read_text()
    Path("cut.log").write_text(whole[: whole.index("Iteration 0")])
    assert runs.is_log(Path("cut.log")) and not runs.begun(Path("cut.log")) and runs.begun(Path("run/run.log"))


def test_what_curves_prints_of_runs(home, capsys):
    """Of a run that has ended, one that has not, and Caffe's own, whose log tells less."""
    text = Path("run/run.log").read_text()
    Path("cut.log").write_text(text[: text.index("Iteration 9")] + "\n")
    assert main(["curves", "run/run.log", "cut.log", str(GOLDEN), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    panels = told["runs"]["run.log"]["panels"]
    loss, tested = panels["loss"]["smoothed loss"][-1][1], panels["mean IU in percent"]["test mean IU"][-1][1]
    ended, cut, golden = runs.rows(told)
    assert ended[:5] == ["run.log", "12 of 12", f"{loss:.4g}", "0.025", f"{tested:.4g} mean IU"] and ended[6] == "done"
    assert cut[:2] == ["cut.log", "6 of 12"] and float(cut[5]) > 0 and cut[6].startswith("0:0")
    assert golden[0] == "train.log" and " of " not in golden[1] and golden[6] == "done"


def test_numbers_that_are_none():
    run = {"panels": {"loss": {"smoothed loss": [[0, None]], "test loss": [[0, 2.5]]}}, "iteration": 0, "max_iter": None,
           "finished": False, "iterations_per_second": None, "seconds_left": None}
    assert runs.rows({"runs": {"a": run}}) == [["a", "0", "no number", "", "2.5 loss", "", ""]]


def test_weights_stand_under_their_prefix_the_newest_run_first(home):
    for number in (3, 6, 9, 12):
        os.utime(f"run/snap_iter_{number}.caffemodel", (10**9 - number, 10**9 - number))
    os.utime("run/snap_best.caffemodel", (10**9, 10**9))
    shutil.copy("run/snap_iter_3.caffemodel", "run/other_iter_1.caffemodel.h5")
    folders = Folders([Path("run")])
    assert runs.prefixes(folders) == ["run/other", "run/snap", "run/snap_best.caffemodel"]
    assert str(runs.newest("run/snap", folders)) == "run/snap_iter_3.caffemodel"  # written last
    assert str(runs.newest("run/snap_best.caffemodel", folders)) == "run/snap_best.caffemodel"
    with pytest.raises(Error, match=r"^there are no weights run/snip_iter_N.caffemodel \(yet\)$"):
        runs.newest("run/snip", folders)
    shutil.copy("run/snap_iter_3.caffemodel", "out_iter_3.caffemodel")
    for prefix in ("out", "run/../out", "../home/out_best.caffemodel"):
        with pytest.raises(Error, match="is none of the files that this page was given"):
            runs.newest(prefix, folders)


def test_a_log_tells_whose_weights_are_its(home):
    assert runs.saved(Path("run/run.log")) == "run/snap" and runs.saved(Path("solver.prototxt")) == ""
    assert runs.likely("elsewhere/snap", ["/a/b", "/a/snap", "/a/c"]) == "/a/snap"
    assert (runs.likely("x/y", ["/a/b"]), runs.likely("", [])) == ("/a/b", None)


def test_the_net_that_tests_weights_is_that_of_their_solver(home, tmp_path):
    Path("run/broken.prototxt").write_text("base_lr: 1 net: {")
    folders = Folders([home])
    for prefix in ("run/snap", "run/snap_best.caffemodel"):
        assert runs.test_net(prefix, folders).resolve() == home / "val.prototxt"
    assert runs.test_net("run/shapes-fcn8s", folders).parts[-2:] == ("shapes-fcn8s", "val.prototxt")  # by its name
    with pytest.raises(Error, match="^the net that tests other is not known: no solver in the folders"):
        runs.test_net("run/other", folders)
    (tmp_path / "far").mkdir()
    shutil.copy("solver.prototxt", tmp_path / "far" / "solver.prototxt")
    with pytest.raises(Error, match="is not known"):  # its net lies outside
        runs.test_net("run/snap", Folders([tmp_path / "far"]))


def test_scores_are_those_of_the_command(home, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    argv = runs.words(Path("val.prototxt"), Path("run/snap_iter_12.caffemodel"), tmp_path / "out")
    assert main(argv) == 0
    told = json.loads(capsys.readouterr().out)
    found = runs.Scored.of(told)
    assert list(found.measures) == ["pixel acc.", "mean acc.", "mean IU", "f.w. IU"]
    assert found.measures["mean IU"] == 100 * told["mean_iu"] and found.columns == ["class", "IU", "accuracy"]
    assert len(found.classes) == 4 and found.classes[0] == ["class 0", *(round(100 * told["classes"][0][key], 1) for key in ("iu", "accuracy"))]
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"predictions", "sheet.png", "confusion.png"}


def test_of_boxes_there_is_no_confusion_matrix_and_a_named_net_goes_by_its_name(tmp_path):
    argv = runs.words(runs.names.net_file("shapes-rfcn/val"), Path("w.caffemodel"), tmp_path)
    assert argv[1] == "shapes-rfcn/val" and "--sheet" in argv and "--confusion" not in argv
    told = {"map": 0.5, "overlap": 0.5, "seconds": 1.5, "images": 3, "classes": [{"name": "sun", "ap": 0.25, "truths": 7}]}
    assert runs.Scored.of(told) == ({"MAP": 50.0}, ["class", "AP", "truths"], [["sun", 25.0, 7]])
    scenes = {"thresholds": [{"threshold": 0.1, "mean": {"jaccard": 0.5}, "scenes": {"one": {"jaccard": 0.5}}}], "seconds": 1.0}
    assert runs.Scored.of(scenes) == ({"jaccard": 50.0}, ["class", "jaccard"], [["one", 50.0]])


def test_nets_that_want_statistics_in_their_weights_are_not_scored_without(tmp_path):
    with pytest.raises(Error, match=r"test.prototxt wants the statistics of the training data .* none in w_iter_9.caffemodel"):
        runs.words(runs.names.net_file("camvid-segnet/test"), Path("w_iter_9.caffemodel"), tmp_path)
    assert runs.words(runs.names.net_file("camvid-segnet/val"), Path("w_iter_9.caffemodel"), tmp_path)


def test_records_stand_beside_weights_and_no_name_in_them_does_anything(home, tmp_path):
    folders = Folders([Path("run")])
    (best,) = runs.records("run/snap", folders)
    told = json.loads(best.read_text())
    shown = runs.measures("recorded, %", runs.recorded([best]))
    assert ">snap_best.caffemodel<" in shown and f">{100 * told['mean_iu']:.1f}<" in shown
    Path("run/snap.json").write_text(json.dumps({"mean_iu": 0.5, "weights": NASTY, NASTY: 0.25, "thresholds": 3,
                                                 "classes": [{"name": NASTY, "iu": 0.5, "more": [NASTY]}]}))
    assert runs.records("run/snap_best.caffemodel", folders) == [Path("run/snap.json"), best]
    found = runs.recorded(runs.records("run/snap", folders))
    assert found[NASTY].classes == [[NASTY, 50.0]] and "<img" not in runs.measures("%", found)
    Path("run/snap.json").write_text("[]")
    with pytest.raises(Error, match="is no record of measurements"):
        runs.recorded(runs.records("run/snap", folders))
    Path("run/snap.json").unlink()
    shutil.copy(best, tmp_path / "secret.json")
    Path("run/snap.json").symlink_to(tmp_path / "secret.json")
    assert runs.records("run/snap", folders) == [best]


@pytest.fixture(scope="module")
def commands():
    made = Commands(main)
    yield made
    made.close()


@pytest.fixture
def desk(commands, home, tmp_path):
    (tmp_path / "page").mkdir()
    return Desk(commands, Folders([home]), [], tmp_path / "page", 40)


def test_the_tab(desk, home, monkeypatch):
    """What a training that goes on, its weights and the button make of the page, by real commands."""
    gradio = pytest.importorskip("gradio")
    with gradio.Blocks():
        tab = Watching(desk)
    session, log = desk.session("a"), str(home / "run/run.log")
    logs, which, told = tab.begin([], None, "")
    assert (logs.value, which.value, told) == ([log], str(home / "run/snap"), "")
    whole = Path(log).read_text()
    Path(log).write_text(whole[: whole.index("Iteration 0")])
    (update,) = tab.follow(session, [log])
    assert "no numbers yet in run.log" in update[tab.said] and update[tab.table] == ""
    Path(log).write_text(whole)
    drawn, weights = tab.follow(session, [log])
    assert drawn[tab.words].value == f"netspec curves {log} --overlay --out curves.png --json" and drawn[tab.said] == ""
    assert "<td class=\"text\">12 of 12</td>" in drawn[tab.table] and "src=\"data:image/png;base64," in drawn[tab.curves]
    assert weights[tab.which].value == which.value
    assert list(tab.follow(session, [log])) == []  # nothing has changed
    (records,) = tab.look(session, False, which.value)
    assert "snap_best.caffemodel" in records[tab.recorded] and list(tab.look(session, False, which.value)) == []
    monkeypatch.setattr(desk.commands, "trusted", True)  # for which score has no option
    *steps, last = tab.score(session, which.value)
    assert steps[0][tab.panel.words].value.startswith(f"netspec score {home / 'val.prototxt'} {home / 'run/snap_iter_12.caffemodel'} --json")
    assert last[tab.classes].visible and "4 images in" in last[tab.panel.said] and "snap_iter_12" in last[tab.measures]
    assert [last[picture].visible for picture in tab.pictures] == [True, True]
    (last,) = list(tab.look(session, True, which.value))[-1:]
    assert "snap_iter_12.caffemodel: 3 images in" in last[tab.panel.said] and [last[picture].visible for picture in tab.pictures] == [True, False]
    assert list(tab.look(session, True, which.value)) == []
    (other,) = tab.turned(session, str(home / "run/snap_best.caffemodel"))
    assert not other[tab.pictures[0]].visible and other[tab.measures] == ""
    with pytest.raises(Error, match="no weights are chosen"):
        next(tab.score(session, None))
    assert {path.name for path in session.folder.iterdir()} <= {"2", "3", "4", "5"}  # of what was drawn nothing stays


def test_where_there_is_no_log_the_page_says_how_one_begins(desk, home):
    gradio = pytest.importorskip("gradio")
    with gradio.Blocks():
        tab = Watching(desk)
    Path("run/run.log").unlink()
    logs, _, told = tab.begin(["gone.log"], "gone", "")
    assert logs.value == [] and f"netspec solve SOLVER --log {home / 'run.log'}" in told


def test_a_command_that_fails_says_why(desk, home):
    *_, run = desk.follow(desk.session("a"), ["curves", str(home / "solver.prototxt"), "--json"])
    with pytest.raises(Error, match="solver.prototxt: is no log of a training"):
        output(run)
