"""Does the harness find what it is for? Guards are taken away, one at a time, in a copy of the project.

Each must then be found: an attempt fails there that goes as it should here.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from mutate import PROJECT, copied

MOST = 3000  # attempts to find a fault in
ROUND = 100


class Mend(NamedTuple):
    """A guard: where it stands, its text, what is left without it, and the area whose attempts meet it."""

    area: str
    file: str
    old: str
    new: str


MENDS = [
    Mend("solver", "base/errors.py", "return CONTROLS.sub(lambda found: repr(found[0])[1:-1], text)", "return text"),
    Mend("solver", "train/updates.py", 'refuse(p.iter_size < 1, "iter_size must be at least 1", "iter_size")', "pass"),
    Mend("prototxt", "net/build.py", "if not possible(shape):", "if False:"),
    Mend("param_str", "ops/settings.py", "except (OverflowError, *NO_LITERAL):\n        return None", "except OverflowError:\n        return None"),
    Mend("lmdb", "data/lmdb.py", "except lmdb.Error as error:", "except lmdb.NotFoundError as error:"),
    Mend("lmdb", "data/lmdb.py", "if min(shape) < 1 or np.prod(shape, dtype=object) != len(values):", "if False:"),
    Mend("states", "proto/wire.py", "if length > rest:", "if False:"),
    Mend("states", "proto/wire.py", "if found != needed:", "if False:"),
    Mend("states", "train/snapshot.py", "if (name := key.partition(\":\")[0]) in HOLDS and not HOLDS[name](value):", "if False:"),
    Mend("images", "data/images.py", 'except DAMAGE as error:\n        raise Error(f"{name} cannot', 'except EOFError as error:\n        raise Error(f"{name} cannot'),
    Mend("arrays", "proto/npy.py", "except Exception as problem:", "except zipfile.BadZipFile as problem:"),
    Mend("archives", "data/unpack.py", "tarfile.TarError, zipfile.BadZipFile)", "tarfile.TarError)"),
    Mend("downloads", "data/get.py", "except (OSError, http.client.HTTPException, ValueError, OverflowError) as error:", "except OSError as error:"),
    Mend("disks", "base/files.py", "        Path(temporary).unlink(missing_ok=True)\n        raise", "        raise"),
    Mend("disks", "cli/main.py", "        if e.filename is None and e.errno in FULL:", "        if False:"),
]


def harness(folder: Path, *words: str) -> str:
    """What the harness of a project's folder prints."""
    done = subprocess.run([sys.executable, "-m", "tests.hostile", *words], cwd=folder, capture_output=True, text=True, check=False,
                          env={**os.environ, "PYTHONPATH": "", "PYTHONDONTWRITEBYTECODE": "1"})
    if done.returncode not in (0, 1):
        raise RuntimeError(done.stderr)
    return done.stdout


def found(mend: Mend, place: Path, jobs: int) -> tuple[int, str]:
    """After how many attempts a fault was found that is none here (0: it was not), and what it is."""
    path = place / "netspec" / mend.file
    text = path.read_text()
    if text.count(mend.old) != 1:
        return 0, f"the text is not there once: {mend.old}"
    path.write_text(text.replace(mend.old, mend.new))
    try:
        for seed in range(MOST // ROUND):
            said = harness(place, mend.area, "--count", str(ROUND), "--seed", str(seed), "--jobs", str(jobs), "--kept", str(place / "kept"))
            faults = re.findall(r"^\w+: (.*)  (/\S+)$", said, re.MULTILINE)
            here = harness(PROJECT, "--again", *(kept for _, kept in faults)).splitlines() if faults else []
            for (what, kept), line in zip(faults, here, strict=True):
                if line.endswith(": as it should"):
                    number = ROUND * seed + 50 * int(kept.split("-")[-2]) + int(kept.split("-")[-1])
                    return number, what
        return 0, "not found"
    finally:
        path.write_text(text)


def main(numbers: list[int], jobs: int) -> int:
    """Take away guards by their numbers, from 1 (none given: all); exit status 1 if one was not found."""
    lost = 0
    with tempfile.TemporaryDirectory(prefix="undone-") as place:
        copied(PROJECT, Path(place))
        for number, mend in enumerate(MENDS, 1):
            if not numbers or number in numbers:
                after, what = found(mend, Path(place), jobs)
                lost += not after
                print(f"{number:3} {mend.area:10} {mend.file:20} {f'attempt {after}' if after else 'NOT FOUND':14} {what}", flush=True)
    print(f"{lost} not found")
    return int(bool(lost))
