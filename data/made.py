"""Folders that a program makes as a whole: of settings, at once or not at all. Needs no netspec package."""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

STAMP = "complete.json"


def root(file: str) -> Path:
    """Where the program of a file writes, `images`: beside it in a checkout; in the current folder's
    data/NAME where the package is installed."""
    here = Path(file).resolve().parent
    return here / "images" if (here.parents[1] / "setup.cfg").is_file() else Path("data", here.name, "images")


def found(root: Path) -> dict | None:
    """The settings that the set in `root` was made with; None where there is no complete one."""
    try:
        return json.loads((root / STAMP).read_text())
    except (OSError, ValueError):
        return None


def prepare(root: Path, settings: dict, generate: Callable[[Path, dict], object]) -> bool:
    """Let `generate` write the set into `root` unless it is there; whether it had to be made.

    It is built in a folder beside `root` and renamed, so an interrupted run leaves `root` as it was. Only
    a folder that was made so (or an empty one) is replaced: any other raises FileExistsError.
    """
    root = root.expanduser().resolve()
    old = found(root)
    if old == settings:
        return False
    if old is None and root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise FileExistsError(f"{root} holds files that were not made here; empty it or give another --root")
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{root.name}.", suffix=".part", dir=root.parent) as scratch:
        fresh = Path(scratch, "new")
        fresh.mkdir()
        generate(fresh, settings)
        (fresh / STAMP).write_text(json.dumps(settings) + "\n")
        if old is not None:
            root.rename(Path(scratch, "old"))
        elif root.exists():
            root.rmdir()
        try:
            fresh.rename(root)
        except OSError:  # another run was quicker: its set is as good if it has the same settings
            if found(root) != settings:
                raise
    return True


def run(file: str, root: Path, settings: dict, generate: Callable[[Path, dict], object], what: str) -> int:
    """`prepare` for the program of a file, which says what became of it; its exit status."""
    start = time.perf_counter()
    try:
        fresh = prepare(root, settings, generate)
    except OSError as error:
        print(f"{Path(file).name}: {error}", file=sys.stderr)
        return 2
    took = f"made in {time.perf_counter() - start:.1f} s" if fresh else "already there"
    print(f"{root}: {what}, {took}")
    return 0
