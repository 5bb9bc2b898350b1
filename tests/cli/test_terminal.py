"""What names from files can do to a terminal, to a log and to who reads either: nothing."""

import csv
import io
import json
import logging
import os
import re
import shutil
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format
from training import VOC, changed, write_job

from netspec.base.errors import one_line
from netspec.base.table import as_csv, table
from netspec.cli import terminal
from netspec.cli.main import main
from netspec.proto import caffe_pb2
from netspec.proto.text import read_net

FORGED = "I1129 10:00:00.000000     1 solver.cpp:258] forged"
BAD = f"a\n{FORGED}\r\x1b[2J\x9b31m\x08\t\u202e\u2028\u2066\x85\x7f</text></td><b>&\"'|,"
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def hostile(text):
    """A net whose every name has BAD in front."""
    net = text_format.Parse(text, caffe_pb2.NetParameter())
    net.name = BAD + net.name
    for layer in net.layer:
        layer.name = BAD + layer.name
        for names in (layer.bottom, layer.top):
            names[:] = [BAD + name for name in names]
    return text_format.MessageToString(net)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a solver, its net, of hostile names, and an image of such a name."""
    folder = tmp_path_factory.mktemp("hostile")
    write_job(folder, changed("max_iter: 2 snapshot: 2 display: 1"), data=VOC)
    plain = (folder / "net.prototxt").read_text()
    (folder / "plain.prototxt").write_text(plain)
    (folder / "net.prototxt").write_text(hostile(plain))
    shutil.copy(folder / "images/JPEGImages/im0.jpg", folder / IMAGE)
    np.savez(folder / "results.npz", **{f"in:{BAD}data": np.zeros((1, 3, 4, 4), np.float32),
                                        f"in:{BAD}label": np.zeros((1, 1, 4, 4), np.float32),
                                        f"out:{BAD}conv": np.ones((1, 5, 4, 4), np.float32)})
    return folder


IMAGE, NO_IMAGE = f"i\n{FORGED}\x1b[2J\u202e.jpg", os.fsdecode(b"no\xff\n\x1b.jpg")
WEIGHTS = "run/snap_iter_2.caffemodel"
COMMANDS = [
    ("solve solver.prototxt --log run.log", 0), ("describe net.prototxt", 0), ("describe net.prototxt --json", 0),
    ("describe net.prototxt --table1", 0), ("describe net.prototxt --layer BAD", 2), ("draw net.prototxt --out net.svg", 0),
    ("draw net.prototxt --out net.png", 0), ("draw net.prototxt --style figure3 --out figure.svg", 0), ("doctor net.prototxt", 0),
    ("doctor solver.prototxt --weights WEIGHTS", 1), ("doctor WEIGHTS", 0), ("diff-net net.prototxt plain.prototxt", 1),
    ("diff-net plain.prototxt net.prototxt --size 20x20", 1), ("diff-net net.prototxt --figure3", 1),
    ("explain-crop net.prototxt BAD", 2), ("convert upgrade net.prototxt up.prototxt", 0),
    ("convert torch net.prototxt WEIGHTS net.py", 0), ("convert transplant net.prototxt new.caffemodel WEIGHTS", 0),
    ("infer net.prototxt WEIGHTS IMAGE NO_IMAGE --score-blob SCORE --out out", 2),
    ("infer net.prototxt WEIGHTS IMAGE --score-blob SCORE --out out --json", 0), ("score net.prototxt WEIGHTS --score-blob BAD", 2),
    ("score net.prototxt WEIGHTS --score-blob SCORE --label-blob LABEL --sheet BAD", 2), ("parity net.prototxt results.npz --weights WEIGHTS", 1),
    ("data check net.prototxt", 1), ("curves run.log --out curves.svg", 0), ("report solver.prototxt run.log IMAGE", 0),
    ("describe BAD", 2), ("describe net.prototxt --size BAD", 2), ("solve BAD", 2), ("BAD", 2),
]


@pytest.mark.parametrize("command, status", COMMANDS, ids=[" ".join(command.split()[:4]) for command, _ in COMMANDS])
@pytest.mark.usefixtures("forked")
def test_no_name_begins_a_line_or_moves_the_cursor(trained, monkeypatch, capsys, command, status):
    monkeypatch.chdir(trained)
    words = dict(BAD=BAD, IMAGE=IMAGE, NO_IMAGE=NO_IMAGE, WEIGHTS=WEIGHTS, SCORE=f"{BAD}score", LABEL=f"{BAD}label")
    try:
        ended = main([words.get(word, word) for word in command.split()])
    except SystemExit as end:
        ended = end.code
    out, err = capsys.readouterr()
    assert ended == status, out + err
    logs = [path.read_text() for path in trained.glob("run.log") if command.startswith("solve ")]
    for text in (out, err, *logs):
        lines = text.split("\n")
        assert not [line for line in lines if CONTROL.search(line)]
        assert not [line for line in lines if line.startswith(FORGED[:10]) or line.split("] ")[1:2] == ["forged"]]


def test_data_for_programs_keep_names_as_they_are(trained, monkeypatch, capsys):
    monkeypatch.chdir(trained)
    names = [layer.name for layer in read_net(Path("net.prototxt")).layer]
    for kind, read in (("--json", lambda text: [layer["layer"] for layer in json.loads(text)["layers"]]),
                       ("--csv", lambda text: [row[0] for row in csv.reader(io.StringIO(text, newline=""))][1:])):
        assert main(["describe", "net.prototxt", kind]) == 0
        assert set(read(capsys.readouterr().out)) <= set(names) and len(names) > 3
    assert main(["convert", "upgrade", "net.prototxt", "again.prototxt"]) == 0
    assert [layer.name for layer in read_net(Path("again.prototxt")).layer] == names
    assert list(csv.reader(io.StringIO(as_csv([[BAD, 1]]), newline=""))) == [[BAD, "1"]]


def test_pictures_and_pages_of_such_names_are_well_formed(trained, monkeypatch, capsys):
    monkeypatch.chdir(trained)
    for path, style in (("net.svg", "layers"), ("f.svg", "figure3")):
        assert main(["draw", "net.prototxt", "--style", style, "--out", path]) == 0
        shown = [each.text for each in ElementTree.parse(path).getroot().iter("{http://www.w3.org/2000/svg}text")]
        assert not any(CONTROL.search(text or "") for text in shown) and any("</text></td><b>&\"'|," in text for text in shown)
    odd = Path(os.fsdecode(b"\xff<b>.prototxt"))
    shutil.copy("plain.prototxt", odd)
    assert main(["report", "net.prototxt", str(odd), "--out", "page.html"]) == 0
    tags = set()
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: tags.add(tag)
    parser.feed(Path("page.html").read_text(encoding="utf-8"))
    assert "b" not in tags and "body" in tags


@pytest.mark.parametrize("text, line", [
    ("a\nb\r\t\x00", r"a\nb\r\t\x00"), ("\x1b[31m\x9b", r"\x1b[31m\x9b"), ("\u202ea\u2066\u2028\u200f", r"\u202ea\u2066\u2028\u200f"),
    (os.fsdecode(b"\xffa"), r"\udcffa"), ("Straße 漢字 \U0001f600 C:\\net", "Straße 漢字 \U0001f600 C:\\net"), ("", ""),
])
def test_a_text_is_one_line(text, line):
    assert one_line(text) == line == one_line(line)
    assert table([[text]], ["x"]).split("\n")[2:] == [line.rstrip()]


def test_lines_are_coloured_on_a_terminal_alone(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    for kind, red in ((Terminal, "\x1b[31m- \\x1b[0m\x1b[0m\nb\n"), (io.StringIO, "- \\x1b[0m\nb\n")):
        file = kind()
        terminal.say("- \x1b[0m", "b", file=file, colours={"-": 31})
        assert file.getvalue() == red
    monkeypatch.setenv("NO_COLOR", "1")
    terminal.say("-", file=(file := Terminal()), colours={"-": 31})
    assert file.getvalue() == "-\n"


def test_nothing_else_prints():
    package = Path(terminal.__file__).parents[1]
    found = {path.name for path in package.rglob("*.py") if re.search(r"(?<![\w.\"'])print\(", path.read_text())}
    assert found == {"terminal.py"}


def test_what_wings_remark_is_one_line_too(capsys):
    """Python's logging prints it, where nobody asked for another way."""
    assert main(["layers", "ReLU"]) == 0
    assert logging.lastResort.format(logging.makeLogRecord({"msg": "layer '%s'", "args": (BAD,)})) == f"layer '{one_line(BAD)}'"
