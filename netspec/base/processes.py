"""Processes that work for this one: how they start, and that none outlives it."""

import faulthandler
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

from .asked import handed_on
from .errors import Error

START = "fork" if sys.platform == "linux" else "spawn"  # macOS can fork, but not safely
BEAT = 0.5  # seconds between two looks at the parent
SECONDS = 100  # of processor time, after which what is tried counts as endless
MOST_WORDS = 1 << 14  # bytes of a sentence, fewer than a pipe holds
SAID = 1  # the exit status of a trial that an Error ended

ready = list["partial[Any]"]()  # what a spawned process does first: it has nothing of what this one did

_trying = False  # in a process that `tried` started


def tried(work: Callable[[], object], what: str) -> None:
    """Does work in a process of its own, before this one does it: libraries may end it over damaged files.

    Raises the Error that the work raises there, and Error, beginning with `what`, where a signal ends it, as
    one does when it takes longer than `within` says. Whatever else it raises, this process will. Nothing is
    tried where processes are not forked. In a forked one torch has no threads: what computes would wait.
    """
    if START != "fork":
        return
    end, begin = os.pipe()
    child = os.fork()
    if not child:
        status = 0
        try:
            status = _try(work, begin)
        finally:  # else there would be two of the caller
            os._exit(status)
    try:
        status = os.waitpid(child, 0)[1]
        said = os.read(end, MOST_WORDS) if os.waitstatus_to_exitcode(status) == SAID else b""
    except BaseException:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
    finally:
        os.close(begin)
        os.close(end)
    if os.WIFSIGNALED(status):
        raise Error(f"{what} is damaged, reading it ends the process "
                    f"({signal.Signals(os.WTERMSIG(status)).name}); get it again, or make it anew")
    if said:
        raise Error(said.decode("utf-8", "replace"))


def _try(work: Callable[[], object], begin: int) -> int:
    """The work of the process that tries, and its exit status; what an Error says goes into a pipe."""
    global _trying
    _trying = True
    faulthandler.disable()  # who waits for this process says it
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # where the C library says why it aborts
    try:
        within()
        work()
    except Error as error:
        os.write(begin, str(error).encode()[:MOST_WORDS])
        return SAID
    except BaseException:  # as it will be where this is not tried
        pass
    return 0


def within(room: int | None = None) -> None:
    """In a process that tries: from here on it gets SECONDS of processor time, and so many bytes to take."""
    if _trying:
        import resource

        _limit(resource.RLIMIT_CPU, int(time.process_time()) + SECONDS)
        if room is not None:
            with open("/proc/self/statm", "rb") as file:
                _limit(resource.RLIMIT_AS, int(file.read().split()[0]) * resource.getpagesize() + room)


def _limit(what: int, most: int) -> None:
    """Let this process have no more of something, whose limit the system may have set lower already."""
    import resource

    hard = resource.getrlimit(what)[1]
    resource.setrlimit(what, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def end_with_parent() -> None:
    """In a process that multiprocessing forked or spawned: have it end when the one that started it does.

    However that one ends (of SIGKILL it tells nobody), and if it did before this is called: this process
    ends within BEAT seconds, whatever it is doing, with exit status 1. Programs run by subprocess, which
    know nothing of this, end with their work.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None, "this process was started by no other"
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def begin(line: Connection) -> None:
    """The first work of a spawned process: it ends with its parent from here on, before anything large is
    imported for what it is to do, which `line` gives (see `order`)."""
    end_with_parent()
    with suppress(EOFError):  # of a parent that is dead already
        for each in line.recv():
            each()
        work, given = line.recv()
        work(*given, line)


def order(line: Connection, work: Callable[..., object], *given: object) -> None:
    """Have the spawned process at the other end of `line` do work, called with `given` and its end."""
    line.send([*ready, handed_on()])
    line.send((work, given))


def again() -> list[str]:
    """What a command of this program is given to know the layer types that this process knows."""
    return [word for each in ready for word in ("--ops", *each.args)]


def _watch(parent: multiprocessing.process.BaseProcess) -> None:
    # The number of the parent is what that one took for its own, before it started this process. Asked for
    # here, as torch asks in a DataLoader's workers, it is that of init already where the parent died
    # meanwhile, and then nothing changes any more. It is compared, since the other ways have holes: the end
    # of the pipe that multiprocessing keeps to the parent (its sentinel) is inherited by whatever else the
    # parent forks, and Linux's signal for the death of a parent comes when the thread that forked ends.
    # Only a fork server, which nothing here uses, would make another process the parent in the system's eyes.
    while os.getppid() == parent.pid if sys.platform != "win32" else parent.is_alive():
        time.sleep(BEAT)
    os._exit(1)
