"""Nets and solvers by name, from any folder: models/NAME/deploy.prototxt, solvers/NAME.prototxt."""

import os
from collections.abc import Iterator
from pathlib import Path

from .errors import Error, closest, listed
from .files import find, writer
from .machine import PROJECT

ENDING = ".prototxt"


def _places(folder: str) -> Iterator[Path]:
    """Where nets or solvers are looked for: here, in the folders of NETSPEC_MODELS, in the project."""
    yield from (Path(folder), *_told(), PROJECT / folder)


def _told() -> list[Path]:
    """The folders of NETSPEC_MODELS."""
    told = os.environ.get("NETSPEC_MODELS", "").split(os.pathsep)
    return [Path(os.path.expanduser(place)) for place in told if place]


def _unread() -> str:
    """The end of a sentence about a name that is not there: what of NETSPEC_MODELS cannot be looked into."""
    unread = [str(place) for place in _told() if not os.access(f"{place}/.", os.R_OK | os.X_OK)]
    return f"; of NETSPEC_MODELS, {listed(unread)} is no folder that can be read" if unread else ""


def nets() -> dict[str, list[Path]]:
    """The folders of the nets of each name, that which counts first: those with a prototxt in them."""
    found: dict[str, dict[Path, Path]] = {}
    for place in _places("models"):
        for file in sorted(path for deep in ("*", "*/*") for path in place.glob(f"{deep}/*{ENDING}")):
            found.setdefault(file.parent.name, {}).setdefault(file.parent.resolve(), file.parent)
    return {name: list(folders.values()) for name, folders in found.items()}


def net_file(given: str, *kinds: str) -> Path:
    """The prototxt of a net: a path, or NAME or NAME/KIND of models/NAME/KIND.prototxt.

    kinds: which file of NAME alone, the first that is there; none: deploy. A file of that name goes first.
    Raises Error with the closest names if there is neither.
    """
    known = {} if os.path.isfile(os.path.expanduser(given)) else nets()
    name, _, kind = given.removesuffix(ENDING).rpartition("/")
    name, wanted = (given, kinds or ("deploy",)) if given in known else (name, (kind,))
    if name in known:
        return _of_kind(known[name][0], wanted)
    try:
        return find(given, what="net")
    except Error as error:
        raise Error(f"{error}{_unread()}{writer(given) or closest(name or given, known, 3)}") from None


def file_of(net: str | os.PathLike, *kinds: str) -> Path:
    """The prototxt that a Python program means: a file as it is given, else as `net_file`."""
    return Path(net) if Path(net).is_file() else net_file(os.fspath(net), *kinds)


def _of_kind(folder: Path, kinds: tuple[str, ...]) -> Path:
    """The first of these files in the folder of a net; Error with those that are there."""
    for kind in kinds:
        if (file := folder / f"{kind}{ENDING}").is_file():
            return file
    there = sorted(file.stem for file in folder.glob(f"*{ENDING}"))
    raise Error(f"net '{folder.name}' has no {' or '.join(kinds)}{ENDING} in {folder} (there are "
                f"{', '.join(f'{folder.name}/{kind}' for kind in there)}){closest(kinds[0], there)}"
                f"{writer(folder.name)}")


def name_of(net: Path) -> str | None:
    """The name that stands for a net's file; None if none does."""
    folder = net.resolve().parent
    return folder.name if folder in [path.resolve() for path in nets().get(folder.name, ())] else None


def solver_names() -> dict[str, Path]:
    """The file of each solver of a name, that which counts: NAME.prototxt of one of the `_places`."""
    return {path.stem: path for place in reversed([*_places("solvers")])
            for path in sorted(place.glob(f"*{ENDING}"))}


def solver_file(given: str) -> Path:
    """The prototxt of a solver: a path, or NAME of solvers/NAME.prototxt. A file of that name goes first.

    Raises Error with the closest names if there is neither.
    """
    known = solver_names()
    if given in known and not Path(given).is_file():
        return known[given]
    try:
        return find(given, what="solver")
    except Error as error:
        there = "" if given.endswith(ENDING) else f", nor is there solvers/{given}{ENDING}"
        raise Error(f"{error}{there}{_unread()}{closest(given, known, 3)}") from None
