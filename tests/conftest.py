"""Fixtures that several test files use."""

import gc
import os
import signal
import subprocess
from collections import Counter

if "PYTEST_XDIST_WORKER" in os.environ:  # pytest -n: no core is one process's alone
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import programs
import pytest

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore Ctrl-C, and so would all that tests start
os.fsync = lambda file: None  # flushed for a failing power supply, which no test has; a wait of the disk for each file

# few tests each, of seconds: begun last, they would leave other processes without work
LONG = {"test_blocks", "test_package", "test_platforms", "test_ranks", "test_studies", "test_validation_boxes"}


@pytest.hookimpl(wrapper=True, optionalhook=True)
def pytest_xdist_auto_num_workers():
    """One process more than cores: many tests wait, for time that is to pass or for a process to end."""
    return (yield) + 1


def pytest_collection_modifyitems(items):
    """The order in which processes take files, with --no-loadscope-reorder."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        tests = Counter(item.path for item in items)
        items.sort(key=lambda item: (item.path.stem not in LONG, -tests[item.path], item.path))


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    gc.disable()  # of what is collected nothing goes,
    try:
        return (yield)
    finally:
        gc.freeze()  # and thousands of tests are not looked through again and again
        gc.enable()


def pytest_runtest_setup(item):
    if item.get_closest_marker("gpu"):
        import torch  # here and below: the process that deals tests to others needs none of it

        if not torch.cuda.is_available():
            pytest.skip("no GPU here")


@pytest.fixture
def one_thread():
    """Sums in one order, and no wait for other cores."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def job(tmp_path, monkeypatch):
    """A folder with a small training job, which is the current folder."""
    from training import write_job

    monkeypatch.chdir(tmp_path)
    write_job(tmp_path)
    return tmp_path


@pytest.fixture
def forked(monkeypatch):
    """What runs a net that was written as a Python file is forked, not started."""
    ordinary = subprocess.run

    def run(command, **more):
        if "-I" not in command:
            return ordinary(command, **more)
        return programs.run(*command[2:], cwd=".", env=programs.environment(PYTHONPATH=""))

    monkeypatch.setattr(subprocess, "run", run)
