"""Caffe scripts with this package in Caffe's place: `import caffe`, generators of nets, Python 2."""

import importlib
import importlib.abc
import importlib.util
import inspect
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from ..base.errors import Error, closest
from ..base.files import find
from ..base.machine import PROJECT
from ..proto.caffe_pb2 import NetParameter
from ..proto.text import parse, read_net
from ..proto.upgrade import upgrade_net

HOME = "netspec"
OTHERWISE = {"net_spec": "proto.spec", "_caffe": "pycaffe"}  # Caffe's module -> ours, where the names differ
CONVERT = ("convert a copy of it with 2to3 ('python3.11 -m lib2to3 -w FILE': lib2to3 came with "
           "Python up to 3.12)")
_OLD = re.compile(r"""
    ^\s*(print|exec)\b(?!\s*[(=.]) | ^\s*except\b.*, | ^\s*raise\s+[\w.]+\s*, | <> | ` | \b0\d+\b
    | \b\d+[lL]\b | \bur['"] | def\ \w+\((?:[^()=]*,)?\s*\( | \blambda\s*\(""", re.VERBOSE)
_FAILURES = (NameError, AttributeError, TypeError, ImportError)  # in which _GONE is looked for
_GONE = re.compile(
    r"name '(xrange|unicode|basestring|raw_input|unichr|long|reduce|execfile|file|cmp|izip)' is not defined"
    r"|attribute '(iteritems|itervalues|iterkeys|has_key)'|Did you mean \"print\("
    r"|No module named '(cPickle|urllib2|StringIO|ConfigParser|Queue|cStringIO|Tkinter)'")


def stand_in(replace: bool = False) -> None:
    """Make `import caffe` give this package, here and now, as `python -m netspec.run` does for a script.

    Raises Error if a caffe is installed, or was imported before, and `replace` is not set.
    """
    if any(isinstance(finder, _StandIn) for finder in sys.meta_path):
        return
    found = importlib.util.find_spec("caffe")
    if found and found.submodule_search_locations:  # Caffe's sources, never built, are no caffe to keep
        found = PathFinder.find_spec("_caffe", list(found.submodule_search_locations))
    if found and not replace:
        raise Error(f"a caffe is installed here ({found.origin}); 'python SCRIPT' runs scripts with it, "
                    "--replace takes netspec instead")
    for name in _imported():
        del sys.modules[name]
    sys.meta_path.insert(0, _StandIn())


@contextmanager
def standing_in() -> Iterator[None]:
    """`stand_in` within a block; behind it, `import caffe` gives what it gave before."""
    finders, modules = sys.meta_path[:], {name: sys.modules[name] for name in _imported()}
    stand_in()
    try:
        yield
    finally:
        sys.meta_path[:] = finders
        for name in _imported():
            del sys.modules[name]
        sys.modules.update(modules)


def _imported() -> list[str]:
    """The names of caffe's modules that are imported."""
    return [name for name in sys.modules if name.partition(".")[0] == "caffe"]


def python2(problem: BaseException) -> str | None:
    """A sentence, if an exception comes from a script that is still in Python 2."""
    if isinstance(problem, SyntaxError):
        line = (problem.text or "").rstrip()
        if isinstance(problem, TabError) or _OLD.search(line):
            what = line.strip() or problem.msg
            return f"{problem.filename}:{problem.lineno}: this is Python 2 ({what}); {CONVERT}"
    elif isinstance(problem, _FAILURES) and _GONE.search(str(problem)):
        return f"this is Python 2 ({problem}); {CONVERT}"
    return None


def read_or_generate(given: str) -> NetParameter:
    """The NetParameter, upgraded, of a prototxt file or a generator FILE.py:NAME[/SPLIT].

    The generator is the file's `generate(NAME, SPLIT)`, or else its function NAME, called with SPLIT if it
    takes an argument (default: train). FILE is looked for in the current folder, then in the checkout. Raises
    Error for what is missing or fails.
    """
    path, _, call = given.rpartition(":")
    if given.endswith(".py"):
        raise Error(f"{given} is a program; to compare a net that it makes, write FILE.py:NAME or "
                    "FILE.py:NAME/SPLIT")
    if not path.endswith(".py"):
        return read_net(find(given, what="net"))
    file = find(path, PROJECT, "generator")
    try:
        with nullcontext() if importlib.util.find_spec("caffe") else standing_in():
            net = parse(_generated(file, *call.partition("/")[::2], given), NetParameter, given)
    except Error:
        raise
    except Exception as e:  # whatever a person's script does
        raise Error(f"{given} gave no net: {python2(e) or f'{type(e).__name__}: {e}'}") from e
    upgrade_net(net, given)
    return net


def _generated(file: Path, name: str, split: str, given: str) -> str:
    """The prototxt that a generator makes."""
    spec = importlib.util.spec_from_file_location(f"generator_{file.stem}", file)
    assert spec and spec.loader  # as it has for every file that ends in .py
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function = partial(module.generate, name) if hasattr(module, "generate") else getattr(module, name, None)
    if function is None:
        raise Error(f"{given.rpartition(':')[0]} has neither a function 'generate' nor '{name}'"
                    f"{closest(name, vars(module))}")
    takes = inspect.signature(function).parameters
    if split and not takes:
        raise Error(f"{given}: {name} makes one net, without splits; leave /{split} out")
    made = function(split or "train") if takes else function()
    return str(made.to_proto() if hasattr(made, "to_proto") else made)


class _StandIn(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds `caffe` and all below it in this package, as the very same modules."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        place = str(Path(__file__).parents[1])
        return ModuleSpec(name, self, origin=place) if name.partition(".")[0] == "caffe" else None

    def exec_module(self, module: ModuleType) -> None:
        name = module.__name__
        below = ".".join(OTHERWISE.get(part, part) for part in name.split(".")[1:])
        try:
            sys.modules[name] = importlib.import_module(f"{HOME}.{below}" if below else HOME)
        except ModuleNotFoundError as e:
            if not (e.name or "").startswith(HOME):
                raise
            raise ModuleNotFoundError(f"No module named '{name}'", name=name) from None
