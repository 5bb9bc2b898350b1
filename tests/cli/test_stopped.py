"""Ctrl-C in a command that keeps nothing for later: one line, no traceback, 130; in solve within validation and writing."""

import re
from pathlib import Path

import pytest
from programs import Program, run
from training import BODY, VOC, changed, write_job

# `python -c PRESSED PLACE CALL TIMES command ...`: Ctrl-C so many times in that call of a function or method
PRESSED = """
import importlib, os, signal, sys, time
place, call, times, *command = sys.argv[1:]
module, _, names = place.partition(":")
owner = importlib.import_module(module)
*owners, name = names.split(".")
for each in owners:
    owner = getattr(owner, each)
function, calls = getattr(owner, name), []
def pressed(*args, **options):
    calls.append(0)
    if len(calls) == int(call):
        for _ in range(int(times)):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.5)
    return function(*args, **options)
setattr(owner, name, pressed)
from netspec.cli.main import main
sys.exit(main(command))
"""


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """A folder with a net, its solver and weights."""
    folder = tmp_path_factory.mktemp("job")
    write_job(folder, changed("max_iter: 30 snapshot: 2 test_iter: 2 test_interval: 3"), BODY, VOC)
    (folder / "val.prototxt").write_text((folder / "net.prototxt").read_text().replace("'seed'", "'randomize': False, 'seed'"))
    (folder / "deploy.prototxt").write_text(
        'name: "tiny" layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 9 dim: 9 } } }'
        + BODY.partition('layer { name: "loss"')[0])
    done = run("-m", "netspec", "solve", "solver.prototxt", "--iterations", 2, "--quiet", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


WEIGHTS = "run/snap_iter_2.caffemodel"


def press(folder, place, call, times, *command):
    """(exit status, what is said on standard error that is no line of information) of a command."""
    process = Program("-c", PRESSED, place, call, times, *command, cwd=folder, start_new_session=True)
    _, err = process.communicate(60)
    return process.returncode, [line for line in err.splitlines() if not re.match(r"I\d{4} ", line)]


@pytest.mark.parametrize("place, call, command", [
    ("netspec.score.score:confusion", 2, ("score", "val.prototxt", WEIGHTS)),
    ("netspec.score.frames:rgb", 2, ("infer", "deploy.prototxt", WEIGHTS, "images/JPEGImages/im0.jpg",
                                          "images/JPEGImages/im1.jpg", "--mean", "0,0,0", "--out", "out")),
    ("netspec.check.data:look", 1, ("data", "check", "net.prototxt")),
    ("netspec.data.get:_request", 1, ("data", "sbd", "--yes", "--root", "sbd")),
    ("netspec.net.build:Graph", 2, ("solve", "solver.prototxt")),  # the test net, before the first step
])
def test_one_line_and_130(job, place, call, command):
    status, said = press(job, place, call, 1, *command)
    assert (status, said) == (130, [f"netspec {command[0]}: stopped by Ctrl-C"])


@pytest.mark.parametrize("place", ["netspec.train.solver:Solver.test", "os:fsync"])
@pytest.mark.parametrize("times", [1, 2])
def test_within_validation_and_while_a_snapshot_is_written(tmp_path, place, times):
    write_job(tmp_path, changed("max_iter: 30 snapshot: 2 test_iter: 2 test_interval: 3"), BODY, VOC)
    status, (first, last) = press(tmp_path, place, 5, times, "solve", "solver.prototxt")
    assert status == 130 and "Ctrl-C: this step is being finished" in first
    assert ("second Ctrl-C: stopped at once" if times == 2 else "stopped by Ctrl-C after ") in last
    assert not [path for path in Path(tmp_path, "run").iterdir() if path.name.endswith(".part")]
