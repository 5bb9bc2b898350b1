"""Layer types of one's own: modules whose Operations stand in nets by their type, as those of netspec do."""

import os
import sys
from functools import partial

from ..base.errors import Error
from ..base.files import find
from ..base.processes import ready
from .base import REGISTRY, Kind
from .python import absent, imported


def register(what: Kind | str) -> Kind | str:
    """Have nets know the types that a module registers, given as in `load`; a script's `--ops`.

    A class is registered where it is written, `class Foo(netspec.Operation, type="Foo")`; as its decorator
    this only sees that it has a type. Raises Error.
    """
    if isinstance(what, str):
        load(what)
    elif REGISTRY.get(what.type) is not what:
        raise Error(f"class {what.__name__} has no type of its own: class {what.__name__}(netspec.Operation, "
                    f'type="{what.__name__}")')
    return what


def load(given: str) -> list[Kind]:
    """The classes that a module registers. It is looked up as `import` does, then in the current folder; or
    it is FILE.py.

    Processes that this one spawns load it too. Raises Error where there is none, for one that ends its own
    import, and where none of its classes has a type.
    """
    path = find(given, what="module").absolute() if given.endswith(".py") else None
    if path and str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    name = path.stem if path else given
    try:
        module = imported(name, "--ops: ")
    except ImportError as e:
        raise absent("--ops: ", name, e) from None
    if path and not (module.__file__ and os.path.samefile(path, module.__file__)):
        raise Error(f"--ops: instead of {path} Python finds {module.__file__ or 'its own'} of that name; "
                    "give yours another")
    found = [kind for kind in REGISTRY.values() if f"{kind.__module__}.".startswith(f"{name}.")]
    if not found:
        raise Error(f"--ops: module '{name}' ({module.__file__}) has no layer type, as class Foo(netspec."
                    'Operation, type="Foo") is one')
    first = partial(load, str(path or given))
    if all(each.args != first.args for each in ready):
        ready.append(first)
    return found
