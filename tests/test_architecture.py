"""How the package is built: who may import whom, how large a file may be, what no file may do."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
PACKAGE = PROJECT / "netspec"

# Lowest first; a module imports only from rows above its own. Modules of one row do not import each other.
# The numbers mark where each level of the design begins.
LEVELS = (
    "papers",
    "check",
    "score",
    "convert",
    "look",
    "net",
    "base",
    "base.errors",
    "base.files base.log proto data.fetching",  # 0
    "base.metrics train.updates base.machine ops.blobs papers.published pycaffe.io",
    "proto.upgrade ops.fillers look.drawing proto.hdf5 proto.wire proto.spec pycaffe.session",  # 1
    "proto.text net.weights __init__ look.plot",
    "ops.base",  # 2
    "ops.conv ops.neuron ops.softmax ops.output ops.python ops.recurrent ops.shape",  # 3
    "ops.pool ops.dense ops.norm ops.reduce ops.loss ops.resample",
    "ops.regions",
    "ops",
    "data.feed",
    "data.arrays ops.sampling",
    "data.images data.layouts",
    "data.tree",
    "data.segmentation",
    "data.transforms",
    "data.listed",
    "data.lmdb data.windows",
    "net.coords",  # 4
    "net.graph",
    "data.batches train.jobs net.deploy net.backprop look.streams base.provenance",  # 5
    "net.fields",
    "net.module",  # 6
    "convert.importers",  # 7
    "net.surgery train.snapshot net.layerwise train.display net.rewrite",  # 8
    "train.debuginfo convert.agree convert.onnxops score.stitch",
    "convert.onnx convert.totorch convert.trunks pycaffe.net",
    "train.solver pycaffe.classifier",
    "train.preflight look.pictures pycaffe.detector look.curves",  # 9
    "train.stages score.predict cli.convert look.describe check.data",
    "score.score",
    "papers.record",
    "score.infer papers.demo papers.timing pycaffe.solver papers.page papers.tables",  # 10
    "check.parity look.types pycaffe.script papers.verify",
    "look.layers data.get check.batch",
    "check.script check.weightcheck",
    "check.doctor",
    "look.figure3",
    "check.diff",
    "papers.studies",
    "cli.main",
    "pycaffe __main__ run detector classifier io draw coord_map",
)
OPTIONAL = {"h5py", "lmdb", "leveldb", "matplotlib", "sklearn", "safetensors", "torchvision", "cv2", "skimage", "onnx",
            "onnxruntime", "pydot", "grpc_tools", "tensorboard", "tensorflow", "keras"}
LEVEL = {name: number for number, row in enumerate(LEVELS) for name in row.split()}


def module_name(path: Path, root: Path = PACKAGE) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


MODULES = {module_name(path): path for path in PACKAGE.rglob("*.py")}
SOURCES = [*MODULES.values(), *(path for folder in ("models", "tools", "data") for path in (PROJECT / folder).rglob("*.py"))]
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in SOURCES}


def running(tree: ast.AST) -> list[ast.AST]:
    """All nodes but those behind `if TYPE_CHECKING:`."""
    found = []
    queue = [tree]
    while queue:
        node = queue.pop()
        found.append(node)
        hidden = node.body if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING" else ()
        queue += [child for child in ast.iter_child_nodes(node) if child not in hidden]
    return found


def part(name: str) -> str:
    """The module of the table that a dotted name in the package belongs to: 'proto.caffe_pb2' is 'proto'."""
    while name and name not in LEVEL and "." in name:
        name = name.rpartition(".")[0]
    return name


def imports(path: Path) -> set[str]:
    """The modules of the package that a file imports, anywhere in it."""
    package = list(path.relative_to(PACKAGE).parts[:-1])
    found = set()
    for node in running(TREES[path]):
        names = []
        if isinstance(node, ast.ImportFrom) and node.level:
            base = ".".join([*package[: len(package) - node.level + 1], *filter(None, [node.module])])
            names = [f"{base}.{alias.name}" if base else alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "netspec":
            names = [f"{node.module}.{alias.name}".removeprefix("netspec.") for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name.removeprefix("netspec.") for alias in node.names if alias.name.split(".")[0] == "netspec"]
        for name in names:
            known = part(name)
            found.add(known if known in LEVEL else "__init__")  # a name of the package itself, such as __version__
    return found


def test_every_module_has_one_level():
    rows = " ".join(LEVELS).split()
    assert len(rows) == len(set(rows))
    assert {part(name) for name in MODULES} == set(rows), "give a new module a row of LEVELS, above all that import it"


@pytest.mark.parametrize("name", sorted(MODULES))
def test_modules_import_from_lower_levels_only(name):
    own = part(name)
    wrong = {other for other in imports(MODULES[name]) if other != own and LEVEL[other] >= LEVEL[own]}
    assert not wrong, f"{name} imports {', '.join(sorted(wrong))}, which {'is' if len(wrong) == 1 else 'are'} not below it"


def test_the_check_sees_imports_of_all_kinds(tmp_path, monkeypatch):
    text = ("from . import solver\nfrom .ops.base import Param\nfrom .proto import caffe_pb2\nimport netspec.weights\n"
            "from netspec import graph\nfrom . import __version__\nif TYPE_CHECKING:\n    from .cli import main\n"
            "def f():\n    from .train import run\n")
    path = PACKAGE / "imaginary.py"
    monkeypatch.setitem(TREES, path, ast.parse(text))
    assert imports(path) == {"solver", "ops.base", "proto", "weights", "graph", "__init__", "train"}
    inner = PACKAGE / "ops" / "imaginary.py"
    monkeypatch.setitem(TREES, inner, ast.parse("from ..errors import Error\nfrom .base import Param\nfrom . import conv\n"))
    assert imports(inner) == {"errors", "ops.base", "ops.conv"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PROJECT)))
def test_files_stay_small(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def calls(tree: ast.AST) -> list[tuple[str, ast.Call]]:
    return [(ast.unparse(node.func), node) for node in ast.walk(tree) if isinstance(node, ast.Call)]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PROJECT)))
def test_nothing_dangerous(path):
    """No code is run out of files, no error is hidden."""
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"line {node.lineno}: a bare except"
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module]
        assert not {"pickle", "cPickle", "dill", "shelve", "marshal", "joblib"} & {n.split(".")[0] for n in names}, node.lineno
    for name, call in calls(TREES[path]):
        keywords = {k.arg: ast.unparse(k.value) for k in call.keywords}
        assert name not in ("eval", "exec", "os.system", "__import__"), f"line {call.lineno}: {name}"
        assert keywords.get("shell") != "True" and keywords.get("allow_pickle") != "True", call.lineno
        assert name != "torch.load" or keywords.get("weights_only") == "True", call.lineno


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PROJECT)))
def test_optional_libraries_are_imported_where_they_are_used(path):
    for node in TREES[path].body:  # the module's own level, with what stands under if, try and with there
        for inner in [node] if not isinstance(node, ast.If | ast.Try | ast.With) else ast.walk(node):
            names = [alias.name for alias in inner.names] if isinstance(inner, ast.Import) else \
                [inner.module or ""] if isinstance(inner, ast.ImportFrom) else []
            assert not OPTIONAL & {name.split(".")[0] for name in names}, f"line {inner.lineno}"


@pytest.mark.parametrize("module, without", [
    ("netspec", "torch numpy scipy PIL h5py"),
    ("netspec.base.metrics", "torch PIL h5py"),
    ("netspec.proto.text", "torch PIL h5py"),
    ("netspec.cli.main", "torch PIL h5py"),
    ("netspec.train.stages", "h5py lmdb matplotlib sklearn torchvision"),
    ("netspec.train.solver", "h5py lmdb matplotlib sklearn torchvision"),
])
def test_importing_does_not_load_what_is_not_needed(module, without):
    code = f"import sys, {module}; print([m for m in {without.split()} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
