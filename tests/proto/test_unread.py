"""What a text has that the schema lacks: refused in runs, kept word for word where nets are looked at."""

import pickle

import pytest

from netspec.base.asked import asked, handed_on
from netspec.base.errors import Error
from netspec.base.trust import leave
from netspec.cli.main import main
from netspec.net.build import build
from netspec.net.graph import UNSEEN
from netspec.proto import caffe_pb2, text, unread
from netspec.proto.upgrade import upgrade_net
from netspec.train.jobs import jobs

NET = """name: "n"  # a comment with foo: 1
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }
layer {
  name: "c" type: "Convolution" bottom: "x" top: "c"
  convolution_param { num_output: 4 kernel_size: 3 warp: [1, 2] engine: "MAGIC" bias_filler { type: "constant" tilt: -1e-5 } }
  mine_param { a: 'it''s "so"' b { c < d: 1 > } }
  mine_param: { a: "again"
                "longer" }
}
layer { name: "t" type: "Magic" bottom: "c" top: "t" top: "u" }
layer { name: "r" type: "ReLU" bottom: "t" top: "r" }
"""
ASIDE = ["layer.convolution_param.warp", "layer.convolution_param.engine", "layer.convolution_param.bias_filler.tilt",
         "layer.mine_param", "layer.mine_param"]


@pytest.fixture
def passing(monkeypatch):
    monkeypatch.setattr(leave, "unknown", True)
    monkeypatch.setattr(leave, "told", set())
    said = []
    monkeypatch.setattr(leave, "say", said.append)
    return said


def names(message, least=unread.PASSED):
    return [name for name, _ in unread.of_forks(message, least)]


def test_it_is_kept_and_written_as_it_stood(passing):
    net = text.parse(NET, caffe_pb2.NetParameter)
    assert sorted(names(net)) == sorted(ASIDE)
    written = text.to_text(net)
    assert "warp: [1, 2]" in written and 'engine: "MAGIC"' in written and "tilt: -1e-5" in written and "unread" not in written
    assert """mine_param { a: 'it''s "so"' b { c < d: 1 > } }""" in written
    again = text.parse(written, caffe_pb2.NetParameter)
    assert again == net == pickle.loads(pickle.dumps(net))
    assert net.layer[1].convolution_param.num_output == 4 and net.layer[1].convolution_param.bias_filler.type == "constant"


def test_a_run_refuses_it_where_it_stands():
    with pytest.raises(Error, match=r"^n:5:\d+: ConvolutionParameter has no field 'warp' \(--unknown-fields pass goes on without\)$"):
        text.parse(NET, caffe_pb2.NetParameter, "n")
    with pytest.raises(Error, match=r"NetParameter has no field 'layer.unread'"):
        text.parse('layer { unread: "foo: 1" }', caffe_pb2.NetParameter, "n")


def test_lines_of_errors_stay_where_they_were(passing):
    with pytest.raises(Error, match=r"^n:3:"):
        text.parse('layer { foo { a: 1\n b: 2 }\n name: {} type }', caffe_pb2.NetParameter, "n")


@pytest.mark.parametrize("line", ["foo: 1.5e+3", "foo: -inf", 'foo: "a}" "b"', "foo { }", "foo: { bar: [ { x: 1 }, { y: 2 } ] }", "foo <a: 1>",
                                  "foo: ON;", "foo: 1, ", "foo: [1.5, -2, ON]", "crop_size: 1 crop_size: 2", "crop_size: [1, 2]",
                                  "mean_value { a: 1 }", "foo: - 5"])
def test_whatever_a_value_looks_like(passing, line):
    net = text.parse(f"layer {{ transform_param {{ scale: 2 {line} mirror: true }} name: 'x' }} layer {{ }}", caffe_pb2.NetParameter)
    (name,) = names(net)
    assert name.startswith("layer.transform_param.") and len(net.layer) == 2
    assert net.layer[0].name == "x" and net.layer[0].transform_param.mirror and net.layer[0].transform_param.scale == 2


def test_what_is_said(passing, tmp_path):
    path = tmp_path / "n.prototxt"
    path.write_text(NET.replace('name: "n"', 'name: "n" global_grad_scale: 8') + 'layer { name: "q" type: "ReLU" bottom: "r" top: "q" '
                    "quantization_param { bw_layer_in: 8 } }")
    text.read_net(path)
    strange, no_number = passing
    assert no_number == f"{path}: passed by, for no number depends on it: layer.quantization_param, global_grad_scale"
    assert strange.startswith(f"{path}: not understood, and passed by: ") and "layer.mine_param (2)" in strange


def test_a_list_of_gpus_needs_no_asking():
    solver = text.parse("base_lr: 1 device_id: [0, 1] max_iter: 2", caffe_pb2.SolverParameter)
    assert (solver.device_id, solver.max_iter) == (0, 2) and "device_id: [0, 1]" in text.to_text(solver)
    assert list(unread.of_forks(solver)) == [("device_id", unread.PASSED)]


def test_hints_need_no_asking(tmp_path):
    net = text.parse('layer { name: "q" type: "ReLU" quantization_param { bw_layer_in: 8 scale_in: 1.5 } }', caffe_pb2.NetParameter)
    assert "bw_layer_in: 8" in text.to_text(net) and names(net) == ["layer.quantization_param"]


@pytest.mark.parametrize("field, where", [
    ("layer { name: 'c' type: 'InnerProduct' bottom: 'x' top: 'c' inner_product_param { num_output: 2 normalize: true } }",
     "layer 'c' (InnerProduct): inner_product_param.normalize"), ("bn_stats_batch_size: 32", "the net: bn_stats_batch_size")])
def test_what_changes_numbers_is_computed_or_refused(passing, monkeypatch, field, where):
    net = text.parse("layer { name: 'x' type: 'Input' top: 'x' input_param { shape { dim: 1 dim: 4 } } } " + field, caffe_pb2.NetParameter)
    assert build(net)
    unread.tell(net, "n")
    assert passing == [f"n: passed by, though numbers depend on it where it is used: {'layer.' * ('layer' in where)}{where.split(': ')[1]}"]
    monkeypatch.setattr(leave, "unknown", False)
    with pytest.raises(Error, match="would change numbers, and is not computed here"):
        build(net)


def test_layers_that_cannot_be_built_are_looked_past(passing):
    graph = build(text.parse(NET, caffe_pb2.NetParameter), opaque=True)
    assert [graph.shapes[node.tops[0]] for node in graph.layers[:2]] == [(1, 3, 8, 8), (1, 4, 6, 6)]
    assert all(graph.shapes[top] is UNSEEN for node in graph.layers[2:] for top in node.tops)
    assert list(graph.opaque) == ["t"] and "'Magic', which is not known" in graph.opaque["t"] and graph.outputs == ("r", "u")


def test_what_looks_reads_on_and_what_runs_does_not(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(leave, "told", set())
    path = tmp_path / "n.prototxt"
    path.write_text(NET)
    assert main(["describe", str(path)]) == 0
    told = capsys.readouterr()
    assert "c      Convolution  1 x 4 x 6 x 6" in told.out and "r      ReLU         ?" in told.out and "not understood" in told.err
    assert main(["draw", str(path), "--out", str(tmp_path / "n.svg")]) == main(["diff-net", str(path), str(path)]) == 0
    assert main(["convert", "upgrade", str(path), str(tmp_path / "new.prototxt")]) == 0 and "warp: [1, 2]" in (tmp_path / "new.prototxt").read_text()
    assert main(["diff-net", str(path), str(path), "--size", "8x8"]) == 0 and "stand as ?" in capsys.readouterr().err
    other = tmp_path / "other.prototxt"
    other.write_text(NET.replace('type: "Magic"', 'type: "ReLU"').replace('top: "u"', ""))
    assert main(["diff-net", str(path), str(other), "--size", "8x8"]) == 1 and "-  t: ?\n+  t: 1 x 4 x 6 x 6\n" in capsys.readouterr().out
    assert main(["explain-crop", str(path)]) == 2
    capsys.readouterr()
    assert main(["explain-crop", str(path), "--unknown-fields", "pass"]) == 2 and "'Magic'" in capsys.readouterr().err


def test_a_text_of_comments_is_no_net(tmp_path, capsys):
    path, new = tmp_path / "n.prototxt", tmp_path / "new.prototxt"
    path.write_text("# cut off behind\n  # its licence\n")
    assert main(["convert", "upgrade", str(path), str(new)]) == 2 and not new.exists()
    assert "is empty" in capsys.readouterr().err


def test_types_of_v1_that_are_not_known_keep_their_names(passing, tmp_path):
    path = tmp_path / "n.prototxt"
    path.write_text('layers { name: "a" type: SPLINE bottom: "x" top: "y" } layers { name: "b" type: "Softmax" } layers { name: "c" type: RELU }')
    assert [layer.type for layer in text.read_net(path).layer] == ["SPLINE", "Softmax", "ReLU"]


def upgraded(given):
    net = text.parse(given, caffe_pb2.NetParameter, "n")
    upgrade_net(net)
    return net


@pytest.mark.parametrize("given, kind, left", [
    ("layers { type: RELU types: 5 }", "ReLU", ["types: 5"]), ("layers { type: RELU type: TANH }", "ReLU", ["type: TANH"]),
    ("layers { type : 'My-own' type: RELU }", "ReLU", ["type : 'My-own'"]), ("layers { type : 'My-own' }", "My-own", []),
    ("layers { layer { type: 'flatten' foo: 1 } }", "Flatten", ["foo: 1"]), ("layers { layer { type: 'conv' foo: 1 } }", "Convolution", ["foo: 1"])])
def test_of_old_layers_nothing_is_lost_nor_taken_for_the_type(passing, given, kind, left):
    (layer,) = upgraded(given).layer
    assert layer.type == kind and list(layer.unread) == left


@pytest.mark.parametrize("given", ["foo: 1.0", "foo: '\x7f\x0b\\n\\x41\\'\\\\' \"\\\"\"", "foo\x0c:\x0b1", "foo { # it's\n a: 2.0\n\n b: '\u00e9\u2028' }"])
def test_it_is_written_word_for_word(passing, given):
    net = text.parse(f"name: 'n' {given}", caffe_pb2.NetParameter)
    assert text.to_text(net) == f'name: "n"\n{given}\n'


@pytest.mark.parametrize("given", ["foo {\n a: 1", "foo: [1,\n 2", "foo: 'abc", "foo: 'ab\\\\\\'", "foo < a: 1 "])
def test_a_text_that_ends_too_early_is_no_net(passing, given):
    with pytest.raises(Error, match="^n:2: foo: the text ends before the end of its value$"):
        text.parse(f"name: 'n'\n{given}", caffe_pb2.NetParameter, "n")


def test_values_of_enums_by_number(passing):
    net = text.parse("layer { pooling_param { pool: 1 round_mode: 7 } include { phase: 5 } }", caffe_pb2.NetParameter)
    assert net.layer[0].pooling_param.pool == 1 and names(net) == ["layer.include.phase", "layer.pooling_param.round_mode"]


STAGED = """state { stage: "own" }
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }
layer { name: "a" type: "ReLU" bottom: "x" top: "a" include { stage: "one" stage: "own" } }
layer { name: "b" type: "ReLU" bottom: "x" top: "b" include { min_level: 2 } }
layer { name: "t" type: "ReLU" bottom: "x" top: "t" include { phase: TRAIN } }
"""


def test_a_spawned_process_asks_for_the_same(monkeypatch):
    for name, value in (("phase", 0), ("level", 3), ("stages", ("a", "b"))):
        monkeypatch.setattr(asked, name, value)
    monkeypatch.setattr(leave, "unknown", True)
    first = pickle.dumps(handed_on())
    asked.phase, asked.level, asked.stages, leave.unknown = None, None, (), False
    pickle.loads(first)()
    assert (asked.phase, asked.level, asked.stages, leave.unknown) == (0, 3, ("a", "b"), True)


@pytest.mark.parametrize("options, there", [
    ([], ""), (["--stage", "one"], "a"), (["--level", "2", "--stage", "two,one"], "ab"), (["--phase", "TRAIN"], "t"), (["--level", "1"], "")])
def test_stages_levels_and_phases_of_every_command(tmp_path, capsys, options, there):
    path = tmp_path / "n.prototxt"
    path.write_text(STAGED)
    assert main(["describe", str(path), *options, "--csv"]) == 0
    assert [line.split(",")[0] for line in capsys.readouterr().out.splitlines()[1:]] == ["x", *there]


def test_stages_of_solve_go_to_the_train_net_alone(monkeypatch):
    monkeypatch.setattr(asked, "stages", ("a",))
    monkeypatch.setattr(asked, "level", 2)
    param = text.parse('net: "n" test_iter: 1 test_interval: 1 train_state { stage: "own" } test_state { stage: "t" }', caffe_pb2.SolverParameter)
    train, (test,) = jobs(param)
    assert ([*train.state.stage], train.state.level) == (["own", "a"], 2) and ([*test.state.stage], test.state.level) == (["t"], 0)
    assert [*param.train_state.stage] == ["own"]


def test_a_v1_layer_may_have_fields_of_the_current_format(passing):
    net = text.parse('layers { name: "b" type: BNLL batch_norm_param { eps: 1 } phase: TEST mine: 3 # c\n }\n'
                     'layers { name: "p" batch_norm_param { eps: 1 odd: 2 } }', caffe_pb2.NetParameter)
    upgrade_net(net)
    assert net.layer[0].batch_norm_param.eps == 1 and net.layer[0].phase == caffe_pb2.TEST
    assert names(net) == ["layer.mine", "layer.batch_norm_param"]
    assert text.parse(text.to_text(net.__class__(layer=net.layer[:1])), caffe_pb2.NetParameter).layer[0] == net.layer[0]


def test_comments_within_a_value_are_no_part_of_it(passing):
    net = text.parse("layers { type # it's\n: # c\n FOO mine# c\n{ a: '# 1' # \"}\n b: 2 } }", caffe_pb2.NetParameter)
    upgrade_net(net)
    assert net.layer[0].type == "FOO" and names(net) == ["layer.mine"]
    assert text.parse(text.to_text(net), caffe_pb2.NetParameter) == net


def test_what_has_its_default_changes_no_number():
    given = 'base_lr: 1 lr_policy: "fixed" larc_turbo: false momentum_policy: "fixed" local_gw_ratio: 0.001'
    assert names(text.parse(given, caffe_pb2.SolverParameter), unread.REFUSED) == []
    assert names(text.parse(given.replace("false", "true"), caffe_pb2.SolverParameter), unread.REFUSED) == ["larc_turbo"]
    layer = caffe_pb2.LayerParameter(type="Convolution", transform_param={"crop_width": 0, "fix_crop": False})
    assert names(layer) == [] and names(layer, unread.FORKS) == ["transform_param.fix_crop", "transform_param.crop_width"]


def test_what_another_state_holds_is_said(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(leave, "told", set())
    path = tmp_path / "n.prototxt"
    path.write_text(STAGED.replace('top: "x"', 'top: "x" include { phase: TRAIN }', 1))
    assert main(["describe", str(path), "--stage", "one,onee"]) == 0
    err = capsys.readouterr().err
    assert "no rule of net '' names the stage 'onee'; did you mean 'one'?" in err and "stage 'one'" not in err
    assert "bottom 'x' is no top of a layer above; layer 'x' makes it in another phase, level or stage" in err
