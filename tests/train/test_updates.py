"""Update rules, policies, decay and clipping against scalar formulas in float64, written from the papers and Caffe's manual."""

import math

import numpy as np
import pytest
import torch
from training import solver_param

from netspec.base.errors import Error
from netspec.train import updates

SHAPES = [(3, 2, 2), (4,), ()]
RATES = [0.3, 0.05, 1.7]
STEPS = 6


def param(text=""):
    return solver_param('base_lr: 1 lr_policy: "fixed" max_iter: 100 ' + text)


def numbers(seed, scale=1.0):
    rng = np.random.default_rng(seed)
    return [rng.normal(0, scale, shape) for shape in SHAPES]


# one number at a time: (w, g, rate, history, t) -> (new w, new history)

def sgd(p, w, g, rate, h, t):
    v = p.momentum * h[0] + rate * g
    return w - v, [v]


def nesterov(p, w, g, rate, h, t):
    v = p.momentum * h[0] + rate * g
    return w - ((1 + p.momentum) * v - p.momentum * h[0]), [v]


def adagrad(p, w, g, rate, h, t):
    s = h[0] + g * g
    return w - rate * g / (math.sqrt(s) + p.delta), [s]


def rmsprop(p, w, g, rate, h, t):
    s = p.rms_decay * h[0] + (1 - p.rms_decay) * g * g
    return w - rate * g / (math.sqrt(s) + p.delta), [s]


def adadelta(p, w, g, rate, h, t):
    s = p.momentum * h[0] + (1 - p.momentum) * g * g
    u = g * math.sqrt(h[1] + p.delta) / math.sqrt(s + p.delta)
    return w - rate * u, [s, p.momentum * h[1] + (1 - p.momentum) * u * u]


def adam(p, w, g, rate, h, t):
    m = p.momentum * h[0] + (1 - p.momentum) * g
    v = p.momentum2 * h[1] + (1 - p.momentum2) * g * g
    corrected = rate * math.sqrt(1 - p.momentum2 ** (t + 1)) / (1 - p.momentum ** (t + 1))
    return w - corrected * m / (math.sqrt(v) + p.delta), [m, v]


NAIVE = {"SGD": sgd, "Nesterov": nesterov, "AdaGrad": adagrad, "RMSProp": rmsprop, "AdaDelta": adadelta, "Adam": adam}
SETTINGS = {
    "SGD": "momentum: 0.9", "Nesterov": "momentum: 0.8", "AdaGrad": "delta: 1e-3", "RMSProp": "rms_decay: 0.7 delta: 1e-4",
    "AdaDelta": "momentum: 0.95 delta: 1e-5", "Adam": "momentum: 0.9 momentum2: 0.99 delta: 1e-6",
}


@pytest.mark.parametrize("kind", updates.RULES)
def test_rules_are_their_formulas(kind):
    p = param(f'type: "{kind}" {SETTINGS[kind]}')
    updates.check_settings(p)
    rule, kinds = updates.RULES[kind]
    assert set(NAIVE) == set(updates.RULES)
    weights = [torch.from_numpy(np.array(w)) for w in numbers(0)]
    history = [torch.zeros_like(w) for _ in range(kinds) for w in weights]
    naive_w = [np.array(w) for w in numbers(0)]
    naive_h = [[np.zeros_like(w) for w in naive_w] for _ in range(kinds)]
    for t in range(STEPS):
        rates = [r / (t + 1) for r in RATES]  # a falling rate shows where it enters
        steps = rule(p, t, [torch.from_numpy(g.copy()) for g in map(np.asarray, numbers(t + 1, 0.5))], history, rates)
        for w, step in zip(weights, steps, strict=True):
            w -= step
        for i, (w, g) in enumerate(zip(naive_w, numbers(t + 1, 0.5), strict=True)):
            for at in np.ndindex(w.shape):
                past = [h[i][at] for h in naive_h]
                w[at], past = NAIVE[kind](p, w[at], np.asarray(g)[at], rates[i], past, t)
                for h, value in zip(naive_h, past, strict=True):
                    h[i][at] = value
        for i, w in enumerate(naive_w):
            np.testing.assert_allclose(weights[i].numpy(), w, rtol=1e-12, atol=1e-14, err_msg=f"{kind} {i} at {t}")
            for k in range(kinds):  # all first kinds, then all second ones: Caffe's order in a .solverstate
                np.testing.assert_allclose(history[k * len(SHAPES) + i].numpy(), naive_h[k][i], rtol=1e-12, atol=1e-14)


POLICY = {
    "fixed": ("", lambda i: 0.5),
    "step": ("gamma: 0.1 stepsize: 7", lambda i: 0.5 * 0.1 ** math.floor(i / 7)),
    "exp": ("gamma: 0.97", lambda i: 0.5 * 0.97**i),
    "inv": ("gamma: 0.1 power: 0.75", lambda i: 0.5 * (1 + 0.1 * i) ** -0.75),
    "multistep": ("gamma: 0.2 stepvalue: 4 stepvalue: 9", lambda i: 0.5 * (1 if i < 4 else 0.2 if i < 9 else 0.04)),
    "poly": ("power: 0.9 max_iter: 40", lambda i: 0.5 * (1 - i / 40) ** 0.9),
    "multifixed": ("stagelr: 0.1 stagelr: 0.3 stageiter: 4 stageiter: 9", lambda i: 0.1 if i <= 4 else 0.3),
    "sigmoid": ("gamma: 0.3 stepsize: 12", lambda i: 0.5 / (1 + math.exp(-0.3 * (i - 12)))),
}


@pytest.mark.parametrize("policy", updates.POLICIES)
def test_policies_are_their_formulas(policy):
    settings, formula = POLICY[policy]
    p = solver_param(f'base_lr: 0.5 lr_policy: "{policy}" {settings}')
    updates.check_settings(p)
    for i in range(40):
        assert updates.rate(p, i) == pytest.approx(formula(i), rel=1e-5)  # the settings are float32


FORKS = {  # what forks put before and below a policy
    "warmup_iter: 10 warmup_start_lr: 0.1": lambda i, rate: (i * 0.5 + (10 - i) * 0.1) / 10 if i < 10 else rate,
    "rampup_interval: 10 rampup_lr: 0.1": lambda i, rate: 0.1 + 0.4 * (i / 10) ** 2 if i < 10 else rate,
    "rampup_interval: 10": lambda i, rate: 0.5 * (i / 10) ** 2 if i < 10 else rate,
    "min_lr: 0.2": lambda i, rate: max(0.2, rate),
    "rampup_interval: 10 min_lr: 0.2": lambda i, rate: max(0.2, 0.5 * (i / 10) ** 2 if i < 10 else rate),
}


@pytest.mark.parametrize("policy", ["step", "sigmoid", "exp"])
@pytest.mark.parametrize("more", FORKS)
def test_what_forks_put_around_a_policy(policy, more):
    settings, formula = POLICY[policy]
    p = solver_param(f'base_lr: 0.5 lr_policy: "{policy}" {settings} {more}')
    updates.check_settings(p)
    for i in range(40):
        assert updates.rate(p, i) == pytest.approx(FORKS[more](i, formula(i)), rel=1e-5, abs=1e-7)


def test_poly_ends_at_the_least_rate():
    p = solver_param('base_lr: 0.5 lr_policy: "poly" power: 2 max_iter: 40 min_lr: 0.1')
    for i in range(45):
        assert updates.rate(p, i) == pytest.approx(0.4 * (1 - min(i, 40) / 40) ** 2 + 0.1, rel=1e-5)


def test_steps_are_counted_from_the_end_of_the_warming_up():
    p = solver_param('base_lr: 1 lr_policy: "multistep" gamma: 0.1 stepvalue: 2 stepvalue: 3 stepvalue: 8 warmup_iter: 5')
    assert [updates.current_step(p, i) for i in range(10)] == [0, 0, 0, 0, 0, 1, 2, 2, 3, 3]  # Intel's counter, an iteration a step


@pytest.mark.parametrize("policy, clip", [("scale", False), ("clip", True)])
def test_larc_is_its_formula(policy, clip):
    p = param(f'larc: true larc_policy: "{policy}" larc_eta: 0.02 momentum: 0.8 weight_decay: 0.01')
    updates.check_settings(p)
    weights, grads, history = numbers(1), numbers(2), numbers(3)
    grads[2] = grads[2] * 0  # the norm of one is 0
    mults, rates = [2.0, 0.0, 1.0], [0.5 * 2, 0.0, 0.5]
    p.base_lr = 0.5
    given = [[torch.tensor(np.array(x)) for x in each] for each in (weights, grads, history)]
    updates.take_step(p, 3, *given, rates, [1.0, 1.0, 1.0])
    for i in range(3):
        w, g = np.linalg.norm(np.ravel(weights[i])), np.linalg.norm(np.ravel(grads[i]))
        ratio = (1 - p.momentum) * p.larc_eta * w / g if w and g else 1.0
        local = ratio if mults[i] > 0 else 0.0
        local = min(0.5, local) if clip else 0.5 * local
        step = p.momentum * np.asarray(history[i]) + local * (grads[i] + p.weight_decay * weights[i])
        np.testing.assert_allclose(given[0][i].numpy(), weights[i] - step, rtol=1e-12)


@pytest.mark.parametrize("text, words", [
    ('larc: true type: "Adam" momentum2: 0.9', "larc goes with solver type SGD"), ('larc: true larc_policy: "mean"', "'mean'"),
    ("larc_turbo: true", "larc_turbo would change numbers"), ("local_lr_auto: true", "local_lr_auto would change numbers"),
    ('lr_policy: "multifixed" stagelr: 1', "found 1 and 0"), ('lr_policy: "plateau" plateau_winsize: 3', "plateau")])
def test_what_of_forks_is_not_computed_is_refused(text, words):
    p = solver_param("base_lr: 1 max_iter: 100 " + (text if "lr_policy" in text else f'lr_policy: "fixed" {text}'))
    with pytest.raises(Error, match=words):
        updates.check_settings(p)


def test_policies_at_their_ends():
    poly = solver_param('base_lr: 1 lr_policy: "poly" power: 0.5 max_iter: 10')
    assert updates.rate(poly, 10) == 0 and updates.rate(poly, 11) == 0  # not complex
    steep = solver_param('base_lr: 1 lr_policy: "sigmoid" gamma: 1 stepsize: 100000')
    assert updates.rate(steep, 0) == 0 and updates.rate(steep, 200000) == 1  # no overflow


def test_multistep_takes_one_step_an_iteration_as_caffe_does():
    p = solver_param('base_lr: 1 lr_policy: "multistep" gamma: 0.1 stepvalue: 3 stepvalue: 3 stepvalue: 2 stepvalue: 9')
    assert [updates.current_step(p, i) for i in range(11)] == [0, 0, 0, 1, 2, 3, 3, 3, 3, 4, 4]
    p = solver_param('base_lr: 1 lr_policy: "step" gamma: 0.1 stepsize: 4')
    assert [updates.current_step(p, i) for i in (0, 3, 4, 11)] == [0, 0, 1, 2]
    assert updates.current_step(param(), 50) == 0


@pytest.mark.parametrize("kind, formula", [("L2", lambda g, w, d: g + d * w), ("L1", lambda g, w, d: g + d * np.sign(w))])
def test_decay(kind, formula):
    p = param(f'weight_decay: 0.01 regularization_type: "{kind}"')
    weights, grads = numbers(1), numbers(2)
    weights[0][0] = 0.0
    mults = [1.0, 0.0, 2.5]
    ours = [torch.from_numpy(np.array(g)) for g in grads]
    updates.decay(p, ours, [torch.from_numpy(np.array(w)) for w in weights], mults)
    for mine, g, w, mult in zip(ours, grads, weights, mults, strict=True):
        np.testing.assert_allclose(mine.numpy(), formula(g, w, p.weight_decay * mult), rtol=1e-12)


PASS = ["momentum: 0.9", "momentum: 0.9 iter_size: 4", "momentum: 0.5 clip_gradients: 0.5",
        "momentum: 0.9 iter_size: 2 clip_gradients: 9", "momentum: 0"]


@pytest.mark.parametrize("settings", PASS)
def test_one_pass_over_all_numbers_is_the_steps_one_by_one(settings):
    p = param(f'type: "SGD" weight_decay: 0.01 {settings}')
    shapes = [(70, 3, 5, 5), (70,), (), (9, 4, 1, 1), (33, 65)]
    rates, decays = [0.1, 0.2, 0.1, 0.0, 1e-9], [1, 0, 1, 1, 0.5]
    made = torch.Generator().manual_seed(0)
    start, slopes = ([torch.randn(s, generator=made) for s in shapes] for _ in range(2))
    start[0] = start[0].contiguous(memory_format=torch.channels_last)
    found = []
    for dtype in (torch.float32, torch.float64):  # float64 goes one by one
        params, history = [t.to(dtype, copy=True) for t in start], [torch.zeros_like(t, dtype=dtype) for t in start]
        for at in range(3):
            grads = [t.to(dtype) * (at + 1) for t in slopes]
            if at:  # the gradient lies as its parameter does
                grads[0] = grads[0].contiguous(memory_format=torch.channels_last)
            before = [t._version for t in params]
            steps, _ = updates.take_step(p, at, params, grads, history, rates, decays)
            assert all(t._version > v for t, v in zip(params, before, strict=True))
        found.append([*params, *history, *steps])
    for ours, whole in zip(*found, strict=True):
        torch.testing.assert_close(ours.double(), whole, rtol=1e-5, atol=1e-6)


def test_a_device_of_the_one_pass_gets_all_of_it_and_is_not_waited_for(monkeypatch):
    """`meta`, which has no numbers to wait for, stands for a GPU; torch's kernel wants one device and one order of each."""
    passes, meta = [], torch.device("meta")
    monkeypatch.setattr(torch, "_fused_sgd_", lambda *lists, grad_scale, **settings: passes.append((lists, grad_scale)))
    p = param('type: "SGD" momentum: 0.9 weight_decay: 0.01')

    def step(order):
        params, grads, history = ([torch.empty(s, device=meta) for s in [(4, 3, 5, 5), (4,)]] for _ in range(3))
        grads[0] = grads[0].contiguous(memory_format=order)
        updates.take_step(p, 0, params, grads, history, [0.1, 0.2], [1, 0])

    step(torch.contiguous_format)
    assert not passes
    monkeypatch.setattr(updates, "FUSED", ("meta",))
    step(torch.channels_last)
    assert not passes
    step(torch.contiguous_format)
    assert len(passes) == 2  # one for each rate
    for lists, scale in passes:
        assert (scale.device, scale.dtype, scale.numel()) == (meta, torch.float32, 1)
        assert [{t.device for t in tensors} for tensors in lists] == [{meta}] * 3


@pytest.mark.parametrize("rate", [0.0, 1.4e-45, -1.4e-45, 2.9e-39, 1e-37, 1e38, math.inf])
def test_no_rate_is_too_small_or_too_large_for_the_one_pass(rate):
    """A policy that halves the rate for long reaches the smallest number there is, whose reciprocal float32 does not hold."""
    p, found = param('type: "SGD" momentum: 0.9 weight_decay: 0.01'), []
    for fused in (True, False):
        params, grads, history = ([torch.tensor([3.0, -1e-3]) * k] for k in (1, 2, 3))
        updates.take_step(p, 0, params, grads, history, [rate], [1], fused)
        found.append([*params, *history])
    for ours, plain in zip(*found, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-6, atol=2e-45, equal_nan=True)


def test_without_weight_decay_nothing_is_added():
    grads = [torch.ones(3)]
    updates.decay(param(), grads, [torch.ones(3)], [1.0])
    assert torch.equal(grads[0], torch.ones(3))


def test_clip_scales_all_gradients_to_a_common_norm():
    grads = [torch.tensor([3.0, 0.0]), torch.tensor([[4.0]])]
    assert updates.clip(param("clip_gradients: 1"), grads) == pytest.approx(5)
    torch.testing.assert_close(grads[0], torch.tensor([0.6, 0.0]))
    torch.testing.assert_close(grads[1], torch.tensor([[0.8]]))
    for text in ("clip_gradients: 5.1", ""):  # below the bound; no bound
        grads = [torch.tensor([3.0, 0.0]), torch.tensor([[4.0]])]
        assert updates.clip(param(text), grads) is None and grads[0][0] == 3


@pytest.mark.parametrize("text, words", [
    ('type: "SDG"', "solver type 'SDG' is not known; did you mean 'SGD'?"),
    ('lr_policy: "stepp"', "lr_policy 'stepp' is not known; did you mean 'step'?"),
    ('lr_policy: ""', "use one of fixed, step, exp"),
    ('lr_policy: "step"', "lr_policy 'step' needs stepsize above 0, and there is none"),
    ('lr_policy: "sigmoid" gamma: 1 stepsize: -2', "needs stepsize above 0, found -2"),
    ('lr_policy: "poly" max_iter: 0', "needs max_iter above 0, found 0"),
    ('lr_policy: "exp" gamma: -1', "gamma must be at least 0, found -1"),
    ('type: "AdaGrad" momentum: 0.9', "takes no momentum, found 0.9"),
    ('type: "RMSProp" momentum: 0.9', "takes no momentum, found 0.9"),
    ('type: "RMSProp" rms_decay: 1', r"rms_decay must lie in \[0, 1\), found 1"),
    ('type: "Adam" momentum: 1', r"momentum must lie in \[0, 1\), found 1"),
    ("momentum: 2", r"momentum must lie in \[0, 1\), found 2"),
    ('type: "AdaDelta" momentum: -0.5', r"momentum must lie in \[0, 1\), found -0.5"),
    ("base_lr: nan", "base_lr must be a finite number, found nan"),
    ("base_lr: -1", "base_lr must be at least 0, found -1"),
    ("weight_decay: inf", "weight_decay must be a finite number, found inf"),
    ("weight_decay: -1", "weight_decay must be at least 0, found -1"),
    ("clip_gradients: nan", "clip_gradients must be a finite number, found nan"),
    ('type: "Adam" delta: -1', "delta must be at least 0, found -1"),
    ('regularization_type: "L3"', "must be L1 or L2, found 'L3'"),
    ("average_loss: 0", "average_loss must be at least 1, found 0"),
    ("test_iter: 3 test_iter: -1", "test_iter must be at least 0, found -1"),
    ("iter_size: 0", "iter_size must be at least 1, found 0"),
])
def test_settings_that_cannot_work_are_refused(text, words):
    p = param()
    p.MergeFrom(solver_param(text))
    with pytest.raises(Error, match=words):
        updates.check_settings(p)


@pytest.mark.parametrize("text", ['lr_policy: "exp" gamma: 1e38', 'lr_policy: "inv" gamma: 1 power: -1e38', 'lr_policy: "poly" power: -1'])
def test_a_rate_beyond_all_numbers_is_infinite_as_in_caffe(text):
    assert updates.rate(solver_param(f"base_lr: 1 max_iter: 9 {text}"), 9) == math.inf


@pytest.mark.parametrize("start", [0.1, 0.0])
def test_momentum_grows_with_the_rate_of_a_warm_up(start):
    p = solver_param(f'momentum: 0.9 base_lr: 0.5 lr_policy: "fixed" warmup_iter: 4 warmup_start_lr: {start}')
    weights, history = [torch.ones(3)], [torch.zeros(3)]
    w, v = 1.0, 0.0
    for i in range(7):
        rate, before = ((max(n, 0) * 0.5 + (4 - max(n, 0)) * start) / 4 if n < 4 else 0.5 for n in (i, i - 1))
        v = v * 0.9 * (rate / before if i < 4 and before else 1) + rate * (i + 1)
        w -= v
        updates.take_step(p, i, weights, [torch.full((3,), i + 1.0)], history, [updates.rate(p, i)], [0.0])
        np.testing.assert_allclose(weights[0].numpy(), w, rtol=1e-5)
