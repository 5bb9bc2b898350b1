"""What an install gets: the name, the versions of Python, and what the wheel holds."""

import configparser
import contextlib
import importlib.metadata
import re
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

PROJECT = Path(__file__).resolve().parent.parent
TEXTS = [*PROJECT.glob("*.md"), *PROJECT.glob("docs/*.md"), *PROJECT.glob("data/*/*.md"), PROJECT / "Makefile",
         *(path for name in ("netspec", "models", "solvers", "data", "tools") for path in (PROJECT / name).rglob("*.py"))]


def test_nothing_advises_to_install_netspec_by_name():
    """The package index has another project of that name, and not this one."""
    wrong = [f"{path}: {found[0]}" for path in TEXTS
             if (found := re.search(r"pip3? install [^\n`]*\bnetspec\b", path.read_text(encoding="utf-8")))]
    assert not wrong
    assert re.search(r"^name = netspec-fcn$", (PROJECT / "setup.cfg").read_text(), re.MULTILINE)


def test_python_as_the_readme_names_it():
    """The README's claim, what pip asks, what ruff and mypy hold, and the pins that `make` installs go together."""
    setup, pyproject = configparser.ConfigParser(), (PROJECT / "pyproject.toml").read_text()
    setup.read(PROJECT / "setup.cfg")
    (least,) = re.findall(r"With Python (3\.\d+) or later", (PROJECT / "README.md").read_text(encoding="utf-8"))
    assert setup["options"]["python_requires"] == f">={least}"
    assert f'target-version = "py{least.replace(".", "")}"' in pyproject
    pins = [Requirement(line) for line in (PROJECT / "constraints.txt").read_text().splitlines() if line[0] != "#"]
    wrong = []
    for minor in range(int(least.partition(".")[2]), 14):
        version = f"3.{minor}"
        taken = [pin for pin in pins if pin.marker is None or pin.marker.evaluate({"python_version": version})]
        names = [canonicalize_name(pin.name) for pin in taken]
        wrong += [f"{name}: pinned {names.count(name)} times for {version}" for name in {*names} if names.count(name) > 1]
        asked = f"{setup['options']['install_requires']}\n{setup['options.extras_require']['test']}".split("\n")
        for requirement in map(Requirement, filter(None, asked)):
            found = [pin for pin in taken if canonicalize_name(pin.name) == canonicalize_name(requirement.name)]
            wrong += [] if found else [f"{requirement.name}: not pinned for {version}"]
            wrong += [f"{pin} for {version} is not {requirement}" for pin in found
                      if next(iter(pin.specifier)).version not in requirement.specifier]
        for pin in taken:  # what is installed here says which Python it takes
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                here = importlib.metadata.metadata(pin.name)
                if pin.specifier.contains(here["Version"]) and f"{version}.99" not in SpecifierSet(here["Requires-Python"] or ""):
                    wrong.append(f"{pin} needs Python {here['Requires-Python']}, not {version}")
    assert not wrong
