"""Which files a page may open: those under the folders, and the files, that its command names."""

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from ..base.errors import Error

MOST = 2000  # files of a kind that are listed
LOOKED = 200_000  # files that are looked at for it


class Folders:
    """Files that may be opened. Links count as where they lead."""

    def __init__(self, named: Iterable[Path]) -> None:
        """named: folders and single files. Raises Error for one that is not there."""
        # "." by its name: a file in it may be called as an option is
        self.named = list(dict.fromkeys(path if path.parts else Path.cwd() for path in named))
        for path in self.named:
            if not path.exists():
                raise Error(f"{path}: there is no such file or folder")
        self.roots = [path.resolve() for path in self.named]

    def open(self, given: str) -> Path:
        """The file or folder of this name, as a command takes it for no option. Raises Error where it is not
        there, or lies outside."""
        try:
            path = Path(given).resolve(strict=True)
        except (OSError, ValueError, RuntimeError):  # not there, no name, links in a circle
            path = None
        if path is None or not any(path.is_relative_to(root) for root in self.roots):
            # one sentence for both: what is there beside the folders is nobody's business
            raise Error(f"'{given}' is none of the files that this page was given")
        return Path(given).absolute() if given.startswith("-") else Path(given)

    def files(self, *ends: str) -> list[str]:
        """The files with such ends (lower case, with the dot), folder by folder in order; MOST at most."""
        found = [str(path) for path in self.named if path.is_file() and path.suffix.lower() in ends]
        looked = 0
        for path in self._walk():
            looked += 1
            if looked > LOOKED or len(found) >= MOST:
                break
            if path.suffix.lower() in ends and self._inside(path):
                found.append(str(path))
        return list(dict.fromkeys(found))

    def _walk(self) -> Iterator[Path]:
        for root in self.named:
            for at, folders, names in os.walk(root):
                folders[:] = sorted(name for name in folders if name[0] != ".")
                yield from (Path(at, name) for name in sorted(names) if name[0] != ".")

    def _inside(self, path: Path) -> bool:
        if not path.is_symlink():
            return path.is_file()
        try:
            self.open(str(path))
        except Error:
            return False
        return path.is_file()


def latest(files: Iterable[str]) -> list[str]:
    """Files that are there, those that changed last first."""
    times = dict[str, int]()
    for file in files:
        with suppress(OSError):
            times[file] = os.stat(file).st_mtime_ns
    return sorted(times, key=lambda file: times[file], reverse=True)
