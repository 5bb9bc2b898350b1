"""The harness finds what it is for: each kind of fault, by doors that have it; and draws the same attempts by the same seed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from hostile import drawing, runner

if not hasattr(os, "pidfd_open"):
    pytest.skip("the harness is for Linux", allow_module_level=True)


def bad_exception():
    np.load("given.npy")


def bad_signal():
    os.kill(os.getpid(), signal.SIGSEGV)


def bad_wait():
    time.sleep(60)


def bad_loop():
    while True:
        pass


def long():
    until = time.process_time() + 0.3
    while time.process_time() < until:
        pass


def bad_memory():
    np.ones(1 << 33, np.uint8)


def bad_stray():
    Path(".new.part").touch()


def bad_change():
    Path("given.npy").write_text("changed")


def bad_way_out():
    Path("../other").touch()


def bad_process():
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])


def bad_picture():
    Path("new.png").write_bytes(b"\x89PNG")


def bad_words():
    print("\x1b[31mred")


def bad_status():
    return 2


def good():
    np.save("new.npy", np.zeros(3))


WORDS = {bad_exception: "ValueError", bad_signal: "SIGSEGV", bad_wait: "not over", bad_loop: "over 1 s of the processor",
         long: runner.SLOW, bad_memory: "MemoryError", bad_stray: "leaves .new.part",
         bad_change: "changes given.npy", bad_way_out: "beside", bad_process: "outlives", bad_picture: "cannot be read",
         bad_words: "control character", bad_status: "0 lines", good: ""}


@pytest.mark.parametrize("function", WORDS, ids=lambda function: function.__name__)
def test_each_kind_of_fault_is_found(function, tmp_path, monkeypatch):
    monkeypatch.setitem(runner.DOORS, function.__name__, function)
    monkeypatch.setattr(runner, "PATIENCE", 0.5 if function is bad_wait else 60)
    monkeypatch.setattr(runner, "OUTLIVING", 0.2)
    monkeypatch.setattr(runner, "SECONDS", 1)
    monkeypatch.setattr(runner, "LONG", 0.2 if function is long else 10)
    (tmp_path / "work").mkdir()
    (tmp_path / "work/given.npy").write_bytes(b"\x93NUMPY of another kind")
    found = runner.tried(tmp_path, [function.__name__])
    assert drawing.Fault("", found, "").slow == (function is long)
    assert WORDS[function] in found and bool(found) == bool(WORDS[function]), (found, (tmp_path / "err").read_text())


def reader(name):
    """One that takes a file at its word."""
    data = Path(name).read_bytes()
    np.empty(int.from_bytes(data[:2], "little"), np.uint8)[data[2]] = 1


def test_a_broken_reader_is_found_and_the_same_seed_finds_it_again(tmp_path, monkeypatch):
    def make(numbers, folder):
        (folder / "file").write_bytes(bytes([numbers.randrange(40), 0, numbers.randrange(40)]))
        return ["reader", "file"]

    monkeypatch.setitem(runner.DOORS, "reader", reader)
    monkeypatch.setattr(drawing, "areas", lambda: {"broken": drawing.Area(make, 20)})
    tried, faults = drawing.chunk("broken", 1, 0, 20, tmp_path)
    assert tried == 20 and faults and all("IndexError" in fault.what for fault in faults)
    kept = Path(faults[0].place)
    assert (kept / "given/file").read_bytes()[2] >= (kept / "given/file").read_bytes()[0]
    assert drawing.again(kept) == faults[0].what
    assert drawing.chunk("broken", 1, 0, 20, tmp_path) == (tried, faults)
