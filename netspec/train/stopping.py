"""Signals while a solver runs: the first stop asks for the end of the step, the second ends it all."""

import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ..base.files import drop_unfinished
from .solver import Solver

STOPS: dict[int, str] = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}
HUNG_UP = getattr(signal, "SIGHUP", -1)  # Windows has none
EFFECTS: Mapping[int, str] = {**dict.fromkeys(STOPS, "stop"), HUNG_UP: "snapshot"}
_told: list[socket.socket] = []  # where signals are told to, while a solver runs


@contextmanager
def stopping(solver: Solver, effects: Mapping[int, str] = EFFECTS) -> Iterator[None]:
    """Within, Ctrl-C and SIGTERM ask the solver to stop, SIGHUP for a snapshot; a second stop ends it all.

    effects: what else signals do, Caffe's words: stop, snapshot or none.

    A thread hears of stops: Python itself would only when torch comes back from a backward pass. The process
    then ends with 128 + the signal's number, without its workers and files half written.
    """
    def hear() -> None:
        while number := ear.recv(1):
            if effects.get(number[0]) == "stop":
                _stop(solver, number[0])

    def caught(number: int, frame: Any) -> None:
        if effects[number] == "snapshot":
            solver.snapshot_asked = True

    # a signal is only told where Python has a handler for it
    ear, mouth = socket.socketpair()
    mouth.setblocking(False)
    _told.append(mouth)
    heard = signal.set_wakeup_fd(mouth.fileno(), warn_on_full_buffer=False)
    before = {number: signal.signal(number, caught) for number in effects if number > 0}
    thread = threading.Thread(target=hear, daemon=True)
    thread.start()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(heard)
        _told.remove(mouth)
        mouth.shutdown(socket.SHUT_RDWR)  # closing is not enough: processes that read data have it too
        thread.join()
        mouth.close()
        ear.close()


def _stop(solver: Solver, number: int) -> None:
    """What the first stop does, and any other."""
    name = STOPS.get(number, "SIGHUP")
    last = f"the last one is {solver.last_snapshot.state}" if solver.last_snapshot else "there is none yet"
    if not solver.stop:
        solver.stop = number
        solver.log("netspec", f"{name}: this step is being finished, then a snapshot is written; a "
                   f"second {name} stops at once, without a snapshot ({last})", "W")
        return
    try:
        solver.log("netspec", f"second {name}: stopped at once, without a snapshot; {last}", "W")
        solver.log.close()
        for process in multiprocessing.active_children():
            process.kill()
        drop_unfinished()
    finally:
        os._exit(128 + number)


_before = threading.local()  # `mask`: the signals that were held back before a process is forked


def _hold() -> None:
    """A signal that a forked process gets in its first moment would be told to this one as its own."""
    _before.mask = signal.pthread_sigmask(signal.SIG_BLOCK, [*STOPS, signal.SIGHUP]) if _told else None


def _release() -> None:
    if _before.mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, _before.mask)


def _unheard() -> None:
    if _told:  # a process that is forked here, to read data, gets signals of its own
        signal.set_wakeup_fd(-1)
    _release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_hold, after_in_parent=_release, after_in_child=_unheard)
