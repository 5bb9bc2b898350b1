"""Weights by the name of their net: which are published (data/weights.json), and which are here."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ..base.errors import Error, closest
from ..base.files import writing
from ..base.machine import HOME, PROJECT, amount
from ..base.names import nets
from .get import Meter, digest, silent, verify
from .layouts import SETS

TABLE = SETS / "weights.json"
ENDINGS = (".caffemodel", ".caffemodel.h5")


class Source(NamedTuple):
    """Where weights are published, for one framework.

    `bytes` is 0 where the size is not known; `exact` is False where it is rounded.
    """

    framework: str  # caffe, torchvision, keras
    urls: list[str]  # of the same file; none: `site` has it, in no way that a program could fetch
    terms: str
    stated_by: str  # whose figures these are
    checksums: list[str] = []  # KIND:HEXADECIMAL, or how it begins; any of them is enough
    bytes: int = 0
    exact: bool = True
    site: str = ""

    def __str__(self) -> str:
        size = amount(self.bytes) if self.bytes else "size unknown"
        return (f"{'' if self.exact else 'about '}{size}, from {' or '.join(self.urls) or self.site}, "
                f"terms: {self.terms}")


class Weights(NamedTuple):
    """What is published for a net: what it tells apart, and the sources, Caffe's first."""

    gives: str
    sources: list[Source]

    def source(self, framework: str, name: str) -> Source:
        """That of a framework; Error with those that there are."""
        found = {source.framework: source for source in self.sources}
        if framework not in found:
            raise Error(f"{name}: no weights from '{framework}' are known{closest(framework, found)} (there "
                        f"are those from {', '.join(found)})")
        return found[framework]


def table() -> dict[str, Weights]:
    """The published weights by name of their net."""
    return {name: Weights(facts["gives"], [Source(**source) for source in facts["sources"]])
            for name, facts in json.loads(TABLE.read_text("utf-8")).items()}


def entry(name: str) -> Weights:
    """What is published for a net. Raises Error with the closest names."""
    known = table()
    if name not in known:
        raise Error(f"no published weights of '{name}' are known{closest(name, known, 3)} ('netspec weights' "
                    "lists those that are)")
    return known[name]


def folder() -> Path:
    """The weights folder: NETSPEC_WEIGHTS, else weights/ in a clone, else in the user's cache folder."""
    if told := os.environ.get("NETSPEC_WEIGHTS"):
        return Path(told).expanduser()
    if HOME == PROJECT:
        return PROJECT / "weights"
    if sys.platform == "win32":
        caches = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        caches = Path.home() / "Library" / "Caches"
    else:
        caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches) / "netspec"


def here(name: str, place: Path | None = None) -> Path | None:
    """The weights of a name in the weights folder, else the newest that `netspec demo` made; None: none."""
    return next(_candidates(name, place or folder()), None) or next(_demo(name), None)


def _candidates(name: str, place: Path) -> Iterator[Path]:
    """Under its name, or that of the release's file."""
    known = table().get(name)
    theirs = [url.rpartition("/")[2] for url in known.sources[0].urls] if known else []
    for file in (*(name + ending for ending in ENDINGS), *theirs):
        if (path := place / file).is_file():
            yield path


def _demo(name: str) -> Iterator[Path]:
    made = {path.resolve(): path for base in (Path(), PROJECT)
            for path in base.glob(f"demo/seed*/{name}_iter_*.caffemodel")}
    yield from sorted(made.values(), key=lambda path: path.stat().st_mtime, reverse=True)


def is_name(name: str) -> bool:
    """Whether weights could be found by this name: it is a net's, or published ones have it."""
    return name in table() or name in nets()


def weights_of(name: str) -> Path:
    """The weights of a name. Raises Error where they are not here: what to do, and first what that costs."""
    found = here(name)
    if found is None:
        raise Error(missing(name))
    return found


def missing(name: str) -> str:
    """The sentence about a name whose weights are not here."""
    there = f"the weights of {name} are not here ({folder() / name}{ENDINGS[0]})"
    known = table().get(name)
    if known and known.sources[0].urls:
        return f"{there}: {known.sources[0]}; 'netspec weights get {name}' gets them"
    if known:
        return f"{there}: {known.sources[0]}; 'netspec weights add {name} FILE' takes them in"
    if name.startswith("shapes-"):
        return f"{there}; 'netspec demo' trains them"
    if name in nets():
        return f"{there}, and none published are known; 'netspec weights add {name} FILE' takes in yours"
    return f"weights '{name}' are not here{closest(name, {**table(), **nets()}, 3)}"


def kept(path: Path) -> str:
    """The sha256 that was kept of a file when it was got or added, as KIND:HEXADECIMAL; "" if none was."""
    beside = path.with_name(f"{path.name}.sha256")
    return f"sha256:{beside.read_text('utf-8').split()[0]}" if beside.is_file() else ""


def keep(path: Path, name: str, meter: Meter = silent) -> str:
    """Keep the sha256 of a file beside `path`, as sha256sum writes it; the digits."""
    found = digest(path, meter=meter)
    with writing(path.with_name(f"{name}.sha256"), "w") as file:
        file.write(f"{found}  {name}\n")
    return found


def checked(name: str, path: Path, meter: Meter = silent) -> str:
    """What the weights of a name were held against, in words. Raises Error where they are others."""
    if mine := kept(path):
        verify(path, mine, meter)
        return "as when it was got"
    known = table().get(name)
    stated = known.sources[0].checksums if known else []
    if not stated:
        return f"no checksum is known to compare with: sha256 {digest(path, meter=meter)}"
    verify(path, stated[0], meter)
    return f"{stated[0].partition(':')[0]} as published"
