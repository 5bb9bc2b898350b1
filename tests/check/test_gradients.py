"""`netspec doctor --ops`: layer types of one's own are held against their shapes and finite differences."""

import json
import sys

import pytest

from netspec import ops
from netspec.base import processes
from netspec.cli.main import main

MODULE = """import torch
import netspec
from netspec.ops import Param

class {name}(netspec.Operation, type="{name}"{facts}):
    example = {example}
    def forward(self, bottoms, params):
        x = bottoms[0]
        {forward}
"""
PAIR = '("", (3, 4), torch.zeros(3, 4))'


@pytest.fixture(autouse=True)
def forgotten():
    before, begun, path = dict(ops.REGISTRY), list(processes.ready), list(sys.path)
    yield
    ops.REGISTRY.clear()
    ops.REGISTRY.update(before)
    processes.ready[:], sys.path[:] = begun, path


@pytest.mark.parametrize("case, facts, example, forward, level, said", [
    ("right", "", '("", (2, 3))', "return x * x", "ok", "tops of [[2, 3]]; finite differences give the gradients of bottom 0"),
    ("large", "", '("", (40, 40))', "return x * x", "problem", "a bottom or parameter has 1600 numbers, at most 1000 are tried"),
    ("labels", ", bottoms=2, undifferentiable={1}", PAIR, "return (x - bottoms[1].detach()) ** 2", "ok", "the gradients of bottom 0"),
    ("both", ", bottoms=2", PAIR, "return (x - bottoms[1]) ** 2", "ok", "the gradients of bottom 0, bottom 1"),
    ("none", ", undifferentiable={0}", '("", (2, 3))', "return (x > 0).to(x.dtype)", "ok", "the gradients of nothing"),
    ("drawn", "", '("", (2, 3))', "return x * torch.rand_like(x)", "ok", "the gradients of bottom 0"),
    ("two", ", tops=2", '("", (2, 3))', "return x, 2 * x", "ok", "tops of [[2, 3], [2, 3]]"),
    ("hidden", "", '("", (2, 3))', "return x + (x * x).detach()", "problem", "finite differences give another gradient of bottom 0"),
    ("cut", "", '("", (2, 3))', "return x.detach() * 2", "problem", "finite differences give another gradient of bottom 0"),
    ("half", ", bottoms=2", PAIR, "return (x - bottoms[1].detach()) ** 2", "problem", "another gradient of bottom 1"),
    ("second", ", tops=2", '("", (2, 3))', "return x, x.detach() * 2", "problem", "another gradient of bottom 0"),
    ("shape", "", '("", (2, 3))', "return x.sum()", "problem", "forward gives [[]], where infer says [[2, 3]]"),
    ("raises", "", '("", (2, 3))', "return x.foo()", "problem", "ends by AttributeError: 'Tensor' object has no attribute 'foo'"),
    ("text", "", '("foo: 1", (2, 3))', "return x", "problem", "the example has no field 'foo'"),
    ("bottoms", "", '("", (2, 3), (2, 3))', "return x", "problem", "takes exactly 1 bottom, 2 given"),
    ("without", "", "()", "return x", "note", "has no example, so that nothing of it was tried"),
])
def test_a_type_is_tried_by_its_example(tmp_path, monkeypatch, capsys, case, facts, example, forward, level, said):
    monkeypatch.chdir(tmp_path)
    name = f"Own{case.title()}"
    (tmp_path / f"own_{case}.py").write_text(MODULE.format(name=name, facts=facts, example=example, forward=forward))
    status = main(["doctor", "--ops", f"own_{case}", "--json"])
    (finding,) = json.loads(capsys.readouterr().out)["findings"]
    assert (finding["level"], finding["where"]) == (level, name)
    assert said in finding["what"] and status == (level == "problem")
    if case == "raises":
        assert finding["do"] == f"see {tmp_path / 'own_raises.py'}:9"


def test_parameters_are_tried_too(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    given = MODULE.format(name="OwnScale", facts="", example='("", (2, 3))', forward="return x * {0}") + (
        "    def setup(self, shape):\n        self.params.append(Param((3,)))\n")
    (tmp_path / "own_scale.py").write_text(given.format("(params[0] + 1)"))
    wrong = given.replace("OwnScale", "OwnOther").format("params[0].detach()")
    (tmp_path / "own_other.py").write_text(wrong)
    assert main(["doctor", "--ops", "own_scale.py", "--ops", "own_other.py"]) == 1
    out = capsys.readouterr().out
    assert "ok      OwnScale: tops of [[2, 3]]; finite differences give the gradients of bottom 0, parameter 0\n" in out
    assert "problem OwnOther: finite differences give another gradient of parameter 0\n" in out and "\n1 problem, 0 notes" in out
