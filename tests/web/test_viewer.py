"""Netron's page as it is served here: with the nets that were opened, no other file, and no word to anybody."""

import urllib.error
import urllib.request
from urllib.parse import parse_qs, urlsplit

import pytest

from netspec.web.viewer import Viewer, folder

INDEX = '<html><head><meta name="version" content="9.3.3">\n<meta name="date" content="2026-10-23 19:50:08">\n</head></html>'


@pytest.fixture
def viewer(tmp_path):
    root = tmp_path / "netron"
    root.mkdir()
    (root / "index.html").write_text(INDEX)
    (root / "caffe.js").write_text("export {}")
    (tmp_path / "secret").write_text("kept")
    viewer = Viewer(root, tmp_path)
    yield viewer
    if viewer.server:
        viewer.server.shutdown()
        viewer.server.server_close()


def test_a_net_is_served_where_its_address_says(viewer, tmp_path):
    net = tmp_path / "a <b>&?#.prototxt"
    net.write_text('name: "x"')
    address = viewer.open(net)
    (its,) = parse_qs(urlsplit(address).query)["url"]
    assert urlsplit(address).hostname == urlsplit(its).hostname == "127.0.0.1"
    with urllib.request.urlopen(its, timeout=10) as answer:
        assert answer.read() == b'name: "x"'
    assert viewer.open(net) != address and urlsplit(viewer.open(net)).port == urlsplit(address).port


def test_its_page_may_ask_nobody_else(viewer, tmp_path):
    with urllib.request.urlopen(viewer.open(tmp_path / "net.prototxt"), timeout=10) as answer:
        text, headers = answer.read().decode(), answer.headers
    assert text.count("<meta") == 1 and '<meta name="version" content="0.0.0">' in text
    assert headers["Content-Security-Policy"].startswith("default-src 'self'; ") and "http" not in headers["Content-Security-Policy"]


@pytest.mark.parametrize("path", ["/open/guessed/net.prototxt", "/../secret", "/%2e%2e/secret", "{own}/../../../secret", "{own}%2f../secret", "//secret"])
def test_no_other_file(viewer, tmp_path, path):
    (tmp_path / "net.prototxt").write_text("")
    (its,) = parse_qs(urlsplit(viewer.open(tmp_path / "net.prototxt")).query)["url"]
    home, _, own = its.removesuffix("/net.prototxt").partition("/open")
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(home + path.format(own=f"/open{own}"), timeout=10)
    assert caught.value.code == 404


def test_what_is_made_of_the_page_that_is_installed(tmp_path):
    """That it has the lines which are taken out."""
    if not (root := folder()):
        pytest.skip("Netron is not installed")
    viewer = Viewer(root, tmp_path)
    with urllib.request.urlopen(viewer.open(tmp_path / "net.prototxt"), timeout=10) as answer:
        text = answer.read().decode()
    assert text.count('<meta name="version"') == 1 and '<meta name="date"' not in text
