"""Weights by name: fetched from a local web server, checked, kept, and found by the commands that want them."""

import hashlib
import json
import os
import socket
import time
from pathlib import Path

import numpy as np
import programs
import pytest
from PIL import Image
from training import SOLVER, write_job
from webserver import Web

import netspec
from netspec import NetSpec
from netspec import layers as L
from netspec.base.errors import Error
from netspec.base.files import alone
from netspec.cli import main as cli
from netspec.data import zoo
from netspec.proto import text as prototext
from netspec.proto.model import read_weights, write_weights

PROJECT = Path(__file__).resolve().parents[2]
DRAW = np.random.default_rng(1)
BODY = None


def net():
    n = NetSpec()
    n.data = L.Input(shape=[dict(dim=[1, 3, 50, 50])], python_param=dict(param_str=str({"mean": [1, 2, 3]})))
    n.score = L.Convolution(n.data, num_output=4, kernel_size=1)
    made = n.to_proto()
    made.name = "small"
    return made


def caffemodel(path, outputs=4, layer="score", kind="Convolution"):
    numbers = [DRAW.standard_normal((outputs, 3, 1, 1)).astype(np.float32), np.zeros(outputs, np.float32)]
    write_weights(path, "small", {layer: (kind, numbers)}, hdf5=str(path).endswith("h5"))
    return Path(path).read_bytes()


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A current folder with nets of one layer, small-fcn8s and other-fcn8s, and a weights folder that is not there yet."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv("NETSPEC_MODELS", raising=False)
    monkeypatch.setenv("NETSPEC_WEIGHTS", str(tmp_path / "zoo"))
    for name in ("small-fcn8s", "other-fcn8s"):
        prototext.write(f"models/{name}/deploy.prototxt", net())
    Image.fromarray(DRAW.integers(0, 256, (20, 30, 3)).astype(np.uint8)).save("photo.jpg")
    return tmp_path / "zoo"


@pytest.fixture
def web(place):
    server = Web(caffemodel("published.caffemodel"))
    Path("published.caffemodel").unlink()
    yield server
    server.stop()


@pytest.fixture
def table(web, tmp_path, monkeypatch):
    """Lets a test say what is published of small-fcn8s; it begins as the server has it."""
    def write(**changes):
        facts = {"framework": "caffe", "urls": [web.url], "terms": "for this test", "stated_by": "this test", "bytes": len(web.body),
                 "checksums": [f"sha1:{hashlib.sha1(web.body).hexdigest()}"]} | changes
        (tmp_path / "weights.json").write_text(json.dumps({"small-fcn8s": {"gives": "4 kinds of pixel", "sources": [facts]}}))
        monkeypatch.setattr(zoo, "TABLE", tmp_path / "weights.json")

    write()
    monkeypatch.setattr(zoo, "PAUSE", 0.01)
    return write


def weights(capsys, *arguments, status=0, command="weights"):
    assert cli.main([command, *map(str, arguments)]) == status
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    return out, err


def test_the_table_names_nets_that_are_here():
    known = zoo.table()
    assert {"voc-fcn8s", "voc-fcn32s", "vgg16", "vgg19", "alexnet", "googlenet", "siftflow-fcn8s"} <= known.keys()
    for name, one in known.items():
        assert (PROJECT / "models" / name / "deploy.prototxt").is_file() and one.sources[0].framework == "caffe", name
        for source in one.sources:
            assert source.terms and source.stated_by and (source.urls or source.site), name
            for checksum in source.checksums:
                kind, _, digits = checksum.partition(":")
                assert int(digits, 16) and 8 <= len(digits) <= hashlib.new(kind).digest_size * 2, name


def test_the_page_is_of_the_table(capsys):
    assert weights(capsys, "list", "--markdown")[0] == (PROJECT / "docs" / "zoo.md").read_text("utf-8"), "make pages"


def test_get_infer_check_where(place, web, table, capsys):
    out, _ = weights(capsys)
    assert "small-fcn8s" in out and "for this test" in out and str(place) in out and not place.exists()
    assert weights(capsys, "check") == (f"no weights are in {place}\n", "")
    out, err = weights(capsys, "where", "small-fcn8s", status=1)
    assert out == f"{place}/small-fcn8s.caffemodel\n"
    assert "the weights of small-fcn8s are not here" in err and "'netspec weights get small-fcn8s' gets them" in err
    out, _ = weights(capsys, "get", "small-fcn8s")
    assert f"from {web.url}" in out and "terms: for this test" in out and f"wrote {place}/small-fcn8s.caffemodel" in out
    assert (place / "small-fcn8s.caffemodel").read_bytes() == web.body
    assert sorted(os.listdir(place)) == ["small-fcn8s.caffemodel", "small-fcn8s.caffemodel.sha256"]
    assert weights(capsys, "where", "small-fcn8s")[0] == f"{place}/small-fcn8s.caffemodel\n"
    assert "as when it was got" in weights(capsys, "check")[0]
    assert "there, as" in weights(capsys, "get", "small-fcn8s")[0] and len(web.requests) == 1
    out, err = weights(capsys, "small-fcn8s", "photo.jpg", "--device", "cpu", command="infer")
    assert "photo.jpg: class" in out and Path("photo_labels.png").is_file()
    (place / "small-fcn8s.caffemodel").write_bytes(web.body[:-1] + b"x")
    out, _ = weights(capsys, "check", "small-fcn8s", status=1)
    assert "is damaged, or another file: its sha256" in out
    assert "is damaged" in weights(capsys, "get", "small-fcn8s", status=2)[1]


@pytest.mark.parametrize("words", [("net.prototxt", "--json", "w.caffemodel"), ("--json", "net.prototxt", "w.caffemodel"),
                                   ("net.prototxt", "w.caffemodel", "--json"), ("net.prototxt", "--device", "cpu", "w.caffemodel")])
def test_weights_may_stand_behind_options(place, capsys, words):
    assert "net 'net.prototxt' is not there" in weights(capsys, *words, status=2, command="score")[1]


@pytest.mark.parametrize("words", ["NET W --out o photo.jpg", "NET --out o W photo.jpg", "--out o NET W photo.jpg", "NET W photo.jpg --out o",
                                   "NET W photo.jpg --out o copy.jpg"])
def test_pictures_may_stand_behind_options(place, capsys, words):
    caffemodel("w.caffemodel")
    Path("copy.jpg").write_bytes(Path("photo.jpg").read_bytes())
    words = words.replace("NET", "small-fcn8s").replace("W", "w.caffemodel").split()
    assert "photo.jpg: class" in weights(capsys, *words, "--device", "cpu", command="infer")[0]
    assert Path("o/photo_labels.png").is_file() and Path("o/copy_labels.png").is_file() == ("copy.jpg" in words)


def test_nothing_is_downloaded_unasked(place, web, table, capsys):
    for command in (("infer", "small-fcn8s", "photo.jpg"), ("score", "small-fcn8s/deploy"), ("convert", "onnx", "small-fcn8s", "o.onnx")):
        _, err = weights(capsys, *command[1:], status=2, command=command[0])
        assert err.count("\n") == 1 and f"{len(web.body)} bytes, from {web.url}, terms: for this test" in err, command
        assert "'netspec weights get small-fcn8s' gets them" in err
    _, err = weights(capsys, "other-fcn8s", "photo.jpg", status=2, command="infer")
    assert "none published are known" in err and "weights add other-fcn8s FILE" in err
    assert not web.requests and not place.exists()


def test_a_terminal_is_asked(place, web, table, capsys, monkeypatch):
    import io

    class Terminal(io.StringIO):
        def isatty(self):
            return True
    for answer, status in (("n\n", 2), ("", 2), ("y\n", 0)):
        monkeypatch.setattr("sys.stdin", Terminal(answer))
        out, err = weights(capsys, "small-fcn8s", "photo.jpg", "--device", "cpu", status=status, command="infer")
        assert "Download? [y/N]" in out + err
    assert len(web.requests) == 1 and (place / "small-fcn8s.caffemodel").is_file()


def test_cut_and_resumed(place, web, table, capsys):
    web.cut = 50
    assert "did not" not in weights(capsys, "get", "small-fcn8s")[1]
    assert web.asked[:3] == [None, "bytes=50-", "bytes=100-"] and (place / "small-fcn8s.caffemodel").read_bytes() == web.body


def test_a_run_that_gave_up_is_gone_on_with(place, web, table, capsys):
    web.cut, web.statuses = 50, [200]  # an empty answer first
    web.statuses, table_body = [503] * 5, web.body
    _, err = weights(capsys, "get", "small-fcn8s", status=2)
    assert "503" in err and "weights add small-fcn8s FILE" in err
    (place / "small-fcn8s.caffemodel.part").write_bytes(table_body[:70])
    weights(capsys, "get", "small-fcn8s")
    assert web.asked[5] == "bytes=70-" and (place / "small-fcn8s.caffemodel").read_bytes() == table_body


@pytest.mark.parametrize("fault, said", [
    (dict(body="changed"), "sha1"), (dict(body="longer"), "expected"), (dict(body="shorter"), "expected"),
    (dict(statuses=[404]), "404"), (dict(statuses=[403]), "403"), (dict(statuses=[None] * 9), "5 times in a row"),
    (dict(body="longer", says_length=False), "more than"),
])
def test_what_is_wrong_on_the_way_leaves_nothing_that_counts(place, web, table, capsys, fault, said):
    changed = {"changed": b"x" + web.body[1:], "longer": web.body + b"x", "shorter": web.body[:-1]}
    for key, value in fault.items():
        setattr(web, key, changed[value] if key == "body" else value)
    _, err = weights(capsys, "get", "small-fcn8s", status=2)
    assert err.count("netspec weights: ") == 1 and said in err and web.url in err and "netspec weights add small-fcn8s FILE" in err
    assert zoo.stored("small-fcn8s") is None and not list(place.glob("*.sha256"))


def test_a_slow_server_is_waited_for_only_so_long(place, web, table, capsys, monkeypatch):
    monkeypatch.setattr(zoo, "TIMEOUT", 0.2)
    web.cut, web.stall = 100, True
    begun = time.monotonic()
    weights(capsys, "get", "small-fcn8s")  # each request brings some
    assert time.monotonic() - begun < 10 and (place / "small-fcn8s.caffemodel").read_bytes() == web.body


def test_no_network_is_said_at_once(place, web, table, capsys):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for url in (f"http://127.0.0.1:{port}/w.caffemodel", "http://no-such-host.invalid/w.caffemodel"):
        table(urls=[url])
        begun = time.monotonic()
        _, err = weights(capsys, "get", "small-fcn8s", status=2)
        assert time.monotonic() - begun < 5 and f"{url}: nobody answers there" in err
        assert "on another machine" in err and "netspec weights add small-fcn8s FILE" in err and err.count("\n") == 1


def test_the_next_address_is_tried(place, web, table, capsys):
    other = Web(b"")
    other.statuses = [404]
    try:
        table(urls=["http://no-such-host.invalid/w", other.url, web.url])
        out, _ = weights(capsys, "get", "small-fcn8s")
        assert web.url in out and (place / "small-fcn8s.caffemodel").read_bytes() == web.body and len(other.requests) == 1
    finally:
        other.stop()


def test_redirects_to_another_host(place, web, table, capsys):
    door = Web(b"")
    door.location = web.url
    try:
        table(urls=[door.url])
        weights(capsys, "get", "small-fcn8s")  # the checksum decides
        assert (place / "small-fcn8s.caffemodel").read_bytes() == web.body
        for file in place.iterdir():
            file.unlink()
        table(urls=[door.url], checksums=[])
        _, err = weights(capsys, "get", "small-fcn8s", "--trust-first", status=2)
        assert f"leads to {web.url}, another host, and no checksum is known" in err
        door.location = f"{door.url}2"
        door.body, door.moved = web.body, ["/file"]
        weights(capsys, "get", "small-fcn8s", "--trust-first")  # within a host
        assert (place / "small-fcn8s.caffemodel").read_bytes() == web.body
    finally:
        door.stop()


@pytest.mark.parametrize("where, said", [
    ("file:///etc/passwd", "not allowed"), ("gopher://there/x", "not allowed"), ("ROUND", "infinite loop"), ("http://[::1", "Invalid IPv6"),
    ("http://a..b/", "label empty"), ("http://127.0.0.1:port/", "nonnumeric port"), ("", "302"), ("http://", "302"),
])
def test_redirects_that_lead_nowhere(place, web, table, capsys, where, said):
    web.location = web.url if where == "ROUND" else where
    web.statuses = [302] * 9  # where nothing says where to
    _, err = weights(capsys, "get", "small-fcn8s", status=2)
    assert err.count("\n") == 1 and web.url in err and said in err and "netspec weights add small-fcn8s FILE" in err
    assert len(web.requests) < 12 and zoo.stored("small-fcn8s") is None


@pytest.mark.parametrize("length", ["many", "-5", "1e3", "9" * 5000])
def test_a_length_that_is_none(place, web, table, capsys, length):
    web.says_length = length
    status = cli.main(["weights", "get", "small-fcn8s"])
    err = capsys.readouterr().err
    assert status == 0 and zoo.stored("small-fcn8s").read_bytes() == web.body or status == 2 and web.url in err and err.count("\n") == 1


@pytest.mark.parametrize("name", ["../x", "net.prototxt", "/net.prototxt", "small-fcn8s/deploy", "models/small-fcn8s/deploy.prototxt", "",
                                  ".", "..", "n" * 300, "nét\n", "--", "small-fcn8", "a\0b"])
def test_weights_are_of_names_alone_not_of_paths(place, capsys, name, tmp_path):
    prototext.write("net.prototxt", net())
    name = str(tmp_path / "here") + name if name[:1] == "/" else name
    caffemodel("mine.caffemodel")
    before = sorted(tmp_path.rglob("*"))
    for words in ["get", name], ["add", name, "mine.caffemodel"], ["where", name], ["check", name]:
        _, err = weights(capsys, words[0], "--", *words[1:], status=2)
        assert err.count("\n") == 1 and "closest" not in err
    assert sorted(tmp_path.rglob("*")) == before
    assert "did you mean 'small-fcn8s'" in err or name != "small-fcn8"


def test_the_first_is_trusted_where_that_is_said_and_held_to(place, web, table, capsys):
    table(checksums=[], bytes=0)
    out, err = weights(capsys, "get", "small-fcn8s", status=2)
    assert "no checksum is published, and over plain http anybody on the way could change the file" in out
    assert "--trust-first" in err and not web.requests
    weights(capsys, "get", "small-fcn8s", "--trust-first")
    kept = (place / "small-fcn8s.caffemodel.sha256").read_text()
    assert kept == f"{hashlib.sha256(web.body).hexdigest()}  small-fcn8s.caffemodel\n"
    (place / "small-fcn8s.caffemodel").unlink()
    web.body, web.etag = caffemodel("new.caffemodel"), '"two"'
    _, err = weights(capsys, "get", "small-fcn8s", "--trust-first", status=2)
    assert "its sha256 is" in err and kept[:64] in err and zoo.stored("small-fcn8s") is None


@pytest.mark.parametrize("body, said", [
    (b"<html>Log in to the hotel's network</html>", "is a web page"), ("cut", "cut short"), ("wide", "shape"), ("foreign", "lacks the layers score"),
])
def test_what_comes_first_must_fit_the_net(place, web, table, capsys, body, said):
    made = {"cut": lambda: web.body[:-30], "wide": lambda: caffemodel("x", outputs=9), "foreign": lambda: caffemodel("x", layer="fc8")}
    web.body = made[body]() if body in made else body
    table(checksums=[], bytes=0)
    _, err = weights(capsys, "get", "small-fcn8s", "--trust-first", status=2)
    assert said in err and zoo.stored("small-fcn8s") is None and not list(place.glob("*.sha256"))


def test_add_takes_what_fits(place, table, web, capsys):
    caffemodel("mine.caffemodel")
    caffemodel("mine.h5")
    caffemodel("wide.caffemodel", outputs=9)
    caffemodel("foreign.caffemodel", layer="fc8")
    Path("page.caffemodel").write_text("<html>gone</html>")
    Path("published").write_bytes(web.body)
    for file, said in (("wide.caffemodel", "shape"), ("foreign.caffemodel", "does not fit"), ("page.caffemodel", "a web page"),
                       ("gone.caffemodel", "is not there")):
        assert said in weights(capsys, "add", "small-fcn8s", file, status=2)[1]
    err = weights(capsys, "add", "small-fcn8s", "wide.caffemodel", status=2)[1]
    assert "wide.caffemodel: does not fit " in err and "rename" not in err  # the net is whose name was given
    assert "did you mean 'small-fcn8s'" in weights(capsys, "add", "smal-fcn8s", "mine.caffemodel", status=2)[1]
    assert not place.exists()
    out, _ = weights(capsys, "add", "small-fcn8s", "published")
    assert "fits small-fcn8s; the published file, by its sha1" in out and (place / "small-fcn8s.caffemodel").read_bytes() == web.body
    assert "move it away" in weights(capsys, "add", "small-fcn8s", "mine.caffemodel", status=2)[1]
    assert "wrote" in weights(capsys, "add", "small-fcn8s", "published")[0]
    (place / "small-fcn8s.caffemodel").unlink()
    assert "is damaged, or another" in weights(capsys, "add", "small-fcn8s", "mine.caffemodel", status=2)[1]
    assert not weights(capsys, "check")[1]  # what is soon done shows no progress to a file
    write_weights("more.caffemodel", "more", {name: ("Convolution", [np.zeros((4, 3, 1, 1), np.float32), np.zeros(4, np.float32)])
                                              for name in ("score", "up", "down")})
    _, err = weights(capsys, "add", "other-fcn8s", "more.caffemodel")
    assert "holds 2 layers more than " in err and "which stay unused: up, down (2); see that it is not another net's" in err
    (place / "other-fcn8s.caffemodel").unlink()
    (place / "other-fcn8s.caffemodel.sha256").unlink()
    out, _ = weights(capsys, "add", "other-fcn8s", "mine.h5")
    assert "no checksum is published" in out and (place / "other-fcn8s.caffemodel.h5").is_file()
    assert "class" in weights(capsys, "other-fcn8s", "photo.jpg", "--device", "cpu", command="infer")[0]


def test_several_names_one_of_which_does_not_come(place, web, table, capsys):
    out, err = weights(capsys, "get", "small-fcn8", "small-fcn8s", status=2)
    assert "no published weights of 'small-fcn8' are known; did you mean 'small-fcn8s'?" in err
    assert "1 of 2 files did not come: small-fcn8" in err and (place / "small-fcn8s.caffemodel").is_file()
    (place / "small-fcn8s.caffemodel").unlink()
    weights(capsys, "get", "all")
    assert (place / "small-fcn8s.caffemodel").read_bytes() == web.body


def test_two_at_once_do_not_mix(place, web, table, capsys):
    place.mkdir()
    part = place / "small-fcn8s.caffemodel.part"
    part.touch()
    with alone(part):
        _, err = weights(capsys, "get", "small-fcn8s", status=2)
        assert "another run is at work" in err and "another machine" not in err and not web.requests
    weights(capsys, "get", "small-fcn8s")


def test_a_full_disk_is_said_before_anything_comes(place, web, table, capsys):
    table(bytes=1 << 60)
    _, err = weights(capsys, "get", "small-fcn8s", status=2)
    assert "free, and 1152921504.6 GB are needed" in err and not web.requests


def test_a_folder_that_cannot_be_written(place, web, table, capsys):
    place.write_text("a file in its place")
    _, err = weights(capsys, "get", "small-fcn8s", status=2)
    assert str(place) in err and err.count("\n") == 1


def test_the_second_word_is_looked_at(place, web, capsys):
    caffemodel("weights.jpg")  # by its content, weights
    os.rename("photo.jpg", "photo.caffemodel")  # and an image
    out, _ = weights(capsys, "small-fcn8s", "weights.jpg", "photo.caffemodel", "--device", "cpu", command="infer")
    assert "photo.caffemodel: class" in out
    _, err = weights(capsys, "small-fcn8s", "photo.caffemodel", status=2, command="infer")
    assert "the weights of small-fcn8s are not here" in err
    assert "no IMAGE" in weights(capsys, "small-fcn8s", "weights.jpg", status=2, command="infer")[1]
    for words in (("weights.jpg", "small-fcn8s", "photo.caffemodel"), ("photo.caffemodel", "small-fcn8s"),
                  ("weights.jpg", "photo.caffemodel", "small-fcn8s")):
        said = f"{words[0]} is binary (weights, a picture?) and stands where a net is expected; the order is: netspec infer NET"
        assert said in weights(capsys, *words, status=2, command="infer")[1]
    Path("empty.caffemodel").write_bytes(b"")
    assert "is empty" in weights(capsys, "small-fcn8s", "empty.caffemodel", "photo.caffemodel", status=2, command="infer")[1]


@pytest.mark.parametrize("name, words", [("shapes-fcn8s", "netspec demo"), ("shapes-rfcn", "netspec demo --detection")])
def test_the_demo_that_trains_a_net_is_named(place, name, words):
    assert f"; '{words}' trains them" in zoo.missing(name)


def test_weights_that_the_demo_made(place, capsys):
    for seed, age in ((1, 5), (2, 0)):
        Path(f"demo/seed{seed}").mkdir(parents=True)
        file = Path(f"demo/seed{seed}/small-fcn8s_iter_9.caffemodel")
        caffemodel(file)
        os.utime(file, (time.time() - age, time.time() - age))
    out, err = weights(capsys, "small-fcn8s", "photo.jpg", "--device", "cpu", command="infer", status=2)
    assert "weights of small-fcn8s are not here" in err  # the demo was stopped before it had scored them
    for seed in (1, 2):
        Path(f"demo/seed{seed}/small-fcn8s.json").write_text("{}")
    out, err = weights(capsys, "small-fcn8s", "photo.jpg", "--device", "cpu", command="infer")
    assert "class" in out and "demo/seed2/small-fcn8s_iter_9.caffemodel" in err
    assert weights(capsys, "where", "small-fcn8s")[0] == "demo/seed2/small-fcn8s_iter_9.caffemodel\n"


def test_pretrained_in_python(place, web, table, capsys):
    with pytest.raises(Error, match="115 bytes, from .*'netspec weights get small-fcn8s' gets them"):
        netspec.load("small-fcn8s", device="cpu")
    with pytest.raises(Error, match="give weights a file, or None"):
        prototext.write("mine.prototxt", net())
        netspec.load("mine.prototxt", device="cpu")
    assert not web.requests
    weights(capsys, "get", "small-fcn8s")
    mine = read_weights(place / "small-fcn8s.caffemodel")["score"][0]
    for given in (("small-fcn8s",), ("models/small-fcn8s/deploy.prototxt",), ("other-fcn8s", "small-fcn8s"), (net(), "small-fcn8s")):
        assert np.array_equal(netspec.load(*given, device="cpu").score.weight.detach().numpy(), mine)


@pytest.fixture
def solver(place):
    """A training job whose solver begins with weights by a name; `begins` is the bias that they have."""
    write_job(Path(), SOLVER.replace("max_iter: 12 snapshot: 3", "max_iter: 1 snapshot: 0") + ' weights: "small-fcn8s"')
    return Path("solver.prototxt")


def numbers_for(path, layer="score"):
    write_weights(path, "small", {layer: ("Convolution", [np.ones((4, 5, 1, 1), np.float32), np.full(4, 7, np.float32)])})


def test_a_solver_names_weights_by_name(place, solver, table, web, capsys):
    for weights_of in ("solver", "--weights"):
        argv = [solver] + (["--weights", "other-fcn8s"] if weights_of == "--weights" else [])
        name = "other-fcn8s" if weights_of == "--weights" else "small-fcn8s"
        _, err = weights(capsys, *argv, status=2, command="solve")
        assert f"the weights of {name} are not here" in err and f"netspec weights {'get' if name[0] == 's' else 'add'} {name}" in err
        place.mkdir(exist_ok=True)
        numbers_for(place / f"{name}.caffemodel")
        weights(capsys, *argv, command="solve")
        assert abs(read_weights("run/snap_iter_1.caffemodel")["score"][1] - 7).max() < 1
    assert not web.requests


def test_weights_slash_file_is_of_the_weights_folder_too(place, solver, capsys):
    solver.write_text(solver.read_text().replace("small-fcn8s", "weights/start.caffemodel"))
    assert "weights/start.caffemodel" in weights(capsys, solver, status=2, command="solve")[1]
    place.mkdir()
    numbers_for(place / "start.caffemodel")
    weights(capsys, solver, command="solve")
    solver.write_text(solver.read_text().replace("start", "vgg16"))
    assert "('netspec weights get vgg16')" in weights(capsys, solver, status=2, command="solve")[1]


def test_doctor_takes_weights_of_a_name(place, solver, capsys):
    place.mkdir()
    numbers_for(place / "small-fcn8s.caffemodel", "elsewhere")
    out, _ = weights(capsys, solver, "--size", "32x32", "--device", "cpu", command="doctor")
    assert f"{place}/small-fcn8s.caffemodel" in out
    caffemodel(place / "small-fcn8s.caffemodel")
    for given in (("small-fcn8s",), ("models/small-fcn8s/deploy.prototxt", "--weights", "small-fcn8s")):
        out, _ = weights(capsys, *given, "--device", "cpu", command="doctor")
        assert "score" in out


def test_a_proxy_brings_them_to_a_program(place, web, table, capsys, tmp_path):
    """As a command of its own, through the proxy that the environment names; the table is the project's."""
    web.body = b"<html>This proxy wants a password</html>"
    done = programs.run("-m", "netspec", "weights", "get", "voc-fcn16s", "--trust-first", cwd=".",
                        env=programs.environment(http_proxy=web.url.removesuffix("/file"), no_proxy=""))
    assert done.returncode == 2 and "fcn16s-heavy-pascal.caffemodel" in done.stdout and "is a web page" in done.stderr
    assert len(web.requests) == 1 and sorted(os.listdir(place)) == ["voc-fcn16s.caffemodel.bad"]


def test_weights_of_a_name_must_fit_its_net(place, capsys):
    place.mkdir()
    file = place / "small-fcn8s.caffemodel"
    two = net()
    two.layer.add(name="more", type="Convolution", bottom=["score"], top=["more"]).convolution_param.num_output = 4
    two.layer[-1].convolution_param.kernel_size.append(1)
    prototext.write("models/small-fcn8s/deploy.prototxt", two)
    for write, said in ((lambda: caffemodel(file, layer="fc8"), "has no layer of net"), (lambda: caffemodel(file, outputs=9), "shape"),
                        (lambda: caffemodel(file), "does not fit net 'small', of which it lacks more"),
                        (lambda: file.write_bytes(file.read_bytes()[:-9]), "cut short"), (lambda: file.write_text("<html>"), "a web page")):
        write()
        _, err = weights(capsys, "small-fcn8s", "photo.jpg", "--score-blob", "more", "--device", "cpu", status=2, command="infer")
        assert said in err and str(file) in err, err
        with pytest.raises(Error, match="small-fcn8s.caffemodel"):
            netspec.load("small-fcn8s", device="cpu")


def test_a_folder_of_pictures_that_is_called_as_a_net(place, capsys):
    place.mkdir()
    caffemodel(place / "small-fcn8s.caffemodel")
    Path("other-fcn8s").mkdir()
    os.rename("photo.jpg", "other-fcn8s/photo.jpg")
    assert "photo.jpg: class" in weights(capsys, "small-fcn8s", "other-fcn8s", "--device", "cpu", command="infer")[0]


@pytest.mark.parametrize("system, told, found", [
    ("linux", {"XDG_CACHE_HOME": "/c"}, "/c/netspec"), ("linux", {}, "/h/.cache/netspec"),
    ("darwin", {}, "/h/Library/Caches/netspec"), ("win32", {"LOCALAPPDATA": "/l"}, "/l/netspec"),
    ("linux", {"NETSPEC_WEIGHTS": "~/w"}, "/h/w"),
])
def test_the_weights_folder(monkeypatch, system, told, found):
    for key in ("NETSPEC_WEIGHTS", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(key, raising=False)
    for key, value in ({"HOME": "/h"} | told).items():
        monkeypatch.setenv(key, value)
    if "NETSPEC_WEIGHTS" not in told:
        assert zoo.folder() == PROJECT / "weights"  # in a clone
    monkeypatch.setattr(zoo, "HOME", Path())
    monkeypatch.setattr(zoo.sys, "platform", system)
    assert zoo.folder() == Path(found)


def test_a_user_without_a_home(monkeypatch):
    for key in ("NETSPEC_WEIGHTS", "XDG_CACHE_HOME", "LOCALAPPDATA", "HOME", "USERPROFILE"):
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setattr(zoo, "HOME", Path())
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # of a user whom the system does not know
    with pytest.raises(Error, match="no home folder: set NETSPEC_WEIGHTS"):
        zoo.folder()
    monkeypatch.setenv("NETSPEC_WEIGHTS", "~nobody-of-this-name/w")
    assert zoo.folder() == Path("~nobody-of-this-name/w")  # as shells have it
