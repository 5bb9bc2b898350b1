"""The solver's rules as torch's optimizer and scheduler, in a loop of one's own: the same numbers as `solve`."""

import copy
import io
import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from training import BODY, changed, make_solver, params_of, solver_param, write_job

import netspec
from netspec.base.errors import Error
from netspec.net.build import load
from netspec.net.module import Net
from netspec.proto.caffe_pb2 import TRAIN
from netspec.train.optimizer import CaffeOptimizer, optimizer

pytestmark = pytest.mark.usefixtures("one_thread")

RULES = {
    "SGD": "", "Nesterov": "", "AdaGrad": "momentum: 0 delta: 1e-3", "RMSProp": "momentum: 0 rms_decay: 0.7 delta: 1e-4",
    "AdaDelta": "momentum: 0.95 delta: 1e-5", "Adam": "base_lr: 0.003 momentum2: 0.99 delta: 1e-6",
}
OTHERS = {
    "clipped": "clip_gradients: 0.5", "summed": "iter_size: 3", "L1": 'regularization_type: "L1"',
    "poly": 'lr_policy: "poly" power: 0.9', "multistep": 'lr_policy: "multistep" stepvalue: 2 stepvalue: 5',
    "inv": 'lr_policy: "inv" gamma: 0.1 power: 0.75', "exp": 'lr_policy: "exp" gamma: 0.9',
    "sigmoid": 'lr_policy: "sigmoid" gamma: 0.3 stepsize: 4', "fixed": 'lr_policy: "fixed"',
}
CASES = {**{kind: f'type: "{kind}" {text}' for kind, text in RULES.items()}, **OTHERS}
FROZEN = BODY.replace("param { lr_mult: 1 }", "param { lr_mult: 0 }")


@pytest.fixture
def job(request, tmp_path, monkeypatch):
    """The solver's text for a job in the current folder."""
    text = changed(getattr(request, "param", ""), "snapshot: 0 snapshot_after_train: false")
    write_job(tmp_path, text)
    monkeypatch.chdir(tmp_path)
    return text


def trained(text, steps=8):
    made = make_solver(text)
    made.step(steps)
    made.close()
    return params_of(made)


def begun():
    """The net of the job as a solver with its seed begins it."""
    torch.manual_seed(5)
    return Net(load("net.prototxt", TRAIN)).to(memory_format=torch.channels_last)


def loop(net, optimizer, scheduler, batches, steps):
    """Another one's training loop."""
    size = optimizer.solver.iter_size
    for _ in range(steps):
        optimizer.zero_grad()
        for _ in range(size):
            net.loss(net(next(batches))).backward()
        optimizer.step()
        scheduler.step()


def same(net, expected):
    for slot, parameter in net.parameters_by_slot():
        np.testing.assert_array_equal(parameter.detach().numpy(), expected[slot.key], err_msg=slot.key)


@pytest.mark.parametrize("job", CASES.values(), ids=CASES, indirect=True)
def test_an_own_loop_is_step_for_step_what_solve_does(job):
    net = begun()
    loop(net, *netspec.optimizer(net, "solver.prototxt"), iter(netspec.batches(net, seed=5)), 8)
    same(net, trained(job))


def test_parameters_that_do_not_learn_stay(tmp_path, monkeypatch):
    write_job(tmp_path, body=FROZEN)
    monkeypatch.chdir(tmp_path)
    net = begun()
    made, scheduler = optimizer(net, "solver.prototxt")
    assert [group["name"] for group in made.param_groups] == ["conv.bias", "score.weight", "score.bias"]
    net.parameter(net.graph.node("score").params[0]).requires_grad_(False)  # frozen by its user, later
    before = params_of_net(net)
    loop(net, made, scheduler, iter(netspec.batches(net)), 2)
    after = params_of_net(net)
    assert [key for key in before if not torch.equal(before[key], after[key])] == ["conv.bias", "score.bias"]


def params_of_net(net):
    return {key: value.clone() for key, value in net.state_dict().items()}


def test_gradients_are_not_used_up(job):
    net = begun()
    made, _ = optimizer(net, solver_param(job))
    net.loss(net(next(iter(netspec.batches(net))))).backward()
    before = [p.grad.clone() for p in net.parameters()]
    made.step()
    for p, grad in zip(net.parameters(), before, strict=True):
        assert torch.equal(p.grad, grad)


def test_rates_are_the_policys_times_the_multipliers(job):
    net = begun()
    made, scheduler = optimizer(net, "solver.prototxt")
    seen = []
    for _ in range(8):
        seen.append([group["lr"] for group in made.param_groups])
        made.step()
        scheduler.step()
    base = float(np.float32(0.05))
    assert seen[0] == [base, 2 * base, base, base] and seen[6] == seen[0] and seen[7] == [r / 2 for r in seen[0]]
    assert scheduler.get_last_lr() == seen[7]


@pytest.mark.parametrize("job", [CASES["Adam"], CASES["AdaDelta"], ""], indirect=True)
@pytest.mark.parametrize("way", ["state_dict", "pickle", "deepcopy"])
def test_a_loop_goes_on_from_what_was_kept(job, way):
    net = begun()
    batches = iter(netspec.batches(net, seed=5))
    made, scheduler = optimizer(net, "solver.prototxt")
    loop(net, made, scheduler, batches, 4)
    random = torch.get_rng_state()
    if way == "state_dict":
        kept = io.BytesIO()
        torch.save([one.state_dict() for one in (net, made, scheduler)], kept)
        kept.seek(0)
        other = Net(net.graph)
        both = optimizer(other, "solver.prototxt")
        for one, state in zip((other, *both), torch.load(kept, weights_only=True), strict=True):
            one.load_state_dict(state)
        net, made, scheduler = other.to(memory_format=torch.channels_last), *both
    elif way == "pickle":
        again = pickle.loads(pickle.dumps(made))
        assert again.solver == made.solver and str(again.state_dict()) == str(made.state_dict())
    else:
        made, net, scheduler = (copied := copy.deepcopy((made, net, scheduler)))
        assert copied[2].optimizer is made
    expected = trained(job)
    torch.set_rng_state(random)
    loop(net, made, scheduler, batches, 4)
    same(net, expected)


def test_a_loss_may_be_computed_by_step(job):
    net = begun()
    made, _ = optimizer(net, "solver.prototxt")
    assert isinstance(made, torch.optim.Optimizer) and isinstance(made, CaffeOptimizer)
    batch = next(iter(netspec.batches(net)))

    def closure():
        made.zero_grad()
        loss = net.loss(net(batch))
        loss.backward()
        return loss

    assert made.step(closure).item() > made.step(closure).item() > 0


def test_other_schedulers_work_on_it(job):
    net = begun()
    made, _ = optimizer(net, "solver.prototxt")
    other = torch.optim.lr_scheduler.CosineAnnealingLR(made, 4)
    made.step()
    other.step()
    assert made.param_groups[0]["lr"] < float(np.float32(0.05))


def test_what_cannot_work_is_said(job, tmp_path):
    net = begun()
    with pytest.raises(Error, match=r"solver: solver type 'SDG' is not known; did you mean 'SGD'\?"):
        optimizer(net, solver_param(changed('type: "SDG"')))
    (tmp_path / "bad.prototxt").write_text(changed('lr_policy: "stepp"'))
    with pytest.raises(Error, match=r"bad.prototxt: lr_policy 'stepp' is not known"):
        optimizer(net, "bad.prototxt")
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    with pytest.raises(Error, match="net 'tiny' has nothing to learn"):
        optimizer(net, "solver.prototxt")


def test_workers_change_nothing(job):
    net = begun()
    loader = DataLoader(netspec.batches(net, seed=5), batch_size=None, num_workers=2, generator=torch.Generator())  # it draws a number
    loop(net, *optimizer(net, "solver.prototxt"), iter(loader), 8)
    same(net, trained(job))
