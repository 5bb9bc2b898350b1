"""What an install gets: the name, the versions of Python, and what the wheel holds."""

import configparser
import contextlib
import importlib.metadata
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import programs
import pytest
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


def test_fields_of_tuples_are_types():
    """Python 3.10 refuses a NamedTuple with a field of an enum of protobuf, unless it is quoted."""
    code = ("import sys, netspec.cli.solve, netspec.check.doctor, netspec.papers.studies, netspec.convert.onnx\n"
            "import netspec.pycaffe.net, netspec.train.stages, netspec.check.diff, netspec.score.score\n"
            "print([f'{name}.{key}.{field}' for name, module in list(sys.modules.items()) if name.startswith('netspec.')\n"
            "       for key, made in vars(module).items() if isinstance(made, type) and hasattr(made, '_fields')\n"
            "       for field, kind in made.__annotations__.items() if type(kind).__name__ == 'EnumTypeWrapper'])")
    done = programs.run("-c", code, cwd=PROJECT)
    assert done.stdout == "[]\n", done.stdout + done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder of a wheel's files, and the size of the wheel in bytes."""
    pytest.importorskip("setuptools", minversion="70.1")  # older ones make no wheels by themselves
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("netspec", "models", "solvers", "data"):  # the build writes beside what it reads
        shutil.copytree(PROJECT / name, folder / "source" / name,
                        ignore=shutil.ignore_patterns("__pycache__", "images", "archives", "VOC*"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(PROJECT / name, folder / "source")
    code = f"from setuptools import build_meta; print(build_meta.build_wheel({str(folder)!r}))"
    subprocess.run([sys.executable, "-c", code], cwd=folder / "source", check=True, capture_output=True, timeout=120)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(folder / "site")
    return folder / "site", wheel.stat().st_size


def test_a_wheel_has_nets_recipes_and_facts(installed):
    site, size = installed
    there = {str(path.relative_to(site)) for path in site.rglob("*") if path.is_file()}
    shipped = {f"netspec/shipped/{path.relative_to(PROJECT)}" for folder in ("models", "solvers", "data")
               for pattern in ("*.py", "*.prototxt", "*.txt", "*.json", "*.md")
               for path in (PROJECT / folder).rglob(pattern) if not {"images", "archives"} & {*path.parts}}
    left_out = {f"netspec/shipped/models/voc-rfcn-resnet{layers}-ohem/{kind}.prototxt" for layers in (50, 101)
                for kind in ("rpn1", "rfcn1", "rpn2", "rfcn2", "rpn", "joined")}
    left_out |= {name for name in shipped if name.startswith(tuple(f"netspec/shipped/models/studies/{family}-" for family in ("voc", "38cloud")))}
    assert shipped - there == left_out and "netspec/py.typed" in there and "netspec/proto/caffe.desc" in there
    assert not [name for name in there if "__pycache__" in name or "/images/" in name]
    assert size < 1_350_000  # text and code alone: no image and no weights


COMMANDS = """
import runpy
import sys
from netspec.base.machine import HOME, PROJECT
from netspec.cli.main import main

print(PROJECT, HOME, *[main(line.split()) for line in sys.argv[1:]])
for program, net in ("rfcn", "voc-rfcn-resnet50-ohem"), ("fcn", "voc-fcn-pool5"):
    sys.argv[1:] = [net]
    runpy.run_module(f"netspec.shipped.models.{program}", run_name="__main__", alter_sys=True)
print(*[main(["describe", net]) for net in ("voc-rfcn-resnet50-ohem/rpn1", "models/voc-rfcn-resnet50-ohem/joined.prototxt",
                                            "voc-fcn-pool5", "models/studies/voc-fcn-pool5/val.prototxt")])
"""


def test_an_installed_package_works_in_any_folder(installed, tmp_path):
    site, _ = installed
    drawing = site / "netspec/shipped/data/shapes/prepare.py"
    few = drawing.read_text().replace('"--train", type=int, default=240', '"--train", type=int, default=8').replace(
        '"--val", type=int, default=60', '"--val", type=int, default=4')
    assert few.count("default=8,") == few.count("default=4,") == 1  # that it would draw 300
    drawing.write_text(few)
    before = {path: path.stat().st_mtime_ns for path in site.rglob("*")}
    commands = ["diff-net models/fcn.py:voc-fcn8s/deploy --figure3", "describe models/voc-fcn-alexnet/deploy.prototxt --table1",
                "tables 2 --family shapes", "demo", "data shapes", "data check solvers/shapes-fcn32s.prototxt",
                "doctor solvers/shapes-fcn8s.prototxt", "draw models/voc-fcn8s/deploy.prototxt --out net.svg",
                "describe voc-rfcn-resnet50-ohem/rpn1", "describe models/voc-rfcn-resnet50-ohem/joined.prototxt",
                "describe voc-fcn-pool5", "describe models/studies/voc-fcn-pool5/val.prototxt",
                "describe 38cloud-sigmoid-fcn8s"]
    done = subprocess.run([sys.executable, "-B", "-c", COMMANDS, *commands], cwd=tmp_path, capture_output=True, text=True,
                          env=programs.environment(PYTHONPATH=str(site), PYTHONDONTWRITEBYTECODE="1"), timeout=120)
    for said in ("equals the figure's FCN-8s", "57M", "shapes-fcn32s", "0 errors",
                 f"{site / 'netspec/shipped'} . 0 0 0 2 0 0 1 0 2 2 2 2 2\n", "0 0 0 0\n"):  # the third stage lacks the second's weights
        assert said in done.stdout, done.stdout + done.stderr
    assert "netspec data shapes gets it" in done.stderr
    for program, net in ("rfcn", "voc-rfcn-resnet50-ohem"), ("fcn", "voc-fcn-pool5"):
        assert done.stderr.count(f"'python -m netspec.shipped.models.{program} {net}' writes it") == 2
    assert "'python -m netspec.shipped.models.fcn 38cloud-sigmoid-fcn8s' writes it" in done.stderr
    for path in ("voc-rfcn-resnet50-ohem/rpn1", "voc-rfcn-resnet50-ohem/joined", "studies/voc-fcn-pool5/val"):
        path = f"models/{path}.prototxt"
        assert (tmp_path / path).read_bytes() == (PROJECT / path).read_bytes()
    assert f"{site / 'data'}" not in done.stderr  # what lies above the package is none of its own
    assert len([*(tmp_path / "data/shapes/images/JPEGImages").iterdir()]) == 12
    assert before == {path: path.stat().st_mtime_ns for path in site.rglob("*")}
