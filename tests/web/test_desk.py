"""What the tabs of a page share: sessions and their folders, nets with weights, what goes with whom."""

import os
import threading
from pathlib import Path

import pytest
from thirds import write_thirds

from netspec.base.errors import Error
from netspec.proto.model import write_weights
from netspec.web.desk import Desk, Pair, said
from netspec.web.folders import Folders


class Stood:
    """A run that stands still."""

    def __init__(self, *argv):
        self.argv, self.stopped = argv, False

    def stop(self):
        self.stopped = True


@pytest.fixture
def desk(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "kept").mkdir()
    (tmp_path / "run").mkdir()
    write_thirds(tmp_path)
    return Desk(None, Folders([Path("run")]), [Pair("net.prototxt", "net.caffemodel")], tmp_path / "kept", 40)


def test_a_tab_has_a_folder_which_goes_with_it(desk):
    first, other = desk.session("a"), desk.session("../../b")
    assert desk.session("a") is first and first.folder != other.folder
    assert {first.folder.parent, other.folder.parent} == {desk.temporary}
    assert first.place() != first.place()
    run = Stood()
    first.runs.append(run)
    desk.leave("a")
    desk.leave("a")
    assert run.stopped and not first.folder.exists() and other.folder.exists()
    with pytest.raises(Error, match="this tab is closed"):
        desk.session("a")
    assert desk.session(None) is desk.session(None)


def test_a_panel_ends_its_own_commands(desk):
    session, runs = desk.session("a"), [Stood("score", "net"), Stood("infer", "net"), Stood("curves", "log")]
    session.runs += runs
    session.stop("score", "draw")
    assert [run.stopped for run in runs] == [True, False, False]
    session.stop()
    assert all(run.stopped for run in runs)


def test_tabs_come_at_once(desk):
    found = []
    threads = [threading.Thread(target=lambda n=n: found.append(desk.session(str(n % 4)).folder)) for n in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 40 and len(set(found)) == 4


def test_weights_in_the_folders_are_offered_with_their_net_the_newest_first(desk, tmp_path):
    for age, name in enumerate(("shapes-fcn8s_best.caffemodel", "shapes-fcn8s_iter_90.caffemodel", "voc-fcn32s_iter_7.caffemodel", "strange.caffemodel")):
        write_weights(tmp_path / "run" / name, "x", {})
        os.utime(tmp_path / "run" / name, (10**9 - age, 10**9 - age))
    found = desk.pairs()
    assert [pair.weights for pair in found.values()] == [
        "net.caffemodel", "run/shapes-fcn8s_best.caffemodel", "run/shapes-fcn8s_iter_90.caffemodel", "run/voc-fcn32s_iter_7.caffemodel"]
    assert [Path(pair.net).parts[-2:] for pair in found.values()][1:] == [("shapes-fcn8s", "deploy.prototxt")] * 2 + [("voc-fcn32s", "deploy.prototxt")]
    (tmp_path / "run/deploy.prototxt").write_text("")
    assert Pair("run/deploy.prototxt", "run/strange.caffemodel") in desk.pairs().values()
    os.unlink(tmp_path / "run/deploy.prototxt")
    os.symlink(tmp_path / "net.prototxt", tmp_path / "run/deploy.prototxt")  # which was not given
    assert "run/strange.caffemodel" not in {pair.weights for pair in desk.pairs().values()}
    os.unlink(tmp_path / "run/deploy.prototxt")
    (tmp_path / "run/deploy.prototxt").write_text("")
    assert desk.nets()["voc-fcn8s"] == "voc-fcn8s" and desk.nets()["run/deploy.prototxt"] == "run/deploy.prototxt"


def test_lines_for_people_are_no_markup():
    assert said("<img src=x onerror=alert(1)>", bad=True) == '<p class="said bad" role="status">&lt;img src=x onerror=alert(1)&gt;</p>'
