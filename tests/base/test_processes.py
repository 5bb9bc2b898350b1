"""Processes that another started to work for it, and that one killed: none outlives it."""

import mmap
import os
import signal
import sys
from contextlib import suppress

import pytest
from programs import PROJECT, Program, alive, environment, run
from training import write_voc

from netspec.base import processes
from netspec.base.errors import Error

FORKS = """
import os, signal, sys, time
forked = []

def die():
    forked.append(0)
    if len(forked) == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)

os.register_at_fork(after_in_parent=die, after_in_child=lambda: time.sleep(0.3))
"""
FEED = """
from google.protobuf import text_format
from netspec.data import feed
from netspec.data.arrays import DummyData
from netspec.proto.caffe_pb2 import LayerParameter
layer = 'type: "DummyData" top: "a" dummy_data_param { shape { dim: 1 } }'
source = DummyData(text_format.Parse(layer, LayerParameter()), ())
"""
CHECK = """
from netspec.base.log import Log
from netspec.check.data import look
from netspec.data.segmentation import SegmentationData
from netspec.ops.base import Context
from netspec.proto.caffe_pb2 import LayerParameter
layer = LayerParameter(type="Python", top=["data", "label"])
layer.python_param.param_str = "{'dataset': 'voc', 'root': 'images', 'split': 'train'}"
"""
BESIDE = """
import os, signal, time
fed = feed.Feed(source, workers=1)
if not os.fork():  # a process of someone else's, which inherits what the parent has open
    os.setsid()
    os.closerange(0, 3)
    time.sleep(65)
    os._exit(0)
os.kill(os.getpid(), signal.SIGKILL)
"""
SPAWNS = """
import os, signal
feed.START = "spawn"
fed = feed.Feed(source, workers=2)
os.kill(os.getpid(), signal.SIGKILL)
"""
MEASURES = """
import os, signal
from netspec.papers.measure import child
from work import work
with child(work):
    os.kill(os.getpid(), signal.SIGKILL)
"""
WORK = """
import time
def work(asked):
    asked.send(None)
    time.sleep(600)
"""
PARENTS = {
    "feed": FEED + FORKS + "feed.Feed(source, workers=2)",
    "beside": FEED + BESIDE,
    "spawned": FEED + SPAWNS,
    "check": CHECK + FORKS + "look([SegmentationData(layer, (), Context())], 2, Log(quiet=True))",
    "measured": MEASURES,
}


@pytest.mark.parametrize("name, forks", [("feed", 1), ("feed", 2), ("beside", 0), ("spawned", 0),
                                         ("check", 1), ("check", 2), ("measured", 0)])
def test_no_process_outlives_one_that_is_killed_while_it_starts(tmp_path, name, forks):
    """forks: the parent dies as soon as it has forked so often, before what it forked does anything."""
    write_voc(tmp_path, 9)  # which two processes share
    (tmp_path / "work.py").write_text(WORK)
    parent = Program("-c", PARENTS[name], forks, cwd=tmp_path, start_new_session=True,
                     env=environment(PYTHONPATH=f"{PROJECT}{os.pathsep}{tmp_path}"))
    try:
        assert parent.wait(60) == -signal.SIGKILL, parent.stderr.read()
        assert not alive(parent.pid, 60)  # a spawned one imports torch first; one that is left lives on for good
        assert "Traceback" not in (said := parent.stderr.read()), said
    finally:
        with suppress(ProcessLookupError):
            os.killpg(parent.pid, signal.SIGKILL)
        parent.stdout.close()
        parent.stderr.close()


def test_what_is_tried_takes_no_more_than_the_system_gives_and_ends_there(tmp_path):
    code = ("from resource import *\nfrom netspec.base.processes import tried, within\n"
            "setrlimit(RLIMIT_CPU, (20, 20))\nsetrlimit(RLIMIT_AS, (4 << 30, 4 << 30))\n"
            "tried(lambda: (within(8 << 30), open('done', 'a').write('once')), 'it')\nprint('after')\n")
    done = run("-c", code, cwd=tmp_path)
    assert (done.stdout, done.stderr, (tmp_path / "done").read_text()) == ("after\n", "", "once")


@pytest.mark.skipif(sys.platform != "linux", reason="processes are not forked")
def test_what_ends_a_process_that_tries_is_told_to_the_one_that_started_it(monkeypatch):
    def ends(number):
        os.kill(os.getpid(), number)

    def raises(error):
        raise error

    def takes(room):
        processes.within(room)
        try:
            mmap.mmap(-1, 1 << 27)  # not of what the session's heap has free
        except OSError:
            raise Error("too much") from None

    for number in (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGKILL):
        with pytest.raises(Error, match=f"^a.h5: is damaged, reading it ends the process .{number.name}."):
            processes.tried(lambda number=number: ends(number), "a.h5:")
    for error in (Error("it is no such file"), Error("\u00e9" * 100_000)):
        with pytest.raises(Error, match=str(error)[:100]):
            processes.tried(lambda error=error: raises(error), "a.h5:")
    processes.tried(lambda: raises(ZeroDivisionError()), "a.h5:")  # which the work raises here, too
    processes.tried(lambda: takes(1 << 30), "a.h5:")
    with pytest.raises(Error, match="too much"):
        processes.tried(lambda: takes(1 << 20), "a.h5:")
    monkeypatch.setattr(processes, "SECONDS", 1)
    with pytest.raises(Error, match="ends the process .SIGXCPU."):
        processes.tried(lambda: [None for _ in iter(int, 1)], "a.h5:")
    assert not processes._trying
