"""The wings of the package and who imports whom, read from the code: for tests/test_architecture.py and the map in docs/.

    python tests/wings.py docs/wings.svg
"""

import ast
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
PACKAGE = PROJECT / "netspec"

# Lowest first. A wing imports only from rows above its own; wings of one row do not import each other.
ROWS = ("base", "proto", "ops", "data", "net", "train look convert", "score pycaffe", "check papers", "web", "cli")
ROW = {wing: number for number, row in enumerate(ROWS) for wing in row.split()}


def dotted(path: Path) -> str:
    """A file's module, without the package's name: 'net.graph'; 'net' for its __init__; '__init__' for the face."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


MODULES = {dotted(path): path for path in sorted(PACKAGE.rglob("*.py"))}


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


def imported(path: Path, tree: ast.AST) -> Iterator[tuple[str, str]]:
    """(module, name) of what a file imports from the package, anywhere in it; the name is '' for a whole module."""
    package = list(path.relative_to(PACKAGE).parts[:-1])
    for node in running(tree):
        if isinstance(node, ast.Import):
            found = [(alias.name, "") for alias in node.names if alias.name.split(".")[0] == "netspec"]
        elif isinstance(node, ast.ImportFrom) and node.level:
            base = ".".join(["netspec", *package[: len(package) - node.level + 1], *filter(None, [node.module])])
            found = [(base, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "netspec":
            found = [(node.module, alias.name) for alias in node.names]
        else:
            continue
        for module, name in found:
            whole = f"{module}.{name}".rstrip(".").removeprefix("netspec").lstrip(".")
            if whole in MODULES:
                yield whole, ""
            else:
                yield module.removeprefix("netspec").lstrip(".") or "__init__", name


def wing(module: str) -> str:
    return module.split(".")[0]


def arrows() -> Counter[tuple[str, str]]:
    """(wing, other wing) -> how many modules of the first import from the second."""
    found: Counter[tuple[str, str]] = Counter()
    for name, path in MODULES.items():
        others = {wing(module) for module, _ in imported(path, ast.parse(path.read_text(encoding="utf-8")))}
        found.update((wing(name), other) for other in others - {wing(name)} if {wing(name), other} <= ROW.keys())
    return found


CELL, LEFT, TOP = 38, 150, 66  # side of a cell, and where the first begins, in the picture's units


def picture() -> str:
    """The import table as SVG: a line a wing, highest first, and in it how many modules import from which wing below."""
    order = list(ROW)
    found = arrows()
    parts = []
    for i, upper in enumerate(reversed(order)):
        y = TOP + i * CELL
        count = sum(wing(module) == upper for module in MODULES)
        parts.append(f'<text x="{LEFT - 10}" y="{y + 24}" text-anchor="end"><tspan font-weight="bold">{upper}</tspan>'
                     f'<tspan font-size="11" dx="8">{count} modules</tspan></text>')
        for j, lower in enumerate(order):
            x, number = LEFT + j * CELL, found[upper, lower]
            fill = "#33475b" if upper == lower else "#f4f4f4" if ROW[lower] >= ROW[upper] else "#dbe7f3"
            parts.append(f'<rect x="{x}" y="{y}" width="{CELL - 2}" height="{CELL - 2}" fill="{fill}"/>')
            if number:
                parts.append(f'<text x="{x + CELL / 2 - 1:g}" y="{y + 24}">{number}</text>')
    for j, lower in enumerate(order):
        x = LEFT + j * CELL + CELL / 2
        parts.append(f'<text transform="translate({x + 4:g} {TOP - 8}) rotate(-45)" text-anchor="start">{lower}</text>')
    side = len(order) * CELL
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + side + 50} {TOP + side + 10}" '
                      'font-family="sans-serif" font-size="14" text-anchor="middle">',
                      '<rect width="100%" height="100%" fill="white"/>', *parts, "</svg>", ""])


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(picture(), encoding="utf-8")
