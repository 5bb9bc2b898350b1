"""Caffe scripts: generators of nets, and those that are still in Python 2."""

import importlib.util
import inspect
import re
import sys
from functools import partial
from pathlib import Path
from types import ModuleType

from ..base.errors import Error, closest
from ..base.files import find
from ..base.standin import lending
from ..proto.caffe_pb2 import NetParameter
from ..proto.text import parse, read_net
from ..proto.upgrade import upgrade_net

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


def python2(problem: BaseException) -> str | None:
    """A sentence, if an exception comes from a script that is still in Python 2."""
    if isinstance(problem, SyntaxError):
        line = (problem.text or "").rstrip()
        if isinstance(problem, TabError) or _OLD.search(line):
            what = line.strip() or problem.msg
            tabs = "its tabs become spaces by 'expand FILE > COPY'; " if isinstance(problem, TabError) else ""
            return f"{problem.filename}:{problem.lineno}: this is Python 2 ({what}); {tabs}{CONVERT}"
    elif isinstance(problem, _FAILURES) and _GONE.search(str(problem)):
        return f"this is Python 2 ({problem}); {CONVERT}"
    return None


def read_or_generate(given: str) -> NetParameter:
    """The NetParameter, upgraded, of a prototxt file or a generator FILE.py:NAME[/SPLIT].

    The generator is the file's `generate(NAME, SPLIT)`, or else its function NAME, called with SPLIT if it
    takes an argument (default: train). FILE is looked for in the current folder, then among ours. Raises
    Error for what is missing or fails.
    """
    path, _, call = given.rpartition(":")
    if given.endswith(".py"):
        raise Error(f"{given} is a program; to compare a net that it makes, write FILE.py:NAME or "
                    "FILE.py:NAME/SPLIT")
    if not path.endswith(".py"):
        return read_net(find(given, what="net"))
    file = find(path, what="generator")
    try:
        with lending():
            net = parse(_generated(file, *call.partition("/")[::2], given), NetParameter, given)
    except Error:
        raise
    except Exception as e:  # whatever a person's script does
        raise Error(f"{given} gave no net: {python2(e) or f'{type(e).__name__}: {e}'}") from e
    upgrade_net(net, given)
    return net


def generator(file: Path) -> ModuleType:
    """The module of a Python file that writes nets, wherever it stands."""
    spec = importlib.util.spec_from_file_location(f"generator_{file.stem}", file)
    assert spec and spec.loader  # as it has for every file that ends in .py
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _generated(file: Path, name: str, split: str, given: str) -> str:
    """The prototxt that a generator makes."""
    module = generator(file)
    function = partial(module.generate, name) if hasattr(module, "generate") else getattr(module, name, None)
    if function is None:
        raise Error(f"{given.rpartition(':')[0]} has neither a function 'generate' nor '{name}'"
                    f"{closest(name, vars(module))}")
    takes = inspect.signature(function).parameters
    if split and not takes:
        raise Error(f"{given}: {name} makes one net, without splits; leave /{split} out")
    made = function(split or "train") if takes else function()
    return str(made.to_proto() if hasattr(made, "to_proto") else made)
