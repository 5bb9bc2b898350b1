"""What a Python script wants of Caffe that is not here, or of Python 2; nothing of it is run."""

import ast
import importlib
import importlib.util
import tokenize
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from ..base.errors import closest, listed
from ..ops import REGISTRY
from ..proto import spec
from ..pycaffe import script as run
from .finding import NOTE, OK, PROBLEM, Finding

CAFFES = ("caffe", "netspec")  # what a script may call it


def script(path: Path) -> list[Finding]:
    """Whether a script is Python 3, and whether what it takes from caffe is in netspec."""
    def old(problem: Exception, line: int) -> list[Finding]:
        said = run.python2(problem)
        what = said and said.removesuffix(f"; {run.CONVERT}").removeprefix(f"{path}:{line}: ")
        return [Finding(PROBLEM, f"{path}:{line}", what, run.CONVERT)] if what else []

    try:
        with tokenize.open(path) as file:
            text = file.read()
        nodes = list(ast.walk(ast.parse(text, str(path))))
    except (SyntaxError, ValueError) as e:
        line = getattr(e, "lineno", None) or 1
        return old(e, line) or [Finding(PROBLEM, f"{path}:{line}", f"is no Python: {e}", "mend the line")]
    found, places = [], {}  # module of caffe -> the names that stand for it in the script
    guarded = {id(inner) for node in nodes if isinstance(node, ast.Try) for inner in ast.walk(node)}
    defined = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    used: dict[str, int] = {}  # name below caffe -> its first line
    for node in nodes:
        for module, name, stands_for in _imports(node):
            top = module.split(".")[0]
            defined.add(name)
            if top in CAFFES:
                places[name] = stands_for.partition(".")[2]
                used.setdefault(module.partition(".")[2], node.lineno)
            elif id(node) not in guarded and not _here(top, path.parent):
                found += old(ImportError(f"No module named '{top}'"), node.lineno) or [Finding(
                    NOTE, f"{path}:{node.lineno}", f"module '{top}' is not here", "install it, or put it beside the script")]
    for node in nodes:
        if isinstance(node, ast.Attribute):
            found += old(AttributeError(f"attribute '{node.attr}'"), node.lineno)
            base, _, rest = ast.unparse(node).partition(".")
            if base in places and rest.replace(".", "_").isidentifier():
                used.setdefault(f"{places[base]}.{rest}".lstrip("."), node.lineno)
        elif isinstance(node, ast.Name) and node.id not in defined and id(node) not in guarded:
            found += old(NameError(f"name '{node.id}' is not defined"), node.lineno)
    lacks = {name: hint for name in used if (hint := lacking(name.split("."))) is not None}
    found += [Finding(PROBLEM, f"{path}:{used[name]}", f"caffe.{name} is not in netspec{hint}",
                      "write it otherwise (docs/pycaffe.md lists what there is)")
              for name, hint in lacks.items() if name.rpartition(".")[0] not in lacks]
    if any(name.endswith("io.load_image") for name in used) and "raw_scale" not in text and "255" not in text:
        found.append(Finding(NOTE, str(path), "load_image gives RGB in 0..1; nets of Caffe read BGR in 0..255 less a mean",
                             "io.Transformer: set_raw_scale(255), set_channel_swap((2, 1, 0)), set_mean"))
    known = [name for name in used if name and name not in lacks]
    return [Finding(OK, str(path), f"uses of caffe that are here: {listed(known)}" if used else "does not import caffe"), *found]


def _imports(node: ast.AST) -> Iterator[tuple[str, str, str]]:
    """What a statement imports: the module (or its name), the name it gets, and what that stands for."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            top = alias.name.split(".")[0]
            yield alias.name, alias.asname or top, alias.name if alias.asname else top
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        for alias in node.names:
            module = node.module if alias.name == "*" else f"{node.module}.{alias.name}"
            yield module, alias.asname or alias.name, module


def _here(module: str, folder: Path) -> bool:
    return (folder / module).exists() or (folder / f"{module}.py").exists() or importlib.util.find_spec(module) is not None


def lacking(names: list[str]) -> str | None:
    """None if netspec has what caffe calls NAME.NAME...; else the nearest name, as `closest` words it, or ""."""
    thing = importlib.import_module("netspec")
    for name in filter(None, ".".join(run.OTHERWISE.get(name, name) for name in names).split(".")):
        if thing is spec.layers:
            return None if name in REGISTRY else closest(name, REGISTRY)
        if not hasattr(thing, name):
            return closest(name, [known for known in dir(thing) if not known.startswith("_")])
        thing = getattr(thing, name)
        if not isinstance(thing, (ModuleType, spec.Layers, spec.Parameters, type(spec.params.Pooling))):
            return None  # what classes and functions have is not looked at
    return None
