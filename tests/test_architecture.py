"""How the package is built: which wing may import which, how large a file may be, what no file may do."""

import ast
import re
import subprocess
import sys
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
EACH = pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PROJECT)))


@cache
def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def test_every_file_stands_in_a_wing_or_is_a_door():
    assert {wing(name) for name in MODULES} == ROW.keys() | DOORS


@pytest.mark.parametrize("name", sorted(set(MODULES) - DOORS))
def test_wings_import_from_lower_rows_only(name):
    own = wing(name)
    for module, _ in imported(MODULES[name], tree_of(MODULES[name])):
        other = wing(module)
        assert other not in DOORS, f"{name} imports {other}, which stands above all wings"
        assert other == own or ROW[other] < ROW[own], f"{name} imports {module}, which is not below it"


def test_modules_of_a_wing_do_not_import_in_circles():
    needs = {name: {m for m, _ in imported(path, tree_of(path))} for name, path in MODULES.items()}
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


@pytest.mark.parametrize("name", sorted(set(MODULES) - DOORS))
def test_names_are_imported_from_where_they_are_defined(name):
    for module, what in imported(MODULES[name], tree_of(MODULES[name])):
        if what and module not in FACES and module != "proto.caffe_pb2":
            assert what in defined(tree_of(MODULES[module])), f"{name} imports {what} from {module}, which only hands it on"


@EACH
def test_files_functions_and_lines_stay_small(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 400
    assert not [number for number, line in enumerate(lines, 1) if len(line) > 110]
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 60, f"{node.name}: {node.end_lineno - node.lineno + 1} lines"


@pytest.mark.parametrize("name", sorted(name for name in MODULES if wing(name) not in ("cli", "__main__")))
def test_arguments_and_printing_stand_in_cli(name):
    tree = tree_of(MODULES[name])
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else \
            [node.module] if isinstance(node, ast.ImportFrom) else []
        assert "argparse" not in names, f"line {node.lineno}"
    assert not [call.lineno for what, call in calls(tree) if what == "print"]
    # a path that a person gives is looked for once, at the door; those that prototxts name, by what reads them
    if wing(name) not in ("pycaffe", "base", "ops", "data", "train"):
        assert ("base.files", "find") not in set(imported(MODULES[name], tree))


def calls(tree: ast.AST) -> list[tuple[str, ast.Call]]:
    return [(ast.unparse(node.func), node) for node in ast.walk(tree) if isinstance(node, ast.Call)]


@EACH
def test_nothing_dangerous(path):
    """No code is run out of files, no error is hidden."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"line {node.lineno}: a bare except"
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module]
        assert not {"pickle", "cPickle", "dill", "shelve", "marshal", "joblib"} & {n.split(".")[0] for n in names}, node.lineno
    for name, call in calls(tree_of(path)):
        keywords = {k.arg: ast.unparse(k.value) for k in call.keywords}
        assert name not in ("eval", "exec", "os.system", "__import__"), f"line {call.lineno}: {name}"
        assert keywords.get("shell") != "True" and keywords.get("allow_pickle") != "True", call.lineno
        assert name != "torch.load" or keywords.get("weights_only") == "True", call.lineno


@EACH
def test_optional_libraries_are_imported_where_they_are_used(path):
    for node in tree_of(path).body:  # the module's own level, with what stands under if, try and with there
        for inner in [node] if not isinstance(node, ast.If | ast.Try | ast.With) else running(node):
            names = [alias.name for alias in inner.names] if isinstance(inner, ast.Import) else \
                [inner.module or ""] if isinstance(inner, ast.ImportFrom) else []
            assert not OPTIONAL & {name.split(".")[0] for name in names}, f"line {inner.lineno}"


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
