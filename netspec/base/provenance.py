"""Where a result comes from: command, commit, machine, date."""

import platform
import shlex
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import torch

from .. import __version__
from ..data.feed import cores

PROJECT = Path(__file__).resolve().parents[2]


def origin(device: str | torch.device = "cpu") -> dict[str, str]:
    """What a figure needs to be believed, in words: command, date, version and commit, libraries, device, system."""
    return {
        "command": shlex.join(sys.argv),
        "date": datetime.now().astimezone().isoformat(" ", "seconds"),
        "netspec": f"{__version__}{commit()}",
        "python": f"{platform.python_version()}, torch {torch.__version__}",
        "device": device_name(device),
        "system": platform.platform(),
    }


def commit() -> str:
    """', commit abc1234' of the checkout that this package lies in, with 'and changes' if files differ; '' elsewhere."""
    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(PROJECT), *words], capture_output=True, text=True, check=True).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != PROJECT:
            return ""
        changes = " and changes" if git("status", "--porcelain", "--untracked-files=no") else ""
        return f", commit {git('rev-parse', '--short', 'HEAD')}{changes}"
    except (OSError, subprocess.CalledProcessError):
        return ""


def device_name(device: str | torch.device) -> str:
    """The GPU's name, or the CPU's with its cores and threads."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
    return f"{model}, {cores()} cores, {torch.get_num_threads()} threads"
