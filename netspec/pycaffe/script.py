"""Runs a Caffe script with this package in Caffe's place: `python -m netspec.run [--replace] SCRIPT [ARGS]`."""

import argparse
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import re
import runpy
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from ..base.errors import Error, closest
from ..base.files import find
from ..proto import caffe_pb2
from ..proto import text as prototext
from ..proto.upgrade import upgrade_net

HOME = "netspec"
OTHERWISE = {"net_spec": "proto.spec", "_caffe": "pycaffe"}  # Caffe's module -> ours, where the names differ
_OLD = re.compile(r"^\s*(print|exec)\b(?!\s*[(=.])|^\s*except\b.*,|^\s*raise\s+[\w.]+\s*,|<>|`|\b0\d+\b|\b\d+[lL]\b|\bur['\"]"
                  r"|def \w+\((?:[^()=]*,)?\s*\(|\blambda\s*\(")
_GONE = re.compile(r"name '(xrange|unicode|basestring|raw_input|unichr|long|reduce|execfile|file|cmp|izip)' is not defined"
                   r"|attribute '(iteritems|itervalues|iterkeys|has_key)'|Did you mean \"print\("
                   r"|No module named '(cPickle|urllib2|StringIO|ConfigParser|Queue|cStringIO|Tkinter)'")
CONVERT = "convert a copy of it with 2to3 ('python3.11 -m lib2to3 -w FILE': lib2to3 came with Python up to 3.12)"


class _StandIn(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds `caffe` and all below it in this package, as the very same modules."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        return importlib.machinery.ModuleSpec(name, self) if name.partition(".")[0] == "caffe" else None

    def exec_module(self, module: ModuleType) -> None:
        name = module.__name__
        below = ".".join(OTHERWISE.get(part, part) for part in name.split(".")[1:])
        try:
            sys.modules[name] = importlib.import_module(f"{HOME}.{below}" if below else HOME)
        except ModuleNotFoundError as e:
            if not (e.name or "").startswith(HOME):
                raise
            raise ModuleNotFoundError(f"No module named '{name}'", name=name) from None


def stand_in(replace: bool = False) -> None:
    """Make `import caffe` give this package, here and now, as `python -m netspec.run` does for a script.

    Raises Error if a caffe is installed, or was imported before, and `replace` is not set.
    """
    if any(isinstance(finder, _StandIn) for finder in sys.meta_path):
        return
    found = importlib.util.find_spec("caffe")
    if found and found.submodule_search_locations:  # a source tree of Caffe that was never built is no caffe to keep
        found = importlib.machinery.PathFinder.find_spec("_caffe", list(found.submodule_search_locations))
    if found and not replace:
        raise Error(f"a caffe is installed here ({found.origin}); 'python SCRIPT' runs scripts with it, --replace takes "
                    "netspec instead")
    for name in [name for name in sys.modules if name.partition(".")[0] == "caffe"]:
        del sys.modules[name]
    sys.meta_path.insert(0, _StandIn())


def old(problem: BaseException) -> str | None:
    """A sentence, if an exception comes from a script that is still in Python 2."""
    if isinstance(problem, SyntaxError):
        line = (problem.text or "").rstrip()
        if isinstance(problem, TabError) or _OLD.search(line):
            return f"{problem.filename}:{problem.lineno}: this is Python 2 ({line.strip() or problem.msg}); {CONVERT}"
    elif isinstance(problem, (NameError, AttributeError, TypeError, ImportError)) and _GONE.search(str(problem)):
        return f"this is Python 2 ({problem}); {CONVERT}"
    return None


def main(argv: Sequence[str] | None = None) -> int:
    """Run a script as `python SCRIPT ARGS` does: its sys.argv, its folder first in sys.path, its exit status."""
    parser = argparse.ArgumentParser(prog=f"python -m {HOME}.run", description="Run a script that says 'import caffe'.")
    parser.add_argument("--replace", action="store_true", help="take netspec even where a caffe is installed")
    parser.add_argument("script", metavar="SCRIPT")
    parser.add_argument("args", metavar="ARGS", nargs=argparse.REMAINDER)
    args = parser.parse_args(argv)
    try:
        path = find(args.script, what="script")
        sys.argv = [args.script, *args.args]
        sys.path[0] = str(path.resolve().parent if path.is_file() else path.resolve())
        stand_in(args.replace)
    except Error as e:
        parser.exit(2, f"{parser.prog}: {e}\n")
    try:
        runpy.run_path(str(path), run_name="__main__")
    except Exception as e:
        hint = old(e)
        if hint and isinstance(e, SyntaxError):  # a traceback through this file would say no more
            parser.exit(2, f"{parser.prog}: {hint}\n")
        if hint:
            print(f"{parser.prog}: {hint}", file=sys.stderr)
        raise
    return 0


if __name__ == "__main__":
    sys.exit(importlib.import_module(f"{HOME}.run").main())  # not this copy of it, which a script would import anew



def load(given: str) -> Any:
    """The NetParameter, upgraded, of a prototxt file or a generator FILE.py:NAME[/SPLIT].

    The generator is the file's `generate(NAME, SPLIT)`, or else its function NAME, called with SPLIT if it takes an
    argument (default: train). Raises Error for what is missing or fails.
    """
    path, _, call = given.rpartition(":")
    if given.endswith(".py"):
        raise Error(f"{given} is a program; to compare a net that it makes, write FILE.py:NAME or FILE.py:NAME/SPLIT")
    if not path.endswith(".py"):
        return prototext.read_net(find(given, what="net"))
    name, _, split = call.partition("/")
    spec = importlib.util.spec_from_file_location(f"generator_{Path(path).stem}", find(path, what="generator"))
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    if not importlib.util.find_spec("caffe"):
        stand_in()
    try:
        spec.loader.exec_module(module)
        function = partial(module.generate, name) if hasattr(module, "generate") else getattr(module, name, None)
        if function is None:
            raise Error(f"{path} has neither a function 'generate' nor '{name}'{closest(name, vars(module))}")
        takes = inspect.signature(function).parameters
        if split and not takes:
            raise Error(f"{given}: {name} makes one net, without splits; leave /{split} out")
        made = function(split or "train") if takes else function()
        net = prototext.parse(str(made.to_proto() if hasattr(made, "to_proto") else made), caffe_pb2.NetParameter, given)
    except Error:
        raise
    except Exception as e:  # whatever a person's script does
        raise Error(f"{given} gave no net: {old(e) or f'{type(e).__name__}: {e}'}") from e
    upgrade_net(net, given)
    return net
