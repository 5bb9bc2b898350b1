"""This machine: the device that a net runs on, the precision there, cores, memory, versions."""

from __future__ import annotations

import math
import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import MutableMapping
from contextlib import suppress
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from . import __version__
from .errors import Error, TooLarge, count

if TYPE_CHECKING:  # torch takes a second to import: the functions that need it do
    import torch

    from ..proto.caffe_pb2 import SolverParameter

PRECISIONS = ("fp32", "tf32", "bf16")
TRIED = 4  # of cuDNN's ways to do a convolution, for each new size; torch's own bound is 10, its default none
WAITING = {"GOMP_SPINCOUNT": "10000", "KMP_BLOCKTIME": "1"}  # turns of GNU's OpenMP; ms of LLVM's and Intel's
SMALL = 1 << 26  # bytes that every machine has: asking takes the time of reading files
PACKAGE = Path(__file__).resolve().parents[1]
# the folder of models/, solvers/ and data/: in an installed package, or the checkout
PROJECT = shipped if (shipped := PACKAGE / "shipped").is_dir() else PACKAGE.parent
# where programs write models/ and solvers/: the checkout, or the current folder, never an installed package
HOME = PROJECT if PROJECT == PACKAGE.parent else Path()


def gpu(number: int = 0) -> str | None:
    """The name of the GPU of this number that torch can use, cuda:N or Apple's mps; None without any."""
    import torch

    if torch.cuda.is_available():
        return f"cuda:{number}"
    return "mps" if torch.backends.mps.is_available() else None


def choose(name: str | None = None, precision: str = "fp32") -> torch.device:
    """The device of this name: cpu, cuda, cuda:N or mps; None: a GPU if there is one.

    Allows or forbids TF32 for the whole process, as the precision says. Raises Error for a device that is not
    here and for an unknown precision.
    """
    import torch

    if precision not in PRECISIONS:
        raise Error(f"precision '{precision}' is not known; choose one of {', '.join(PRECISIONS)}")
    name = name or ("cuda" if torch.cuda.is_available() else gpu() or "cpu")
    try:
        found = torch.device(name)
    except RuntimeError:
        found = None
    if found is None or found.type not in ("cpu", "cuda", "mps"):
        raise Error(f"device '{name}' is not known; use cpu, cuda, cuda:N or mps")
    if found.type == "mps" and not torch.backends.mps.is_available():
        raise Error(f"device '{name}' is not here (it is Apple's GPU, with a torch built for it); use "
                    "--device cpu")
    if found.type == "cuda":
        here = torch.cuda.device_count()
        if not torch.cuda.is_available() or (found.index or 0) >= here:
            raise Error(f"device '{name}' is not here ({count(here, 'CUDA device')} found); use --device cpu")
        torch.backends.cudnn.benchmark, torch.backends.cudnn.benchmark_limit = True, TRIED
        settle(found, precision)
    return found


def settle(device: torch.device, precision: str) -> None:
    """Allow or forbid TF32 for the whole process, as a precision says: on a CUDA device alone."""
    import torch

    if device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = precision != "fp32"


def compiler(device: torch.device) -> None:
    """Raise Error where torch.compile has no compiler for a device: C++ for a CPU, Triton for a GPU."""
    if device.type == "cpu":
        names = (os.environ.get("CXX"), "g++", "clang++", "c++")
        here, what = any(name and shutil.which(name) for name in names), "a C++ compiler (g++ or clang++)"
    else:
        here, what = device.type == "cuda" and find_spec("triton") is not None, "a CUDA device and Triton"
    if not here:
        raise Error(f"--compile needs {what}, which is not here; install it, or train without --compile")


def asked(param: SolverParameter) -> str:
    """The device that solver_mode asks for: GPU is Caffe's default, so where there is none it is the CPU."""
    return param.solver_mode == param.GPU and gpu(param.device_id) or "cpu"


def origin(device: str | torch.device = "cpu") -> dict[str, str]:
    """What a figure needs to be believed: command, date, version and commit, libraries, device, system."""
    import torch

    return {
        "command": shlex.join(sys.argv),
        "date": datetime.now().astimezone().isoformat(" ", "seconds"),
        "netspec": f"{__version__}{commit()}",
        "python": f"{platform.python_version()}, torch {torch.__version__}",
        "device": device_name(device),
        "system": platform.platform(),
    }


def commit() -> str:
    """', commit abc1234' of the checkout that this package lies in, maybe 'and changes'; '' elsewhere."""
    def git(*words: str) -> str:
        command = ["git", "--no-optional-locks", "-C", str(PROJECT), *words]  # which may be killed
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != PROJECT:
            return ""
        changes = " and changes" if git("status", "--porcelain", "--untracked-files=no") else ""
        return f", commit {git('rev-parse', '--short', 'HEAD')}{changes}"
    except (OSError, subprocess.CalledProcessError):
        return ""


def device_name(device: str | torch.device) -> str:
    """The GPU's name, or the CPU's with its cores and threads."""
    import torch

    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    if torch.device(device).type == "mps":
        return f"mps, the GPU of {platform.processor() or platform.machine()}"
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    used = count(cores(), "core"), count(torch.get_num_threads(), "thread")
    return ", ".join([next(models, platform.machine()), *used])


def cores() -> int:
    """The processor cores that this process may use, by its affinity and its container's share."""
    mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(mine, share() or mine)


def share(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """How many cores' time Linux gives this process's container, at least 1; None without a limit."""
    old = root / "cpu" / "cpu.cfs_quota_us", root / "cpu" / "cpu.cfs_period_us"
    for files in ((root / "cpu.max",), old):
        try:
            quota, period = " ".join(file.read_text() for file in files).split()
            return max(1, int(quota) // int(period)) if int(quota) > 0 else None
        except (OSError, ValueError):  # not there, or "max": no limit
            continue
    return None


def prepare_torch(environ: MutableMapping[str, str] = os.environ, loaded: bool | None = None) -> None:
    """Choose how torch's threads wait for each other, before torch loads; what the user chose stays.

    Left alone they spin for milliseconds: where other programs want the cores, a step takes several times as
    long. They still spin for a fraction of one, for sleep in every gap costs more than a third of the speed
    on a quiet machine (`netspec time wait` measures both). No result depends on it. The number of threads is
    torch's own, one a physical core, but in a container no more than its share; never by the load, which
    would change sums. Processes that load data take too little of a core to get one. loaded: whether torch
    is loaded already (None: look), after which nothing is changed.
    """
    if "torch" in sys.modules if loaded is None else loaded:
        return
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"} & environ.keys():
        environ.update(WAITING)
    if sys.platform == "darwin":  # an operation that Apple's GPU lacks runs on the CPU
        environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")
    if share() and not {"OMP_NUM_THREADS", "MKL_NUM_THREADS"} & environ.keys():
        environ["OMP_NUM_THREADS"] = str(cores())


def allowed(root: Path = Path("/sys/fs/cgroup"), mine: Path = Path("/proc/self/cgroup")) -> float:
    """The bytes of memory that Linux allows this process's control group and those around it, of which a
    container is one; infinite without a limit."""
    groups, limits = [Path()], [math.inf]
    with suppress(OSError):
        groups += [Path(line.split(":", 2)[2].lstrip("/")) for line in mine.read_text().splitlines()]
    for group in {each for one in groups for each in (one, *one.parents)}:
        for file in (root / group / "memory.max", root / "memory" / group / "memory.limit_in_bytes"):
            with suppress(OSError, ValueError):  # not there, or "max": no limit
                limits.append(int(file.read_text()))
    return min(limits)


def room(device: torch.device) -> float:
    """The bytes of memory that a device has in all, and this process may use; infinite where nothing says."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    if device.type == "mps":
        return torch.mps.recommended_max_memory()
    if device.type != "cpu" or not hasattr(os, "sysconf"):  # meta has no numbers; Windows
        return math.inf
    from resource import RLIM_INFINITY, RLIMIT_AS, getrlimit

    limit, _ = getrlimit(RLIMIT_AS)
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(there, allowed(), math.inf if limit == RLIM_INFINITY else limit)


def check_room(needed: float, device: torch.device, what: str, cure: str) -> None:
    """TooLarge, "WHAT 8.6 GB and cpu has 4.0 GB; CURE", where so many bytes are more than a device has."""
    if needed > SMALL and needed > (there := room(device)):
        raise TooLarge(f"{what} {amount(needed)} and {device} has {amount(there)}; {cure}")


def amount(size: float) -> str:
    """A number of bytes as people read it: 187.2 MB."""
    if size == math.inf:
        return "memory of unknown size"
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size:.0f} bytes"
