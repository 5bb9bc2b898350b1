"""The lines of a run against those that Caffe printed for the same job, and the bar on a terminal."""

import errno
import io
import os
import pty
import re
import select
import shutil
import struct
import termios
import time
from fcntl import ioctl
from pathlib import Path

import pytest
from programs import PROJECT, Program
from training import VOC, changed, solve, write_job

from netspec.base import log

GOLDEN = Path(__file__).parents[1] / "golden"
PREFIX = re.compile(r"([IWE])(\d{4} \d\d:\d\d:\d\d\.\d{6}) +(\d+) (\w+(?:\.cpp:\d+)?)\] (.*)")
NUMBER = re.compile(r"(?<![\w.#])-?\d+(?:\.\d+)?(?:e[+-]?\d+)?(?![\w.]*prototxt)")


def masked(line):
    """(severity, FILE:LINE, text with # for each number) of a line in glog's form."""
    severity, _, _, where, text = PREFIX.fullmatch(line).groups()
    return severity, where, NUMBER.sub("#", text)


@pytest.fixture
def golden_job(tmp_path):
    for name in ("data.h5", "data.txt", "net.prototxt", "init.caffemodel"):
        shutil.copy(GOLDEN / "solvers" / "sgd_fcn_paper" / name, tmp_path / name)
    shutil.copy(GOLDEN / "log" / "solver.prototxt", tmp_path / "solver.prototxt")
    return tmp_path


def test_the_log_is_caffes_line_by_line(golden_job):
    status, err = solve(golden_job, "solver.prototxt")
    assert status == 0, err
    lines = err.splitlines()
    assert len({PREFIX.fullmatch(line)[3] for line in lines}) == 1  # one process id
    ours = [masked(line) for line in lines]
    assert {where for _, where, _ in ours if ".cpp:" not in where} == {"netspec"}
    caffe = [masked(line) for line in (GOLDEN / "log" / "train.log").read_text().splitlines()]
    assert [line for line in ours if line[1] != "netspec"] == caffe
    assert len(caffe) > 30 and ("I", "solver.cpp:258", "    Train net output #0: loss = # (* # = # loss)") in caffe


def test_numbers_in_the_log_are_caffes(golden_job):
    """From Caffe's start weights, the losses after 5 iterations agree with the job that Caffe trained from them."""
    import numpy as np
    expected = np.load(GOLDEN / "solvers" / "sgd_fcn_paper" / "expected.npz")
    path = golden_job / "solver.prototxt"
    path.write_text(path.read_text().replace('lr_policy: "step"', 'lr_policy: "fixed"'))
    _, err = solve(golden_job, "solver.prototxt", "--weights", "init.caffemodel")
    train, test = parse(err.splitlines())
    assert [row["iteration"] for row in train] == [0, 5, 10, 15] and [row["iteration"] for row in test] == [0, 10, 20]
    for row in train:
        assert row["loss"] == pytest.approx(expected["loss"][row["iteration"]], rel=2e-5)
        assert row["lr"] == 0.01
    means = [np.mean(expected["loss"][max(0, k - 4) : k + 1]) for k in (0, 5, 10, 15)]
    smoothed = [float(m[1]) for m in re.finditer(r"iters\), loss = (\S+)", err)]
    assert smoothed == pytest.approx(means, rel=2e-5)


def parse(lines):
    """What people's log parsers do: rows of numbers for each displayed iteration and each test."""
    rows = {"Train": [], "Test": []}
    iteration = None
    for line in lines:
        found = re.search(r"Iteration (\d+)", line)
        if found:
            iteration = int(found[1])
        rate = re.search(r"Iteration \d+, lr = ([-+]?[0-9]*\.?[0-9]+([eE]?[-+]?[0-9]+)?)", line)
        if rate:
            rows["Train"][-1]["lr"] = float(rate[1])
        output = re.search(r"(Train|Test) net output #(\d+): (\S+) = ([\.\deE+-]+)", line)
        if output:
            assert iteration is not None
            table = rows[output[1]]
            if not table or table[-1]["iteration"] != iteration:
                table.append({"iteration": iteration})
            table[-1][output[3]] = float(output[4])
    return rows["Train"], rows["Test"]


def test_lines_begin_as_glogs_do():
    stream = io.StringIO()
    log.Log(stream)("solver.cpp:1", "one\n  two")
    log.Log(stream, quiet=True)("solver.cpp:1", "not said")
    log.Log(stream, quiet=True)("netspec", "said", "W")
    lines = stream.getvalue().splitlines()
    stamp = r"\d\d\d\d \d\d:\d\d:\d\d\.\d{6} [ \d]{4}\d+ "
    for line, end in zip(lines, (r"solver\.cpp:1\] one\\n  two", r"netspec\] said"), strict=True):
        assert re.fullmatch(f"[IW]{stamp}{end}", line), line
    assert lines[1][0] == "W"


class Closed(io.StringIO):
    """A terminal whose window was closed, or a pipe whose reader is gone."""

    def __init__(self, number):
        super().__init__()
        self.number = number

    def write(self, text):
        raise OSError(self.number, "gone")


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EPIPE])
@pytest.mark.parametrize("which", ["log", "copy"])
def test_what_cannot_be_written_is_told_once_where_it_can_be_and_ends_nothing(number, which):
    streams = dict(log=io.StringIO(), copy=io.StringIO()) | {which: Closed(number)}
    said, copy = (log.Log(streams[name], quiet=True) for name in ("log", "copy"))
    said.copies, copy.original = [copy], said
    for _ in range(3):
        said("solver.cpp:1", "text")
        said("solver.cpp:1", "more", "W")
    (other,) = (stream for name, stream in streams.items() if name != which)
    assert other.getvalue().count("takes no lines (gone): they are lost, and the run goes on") == 1
    assert other.getvalue().count("more") == 3
    log.Bar(Closed(number)).progress("net", 1, 2, "", 1)


# the bar

class Screen:
    """What a terminal shows: \\r, \\n and "erase to the end of the line" are all a bar may use."""

    def __init__(self, columns):
        self.columns, self.rows, self.at = columns, [""], 0

    def feed(self, text):
        for part in re.split(r"(\x1b\[K|\r|\n)", text):
            if part == "\x1b[K":
                self.rows[-1] = self.rows[-1][: self.at]
            elif part == "\r":
                self.at = 0
            elif part == "\n":
                self.rows.append("")
                self.at = 0
            else:
                assert "\x1b" not in part
                self.rows[-1] = self.rows[-1][: self.at] + part + self.rows[-1][self.at + len(part) :]
                self.at += len(part)


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def bar(monkeypatch):
    """(bar, screen after what it wrote so far, clock to move)."""
    stream, clock = Terminal(), [100.0]
    monkeypatch.setattr(log.time, "monotonic", lambda: clock[0])
    made = log.make(stream=stream)
    assert isinstance(made, log.Bar)
    monkeypatch.setattr(made, "columns", lambda: 100)

    def screen():
        shown = Screen(80)
        shown.feed(stream.getvalue())
        return shown

    return made, screen, clock


def test_the_bar_shows_progress_speed_and_time_left(bar):
    made, screen, clock = bar
    for done in range(1, 6):
        made.progress("net", done, 10, f"loss {1 / done:.2f}  lr 0.1", 20)
        clock[0] += 2.0
    row = screen().rows[-1]
    assert row == "net [############............] 5/10  loss 0.20  lr 0.1  10.0 images/s  0:10 left"
    made("solver.cpp:464", "Snapshotting to binary proto file x")
    made("solver.cpp:239", "Iteration 5 (1 iter/s ...), loss = 0.2")  # the bar says so
    made("netspec", "mind", "W")
    assert screen().rows[-3:] == ["Snapshotting to binary proto file x", "warning: mind", row]
    for done in range(6, 11):
        made.progress("net", done, 10, "loss 0.1", 20)
    assert screen().rows[-1] == "" and "] 10/10  " in screen().rows[-2] and screen().rows[-2].endswith("0:00 left")
    made.progress("net", 12, 10, "loss 0.1", 20)  # steps beyond the solver's last
    assert " [########################] 12/10  " in screen().rows[-2]
    made.progress("next", 1, 3, "loss 9", 20)  # another stage
    assert screen().rows[-1].startswith("next [########................] 1/3  loss 9")
    made.close()
    assert screen().rows[-1] == "" and not any("next" in row for row in screen().rows)


@pytest.mark.parametrize("columns", range(5, 140, 3))
def test_the_bar_never_exceeds_the_window(bar, monkeypatch, columns):
    made, screen, clock = bar
    monkeypatch.setattr(made, "columns", lambda: columns)
    for done in range(1, 12):
        made.progress("shapes-fcn32s", done, 11, "loss 1.234  lr 0.00123", 20)
        assert len(made.bar) < columns
        clock[0] += 5000
    assert max(len(row) for row in screen().rows) < columns


@pytest.mark.parametrize("columns, row", [
    (80, "shapes-fcn32s [##...] 20/45  loss 1.234  lr 0.00123  0.0 images/s  1:44:10 left"),
    (60, "shapes-fcn32s 20/45  loss 1.234  lr 0.00123  1:44:10 left"),
    (50, "shapes-fcn32s 20/45  loss 1.234  1:44:10 left"),
    (25, "shap 20/45  1:44:10 left"),
    (20, "20/45  1:44:10 left"),
    (10, "20/45  1:"),
])
def test_a_narrow_bar_keeps_the_time_left(bar, monkeypatch, columns, row):
    made, _, clock = bar
    monkeypatch.setattr(made, "columns", lambda: columns)
    for done in (0, 20):
        made.progress("shapes-fcn32s", done, 45, "loss 1.234  lr 0.00123", 1)
        clock[0] += 5000
    assert made.bar == row and len(row) < columns


def test_the_bar_is_not_drawn_at_every_step(bar):
    made, screen, clock = bar
    before = 0
    for done in range(1, 1000):
        made.progress("net", done, 1000, "loss 1", 1)
        clock[0] += 0.01
        before += made.stream.getvalue().count("\r") > before
    assert 40 <= made.stream.getvalue().count("\r") <= 60
    assert "100.0 images/s" in screen().rows[-1]


def test_quiet_draws_no_bar():
    stream = Terminal()
    made = log.make(quiet=True, stream=stream)
    made.progress("net", 1, 2, "loss 1", 1)
    made.close()
    assert stream.getvalue() == ""


def on_terminal(folder, *args, columns=100):
    """(exit status, all that the solve command wrote) with a terminal as its standard error."""
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    null = os.open(os.devnull, os.O_WRONLY)
    process = Program(PROJECT / "tools/solve.py", *args, cwd=folder, files=(theirs, null, theirs), start_new_session=True)
    os.close(null)
    os.close(theirs)
    text, deadline = b"", time.monotonic() + 120
    try:
        while time.monotonic() < deadline:
            if select.select([ours], [], [], 1)[0]:
                try:
                    part = os.read(ours, 65536)
                except OSError:  # the other side was closed
                    break
                if not part:
                    break
                text += part
        return process.wait(60), text.decode().replace("\r\n", "\n")
    finally:
        process.kill()
        os.close(ours)


@pytest.mark.parametrize("columns", [100, 30, 0])
def test_a_run_on_a_terminal(tmp_path, columns):
    write_job(tmp_path, changed("max_iter: 40 snapshot: 20 display: 1"), data=VOC)
    status, text = on_terminal(tmp_path, "solver.prototxt", columns=columns)
    assert status == 0, text
    screen = Screen(columns)
    screen.feed(text)
    drawn = [part for part in re.split(r"\r\x1b\[K|\n", text) if part.startswith("tiny ")]
    assert drawn and max(map(len, drawn)) < (columns or 80)
    if columns != 30:
        assert re.fullmatch(r"tiny \[#{10,24}\] 40/40  loss \d\S+  lr \S+  \d+\.\d images/s  0:00 left", drawn[-1])
    assert "iter/s" not in text and "Train net" not in text and "cpp" not in text
    assert screen.rows[-1] == "" and screen.rows[-2] == "Optimization Done." and text.count("Done") == 1
    assert "Snapshotting to binary proto file run/snap_iter_20.caffemodel" in screen.rows
