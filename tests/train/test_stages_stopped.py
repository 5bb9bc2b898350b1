"""The solve command interrupted and killed at any moment, and going on as if nothing had happened."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import programs
import pytest
from programs import PROJECT, alive, environment
from training import BODY, HDF5, VOC, changed, solve, start, write_job

from netspec.proto.model import read_state, read_weights

LONG = "max_iter: 120 snapshot: 4 average_loss: 7 test_iter: 2 test_interval: 10 display: 3 iter_size: 2"
FINAL = ("run/snap_iter_120.caffemodel", "run/snap_iter_120.solverstate")


def bytes_of(folder, names=FINAL):
    return {name: (folder / name).read_bytes() for name in names}


def newest(folder):
    """The newest snapshot's solver state, by its number; None without any."""
    states = []
    with suppress(FileNotFoundError):  # the folder goes again when it is seen that it can be written
        states = [p for p in folder.glob("run/*") if re.search(r"\.solverstate(\.h5)?$", p.name)]
    found = sorted(states, key=lambda p: int(re.search(r"iter_(\d+)", p.name)[1]))
    return found[-1] if found else None


def check_whole(folder):
    """Every file with a final name can be read whole, and every solver state has what belongs to it."""
    for path in (folder / "run").glob("*"):
        if path.suffix == ".caffemodel":
            assert {layer for layer, blobs in read_weights(path).items() if blobs} == {"conv", "score"}
        elif path.suffix == ".solverstate":
            state = read_state(path)
            assert len(state.history) == 4 and path.with_suffix(".resume").exists()
            assert path.with_suffix(".caffemodel").exists() and state.learned_net.endswith(f"{path.stem}.caffemodel")
        elif path.name.endswith("_best.json"):
            assert Path(json.loads(path.read_text())["weights"]).name in {file.name for file in path.parent.iterdir()}
        else:
            assert path.suffix in (".resume", ".part"), path


@pytest.fixture(scope="module", params=["VOC", pytest.param("HDF5", marks=pytest.mark.slow)])
def uninterrupted(request, tmp_path_factory):
    """(data, folder) of a job that ran through; its files are what every interrupted run must end with."""
    data = {"VOC": VOC, "HDF5": HDF5}[request.param]
    folder = tmp_path_factory.mktemp("straight")
    write_job(folder, changed(LONG), data=data)
    status, err = solve(folder, "solver.prototxt")
    assert status == 0, err
    return data, folder


@pytest.fixture
def run(uninterrupted, tmp_path):
    """(folder of the same job, what it must end with)."""
    data, folder = uninterrupted
    write_job(tmp_path, changed(LONG), data=data)
    return tmp_path, bytes_of(folder)


def wait_for(process, condition, timeout=60):
    """Until the condition holds or the process ends."""
    end = time.monotonic() + timeout
    while not condition() and process.poll() is None:
        assert time.monotonic() < end, "timed out"
        time.sleep(0.002)


def go_on(folder):
    state = newest(folder)
    status, err = solve(folder, "solver.prototxt", *(("--snapshot", state) if state else ()))
    assert status == 0, err
    return err


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_writes_a_snapshot_and_the_run_goes_on_from_it(run, number, status):
    folder, expected = run
    process = start(folder, "solver.prototxt")
    wait_for(process, lambda: newest(folder))
    time.sleep(random.Random(number).random() * 0.05)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == status, err
    said = re.search(r"W.*netspec\] stopped by (Ctrl-C|SIGTERM) after (\d+) iterations; the same command with "
                     r"--snapshot (\S+) goes on$", err, re.MULTILINE)
    assert said and "Traceback" not in err and "Optimization stopped early." in err
    assert read_state(folder / said[3]).iteration == int(said[2]) < 120
    check_whole(folder)
    assert newest(folder) == folder / said[3]
    again = go_on(folder)
    assert f"Resuming from {folder / said[3]}" in again and "loaded: conv, score (2)" in again
    assert bytes_of(folder) == expected


def test_a_stopped_run_that_weights_began_says_that_the_snapshot_takes_their_place(uninterrupted, run):
    folder, _ = run
    process = start(folder, "solver.prototxt", "--weights", uninterrupted[1] / FINAL[0])
    wait_for(process, lambda: newest(folder))
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    said = re.search(r"the same command with --snapshot (\S+) in place of --weights goes on$", err, re.MULTILINE)
    assert said and newest(folder) == folder / said[1], err
    assert "Resuming from" in go_on(folder)


def test_ctrl_c_reaches_the_whole_process_group(run):
    """As a terminal sends it: to the workers that read data too, which leave the answer to the solver."""
    folder, expected = run
    process = start(folder, "solver.prototxt", start_new_session=True)
    wait_for(process, lambda: newest(folder))
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in err, err
    assert not alive(process.pid)
    go_on(folder)
    assert bytes_of(folder) == expected


HELD = """
import caffe, torch
class Held(caffe.Layer):
    def setup(self, bottom, top): self.passes = 0
    def reshape(self, bottom, top): top[0].reshape(*bottom[0].shape)
    def forward(self, bottom, top):
        top[0].data[...] = bottom[0].data
        self.passes += 1
        if self.passes == 12:
            open("held", "w").close()
            torch.linalg.matrix_power(torch.eye(1500), 2**60)  # Python hears of no signal meanwhile
    def backward(self, top, propagate_down, bottom): bottom[0].diff[...] = top[0].diff
"""


@pytest.fixture
def held(tmp_path):
    """A process in the midst of its sixth step, which takes long, with a snapshot of the fourth."""
    body = BODY.replace('type: "ReLU" bottom: "conv" top: "conv"',
                        'type: "Python" bottom: "conv" top: "held" python_param { module: "held" layer: "Held" }')
    body = body.replace('type: "Dropout" bottom: "conv" top: "conv"', 'type: "Dropout" bottom: "held" top: "held"')
    body = body.replace('type: "Convolution" bottom: "conv" top: "score"', 'type: "Convolution" bottom: "held" top: "score"')
    write_job(tmp_path, changed(LONG, "test_interval: 1000 test_initialization: false"), body, VOC)
    (tmp_path / "held.py").write_text(HELD)
    process = start(tmp_path, "solver.prototxt", start_new_session=True,
                    env=environment(PYTHONPATH=f"{PROJECT}{os.pathsep}{tmp_path}"))
    wait_for(process, (tmp_path / "held").exists)
    time.sleep(0.2)
    yield process
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)


def until(process, words):
    """The next line of standard error with these words."""
    for line in process.stderr:
        if words in line:
            return line.partition("] ")[2].rstrip()
    raise AssertionError(f"'{words}' is not said")


@pytest.mark.parametrize("number, name", [(signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM")])
def test_what_a_stop_does_is_said_at_once_and_a_second_one_ends_it_all(held, tmp_path, number, name):
    begun = time.monotonic()
    os.killpg(held.pid, number)  # as a terminal does: the processes that read data get it too
    last = f"({re.escape(str(tmp_path))}/)?run/snap_iter_4.solverstate"
    assert re.fullmatch(f"{name}: this step is being finished, then a snapshot is written; a second {name} stops at "
                        rf"once, without a snapshot \(the last one is {last}\)", until(held, name))
    os.killpg(held.pid, number)
    assert re.fullmatch(f"second {name}: stopped at once, without a snapshot; the last one is {last}",
                        until(held, "second"))
    held.wait(60)
    assert time.monotonic() - begun < 3 and held.returncode == 128 + number
    assert "Traceback" not in held.stderr.read() and not alive(held.pid)
    assert newest(tmp_path).name == "snap_iter_4.solverstate"
    assert not list(tmp_path.glob("run/.*"))


def test_sighup_writes_a_snapshot_and_goes_on(run):
    folder, expected = run
    process = start(folder, "solver.prototxt", start_new_session=True)
    wait_for(process, lambda: newest(folder))
    found = set()
    while process.poll() is None and not found:
        os.killpg(process.pid, signal.SIGHUP)
        time.sleep(0.02)
        found = {p for p in folder.glob("run/*.solverstate") if int(re.search(r"iter_(\d+)", p.name)[1]) % 4}
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert found, "no snapshot beside those of every fourth iteration"
    check_whole(folder)
    assert bytes_of(folder) == expected


EARLY = """
import os, signal, sys, time
number = int(sys.argv[1])
os.register_at_fork(after_in_child=lambda: os.kill(os.getpid(), number))  # before anything else is done there
from netspec.train.stopping import stopping
class Solver:
    stop, snapshot_asked, last_snapshot, log = 0, False, None, staticmethod(print)
with stopping(Solver()) as none:
    solver = Solver
    child = os.fork()
    if not child:
        os._exit(7)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    time.sleep(0.2)
print("child", status, "stop", solver.stop, signal.pthread_sigmask(signal.SIG_BLOCK, []))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_of_a_process_that_is_being_forked_is_not_this_ones(tmp_path, number):
    done = programs.run("-c", EARLY, int(number), cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("child 7 stop 0 set()\n", "")


@pytest.mark.parametrize("seed, most", [(0, 2), *(pytest.param(n, 15, marks=pytest.mark.slow) for n in (1, 2, 3))])
def test_a_run_killed_at_random_moments_ends_as_the_uninterrupted_one(run, seed, most):
    folder, expected = run
    rng = random.Random(seed)
    killed = []
    for _ in range(most):
        before = newest(folder)
        process = start(folder, "solver.prototxt", *(("--snapshot", before) if before else ()), start_new_session=True)
        wait_for(process, lambda before=before: newest(folder) != before)  # some progress each time
        time.sleep(rng.random() * 0.12)
        if process.poll() is not None:
            break
        process.kill()
        process.wait(60)  # its workers, which end a little later, hold the pipes open
        process.stderr.close()
        process.stdout.close()
        killed.append(process.pid)
        check_whole(folder)
    assert len(killed) >= 2
    go_on(folder)
    assert bytes_of(folder) == expected
    assert not any(map(alive, killed))  # no worker is left behind


def forked(process):
    """Whether a process has started another, or has ended."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return process.poll() is not None or bool(children.read_text())


@pytest.mark.parametrize("first, delays", [
    (forked, (0, 0.004, 0.016)),
    pytest.param(None, [number / 10 for number in range(31)], marks=pytest.mark.slow),
    pytest.param(forked, [number / 500 for number in range(60)], marks=pytest.mark.slow),
])
def test_no_worker_outlives_a_run_killed_while_it_starts(tmp_path, first, delays):
    """Killed so many seconds after its start, or after the first of its workers'."""
    write_job(tmp_path, changed(LONG, "max_iter: 100000"), data=VOC)
    killed = []
    for delay in delays:
        process = start(tmp_path, "solver.prototxt", start_new_session=True)
        if first:
            wait_for(process, lambda process=process: first(process))
        time.sleep(delay)
        assert process.poll() is None
        process.kill()
        process.wait(60)
        process.stderr.close()
        process.stdout.close()
        killed.append(process.pid)
    assert not any(map(alive, killed))


@pytest.fixture(scope="module")
def nursery():
    """A function that runs the solve command in a folder, to be killed at a point, and gives its exit status."""
    process = subprocess.Popen([sys.executable, str(PROJECT / "tests" / "killed.py")], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, text=True, env=environment())

    def run(folder, *args, name="", when=""):
        process.stdin.write(json.dumps(dict(folder=str(folder), args=list(map(str, args)), name=name, when=when)) + "\n")
        process.stdin.flush()
        return int(process.stdout.readline())

    yield run
    process.stdin.close()
    process.wait(60)


def snapshots(folder, iteration):
    """The bytes of a snapshot's files."""
    return {path.name: path.read_bytes() for path in folder.glob(f"run/snap_iter_{iteration}.*")}


KILLED = {"model": ".caffemodel", "resume": ".resume", "state": ".solverstate"}  # in the order they are written


def write_short(folder, form, *settings):
    write_job(folder, changed(LONG, f"max_iter: 14 snapshot_format: {form}", *settings))


@pytest.fixture(scope="module")
def finished(nursery, tmp_path_factory):
    """form -> two folders of a short job: one that ran through, one where other numbers left a snapshot 8 alone."""
    @cache
    def folders(form):
        straight, other = (tmp_path_factory.mktemp(name) for name in ("straight", "other"))
        write_short(straight, form)
        write_short(other, form, "base_lr: 0.5 max_iter: 8")
        for folder in (straight, other):
            assert nursery(folder, "solver.prototxt", "--quiet") == 0
        for path in (other / "run").glob("*_iter_4.*"):
            path.unlink()
        return straight, other

    return folders


@pytest.mark.parametrize("step, when, older, form", [
    # what is HDF5 are two of the files, and before the second is after the first; a folder where another run has been asks for more
    pytest.param(step, when, older, form, marks=[pytest.mark.slow] * (
        when == "before" and step != "model" or when != "within" and not older
        or form == "HDF5" and (step == "resume" or not older or when not in ("within", "moved"))))
    for step, when, older, form in product(KILLED, ("before", "within", "named", "after", "moved"), (False, True), ("BINARYPROTO", "HDF5"))])
def test_killed_within_a_snapshot(tmp_path, nursery, finished, step, when, older, form):
    """Before, within and after the writing of each file, and when it is in its place; also where another run has left a
    snapshot of that name."""
    straight, other = finished(form)
    end = ".h5" if form == "HDF5" else ""
    folder = tmp_path / "killed"
    if older:
        shutil.copytree(other, folder)
    else:
        folder.mkdir()
    write_short(folder, form)
    name = f"_iter_8{KILLED[step]}{end if step != 'resume' else ''}"
    assert nursery(folder, "solver.prototxt", "--quiet", name=name, when=when) == -signal.SIGKILL
    state = folder / f"run/snap_iter_{8 if (step, when) == ('state', 'moved') else 4}.solverstate{end}"
    if older and when != "moved":
        assert snapshots(folder, 8) == snapshots(other, 8)
        (folder / f"run/snap_iter_8.solverstate{end}").unlink()
    assert newest(folder) == state
    assert read_state(state).learned_net.endswith(f"{state.name.replace('solverstate', 'caffemodel')}")
    assert nursery(folder, "solver.prototxt", "--quiet", "--snapshot", state) == 0
    for kind in ("caffemodel", "solverstate"):
        ours, wanted = (weights_in(place / f"run/snap_iter_14.{kind}{end}") for place in (folder, straight))
        assert ours == wanted


def weights_in(path):
    """The bytes of a file; of HDF5, which may hold times, what is in it."""
    if path.suffix != ".h5":
        return path.read_bytes()
    if "caffemodel" in path.name:
        return {layer: [b.tobytes() for b in blobs] for layer, blobs in read_weights(path).items()}
    state = read_state(path)
    return state.iteration, [np.asarray(h).tobytes() for h in state.history]


@pytest.mark.slow
def test_whatever_is_killed_at_random_moments_loses_nothing_and_leaves_nothing():
    """Of solve, infer, convert and data; for more, python tests/killed.py --count 500."""
    done = subprocess.run([sys.executable, str(PROJECT / "tests" / "killed.py"), "--count", "60"], capture_output=True, text=True,
                          env=environment(), timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
