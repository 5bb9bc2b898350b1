"""What a Python script wants of Caffe that is not here, or of Python 2; nothing of it is run."""

import ast
import importlib
import importlib.util
import tokenize
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

from ..base.errors import closest, listed
from ..base.standin import HOME, OTHERWISE
from ..ops import REGISTRY
from ..proto.spec import Layers, Parameters, layers, params
from ..pycaffe.script import CONVERT, python2
from . import NOTE, OK, PROBLEM, Finding

CAFFES = ("caffe", HOME)  # what a script may call it


def script(path: Path) -> list[Finding]:
    """Whether a script is Python 3, and whether what it takes from caffe is in netspec."""
    try:
        with tokenize.open(path) as file:
            text = file.read()
        nodes = list(ast.walk(ast.parse(text, str(path))))
    except (SyntaxError, ValueError) as e:
        where = f"{path}:{getattr(e, 'lineno', None) or 1}"
        return _old(e, where) or [Finding(PROBLEM, where, f"is no Python: {e}", "mend the line")]
    lines, found = _uses(path, nodes)
    lacks = {name: hint for name in lines if (hint := lacking(name.split("."))) is not None}
    found += [Finding(PROBLEM, f"{path}:{lines[name]}", f"caffe.{name} is not in netspec{hint}",
                      "write it otherwise (docs/pycaffe.md lists what there is)")
              for name, hint in lacks.items() if name.rpartition(".")[0] not in lacks]
    scaled = "raw_scale" in text or "255" in text
    if not scaled and any(name.endswith("io.load_image") for name in lines):
        found.append(Finding(
            NOTE, str(path), "load_image gives RGB in 0..1; nets of Caffe read BGR in 0..255 less a mean",
            "io.Transformer: set_raw_scale(255), set_channel_swap((2, 1, 0)), set_mean"))
    known = listed(name for name in lines if name and name not in lacks)
    said = f"uses of caffe that are here: {known}" if lines else "does not import caffe"
    return [Finding(OK, str(path), said), *found]


def _old(problem: Exception, where: str) -> list[Finding]:
    """That a line is Python 2, if what it would raise shows it."""
    said = python2(problem)
    what = said and said.removesuffix(f"; {CONVERT}").removeprefix(f"{where}: ")
    return [Finding(PROBLEM, where, what, CONVERT)] if what else []


def _uses(path: Path, nodes: Sequence[ast.AST]) -> tuple[dict[str, int], list[Finding]]:
    """Name below caffe -> the first line of a script that has it; and what else is wrong."""
    found: list[Finding] = []
    lines: dict[str, int] = {}
    places: dict[str, str] = {}  # name in the script -> the module of caffe that it stands for
    defined = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    guarded = {id(n) for each in nodes if isinstance(each, ast.Try) for n in ast.walk(each)}
    for node, module, name, stands_for in _imported(nodes):
        top, _, below = module.partition(".")
        defined.add(name)
        if top in CAFFES:
            places[name] = stands_for.partition(".")[2]
            lines.setdefault(below, node.lineno)
        elif not (id(node) in guarded or (path.parent / top).exists() or path.with_name(f"{top}.py").exists()
                  or importlib.util.find_spec(top)):
            where = f"{path}:{node.lineno}"
            found += _old(ImportError(f"No module named '{top}'"), where) or [Finding(
                NOTE, where, f"module '{top}' is not here", "install it, or put it beside the script")]
    for each in nodes:
        if isinstance(each, ast.Attribute):
            found += _old(AttributeError(f"attribute '{each.attr}'"), f"{path}:{each.lineno}")
            base, _, rest = ast.unparse(each).partition(".")
            if base in places and rest.replace(".", "_").isidentifier():
                lines.setdefault(f"{places[base]}.{rest}".lstrip("."), each.lineno)
        elif isinstance(each, ast.Name) and each.id not in defined and id(each) not in guarded:
            found += _old(NameError(f"name '{each.id}' is not defined"), f"{path}:{each.lineno}")
    return lines, found


def _imported(nodes: Sequence[ast.AST]) -> Iterator[tuple[ast.stmt, str, str, str]]:
    """What statements import: the module (or its name), the name it gets, and what that stands for."""
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.split(".")[0]
                yield node, alias.name, alias.asname or top, alias.name if alias.asname else top
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                module = node.module if alias.name == "*" else f"{node.module}.{alias.name}"
                yield node, module, alias.asname or alias.name, module


def lacking(names: Sequence[str]) -> str | None:
    """None if netspec has what caffe calls NAME.NAME...; else the nearest as `closest` words it, or ""."""
    thing = importlib.import_module(HOME)
    for name in filter(None, ".".join(OTHERWISE.get(name, name) for name in names).split(".")):
        if thing is layers:
            return None if name in REGISTRY else closest(name, REGISTRY)
        if not hasattr(thing, name):
            return closest(name, [known for known in dir(thing) if not known.startswith("_")])
        thing = getattr(thing, name)
        if not isinstance(thing, ModuleType | Layers | Parameters | type(params.Pooling)):
            return None  # what classes and functions have is not looked at
    return None
