"""Processes that work for this one: how they start, and that none outlives it."""

import faulthandler
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable

START = "fork" if sys.platform == "linux" else "spawn"  # macOS can fork, but not safely
BEAT = 0.5  # seconds between two looks at the parent


def ended_by(work: Callable[[], object]) -> str:
    """The name of the signal that ends a process which does this work, before this one does; "" if none does,
    whatever the work raises, or where processes are not forked."""
    if START != "fork":
        return ""
    child = os.fork()
    if not child:
        faulthandler.disable()  # who waits for the child says it
        try:
            work()
        finally:
            os._exit(0)
    status = os.waitpid(child, 0)[1]
    return signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else ""


def end_with_parent() -> None:
    """In a process that multiprocessing forked or spawned: have it end when the one that started it does.

    However that one ends (of SIGKILL it tells nobody), and if it did before this is called: this process
    ends within BEAT seconds, whatever it is doing, with exit status 1. Programs run by subprocess, which
    know nothing of this, end with their work.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None, "this process was started by no other"
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


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
