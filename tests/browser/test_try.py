"""Nets tried in a browser: dropped pictures, what is asked of the results, two people, and what goes wrong."""

import io
import os
import signal
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from programs import run
from thirds import thirds

from .conftest import changed, choose, drop, picture, read, shot

pytestmark = pytest.mark.browser


def test_a_dropped_picture_is_seen_and_asked_about(opened, site):
    tab = opened()
    begin = time.monotonic()
    drop(tab, site / "run/wide.png")
    print(f"from drop to overlay: {time.monotonic() - begin:.2f} s")
    shot(tab, "try")
    done = run("-m", "netspec", "infer", "run/deploy.prototxt", "run/net.caffemodel", "run/wide.png", "--out", "out", "--scores", cwd=site)
    assert done.returncode == 0, done.stderr
    assert read(tab, "#labels0") == (site / "out/wide_labels.png").read_bytes()
    assert np.array_equal(np.load(io.BytesIO(read(tab, "#scores0"))), np.load(site / "out/wide_scores.npy"))
    seen = picture(tab)
    whole = np.asarray(Image.open(io.BytesIO(tab.request.get(seen).body())).convert("RGB"))
    assert np.array_equal(whole, np.asarray(Image.open(site / "out/wide_overlay.png").convert("RGB")))
    tab.locator("#alpha input[type=number]").fill("0.2")
    tab.keyboard.press("Enter")
    seen = changed(tab, seen)
    tab.locator("#classes").get_by_label("red").uncheck()
    seen = changed(tab, seen)
    choose(tab, "#what", "probability of one class")
    seen = changed(tab, seen)
    choose(tab, "#number", "green")
    seen = changed(tab, seen)
    shot(tab, "map")
    choose(tab, "#what", "overlay")
    seen = changed(tab, seen)
    tab.locator("#seen0 img").click(position={"x": 40, "y": 40})
    tab.wait_for_selector("#pixel table")
    assert "pixel " in tab.locator("#pixel").inner_text()
    assert "netspec infer" in tab.locator("#try-words").inner_text()


def test_many_pictures_and_what_cannot_be_read(opened, site, tmp_path):
    (tmp_path / "none.png").write_bytes(b"no picture at all")
    tab = opened()
    drop(tab, site / "run/photo.png", tmp_path / "none.png", site / "run/wide.png")
    tab.wait_for_selector("#try-said .bad")
    said = tab.locator("#try-said").inner_text()
    done = run("-m", "netspec", "infer", "run/deploy.prototxt", "run/net.caffemodel", tmp_path / "none.png", cwd=site)
    assert "1 of 3 images gave no results" in said and "none.png" in said and done.returncode == 2
    seen = picture(tab)
    choose(tab, "#which", "wide.png")
    changed(tab, seen)
    tab.set_input_files("#drop input[type=file]", [])


def test_pictures_out_of_the_folders_and_none(opened):
    tab = opened()
    tab.locator("#try").click()
    tab.wait_for_selector("#try-said .bad")
    assert "no picture is given: drop one" in tab.locator("#try-said").inner_text()
    choose(tab, "#picked", "run/photo.png")
    tab.keyboard.press("Escape")
    tab.locator("#try").click()
    tab.wait_for_selector("#seen0 img")


def test_two_people_at_once(opened, site):
    first, other = opened(), opened()
    drop(first, site / "run/wide.png")
    drop(other, site / "run/photo.png")
    assert "wide.png" in first.locator("#try-words").inner_text() and "photo.png" in other.locator("#try-words").inner_text()
    choose(first, "#what", "labels")
    assert first.locator("#which input").first.input_value() == "wide.png"
    assert other.locator("#what input").first.input_value() == "overlay"


@pytest.mark.parametrize("width", [1400, 700])
@pytest.mark.parametrize("dark", [False, True])
def test_it_is_legible_wide_and_narrow_by_day_and_night(opened, site, server, width, dark):
    tab = opened(f"{server.at}?__theme={'dark' if dark else 'light'}", width, dark)
    drop(tab, site / "run/wide.png")
    shot(tab, f"try-{width}-{'dark' if dark else 'light'}")
    assert tab.evaluate("document.documentElement.scrollWidth") <= width


def status(address):
    try:
        with urllib.request.urlopen(address, timeout=20) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def test_nothing_else_is_served(server, site):
    for path in ("/etc/passwd", "../secret.png", str(site / "secret.png"), str(site / "run/deploy.prototxt"), "run/photo.png",
                 "run/../secret.png", "%2e%2e/secret.png", "..%2fsecret.png", "/proc/self/environ", "//etc/passwd", "file:///etc/passwd",
                 "serve.log", str(Path(__file__)), "C:\\Windows\\win.ini"):
        for place in ("gradio_api/file=", "file=", "static/", "assets/", "gradio_api/file/", "gradio_api/proxy="):
            assert status(f"{server.at}{place}{path}") >= 400, place + path


def children(process):
    return [int(number) for number in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def started(server):
    """The process of the command that the page runs now."""
    kept = next(one for one in children(server.process.pid) if b"multiprocessing" in Path(f"/proc/{one}/cmdline").read_bytes()
                and b"resource_tracker" not in Path(f"/proc/{one}/cmdline").read_bytes())
    for _ in range(400):
        if found := children(kept):
            return found[0]
        time.sleep(0.05)
    raise AssertionError("no command runs")


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A picture that takes a while."""
    path = tmp_path_factory.mktemp("large") / "large.png"
    thirds(6000, 5000).save(path)
    return path


def test_a_pass_that_breaks_leaves_the_page_alive(opened, server, site, large):
    tab = opened()
    tab.set_input_files("#drop input[type=file]", [str(large)])
    os.kill(started(server), signal.SIGKILL)
    tab.wait_for_selector("#try-said .bad")
    assert "was ended by SIGKILL" in tab.locator("#try-said").inner_text()
    tab.locator("#drop button[aria-label=Clear]").click()
    drop(tab, site / "run/photo.png")


def test_a_pass_can_be_stopped(opened, server, large):
    tab = opened()
    tab.set_input_files("#drop input[type=file]", [str(large)])
    process = started(server)
    tab.locator("#try-stop").click()
    tab.wait_for_selector("#try-said .bad")
    assert tab.locator("#try-said").inner_text().strip() == "stopped"
    assert not Path(f"/proc/{process}").exists()


def test_loaded_again_in_the_middle_of_a_pass_it_begins_anew(opened, server, site, large):
    tab = opened()
    tab.set_input_files("#drop input[type=file]", [str(large)])
    process = started(server)
    opened.reload(tab)
    drop(tab, site / "run/photo.png")
    for _ in range(100):
        if not Path(f"/proc/{process}").exists():
            break
        time.sleep(0.1)
    else:
        raise AssertionError("the pass of the tab that is gone goes on")


def test_a_picture_that_is_too_large_is_refused_with_the_number(opened, tmp_path):
    thirds(8000, 6000).save(tmp_path / "huge.png")
    tab = opened()
    tab.set_input_files("#drop input[type=file]", [str(tmp_path / "huge.png")])
    tab.wait_for_selector("#try-said .bad")
    assert "huge.png has 8000 x 6000 = 48.0 million pixels, and this page takes 40 million" in tab.locator("#try-said").inner_text()
