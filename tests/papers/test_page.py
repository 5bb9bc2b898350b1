"""The page about a run: whole, escaped, and asking nobody for anything."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from training import VOC, changed, write_job

from netspec.cli import main as cli
from netspec.papers import page as htmlreport
from netspec.papers import record as experiment
from netspec.papers.page import Html, table, tag

GOLDEN = Path(__file__).parents[1] / "golden" / "log" / "train.log"
VOID = {"meta", "img"}


class Page(HTMLParser):
    """Checks that tags nest; keeps them, their attributes and the text of the page."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text = [], [], ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, name, attributes):
        self.tags.append((name, dict(attributes)))
        if name not in VOID:
            self.open.append(name)

    def handle_endtag(self, name):
        assert self.open.pop() == name

    def handle_data(self, data):
        self.text += data

    def of(self, name):
        return [attributes for tag, attributes in self.tags if tag == name]


def command(capsys, *argv):
    status = cli.main([str(a) for a in argv])
    return status, *capsys.readouterr()


def record(path, name="cat", **more):
    record = {"pixel_accuracy": 0.5, "mean_accuracy": None, "mean_iu": 0.25, "fw_iu": 1, "loss": 0.5, "images": 3,
              "classes": [{"name": name, "iu": 0.125, "accuracy": None}, {"name": "sky", "iu": None, "accuracy": None}], **more}
    path.write_text(json.dumps(record))


def test_text_is_escaped_and_html_is_not():
    assert tag("p", "a < b & c", tag("b", "'x'"), title='"') == '<p title="&quot;">a &lt; b &amp; c<b>&#x27;x&#x27;</b></p>'
    assert tag("img", src="x") == '<img src="x">' and isinstance(tag("p"), Html)
    assert '<th scope="col" class="number">n</th>' in table([["a", "1.5"], ["b", "-"]], ["name", "n"])


def test_what_nets_say_of_their_classes(tmp_path, capsys):
    said = "{'classes': ['<road> 1 2 3', 'car'], 'mean': [1.5, 2, 3]}"
    for name in "ab":
        (tmp_path / f"{name}.prototxt").write_text(
            f'name: "n" layer {{ name: "d" type: "Input" top: "d" python_param {{ param_str: "{said}" }} }}')
    (tmp_path / "other.prototxt").write_text('layer { name: "d" type: "Python" top: "d" python_param { param_str: "3" } }')
    assert command(capsys, "report", tmp_path, "--out", tmp_path / "r.html")[0] == 0
    page = Page((tmp_path / "r.html").read_text())
    assert f"Classes of {tmp_path}/a.prototxt, {tmp_path}/b.prototxt (2), mean B,G,R 1.5, 2, 3" in page.text
    assert "<road>" in page.text and "1 2 3" in page.text and {"style": "color: rgb(1,2,3)"} in page.of("span")


def test_a_folder_with_hostile_names_and_contents(tmp_path, capsys):
    folder = tmp_path / "run"
    folder.mkdir()
    evil = '"><img src=x onerror=alert(1)>&amp;'
    Image.fromarray(np.zeros((3, 4, 3), np.uint8)).save(folder / f"{evil}.png")
    record(folder / "<script>alert(2)<!--.json", name="</td><script>alert(3)</script>", trimap={"4": {"mean_iu": 0.0625}},
           binary={"jaccard": 0.75, "precision": None}, origin={"command": "rm '<b>' && x", "date": "2026"})
    (folder / "net.prototxt").write_text('name: "</pre><script>alert(4)</script>"')
    shutil.copy(GOLDEN, folder / "</svg>'.log".replace("/", "_"))
    (folder / "old.log").write_text("] Solving <b>\n] Iteration 0, loss = 1\nW1 netspec] <i>careful</i>\nI1 netspec] told & kept\n")
    (folder / "x.caffemodel").write_bytes(b"123")
    status, out, err = command(capsys, "report", folder, "--out", tmp_path / "r.html", "--title", "<h1>&")
    assert status == 0 and not err and "of 6 files" in out
    text = (tmp_path / "r.html").read_text()
    page = Page(text)
    assert {name for name, _ in page.tags} <= set("html head meta title style body main section h1 h2 h3 p table thead tbody tr "
                                                  "th td figure figcaption img details summary pre".split())
    assert not [key for _, attributes in page.tags for key in attributes if key.startswith("on")]
    assert all(image["src"].startswith("data:image/") for image in page.of("img")) and len(page.of("img")) == 3
    assert not re.search(r"https?://|url\(|@import|<script", re.sub(r"base64,[\w+/=]*", "", text))
    assert page.of("meta")[1]["content"].startswith("default-src 'none'")
    for part in ("</td><script>alert(3)</script>", evil, "<i>careful</i>", "told & kept", "rm '<b>' && x", "<h1>&", "alert(4)"):
        assert part in page.text
    assert "Solving" not in page.text  # Caffe's lines are in the curves
    rows = [(name, re.findall(r"<td[^>]*>([^<]*)", row)) for name, row in re.findall(r'scope="row">(.*?)</th>(.*?)</tr>', text)]
    name = "&lt;script&gt;alert(2)&lt;!--"
    for row in ((name, ["50.0", "-", "25.0", "100.0", "3", "0.5"]), (name, ["75.0", "-", "-", "-", "-"]),
                (f"{name}, within 4 px", ["-", "-", "6.2", "-"]), ("sky", ["-"]), ("date", ["2026"])):
        assert row in rows


def test_a_trained_and_scored_solver(tmp_path, capsys, monkeypatch):
    """One command after training: scores, curves, worst images, nets and solver on the page; the record is kept."""
    monkeypatch.chdir(tmp_path)
    data = VOC.replace("dict_here", str(dict(dataset="voc", root="images", split="train", mean=(104, 117, 123), randomize=False))
                       .replace('"', "'"))
    write_job(tmp_path, changed("max_iter: 6 display: 2 snapshot: 3"), data=VOC)
    write_job(tmp_path, changed("max_iter: 6 display: 2 snapshot: 3"), data=data, net="val.prototxt")
    assert cli.main(["solve", "solver.prototxt", "--log", "run/snap.log", "--quiet"]) == 0
    status, out, err = command(capsys, "report", "solver.prototxt", "run/snap.log", "net.prototxt", "--score", "--device", "cpu",
                               "--out", "r.html")
    assert status == 0, err
    page = Page((tmp_path / "r.html").read_text())
    assert [image["alt"] for image in page.of("img")] == ["snap.log", "snap_worst.png"]  # snap.log.png shows the same
    found = json.loads((tmp_path / "run/snap.json").read_text())
    assert f"{100 * found['mean_iu']:.1f}" in page.text and found["weights"] == "run/snap_iter_6.caffemodel"
    for part in ("solve", "Conv", "base_lr: 0.05", "snap_iter_3.caffemodel", found["origin"]["command"], "commit"):
        assert part in page.text or part == "commit"
    assert len(list((tmp_path / "run/snap_predictions").iterdir())) == 4
    monkeypatch.setattr(experiment, "score", lambda *a, **k: pytest.fail("it is recorded already"))
    assert command(capsys, "report", "solver.prototxt", "--score", "--device", "cpu", "--out", "r.html")[0] == 0


def test_the_weights_written_last_are_scored_not_those_of_the_highest_number(tmp_path, capsys, monkeypatch):
    """A shorter run after a longer one: its curve is what a log shows, so its weights are what is scored."""
    monkeypatch.chdir(tmp_path)
    text = changed("display: 1 snapshot: 3")
    write_job(tmp_path, text, data=VOC)
    write_job(tmp_path, text, data=VOC.replace("dict_here", str(dict(
        dataset="voc", root="images", split="train", randomize=False)).replace('"', "'")), net="val.prototxt")
    for iterations in (9, 4):
        assert cli.main(["solve", "solver.prototxt", "--iterations", str(iterations), "--log", "run/snap.log", "--quiet"]) == 0
    said = command(capsys, "report", "solver.prototxt", "--score", "--device", "cpu", "--out", "r.html")[1]
    assert said.startswith("scored run/snap_iter_4.caffemodel, written after snap_iter_9.caffemodel\n")
    assert json.loads(Path("run/snap.json").read_text())["weights"] == "run/snap_iter_4.caffemodel"
    assert cli.main(["solve", "solver.prototxt", "--iterations", "12", "--quiet"]) == 0
    said = command(capsys, "report", "solver.prototxt", "--score", "--device", "cpu", "--out", "r.html")[1]
    assert said.startswith("scored run/snap_iter_12.caffemodel\n")


def test_what_cannot_be_reported(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_job(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "no.log").write_text("nothing\n")
    (tmp_path / "list.json").write_text("[1]")
    for argv, message in [(["gone"], "is not there"), (["empty"], "nothing to report"), (["no.log"], "is no log of a training"),
                          (["solver.prototxt", "--score"], "train it first")]:
        status, _, err = command(capsys, "report", *argv)
        assert status == 2 and message in err and len(err.splitlines()) == 1
    assert not (tmp_path / "report.html").exists()
    (tmp_path / "nan.json").write_text('{"mean_iu": NaN}')
    (tmp_path / "binary.prototxt").write_bytes(bytes(99))
    with open(tmp_path / "huge.png", "wb") as file:
        file.truncate(1 << 40)
    status, _, err = command(capsys, "report", "broken.json", "list.json", "nan.json", "no.log", "huge.png", "binary.prototxt",
                             "solver.prototxt")
    assert status == 0  # no records: no table of scores
    for words in ("broken.json: is no record of measurements: Expecting property name", "line 1 column 2",
                  "list.json: is no record of measurements: it holds no object", "nan.json: is no record of measurements: 'mean_iu' "
                  "cannot be nan; passed over", "no.log: is no log of a training", "huge.png: has more than 64 MiB, too much for a page; passed over",
                  "binary.prototxt"):
        assert words in err
    assert len(err.splitlines()) == 6
    page = Page((tmp_path / "report.html").read_text())
    assert "Scores" not in page.text and "Solvers and nets" in page.text


def test_a_solver_takes_its_own_files_only(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write_job(tmp_path)
    (tmp_path / "run").mkdir()
    for name in "snap.json snap_iter_3.caffemodel snapper.json snap-2.json snap_worst.png snap_iter_3.solverstate".split():
        (tmp_path / "run" / name).touch()
    assert [file.name for file in htmlreport.gather(path)] == [
        "solver.prototxt", "net.prototxt", "snap.json", "snap_iter_3.caffemodel", "snap_worst.png"]
    path.write_text(" ".join(line for line in path.read_text().splitlines() if not line.startswith("#")))
    assert len(htmlreport.gather(path)) == 5, "a solver on one line"
    assert htmlreport.gather(tmp_path / "net.prototxt") == [tmp_path / "net.prototxt"]
