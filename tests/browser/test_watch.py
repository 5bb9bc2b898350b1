"""A training in the page while it goes on, and what it left."""

import pytest
from programs import Program
from thirds import write_thirds
from training import write_tested

from .conftest import Server, shot

pytestmark = pytest.mark.browser
EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture
def watched(opened, tmp_path):
    """The tab, of a folder with a small training, and a log whose names are markup."""
    write_tested(tmp_path)
    (tmp_path / "pair").mkdir()
    write_thirds(tmp_path / "pair")
    (tmp_path / "pair/net.prototxt").rename(tmp_path / "pair/deploy.prototxt")
    (tmp_path / "run/<svg onload=alert(2)>.log").write_text(f"I1130 08:16:44.283781 1 solver.cpp:289] Solving {EVIL}\nIteration 20, loss = 1.5\n")
    server = Server(tmp_path, ".")
    try:
        tab = opened(server.at)
        tab.on("dialog", lambda dialog: pytest.fail(f"a name ran as a program: {dialog.message}"))
        tab.get_by_role("tab", name="Watch").click()
        tab.wait_for_selector("#curves img")
        yield tab
        tab.close()
    finally:
        server.end()


def test_a_log_is_followed_while_it_grows(watched, tmp_path):
    table = watched.locator("#runs")
    assert EVIL in table.inner_text() and "1.5" in table.inner_text()
    before = watched.locator("#curves img").get_attribute("src")
    with open(tmp_path / "run/<svg onload=alert(2)>.log", "a") as log:
        log.write("Iteration 40, loss = 0.75\n")
    watched.wait_for_function("document.querySelector('#runs').innerText.includes('0.75')")
    assert watched.locator("#curves img").get_attribute("src") != before
    watched.locator("#logs input").click()
    watched.get_by_role("option").filter(has_text="run.log").click()
    watched.wait_for_function("document.querySelector('#runs').innerText.includes('12 of 12')")
    assert not watched.locator("img[src=x], svg[onload]").count()
    shot(watched, "watched")


def test_what_it_left_is_scored(watched):
    watched.wait_for_selector("#recorded table")
    watched.click("#score")
    watched.wait_for_selector("#confusion img")
    assert "snap_iter_12.caffemodel" in watched.locator("#measures").inner_text() and "class 3" in watched.locator("#classes-scored").inner_text()
    watched.locator("#live input").click()
    watched.wait_for_selector("text=snap_iter_12.caffemodel: 3 images in")
    assert watched.locator("#sheet img").count() and not watched.locator("#confusion img").count()
    shot(watched, "scored")


def test_a_training_is_watched_while_it_goes_on(watched, tmp_path):
    solver = tmp_path / "solver.prototxt"
    solver.write_text(solver.read_text().replace("max_iter: 12", "max_iter: 100000000").replace("snapshot: 3", "snapshot: 0").replace("run/snap", "live/snap"))
    training = Program("-m", "netspec", "solve", "solver.prototxt", "--log", "run/live.log", cwd=tmp_path)
    try:
        watched.wait_for_timeout(3000)
        watched.get_by_role("tab", name="Try").click()
        watched.get_by_role("tab", name="Watch").click()
        watched.locator("#logs input").click()
        watched.get_by_role("option").filter(has_text="live.log").click()
        watched.keyboard.press("Escape")
        watched.wait_for_function("document.querySelector('#runs').innerText.includes('of 100000000')")
        seen = watched.locator("#runs").inner_text()
        watched.wait_for_function("seen => document.querySelector('#runs').innerText !== seen", arg=seen)
        assert training.poll() is None
    finally:
        training.kill()
        training.wait(20)
