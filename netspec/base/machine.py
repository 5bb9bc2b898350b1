"""Where a net runs, and how exactly it multiplies there."""

from typing import Any

import torch

from .errors import Error

PRECISIONS = ("fp32", "tf32", "bf16")


def choose(name: str | None = None, precision: str = "fp32") -> torch.device:
    """The device of this name: cpu, cuda or cuda:N; None: a GPU if there is one.

    Allows or forbids TF32 for the whole process, as the precision says. Raises Error for a device that is not
    here and for an unknown precision.
    """
    if precision not in PRECISIONS:
        raise Error(f"precision '{precision}' is not known; choose one of {', '.join(PRECISIONS)}")
    name = name or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(name)
    except RuntimeError:
        found = None
    if found is None or found.type not in ("cpu", "cuda"):
        raise Error(f"device '{name}' is not known; use cpu, cuda or cuda:N")
    if found.type == "cuda":
        if not torch.cuda.is_available() or (found.index or 0) >= torch.cuda.device_count():
            raise Error(f"device '{name}' is not here ({torch.cuda.device_count()} CUDA devices found); use --device cpu")
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = precision != "fp32"
    return found


def asked(param: Any) -> str:
    """The device that a SolverParameter's solver_mode asks for: GPU is Caffe's default, so without one it is the CPU."""
    gpu = param.solver_mode == param.GPU and torch.cuda.is_available()
    return f"cuda:{param.device_id}" if gpu else "cpu"
