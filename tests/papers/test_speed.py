"""netspec is held against other programs that do the same: their results first, then their time."""

import os
import re
from pathlib import Path

import pytest
import torch

from netspec import TRAIN, Error, NetSpec
from netspec import layers as L
from netspec.base import machine
from netspec.cli import main as cli
from netspec.convert import engines, routed
from netspec.convert.agree import filled
from netspec.net.build import build
from netspec.net.passes import REWRITES, TRAINING
from netspec.net.plan import Plan
from netspec.papers import contenders, growth, measure, plain, speed, steps, work
from netspec.proto import text as prototext

ROOT = Path(__file__).parents[2]
SMALL = str(ROOT / "models/shapes-fcn8s/deploy.prototxt")


def rows(said: str) -> list[list[str]]:
    return [re.split(r"  +", line) for line in said.splitlines() if line.startswith(("fp32 ", "bf16 "))]


@pytest.mark.parametrize("name", ["shapes-fcn8s", "shapes-fcn16s", "shapes-fcn32s"])
def test_plain_scores_are_the_nets(name):
    net, feed = speed.drawn(speed.at_size(ROOT / f"models/{name}/deploy.prototxt", (61, 84)))
    made = plain.of(net.graph, net.state_dict())
    assert made is not None
    with torch.inference_mode():
        ours, theirs = net(feed)["score"], made.eval()(feed["data"])
    assert ours.std() > 0.01 and (ours - theirs).abs().max() < 1e-5 * ours.abs().max()


def test_plain_knows_no_other_net():
    net = filled(build(prototext.read_net(ROOT / "models/shapes-fcn8s/deploy.prototxt")))
    weights = net.state_dict()
    assert plain.of(net.graph, weights) is not None
    assert plain.of(net.graph, {name: x for name, x in weights.items() if "fc7" not in name}) is None
    assert plain.of(net.graph, {**weights, "more.weight": torch.zeros(1, 1, 1, 1)}) is None


@pytest.mark.engine
def test_forward_says_where_and_how_and_times_all(capsys):
    assert cli.main(["time", "forward", SMALL, "--size", "61x84", "--repeats", "2"]) == 0
    said = capsys.readouterr().out
    for fact in ("command", "date", "python", "device", "engines", "load average before"):
        assert re.search(rf"^{fact}: .", said, re.M), fact
    assert "1x3x61x84, 2 rounds" in said
    found, of = rows(said), work.of_pass(speed.at_size(Path(SMALL), (61, 84)))
    assert "of all multiplications netspec does 0.51, and without the border rewrite 1.00\n" in said
    assert [row[:2] for row in found if "net" in row[1] or "plain" in row[1]] == [
        [precision, name] for precision in ("fp32", "bf16") for name in ("netspec as it is", "netspec", "plain PyTorch")]
    assert {row[1] for row in found if row[0] == "fp32"} == {"netspec as it is", "netspec", "plain PyTorch",
                                                             *contenders.installed(),
                                                             *(f"{name}, rewritten" for name in engines.available())}
    for row in found:
        median, least, most, ratio, low, high, apart, rate = map(float, row[2:])
        assert abs(of.operations / rate / 1e12 - median) < 6e-4 + 0.01 * median  # as the digits go
        assert 0 < least <= median <= most and low <= ratio <= high
        assert apart <= (1e-4 if row[0] == "fp32" else 0.1) and (row[0] == "fp32" or apart > 1e-4)
    for precision in ("fp32", "bf16"):
        assert ["1.00"] * 3 in [row[5:8] for row in found if row[0] == precision]
    for name in ("netspec as it is", "plain PyTorch", *contenders.installed()):
        assert re.search(rf"^{name}[\w ]*: .", said, re.M), name  # what it was told


def test_only_those_asked_for_are_timed_and_looked_into(capsys):
    assert cli.main(["time", "forward", SMALL, "--size", "61x84", "--repeats", "1", "--only", "PLAIN", "--precision",
                     "fp32", "--profile"]) == 0
    said = capsys.readouterr().out
    assert [row[:2] for row in rows(said)] == [["fp32", "plain PyTorch"]]
    assert re.search(r"^torch's operation, ms +plain PyTorch, fp32\n", said, re.M) and re.search(r"^mkldnn_convolution +\d", said, re.M)
    assert cli.main(["time", "forward", SMALL, "--only", "nobody"]) == 2
    assert "no program has such a name" in capsys.readouterr().err


def test_who_computes_something_else_is_left_out(monkeypatch):
    cut = plain.cut
    monkeypatch.setattr(plain, "cut", lambda x, like, at: cut(x, like, at - 1))
    said = speed.time_forward(Path(SMALL), (61, 84), ["fp32"], ["as it is", "plain"], False, 1)
    assert [row[1] for row in rows(said)] == ["netspec as it is"]
    assert re.search(r"plain PyTorch in fp32 is left out: its outputs differ by 0\.\d+ of the largest", said)


def test_each_rewrite_is_left_off_in_turn(monkeypatch):
    plans = []
    monkeypatch.setattr(contenders, "Plan", lambda net, without=(): plans.append(made := Plan(net, without)) or made)
    said = speed.time_forward(Path(SMALL), (61, 84), ["fp32"], ["netspec"], True, 1)
    assert [row[1] for row in rows(said)] == ["netspec as it is", "netspec", *(f"netspec without {x}" for x in REWRITES)]
    assert [plan.rewrites for plan in plans] == [frozenset(REWRITES), *(frozenset(REWRITES) - {x} for x in REWRITES)]


@pytest.mark.engine
@pytest.mark.parametrize("name", ["onnxruntime", "openvino", "opencv"])
def test_engines_are_fed_with_the_net_as_published_and_as_its_plan_runs_it(name):
    if name not in contenders.installed():
        pytest.skip(f"{name} is not installed")
    net, feed = speed.drawn(speed.at_size(Path(SMALL), (61, 84)))
    found = [*contenders.contenders(net, feed, ["fp32"], [name], False, [])]
    assert [(each.name, each.rival) for each in found] == [(name, True), (f"{name}, rewritten", False)][: 2 - (name == "opencv")]
    with torch.no_grad():
        assert all(0 < speed.distance(net(feed), each.call()) < 1e-5 for each in found)
        net.get_parameter("score_pool3.weight").mul_(1.01)  # what is called does not look at the net again
        assert all(speed.distance(net(feed), each.call()) > 1e-4 for each in found)


def test_an_engine_is_given_the_net_without_what_is_done_for_it_in_turn(monkeypatch):
    pytest.importorskip("onnx")
    given: list[bytes] = []
    monkeypatch.setattr(engines, "available", lambda: {"openvino": "1"})
    monkeypatch.setattr(engines, "tiled", lambda precision: True)
    monkeypatch.setattr(engines, "open", lambda name, model, *rest: given.append(model) or (lambda arrays: {}))
    monkeypatch.setattr(routed, "TILED", (1, 1))
    net, feed = speed.drawn(speed.at_size(Path(SMALL), (61, 84)))
    names = [each.name for each in contenders.contenders(net, feed, ["fp32"], ["openvino"], True, [])]
    assert names == ["openvino", "openvino, rewritten", *(f"openvino, rewritten without {name}" for name in (
        "dead", "idle", "tile", "group", "crop", "border"))]
    models = dict(zip(names, given, strict=True))
    for name in ("tile", "group", "crop", "border"):
        assert models[f"openvino, rewritten without {name}"] != models["openvino, rewritten"]


def test_probabilities_that_are_compared_are_neither_0_nor_1(tmp_path):
    n = NetSpec()
    n.data = L.Input(shape=dict(dim=[1, 3, 8, 8]))
    n.score = L.InnerProduct(n.data, num_output=10, weight_filler=dict(type="gaussian", std=100))
    n.prob = L.Softmax(n.score)
    prototext.write(tmp_path / "net.prototxt", n.to_proto())
    graph = speed.at_size(tmp_path / "net.prototxt", None)
    net, feed = speed.drawn(graph)
    with torch.no_grad():
        assert 0.1 < net(feed)["prob"].max() < 0.9
    with pytest.raises(Error, match="takes images of 8x8 alone, found 9x8"):
        speed.at_size(tmp_path / "net.prototxt", (9, 8))


def test_distances_are_shares_and_infinite_where_something_lacks():
    a = {"x": torch.tensor([2.0, -4.0]), "y": torch.ones(1)}
    assert speed.distance(a, {"x": torch.tensor([2.0, -3.0]), "y": torch.ones(1)}) == 0.25
    assert speed.distance(a, {"x": a["x"]}) == speed.distance(a, {"x": torch.ones(3), "y": a["y"]}) == float("inf")


def test_precisions_and_sizes_that_are_none_are_refused(capsys):
    with pytest.raises(SystemExit):
        cli.main(["time", "forward", SMALL, "--precision", "fp64"])
    assert "expected some of fp32, tf32 and bf16" in capsys.readouterr().err
    assert cli.main(["time", "forward", SMALL, "--size", "0x5"]) == 2
    for command in (["forward", SMALL], ["train", TRAINED]):
        assert cli.main(["time", *command, "--size", "48x64", "--precision", "fp32,tf32"]) == 2
        assert "--precision tf32: cpu has no TF32" in capsys.readouterr().err
        assert cli.main(["time", *command, "--batch", "0"]) == 2
        assert "--batch must be at least 1, found 0" in capsys.readouterr().err


def test_all_take_turns_after_a_round_to_warm_up(monkeypatch):
    monkeypatch.setattr(measure, "LEAST", 0)
    calls: list[str] = []
    found = measure.rounds({name: (lambda name=name: calls.append(name)) for name in "abc"}, 4)
    assert [sorted(calls[i : i + 3]) for i in range(0, 15, 3)] == [["a", "b", "c"]] * 5 and len(calls) == 15
    assert calls != sorted(calls[:3]) * 5  # in new orders
    assert {name: len(times) for name, times in found.items()} == dict(a=4, b=4, c=4)


TRAINED = str(ROOT / "solvers/shapes-fcn8s.prototxt")


def test_training_steps_are_the_same_and_timed(capsys):
    assert cli.main(["time", "train", TRAINED, "--size", "48x64", "--repeats", "1", "--profile"]) == 0
    said = capsys.readouterr().out
    found = rows(said)
    assert re.search(r"^convolution_backward( +\d+\.\d){4}$", said, re.M)
    assert [row[:2] for row in found] == [[p, name] for p in ("fp32", "bf16") for name in ("netspec", "plain PyTorch")]
    assert [float(row[8]) < 1e-6 for row in found] == [True, True, False, False]
    assert "1x3x48x64, 1x1x48x64, 1 round" in said and "plain PyTorch in fp32" in said


def with_solver(folder: Path, change: dict[str, str]) -> Path:
    """The solver of shapes-fcn8s with words changed, in itself or its net."""
    texts = [Path(TRAINED).read_text(), (ROOT / "models/shapes-fcn8s/train.prototxt").read_text()]
    for old, new in change.items():
        assert any(old in text for text in texts)
        texts = [text.replace(old, new) for text in texts]
    (folder / "train.prototxt").write_text(texts[1])
    path = folder / "solver.prototxt"
    path.write_text(texts[0].replace("models/shapes-fcn8s/train.prototxt", str(folder / "train.prototxt")))
    return path


DROPS = {f'layer {{\n  name: "{above}"': f'layer {{ name: "drop-{blob}" type: "Dropout" bottom: "{blob}" top: "{blob}" '
         f'dropout_param {{ dropout_ratio: 0.9 }} }}\nlayer {{\n  name: "{above}"'
         for blob, above in (("fc6", "fc7"), ("fc7", "score_fr"))}


@pytest.fixture
def double():
    """In float32 a rounding decides which of two nearly equal numbers is the largest, and weights move otherwise."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def test_three_steps_of_plain_pytorch_end_where_netspecs_do(tmp_path, double):
    path = with_solver(tmp_path, {"iter_size: 1": "iter_size: 3"})
    param = steps.bare(path, (48, 64))
    assert param.iter_size == 1 and not param.weights and not param.snapshot
    ours = steps.Ours(param, path, "fp32")
    other = steps.Plain(ours.solver, "fp32")
    before = {slot.key: p.detach().clone() for slot, p in ours.solver.net.parameters_by_slot()}
    batch = {name: x.double() for name, x in ours.solver.data.next(ours.solver.net).items()}
    assert set(batch["label"].long().unique().tolist()) == {*range(5)} and abs(float(batch["data"].std()) - 1) < 0.1
    other.image = other.image.double()
    ours.solver.data.next = lambda net: batch  # plain PyTorch sees one batch again and again
    for run in (ours, other):
        run.drop(False)
    losses = [(ours.step(), other.step()) for _ in range(3)]
    assert losses[0][0] == pytest.approx(losses[0][1], rel=1e-5)
    for slot, parameter in ours.solver.net.parameters_by_slot():
        theirs, start = other.net.get_parameter(slot.key), before[slot.key]
        moved = float((parameter.detach() - start).abs().max())
        assert (moved > 0) == (slot.lr_mult > 0), slot.key
        assert float((parameter.detach() - theirs.detach()).abs().max()) <= 1e-3 * moved, slot.key


def test_a_plain_step_that_is_another_is_left_out_and_what_it_cannot_is_said(tmp_path, monkeypatch):
    path = with_solver(tmp_path, {})
    monkeypatch.setattr(steps, "_criterion", lambda node: lambda x, y: torch.nn.functional.cross_entropy(x, y) / 2)
    said = steps.time_train(path, (48, 64), ["fp32"], [], 1)
    assert [row[1] for row in rows(said)] == ["netspec"] and "plain PyTorch in fp32 is left out: its step differs" in said
    path.write_text(path.read_text() + '\ntype: "Nesterov"\n')
    said = steps.time_train(path, (48, 64), ["fp32"], [], 1)
    assert [row[1] for row in rows(said)] == ["netspec"] and "plain PyTorch is left out: it is written for" in said


def test_first_steps_are_compared_without_dropout(tmp_path):
    path = with_solver(tmp_path, DROPS)
    found = rows(steps.time_train(path, (48, 64), ["fp32"], [], 1))
    assert [row[1] for row in found] == ["netspec", "plain PyTorch"] and all(float(row[8]) < 1e-6 for row in found)
    param = steps.bare(path, (48, 64))
    run = steps.Ours(param, path, "fp32")
    assert run.ratios == pytest.approx([0.9, 0.9]) and steps.Plain(run.solver, "fp32").net.dropout.p == pytest.approx(0.9)
    run.drop(False)
    assert [op.ratio for op in run.dropouts] == [0, 0]
    run.drop(True)
    assert [op.ratio for op in run.dropouts] == pytest.approx([0.9, 0.9])


def test_tf32_is_as_each_programs_precision_says(monkeypatch):
    """Every solver, and whatever else, sets the flag of the whole process."""
    now, seen = ["none"], []
    for module in (contenders, speed, steps):
        monkeypatch.setattr(module, "settle", lambda device, precision: now.append(precision))

    def watch(of, name, precision):
        call = getattr(of, name)
        monkeypatch.setattr(of, name, lambda *given: seen.append((precision(given), now[-1])) or call(*given))

    def kind(dtype):
        return "fp32" if dtype is None else "bf16"

    made = steps.Solver.__init__
    monkeypatch.setattr(steps.Solver, "__init__", lambda *a, **b: now.append(b["precision"]) or made(*a, **b))
    watch(steps.Ours, "step", lambda given: given[0].solver.precision)
    watch(steps.Plain, "step", lambda given: kind(given[0].dtype))
    watch(contenders, "_ours", lambda given: kind(given[3]))
    steps.time_train(Path(TRAINED), (48, 64), ["fp32", "bf16"], [], 1)
    speed.time_forward(Path(SMALL), (33, 34), ["fp32", "bf16"], ["netspec"], False, 1)
    assert len(seen) > 16 and {*seen} == {("fp32", "fp32"), ("bf16", "bf16")}


def test_a_table_of_a_gpu_says_what_tf32_was(monkeypatch):
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    try:
        assert contenders.told_of_tf32(torch.device("cuda"), ["fp32", "tf32", "bf16"]) == [
            "TF32, set anew for each call: forbidden in fp32, allowed in tf32, allowed in bf16"]
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before
    assert contenders.told_of_tf32(torch.device("cpu"), ["fp32"]) == []
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    with pytest.raises(Error, match="cuda:1 has no TF32"):
        contenders.check_precisions(["tf32"], torch.device("cuda:1"))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    contenders.check_precisions(["tf32"], torch.device("cuda:1"))


def test_netspec_trains_in_several_ways(tmp_path, monkeypatch):
    """Without each rewrite from the same weights, in whatever order they lie; in a row, of batches of two."""
    path = with_solver(tmp_path, {"iter_size: 1": "iter_size: 3"})
    counts = []
    step = steps.Ours.step
    monkeypatch.setattr(steps.Ours, "step", lambda self, times=1: counts.append(times) or step(self, times))
    once, memory = [], steps.memory
    monkeypatch.setattr(steps, "memory", lambda device, given: once.extend(given) or memory(device, given))
    said = steps.time_train(path, (48, 64), ["fp32"], ["netspec"], 1, batch=2, steps=3, forms=steps.forms_of(True, True))
    found = rows(said)
    assert [row[1] for row in found] == ["netspec", *(f"netspec without {name}" for name in TRAINING), "netspec --checkpoint"]
    assert all(float(row[8]) < 1e-5 for row in found) and "2x3x48x64, 2x1x48x64" in said and "3 steps in each" in said
    assert {*counts} == {1, 3} and "minutes for" not in said  # whose batches are others
    counts.clear()
    once[-1].call()
    assert counts == [1] and [each.name for each in once] == [row[1] for row in found]


def test_minutes_of_all_iterations_are_told_of_the_solvers_own_batches(tmp_path):
    path = with_solver(tmp_path, {"iter_size: 1": "iter_size: 3"})
    said = steps.time_train(path, (48, 64), ["fp32"], ["netspec"], 1)
    minutes = float(re.search(r"minutes for 180 iterations \(540 steps\) .*: netspec in fp32 ([\d.]+)$", said, re.M)[1])
    assert minutes == pytest.approx(float(rows(said)[0][2]) * 9, abs=0.1)


def test_where_no_compiler_is_the_others_are_timed(monkeypatch):
    def none(device):
        raise Error("--compile needs one")

    monkeypatch.setattr("netspec.net.quick.compiler", none)
    said = steps.time_train(Path(TRAINED), (48, 64), ["fp32"], ["netspec"], 1, forms=steps.forms_of(compiled=True))
    assert [row[1] for row in rows(said)] == ["netspec"] and said.endswith("\nnetspec --compile is left out: --compile needs one")


def test_a_compiled_step_is_timed(monkeypatch):
    """By a torch.compile that does nothing: a true one takes minutes."""
    monkeypatch.setattr("netspec.net.quick.compiler", lambda device: None)
    monkeypatch.setattr(torch, "compile", lambda net, dynamic: compiled.append(net) or net)
    compiled: list[torch.nn.Module] = []
    said = steps.time_train(Path(TRAINED), (48, 64), ["fp32"], ["netspec"], 1, forms=steps.forms_of(compiled=True))
    assert [row[1] for row in rows(said)] == ["netspec", "netspec --compile"] and len(compiled) == 1


def test_a_step_is_counted_by_what_learns():
    n = NetSpec()
    n.data, n.label = L.DummyData(ntop=2, shape=[dict(dim=[2, 3, 8, 8]), dict(dim=[2])])
    n.still = L.Convolution(n.data, num_output=4, kernel_size=3, param=[dict(lr_mult=0)] * 2)  # 6x6
    n.first = L.Convolution(n.still, num_output=5, kernel_size=3)  # 4x4
    n.frozen = L.InnerProduct(n.first, num_output=7, param=[dict(lr_mult=0)] * 2)
    n.last = L.InnerProduct(n.frozen, num_output=6)
    n.loss = L.SoftmaxWithLoss(n.last, n.label)
    graph = build(n.to_proto(), TRAIN)
    still, first, frozen, last = 2 * 36 * 4 * 27, 2 * 16 * 5 * 36, 2 * 80 * 7, 2 * 7 * 6
    assert work.of_pass(graph).operations == 2 * (still + first + frozen + last)
    assert work.of_step(graph).operations == 2 * (still + 2 * first + 2 * frozen + 3 * last)


def test_what_a_cards_rate_is_used_of_is_told_where_it_is_known(monkeypatch):
    cpu, spent = torch.device("cpu"), {contenders.Contender("a", p, list, ""): [2.0, 1.0, 4.0] for p in ("fp32", "bf16")}
    assert work.of_card(cpu, work.Work(6 * 10**12, ""), spent) == []
    monkeypatch.setitem(work.CARDS, machine.device_name(cpu), 12e12)
    (line,) = work.of_card(cpu, work.Work(6 * 10**12, ""), spent)
    assert line.startswith("of the 12 TFLOP/s of dense products in bf16 of ") and line.endswith(": a 0.250")


def test_memory_of_each_call_is_told_on_a_gpu(monkeypatch):
    held = iter((5e6, 12e6))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: None)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: next(held))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: next(held))
    calls = [contenders.Contender("a", "bf16", list, "")]
    assert work.memory(torch.device("cuda"), calls) == ["MB of the device at most, beyond parameters and history: a in bf16 7"]
    assert work.memory(torch.device("cpu"), calls) == []


@pytest.mark.slow
def test_growth_is_measured_in_a_process_for_each_point_and_drawn(tmp_path, capfd):
    plot = tmp_path / "grow.svg"
    assert cli.main(["time", "grow", SMALL, "--sides", "48,320,48x96", "--batches", "1,2", "--repeats", "2", "--plot", str(plot)]) == 0
    said, err = capfd.readouterr()
    found = [re.split(r"  +", line) for line in said.splitlines() if re.match(r"\d+x\d+ ", line)]
    assert not err and [row[:3] for row in found] == [[size, batch, name] for size, batch in (
        ("48x48", "1"), ("320x320", "1"), ("48x96", "1"), ("48x48", "2")) for name in ("netspec", "netspec as it is")]
    for row in found:
        median, least, most, peak, beyond = map(float, row[3:])
        assert 0 < least <= median <= most and 0 <= beyond < peak
    beyond = {tuple(row[:3]): float(row[7]) for row in found}
    assert beyond["320x320", "1", "netspec as it is"] > 1.5 * beyond["48x48", "1", "netspec as it is"]
    text = plot.read_text()
    assert "images in a batch" in text and "pixels along a side of a square as large" in text and "peak memory, GB" in text and f"wrote {plot}" in said


def test_points_without_room_or_ended_say_so(monkeypatch):
    points = [growth.Point("netspec", (64, 64), 1, [1.0, 3.0, 2.0], 4e9, 1e9)]
    monkeypatch.setattr(growth, "_passes", _dies)
    points += growth.time_grow(Path(SMALL), [(64, 64)], [1], "fp32", 1)
    monkeypatch.setattr(growth, "check_blobs", _full)
    points += growth.time_grow(Path(SMALL), [(64, 64)], [1], "fp32", 1)
    lines = growth.grown(points).splitlines()
    assert lines[2].split()[-5:] == ["2.000", "1.000", "3.000", "4000", "1000"] and lines[3].split()[-5:] == ["-"] * 5
    assert "process was ended" in lines[7] and lines[9].endswith("batch 1: no room")
    with pytest.raises(Error):  # no process tells a mistake
        list(growth.time_grow(ROOT / "models/alexnet/deploy.prototxt", [(100, 100)], [1], "fp32", 1))


def test_sides_are_numbers_or_sizes(capsys):
    with pytest.raises(SystemExit):
        cli.main(["time", "grow", SMALL, "--sides", "48,0x5"])
    assert "expected numbers above 0, or two with an x, with commas between, found '48,0x5'" in capsys.readouterr().err
    points = [growth.Point(name, size, 1, [1.0], 4e9, 1e9) for size in ((32, 64), (96, 96)) for name in growth.NAMES]
    assert [line.split()[0] for line in growth.grown(points).splitlines()[2:]] == ["32x64", "32x64", "96x96", "96x96"]


def _dies(asked, *rest):
    asked.send(None)
    asked.close()
    os._exit(9)


def _full(*rest):
    raise Error("no room")


@pytest.mark.gpu
def test_a_forward_pass_on_a_gpu_beside_plain_pytorch(capsys):
    assert cli.main(["time", "forward", SMALL, "--size", "61x84", "--repeats", "1", "--device", "cuda"]) == 0
    assert {row[1] for row in rows(capsys.readouterr().out)} == {"netspec as it is", "netspec", "plain PyTorch"}


def test_a_device_that_is_not_here_is_a_sentence(capsys):
    assert cli.main(["time", "forward", SMALL, "--size", "61x84", "--device", "gpu9"]) == 2
    assert "device 'gpu9' is not known; use cpu, cuda, cuda:N or mps" in capsys.readouterr().err
