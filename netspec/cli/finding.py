"""The files that the words of a command mean: paths, or names of nets, solvers and weights."""

import os
import sys
from contextlib import suppress
from pathlib import Path

from ..base import names
from ..base.errors import Error, closest
from ..base.files import find
from .terminal import asked, say


def find_net(given: str, *kinds: str) -> Path:
    """The prototxt that NET means, as `net_file`; what it means instead of a net of that name is said."""
    path, known = names.net_file(given, *kinds), names.nets()
    others = [folder for folder in known.get(given, known.get(given.rpartition("/")[0], ()))
              if folder.resolve() != path.resolve().parent]
    if others and not given.endswith(names.ENDING):
        say(f"note: {path} is taken, not the net of that name in {others[0]}", file=sys.stderr)
    return path


def find_weights(given: str | None, net: Path) -> Path:
    """The weights that a person means: a file, or those of a net's name; None: those of the name of `net`.

    Where those of a name are not here, a person at a terminal is asked whether to get them.
    """
    from ..data import zoo

    if given and (os.path.isfile(os.path.expanduser(given)) or not zoo.is_name(given)):
        return zoo.found(given)
    name = given or names.name_of(net)
    if name is None:
        raise Error(f"{net}: give WEIGHTS behind it: only nets in models/ have some by their name")
    if not zoo.here(name) and zoo.is_published(name) and sys.stdin and sys.stdin.isatty():
        from . import weights

        say(zoo.missing(name), file=sys.stderr)
        if asked():
            weights.get(name)
    path = zoo.weights_of(name)
    say(f"weights of {name}: {path}", file=sys.stderr)
    return path


def is_named(given: str, net: Path) -> bool:
    """Whether a net's file was found by its name."""
    return not given.endswith(names.ENDING) and names.name_of(net) is not None


def weights_here(given: str, net: Path) -> Path | None:
    """The weights of a net that was found by its name, if they are here: for what does without as well."""
    from ..data import zoo

    name = names.name_of(net)
    return find_weights(None, net) if name and is_named(given, net) and zoo.here(name) else None


def is_weights(given: str) -> bool:
    """Whether a word means weights rather than an image: a file that holds some, or a name that has some."""
    from ..data import zoo
    from ..data.images import open_image
    from ..proto import wire

    path, named = Path(os.path.expanduser(given)), given.endswith(zoo.ENDINGS)
    if not os.path.isfile(path):
        return named or not os.path.exists(path) and zoo.is_name(given)
    with suppress(Error):
        return wire.is_hdf5(path) or bool(wire.WireFile(path, "weights"))
    with suppress(Error):
        return named and not open_image(path)
    return named


def find_solver(given: str) -> Path:
    """The prototxt that SOLVER means, as `solver_file`; a file instead of a solver of that name is said."""
    path, known = names.solver_file(given), names.solver_names()
    if given in known and path != known[given]:
        say(f"note: {path} is taken, not {known[given]}", file=sys.stderr)
    return path


def find_any(given: str, what: str, *kinds: str) -> Path:
    """What a word means, a path or a name: of a net's file of these kinds; without any, of a solver."""
    known = names.nets() if kinds else names.solver_names()
    there = os.path.exists(os.path.expanduser(given))
    split = bool(kinds) and given.rpartition("/")[0] in known and not there
    if given in known or split:
        return find_net(given, *kinds) if kinds else find_solver(given)
    try:
        return find(given, what=what)
    except Error as error:
        raise Error(f"{error}{closest(given, known, 3)}") from None
