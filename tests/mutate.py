"""What do the tests not notice? Small changes of the code, one at a time, each in a copy of the project.

    python tests/mutate.py --count 20 ops netspec/data/tree.py
    make mutants ARGS="--count 300 --seed 1"

Draws `count` changes over wings or files (default: all wings): another comparison, plus for minus, and for or, a number
off by one, a condition negated, a statement deleted, two arguments swapped. After each the tests of the wing run, until
one fails. Survivors are printed with place and change; each is a missing test, code that nobody needs, or a change that
changes nothing. The same seed goes on where it stopped, and draws the same while the code stays as it is.
"""

import argparse
import ast
import contextlib
import copy
import itertools
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

PROJECT = Path(__file__).resolve().parent.parent
OTHER = {ast.Lt: ast.LtE, ast.Gt: ast.GtE, ast.Eq: ast.NotEq, ast.In: ast.NotIn, ast.Is: ast.IsNot, ast.And: ast.Or,
         ast.Add: ast.Sub}
OTHER |= {new: old for old, new in OTHER.items()}
DELETED = (ast.Expr, ast.AugAssign, ast.Raise, ast.Assert, ast.Continue, ast.Break)
SYMMETRIC = {"min", "max", "math.gcd", "np.array_equal", "torch.equal"}  # arguments in any order
GENERATED = {"caffe_pb2.py"}
MEMORY = 8 << 30  # bytes that a test run may take, since a change may be an endless list
UNNOTICED = "unnoticed"


class Change(NamedTuple):
    file: str  # from the project's folder
    line: int
    at: int  # bytes of the file before what is changed
    old: str
    new: str
    context: str  # the line

    def __str__(self) -> str:
        old, new = (" ".join(text.split()) for text in (self.old, self.new))
        return f"{self.file}:{self.line}: {old} -> {new}" + (f"  in  {self.context}" if len(old) < 20 else "")

    def made(self, source: bytes) -> bytes:
        return source[: self.at] + self.new.encode() + source[self.at + len(self.old.encode()):]


def variants(node: ast.AST) -> Iterator[ast.AST | str]:
    """What may stand in a node's place."""
    if isinstance(node, ast.Compare):
        for i, op in enumerate(node.ops):
            changed = copy.deepcopy(node)
            changed.ops[i] = OTHER[type(op)]()
            yield changed
    elif isinstance(node, ast.BinOp | ast.BoolOp | ast.AugAssign) and type(node.op) in OTHER:
        changed = copy.deepcopy(node)
        changed.op = OTHER[type(node.op)]()
        yield changed
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
        yield ast.Constant(node.value + 1)
    elif isinstance(node, ast.Call) and ast.unparse(node.func) not in SYMMETRIC and len(node.args) > 1:
        changed = copy.deepcopy(node)
        changed.args[:2] = changed.args[1::-1]
        if not any(isinstance(arg, ast.Starred) for arg in node.args[:2]) and ast.dump(changed) != ast.dump(node):
            yield changed
    if isinstance(node, DELETED) and not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
        yield "pass"


def changes(file: str, source: bytes) -> list[Change]:
    """All changes of a file, in the order of its lines."""
    lines, found = source.splitlines(keepends=True), []
    starts = [0, *itertools.accumulate(map(len, lines))]

    def add(node: ast.expr | ast.stmt, make: Callable[[str], str]) -> None:
        begin = starts[node.lineno - 1] + node.col_offset
        old = source[begin : starts[node.end_lineno - 1] + node.end_col_offset].decode()
        found.append(Change(file, node.lineno, begin, old, make(old), lines[node.lineno - 1].decode().strip()))

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.JoinedStr | ast.Import | ast.ImportFrom):  # parts of f-strings have no place before 3.12
            return
        for new in variants(node):
            add(node, lambda old, new=new: new if isinstance(new, str) else ast.unparse(new))
        for name, value in ast.iter_fields(node):
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST) and name not in ("annotation", "returns"):
                    visit(child)
                    if name in ("test", "ifs"):
                        add(child, lambda old: f"not ({old})")

    visit(ast.parse(source))
    return sorted(found)


def drawn(root: Path, targets: list[str], seed: int, count: int) -> list[Change]:
    """The changes that a seed draws from wings and files."""
    everything: list[Change] = []
    for path in sorted((root / "netspec").glob("*/*.py")):
        file = path.relative_to(root).as_posix()
        if path.name not in GENERATED and (not targets or path.parent.name in targets or file in targets):
            everything += changes(file, path.read_bytes())
    return random.Random(seed).sample(everything, min(count, len(everything)))


def copied(root: Path, place: Path) -> None:
    """The project as it stands, with what is not committed yet, without what git ignores."""
    listed = subprocess.run(["git", "ls-files", "-coz", "--exclude-standard"], cwd=root, capture_output=True, check=True)
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (root / name).is_file():  # a removed file is listed until that is committed
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / name, place / name)


def failed(place: Path, tests: list[str], limit: float) -> str:
    """How tests of a copy fail: 'failed', 'time', or '' if they pass."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    process = subprocess.Popen(
        command, cwd=place, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(place)},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY)))
    try:
        return "" if process.wait(limit) in (0, 5) else "failed"  # 5: there are no tests
    except subprocess.TimeoutExpired:
        return "time"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # and what it started
        process.wait()


def judged(change: Change, place: Path, then: list[str], limits: dict[str, float]) -> str:
    """How a change is noticed, or UNNOTICED. limits: tests -> seconds, filled by runs of the unchanged copy."""
    path, wing = place / change.file, Path(change.file).parent.name
    suites = [[f"tests/{wing}"], *([then] if then else [])]
    for suite in suites:
        if str(suite) not in limits:
            print(f"{' '.join(suite)} without a change", flush=True)
            begin = time.monotonic()
            if failed(place, suite, 3600):
                sys.exit(f"{' '.join(suite)}: tests fail before anything is changed, in a copy of what git lists")
            limits[str(suite)] = 20 + 3 * (time.monotonic() - begin)
    source, own = path.read_bytes(), f"tests/{wing}/test_{path.name}"
    parts = [(suite, limits[str(suite)]) for suite in suites]
    if (place / own).is_file():  # first, as the likeliest to notice
        parts[:1] = [([own], parts[0][1]), ([f"tests/{wing}", f"--ignore={own}"], parts[0][1])]
    path.write_bytes(change.made(source))
    try:
        return next(filter(None, (failed(place, *part) for part in parts)), UNNOTICED)
    finally:
        path.write_bytes(source)


def main(argv: list[str] | None = None, root: Path = PROJECT) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="WING|FILE", help="ops, or netspec/ops/pool.py (default: all wings)")
    parser.add_argument("--count", type=int, default=20, metavar="N", help="changes to draw (default 20)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="which ones (default 0)")
    parser.add_argument("--then", nargs="+", default=[], metavar="TESTS", help="run on what the wing's own do not notice")
    parser.add_argument("--again", action="store_true", help="try what was not noticed once more")
    args = parser.parse_args(argv)
    todo = drawn(root, args.targets, args.seed, args.count)
    kept = root / "build" / f"mutants-{args.seed}.json"
    known = json.loads(kept.read_text()) if kept.exists() else {}
    if args.again:
        known = {key: how for key, how in known.items() if how != UNNOTICED}
    verdicts: dict[Change, str] = {}
    limits: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="mutants-") as place, contextlib.suppress(KeyboardInterrupt):
        copied(root, Path(place))
        for number, change in enumerate(todo, 1):
            key, begin = f"{change} at {change.at}", time.monotonic()
            if key not in known:
                known[key] = judged(change, Path(place), args.then, limits)
                kept.parent.mkdir(exist_ok=True)
                kept.write_text(json.dumps(known, indent=1))
                print(f"[{number}/{len(todo)}] {known[key]}, {time.monotonic() - begin:.0f} s: {change}", flush=True)
            verdicts[change] = known[key]
    survivors = [change for change, how in verdicts.items() if how == UNNOTICED]
    print("", *sorted(map(str, survivors)), f"{len(verdicts) - len(survivors)} of {len(verdicts)} noticed", sep="\n")
    return 0 if len(verdicts) == len(todo) else 130


if __name__ == "__main__":
    sys.exit(main())
