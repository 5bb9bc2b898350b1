"""The mutator on a module of a few lines: what it changes, what it finds, and that it goes on where it stopped."""

import ast
import subprocess

import mutate
import pytest

SUMS = """\
def most(a: int, b: int) -> int:
    \"\"\"The docstring stays.\"\"\"
    if a > b:
        return a
    return b


def between(x, low, high):
    return low <= x and x < high + 1


def log(lines, text):
    lines.append(text)
    return f"{1 + 1}"
"""
TESTS = """\
from netspec.tiny.sums import between, most


def test_most():
    assert most(1, 2) == 2 == most(2, 1)


def test_between():
    assert between(2, 1, 3) and not between(4, 1, 3) and not between(0, 1, 3)
"""


@pytest.fixture
def project(tmp_path):
    for name, text in {"netspec/__init__.py": "", "netspec/tiny/__init__.py": "", "netspec/tiny/sums.py": SUMS,
                       "tests/tiny/test_sums.py": TESTS, ".gitignore": "build/\n"}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    return tmp_path


def test_all_changes_of_a_module():
    found = mutate.changes("sums.py", SUMS.encode())
    assert [(change.line, change.old, change.new) for change in found] == [
        (3, "a > b", "a >= b"), (3, "a > b", "not (a > b)"), (9, "low <= x", "low < x"),
        (9, "low <= x and x < high + 1", "low <= x or x < high + 1"), (9, "x < high + 1", "x <= high + 1"),
        (9, "high + 1", "high - 1"), (9, "1", "2"), (13, "lines.append(text)", "pass")]
    for change in found:
        made = change.made(SUMS.encode()).decode()
        assert ast.dump(ast.parse(made)) != ast.dump(ast.parse(SUMS)) and made.count("\n") == SUMS.count("\n")


@pytest.mark.parametrize("old, new", [
    ("f(a, b + c, d)", "f(b + c, a, d)"), ("x = f(a, a)", None), ("x = f(*a, b)", None), ("x = max(a, b)", None),
    ("x = 'é', a is b", "x = 'é', a is not b"), ("x += 2.5", "x -= 2.5"), ("a or b and c", "a and (b and c)"), ("a: 'int'", None),
    ("True", None), ("import a", None), ("raise a", "pass"),
])
def test_what_is_changed(old, new):
    made = [change.made(old.encode()).decode() for change in mutate.changes("a.py", old.encode())]
    assert made == [] if new is None else new in made


def test_a_run_goes_on_where_it_stopped(project, capsys, monkeypatch):
    tried = []

    def judge(change, *args):
        tried.append(change)
        if len(tried) == 3:
            raise KeyboardInterrupt
        return mutate.UNNOTICED if len(tried) == 2 else "failed"

    monkeypatch.setattr(mutate, "judged", judge)
    asked = ["tiny", "--count", "5", "--seed", "4"]
    assert mutate.main(asked, project) == 130
    assert capsys.readouterr().out.splitlines()[-1] == "1 of 2 noticed"
    assert mutate.main(asked, project) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "4 of 5 noticed"
    assert len(tried) == 6 and tried[3] == tried[2] and len(set(tried)) == 5
    assert mutate.main([*asked, "--again"], project) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "5 of 5 noticed" and tried[6:] == [tried[1]]


def test_tests_that_do_not_end_are_ended(tmp_path):
    (tmp_path / "test_endless.py").write_text("while True:\n    pass\n")
    assert mutate.failed(tmp_path, ["test_endless.py"], 1) == "time"


def test_the_whole_of_a_small_module(project, capsys):
    files = {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}
    assert mutate.main(["netspec/tiny/sums.py", "--count", "99"], project) == 0
    assert capsys.readouterr().out.split("\n\n")[-1].splitlines() == [
        "netspec/tiny/sums.py:13: lines.append(text) -> pass  in  lines.append(text)",
        "netspec/tiny/sums.py:3: a > b -> a >= b  in  if a > b:",
        "netspec/tiny/sums.py:9: low <= x -> low < x  in  return low <= x and x < high + 1",
        "5 of 8 noticed"]
    assert {path: path.read_bytes() for path in files} == files  # the changes were made in a copy


def test_tests_that_fail_by_themselves_judge_nothing(project):
    (project / "tests/tiny/test_sums.py").write_text("def test_wrong():\n    assert 0\n")
    with pytest.raises(SystemExit, match="tests/tiny: tests fail before anything is changed"):
        mutate.main(["tiny"], project)
