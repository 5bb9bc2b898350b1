"""What names out of files may do to the page (nothing), and who may see it."""

import urllib.error
import urllib.request

import pytest
from thirds import NET, thirds, write_thirds

from .conftest import Server, drop, shot

pytestmark = pytest.mark.browser
EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture
def evil(tmp_path):
    """A folder whose names are markup: of classes, files, blobs."""
    folder = tmp_path / "<b>run&amp;"
    folder.mkdir()
    write_thirds(folder, NET.replace("'red', 'green'", f"'{EVIL}', '**green** [a](http://example.com/) `x`'"))
    (folder / "net.prototxt").rename(folder / "deploy.prototxt")
    thirds(60, 40).save(folder / "<svg onload=alert(2)>.png")
    return folder


def test_names_are_text_and_no_markup(opened, tmp_path, evil):
    server = Server(tmp_path, str(evil))
    try:
        tab = opened(server.at)
        tab.on("dialog", lambda dialog: pytest.fail(f"a name ran as a program: {dialog.message}"))
        drop(tab, evil / "<svg onload=alert(2)>.png")
        for place in ("#classes", "#told0"):
            assert EVIL in tab.locator(place).inner_text() and "**green** [a]" in tab.locator(place).inner_text()
        tab.locator("#seen0 img").click(position={"x": 20, "y": 20})
        tab.wait_for_selector("#pixel table")
        assert EVIL in tab.locator("#pixel").inner_text()
        assert not tab.locator("img[src=x], svg[onload], a[href*=example]").count()
        shot(tab, "names")
        tab.close()
    finally:
        server.end()


def test_a_password_is_asked_for(chromium, site):
    server = Server(site, "run", "--auth", "ann", NETSPEC_PASSWORD="secret")
    try:
        for path in ("config", "gradio_api/info", "gradio_api/file=run/photo.png"):
            with pytest.raises(urllib.error.HTTPError, match="40[134]"):
                urllib.request.urlopen(f"{server.at}{path}", timeout=20)
        for password, then in (("wrong", "text=Incorrect"), ("secret", "#pairs .token")):
            tab = chromium.new_page()
            tab.goto(server.at)
            tab.get_by_label("username").fill("ann")
            tab.get_by_label("password").fill(password)
            tab.get_by_role("button", name="Login").click()
            tab.wait_for_selector(then)
            tab.close()
    finally:
        server.end()
