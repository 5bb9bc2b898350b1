"""What a Python script wants of Caffe that is not here, or of Python 2; nothing of it is run."""

import ast
import importlib
import importlib.util
import tokenize
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

from ..base.errors import closest, listed
from ..ops import REGISTRY
from ..proto.spec import Layers, Parameters, layers, params
from ..pycaffe.script import CONVERT, HOME, OTHERWISE, python2
from . import NOTE, OK, PROBLEM, Finding

CAFFES = ("caffe", HOME)  # what a script may call it


def script(path: Path) -> list[Finding]:
    """Whether a script is Python 3, and whether what it takes from caffe is in netspec."""
    try:
        with tokenize.open(path) as file:
            text = file.read()
        uses = _Uses(path, list(ast.walk(ast.parse(text, str(path)))))
    except (SyntaxError, ValueError) as e:
        where = f"{path}:{getattr(e, 'lineno', None) or 1}"
        return _old(e, where) or [Finding(PROBLEM, where, f"is no Python: {e}", "mend the line")]
    found, lines = uses.found, uses.lines
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


class _Uses:
    """`lines`: name below caffe -> the first line of a script that has it. `found`: what else is wrong."""

    def __init__(self, path: Path, nodes: Sequence[ast.AST]) -> None:
        self.path = path
        self.found: list[Finding] = []
        self.lines: dict[str, int] = {}
        self.places: dict[str, str] = {}  # name in the script -> the module of caffe that it stands for
        self.defined = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        self.guarded = {id(n) for each in nodes if isinstance(each, ast.Try) for n in ast.walk(each)}
        for node in nodes:
            if isinstance(node, ast.Import | ast.ImportFrom):
                self.imports(node)
        for node in nodes:
            if isinstance(node, ast.Attribute | ast.Name):
                self.reads(node)

    def imports(self, node: ast.Import | ast.ImportFrom) -> None:
        for module, name, stands_for in _imported(node):
            top, _, below = module.partition(".")
            self.defined.add(name)
            if top in CAFFES:
                self.places[name] = stands_for.partition(".")[2]
                self.lines.setdefault(below, node.lineno)
            elif id(node) not in self.guarded and not _here(top, self.path.parent):
                where = f"{self.path}:{node.lineno}"
                self.found += _old(ImportError(f"No module named '{top}'"), where) or [Finding(
                    NOTE, where, f"module '{top}' is not here", "install it, or put it beside the script")]

    def reads(self, node: ast.Attribute | ast.Name) -> None:
        where = f"{self.path}:{node.lineno}"
        if isinstance(node, ast.Attribute):
            self.found += _old(AttributeError(f"attribute '{node.attr}'"), where)
            base, _, rest = ast.unparse(node).partition(".")
            if base in self.places and rest.replace(".", "_").isidentifier():
                self.lines.setdefault(f"{self.places[base]}.{rest}".lstrip("."), node.lineno)
        elif node.id not in self.defined and id(node) not in self.guarded:
            self.found += _old(NameError(f"name '{node.id}' is not defined"), where)


def _imported(node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, str, str]]:
    """What a statement imports: the module (or its name), the name it gets, and what that stands for."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            top = alias.name.split(".")[0]
            yield alias.name, alias.asname or top, alias.name if alias.asname else top
    elif node.module and not node.level:
        for alias in node.names:
            module = node.module if alias.name == "*" else f"{node.module}.{alias.name}"
            yield module, alias.asname or alias.name, module


def _here(module: str, folder: Path) -> bool:
    return ((folder / module).exists() or (folder / f"{module}.py").exists()
            or importlib.util.find_spec(module) is not None)


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
