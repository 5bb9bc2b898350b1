"""The `data` command: get a data set from where it is published, or from archives on disk; data/sources.json has the facts."""

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

from ..base.errors import Error
from ..base.machine import amount
from .fetching import alone, digest, download, space, unpack, verify
from .layouts import LAYOUTS

SETS = Path(__file__).resolve().parent / "sets", Path(__file__).resolve().parents[2] / "data"  # installed, or not
SOURCES = next(path for folder in SETS if (path := folder / "sources.json").is_file())


class Archive(NamedTuple):
    """A file that a data set comes in; `bytes` is 0 where the size is not known, `exact` False where it is rounded."""

    name: str
    url: str
    stated_by: str  # whose figures these are
    checksum: str = ""  # KIND:HEXADECIMAL; without one nothing is downloaded
    bytes: int = 0
    exact: bool = True

    def __str__(self) -> str:
        return f"{self.name}, {'' if self.exact else 'about '}{amount(self.bytes) if self.bytes else 'size unknown'}"


class DataSet(NamedTuple):
    """What sources.json says of a data set."""

    what: str
    terms: str
    site: str
    root: str  # its usual place
    counts: dict[str, int]  # below the root: files by pattern, or lines of a list
    archives: list[Archive]
    top: str = ""  # the folder in the archives that becomes the root, if that is a folder in them

    def state(self, root: Path) -> str:
        """What is under `root`: "" if all is, else "not there" or "incomplete" and the first thing that is wrong."""
        found = {pattern: sum(1 if "*" in pattern else len(path.read_text("utf-8", "replace").splitlines())
                              for path in root.glob(pattern)) for pattern in self.counts}
        wrong = [f"{pattern}: {found[pattern]} of {n}" for pattern, n in self.counts.items() if found[pattern] != n]
        return "" if not wrong else f"incomplete ({wrong[0]})" if any(found.values()) else "not there"


def catalogue() -> dict[str, DataSet]:
    """The data sets of sources.json by name."""
    sets = {}
    for name, facts in json.loads(SOURCES.read_text("utf-8")).items():
        usual = {"root": LAYOUTS[name].root} if name in LAYOUTS else {}
        sets[name] = DataSet(**usual | facts | {"archives": [Archive(**a) for a in facts["archives"]]})
    return sets


def add_arguments(parser: argparse.ArgumentParser) -> None:
    choice = parser.add_subparsers(metavar="NAME")
    check = choice.add_parser("check", help="open every image and label", add_help=False, prefix_chars="\0")
    check.add_argument("check", nargs="*")  # options too: its module is imported only where it is called
    for name, data in catalogue().items():
        one = choice.add_parser(name, help=data.what, description=f"{data.what}. Terms: {data.terms}.")
        one.add_argument("--root", type=Path, default=Path(data.root), metavar="DIR", help="the folder to make (%(default)s)")
        one.add_argument("--archives", type=Path, metavar="DIR", help="where its archives are, or are put (ROOT/../archives)")
        one.add_argument("--yes", action="store_true", help="download without asking")
        one.set_defaults(data=data)


def run(args: argparse.Namespace) -> int:
    if "check" in args:
        from ..check import data as datacheck

        parser = argparse.ArgumentParser("netspec data check", description=datacheck.__doc__)
        datacheck.add_arguments(parser)
        return datacheck.run(parser.parse_args(args.check))
    if "data" in args:
        return prepare(args.data, args.root, args.archives or args.root.parent / "archives", args.yes) or 0
    for name, data in catalogue().items():
        print(f"{name}: {data.what}\n    {data.state(Path(data.root)) or 'there'}: {data.root}")
        print(f"    {'; '.join(map(str, data.archives))}\n    terms: {data.terms}")
    return 0


def _asked() -> bool:
    """Whether somebody at a terminal says yes."""
    if sys.stdin.isatty():
        print("Download? [y/N] ", end="", flush=True)
    return sys.stdin.isatty() and sys.stdin.readline().strip().lower() in ("y", "yes")


def prepare(data: DataSet, root: Path, archives: Path, yes: bool = False) -> None:
    """Make `root` from the archives in a folder, downloading those that are not there.

    Asks on a terminal before it downloads, unless `yes`. `root` (or, if it is there, its entries) appears when all is
    unpacked and counted; before that only archives, or parts of them, are left behind. Raises Error.
    """
    if not (state := data.state(root)):
        return print(f"{root}: there, complete")
    if state != "not there":
        raise Error(f"{root} is {state}; move it away, or give another --root")
    missing = [a for a in data.archives if not (archives / a.name).is_file()]
    print(f"{data.what}\nsite     {data.site}\nterms    {data.terms}")
    for archive in data.archives:
        print(f"archive  {archive}, {f'from {archive.url}' if archive in missing else f'in {archives}'}")
        if archive in missing and not archive.checksum:
            raise Error(f"no checksum of {archive.name} is known: get it from {archive.url} into {archives}, then try again")
    if missing and not yes and not _asked():
        raise Error("nothing is downloaded without your consent: --yes gives it")
    space({archives: sum(a.bytes for a in missing), root: sum(a.bytes for a in data.archives)})
    for archive, path in ((a, archives / a.name) for a in data.archives):
        if archive in missing:
            download(archive.url, path, archive.checksum, archive.bytes if archive.exact else None)
        elif archive.checksum:
            verify(path, archive.checksum)
        else:
            print(f"no checksum is known to compare with: sha256 {digest(path)}  {path}")
    scratch = root.with_name(f".{root.name}.part")
    scratch.mkdir(parents=True, exist_ok=True)
    with alone(scratch):
        try:
            for left in scratch.iterdir():  # by a run that was killed
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            for archive in data.archives:
                print(f"unpacking {archive.name}", flush=True)
                unpack(archives / archive.name, scratch, data.top)
            if state := data.state(scratch):
                raise Error(f"what was expected in the archives is {state}; nothing was made")
            for entry in list(scratch.iterdir()) if root.exists() else [scratch]:
                if not (place := root if entry == scratch else root / entry.name).exists():
                    entry.rename(place)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    if state := data.state(root):
        raise Error(f"{root} is {state}: what was there before is in the way")
    print(f"{root}: " + ", ".join(f"{count} {pattern}" for pattern, count in data.counts.items()))
