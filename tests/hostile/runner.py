"""One attempt: a call in a forked child with capped memory, time and files, and what is wrong with how it ended.

An attempt is a folder and a call, a list of plain values: the name of a door and its arguments. The child's current
folder is work/ in that folder; what stands beside work/ must be as it was. home/ is the person's own.
"""

import faulthandler
import hashlib
import os
import re
import resource
import select
import signal
import stat
import sys
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

from . import whole

MEMORY = 2 << 30  # bytes of address space beyond what the parent has
SECONDS, PATIENCE = 60, 240  # of the processor, and by the clock
LONG, SLOW = 10, "slow: "  # seconds of the processor beyond which an attempt that ends as it may is told, beginning so
OUTLIVING = 3  # seconds that what a child started has to end after it
FILE = 64 << 20  # bytes
UNKNOWN = 70  # exit status of a child that met an exception which is not the project's
LINES, LENGTH = 4, 4000  # of what is said when input is refused

DOORS: dict[str, Any] = {}  # name -> a function that is called in a child and returns an exit status, or None
WRITTEN = re.compile(r"run/snap|got/|.*\.log$")  # what a second run may write over, or add to
RAW = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
SAID = re.compile(rb"Traceback \(most recent|Exception ignored|\w*Warning: |HDF5-DIAG|terminate called|Fatal Python")
REMARK = re.compile(rb"(note|usage|weights of|netspec \S+: importing)\b|\s|[IWE]\d{4} ")


def door(function: Any) -> Any:
    """Make a function callable as an attempt, by its name."""
    DOORS[function.__name__] = function
    return function


@door
def netspec(*argv: str) -> int:
    """A command, in this process."""
    from netspec.cli.main import main

    return main(argv)


@door
def command(*argv: str) -> int:
    """A whole command: a Python of its own."""
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)
    os.execv(sys.executable, [sys.executable, "-m", "netspec", *argv])


def tried(folder: Path, call: list) -> str:
    """What is wrong with how an attempt ends; "" if nothing is. What it said is in the files out and err."""
    work = folder / "work"
    (folder / "home").mkdir(exist_ok=True)
    (folder / "beside").write_text("left alone")
    before, around = listing(work), listing(folder, deep=False)
    child = os.fork()
    if not child:
        _child(folder, call)
    fault, status, spent = _awaited(child)
    out, err = ((folder / name).read_bytes() for name in ("out", "err"))
    return (fault or how_ended(status, out, err) or left(work, before)
            or ("something beside its folder is changed" if listing(folder, deep=False) != around else "")
            or (f"{SLOW}{spent:.0f} s of the processor" if spent > LONG else ""))


def how_ended(status: int, out: bytes, err: bytes) -> str:
    """What is wrong with an exit status and what was said."""
    if status < 0:
        return f"ended by {signal.Signals(-status).name}"
    if SAID.search(err) or status == UNKNOWN:
        return _named(err)
    for name, text in (("output", out), ("standard error", err)):
        if found := RAW.search(text.decode("utf-8", "replace")):
            return f"raw control character {found[0]!r} on {name}"
    if status not in (0, 1, 2, 141):
        return f"exit status {status}"
    lines = [line for line in err.splitlines() if line.strip() and not REMARK.match(line)]
    if status == 2 and not 0 < len(lines) <= LINES:
        return f"{len(lines)} lines for one error"
    if len(err) > LENGTH * (status == 2) > 0:
        return f"an error of {len(err)} bytes"
    return ""


def _named(err: bytes) -> str:
    """What was raised and where, for a traceback."""
    text = err.decode("utf-8", "replace")
    places = re.findall(r'File "[^"]*?(netspec/[^"]*\.py)", line (\d+)', text) or [("", "")]
    lines = [line for line in text.splitlines() if re.match(r"[\w.]+(:|$)", line) or SAID.search(line.encode())]
    return f"{(lines or ['?'])[-1][:100]} at {':'.join(places[-1])}"


def _child(folder: Path, call: list) -> None:
    status = UNKNOWN
    try:
        os.setsid()
        faulthandler.disable()  # the status says it
        os.chdir(folder / "work")
        os.environ.update(HOME=str(folder / "home"), NETSPEC_WEIGHTS=str(folder / "home/weights"))
        for number, name in enumerate((os.devnull, folder / "out", folder / "err")):
            os.dup2(os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666), number)
        _capped()
        status = _called(*call)
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        os.write(2, traceback.format_exc().encode("utf-8", "replace"))
    finally:
        os._exit(status)


def _called(name: str, *args: Any) -> int:
    from netspec.base.errors import Error
    from netspec.cli.main import refuse

    sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    sys.argv = ["netspec", *map(str, args)]
    if name not in ("netspec", "disk", "struck"):  # commands say them in their way
        warnings.simplefilter("ignore")
    try:
        return DOORS[name](*args) or 0
    except Error as error:
        return refuse(name, str(error))
    except SystemExit as end:  # of argparse
        return end.code if isinstance(end.code, int) else 0


def _capped() -> None:
    import torch

    torch.set_num_threads(1)
    os.fsync = lambda file: None
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    for what, most in ((resource.RLIMIT_AS, size + MEMORY), (resource.RLIMIT_FSIZE, FILE), (resource.RLIMIT_CORE, 0),
                       (resource.RLIMIT_CPU, SECONDS)):
        resource.setrlimit(what, (most, most))


def _awaited(child: int) -> tuple[str, int, float]:
    """What is wrong with how long a child took, or with what it left running; its exit status, and the seconds of the processor."""
    handle = os.pidfd_open(child)
    over = select.select([handle], [], [], PATIENCE)[0]
    os.close(handle)
    if not over:
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return f"not over after {PATIENCE} s", 0, 0
    _, status, used = os.wait4(child, 0)
    status, spent = os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime
    if status in (-signal.SIGXCPU, -signal.SIGKILL):
        return f"over {SECONDS} s of the processor", status, spent
    return ("a process outlives it" if _outlived(child) else ""), status, spent


def _outlived(group: int) -> bool:
    """Whether a process of a group lives on, after a moment to end; then it is ended."""
    end = time.monotonic() + OUTLIVING
    while time.monotonic() < end:
        states = [text.rpartition(") ")[2].split() for path in _processes(group) if (text := _text(path))]
        if not [found for found in states if found[2] == str(group) and found[0] != "Z"]:
            return False
        time.sleep(0.05)
    os.killpg(group, signal.SIGKILL)
    return True


def _processes(group: int) -> list[Path]:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return []
    return list(Path("/proc").glob("[0-9]*/stat"))


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def listing(folder: Path, deep: bool = True) -> dict[str, str]:
    """What is in a folder: names from there -> kind, and the sum of what a file holds."""
    found = {}
    for path in sorted(folder.rglob("*") if deep else folder.iterdir()):
        mode = path.lstat().st_mode
        name = str(path.relative_to(folder))
        if deep or name not in ("work", "home", "out", "err"):
            found[name] = hashlib.sha1(path.read_bytes()).hexdigest() if stat.S_ISREG(mode) else str(stat.S_IFMT(mode))
    return found


def left(work: Path, before: dict[str, str]) -> str:
    """What is wrong with the files that an attempt leaves in its current folder."""
    after = listing(work)
    if changed := [name for name, what in before.items() if after.get(name) != what and not WRITTEN.match(name)]:
        return f"changes {changed[0]}, which was there"
    new = [name for name, what in after.items() if before.get(name) != what]
    if strays := [name for name in new if re.search(r"(^|/)\.|\.part\b|\.tmp\b|\.bad$", name)]:
        return f"leaves {re.sub('[0-9]+', 'N', strays[0])}"
    return next(filter(None, (whole.wrong(work / name) for name in new if not name.startswith("unpacked/"))), "")
