"""The nets and weights that a solver file names: which layers they have, what is shared, and what is refused."""

import pytest
import torch
from training import BODY, SOLVER, VOC, changed, make_solver, params_of, rows, same, write_job

from netspec.base.errors import Error
from netspec.proto.model import read_weights, write_weights
from netspec.train.solver import get_solver

pytestmark = pytest.mark.usefixtures("one_thread")


def test_test_nets_share_the_parameters_and_give_means(job):
    write_job(job, SOLVER + " test_iter: 3 test_iter: 2 test_interval: 2 test_compute_loss: true", data=rows(2))
    lines = []
    one = get_solver("solver.prototxt")
    one.log = lambda where, text, level="I": lines.append((where, text))
    assert len(one.test_nets) == 2
    for net in one.test_nets:
        assert all(a is b for (_, a), (_, b) in zip(net.parameters_by_slot(), one.net.parameters_by_slot(), strict=True))
    means = one.test_all()
    batches = [one.net.graph.sources[0].op.load(k) for k in range(3)]
    with torch.no_grad():
        losses = [one.test_nets[0](dict(zip(("data", "label"), map(torch.from_numpy, b), strict=True)))["loss"] for b in batches]
    assert means[0]["loss"] == pytest.approx(float(sum(losses)) / 3, rel=1e-6)
    assert means[1]["loss"] == pytest.approx(float(sum(losses[:2])) / 2, rel=1e-6)
    assert ("solver.cpp:401", f"Test loss: {means[0]['loss']:.6g}") in lines
    one.close()


def test_a_test_of_no_batches_has_no_means(job):
    write_job(job, SOLVER + " test_iter: 0 test_interval: 2 test_compute_loss: true")
    assert get_solver("solver.prototxt").test_all() == [{}]


def test_an_output_that_changes_its_shape_has_no_mean(job):
    body = BODY + 'layer { name: "p" type: "Softmax" bottom: "score" top: "prob" }'
    write_job(job, SOLVER + " test_iter: 4 test_interval: 5", body, VOC)
    one = get_solver("solver.prototxt")
    assert set(one.test()) == {"loss"}
    one.close()


@pytest.mark.parametrize("text, words", [
    ("", "must name one train net, by net, train_net, net_param or train_net_param, found none"),
    ('net: "net.prototxt" train_net: "net.prototxt"', "found net, train_net"),
    ('train_net: "net.prototxt" test_net: "net.prototxt"', "has 0 test_iter for 1 test nets"),
    ('train_net: "net.prototxt" test_iter: 3', "has 1 test_iter for 0 test nets"),
    ('net: "net.prototxt" test_iter: 3', "has a test net but no test_interval above 0"),
    ('net: "net.prototxt" test_iter: 3 test_interval: 1 test_state { } test_state { }', "has 2 test_state for 1 test nets"),
    ('net: "nett.prototxt"', "net 'nett.prototxt' is not there .tried "),
    ('net: "net.prototxt" weights: "none.caffemodel"', "weights 'none.caffemodel' is not there .tried .*--weights names others"),
])
def test_solvers_that_name_no_nets_are_refused(job, text, words):
    with pytest.raises(Error, match=words):
        make_solver('base_lr: 1 lr_policy: "fixed" ' + text, path=job / "solver.prototxt")


@pytest.mark.parametrize("text, words", [
    ('regularization_type: "L3"', "regularization_type must be L1 or L2, found 'L3'"),
    ('type: "AdaGrad"', "AdaGrad takes no momentum, found 0.9"),
    ('type: "Adagrad"', "'Adagrad' is not known; did you mean 'AdaGrad'?"),
    ("average_loss: 0", "average_loss must be at least 1, found 0"),
    ("iter_size: 0", "iter_size must be at least 1, found 0"),
])
def test_solvers_with_settings_that_cannot_work_are_refused(job, text, words):
    with pytest.raises(Error, match=f"^solver.prototxt: .*{words}".replace("?", "[?]")):
        make_solver(changed(text), path="solver.prototxt")


def test_states_of_solver_and_net_choose_the_layers(job):
    body = BODY + "".join(f'layer {{ name: "{name}" type: "Silence" bottom: "score" include {{ {rule} }} }}\n' for name, rule in {
        "train": "phase: TRAIN", "test": "phase: TEST", "own": 'stage: "own"', "given": 'stage: "given"', "high": "min_level: 2",
    }.items())
    write_job(job, body=body)
    path = job / "net.prototxt"
    path.write_text('state { stage: "own" level: 2 }\n' + path.read_text())
    text = SOLVER + ' test_iter: 1 test_interval: 9 train_state { stage: "given" } test_state { level: 0 }'
    one = make_solver(text, path="solver.prototxt")
    names = [{n.name for n in net.graph.nodes if n.type == "Silence"} for net in (one.net, *one.test_nets)]
    assert names == [{"train", "own", "given", "high"}, {"test", "own"}]


def test_weights_of_the_solver_are_loaded(job):
    one = get_solver("solver.prototxt")
    one.step(3)
    one.close()
    read = read_weights("run/snap_iter_3.caffemodel")
    for name in read:
        write_weights(f"{name}.caffemodel", "x", {name: ("Convolution", read[name])})
    other = make_solver(SOLVER + ' weights: "conv.caffemodel, score.caffemodel"', path="solver.prototxt")
    same(params_of(other), params_of(one))
    assert other.loaded == {"conv": "copied", "score": "copied"}
    half = make_solver(SOLVER + ' weights: "conv.caffemodel"', path="solver.prototxt")
    assert half.loaded == {"conv": "copied"}
    write_weights("other.caffemodel", "x", {"convolution": ("Convolution", read["conv"])})
    with pytest.raises(Error, match="other.caffemodel have no layer of net 'tiny'; layers are matched by name"):
        make_solver(SOLVER + ' weights: "other.caffemodel"', path="solver.prototxt")


def test_nothing_to_learn_is_an_error(job):
    body = BODY.replace("param { lr_mult: 1 } param { lr_mult: 2 decay_mult: 0 }", "").replace(
        "convolution_param", "param { lr_mult: 0 } param { lr_mult: 0 } convolution_param")
    write_job(job, body=body)
    with pytest.raises(Error, match="has nothing to learn"):
        get_solver("solver.prototxt")
