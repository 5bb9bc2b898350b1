"""Attempts with full disks, disks that cannot be written, workers that die or stop, and whole commands."""

import ctypes
import os
import random
import resource
import signal
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path

from training import SOLVER, VOC, write_job, write_voc

from .binaries import state, states
from .described import described
from .drawing import Area
from .nets import GOLDEN, param_str, prototxt, solver
from .pictures import array, deploy, image, pictures
from .runner import UNKNOWN, door, left, listing, netspec

READ_ONLY, BIND, REMOUNT, PRIVATE, NEW_NAMESPACE = 1, 4096, 32, 1 << 18, 0x20000  # of mount(2) and unshare(2)
PLACES = ("file", "output", "full", "read-only")


def _mount(*words: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    source, target, kind, flags, more = words
    if libc.mount(source and str(source).encode(), str(target).encode(), kind and str(kind).encode(), flags, more and str(more).encode()):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _private() -> None:
    """From here on this process's mounts are its own, and go with it."""
    if ctypes.CDLL(None, use_errno=True).unshare(NEW_NAMESPACE):
        raise OSError(ctypes.get_errno(), "unshare")
    _mount(None, "/", None, PRIVATE | 16384, None)


@door
def disk(kind: str, room: int, *argv: str) -> int:
    """A command where files may have `room` bytes, its output is full, or its folder is full or cannot be written.

    The last two need root; without, or where mounts are forbidden, files may have `room` bytes.
    """
    before = listing(Path())
    if kind == "output":
        os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
        return netspec(*argv)
    try:
        if kind in ("full", "read-only"):
            here = os.getcwd()
            _private()
            if kind == "full":
                os.mkdir("../home/all")
                os.system("cp -r . ../home/all")
                _mount("tmpfs", here, "tmpfs", 0, f"size={room + (64 << 10) + sum(p.stat().st_size + 4096 for p in Path().rglob('*'))}")
                os.chdir(here)
                os.system("cp -r ../home/all/. .")
            else:
                _mount(here, here, None, BIND, None)
                _mount(here, here, None, BIND | REMOUNT | READ_ONLY, None)
                os.chdir(here)
    except OSError:
        kind = "file"
    most = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    if kind == "file":
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, most))
    try:
        return netspec(*argv)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        if what := left(Path(), before):  # in a mount of its own nobody else sees it
            print(f"Traceback (most recent call last): {what}", file=sys.stderr)


def writes(numbers: random.Random, folder: Path) -> list:
    """A command that writes files, and what it needs."""
    kind = numbers.randrange(12)
    if kind < 4:
        write_job(folder, solver=SOLVER.replace("max_iter: 12", "max_iter: 3").replace("snapshot: 3", "snapshot: 1")
                  + numbers.choice(("", "", " snapshot_format: HDF5", ' type: "Adam" momentum2: 0.9')))
        return ["solve", "solver.prototxt", *numbers.choice(([], [], ["--log", "a.log"], ["--quiet"]))]
    if kind == 4:
        (folder / "net.prototxt").write_text(numbers.choice(sorted(GOLDEN.glob("layers/*.prototxt"))).read_text())
        return ["draw", "net.prototxt", "--out", f"out.{numbers.choice(('svg', 'png', 'pdf'))}"]
    if kind < 7:
        deploy(folder)
        (folder / "a.png").write_bytes(pictures()["PNG RGB"])
        (folder / "b.png").write_bytes(pictures()["PNG L"])
        return ["infer", "deploy.prototxt", "w.caffemodel", "a.png", "b.png", "--mean", "1,2,3", "--out", "out",
                *numbers.choice(([], ["--scores"], ["--json"], ["--cutout", "1"]))]
    if kind < 10:
        deploy(folder)
        (folder / "w.caffemodel.h5").write_bytes(states()["weights.h5"])
        return ["convert", *numbers.choice((["upgrade", "deploy.prototxt", "new.prototxt"], ["upgrade", "w.caffemodel", "new.caffemodel"],
                                            ["transplant", "deploy.prototxt", "new.caffemodel", "w.caffemodel"],
                                            ["transplant", "deploy.prototxt", "new.caffemodel.h5", "w.caffemodel"],
                                            ["torch", "deploy.prototxt", "w.caffemodel", "new.py"], ["onnx", "deploy.prototxt", "w.caffemodel", "new.onnx"]))]
    if kind == 10:
        write_voc(folder, 2)
        return ["data", "check", "images", "--dataset", "voc", "--jobs", "1", *numbers.choice((["--sheet", "new.png"], ["--balance", "new.binaryproto"]))]
    (folder / "train.log").write_bytes((GOLDEN / "log/train.log").read_bytes())
    return numbers.choice((["curves", "train.log", "--out", "new.svg"], ["curves", "train.log"], ["report", "train.log", "--out", "new.html"]))


def full(numbers: random.Random, folder: Path) -> list:
    argv = writes(numbers, folder)
    return ["disk", numbers.choice(PLACES), numbers.choice((0, 1, 100, 1000, 4096, numbers.randrange(60_000))), *argv]


@door
def struck(seconds: float, number: int, whom: str, *argv: str) -> int:
    """A command whose worker, or which itself, gets a signal after a while; one that is stopped goes on later.

    After one that ended by a signal the same command is done as if nothing had been, and leaves nothing of the first.
    """
    main = _begun(*argv)
    time.sleep(seconds)
    workers = [int(pid) for path in Path(f"/proc/{main}/task").glob("*/children") for pid in path.read_text().split()]
    for pid in (workers[:1] if whom == "worker" else workers if whom == "workers" else [main]):
        with suppress(ProcessLookupError):
            os.kill(pid, number)
            if number == signal.SIGSTOP:
                time.sleep(0.2)
                os.kill(pid, signal.SIGCONT)
    status = os.waitstatus_to_exitcode(os.waitpid(main, 0)[1])
    if whom == "main" and status in (-number, 128 + number):
        return os.waitstatus_to_exitcode(os.waitpid(_begun(*argv), 0)[1])
    return status


def _begun(*argv: str) -> int:
    """The number of a new process, which runs a command."""
    child = os.fork()
    if not child:
        status = UNKNOWN
        try:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            status = netspec(*argv)
            sys.stdout.flush()
        except BaseException:
            os.write(2, traceback.format_exc().encode("utf-8", "replace"))
        finally:
            os._exit(status)
    return child


SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP, signal.SIGABRT, signal.SIGINT)


def workers(numbers: random.Random, folder: Path) -> list:
    seconds = round(0.01 + 0.4 * numbers.random() ** 2, 3)
    whom = numbers.choice(("worker", "worker", "workers", "main"))
    number = int(numbers.choice(SIGNALS[:3] if whom == "main" else SIGNALS))
    if numbers.random() < 0.2:
        write_voc(folder, 4)
        return ["struck", seconds, number, whom, "data", "check", "images", "--dataset", "voc", "--jobs", "2"]
    write_job(folder, solver=SOLVER, data=VOC)
    return ["struck", seconds, number, whom, "solve", "solver.prototxt"]


WHOLE = (prototxt, prototxt, solver, param_str, described, image, array, state)


def commands(numbers: random.Random, folder: Path) -> list:
    """What another area gives a command, for a Python of its own."""
    for _ in range(50):
        for path in sorted(folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        call = numbers.choice(WHOLE)(numbers, folder)
        if call[0] == "netspec":
            return ["command", *call[1:]]
    raise AssertionError("no command in 50 attempts")


AREAS = {"disks": Area(full, 3_000), "workers": Area(workers, 3_000), "commands": Area(commands, 2_000)}
