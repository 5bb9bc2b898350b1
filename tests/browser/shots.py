"""The page as docs/page.md shows it, and what it takes: pictures of its tabs, memory, seconds from a drop to an overlay.

    python -m tests.browser.shots RUN IMAGE [--large NET WEIGHTS IMAGE] [--out docs]

RUN: a folder with snapshots of several stages and their log, as `netspec solve shapes-fcn32s shapes-fcn16s shapes-fcn8s --log
snapshot/shapes.log` leaves it; IMAGE is dropped. --large: a net whose pass is timed too. Prints what was measured, on what.
"""

import argparse
import io
import statistics
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

from netspec.base.machine import origin

sys.path.insert(1, str(Path(__file__).resolve().parents[1]))  # where the tests' own helpers are

from .conftest import STARTED, Server, choose, choose_nets, chromium_at, drop  # noqa: E402

WIDTH, HEIGHT, REPEATS = 1400, 900, 5


def memory(process):
    """MB that a process and those that it started hold by themselves (proportional set size)."""
    found, queue = 0.0, [process]
    while queue:
        each = queue.pop()
        queue += map(int, Path(f"/proc/{each}/task/{each}/children").read_text().split())
        text = Path(f"/proc/{each}/smaps_rollup").read_text()
        found += int(text.partition("\nPss:")[2].split()[0]) / 1e3
    return found


def opened(browser, server):
    """A tab of the page."""
    tab = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
    tab.set_default_timeout(300_000)
    tab.goto(server.at)
    tab.wait_for_selector("#pairs .token")
    return tab


def timed(browser, server, image):
    """Seconds from a drop to the overlay of the first net, several times, after one that counts not."""
    spent = []
    for _ in range(1 + REPEATS):
        tab = opened(browser, server)
        begin = time.monotonic()
        drop(tab, image)
        tab.wait_for_function("document.querySelector('#seen0 img').complete")
        spent.append(time.monotonic() - begin)
        name = tab.locator("#pairs .token").first.inner_text()
        tab.close()
    return f"{name}: median {statistics.median(spent[1:]):.2f} s ({min(spent[1:]):.2f} to {max(spent[1:]):.2f} of {REPEATS})"


def keep(tab, path):
    """A picture of what is seen, small."""
    Image.open(io.BytesIO(tab.screenshot())).convert("RGB").save(path, quality=60, method=6)


def pictures(tab, image, out):
    """The tabs: three stages side by side, the training that made them, the layers of the last."""
    choose_nets(tab, "shapes-fcn32s ", "shapes-fcn16s ", "shapes-fcn8s ")
    drop(tab, image)
    tab.wait_for_selector("#seen2 img")
    time.sleep(2)
    keep(tab, out / "page-try.webp")
    tab.get_by_role("tab", name="Watch").click()
    tab.wait_for_selector("#curves img")
    time.sleep(2)
    keep(tab, out / "page-watch.webp")
    tab.get_by_role("tab", name="Read").click()
    choose(tab, "#read-net", "shapes-fcn8s")
    tab.locator("#read").click()
    tab.locator("#read-layers").get_by_text("conv1_1").last.wait_for()
    time.sleep(2)
    keep(tab, out / "page-read.webp")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("image", type=Path)
    parser.add_argument("--large", nargs=3, metavar=("NET", "WEIGHTS", "IMAGE"))
    parser.add_argument("--out", type=Path, default=Path("docs"))
    args = parser.parse_args()
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as made:
        browser = made.chromium.launch(executable_path=chromium_at(), args=STARTED)
        for large in (True, False) if args.large else (False,):
            words, image = (args.large[:2], args.large[2]) if large else ([str(args.run)], args.image)
            server = Server(Path.cwd(), *words, log=Path(folder) / "log")
            try:
                time.sleep(20)  # until the process that commands come from has all imported
                print(f"memory of the idle server: {memory(server.process.pid):.0f} MB")
                print(f"from drop to overlay, {timed(browser, server, image)}")
                if not large:
                    pictures(opened(browser, server), image, args.out)
            finally:
                server.end()
        browser.close()
    print(", ".join(f"{key} {value}" for key, value in origin().items()))


if __name__ == "__main__":
    main()
