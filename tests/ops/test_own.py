"""Layer types of one's own: known by their class, with settings as those of the schema, in every command and process."""

import argparse
import copy
import math
import pickle
import re
import sys
from multiprocessing import Pipe

import numpy as np
import pytest
import torch

import netspec
from netspec import layers as L
from netspec.base import processes
from netspec.cli.main import COMMANDS, _parser, main
from netspec.ops import REGISTRY, CoordMap, Param
from netspec.proto import model, own
from netspec.proto import text as prototext
from netspec.proto.caffe_pb2 import BlobShape, FillerParameter, LayerParameter, NetParameter, SolverParameter
from netspec.proto.types import FIELDS, MESSAGES

MODULE = """import netspec
class {0}(netspec.Operation, type="{0}"):
    pass
"""


@pytest.fixture(scope="module", autouse=True)
def forgotten():
    """What the tests of this file register is unknown to others' in this process."""
    state = [REGISTRY, FIELDS, MESSAGES, own._known, own._spelling]
    before = [dict(each) for each in state]
    begun, path, wide = list(processes.ready), list(sys.path), copy.deepcopy(own._wide)
    yield
    for each, old in zip(state, before, strict=True):
        each.clear()
        each.update(old)
    processes.ready[:], sys.path[:] = begun, path
    own._wide.CopyFrom(wide)
    for kind in (LayerParameter, NetParameter, SolverParameter):
        if "__str__" in vars(kind):
            del kind.__str__


@pytest.fixture(scope="module")
def gate(forgotten):
    class OwnGate(netspec.Operation, type="OwnGate", own_map=CoordMap()):
        """y = x * (slope * w + shift), with one w a channel."""

        settings = {"slope": 1.5, "shift": -1, "axes": [int], "mode": ("PLAIN", "ROOT"), "twice": True, "note": 'a "b"',
                    "filler": FillerParameter, "shape": [BlobShape], "factors": [float]}

        def setup(self, shape):
            self.params.append(Param((shape[1],), self.layer.own_gate_param.filler))

        def forward(self, bottoms, params):
            p = self.layer.own_gate_param
            y = bottoms[0] * (p.slope * params[0] + p.shift).reshape(-1, 1, 1)
            return y.sqrt() if p.mode == p.ROOT else y

    return OwnGate


TEXT = """name: "n"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 2 dim: 3 dim: 4 } } }
layer { name: "gate" type: "OwnGate" bottom: "data" top: "gate"
  own_gate_param { slope: 0.75 axes: 1 axes: 2 mode: ROOT note: "\\"x\\"\\n" filler { value: 2 } shape { dim: 3 } factors: 0.1 } }
"""


def test_settings_are_read_written_and_sent_as_those_of_the_schema(gate, tmp_path):
    net = prototext.parse(TEXT, NetParameter)
    p = net.layer[1].own_gate_param
    assert (p.slope, p.shift, list(p.axes), p.mode, p.twice, p.note) == (0.75, -1, [1, 2], p.ROOT, True, '"x"\n')
    assert p.filler.value == 2 and p.shape[0].dim == [3] and p.factors == [np.float32(0.1)] and p.HasField("slope")
    text = prototext.to_text(net)
    assert "  own_gate_param {\n    slope: 0.75\n" in text and "mode: ROOT" in text and "factors: 0.1\n" in text
    for again in (text, str(net)):
        assert prototext.parse(again, NetParameter) == net
    assert NetParameter.FromString(net.SerializeToString()) == net
    assert pickle.loads(pickle.dumps(net)) == copy.deepcopy(net) == net
    model.write_weights(tmp_path / "w.caffemodel", "n", {"gate": (net.layer[1], [np.ones(2, np.float32)])})
    kept = NetParameter.FromString((tmp_path / "w.caffemodel").read_bytes()).layer[0]
    assert kept.own_gate_param == p and kept.blobs[0].data == [1, 1]
    solver = prototext.parse(f"train_net_param {{ {TEXT} }} base_lr: 1", SolverParameter)
    assert solver.train_net_param == net and "\n    own_gate_param {" in str(solver)


def test_defaults_hold_where_a_net_says_nothing(gate):
    p = LayerParameter(type="OwnGate").own_gate_param
    assert (p.slope, p.shift, list(p.axes), p.mode, p.twice, p.note) == (1.5, -1, [], p.PLAIN, True, 'a "b"')
    assert p.filler == FillerParameter() and not p.shape and not p.factors


def test_netspec_takes_settings_as_keywords(gate):
    n = netspec.NetSpec()
    n.data = L.Input(shape=dict(dim=[1, 2, 3, 4]))
    n.gate = L.OwnGate(n.data, slope=0.75, axes=[1, 2], mode="ROOT", note='"x"\n', filler=dict(value=2), shape=[dict(dim=[3])],
                       factors=0.1)
    assert n.to_proto().layer[1] == prototext.parse(TEXT, NetParameter).layer[1]
    assert netspec.to_proto(L.OwnGate(n.data, own_gate_param=dict(slope=3))).layer[1].own_gate_param.slope == 3
    with pytest.raises(netspec.Error, match=r"no field 'slop' in own_gate_param or LayerParameter; did you mean 'slope'\?"):
        L.OwnGate(n.data, slop=2)
    with pytest.raises(netspec.Error, match="mode must be one of PLAIN, ROOT, not str 'OTHER'"):
        L.OwnGate(n.data, mode="OTHER")


@pytest.mark.parametrize("old, new, said", [
    ("slope", "slop", r"n:4:20: OwnGateParameter has no field 'slop'; did you mean 'slope'\?"),
    ("own_gate_param", "own_gates_param", r"n:4:3: LayerParameter has no field 'own_gates_param'; did you mean 'own_gate_param'\?"),
    ("ROOT", "SQUARE", "n:4:54: layer.own_gate_param.mode: Mode has no value SQUARE; known are PLAIN, ROOT"),
    ("slope: 0.75", 'slope: "x"', "n:4:27: layer.own_gate_param.slope: "),
])
def test_what_a_net_has_wrong_is_said_with_its_place(gate, old, new, said):
    with pytest.raises(netspec.Error, match=said):
        prototext.parse(TEXT.replace(old, new), NetParameter, "n")


def test_a_net_computes_it_and_learns(gate):
    net = netspec.TorchNet(netspec.build(prototext.parse(TEXT.replace("shape { dim: 3 } ", ""), NetParameter)))
    x = torch.rand(1, 2, 3, 4, generator=torch.Generator().manual_seed(0))
    y = net(x)
    y.sum().backward()
    (w,) = net.parameters()
    for c in range(2):
        grad = 0.0
        for a in x[0, c].flatten().tolist():
            grad += 0.75 * a / (2 * math.sqrt(a * (0.75 * 2 - 1)))
        assert w.grad[c].item() == pytest.approx(grad, rel=1e-5)
    assert y[0, 1, 2, 3].item() == pytest.approx(math.sqrt(x[0, 1, 2, 3].item() * 0.5), rel=1e-6)


@pytest.mark.parametrize("settings", [{"a": None}, {"a b": 1}, {"a": [1]}, {"a": []}, {"a": [int, int]}, {"a": 1 << 31}, {"a": (1, 2)},
                                      {"a": ()}, {"a": {}}, {"a": ("X",), "b": ("X",)}, {"a": object}, {"a": [object]}], ids=str)
def test_settings_that_are_none_are_refused(settings):
    with pytest.raises(netspec.Error, match="layer type OwnOdd: (setting 'a' is .*, and a default is|its settings make no message)"):
        type("OwnOdd", (netspec.Operation,), {"settings": settings, "__module__": __name__}, type="OwnOdd")
    assert "OwnOdd" not in REGISTRY and "own_odd_param" not in FIELDS


def test_a_type_that_exists_is_refused_unless_it_comes_from_the_same_file():
    with pytest.raises(netspec.Error, match=r"layer type ReLU exists already, in .*neuron.py; give yours another name"):
        type("ReLU", (netspec.Operation,), {}, type="ReLU")
    for settings in ({"a": 1}, {"a": 1}):
        kind = type("OwnTwice", (netspec.Operation,), {"settings": settings, "__module__": __name__}, type="OwnTwice")
        assert REGISTRY["OwnTwice"] is kind
    with pytest.raises(netspec.Error, match="own_twice_param is there already, .* start it anew"):
        type("OwnTwice", (netspec.Operation,), {"settings": {"a": 2}, "__module__": __name__}, type="OwnTwice")
    with pytest.raises(netspec.Error, match="the schema has relu_param already"):
        type("OwnField", (netspec.Operation,), {"settings": {"a": 2}, "settings_field": "relu_param"}, type="OwnField")


@pytest.mark.parametrize("name, field", [("ROIThing", "roi_thing_param"), ("Own2D", "own2_d_param"), ("OwnBNThing", "own_bn_thing_param")])
def test_the_field_is_called_after_the_type(name, field):
    type(name, (netspec.Operation,), {"settings": {"a": 1}, "__module__": __name__}, type=name)
    assert MESSAGES[name] == field


def test_register_takes_a_module_or_sees_that_a_class_has_a_type(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_registered.py").write_text(MODULE.format("OwnRegistered"))
    netspec.register("own_registered")
    assert REGISTRY["OwnRegistered"].__module__ == "own_registered"
    assert netspec.register("own_registered.py") == "own_registered.py"

    @netspec.register
    class OwnDecorated(netspec.Operation, type="OwnDecorated"):
        pass

    assert REGISTRY["OwnDecorated"] is OwnDecorated
    with pytest.raises(netspec.Error, match="class Untyped has no type of its own"):
        @netspec.register
        class Untyped(netspec.Operation):
            pass


@pytest.mark.parametrize("module, content, said", [
    ("own_absent", "", "--ops: module 'own_absent' cannot be imported (No module named 'own_absent'); looked in "),
    ("own_absent.py", "", "module 'own_absent.py' is not there (tried "),
    ("own/slash", "", "--ops: 'own/slash' is no module's name"),
    ("own_raises", "1 / 0", "ended its own import by ZeroDivisionError: division by zero"),
    ("own_syntax.py", "class", "ended its own import by SyntaxError"),
    ("own_untyped", MODULE.format("X").replace(', type="X"', ""), "has no layer type, as class Foo(netspec.Operation, type=\"Foo\") is one"),
    ("own_relu", MODULE.format("ReLU"), "layer type ReLU exists already, in "),
    ("own_odd", MODULE.format("OwnOddOne").replace("pass", "settings = {'a': None}"), "layer type OwnOddOne: setting 'a' is None"),
    ("json.py", MODULE.format("OwnJson"), f"json.py Python finds {sys.modules['json'].__file__} of that name; give yours another"),
])
def test_what_is_no_module_of_layers_is_a_sentence(tmp_path, monkeypatch, capsys, module, content, said):
    monkeypatch.chdir(tmp_path)
    if content:
        (tmp_path / (module if module.endswith(".py") else f"{module}.py")).write_text(content)
    assert main(["layers", "ReLU", "--ops", module]) == 2
    said_last = capsys.readouterr().err.strip().split("\n")[-1]
    assert said_last.startswith("netspec layers: ") and said in said_last


def test_commands_know_the_types_when_asked_and_import_nothing_else(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/own_asked.py").write_text(MODULE.format("OwnAsked").replace("pass", "settings = {'alpha': 2}"))
    (tmp_path / "net.prototxt").write_text('layer { name: "d" type: "Input" top: "d" input_param { shape { dim: 1 dim: 2 } } }\n'
                                           'layer { name: "a" type: "OwnAsked" bottom: "d" top: "a" own_asked_param { alpha: 3 } }')
    assert main(["explain-crop", "net.prototxt"]) == 2 and "own_asked" not in sys.modules
    assert "net.prototxt:2:57: LayerParameter has no field 'own_asked_param'" in capsys.readouterr().err
    assert main(["describe", "net.prototxt", "--ops", "elsewhere/own_asked.py"]) == 0
    assert "OwnAsked" in capsys.readouterr().out
    assert main(["layers", "OwnAsked", "--ops", "own_asked"]) == 0
    assert re.search(r"^OwnAsked +other +own +1 +1 +own_asked_param", capsys.readouterr().out, re.MULTILINE)
    assert main(["convert", "upgrade", "net.prototxt", "new.prototxt", "--ops", "own_asked"]) == 0
    assert "own_asked_param {\n    alpha: 3\n" in (tmp_path / "new.prototxt").read_text()


def test_what_a_setting_has_wrong_is_kept_by_commands_that_look(gate, tmp_path, capsys):
    (tmp_path / "net.prototxt").write_text(TEXT.replace("slope", "slop"))
    assert main(["convert", "upgrade", str(tmp_path / "net.prototxt"), str(tmp_path / "new.prototxt")]) == 0
    assert "not understood, and passed by: layer.own_gate_param.slop" in capsys.readouterr().err
    assert "  own_gate_param {\n    axes: 1\n" in (text := (tmp_path / "new.prototxt").read_text()) and "    slop: 0.75\n" in text


def leaves(parser):
    inner = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    return [leaf for a in inner for one in a.choices.values() for leaf in leaves(one)] if inner else [parser]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_the_option(command):
    every = leaves(_parser(command))
    assert every and all("--ops" in leaf._option_string_actions for leaf in every)


def test_a_spawned_process_loads_what_this_one_did_before_its_work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_sent.py").write_text(MODULE.format("OwnSent"))
    monkeypatch.setattr(processes, "ready", ready := [])
    monkeypatch.setattr("netspec.ops.own.ready", ready)
    for _ in range(2):
        netspec.register("own_sent.py")
    assert len(ready) == 1 and processes.again() == ["--ops", str(tmp_path / "own_sent.py")]
    del REGISTRY["OwnSent"], sys.modules["own_sent"]
    monkeypatch.chdir("/")
    monkeypatch.setattr(processes, "end_with_parent", lambda: None)
    mine, its = Pipe()
    processes.order(mine, seen, "OwnSent")
    processes.begin(its)
    assert mine.recv() is True


def seen(name, line):
    line.send(name in REGISTRY)
