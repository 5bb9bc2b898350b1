"""What pycaffe keeps for the whole process: the device, the seed, whether Caffe's log lines are written."""

import os
import time
import warnings
from functools import partial
from typing import Any

import torch

from ..base.errors import Error
from ..base.log import Log
from ..base.machine import choose, gpu


class _Mode:
    gpu = False
    number = 0
    seeded = False
    minimum: int | None = None  # level of the log lines that are written; None: what GLOG_minloglevel says


def device() -> torch.device:
    """Where nets and solvers that are made now run."""
    return choose(_Mode.gpu and gpu(_Mode.number) or "cpu")


def set_mode_cpu() -> None:
    """Nets and solvers that are made from now on run on the CPU."""
    _Mode.gpu = False


def set_mode_gpu() -> None:
    """Nets and solvers that are made from now on run on the GPU; without one on the CPU, with a warning."""
    _Mode.gpu = gpu() is not None
    if not _Mode.gpu:
        warnings.warn("no GPU is here; nets run on the CPU", stacklevel=2)


def set_device(number: int) -> None:
    """Which GPU set_mode_gpu means."""
    _Mode.number = int(number)


def set_random_seed(seed: int) -> None:
    """Fillers, dropout, random order of data: everything random from here on."""
    torch.manual_seed(seed)
    _Mode.seeded = True


def seeded() -> bool:
    """Whether set_random_seed was called."""
    return _Mode.seeded


class Said(Log):
    """Caffe's log lines on standard error, unless they were switched off, before or after this was made."""

    def __call__(self, where: str, text: str, level: str = "I") -> None:
        said = os.environ.get("GLOG_minloglevel") or "0"
        self.quiet = (said != "0") if _Mode.minimum is None else _Mode.minimum > 0
        super().__call__(where, text, level)


def init_log(level: int = 0, stderr: bool = True) -> None:
    """Write Caffe's log lines of this level (0: all, 1: warnings) and above, always to standard error."""
    _Mode.minimum = int(level)


def set_logging_disabled(disabled: bool = True) -> None:
    """Leave Caffe's log lines out; warnings are said in any case."""
    _Mode.minimum = int(disabled)


def log(text: str) -> None:
    """Write a text, line by line, to Caffe's log."""
    for line in text.splitlines() or [""]:
        Said()("_caffe.cpp:68", line)


class Timer:
    """A clock that `start` and `stop` run; on a GPU it waits for what was begun there."""

    def __init__(self) -> None:
        self._begin: float | None = None
        self._spent = 0.0

    def start(self) -> None:
        """Begin at 0, unless it is running."""
        self._begin = self._now() if self._begin is None else self._begin

    def stop(self) -> None:
        if self._begin is not None:
            self._spent, self._begin = self._now() - self._begin, None

    @property
    def ms(self) -> float:
        """Milliseconds between start and stop, which this calls if nobody has."""
        self.stop()
        return 1000 * self._spent

    @staticmethod
    def _now() -> float:
        if _Mode.gpu:
            torch.cuda.synchronize() if torch.cuda.is_available() else torch.mps.synchronize()
        return time.perf_counter()


# -- several GPUs, which is not done through pycaffe ---------------------------------------------------------


def has_nccl() -> bool:
    """False, as in a Caffe that was built without NCCL."""
    return False


class NCCL:
    """Only to be refused: ask has_nccl()."""

    def __init__(self, *args: Any) -> None:
        raise Error("NCCL is not used through pycaffe (has_nccl() is False); here a process has one solver")

    new_uid = classmethod(lambda cls: cls())


def _only(value: int, given: int) -> None:
    """Error unless what is given is what there is."""
    if given != value:
        NCCL()


solver_count, set_solver_count = (lambda: 1), partial(_only, 1)
solver_rank, set_solver_rank = (lambda: 0), partial(_only, 0)
set_multiprocess = partial(_only, False)
