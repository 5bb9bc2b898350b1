"""The .resume file beside a .solverstate: what Caffe's own files have no field for."""

import base64
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .errors import Error
from .files import writing


def write(path: Path, facts: dict[str, Any]) -> None:
    """Write JSON facts; byte tensors (random states) may stand among them."""
    packed = {k: {"bytes": base64.b64encode(v.numpy().tobytes()).decode()} if isinstance(v, Tensor) else v
              for k, v in facts.items()}
    with writing(path, "w") as file:
        json.dump(packed, file)


def read(path: Path, keys: set[str]) -> dict[str, Any]:
    """What `write` was given; Error if the file is something else or lacks one of `keys`."""
    try:
        facts = {k: torch.frombuffer(bytearray(base64.b64decode(v["bytes"])), dtype=torch.uint8)
                 if isinstance(v, dict) else v for k, v in json.loads(path.read_text()).items()}
        missing = keys - set(facts)
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise Error(f"{path}: not a resume file ({e}); delete it to start the data from the front") from None
    if missing:
        raise Error(f"{path}: lacks {', '.join(sorted(missing))}; delete it to start the data from the front")
    return facts
