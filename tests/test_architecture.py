"""How the package is built: which wing may import which, how large a file may be, what no file may do."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache

import pytest
import wings
from wings import MODULES, ROW, imported, running, wing

from netspec.cli.main import COMMANDS

PROJECT, PACKAGE = wings.PROJECT, wings.PACKAGE
FORWARDERS = {"io", "draw", "coord_map", "classifier", "detector", "run"}  # names that scripts import
DOORS = {"__init__", "__main__", *FORWARDERS}  # may import any wing, and no wing imports them
FACES = {"__init__", "pycaffe", "ops", *FORWARDERS}  # may hand on names that they do not define
OPTIONAL = {"h5py", "lmdb", "leveldb", "matplotlib", "sklearn", "safetensors", "torchvision", "cv2", "skimage", "onnx",
            "onnxruntime", "pycocotools", "openvino", "imageio_ffmpeg", "pydot", "grpc_tools", "tensorboard", "tensorflow", "keras", "pyarrow", "webdataset",
            "braceexpand", "ray", "gradio", "netron"}


FOLDERS = ("models", "solvers", "tools", "data")
SOURCES = [*MODULES.values(), *(path for folder in FOLDERS for path in (PROJECT / folder).rglob("*.py"))]
TESTS = list((PROJECT / "tests").rglob("*.py"))
INNER = sorted(set(MODULES) - DOORS)


@cache
def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports_of(name):
    """(module, name) of what a module imports from the package."""
    return set(imported(MODULES[name], tree_of(MODULES[name])))


@cache
def nodes_of(path):
    return list(ast.walk(tree_of(path)))


@pytest.fixture(scope="module", autouse=True)
def trees():
    """A million nodes, which the garbage collector would look through in all later tests."""
    yield
    for kept in (tree_of, nodes_of, imports_of):
        kept.cache_clear()


def calls_of(path) -> Iterator[tuple[str, ast.Call]]:
    """Calls of what has a name, with the one before its point, such as os.system; '' for those of anything else."""
    for node in nodes_of(path):
        if isinstance(node, ast.Call):
            func = node.func
            before = f"{func.value.id}." if isinstance(func, ast.Attribute) and isinstance(func.value, ast.Name) else ""
            yield func.id if isinstance(func, ast.Name) else before and before + func.attr, node


def at(path, node=None):
    """What a mistake is said of: the file, and the line."""
    return f"{path.relative_to(PROJECT)}{f':{node.lineno}' if node else ''}"


def test_every_file_stands_in_a_wing_or_is_a_door():
    assert {wing(name) for name in MODULES} == ROW.keys() | DOORS


def test_wings_import_from_lower_rows_only():
    wrong = [f"{name} imports {module}, which {'stands above all wings' if wing(module) in DOORS else 'is not below it'}"
             for name in INNER for module, _ in imports_of(name)
             if wing(module) in DOORS or wing(module) != wing(name) and ROW[wing(module)] >= ROW[wing(name)]]
    assert not wrong


def test_modules_of_a_wing_do_not_import_in_circles():
    needs = {name: {module for module, _ in imports_of(name)} for name in MODULES}
    done: set[str] = set()
    while len(done) < len(needs):
        ready = {name for name in needs if name not in done and needs[name] <= done | {name}}
        assert ready, f"a circle among {', '.join(sorted(needs.keys() - done))}"
        done |= ready


def test_the_check_sees_imports_of_all_kinds():
    text = ("from . import metrics\nfrom ..ops.base import Param\nfrom ..proto import caffe_pb2\nimport netspec.net.weights\n"
            "from netspec import net\nfrom .. import __version__\nif TYPE_CHECKING:\n    from ..cli.main import main\n"
            "def f():\n    from ..train import stages\n")
    assert set(imported(PACKAGE / "base" / "imaginary.py", ast.parse(text))) == {
        ("base.metrics", ""), ("ops.base", "Param"), ("proto.caffe_pb2", ""), ("net.weights", ""), ("net", ""),
        ("__init__", "__version__"), ("train.stages", "")}


def defined(tree: ast.Module) -> set[str]:
    """The names that a module makes itself, at its own level, with what stands under if and try there."""
    names = set()
    for node in tree.body:
        for inner in ast.walk(node) if isinstance(node, ast.If | ast.Try) else [node]:
            if isinstance(inner, ast.FunctionDef | ast.ClassDef):
                names.add(inner.name)
            elif isinstance(inner, ast.Assign | ast.AnnAssign):
                targets = inner.targets if isinstance(inner, ast.Assign) else [inner.target]
                names |= {n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)}
    return names


def test_names_are_imported_from_where_they_are_defined():
    there = {module: defined(tree_of(path)) for module, path in MODULES.items()}
    wrong = [f"{name} imports {what} from {module}, which only hands it on" for name in INNER for module, what in imports_of(name)
             if what and module not in FACES and module != "proto.caffe_pb2" and what not in there[module]]
    assert not wrong


def test_files_functions_and_lines_stay_small():
    wrong = []
    for path in SOURCES:
        lines = path.read_text(encoding="utf-8").splitlines()
        wrong += [f"{at(path)}: {len(lines)} lines"] if len(lines) > 400 else []
        wrong += [f"{at(path)}:{number}: {len(line)} characters" for number, line in enumerate(lines, 1) if len(line) > 110]
        wrong += [f"{at(path, node)}: {node.name}: {node.end_lineno - node.lineno + 1} lines" for node in nodes_of(path)
                  if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno >= 60]
    assert not wrong


def libraries(node: ast.AST) -> set[str]:
    """What other packages an import names, without the modules in them."""
    names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else \
        [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
    return {name.split(".")[0] for name in names}


def test_arguments_and_printing_stand_in_cli():
    wrong = []
    for name, path in MODULES.items():
        if wing(name) in ("cli", "__main__"):
            continue
        wrong += [f"{at(path, node)}: argparse" for node in nodes_of(path) if "argparse" in libraries(node)]
        wrong += [f"{at(path, call)}: print" for what, call in calls_of(path) if what == "print"]
        # a path that a person gives is looked for once, at the door; those that prototxts name, by what reads them
        if wing(name) not in ("pycaffe", "base", "ops", "data", "train") and ("base.files", "find") in imports_of(name):
            wrong.append(f"{name} looks for paths")
    assert not wrong


def dangerous(call: ast.Call, name: str) -> bool:
    given = {k.arg: ast.unparse(k.value) for k in call.keywords if k.arg in ("shell", "allow_pickle", "weights_only")}
    return name in ("eval", "exec", "os.system", "__import__") or "True" in (given.get("shell"), given.get("allow_pickle")) \
        or name == "torch.load" and given.get("weights_only") != "True"


def test_nothing_dangerous():
    """No code is run out of files, no error is hidden."""
    wrong = []
    for path in SOURCES:
        for node in nodes_of(path):
            if isinstance(node, ast.ExceptHandler) and node.type is None:
                wrong.append(f"{at(path, node)}: a bare except")
            if found := {"pickle", "cPickle", "dill", "shelve", "marshal", "joblib"} & libraries(node):
                wrong.append(f"{at(path, node)}: {found}")
        wrong += [f"{at(path, call)}: {ast.unparse(call)}" for name, call in calls_of(path) if dangerous(call, name)]
    assert not wrong


def test_optional_libraries_are_imported_where_they_are_used():
    wrong = []
    for path in SOURCES:
        for node in tree_of(path).body:  # the module's own level, with what stands under if, try and with there
            for inner in [node] if not isinstance(node, ast.If | ast.Try | ast.With) else running(node):
                wrong += [f"{at(path, inner)}: {found}" for found in [OPTIONAL & libraries(inner)] if found]
    assert not wrong


@pytest.mark.skipif(sys.platform == "win32", reason="files have no such mode")
def test_what_begins_as_a_program_can_be_run():
    assert not [path.name for path in SOURCES if path.read_bytes().startswith(b"#!") and not path.stat().st_mode & 0o100]


def test_few_types_are_forced():
    """`type: ignore` and casts are fewer than 20, each with its reason behind it."""
    forced = [line for path in SOURCES for line in path.read_text(encoding="utf-8").splitlines()
              if re.search(r"#\s*type:\s*ignore|\bcast\(", line)]
    assert len(forced) < 20
    assert not [line for line in forced if not re.search(r"# (type: ignore\[[\w, -]+\]  # )?\w{2}", line)]


def test_tests_stand_beside_what_they_test():
    assert {path.parent.name for path in TESTS if path.name.startswith("test_")} <= {"tests", "models", "hostile", "browser", *ROW}


@pytest.mark.parametrize("module, without", [
    ("netspec", "torch numpy scipy PIL h5py"),
    ("netspec.base.metrics", "torch PIL h5py"),
    ("netspec.proto.text", "torch PIL h5py"),
    ("netspec.cli.main", "torch PIL h5py"),
    ("netspec.train.stages", "h5py lmdb matplotlib sklearn torchvision"),  # and of the solver, which it imports
])
def test_importing_does_not_load_what_is_not_needed(module, without):
    code = f"import sys, {module}; print([m for m in {without.split()} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_help_loads_no_torch():
    """One process asks for the help of every command; what stands in sys.modules afterwards, some help has loaded."""
    code = ("import contextlib, io, sys\nfrom netspec.cli.main import COMMANDS, main\n"
            "for name in [*COMMANDS, 'data check']:\n"
            "    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):\n"
            "        main([*name.split(), '--help'])\n"
            "    loaded = {'torch', 'scipy', 'PIL'} & set(sys.modules)\n"
            "    if loaded:\n        sys.exit(f'netspec {name} --help loads {sorted(loaded)}')\n")
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert COMMANDS
