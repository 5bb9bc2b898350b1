"""Learning-rate policies and the six update rules, as formulas over lists of tensors.

Each rule takes the gradients (already clipped, divided by iter_size and decayed), the history of the rule and
one rate a parameter (the policy's rate times lr_mult). It changes the history, may use up the gradients, and
returns what is to be subtracted from the parameters. The rate is inside the history, as in Caffe, so a change
of the rate reaches the momentum only as new gradients come in.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from ..base.errors import Error, closest
from ..proto.caffe_pb2 import SolverParameter
from ..proto.unread import refuse as refuse_unread

Tensors = tuple[Tensor, ...] | list[Tensor]
Rates = Sequence[float]
FUSED = "cpu", "cuda"  # devices for which torch has the pass of `_fused`
LARGEST = torch.finfo(torch.float32).max

# lr_policy -> the rate at an iteration
POLICIES: dict[str, Callable[[SolverParameter, int], float]] = {
    "fixed": lambda p, iteration: p.base_lr,
    "step": lambda p, iteration: p.base_lr * p.gamma ** current_step(p, iteration),
    "exp": lambda p, iteration: p.base_lr * p.gamma**iteration,
    "inv": lambda p, iteration: p.base_lr * (1 + p.gamma * iteration) ** -p.power,
    "multistep": lambda p, iteration: p.base_lr * p.gamma ** current_step(p, iteration),
    "poly": lambda p, iteration: (
        (p.base_lr - p.min_lr) * max(0.0, 1 - iteration / p.max_iter) ** p.power + p.min_lr),
    # 1 / (1 + exp(-x)), which overflows, as a tanh
    "sigmoid": lambda p, iteration: p.base_lr * (1 + math.tanh(p.gamma * (iteration - p.stepsize) / 2)) / 2,
    # YOLO's: that of the first stage which has not ended
    "multifixed": lambda p, iteration: next(
        (rate for rate, end in zip(p.stagelr, p.stageiter, strict=True) if iteration <= end), p.stagelr[-1]),
}


def rate(p: SolverParameter, iteration: int) -> float:
    """The learning rate of a SolverParameter at an iteration (SGDSolver::GetLearningRate).

    Before warmup_iter (Intel's) it rises in a line from warmup_start_lr to base_lr; before rampup_interval
    (NVIDIA's) with the square of the iteration, from rampup_lr. It is at least min_lr (NVIDIA's).
    """
    if p.lr_policy not in POLICIES:
        raise Error(f"lr_policy '{p.lr_policy}' is not known{closest(p.lr_policy, POLICIES)}")
    try:
        if iteration < p.warmup_iter:
            return p.warmup_start_lr + (p.base_lr - p.warmup_start_lr) * iteration / p.warmup_iter
        if iteration < p.rampup_interval:
            share = iteration / p.rampup_interval
            return max(p.rampup_lr + (p.base_lr - p.rampup_lr) * share**2, p.min_lr)
        return max(POLICIES[p.lr_policy](p, iteration), p.min_lr)
    except (OverflowError, ZeroDivisionError):  # where C's pow gives infinity
        return math.inf


def current_step(p: SolverParameter, iteration: int) -> int:
    """How often the rate of a policy with steps was multiplied by gamma; 0 for other policies."""
    if p.lr_policy == "step":
        return iteration // p.stepsize
    step, reached = 0, max(p.warmup_iter, p.rampup_interval) - 1  # before which none is counted
    for value in p.stepvalue if p.lr_policy == "multistep" else ():
        reached = max(value, reached + 1)  # Caffe takes one step an iteration, in the order given
        step += iteration >= reached
    return step


def sgd(p: SolverParameter, iteration: int, grads: Tensors, history: Tensors, rates: Rates) -> Tensors:
    """V <- momentum V + rate g;  W <- W - V.

    Before warmup_iter momentum is multiplied by rate / the rate before it, as in Intel's ComputeUpdateValue;
    not where that is 0, which Intel divides by.
    """
    momentum, warms = p.momentum, p.type == "SGD" and iteration < p.warmup_iter
    if warms and (before := rate(p, max(iteration - 1, 0))):
        momentum *= rate(p, iteration) / before
    torch._foreach_mul_(history, momentum)
    torch._foreach_add_(history, _scaled(grads, rates))
    return history


def nesterov(p: SolverParameter, iteration: int, grads: Tensors, history: Tensors, rates: Rates) -> Tensors:
    """V' <- momentum V + rate g;  W <- W - ((1 + momentum) V' - momentum V)."""
    old = torch._foreach_mul(history, p.momentum)
    sgd(p, iteration, grads, history, rates)
    step = torch._foreach_mul(history, 1 + p.momentum)
    torch._foreach_sub_(step, old)
    return step


def adagrad(p: SolverParameter, iteration: int, grads: Tensors, history: Tensors, rates: Rates) -> Tensors:
    """H <- H + g^2;  W <- W - rate g / (sqrt(H) + delta)."""
    torch._foreach_addcmul_(history, grads, grads)
    return _scaled(_over_root(grads, history, p.delta), rates)


def rmsprop(p: SolverParameter, iteration: int, grads: Tensors, history: Tensors, rates: Rates) -> Tensors:
    """H <- d H + (1 - d) g^2;  W <- W - rate g / (sqrt(H) + delta), with d = rms_decay."""
    torch._foreach_mul_(history, p.rms_decay)
    torch._foreach_addcmul_(history, grads, grads, 1 - p.rms_decay)
    return _scaled(_over_root(grads, history, p.delta), rates)


def adadelta(p: SolverParameter, iteration: int, grads: Tensors, history: Tensors, rates: Rates) -> Tensors:
    """H <- m H + (1 - m) g^2;  u = g sqrt((U + d) / (H + d));  U <- m U + (1 - m) u^2;  W <- W - rate u.

    m = momentum, d = delta.
    """
    squares, steps = history[: len(grads)], history[len(grads) :]
    torch._foreach_mul_(squares, p.momentum)
    torch._foreach_addcmul_(squares, grads, grads, 1 - p.momentum)
    ratio = torch._foreach_div(torch._foreach_add(steps, p.delta), torch._foreach_add(squares, p.delta))
    step = torch._foreach_mul(grads, torch._foreach_sqrt(ratio))
    torch._foreach_mul_(steps, p.momentum)
    torch._foreach_addcmul_(steps, step, step, 1 - p.momentum)
    return _scaled(step, rates)


def adam(p: SolverParameter, iteration: int, grads: Tensors, history: Tensors, rates: Rates) -> Tensors:
    """m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2;  W <- W - rate c m / (sqrt(v) + delta).

    b1 = momentum, b2 = momentum2, c = sqrt(1 - b2^t) / (1 - b1^t), t = iteration + 1.
    """
    means, squares = history[: len(grads)], history[len(grads) :]
    torch._foreach_mul_(means, p.momentum)
    torch._foreach_add_(means, grads, alpha=1 - p.momentum)
    torch._foreach_mul_(squares, p.momentum2)
    torch._foreach_addcmul_(squares, grads, grads, 1 - p.momentum2)
    t = iteration + 1
    correction = math.sqrt(1 - p.momentum2**t) / (1 - p.momentum**t)
    step = _over_root(means, squares, p.delta)
    return _scaled(step, [correction * r for r in rates])


def larc(p: SolverParameter, iteration: int, grads: Tensors, params: Tensors, rates: Rates) -> list[float]:
    """The rates of NVIDIA's larc for parameters that learn: (1 - momentum) larc_eta |W| / |g| (1 if a norm is
    0) times the policy's rate, or with larc_policy "clip" at most that. g: before decay, as on its GPU."""
    policy, own = rate(p, iteration), []
    norms = zip(torch._foreach_norm(params), torch._foreach_norm(grads), rates, strict=True)
    for w, g, mine in norms:
        ratio = (1 - p.momentum) * p.larc_eta * w.item() / g.item() if w > 0 and g > 0 else 1.0
        found = min(policy, ratio) if p.larc_policy == "clip" else policy * ratio
        own.append(found if mine > 0 else mine)
    return own


RULES: dict[str, tuple[Callable[..., Tensors], int]] = {  # rule, blobs of history for each parameter
    "SGD": (sgd, 1),
    "Nesterov": (nesterov, 1),
    "AdaGrad": (adagrad, 1),
    "RMSProp": (rmsprop, 1),
    "AdaDelta": (adadelta, 2),
    "Adam": (adam, 2),
}


def take_step(p: SolverParameter, iteration: int, params: Tensors, grads: Tensors, history: Tensors,
              rates: Rates, decays: Rates, fused: bool = True) -> tuple[Tensors, Tensor | None]:
    """Change parameters by their gradients, which are used up: clip, divide by iter_size, decay, update.

    rates, decays: of each parameter the rate, lr_mult counted in, and decay_mult. fused: in one pass over all
    numbers, where torch has one. Returns what was subtracted from each, and the gradients' common norm as
    `clip` does.
    """
    rule, _ = RULES[p.type]
    with torch.no_grad():
        norm = clip(p, grads)
        warms = iteration < p.warmup_iter
        plain = rule is sgd and not (p.larc or warms) and p.momentum and p.regularization_type == "L2"
        held = all(p.iter_size / abs(rate) <= LARGEST for rate in rates if rate)  # what `_fused` divides by
        if fused and plain and held and _alike(params, grads, history):
            return _fused(p, params, grads, history, rates, decays), norm
        if p.iter_size > 1:
            torch._foreach_div_(grads, p.iter_size)
        if p.larc:
            rates = larc(p, iteration, grads, params, rates)
        decay(p, grads, params, decays)
        steps = rule(p, iteration, grads, history, rates)
        torch._foreach_sub_(params, steps)
    return steps, norm


def _fused(p: SolverParameter, params: Tensors, grads: Tensors, history: Tensors, rates: Rates,
           decays: Rates) -> Tensors:
    """What `sgd` and the steps around it do, in one pass over all numbers; equal but for rounding.

    torch's rule has the rate outside the history: here its rate is 1, and Caffe's is in gradient and decay.
    """
    pairs = list(zip(rates, decays, strict=True))
    for rate, mult in dict.fromkeys(pairs):
        chosen = [i for i, pair in enumerate(pairs) if pair == (rate, mult)]
        over = p.iter_size / rate if rate else math.inf
        scale = torch.full((), over, dtype=torch.float32, device=params[0].device)
        lists = [[tensors[i] for i in chosen] for tensors in (params, grads, history)]
        torch._fused_sgd_(*lists, weight_decay=p.weight_decay * mult * rate, momentum=p.momentum, lr=1.0,
                          dampening=0.0, nesterov=False, maximize=False, is_first_step=False,
                          grad_scale=scale)
    for tensor in (*params, *history):
        increment_version(tensor)  # torch's rule does not; who keeps what follows from weights looks at it
    return history


def _alike(*lists: Tensors) -> bool:
    """Whether all tensors lie in the memory of one of FUSED, and those of each number without gaps and in the
    same order."""
    kinds = {(t.device, t.dtype) for tensors in lists for t in tensors}
    if len(kinds) != 1 or any(device.type not in FUSED or dtype != torch.float32 for device, dtype in kinds):
        return False
    orders = torch.contiguous_format, torch.channels_last
    return all(any(all(t.is_contiguous(memory_format=order) for t in together)
                   for order in orders[: 2 if together[0].ndim == 4 else 1])
               for together in zip(*lists, strict=True))


def check_settings(p: SolverParameter) -> None:
    """Refuse a SolverParameter whose settings its rule or policy cannot use (some are Caffe's own checks)."""
    def refuse(wrong: bool, what: str, field: str) -> None:
        if wrong:
            value = getattr(p, field)
            raise Error(f"{what}, found {value:g}" if p.HasField(field) else f"{what}, and there is none")

    for field, value in p.ListFields():
        if field.cpp_type == field.CPPTYPE_FLOAT and isinstance(value, float):
            refuse(not math.isfinite(value), f"{field.name} must be a finite number", field.name)
    for name in ("base_lr", "weight_decay", "gamma", "delta"):
        refuse(getattr(p, name) < 0, f"{name} must be at least 0", name)
    policy, rule = p.lr_policy, p.type
    if rule not in RULES:
        raise Error(f"solver type '{rule}' is not known{closest(rule, RULES)}")
    if policy not in POLICIES:
        hint = closest(policy, POLICIES) or f"; use one of {', '.join(POLICIES)}"
        raise Error(f"lr_policy '{policy}' is not known{hint}")
    _check_forks(p)
    steps = policy in ("step", "sigmoid")
    refuse(steps and p.stepsize <= 0, f"lr_policy '{policy}' needs stepsize above 0", "stepsize")
    refuse(policy == "poly" and p.max_iter <= 0, "lr_policy 'poly' needs max_iter above 0", "max_iter")
    if min(p.test_iter, default=0) < 0:
        raise Error(f"test_iter must be at least 0, found {min(p.test_iter)}")
    refuse(p.average_loss < 1, "average_loss must be at least 1", "average_loss")
    refuse(p.iter_size < 1, "iter_size must be at least 1", "iter_size")
    bare = rule in ("AdaGrad", "RMSProp")
    refuse(bare and p.momentum != 0, f"solver type {rule} takes no momentum", "momentum")
    refuse(not 0 <= p.momentum < 1, "momentum must lie in [0, 1)", "momentum")
    refuse(rule == "Adam" and not 0 <= p.momentum2 < 1, "momentum2 must lie in [0, 1)", "momentum2")
    refuse(rule == "RMSProp" and not 0 <= p.rms_decay < 1, "rms_decay must lie in [0, 1)", "rms_decay")
    if p.regularization_type not in ("L1", "L2"):
        raise Error(f"regularization_type must be L1 or L2, found '{p.regularization_type}'")


def _check_forks(p: SolverParameter) -> None:
    refuse_unread(p, "the solver: ")
    rates = [*p.stagelr] if p.lr_policy == "multifixed" else [0.0]
    if not (rates and all(map(math.isfinite, rates))) or len(p.stagelr) != len(p.stageiter):
        raise Error("lr_policy 'multifixed' needs a finite stagelr for each stageiter, at least one, found "
                    f"{len(p.stagelr)} and {len(p.stageiter)}")
    if p.larc and (p.type != "SGD" or p.larc_policy not in ("scale", "clip")):
        raise Error(f"larc goes with solver type SGD and larc_policy scale or clip, found {p.type} and "
                    f"'{p.larc_policy}'")


def decay(p: SolverParameter, grads: Tensors, params: Tensors, mults: Rates) -> None:
    """g <- g + weight_decay decay_mult W (L2), or ... sign(W) (L1), in place."""
    rates = [p.weight_decay * mult for mult in mults]
    used = [i for i, r in enumerate(rates) if r]
    if used:
        source: Tensors = [params[i] for i in used]
        if p.regularization_type == "L1":
            source = torch._foreach_sign(source)
        torch._foreach_add_([grads[i] for i in used], torch._foreach_mul(source, [rates[i] for i in used]))


def clip(p: SolverParameter, grads: Tensors) -> Tensor | None:
    """Scale all gradients so that their common L2 norm is at most clip_gradients.

    Returns what the norm was, on the gradients' device, where it may have been more: on the CPU it was.
    """
    if p.clip_gradients < 0 or not grads:
        return None
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads)))
    if norm.device.type == "cpu" and norm <= p.clip_gradients:  # elsewhere nobody waits to ask
        return None
    torch._foreach_mul_(grads, (p.clip_gradients / norm).clamp(max=1))
    return norm


def _scaled(tensors: Tensors, rates: Rates) -> Tensors:
    torch._foreach_mul_(tensors, list(rates))
    return tensors


def _over_root(numerators: Tensors, squares: Tensors, delta: float) -> Tensors:
    roots = torch._foreach_sqrt(squares)
    torch._foreach_add_(roots, delta)
    return torch._foreach_div(numerators, roots)
