"""The pages' blocks do what the pages say: every one is run as a reader would, in a small copy of the project.

A block is indented or fenced. Python blocks of a page are one script, which runs first; lines of shell run one after the other.
In the copy the embedded data set is a few small images, solvers end after FEW iterations, and names of snapshots follow.
What a command prints is held against the fenced block behind it. A block that cannot be run here is marked in the page, in
front of it, with one or more of WHY:

    <!-- not run: data, minutes -->
"""

import re
import shutil
import subprocess
import textwrap
from pathlib import Path
from typing import NamedTuple

import numpy as np
import programs
import pytest
from programs import PROJECT

from netspec.cli.main import COMMANDS, _parser
from netspec.proto import text as prototext
from netspec.proto.caffe_pb2 import NetParameter

PAGES = [PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", *sorted(PROJECT.glob("docs/*.md")),
         *sorted(PROJECT.glob("data/*/README.md"))]
WHY = {
    "data": "a data set that has to be got; the commands say so, with status 2",
    "weights": "weights that have to be got; the same",
    "network": "something is downloaded",
    "minutes": "it takes longer than a test may",
    "form": "words in capitals stand for something, or brackets for what may be left out",
    "browser": "it shows a page until it is stopped; `make browser` does",
    "elsewhere": "another program, or another project's files",
}
STOPS = {"data", "weights"}  # such a block is run, to see that it stops
FEW = 2
SMALL = ["--train", "5", "--val", "2", "--size", "64x48"]  # of data/shapes/prepare.py
SHELL = re.compile(r"(netspec|make|python[\d.]*|pip|ln|tar|unzip|printf|\.|[A-Z]+=\S+|(tools|models|data/shapes)/\w+\.py)\s")
OURS = re.compile(r"netspec |python |(tools|models|data/shapes)/")
COPIED = ("netspec", "tools", "models", "solvers", "docs", "tests/golden/layers")


class Block(NamedTuple):
    """line: where it begins. kind: python, shell, or text. why: the words of its mark."""

    line: int
    kind: str
    lines: list[str]
    why: set[str]
    lead: str  # the paragraph in front of it, "" where it follows a block


def blocks(page: Path) -> list[Block]:
    found, lead, why, lines, i = [], "", set(), page.read_text(encoding="utf-8").splitlines(), 0
    while i < len(lines):
        begin, fence = i, re.match(r" *```(\w*)$", lines[i])
        if fence:
            i = next(n for n in range(i + 1, len(lines)) if lines[n].strip() == "```") + 1
            inner = lines[begin + 1 : i - 1]
        elif lines[i].startswith("    ") and lines[i].strip() and not lead_open(lines, i):
            while i < len(lines) and (lines[i].startswith("    ") or not lines[i].strip()):
                i += 1
            inner = textwrap.dedent("\n".join(lines[begin:i])).rstrip().splitlines()
        else:
            if mark := re.fullmatch(r" *<!-- not run: (.*) -->", lines[i]):
                why = set(mark[1].split(", "))
            elif lines[i].strip():
                lead, why = f"{lead} {lines[i]}" if i and lines[i - 1].strip() else lines[i], set()
            i += 1
            continue
        kind = fence[1] if fence and fence[1] else "shell" if SHELL.match(inner[0]) else "text"
        found.append(Block(begin + 1, kind, inner, why, lead))
        lead, why = "", set()
    return found


def lead_open(lines, i):
    """Whether an indented line goes on with the text above it, as in a list."""
    return i > 0 and bool(lines[i - 1].strip())


def identity(page):
    return str(page.relative_to(PROJECT))


class Place:
    """A small copy of the project."""

    def __init__(self, folder):
        self.folder, self.names = folder, {}
        for name in COPIED:
            shutil.copytree(PROJECT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        for path in (*PROJECT.glob("data/*"), *PROJECT.glob("data/*/*")):
            if path.is_file() and path.stat().st_size < 1e6:  # what the project brings, no images and archives
                (folder / path.relative_to(PROJECT)).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, folder / path.relative_to(PROJECT))
        self.own_images()

    def own_images(self):
        """my/, with photographs and masks of two classes, as the README has its reader bring."""
        from PIL import Image

        self.run("python data/shapes/prepare.py")
        drawn = self.folder / "data/shapes/images"
        for mine, theirs in (("photos", "JPEGImages"), ("masks", "SegmentationClass")):
            (self.folder / "my" / mine).mkdir(parents=True)
            for path in sorted((drawn / theirs).iterdir()):
                image = Image.open(path)
                if mine == "masks":
                    image = Image.fromarray(np.array(image).clip(0, 1), "L")
                image.save(self.folder / "my" / mine / f"{path.stem}{'.jpg' if mine == 'photos' else '.png'}")

    def shorten(self):
        """Let every solver end after FEW iterations, and know the names of the snapshots that it writes then."""
        solvers = {}
        for path in self.folder.glob("*/**/*.prototxt"):
            if path.is_relative_to(self.folder / "models"):  # nets alone
                continue
            text = path.read_text(encoding="utf-8")
            if end := re.search(r"^max_iter: (\d+)$", text, re.MULTILINE):
                solvers[path] = text
                prefix = re.search(r'^snapshot_prefix: "(?:.*/)?(.*)"$', text, re.MULTILINE)
                if prefix and int(end[1]) > FEW:
                    self.names[f"{prefix[1]}_iter_{end[1]}."] = f"{prefix[1]}_iter_{FEW}."
        for path, text in solvers.items():
            new = self.short(re.sub(r"^max_iter: \d+$", f"max_iter: {FEW}", text, flags=re.MULTILINE))
            if new != text:
                path.write_text(new, encoding="utf-8")

    def short(self, text):
        return re.sub(r"[\w-]+_iter_\d+\.", lambda name: self.names.get(name[0], name[0]), text)

    def run(self, line):
        """A line of shell; the program ended."""
        self.shorten()
        words = subprocess.run(["bash", "-c", rf"printf '%s\n' {self.short(line.partition('  #')[0])}"], cwd=self.folder,
                               capture_output=True, text=True, check=True).stdout.splitlines()
        if words[0] == "netspec":
            words[:1] = ["-m", "netspec"]
        elif words[0] == "python":
            del words[0]
        if words[0] == "data/shapes/prepare.py":
            words += SMALL
        return programs.run(*words, cwd=self.folder, env=programs.environment(PYTHONPATH=str(self.folder)))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """With the three stages that the README trains first, which other pages go on with."""
    made = Place(tmp_path_factory.mktemp("project"))
    stages = " ".join(f"solvers/shapes-fcn{stride}s.prototxt" for stride in (32, 16, 8))
    done = made.run(f"tools/solve.py {stages}")
    assert done.returncode == 0, done.stderr
    return made


def test_the_blocks_of_the_readme_run(place):
    run_page(PAGES[0], place)


def seen_by_git(paths):
    """Those that git would ask to commit."""
    new = "\n".join(paths)
    git = ["git", "-C", str(PROJECT), "check-ignore", "--no-index", "--stdin"]
    if not (PROJECT / ".git").exists() or not shutil.which("git"):
        pytest.skip("no git checkout")
    found = subprocess.run(git, input=new, capture_output=True, text=True)
    return sorted({*new.splitlines()} - {*found.stdout.splitlines()})


def test_git_ignores_what_the_readme_makes(place):
    """Of the commands that have run so far; a page of its own, page.py, is the reader's."""
    made = {path.relative_to(place.folder) for path in place.folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert not seen_by_git(str(path) for path in made if not (PROJECT / path).exists() and path.name != "page.py")


WRITES = re.compile(r"--(?:out|log|sheet|confusion|save|balance|page|out-weights|tensorboard) ([\w./-]+)")


def test_git_ignores_what_the_pages_commands_name_to_write():
    """Also of those that are not run; names in capitals stand for the reader's."""
    named = {match[1] for page in PAGES for block in blocks(page) for line in block.lines for match in WRITES.finditer(line)
             if not match[1].partition(".")[0].isupper()}
    assert {"curves.svg", "results/seen", "run.html"} <= named
    # a folder is ignored with a / at its end
    assert not seen_by_git(name if Path(name).suffix else f"{name}/x" for name in named if not (PROJECT / name).exists())


@pytest.mark.parametrize("page", PAGES[1:], ids=identity)
def test_the_blocks_of_a_page_run(page, place):
    run_page(page, place)


def saved_as(block):
    """The file that the reader is to make of a block."""
    file = re.search(r"(?:describe them in|\bthis as) `([\w/]+\.\w+)`.*:$", block.lead)
    return file[1] if file else None


def run_page(page, place):
    every = blocks(page)
    for block in every:
        if name := saved_as(block):
            (place.folder / name).write_text("\n".join(block.lines) + "\n", encoding="utf-8")
    script = "\n".join("\n".join(block.lines) for block in every
                       if block.kind == "python" and not block.why and not saved_as(block))
    if script:
        (place.folder / "page.py").write_text(place.short(script), encoding="utf-8")
        done = place.run("python -m netspec.run page.py")
        assert done.returncode == 0, f"{page}: {done.stderr}"
    said = ""
    for block in every:
        if block.kind == "text" and said and not block.lead:
            assert "\n".join(block.lines) in said, f"{page}:{block.line}: printed is\n{said}"
        said = shell(page, block, place) if block.kind == "shell" else ""


def shell(page, block, place):
    """Run the lines of a block, or see that it stops where its mark says so; what they print."""
    if block.why - STOPS:
        return ""
    said = []
    for line in block.lines:
        if line == ". .venv/bin/activate" or block.why and not OURS.match(line):  # such as what puts the data there
            continue
        done = place.run(line)
        where = f"{page.name}:{block.line}: {line}\n{done.stdout}{done.stderr}"
        if block.why and done.returncode:
            assert done.returncode == 2 and "Traceback" not in done.stderr, where
            return ""
        assert done.returncode == 0, where
        said.append(done.stdout)
    assert not block.why or not OURS.match(block.lines[0]), f"{page.name}:{block.line}: runs, so it needs no mark"
    return "".join(said)


@pytest.mark.parametrize("page", PAGES, ids=identity)
def test_marks_say_why(page):
    for block in blocks(page):
        text, where = "\n".join(block.lines), f"{page.name}:{block.line}: {block.why}"
        assert block.why <= WHY.keys(), where
        if "form" in block.why:
            assert re.search(r"\b[A-Z]{3,}\b|\[|\.\.\.", text), where
        if "network" in block.why:
            assert re.search(r"^(make|pip|netspec data) ", text, re.MULTILINE), where
    marks = re.findall("^ *<!-- not run:", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(marks) == sum(bool(block.why) for block in blocks(page))  # none that marks nothing


def commands(page):
    """The lines of shell in blocks, and the commands in the text."""
    for block in blocks(page):
        yield from block.lines if block.kind == "shell" else ()
    for quoted in re.findall(r"`((?:netspec|tools/)[^`]+)`", page.read_text(encoding="utf-8")):
        yield " ".join(quoted.split())


def options(parser):
    for action in parser._actions:
        yield from action.option_strings
        for inner in (action.choices or {}).values() if isinstance(action.choices, dict) else ():
            yield from options(inner)


@pytest.mark.parametrize("page", PAGES, ids=identity)
def test_commands_and_their_options_are_there(page):
    for line in commands(page):
        if called := re.match(r"(?:netspec |tools/)(\w[\w-]*)(?:\.py)?\b(.*)", line):
            command = called[1].replace("_", "-")
            if command == "NAME":
                continue
            assert command in COMMANDS, f"{page.name}: {line}"
            given = re.findall(r"(?<![\w-])--\w[\w-]*", called[2])
            assert not {*given} - {*options(_parser(command))}, f"{page.name}: {line}"


@pytest.mark.parametrize("page", PAGES, ids=identity)
def test_layers_on_the_pages_are_layers(page):
    for block in blocks(page):
        if block.lines[0].startswith("layer {"):
            prototext.parse("\n".join(block.lines), NetParameter, page.name)
