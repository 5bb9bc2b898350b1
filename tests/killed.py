"""Runs the solve command in children that kill themselves at one point of one snapshot; see tests/train/test_stages_stopped.py.

A process of its own, which has done no training: only such a one can be forked safely, and quickly, many times.
Reads a case a line, as JSON; answers with the child's exit status.
"""

import importlib
import json
import os
import signal
import sys
from contextlib import contextmanager

import torch

from netspec.base import files
from netspec.cli import main as cli
from netspec.proto import hdf5 as hdf5file
from netspec.proto import model
from netspec.train import snapshot

for name in ("cli.solve", "train.stages", "look.curves"):  # loaded once, not in every child
    importlib.import_module(f"netspec.{name}")

os.fsync = lambda file: None  # as in conftest.py
WRITE, RENAME = files.writing, os.replace


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def die_at(name, when):
    """Kill this process before, within or after the writing of the file whose path ends so, when it gets its name, or
    when it is in its place."""
    @contextmanager
    def writing(path, mode="wb"):
        hit = str(path).endswith(name)
        if hit and when == "before":
            die()
        with WRITE(path, mode) as file:
            if hit and when == "within":
                file.write(b"half" if "b" in mode else "half")
                file.flush()
                die()
            yield file
        if hit and when == "after":
            die()

    def replace(source, target):
        if str(target).endswith(name) and when == "named":
            die()
        RENAME(source, target)
        if str(target).endswith(name) and when == "moved" and ".part" not in str(target):
            die()

    os.replace = replace
    for module in (files, snapshot, model, hdf5file):
        assert hasattr(module, "writing")
        module.writing = writing


for line in sys.stdin:
    case = json.loads(line)
    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)
        os.chdir(case["folder"])
        if case.get("name"):
            die_at(case["name"], case["when"])
        os._exit(cli.main(["solve", *case["args"]]))
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
