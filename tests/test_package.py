"""What an install gets: the name, the versions of Python, and what the wheel holds."""

import re
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
TEXTS = [*PROJECT.glob("*.md"), *PROJECT.glob("docs/*.md"), *PROJECT.glob("data/*/*.md"), PROJECT / "Makefile",
         *(path for name in ("netspec", "models", "solvers", "data", "tools") for path in (PROJECT / name).rglob("*.py"))]


def test_nothing_advises_to_install_netspec_by_name():
    """The package index has another project of that name, and not this one."""
    wrong = [f"{path}: {found[0]}" for path in TEXTS
             if (found := re.search(r"pip3? install [^\n`]*\bnetspec\b", path.read_text(encoding="utf-8")))]
    assert not wrong
    assert re.search(r"^name = netspec-fcn$", (PROJECT / "setup.cfg").read_text(), re.MULTILINE)
