"""Commands of this program, run for the page: each in a process of its own, so that none can take the page
along, and any can be stopped."""

import importlib
import multiprocessing
import os
import pkgutil
import re
import shlex
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from io import TextIOWrapper
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from ..base.errors import one_line
from ..base.processes import START, begin, end_with_parent, order
from ..base.trust import looking

PACKAGE = __name__.partition(".")[0]
Main = Callable[[Sequence[str]], int]
STATUS, OUT, SAID = "status", "out", "said"  # files of a command, in its folder
BROKEN = 70  # the status of a command that ended by an exception: not 1, which is an answer
TAIL = 1 << 13  # bytes of what a command said last that are looked at while it runs
MOST = 1 << 26  # bytes of what a command prints that a page takes in
ANEW, COLOURS = "\r\x1b[K", re.compile(r"\x1b\[[0-9;]*m")  # what begins a terminal's line again, and paints


class Run:
    """A command at work, or done. What it says and prints goes to files in `folder`."""

    def __init__(self, argv: Sequence[str], folder: Path, gone: Callable[[], bool],
                 stop: Callable[[], object]) -> None:
        """gone: whether the process that would write its status has ended; stop: have it stopped."""
        self.argv, self.folder, self.stopped = list(argv), folder, False
        self._gone, self._stop = gone, stop

    def stop(self) -> None:
        """End it, if it runs."""
        if self.status is None:
            self.stopped = True
            self._stop()

    @property
    def status(self) -> int | None:
        """The exit status, -N of what signal N ended; None while it runs."""
        # asked first: what ends meanwhile has its status written, where there is still a place for it
        gone = self._gone() or not self.folder.exists()
        with suppress(FileNotFoundError):
            return int((self.folder / STATUS).read_text())
        return -signal.SIGTERM if gone else None

    @property
    def progress(self) -> str:
        """The line that a person at a terminal would see last."""
        return _as_seen(self._read(SAID, TAIL).rstrip()).split("\n")[-1].strip()

    @property
    def said(self) -> str:
        """What it said besides its output: remarks, and why it failed."""
        return _as_seen(self._read(SAID, MOST)).strip()

    @property
    def output(self) -> str:
        """What it printed, as it is."""
        return self._read(OUT, MOST)

    def trouble(self) -> str | None:
        """Why it failed, in a sentence: its own, without who says it; None of what did not (status 0, 1)."""
        status = self.status
        if status in (0, 1, None):
            return None
        if self.stopped:
            return "stopped"
        if status < 0:
            return (f"the command was ended by {signal.Signals(-status).name}: it ran out of memory, or "
                    "broke; the page goes on")
        lines = self.said.split("\n")
        if status == BROKEN:
            return f"the command broke ({lines[-1]}), which is a mistake of netspec's; the page goes on"
        return re.sub(r"^netspec( [\w-]+)?: ", "", lines[-1]) or f"the command ended with status {status}"

    def _read(self, name: str, most: int) -> str:
        with suppress(FileNotFoundError), open(self.folder / name, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - most))
            return file.read(most).decode("utf-8", "replace")
        return ""


class Commands:
    """Runs commands by `main`, which takes their words and gives their exit status.

    A process that has everything imported is kept, from which they are forked; where systems do not fork,
    each begins anew. With `trusted` the modules of nets' Python layers may be imported.
    """

    def __init__(self, main: Main, trusted: bool = False) -> None:
        self.main, self.trusted, self.lock = main, trusted, threading.Lock()
        self._begin()

    def _begin(self) -> None:
        spawn = multiprocessing.get_context("spawn")
        self.line, its = spawn.Pipe()
        self.process: BaseProcess = spawn.Process(target=begin, args=(its,))
        self.process.start()
        its.close()
        order(self.line, _kept, self.main, self.trusted)

    def start(self, argv: Sequence[str], folder: Path) -> Run:
        """Run the command `netspec ARGV`. folder: an empty one, for what it says and prints."""
        with self.lock:
            if not self.process.is_alive():
                self._begin()
            process = self.process
            self._send(str(folder), list(argv))
        return Run(argv, folder, lambda: not process.is_alive(), lambda: self._stop(str(folder)))

    def _stop(self, folder: str) -> None:
        with self.lock:
            self._send(folder, None)

    def _send(self, folder: str, argv: list[str] | None) -> None:
        with suppress(OSError):  # it died since, which Run.status says
            self.line.send((folder, argv))

    def close(self) -> None:
        """End all that runs."""
        with self.lock:
            self.line.close()
            self.process.join(10)
            self.process.kill()
            self.process.join()


def words(argv: Sequence[str], within: Path) -> str:
    """A command as a person types it, what lies within a temporary folder by its last name alone."""
    plain = [Path(word).name if Path(word).is_relative_to(within) else word for word in argv]
    return one_line(shlex.join(["netspec", *plain]))


def _as_seen(text: str) -> str:
    """What a terminal shows in the end of what was written to it."""
    return COLOURS.sub("", "\n".join(line.rpartition(ANEW)[2] for line in text.split("\n")))


class _Terminal(TextIOWrapper):
    """A file that gets what a terminal would, bars of progress too."""

    def isatty(self) -> bool:
        return True


def _kept(main: Main, trusted: bool, line: Connection) -> None:
    """The process that commands come from: it is asked for (folder, words), or to stop those of a folder,
    and ends with the line."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # which a terminal sends to all
    if START == "fork":
        _import()
    context = multiprocessing.get_context("fork") if START == "fork" else multiprocessing.get_context("spawn")
    at_work = dict[str, BaseProcess]()
    while True:
        if line in wait([line, *(process.sentinel for process in at_work.values())]):
            try:
                folder, argv = line.recv()
            except (EOFError, OSError):
                break
            if argv is not None:
                at_work[folder] = context.Process(target=_command, args=(main, trusted, folder, argv))
                at_work[folder].start()
            elif folder in at_work:
                _end(at_work[folder])
        for folder, process in list(at_work.items()):
            if not process.is_alive():
                process.join()
                _note(Path(folder), process.exitcode or 0)
                del at_work[folder]
    for process in at_work.values():
        _end(process)


def _end(process: BaseProcess) -> None:
    """Stop a command, with what it started: all that it writes is in folders that go."""
    assert process.pid is not None
    with suppress(OSError):
        os.killpg(process.pid, signal.SIGTERM)
    process.join(1)
    with suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()


def _note(folder: Path, status: int) -> None:
    with suppress(OSError):  # the folder is gone, with who asked
        (folder / f"{STATUS}.part").write_text(str(status))
        os.replace(folder / f"{STATUS}.part", folder / STATUS)


def _import() -> None:
    """All that commands may need, but for extras."""
    for module in pkgutil.walk_packages([str(Path(__file__).parents[1])], f"{PACKAGE}."):
        if not module.name.startswith(tuple(f"{PACKAGE}.{part}" for part in ("shipped", "__main__", "web"))):
            importlib.import_module(module.name)
    for extra in ("matplotlib.figure", "matplotlib.backends.backend_agg", "h5py"):
        with suppress(ImportError):
            importlib.import_module(extra)


def _command(main: Main, trusted: bool, folder: str, argv: list[str]) -> None:
    """The process of a command."""
    end_with_parent()
    if hasattr(os, "setsid"):
        os.setsid()
    out, said = (open(Path(folder, name), "wb", buffering=0) for name in (OUT, SAID))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(out.fileno(), 1)
    os.dup2(said.fileno(), 2)
    sys.stdout = TextIOWrapper(open(1, "wb", closefd=False), "utf-8", write_through=False)
    sys.stderr = _Terminal(open(2, "wb", buffering=0, closefd=False), "utf-8", write_through=True)
    status = BROKEN
    try:
        with looking(trusted):
            status = main(argv)
        sys.stdout.flush()
    except Exception:  # which a shell would show too
        traceback.print_exc()
    sys.exit(status)
