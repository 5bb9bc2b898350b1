"""A page as people have it: a server of its own, folders with pictures and a short training, and Chromium."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from programs import PROJECT, environment
from thirds import thirds, write_thirds

SHOTS = PROJECT / "build/browser"
STARTED = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
           "--disable-component-update", "--disable-sync"]
SECONDS = 120


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """A folder with `run`: the net of thirds and its weights, and `secret.png` beside it."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "run").mkdir()
    write_thirds(folder / "run")
    (folder / "run/net.prototxt").rename(folder / "run/deploy.prototxt")
    thirds(200, 150, (2, 0, 1)).save(folder / "run/wide.png")
    thirds().save(folder / "secret.png")
    return folder


class Server:
    """`netspec serve` in a process of its own."""

    def __init__(self, folder, *argv, log=None, **more):
        """log: where it says what is wrong (default: a file in the folder, in which it runs)."""
        self.log = open(log or folder / "serve.log", "w+")
        self.process = subprocess.Popen([sys.executable, "-u", "-m", "netspec", "serve", *argv, "--port", "0"], cwd=folder,
                                        env=environment(**more), stdout=subprocess.PIPE, stderr=self.log, text=True)
        found = re.match(r"the page is at (http://\S+)", self.process.stdout.readline())
        assert found, self.said()
        self.at = found[1]

    def said(self):
        self.log.seek(0)
        return self.log.read()

    def end(self):
        self.process.terminate()
        self.process.wait(20)
        self.log.close()


@pytest.fixture(scope="session")
def server(site):
    made = Server(site, "run")
    yield made
    assert made.process.poll() is None and "Traceback" not in made.said(), made.said()
    made.end()


def chromium_at():
    return shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture(scope="session")
def chromium():
    api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: pip install playwright")
    where = chromium_at()
    if not where:
        pytest.skip("there is no Chromium: apt-get install chromium")
    SHOTS.mkdir(parents=True, exist_ok=True)
    with api.sync_playwright() as made:
        browser = made.chromium.launch(executable_path=where, args=STARTED)
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium, server):
    """Opens tabs of the page; at the end none has asked another host for anything, nor complained."""
    tabs, others, complaints = [], [], []
    leaving = re.compile("AbortError|Connection errored out")  # what a tab says of a stream that it leaves

    def open_one(at=None, width=1400, dark=False):
        tab = chromium.new_page(viewport={"width": width, "height": 1000}, color_scheme="dark" if dark else "light")
        tab.set_default_timeout(1000 * SECONDS)
        tab.on("request", lambda asked: others.append(asked.url) if not re.match(r"(http|ws)://(127\.0\.0\.1|localhost)|data:|blob:", asked.url) else None)
        tab.on("console", lambda line: complaints.append(line.text) if line.type == "error" else None)
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.goto(at or server.at)
        tab.wait_for_selector("#pairs .token")
        tabs.append(tab)
        return tab

    open_one.reload = lambda tab: _reload(tab, complaints, leaving)
    yield open_one
    for tab in tabs:
        tab.close()
    assert not others and not complaints


def _reload(tab, complaints, leaving):
    before = len(complaints)
    tab.reload()
    tab.wait_for_selector("#pairs .token")
    complaints[before:] = [line for line in complaints[before:] if not leaving.search(line)]


def shot(tab, name):
    """A screenshot among those to be looked at."""
    tab.screenshot(path=SHOTS / f"{name}.png", full_page=True)


def drop(tab, *files):
    """Drop pictures, and wait for what the net makes of them."""
    tab.set_input_files("#drop input[type=file]", [str(file) for file in files])
    tab.wait_for_selector("#seen0 img")


def choose(tab, place, option):
    """Choose an option of a list, which shows those like what is typed."""
    tab.locator(f"{place} input").first.click()
    if not tab.get_by_role("option", name=option, exact=True).count():
        tab.locator(f"{place} input").first.fill(option)
    tab.get_by_role("option", name=option, exact=True).click()


def choose_nets(tab, *beginnings):
    """Choose the first net of those whose names begin so, in place of the others."""
    while tab.locator("#pairs .token-remove").count():
        tab.locator("#pairs .token-remove").first.click()
    for begin in beginnings:
        tab.locator("#pairs input").click()
        tab.get_by_role("option", name=re.compile(f"^{re.escape(begin)}")).first.click()
    tab.keyboard.press("Escape")


def picture(tab, place="#seen0"):
    """The address of the picture that is seen."""
    return tab.locator(f"{place} img").first.get_attribute("src")


def changed(tab, before, place="#seen0"):
    """The address of a picture once it is another."""
    tab.wait_for_function("([place, before]) => document.querySelector(place + ' img')?.src !== before", arg=[place, before])
    return picture(tab, place)


def read(tab, name):
    """What a browser saves of a link that is clicked."""
    with tab.expect_download() as coming:
        tab.locator(name).click()
    return Path(coming.value.path()).read_bytes()
