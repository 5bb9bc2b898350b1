"""Weights by the name of their net: which are published (data/weights.json), and which are here."""

import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ..base.errors import Error, closest
from ..base.files import find, native, writing
from ..base.machine import HOME, PROJECT, amount
from ..base.names import nets
from ..proto.wire import is_hdf5
from .get import Meter, Unserved, digest, download, silent, space, verify
from .layouts import SETS
from .unpack import BLOCK

TABLE = SETS / "weights.json"
ENDINGS = (".caffemodel", ".caffemodel.h5")
MOST, TIMEOUT, PAUSE = 1 << 31, 20.0, 1.0  # bytes that a .caffemodel can have; seconds, as of `download`


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

    @property
    def size(self) -> str:
        if not self.bytes:
            return "size unknown"
        return amount(self.bytes) if self.exact else f"about {self.bytes / 1e6:.0f} MB"

    def __str__(self) -> str:
        return f"{self.size}, from {' or '.join(self.urls) or self.site}, terms: {self.terms}"


class Weights(NamedTuple):
    """What is published for a net: what it tells apart, and the sources, Caffe's first."""

    gives: str
    sources: list[Source]


def table() -> dict[str, Weights]:
    """The published weights by name of their net."""
    return {name: Weights(facts["gives"], [Source(**source) for source in facts["sources"]])
            for name, facts in json.loads(TABLE.read_text("utf-8")).items()}


def source(name: str, framework: str) -> Source:
    """Where a framework's weights are published for a net. Raises Error with the names that there are."""
    known = table()
    if name not in known:
        raise Error(f"no published weights of '{name}' are known{closest(name, known, 3)} ('netspec weights' "
                    "lists those that are)")
    found = {each.framework: each for each in known[name].sources}
    if framework not in found:
        raise Error(f"{name}: no weights from '{framework}' are known{closest(framework, found)} (there "
                    f"are those from {', '.join(found)})")
    return found[framework]


def folder() -> Path:
    """The weights folder: NETSPEC_WEIGHTS, else weights/ in a clone, else in the user's cache folder.

    Raises Error for a user without a home folder.
    """
    if told := os.environ.get("NETSPEC_WEIGHTS"):
        return Path(os.path.expanduser(told))
    if HOME == PROJECT:
        return PROJECT / "weights"
    try:
        if sys.platform == "win32":
            caches = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
        elif sys.platform == "darwin":
            caches = Path.home() / "Library" / "Caches"
        else:
            caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:
        raise Error("this user has no home folder: set NETSPEC_WEIGHTS to a folder for weights") from None
    return Path(caches) / "netspec"


def here(name: str) -> Path | None:
    """The weights of a name in the weights folder, else the newest that `netspec demo` made; None: none."""
    made = (path for base in (PROJECT, Path()) for path in base.glob(f"demo/seed*/{name}_iter_*.caffemodel")
            if path.with_name(f"{name}.json").is_file())  # trained to the end, and scored
    return stored(name) or max(made, key=lambda path: path.stat().st_mtime, default=None)


def stored(name: str, place: Path | None = None) -> Path | None:
    """The weights of a name in a folder (None: the weights folder), by it or the release's name; or None."""
    known = table().get(name)
    theirs = [url.rpartition("/")[2] for url in known.sources[0].urls] if known else []
    files = ((place or folder()) / file for file in (*(name + ending for ending in ENDINGS), *theirs))
    return next(filter(Path.is_file, files), None)


def is_name(name: str) -> bool:
    """Whether weights could be found by this name: it is a net's, or published ones have it."""
    return name in table() or name in nets()


def check_name(name: str) -> None:
    """Error, with the closest names, unless weights could be found by this one; paths are none."""
    if not is_name(name):
        raise Error(f"'{name}' is no name of a net in models/{closest(name, {**table(), **nets()}, 3)}")


def found(given: str, base: Path | None = None) -> Path:
    """The weights that a solver or a person names: a file, as `find` does, else a net's name.

    weights/FILE is a file of the weights folder too. Raises Error if there is neither.
    """
    first, *rest = Path(native(given)).parts or [""]
    try:
        path = find(given, base, "weights")
        return weights_of(given) if path.is_dir() and is_name(given) else path  # the folder of a net
    except Error:
        if is_name(given):
            return weights_of(given)
        if first != "weights" or not (path := folder().joinpath(*rest)).is_file():
            raise
        return path


def is_published(name: str) -> bool:
    """Whether `fetch` could get the weights of a name."""
    known = table().get(name)
    return bool(known and known.sources[0].urls)


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
    if known and is_published(name):
        return f"{there}: {known.sources[0]}; 'netspec weights get {name}' gets them"
    if known:
        return f"{there}: {known.sources[0]}; 'netspec weights add {name} FILE' takes them in"
    if name.startswith("shapes-"):
        return f"{there}; 'netspec demo{' --detection' * name.startswith('shapes-rfcn')}' trains them"
    if name in nets():
        return f"{there}, and none published are known; 'netspec weights add {name} FILE' takes in yours"
    return f"weights '{name}' are not here{closest(name, {**table(), **nets()}, 3)}"


def fetch(name: str, source: Source, path: Path, say: Callable[[str], object], meter: Meter = silent,
          fits: Callable[[Path], object] = lambda part: None) -> None:
    """Get a source's file, from the first of its addresses that has it, as `download` does.

    It is held to the sha256 that was kept of it, else to a published checksum. Raises Error with what each
    address said, and the way by another machine.
    """
    checksum, size = kept(path) or next(iter(source.checksums), ""), source.bytes if source.exact else 0
    failed: list[str] = []
    for url in source.urls:
        say(f"{name}: from {url}")
        try:
            return download(url, path, checksum, size or None, TIMEOUT, PAUSE, meter, MOST, fits)
        except Unserved as error:
            failed.append(str(error))
    by = "" if source.framework == "caffe" else f" --from {source.framework}"
    raise Error(f"{'; '.join(failed)}; got on another machine, it is taken in by 'netspec weights add {name} "
                f"FILE{by}'")


def add(name: str, file: Path, meter: Meter = silent) -> tuple[Path, str]:
    """Take a weights file into the weights folder as a name's: where it is, and what its checksum says.

    Raises Error if another file is there, or a sha256 that was kept is another's.
    """
    path = folder() / (name + ENDINGS[is_hdf5(file)])
    other = stored(name)
    if other and not other.samefile(file) and digest(other, meter=meter) != digest(file, meter=meter):
        raise Error(f"{name}: {other} is there, and is another file than {file}: move it away first")
    if not other:
        if mine := kept(path):
            verify(file, mine, meter)
        space({path.parent: file.stat().st_size})
        with open(file, "rb") as old, writing(path) as new:
            shutil.copyfileobj(old, new, BLOCK)
    return other or path, _published(name, other or path, meter)


def _published(name: str, path: Path, meter: Meter) -> str:
    """Whether a file is the published one, in words."""
    known = table().get(name)
    for checksum in known.sources[0].checksums if known else ():
        with suppress(Error):
            verify(path, checksum, meter)
            return f"the published file, by its {checksum.partition(':')[0]}"
        return "not the file that is published"
    return "no checksum is published"


def kept(path: Path) -> str:
    """The sha256 that was kept of a file when it was got or added, as KIND:HEXADECIMAL; "" if none was."""
    beside = path.with_name(f"{path.name}.sha256")
    if not beside.is_file():
        return ""
    words = beside.read_text("utf-8", "replace").split() or [""]
    if not re.fullmatch("[0-9a-f]{64}", words[0]):
        raise Error(f"{beside}: begins with '{words[0]}', expected the 64 digits of a sha256")
    return f"sha256:{words[0]}"


def keep(path: Path, meter: Meter = silent) -> str:
    """Keep the sha256 of a file beside it, as sha256sum writes it; the digits."""
    found = digest(path, meter=meter)
    with writing(path.with_name(f"{path.name}.sha256"), "w") as file:
        file.write(f"{found}  {path.name}\n")
    return found


def checked(name: str, path: Path, meter: Meter = silent) -> str:
    """What the weights of a name were held against, in words. Raises Error where they are others."""
    if mine := kept(path):
        verify(path, mine, meter)
        return "as when it was got (sha256)"
    known = table().get(name)
    if not known or not known.sources[0].checksums:
        return f"no checksum is known to compare with: sha256 {digest(path, meter=meter)}"
    stated = known.sources[0].checksums[0]
    try:
        verify(path, stated, meter)
    except Error as error:
        raise Error(f"{error}; if that is meant, 'netspec weights add {name} {path}' keeps it") from None
    return f"as published ({stated.partition(':')[0]})"
